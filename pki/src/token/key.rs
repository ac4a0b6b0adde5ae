//! What a kind of key is to PKCS#11: how it is made, what its halves are read from, and how it signs.

use super::TokenError;
use crate::x509::algorithm::{KeySpec, Scheme, bare_spki, ec_spki, oid, rsa_spki};
use crate::x509::pkcs8;
use cryptoki::mechanism::dsa::{HedgeType, SignAdditionalContext};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, MlDsaParameterSetType, MlKemParameterSetType};
use der::asn1::{OctetStringRef, UintRef};
use der::{Decode, Encode, Sequence};
use sha2::{Digest, Sha256, Sha384, Sha512};
use spki::SubjectPublicKeyInfoOwned;
use zeroize::Zeroizing;

/// A kind of key that is made to be given away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GivenKey {
    /// One that signs.
    Signing(KeySpec),
    /// ML-KEM of the parameter set 512, 768 or 1024.
    Encapsulation(u16),
}

impl std::fmt::Display for GivenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signing(spec) => spec.fmt(f),
            Self::Encapsulation(set) => write!(f, "ml-kem-{set}"),
        }
    }
}

impl GivenKey {
    pub(super) fn generation(self) -> Result<(Mechanism<'static>, Vec<Attribute>), TokenError> {
        let kem = |set: MlKemParameterSetType| {
            let public = vec![Attribute::ParameterSet(set.into()), Attribute::Encapsulate(true)];
            Ok((Mechanism::MlKemKeyPairGen, public))
        };
        match self {
            Self::Signing(spec) => {
                let (mechanism, mut public) = generation(spec)?;
                public.push(Attribute::Verify(true));
                Ok((mechanism, public))
            }
            Self::Encapsulation(512) => kem(MlKemParameterSetType::ML_KEM_512),
            Self::Encapsulation(768) => kem(MlKemParameterSetType::ML_KEM_768),
            Self::Encapsulation(_) => kem(MlKemParameterSetType::ML_KEM_1024),
        }
    }

    /// What makes up its public and its private half.
    pub(super) fn attributes(self) -> (&'static [AttributeType], &'static [AttributeType]) {
        match self {
            Self::Signing(spec) => (public_attributes(spec), private_attributes(spec)),
            Self::Encapsulation(_) => (&[AttributeType::Value], &[AttributeType::Seed]),
        }
    }

    pub(super) fn encode(
        self,
        public: &[Attribute],
        private: Vec<Attribute>,
    ) -> Result<(SubjectPublicKeyInfoOwned, Zeroizing<Vec<u8>>), TokenError> {
        let (spki, key) = match (self, public) {
            (Self::Signing(spec), public) => {
                let spki = spki(spec, public)?;
                let key = pkcs8::of_attributes(spec, &spki, private);
                (spki, key)
            }
            (Self::Encapsulation(set), [Attribute::Value(value)]) => {
                let algorithm = match set {
                    512 => oid::ML_KEM_512,
                    768 => oid::ML_KEM_768,
                    _ => oid::ML_KEM_1024,
                };
                let spki = bare_spki(algorithm, value).map_err(|_| TokenError::Malformed("public key"))?;
                let key = pkcs8::of_seed(&spki, private);
                (spki, key)
            }
            _ => return Err(TokenError::Malformed("public key")),
        };
        Ok((spki, key.ok_or(TokenError::Malformed("private key"))?))
    }
}

/// PrintableString "edwards25519", a curveName of CKA_EC_PARAMS (PKCS#11 v3.0, Current Mechanisms).
const EDWARDS25519: &[u8] = b"\x13\x0cedwards25519";

pub(super) fn generation(spec: KeySpec) -> Result<(Mechanism<'static>, Vec<Attribute>), TokenError> {
    let curve = |curve: const_oid::ObjectIdentifier| {
        curve.to_der().map(Attribute::EcParams).map_err(|_| TokenError::Malformed("curve"))
    };
    let ml_dsa = |set: MlDsaParameterSetType| (Mechanism::MlDsaKeyPairGen, vec![Attribute::ParameterSet(set.into())]);
    Ok(match spec {
        KeySpec::EcP256 => (Mechanism::EccKeyPairGen, vec![curve(oid::P256)?]),
        KeySpec::EcP384 => (Mechanism::EccKeyPairGen, vec![curve(oid::P384)?]),
        KeySpec::EcP521 => (Mechanism::EccKeyPairGen, vec![curve(oid::P521)?]),
        // The name instead of the object identifier: older modules know only this form.
        KeySpec::Ed25519 => (Mechanism::EccEdwardsKeyPairGen, vec![Attribute::EcParams(EDWARDS25519.to_vec())]),
        KeySpec::Rsa { modulus_bits } => (
            Mechanism::RsaPkcsKeyPairGen,
            vec![Attribute::ModulusBits(u64::from(modulus_bits).into()), Attribute::PublicExponent(vec![1, 0, 1])],
        ),
        KeySpec::MlDsa44 => ml_dsa(MlDsaParameterSetType::ML_DSA_44),
        KeySpec::MlDsa65 => ml_dsa(MlDsaParameterSetType::ML_DSA_65),
        KeySpec::MlDsa87 => ml_dsa(MlDsaParameterSetType::ML_DSA_87),
    })
}

/// The attributes that make up a public key.
pub(super) fn public_attributes(spec: KeySpec) -> &'static [AttributeType] {
    match spec {
        KeySpec::EcP256 | KeySpec::EcP384 | KeySpec::EcP521 | KeySpec::Ed25519 => &[AttributeType::EcPoint],
        KeySpec::Rsa { .. } => &[AttributeType::Modulus, AttributeType::PublicExponent],
        KeySpec::MlDsa44 | KeySpec::MlDsa65 | KeySpec::MlDsa87 => &[AttributeType::Value],
    }
}

