//! Backup and restore of the store. The keys are the token's: its own backup keeps them, and both can travel in one bundle
//! (`craton-hsm-admin backup --bundle --pki`).
//!
//! A backup is taken from one snapshot while the server goes on, is verified, and gets its name only then. A restored store is marked: it
//! signs no list and serves nobody until [`reconcile`] has been told what it lacks, and its numbers begin above every number that can
//! have been published.

pub(crate) mod archive;
pub(crate) mod reconcile;

use crate::api::command::{Command, Fault};
use crate::api::socket;
use crate::ca::hindsight;
use crate::clock;
use crate::config::Config;
use crate::error::Error;
use crate::file::sync_folder_of;
use crate::journal::office;
use crate::secret::SecretSource;
use crate::store::image::{Facts, Reader, Writer};
use crate::store::record::Restoration;
use crate::store::redb::RedbStore;
use crate::store::{Change, Query, Record, Store, StoreError};
use crate::va::crl::least_number_at;
use archive::{ArchiveError, Opening, Sealing};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl From<ArchiveError> for Error {
    fn from(fault: ArchiveError) -> Self {
        Self::Operator(Fault::new("backup", fault))
    }
}

fn refused(sentence: impl std::fmt::Display) -> Error {
    Error::Operator(Fault::new("backup", sentence))
}

fn of_file(path: &Path) -> impl Fn(std::io::Error) -> Error {
    let shown = path.display().to_string();
    move |fault| refused(format!("{shown}: {fault}"))
}

fn store_fault(fault: StoreError) -> Error {
    Error::Ca(fault.into())
}

/// A file that is being made; gone when dropped, unless it was kept.
struct Part {
    path: PathBuf,
}

impl Part {
    fn create(output: &Path) -> Result<(Self, File), Error> {
        if output.symlink_metadata().is_ok() {
            return Err(refused(format!("{} exists already; a backup never replaces a file", output.display())));
        }
        let mut name = output.as_os_str().to_owned();
        name.push(format!(".part-{}", std::process::id()));
        let path = PathBuf::from(name);
        let file = std::fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        Ok((Self { path: path.clone() }, file.map_err(of_file(&path))?))
    }

    /// Gives the file its name; one that appeared meanwhile is not replaced.
    fn keep(self, output: &Path) -> Result<(), Error> {
        std::fs::hard_link(&self.path, output).map_err(of_file(output))?;
        Ok(sync_folder_of(output)?)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // What cannot be removed is seen by its name.
        std::fs::remove_file(&self.path).unwrap_or_default();
    }
}

/// The image of the store: from the running server, or from the store itself when there is none.
fn image(config: &Config, store: impl FnOnce() -> Result<Arc<dyn Store>, Error>) -> Result<Box<dyn Read>, Error> {
    if let Some(stream) = socket::image(&socket::path(&config.state_dir)).map_err(Error::Operator)? {
        return Ok(stream);
    }
    let store = store()?;
    let (mut from, to) = UnixStream::pair()?;
    std::thread::Builder::new().name("image".to_owned()).spawn(move || {
        // A failure ends the stream early, which its reader notices.
        if let Err(fault) = store.write_image(clock::now(), &mut BufWriter::new(&mut from)) {
            tracing::error!(event = "image_not_written", %fault);
        }
    })?;
    Ok(Box::new(to))
}

/// Copies an image, which is found whole.
fn copy<W: Write>(mut reader: Reader<impl Read>, out: &mut W) -> Result<u64, Error> {
    let mut writer = Writer::new(out, &reader.facts).map_err(store_fault)?;
    let mut records = 0;
    while let Some(record) = reader.next().map_err(store_fault)? {
        writer.record(&record.table, &record.key, &record.value).map_err(store_fault)?;
        records += 1;
    }
    writer.finish().map_err(store_fault)?;
    Ok(records)
}

