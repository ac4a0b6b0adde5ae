//! How does a token behave that holds many objects? `make scale`: fills a token, and for each size says how long a search by CKA_ID
//! and by label, a listing of everything, a login and a start of the daemon take, how much memory an object costs, and how long backup,
//! restore and drill take; the backup while another application signs.
//!
//! Half of the objects are public data objects, which the daemon opens at its start; half are AES keys, which it opens at the login.
//! usage: craton-scale [--objects N[,N...]] (ascending). This process starts itself again with `fill`, `ask` and `sign`: they load the module.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use acceptance::module::{self, Token};
use acceptance::raw::Raw;
use acceptance::tools;
use acceptance::world::World;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::Session;

/// Processes and threads that fill a token: each waits for the disk most of the time.
const PROCESSES: usize = 4;
const THREADS: usize = 8;
/// Searches per measurement; the median counts.
const SEARCHES: usize = 301;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["fill", from, to] => fill(number(from), number(to)),
        ["ask", size] => ask(number(size)),
        ["sign"] => sign(),
        ["--objects", sizes] => measure(&sizes.split(',').map(number).collect::<Vec<_>>()),
        [] => measure(&[1_000, 10_000, 100_000]),
        _ => {
            eprintln!("usage: craton-scale [--objects N[,N...]]");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn number(word: &str) -> usize {
    word.parse().expect("a number of objects")
}

fn label(index: usize) -> Attribute {
    Attribute::Label(format!("object-{index}").into())
}

/// CKA_ID of an object, as long as a key identifier.
fn id(index: usize) -> Attribute {
    let mut id = vec![0; 20];
    id[..8].copy_from_slice(&index.to_be_bytes());
    Attribute::Id(id)
}

/// Even ones are public data, odd ones private keys.
fn make(session: &Session, index: usize) {
    let name = [label(index), Attribute::Token(true)];
    let made = if index.is_multiple_of(2) {
        let data = [Attribute::Class(ObjectClass::DATA), Attribute::Private(false), Attribute::Value(vec![7; 64])];
        session.create_object(&[&name[..], &data].concat())
    } else {
        let key = [id(index), Attribute::ValueLen(32.into()), Attribute::Encrypt(true)];
        session.generate_key(&Mechanism::AesKeyGen, &[&name[..], &key].concat())
    };
    made.expect("an object is made");
}

/// Makes the objects `from..to` by several threads.
fn fill(from: usize, to: usize) {
    let token = Token::open();
    let _login = token.user();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let token = &token;
            scope.spawn(move || {
                let session = token.session();
                (from + thread..to).step_by(THREADS).for_each(|index| make(&session, index));
            });
        }
    });
}

/// Measures a token of `size` objects and says the numbers in a line.
fn ask(size: usize) {
    let token = Token::open();
    let (login, session) = timed(|| token.user());
    let odd = |turn: usize| (turn * 7919 % (size / 2)) * 2 + 1;
    let by_id = median(|turn| assert_eq!(session.find_objects(&[id(odd(turn))]).expect("find").len(), 1));
    let by_label = median(|turn| assert_eq!(session.find_objects(&[label(odd(turn) - 1)]).expect("find").len(), 1));
    let raw = Raw::load(&module::path());
    let (all, count) = timed(|| {
        assert_eq!(raw.find_init(session.handle()), 0);
        let mut count = 0;
        while raw.find_next(session.handle()).expect("C_FindObjects").is_some() {
            count += 1;
        }
        assert_eq!(raw.find_final(session.handle()), 0);
        count
    });
    assert_eq!(count, size, "a listing gives everything");
    let micros = |time: Duration| time.as_micros();
    println!("{} {} {} {}", micros(login), micros(by_id), micros(by_label), micros(all));
}

/// Signs from the first line that it says until its standard input ends; then says how often, and how many microseconds the longest took.
fn sign() {
    let token = Token::open();
    let session = token.user();
    let (_, key) = module::ec(&session, module::P256, module::SESSION).expect("a key pair is made");
    let signature = || session.sign(&Mechanism::Ecdsa, key, &[7; 32]).map(drop).expect("a signature is made");
    signature();
    println!("signing");
    let over = AtomicBool::new(false);
    let (mut count, mut longest) = (0_u64, Duration::ZERO);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The end of the input is all that is waited for, however it comes.
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap_or_default();
            over.store(true, Ordering::Relaxed);
        });
        while !over.load(Ordering::Relaxed) {
            longest = longest.max(timed(signature).0);
            count += 1;
        }
    });
    println!("{count} {}", longest.as_micros());
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let began = Instant::now();
    let result = work();
    (began.elapsed(), result)
}

fn median(mut search: impl FnMut(usize)) -> Duration {
    let mut times: Vec<Duration> = (0..SEARCHES).map(|turn| timed(|| search(turn)).0).collect();
    times.sort_unstable();
    times[SEARCHES / 2]
}

