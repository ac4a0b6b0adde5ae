//! Mechanism parameters: which mechanism takes which structure, and how that becomes a message. One row per family.
//!
//! Only shapes are judged here (PKCS#11 Current Mechanisms v3.0; ML-DSA from PKCS#11 3.2): whether a hash, a salt length or
//! an IV suits the key is the daemon's to say.

mod kdf;

use ck::mechanism::*;
use ck::rv::{CKR_ARGUMENTS_BAD, CKR_MECHANISM_PARAM_INVALID};
use ck::{Mechanism, Rv};
use hsm_proto::v1::{self, OperationKind, mechanism::Parameter as Wire};

use cryptoki_sys::CK_VERSION;

use crate::ffi::claim::{InBytes, InMechanism, Out, Place};
use crate::ffi::parameter::kdf::{DerivedKey, KeyMaterial};
use crate::ffi::parameter::{AeadMessage, Oaep, Parameter};

/// The longest context, label, IV or shared data that is carried.
const MAX_INNER: u64 = 64 * 1024;
/// The longest additional authenticated data that is carried.
const MAX_AAD: u64 = 4 * 1024 * 1024;

/// What a mechanism takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    None,
    /// Bytes of exactly this length.
    Iv(usize),
    /// Nothing, or bytes of exactly this length.
    OptionalIv(usize),
    Pss,
    Oaep,
    Gcm,
    Ctr,
    Ecdh1,
    /// Nothing, or CK_EDDSA_PARAMS.
    OptionalEdDsa,
    /// Nothing, or CK_SIGN_ADDITIONAL_CONTEXT.
    OptionalContext,
    /// CK_HASH_SIGN_ADDITIONAL_CONTEXT.
    HashContext,
    MacLen,
    RsaAesWrap,
    EcdhAesWrap,
    Ccm,
    /// An IV of 12 bytes, or CK_GCM_PARAMS.
    Gmac,
    StringData,
    CbcData,
    Key,
    Number,
    Hkdf,
    Kbkdf,
    KbkdfFeedback,
    Pbkdf2,
    TlsMaster,
    TlsExtendedMaster,
    /// The keys of a TLS connection, with IVs or without.
    TlsKeys {
        ivs: bool,
    },
    TlsKdf,
    TlsMac,
}

