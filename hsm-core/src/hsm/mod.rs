//! The front desk: one public method per operation, by chapter of the standard. The doors call these and nothing else.

mod admin;
mod caller;
mod count;
mod crypto;
mod derive;
mod iv;
mod kem;
mod key;
mod message;
mod object;
mod rotate;
mod seal;
mod session;
mod slot;
mod state;
mod stream;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod timing_tests;
mod witness;
mod wrap;
mod wrap_authenticated;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Mutex, RwLock};

pub use admin::{Errand, KeySummary, SecretRefused, Status, StreamStatus, TokenName, TokenSummary};
pub use caller::Caller;
pub use derive::Derived;
pub use message::{Message, MessagePart, MessagePiece};
pub use object::{AttributeRead, Found};
pub use rotate::KeyRotation;
pub use seal::{SealState, Unsealing};
pub use slot::{SlotView, TokenView};

use crate::application::Application;
use crate::audit::{self, Category, Durability, Entry, Fact, Journal};
use crate::clock::Clock;
use crate::config::{Config, OnTamper};
use crate::crypto::{rng, selftest};
use crate::error::{Error, Kind, Result};
use crate::id::{ObjectId, TokenId};
use crate::mechanism::Mechanisms;
use crate::object::{Object, codec};
use crate::observe::Observer;
use crate::session::Places;
use crate::session::objects::SessionObjects;
use crate::store::{OpenError, TokenMasterKey, TokenRecord, Vault};
use crate::token::login::Login;
use crate::token::slot::Slot;

/// A failed power-on self-test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("power-on self-test failed: {test}")]
pub struct SelfTestFailure {
    /// Which test.
    pub test: &'static str,
}

/// Why the token could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal.
    #[error("the audit journal cannot be used: {}", .0.detail().unwrap_or("it cannot be opened"))]
    Journal(Error),
    /// The store.
    #[error("the store cannot be used: {0}")]
    Store(#[from] OpenError),
    /// A record of the store, or randomness.
    #[error("the token cannot be read: {0}")]
    Token(Error),
}

impl StartError {
    /// Whether another start would find the same: store or journal are not what was written, and somebody has to look.
    pub fn is_lasting(&self) -> bool {
        match self {
            StartError::Journal(error) => error.kind() == Kind::DataInvalid,
            StartError::Store(error) => error.is_lasting(),
            StartError::Token(_) => false,
        }
    }
}

/// Handles are reserved in the store in blocks of this many, so that none is ever given twice.
const HANDLE_BLOCK: u64 = 4096;

/// The whole token.
pub struct Hsm {
    me: Weak<Hsm>,
    config: Config,
    clock: Arc<dyn Clock>,
    journal: Arc<Journal>,
    vault: OnceLock<Vault<Journal>>,
    /// Why it is sealed, and what has been brought to unseal it.
    seal: Mutex<seal::Seal>,
    pub(crate) mechanisms: Mechanisms,
    slots: RwLock<Vec<Arc<Slot>>>,
    applications: Mutex<HashMap<[u8; 16], Arc<Application>>>,
    boot: [u8; 16],
    generation: AtomicU64,
    next_session: AtomicU64,
    sessions_open: Arc<Places>,
    handles: Mutex<std::ops::Range<u64>>,
    iv_books: iv::IvBooks,
    signature_counts: count::SignatureCounts,
    stream: Mutex<stream::Stream>,
    observer: OnceLock<Observer>,
    /// Held while a witnessed checkpoint is judged and kept.
    witnessing: Mutex<()>,
    started_ns: u64,
    /// A token's objects could not be read after the start.
    unreadable: AtomicBool,
}

fn origin_of(vault: &Vault<Journal>) -> String {
    format!("craton-hsm/{}", data_encoding::HEXLOWER.encode(&vault.store_id()))
}

