//! Signatures and MACs (PKCS#11 v3.0 §5.13 and §5.15): every mechanism that the module lists for signing, and the rules that say
//! when an operation ends.

use acceptance::module::{Pair, SESSION, Token, refused};
use acceptance::raw::{Raw, Room};
use acceptance::{module, module_test};
use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::dsa::{HedgeType, SignAdditionalContext};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, MlDsaParameterSetType, SlhDsaParameterSetType};
use cryptoki::session::Session;
use cryptoki_sys::*;

/// Which key a row signs with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Key {
    Rsa,
    Ec,
    Ed25519,
    Secret,
    Aes,
    MlDsa,
    Master,
    SlhDsa,
}

/// Whether a row's mechanism hashes (any length, many parts) or signs what it is given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    One,
    Many,
}

const NONE: &[CK_ULONG] = &[];
/// CK_RSA_PKCS_PSS_PARAMS: hash, mask generation function, salt length in bytes.
const PSS_224: &[CK_ULONG] = &[CKM_SHA224, CKG_MGF1_SHA224, 28];
const PSS_256: &[CK_ULONG] = &[CKM_SHA256, CKG_MGF1_SHA256, 32];
const PSS_384: &[CK_ULONG] = &[CKM_SHA384, CKG_MGF1_SHA384, 48];
const PSS_512: &[CK_ULONG] = &[CKM_SHA512, CKG_MGF1_SHA512, 64];
const PSS_3_224: &[CK_ULONG] = &[CKM_SHA3_224, CKG_MGF1_SHA3_224, 28];
const PSS_3_256: &[CK_ULONG] = &[CKM_SHA3_256, CKG_MGF1_SHA3_256, 32];
const PSS_3_384: &[CK_ULONG] = &[CKM_SHA3_384, CKG_MGF1_SHA3_384, 48];
const PSS_3_512: &[CK_ULONG] = &[CKM_SHA3_512, CKG_MGF1_SHA3_512, 64];
/// CK_MAC_GENERAL_PARAMS: the length of the MAC in bytes.
const MAC_12: &[CK_ULONG] = &[12];
/// CK_TLS_MAC_PARAMS: hash, length of the verify data, the client's side.
const FINISHED: &[CK_ULONG] = &[CKM_SHA256, 12, 2];
/// CK_HASH_SIGN_ADDITIONAL_CONTEXT: hedge as the token likes, no context, the hash that made the digest.
const DIGEST_256: &[CK_ULONG] = &[CKH_HEDGE_PREFERRED, 0, 0, CKM_SHA256];
/// CK_SIGN_ADDITIONAL_CONTEXT: deterministic, no context.
const DETERMINISTIC: &[CK_ULONG] = &[CKH_DETERMINISTIC_REQUIRED, 0, 0];

