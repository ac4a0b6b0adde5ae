//! Mechanism parameters as the doors hand them over, and the hash and MGF numbers inside them as checked types.

use ck::Mechanism;
use ck::mechanism::*;
use ck::parameter::*;

use super::kdf_params::{
    HkdfParams, KbkdfParams, Pbkdf2Params, TlsKdfParams, TlsKeysParams, TlsMacParams, TlsMasterParams,
};
use crate::crypto::{Hash, Hedge, PreHash, Shake, prehash, rsa};
use crate::error::{Error, Kind, Result};

/// A mechanism and its parameter, as a caller names them.
#[derive(Clone, Debug)]
pub struct MechanismCall {
    /// The CKM number.
    pub kind: Mechanism,
    /// The parameter.
    pub parameter: Parameter,
}

/// The parameter of a mechanism; numbers are those of PKCS#11, lengths are bytes unless the name says bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// None.
    None,
    /// An initialisation vector, or any other plain bytes.
    Bytes(Vec<u8>),
    /// `CK_RSA_PKCS_PSS_PARAMS`.
    RsaPss {
        /// CKM number of the hash.
        hash: u64,
        /// CKG number of the mask generation function.
        mgf: u64,
        /// Salt length in bytes.
        salt_len: u64,
    },
    /// `CK_RSA_PKCS_OAEP_PARAMS`.
    RsaOaep {
        /// CKM number of the hash.
        hash: u64,
        /// CKG number of the mask generation function.
        mgf: u64,
        /// CKZ number of the label's source.
        source: u64,
        /// The label.
        label: Vec<u8>,
    },
    /// `CK_GCM_PARAMS`.
    Gcm {
        /// The initialisation vector.
        iv: Vec<u8>,
        /// Additional authenticated data.
        aad: Vec<u8>,
        /// Tag length in bits.
        tag_bits: u64,
    },
    /// `CK_AES_CTR_PARAMS`.
    Ctr {
        /// How many bits of the block count.
        counter_bits: u64,
        /// The first counter block.
        block: Vec<u8>,
    },
    /// `CK_ECDH1_DERIVE_PARAMS`.
    Ecdh1 {
        /// CKD number of the key derivation function.
        kdf: u64,
        /// Shared info.
        shared_data: Vec<u8>,
        /// The other party's point.
        public_data: Vec<u8>,
    },
    /// `CK_EDDSA_PARAMS`.
    EdDsa {
        /// Whether the prehashed variant is meant.
        prehash: bool,
        /// The context.
        context: Vec<u8>,
    },
    /// `CK_SIGN_ADDITIONAL_CONTEXT`.
    SignContext {
        /// CKH number: hedged preferred, hedged required or deterministic.
        hedge: u64,
        /// The context, at most 255 bytes.
        context: Vec<u8>,
    },
    /// `CK_HASH_SIGN_ADDITIONAL_CONTEXT`.
    HashSignContext {
        /// CKH number, as above.
        hedge: u64,
        /// The context, at most 255 bytes.
        context: Vec<u8>,
        /// CKM number of the hash that made the digest.
        hash: u64,
    },
    /// `CK_MAC_GENERAL_PARAMS`: MAC length in bytes.
    MacLen(u64),
    /// `CK_RSA_AES_KEY_WRAP_PARAMS`.
    RsaAesWrap {
        /// Length in bits of the AES key that wraps.
        aes_bits: u64,
        /// CKM number of the hash of the OAEP that carries the AES key.
        hash: u64,
        /// CKG number of its mask generation function.
        mgf: u64,
        /// CKZ number of its label's source.
        source: u64,
        /// Its label.
        label: Vec<u8>,
    },
    /// `CK_ECDH_AES_KEY_WRAP_PARAMS`.
    EcdhAesWrap {
        /// Length in bits of the AES key that wraps.
        aes_bits: u64,
        /// CKD number of the key derivation function.
        kdf: u64,
        /// Shared info.
        shared_data: Vec<u8>,
    },
    /// `CK_CCM_PARAMS`.
    Ccm {
        /// Length of the plaintext.
        data_len: u64,
        /// The nonce.
        nonce: Vec<u8>,
        /// Additional authenticated data.
        aad: Vec<u8>,
        /// Length of the tag.
        mac_len: u64,
    },
    /// HKDF.
    Hkdf(HkdfParams),
    /// SP 800-108.
    Kbkdf(KbkdfParams),
    /// PBKDF2.
    Pbkdf2(Pbkdf2Params),
    /// A TLS master secret.
    TlsMaster(TlsMasterParams),
    /// The keys of a TLS connection.
    TlsKeys(TlsKeysParams),
    /// TLS key material exporters.
    TlsKdf(TlsKdfParams),
    /// The verify data of TLS "finished" messages.
    TlsMac(TlsMacParams),
    /// The handle of another key.
    Key(u64),
    /// A number: `CK_EXTRACT_PARAMS`.
    Number(u64),
    /// `CK_AES_CBC_ENCRYPT_DATA_PARAMS`.
    CbcData {
        /// The initialisation vector.
        iv: Vec<u8>,
        /// What is encrypted.
        data: Vec<u8>,
    },
    /// `CK_GCM_MESSAGE_PARAMS` or `CK_CCM_MESSAGE_PARAMS`, and the associated data.
    AeadMessage {
        /// The IV, or what a generator keeps of it.
        iv: Vec<u8>,
        /// How many leading bits of the IV are the caller's.
        fixed_bits: u64,
        /// CKG number of the generator.
        generator: u64,
        /// Tag length in bits.
        tag_bits: u64,
        /// Associated data.
        aad: Vec<u8>,
        /// Length of the message in bytes, for CCM.
        data_len: u64,
    },
}

