//! From a directory to a verified store: locks, permissions, the key, creation of an empty store.

use super::layout::{self, FormatRow, Table};
use super::manifest::Manifest;
use super::redb::RedbStore;
use super::seal::{self, Key, StoreKeys};
use super::store_key::{KeySource, check_private, usable_key};
use super::verify::{self, Verified};
use super::{Batch, OpenError, Store};
use crate::config::StoreConfig;
use crate::sys::{self, Lock};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The store's file in its directory.
const FILE: &str = "vault.redb";
const LOCK: &str = "lock";

/// A store that is open, locked and verified.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) keys: Arc<StoreKeys>,
    pub(crate) verified: Verified,
    pub(crate) lock: Option<Lock>,
}

/// The store's file.
pub(crate) fn file_of(config: &StoreConfig) -> PathBuf {
    config.path.join(FILE)
}

/// Makes the directory if it is missing, checks it and takes its lock.
pub(crate) fn lock_dir(config: &StoreConfig) -> Result<Lock, OpenError> {
    let dir = &config.path;
    sys::create_private_dir(dir).map_err(|error| OpenError::io(dir, &error))?;
    check_private(dir, 0o700)?;
    let lock = Lock::take(&dir.join(LOCK)).map_err(|error| OpenError::io(dir, &error))?;
    lock.ok_or_else(|| OpenError::InUse(dir.clone()))
}

/// Opens the store of a directory. `fresh` says whether an empty one may be made there; `unsealed` is its key, if it had been sealed.
pub(crate) fn open(config: &StoreConfig, fresh: Fresh, unsealed: Option<Key>) -> Result<Opened, OpenError> {
    let lock = lock_dir(config)?;
    let path = file_of(config);
    let source = KeySource::of(config);
    match path.try_exists() {
        Ok(true) => open_file(&path, &source, unsealed, lock),
        Ok(false) => match fresh {
            Fresh::Allowed => create_file(&path, &source, lock),
            Fresh::RolledBack { journal } => Err(OpenError::RolledBack { store: 0, journal }),
        },
        Err(error) => Err(OpenError::io(&path, &error)),
    }
}

/// Whether an empty store may be made where there is none.
pub(crate) enum Fresh {
    /// Nothing remembers an older one.
    Allowed,
    /// The journal does.
    RolledBack {
        /// Its newest generation.
        journal: u64,
    },
}

fn open_file(path: &Path, source: &KeySource, unsealed: Option<Key>, lock: Lock) -> Result<Opened, OpenError> {
    check_private(path, 0o600)?;
    let sealed = || OpenError::Sealed { store: path.to_owned(), key: source.path().to_owned() };
    let key = match unsealed {
        Some(key) => key,
        None => usable_key(source, path)?.ok_or_else(sealed)?,
    };
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(path).map_err(|error| OpenError::store(path, error))?);
    let snapshot = store.snapshot().map_err(|error| OpenError::store(path, error))?;
    let format = verify::format_row(&*snapshot, path)?;
    let keys = Arc::new(StoreKeys::new(key, format.store_id));
    if keys.key_id() != format.key_id {
        return Err(OpenError::WrongKey { store: path.to_owned(), key: source.path().to_owned() });
    }
    let verified = verify::verify(&*snapshot, &keys, path)?;
    drop(snapshot);
    Ok(Opened { store, keys, verified, lock: Some(lock) })
}

/// The key is durable before the store has its name: a crash between them leaves a key without a store, which the next
/// start takes up.
fn create_file(path: &Path, source: &KeySource, lock: Lock) -> Result<Opened, OpenError> {
    let key = match usable_key(source, path)? {
        Some(key) => key,
        None => {
            let key = Key::random()?;
            source.save(&key)?;
            key
        }
    };
    let keys = Arc::new(StoreKeys::new(key, seal::random_id()?));
    let temporary = new_file(path)?;
    let made = RedbStore::create(&temporary).map_err(|error| OpenError::store(&temporary, error))?;
    let store: Arc<dyn Store> = Arc::new(made.at(path));
    store.commit(&first_rows(&keys, &Manifest::empty())).map_err(|error| OpenError::store(&temporary, error))?;
    sys::replace_durably(&temporary, path).map_err(|error| OpenError::io(path, &error))?;
    finish(store, keys, path, Some(lock))
}

/// The name under which a store is built; what an earlier crash left there goes.
pub(crate) fn new_file(path: &Path) -> Result<PathBuf, OpenError> {
    let temporary = path.with_extension("redb.new");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(OpenError::io(&temporary, &error)),
        _ => Ok(temporary),
    }
}

/// An empty store over any back end.
pub(crate) fn create_in(store: Arc<dyn Store>) -> Result<Opened, OpenError> {
    let keys = Arc::new(StoreKeys::new(Key::random()?, seal::random_id()?));
    let path = Path::new("(memory)");
    store.commit(&first_rows(&keys, &Manifest::empty())).map_err(|error| OpenError::store(path, error))?;
    finish(store, keys, path, None)
}

fn finish(store: Arc<dyn Store>, keys: Arc<StoreKeys>, path: &Path, lock: Option<Lock>) -> Result<Opened, OpenError> {
    let snapshot = store.snapshot().map_err(|error| OpenError::store(path, error))?;
    let verified = verify::verify(&*snapshot, &keys, path)?;
    drop(snapshot);
    Ok(Opened { store, keys, verified, lock })
}

/// The format row and a manifest.
pub(crate) fn first_rows(keys: &StoreKeys, manifest: &Manifest) -> Batch {
    let format = FormatRow {
        format: manifest.format,
        min_reader: manifest.min_reader,
        store_id: keys.store_id(),
        key_id: keys.key_id(),
    };
    let mut rows = Batch::default();
    rows.put(Table::Meta, layout::FORMAT_KEY, format.encode());
    rows.put(Table::Meta, layout::MANIFEST_KEY, manifest.encode(keys));
    rows
}
