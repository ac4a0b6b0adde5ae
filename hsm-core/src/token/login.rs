//! Who is logged in: per application and token, never per token alone (PKCS#11 v3.0 §5.6.8: all sessions of an application share it).

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::store::TokenMasterKey;

/// The login of one application at one token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Login {
    /// Nobody.
    #[default]
    Nobody,
    /// The user.
    User,
    /// The security officer.
    So,
}

/// A login and the token master key.
#[derive(Clone)]
pub(crate) struct LoggedIn {
    /// Who.
    pub(crate) login: Login,
    /// The key, if this PIN opens it; dropped with the login.
    pub(crate) tmk: Option<Arc<TokenMasterKey>>,
}

/// The logins of one application, by slot.
#[derive(Default)]
pub(crate) struct Logins(RwLock<HashMap<u64, LoggedIn>>);

impl Logins {
    /// Who is logged in at a slot.
    pub(crate) fn at(&self, slot: u64) -> Login {
        self.0.read().get(&slot).map_or(Login::Nobody, |held| held.login)
    }

    /// The login at a slot with its key.
    pub(crate) fn held(&self, slot: u64) -> Option<LoggedIn> {
        self.0.read().get(&slot).cloned()
    }

    /// Notes a login.
    pub(crate) fn enter(&self, slot: u64, held: LoggedIn) {
        self.0.write().insert(slot, held);
    }

    /// Forgets a login.
    pub(crate) fn leave(&self, slot: u64) -> Option<LoggedIn> {
        self.0.write().remove(&slot)
    }

    /// The slots at which somebody is logged in.
    pub(crate) fn slots(&self) -> Vec<u64> {
        self.0.read().keys().copied().collect()
    }
}
