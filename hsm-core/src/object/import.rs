//! Key material at the border between attributes and the crypto room: C_CreateObject's components become material, material becomes
//! attributes again for those who may read it, and a public key becomes the attributes of its kind.
//!
//! Encodings: CKA_EC_POINT is a DER OCTET STRING around the point (PKCS#11 v3.0 §6.3.3); for Edwards curves both that form and the
//! bare 32 bytes are taken, and the DER form is answered.

use ck::attribute::*;
use ck::object::*;
use ck::{Attribute, KeyType};
use der::asn1::OctetStringRef;
use der::{Decode, Encode};
use zeroize::Zeroizing;

use super::schema::HMAC_KEY_TYPES;
use super::{Attributes, Material, Object, Value};
use crate::crypto::{self, Curve, PrivateKey, PublicKey, des3, ecdsa, eddsa, ml_dsa, ml_kem, rsa, slh_dsa, x25519};
use crate::error::{Error, Kind, Result};
use crate::secret::SecretBytes;

impl From<crypto::Error> for Error {
    fn from(error: crypto::Error) -> Self {
        let kind = match error {
            crypto::Error::InvalidKey => Kind::AttributeValue,
            crypto::Error::UnsupportedCurve => Kind::CurveNotSupported,
            crypto::Error::MalformedCurve => Kind::DomainParams,
            crypto::Error::UnsupportedParameterSet => Kind::ParameterSetNotSupported,
            crypto::Error::InvalidParameter => Kind::MechanismParam,
            crypto::Error::DataLength => Kind::DataLength,
            crypto::Error::EncryptedDataInvalid => Kind::EncryptedDataInvalid,
            crypto::Error::EncryptedDataLength => Kind::EncryptedDataLength,
            crypto::Error::AuthenticationFailed => Kind::AeadFailed,
            crypto::Error::SignatureInvalid => Kind::SignatureInvalid,
            crypto::Error::SignatureLength => Kind::SignatureLength,
            crypto::Error::WrappedKeyInvalid => Kind::WrappedKeyInvalid,
            crypto::Error::KeySize => Kind::KeySize,
            crypto::Error::Internal => Kind::Internal,
        };
        Error::new(kind, error.to_string())
    }
}

/// The parameter set that CKA_PARAMETER_SET names on an ML-DSA key.
///
/// # Errors
/// [`Kind::ParameterSetNotSupported`].
pub(crate) fn ml_dsa_set(number: Option<u64>) -> Result<ml_dsa::ParameterSet> {
    match number.map(ParameterSet) {
        Some(CKP_ML_DSA_44) => Ok(ml_dsa::ParameterSet::MlDsa44),
        Some(CKP_ML_DSA_65) => Ok(ml_dsa::ParameterSet::MlDsa65),
        Some(CKP_ML_DSA_87) => Ok(ml_dsa::ParameterSet::MlDsa87),
        _ => Err(Error::new(Kind::ParameterSetNotSupported, "CKA_PARAMETER_SET names no ML-DSA parameter set")),
    }
}

fn ml_dsa_number(set: ml_dsa::ParameterSet) -> u64 {
    match set {
        ml_dsa::ParameterSet::MlDsa44 => CKP_ML_DSA_44.0,
        ml_dsa::ParameterSet::MlDsa65 => CKP_ML_DSA_65.0,
        ml_dsa::ParameterSet::MlDsa87 => CKP_ML_DSA_87.0,
    }
}

/// The parameter set that CKA_PARAMETER_SET names on an ML-KEM key.
///
/// # Errors
/// [`Kind::ParameterSetNotSupported`].
pub(crate) fn ml_kem_set(number: Option<u64>) -> Result<ml_kem::ParameterSet> {
    match number.map(ParameterSet) {
        Some(CKP_ML_KEM_512) => Ok(ml_kem::ParameterSet::MlKem512),
        Some(CKP_ML_KEM_768) => Ok(ml_kem::ParameterSet::MlKem768),
        Some(CKP_ML_KEM_1024) => Ok(ml_kem::ParameterSet::MlKem1024),
        _ => Err(Error::new(Kind::ParameterSetNotSupported, "CKA_PARAMETER_SET names no ML-KEM parameter set")),
    }
}

