//! Sessions and logins (PKCS#11 v3.0 §5.6).

use std::iter;
use std::sync::Arc;

use ck::flags::session as cf;

use super::{Caller, Hsm};
use crate::act;
use crate::audit::{Entry, Fact};
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::grant::ClientRole;
use crate::perform::Work;
use crate::secret::SecretBytes;
use crate::session::operation::Context;
use crate::session::{Full, Session, SessionView, UserType};
use crate::store::Role;
use crate::token::login::{LoggedIn, Login};

/// What a login rests on.
enum Proof {
    Pin(SecretBytes),
    /// The client's role and the token's AUTO slot.
    AutoSlot,
}

impl Hsm {
    /// C_OpenSession: a session with a slot's token.
    ///
    /// # Errors
    /// [`Kind::ParallelSession`] without CKF_SERIAL_SESSION; [`Kind::TokenNotInitialized`]; [`Kind::SoSessionExists`] for a read-only
    /// session while the SO is logged in; [`Kind::TooManySessions`].
    pub fn open_session(&self, caller: &Caller, slot: u64, flags: u64) -> Result<u64> {
        self.enter_session(caller, slot, flags, None)
    }

    /// A session under the handle that the application had for it in an earlier run of the daemon, or before its connections broke.
    /// Nothing of the earlier session is left: no login, no operation, no session object.
    ///
    /// # Errors
    /// As [`Hsm::open_session`]; [`Kind::ArgumentsBad`] when the application has a session of that handle.
    pub fn resume_session(&self, caller: &Caller, slot: u64, flags: u64, handle: u64) -> Result<u64> {
        self.enter_session(caller, slot, flags, Some(handle))
    }

    fn enter_session(&self, caller: &Caller, slot: u64, flags: u64, resumed: Option<u64>) -> Result<u64> {
        let act = &act::OPEN_SESSION;
        let mut entry = Entry::new(act.category, act.name, caller.peer().journal());
        entry.app = Some(u128::from_be_bytes(caller.application()));
        let opened = self.start_session(caller, slot, flags, resumed);
        Ok(self.record(act, entry, None, opened)?.release())
    }

    fn start_session(&self, caller: &Caller, slot: u64, flags: u64, resumed: Option<u64>) -> Result<u64> {
        if flags & cf::CKF_SERIAL_SESSION == 0 {
            return Err(Kind::ParallelSession.into());
        }
        let at = self.slot_of(caller, slot)?;
        let _turn = at.turn.lock();
        if !at.token().initialized {
            return Err(Kind::TokenNotInitialized.into());
        }
        let app = caller.app();
        let read_write = flags & cf::CKF_RW_SESSION != 0;
        if !read_write && app.logins.at(slot) == Login::So {
            return Err(Kind::SoSessionExists.into());
        }
        let mut sessions = app.sessions.write();
        let config = &self.config().token;
        let read_write_count = sessions.values().filter(|session| session.read_write).count();
        if sessions.len() >= config.max_sessions as usize
            || (read_write && read_write_count >= config.max_rw_sessions as usize)
        {
            return Err(Error::new(Kind::TooManySessions, "token.max_sessions or token.max_rw_sessions is reached"));
        }
        let (of_one, of_all) = (config.max_sessions_per_client, config.max_sessions_total);
        let place = self.sessions_open.take(caller.peer().canonical(), of_one, of_all).map_err(|full| {
            let limit = match full {
                Full::Client => "token.max_sessions_per_client is reached",
                Full::All => "token.max_sessions_total is reached",
            };
            Error::new(Kind::TooManySessions, limit)
        })?;
        let handle = match resumed {
            // A handle is the application's own: what it names reaches nobody else's session.
            Some(handle) if handle == 0 || sessions.contains_key(&handle) => {
                return Err(Error::new(Kind::ArgumentsBad, "the application has a session of that handle"));
            }
            Some(handle) => handle,
            None => iter::repeat_with(|| self.next_session_handle())
                .find(|handle| !sessions.contains_key(handle))
                .ok_or(Kind::Internal)?,
        };
        sessions.insert(handle, Arc::new(Session::new(handle, slot, read_write, place)));
        failpoint!("session.open");
        Ok(handle)
    }

    /// C_CloseSession. The last session with a token takes the login along.
    ///
    /// # Errors
    /// [`Kind::NoSuchSession`].
    pub fn close_session(&self, caller: &Caller, session: u64) -> Result<()> {
        let app = caller.app();
        let closed = app.sessions.write().remove(&session).ok_or(Kind::NoSuchSession)?;
        app.objects.write().end_session(session);
        if !app.sessions.read().values().any(|other| other.slot == closed.slot) {
            self.end_login(app, closed.slot);
        }
        Ok(())
    }

    /// C_CloseAllSessions: all sessions of this application with a slot's token.
    ///
    /// # Errors
    /// [`Kind::NoSuchSlot`].
    pub fn close_all_sessions(&self, caller: &Caller, slot: u64) -> Result<()> {
        self.slot(slot)?;
        let app = caller.app();
        app.sessions.write().retain(|_, session| session.slot != slot);
        app.objects.write().end_slot(slot);
        self.end_login(app, slot);
        Ok(())
    }

    /// C_GetSessionInfo.
    ///
    /// # Errors
    /// [`Kind::NoSuchSession`].
    pub fn session_info(&self, caller: &Caller, session: u64) -> Result<SessionView> {
        self.perform(caller, &act::SESSION_INFO, session, |work| Ok(work.session.view(work.right.login)))
    }

