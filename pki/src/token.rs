//! The only door to keys: a PKCS#11 module, reached by its path.
//!
//! Private keys are made in the token (sensitive, not extractable) and stay there; this room gives public keys and
//! signatures. Sessions are pooled. When the token goes away (its daemon restarts, its session is reaped), the pool forgets
//! every session and key handle and begins again with a fresh login, so that the server needs no restart of its own.
//! A refused PIN is never tried a second time: the token would lock itself.

mod key;

use crate::x509::algorithm::{KeySpec, Scheme};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as Ck, RvError};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
pub(crate) use key::GivenKey;
use key::{ecdsa_der, generation, mechanism, public_attributes, spki};
use parking_lot::{Condvar, Mutex};
use spki::SubjectPublicKeyInfoOwned;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Why the token did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// The module cannot be loaded.
    #[error("the PKCS#11 module {path} cannot be loaded: {detail}")]
    Module {
        /// Its path.
        path: PathBuf,
        /// What the loader said.
        detail: String,
    },
    /// No token carries the label.
    #[error("no initialised token is labelled '{0}': initialise one or correct [token] label")]
    NoToken(String),
    /// Several tokens carry the label.
    #[error("more than one token is labelled '{0}'")]
    Ambiguous(String),
    /// The PIN was refused.
    #[error("the token refused the PIN ({0}); it is not tried again before a restart")]
    Pin(String),
    /// The token is away.
    #[error("the token is not available: {0}")]
    Unavailable(String),
    /// A key is missing.
    #[error("the token holds no key '{label}' with id {id}")]
    NoKey {
        /// CKA_LABEL.
        label: String,
        /// CKA_ID in hexadecimal.
        id: String,
    },
    /// Only half of a key pair is there: its generation broke off.
    #[error("only half of the key pair '{0}' is in the token")]
    HalfKey(String),
    /// A key has not the properties that this PKI insists on.
    #[error("the key '{label}' is not safe to use: {fault}")]
    UnsafeKey {
        /// CKA_LABEL.
        label: String,
        /// What is wrong.
        fault: &'static str,
    },
    /// The issuance policy of a guarded key does not allow the message.
    #[error(
        "the token refuses: the issuance policy of the key '{0}' does not allow it; the token's log names the rule"
    )]
    OutsidePolicy(String),
    /// A signature that may have been lost could not be noted.
    #[error("a signature that may have been lost could not be noted: {0}")]
    NotNoted(String),
    /// The token refused an operation.
    #[error("the token refused: {0}")]
    Refused(String),
    /// The token gave something that does not decode.
    #[error("the token gave a malformed {0}")]
    Malformed(&'static str),
}

/// Names a key in the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRef {
    /// CKA_ID.
    pub(crate) id: Vec<u8>,
    /// CKA_LABEL.
    pub(crate) label: String,
    /// Its kind.
    pub(crate) spec: KeySpec,
    /// The token enforces an issuance policy on it: it takes whole messages only.
    pub(crate) guarded: bool,
}

/// CKA_CRATON_ISSUANCE_POLICY and CKA_CRATON_SIGNATURE_COUNT, of our token only (docs/guard.md).
const ISSUANCE_POLICY: AttributeType = AttributeType::VendorDefined(0xC352_0001);
const SIGNATURE_COUNT: AttributeType = AttributeType::VendorDefined(0xC352_0002);
/// What our module calls its maker.
const OUR_MANUFACTURER: &str = "Craton";

/// How to reach the token.
pub(crate) struct TokenConfig {
    /// Path of the PKCS#11 module.
    pub(crate) module: PathBuf,
    /// Label of the token.
    pub(crate) label: String,
    /// User PIN.
    pub(crate) pin: AuthPin,
    /// Most sessions at once.
    pub(crate) max_sessions: usize,
    /// How long to wait for a token that went away.
    pub(crate) reconnect: Duration,
}

/// The token.
pub(crate) struct Token {
    config: TokenConfig,
    context: Pkcs11,
    pool: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Worker>,
    /// Sessions given out and idle.
    open: usize,
    /// Rises when the token was lost; workers of an older generation are dead.
    generation: u64,
    slot: Option<Slot>,
    pin_refused: Option<String>,
}