fn ml_kem_number(set: ml_kem::ParameterSet) -> u64 {
    match set {
        ml_kem::ParameterSet::MlKem512 => CKP_ML_KEM_512.0,
        ml_kem::ParameterSet::MlKem768 => CKP_ML_KEM_768.0,
        ml_kem::ParameterSet::MlKem1024 => CKP_ML_KEM_1024.0,
    }
}

/// The SLH-DSA parameter sets by their numbers.
const SLH_DSA_SETS: [(ParameterSet, slh_dsa::ParameterSet); 12] = [
    (CKP_SLH_DSA_SHA2_128S, slh_dsa::ParameterSet::Sha2_128s),
    (CKP_SLH_DSA_SHAKE_128S, slh_dsa::ParameterSet::Shake128s),
    (CKP_SLH_DSA_SHA2_128F, slh_dsa::ParameterSet::Sha2_128f),
    (CKP_SLH_DSA_SHAKE_128F, slh_dsa::ParameterSet::Shake128f),
    (CKP_SLH_DSA_SHA2_192S, slh_dsa::ParameterSet::Sha2_192s),
    (CKP_SLH_DSA_SHAKE_192S, slh_dsa::ParameterSet::Shake192s),
    (CKP_SLH_DSA_SHA2_192F, slh_dsa::ParameterSet::Sha2_192f),
    (CKP_SLH_DSA_SHAKE_192F, slh_dsa::ParameterSet::Shake192f),
    (CKP_SLH_DSA_SHA2_256S, slh_dsa::ParameterSet::Sha2_256s),
    (CKP_SLH_DSA_SHAKE_256S, slh_dsa::ParameterSet::Shake256s),
    (CKP_SLH_DSA_SHA2_256F, slh_dsa::ParameterSet::Sha2_256f),
    (CKP_SLH_DSA_SHAKE_256F, slh_dsa::ParameterSet::Shake256f),
];

/// The parameter set that CKA_PARAMETER_SET names on an SLH-DSA key.
///
/// # Errors
/// [`Kind::ParameterSetNotSupported`].
pub(crate) fn slh_dsa_set(number: Option<u64>) -> Result<slh_dsa::ParameterSet> {
    let row = SLH_DSA_SETS.iter().find(|(known, _)| Some(known.0) == number);
    let refused = || Error::new(Kind::ParameterSetNotSupported, "CKA_PARAMETER_SET names no SLH-DSA parameter set");
    row.map(|(_, set)| *set).ok_or_else(refused)
}

fn slh_dsa_number(set: slh_dsa::ParameterSet) -> u64 {
    SLH_DSA_SETS.iter().find(|(_, known)| *known == set).expect("every set has a number: a test walks them").0.0
}

/// The point inside a CKA_EC_POINT: a DER OCTET STRING around it, or the bare bytes. The length decides first, because the first
/// byte of an uncompressed point is also the tag of an OCTET STRING.
pub(crate) fn point(value: &[u8], bare_len: usize) -> &[u8] {
    if value.len() == bare_len {
        return value;
    }
    <&OctetStringRef>::from_der(value).map_or(value, |inner| inner.as_bytes())
}

fn wrapped_point(point: &[u8]) -> Result<Vec<u8>> {
    let string = OctetStringRef::new(point).map_err(|_| Kind::Internal)?;
    string.to_der().map_err(|_| Kind::Internal.into())
}

