//! Parsed asymmetric keys of any algorithm, and their DER: PKCS#8 (RFC 5958) for private keys, SubjectPublicKeyInfo
//! (RFC 5280, section 4.1) for public ones.
//!
//! The PKCS#8 written here is the canonical stored form: RSA with its CRT parts (RFC 8017), EC as a named curve with its
//! public point (RFC 5915), Ed25519 (RFC 8410) and ML-DSA (RFC 9881) as seeds. Reading is strict: no trailing bytes, the
//! parameters that the algorithm's own document asks for, and every redundant part must agree with the rest.

use const_oid::ObjectIdentifier;
use der::asn1::{AnyRef, BitStringRef, OctetStringRef};
use der::{Decode, Encode, Tag, TagNumber};
use pkcs8::PrivateKeyInfoRef;
use sec1::EcPrivateKey;
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::{Error, Result, ecdsa, eddsa, ml_dsa, rsa};
use crate::SecretBytes;

/// rsaEncryption (RFC 8017, appendix C).
const RSA_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// id-ecPublicKey (RFC 5480, section 2.1.1).
const EC_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// A private key; wiped when dropped.
pub(crate) enum PrivateKey {
    /// RSA.
    Rsa(rsa::PrivateKey),
    /// A NIST curve: ECDSA and ECDH.
    Ec(ecdsa::PrivateKey),
    /// Ed25519.
    Edwards(eddsa::PrivateKey),
    /// ML-DSA.
    MlDsa(ml_dsa::PrivateKey),
}

/// A public key.
pub(crate) enum PublicKey {
    /// RSA.
    Rsa(rsa::PublicKey),
    /// A NIST curve: ECDSA and ECDH.
    Ec(ecdsa::PublicKey),
    /// Ed25519.
    Edwards(eddsa::PublicKey),
    /// ML-DSA.
    MlDsa(ml_dsa::PublicKey),
}

fn no_parameters(algorithm: &AlgorithmIdentifierRef<'_>) -> Result<()> {
    if algorithm.parameters.is_none() { Ok(()) } else { Err(Error::InvalidKey) }
}

fn null_parameters(algorithm: &AlgorithmIdentifierRef<'_>) -> Result<()> {
    if algorithm.parameters == Some(AnyRef::NULL) { Ok(()) } else { Err(Error::InvalidKey) }
}

fn curve_parameters(algorithm: &AlgorithmIdentifierRef<'_>) -> Result<ecdsa::Curve> {
    let oid = algorithm.parameters_oid().map_err(|_| Error::UnsupportedCurve)?;
    ecdsa::Curve::from_oid(oid)
}

impl PrivateKey {
    /// Reads a PKCS#8 key; the algorithm is found from its identifier.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if it is malformed, inconsistent or of an algorithm that is not offered,
    /// [`Error::UnsupportedCurve`], [`Error::KeySize`], [`Error::SeedMissing`] for an ML-DSA key without seed.
    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<Self> {
        let info = PrivateKeyInfoRef::from_der(der).map_err(|_| Error::InvalidKey)?;
        let inner = info.private_key.as_bytes();
        let key = match info.algorithm.oid {
            RSA_OID => {
                null_parameters(&info.algorithm)?;
                PrivateKey::Rsa(rsa::PrivateKey::from_pkcs1_der(inner)?)
            }
            EC_OID => PrivateKey::Ec(read_ec(curve_parameters(&info.algorithm)?, inner)?),
            eddsa::OID => {
                no_parameters(&info.algorithm)?;
                let seed = <&OctetStringRef>::from_der(inner).map_err(|_| Error::InvalidKey)?;
                PrivateKey::Edwards(eddsa::PrivateKey::from_seed(seed.as_bytes())?)
            }
            oid => {
                let set = ml_dsa::ParameterSet::from_oid(oid).ok_or(Error::InvalidKey)?;
                no_parameters(&info.algorithm)?;
                PrivateKey::MlDsa(read_ml_dsa(set, inner)?)
            }
        };
        if let Some(given) = info.public_key {
            let own = key.public()?.to_spki()?;
            let own = SubjectPublicKeyInfoRef::from_der(&own).map_err(|_| Error::Internal)?;
            if own.subject_public_key != given {
                return Err(Error::InvalidKey);
            }
        }
        Ok(key)
    }

    /// The PKCS#8 key: the canonical stored form.
    pub(crate) fn to_pkcs8(&self) -> Result<SecretBytes> {
        match self {
            PrivateKey::Rsa(key) => write_pkcs8(RSA_OID, Some(AnyRef::NULL), key.to_pkcs1_der()?.expose()),
            PrivateKey::Ec(key) => {
                let (scalar, point) = (key.scalar()?, key.point()?);
                let inner = EcPrivateKey { private_key: scalar.expose(), parameters: None, public_key: Some(&point) };
                let inner = SecretBytes::new(inner.to_der().map_err(|_| Error::Internal)?);
                let oid = key.curve().oid();
                write_pkcs8(EC_OID, Some(AnyRef::from(&oid)), inner.expose())
            }
            PrivateKey::Edwards(key) => {
                let inner = OctetStringRef::new(key.seed().expose()).map_err(|_| Error::Internal)?;
                let inner = SecretBytes::new(inner.to_der().map_err(|_| Error::Internal)?);
                write_pkcs8(eddsa::OID, None, inner.expose())
            }
            PrivateKey::MlDsa(key) => {
                let mut inner = SecretBytes::zeroed(2 + ml_dsa::SEED_LEN);
                inner.expose_mut()[..2].copy_from_slice(&SEED_HEADER);
                inner.expose_mut()[2..].copy_from_slice(key.seed().expose());
                write_pkcs8(key.set().oid(), None, inner.expose())
            }
        }
    }

