//! The front desk from the narrowest door: one token in memory, every mechanism of the table. In the folder: who may do what, wrapping, and
//! records.

mod access;
mod records;
mod wrapping;

use std::sync::Arc;

use ck::attribute::*;
use ck::flags::{session as cf, user};
use ck::mechanism::*;
use ck::object::*;
use ck::{Mechanism, ObjectClass};

use super::Hsm;
use crate::config::{AlgorithmsTable, AuditTable, PolicyTable, Profile, SecurityTable, TokenTable, Written};
use crate::mechanism::row::{Class, Scheme};
use crate::mechanism::table::TABLE;
use crate::{
    Attr, Begin, Caller, Identity, Kind, MechanismCall, OperationKind, Parameter, Peer, SecretBytes, SystemClock, Value,
};

const SO_PIN: &[u8] = b"so-pin-12345";
const PIN: &[u8] = b"user-pin-123";

pub(super) struct World {
    pub(super) hsm: Arc<Hsm>,
    dir: tempfile::TempDir,
}

fn pin(bytes: &[u8]) -> SecretBytes {
    SecretBytes::copy_from(bytes)
}

fn peer(pid: u32) -> Peer {
    Peer::unrestricted(Identity::Local { uid: 1000, gid: 1000 }, Some(pid))
}

pub(super) fn world() -> World {
    world_with(PolicyTable::default())
}

/// A world in which every row of the table is offered.
fn wide_world() -> World {
    let policy = PolicyTable {
        profile: Profile::Compat,
        raw_rsa: Some(true),
        legacy_derive: Some(true),
        gcm_caller_iv: Some(true),
        cbc_unwrap: Some(true),
        ..PolicyTable::default()
    };
    world_of(policy, AlgorithmsTable { allow_legacy: true, ..AlgorithmsTable::default() })
}

fn world_with(policy: PolicyTable) -> World {
    world_of(policy, AlgorithmsTable::default())
}

fn world_of(policy: PolicyTable, algorithms: AlgorithmsTable) -> World {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let written = Written {
        token: TokenTable { persist_objects: false, ..TokenTable::default() },
        security: SecurityTable { pbkdf2_iterations: 100_000, ..SecurityTable::default() },
        audit: AuditTable { log_path: Some(dir.path().join("audit.jsonl")), ..AuditTable::default() },
        store: Default::default(),
        algorithms,
        policy,
        backup: Default::default(),
    };
    let config = written.resolve().expect("a good configuration");
    let hsm = Hsm::open(&config, Arc::new(SystemClock)).expect("opens");
    hsm.admin_init_token(&peer(1), None, "test", pin(SO_PIN), Some(pin(PIN))).expect("initialises");
    World { hsm, dir }
}

impl World {
    pub(super) fn caller(&self, pid: u32) -> Caller {
        self.hsm.attach(peer(pid), "test").expect("attaches")
    }

    pub(super) fn session(&self, caller: &Caller) -> u64 {
        self.hsm.open_session(caller, 0, cf::CKF_SERIAL_SESSION | cf::CKF_RW_SESSION).expect("opens")
    }

    pub(super) fn user(&self, caller: &Caller) -> u64 {
        let session = self.session(caller);
        self.hsm.login(caller, session, user::CKU_USER, pin(PIN)).expect("logs in");
        session
    }

    fn journal(&self) -> String {
        self.hsm.journal().sync().expect("syncs");
        std::fs::read_to_string(self.dir.path().join("audit.jsonl")).expect("the journal")
    }
}

fn call(kind: Mechanism, parameter: Parameter) -> MechanismCall {
    MechanismCall { kind, parameter }
}

pub(super) fn plain(kind: Mechanism) -> MechanismCall {
    call(kind, Parameter::None)
}

/// The handle of the first derived key.
fn first(derived: crate::Derived) -> u64 {
    derived.keys[0].as_ref().expect("a key").object
}

