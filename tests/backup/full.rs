//! A disk that is full while a backup is written, or while one is restored: a clear refusal, nothing half done under a name that counts,
//! and the store that was there is there.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use acceptance::daemon::binary;
use acceptance::faults::{Calls, Errno, Faults};
use acceptance::tools::{Finished, available, run};
use acceptance::world::World;

use crate::drill::backed_up;

/// The admin tool on a disk that may be full.
fn admin(world: &World, faults: &Faults, line: &[&str]) -> Finished {
    let mut command = world.command(binary("craton-hsm-admin"));
    command.arg("--config").arg(world.config()).args(line).envs(faults.environment()).stdin(Stdio::null());
    run(&mut command)
}

/// Lets the disk be full after 0, 1, 3, 7, 15 ... writes to paths that hold `part`, until `attempt` succeeds; gives how often it was refused.
fn until_it_fits(faults: &Faults, part: &str, mut attempt: impl FnMut(&str) -> bool) -> usize {
    for turn in 0..24 {
        let before = faults.failed();
        let spare = (1 << turn) - 1;
        faults.fail(Calls::Write, Errno::FullDisk, part, spare);
        let succeeded = attempt(&format!("after {spare} writes"));
        faults.heal();
        if faults.failed() == before {
            assert!(succeeded, "it failed on a disk that was not full");
            return turn;
        }
        assert!(!succeeded, "after {spare} writes: it succeeded although a write failed");
    }
    panic!("there is no end of writes to {part}");
}

#[test]
fn a_full_disk_leaves_no_half_archive_and_no_half_store() {
    const NAME: &str = "full::a_full_disk_leaves_no_half_archive_and_no_half_store";
    if !available(NAME, "pkcs11-tool") {
        return;
    }
    let (mut world, _file) = backed_up();
    let Some(faults) = Faults::prepare(NAME, world.dir()) else { return };
    let archive = world.dir().join("late.backup");
    let refused = until_it_fits(&faults, "late.backup", |when| {
        let said = admin(&world, &faults, &["backup", "--pin", "env:SO_PIN", "--output", "late.backup"]);
        if !said.status.success() {
            said.refused().says("No space left");
            assert!(!archive.exists(), "{when}: half an archive has the name of a whole one");
        }
        archive.exists()
    });
    assert!(refused > 0, "the disk was never full");
    world.admin(["backup", "verify", "late.backup", "--pin", "env:SO_PIN"]).ok();

    // Into an empty place.
    let elsewhere = World::unstarted();
    let input = archive.to_str().expect("UTF-8");
    let restored = |world: &World| world.store().join("vault.redb").exists();
    let refused = until_it_fits(&faults, "/store/", |when| {
        let said = admin(&elsewhere, &faults, &["restore", "--pin", "env:SO_PIN", "--input", input]);
        if !said.status.success() {
            said.refused().says("space left");
            assert!(!restored(&elsewhere), "{when}: half a store has the name of a whole one");
        }
        restored(&elsewhere)
    });
    assert!(refused > 3, "{refused} refusals");

    // Over a store that is there: it goes on as it was.
    world.pkcs11_tool_login(["--keypairgen", "--key-type", "EC:prime256v1", "--id", "05", "--label", "resident"]).ok();
    world.stop_daemon();
    let over =
        ["restore", "--pin", "env:SO_PIN", "--input", input, "--force", "--accept-rollback", "--reason", "rehearsal"];
    for spare in [0, 5, 20] {
        faults.fail(Calls::Write, Errno::FullDisk, "/store.restoring/", spare);
        admin(&world, &faults, &over).refused().says("space left");
        faults.heal();
        assert!(kept_beside(world.dir()).is_empty(), "the store was moved aside");
        world.start_daemon();
        world.pkcs11_tool_login(["-O"]).ok().says("resident");
        world.stop_daemon();
    }
    admin(&world, &faults, &over).ok();
    assert_eq!(kept_beside(world.dir()).len(), 1);
}

/// Stores that a restore has put aside.
fn kept_beside(folder: &Path) -> Vec<String> {
    let names =
        fs::read_dir(folder).expect("our own directory").filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.contains(".pre-restore-")).collect()
}
