//! The bench that cases are laid on: the module, a session of the logged-in user, and keys made of a vector's bytes.

use acceptance::raw::call::{Parameter, Template};
use acceptance::raw::{Raw, Room};
use acceptance::world::World;
use cryptoki_sys::*;
use serde_json::Value;

/// See the module.
pub(crate) struct Bench {
    /// The module.
    pub(crate) raw: Raw,
    /// A read-write session of the user.
    pub(crate) session: CK_SESSION_HANDLE,
    slot: CK_SLOT_ID,
    listed: Vec<CK_MECHANISM_TYPE>,
}

/// A key or its refusal.
pub(crate) type Key = Result<CK_OBJECT_HANDLE, CK_RV>;

impl Bench {
    /// Restarts the world's daemon with everything open that suites want open, and logs in.
    pub(crate) fn new(world: &mut World) -> Bench {
        let open = include_str!("../testdata/conformance.toml");
        world.stop_daemon();
        world.write_config(&format!("{}{open}", world.standard_config()));
        world.start_daemon();
        let (raw, slot, session) = Raw::with_user();
        let listed = raw.mechanisms(slot).expect("the list");
        Bench { raw, session, slot, listed }
    }

    /// Whether the module lists a mechanism.
    pub(crate) fn lists(&self, mechanism: CK_MECHANISM_TYPE) -> bool {
        self.listed.contains(&mechanism)
    }

    /// The largest key of a mechanism.
    pub(crate) fn largest(&self, mechanism: CK_MECHANISM_TYPE) -> CK_ULONG {
        self.raw.mechanism_info(self.slot, mechanism).expect("a listed mechanism").1
    }

    /// A secret key of these bytes that may do everything and may be read.
    pub(crate) fn secret(&self, key_type: CK_KEY_TYPE, value: &[u8], uses: &[CK_ATTRIBUTE_TYPE]) -> Key {
        self.create(readable(CKO_SECRET_KEY, key_type).bytes(CKA_VALUE, value), uses)
    }

    /// A session object.
    pub(crate) fn create(&self, template: Template, uses: &[CK_ATTRIBUTE_TYPE]) -> Key {
        let template = uses.iter().fold(template, |template, usage| template.flag(*usage, true));
        self.raw.create_object(self.session, template)
    }

    /// Destroys a key that a case needed.
    pub(crate) fn drop(&self, key: CK_OBJECT_HANDLE) {
        assert_eq!(self.raw.destroy(self.session, key), CKR_OK);
    }

    /// The value of an object, which is destroyed.
    pub(crate) fn value_of(&self, key: Key) -> (CK_RV, Vec<u8>) {
        match key {
            Err(rv) => (rv, Vec::new()),
            Ok(key) => {
                let read = self.raw.attribute(self.session, key, CKA_VALUE, Room::Bytes(20_000));
                self.drop(key);
                (read.rv, read.bytes)
            }
        }
    }

    /// C_Digest by a mechanism.
    pub(crate) fn digest(&self, mechanism: CK_MECHANISM_TYPE, data: &[u8]) -> Vec<u8> {
        assert_eq!(self.raw.digest_init(self.session, mechanism), CKR_OK);
        let digest = self.raw.digest(self.session, data, Room::Bytes(64));
        assert_eq!(digest.rv, CKR_OK);
        digest.bytes
    }

    /// C_Verify, of bytes that may be empty.
    pub(crate) fn verify(
        &self,
        mechanism: CK_MECHANISM_TYPE,
        parameter: Parameter,
        key: CK_OBJECT_HANDLE,
        data: &[u8],
        signature: &[u8],
    ) -> CK_RV {
        self.raw.verify_once(self.session, mechanism, parameter, key, data, signature)
    }
}

/// The beginning of a template for a session key that may be read.
pub(crate) fn readable(class: CK_OBJECT_CLASS, key_type: CK_KEY_TYPE) -> Template {
    key(class, key_type).flag(CKA_SENSITIVE, false).flag(CKA_EXTRACTABLE, true)
}

/// The beginning of a template for a session key.
pub(crate) fn key(class: CK_OBJECT_CLASS, key_type: CK_KEY_TYPE) -> Template {
    Template::default().number(CKA_CLASS, class).number(CKA_KEY_TYPE, key_type).flag(CKA_TOKEN, false)
}

/// A secret of these many bytes to be made by derivation or decapsulation.
pub(crate) fn derived(len_bytes: usize) -> Template {
    readable(CKO_SECRET_KEY, CKK_GENERIC_SECRET).number(CKA_VALUE_LEN, len_bytes as CK_ULONG)
}

/// The test groups of a file of vectors.
pub(crate) fn groups(json: &str) -> Vec<Value> {
    let mut set: Value = serde_json::from_str(json).expect("vectors are JSON");
    let Value::Array(groups) = set["testGroups"].take() else { panic!("no groups") };
    groups
}

/// The tests of a group.
pub(crate) fn tests(group: &Value) -> &[Value] {
    group["tests"].as_array().expect("a group has tests")
}

/// Bytes in hexadecimal; absent is empty.
pub(crate) fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap_or_default();
    data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).unwrap_or_else(|e| panic!("{text:?}: {e}"))
}

/// A big integer: hexadecimal, without leading zeros.
pub(crate) fn integer(value: &Value) -> Vec<u8> {
    hex(value).into_iter().skip_while(|byte| *byte == 0).collect()
}

/// A number.
pub(crate) fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().expect("a number")).expect("a small one")
}

/// DER of an OCTET STRING.
pub(crate) fn octet_string(bytes: &[u8]) -> Vec<u8> {
    [vec![0x04], der_length(bytes.len()), bytes.to_vec()].concat()
}

fn der_length(len: usize) -> Vec<u8> {
    let byte = |shift: usize| u8::try_from(len >> shift & 0xff).expect("masked");
    match len {
        0..0x80 => vec![byte(0)],
        0x80..0x100 => vec![0x81, byte(0)],
        _ => vec![0x82, byte(8), byte(0)],
    }
}
