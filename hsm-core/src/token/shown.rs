//! Which private token objects an application may name after a logout: those that it was shown since.
//!
//! A token object has one handle for everybody and for ever, but C_Logout makes an application's handles of private objects invalid,
//! also when the user comes back (PKCS#11 v3.0 §5.6.9). So after its first logout an application is answered only about what a search
//! or a creation has given it since.

use std::collections::{HashMap, HashSet};

use parking_lot::RwLock;

use crate::object::Object;

/// What one application was shown since its last logout, by slot; nothing is kept before the first.
#[derive(Default)]
pub(crate) struct Shown(RwLock<HashMap<u64, HashSet<u64>>>);

impl Shown {
    /// The user has left a slot: every handle of a private object there is dead.
    pub(crate) fn forget(&self, slot: u64) {
        self.0.write().insert(slot, HashSet::new());
    }

    /// The application is given these objects.
    pub(crate) fn show<'o>(&self, slot: u64, objects: impl Iterator<Item = &'o Object>) {
        if !self.0.read().contains_key(&slot) {
            return;
        }
        if let Some(shown) = self.0.write().get_mut(&slot) {
            shown.extend(objects.filter(|object| is_kept(object)).map(|object| object.handle));
        }
    }

    /// Whether the application may name an object.
    pub(crate) fn knows(&self, slot: u64, object: &Object) -> bool {
        !is_kept(object) || self.0.read().get(&slot).is_none_or(|shown| shown.contains(&object.handle))
    }
}

/// Session objects die with the logout, public ones are not concerned.
fn is_kept(object: &Object) -> bool {
    object.is_token() && object.is_private()
}
