//! Key management (PKCS#11 v3.0 §5.18): generate, import, wrap, unwrap, derive.

use acceptance::module::{P256, P384, P521, SESSION, Token, aes, attribute, import_aes, import_ec, refused};
use acceptance::{module, module_test};
use cryptoki::error::RvError;
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

const EXPOSED: [Attribute; 2] = [Attribute::Sensitive(false), Attribute::Extractable(true)];
/// A key that wraps, and whose value nobody has ever known.
const WRAPS: [Attribute; 4] =
    [Attribute::Wrap(true), Attribute::Unwrap(true), Attribute::Sensitive(true), Attribute::Extractable(false)];

/// A key that was made for wrapping: it does nothing else.
fn wrapper(session: &Session, len_bytes: u64) -> ObjectHandle {
    let only = [&WRAPS[..], &[Attribute::Encrypt(false), Attribute::Decrypt(false)]].concat();
    aes(session, len_bytes, &only).expect("a wrapping key")
}

fn value(session: &Session, key: ObjectHandle) -> Vec<u8> {
    let Attribute::Value(value) = attribute(session, key, AttributeType::Value) else {
        panic!("CKA_VALUE holds something else")
    };
    value
}

module_test! {
    fn generated_keys_know_where_they_come_from(_world) {
        let token = Token::open();
        let session = token.user();
        let (_, rsa) = module::rsa(&session, 2048, SESSION).expect("a key");
        let (_, ec) = module::ec(&session, P256, SESSION).expect("a key");
        let secret = [Attribute::Sensitive(true), Attribute::Extractable(false)];
        let rows = [
            (rsa, MechanismType::RSA_PKCS_KEY_PAIR_GEN, KeyType::RSA),
            (ec, MechanismType::ECC_KEY_PAIR_GEN, KeyType::EC),
            (aes(&session, 32, &secret).expect("a key"), MechanismType::AES_KEY_GEN, KeyType::AES),
        ];
        for (key, mechanism, key_type) in rows {
            for expected in [
                Attribute::KeyType(key_type),
                Attribute::Local(true),
                Attribute::AlwaysSensitive(true),
                Attribute::KeyGenMechanism(mechanism),
                Attribute::Token(false),
            ] {
                assert_eq!(attribute(&session, key, expected.attribute_type()), expected, "{key_type}");
            }
        }
    }
}

module_test! {
    fn a_generated_rsa_pair_shows_its_public_half_on_both_objects(_world) {
        let token = Token::open();
        let session = token.user();
        let (public, private) = module::rsa(&session, 2048, SESSION).expect("a key");
        for attribute_type in [AttributeType::Modulus, AttributeType::PublicExponent] {
            assert_eq!(attribute(&session, public, attribute_type), attribute(&session, private, attribute_type));
        }
        let Attribute::Modulus(modulus) = attribute(&session, public, AttributeType::Modulus) else { panic!("no modulus") };
        assert_eq!((modulus.len(), modulus[0] & 0x80), (256, 0x80));
    }
}

module_test! {
    fn sizes_and_curves_outside_the_table_are_refused(_world) {
        let token = Token::open();
        let session = token.user();
        // secp192k1, 1.3.132.0.31, P-224, on which nothing new is made, Ed25519 and something that is no curve at all.
        let k1: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x1f];
        for (what, result) in [
            ("RSA 1024", module::rsa(&session, 1024, SESSION).map(drop)),
            ("RSA 2047", module::rsa(&session, 2047, SESSION).map(drop)),
            ("RSA 16384", module::rsa(&session, 16384, SESSION).map(drop)),
            ("secp192k1", module::ec(&session, k1, SESSION).map(drop)),
            ("P-224", module::ec(&session, module::P224, SESSION).map(drop)),
            ("Ed25519", module::ec(&session, module::ED25519, SESSION).map(drop)),
            ("no curve", module::ec(&session, b"curve", SESSION).map(drop)),
            ("AES 15", aes(&session, 15, &[]).map(drop)),
            ("AES 0", aes(&session, 0, &[]).map(drop)),
        ] {
            let rv = refused(result);
            let right = matches!(
                rv,
                RvError::KeySizeRange
                    | RvError::AttributeValueInvalid
                    | RvError::CurveNotSupported
                    | RvError::DomainParamsInvalid
                    | RvError::TemplateInconsistent
            );
            assert!(right, "{what}: {rv:?}");
        }
    }
}

