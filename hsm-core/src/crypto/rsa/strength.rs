//! Which moduli and exponents are taken.

use core::ops::RangeInclusive;

use crate::crypto::ffi::{RsaKey, RsaPart};
use crate::crypto::{Error, Result};

/// The modulus lengths in bits that this room can work with.
pub(super) const MODULUS_BITS: RangeInclusive<u32> = 1024..=8192;

/// The least public exponent that is accepted; all are odd and have at most 33 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExponentRule {
    /// 65537 or more (FIPS 186-5).
    Modern,
    /// 3 or more: for old keys; which of them come in is decided above this room.
    Legacy,
}

impl ExponentRule {
    fn least(self) -> u64 {
        match self {
            ExponentRule::Modern => 65_537,
            ExponentRule::Legacy => 3,
        }
    }
}

pub(super) fn check_size(bits: u32) -> Result<()> {
    if MODULUS_BITS.contains(&bits) { Ok(()) } else { Err(Error::KeySize) }
}

/// The bytes from the first that is not zero.
pub(super) fn significant(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&byte| byte != 0).unwrap_or(bytes.len());
    &bytes[start..]
}

pub(super) fn check_modulus_len(n: &[u8]) -> Result<()> {
    if significant(n).len() > *MODULUS_BITS.end() as usize / 8 { Err(Error::KeySize) } else { Ok(()) }
}

/// Whether a public exponent, big-endian, keeps a rule.
///
/// # Errors
/// [`Error::InvalidKey`].
pub(crate) fn check_exponent(e: &[u8], rule: ExponentRule) -> Result<()> {
    let e = significant(e);
    if e.len() > 5 {
        return Err(Error::InvalidKey);
    }
    let value = e.iter().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
    if value >= rule.least() && value < 1 << 33 && value % 2 == 1 { Ok(()) } else { Err(Error::InvalidKey) }
}

/// Primes for which the moduli of CVE-2017-15361 always fall in the subgroup that 65537 generates. A random modulus does
/// so for all of them with a probability of 2⁻²⁸.
const FINGERPRINT_PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Whether the modulus has the form that the flawed generator of CVE-2017-15361 gives.
pub(super) fn is_from_flawed_generator(n: &[u8]) -> bool {
    FINGERPRINT_PRIMES.iter().all(|&prime| {
        let residue = n.iter().fold(0_u32, |rest, &byte| (rest << 8 | u32::from(byte)) % prime);
        let mut power = 1;
        (0..prime).any(|_| {
            power = power * (65_537 % prime) % prime;
            power == residue
        })
    })
}

pub(super) fn check_public_parts(key: &RsaKey, rule: ExponentRule) -> Result<()> {
    check_size(key.bits())?;
    check_exponent(key.part(RsaPart::E)?.expose(), rule)?;
    if is_from_flawed_generator(key.part(RsaPart::N)?.expose()) { Err(Error::InvalidKey) } else { Ok(()) }
}
