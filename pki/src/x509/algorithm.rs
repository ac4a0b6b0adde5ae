//! Key kinds and signature schemes, one row each: what a key is called in the configuration, how its signatures are named
//! in certificates, and what its strength must be.
//!
//! Algorithm identifiers: RFC 5758 section 3.2 (ECDSA), RFC 8017 appendix A.2 (RSA), RFC 8410 (Ed25519), RFC 9881 (ML-DSA),
//! RFC 9935 (ML-KEM).

use const_oid::ObjectIdentifier;
use der::asn1::{Any, BitString, UintRef};
use der::{Decode, Encode, Sequence};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use std::fmt;
use std::str::FromStr;

/// Object identifiers used in this room.
pub(crate) mod oid {
    use const_oid::ObjectIdentifier;
    const fn oid(text: &str) -> ObjectIdentifier {
        ObjectIdentifier::new_unwrap(text)
    }
    pub(crate) const EC_PUBLIC_KEY: ObjectIdentifier = oid("1.2.840.10045.2.1");
    pub(crate) const P256: ObjectIdentifier = oid("1.2.840.10045.3.1.7");
    pub(crate) const P384: ObjectIdentifier = oid("1.3.132.0.34");
    pub(crate) const P521: ObjectIdentifier = oid("1.3.132.0.35");
    pub(crate) const ECDSA_SHA256: ObjectIdentifier = oid("1.2.840.10045.4.3.2");
    pub(crate) const ECDSA_SHA384: ObjectIdentifier = oid("1.2.840.10045.4.3.3");
    pub(crate) const ECDSA_SHA512: ObjectIdentifier = oid("1.2.840.10045.4.3.4");
    pub(crate) const RSA: ObjectIdentifier = oid("1.2.840.113549.1.1.1");
    pub(crate) const RSA_SHA256: ObjectIdentifier = oid("1.2.840.113549.1.1.11");
    pub(crate) const RSA_SHA384: ObjectIdentifier = oid("1.2.840.113549.1.1.12");
    pub(crate) const RSA_SHA512: ObjectIdentifier = oid("1.2.840.113549.1.1.13");
    pub(crate) const ED25519: ObjectIdentifier = oid("1.3.101.112");
    pub(crate) const ML_KEM_512: ObjectIdentifier = oid("2.16.840.1.101.3.4.4.1");
    pub(crate) const ML_KEM_768: ObjectIdentifier = oid("2.16.840.1.101.3.4.4.2");
    pub(crate) const ML_KEM_1024: ObjectIdentifier = oid("2.16.840.1.101.3.4.4.3");
    pub(crate) const ML_DSA_44: ObjectIdentifier = oid("2.16.840.1.101.3.4.3.17");
    pub(crate) const ML_DSA_65: ObjectIdentifier = oid("2.16.840.1.101.3.4.3.18");
    pub(crate) const ML_DSA_87: ObjectIdentifier = oid("2.16.840.1.101.3.4.3.19");
}

/// The kind of a key that the token is asked to make, in the words of [`SPECS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeySpec {
    /// ECDSA on NIST P-256.
    EcP256,
    /// ECDSA on NIST P-384.
    EcP384,
    /// ECDSA on NIST P-521.
    EcP521,
    /// RSA of this many modulus bits.
    Rsa {
        /// Size of the modulus.
        modulus_bits: u32,
    },
    /// Ed25519, pure.
    Ed25519,
    /// ML-DSA-44 (FIPS 204), pure, with empty context.
    MlDsa44,
    /// ML-DSA-65.
    MlDsa65,
    /// ML-DSA-87.
    MlDsa87,
}

/// One kind of key.
struct Spec {
    spec: KeySpec,
    /// Its name in the configuration and in the store.
    word: &'static str,
    /// How it signs certificates and CRLs.
    scheme: Scheme,
    /// The identifier of that signature.
    signature: ObjectIdentifier,
}

