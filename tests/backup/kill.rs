//! kill -9 while a restore replaces a store: afterwards there is the old store or the new one, whole.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use acceptance::daemon::binary;
use acceptance::tools::available;
use acceptance::world::World;

/// Points at which a restore is killed; more with `RESTORE_KILLS`.
const POINTS: u32 = 20;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("our own directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
    }
}

/// The world as it was: the old store and its journal.
fn reset(world: &World, pristine: &Path) {
    for entry in fs::read_dir(world.dir()).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if name.starts_with("store") {
            fs::remove_dir_all(&path).expect("our own directory");
        } else if name.starts_with("audit") {
            fs::remove_file(&path).expect("our own file");
        }
    }
    copy(&pristine.join("store"), &world.store());
    copy(&pristine.join("journal"), world.dir());
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(world.store(), private).expect("our own directory");
}

#[test]
fn a_killed_restore_leaves_the_old_store_or_the_new_one() {
    if !available("kill::a_killed_restore_leaves_the_old_store_or_the_new_one", "pkcs11-tool") {
        return;
    }
    let mut world = World::start();
    let key = |world: &World, label: &str| {
        world.pkcs11_tool_login(["--keypairgen", "--key-type", "EC:prime256v1", "--id", "01", "--label", label]).ok();
    };
    key(&world, "in-both");
    world.admin(["backup", "--pin", "env:SO_PIN", "--output", "token.backup"]).ok();
    key(&world, "in-the-old-one");
    world.stop_daemon();
    let pristine = world.dir().join("pristine");
    copy(&world.store(), &pristine.join("store"));
    fs::create_dir(pristine.join("journal")).expect("our own directory");
    for entry in fs::read_dir(world.dir()).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if name.starts_with("audit") {
            fs::copy(&path, pristine.join("journal").join(name)).expect("copied");
        }
    }
    let old = fs::read(pristine.join("store/vault.redb")).expect("the old store");
    let line =
        ["restore", "--pin", "env:SO_PIN", "--input", "token.backup", "--force", "--accept-rollback", "--reason", "x"];
    let begun = Instant::now();
    world.admin(line).ok();
    let whole = begun.elapsed();
    let points = std::env::var("RESTORE_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(POINTS);
    let (mut kept, mut replaced) = (0, 0);
    for point in 0..points {
        reset(&world, &pristine);
        let mut command = world.command(binary("craton-hsm-admin"));
        command.arg("--config").arg(world.config()).args(line).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the tool starts");
        std::thread::sleep(whole * (point + 1) / points);
        // One that has ended already cannot be killed any more.
        child.kill().unwrap_or_default();
        child.wait().expect("the tool ends");
        let found = fs::read(world.store().join("vault.redb")).expect("there is always a store");
        if found == old {
            kept += 1;
            continue;
        }
        // The old one was opened, or the new one is there: the keys tell.
        world.start_daemon();
        let keys = world.admin_json(["key", "list", "--pin", "env:PIN"]).to_string();
        assert!(keys.contains("in-both"), "point {point}: {keys}");
        if keys.contains("in-the-old-one") {
            kept += 1;
        } else {
            replaced += 1;
        }
        world.stop_daemon();
    }
    assert!(kept > 0, "no kill came before the end: {replaced} of {points} stores were replaced");
    // Whatever a killed one has left behind, the next one succeeds.
    reset(&world, &pristine);
    fs::create_dir(world.dir().join("store.restoring")).expect("our own directory");
    fs::write(world.dir().join("store.restoring/vault.redb.new"), b"half").expect("our own directory");
    assert!(world.admin(line).ok().to_string().contains("pre-restore"));
    assert!(Duration::ZERO < whole);
}
