//! Digests, SHAKE and PBKDF2 in AWS-LC.

use core::ptr;

use aws_lc_sys as c;

use super::{Error, Hash, MessageContext, Result, check, md, must};

/// A digest in the making; wiped when dropped.
pub(in crate::crypto) struct DigestState {
    context: MessageContext,
    hash: Hash,
}

// SAFETY: AWS-LC's digest context may be moved between threads; it holds no thread-local state.
unsafe impl Send for DigestState {}

impl DigestState {
    pub(in crate::crypto) fn new(hash: Hash) -> Self {
        let context = MessageContext::new().expect("memory for a digest");
        // SAFETY: the context is alive and new; the algorithm is a constant.
        must(unsafe { c::EVP_DigestInit_ex(context.0, md(hash), ptr::null_mut()) });
        DigestState { context, hash }
    }

    pub(in crate::crypto) fn update(&mut self, data: &[u8]) {
        // SAFETY: the context is alive; pointer and length come from one slice.
        must(unsafe { c::EVP_DigestUpdate(self.context.0, data.as_ptr().cast(), data.len()) });
    }

    pub(in crate::crypto) fn finish(self) -> Vec<u8> {
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
pub(in crate::crypto) struct ShakeState(MessageContext);

// SAFETY: AWS-LC's digest context may be moved between threads; it holds no thread-local state.
unsafe impl Send for ShakeState {}

impl ShakeState {
    pub(in crate::crypto) fn new(shake: Shake) -> Self {
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

    pub(in crate::crypto) fn update(&mut self, data: &[u8]) {
        // SAFETY: the context is alive; pointer and length come from one slice.
        must(unsafe { c::EVP_DigestUpdate(self.0.0, data.as_ptr().cast(), data.len()) });
    }

    /// Fills the output, which may have any length.
    pub(in crate::crypto) fn finish(self, out: &mut [u8]) {
        // SAFETY: the context is alive; pointer and length come from one slice.
        must(unsafe { c::EVP_DigestFinalXOF(self.0.0, out.as_mut_ptr(), out.len()) });
    }
}

/// The digest of one piece.
pub(in crate::crypto) fn digest(hash: Hash, data: &[u8]) -> Vec<u8> {
    let mut out = vec![0; hash.output_len()];
    // SAFETY: the input is one slice; the output has the digest's length; null length pointer and engine are allowed.
    must(unsafe {
        let (from, to) = (data.as_ptr().cast(), out.as_mut_ptr());
        c::EVP_Digest(from, data.len(), to, ptr::null_mut(), md(hash), ptr::null_mut())
    });
    out
}

/// Fills `out` by PBKDF2 over HMAC.
pub(in crate::crypto) fn pbkdf2(
    hash: Hash,
    password: &[u8],
    salt: &[u8],
    iterations: u32,
    out: &mut [u8],
) -> Result<()> {
    // SAFETY: password, salt and output are slices with their true lengths; the algorithm is a constant.
    let code = unsafe {
        let (password_len, salt_len, out_len) = (password.len(), salt.len(), out.len());
        let password = password.as_ptr().cast();
        let to = out.as_mut_ptr();
        c::PKCS5_PBKDF2_HMAC(password, password_len, salt.as_ptr(), salt_len, iterations, md(hash), out_len, to)
    };
    check(code, Error::Internal)
}
