//! The journal's file: the only place of this folder that touches the file system.
//!
//! [`Medium`] is what the journal needs of it, so that tests can put a failing one in its place.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags};
use sha2::{Digest, Sha256};

use super::chain::{self, Finding, Head, Line, Summary, Tail, Wrong};
use crate::{Error, Kind, Result, sys};

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
}

/// A journal in a file that nobody else writes.
pub(super) struct JournalFile {
    file: File,
    path: PathBuf,
    head: Option<File>,
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
        let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nofollow)
            .open(path)
            .map_err(|error| failed("cannot be opened", error))?;
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
        let head = open_head(&head_path(path)).ok();
        Ok(JournalFile { file, path: path.to_owned(), head, identity: (metadata.dev(), metadata.ino()) })
    }

    /// Verifies the file from its first byte.
    pub(super) fn visit<F>(&self, known: &[Head], each: F) -> Result<Summary, Finding>
    where
        F: FnMut(&Line<'_>) -> io::Result<()>,
    {
        chain::visit(BufReader::with_capacity(1 << 16, FromStart { file: &self.file, at: 0 }), known, each)
    }

    /// Moves the bytes from `offset` on into `torn-<seq>.bin` beside the journal and cuts them off.
    pub(super) fn set_tail_aside(&self, offset: u64, seq: u64) -> Result<TornTail> {
        let failed = |error: io::Error| device(format!("the torn tail cannot be set aside: {error}"));
        let mut tail = Vec::new();
        FromStart { file: &self.file, at: offset }.read_to_end(&mut tail).map_err(failed)?;
        let (name, mut aside) = self.create_torn(seq).map_err(failed)?;
        aside.write_all(&tail).and_then(|()| aside.sync_all()).map_err(failed)?;
        sync_folder_of(&self.path).map_err(failed)?;
        self.file.set_len(offset).and_then(|()| self.file.sync_all()).map_err(failed)?;
        Ok(TornTail { name, bytes: tail.len() as u64, sha256: Sha256::digest(&tail).into() })
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

/// What was cut off.
pub(super) struct TornTail {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) sha256: [u8; 32],
}

impl Medium for JournalFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, position)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        // A file that was renamed or deleted still takes writes, and nobody would ever read them.
        match std::fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == self.identity => Ok(()),
            _ => Err(io::Error::other("the file was moved, replaced or deleted")),
        }
    }

    fn remember(&self, head: &Head) {
        if let Some(file) = &self.head {
            let line = head.to_line();
            if file.write_all_at(line.as_bytes(), 0).is_ok() {
                file.set_len(line.len() as u64).ok();
            }
        }
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

fn open_head(path: &Path) -> io::Result<File> {
    let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(nofollow).open(path)
}

/// The file beside a journal that names its durable head.
pub fn head_path(journal: &Path) -> PathBuf {
    let mut name = journal.as_os_str().to_owned();
    name.push(".head");
    PathBuf::from(name)
}

/// The head that was durable when the journal's writer last noted it; `None` when there is no such note.
pub fn remembered_head(journal: &Path) -> Option<Head> {
    std::fs::read_to_string(head_path(journal)).ok().and_then(|line| Head::from_line(&line))
}

/// Verifies a journal file, by its own chain and by the head noted beside it, and shows each good record to `each`.
/// The file may belong to a running daemon.
///
/// # Errors
///
/// The first [`Finding`].
pub fn visit_file<F>(path: &Path, each: F) -> Result<Summary, Finding>
where
    F: FnMut(&Line<'_>) -> io::Result<()>,
{
    let known: Vec<Head> = remembered_head(path).into_iter().collect(); // before the file, which only grows
    let file = File::open(path).map_err(|error| Finding {
        line: 0,
        wrong: Wrong::Unreadable,
        what: format!("{} cannot be opened: {error}", path.display()),
    })?;
    // A writer holds the file's exclusive lock; when there is none, a shared one is to be had at once.
    let tail = match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            rustix::fs::flock(&file, FlockOperation::Unlock).unwrap_or_default();
            Tail::Whole
        }
        Err(_) => Tail::BeingWritten,
    };
    chain::visit_until(BufReader::with_capacity(1 << 16, file), &known, tail, each)
}

/// SHA-256 of the line that is record `seq`; `None` when the journal is shorter.
pub(super) fn hash_of_record(journal: &Path, seq: u64) -> io::Result<Option<[u8; 32]>> {
    let mut reader = BufReader::with_capacity(1 << 16, File::open(journal)?);
    let mut line = Vec::new();
    for _ in 0..seq {
        line.clear();
        reader.by_ref().take(chain::MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok(None);
        }
    }
    line.pop();
    Ok((seq > 0).then(|| chain::line_hash(&line)))
}

/// Makes names that were made or removed beside this file durable.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn device(what: String) -> Error {
    Error::new(Kind::Device, what)
}