/// THE table of keys that authorities and servers may have. RSA signs with PKCS#1 v1.5 in certificates, ECDSA with the digest of
/// the size of its curve.
const SPECS: &[Spec] = &[
    spec(KeySpec::EcP256, "ec:P-256", Scheme::EcdsaSha256, oid::ECDSA_SHA256),
    spec(KeySpec::EcP384, "ec:P-384", Scheme::EcdsaSha384, oid::ECDSA_SHA384),
    spec(KeySpec::EcP521, "ec:P-521", Scheme::EcdsaSha512, oid::ECDSA_SHA512),
    spec(KeySpec::Rsa { modulus_bits: 2048 }, "rsa:2048", Scheme::RsaPkcs1Sha256, oid::RSA_SHA256),
    spec(KeySpec::Rsa { modulus_bits: 3072 }, "rsa:3072", Scheme::RsaPkcs1Sha256, oid::RSA_SHA256),
    spec(KeySpec::Rsa { modulus_bits: 4096 }, "rsa:4096", Scheme::RsaPkcs1Sha256, oid::RSA_SHA256),
    spec(KeySpec::Ed25519, "ed25519", Scheme::Ed25519, oid::ED25519),
    spec(KeySpec::MlDsa44, "ml-dsa-44", Scheme::MlDsa, oid::ML_DSA_44),
    spec(KeySpec::MlDsa65, "ml-dsa-65", Scheme::MlDsa, oid::ML_DSA_65),
    spec(KeySpec::MlDsa87, "ml-dsa-87", Scheme::MlDsa, oid::ML_DSA_87),
];

const fn spec(spec: KeySpec, word: &'static str, scheme: Scheme, signature: ObjectIdentifier) -> Spec {
    Spec { spec, word, scheme, signature }
}

impl FromStr for KeySpec {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        SPECS.iter().find(|row| row.word == text).map(|row| row.spec).ok_or_else(|| {
            let words: Vec<_> = SPECS.iter().map(|row| row.word).collect();
            format!("unknown key kind '{text}': use one of {}", words.join(", "))
        })
    }
}

impl fmt::Display for KeySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().map_or("unknown", |row| row.word))
    }
}

impl KeySpec {
    /// Its row; RSA sizes that nobody can ask for have none.
    fn row(self) -> Option<&'static Spec> {
        SPECS.iter().find(|row| row.spec == self)
    }

    /// The scheme this key signs certificates and CRLs with.
    pub(crate) fn certificate_scheme(self) -> Scheme {
        self.row().map_or(Scheme::RsaPkcs1Sha256, |row| row.scheme)
    }

    /// The identifier of [`Self::certificate_scheme`] as it stands in a certificate.
    pub(crate) fn signature_algorithm(self) -> AlgorithmIdentifierOwned {
        let oid = self.row().map_or(oid::RSA_SHA256, |row| row.signature);
        // RFC 8017 appendix A.2.4: parameters NULL. All others: absent.
        let parameters = matches!(self, Self::Rsa { .. }).then(Any::null);
        AlgorithmIdentifierOwned { oid, parameters }
    }

    /// The kind of an existing key: of a certificate whose key is in the token already.
    ///
    /// # Errors
    /// A [`KeyFault`] when no authority may have such a key.
    pub(crate) fn of(spki: &SubjectPublicKeyInfoOwned) -> Result<Self, KeyFault> {
        Ok(match judge_key(spki)? {
            KeyKind::EcP256 => Self::EcP256,
            KeyKind::EcP384 => Self::EcP384,
            KeyKind::EcP521 => Self::EcP521,
            KeyKind::Ed25519 => Self::Ed25519,
            KeyKind::MlDsa(44) => Self::MlDsa44,
            KeyKind::MlDsa(65) => Self::MlDsa65,
            KeyKind::MlDsa(_) => Self::MlDsa87,
            KeyKind::MlKem(_) => return Err(KeyFault::CannotSign),
            KeyKind::Rsa => match rsa_modulus_bits(spki) {
                Some(bits @ (2048 | 3072 | 4096)) => Self::Rsa { modulus_bits: bits },
                _ => return Err(KeyFault::Unsupported("RSA of another size than 2048, 3072 or 4096 bits".to_owned())),
            },
        })
    }
}

