//! The vault: tokens, PINs and objects at rest, and the only way to change them.
//!
//! What an object's bytes or a journal entry mean is not known here. A method that changes something returns only when
//! the change and its journal entry are durable.

use super::commit::{Committed, Ledgered, Pen, Work};
use super::create::{self, Fresh, Opened};
use super::layout::{self, Reserved, Role, Table, TokenRecord};
use super::ledger::{Ledger, reconcile};
use super::memory::MemoryStore;
use super::seal::{self, Place, SealError, StoreKeys, TokenMasterKey};
use super::spread::over_rows;
use super::verify::{NO_OBJECT, NO_TOKEN};
use super::{OpenError, Snapshot, Store, StoreError, device, verify};
use crate::clock::Clock;
use crate::config::{PinConfig, StoreConfig};
use crate::error::{Error, Kind, Result};
use crate::id::{ObjectId, TokenId};
use crate::observe::Observer;
use crate::secret::SecretBytes;
use crate::sys::Lock;
use crate::token::pin::{ClientLimits, Turnstile};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use prost::Message;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// An object as it was stored.
#[derive(Debug)]
pub(crate) struct StoredObject {
    /// Its lasting name within the token.
    pub(crate) id: ObjectId,
    /// What the caller had put.
    pub(crate) plaintext: SecretBytes,
}

/// An object to be stored, new or over its older state.
#[derive(Debug)]
pub(crate) struct ObjectPut {
    /// The token it belongs to.
    pub(crate) token: TokenId,
    /// Its lasting name within the token.
    pub(crate) id: ObjectId,
    /// Whether to seal it under the token master key.
    pub(crate) private: bool,
    /// Its encoding, of any form.
    pub(crate) plaintext: SecretBytes,
}

/// Objects stored and destroyed together.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// Objects to store.
    pub(crate) puts: Vec<ObjectPut>,
    /// Objects to destroy; one that is not there is no error.
    pub(crate) deletes: Vec<(TokenId, ObjectId)>,
}

/// What the token flags tell about one PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PinState {
    /// Whether there is such a PIN.
    pub(crate) set: bool,
    /// Attempts since the last that succeeded.
    pub(crate) failed: u32,
    /// No attempt is left.
    pub(crate) locked: bool,
    /// One attempt is left.
    pub(crate) final_try: bool,
    /// At least one attempt has failed.
    pub(crate) count_low: bool,
}

/// Everything at rest.
pub(crate) struct Vault<L: Ledger> {
    // The pen comes first: it is dropped, and its thread joined, while the store and its lock still exist.
    pub(super) pen: Pen<L>,
    pub(super) store: Arc<dyn Store>,
    pub(super) keys: Arc<StoreKeys>,
    pub(super) state: Arc<Ledgered>,
    pub(super) pins: PinConfig,
    pub(super) turnstile: Turnstile,
    pub(super) clients: ClientLimits,
    pub(super) clock: Arc<dyn Clock>,
    /// Held by operations that replace a token, so that two cannot do so at once.
    pub(super) administration: Mutex<()>,
    pub(super) tokens: RwLock<BTreeMap<u64, TokenRecord>>,
    pub(super) derivations: AtomicU64,
    next_handle: Mutex<u64>,
    /// Read while private objects are opened, or sealed and written; written while a token's key is being replaced.
    pub(super) sealing: RwLock<()>,
    /// Held while the link between two keys of a token is looked at and changed.
    pub(super) links: Mutex<()>,
    /// The keys of tokens at which somebody is logged in.
    pub(super) rings: Mutex<HashMap<TokenId, Weak<TokenMasterKey>>>,
    /// Held while numbers for IVs are reserved.
    pub(super) iv_turn: Mutex<()>,
    /// How often the store has been restored from a backup.
    pub(super) restores: u32,
    _lock: Option<Lock>,
}

/// Why objects could not be read.
enum Unread {
    Object(Error),
    Store(StoreError),
}

impl From<StoreError> for Unread {
    fn from(error: StoreError) -> Self {
        Unread::Store(error)
    }
}

/// Handle 0 is CK_INVALID_HANDLE.
const FIRST_HANDLE: u64 = 1;

