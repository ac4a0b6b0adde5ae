//! The doctor: each finding is provoked by what it warns of, and a token that is kept as advised has no finding that asks for work.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use acceptance::certificates;
use acceptance::daemon::{binary, workspace};
use acceptance::tools::run;
use acceptance::world::World;

/// What the doctor found: its exit status, and per finding the rule and the severity.
fn findings(world: &World, more: &[&str]) -> (i32, BTreeSet<(String, String)>) {
    let said = world.admin([&["--json", "doctor"], more].concat());
    let diagnosis: serde_json::Value =
        serde_json::from_slice(&said.stdout).unwrap_or_else(|why| panic!("{said}\nis not JSON: {why}"));
    let text = |value: &serde_json::Value| value.as_str().expect("a word").to_owned();
    let list = diagnosis["findings"].as_array().expect("a list");
    for finding in list {
        assert!(!text(&finding["remedy"]).is_empty() && !text(&finding["sentence"]).is_empty(), "{finding}");
    }
    let found = list.iter().map(|finding| (text(&finding["rule"]), text(&finding["severity"]))).collect();
    (said.status.code().expect("it ended by itself"), found)
}

fn has(found: &BTreeSet<(String, String)>, rule: &str, severity: &str) -> bool {
    found.contains(&(rule.to_owned(), severity.to_owned()))
}

#[test]
fn each_setting_that_is_advised_against_is_found() {
    const ROWS: [(&str, &str, &str); 12] = [
        ("", "journal-alone", "note"),
        ("[policy]\nprofile = \"compat\"\ncbc_unwrap = true", "policy-open", "warning"),
        ("[algorithms]\nallow_sha1_signing = true", "weak-algorithms", "warning"),
        ("", "pin-rounds", "warning"), // the tests' own configuration has few
        ("", "daemon-away", "critical"),
        ("", "backup-none", "warning"),
        ("", "no-monitor", "note"),
        ("", "journal-delayed", "note"),
        ("[hardening]\nseccomp = \"log\"", "hardening-off", "warning"),
        ("bind = \"127.0.0.1:0\"\nallow_insecure = true", "tls-open", "critical"),
        ("socket_group = \"0\"", "socket-group", "note"),
        ("bind = \"0.0.0.0:5696\"\ntls_cert = \"c\"\ntls_key = \"k\"\ntls_client_ca = \"a\"", "tls-no-crl", "warning"),
    ];
    for (more, rule, severity) in ROWS {
        let world = World::unstarted();
        world.configure(more);
        fs::create_dir(world.store()).expect("our own directory");
        fs::set_permissions(world.store(), Permissions::from_mode(0o700)).expect("our own directory");
        fs::write(world.store().join("store.key"), b"").expect("our own directory");
        let (_, found) = findings(&world, &[]);
        assert!(has(&found, rule, severity), "{more}: {rule} is not among {found:?}");
    }
}