/// Mechanism, key, parts, parameter.
const ROWS: &[(CK_MECHANISM_TYPE, Key, Parts, &[CK_ULONG])] = &[
    (CKM_RSA_PKCS, Key::Rsa, Parts::One, NONE),
    (CKM_SHA224_RSA_PKCS, Key::Rsa, Parts::Many, NONE),
    (CKM_SHA256_RSA_PKCS, Key::Rsa, Parts::Many, NONE),
    (CKM_SHA384_RSA_PKCS, Key::Rsa, Parts::Many, NONE),
    (CKM_SHA512_RSA_PKCS, Key::Rsa, Parts::Many, NONE),
    (CKM_RSA_PKCS_PSS, Key::Rsa, Parts::One, PSS_256),
    (CKM_SHA224_RSA_PKCS_PSS, Key::Rsa, Parts::Many, PSS_224),
    (CKM_SHA256_RSA_PKCS_PSS, Key::Rsa, Parts::Many, PSS_256),
    (CKM_SHA384_RSA_PKCS_PSS, Key::Rsa, Parts::Many, PSS_384),
    (CKM_SHA512_RSA_PKCS_PSS, Key::Rsa, Parts::Many, PSS_512),
    (CKM_ECDSA, Key::Ec, Parts::One, NONE),
    (CKM_ECDSA_SHA1, Key::Ec, Parts::Many, NONE),
    (CKM_ECDSA_SHA224, Key::Ec, Parts::Many, NONE),
    (CKM_ECDSA_SHA256, Key::Ec, Parts::Many, NONE),
    (CKM_ECDSA_SHA384, Key::Ec, Parts::Many, NONE),
    (CKM_ECDSA_SHA512, Key::Ec, Parts::Many, NONE),
    (CKM_EDDSA, Key::Ed25519, Parts::Many, NONE),
    (CKM_SHA_1_HMAC, Key::Secret, Parts::Many, NONE),
    (CKM_SHA_1_HMAC_GENERAL, Key::Secret, Parts::Many, MAC_12),
    (CKM_SHA224_HMAC, Key::Secret, Parts::Many, NONE),
    (CKM_SHA224_HMAC_GENERAL, Key::Secret, Parts::Many, MAC_12),
    (CKM_SHA256_HMAC, Key::Secret, Parts::Many, NONE),
    (CKM_SHA256_HMAC_GENERAL, Key::Secret, Parts::Many, MAC_12),
    (CKM_SHA384_HMAC, Key::Secret, Parts::Many, NONE),
    (CKM_SHA384_HMAC_GENERAL, Key::Secret, Parts::Many, MAC_12),
    (CKM_SHA512_HMAC, Key::Secret, Parts::Many, NONE),
    (CKM_SHA512_HMAC_GENERAL, Key::Secret, Parts::Many, MAC_12),
    (CKM_SHA3_224_RSA_PKCS, Key::Rsa, Parts::Many, NONE),
    (CKM_SHA3_224_RSA_PKCS_PSS, Key::Rsa, Parts::Many, PSS_3_224),
    (CKM_ECDSA_SHA3_224, Key::Ec, Parts::Many, NONE),
    (CKM_SHA3_224_HMAC, Key::Secret, Parts::Many, NONE),
    (CKM_SHA3_224_HMAC_GENERAL, Key::Secret, Parts::Many, MAC_12),
    (CKM_SHA3_256_RSA_PKCS, Key::Rsa, Parts::Many, NONE),
    (CKM_SHA3_256_RSA_PKCS_PSS, Key::Rsa, Parts::Many, PSS_3_256),
    (CKM_ECDSA_SHA3_256, Key::Ec, Parts::Many, NONE),
    (CKM_SHA3_256_HMAC, Key::Secret, Parts::Many, NONE),
    (CKM_SHA3_256_HMAC_GENERAL, Key::Secret, Parts::Many, MAC_12),
    (CKM_SHA3_384_RSA_PKCS, Key::Rsa, Parts::Many, NONE),
    (CKM_SHA3_384_RSA_PKCS_PSS, Key::Rsa, Parts::Many, PSS_3_384),
    (CKM_ECDSA_SHA3_384, Key::Ec, Parts::Many, NONE),
    (CKM_SHA3_384_HMAC, Key::Secret, Parts::Many, NONE),
    (CKM_SHA3_384_HMAC_GENERAL, Key::Secret, Parts::Many, MAC_12),
    (CKM_SHA3_512_RSA_PKCS, Key::Rsa, Parts::Many, NONE),
    (CKM_SHA3_512_RSA_PKCS_PSS, Key::Rsa, Parts::Many, PSS_3_512),
    (CKM_ECDSA_SHA3_512, Key::Ec, Parts::Many, NONE),
    (CKM_SHA3_512_HMAC, Key::Secret, Parts::Many, NONE),
    (CKM_SHA3_512_HMAC_GENERAL, Key::Secret, Parts::Many, MAC_12),
    (CKM_SHA512_224_HMAC, Key::Secret, Parts::Many, NONE),
    (CKM_SHA512_224_HMAC_GENERAL, Key::Secret, Parts::Many, MAC_12),
    (CKM_SHA512_256_HMAC, Key::Secret, Parts::Many, NONE),
    (CKM_SHA512_256_HMAC_GENERAL, Key::Secret, Parts::Many, MAC_12),
    (CKM_AES_CMAC, Key::Aes, Parts::Many, NONE),
    (CKM_AES_CMAC_GENERAL, Key::Aes, Parts::Many, MAC_12),
    (CKM_TLS_MAC, Key::Master, Parts::Many, FINISHED),
    (CKM_TLS12_MAC, Key::Master, Parts::Many, FINISHED),
    (CKM_ML_DSA, Key::MlDsa, Parts::Many, NONE),
    (CKM_HASH_ML_DSA, Key::MlDsa, Parts::One, DIGEST_256),
    (CKM_SLH_DSA, Key::SlhDsa, Parts::Many, NONE),
    (CKM_HASH_SLH_DSA, Key::SlhDsa, Parts::One, DIGEST_256),
    (CKM_HASH_SLH_DSA_SHA224, Key::SlhDsa, Parts::Many, NONE),
    (CKM_HASH_SLH_DSA_SHA256, Key::SlhDsa, Parts::Many, DETERMINISTIC),
    (CKM_HASH_SLH_DSA_SHA384, Key::SlhDsa, Parts::Many, NONE),
    (CKM_HASH_SLH_DSA_SHA512, Key::SlhDsa, Parts::Many, DETERMINISTIC),
    (CKM_HASH_SLH_DSA_SHA3_224, Key::SlhDsa, Parts::Many, NONE),
    (CKM_HASH_SLH_DSA_SHA3_256, Key::SlhDsa, Parts::Many, DETERMINISTIC),
    (CKM_HASH_SLH_DSA_SHA3_384, Key::SlhDsa, Parts::Many, NONE),
    (CKM_HASH_SLH_DSA_SHA3_512, Key::SlhDsa, Parts::Many, DETERMINISTIC),
    (CKM_HASH_SLH_DSA_SHAKE128, Key::SlhDsa, Parts::Many, NONE),
    (CKM_HASH_SLH_DSA_SHAKE256, Key::SlhDsa, Parts::Many, DETERMINISTIC),
    (CKM_HASH_ML_DSA_SHA224, Key::MlDsa, Parts::Many, NONE),
    (CKM_HASH_ML_DSA_SHA256, Key::MlDsa, Parts::Many, DETERMINISTIC),
    (CKM_HASH_ML_DSA_SHA384, Key::MlDsa, Parts::Many, NONE),
    (CKM_HASH_ML_DSA_SHA512, Key::MlDsa, Parts::Many, DETERMINISTIC),
    (CKM_HASH_ML_DSA_SHA3_224, Key::MlDsa, Parts::Many, NONE),
    (CKM_HASH_ML_DSA_SHA3_256, Key::MlDsa, Parts::Many, DETERMINISTIC),
    (CKM_HASH_ML_DSA_SHA3_384, Key::MlDsa, Parts::Many, NONE),
    (CKM_HASH_ML_DSA_SHA3_512, Key::MlDsa, Parts::Many, DETERMINISTIC),
    (CKM_HASH_ML_DSA_SHAKE128, Key::MlDsa, Parts::Many, NONE),
    (CKM_HASH_ML_DSA_SHAKE256, Key::MlDsa, Parts::Many, DETERMINISTIC),
];