    /// The public key.
    pub(crate) fn public(&self) -> Result<PublicKey> {
        Ok(match self {
            PrivateKey::Rsa(key) => PublicKey::Rsa(key.public()?),
            PrivateKey::Ec(key) => PublicKey::Ec(key.public()?),
            PrivateKey::Edwards(key) => PublicKey::Edwards(key.public()?),
            PrivateKey::MlDsa(key) => PublicKey::MlDsa(key.public()?),
        })
    }
}

fn write_pkcs8(oid: ObjectIdentifier, parameters: Option<AnyRef<'_>>, inner: &[u8]) -> Result<SecretBytes> {
    let inner = OctetStringRef::new(inner).map_err(|_| Error::Internal)?;
    let info = PrivateKeyInfoRef::new(AlgorithmIdentifierRef { oid, parameters }, inner);
    Ok(SecretBytes::new(info.to_der().map_err(|_| Error::Internal)?))
}

fn read_ec(curve: ecdsa::Curve, inner: &[u8]) -> Result<ecdsa::PrivateKey> {
    let inner = EcPrivateKey::from_der(inner).map_err(|_| Error::InvalidKey)?;
    if inner.parameters.is_some_and(|parameters| parameters.named_curve() != Some(curve.oid())) {
        return Err(Error::InvalidKey);
    }
    // RFC 5915, section 3: the octet string has the curve's width.
    if inner.private_key.len() != curve.field_len() {
        return Err(Error::InvalidKey);
    }
    ecdsa::PrivateKey::from_scalar(curve, inner.private_key, inner.public_key)
}

/// Tag and length of the seed-only form: [0] IMPLICIT OCTET STRING of 32 bytes (RFC 9881, section 6).
const SEED_HEADER: [u8; 2] = [0x80, 0x20];

fn read_ml_dsa(set: ml_dsa::ParameterSet, inner: &[u8]) -> Result<ml_dsa::PrivateKey> {
    let choice = AnyRef::from_der(inner).map_err(|_| Error::InvalidKey)?;
    let seed_tag = Tag::ContextSpecific { constructed: false, number: TagNumber(0) };
    match der::Tagged::tag(&choice) {
        tag if tag == seed_tag => ml_dsa::PrivateKey::from_seed(set, choice.value()),
        Tag::OctetString => Err(Error::SeedMissing),
        Tag::Sequence => {
            let read = choice.sequence(|reader| -> der::Result<_> {
                Ok((<&OctetStringRef>::decode(reader)?, <&OctetStringRef>::decode(reader)?))
            });
            let (seed, expanded) = read.map_err(|_| Error::InvalidKey)?;
            let key = ml_dsa::PrivateKey::from_seed(set, seed.as_bytes())?;
            let agrees = key.expanded()? == SecretBytes::copy_from(expanded.as_bytes());
            if agrees { Ok(key) } else { Err(Error::InvalidKey) }
        }
        _ => Err(Error::InvalidKey),
    }
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo. RSA keys are taken under [`rsa::ExponentRule::Legacy`]: the caller who wants more
    /// looks at the exponent.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if it is malformed or of an algorithm that is not offered, [`Error::UnsupportedCurve`],
    /// [`Error::KeySize`].
    pub(crate) fn from_spki(der: &[u8]) -> Result<Self> {
        let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| Error::InvalidKey)?;
        let bytes = info.subject_public_key.as_bytes().ok_or(Error::InvalidKey)?;
        Ok(match info.algorithm.oid {
            RSA_OID => {
                null_parameters(&info.algorithm)?;
                PublicKey::Rsa(rsa::PublicKey::from_pkcs1_der(bytes)?)
            }
            EC_OID => PublicKey::Ec(ecdsa::PublicKey::from_point(curve_parameters(&info.algorithm)?, bytes)?),
            eddsa::OID => {
                no_parameters(&info.algorithm)?;
                PublicKey::Edwards(eddsa::PublicKey::from_bytes(bytes)?)
            }
            oid => {
                let set = ml_dsa::ParameterSet::from_oid(oid).ok_or(Error::InvalidKey)?;
                no_parameters(&info.algorithm)?;
                PublicKey::MlDsa(ml_dsa::PublicKey::from_bytes(set, bytes)?)
            }
        })
    }

    /// The SubjectPublicKeyInfo.
    pub(crate) fn to_spki(&self) -> Result<Vec<u8>> {
        match self {
            PublicKey::Rsa(key) => write_spki(RSA_OID, Some(AnyRef::NULL), &key.to_pkcs1_der()?),
            PublicKey::Ec(key) => write_spki(EC_OID, Some(AnyRef::from(&key.curve().oid())), &key.point()?),
            PublicKey::Edwards(key) => write_spki(eddsa::OID, None, key.as_bytes()),
            PublicKey::MlDsa(key) => write_spki(key.set().oid(), None, &key.to_bytes()?),
        }
    }
}

fn write_spki(oid: ObjectIdentifier, parameters: Option<AnyRef<'_>>, bytes: &[u8]) -> Result<Vec<u8>> {
    let subject_public_key = BitStringRef::from_bytes(bytes).map_err(|_| Error::Internal)?;
    let info = SubjectPublicKeyInfoRef { algorithm: AlgorithmIdentifierRef { oid, parameters }, subject_public_key };
    info.to_der().map_err(|_| Error::Internal)
}
