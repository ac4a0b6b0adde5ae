//! What public conformance programs expect of a token, beyond what the other files ask chapter by chapter: rows of calls and answers,
//! most of them in a session in which nobody is logged in, where such programs do their work with public objects.

use acceptance::module;
use acceptance::module_test;
use acceptance::raw::key::{Call, Template, Use, flag, number};
use acceptance::raw::{Memory, Raw, Room};
use acceptance::world::SO_PIN;
use cryptoki_sys::*;

/// Handles and a slot of nothing.
const NO_SESSION: CK_SESSION_HANDLE = 99_999;
const NO_OBJECT: CK_OBJECT_HANDLE = 7_777_777;
const NO_SLOT: CK_SLOT_ID = 88_888;
/// A mechanism that nobody has.
const NO_MECHANISM: CK_MECHANISM_TYPE = CKM_VENDOR_DEFINED + 1;

/// The module with a session in which nobody is logged in.
fn public_session() -> (Raw, CK_SLOT_ID, CK_SESSION_HANDLE) {
    let raw = Raw::load(&module::path());
    assert_eq!(raw.initialize_null(), CKR_OK);
    let slot = raw.slots().expect("slots")[0];
    let session = raw.open_session(slot).expect("a session");
    (raw, slot, session)
}

fn public_aes(raw: &Raw, session: CK_SESSION_HANDLE, more: Template) -> CK_OBJECT_HANDLE {
    let base = vec![(CKA_PRIVATE, flag(false)), (CKA_VALUE_LEN, number(16u64)), (CKA_LABEL, b"expected".to_vec())];
    raw.generate(session, &Call::plain(CKM_AES_KEY_GEN), &[base, more].concat()).expect("a public session key")
}

fn data(label: &[u8]) -> Template {
    vec![
        (CKA_CLASS, number(CKO_DATA)),
        (CKA_TOKEN, flag(false)),
        (CKA_APPLICATION, b"expectations\0".to_vec()),
        (CKA_VALUE, vec![0xde, 0xad, 0xbe, 0xef]),
        (CKA_LABEL, label.to_vec()),
    ]
}

module_test! {
    fn public_session_keys_are_made_and_used_without_a_login(_world) {
        let (raw, _, session) = public_session();
        let key = public_aes(&raw, session, vec![(CKA_ENCRYPT, flag(true)), (CKA_DECRYPT, flag(true))]);
        for call in [Call::plain(CKM_AES_ECB), Call::with(CKM_AES_CBC, &[7; 16])] {
            let sealed = raw.apply(session, Use::Encrypt, &call, key, &[1; 64]).expect("encrypts");
            assert_eq!(sealed.len(), 64);
            assert_eq!(raw.apply(session, Use::Decrypt, &call, key, &sealed), Ok(vec![1; 64]));
            // Output over input.
            assert_eq!(raw.begin(session, Use::Decrypt, &call, key), CKR_OK);
            let (both, len) = (Memory::of(&sealed), Memory::words(&[64]));
            assert_eq!(raw.call("C_Decrypt", &[session, both.address(), 64, both.address(), len.address()]), CKR_OK);
            assert_eq!(both.bytes(64), [1; 64]);
            // The end of nothing is nothing.
            assert_eq!(raw.begin(session, Use::Encrypt, &call, key), CKR_OK);
            len.set(0, 64);
            assert_eq!(raw.call("C_EncryptFinal", &[session, both.address(), len.address()]), CKR_OK);
            assert_eq!(len.word(0), 0);
        }
        // RFC 4231, section 4.3: a key of four bytes.
        let template = vec![
            (CKA_CLASS, number(CKO_SECRET_KEY)), (CKA_KEY_TYPE, number(CKK_GENERIC_SECRET)), (CKA_PRIVATE, flag(false)),
            (CKA_SIGN, flag(true)), (CKA_VERIFY, flag(true)), (CKA_VALUE, b"Jefe".to_vec()),
        ];
        let key = raw.create(session, &template).expect("a short secret");
        let text = b"what do ya want for nothing?";
        let tag = raw.apply(session, Use::Sign, &Call::plain(CKM_SHA256_HMAC), key, text).expect("signs");
        assert_eq!(tag[..4], [0x5b, 0xdc, 0xc1, 0x46]);
        assert_eq!(raw.begin(session, Use::Verify, &Call::plain(CKM_SHA256_HMAC), key), CKR_OK);
        assert_eq!(raw.verify(session, text, &tag[..4]), CKR_SIGNATURE_LEN_RANGE);
    }
}