/// What the parameter of a mechanism must be; a column of the mechanism table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParameterKind {
    /// None at all.
    None,
    /// An IV of this many bytes.
    Iv(usize),
    /// None, or an IV of this many bytes.
    OptionalIv(usize),
    /// RSA-PSS.
    RsaPss,
    /// RSA-OAEP.
    RsaOaep,
    /// AES-GCM.
    Gcm,
    /// AES-CTR.
    Ctr,
    /// ECDH.
    Ecdh1,
    /// None, or EdDSA's.
    OptionalEdDsa,
    /// None, or hedge and context.
    OptionalSignContext,
    /// Hedge, context and hash.
    HashSignContext,
    /// A MAC length.
    MacLen,
    /// OAEP and the length of an AES key.
    RsaAesWrap,
    /// ECDH and the length of an AES key.
    EcdhAesWrap,
    /// AES-CCM.
    Ccm,
    /// AES-GMAC: an IV of 12 bytes or the parameter of AES-GCM.
    Gmac,
    /// Bytes of any length.
    Data,
    /// An IV and bytes of any length.
    CbcData,
    /// A key's handle.
    Key,
    /// A number.
    Number,
    /// HKDF.
    Hkdf,
    /// SP 800-108.
    Kbkdf,
    /// PBKDF2.
    Pbkdf2,
    /// A TLS master secret.
    TlsMaster,
    /// The keys of a TLS connection.
    TlsKeys,
    /// TLS exporters.
    TlsKdf,
    /// TLS verify data.
    TlsMac,
    /// One message of AEAD.
    AeadMessage,
}