/// A session and the handles found in it. Sessions are never closed one by one: after a restart of the token the number of
/// a dead session may already belong to a new one. Finalising the module closes them all.
struct Worker {
    session: Session,
    private_keys: HashMap<Vec<u8>, ObjectHandle>,
    generation: u64,
}

/// What an attempt may end with: a fault that a fresh session can heal, or one that it cannot.
enum Attempt {
    Lost(String),
    Failed(TokenError),
}

impl From<Ck> for Attempt {
    fn from(fault: Ck) -> Self {
        match &fault {
            Ck::Pkcs11(rv, _) if heals_by_reconnecting(rv) => Self::Lost(fault.to_string()),
            _ => Self::Failed(TokenError::Refused(fault.to_string())),
        }
    }
}

impl From<TokenError> for Attempt {
    fn from(fault: TokenError) -> Self {
        Self::Failed(fault)
    }
}

/// Return values after which the session, the login or the handles are gone, not the key.
fn heals_by_reconnecting(rv: &RvError) -> bool {
    matches!(
        rv,
        RvError::SessionHandleInvalid
            | RvError::SessionClosed
            | RvError::DeviceRemoved
            | RvError::DeviceError
            | RvError::TokenNotPresent
            | RvError::TokenNotRecognized
            | RvError::SlotIdInvalid
            | RvError::UserNotLoggedIn
            | RvError::KeyHandleInvalid
            | RvError::ObjectHandleInvalid
            | RvError::CryptokiNotInitialized
    )
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("module", &self.config.module).field("label", &self.config.label).finish()
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if let Err(fault) = self.context.clone().finalize() {
            tracing::debug!(%fault, "the PKCS#11 module did not finalise");
        }
    }
}

impl Token {
    /// Loads the module, finds the token and logs in.
    ///
    /// # Errors
    /// When any of that fails.
    pub(crate) fn open(config: TokenConfig) -> Result<Self, TokenError> {
        let context = load(&config.module)?;
        let token = Self { config, context, pool: Mutex::new(Pool::default()), returned: Condvar::new() };
        token.with_worker(|_| Ok(()))?;
        Ok(token)
    }

    /// True when the module is ours, so that its keys can have an issuance policy.
    ///
    /// # Errors
    /// When the module does not tell.
    pub(crate) fn is_ours(&self) -> Result<bool, TokenError> {
        self.with_worker(|_| Ok(self.context.get_library_info()?.manufacturer_id().trim_end() == OUR_MANUFACTURER))
    }

    /// The issuance policy that our token enforces on a key; empty when there is none.
    ///
    /// # Errors
    /// When the key is missing or the token cannot be asked.
    pub(crate) fn issuance_policy(&self, key: &KeyRef) -> Result<Vec<u8>, TokenError> {
        if !self.is_ours()? {
            return Ok(Vec::new());
        }
        self.with_worker(|worker| {
            let handle = worker.private_key(key)?;
            let values = worker.session.get_attributes(handle, &[ISSUANCE_POLICY])?;
            Ok(values.into_iter().find_map(|value| match value {
                Attribute::VendorDefined((_, policy)) => Some(policy),
                _ => None,
            }))
        })
        .map(Option::unwrap_or_default)
    }

    /// How many signatures of a guarded key the token may have given out.
    ///
    /// # Errors
    /// When the key is missing or has no count.
    pub(crate) fn signature_count(&self, key: &KeyRef) -> Result<u64, TokenError> {
        self.with_worker(|worker| {
            let handle = worker.private_key(key)?;
            let values = worker.session.get_attributes(handle, &[SIGNATURE_COUNT])?;
            match values.as_slice() {
                [Attribute::VendorDefined((_, value))] => {
                    let value = value.as_slice().try_into().map_err(|_| TokenError::Malformed("signature count"))?;
                    Ok(u64::from_ne_bytes(value))
                }
                _ => Err(TokenError::Malformed("signature count").into()),
            }
        })
    }

    /// Signs a message with a key. ECDSA signatures come as DER (RFC 3279 section 2.2.3), the others as they are.
    ///
    /// # Errors
    /// When the key is missing or the token refuses.
    pub(crate) fn sign(&self, key: &KeyRef, scheme: Scheme, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        self.sign_noting(key, scheme, message, &|| Ok(()))
    }

