//! Private keys that are given away, as PKCS#8 (RFC 5958): put together in memory that is wiped.

use super::algorithm::KeySpec;
use super::tlv::{self, OCTET_STRING, SEQUENCE};
use cryptoki::object::Attribute;
use der::Encode;
use der::asn1::UintRef;
use spki::SubjectPublicKeyInfoOwned;
use zeroize::Zeroizing;

const BIT_STRING: u8 = 0x03;
const INTEGER_ZERO: &[u8] = &[0x02, 0x01, 0x00];
const INTEGER_ONE: &[u8] = &[0x02, 0x01, 0x01];
/// [0] IMPLICIT OCTET STRING: the seed of a key.
const SEED: u8 = 0x80;
/// Octets of an ML-KEM seed (FIPS 203).
const KEM_SEED_LEN: usize = 64;
/// [1], the public key in an ECPrivateKey (RFC 5915 section 3).
const EC_PUBLIC_KEY: u8 = 0xA1;

/// The PrivateKeyInfo of a key that a token gave attribute by attribute. `None` when an attribute is missing or another kind of key.
pub(crate) fn of_attributes(
    spec: KeySpec,
    spki: &SubjectPublicKeyInfoOwned,
    values: Vec<Attribute>,
) -> Option<Zeroizing<Vec<u8>>> {
    let parts: Vec<Zeroizing<Vec<u8>>> = values
        .into_iter()
        .map(|value| match value {
            Attribute::Value(bytes)
            | Attribute::Modulus(bytes)
            | Attribute::PublicExponent(bytes)
            | Attribute::PrivateExponent(bytes)
            | Attribute::Prime1(bytes)
            | Attribute::Prime2(bytes)
            | Attribute::Exponent1(bytes)
            | Attribute::Exponent2(bytes)
            | Attribute::Coefficient(bytes) => Some(Zeroizing::new(bytes)),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let key = match (spec, parts.as_slice()) {
        (KeySpec::EcP256, [scalar]) => ec(scalar, 32, spki)?,
        (KeySpec::EcP384, [scalar]) => ec(scalar, 48, spki)?,
        (KeySpec::EcP521, [scalar]) => ec(scalar, 66, spki)?,
        (KeySpec::Rsa { .. }, numbers) if numbers.len() == 8 => rsa(numbers)?,
        _ => return None,
    };
    let algorithm = spki.algorithm.to_der().ok()?;
    let key = wiped(OCTET_STRING, &[&key]);
    Some(wiped(SEQUENCE, &[INTEGER_ZERO, &algorithm, &key]))
}

/// The PrivateKeyInfo of an ML-KEM key as its seed, the form [0] of RFC 9935. `None` when a token gave something else.
pub(crate) fn of_seed(spki: &SubjectPublicKeyInfoOwned, values: Vec<Attribute>) -> Option<Zeroizing<Vec<u8>>> {
    let seed = values.into_iter().find_map(|value| match value {
        Attribute::Seed(seed) if seed.len() == KEM_SEED_LEN => Some(Zeroizing::new(seed)),
        _ => None,
    })?;
    let key = wiped(OCTET_STRING, &[&wiped(SEED, &[&seed])]);
    Some(wiped(SEQUENCE, &[INTEGER_ZERO, &spki.algorithm.to_der().ok()?, &key]))
}

/// ECPrivateKey with the public key, without parameters: they stand in the algorithm.
fn ec(scalar: &[u8], size_bytes: usize, spki: &SubjectPublicKeyInfoOwned) -> Option<Zeroizing<Vec<u8>>> {
    let significant = &scalar[scalar.iter().take_while(|byte| **byte == 0).count()..];
    let mut padded = Zeroizing::new(vec![0; size_bytes.checked_sub(significant.len())?]);
    padded.extend_from_slice(significant);
    let point = wiped(BIT_STRING, &[&[0], spki.subject_public_key.raw_bytes()]);
    let public = wiped(EC_PUBLIC_KEY, &[&point]);
    Some(wiped(SEQUENCE, &[INTEGER_ONE, &wiped(OCTET_STRING, &[&padded]), &public]))
}

/// RSAPrivateKey (RFC 8017 appendix A.1.2).
fn rsa(numbers: &[Zeroizing<Vec<u8>>]) -> Option<Zeroizing<Vec<u8>>> {
    let mut integers = Zeroizing::new(INTEGER_ZERO.to_vec());
    for number in numbers {
        let integer = Zeroizing::new(UintRef::new(number).and_then(|number| number.to_der()).ok()?);
        // Grown by hand: a vector that grows by itself leaves its old self behind.
        let mut grown = Zeroizing::new(Vec::with_capacity(integers.len() + integer.len()));
        grown.extend_from_slice(&integers);
        grown.extend_from_slice(&integer);
        integers = grown;
    }
    Some(wiped(SEQUENCE, &[&integers]))
}

/// One element in memory that is wiped. It is written at its full length, so that nothing of it stays behind elsewhere.
fn wiped(tag: u8, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(tlv::write(tag, parts))
}