#[test]
fn what_is_wrong_with_files_and_tokens_is_found() {
    if !acceptance::tools::available("doctor::what_is_wrong_with_files_and_tokens_is_found", "pkcs11-tool") {
        return;
    }
    let mut world = World::blank();
    assert!(has(&findings(&world, &[]).1, "slot-open", "warning"));
    world.init_token();
    world.admin(["pin", "change", "--pin", "wrong-pin-1", "--new-pin", "other-pin-1"]).refused();
    let shelf = world.dir().join("shelf");
    fs::create_dir(&shelf).expect("our own directory");
    let shelf = shelf.to_str().expect("temporary paths are UTF-8").to_owned();
    let (status, found) = findings(&world, &["--backups", &shelf]);
    assert_eq!(status, 2, "a token without a backup is critical");
    assert!(has(&found, "backup-none", "critical") && has(&found, "pin-guessed", "warning"), "{found:?}");
    assert!(!found.iter().any(|(rule, _)| rule == "slot-open" || rule == "daemon-away"), "{found:?}");

    world.admin(["backup", "--pin", "env:SO_PIN", "--output", &format!("{shelf}/a.backup")]).ok();
    let (status, found) = findings(&world, &["--backups", &shelf]);
    assert_eq!(status, 1, "{found:?}");
    assert!(has(&found, "drill-old", "warning") && has(&found, "backup-same-disk", "note"), "{found:?}");
    assert!(has(&found, "backup-bare", "note") && !found.iter().any(|(rule, _)| rule == "config-newer"), "{found:?}");
    assert!(has(&found, "backup-few", "note") && !found.iter().any(|(rule, _)| rule == "backup-behind"), "{found:?}");
    // What was made since, and what opens archives.
    world.admin(["backup", "keygen", "--output", &format!("{shelf}/opener")]).ok();
    let socket = world.socket();
    let mode = |mode| fs::set_permissions(&socket, Permissions::from_mode(mode)).expect("our own file");
    mode(0o666);
    world.pkcs11_tool_login(["--keypairgen", "--key-type", "EC:prime256v1", "--label", "since"]).ok();
    let (_, found) = findings(&world, &["--backups", &shelf]);
    for (rule, severity) in [("backup-behind", "note"), ("backup-opener", "warning"), ("socket-open", "warning")] {
        assert!(has(&found, rule, severity), "{rule}: {found:?}");
    }
    mode(0o600);
    fs::write(format!("{shelf}/so-pin.txt"), "87654321\n").expect("our own directory");
    let (_, found) = findings(&world, &["--backups", &shelf]);
    assert!(has(&found, "backup-pin", "warning") && has(&found, "backup-deletable", "note"), "{found:?}");
    fs::remove_file(format!("{shelf}/so-pin.txt")).expect("our own file");
    // A bundle has more beside it, and its manifest is no report of a drill.
    world.admin(["backup", "--pin", "env:SO_PIN", "--output", &format!("{shelf}/b.backup"), "--bundle"]).ok();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
    fs::File::options()
        .write(true)
        .open(world.config())
        .and_then(|file| file.set_modified(later))
        .expect("our own file");
    let (_, found) = findings(&world, &["--backups", &shelf]);
    assert!(has(&found, "drill-old", "warning") && has(&found, "config-newer", "note"), "{found:?}");
    assert!(!found.iter().any(|(rule, _)| rule == "backup-bare"), "{found:?}");
    fs::write(format!("{shelf}/report.json"), "{\"passed\": false}").expect("our own directory");
    let (status, found) = findings(&world, &["--backups", &shelf]);
    assert!(status == 2 && has(&found, "drill-failed", "critical"), "{found:?}");
    fs::remove_file(format!("{shelf}/report.json")).expect("our own file");
    fs::set_permissions(format!("{shelf}/a.backup"), Permissions::from_mode(0o644)).expect("our own file");
    fs::set_permissions(world.store(), Permissions::from_mode(0o755)).expect("our own directory");
    let (_, found) = findings(&world, &["--backups", &shelf]);
    assert!(has(&found, "backup-exposed", "warning") && has(&found, "file-modes", "critical"), "{found:?}");
    world.stop_daemon();
    assert!(has(&findings(&world, &[]).1, "daemon-away", "critical"));
}

