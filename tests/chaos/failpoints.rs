//! The daemon panics, ends or stands still at each of its named places (`hsm-core/src/failpoint.rs`) while clients work. Nobody waits
//! without end; after a panic the daemon goes on as if that call alone had failed, or ends; what it shows then is what it shows after a
//! restart; and after every restart what was acknowledged is true, nothing else has come or gone, no wrong PIN is forgotten, no
//! signature lacks its record, and the journal verifies.
//!
//! The short version comes by each place twice, with the load that is likeliest to come by it; the long one tries each with every load.
//! Release builds have no such places.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use acceptance::daemon::binary;
use acceptance::tools::{Finished, available, run, skip};
use acceptance::worker::Worker;
use acceptance::world::{Carrier, LABEL, PIN, World};

use crate::journal::records;
use crate::oracle::{Oracle, ids};
use crate::{is_long, table};

/// What clients do meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// Keys are made, changed, copied, used and destroyed.
    Objects,
    /// Signatures, also of an authority whose signatures are counted.
    Signing,
    /// A wrong PIN, a right one, and a new one and back.
    Pins,
    /// Backup, a new master key, a new token.
    Operating,
    /// So many signatures that the journal goes on in another file.
    Filling,
}
use Load::{Filling, Objects, Operating, Pins, Signing};

const LOADS: [Load; 5] = [Objects, Signing, Pins, Operating, Filling];

/// Each place, with the load that is likeliest to come by it.
#[rustfmt::skip]
const PLACES: &[(&str, Load)] = &[
    ("daemon.ready", Signing),
    ("accept.local", Signing),
    ("greet.local", Signing),
    ("dispatch.before", Objects),
    ("reply.express.before", Objects),
    ("reply.express.after", Objects),
    ("record.before", Signing),
    ("record.after", Objects),
    ("session.open", Signing),
    ("login.after", Pins),
    ("logout.before", Pins),
    ("object.made", Objects),
    ("object.changed", Objects),
    ("object.destroyed", Objects),
    ("pin.count.before", Pins),
    ("pin.kdf.before", Pins),
    ("pin.kdf.after", Pins),
    ("pin.clear.before", Pins),
    ("pin.change.before", Pins),
    ("pin.change.after", Pins),
    ("token.init.after", Operating),
    ("store.group.before", Objects),
    ("store.outbox.after", Objects),
    ("store.rows.after", Objects),
    ("store.commit.before", Objects),
    ("store.commit.after", Objects),
    ("store.journal.before", Objects),
    ("store.journal.after", Objects),
    ("store.trim.before", Objects),
    ("store.count.before", Signing),
    ("rotate.begin.before", Operating),
    ("rotate.begin.after", Operating),
    ("rotate.batch.after", Operating),
    ("rotate.end.before", Operating),
    ("journal.stage.after", Signing),
    ("journal.write.before", Signing),
    ("journal.write.after", Objects),
    ("journal.group.before", Signing),
    ("journal.sync.before", Objects),
    ("journal.sync.after", Signing),
    ("journal.sign.before", Objects),
    ("journal.close.announced", Filling),
    ("journal.close.synced", Filling),
    ("journal.close.linked", Filling),
    ("journal.close.renamed", Filling),
    ("journal.key.erased", Filling),
    ("anchor.rename.before", Objects),
    ("backup.begin", Operating),
];

/// Places in `restore`, which runs while the daemon does not.
const IN_RESTORE: [&str; 4] = ["restore.begun", "restore.built", "restore.exchanged", "restore.kept"];
/// The place in the operator's program where a backup gets its name.
const IN_BACKUP: (&str, Load) = ("backup.name.before", Operating);
/// The place before an answer over gRPC.
const OVER_GRPC: (&str, Load) = ("reply.grpc.before", Objects);

/// No client may wait longer. A call that waits for the daemon gives up after less.
const LIMIT: Duration = Duration::from_secs(180);

#[derive(Clone, Copy, Debug)]
struct Step {
    place: &'static str,
    action: &'static str,
    at: usize,
    load: Load,
}

fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    for (number, (place, likeliest)) in PLACES.iter().copied().enumerate() {
        for action in ["panic", "exit", "sleep(300)"] {
            for load in LOADS {
                let telling = load == likeliest && action != "sleep(300)";
                // A place that the load comes by once only, or the daemon by itself.
                let at = if telling || place == "daemon.ready" { 1 } else { 1 + (number + steps.len()) % 4 };
                if telling || is_long() {
                    steps.push(Step { place, action, at, load });
                }
            }
        }
    }
    steps
}

