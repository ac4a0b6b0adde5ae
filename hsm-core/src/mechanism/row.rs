//! What the mechanism table says of each mechanism: a row, and the words of its columns.

use ck::{KeyType, Mechanism};

use super::params::ParameterKind;
use crate::crypto::{Hash, PreHash, Shake};

/// How long the output of sign, encrypt or digest is; the shim answers length queries from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputRule {
    /// No output of its own.
    None,
    /// This many bytes.
    Fixed(u64),
    /// The RSA modulus length.
    Modulus,
    /// Twice the length of the curve's order.
    TwiceField,
    /// By ML-DSA parameter set.
    MlDsa,
    /// The input and the tag of the parameter.
    InputPlusTag,
    /// The input rounded up to the next whole block of this many bytes.
    PaddedBlock(u64),
    /// As long as the input.
    Input,
    /// At most the input.
    AtMostInput,
    /// The length in the parameter.
    MacLen,
    /// By SLH-DSA parameter set.
    SlhDsa,
    /// The ciphertext of an encapsulation, by ML-KEM parameter set.
    MlKem,
}

/// Which implementation a row uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// RSA without padding.
    RsaRaw,
    /// RSASSA-PKCS1-v1_5, over the caller's bytes or over a digest.
    RsaPkcs1(Option<Hash>),
    /// RSASSA-PSS, over the caller's digest or hashing.
    RsaPss(Option<Hash>),
    /// RSAES-OAEP.
    RsaOaep,
    /// ECDSA, over the caller's digest or hashing.
    Ecdsa(Option<Hash>),
    /// Ed25519.
    EdDsa,
    /// ML-DSA.
    MlDsa,
    /// SLH-DSA.
    SlhDsa,
    /// HashSLH-DSA, over the caller's digest or hashing.
    HashSlhDsa(Option<PreHash>),
    /// HashML-DSA, over the caller's digest or hashing.
    HashMlDsa(Option<PreHash>),
    /// AES-CMAC, whole or cut to the length in the parameter.
    AesCmac,
    /// HMAC, whole or cut to the length in the parameter.
    Hmac(Hash),
    /// A digest.
    Digest(Hash),
    /// AES-GCM.
    AesGcm,
    /// AES-ECB.
    AesEcb,
    /// AES-CTR.
    AesCtr,
    /// AES-CBC, with PKCS#7 padding or without.
    AesCbc {
        /// Whether PKCS#7 padding is applied.
        pad: bool,
    },
    /// Triple DES in ECB.
    Des3Ecb,
    /// Triple DES in CBC, with PKCS#7 padding or without.
    Des3Cbc {
        /// Whether PKCS#7 padding is applied.
        pad: bool,
    },
    /// AES key wrap: RFC 3394, or RFC 5649 with padding.
    AesWrap {
        /// Whether it is RFC 5649.
        pad: bool,
    },
    /// An AES key under RSA-OAEP, and the target under that AES key (RFC 5649).
    RsaAesWrap,
    /// An AES key by ECDH with a one-time key, and the target under that AES key (RFC 5649).
    EcdhAesWrap,
    /// AES-256-GCM over the key, with its attributes as authenticated data.
    AeadWrap,
    /// RSA key pair generation.
    RsaPair,
    /// Weierstrass curve key pair generation.
    EcPair,
    /// Ed25519 key pair generation.
    EdwardsPair,
    /// X25519 key pair generation.
    MontgomeryPair,
    /// ML-DSA key pair generation.
    MlDsaPair,
    /// SLH-DSA key pair generation.
    SlhDsaPair,
    /// ML-KEM key pair generation.
    MlKemPair,
    /// ML-KEM encapsulation.
    MlKem,
    /// A random secret key of the row's key type.
    RandomSecret,
    /// ECDH.
    Ecdh,
    /// AES-CCM.
    AesCcm,
    /// AES-GMAC.
    AesGmac,
    /// AES-XTS.
    AesXts,
    /// Another derivation, and how secret its result is.
    Derive(Kdf, Secrecy),
    /// PBKDF2.
    Pbkdf2,
    /// The verify data of TLS 1.2.
    TlsMac,
}

/// Which derivation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kdf {
    /// An agreement on an elliptic curve.
    Ecdh,
    /// HKDF.
    Hkdf,
    /// HKDF into a data object.
    HkdfData,
    /// SP 800-108, counter mode.
    Counter,
    /// SP 800-108, feedback mode.
    Feedback,
    /// SP 800-108, double pipeline mode.
    DoublePipeline,
    /// The digest of the key.
    Digest(Hash),
    /// The SHAKE of the key.
    Shake(Shake),
    /// A TLS 1.2 master secret, plain or extended.
    TlsMaster {
        /// Whether the base key begins with a protocol version.
        versioned: bool,
    },
    /// The keys of a TLS 1.2 connection.
    TlsKeys {
        /// Whether IVs are given out.
        ivs: bool,
    },
    /// A TLS 1.2 exporter.
    TlsExporter,
    /// Base key, then another key.
    ConcatenateKey,
    /// Base key, then data.
    ConcatenateData,
    /// Data, then base key.
    DataConcatenate,
    /// Base key and data, bit by bit.
    Xor,
    /// Bits of the base key.
    Extract,
    /// Data encrypted under the base key in ECB.
    AesEcbData,
    /// Data encrypted under the base key in CBC.
    AesCbcData,
}

/// How secret a derived key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrecy {
    /// As its template says. The base key cannot be computed from it. In the profile "strict" only an agreement's is.
    AsAsked,
    /// As its template says, else as the base key is.
    LikeBase,
    /// At least as secret as every key that it comes from.
    Inherited,
}

/// Whether policy lets a row be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Always.
    Approved,
    /// For verification only: RSA over SHA-1 (`algorithms.allow_sha1_signing` opens signing).
    VerifyOnly,
    /// Always, but FIPS 140-3 does not approve it: ECDSA over SHA-1. CKM_ECDSA signs any digest of the caller's, that one too, so
    /// a refusal would protect nothing.
    Unapproved,
    /// With `algorithms.enable_pqc`, which is on by default.
    PostQuantum,
    /// With `policy.legacy_derive`, which is off by default: what is derived shows the base key, or is known to whoever encrypts.
    LegacyDerive,
    /// With `policy.cbc_unwrap`, which is off by default: NSS, finding that a token makes keys from passwords, makes the key of a PKCS#12
    /// file there and goes on to unwrap by CBC. Where that is refused it must not begin.
    PasswordKey,
    /// With `algorithms.allow_legacy`, which is off by default: MD5 and triple DES, for old applications.
    Legacy,
    /// With `policy.raw_rsa`, which is off by default: without padding, whoever may decrypt may sign and the other way round.
    RawRsa,
}

/// One row.
#[derive(Debug)]
pub(crate) struct Row {
    /// The CKM number.
    pub(crate) number: Mechanism,
    /// Smallest and largest key.
    pub(crate) sizes: (u64, u64),
    /// The functions it serves, CKF_*.
    pub(crate) flags: u64,
    /// The key types it takes or makes.
    pub(crate) key_types: &'static [KeyType],
    /// The parameter it takes.
    pub(crate) parameter: ParameterKind,
    /// How long its output is.
    pub(crate) output: OutputRule,
    /// Whether Update and Final are offered.
    pub(crate) multi_part: bool,
    /// What policy says.
    pub(crate) class: Class,
    /// The implementation.
    pub(crate) scheme: Scheme,
}
