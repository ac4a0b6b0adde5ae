//! Call sequences: two applications at two tokens against a model of sessions, logins and objects. The model says beforehand what may
//! happen; every difference is a finding.
//!
//! Where several things are wrong with a call at once, any of their errors is right: the standard sets no order (PKCS#11 v3.0, section 5.1).

use std::cell::RefCell;
use std::sync::Arc;

use ck::attribute::*;
use ck::flags::{session as sf, state, user};
use ck::mechanism::*;
use ck::object::*;
use hsm_core::config::Profile;
use hsm_core::{Attr, Begin, Caller, Error, Hsm, Kind, MechanismCall, OperationKind, Parameter, SecretBytes};

use crate::feedback;
use crate::input::Input;
use crate::model::{Active, Login, Made, Model, Session};
use crate::stage::{self, SO_PIN, USER_PIN};

/// Calls per input.
const CALLS_MAX: usize = 60;
const APPLICATIONS: usize = 2;
const SLOTS: u64 = 2;
/// Inputs that one pair of tokens serves.
const INPUTS_PER_HSM: u32 = 300;
const LABELS: [&[u8]; 3] = [b"a", b"b", b""];

struct Ground {
    hsm: Arc<Hsm>,
    played: u32,
    _folder: tempfile::TempDir,
}

thread_local! {
    static GROUND: RefCell<Option<Ground>> = RefCell::default();
}

fn ground() -> Ground {
    let folder = stage::folder();
    let mut config = stage::configuration(Profile::Safe, &folder);
    config.token.slot_count = u32::try_from(SLOTS).expect("few");
    (config.token.max_sessions, config.token.max_rw_sessions) = (8, 6);
    let hsm = stage::open(&config);
    let pins = (SecretBytes::copy_from(SO_PIN), SecretBytes::copy_from(USER_PIN));
    hsm.admin_init_token(&stage::peer(1), Some(1), "second", pins.0, Some(pins.1)).expect("initialises");
    Ground { hsm, played: 0, _folder: folder }
}

/// Plays an input.
pub(crate) fn run(bytes: &[u8]) {
    let mut ground = GROUND.take().unwrap_or_else(ground);
    let mut play = Play::new(Arc::clone(&ground.hsm), Input::new(bytes));
    for _ in 0..CALLS_MAX {
        if play.input.is_empty() {
            break;
        }
        play.call();
        play.compare();
    }
    drop(play);
    clean(&ground.hsm);
    ground.played += 1;
    if ground.played < INPUTS_PER_HSM {
        GROUND.set(Some(ground));
    }
}

/// Destroys what is left in the tokens.
fn clean(hsm: &Hsm) {
    for slot in 0..SLOTS {
        let caller = hsm.attach(stage::peer(9), "sweeper").expect("attaches");
        let flags = sf::CKF_SERIAL_SESSION | sf::CKF_RW_SESSION;
        let session = hsm.open_session(&caller, slot, flags).expect("opens");
        hsm.login(&caller, session, user::CKU_USER, SecretBytes::copy_from(USER_PIN)).expect("the PIN is what it was");
        for object in hsm.find(&caller, session, Vec::new(), 0).expect("searches").objects {
            hsm.destroy_object(&caller, session, object).expect("nothing that cannot be destroyed is made");
        }
    }
}

struct Play<'a> {
    hsm: Arc<Hsm>,
    callers: Vec<Caller>,
    model: Model,
    input: Input<'a>,
}

type Errors = Vec<Kind>;

/// Compares an outcome with what the model allows: no error at all, or one of these.
fn expect<T>(what: &str, outcome: Result<T, Error>, errors: &Errors) -> Option<T> {
    match outcome {
        Ok(value) => {
            assert!(errors.is_empty(), "{what} succeeds, but the model says {errors:?}");
            feedback::note((what, "ok"));
            Some(value)
        }
        Err(error) => {
            assert!(errors.contains(&error.kind()), "{what} fails with {error:?}, but the model says {errors:?}");
            feedback::note((what, format!("{:?}", error.kind()), errors.len()));
            None
        }
    }
}

fn when(wrong: bool, error: Kind, errors: &mut Errors) {
    if wrong {
        errors.push(error);
    }
}

