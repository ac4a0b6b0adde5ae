//! The store on redb, in a file or in memory.
//!
//! One thread holds the pen: it gathers the changes that wait, applies them in one transaction, makes that durable with
//! one sync, and answers all of them. A change checks everything before it writes anything, so that one that does not fit
//! leaves no trace among its neighbours.
//!
//! Layout, version 2. Every table maps bytes to bytes; values are the prost records of [`crate::store::record`]. Numbers in keys
//! are big endian, so that they sort.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | `version`, `sequence`, `journal_size`, `least_crl_number` | 8 bytes |
//! | `meta` | `restored` | Restoration, until somebody has said what the store lacks |
//! | `meta` | `clock_ahead` | ClockAhead, if the clock ever was |
//! | `certificates` | serial | Certificate |
//! | `issued` | sequence | serial |
//! | `issued_to` | device, 0, sequence | serial |
//! | `intents` | serial | Intent |
//! | `claims` | kind, `:`, name | serial of the intent that holds it |
//! | `issued_by` | authority, 0, sequence | serial |
//! | `issued_under` | EST label, 0, sequence | serial |
//! | `revocations` | list, 0, serial | Revocation |
//! | `revoked_until` | list, 0, end of validity, serial | nothing |
//! | `crl_changes` | list, 0, sequence | CrlChange |
//! | `crl_bodies` | list | the encoded CRL |
//! | `notices` | time of the next try, days (4 bytes), serial | Notice |
//! | `sweeps` | hash of what it is | Sweep, until its last piece |
//! | `foreign_lists` | SHA-256 of the issuer's certificate, space, address | ForeignList |
//! | `devices` | identity | Device |
//! | `authorities`, `key_plans`, `crls`, `credentials` | name | their record |
//! | `approvals` | identifier | Approval |
//! | `queue` | time, event (1 byte), serial | Due |
//! | `house` | role | serial |
//! | `key_uses` | SHA-256 of the key | KeyUse |
//! | `leaves` | place from 0 | a record of the journal: one line of JSON |
//! | `leaves_of` | hex of a serial number, 0, place | place |
//! | `subtrees` | level (1 byte), place on it | root of a perfect subtree of the journal |
//! | `counts` | what is counted | 8 bytes |
//! | `checkpoints` | size of the journal | StoredCheckpoint |
//! | `journal` | sequence | empty since version 2, which moved its rows to `leaves` |
//!
//! A list is named by [`crate::store::record::CrlList`]. Version 1 had encoded CRLs in their records, and lacked the tables that
//! `migrate` fills when it opens such a store.

mod answer;
mod apply;
mod clock;
mod counts;
mod image;
mod journal;
mod migrate;
mod restored;
mod rows;

use super::{Change, StoreError};
use crate::file::sync_folder_of;
use crate::store::record::Revocation;
use prost::Message;
use redb::{Database, ReadableTable, TableDefinition, WriteTransaction};
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// The format this program reads and writes.
const VERSION: u64 = 2;
/// Most changes in one transaction.
const MAX_BATCH: usize = 256;

