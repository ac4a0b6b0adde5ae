//! What each scheme of the mechanism table does with a key and data: its parameters read, and the crypto room called. When that happens,
//! and what becomes of the operation, is said in [`super::operation`].

use ck::attribute::CKA_PUBLIC_KEY_INFO;

use super::kind::OperationKind;
use crate::crypto::{
    CipherStream, Direction, Hash, PrivateKey, PublicKey, SealStream, aes_cbc, aes_ccm, aes_gcm, aes_wrap, aes_xts,
    des3, eddsa, tls_prf,
};
use crate::error::{Error, Kind, Result};
use crate::issuance::{self, Breach, Policy, Signer, algorithm};
use crate::mechanism::params::{self, Parameter};
use crate::mechanism::row::{Row, Scheme};
use crate::object::Object;
use crate::secret::SecretBytes;

/// The verify data of a handshake whose messages have this digest: callers hash them themselves.
pub(super) fn verify_data(parameter: &Parameter, key: &Object, handshake: &[u8]) -> Result<Vec<u8>> {
    let (hash, (label, len)) = tls_mac(parameter)?;
    Ok(tls_prf::derive(hash, key.secret()?, label, &[handshake], len).expose().to_vec())
}

/// How many bytes of the MAC are kept.
pub(super) fn mac_len(whole: usize, parameter: &Parameter) -> Result<usize> {
    match parameter {
        Parameter::MacLen(len) => {
            let len = usize::try_from(*len).map_err(|_| Kind::MechanismParam)?;
            if len == 0 || len > whole {
                return Err(Error::new(Kind::MechanismParam, format!("a MAC has 1 to {whole} bytes")));
            }
            Ok(len)
        }
        _ => Ok(whole),
    }
}

pub(super) fn cipher(
    scheme: Scheme,
    kind: OperationKind,
    key: &[u8],
    parameter: &Parameter,
) -> Result<Box<dyn CipherStream>> {
    let direction = if kind == OperationKind::Encrypt { Direction::Encrypt } else { Direction::Decrypt };
    let padding = |pad| if pad { aes_cbc::Padding::Pkcs7 } else { aes_cbc::Padding::None };
    let stream = match (scheme, parameter) {
        (Scheme::AesEcb, _) => aes_cbc::ecb(direction, key)?,
        (Scheme::AesCtr, Parameter::Ctr { counter_bits, block }) => aes_cbc::ctr(direction, key, block, *counter_bits)?,
        (Scheme::AesCbc { pad }, Parameter::Bytes(iv)) => aes_cbc::cbc(direction, padding(pad), key, iv)?,
        (Scheme::Des3Ecb, _) => des3::ecb(direction, key)?,
        (Scheme::Des3Cbc { pad }, Parameter::Bytes(iv)) => des3::cbc(direction, padding(pad), key, iv)?,
        _ => return Err(Kind::MechanismParam.into()),
    };
    Ok(stream)
}

/// The form of an AES key wrap, and that its initial value, if one is given, is the one of the form.
pub(crate) fn wrap_form(pad: bool, parameter: &Parameter) -> Result<aes_wrap::Form> {
    // RFC 3394 §2.2.3.1 and RFC 5649 §3: the default initial values.
    if pad {
        check_default_iv(parameter, &[0xa6, 0x59, 0x59, 0xa6])?;
        Ok(aes_wrap::Form::Kwp)
    } else {
        check_default_iv(parameter, &[0xa6; 8])?;
        Ok(aes_wrap::Form::Kw)
    }
}

fn check_default_iv(parameter: &Parameter, default: &[u8]) -> Result<()> {
    match parameter {
        Parameter::Bytes(iv) if iv.as_slice() != default => {
            Err(Error::new(Kind::MechanismParam, "only the default initial value of the key wrap is offered"))
        }
        _ => Ok(()),
    }
}

/// An AEAD encryption that is fed piece by piece.
pub(super) fn sealer(key: &[u8], parameter: &Parameter) -> Result<Box<dyn SealStream>> {
    match parameter {
        Parameter::Ccm { data_len, .. } => {
            let len = usize::try_from(*data_len).map_err(|_| Kind::DataLength)?;
            Ok(Box::new(aes_ccm::Sealer::new(key, &ccm(parameter, None)?, len)?))
        }
        _ => Ok(Box::new(aes_gcm::Key::new(key)?.seal(&gcm(parameter)?)?)),
    }
}

