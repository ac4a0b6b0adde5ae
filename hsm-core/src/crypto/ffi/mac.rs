//! HMAC and AES-CMAC in AWS-LC.

use core::ptr;

use aws_lc_sys as c;

use super::{Error, Hash, Result, check, failed, md, must};

/// An HMAC in the making; wiped when dropped.
pub(in crate::crypto) struct HmacState {
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

    pub(in crate::crypto) fn new(hash: Hash, key: &[u8]) -> Self {
        let state = HmacState::empty(hash);
        // SAFETY: the context is alive and new; pointer and length come from one slice; the algorithm is a constant.
        must(unsafe { c::HMAC_Init_ex(state.context, key.as_ptr().cast(), key.len(), md(hash), ptr::null_mut()) });
        state
    }

    pub(in crate::crypto) fn update(&mut self, data: &[u8]) {
        // SAFETY: the context is alive; pointer and length come from one slice.
        must(unsafe { c::HMAC_Update(self.context, data.as_ptr(), data.len()) });
    }

    pub(in crate::crypto) fn finish(self) -> Vec<u8> {
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
pub(in crate::crypto) struct CmacState(*mut c::CMAC_CTX);

// SAFETY: AWS-LC's CMAC context may be moved between threads; it holds no thread-local state.
unsafe impl Send for CmacState {}

impl CmacState {
    pub(in crate::crypto) fn new(key: &[u8]) -> Result<Self> {
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

    pub(in crate::crypto) fn update(&mut self, data: &[u8]) {
        // SAFETY: the context is alive; pointer and length come from one slice.
        must(unsafe { c::CMAC_Update(self.0, data.as_ptr(), data.len()) });
    }

    pub(in crate::crypto) fn finish(self) -> [u8; 16] {
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
