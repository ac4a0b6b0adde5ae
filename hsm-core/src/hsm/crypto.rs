//! Cryptographic operations (PKCS#11 v3.0 §5.8 to §5.17 and §5.19): one-shot, multi-part and random.

use std::sync::Arc;

use ck::attribute::{CKA_EXTRACTABLE, CKA_SENSITIVE};

use super::{Caller, Hsm};
use crate::act::{self, Act};
use crate::audit::Fact;
use crate::crypto::rng;
use crate::error::{Error, Kind, Result};
use crate::mechanism::admit;
use crate::mechanism::params::Parameter;
use crate::mechanism::purpose::Use;
use crate::object::Object;
use crate::perform::Work;
use crate::session::kind::OperationKind;
use crate::session::operation::{Begin, Capacity, Context, Operation, check_capacity};

/// The row of a kind of operation in the act table.
pub(super) fn act_of(kind: OperationKind) -> &'static Act {
    match kind {
        OperationKind::Encrypt => &act::ENCRYPT,
        OperationKind::Decrypt => &act::DECRYPT,
        OperationKind::Digest => &act::DIGEST,
        OperationKind::Sign => &act::SIGN,
        OperationKind::Verify => &act::VERIFY,
        OperationKind::SignRecover => &act::SIGN,
        OperationKind::VerifyRecover => &act::VERIFY,
        // A message is recorded as what is done with it.
        _ => act_of(kind.form()),
    }
}

/// The longest random output of one call, in bytes.
const RANDOM_MAX: usize = 1024 * 1024;

impl Hsm {
    /// Admits mechanism and key and sets the operation up.
    pub(super) fn begin(&self, work: &mut Work<'_>, kind: OperationKind, begin: Begin) -> Result<Operation> {
        let purpose = kind.purpose();
        work.mechanism(begin.mechanism.kind)?;
        let row = admit::mechanism(&self.mechanisms, &begin.mechanism, purpose)?;
        let key = match kind {
            OperationKind::Digest => None,
            _ => {
                let key = work.key(begin.key, Kind::NoSuchKey)?;
                work.subject(&key);
                admit::key(&self.mechanisms, row, &key, purpose, self.clock())?;
                Some(key)
            }
        };
        let mut call = begin.mechanism;
        admit::parameter(row, purpose, &call.parameter, &self.config().policy)?;
        let mut made = false;
        if let (Parameter::AeadMessage { .. }, Some(key)) = (&call.parameter, &key) {
            (call.parameter, made) = self.message_parameter(kind, row, key, call.parameter)?;
        }
        let operation = Operation::new(kind, row, call, key)?;
        Ok(if made { operation.with_own_iv() } else { operation })
    }

    /// A key that wants it must have been authenticated for since the last operation; the login that this operation uses up.
    pub(super) fn check_context(&self, work: &Work<'_>, operation: &Operation) -> Result<Context> {
        if !operation.needs_context_login() {
            return Ok(Context::None);
        }
        match std::mem::take(&mut work.session.operations.lock().context) {
            Context::None => {
                Err(Error::new(Kind::NotLoggedIn, "the key wants C_Login(CKU_CONTEXT_SPECIFIC) for each operation"))
            }
            context => Ok(context),
        }
    }

    /// C_*Init and the one-shot call in one: the whole operation.
    ///
    /// # Errors
    /// What admission and the crypto room say; [`Kind::BufferTooSmall`] with the length, before anything is signed or encrypted.
    #[expect(clippy::too_many_arguments, reason = "the arguments of the C function and its Init")]
    pub fn one_shot(
        &self,
        caller: &Caller,
        session: u64,
        kind: OperationKind,
        begin: Begin,
        data: &[u8],
        signature: &[u8],
        capacity: Option<u64>,
    ) -> Result<Vec<u8>> {
        self.perform(caller, act_of(kind), session, |work| {
            let mut operation = self.begin(work, kind, begin)?;
            work.fact("bytes", Fact::number(data.len() as u64));
            let mut output = operation.update(data, None)?;
            if let Some(rest) = operation.final_len(kind)
                && kind != OperationKind::Decrypt
            {
                check_capacity(capacity, output.len() + rest)?;
            }
            let context = self.check_context(work, &operation)?;
            if kind.form() == OperationKind::Verify {
                return operation.verify(signature).map(|()| Vec::new());
            }
            operation.check_len()?;
            self.spend_iv(&mut operation)?;
            let key = operation.key.clone();
            let rest = operation.finish(kind)?;
            self.note_count(work, key.as_deref())?;
            if output.is_empty() {
                output = rest;
            } else {
                output.extend_from_slice(&rest);
            }
            if let Err(error) = check_capacity(capacity, output.len()) {
                give_back(work, context);
                return Err(error);
            }
            Ok(output)
        })
    }