module_test! {
    fn aes_key_wrap_round_trips_a_key_that_may_be_read(_world) {
        let token = Token::open();
        let session = token.user();
        let wrapper = wrapper(&session, 32);
        let target = aes(&session, 32, &EXPOSED).expect("a target");
        let wrapped = session.wrap_key(&Mechanism::AesKeyWrap, wrapper, target).expect("wraps");
        assert_eq!(wrapped.len(), 40);
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(false),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
        ];
        let with_exposure = [&template[..], &EXPOSED].concat();
        let back = session.unwrap_key(&Mechanism::AesKeyWrap, wrapper, &wrapped, &with_exposure).or_else(|_| {
            // A token that makes every unwrapped key as secret as its wrapping key is within its rights.
            session.unwrap_key(&Mechanism::AesKeyWrap, wrapper, &wrapped, &template)
        });
        let back = back.expect("unwraps");
        let sealed = session.encrypt(&Mechanism::AesCbcPad([1; 16]), back, b"the same key").expect("the key works");
        let known = import_aes(&session, &value(&session, target), &[Attribute::Decrypt(true)]).expect("a key");
        assert_eq!(session.decrypt(&Mechanism::AesCbcPad([1; 16]), known, &sealed).expect("decrypts"), b"the same key");
        assert_eq!(attribute(&session, back, AttributeType::Local), Attribute::Local(false));
        let mut changed = wrapped;
        changed[7] ^= 1;
        let rv = refused(session.unwrap_key(&Mechanism::AesKeyWrap, wrapper, &changed, &template));
        assert!(matches!(rv, RvError::WrappedKeyInvalid), "{rv:?}");
    }
}

module_test! {
    fn a_private_key_travels_wrapped_and_signs_afterwards(_world) {
        let token = Token::open();
        let session = token.user();
        let wrapper = wrapper(&session, 32);
        let open = [Attribute::Token(false), Attribute::EcParams(P256.into()), Attribute::Verify(true)];
        let hidden = [
            Attribute::Token(false),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(true),
            Attribute::Sign(true),
        ];
        let (public, private) = session.generate_key_pair(&Mechanism::EccKeyPairGen, &open, &hidden).expect("a pair");
        // The PKCS#8 structure of a P-256 key is not a multiple of eight bytes: the padded wrap takes it.
        let wrapped = session.wrap_key(&Mechanism::AesKeyWrapPad, wrapper, private).expect("wraps");
        let template = [
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::KeyType(KeyType::EC),
            Attribute::Token(false),
            Attribute::Private(true),
            Attribute::Sign(true),
        ];
        let back = session.unwrap_key(&Mechanism::AesKeyWrapPad, wrapper, &wrapped, &template).expect("unwraps");
        let signature = session.sign(&Mechanism::EcdsaSha256, back, b"travelled").expect("signs");
        session.verify(&Mechanism::EcdsaSha256, public, b"travelled", &signature).expect("verifies with the old public key");
    }
}

module_test! {
    fn a_key_that_is_not_extractable_is_not_wrapped(_world) {
        let token = Token::open();
        let session = token.user();
        let wrapper = wrapper(&session, 32);
        let target = aes(&session, 32, &[Attribute::Extractable(false)]).expect("a target");
        let rv = refused(session.wrap_key(&Mechanism::AesKeyWrap, wrapper, target));
        assert!(matches!(rv, RvError::KeyUnextractable | RvError::KeyNotWrappable), "{rv:?}");
    }
}

module_test! {
    fn a_sensitive_key_leaves_only_under_a_key_that_was_made_for_it(_world) {
        // In the default profile: whoever could decrypt with the wrapping key, or knows its value, would have the wrapped key.
        let token = Token::open();
        let session = token.user();
        let target = aes(&session, 32, &[Attribute::Sensitive(true), Attribute::Extractable(true)]).expect("a target");
        let made_for_it = wrapper(&session, 32);
        session.wrap_key(&Mechanism::AesKeyWrap, made_for_it, target).expect("wraps");
        let double = [&WRAPS[..], &[Attribute::Encrypt(true), Attribute::Decrypt(true)]].concat();
        let single = [&WRAPS[..], &[Attribute::Encrypt(false), Attribute::Decrypt(false)]].concat();
        let rows = [
            ("a key that decrypts too", aes(&session, 32, &double).expect("a key")),
            ("a key that was imported", import_aes(&session, &[7; 32], &single).expect("a key")),
            ("a weaker key", wrapper(&session, 16)),
        ];
        for (what, wrapper) in rows {
            let rv = refused(session.wrap_key(&Mechanism::AesKeyWrap, wrapper, target));
            let right = matches!(
                rv,
                RvError::KeyNotWrappable | RvError::WrappingKeySizeRange | RvError::KeyFunctionNotPermitted | RvError::KeyUnextractable
            );
            assert!(right, "{what}: {rv:?}");
        }
        let decrypts_later = refused(session.update_attributes(made_for_it, &[Attribute::Decrypt(true)]));
        assert!(matches!(decrypts_later, RvError::AttributeReadOnly | RvError::TemplateInconsistent), "{decrypts_later:?}");
    }
}

