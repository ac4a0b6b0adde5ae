//! What `algorithms.fips_approved_only` leaves: the mechanisms that a FIPS 140-3 module may offer as approved ones, for which functions,
//! and from which key size. A mechanism that has no row here is not approved, whatever it is: a new one must be thought about first.
//!
//! This is a restriction of what the token does, not a validation: nobody has certified this software.

use ck::Mechanism;
use ck::attribute::{CKA_EC_PARAMS, CKA_MODULUS};
use ck::flags::mechanism::*;
use ck::mechanism::*;
use ck::object::*;

use super::params::Parameter;
use super::purpose::Use;
use crate::error::{Error, Kind, Result};
use crate::object::Object;
use crate::object::import::significant_bits;

/// The switch, as a refusal names it.
pub(crate) const SWITCH: &str = "algorithms.fips_approved_only";

/// One row: why, which functions (CKF_*), the smallest key in the unit of the mechanism table, and the mechanisms.
struct Row {
    /// The document that approves them; shown in the generated documents.
    source: &'static str,
    flags: u64,
    min: u64,
    mechanisms: &'static [Mechanism],
}

const ANY: u64 = u64::MAX;
const RSA_MIN: u64 = 2048;
const EC_MIN: u64 = 224;
/// 112 bits.
const SECRET_MIN: u64 = 14;
/// The same for the mechanisms whose keys the table counts in bits.
const SECRET_MIN_BITS: u64 = 8 * SECRET_MIN;

const fn row(source: &'static str, flags: u64, min: u64, mechanisms: &'static [Mechanism]) -> Row {
    Row { source, flags, min, mechanisms }
}

