//! A daemon under load for a while: its memory, its descriptors and its threads do not grow. The short version sees that they settle at
//! all; hours are `make chaos`'s.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use acceptance::worker::Worker;
use acceptance::world::World;

use crate::{is_long, table};

/// What the daemon holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    memory_kib: u64,
    descriptors: usize,
    threads: usize,
}

fn held(pid: u32) -> Held {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon runs");
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel says");
        line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
    };
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    Held { memory_kib: number("VmRSS:"), descriptors, threads: usize::try_from(number("Threads:")).expect("few") }
}

fn turns() -> u32 {
    let seconds = || std::env::var("SOAK_SECONDS").ok().and_then(|word| word.parse().ok());
    if is_long() { seconds().unwrap_or(1800) / 6 } else { 4 }
}

#[test]
fn a_busy_daemon_grows_no_further_once_it_is_warm() {
    let mut world = World::start();
    let mut first = Worker::entered(&world);
    first.ok("token-key first");
    let pid = world.daemon().pid();
    let turn = |number: u32| {
        // Applications come, work, and go, one of them without a goodbye.
        let mut workers: Vec<Worker> = (0..3).map(|_| Worker::entered(&world)).collect();
        for (index, worker) in workers.iter_mut().enumerate() {
            worker.ok("sign first 2 100");
            worker.ok(&format!("session-object s{index}"));
            worker.ok(&format!("churn n{number}w{index} 5"));
        }
        workers.pop().expect("three").vanish();
        drop(workers);
        let mut before = held(pid);
        let is_still = |now: Held| {
            let (earlier, now) = (std::mem::replace(&mut before, now), now);
            (earlier.descriptors, earlier.threads) == (now.descriptors, now.threads)
        };
        settled(pid, is_still).unwrap_or_else(|now| now)
    };
    let begun = Instant::now();
    turn(0);
    let warm = turn(1);
    let turns = turns();
    for number in 2..2 + turns {
        turn(number);
    }
    let last = settled(pid, |now| now.descriptors <= warm.descriptors && now.threads <= warm.threads)
        .unwrap_or_else(|now| panic!("{warm:?} became {now:?}"));
    // The journal's and the allocator's rounding; what is lost every turn is many times that over hours.
    assert!(last.memory_kib <= warm.memory_kib * 3 / 2 + 16 * 1024, "{warm:?} became {last:?}");
    table("soak", &format!("{turns} turns in {:?}: {warm:?} became {last:?}", begun.elapsed()));
    world.stop_daemon();
    world.start_daemon();
    world.admin(["audit", "verify"]).ok();
}

/// What is held once it is as it should be; after some minutes what is held all the same.
fn settled(pid: u32, mut is_settled: impl FnMut(Held) -> bool) -> Result<Held, Held> {
    let begun = Instant::now();
    loop {
        thread::sleep(Duration::from_millis(50));
        let now = held(pid);
        if is_settled(now) {
            return Ok(now);
        }
        if begun.elapsed() > Duration::from_secs(180) {
            return Err(now);
        }
    }
}
