//! What ML-DSA and ML-KEM keys share: AWS-LC holds them as an EVP_PKEY and knows them by raw bytes.

use aws_lc_sys as c;

use super::{Error, KeyContext, Result, check, failed};
use crate::SecretBytes;

/// A key, public or private, never changed after construction.
pub(super) struct RawKey(*mut c::EVP_PKEY);

// SAFETY: AWS-LC's EVP_PKEY object may be moved between threads; it holds no thread-local state.
unsafe impl Send for RawKey {}
// SAFETY: the object is only read after construction; its reference count is atomic.
unsafe impl Sync for RawKey {}

impl RawKey {
    /// Takes a key that the library has just made; NULL is a key that it refused.
    pub(super) fn own(key: *mut c::EVP_PKEY) -> Result<Self> {
        if key.is_null() { failed(Error::InvalidKey) } else { Ok(RawKey(key)) }
    }

    /// The key for a call that only reads it.
    pub(super) fn get(&self) -> *mut c::EVP_PKEY {
        self.0
    }

    /// A context of one operation.
    pub(super) fn context(&self) -> Result<KeyContext> {
        // SAFETY: the key is alive.
        unsafe { KeyContext::new(self.0) }
    }

    /// The public key, which has so many bytes.
    pub(super) fn public_bytes(&self, len: usize) -> Result<Vec<u8>> {
        let (mut out, mut written) = (vec![0; len], len);
        // SAFETY: the key is alive; `written` holds the output's length.
        let code = unsafe { c::EVP_PKEY_get_raw_public_key(self.0, out.as_mut_ptr(), &mut written) };
        check(code, Error::Internal)?;
        if written == len { Ok(out) } else { Err(Error::Internal) }
    }

    /// The expanded private key, which has so many bytes.
    pub(super) fn expanded(&self, len: usize) -> Result<SecretBytes> {
        let (mut out, mut written) = (SecretBytes::zeroed(len), len);
        // SAFETY: the key is alive; `written` holds the output's length.
        let code = unsafe { c::EVP_PKEY_get_raw_private_key(self.0, out.expose_mut().as_mut_ptr(), &mut written) };
        check(code, Error::Internal)?;
        if written == len { Ok(out) } else { Err(Error::Internal) }
    }
}

impl Drop for RawKey {
    fn drop(&mut self) {
        // SAFETY: the key is owned by this value and freed once; the library wipes it.
        unsafe { c::EVP_PKEY_free(self.0) };
    }
}
