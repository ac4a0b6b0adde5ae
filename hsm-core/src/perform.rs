//! The one pipeline: admit, do, commit and record, reply. It alone makes a [`Recorded`], and nothing leaves the front desk otherwise.

use std::sync::Arc;

use ck::attribute::CKA_CLASS;
use ck::object::{CKO_PRIVATE_KEY, CKO_PUBLIC_KEY, CKO_SECRET_KEY};
use ck::rv::CKR_OK;
use ck::{Mechanism, ObjectClass};

use crate::act::{Act, Needs, When};
use crate::application::Application;
use crate::audit::{Durability, Entry, Fact, Receipt, Subject};
use crate::config::UseRecords;
use crate::error::{Error, Kind, Result, caught};
use crate::failpoint;
use crate::hsm::{Caller, Hsm};
use crate::object::access::Right;
use crate::object::template::Authority;
use crate::object::{Attributes, Object, built_in};
use crate::peer::Peer;
use crate::session::Session;
use crate::session::operation::{Capacity, check_capacity};
use crate::store::{Change, Committed};
use crate::token::login::Login;
use crate::token::slot::Slot;

/// A reply whose operation has its record, where the act table asks for one.
#[must_use]
pub(crate) struct Recorded<T> {
    value: T,
    _receipt: Option<Receipt>,
}

impl<T> Recorded<T> {
    /// The reply.
    pub(crate) fn release(self) -> T {
        self.value
    }
}

/// An admitted operation in a session: what it may touch, and the record in the making.
pub(crate) struct Work<'a> {
    pub(crate) hsm: &'a Hsm,
    pub(crate) app: &'a Arc<Application>,
    pub(crate) session: Arc<Session>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) right: Right<'a>,
    pub(crate) entry: Entry,
    receipt: Option<Receipt>,
    /// A change was handed to the store: memory must follow it.
    handed: bool,
    /// The caller asked for a length, or has no room: nothing has been done.
    only_asked: bool,
}

