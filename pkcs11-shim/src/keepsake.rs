//! What it takes to go on after the daemon was away (`[shim] session_resume`): sessions are opened again under their old handles, and
//! where `pin_cache` allows it the user is logged in again. Nothing else comes back: active multi-part operations and session objects
//! are gone, and who was logged in without a kept PIN is logged out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ck::flags::user::CKU_USER;
use ck::rv::CKR_USER_ALREADY_LOGGED_IN;
use hsm_proto::v1::{self, reply::Result as Answer, request::Op};
use zeroize::Zeroize;

use crate::carrier::{Carrier, Failure, lock};
use crate::ffi::locked::Locked;
use crate::session::Session;

/// See the module.
pub(crate) struct Keepsake {
    /// The user PINs by slot; none where they are not to be kept.
    pins: Option<Mutex<HashMap<u64, Locked>>>,
}

impl Keepsake {
    pub(crate) fn new(pin_cache: bool) -> Self {
        Keepsake { pins: pin_cache.then(Mutex::default) }
    }

    /// A user has logged in, or changed the PIN. Where memory cannot be locked nothing is kept.
    pub(crate) fn remember(&self, slot: u64, pin: Option<Locked>) {
        if let (Some(pins), Some(pin)) = (&self.pins, pin) {
            lock(pins).insert(slot, pin);
        }
    }

    /// A copy for [`Keepsake::remember`], if PINs are kept.
    pub(crate) fn copy(&self, pin: &[u8]) -> Option<Locked> {
        self.pins.as_ref().and_then(|_| Locked::copy_of(pin))
    }

    /// Whether a PIN is kept for this slot.
    pub(crate) fn holds(&self, slot: u64) -> bool {
        self.pins.as_ref().is_some_and(|pins| lock(pins).contains_key(&slot))
    }

    pub(crate) fn forget(&self, slot: u64) {
        if let Some(pins) = &self.pins {
            lock(pins).remove(&slot);
        }
    }

    pub(crate) fn forget_all(&self) {
        if let Some(pins) = &self.pins {
            lock(pins).clear();
        }
    }

    /// Makes the daemon at the other end take the sessions up again, in `epoch`.
    ///
    /// # Errors
    /// The connection's failure. A session that the daemon refuses stays dead; a PIN that it refuses is forgotten, so that it is not
    /// counted twice.
    pub(crate) fn return_home(
        &self,
        sessions: &[Arc<Session>],
        carrier: &dyn Carrier,
        epoch: u64,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let mut back = Vec::with_capacity(sessions.len());
        for session in sessions {
            let resume =
                v1::ResumeSessionRequest { slot: session.slot, flags: session.flags, session: session.daemon_handle };
            let request = v1::Request { op: Some(Op::ResumeSession(resume)), number: 0 };
            if let Some(Answer::OpenSession(_)) = carrier.carry(&request, false, deadline)?.result {
                back.push(session);
            }
        }
        if let Some(pins) = &self.pins {
            let mut pins = lock(pins);
            let slots: Vec<u64> = pins.keys().copied().collect();
            for slot in slots {
                let session = back.iter().find(|session| session.slot == slot);
                let entered = match (session, pins.get(&slot)) {
                    (Some(session), Some(pin)) => log_in(carrier, session, pin, deadline)?,
                    _ => false,
                };
                if !entered {
                    pins.remove(&slot);
                }
            }
        }
        back.iter().for_each(|session| session.resume(epoch));
        Ok(())
    }
}

/// Whether the user is logged in now.
fn log_in(carrier: &dyn Carrier, session: &Session, pin: &Locked, deadline: Instant) -> Result<bool, Failure> {
    let login = v1::LoginRequest { session: session.daemon_handle, user: CKU_USER, pin: pin.bytes().to_vec() };
    let mut request = v1::Request { op: Some(Op::Login(login)), number: 0 };
    let outcome = carrier.carry(&request, true, deadline);
    if let Some(Op::Login(login)) = &mut request.op {
        login.pin.zeroize();
    }
    Ok(match outcome?.result {
        Some(Answer::Done(_)) => true,
        Some(Answer::Fault(fault)) => fault.rv == CKR_USER_ALREADY_LOGGED_IN.0,
        _ => false,
    })
}
