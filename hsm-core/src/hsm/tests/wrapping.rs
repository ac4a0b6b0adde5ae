//! Keys that leave under another, and come back.

use super::*;

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

fn wrap_parameter(row: &crate::mechanism::row::Row) -> Parameter {
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
