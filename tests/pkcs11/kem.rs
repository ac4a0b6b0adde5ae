//! Key encapsulation (PKCS#11 3.2, C_EncapsulateKey and C_DecapsulateKey) with ML-KEM and with ECDH: both sides get the same key, and nothing is
//! made when something is wrong.

use std::sync::atomic::{AtomicU8, Ordering};

use acceptance::module::{Pair, SESSION, Token, attribute, refused};
use acceptance::raw::key::{Call, flag, number};
use acceptance::raw::{Memory, Raw, Room};
use acceptance::{module, module_test};
use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, MlKemParameterSetType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki_sys::*;

/// Parameter set, bytes of its ciphertext, of its public key and of its expanded private key (FIPS 203, table 3).
const SETS: [(MlKemParameterSetType, usize, usize, usize); 3] = [
    (MlKemParameterSetType::ML_KEM_512, 768, 800, 1632),
    (MlKemParameterSetType::ML_KEM_768, 1088, 1184, 2400),
    (MlKemParameterSetType::ML_KEM_1024, 1568, 1568, 3168),
];

/// The template of a shared key that may be read.
const READABLE: [(CK_ULONG, CK_ULONG); 1] = [(CKA_KEY_TYPE, CKK_GENERIC_SECRET)];

fn pair(session: &Session, set: MlKemParameterSetType) -> Pair {
    module::ml_kem(session, set, SESSION).expect("a key")
}

fn handle(number: CK_OBJECT_HANDLE, session: &Session) -> ObjectHandle {
    // The binding makes handles only from what it found itself.
    let found = session.find_objects(&[Attribute::Class(ObjectClass::SECRET_KEY)]).expect("finds");
    found.into_iter().find(|object| object.handle() == number).expect("the handle is an object's")
}

fn secret_keys(session: &Session) -> usize {
    session.find_objects(&[Attribute::Class(ObjectClass::SECRET_KEY)]).expect("finds").len()
}

/// Encrypts under one key and decrypts under the other: whether they are the same.
fn same_key(session: &Session, one: ObjectHandle, other: ObjectHandle) -> bool {
    // A key takes an IV once.
    static TURN: AtomicU8 = AtomicU8::new(0);
    let turn = TURN.fetch_add(1, Ordering::Relaxed);
    let with = |iv: &mut [u8; 12], work: &dyn Fn(&Mechanism) -> Option<Vec<u8>>| {
        work(&Mechanism::AesGcm(GcmParams::new(iv, &[], 128.into()).expect("parameters")))
    };
    let sealed = with(&mut [turn; 12], &|gcm| session.encrypt(gcm, one, b"between us").ok()).expect("encrypts");
    with(&mut [turn; 12], &|gcm| session.decrypt(gcm, other, &sealed).ok())
        .is_some_and(|opened| opened == b"between us")
}

module_test! {
    fn both_sides_of_every_parameter_set_get_the_same_aes_key(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        for (set, ciphertext_len, public_len, _) in SETS {
            let (public, private) = pair(&session, set);
            let Attribute::Value(value) = attribute(&session, public, AttributeType::Value) else { panic!("no value") };
            assert_eq!(value.len(), public_len);
            let template = [(CKA_KEY_TYPE, CKK_AES)];
            let (given, made) = raw.encapsulate(session.handle(), public.handle(), &template, Room::Bytes(2000));
            assert_eq!((given.rv, given.len), (CKR_OK, ciphertext_len), "{set}");
            let one = handle(made.expect("a handle"), &session);
            let other = raw.decapsulate(session.handle(), private.handle(), &template, &given.bytes);
            let other = handle(other.expect("decapsulates"), &session);
            assert!(same_key(&session, one, other), "{set}");
            for key in [one, other] {
                let rows = [
                    Attribute::KeyType(KeyType::AES),
                    Attribute::ValueLen(32.into()),
                    Attribute::Sensitive(true),
                    Attribute::Extractable(true),
                    Attribute::AlwaysSensitive(false),
                    Attribute::NeverExtractable(false),
                    Attribute::Local(false),
                ];
                for expected in rows {
                    assert_eq!(attribute(&session, key, expected.attribute_type()), expected, "{set}");
                }
            }
        }
    }
}

