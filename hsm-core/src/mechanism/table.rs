//! THE mechanism table: one row per CKM number. Lists, infos, flags, admission, parameter checks, output lengths and the choice of
//! implementation are all read from here.
//!
//! Sources: PKCS#11 v3.0 Current Mechanisms for the classical rows; PKCS#11 3.2 for the post-quantum ones. Key sizes are in
//! the unit of the standard for the mechanism: bits for RSA and EC, bytes for AES and generic secrets, bytes of the public key for
//! the post-quantum ones.

use ck::flags::mechanism::*;
use ck::mechanism::*;
use ck::object::*;
use ck::{KeyType, Mechanism};

use super::params::ParameterKind;
use super::row::{Class, Kdf, OutputRule, Row, Scheme, Secrecy};
use crate::crypto::{Hash, PreHash, Shake};

const SIGN: u64 = CKF_SIGN | CKF_VERIFY;
const RECOVER: u64 = CKF_SIGN_RECOVER | CKF_VERIFY_RECOVER;
const CIPHER: u64 = CKF_ENCRYPT | CKF_DECRYPT;
const WRAP: u64 = CKF_WRAP | CKF_UNWRAP;
const KEM: u64 = CKF_ENCAPSULATE | CKF_DECAPSULATE;
const EC_KIND: u64 = CKF_EC_F_P | CKF_EC_OID | CKF_EC_UNCOMPRESS | CKF_EC_CURVENAME;
const RSA_BITS: (u64, u64) = (2048, 8192);
const EC_BITS: (u64, u64) = (256, 521);
const ED_BITS: (u64, u64) = (255, 255);
/// EC and X25519.
const AGREE_BITS: (u64, u64) = (255, 521);
const AES_BYTES: (u64, u64) = (16, 32);
const SECRET_BYTES: (u64, u64) = (1, 512);
const ML_DSA_BYTES: (u64, u64) = (1312, 2592);
const SLH_DSA_BYTES: (u64, u64) = (32, 64);
const ML_KEM_BYTES: (u64, u64) = (800, 1568);
const RSA: &[KeyType] = &[CKK_RSA];
const EC: &[KeyType] = &[CKK_EC];
const EDWARDS: &[KeyType] = &[CKK_EC_EDWARDS];
const MONTGOMERY: &[KeyType] = &[CKK_EC_MONTGOMERY];
const AGREES: &[KeyType] = &[CKK_EC, CKK_EC_MONTGOMERY];
const ML_DSA: &[KeyType] = &[CKK_ML_DSA];
const SLH_DSA: &[KeyType] = &[CKK_SLH_DSA];
const ML_KEM: &[KeyType] = &[CKK_ML_KEM];
const AES: &[KeyType] = &[CKK_AES];
const DES3: &[KeyType] = &[CKK_DES3];
/// A triple DES key has one length, and the standard gives no unit for it.
const DES3_BYTES: (u64, u64) = (24, 24);
const GENERIC: &[KeyType] = &[CKK_GENERIC_SECRET];
const NO_KEY: &[KeyType] = &[];
const XTS: &[KeyType] = &[CKK_AES_XTS];
const XTS_BYTES: (u64, u64) = (32, 64);
/// PKCS#11 3.2 §6.42 gives the sizes of these mechanisms in bits.
const SECRET_BITS: (u64, u64) = (8, 4096);
/// What a TLS pre-master or master secret is.
const TLS_SECRET: &[KeyType] = &[CKK_GENERIC_SECRET];
const HKDF_KEYS: &[KeyType] = &[
    CKK_HKDF,
    CKK_GENERIC_SECRET,
    CKK_SHA_1_HMAC,
    CKK_SHA224_HMAC,
    CKK_SHA256_HMAC,
    CKK_SHA384_HMAC,
    CKK_SHA512_HMAC,
    CKK_SHA512_224_HMAC,
    CKK_SHA512_256_HMAC,
    CKK_SHA3_224_HMAC,
    CKK_SHA3_256_HMAC,
    CKK_SHA3_384_HMAC,
    CKK_SHA3_512_HMAC,
];
const ANY_SECRET: &[KeyType] = &[
    CKK_GENERIC_SECRET,
    CKK_AES,
    CKK_HKDF,
    CKK_SHA_1_HMAC,
    CKK_SHA224_HMAC,
    CKK_SHA256_HMAC,
    CKK_SHA384_HMAC,
    CKK_SHA512_HMAC,
    CKK_SHA512_224_HMAC,
    CKK_SHA512_256_HMAC,
    CKK_SHA3_224_HMAC,
    CKK_SHA3_256_HMAC,
    CKK_SHA3_384_HMAC,
    CKK_SHA3_512_HMAC,
];
/// What PBKDF2 may make.
const PASSWORD_KEYS: &[KeyType] = &[CKK_GENERIC_SECRET, CKK_AES];

struct Plan {
    sizes: (u64, u64),
    key_types: &'static [KeyType],
    parameter: ParameterKind,
    output: OutputRule,
    multi_part: bool,
    class: Class,
}

const fn row(number: Mechanism, flags: u64, scheme: Scheme, plan: Plan) -> Row {
    let Plan { sizes, key_types, parameter, output, multi_part, class } = plan;
    let flags = flags | message_flags(flags, scheme, multi_part);
    Row { number, sizes, flags, key_types, parameter, output, multi_part, class, scheme }
}

