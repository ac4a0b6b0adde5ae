//! Signatures of one application while four others do nothing but log in. What is left of its throughput is measured, not demanded: it
//! depends on the machine. That all of them are served is demanded.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use acceptance::worker::Worker;
use acceptance::world::{PIN, World};

use crate::{is_long, table};

/// Applications that log in and out.
const FLOODERS: usize = 4;
/// Threads that sign.
const SIGNERS: usize = 4;

/// Signatures within a time.
fn signatures(world: &World, signer: &mut Worker, time: Duration) -> u64 {
    let flag = world.dir().join("sign");
    fs::write(&flag, "").expect("our own directory");
    signer.say(&format!("sign-while {} first {SIGNERS}", flag.display()));
    thread::sleep(time);
    fs::remove_file(&flag).expect("our own file");
    let said = signer.hear().expect("the signer is there");
    said.strip_prefix("ok ").and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("the signer said {said}"))
}

#[test]
fn signatures_go_on_while_others_do_nothing_but_log_in() {
    let (rounds, time) = if is_long() { (7, Duration::from_secs(3)) } else { (1, Duration::from_millis(500)) };
    let world = World::start();
    let mut signer = Worker::entered(&world);
    signer.ok("token-key first");
    let mut shares = Vec::new();
    let logins = AtomicU64::new(0);
    for _ in 0..rounds {
        let alone = signatures(&world, &mut signer, time);
        let over = AtomicBool::new(false);
        let beside = thread::scope(|scope| {
            for _ in 0..FLOODERS {
                let (world, over, logins) = (&world, &over, &logins);
                scope.spawn(move || {
                    let mut flooder = Worker::opened(world);
                    while !over.load(Ordering::Relaxed) {
                        assert_eq!(flooder.ok(&format!("login-with user {PIN}")), "ok");
                        flooder.ok("logout");
                        logins.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let beside = signatures(&world, &mut signer, time);
            over.store(true, Ordering::Relaxed);
            beside
        });
        assert!(alone > 0 && beside > 0, "{alone} signatures alone, {beside} beside the others");
        shares.push(beside * 100 / alone);
    }
    shares.sort_unstable();
    let (median, logins) = (shares[shares.len() / 2], logins.into_inner());
    table(
        "signatures during a flood of logins",
        &format!(
            "{SIGNERS} threads keep {median} % of their throughput beside {FLOODERS} applications with {logins} logins"
        ),
    );
}
