//! The store: where tokens, PIN slots and objects rest, sealed. `format.md` beside this file is the on-disk format.
//!
//! Three rungs: [`Vault`] (tokens, PINs, objects), protection (`seal`, `manifest`), bytes ([`Store`] and its back ends).
//! A back end never sees a plaintext, and nothing here knows what an operation means: the journal's entries pass
//! through as bytes.

mod auto;
#[cfg(test)]
mod auto_tests;
mod backup;
mod clients;
mod commit;
#[cfg(test)]
mod conformance;
mod counts;
#[cfg(test)]
mod crash_disk;
#[cfg(test)]
mod crash_tests;
mod create;
mod door;
#[cfg(test)]
mod golden_tests;
mod ivs;
mod layout;
mod ledger;
mod manifest;
mod memory;
mod open_error;
mod redb;
mod replace;
mod rollback;
mod rotate;
#[cfg(test)]
mod rotate_tests;
#[cfg(test)]
mod script_tests;
mod seal;
mod sealed_key;
mod since;
#[cfg(test)]
mod so_key_tests;
mod spread;
mod store_key;
#[cfg(test)]
mod tamper_tests;
#[cfg(test)]
mod theft_tests;
#[cfg(test)]
mod timing_tests;
mod tokens;
mod vault;
#[cfg(test)]
mod vault_tests;
mod verify;

pub(crate) use backup::{BackupSnapshot, RawRecord, RestoreFloor, Restored, restore_into};
pub(crate) use commit::Committed;
pub use door::{Opened, Records};
pub(crate) use layout::{Role, TokenRecord};
pub(crate) use ledger::Ledger;
pub(crate) use manifest::LedgerHead;
pub use open_error::OpenError;
pub(crate) use replace::{Previous, previous, replace_with};
pub(crate) use rollback::{Acceptance, accept_rollback};
pub(crate) use rotate::Rotated;
pub(crate) use seal::TokenMasterKey;
pub(crate) use sealed_key::SealedKey;
pub(crate) use store_key::sealed_key;
pub use store_key::{KeyState, key_state, module_keys, open_store_key, seal_store_key};
pub(crate) use vault::{Change, ObjectPut, Vault};

use layout::Table;
use std::collections::BTreeMap;

use crate::error::{Error, Kind};

/// Why a back end did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Another process holds the store's lock.
    #[error("the store is in use by another process")]
    InUse,
    /// The file is not a store, or its structure does not hold together.
    #[error("the store file is damaged: {0}")]
    Corrupt(String),
    /// The operating system refused.
    #[error("the store file cannot be used: {0}")]
    Io(String),
}

fn device(error: &StoreError) -> Error {
    Error::new(Kind::Device, error.to_string())
}

/// Where a row lives: its table and its key within the table.
pub(crate) type Address = (Table, Vec<u8>);

/// Changes that become visible, and durable, all together or not at all. `None` removes the row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    rows: BTreeMap<Address, Option<Vec<u8>>>,
}

impl Batch {
    /// Writes a row, over an older one if there is one.
    pub(crate) fn put(&mut self, table: Table, key: &[u8], value: Vec<u8>) {
        self.rows.insert((table, key.to_vec()), Some(value));
    }

    /// Removes a row; a missing row is no error.
    pub(crate) fn delete(&mut self, table: Table, key: &[u8]) {
        self.rows.insert((table, key.to_vec()), None);
    }

    /// Lays a later batch over this one.
    pub(crate) fn extend(&mut self, later: Batch) {
        self.rows.extend(later.rows);
    }

    /// The row as this batch leaves it: `None` if the batch does not touch it, `Some(None)` if it removes it.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        self.rows.get(&(table, key.to_vec())).map(|value| value.as_deref())
    }

    /// The keys of `table` this batch touches that begin with `prefix`.
    pub(crate) fn keys_with_prefix(&self, table: Table, prefix: &[u8]) -> Vec<Vec<u8>> {
        let from_prefix = self.rows.range((table, prefix.to_vec())..);
        let keys =
            from_prefix.map(|(address, _)| address).take_while(|(t, key)| *t == table && key.starts_with(prefix));
        keys.map(|(_, key)| key.clone()).collect()
    }

    /// The final state of every row this batch touches.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&Address, Option<&[u8]>)> {
        self.rows.iter().map(|(address, value)| (address, value.as_deref()))
    }
}

/// What a visitor of rows answers: an error ends the visit.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError>;

/// One consistent state of the whole store.
pub(crate) trait Snapshot: Send {
    /// The value of a row.
    fn row(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Every row of `table` whose key begins with `prefix`, in key order.
    fn scan(&self, table: Table, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError>;
}

/// A back end: ordered keys and atomic, durable batches.
pub(crate) trait Store: Send + Sync {
    /// The state after the last commit that returned.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError>;

    /// Makes the batch durable; when this returns `Ok`, a loss of power does not undo it.
    fn commit(&self, batch: &Batch) -> Result<(), StoreError>;

    /// Lets go of everything and opens the store again, as a new start would: after a commit that failed, what was written may be on
    /// the disk or not, and only reading it again tells.
    fn reopen(&self) -> Result<(), StoreError>;
}