/// The GCM parameters of a mechanism parameter.
pub(crate) fn gcm(parameter: &Parameter) -> Result<aes_gcm::Params<'_>> {
    let Parameter::Gcm { iv, aad, tag_bits } = parameter else { return Err(Kind::MechanismParam.into()) };
    let tag_bits = u32::try_from(*tag_bits).map_err(|_| Kind::MechanismParam)?;
    Ok(aes_gcm::Params::new(iv, aad, tag_bits)?)
}

/// The parameters of a GMAC, and how many bytes of it are kept.
pub(super) fn gmac(parameter: &Parameter) -> Result<(aes_gcm::Params<'_>, usize)> {
    match parameter {
        Parameter::Bytes(iv) => Ok((aes_gcm::Params::new(iv, &[], 128)?, aes_gcm::TAG_MAX)),
        other => gcm(other).map(|params| (params, params.tag_len())),
    }
}

/// The parameters of AES-CCM. The length that they announce must be that of the plaintext, where that is known already.
pub(super) fn ccm(parameter: &Parameter, plaintext_len: Option<usize>) -> Result<aes_ccm::Params<'_>> {
    let Parameter::Ccm { data_len, nonce, aad, mac_len } = parameter else { return Err(Kind::MechanismParam.into()) };
    if plaintext_len.is_some_and(|len| len as u64 != *data_len) {
        return Err(Error::new(Kind::DataLength, format!("ulDataLen announces {data_len} bytes")));
    }
    let mac_len = usize::try_from(*mac_len).map_err(|_| Kind::MechanismParam)?;
    Ok(aes_ccm::Params::new(nonce, aad, mac_len)?)
}

