//! The second opinion: verification of signatures with another implementation (`ring`, `p521`, `ml-dsa`) than the one that signs.
//!
//! Used for the proof of possession in a request and for every signature the token made, before it leaves the house.

use super::algorithm::{KeyKind, judge_key, oid};
use const_oid::ObjectIdentifier;
use ml_dsa::signature::Verifier;
use ml_dsa::{MlDsa44, MlDsa65, MlDsa87, MlDsaParams};
use p521::ecdsa::signature::hazmat::PrehashVerifier;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use sha2::{Digest, Sha256, Sha384, Sha512};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

/// Why a signature was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VerifyFault {
    /// No row of the table knows this algorithm together with this key.
    #[error("the signature algorithm {0} is not supported with this key")]
    Unsupported(String),
    /// The signature is false.
    #[error("the signature does not verify")]
    False,
}

/// One row: signature algorithm, kind of key, verifier.
type Row = (ObjectIdentifier, KeyKind, &'static dyn VerificationAlgorithm);

const ROWS: &[Row] = &[
    (oid::ECDSA_SHA256, KeyKind::EcP256, &signature::ECDSA_P256_SHA256_ASN1),
    (oid::ECDSA_SHA384, KeyKind::EcP256, &signature::ECDSA_P256_SHA384_ASN1),
    (oid::ECDSA_SHA256, KeyKind::EcP384, &signature::ECDSA_P384_SHA256_ASN1),
    (oid::ECDSA_SHA384, KeyKind::EcP384, &signature::ECDSA_P384_SHA384_ASN1),
    (oid::RSA_SHA256, KeyKind::Rsa, &signature::RSA_PKCS1_2048_8192_SHA256),
    (oid::RSA_SHA384, KeyKind::Rsa, &signature::RSA_PKCS1_2048_8192_SHA384),
    (oid::RSA_SHA512, KeyKind::Rsa, &signature::RSA_PKCS1_2048_8192_SHA512),
    (oid::ED25519, KeyKind::Ed25519, &signature::ED25519),
];

/// Verifies `signature` over `message` with a public key.
///
/// # Errors
/// [`VerifyFault::Unsupported`] for an algorithm without a row, [`VerifyFault::False`] for a false signature.
pub(crate) fn verify(
    spki: &SubjectPublicKeyInfoOwned,
    algorithm: &AlgorithmIdentifierOwned,
    message: &[u8],
    signature: &[u8],
) -> Result<(), VerifyFault> {
    let unsupported = || VerifyFault::Unsupported(algorithm.oid.to_string());
    let kind = judge_key(spki).map_err(|_| unsupported())?;
    let key = spki.subject_public_key.as_bytes().ok_or_else(unsupported)?;
    match (kind, algorithm.oid) {
        (KeyKind::EcP521, oid::ECDSA_SHA256) => verify_p521(key, &Sha256::digest(message), signature),
        (KeyKind::EcP521, oid::ECDSA_SHA384) => verify_p521(key, &Sha384::digest(message), signature),
        (KeyKind::EcP521, oid::ECDSA_SHA512) => verify_p521(key, &Sha512::digest(message), signature),
        (KeyKind::MlDsa(44), oid::ML_DSA_44) => verify_ml_dsa::<MlDsa44>(key, message, signature),
        (KeyKind::MlDsa(65), oid::ML_DSA_65) => verify_ml_dsa::<MlDsa65>(key, message, signature),
        (KeyKind::MlDsa(87), oid::ML_DSA_87) => verify_ml_dsa::<MlDsa87>(key, message, signature),
        (kind, wanted) => {
            let row = ROWS.iter().find(|row| row.0 == wanted && row.1 == kind).ok_or_else(unsupported)?;
            UnparsedPublicKey::new(row.2, key).verify(message, signature).map_err(|_| VerifyFault::False)
        }
    }
}

fn verify_ml_dsa<P: MlDsaParams>(key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), VerifyFault> {
    let key = ml_dsa::EncodedVerifyingKey::<P>::try_from(key).map_err(|_| VerifyFault::False)?;
    let signature = ml_dsa::Signature::<P>::try_from(signature).map_err(|_| VerifyFault::False)?;
    ml_dsa::VerifyingKey::<P>::decode(&key).verify(message, &signature).map_err(|_| VerifyFault::False)
}

/// Bytes of a coordinate of P-521.
const P521_LEN: usize = 66;

fn verify_p521(key: &[u8], digest: &[u8], signature: &[u8]) -> Result<(), VerifyFault> {
    let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(key).map_err(|_| VerifyFault::False)?;
    let signature = p521::ecdsa::DerSignature::try_from(signature).map_err(|_| VerifyFault::False)?;
    let signature = p521::ecdsa::Signature::try_from(signature).map_err(|_| VerifyFault::False)?;
    // The same number, as long as the library wants it: every digest here is shorter than the order of the curve.
    let padded = [&vec![0; P521_LEN.saturating_sub(digest.len())], digest].concat();
    key.verify_prehash(&padded, &signature).map_err(|_| VerifyFault::False)
}