/// Programs of the machine, played by scripts: what systemd and the clock say is asked of those that are found first.
#[test]
fn what_the_machine_says_of_units_and_clock_is_found() {
    const SAYINGS: [(&str, &str); 2] = [
        (
            "systemctl",
            "Id=craton-backup.timer\nLoadState=loaded\nActiveState=inactive\nResult=success\n\n\
             Id=craton-drill.service\nLoadState=loaded\nActiveState=failed\nResult=exit-code\n",
        ),
        ("timedatectl", "NTPSynchronized=no\n"),
    ];
    let world = World::unstarted();
    world.configure("");
    let programs = world.dir().join("programs");
    fs::create_dir(&programs).expect("our own directory");
    for (name, says) in SAYINGS {
        fs::write(programs.join(name), format!("#!/bin/sh\ncat <<'END'\n{says}END\n")).expect("our own directory");
        fs::set_permissions(programs.join(name), Permissions::from_mode(0o700)).expect("our own file");
    }
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = world.command(binary("craton-hsm-admin"));
    command.env("PATH", path).arg("--config").arg(world.config()).args(["--json", "doctor"]);
    let said = run(&mut command);
    let diagnosis: serde_json::Value = serde_json::from_slice(&said.stdout).expect("a diagnosis");
    let list = diagnosis["findings"].as_array().expect("a list");
    for (rule, severity, words) in [
        ("timer-off", "warning", "craton-backup.timer is inactive"),
        ("unit-failed", "critical", "craton-drill.service failed (exit-code)"),
        ("clock", "warning", "not synchronised"),
    ] {
        let is_it = |finding: &serde_json::Value| {
            finding["rule"] == rule
                && finding["severity"] == severity
                && finding["sentence"].as_str().is_some_and(|sentence| sentence.contains(words))
        };
        assert!(list.iter().any(is_it), "{rule}: {said}");
    }
}

#[test]
fn a_certificate_that_ends_soon_is_found() {
    let world = World::unstarted();
    // They are made for two days.
    certificates::make(world.dir(), &["ca", "server"]);
    world.configure(
        "bind = \"127.0.0.1:0\"\ntls_cert = \"server.pem\"\ntls_key = \"server.key\"\ntls_client_ca = \"ca.pem\"",
    );
    let (status, found) = findings(&world, &[]);
    assert!(status == 2 && has(&found, "tls-expiry", "critical"), "{found:?}");
}

#[test]
fn a_token_that_is_kept_as_advised_needs_no_work() {
    let mut world = World::unstarted();
    let advised = world.standard_config().replace("pbkdf2_iterations = 100000", "pbkdf2_iterations = 600000");
    world.write_config(&format!("{advised}[metrics]\nbind = \"127.0.0.1:0\"\n"));
    world.start_daemon();
    world.init_token();
    let shelf = world.dir().join("shelf");
    fs::create_dir(&shelf).expect("our own directory");
    let shelf = shelf.to_str().expect("temporary paths are UTF-8").to_owned();
    let archive = format!("{shelf}/a.backup");
    world.admin(["backup", "--pin", "env:SO_PIN", "--output", &archive]).ok();
    let report = format!("{shelf}/drill.json");
    world.pkcs11_tool_login(["--keypairgen", "--key-type", "EC:prime256v1", "--label", "one"]);
    world.admin(["drill", "--pin", "env:SO_PIN", "--input", &archive, "--report", &report]);
    fs::write(&report, b"{}").expect("our own directory");
    let (status, found) = findings(&world, &["--backups", &shelf]);
    let is_root = rustix::process::geteuid().is_root();
    let work: Vec<_> = found
        .iter()
        // What is the machine's, and not the token's.
        .filter(|(rule, _)| {
            !["disk-full", "clock", "limit-memory", "unit-failed", "timer-off"].contains(&rule.as_str())
        })
        .filter(|(rule, severity)| severity != "note" && !(is_root && rule == "daemon-root"))
        .collect();
    assert!(work.is_empty(), "{work:?}");
    assert!(status <= 2, "{found:?}");
}

#[test]
fn every_rule_is_explained_to_operators() {
    let source = fs::read_to_string(workspace().join("admin-cli/src/command/doctor/rules.rs")).expect("the rules");
    let page = fs::read_to_string(workspace().join("docs/operations.md")).expect("the page of operators");
    let names: Vec<&str> = source.split("Rule { name: \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(names.len() > 25, "{names:?}");
    for name in names {
        assert!(page.contains(&format!("| `{name}` |")), "docs/operations.md does not explain {name}");
    }
}
