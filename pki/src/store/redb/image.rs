//! Images of this back end's stores ([`crate::store::image`]): written from one read transaction while the pen goes on, read into a new
//! file that gets its name only when it is whole.

use super::super::merkle::{self, Hash, Nodes};
use super::journal::subtree_key;
use super::{ALL, AUTHORITIES, JOURNAL_SIZE, META, RedbStore, SUBTREES, backend, decode, file};
use crate::store::StoreError;
use crate::store::image::{Facts, Reader, Writer};
use crate::store::record::{Authority, ROOT};
use crate::x509::sha256;
use redb::{ReadTransaction, ReadableDatabase, TableHandle};
use std::io::{Read, Write};
use std::path::Path;

/// Records in one transaction while an image is read.
const RECORDS_PER_TRANSACTION: usize = 20_000;

struct Snapshot(ReadTransaction);

impl Snapshot {
    fn value(&self, table: super::Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let open = self.0.open_table(table).map_err(backend)?;
        Ok(open.get(key).map_err(backend)?.map(|value| value.value().to_vec()))
    }

    fn facts(&self, now: i64) -> Result<Facts, StoreError> {
        let size = self.value(META, JOURNAL_SIZE)?.and_then(|bytes| bytes.try_into().ok());
        let journal_size = size.map_or(0, u64::from_be_bytes);
        let root = self.value(AUTHORITIES, ROOT.as_bytes())?;
        let root: Option<Authority> = root.map(|bytes| decode(AUTHORITIES, &bytes)).transpose()?;
        Ok(Facts {
            taken_at: now,
            journal_size,
            journal_root: merkle::root(self, journal_size)?,
            root_sha256: root.map_or([0; 32], |root| sha256(&root.certificate)),
        })
    }
}

impl Nodes for Snapshot {
    fn subtree(&self, level: u8, index: u64) -> Result<Hash, StoreError> {
        let found = self.value(SUBTREES, &subtree_key(level, index))?;
        let missing = || StoreError::Damaged("the journal's tree lacks a subtree".to_owned());
        found.and_then(|hash| hash.try_into().ok()).ok_or_else(missing)
    }
}

impl RedbStore {
    /// Writes the image of one moment. Changes that are made meanwhile are not in it and do not wait.
    pub(super) fn write_image(&self, now: i64, out: &mut dyn Write) -> Result<Facts, StoreError> {
        let snapshot = Snapshot(self.database.begin_read().map_err(backend)?);
        let facts = snapshot.facts(now)?;
        let mut writer = Writer::new(out, &facts)?;
        for table in ALL {
            let open = snapshot.0.open_table(table).map_err(backend)?;
            for entry in open.range::<&[u8]>(..).map_err(backend)? {
                let (key, value) = entry.map_err(backend)?;
                writer.record(table.name(), key.value(), value.value())?;
            }
        }
        writer.finish()?;
        Ok(facts)
    }

    /// Makes a store from an image, in a file that must not be there.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], [`StoreError::Version`]; what was begun is left under its name, which is the caller's draft.
    pub(crate) fn from_image(draft: &Path, mut reader: Reader<impl Read>) -> Result<Self, StoreError> {
        let database = file(draft)?;
        let mut is_last = false;
        while !is_last {
            let transaction = database.begin_write().map_err(backend)?;
            for _ in 0..RECORDS_PER_TRANSACTION {
                let Some(record) = reader.next()? else {
                    is_last = true;
                    break;
                };
                let table = ALL.iter().find(|table| table.name() == record.table);
                let table = *table.ok_or_else(|| {
                    StoreError::Damaged(format!("the backup has a table '{}' that is unknown here", record.table))
                })?;
                super::put(&transaction, table, &record.key, &record.value)?;
            }
            transaction.commit().map_err(backend)?;
        }
        Self::start(database)
    }
}