module_test! {
    fn everything_that_is_found_without_a_login_has_a_size_and_is_public(_world) {
        let (raw, _, session) = public_session();
        public_aes(&raw, session, vec![]);
        raw.create(session, &data(b"note")).expect("data");
        let classes = [CKO_PROFILE, CKO_MECHANISM, CKO_HW_FEATURE].map(|class| vec![(CKA_CLASS, number(class))]);
        for template in [vec![vec![]], classes.to_vec()].concat() {
            let found = raw.find(session, &template).expect("find");
            assert!(!found.is_empty(), "{template:?}");
            for object in found {
                let size = Memory::words(&[0]);
                assert_eq!(raw.call("C_GetObjectSize", &[session, object, size.address()]), CKR_OK);
                assert_eq!(raw.get(session, object, CKA_PRIVATE), Ok(flag(false)), "{template:?}");
            }
        }
    }
}

module_test! {
    fn copies_differ_where_they_may_and_nowhere_else(_world) {
        let (raw, _, session) = public_session();
        let object = raw.create(session, &data(b"old")).expect("data");
        let copy = raw.copy(session, object, &vec![]).expect("a copy");
        let other = raw.copy(session, object, &vec![(CKA_VALUE, vec![0xfa, 0xce])]).expect("a copy with another value");
        assert_eq!(raw.get(session, other, CKA_VALUE), Ok(vec![0xfa, 0xce]));
        assert_eq!(raw.set(session, object, &vec![(CKA_LABEL, b"new".to_vec())]), CKR_OK);
        assert_eq!(raw.get(session, copy, CKA_LABEL), Ok(b"old".to_vec()));
        for (attribute, expected) in data(b"old") {
            assert_eq!(raw.get(session, copy, attribute), Ok(expected), "{attribute:#x}");
        }
        assert_eq!(raw.get(session, copy, CKA_CERTIFICATE_TYPE), Err(CKR_ATTRIBUTE_TYPE_INVALID));
        let application = vec![(CKA_APPLICATION, b"expectations\0".to_vec())];
        assert_eq!(raw.find(session, &application), Ok(vec![object, copy, other]));
        let class = vec![(CKA_CLASS, number(CKO_PUBLIC_KEY))];
        assert_eq!(raw.copy(session, object, &class), Err(CKR_ATTRIBUTE_READ_ONLY));
        assert_eq!(raw.set(session, object, &class), CKR_ATTRIBUTE_READ_ONLY);
        assert_eq!(raw.create(session, &vec![(CKA_VALUE, vec![1])]), Err(CKR_TEMPLATE_INCOMPLETE));
        // DSA and DH are not here, and EC names its curves: no object holds domain parameters.
        let domain = vec![(CKA_CLASS, number(CKO_DOMAIN_PARAMETERS)), (CKA_KEY_TYPE, number(CKK_EC))];
        assert_eq!(raw.create(session, &domain), Err(CKR_ATTRIBUTE_VALUE_INVALID));
        for gone in [other, copy, object] {
            assert_eq!(raw.destroy(session, gone), CKR_OK);
        }
        assert_eq!(raw.find(session, &application), Ok(vec![]));
    }
}

module_test! {
    fn secrecy_of_public_keys_is_final_too(_world) {
        let (raw, _, session) = public_session();
        let key = public_aes(&raw, session, vec![(CKA_SENSITIVE, flag(false))]);
        for (value, answer) in [(true, CKR_OK), (false, CKR_ATTRIBUTE_READ_ONLY)] {
            assert_eq!(raw.set(session, key, &vec![(CKA_SENSITIVE, flag(value))]), answer);
            assert_eq!(raw.get(session, key, CKA_SENSITIVE), Ok(flag(true)));
        }
        let key = public_aes(&raw, session, vec![(CKA_SENSITIVE, flag(false)), (CKA_EXTRACTABLE, flag(false))]);
        assert_eq!(raw.set(session, key, &vec![(CKA_EXTRACTABLE, flag(true))]), CKR_ATTRIBUTE_READ_ONLY);
        assert_eq!(raw.get(session, key, CKA_VALUE), Err(CKR_ATTRIBUTE_SENSITIVE));
    }
}

module_test! {
    fn labels_are_any_bytes(_world) {
        // Go's crypto11 makes labels of random bytes.
        let (raw, _, session) = public_session();
        let label = [0xff, 0x00, 0xc3, 0x28];
        let object = raw.create(session, &data(&label)).expect("data");
        assert_eq!(raw.find(session, &vec![(CKA_LABEL, label.to_vec())]), Ok(vec![object]));
        assert_eq!(raw.get(session, object, CKA_LABEL), Ok(label.to_vec()));
    }
}

