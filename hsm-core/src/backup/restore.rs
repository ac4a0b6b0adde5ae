//! Restoring an archive into an empty place, with the journal told before and after.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::journal::{self, RESTORE};
use super::of_files;
use super::read::{Archive, Manifest};
use crate::audit::{Category, Client, Durability, Entry, Fact};
use crate::config::Config;
use crate::envelope::Credential;
use crate::store::{OpenError, Previous, RestoreFloor, previous, replace_with, restore_into};
use crate::{Clock, Error, Kind, Result, failpoint};

/// What to restore, where, and who does it.
pub struct Restore<'a> {
    /// The archive.
    pub input: &'a Path,
    /// What opens it.
    pub credential: &'a Credential,
    /// Names the store's and the journal's place.
    pub config: &'a Config,
    /// User id of the operator's process, for the journal.
    pub uid: u32,
    /// For the journal.
    pub clock: Arc<dyn Clock>,
    /// What may happen to a store that is there already.
    pub replace: Replace,
}

/// What may happen to a store that is there already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Replace {
    /// The restore is refused.
    #[default]
    Never,
    /// It is kept under another name, if the archive is not older, or nothing is newer here than what a restore carries on.
    Store,
    /// It is kept under another name also if the archive is older, for this reason, which the journal notes.
    NewerStore(String),
}

/// What was restored.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// The archive.
    pub archive: Manifest,
    /// Where the store now is.
    pub store_path: PathBuf,
    /// Its generation: above the archive's, and above everything in the journal.
    pub generation: u64,
    /// Its records.
    pub records: u64,
    /// The journal that tells of it.
    pub journal: PathBuf,
    /// Where the store that was replaced is kept.
    pub kept: Option<PathBuf>,
}

/// Verifies the whole archive, then builds the store from it. The daemon must not run; the store's directory must be
/// empty.
///
/// # Errors
///
/// [`Kind::PinIncorrect`], [`Kind::DataInvalid`]: nothing was touched. [`Kind::Device`]: the target is not empty, is in
/// use or cannot be written; at most the journal has grown.
pub fn restore(request: &Restore<'_>) -> Result<Restored> {
    let mut archive = Archive::open(request.input, request.credential)?;
    let manifest = archive.verify()?;
    if manifest.files.is_some() {
        return Err(of_files());
    }
    let replaced = to_replace(request, &mut archive, &manifest)?;
    let journal = journal::open(request.config, Arc::clone(&request.clock))?;
    let tell = |op: &'static str, outcome: Option<u64>| {
        let mut entry = entry(op, request, &manifest);
        match outcome {
            Some(records) => {
                entry = entry
                    .with_fact("records", Fact::number(records))
                    .with_fact("tokens", Fact::number(manifest.tokens.len() as u64));
            }
            None if op == RESTORE => entry.rv = ck::rv::CKR_DEVICE_ERROR,
            None => {}
        }
        entry
    };
    let before = journal.last_generation();
    journal.append(tell(BEGIN, None), before, Durability::Durable).map(drop)?;
    failpoint!("restore.begun");
    match build(&mut archive, request.config, before, replaced.as_ref()) {
        Ok((restored, kept)) => {
            failpoint!("restore.kept");
            journal
                .append(tell(RESTORE, Some(restored.records)), restored.generation, Durability::Durable)
                .map(drop)?;
            Ok(Restored {
                archive: manifest,
                store_path: request.config.store.path.clone(),
                generation: restored.generation,
                records: restored.records,
                journal: request.config.audit.log_path.clone(),
                kept,
            })
        }
        Err(error) => {
            journal.append(tell(RESTORE, None), before, Durability::Durable).map(drop)?;
            Err(Error::new(Kind::Device, format!("nothing was restored: {error}")))
        }
    }
}

const BEGIN: &str = "restore_begin";

/// The store that is there, if it may be replaced: without a reason only if nothing but what a restore carries on is newer there.
fn to_replace(request: &Restore<'_>, archive: &mut Archive, manifest: &Manifest) -> Result<Option<Previous>> {
    if request.replace == Replace::Never {
        return Ok(None);
    }
    let found = previous(&request.config.store).map_err(|error| Error::new(Kind::Device, error.to_string()))?;
    if let (Replace::Store, Some(Previous { generation: Some(now), lasting, .. })) = (&request.replace, &found)
        && *now > manifest.generation
    {
        let since = lasting.since(archive.contents()?.records)?;
        if !since.is_nothing() {
            let sentence = format!(
                "the store is at generation {now} and the backup at {}: what changed since would be gone ({since}). If that is right, \
                 give the same command with: --force --accept-rollback --reason \"WHY\". The store that is there is kept beside the new one",
                manifest.generation
            );
            return Err(Error::new(Kind::Device, sentence));
        }
    }
    Ok(found)
}

fn build(
    archive: &mut Archive,
    config: &Config,
    generation: u64,
    replaced: Option<&Previous>,
) -> Result<(crate::store::Restored, Option<PathBuf>), OpenError> {
    let store_id = archive.store_id()?;
    let contents = archive.contents()?;
    let (manifest, key) = (&contents.manifest, &contents.store_key);
    let told = journal::restores_told(&config.audit.log_path);
    match replaced {
        None => {
            let floor = RestoreFloor { generation, attempts: Vec::new(), restores: told };
            restore_into(&config.store, contents.records, manifest, store_id, key, &floor)
                .map(|restored| (restored, None))
        }
        Some(previous) => {
            let generation = generation.max(previous.generation.unwrap_or_default());
            let restores = told.max(previous.restores);
            let floor = RestoreFloor { generation, attempts: previous.attempts.clone(), restores };
            replace_with(&config.store, contents.records, manifest, store_id, key, &floor)
                .map(|(restored, kept)| (restored, Some(kept)))
        }
    }
}

/// Kept at every level of the journal: a journal that goes on with another state must say so.
fn entry(op: &'static str, request: &Restore<'_>, archive: &Manifest) -> Entry {
    let file = request.input.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let entry = Entry::new(Category::Journal, op, Client::Operator { uid: request.uid });
    let entry = match &request.replace {
        Replace::NewerStore(reason) => entry.with_fact("reason", Fact::name(reason)),
        Replace::Never | Replace::Store => entry,
    };
    entry
        .with_fact("archive_file", Fact::name(&file))
        .with_fact("archive_sha256", Fact::name(&archive.sha256))
        .with_fact("backup_audit_head", Fact::name(&archive.audit_head))
        .with_fact("backup_audit_seq", Fact::number(archive.audit_seq))
        .with_fact("backup_generation", Fact::number(archive.generation))
        .with_fact("source_store", Fact::name(&archive.store))
}
