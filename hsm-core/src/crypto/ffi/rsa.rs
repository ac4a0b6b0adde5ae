//! RSA keys in AWS-LC: generation, import, and the operations with free padding parameters. Sizes and exponents are judged by the callers.

use core::ffi::{c_int, c_uint};
use core::ptr;

use aws_lc_sys as c;

use super::{BigNum, Error, Hash, Result, Scratch, bytes_of, c_len, check, digest_nid, failed, md, take_buffer};
use crate::SecretBytes;

/// The numbers of an RSA private key, big-endian; `dp`, `dq` and `qinv` are computed when they are empty.
pub(in crate::crypto) struct RsaNumbers<'a> {
    pub(in crate::crypto) n: &'a [u8],
    pub(in crate::crypto) e: &'a [u8],
    pub(in crate::crypto) d: &'a [u8],
    pub(in crate::crypto) p: &'a [u8],
    pub(in crate::crypto) q: &'a [u8],
    pub(in crate::crypto) dp: &'a [u8],
    pub(in crate::crypto) dq: &'a [u8],
    pub(in crate::crypto) qinv: &'a [u8],
}

/// Which number of an RSA key.
#[derive(Clone, Copy)]
pub(in crate::crypto) enum RsaPart {
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
pub(in crate::crypto) struct RsaKey(*mut c::RSA);

// SAFETY: AWS-LC's RSA object may be moved between threads; it holds no thread-local state.
unsafe impl Send for RsaKey {}
// SAFETY: sign, verify, encrypt and decrypt are documented as safe for concurrent use of one key; its caches are locked.
unsafe impl Sync for RsaKey {}

/// A transform of the library: key, length and start of the output, its room, start and length of the input, padding.
type Transform = unsafe extern "C" fn(*mut c::RSA, *mut usize, *mut u8, usize, *const u8, usize, c_int) -> c_int;

impl RsaKey {
    fn own(key: *mut c::RSA) -> Result<Self> {
        if key.is_null() { failed(Error::InvalidKey) } else { Ok(RsaKey(key)) }
    }

    pub(in crate::crypto) fn generate(bits: u32, exponent: &[u8]) -> Result<Self> {
        let exponent = BigNum::from_be(exponent)?;
        let bits = c_int::try_from(bits).map_err(|_| Error::KeySize)?;
        // SAFETY: a null return is turned into an error by `own`.
        let key = RsaKey::own(unsafe { c::RSA_new() })?;
        // SAFETY: key and exponent are alive; a null callback is allowed.
        check(unsafe { c::RSA_generate_key_ex(key.0, bits, exponent.0, ptr::null_mut()) }, Error::Internal)?;
        Ok(key)
    }

    pub(in crate::crypto) fn public(n: &[u8], e: &[u8]) -> Result<Self> {
        let (n, e) = (BigNum::from_be(n)?, BigNum::from_be(e)?);
        // SAFETY: both numbers are alive; the function copies them.
        RsaKey::own(unsafe { c::RSA_new_public_key(n.0, e.0) })
    }

