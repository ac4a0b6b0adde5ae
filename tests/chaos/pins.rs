//! kill -9 in the middle of C_Login, C_SetPIN and C_InitPIN, and a disk that takes no counts: no guess is free, no PIN is lost, and no PIN
//! is looked at that could not be counted.

use std::thread;
use std::time::{Duration, Instant};

use acceptance::faults::{Calls, Errno, Faults};
use acceptance::worker::Worker;
use acceptance::world::{Carrier, PIN, SO_PIN, World};

use crate::{is_long, table};

/// Daemons side by side: while one starts, another is guessed at.
const DAEMONS: usize = 4;
/// Wrong PINs until a PIN is locked (`security.max_failed_logins`).
const MAX: u64 = 10;

/// A world whose clients are never told to wait: what is counted here is counted for the PIN.
fn patient() -> World {
    let mut world = World::unstarted();
    world.configure("max_login_attempts = 1000");
    world.start_daemon();
    world.init_token();
    world
}

/// A different moment within `whole` for every round.
fn moment(round: usize, whole: Duration) -> Duration {
    whole * u32::try_from(round * 617 % 1000).expect("below a thousand") / 1000
}

/// How often the user PIN was mistaken, as the daemon tells it.
fn failures(world: &World) -> u64 {
    let told = world.admin_json(["token", "info"]);
    let told = if told.is_array() { told[0].clone() } else { told };
    let found = told.pointer("/user_pin_failures").or_else(|| told.pointer("/tokens/0/user_pin_failures"));
    found.and_then(serde_json::Value::as_u64).unwrap_or_else(|| panic!("no count in {told}"))
}

/// Runs `rounds` rounds on daemons side by side; gives what each lane tells.
fn in_lanes<T: Send>(rounds: usize, lane: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let each = rounds.div_ceil(DAEMONS);
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..DAEMONS).map(|_| scope.spawn(|| lane(each))).collect();
        lanes.into_iter().map(|lane| lane.join().unwrap_or_else(|failure| std::panic::resume_unwind(failure))).collect()
    })
}

#[test]
fn a_wrong_pin_is_counted_whenever_its_login_is_killed() {
    let rounds = if is_long() { 5000 } else { 24 };
    let told = in_lanes(rounds, |rounds| {
        let mut world = patient();
        let begun = Instant::now();
        assert_eq!(Worker::opened(&world).ok("wrong-pin"), "PinIncorrect");
        // A fifth longer than a login takes, so that some are answered.
        let whole = begun.elapsed() * 6 / 5;
        // Near the lock, so that the short version comes to it too.
        let mut guesser = Worker::opened(&world);
        (1..MAX - 2).for_each(|_| assert_eq!(guesser.ok("wrong-pin"), "PinIncorrect"));
        drop(guesser);
        let (mut asked, mut answered, mut locked) = (MAX - 2, MAX - 2, 0);
        let mut all = 0;
        for round in 0..rounds {
            let mut guesser = Worker::opened(&world);
            guesser.say("wrong-pin");
            asked += 1;
            thread::sleep(moment(round, whole));
            world.take_daemon().kill();
            if guesser.hear().as_deref() == Some("ok PinIncorrect") {
                answered += 1;
                all += 1;
            }
            world.start_daemon();
            let counted = failures(&world);
            assert!(answered <= counted && counted <= asked, "{answered} answered, {counted} counted, {asked} asked");
            (asked, answered) = (counted, counted);
            if counted == MAX {
                locked += 1;
                let mut so = Worker::opened(&world);
                assert_eq!(
                    so.ok(&format!("login-with user {PIN}")),
                    "PinLocked",
                    "the right PIN, after {MAX} wrong ones"
                );
                assert_eq!(so.ok(&format!("login-with so {SO_PIN}")), "ok");
                so.ok(&format!("init-pin {PIN}"));
                (asked, answered) = (0, 0);
                assert_eq!(failures(&world), 0);
            }
        }
        (all, locked)
    });
    let (answered, locked): (u64, u64) = told.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert!(locked > 0, "no PIN was ever locked");
    table(
        "kill -9 of a login",
        &format!("{rounds} wrong PINs, {answered} answered, none uncounted, {locked} times locked"),
    );
}

