//! The store's side of backup and restore: one consistent snapshot out, one verified new store in. How an archive looks
//! and who may open it is the business of the room `backup`.

use super::create;
use super::device;
use super::layout::{self, Attempts, FORMAT, Reserved, Role, Table, TokenRecord};
use super::ledger::Ledger;
use super::manifest::Manifest;
use super::redb::RedbStore;
use super::seal::{self, Key, Place, StoreKeys};
use super::store_key::{Found, KeySource};
use super::vault::Vault;
use super::verify::{self, NO_OBJECT, NO_TOKEN};
use super::{Batch, OpenError, Snapshot, Store, StoreError};
use crate::config::StoreConfig;
use crate::error::{Error, Kind, Result};
use crate::id::TokenId;
use crate::secret::SecretBytes;
use crate::sys;
use prost::Message;
use std::path::Path;
use std::sync::Arc;

/// Takes a table's name, a key and the row there; an error ends the visit.
pub(crate) type VisitRecord<'a> = &'a mut dyn FnMut(&str, &[u8], &[u8]) -> Result<()>;

/// One consistent state of the store, with the key that opens it. Writers are not blocked while it is read.
pub(crate) struct BackupSnapshot {
    /// Unique for all time.
    pub(crate) store_id: [u8; 16],
    /// The number of the newest change in the snapshot.
    pub(crate) generation: u64,
    /// How many records [`BackupSnapshot::for_each`] visits.
    pub(crate) records: u64,
    /// The manifest's row.
    pub(crate) manifest: Vec<u8>,
    /// To be wrapped for those who may restore.
    pub(crate) store_key: SecretBytes,
    tokens: Vec<TokenRecord>,
    snapshot: Box<dyn Snapshot>,
}

impl BackupSnapshot {
    /// The tokens, for the archive's header.
    pub(crate) fn tokens(&self) -> &[TokenRecord] {
        &self.tokens
    }

    /// Visits every record as it is stored: table name, key, sealed row.
    pub(crate) fn for_each(&self, visit: VisitRecord<'_>) -> Result<()> {
        for table in Table::SEALED {
            let mut stopped = None;
            let mut visit_row = |key: &[u8], row: &[u8]| {
                visit(table.name(), key, row).map_err(|error| {
                    stopped = Some(error);
                    StoreError::Io("the visitor ended the visit".into())
                })
            };
            let scanned = self.snapshot.scan(table, &[], &mut visit_row);
            match stopped {
                Some(error) => return Err(error),
                None => scanned.map_err(|error| device(&error))?,
            }
        }
        Ok(())
    }
}

impl<L: Ledger> Vault<L> {
    /// A snapshot for a backup. Every record in it was verified.
    ///
    /// # Errors
    /// [`Kind::Device`] if the store does not verify: a damaged store is not backed up as if it were good.
    pub(crate) fn snapshot_for_backup(&self) -> Result<BackupSnapshot> {
        self.awaken()?;
        let snapshot = self.snapshot()?;
        let verified = verify::verify(&*snapshot, &self.keys, Path::new("store"));
        let verified = verified.map_err(|error| Error::new(Kind::Device, error.to_string()))?;
        Ok(BackupSnapshot {
            store_id: self.store_id(),
            generation: verified.manifest.generation,
            records: verified.manifest.records,
            manifest: verified.manifest.encode(&self.keys),
            store_key: self.keys.store_key(),
            tokens: verified.tokens,
            snapshot,
        })
    }
}

/// A record as [`BackupSnapshot::for_each`] showed it.
#[derive(Clone, Debug)]
pub(crate) struct RawRecord {
    /// The table's name.
    pub(crate) table: String,
    /// The key within the table.
    pub(crate) key: Vec<u8>,
    /// The sealed row.
    pub(crate) value: Vec<u8>,
}

