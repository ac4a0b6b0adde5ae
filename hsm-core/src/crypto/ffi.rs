//! The calls to AWS-LC that `aws-lc-rs` does not offer: SHA-3 and the MACs over it, CMAC, raw RSA, free PSS and OAEP
//! parameters, ECDSA over a digest of any length, contexts in ML-DSA, ML-KEM from a seed, Ed25519ph,
//! Ed25519ctx and X25519, AES modes with state. It holds no
//! policy: sizes and exponents are judged by the callers.
//!
//! Each C object has one owner type here; every pointer that leaves a block is freed by that owner. After construction
//! the key objects are only read, which AWS-LC allows from many threads at once.
#![expect(unsafe_code, reason = "the one module of this room that calls the C library")]

use core::ffi::{c_int, c_uint};
use core::ptr;

use aws_lc_sys as c;

use super::{Error, Hash, Result};
use crate::SecretBytes;

mod curve25519;
mod ml_kem;

pub(crate) use curve25519::Variant;
pub(super) use curve25519::{sign as ed25519_sign, verify as ed25519_verify};
pub(super) use curve25519::{x25519, x25519_public};
pub(super) use ml_kem::{MlKemKey, MlKemSet};

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

/// The numbers of an RSA private key, big-endian; `dp`, `dq` and `qinv` are computed when they are empty.
pub(super) struct RsaNumbers<'a> {
    pub(super) n: &'a [u8],
    pub(super) e: &'a [u8],
    pub(super) d: &'a [u8],
    pub(super) p: &'a [u8],
    pub(super) q: &'a [u8],
    pub(super) dp: &'a [u8],
    pub(super) dq: &'a [u8],
    pub(super) qinv: &'a [u8],
}

/// Which number of an RSA key.
#[derive(Clone, Copy)]
pub(super) enum RsaPart {
    N,
    E,
    D,
    P,
    Q,
    Dp,
    Dq,
    Qinv,
}

/// An RSA key, public or private, never changed after construction.
pub(super) struct RsaKey(*mut c::RSA);

// SAFETY: AWS-LC's RSA object may be moved between threads; it holds no thread-local state.
unsafe impl Send for RsaKey {}
// SAFETY: sign, verify, encrypt and decrypt are documented as safe for concurrent use of one key; its caches are locked.
unsafe impl Sync for RsaKey {}

impl RsaKey {
    fn own(key: *mut c::RSA) -> Result<Self> {
        if key.is_null() { failed(Error::InvalidKey) } else { Ok(RsaKey(key)) }
    }

    pub(super) fn generate(bits: u32, exponent: &[u8]) -> Result<Self> {
        let exponent = BigNum::from_be(exponent)?;
        let bits = c_int::try_from(bits).map_err(|_| Error::KeySize)?;
        // SAFETY: a null return is turned into an error by `own`.
        let key = RsaKey::own(unsafe { c::RSA_new() })?;
        // SAFETY: key and exponent are alive; a null callback is allowed.
        check(unsafe { c::RSA_generate_key_ex(key.0, bits, exponent.0, ptr::null_mut()) }, Error::Internal)?;
        Ok(key)
    }

    pub(super) fn public(n: &[u8], e: &[u8]) -> Result<Self> {
        let (n, e) = (BigNum::from_be(n)?, BigNum::from_be(e)?);
        // SAFETY: both numbers are alive; the function copies them.
        RsaKey::own(unsafe { c::RSA_new_public_key(n.0, e.0) })
    }

    pub(super) fn private(numbers: &RsaNumbers<'_>) -> Result<Self> {
        let n = BigNum::from_be(numbers.n)?;
        let e = BigNum::from_be(numbers.e)?;
        let d = BigNum::from_be(numbers.d)?;
        let p = BigNum::from_be(numbers.p)?;
        let q = BigNum::from_be(numbers.q)?;
        let scratch = Scratch::new()?;
        let given = !numbers.dp.is_empty() && !numbers.dq.is_empty() && !numbers.qinv.is_empty();
        let (dp, dq, qinv) = if given {
            (BigNum::from_be(numbers.dp)?, BigNum::from_be(numbers.dq)?, BigNum::from_be(numbers.qinv)?)
        } else {
            let (_, dp) = scratch.quotient_and_remainder(&d, &p.minus_one()?)?;
            let (_, dq) = scratch.quotient_and_remainder(&d, &q.minus_one()?)?;
            (dp, dq, scratch.inverse_mod(&q, &p)?)
        };
        // SAFETY: all eight numbers are alive; the function copies and checks them.
        RsaKey::own(unsafe { c::RSA_new_private_key(n.0, e.0, d.0, p.0, q.0, dp.0, dq.0, qinv.0) })
    }

    pub(super) fn private_from_der(der: &[u8]) -> Result<Self> {
        // SAFETY: pointer and length come from one slice, which is only read.
        RsaKey::own(unsafe { c::RSA_private_key_from_bytes(der.as_ptr(), der.len()) })
    }

    pub(super) fn public_from_der(der: &[u8]) -> Result<Self> {
        // SAFETY: pointer and length come from one slice, which is only read.
        RsaKey::own(unsafe { c::RSA_public_key_from_bytes(der.as_ptr(), der.len()) })
    }

    pub(super) fn private_to_der(&self) -> Result<SecretBytes> {
        let (mut out, mut len) = (ptr::null_mut(), 0);
        // SAFETY: the key is alive; the outputs are local and set only on success.
        check(unsafe { c::RSA_private_key_to_bytes(&mut out, &mut len, self.0) }, Error::Internal)?;
        // SAFETY: the function above succeeded, so it handed the buffer over.
        Ok(unsafe { take_buffer(out, len) })
    }

    pub(super) fn public_to_der(&self) -> Result<Vec<u8>> {
        let (mut out, mut len) = (ptr::null_mut(), 0);
        // SAFETY: the key is alive; the outputs are local and set only on success.
        check(unsafe { c::RSA_public_key_to_bytes(&mut out, &mut len, self.0) }, Error::Internal)?;
        // SAFETY: the function above succeeded, so it handed the buffer over.
        Ok(unsafe { take_buffer(out, len) }.expose().to_vec())
    }

    pub(super) fn part(&self, part: RsaPart) -> Result<SecretBytes> {
        // SAFETY: the key is alive, each getter returns null or a number that lives as long as the key.
        unsafe {
            bytes_of(match part {
                RsaPart::N => c::RSA_get0_n(self.0),
                RsaPart::E => c::RSA_get0_e(self.0),
                RsaPart::D => c::RSA_get0_d(self.0),
                RsaPart::P => c::RSA_get0_p(self.0),
                RsaPart::Q => c::RSA_get0_q(self.0),
                RsaPart::Dp => c::RSA_get0_dmp1(self.0),
                RsaPart::Dq => c::RSA_get0_dmq1(self.0),
                RsaPart::Qinv => c::RSA_get0_iqmp(self.0),
            })
        }
    }