/// The PIN of a token that was killed in a change of its PIN: the old one or the new one, and which.
fn the_pin_that_works<'p>(worker: &mut Worker, old: &'p str, new: &'p str, answered: bool) -> &'p str {
    let says = [new, old].map(|pin| {
        let says = worker.ok(&format!("login-with user {pin}"));
        if says == "ok" {
            worker.ok("logout");
        }
        says
    });
    match [says[0].as_str(), says[1].as_str()] {
        ["ok", "PinIncorrect"] => new,
        ["PinIncorrect", "ok"] if !answered => old,
        other => panic!("new and old PIN: {other:?}, answered: {answered}"),
    }
}

#[test]
fn a_change_of_a_pin_that_is_killed_leaves_the_old_pin_or_the_new_one_and_every_key() {
    let rounds = if is_long() { 1000 } else { 20 };
    let told = in_lanes(rounds, |rounds| {
        let mut world = patient();
        let mut worker = Worker::opened(&world);
        worker.ok("login");
        worker.ok("token-key first");
        let keys = worker.ok("create-some kept 5");
        drop(worker);
        let (mut pin, mut changed) = (PIN.to_owned(), 0);
        for round in 0..rounds {
            let next = format!("next-pin-{round}");
            let by_so = round % 2 == 1;
            let mut worker = Worker::opened(&world);
            let (who, own) = if by_so { ("so", SO_PIN) } else { ("user", pin.as_str()) };
            assert_eq!(worker.ok(&format!("login-with {who} {own}")), "ok");
            let begun = Instant::now();
            assert_eq!(Worker::opened(&world).ok("wrong-pin"), "PinIncorrect");
            // A change by the user takes two derivations, one by the SO takes one.
            let whole = begun.elapsed() * if by_so { 6 } else { 12 } / 5;
            worker.say(&if by_so { format!("init-pin {next}") } else { format!("set-pin {pin} {next}") });
            thread::sleep(moment(round, whole));
            world.take_daemon().kill();
            let answered = worker.hear().is_some_and(|line| line.starts_with("ok"));
            world.start_daemon();
            let mut worker = Worker::opened(&world);
            let works = the_pin_that_works(&mut worker, &pin, &next, answered).to_owned();
            changed += u64::from(works == next);
            pin = works;
            assert_eq!(worker.ok(&format!("login-with user {pin}")), "ok");
            let labels = worker.ok("labels");
            let there: Vec<&str> = labels.split_whitespace().collect();
            assert!(keys.split_whitespace().all(|key| there.contains(&key)), "{labels}");
            assert_eq!(worker.ok("sign first 1 1"), "1");
        }
        changed
    });
    let changed: u64 = told.iter().sum();
    table(
        "kill -9 of a PIN change",
        &format!("{rounds} changes, {changed} had happened, one PIN works after each, no key lost"),
    );
}

#[test]
fn a_pin_that_cannot_be_counted_is_not_looked_at_and_counts_for_nobody() {
    let mut world = World::unstarted_for(Carrier::Express);
    let name = "pins::a_pin_that_cannot_be_counted_is_not_looked_at_and_counts_for_nobody";
    let Some(faults) = Faults::prepare(name, world.dir()) else { return };
    world.daemon_environment(faults.environment());
    world.start_daemon();
    world.init_token();
    let mut worker = Worker::opened(&world);
    for (calls, errno) in
        [(Calls::Write, Errno::FullDisk), (Calls::Write, Errno::BrokenDisk), (Calls::Sync, Errno::BrokenDisk)]
    {
        faults.fail(calls, errno, "vault.redb", 0);
        // More than lock a PIN, and more than a client has.
        for _ in 0..MAX {
            assert_eq!(worker.ok("wrong-pin"), "DeviceError", "{calls:?} {errno:?}");
            assert_eq!(worker.ok(&format!("login-with user {PIN}")), "DeviceError", "{calls:?} {errno:?}");
        }
        faults.heal();
        let begun = Instant::now();
        loop {
            match worker.ok(&format!("login-with user {PIN}")).as_str() {
                "ok" => break,
                "DeviceError" => assert!(begun.elapsed() < Duration::from_secs(180), "the store does not come back"),
                other => panic!("{calls:?} {errno:?}: {other}"),
            }
            thread::sleep(Duration::from_millis(20));
        }
        worker.ok("logout");
        assert_eq!(failures(&world), 0);
    }
}