/// A key pair or secret key for each key type, made once.
struct Keys {
    rsa: (u64, u64),
    ec: (u64, u64),
    edwards: (u64, u64),
    ml_dsa: (u64, u64),
    slh_dsa: (u64, u64),
    aes: u64,
    des3: u64,
    aes_mac: u64,
    xts: u64,
    secret: u64,
    master: u64,
}

fn keys(world: &World, caller: &Caller, session: u64) -> Keys {
    let pair = |mechanism, public: Vec<Attr>| {
        let (public, private) =
            world.hsm.generate_key_pair(caller, session, plain(mechanism), public, vec![]).expect("generates");
        (public.object, private.object)
    };
    let secret = |mechanism, len, usage: &[ck::Attribute]| {
        let mut template = vec![Attr::number(CKA_VALUE_LEN, len)];
        template.extend(usage.iter().map(|&usage| Attr::flag(usage, true)));
        world.hsm.generate_key(caller, session, plain(mechanism), template).expect("generates").object
    };
    let p256 = crate::crypto::Curve::P256.params_der();
    // Only where its switch is open.
    let made_des3 = world.hsm.generate_key(caller, session, plain(CKM_DES3_KEY_GEN), vec![]);
    Keys {
        rsa: pair(CKM_RSA_PKCS_KEY_PAIR_GEN, vec![Attr::number(CKA_MODULUS_BITS, 2048)]),
        ec: pair(CKM_EC_KEY_PAIR_GEN, vec![Attr::bytes(CKA_EC_PARAMS, p256)]),
        edwards: pair(CKM_EC_EDWARDS_KEY_PAIR_GEN, vec![Attr::bytes(CKA_EC_PARAMS, crate::crypto::eddsa::PARAMS_DER)]),
        slh_dsa: pair(CKM_SLH_DSA_KEY_PAIR_GEN, vec![Attr::number(CKA_PARAMETER_SET, CKP_SLH_DSA_SHA2_128F.0)]),
        ml_dsa: pair(CKM_ML_DSA_KEY_PAIR_GEN, vec![Attr::number(CKA_PARAMETER_SET, CKP_ML_DSA_44.0)]),
        aes: secret(CKM_AES_KEY_GEN, 32, &[]),
        des3: made_des3.map_or(0, |key| key.object),
        aes_mac: secret(CKM_AES_KEY_GEN, 32, &[CKA_SIGN, CKA_VERIFY]),
        xts: secret(CKM_AES_XTS_KEY_GEN, 64, &[]),
        secret: secret(CKM_GENERIC_SECRET_KEY_GEN, 32, &[]),
        master: secret(CKM_GENERIC_SECRET_KEY_GEN, 48, &[]),
    }
}

