//! The copy that follows every change: what it holds when the machine is gone.

use std::fs;
use std::time::{Duration, Instant};

use acceptance::tools::available;
use acceptance::world::World;

/// Long enough for the slowest machine; a copy takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(90);
const STREAM: &str = "[backup]\nstream = \"copies\"\nstream_recipients = [\"stream.key.pub\"]\n";

/// A world without a daemon that is configured to keep a copy.
fn copying() -> World {
    let world = World::unstarted();
    world.admin(["backup", "keygen", "--output", "stream.key"]).ok();
    world.configure(STREAM);
    world
}

fn wait_until_newest(world: &World) {
    let begun = Instant::now();
    loop {
        let status = world.admin_json(["status"]);
        let newest = status["store_generation"] == status["stream"]["generation"];
        if newest && status["stream"]["loss_seconds"] == 0 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "the copy does not follow: {status}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_copy_follows_every_change_and_restores_without_a_pin() {
    if !available("stream::the_copy_follows_every_change_and_restores_without_a_pin", "pkcs11-tool") {
        return;
    }
    let mut world = copying();
    world.start_daemon();
    world.init_token();
    for (id, label) in [("01", "first"), ("02", "second")] {
        world.pkcs11_tool_login(["--keypairgen", "--key-type", "EC:prime256v1", "--id", id, "--label", label]).ok();
        wait_until_newest(&world);
    }
    assert!(world.dir().join("copies/stream.previous.enc").is_file());
    let copy = world.dir().join("copies/stream.enc").display().to_string();
    let key = world.dir().join("stream.key").display().to_string();
    world.take_daemon().kill();
    let mut elsewhere = World::unstarted();
    elsewhere.admin(["restore", "--secret-key", &key, "--input", &copy]).ok();
    elsewhere.start_daemon();
    let keys = elsewhere.admin_json(["key", "list", "--pin", "env:PIN"]).to_string();
    assert!(keys.contains("first") && keys.contains("second"), "{keys}");
    let journal = fs::read_to_string(world.journal()).expect("the journal");
    assert!(journal.contains("backup_stream"), "the journal says for whom copies are made");
}

#[test]
fn a_copy_that_cannot_be_made_is_told_by_the_status() {
    let mut world = copying();
    fs::write(world.dir().join("copies"), "a file where a directory should be").expect("our own directory");
    world.start_daemon();
    world.init_token();
    let begun = Instant::now();
    while world.admin(["status"]).status.success() {
        assert!(begun.elapsed() < PATIENCE, "nobody is told that there is no copy");
        std::thread::sleep(Duration::from_millis(50));
    }
    let told = world.admin(["status"]).to_string();
    assert!(told.contains("backup.stream has no copy"), "{told}");
    // The token itself goes on.
    world.admin(["token", "info"]).ok();
}
