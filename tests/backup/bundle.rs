//! All that a new host needs, in one place: the token's archive, the files around it, and what is in them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use acceptance::world::{PIN, SO_PIN, World};

#[test]
fn a_bundle_makes_a_token_on_a_host_that_has_nothing() {
    let mut world = World::start();
    let place = world.dir().to_owned();
    let at = |name: &str| place.join(name);
    fs::create_dir_all(at("pki/store")).expect("our own directory");
    fs::write(at("pki/store/pki.redb"), b"certificates").expect("our own directory");
    fs::create_dir_all(at("elsewhere")).expect("our own directory");
    let noted = world.standard_config().replace("[audit]\n", "[audit]\nanchor = \"elsewhere/anchor\"\n");
    world.write_config(&noted);
    world.stop_daemon();
    world.start_daemon();
    let taken = world.admin_json(["backup", "--pin", "env:SO_PIN", "--output", "b", "--bundle", "--with", "pki"]);
    assert_eq!(taken["bundle"].as_array().map(Vec::len), Some(2), "{taken}");
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(at("b.manifest.json")).expect("a manifest")).expect("JSON");
    assert!(manifest["host"].is_string() && manifest["archive"]["sha256"] == taken["sha256"], "{manifest}");
    for secret in [&b"certificates"[..], b"storage_path", PIN.as_bytes(), SO_PIN.as_bytes()] {
        let sealed = fs::read(at("b.files")).expect("the files");
        assert!(!sealed.windows(secret.len()).any(|window| window == secret), "the files are not encrypted");
    }
    let mut elsewhere = World::unstarted();
    let (archive, files) = (at("b").display().to_string(), at("b.files").display().to_string());
    elsewhere.admin(["backup", "verify", &files, "--pin", "env:SO_PIN"]).ok();
    let line = ["backup", "extract", &files, "--directory", "out", "--pin", "env:SO_PIN"];
    let listed = elsewhere.admin_json(line);
    assert_eq!(listed, manifest["contents"], "what is extracted is what the manifest names");
    let out = elsewhere.dir().join("out");
    assert_eq!(fs::read(out.join("with/pki/store/pki.redb")).expect("extracted"), b"certificates");
    assert_eq!(fs::metadata(out.join("craton_hsm.toml")).expect("extracted").permissions().mode() & 0o777, 0o600);
    assert!(fs::metadata(out.join("anchors/0-anchor")).is_ok_and(|anchor| anchor.len() > 0), "the anchor came along");
    for file in ["craton_hsm.toml", "journal/audit.jsonl"] {
        let text = fs::read_to_string(out.join(file)).expect("extracted");
        assert!(!text.contains(PIN) && !text.contains(SO_PIN), "a PIN is in {file}");
    }
    let journal = out.join("journal/audit.jsonl").display().to_string();
    // The journal went on while it was read: its last line may be missing, what is there verifies.
    assert!(fs::read_to_string(&journal).expect("extracted").contains("\"op\":\"init_token\""));
    elsewhere.admin(["restore", "--pin", "env:SO_PIN", "--input", &archive, "--verify-only"]).ok();
    elsewhere.admin(["restore", "--pin", "env:SO_PIN", "--input", &archive]).ok().says("b.files");
    elsewhere.start_daemon();
    let token = &elsewhere.admin_json(["token", "info"])[0];
    for fact in ["label", "serial", "objects"] {
        assert_eq!(token[fact], taken["tokens"][0][fact], "{fact} of {token}");
    }
    elsewhere.admin(line).refused();
    let no_store =
        World::unstarted().admin(["restore", "--pin", "env:SO_PIN", "--input", &files]).refused().to_string();
    assert!(no_store.contains("extract"), "{no_store}");
    let listed = world.admin_json(["backup", "list", "."]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "the files are no backup");
    assert_eq!(
        listed[0]["bundle"].as_u64(),
        manifest["contents"].as_array().map(|files| files.len() as u64),
        "{listed}"
    );
}

#[test]
fn a_bundle_is_watched_verified_and_pruned_as_one() {
    let world = World::start();
    let at = |name: &str| world.dir().join(name);
    fs::create_dir(at("shelf")).expect("our own directory");
    for name in ["1", "2", "3"] {
        let output = format!("shelf/{name}.backup");
        world.admin(["backup", "--pin", "env:SO_PIN", "--output", &output, "--bundle"]).ok();
    }
    world.admin(["backup", "inspect", "shelf/2.backup"]).ok().says("beside it");
    world.admin(["backup", "verify", "shelf/2.backup", "--pin", "env:SO_PIN"]).ok().says("beside it");
    world.admin(["backup", "status", "shelf"]).ok();
    // By the time: the newest that was taken by then.
    let listed = world.admin_json(["backup", "list", "shelf"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(3), "{listed}");
    let at_all = world.admin_json(["backup", "list", "shelf", "--at", "9999"]);
    assert_eq!(at_all, serde_json::json!([listed[0]]));
    assert_eq!(world.admin_json(["backup", "list", "shelf", "--at", "2020-01-01T00:00"]), serde_json::json!([]));
    // Files of another moment, and files whose check sum is not the one that was noted.
    let swap = |from: &str, to: &str| fs::copy(at(from), at(to)).expect("our own directory");
    swap("shelf/2.backup.files", "kept");
    swap("shelf/1.backup.files", "shelf/2.backup.files");
    world.admin(["backup", "verify", "shelf/2.backup", "--pin", "env:SO_PIN"]).refused().says("another archive");
    swap("kept", "shelf/2.backup.files");
    swap("shelf/1.backup.manifest.json", "shelf/2.backup.manifest.json");
    world.admin(["backup", "inspect", "shelf/2.backup"]).refused().says("check sums");
    // The newest and the first of the quarter stay, the third goes with all that is beside it.
    world.admin(["backup", "prune", "shelf", "--keep", "1"]).ok();
    let left = fs::read_dir(at("shelf")).expect("our own directory").filter_map(Result::ok);
    let mut left: Vec<_> = left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    left.sort();
    let whole = |name: &str| ["", ".files", ".manifest.json"].map(|more| format!("{name}.backup{more}"));
    assert_eq!(left, [whole("1"), whole("3")].concat());
}

#[test]
fn a_store_that_a_program_holds_is_not_copied() {
    let world = World::start();
    let store = world.store().display().to_string();
    let refused =
        world.admin(["backup", "--pin", "env:SO_PIN", "--output", "b", "--bundle", "--with", &store]).refused();
    assert!(refused.to_string().contains("is in use"), "{refused}");
    assert!(!world.dir().join("b").exists() && !world.dir().join("b.files").exists());
}

/// The way for the day when this tool does not work: stop, copy, start elsewhere.
#[test]
fn a_raw_copy_of_a_stopped_daemons_files_is_the_token() {
    let mut world = World::start();
    world.stop_daemon();
    let mut elsewhere = World::unstarted();
    let copied = std::process::Command::new("cp")
        .args(["-a", "store", "audit.jsonl", "audit.jsonl.head", "audit.jsonl.key"])
        .arg(elsewhere.dir())
        .current_dir(world.dir())
        .status();
    assert!(copied.expect("cp").success());
    elsewhere.start_daemon();
    assert_eq!(elsewhere.admin_json(["token", "info"])[0]["label"], "test");
    elsewhere.admin(["audit", "verify"]).ok();
}
