//! Derivation (PKCS#11 v3.0 §5.18.5), with the published answers of each function, and what a derived key tells of its base key.

use acceptance::module::{self, Token, attribute, refused};
use acceptance::module_test;
use acceptance::raw::{Init, Raw, Room};
use acceptance::structure::{Connection, Structure};
use acceptance::world::World;
use cryptoki::error::RvError;
use cryptoki::mechanism::hkdf::{HkdfParams, HkdfSalt};
use cryptoki::mechanism::kbkdf::{
    DerivedKey, Endianness, KbkdfCounterFormat, KbkdfFeedbackParams, KbkdfParams, PrfDataParam, PrfDataParamType,
};
use cryptoki::mechanism::misc::{ExtractParams, KeyDerivationStringData};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki_sys::*;
use data_encoding::HEXLOWER;

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).expect("hex")
}

fn secret(session: &Session, key_type: KeyType, value: &[u8], more: &[Attribute]) -> ObjectHandle {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(key_type),
        Attribute::Token(false),
        Attribute::Derive(true),
        Attribute::Value(value.into()),
    ];
    session.create_object(&[&template[..], more].concat()).expect("imports")
}

const OPEN: [Attribute; 2] = [Attribute::Sensitive(false), Attribute::Extractable(true)];

/// A generic secret that shows its value.
fn readable(len: u64) -> Vec<Attribute> {
    let kind = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::GENERIC_SECRET)];
    [&kind[..], &OPEN, &[Attribute::Token(false), Attribute::ValueLen(len.into())]].concat()
}

fn value(session: &Session, object: ObjectHandle) -> Vec<u8> {
    let Attribute::Value(value) = attribute(session, object, AttributeType::Value) else { panic!("no value") };
    value
}

fn is_hidden(session: &Session, key: ObjectHandle) -> bool {
    session.get_attributes(key, &[AttributeType::Value]).expect("the call is fine").is_empty()
}

module_test! {
    fn hkdf_gives_the_published_answers_and_their_steps(_world) {
        // RFC 5869, appendix A.1.
        let token = Token::open();
        let session = token.user();
        let input = secret(&session, KeyType::HKDF, &[0x0b; 22], &OPEN);
        let (salt, info) = (hex("000102030405060708090a0b0c"), hex("f0f1f2f3f4f5f6f7f8f9"));
        let okm = hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
        let prk = hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
        let with = |salt, info| HkdfParams::new(MechanismType::SHA256, salt, info);
        let derive = |key, params, len| session.derive_key(&Mechanism::HkdfDerive(params), key, &readable(len));
        let both = derive(input, with(Some(HkdfSalt::Data(&salt)), Some(&info)), 42).expect("derives");
        assert_eq!(value(&session, both), okm);
        let extracted = derive(input, with(Some(HkdfSalt::Data(&salt)), None), 32).expect("extracts");
        assert_eq!(value(&session, extracted), prk);
        let expanded = derive(extracted, with(None, Some(&info)), 42).expect("expands");
        assert_eq!(value(&session, expanded), okm);
        let salt_key = secret(&session, KeyType::GENERIC_SECRET, &salt, &OPEN);
        let keyed = derive(input, with(Some(HkdfSalt::Key(salt_key)), Some(&info)), 42).expect("derives");
        assert_eq!(value(&session, keyed), okm);
        let params = with(Some(HkdfSalt::Data(&salt)), Some(&info));
        let template = [Attribute::Class(ObjectClass::DATA), Attribute::Token(false), Attribute::ValueLen(42.into())];
        let data = session.derive_key(&Mechanism::HkdfData(params), input, &template).expect("derives data");
        assert_eq!(attribute(&session, data, AttributeType::Class), Attribute::Class(ObjectClass::DATA));
        assert_eq!(value(&session, data), okm);
        for (what, params, len) in [
            ("neither step", with(None, None), 32),
            ("more than 255 blocks", with(None, Some(info.as_slice())), 255 * 32 + 1),
            ("extract to another length", with(Some(HkdfSalt::Null), None), 31),
        ] {
            let rv = refused(derive(input, params, len));
            let right = matches!(rv, RvError::MechanismParamInvalid | RvError::KeySizeRange | RvError::AttributeValueInvalid);
            assert!(right, "{what}: {rv:?}");
        }
    }
}

