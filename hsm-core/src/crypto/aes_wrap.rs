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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::hex;

    /// RFC 3394, section 4.1 and RFC 5649, section 6.
    #[test]
    fn the_examples_of_the_documents_hold() {
        let kek = hex("000102030405060708090a0b0c0d0e0f");
        let key = hex("00112233445566778899aabbccddeeff");
        let wrapped = hex("1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5");
        assert_eq!(wrap(Form::Kw, &kek, &key), Ok(wrapped));
        let kek = hex("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8");
        let key = hex("c37b7e6492584340bed12207808941155068f738");
        let wrapped = hex("138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a");
        assert_eq!(wrap(Form::Kwp, &kek, &key), Ok(wrapped));
    }

    #[test]
    fn every_length_comes_back() {
        for kek_len in [16, 24, 32] {
            let kek = vec![1; kek_len];
            for len in 1..=72 {
                let key = vec![9; len];
                let wrapped = wrap(Form::Kwp, &kek, &key).expect("wraps");
                assert_eq!(wrapped.len(), wrapped_len(len));
                assert_eq!(unwrap(Form::Kwp, &kek, &wrapped).expect("opens").expose(), key);
                let kw = wrap(Form::Kw, &kek, &key);
                assert_eq!(kw.is_ok(), len >= 16 && len % 8 == 0, "{len}");
                if let Ok(wrapped) = kw {
                    assert_eq!(unwrap(Form::Kw, &kek, &wrapped).expect("opens").expose(), key);
                    assert_eq!(unwrap(Form::Kwp, &kek, &wrapped).err(), Some(Error::WrappedKeyInvalid));
                }
            }
        }
    }

    #[test]
    fn lengths_out_of_range_are_refused() {
        for form in [Form::Kw, Form::Kwp] {
            assert_eq!(wrap(form, &[1; 16], &[]), Err(Error::DataLength));
            assert_eq!(wrap(form, &[1; 20], &[1; 16]), Err(Error::KeySize));
            assert_eq!(unwrap(form, &[1; 20], &[1; 24]).err(), Some(Error::KeySize));
            for len in [0, 8, 15, 23, 25] {
                assert_eq!(unwrap(form, &[1; 16], &vec![1; len]).err(), Some(Error::EncryptedDataLength), "{len}");
            }
        }
        assert_eq!(unwrap(Form::Kw, &[1; 16], &[1; 16]).err(), Some(Error::EncryptedDataLength));
    }

    #[test]
    fn any_change_is_noticed() {
        for form in [Form::Kw, Form::Kwp] {
            let wrapped = wrap(form, &[1; 32], &[2; 32]).expect("wraps");
            for position in 0..wrapped.len() {
                let mut wrong = wrapped.clone();
                wrong[position] ^= 1;
                assert_eq!(unwrap(form, &[1; 32], &wrong).err(), Some(Error::WrappedKeyInvalid), "{position}");
            }
        }
    }
}