type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;
const META: Table = Table::new("meta");
const CERTIFICATES: Table = Table::new("certificates");
const ISSUED: Table = Table::new("issued");
const ISSUED_TO: Table = Table::new("issued_to");
const INTENTS: Table = Table::new("intents");
const CLAIMS: Table = Table::new("claims");
const REVOCATIONS: Table = Table::new("revocations");
const DEVICES: Table = Table::new("devices");
const AUTHORITIES: Table = Table::new("authorities");
const KEY_PLANS: Table = Table::new("key_plans");
const CRLS: Table = Table::new("crls");
const APPROVALS: Table = Table::new("approvals");
const CREDENTIALS: Table = Table::new("credentials");
const KEY_USES: Table = Table::new("key_uses");
const JOURNAL: Table = Table::new("journal");
const HOUSE: Table = Table::new("house");
const QUEUE: Table = Table::new("queue");
const ISSUED_BY: Table = Table::new("issued_by");
const ISSUED_UNDER: Table = Table::new("issued_under");
const REVOKED_UNTIL: Table = Table::new("revoked_until");
const CRL_CHANGES: Table = Table::new("crl_changes");
const CRL_BODIES: Table = Table::new("crl_bodies");
const NOTICES: Table = Table::new("notices");
const SWEEPS: Table = Table::new("sweeps");
const FOREIGN_LISTS: Table = Table::new("foreign_lists");
const LEAVES: Table = Table::new("leaves");
const LEAVES_OF: Table = Table::new("leaves_of");
const SUBTREES: Table = Table::new("subtrees");
const CHECKPOINTS: Table = Table::new("checkpoints");
/// Where `meta` keeps how many leaves there are.
const JOURNAL_SIZE: &[u8] = b"journal_size";
/// Where `meta` keeps that this store came from a backup and nobody has said yet what it lacks.
const RESTORED: &[u8] = b"restored";
/// Where `meta` keeps how far the clock was ahead.
const CLOCK_AHEAD: &[u8] = b"clock_ahead";
/// Where `meta` keeps the least number of the first CRL of a list that a restored store knows nothing of.
const LEAST_CRL_NUMBER: &[u8] = b"least_crl_number";
const COUNTS: Table = Table::new("counts");
const ALL: [Table; 30] = [
    NOTICES,
    SWEEPS,
    FOREIGN_LISTS,
    APPROVALS,
    COUNTS,
    LEAVES,
    LEAVES_OF,
    SUBTREES,
    CHECKPOINTS,
    ISSUED_BY,
    ISSUED_UNDER,
    REVOKED_UNTIL,
    CRL_CHANGES,
    CRL_BODIES,
    QUEUE,
    HOUSE,
    META,
    CERTIFICATES,
    ISSUED,
    ISSUED_TO,
    INTENTS,
    CLAIMS,
    REVOCATIONS,
    DEVICES,
    AUTHORITIES,
    KEY_PLANS,
    CRLS,
    CREDENTIALS,
    KEY_USES,
    JOURNAL,
];

fn backend(fault: impl std::fmt::Display) -> StoreError {
    StoreError::Backend(fault.to_string())
}

/// The largest file, in bytes, of which every page is checked at the start: it takes some seconds.
const CHECKED_AT_START: u64 = 256 << 20;

/// Opens or creates a database file. Every page is checked against its checksum: an edited file is refused whole, not trusted in part.
/// A start must not grow with the store for ever: of a large file every record is read by `craton-pki backup`, and its proofs by
/// `craton-pki journal verify`.
fn file(path: &Path) -> Result<Database, StoreError> {
    let len = std::fs::metadata(path).map_or(0, |found| found.len());
    let check = len <= CHECKED_AT_START;
    if !check {
        tracing::info!(event = "store_not_checked", bytes = len, remedy = "craton-pki backup reads every record");
    }
    Database::builder().set_check_integrity_on_open(check).create(path).map_err(|fault| match fault {
        redb::DatabaseError::DatabaseAlreadyOpen => StoreError::Held(path.display().to_string()),
        redb::DatabaseError::Storage(redb::StorageError::Corrupted(detail)) => {
            StoreError::Damaged(format!("{} ({detail}): restore the state folder from a copy", path.display()))
        }
        other => StoreError::Backend(format!("{}: {other}", path.display())),
    })
}

type Answer = Result<(), StoreError>;
type Job = (Change, SyncSender<Answer>);

/// The store.
pub(crate) struct RedbStore {
    database: Arc<Database>,
    standing_changes: Arc<AtomicU64>,
    rows_read: Arc<AtomicU64>,
    rows_read_by_changes: Arc<AtomicU64>,
    /// None only while the store is being dropped.
    jobs: Option<SyncSender<Job>>,
    pen: Option<std::thread::JoinHandle<()>>,
}

