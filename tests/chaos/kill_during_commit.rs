//! kill -9 of the daemon while four clients create keys, twenty times. A key that was acknowledged is never lost: the answer went
//! out only after the commit was durable.

use std::collections::HashSet;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use acceptance::worker::Worker;
use acceptance::world::World;

const ROUNDS: u64 = 20;
const CLIENTS: u64 = 4;

#[test]
fn no_acknowledged_key_is_lost() {
    let mut world = World::start();
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..ROUNDS {
        let (first, started) = mpsc::channel();
        let clients: Vec<_> = (0..CLIENTS).map(|client| creating(&world, round, client, first.clone())).collect();
        for _ in 0..CLIENTS {
            started.recv_timeout(Duration::from_secs(60)).expect("every client creates keys");
        }
        // A different moment of the stream in every round; all clients are in the middle of it.
        thread::sleep(Duration::from_millis(5 + round * 13 % 100));
        world.crash_and_restart();
        let before = acknowledged.len();
        for client in clients {
            acknowledged.extend(client.join().expect("a listening thread does not panic"));
        }
        assert!(acknowledged.len() > before, "round {round}: nobody created anything");
        let mut reader = Worker::start(&world);
        reader.ok("open");
        reader.ok("login");
        let labels = reader.ok("labels");
        let stored: HashSet<&str> = labels.split_whitespace().collect();
        let lost: Vec<&String> = acknowledged.iter().filter(|label| !stored.contains(label.as_str())).collect();
        assert!(
            lost.is_empty(),
            "round {round}: {} of {} acknowledged keys are lost: {lost:?}",
            lost.len(),
            acknowledged.len()
        );
        reader.ok(&format!("sign {} 1 1", acknowledged[acknowledged.len() - 1]));
    }
    world.admin(["audit", "verify"]).ok();
    assert!(acknowledged.len() > 100, "only {} keys in {ROUNDS} rounds: this was no load", acknowledged.len());
}

/// A client that creates keys until its daemon is gone; gives what was acknowledged.
fn creating(world: &World, round: u64, client: u64, first: mpsc::Sender<()>) -> thread::JoinHandle<Vec<String>> {
    let mut worker = Worker::start(world);
    worker.ok("open");
    worker.ok("login");
    worker.say(&format!("create r{round}c{client}"));
    thread::spawn(move || {
        let mut labels = Vec::new();
        while let Some(line) = worker.hear() {
            if line.starts_with("error") || line.starts_with("ok") {
                break;
            }
            labels.push(line);
            if labels.len() == 1 && first.send(()).is_err() {
                break;
            }
        }
        labels
    })
}
