//! What attributes tell and how they are kept (PKCS#11 v3.0 §4 and §5.7.5): by the C functions, value by value.

use acceptance::module;
use acceptance::module_test;
use acceptance::raw::Raw;
use acceptance::raw::key::{Call, Template, Use, flag, number};
use acceptance::world::{PIN, SO_PIN};
use cryptoki_sys::*;

/// A vendor attribute that no object has.
const UNKNOWN: CK_ATTRIBUTE_TYPE = CKA_VENDOR_DEFINED | 0x1234;

struct Place {
    raw: Raw,
    slot: CK_SLOT_ID,
    session: CK_SESSION_HANDLE,
}

impl Place {
    fn open() -> Place {
        let (raw, slot, session) = Raw::with_user();
        Place { raw, slot, session }
    }

    fn aes(&self, more: Template) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let base = vec![(CKA_TOKEN, flag(false)), (CKA_VALUE_LEN, number(32u64))];
        self.raw.generate(self.session, &Call::plain(CKM_AES_KEY_GEN), &[base, more].concat())
    }

    fn get(&self, object: CK_OBJECT_HANDLE, kind: CK_ATTRIBUTE_TYPE) -> Result<Vec<u8>, CK_RV> {
        self.raw.get(self.session, object, kind)
    }
}

fn class(class: CK_OBJECT_CLASS) -> Template {
    vec![(CKA_CLASS, number(class))]
}

module_test! {
    fn an_unknown_attribute_hides_no_other(_world) {
        let place = Place::open();
        let key = place.aes(vec![(CKA_LABEL, b"key".to_vec())]).expect("a key");
        let asked = [CKA_LABEL, UNKNOWN, CKA_KEY_TYPE, CKA_VALUE, CKA_MODULUS, CKA_TOKEN];
        let (rv, values) = place.raw.get_all(place.session, key, &asked, 64);
        // Two things are wrong; the graver one is said.
        assert_eq!(rv, CKR_ATTRIBUTE_SENSITIVE);
        let expected =
            [Some(b"key".to_vec()), None, Some(number(CKK_AES)), None, None, Some(flag(false))];
        assert_eq!(values, expected);
        let (rv, values) = place.raw.get_all(place.session, key, &[UNKNOWN, CKA_LABEL], 64);
        assert_eq!((rv, values), (CKR_ATTRIBUTE_TYPE_INVALID, vec![None, Some(b"key".to_vec())]));
        let (rv, values) = place.raw.get_all(place.session, key, &[CKA_LABEL, CKA_TOKEN], 1);
        assert_eq!((rv, values), (CKR_BUFFER_TOO_SMALL, vec![None, Some(flag(false))]));
    }
}

module_test! {
    fn a_template_with_an_unknown_attribute_makes_nothing(_world) {
        let place = Place::open();
        assert_eq!(place.aes(vec![(UNKNOWN, vec![1])]), Err(CKR_ATTRIBUTE_TYPE_INVALID));
        assert_eq!(place.aes(vec![(CKA_MODULUS_BITS, number(2048u64))]), Err(CKR_ATTRIBUTE_TYPE_INVALID));
        assert_eq!(place.aes(vec![(CKA_LOCAL, flag(true))]), Err(CKR_ATTRIBUTE_READ_ONLY));
        assert_eq!(place.aes(vec![(CKA_LABEL, b"a".to_vec()), (CKA_LABEL, b"b".to_vec())]), Err(CKR_TEMPLATE_INCONSISTENT));
        assert_eq!(place.aes(vec![(CKA_SIGN, vec![1, 0])]), Err(CKR_ATTRIBUTE_VALUE_INVALID));
        assert_eq!(place.aes(vec![(CKA_START_DATE, b"20261301".to_vec())]), Err(CKR_ATTRIBUTE_VALUE_INVALID));
        let backwards = vec![(CKA_START_DATE, b"20300102".to_vec()), (CKA_END_DATE, b"20300101".to_vec())];
        assert_eq!(place.aes(backwards), Err(CKR_TEMPLATE_INCONSISTENT));
        assert_eq!(place.raw.find(place.session, &class(CKO_SECRET_KEY)), Ok(vec![]));
    }
}

