//! Sessions: handles that belong to one application, read-only and read/write rules, and the active operations inside.

pub(crate) mod kind;
pub(crate) mod objects;
pub(crate) mod operation;
pub(crate) mod scheme;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ck::flags::{session as cf, state, user};
use parking_lot::Mutex;

use crate::token::login::Login;
use operation::Operations;

/// One session.
pub(crate) struct Session {
    /// Its handle.
    pub(crate) handle: u64,
    /// The slot whose token it talks to.
    pub(crate) slot: u64,
    /// Whether it may change token objects.
    pub(crate) read_write: bool,
    /// The active operations.
    pub(crate) operations: Mutex<Operations>,
    _place: Place,
}

/// One of the sessions that all applications together may have; given back when dropped.
pub(crate) struct Place(Arc<AtomicU32>);

impl Place {
    /// Takes a place if fewer than `most` are taken.
    pub(crate) fn take(taken: &Arc<AtomicU32>, most: u32) -> Option<Place> {
        let one_more = |now: u32| (now < most).then_some(now + 1);
        taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(Place(Arc::clone(taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A session as C_GetSessionInfo shows it.
#[derive(Clone, Copy, Debug)]
pub struct SessionView {
    /// Slot.
    pub slot: u64,
    /// CKS_* state.
    pub state: u64,
    /// CKF_* flags.
    pub flags: u64,
}

impl Session {
    pub(crate) fn new(handle: u64, slot: u64, read_write: bool, place: Place) -> Self {
        Session { handle, slot, read_write, operations: Mutex::default(), _place: place }
    }

    /// What C_GetSessionInfo answers (PKCS#11 v3.0 §5.6.6).
    pub(crate) fn view(&self, login: Login) -> SessionView {
        let state = match (login, self.read_write) {
            (Login::Nobody, false) => state::CKS_RO_PUBLIC_SESSION,
            (Login::Nobody, true) => state::CKS_RW_PUBLIC_SESSION,
            (Login::User, false) => state::CKS_RO_USER_FUNCTIONS,
            (Login::User, true) => state::CKS_RW_USER_FUNCTIONS,
            (Login::So, _) => state::CKS_RW_SO_FUNCTIONS,
        };
        let flags = cf::CKF_SERIAL_SESSION | if self.read_write { cf::CKF_RW_SESSION } else { 0 };
        SessionView { slot: self.slot, state, flags }
    }
}

/// Who a CKU number names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UserType {
    /// The security officer.
    So,
    /// The user.
    User,
    /// Whoever is logged in, once more, for one operation.
    ContextSpecific,
}

impl UserType {
    /// The user of a CKU number.
    pub(crate) fn from_number(number: u64) -> Option<Self> {
        match number {
            user::CKU_SO => Some(UserType::So),
            user::CKU_USER => Some(UserType::User),
            user::CKU_CONTEXT_SPECIFIC => Some(UserType::ContextSpecific),
            _ => None,
        }
    }

    /// The user in the journal.
    pub(crate) fn word(self) -> &'static str {
        match self {
            UserType::So => "so",
            UserType::User => "user",
            UserType::ContextSpecific => "context",
        }
    }
}
