//! C_GetOperationState and C_SetOperationState (PKCS#11 v3.0 sections 5.6.7 and 5.6.8), for digests.
//!
//! A state never leaves the daemon: the application gets a name for it that nobody can guess and nobody else can use. So it can
//! neither be changed nor read, and it ends with the application.

use subtle::ConstantTimeEq;

use super::{Caller, Hsm};
use crate::act;
use crate::application::SavedState;
use crate::crypto::rng;
use crate::error::{Error, Kind, Result};
use crate::session::kind::OperationKind;
use crate::session::operation::{Begin, Operation};

/// The first byte of a state: the version of its form.
const VERSION: u8 = 1;
/// The length of a state in bytes: version and name.
const STATE_LEN: usize = 33;
/// How many states an application can have; the oldest goes.
const STATES_MAX: usize = 1024;

impl Hsm {
    /// Saves the active digest, or the one that `begin` would begin.
    ///
    /// # Errors
    /// [`Kind::OperationNotInitialized`]; [`Kind::StateUnsaveable`] when an operation with a key is active.
    pub fn save_state(&self, caller: &Caller, session: u64, begin: Option<Begin>, updated: bool) -> Result<Vec<u8>> {
        self.perform(caller, &act::SESSION_INFO, session, |work| {
            if work.session.operations.lock().has_keyed() {
                return Err(Kind::StateUnsaveable.into());
            }
            let operation = match begin {
                Some(begin) => self.begin(work, OperationKind::Digest, begin)?,
                None => work.session.operations.lock().take(OperationKind::Digest)?,
            };
            let (row, stream) = (operation.row, operation.saved());
            work.session.operations.lock().put(OperationKind::Digest, operation);
            let mut name = [0; STATE_LEN];
            rng::fill(&mut name)?;
            name[0] = VERSION;
            let mut states = work.app.states.lock();
            if states.len() >= STATES_MAX {
                states.pop_front();
            }
            states.push_back(SavedState { name: name.to_vec(), row, stream: stream?, updated });
            Ok(name.to_vec())
        })
    }

    /// Makes a saved digest the session's only operation: its mechanism, and whether it had been given data.
    ///
    /// # Errors
    /// [`Kind::SavedStateInvalid`] for a state that this application has not saved, or not lately.
    pub fn restore_state(&self, caller: &Caller, session: u64, state: &[u8]) -> Result<(u64, bool)> {
        self.perform(caller, &act::SESSION_INFO, session, |work| {
            if state.len() != STATE_LEN || state.first() != Some(&VERSION) {
                return Err(Error::new(Kind::SavedStateInvalid, "not a state of this version"));
            }
            let states = work.app.states.lock();
            let saved = states.iter().find(|saved| saved.name.ct_eq(state).into()).ok_or(Kind::SavedStateInvalid)?;
            let mut operations = work.session.operations.lock();
            operations.clear();
            operations.put(OperationKind::Digest, Operation::resumed(saved.row, saved.stream.clone()));
            Ok((saved.row.number.0, saved.updated))
        })
    }
}
