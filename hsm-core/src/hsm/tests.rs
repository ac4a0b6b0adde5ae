//! The front desk from the narrowest door: two applications, one token in memory, every mechanism of the table.

use std::sync::Arc;

use ck::attribute::*;
use ck::flags::{session as cf, user};
use ck::mechanism::*;
use ck::object::*;
use ck::{Mechanism, ObjectClass};

use super::Hsm;
use crate::config::{AlgorithmsTable, AuditTable, PolicyTable, Profile, SecurityTable, TokenTable, Written};
use crate::mechanism::table::{Class, Scheme, TABLE};
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

fn parameter_for(row: &crate::mechanism::table::Row) -> Parameter {
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

fn keys_for(row: &crate::mechanism::table::Row, keys: &Keys) -> (u64, u64) {
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
fn another_application_sees_no_session_no_login_and_no_session_object() {
    let world = world();
    let (one, two) = (world.caller(10), world.caller(11));
    let session = world.user(&one);
    let template = vec![Attr::number(CKA_VALUE_LEN, 32)];
    let key = world.hsm.generate_key(&one, session, plain(CKM_AES_KEY_GEN), template).expect("generates").object;
    let kind = |result: crate::Result<_>| result.err().map(|error: crate::Error| error.kind());
    assert_eq!(kind(world.hsm.session_info(&two, session).map(drop)), Some(Kind::NoSuchSession));
    let other = world.session(&two);
    assert_eq!(kind(world.hsm.object_size(&two, other, key).map(drop)), Some(Kind::NoSuchObject));
    assert_eq!(world.hsm.find(&two, other, vec![], 8).expect("finds").objects, Vec::<u64>::new());
    assert!(world.hsm.join(peer(11), one.application()).is_err());
    world.hsm.login(&two, other, user::CKU_USER, pin(PIN)).expect("logs in by itself");
    assert_eq!(kind(world.hsm.object_size(&two, other, key).map(drop)), Some(Kind::NoSuchObject));
}

#[test]
fn an_application_that_vanishes_leaves_nothing() {
    let world = world();
    let caller = world.caller(10);
    world.user(&caller);
    assert_eq!((world.hsm.status().applications, world.hsm.status().sessions), (1, 1));
    drop(caller);
    assert_eq!((world.hsm.status().applications, world.hsm.status().sessions), (0, 0));
}

#[test]
fn a_private_token_object_is_gone_after_logout_and_back_after_login() {
    let world = world();
    let caller = world.caller(10);
    let session = world.user(&caller);
    let template = vec![Attr::number(CKA_VALUE_LEN, 32), Attr::flag(CKA_TOKEN, true)];
    let key = world.hsm.generate_key(&caller, session, plain(CKM_AES_KEY_GEN), template).expect("generates").object;
    world.hsm.logout(&caller, session).expect("logs out");
    assert!(world.hsm.object_size(&caller, session, key).is_err());
    world.hsm.login(&caller, session, user::CKU_USER, pin(PIN)).expect("logs in");
    assert_eq!(world.hsm.find(&caller, session, vec![], 0).expect("finds").objects, [key]);
}

#[test]
fn logout_cancels_every_operation() {
    let world = world();
    let caller = world.caller(10);
    let session = world.user(&caller);
    let keys = keys(&world, &caller, session);
    let begin = Some(Begin { mechanism: plain(CKM_SHA256_HMAC), key: keys.secret });
    world.hsm.update(&caller, session, OperationKind::Sign, begin, b"data", None).expect("opens");
    world.hsm.logout(&caller, session).expect("logs out");
    let refused = world.hsm.finish(&caller, session, OperationKind::Sign, None, &[], None).expect_err("cancelled");
    assert_eq!(refused.kind(), Kind::OperationNotInitialized);
}

#[test]
fn a_wrong_so_pin_changes_nothing_at_init_token() {
    let world = world();
    let caller = world.caller(10);
    let refused = world.hsm.init_token(&caller, 0, pin(b"not the so pin"), "other").expect_err("refused");
    assert_eq!(refused.kind(), Kind::PinIncorrect);
    assert_eq!(world.hsm.slots(&caller).expect("slots")[0].token.label.trim_end(), "test");
    let session = world.user(&caller);
    let refused = world.hsm.init_token(&caller, 0, pin(SO_PIN), "other").expect_err("in use");
    assert_eq!(refused.kind(), Kind::SessionExists);
    world.hsm.close_session(&caller, session).expect("closes");
    world.hsm.init_token(&caller, 0, pin(SO_PIN), "other").expect("the right PIN");
    assert_eq!(world.hsm.slots(&caller).expect("slots")[0].token.label.trim_end(), "other");
}

#[test]
fn the_so_resets_the_user_pin_and_no_object_is_lost() {
    let world = world();
    let caller = world.caller(10);
    let session = world.user(&caller);
    let template = vec![Attr::number(CKA_VALUE_LEN, 16), Attr::flag(CKA_TOKEN, true)];
    let key = world.hsm.generate_key(&caller, session, plain(CKM_AES_KEY_GEN), template).expect("generates").object;
    world.hsm.logout(&caller, session).expect("logs out");
    world.hsm.login(&caller, session, user::CKU_SO, pin(SO_PIN)).expect("SO logs in");
    world.hsm.init_pin(&caller, session, pin(b"another-pin-1")).expect("sets the PIN");
    world.hsm.logout(&caller, session).expect("logs out");
    assert!(world.hsm.login(&caller, session, user::CKU_USER, pin(PIN)).is_err());
    world.hsm.login(&caller, session, user::CKU_USER, pin(b"another-pin-1")).expect("logs in");
    assert_eq!(world.hsm.find(&caller, session, vec![], 0).expect("finds").objects, [key]);
}

#[test]
fn a_sensitive_key_leaves_only_under_a_key_that_does_nothing_but_wrap() {
    let world = world();
    let caller = world.caller(10);
    let session = world.user(&caller);
    let aes = |extra: Vec<Attr>| {
        let template = [vec![Attr::number(CKA_VALUE_LEN, 32)], extra].concat();
        world.hsm.generate_key(&caller, session, plain(CKM_AES_KEY_GEN), template).expect("generates").object
    };
    let off = |kinds: &[ck::Attribute]| kinds.iter().map(|&kind| Attr::flag(kind, false)).collect::<Vec<_>>();
    let target = aes(vec![Attr::flag(CKA_EXTRACTABLE, true)]);
    let general = aes(vec![]);
    let wrapping = aes(off(&[CKA_ENCRYPT, CKA_DECRYPT]));
    let wrap = |with| world.hsm.wrap_key(&caller, session, plain(CKM_AES_KEY_WRAP), with, target, None);
    assert_eq!(wrap(general).err().map(|error| error.kind()), Some(Kind::KeyNotWrappable));
    let wrapped = wrap(wrapping).expect("wraps");
    let template = |extra: Vec<Attr>| {
        let kind = vec![Attr::number(CKA_CLASS, CKO_SECRET_KEY.0), Attr::number(CKA_KEY_TYPE, CKK_AES.0)];
        [kind, extra].concat()
    };
    let unwrap =
        |extra| world.hsm.unwrap_key(&caller, session, plain(CKM_AES_KEY_WRAP), wrapping, &wrapped, template(extra));
    let readable = vec![Attr::flag(CKA_SENSITIVE, false), Attr::flag(CKA_EXTRACTABLE, true)];
    assert_eq!(unwrap(readable).err().map(|error| error.kind()), Some(Kind::TemplateInconsistent));
    let back = unwrap(vec![]).expect("unwraps").object;
    let read = world.hsm.get_attributes(&caller, session, back, &[CKA_VALUE.0, CKA_LOCAL.0]).expect("reads");
    assert_eq!(read[0].rv, ck::rv::CKR_ATTRIBUTE_SENSITIVE);
    assert_eq!(read[1].attribute.value, Value::Bool(false));
}

/// A world in which CBC and PKCS#1 v1.5 wrap too, and what is unwrapped may be read.
fn wrapping_world() -> World {
    world_with(PolicyTable {
        profile: Profile::Compat,
        cbc_unwrap: Some(true),
        rsa_v15_unwrap: Some(true),
        unwrap_secrecy_inherit: Some(false),
        gcm_caller_iv: Some(true),
        ..PolicyTable::default()
    })
}

fn wrap_parameter(row: &crate::mechanism::table::Row) -> Parameter {
    let (hash, mgf) = (CKM_SHA384.0, ck::parameter::CKG_MGF1_SHA384.0);
    match row.scheme {
        Scheme::RsaAesWrap => Parameter::RsaAesWrap { aes_bits: 256, hash, mgf, source: 1, label: vec![4] },
        Scheme::RsaOaep => Parameter::RsaOaep { hash, mgf, source: 1, label: vec![] },
        Scheme::EcdhAesWrap => Parameter::EcdhAesWrap {
            aes_bits: 256,
            kdf: ck::parameter::CKD_SHA256_KDF.0,
            shared_data: b"both".to_vec(),
        },
        _ => parameter_for(row),
    }
}

#[test]
fn every_wrapping_row_brings_a_key_back() {
    let world = wrapping_world();
    let caller = world.caller(10);
    let session = world.user(&caller);
    let pair = |mechanism, public: Vec<Attr>, private: Vec<Attr>| {
        let made = world.hsm.generate_key_pair(&caller, session, plain(mechanism), public, private).expect("a pair");
        (made.0.object, made.1.object)
    };
    let p256 = Attr::bytes(CKA_EC_PARAMS, crate::crypto::Curve::P256.params_der());
    let (wrap, unwrap) = (Attr::flag(CKA_WRAP, true), Attr::flag(CKA_UNWRAP, true));
    let exposed = [Attr::flag(CKA_SENSITIVE, false), Attr::flag(CKA_EXTRACTABLE, true)];
    let rsa = pair(CKM_RSA_PKCS_KEY_PAIR_GEN, vec![Attr::number(CKA_MODULUS_BITS, 2048)], vec![]);
    let ec = pair(CKM_EC_KEY_PAIR_GEN, vec![p256.clone(), wrap], vec![unwrap]);
    let aes = |extra: &[Attr]| {
        let template = [&[Attr::number(CKA_VALUE_LEN, 32)], extra].concat();
        world.hsm.generate_key(&caller, session, plain(CKM_AES_KEY_GEN), template).expect("a key").object
    };
    let wrapping = aes(&[]);
    let targets = [
        (CKO_SECRET_KEY, CKK_AES, aes(&exposed)),
        (CKO_PRIVATE_KEY, CKK_EC, pair(CKM_EC_KEY_PAIR_GEN, vec![p256], exposed.to_vec()).1),
    ];
    let value = |key| world.hsm.get_attributes(&caller, session, key, &[CKA_VALUE.0]).expect("reads").remove(0);
    let mut brought_back = 0;
    for row in TABLE.iter().filter(|row| row.flags & ck::flags::mechanism::CKF_WRAP != 0) {
        let (public, private) = match row.key_types.first() {
            Some(&CKK_RSA) => rsa,
            Some(&CKK_EC) => ec,
            _ => (wrapping, wrapping),
        };
        let call = || call(row.number, wrap_parameter(row));
        for (class, key_type, target) in targets {
            let wrapped = match world.hsm.wrap_key(&caller, session, call(), public, target, None) {
                Ok(wrapped) => wrapped,
                // Not every mechanism takes a structure of 138 bytes.
                Err(error) if class == CKO_PRIVATE_KEY => {
                    assert!(matches!(error.kind(), Kind::KeyNotWrappable | Kind::KeySize), "{} {error:?}", row.number);
                    continue;
                }
                Err(error) => panic!("{} wraps: {error:?}", row.number),
            };
            for room in [0, wrapped.len() as u64 - 1] {
                let records = world.journal().matches("\"wrap_key\"").count();
                let query =
                    world.hsm.wrap_key(&caller, session, call(), public, target, Some(room)).expect_err("no room");
                assert_eq!((query.kind(), query.needed()), (Kind::BufferTooSmall, Some(wrapped.len() as u64)));
                let after = world.journal().matches("\"wrap_key\"").count();
                assert_eq!(after, records, "{}: a question is no use of a key", row.number);
            }
            let kind = [Attr::number(CKA_CLASS, class.0), Attr::number(CKA_KEY_TYPE, key_type.0)];
            let template = [&kind[..], &exposed].concat();
            let back = world.hsm.unwrap_key(&caller, session, call(), private, &wrapped, template.clone());
            let back = back.unwrap_or_else(|error| panic!("{} unwraps: {error:?}", row.number)).object;
            assert!(value(back).attribute == value(target).attribute, "{}", row.number);
            brought_back += 1;
            let mut wrong = wrapped;
            let last = wrong.len() - 1;
            wrong[last] ^= 1;
            let again = world.hsm.unwrap_key(&caller, session, call(), private, &wrong, template);
            let unnoticed = matches!(row.scheme, Scheme::RsaPkcs1(None) | Scheme::AesCbc { pad: false });
            assert_eq!(again.is_ok(), unnoticed, "{}", row.number);
        }
    }
    assert!(brought_back >= 14, "{brought_back}");
}

#[test]
fn a_key_with_bound_attributes_comes_back_with_them() {
    let world = world();
    let caller = world.caller(10);
    let session = world.user(&caller);
    let aes = |extra: Vec<Attr>| {
        let template = [vec![Attr::number(CKA_VALUE_LEN, 32)], extra].concat();
        world.hsm.generate_key(&caller, session, plain(CKM_AES_KEY_GEN), template).expect("a key").object
    };
    let off = |kinds: &[ck::Attribute]| kinds.iter().map(|&kind| Attr::flag(kind, false)).collect::<Vec<_>>();
    let wrapping = aes(off(&[CKA_ENCRYPT, CKA_DECRYPT]));
    let bound =
        vec![Attr::flag(CKA_EXTRACTABLE, true), Attr::flag(CKA_DECRYPT, false), Attr::bytes(CKA_END_DATE, "29991231")];
    let target = aes(bound.clone());
    let wrapped =
        world.hsm.wrap_key(&caller, session, plain(CKM_CRATON_AEAD_WRAP), wrapping, target, None).expect("wraps");
    let unwrap = |template: Vec<Attr>| {
        world.hsm.unwrap_key(&caller, session, plain(CKM_CRATON_AEAD_WRAP), wrapping, &wrapped, template)
    };
    for contrary in [
        Attr::flag(CKA_DECRYPT, true),
        Attr::flag(CKA_SENSITIVE, false),
        Attr::number(CKA_KEY_TYPE, CKK_GENERIC_SECRET.0),
        Attr::bytes(CKA_END_DATE, ""),
    ] {
        let refused = unwrap(vec![contrary.clone()]).err().map(|error| error.kind());
        assert_eq!(refused, Some(Kind::TemplateInconsistent), "{}", contrary.kind);
    }
    let back = unwrap(vec![Attr::bytes(CKA_LABEL, "again")]).expect("unwraps").object;
    for attr in
        [bound, vec![Attr::flag(CKA_SENSITIVE, true), Attr::bytes(CKA_LABEL, "again"), Attr::flag(CKA_LOCAL, false)]]
            .concat()
    {
        let read = world.hsm.get_attributes(&caller, session, back, &[attr.kind.0]).expect("reads").remove(0);
        assert!(read.attribute == attr, "{}", attr.kind);
    }
}

#[test]
fn a_pkcs1_blob_that_does_not_open_gives_a_key_and_no_error() {
    let world = wrapping_world();
    let caller = world.caller(10);
    let session = world.user(&caller);
    let (public, private) = keys(&world, &caller, session).rsa;
    let encrypt = |kind, padded: &[u8]| {
        let begin = Begin { mechanism: plain(kind), key: public };
        world.hsm.one_shot(&caller, session, OperationKind::Encrypt, begin, padded, &[], None).expect("encrypts")
    };
    let blobs = [
        encrypt(CKM_RSA_PKCS, &[5; 32]),
        encrypt(CKM_RSA_PKCS, &[5; 31]),
        encrypt(CKM_RSA_PKCS, &[]),
        vec![0x17; 256],
        vec![0x18; 256],
    ];
    let template = |len: Option<u64>| {
        let mut template = vec![Attr::number(CKA_CLASS, CKO_SECRET_KEY.0), Attr::number(CKA_KEY_TYPE, CKK_AES.0)];
        template.extend(len.map(|len| Attr::number(CKA_VALUE_LEN, len)));
        template
    };
    for blob in &blobs {
        for len in [None, Some(16), Some(32)] {
            let made = world.hsm.unwrap_key(&caller, session, plain(CKM_RSA_PKCS), private, blob, template(len));
            let made = made.expect("one outcome").object;
            let shown = world.hsm.get_attributes(&caller, session, made, &[CKA_VALUE_LEN.0]).expect("reads").remove(0);
            let shown = shown.attribute.value.as_ulong().expect("a length");
            assert!(len.map_or([16, 24, 32].contains(&shown), |len| len == shown));
        }
    }
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

#[test]
fn the_journal_names_each_use_of_a_key_and_holds_no_secret() {
    let world = world();
    let caller = world.caller(10);
    let session = world.user(&caller);
    let keys = keys(&world, &caller, session);
    let begin = Begin { mechanism: plain(CKM_ECDSA), key: keys.ec.1 };
    world.hsm.one_shot(&caller, session, OperationKind::Sign, begin, &[1; 32], &[], None).expect("signs");
    let wrong = world.caller(12);
    let other = world.session(&wrong);
    assert!(world.hsm.login(&wrong, other, user::CKU_USER, pin(b"wrong-pin-99")).is_err());
    let journal = world.journal();
    for needle in ["\"init_token\"", "\"login\"", "\"sign\"", "CKM_ECDSA", "\"generate_key_pair\"", "CKR_PIN_INCORRECT"]
    {
        assert!(journal.contains(needle), "{needle} is missing");
    }
    for secret in ["user-pin-123", "so-pin-12345", "wrong-pin-99"] {
        assert!(!journal.contains(secret));
    }
}

#[test]
fn no_plaintext_and_no_oracle_answer_goes_out_without_a_record() {
    let world = world();
    let caller = world.caller(10);
    let session = world.user(&caller);
    let key = keys(&world, &caller, session).aes;
    let begin = || Begin { mechanism: call(CKM_AES_CBC_PAD, Parameter::Bytes(vec![1; 16])), key };
    let (hsm, kind) = (&world.hsm, OperationKind::Decrypt);
    let sealed =
        hsm.one_shot(&caller, session, OperationKind::Encrypt, begin(), &[7; 40], &[], None).expect("encrypts");
    let records = || world.journal().matches("\"op\":\"decrypt\"").count();
    assert_eq!(records(), 0);
    let head = hsm.update(&caller, session, kind, Some(begin()), &sealed, None).expect("gives plaintext");
    assert_eq!((head.len(), records()), (32, 1));
    let refused = hsm.one_shot(&caller, session, kind, begin(), &sealed, &[], Some(0)).expect_err("does not fit");
    assert_eq!((refused.kind(), records()), (Kind::BufferTooSmall, 2));
}

#[test]
fn a_backup_is_recorded_before_its_first_byte() {
    struct Watch<'a>(&'a World, bool);
    impl std::io::Write for Watch<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.1 = self.0.journal().contains("\"op\":\"backup\"");
            assert!(self.1, "bytes left before the record");
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let world = world();
    let mut watch = Watch(&world, false);
    world.hsm.admin_backup(&peer(1), &crate::TokenName::default(), pin(SO_PIN), &[], &mut watch).expect("a backup");
    assert!(watch.1);
}

#[test]
fn a_key_made_in_a_public_session_needs_a_login() {
    let world = world();
    let caller = world.caller(10);
    let session = world.session(&caller);
    let template = vec![Attr::number(CKA_VALUE_LEN, 16)];
    let refused = world.hsm.generate_key(&caller, session, plain(CKM_AES_KEY_GEN), template);
    assert_eq!(refused.err().map(|error| error.kind()), Some(Kind::NotLoggedIn));
    let data = vec![Attr::number(CKA_CLASS, ObjectClass::from(CKO_DATA.0).0), Attr::bytes(CKA_VALUE, b"v".to_vec())];
    world.hsm.create_object(&caller, session, data).expect("public data needs none");
}

/// The user of this machine to whom a row gives the role beside those of an application.
fn trusted(pid: u32) -> Peer {
    let mut grant = crate::Grant::token_service();
    grant.roles.push(crate::ClientRole::AutoLogin);
    Peer { grant: Arc::new(grant), ..peer(pid) }
}

#[test]
fn without_a_pin_only_those_log_in_who_may_and_only_as_the_user() {
    use ck::flags::token::CKF_PROTECTED_AUTHENTICATION_PATH;
    let world = world();
    let (trusted, other) = (world.hsm.attach(trusted(7), "test").expect("attaches"), world.caller(8));
    let path = |caller: &Caller| {
        world.hsm.slots(caller).expect("slots")[0].token.flags & CKF_PROTECTED_AUTHENTICATION_PATH != 0
    };
    let (session, others) = (world.session(&trusted), world.session(&other));
    let log_in =
        |caller, session, user| world.hsm.login_without_pin(caller, session, user).err().map(|error| error.kind());
    assert_eq!(log_in(&trusted, session, user::CKU_USER), Some(Kind::PinIncorrect), "there is no slot");
    assert!(!path(&trusted));
    let summary = world.hsm.admin_auto_login(&peer(1), &Default::default(), Some(pin(PIN))).expect("enabled");
    assert!(summary.auto_login && path(&trusted) && !path(&other));
    for (caller, session, user) in
        [(&other, others, user::CKU_USER), (&other, others, user::CKU_SO), (&trusted, session, user::CKU_SO)]
    {
        assert_eq!(log_in(caller, session, user), Some(Kind::PinIncorrect));
    }
    assert_eq!(log_in(&trusted, session, user::CKU_CONTEXT_SPECIFIC), Some(Kind::NotLoggedIn));
    assert_eq!(log_in(&trusted, session, user::CKU_USER), None);
    assert_eq!(log_in(&trusted, session, user::CKU_USER), Some(Kind::AlreadyLoggedIn));
    assert_eq!(log_in(&trusted, session, user::CKU_CONTEXT_SPECIFIC), Some(Kind::PinIncorrect));
    let summary = &world.hsm.admin_tokens().expect("tokens")[0];
    assert_eq!((summary.user_pin_failures, summary.so_pin_failures), (0, 0));
    // Taken away: who is in stays, nobody comes.
    world.hsm.admin_auto_login(&peer(1), &Default::default(), None).expect("disabled");
    assert!(!path(&trusted));
    let key = world.hsm.generate_key(&trusted, session, plain(CKM_AES_KEY_GEN), vec![Attr::number(CKA_VALUE_LEN, 32)]);
    key.expect("the login lasts");
    world.hsm.logout(&trusted, session).expect("logs out");
    assert_eq!(log_in(&trusted, session, user::CKU_USER), Some(Kind::PinIncorrect));
    let journal = world.journal();
    for told in ["\"by\":\"auto\"", "\"state\":\"on\"", "\"state\":\"off\""] {
        assert!(journal.contains(told), "{told}");
    }
}

#[test]
fn a_key_that_wants_the_pin_each_time_gets_it_although_the_login_had_none() {
    let world = world();
    world.hsm.admin_auto_login(&peer(1), &Default::default(), Some(pin(PIN))).expect("enabled");
    let caller = world.hsm.attach(trusted(7), "test").expect("attaches");
    let session = world.session(&caller);
    world.hsm.login_without_pin(&caller, session, user::CKU_USER).expect("logs in");
    let public = vec![Attr::bytes(CKA_EC_PARAMS, crate::crypto::Curve::P256.params_der())];
    let private = vec![Attr::flag(CKA_ALWAYS_AUTHENTICATE, true), Attr::flag(CKA_PRIVATE, true)];
    let (_, private) =
        world.hsm.generate_key_pair(&caller, session, plain(CKM_EC_KEY_PAIR_GEN), public, private).expect("generates");
    let signs = || {
        let begin = Begin { mechanism: plain(CKM_ECDSA_SHA256), key: private.object };
        let signed = world.hsm.one_shot(&caller, session, OperationKind::Sign, begin, b"x", &[], None);
        signed.map(drop).map_err(|error| error.kind())
    };
    assert_eq!(signs(), Err(Kind::NotLoggedIn));
    assert!(world.hsm.login_without_pin(&caller, session, user::CKU_CONTEXT_SPECIFIC).is_err());
    assert_eq!(signs(), Err(Kind::NotLoggedIn));
}