    /// Length of the modulus in bytes.
    pub(super) fn len(&self) -> usize {
        // SAFETY: the key is alive and only read.
        unsafe { c::RSA_size(self.0) as usize }
    }

    pub(super) fn bits(&self) -> u32 {
        // SAFETY: the key is alive and only read.
        unsafe { c::RSA_bits(self.0) }
    }

    /// EMSA-PKCS1-v1_5 padding over `data` as it is, without a DigestInfo.
    pub(super) fn sign_pkcs1_raw(&self, data: &[u8]) -> Result<Vec<u8>> {
        let mut out = vec![0; self.len()];
        let mut len = 0;
        // SAFETY: key, input and output are alive; the output has the length that is passed.
        let code = unsafe {
            c::RSA_sign_raw(
                self.0,
                &mut len,
                out.as_mut_ptr(),
                out.len(),
                data.as_ptr(),
                data.len(),
                c::RSA_PKCS1_PADDING,
            )
        };
        check(code, Error::Internal)?;
        Ok(out)
    }

    /// What an EMSA-PKCS1-v1_5 signature carries.
    pub(super) fn recover_pkcs1(&self, signature: &[u8]) -> Result<Vec<u8>> {
        let mut out = vec![0; self.len()];
        let mut len = 0;
        // SAFETY: key, input and output are alive; the output has the length that is passed.
        let code = unsafe {
            c::RSA_verify_raw(
                self.0,
                &mut len,
                out.as_mut_ptr(),
                out.len(),
                signature.as_ptr(),
                signature.len(),
                c::RSA_PKCS1_PADDING,
            )
        };
        check(code, Error::SignatureInvalid)?;
        out.truncate(len);
        Ok(out)
    }

    /// RSASSA-PKCS1-v1_5 over a digest of exactly the hash's length.
    pub(super) fn sign_pkcs1(&self, hash: Hash, digest: &[u8]) -> Result<Vec<u8>> {
        let mut out = vec![0; self.len()];
        let mut len: c_uint = 0;
        // SAFETY: key and digest are alive; the output has RSA_size bytes, as the function requires.
        let code =
            unsafe { c::RSA_sign(digest_nid(hash), digest.as_ptr(), digest.len(), out.as_mut_ptr(), &mut len, self.0) };
        check(code, Error::Internal)?;
        Ok(out)
    }

    pub(super) fn verify_pkcs1(&self, hash: Hash, digest: &[u8], signature: &[u8]) -> Result<()> {
        // SAFETY: key, digest and signature are alive and only read.
        let code = unsafe {
            c::RSA_verify(digest_nid(hash), digest.as_ptr(), digest.len(), signature.as_ptr(), signature.len(), self.0)
        };
        check(code, Error::SignatureInvalid)
    }

    pub(super) fn sign_pss(&self, hash: Hash, mgf: Hash, salt_len: usize, digest: &[u8]) -> Result<Vec<u8>> {
        let salt_len = c_len(salt_len, Error::InvalidParameter)?;
        let mut out = vec![0; self.len()];
        let mut len = 0;
        // SAFETY: key and digest are alive; the output has the length that is passed; the digests are constants.
        let code = unsafe {
            c::RSA_sign_pss_mgf1(
                self.0,
                &mut len,
                out.as_mut_ptr(),
                out.len(),
                digest.as_ptr(),
                digest.len(),
                md(hash),
                md(mgf),
                salt_len,
            )
        };
        check(code, Error::Internal)?;
        Ok(out)
    }

    pub(super) fn verify_pss(
        &self,
        hash: Hash,
        mgf: Hash,
        salt_len: usize,
        digest: &[u8],
        signature: &[u8],
    ) -> Result<()> {
        let salt_len = c_len(salt_len, Error::InvalidParameter)?;
        // SAFETY: key, digest and signature are alive and only read; the digests are constants.
        let code = unsafe {
            c::RSA_verify_pss_mgf1(
                self.0,
                digest.as_ptr(),
                digest.len(),
                md(hash),
                md(mgf),
                salt_len,
                signature.as_ptr(),
                signature.len(),
            )
        };
        check(code, Error::SignatureInvalid)
    }

    pub(super) fn encrypt_pkcs1(&self, data: &[u8]) -> Result<Vec<u8>> {
        let mut out = vec![0; self.len()];
        let mut len = 0;
        // SAFETY: key, input and output are alive; the output has the length that is passed.
        let code = unsafe {
            c::RSA_encrypt(
                self.0,
                &mut len,
                out.as_mut_ptr(),
                out.len(),
                data.as_ptr(),
                data.len(),
                c::RSA_PKCS1_PADDING,
            )
        };
        check(code, Error::Internal)?;
        Ok(out)
    }

    /// The private-key operation without a look at the padding.
    pub(super) fn decrypt_raw(&self, ciphertext: &[u8]) -> Result<SecretBytes> {
        let mut out = SecretBytes::zeroed(self.len());
        let mut len = 0;
        // SAFETY: key, input and output are alive; the output has the length that is passed.
        let code = unsafe {
            c::RSA_decrypt(
                self.0,
                &mut len,
                out.expose_mut().as_mut_ptr(),
                out.len(),
                ciphertext.as_ptr(),
                ciphertext.len(),
                c::RSA_NO_PADDING,
            )
        };
        check(code, Error::EncryptedDataInvalid)?;
        Ok(out)
    }

    /// The public-key operation over as many bytes as the modulus has.
    pub(super) fn encrypt_raw(&self, data: &[u8]) -> Result<Vec<u8>> {
        let mut out = vec![0; self.len()];
        let mut len = 0;
        // SAFETY: key, input and output are alive; the output has the length that is passed.
        let code = unsafe {
            let (to, from) = (out.as_mut_ptr(), data.as_ptr());
            c::RSA_encrypt(self.0, &mut len, to, out.len(), from, data.len(), c::RSA_NO_PADDING)
        };
        check(code, Error::DataLength)?;
        Ok(out)
    }

