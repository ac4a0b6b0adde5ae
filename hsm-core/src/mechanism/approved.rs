//! What `algorithms.fips_approved_only` leaves: the mechanisms that a FIPS 140-3 module may offer as approved ones, for which functions,
//! and from which key size. A mechanism that has no row here is not approved, whatever it is: a new one must be thought about first.
//!
//! This is a restriction of what the token does, not a validation: nobody has certified this software.

use ck::Mechanism;
use ck::attribute::{CKA_EC_PARAMS, CKA_MODULUS};
use ck::flags::mechanism::*;
use ck::mechanism::*;
use ck::object::*;

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

const fn row(source: &'static str, flags: u64, min: u64, mechanisms: &'static [Mechanism]) -> Row {
    Row { source, flags, min, mechanisms }
}

const APPROVED: &[Row] = &[
    row(
        "FIPS 186-5, section 5",
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
        "SP 800-131A Revision 2, section 3: verification of old signatures",
        CKF_VERIFY,
        RSA_MIN,
        &[CKM_SHA1_RSA_PKCS, CKM_SHA1_RSA_PKCS_PSS],
    ),
    row("SP 800-56B Revision 2", ANY, RSA_MIN, &[CKM_RSA_PKCS_OAEP, CKM_RSA_AES_KEY_WRAP]),
    row(
        "FIPS 186-5, section 6",
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
    row("SP 800-131A Revision 2, section 3: verification of old signatures", CKF_VERIFY, EC_MIN, &[CKM_ECDSA_SHA1]),
    row("SP 800-56A Revision 3", ANY, EC_MIN, &[CKM_ECDH1_DERIVE, CKM_ECDH1_COFACTOR_DERIVE, CKM_ECDH_AES_KEY_WRAP]),
    row("FIPS 186-5, section 7", ANY, 255, &[CKM_EC_EDWARDS_KEY_PAIR_GEN, CKM_EDDSA]),
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
        "FIPS 198-1 and SP 800-131A Revision 2, section 10",
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
    row(
        "SP 800-56C Revision 2 and SP 800-108 Revision 1",
        ANY,
        SECRET_MIN,
        &[
            CKM_HKDF_DERIVE,
            CKM_HKDF_DATA,
            CKM_HKDF_KEY_GEN,
            CKM_SP800_108_COUNTER_KDF,
            CKM_SP800_108_FEEDBACK_KDF,
            CKM_SP800_108_DOUBLE_PIPELINE_KDF,
        ],
    ),
    row("SP 800-132", ANY, SECRET_MIN, &[CKM_PKCS5_PBKD2]),
    row(
        "SP 800-135 Revision 1, section 4.2",
        ANY,
        SECRET_MIN,
        &[CKM_TLS12_KEY_AND_MAC_DERIVE, CKM_TLS12_KEY_SAFE_DERIVE, CKM_TLS12_MAC, CKM_TLS12_KDF],
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

    #[test]
    fn no_mechanism_has_two_rows_and_every_row_says_why() {
        let mut seen: Vec<Mechanism> = APPROVED.iter().flat_map(|row| row.mechanisms).copied().collect();
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
        assert!(APPROVED.iter().all(|row| row.source.contains("FIPS") || row.source.contains("SP 800")));
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