fn key_for(session: &Session, key: Key) -> Pair {
    let pair = match key {
        Key::Rsa => module::rsa(session, 2048, SESSION),
        Key::Ec => module::ec(session, module::P256, SESSION),
        Key::Ed25519 => module::ed25519(session, SESSION),
        Key::Secret => module::hmac_key(session, 32).map(|key| (key, key)),
        Key::Aes => module::aes(session, 32, &[Attribute::Sign(true), Attribute::Verify(true)]).map(|key| (key, key)),
        Key::Master => module::hmac_key(session, 48).map(|key| (key, key)),
        Key::MlDsa => module::ml_dsa(session, MlDsaParameterSetType::ML_DSA_44, SESSION),
        Key::SlhDsa => module::slh_dsa(session, SlhDsaParameterSetType::SHA2_128F, SESSION),
    };
    pair.unwrap_or_else(|e| panic!("{key:?}: {e}"))
}

module_test! {
    fn every_listed_signing_mechanism_verifies_its_own_output_and_no_other(_world) {
        let token = Token::open();
        let session = token.user();
        let (raw, handle) = (Raw::load(&module::path()), session.handle());
        let mut keys = std::collections::HashMap::new();
        for number in raw.mechanisms(token.slot.id()).expect("the list") {
            // The parameter of AES-GMAC is no structure of numbers: encrypt::aes_gmac_gives_the_published_answer_with_either_parameter.
            let signs = raw.mechanism_flags(token.slot.id(), number).expect("the info") & CKF_SIGN != 0;
            if !signs || number == CKM_AES_GMAC {
                continue;
            }
            let row = ROWS.iter().find(|row| row.0 == number);
            let (_, key, parts, parameter) = row.unwrap_or_else(|| panic!("{number:#x} is listed for signing and has no row here"));
            let (public, private) = *keys.entry(*key).or_insert_with(|| key_for(&session, *key));
            let verify = |data: &[u8], signature: &[u8]| {
                assert_eq!(raw.verify_init_with(handle, number, parameter, public.handle()), CKR_OK, "{number:#x}");
                raw.verify(handle, data, signature)
            };
            let data = [0x5a; 32];
            assert_eq!(raw.sign_init_with(handle, number, parameter, private.handle()), CKR_OK, "{number:#x}");
            let signed = raw.sign(handle, &data, Room::Bytes(20_000));
            assert_eq!(signed.rv, CKR_OK, "{number:#x}");
            assert_eq!(verify(&data, &signed.bytes), CKR_OK, "{number:#x}");
            assert_eq!(verify(&[0xa5; 32], &signed.bytes), CKR_SIGNATURE_INVALID, "{number:#x}, other data");
            let mut flipped = signed.bytes.clone();
            *flipped.last_mut().expect("a signature is not empty") ^= 1;
            assert_eq!(verify(&data, &flipped), CKR_SIGNATURE_INVALID, "{number:#x}, flipped bit");
            let short = verify(&data, &signed.bytes[..signed.len - 1]);
            assert!([CKR_SIGNATURE_LEN_RANGE, CKR_SIGNATURE_INVALID].contains(&short), "{number:#x}, short: {short:#x}");
            if *parts == Parts::Many {
                assert_eq!(raw.sign_init_with(handle, number, parameter, private.handle()), CKR_OK, "{number:#x}");
                assert_eq!(raw.sign_update(handle, b"in two "), CKR_OK, "{number:#x}");
                assert_eq!(raw.sign_update(handle, b"parts"), CKR_OK, "{number:#x}");
                let signed = raw.sign_final(handle, Room::Bytes(20_000));
                assert_eq!(signed.rv, CKR_OK, "{number:#x}");
                assert_eq!(verify(b"in two parts", &signed.bytes), CKR_OK, "{number:#x}");
                assert_eq!(raw.verify_init_with(handle, number, parameter, public.handle()), CKR_OK, "{number:#x}");
                assert_eq!(raw.verify_update(handle, b"in two parts"), CKR_OK, "{number:#x}");
                assert_eq!(raw.verify_final(handle, &signed.bytes), CKR_OK, "{number:#x}");
            }
        }
        // And the other way: what was listed once stays listed.
        let listed = raw.mechanisms(token.slot.id()).expect("the list");
        for (number, ..) in ROWS {
            assert!(listed.contains(number), "{number:#x} is promised and not listed");
        }
    }
}