#[test]
fn nothing_is_lost_and_nobody_waits_wherever_the_daemon_fails() {
    let name = "failpoints::nothing_is_lost_and_nobody_waits_wherever_the_daemon_fails";
    if !cfg!(debug_assertions) {
        return skip(name, "this build has no failpoints: run it without --release");
    }
    let (steps, begun) = (steps(), Instant::now());
    let lanes = 3;
    let share = |lane: usize| steps.iter().copied().skip(lane).step_by(lanes).collect::<Vec<_>>();
    let reached: Vec<(Step, bool)> = thread::scope(|scope| {
        let running: Vec<_> =
            (0..lanes).map(|lane| scope.spawn(move || Lane::start(Carrier::Express).go(&share(lane)))).collect();
        let join = |lane: thread::ScopedJoinHandle<'_, Vec<_>>| {
            lane.join().unwrap_or_else(|failure| std::panic::resume_unwind(failure))
        };
        running.into_iter().flat_map(join).collect()
    });
    let seen: BTreeSet<&str> = reached.iter().filter(|(_, fired)| *fired).map(|(step, _)| step.place).collect();
    let unseen: Vec<_> = PLACES.iter().filter(|(place, _)| !seen.contains(place)).collect();
    assert!(unseen.is_empty(), "nothing came by {unseen:?}");
    let fired = reached.iter().filter(|(_, fired)| *fired).count();
    let what = format!("{fired} of {} at {} places came about, in {:?}", steps.len(), PLACES.len(), begun.elapsed());
    table("panics, ends and pauses at named places", &what);
}

#[test]
fn a_client_over_grpc_is_answered_wherever_the_daemon_fails() {
    let name = "failpoints::a_client_over_grpc_is_answered_wherever_the_daemon_fails";
    if !cfg!(debug_assertions) {
        return skip(name, "this build has no failpoints: run it without --release");
    }
    if !available(name, "openssl") {
        return;
    }
    let (place, load) = OVER_GRPC;
    let more = [
        ("dispatch.before", Objects),
        ("object.made", Objects),
        ("store.commit.after", Objects),
        ("login.after", Pins),
    ];
    let places = [(place, load)].into_iter().chain(if is_long() { more.to_vec() } else { Vec::new() });
    // The right PIN is given once.
    let at = |load| if load == Pins { 1 } else { 2 };
    let both = |(place, load)| ["panic", "exit"].map(|action| Step { place, action, at: at(load), load });
    let steps: Vec<Step> = places.flat_map(both).collect();
    let reached = Lane::start(Carrier::Grpc).go(&steps);
    assert!(reached.iter().all(|(_, fired)| *fired), "{reached:?}");
}

#[test]
fn a_backup_or_a_restore_that_fails_at_a_named_place_leaves_the_old_or_the_new() {
    let name = "failpoints::a_backup_or_a_restore_that_fails_at_a_named_place_leaves_the_old_or_the_new";
    if !cfg!(debug_assertions) {
        return skip(name, "this build has no failpoints: run it without --release");
    }
    let mut lane = Lane::start(Carrier::Express);
    lane.serve("");
    for action in ["panic", "exit"] {
        let (place, _) = IN_BACKUP;
        let file = lane.world.dir().join(format!("{action}.enc"));
        let failed =
            lane.admin(&format!("{place}={action}"), &["backup", "--pin", "env:SO_PIN", "--output", path(&file)]);
        assert!(!failed.status.success() && failed.stderr.contains(place), "{failed}");
        assert!(!file.exists(), "{action}: a backup that was not finished has its name");
    }
    for place in IN_RESTORE {
        for action in ["panic", "exit"] {
            let file = lane.world.dir().join(format!("{place}-{action}.enc"));
            lane.work(Objects, 0);
            lane.admin("", &["backup", "--pin", "env:SO_PIN", "--output", path(&file)]).ok();
            lane.world.take_daemon().stop();
            let restore = ["restore", "--force", "--pin", "env:SO_PIN", "--input", path(&file)];
            // The stop itself is a change of the store.
            let restore = [&restore[..], &["--accept-rollback", "--reason", "a test"]].concat();
            let failed = lane.admin(&format!("{place}={action}"), &restore);
            assert!(!failed.status.success() && failed.stderr.contains(place), "{failed}");
            // The same keys were in both.
            lane.serve("");
            assert!(lane.look(&format!("{place}={action}")));
        }
    }
    lane.end();
}

