//! The stage of the targets that talk to a whole token: one in memory per thread, with keys of every type that it can make, and per
//! input a new application that is logged in.
//!
//! The base keys can neither be changed nor destroyed, so one input cannot spoil the next; what an input leaves in the token is
//! swept away, and a token that got out of hand (its PIN changed, too many objects that refuse to go) is replaced.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ck::attribute::*;
use ck::flags::{mechanism as cf, session, user};
use ck::mechanism::*;
use ck::object::*;
use ck::{KeyType, ObjectClass};
use hsm_core::config::{AuditTable, Config, PasswordFunction, PolicyTable, Profile, TokenTable, Written};
use hsm_core::{
    Attr, Caller, Clock, Hsm, Identity, MechanismCall, MechanismView, Parameter, Peer, SecretBytes, Snapshot, Value,
};
use hsm_daemon::door::{Client, Door};
use hsm_proto::seal::{self, ReplyKey};
use hsm_proto::v1;
use hsm_proto::v1::reply::Result as Outcome;
use hsm_proto::v1::request::Op;
use tempfile::TempDir;

use crate::messages::Messages;
use crate::oracle::{CANARY, Eyes, Note, Watch};
use crate::presets::{CURVES, IMPORTS};

pub(crate) const SO_PIN: &[u8] = b"so-pin-12345";
pub(crate) const USER_PIN: &[u8] = b"user-pin-123";

/// What a request can refer to just now.
#[derive(Default)]
pub(crate) struct Known {
    /// Session handles, ours and dead ones.
    pub(crate) sessions: Vec<u64>,
    /// Object handles, living and dead.
    pub(crate) objects: Vec<u64>,
    /// Mechanisms that the token lists.
    pub(crate) mechanisms: Vec<u64>,
    /// What earlier requests gave out.
    pub(crate) outputs: Vec<Vec<u8>>,
}

/// A clock that moves by a millisecond per question: what happens does not depend on when.
struct Steps(AtomicU64);

impl Clock for Steps {
    fn now_unix_nanos(&self) -> u64 {
        self.0.fetch_add(1_000_000, Ordering::Relaxed)
    }
}

/// 2026-11-22T00:00:00Z.
const START: u64 = 1_795_305_600_000_000_000;

/// The configuration of a token in memory: the policy of the profile, and a password function that costs nothing.
pub(crate) fn configuration(profile: Profile, folder: &TempDir) -> Config {
    let written = Written {
        token: TokenTable { persist_objects: false, max_sessions: 64, max_rw_sessions: 64, ..TokenTable::default() },
        audit: AuditTable { log_path: Some(folder.path().join("audit.jsonl")), ..AuditTable::default() },
        policy: PolicyTable { profile, ..PolicyTable::default() },
        ..Written::default()
    };
    let mut config = written.resolve().expect("a good configuration");
    config.pin.function = PasswordFunction::Pbkdf2 { iterations: 1 };
    config.pin.client_attempts = 1_000_000;
    config.pin.max_attempts = 100;
    if profile == Profile::Compat {
        config.policy.wrap_role_separation = false;
        config.policy.usage_bits_settable = true;
        config.policy.wrap_public_requires_trusted = false;
        config.policy.unwrap_secrecy_inherit = false;
        config.policy.wrap_requires_local = false;
        config.policy.wrap_strength_check = false;
        config.policy.digest_sensitive = true;
        config.policy.raw_rsa = true;
        config.policy.allow_legacy_rsa = true;
        config.algorithms.allow_sha1_signing = true;
        config.algorithms.allow_legacy = true;
    }
    config
}

/// What the tokens of the threads and their journals may need together.
const MEMORY_MIN: u64 = 1 << 30;

/// Where temporary files cost no disk, if there is such a place with room: the journal is synchronised at every login. A container's
/// shared memory can be as small as 64 MiB, and a token whose journal finds no room refuses its work.
pub(crate) fn memory_folder() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    match rustix::fs::statvfs(&memory) {
        Ok(found) if found.f_bavail.saturating_mul(found.f_frsize) >= MEMORY_MIN => memory,
        _ => std::env::temp_dir(),
    }
}

/// A temporary folder there.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in(memory_folder()).expect("a temporary folder")
}

