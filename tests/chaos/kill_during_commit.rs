//! kill -9 of the daemon while eight clients make, change, copy, destroy and use keys, again and again. What was acknowledged is true
//! after the restart, what was in flight has happened or not, nothing else has changed, every signature has its record, and no wrong
//! PIN is forgotten.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use acceptance::worker::Worker;
use acceptance::world::World;

use crate::journal::{generations, records};
use crate::oracle::{Oracle, ids};
use crate::{is_long, table};

/// Applications, and threads of each: eight clients.
const APPLICATIONS: usize = 2;
const THREADS: usize = 4;
/// Changes that are acknowledged in every round before the kill. A thread signs between its first and its second.
const LOAD: usize = 2 * APPLICATIONS * THREADS;

fn rounds() -> usize {
    match std::env::var("CHAOS_ROUNDS").ok().and_then(|word| word.parse().ok()) {
        Some(rounds) => rounds,
        None if is_long() => 2000,
        None => 200,
    }
}

/// Daemons side by side, each with a store and an oracle of its own: while one starts, the others work.
const DAEMONS: usize = 4;

#[test]
fn what_was_acknowledged_survives_every_kill() {
    let rounds = rounds().div_ceil(DAEMONS);
    let told: Vec<Told> = thread::scope(|scope| {
        let running: Vec<_> =
            (0..DAEMONS).map(|lane| scope.spawn(move || killed_again_and_again(lane, rounds))).collect();
        running
            .into_iter()
            .map(|lane| lane.join().unwrap_or_else(|failure| std::panic::resume_unwind(failure)))
            .collect()
    });
    let sum = |of: fn(&Told) -> u64| told.iter().map(of).sum::<u64>();
    let (changes, signatures) = (sum(|told| told.changes), sum(|told| told.signatures));
    let kills = rounds * DAEMONS;
    assert!(changes > 5 * kills as u64 && signatures > kills as u64, "this was no load");
    let worst = told.iter().map(|told| told.slowest).max().unwrap_or_default();
    table(
        "kill -9",
        &format!(
            "{kills} kills of {DAEMONS} daemons, {changes} changes, {signatures} signatures, slowest restart {worst:?}"
        ),
    );
}

/// What one daemon's clients were told.
struct Told {
    changes: u64,
    signatures: u64,
    slowest: Duration,
}

fn killed_again_and_again(lane: usize, rounds: usize) -> Told {
    let mut world = World::start();
    let mut reader = Worker::entered(&world);
    reader.ok("token-key first");
    drop(reader);
    let (mut oracle, mut slowest) = (Oracle::default(), Duration::ZERO);
    for round in 0..rounds {
        let (first, started) = mpsc::channel();
        let clients: Vec<_> = (0..APPLICATIONS).map(|number| busy(&world, round, number, first.clone())).collect();
        // However slow the machine is.
        for _ in 0..LOAD {
            started.recv_timeout(Duration::from_secs(180)).expect("the applications change keys");
        }
        // A different moment of the stream in every round; all clients are in the middle of it.
        thread::sleep(Duration::from_millis(5 + (round * DAEMONS + lane) as u64 * 13 % 100));
        let wrong = round % 10 == 9;
        let guesses = if wrong { wrong_pins(&world) } else { 0 };
        world.take_daemon().kill();
        let begun = Instant::now();
        world.start_daemon();
        slowest = slowest.max(begun.elapsed());
        for client in clients {
            client.join().expect("a listening thread does not panic").iter().for_each(|line| oracle.hear(line));
        }
        if wrong {
            let tokens = world.admin_json(["token", "info"]).to_string();
            assert!(tokens.contains(&format!("\"user_pin_failures\":{guesses}")), "round {round}: {tokens}");
        }
        let mut reader = Worker::entered(&world);
        oracle.check(&format!("round {round}"), &ids(&reader.ok("ids")));
        assert_eq!(reader.ok("sign first 1 1"), "1");
    }
    world.admin(["audit", "verify"]).ok();
    let recorded = records(&world.journal(), "\"op\":\"sign\"", "\"rv\":\"CKR_OK\"");
    assert!(recorded >= oracle.signatures, "{recorded} records of {} signatures", oracle.signatures);
    // Every change has one record: those that were answered, and those whose answer the kill took.
    let generations = generations(&world.journal());
    let twice = generations.windows(2).find(|pair| pair[0] == pair[1]);
    assert!(twice.is_none(), "two records of the change {twice:?}");
    assert!(generations.len() as u64 >= oracle.changes, "{} records of {} changes", generations.len(), oracle.changes);
    let made = records(&world.journal(), "\"op\":\"copy_object\"", "\"change\":true");
    let there = oracle.there();
    assert!(made >= there, "{made} records of {there} keys that are there");
    Told { changes: oracle.changes, signatures: oracle.signatures, slowest }
}

/// Wrong PINs of another application; how many were answered.
fn wrong_pins(world: &World) -> usize {
    let mut guesser = Worker::opened(world);
    (0..2).filter(|_| guesser.ok("wrong-pin") == "PinIncorrect").count()
}

/// An application whose threads change keys until its daemon is gone; gives what it said.
fn busy(world: &World, round: usize, number: usize, first: mpsc::Sender<()>) -> thread::JoinHandle<Vec<String>> {
    let mut worker = Worker::entered(world);
    worker.say(&format!("busy r{round}a{number} {THREADS}"));
    thread::spawn(move || {
        let mut lines = Vec::new();
        while let Some(line) = worker.hear() {
            if line.starts_with("error") || line.starts_with("ok") {
                break;
            }
            let acknowledged = line.starts_with("did");
            lines.push(line);
            // Nobody listens once all have begun.
            if acknowledged {
                first.send(()).unwrap_or_default();
            }
        }
        lines
    })
}
