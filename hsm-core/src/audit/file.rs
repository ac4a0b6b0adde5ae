//! The journal's files: the one that is being written, under the journal's own name, and the closed ones before it.
//!
//! [`Medium`] is what the journal needs of them, so that tests can put a failing one in their place.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use rustix::fs::{FlockOperation, OFlags};
use sha2::{Digest, Sha256};

use super::chain::{self, Finding, Head, Line, Summary, Tail, Walk, Wrong};
use super::checkpoint;
use super::keys::Pin;
use super::record::Record;
use super::signer::beside;
use super::trust::Trust;
use crate::{Error, Kind, Result, failpoint, sys};

/// Where lines go. Positions are given, so that a write that failed half way is simply written over.
pub(super) trait Medium: Send + Sync {
    /// Writes all bytes at the position.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// Makes the file this long.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Makes everything written durable.
    fn sync(&self) -> io::Result<()>;
    /// Keeps the durable head beside the journal; a hint for verifiers, so a failure costs nothing.
    fn remember(&self, head: &Head);
    /// Closes the file, which begins with record `first`, and goes on with an empty one. A failure leaves it as it was. The new names are
    /// durable with the next sync.
    fn begin_another(&self, first: u64) -> io::Result<()>;
    /// How many bytes are free where the file is; nothing if that cannot be told.
    fn free(&self) -> Option<u64> {
        None
    }
    /// Keeps so many bytes from there on for the file, whoever fills the disk; the file becomes no longer by it.
    fn set_aside(&self, _position: u64, _bytes: u64) -> io::Result<()> {
        Ok(())
    }
}

/// A journal in a file that nobody else writes.
pub(super) struct JournalFile {
    live: RwLock<Live>,
    path: PathBuf,
    head: Option<File>,
    /// How long the head's line was.
    head_len: AtomicUsize,
    /// Names in the folder changed and are not known to be durable.
    renamed: AtomicBool,
}

struct Live {
    file: File,
    identity: (u64, u64),
}