/// What signs and verifies does so message by message too; of the ciphers only those with associated data do.
const fn message_flags(flags: u64, scheme: Scheme, multi_part: bool) -> u64 {
    let sign = if flags & CKF_SIGN != 0 { CKF_MESSAGE_SIGN } else { 0 };
    let verify = if flags & CKF_VERIFY != 0 { CKF_MESSAGE_VERIFY } else { 0 };
    let seal =
        if matches!(scheme, Scheme::AesGcm | Scheme::AesCcm) { CKF_MESSAGE_ENCRYPT | CKF_MESSAGE_DECRYPT } else { 0 };
    let offered = sign | verify | seal;
    if offered != 0 && multi_part { offered | CKF_MULTI_MESSAGE } else { offered }
}

const fn rsa(parameter: ParameterKind, multi_part: bool, class: Class) -> Plan {
    Plan { sizes: RSA_BITS, key_types: RSA, parameter, output: OutputRule::Modulus, multi_part, class }
}

const fn ecdsa(multi_part: bool, class: Class) -> Plan {
    Plan {
        sizes: EC_BITS,
        key_types: EC,
        parameter: ParameterKind::None,
        output: OutputRule::TwiceField,
        multi_part,
        class,
    }
}

/// Both agreements: the cofactor of every curve here is one.
const ECDH: Plan = Plan {
    sizes: EC_BITS,
    key_types: EC,
    parameter: ParameterKind::Ecdh1,
    output: OutputRule::None,
    multi_part: false,
    class: Class::Approved,
};

const fn ml_dsa(parameter: ParameterKind, multi_part: bool) -> Plan {
    let (sizes, output, class) = (ML_DSA_BYTES, OutputRule::MlDsa, Class::PostQuantum);
    Plan { sizes, key_types: ML_DSA, parameter, output, multi_part, class }
}

const fn slh_dsa(parameter: ParameterKind, multi_part: bool) -> Plan {
    let (sizes, output, class) = (SLH_DSA_BYTES, OutputRule::SlhDsa, Class::PostQuantum);
    Plan { sizes, key_types: SLH_DSA, parameter, output, multi_part, class }
}

/// HashSLH-DSA with hashing.
const fn hash_slh_dsa(number: Mechanism, hash: PreHash) -> Row {
    row(number, SIGN, Scheme::HashSlhDsa(Some(hash)), slh_dsa(ParameterKind::OptionalSignContext, true))
}

/// HashML-DSA with hashing.
const fn hash_ml_dsa(number: Mechanism, hash: PreHash) -> Row {
    row(number, SIGN, Scheme::HashMlDsa(Some(hash)), ml_dsa(ParameterKind::OptionalSignContext, true))
}

const fn hmac(keys: &'static [KeyType], parameter: ParameterKind, output: OutputRule) -> Plan {
    Plan { sizes: SECRET_BYTES, key_types: keys, parameter, output, multi_part: true, class: Class::Approved }
}

const fn digest(len: u64) -> Plan {
    let (parameter, output) = (ParameterKind::None, OutputRule::Fixed(len));
    Plan { sizes: (0, 0), key_types: NO_KEY, parameter, output, multi_part: true, class: Class::Approved }
}

const fn aes(parameter: ParameterKind, output: OutputRule, multi_part: bool) -> Plan {
    Plan { sizes: AES_BYTES, key_types: AES, parameter, output, multi_part, class: Class::Approved }
}

const fn des3(parameter: ParameterKind, output: OutputRule) -> Plan {
    Plan { sizes: DES3_BYTES, key_types: DES3, parameter, output, multi_part: true, class: Class::Legacy }
}

const fn derives(sizes: (u64, u64), key_types: &'static [KeyType], parameter: ParameterKind) -> Plan {
    Plan { sizes, key_types, parameter, output: OutputRule::None, multi_part: false, class: Class::Approved }
}

/// A derivation that only `policy.legacy_derive` offers.
const fn old(key_types: &'static [KeyType], parameter: ParameterKind) -> Plan {
    Plan { class: Class::LegacyDerive, ..derives(SECRET_BYTES, key_types, parameter) }
}

const fn digests_key(hash: Hash) -> Scheme {
    Scheme::Derive(Kdf::Digest(hash), Secrecy::Inherited)
}

const fn tls_master(versioned: bool) -> Scheme {
    Scheme::Derive(Kdf::TlsMaster { versioned }, Secrecy::AsAsked)
}

const fn legacy(kdf: Kdf) -> Scheme {
    Scheme::Derive(kdf, Secrecy::Inherited)
}

const HKDF: Plan = derives(SECRET_BYTES, HKDF_KEYS, ParameterKind::Hkdf);
const DIGESTS_KEY: Plan = derives(SECRET_BYTES, ANY_SECRET, ParameterKind::None);
const KBKDF: Plan = derives(SECRET_BITS, ANY_SECRET, ParameterKind::Kbkdf);
const TLS_MASTER: Plan = derives((48, 48), TLS_SECRET, ParameterKind::TlsMaster);
/// A pre-master secret of a Diffie-Hellman exchange has any length.
const TLS_MASTER_DH: Plan = derives(SECRET_BYTES, TLS_SECRET, ParameterKind::TlsMaster);
const TLS_KEYS: Plan = derives((48, 48), TLS_SECRET, ParameterKind::TlsKeys);
const TLS_KDF: Plan = derives((48, 48), TLS_SECRET, ParameterKind::TlsKdf);
const TLS_MAC: Plan = Plan {
    sizes: (48, 48),
    key_types: TLS_SECRET,
    parameter: ParameterKind::TlsMac,
    output: OutputRule::MacLen,
    multi_part: true,
    class: Class::Approved,
};