/// Size of the modulus of an RSA key.
pub(crate) fn rsa_modulus_bits(spki: &SubjectPublicKeyInfoOwned) -> Option<u32> {
    let key = RsaPublicKey::from_der(spki.subject_public_key.as_bytes()?).ok()?;
    Some(bit_length(key.modulus.as_bytes()))
}

/// How a message becomes a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// ECDSA with SHA-256.
    EcdsaSha256,
    /// ECDSA with SHA-384.
    EcdsaSha384,
    /// ECDSA with SHA-512.
    EcdsaSha512,
    /// Pure Ed25519.
    Ed25519,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RsaPkcs1Sha256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RsaPkcs1Sha384,
    /// RSASSA-PSS with SHA-256, MGF1-SHA-256 and a 32-byte salt.
    RsaPssSha256,
    /// RSASSA-PSS with SHA-384, MGF1-SHA-384 and a 48-byte salt.
    RsaPssSha384,
    /// Pure ML-DSA with empty context.
    MlDsa,
}

fn bare(oid: ObjectIdentifier) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid, parameters: None }
}

/// What a public key is, after it passed [`judge_key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// ECDSA key on P-256.
    EcP256,
    /// ECDSA key on P-384.
    EcP384,
    /// ECDSA key on P-521.
    EcP521,
    /// RSA key.
    Rsa,
    /// Ed25519 key.
    Ed25519,
    /// ML-DSA key of the parameter set 44, 65 or 87.
    MlDsa(u8),
    /// ML-KEM key of the parameter set 512, 768 or 1024. It signs nothing.
    MlKem(u16),
}

/// Why a public key is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyFault {
    /// No rule admits this algorithm.
    #[error(
        "the key algorithm {0} is not supported: use EC P-256, P-384 or P-521, RSA 2048 to 8192, Ed25519 or ML-DSA"
    )]
    Unsupported(String),
    /// The key cannot sign, so that no request can prove its possession.
    #[error(
        "an ML-KEM key cannot sign its own request: let the server make the key (/serverkeygen), or state by the certificate that you show that the key is yours (RFC 9883)"
    )]
    CannotSign,
    /// The key is of a supported kind but too weak.
    #[error("the key is too weak: {0}")]
    Weak(&'static str),
    /// The key does not decode.
    #[error("the public key does not decode: {0}")]
    Malformed(&'static str),
}

#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    public_exponent: UintRef<'a>,
}

/// Builds the SubjectPublicKeyInfo of an RSA key from its big-endian parts.
///
/// # Errors
/// Parts that are not integers.
pub(crate) fn rsa_spki(modulus: &[u8], public_exponent: &[u8]) -> der::Result<SubjectPublicKeyInfoOwned> {
    let key = RsaPublicKey { modulus: UintRef::new(modulus)?, public_exponent: UintRef::new(public_exponent)? };
    Ok(SubjectPublicKeyInfoOwned {
        algorithm: AlgorithmIdentifierOwned { oid: oid::RSA, parameters: Some(Any::null()) },
        subject_public_key: BitString::from_bytes(&key.to_der()?)?,
    })
}

/// Builds the SubjectPublicKeyInfo of an EC key from its uncompressed point.
///
/// # Errors
/// A point too long to encode.
pub(crate) fn ec_spki(curve: ObjectIdentifier, point: &[u8]) -> der::Result<SubjectPublicKeyInfoOwned> {
    Ok(SubjectPublicKeyInfoOwned {
        algorithm: AlgorithmIdentifierOwned { oid: oid::EC_PUBLIC_KEY, parameters: Some(Any::from(curve)) },
        subject_public_key: BitString::from_bytes(point)?,
    })
}