module_test! {
    fn sp800_108_gives_the_published_answers(_world) {
        // NIST CAVS 14.4, KDFCTR_gen: CMAC-AES128, counter of 8 bits before the input, COUNT=0; HMAC-SHA256, 32 bits in the middle,
        // COUNT=39.
        let token = Token::open();
        let session = token.user();
        let width = |bits: usize| KbkdfCounterFormat::new(Endianness::Big, bits.try_into().expect("not zero"));
        let rows = [
            (
                KeyType::AES,
                MechanismType::AES_CMAC,
                width(8),
                "dff1e50ac0b69dc40f1051d46c2b069c",
                "",
                "c16e6e02c5a3dcc8d78b9ac1306877761310455b4e41469951d9e6c2245a064b33fd8c3b01203a7824485bf0a64060c4648b707d2607935699316ea5",
                "8be8f0869b3c0ba97b71863d1b9f7813",
            ),
            (
                KeyType::GENERIC_SECRET,
                MechanismType::SHA256_HMAC,
                width(32),
                "490f0837cf3be0781a8c6237444f476d5f3112ef59ce8fd617929759cd911d61",
                "2a96f732a9b58d0a1895015312baac953a0c0b8757cb4e1c2aeff6f544402265e1951f4be45a7ebbf369bf935a7f98e50715",
                "74aeb4737d0966cd0760",
                "248089c63c58603b7ae7f3a5b6163ebdaab390affc9c83f9007f83bc26e0d5ee0338e1c500d67d80",
            ),
        ];
        for (key_type, prf, counter, key, before, after, answer) in rows {
            let (key, before, after, answer) = (secret(&session, key_type, &hex(key), &OPEN), hex(before), hex(after), hex(answer));
            let mut fields = vec![PrfDataParam::new(PrfDataParamType::IterationVariable(Some(&counter)))];
            if !before.is_empty() {
                fields.insert(0, PrfDataParam::new(PrfDataParamType::ByteArray(&before)));
            }
            fields.push(PrfDataParam::new(PrfDataParamType::ByteArray(&after)));
            let mechanism = Mechanism::KbkdfCounter(KbkdfParams::new(prf, &fields, None));
            let derived = session.derive_key(&mechanism, key, &readable(answer.len() as u64)).expect("derives");
            assert_eq!(value(&session, derived), answer, "{prf}");
        }
    }
}

module_test! {
    fn sp800_108_gives_additional_keys_from_segments_of_their_own(_world) {
        // PKCS#11 3.2 §6.42: a key of 48 bytes takes two segments of SHA-256, the next begins with the third.
        let token = Token::open();
        let session = token.user();
        let key = secret(&session, KeyType::GENERIC_SECRET, &[7; 32], &OPEN);
        let fields = [
            PrfDataParam::new(PrfDataParamType::IterationVariable(None)),
            PrfDataParam::new(PrfDataParamType::ByteArray(b"label")),
        ];
        let stream = Mechanism::KbkdfFeedback(KbkdfFeedbackParams::new(MechanismType::SHA256_HMAC, &fields, Some(b"iv"), None));
        let stream = value(&session, session.derive_key(&stream, key, &readable(96)).expect("derives"));
        let template = readable(16);
        let mut additional = [DerivedKey::new(&template)];
        let params = KbkdfFeedbackParams::new(MechanismType::SHA256_HMAC, &fields, Some(b"iv"), Some(&mut additional));
        let first = session.derive_key(&Mechanism::KbkdfFeedback(params), key, &readable(48)).expect("derives");
        let second = additional[0].handle().expect("the second key has a handle");
        assert_eq!(value(&session, first), stream[..48]);
        assert_eq!(value(&session, second), stream[64..80]);
        let pipeline = Mechanism::KbkdfDoublePipeline(KbkdfParams::new(MechanismType::SHA256_HMAC, &fields, None));
        let other = value(&session, session.derive_key(&pipeline, key, &readable(96)).expect("derives"));
        assert_ne!(other, stream);
        let twice = [
            PrfDataParam::new(PrfDataParamType::IterationVariable(None)),
            PrfDataParam::new(PrfDataParamType::IterationVariable(None)),
        ];
        let twice = Mechanism::KbkdfDoublePipeline(KbkdfParams::new(MechanismType::SHA256_HMAC, &twice, None));
        let rv = refused(session.derive_key(&twice, key, &readable(32)));
        assert!(matches!(rv, RvError::MechanismParamInvalid), "{rv:?}");
    }
}