    pub(super) fn encrypt_oaep(&self, hash: Hash, mgf: Hash, label: &[u8], data: &[u8]) -> Result<Vec<u8>> {
        let context = PkeyContext::for_rsa(self)?;
        // SAFETY: the context is alive and owned by this function.
        check(unsafe { c::EVP_PKEY_encrypt_init(context.context) }, Error::Internal)?;
        context.set_oaep(hash, mgf, label)?;
        let mut out = vec![0; self.len()];
        let mut len = out.len();
        // SAFETY: context, input and output are alive; `len` holds the output's length.
        let code =
            unsafe { c::EVP_PKEY_encrypt(context.context, out.as_mut_ptr(), &mut len, data.as_ptr(), data.len()) };
        check(code, Error::DataLength)?;
        Ok(out)
    }

    pub(super) fn decrypt_oaep(&self, hash: Hash, mgf: Hash, label: &[u8], ciphertext: &[u8]) -> Result<SecretBytes> {
        let context = PkeyContext::for_rsa(self)?;
        // SAFETY: the context is alive and owned by this function.
        check(unsafe { c::EVP_PKEY_decrypt_init(context.context) }, Error::Internal)?;
        context.set_oaep(hash, mgf, label)?;
        let mut out = SecretBytes::zeroed(self.len());
        let mut len = out.len();
        // SAFETY: context, input and output are alive; `len` holds the output's length.
        let code = unsafe {
            c::EVP_PKEY_decrypt(
                context.context,
                out.expose_mut().as_mut_ptr(),
                &mut len,
                ciphertext.as_ptr(),
                ciphertext.len(),
            )
        };
        check(code, Error::EncryptedDataInvalid)?;
        Ok(SecretBytes::copy_from(&out.expose()[..len]))
    }
}

impl Drop for RsaKey {
    fn drop(&mut self) {
        // SAFETY: the key is owned by this value and freed once; the library wipes its numbers.
        unsafe { c::RSA_free(self.0) };
    }
}

/// The factors of `n` from both exponents, by trying bases as in SP 800-56B Revision 2, Appendix C. Runs once, on import;
/// its time depends on the key.
///
/// # Errors
/// [`Error::InvalidKey`] if the exponents do not belong to the modulus.
pub(super) fn rsa_factors(n: &[u8], e: &[u8], d: &[u8]) -> Result<(SecretBytes, SecretBytes)> {
    let (n, e, d) = (BigNum::from_be(n)?, BigNum::from_be(e)?, BigNum::from_be(d)?);
    if !n.is_odd() || n.is_one() {
        return Err(Error::InvalidKey);
    }
    let scratch = Scratch::new()?;
    let n_minus_one = n.minus_one()?;
    // d·e − 1 = odd · 2^twos
    let mut odd = scratch.product(&d, &e)?.minus_one()?;
    let mut twos = 0_u32;
    // The product of a modulus and an exponent of at most 16,384 bits has fewer factors of two than bits.
    while !odd.is_odd() && twos < 32_768 {
        odd.halve()?;
        twos += 1;
    }
    if twos == 0 || !odd.is_odd() {
        return Err(Error::InvalidKey);
    }
    // Each small base splits a genuine key with probability of at least one half.
    for base in 2_u8..=100 {
        let mut root = scratch.power_mod(&BigNum::from_be(&[base])?, &odd, &n)?;
        for _ in 0..twos {
            if root.is_one() || root.equals(&n_minus_one) {
                break;
            }
            let square = scratch.square_mod(&root, &n)?;
            if square.is_one() {
                let p = scratch.gcd(&root.minus_one()?, &n)?;
                let (q, _) = scratch.quotient_and_remainder(&n, &p)?;
                return Ok((p.to_secret()?, q.to_secret()?));
            }
            root = square;
        }
    }
    Err(Error::InvalidKey)
}

/// A context of one public-key operation, with the key wrapper it refers to.
struct PkeyContext {
    context: *mut c::EVP_PKEY_CTX,
    key: *mut c::EVP_PKEY,
}

impl PkeyContext {
    fn for_rsa(key: &RsaKey) -> Result<Self> {
        // SAFETY: null is checked before use; `set1` takes its own reference to the living RSA key.
        let pkey = unsafe { c::EVP_PKEY_new() };
        if pkey.is_null() {
            return failed(Error::Internal);
        }
        let mut this = PkeyContext { context: ptr::null_mut(), key: pkey };
        // SAFETY: both objects are alive.
        check(unsafe { c::EVP_PKEY_set1_RSA(this.key, key.0) }, Error::Internal)?;
        // SAFETY: the wrapper is alive; a null engine is the default; null is checked.
        this.context = unsafe { c::EVP_PKEY_CTX_new(this.key, ptr::null_mut()) };
        if this.context.is_null() { failed(Error::Internal) } else { Ok(this) }
    }

    fn set_oaep(&self, hash: Hash, mgf: Hash, label: &[u8]) -> Result<()> {
        // SAFETY: the context is alive and initialised for encryption or decryption; the digests are constants.
        unsafe {
            check(c::EVP_PKEY_CTX_set_rsa_padding(self.context, c::RSA_PKCS1_OAEP_PADDING), Error::Internal)?;
            check(c::EVP_PKEY_CTX_set_rsa_oaep_md(self.context, md(hash)), Error::Internal)?;
            check(c::EVP_PKEY_CTX_set_rsa_mgf1_md(self.context, md(mgf)), Error::Internal)?;
        }
        if label.is_empty() {
            return Ok(());
        }
        // SAFETY: the buffer is allocated by the library with the label's length, filled, and then owned by the context;
        // when the context refuses it, it is freed here.
        unsafe {
            let copy: *mut u8 = c::OPENSSL_malloc(label.len()).cast();
            if copy.is_null() {
                return failed(Error::Internal);
            }
            ptr::copy_nonoverlapping(label.as_ptr(), copy, label.len());
            if c::EVP_PKEY_CTX_set0_rsa_oaep_label(self.context, copy, label.len()) != 1 {
                c::OPENSSL_free(copy.cast());
                return failed(Error::InvalidParameter);
            }
        }
        Ok(())
    }
}

impl Drop for PkeyContext {
    fn drop(&mut self) {
        // SAFETY: both objects are owned by this value (the context may be null, which is allowed) and freed once.
        unsafe {
            c::EVP_PKEY_CTX_free(self.context);
            c::EVP_PKEY_free(self.key);
        }
    }
}

/// The curves, by the library's number.
#[derive(Clone, Copy)]
pub(super) enum EcGroup {
    P224,
    P256,
    P384,
    P521,
    Secp256k1,
    BrainpoolP256r1,
    BrainpoolP320r1,
    BrainpoolP384r1,
    BrainpoolP512r1,
}