module_test! {
    fn an_exponent_with_a_leading_zero_is_the_same_exponent(_world) {
        let (raw, _, session) = Raw::with_user();
        let public = vec![(CKA_MODULUS_BITS, number(2048u64)), (CKA_PUBLIC_EXPONENT, vec![0, 1, 0, 1])];
        let made = raw.generate_pair(session, &Call::plain(CKM_RSA_PKCS_KEY_PAIR_GEN), &public, &vec![]);
        let (public, private) = made.expect("a pair");
        assert_eq!(raw.get(session, public, CKA_PUBLIC_EXPONENT), Ok(vec![1, 0, 1]));
        for secret in [CKA_PRIVATE_EXPONENT, CKA_PRIME_1, CKA_PRIME_2] {
            assert_eq!(raw.get(session, private, secret), Err(CKR_ATTRIBUTE_SENSITIVE));
        }
    }
}

module_test! {
    fn a_mechanism_of_one_piece_has_no_operation_in_parts(_world) {
        let (raw, _, session) = Raw::with_user();
        let public = vec![(CKA_EC_PARAMS, module::P256.to_vec())];
        let made = raw.generate_pair(session, &Call::plain(CKM_EC_KEY_PAIR_GEN), &public, &vec![]);
        let (_, private) = made.expect("a pair");
        assert_eq!(raw.sign_init(session, CKM_ECDSA, private), CKR_OK);
        assert_eq!(raw.sign_update(session, &[7; 16]), CKR_OPERATION_NOT_INITIALIZED);
        assert_eq!(raw.sign_init(session, CKM_ECDSA, private), CKR_OK, "the refusal has ended it");
    }
}

module_test! {
    fn handles_and_mechanisms_of_nothing_are_named(_world) {
        let (raw, slot, session) = public_session();
        let key = public_aes(&raw, session, vec![(CKA_WRAP, flag(true)), (CKA_EXTRACTABLE, flag(true))]);
        let key_wrap = Call::plain(CKM_AES_KEY_WRAP);
        let (word, nothing) = (Memory::words(&[0, 0]), Memory::words(&[NO_MECHANISM, 0, 0]));
        let init = |function, session, key| raw.call(function, &[session, nothing.address(), key]);
        let rows = [
            ("wrapping key", raw.wrap(session, &key_wrap, NO_OBJECT, key).err(), CKR_WRAPPING_KEY_HANDLE_INVALID),
            ("wrapped key", raw.wrap(session, &key_wrap, key, NO_OBJECT).err(), CKR_KEY_HANDLE_INVALID),
            ("unwrapping key", raw.unwrap(session, &key_wrap, NO_OBJECT, &[0; 24], &vec![]).err(), CKR_UNWRAPPING_KEY_HANDLE_INVALID),
            ("size", Some(raw.call("C_GetObjectSize", &[session, NO_OBJECT, word.address()])), CKR_OBJECT_HANDLE_INVALID),
            ("attribute", raw.get(session, NO_OBJECT, CKA_LABEL).err(), CKR_OBJECT_HANDLE_INVALID),
            ("change", Some(raw.set(session, NO_OBJECT, &vec![(CKA_LABEL, vec![1])])), CKR_OBJECT_HANDLE_INVALID),
            ("copy", raw.copy(session, NO_OBJECT, &vec![]).err(), CKR_OBJECT_HANDLE_INVALID),
            ("mechanism of a digest", Some(raw.digest_init(session, NO_MECHANISM)), CKR_MECHANISM_INVALID),
            ("mechanism of an encryption", Some(init("C_EncryptInit", session, key)), CKR_MECHANISM_INVALID),
            ("mechanism of a decryption", Some(init("C_DecryptInit", session, key)), CKR_MECHANISM_INVALID),
            ("RSA with an AES key", Some(raw.begin(session, Use::Encrypt, &Call::plain(CKM_RSA_PKCS), key)), CKR_KEY_TYPE_INCONSISTENT),
            ("key", Some(raw.begin(session, Use::Encrypt, &Call::plain(CKM_AES_ECB), NO_OBJECT)), CKR_KEY_HANDLE_INVALID),
            ("session", Some(raw.begin(NO_SESSION, Use::Encrypt, &Call::plain(CKM_AES_ECB), key)), CKR_SESSION_HANDLE_INVALID),
            ("session of a seed", Some(raw.call("C_SeedRandom", &[NO_SESSION, word.address(), 8])), CKR_SESSION_HANDLE_INVALID),
            ("slot", raw.mechanism_info(NO_SLOT, CKM_RSA_PKCS).err(), CKR_SLOT_ID_INVALID),
            ("mechanism", raw.mechanism_info(slot, NO_MECHANISM).err(), CKR_MECHANISM_INVALID),
            ("parallel session", Some(raw.call("C_OpenSession", &[slot, 0, 0, 0, word.address()])), CKR_SESSION_PARALLEL_NOT_SUPPORTED),
        ];
        for (what, answer, expected) in rows {
            assert_eq!(answer, Some(expected), "{what}");
        }
        // A digest ends with the wrong key, or goes on; either way the next one begins.
        assert_eq!(raw.digest_init(session, CKM_SHA256), CKR_OK);
        assert_eq!(raw.digest_key(session, NO_OBJECT), CKR_KEY_HANDLE_INVALID);
        raw.digest(session, b"", Room::Bytes(32));
        assert_eq!(raw.digest_init(session, CKM_SHA256), CKR_OK);
    }
}