impl<'a> Play<'a> {
    fn new(hsm: Arc<Hsm>, input: Input<'a>) -> Self {
        let attach = |pid| hsm.attach(stage::peer(pid), "player").expect("attaches");
        let callers = (0..APPLICATIONS).map(|app| attach(20 + u32::try_from(app).expect("few"))).collect();
        Play { hsm, callers, model: Model::new(APPLICATIONS), input }
    }

    /// One call by choice.
    fn call(&mut self) {
        let app = self.input.below(APPLICATIONS);
        match self.input.below(24) {
            0..=2 => self.open(app),
            3 => self.close(app),
            4 if self.input.one_in(4) => self.close_all(app),
            4..=6 => self.login(app),
            7 => self.logout(app),
            8..=11 => self.create(app),
            12 => self.destroy(app),
            13 => self.set(app),
            14 => self.copy(app),
            15 => self.find(app),
            16 => self.read(app),
            17..=19 => self.update(app),
            20 | 21 => self.finish(app),
            22 => self.cancel(app),
            _ => self.administer(app),
        }
    }

    /// A session handle: mostly a living one of this application, else a dead one, another's, or none at all.
    fn session(&mut self, app: usize) -> u64 {
        let own: Vec<u64> = self.model.sessions_of(app);
        let any = self.model.all_session_handles();
        match self.input.byte() {
            0..=7 => self.input.number(),
            8..=31 if !any.is_empty() => *self.input.pick(&any),
            _ if !own.is_empty() => *self.input.pick(&own),
            _ => 0,
        }
    }

    fn object(&mut self) -> u64 {
        let any = self.model.all_object_handles();
        if any.is_empty() || self.input.one_in(32) { self.input.number() } else { *self.input.pick(&any) }
    }

    fn open(&mut self, app: usize) {
        let slot = if self.input.one_in(16) { 7 } else { u64::from(self.input.one_in(4)) };
        let flags = *self.input.pick(&[6, 6, 4, 4, 2, 0]);
        let (serial, read_write) = (flags & sf::CKF_SERIAL_SESSION != 0, flags & sf::CKF_RW_SESSION != 0);
        let mut errors = Errors::new();
        when(!serial, Kind::ParallelSession, &mut errors);
        when(slot >= SLOTS, Kind::NoSuchSlot, &mut errors);
        when(!read_write && self.model.login(app, slot) == Login::So, Kind::SoSessionExists, &mut errors);
        let (all, writing) = self.model.session_counts(app);
        when(all >= 8 || (read_write && writing >= 6), Kind::TooManySessions, &mut errors);
        let opened = self.hsm.open_session(&self.callers[app], slot, flags);
        if let Some(handle) = expect("open", opened, &errors) {
            self.model.opened(handle, Session { app, slot, read_write, active: Vec::new() });
        }
    }

    fn close(&mut self, app: usize) {
        let session = self.session(app);
        let mut errors = Errors::new();
        when(self.model.session(app, session).is_none(), Kind::NoSuchSession, &mut errors);
        if expect("close", self.hsm.close_session(&self.callers[app], session), &errors).is_some() {
            self.model.closed(session);
        }
    }

    fn close_all(&mut self, app: usize) {
        let slot = u64::from(self.input.one_in(2));
        if expect("close all", self.hsm.close_all_sessions(&self.callers[app], slot), &Errors::new()).is_some() {
            for session in self.model.sessions_of(app) {
                if self.model.session(app, session).is_some_and(|found| found.slot == slot) {
                    self.model.closed(session);
                }
            }
        }
    }