module_test! {
    fn curves_and_sizes_of_the_issue_sign(_world) {
        let token = Token::open();
        let session = token.user();
        let rows: [(&[u8], usize); 8] = [
            (module::P256, 64),
            (module::P384, 96),
            (module::P521, 132),
            (module::SECP256K1, 64),
            (module::BRAINPOOL_P256, 64),
            (module::BRAINPOOL_P512, 128),
            // The same curves by their names.
            (b"\x13\x09secp384r1", 96),
            (b"\x13\x09secp256k1", 64),
        ];
        for (curve, len) in rows {
            let (public, private) = module::ec(&session, curve, SESSION).expect("a key");
            let signature = session.sign(&Mechanism::EcdsaSha384, private, b"curve").expect("signs");
            assert_eq!(signature.len(), len);
            session.verify(&Mechanism::EcdsaSha384, public, b"curve", &signature).expect("verifies");
        }
        let (public, private) = module::rsa(&session, 3072, SESSION).expect("a key");
        let signature = session.sign(&Mechanism::Sha256RsaPkcs, private, b"size").expect("signs");
        assert_eq!(signature.len(), 384);
        session.verify(&Mechanism::Sha256RsaPkcs, public, b"size", &signature).expect("verifies");
    }
}

module_test! {
    fn p_224_signatures_of_others_verify(_world) {
        // Wycheproof, ecdsa_secp224r1_sha224_p1363, test 1.
        let token = Token::open();
        let session = token.user();
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).expect("hexadecimal digits");
        let key = session
            .create_object(&[
                Attribute::Class(cryptoki::object::ObjectClass::PUBLIC_KEY),
                Attribute::KeyType(cryptoki::object::KeyType::EC),
                Attribute::Token(false),
                Attribute::EcParams(module::P224.into()),
                Attribute::EcPoint(hex("04eada93be10b2449e1e8bb58305d52008013c57107c1a20a317a6cba7eca672340c03d1d2e09663286691df55069fa25490c9dd9f9c0bb2b5")),
            ])
            .expect("imports");
        let signature = hex("70049af31f8348673d56cece2b27e587a402f2a48f0b21a7911a480a2840bf24f6f66be287066b7cbf38788e1b7770b18fd1aa6a26d7c6dc");
        let message = hex("313233343030");
        session.verify(&Mechanism::EcdsaSha224, key, &message, &signature).expect("verifies");
        let rv = refused(session.verify(&Mechanism::EcdsaSha224, key, b"another message", &signature));
        assert!(matches!(rv, RvError::SignatureInvalid), "{rv:?}");
    }
}