    pub(in crate::crypto) fn private(numbers: &RsaNumbers<'_>) -> Result<Self> {
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

    pub(in crate::crypto) fn private_from_der(der: &[u8]) -> Result<Self> {
        // SAFETY: pointer and length come from one slice, which is only read.
        RsaKey::own(unsafe { c::RSA_private_key_from_bytes(der.as_ptr(), der.len()) })
    }

    pub(in crate::crypto) fn public_from_der(der: &[u8]) -> Result<Self> {
        // SAFETY: pointer and length come from one slice, which is only read.
        RsaKey::own(unsafe { c::RSA_public_key_from_bytes(der.as_ptr(), der.len()) })
    }

    pub(in crate::crypto) fn private_to_der(&self) -> Result<SecretBytes> {
        let (mut out, mut len) = (ptr::null_mut(), 0);
        // SAFETY: the key is alive; the outputs are local and set only on success.
        check(unsafe { c::RSA_private_key_to_bytes(&mut out, &mut len, self.0) }, Error::Internal)?;
        // SAFETY: the function above succeeded, so it handed the buffer over.
        Ok(unsafe { take_buffer(out, len) })
    }

    pub(in crate::crypto) fn public_to_der(&self) -> Result<Vec<u8>> {
        let (mut out, mut len) = (ptr::null_mut(), 0);
        // SAFETY: the key is alive; the outputs are local and set only on success.
        check(unsafe { c::RSA_public_key_to_bytes(&mut out, &mut len, self.0) }, Error::Internal)?;
        // SAFETY: the function above succeeded, so it handed the buffer over.
        Ok(unsafe { take_buffer(out, len) }.expose().to_vec())
    }

    pub(in crate::crypto) fn part(&self, part: RsaPart) -> Result<SecretBytes> {
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
    pub(in crate::crypto) fn len(&self) -> usize {
        // SAFETY: the key is alive and only read.
        unsafe { c::RSA_size(self.0) as usize }
    }

    pub(in crate::crypto) fn bits(&self) -> u32 {
        // SAFETY: the key is alive and only read.
        unsafe { c::RSA_bits(self.0) }
    }

    /// Runs one of the library's transforms into `out`, which has the length of the modulus: how much of it was written.
    fn transform(&self, by: Transform, padding: c_int, input: &[u8], out: &mut [u8], refused: Error) -> Result<usize> {
        let mut len = 0;
        // SAFETY: key, input and output are alive; the output has the length that is passed.
        let code = unsafe { by(self.0, &mut len, out.as_mut_ptr(), out.len(), input.as_ptr(), input.len(), padding) };
        check(code, refused)?;
        Ok(len)
    }

    fn bytes_by(&self, by: Transform, padding: c_int, input: &[u8], refused: Error) -> Result<Vec<u8>> {
        let mut out = vec![0; self.len()];
        let len = self.transform(by, padding, input, &mut out, refused)?;
        out.truncate(len);
        Ok(out)
    }

    /// EMSA-PKCS1-v1_5 padding over `data` as it is, without a DigestInfo.
    pub(in crate::crypto) fn sign_pkcs1_raw(&self, data: &[u8]) -> Result<Vec<u8>> {
        self.bytes_by(c::RSA_sign_raw, c::RSA_PKCS1_PADDING, data, Error::Internal)
    }

    /// What an EMSA-PKCS1-v1_5 signature carries.
    pub(in crate::crypto) fn recover_pkcs1(&self, signature: &[u8]) -> Result<Vec<u8>> {
        self.bytes_by(c::RSA_verify_raw, c::RSA_PKCS1_PADDING, signature, Error::SignatureInvalid)
    }

    /// RSASSA-PKCS1-v1_5 over a digest of exactly the hash's length.
    pub(in crate::crypto) fn sign_pkcs1(&self, hash: Hash, digest: &[u8]) -> Result<Vec<u8>> {
        let mut out = vec![0; self.len()];
        let mut len: c_uint = 0;
        // SAFETY: key and digest are alive; the output has RSA_size bytes, as the function requires.
        let code =
            unsafe { c::RSA_sign(digest_nid(hash), digest.as_ptr(), digest.len(), out.as_mut_ptr(), &mut len, self.0) };
        check(code, Error::Internal)?;
        Ok(out)
    }

    pub(in crate::crypto) fn verify_pkcs1(&self, hash: Hash, digest: &[u8], signature: &[u8]) -> Result<()> {
        // SAFETY: key, digest and signature are alive and only read.
        let code = unsafe {
            c::RSA_verify(digest_nid(hash), digest.as_ptr(), digest.len(), signature.as_ptr(), signature.len(), self.0)
        };
        check(code, Error::SignatureInvalid)
    }

    pub(in crate::crypto) fn sign_pss(&self, hash: Hash, mgf: Hash, salt_len: usize, digest: &[u8]) -> Result<Vec<u8>> {
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

    pub(in crate::crypto) fn verify_pss(
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

    pub(in crate::crypto) fn encrypt_pkcs1(&self, data: &[u8]) -> Result<Vec<u8>> {
        self.bytes_by(c::RSA_encrypt, c::RSA_PKCS1_PADDING, data, Error::Internal)
    }

    /// The private-key operation without a look at the padding.
    pub(in crate::crypto) fn decrypt_raw(&self, ciphertext: &[u8]) -> Result<SecretBytes> {
        let mut out = SecretBytes::zeroed(self.len());
        let refused = Error::EncryptedDataInvalid;
        self.transform(c::RSA_decrypt, c::RSA_NO_PADDING, ciphertext, out.expose_mut(), refused)?;
        Ok(out)
    }

    /// The public-key operation over as many bytes as the modulus has.
    pub(in crate::crypto) fn encrypt_raw(&self, data: &[u8]) -> Result<Vec<u8>> {
        self.bytes_by(c::RSA_encrypt, c::RSA_NO_PADDING, data, Error::DataLength)
    }

    pub(in crate::crypto) fn encrypt_oaep(&self, hash: Hash, mgf: Hash, label: &[u8], data: &[u8]) -> Result<Vec<u8>> {
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

    pub(in crate::crypto) fn decrypt_oaep(
        &self,
        hash: Hash,
        mgf: Hash,
        label: &[u8],
        ciphertext: &[u8],
    ) -> Result<SecretBytes> {
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
pub(in crate::crypto) fn rsa_factors(n: &[u8], e: &[u8], d: &[u8]) -> Result<(SecretBytes, SecretBytes)> {
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
