//! What C_Initialize makes and C_Finalize ends: configuration, link, sessions and what is remembered of the token.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ck::Rv;
use ck::rv::{CKR_BUFFER_TOO_SMALL, CKR_DEVICE_ERROR, CKR_SESSION_HANDLE_INVALID};
use hsm_proto::v1::{self, reply::Result as Answer, request::Op};

use crate::carrier::{Carrier, Failure, Link, Resident, lock};
use crate::config::Config;
use crate::events::Events;
use crate::keepsake::Keepsake;
use crate::mirror::Mirror;
use crate::session::Session;

/// How long C_Finalize waits for the daemon's word that the sessions are closed.
const GOODBYE: Duration = Duration::from_secs(2);

/// The library between C_Initialize and C_Finalize.
pub(crate) struct Run {
    pub(crate) link: Link,
    pub(crate) mirror: Mirror,
    /// The slots as C_GetSlotList last gave them.
    pub(crate) slots: Mutex<Vec<v1::SlotInfo>>,
    pub(crate) events: Mutex<Events>,
    /// What it takes to go on after the daemon was away, if that is configured.
    pub(crate) keepsake: Option<Keepsake>,
    sessions: RwLock<HashMap<u64, Arc<Session>>>,
    last_handle: AtomicU64,
    finalized: Mutex<bool>,
    finalizing: Condvar,
}

/// The daemon's refusal, or ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) rv: Rv,
    /// For `CKR_BUFFER_TOO_SMALL`: the length that would do.
    pub(crate) needed: u64,
}

impl From<Rv> for Refusal {
    fn from(rv: Rv) -> Self {
        Refusal { rv, needed: 0 }
    }
}

impl From<Refusal> for Rv {
    fn from(refusal: Refusal) -> Self {
        refusal.rv
    }
}

/// Takes the expected result out of an answer; any other is a daemon that we do not understand.
macro_rules! expect_answer {
    ($answer:expr, $variant:ident) => {
        match $answer {
            hsm_proto::v1::reply::Result::$variant(result) => Ok(result),
            _ => Err(ck::rv::CKR_DEVICE_ERROR),
        }
    };
}
pub(crate) use expect_answer;

impl Run {
    pub(crate) fn new(config: &Config) -> Self {
        Run {
            link: Link::new(config),
            mirror: Mirror::default(),
            slots: Mutex::new(Vec::new()),
            events: Mutex::default(),
            keepsake: config.resume.as_ref().map(|resume| Keepsake::new(resume.pin_cache)),
            sessions: RwLock::new(HashMap::new()),
            last_handle: AtomicU64::new(0),
            finalized: Mutex::new(false),
            finalizing: Condvar::new(),
        }
    }

    pub(crate) fn finalize(&self) {
        *lock(&self.finalized) = true;
        self.finalizing.notify_all();
        self.say_goodbye();
        self.link.close();
        self.sessions.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.mirror.forget_all();
        if let Some(keepsake) = &self.keepsake {
            keepsake.forget_all();
        }
    }

    /// Closes the sessions at the daemon and waits for its word. A connection that just ends is noticed there a moment later, and a
    /// program that initialises again at once would find its own old sessions in the way (C_InitToken, C_Login). A daemon that is
    /// away or busy ends them by itself.
    fn say_goodbye(&self) {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        let epoch = self.link.epoch();
        let slots: BTreeSet<u64> =
            sessions.values().filter(|session| session.epoch() == epoch).map(|session| session.slot).collect();
        drop(sessions);
        for slot in slots {
            if self.link.part(Op::CloseAllSessions(v1::SlotRequest { slot }), GOODBYE).is_err() {
                break;
            }
        }
    }

    /// Whether C_Finalize has begun to take this run apart.
    pub(crate) fn is_finalized(&self) -> bool {
        *lock(&self.finalized)
    }

    /// Sleeps until C_Finalize, or for so long; whether the library is finalised.
    pub(crate) fn wait_for_finalize(&self, longest: Duration) -> bool {
        let outcome = self.finalizing.wait_timeout_while(lock(&self.finalized), longest, |finalized| !*finalized);
        *outcome.unwrap_or_else(PoisonError::into_inner).0
    }

    // --- messages ----------------------------------------------------------------------------------------------------

    /// Asks the daemon something that is about no session.
    ///
    /// # Errors
    /// `Err(Err(failure))` when it cannot be reached, `Err(Ok(refusal))` when it refuses.
    pub(crate) fn ask_daemon(&self, op: Op) -> Result<Answer, Result<Refusal, Failure>> {
        self.ask_in_epoch(op).map(|(answer, _)| answer)
    }

    /// As [`Run::ask_daemon`], with the epoch of the link that the answer belongs to.
    ///
    /// # Errors
    /// As [`Run::ask_daemon`].
    pub(crate) fn ask_in_epoch(&self, op: Op) -> Result<(Answer, u64), Result<Refusal, Failure>> {
        let (reply, epoch) = self.observed(self.link.exchange(op, None, self)).map_err(Err)?;
        judged(reply).map(|answer| (answer, epoch)).map_err(Ok)
    }

