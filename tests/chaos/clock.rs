//! A wall clock that jumps: back by a day, ahead by ten years, and back again; or stands still. Records keep their order and their times
//! never decrease, each jump is recorded, keys, sessions and backups work, and wrong PINs are neither forgiven by a jump nor held against
//! anybody for years. The PKI's side is `tests/pki/clock.rs`.

use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use acceptance::faults::Faults;
use acceptance::worker::Worker;
use acceptance::world::{Carrier, PIN, SO_PIN, World};

const DAY: i64 = 24 * 3600;
const DECADE: i64 = 3653 * DAY;

#[test]
fn the_journal_keeps_its_order_when_the_clock_jumps() {
    let mut world = World::unstarted_for(Carrier::Express);
    let Some(faults) = Faults::prepare("clock::the_journal_keeps_its_order_when_the_clock_jumps", world.dir()) else {
        return;
    };
    world.daemon_environment(faults.environment());
    world.start_daemon();
    world.init_token();
    let mut worker = Worker::entered(&world);
    worker.ok("token-key first");
    for (jump, seconds) in [("back a day", -DAY), ("ahead ten years", DECADE), ("back to now", 0)] {
        faults.shift_clock(seconds);
        assert_eq!(worker.ok("sign first 1 3"), "3", "{jump}");
        worker.ok(&format!("create-some after{seconds} 2"));
    }
    world.admin(["audit", "verify"]).ok();
    let text = fs::read_to_string(world.journal()).expect("the journal");
    let records: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
    let number = |record: &serde_json::Value, name: &str| record[name].as_u64().expect("a number");
    for pair in records.windows(2) {
        assert_eq!(number(&pair[1], "seq"), number(&pair[0], "seq") + 1);
        assert!(number(&pair[1], "time") >= number(&pair[0], "time"), "{}", pair[1]);
    }
    let jumps: Vec<(String, u64)> = records
        .iter()
        .filter(|record| record["op"] == "clock_jump")
        .map(|record| {
            let detail = &record["detail"];
            (
                detail["direction"].as_str().unwrap_or_default().to_owned(),
                detail["seconds"].as_u64().unwrap_or_default(),
            )
        })
        .collect();
    let directions: Vec<&str> = jumps.iter().map(|(direction, _)| direction.as_str()).collect();
    assert_eq!(directions, ["back", "forward", "back"], "{jumps:?}");
    assert!(jumps.iter().all(|(_, seconds)| *seconds + 120 >= DAY.unsigned_abs()), "{jumps:?}");
    drop(worker);
    // A start a decade before the newest record.
    world.crash_and_restart();
    let mut worker = Worker::entered(&world);
    assert_eq!(worker.ok("sign first 1 3"), "3");
    world.admin(["audit", "verify"]).ok();
}

/// A daemon whose clock is in our hands, with a token.
fn faked(test: &str, more: &str) -> Option<(World, Faults)> {
    let mut world = World::unstarted_for(Carrier::Express);
    world.configure(more);
    let faults = Faults::prepare(test, world.dir())?;
    world.daemon_environment(faults.environment());
    world.start_daemon();
    world.init_token();
    Some((world, faults))
}

/// The three ways of a clock that is wrong, and the one of one that is right again.
const JUMPS: [(&str, i64); 4] =
    [("back a day", -DAY), ("ahead ten years", DECADE), ("back to a day ago", -DAY), ("right", 0)];

/// What the right PIN is answered.
fn login(worker: &mut Worker) -> String {
    worker.ok(&format!("login-with user {PIN}"))
}

#[test]
fn no_wait_after_wrong_pins_is_shorter_because_the_clock_jumps() {
    let test = "clock::no_wait_after_wrong_pins_is_shorter_because_the_clock_jumps";
    let Some((mut world, faults)) = faked(test, "max_login_attempts = 3\nlogin_cooldown_secs = 3600") else { return };
    let mut worker = Worker::opened(&world);
    (0..3).for_each(|_| assert_eq!(worker.ok("wrong-pin"), "PinIncorrect"));
    let refused = login(&mut worker);
    assert!(!["ok", "PinIncorrect", "PinLocked"].contains(&refused.as_str()), "{refused}");
    for (jump, seconds) in JUMPS {
        faults.shift_clock(seconds);
        assert_eq!(login(&mut worker), refused, "{jump}");
        world.crash_and_restart();
        worker = Worker::opened(&world);
        assert_eq!(login(&mut worker), refused, "{jump}, and the daemon was killed");
    }
    world.admin(["audit", "verify"]).ok();
}

