//! Objects and attributes (PKCS#11 v3.0 §4.4 to §4.10 and §5.7): create, copy, find, get, set, destroy, and who may see what.

use acceptance::module::{P256, SESSION, Token, aes, attribute, import_aes, refused, token_object};
use acceptance::raw::{Raw, Room};
use acceptance::{module, module_test};
use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, CertificateType, KeyType, ObjectClass};
use cryptoki_sys::{
    CKA_LABEL, CKA_MODULUS, CKA_VALUE, CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID, CKR_BUFFER_TOO_SMALL,
    CKR_OK,
};

fn data(label: &str, private: bool, token: bool) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(token),
        Attribute::Private(private),
        Attribute::Label(label.into()),
        Attribute::Application(b"acceptance".to_vec()),
        Attribute::Value(b"the value".to_vec()),
    ]
}

module_test! {
    fn token_objects_outlive_the_daemon(world) {
        let token = Token::open();
        let session = token.user();
        let (public, private) = module::ec(&session, P256, token_object("lasting")).expect("a key");
        session.create_object(&data("note", true, true)).expect("data");
        let signature = session.sign(&Mechanism::EcdsaSha256, private, b"before").expect("signs");
        let point = module::ec_point(&session, public);
        drop(session);
        drop(token);
        world.stop_daemon();
        world.start_daemon();
        // The same process goes on: its sessions are gone, its objects are not.
        let token = reopened();
        let session = token.user();
        let find = |label: &str, class| {
            let found = session.find_objects(&[Attribute::Label(label.into()), Attribute::Class(class)]).expect("find");
            assert_eq!(found.len(), 1, "{label}");
            found[0]
        };
        let public = find("lasting", ObjectClass::PUBLIC_KEY);
        assert_eq!(module::ec_point(&session, public), point);
        session.verify(&Mechanism::EcdsaSha256, public, b"before", &signature).expect("the old signature verifies");
        session.sign(&Mechanism::EcdsaSha256, find("lasting", ObjectClass::PRIVATE_KEY), b"after").expect("signs again");
        let note = find("note", ObjectClass::DATA);
        assert_eq!(attribute(&session, note, AttributeType::Value), Attribute::Value(b"the value".to_vec()));
    }
}

fn reopened() -> Token {
    let pkcs11 = cryptoki::context::Pkcs11::new(module::path()).expect("the module loads");
    let slot = pkcs11.get_slots_with_initialized_token().expect("slots")[0];
    Token { pkcs11, slot }
}

module_test! {
    fn certificates_and_data_are_stored_as_given(_world) {
        let token = Token::open();
        let session = token.user();
        let certificate = [
            Attribute::Class(ObjectClass::CERTIFICATE),
            Attribute::CertificateType(CertificateType::X_509),
            Attribute::Token(true),
            Attribute::Label("ca".into()),
            Attribute::Subject(vec![0x30, 0x00]),
            Attribute::Id(vec![7; 20]),
            Attribute::Value(vec![0x30; 700]),
        ];
        let handle = session.create_object(&certificate).expect("a certificate");
        for expected in &certificate {
            assert_eq!(&attribute(&session, handle, expected.attribute_type()), expected);
        }
        let note = session.create_object(&data("note", false, false)).expect("data");
        assert_eq!(attribute(&session, note, AttributeType::Application), Attribute::Application(b"acceptance".to_vec()));
        let long = [&data("long", false, false)[..5], &[Attribute::Value(vec![0xab; 60_000])]].concat();
        let long = session.create_object(&long).expect("60 kB of data");
        assert_eq!(attribute(&session, long, AttributeType::Value), Attribute::Value(vec![0xab; 60_000]));
    }
}

module_test! {
    fn private_objects_are_seen_only_by_the_user(_world) {
        let token = Token::open();
        let session = token.user();
        session.create_object(&data("secret note", true, true)).expect("data");
        session.create_object(&data("open note", false, true)).expect("data");
        session.logout().expect("logout");
        let seen = |label: &str| session.find_objects(&[Attribute::Label(label.into())]).expect("find").len();
        assert_eq!((seen("secret note"), seen("open note")), (0, 1));
        let so_sees = {
            session.login(cryptoki::session::UserType::So, Some(&module::pin(acceptance::world::SO_PIN))).expect("the SO logs in");
            let count = seen("secret note");
            session.logout().expect("logout");
            count
        };
        assert_eq!(so_sees, 0, "the SO administers; it does not read");
        let again = token.user();
        assert_eq!(again.find_objects(&[Attribute::Label("secret note".into())]).expect("find").len(), 1);
    }
}