/// Takes a backup, sealed by a passphrase or, for whoever seals it otherwise, plain.
///
/// # Errors
/// When there is no store, or the file is not written whole; then no file has its name.
pub(crate) fn take(
    config: &Config,
    output: &Path,
    passphrase: Option<&SecretSource>,
    store: impl FnOnce() -> Result<Arc<dyn Store>, Error>,
) -> Result<Value, Error> {
    let passphrase = passphrase.map(|source| source.read().map_err(|fault| refused(format!("--passphrase: {fault}"))));
    let passphrase = passphrase.transpose()?;
    let (part, file) = Part::create(output)?;
    let reader = Reader::new(BufReader::new(image(config, store)?)).map_err(store_fault)?;
    let facts = reader.facts;
    let mut out = BufWriter::new(&file);
    let records = match &passphrase {
        None => copy(reader, &mut out)?,
        Some(phrase) => {
            let mut sealing = Sealing::new(&mut out, phrase.expose_secret().as_bytes(), &facts)?;
            let records = copy(reader, &mut sealing)?;
            sealing.finish()?;
            records
        }
    };
    out.flush().and_then(|()| file.sync_all()).map_err(of_file(output))?;
    drop(out);
    let phrase = passphrase.as_ref().map(|phrase| phrase.expose_secret().as_bytes());
    if verified(open(&part.path, phrase)?)? != (facts, records) {
        return Err(refused("the backup that was written is not the one that was made"));
    }
    let bytes = file.metadata().map_err(of_file(output))?.len();
    part.keep(output)?;
    tracing::info!(event = "backup_taken", records, bytes);
    Ok(json!({
        "file": output, "bytes": bytes, "records": records, "sealed": passphrase.is_some(), "backup": facts.view(),
    }))
}

/// Reads an image to its end.
fn verified(mut reader: Reader<impl Read>) -> Result<(Facts, u64), Error> {
    let mut records = 0;
    while reader.next().map_err(store_fault)?.is_some() {
        records += 1;
    }
    Ok((reader.facts, records))
}

/// Opens a backup, sealed or plain.
fn open(path: &Path, passphrase: Option<&[u8]>) -> Result<Reader<Box<dyn Read>>, Error> {
    let mut file = File::open(path).map_err(of_file(path))?;
    let is_sealed = archive::looks_like_archive(&mut file).map_err(of_file(path))?;
    let source: Box<dyn Read> = match (is_sealed, passphrase) {
        (false, _) => Box::new(BufReader::new(file)),
        (true, Some(passphrase)) => Box::new(BufReader::new(Opening::new(file, passphrase)?)),
        (true, None) => return Err(refused("the backup is sealed: give --passphrase")),
    };
    Reader::new(source).map_err(store_fault)
}

/// What a store is made from, and what may be done for it.
pub(crate) struct Restore<'a> {
    /// The backup.
    pub(crate) input: &'a Path,
    /// What it opens with, unless it is plain.
    pub(crate) passphrase: Option<&'a SecretSource>,
    /// Whether a store that is there is kept aside.
    pub(crate) replaces: bool,
    /// Why a backup that is dated in the future may be taken.
    pub(crate) accepts_rollback: Option<&'a str>,
}