    /// The same. When the token goes away under it, it may have signed and counted without our knowing: `note` is called before each
    /// repetition, and before giving up.
    ///
    /// # Errors
    /// As [`Token::sign`], and what `note` says.
    pub(crate) fn sign_noting(
        &self,
        key: &KeyRef,
        scheme: Scheme,
        message: &[u8],
        note: &dyn Fn() -> Result<(), TokenError>,
    ) -> Result<Vec<u8>, TokenError> {
        let (mechanism, data) = mechanism(scheme, message, key.guarded);
        let lost = std::cell::Cell::new(false);
        let raw = self.with_worker(|worker| {
            let handle = worker.private_key(key)?;
            if lost.take() {
                note()?;
            }
            worker.session.sign(&mechanism, handle, &data).map_err(|fault| match fault {
                Ck::Pkcs11(RvError::FunctionRejected, _) => TokenError::OutsidePolicy(key.label.clone()).into(),
                fault => {
                    let attempt = Attempt::from(fault);
                    lost.set(matches!(attempt, Attempt::Lost(_)));
                    attempt
                }
            })
        });
        if lost.take() {
            note()?;
        }
        let raw = raw?;
        match scheme {
            Scheme::EcdsaSha256 | Scheme::EcdsaSha384 | Scheme::EcdsaSha512 => ecdsa_der(&raw),
            _ => Ok(raw),
        }
    }

    /// Makes a key pair whose private part cannot leave the token, unless the whole pair is there already. Half a pair under
    /// the same id is destroyed first: call this only for a key that no certificate was made for. The policy, unless it is empty, is
    /// an issuance policy for our token to enforce.
    ///
    /// # Errors
    /// When the token refuses, for example because it lacks the mechanism.
    pub(crate) fn generate(&self, key: &KeyRef, policy: &[u8]) -> Result<SubjectPublicKeyInfoOwned, TokenError> {
        let (mechanism, particular) = generation(key.spec)?;
        let mut public = vec![
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Verify(true),
            Attribute::Label(key.label.clone().into_bytes()),
            Attribute::Id(key.id.clone()),
        ];
        public.extend(particular);
        let mut private = vec![
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            // A key of an authority signs and does nothing else.
            Attribute::Sign(true),
            Attribute::Decrypt(false),
            Attribute::Unwrap(false),
            Attribute::Derive(false),
            Attribute::Label(key.label.clone().into_bytes()),
            Attribute::Id(key.id.clone()),
        ];
        if !policy.is_empty() {
            private.push(Attribute::VendorDefined((ISSUANCE_POLICY, policy.to_vec())));
        }
        self.with_worker(|worker| {
            // An earlier attempt may have made the pair, or half of it, before the token went away.
            let halves =
                [worker.find(ObjectClass::PUBLIC_KEY, &key.id)?, worker.find(ObjectClass::PRIVATE_KEY, &key.id)?];
            if let [Some(_), Some(_)] = halves {
                return Ok(());
            }
            for half in halves.into_iter().flatten() {
                worker.session.destroy_object(half)?;
            }
            worker.session.generate_key_pair(&mechanism, &public, &private)?;
            Ok(())
        })?;
        self.public_key(key)?.ok_or_else(|| no_key(key))
    }

    /// Makes a key pair that is given away: it lives in this session only, is read once as PKCS#8 and destroyed.
    ///
    /// # Errors
    /// When the token refuses.
    pub(crate) fn generate_for_export(
        &self,
        kind: GivenKey,
    ) -> Result<(SubjectPublicKeyInfoOwned, Zeroizing<Vec<u8>>), TokenError> {
        let (mechanism, particular) = kind.generation()?;
        let mut public = vec![Attribute::Token(false), Attribute::Private(false)];
        public.extend(particular);
        let mut private = vec![
            Attribute::Token(false),
            Attribute::Private(true),
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
        ];
        if let GivenKey::Signing(_) = kind {
            private.push(Attribute::Sign(true));
        }
        let (of_public, of_private) = kind.attributes();
        self.with_worker(|worker| {
            let (public, private) = worker.session.generate_key_pair(&mechanism, &public, &private)?;
            let read = worker
                .session
                .get_attributes(public, of_public)
                .and_then(|public| Ok((public, worker.session.get_attributes(private, of_private)?)));
            for half in [public, private] {
                worker.session.destroy_object(half)?;
            }
            let (public, private) = read?;
            Ok(kind.encode(&public, private)?)
        })
    }