    /// C_*Update; with `begin` it opens the operation first.
    ///
    /// # Errors
    /// [`Kind::OperationActive`], [`Kind::OperationNotInitialized`]; [`Kind::BufferTooSmall`] leaves the operation as it was, every
    /// other error ends it.
    pub fn update(
        &self,
        caller: &Caller,
        session: u64,
        kind: OperationKind,
        begin: Option<Begin>,
        data: &[u8],
        capacity: Option<u64>,
    ) -> Result<Vec<u8>> {
        // The first piece is recorded, because it may give out plaintext; the pieces between say nothing more; the end is recorded.
        let act = if begin.is_some() { act_of(kind) } else { &act::CHECK };
        self.perform(caller, act, session, |work| {
            work.fact("phase", Fact::word("begin"));
            let (mut operation, opened) = self.current(work, kind, begin)?;
            if !operation.row.multi_part {
                return Err(Error::new(
                    Kind::OperationNotInitialized,
                    format!("{} takes its data in one piece", operation.mechanism()),
                ));
            }
            match operation.update(data, capacity) {
                Err(error) if error.kind() != Kind::BufferTooSmall => Err(error),
                Err(error) if let Some(context) = opened => {
                    give_back(work, context);
                    Err(error)
                }
                result => {
                    if result.is_ok() {
                        self.spend_iv(&mut operation)?;
                    }
                    work.session.operations.lock().put(kind, operation);
                    result
                }
            }
        })
    }

    /// The operation that goes on, taken out of its session, or a new one and the login that it has used up.
    pub(super) fn current(
        &self,
        work: &mut Work<'_>,
        kind: OperationKind,
        begin: Option<Begin>,
    ) -> Result<(Operation, Option<Context>)> {
        let Some(begin) = begin else {
            let operation = work.session.operations.lock().take(kind)?;
            work.mechanism(operation.mechanism())?;
            if let Some(key) = operation.key.clone() {
                work.subject(&key);
            }
            return Ok((operation, None));
        };
        if work.session.operations.lock().is_active(kind) {
            return Err(Kind::OperationActive.into());
        }
        let operation = self.begin(work, kind, begin)?;
        let context = self.check_context(work, &operation)?;
        Ok((operation, Some(context)))
    }

    /// C_*Final; with `begin` for an operation that had no Update.
    ///
    /// # Errors
    /// As [`Hsm::update`].
    pub fn finish(
        &self,
        caller: &Caller,
        session: u64,
        kind: OperationKind,
        begin: Option<Begin>,
        signature: &[u8],
        capacity: Option<u64>,
    ) -> Result<Vec<u8>> {
        self.perform(caller, act_of(kind), session, |work| {
            let (mut operation, opened) = self.current(work, kind, begin)?;
            if kind.form() == OperationKind::Verify {
                return operation.verify(signature).map(|()| Vec::new());
            }
            if kind != OperationKind::Decrypt
                && let Some(len) = operation.final_len(kind)
                && let Err(error) = check_capacity(capacity, len)
            {
                match opened {
                    Some(context) => give_back(work, context),
                    None => work.session.operations.lock().put(kind, operation),
                }
                return Err(error);
            }
            self.spend_iv(&mut operation)?;
            self.end(work, kind, operation, opened, capacity)
        })
    }

    /// Counts the signature of a guarded key, and says its number in the record.
    fn note_count(&self, work: &mut Work<'_>, key: Option<&Object>) -> Result<()> {
        if let Some(number) = self.count_signature(work.slot.token_id(), key)? {
            work.fact("count", Fact::number(number));
        }
        Ok(())
    }