fn parameter_for(row: &crate::mechanism::row::Row) -> Parameter {
    let hash = |scheme| match scheme {
        Scheme::RsaPss(Some(crate::crypto::Hash::Sha1)) => (CKM_SHA_1, ck::parameter::CKG_MGF1_SHA1),
        Scheme::RsaPss(Some(crate::crypto::Hash::Sha224)) => (CKM_SHA224, ck::parameter::CKG_MGF1_SHA224),
        Scheme::RsaPss(Some(crate::crypto::Hash::Sha384)) => (CKM_SHA384, ck::parameter::CKG_MGF1_SHA384),
        Scheme::RsaPss(Some(crate::crypto::Hash::Sha512)) => (CKM_SHA512, ck::parameter::CKG_MGF1_SHA512),
        Scheme::RsaPss(Some(crate::crypto::Hash::Sha3_224)) => (CKM_SHA3_224, ck::parameter::CKG_MGF1_SHA3_224),
        Scheme::RsaPss(Some(crate::crypto::Hash::Sha3_256)) => (CKM_SHA3_256, ck::parameter::CKG_MGF1_SHA3_256),
        Scheme::RsaPss(Some(crate::crypto::Hash::Sha3_384)) => (CKM_SHA3_384, ck::parameter::CKG_MGF1_SHA3_384),
        Scheme::RsaPss(Some(crate::crypto::Hash::Sha3_512)) => (CKM_SHA3_512, ck::parameter::CKG_MGF1_SHA3_512),
        _ => (CKM_SHA256, ck::parameter::CKG_MGF1_SHA256),
    };
    match row.scheme {
        Scheme::RsaPss(_) => {
            let (hash, mgf) = hash(row.scheme);
            Parameter::RsaPss { hash: hash.0, mgf: mgf.0, salt_len: 20 }
        }
        Scheme::RsaOaep => {
            let (hash, mgf) = hash(row.scheme);
            Parameter::RsaOaep { hash: hash.0, mgf: mgf.0, source: 1, label: vec![] }
        }
        Scheme::HashMlDsa(None) | Scheme::HashSlhDsa(None) => {
            Parameter::HashSignContext { hedge: 0, context: b"context".to_vec(), hash: CKM_SHA256.0 }
        }
        Scheme::AesGcm => Parameter::Gcm { iv: vec![7; 12], aad: b"aad".to_vec(), tag_bits: 128 },
        Scheme::AesCcm => Parameter::Ccm { data_len: 32, nonce: vec![5; 12], aad: b"aad".to_vec(), mac_len: 16 },
        Scheme::AesGmac | Scheme::AesXts => {
            let len = if row.scheme == Scheme::AesXts { 16 } else { 12 };
            Parameter::Bytes(vec![3; len])
        }
        Scheme::TlsMac => Parameter::TlsMac(crate::TlsMacParams { hash: CKM_SHA256.0, len: 12, side: 2 }),
        Scheme::Pbkdf2 => Parameter::Pbkdf2(crate::Pbkdf2Params {
            salt_source: 1,
            salt: b"salt".to_vec(),
            iterations: 2,
            prf: ck::parameter::CKP_PKCS5_PBKD2_HMAC_SHA256.0,
            prf_data: vec![],
            password: crate::Password(b"password".to_vec().into()),
        }),
        Scheme::AesCtr => Parameter::Ctr { counter_bits: 32, block: vec![6; 16] },
        Scheme::AesCbc { .. } => Parameter::Bytes(vec![9; 16]),
        Scheme::Des3Cbc { .. } => Parameter::Bytes(vec![9; 8]),
        Scheme::Hmac(_) | Scheme::AesCmac if row.parameter == crate::mechanism::params::ParameterKind::MacLen => {
            Parameter::MacLen(16)
        }
        _ => Parameter::None,
    }
}

fn keys_for(row: &crate::mechanism::row::Row, keys: &Keys) -> (u64, u64) {
    match row.key_types.first() {
        Some(&CKK_RSA) => keys.rsa,
        Some(&CKK_EC) => keys.ec,
        Some(&CKK_EC_EDWARDS) => keys.edwards,
        Some(&CKK_ML_DSA) => keys.ml_dsa,
        Some(&CKK_SLH_DSA) => keys.slh_dsa,
        Some(&CKK_AES_XTS) => (keys.xts, keys.xts),
        Some(&CKK_DES3) => (keys.des3, keys.des3),
        Some(_) if row.scheme == Scheme::TlsMac => (keys.master, keys.master),
        Some(&CKK_AES) if row.flags & ck::flags::mechanism::CKF_SIGN != 0 => (keys.aes_mac, keys.aes_mac),
        Some(&CKK_AES) => (keys.aes, keys.aes),
        _ => (keys.secret, keys.secret),
    }
}