impl Hsm {
    /// The power-on self-test: known answers for every algorithm. To be run before the first listener opens.
    ///
    /// # Errors
    /// The first test that failed.
    pub fn self_test() -> Result<Vec<&'static str>, SelfTestFailure> {
        selftest::run().map_err(|failure| SelfTestFailure { test: failure.test })
    }

    /// Opens journal and store and brings them to agreement. A store whose key is missing opens sealed: everything but `status` is
    /// refused until the daemon is started with the key. What was tampered with opens sealed if `audit.on_tamper` says so.
    ///
    /// # Errors
    /// [`StartError`] with a sentence for the operator.
    pub fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Arc<Hsm>, StartError> {
        let seals = |error: &StartError| error.is_lasting() && config.audit.on_tamper == OnTamper::Seal;
        let options = || config.audit.options();
        let (journal, tampered) = match Journal::open(options(), Arc::clone(&clock)).map_err(StartError::Journal) {
            Err(error) if seals(&error) => {
                (Journal::closed(options(), Arc::clone(&clock), &error.to_string()), Some(error))
            }
            opened => (opened?, None),
        };
        let journal = Arc::new(journal);
        let opened = if let Some(error) = tampered {
            Err(error)
        } else if config.token.persist_objects {
            Vault::open(&config.store, &config.pin, Arc::clone(&journal), Arc::clone(&clock)).map_err(StartError::from)
        } else {
            // A token in memory begins anew each time: its generations say nothing of an earlier run's.
            journal.forget_generations();
            Vault::in_memory(&config.pin, Arc::clone(&journal), Arc::clone(&clock)).map_err(StartError::from)
        };
        let (vault, seal) = match opened {
            Ok(vault) => (Some(vault), seal::Seal::default()),
            Err(StartError::Store(error)) if error.is_sealed() => (None, seal::Seal::because(error.to_string())),
            Err(error) if seals(&error) => (None, seal::Seal::for_good(error.to_string())),
            Err(error) => return Err(error),
        };
        let (mut boot, mut base) = ([0; 16], [0; 3]);
        rng::fill(&mut boot).and_then(|()| rng::fill(&mut base)).map_err(|error| StartError::Token(error.into()))?;
        let [a, b, c] = base;
        let hsm = Arc::new_cyclic(|me| Hsm {
            me: Weak::clone(me),
            config: config.clone(),
            started_ns: clock.now_unix_nanos(),
            clock,
            journal,
            vault: OnceLock::new(),
            seal: Mutex::new(seal),
            mechanisms: Mechanisms::new(&config.algorithms, &config.policy),
            slots: RwLock::default(),
            applications: Mutex::default(),
            boot,
            generation: AtomicU64::new(1),
            // Session handles of an earlier run must not name sessions of this one.
            next_session: AtomicU64::new(u64::from(u32::from_be_bytes([0, a, b, c])) << 8 | 1),
            sessions_open: Arc::default(),
            handles: Mutex::new(0..0),
            unreadable: AtomicBool::new(false),
            iv_books: iv::IvBooks::default(),
            signature_counts: count::SignatureCounts::default(),
            stream: Mutex::default(),
            observer: OnceLock::new(),
            witnessing: Mutex::new(()),
        });
        if let Some(vault) = vault {
            hsm.take_up(vault)?;
        }
        Ok(hsm)
    }

    /// From now on `observer` hears how long the disk is waited for. The first one that is set hears.
    pub fn observe(&self, observer: Observer) {
        self.journal.observe(Arc::clone(&observer));
        if let Some(vault) = self.vault.get() {
            vault.observe(Arc::clone(&observer));
        }
        self.observer.set(observer).unwrap_or_default();
    }

    /// From an open store to a token that can be used.
    fn take_up(&self, vault: Vault<Journal>) -> Result<(), StartError> {
        if self.config.token.persist_objects {
            let audit = &self.config.audit;
            let keys = audit::SigningKeys::new(&audit.log_path, vault.journal_key(), origin_of(&vault)).of(audit.suite);
            self.journal.sign_with(keys).map_err(StartError::Journal)?;
        }
        if let Some(observer) = self.observer.get() {
            vault.observe(Arc::clone(observer));
        }
        let me = Weak::clone(&self.me);
        vault.when_ahead(move |tokens| me.upgrade().into_iter().for_each(|hsm| hsm.take_again(tokens.clone())));
        if self.vault.set(vault).is_err() {
            return Err(StartError::Token(Error::new(Kind::Internal, "the store is open already")));
        }
        self.fill_slots()
            .and_then(|()| self.note_policy())
            .and_then(|()| self.start_stream())
            .map_err(StartError::Token)
    }

    /// The store's generation; while it is sealed, the newest that the journal names.
    pub(crate) fn store_generation(&self) -> u64 {
        self.vault.get().map_or_else(|| self.journal.last_generation(), Vault::generation)
    }

    /// The journal's name in its checkpoints; none while it is not signed.
    pub fn journal_origin(&self) -> Option<String> {
        self.vault.get().filter(|_| self.config.token.persist_objects).map(origin_of)
    }

    /// Every opened policy switch leaves a warning in the log and a record in the journal, at each start.
    fn note_policy(&self) -> Result<()> {
        if self.mechanisms.are_approved_only() {
            tracing::info!("only approved mechanisms and key sizes are offered");
            let entry = Entry::new(Category::Admin, "policy", audit::Client::Daemon);
            let entry = entry.with_fact("approved_only", Fact::word("on"));
            let _receipt = self.journal.append(entry, self.vault()?.generation(), Durability::Durable)?;
        }
        let legacy = self.config.algorithms.allow_legacy.then_some("allow_legacy");
        for switch in self.config.policy.opened().into_iter().chain(legacy) {
            tracing::warn!(switch, "a policy switch is open");
            let entry = Entry::new(Category::Admin, "policy", audit::Client::Daemon);
            let entry = entry.with_fact("open", Fact::word(switch));
            let _receipt = self.journal.append(entry, self.vault()?.generation(), Durability::Durable)?;
        }
        Ok(())
    }

    /// 16 random bytes of this run.
    pub fn boot(&self) -> [u8; 16] {
        self.boot
    }

    /// A number that moves on whenever an existing object changed or went away.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// An existing object changed or went away.
    pub(crate) fn moved_on(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// The store; refused while sealed.
    pub(crate) fn vault(&self) -> Result<&Vault<Journal>> {
        if self.unreadable.load(Ordering::Acquire) {
            return Err(Error::new(Kind::Device, "a token's objects cannot be read: see the log"));
        }
        self.vault.get().ok_or_else(|| Error::new(Kind::Sealed, self.seal.lock().why()))
    }

    /// The slot of a number.
    pub(crate) fn slot(&self, number: u64) -> Result<Arc<Slot>> {
        self.vault()?;
        let slots = self.slots.read();
        slots.iter().find(|slot| slot.number == number).cloned().ok_or_else(|| Kind::NoSuchSlot.into())
    }

    pub(crate) fn all_slots(&self) -> Vec<Arc<Slot>> {
        self.slots.read().clone()
    }

    /// The next object handle.
    pub(crate) fn next_handle(&self) -> Result<u64> {
        let mut handles = self.handles.lock();
        if handles.is_empty() {
            *handles = self.vault()?.reserve_handles(HANDLE_BLOCK)?;
        }
        handles.next().ok_or_else(|| Kind::Internal.into())
    }

    pub(crate) fn next_session_handle(&self) -> u64 {
        self.next_session.fetch_add(1, Ordering::Relaxed)
    }

    /// A fresh object name.
    pub(crate) fn new_object_id() -> Result<ObjectId> {
        let mut id = [0; 16];
        rng::fill(&mut id)?;
        Ok(ObjectId(id))
    }

    /// Reads a token's objects from the store: the public ones, or with the key the private ones.
    pub(crate) fn load(&self, token: TokenId, tmk: Option<&TokenMasterKey>) -> Result<Vec<Object>> {
        self.vault()?.read_objects(token, tmk, |object| codec::decode(object.id, &object.plaintext))
    }

    /// Reads a slot's objects again after a write whose outcome is not known.
    pub(crate) fn reload(&self, slot: &Slot) -> Result<()> {
        let _keys = self.vault()?.hold_keys();
        self.read_again(slot)
    }

    /// The same for who holds the keys, and for the store's pen.
    fn read_again(&self, slot: &Slot) -> Result<()> {
        let vault = self.vault()?;
        slot.refill(|token, tmk| {
            vault.read_objects_as_they_lie(token, tmk, |object| codec::decode(object.id, &object.plaintext))
        })?;
        self.moved_on();
        Ok(())
    }

    /// The store holds a change whose caller was told that it failed: what the store says is true. The store's pen calls this, for which
    /// others wait: so nothing here may wait for whoever waits for the pen.
    fn take_again(&self, tokens: Vec<TokenRecord>) {
        let Some(vault) = self.vault.get() else { return };
        vault.take_tokens(tokens.clone());
        for token in tokens {
            let Some(slot) = self.all_slots().into_iter().find(|slot| slot.number == token.slot) else { continue };
            if slot.token_id() != token.id {
                slot.replace(token);
            }
            if let Err(error) = self.read_again(&slot) {
                tracing::error!(%error, slot = slot.number, "a token's objects cannot be read: everything is refused");
                self.unreadable.store(true, Ordering::Release);
            }
        }
    }

    /// Forgets an application's login at a slot; the last user takes the token's key along.
    pub(crate) fn end_login(&self, application: &Application, number: u64) {
        let Some(held) = application.logins.leave(number) else { return };
        for session in application.sessions.read().values().filter(|session| session.slot == number) {
            session.operations.lock().clear();
        }
        application.objects.write().end_login(number);
        if let (Login::User, Ok(slot)) = (held.login, self.slot(number)) {
            application.shown.forget(number);
            slot.leave();
        }
    }

    pub(crate) fn applications(&self) -> Vec<Arc<Application>> {
        self.applications.lock().values().cloned().collect()
    }

    /// Ends every session and makes the journal durable: what a graceful stop does last.
    pub fn close(&self) {
        self.stream.lock().closing = true;
        for application in self.applications() {
            application.sessions.write().clear();
            *application.objects.write() = SessionObjects::default();
            for slot in application.logins.slots() {
                self.end_login(&application, slot);
            }
        }
        if let Err(error) = self.journal.sync() {
            tracing::error!(%error, "the journal could not be made durable at the stop");
        }
    }
}