/// What must not go back when an older state returns.
#[derive(Clone, Debug, Default)]
pub(crate) struct RestoreFloor {
    /// The newest generation that anything remembers: the replaced store's or the journal's.
    pub(crate) generation: u64,
    /// Attempts counted in the replaced store; a restore does not give guesses back.
    pub(crate) attempts: Vec<(TokenId, Role, u32)>,
    /// How many restores anything remembers: what each of them made of the same backup, the next must not make again.
    pub(crate) restores: u32,
}

/// What was restored.
#[derive(Clone, Debug)]
pub(crate) struct Restored {
    /// The generation of the new store.
    pub(crate) generation: u64,
    /// Its records.
    pub(crate) records: u64,
}

/// Handles that were given out after the backup was made, or after an earlier restore of it, are skipped, however many there were.
const HANDLE_JUMP: u64 = 1 << 32;
/// Rows per transaction while a store is being built; nobody reads it before it has its name.
const ROWS_PER_COMMIT: usize = 1024;

/// Builds a store from a backup, verifies all of it, and only then gives it its name. A crash at any point leaves the
/// directory without a store, or with the whole one.
///
/// # Errors
/// [`OpenError::NotEmpty`] if there is a store or a key already; what [`Vault::open`] finds in a damaged store.
pub(crate) fn restore_into(
    config: &StoreConfig,
    records: impl Iterator<Item = Result<RawRecord>>,
    manifest: &[u8],
    store_id: [u8; 16],
    store_key: &SecretBytes,
    floor: &RestoreFloor,
) -> Result<Restored, OpenError> {
    let key = Key::from_slice(store_key.expose());
    let key = key.ok_or_else(|| Error::new(Kind::ArgumentsBad, "a store key has 32 bytes"))?;
    let _lock = create::lock_dir(config)?;
    let path = create::file_of(config);
    let source = KeySource::of(config);
    refuse_occupied(&path, &source, &key)?;
    let temporary = create::new_file(&path)?;
    let built = build(&temporary, records, manifest, StoreKeys::new(key, store_id), floor);
    let (keys, restored) = match built {
        Ok(built) => built,
        Err(error) => {
            // The half-built file is of no use to anyone; the error that matters is the one at hand.
            if let Err(left) = std::fs::remove_file(&temporary) {
                tracing::warn!(path = %temporary.display(), %left, "a half-restored store was left behind");
            }
            return Err(error);
        }
    };
    if matches!(source.load()?, Found::Nothing) {
        let key = Key::from_slice(keys.store_key().expose());
        source.save(&key.ok_or_else(|| Error::from(Kind::Internal))?)?;
    }
    sys::replace_durably(&temporary, &path).map_err(|error| OpenError::io(&path, &error))?;
    Ok(restored)
}

/// A key without a store is what a crash of an earlier restore leaves: the same key is welcome, another is not.
fn refuse_occupied(path: &Path, source: &KeySource, key: &Key) -> Result<(), OpenError> {
    let other_key = source.load()?.is(key) == Some(false);
    let occupied = path.try_exists().map_err(|error| OpenError::io(path, &error))?;
    match occupied || other_key {
        true => Err(OpenError::NotEmpty(path.parent().unwrap_or(path).to_owned())),
        false => Ok(()),
    }
}

fn build(
    path: &Path,
    records: impl Iterator<Item = Result<RawRecord>>,
    manifest: &[u8],
    keys: StoreKeys,
    floor: &RestoreFloor,
) -> Result<(StoreKeys, Restored), OpenError> {
    let failed = |error| OpenError::store(path, error);
    let store = Arc::new(RedbStore::create(path).map_err(failed)?);
    let mut rows = create::first_rows(&keys, &Manifest::empty());
    rows.put(Table::Meta, layout::MANIFEST_KEY, manifest.to_vec());
    let mut waiting = 0;
    for record in records {
        let RawRecord { table, key, value } = record?;
        let table = Table::from_name(&table).filter(|table| *table != Table::Meta);
        let table = table.ok_or(OpenError::FormatNewer { found: FORMAT + 1, supported: FORMAT })?;
        rows.put(table, &key, value);
        waiting += 1;
        if waiting >= ROWS_PER_COMMIT {
            store.commit(&core::mem::take(&mut rows)).map_err(failed)?;
            waiting = 0;
        }
    }
    store.commit(&rows).map_err(failed)?;
    let before = verify::verify(&*store.snapshot().map_err(failed)?, &keys, path)?;
    store.commit(&moved_on(&*store.snapshot().map_err(failed)?, &keys, before, floor)?).map_err(failed)?;
    let after = verify::verify(&*store.snapshot().map_err(failed)?, &keys, path)?;
    let restored = Restored { generation: after.manifest.generation, records: after.manifest.records };
    Ok((keys, restored))
}