module_test! {
    fn a_password_makes_a_key_in_both_layouts_and_the_key_is_no_wrapping_key(world) {
        reopened(world, "cbc_unwrap = true");
        // RFC 7914, section 11: PBKDF2-HMAC-SHA-256 of "passwd" and "salt", one round.
        let token = Token::open();
        let session = token.user();
        let (raw, handle) = (Raw::load(&module::path()), session.handle());
        let number = |number: CK_ULONG| number.to_ne_bytes().to_vec();
        let template = |key_type, len, secret: u8| {
            vec![
                (CKA_KEY_TYPE, number(key_type)),
                (CKA_VALUE_LEN, number(len)),
                (CKA_SENSITIVE, vec![secret]),
                (CKA_EXTRACTABLE, vec![1 - secret]),
            ]
        };
        let answer = "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783";
        let prf = CKP_PKCS5_PBKD2_HMAC_SHA256;
        for parameter in [Structure::Pbkdf2(b"passwd", b"salt", 1, prf), Structure::OldPbkdf2(b"passwd", b"salt", 1, prf)] {
            let key = raw.generate_with(handle, CKM_PKCS5_PBKD2, parameter, &template(CKK_GENERIC_SECRET, 64, 0)).expect("makes a key");
            let read = raw.attribute(handle, key, CKA_VALUE, Room::Bytes(64));
            assert_eq!(HEXLOWER.encode(&read.bytes), answer);
        }
        for parameter in [Structure::Pbkdf2(b"passwd", b"salt", 0, prf), Structure::Pbkdf2(b"passwd", b"salt", 1, 99)] {
            let refused = raw.generate_with(handle, CKM_PKCS5_PBKD2, parameter, &template(CKK_GENERIC_SECRET, 64, 0));
            assert_eq!(refused, Err(CKR_MECHANISM_PARAM_INVALID));
        }
        // Who knows the password knows the key: a sensitive key does not leave under it.
        let mut wraps = template(CKK_AES, 32, 1);
        wraps.extend([(CKA_WRAP, vec![1]), (CKA_ENCRYPT, vec![0]), (CKA_DECRYPT, vec![0])]);
        let wrapper = raw.generate_with(handle, CKM_PKCS5_PBKD2, Structure::Pbkdf2(b"passwd", b"salt", 1, prf), &wraps).expect("makes a key");
        for (history, expected) in [(CKA_ALWAYS_SENSITIVE, 0), (CKA_NEVER_EXTRACTABLE, 0)] {
            assert_eq!(raw.attribute(handle, wrapper, history, Room::Bytes(1)).bytes, [expected]);
        }
        let target = module::aes(&session, 32, &[Attribute::Sensitive(true), Attribute::Extractable(true)]).expect("a target");
        let wrapper = session.find_objects(&[Attribute::Wrap(true), Attribute::Encrypt(false)]).expect("finds").remove(0);
        let rv = refused(session.wrap_key(&Mechanism::AesKeyWrap, wrapper, target));
        assert!(matches!(rv, RvError::KeyNotWrappable), "{rv:?}");
    }
}

const CLIENT: [u8; 32] = [0xc1; 32];
const SERVER: [u8; 32] = [0x5e; 32];

/// A pre-master secret of an RSA exchange: version 3.3, and 46 bytes.
fn pre_master() -> Vec<u8> {
    [3, 3].into_iter().chain(0..46).collect()
}

/// The values were computed with Python's hmac by RFC 5246, RFC 7627 and RFC 5705.
const MASTER: &str = "15cdeee113ad922474d21f77ce6f686335a930c052fc106613ff2d390910c16ad30f22101881c9bcd0ed289edb9f7f55";