const APPROVED: &[Row] = &[
    row(
        "FIPS 186-5",
        CKF_GENERATE_KEY_PAIR | CKF_SIGN | CKF_VERIFY,
        RSA_MIN,
        &[
            CKM_RSA_PKCS_KEY_PAIR_GEN,
            CKM_RSA_PKCS,
            CKM_RSA_PKCS_PSS,
            CKM_SHA224_RSA_PKCS,
            CKM_SHA256_RSA_PKCS,
            CKM_SHA384_RSA_PKCS,
            CKM_SHA512_RSA_PKCS,
            CKM_SHA3_224_RSA_PKCS,
            CKM_SHA3_256_RSA_PKCS,
            CKM_SHA3_384_RSA_PKCS,
            CKM_SHA3_512_RSA_PKCS,
            CKM_SHA224_RSA_PKCS_PSS,
            CKM_SHA256_RSA_PKCS_PSS,
            CKM_SHA384_RSA_PKCS_PSS,
            CKM_SHA512_RSA_PKCS_PSS,
            CKM_SHA3_224_RSA_PKCS_PSS,
            CKM_SHA3_256_RSA_PKCS_PSS,
            CKM_SHA3_384_RSA_PKCS_PSS,
            CKM_SHA3_512_RSA_PKCS_PSS,
        ],
    ),
    row(
        "SP 800-131A Revision 2: verification of old signatures",
        CKF_VERIFY,
        RSA_MIN,
        &[CKM_SHA1_RSA_PKCS, CKM_SHA1_RSA_PKCS_PSS],
    ),
    row("SP 800-56B Revision 2", ANY, RSA_MIN, &[CKM_RSA_PKCS_OAEP, CKM_RSA_AES_KEY_WRAP]),
    row(
        "FIPS 186-5",
        ANY,
        EC_MIN,
        &[
            CKM_EC_KEY_PAIR_GEN,
            CKM_EC_KEY_PAIR_GEN_W_EXTRA_BITS,
            CKM_ECDSA,
            CKM_ECDSA_SHA224,
            CKM_ECDSA_SHA256,
            CKM_ECDSA_SHA384,
            CKM_ECDSA_SHA512,
            CKM_ECDSA_SHA3_224,
            CKM_ECDSA_SHA3_256,
            CKM_ECDSA_SHA3_384,
            CKM_ECDSA_SHA3_512,
        ],
    ),
    row("SP 800-131A Revision 2: verification of old signatures", CKF_VERIFY, EC_MIN, &[CKM_ECDSA_SHA1]),
    row("SP 800-56A Revision 3", ANY, EC_MIN, &[CKM_ECDH1_DERIVE, CKM_ECDH1_COFACTOR_DERIVE, CKM_ECDH_AES_KEY_WRAP]),
    row("FIPS 186-5", ANY, 255, &[CKM_EC_EDWARDS_KEY_PAIR_GEN, CKM_EDDSA]),
    row(
        "FIPS 204",
        ANY,
        0,
        &[
            CKM_ML_DSA_KEY_PAIR_GEN,
            CKM_ML_DSA,
            CKM_HASH_ML_DSA,
            CKM_HASH_ML_DSA_SHA224,
            CKM_HASH_ML_DSA_SHA256,
            CKM_HASH_ML_DSA_SHA384,
            CKM_HASH_ML_DSA_SHA512,
            CKM_HASH_ML_DSA_SHA3_224,
            CKM_HASH_ML_DSA_SHA3_256,
            CKM_HASH_ML_DSA_SHA3_384,
            CKM_HASH_ML_DSA_SHA3_512,
            CKM_HASH_ML_DSA_SHAKE128,
            CKM_HASH_ML_DSA_SHAKE256,
        ],
    ),
    row("FIPS 203", ANY, 0, &[CKM_ML_KEM_KEY_PAIR_GEN, CKM_ML_KEM]),
    row(
        "FIPS 205",
        ANY,
        0,
        &[
            CKM_SLH_DSA_KEY_PAIR_GEN,
            CKM_SLH_DSA,
            CKM_HASH_SLH_DSA,
            CKM_HASH_SLH_DSA_SHA224,
            CKM_HASH_SLH_DSA_SHA256,
            CKM_HASH_SLH_DSA_SHA384,
            CKM_HASH_SLH_DSA_SHA512,
            CKM_HASH_SLH_DSA_SHA3_224,
            CKM_HASH_SLH_DSA_SHA3_256,
            CKM_HASH_SLH_DSA_SHA3_384,
            CKM_HASH_SLH_DSA_SHA3_512,
            CKM_HASH_SLH_DSA_SHAKE128,
            CKM_HASH_SLH_DSA_SHAKE256,
        ],
    ),
    row(
        "FIPS 197 and SP 800-38A",
        CKF_GENERATE | CKF_ENCRYPT | CKF_DECRYPT,
        16,
        &[CKM_AES_KEY_GEN, CKM_AES_ECB, CKM_AES_CBC, CKM_AES_CBC_PAD, CKM_AES_CTR],
    ),
    row("SP 800-38E", ANY, 32, &[CKM_AES_XTS, CKM_AES_XTS_KEY_GEN]),
    row("SP 800-38B", ANY, 16, &[CKM_AES_CMAC, CKM_AES_CMAC_GENERAL]),
    row("SP 800-38C and SP 800-38D", ANY, 16, &[CKM_AES_CCM, CKM_AES_GCM, CKM_AES_GMAC, CKM_CRATON_AEAD_WRAP]),
    row("SP 800-38F", ANY, 16, &[CKM_AES_KEY_WRAP, CKM_AES_KEY_WRAP_PAD, CKM_AES_KEY_WRAP_KWP]),
    row(
        "FIPS 180-4 and FIPS 202",
        ANY,
        0,
        &[
            CKM_SHA_1,
            CKM_SHA224,
            CKM_SHA256,
            CKM_SHA384,
            CKM_SHA512,
            CKM_SHA512_224,
            CKM_SHA512_256,
            CKM_SHA3_224,
            CKM_SHA3_256,
            CKM_SHA3_384,
            CKM_SHA3_512,
        ],
    ),
    row(
        "FIPS 198-1 and SP 800-131A Revision 2",
        ANY,
        SECRET_MIN,
        &[
            CKM_SHA_1_HMAC,
            CKM_SHA_1_HMAC_GENERAL,
            CKM_SHA224_HMAC,
            CKM_SHA224_HMAC_GENERAL,
            CKM_SHA256_HMAC,
            CKM_SHA256_HMAC_GENERAL,
            CKM_SHA384_HMAC,
            CKM_SHA384_HMAC_GENERAL,
            CKM_SHA512_HMAC,
            CKM_SHA512_HMAC_GENERAL,
            CKM_SHA512_224_HMAC,
            CKM_SHA512_224_HMAC_GENERAL,
            CKM_SHA512_256_HMAC,
            CKM_SHA512_256_HMAC_GENERAL,
            CKM_SHA3_224_HMAC,
            CKM_SHA3_224_HMAC_GENERAL,
            CKM_SHA3_256_HMAC,
            CKM_SHA3_256_HMAC_GENERAL,
            CKM_SHA3_384_HMAC,
            CKM_SHA3_384_HMAC_GENERAL,
            CKM_SHA3_512_HMAC,
            CKM_SHA3_512_HMAC_GENERAL,
            CKM_GENERIC_SECRET_KEY_GEN,
            CKM_SHA_1_KEY_GEN,
            CKM_SHA224_KEY_GEN,
            CKM_SHA256_KEY_GEN,
            CKM_SHA384_KEY_GEN,
            CKM_SHA512_KEY_GEN,
            CKM_SHA512_224_KEY_GEN,
            CKM_SHA512_256_KEY_GEN,
            CKM_SHA3_224_KEY_GEN,
            CKM_SHA3_256_KEY_GEN,
            CKM_SHA3_384_KEY_GEN,
            CKM_SHA3_512_KEY_GEN,
        ],
    ),
    row("SP 800-56C Revision 2", ANY, SECRET_MIN, &[CKM_HKDF_DERIVE, CKM_HKDF_DATA, CKM_HKDF_KEY_GEN]),
    row(
        "SP 800-108 Revision 1",
        ANY,
        SECRET_MIN_BITS,
        &[CKM_SP800_108_COUNTER_KDF, CKM_SP800_108_FEEDBACK_KDF, CKM_SP800_108_DOUBLE_PIPELINE_KDF],
    ),
    row("SP 800-132", ANY, SECRET_MIN, &[CKM_PKCS5_PBKD2]),
    row(
        "SP 800-135 Revision 1, with the extended master secret of RFC 7627",
        ANY,
        SECRET_MIN,
        &[
            CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE,
            CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE_DH,
            CKM_TLS12_KEY_AND_MAC_DERIVE,
            CKM_TLS12_KEY_SAFE_DERIVE,
            CKM_TLS12_MAC,
            CKM_TLS12_KDF,
        ],
    ),
];