module_test! {
    fn secret_values_are_never_shown(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let (_, rsa) = module::rsa(&session, 2048, SESSION).expect("a key");
        let (_, ec) = module::ec(&session, P256, SESSION).expect("a key");
        let sensitive = aes(&session, 32, &[Attribute::Sensitive(true), Attribute::Extractable(true)]).expect("a key");
        let bound = aes(&session, 32, &[Attribute::Sensitive(false), Attribute::Extractable(false)]).expect("a key");
        let of_rsa = [
            cryptoki_sys::CKA_PRIVATE_EXPONENT,
            cryptoki_sys::CKA_PRIME_1,
            cryptoki_sys::CKA_PRIME_2,
            cryptoki_sys::CKA_EXPONENT_1,
            cryptoki_sys::CKA_EXPONENT_2,
            cryptoki_sys::CKA_COEFFICIENT,
        ];
        let rows = of_rsa.iter().map(|cka| (rsa, *cka)).chain([ec, sensitive, bound].map(|key| (key, CKA_VALUE)));
        for (key, cka) in rows {
            for room in [Room::Query, Room::Bytes(4096)] {
                let shown = raw.attribute(session.handle(), key.handle(), cka, room);
                assert_eq!((shown.rv, shown.len), (CKR_ATTRIBUTE_SENSITIVE, usize::MAX), "{key:?} {cka:#x} {room:?}");
            }
        }
        let open = aes(&session, 32, &[Attribute::Sensitive(false), Attribute::Extractable(true)]).expect("a key");
        let shown = raw.attribute(session.handle(), open.handle(), CKA_VALUE, Room::Bytes(32));
        assert_eq!((shown.rv, shown.len), (CKR_OK, 32));
    }
}

module_test! {
    fn attribute_lengths_are_told_and_small_buffers_refused(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let key = aes(&session, 16, &[Attribute::Label("twelve bytes".into())]).expect("a key").handle();
        let ask = |cka, room| raw.attribute(session.handle(), key, cka, room);
        assert_eq!((ask(CKA_LABEL, Room::Query).rv, ask(CKA_LABEL, Room::Query).len), (CKR_OK, 12));
        let small = ask(CKA_LABEL, Room::Bytes(11));
        assert_eq!((small.rv, small.len), (CKR_BUFFER_TOO_SMALL, usize::MAX));
        assert_eq!(ask(CKA_LABEL, Room::Bytes(12)).bytes, b"twelve bytes");
        let foreign = ask(CKA_MODULUS, Room::Query);
        assert_eq!((foreign.rv, foreign.len), (CKR_ATTRIBUTE_TYPE_INVALID, usize::MAX));
    }
}

module_test! {
    fn secrecy_only_grows(_world) {
        let token = Token::open();
        let session = token.user();
        let closed = aes(&session, 16, &[Attribute::Sensitive(true), Attribute::Extractable(false)]).expect("a key");
        for loosened in [Attribute::Sensitive(false), Attribute::Extractable(true)] {
            let rv = refused(session.update_attributes(closed, std::slice::from_ref(&loosened)));
            assert!(matches!(rv, RvError::AttributeReadOnly | RvError::TemplateInconsistent), "{loosened:?}: {rv:?}");
            let rv = refused(session.copy_object(closed, std::slice::from_ref(&loosened)));
            assert!(matches!(rv, RvError::AttributeReadOnly | RvError::TemplateInconsistent), "{loosened:?}: {rv:?}");
        }
        assert_eq!(attribute(&session, closed, AttributeType::Sensitive), Attribute::Sensitive(true));
        assert_eq!(attribute(&session, closed, AttributeType::Extractable), Attribute::Extractable(false));
        let open = aes(&session, 16, &[Attribute::Sensitive(false), Attribute::Extractable(true)]).expect("a key");
        session.update_attributes(open, &[Attribute::Sensitive(true)]).expect("secrecy may grow");
        session.update_attributes(open, &[Attribute::Extractable(false)]).expect("secrecy may grow");
        assert_eq!(attribute(&session, open, AttributeType::AlwaysSensitive), Attribute::AlwaysSensitive(false));
        assert_eq!(attribute(&session, open, AttributeType::NeverExtractable), Attribute::NeverExtractable(false));
    }
}