impl Work<'_> {
    /// Notes the mechanism in the record, and whether the client may use it.
    ///
    /// # Errors
    /// [`Kind::MechanismInvalid`].
    pub(crate) fn mechanism(&mut self, mechanism: Mechanism) -> Result<()> {
        self.entry.mechanism = Some(mechanism);
        match self.right.grant.offers(mechanism) {
            true => Ok(()),
            false => Err(Error::new(Kind::MechanismInvalid, "the client may not use this mechanism")),
        }
    }

    /// Notes a further fact in the record.
    pub(crate) fn fact(&mut self, name: &'static str, fact: Fact) {
        self.entry.detail.push((name, fact));
    }

    /// Notes the object that the operation is about.
    pub(crate) fn subject(&mut self, object: &Object) {
        self.entry.object = Some(subject(object));
    }

    /// Notes the second object: the other half of a pair, the wrapping or the base key.
    pub(crate) fn with(&mut self, object: &Object) {
        self.entry.with = Some(subject(object));
    }

    /// On whose word a template is taken.
    pub(crate) fn authority(&self) -> Authority<'_> {
        Authority { so: self.right.login == Login::So, policy: &self.hsm.config().policy }
    }

    /// An object that this session sees: of the token, or of its own application.
    pub(crate) fn object(&self, handle: u64, otherwise: Kind) -> Result<Arc<Object>> {
        let own = || self.app.objects.read().get(self.slot.number, handle).cloned();
        let built_in = || built_in::get(handle, &self.hsm.mechanisms, self.hsm.clock());
        let found = self
            .slot
            .object(handle)
            .or_else(own)
            .or_else(built_in)
            .filter(|object| self.right.sees(&object.attributes) && self.app.shown.knows(self.slot.number, object));
        found.ok_or_else(|| otherwise.into())
    }

    /// As [`Work::object`] for the handle of a key: one that leads to something else is as invalid (PKCS#11 v3.0 §5.1.6).
    pub(crate) fn key(&self, handle: u64, otherwise: Kind) -> Result<Arc<Object>> {
        let found = self.object(handle, otherwise)?;
        match found.attributes.class() {
            CKO_PUBLIC_KEY | CKO_PRIVATE_KEY | CKO_SECRET_KEY => Ok(found),
            _ => Err(otherwise.into()),
        }
    }

    /// Commits a change and its record in one transaction.
    ///
    /// # Errors
    /// [`Kind::Device`] when it could not be made durable; nothing has changed then.
    pub(crate) fn commit(&mut self, change: Change) -> Result<()> {
        let held = self.app.logins.held(self.slot.number);
        let body = self.hsm.body(&self.entry);
        let tmk = held.as_ref().and_then(|held| held.tmk.as_deref());
        self.handed = true;
        match self.hsm.vault()?.commit(change, tmk, &body) {
            Ok(committed) => self.record(committed),
            Err(error) => {
                // The change may be in the store although it could not be recorded: what the store says is true.
                self.hsm.reload(&self.slot)?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes the receipt of a change that was committed with this operation's record.
    pub(crate) fn record(&mut self, committed: Committed<Receipt>) {
        self.receipt = Some(committed.receipt);
    }

    /// Refuses an output that does not fit, before any key has been used for it: who only asked how long it is leaves no record.
    ///
    /// # Errors
    /// [`Kind::BufferTooSmall`] with the length.
    pub(crate) fn check_room(&mut self, capacity: Capacity, len: usize) -> Result<()> {
        check_capacity(capacity, len).inspect_err(|_| self.only_asked = true)
    }

    /// Whether objects with these attributes may be made, changed or destroyed here.
    pub(crate) fn check_write(&self, attributes: &Attributes) -> Result<()> {
        self.right.check_write(attributes)
    }
}

fn subject(object: &Object) -> Subject {
    Subject { id: object.id, class: ObjectClass(object.attributes.number(CKA_CLASS).unwrap_or_default()) }
}

impl Hsm {
    /// Runs one operation of a session through the pipeline.
    ///
    /// # Errors
    /// The operation's own, [`Kind::NoSuchSession`], [`Kind::NotLoggedIn`], and [`Kind::Device`] when it could not be recorded.
    pub(crate) fn perform<T>(
        &self,
        caller: &Caller,
        act: &'static Act,
        session: u64,
        body: impl FnOnce(&mut Work<'_>) -> Result<T>,
    ) -> Result<T> {
        let app = caller.app();
        let session = app.sessions.read().get(&session).cloned().ok_or(Kind::NoSuchSession)?;
        let slot = self.slot(session.slot)?;
        let grant = &*app.peer.grant;
        let right = Right { login: app.logins.at(session.slot), read_write: session.read_write, grant };
        let mut entry = Entry::new(act.category, act.name, app.peer.journal());
        entry.app = Some(u128::from_be_bytes(app.id));
        entry.token = Some(slot.token_id());
        entry.session = Some(session.handle);
        let mut work =
            Work { hsm: self, app, session, slot, right, entry, receipt: None, handed: false, only_asked: false };
        let admitted = admit(act, right);
        let result = caught(|| admitted.and_then(|()| body(&mut work))).unwrap_or_else(|defect| {
            // Memory may lack what the store has, or hold what it has not.
            let settled = if work.handed { self.reload(&work.slot) } else { Ok(()) };
            settled.and(Err(defect))
        });
        let Work { entry, receipt, only_asked, .. } = work;
        if only_asked && result.as_ref().is_err_and(|error| error.kind() == Kind::BufferTooSmall) {
            return result;
        }
        Ok(self.record(act, entry, receipt, result)?.release())
    }

    /// Records an operation that has been done, or refused, and only then lets its result go.
    ///
    /// # Errors
    /// The operation's own, or [`Kind::Device`] when it could not be recorded.
    pub(crate) fn record<T>(
        &self,
        act: &'static Act,
        mut entry: Entry,
        receipt: Option<Receipt>,
        result: Result<T>,
    ) -> Result<Recorded<T>> {
        entry.rv = result.as_ref().map_or_else(|error| error.rv(), |_| CKR_OK);
        if let Err(error) = &result
            && let Some(switch) = error.switch()
        {
            tracing::warn!(switch, operation = act.name, "refused by policy: {error}");
        }
        if let Err(error) = &result
            && error.kind() == Kind::IssuanceRefused
        {
            let key = entry.object.as_ref().map(|key| key.id.to_string()).unwrap_or_default();
            tracing::warn!(key, "a message was not signed: {error}");
        }
        let due = match act.when {
            When::Never => false,
            When::OnFailure => result.is_err(),
            When::InTransaction => receipt.is_none(),
            When::BeforeAnswer | When::Durably => true,
        };
        failpoint!("record.before");
        let receipt = if due { Some(self.append(act, entry)?) } else { receipt };
        failpoint!("record.after");
        result.map(|value| Recorded { value, _receipt: receipt })
    }

    /// Records an operation that was refused before it was known on which token, and lets the refusal go.
    ///
    /// # Errors
    /// The refusal, or [`Kind::Device`] when it could not be recorded.
    pub(crate) fn refused<T>(&self, act: &'static Act, peer: &Peer, refusal: Error) -> Result<T> {
        let entry = Entry::new(act.category, act.name, peer.journal());
        self.record(act, entry, None, Err(refusal)).map(Recorded::release)
    }

    /// Records durably what is about to be given out piece by piece, before the first piece.
    ///
    /// # Errors
    /// [`Kind::Device`] when it could not be recorded; nothing may be given out then.
    pub(crate) fn record_intent(&self, act: &Act, entry: Entry) -> Result<()> {
        self.append(act, entry.with_fact("phase", Fact::word("begin"))).map(drop)
    }

    /// Records what came to no operation.
    ///
    /// # Errors
    /// [`Kind::Device`] when it could not be recorded.
    pub(crate) fn note(&self, act: &Act, entry: Entry) -> Result<()> {
        self.append(act, entry).map(drop)
    }

    fn append(&self, act: &Act, entry: Entry) -> Result<Receipt> {
        let durability = match (act.when, self.config().audit.use_operations) {
            (When::Durably, _) | (_, UseRecords::Synced) => Durability::Durable,
            _ => Durability::Written,
        };
        self.journal().append(entry, self.store_generation(), durability)
    }

    /// The record as the store's transaction carries it; nothing when the journal does not keep its category.
    pub(crate) fn body(&self, entry: &Entry) -> Vec<u8> {
        if self.journal().keeps(entry.category) { entry.encode() } else { Vec::new() }
    }
}

fn admit(act: &Act, right: Right<'_>) -> Result<()> {
    let enough = match act.needs {
        Needs::Nothing => true,
        Needs::Anyone => right.login != Login::Nobody,
        Needs::So => right.login == Login::So,
    };
    if enough { Ok(()) } else { Err(Kind::NotLoggedIn.into()) }
}