    /// Ends the operation. A plaintext that does not fit waits in the session for a larger buffer.
    fn end(
        &self,
        work: &mut Work<'_>,
        kind: OperationKind,
        operation: Operation,
        opened: Option<Context>,
        capacity: Capacity,
    ) -> Result<Vec<u8>> {
        let (row, key) = (operation.row, operation.key.clone());
        let output = operation.finish(kind)?;
        self.note_count(work, key.as_deref())?;
        if let Err(error) = check_capacity(capacity, output.len()) {
            match opened {
                Some(context) => give_back(work, context),
                None => work.session.operations.lock().put(kind, Operation::done(row, key, output)),
            }
            return Err(error);
        }
        Ok(output)
    }

    /// C_DigestKey: feeds a secret key's value into the active digest, or a new one.
    ///
    /// # Errors
    /// [`Kind::KeyIndigestible`] for a key whose value could not be read anyway.
    pub fn digest_key(&self, caller: &Caller, session: u64, begin: Option<Begin>, key: u64) -> Result<()> {
        self.perform(caller, &act::DIGEST_KEY, session, |work| {
            let (mut operation, _) = self.current(work, OperationKind::Digest, begin)?;
            let key = work.key(key, Kind::NoSuchKey)?;
            work.subject(&key);
            let secret = key.secret().map_err(|_| Error::from(Kind::KeyIndigestible))?;
            let guarded = key.attributes.flag(CKA_SENSITIVE) || !key.attributes.flag(CKA_EXTRACTABLE);
            if guarded && !self.config().policy.digest_sensitive {
                return Err(Error::closed(Kind::KeyIndigestible, "policy.digest_sensitive", "the key is sensitive"));
            }
            operation.digest_secret(secret)?;
            work.session.operations.lock().put(OperationKind::Digest, operation);
            Ok(())
        })
    }

    /// Ends an active operation without a result; none active is no error.
    ///
    /// # Errors
    /// [`Kind::NoSuchSession`].
    pub fn cancel(&self, caller: &Caller, session: u64, kind: OperationKind) -> Result<()> {
        self.perform(caller, &act::SESSION_INFO, session, |work| {
            work.session.operations.lock().cancel(kind);
            Ok(())
        })
    }

    /// Whether an Init call would succeed; opens nothing.
    ///
    /// # Errors
    /// What the Init call would say.
    pub fn check(&self, caller: &Caller, session: u64, kind: OperationKind, begin: Begin) -> Result<()> {
        self.perform(caller, &act::CHECK, session, |work| self.begin(work, kind, begin).map(drop))
    }

    /// C_GenerateRandom: at most 1 MiB.
    ///
    /// # Errors
    /// [`Kind::ArgumentsBad`] for more than that.
    pub fn random(&self, caller: &Caller, session: u64, len: usize) -> Result<Vec<u8>> {
        self.perform(caller, &act::RANDOM, session, |_| {
            if len > RANDOM_MAX {
                return Err(Error::new(Kind::ArgumentsBad, format!("at most {RANDOM_MAX} random bytes at once")));
            }
            let mut bytes = vec![0; len];
            rng::fill(&mut bytes)?;
            Ok(bytes)
        })
    }

    /// C_SeedRandom: accepted and ignored, because the generator seeds itself and a caller cannot make it worse.
    ///
    /// # Errors
    /// [`Kind::NoSuchSession`].
    pub fn seed_random(&self, caller: &Caller, session: u64, _seed: &[u8]) -> Result<()> {
        self.perform(caller, &act::RANDOM, session, |_| Ok(()))
    }
}

/// Gives a login back that an operation had used up which has told no more than that its output does not fit.
pub(super) fn give_back(work: &Work<'_>, context: Context) {
    if context == Context::Entered {
        work.session.operations.lock().context = Context::GivenBack;
    }
}

/// The key of a handle, admitted for a use of wrapping, unwrapping or deriving.
pub(crate) fn admitted_key(
    work: &Work<'_>,
    row: &crate::mechanism::row::Row,
    handle: u64,
    purpose: Use,
    otherwise: Kind,
) -> Result<Arc<crate::object::Object>> {
    let key = work.key(handle, otherwise)?;
    admit::key(&work.hsm.mechanisms, row, &key, purpose, work.hsm.clock())?;
    Ok(key)
}