fn measure(sizes: &[usize]) {
    let mut world = World::start();
    println!("objects   made/s   start ms   login ms   by id us   by label us   list all ms   bytes/object");
    let (empty, mut from, mut first) = (resident(&world), 0, None);
    for &size in sizes {
        let (filling, ()) = timed(|| fill_by_processes(&world, from, size));
        let made = (size - from) as f64 / filling.as_secs_f64();
        world.stop_daemon();
        let (start, ()) = timed(|| world.start_daemon());
        let told = tools::run(me(&world).args(["ask", &size.to_string()])).ok().text();
        let told: Vec<f64> = told.split_whitespace().map(|word| word.parse().expect("microseconds")).collect();
        let [login, by_id, by_label, all] = told[..] else { panic!("{told:?}") };
        let kept = resident(&world).saturating_sub(empty) / size;
        println!(
            "{size:>7} {made:>8.0} {:>10} {:>10.1} {by_id:>10.0} {by_label:>13.0} {:>13.1} {kept:>14}",
            start.as_millis(),
            login / 1000.0,
            all / 1000.0,
        );
        recover(&world, size);
        let (id_then, label_then) = *first.get_or_insert((by_id, by_label));
        println!(
            "        searches against {} objects: {:.2}x, {:.2}x",
            sizes[0],
            by_id / id_then,
            by_label / label_then
        );
        from = size;
    }
}

/// How long a backup of the running token takes while an application signs, a restore of it, and a drill from its first step to its last.
fn recover(world: &World, size: usize) {
    let file = world.dir().join(format!("{size}.backup"));
    let path = file.to_str().expect("our own directory has a plain name");
    let ((backup, _), (signatures, longest)) =
        while_signing(world, || timed(|| world.admin(["backup", "--pin", "env:SO_PIN", "--output", path]).ok()));
    let other = World::unstarted();
    let (restore, _) = timed(|| other.admin(["restore", "--pin", "env:SO_PIN", "--input", path]).ok());
    let report = world.dir().join(format!("{size}.json"));
    let scratch = world.dir().to_str().expect("our own directory has a plain name");
    let said = report.to_str().expect("our own directory has a plain name");
    world.admin(["drill", "--pin", "env:SO_PIN", "--input", path, "--scratch", scratch, "--report", said]).ok();
    let told: serde_json::Value = fs::read(&report)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .expect("a drill leaves its report");
    // No key here signs, so there is no time of a first signature: what counts are all steps.
    let steps = told["steps"].as_array().expect("a report names its steps");
    let drill: f64 = steps.iter().filter_map(|step| step["seconds"].as_f64()).sum();
    let (backup, restore) = (backup.as_secs_f64(), restore.as_secs_f64());
    println!(
        "        backup {backup:.2} s, in which one thread made {signatures} signatures, the longest in {:.1} ms",
        longest as f64 / 1000.0
    );
    println!("        restore and verification {restore:.2} s, all steps of a drill {drill:.2} s");
}

/// Does `work` while another process signs; how many signatures it made meanwhile, and the microseconds of the longest.
fn while_signing<T>(world: &World, work: impl FnOnce() -> T) -> (T, (u64, u64)) {
    let mut signer =
        me(world).arg("sign").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a signer starts");
    let mut said = BufReader::new(signer.stdout.take().expect("its output is ours")).lines();
    let mut line = || said.next().and_then(Result::ok).expect("the signer says a line");
    assert_eq!(line(), "signing");
    let outcome = work();
    drop(signer.stdin.take());
    let told = line();
    assert!(signer.wait().expect("a child can be waited for").success(), "the signer failed");
    let (count, longest) = told.split_once(' ').expect("two numbers");
    (outcome, (count.parse().expect("a count"), longest.parse().expect("microseconds")))
}

fn me(world: &World) -> Command {
    world.command(std::env::current_exe().expect("this program is running"))
}

fn fill_by_processes(world: &World, from: usize, to: usize) {
    let share = (to - from).div_ceil(PROCESSES);
    let bounds = (0..PROCESSES).map(|part| (from + part * share, (from + (part + 1) * share).min(to)));
    let start = |(from, to): (usize, usize)| {
        let mut command = me(world);
        command.args(["fill", &from.to_string(), &to.to_string()]).stdin(Stdio::null());
        command.spawn().expect("this program can be started again")
    };
    let running: Vec<_> = bounds.filter(|(from, to)| from < to).map(start).collect();
    for mut child in running {
        assert!(child.wait().expect("a child can be waited for").success(), "a filler failed");
    }
}

/// What the daemon holds in memory, in bytes.
fn resident(world: &World) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", world.daemon().pid())).expect("the daemon runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel says");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}