/// Builds the SubjectPublicKeyInfo of a key whose algorithm has no parameters: Ed25519 (RFC 8410) and ML-DSA (RFC 9881).
///
/// # Errors
/// A key too long to encode.
pub(crate) fn bare_spki(algorithm: ObjectIdentifier, key: &[u8]) -> der::Result<SubjectPublicKeyInfoOwned> {
    Ok(SubjectPublicKeyInfoOwned { algorithm: bare(algorithm), subject_public_key: BitString::from_bytes(key)? })
}

/// Judges a public key by kind and strength. Every key that we certify passes here.
///
/// # Errors
/// A [`KeyFault`] naming what is wrong with it.
pub(crate) fn judge_key(spki: &SubjectPublicKeyInfoOwned) -> Result<KeyKind, KeyFault> {
    let bits = spki
        .subject_public_key
        .as_bytes()
        .ok_or(KeyFault::Malformed("the bit string is not a whole number of bytes"))?;
    let sized = |kind, len| if bits.len() == len { Ok(kind) } else { Err(KeyFault::Malformed("wrong length")) };
    let algorithm = &spki.algorithm;
    let parameters_absent = algorithm.parameters.is_none();
    match algorithm.oid {
        oid::EC_PUBLIC_KEY => judge_ec(spki, bits),
        oid::RSA => judge_rsa(bits),
        oid::ED25519 if parameters_absent => sized(KeyKind::Ed25519, 32),
        oid::ML_DSA_44 if parameters_absent => sized(KeyKind::MlDsa(44), 1312),
        oid::ML_DSA_65 if parameters_absent => sized(KeyKind::MlDsa(65), 1952),
        oid::ML_DSA_87 if parameters_absent => sized(KeyKind::MlDsa(87), 2592),
        oid::ML_KEM_512 if parameters_absent => judge_ml_kem(sized(KeyKind::MlKem(512), 800)?, bits),
        oid::ML_KEM_768 if parameters_absent => judge_ml_kem(sized(KeyKind::MlKem(768), 1184)?, bits),
        oid::ML_KEM_1024 if parameters_absent => judge_ml_kem(sized(KeyKind::MlKem(1024), 1568)?, bits),
        oid::ED25519
        | oid::ML_DSA_44
        | oid::ML_DSA_65
        | oid::ML_DSA_87
        | oid::ML_KEM_512
        | oid::ML_KEM_768
        | oid::ML_KEM_1024 => Err(KeyFault::Malformed("algorithm parameters must be absent")),
        other => Err(KeyFault::Unsupported(other.to_string())),
    }
}

/// Every coefficient of an encapsulation key is below the modulus (FIPS 203 section 7.2); the last 32 octets are a seed.
fn judge_ml_kem(kind: KeyKind, bits: &[u8]) -> Result<KeyKind, KeyFault> {
    const MODULUS: u16 = 3329;
    let coefficients = bits.get(..bits.len().saturating_sub(32)).unwrap_or_default();
    let pair = |three: &[u8]| match three {
        [low, middle, high] => {
            let (low, middle, high) = (u16::from(*low), u16::from(*middle), u16::from(*high));
            (low | (middle & 0x0F) << 8) < MODULUS && (middle >> 4 | high << 4) < MODULUS
        }
        _ => false,
    };
    let is_reduced = coefficients.chunks(3).all(pair);
    if is_reduced { Ok(kind) } else { Err(KeyFault::Malformed("a coefficient of the ML-KEM key is not below 3329")) }
}

fn judge_ec(spki: &SubjectPublicKeyInfoOwned, point: &[u8]) -> Result<KeyKind, KeyFault> {
    let curve = spki
        .algorithm
        .parameters
        .as_ref()
        .and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok())
        .ok_or(KeyFault::Unsupported("EC without a named curve".to_owned()))?;
    let (kind, coordinate_bytes) = match curve {
        oid::P256 => (KeyKind::EcP256, 32),
        oid::P384 => (KeyKind::EcP384, 48),
        oid::P521 => (KeyKind::EcP521, 66),
        other => return Err(KeyFault::Unsupported(format!("EC on curve {other}"))),
    };
    if point.len() != 1 + 2 * coordinate_bytes || point.first() != Some(&4) {
        return Err(KeyFault::Malformed("the EC point is not uncompressed or has the wrong length"));
    }
    Ok(kind)
}