/// The attributes that make up a private key which is given away.
fn private_attributes(spec: KeySpec) -> &'static [AttributeType] {
    match spec {
        KeySpec::Rsa { .. } => &[
            AttributeType::Modulus,
            AttributeType::PublicExponent,
            AttributeType::PrivateExponent,
            AttributeType::Prime1,
            AttributeType::Prime2,
            AttributeType::Exponent1,
            AttributeType::Exponent2,
            AttributeType::Coefficient,
        ],
        _ => &[AttributeType::Value],
    }
}

/// One row per scheme: the mechanism, and what it is given (a digest for ECDSA, else the message). A guarded key wants the message, and
/// other modules do not all make the digest of ECDSA.
pub(super) fn mechanism(scheme: Scheme, message: &[u8], guarded: bool) -> (Mechanism<'static>, Vec<u8>) {
    let pss = |hash_alg, mgf, salt_bytes: u64| PkcsPssParams { hash_alg, mgf, s_len: salt_bytes.into() };
    match scheme {
        Scheme::EcdsaSha256 if guarded => (Mechanism::EcdsaSha256, message.to_vec()),
        Scheme::EcdsaSha384 if guarded => (Mechanism::EcdsaSha384, message.to_vec()),
        Scheme::EcdsaSha512 if guarded => (Mechanism::EcdsaSha512, message.to_vec()),
        Scheme::EcdsaSha256 => (Mechanism::Ecdsa, Sha256::digest(message).to_vec()),
        Scheme::EcdsaSha384 => (Mechanism::Ecdsa, Sha384::digest(message).to_vec()),
        Scheme::EcdsaSha512 => (Mechanism::Ecdsa, Sha512::digest(message).to_vec()),
        Scheme::Ed25519 => (Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519)), message.to_vec()),
        Scheme::RsaPkcs1Sha256 => (Mechanism::Sha256RsaPkcs, message.to_vec()),
        Scheme::RsaPkcs1Sha384 => (Mechanism::Sha384RsaPkcs, message.to_vec()),
        Scheme::RsaPssSha256 => {
            (Mechanism::Sha256RsaPkcsPss(pss(MechanismType::SHA256, PkcsMgfType::MGF1_SHA256, 32)), message.to_vec())
        }
        Scheme::RsaPssSha384 => {
            (Mechanism::Sha384RsaPkcsPss(pss(MechanismType::SHA384, PkcsMgfType::MGF1_SHA384, 48)), message.to_vec())
        }
        Scheme::MlDsa => (Mechanism::MlDsa(SignAdditionalContext::new(HedgeType::Preferred, None)), message.to_vec()),
    }
}

pub(super) fn spki(spec: KeySpec, values: &[Attribute]) -> Result<SubjectPublicKeyInfoOwned, TokenError> {
    let malformed = TokenError::Malformed("public key");
    let built = match (spec, values) {
        (KeySpec::EcP256, [Attribute::EcPoint(point)]) => ec_spki(oid::P256, bare_point(point)),
        (KeySpec::EcP384, [Attribute::EcPoint(point)]) => ec_spki(oid::P384, bare_point(point)),
        (KeySpec::EcP521, [Attribute::EcPoint(point)]) => ec_spki(oid::P521, bare_point(point)),
        (KeySpec::Ed25519, [Attribute::EcPoint(point)]) => bare_spki(oid::ED25519, bare_point(point)),
        (KeySpec::Rsa { .. }, [Attribute::Modulus(n), Attribute::PublicExponent(e)]) => rsa_spki(n, e),
        (KeySpec::MlDsa44, [Attribute::Value(key)]) => bare_spki(oid::ML_DSA_44, key),
        (KeySpec::MlDsa65, [Attribute::Value(key)]) => bare_spki(oid::ML_DSA_65, key),
        (KeySpec::MlDsa87, [Attribute::Value(key)]) => bare_spki(oid::ML_DSA_87, key),
        _ => return Err(malformed),
    };
    built.map_err(|_| malformed)
}

/// CKA_EC_POINT is the DER of an OCTET STRING around the point; some tokens give the point itself.
fn bare_point(value: &[u8]) -> &[u8] {
    <&OctetStringRef>::from_der(value).map_or(value, |inner| inner.as_bytes())
}

#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// The halves r and s of a PKCS#11 signature as the DER that X.509 and TLS use.
pub(super) fn ecdsa_der(raw: &[u8]) -> Result<Vec<u8>, TokenError> {
    let malformed = |_| TokenError::Malformed("ECDSA signature");
    if raw.is_empty() || !raw.len().is_multiple_of(2) {
        return Err(TokenError::Malformed("ECDSA signature"));
    }
    let (r, s) = raw.split_at(raw.len() / 2);
    EcdsaSignature { r: UintRef::new(r).map_err(malformed)?, s: UintRef::new(s).map_err(malformed)? }
        .to_der()
        .map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ecdsa_halves_become_der_integers() {
        let mut raw = vec![0u8; 64];
        raw[31] = 1;
        raw[32] = 0x80;
        let der = ecdsa_der(&raw).expect("converts");
        assert_eq!(der[..5], [0x30, 38, 2, 1, 1], "{der:?}");
        assert_eq!(der[5..9], [2, 33, 0, 0x80]);
        assert!(ecdsa_der(&[1, 2, 3]).is_err());
        assert!(ecdsa_der(&[]).is_err());
    }

    #[test]
    fn a_point_is_taken_with_and_without_its_wrapping() {
        let point = [4u8; 65];
        let wrapped = [&[0x04, 65][..], &point].concat();
        assert_eq!(bare_point(&wrapped), point);
        assert_eq!(bare_point(&point), point);
    }
}
