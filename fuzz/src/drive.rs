//! The bounded driver: the corpus first, then mutations of it for so many seconds. It needs no instrumentation; what it takes for new is
//! an operation that ended in a way not seen before.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::{Target, feedback};

/// In a long run of what is shipped, an input that keeps the processor for longer is a finding.
pub const LONGEST: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });
/// An input that does not come back within this time is a finding in every run, and ends the process.
const STUCK: Duration = Duration::from_secs(300);
/// The longest input.
const LONGEST_INPUT: usize = 2048;

/// How a run goes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// For how long.
    pub time: Duration,
    /// What the mutations are drawn from: the same seed draws the same ones.
    pub seed: u64,
    /// Where inputs that did something new are written, if they are wanted.
    pub keep: Option<PathBuf>,
    /// How much processor time an input may take; a test sets no such limit, for it says as much of the machine as of the code.
    pub longest: Option<Duration>,
}

/// What a run did.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Inputs played.
    pub inputs: u64,
    /// Inputs that did something new.
    pub new: usize,
    /// Different things that happened.
    pub features: usize,
    /// The most processor time that an input took.
    pub slowest: Duration,
}

/// What went wrong: the input was written to `file`.
#[derive(Debug, thiserror::Error)]
#[error("{what}\n  input: {}\n  replay: make fuzz-replay FILE={}", file.display(), file.display())]
pub struct Finding {
    what: String,
    file: PathBuf,
}

/// The folder of this crate in the repository.
fn home() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a target's corpus, in the order of their names.
///
/// # Errors
/// When the folder cannot be read.
pub fn corpus(target: &Target) -> std::io::Result<Vec<Vec<u8>>> {
    let folder = home().join("corpus").join(target.name);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.sort();
    files.iter().map(std::fs::read).collect()
}

/// Plays the corpus and then mutations of it.
///
/// # Errors
/// The first [`Finding`].
pub fn run(target: &'static Target, plan: &Plan) -> Result<Report, Finding> {
    let mut random = Random(plan.seed | 1);
    let mut pool = corpus(target).unwrap_or_default();
    let mut seen = HashSet::new();
    let watchdog = Watchdog::start(target);
    let mut report = Report { inputs: 0, new: 0, features: 0, slowest: Duration::ZERO };
    for input in &pool {
        let (features, took) = play(target, input, &watchdog, plan.longest)?;
        seen.extend(features);
        report.slowest = report.slowest.max(took);
        report.inputs += 1;
    }
    pool.push(Vec::new());
    let start = Instant::now();
    while start.elapsed() < plan.time {
        let input = mutated(&pool, &mut random);
        let (features, took) = play(target, &input, &watchdog, plan.longest)?;
        report.slowest = report.slowest.max(took);
        report.inputs += 1;
        let before = seen.len();
        seen.extend(features);
        if seen.len() > before {
            report.new += 1;
            if let Some(folder) = &plan.keep {
                write(folder, &input);
            }
            pool.push(input);
        }
    }
    Ok(Report { features: seen.len(), ..report })
}

/// Plays one input; what it made happen and how much processor time it took.
fn play(
    target: &'static Target,
    input: &[u8],
    watchdog: &Watchdog,
    longest: Option<Duration>,
) -> Result<(HashSet<u64>, Duration), Finding> {
    watchdog.begin(input);
    let before = processor_time();
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let took = processor_time().saturating_sub(before);
    watchdog.end();
    let finding = |what: String| Finding { what, file: write(&home().join("findings").join(target.name), input) };
    match outcome {
        Ok(()) if longest.is_some_and(|longest| took > longest) => {
            Err(finding(format!("{}: the input takes {took:?}", target.name)))
        }
        Ok(()) => Ok((feedback::take(), took)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(finding(format!("{}: {}", target.name, text.unwrap_or("a panic without words"))))
        }
    }
}

/// Plays a file as the target of the folder in which it lies.
///
/// # Errors
/// When there is no such target or file; the target's own panic is let through.
pub fn replay(file: &Path) -> std::io::Result<()> {
    let name = file.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let target = crate::target(&name);
    let target =
        target.ok_or_else(|| std::io::Error::other(format!("no target is named {name:?}, as the file's folder is")))?;
    let input = std::fs::read(file)?;
    (target.run)(&input);
    Ok(())
}

/// What an input makes happen, for the choice of a small corpus.
pub fn features(target: &Target, input: &[u8]) -> HashSet<u64> {
    feedback::take();
    (target.run)(input);
    feedback::take()
}

/// Processor time of this thread: other processes of a busy machine do not count.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split_whitespace().next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

/// Writes an input under a name that its bytes give; where it is.
pub fn write(folder: &Path, input: &[u8]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let file = folder.join(format!("{:016x}", hasher.finish()));
    std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&file, input)).expect("the finding can be written");
    file
}

/// Ends the process when an input does not come back.
struct Watchdog(mpsc::Sender<Option<Vec<u8>>>);

impl Watchdog {
    #[expect(clippy::print_stderr, reason = "the last words of a process that is stuck")]
    fn start(target: &'static Target) -> Self {
        let (sender, receiver) = mpsc::channel::<Option<Vec<u8>>>();
        std::thread::spawn(move || {
            let mut playing = None;
            loop {
                let next = match &playing {
                    None => receiver.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                    Some(_) => receiver.recv_timeout(STUCK),
                };
                match (next, &playing) {
                    (Ok(now), _) => playing = now,
                    (Err(mpsc::RecvTimeoutError::Timeout), Some(input)) => {
                        let file = write(&home().join("findings").join(target.name), input);
                        eprintln!("{}: an input does not come back: {}", target.name, file.display());
                        std::process::abort();
                    }
                    (Err(_), _) => return,
                }
            }
        });
        Watchdog(sender)
    }

    fn begin(&self, input: &[u8]) {
        self.0.send(Some(input.to_vec())).expect("the watchdog lives as long as its sender");
    }

    fn end(&self) {
        self.0.send(None).expect("the watchdog lives as long as its sender");
    }
}

/// The xorshift64* generator: the same seed, the same run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit.max(1)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 40) as u8).collect()
    }
}

/// A new input: one of the pool with a few changes, or nothing known at all.
fn mutated(pool: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    if random.below(8) == 0 {
        let len = random.below(300);
        return random.bytes(len);
    }
    // The newest are the least tried.
    let newest = random.below(4) == 0;
    let from = if newest { pool.len().saturating_sub(1 + random.below(8)) } else { random.below(pool.len()) };
    let mut input = pool[from].clone();
    for _ in 0..=random.below(5) {
        change(&mut input, pool, random);
    }
    input.truncate(LONGEST_INPUT);
    input
}

fn change(input: &mut Vec<u8>, pool: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    match random.below(8) {
        0 | 1 if at < input.len() => input[at] = random.next() as u8,
        2 if at < input.len() => input[at] ^= 1 << random.below(8),
        3 if at < input.len() => {
            let end = (at + 1 + random.below(16)).min(input.len());
            input.drain(at..end);
        }
        4 => {
            let len = 1 + random.below(16);
            let new = random.bytes(len);
            input.splice(at..at, new);
        }
        5 => {
            let end = (at + random.below(64)).min(input.len());
            let again = input[at..end].to_vec();
            input.splice(at..at, again);
        }
        6 => {
            let other = &pool[random.below(pool.len())];
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => {
            let len = 1 + random.below(100);
            input.extend(random.bytes(len));
        }
    }
}
