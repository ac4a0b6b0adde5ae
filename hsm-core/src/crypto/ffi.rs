//! The calls to AWS-LC that `aws-lc-rs` does not offer: SHA-3 and the MACs over it, CMAC, raw RSA, free PSS and OAEP
//! parameters, ECDSA over a digest of any length, contexts in ML-DSA, ML-KEM from a seed, Ed25519ph,
//! Ed25519ctx and X25519, AES modes with state. It holds no
//! policy: sizes and exponents are judged by the callers.
//!
//! Here is what the primitives share, numbers and contexts; each primitive has its file in the folder.
//! Each C object has one owner type; every pointer that leaves a block is freed by that owner. After construction
//! the key objects are only read, which AWS-LC allows from many threads at once.
#![expect(unsafe_code, reason = "the one module of this room that calls the C library")]

use core::ffi::c_int;
use core::ptr;

use aws_lc_sys as c;

use super::{Curve, Error, Hash, Result};
use crate::SecretBytes;

mod aes;
mod curve25519;
mod digest;
mod ec;
mod mac;
mod ml_dsa;
mod ml_kem;
mod raw_key;
mod rsa;

pub(crate) use aes::Direction;
pub(super) use aes::{AesCipher, AesMode};
pub(crate) use curve25519::Variant;
pub(super) use curve25519::{sign as ed25519_sign, verify as ed25519_verify};
pub(super) use curve25519::{x25519, x25519_public};
pub(crate) use digest::Shake;
pub(super) use digest::{DigestState, ShakeState, digest, pbkdf2};
pub(super) use ec::EcKey;
pub(super) use mac::{CmacState, HmacState};
pub(super) use ml_dsa::{MlDsaKey, MlDsaSet};
pub(super) use ml_kem::{MlKemKey, MlKemSet};
pub(super) use rsa::{RsaKey, RsaNumbers, RsaPart, rsa_factors};

/// Empties the thread's queue of library errors, so that it neither grows nor confuses a later reader.
fn failed<T>(error: Error) -> Result<T> {
    // SAFETY: takes no arguments and touches only this thread's error queue.
    unsafe { c::ERR_clear_error() };
    Err(error)
}

fn check(code: c_int, error: Error) -> Result<()> {
    if code == 1 { Ok(()) } else { failed(error) }
}

fn c_len(len: usize, error: Error) -> Result<c_int> {
    c_int::try_from(len).map_err(|_| error)
}

fn md(hash: Hash) -> *const c::EVP_MD {
    // SAFETY: each function returns a pointer to a constant that lives as long as the program.
    unsafe {
        match hash {
            Hash::Md5 => c::EVP_md5(),
            Hash::Sha1 => c::EVP_sha1(),
            Hash::Sha224 => c::EVP_sha224(),
            Hash::Sha256 => c::EVP_sha256(),
            Hash::Sha384 => c::EVP_sha384(),
            Hash::Sha512 => c::EVP_sha512(),
            Hash::Sha512_224 => c::EVP_sha512_224(),
            Hash::Sha512_256 => c::EVP_sha512_256(),
            Hash::Sha3_224 => c::EVP_sha3_224(),
            Hash::Sha3_256 => c::EVP_sha3_256(),
            Hash::Sha3_384 => c::EVP_sha3_384(),
            Hash::Sha3_512 => c::EVP_sha3_512(),
        }
    }
}

fn digest_nid(hash: Hash) -> c_int {
    match hash {
        Hash::Md5 => c::NID_md5,
        Hash::Sha1 => c::NID_sha1,
        Hash::Sha224 => c::NID_sha224,
        Hash::Sha256 => c::NID_sha256,
        Hash::Sha384 => c::NID_sha384,
        Hash::Sha512 => c::NID_sha512,
        Hash::Sha512_224 => c::NID_sha512_224,
        Hash::Sha512_256 => c::NID_sha512_256,
        Hash::Sha3_224 => c::NID_sha3_224,
        Hash::Sha3_256 => c::NID_sha3_256,
        Hash::Sha3_384 => c::NID_sha3_384,
        Hash::Sha3_512 => c::NID_sha3_512,
    }
}

/// A non-negative integer, wiped when dropped.
struct BigNum(*mut c::BIGNUM);

impl BigNum {
    fn new() -> Result<Self> {
        // SAFETY: a null return is turned into an error; otherwise the new object is owned by the value.
        let number = unsafe { c::BN_new() };
        if number.is_null() { failed(Error::Internal) } else { Ok(BigNum(number)) }
    }

