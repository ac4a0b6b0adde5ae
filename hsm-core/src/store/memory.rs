//! A back end without a disk: for a token that is not to persist, and for tests.

use super::layout::Table;
use super::{Address, Batch, Snapshot, Store, StoreError, Visit};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

type Rows = BTreeMap<Address, Arc<[u8]>>;

/// Rows in memory; a snapshot shares them until the next commit.
#[derive(Default)]
pub(crate) struct MemoryStore {
    rows: Mutex<Arc<Rows>>,
}

impl Store for MemoryStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(Box::new(MemorySnapshot(Arc::clone(&self.rows.lock()))))
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut rows = self.rows.lock();
        let rows = Arc::make_mut(&mut rows);
        for (address, value) in batch.rows() {
            match value {
                Some(value) => rows.insert(address.clone(), value.into()),
                None => rows.remove(address),
            };
        }
        Ok(())
    }

    fn reopen(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

struct MemorySnapshot(Arc<Rows>);

impl Snapshot for MemorySnapshot {
    fn row(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get(&(table, key.to_vec())).map(|value| value.to_vec()))
    }

    fn scan(&self, table: Table, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let from_prefix = self.0.range((table, prefix.to_vec())..);
        for ((_, key), value) in from_prefix.take_while(|((t, key), _)| *t == table && key.starts_with(prefix)) {
            visit(key, value)?;
        }
        Ok(())
    }
}