#[test]
fn no_wait_after_wrong_pins_lasts_because_the_clock_was_ahead_or_stands() {
    let test = "clock::no_wait_after_wrong_pins_lasts_because_the_clock_was_ahead_or_stands";
    let Some((mut world, faults)) = faked(test, "max_login_attempts = 1\nlogin_cooldown_secs = 1") else { return };
    let mut worker = Worker::opened(&world);
    for (kind, restarts) in [("ahead", false), ("ahead", true), ("stands", false)] {
        if kind == "ahead" {
            faults.shift_clock(DECADE);
        } else {
            faults.freeze_clock(Some(SystemTime::now()));
        }
        assert_eq!(worker.ok("wrong-pin"), "PinIncorrect", "{kind}");
        faults.shift_clock(0);
        if restarts {
            world.crash_and_restart();
            worker = Worker::opened(&world);
        }
        let begun = Instant::now();
        while login(&mut worker) != "ok" {
            assert!(begun.elapsed() < Duration::from_secs(120), "{kind}, restarted: {restarts}: still waiting");
            thread::sleep(Duration::from_millis(50));
        }
        worker.ok("logout");
        faults.freeze_clock(None);
    }
}

#[test]
fn a_locked_pin_stays_locked_when_the_clock_jumps() {
    let test = "clock::a_locked_pin_stays_locked_when_the_clock_jumps";
    let Some((mut world, faults)) = faked(test, "max_login_attempts = 1000") else { return };
    let mut worker = Worker::opened(&world);
    (0..10).for_each(|_| assert_eq!(worker.ok("wrong-pin"), "PinIncorrect"));
    for (jump, seconds) in JUMPS {
        faults.shift_clock(seconds);
        assert_eq!(login(&mut worker), "PinLocked", "{jump}");
    }
    world.crash_and_restart();
    let mut worker = Worker::opened(&world);
    assert_eq!(login(&mut worker), "PinLocked");
    assert_eq!(worker.ok(&format!("login-with so {SO_PIN}")), "ok");
    worker.ok(&format!("init-pin {PIN}"));
    worker.ok("logout");
    assert_eq!(login(&mut worker), "ok");
}

#[test]
fn sessions_keys_and_backups_go_on_when_the_clock_jumps_or_stands() {
    let test = "clock::sessions_keys_and_backups_go_on_when_the_clock_jumps_or_stands";
    let Some((world, faults)) = faked(test, "") else { return };
    let mut worker = Worker::opened(&world);
    worker.ok("login");
    worker.ok("token-key first");
    let work = |worker: &mut Worker, what: &str, name: &str| {
        assert_eq!(worker.ok("sign first 1 3"), "3", "{what}");
        worker.ok(&format!("create-some {name} 2"));
        world.admin(["token", "rotate-key", "--pin", "env:SO_PIN", "--user-pin", "env:PIN"]).ok();
        assert_eq!(worker.ok("sign first 1 3"), "3", "{what}, after a new master key");
        let folder = format!("{name}-backups");
        fs::create_dir(world.dir().join(&folder)).expect("the world's directory is writable");
        let file = format!("{folder}/one.backup");
        world.admin(["backup", "--pin", "env:SO_PIN", "--output", &file]).ok();
        world.admin(["backup", "verify", &file, "--pin", "env:SO_PIN"]).ok();
        folder
    };
    for (at, (jump, seconds)) in JUMPS.into_iter().enumerate() {
        faults.shift_clock(seconds);
        let folder = work(&mut worker, jump, &format!("jump{at}"));
        // The one who asks how old it is has the right clock.
        let status = world.admin(["backup", "status", &folder, "--max-age", "48"]);
        if seconds > 0 {
            status.refused().says("has not come");
            // Nor is it the newest once there is another.
            faults.shift_clock(0);
            world.admin(["backup", "--pin", "env:SO_PIN", "--output", &format!("{folder}/two.backup")]).ok();
            world.admin(["backup", "status", &folder, "--max-age", "48"]).ok();
            let pruned = ["backup", "prune", &folder, "--keep", "1"];
            world.admin(pruned).ok();
            assert!(world.dir().join(&folder).join("two.backup").exists(), "the newest is kept");
        } else {
            status.ok();
        }
    }
    faults.freeze_clock(Some(SystemTime::now()));
    work(&mut worker, "stands", "frozen");
    let records = fs::read_to_string(world.journal()).expect("the journal").lines().count();
    worker.ok("create-some still 20");
    assert!(fs::read_to_string(world.journal()).expect("the journal").lines().count() >= records + 20);
    world.admin(["audit", "verify"]).ok();
}
