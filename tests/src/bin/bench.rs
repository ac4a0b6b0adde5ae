//! How many signatures a second does an application get through our module, and through SoftHSM2 in its own process, with P-256,
//! RSA-2048 and Ed25519 token keys at 1, 2 and 8 threads? Both in one run on one machine, in interleaved rounds, so that the ratio
//! holds when the machine's speed drifts. It prints medians and judges nothing.
//!
//! Run by `make bench`, which provides both tokens: PKCS11_MODULE, TOKEN_LABEL, PIN for ours, SOFTHSM2_MODULE and SOFTHSM2_CONF for
//! the other (same label and PIN). Options: `--seconds S` of each measurement, `--rounds N`.
//!
//! With JOURNAL_ON_CONFIG and JOURNAL_OFF_CONFIG it measures what the journal costs instead: two daemons, one that keeps every
//! record and one that keeps none of signatures, each used by a process of its own, in interleaved rounds.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use acceptance::module::{self, Token, pin, token_object};
use acceptance::raw::Raw;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::session::UserType;
use cryptoki_sys::{CK_MECHANISM_TYPE, CK_OBJECT_HANDLE, CKM_ECDSA, CKM_EDDSA, CKM_SHA256_RSA_PKCS};

const THREADS: [usize; 3] = [1, 2, 8];
/// Name, mechanism, length of the data in bytes (a digest for the mechanisms that do not hash).
const ALGORITHMS: [(&str, CK_MECHANISM_TYPE, usize); 3] =
    [("P-256", CKM_ECDSA, 32), ("RSA-2048", CKM_SHA256_RSA_PKCS, 32), ("Ed25519", CKM_EDDSA, 32)];

/// One loaded module with a session that is logged in and the three keys.
struct Contender {
    name: &'static str,
    raw: Raw,
    slot: u64,
    keys: [CK_OBJECT_HANDLE; 3],
}

impl Contender {
    fn open(name: &'static str, path: PathBuf, label: &str, user_pin: &str) -> Result<Contender, String> {
        let said = |what: &str| format!("{name}: {what}");
        let pkcs11 = Pkcs11::new(&path).map_err(|e| said(&format!("{}: {e}", path.display())))?;
        pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).map_err(|e| said(&e.to_string()))?;
        let slots = pkcs11.get_slots_with_initialized_token().map_err(|e| said(&e.to_string()))?;
        let labelled = |slot: &cryptoki::slot::Slot| {
            pkcs11.get_token_info(*slot).is_ok_and(|info| info.label().trim_end() == label)
        };
        let slot = slots.into_iter().find(labelled).ok_or_else(|| said("no token with that label"))?;
        let session = Token { pkcs11, slot }.session();
        session.login(UserType::User, Some(&pin(user_pin))).map_err(|e| said(&e.to_string()))?;
        let keys = [
            module::ec(&session, module::P256, token_object("bench-p256")),
            module::rsa(&session, 2048, token_object("bench-rsa")),
            module::ed25519(&session, token_object("bench-ed25519")),
        ];
        let mut handles = [0; 3];
        for (handle, key) in handles.iter_mut().zip(keys) {
            *handle = key.map_err(|e| said(&e.to_string()))?.1.handle();
        }
        // The login lasts as long as a session is open: this one stays open to the end of the process.
        std::mem::forget(session);
        Ok(Contender { name, raw: Raw::load(&path), slot: slot.id(), keys: handles })
    }

    /// Signatures a second by `threads` threads, each with a session of its own.
    fn measure(&self, algorithm: usize, threads: usize, duration: Duration) -> Result<f64, String> {
        let barrier = Barrier::new(threads);
        let (_, mechanism, len) = ALGORITHMS[algorithm];
        let key = self.keys[algorithm];
        let one = || -> Result<f64, String> {
            let failed = |rv: u64| format!("{}: {} failed with {rv:#x}", self.name, ALGORITHMS[algorithm].0);
            let session = self.raw.open_session(self.slot).map_err(failed)?;
            let (mut data, mut signature) = (vec![0x5a; len], vec![0; 512]);
            let mut sign = || match self.raw.sign_init(session, mechanism, key) {
                0 => self.raw.sign_into(session, &mut data, &mut signature).map_err(failed),
                rv => Err(failed(rv)),
            };
            // Connections are made, keys are parsed and caches are warm before the clock starts.
            let warm: Result<Vec<usize>, String> = (0..20).map(|_| sign()).collect();
            barrier.wait();
            warm?;
            let (start, mut count) = (Instant::now(), 0u32);
            while start.elapsed() < duration {
                sign()?;
                count += 1;
            }
            let rate = f64::from(count) / start.elapsed().as_secs_f64();
            let _closed = self.raw.close_session(session);
            Ok(rate)
        };
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
            running.into_iter().map(|thread| thread.join().expect("a signing thread does not panic")).sum()
        })
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("craton-bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("{name} is not set: run `make bench`"))
}

fn ours() -> Result<Contender, String> {
    Contender::open("Craton", variable("PKCS11_MODULE")?.into(), &variable("TOKEN_LABEL")?, &variable("PIN")?)
}

