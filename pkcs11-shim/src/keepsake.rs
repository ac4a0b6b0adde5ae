//! What it takes to go on after the daemon was away (`[shim] session_resume`): sessions are opened again under their old handles, and
//! the user is logged in again where the PIN is kept (`pin_cache`) or where the token takes this client without one. Nothing else comes
//! back: active multi-part operations and session objects are gone, and who had to log in by a PIN that was not kept is logged out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ck::flags::token::CKF_PROTECTED_AUTHENTICATION_PATH;
use ck::flags::user::CKU_USER;
use ck::rv::CKR_USER_ALREADY_LOGGED_IN;
use hsm_proto::v1::{self, reply::Result as Answer, request::Op};
use zeroize::Zeroize;

use crate::carrier::{Carrier, Failure, lock};
use crate::ffi::locked::Locked;
use crate::session::Session;

/// See the module.
pub(crate) struct Keepsake {
    /// Whether PINs are kept.
    pin_cache: bool,
    /// The slots at which the user is logged in, each with the PIN if that is kept.
    users: Mutex<HashMap<u64, Option<Locked>>>,
}

impl Keepsake {
    pub(crate) fn new(pin_cache: bool) -> Self {
        Keepsake { pin_cache, users: Mutex::default() }
    }

    /// A user has logged in, or changed the PIN. Where memory cannot be locked no PIN is kept.
    pub(crate) fn remember(&self, slot: u64, pin: Option<Locked>) {
        lock(&self.users).insert(slot, pin);
    }

    /// A copy for [`Keepsake::remember`], if PINs are kept.
    pub(crate) fn copy(&self, pin: &[u8]) -> Option<Locked> {
        if self.pin_cache { Locked::copy_of(pin) } else { None }
    }

    /// Whether a PIN is kept for this slot.
    pub(crate) fn holds(&self, slot: u64) -> bool {
        lock(&self.users).get(&slot).is_some_and(Option::is_some)
    }

    pub(crate) fn forget(&self, slot: u64) {
        lock(&self.users).remove(&slot);
    }

    pub(crate) fn forget_all(&self) {
        lock(&self.users).clear();
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
        let mut users = lock(&self.users);
        let slots: Vec<u64> = users.keys().copied().collect();
        for slot in slots {
            let mut entered = false;
            if let Some(session) = back.iter().find(|session| session.slot == slot) {
                entered = match users.get(&slot).and_then(Option::as_ref) {
                    Some(pin) => log_in(carrier, session, pin.bytes(), deadline)?,
                    None => false,
                };
                if !entered && takes_no_pin(carrier, slot, deadline)? {
                    users.insert(slot, None);
                    entered = log_in(carrier, session, &[], deadline)?;
                }
            }
            if !entered {
                users.remove(&slot);
            }
        }
        drop(users);
        back.iter().for_each(|session| session.resume(epoch));
        Ok(())
    }
}

/// Whether the token in a slot lets the user of this client log in without a PIN.
fn takes_no_pin(carrier: &dyn Carrier, slot: u64, deadline: Instant) -> Result<bool, Failure> {
    let request = v1::Request { op: Some(Op::ListSlots(v1::ListSlotsRequest {})), number: 0 };
    let Some(Answer::ListSlots(answer)) = carrier.carry(&request, false, deadline)?.result else { return Ok(false) };
    let token = answer.slots.into_iter().find(|seen| seen.slot == slot).and_then(|seen| seen.token);
    Ok(token.is_some_and(|token| token.flags & CKF_PROTECTED_AUTHENTICATION_PATH != 0))
}

/// Whether the user is logged in now; no bytes are no PIN.
fn log_in(carrier: &dyn Carrier, session: &Session, pin: &[u8], deadline: Instant) -> Result<bool, Failure> {
    let (session, without_pin) = (session.daemon_handle, pin.is_empty());
    let login = v1::LoginRequest { session, user: CKU_USER, pin: pin.to_vec(), without_pin };
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
