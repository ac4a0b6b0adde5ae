//! What a monitor reads: `backup status` says by its exit status whether somebody must get up.

use std::fs;

use acceptance::world::World;

#[test]
fn a_monitor_reads_how_old_backups_are_from_the_exit_status() {
    let world = World::start();
    fs::create_dir(world.dir().join("shelf")).expect("our own directory");
    let status = |args: &[&str]| {
        let said = world.admin(["backup", "status"].iter().chain(args));
        (said.status.code(), said.all())
    };
    // None at all, and a directory that is not there (a mount that is gone): both are critical.
    for place in ["shelf", "nowhere"] {
        let (code, said) = status(&[place]);
        assert_eq!(code, Some(2), "{place}: {said}");
    }
    world.admin(["backup", "--pin", "env:SO_PIN", "--output", "shelf/a.backup"]).ok();
    let rows: [(&[&str], i32); 4] = [
        (&["shelf", "--max-age", "1"], 0),
        // Older than nothing at all, twice over.
        (&["shelf", "--max-age", "0"], 2),
        (&["shelf", "--store", "zz"], 2),
        (&["shelf", "--json"], 0),
    ];
    for (args, expected) in rows {
        let (code, said) = status(args);
        assert_eq!(code, Some(expected), "{args:?}: {said}");
    }
    // Another token's backups in the same directory are judged by themselves.
    let other = World::start();
    let beside = world.dir().join("shelf/b.backup").display().to_string();
    other.admin(["backup", "--pin", "env:SO_PIN", "--output", &beside]).ok();
    let told = world.admin_json(["backup", "status", "shelf"]);
    assert_eq!(told["stores"].as_array().map(Vec::len), Some(2), "{told}");
    assert_eq!(told["state"], "ok", "{told}");
}
