//! The systemd units: how far a service that was taken over is from the rest of the machine, judged by systemd itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use acceptance::tools::{available, run};

fn units(extension: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    let entries = fs::read_dir(folder).expect("the units are in the repository").filter_map(Result::ok);
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    found.retain(|path| path.extension().is_some_and(|found| found == extension));
    found.sort();
    found
}

#[test]
fn every_service_is_confined() {
    if !available("units::every_service_is_confined", "systemd-analyze") {
        return;
    }
    let services = units("service");
    assert!(services.len() >= 4, "{services:?}");
    for service in services {
        // The threshold is in tenths.
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=true", "--no-pager", "--threshold=20"]).arg(&service);
        run(&mut command).ok();
    }
}

#[test]
fn every_timer_has_its_service_and_a_time_that_systemd_understands() {
    if !available("units::every_timer_has_its_service", "systemd-analyze") {
        return;
    }
    for timer in units("timer") {
        assert!(timer.with_extension("service").exists(), "{}", timer.display());
        let text = fs::read_to_string(&timer).expect("a unit");
        let (word, time) = text
            .lines()
            .find_map(|line| {
                let (name, time) = line.split_once('=')?;
                Some((["OnCalendar", "OnUnitActiveSec"].iter().position(|known| *known == name)?, time))
            })
            .expect("a time");
        run(Command::new("systemd-analyze").args([["calendar", "timespan"][word], time])).ok();
    }
}