module_test! {
    fn ed25519_variants_are_told_apart_by_the_parameter(_world) {
        let token = Token::open();
        let session = token.user();
        let (public, private) = module::ed25519(&session, SESSION).expect("a key");
        let schemes = || {
            [
                EddsaSignatureScheme::Pure,
                EddsaSignatureScheme::Ed25519ctx(b"one"),
                EddsaSignatureScheme::Ed25519ctx(b"two"),
                EddsaSignatureScheme::Ed25519ph(b""),
                EddsaSignatureScheme::Ed25519ph(b"one"),
            ]
        };
        for (index, scheme) in schemes().into_iter().enumerate() {
            let mechanism = Mechanism::Eddsa(EddsaParams::new(scheme));
            let signature = session.sign(&mechanism, private, b"message").expect("signs");
            for (other_index, other) in schemes().into_iter().enumerate() {
                let verified = session.verify(&Mechanism::Eddsa(EddsaParams::new(other)), public, b"message", &signature);
                if index == other_index {
                    verified.expect("verifies");
                } else {
                    assert!(matches!(refused(verified), RvError::SignatureInvalid), "{index} under {other_index}");
                }
            }
        }
        let empty = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519ctx(b"")));
        // Who fills the structure with nothing, as PyKCS11 does, means the pure form.
        let pure = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure));
        let signature = session.sign(&empty, private, b"message").expect("signs");
        session.verify(&pure, public, b"message", &signature).expect("verifies");
        let long = [7; 256];
        let rv = refused(session.sign(&Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519ctx(&long))), private, b""));
        assert!(matches!(rv, RvError::MechanismParamInvalid), "{rv:?}");
    }
}

module_test! {
    fn ml_dsa_signs_in_all_parameter_sets_and_binds_its_context(_world) {
        let token = Token::open();
        let session = token.user();
        let sets = [
            (MlDsaParameterSetType::ML_DSA_44, 2420),
            (MlDsaParameterSetType::ML_DSA_65, 3309),
            (MlDsaParameterSetType::ML_DSA_87, 4627),
        ];
        for (set, len) in sets {
            let (public, private) = module::ml_dsa(&session, set, SESSION).expect("a key");
            let with = |context| Mechanism::MlDsa(SignAdditionalContext::new(HedgeType::Preferred, context));
            let signature = session.sign(&with(None), private, b"post-quantum").expect("signs");
            assert_eq!(signature.len(), len, "{set}");
            session.verify(&with(None), public, b"post-quantum", &signature).expect("verifies");
            let bound = session.sign(&with(Some(b"invoice")), private, b"post-quantum").expect("signs with a context");
            session.verify(&with(Some(b"invoice")), public, b"post-quantum", &bound).expect("verifies with it");
            let otherwise = refused(session.verify(&with(Some(b"receipt")), public, b"post-quantum", &bound));
            assert!(matches!(otherwise, RvError::SignatureInvalid), "{set}: {otherwise:?}");
        }
    }
}

