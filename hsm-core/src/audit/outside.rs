//! What leaves the journal: at each durable checkpoint the anchor is written and the witnesses are told. A thread of its own does it, so
//! that a disk or a collector elsewhere that does not answer holds up nobody; while it waits, the newest checkpoint takes the place of
//! those before it, which it covers.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use data_encoding::{BASE64, HEXLOWER};
use parking_lot::{Condvar, Mutex};
use time::OffsetDateTime;
use time::macros::format_description;

use super::anchor;
use super::chain::{Finding, Head, Summary, Wrong};
use super::checkpoint::{Checkpoint, SignedCheckpoint};
use super::complaint::Complaint;
use super::file::visit_trusting;
use super::keys::PublicKey;
use super::trust::Trust;
use crate::sys;

/// The socket of the system's log when the configuration names none.
const LOG_SOCKET: &str = "/dev/log";
/// Facility `log audit` (13), severity `notice` (5).
const PRIORITY: u8 = 13 * 8 + 5;

/// Who is told each checkpoint, beside the journal that carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Witness {
    /// A file elsewhere, to which signed notes are added.
    File(PathBuf),
    /// The system's log, by its socket.
    Syslog(PathBuf),
    /// Another daemon, `unix:SOCKET` or `https://HOST:PORT`. It is told by whoever speaks its language: see [`super::Follower`].
    Daemon(String),
}

impl Witness {
    /// Reads `file:PATH`, `syslog`, `syslog:PATH`, `daemon:unix:SOCKET` or `daemon:https://HOST:PORT`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Witness> {
        let path = |path: &str| (!path.is_empty()).then(|| PathBuf::from(path));
        match text.split_once(':') {
            None if text == "syslog" => Some(Witness::Syslog(LOG_SOCKET.into())),
            Some(("syslog", socket)) => path(socket).map(Witness::Syslog),
            Some(("file", file)) => path(file).map(Witness::File),
            Some(("daemon", endpoint)) => {
                let authority = endpoint.strip_prefix("https://");
                let socket = endpoint.strip_prefix("unix:").is_some_and(|socket| socket.starts_with('/'));
                (socket || authority.is_some_and(is_authority)).then(|| Witness::Daemon(endpoint.to_owned()))
            }
            _ => None,
        }
    }

    fn tell(&self, news: &News) -> io::Result<()> {
        let News { signed, key, time, .. } = news;
        match self {
            Witness::File(path) => {
                let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
                file.write_all(format!("{}\n", signed.note(key)).as_bytes())?;
                file.sync_data()
            }
            Witness::Syslog(socket) => {
                let sender = UnixDatagram::unbound()?;
                // A collector that is full is passed over rather than waited for.
                sender.set_nonblocking(true)?;
                sender.send_to(message(signed, key, *time).as_bytes(), socket).map(drop)
            }
            Witness::Daemon(_) => Ok(()),
        }
    }
}

impl core::fmt::Display for Witness {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Witness::File(path) => write!(f, "file:{}", path.display()),
            Witness::Syslog(path) => write!(f, "syslog:{}", path.display()),
            Witness::Daemon(endpoint) => write!(f, "daemon:{endpoint}"),
        }
    }
}

/// Whether a text is a host and a port.
fn is_authority(text: &str) -> bool {
    let plain =
        |host: &str| !host.is_empty() && !host.contains(['/', '@', '?', '#']) && !host.contains(char::is_whitespace);
    text.rsplit_once(':').is_some_and(|(host, port)| plain(host) && port.parse::<u16>().is_ok())
}

/// A checkpoint as one line of the system's log: without the ML-DSA-44 signature, which is longer than what many collectors keep of a line.
fn message(signed: &SignedCheckpoint, key: &PublicKey, time: u64) -> String {
    let Checkpoint { origin, size, root, generation } = &signed.checkpoint;
    let seconds = i64::try_from(time / 1_000_000_000).unwrap_or_default();
    let stamp = OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|time| {
            time.format(format_description!("[month repr:short] [day padding:space] [hour]:[minute]:[second]")).ok()
        })
        .unwrap_or_default();
    format!(
        "<{PRIORITY}>{stamp} craton-hsm[{}]: {MARK}{origin} {size} {} generation {generation} key {} signature {}",
        std::process::id(),
        BASE64.encode(root),
        HEXLOWER.encode(key.ed25519()),
        HEXLOWER.encode(&signed.signature)
    )
}

/// Before a checkpoint's parts in a line of the system's log.
const MARK: &str = "checkpoint ";