fn path(file: &std::path::Path) -> &str {
    file.to_str().expect("our directories have plain names")
}

/// One daemon after the other on one store, and what is known of it.
struct Lane {
    world: World,
    oracle: Oracle,
    /// The user PIN; two while the outcome of a change is not known.
    pins: Vec<String>,
    /// At least and at most so many wrong PINs are counted.
    wrong: (u64, u64),
    /// Signatures of the authority that were given out.
    issued: u64,
    gate: PathBuf,
    turn: usize,
}

impl Lane {
    fn start(carrier: Carrier) -> Lane {
        let mut world = World::unstarted_for(carrier);
        fs::create_dir(world.dir().join("elsewhere")).expect("our own directory");
        let anchor = format!("[audit]\nfile_max_mib = 1\nanchor = \"{}/elsewhere/anchor\"", world.dir().display());
        world.write_config(&world.standard_config().replace("[audit]", &anchor));
        world.start_daemon();
        world.init_token();
        let mut worker = Worker::entered(&world);
        worker.ok("token-key first");
        assert_eq!(worker.ok("guard authority"), "made");
        drop(worker);
        world.stop_daemon();
        let gate = world.dir().join("gate");
        let (pins, oracle) = (vec![PIN.to_owned()], Oracle::default());
        Lane { world, oracle, pins, wrong: (0, 0), issued: 0, gate, turn: 0 }
    }

    /// All steps; whether each came about.
    fn go(mut self, steps: &[Step]) -> Vec<(Step, bool)> {
        let reached = steps.iter().map(|step| (*step, self.step(step))).collect();
        self.serve("");
        assert!(self.look("at the end"), "the daemon has ended");
        self.end();
        reached
    }

    fn end(mut self) {
        self.world.stop_daemon();
        self.world.admin(["audit", "verify"]).ok();
        let recorded = records(&self.world.journal(), "\"op\":\"sign\"", "\"rv\":\"CKR_OK\"");
        let told = self.oracle.signatures + self.issued;
        assert!(recorded >= told, "{recorded} records of {told} signatures");
    }

    /// Starts a daemon for which places are armed while the gate is open.
    fn serve(&mut self, armed: &str) {
        let plan = format!("when={};{armed}", self.gate.display());
        self.world.daemon_environment(vec![("CRATON_FAILPOINTS", plan.into())]);
        self.world.start_daemon();
    }

    fn step(&mut self, step: &Step) -> bool {
        let Step { place, action, at, load } = *step;
        self.turn += 1;
        let before = self.world.log().metadata().map_or(0, |found| found.len());
        let when = format!("{place}={action}@{at} with {load:?}");
        let armed = format!("{place}={action}@{at}");
        if place == "daemon.ready" {
            // It may end before anybody was served.
            self.world.daemon_environment(vec![("CRATON_FAILPOINTS", armed.into())]);
            let is_pause = action.starts_with("sleep");
            let patience = if is_pause { Duration::from_secs(1) } else { LIMIT };
            let ended = self.world.try_start().ok().map(|mut daemon| daemon.wait(patience));
            assert!(ended.is_none_or(|ended| ended.is_some() || is_pause), "{when}: it goes on");
        } else {
            self.serve(&armed);
            assert!(
                self.look(&format!("before {when}")),
                "{when}: the daemon has ended\n{}",
                self.world.daemon().log()
            );
            fs::write(&self.gate, "").expect("our own directory");
            self.work(load, self.turn);
            fs::remove_file(&self.gate).expect("our own file");
            // What is there without a restart is what is there after it.
            if self.look(&format!("in memory after {when}")) {
                self.is_well(&when);
            }
            self.world.take_daemon().kill();
        }
        let log = fs::read(self.world.log()).expect("the daemon's log");
        let since = String::from_utf8_lossy(&log[usize::try_from(before).expect("short")..]).into_owned();
        since.contains(&format!("failpoint {place}: "))
    }