module_test! {
    fn ecdh_gives_both_sides_the_same_secret(_world) {
        let token = Token::open();
        let session = token.user();
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::Token(false),
            Attribute::Sign(true),
            Attribute::Verify(true),
        ];
        let more = [(module::SECP256K1, 32), (module::BRAINPOOL_P256, 32), (module::BRAINPOOL_P512, 64)];
        for (curve, len_bytes) in [(P256, 32u64), (P384, 48), (P521, 66)].into_iter().chain(more) {
            let (alice_public, alice) = module::ec(&session, curve, SESSION).expect("Alice");
            let (bob_public, bob) = module::ec(&session, curve, SESSION).expect("Bob");
            let derive = |private, public| {
                let point = module::ec_point(&session, public);
                let mechanism = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), &point));
                let template = [&template[..], &[Attribute::ValueLen(len_bytes.into())]].concat();
                session.derive_key(&mechanism, private, &template).expect("derives")
            };
            let (one, two) = (derive(alice, bob_public), derive(bob, alice_public));
            // Secrets of sensitive keys stay sensitive, so the two are compared by what they do.
            let mac = session.sign(&Mechanism::Sha256Hmac, one, b"shared").expect("MAC");
            session.verify(&Mechanism::Sha256Hmac, two, b"shared", &mac).expect("the same secret");
        }
    }
}

/// A Montgomery pair on the curve that these parameters name.
fn x25519(session: &Session, params: &[u8]) -> module::Pair {
    let public = [Attribute::Token(false), Attribute::EcParams(params.into())];
    let private = [Attribute::Token(false), Attribute::Derive(true)];
    session.generate_key_pair(&Mechanism::EccMontgomeryKeyPairGen, &public, &private).expect("a key")
}

module_test! {
    fn x25519_agrees_as_rfc_7748_says_and_refuses_zeros(_world) {
        let token = Token::open();
        let session = token.user();
        let template = [Attribute::Token(false), Attribute::ValueLen(32.into()), EXPOSED[0].clone(), EXPOSED[1].clone()];
        let derive = |key, peer: &[u8]| {
            session.derive_key(&Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), peer)), key, &template)
        };
        // By object identifier, by the curve's name and by the function's name: one kind of key.
        let (one_public, one) = x25519(&session, module::X25519);
        for params in [&b"\x13\x0acurve25519"[..], b"\x13\x06X25519"] {
            let (other_public, other) = x25519(&session, params);
            let shown = attribute(&session, other_public, AttributeType::EcParams);
            assert_eq!(shown, Attribute::EcParams(module::X25519.into()));
            let first = derive(one, &module::ec_point(&session, other_public)).expect("derives");
            let second = derive(other, &module::ec_point(&session, one_public)).expect("derives");
            assert_eq!(value(&session, first), value(&session, second));
        }
        // Section 6.1: Bob's key, imported, and Alice's public value, bare and as an OCTET STRING.
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).expect("hexadecimal digits");
        let bob = session
            .create_object(&[
                Attribute::Class(ObjectClass::PRIVATE_KEY),
                Attribute::KeyType(KeyType::EC_MONTGOMERY),
                Attribute::Token(false),
                Attribute::Derive(true),
                Attribute::EcParams(module::X25519.into()),
                Attribute::Value(hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")),
            ])
            .expect("imports");
        let alice = hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
        let answer = hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
        for peer in [alice.clone(), [&[4, 32][..], &alice].concat()] {
            assert_eq!(value(&session, derive(bob, &peer).expect("derives")), answer);
        }
        for bad in [&[0; 32][..], &alice[1..], &[]] {
            let rv = refused(derive(bob, bad));
            assert!(matches!(rv, RvError::PublicKeyInvalid | RvError::MechanismParamInvalid), "{rv:?}");
        }
    }
}

module_test! {
    fn ecdh_refuses_a_point_off_the_curve(_world) {
        let token = Token::open();
        let session = token.user();
        let (public, private) = module::ec(&session, P256, SESSION).expect("a key");
        let mut point = module::ec_point(&session, public);
        *point.last_mut().expect("a point") ^= 1;
        for bad in [point.as_slice(), &point[..64], &[0x04; 65], &[]] {
            let mechanism = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), bad));
            let template = [
                Attribute::Class(ObjectClass::SECRET_KEY),
                Attribute::KeyType(KeyType::GENERIC_SECRET),
                Attribute::Token(false),
                Attribute::ValueLen(32.into()),
            ];
            let rv = refused(session.derive_key(&mechanism, private, &template));
            let right = matches!(rv, RvError::MechanismParamInvalid | RvError::ArgumentsBad | RvError::PublicKeyInvalid);
            assert!(right, "{} bytes: {rv:?}", bad.len());
        }
    }
}