module_test! {
    fn slh_dsa_signs_in_all_parameter_sets_and_its_keys_come_back(_world) {
        let token = Token::open();
        let session = token.user();
        let sets = [
            (SlhDsaParameterSetType::SHA2_128S, 7856),
            (SlhDsaParameterSetType::SHAKE_128S, 7856),
            (SlhDsaParameterSetType::SHA2_128F, 17088),
            (SlhDsaParameterSetType::SHAKE_128F, 17088),
            (SlhDsaParameterSetType::SHA2_192S, 16224),
            (SlhDsaParameterSetType::SHAKE_192S, 16224),
            (SlhDsaParameterSetType::SHA2_192F, 35664),
            (SlhDsaParameterSetType::SHAKE_192F, 35664),
            (SlhDsaParameterSetType::SHA2_256S, 29792),
            (SlhDsaParameterSetType::SHAKE_256S, 29792),
            (SlhDsaParameterSetType::SHA2_256F, 49856),
            (SlhDsaParameterSetType::SHAKE_256F, 49856),
        ];
        for (set, len) in sets {
            let (public, private) = module::slh_dsa(&session, set, SESSION).expect("a key");
            let with = |context| Mechanism::SlhDsa(SignAdditionalContext::new(HedgeType::Preferred, context));
            let signature = session.sign(&with(Some(b"invoice")), private, b"post-quantum").expect("signs");
            assert_eq!(signature.len(), len, "{set}");
            session.verify(&with(Some(b"invoice")), public, b"post-quantum", &signature).expect("verifies");
            let otherwise = refused(session.verify(&with(None), public, b"post-quantum", &signature));
            assert!(matches!(otherwise, RvError::SignatureInvalid), "{set}: {otherwise:?}");
        }
        // A readable key, read and imported again, signs the same.
        let set = SlhDsaParameterSetType::SHA2_128F;
        let readable = [Attribute::Token(false), Attribute::Sensitive(false), Attribute::Extractable(true)];
        let public = [Attribute::Token(false), Attribute::ParameterSet(set.into())];
        let (public, private) =
            session.generate_key_pair(&Mechanism::SlhDsaKeyPairGen, &public, &readable).expect("a key");
        let value = module::attribute(&session, private, cryptoki::object::AttributeType::Value);
        let import = |value| {
            let common = [
                Attribute::Class(cryptoki::object::ObjectClass::PRIVATE_KEY),
                Attribute::KeyType(cryptoki::object::KeyType::SLH_DSA),
                Attribute::Token(false),
                Attribute::ParameterSet(set.into()),
                value,
            ];
            session.create_object(&common)
        };
        let again = import(value.clone()).expect("imports");
        let fixed = Mechanism::SlhDsa(SignAdditionalContext::new(HedgeType::DeterministicRequired, None));
        let signature = session.sign(&fixed, again, b"again").expect("signs");
        assert_eq!(session.sign(&fixed, private, b"again").expect("signs"), signature);
        session.verify(&fixed, public, b"again", &signature).expect("verifies");
        let Attribute::Value(mut other) = value else { panic!("no value") };
        *other.last_mut().expect("not empty") ^= 1;
        let rv = refused(import(Attribute::Value(other)));
        assert!(matches!(rv, RvError::AttributeValueInvalid), "a root that is not the seeds': {rv:?}");
    }
}

module_test! {
    fn signatures_verify_outside_the_token(_world) {
        // A second implementation checks what the first one made.
        use ring::signature as outside;
        let token = Token::open();
        let session = token.user();
        let data = b"verified by someone else";
        let ec_rows: [(&[u8], Mechanism, &dyn outside::VerificationAlgorithm); 2] = [
            (module::P256, Mechanism::EcdsaSha256, &outside::ECDSA_P256_SHA256_FIXED),
            (module::P384, Mechanism::EcdsaSha384, &outside::ECDSA_P384_SHA384_FIXED),
        ];
        for (curve, mechanism, algorithm) in ec_rows {
            let (public, private) = module::ec(&session, curve, SESSION).expect("a key");
            let signature = session.sign(&mechanism, private, data).expect("signs");
            let point = module::ec_point(&session, public);
            outside::UnparsedPublicKey::new(algorithm, point).verify(data, &signature).expect("verifies outside");
        }
        let (public, private) = module::ed25519(&session, SESSION).expect("a key");
        let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519));
        let signature = session.sign(&mechanism, private, data).expect("signs");
        let point = module::ec_point(&session, public);
        outside::UnparsedPublicKey::new(&outside::ED25519, point).verify(data, &signature).expect("verifies outside");
    }
}