const fn makes(sizes: (u64, u64), key_types: &'static [KeyType], class: Class) -> Plan {
    Plan { sizes, key_types, parameter: ParameterKind::None, output: OutputRule::None, multi_part: false, class }
}

const SHA1_KEYS: &[KeyType] = &[CKK_SHA_1_HMAC, CKK_GENERIC_SECRET];
const SHA224_KEYS: &[KeyType] = &[CKK_SHA224_HMAC, CKK_GENERIC_SECRET];
const SHA256_KEYS: &[KeyType] = &[CKK_SHA256_HMAC, CKK_GENERIC_SECRET];
const SHA384_KEYS: &[KeyType] = &[CKK_SHA384_HMAC, CKK_GENERIC_SECRET];
const SHA512_KEYS: &[KeyType] = &[CKK_SHA512_HMAC, CKK_GENERIC_SECRET];
const SHA512_224_KEYS: &[KeyType] = &[CKK_SHA512_224_HMAC, CKK_GENERIC_SECRET];
const SHA512_256_KEYS: &[KeyType] = &[CKK_SHA512_256_HMAC, CKK_GENERIC_SECRET];
const SHA3_256_KEYS: &[KeyType] = &[CKK_SHA3_256_HMAC, CKK_GENERIC_SECRET];
const SHA3_224_KEYS: &[KeyType] = &[CKK_SHA3_224_HMAC, CKK_GENERIC_SECRET];
const SHA3_384_KEYS: &[KeyType] = &[CKK_SHA3_384_HMAC, CKK_GENERIC_SECRET];
const SHA3_512_KEYS: &[KeyType] = &[CKK_SHA3_512_HMAC, CKK_GENERIC_SECRET];

use Class::{Approved, PostQuantum, RawRsa, Unapproved, VerifyOnly};
use Scheme::{
    AesCbc, AesCmac, AesCtr, AesEcb, AesGcm, AesWrap, Digest, EcPair, Ecdh, Ecdsa, EdDsa, EdwardsPair, HashMlDsa, Hmac,
    MlDsa, MlDsaPair, MlKem, MlKemPair, MontgomeryPair,
};
use Scheme::{AesCcm, AesGmac, AesXts, Derive, Pbkdf2, TlsMac};
use Scheme::{RandomSecret, RsaOaep, RsaPair, RsaPkcs1, RsaPss, RsaRaw};

