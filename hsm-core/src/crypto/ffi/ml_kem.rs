//! ML-KEM keys in AWS-LC: from seed or expanded form, the checks of FIPS 203, section 7, encapsulation and decapsulation.

use core::ffi::c_int;
use core::ptr;

use aws_lc_sys as c;

use super::raw_key::RawKey;
use super::{Error, Result, check};
use crate::SecretBytes;

/// The ML-KEM parameter sets, by the library's number.
#[derive(Clone, Copy)]
pub(in crate::crypto) enum MlKemSet {
    MlKem512,
    MlKem768,
    MlKem1024,
}

impl MlKemSet {
    fn nid(self) -> c_int {
        match self {
            MlKemSet::MlKem512 => c::NID_MLKEM512,
            MlKemSet::MlKem768 => c::NID_MLKEM768,
            MlKemSet::MlKem1024 => c::NID_MLKEM1024,
        }
    }
}

/// An ML-KEM key, public or private, never changed after construction.
pub(in crate::crypto) struct MlKemKey(RawKey);

impl MlKemKey {
    fn own(key: *mut c::EVP_PKEY) -> Result<Self> {
        RawKey::own(key).map(MlKemKey)
    }

    /// A private key from its PKCS#8 form (the library makes keys from a seed only through it).
    pub(in crate::crypto) fn from_pkcs8(der: &[u8]) -> Result<Self> {
        let mut reader = c::CBS { data: ptr::null(), len: 0 };
        // SAFETY: reader and bytes are alive through both calls; the function copies what it keeps.
        MlKemKey::own(unsafe {
            c::CBS_init(&mut reader, der.as_ptr(), der.len());
            c::EVP_parse_private_key(&mut reader)
        })
    }

    /// A private key from its two expanded halves; their encodings and that they belong together are checked.
    pub(in crate::crypto) fn from_halves(set: MlKemSet, public: &[u8], secret: &[u8]) -> Result<Self> {
        // SAFETY: each pointer and length come from one slice; the function checks the lengths and copies both.
        let key = MlKemKey::own(unsafe {
            let (public, public_len) = (public.as_ptr(), public.len());
            c::EVP_PKEY_kem_new_raw_key(set.nid(), public, public_len, secret.as_ptr(), secret.len())
        })?;
        let context = key.0.context()?;
        // SAFETY: the context and its key are alive.
        check(unsafe { c::EVP_PKEY_check(context.0) }, Error::InvalidKey)?;
        Ok(key)
    }

    /// A public key; its encoding is checked (FIPS 203, section 7.2: the modulus check).
    pub(in crate::crypto) fn public(set: MlKemSet, bytes: &[u8]) -> Result<Self> {
        // SAFETY: pointer and length come from one slice; the function checks the length and copies it.
        let key = MlKemKey::own(unsafe { c::EVP_PKEY_kem_new_raw_public_key(set.nid(), bytes.as_ptr(), bytes.len()) })?;
        let context = key.0.context()?;
        // SAFETY: the context and its key are alive.
        check(unsafe { c::EVP_PKEY_public_check(context.0) }, Error::InvalidKey)?;
        Ok(key)
    }

    pub(in crate::crypto) fn public_bytes(&self, len: usize) -> Result<Vec<u8>> {
        self.0.public_bytes(len)
    }

    /// The expanded private key of FIPS 203.
    pub(in crate::crypto) fn expanded(&self, len: usize) -> Result<SecretBytes> {
        self.0.expanded(len)
    }

    /// A fresh shared secret and the ciphertext that carries it.
    pub(in crate::crypto) fn encapsulate(&self, ciphertext_len: usize) -> Result<(Vec<u8>, SecretBytes)> {
        let context = self.0.context()?;
        let (mut ciphertext, mut ciphertext_written) = (vec![0; ciphertext_len], ciphertext_len);
        let mut secret = SecretBytes::zeroed(SECRET_LEN);
        let mut secret_written = SECRET_LEN;
        // SAFETY: context and key are alive; both lengths are those of the buffers.
        let code = unsafe {
            let secret = secret.expose_mut().as_mut_ptr();
            let (out, out_len) = (ciphertext.as_mut_ptr(), &mut ciphertext_written);
            c::EVP_PKEY_encapsulate(context.0, out, out_len, secret, &mut secret_written)
        };
        check(code, Error::Internal)?;
        let whole = ciphertext_written == ciphertext_len && secret_written == SECRET_LEN;
        if whole { Ok((ciphertext, secret)) } else { Err(Error::Internal) }
    }

    /// The shared secret of a ciphertext; one that was not made for the key gives another secret, not an error.
    pub(in crate::crypto) fn decapsulate(&self, ciphertext: &[u8]) -> Result<SecretBytes> {
        let context = self.0.context()?;
        let mut secret = SecretBytes::zeroed(SECRET_LEN);
        let mut written = SECRET_LEN;
        // SAFETY: context, key and ciphertext are alive; `written` holds the output's length.
        let code = unsafe {
            let out = secret.expose_mut().as_mut_ptr();
            c::EVP_PKEY_decapsulate(context.0, out, &mut written, ciphertext.as_ptr(), ciphertext.len())
        };
        check(code, Error::Internal)?;
        if written == SECRET_LEN { Ok(secret) } else { Err(Error::Internal) }
    }
}

/// Bytes of a shared secret.
const SECRET_LEN: usize = 32;