    fn login(&mut self, app: usize) {
        let session = self.session(app);
        let kind = *self.input.pick(&[1, 1, 1, 0, 2, 9]);
        let pin = *self.input.pick(&[USER_PIN, USER_PIN, SO_PIN, SO_PIN, b"neither-of-them"]);
        let mut errors = Errors::new();
        match self.model.session(app, session).map(|found| found.slot) {
            None => errors.push(Kind::NoSuchSession),
            Some(slot) => {
                let now = self.model.login(app, slot);
                let (wanted, right): (Option<Login>, &[u8]) = match kind {
                    user::CKU_USER => (Some(Login::User), USER_PIN),
                    user::CKU_SO => (Some(Login::So), SO_PIN),
                    _ => (None, if now == Login::So { SO_PIN } else { USER_PIN }),
                };
                when(kind == 9, Kind::UserTypeInvalid, &mut errors);
                when(kind == user::CKU_CONTEXT_SPECIFIC && now == Login::Nobody, Kind::NotLoggedIn, &mut errors);
                when(wanted == Some(now), Kind::AlreadyLoggedIn, &mut errors);
                let other = wanted.is_some() && now != Login::Nobody && wanted != Some(now);
                when(other, Kind::OtherUserLoggedIn, &mut errors);
                let blocked = wanted == Some(Login::So) && self.model.has_read_only(app, slot);
                when(blocked, Kind::ReadOnlySessionExists, &mut errors);
                when(pin != right && kind != 9, Kind::PinIncorrect, &mut errors);
            }
        }
        when(kind == 9, Kind::UserTypeInvalid, &mut errors);
        let outcome = self.hsm.login(&self.callers[app], session, kind, SecretBytes::copy_from(pin));
        let done = expect("login", outcome, &errors).is_some();
        if done && let Some(slot) = self.model.session(app, session).map(|found| found.slot) {
            match kind {
                user::CKU_USER => self.model.logged_in(app, slot, Login::User),
                user::CKU_SO => self.model.logged_in(app, slot, Login::So),
                _ => {}
            }
        }
    }

    fn logout(&mut self, app: usize) {
        let session = self.session(app);
        let mut errors = Errors::new();
        match self.model.session(app, session).map(|found| found.slot) {
            None => errors.push(Kind::NoSuchSession),
            Some(slot) => when(self.model.login(app, slot) == Login::Nobody, Kind::NotLoggedIn, &mut errors),
        }
        if expect("logout", self.hsm.logout(&self.callers[app], session), &errors).is_some()
            && let Some(slot) = self.model.session(app, session).map(|found| found.slot)
        {
            self.model.logged_out(app, slot);
        }
    }

    fn create(&mut self, app: usize) {
        let session = self.session(app);
        let (token, private) = (self.input.one_in(2), self.input.one_in(2));
        let (key, modifiable) = (self.input.one_in(2), !self.input.one_in(4));
        let (copyable, label) = (!self.input.one_in(4), self.input.below(LABELS.len()));
        let mut template = vec![
            Attr::flag(CKA_TOKEN, token),
            Attr::flag(CKA_PRIVATE, private),
            Attr::flag(CKA_MODIFIABLE, modifiable),
            Attr::flag(CKA_COPYABLE, copyable),
            Attr::bytes(CKA_LABEL, LABELS[label]),
            Attr::bytes(CKA_VALUE, [9; 32]),
        ];
        if key {
            template.push(Attr::number(CKA_CLASS, CKO_SECRET_KEY.0));
            template.push(Attr::number(CKA_KEY_TYPE, CKK_GENERIC_SECRET.0));
        } else {
            template.push(Attr::number(CKA_CLASS, CKO_DATA.0));
        }
        let mut errors = Errors::new();
        self.model.write_errors(app, session, token, private, &mut errors);
        let made = self.hsm.create_object(&self.callers[app], session, template);
        if let Some(made) = expect("create", made, &errors) {
            let slot = self.model.session(app, session).expect("it was there").slot;
            self.model.made(
                made.object,
                Made { app, session, slot, token, private, key, modifiable, copyable, label: LABELS[label].to_vec() },
            );
        }
    }

    /// The errors of a call that names an object; `None` when it has none and the object is there.
    fn seen(&self, app: usize, session: u64, object: u64, errors: &mut Errors) -> Option<Made> {
        if self.model.session(app, session).is_none() {
            errors.push(Kind::NoSuchSession);
            return None;
        }
        let seen = self.model.seen(app, session, object).cloned();
        when(seen.is_none(), Kind::NoSuchObject, errors);
        seen
    }

    fn destroy(&mut self, app: usize) {
        let (session, object) = (self.session(app), self.object());
        let mut errors = Errors::new();
        if let Some(made) = self.seen(app, session, object, &mut errors) {
            self.model.write_errors(app, session, made.token, made.private, &mut errors);
        }
        if expect("destroy", self.hsm.destroy_object(&self.callers[app], session, object), &errors).is_some() {
            self.model.destroyed(object);
        }
    }

    fn set(&mut self, app: usize) {
        let (session, object) = (self.session(app), self.object());
        let label = self.input.below(LABELS.len());
        let mut errors = Errors::new();
        if let Some(made) = self.seen(app, session, object, &mut errors) {
            self.model.write_errors(app, session, made.token, made.private, &mut errors);
            when(!made.modifiable, Kind::ActionProhibited, &mut errors);
        }
        let template = vec![Attr::bytes(CKA_LABEL, LABELS[label])];
        if expect("set", self.hsm.set_attributes(&self.callers[app], session, object, template), &errors).is_some() {
            self.model.labelled(object, LABELS[label]);
        }
    }

