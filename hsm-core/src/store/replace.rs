//! Replacing a store by a restored one: the new one is complete before the two change places, and the old one is kept.

use super::OpenError;
use super::backup::{RawRecord, RestoreFloor, Restored, restore_into, stored};
use super::create::{self, Fresh, Opened};
use super::layout::{self, Attempts, Role, Table};
use super::manifest::Manifest;
use super::seal::Key;
use super::since::Lasting;
use super::store_key::{KeySource, sealed_key};
use crate::config::StoreConfig;
use crate::error::Result;
use crate::failpoint;
use crate::id::TokenId;
use crate::secret::SecretBytes;
use crate::sys::{self, Lock};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::path::{Path, PathBuf};

/// The store that is to be replaced. While this lives nobody else opens it.
pub(crate) struct Previous {
    /// Its generation; nothing when it does not open.
    pub(crate) generation: Option<u64>,
    /// Attempts counted in it: a restore does not give guesses back.
    pub(crate) attempts: Vec<(TokenId, Role, u32)>,
    /// How often it was restored.
    pub(crate) restores: u32,
    /// Its records that a restore would not carry on.
    pub(crate) lasting: Lasting,
    _lock: Lock,
}

/// What is in the store's directory now; `None` if there is no store.
///
/// # Errors
/// [`OpenError::InUse`]; what the file system says. A store that is damaged or sealed is a store: it is kept as it is.
pub(crate) fn previous(config: &StoreConfig) -> Result<Option<Previous>, OpenError> {
    let path = create::file_of(config);
    if !path.try_exists().map_err(|error| OpenError::io(&path, &error))? {
        return Ok(None);
    }
    match create::open(config, Fresh::RolledBack { journal: 0 }, None) {
        Ok(opened) => counted(opened).map(Some),
        Err(error @ OpenError::InUse(_)) => Err(error),
        Err(error) => {
            tracing::warn!(%error, "the store to be replaced does not open: its PIN attempts are not carried over");
            let _lock = create::lock_dir(config)?;
            Ok(Some(Previous {
                generation: None,
                attempts: Vec::new(),
                restores: 0,
                lasting: Lasting::default(),
                _lock,
            }))
        }
    }
}

fn counted(opened: Opened) -> Result<Previous, OpenError> {
    let Opened { store, keys, verified, lock } = opened;
    let snapshot = store.snapshot().map_err(|error| OpenError::store(Path::new("store"), error))?;
    let mut attempts = Vec::new();
    for token in &verified.tokens {
        for role in [Role::So, Role::User] {
            let key = layout::pin_key(token.id, role);
            if let Some(counted) = stored::<Attempts>(&*snapshot, &keys, Table::Attempts, &key)? {
                attempts.push((token.id, role, counted.failed));
            }
        }
    }
    let lasting = Lasting::of(&*snapshot).map_err(|error| OpenError::store(Path::new("store"), error))?;
    let lock = lock.ok_or_else(|| OpenError::InUse(PathBuf::new()))?;
    let Manifest { generation, restores, .. } = verified.manifest;
    Ok(Previous { generation: Some(generation), attempts, restores, lasting, _lock: lock })
}

/// Restores beside the store, lets the two change places in one step, and gives the old one its name for keeping.
///
/// # Errors
/// As [`restore_into`]; the store is untouched then.
pub(crate) fn replace_with(
    config: &StoreConfig,
    records: impl Iterator<Item = Result<RawRecord>>,
    manifest: &[u8],
    store_id: [u8; 16],
    store_key: &SecretBytes,
    floor: &RestoreFloor,
) -> Result<(Restored, PathBuf), OpenError> {
    let old = &config.path;
    let new = named(old, "restoring");
    // What an earlier attempt left, complete or not, was never the store.
    match std::fs::remove_dir_all(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(OpenError::io(&new, &error)),
        _ => {}
    }
    let place = StoreConfig { path: new.clone(), ..config.clone() };
    keep_sealed(config, &place, store_key)?;
    let restored = restore_into(&place, records, manifest, store_id, store_key, floor)?;
    failpoint!("restore.built");
    renameat_with(CWD, &new, CWD, old, RenameFlags::EXCHANGE).map_err(|error| OpenError::io(old, &error.into()))?;
    failpoint!("restore.exchanged");
    let kept = named(old, &format!("pre-restore-{}", restored.generation));
    sys::replace_durably(&new, &kept).map_err(|error| OpenError::io(&kept, &error))?;
    Ok((restored, kept))
}

/// A key that was sealed stays sealed: the file goes with the restored store if it holds the same key.
fn keep_sealed(old: &StoreConfig, new: &StoreConfig, store_key: &SecretBytes) -> Result<(), OpenError> {
    let (Some(key), Some(sealed)) = (Key::from_slice(store_key.expose()), sealed_key(old)?) else {
        return Ok(());
    };
    let place = KeySource::of(new);
    if !sealed.fits(&key) || place.path() == KeySource::of(old).path() {
        return Ok(());
    }
    sys::create_private_dir(&new.path).map_err(|error| OpenError::io(&new.path, &error))?;
    place.save_text(sealed.to_text()?.as_bytes())
}

fn named(store: &Path, suffix: &str) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}