fn run() -> Result<(), String> {
    if std::env::args().nth(1).as_deref() == Some(OBEY) {
        return obey(&ours()?);
    }
    let (seconds, rounds) = options()?;
    if std::env::var_os("JOURNAL_ON_CONFIG").is_some() {
        return journal_cost(seconds, rounds);
    }
    let (label, user_pin) = (variable("TOKEN_LABEL")?, variable("PIN")?);
    let ours = ours()?;
    let theirs = match variable("SOFTHSM2_MODULE") {
        Ok(path) => Some(Contender::open("SoftHSM2", path.into(), &label, &user_pin)?),
        Err(_) => None,
    };
    println!("C_SignInit + C_Sign a second, medians of {rounds} interleaved rounds of {seconds} s each");
    println!("{:<10}{:>8}{:>12}{:>12}{:>9}", "key", "threads", "Craton", "SoftHSM2", "ratio");
    for (algorithm, (name, ..)) in ALGORITHMS.iter().enumerate() {
        for threads in THREADS {
            let (mut mine, mut other) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                mine.push(ours.measure(algorithm, threads, Duration::from_secs_f64(seconds))?);
                if let Some(theirs) = &theirs {
                    other.push(theirs.measure(algorithm, threads, Duration::from_secs_f64(seconds))?);
                }
            }
            let mine = median(mine);
            match other.is_empty() {
                true => println!("{name:<10}{threads:>8}{mine:>12.0}{:>12}{:>9}", "-", "-"),
                false => {
                    let other = median(other);
                    println!("{name:<10}{threads:>8}{mine:>12.0}{other:>12.0}{:>8.2}x", mine / other);
                }
            }
        }
    }
    Ok(())
}

/// What a process is told that measures for another.
const OBEY: &str = "obey";

/// Answers each line "algorithm threads seconds" with a rate, until the input ends.
fn obey(contender: &Contender) -> Result<(), String> {
    println!("ready");
    for line in std::io::stdin().lines() {
        let line = line.map_err(|e| e.to_string())?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [algorithm, threads, seconds] = words[..] else { return Err(format!("not understood: {line}")) };
        let number = |word: &str| word.parse::<usize>().map_err(|e| format!("{word}: {e}"));
        let seconds: f64 = seconds.parse().map_err(|e| format!("{seconds}: {e}"))?;
        let rate = contender.measure(number(algorithm)?, number(threads)?, Duration::from_secs_f64(seconds))?;
        println!("{rate}");
    }
    Ok(())
}

/// A process with the module of one of the two daemons.
struct Side {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Side {
    fn start(config: &str) -> Result<Side, String> {
        let mut command = Command::new(std::env::current_exe().map_err(|e| e.to_string())?);
        // The file names the socket too.
        command.arg(OBEY).env("CRATON_HSM_CONFIG", config).env_remove("CRATON_HSM_SOCKET");
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|e| e.to_string())?;
        let answers = child.stdout.take().map(BufReader::new).ok_or("a child without an output")?;
        let mut side = Side { child, answers };
        match side.hear()?.as_str() {
            "ready" => Ok(side),
            other => Err(format!("a measuring process said {other:?}")),
        }
    }

    fn hear(&mut self) -> Result<String, String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|e| e.to_string())?;
        Ok(line.trim().to_owned())
    }

    fn measure(&mut self, algorithm: usize, threads: usize, seconds: f64) -> Result<f64, String> {
        let input = self.child.stdin.as_mut().ok_or("a child without an input")?;
        writeln!(input, "{algorithm} {threads} {seconds}").map_err(|e| e.to_string())?;
        let answer = self.hear()?;
        answer.parse().map_err(|_| format!("a measuring process said {answer:?}"))
    }

    fn end(mut self) -> Result<(), String> {
        drop(self.child.stdin.take());
        self.child.wait().map(drop).map_err(|e| e.to_string())
    }
}

/// Signatures a second with and without their records.
fn journal_cost(seconds: f64, rounds: usize) -> Result<(), String> {
    let mut with = Side::start(&variable("JOURNAL_ON_CONFIG")?)?;
    let mut without = Side::start(&variable("JOURNAL_OFF_CONFIG")?)?;
    println!(
        "what the journal costs: C_SignInit + C_Sign a second, medians of {rounds} interleaved rounds of {seconds} s each"
    );
    println!("{:<10}{:>8}{:>12}{:>12}{:>9}", "key", "threads", "journal", "no journal", "cost");
    for (algorithm, (name, ..)) in ALGORITHMS.iter().enumerate() {
        for threads in [1, 8] {
            let (mut on, mut off) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                on.push(with.measure(algorithm, threads, seconds)?);
                off.push(without.measure(algorithm, threads, seconds)?);
            }
            let (on, off) = (median(on), median(off));
            println!("{name:<10}{threads:>8}{on:>12.0}{off:>12.0}{:>8.1}%", (1.0 - on / off) * 100.0);
        }
    }
    with.end()?;
    without.end()
}

fn options() -> Result<(f64, usize), String> {
    let (mut seconds, mut rounds) = (0.5, 5);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let bad = || format!("{word} {value} is not a number that makes sense");
        match word.as_str() {
            "--seconds" => seconds = value.parse().ok().filter(|s| (0.01..60.0).contains(s)).ok_or_else(bad)?,
            "--rounds" => rounds = value.parse().ok().filter(|n| (1..100).contains(n)).ok_or_else(bad)?,
            _ => return Err(format!("unknown option {word}: --seconds S, --rounds N")),
        }
    }
    Ok((seconds, rounds))
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
