//! docs/runbook.md, run from its first block to its last. Its links lead somewhere, and so do those of the alerts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use acceptance::daemon::{binary, workspace};
use acceptance::page;
use acceptance::world::World;

/// Starts the daemon and waits until it answers, as `systemctl start` does.
const START: &str = r#"#!/bin/bash
"$DAEMON" --config "$CRATON_HSM_CONFIG" >> daemon.log 2>&1 &
echo $! > daemon.pid
for _ in $(seq 600); do "$ADMIN" status > /dev/null 2>&1 && exit 0; sleep 0.1; done
cat daemon.log; exit 1
"#;
const STOP: &str = r#"#!/bin/bash
pid=$(cat daemon.pid); rm daemon.pid; kill "$pid"
for _ in $(seq 600); do kill -0 "$pid" 2> /dev/null || exit 0; sleep 0.1; done
exit 1
"#;

fn script(world: &World, name: &str, text: &str) -> PathBuf {
    let path = world.dir().join(name);
    fs::write(&path, text).expect("our own directory");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("our own file");
    path
}

#[test]
fn every_command_does_what_the_runbook_says() {
    if !page::all_available("runbook::every_command_does_what_the_runbook_says", &["pkcs11-tool"]) {
        return;
    }
    let mut world = World::start();
    world.pkcs11_tool_login(["--keypairgen", "--key-type", "EC:prime256v1", "--label", "kept"]).ok();
    world.stop_daemon();
    let (start, stop) = (script(&world, "start", START), script(&world, "stop", STOP));
    let bin = script(
        &world,
        "craton-hsm-admin",
        &format!("#!/bin/sh\nexec {} \"$@\"\n", binary("craton-hsm-admin").display()),
    );
    script(&world, "craton-hsm-daemon", &format!("#!/bin/sh\nexec {} \"$@\"\n", binary("craton-hsm-daemon").display()));
    let path = format!("{}:{}", world.dir().display(), std::env::var("PATH").unwrap_or_default());
    let text = page::document("runbook.md").replacen("```sh\n", &format!("```sh\nexport PATH={path}\n$START\n"), 1);
    let (daemon, admin) = (binary("craton-hsm-daemon"), bin);
    let variables: [(&str, &Path); 4] = [("START", &start), ("STOP", &stop), ("DAEMON", &daemon), ("ADMIN", &admin)];
    page::run_text(&world, "runbook.md", &text, &variables);
}

/// Headings as the anchors that links name.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter_map(|line| line.strip_prefix("## "));
    headings.map(|heading| heading.to_lowercase().replace(' ', "-")).collect()
}

#[test]
fn links_lead_to_headings() {
    let runbook = page::document("runbook.md");
    let anchors = anchors(&runbook);
    let rules = fs::read_to_string(workspace().join("packaging/prometheus/craton-hsm.rules.yml")).expect("the rules");
    let links = runbook.split("](#").skip(1).filter_map(|rest| rest.split(')').next());
    let alerts = rules.split("docs/runbook.md#").skip(1).filter_map(|rest| rest.split('"').next());
    let all: Vec<&str> = links.chain(alerts).collect();
    assert!(all.len() > 10, "{all:?}");
    for link in all {
        assert!(anchors.iter().any(|anchor| anchor == link), "no heading for #{link} among {anchors:?}");
    }
}