module_test! {
    fn history_is_computed_and_never_claimed(_world) {
        let token = Token::open();
        let session = token.user();
        for claim in [Attribute::Local(true), Attribute::AlwaysSensitive(true), Attribute::NeverExtractable(true)] {
            let rv = refused(import_aes(&session, &[1; 16], std::slice::from_ref(&claim)));
            assert!(matches!(rv, RvError::AttributeReadOnly | RvError::TemplateInconsistent | RvError::AttributeTypeInvalid), "{claim:?}: {rv:?}");
            let rv = refused(aes(&session, 16, std::slice::from_ref(&claim)));
            assert!(matches!(rv, RvError::AttributeReadOnly | RvError::TemplateInconsistent | RvError::AttributeTypeInvalid), "{claim:?}: {rv:?}");
        }
        let trusted = refused(aes(&session, 16, &[Attribute::Wrap(true), Attribute::Trusted(true)]));
        assert!(matches!(trusted, RvError::AttributeReadOnly | RvError::TemplateInconsistent | RvError::UserNotLoggedIn), "{trusted:?}");
    }
}

module_test! {
    fn templates_that_contradict_themselves_are_refused(_world) {
        let token = Token::open();
        let session = token.user();
        let incomplete = refused(session.create_object(&[Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::AES)]));
        assert!(matches!(incomplete, RvError::TemplateIncomplete), "{incomplete:?}");
        let classless = refused(session.create_object(&[Attribute::Token(false), Attribute::Value(vec![1])]));
        assert!(matches!(classless, RvError::TemplateIncomplete), "{classless:?}");
        let foreign = refused(aes(&session, 16, &[Attribute::Modulus(vec![1; 256])]));
        assert!(matches!(foreign, RvError::TemplateInconsistent | RvError::AttributeTypeInvalid), "{foreign:?}");
        let other_class = refused(aes(&session, 16, &[Attribute::Class(ObjectClass::PRIVATE_KEY)]));
        assert!(matches!(other_class, RvError::TemplateInconsistent), "{other_class:?}");
        let value = refused(aes(&session, 16, &[Attribute::Value(vec![1; 16])]));
        assert!(matches!(value, RvError::TemplateInconsistent | RvError::AttributeTypeInvalid | RvError::AttributeReadOnly), "{value:?}");
    }
}

module_test! {
    fn set_attribute_changes_what_may_change(_world) {
        let token = Token::open();
        let session = token.user();
        let key = aes(&session, 16, &[Attribute::Label("before".into()), Attribute::Encrypt(true)]).expect("a key");
        session.update_attributes(key, &[Attribute::Label("after".into()), Attribute::Id(vec![1, 2])]).expect("set");
        assert_eq!(attribute(&session, key, AttributeType::Label), Attribute::Label("after".into()));
        for fixed in [Attribute::Class(ObjectClass::DATA), Attribute::KeyType(KeyType::EC), Attribute::Local(true)] {
            let set = session.update_attributes(key, std::slice::from_ref(&fixed));
            assert!(set.is_err(), "{fixed:?} was set");
            let rv = refused(set);
            assert!(matches!(rv, RvError::AttributeReadOnly | RvError::TemplateInconsistent), "{fixed:?}: {rv:?}");
        }
        // All or nothing: the first attribute of a refused template does not stay.
        refused(session.update_attributes(key, &[Attribute::Label("half".into()), Attribute::Local(false)]));
        assert_eq!(attribute(&session, key, AttributeType::Label), Attribute::Label("after".into()));
    }
}