impl ParameterKind {
    /// Whether the parameter has the shape that the mechanism takes.
    ///
    /// # Errors
    /// [`Kind::MechanismParam`] when it has not.
    pub(crate) fn check(self, parameter: &Parameter) -> Result<()> {
        let fits = match (self, parameter) {
            (ParameterKind::Iv(len) | ParameterKind::OptionalIv(len), Parameter::Bytes(iv)) => iv.len() == len,
            (
                ParameterKind::None
                | ParameterKind::OptionalIv(_)
                | ParameterKind::OptionalEdDsa
                | ParameterKind::OptionalSignContext,
                Parameter::None,
            ) => true,
            (ParameterKind::Ctr, Parameter::Ctr { counter_bits, .. }) => (1..=128).contains(counter_bits),
            (ParameterKind::RsaPss, Parameter::RsaPss { .. })
            | (ParameterKind::RsaOaep, Parameter::RsaOaep { .. })
            | (ParameterKind::Gcm, Parameter::Gcm { .. })
            | (ParameterKind::Ecdh1, Parameter::Ecdh1 { .. })
            | (ParameterKind::OptionalEdDsa, Parameter::EdDsa { .. })
            | (ParameterKind::OptionalSignContext, Parameter::SignContext { .. })
            | (ParameterKind::RsaAesWrap, Parameter::RsaAesWrap { .. })
            | (ParameterKind::EcdhAesWrap, Parameter::EcdhAesWrap { .. })
            | (ParameterKind::HashSignContext, Parameter::HashSignContext { .. })
            | (ParameterKind::MacLen, Parameter::MacLen(_))
            | (ParameterKind::Ccm, Parameter::Ccm { .. })
            | (ParameterKind::Gmac, Parameter::Gcm { .. })
            | (ParameterKind::Data, Parameter::Bytes(_))
            | (ParameterKind::CbcData, Parameter::CbcData { .. })
            | (ParameterKind::Key, Parameter::Key(_))
            | (ParameterKind::Number, Parameter::Number(_))
            | (ParameterKind::Hkdf, Parameter::Hkdf(_))
            | (ParameterKind::Kbkdf, Parameter::Kbkdf(_))
            | (ParameterKind::Pbkdf2, Parameter::Pbkdf2(_))
            | (ParameterKind::TlsMaster, Parameter::TlsMaster(_))
            | (ParameterKind::TlsKeys, Parameter::TlsKeys(_))
            | (ParameterKind::TlsKdf, Parameter::TlsKdf(_))
            | (ParameterKind::AeadMessage, Parameter::AeadMessage { .. })
            | (ParameterKind::TlsMac, Parameter::TlsMac(_)) => true,
            (ParameterKind::Gmac, Parameter::Bytes(iv)) => iv.len() == 12,
            _ => false,
        };
        let refused = || Error::new(Kind::MechanismParam, format!("the mechanism takes {self:?}"));
        if fits { Ok(()) } else { Err(refused()) }
    }
}

/// The hash that a digest mechanism number names.
///
/// # Errors
/// [`Kind::MechanismParam`] for a number that is no hash offered here.
pub(crate) fn hash(number: u64) -> Result<Hash> {
    match Mechanism(number) {
        CKM_SHA_1 => Ok(Hash::Sha1),
        CKM_SHA224 => Ok(Hash::Sha224),
        CKM_SHA256 => Ok(Hash::Sha256),
        CKM_SHA384 => Ok(Hash::Sha384),
        CKM_SHA512 => Ok(Hash::Sha512),
        CKM_SHA512_224 => Ok(Hash::Sha512_224),
        CKM_SHA512_256 => Ok(Hash::Sha512_256),
        CKM_SHA3_224 => Ok(Hash::Sha3_224),
        CKM_SHA3_256 => Ok(Hash::Sha3_256),
        CKM_SHA3_384 => Ok(Hash::Sha3_384),
        CKM_SHA3_512 => Ok(Hash::Sha3_512),
        other => Err(Error::new(Kind::MechanismParam, format!("{other} is not a hash that is offered"))),
    }
}

/// The context of a post-quantum signature; empty where the parameter is left out.
///
/// # Errors
/// [`Kind::MechanismParam`] for one of more than 255 bytes.
pub(crate) fn context(parameter: &Parameter) -> Result<&[u8]> {
    let context = match parameter {
        Parameter::SignContext { context, .. } | Parameter::HashSignContext { context, .. } => context.as_slice(),
        _ => &[],
    };
    let longest = prehash::CONTEXT_MAX;
    let refused = || Error::new(Kind::MechanismParam, format!("the context has at most {longest} bytes"));
    if context.len() <= longest { Ok(context) } else { Err(refused()) }
}

