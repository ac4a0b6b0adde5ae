//! May this key, with this mechanism, do this? Pure questions over the table, the key's attributes and the policy; whatever a client
//! believed, every operation passes here.

use ck::attribute::*;
use ck::object::*;
use ck::{Attribute, Mechanism, flags};

use super::Mechanisms;
use super::params::{MechanismCall, Parameter};
use super::table::{Class, Row, Scheme};
use crate::config::{PolicyConfig, Profile};
use crate::error::{Error, Kind, Result};
use crate::object::import::significant_bits;
use crate::object::{Attributes, Object, Value};

/// What is to be done: the function's flag in the mechanism table and the key's usage attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// C_Encrypt*.
    Encrypt,
    /// C_Decrypt*.
    Decrypt,
    /// C_Sign*.
    Sign,
    /// C_Verify*.
    Verify,
    /// C_Digest*, without a key.
    Digest,
    /// C_WrapKey, of the wrapping key.
    Wrap,
    /// C_UnwrapKey, of the unwrapping key.
    Unwrap,
    /// C_DeriveKey, of the base key.
    Derive,
    /// C_GenerateKey.
    Generate,
    /// C_GenerateKeyPair.
    GeneratePair,
}

impl Use {
    /// One row per use: mechanism flag, usage attribute, and the error for a key of another type.
    const fn row(self) -> (u64, Option<Attribute>, Kind) {
        match self {
            Use::Encrypt => (flags::mechanism::CKF_ENCRYPT, Some(CKA_ENCRYPT), Kind::KeyType),
            Use::Decrypt => (flags::mechanism::CKF_DECRYPT, Some(CKA_DECRYPT), Kind::KeyType),
            Use::Sign => (flags::mechanism::CKF_SIGN, Some(CKA_SIGN), Kind::KeyType),
            Use::Verify => (flags::mechanism::CKF_VERIFY, Some(CKA_VERIFY), Kind::KeyType),
            Use::Digest => (flags::mechanism::CKF_DIGEST, None, Kind::KeyType),
            Use::Wrap => (flags::mechanism::CKF_WRAP, Some(CKA_WRAP), Kind::WrappingKeyType),
            Use::Unwrap => (flags::mechanism::CKF_UNWRAP, Some(CKA_UNWRAP), Kind::UnwrappingKeyType),
            Use::Derive => (flags::mechanism::CKF_DERIVE, Some(CKA_DERIVE), Kind::KeyType),
            Use::Generate => (flags::mechanism::CKF_GENERATE, None, Kind::KeyType),
            Use::GeneratePair => (flags::mechanism::CKF_GENERATE_KEY_PAIR, None, Kind::KeyType),
        }
    }
}

/// Finds the row and checks function, parameter shape and policy.
///
/// # Errors
/// [`Kind::MechanismInvalid`] or [`Kind::MechanismParam`].
pub(crate) fn mechanism(mechanisms: &Mechanisms, call: &MechanismCall, purpose: Use) -> Result<&'static Row> {
    let row = mechanisms.row(call.kind)?;
    let (flag, _, _) = purpose.row();
    if mechanisms.flags(row) & flag == 0 {
        let switch = if row.class == Class::VerifyOnly { " (algorithms.allow_sha1_signing)" } else { "" };
        return Err(Error::new(Kind::MechanismInvalid, format!("{} is not for this function{switch}", call.kind)));
    }
    row.parameter.check(&call.parameter)?;
    Ok(row)
}

/// Checks what policy says of a parameter: the shortest MAC and GCM tag.
///
/// # Errors
/// [`Kind::MechanismParam`] naming the switch.
pub(crate) fn parameter(row: &Row, purpose: Use, parameter: &Parameter, policy: &PolicyConfig) -> Result<()> {
    let refuse = |what: String| Err(Error::new(Kind::MechanismParam, what));
    let strict = policy.profile == Profile::Strict;
    match parameter {
        Parameter::Gcm { .. } if strict && purpose == Use::Encrypt => {
            refuse("policy.profile = \"strict\" takes no IV of the caller's".to_owned())
        }
        Parameter::None if strict && purpose == Use::Decrypt && row.scheme == Scheme::RsaPkcs1(None) => {
            Err(Error::new(Kind::MechanismInvalid, "policy.profile = \"strict\" does not decrypt PKCS#1 v1.5"))
        }
        Parameter::MacLen(len) if *len < u64::from(policy.mac_min_bytes) => {
            refuse(format!("a MAC of {len} bytes is too short for {} (policy.mac_min_bytes)", row.number))
        }
        Parameter::Gcm { tag_bits, .. } if *tag_bits < u64::from(policy.gcm_min_tag_bits) => {
            refuse(format!("a tag of {tag_bits} bits is too short (policy.gcm_min_tag_bits)"))
        }
        _ => Ok(()),
    }
}