module_test! {
    fn the_key_schedule_of_tls_1_2_runs_in_the_token(_world) {
        let token = Token::open();
        let session = token.user();
        let (raw, handle) = (Raw::load(&module::path()), session.handle());
        let base = secret(&session, KeyType::GENERIC_SECRET, &pre_master(), &OPEN).handle();
        let open = [(CKA_SENSITIVE, vec![0]), (CKA_EXTRACTABLE, vec![1])];
        let read = |key| HEXLOWER.encode(&raw.attribute(handle, key, CKA_VALUE, Room::Bytes(512)).bytes);
        let mut version = [0, 0];
        let parameter = Structure::TlsMaster(CKM_SHA256, (&CLIENT, &SERVER), Some(&mut version));
        let master = raw.derive_with(handle, CKM_TLS12_MASTER_KEY_DERIVE, parameter, base, &open).expect("a master secret");
        assert_eq!((read(master).as_str(), version), (MASTER, [3, 3]));
        let parameter = Structure::TlsMaster(CKM_SHA256, (&CLIENT, &SERVER), None);
        let dh = raw.derive_with(handle, CKM_TLS12_MASTER_KEY_DERIVE_DH, parameter, base, &open).expect("a master secret");
        assert_eq!(read(dh), MASTER);
        let parameter = Structure::TlsExtendedMaster(CKM_SHA384, &[7; 48]);
        let extended = raw.derive_with(handle, CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE, parameter, base, &open);
        assert_eq!(
            read(extended.expect("a master secret")),
            "ef19ba0a31e5c4a3f05a286b57b9165a2337f2e5fbd560fdb2e72361ca9935b1155cb4aae3d7f7633192528906e9dfb5"
        );
        let exporters = [
            (None, "941002dacd16d02d1d3b1fafeff43166b638f78f7f170932e3c804e8354eb503"),
            (Some(&b""[..]), "e4942f7c224020736ee046ecf7191e5cccc6c0082c0d5a5a05fe2f96974be70c"),
            (Some(&b"ctx"[..]), "e5561d57a3525d73aa0c39c38ac02febbaceebeb0794dc81522a0cd2ec606fe0"),
        ];
        let sized = [&open[..], &[(CKA_VALUE_LEN, 32_u64.to_ne_bytes().to_vec())]].concat();
        for (context, answer) in exporters {
            let parameter = Structure::TlsKdf(CKM_SHA256, b"EXPERIMENTAL label", (&CLIENT, &SERVER), context);
            assert_eq!(read(raw.derive_with(handle, CKM_TLS_KDF, parameter, master, &sized).expect("exports")), answer);
        }
        for (side, answer) in [(2, "124e76d201915c5014205071"), (1, "e4ded92359e424509c71d56f")] {
            let finished: &[CK_ULONG] = &[CKM_SHA256, 12, side];
            assert_eq!(raw.init(Init::Sign, handle, CKM_TLS_MAC, Structure::Numbers(finished), master), CKR_OK);
            assert_eq!(HEXLOWER.encode(&raw.sign(handle, &[9; 32], Room::Bytes(64)).bytes), answer);
            assert_eq!(raw.init(Init::Verify, handle, CKM_TLS_MAC, Structure::Numbers(finished), master), CKR_OK);
            assert_eq!(raw.verify(handle, &[9; 32], &hex(answer)), CKR_OK);
        }
    }
}

