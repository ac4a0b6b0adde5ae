//! Loss of power under the real programs: daemon, backup and restore. What they do to files is written down once; then a disk that lost
//! power after each of those steps is made, with what was not synced there, gone, or there in parts, and a daemon starts on it. It
//! starts, holds what was acknowledged by then, its journal verifies and has every record, and an archive is whole or not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;
use std::time::Instant;

use acceptance::daemon::binary;
use acceptance::faults::{Calls, Errno, Faults};
use acceptance::power::{Loss, Model, Step, Trace};
use acceptance::worker::Worker;
use acceptance::world::{Carrier, World};

use crate::disk::{Told, until_well};
use crate::journal::records;
use crate::{is_long, table};

/// What belongs to the token: its store, its journal, copies and archives.
fn concerns(name: &str) -> bool {
    ["store", "audit", "copies", "token.backup"].iter().any(|part| name.starts_with(part))
        || name.ends_with(".backup.new")
}

/// So many signatures fill a file of the journal.
const FULL: u64 = 3500;

/// The points at which the power goes, of so many: every one, or about so many of them.
fn points(steps: &[Step], about: usize) -> BTreeSet<usize> {
    if is_long() {
        return (0..=steps.len()).collect();
    }
    // Around changes of names most can go wrong: of those, and of all.
    let names = |at: &usize| {
        matches!(
            steps.get(*at),
            Some(Step::Rename { .. } | Step::Link { .. } | Step::Remove { .. } | Step::Create { .. })
        )
    };
    let of_names: Vec<usize> = (0..steps.len()).filter(names).map(|at| at + 1).collect();
    let every = |of: usize| (of / (about / 2)).max(1);
    let all = (0..=steps.len()).step_by(every(steps.len()));
    of_names.iter().copied().step_by(every(of_names.len())).chain(all).collect()
}

/// What was known when the power went.
#[derive(Default)]
struct Known {
    keys: BTreeSet<String>,
    /// Asked for: both halves of the pair are there, or none.
    asked: BTreeSet<String>,
    /// To be destroyed, half after half.
    going: BTreeSet<String>,
    initialised: bool,
    signatures: u64,
    /// Of those, answered when the last fsync of the journal's file ended, and the last but one: a group of records is made before its
    /// fsync begins, so the next takes what was answered meanwhile.
    at_last_sync: u64,
    durable_signatures: u64,
    journal: BTreeSet<u64>,
}

impl Known {
    fn hear(&mut self, step: &Step) {
        match step {
            Step::Mark(text) => match text.split_whitespace().collect::<Vec<_>>()[..] {
                ["initialised"] => self.initialised = true,
                ["asked", key] => drop(self.asked.insert(key.to_owned())),
                ["made", key] => drop((self.asked.remove(key), self.keys.insert(key.to_owned()))),
                ["destroying", key] => drop((self.keys.remove(key), self.going.insert(key.to_owned()))),
                ["destroyed", key] => drop(self.going.remove(key)),
                ["restarted"] => {}
                ["signed", count] => self.signatures += count.parse::<u64>().expect("a number"),
                _ => panic!("a mark {text:?}"),
            },
            Step::Sync { inode, failed: false } if self.journal.contains(inode) => {
                self.durable_signatures = std::mem::replace(&mut self.at_last_sync, self.signatures);
            }
            // The journal's file goes on under its name as another one.
            Step::Create { path, inode } | Step::Rename { inode, to: path, .. }
                if path.ends_with("audit.jsonl") || path.ends_with("audit.jsonl.new") =>
            {
                self.journal.insert(*inode);
            }
            _ => {}
        }
    }
}

/// Asks for a key; whether there was one.
fn try_to_make(worker: &mut Worker, trace: &Trace, label: &str) -> bool {
    trace.mark(&format!("asked {label}"));
    let is_made = worker.ask(&format!("token-key {label}")).starts_with("ok");
    if is_made {
        trace.mark(&format!("made {label}"));
    }
    is_made
}

fn make(worker: &mut Worker, trace: &Trace, labels: &[String]) {
    for label in labels {
        assert!(try_to_make(worker, trace, label), "{label} is refused");
    }
}

fn destroy(worker: &mut Worker, trace: &Trace, label: &str) {
    trace.mark(&format!("destroying {label}"));
    worker.ok(&format!("destroy {label}"));
    trace.mark(&format!("destroyed {label}"));
}

fn sign(worker: &mut Worker, trace: &Trace, count: u64) {
    let signed = worker.ok(&format!("sign-some k0 {count}"));
    trace.mark(&format!("signed {signed}"));
}