/// For which functions (CKF_*) and from which key size a mechanism is approved; for none when it has no row.
pub(crate) fn limits(mechanism: Mechanism) -> Option<(u64, u64)> {
    let row = APPROVED.iter().find(|row| row.mechanisms.contains(&mechanism))?;
    // CKF_HW and the CKF_EC_* flags describe, they are no functions.
    const DESCRIPTIVE: u64 = CKF_EC_F_P | CKF_EC_OID | CKF_EC_UNCOMPRESS | CKF_EC_CURVENAME;
    debug_assert!(!row.source.is_empty());
    // What may sign and verify may do so message by message.
    let by_message = [(CKF_SIGN, CKF_MESSAGE_SIGN), (CKF_VERIFY, CKF_MESSAGE_VERIFY)];
    let offered =
        by_message.iter().filter(|(flag, _)| row.flags & flag != 0).fold(0, |all, (_, message)| all | message);
    Some((row.flags | offered | DESCRIPTIVE | CKF_MULTI_MESSAGE, row.min))
}

/// The shortest salt of PBKDF2 in bytes, and the fewest rounds (SP 800-132, sections 5.1 and 5.2).
const SALT_MIN: usize = 16;
const ITERATIONS_MIN: u64 = 1000;

/// Whether the parameter leaves the mechanism what was approved.
///
/// # Errors
/// [`Kind::MechanismParam`] naming the switch.
pub(crate) fn check_parameter(purpose: Use, parameter: &Parameter) -> Result<()> {
    let of_tls = |hash: u64| [CKM_SHA256, CKM_SHA384, CKM_SHA512].contains(&Mechanism(hash));
    let why = match parameter {
        Parameter::RsaPss { hash, .. }
            if matches!(purpose, Use::Sign | Use::MessageSign) && Mechanism(*hash) == CKM_SHA_1 =>
        {
            "nothing is signed over SHA-1"
        }
        // FIPS 186-5 has the pure and the prehashed form; the pure one has no context.
        Parameter::EdDsa { prehash: false, context } if !context.is_empty() => "Ed25519ctx is not in FIPS 186-5",
        Parameter::TlsMaster(asked) if !of_tls(asked.hash) => TLS_HASH,
        Parameter::TlsKeys(asked) if !of_tls(asked.hash) => TLS_HASH,
        Parameter::TlsKdf(asked) if !of_tls(asked.hash) => TLS_HASH,
        Parameter::TlsMac(asked) if !of_tls(asked.hash) => TLS_HASH,
        Parameter::Pbkdf2(asked) if asked.salt.len() < SALT_MIN || asked.iterations < ITERATIONS_MIN => {
            "SP 800-132 wants a salt of 128 bits and 1000 rounds"
        }
        _ => return Ok(()),
    };
    Err(Error::closed(Kind::MechanismParam, SWITCH, why))
}