/// The label of a TLS "finished" message and the length of its verify data (RFC 5246, section 7.4.9).
pub(super) type Finished = (&'static [u8], usize);

pub(super) fn tls_mac(parameter: &Parameter) -> Result<(Hash, Finished)> {
    let Parameter::TlsMac(asked) = parameter else { return Err(Kind::MechanismParam.into()) };
    let label: &[u8] = match asked.side {
        1 => b"server finished",
        2 => b"client finished",
        other => return Err(Error::new(Kind::MechanismParam, format!("{other} is neither server nor client"))),
    };
    let len = usize::try_from(asked.len).ok().filter(|len| (12..=64).contains(len));
    let len = len.ok_or_else(|| Error::new(Kind::MechanismParam, "verify data has 12 to 64 bytes"))?;
    Ok((params::hash(asked.hash)?, (label, len)))
}

/// The variant of EdDSA that the parameter asks for, with its context; no parameter is the pure one (PKCS#11 3.2, EdDSA: "Mapping to
/// RFC 8032 Signature Schemes").
pub(super) fn eddsa_variant(parameter: &Parameter) -> Result<Option<(eddsa::Variant, &[u8])>> {
    let Parameter::EdDsa { prehash, context } = parameter else { return Ok(None) };
    let longest = eddsa::CONTEXT_MAX;
    if context.len() > longest {
        return Err(Error::new(Kind::MechanismParam, format!("the context has at most {longest} bytes")));
    }
    if !prehash && context.is_empty() {
        // RFC 8032, section 5.1, does not want an empty context. Who fills the structure with nothing means the pure form.
        return Ok(None);
    }
    let variant = if *prehash { eddsa::Variant::PreHash } else { eddsa::Variant::Context };
    Ok(Some((variant, context)))
}

/// What the parameter of a post-quantum signature says; a verifier's hedge is ignored, as the standard has it.
pub(super) fn check_context(kind: OperationKind, parameter: &Parameter) -> Result<()> {
    if kind == OperationKind::Sign {
        params::hedge(parameter)?;
    }
    params::context(parameter).map(drop)
}

pub(super) fn signature_len(key: &PrivateKey) -> Option<usize> {
    Some(match key {
        PrivateKey::Rsa(key) => key.modulus_len(),
        PrivateKey::Ec(key) => key.curve().signature_len(),
        PrivateKey::Edwards(_) => eddsa::SIGNATURE_LEN,
        PrivateKey::MlDsa(key) => key.set().signature_len(),
        PrivateKey::SlhDsa(key) => key.set().signature_len(),
        PrivateKey::MlKem(_) | PrivateKey::Montgomery(_) => return None,
    })
}

/// Signs a message that is inside the issuance policy of the key.
pub(super) fn sign_guarded(row: &Row, parameter: &Parameter, key: &Object, message: &[u8]) -> Result<Vec<u8>> {
    let refused = |breach: Breach| {
        Error::new(Kind::IssuanceRefused, format!("the key's issuance policy does not allow this message: {breach}"))
    };
    let policy = Policy::read(key.issuance_policy().unwrap_or_default()).map_err(refused)?;
    let algorithms = algorithm::identifiers(row.scheme, parameter, key)?;
    let spki = key.attributes.bytes(CKA_PUBLIC_KEY_INFO);
    issuance::judge(&policy, &Signer { algorithms, spki }, message).map_err(refused)?;
    sign(row, parameter, key, &algorithm::digested(row.scheme, message))
}

/// Signs data, or the digest of it where the mechanism hashes.
pub(super) fn sign(row: &Row, parameter: &Parameter, key: &Object, data: &[u8]) -> Result<Vec<u8>> {
    let signature = match (row.scheme, key.private_key()?) {
        (Scheme::RsaRaw, PrivateKey::Rsa(key)) => key.sign_raw(data)?,
        (Scheme::RsaPkcs1(None), PrivateKey::Rsa(key)) => key.sign_pkcs1_raw(data)?,
        (Scheme::RsaPkcs1(Some(hash)), PrivateKey::Rsa(key)) => key.sign_pkcs1(hash, data)?,
        (Scheme::RsaPss(hash), PrivateKey::Rsa(key)) => key.sign_pss(&params::pss(hash, parameter)?, data)?,
        (Scheme::Ecdsa(_), PrivateKey::Ec(key)) => key.sign(data)?,
        (Scheme::EdDsa, PrivateKey::Edwards(key)) => match eddsa_variant(parameter)? {
            None => key.sign(data)?,
            Some((variant, context)) => key.sign_variant(variant, data, context)?,
        },
        (Scheme::MlDsa, PrivateKey::MlDsa(key)) => {
            key.sign(data, params::context(parameter)?, params::hedge(parameter)?)?
        }
        (Scheme::SlhDsa, PrivateKey::SlhDsa(key)) => {
            key.sign(data, params::context(parameter)?, params::hedge(parameter)?)?
        }
        (Scheme::HashSlhDsa(hash), PrivateKey::SlhDsa(key)) => {
            let hash = params::pre_hash(hash, parameter)?;
            key.sign_digest(hash, data, params::context(parameter)?, params::hedge(parameter)?)?
        }
        (Scheme::HashMlDsa(hash), PrivateKey::MlDsa(key)) => {
            let hash = params::pre_hash(hash, parameter)?;
            key.sign_digest(hash, data, params::context(parameter)?, params::hedge(parameter)?)?
        }
        _ => return Err(Kind::KeyType.into()),
    };
    Ok(signature)
}

pub(super) fn verify(row: &Row, parameter: &Parameter, key: &Object, data: &[u8], signature: &[u8]) -> Result<()> {
    match (row.scheme, key.public_key()?) {
        (Scheme::RsaRaw, PublicKey::Rsa(key)) => key.verify_raw(data, signature)?,
        (Scheme::RsaPkcs1(None), PublicKey::Rsa(key)) => key.verify_pkcs1_raw(data, signature)?,
        (Scheme::RsaPkcs1(Some(hash)), PublicKey::Rsa(key)) => key.verify_pkcs1(hash, data, signature)?,
        (Scheme::RsaPss(hash), PublicKey::Rsa(key)) => {
            key.verify_pss(&params::pss(hash, parameter)?, data, signature)?
        }
        (Scheme::Ecdsa(_), PublicKey::Ec(key)) => key.verify(data, signature)?,
        (Scheme::EdDsa, PublicKey::Edwards(key)) => match eddsa_variant(parameter)? {
            None => key.verify(data, signature)?,
            Some((variant, context)) => key.verify_variant(variant, data, context, signature)?,
        },
        (Scheme::MlDsa, PublicKey::MlDsa(key)) => key.verify(data, params::context(parameter)?, signature)?,
        (Scheme::SlhDsa, PublicKey::SlhDsa(key)) => key.verify(data, params::context(parameter)?, signature)?,
        (Scheme::HashSlhDsa(hash), PublicKey::SlhDsa(key)) => {
            let hash = params::pre_hash(hash, parameter)?;
            key.verify_digest(hash, data, params::context(parameter)?, signature)?;
        }
        (Scheme::HashMlDsa(hash), PublicKey::MlDsa(key)) => {
            let hash = params::pre_hash(hash, parameter)?;
            key.verify_digest(hash, data, params::context(parameter)?, signature)?;
        }
        _ => return Err(Kind::KeyType.into()),
    }
    Ok(())
}

/// What an RSA signature carries.
pub(super) fn recover(row: &Row, key: &Object, signature: &[u8]) -> Result<Vec<u8>> {
    match (row.scheme, key.public_key()?) {
        (Scheme::RsaRaw, PublicKey::Rsa(key)) => Ok(key.recover_raw(signature)?),
        (Scheme::RsaPkcs1(None), PublicKey::Rsa(key)) => Ok(key.recover_pkcs1(signature)?),
        _ => Err(Kind::KeyType.into()),
    }
}

pub(super) fn encrypt(row: &Row, parameter: &Parameter, key: &Object, data: &[u8]) -> Result<Vec<u8>> {
    match row.scheme {
        Scheme::AesXts => Ok(xts(Direction::Encrypt, parameter, key, data)?.expose().to_vec()),
        Scheme::AesWrap { pad } => Ok(aes_wrap::wrap(wrap_form(pad, parameter)?, key.secret()?, data)?),
        Scheme::RsaRaw | Scheme::RsaPkcs1(None) | Scheme::RsaOaep => match key.public_key()? {
            PublicKey::Rsa(key) if row.scheme == Scheme::RsaOaep => {
                Ok(key.encrypt_oaep(&params::oaep(parameter)?, data)?)
            }
            PublicKey::Rsa(key) if row.scheme == Scheme::RsaRaw => Ok(key.encrypt_raw(data)?),
            PublicKey::Rsa(key) => Ok(key.encrypt_pkcs1(data)?),
            _ => Err(Kind::KeyType.into()),
        },
        _ => Err(Kind::Internal.into()),
    }
}

fn xts(direction: Direction, parameter: &Parameter, key: &Object, data: &[u8]) -> Result<SecretBytes> {
    let Parameter::Bytes(unit) = parameter else { return Err(Kind::MechanismParam.into()) };
    let unit = unit.as_slice().try_into().map_err(|_| Kind::MechanismParam)?;
    Ok(aes_xts::process(direction, key.secret()?, unit, data)?)
}

pub(super) fn decrypt(row: &Row, parameter: &Parameter, key: &Object, data: &[u8]) -> Result<Vec<u8>> {
    let plaintext = match row.scheme {
        Scheme::AesGcm => aes_gcm::Key::new(key.secret()?)?.decrypt(&gcm(parameter)?, data)?,
        Scheme::AesCcm => {
            let tag_len = ccm(parameter, None)?.tag_len();
            let len = data.len().checked_sub(tag_len).ok_or(Kind::EncryptedDataLength)?;
            let params = ccm(parameter, Some(len)).map_err(|error| match error.kind() {
                Kind::DataLength => Error::new(Kind::EncryptedDataLength, "ulDataLen announces another length"),
                _ => error,
            })?;
            aes_ccm::decrypt(key.secret()?, &params, data)?
        }
        Scheme::AesXts => xts(Direction::Decrypt, parameter, key, data)?,
        Scheme::AesWrap { pad } => {
            let invalid = |error| match error {
                crate::crypto::Error::WrappedKeyInvalid => Kind::EncryptedDataInvalid.into(),
                other => Error::from(other),
            };
            aes_wrap::unwrap(wrap_form(pad, parameter)?, key.secret()?, data).map_err(invalid)?
        }
        Scheme::RsaRaw | Scheme::RsaPkcs1(None) | Scheme::RsaOaep => match key.private_key()? {
            PrivateKey::Rsa(key) if row.scheme == Scheme::RsaOaep => {
                key.decrypt_oaep(&params::oaep(parameter)?, data)?
            }
            PrivateKey::Rsa(key) if row.scheme == Scheme::RsaRaw => key.decrypt_raw(data)?,
            PrivateKey::Rsa(key) => key.decrypt_pkcs1(data)?,
            _ => return Err(Kind::KeyType.into()),
        },
        _ => return Err(Kind::Internal.into()),
    };
    Ok(plaintext.expose().to_vec())
}
