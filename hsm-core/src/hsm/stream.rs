//! The streaming copy: a directory on another disk that holds an archive of the newest state, never much more than a second old.
//!
//! Whoever has the secret half of one of the configured keys restores it like any other archive; no PIN is needed to make it. A copy is a
//! whole archive, so it takes longer for a large token: the next begins when ten times that long has passed, so that copies take at most
//! a tenth of one processor.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Weak;
use std::time::{Duration, Instant};

use super::Hsm;
use crate::audit::{self, Category, Durability, Entry, Fact};
use crate::backup;
use crate::config::StreamConfig;
use crate::envelope::{BackupPublicKey, For};
use crate::error::{Error, Kind, Result, caught};
use crate::sys;

/// The newest copy in its directory.
const FILE: &str = "stream.enc";
/// The copy before it.
const PREVIOUS: &str = "stream.previous.enc";
/// A copy that is being made.
const UNFINISHED: &str = "stream.enc.new";
/// No two copies begin within less.
const REST: Duration = Duration::from_millis(500);
/// How many times as long as a copy takes nothing is copied.
const SHARE: u32 = 10;

/// How the copying goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Stream {
    /// The generation of the newest copy.
    pub(super) generation: u64,
    /// When its snapshot was taken, in nanoseconds since the Unix epoch; zero before the first.
    pub(super) taken: u64,
    /// Why there is no newer one.
    pub(super) failure: Option<String>,
    /// The token is being closed: no further copy begins.
    pub(super) closing: bool,
}

impl Hsm {
    /// Starts the copying, if it is configured; notes in the journal for whom.
    pub(super) fn start_stream(&self) -> Result<()> {
        let Some(stream) = self.config().stream.clone().filter(|_| self.config().token.persist_objects) else {
            return Ok(());
        };
        let keys = stream.recipients.iter().map(|file| public_key(file)).collect::<Result<Vec<_>>>()?;
        let mut entry = Entry::new(Category::Admin, "backup_stream", audit::Client::Daemon);
        for key in &keys {
            entry = entry.with_fact("recipient", Fact::name(&key.name()));
        }
        let _receipt = self.journal.append(entry, self.vault()?.generation(), Durability::Durable)?;
        let others: Vec<For> = keys.into_iter().map(For::PublicKey).collect();
        let me = self.me.clone();
        let run = move || copy_on(&me, &stream, &others);
        let started = std::thread::Builder::new().name("backup-stream".into()).spawn(run);
        started.map(drop).map_err(|error| Error::new(Kind::Internal, format!("no thread for backup.stream: {error}")))
    }

    /// Makes a copy if something has changed since the last.
    fn copy(&self, stream: &StreamConfig, others: &[For]) -> Result<()> {
        let vault = self.vault()?;
        if self.stream.lock().generation == vault.generation() {
            return Ok(());
        }
        let taken = self.clock.now_unix_nanos();
        let snapshot = vault.snapshot_for_backup()?;
        let request = backup::Request {
            so: None,
            others,
            function: self.config().pin.function,
            created: taken,
            audit: self.journal.durable_head(),
            first_key: audit::first_key(&self.config().audit.log_path),
        };
        let failed = |error: std::io::Error| {
            Error::new(Kind::Device, format!("{} cannot be written: {error}", stream.directory.display()))
        };
        sys::create_private_dir(&stream.directory).map_err(failed)?;
        let unfinished = stream.directory.join(UNFINISHED);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
        let mut out = BufWriter::new(file.map_err(failed)?);
        backup::write(&snapshot, &request, &|token| vault.object_count(token), &mut out)?;
        out.flush().map_err(failed)?;
        out.get_ref().sync_all().map_err(failed)?;
        keep(&stream.directory, &unfinished).map_err(failed)?;
        let mut state = self.stream.lock();
        (state.generation, state.taken, state.failure) = (snapshot.generation, taken, None);
        Ok(())
    }
}

/// The copy gets its name; the one before it keeps another. A crash between leaves at least one whole copy.
fn keep(directory: &Path, unfinished: &Path) -> std::io::Result<()> {
    let newest = directory.join(FILE);
    match std::fs::rename(&newest, directory.join(PREVIOUS)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::rename(unfinished, &newest)?;
    File::open(directory)?.sync_all()
}

fn public_key(file: &Path) -> Result<BackupPublicKey> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Error::new(Kind::Device, format!("backup.stream_recipients: {}: {error}", file.display())))?;
    BackupPublicKey::parse(&text)
}

/// Until the token is gone.
fn copy_on(me: &Weak<Hsm>, stream: &StreamConfig, others: &[For]) {
    loop {
        let Some(hsm) = me.upgrade().filter(|hsm| !hsm.stream.lock().closing) else { return };
        let begun = Instant::now();
        if let Err(error) = caught(|| hsm.copy(stream, others)).and_then(|done| done) {
            let mut state = hsm.stream.lock();
            if state.failure.is_none() {
                tracing::error!(%error, "backup.stream has no copy of the newest state");
            }
            state.failure = Some(error.detail().unwrap_or("it cannot be written").to_owned());
        }
        drop(hsm);
        std::thread::sleep((begun.elapsed() * SHARE).max(REST));
    }
}
