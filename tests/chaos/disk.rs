//! A disk that is full or broken, under store and journal, in a running daemon: nothing that was answered is lost, nothing is
//! answered without its record, and when the disk is well again the service goes on without a restart.

use std::collections::HashSet;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use acceptance::daemon::binary;
use acceptance::faults::{Calls, Errno, Faults};
use acceptance::tools::run;
use acceptance::worker::Worker;
use acceptance::world::{Carrier, World};

use crate::is_long;
use crate::journal::{files, records};

/// How long the service may need to go on once the disk is well. A second is usual.
const PATIENCE: Duration = Duration::from_secs(300);

/// Calls that fail while clients work, and where.
struct Row {
    calls: &'static [(Calls, Errno)],
    part: &'static str,
    load: Load,
}

/// What brings the calls about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// Keys and signatures.
    Some,
    /// So many keys that the store's file grows.
    Keys,
    /// So many signatures that the journal goes on in another file.
    Filling,
}

#[rustfmt::skip]
const ROWS: [Row; 15] = [
    Row { calls: &[(Calls::Write, Errno::FullDisk)], part: "vault.redb", load: Load::Some },
    Row { calls: &[(Calls::Write, Errno::BrokenDisk)], part: "vault.redb", load: Load::Some },
    Row { calls: &[(Calls::Sync, Errno::BrokenDisk)], part: "vault.redb", load: Load::Some },
    Row { calls: &[(Calls::Length, Errno::FullDisk)], part: "vault.redb", load: Load::Keys },
    // It cannot be opened again.
    Row { calls: &[(Calls::Sync, Errno::BrokenDisk), (Calls::Open, Errno::BrokenDisk)], part: "vault.redb", load: Load::Some },
    Row { calls: &[(Calls::Write, Errno::FullDisk)], part: "audit.jsonl", load: Load::Some },
    Row { calls: &[(Calls::Write, Errno::BrokenDisk)], part: "audit.jsonl", load: Load::Some },
    Row { calls: &[(Calls::Sync, Errno::BrokenDisk)], part: "audit.jsonl", load: Load::Some },
    Row { calls: &[(Calls::Write, Errno::ReadOnly), (Calls::Sync, Errno::ReadOnly)], part: "audit.jsonl", load: Load::Some },
    // What is written half is not cut off either.
    Row { calls: &[(Calls::Write, Errno::FullDisk), (Calls::Length, Errno::BrokenDisk)], part: "audit.jsonl", load: Load::Some },
    Row { calls: &[(Calls::Length, Errno::BrokenDisk)], part: "audit", load: Load::Filling },
    Row { calls: &[(Calls::Name, Errno::FullDisk)], part: "audit", load: Load::Filling },
    Row { calls: &[(Calls::Open, Errno::FullDisk)], part: "audit", load: Load::Filling },
    // Key, new file, both names and the directory: whichever comes at that point.
    Row { calls: &[(Calls::Write, Errno::FullDisk), (Calls::Sync, Errno::BrokenDisk), (Calls::Name, Errno::FullDisk), (Calls::Open, Errno::FullDisk)], part: "audit", load: Load::Filling },
    // All at once, as on one volume.
    Row { calls: &[(Calls::Write, Errno::FullDisk)], part: "craton-acceptance.", load: Load::Some },
];

/// How many calls of a kind succeed before the first that fails.
fn points(number: usize, row: &Row) -> Vec<i32> {
    match (is_long(), row.load) {
        (true, Load::Filling) => (0..16).collect(),
        (true, _) => (0..50).collect(),
        (false, Load::Some) => vec![0, 1, 2, 5, 13],
        (false, Load::Keys) => vec![0],
        // A file that is closed is cut once; it changes its name in several calls.
        (false, Load::Filling) if matches!(row.calls, [(Calls::Length, _)]) => vec![0],
        (false, Load::Filling) => vec![i32::try_from(number % 4).unwrap_or_default()],
    }
}

/// So many signatures fill more than the MiB of a file, together with what else is recorded.
const FULL: u64 = 3500;

/// What the clients were told.
#[derive(Default)]
pub(crate) struct Told {
    keys: Vec<String>,
    signatures: u64,
}

impl Told {
    /// Some keys are made and used; what fails, fails.
    pub(crate) fn work(&mut self, worker: &mut Worker, prefix: &str) -> (usize, u64) {
        self.work_much(worker, prefix, 3, 20)
    }

    /// So many keys and signatures; what fails, fails.
    pub(crate) fn work_much(&mut self, worker: &mut Worker, prefix: &str, keys: u64, signatures: u64) -> (usize, u64) {
        let keys = worker.ok(&format!("create-some {prefix} {keys}"));
        let keys: Vec<String> = keys.split_whitespace().map(str::to_owned).collect();
        let signed: u64 = worker.ok(&format!("sign-some first {signatures}")).parse().expect("a number");
        self.keys.extend(keys.iter().cloned());
        self.signatures += signed;
        (keys.len(), signed)
    }
}