    fn from_be(bytes: &[u8]) -> Result<Self> {
        // SAFETY: pointer and length come from one slice; a null third argument asks for a new number, owned here.
        let number = unsafe { c::BN_bin2bn(bytes.as_ptr(), bytes.len(), ptr::null_mut()) };
        if number.is_null() { failed(Error::Internal) } else { Ok(BigNum(number)) }
    }

    /// Gives the number away to a C object that will free it.
    fn into_raw(self) -> *mut c::BIGNUM {
        let number = self.0;
        core::mem::forget(self);
        number
    }

    fn is_one(&self) -> bool {
        // SAFETY: the number is alive and only read.
        unsafe { c::BN_is_one(self.0) == 1 }
    }

    fn equals(&self, other: &BigNum) -> bool {
        // SAFETY: both numbers are alive and only read.
        unsafe { c::BN_cmp(self.0, other.0) == 0 }
    }

    fn minus_one(&self) -> Result<BigNum> {
        let result = BigNum::new()?;
        // SAFETY: both numbers are alive; the copy is changed, the original only read.
        let done = unsafe { !c::BN_copy(result.0, self.0).is_null() && c::BN_sub_word(result.0, 1) == 1 };
        if done { Ok(result) } else { failed(Error::Internal) }
    }

    fn is_odd(&self) -> bool {
        // SAFETY: the number is alive and only read.
        unsafe { c::BN_is_odd(self.0) == 1 }
    }

    fn halve(&mut self) -> Result<()> {
        // SAFETY: the number is alive; the function allows the result to be the operand.
        check(unsafe { c::BN_rshift1(self.0, self.0) }, Error::Internal)
    }

    fn to_secret(&self) -> Result<SecretBytes> {
        // SAFETY: the number is alive for the length of the borrow.
        unsafe { bytes_of(self.0) }
    }
}

impl Drop for BigNum {
    fn drop(&mut self) {
        // SAFETY: the number is owned by this value and freed once.
        unsafe { c::BN_clear_free(self.0) };
    }
}

/// The bytes of a number, big-endian without leading zeros; empty for a null pointer.
///
/// # Safety
/// `number` is null or points to a living BIGNUM.
unsafe fn bytes_of(number: *const c::BIGNUM) -> Result<SecretBytes> {
    if number.is_null() {
        return Ok(SecretBytes::zeroed(0));
    }
    // SAFETY: the caller vouches for the number.
    let len = unsafe { c::BN_num_bytes(number) } as usize;
    // SAFETY: the caller vouches for the number.
    unsafe { padded_bytes_of(number, len) }
}

/// The bytes of a number, big-endian, left-padded with zeros to `len`.
///
/// # Safety
/// `number` points to a living BIGNUM.
unsafe fn padded_bytes_of(number: *const c::BIGNUM, len: usize) -> Result<SecretBytes> {
    let mut out = SecretBytes::zeroed(len);
    // SAFETY: the caller vouches for the number; the buffer has `len` bytes.
    check(unsafe { c::BN_bn2bin_padded(out.expose_mut().as_mut_ptr(), len, number) }, Error::Internal)?;
    Ok(out)
}

/// Scratch memory of big-number functions.
struct Scratch(*mut c::BN_CTX);

impl Scratch {
    fn new() -> Result<Self> {
        // SAFETY: a null return is turned into an error; otherwise the new object is owned by the value.
        let scratch = unsafe { c::BN_CTX_new() };
        if scratch.is_null() { failed(Error::Internal) } else { Ok(Scratch(scratch)) }
    }

    fn quotient_and_remainder(&self, numerator: &BigNum, divisor: &BigNum) -> Result<(BigNum, BigNum)> {
        let (quotient, remainder) = (BigNum::new()?, BigNum::new()?);
        // SAFETY: all five objects are alive; the outputs are distinct from the inputs.
        let code = unsafe { c::BN_div(quotient.0, remainder.0, numerator.0, divisor.0, self.0) };
        check(code, Error::InvalidKey)?;
        Ok((quotient, remainder))
    }

    fn product(&self, a: &BigNum, b: &BigNum) -> Result<BigNum> {
        let result = BigNum::new()?;
        // SAFETY: all four objects are alive.
        check(unsafe { c::BN_mul(result.0, a.0, b.0, self.0) }, Error::Internal)?;
        Ok(result)
    }