module_test! {
    fn the_keys_of_a_tls_connection_come_back_in_the_parameter(_world) {
        let token = Token::open();
        let session = token.user();
        let (raw, handle) = (Raw::load(&module::path()), session.handle());
        let open = secret(&session, KeyType::GENERIC_SECRET, &hex(MASTER), &OPEN).handle();
        let block = hex("14485b5f14b0f7224068825c43a0c56d7c0a7951b51b858c9cfaf4c06a99e91de9834707deae254d5ce50530991c767230f64156bbdda75ff31aae32e3e71b844286c6b5fdca795471730ea0dd28c54bcbfadde23db9e4e2faf69e1206e30d18");
        let template = [(CKA_KEY_TYPE, CKK_AES.to_ne_bytes().to_vec())];
        let read = |key| raw.attribute(handle, key, CKA_VALUE, Room::Bytes(64)).bytes;
        // AES-128-GCM: no MAC keys, IVs of four bytes.
        let mut made = Connection::default();
        let parameter = Structure::TlsKeys(CKM_SHA256, (&CLIENT, &SERVER), [0, 128, 32], &mut made);
        assert_eq!(raw.derive_without_handle(handle, CKM_TLS12_KEY_AND_MAC_DERIVE, parameter, open, &template), CKR_OK);
        assert_eq!(made.handles[..2], [0, 0]);
        assert_eq!([read(made.handles[2]), read(made.handles[3])].concat(), block[..32]);
        assert_eq!([made.client_iv, made.server_iv].concat(), block[32..40]);
        // AES-128-CBC with SHA-256: MAC keys, no IVs.
        let mut made = Connection::default();
        let parameter = Structure::TlsKeys(CKM_SHA256, (&CLIENT, &SERVER), [256, 128, 0], &mut made);
        assert_eq!(raw.derive_without_handle(handle, CKM_TLS12_KEY_SAFE_DERIVE, parameter, open, &template), CKR_OK);
        assert_eq!(made.handles.map(read).concat(), block[..96]);
        assert_eq!(raw.init(Init::Sign, handle, CKM_SHA256_HMAC, Structure::Bytes(&[]), made.handles[0]), CKR_OK);
        assert_eq!(raw.sign(handle, b"record", Room::Bytes(32)).rv, CKR_OK);
        // A master secret that cannot be read gives no piece of its key block away.
        let hidden = secret(&session, KeyType::GENERIC_SECRET, &hex(MASTER), &[Attribute::Sensitive(true)]).handle();
        for bits in [[0, 0, 256], [0, 8, 0], [8, 128, 0], [256, 128, 128], [0, 128, 128], [0, 136, 32]] {
            let mut made = Connection::default();
            let parameter = Structure::TlsKeys(CKM_SHA256, (&CLIENT, &SERVER), bits, &mut made);
            let rv = raw.derive_without_handle(handle, CKM_TLS12_KEY_AND_MAC_DERIVE, parameter, hidden, &template);
            assert_ne!(rv, CKR_OK, "{bits:?}");
            assert!(made.client_iv.iter().chain(&made.server_iv).all(|&byte| byte == 0), "{bits:?}");
        }
        let mut made = Connection::default();
        let parameter = Structure::TlsKeys(CKM_SHA256, (&CLIENT, &SERVER), [0, 256, 32], &mut made);
        assert_eq!(raw.derive_without_handle(handle, CKM_TLS12_KEY_AND_MAC_DERIVE, parameter, hidden, &template), CKR_OK);
        for key in &made.handles[2..] {
            assert_eq!(raw.attribute(handle, *key, CKA_VALUE, Room::Bytes(64)).rv, CKR_ATTRIBUTE_SENSITIVE);
        }
        // Nor may the template ask for less secrecy than the master secret has.
        let weaker = [&template[..], &[(CKA_SENSITIVE, vec![0])]].concat();
        let mut made = Connection::default();
        let parameter = Structure::TlsKeys(CKM_SHA256, (&CLIENT, &SERVER), [0, 256, 32], &mut made);
        let rv = raw.derive_without_handle(handle, CKM_TLS12_KEY_AND_MAC_DERIVE, parameter, hidden, &weaker);
        assert_eq!(rv, CKR_TEMPLATE_INCONSISTENT);
    }
}

module_test! {
    fn a_sensitive_base_key_gives_no_child_that_could_be_guessed(_world) {
        // Children of one, two, three bytes would read a longer one byte by byte.
        let token = Token::open();
        let session = token.user();
        let base = secret(&session, KeyType::GENERIC_SECRET, &[7; 32], &[Attribute::Sensitive(true), Attribute::Extractable(false)]);
        let hidden = |len: u64| {
            let kind = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::GENERIC_SECRET)];
            [&kind[..], &[Attribute::Token(false), Attribute::ValueLen(len.into())]].concat()
        };
        let hkdf = || Mechanism::HkdfDerive(HkdfParams::new(MechanismType::SHA256, None, Some(b"info")));
        for len in [1, 8, 13] {
            let rv = refused(session.derive_key(&hkdf(), base, &hidden(len)));
            assert!(matches!(rv, RvError::KeySizeRange), "{len}: {rv:?}");
        }
        let child = session.derive_key(&hkdf(), base, &hidden(32)).expect("derives");
        assert!(is_hidden(&session, child));
        let history = [AttributeType::AlwaysSensitive, AttributeType::NeverExtractable, AttributeType::Local];
        let facts = session.get_attributes(child, &history).expect("reads");
        // An imported base key has an unknown past, and so has its child.
        let expected = [Attribute::AlwaysSensitive(false), Attribute::NeverExtractable(false), Attribute::Local(false)];
        assert_eq!(facts, expected);
    }
}

