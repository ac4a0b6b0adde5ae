//! ML-DSA keys in AWS-LC: from seed or expanded form, signatures over a message representative.

use core::ffi::c_int;
use core::ptr;

use aws_lc_sys as c;

use super::raw_key::RawKey;
use super::{Error, MessageContext, Result, check, set_context_string};
use crate::SecretBytes;

/// The ML-DSA parameter sets, by the library's number.
#[derive(Clone, Copy)]
pub(in crate::crypto) enum MlDsaSet {
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
pub(in crate::crypto) struct MlDsaKey(RawKey);

impl MlDsaKey {
    fn own(key: *mut c::EVP_PKEY) -> Result<Self> {
        RawKey::own(key).map(MlDsaKey)
    }

    /// A private key from its 32-byte seed or its expanded form; the library tells them by their length and checks what it can.
    pub(in crate::crypto) fn private(set: MlDsaSet, key: &[u8]) -> Result<Self> {
        // SAFETY: pointer and length come from one slice; the function copies it.
        MlDsaKey::own(unsafe { c::EVP_PKEY_pqdsa_new_raw_private_key(set.nid(), key.as_ptr(), key.len()) })
    }

    pub(in crate::crypto) fn public(set: MlDsaSet, bytes: &[u8]) -> Result<Self> {
        // SAFETY: pointer and length come from one slice; the function checks the length and copies it.
        MlDsaKey::own(unsafe { c::EVP_PKEY_pqdsa_new_raw_public_key(set.nid(), bytes.as_ptr(), bytes.len()) })
    }

    pub(in crate::crypto) fn public_bytes(&self, len: usize) -> Result<Vec<u8>> {
        self.0.public_bytes(len)
    }

    /// The expanded private key of FIPS 204.
    pub(in crate::crypto) fn expanded(&self, len: usize) -> Result<SecretBytes> {
        self.0.expanded(len)
    }

    /// A hedged signature over the message.
    pub(in crate::crypto) fn sign(&self, message: &[u8], context: &[u8], signature_len: usize) -> Result<Vec<u8>> {
        let digest = MessageContext::new()?;
        let mut pctx = ptr::null_mut();
        // SAFETY: context and key are alive; the inner context set here belongs to the outer one.
        let code = unsafe { c::EVP_DigestSignInit(digest.0, &mut pctx, ptr::null(), ptr::null_mut(), self.0.get()) };
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

    pub(in crate::crypto) fn verify(&self, message: &[u8], context: &[u8], signature: &[u8]) -> Result<()> {
        let digest = MessageContext::new()?;
        let mut pctx = ptr::null_mut();
        // SAFETY: context and key are alive; the inner context set here belongs to the outer one.
        let code = unsafe { c::EVP_DigestVerifyInit(digest.0, &mut pctx, ptr::null(), ptr::null_mut(), self.0.get()) };
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
    pub(in crate::crypto) fn sign_representative(&self, mu: &[u8; 64], signature_len: usize) -> Result<Vec<u8>> {
        let context = self.0.context()?;
        // SAFETY: the context is alive.
        check(unsafe { c::EVP_PKEY_sign_init(context.0) }, Error::Internal)?;
        let (mut out, mut written) = (vec![0; signature_len], signature_len);
        // SAFETY: context and input are alive; `written` holds the output's length.
        let code = unsafe { c::EVP_PKEY_sign(context.0, out.as_mut_ptr(), &mut written, mu.as_ptr(), mu.len()) };
        check(code, Error::Internal)?;
        if written == signature_len { Ok(out) } else { Err(Error::Internal) }
    }

    pub(in crate::crypto) fn verify_representative(&self, mu: &[u8; 64], signature: &[u8]) -> Result<()> {
        let context = self.0.context()?;
        // SAFETY: the context is alive.
        check(unsafe { c::EVP_PKEY_verify_init(context.0) }, Error::Internal)?;
        // SAFETY: context, signature and input are alive and only read.
        let code = unsafe { c::EVP_PKEY_verify(context.0, signature.as_ptr(), signature.len(), mu.as_ptr(), mu.len()) };
        check(code, Error::SignatureInvalid)
    }
}