    fn square_mod(&self, a: &BigNum, modulus: &BigNum) -> Result<BigNum> {
        let result = BigNum::new()?;
        // SAFETY: all four objects are alive.
        check(unsafe { c::BN_mod_mul(result.0, a.0, a.0, modulus.0, self.0) }, Error::InvalidKey)?;
        Ok(result)
    }

    fn power_mod(&self, base: &BigNum, exponent: &BigNum, modulus: &BigNum) -> Result<BigNum> {
        let result = BigNum::new()?;
        // SAFETY: all objects are alive; a null Montgomery context asks the function to make its own.
        let code =
            unsafe { c::BN_mod_exp_mont_consttime(result.0, base.0, exponent.0, modulus.0, self.0, ptr::null()) };
        check(code, Error::InvalidKey)?;
        Ok(result)
    }

    fn gcd(&self, a: &BigNum, b: &BigNum) -> Result<BigNum> {
        let result = BigNum::new()?;
        // SAFETY: all four objects are alive.
        check(unsafe { c::BN_gcd(result.0, a.0, b.0, self.0) }, Error::Internal)?;
        Ok(result)
    }

    fn inverse_mod(&self, a: &BigNum, modulus: &BigNum) -> Result<BigNum> {
        let result = BigNum::new()?;
        // SAFETY: all four objects are alive; the result pointer is ours, so the return value only says whether it worked.
        let inverse = unsafe { c::BN_mod_inverse(result.0, a.0, modulus.0, self.0) };
        if inverse.is_null() { failed(Error::InvalidKey) } else { Ok(result) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: the object is owned by this value and freed once.
        unsafe { c::BN_CTX_free(self.0) };
    }
}

/// Copies a buffer that the library allocated and gives it back; the library wipes what it frees.
///
/// # Safety
/// The library has just handed over `pointer`, a buffer of `len` bytes, and nobody else uses it.
unsafe fn take_buffer(pointer: *mut u8, len: usize) -> SecretBytes {
    // SAFETY: the caller vouches for the buffer.
    let copy = SecretBytes::copy_from(unsafe { core::slice::from_raw_parts(pointer, len) });
    // SAFETY: the caller vouches that the library allocated the buffer; it is freed once and not used again.
    unsafe { c::OPENSSL_free(pointer.cast()) };
    copy
}

/// A context of one operation with a key.
struct KeyContext(*mut c::EVP_PKEY_CTX);

impl KeyContext {
    /// # Safety
    /// `key` is alive; the context counts it.
    unsafe fn new(key: *mut c::EVP_PKEY) -> Result<Self> {
        // SAFETY: the caller vouches for the key; null is checked.
        let context = unsafe { c::EVP_PKEY_CTX_new(key, ptr::null_mut()) };
        if context.is_null() { failed(Error::Internal) } else { Ok(KeyContext(context)) }
    }
}

impl Drop for KeyContext {
    fn drop(&mut self) {
        // SAFETY: the context is owned by this value and freed once.
        unsafe { c::EVP_PKEY_CTX_free(self.0) };
    }
}

/// Sets the context string of a signature.
///
/// # Safety
/// `pctx` is the inner context of a living signing or verifying context.
unsafe fn set_context_string(pctx: *mut c::EVP_PKEY_CTX, context: &[u8]) -> Result<()> {
    if context.is_empty() {
        return Ok(());
    }
    // SAFETY: the caller vouches for the context; the bytes are copied.
    let code = unsafe { c::EVP_PKEY_CTX_set1_signature_context_string(pctx, context.as_ptr(), context.len()) };
    check(code, Error::InvalidParameter)
}

/// A context of one message-signing operation.
struct MessageContext(*mut c::EVP_MD_CTX);

impl MessageContext {
    fn new() -> Result<Self> {
        // SAFETY: null is checked; otherwise the new object is owned by the value.
        let context = unsafe { c::EVP_MD_CTX_new() };
        if context.is_null() { failed(Error::Internal) } else { Ok(MessageContext(context)) }
    }
}

impl Drop for MessageContext {
    fn drop(&mut self) {
        // SAFETY: the context is owned by this value and freed once.
        unsafe { c::EVP_MD_CTX_free(self.0) };
    }
}

/// Ends the call where a hash function of the library failed: it does so only when memory ran out.
fn must(code: c_int) {
    assert!(code == 1, "the hash function has no memory");
}
