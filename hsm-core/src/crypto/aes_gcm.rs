//! AES-GCM (SP 800-38D) with 128, 192 and 256-bit keys, IVs of 1 to 256 bytes and tags of 96 to 128 bits, in one piece:
//! no plaintext is given before its tag is checked.
//!
//! Which IV may be used, and how often, is decided above this room.

use super::ffi::{AesCipher, AesMode, Direction};
use super::{Error, Result};
use crate::SecretBytes;

/// The longest IV in bytes.
pub(crate) const IV_MAX: usize = 256;

/// The parameters of one message.
#[derive(Clone, Copy)]
pub(crate) struct Params<'a> {
    iv: &'a [u8],
    aad: &'a [u8],
    tag_len: usize,
}

impl<'a> Params<'a> {
    /// Checks the IV's length (1 to 256 bytes) and the tag's (96 to 128 bits, a multiple of 8).
    ///
    /// # Errors
    /// [`Error::InvalidParameter`].
    pub(crate) fn new(iv: &'a [u8], aad: &'a [u8], tag_bits: u32) -> Result<Self> {
        let tag_fits = (96..=128).contains(&tag_bits) && tag_bits.is_multiple_of(8);
        if !tag_fits || iv.is_empty() || iv.len() > IV_MAX {
            return Err(Error::InvalidParameter);
        }
        Ok(Params { iv, aad, tag_len: (tag_bits / 8) as usize })
    }

    /// Length of the tag in bytes: ciphertexts are longer than plaintexts by as much.
    pub(crate) fn tag_len(&self) -> usize {
        self.tag_len
    }
}

/// A key whose schedule has been run; wiped when dropped.
pub(crate) struct Key(AesCipher);

impl Key {
    /// Prepares a key of 16, 24 or 32 bytes.
    ///
    /// # Errors
    /// [`Error::KeySize`] for another length.
    pub(crate) fn new(key: &[u8]) -> Result<Self> {
        Ok(Key(AesCipher::new(AesMode::Gcm, Direction::Encrypt, key)?))
    }

    fn start(&self, direction: Direction, params: &Params<'_>) -> Result<AesCipher> {
        let mut cipher = self.0.duplicate()?;
        cipher.set_gcm_iv(direction, params.iv)?;
        cipher.authenticate(params.aad)?;
        Ok(cipher)
    }

    /// The ciphertext followed by the tag.
    pub(crate) fn encrypt(&self, params: &Params<'_>, plaintext: &[u8]) -> Result<Vec<u8>> {
        let mut cipher = self.start(Direction::Encrypt, params)?;
        let mut out = vec![0; plaintext.len() + params.tag_len];
        let (ciphertext, tag) = out.split_at_mut(plaintext.len());
        cipher.process(plaintext, ciphertext)?;
        cipher.finish_with_tag(tag)?;
        Ok(out)
    }

    /// The plaintext of a ciphertext followed by its tag.
    ///
    /// # Errors
    /// [`Error::EncryptedDataLength`] if it is shorter than a tag, [`Error::AuthenticationFailed`] if it does not open.
    pub(crate) fn decrypt(&self, params: &Params<'_>, ciphertext_and_tag: &[u8]) -> Result<SecretBytes> {
        let len = ciphertext_and_tag.len().checked_sub(params.tag_len).ok_or(Error::EncryptedDataLength)?;
        let (ciphertext, tag) = ciphertext_and_tag.split_at(len);
        let mut cipher = self.start(Direction::Decrypt, params)?;
        let mut plaintext = SecretBytes::zeroed(len);
        cipher.process(ciphertext, plaintext.expose_mut())?;
        cipher.finish_checking_tag(tag)?;
        Ok(plaintext)
    }
}