impl JournalFile {
    /// Opens the file or creates it with mode 0600 (and its folder, 0700), and locks it against a second writer.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |what: &str, error: io::Error| device(format!("the journal {} {what}: {error}", path.display()));
        let created = !path.exists();
        if let Some(folder) = path.parent().filter(|folder| created && !folder.as_os_str().is_empty()) {
            sys::create_private_dir(folder).map_err(|error| failed("has no folder", error))?;
        }
        let file = open_private(path).map_err(|error| failed("cannot be opened", error))?;
        let metadata = file.metadata().map_err(|error| failed("cannot be examined", error))?;
        if !metadata.is_file() {
            return Err(device(format!("the journal {} is not a regular file", path.display())));
        }
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let path = path.display();
            return Err(device(format!("the journal {path} has mode {mode:o}: chmod 600 {path}")));
        }
        if !locked(&file) {
            let path = path.display();
            return Err(device(format!("the journal {path} is being written by another process (a running daemon?)")));
        }
        if created {
            sync_folder_of(path).map_err(|error| failed("cannot be created durably", error))?;
        }
        undo_half_closed(path, &metadata).map_err(|error| failed("cannot be examined", error))?;
        let head = open_private(&head_path(path)).ok();
        let live = RwLock::new(Live { file, identity: (metadata.dev(), metadata.ino()) });
        Ok(JournalFile {
            live,
            path: path.to_owned(),
            head,
            head_len: AtomicUsize::new(0),
            // An earlier run may have ended before it could say so.
            renamed: AtomicBool::new(true),
        })
    }

    /// Verifies the file that is being written, from where it begins; when it is empty, the closed one before it. The closed
    /// one must end with the line that the file continues.
    pub(super) fn visit<F>(&self, known: &[Head], mut each: F) -> Result<Opened, Opening>
    where
        F: FnMut(&Line<'_>) -> io::Result<()>,
    {
        let mut walk = Walk::trusting(Trust { later_start: true, ..Trust::default() });
        let closed = closed_files(&self.path);
        let live = self.live.read();
        let from_start = || BufReader::with_capacity(1 << 16, FromStart { file: &live.file, at: 0 });
        let length = live.file.metadata().map(|found| found.len()).unwrap_or_default();
        // Its first record, which says what it continues, was not written, or was lost with the power.
        let unbegun = !closed.is_empty() && (length == 0 || !is_begun(from_start()));
        if let Some((first, path)) = closed.last() {
            let broken = |finding| Opening { path: path.clone(), finding };
            let before = if unbegun { read_closed(path, &mut walk, known, &mut each) } else { last_hash(path) };
            let before = before.map_err(broken)?;
            let begins = first_line(from_start()).map(|record| (record.seq, record.prev));
            if let Some((seq, prev)) = begins
                && (seq <= *first || prev != data_encoding::HEXLOWER.encode(&before))
            {
                let what = format!("it does not continue {}", path.display());
                let finding = Finding { line: 1, wrong: Wrong::Chain, what };
                return Err(Opening { path: self.path.clone(), finding });
            }
        }
        walk.next_file();
        let of_live = |finding| Opening { path: self.path.clone(), finding };
        let outcome = if unbegun { Ok(()) } else { walk.read(from_start(), known, Tail::Whole, &mut each) };
        let torn = match outcome {
            Ok(()) => (unbegun && length > 0).then_some(0),
            // After a kill the last line may be incomplete; after a loss of power so may be all that was not synced.
            Err(Finding { wrong: Wrong::TornTail { offset } | Wrong::Unwritten { offset }, .. })
                if known.iter().all(|head| head.seq <= walk.head().seq) =>
            {
                Some(offset)
            }
            Err(finding) => return Err(of_live(finding)),
        };
        walk.clone().finish(known).map_err(of_live)?;
        Ok(Opened { walk, torn, begin_another: unbegun })
    }

    /// Moves the bytes from `offset` on into `torn-<seq>.bin` beside the journal and cuts them off.
    pub(super) fn set_tail_aside(&self, offset: u64, seq: u64) -> Result<TornTail> {
        let failed = |error: io::Error| device(format!("the torn tail cannot be set aside: {error}"));
        let mut tail = Vec::new();
        let live = self.live.read();
        FromStart { file: &live.file, at: offset }.read_to_end(&mut tail).map_err(failed)?;
        let (name, mut aside) = self.create_torn(seq).map_err(failed)?;
        aside.write_all(&tail).and_then(|()| aside.sync_all()).map_err(failed)?;
        sync_folder_of(&self.path).map_err(failed)?;
        live.file.set_len(offset).and_then(|()| live.file.sync_all()).map_err(failed)?;
        Ok(TornTail { name, bytes: tail.len() as u64, sha256: Sha256::digest(&tail).into() })
    }

    /// Writes what stands between two positions once more, and makes it durable: where an fsync failed just before the earlier run ended, the
    /// system shows bytes that it will never write by itself.
    pub(super) fn write_anew(&self, from: u64, to: u64) -> Result<()> {
        let failed = |error: io::Error| device(format!("what the last run wrote cannot be made durable: {error}"));
        let (mut piece, mut at) = (vec![0; 1 << 16], from);
        while at < to {
            let len = piece.len().min(usize::try_from(to - at).unwrap_or(usize::MAX));
            self.live.read().file.read_exact_at(&mut piece[..len], at).map_err(failed)?;
            self.write_at(&piece[..len], at).map_err(failed)?;
            at += len as u64;
        }
        if from < to { self.sync().map_err(failed) } else { Ok(()) }
    }

    fn create_torn(&self, seq: u64) -> io::Result<(String, File)> {
        let mut attempt = 0;
        loop {
            let name = match attempt {
                0 => format!("torn-{seq}.bin"),
                n => format!("torn-{seq}.{n}.bin"),
            };
            let path = self.path.with_file_name(&name);
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
                Ok(file) => return Ok((name, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Takes the writer's lock. A verifier that looks whether there is a writer holds it for an instant: hence more than one
/// attempt.
fn locked(file: &File) -> bool {
    (0..5).any(|attempt| {
        if attempt > 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
    })
}

/// A journal that was verified as far as its writer needs it.
pub(super) struct Opened {
    /// The state at its end.
    pub(super) walk: Walk,
    /// Where an incomplete last line begins that nobody remembers as written.
    pub(super) torn: Option<u64>,
    /// The file is empty and continues a closed one.
    pub(super) begin_another: bool,
}

/// What is wrong with which file.
pub(super) struct Opening {
    pub(super) path: PathBuf,
    pub(super) finding: Finding,
}

/// A run that ended while it closed the file, or failed to, may have left it under both names: then it is not closed yet.
fn undo_half_closed(path: &Path, live: &std::fs::Metadata) -> io::Result<()> {
    match closed_files(path).pop() {
        Some((_, closed)) if std::fs::metadata(&closed)?.ino() == live.ino() => std::fs::remove_file(closed),
        _ => Ok(()),
    }
}

fn open_private(path: &Path) -> io::Result<File> {
    let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(nofollow).open(path)
}

/// Verifies a closed file and gives the hash of its last line.
fn read_closed<F>(path: &Path, walk: &mut Walk, known: &[Head], each: &mut F) -> Result<[u8; 32], Finding>
where
    F: FnMut(&Line<'_>) -> io::Result<()>,
{
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    walk.read(BufReader::with_capacity(1 << 16, file), known, Tail::Whole, each)?;
    Ok(walk.head().hash)
}

/// The hash of a closed file's last line.
fn last_hash(path: &Path) -> Result<[u8; 32], Finding> {
    let read = || -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        let from = file.metadata()?.len().saturating_sub(chain::MAX_LINE_BYTES);
        let mut tail = Vec::new();
        FromStart { file: &file, at: from }.read_to_end(&mut tail)?;
        Ok(tail)
    };
    let tail = read().map_err(|error| unreadable(path, &error))?;
    let broken = |what: &str| {
        let what = format!("{} does not end with a record: {what}", path.display());
        Finding { line: 0, wrong: Wrong::Line, what }
    };
    let text = tail.strip_suffix(b"\n").ok_or_else(|| broken("the last line is incomplete"))?;
    let line = text.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    Record::parse(line).map(|record| record.hash(line)).map_err(|what| broken(&what))
}

/// Whether the first line is whole, right or wrong, as far as it can be read.
fn is_begun<R: BufRead>(mut reader: R) -> bool {
    let mut line = Vec::new();
    let read = reader.by_ref().take(chain::MAX_LINE_BYTES).read_until(b'\n', &mut line);
    read.is_err() || line.ends_with(b"\n") && !chain::is_unwritten(&line)
}

fn first_line<R: BufRead>(mut reader: R) -> Option<Record> {
    let mut line = Vec::new();
    reader.by_ref().take(chain::MAX_LINE_BYTES).read_until(b'\n', &mut line).ok()?;
    Record::parse(line.strip_suffix(b"\n")?).ok()
}

/// A journal names its first key within so many records, or has none.
const RECORDS_BEFORE_KEY: usize = 256;

/// The public key that the journal named first, if it is still in the files that are here.
pub fn first_key(journal: &Path) -> Option<Pin> {
    let oldest = closed_files(journal).into_iter().next().map_or_else(|| journal.to_owned(), |(_, path)| path);
    let mut reader = BufReader::new(File::open(oldest).ok()?);
    let mut records = (0..RECORDS_BEFORE_KEY).map_while(|_| first_line(&mut reader));
    records.find_map(|record| checkpoint::announced(&record)).map(|key| key.pin())
}

fn unreadable(path: &Path, error: &io::Error) -> Finding {
    let what = format!("{} cannot be opened: {error}", path.display());
    Finding { line: 0, wrong: Wrong::Unreadable, what }
}

/// Digits of the first record's number in the name of a closed file: enough for any number, so that names sort.
const DIGITS: usize = 20;

/// The name of a closed file that begins with record `first`: `audit.jsonl` becomes `audit-00000000000000000001.jsonl`.
pub fn closed_path(journal: &Path, first: u64) -> PathBuf {
    let stem = journal.file_stem().unwrap_or_default().to_string_lossy();
    let extension = journal.extension().map(|text| format!(".{}", text.to_string_lossy())).unwrap_or_default();
    journal.with_file_name(format!("{stem}-{first:020}{extension}"))
}

/// The closed files of a journal that are there, by the number of their first record, in order.
pub fn closed_files(journal: &Path) -> Vec<(u64, PathBuf)> {
    let folder = journal.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let firsts = names.filter_map(|name| {
        let rest = name.strip_prefix(journal.file_stem()?.to_str()?)?.strip_prefix('-')?;
        let first: u64 = rest.get(..DIGITS)?.parse().ok()?;
        (closed_path(journal, first).file_name()?.to_str()? == name).then_some(first)
    });
    let mut files: Vec<(u64, PathBuf)> = firsts.map(|first| (first, closed_path(journal, first))).collect();
    files.sort_unstable();
    files
}

/// What was cut off.
pub(super) struct TornTail {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) sha256: [u8; 32],
}

impl Medium for JournalFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        failpoint!("journal.write.before", io::Error::other("a failpoint"));
        let written = self.live.read().file.write_all_at(bytes, position);
        failpoint!("journal.write.after");
        written
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.live.read().file.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        let live = self.live.read();
        failpoint!("journal.sync.before", io::Error::other("a failpoint"));
        live.file.sync_data()?;
        if self.renamed.load(Ordering::Acquire) {
            sync_folder_of(&self.path)?;
            self.renamed.store(false, Ordering::Release);
        }
        failpoint!("journal.sync.after");
        // A file that was renamed or deleted still takes writes, and nobody would ever read them.
        match std::fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == live.identity => Ok(()),
            _ => Err(io::Error::other("the file was moved, replaced or deleted")),
        }
    }

    fn remember(&self, head: &Head) {
        if let Some(file) = &self.head {
            let line = head.to_line();
            if file.write_all_at(line.as_bytes(), 0).is_ok()
                && self.head_len.swap(line.len(), Ordering::Relaxed) != line.len()
            {
                file.set_len(line.len() as u64).ok();
            }
        }
    }

    fn begin_another(&self, first: u64) -> io::Result<()> {
        let mut live = self.live.write();
        // An attempt before this one may have come as far as that.
        undo_half_closed(&self.path, &live.file.metadata()?)?;
        // The new file is complete and locked before it takes the journal's name.
        let fresh = beside(&self.path, ".new");
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = sys::create_private_file(&fresh)?;
        if !locked(&file) {
            return Err(io::Error::other("the new file cannot be locked"));
        }
        let metadata = file.metadata()?;
        // What was set aside beyond its end is given back; where that is not possible, a closed file is a little larger on disk.
        live.file.metadata().and_then(|closed| live.file.set_len(closed.len())).unwrap_or_default();
        // A hard link never replaces a file that is there already.
        std::fs::hard_link(&self.path, closed_path(&self.path, first))?;
        failpoint!("journal.close.linked");
        std::fs::rename(&fresh, &self.path)?;
        failpoint!("journal.close.renamed");
        *live = Live { file, identity: (metadata.dev(), metadata.ino()) };
        self.renamed.store(true, Ordering::Release);
        Ok(())
    }

    fn free(&self) -> Option<u64> {
        let found = rustix::fs::fstatvfs(&self.live.read().file).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn set_aside(&self, position: u64, bytes: u64) -> io::Result<()> {
        let live = self.live.read();
        rustix::fs::fallocate(&live.file, rustix::fs::FallocateFlags::KEEP_SIZE, position, bytes).map_err(Into::into)
    }
}

/// A reader over a file that leaves the file's own position alone.
struct FromStart<'a> {
    file: &'a File,
    at: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// The file beside a journal that names its durable head.
pub fn head_path(journal: &Path) -> PathBuf {
    beside(journal, ".head")
}

/// The head that was durable when the journal's writer last noted it; `None` when there is no such note.
pub fn remembered_head(journal: &Path) -> Option<Head> {
    std::fs::read_to_string(head_path(journal)).ok().and_then(|line| Head::from_line(&line))
}

/// Verifies a journal with all its files, by its own chain and by the head noted beside it, and shows each good record to
/// `each`. The journal may belong to a running daemon.
///
/// # Errors
///
/// The first [`Finding`]; its sentence names the file when it is not the journal's last.
pub fn visit_file<F>(path: &Path, each: F) -> Result<Summary, Finding>
where
    F: FnMut(&Line<'_>) -> io::Result<()>,
{
    visit_trusting(path, Trust::default(), each)
}

/// [`visit_file`], with what the verifier takes on trust.
///
/// # Errors
///
/// The first [`Finding`].
pub fn visit_trusting<F>(path: &Path, trust: Trust, mut each: F) -> Result<Summary, Finding>
where
    F: FnMut(&Line<'_>) -> io::Result<()>,
{
    let known: Vec<Head> = remembered_head(path).into_iter().collect(); // before the file, which only grows
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let identity = |file: &File| file.metadata().map(|found| (found.dev(), found.ino())).ok();
    let mut walk = Walk::trusting(trust);
    for (_, closed) in closed_files(path) {
        let before = File::open(&closed).map_err(|error| unreadable(&closed, &error))?;
        // The journal's file may have been closed since it was opened here.
        if identity(&before) == identity(&file) {
            break;
        }
        let reader = BufReader::with_capacity(1 << 16, before);
        walk.read(reader, &known, Tail::Whole, &mut each).map_err(|finding| in_file(&closed, finding))?;
        walk.next_file();
    }
    // A writer holds the file's exclusive lock; when there is none, a shared one is to be had at once.
    let tail = match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            rustix::fs::flock(&file, FlockOperation::Unlock).unwrap_or_default();
            Tail::Whole
        }
        Err(_) => Tail::BeingWritten,
    };
    walk.read(BufReader::with_capacity(1 << 16, &file), &known, tail, &mut each)?;
    walk.finish(&known)
}

fn in_file(path: &Path, finding: Finding) -> Finding {
    let what = format!("{} (in {})", finding.what, path.display());
    Finding { what, ..finding }
}

/// The file that holds record `seq`, or will; when it is archived elsewhere, the oldest that is here.
pub(super) fn file_of(journal: &Path, seq: u64) -> io::Result<PathBuf> {
    let live = BufReader::with_capacity(1 << 16, File::open(journal)?);
    let begins = first_line(live).map(|record| record.seq);
    let mut closed = closed_files(journal);
    // A run may have ended between the end of one file and the first record of the next.
    if closed.is_empty() || begins.is_some_and(|first| seq >= first) {
        return Ok(journal.to_owned());
    }
    let at = closed.iter().rposition(|(first, _)| *first <= seq).unwrap_or_default();
    Ok(closed.swap_remove(at).1)
}

/// The hash of the line that is record `seq`; `None` when the journal is shorter, or the file that held it is archived.
pub(super) fn hash_of_record(journal: &Path, seq: u64) -> io::Result<Option<[u8; 32]>> {
    let path = file_of(journal, seq)?;
    let first = first_line(BufReader::with_capacity(1 << 16, File::open(&path)?)).map_or(1, |record| record.seq);
    if first > seq {
        return Ok(None);
    }
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path)?);
    let mut line = Vec::new();
    for _ in first..=seq {
        line.clear();
        reader.by_ref().take(chain::MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok(None);
        }
    }
    line.pop();
    Ok(Record::parse(&line).ok().map(|record| record.hash(&line)))
}

/// Makes names that were made or removed beside this file durable.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn device(what: String) -> Error {
    Error::new(Kind::Device, what)
}