/// Checks that the key goes with the row and that its attributes permit the use.
///
/// # Errors
/// [`Kind::KeyType`] (or its wrapping form), [`Kind::KeySize`], [`Kind::KeyFunction`], [`Kind::MechanismInvalid`] when
/// CKA_ALLOWED_MECHANISMS does not list the mechanism.
pub(crate) fn key(row: &Row, object: &Object, purpose: Use) -> Result<()> {
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
    check_allowed(attributes, row.number)?;
    check_size(row, object)
}

/// Public keys encrypt, verify and wrap; private keys do the rest; secret keys do either.
fn class_fits(purpose: Use, object: &Object) -> bool {
    match object.class() {
        CKO_PUBLIC_KEY => matches!(purpose, Use::Encrypt | Use::Verify | Use::Wrap),
        CKO_PRIVATE_KEY => matches!(purpose, Use::Decrypt | Use::Sign | Use::Unwrap | Use::Derive),
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

fn check_size(row: &Row, object: &Object) -> Result<()> {
    let size = match object.attributes.key_type() {
        Some(CKK_RSA) => significant_bits(object.attributes.bytes(CKA_MODULUS)),
        Some(CKK_EC | CKK_EC_EDWARDS | CKK_ML_DSA) | None => return Ok(()),
        Some(_) => object.secret().map_or(0, <[u8]>::len) as u64,
    };
    let (min, max) = row.sizes;
    // A public key of an older system may be shorter than what is generated here: it only verifies and encrypts.
    let floor = if object.class() == CKO_PUBLIC_KEY { min.min(1024) } else { min };
    if (floor..=max).contains(&size) { Ok(()) } else { Err(Kind::KeySize.into()) }
}

/// Whether a key may leave the token wrapped under this key by this mechanism: the secret-target rule.
///
/// A key that whoever may see it could read anyway is wrapped as the standard allows. A sensitive one leaves only under a key that
/// does nothing but wrap, whose value nobody outside can know (or which the SO trusts), that is no weaker than the target, by a
/// mechanism that authenticates or is a dedicated key wrap.
///
/// # Errors
/// [`Kind::KeyUnextractable`], [`Kind::KeyNotWrappable`] with the rule that refuses and the switch that would allow it.
pub(crate) fn wrap(row: &Row, wrapping: &Object, target: &Object, policy: &PolicyConfig) -> Result<()> {
    if !target.attributes.flag(CKA_EXTRACTABLE) {
        return Err(Kind::KeyUnextractable.into());
    }
    let trusted = wrapping.attributes.flag(CKA_TRUSTED);
    if target.attributes.flag(CKA_WRAP_WITH_TRUSTED) && !trusted {
        return Err(Error::new(Kind::KeyNotWrappable, "the key wants a wrapping key with CKA_TRUSTED"));
    }
    if target.is_readable() {
        return Ok(());
    }
    let refuse = |why: &str| Err(Error::new(Kind::KeyNotWrappable, why));
    let attributes = &wrapping.attributes;
    let other_uses = [CKA_ENCRYPT, CKA_DECRYPT, CKA_SIGN, CKA_VERIFY, CKA_DERIVE];
    if policy.wrap_role_separation && other_uses.iter().any(|&usage| attributes.flag(usage)) {
        return refuse("the wrapping key has other uses (policy.wrap_role_separation)");
    }
    if wrapping.class() == CKO_PUBLIC_KEY {
        if policy.wrap_public_requires_trusted && !trusted {
            return refuse("a public wrapping key needs CKA_TRUSTED (policy.wrap_public_requires_trusted)");
        }
        if significant_bits(attributes.bytes(CKA_MODULUS)) < u64::from(policy.wrap_rsa_min) {
            return refuse("the RSA wrapping key is too short (policy.wrap_rsa_min)");
        }
    } else {
        let history = [CKA_LOCAL, CKA_ALWAYS_SENSITIVE, CKA_NEVER_EXTRACTABLE];
        if policy.wrap_requires_local && !trusted && !history.iter().all(|&fact| attributes.flag(fact)) {
            return refuse("the wrapping key's value may be known outside (policy.wrap_requires_local)");
        }
        let shorter = wrapping.secret().map_or(0, <[u8]>::len) < target.secret().map_or(16, <[u8]>::len).min(32);
        if policy.wrap_strength_check && shorter {
            return refuse("the wrapping key is shorter than its target (policy.wrap_strength_check)");
        }
    }
    match row.scheme {
        Scheme::AesWrap { .. } | Scheme::RsaOaep => Ok(()),
        _ => refuse("the mechanism is no key wrap"),
    }
}