/// Whether a post-quantum signature is hedged: where the caller leaves it open, it is.
///
/// # Errors
/// [`Kind::MechanismParam`] for a number that is no hedge variant.
pub(crate) fn hedge(parameter: &Parameter) -> Result<Hedge> {
    let (Parameter::SignContext { hedge, .. } | Parameter::HashSignContext { hedge, .. }) = parameter else {
        return Ok(Hedge::Random);
    };
    match ck::parameter::Hedge(*hedge) {
        CKH_HEDGE_PREFERRED | CKH_HEDGE_REQUIRED => Ok(Hedge::Random),
        CKH_DETERMINISTIC_REQUIRED => Ok(Hedge::Deterministic),
        other => Err(Error::new(Kind::MechanismParam, format!("{other} is no hedge variant"))),
    }
}

/// The hash of a mechanism that signs a digest: the row's own, or the one that the parameter names. The header has no number for
/// SHAKE as a digest; that of its key derivation stands for it.
///
/// # Errors
/// [`Kind::MechanismParam`] for one that is not offered, SHA-1 among them.
pub(crate) fn pre_hash(own: Option<PreHash>, parameter: &Parameter) -> Result<PreHash> {
    match (own, parameter) {
        (Some(hash), _) => Ok(hash),
        (None, Parameter::HashSignContext { hash: number, .. }) => match Mechanism(*number) {
            CKM_SHAKE_128_KEY_DERIVATION => Ok(PreHash::Shake(Shake::Shake128)),
            CKM_SHAKE_256_KEY_DERIVATION => Ok(PreHash::Shake(Shake::Shake256)),
            CKM_SHA_1 => Err(Error::new(Kind::MechanismParam, "a SHA-1 digest is not signed")),
            _ => Ok(PreHash::Hash(hash(*number)?)),
        },
        (None, _) => Err(Kind::MechanismParam.into()),
    }
}

/// The hash of a mask generation function.
///
/// # Errors
/// [`Kind::MechanismParam`] for one that is not offered.
pub(crate) fn mgf1(number: u64) -> Result<Hash> {
    match Mgf(number) {
        CKG_MGF1_SHA1 => Ok(Hash::Sha1),
        CKG_MGF1_SHA224 => Ok(Hash::Sha224),
        CKG_MGF1_SHA256 => Ok(Hash::Sha256),
        CKG_MGF1_SHA384 => Ok(Hash::Sha384),
        CKG_MGF1_SHA512 => Ok(Hash::Sha512),
        CKG_MGF1_SHA3_224 => Ok(Hash::Sha3_224),
        CKG_MGF1_SHA3_256 => Ok(Hash::Sha3_256),
        CKG_MGF1_SHA3_384 => Ok(Hash::Sha3_384),
        CKG_MGF1_SHA3_512 => Ok(Hash::Sha3_512),
        other => Err(Error::new(Kind::MechanismParam, format!("{other} is not offered"))),
    }
}

/// What makes a key of the secret of an agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EcdhKdf {
    /// The secret itself.
    Null,
    /// ANSI X9.63.
    X963(Hash),
    /// The one-step function of SP 800-56C.
    OneStep(Hash),
}