    fn copy(&mut self, app: usize) {
        let (session, object) = (self.session(app), self.object());
        let (token, private) = (self.input.one_in(2), self.input.one_in(2));
        let template = vec![Attr::flag(CKA_TOKEN, token), Attr::flag(CKA_PRIVATE, private)];
        let mut errors = Errors::new();
        let original = self.seen(app, session, object, &mut errors);
        if let Some(made) = &original {
            self.model.write_errors(app, session, token, private, &mut errors);
            when(!made.copyable, Kind::ActionProhibited, &mut errors);
            when(made.private && !private, Kind::AttributeReadOnly, &mut errors);
        }
        let made = self.hsm.copy_object(&self.callers[app], session, object, template);
        if let (Some(made), Some(original)) = (expect("copy", made, &errors), original) {
            self.model.made(made.object, Made { app, session, token, private, ..original });
        }
    }

    fn find(&mut self, app: usize) {
        let session = self.session(app);
        let mut template = Vec::new();
        let label = self.input.one_in(2).then(|| LABELS[self.input.below(LABELS.len())]);
        let key = self.input.one_in(2).then(|| self.input.one_in(2));
        template.extend(label.map(|label| Attr::bytes(CKA_LABEL, label)));
        template.extend(key.map(|key| Attr::number(CKA_CLASS, if key { CKO_SECRET_KEY.0 } else { CKO_DATA.0 })));
        let mut errors = Errors::new();
        when(self.model.session(app, session).is_none(), Kind::NoSuchSession, &mut errors);
        if let Some(found) = expect("find", self.hsm.find(&self.callers[app], session, template, 0), &errors) {
            let wanted =
                |made: &Made| label.is_none_or(|label| made.label == label) && key.is_none_or(|key| made.key == key);
            assert_eq!(found.objects, self.model.visible(app, session, wanted), "what is found by a template");
        }
    }

    fn read(&mut self, app: usize) {
        let (session, object) = (self.session(app), self.object());
        let mut errors = Errors::new();
        let made = self.seen(app, session, object, &mut errors);
        let read = self.hsm.get_attributes(&self.callers[app], session, object, &[CKA_LABEL.0, CKA_VALUE.0]);
        if let (Some(read), Some(made)) = (expect("read", read, &errors), made) {
            assert_eq!(read[0].attribute.value.as_bytes(), Some(made.label.as_slice()), "a label");
            assert_eq!(
                read[1].rv == ck::rv::CKR_ATTRIBUTE_SENSITIVE,
                made.key,
                "a key's value is sensitive by default"
            );
        }
    }

    /// Update of a digest or a MAC, which opens it or goes on with it.
    fn update(&mut self, app: usize) {
        let session = self.session(app);
        let (kind, begin, key) = self.operation();
        let opens = self.input.one_in(2);
        let data = self.input.bytes(40);
        let mut errors = Errors::new();
        self.operation_errors(app, session, kind, opens.then_some(key), &mut errors);
        let begin = opens.then_some(begin);
        let given = self.hsm.update(&self.callers[app], session, kind, begin, data, None);
        if let Some(given) = expect("update", given, &errors) {
            assert!(given.is_empty(), "a digest or a MAC gives nothing before its end");
            self.model.fed(session, kind, opens, key, data);
        }
    }

    fn finish(&mut self, app: usize) {
        let session = self.session(app);
        let (kind, begin, key) = self.operation();
        let opens = self.input.one_in(4);
        let small = self.input.one_in(4);
        let mut errors = Errors::new();
        self.operation_errors(app, session, kind, opens.then_some(key), &mut errors);
        when(small, Kind::BufferTooSmall, &mut errors);
        let capacity = small.then_some(31);
        let ended = self.hsm.finish(&self.callers[app], session, kind, opens.then_some(begin), &[], capacity);
        if let Some(given) = expect("finish", ended, &errors) {
            let Active { data, key, .. } =
                self.model.ended(session, kind).unwrap_or(Active { kind, key, data: Vec::new() });
            self.check_result(app, kind, key, &data, &given);
        }
    }