/// What is told.
#[derive(Clone)]
pub(super) struct News {
    /// A record that is durable, as is the checkpoint.
    pub(super) head: Head,
    pub(super) signed: SignedCheckpoint,
    pub(super) key: PublicKey,
    pub(super) time: u64,
}

/// The messenger. Dropping it delivers what is left.
pub(super) struct Outside {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Desk {
    pile: Mutex<Pile>,
    changed: Condvar,
}

#[derive(Default)]
struct Pile {
    newest: Option<News>,
    closing: bool,
}

impl Outside {
    /// A messenger, if there is anybody to be told.
    pub(super) fn start(anchor: Option<PathBuf>, mut witnesses: Vec<Witness>) -> Option<Self> {
        witnesses.retain(|witness| !matches!(witness, Witness::Daemon(_)));
        if anchor.is_none() && witnesses.is_empty() {
            return None;
        }
        let desk = Arc::new(Desk::default());
        let work = Arc::clone(&desk);
        let run = move || work.run(anchor.as_deref(), &witnesses);
        match std::thread::Builder::new().name("audit-outside".to_owned()).spawn(run) {
            Ok(thread) => Some(Outside { desk, thread: Some(thread) }),
            Err(error) => {
                tracing::error!(%error, "no thread to tell the anchor and the witnesses");
                None
            }
        }
    }

    /// Hands a checkpoint over.
    pub(super) fn tell(&self, news: News) {
        self.desk.pile.lock().newest = Some(news);
        self.desk.changed.notify_one();
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.desk.pile.lock().closing = true;
        self.desk.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_else(|_| tracing::error!("the messenger of the journal ended by a panic"));
        }
    }
}