module_test! {
    fn a_length_query_and_a_short_buffer_make_no_key(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let (public, _) = pair(&session, MlKemParameterSetType::ML_KEM_768);
        let before = secret_keys(&session);
        for (room, rv) in [(Room::Query, CKR_OK), (Room::Bytes(1087), CKR_BUFFER_TOO_SMALL), (Room::Bytes(0), CKR_BUFFER_TOO_SMALL)] {
            let (given, made) = raw.encapsulate(session.handle(), public.handle(), &READABLE, room);
            assert_eq!((given.rv, given.len, made), (rv, 1088, None), "{room:?}");
        }
        assert_eq!(secret_keys(&session), before);
        let (given, made) = raw.encapsulate(session.handle(), public.handle(), &READABLE, Room::Bytes(1088));
        assert!(given.rv == CKR_OK && made.is_some());
        assert_eq!(secret_keys(&session), before + 1);
    }
}

module_test! {
    fn a_shorter_key_is_the_beginning_of_the_secret(_world) {
        // An AES-128 key was refused: a shared secret has 32 bytes.
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let (public, private) = pair(&session, MlKemParameterSetType::ML_KEM_512);
        let (h, short) = (session.handle(), [(CKA_KEY_TYPE, CKK_AES), (CKA_VALUE_LEN, 16)]);
        let (given, made) = raw.encapsulate(h, public.handle(), &short, Room::Bytes(768));
        let one = handle(made.expect("a handle"), &session);
        let other = raw.decapsulate(h, private.handle(), &short, &given.bytes).expect("decapsulates");
        assert!(same_key(&session, one, handle(other, &session)));
        assert_eq!(raw.get(h, one.handle(), CKA_VALUE_LEN), Ok(number(16u64)));

        let (mechanism, text) = (Memory::words(&[CKM_ML_KEM, 0, 0]), Memory::of(&given.bytes));
        let secret = |template: &[(CK_ATTRIBUTE_TYPE, Vec<u8>)]| {
            let ((rows, count, _values), place) = (words_of(template), Memory::zeroed(8));
            let (m, key) = (mechanism.address(), private.handle());
            let arguments = [h, m, key, rows.address(), count, text.address(), 768, place.address()];
            let rv = raw.call("C_DecapsulateKey", &arguments);
            if rv == CKR_OK { raw.get(h, place.word(0), CKA_VALUE) } else { Err(rv) }
        };
        let whole = secret(&secret_of(None)).expect("a readable key");
        assert_eq!(whole.len(), 32);
        for len in [1, 16, 24, 31, 32] {
            assert_eq!(secret(&secret_of(Some(len as u64))).as_deref(), Ok(&whole[..len]), "{len}");
        }
        let hidden: Vec<_> = secret_of(Some(13)).into_iter().filter(|(kind, _)| *kind != CKA_SENSITIVE).collect();
        assert_eq!(secret(&hidden), Err(CKR_KEY_SIZE_RANGE), "it could be guessed");
    }
}