    /// What came in pieces is what comes at once, as long as the key is there.
    fn check_result(&mut self, app: usize, kind: OperationKind, key: u64, data: &[u8], given: &[u8]) {
        let Some(session) = self.model.sessions_of(app).into_iter().find(|session| {
            kind == OperationKind::Digest || self.model.seen(app, *session, key).is_some_and(|made| made.key)
        }) else {
            return;
        };
        let begin = begin(kind, key);
        let whole = self.hsm.one_shot(&self.callers[app], session, kind, begin, data, &[], None).expect("at once");
        assert_eq!(whole, given, "in pieces and at once");
    }

    fn cancel(&mut self, app: usize) {
        let session = self.session(app);
        let (kind, _, _) = self.operation();
        let mut errors = Errors::new();
        when(self.model.session(app, session).is_none(), Kind::NoSuchSession, &mut errors);
        if expect("cancel", self.hsm.cancel(&self.callers[app], session, kind), &errors).is_some() {
            self.model.ended(session, kind);
        }
    }

    /// C_InitPIN and C_InitToken, which most of the time may not happen.
    fn administer(&mut self, app: usize) {
        if self.input.one_in(2) {
            let session = self.session(app);
            let mut errors = Errors::new();
            match self.model.session(app, session).map(|found| found.slot) {
                None => errors.push(Kind::NoSuchSession),
                Some(slot) => when(self.model.login(app, slot) != Login::So, Kind::NotLoggedIn, &mut errors),
            }
            let pin = SecretBytes::copy_from(USER_PIN);
            expect("init pin", self.hsm.init_pin(&self.callers[app], session, pin), &errors);
        } else if self.model.slot_in_use(0) {
            let pin = SecretBytes::copy_from(SO_PIN);
            let outcome = self.hsm.init_token(&self.callers[app], 0, pin, "again");
            expect("init token", outcome, &vec![Kind::SessionExists]);
        }
    }

    fn operation(&mut self) -> (OperationKind, Begin, u64) {
        let kind = if self.input.one_in(2) { OperationKind::Digest } else { OperationKind::Sign };
        let key = self.object();
        (kind, begin(kind, key), key)
    }

    /// What is wrong with going on with an operation, or with opening one on a key.
    fn operation_errors(&self, app: usize, session: u64, kind: OperationKind, opens: Option<u64>, errors: &mut Errors) {
        let Some(found) = self.model.session(app, session) else {
            errors.push(Kind::NoSuchSession);
            return;
        };
        let active = found.active.iter().any(|active| active.kind == kind);
        match opens {
            None => when(!active, Kind::OperationNotInitialized, errors),
            Some(key) => {
                when(active, Kind::OperationActive, errors);
                // The handle of what is no key is no handle of a key (PKCS#11 v3.0, section 5.1.6).
                let is_key = self.model.seen(app, session, key).is_some_and(|made| made.key);
                when(kind == OperationKind::Sign && !is_key, Kind::NoSuchKey, errors);
            }
        }
    }

    /// After every call: states, and what each session sees, are what the model says.
    fn compare(&self) {
        for app in 0..APPLICATIONS {
            for session in self.model.sessions_of(app) {
                let info = self.hsm.session_info(&self.callers[app], session).expect("a living session");
                let found = self.model.session(app, session).expect("from the list");
                let expected = match (self.model.login(app, found.slot), found.read_write) {
                    (Login::Nobody, false) => state::CKS_RO_PUBLIC_SESSION,
                    (Login::Nobody, true) => state::CKS_RW_PUBLIC_SESSION,
                    (Login::User, false) => state::CKS_RO_USER_FUNCTIONS,
                    (Login::User, true) => state::CKS_RW_USER_FUNCTIONS,
                    (Login::So, _) => state::CKS_RW_SO_FUNCTIONS,
                };
                assert_eq!((info.slot, info.state), (found.slot, expected), "the state of a session");
                let seen = self.hsm.find(&self.callers[app], session, Vec::new(), 0).expect("searches").objects;
                assert_eq!(seen, self.model.visible(app, session, |_| true), "what a session sees");
            }
        }
    }
}

fn begin(kind: OperationKind, key: u64) -> Begin {
    let mechanism = if kind == OperationKind::Digest { CKM_SHA256 } else { CKM_SHA256_HMAC };
    Begin { mechanism: MechanismCall { kind: mechanism, parameter: Parameter::None }, key }
}
