//! What must hold whatever was asked: no defect is answered, no secret is given out, no attribute says what it must not.
//!
//! The rules are written from the standard (PKCS#11 v3.0, the footnotes of section 4.2 and sections 4.7 to 4.10) and from the default
//! policy, not from the core's tables.

use std::collections::{BTreeMap, HashMap, HashSet};

use ck::attribute::*;
use ck::object::*;
use ck::rv::*;
use ck::{Attribute, ObjectClass};
use hsm_core::{Attr, Caller, Hsm, Snapshot, Value};
use hsm_proto::v1;
use hsm_proto::v1::attribute::Value as Wire;
use hsm_proto::v1::reply::Result as Outcome;
use hsm_proto::v1::request::Op;
use prost::Message;

use crate::feedback;

/// The value of a sensitive key that no template here names: it must not come out by any way.
pub(crate) const CANARY: [u8; 32] = *b"\x91\xf3canary:never-to-be-seen-out\x07\xc8\xe5";

/// Attributes that hold the secret of a private or secret key: a list of the oracle's own, so that a gap in the product's shows.
const SECRETS: [Attribute; 8] = [
    CKA_VALUE,
    CKA_PRIVATE_EXPONENT,
    CKA_PRIME_1,
    CKA_PRIME_2,
    CKA_EXPONENT_1,
    CKA_EXPONENT_2,
    CKA_COEFFICIENT,
    CKA_SEED,
];

/// Once true, always true; once false, always false (footnotes 11 and 12).
const STAY_TRUE: [Attribute; 3] = [CKA_PRIVATE, CKA_SENSITIVE, CKA_WRAP_WITH_TRUSTED];
const STAY_FALSE: [Attribute; 3] = [CKA_EXTRACTABLE, CKA_COPYABLE, CKA_MODIFIABLE];
/// In the default policy a usage that was taken away does not come back.
const USAGES: [Attribute; 9] = [
    CKA_ENCRYPT,
    CKA_DECRYPT,
    CKA_SIGN,
    CKA_VERIFY,
    CKA_WRAP,
    CKA_UNWRAP,
    CKA_DERIVE,
    CKA_SIGN_RECOVER,
    CKA_VERIFY_RECOVER,
];

/// Boolean attributes of an object at some time.
type Flags = BTreeMap<Attribute, bool>;

fn is(flags: &Flags, kind: Attribute) -> bool {
    flags.get(&kind).copied().unwrap_or(false)
}

fn flags_of(attributes: &[Attr]) -> Flags {
    let flag = |attr: &Attr| if let Value::Bool(flag) = attr.value { Some((attr.kind, flag)) } else { None };
    attributes.iter().filter_map(flag).collect()
}

/// An application's session, through which is looked at what it sees.
pub(crate) struct Eyes<'a> {
    pub(crate) hsm: &'a Hsm,
    pub(crate) caller: &'a Caller,
    pub(crate) session: u64,
}

impl Eyes<'_> {
    /// What an object shows of itself, if the application sees it.
    pub(crate) fn snapshot(&self, object: u64) -> Option<Snapshot> {
        self.hsm.snapshot(self.caller, self.session, object).ok()
    }
}

/// How an object came to be.
#[derive(Clone, Debug)]
enum Origin {
    Imported,
    Generated,
    /// From an object that had these flags.
    Copied(Flags),
    /// By a key that had these flags.
    Unwrapped(Flags),
    Other,
}

/// What was known before a request.
pub(crate) struct Note {
    operation: &'static str,
    mechanism: u64,
    parent: Flags,
    target: Flags,
}

impl Note {
    pub(crate) fn of(eyes: Option<Eyes<'_>>, op: &Op) -> Self {
        let flags = |object| {
            let found = eyes.as_ref().and_then(|eyes| eyes.snapshot(object));
            found.map(|found| flags_of(&found.attributes)).unwrap_or_default()
        };
        let (parent, target) = match op {
            Op::WrapKey(request) => (flags(request.wrapping_key), flags(request.key)),
            Op::UnwrapKey(request) => (flags(request.unwrapping_key), Flags::new()),
            Op::CopyObject(request) => (flags(request.object), Flags::new()),
            _ => Default::default(),
        };
        let subject = op.subject();
        Note { operation: subject.operation, mechanism: subject.mechanism.unwrap_or(u64::MAX), parent, target }
    }
}

/// Watches one application for the length of an input.
pub(crate) struct Watch {
    /// Whether the default policy holds.
    safe: bool,
    made: HashMap<u64, (Origin, Flags)>,
}