/// The rows: a mechanism that is in none of them takes no parameter.
const SHAPES: &[(Shape, &[Mechanism])] = &[
    (
        Shape::Pss,
        &[
            CKM_RSA_PKCS_PSS,
            CKM_SHA1_RSA_PKCS_PSS,
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
    (Shape::Oaep, &[CKM_RSA_PKCS_OAEP]),
    (Shape::Gcm, &[CKM_AES_GCM]),
    (Shape::Ctr, &[CKM_AES_CTR]),
    (Shape::Ccm, &[CKM_AES_CCM]),
    (Shape::Gmac, &[CKM_AES_GMAC]),
    (Shape::Iv(8), &[CKM_DES3_CBC, CKM_DES3_CBC_PAD]),
    (Shape::Iv(16), &[CKM_AES_CBC, CKM_AES_CBC_PAD, CKM_AES_XTS]),
    (
        Shape::StringData,
        &[
            CKM_CONCATENATE_BASE_AND_DATA,
            CKM_CONCATENATE_DATA_AND_BASE,
            CKM_XOR_BASE_AND_DATA,
            CKM_AES_ECB_ENCRYPT_DATA,
        ],
    ),
    (Shape::CbcData, &[CKM_AES_CBC_ENCRYPT_DATA]),
    (Shape::Key, &[CKM_CONCATENATE_BASE_AND_KEY]),
    (Shape::Number, &[CKM_EXTRACT_KEY_FROM_KEY]),
    (Shape::Hkdf, &[CKM_HKDF_DERIVE, CKM_HKDF_DATA]),
    (Shape::Kbkdf, &[CKM_SP800_108_COUNTER_KDF, CKM_SP800_108_DOUBLE_PIPELINE_KDF]),
    (Shape::KbkdfFeedback, &[CKM_SP800_108_FEEDBACK_KDF]),
    (Shape::Pbkdf2, &[CKM_PKCS5_PBKD2]),
    (Shape::TlsMaster, &[CKM_TLS12_MASTER_KEY_DERIVE, CKM_TLS12_MASTER_KEY_DERIVE_DH]),
    (Shape::TlsExtendedMaster, &[CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE, CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE_DH]),
    (Shape::TlsKeys { ivs: true }, &[CKM_TLS12_KEY_AND_MAC_DERIVE]),
    (Shape::TlsKeys { ivs: false }, &[CKM_TLS12_KEY_SAFE_DERIVE]),
    (Shape::TlsKdf, &[CKM_TLS_KDF, CKM_TLS12_KDF]),
    (Shape::TlsMac, &[CKM_TLS_MAC, CKM_TLS12_MAC]),
    (Shape::OptionalIv(8), &[CKM_AES_KEY_WRAP]),
    (Shape::OptionalIv(4), &[CKM_AES_KEY_WRAP_PAD, CKM_AES_KEY_WRAP_KWP]),
    (Shape::Ecdh1, &[CKM_ECDH1_DERIVE, CKM_ECDH1_COFACTOR_DERIVE]),
    (Shape::RsaAesWrap, &[CKM_RSA_AES_KEY_WRAP]),
    (Shape::EcdhAesWrap, &[CKM_ECDH_AES_KEY_WRAP]),
    (Shape::OptionalEdDsa, &[CKM_EDDSA]),
    (Shape::HashContext, &[CKM_HASH_ML_DSA, CKM_HASH_SLH_DSA]),
    (
        Shape::OptionalContext,
        &[
            CKM_ML_DSA,
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
            CKM_SLH_DSA,
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
    (
        Shape::MacLen,
        &[
            CKM_MD5_HMAC_GENERAL,
            CKM_SHA_1_HMAC_GENERAL,
            CKM_SHA224_HMAC_GENERAL,
            CKM_SHA256_HMAC_GENERAL,
            CKM_SHA384_HMAC_GENERAL,
            CKM_SHA512_HMAC_GENERAL,
            CKM_SHA512_224_HMAC_GENERAL,
            CKM_SHA512_256_HMAC_GENERAL,
            CKM_SHA3_224_HMAC_GENERAL,
            CKM_SHA3_256_HMAC_GENERAL,
            CKM_SHA3_384_HMAC_GENERAL,
            CKM_SHA3_512_HMAC_GENERAL,
            CKM_AES_CMAC_GENERAL,
        ],
    ),
];

fn shape(mechanism: Mechanism) -> Shape {
    SHAPES.iter().find(|(_, mechanisms)| mechanisms.contains(&mechanism)).map_or(Shape::None, |(shape, _)| *shape)
}

/// The message for a mechanism that must be there.
///
/// # Errors
/// `CKR_ARGUMENTS_BAD` for NULL, `CKR_MECHANISM_PARAM_INVALID` for a parameter that has not the mechanism's shape.
pub(crate) fn required(mechanism: &InMechanism<'_>) -> Result<v1::Mechanism, Rv> {
    let (number, parameter) = mechanism.get().ok_or(CKR_ARGUMENTS_BAD)?;
    message(number, parameter)
}

/// The longest IV that is carried.
const MAX_IV: u64 = 256;

/// What Init says of a mechanism. The ciphers among the message-based operations take their parameter with each message: what
/// stands in the one of Init is not looked at, only its length.
///
/// # Errors
/// As [`message`].
pub(crate) fn of_init(kind: OperationKind, number: u64, parameter: Parameter<'_>) -> Result<v1::Mechanism, Rv> {
    let sealed = [OperationKind::OperationMessageEncrypt, OperationKind::OperationMessageDecrypt].contains(&kind);
    if !sealed {
        return message(number, parameter);
    }
    let fits = match shape(Mechanism(number)) {
        Shape::Gcm => parameter.is_gcm_message(),
        Shape::Ccm => parameter.is_ccm_message(),
        _ => false,
    };
    if parameter.is_none() || fits {
        Ok(v1::Mechanism { r#type: number, parameter: None })
    } else {
        Err(CKR_MECHANISM_PARAM_INVALID)
    }
}

/// The parameter of one sealed message, and where IV and tag go.
///
/// # Errors
/// `CKR_MECHANISM_PARAM_INVALID`.
pub(crate) fn sealed<'c>(
    number: u64,
    parameter: Parameter<'c>,
    aad: InBytes<'_>,
) -> Result<(v1::Mechanism, AeadMessage<'c>), Rv> {
    let raw = match shape(Mechanism(number)) {
        Shape::Gcm => parameter.gcm_message()?,
        Shape::Ccm => parameter.ccm_message()?,
        _ => return Err(CKR_MECHANISM_PARAM_INVALID),
    };
    if raw.tag_bits > 128 {
        return Err(CKR_MECHANISM_PARAM_INVALID);
    }
    if aad.len() > MAX_AAD {
        return Err(CKR_ARGUMENTS_BAD);
    }
    let wire = v1::AeadMessage {
        iv: carried(raw.iv, MAX_IV)?,
        fixed_bits: raw.fixed_bits,
        generator: raw.generator,
        tag_bits: raw.tag_bits,
        aad: aad.to_vec()?,
        data_len: raw.data_len,
    };
    Ok((v1::Mechanism { r#type: number, parameter: Some(Wire::AeadMessage(wire)) }, raw))
}

/// The tag that a sealed message's parameter brings.
///
/// # Errors
/// `CKR_MECHANISM_PARAM_INVALID`.
pub(crate) fn tag(sealed: &AeadMessage<'_>) -> Result<Vec<u8>, Rv> {
    carried(sealed.tag, 16)
}

/// The message for a mechanism.
///
/// # Errors
/// `CKR_MECHANISM_PARAM_INVALID` for a parameter that has not the mechanism's shape.
pub(crate) fn message(number: u64, parameter: Parameter<'_>) -> Result<v1::Mechanism, Rv> {
    let none = parameter.is_none();
    let parameter = match shape(Mechanism(number)) {
        Shape::None | Shape::OptionalIv(_) | Shape::OptionalEdDsa | Shape::OptionalContext if none => None,
        Shape::None => return Err(CKR_MECHANISM_PARAM_INVALID),
        Shape::Iv(len) | Shape::OptionalIv(len) => Some(Wire::Iv(iv(&parameter, len)?)),
        Shape::Pss => Some(pss(&parameter)?),
        Shape::Oaep => Some(oaep(&parameter)?),
        Shape::Gcm => Some(gcm(&parameter)?),
        Shape::Ctr => Some(ctr(&parameter)?),
        Shape::Ecdh1 => Some(ecdh1(&parameter)?),
        Shape::OptionalEdDsa => Some(eddsa(&parameter)?),
        Shape::OptionalContext => Some(sign_context(&parameter)?),
        Shape::HashContext => Some(hash_sign_context(&parameter)?),
        Shape::MacLen => Some(Wire::MacLen(parameter.ulong()?)),
        Shape::RsaAesWrap => Some(rsa_aes_wrap(&parameter)?),
        Shape::EcdhAesWrap => Some(ecdh_aes_wrap(&parameter)?),
        Shape::Ccm => Some(kdf::ccm(&parameter)?),
        Shape::Gmac if parameter.len() == 12 => Some(Wire::Iv(iv(&parameter, 12)?)),
        Shape::Gmac => Some(gcm(&parameter)?),
        Shape::StringData => Some(kdf::string_data(&parameter)?),
        Shape::CbcData => Some(kdf::cbc_data(&parameter)?),
        Shape::Key => Some(Wire::Key(parameter.ulong()?)),
        Shape::Number => Some(Wire::Number(parameter.ulong()?)),
        Shape::Hkdf => Some(kdf::hkdf(&parameter)?),
        Shape::Kbkdf => Some(kdf::kbkdf(parameter.kbkdf()?)?),
        Shape::KbkdfFeedback => Some(kdf::kbkdf(parameter.kbkdf_feedback()?)?),
        Shape::Pbkdf2 => Some(kdf::pbkdf2(&parameter)?),
        Shape::TlsMaster => Some(kdf::tls_master(&parameter)?),
        Shape::TlsExtendedMaster => Some(kdf::tls_extended_master(&parameter)?),
        Shape::TlsKeys { .. } => Some(kdf::tls_keys(&parameter)?),
        Shape::TlsKdf => Some(kdf::tls_kdf(&parameter)?),
        Shape::TlsMac => Some(kdf::tls_mac(&parameter)?),
    };
    Ok(v1::Mechanism { r#type: number, parameter })
}

/// Where C_DeriveKey leaves its results besides the handle.
pub(crate) enum Returns<'c> {
    /// Nowhere.
    Handle,
    /// The protocol version of a TLS pre-master secret.
    Version(Option<Place<'c, CK_VERSION>>),
    /// The handles and IVs of a TLS connection; there is no other handle.
    Connection(KeyMaterial<'c>),
    /// The handles of additional keys.
    Additional(Vec<Place<'c, u64>>),
}

/// The places for the results of a derivation, which must be there before anything is derived.
///
/// # Errors
/// As [`required`].
pub(crate) fn returns<'c>(mechanism: &InMechanism<'c>) -> Result<Returns<'c>, Rv> {
    let (number, parameter) = mechanism.get().ok_or(CKR_ARGUMENTS_BAD)?;
    let version = |place: Out<'c, CK_VERSION>| Returns::Version(place.there().ok());
    Ok(match shape(Mechanism(number)) {
        Shape::TlsMaster => version(parameter.tls_master()?.version),
        Shape::TlsExtendedMaster => version(parameter.tls_extended_master()?.version),
        Shape::TlsKeys { ivs } => Returns::Connection(parameter.tls_keys()?.material(ivs)?),
        Shape::Kbkdf => additional(parameter.kbkdf()?.additional)?,
        Shape::KbkdfFeedback => additional(parameter.kbkdf_feedback()?.additional)?,
        _ => Returns::Handle,
    })
}

fn additional(keys: Vec<DerivedKey<'_>>) -> Result<Returns<'_>, Rv> {
    let places = keys.into_iter().map(|key| key.place.there().map_err(|_| CKR_MECHANISM_PARAM_INVALID));
    Ok(Returns::Additional(places.collect::<Result<_, _>>()?))
}

fn carried(bytes: InBytes<'_>, max: u64) -> Result<Vec<u8>, Rv> {
    if bytes.len() > max {
        return Err(CKR_MECHANISM_PARAM_INVALID);
    }
    bytes.to_vec().map_err(|rv| if rv == CKR_ARGUMENTS_BAD { CKR_MECHANISM_PARAM_INVALID } else { rv })
}

fn iv(parameter: &Parameter<'_>, len: usize) -> Result<Vec<u8>, Rv> {
    let bytes = parameter.bytes()?;
    if bytes.len() == len { Ok(bytes.to_vec()) } else { Err(CKR_MECHANISM_PARAM_INVALID) }
}

fn pss(parameter: &Parameter<'_>) -> Result<Wire, Rv> {
    let raw = parameter.pss()?;
    Ok(Wire::Pss(v1::RsaPss { hash: raw.hash, mgf: raw.mgf, salt_len: raw.salt_len }))
}

fn oaep(parameter: &Parameter<'_>) -> Result<Wire, Rv> {
    Ok(Wire::Oaep(oaep_message(parameter.oaep()?)?))
}

fn oaep_message(raw: Oaep<'_>) -> Result<v1::RsaOaep, Rv> {
    let label = carried(raw.label, MAX_INNER)?;
    Ok(v1::RsaOaep { hash: raw.hash, mgf: raw.mgf, source: raw.source, label })
}

fn rsa_aes_wrap(parameter: &Parameter<'_>) -> Result<Wire, Rv> {
    let (aes_bits, oaep) = parameter.rsa_aes_wrap()?;
    Ok(Wire::RsaAesWrap(v1::RsaAesWrap { aes_bits, oaep: Some(oaep_message(oaep)?) }))
}

fn ecdh_aes_wrap(parameter: &Parameter<'_>) -> Result<Wire, Rv> {
    let raw = parameter.ecdh_aes_wrap()?;
    let shared_data = carried(raw.shared, MAX_INNER)?;
    Ok(Wire::EcdhAesWrap(v1::EcdhAesWrap { aes_bits: raw.aes_bits, kdf: raw.kdf, shared_data }))
}

fn gcm(parameter: &Parameter<'_>) -> Result<Wire, Rv> {
    let raw = parameter.gcm()?;
    let (iv, aad) = (carried(raw.iv, MAX_INNER)?, carried(raw.aad, MAX_AAD)?);
    if iv.is_empty() || raw.tag_bits > 128 {
        return Err(CKR_MECHANISM_PARAM_INVALID);
    }
    Ok(Wire::Gcm(v1::Gcm { iv, aad, tag_bits: raw.tag_bits, iv_bits: raw.iv_bits }))
}

fn ctr(parameter: &Parameter<'_>) -> Result<Wire, Rv> {
    let raw = parameter.ctr()?;
    if !(1..=128).contains(&raw.counter_bits) {
        return Err(CKR_MECHANISM_PARAM_INVALID);
    }
    Ok(Wire::Ctr(v1::AesCtr { counter_bits: raw.counter_bits, block: raw.block.to_vec() }))
}

fn ecdh1(parameter: &Parameter<'_>) -> Result<Wire, Rv> {
    let raw = parameter.ecdh1()?;
    let (shared_data, public_data) = (carried(raw.shared, MAX_INNER)?, carried(raw.public, MAX_INNER)?);
    Ok(Wire::Ecdh1(v1::Ecdh1 { kdf: raw.kdf, shared_data, public_data }))
}

fn eddsa(parameter: &Parameter<'_>) -> Result<Wire, Rv> {
    let raw = parameter.eddsa()?;
    Ok(Wire::Eddsa(v1::EdDsa { prehash: raw.prehash, context: carried(raw.context, MAX_INNER)? }))
}

fn sign_context(parameter: &Parameter<'_>) -> Result<Wire, Rv> {
    let raw = parameter.sign_context()?;
    Ok(Wire::SignContext(v1::SignContext { hedge: raw.hedge, context: carried(raw.context, MAX_INNER)? }))
}

fn hash_sign_context(parameter: &Parameter<'_>) -> Result<Wire, Rv> {
    let (raw, hash) = parameter.hash_sign_context()?;
    let context = carried(raw.context, MAX_INNER)?;
    Ok(Wire::HashSignContext(v1::HashSignContext { hedge: raw.hedge, context, hash }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mechanism_has_two_rows() {
        let mut seen: Vec<Mechanism> = SHAPES.iter().flat_map(|(_, mechanisms)| mechanisms.iter().copied()).collect();
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }
}
