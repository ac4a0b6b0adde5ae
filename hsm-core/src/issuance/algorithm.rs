//! How a guarded key may sign, and what a structure must call it (RFC 3279, RFC 4055, RFC 5758, RFC 8410, RFC 9881): only mechanisms that
//! take the whole message, with a hash that certificates are signed with today.

use const_oid::ObjectIdentifier;
use der::Encode;

use crate::crypto::{Hash, PrivateKey, digest, eddsa, rsa};
use crate::error::{Error, Kind, Result};
use crate::mechanism::params::{self, Parameter};
use crate::mechanism::row::Scheme;
use crate::object::Object;

/// sha256WithRSAEncryption, sha384WithRSAEncryption, sha512WithRSAEncryption; each is followed by NULL.
const RSA_PKCS1: [(Hash, ObjectIdentifier); 3] = [
    (Hash::Sha256, ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11")),
    (Hash::Sha384, ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12")),
    (Hash::Sha512, ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13")),
];
/// ecdsa-with-SHA256, ecdsa-with-SHA384, ecdsa-with-SHA512.
const ECDSA: [(Hash, ObjectIdentifier); 3] = [
    (Hash::Sha256, ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2")),
    (Hash::Sha384, ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3")),
    (Hash::Sha512, ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4")),
];
/// The hashes themselves, inside the parameters of RSASSA-PSS.
const HASHES: [(Hash, ObjectIdentifier); 3] = [
    (Hash::Sha256, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1")),
    (Hash::Sha384, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2")),
    (Hash::Sha512, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3")),
];
const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const MGF1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.8");
const NULL: &[u8] = &[5, 0];

/// The AlgorithmIdentifiers that may stand for a signature with this scheme, parameter and key.
///
/// # Errors
/// [`Kind::MechanismInvalid`] for a mechanism with which a guarded key does not sign, [`Kind::MechanismParam`] for a parameter that
/// certificates have no name for.
pub(crate) fn identifiers(scheme: Scheme, parameter: &Parameter, key: &Object) -> Result<Vec<Vec<u8>>> {
    match (scheme, key.private_key()?) {
        (Scheme::RsaPkcs1(Some(hash)), PrivateKey::Rsa(_)) => Ok(vec![identifier(named(&RSA_PKCS1, hash)?, NULL)?]),
        (Scheme::Ecdsa(Some(hash)), PrivateKey::Ec(_)) => Ok(vec![identifier(named(&ECDSA, hash)?, &[])?]),
        (Scheme::EdDsa, PrivateKey::Edwards(_)) if matches!(parameter, Parameter::None) => {
            Ok(vec![identifier(eddsa::OID, &[])?])
        }
        (Scheme::MlDsa, PrivateKey::MlDsa(key)) if params::context(parameter)?.is_empty() => {
            Ok(vec![identifier(key.set().oid(), &[])?])
        }
        (Scheme::RsaPss(Some(hash)), PrivateKey::Rsa(_)) => {
            let params = params::pss(Some(hash), parameter)?;
            [NULL, &[]].into_iter().map(|null| identifier(RSA_PSS, &pss_params(&params, null)?)).collect()
        }
        (Scheme::EdDsa | Scheme::MlDsa, _) => Err(Error::new(
            Kind::MechanismParam,
            "a key with an issuance policy signs in the pure form, without a context",
        )),
        _ => Err(refused()),
    }
}

/// The digest that the scheme signs, or the message itself.
pub(crate) fn digested(scheme: Scheme, message: &[u8]) -> Vec<u8> {
    match scheme {
        Scheme::RsaPkcs1(Some(hash)) | Scheme::RsaPss(Some(hash)) | Scheme::Ecdsa(Some(hash)) => {
            digest::digest(hash, message)
        }
        _ => message.to_vec(),
    }
}

fn refused() -> Error {
    let what = "a key with an issuance policy signs with ECDSA, RSA, EdDSA or ML-DSA over whole messages, with SHA-2";
    Error::new(Kind::MechanismInvalid, what)
}

fn named(table: &[(Hash, ObjectIdentifier)], hash: Hash) -> Result<ObjectIdentifier> {
    table.iter().find(|(known, _)| *known == hash).map(|(_, oid)| *oid).ok_or_else(refused)
}

fn identifier(oid: ObjectIdentifier, parameters: &[u8]) -> Result<Vec<u8>> {
    sequence(0x30, &[&oid_der(oid)?, parameters])
}

fn oid_der(oid: ObjectIdentifier) -> Result<Vec<u8>> {
    oid.to_der().map_err(|_| Kind::Internal.into())
}

/// RSASSA-PSS-params (RFC 4055 section 3.1): every value is above its default, but for the trailer.
fn pss_params(params: &rsa::Pss, null: &[u8]) -> Result<Vec<u8>> {
    let hash = |hash| sequence(0x30, &[&oid_der(named(&HASHES, hash)?)?, null]);
    let salt = u8::try_from(params.salt_len).ok().filter(|len| *len < 0x80);
    let salt = salt.ok_or_else(|| Error::new(Kind::MechanismParam, "the salt is longer than certificates want"))?;
    let mask = sequence(0x30, &[&oid_der(MGF1)?, &hash(params.mgf)?])?;
    let salt = if salt == 20 { Vec::new() } else { sequence(0xa2, &[&[2, 1, salt]])? };
    sequence(0x30, &[&sequence(0xa0, &[&hash(params.hash)?])?, &sequence(0xa1, &[&mask])?, &salt])
}

/// Parts under a tag; all of them together are short.
fn sequence(tag: u8, parts: &[&[u8]]) -> Result<Vec<u8>> {
    let contents = parts.concat();
    let len = u8::try_from(contents.len()).ok().filter(|len| *len < 0x80).ok_or_else(|| Error::from(Kind::Internal))?;
    Ok([&[tag, len], contents.as_slice()].concat())
}