fn labels(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|number| format!("k{number}")).collect()
}

/// A daemon with a token, all of whose steps are written down, and the disk that it began with.
struct Story {
    world: World,
    faults: Faults,
    trace: Trace,
    model: Model,
}

impl Story {
    fn begin(test: &str, prepare: impl FnOnce(&World)) -> Option<Story> {
        let mut world = World::unstarted_for(Carrier::Express);
        let faults = Faults::prepare(test, world.dir())?;
        prepare(&world);
        let trace = Trace::of(world.dir());
        let model = Model::of(world.dir(), concerns);
        world.daemon_environment([faults.environment(), trace.environment()].concat());
        world.start_daemon();
        world.init_token();
        trace.mark("initialised");
        Some(Story { world, faults, trace, model })
    }
}

#[test]
fn a_daemon_that_lost_power_after_any_step_holds_what_was_acknowledged() {
    let name = "power::a_daemon_that_lost_power_after_any_step_holds_what_was_acknowledged";
    let prepare = |world: &World| {
        let config = world.standard_config().replace("[audit]", "[audit]\nfile_max_mib = 1");
        world.admin(["backup", "keygen", "--output", "stream.key"]).ok();
        let stream = "[backup]\nstream = \"copies\"\nstream_recipients = [\"stream.key.pub\"]\n";
        world.write_config(&format!("{config}{stream}"));
    };
    let Some(Story { mut world, trace, mut model, .. }) = Story::begin(name, prepare) else { return };
    let mut worker = Worker::entered(&world);
    make(&mut worker, &trace, &labels(0, 4));
    destroy(&mut worker, &trace, "k1");
    sign(&mut worker, &trace, 30);
    for turn in 4..6 {
        sign(&mut worker, &trace, FULL);
        make(&mut worker, &trace, &labels(turn, turn + 1));
    }
    drop(worker);
    world.stop_daemon();
    // A second run: what a start does to what is there.
    world.start_daemon();
    let mut worker = Worker::entered(&world);
    make(&mut worker, &trace, &labels(10, 13));
    sign(&mut worker, &trace, 10);
    drop(worker);
    world.stop_daemon();
    world.daemon_environment(Vec::new());
    let steps = trace.take();
    let points = points(&steps, 40);
    let begun = Instant::now();
    let mut known = Known::default();
    let mut tried = 0;
    for at in 0..=steps.len() {
        if points.contains(&at) {
            let losses: Vec<Loss> = match is_long() {
                true if model.is_in_doubt() => Loss::ALL.to_vec(),
                true => vec![Loss::Nothing],
                // The one with most ways to go wrong more often than the others.
                false => {
                    vec![[Loss::Some, Loss::Everything, Loss::Some, Loss::Names, Loss::Some, Loss::Bytes][tried % 6]]
                }
            };
            for loss in losses {
                model.lose(loss, at as u64, concerns);
                let before = steps.get(at.wrapping_sub(1)).map(brief);
                check(
                    &world,
                    &known,
                    &format!("power gone after step {at} of {} ({before:?}), lost {loss:?}", steps.len()),
                );
                tried += 1;
            }
        }
        if let Some(step) = steps.get(at) {
            model.play(step);
            known.hear(step);
        }
    }
    let what = format!("{} steps, {tried} losses, in {:?}", steps.len(), begun.elapsed());
    table("loss of power under a daemon", &what);
}

/// How many halves of each pair of keys are there, of those that the stories name.
fn halves(world: &World) -> BTreeMap<String, usize> {
    let keys = world.admin_json(["key", "list", "--pin", "env:PIN"]);
    let rows = keys.as_array().or_else(|| keys["keys"].as_array()).expect("a list of keys");
    let mut halves = BTreeMap::new();
    for label in rows.iter().filter_map(|row| row["label"].as_str()).filter(|label| label.starts_with('k')) {
        *halves.entry(label.to_owned()).or_default() += 1;
    }
    halves
}

/// A step without its bytes.
fn brief(step: &Step) -> String {
    match step {
        Step::Write { inode, at, data } => format!("{} bytes at {at} of {inode}", data.len()),
        other => format!("{other:?}"),
    }
}