fn bit_length(number: &[u8]) -> u32 {
    let leading_zeros = number.first().map_or(0, |byte| byte.leading_zeros());
    u32::try_from(number.len()).unwrap_or(0).saturating_mul(8).saturating_sub(leading_zeros)
}

fn judge_rsa(bits: &[u8]) -> Result<KeyKind, KeyFault> {
    let key = RsaPublicKey::from_der(bits).map_err(|_| KeyFault::Malformed("not an RSAPublicKey"))?;
    let modulus = key.modulus.as_bytes();
    let modulus_bits = bit_length(modulus);
    if !(2048..=8192).contains(&modulus_bits) {
        return Err(KeyFault::Weak("an RSA modulus must have 2048 to 8192 bits"));
    }
    let exponent = key.public_exponent.as_bytes();
    let value = exponent.iter().try_fold(0u64, |sum, byte| sum.checked_mul(256).map(|sum| sum | u64::from(*byte)));
    match value {
        Some(e) if e < 65_537 => return Err(KeyFault::Weak("an RSA public exponent must be at least 65537")),
        Some(e) if e % 2 == 0 => return Err(KeyFault::Weak("an RSA public exponent must be odd")),
        Some(e) if e < 1 << 33 => {}
        _ => return Err(KeyFault::Weak("an RSA public exponent must be below 2^33")),
    }
    let residue = |prime: u32| modulus.iter().fold(0u32, |sum, byte| (sum * 256 + u32::from(*byte)) % prime);
    if SMALL_PRIMES.iter().any(|prime| residue(*prime) == 0) || residue(2) == 0 {
        return Err(KeyFault::Weak("the RSA modulus has a small factor"));
    }
    if SMALL_PRIMES.iter().all(|prime| is_power_of_65537(residue(*prime), *prime)) {
        return Err(KeyFault::Weak("the RSA modulus has the ROCA fingerprint (CVE-2017-15361)"));
    }
    Ok(KeyKind::Rsa)
}

