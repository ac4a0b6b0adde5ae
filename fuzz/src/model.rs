//! What the standard says happens to sessions, logins, objects and operations (PKCS#11 v3.0, sections 5.6 and 5.7), as plain tables.

use std::collections::{BTreeMap, HashMap, HashSet};

use hsm_core::{Kind, OperationKind};

/// Who is logged in, per application and token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Login {
    #[default]
    Nobody,
    User,
    So,
}

/// An active operation: what it was fed so far.
#[derive(Clone, Debug)]
pub(crate) struct Active {
    pub(crate) kind: OperationKind,
    pub(crate) key: u64,
    pub(crate) data: Vec<u8>,
}

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) app: usize,
    pub(crate) slot: u64,
    pub(crate) read_write: bool,
    pub(crate) active: Vec<Active>,
}

/// An object.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// The application and the session that made it.
    pub(crate) app: usize,
    pub(crate) session: u64,
    pub(crate) slot: u64,
    pub(crate) token: bool,
    pub(crate) private: bool,
    /// A secret key, or else a data object.
    pub(crate) key: bool,
    pub(crate) modifiable: bool,
    pub(crate) copyable: bool,
    pub(crate) label: Vec<u8>,
}

/// The world as the standard has it.
pub(crate) struct Model {
    sessions: BTreeMap<u64, Session>,
    objects: BTreeMap<u64, Made>,
    logins: Vec<HashMap<u64, Login>>,
    session_handles: Vec<u64>,
    object_handles: Vec<u64>,
    used: HashSet<u64>,
}

impl Model {
    pub(crate) fn new(applications: usize) -> Self {
        Model {
            sessions: BTreeMap::new(),
            objects: BTreeMap::new(),
            logins: vec![HashMap::new(); applications],
            session_handles: Vec::new(),
            object_handles: Vec::new(),
            used: HashSet::new(),
        }
    }

    /// A living session of this application.
    pub(crate) fn session(&self, app: usize, handle: u64) -> Option<&Session> {
        self.sessions.get(&handle).filter(|session| session.app == app)
    }

    pub(crate) fn sessions_of(&self, app: usize) -> Vec<u64> {
        self.sessions.iter().filter(|(_, session)| session.app == app).map(|(handle, _)| *handle).collect()
    }

    /// Every handle that there ever was.
    pub(crate) fn all_session_handles(&self) -> Vec<u64> {
        self.session_handles.clone()
    }

    pub(crate) fn all_object_handles(&self) -> Vec<u64> {
        self.object_handles.clone()
    }

    /// How many sessions an application has, and how many of them are read/write.
    pub(crate) fn session_counts(&self, app: usize) -> (usize, usize) {
        let own = || self.sessions.values().filter(|session| session.app == app);
        (own().count(), own().filter(|session| session.read_write).count())
    }

    pub(crate) fn has_read_only(&self, app: usize, slot: u64) -> bool {
        self.sessions.values().any(|session| session.app == app && session.slot == slot && !session.read_write)
    }

    pub(crate) fn slot_in_use(&self, slot: u64) -> bool {
        self.sessions.values().any(|session| session.slot == slot)
    }

    pub(crate) fn login(&self, app: usize, slot: u64) -> Login {
        self.logins[app].get(&slot).copied().unwrap_or_default()
    }

    pub(crate) fn opened(&mut self, handle: u64, session: Session) {
        assert!(!self.session_handles.contains(&handle), "session handle {handle} is given twice");
        self.session_handles.push(handle);
        self.sessions.insert(handle, session);
    }

    /// A session ends: its session objects go, and with the application's last one at the token the login.
    pub(crate) fn closed(&mut self, handle: u64) {
        let Some(session) = self.sessions.remove(&handle) else { return };
        self.objects.retain(|_, made| made.token || made.session != handle);
        if !self.sessions.values().any(|other| other.app == session.app && other.slot == session.slot) {
            self.logged_out(session.app, session.slot);
        }
    }

    pub(crate) fn logged_in(&mut self, app: usize, slot: u64, login: Login) {
        self.logins[app].insert(slot, login);
    }

    /// A logout: private session objects go, operations end.
    pub(crate) fn logged_out(&mut self, app: usize, slot: u64) {
        if self.logins[app].remove(&slot).is_none() {
            return;
        }
        self.objects.retain(|_, made| made.token || made.app != app || made.slot != slot || !made.private);
        for session in self.sessions.values_mut().filter(|session| session.app == app && session.slot == slot) {
            session.active.clear();
        }
    }

    pub(crate) fn made(&mut self, handle: u64, made: Made) {
        assert!(self.used.insert(handle), "object handle {handle} is given twice");
        self.object_handles.push(handle);
        self.objects.insert(handle, made);
    }

    pub(crate) fn destroyed(&mut self, handle: u64) {
        self.objects.remove(&handle);
    }

    pub(crate) fn labelled(&mut self, handle: u64, label: &[u8]) {
        if let Some(made) = self.objects.get_mut(&handle) {
            made.label = label.to_vec();
        }
    }

    /// An object that a session sees: of its token, its own application's if it is a session object, and private only for the user.
    pub(crate) fn seen(&self, app: usize, session: u64, object: u64) -> Option<&Made> {
        let slot = self.session(app, session)?.slot;
        let visible = |made: &&Made| {
            made.slot == slot
                && (made.token || made.app == app)
                && (!made.private || self.login(app, slot) == Login::User)
        };
        self.objects.get(&object).filter(visible)
    }

    /// The handles that a session sees and wants, ascending.
    pub(crate) fn visible(&self, app: usize, session: u64, wanted: impl Fn(&Made) -> bool) -> Vec<u64> {
        let seen = |handle: &&u64| self.seen(app, session, **handle).is_some_and(&wanted);
        self.objects.keys().filter(seen).copied().collect()
    }

    /// What forbids a session to make, change or destroy an object with these attributes.
    pub(crate) fn write_errors(&self, app: usize, session: u64, token: bool, private: bool, errors: &mut Vec<Kind>) {
        let Some(found) = self.session(app, session) else {
            errors.push(Kind::NoSuchSession);
            return;
        };
        if private && self.login(app, found.slot) != Login::User {
            errors.push(Kind::NotLoggedIn);
        }
        if token && !found.read_write {
            errors.push(Kind::SessionReadOnly);
        }
    }

    /// An operation took data, and began with it if it was `opened`.
    pub(crate) fn fed(&mut self, session: u64, kind: OperationKind, opened: bool, key: u64, data: &[u8]) {
        let Some(found) = self.sessions.get_mut(&session) else { return };
        if opened {
            found.active.push(Active { kind, key, data: Vec::new() });
        }
        if let Some(active) = found.active.iter_mut().find(|active| active.kind == kind) {
            active.data.extend_from_slice(data);
        }
    }

    /// An operation is over.
    pub(crate) fn ended(&mut self, session: u64, kind: OperationKind) -> Option<Active> {
        let found = self.sessions.get_mut(&session)?;
        let at = found.active.iter().position(|active| active.kind == kind)?;
        Some(found.active.remove(at))
    }
}