#[test]
fn every_signing_row_verifies_its_own_output_and_nothing_else() {
    let world = wide_world();
    let caller = world.caller(10);
    let session = world.user(&caller);
    let keys = keys(&world, &caller, session);
    for row in TABLE.iter().filter(|row| row.flags & ck::flags::mechanism::CKF_SIGN != 0) {
        let (public, private) = keys_for(row, &keys);
        let begin = |key| Begin { mechanism: call(row.number, parameter_for(row)), key };
        // 32 bytes: also a SHA-256 digest for the mechanisms that sign one.
        let data = [0x5a; 32];
        let sign =
            |data: &[u8]| world.hsm.one_shot(&caller, session, OperationKind::Sign, begin(private), data, &[], None);
        if row.class == Class::VerifyOnly {
            assert_eq!(sign(&data).err().map(|error| error.kind()), Some(Kind::MechanismInvalid), "{}", row.number);
            continue;
        }
        let signature = sign(&data).unwrap_or_else(|error| panic!("{} signs: {error:?}", row.number));
        let verify = |data: &[u8], signature: &[u8]| {
            world.hsm.one_shot(&caller, session, OperationKind::Verify, begin(public), data, signature, None)
        };
        verify(&data, &signature).unwrap_or_else(|error| panic!("{} verifies: {error:?}", row.number));
        let mut wrong = signature.clone();
        wrong[3] ^= 1;
        for (data, signature) in [(&data[..], &wrong[..]), (&[0x5b; 32][..], &signature[..])] {
            let refused = verify(data, signature).err().map(|error| error.kind());
            assert_eq!(refused, Some(Kind::SignatureInvalid), "{}", row.number);
        }
        let short = verify(&data, &signature[1..]).err().map(|error| error.kind());
        assert_eq!(short, Some(Kind::SignatureLength), "{}", row.number);
    }
}

#[test]
fn what_is_legacy_is_hidden_and_refused_until_its_switch_is_open() {
    let legacy = |number| TABLE.iter().any(|row| row.number.0 == number && row.class == Class::Legacy);
    for (world, offered, refusal) in [(world(), 0, Some(Kind::AttributeValue)), (wide_world(), 7, None)] {
        let caller = world.caller(10);
        let session = world.user(&caller);
        let views = world.hsm.mechanisms(&caller, 0).expect("lists");
        assert_eq!(views.iter().filter(|view| legacy(view.number)).count(), offered);
        let imported = |len, more: &[Attr]| {
            let kind = [Attr::number(CKA_CLASS, CKO_SECRET_KEY.0), Attr::number(CKA_KEY_TYPE, CKK_DES3.0)];
            let template = [&kind[..], &[Attr::bytes(CKA_VALUE, vec![0x10; len])], more].concat();
            world.hsm.create_object(&caller, session, template).err().map(|error| error.kind())
        };
        // Even parity: old files have such keys.
        assert_eq!(imported(24, &[]), refusal);
        assert_eq!(imported(16, &[]), Some(Kind::AttributeValue));
        assert_eq!(imported(24, &[Attr::number(CKA_VALUE_LEN, 24)]), Some(Kind::AttributeType));
    }
}

#[test]
fn a_triple_des_key_has_odd_parity_and_no_length() {
    let world = wide_world();
    let caller = world.caller(10);
    let session = world.user(&caller);
    let made = |template| world.hsm.generate_key(&caller, session, plain(CKM_DES3_KEY_GEN), template);
    let refused = made(vec![Attr::number(CKA_VALUE_LEN, 24)]).err().map(|error| error.kind());
    assert_eq!(refused, Some(Kind::AttributeType));
    let shown = vec![Attr::flag(CKA_SENSITIVE, false), Attr::flag(CKA_EXTRACTABLE, true)];
    let key = made(shown).expect("generates").object;
    let read = world.hsm.get_attributes(&caller, session, key, &[CKA_VALUE.0, CKA_VALUE_LEN.0]).expect("reads");
    let Value::Bytes(value) = &read[0].attribute.value else { panic!("no value: {:?}", read[0].attribute.kind) };
    assert_eq!(value.len(), 24);
    assert!(value.iter().all(|byte| byte.count_ones() % 2 == 1));
    assert!(!matches!(read[1].attribute.value, Value::Ulong(_)));
}

#[test]
fn rsa_without_padding_is_hidden_until_its_switch_is_open() {
    for (world, offered) in [(world(), false), (wide_world(), true)] {
        let caller = world.caller(10);
        let views = world.hsm.mechanisms(&caller, 0).expect("lists");
        assert_eq!(views.iter().any(|view| view.number == CKM_RSA_X_509.0), offered);
    }
}