    /// The public part of a key pair, after checking that the private part is there and cannot leave the token.
    /// `None` when the token has neither.
    ///
    /// # Errors
    /// When only half of the pair is there, or the private part may be extracted.
    pub(crate) fn public_key(&self, key: &KeyRef) -> Result<Option<SubjectPublicKeyInfoOwned>, TokenError> {
        self.with_worker(|worker| {
            let public = worker.find(ObjectClass::PUBLIC_KEY, &key.id)?;
            let private = worker.find(ObjectClass::PRIVATE_KEY, &key.id)?;
            let (public, private) = match (public, private) {
                (None, None) => return Ok(None),
                (Some(public), Some(private)) => (public, private),
                _ => return Err(TokenError::HalfKey(key.label.clone()).into()),
            };
            worker.refuse_unsafe(key, private)?;
            let values = worker.session.get_attributes(public, public_attributes(key.spec))?;
            Ok(Some(spki(key.spec, &values)?))
        })
    }

    /// True when the token holds a private key with this label, whatever its id.
    ///
    /// # Errors
    /// When the token cannot be asked.
    pub(crate) fn has_label(&self, label: &str) -> Result<bool, TokenError> {
        self.with_worker(|worker| {
            let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label(label.as_bytes().to_vec())];
            Ok(!worker.session.find_objects(&template)?.is_empty())
        })
    }

    /// Runs an operation on a pooled session. A lost token is awaited for the configured time and the operation repeated:
    /// operations here are safe to repeat (a repeated signature of the same bytes certifies nothing new; a key pair is
    /// looked for under its id before it is made).
    fn with_worker<T>(&self, operation: impl Fn(&mut Worker) -> Result<T, Attempt>) -> Result<T, TokenError> {
        let deadline = Instant::now() + self.config.reconnect;
        let mut pause = Duration::ZERO;
        loop {
            let attempt = self.take().and_then(|mut worker| match operation(&mut worker) {
                Err(Attempt::Lost(detail)) => {
                    self.lose(worker.generation);
                    Err(Attempt::Lost(detail))
                }
                answer => {
                    self.give_back(worker);
                    answer
                }
            });
            match attempt {
                Ok(value) => return Ok(value),
                Err(Attempt::Failed(fault)) => return Err(fault),
                Err(Attempt::Lost(detail)) => {
                    if Instant::now() + pause >= deadline {
                        return Err(TokenError::Unavailable(detail));
                    }
                    tracing::warn!(event = "token_lost", detail, "the token went away, logging in again");
                    std::thread::sleep(pause);
                    pause = (pause * 2).clamp(Duration::from_millis(50), Duration::from_secs(1));
                }
            }
        }
    }

    fn take(&self) -> Result<Worker, Attempt> {
        let mut pool = self.pool.lock();
        loop {
            if let Some(reason) = &pool.pin_refused {
                return Err(TokenError::Pin(reason.clone()).into());
            }
            if let Some(worker) = pool.idle.pop() {
                return Ok(worker);
            }
            if pool.open < self.config.max_sessions {
                break;
            }
            self.returned.wait(&mut pool);
        }
        // Opened under the lock: only one thread at a time talks to a token that may be away, and logs in.
        let worker = self.open_worker(&mut pool)?;
        pool.open += 1;
        Ok(worker)
    }

    fn give_back(&self, worker: Worker) {
        let mut pool = self.pool.lock();
        if worker.generation == pool.generation {
            pool.idle.push(worker);
        }
        self.returned.notify_one();
    }

    /// Forgets every session of a generation, once.
    fn lose(&self, generation: u64) {
        let mut pool = self.pool.lock();
        if pool.generation == generation {
            pool.generation += 1;
            pool.idle.clear();
            pool.open = 0;
            pool.slot = None;
        }
        self.returned.notify_all();
    }

    fn open_worker(&self, pool: &mut Pool) -> Result<Worker, Attempt> {
        let slot = match pool.slot {
            Some(slot) => slot,
            None => self.find_slot()?,
        };
        let opened = self.context.open_rw_session_no_drop(slot).and_then(|session| {
            match session.login(UserType::User, Some(&self.config.pin)) {
                Ok(()) | Err(Ck::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
                Err(fault) => Err(fault),
            }
        });
        match opened {
            Ok(session) => {
                pool.slot = Some(slot);
                Ok(Worker { session, private_keys: HashMap::new(), generation: pool.generation })
            }
            Err(Ck::Pkcs11(rv, _)) if is_pin_fault(&rv) => {
                let reason = format!("{rv:?}");
                pool.pin_refused = Some(reason.clone());
                Err(TokenError::Pin(reason).into())
            }
            Err(fault) => {
                pool.slot = None;
                Err(fault.into())
            }
        }
    }

    fn find_slot(&self) -> Result<Slot, Attempt> {
        let slots = match self.context.get_slots_with_token() {
            Err(Ck::Pkcs11(RvError::CryptokiNotInitialized, _)) => {
                initialise(&self.context, &self.config.module)?;
                self.context.get_slots_with_token()?
            }
            answer => answer?,
        };
        let mut found = Vec::new();
        for slot in &slots {
            let info = self.context.get_token_info(*slot)?;
            if info.token_initialized() && info.label().trim_end() == self.config.label {
                found.push(*slot);
            }
        }
        match found.as_slice() {
            [slot] => Ok(*slot),
            [] if slots.is_empty() => Err(Attempt::Lost("no slot holds a token".to_owned())),
            [] => Err(TokenError::NoToken(self.config.label.clone()).into()),
            _ => Err(TokenError::Ambiguous(self.config.label.clone()).into()),
        }
    }
}