module_test! {
    fn the_digest_of_a_sensitive_key_is_as_secret_as_the_key(_world) {
        let token = Token::open();
        let session = token.user();
        let (raw, handle) = (Raw::load(&module::path()), session.handle());
        let open = secret(&session, KeyType::GENERIC_SECRET, b"abc", &OPEN).handle();
        let asked = [(CKA_SENSITIVE, vec![0]), (CKA_EXTRACTABLE, vec![1])];
        let derive = |base, template: &[_]| raw.derive_with(handle, CKM_SHA256_KEY_DERIVATION, Structure::Bytes(&[]), base, template);
        let child = derive(open, &asked).expect("derives");
        let read = raw.attribute(handle, child, CKA_VALUE, Room::Bytes(64)).bytes;
        assert_eq!(HEXLOWER.encode(&read), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let hidden = secret(&session, KeyType::GENERIC_SECRET, &[1; 32], &[Attribute::Sensitive(true)]).handle();
        assert_eq!(derive(hidden, &asked), Err(CKR_TEMPLATE_INCONSISTENT));
        let child = derive(hidden, &[]).expect("derives");
        assert_eq!(raw.attribute(handle, child, CKA_VALUE, Room::Bytes(64)).rv, CKR_ATTRIBUTE_SENSITIVE);
    }
}

fn old_derivations() -> Vec<(&'static str, Mechanism<'static>)> {
    let data = || KeyDerivationStringData::new(&[5; 32]);
    vec![
        ("base and data", Mechanism::ConcatenateBaseAndData(data())),
        ("data and base", Mechanism::ConcatenateDataAndBase(data())),
        ("xor", Mechanism::XorBaseAndData(data())),
        ("extract", Mechanism::ExtractKeyFromKey(ExtractParams::new(0))),
    ]
}

module_test! {
    fn old_derivations_are_off(_world) {
        let token = Token::open();
        let session = token.user();
        let base = secret(&session, KeyType::GENERIC_SECRET, &[7; 32], &OPEN);
        for (what, mechanism) in old_derivations() {
            let rv = refused(session.derive_key(&mechanism, base, &readable(32)));
            assert!(matches!(rv, RvError::MechanismInvalid), "{what}: {rv:?}");
        }
        let listed = Raw::load(&module::path()).mechanisms(token.slot.id()).expect("the list");
        for number in [CKM_CONCATENATE_BASE_AND_KEY, CKM_AES_ECB_ENCRYPT_DATA, CKM_AES_CBC_ENCRYPT_DATA, CKM_EXTRACT_KEY_FROM_KEY] {
            assert!(!listed.contains(&number), "{number:#x}");
        }
    }
}

/// The same world with a switch open.
fn reopened(world: &mut World, switch: &str) {
    world.stop_daemon();
    world.configure(&format!("[policy]\nprofile = \"compat\"\n{switch}"));
    world.start_daemon();
}

/// The same world with old derivations.
fn with_old_derivations(world: &mut World) {
    reopened(world, "legacy_derive = true");
}

module_test! {
    fn old_derivations_compute_what_the_standard_says_of_keys_that_may_be_read(world) {
        with_old_derivations(world);
        let token = Token::open();
        let session = token.user();
        let base = secret(&session, KeyType::GENERIC_SECRET, &[0x01, 0x23, 0x45, 0x67], &OPEN);
        let other = secret(&session, KeyType::GENERIC_SECRET, &[0x89, 0xab], &OPEN);
        let example = secret(&session, KeyType::GENERIC_SECRET, &[0x32, 0x9f, 0x84, 0xa9], &OPEN);
        let data = || KeyDerivationStringData::new(&[0x89, 0xab, 0xcd, 0xef]);
        let rows = [
            (Mechanism::ConcatenateBaseAndKey(other), base, 6, "0123456789ab"),
            (Mechanism::ConcatenateBaseAndData(data()), base, 8, "0123456789abcdef"),
            (Mechanism::ConcatenateDataAndBase(data()), base, 8, "89abcdef01234567"),
            (Mechanism::XorBaseAndData(data()), base, 4, "88888888"),
            (Mechanism::ExtractKeyFromKey(ExtractParams::new(21)), example, 2, "9526"),
        ];
        for (mechanism, base, len, answer) in rows {
            let derived = session.derive_key(&mechanism, base, &readable(len)).expect("derives");
            assert_eq!(HEXLOWER.encode(&value(&session, derived)), answer);
        }
        // FIPS 197, appendix C.1: one block under AES-128.
        let (raw, handle) = (Raw::load(&module::path()), session.handle());
        let aes = secret(&session, KeyType::AES, &hex("000102030405060708090a0b0c0d0e0f"), &OPEN).handle();
        let block = hex("00112233445566778899aabbccddeeff");
        let open = [(CKA_SENSITIVE, vec![0]), (CKA_EXTRACTABLE, vec![1])];
        let derived = raw.derive_with(handle, CKM_AES_ECB_ENCRYPT_DATA, Structure::Data(&block), aes, &open).expect("derives");
        let longer = [&open[..], &[(CKA_VALUE_LEN, 32u64.to_ne_bytes().to_vec())]].concat();
        let short = raw.derive_with(handle, CKM_AES_ECB_ENCRYPT_DATA, Structure::Data(&block), aes, &longer);
        assert_eq!(short, Err(CKR_MECHANISM_PARAM_INVALID), "data for half a key");
        assert_eq!(
            HEXLOWER.encode(&raw.attribute(handle, derived, CKA_VALUE, Room::Bytes(16)).bytes),
            "69c4e0d86a7b0430d8cdb78070b4c55a"
        );
    }
}

module_test! {
    fn old_derivations_show_nothing_of_a_sensitive_key(world) {
        with_old_derivations(world);
        let token = Token::open();
        let session = token.user();
        let guarded = [Attribute::Sensitive(true), Attribute::Extractable(true), Attribute::Sign(true)];
        let base = secret(&session, KeyType::GENERIC_SECRET, &[7; 32], &guarded);
        let hidden = |len: u64| {
            let kind = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::GENERIC_SECRET)];
            [&kind[..], &[Attribute::Token(false), Attribute::ValueLen(len.into())]].concat()
        };
        for (what, mechanism) in old_derivations() {
            let whole = if what.contains("and") { 64 } else { 32 };
            let readable = refused(session.derive_key(&mechanism, base, &readable(whole)));
            assert!(matches!(readable, RvError::TemplateInconsistent), "{what}: {readable:?}");
            for len in [1, 13, 31, whole - 1] {
                let short = refused(session.derive_key(&mechanism, base, &hidden(len)));
                assert!(matches!(short, RvError::KeySizeRange), "{what}, {len} bytes: {short:?}");
            }
            let child = session.derive_key(&mechanism, base, &hidden(whole)).expect(what);
            assert!(is_hidden(&session, child), "{what}");
            assert_eq!(attribute(&session, child, AttributeType::Extractable), Attribute::Extractable(false), "{what}");
        }
        // A key that encrypts would show what is "derived" by encryption.
        let aes = [Attribute::Derive(true), Attribute::Encrypt(true), Attribute::Decrypt(false)];
        let aes = module::aes(&session, 32, &aes).expect("a key").handle();
        let raw = Raw::load(&module::path());
        let refused = raw.derive_with(session.handle(), CKM_AES_ECB_ENCRYPT_DATA, Structure::Data(&[1; 32]), aes, &[]);
        assert_eq!(refused, Err(CKR_KEY_FUNCTION_NOT_PERMITTED));
        let only = [Attribute::Derive(true), Attribute::Encrypt(false), Attribute::Decrypt(false)];
        let only = module::aes(&session, 32, &only).expect("a key").handle();
        let template = [(CKA_VALUE_LEN, 16_u64.to_ne_bytes().to_vec())];
        let cut = raw.derive_with(session.handle(), CKM_AES_ECB_ENCRYPT_DATA, Structure::Data(&[1; 32]), only, &template);
        assert_eq!(cut, Err(CKR_KEY_SIZE_RANGE));
        raw.derive_with(session.handle(), CKM_AES_ECB_ENCRYPT_DATA, Structure::Data(&[1; 32]), only, &[]).expect("derives");
    }
}