impl EcGroup {
    fn nid(self) -> c_int {
        match self {
            EcGroup::P224 => c::NID_secp224r1,
            EcGroup::P256 => c::NID_X9_62_prime256v1,
            EcGroup::P384 => c::NID_secp384r1,
            EcGroup::P521 => c::NID_secp521r1,
            EcGroup::Secp256k1 => c::NID_secp256k1,
            EcGroup::BrainpoolP256r1 => c::NID_brainpoolP256r1,
            EcGroup::BrainpoolP320r1 => c::NID_brainpoolP320r1,
            EcGroup::BrainpoolP384r1 => c::NID_brainpoolP384r1,
            EcGroup::BrainpoolP512r1 => c::NID_brainpoolP512r1,
        }
    }

    /// Bytes of a field element and, for these curves, of a scalar.
    pub(super) fn len(self) -> usize {
        match self {
            EcGroup::P224 => 28,
            EcGroup::P256 | EcGroup::Secp256k1 | EcGroup::BrainpoolP256r1 => 32,
            EcGroup::BrainpoolP320r1 => 40,
            EcGroup::P384 | EcGroup::BrainpoolP384r1 => 48,
            EcGroup::BrainpoolP512r1 => 64,
            EcGroup::P521 => 66,
        }
    }
}

/// An elliptic-curve key, public or private, never changed after construction.
pub(super) struct EcKey {
    key: *mut c::EC_KEY,
    group: EcGroup,
}

// SAFETY: AWS-LC's EC_KEY object may be moved between threads; it holds no thread-local state.
unsafe impl Send for EcKey {}
// SAFETY: the object is only read after construction, which AWS-LC allows from many threads at once.
unsafe impl Sync for EcKey {}

/// A point on a curve.
struct EcPoint(*mut c::EC_POINT);

impl EcPoint {
    fn new(key: &EcKey) -> Result<Self> {
        // SAFETY: the group lives as long as the key; null is checked.
        let point = unsafe { c::EC_POINT_new(c::EC_KEY_get0_group(key.key)) };
        if point.is_null() { failed(Error::Internal) } else { Ok(EcPoint(point)) }
    }

    /// Reads the uncompressed form only; the library refuses coordinates out of range and points off the curve.
    fn decode(key: &EcKey, bytes: &[u8]) -> Result<Self> {
        if bytes.len() != 1 + 2 * key.group.len() || bytes[0] != 4 {
            return Err(Error::InvalidKey);
        }
        let point = EcPoint::new(key)?;
        // SAFETY: group, point and bytes are alive; null scratch memory is allowed.
        let code = unsafe {
            let group = c::EC_KEY_get0_group(key.key);
            c::EC_POINT_oct2point(group, point.0, bytes.as_ptr(), bytes.len(), ptr::null_mut())
        };
        check(code, Error::InvalidKey)?;
        Ok(point)
    }
}

impl Drop for EcPoint {
    fn drop(&mut self) {
        // SAFETY: the point is owned by this value and freed once.
        unsafe { c::EC_POINT_free(self.0) };
    }
}

impl EcKey {
    fn empty(group: EcGroup) -> Result<Self> {
        // SAFETY: null is checked; otherwise the new object is owned by the value.
        let key = unsafe { c::EC_KEY_new_by_curve_name(group.nid()) };
        if key.is_null() { failed(Error::UnsupportedCurve) } else { Ok(EcKey { key, group }) }
    }

    pub(super) fn generate(group: EcGroup) -> Result<Self> {
        let key = EcKey::empty(group)?;
        // SAFETY: the key is alive and not yet shared.
        check(unsafe { c::EC_KEY_generate_key(key.key) }, Error::Internal)?;
        Ok(key)
    }

    pub(super) fn public(group: EcGroup, point: &[u8]) -> Result<Self> {
        let key = EcKey::empty(group)?;
        let point = EcPoint::decode(&key, point)?;
        // SAFETY: key and point are alive; the function copies the point; the key is not yet shared.
        check(unsafe { c::EC_KEY_set_public_key(key.key, point.0) }, Error::InvalidKey)?;
        // SAFETY: the key is alive and only read.
        check(unsafe { c::EC_KEY_check_key(key.key) }, Error::InvalidKey)?;
        Ok(key)
    }

    /// A key from its scalar; the public point is computed.
    pub(super) fn private(group: EcGroup, scalar: &[u8]) -> Result<Self> {
        let key = EcKey::empty(group)?;
        let scalar = BigNum::from_be(scalar)?;
        // SAFETY: key and scalar are alive; the function copies the scalar and refuses one out of range.
        check(unsafe { c::EC_KEY_set_private_key(key.key, scalar.0) }, Error::InvalidKey)?;
        let point = EcPoint::new(&key)?;
        // SAFETY: all objects are alive; null point and factor mean a multiple of the generator only.
        let code = unsafe {
            let group = c::EC_KEY_get0_group(key.key);
            c::EC_POINT_mul(group, point.0, scalar.0, ptr::null(), ptr::null(), ptr::null_mut())
        };
        check(code, Error::InvalidKey)?;
        // SAFETY: key and point are alive; the key is not yet shared.
        check(unsafe { c::EC_KEY_set_public_key(key.key, point.0) }, Error::InvalidKey)?;
        // SAFETY: the key is alive and only read.
        check(unsafe { c::EC_KEY_check_key(key.key) }, Error::InvalidKey)?;
        Ok(key)
    }

    pub(super) fn scalar(&self) -> Result<SecretBytes> {
        // SAFETY: the key is alive and only read; null is checked; the number lives as long as the key.
        unsafe {
            let scalar = c::EC_KEY_get0_private_key(self.key);
            if scalar.is_null() {
                return Err(Error::Internal);
            }
            padded_bytes_of(scalar, self.group.len())
        }
    }

    /// The public point, uncompressed.
    pub(super) fn point(&self) -> Result<Vec<u8>> {
        let mut out = vec![0; 1 + 2 * self.group.len()];
        // SAFETY: the key is alive and only read; the output has the length that is passed.
        let written = unsafe {
            c::EC_POINT_point2oct(
                c::EC_KEY_get0_group(self.key),
                c::EC_KEY_get0_public_key(self.key),
                c::point_conversion_form_t::POINT_CONVERSION_UNCOMPRESSED,
                out.as_mut_ptr(),
                out.len(),
                ptr::null_mut(),
            )
        };
        if written == out.len() { Ok(out) } else { failed(Error::Internal) }
    }