/// A folder that only its owner enters, as the store wants it.
pub(crate) fn private_folder(path: &Path) {
    std::fs::DirBuilder::new().mode(0o700).create(path).expect("a folder");
}

/// A file that only its owner reads.
pub(crate) fn private_file(path: &Path, bytes: &[u8]) {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).expect("a file");
    file.write_all(bytes).expect("written");
}

/// A new token and its clock.
pub(crate) fn open(config: &Config) -> Arc<Hsm> {
    let hsm = Hsm::open(config, Arc::new(Steps(AtomicU64::new(START)))).expect("opens");
    let pins = (SecretBytes::copy_from(SO_PIN), SecretBytes::copy_from(USER_PIN));
    hsm.admin_init_token(&peer(1), None, "fuzz", pins.0, Some(pins.1)).expect("initialises");
    hsm
}

pub(crate) fn peer(pid: u32) -> Peer {
    Peer::unrestricted(Identity::Local { uid: 1000, gid: 1000 }, Some(pid))
}

/// A key that is always there.
#[derive(Clone)]
pub(crate) struct Base {
    pub(crate) handle: u64,
    pub(crate) class: ObjectClass,
    pub(crate) key_type: KeyType,
    /// The other half of a pair, or the secret key itself.
    pub(crate) partner: u64,
}

/// One token with its base keys.
pub(crate) struct Stage {
    pub(crate) door: Door,
    pub(crate) messages: Arc<Messages>,
    pub(crate) base: Vec<Base>,
    pub(crate) views: Vec<MechanismView>,
    pub(crate) profile: Profile,
    /// An application that is logged in and holds the base keys, and one that is not.
    owner: (Caller, u64),
    outsider: (Caller, u64),
    played: u32,
    folder: TempDir,
}

/// After so many inputs a token is replaced and its journal verified.
const INPUTS_PER_TOKEN: u32 = 4_000;
/// So many objects that cannot be destroyed are too many.
const LEFTOVERS_MAX: usize = 32;

thread_local! {
    static STAGES: RefCell<HashMap<bool, Stage>> = RefCell::default();
    static MESSAGES: Arc<Messages> = Arc::new(Messages::read());
}

/// Plays one input on this thread's token of the profile.
pub(crate) fn play(compat: bool, act: impl FnOnce(&Stage, &mut Actor)) {
    STAGES.with_borrow_mut(|stages| {
        let profile = if compat { Profile::Compat } else { Profile::Safe };
        // A panic leaves no stage behind: the next input gets a new one.
        let stage = stages.remove(&compat).unwrap_or_else(|| Stage::new(profile));
        let actor = stage.actor();
        let (mut stage, mut actor) = match actor {
            Some(actor) => (stage, actor),
            None => {
                drop(stage);
                let stage = Stage::new(profile);
                let actor = stage.actor().expect("a new token lets its user in");
                (stage, actor)
            }
        };
        act(&stage, &mut actor);
        if let Some(eyes) = actor.eyes(&stage) {
            actor.watch.inspect(&eyes);
        }
        stage.look_from_outside();
        drop(actor);
        if stage.sweep() {
            stages.insert(compat, stage);
        }
    });
}

impl Stage {
    fn new(profile: Profile) -> Self {
        let folder = folder();
        let hsm = open(&configuration(profile, &folder));
        let owner = hsm.attach(peer(2), "owner").expect("attaches");
        let handle = hsm.open_session(&owner, 0, session::CKF_SERIAL_SESSION | session::CKF_RW_SESSION).expect("opens");
        hsm.login(&owner, handle, user::CKU_USER, SecretBytes::copy_from(USER_PIN)).expect("logs in");
        let views = hsm.mechanisms(&owner, 0).expect("mechanisms");
        let mut base = Vec::new();
        for import in IMPORTS.iter().filter(|import| import.template as usize != IMPORTS[0].template as usize) {
            let template = [(import.template)(), fixed()].concat();
            let made =
                hsm.create_object(&owner, handle, template).unwrap_or_else(|why| panic!("{}: {why}", import.name));
            base.push(one(&made, made.object));
        }
        let canary = [
            vec![
                Attr::number(CKA_CLASS, CKO_SECRET_KEY.0),
                Attr::number(CKA_KEY_TYPE, CKK_AES.0),
                Attr::bytes(CKA_VALUE, CANARY),
                Attr::flag(CKA_EXTRACTABLE, true),
            ],
            fixed(),
        ]
        .concat();
        let made = hsm.create_object(&owner, handle, canary).expect("a key that must never be seen");
        base.push(one(&made, made.object));
        for view in &views {
            base.extend(generated(&hsm, &owner, handle, view));
        }
        let door = Door::new(hsm, 1024);
        let outsider = door.hsm().attach(peer(4), "outsider").expect("attaches");
        let outside = door.hsm().open_session(&outsider, 0, session::CKF_SERIAL_SESSION).expect("opens");
        let (owner, outsider) = ((owner, handle), (outsider, outside));
        Stage { door, messages: MESSAGES.with(Arc::clone), base, views, profile, owner, outsider, played: 0, folder }
    }

