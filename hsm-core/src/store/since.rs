//! What a restore would take away: the records that are other in a store than in an archive of it, without those that a restore carries on
//! by itself.

use super::backup::RawRecord;
use super::layout::{self, HANDLE_KEY, Table};
use super::{Snapshot, StoreError};
use crate::error::Result;
use core::fmt;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The lasting records of a store, by their place.
#[derive(Debug, Default)]
pub(crate) struct Lasting(BTreeMap<(Table, Vec<u8>), [u8; 32]>);

/// What is other in a store than in an archive of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Since {
    /// Objects that are here, and not there as they are here.
    pub(crate) objects: u64,
    /// Objects that are there only.
    pub(crate) destroyed: u64,
    /// Tokens, PINs, counts of guarded keys, and clients that have to wait.
    pub(crate) others: u64,
}

impl Since {
    pub(crate) fn is_nothing(self) -> bool {
        self == Since::default()
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Since { objects, destroyed, others } = self;
        write!(
            f,
            "objects made or changed: {objects}, destroyed: {destroyed}; PINs, tokens and counts changed: {others}"
        )
    }
}

/// Whether a restore could take this record away. It cannot where it counts on from what was there (wrong PINs, handles, IVs), nor where
/// the journal has it already (`format.md` section 8). A record is sealed anew at every write, so equal bytes are the same write.
fn lasts(table: Table, key: &[u8]) -> bool {
    match table {
        Table::Token | Table::Pin | Table::PublicObject | Table::PrivateObject => true,
        Table::Reserved => key != HANDLE_KEY && !key.starts_with(layout::IV_PREFIX),
        Table::Meta | Table::Attempts | Table::Outbox => false,
    }
}

impl Lasting {
    /// Those of a store.
    pub(crate) fn of(snapshot: &dyn Snapshot) -> Result<Self, StoreError> {
        let mut found = BTreeMap::new();
        for table in Table::SEALED {
            let mut keep = |key: &[u8], row: &[u8]| {
                if lasts(table, key) {
                    found.insert((table, key.to_vec()), Sha256::digest(row).into());
                }
                Ok(())
            };
            snapshot.scan(table, &[], &mut keep)?;
        }
        Ok(Lasting(found))
    }

    /// What is other here than in an archive with these records.
    ///
    /// # Errors
    /// What reading the archive says.
    pub(crate) fn since(&self, archive: impl Iterator<Item = Result<RawRecord>>) -> Result<Since> {
        let mut since = Since::default();
        let mut same = (0, 0);
        for record in archive {
            let RawRecord { table, key, value } = record?;
            let Some(table) = Table::from_name(&table).filter(|table| lasts(*table, &key)) else { continue };
            let here = self.0.get(&(table, key));
            let is_same = here.is_some_and(|digest| *digest == <[u8; 32]>::from(Sha256::digest(&value)));
            match (is_object(table), is_same) {
                (true, true) => same.0 += 1,
                (false, true) => same.1 += 1,
                (true, false) if here.is_none() => since.destroyed += 1,
                (false, false) if here.is_none() => since.others += 1,
                (_, false) => {}
            }
        }
        let objects = self.0.keys().filter(|(table, _)| is_object(*table)).count() as u64;
        since.objects = objects - same.0;
        since.others += self.0.len() as u64 - objects - same.1;
        Ok(since)
    }
}

fn is_object(table: Table) -> bool {
    matches!(table, Table::PublicObject | Table::PrivateObject)
}