module_test! {
    fn an_operation_ends_as_the_standard_says(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let (_, private) = module::ec(&session, module::P256, SESSION).expect("a key");
        let (handle, key) = (session.handle(), private.handle());
        let sign = |room| raw.sign(handle, &[3; 32], room);

        assert_eq!(sign(Room::Bytes(64)).rv, CKR_OPERATION_NOT_INITIALIZED);
        assert_eq!(raw.sign_init(handle, CKM_ECDSA, key), CKR_OK);
        assert_eq!(raw.sign_init(handle, CKM_ECDSA, key), CKR_OPERATION_ACTIVE);
        // A length query and a buffer that is too small keep it.
        assert_eq!((sign(Room::Query).rv, sign(Room::Query).len), (CKR_OK, 64));
        let small = sign(Room::Bytes(63));
        assert_eq!((small.rv, small.len), (CKR_BUFFER_TOO_SMALL, 64));
        // A larger buffer is fine, and success ends it.
        let signed = sign(Room::Bytes(200));
        assert_eq!((signed.rv, signed.len), (CKR_OK, 64));
        assert_eq!(sign(Room::Bytes(64)).rv, CKR_OPERATION_NOT_INITIALIZED);
        // NULL instead of a mechanism cancels.
        assert_eq!(raw.sign_init(handle, CKM_ECDSA, key), CKR_OK);
        assert_eq!(raw.sign_init_null(handle, key), CKR_OK);
        assert_eq!(sign(Room::Bytes(64)).rv, CKR_OPERATION_NOT_INITIALIZED);
    }
}

module_test! {
    fn an_error_ends_a_multi_part_signature_too(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let (_, private) = module::ec(&session, module::P256, SESSION).expect("a key");
        let (handle, key) = (session.handle(), private.handle());
        assert_eq!(raw.sign_init(handle, CKM_ECDSA_SHA256, key), CKR_OK);
        assert_eq!(raw.sign_update(handle, b"part"), CKR_OK);
        // C_Sign cannot finish what C_SignUpdate began; the standard leaves open which of the two says so.
        let mixed = raw.sign(handle, b"x", Room::Bytes(64)).rv;
        assert!([CKR_OPERATION_ACTIVE, CKR_OPERATION_NOT_INITIALIZED].contains(&mixed), "{mixed:#x}");
        let query = raw.sign_final(handle, Room::Query);
        assert!([CKR_OK, CKR_OPERATION_NOT_INITIALIZED].contains(&query.rv), "{query:?}");
        if query.rv == CKR_OK {
            assert_eq!(query.len, 64);
            assert_eq!(raw.sign_final(handle, Room::Bytes(10)).rv, CKR_BUFFER_TOO_SMALL);
            assert_eq!(raw.sign_final(handle, Room::Bytes(64)).rv, CKR_OK);
        }
        assert_eq!(raw.sign_final(handle, Room::Bytes(64)).rv, CKR_OPERATION_NOT_INITIALIZED);
        assert_eq!(raw.sign_update(handle, b"part"), CKR_OPERATION_NOT_INITIALIZED);
    }
}

module_test! {
    fn a_key_does_only_what_it_is_for(_world) {
        let token = Token::open();
        let session = token.user();
        let (public, private) = module::ec(&session, module::P256, SESSION).expect("a key");
        let (_, rsa) = module::rsa(&session, 2048, SESSION).expect("a key");
        let mute = [Attribute::Token(false), Attribute::Private(true), Attribute::Sign(false), Attribute::Derive(true)];
        let open = [Attribute::Token(false), Attribute::EcParams(module::P256.into())];
        let (_, mute) = session.generate_key_pair(&Mechanism::EccKeyPairGen, &open, &mute).expect("a key that cannot sign");
        let rows = [
            ("a key without CKA_SIGN", Mechanism::EcdsaSha256, mute),
            ("an RSA key", Mechanism::EcdsaSha256, rsa),
            ("an EC key", Mechanism::Sha256RsaPkcs, private),
            ("a public key", Mechanism::EcdsaSha256, public),
        ];
        for (what, mechanism, key) in rows {
            let rv = refused(session.sign(&mechanism, key, b"no"));
            let right = matches!(
                rv,
                RvError::KeyFunctionNotPermitted | RvError::KeyTypeInconsistent | RvError::KeyHandleInvalid
            );
            assert!(right, "{what}: {rv:?}");
        }
        session.sign(&Mechanism::EcdsaSha256, private, b"yes").expect("no refused call left an operation behind");
    }
}

module_test! {
    fn raw_signatures_refuse_data_of_the_wrong_length(_world) {
        let token = Token::open();
        let session = token.user();
        let (_, rsa) = module::rsa(&session, 2048, SESSION).expect("a key");
        let long = refused(session.sign(&Mechanism::RsaPkcs, rsa, &[0; 246]));
        assert!(matches!(long, RvError::DataLenRange), "{long:?}");
        session.sign(&Mechanism::RsaPkcs, rsa, &[0; 245]).expect("eleven bytes below the modulus is the limit");
    }
}