impl Desk {
    fn run(&self, anchor: Option<&Path>, witnesses: &[Witness]) {
        // Else checkpoints would go on, and nobody outside would hear of them.
        let _whole = sys::Indivisible::begin("the messenger of the journal");
        let mut complaints: Vec<Complaint> = witnesses.iter().map(|_| Complaint::default()).collect();
        loop {
            let mut pile = self.pile.lock();
            while pile.newest.is_none() && !pile.closing {
                self.changed.wait(&mut pile);
            }
            let Some(news) = pile.newest.take() else { return };
            drop(pile);
            if let Some(anchor) = anchor {
                anchor::write(anchor, &news.head);
            }
            for (witness, complaint) in witnesses.iter().zip(&mut complaints) {
                match witness.tell(&news) {
                    Err(error) if complaint.is_due(&error.to_string()) => {
                        tracing::error!(%witness, %error, "a witness could not be told of the journal's checkpoint");
                    }
                    Ok(()) if complaint.is_over() => {
                        tracing::info!(%witness, "the witness hears of the journal's checkpoints again");
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The checkpoints that a witness kept: signed notes one after another, or lines of a system's log among others.
pub fn witnessed(text: &str) -> Vec<Checkpoint> {
    let lines: Vec<&str> = text.lines().collect();
    let notes = lines.windows(4).filter_map(|lines| checkpoint(lines[0], lines[1], lines[2], lines[3]));
    let messages = lines.iter().filter_map(|line| {
        let (_, rest) = line.split_once(MARK)?;
        let mut words = rest.splitn(4, ' ');
        let (origin, size, root) = (words.next()?, words.next()?, words.next()?);
        let (generation, _) = words.next()?.split_once(" key ")?;
        checkpoint(origin, size, root, generation)
    });
    notes.chain(messages).collect()
}

fn checkpoint(origin: &str, size: &str, root: &str, generation: &str) -> Option<Checkpoint> {
    let plain = !origin.is_empty() && !origin.contains(char::is_whitespace);
    let root = BASE64.decode(root.as_bytes()).ok()?.try_into().ok()?;
    let generation = generation.strip_prefix("generation ")?.parse().ok()?;
    plain.then_some(Checkpoint { origin: origin.to_owned(), size: size.parse().ok()?, root, generation })
}

/// Verifies a journal, and that it holds each checkpoint that a witness kept.
///
/// # Errors
/// The first [`Finding`]; [`Wrong::CutTail`] when a checkpoint is missing, which names the first that is.
pub fn verify_witnessed(path: &Path, trust: Trust, kept: &[Checkpoint]) -> Result<Summary, Finding> {
    let mut missing: Vec<&Checkpoint> = kept.iter().collect();
    let mut first = None;
    let summary = visit_trusting(path, trust, |line| {
        let first = *first.get_or_insert(line.record.seq);
        missing.retain(|kept| kept.size >= first);
        if let Some(Ok(signed)) = SignedCheckpoint::of(line.record) {
            missing.retain(|kept| **kept != signed.checkpoint);
        }
        Ok(())
    })?;
    match missing.iter().min_by_key(|kept| kept.size) {
        None => Ok(summary),
        Some(Checkpoint { origin, size, .. }) => {
            let what = format!(
                "the journal {} does not hold the checkpoint of {size} records of {origin} that a witness kept: it was cut, rolled \
                 back or rewritten, or is another",
                path.display()
            );
            Err(Finding { line: 0, wrong: Wrong::CutTail, what })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{entry, options};
    use super::super::{Durability, Journal, Options, SigningKeys};
    use super::*;
    use crate::SystemClock;
    use crate::secret::SecretBytes;

    fn write(path: &Path, witnesses: &[Witness]) {
        let options = Options { witnesses: witnesses.to_vec(), ..options(path) };
        let journal = Journal::open(options, Arc::new(SystemClock)).unwrap();
        journal.sign_with(SigningKeys::new(path, SecretBytes::copy_from(&[7; 32]), "craton-hsm/test".into())).unwrap();
        for number in 0..5 {
            journal.append(entry(number), 1, Durability::Written).map(drop).unwrap();
        }
    }

    #[test]
    fn a_witness_is_named_by_kind_and_path() {
        let rows = [
            ("syslog", Some(Witness::Syslog("/dev/log".into()))),
            ("syslog:/run/log", Some(Witness::Syslog("/run/log".into()))),
            ("file:/mnt/kept:1", Some(Witness::File("/mnt/kept:1".into()))),
            ("file:", None),
            ("file", None),
            ("daemon:unix:/run/w.sock", Some(Witness::Daemon("unix:/run/w.sock".into()))),
            ("daemon:https://witness.example:5696", Some(Witness::Daemon("https://witness.example:5696".into()))),
            ("daemon:https://[::1]:5696", Some(Witness::Daemon("https://[::1]:5696".into()))),
            ("daemon:unix:w.sock", None),
            ("daemon:https://witness.example", None),
            ("daemon:https://witness.example:5696/x", None),
            ("daemon:http://witness.example:80", None),
            ("/dev/log", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(Witness::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_journal_that_was_put_back_lacks_what_a_witness_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (path, kept) = (folder.path().join("audit.jsonl"), folder.path().join("kept"));
        let witness = [Witness::File(kept.clone())];
        write(&path, &witness);
        let yesterday: Vec<(PathBuf, Vec<u8>)> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| *path != kept)
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect();
        let before = witnessed(&std::fs::read_to_string(&kept).unwrap());
        assert!(!before.is_empty());
        verify_witnessed(&path, Trust::default(), &before).unwrap();
        write(&path, &witness);
        let after = witnessed(&std::fs::read_to_string(&kept).unwrap());
        assert!(after.len() > before.len() && after.starts_with(&before), "notes are only added");
        verify_witnessed(&path, Trust::default(), &after).unwrap();
        for (path, bytes) in yesterday {
            std::fs::write(path, bytes).unwrap();
        }
        verify_witnessed(&path, Trust::default(), &before).unwrap();
        assert_eq!(verify_witnessed(&path, Trust::default(), &after).unwrap_err().wrong, Wrong::CutTail);
        // Another history of the same length.
        let other = [Checkpoint { root: [1; 32], ..before[0].clone() }];
        assert_eq!(verify_witnessed(&path, Trust::default(), &other).unwrap_err().wrong, Wrong::CutTail);
    }

    #[test]
    fn the_systems_log_hears_checkpoints_that_can_be_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let (path, socket) = (folder.path().join("audit.jsonl"), folder.path().join("log"));
        let log = UnixDatagram::bind(&socket).unwrap();
        log.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let absent = Witness::Syslog(folder.path().join("absent"));
        write(&path, &[absent, Witness::Syslog(socket)]);
        let mut bytes = [0; 2048];
        let len = log.recv(&mut bytes).unwrap();
        let said = std::str::from_utf8(&bytes[..len]).unwrap();
        assert!(said.starts_with("<109>") && said.contains(" craton-hsm["), "{said}");
        let heard = witnessed(&format!("Nov  1 00:00:00 host sshd[1]: other\nNov 22 12:00:00 host {said}\n"));
        assert_eq!(heard.len(), 1);
        verify_witnessed(&path, Trust::default(), &heard).unwrap();
    }
}