/// The key derivation function of an agreement, CKD_*.
///
/// # Errors
/// [`Kind::MechanismParam`] for one that is not offered.
pub(crate) fn ecdh_kdf(number: u64) -> Result<EcdhKdf> {
    Ok(match EcKdf(number) {
        CKD_NULL => EcdhKdf::Null,
        CKD_SHA1_KDF => EcdhKdf::X963(Hash::Sha1),
        CKD_SHA224_KDF => EcdhKdf::X963(Hash::Sha224),
        CKD_SHA256_KDF => EcdhKdf::X963(Hash::Sha256),
        CKD_SHA384_KDF => EcdhKdf::X963(Hash::Sha384),
        CKD_SHA512_KDF => EcdhKdf::X963(Hash::Sha512),
        CKD_SHA3_224_KDF => EcdhKdf::X963(Hash::Sha3_224),
        CKD_SHA3_256_KDF => EcdhKdf::X963(Hash::Sha3_256),
        CKD_SHA3_384_KDF => EcdhKdf::X963(Hash::Sha3_384),
        CKD_SHA3_512_KDF => EcdhKdf::X963(Hash::Sha3_512),
        CKD_SHA1_KDF_SP800 => EcdhKdf::OneStep(Hash::Sha1),
        CKD_SHA224_KDF_SP800 => EcdhKdf::OneStep(Hash::Sha224),
        CKD_SHA256_KDF_SP800 => EcdhKdf::OneStep(Hash::Sha256),
        CKD_SHA384_KDF_SP800 => EcdhKdf::OneStep(Hash::Sha384),
        CKD_SHA512_KDF_SP800 => EcdhKdf::OneStep(Hash::Sha512),
        CKD_SHA3_224_KDF_SP800 => EcdhKdf::OneStep(Hash::Sha3_224),
        CKD_SHA3_256_KDF_SP800 => EcdhKdf::OneStep(Hash::Sha3_256),
        CKD_SHA3_384_KDF_SP800 => EcdhKdf::OneStep(Hash::Sha3_384),
        CKD_SHA3_512_KDF_SP800 => EcdhKdf::OneStep(Hash::Sha3_512),
        other => return Err(Error::new(Kind::MechanismParam, format!("{other} is not offered"))),
    })
}

/// The hash of a PBKDF2 pseudorandom function, CKP_PKCS5_PBKD2_HMAC_*.
///
/// # Errors
/// [`Kind::MechanismParam`] for one that is not offered.
pub(crate) fn pbkdf2_prf(number: u64) -> Result<Hash> {
    Ok(match Pbkdf2Prf(number) {
        CKP_PKCS5_PBKD2_HMAC_SHA1 => Hash::Sha1,
        CKP_PKCS5_PBKD2_HMAC_SHA224 => Hash::Sha224,
        CKP_PKCS5_PBKD2_HMAC_SHA256 => Hash::Sha256,
        CKP_PKCS5_PBKD2_HMAC_SHA384 => Hash::Sha384,
        CKP_PKCS5_PBKD2_HMAC_SHA512 => Hash::Sha512,
        CKP_PKCS5_PBKD2_HMAC_SHA512_224 => Hash::Sha512_224,
        CKP_PKCS5_PBKD2_HMAC_SHA512_256 => Hash::Sha512_256,
        other => return Err(Error::new(Kind::MechanismParam, format!("{other} is not offered"))),
    })
}

/// The PSS parameters of a mechanism parameter.
pub(crate) fn pss(fixed: Option<Hash>, parameter: &Parameter) -> Result<rsa::Pss> {
    let Parameter::RsaPss { hash: number, mgf, salt_len } = parameter else { return Err(Kind::MechanismParam.into()) };
    let named = self::hash(*number)?;
    if fixed.is_some_and(|fixed| fixed != named) {
        return Err(Error::new(Kind::MechanismParam, "the parameter names another hash than the mechanism"));
    }
    let salt_len = usize::try_from(*salt_len).map_err(|_| Kind::MechanismParam)?;
    Ok(rsa::Pss { hash: named, mgf: mgf1(*mgf)?, salt_len })
}

/// The OAEP parameters of a mechanism parameter.
pub(crate) fn oaep(parameter: &Parameter) -> Result<rsa::Oaep<'_>> {
    let (Parameter::RsaOaep { hash: number, mgf, source, label }
    | Parameter::RsaAesWrap { hash: number, mgf, source, label, .. }) = parameter
    else {
        return Err(Kind::MechanismParam.into());
    };
    // Source 0 with no data is what some clients send for "no label"; it means the same.
    let specified = OaepSource(*source) == CKZ_DATA_SPECIFIED;
    let unlabelled = *source == 0 && label.is_empty();
    if !specified && !unlabelled {
        return Err(Error::new(Kind::MechanismParam, "the label's source is not CKZ_DATA_SPECIFIED"));
    }
    Ok(rsa::Oaep { hash: hash(*number)?, mgf: mgf1(*mgf)?, label })
}
