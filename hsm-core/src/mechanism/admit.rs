//! May this key, with this mechanism, do this? Pure questions over the table, the key's attributes and the policy; whatever a client
//! believed, every operation passes here.

use ck::Mechanism;
use ck::attribute::*;
use ck::object::*;
use ck::parameter::CKG_NO_GENERATE;

use super::kdf::Ingredients;
use super::params::{MechanismCall, Parameter, ParameterKind};
use super::purpose::Use;
use super::row::{Class, Row, Scheme, Secrecy};
use super::{Mechanisms, WEAK_RSA_BITS, approved, period};
use crate::clock::Clock;
use crate::config::{PolicyConfig, Profile};
use crate::error::{Error, Kind, Result};
use crate::object::import::significant_bits;
use crate::object::{Attributes, Object, Value};

/// Finds the row and checks function, parameter shape and policy.
///
/// # Errors
/// [`Kind::MechanismInvalid`] or [`Kind::MechanismParam`].
pub(crate) fn mechanism(mechanisms: &Mechanisms, call: &MechanismCall, purpose: Use) -> Result<&'static Row> {
    let row = mechanisms.row(call.kind)?;
    let (flag, _, _) = purpose.row();
    if mechanisms.flags(row) & flag == 0 {
        let what = format!("{} is not for this function", call.kind);
        return Err(match mechanisms.switch_for(row, flag) {
            Some(switch) => Error::closed(Kind::MechanismInvalid, switch, what),
            None => Error::new(Kind::MechanismInvalid, what),
        });
    }
    purpose.parameter(row).check(&call.parameter)?;
    if mechanisms.are_approved_only() {
        approved::check_parameter(purpose, &call.parameter)?;
    }
    Ok(row)
}

/// Checks what policy says of a parameter: the shortest MAC and GCM tag.
///
/// # Errors
/// [`Kind::MechanismParam`] naming the switch.
pub(crate) fn parameter(row: &Row, purpose: Use, parameter: &Parameter, policy: &PolicyConfig) -> Result<()> {
    const PROFILE: &str = "policy.profile = \"strict\"";
    let strict = policy.profile == Profile::Strict;
    match parameter {
        Parameter::Gcm { .. } | Parameter::Ccm { .. } if strict && matches!(purpose, Use::Encrypt | Use::Sign) => {
            Err(Error::closed(Kind::MechanismParam, PROFILE, "no IV of the caller's is taken"))
        }
        Parameter::AeadMessage { generator, .. }
            if strict && purpose == Use::MessageEncrypt && *generator == CKG_NO_GENERATE.0 =>
        {
            Err(Error::closed(Kind::MechanismParam, PROFILE, "no IV of the caller's is taken"))
        }
        Parameter::None if strict && purpose == Use::Decrypt && row.scheme == Scheme::RsaPkcs1(None) => {
            Err(Error::closed(Kind::MechanismInvalid, PROFILE, "PKCS#1 v1.5 is not decrypted"))
        }
        Parameter::MacLen(len) if *len < u64::from(policy.mac_min_bytes) => {
            let what = format!("a MAC of {len} bytes is too short for {}", row.number);
            Err(Error::closed(Kind::MechanismParam, "policy.mac_min_bytes", what))
        }
        Parameter::Bytes(_) if strict && purpose == Use::Sign && row.scheme == Scheme::AesGmac => {
            Err(Error::closed(Kind::MechanismParam, PROFILE, "no IV of the caller's is taken"))
        }
        Parameter::Ccm { mac_len, .. } if *mac_len < u64::from(policy.mac_min_bytes) => {
            let what = format!("a tag of {mac_len} bytes is too short");
            Err(Error::closed(Kind::MechanismParam, "policy.mac_min_bytes", what))
        }
        Parameter::AeadMessage { tag_bits, .. }
            if row.scheme == Scheme::AesCcm && *tag_bits < 8 * u64::from(policy.mac_min_bytes) =>
        {
            let what = format!("a tag of {tag_bits} bits is too short");
            Err(Error::closed(Kind::MechanismParam, "policy.mac_min_bytes", what))
        }
        Parameter::Gcm { tag_bits, .. } | Parameter::AeadMessage { tag_bits, .. }
            if row.scheme != Scheme::AesCcm && *tag_bits < u64::from(policy.gcm_min_tag_bits) =>
        {
            let what = format!("a tag of {tag_bits} bits is too short");
            Err(Error::closed(Kind::MechanismParam, "policy.gcm_min_tag_bits", what))
        }
        _ => Ok(()),
    }
}

/// Checks that the key goes with the row and that its attributes permit the use.
///
/// # Errors
/// [`Kind::KeyType`] (or its wrapping form), [`Kind::KeySize`], [`Kind::KeyFunction`], [`Kind::MechanismInvalid`] when
/// CKA_ALLOWED_MECHANISMS does not list the mechanism.
pub(crate) fn key(mechanisms: &Mechanisms, row: &Row, object: &Object, purpose: Use, clock: &dyn Clock) -> Result<()> {
    let (_, usage, wrong_type) = purpose.row();
    let attributes = &object.attributes;
    let key_type = attributes.key_type();
    if !object.is_key() || !row.key_types.iter().any(|&taken| Some(taken) == key_type) {
        return Err(Error::new(wrong_type, format!("{} does not take a key of type {key_type:?}", row.number)));
    }
    if !class_fits(purpose, object) {
        return Err(Error::new(wrong_type, format!("{} of class {} is the wrong half", row.number, object.class())));
    }
    if let Some(usage) = usage
        && !attributes.flag(usage)
    {
        return Err(Error::new(Kind::KeyFunction, format!("{usage} is false")));
    }
    if object.issuance_policy().is_some() && purpose != Use::Sign {
        return Err(Error::new(
            Kind::KeyFunction,
            "a key with an issuance policy signs certificates, and nothing else",
        ));
    }
    check_allowed(attributes, row.number)?;
    period::check(attributes, purpose, clock)?;
    if mechanisms.are_approved_only() {
        approved::check_key(object)?;
    }
    check_size(mechanisms.sizes(row), unit(row), object)
}