    /// What a fresh application finds is what is known. False when the daemon has ended.
    fn look(&mut self, when: &str) -> bool {
        let Some(counted) = self.counted(when) else { return false };
        let (least, most) = self.wrong;
        assert!((least..=most).contains(&counted), "{when}: {counted} wrong PINs are counted, not {least} to {most}");
        let Some(mut worker) = self.enter(when) else { return false };
        let mut stored = ids(&worker.ok("ids"));
        stored.remove("authority").unwrap_or_else(|| panic!("{when}: the authority's key is gone"));
        self.oracle.check(when, &stored);
        let said = worker.ok("issue authority 0");
        let count: u64 = said.rsplit(' ').next().and_then(|word| word.parse().ok()).expect("a count");
        assert!(count >= self.issued, "{when}: {count} of {} signatures of the authority are counted", self.issued);
        true
    }

    /// How many wrong PINs the daemon has counted; nothing when it has ended.
    fn counted(&mut self, when: &str) -> Option<u64> {
        let begun = Instant::now();
        let said = loop {
            let said = self.admin("", &["--json", "token", "info"]);
            if self.world.daemon_has_ended() {
                return None;
            }
            // A daemon that is ending has closed its socket a moment before.
            if !said.all().contains("no daemon answers") {
                break said;
            }
            assert!(begun.elapsed() < LIMIT, "{when}: a daemon runs and does not answer");
            thread::sleep(Duration::from_millis(10));
        };
        let tokens: serde_json::Value = serde_json::from_slice(&said.ok().stdout).expect("JSON");
        let tokens = tokens.as_array().or_else(|| tokens["tokens"].as_array()).expect("tokens");
        let ours = tokens.iter().find(|token| token["label"] == LABEL);
        let failures = ours.and_then(|token| token["user_pin_failures"].as_u64());
        Some(failures.unwrap_or_else(|| panic!("{when}: the token says nothing of wrong PINs")))
    }