fn load(module: &Path) -> Result<Pkcs11, TokenError> {
    let context = Pkcs11::new(module)
        .map_err(|fault| TokenError::Module { path: module.to_path_buf(), detail: fault.to_string() })?;
    initialise(&context, module)?;
    Ok(context)
}

fn initialise(context: &Pkcs11, module: &Path) -> Result<(), TokenError> {
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Ck::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        Err(fault) => Err(TokenError::Module { path: module.to_path_buf(), detail: fault.to_string() }),
    }
}

fn is_pin_fault(rv: &RvError) -> bool {
    matches!(
        rv,
        RvError::PinIncorrect
            | RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::PinExpired
            | RvError::PinLocked
            | RvError::UserPinNotInitialized
    )
}

/// The fault of a missing key.
pub(crate) fn no_key(key: &KeyRef) -> TokenError {
    TokenError::NoKey { label: key.label.clone(), id: crate::x509::hex(&key.id) }
}

impl Worker {
    fn find(&self, class: ObjectClass, id: &[u8]) -> Result<Option<ObjectHandle>, Attempt> {
        let found = self.session.find_objects(&[Attribute::Class(class), Attribute::Id(id.to_vec())])?;
        Ok(found.into_iter().next())
    }

    fn private_key(&mut self, key: &KeyRef) -> Result<ObjectHandle, Attempt> {
        if let Some(handle) = self.private_keys.get(&key.id) {
            return Ok(*handle);
        }
        let handle = self.find(ObjectClass::PRIVATE_KEY, &key.id)?.ok_or_else(|| no_key(key))?;
        self.private_keys.insert(key.id.clone(), handle);
        Ok(handle)
    }

    fn refuse_unsafe(&self, key: &KeyRef, private: ObjectHandle) -> Result<(), Attempt> {
        let wanted = [AttributeType::Sensitive, AttributeType::Extractable];
        let values = self.session.get_attributes(private, &wanted)?;
        let fault = if !values.contains(&Attribute::Sensitive(true)) {
            "CKA_SENSITIVE is not true"
        } else if !values.contains(&Attribute::Extractable(false)) {
            "CKA_EXTRACTABLE is not false"
        } else {
            return Ok(());
        };
        Err(TokenError::UnsafeKey { label: key.label.clone(), fault }.into())
    }
}