#[test]
fn every_cipher_row_opens_its_own_output() {
    let world = wide_world();
    let caller = world.caller(10);
    let session = world.user(&caller);
    let keys = keys(&world, &caller, session);
    for row in TABLE.iter().filter(|row| row.flags & ck::flags::mechanism::CKF_ENCRYPT != 0) {
        let (public, private) = keys_for(row, &keys);
        let begin = |key| Begin { mechanism: call(row.number, parameter_for(row)), key };
        let data = [0x5a; 32];
        let run = |kind, key, data: &[u8]| world.hsm.one_shot(&caller, session, kind, begin(key), data, &[], None);
        let sealed =
            run(OperationKind::Encrypt, public, &data).unwrap_or_else(|error| panic!("{}: {error:?}", row.number));
        let opened =
            run(OperationKind::Decrypt, private, &sealed).unwrap_or_else(|error| panic!("{}: {error:?}", row.number));
        // Without padding a plaintext comes back as long as the modulus.
        let opened = if row.scheme == Scheme::RsaRaw { &opened[256 - data.len()..] } else { &opened[..] };
        assert_eq!(opened, data, "{}", row.number);
        if row.multi_part {
            let pieces = |kind, key, data: &[u8]| {
                let mut output = Vec::new();
                for (at, piece) in data.chunks(7).enumerate() {
                    let begin = (at == 0).then(|| begin(key));
                    output.extend(world.hsm.update(&caller, session, kind, begin, piece, None).expect("updates"));
                }
                output.extend(world.hsm.finish(&caller, session, kind, None, &[], None).expect("finishes"));
                output
            };
            assert_eq!(pieces(OperationKind::Encrypt, public, &data), sealed, "{}", row.number);
            assert_eq!(pieces(OperationKind::Decrypt, private, &sealed), data, "{}", row.number);
        }
    }
}

#[test]
fn every_generating_row_makes_a_key_of_its_type() {
    let world = wide_world();
    let caller = world.caller(10);
    let session = world.user(&caller);
    for row in TABLE {
        let made = if row.flags & ck::flags::mechanism::CKF_GENERATE != 0 {
            let has_len = row.key_types != [CKK_DES3];
            let template = has_len.then(|| Attr::number(CKA_VALUE_LEN, 32)).into_iter().collect();
            let mechanism = call(row.number, parameter_for(row));
            world.hsm.generate_key(&caller, session, mechanism, template).expect("generates").object
        } else if matches!(row.scheme, Scheme::EcPair) {
            let curve = vec![Attr::bytes(CKA_EC_PARAMS, crate::crypto::Curve::P256.params_der())];
            let pair = world.hsm.generate_key_pair(&caller, session, plain(row.number), curve, vec![]);
            pair.expect("generates").1.object
        } else {
            continue;
        };
        let read = world.hsm.get_attributes(&caller, session, made, &[CKA_KEY_TYPE.0, CKA_KEY_GEN_MECHANISM.0]);
        let values: Vec<_> = read.expect("reads").into_iter().map(|read| read.attribute.value).collect();
        assert_eq!(values, [Value::Ulong(row.key_types[0].0), Value::Ulong(row.number.0)], "{}", row.number);
    }
}

#[test]
fn a_length_that_a_mode_cannot_take_is_named() {
    let world = world();
    let caller = world.caller(10);
    let session = world.user(&caller);
    let key = keys(&world, &caller, session).aes;
    let two_blocks = Parameter::Ctr { counter_bits: 1, block: vec![0; 16] };
    let no_counter = Parameter::Ctr { counter_bits: 0, block: vec![0; 16] };
    let rows = [
        (CKM_AES_ECB, Parameter::None, 31, Kind::DataLength, Kind::EncryptedDataLength),
        (CKM_AES_CBC, Parameter::Bytes(vec![0; 16]), 31, Kind::DataLength, Kind::EncryptedDataLength),
        (CKM_AES_CTR, two_blocks, 33, Kind::DataLength, Kind::EncryptedDataLength),
        (CKM_AES_CTR, no_counter, 1, Kind::MechanismParam, Kind::MechanismParam),
    ];
    for (mechanism, parameter, len, encrypt, decrypt) in rows {
        for (kind, error) in [(OperationKind::Encrypt, encrypt), (OperationKind::Decrypt, decrypt)] {
            let begin = Begin { mechanism: call(mechanism, parameter.clone()), key };
            let refused = world.hsm.one_shot(&caller, session, kind, begin, &vec![0; len], &[], None);
            assert_eq!(refused.err().map(|refused| refused.kind()), Some(error), "{mechanism} {kind:?}");
        }
    }
}