    /// An application that is logged in; none when the daemon has ended. A store that has to be read again first, or a journal, takes a
    /// moment.
    fn enter(&mut self, when: &str) -> Option<Worker> {
        let begun = Instant::now();
        loop {
            if self.world.daemon_has_ended() {
                return None;
            }
            let mut worker = Worker::start(&self.world);
            let opened = worker.ask("open").starts_with("ok");
            for pin in self.pins.clone().into_iter().filter(|_| opened) {
                let answer = worker.ask(&format!("login-with user {pin}"));
                if answer == "ok ok" {
                    (self.pins, self.wrong) = (vec![pin], (0, 0));
                    return Some(worker);
                }
                self.wrong = (0, self.wrong.1 + 1);
            }
            assert!(begun.elapsed() < LIMIT, "{when}: nobody can log in\n{}", self.world.daemon().log());
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The daemon that lives on makes keys, and signs.
    fn is_well(&mut self, when: &str) {
        let begun = Instant::now();
        loop {
            self.turn += 1;
            let Some(mut worker) = self.enter(when) else { return };
            worker.say(&format!("turns well{} 1", self.turn));
            let lines = all_lines(&mut worker);
            self.hear(&lines);
            let did = lines.iter().filter(|line| line.starts_with("did")).count();
            if did == 4 {
                return;
            }
            assert!(begun.elapsed() < LIMIT, "{when}: no service\n{}", self.world.daemon().log());
        }
    }

    fn work(&mut self, load: Load, turn: usize) {
        // Somebody else, who is to notice as little as can be; where wrong PINs are counted, nobody whose login would clear them.
        let pin = self.pins[0].clone();
        let others =
            if load == Pins { Vec::new() } else { vec![self.client(&pin, vec![format!("turns t{turn}other 9")])] };
        match load {
            Objects => self.hear_all(&[(&pin, vec![format!("turns t{turn}own 9")])]),
            Signing => self.hear_all(&[(&pin, vec!["issue authority 3".to_owned(), "try-sign first 40".to_owned()])]),
            Filling => self.hear_all(&[(&pin, vec!["try-sign first 2600".to_owned()])]),
            Pins => self.change_pins(turn),
            Operating => self.operate(turn, &pin),
        }
        for other in others {
            self.take(&other.recv_timeout(LIMIT).expect("a client waits without end"));
        }
    }

    fn hear_all(&mut self, clients: &[(&str, Vec<String>)]) {
        let running: Vec<_> = clients.iter().map(|(pin, lines)| self.client(pin, lines.clone())).collect();
        for client in running {
            self.take(&client.recv_timeout(LIMIT).expect("a client waits without end"));
        }
    }

    /// An application that logs in and says its lines; what it was answered, line by line.
    fn client(&self, pin: &str, lines: Vec<String>) -> mpsc::Receiver<Vec<(String, Vec<String>)>> {
        let mut worker = Worker::start(&self.world);
        let (answers, heard) = mpsc::channel();
        let login = format!("login-with user {pin}");
        thread::spawn(move || {
            let mut told = Vec::new();
            for line in ["open".to_owned(), login].into_iter().chain(lines) {
                worker.say(&line);
                let answer = all_lines(&mut worker);
                told.push((line, answer));
            }
            answers.send(told).unwrap_or_default();
        });
        heard
    }

    /// What was said to `turns`, but for its last line.
    fn hear(&mut self, lines: &[String]) {
        let lines = lines.iter().filter(|line| !line.starts_with("ok") && !line.starts_with("error"));
        lines.for_each(|line| self.oracle.hear(line));
    }

    fn take(&mut self, told: &[(String, Vec<String>)]) {
        for (line, answer) in told {
            let last = answer.last().map(String::as_str).unwrap_or_default();
            let first_number =
                last.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok()).unwrap_or_default();
            match line.split(' ').next().unwrap_or_default() {
                "turns" => self.hear(answer),
                "issue" => self.issued += first_number,
                "try-sign" => self.oracle.signatures += first_number,
                "login-with" if last == "ok ok" => self.wrong.0 = 0,
                "login-with" => self.wrong = (0, self.wrong.1 + 1),
                _ => {}
            }
        }
    }

    fn change_pins(&mut self, turn: usize) {
        let (pin, other) = (self.pins[0].clone(), format!("another-pin-{turn}"));
        let lines = [
            "wrong-pin".to_owned(),
            format!("login-with user {pin}"),
            format!("set-pin {pin} {other}"),
            format!("set-pin {other} {pin}"),
            "logout".to_owned(),
        ];
        let running = self.client("not the PIN either", lines.to_vec());
        for (line, answer) in running.recv_timeout(LIMIT).expect("a client waits without end") {
            let last = answer.last().map(String::as_str).unwrap_or_default();
            match (line.split(' ').next().unwrap_or_default(), last) {
                ("wrong-pin", "ok PinIncorrect") => self.wrong = (self.wrong.0 + 1, self.wrong.1 + 1),
                ("login-with", "ok PinIncorrect") if line.contains("not the PIN") => {
                    self.wrong = (self.wrong.0 + 1, self.wrong.1 + 1);
                }
                ("login-with", "ok ok") => self.wrong = (0, 0),
                ("set-pin", "ok") => {
                    self.pins = vec![line.rsplit(' ').next().expect("a PIN").to_owned()];
                    self.wrong = (0, 0);
                }
                ("set-pin", _) => {
                    self.pins = vec![pin.clone(), other.clone()];
                    self.wrong = (0, self.wrong.1 + 1);
                }
                // What is not known to have been right has cleared nothing.
                ("wrong-pin", _) => self.wrong.1 += 1,
                ("login-with", _) if line.contains("not the PIN") => self.wrong.1 += 1,
                ("login-with", _) => self.wrong = (0, self.wrong.1 + 1),
                _ => {}
            }
        }
    }

    fn operate(&mut self, turn: usize, pin: &str) {
        let (backup, secret) = (self.world.dir().join(format!("turn{turn}.enc")), self.world.dir().join("user-pin"));
        fs::write(&secret, pin).expect("our own directory");
        let user = format!("file:{}", secret.display());
        for line in [
            &["backup", "--slot", "0", "--pin", "env:SO_PIN", "--output", path(&backup)][..],
            &["token", "rotate-key", "--slot", "0", "--pin", "env:SO_PIN", "--user-pin", &user],
            &["token", "init", "--slot", "1", "--label", "other", "--so-pin", "env:SO_PIN"],
        ] {
            // What fails, fails: the command says so and ends.
            self.admin("", line);
        }
        // A rotation proves the user's PIN, and may have broken off between.
        self.wrong = (0, self.wrong.1 + 1);
    }

    /// The operator's program, with places of its own armed.
    fn admin(&self, armed: &str, line: &[&str]) -> Finished {
        let mut command = self.world.command(binary("craton-hsm-admin"));
        command.arg("--config").arg(self.world.config()).args(line).env("CRATON_FAILPOINTS", armed);
        run(&mut command)
    }
}

/// What a worker says to one line, to the line that ends it.
fn all_lines(worker: &mut Worker) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(line) = worker.hear() {
        let last = line.starts_with("ok") || line.starts_with("error");
        lines.push(line);
        if last {
            break;
        }
    }
    lines
}
