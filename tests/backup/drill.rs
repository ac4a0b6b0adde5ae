//! The drill: the documented procedure from end to end. The seeds' runbook names the same commands.

use std::fs;
use std::path::PathBuf;

use acceptance::module::{Token, ml_dsa, token_object};
use acceptance::module_test;
use acceptance::tools::available;
use acceptance::world::World;
use cryptoki::object::MlDsaParameterSetType;

/// A deterministic signature (PKCS#1 v1.5): the restored key is the same key if it makes the same bytes.
fn signature(world: &World, name: &str) -> Vec<u8> {
    let (data, out) = (world.dir().join("data"), world.dir().join(name));
    fs::write(&data, b"the same before and after").expect("our own directory");
    let args = [
        "--sign",
        "--mechanism",
        "SHA256-RSA-PKCS",
        "--id",
        "01",
        "--input-file",
        text(&data),
        "--output-file",
        text(&out),
    ];
    world.pkcs11_tool_login(args).ok();
    fs::read(out).expect("a signature")
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// A world with an RSA key (id 01), and the backup of it, taken while the daemon runs.
pub(crate) fn backed_up() -> (World, PathBuf) {
    let world = World::start();
    world.pkcs11_tool_login(["--keypairgen", "--key-type", "rsa:2048", "--id", "01", "--label", "kept"]).ok();
    let file = world.dir().join("token.backup");
    world.admin(["backup", "--pin", "env:SO_PIN", "--output", text(&file)]).ok();
    (world, file)
}

#[test]
fn a_backup_of_the_running_token_restores_to_the_same_keys() {
    if !available("drill::a_backup_of_the_running_token_restores_to_the_same_keys", "pkcs11-tool") {
        return;
    }
    let (world, file) = backed_up();
    let before = signature(&world, "before");
    let mut elsewhere = World::unstarted();
    elsewhere.admin(["restore", "--pin", "env:SO_PIN", "--input", text(&file)]).ok();
    elsewhere.start_daemon();
    assert_eq!(signature(&elsewhere, "after"), before);
    // The first token goes on; the restored one takes the same PINs and new keys.
    assert_eq!(signature(&world, "still"), before);
    elsewhere.pkcs11_tool_login(["--keypairgen", "--key-type", "EC:prime256v1", "--id", "02", "--label", "new"]).ok();
    elsewhere.admin(["audit", "verify"]).ok();
    let keys = elsewhere.admin_json(["key", "list", "--pin", "env:PIN"]);
    assert!(keys.to_string().contains("kept"), "{keys}");
}

#[test]
fn a_backup_is_one_snapshot_although_keys_are_being_made() {
    if !available("drill::a_backup_is_one_snapshot_although_keys_are_being_made", "pkcs11-tool") {
        return;
    }
    let world = World::start();
    let mut worker = acceptance::worker::Worker::start(&world);
    worker.ok("open");
    worker.ok("login");
    worker.say("create busy");
    let mut acknowledged = Vec::new();
    for _ in 0..20 {
        acknowledged.push(worker.hear().expect("keys are made"));
    }
    let file = world.dir().join("busy.backup");
    world.admin(["backup", "--pin", "env:SO_PIN", "--output", text(&file)]).ok();
    // It goes on making keys after the backup: the daemon was never blocked.
    worker.hear().expect("keys are still made");
    worker.vanish();
    let mut elsewhere = World::unstarted();
    elsewhere.admin(["restore", "--pin", "env:SO_PIN", "--input", text(&file)]).ok();
    elsewhere.start_daemon();
    let mut reader = acceptance::worker::Worker::start(&elsewhere);
    reader.ok("open");
    reader.ok("login");
    let restored = reader.ok("labels");
    let restored: std::collections::HashSet<&str> = restored.split_whitespace().collect();
    for label in &acknowledged {
        assert!(restored.contains(label.as_str()), "{label} was acknowledged before the backup and is not in it");
    }
    // One snapshot: no hole in the sequence.
    for turn in 0..restored.len() {
        assert!(restored.contains(format!("busy-{turn}").as_str()), "key {turn} of {} is missing", restored.len());
    }
}

#[test]
fn a_drill_rehearses_the_restore_and_reports_it() {
    if !available("drill::a_drill_rehearses_the_restore_and_reports_it", "pkcs11-tool") {
        return;
    }
    let (mut world, file) = backed_up();
    world.pkcs11_tool_login(["--keypairgen", "--key-type", "EC:prime256v1", "--id", "02", "--label", "later"]).ok();
    let (scratch, report) = (world.dir().join("scratch"), world.dir().join("report.json"));
    fs::create_dir(&scratch).expect("our own directory");
    let line = ["drill", "--pin", "env:SO_PIN", "--input", text(&file), "--scratch", text(&scratch)];
    let signed = ["--report", text(&report), "--sign-with", "kept", "--user-pin", "env:PIN"];
    world.admin(line.into_iter().chain(signed)).ok().says("passed");
    let told: serde_json::Value =
        serde_json::from_slice(&fs::read(&report).expect("a report")).expect("the report is JSON");
    assert_eq!(told["passed"], true, "{told}");
    assert_eq!(told["steps"].as_array().map(Vec::len), Some(9), "{told}");
    assert_eq!((&told["keys"][0]["label"], &told["keys"][0]["verified_by"]), (&"kept".into(), &"running".into()));
    assert!(told["rto_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{told}");
    assert!(told["changes_since"].as_u64().is_some_and(|changes| changes >= 1), "{told}");
    assert!(fs::read_to_string(report.with_extension("md")).expect("a page").contains("**Passed**"));
    // The report's signature is the token's, over the report's bytes.
    let (data, signature) = (report.clone(), report.with_extension("sig"));
    let verify = ["--verify", "--mechanism", "SHA256-RSA-PKCS", "--id", "01"];
    let files = ["--input-file", text(&data), "--signature-file", text(&signature)];
    world.pkcs11_tool_login(verify.into_iter().chain(files)).ok().says("Signature is valid");
    assert_eq!(fs::read_dir(&scratch).expect("our own directory").count(), 0, "the copy was not destroyed");
    // After a fire there is no daemon to verify: the copy's own public keys do.
    world.stop_daemon();
    world.admin(line.into_iter().chain(["--json"])).ok().says("\"restored\"");
}

#[test]
fn a_drill_with_a_damaged_archive_or_a_wrong_pin_fails_at_its_step_and_leaves_nothing() {
    if !available("drill::a_drill_with_a_damaged_archive_or_a_wrong_pin_fails", "pkcs11-tool") {
        return;
    }
    let (world, file) = backed_up();
    let (scratch, report) = (world.dir().join("scratch"), world.dir().join("report.json"));
    fs::create_dir(&scratch).expect("our own directory");
    let line = ["drill", "--input", text(&file), "--scratch", text(&scratch), "--report", text(&report)];
    world.admin(line.into_iter().chain(["--pin", "env:PIN"])).refused();
    let mut bytes = fs::read(&file).expect("the archive");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).expect("our own file");
    world.admin(line.into_iter().chain(["--pin", "env:SO_PIN"])).refused();
    let told: serde_json::Value =
        serde_json::from_slice(&fs::read(&report).expect("a report")).expect("the report is JSON");
    assert_eq!((told["passed"].as_bool(), told["steps"][1]["passed"].as_bool()), (Some(false), Some(false)), "{told}");
    assert_eq!(fs::read_dir(&scratch).expect("our own directory").count(), 0);
}

#[test]
fn a_drill_opens_a_bundle_by_every_way_into_it_on_a_host_that_has_nothing() {
    if !available("drill::a_drill_opens_a_bundle_by_every_way_into_it", "pkcs11-tool") {
        return;
    }
    let world = World::start();
    world.pkcs11_tool_login(["--keypairgen", "--key-type", "EC:prime256v1", "--id", "01", "--label", "kept"]).ok();
    let at = |name: &str| world.dir().join(name).display().to_string();
    world.admin(["backup", "keygen", "--output", "key"]).ok();
    fs::write(at("phrase"), "six words that nobody else knows\n").expect("our own directory");
    let phrase = format!("file:{}", at("phrase"));
    let backup = ["backup", "--pin", "env:SO_PIN", "--output", "b", "--bundle", "--recipient", "key.pub"];
    world.admin(backup.into_iter().chain(["--passphrase", &phrase, "--shares", "2:3"])).ok();
    let (archive, key) = (at("b"), at("key"));
    let shares = [1, 3].map(|number| format!("file:{}", at(&format!("b.share-{number}"))));
    let rows: [&[&str]; 4] = [
        &["--pin", "env:SO_PIN"],
        &["--passphrase", &phrase, "--so-pin", "env:SO_PIN"],
        &["--secret-key", &key, "--user-pin", "env:PIN"],
        &["--share", &shares[0], "--share", &shares[1], "--user-pin", "env:PIN"],
    ];
    let elsewhere = World::unstarted();
    let drill = |opening: &[&str]| {
        let line = ["--json", "drill", "--input", &archive, "--report", "report.json"].into_iter();
        elsewhere.admin(line.chain(opening.iter().copied()))
    };
    for opening in rows {
        let told: serde_json::Value = serde_json::from_slice(&drill(opening).ok().stdout).expect("JSON");
        assert_eq!(told["passed"], true, "{told}");
        assert_eq!(told["keys"][0]["verified_by"], "restored", "{told}");
        let journal = told["steps"][7]["finding"].as_str().unwrap_or_default();
        assert!(journal.contains("of the bundle's journal is the one"), "{told}");
    }
    // Without a PIN no key signs, with a wrong one neither.
    drill(&["--secret-key", &key]).refused().says("--so-pin or --user-pin");
    drill(&["--secret-key", &key, "--user-pin", "env:SO_PIN"]).refused().says("PIN");
    drill(&["--share", &shares[0], "--user-pin", "env:PIN"]).refused().says("1 of 2 shares");
}

module_test! {
    fn a_post_quantum_key_comes_back_from_a_backup(world) {
        let session = Token::open().user();
        ml_dsa(&session, MlDsaParameterSetType::ML_DSA_65, token_object("kept")).expect("a pair");
        world.admin(["backup", "--pin", "env:SO_PIN", "--output", "b"]).ok();
        let told = world.admin_json(["drill", "--pin", "env:SO_PIN", "--input", "b"]);
        let key = &told["keys"][0];
        assert_eq!((&key["mechanism"], &key["verified_by"]), (&"CKM_ML_DSA".into(), &"running".into()), "{told}");
    }
}

#[test]
fn archives_are_listed_inspected_verified_watched_and_pruned() {
    if !available("drill::archives_are_listed_inspected_verified_watched_and_pruned", "pkcs11-tool") {
        return;
    }
    let (world, file) = backed_up();
    let shelf = world.dir().join("shelf");
    fs::create_dir(&shelf).expect("our own directory");
    assert_eq!(world.admin(["backup", "status", text(&shelf)]).refused().status.code(), Some(2));
    for name in ["a", "b", "c"] {
        let output = shelf.join(name);
        world.admin(["backup", "--pin", "env:SO_PIN", "--output", text(&output)]).ok();
    }
    fs::write(shelf.join("notes.txt"), "no archive").expect("our own directory");
    world.admin(["backup", "status", text(&shelf), "--max-age", "1"]).ok().says("ok");
    let listed = world.admin_json(["backup", "list", text(&shelf)]);
    assert_eq!(listed.as_array().map(Vec::len), Some(3), "{listed}");
    world.admin(["backup", "inspect", text(&file)]).ok().says("SO PIN of");
    world.admin(["backup", "verify", text(&file), "--pin", "env:SO_PIN"]).ok();
    world.admin(["backup", "verify", text(&file), "--pin", "env:PIN"]).refused();
    world.admin(["backup", "prune", text(&shelf), "--keep", "1", "--dry-run"]).ok().says("would go");
    assert_eq!(fs::read_dir(&shelf).expect("our own directory").count(), 4);
    // The newest, the first of the quarter, and what is no archive.
    world.admin(["backup", "prune", text(&shelf), "--keep", "1"]).ok();
    assert_eq!(fs::read_dir(&shelf).expect("our own directory").count(), 3);
}

#[test]
fn a_restore_over_a_newer_store_needs_a_reason_and_keeps_what_it_replaces() {
    if !available("drill::a_restore_over_a_newer_store_needs_a_reason", "pkcs11-tool") {
        return;
    }
    let (mut world, file) = backed_up();
    world.pkcs11_tool_login(["--keypairgen", "--key-type", "EC:prime256v1", "--id", "02", "--label", "later"]).ok();
    world.stop_daemon();
    let line = ["restore", "--pin", "env:SO_PIN", "--input", text(&file)];
    world.admin(line).refused();
    world.admin(line.into_iter().chain(["--force"])).refused().says("--accept-rollback");
    world.admin(line.into_iter().chain(["--force", "--accept-rollback", "--reason", "rehearsal"])).ok();
    world.start_daemon();
    let keys = world.admin_json(["key", "list", "--pin", "env:PIN"]).to_string();
    assert!(keys.contains("kept") && !keys.contains("later"), "{keys}");
    world.admin(["audit", "export"]).ok().says("\"reason\":\"rehearsal\"");
    let kept = fs::read_dir(world.dir()).expect("our own directory").filter_map(Result::ok);
    assert!(kept.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().contains(".pre-restore-")));
}
