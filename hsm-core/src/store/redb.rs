//! The durable back end: one redb file, one transaction per commit.
//!
//! Every commit is immediate (fsync before it returns), two-phase (a torn commit cannot be taken for a good one even in
//! a hostile file) and leaves what a quick repair needs, so that the start after a kill does not read the whole file.

use super::layout::Table;
use super::{Batch, Snapshot, Store, StoreError, Visit};
use crate::failpoint;
use crate::sys;
use parking_lot::RwLock;
use redb::{Database, Durability, ReadTransaction, ReadableDatabase, TableDefinition, TableError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Enough for the inner pages of a hundred thousand objects; the vault keeps opened objects itself.
const CACHE_BYTES: usize = 32 << 20;

/// A redb file that this process holds exclusively.
pub(crate) struct RedbStore {
    /// Empty while it is dropped, and after it could not be opened again.
    database: RwLock<Option<Arc<Database>>>,
    /// Where it is to be found; a disk in memory is nowhere.
    path: Option<PathBuf>,
}

impl Drop for RedbStore {
    /// Closing writes what a quick repair needs, and may panic on a damaged file as any other call does.
    fn drop(&mut self) {
        close(self.database.get_mut().take());
    }
}

fn close(database: Option<Arc<Database>>) {
    if let Err(error) = guard(|| {
        drop(database);
        Ok(())
    }) {
        tracing::error!(%error, "the store could not be closed in good order");
    }
}

impl RedbStore {
    /// Makes a new file; it must not exist.
    pub(crate) fn create(path: &Path) -> Result<RedbStore, StoreError> {
        let file = sys::create_private_file(path).map_err(|error| StoreError::Io(error.to_string()))?;
        RedbStore::over(guard(|| Ok(redb::backends::FileBackend::new(file)?))?)
    }

    /// Opens what a disk holds, or makes a new store if it is empty.
    pub(super) fn over(disk: impl redb::StorageBackend) -> Result<RedbStore, StoreError> {
        let database = guard(|| Ok(Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(disk)?))?;
        Ok(RedbStore { database: RwLock::new(Some(Arc::new(database))), path: None })
    }

    /// The same store, once its file has its name.
    pub(crate) fn at(self, path: &Path) -> RedbStore {
        let mut store = self;
        store.path = Some(path.to_owned());
        store
    }

    /// Opens a file that exists.
    pub(crate) fn open(path: &Path) -> Result<RedbStore, StoreError> {
        let database = guard(|| Ok(Database::builder().set_cache_size(CACHE_BYTES).open(path)?))?;
        Ok(RedbStore { database: RwLock::new(Some(Arc::new(database))), path: Some(path.to_owned()) })
    }
}

impl RedbStore {
    fn database(&self) -> Result<Arc<Database>, redb::Error> {
        self.database.read().clone().ok_or(redb::Error::PreviousIo)
    }
}

impl Store for RedbStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let transaction = guard(|| Ok(self.database()?.begin_read()?))?;
        Ok(Box::new(RedbSnapshot(transaction)))
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        guard(|| {
            failpoint!("store.commit.before", redb::Error::Io(std::io::Error::other("a failpoint")));
            let mut transaction = self.database()?.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            transaction.set_two_phase_commit(true);
            transaction.set_quick_repair(true);
            let mut rows = batch.rows().peekable();
            while let Some(((table, _), _)) = rows.peek() {
                let table = *table;
                let mut open = transaction.open_table(definition(table))?;
                while let Some(((_, key), value)) = rows.next_if(|((t, _), _)| *t == table) {
                    match value {
                        Some(value) => drop(open.insert(key.as_slice(), value)?),
                        None => drop(open.remove(key.as_slice())?),
                    }
                }
            }
            failpoint!("store.rows.after");
            transaction.commit()?;
            Ok(())
        })
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let Some(path) = &self.path else { return Err(StoreError::Io("it has no file to open again".into())) };
        let mut database = self.database.write();
        close(database.take());
        let again = guard(|| Ok(Database::builder().set_cache_size(CACHE_BYTES).open(path)?))?;
        *database = Some(Arc::new(again));
        Ok(())
    }
}

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.name())
}

struct RedbSnapshot(ReadTransaction);

impl Snapshot for RedbSnapshot {
    fn row(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        guard(|| match self.0.open_table(definition(table)) {
            Ok(open) => Ok(open.get(key)?.map(|value| value.value().to_vec())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        })
    }

    fn scan(&self, table: Table, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let mut visited = Ok(());
        guard(|| {
            let open = match self.0.open_table(definition(table)) {
                Ok(open) => open,
                Err(TableError::TableDoesNotExist(_)) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            for row in open.range(prefix..)? {
                let (key, value) = row?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                visited = visit(key.value(), value.value());
                if visited.is_err() {
                    break;
                }
            }
            Ok(())
        })?;
        visited
    }
}

/// Runs one call into redb. Its checks of a damaged file may panic rather than answer; here that is an answer too.
fn guard<T>(call: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(redb::Error::DatabaseAlreadyOpen)) => Err(StoreError::InUse),
        // What the system did not say itself is redb's opinion of the file: it is empty, or too short.
        Ok(Err(redb::Error::Io(error))) if error.raw_os_error().is_some() => Err(StoreError::Io(error.to_string())),
        Ok(Err(error)) => Err(StoreError::Corrupt(error.to_string())),
        Err(_) => Err(StoreError::Corrupt("its inner structure does not hold together".into())),
    }
}
