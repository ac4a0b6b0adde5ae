//! Ed25519ph and Ed25519ctx (RFC 8032, section 5.1), and X25519 (RFC 7748, section 5), over plain arrays.

use aws_lc_sys as c;

use super::{Error, Result, check};
use crate::SecretBytes;

/// The variants of Ed25519 that take a context of at most 255 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// Ed25519ctx: the message is signed.
    Context,
    /// Ed25519ph: its SHA-512 digest is signed.
    PreHash,
}

/// Signs under seed and public key.
pub(in crate::crypto) fn sign(
    variant: Variant,
    seed: &[u8; 32],
    public: &[u8; 32],
    message: &[u8],
    context: &[u8],
) -> Result<[u8; 64]> {
    // The library's private key is the seed followed by the public key.
    let mut private = SecretBytes::zeroed(64);
    private.expose_mut()[..32].copy_from_slice(seed);
    private.expose_mut()[32..].copy_from_slice(public);
    let mut out = [0; 64];
    let (key, (data, data_len)) = (private.expose().as_ptr(), (message.as_ptr(), message.len()));
    let (context, context_len) = (context.as_ptr(), context.len());
    // SAFETY: every pointer and length come from one slice or array; the key has 64 bytes and the output has 64.
    let code = unsafe {
        match variant {
            Variant::Context => c::ED25519ctx_sign(out.as_mut_ptr(), data, data_len, key, context, context_len),
            Variant::PreHash => c::ED25519ph_sign(out.as_mut_ptr(), data, data_len, key, context, context_len),
        }
    };
    check(code, Error::Internal)?;
    Ok(out)
}

/// Verifies a signature.
pub(in crate::crypto) fn verify(
    variant: Variant,
    public: &[u8; 32],
    message: &[u8],
    context: &[u8],
    signature: &[u8; 64],
) -> Result<()> {
    let (key, (data, data_len)) = (public.as_ptr(), (message.as_ptr(), message.len()));
    let (context, context_len) = (context.as_ptr(), context.len());
    // SAFETY: every pointer and length come from one slice or array; the key has 32 bytes and the signature 64.
    let code = unsafe {
        match variant {
            Variant::Context => c::ED25519ctx_verify(data, data_len, signature.as_ptr(), key, context, context_len),
            Variant::PreHash => c::ED25519ph_verify(data, data_len, signature.as_ptr(), key, context, context_len),
        }
    };
    check(code, Error::SignatureInvalid)
}

/// The shared secret of a scalar and a peer's coordinate; the library refuses one that is all zeros.
pub(in crate::crypto) fn x25519(scalar: &[u8; 32], peer: &[u8; 32]) -> Result<SecretBytes> {
    let mut out = SecretBytes::zeroed(32);
    // SAFETY: the three arrays have 32 bytes each.
    let code = unsafe { c::X25519(out.expose_mut().as_mut_ptr(), scalar.as_ptr(), peer.as_ptr()) };
    check(code, Error::InvalidKey)?;
    Ok(out)
}

/// The public coordinate of a scalar.
pub(in crate::crypto) fn x25519_public(scalar: &[u8; 32]) -> [u8; 32] {
    let mut out = [0; 32];
    // SAFETY: both arrays have 32 bytes.
    unsafe { c::X25519_public_from_private(out.as_mut_ptr(), scalar.as_ptr()) };
    out
}
