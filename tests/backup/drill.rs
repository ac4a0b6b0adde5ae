//! The drill: the documented procedure from end to end. The seeds' runbook names the same commands.

use std::fs;
use std::path::PathBuf;

use acceptance::tools::available;
use acceptance::world::World;

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