    /// ECDSA over a digest of any length, as r‖s of fixed width.
    pub(super) fn sign(&self, digest: &[u8]) -> Result<Vec<u8>> {
        // SAFETY: key and digest are alive and only read; null is checked and the result owned.
        let signature = EcSignature(unsafe { c::ECDSA_do_sign(digest.as_ptr(), digest.len(), self.key) });
        if signature.0.is_null() {
            return failed(Error::Internal);
        }
        let width = self.group.len();
        let (mut r, mut s) = (ptr::null(), ptr::null());
        let mut out = vec![0; 2 * width];
        let (r_out, s_out) = out.split_at_mut(width);
        // SAFETY: the signature is alive; its two numbers live as long; both halves have `width` bytes.
        unsafe {
            c::ECDSA_SIG_get0(signature.0, &mut r, &mut s);
            check(c::BN_bn2bin_padded(r_out.as_mut_ptr(), width, r), Error::Internal)?;
            check(c::BN_bn2bin_padded(s_out.as_mut_ptr(), width, s), Error::Internal)?;
        }
        Ok(out)
    }

    /// Verifies r‖s of fixed width.
    pub(super) fn verify(&self, digest: &[u8], signature: &[u8]) -> Result<()> {
        let (r, s) = signature.split_at_checked(self.group.len()).ok_or(Error::SignatureLength)?;
        let (r, s) = (BigNum::from_be(r)?, BigNum::from_be(s)?);
        // SAFETY: null is checked; otherwise the new object is owned by the value.
        let parsed = EcSignature(unsafe { c::ECDSA_SIG_new() });
        if parsed.0.is_null() {
            return failed(Error::Internal);
        }
        // SAFETY: all three objects are alive; with non-null numbers the function cannot fail and takes both over.
        check(unsafe { c::ECDSA_SIG_set0(parsed.0, r.into_raw(), s.into_raw()) }, Error::Internal)?;
        // SAFETY: digest, signature and key are alive and only read.
        let code = unsafe { c::ECDSA_do_verify(digest.as_ptr(), digest.len(), parsed.0, self.key) };
        check(code, Error::SignatureInvalid)
    }

    /// The x coordinate of the shared point, of the field's width.
    pub(super) fn agree(&self, peer_point: &[u8]) -> Result<SecretBytes> {
        let peer = EcPoint::decode(self, peer_point)?;
        let mut out = SecretBytes::zeroed(self.group.len());
        // SAFETY: both keys are alive; the output has the length that is passed; no derivation function is given.
        let written = unsafe {
            c::ECDH_compute_key(out.expose_mut().as_mut_ptr().cast(), self.group.len(), peer.0, self.key, None)
        };
        if usize::try_from(written) == Ok(self.group.len()) { Ok(out) } else { failed(Error::InvalidKey) }
    }
}

impl Drop for EcKey {
    fn drop(&mut self) {
        // SAFETY: the key is owned by this value and freed once; the library wipes its scalar.
        unsafe { c::EC_KEY_free(self.key) };
    }
}

/// An ECDSA signature as two numbers.
struct EcSignature(*mut c::ECDSA_SIG);

impl Drop for EcSignature {
    fn drop(&mut self) {
        // SAFETY: null or owned by this value; freed once.
        unsafe { c::ECDSA_SIG_free(self.0) };
    }
}

/// The ML-DSA parameter sets, by the library's number.
#[derive(Clone, Copy)]
pub(super) enum MlDsaSet {
    MlDsa44,
    MlDsa65,
    MlDsa87,
}

impl MlDsaSet {
    fn nid(self) -> c_int {
        match self {
            MlDsaSet::MlDsa44 => c::NID_MLDSA44,
            MlDsaSet::MlDsa65 => c::NID_MLDSA65,
            MlDsaSet::MlDsa87 => c::NID_MLDSA87,
        }
    }
}

/// An ML-DSA key, public or private, never changed after construction.
pub(super) struct MlDsaKey(*mut c::EVP_PKEY);

// SAFETY: AWS-LC's EVP_PKEY object may be moved between threads; it holds no thread-local state.
unsafe impl Send for MlDsaKey {}
// SAFETY: the object is only read after construction; its reference count is atomic.
unsafe impl Sync for MlDsaKey {}

impl MlDsaKey {
    fn own(key: *mut c::EVP_PKEY) -> Result<Self> {
        if key.is_null() { failed(Error::InvalidKey) } else { Ok(MlDsaKey(key)) }
    }

    /// A private key from its 32-byte seed or its expanded form; the library tells them by their length and checks what it can.
    pub(super) fn private(set: MlDsaSet, key: &[u8]) -> Result<Self> {
        // SAFETY: pointer and length come from one slice; the function copies it.
        MlDsaKey::own(unsafe { c::EVP_PKEY_pqdsa_new_raw_private_key(set.nid(), key.as_ptr(), key.len()) })
    }

    pub(super) fn public(set: MlDsaSet, bytes: &[u8]) -> Result<Self> {
        // SAFETY: pointer and length come from one slice; the function checks the length and copies it.
        MlDsaKey::own(unsafe { c::EVP_PKEY_pqdsa_new_raw_public_key(set.nid(), bytes.as_ptr(), bytes.len()) })
    }

    pub(super) fn public_bytes(&self, len: usize) -> Result<Vec<u8>> {
        let mut out = vec![0; len];
        let mut written = len;
        // SAFETY: the key is alive; `written` holds the output's length.
        let code = unsafe { c::EVP_PKEY_get_raw_public_key(self.0, out.as_mut_ptr(), &mut written) };
        check(code, Error::Internal)?;
        if written == len { Ok(out) } else { Err(Error::Internal) }
    }

    /// The expanded private key of FIPS 204.
    pub(super) fn expanded(&self, len: usize) -> Result<SecretBytes> {
        let mut out = SecretBytes::zeroed(len);
        let mut written = len;
        // SAFETY: the key is alive; `written` holds the output's length.
        let code = unsafe { c::EVP_PKEY_get_raw_private_key(self.0, out.expose_mut().as_mut_ptr(), &mut written) };
        check(code, Error::Internal)?;
        if written == len { Ok(out) } else { Err(Error::Internal) }
    }

    /// A hedged signature over the message.
    pub(super) fn sign(&self, message: &[u8], context: &[u8], signature_len: usize) -> Result<Vec<u8>> {
        let digest = MessageContext::new()?;
        let mut pctx = ptr::null_mut();
        // SAFETY: context and key are alive; the inner context set here belongs to the outer one.
        let code = unsafe { c::EVP_DigestSignInit(digest.0, &mut pctx, ptr::null(), ptr::null_mut(), self.0) };
        check(code, Error::Internal)?;
        // SAFETY: the outer context is alive until the end of this function.
        unsafe { set_context_string(pctx, context)? };
        let mut out = vec![0; signature_len];
        let mut written = signature_len;
        // SAFETY: context and message are alive; `written` holds the output's length.
        let code =
            unsafe { c::EVP_DigestSign(digest.0, out.as_mut_ptr(), &mut written, message.as_ptr(), message.len()) };
        check(code, Error::Internal)?;
        if written == signature_len { Ok(out) } else { Err(Error::Internal) }
    }

