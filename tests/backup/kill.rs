//! kill -9 of a restore at every call by which it changes a file: afterwards there is the old store or the new one, whole.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use acceptance::daemon::{Daemon, binary};
use acceptance::faults::Faults;
use acceptance::tools::available;
use acceptance::worker::Worker;
use acceptance::world::World;

/// At so many points at least a restore is killed.
const POINTS: i32 = 100;

/// The part of a path by which the world's files are known.
const PART: &str = "craton-acceptance.";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("our own directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
    }
}

/// Copies store and journal of a stopped daemon, for [`reset`].
fn keep(world: &World, pristine: &Path) {
    copy(&world.store(), &pristine.join("store"));
    fs::create_dir(pristine.join("journal")).expect("our own directory");
    for entry in fs::read_dir(world.dir()).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if name.starts_with("audit") {
            fs::copy(&path, pristine.join("journal").join(name)).expect("copied");
        }
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
    let name = "kill::a_killed_restore_leaves_the_old_store_or_the_new_one";
    let Some(faults) = Faults::prepare(name, world.dir()) else { return };
    let key = |world: &World, label: &str| {
        world.pkcs11_tool_login(["--keypairgen", "--key-type", "EC:prime256v1", "--id", "01", "--label", label]).ok();
    };
    key(&world, "in-both");
    // So many keys that the new store takes more than a hundred calls to write.
    let mut worker = Worker::entered(&world);
    worker.ok("create-some bulk 40");
    drop(worker);
    world.admin(["backup", "--pin", "env:SO_PIN", "--output", "token.backup"]).ok();
    key(&world, "in-the-old-one");
    world.stop_daemon();
    let pristine = world.dir().join("pristine");
    keep(&world, &pristine);
    let old = fs::read(pristine.join("store/vault.redb")).expect("the old store");
    let line =
        ["restore", "--pin", "env:SO_PIN", "--input", "token.backup", "--force", "--accept-rollback", "--reason", "x"];
    let restore = |world: &World| {
        let mut command = world.command(binary("craton-hsm-admin"));
        command.arg("--config").arg(world.config()).args(line).stdout(Stdio::null()).stderr(Stdio::null());
        command.envs(faults.environment()).status().expect("the tool starts")
    };
    // A whole one, which says how many calls there are.
    faults.kill(PART, i32::MAX);
    assert!(restore(&world).success());
    let calls = i32::MAX - faults.spare();
    assert!(calls >= POINTS, "{calls} calls: the token is too small for {POINTS} points");
    let (mut kept, mut replaced) = (0, 0);
    for point in 0..calls {
        reset(&world, &pristine);
        faults.kill(PART, point);
        assert!(!restore(&world).success(), "call {point} of {calls} was its last");
        faults.heal();
        let found = fs::read(world.store().join("vault.redb")).expect("there is always a store");
        if found == old {
            kept += 1;
            continue;
        }
        // The old one was opened, or the new one is there: the keys tell.
        world.start_daemon();
        let keys = world.admin_json(["key", "list", "--pin", "env:PIN"]).to_string();
        assert!(keys.contains("in-both"), "call {point}: {keys}");
        if keys.contains("in-the-old-one") {
            kept += 1;
        } else {
            replaced += 1;
        }
        world.stop_daemon();
    }
    assert!(kept > 0 && replaced > 0, "{kept} of {calls} kills left the old store, {replaced} the new one");
    println!("TABLE kill -9 of a restore: at each of {calls} calls, {kept} left the old store, {replaced} the new one");
    // Whatever a killed one has left behind, the next one succeeds.
    reset(&world, &pristine);
    fs::create_dir(world.dir().join("store.restoring")).expect("our own directory");
    fs::write(world.dir().join("store.restoring/vault.redb.new"), b"half").expect("our own directory");
    assert!(world.admin(line).ok().to_string().contains("pre-restore"));
}

/// Killed at every call that changes a file of the journal, a start that adds the second signature, or ends it, is followed by one that does.
#[test]
fn a_killed_start_that_begins_or_ends_the_second_signature_leaves_a_journal_that_goes_on() {
    let name = "kill::a_killed_start_that_begins_or_ends_the_second_signature_leaves_a_journal_that_goes_on";
    let mut world = World::unstarted();
    let Some(faults) = Faults::prepare(name, world.dir()) else { return };
    world.daemon_environment(faults.environment());
    let one = world.standard_config();
    let both = one.replacen("[audit]\n", "[audit]\npost_quantum = true\n", 1);
    let (part, pristine) = ("audit.jsonl", world.dir().join("pristine"));
    for (before, after, digits) in [(&one, &both, 128), (&both, &one, 64)] {
        fs::remove_dir_all(&pristine).unwrap_or_default();
        faults.heal();
        world.write_config(before);
        world.start_daemon();
        world.stop_daemon();
        keep(&world, &pristine);
        world.write_config(after);
        // A whole one, which says how many calls there are until it is ready.
        faults.kill(part, i32::MAX);
        world.start_daemon();
        let calls = i32::MAX - faults.spare();
        world.take_daemon().kill();
        assert!(calls > 12, "{calls} calls");
        let mut killed = 0;
        for point in 0..calls {
            reset(&world, &pristine);
            faults.kill(part, point);
            // One of the last calls may come after the daemon is ready.
            killed += usize::from(world.try_start().map(Daemon::kill).is_err());
            faults.heal();
            world.start_daemon();
            let keys = world.admin_json(["audit", "key"]);
            let text = |name: &str| keys[name].as_str().expect("a text").to_owned();
            assert_eq!(text("current").len(), digits, "call {point} of {calls}");
            world.admin(["audit", "verify", "--key", &text("first")]).ok();
            world.take_daemon().kill();
        }
        println!(
            "TABLE kill -9 of a start that changes the journal's kind of keys: {killed} of {calls} calls, to {digits} digits"
        );
        assert!(killed > calls as usize / 2, "{killed} of {calls}");
    }
}