module_test! {
    fn the_schema_gives_every_key_what_the_standard_names(_world) {
        let place = Place::open();
        let key = place.aes(vec![]).expect("a key");
        let copy = place.raw.copy(place.session, key, &vec![]).expect("a copy");
        let unique = |object| place.get(object, CKA_UNIQUE_ID).expect("a name");
        assert_eq!(unique(key).len(), 32);
        assert_ne!(unique(key), unique(copy));
        assert_eq!(place.get(key, CKA_KEY_GEN_MECHANISM), Ok(number(CKM_AES_KEY_GEN)));
        let public = vec![(CKA_TOKEN, flag(false)), (CKA_EC_PARAMS, module::P256.to_vec())];
        let pair = place.raw.generate_pair(place.session, &Call::plain(CKM_EC_KEY_PAIR_GEN), &public, &vec![]);
        let (public, private) = pair.expect("a pair");
        let info = place.get(public, CKA_PUBLIC_KEY_INFO).expect("a SubjectPublicKeyInfo");
        assert_eq!((info.len(), place.get(private, CKA_PUBLIC_KEY_INFO)), (91, Ok(info)));
        assert_eq!(place.get(public, CKA_UNIQUE_ID).expect("a name").len(), 32);
    }
}

module_test! {
    fn a_key_is_used_between_its_dates_only(_world) {
        let place = Place::open();
        let uses = vec![(CKA_ENCRYPT, flag(true)), (CKA_DECRYPT, flag(true)), (CKA_SIGN, flag(true)), (CKA_VERIFY, flag(true))];
        let cmac = Call::plain(CKM_AES_CMAC);
        let cbc = Call::with(CKM_AES_CBC_PAD, &[0; 16]);
        for (start, end, past, new) in [
            ("", "", CKR_OK, CKR_OK),
            ("20010101", "29990101", CKR_OK, CKR_OK),
            ("29990101", "", CKR_KEY_FUNCTION_NOT_PERMITTED, CKR_KEY_FUNCTION_NOT_PERMITTED),
            ("20010101", "20020101", CKR_OK, CKR_KEY_FUNCTION_NOT_PERMITTED),
        ] {
            let dates = vec![(CKA_START_DATE, start.into()), (CKA_END_DATE, end.into())];
            let key = place.aes([uses.clone(), dates].concat()).expect("a key");
            for (use_, call, expected) in [
                (Use::Encrypt, &cbc, new),
                (Use::Sign, &cmac, new),
                (Use::Decrypt, &cbc, past),
                (Use::Verify, &cmac, past),
            ] {
                assert_eq!(place.raw.begin(place.session, use_, call, key), expected, "{start} to {end}: {use_:?}");
            }
            assert_eq!(place.raw.logout(place.session), CKR_OK);
            assert_eq!(place.raw.login(place.session, PIN), CKR_OK);
        }
    }
}

module_test! {
    fn only_the_so_trusts(_world) {
        let place = Place::open();
        let public = vec![(CKA_TOKEN, flag(true)), (CKA_EC_PARAMS, module::P256.to_vec())];
        let pair = place.raw.generate_pair(place.session, &Call::plain(CKM_EC_KEY_PAIR_GEN), &public, &vec![]);
        let (public, _) = pair.expect("a pair");
        let trusted = vec![(CKA_TRUSTED, flag(true))];
        assert_eq!(place.raw.set(place.session, public, &trusted), CKR_ATTRIBUTE_READ_ONLY);
        assert_eq!(place.raw.logout(place.session), CKR_OK);
        assert_eq!(place.raw.login_as(place.session, CKU_SO, SO_PIN), CKR_OK);
        assert_eq!(place.raw.set(place.session, public, &trusted), CKR_OK);
        assert_eq!(place.get(public, CKA_TRUSTED), Ok(flag(true)));
    }
}

module_test! {
    fn check_values_are_those_of_the_standard(_world) {
        let place = Place::open();
        // A key that may be read, so that its check value tells nothing more: AES-128 of zeros begins with 66 e9 4b.
        let template = [
            class(CKO_SECRET_KEY),
            vec![
                (CKA_KEY_TYPE, number(CKK_AES)),
                (CKA_VALUE, vec![0; 16]),
                (CKA_SENSITIVE, flag(false)),
                (CKA_EXTRACTABLE, flag(true)),
            ],
        ]
        .concat();
        let key = place.raw.create(place.session, &template).expect("a key");
        assert_eq!(place.get(key, CKA_CHECK_VALUE), Ok(vec![0x66, 0xe9, 0x4b]));
        let wrong = [template.clone(), vec![(CKA_CHECK_VALUE, vec![1, 2, 3])]].concat();
        assert_eq!(place.raw.create(place.session, &wrong), Err(CKR_ATTRIBUTE_VALUE_INVALID));
        let none = place.raw.create(place.session, &[template, vec![(CKA_CHECK_VALUE, vec![])]].concat()).expect("a key");
        assert_eq!(place.get(none, CKA_CHECK_VALUE), Err(CKR_ATTRIBUTE_TYPE_INVALID));
        let hidden = place.aes(vec![]).expect("a key");
        assert_eq!(place.get(hidden, CKA_CHECK_VALUE), Err(CKR_ATTRIBUTE_TYPE_INVALID));
        let certificate = vec![(CKA_CERTIFICATE_TYPE, number(CKC_X_509)), (CKA_SUBJECT, vec![0x30, 0]), (CKA_VALUE, b"abc".to_vec())];
        let certificate = place.raw.create(place.session, &[class(CKO_CERTIFICATE), certificate].concat());
        // SHA-1 of "abc" begins with a9 99 3e.
        assert_eq!(place.get(certificate.expect("a certificate"), CKA_CHECK_VALUE), Ok(vec![0xa9, 0x99, 0x3e]));
    }
}