    pub(super) fn verify(&self, message: &[u8], context: &[u8], signature: &[u8]) -> Result<()> {
        let digest = MessageContext::new()?;
        let mut pctx = ptr::null_mut();
        // SAFETY: context and key are alive; the inner context set here belongs to the outer one.
        let code = unsafe { c::EVP_DigestVerifyInit(digest.0, &mut pctx, ptr::null(), ptr::null_mut(), self.0) };
        check(code, Error::Internal)?;
        // SAFETY: the outer context is alive until the end of this function.
        unsafe { set_context_string(pctx, context)? };
        // SAFETY: context, signature and message are alive and only read.
        let code = unsafe {
            c::EVP_DigestVerify(digest.0, signature.as_ptr(), signature.len(), message.as_ptr(), message.len())
        };
        check(code, Error::SignatureInvalid)
    }

    /// A hedged signature over the 64-byte representative of a message (FIPS 204, algorithm 7, line 6).
    pub(super) fn sign_representative(&self, mu: &[u8; 64], signature_len: usize) -> Result<Vec<u8>> {
        // SAFETY: the key is alive.
        let context = unsafe { KeyContext::new(self.0)? };
        // SAFETY: the context is alive.
        check(unsafe { c::EVP_PKEY_sign_init(context.0) }, Error::Internal)?;
        let (mut out, mut written) = (vec![0; signature_len], signature_len);
        // SAFETY: context and input are alive; `written` holds the output's length.
        let code = unsafe { c::EVP_PKEY_sign(context.0, out.as_mut_ptr(), &mut written, mu.as_ptr(), mu.len()) };
        check(code, Error::Internal)?;
        if written == signature_len { Ok(out) } else { Err(Error::Internal) }
    }

    pub(super) fn verify_representative(&self, mu: &[u8; 64], signature: &[u8]) -> Result<()> {
        // SAFETY: the key is alive.
        let context = unsafe { KeyContext::new(self.0)? };
        // SAFETY: the context is alive.
        check(unsafe { c::EVP_PKEY_verify_init(context.0) }, Error::Internal)?;
        // SAFETY: context, signature and input are alive and only read.
        let code = unsafe { c::EVP_PKEY_verify(context.0, signature.as_ptr(), signature.len(), mu.as_ptr(), mu.len()) };
        check(code, Error::SignatureInvalid)
    }
}

impl Drop for MlDsaKey {
    fn drop(&mut self) {
        // SAFETY: the key is owned by this value and freed once; the library wipes it.
        unsafe { c::EVP_PKEY_free(self.0) };
    }
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

/// A digest in the making; wiped when dropped.
pub(super) struct DigestState {
    context: MessageContext,
    hash: Hash,
}

// SAFETY: AWS-LC's digest context may be moved between threads; it holds no thread-local state.
unsafe impl Send for DigestState {}

impl DigestState {
    pub(super) fn new(hash: Hash) -> Self {
        let context = MessageContext::new().expect("memory for a digest");
        // SAFETY: the context is alive and new; the algorithm is a constant.
        must(unsafe { c::EVP_DigestInit_ex(context.0, md(hash), ptr::null_mut()) });
        DigestState { context, hash }
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        // SAFETY: the context is alive; pointer and length come from one slice.
        must(unsafe { c::EVP_DigestUpdate(self.context.0, data.as_ptr().cast(), data.len()) });
    }

    pub(super) fn finish(self) -> Vec<u8> {
        let mut out = vec![0; self.hash.output_len()];
        // SAFETY: the context is alive; the output has the digest's length; a null length pointer is allowed.
        must(unsafe { c::EVP_DigestFinal_ex(self.context.0, out.as_mut_ptr(), ptr::null_mut()) });
        out
    }
}

impl Clone for DigestState {
    fn clone(&self) -> Self {
        let context = MessageContext::new().expect("memory for a digest");
        // SAFETY: both contexts are alive; the source is only read.
        must(unsafe { c::EVP_MD_CTX_copy_ex(context.0, self.context.0) });
        DigestState { context, hash: self.hash }
    }
}

/// The extendable-output functions of FIPS 202, section 6.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shake {
    /// SHAKE128.
    Shake128,
    /// SHAKE256.
    Shake256,
}

/// A SHAKE in the making; wiped when dropped.
pub(super) struct ShakeState(MessageContext);

// SAFETY: AWS-LC's digest context may be moved between threads; it holds no thread-local state.
unsafe impl Send for ShakeState {}

impl ShakeState {
    pub(super) fn new(shake: Shake) -> Self {
        let context = MessageContext::new().expect("memory for a digest");
        // SAFETY: the context is alive and new; the algorithms are constants.
        must(unsafe {
            let algorithm = match shake {
                Shake::Shake128 => c::EVP_shake128(),
                Shake::Shake256 => c::EVP_shake256(),
            };
            c::EVP_DigestInit_ex(context.0, algorithm, ptr::null_mut())
        });
        ShakeState(context)
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        // SAFETY: the context is alive; pointer and length come from one slice.
        must(unsafe { c::EVP_DigestUpdate(self.0.0, data.as_ptr().cast(), data.len()) });
    }

    /// Fills the output, which may have any length.
    pub(super) fn finish(self, out: &mut [u8]) {
        // SAFETY: the context is alive; pointer and length come from one slice.
        must(unsafe { c::EVP_DigestFinalXOF(self.0.0, out.as_mut_ptr(), out.len()) });
    }
}

/// The digest of one piece.
pub(super) fn digest(hash: Hash, data: &[u8]) -> Vec<u8> {
    let mut out = vec![0; hash.output_len()];
    // SAFETY: the input is one slice; the output has the digest's length; null length pointer and engine are allowed.
    must(unsafe {
        let (from, to) = (data.as_ptr().cast(), out.as_mut_ptr());
        c::EVP_Digest(from, data.len(), to, ptr::null_mut(), md(hash), ptr::null_mut())
    });
    out
}

/// Fills `out` by PBKDF2 over HMAC.
pub(super) fn pbkdf2(hash: Hash, password: &[u8], salt: &[u8], iterations: u32, out: &mut [u8]) -> Result<()> {
    // SAFETY: password, salt and output are slices with their true lengths; the algorithm is a constant.
    let code = unsafe {
        let (password_len, salt_len, out_len) = (password.len(), salt.len(), out.len());
        let password = password.as_ptr().cast();
        let to = out.as_mut_ptr();
        c::PKCS5_PBKDF2_HMAC(password, password_len, salt.as_ptr(), salt_len, iterations, md(hash), out_len, to)
    };
    check(code, Error::Internal)
}