/// Makes the store from a backup, and marks it.
///
/// # Errors
/// When there is a store that is not to be replaced, when somebody has it open, or the backup is not whole or from the future; then nothing
/// has changed.
pub(crate) fn restore(config: &Config, asked: &Restore<'_>) -> Result<Value, Error> {
    let &Restore { input, passphrase, replaces, accepts_rollback } = asked;
    let now = clock::now();
    if socket::ask(&socket::path(&config.state_dir), &Command::Health {}).map_err(Error::Operator)?.is_some() {
        return Err(refused("a server is running on this store: stop it first"));
    }
    let path = config.state_dir.join("pki.redb");
    refuse_store(&path, replaces)?;
    let passphrase = passphrase.map(|source| source.read().map_err(|fault| refused(format!("--passphrase: {fault}"))));
    let passphrase = passphrase.transpose()?;
    let phrase = passphrase.as_ref().map(|phrase| phrase.expose_secret().as_bytes());
    // Once to its end before anything is written, and once to write it.
    let (facts, records) = verified(open(input, phrase)?)?;
    refuse_future(&facts, accepts_rollback, now)?;
    let draft = path.with_extension("restored");
    if draft.exists() {
        std::fs::remove_file(&draft).map_err(of_file(&draft))?;
    }
    let restoration = Restoration {
        taken_at: facts.taken_at,
        journal_size: facts.journal_size,
        restored_at: now,
        rollback_reason: accepts_rollback.unwrap_or_default().to_owned(),
    };
    let view = fill(&draft, open(input, phrase)?, facts, restoration).inspect_err(|_| {
        // What is left of it is overwritten by the next attempt.
        std::fs::remove_file(&draft).unwrap_or_default();
    })?;
    let kept = if path.exists() {
        let aside = path.with_extension(format!("replaced-{now}"));
        std::fs::rename(&path, &aside).map_err(of_file(&path))?;
        Some(aside)
    } else {
        None
    };
    std::fs::rename(&draft, &path).map_err(of_file(&path))?;
    sync_folder_of(&path)?;
    tracing::warn!(event = "restored", records, taken_at = facts.taken_at);
    Ok(json!({
        "restored": path, "records": records, "backup": facts.view(), "contents": view, "replaced": kept,
        "next": "craton-pki reconcile: what was issued and revoked since the backup is not here",
    }))
}

/// A backup from the future tells that our clock is behind, or that the one of then was ahead. Nobody but an operator knows which.
fn refuse_future(facts: &Facts, accepts_rollback: Option<&str>, now: i64) -> Result<(), Error> {
    if facts.taken_at <= now || accepts_rollback.is_some() {
        return Ok(());
    }
    let (taken_at, now) = (clock::instant_text(facts.taken_at), clock::instant_text(now));
    Err(refused(format!(
        "the backup is dated {taken_at}, and by the clock of this machine it is {now}. If the clock is behind, set it. If it is right and was \
         ahead when the backup was taken, give the same command with: --accept-rollback --reason \"WHY\""
    )))
}

/// A store that is there is kept aside, and only when it was asked for; one that is in use is left alone.
fn refuse_store(path: &Path, replaces: bool) -> Result<(), Error> {
    if !path.exists() {
        return Ok(());
    }
    if !replaces {
        let sentence = "is there already: --replace keeps it aside under another name";
        return Err(refused(format!("{} {sentence}", path.display())));
    }
    match RedbStore::open(path) {
        Err(fault @ StoreError::Held(_)) => Err(store_fault(fault)),
        // A damaged one is why a backup is restored.
        _ => Ok(()),
    }
}

fn fill(draft: &Path, image: Reader<impl Read>, facts: Facts, restoration: Restoration) -> Result<Value, Error> {
    let Restoration { taken_at, restored_at, .. } = restoration;
    let store = RedbStore::from_image(draft, image).map_err(store_fault)?;
    let verdict = office::verify_all(&store, None).map_err(store_fault)?;
    if let Some(finding) = verdict.findings.first() {
        return Err(refused(format!("the journal in the backup is not sound: {finding}")));
    }
    if (verdict.size, verdict.root) != (facts.journal_size, facts.journal_root) {
        return Err(refused("the journal in the backup is not the one that it names"));
    }
    hindsight::went_back(&store, taken_at, restored_at).map_err(store_fault)?;
    // Above every number of before the backup too, when that is from the future.
    let least_crl_number = least_number_at(restored_at.max(taken_at));
    store.commit(Change::Restored { restoration, least_crl_number }).map_err(store_fault)?;
    let span = crate::store::query::Span::first(crate::store::query::MAX_PAGE);
    let counts = store.find(Query::Counts(span)).map_err(store_fault)?.all(Record::named_count);
    Ok(counts.into_iter().collect::<std::collections::BTreeMap<_, _>>().into_iter().collect())
}