    /// As [`Run::ask_daemon`], but never waits for a daemon that is away.
    ///
    /// # Errors
    /// As [`Run::ask_daemon`].
    pub(crate) fn look(&self, op: Op) -> Result<Answer, Result<Refusal, Failure>> {
        let (reply, _) = self.observed(self.link.look(op, self)).map_err(Err)?;
        judged(reply).map_err(Ok)
    }

    /// Asks the daemon something that is about a session. What the answer says of objects is remembered.
    ///
    /// # Errors
    /// The daemon's refusal, or what the failure to reach it means for a session.
    pub(crate) fn ask(&self, session: &Session, op: Op) -> Result<Answer, Refusal> {
        let sent = self.mirror.moment();
        let outcome = self.observed(self.link.exchange(op, Some(&session.epoch), self)).map_err(Failure::of_session);
        let mut answer = outcome.map_err(Refusal::from).and_then(|(reply, _)| judged(reply));
        if let Ok(answer) = &mut answer {
            self.mirror.keep(sent, answer);
        }
        if answer.as_ref().is_err_and(|refusal| refusal.rv == CKR_SESSION_HANDLE_INVALID) {
            self.remove_session(session.handle);
        }
        answer
    }

    /// As [`Run::ask`] for what answers nothing but success.
    ///
    /// # Errors
    /// As [`Run::ask`].
    pub(crate) fn command(&self, session: &Session, op: Op) -> Result<(), Rv> {
        expect_answer!(self.ask(session, op)?, Done)?;
        Ok(())
    }

    /// Every exchange tells of the generation.
    fn observed(&self, outcome: Result<(v1::Reply, u64), Failure>) -> Result<(v1::Reply, u64), Failure> {
        let now = self.link.epoch();
        match &outcome {
            Ok((reply, answered_in)) if *answered_in == now => self.mirror.observe(now, reply.generation),
            _ => self.mirror.enter(now),
        }
        outcome
    }

    // --- sessions ----------------------------------------------------------------------------------------------------

    /// Keeps a session that the daemon opened, under a handle of ours: the daemon's numbers begin anew when it restarts,
    /// and an old handle must never mean a new session.
    pub(crate) fn add_session(&self, slot: u64, flags: u64, daemon_handle: u64, epoch: u64) -> u64 {
        let handle = self.last_handle.fetch_add(1, Ordering::Relaxed) + 1;
        let session = Arc::new(Session::new(handle, daemon_handle, slot, flags, epoch));
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.epoch() >= epoch);
        sessions.insert(handle, session);
        handle
    }

    /// The session behind a handle.
    ///
    /// # Errors
    /// `CKR_SESSION_HANDLE_INVALID`.
    pub(crate) fn session(&self, handle: u64) -> Result<Arc<Session>, Rv> {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        // A session that is being resumed is ahead of the link for a moment.
        let live = |session: &&Arc<Session>| session.epoch() >= self.link.epoch();
        sessions.get(&handle).filter(live).cloned().ok_or(CKR_SESSION_HANDLE_INVALID)
    }

    /// Ends what is active in every session with the token, as the daemon does at a logout.
    pub(crate) fn clear_sessions_of(&self, slot: u64) {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        sessions.values().filter(|session| session.slot == slot).for_each(|session| session.clear());
    }

    /// The last session with a token takes the login along.
    pub(crate) fn remove_session(&self, handle: u64) {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        let Some(gone) = sessions.remove(&handle) else { return };
        if !sessions.values().any(|session| session.slot == gone.slot) {
            self.forget_pin(gone.slot);
        }
    }

    pub(crate) fn remove_sessions_of(&self, slot: u64) {
        self.sessions.write().unwrap_or_else(PoisonError::into_inner).retain(|_, session| session.slot != slot);
        self.forget_pin(slot);
    }

    /// Nobody is logged in at this token any more.
    pub(crate) fn forget_pin(&self, slot: u64) {
        if let Some(keepsake) = &self.keepsake {
            keepsake.forget(slot);
        }
    }
}

impl Resident for Run {
    fn return_home(&self, carrier: &dyn Carrier, epoch: u64, deadline: Instant) -> Result<(), Failure> {
        let Some(keepsake) = &self.keepsake else { return Ok(()) };
        let present = self.link.epoch();
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        let live: Vec<Arc<Session>> = sessions.values().filter(|session| session.epoch() >= present).cloned().collect();
        drop(sessions);
        keepsake.return_home(&live, carrier, epoch, deadline)
    }
}

/// A reply is a result, or a fault with its return value.
fn judged(reply: v1::Reply) -> Result<Answer, Refusal> {
    match reply.result {
        Some(Answer::Fault(fault)) if fault.rv != 0 => {
            let needed = if fault.rv == CKR_BUFFER_TOO_SMALL.0 { fault.needed } else { 0 };
            Err(Refusal { rv: Rv(fault.rv), needed })
        }
        Some(Answer::Fault(_)) | None => Err(CKR_DEVICE_ERROR.into()),
        Some(answer) => Ok(answer),
    }
}