/// An HMAC in the making; wiped when dropped.
pub(super) struct HmacState {
    context: *mut c::HMAC_CTX,
    hash: Hash,
}

// SAFETY: AWS-LC's HMAC context may be moved between threads; it holds no thread-local state.
unsafe impl Send for HmacState {}
// SAFETY: through a shared reference the context is only copied, which reads it.
unsafe impl Sync for HmacState {}

impl HmacState {
    fn empty(hash: Hash) -> Self {
        // SAFETY: null is checked; otherwise the new object is owned by the value.
        let context = unsafe { c::HMAC_CTX_new() };
        assert!(!context.is_null(), "the MAC has no memory");
        HmacState { context, hash }
    }

    pub(super) fn new(hash: Hash, key: &[u8]) -> Self {
        let state = HmacState::empty(hash);
        // SAFETY: the context is alive and new; pointer and length come from one slice; the algorithm is a constant.
        must(unsafe { c::HMAC_Init_ex(state.context, key.as_ptr().cast(), key.len(), md(hash), ptr::null_mut()) });
        state
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        // SAFETY: the context is alive; pointer and length come from one slice.
        must(unsafe { c::HMAC_Update(self.context, data.as_ptr(), data.len()) });
    }

    pub(super) fn finish(self) -> Vec<u8> {
        let mut out = vec![0; self.hash.output_len()];
        let mut written = 0;
        // SAFETY: the context is alive; the output has the MAC's length.
        must(unsafe { c::HMAC_Final(self.context, out.as_mut_ptr(), &mut written) });
        out
    }
}

impl Clone for HmacState {
    fn clone(&self) -> Self {
        let copy = HmacState::empty(self.hash);
        // SAFETY: both contexts are alive; the source is only read.
        must(unsafe { c::HMAC_CTX_copy_ex(copy.context, self.context) });
        copy
    }
}

impl Drop for HmacState {
    fn drop(&mut self) {
        // SAFETY: the context is owned by this value and freed once; the library wipes it.
        unsafe { c::HMAC_CTX_free(self.context) };
    }
}

/// An AES-CMAC in the making; wiped when dropped.
pub(super) struct CmacState(*mut c::CMAC_CTX);

// SAFETY: AWS-LC's CMAC context may be moved between threads; it holds no thread-local state.
unsafe impl Send for CmacState {}

impl CmacState {
    pub(super) fn new(key: &[u8]) -> Result<Self> {
        // SAFETY: each function returns a pointer to a constant that lives as long as the program.
        let cipher = unsafe {
            match key.len() {
                16 => c::EVP_aes_128_cbc(),
                24 => c::EVP_aes_192_cbc(),
                32 => c::EVP_aes_256_cbc(),
                _ => return Err(Error::KeySize),
            }
        };
        // SAFETY: null is checked; otherwise the new object is owned by the value.
        let state = CmacState(unsafe { c::CMAC_CTX_new() });
        if state.0.is_null() {
            return failed(Error::Internal);
        }
        // SAFETY: the context is alive and new; the key has the length of the chosen cipher.
        let code = unsafe { c::CMAC_Init(state.0, key.as_ptr().cast(), key.len(), cipher, ptr::null_mut()) };
        check(code, Error::Internal)?;
        Ok(state)
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        // SAFETY: the context is alive; pointer and length come from one slice.
        must(unsafe { c::CMAC_Update(self.0, data.as_ptr(), data.len()) });
    }

    pub(super) fn finish(self) -> [u8; 16] {
        let mut out = [0; 16];
        let mut written = 0;
        // SAFETY: the context is alive; the output has a block's length.
        must(unsafe { c::CMAC_Final(self.0, out.as_mut_ptr(), &mut written) });
        out
    }
}

impl Drop for CmacState {
    fn drop(&mut self) {
        // SAFETY: null or owned by this value; freed once; the library wipes it.
        unsafe { c::CMAC_CTX_free(self.0) };
    }
}

/// The AES modes that keep their state in the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AesMode {
    Ecb,
    Cbc,
    Ctr,
    Gcm,
}

/// Whether a cipher makes ciphertext or opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Plaintext in, ciphertext out.
    Encrypt,
    /// Ciphertext in, plaintext out.
    Decrypt,
}

impl Direction {
    fn flag(self) -> c_int {
        match self {
            Direction::Encrypt => 1,
            Direction::Decrypt => 0,
        }
    }
}

/// An AES cipher with its key schedule and, once an IV is set, its position.
pub(super) struct AesCipher(*mut c::EVP_CIPHER_CTX);

// SAFETY: AWS-LC's cipher context may be moved between threads; it holds no thread-local state.
unsafe impl Send for AesCipher {}
// SAFETY: through a shared reference the context is only copied, which reads it.
unsafe impl Sync for AesCipher {}

impl AesCipher {
    fn empty() -> Result<Self> {
        // SAFETY: null is checked; otherwise the new object is owned by the value.
        let context = unsafe { c::EVP_CIPHER_CTX_new() };
        if context.is_null() { failed(Error::Internal) } else { Ok(AesCipher(context)) }
    }

    /// Runs the key schedule; the IV comes later.
    pub(super) fn new(mode: AesMode, direction: Direction, key: &[u8]) -> Result<Self> {
        // SAFETY: each function returns a pointer to a constant that lives as long as the program.
        let cipher = unsafe {
            match (mode, key.len()) {
                (AesMode::Ecb, 16) => c::EVP_aes_128_ecb(),
                (AesMode::Ecb, 24) => c::EVP_aes_192_ecb(),
                (AesMode::Ecb, 32) => c::EVP_aes_256_ecb(),
                (AesMode::Cbc, 16) => c::EVP_aes_128_cbc(),
                (AesMode::Cbc, 24) => c::EVP_aes_192_cbc(),
                (AesMode::Cbc, 32) => c::EVP_aes_256_cbc(),
                (AesMode::Ctr, 16) => c::EVP_aes_128_ctr(),
                (AesMode::Ctr, 24) => c::EVP_aes_192_ctr(),
                (AesMode::Ctr, 32) => c::EVP_aes_256_ctr(),
                (AesMode::Gcm, 16) => c::EVP_aes_128_gcm(),
                (AesMode::Gcm, 24) => c::EVP_aes_192_gcm(),
                (AesMode::Gcm, 32) => c::EVP_aes_256_gcm(),
                _ => return Err(Error::KeySize),
            }
        };
        // SAFETY: the cipher is a constant for keys of this length.
        unsafe { AesCipher::keyed(cipher, direction, key) }
    }