/// Works until everything is answered again.
pub(crate) fn until_well(told: &mut Told, worker: &mut Worker, prefix: &str, world: &World) {
    let begun = Instant::now();
    let mut turn = 0;
    while told.work(worker, &format!("{prefix}again{turn}")) != (3, 20) {
        assert!(begun.elapsed() < PATIENCE, "{prefix}: no service\n{}", world.daemon().log());
        turn += 1;
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_full_or_broken_disk_costs_nothing_that_was_answered() {
    let mut world = World::unstarted_for(Carrier::Express);
    let name = "disk::a_full_or_broken_disk_costs_nothing_that_was_answered";
    let Some(faults) = Faults::prepare(name, world.dir()) else { return };
    world.write_config(&world.standard_config().replace("[audit]", "[audit]\nfile_max_mib = 1"));
    world.daemon_environment(faults.environment());
    world.start_daemon();
    world.init_token();
    let mut worker = Worker::entered(&world);
    worker.ok("token-key first");
    let mut told = Told::default();
    for (number, row) in ROWS.iter().enumerate() {
        let before = faults.failed();
        for point in points(number, row) {
            for (calls, errno) in row.calls {
                faults.fail(*calls, *errno, row.part, point);
            }
            let prefix = format!("r{number}p{point}");
            match row.load {
                Load::Some => drop(told.work(&mut worker, &prefix)),
                Load::Keys => drop(told.work_much(&mut worker, &prefix, 400, 20)),
                Load::Filling => {
                    let failed = faults.failed();
                    // The first may not be enough to fill a file, and a point may be one that no closing comes to.
                    let mut fills =
                        (0..3).map(|turn| told.work_much(&mut worker, &format!("{prefix}f{turn}"), 3, FULL));
                    fills.find(|_| faults.failed() > failed);
                }
            }
            faults.heal();
            until_well(&mut told, &mut worker, &prefix, &world);
        }
        assert!(faults.failed() > before, "{:?} on {}: nothing was called that could have failed", row.calls, row.part);
    }
    // What could not be closed is closed now, and its keys are certified.
    let closed = files(&world.journal()).len();
    let begun = Instant::now();
    while files(&world.journal()).len() == closed {
        assert!(begun.elapsed() < PATIENCE, "the journal's file is not closed\n{}", world.daemon().log());
        told.work_much(&mut worker, "end", 0, FULL);
    }
    told.check(&mut worker, &world, &world.journal());
    drop(worker);
    world.crash_and_restart();
    told.check(&mut Worker::entered(&world), &world, &world.journal());
}

/// The journal's directory goes away under a running daemon: nothing is answered that has no record, and when it is back so is the service.
/// When it was deleted, the daemon refuses everything until somebody has looked.
#[test]
fn a_journal_whose_directory_is_moved_away_is_answered_from_when_it_is_back() {
    let mut world = World::unstarted_for(Carrier::Express);
    let (place, away) = (world.dir().join("journal"), world.dir().join("journal.away"));
    world.write_config(&world.standard_config().replace("audit.jsonl", "journal/audit.jsonl"));
    world.start_daemon();
    world.init_token();
    let mut worker = Worker::entered(&world);
    worker.ok("token-key first");
    let mut told = Told::default();
    for turn in 0..3 {
        std::fs::rename(&place, &away).expect("our own directory");
        until_refused(&mut told, &mut worker, &format!("away{turn}"));
        std::fs::rename(&away, &place).expect("our own directory");
        until_well(&mut told, &mut worker, &format!("back{turn}"), &world);
    }
    told.check(&mut worker, &world, &place.join("audit.jsonl"));
    std::fs::remove_dir_all(&place).expect("our own directory");
    // Those that were answered before the next fsync went with the journal.
    until_refused(&mut Told::default(), &mut worker, "gone");
    assert_eq!(Told::default().work(&mut worker, "gone-for-good"), (0, 0));
    assert!(!world.admin(["status"]).status.success(), "the daemon's health tells");
}

/// Works until nothing is answered.
pub(crate) fn until_refused(told: &mut Told, worker: &mut Worker, prefix: &str) {
    let begun = Instant::now();
    let mut turn = 0;
    while told.work_much(worker, &format!("{prefix}n{turn}"), 3, 200) != (0, 0) {
        assert!(begun.elapsed() < PATIENCE, "{prefix}: it goes on");
        turn += 1;
    }
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
    let mut worker = Worker::opened(&world);
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
    pub(crate) fn check(&self, worker: &mut Worker, world: &World, journal: &Path) {
        let labels = worker.ok("labels");
        let stored: HashSet<&str> = labels.split_whitespace().collect();
        let lost: Vec<&String> = self.keys.iter().filter(|key| !stored.contains(key.as_str())).collect();
        assert!(lost.is_empty(), "{} of {} keys are lost: {lost:?}", lost.len(), self.keys.len());
        world.admin(["audit", "verify"]).ok();
        let recorded = records(journal, "\"op\":\"sign\"", "\"rv\":\"CKR_OK\"");
        assert!(recorded >= self.signatures, "{recorded} records of {} signatures", self.signatures);
        let made = records(journal, "\"op\":\"generate_key_pair\"", "\"change\":true");
        assert!(made > self.keys.len() as u64, "{made} records of {} keys", self.keys.len());
    }
}

/// What may fail while an archive is written.
const OF_ARCHIVES: [(Calls, Errno); 5] = [
    (Calls::Write, Errno::FullDisk),
    (Calls::Write, Errno::BrokenDisk),
    (Calls::Sync, Errno::BrokenDisk),
    (Calls::Name, Errno::FullDisk),
    (Calls::Open, Errno::ReadOnly),
];

/// Each call in turn fails by which a backup makes its file.
#[test]
fn a_backup_onto_a_broken_disk_is_whole_or_not_there() {
    let mut world = World::unstarted_for(Carrier::Express);
    let name = "disk::a_backup_onto_a_broken_disk_is_whole_or_not_there";
    let Some(faults) = Faults::prepare(name, world.dir()) else { return };
    world.start_daemon();
    world.init_token();
    Worker::entered(&world).ok("create-some bulk 20");
    let file = world.dir().join("token.backup");
    for (calls, errno) in OF_ARCHIVES {
        for point in 0.. {
            let before = faults.failed();
            faults.fail(calls, errno, "token.backup", point);
            let mut command = world.command(binary("craton-hsm-admin"));
            command.arg("--config").arg(world.config()).envs(faults.environment());
            let made = run(command.args(["backup", "--pin", "env:SO_PIN", "--output", "token.backup"]));
            faults.heal();
            let when = format!("{calls:?} {errno:?} after {point}: {made}");
            assert!(made.status.code().is_some(), "{when}");
            assert!(file.exists() || !made.status.success(), "{when}");
            if file.exists() {
                world.admin(["backup", "verify", "token.backup", "--pin", "env:SO_PIN"]).ok();
                std::fs::remove_file(&file).expect("our own file");
            }
            if faults.failed() == before {
                assert!(point > 0 && made.status.success(), "{when}: nothing was called that could have failed");
                break;
            }
        }
    }
    world.admin(["backup", "--pin", "env:SO_PIN", "--output", "token.backup"]).ok();
}

/// The same for the copy that the daemon keeps in another directory.
#[test]
fn a_copy_onto_a_broken_disk_leaves_a_whole_one_and_follows_again() {
    let mut world = World::unstarted_for(Carrier::Express);
    let name = "disk::a_copy_onto_a_broken_disk_leaves_a_whole_one_and_follows_again";
    let Some(faults) = Faults::prepare(name, world.dir()) else { return };
    world.admin(["backup", "keygen", "--output", "stream.key"]).ok();
    world.configure("[backup]\nstream = \"copies\"\nstream_recipients = [\"stream.key.pub\"]\n");
    world.daemon_environment(faults.environment());
    world.start_daemon();
    world.init_token();
    let mut worker = Worker::entered(&world);
    let newest = |when: &str| {
        let begun = Instant::now();
        loop {
            // Its exit status says that there is no copy of the newest state, too.
            let said = world.admin(["--json", "status"]);
            let status: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
            if status["store_generation"] == status["stream"]["generation"] {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{when}: the copy does not follow: {status}");
            thread::sleep(Duration::from_millis(50));
        }
    };
    newest("at first");
    for (calls, errno) in OF_ARCHIVES {
        for point in if is_long() { 0..12 } else { 0..2 } {
            let (before, begun) = (faults.failed(), Instant::now());
            faults.fail(calls, errno, "/copies/", point);
            let when = format!("{calls:?} {errno:?} after {point}");
            let mut turn = 0;
            while faults.failed() == before {
                worker.ok(&format!("create-some {calls:?}{point}n{turn} 1"));
                assert!(begun.elapsed() < PATIENCE, "{when}: nothing was called that could have failed");
                turn += 1;
                thread::sleep(Duration::from_millis(50));
            }
            // While it fails the copies change their names again and again.
            let whole = |copy: &str| {
                let verify = || world.admin(["backup", "verify", copy, "--secret-key", "stream.key"]).status.success();
                let there = || world.dir().join(copy).exists();
                let verified = (0..3).any(|_| verify());
                assert!(verified || !there(), "{when}: {copy} is not whole");
                verified
            };
            let whole =
                ["copies/stream.enc", "copies/stream.previous.enc"].into_iter().filter(|copy| whole(copy)).count();
            assert!(whole > 0, "{when}: no copy is left");
            faults.heal();
            newest(&when);
        }
    }
}