/// Takes the secret attributes of a C_CreateObject template out of `attributes` and makes the material of them; completes the public
/// ones. Public keys are validated too.
///
/// # Errors
/// [`Kind::AttributeValue`], [`Kind::CurveNotSupported`], [`Kind::KeySize`] and the like: the components are no key.
pub(crate) fn material(attributes: &mut Attributes, key_rules: KeyRules) -> Result<Option<Material>> {
    match (attributes.class(), attributes.key_type()) {
        (CKO_SECRET_KEY, Some(kind)) => secret_material(attributes, kind).map(Some),
        (CKO_PRIVATE_KEY, Some(kind)) => {
            let key = match kind {
                CKK_RSA => PrivateKey::Rsa(rsa_private(attributes, key_rules)?),
                CKK_EC => PrivateKey::Ec(ec_private(attributes)?),
                CKK_EC_EDWARDS => PrivateKey::Edwards(edwards_private(attributes)?),
                CKK_EC_MONTGOMERY => PrivateKey::Montgomery(montgomery_private(attributes)?),
                CKK_ML_DSA => PrivateKey::MlDsa(ml_dsa_private(attributes)?),
                CKK_ML_KEM => PrivateKey::MlKem(ml_kem_private(attributes)?),
                CKK_SLH_DSA => PrivateKey::SlhDsa(slh_dsa_private(attributes)?),
                _ => return Err(Kind::AttributeValue.into()),
            };
            describe_private(attributes, &key)?;
            Ok(Some(stored(&key)?))
        }
        (CKO_PUBLIC_KEY, Some(kind)) => {
            let key = public_from(attributes, kind, key_rules)?;
            describe_public(attributes, &key)?;
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// Which RSA keys may come in.
#[derive(Clone, Copy)]
pub(crate) struct KeyRules {
    /// Whether RSA keys under 2048 bits may come in.
    pub(crate) allow_weak_rsa: bool,
    /// Whether RSA private keys with a public exponent under 65537 may come in.
    pub(crate) allow_small_exponent: bool,
}

impl KeyRules {
    /// Whether a private key may have this public exponent.
    ///
    /// # Errors
    /// [`Kind::AttributeValue`] naming the switch.
    pub(crate) fn check_exponent(self, exponent: &[u8]) -> Result<()> {
        let rule = if self.allow_small_exponent { rsa::ExponentRule::Legacy } else { rsa::ExponentRule::Modern };
        let refused =
            |_| Error::closed(Kind::AttributeValue, "policy.allow_legacy_rsa", "the public exponent is too small");
        rsa::check_exponent(exponent, rule).map_err(refused)
    }
}

/// The canonical stored form of a private key.
///
/// # Errors
/// [`Kind::Internal`] when the library cannot write it.
pub(crate) fn stored(key: &PrivateKey) -> Result<Material> {
    let pkcs8 = key.to_pkcs8()?;
    Ok(Zeroizing::new(pkcs8.expose().to_vec()))
}

fn take_secret(attributes: &mut Attributes, kind: Attribute) -> SecretBytes {
    match attributes.take(kind) {
        Some(Value::Bytes(bytes)) => SecretBytes::copy_from(&bytes),
        _ => SecretBytes::new(Vec::new()),
    }
}

fn secret_material(attributes: &mut Attributes, kind: KeyType) -> Result<Material> {
    let value = take_secret(attributes, CKA_VALUE);
    check_secret_len(kind, value.len())?;
    attributes.put(CKA_VALUE_LEN, Value::Ulong(value.len() as u64));
    Ok(Zeroizing::new(value.expose().to_vec()))
}

/// Whether a secret key of this type may have this many bytes.
///
/// # Errors
/// [`Kind::AttributeValue`] naming the lengths that are allowed.
pub(crate) fn check_secret_len(kind: KeyType, len: usize) -> Result<()> {
    let fits = match kind {
        CKK_AES => matches!(len, 16 | 24 | 32),
        CKK_AES_XTS => matches!(len, 32 | 64),
        CKK_DES3 => len == des3::KEY_LEN,
        CKK_GENERIC_SECRET | CKK_HKDF => (1..=512).contains(&len),
        other if HMAC_KEY_TYPES.contains(&other) => (1..=512).contains(&len),
        _ => false,
    };
    let what = || Error::new(Kind::AttributeValue, format!("a key of type {kind} cannot have {len} bytes"));
    if fits { Ok(()) } else { Err(what()) }
}

fn rsa_private(attributes: &mut Attributes, rules: KeyRules) -> Result<rsa::PrivateKey> {
    let parts = rsa::Components {
        n: attributes.bytes(CKA_MODULUS).to_vec(),
        e: attributes.bytes(CKA_PUBLIC_EXPONENT).to_vec(),
        d: take_secret(attributes, CKA_PRIVATE_EXPONENT),
        p: take_secret(attributes, CKA_PRIME_1),
        q: take_secret(attributes, CKA_PRIME_2),
        dp: take_secret(attributes, CKA_EXPONENT_1),
        dq: take_secret(attributes, CKA_EXPONENT_2),
        qinv: take_secret(attributes, CKA_COEFFICIENT),
    };
    if parts.e.is_empty() {
        return Err(Error::new(Kind::TemplateIncomplete, "CKA_PUBLIC_EXPONENT is missing"));
    }
    rules.check_exponent(&parts.e)?;
    let bits = significant_bits(&parts.n);
    if bits < 2048 && !rules.allow_weak_rsa {
        let what = format!("an RSA key of {bits} bits is too weak");
        return Err(Error::closed(Kind::AttributeValue, "algorithms.allow_weak_rsa", what));
    }
    Ok(rsa::PrivateKey::from_components(&parts)?)
}

fn ec_private(attributes: &mut Attributes) -> Result<ecdsa::PrivateKey> {
    let curve = Curve::from_params(attributes.bytes(CKA_EC_PARAMS))?;
    let scalar = take_secret(attributes, CKA_VALUE);
    let given = attributes.bytes(CKA_EC_POINT);
    let given = (!given.is_empty()).then(|| point(given, curve.point_len()));
    Ok(ecdsa::PrivateKey::from_scalar(curve, scalar.expose(), given)?)
}

fn edwards_private(attributes: &mut Attributes) -> Result<eddsa::PrivateKey> {
    eddsa::check_params(attributes.bytes(CKA_EC_PARAMS))?;
    let value = take_secret(attributes, CKA_VALUE);
    let key = eddsa::PrivateKey::from_seed(point(value.expose(), eddsa::SEED_LEN))?;
    let given = point(attributes.bytes(CKA_EC_POINT), eddsa::PUBLIC_LEN);
    if !given.is_empty() && given != key.public()?.as_bytes() {
        return Err(Error::new(Kind::AttributeValue, "CKA_EC_POINT is not the public half of CKA_VALUE"));
    }
    Ok(key)
}

fn montgomery_private(attributes: &mut Attributes) -> Result<x25519::PrivateKey> {
    x25519::check_params(attributes.bytes(CKA_EC_PARAMS))?;
    let value = take_secret(attributes, CKA_VALUE);
    let key = x25519::PrivateKey::from_scalar(point(value.expose(), x25519::SCALAR_LEN))?;
    let given = point(attributes.bytes(CKA_EC_POINT), x25519::PUBLIC_LEN);
    if !given.is_empty() && given != key.public().as_bytes() {
        return Err(Error::new(Kind::AttributeValue, "CKA_EC_POINT is not the public half of CKA_VALUE"));
    }
    Ok(key)
}

/// CKA_SEED and CKA_VALUE of a post-quantum key: one of them, or both (PKCS#11 3.2, private key objects of ML-DSA and ML-KEM).
fn seed_and_expanded(attributes: &mut Attributes) -> Result<(SecretBytes, SecretBytes)> {
    let (seed, expanded) = (take_secret(attributes, CKA_SEED), take_secret(attributes, CKA_VALUE));
    if seed.is_empty() && expanded.is_empty() {
        return Err(Error::new(Kind::TemplateIncomplete, "neither CKA_SEED nor CKA_VALUE is there"));
    }
    Ok((seed, expanded))
}

fn check_expansion(given: &SecretBytes, computed: &SecretBytes) -> Result<()> {
    if given.is_empty() || given == computed {
        return Ok(());
    }
    Err(Error::new(Kind::AttributeValue, "CKA_VALUE is not the expansion of CKA_SEED"))
}

fn ml_dsa_private(attributes: &mut Attributes) -> Result<ml_dsa::PrivateKey> {
    let set = ml_dsa_set(attributes.number(CKA_PARAMETER_SET))?;
    let (seed, expanded) = seed_and_expanded(attributes)?;
    if seed.is_empty() {
        return Ok(ml_dsa::PrivateKey::from_expanded(set, expanded.expose())?);
    }
    let key = ml_dsa::PrivateKey::from_seed(set, seed.expose())?;
    check_expansion(&expanded, &key.expanded()?)?;
    Ok(key)
}

fn ml_kem_private(attributes: &mut Attributes) -> Result<ml_kem::PrivateKey> {
    let set = ml_kem_set(attributes.number(CKA_PARAMETER_SET))?;
    let (seed, expanded) = seed_and_expanded(attributes)?;
    if seed.is_empty() {
        return Ok(ml_kem::PrivateKey::from_expanded(set, expanded.expose())?);
    }
    let key = ml_kem::PrivateKey::from_seed(set, seed.expose())?;
    check_expansion(&expanded, &key.expanded()?)?;
    Ok(key)
}

fn slh_dsa_private(attributes: &mut Attributes) -> Result<slh_dsa::PrivateKey> {
    let set = slh_dsa_set(attributes.number(CKA_PARAMETER_SET))?;
    let key = slh_dsa::PrivateKey::from_bytes(set, take_secret(attributes, CKA_VALUE).expose())?;
    key.check()?;
    Ok(key)
}

fn public_from(attributes: &Attributes, kind: KeyType, rules: KeyRules) -> Result<PublicKey> {
    let key = match kind {
        CKK_RSA => {
            let modulus = attributes.bytes(CKA_MODULUS);
            if significant_bits(modulus) < 2048 && !rules.allow_weak_rsa {
                let what = "an RSA key under 2048 bits is too weak";
                return Err(Error::closed(Kind::AttributeValue, "algorithms.allow_weak_rsa", what));
            }
            let exponent = attributes.bytes(CKA_PUBLIC_EXPONENT);
            PublicKey::Rsa(rsa::PublicKey::from_components(modulus, exponent, rsa::ExponentRule::Legacy)?)
        }
        CKK_EC => {
            let curve = Curve::from_params(attributes.bytes(CKA_EC_PARAMS))?;
            PublicKey::Ec(ecdsa::PublicKey::from_point(
                curve,
                point(attributes.bytes(CKA_EC_POINT), curve.point_len()),
            )?)
        }
        CKK_EC_EDWARDS => {
            eddsa::check_params(attributes.bytes(CKA_EC_PARAMS))?;
            PublicKey::Edwards(eddsa::PublicKey::from_bytes(point(attributes.bytes(CKA_EC_POINT), eddsa::PUBLIC_LEN))?)
        }
        CKK_EC_MONTGOMERY => {
            x25519::check_params(attributes.bytes(CKA_EC_PARAMS))?;
            let bytes = point(attributes.bytes(CKA_EC_POINT), x25519::PUBLIC_LEN);
            PublicKey::Montgomery(x25519::PublicKey::from_bytes(bytes)?)
        }
        CKK_ML_DSA => {
            let set = ml_dsa_set(attributes.number(CKA_PARAMETER_SET))?;
            PublicKey::MlDsa(ml_dsa::PublicKey::from_bytes(set, attributes.bytes(CKA_VALUE))?)
        }
        CKK_SLH_DSA => {
            let set = slh_dsa_set(attributes.number(CKA_PARAMETER_SET))?;
            PublicKey::SlhDsa(slh_dsa::PublicKey::from_bytes(set, attributes.bytes(CKA_VALUE))?)
        }
        CKK_ML_KEM => {
            let set = ml_kem_set(attributes.number(CKA_PARAMETER_SET))?;
            PublicKey::MlKem(ml_kem::PublicKey::from_bytes(set, attributes.bytes(CKA_VALUE))?)
        }
        _ => return Err(Kind::AttributeValue.into()),
    };
    Ok(key)
}

/// Writes a public key's own attributes: modulus and exponent, curve and point, parameter set and value.
///
/// # Errors
/// [`Kind::Internal`] when the library cannot write the key.
pub(crate) fn describe_public(attributes: &mut Attributes, key: &PublicKey) -> Result<()> {
    match key {
        PublicKey::Rsa(key) => {
            attributes.put(CKA_MODULUS, Value::bytes(key.modulus()?));
            attributes.put(CKA_MODULUS_BITS, Value::Ulong(u64::from(key.modulus_bits())));
            attributes.put(CKA_PUBLIC_EXPONENT, Value::bytes(key.exponent()?));
        }
        PublicKey::Ec(key) => {
            attributes.put(CKA_EC_PARAMS, Value::bytes(key.curve().params_der()));
            attributes.put(CKA_EC_POINT, Value::bytes(wrapped_point(&key.point()?)?));
        }
        PublicKey::Edwards(key) => {
            attributes.put(CKA_EC_PARAMS, Value::bytes(eddsa::PARAMS_DER));
            attributes.put(CKA_EC_POINT, Value::bytes(wrapped_point(key.as_bytes())?));
        }
        PublicKey::Montgomery(key) => {
            attributes.put(CKA_EC_PARAMS, Value::bytes(x25519::PARAMS_DER));
            attributes.put(CKA_EC_POINT, Value::bytes(wrapped_point(key.as_bytes())?));
        }
        PublicKey::MlDsa(key) => {
            attributes.put(CKA_PARAMETER_SET, Value::Ulong(ml_dsa_number(key.set())));
            attributes.put(CKA_VALUE, Value::bytes(key.to_bytes()?));
        }
        PublicKey::SlhDsa(key) => {
            attributes.put(CKA_PARAMETER_SET, Value::Ulong(slh_dsa_number(key.set())));
            attributes.put(CKA_VALUE, Value::bytes(key.as_bytes()));
        }
        PublicKey::MlKem(key) => {
            attributes.put(CKA_PARAMETER_SET, Value::Ulong(ml_kem_number(key.set())));
            attributes.put(CKA_VALUE, Value::bytes(key.to_bytes()?));
        }
    }
    attributes.put(CKA_PUBLIC_KEY_INFO, Value::bytes(key.to_spki()?));
    Ok(())
}

/// Writes what a private key shows of its public half.
///
/// # Errors
/// [`Kind::Internal`] when the library cannot write the key.
pub(crate) fn describe_private(attributes: &mut Attributes, key: &PrivateKey) -> Result<()> {
    let public = key.public()?;
    match (&public, key) {
        (PublicKey::Rsa(public), _) => {
            attributes.put(CKA_MODULUS, Value::bytes(public.modulus()?));
            attributes.put(CKA_PUBLIC_EXPONENT, Value::bytes(public.exponent()?));
        }
        (PublicKey::Ec(public), _) => {
            attributes.put(CKA_EC_PARAMS, Value::bytes(public.curve().params_der()));
            attributes.put(CKA_EC_POINT, Value::bytes(wrapped_point(&public.point()?)?));
        }
        (PublicKey::Edwards(public), _) => {
            attributes.put(CKA_EC_PARAMS, Value::bytes(eddsa::PARAMS_DER));
            attributes.put(CKA_EC_POINT, Value::bytes(wrapped_point(public.as_bytes())?));
        }
        (PublicKey::Montgomery(public), _) => {
            attributes.put(CKA_EC_PARAMS, Value::bytes(x25519::PARAMS_DER));
            attributes.put(CKA_EC_POINT, Value::bytes(wrapped_point(public.as_bytes())?));
        }
        (PublicKey::MlDsa(public), _) => {
            attributes.put(CKA_PARAMETER_SET, Value::Ulong(ml_dsa_number(public.set())));
        }
        (PublicKey::SlhDsa(public), _) => {
            attributes.put(CKA_PARAMETER_SET, Value::Ulong(slh_dsa_number(public.set())));
        }
        (PublicKey::MlKem(public), _) => {
            attributes.put(CKA_PARAMETER_SET, Value::Ulong(ml_kem_number(public.set())));
        }
    }
    attributes.put(CKA_PUBLIC_KEY_INFO, Value::bytes(public.to_spki()?));
    Ok(())
}

/// The key type of a private key.
pub(crate) fn key_type_of(key: &PrivateKey) -> KeyType {
    match key {
        PrivateKey::Rsa(_) => CKK_RSA,
        PrivateKey::Ec(_) => CKK_EC,
        PrivateKey::Edwards(_) => CKK_EC_EDWARDS,
        PrivateKey::Montgomery(_) => CKK_EC_MONTGOMERY,
        PrivateKey::MlDsa(_) => CKK_ML_DSA,
        PrivateKey::MlKem(_) => CKK_ML_KEM,
        PrivateKey::SlhDsa(_) => CKK_SLH_DSA,
    }
}

/// Bits of a big-endian integer, from its highest set bit.
pub(crate) fn significant_bits(integer: &[u8]) -> u64 {
    let start = integer.iter().position(|&byte| byte != 0).unwrap_or(integer.len());
    match integer.get(start) {
        Some(&first) => 8 * (integer.len() - start) as u64 - u64::from(first.leading_zeros()),
        None => 0,
    }
}

/// A secret part of a key that may be read.
///
/// # Errors
/// [`Kind::AttributeType`] for a part that the key does not have.
pub(crate) fn reveal(object: &Object, kind: Attribute) -> Result<Value> {
    if object.class() == CKO_SECRET_KEY {
        return Ok(Value::bytes(object.secret()?));
    }
    let part = match object.private_key()? {
        PrivateKey::Rsa(key) => {
            let parts = key.components()?;
            match kind {
                CKA_PRIVATE_EXPONENT => parts.d,
                CKA_PRIME_1 => parts.p,
                CKA_PRIME_2 => parts.q,
                CKA_EXPONENT_1 => parts.dp,
                CKA_EXPONENT_2 => parts.dq,
                CKA_COEFFICIENT => parts.qinv,
                _ => return Err(Kind::AttributeType.into()),
            }
        }
        PrivateKey::Ec(key) => key.scalar()?,
        PrivateKey::Edwards(key) => key.seed().duplicate(),
        PrivateKey::Montgomery(key) => key.scalar(),
        // A key that came without its seed has an empty one.
        PrivateKey::MlDsa(key) if kind == CKA_SEED => key.seed().unwrap_or_else(|| SecretBytes::zeroed(0)),
        PrivateKey::MlDsa(key) => key.expanded()?,
        PrivateKey::MlKem(key) if kind == CKA_SEED => key.seed().unwrap_or_else(|| SecretBytes::zeroed(0)),
        PrivateKey::MlKem(key) => key.expanded()?,
        PrivateKey::SlhDsa(key) => key.bytes().duplicate(),
    };
    Ok(Value::bytes(part.expose()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_counted_from_the_highest_set_one() {
        for (bytes, bits) in [(&[][..], 0), (&[0, 0], 0), (&[1], 1), (&[0, 0x80, 0], 16), (&[0xff, 0xff], 16)] {
            assert_eq!(significant_bits(bytes), bits);
        }
    }

    #[test]
    fn every_slh_dsa_set_has_its_number() {
        for &set in slh_dsa::ParameterSet::ALL {
            assert_eq!(slh_dsa_set(Some(slh_dsa_number(set))).ok(), Some(set));
        }
        assert!(slh_dsa_set(Some(13)).is_err() && slh_dsa_set(None).is_err());
    }

    #[test]
    fn a_point_is_read_in_both_forms() {
        let bare = [0x04, 0x42, 0x42];
        let wrapped = wrapped_point(&bare).expect("short");
        assert_eq!(wrapped, [0x04, 0x03, 0x04, 0x42, 0x42]);
        assert_eq!(point(&wrapped, 3), bare);
        assert_eq!(point(&[0x99; 32], 32), [0x99; 32]);
        let mut lookalike = vec![0x04, 63];
        lookalike.resize(65, 7);
        assert_eq!(point(&lookalike, 65), lookalike);
    }

    #[test]
    fn secret_lengths_follow_the_key_type() {
        for (kind, len, fits) in
            [(CKK_AES, 16, true), (CKK_AES, 17, false), (CKK_GENERIC_SECRET, 0, false), (CKK_SHA256_HMAC, 64, true)]
        {
            assert_eq!(check_secret_len(kind, len).is_ok(), fits, "{kind} {len}");
        }
    }
}