/// Public keys encrypt, verify, wrap and encapsulate; private keys do the rest; secret keys do either.
fn class_fits(purpose: Use, object: &Object) -> bool {
    match object.class() {
        CKO_PUBLIC_KEY => {
            let verifies = matches!(purpose, Use::Verify | Use::VerifyRecover | Use::MessageVerify);
            verifies || matches!(purpose, Use::Encrypt | Use::Wrap | Use::Encapsulate)
        }
        CKO_PRIVATE_KEY => {
            let signs = matches!(purpose, Use::Sign | Use::SignRecover | Use::MessageSign);
            signs || matches!(purpose, Use::Decrypt | Use::Unwrap | Use::Derive | Use::Decapsulate)
        }
        class => class == CKO_SECRET_KEY,
    }
}

fn check_allowed(attributes: &Attributes, number: Mechanism) -> Result<()> {
    match attributes.get(CKA_ALLOWED_MECHANISMS) {
        Some(Value::Ulongs(allowed)) if !allowed.contains(&number.0) => {
            Err(Error::new(Kind::MechanismInvalid, format!("CKA_ALLOWED_MECHANISMS does not list {number}")))
        }
        Some(Value::Empty) => Err(Error::new(Kind::MechanismInvalid, "CKA_ALLOWED_MECHANISMS is empty")),
        _ => Ok(()),
    }
}

fn check_size((min, max): (u64, u64), unit: u64, object: &Object) -> Result<()> {
    let size = match object.attributes.key_type() {
        Some(CKK_RSA) => significant_bits(object.attributes.bytes(CKA_MODULUS)),
        Some(CKK_EC | CKK_EC_EDWARDS | CKK_EC_MONTGOMERY | CKK_ML_DSA | CKK_ML_KEM | CKK_SLH_DSA) | None => {
            return Ok(());
        }
        Some(_) => object.secret().map_or(0, <[u8]>::len) as u64 * unit,
    };
    // A public key of an older system may be shorter than what is generated here: it only verifies and encrypts.
    let floor = if object.class() == CKO_PUBLIC_KEY { min.min(WEAK_RSA_BITS) } else { min };
    if (floor..=max).contains(&size) { Ok(()) } else { Err(Kind::KeySize.into()) }
}

/// How many units of a row's sizes a byte of a secret key is: SP 800-108 counts bits (PKCS#11 3.2 §6.42).
fn unit(row: &Row) -> u64 {
    if row.parameter == ParameterKind::Kbkdf { 8 } else { 1 }
}

/// The shortest key that a guarded one may become, in bytes: 112 bits.
const DERIVED_MIN: usize = 14;

/// Whether a derivation may give a key of this length, and whether the child takes its secrecy from the keys it comes from.
///
/// A base key that whoever sees it could read anyway is derived from as the standard allows. A guarded one gives no child so short
/// that it can be guessed, because guessing children of one, two, three bytes would read a longer one. The old derivations show
/// their base key or what everybody can compute, so they also ask that the base key does nothing else and that nothing is cut off.
///
/// # Errors
/// [`Kind::KeySize`], [`Kind::KeyFunction`].
pub(crate) fn derive(
    row: &Row,
    ingredients: &Ingredients<'_>,
    len: usize,
    child_is_readable: bool,
    policy: &PolicyConfig,
) -> Result<Secrecy> {
    let secrecy = match row.scheme {
        Scheme::Derive(..) if policy.profile == Profile::Strict => Secrecy::Inherited,
        Scheme::Derive(_, secrecy) => secrecy,
        // An agreement: clients read its result, which tells no more of the private key than a decryption does.
        _ => Secrecy::AsAsked,
    };
    let keys = || core::iter::once(ingredients.base).chain(ingredients.others.iter().map(|key| &**key));
    if !policy.derived_key_check || keys().all(Object::is_readable) {
        return Ok(secrecy);
    }
    let refuse = |kind, what: String| Err(Error::closed(kind, "policy.derived_key_check", what));
    if len < DERIVED_MIN && (secrecy == Secrecy::Inherited || !child_is_readable) {
        return refuse(Kind::KeySize, format!("a key of {len} bytes could be guessed: {DERIVED_MIN} at least"));
    }
    if row.class == Class::LegacyDerive {
        if keys().any(|key| key.attributes.flag(CKA_ENCRYPT) || key.attributes.flag(CKA_DECRYPT)) {
            let what = "a sensitive base key that encrypts or decrypts is not derived from";
            return refuse(Kind::KeyFunction, what.to_owned());
        }
        let whole = ingredients.whole_len()?;
        if len < whole {
            return refuse(Kind::KeySize, format!("{len} bytes would be a piece of a secret of {whole}"));
        }
    }
    Ok(secrecy)
}