impl Watch {
    pub(crate) fn new(safe: bool) -> Self {
        Watch { safe, made: HashMap::new() }
    }

    /// Judges one reply.
    pub(crate) fn judge(&mut self, note: &Note, reply: &v1::Reply) {
        let bytes = reply.encode_to_vec();
        let read = v1::Reply::decode(bytes.as_slice());
        assert!(read.is_ok(), "{}: the client cannot read the reply", note.operation);
        if self.safe {
            assert!(!shows_canary(&bytes), "{}: a sensitive key's value comes out", note.operation);
        }
        let rv = match &reply.result {
            Some(Outcome::Fault(fault)) => fault.rv,
            _ => CKR_OK.0,
        };
        feedback::note((note.operation, note.mechanism, rv, self.safe));
        // A client that speaks another protocol is told so by CKR_DEVICE_ERROR.
        let defects = [CKR_GENERAL_ERROR, CKR_DEVICE_ERROR].into_iter().filter(|_| note.operation != "attach");
        for defect in defects {
            assert_ne!(
                rv, defect.0,
                "{} with mechanism {:#x} answers {:?}",
                note.operation, note.mechanism, reply.result
            );
        }
        match &reply.result {
            Some(Outcome::Object(made)) => self.note_made(note, made),
            Some(Outcome::KeyPair(pair)) => {
                for made in [&pair.public_key, &pair.private_key].into_iter().flatten() {
                    self.note_made(note, made);
                }
            }
            Some(Outcome::Output(_)) if note.operation == "wrap_key" && self.safe => check_wrap(note),
            _ => {}
        }
    }