    /// C_Login. Blocks for as long as the PIN's key derivation takes.
    ///
    /// # Errors
    /// [`Kind::UserTypeInvalid`], [`Kind::AlreadyLoggedIn`], [`Kind::OtherUserLoggedIn`], [`Kind::ReadOnlySessionExists`],
    /// [`Kind::PinIncorrect`], [`Kind::PinLocked`], [`Kind::UserPinNotInitialized`], [`Kind::LoginBackoff`].
    pub fn login(&self, caller: &Caller, session: u64, user: u64, pin: SecretBytes) -> Result<()> {
        self.log_in(caller, session, user, &Proof::Pin(pin))
    }

    /// C_Login with NULL_PTR for the PIN, at a token that shows CKF_PROTECTED_AUTHENTICATION_PATH to this client (PKCS#11 v3.1 §5.6.8): the
    /// user's login by the token's AUTO slot. No count of PINs is looked at, and none is changed.
    ///
    /// # Errors
    /// [`Kind::PinIncorrect`] for whoever may not: a client without the role, a token without the slot, the SO. The states of a login as in
    /// [`Hsm::login`].
    pub fn login_without_pin(&self, caller: &Caller, session: u64, user: u64) -> Result<()> {
        self.log_in(caller, session, user, &Proof::AutoSlot)
    }

    fn log_in(&self, caller: &Caller, session: u64, user: u64, proof: &Proof) -> Result<()> {
        let user = UserType::from_number(user).ok_or(Kind::UserTypeInvalid)?;
        let _turn = caller.app().login_turn.lock();
        let mut entered = None;
        let result = self.perform(caller, &act::LOGIN, session, |work| {
            work.fact("user", Fact::word(user.word()));
            if matches!(proof, Proof::AutoSlot) {
                work.fact("by", Fact::word("auto"));
            }
            self.enter(work, user, proof, &mut entered)
        });
        if let (Err(_), Some(slot)) = (&result, entered) {
            // Who is told that the login failed, because it could not be recorded, is not logged in.
            self.end_login(caller.app(), slot);
        }
        result
    }

    fn enter(&self, work: &mut Work<'_>, user: UserType, proof: &Proof, entered: &mut Option<u64>) -> Result<()> {
        // PKCS#11 v3.0 §5.6.8: beside a read-only session the SO cannot log in, whoever is logged in.
        let slot = work.slot.number;
        let read_only = |session: &Arc<Session>| session.slot == slot && !session.read_write;
        if user == UserType::So && work.app.sessions.read().values().any(read_only) {
            return Err(Kind::ReadOnlySessionExists.into());
        }
        // The login may have changed while this call waited for its turn.
        let now = work.app.logins.at(work.slot.number);
        let role = match (user, now) {
            (UserType::User, Login::Nobody) => Role::User,
            (UserType::So, Login::Nobody) => Role::So,
            (UserType::User, Login::User) | (UserType::So, Login::So) => return Err(Kind::AlreadyLoggedIn.into()),
            (UserType::User, Login::So) | (UserType::So, Login::User) => return Err(Kind::OtherUserLoggedIn.into()),
            (UserType::ContextSpecific, Login::User) => Role::User,
            (UserType::ContextSpecific, Login::So) => Role::So,
            (UserType::ContextSpecific, Login::Nobody) => return Err(Kind::NotLoggedIn.into()),
        };
        if role == Role::So && !work.right.grant.has(ClientRole::So) {
            return Err(Error::new(Kind::UserTypeInvalid, "the client does not have the role \"so\""));
        }
        let token = work.slot.token();
        let vault = self.vault()?;
        let tmk = match proof {
            Proof::Pin(pin) => vault.let_in(token.id, role, pin, &work.app.peer.canonical())?,
            Proof::AutoSlot if user == UserType::User && work.right.grant.has(ClientRole::AutoLogin) => {
                Some(vault.unlock_without_pin(token.id)?)
            }
            Proof::AutoSlot => return Err(Error::new(Kind::PinIncorrect, "this login takes a PIN")),
        };
        if let Some(tmk) = &tmk {
            self.go_on_rotating(tmk);
        }
        if user == UserType::ContextSpecific {
            work.session.operations.lock().context = Context::Entered;
            return Ok(());
        }
        match role {
            Role::So => work.app.logins.enter(slot, LoggedIn { login: Login::So, tmk }),
            Role::User => {
                let tmk = tmk.ok_or(Kind::Internal)?;
                work.slot.enter(Arc::clone(&tmk), || self.load(token.id, Some(&tmk)))?;
                work.app.logins.enter(slot, LoggedIn { login: Login::User, tmk: Some(tmk) });
            }
        }
        *entered = Some(slot);
        failpoint!("login.after");
        Ok(())
    }

    /// C_Logout: every operation is cancelled and every private handle of the application dies.
    ///
    /// # Errors
    /// [`Kind::NotLoggedIn`].
    pub fn logout(&self, caller: &Caller, session: u64) -> Result<()> {
        let _turn = caller.app().login_turn.lock();
        self.perform(caller, &act::LOGOUT, session, |work| {
            failpoint!("logout.before");
            self.end_login(work.app, work.slot.number);
            Ok(())
        })
    }
}