module_test! {
    fn an_imported_ec_key_signs_for_its_public_point(_world) {
        // RFC 6979 §A.2.5: the key pair on P-256.
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).expect("hex");
        let scalar = hex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721");
        let point = [
            vec![0x04],
            hex("60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"),
            hex("7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"),
        ]
        .concat();
        let token = Token::open();
        let session = token.user();
        let private = import_ec(&session, &scalar, &[]).expect("the private key");
        let octets = [vec![0x04, 0x41], point.clone()].concat();
        let public = [
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::KeyType(KeyType::EC),
            Attribute::Token(false),
            Attribute::Verify(true),
            Attribute::EcParams(P256.into()),
            Attribute::EcPoint(octets),
        ];
        let public = session.create_object(&public).expect("the public key");
        let signature = session.sign(&Mechanism::EcdsaSha256, private, b"sample").expect("signs");
        session.verify(&Mechanism::EcdsaSha256, public, b"sample", &signature).expect("verifies in the token");
        ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, point)
            .verify(b"sample", &signature)
            .expect("verifies outside");
        assert_eq!(attribute(&session, private, AttributeType::Local), Attribute::Local(false));
        assert_eq!(attribute(&session, private, AttributeType::AlwaysSensitive), Attribute::AlwaysSensitive(false));
        assert_eq!(attribute(&session, private, AttributeType::NeverExtractable), Attribute::NeverExtractable(false));
    }
}

module_test! {
    fn an_imported_rsa_key_signs(_world) {
        let test = "key::an_imported_rsa_key_signs";
        if !acceptance::tools::available(test, "openssl") {
            return;
        }
        let token = Token::open();
        let session = token.user();
        let numbers = rsa_numbers();
        let part = |name: &str| numbers[name].clone();
        let private = session.create_object(&[
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::KeyType(KeyType::RSA),
            Attribute::Token(false),
            Attribute::Private(true),
            Attribute::Sign(true),
            Attribute::Modulus(part("modulus")),
            Attribute::PublicExponent(vec![1, 0, 1]),
            Attribute::PrivateExponent(part("privateExponent")),
            Attribute::Prime1(part("prime1")),
            Attribute::Prime2(part("prime2")),
            Attribute::Exponent1(part("exponent1")),
            Attribute::Exponent2(part("exponent2")),
            Attribute::Coefficient(part("coefficient")),
        ]);
        let private = private.expect("the private key");
        let public = session.create_object(&[
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::KeyType(KeyType::RSA),
            Attribute::Token(false),
            Attribute::Verify(true),
            Attribute::Modulus(part("modulus")),
            Attribute::PublicExponent(vec![1, 0, 1]),
        ]);
        let public = public.expect("the public key");
        let signature = session.sign(&Mechanism::Sha256RsaPkcs, private, b"imported").expect("signs");
        session.verify(&Mechanism::Sha256RsaPkcs, public, b"imported", &signature).expect("verifies");
    }
}

/// The numbers of an RSA key that openssl made, out of `openssl rsa -text`.
fn rsa_numbers() -> std::collections::HashMap<String, Vec<u8>> {
    use acceptance::tools::{run, run_with_input};
    use std::process::Command;
    let key = run(Command::new("openssl").args(["genrsa", "2048"])).ok().stdout;
    let text = run_with_input(Command::new("openssl").args(["rsa", "-text", "-noout"]), &key).ok().text();
    let mut numbers: std::collections::HashMap<String, String> = std::collections::HashMap::new();
    let mut name = String::new();
    for line in text.lines() {
        if line.starts_with(' ') {
            numbers.entry(name.clone()).or_default().push_str(&line.trim().replace(':', ""));
        } else if let Some((title, _)) = line.split_once(':') {
            title.clone_into(&mut name);
        }
    }
    let bytes = |hex: String| {
        let hex = hex.to_lowercase();
        let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("openssl prints hex");
        bytes.iter().skip_while(|byte| **byte == 0).copied().collect()
    };
    numbers.into_iter().map(|(name, hex)| (name, bytes(hex))).collect()
}

module_test! {
    fn imported_keys_that_make_no_sense_are_refused(_world) {
        let token = Token::open();
        let session = token.user();
        let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
        let order = data_encoding::HEXLOWER.decode(order.as_bytes()).expect("hex");
        let rows = [
            ("a zero scalar", import_ec(&session, &[0; 32], &[])),
            ("the order as scalar", import_ec(&session, &order, &[])),
            ("an empty scalar", import_ec(&session, &[], &[])),
            ("a long scalar", import_ec(&session, &[1; 33], &[])),
            ("AES of 17 bytes", import_aes(&session, &[1; 17], &[])),
            ("AES of none", import_aes(&session, &[], &[])),
        ];
        for (what, result) in rows {
            let rv = refused(result);
            let right = matches!(rv, RvError::AttributeValueInvalid | RvError::KeySizeRange | RvError::TemplateInconsistent);
            assert!(right, "{what}: {rv:?}");
        }
    }
}