    /// A new application, logged in; `None` when the PIN is not what it was.
    fn actor(&self) -> Option<Actor> {
        let mut client = Client::new(peer(3));
        let attach = v1::AttachRequest { protocol: 1, ..Default::default() };
        client.ask(&self.door, v1::Request { op: Some(Op::Attach(attach)), ..Default::default() });
        let caller = Arc::clone(client.caller().expect("attached"));
        let flags = session::CKF_SERIAL_SESSION | session::CKF_RW_SESSION;
        let handle = self.door.hsm().open_session(&caller, 0, flags).ok()?;
        let read_only = self.door.hsm().open_session(&caller, 0, session::CKF_SERIAL_SESSION).ok()?;
        self.door.hsm().login(&caller, handle, user::CKU_USER, SecretBytes::copy_from(USER_PIN)).ok()?;
        let known = Known {
            sessions: vec![handle, handle, handle, read_only],
            objects: self.base.iter().map(|base| base.handle).collect(),
            mechanisms: self.views.iter().map(|view| view.number).collect(),
            outputs: Vec::new(),
        };
        Some(Actor {
            client,
            session: handle,
            number: 0,
            sealed: false,
            known,
            watch: Watch::new(self.profile == Profile::Safe),
        })
    }

    /// What somebody who has not logged in finds: nothing private, nothing of another application's sessions.
    pub(crate) fn look_from_outside(&self) {
        let (outsider, session) = &self.outsider;
        let found = self.door.hsm().find(outsider, *session, Vec::new(), usize::MAX).expect("searches");
        for snapshot in found.snapshots {
            let flag =
                |kind| snapshot.attributes.iter().any(|attr| attr.kind == kind && attr.value == Value::Bool(true));
            assert!(!flag(CKA_PRIVATE), "a private object is found without a login: {}", snapshot.object);
            assert!(flag(CKA_TOKEN), "another application's session object is found: {}", snapshot.object);
        }
    }

    /// Takes away what the input left; false when the token is to be replaced.
    fn sweep(&mut self) -> bool {
        self.played += 1;
        let (owner, handle) = &self.owner;
        let hsm = self.door.hsm();
        let Ok(found) = hsm.find(owner, *handle, Vec::new(), 0) else { return false };
        let left: Vec<u64> =
            found.objects.into_iter().filter(|found| !self.base.iter().any(|base| base.handle == *found)).collect();
        let stuck = left.iter().filter(|object| hsm.destroy_object(owner, *handle, **object).is_err()).count();
        if self.played >= INPUTS_PER_TOKEN {
            self.verify_journal();
            return false;
        }
        stuck < LEFTOVERS_MAX
    }

    /// Whatever was asked, the journal's chain is whole.
    fn verify_journal(&self) {
        self.door.hsm().close();
        let journal = self.folder.path().join("audit.jsonl");
        let summary = hsm_core::audit::visit_file(&journal, |_| Ok(())).expect("the journal is whole");
        assert!(summary.records > u64::from(self.played), "only {} records", summary.records);
    }
}

/// A base key stays what it is.
fn fixed() -> Vec<Attr> {
    vec![Attr::flag(CKA_TOKEN, true), Attr::flag(CKA_MODIFIABLE, false), Attr::flag(CKA_DESTROYABLE, false)]
}

fn number(made: &Snapshot, kind: ck::Attribute) -> u64 {
    let found = made.attributes.iter().find(|attr| attr.kind == kind);
    found.and_then(|attr| if let Value::Ulong(number) = attr.value { Some(number) } else { None }).unwrap_or(u64::MAX)
}