fn check(world: &World, known: &Known, when: &str) {
    let daemon = world.try_start().unwrap_or_else(|why| panic!("{when}: {why}"));
    if known.initialised {
        let halves = halves(world);
        let lost: Vec<&String> = known.keys.iter().filter(|key| halves.get(*key) != Some(&2)).collect();
        assert!(lost.is_empty(), "{when}: {lost:?} are lost: {halves:?}");
        for (key, halves) in halves {
            let may_be = known.keys.contains(&key) || known.asked.contains(&key) && halves == 2;
            assert!(may_be || known.going.contains(&key), "{when}: {halves} halves of {key}, which nobody has");
        }
    }
    daemon.kill();
    let verified = world.admin(["audit", "verify"]);
    assert!(verified.status.success(), "{when}: {verified}");
    let made = records(&world.journal(), "\"op\":\"generate_key_pair\"", "\"change\":true");
    assert!(made >= known.keys.len() as u64, "{when}: {made} records of {} keys", known.keys.len());
    let signed = records(&world.journal(), "\"op\":\"sign\"", "\"rv\":\"CKR_OK\"");
    assert!(signed >= known.durable_signatures, "{when}: {signed} records of {}", known.durable_signatures);
    for copy in ["stream.enc", "stream.previous.enc"] {
        let copy = world.dir().join("copies").join(copy);
        if copy.exists() {
            let path = copy.to_str().expect("a plain name");
            let verified = world.admin(["backup", "verify", path, "--secret-key", "stream.key"]);
            assert!(verified.status.success(), "{when}: {verified}");
        }
    }
}

/// The system takes pages whose fsync failed for written, so the next fsync does nothing about them. Nothing that is acknowledged later may
/// need them.
#[test]
fn nothing_acknowledged_after_a_failed_fsync_needs_what_it_lost() {
    let name = "power::nothing_acknowledged_after_a_failed_fsync_needs_what_it_lost";
    let Some(Story { mut world, faults, trace, mut model }) = Story::begin(name, |_| {}) else { return };
    let mut worker = Worker::entered(&world);
    worker.ok("token-key first");
    let mut next = 0;
    for (turn, part) in ["vault.redb", "audit.jsonl", "vault.redb"].into_iter().enumerate() {
        faults.fail(Calls::Sync, Errno::BrokenDisk, part, i32::try_from(turn).expect("small"));
        let before = faults.failed();
        while faults.failed() == before {
            try_to_make(&mut worker, &trace, &format!("k{next}"));
            next += 1;
        }
        faults.heal();
        until_well(&mut Told::default(), &mut worker, &format!("turn{turn}"), &world);
        make(&mut worker, &trace, &labels(next, next + 1));
        next += 1;
    }
    drop(worker);
    world.take_daemon().kill();
    world.daemon_environment(Vec::new());
    let mut known = Known::default();
    let steps = trace.take();
    for (at, step) in steps.iter().enumerate() {
        model.play(step);
        known.hear(step);
        if is_mark(step, "made") {
            let loss = if at % 2 == 0 { Loss::Everything } else { Loss::Some };
            model.lose(loss, at as u64, concerns);
            check(&world, &known, &format!("power gone after step {at} of {}, lost {loss:?}", steps.len()));
        }
    }
}

/// As above, and the daemon ends before it can do anything about it. The next one finds in its files what the system's memory holds, and a
/// part of that never came to the disk.
#[test]
fn nothing_acknowledged_after_a_restart_needs_what_a_failed_fsync_lost() {
    let name = "power::nothing_acknowledged_after_a_restart_needs_what_a_failed_fsync_lost";
    let Some(Story { mut world, faults, trace, mut model }) = Story::begin(name, |_| {}) else { return };
    let mut worker = Worker::entered(&world);
    make(&mut worker, &trace, &labels(0, 1));
    let mut next = 1;
    // A commit takes two fsyncs of the store, one for what it wrote and one for its being there.
    for turn in 0..8 {
        faults.fail(Calls::Sync, Errno::BrokenDisk, ["vault.redb", "audit.jsonl"][turn % 2], turn as i32 / 2);
        let before = faults.failed();
        while faults.failed() == before {
            sign(&mut worker, &trace, 10);
            try_to_make(&mut worker, &trace, &format!("k{next}"));
            next += 1;
        }
        world.take_daemon().kill();
        faults.heal();
        trace.mark("restarted");
        world.start_daemon();
        worker = Worker::entered(&world);
        make(&mut worker, &trace, &labels(next, next + 1));
        sign(&mut worker, &trace, 10);
        make(&mut worker, &trace, &labels(next + 1, next + 2));
        next += 2;
    }
    drop(worker);
    world.take_daemon().kill();
    world.daemon_environment(Vec::new());
    let steps = trace.take();
    let (mut known, mut restarts, mut since_restart, mut tried) = (Known::default(), 0, usize::MAX, 0);
    for (at, step) in steps.iter().enumerate() {
        model.play(step);
        known.hear(step);
        since_restart = since_restart.saturating_add(1);
        if is_mark(step, "restarted") {
            (restarts, since_restart) = (restarts + 1, 0);
        }
        // Of what a start does every step, or some: others after each restart.
        let is_of_start = since_restart < 60 && (is_long() || (since_restart + restarts) % 15 == 0);
        if is_of_start || is_mark(step, "made") && restarts > 0 {
            let loss = [Loss::Everything, Loss::Some, Loss::Nothing][tried % 3];
            model.lose(loss, at as u64, concerns);
            check(&world, &known, &format!("power gone after step {at} of {}, lost {loss:?}", steps.len()));
            tried += 1;
        }
    }
    table("loss of power after a failed fsync and a restart", &format!("{} steps, {tried} losses", steps.len()));
}