impl<L: Ledger> Vault<L> {
    /// Opens the store of a directory, or makes an empty one if the directory is empty, and brings store and journal
    /// to agreement.
    ///
    /// # Errors
    /// See [`OpenError`]; [`OpenError::is_sealed`] tells whether only the key is missing.
    pub(crate) fn open(
        store: &StoreConfig,
        pins: &PinConfig,
        ledger: Arc<L>,
        clock: Arc<dyn Clock>,
    ) -> Result<Vault<L>, OpenError> {
        Vault::open_unsealed(store, None, pins, ledger, clock)
    }

    /// The same with the key, if it had been sealed.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub(crate) fn open_unsealed(
        store: &StoreConfig,
        key: Option<seal::Key>,
        pins: &PinConfig,
        ledger: Arc<L>,
        clock: Arc<dyn Clock>,
    ) -> Result<Vault<L>, OpenError> {
        let fresh = match ledger.last_generation() {
            Some(journal) if journal > 0 => Fresh::RolledBack { journal },
            _ => Fresh::Allowed,
        };
        Vault::start(create::open(store, fresh, key)?, pins, ledger, clock)
    }

    /// A vault without a disk: all is gone when it is dropped.
    pub(crate) fn in_memory(pins: &PinConfig, ledger: Arc<L>, clock: Arc<dyn Clock>) -> Result<Vault<L>, OpenError> {
        Vault::start(create::create_in(Arc::new(MemoryStore::default()))?, pins, ledger, clock)
    }

    pub(super) fn start(
        opened: Opened,
        pins: &PinConfig,
        ledger: Arc<L>,
        clock: Arc<dyn Clock>,
    ) -> Result<Vault<L>, OpenError> {
        let Opened { store, keys, verified, lock } = opened;
        let outbox = reconcile(&verified, &*ledger)?;
        let restores = verified.manifest.restores;
        let state = Arc::new(Ledgered::new(verified.manifest, verified.objects));
        let pen = Pen::start(Arc::clone(&store), Arc::clone(&keys), Arc::clone(&state), ledger, outbox)?;
        let vault = Vault {
            pen,
            keys,
            state,
            pins: pins.clone(),
            turnstile: Turnstile::default(),
            clients: ClientLimits::new(pins, Arc::clone(&clock)),
            clock,
            administration: Mutex::new(()),
            tokens: RwLock::new(verified.tokens.into_iter().map(|token| (token.slot, token)).collect()),
            derivations: AtomicU64::new(0),
            next_handle: Mutex::new(FIRST_HANDLE),
            sealing: RwLock::new(()),
            links: Mutex::new(()),
            rings: Mutex::default(),
            iv_turn: Mutex::new(()),
            restores,
            _lock: lock,
            store,
        };
        let reserved = vault.open_row(Table::Reserved, layout::HANDLE_KEY)?;
        if let Some(reserved) = reserved.and_then(|body| Reserved::decode(body.expose()).ok()) {
            *vault.next_handle.lock() = reserved.next;
        }
        vault.recall_clients()?;
        Ok(vault)
    }

    /// Unique for all time; kept by a restore.
    pub(crate) fn store_id(&self) -> [u8; 16] {
        self.keys.store_id()
    }

    /// The key that seals the journal's signing key.
    pub(crate) fn journal_key(&self) -> SecretBytes {
        self.keys.journal_key()
    }

    /// The number of the newest change.
    pub(crate) fn generation(&self) -> u64 {
        self.state.manifest.read().generation
    }

    /// What is told the tokens when the store, opened again after a failed write, turned out to hold that write.
    pub(crate) fn when_ahead(&self, tell: impl Fn(Vec<TokenRecord>) + Send + Sync + 'static) {
        *self.state.when_ahead.lock() = Some(Box::new(tell));
    }

    /// From now on `observer` hears how long each transaction took.
    pub(crate) fn observe(&self, observer: Observer) {
        // The first one hears.
        self.state.observer.set(observer).unwrap_or_default();
    }

    /// Takes the tokens as the store has them.
    pub(crate) fn take_tokens(&self, tokens: Vec<TokenRecord>) {
        *self.tokens.write() = tokens.into_iter().map(|token| (token.slot, token)).collect();
    }

    /// Whether a failed write has stopped all further ones, until the store has been opened again and verified.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.state.poisoned.load(Ordering::Acquire)
    }

    /// Has a store opened again that a failed write has closed, before something is read that only a change would follow: else those who
    /// read first would never come to the change.
    ///
    /// # Errors
    /// [`Kind::Device`] if it cannot be opened yet.
    pub(super) fn awaken(&self) -> Result<()> {
        if self.is_poisoned() { self.pen.write_unrecorded(Work::default()) } else { Ok(()) }
    }

    /// The token's objects: those with CKA_PRIVATE false, or, with the token's key, those with CKA_PRIVATE true; each as `read` makes
    /// it out of what was stored, in no particular order.
    pub(crate) fn read_objects<T: Send>(
        &self,
        token: TokenId,
        tmk: Option<&TokenMasterKey>,
        read: impl Fn(StoredObject) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        // The key that an object is sealed under is not dropped while it is read. Those who wait to replace a key are passed by: they may
        // wait for somebody who waits for this.
        let _sealing = tmk.map(|_| self.sealing.read_recursive());
        self.read_objects_as_they_lie(token, tmk, read)
    }

    /// Master keys stay as they are while this is held.
    pub(crate) fn hold_keys(&self) -> RwLockReadGuard<'_, ()> {
        self.sealing.read()
    }

    /// [`Vault::read_objects`] for who holds the keys, and for the pen: while that is busy nobody changes a key, and who is about to may
    /// wait for it.
    pub(crate) fn read_objects_as_they_lie<T: Send>(
        &self,
        token: TokenId,
        tmk: Option<&TokenMasterKey>,
        read: impl Fn(StoredObject) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let table = object_table(tmk.is_some());
        check_owner(token, tmk)?;
        let snapshot = self.snapshot()?;
        let open = |objects: &mut Vec<T>, row_key: &[u8], row: &[u8]| {
            let object = self.open_object(table, tmk, row_key, row).and_then(&read);
            objects.push(object.map_err(Unread::Object)?);
            Ok(())
        };
        let lists = over_rows(|visit| snapshot.scan(table, &token.0, visit), Vec::new, open);
        lists.map(|lists| lists.into_iter().flatten().collect()).map_err(|unread| match unread {
            Unread::Object(error) => error,
            Unread::Store(error) => device(&error),
        })
    }

    /// The token's objects as they were stored.
    #[cfg(test)]
    pub(crate) fn load_objects(&self, token: TokenId, tmk: Option<&TokenMasterKey>) -> Result<Vec<StoredObject>> {
        self.read_objects(token, tmk, Ok)
    }

    pub(super) fn open_object(
        &self,
        table: Table,
        tmk: Option<&TokenMasterKey>,
        row_key: &[u8],
        row: &[u8],
    ) -> Result<StoredObject> {
        let place = Place { table, key: row_key };
        let of_epoch = |tmk: &TokenMasterKey| tmk.of_epoch(seal::epoch_of(row)?);
        let key = match tmk {
            None => None,
            Some(tmk) => Some(of_epoch(tmk).ok_or_else(|| broken_row(table, row_key, SealError::WrongKey))?),
        };
        let opened = self.keys.open_row(key.as_deref(), place, row).and_then(|(label, plaintext)| {
            verify::check_place(&label, place)?;
            Ok(StoredObject { id: layout::object_of_key(row_key).ok_or(SealError::Misplaced)?, plaintext })
        });
        opened.map_err(|error| broken_row(table, row_key, error))
    }

    /// Stores and destroys objects in one durable change, with its journal entry.
    ///
    /// # Errors
    /// [`Kind::Device`] if it could not be written; [`Kind::NotLoggedIn`] for a private object without its token's key;
    /// [`Kind::TokenNotInitialized`] if the token was initialised again meanwhile.
    pub(crate) fn commit(
        &self,
        change: Change,
        tmk: Option<&TokenMasterKey>,
        entry: &[u8],
    ) -> Result<Committed<L::Receipt>> {
        // The token's key is not replaced between sealing and writing.
        let _sealing = self.sealing.read();
        let mut work = Work::default();
        for put in &change.puts {
            let row = self.seal_object(put, tmk)?;
            let key = layout::object_key(put.token, put.id);
            work.batch.put(object_table(put.private), &key, row);
            work.batch.delete(object_table(!put.private), &key);
        }
        for (token, object) in &change.deletes {
            let key = layout::object_key(*token, *object);
            work.batch.delete(Table::PublicObject, &key);
            work.batch.delete(Table::PrivateObject, &key);
            work.batch.delete(Table::Reserved, &layout::count_key(*token, *object));
        }
        let tokens = change.puts.iter().map(|put| put.token).chain(change.deletes.iter().map(|(token, _)| *token));
        for token in tokens {
            if *work.requires.get_or_insert(token) != token {
                return Err(Error::new(Kind::Internal, "one change touches objects of one token"));
            }
        }
        self.pen.write(work, entry)
    }

    fn seal_object(&self, put: &ObjectPut, tmk: Option<&TokenMasterKey>) -> Result<Vec<u8>> {
        let table = object_table(put.private);
        let key = layout::object_key(put.token, put.id);
        let place = Place { table, key: &key };
        let version = self.state.next_version();
        let mut label = seal::table_label(table, self.store_id(), put.token, put.id, version);
        if !put.private {
            return self.keys.seal_row(&label, place, put.plaintext.expose());
        }
        let tmk = tmk.filter(|tmk| tmk.token() == put.token).ok_or(Kind::NotLoggedIn)?;
        let (epoch, key) = tmk.current();
        label.epoch = epoch;
        self.keys.seal_row_under(&key, &label, place, put.plaintext.expose())
    }

    /// How many objects the token holds.
    pub(crate) fn object_count(&self, token: TokenId) -> u64 {
        self.state.objects.read().get(&token).copied().unwrap_or(0)
    }

    /// Reserves handles, durably: none of them was or will be given out by another call in the life of the store.
    pub(crate) fn reserve_handles(&self, count: u64) -> Result<Range<u64>> {
        let mut next = self.next_handle.lock();
        let end = next.checked_add(count).ok_or(Kind::ResourceExceeded)?;
        let mut work = Work::default();
        let body = Reserved { next: end }.encode_to_vec();
        work.batch.put(
            Table::Reserved,
            layout::HANDLE_KEY,
            self.seal_own(Table::Reserved, NO_TOKEN, layout::HANDLE_KEY, &body)?,
        );
        self.pen.write_unrecorded(work)?;
        let start = core::mem::replace(&mut *next, end);
        Ok(start..end)
    }

    pub(super) fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        self.store.snapshot().map_err(|error| device(&error))
    }

    /// Seals a row of a table with a key of the store's own.
    pub(super) fn seal_own(&self, table: Table, token: TokenId, key: &[u8], body: &[u8]) -> Result<Vec<u8>> {
        let label = seal::table_label(table, self.store_id(), token, NO_OBJECT, self.state.next_version());
        self.keys.seal_row(&label, Place { table, key }, body)
    }

    /// Opens a row of a table with a key of the store's own.
    pub(super) fn open_row(&self, table: Table, key: &[u8]) -> Result<Option<SecretBytes>> {
        let Some(row) = self.snapshot()?.row(table, key).map_err(|error| device(&error))? else {
            return Ok(None);
        };
        let place = Place { table, key };
        let opened = self.keys.open_row(None, place, &row).and_then(|(label, body)| {
            verify::check_place(&label, place)?;
            Ok(body)
        });
        opened.map(Some).map_err(|error| broken_row(table, key, error))
    }
}

/// Whether `tmk` is that token's.
fn check_owner(token: TokenId, tmk: Option<&TokenMasterKey>) -> Result<()> {
    match tmk {
        Some(tmk) if tmk.token() != token => Err(Error::new(Kind::Internal, "the master key belongs to another token")),
        _ => Ok(()),
    }
}

fn object_table(private: bool) -> Table {
    if private { Table::PrivateObject } else { Table::PublicObject }
}

pub(super) fn broken_row(table: Table, key: &[u8], error: SealError) -> Error {
    let key = data_encoding::HEXLOWER.encode(key);
    Error::new(Kind::Device, format!("the record {} {key} does not verify: {error}", table.name()))
}

/// The role's PIN as the token flags show it.
impl PinState {
    pub(super) fn of(set: bool, failed: u32, max: u32) -> PinState {
        PinState {
            set,
            failed,
            locked: set && failed >= max,
            final_try: set && failed + 1 == max,
            count_low: set && failed > 0,
        }
    }
}

impl Role {
    /// For messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Role::So => "SO",
            Role::User => "user",
        }
    }
}