module_test! {
    fn what_does_not_fit_is_named_and_makes_no_key(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let (public, private) = pair(&session, MlKemParameterSetType::ML_KEM_512);
        let (other_public, _) = module::ec(&session, module::P256, SESSION).expect("a key");
        let idle = session
            .generate_key_pair(
                &Mechanism::MlKemKeyPairGen,
                &[Attribute::Token(false), Attribute::ParameterSet(MlKemParameterSetType::ML_KEM_512.into()), Attribute::Encapsulate(false)],
                &[Attribute::Token(false), Attribute::Decapsulate(false)],
            )
            .expect("a key that does nothing");
        let (h, before) = (session.handle(), secret_keys(&session));
        type Template<'t> = &'t [(CK_ULONG, CK_ULONG)];
        let templates: [(Template<'_>, CK_RV); 6] = [
            (&[(CKA_KEY_TYPE, CKK_AES), (CKA_VALUE_LEN, 15)], CKR_TEMPLATE_INCONSISTENT),
            (&[(CKA_KEY_TYPE, CKK_GENERIC_SECRET), (CKA_VALUE_LEN, 33)], CKR_TEMPLATE_INCONSISTENT),
            (&[(CKA_CLASS, CKO_PRIVATE_KEY)], CKR_TEMPLATE_INCONSISTENT),
            (&[(CKA_KEY_TYPE, CKK_RSA)], CKR_ATTRIBUTE_VALUE_INVALID),
            (&[(CKA_KEY_TYPE, CKK_AES), (CKA_MODULUS_BITS, 7)], CKR_ATTRIBUTE_TYPE_INVALID),
            (&[(CKA_KEY_TYPE, CKK_AES), (CKA_KEY_TYPE, CKK_GENERIC_SECRET)], CKR_TEMPLATE_INCONSISTENT),
        ];
        for (template, rv) in templates {
            assert_eq!(raw.encapsulate(h, public.handle(), template, Room::Bytes(768)).0.rv, rv, "{template:?}");
            assert_eq!(raw.decapsulate(h, private.handle(), template, &[1; 768]), Err(rv), "{template:?}");
        }
        let keys = [
            (private.handle(), CKR_KEY_TYPE_INCONSISTENT),
            (other_public.handle(), CKR_KEY_TYPE_INCONSISTENT),
            (idle.0.handle(), CKR_KEY_FUNCTION_NOT_PERMITTED),
            (0x7fff_ffff, CKR_KEY_HANDLE_INVALID),
        ];
        for (key, rv) in keys {
            assert_eq!(raw.encapsulate(h, key, &READABLE, Room::Bytes(768)).0.rv, rv, "{key}");
        }
        assert_eq!(raw.decapsulate(h, public.handle(), &READABLE, &[1; 768]), Err(CKR_KEY_TYPE_INCONSISTENT));
        assert_eq!(raw.decapsulate(h, idle.1.handle(), &READABLE, &[1; 768]), Err(CKR_KEY_FUNCTION_NOT_PERMITTED));
        for len in [0, 767, 769, 1088] {
            assert_eq!(raw.decapsulate(h, private.handle(), &READABLE, &vec![1; len]), Err(CKR_WRAPPED_KEY_LEN_RANGE), "{len}");
        }
        assert_eq!(secret_keys(&session), before);
    }
}

module_test! {
    fn a_changed_ciphertext_gives_another_key_and_no_error(_world) {
        // Implicit rejection (FIPS 203, algorithm 18): a sender learns nothing from the answer.
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let (public, private) = pair(&session, MlKemParameterSetType::ML_KEM_1024);
        let template = [(CKA_KEY_TYPE, CKK_AES)];
        let (given, made) = raw.encapsulate(session.handle(), public.handle(), &template, Room::Bytes(1568));
        let sent = handle(made.expect("a handle"), &session);
        let mut changed = given.bytes;
        changed[1000] ^= 4;
        let rejected = || {
            let made = raw.decapsulate(session.handle(), private.handle(), &template, &changed).expect("no error");
            handle(made, &session)
        };
        let (one, other) = (rejected(), rejected());
        assert!(!same_key(&session, sent, one));
        assert!(same_key(&session, one, other));
    }
}

module_test! {
    fn an_imported_key_is_the_one_that_others_made(_world) {
        // The first valid vector of Wycheproof's mlkem_512 tests with a seed is read by the core's tests; here the two forms of one
        // key, seed and expansion, must give the same, and contradictions are refused.
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        for (set, _, _, expanded_len) in SETS {
            let seed: Vec<u8> = (0..64).collect();
            let import = |more: &[Attribute]| {
                let common = [
                    Attribute::Class(ObjectClass::PRIVATE_KEY),
                    Attribute::KeyType(KeyType::ML_KEM),
                    Attribute::Token(false),
                    Attribute::Sensitive(false),
                    Attribute::Extractable(true),
                    Attribute::ParameterSet(set.into()),
                ];
                session.create_object(&[&common[..], more].concat())
            };
            let by_seed = import(&[Attribute::Seed(seed.clone())]).expect("imports");
            let Attribute::Value(expanded) = attribute(&session, by_seed, AttributeType::Value) else { panic!("no value") };
            assert_eq!(expanded.len(), expanded_len, "{set}");
            let by_value = import(&[Attribute::Value(expanded.clone())]).expect("imports");
            import(&[Attribute::Seed(seed.clone()), Attribute::Value(expanded.clone())]).expect("both agree");
            let mut other = expanded.clone();
            other[3] ^= 1;
            for wrong in [
                vec![Attribute::Seed(seed.clone()), Attribute::Value(other.clone())],
                vec![Attribute::Value(other)],
                vec![Attribute::Seed(seed[1..].to_vec())],
            ] {
                assert!(matches!(refused(import(&wrong)), RvError::AttributeValueInvalid), "{set}");
            }
            assert!(matches!(refused(import(&[])), RvError::TemplateIncomplete), "{set}");

            // The public half is inside the private one (FIPS 203, algorithm 16), and takes what is encapsulated to it.
            let start = (expanded_len - 96) / 2;
            let public_bytes = expanded[start..expanded_len - 64].to_vec();
            let public = |bytes: Vec<u8>| {
                session.create_object(&[
                    Attribute::Class(ObjectClass::PUBLIC_KEY),
                    Attribute::KeyType(KeyType::ML_KEM),
                    Attribute::Token(false),
                    Attribute::ParameterSet(set.into()),
                    Attribute::Value(bytes),
                ])
            };
            let key = public(public_bytes.clone()).expect("imports");
            let (given, made) = raw.encapsulate(session.handle(), key.handle(), &[(CKA_KEY_TYPE, CKK_AES)], Room::Bytes(2000));
            let sent = handle(made.expect("a handle"), &session);
            for private in [by_seed, by_value] {
                let got = raw.decapsulate(session.handle(), private.handle(), &[(CKA_KEY_TYPE, CKK_AES)], &given.bytes);
                assert!(same_key(&session, sent, handle(got.expect("decapsulates"), &session)), "{set}");
            }
            // A coefficient that is not below the modulus (FIPS 203, section 7.2).
            let mut above = public_bytes.clone();
            above[..3].fill(0xff);
            for wrong in [above, public_bytes[1..].to_vec()] {
                assert!(matches!(refused(public(wrong)), RvError::AttributeValueInvalid), "{set}");
            }
        }
    }
}

module_test! {
    fn the_keys_templates_decide_what_comes_out(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let only_aes = [Attribute::KeyType(KeyType::AES)];
        let set = MlKemParameterSetType::ML_KEM_512;
        let (public, private) = raw.ml_kem_pair_with_templates(session.handle(), CKK_AES).expect("a key with templates");
        let h = session.handle();
        let (given, made) = raw.encapsulate(h, public, &[], Room::Bytes(768));
        assert_eq!(given.rv, CKR_OK, "{set}");
        let one = handle(made.expect("a handle"), &session);
        assert_eq!(attribute(&session, one, AttributeType::KeyType), only_aes[0]);
        let other = handle(raw.decapsulate(h, private, &[], &given.bytes).expect("decapsulates"), &session);
        assert!(same_key(&session, one, other));
        let refused = raw.encapsulate(h, public, &READABLE, Room::Bytes(768)).0.rv;
        assert_eq!(refused, CKR_TEMPLATE_INCONSISTENT);
        assert_eq!(raw.decapsulate(h, private, &READABLE, &given.bytes), Err(CKR_TEMPLATE_INCONSISTENT));
    }
}

module_test! {
    fn encapsulation_and_decapsulation_are_recorded(world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let (public, private) = pair(&session, MlKemParameterSetType::ML_KEM_512);
        let (given, _) = raw.encapsulate(session.handle(), public.handle(), &READABLE, Room::Bytes(768));
        raw.decapsulate(session.handle(), private.handle(), &READABLE, &given.bytes).expect("decapsulates");
        world.stop_daemon();
        let journal = std::fs::read_to_string(world.journal()).expect("the journal");
        for act in ["encapsulate_key", "decapsulate_key"] {
            assert!(journal.contains(&format!("\"{act}\"")), "{act}");
        }
    }
}

/// Curve, mechanism that makes its pairs, and bytes of a point and of a shared secret.
const AGREEMENTS: [(&[u8], CK_MECHANISM_TYPE, usize, usize); 3] = [
    (module::P256, CKM_EC_KEY_PAIR_GEN, 65, 32),
    (module::P521, CKM_EC_KEY_PAIR_GEN, 133, 66),
    (module::X25519, CKM_EC_MONTGOMERY_KEY_PAIR_GEN, 32, 32),
];

/// A readable generic secret of so many bytes, or of as many as there are.
fn secret_of(len: Option<u64>) -> Vec<(CK_ATTRIBUTE_TYPE, Vec<u8>)> {
    let mut template = vec![
        (CKA_CLASS, number(CKO_SECRET_KEY)),
        (CKA_KEY_TYPE, number(CKK_GENERIC_SECRET)),
        (CKA_TOKEN, flag(false)),
        (CKA_SENSITIVE, flag(false)),
        (CKA_EXTRACTABLE, flag(true)),
    ];
    template.extend(len.map(|len| (CKA_VALUE_LEN, number(len))));
    template
}

module_test! {
    fn an_agreement_with_a_key_made_for_it_gives_both_sides_what_deriving_gives(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let h = session.handle();
        let shared = Memory::of(b"shared information");
        for (curve, generate, point_len, secret_len) in AGREEMENTS {
            let public = vec![(CKA_TOKEN, flag(false)), (CKA_EC_PARAMS, curve.to_vec()), (CKA_ENCAPSULATE, flag(true))];
            let private = vec![(CKA_TOKEN, flag(false)), (CKA_DECAPSULATE, flag(true)), (CKA_DERIVE, flag(true))];
            let pair = raw.generate_pair(h, &Call::plain(generate), &public, &private);
            let (public, private) = pair.expect("a pair");
            for (kdf, info_len, asked) in [(CKD_NULL, 0, None), (CKD_NULL, 0, Some(16)), (CKD_SHA256_KDF, 18, Some(48))] {
                let info = if info_len == 0 { 0 } else { shared.address() };
                let parameter = Memory::words(&[kdf, info_len, info, 0, 0]);
                let mechanism = Memory::words(&[CKM_ECDH1_DERIVE, parameter.address(), 40]);
                let (rows, count, _values) = words_of(&secret_of(asked));
                let (out, len, place) = (Memory::zeroed(256), Memory::words(&[256]), Memory::zeroed(8));
                let encapsulate = |out: u64| {
                    let template = [h, mechanism.address(), public, rows.address(), count];
                    raw.call("C_EncapsulateKey", &[&template[..], &[out, len.address(), place.address()]].concat())
                };
                assert_eq!((encapsulate(0), len.word(0)), (CKR_OK, point_len as u64), "a query");
                len.set(0, 256);
                assert_eq!((encapsulate(out.address()), len.word(0)), (CKR_OK, point_len as u64));
                let given = raw.get(h, place.word(0), CKA_VALUE).expect("a readable key");
                assert_eq!(given.len() as u64, asked.unwrap_or(secret_len as u64));
                let decapsulate = |mechanism: &Memory, text: &Memory, text_len: u64| {
                    let template = [h, mechanism.address(), private, rows.address(), count];
                    raw.call("C_DecapsulateKey", &[&template[..], &[text.address(), text_len, place.address()]].concat())
                };
                assert_eq!(decapsulate(&mechanism, &out, point_len as u64), CKR_OK);
                assert_eq!(raw.get(h, place.word(0), CKA_VALUE).expect("a readable key"), given);
                // The ciphertext is a public key: C_DeriveKey gives the same.
                let named = Memory::words(&[kdf, info_len, info, point_len as u64, out.address()]);
                let deriving = Memory::words(&[CKM_ECDH1_DERIVE, named.address(), 40]);
                let derived = raw.call(
                    "C_DeriveKey",
                    &[h, deriving.address(), private, rows.address(), count, place.address()],
                );
                assert_eq!(derived, CKR_OK);
                assert_eq!(raw.get(h, place.word(0), CKA_VALUE).expect("a readable key"), given);
                // The other's public key has no place in the parameter, and a ciphertext that is no point opens nothing.
                assert_eq!(decapsulate(&deriving, &out, point_len as u64), CKR_MECHANISM_PARAM_INVALID);
                assert_eq!(decapsulate(&mechanism, &out, point_len as u64 - 1), CKR_WRAPPED_KEY_LEN_RANGE);
                assert_eq!(decapsulate(&mechanism, &Memory::zeroed(256), point_len as u64), CKR_WRAPPED_KEY_INVALID);
            }
        }
    }
}

/// A template as words, their number of rows, and what the rows point at.
fn words_of(template: &[(CK_ATTRIBUTE_TYPE, Vec<u8>)]) -> (Memory, u64, Vec<Memory>) {
    let values: Vec<Memory> = template.iter().map(|(_, value)| Memory::of(value)).collect();
    let rows = template.iter().zip(&values);
    let words: Vec<u64> = rows.flat_map(|((kind, value), held)| [*kind, held.address(), value.len() as u64]).collect();
    (Memory::words(&words), template.len() as u64, values)
}