/// The rows that make the backup's state a state of its own: the outbox is empty (its entries are in the journal that
/// was left behind), handles jump, attempts do not go back, and the generation lies above everything remembered.
pub(super) fn moved_on(
    snapshot: &dyn Snapshot,
    keys: &StoreKeys,
    before: verify::Verified,
    floor: &RestoreFloor,
) -> Result<Batch, OpenError> {
    let mut manifest = before.manifest;
    let restores = manifest.restores.max(floor.restores).saturating_add(1);
    let steps = restores - manifest.restores;
    manifest.restores = restores;
    let mut rows = Batch::default();
    for (generation, _) in &before.outbox {
        rows.delete(Table::Outbox, &layout::outbox_key(*generation));
    }
    let mut seal_next = |table: Table, token: TokenId, key: &[u8], body: Vec<u8>| {
        let label = seal::table_label(table, keys.store_id(), token, NO_OBJECT, manifest.next_version);
        manifest.next_version += 1;
        keys.seal_row(&label, Place { table, key }, &body)
    };
    let handle =
        stored::<Reserved>(snapshot, keys, Table::Reserved, layout::HANDLE_KEY)?.unwrap_or(Reserved { next: 1 });
    let jumped =
        Reserved { next: handle.next.saturating_add(HANDLE_JUMP.saturating_mul(steps.into())) }.encode_to_vec();
    let row = seal_next(Table::Reserved, NO_TOKEN, layout::HANDLE_KEY, jumped)?;
    rows.put(Table::Reserved, layout::HANDLE_KEY, row);
    for (token, role, failed) in &floor.attempts {
        let key = layout::pin_key(*token, *role);
        if let Some(counted) = stored::<Attempts>(snapshot, keys, Table::Attempts, &key)?
            && counted.failed < *failed
        {
            let row = seal_next(Table::Attempts, *token, &key, Attempts { failed: *failed }.encode_to_vec())?;
            rows.put(Table::Attempts, &key, row);
        }
    }
    for ((table, key), new) in rows.rows() {
        let old = snapshot.row(*table, key).map_err(|error| device(&error))?;
        for row in [old.as_deref(), new].into_iter().flatten() {
            manifest.toggle(&keys.row_element(*table, key, row));
        }
        let change = i64::from(new.is_some()) - i64::from(old.is_some());
        manifest.records = manifest.records.saturating_add_signed(change);
    }
    manifest.generation = manifest.generation.max(floor.generation) + 1;
    manifest.journal = Default::default();
    rows.extend(create::first_rows(keys, &manifest));
    Ok(rows)
}

pub(super) fn stored<M: Message + Default>(
    snapshot: &dyn Snapshot,
    keys: &StoreKeys,
    table: Table,
    key: &[u8],
) -> Result<Option<M>, OpenError> {
    let Some(row) = snapshot.row(table, key).map_err(|error| device(&error))? else {
        return Ok(None);
    };
    let broken = |reason: String| OpenError::RecordBroken { record: table.name().into(), reason };
    let (_, body) = keys.open_row(None, Place { table, key }, &row).map_err(|error| broken(error.to_string()))?;
    M::decode(body.expose()).map(Some).map_err(|error| broken(error.to_string()))
}