/// Odd primes whose residues betray both a small factor and the ROCA structure: moduli of that generator are powers of
/// 65537 modulo every one of them, which a sound modulus satisfies with a probability below 2^-27.
const SMALL_PRIMES: &[u32] = &[
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

fn is_power_of_65537(residue: u32, prime: u32) -> bool {
    let step = 65_537 % prime;
    let mut power = 1;
    for _ in 0..prime {
        if power == residue {
            return true;
        }
        power = power * step % prime;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encapsulation_key_has_its_length_and_reduced_coefficients() {
        let judged = |algorithm, key: &[u8]| judge_key(&bare_spki(algorithm, key).expect("encodes"));
        for (algorithm, set, length) in
            [(oid::ML_KEM_512, 512, 800), (oid::ML_KEM_768, 768, 1184), (oid::ML_KEM_1024, 1024, 1568)]
        {
            let mut key = vec![0; length];
            assert_eq!(judged(algorithm, &key), Ok(KeyKind::MlKem(set)));
            assert!(judged(algorithm, &key[1..]).is_err());
            // The seed may be anything; 3328 is the largest coefficient, in either place.
            key[length - 1] = 0xFF;
            for (three, good) in
                [([0x00, 0x0D, 0], true), ([0x01, 0x0D, 0], false), ([0, 0, 0xD0], true), ([0, 0x10, 0xD0], false)]
            {
                key[length - 35..length - 32].copy_from_slice(&three);
                assert_eq!(judged(algorithm, &key).is_ok(), good, "{set} {three:?}");
            }
        }
    }

    fn rsa(modulus: Vec<u8>, exponent: &[u8]) -> Result<KeyKind, KeyFault> {
        judge_key(&rsa_spki(&modulus, exponent).expect("integers encode"))
    }

    /// An odd number of `bytes` bytes without a small factor and without the ROCA structure.
    fn modulus(bytes: usize) -> Vec<u8> {
        let mut candidate = vec![0xC5; bytes];
        for last in (1..=255u8).step_by(2) {
            *candidate.last_mut().expect("not empty") = last;
            let residue = |prime: u32| candidate.iter().fold(0u32, |sum, byte| (sum * 256 + u32::from(*byte)) % prime);
            if SMALL_PRIMES.iter().all(|prime| residue(*prime) != 0) {
                return candidate;
            }
        }
        panic!("no candidate");
    }

    #[test]
    fn weak_rsa_keys_are_refused_row_by_row() {
        assert_eq!(rsa(modulus(256), &[1, 0, 1]), Ok(KeyKind::Rsa));
        let rows: &[(Vec<u8>, &[u8])] = &[
            (modulus(128), &[1, 0, 1]),
            (modulus(2048), &[1, 0, 1]),
            (modulus(256), &[1]),
            (modulus(256), &[3]),
            (modulus(256), &[1, 0, 2]),
            (modulus(256), &[1, 0, 0, 0, 0, 0, 0, 0, 1]),
            (vec![0xFF; 256], &[1, 0, 1]),
        ];
        for (modulus, exponent) in rows {
            assert!(matches!(rsa(modulus.clone(), exponent), Err(KeyFault::Weak(_))), "{} {exponent:?}", modulus.len());
        }
    }

    #[test]
    fn powers_of_65537_are_recognised() {
        assert!(is_power_of_65537(65_537 % 11, 11));
        assert!(is_power_of_65537(1, 11));
        assert!(!is_power_of_65537(2, 11), "65537 = 10 modulo 11 generates only 1 and 10");
    }

    #[test]
    fn other_curves_are_refused() {
        let p192 = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.1");
        let spki = ec_spki(p192, &[4; 49]).expect("encodes");
        assert!(matches!(judge_key(&spki), Err(KeyFault::Unsupported(_))));
        let short = ec_spki(oid::P256, &[4; 64]).expect("encodes");
        assert!(matches!(judge_key(&short), Err(KeyFault::Malformed(_))));
    }

    #[test]
    fn post_quantum_keys_are_judged_by_their_identifier_and_length() {
        // HashML-DSA-44, -65, -87 (FIPS 204) never appear in certificates: RFC 9881.
        let hash_ml_dsa = ["2.16.840.1.101.3.4.3.32", "2.16.840.1.101.3.4.3.33", "2.16.840.1.101.3.4.3.34"];
        for hash in hash_ml_dsa {
            let spki = bare_spki(ObjectIdentifier::new_unwrap(hash), &[7; 1312]).expect("encodes");
            assert!(matches!(judge_key(&spki), Err(KeyFault::Unsupported(_))), "{hash}");
        }
        let kem = bare_spki(oid::ML_KEM_768, &[7; 1184]).expect("encodes");
        assert_eq!(judge_key(&kem), Ok(KeyKind::MlKem(768)));
        assert_eq!(KeySpec::of(&kem), Err(KeyFault::CannotSign), "no authority and no server has such a key");
        for (signer, len) in [(oid::ML_DSA_44, 1312), (oid::ML_DSA_65, 1952), (oid::ML_DSA_87, 2592)] {
            assert!(judge_key(&bare_spki(signer, &vec![7; len]).expect("encodes")).is_ok());
            assert!(judge_key(&bare_spki(signer, &vec![7; len + 1]).expect("encodes")).is_err());
            let mut with_null = bare_spki(signer, &vec![7; len]).expect("encodes");
            with_null.algorithm.parameters = Some(Any::null());
            assert!(matches!(judge_key(&with_null), Err(KeyFault::Malformed(_))));
        }
    }

    #[test]
    fn key_spec_is_written_as_it_is_read() {
        for row in SPECS {
            assert_eq!(row.word.parse::<KeySpec>(), Ok(row.spec));
            assert_eq!(row.spec.to_string(), row.word);
            assert_eq!(row.spec.certificate_scheme(), row.scheme);
        }
        assert!("rsa:1024".parse::<KeySpec>().is_err());
    }
}