/// Every mechanism, ascending by number.
pub(crate) static TABLE: &[Row] = &[
    row(CKM_RSA_PKCS_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR, RsaPair, makes(RSA_BITS, RSA, Approved)),
    row(CKM_RSA_X9_31_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR, RsaPair, makes(RSA_BITS, RSA, Approved)),
    row(CKM_RSA_PKCS, SIGN | RECOVER | CIPHER | WRAP, RsaPkcs1(None), rsa(ParameterKind::None, false, Approved)),
    row(CKM_RSA_X_509, SIGN | RECOVER | CIPHER, RsaRaw, rsa(ParameterKind::None, false, RawRsa)),
    row(CKM_SHA1_RSA_PKCS, SIGN, RsaPkcs1(Some(Hash::Sha1)), rsa(ParameterKind::None, true, VerifyOnly)),
    row(CKM_RSA_PKCS_OAEP, CIPHER | WRAP, RsaOaep, rsa(ParameterKind::RsaOaep, false, Approved)),
    row(CKM_RSA_PKCS_PSS, SIGN, RsaPss(None), rsa(ParameterKind::RsaPss, false, Approved)),
    row(CKM_SHA1_RSA_PKCS_PSS, SIGN, RsaPss(Some(Hash::Sha1)), rsa(ParameterKind::RsaPss, true, VerifyOnly)),
    row(CKM_ML_KEM_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR, MlKemPair, makes(ML_KEM_BYTES, ML_KEM, PostQuantum)),
    row(
        CKM_ML_KEM,
        KEM,
        MlKem,
        Plan {
            sizes: ML_KEM_BYTES,
            key_types: ML_KEM,
            parameter: ParameterKind::None,
            output: OutputRule::MlKem,
            multi_part: false,
            class: PostQuantum,
        },
    ),
    row(CKM_ML_DSA_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR, MlDsaPair, makes(ML_DSA_BYTES, ML_DSA, PostQuantum)),
    row(CKM_ML_DSA, SIGN, MlDsa, ml_dsa(ParameterKind::OptionalSignContext, true)),
    row(CKM_HASH_ML_DSA, SIGN, HashMlDsa(None), ml_dsa(ParameterKind::HashSignContext, false)),
    hash_ml_dsa(CKM_HASH_ML_DSA_SHA224, PreHash::Hash(Hash::Sha224)),
    hash_ml_dsa(CKM_HASH_ML_DSA_SHA256, PreHash::Hash(Hash::Sha256)),
    hash_ml_dsa(CKM_HASH_ML_DSA_SHA384, PreHash::Hash(Hash::Sha384)),
    hash_ml_dsa(CKM_HASH_ML_DSA_SHA512, PreHash::Hash(Hash::Sha512)),
    hash_ml_dsa(CKM_HASH_ML_DSA_SHA3_224, PreHash::Hash(Hash::Sha3_224)),
    hash_ml_dsa(CKM_HASH_ML_DSA_SHA3_256, PreHash::Hash(Hash::Sha3_256)),
    hash_ml_dsa(CKM_HASH_ML_DSA_SHA3_384, PreHash::Hash(Hash::Sha3_384)),
    hash_ml_dsa(CKM_HASH_ML_DSA_SHA3_512, PreHash::Hash(Hash::Sha3_512)),
    hash_ml_dsa(CKM_HASH_ML_DSA_SHAKE128, PreHash::Shake(Shake::Shake128)),
    hash_ml_dsa(CKM_HASH_ML_DSA_SHAKE256, PreHash::Shake(Shake::Shake256)),
    row(
        CKM_SLH_DSA_KEY_PAIR_GEN,
        CKF_GENERATE_KEY_PAIR,
        Scheme::SlhDsaPair,
        makes(SLH_DSA_BYTES, SLH_DSA, PostQuantum),
    ),
    row(CKM_SLH_DSA, SIGN, Scheme::SlhDsa, slh_dsa(ParameterKind::OptionalSignContext, true)),
    row(CKM_HASH_SLH_DSA, SIGN, Scheme::HashSlhDsa(None), slh_dsa(ParameterKind::HashSignContext, false)),
    hash_slh_dsa(CKM_HASH_SLH_DSA_SHA224, PreHash::Hash(Hash::Sha224)),
    hash_slh_dsa(CKM_HASH_SLH_DSA_SHA256, PreHash::Hash(Hash::Sha256)),
    hash_slh_dsa(CKM_HASH_SLH_DSA_SHA384, PreHash::Hash(Hash::Sha384)),
    hash_slh_dsa(CKM_HASH_SLH_DSA_SHA512, PreHash::Hash(Hash::Sha512)),
    hash_slh_dsa(CKM_HASH_SLH_DSA_SHA3_224, PreHash::Hash(Hash::Sha3_224)),
    hash_slh_dsa(CKM_HASH_SLH_DSA_SHA3_256, PreHash::Hash(Hash::Sha3_256)),
    hash_slh_dsa(CKM_HASH_SLH_DSA_SHA3_384, PreHash::Hash(Hash::Sha3_384)),
    hash_slh_dsa(CKM_HASH_SLH_DSA_SHA3_512, PreHash::Hash(Hash::Sha3_512)),
    hash_slh_dsa(CKM_HASH_SLH_DSA_SHAKE128, PreHash::Shake(Shake::Shake128)),
    hash_slh_dsa(CKM_HASH_SLH_DSA_SHAKE256, PreHash::Shake(Shake::Shake256)),
    row(CKM_SHA256_RSA_PKCS, SIGN, RsaPkcs1(Some(Hash::Sha256)), rsa(ParameterKind::None, true, Approved)),
    row(CKM_SHA384_RSA_PKCS, SIGN, RsaPkcs1(Some(Hash::Sha384)), rsa(ParameterKind::None, true, Approved)),
    row(CKM_SHA512_RSA_PKCS, SIGN, RsaPkcs1(Some(Hash::Sha512)), rsa(ParameterKind::None, true, Approved)),
    row(CKM_SHA256_RSA_PKCS_PSS, SIGN, RsaPss(Some(Hash::Sha256)), rsa(ParameterKind::RsaPss, true, Approved)),
    row(CKM_SHA384_RSA_PKCS_PSS, SIGN, RsaPss(Some(Hash::Sha384)), rsa(ParameterKind::RsaPss, true, Approved)),
    row(CKM_SHA512_RSA_PKCS_PSS, SIGN, RsaPss(Some(Hash::Sha512)), rsa(ParameterKind::RsaPss, true, Approved)),
    row(CKM_SHA224_RSA_PKCS, SIGN, RsaPkcs1(Some(Hash::Sha224)), rsa(ParameterKind::None, true, Approved)),
    row(CKM_SHA224_RSA_PKCS_PSS, SIGN, RsaPss(Some(Hash::Sha224)), rsa(ParameterKind::RsaPss, true, Approved)),
    row(CKM_SHA512_224, CKF_DIGEST, Digest(Hash::Sha512_224), digest(28)),
    row(CKM_DES3_KEY_GEN, CKF_GENERATE, RandomSecret, makes(DES3_BYTES, DES3, Class::Legacy)),
    row(CKM_DES3_ECB, CIPHER, Scheme::Des3Ecb, des3(ParameterKind::None, OutputRule::Input)),
    row(CKM_DES3_CBC, CIPHER, Scheme::Des3Cbc { pad: false }, des3(ParameterKind::Iv(8), OutputRule::Input)),
    row(
        CKM_DES3_CBC_PAD,
        CIPHER,
        Scheme::Des3Cbc { pad: true },
        des3(ParameterKind::Iv(8), OutputRule::PaddedBlock(8)),
    ),
    row(CKM_MD5, CKF_DIGEST, Digest(Hash::Md5), Plan { class: Class::Legacy, ..digest(16) }),
    row(
        CKM_MD5_HMAC,
        SIGN,
        Hmac(Hash::Md5),
        Plan { class: Class::Legacy, ..hmac(GENERIC, ParameterKind::None, OutputRule::Fixed(16)) },
    ),
    row(
        CKM_MD5_HMAC_GENERAL,
        SIGN,
        Hmac(Hash::Md5),
        Plan { class: Class::Legacy, ..hmac(GENERIC, ParameterKind::MacLen, OutputRule::MacLen) },
    ),
    row(
        CKM_SHA512_224_HMAC,
        SIGN,
        Hmac(Hash::Sha512_224),
        hmac(SHA512_224_KEYS, ParameterKind::None, OutputRule::Fixed(28)),
    ),
    row(
        CKM_SHA512_224_HMAC_GENERAL,
        SIGN,
        Hmac(Hash::Sha512_224),
        hmac(SHA512_224_KEYS, ParameterKind::MacLen, OutputRule::MacLen),
    ),
    row(CKM_SHA512_256, CKF_DIGEST, Digest(Hash::Sha512_256), digest(32)),
    row(
        CKM_SHA512_256_HMAC,
        SIGN,
        Hmac(Hash::Sha512_256),
        hmac(SHA512_256_KEYS, ParameterKind::None, OutputRule::Fixed(32)),
    ),
    row(
        CKM_SHA512_256_HMAC_GENERAL,
        SIGN,
        Hmac(Hash::Sha512_256),
        hmac(SHA512_256_KEYS, ParameterKind::MacLen, OutputRule::MacLen),
    ),
    row(CKM_SHA3_256_RSA_PKCS, SIGN, RsaPkcs1(Some(Hash::Sha3_256)), rsa(ParameterKind::None, true, Approved)),
    row(CKM_SHA3_224_RSA_PKCS, SIGN, RsaPkcs1(Some(Hash::Sha3_224)), rsa(ParameterKind::None, true, Approved)),
    row(CKM_SHA3_384_RSA_PKCS, SIGN, RsaPkcs1(Some(Hash::Sha3_384)), rsa(ParameterKind::None, true, Approved)),
    row(CKM_SHA3_512_RSA_PKCS, SIGN, RsaPkcs1(Some(Hash::Sha3_512)), rsa(ParameterKind::None, true, Approved)),
    row(CKM_SHA3_256_RSA_PKCS_PSS, SIGN, RsaPss(Some(Hash::Sha3_256)), rsa(ParameterKind::RsaPss, true, Approved)),
    row(CKM_SHA3_224_RSA_PKCS_PSS, SIGN, RsaPss(Some(Hash::Sha3_224)), rsa(ParameterKind::RsaPss, true, Approved)),
    row(CKM_SHA3_384_RSA_PKCS_PSS, SIGN, RsaPss(Some(Hash::Sha3_384)), rsa(ParameterKind::RsaPss, true, Approved)),
    row(CKM_SHA3_512_RSA_PKCS_PSS, SIGN, RsaPss(Some(Hash::Sha3_512)), rsa(ParameterKind::RsaPss, true, Approved)),
    row(CKM_SHA_1, CKF_DIGEST, Digest(Hash::Sha1), digest(20)),
    row(CKM_SHA_1_HMAC, SIGN, Hmac(Hash::Sha1), hmac(SHA1_KEYS, ParameterKind::None, OutputRule::Fixed(20))),
    row(CKM_SHA_1_HMAC_GENERAL, SIGN, Hmac(Hash::Sha1), hmac(SHA1_KEYS, ParameterKind::MacLen, OutputRule::MacLen)),
    row(CKM_SHA256, CKF_DIGEST, Digest(Hash::Sha256), digest(32)),
    row(CKM_SHA256_HMAC, SIGN, Hmac(Hash::Sha256), hmac(SHA256_KEYS, ParameterKind::None, OutputRule::Fixed(32))),
    row(
        CKM_SHA256_HMAC_GENERAL,
        SIGN,
        Hmac(Hash::Sha256),
        hmac(SHA256_KEYS, ParameterKind::MacLen, OutputRule::MacLen),
    ),
    row(CKM_SHA224, CKF_DIGEST, Digest(Hash::Sha224), digest(28)),
    row(CKM_SHA224_HMAC, SIGN, Hmac(Hash::Sha224), hmac(SHA224_KEYS, ParameterKind::None, OutputRule::Fixed(28))),
    row(
        CKM_SHA224_HMAC_GENERAL,
        SIGN,
        Hmac(Hash::Sha224),
        hmac(SHA224_KEYS, ParameterKind::MacLen, OutputRule::MacLen),
    ),
    row(CKM_SHA384, CKF_DIGEST, Digest(Hash::Sha384), digest(48)),
    row(CKM_SHA384_HMAC, SIGN, Hmac(Hash::Sha384), hmac(SHA384_KEYS, ParameterKind::None, OutputRule::Fixed(48))),
    row(
        CKM_SHA384_HMAC_GENERAL,
        SIGN,
        Hmac(Hash::Sha384),
        hmac(SHA384_KEYS, ParameterKind::MacLen, OutputRule::MacLen),
    ),
    row(CKM_SHA512, CKF_DIGEST, Digest(Hash::Sha512), digest(64)),
    row(CKM_SHA512_HMAC, SIGN, Hmac(Hash::Sha512), hmac(SHA512_KEYS, ParameterKind::None, OutputRule::Fixed(64))),
    row(
        CKM_SHA512_HMAC_GENERAL,
        SIGN,
        Hmac(Hash::Sha512),
        hmac(SHA512_KEYS, ParameterKind::MacLen, OutputRule::MacLen),
    ),
    row(CKM_SHA3_256, CKF_DIGEST, Digest(Hash::Sha3_256), digest(32)),
    row(CKM_SHA3_256_HMAC, SIGN, Hmac(Hash::Sha3_256), hmac(SHA3_256_KEYS, ParameterKind::None, OutputRule::Fixed(32))),
    row(
        CKM_SHA3_256_HMAC_GENERAL,
        SIGN,
        Hmac(Hash::Sha3_256),
        hmac(SHA3_256_KEYS, ParameterKind::MacLen, OutputRule::MacLen),
    ),
    row(CKM_SHA3_224, CKF_DIGEST, Digest(Hash::Sha3_224), digest(28)),
    row(CKM_SHA3_224_HMAC, SIGN, Hmac(Hash::Sha3_224), hmac(SHA3_224_KEYS, ParameterKind::None, OutputRule::Fixed(28))),
    row(
        CKM_SHA3_224_HMAC_GENERAL,
        SIGN,
        Hmac(Hash::Sha3_224),
        hmac(SHA3_224_KEYS, ParameterKind::MacLen, OutputRule::MacLen),
    ),
    row(CKM_SHA3_384, CKF_DIGEST, Digest(Hash::Sha3_384), digest(48)),
    row(CKM_SHA3_384_HMAC, SIGN, Hmac(Hash::Sha3_384), hmac(SHA3_384_KEYS, ParameterKind::None, OutputRule::Fixed(48))),
    row(
        CKM_SHA3_384_HMAC_GENERAL,
        SIGN,
        Hmac(Hash::Sha3_384),
        hmac(SHA3_384_KEYS, ParameterKind::MacLen, OutputRule::MacLen),
    ),
    row(CKM_SHA3_512, CKF_DIGEST, Digest(Hash::Sha3_512), digest(64)),
    row(CKM_SHA3_512_HMAC, SIGN, Hmac(Hash::Sha3_512), hmac(SHA3_512_KEYS, ParameterKind::None, OutputRule::Fixed(64))),
    row(
        CKM_SHA3_512_HMAC_GENERAL,
        SIGN,
        Hmac(Hash::Sha3_512),
        hmac(SHA3_512_KEYS, ParameterKind::MacLen, OutputRule::MacLen),
    ),
    row(CKM_GENERIC_SECRET_KEY_GEN, CKF_GENERATE, RandomSecret, makes(SECRET_BYTES, &[CKK_GENERIC_SECRET], Approved)),
    row(CKM_EC_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR | EC_KIND, EcPair, makes(EC_BITS, EC, Approved)),
    row(CKM_EC_KEY_PAIR_GEN_W_EXTRA_BITS, CKF_GENERATE_KEY_PAIR | EC_KIND, EcPair, makes(EC_BITS, EC, Approved)),
    row(CKM_ECDSA, SIGN | EC_KIND, Ecdsa(None), ecdsa(false, Approved)),
    row(CKM_ECDSA_SHA1, SIGN | EC_KIND, Ecdsa(Some(Hash::Sha1)), ecdsa(true, Unapproved)),
    row(CKM_ECDSA_SHA224, SIGN | EC_KIND, Ecdsa(Some(Hash::Sha224)), ecdsa(true, Approved)),
    row(CKM_ECDSA_SHA256, SIGN | EC_KIND, Ecdsa(Some(Hash::Sha256)), ecdsa(true, Approved)),
    row(CKM_ECDSA_SHA384, SIGN | EC_KIND, Ecdsa(Some(Hash::Sha384)), ecdsa(true, Approved)),
    row(CKM_ECDSA_SHA512, SIGN | EC_KIND, Ecdsa(Some(Hash::Sha512)), ecdsa(true, Approved)),
    row(CKM_ECDSA_SHA3_224, SIGN | EC_KIND, Ecdsa(Some(Hash::Sha3_224)), ecdsa(true, Approved)),
    row(CKM_ECDSA_SHA3_256, SIGN | EC_KIND, Ecdsa(Some(Hash::Sha3_256)), ecdsa(true, Approved)),
    row(CKM_ECDSA_SHA3_384, SIGN | EC_KIND, Ecdsa(Some(Hash::Sha3_384)), ecdsa(true, Approved)),
    row(CKM_ECDSA_SHA3_512, SIGN | EC_KIND, Ecdsa(Some(Hash::Sha3_512)), ecdsa(true, Approved)),
    row(CKM_ECDH1_DERIVE, CKF_DERIVE | KEM | EC_KIND, Ecdh, Plan { sizes: AGREE_BITS, key_types: AGREES, ..ECDH }),
    row(CKM_ECDH1_COFACTOR_DERIVE, CKF_DERIVE | KEM | EC_KIND, Ecdh, ECDH),
    row(CKM_HKDF_DERIVE, CKF_DERIVE, Derive(Kdf::Hkdf, Secrecy::AsAsked), HKDF),
    row(CKM_HKDF_DATA, CKF_DERIVE, Derive(Kdf::HkdfData, Secrecy::AsAsked), HKDF),
    row(CKM_HKDF_KEY_GEN, CKF_GENERATE, RandomSecret, makes(SECRET_BYTES, &[CKK_HKDF], Approved)),
    row(CKM_SP800_108_COUNTER_KDF, CKF_DERIVE, Derive(Kdf::Counter, Secrecy::LikeBase), KBKDF),
    row(CKM_SP800_108_FEEDBACK_KDF, CKF_DERIVE, Derive(Kdf::Feedback, Secrecy::LikeBase), KBKDF),
    row(CKM_SP800_108_DOUBLE_PIPELINE_KDF, CKF_DERIVE, Derive(Kdf::DoublePipeline, Secrecy::LikeBase), KBKDF),
    row(
        CKM_PKCS5_PBKD2,
        CKF_GENERATE,
        Pbkdf2,
        Plan { parameter: ParameterKind::Pbkdf2, ..makes(SECRET_BYTES, PASSWORD_KEYS, Class::PasswordKey) },
    ),
    row(CKM_SHA1_KEY_DERIVATION, CKF_DERIVE, digests_key(Hash::Sha1), DIGESTS_KEY),
    row(CKM_SHA224_KEY_DERIVATION, CKF_DERIVE, digests_key(Hash::Sha224), DIGESTS_KEY),
    row(CKM_SHA256_KEY_DERIVATION, CKF_DERIVE, digests_key(Hash::Sha256), DIGESTS_KEY),
    row(CKM_SHA384_KEY_DERIVATION, CKF_DERIVE, digests_key(Hash::Sha384), DIGESTS_KEY),
    row(CKM_SHA512_KEY_DERIVATION, CKF_DERIVE, digests_key(Hash::Sha512), DIGESTS_KEY),
    row(CKM_SHA512_224_KEY_DERIVATION, CKF_DERIVE, digests_key(Hash::Sha512_224), DIGESTS_KEY),
    row(CKM_SHA512_256_KEY_DERIVATION, CKF_DERIVE, digests_key(Hash::Sha512_256), DIGESTS_KEY),
    row(CKM_SHA3_224_KEY_DERIVATION, CKF_DERIVE, digests_key(Hash::Sha3_224), DIGESTS_KEY),
    row(CKM_SHA3_256_KEY_DERIVATION, CKF_DERIVE, digests_key(Hash::Sha3_256), DIGESTS_KEY),
    row(CKM_SHA3_384_KEY_DERIVATION, CKF_DERIVE, digests_key(Hash::Sha3_384), DIGESTS_KEY),
    row(CKM_SHA3_512_KEY_DERIVATION, CKF_DERIVE, digests_key(Hash::Sha3_512), DIGESTS_KEY),
    row(CKM_SHAKE_128_KEY_DERIVATION, CKF_DERIVE, Derive(Kdf::Shake(Shake::Shake128), Secrecy::Inherited), DIGESTS_KEY),
    row(CKM_SHAKE_256_KEY_DERIVATION, CKF_DERIVE, Derive(Kdf::Shake(Shake::Shake256), Secrecy::Inherited), DIGESTS_KEY),
    row(CKM_TLS12_MASTER_KEY_DERIVE, CKF_DERIVE, tls_master(true), TLS_MASTER),
    row(CKM_TLS12_MASTER_KEY_DERIVE_DH, CKF_DERIVE, tls_master(false), TLS_MASTER_DH),
    row(CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE, CKF_DERIVE, tls_master(true), TLS_MASTER),
    row(CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE_DH, CKF_DERIVE, tls_master(false), TLS_MASTER_DH),
    row(CKM_TLS12_KEY_AND_MAC_DERIVE, CKF_DERIVE, Derive(Kdf::TlsKeys { ivs: true }, Secrecy::Inherited), TLS_KEYS),
    row(CKM_TLS12_KEY_SAFE_DERIVE, CKF_DERIVE, Derive(Kdf::TlsKeys { ivs: false }, Secrecy::Inherited), TLS_KEYS),
    row(CKM_TLS_KDF, CKF_DERIVE, Derive(Kdf::TlsExporter, Secrecy::Inherited), TLS_KDF),
    row(CKM_TLS12_KDF, CKF_DERIVE, Derive(Kdf::TlsExporter, Secrecy::Inherited), TLS_KDF),
    row(CKM_TLS_MAC, SIGN, TlsMac, TLS_MAC),
    row(CKM_TLS12_MAC, SIGN, TlsMac, TLS_MAC),
    row(CKM_CONCATENATE_BASE_AND_KEY, CKF_DERIVE, legacy(Kdf::ConcatenateKey), old(ANY_SECRET, ParameterKind::Key)),
    row(CKM_CONCATENATE_BASE_AND_DATA, CKF_DERIVE, legacy(Kdf::ConcatenateData), old(ANY_SECRET, ParameterKind::Data)),
    row(CKM_CONCATENATE_DATA_AND_BASE, CKF_DERIVE, legacy(Kdf::DataConcatenate), old(ANY_SECRET, ParameterKind::Data)),
    row(CKM_XOR_BASE_AND_DATA, CKF_DERIVE, legacy(Kdf::Xor), old(ANY_SECRET, ParameterKind::Data)),
    row(CKM_EXTRACT_KEY_FROM_KEY, CKF_DERIVE, legacy(Kdf::Extract), old(ANY_SECRET, ParameterKind::Number)),
    row(CKM_AES_ECB_ENCRYPT_DATA, CKF_DERIVE, legacy(Kdf::AesEcbData), old(AES, ParameterKind::Data)),
    row(CKM_AES_CBC_ENCRYPT_DATA, CKF_DERIVE, legacy(Kdf::AesCbcData), old(AES, ParameterKind::CbcData)),
    row(
        CKM_ECDH_AES_KEY_WRAP,
        WRAP | EC_KIND,
        Scheme::EcdhAesWrap,
        Plan { parameter: ParameterKind::EcdhAesWrap, ..ECDH },
    ),
    row(
        CKM_RSA_AES_KEY_WRAP,
        WRAP,
        Scheme::RsaAesWrap,
        Plan { output: OutputRule::None, ..rsa(ParameterKind::RsaAesWrap, false, Approved) },
    ),
    row(
        CKM_EC_EDWARDS_KEY_PAIR_GEN,
        CKF_GENERATE_KEY_PAIR | CKF_EC_OID | CKF_EC_CURVENAME,
        EdwardsPair,
        makes(ED_BITS, EDWARDS, Approved),
    ),
    row(
        CKM_EDDSA,
        SIGN | CKF_EC_OID | CKF_EC_CURVENAME,
        EdDsa,
        Plan {
            sizes: ED_BITS,
            key_types: EDWARDS,
            parameter: ParameterKind::OptionalEdDsa,
            output: OutputRule::Fixed(64),
            multi_part: true,
            class: Approved,
        },
    ),
    row(
        CKM_EC_MONTGOMERY_KEY_PAIR_GEN,
        CKF_GENERATE_KEY_PAIR | CKF_EC_OID | CKF_EC_CURVENAME,
        MontgomeryPair,
        makes(ED_BITS, MONTGOMERY, Unapproved),
    ),
    row(CKM_AES_KEY_GEN, CKF_GENERATE, RandomSecret, makes(AES_BYTES, AES, Approved)),
    row(CKM_AES_ECB, CIPHER, AesEcb, aes(ParameterKind::None, OutputRule::Input, true)),
    row(CKM_AES_CBC, CIPHER | WRAP, AesCbc { pad: false }, aes(ParameterKind::Iv(16), OutputRule::Input, true)),
    row(
        CKM_AES_CBC_PAD,
        CIPHER | WRAP,
        AesCbc { pad: true },
        aes(ParameterKind::Iv(16), OutputRule::PaddedBlock(16), true),
    ),
    row(CKM_AES_CTR, CIPHER, AesCtr, aes(ParameterKind::Ctr, OutputRule::Input, true)),
    row(CKM_AES_GCM, CIPHER | WRAP, AesGcm, aes(ParameterKind::Gcm, OutputRule::InputPlusTag, true)),
    row(CKM_AES_CCM, CIPHER, AesCcm, aes(ParameterKind::Ccm, OutputRule::InputPlusTag, true)),
    row(CKM_AES_CMAC, SIGN, AesCmac, aes(ParameterKind::None, OutputRule::Fixed(16), true)),
    row(CKM_AES_CMAC_GENERAL, SIGN, AesCmac, aes(ParameterKind::MacLen, OutputRule::MacLen, true)),
    row(CKM_AES_GMAC, SIGN, AesGmac, aes(ParameterKind::Gmac, OutputRule::MacLen, true)),
    row(
        CKM_AES_XTS,
        CIPHER,
        AesXts,
        Plan { sizes: XTS_BYTES, key_types: XTS, ..aes(ParameterKind::Iv(16), OutputRule::Input, true) },
    ),
    row(CKM_AES_XTS_KEY_GEN, CKF_GENERATE, RandomSecret, makes(XTS_BYTES, XTS, Approved)),
    row(
        CKM_AES_KEY_WRAP,
        CIPHER | WRAP,
        AesWrap { pad: false },
        aes(ParameterKind::OptionalIv(8), OutputRule::None, false),
    ),
    row(
        CKM_AES_KEY_WRAP_PAD,
        CIPHER | WRAP,
        AesWrap { pad: true },
        aes(ParameterKind::OptionalIv(4), OutputRule::None, false),
    ),
    row(
        CKM_AES_KEY_WRAP_KWP,
        CIPHER | WRAP,
        AesWrap { pad: true },
        aes(ParameterKind::OptionalIv(4), OutputRule::None, false),
    ),
    row(CKM_SHA_1_KEY_GEN, CKF_GENERATE, RandomSecret, makes(SECRET_BYTES, &[CKK_SHA_1_HMAC], Approved)),
    row(CKM_SHA224_KEY_GEN, CKF_GENERATE, RandomSecret, makes(SECRET_BYTES, &[CKK_SHA224_HMAC], Approved)),
    row(CKM_SHA256_KEY_GEN, CKF_GENERATE, RandomSecret, makes(SECRET_BYTES, &[CKK_SHA256_HMAC], Approved)),
    row(CKM_SHA384_KEY_GEN, CKF_GENERATE, RandomSecret, makes(SECRET_BYTES, &[CKK_SHA384_HMAC], Approved)),
    row(CKM_SHA512_KEY_GEN, CKF_GENERATE, RandomSecret, makes(SECRET_BYTES, &[CKK_SHA512_HMAC], Approved)),
    row(CKM_SHA512_224_KEY_GEN, CKF_GENERATE, RandomSecret, makes(SECRET_BYTES, &[CKK_SHA512_224_HMAC], Approved)),
    row(CKM_SHA512_256_KEY_GEN, CKF_GENERATE, RandomSecret, makes(SECRET_BYTES, &[CKK_SHA512_256_HMAC], Approved)),
    row(CKM_SHA3_224_KEY_GEN, CKF_GENERATE, RandomSecret, makes(SECRET_BYTES, &[CKK_SHA3_224_HMAC], Approved)),
    row(CKM_SHA3_256_KEY_GEN, CKF_GENERATE, RandomSecret, makes(SECRET_BYTES, &[CKK_SHA3_256_HMAC], Approved)),
    row(CKM_SHA3_384_KEY_GEN, CKF_GENERATE, RandomSecret, makes(SECRET_BYTES, &[CKK_SHA3_384_HMAC], Approved)),
    row(CKM_SHA3_512_KEY_GEN, CKF_GENERATE, RandomSecret, makes(SECRET_BYTES, &[CKK_SHA3_512_HMAC], Approved)),
    row(
        CKM_CRATON_AEAD_WRAP,
        WRAP,
        Scheme::AeadWrap,
        Plan { sizes: (32, 32), ..aes(ParameterKind::None, OutputRule::None, false) },
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique() {
        let mut numbers: Vec<_> = TABLE.iter().map(|row| row.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), TABLE.len());
    }

    #[test]
    fn every_row_says_what_it_is_for() {
        for row in TABLE {
            let functions = SIGN | CIPHER | WRAP | KEM | CKF_DIGEST | CKF_DERIVE | CKF_GENERATE | CKF_GENERATE_KEY_PAIR;
            assert!(row.flags & functions != 0, "{}", row.number);
            assert!(row.number.name().is_some());
            assert_eq!(row.key_types.is_empty(), row.flags & CKF_DIGEST != 0, "{}", row.number);
        }
    }
}
