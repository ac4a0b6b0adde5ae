//! Tokens whose SO PIN does not open the master key: the SO administers, and loses nothing for anybody by mistake.

use acceptance::worker::Worker;
use acceptance::world::{Carrier, SO_PIN, World};

/// A world whose token was initialised so, with a key.
fn separate() -> World {
    let mut world = World::unstarted_for(Carrier::Express);
    let config = world.standard_config().replace("[security]\n", "[security]\nso_holds_master_key = false\n");
    world.write_config(&config);
    world.start_daemon();
    world.init_token();
    let mut worker = Worker::entered(&world);
    worker.ok("token-key kept");
    world
}

/// Whether the user PIN opens the key.
fn signs(world: &World) -> bool {
    let mut worker = Worker::entered(world);
    worker.ok("sign-some kept 1") == "1"
}

#[test]
fn an_so_without_the_master_key_sets_no_user_pin_over_private_objects() {
    let world = separate();
    let shown = &world.admin_json(["token", "info", "--slot", "0"])[0];
    assert_eq!(shown["so_holds_master_key"], false);
    let found = String::from_utf8_lossy(&world.admin(["--json", "doctor"]).stdout).into_owned();
    assert!(found.contains("\"so-without-key\""), "{found}");
    let reset = ["pin", "reset", "--so-pin", "env:SO_PIN", "--new-pin", "another-pin-1"];
    world.admin(reset).refused().says("private objects would be lost");
    let mut officer = Worker::opened(&world);
    assert_eq!(officer.ok(&format!("login-with so {SO_PIN}")), "ok");
    assert!(officer.ask("init-pin another-pin-1").starts_with("error"));
    drop(officer);
    assert!(signs(&world), "the old PIN, and every key");

    // On a token without private objects it is as anywhere.
    world
        .admin(["token", "init", "--slot", "0", "--label", "test", "--so-pin", "env:SO_PIN", "--user-pin", "env:PIN"])
        .ok();
    world.admin(reset).ok();
    world.admin(["key", "list", "--pin", "another-pin-1"]).ok();
}

#[test]
fn a_backup_by_the_sos_pin_restores_what_the_users_pin_opens() {
    let world = separate();
    world.admin(["token", "rotate-key", "--pin", "env:SO_PIN"]).refused().says("give the user PIN too");
    world.admin(["token", "rotate-key", "--pin", "env:SO_PIN", "--user-pin", "env:PIN"]).ok();
    world.admin(["backup", "--pin", "env:SO_PIN", "--output", "token.backup"]).ok();
    let drill = ["drill", "--pin", "env:SO_PIN", "--input", "token.backup"];
    world.admin(drill).refused().says("give --user-pin too");
    world.admin(drill.iter().chain(&["--user-pin", "env:PIN"])).ok();
    let archive = world.dir().join("token.backup").display().to_string();
    let mut restored = World::unstarted_for(Carrier::Express);
    restored.admin(["restore", "--pin", "env:SO_PIN", "--input", &archive]).ok();
    restored.start_daemon();
    assert!(signs(&restored) && signs(&world));
}