fn is_mark(step: &Step, word: &str) -> bool {
    matches!(step, Step::Mark(text) if text.starts_with(word))
}

#[test]
fn a_backup_or_a_restore_that_lost_power_after_any_step_leaves_the_old_or_the_new() {
    let name = "power::a_backup_or_a_restore_that_lost_power_after_any_step_leaves_the_old_or_the_new";
    let mut world = World::unstarted_for(Carrier::Express);
    let Some(faults) = Faults::prepare(name, world.dir()) else { return };
    let trace = Trace::of(world.dir());
    world.start_daemon();
    world.init_token();
    let mut worker = Worker::entered(&world);
    worker.ok("token-key in-both");
    let traced = |world: &World, line: &[&str]| {
        let mut command = world.command(binary("craton-hsm-admin"));
        command.arg("--config").arg(world.config()).args(line).stdout(Stdio::null()).stderr(Stdio::null());
        command.envs(faults.environment()).envs(trace.environment());
        assert!(command.status().expect("the tool starts").success());
        trace.take()
    };
    let backup = Model::of(world.dir(), concerns);
    let of_backup = traced(&world, &["backup", "--pin", "env:SO_PIN", "--output", "token.backup"]);
    let archive = fs::read(world.dir().join("token.backup")).expect("the archive");
    worker.ok("token-key in-the-old-one");
    drop(worker);
    world.stop_daemon();
    let before = Model::of(world.dir(), concerns);
    let line =
        ["restore", "--pin", "env:SO_PIN", "--input", "token.backup", "--force", "--accept-rollback", "--reason", "x"];
    let of_restore = traced(&world, &line);
    let mut tried = 0;
    // The archive: under its name it is whole.
    let archives = |name: &str| name.starts_with("token.backup");
    let mut model = backup;
    for at in 0..=of_backup.len() {
        for loss in Loss::ALL {
            model.lose(loss, at as u64, archives);
            let found = fs::read(world.dir().join("token.backup")).ok();
            let when = format!("power gone after step {at} of {} of a backup, lost {loss:?}", of_backup.len());
            assert!(found.is_none_or(|found| found == archive), "{when}: half an archive has its name");
            tried += 1;
        }
        of_backup.get(at).into_iter().for_each(|step| model.play(step));
    }
    model.lose(Loss::Everything, 0, archives);
    assert!(world.dir().join("token.backup").exists(), "a backup that was reported is lost with the power");
    // The store: the old one, or the new one.
    let mut model = before;
    let points = points(&of_restore, 40);
    let (mut old, mut new) = (0, 0);
    for at in 0..=of_restore.len() {
        let losses = [Loss::Some, Loss::Everything, Loss::Names, Loss::Some, Loss::Bytes];
        for loss in if is_long() { &Loss::ALL[..] } else { &losses[at % 5..][..1] } {
            if !points.contains(&at) {
                continue;
            }
            let loss = if at == of_restore.len() { Loss::Everything } else { *loss };
            model.lose(loss, at as u64, concerns);
            let when = format!("power gone after step {at} of {} of a restore, lost {loss:?}", of_restore.len());
            let daemon = world.try_start().unwrap_or_else(|why| panic!("{when}: {why}"));
            let keys = world.admin_json(["key", "list", "--pin", "env:PIN"]).to_string();
            assert!(keys.contains("in-both"), "{when}: {keys}");
            let is_old = keys.contains("in-the-old-one");
            assert!(!is_old || at < of_restore.len(), "{when}: a restore that was reported is lost");
            if is_old {
                old += 1
            } else {
                new += 1
            }
            daemon.kill();
            world.admin(["audit", "verify"]).ok();
            tried += 1;
        }
        of_restore.get(at).into_iter().for_each(|step| model.play(step));
    }
    assert!(old > 0 && new > 0, "{old} left the old store, {new} the new one");
    table(
        "loss of power under backup and restore",
        &format!("{tried} losses, {old} left the old store, {new} the new"),
    );
}