module_test! {
    fn a_certificate_needs_its_value_or_where_to_find_it(_world) {
        let place = Place::open();
        let base = [class(CKO_CERTIFICATE), vec![(CKA_CERTIFICATE_TYPE, number(CKC_X_509))]].concat();
        let create = |more: Template| place.raw.create(place.session, &[base.clone(), more].concat());
        let subject = (CKA_SUBJECT, vec![0x30, 0]);
        let url = (CKA_URL, b"https://example.org/c.der".to_vec());
        let hashes =
            [(CKA_HASH_OF_SUBJECT_PUBLIC_KEY, vec![1; 20]), (CKA_HASH_OF_ISSUER_PUBLIC_KEY, vec![2; 20])];
        assert_eq!(create(vec![(CKA_VALUE, vec![1])]), Err(CKR_TEMPLATE_INCOMPLETE), "no subject");
        assert_eq!(create(vec![subject.clone()]), Err(CKR_TEMPLATE_INCOMPLETE), "neither value nor address");
        assert_eq!(create(vec![subject.clone(), url.clone()]), Err(CKR_TEMPLATE_INCOMPLETE), "no hashes");
        let by_address = create([vec![subject.clone(), url], hashes.to_vec()].concat()).expect("by address");
        assert_eq!(place.get(by_address, CKA_NAME_HASH_ALGORITHM), Ok(number(CKM_SHA_1)));
        let category = (CKA_CERTIFICATE_CATEGORY, number(9u64));
        assert_eq!(create(vec![subject, (CKA_VALUE, vec![1]), category]), Err(CKR_ATTRIBUTE_VALUE_INVALID));
        assert_eq!(place.raw.set(place.session, by_address, &vec![(CKA_ID, vec![7])]), CKR_OK);
        let fixed = place.raw.set(place.session, by_address, &vec![(CKA_SUBJECT, vec![0x30, 1, 0])]);
        assert_eq!(fixed, CKR_ATTRIBUTE_READ_ONLY);
    }
}

module_test! {
    fn what_the_token_itself_has_is_found_by_class_only(_world) {
        let place = Place::open();
        let find = |template: &Template| place.raw.find(place.session, template).expect("a search");
        assert_eq!(find(&vec![]), [0; 0]);
        let profiles: Vec<_> = find(&class(CKO_PROFILE)).iter().map(|&object| place.get(object, CKA_PROFILE_ID)).collect();
        assert!(profiles.contains(&Ok(number(CKP_BASELINE_PROVIDER))), "{profiles:?}");
        let listed = place.raw.mechanisms(place.slot).expect("mechanisms");
        let objects = find(&class(CKO_MECHANISM));
        assert_eq!(objects.len(), listed.len());
        let one = [class(CKO_MECHANISM), vec![(CKA_MECHANISM_TYPE, number(CKM_AES_GCM))]].concat();
        let [gcm] = find(&one)[..] else { panic!("one object for one mechanism") };
        assert!(objects.contains(&gcm));
        assert_eq!(place.get(gcm, CKA_MECHANISM_TYPE), Ok(number(CKM_AES_GCM)));
        let [clock] = find(&[class(CKO_HW_FEATURE), vec![(CKA_HW_FEATURE_TYPE, number(CKH_CLOCK))]].concat())[..] else {
            panic!("one clock")
        };
        let time = place.get(clock, CKA_VALUE).expect("the time");
        assert!(time.len() == 16 && time.starts_with(b"20") && time.iter().all(u8::is_ascii_digit), "{time:?}");
        for object in [gcm, clock] {
            assert_eq!(place.raw.destroy(place.session, object), CKR_ACTION_PROHIBITED);
            assert_eq!(place.raw.set(place.session, object, &vec![(CKA_LABEL, vec![b'x'])]), CKR_ACTION_PROHIBITED);
            assert_eq!(place.raw.copy(place.session, object, &vec![]), Err(CKR_ACTION_PROHIBITED));
        }
        assert_eq!(place.raw.create(place.session, &one), Err(CKR_ATTRIBUTE_VALUE_INVALID));
        assert_eq!(place.raw.logout(place.session), CKR_OK);
        assert_eq!(find(&class(CKO_PROFILE)).len(), profiles.len(), "also without a login");
    }
}
