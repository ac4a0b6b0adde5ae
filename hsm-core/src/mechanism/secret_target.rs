//! The secret-target rule: under which keys and by which mechanisms a secret may leave the token.
//!
//! A key that whoever may see it could read anyway is wrapped as the standard allows. A sensitive one leaves only under a key that
//! does nothing but wrap, whose value nobody outside can know (or which the SO trusts), that is no weaker than the target, by a
//! mechanism that authenticates or is a dedicated key wrap. Each condition has its switch, and the refusal names it.

use ck::attribute::*;
use ck::object::*;

use super::params::{self, Parameter};
use super::row::{Row, Scheme};
use crate::config::PolicyConfig;
use crate::crypto::{Curve, Hash};
use crate::error::{Error, Kind, Result};
use crate::object::Object;
use crate::object::import::significant_bits;

/// Whether `target` may leave the token under `wrapping`.
///
/// # Errors
/// [`Kind::KeyUnextractable`], [`Kind::KeyNotWrappable`] with the rule that refuses and the switch that would allow it.
pub(crate) fn check(
    row: &Row,
    parameter: &Parameter,
    wrapping: &Object,
    target: &Object,
    policy: &PolicyConfig,
) -> Result<()> {
    if !target.attributes.flag(CKA_EXTRACTABLE) {
        return Err(Kind::KeyUnextractable.into());
    }
    if target.attributes.flag(CKA_WRAP_WITH_TRUSTED) && !wrapping.attributes.flag(CKA_TRUSTED) {
        return Err(Error::new(Kind::KeyNotWrappable, "the key wants a wrapping key with CKA_TRUSTED"));
    }
    if target.is_readable() {
        return Ok(());
    }
    check_role(wrapping, policy)?;
    check_origin(wrapping, policy)?;
    check_strength(parameter, wrapping, target, policy)?;
    check_mechanism(row, parameter, policy)
}

fn closed(switch: &'static str, why: &str) -> Result<()> {
    Err(Error::closed(Kind::KeyNotWrappable, switch, why))
}

/// A wrapping key has no other use: what wraps and decrypts gives the wrapped key away.
fn check_role(wrapping: &Object, policy: &PolicyConfig) -> Result<()> {
    let other_uses = [CKA_ENCRYPT, CKA_DECRYPT, CKA_SIGN, CKA_VERIFY, CKA_DERIVE];
    if policy.wrap_role_separation && other_uses.iter().any(|&usage| wrapping.attributes.flag(usage)) {
        return closed("policy.wrap_role_separation", "the wrapping key has other uses");
    }
    Ok(())
}

/// Nobody outside knows the wrapping key, or the SO vouches for it. Of a public key nobody knows who holds the other half.
fn check_origin(wrapping: &Object, policy: &PolicyConfig) -> Result<()> {
    if wrapping.attributes.flag(CKA_TRUSTED) {
        return Ok(());
    }
    if wrapping.class() == CKO_PUBLIC_KEY {
        return match policy.wrap_public_requires_trusted {
            true => closed("policy.wrap_public_requires_trusted", "a public wrapping key needs CKA_TRUSTED"),
            false => Ok(()),
        };
    }
    let history = [CKA_LOCAL, CKA_ALWAYS_SENSITIVE, CKA_NEVER_EXTRACTABLE];
    if policy.wrap_requires_local && !history.iter().all(|&fact| wrapping.attributes.flag(fact)) {
        return closed("policy.wrap_requires_local", "the wrapping key's value may be known outside");
    }
    Ok(())
}

fn check_strength(parameter: &Parameter, wrapping: &Object, target: &Object, policy: &PolicyConfig) -> Result<()> {
    if wrapping.attributes.key_type() == Some(CKK_RSA)
        && significant_bits(wrapping.attributes.bytes(CKA_MODULUS)) < u64::from(policy.wrap_rsa_min)
    {
        return closed("policy.wrap_rsa_min", "the RSA wrapping key is too short");
    }
    // The AES key that does the work: the wrapping key itself, or the one-time key that travels with the wrapped one.
    let aes_bits = match (parameter, wrapping.secret()) {
        (Parameter::RsaAesWrap { aes_bits, .. } | Parameter::EcdhAesWrap { aes_bits, .. }, _) => *aes_bits,
        (_, Ok(secret)) => 8 * secret.len() as u64,
        (_, Err(_)) => return Ok(()),
    };
    if policy.wrap_strength_check && aes_bits < strength_bits(target).min(256) {
        return closed("policy.wrap_strength_check", "the wrapping key is weaker than its target");
    }
    Ok(())
}

/// The security strength of a key in bits (SP 800-57 Part 1 Revision 5, §5.6.1.1, Table 2; for ML-DSA FIPS 204, Table 1). A key of a
/// kind that is not listed counts as the strongest.
fn strength_bits(key: &Object) -> u64 {
    let attributes = &key.attributes;
    if let Ok(secret) = key.secret() {
        return 8 * secret.len() as u64;
    }
    match attributes.key_type() {
        Some(CKK_RSA) => match significant_bits(attributes.bytes(CKA_MODULUS)) {
            ..3072 => 112,
            3072..7680 => 128,
            7680..15360 => 192,
            15360.. => 256,
        },
        Some(CKK_EC) => {
            let curve = Curve::from_params(attributes.bytes(CKA_EC_PARAMS));
            curve.map_or(256, |curve| u64::from(curve.order_bits()) / 2)
        }
        // A point of Curve25519 has 32 bytes, one of Curve448 has 56 or 57; in both forms of CKA_EC_POINT.
        Some(CKK_EC_EDWARDS | CKK_EC_MONTGOMERY) if attributes.bytes(CKA_EC_POINT).len() < 40 => 128,
        Some(CKK_ML_DSA) => match attributes.number(CKA_PARAMETER_SET).map(ParameterSet) {
            Some(CKP_ML_DSA_44) => 128,
            Some(CKP_ML_DSA_65) => 192,
            _ => 256,
        },
        _ => 256,
    }
}

/// Key wraps, OAEP with a hash of 256 bits or more, and our own: what cannot be bent or tried out.
fn check_mechanism(row: &Row, parameter: &Parameter, policy: &PolicyConfig) -> Result<()> {
    let sound = match (row.scheme, parameter) {
        (Scheme::AesWrap { .. } | Scheme::AeadWrap | Scheme::EcdhAesWrap, _) => true,
        (_, Parameter::RsaOaep { hash, .. } | Parameter::RsaAesWrap { hash, .. }) => {
            let short = matches!(params::hash(*hash)?, Hash::Sha1 | Hash::Sha224 | Hash::Sha512_224 | Hash::Sha3_224);
            if short && !policy.wrap_oaep_any_hash {
                return closed(
                    "policy.wrap_oaep_any_hash",
                    "OAEP with a hash under 256 bits is not for sensitive keys",
                );
            }
            true
        }
        _ => false,
    };
    let refused = || Error::new(Kind::KeyNotWrappable, "the mechanism is not for sensitive keys");
    if sound { Ok(()) } else { Err(refused()) }
}