fn one(made: &Snapshot, partner: u64) -> Base {
    let (class, key_type) = (ObjectClass(number(made, CKA_CLASS)), KeyType(number(made, CKA_KEY_TYPE)));
    Base { handle: made.object, class, key_type, partner }
}

/// Keys by a generating mechanism, one per curve, parameter set and length that it takes.
fn generated(hsm: &Hsm, owner: &Caller, handle: u64, view: &MechanismView) -> Vec<Base> {
    let call = || MechanismCall { kind: ck::Mechanism(view.number), parameter: Parameter::None };
    let mut base = Vec::new();
    if view.flags & cf::CKF_GENERATE != 0 {
        let lengths = [Some(32), Some(16), None].map(|len| len.map(|len| Attr::number(CKA_VALUE_LEN, len)));
        for length in lengths {
            let template = [fixed(), Vec::from_iter(length)].concat();
            if let Ok(made) = hsm.generate_key(owner, handle, call(), template) {
                base.push(one(&made, made.object));
            }
        }
    }
    // An RSA pair takes long to find; the imported one serves.
    if view.flags & cf::CKF_GENERATE_KEY_PAIR != 0 && call().kind != CKM_RSA_PKCS_KEY_PAIR_GEN {
        let curves = CURVES[..8].iter().map(|curve| Attr::bytes(CKA_EC_PARAMS, *curve));
        // Of the hash-based signatures only a fast set.
        let sets: &[u64] = if call().kind == CKM_SLH_DSA_KEY_PAIR_GEN { &[3] } else { &[1, 2, 3] };
        let sets = sets.iter().map(|set| Attr::number(CKA_PARAMETER_SET, *set));
        for choice in curves.chain(sets) {
            let public = [fixed(), vec![choice]].concat();
            if let Ok((public, private)) = hsm.generate_key_pair(owner, handle, call(), public, fixed()) {
                base.extend([one(&public, private.object), one(&private, public.object)]);
            }
        }
    }
    base
}

/// The application that an input plays.
pub(crate) struct Actor {
    pub(crate) client: Client,
    /// Its read/write session.
    pub(crate) session: u64,
    /// The number that the next request bears: none is 0.
    pub(crate) number: u64,
    /// Whether its requests and their replies travel sealed.
    pub(crate) sealed: bool,
    pub(crate) known: Known,
    pub(crate) watch: Watch,
}

impl Actor {
    /// Asks the daemon's dispatcher, and lets the watch judge the reply.
    pub(crate) fn ask(&mut self, stage: &Stage, op: Op) -> Outcome {
        let note = Note::of(self.eyes(stage), &op);
        let request = v1::Request { op: Some(op), number: self.number };
        let reply = if self.sealed { self.sealed(stage, &request) } else { self.client.ask(&stage.door, request) };
        self.watch.judge(&note, &reply);
        self.learn(&reply);
        reply.result.expect("every reply has a result")
    }

    fn sealed(&mut self, stage: &Stage, request: &v1::Request) -> v1::Reply {
        let reply = ReplyKey::new().expect("random numbers");
        let exchange = seal::request(&self.client.seal_key(), request, Some(&reply)).expect("a key of the daemon's");
        reply.open(self.client.exchange(&stage.door, exchange)).expect("the reply opens")
    }

    /// Takes up what a reply gave: handles and bytes for later requests.
    fn learn(&mut self, reply: &v1::Reply) {
        let objects = &mut self.known.objects;
        match &reply.result {
            // Thrice, because the base keys are many.
            Some(Outcome::Object(made)) => objects.extend([made.object; 3]),
            Some(Outcome::KeyPair(pair)) => {
                objects.extend([&pair.public_key, &pair.private_key].into_iter().flatten().map(|made| made.object));
            }
            Some(Outcome::OpenSession(opened)) => self.known.sessions.push(opened.session),
            Some(Outcome::Output(output)) if !output.output.is_empty() && self.known.outputs.len() < 16 => {
                self.known.outputs.push(output.output.clone());
            }
            _ => {}
        }
    }

    /// What the application sees; nothing before it has attached.
    fn eyes<'a>(&'a self, stage: &'a Stage) -> Option<Eyes<'a>> {
        Some(Eyes { hsm: stage.door.hsm(), caller: self.client.caller()?, session: self.session })
    }
}
