//! Sessions: handles that belong to one application, read-only and read/write rules, and the active operations inside.

pub(crate) mod kind;
pub(crate) mod objects;
pub(crate) mod operation;
pub(crate) mod scheme;

use std::collections::HashMap;
use std::sync::Arc;

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

/// How many sessions are open: of each client, whatever number of applications it has, and of all.
#[derive(Default)]
pub(crate) struct Places(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    all: u32,
    of: HashMap<String, u32>,
}

/// The place of one session; given back when dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    client: String,
}

/// Whose limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The client's own.
    Client,
    /// That of all together.
    All,
}

impl Places {
    /// Takes a place for a client, if it has fewer than `of_one` and all together fewer than `of_all`.
    ///
    /// # Errors
    /// [`Full`].
    pub(crate) fn take(self: &Arc<Self>, client: String, of_one: u32, of_all: u32) -> Result<Place, Full> {
        let mut taken = self.0.lock();
        if taken.all >= of_all {
            return Err(Full::All);
        }
        if taken.of.get(&client).is_some_and(|count| *count >= of_one) {
            return Err(Full::Client);
        }
        taken.all += 1;
        *taken.of.entry(client.clone()).or_default() += 1;
        Ok(Place { places: Arc::clone(self), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Some(count) = taken.of.get_mut(&self.client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.of.remove(&self.client);
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_leaves_sessions_for_others_and_gives_its_own_back() {
        let places = Arc::new(Places::default());
        let take = |client: &str| places.take(client.to_owned(), 2, 3);
        let own: Vec<Place> = (0..2).map(|_| take("a").expect("room")).collect();
        assert_eq!(take("a").err(), Some(Full::Client));
        let other = take("b").expect("room");
        assert_eq!(take("c").err(), Some(Full::All));
        drop(own);
        assert!(take("a").is_ok() && take("c").is_ok());
        drop(other);
        let taken = places.0.lock();
        assert!(taken.all == 0 && taken.of.is_empty());
    }
}