module_test! {
    fn an_object_that_is_not_modifiable_stays_as_it_is(_world) {
        let token = Token::open();
        let session = token.user();
        let mut template = data("fixed", false, false);
        template.push(Attribute::Modifiable(false));
        let fixed = session.create_object(&template).expect("data");
        let rv = refused(session.update_attributes(fixed, &[Attribute::Label("changed".into())]));
        assert!(matches!(rv, RvError::ActionProhibited | RvError::AttributeReadOnly), "{rv:?}");
        let rv = refused(session.copy_object(fixed, &[Attribute::Modifiable(true)]));
        assert!(matches!(rv, RvError::ActionProhibited | RvError::AttributeReadOnly | RvError::TemplateInconsistent), "{rv:?}");
    }
}

module_test! {
    fn copies_are_objects_of_their_own(_world) {
        let token = Token::open();
        let session = token.user();
        let key = aes(&session, 16, &[Attribute::Encrypt(true), Attribute::Decrypt(true)]).expect("a key");
        let copy = session.copy_object(key, &[Attribute::Token(true), Attribute::Label("copy".into())]).expect("a copy");
        assert_eq!(attribute(&session, copy, AttributeType::Token), Attribute::Token(true));
        let sealed = session.encrypt(&Mechanism::AesCbcPad([0; 16]), key, b"same value").expect("encrypts");
        session.destroy_object(key).expect("destroyed");
        assert_eq!(session.decrypt(&Mechanism::AesCbcPad([0; 16]), copy, &sealed).expect("decrypts"), b"same value");
    }
}

module_test! {
    fn copyable_and_destroyable_are_honoured(_world) {
        let token = Token::open();
        let session = token.user();
        let single = aes(&session, 16, &[Attribute::Copyable(false)]).expect("a key");
        let rv = refused(session.copy_object(single, &[Attribute::Label("copy".into())]));
        assert!(matches!(rv, RvError::ActionProhibited), "{rv:?}");
        let lasting = aes(&session, 16, &[Attribute::Destroyable(false)]).expect("a key");
        let rv = refused(session.destroy_object(lasting));
        assert!(matches!(rv, RvError::ActionProhibited), "{rv:?}");
    }
}

module_test! {
    fn destroyed_objects_are_gone_everywhere(_world) {
        let token = Token::open();
        let (one, two) = (token.user(), token.session());
        let (public, private) = module::ec(&one, P256, token_object("doomed")).expect("a key");
        two.sign(&Mechanism::EcdsaSha256, private, b"still").expect("every session sees it");
        two.destroy_object(private).expect("destroyed");
        let rv = refused(one.sign(&Mechanism::EcdsaSha256, private, b"gone"));
        assert!(matches!(rv, RvError::KeyHandleInvalid | RvError::ObjectHandleInvalid), "{rv:?}");
        assert_eq!(one.find_objects(&[Attribute::Label("doomed".into())]).expect("find"), vec![public]);
    }
}

module_test! {
    fn find_matches_every_attribute_of_the_template(_world) {
        let token = Token::open();
        let session = token.user();
        let (public, private) = module::ec(&session, P256, token_object("one")).expect("a key");
        module::ec(&session, P256, token_object("two")).expect("a key");
        let find = |template: &[Attribute]| session.find_objects(template).expect("find");
        let of_one = Attribute::Label("one".into());
        assert_eq!(find(&[of_one.clone(), Attribute::Class(ObjectClass::PRIVATE_KEY)]), vec![private]);
        assert_eq!(find(&[Attribute::Id("one".into()), Attribute::Verify(true)]), vec![public]);
        assert_eq!(find(&[Attribute::KeyType(KeyType::EC)]).len(), 4);
        assert_eq!(find(&[]).len(), 4);
        assert!(find(&[of_one, Attribute::KeyType(KeyType::RSA)]).is_empty());
        assert!(find(&[Attribute::Label("on".into())]).is_empty());
    }
}

module_test! {
    fn many_objects_are_all_found(_world) {
        // More than one page of any client: C_FindObjects is called until it gives none.
        let token = Token::open();
        let session = token.user();
        for turn in 0..300 {
            aes(&session, 16, &[Attribute::Id(vec![u8::try_from(turn % 256).expect("a byte")]), Attribute::Label("many".into())]).expect("a key");
        }
        let found = session.find_objects(&[Attribute::Label("many".into())]).expect("find");
        let unique: std::collections::HashSet<_> = found.iter().map(|object| object.handle()).collect();
        assert_eq!((found.len(), unique.len()), (300, 300));
    }
}