const TLS_HASH: &str = "SP 800-135 has SHA-256, SHA-384 and SHA-512";

/// P-224, P-256, P-384 and P-521 as CKA_EC_PARAMS names them.
const CURVES: [&[u8]; 4] = [
    &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x21],
    &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
    &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22],
    &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23],
];

/// Whether a key is of an approved kind and size.
///
/// # Errors
/// [`Kind::KeySize`] naming the switch.
pub(crate) fn check_key(key: &Object) -> Result<()> {
    let attributes = &key.attributes;
    let secret_len = || key.secret().map_or(0, |secret| secret.len() as u64);
    let approved = match attributes.key_type() {
        Some(CKK_RSA) => significant_bits(attributes.bytes(CKA_MODULUS)) >= RSA_MIN,
        Some(CKK_EC) => CURVES.contains(&attributes.bytes(CKA_EC_PARAMS)),
        Some(CKK_EC_EDWARDS | CKK_ML_DSA | CKK_ML_KEM | CKK_SLH_DSA | CKK_AES | CKK_AES_XTS) => true,
        Some(CKK_DES | CKK_DES2 | CKK_DES3 | CKK_DH | CKK_DSA | CKK_EC_MONTGOMERY | CKK_MD5_HMAC) | None => false,
        Some(_) => secret_len() >= SECRET_MIN,
    };
    let refused = || Error::closed(Kind::KeySize, SWITCH, "the key's type or size is not approved");
    if approved { Ok(()) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Curve;
    use crate::mechanism::kdf_params::{Password, Pbkdf2Params, TlsMasterParams, TlsMasterSeed};
    use crate::object::Value;

    #[test]
    fn no_mechanism_has_two_rows_and_every_row_says_why() {
        let mut seen: Vec<Mechanism> = APPROVED.iter().flat_map(|row| row.mechanisms).copied().collect();
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
        assert!(APPROVED.iter().all(|row| row.source.contains("FIPS") || row.source.contains("SP 800")));
    }

    /// What the table offers and nobody may call approved, and why.
    const NOT_APPROVED: &[(&str, &[Mechanism])] = &[
        ("X9.31 is no longer in FIPS 186-5", &[CKM_RSA_X9_31_KEY_PAIR_GEN]),
        ("RSA without padding", &[CKM_RSA_X_509]),
        ("X25519 is in no publication of approved agreements", &[CKM_EC_MONTGOMERY_KEY_PAIR_GEN]),
        (
            "the digest of a key is no approved derivation",
            &[
                CKM_SHA1_KEY_DERIVATION,
                CKM_SHA224_KEY_DERIVATION,
                CKM_SHA256_KEY_DERIVATION,
                CKM_SHA384_KEY_DERIVATION,
                CKM_SHA512_KEY_DERIVATION,
                CKM_SHA512_224_KEY_DERIVATION,
                CKM_SHA512_256_KEY_DERIVATION,
                CKM_SHA3_224_KEY_DERIVATION,
                CKM_SHA3_256_KEY_DERIVATION,
                CKM_SHA3_384_KEY_DERIVATION,
                CKM_SHA3_512_KEY_DERIVATION,
                CKM_SHAKE_128_KEY_DERIVATION,
                CKM_SHAKE_256_KEY_DERIVATION,
            ],
        ),
        (
            "a master secret that is not bound to its handshake: what RFC 7627 was written for",
            &[CKM_TLS12_MASTER_KEY_DERIVE, CKM_TLS12_MASTER_KEY_DERIVE_DH],
        ),
        ("for every version of TLS, the old ones too", &[CKM_TLS_MAC, CKM_TLS_KDF]),
        (
            "they give back their base key, or what whoever encrypts can compute",
            &[
                CKM_CONCATENATE_BASE_AND_KEY,
                CKM_CONCATENATE_BASE_AND_DATA,
                CKM_CONCATENATE_DATA_AND_BASE,
                CKM_XOR_BASE_AND_DATA,
                CKM_EXTRACT_KEY_FROM_KEY,
                CKM_AES_ECB_ENCRYPT_DATA,
                CKM_AES_CBC_ENCRYPT_DATA,
            ],
        ),
        (
            "broken, or withdrawn for everything new",
            &[
                CKM_MD5,
                CKM_MD5_HMAC,
                CKM_MD5_HMAC_GENERAL,
                CKM_DES3_KEY_GEN,
                CKM_DES3_ECB,
                CKM_DES3_CBC,
                CKM_DES3_CBC_PAD,
            ],
        ),
    ];

    #[test]
    fn every_mechanism_of_the_table_is_approved_or_said_not_to_be() {
        for row in crate::mechanism::table::TABLE {
            let refused = NOT_APPROVED.iter().any(|(_, mechanisms)| mechanisms.contains(&row.number));
            assert_ne!(limits(row.number).is_some(), refused, "{} needs one row, here or above", row.number);
        }
    }

    #[test]
    fn an_approved_row_leaves_a_mechanism_something_to_do() {
        for row in crate::mechanism::table::TABLE {
            let Some((flags, min)) = limits(row.number) else { continue };
            let descriptive = CKF_EC_F_P | CKF_EC_OID | CKF_EC_UNCOMPRESS | CKF_EC_CURVENAME;
            assert_ne!(flags & row.flags & !descriptive, 0, "{} is approved for nothing that it does", row.number);
            assert!(min <= row.sizes.1, "{} is approved for no size", row.number);
        }
    }

    #[test]
    fn the_smallest_key_is_in_the_unit_of_the_table() {
        // SP 800-108 counts bits, HKDF bytes (PKCS#11 3.2 §6.42 and §6.62); both stand for 112 bits.
        assert_eq!(limits(CKM_SP800_108_COUNTER_KDF).map(|(_, min)| min), Some(112));
        assert_eq!(limits(CKM_HKDF_DERIVE).map(|(_, min)| min), Some(14));
    }

    fn ec_key(key_type: ck::KeyType, params: Vec<u8>) -> Object {
        let mut attributes = crate::object::Attributes::default();
        attributes.put(ck::attribute::CKA_KEY_TYPE, Value::Ulong(key_type.0));
        attributes.put(CKA_EC_PARAMS, Value::bytes(params));
        Object::new(crate::id::ObjectId([1; 16]), 1, attributes, None)
    }

    #[test]
    fn only_the_curves_of_nist_and_edwards_keys_are_approved() {
        let mut approved = 0;
        for &curve in Curve::ALL {
            let params = curve.params_der();
            let is_nist = CURVES.contains(&params.as_slice());
            assert_eq!(check_key(&ec_key(CKK_EC, params)).is_ok(), is_nist, "{curve:?}");
            approved += usize::from(is_nist);
        }
        assert!((3..=4).contains(&approved), "{approved} of the offered curves are approved");
        // secp256k1 and brainpoolP256r1.
        for other in [&[6, 5, 0x2b, 0x81, 4, 0, 0x0a][..], &[6, 9, 0x2b, 0x24, 3, 3, 2, 8, 1, 1, 7]] {
            assert!(check_key(&ec_key(CKK_EC, other.to_vec())).is_err(), "{other:x?}");
        }
        // 1.3.101.112 is Ed25519, 1.3.101.110 is X25519.
        assert!(check_key(&ec_key(CKK_EC_EDWARDS, vec![6, 3, 0x2b, 0x65, 0x70])).is_ok());
        assert!(check_key(&ec_key(CKK_EC_MONTGOMERY, vec![6, 3, 0x2b, 0x65, 0x6e])).is_err());
    }

    fn of_tls(hash: Mechanism) -> Parameter {
        let (seed, wants_version) = (TlsMasterSeed::SessionHash(vec![1; 32]), false);
        Parameter::TlsMaster(TlsMasterParams { hash: hash.0, seed, wants_version })
    }

    fn of_password(salt: usize, iterations: u64) -> Parameter {
        let (salt_source, prf, prf_data) = (1, 4, vec![]);
        let password = Password(zeroize::Zeroizing::new(b"a password".to_vec()));
        Parameter::Pbkdf2(Pbkdf2Params { salt_source, salt: vec![1; salt], iterations, prf, prf_data, password })
    }

    #[test]
    fn parameters_that_no_publication_has_are_refused() {
        let ed25519 = |prehash| Parameter::EdDsa { prehash, context: b"context".to_vec() };
        for (purpose, parameter, approved) in [
            (Use::Sign, Parameter::None, true),
            (Use::Sign, ed25519(true), true),
            (Use::Sign, ed25519(false), false),
            (Use::Verify, ed25519(false), false),
            (Use::Derive, of_tls(CKM_SHA256), true),
            (Use::Derive, of_tls(CKM_SHA384), true),
            (Use::Derive, of_tls(CKM_SHA_1), false),
            (Use::Derive, of_tls(CKM_SHA224), false),
            (Use::Generate, of_password(16, 1000), true),
            (Use::Generate, of_password(15, 1000), false),
            (Use::Generate, of_password(16, 999), false),
        ] {
            let checked = check_parameter(purpose, &parameter);
            assert_eq!(checked.is_ok(), approved, "{purpose:?} {parameter:?}");
        }
    }

    #[test]
    fn what_is_broken_or_unlisted_is_not_approved() {
        for mechanism in [CKM_MD5, CKM_DES3_CBC, CKM_RSA_X_509, CKM_XOR_BASE_AND_DATA, CKM_EC_MONTGOMERY_KEY_PAIR_GEN] {
            assert_eq!(limits(mechanism), None, "{mechanism}");
        }
        let (flags, min) = limits(CKM_RSA_PKCS).expect("signs");
        assert_eq!((flags & (CKF_SIGN | CKF_DECRYPT | CKF_UNWRAP), min), (CKF_SIGN, 2048));
        assert_eq!(limits(CKM_SHA1_RSA_PKCS).map(|(flags, _)| flags & (CKF_SIGN | CKF_VERIFY)), Some(CKF_VERIFY));
    }
}