impl RedbStore {
    /// Opens or creates the store in a file. A store that is new gets its name only when it is whole, so that a kill in the middle
    /// leaves nothing that could not be opened.
    ///
    /// # Errors
    /// [`StoreError::Held`] when another process has it, [`StoreError::Version`] when a newer program wrote it.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            let draft = path.with_extension("new");
            let database = match file(&draft) {
                Err(StoreError::Held(_)) => return Err(StoreError::Held(path.display().to_string())),
                // An earlier attempt broke off here; nothing in it was ever promised.
                Err(_) => {
                    std::fs::remove_file(&draft).map_err(backend)?;
                    file(&draft)?
                }
                Ok(database) => database,
            };
            drop(Self::start(database)?);
            std::fs::rename(&draft, path).map_err(backend)?;
            sync_folder_of(path).map_err(backend)?;
        }
        Self::start(file(path)?)
    }

    /// An empty store in memory.
    ///
    /// # Errors
    /// When memory cannot be had.
    pub(crate) fn in_memory() -> Result<Self, StoreError> {
        let memory = redb::backends::InMemoryBackend::new();
        Self::start(Database::builder().create_with_backend(memory).map_err(backend)?)
    }

    fn start(database: Database) -> Result<Self, StoreError> {
        let transaction = database.begin_write().map_err(backend)?;
        for table in ALL {
            transaction.open_table(table).map_err(backend)?;
        }
        match number(&transaction, b"version")? {
            0 => put(&transaction, META, b"version", &VERSION.to_be_bytes())?,
            VERSION => {}
            1 => {
                migrate::from_version_1(&transaction)?;
                put(&transaction, META, b"version", &VERSION.to_be_bytes())?;
            }
            found => return Err(StoreError::Version { found, known: VERSION }),
        }
        transaction.commit().map_err(backend)?;
        let database = Arc::new(database);
        let standing_changes = Arc::new(AtomicU64::new(0));
        let rows_read_by_changes: Arc<AtomicU64> = Arc::default();
        let (jobs, waiting) = sync_channel(MAX_BATCH);
        let pen = std::thread::Builder::new()
            .name("pen".to_owned())
            .spawn({
                let (database, standing_changes) = (Arc::clone(&database), Arc::clone(&standing_changes));
                let rows_read = Arc::clone(&rows_read_by_changes);
                move || hold_the_pen(&database, &waiting, &standing_changes, &rows_read)
            })
            .map_err(backend)?;
        let rows_read = Arc::default();
        Ok(Self { database, standing_changes, rows_read, rows_read_by_changes, jobs: Some(jobs), pen: Some(pen) })
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(pen) = self.pen.take()
            && pen.join().is_err()
        {
            tracing::error!("the store's writer ended by a panic");
        }
    }
}

thread_local! {
    /// What the changes of this thread's pen have read since it was last counted.
    static READ: Cell<u64> = const { Cell::new(0) };
}

fn hold_the_pen(database: &Database, waiting: &Receiver<Job>, standing_changes: &AtomicU64, rows_read: &AtomicU64) {
    while let Ok(first) = waiting.recv() {
        let mut jobs = vec![first];
        while jobs.len() < MAX_BATCH
            && let Ok(next) = waiting.try_recv()
        {
            jobs.push(next);
        }
        let answers = write(database, jobs.iter().map(|(change, _)| change));
        rows_read.fetch_add(READ.take(), Ordering::Relaxed);
        // Before the answers: whoever knows that a certificate is revoked finds no remembered word to the contrary.
        if jobs.iter().any(|(change, _)| change.may_alter_standing()) {
            standing_changes.fetch_add(1, Ordering::Release);
        }
        for (index, (_, reply)) in jobs.into_iter().enumerate() {
            let answer = match &answers {
                Ok(answers) => answers.get(index).cloned().unwrap_or_else(|| Err(backend("no answer"))),
                Err(fault) => Err(fault.clone()),
            };
            // An asker who went away loses only the answer.
            drop(reply.send(answer));
        }
    }
}