module_test! {
    fn a_token_is_initialised_by_its_so_when_nobody_has_a_session(_world) {
        let (raw, slot, session) = public_session();
        assert_eq!(raw.init_token(NO_SLOT, SO_PIN, "again"), CKR_SLOT_ID_INVALID);
        assert_eq!(raw.init_token(slot, SO_PIN, "again"), CKR_SESSION_EXISTS);
        assert_eq!(raw.close_session(session), CKR_OK);
        // A PIN that is too short to be one is a wrong one.
        assert_eq!(raw.init_token(slot, "wrong", "again"), CKR_PIN_INCORRECT);
        let session = raw.open_session(slot).expect("a session");
        assert_eq!(raw.login(session, "wrong"), CKR_PIN_INCORRECT);
        assert_eq!(raw.close_session(session), CKR_OK);
        assert_eq!(raw.init_token(slot, SO_PIN, "again"), CKR_OK);
    }
}

/// Flags that say what a mechanism does, and about elliptic curves (PKCS#11 v3.0, CK_MECHANISM_INFO; the last two are of 3.2).
const KNOWN_FLAGS: CK_FLAGS = CKF_HW
    | CKF_MESSAGE_ENCRYPT
    | CKF_MESSAGE_DECRYPT
    | CKF_MESSAGE_SIGN
    | CKF_MESSAGE_VERIFY
    | CKF_MULTI_MESSAGE
    | CKF_ENCRYPT
    | CKF_DECRYPT
    | CKF_DIGEST
    | CKF_SIGN
    | CKF_SIGN_RECOVER
    | CKF_VERIFY
    | CKF_VERIFY_RECOVER
    | CKF_GENERATE
    | CKF_GENERATE_KEY_PAIR
    | CKF_WRAP
    | CKF_UNWRAP
    | CKF_DERIVE
    | CKF_EC_F_P
    | CKF_EC_OID
    | CKF_EC_UNCOMPRESS
    | CKF_EC_COMPRESS
    | CKF_EC_CURVENAME
    | CKF_ENCAPSULATE
    | CKF_DECAPSULATE;

module_test! {
    fn lists_are_told_in_length_and_infos_make_sense(_world) {
        let (raw, slot, _) = public_session();
        let count = Memory::words(&[0]);
        for (function, first) in [("C_GetMechanismList", slot), ("C_GetSlotList", 0)] {
            assert_eq!(raw.call(function, &[first, 0, count.address()]), CKR_OK, "{function}");
            let all = count.word(0);
            let room = Memory::zeroed(8 * (usize::try_from(all).expect("few") + 3));
            count.set(0, all - 1);
            assert_eq!(raw.call(function, &[first, room.address(), count.address()]), CKR_BUFFER_TOO_SMALL, "{function}");
            assert_eq!(count.word(0), all, "{function}");
            count.set(0, all + 3);
            assert_eq!(raw.call(function, &[first, room.address(), count.address()]), CKR_OK, "{function}");
            assert_eq!(count.word(0), all, "{function}");
            assert_eq!(raw.call(function, &[first, 0, 0]), CKR_ARGUMENTS_BAD, "{function}");
        }
        for mechanism in raw.mechanisms(slot).expect("the list") {
            let (least, most, flags) = raw.mechanism_info(slot, mechanism).expect("an info");
            assert!(least <= most, "{mechanism:#x}: {least} to {most}");
            assert_eq!(flags & !KNOWN_FLAGS, 0, "{mechanism:#x}");
        }
    }
}