#[test]
fn a_short_buffer_gets_the_length_and_nothing_is_lost() {
    let world = world();
    let caller = world.caller(10);
    let session = world.user(&caller);
    let template = vec![Attr::number(CKA_VALUE_LEN, 32)];
    let key = world.hsm.generate_key(&caller, session, plain(CKM_AES_KEY_GEN), template).expect("generates").object;
    let begin = || Some(Begin { mechanism: call(CKM_AES_CBC_PAD, Parameter::Bytes(vec![1; 16])), key });
    let sealed = world
        .hsm
        .one_shot(&caller, session, OperationKind::Encrypt, begin().expect("some"), b"sixteen bytes and", &[], None)
        .expect("encrypts");
    let (kind, hsm) = (OperationKind::Decrypt, &world.hsm);
    let refused = hsm.update(&caller, session, kind, begin(), &sealed, Some(3)).expect_err("too small");
    assert_eq!((refused.kind(), refused.needed()), (Kind::BufferTooSmall, Some(16)));
    let head = hsm.update(&caller, session, kind, begin(), &sealed, Some(16)).expect("fits");
    let refused = hsm.finish(&caller, session, kind, None, &[], Some(0)).expect_err("too small");
    assert_eq!((refused.kind(), refused.needed()), (Kind::BufferTooSmall, Some(1)));
    let tail = hsm.finish(&caller, session, kind, None, &[], Some(1)).expect("fits");
    assert_eq!([head, tail].concat(), b"sixteen bytes and");
    let over = hsm.finish(&caller, session, kind, None, &[], None).expect_err("over");
    assert_eq!(over.kind(), Kind::OperationNotInitialized);
}

#[test]
fn both_sides_of_an_ecdh_agree() {
    let world = world();
    let caller = world.caller(10);
    let session = world.user(&caller);
    let (one, two) = (keys(&world, &caller, session).ec, keys(&world, &caller, session).ec);
    let point = |key| {
        let read = world.hsm.get_attributes(&caller, session, key, &[CKA_EC_POINT.0]).expect("reads");
        read[0].attribute.value.as_bytes().expect("bytes").to_vec()
    };
    let derive_by = |mechanism, key, public| {
        let parameter = Parameter::Ecdh1 { kdf: 1, shared_data: vec![], public_data: point(public) };
        let template = vec![
            Attr::number(CKA_CLASS, CKO_SECRET_KEY.0),
            Attr::number(CKA_KEY_TYPE, CKK_GENERIC_SECRET.0),
            Attr::flag(CKA_SENSITIVE, false),
            Attr::flag(CKA_EXTRACTABLE, true),
        ];
        let made = world.hsm.derive_key(&caller, session, call(mechanism, parameter), key, template);
        let made = first(made.expect("derives"));
        let read = world.hsm.get_attributes(&caller, session, made, &[CKA_VALUE.0]).expect("reads");
        read[0].attribute.value.as_bytes().expect("readable").to_vec()
    };
    let derive = |key, public| derive_by(CKM_ECDH1_DERIVE, key, public);
    let secret = derive(one.1, two.0);
    assert_eq!(secret, derive_by(CKM_ECDH1_COFACTOR_DERIVE, two.1, one.0), "the cofactor is one");
    assert_eq!(secret.len(), 32);
    assert_eq!(secret, derive(two.1, one.0));
    let parameter = Parameter::Ecdh1 { kdf: 1, shared_data: vec![], public_data: vec![4; 65] };
    let refused = world.hsm.derive_key(&caller, session, call(CKM_ECDH1_DERIVE, parameter), one.1, vec![]);
    assert_eq!(refused.err().map(|error| error.kind()), Some(Kind::PublicKeyInvalid));
}