/// Applies changes in one durable transaction. A change that does not fit is answered; any other fault undoes all.
fn write<'a>(database: &Database, changes: impl Iterator<Item = &'a Change>) -> Result<Vec<Answer>, StoreError> {
    let mut transaction = database.begin_write().map_err(backend)?;
    // Opening after a crash must not walk the whole file: the allocator state is saved with each commit.
    transaction.set_quick_repair(true);
    let mut answers = Vec::new();
    for change in changes {
        match apply::apply(&transaction, change) {
            Ok(()) => answers.push(Ok(())),
            Err(StoreError::Conflict(conflict)) => answers.push(Err(conflict.into())),
            Err(fault) => return Err(fault),
        }
    }
    transaction.commit().map_err(backend)?;
    Ok(answers)
}

fn get<T: Message + Default>(
    transaction: &WriteTransaction,
    table: Table,
    key: &[u8],
) -> Result<Option<T>, StoreError> {
    raw(transaction, table, key)?.map(|bytes| decode(table, &bytes)).transpose()
}

fn raw(transaction: &WriteTransaction, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    READ.set(READ.get() + 1);
    let open = transaction.open_table(table).map_err(backend)?;
    let found = open.get(key).map_err(backend)?;
    Ok(found.map(|value| value.value().to_vec()))
}

fn put(transaction: &WriteTransaction, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    transaction.open_table(table).map_err(backend)?.insert(key, value).map_err(backend)?;
    Ok(())
}

fn save(transaction: &WriteTransaction, table: Table, key: &[u8], record: &impl Message) -> Result<(), StoreError> {
    put(transaction, table, key, &record.encode_to_vec())
}

fn remove(transaction: &WriteTransaction, table: Table, key: &[u8]) -> Result<(), StoreError> {
    transaction.open_table(table).map_err(backend)?.remove(key).map_err(backend)?;
    Ok(())
}

fn decode<T: Message + Default>(table: Table, bytes: &[u8]) -> Result<T, StoreError> {
    use redb::TableHandle;
    T::decode(bytes).map_err(|fault| StoreError::Damaged(format!("a record of table '{}': {fault}", table.name())))
}

fn number(transaction: &WriteTransaction, key: &[u8]) -> Result<u64, StoreError> {
    let bytes = raw(transaction, META, key)?.unwrap_or_else(|| vec![0; 8]);
    let bytes =
        <[u8; 8]>::try_from(bytes.as_slice()).map_err(|_| StoreError::Damaged("a number is not 8 bytes".to_owned()))?;
    Ok(u64::from_be_bytes(bytes))
}

fn next_sequence(transaction: &WriteTransaction) -> Result<[u8; 8], StoreError> {
    let next = number(transaction, b"sequence")?.saturating_add(1).to_be_bytes();
    put(transaction, META, b"sequence", &next)?;
    Ok(next)
}

/// A key and its value, as stored.
type Entry = (Vec<u8>, Vec<u8>);

/// All of a table.
///
/// # Errors
/// When the file fails.
fn entries(transaction: &WriteTransaction, table: Table) -> Result<Vec<Entry>, StoreError> {
    let open = transaction.open_table(table).map_err(backend)?;
    let mut all = Vec::new();
    for entry in open.iter().map_err(backend)? {
        let (key, value) = entry.map_err(backend)?;
        all.push((key.value().to_vec(), value.value().to_vec()));
    }
    Ok(all)
}

/// Where a revocation stands among those of its list by the end of validity.
fn revoked_until_key(list: &str, revocation: &Revocation) -> Vec<u8> {
    let until = u64::try_from(revocation.not_after).unwrap_or(0).to_be_bytes();
    joined(list, &[&until[..], &revocation.serial].concat())
}

fn joined(first: &str, second: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(first.len() + 1 + second.len());
    key.extend_from_slice(first.as_bytes());
    key.push(0);
    key.extend_from_slice(second);
    key
}
