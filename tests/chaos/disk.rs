//! A disk that is full or broken, under store and journal, in a running daemon: nothing that was answered is lost, nothing is
//! answered without its record, and when the disk is well again the service goes on without a restart.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use acceptance::faults::{Calls, Errno, Faults};
use acceptance::worker::Worker;
use acceptance::world::{Carrier, World};

use crate::is_long;
use crate::journal::records;

/// How long the service may need to go on once the disk is well. A second is usual.
const PATIENCE: Duration = Duration::from_secs(60);

/// What fails, how, and under which of the daemon's files.
const ROWS: [(Calls, Errno, &str); 7] = [
    (Calls::Write, Errno::FullDisk, "vault.redb"),
    (Calls::Write, Errno::BrokenDisk, "vault.redb"),
    (Calls::Sync, Errno::BrokenDisk, "vault.redb"),
    (Calls::Write, Errno::FullDisk, "audit.jsonl"),
    (Calls::Write, Errno::BrokenDisk, "audit.jsonl"),
    (Calls::Sync, Errno::BrokenDisk, "audit.jsonl"),
    // Both at once, as on one volume.
    (Calls::Write, Errno::FullDisk, "craton-acceptance."),
];

/// How many calls of a kind succeed before the first that fails.
fn points() -> Vec<i32> {
    if is_long() { (0..50).collect() } else { vec![0, 1, 2, 5, 13] }
}

/// What the clients were told.
#[derive(Default)]
struct Told {
    keys: Vec<String>,
    signatures: u64,
}

impl Told {
    /// Some keys are made and used; what fails, fails.
    fn work(&mut self, worker: &mut Worker, prefix: &str) -> (usize, u64) {
        let keys: Vec<String> =
            worker.ok(&format!("create-some {prefix} 3")).split_whitespace().map(str::to_owned).collect();
        let signed: u64 = worker.ok("sign-some first 20").parse().expect("a number");
        self.keys.extend(keys.iter().cloned());
        self.signatures += signed;
        (keys.len(), signed)
    }
}

#[test]
fn a_full_or_broken_disk_costs_nothing_that_was_answered() {
    let mut world = World::unstarted_for(Carrier::Express);
    let name = "disk::a_full_or_broken_disk_costs_nothing_that_was_answered";
    let Some(faults) = Faults::prepare(name, world.dir()) else { return };
    world.daemon_environment(faults.environment());
    world.start_daemon();
    world.init_token();
    let mut worker = Worker::start(&world);
    worker.ok("open");
    worker.ok("login");
    worker.ok("token-key first");
    let mut told = Told::default();
    for (row, (calls, errno, part)) in ROWS.into_iter().enumerate() {
        let before = faults.failed();
        for point in points() {
            faults.fail(calls, errno, part, point);
            told.work(&mut worker, &format!("r{row}p{point}"));
            faults.heal();
            let begun = Instant::now();
            let mut turn = 0;
            while told.work(&mut worker, &format!("r{row}p{point}again{turn}")) != (3, 20) {
                assert!(
                    begun.elapsed() < PATIENCE,
                    "{calls:?} {errno:?} {part} {point}: no service\n{}",
                    world.daemon().log()
                );
                turn += 1;
                thread::sleep(Duration::from_millis(20));
            }
        }
        assert!(faults.failed() > before, "{calls:?} on {part}: nothing was called that could have failed");
    }
    told.check(&mut worker, &world);
    drop(worker);
    world.crash_and_restart();
    let mut worker = Worker::start(&world);
    worker.ok("open");
    worker.ok("login");
    told.check(&mut worker, &world);
}

/// It was done, its record could not be made durable, and the caller was told of a failure: the application was logged in all the same.
#[test]
fn a_login_that_could_not_be_recorded_is_none() {
    let mut world = World::unstarted_for(Carrier::Express);
    let name = "disk::a_login_that_could_not_be_recorded_is_none";
    let Some(faults) = Faults::prepare(name, world.dir()) else { return };
    world.daemon_environment(faults.environment());
    world.start_daemon();
    world.init_token();
    let mut worker = Worker::start(&world);
    worker.ok("open");
    let before = worker.ok("state");
    faults.fail(Calls::Sync, Errno::BrokenDisk, "audit.jsonl", 0);
    let answer = worker.ask("login");
    assert!(answer.starts_with("error"), "{answer}");
    assert_eq!(worker.ok("state"), before);
    faults.heal();
    let begun = Instant::now();
    while worker.ask("login") != "ok" {
        assert!(begun.elapsed() < PATIENCE, "no login\n{}", world.daemon().log());
        thread::sleep(Duration::from_millis(20));
    }
    assert_ne!(worker.ok("state"), before);
}

impl Told {
    /// Every key that was acknowledged is there and every signature has its record.
    fn check(&self, worker: &mut Worker, world: &World) {
        let labels = worker.ok("labels");
        let stored: HashSet<&str> = labels.split_whitespace().collect();
        let lost: Vec<&String> = self.keys.iter().filter(|key| !stored.contains(key.as_str())).collect();
        assert!(lost.is_empty(), "{} of {} keys are lost: {lost:?}", lost.len(), self.keys.len());
        world.admin(["audit", "verify"]).ok();
        let recorded = records(&world.journal(), "\"op\":\"sign\"", "\"rv\":\"CKR_OK\"");
        assert!(recorded >= self.signatures, "{recorded} records of {} signatures", self.signatures);
        let made = records(&world.journal(), "\"op\":\"generate_key_pair\"", "\"change\":true");
        assert!(made > self.keys.len() as u64, "{made} records of {} keys", self.keys.len());
    }
}