    fn note_made(&mut self, note: &Note, made: &v1::ObjectReply) {
        let origin = match note.operation {
            "create_object" => Origin::Imported,
            "generate_key" | "generate_key_pair" => Origin::Generated,
            "copy_object" => Origin::Copied(note.parent.clone()),
            "unwrap_key" => Origin::Unwrapped(note.parent.clone()),
            _ => Origin::Other,
        };
        let snapshot = made.snapshot.as_ref().expect("a made object comes with its snapshot");
        assert_eq!(snapshot.object, made.object);
        let flag = |attr: &v1::Attribute| match attr.value {
            Some(Wire::Flag(flag)) => Some((Attribute(attr.r#type), flag)),
            _ => None,
        };
        let flags = snapshot.attributes.iter().filter_map(flag).collect();
        let earlier = self.made.insert(made.object, (origin, flags));
        assert!(earlier.is_none(), "handle {} is given twice", made.object);
    }

    /// Looks at every object that the input made, when all is done.
    pub(crate) fn inspect(&self, eyes: &Eyes<'_>) {
        let kinds: Vec<u64> = Attribute::ALL.iter().map(|kind| kind.0).collect();
        let mut names = HashSet::new();
        for (&object, (origin, at_birth)) in &self.made {
            let Ok(read) = eyes.hsm.get_attributes(eyes.caller, eyes.session, object, &kinds) else { continue };
            let (mut shown, mut hidden) = (BTreeMap::new(), HashSet::new());
            for read in read {
                match read.rv {
                    CKR_OK => drop(shown.insert(read.attribute.kind, read.attribute.value)),
                    CKR_ATTRIBUTE_SENSITIVE => drop(hidden.insert(read.attribute.kind)),
                    CKR_ATTRIBUTE_TYPE_INVALID => {}
                    other => panic!("{} is answered with {other}", read.attribute.kind),
                }
            }
            let attributes: Vec<Attr> =
                shown.iter().map(|(&kind, value)| Attr { kind, value: value.clone() }).collect();
            let flags = flags_of(&attributes);
            let class = match shown.get(&CKA_CLASS) {
                Some(Value::Ulong(class)) => ObjectClass(*class),
                other => panic!("object {object} has the class {other:?}"),
            };
            check_secrets(eyes, object, class, &shown, &hidden, &flags);
            check_history(class, origin, &flags);
            self.check_changes(at_birth, &flags, "since it was made");
            if let Origin::Copied(original) = origin {
                self.check_changes(original, &flags, "in a copy");
            }
            if let (Origin::Unwrapped(parent), true) = (origin, self.safe)
                && is(parent, CKA_SENSITIVE)
                && class != CKO_DATA
            {
                assert!(
                    is(&flags, CKA_SENSITIVE) && !is(&flags, CKA_EXTRACTABLE),
                    "a sensitive key unwraps a readable one"
                );
            }
            assert!(!is(&flags, CKA_TRUSTED), "the user has made a trusted object");
            assert!(names.insert(format!("{:?}", unique_id(&shown))), "CKA_UNIQUE_ID is not unique");
        }
    }

    fn check_changes(&self, before: &Flags, after: &Flags, when: &str) {
        for kind in STAY_TRUE {
            assert!(!is(before, kind) || is(after, kind), "{kind} became false {when}");
        }
        for kind in STAY_FALSE {
            assert!(!is(after, kind) || is(before, kind), "{kind} became true {when}");
        }
        for kind in [CKA_LOCAL, CKA_ALWAYS_SENSITIVE, CKA_NEVER_EXTRACTABLE] {
            assert!(!is(after, kind) || is(before, kind), "{kind} became true {when}");
        }
        for kind in USAGES.iter().filter(|_| self.safe) {
            assert!(!is(after, *kind) || is(before, *kind), "{kind} was turned on {when}");
        }
    }
}

fn unique_id(shown: &BTreeMap<Attribute, Value>) -> &[u8] {
    match shown.get(&CKA_UNIQUE_ID) {
        Some(Value::Bytes(bytes)) if !bytes.is_empty() => bytes,
        _ => panic!("an object has no CKA_UNIQUE_ID"),
    }
}

/// Whether 16 bytes in a row of the canary are among the bytes.
pub(crate) fn shows_canary(bytes: &[u8]) -> bool {
    let (head, tail) = CANARY.split_at(16);
    bytes.windows(16).any(|window| window == head || window == tail)
}

/// A sensitive key leaves only under a key that was made for nothing else and whose value nobody knows, or that the SO trusts.
fn check_wrap(note: &Note) {
    if is(&note.target, CKA_EXTRACTABLE) && !is(&note.target, CKA_SENSITIVE) {
        return;
    }
    assert!(is(&note.target, CKA_EXTRACTABLE), "a key that is not extractable was wrapped");
    let uses = [CKA_ENCRYPT, CKA_DECRYPT, CKA_SIGN, CKA_VERIFY, CKA_DERIVE];
    assert!(!uses.iter().any(|kind| is(&note.parent, *kind)), "a sensitive key was wrapped by a key with other uses");
    let unknown = [CKA_LOCAL, CKA_ALWAYS_SENSITIVE, CKA_NEVER_EXTRACTABLE].iter().all(|kind| is(&note.parent, *kind));
    assert!(unknown || is(&note.parent, CKA_TRUSTED), "a sensitive key was wrapped by a key that somebody may know");
}

fn check_secrets(
    eyes: &Eyes<'_>,
    object: u64,
    class: ObjectClass,
    shown: &BTreeMap<Attribute, Value>,
    hidden: &HashSet<Attribute>,
    flags: &Flags,
) {
    if !matches!(class, CKO_PRIVATE_KEY | CKO_SECRET_KEY) {
        return;
    }
    let guarded = is(flags, CKA_SENSITIVE) || !is(flags, CKA_EXTRACTABLE);
    for kind in SECRETS {
        assert!(!guarded || !shown.contains_key(&kind), "{kind} of a sensitive key can be read");
        assert!(guarded || !hidden.contains(&kind), "{kind} of a readable key is hidden");
    }
    if let Some(snapshot) = eyes.snapshot(object) {
        let told = snapshot.attributes.iter().find(|attr| SECRETS.contains(&attr.kind));
        assert!(told.is_none(), "{:?} is in the snapshot of a key", told.map(|attr| attr.kind));
    }
}

/// The history that the token computes (footnotes of PKCS#11 v3.0, sections 4.7 to 4.10).
fn check_history(class: ObjectClass, origin: &Origin, flags: &Flags) {
    let local = is(flags, CKA_LOCAL);
    let past = [CKA_ALWAYS_SENSITIVE, CKA_NEVER_EXTRACTABLE].iter().any(|kind| is(flags, *kind));
    assert!(!is(flags, CKA_ALWAYS_SENSITIVE) || is(flags, CKA_SENSITIVE), "always sensitive, but not now");
    assert!(!is(flags, CKA_NEVER_EXTRACTABLE) || !is(flags, CKA_EXTRACTABLE), "never extractable, but now");
    match origin {
        Origin::Imported | Origin::Unwrapped(_) => assert!(!local && !past, "a key from outside claims a past"),
        Origin::Generated => assert!(local || !matches!(class, CKO_PRIVATE_KEY | CKO_PUBLIC_KEY | CKO_SECRET_KEY)),
        Origin::Copied(_) | Origin::Other => {}
    }
}
