//! AES key wrap: KW (RFC 3394) for whole 8-byte blocks and KWP (RFC 5649) for any length; SP 800-38F, section 6.

use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit, consts::U16};
use aes::{Aes128, Aes192, Aes256};
use aes_kw::{AesKw, AesKwp};

use super::{Error, Result};
use crate::SecretBytes;

const SEMIBLOCK: usize = 8;

/// Which of the two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// RFC 3394: the key is at least 16 bytes, a multiple of 8.
    Kw,
    /// RFC 5649: the key is at least one byte.
    Kwp,
}

/// Length in bytes of the wrapped form of a key of `len` bytes.
pub(crate) fn wrapped_len(len: usize) -> usize {
    len.div_ceil(SEMIBLOCK) * SEMIBLOCK + SEMIBLOCK
}

/// Wraps key bytes.
///
/// # Errors
/// [`Error::KeySize`] if the wrapping key has not 16, 24 or 32 bytes, [`Error::DataLength`] if the form does not take keys
/// of this length.
pub(crate) fn wrap(form: Form, wrapping_key: &[u8], key: &[u8]) -> Result<Vec<u8>> {
    let taken = match form {
        Form::Kw => key.len() >= 2 * SEMIBLOCK && key.len().is_multiple_of(SEMIBLOCK),
        Form::Kwp => !key.is_empty() && u32::try_from(key.len()).is_ok(),
    };
    if !taken {
        return Err(Error::DataLength);
    }
    match wrapping_key.len() {
        16 => wrap_with::<Aes128>(form, wrapping_key, key),
        24 => wrap_with::<Aes192>(form, wrapping_key, key),
        32 => wrap_with::<Aes256>(form, wrapping_key, key),
        _ => Err(Error::KeySize),
    }
}

/// Opens a wrapped key.
///
/// # Errors
/// [`Error::KeySize`] if the wrapping key has not 16, 24 or 32 bytes, [`Error::EncryptedDataLength`] if no wrapped key has
/// this length, [`Error::WrappedKeyInvalid`] if it does not open.
pub(crate) fn unwrap(form: Form, wrapping_key: &[u8], wrapped: &[u8]) -> Result<SecretBytes> {
    let least = match form {
        Form::Kw => 3 * SEMIBLOCK,
        Form::Kwp => 2 * SEMIBLOCK,
    };
    if wrapped.len() < least || !wrapped.len().is_multiple_of(SEMIBLOCK) {
        return Err(Error::EncryptedDataLength);
    }
    match wrapping_key.len() {
        16 => unwrap_with::<Aes128>(form, wrapping_key, wrapped),
        24 => unwrap_with::<Aes192>(form, wrapping_key, wrapped),
        32 => unwrap_with::<Aes256>(form, wrapping_key, wrapped),
        _ => Err(Error::KeySize),
    }
}

fn wrap_with<C>(form: Form, wrapping_key: &[u8], key: &[u8]) -> Result<Vec<u8>>
where
    C: BlockCipherEncrypt<BlockSize = U16> + KeyInit,
{
    let mut out = vec![0; wrapped_len(key.len())];
    let written = match form {
        Form::Kw => AesKw::<C>::new_from_slice(wrapping_key).map_err(|_| Error::KeySize)?.wrap_key(key, &mut out),
        Form::Kwp => AesKwp::<C>::new_from_slice(wrapping_key).map_err(|_| Error::KeySize)?.wrap_key(key, &mut out),
    };
    let len = written.map_err(|_| Error::DataLength)?.len();
    out.truncate(len);
    Ok(out)
}

fn unwrap_with<C>(form: Form, wrapping_key: &[u8], wrapped: &[u8]) -> Result<SecretBytes>
where
    C: BlockCipherDecrypt<BlockSize = U16> + KeyInit,
{
    let mut out = SecretBytes::zeroed(wrapped.len());
    let opened = match form {
        Form::Kw => {
            AesKw::<C>::new_from_slice(wrapping_key).map_err(|_| Error::KeySize)?.unwrap_key(wrapped, out.expose_mut())
        }
        Form::Kwp => {
            AesKwp::<C>::new_from_slice(wrapping_key).map_err(|_| Error::KeySize)?.unwrap_key(wrapped, out.expose_mut())
        }
    };
    Ok(SecretBytes::copy_from(opened.map_err(|_| Error::WrappedKeyInvalid)?))
}
