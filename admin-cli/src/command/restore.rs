//! `restore`: an archive becomes a store, offline, into an empty place.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hsm_core::SystemClock;
use hsm_core::audit::head_path;
use hsm_core::backup::{Manifest, Replace, Restore as Request, Restored, restore, verify};
use serde::Serialize;

use super::archive_table;
use super::credential;
use crate::cli::Restore;
use crate::config::Settings;
use crate::failure::Failure;
use crate::output::{Output, Table};

#[derive(Serialize)]
struct Verified {
    verified: Manifest,
}

/// Restores, or only verifies.
pub(crate) fn run(settings: &Settings, given: &Restore, output: &Output) -> Result<(), Failure> {
    let credential = credential(&given.opening)?;
    if given.verify_only {
        let answer = Verified { verified: verify(&given.input, &credential)? };
        return output.answer(&answer, || archive_table(&answer.verified));
    }
    refuse_running(&settings.socket)?;
    let uid = rustix::process::geteuid().as_raw();
    let clock = Arc::new(SystemClock);
    let replace = match (&given.reason, given.force) {
        (Some(reason), _) => Replace::NewerStore(reason.clone()),
        (None, true) => Replace::Store,
        (None, false) => Replace::Never,
    };
    let request = Request { input: &given.input, credential: &credential, config: &settings.core, uid, clock, replace };
    let restored = restore(&request)?;
    if uid == 0 {
        hand_over(settings, &restored)?;
    }
    output.answer(&restored, || {
        let mut table = Table::default();
        table.fact("restored", restored.store_path.display());
        table.fact("now at", format!("generation {}, {} records", restored.generation, restored.records));
        if let Some(kept) = &restored.kept {
            table.fact("old store", format!("{}: keep it until the restored one has proved itself", kept.display()));
        }
        let files = super::archives::beside(&given.input, super::archives::FILES);
        if files.exists() {
            table.fact("beside it", format!("{}: backup extract gives its files", files.display()));
        }
        table.fact("recorded in", restored.journal.display());
        table.append(archive_table(&restored.archive));
        table
    })
}

/// A daemon that answers on the socket of this configuration has the store open, or is about to.
pub(super) fn refuse_running(socket: &Path) -> Result<(), Failure> {
    match std::os::unix::net::UnixStream::connect(socket) {
        Ok(_) => Err(Failure::new(format!("a daemon is running on {}; stop it first", socket.display()))),
        Err(_) => Ok(()),
    }
}

/// Root restores for the daemon's user, who owns the folder that the store lies in: what was made here becomes theirs.
fn hand_over(settings: &Settings, restored: &Restored) -> Result<(), Failure> {
    let store = &restored.store_path;
    let folder = store.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |path: &Path, error: std::io::Error| {
        Failure::new(format!("restored, but {} cannot be given to the daemon's user: {error}", path.display()))
    };
    let owner = folder.metadata().map_err(|error| failed(folder, error))?;
    if owner.uid() == 0 {
        return Ok(());
    }
    let mut paths: Vec<PathBuf> = vec![store.clone(), restored.journal.clone(), head_path(&restored.journal)];
    paths.extend(settings.core.store.key_file.clone());
    for entry in std::fs::read_dir(store).map_err(|error| failed(store, error))? {
        paths.push(entry.map_err(|error| failed(store, error))?.path());
    }
    for path in paths.iter().filter(|path| path.exists()) {
        chown(path, Some(owner.uid()), Some(owner.gid())).map_err(|error| failed(path, error))?;
    }
    Ok(())
}