    /// The same for triple DES with a key of 24 bytes, in CBC if `chained`, else in ECB.
    pub(super) fn triple_des(chained: bool, direction: Direction, key: &[u8; 24]) -> Result<Self> {
        // SAFETY: both functions return a pointer to a constant that lives as long as the program, a cipher for keys of 24 bytes.
        unsafe {
            let cipher = if chained { c::EVP_des_ede3_cbc() } else { c::EVP_des_ede3() };
            AesCipher::keyed(cipher, direction, key)
        }
    }

    /// # Safety
    /// The cipher is a constant of the library and takes keys of this length.
    unsafe fn keyed(cipher: *const c::EVP_CIPHER, direction: Direction, key: &[u8]) -> Result<Self> {
        let this = AesCipher::empty()?;
        // SAFETY: the context is alive and new; the caller says that the key has the length of the cipher; a null IV is allowed here.
        let code = unsafe {
            c::EVP_CipherInit_ex(this.0, cipher, ptr::null_mut(), key.as_ptr(), ptr::null(), direction.flag())
        };
        check(code, Error::Internal)?;
        // SAFETY: the context is alive and initialised.
        check(unsafe { c::EVP_CIPHER_CTX_set_padding(this.0, 0) }, Error::Internal)?;
        Ok(this)
    }

    /// A second cipher with the same key and the same position.
    pub(super) fn duplicate(&self) -> Result<Self> {
        let copy = AesCipher::empty()?;
        // SAFETY: both contexts are alive; the source is only read.
        check(unsafe { c::EVP_CIPHER_CTX_copy(copy.0, self.0) }, Error::Internal)?;
        Ok(copy)
    }

    /// Sets an IV of one block (CBC, CTR).
    pub(super) fn set_block_iv(&mut self, direction: Direction, iv: &[u8]) -> Result<()> {
        // SAFETY: the context is alive and initialised, and only read.
        let expected = unsafe { c::EVP_CIPHER_CTX_iv_length(self.0) };
        if usize::try_from(expected) != Ok(iv.len()) {
            return Err(Error::InvalidParameter);
        }
        // SAFETY: the IV has the length that the context's mode reads; null cipher and key keep those set before.
        let code = unsafe {
            c::EVP_CipherInit_ex(self.0, ptr::null(), ptr::null_mut(), ptr::null(), iv.as_ptr(), direction.flag())
        };
        check(code, Error::Internal)
    }

    /// Sets a GCM IV of any length.
    pub(super) fn set_gcm_iv(&mut self, direction: Direction, iv: &[u8]) -> Result<()> {
        let len = c_len(iv.len(), Error::InvalidParameter)?;
        // SAFETY: the context is initialised for GCM; the IV has the length announced just before it is read.
        unsafe {
            let code = c::EVP_CIPHER_CTX_ctrl(self.0, c::EVP_CTRL_AEAD_SET_IVLEN, len, ptr::null_mut());
            check(code, Error::InvalidParameter)?;
            let code =
                c::EVP_CipherInit_ex(self.0, ptr::null(), ptr::null_mut(), ptr::null(), iv.as_ptr(), direction.flag());
            check(code, Error::Internal)
        }
    }

    /// Feeds data that is authenticated but not encrypted (GCM).
    pub(super) fn authenticate(&mut self, data: &[u8]) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let len = c_len(data.len(), Error::InvalidParameter)?;
        let mut written = 0;
        // SAFETY: context and input are alive; a null output marks the data as authenticated only.
        let code = unsafe { c::EVP_CipherUpdate(self.0, ptr::null_mut(), &mut written, data.as_ptr(), len) };
        check(code, Error::Internal)
    }

    /// Runs the cipher over `input`, which for block modes is a whole number of blocks, into `output` of the same length.
    pub(super) fn process(&mut self, input: &[u8], output: &mut [u8]) -> Result<()> {
        if input.len() != output.len() {
            return Err(Error::Internal);
        }
        // Pieces keep the C `int` lengths in range and are a whole number of blocks.
        for (from, to) in input.chunks(1 << 30).zip(output.chunks_mut(1 << 30)) {
            let len = c_len(from.len(), Error::DataLength)?;
            let mut written = 0;
            // SAFETY: context, input and output are alive and of the same length; whole blocks in give as many bytes out,
            // because padding is off and no partial block is ever left inside.
            let code = unsafe { c::EVP_CipherUpdate(self.0, to.as_mut_ptr(), &mut written, from.as_ptr(), len) };
            check(code, Error::Internal)?;
            if written != len {
                return Err(Error::Internal);
            }
        }
        Ok(())
    }

    /// Ends a GCM encryption and gives the tag.
    pub(super) fn finish_with_tag(&mut self, tag: &mut [u8]) -> Result<()> {
        let len = c_len(tag.len(), Error::InvalidParameter)?;
        let mut written = 0;
        let mut none = [0_u8; 16];
        // SAFETY: the context is alive; the scratch output holds a block; the tag has the length that is passed.
        unsafe {
            check(c::EVP_CipherFinal_ex(self.0, none.as_mut_ptr(), &mut written), Error::Internal)?;
            let code = c::EVP_CIPHER_CTX_ctrl(self.0, c::EVP_CTRL_AEAD_GET_TAG, len, tag.as_mut_ptr().cast());
            check(code, Error::Internal)
        }
    }

    /// Ends a GCM decryption: whether the tag, or its leading bytes that were kept, is the right one.
    pub(super) fn finish_checking_tag(&mut self, tag: &[u8]) -> Result<()> {
        let len = c_len(tag.len(), Error::InvalidParameter)?;
        let mut written = 0;
        let mut none = [0_u8; 16];
        // SAFETY: the context is alive; the library only reads the tag through the pointer; the scratch output holds a block.
        unsafe {
            let code = c::EVP_CIPHER_CTX_ctrl(self.0, c::EVP_CTRL_AEAD_SET_TAG, len, tag.as_ptr().cast_mut().cast());
            check(code, Error::Internal)?;
            check(c::EVP_CipherFinal_ex(self.0, none.as_mut_ptr(), &mut written), Error::AuthenticationFailed)
        }
    }
}

impl Drop for AesCipher {
    fn drop(&mut self) {
        // SAFETY: the context is owned by this value and freed once; the library wipes its key schedule.
        unsafe { c::EVP_CIPHER_CTX_free(self.0) };
    }
}
