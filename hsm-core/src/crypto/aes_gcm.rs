//! AES-GCM and GMAC (SP 800-38D) with 128, 192 and 256-bit keys, IVs of 1 to 4096 bytes and tags of 32 to 128 bits; GCM in one
//! piece, and for encryption in many: no plaintext is given before its tag is checked. How short a tag may be is, like the IV,
//! decided above this room.
//!
//! Which IV may be used, and how often, is decided above this room.

use super::ffi::{AesCipher, AesMode, Direction};
use super::{Error, MacStream, Result, SealStream};
use crate::SecretBytes;

/// The longest IV in bytes.
pub(crate) const IV_MAX: usize = 4096;
/// The longest tag in bytes.
pub(crate) const TAG_MAX: usize = 16;

/// The parameters of one message.
#[derive(Clone, Copy)]
pub(crate) struct Params<'a> {
    iv: &'a [u8],
    aad: &'a [u8],
    tag_len: usize,
}

impl<'a> Params<'a> {
    /// Checks the IV's length (1 to 4096 bytes) and the tag's (32 to 128 bits, a multiple of 8).
    ///
    /// # Errors
    /// [`Error::InvalidParameter`].
    pub(crate) fn new(iv: &'a [u8], aad: &'a [u8], tag_bits: u32) -> Result<Self> {
        let tag_fits = (32..=128).contains(&tag_bits) && tag_bits.is_multiple_of(8);
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

    /// Begins a message that is fed piece by piece.
    pub(crate) fn seal(&self, params: &Params<'_>) -> Result<Sealer> {
        Ok(Sealer { cipher: self.start(Direction::Encrypt, params)?, tag_len: params.tag_len })
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

/// GMAC (SP 800-38D, section 3): the tag of a message that is authenticated only, fed piece by piece.
pub(crate) struct Gmac(AesCipher);

impl Gmac {
    /// A MAC of the parameters' additional data.
    ///
    /// # Errors
    /// [`Error::KeySize`].
    pub(crate) fn new(key: &[u8], params: &Params<'_>) -> Result<Self> {
        Ok(Gmac(Key::new(key)?.start(Direction::Encrypt, params)?))
    }
}

impl MacStream for Gmac {
    fn update(&mut self, data: &[u8]) {
        for piece in data.chunks(1 << 30) {
            self.0.authenticate(piece).expect("no message of this process is as long as the mode's limit");
        }
    }

    fn finish(mut self: Box<Self>) -> Vec<u8> {
        let mut tag = vec![0; TAG_MAX];
        self.0.finish_with_tag(&mut tag).expect("the mode gives a tag of its full length");
        tag
    }
}

/// An encryption in pieces.
pub(crate) struct Sealer {
    cipher: AesCipher,
    tag_len: usize,
}

impl SealStream for Sealer {
    fn update(&mut self, plaintext: &[u8]) -> Result<Vec<u8>> {
        let mut out = vec![0; plaintext.len()];
        self.cipher.process(plaintext, &mut out)?;
        Ok(out)
    }

    fn check_len(&self) -> Result<()> {
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<u8>> {
        let mut tag = vec![0; self.tag_len];
        self.cipher.finish_with_tag(&mut tag)?;
        Ok(tag)
    }
}

#[cfg(test)]
mod tests {
    use aes_gcm::aead::{AeadInOut, KeyInit, consts::U4096};

    use super::*;

    #[test]
    fn parameters_out_of_range_are_refused() {
        for tag_bits in [0, 8, 24, 95, 100, 129, 136, u32::MAX] {
            assert_eq!(Params::new(&[1; 12], &[], tag_bits).err(), Some(Error::InvalidParameter), "{tag_bits}");
        }
        for iv_len in [0, IV_MAX + 1] {
            assert_eq!(Params::new(&vec![1; iv_len], &[], 128).err(), Some(Error::InvalidParameter), "{iv_len}");
        }
        for key_len in [0, 15, 17, 31, 33] {
            assert_eq!(Key::new(&vec![1; key_len]).err(), Some(Error::KeySize), "{key_len}");
        }
    }

    #[test]
    fn every_key_iv_and_tag_length_opens_what_it_sealed() {
        for key_len in [16, 24, 32] {
            let key = Key::new(&vec![7; key_len]).expect("a key");
            for iv_len in [1, 8, 12, 13, 16, 17, 60, 257, IV_MAX] {
                let iv = vec![9; iv_len];
                for tag_bits in [32, 64, 96, 104, 112, 120, 128] {
                    let params = Params::new(&iv, b"aad", tag_bits).expect("in range");
                    let sealed = key.encrypt(&params, b"plaintext").expect("sealed");
                    assert_eq!(sealed.len(), 9 + params.tag_len());
                    assert_eq!(key.decrypt(&params, &sealed).expect("opens").expose(), b"plaintext");
                }
            }
        }
    }

    #[test]
    fn the_longest_iv_agrees_with_another_implementation() {
        let (key, iv) = ([3; 32], [5; IV_MAX]);
        let mine = Key::new(&key).expect("a key").encrypt(&Params::new(&iv, b"aad", 128).expect("in range"), b"text");
        let theirs = ::aes_gcm::AesGcm::<::aes::Aes256, U4096>::new(&key.into());
        let mut buffer = b"text".to_vec();
        let tag = theirs.encrypt_inout_detached(&iv.into(), b"aad", buffer.as_mut_slice().into()).expect("sealed");
        buffer.extend_from_slice(&tag);
        assert_eq!(mine, Ok(buffer));
    }

    #[test]
    fn pieces_give_the_ciphertext_and_tag_of_the_whole() {
        let (key, text) = (Key::new(&[7; 16]).expect("a key"), [5; 100]);
        let params = Params::new(&[9; 12], b"aad", 128).expect("in range");
        for piece in [1, 15, 16, 17, 99, 100] {
            let mut sealer = Box::new(key.seal(&params).expect("begins"));
            let mut sealed = Vec::new();
            text.chunks(piece).for_each(|part| sealed.extend(sealer.update(part).expect("goes on")));
            sealed.extend(sealer.finish().expect("ends"));
            assert_eq!(key.encrypt(&params, &text), Ok(sealed), "{piece}");
        }
    }

    #[test]
    fn any_change_is_noticed() {
        let key = Key::new(&[1; 32]).expect("a key");
        let params = Params::new(&[2; 12], b"aad", 96).expect("in range");
        let sealed = key.encrypt(&params, b"plaintext").expect("sealed");
        for position in 0..sealed.len() {
            let mut wrong = sealed.clone();
            wrong[position] ^= 0x80;
            assert_eq!(key.decrypt(&params, &wrong).err(), Some(Error::AuthenticationFailed), "{position}");
        }
        let other_aad = Params::new(&[2; 12], b"AAD", 96).expect("in range");
        assert_eq!(key.decrypt(&other_aad, &sealed).err(), Some(Error::AuthenticationFailed));
        let other_iv = Params::new(&[3; 12], b"aad", 96).expect("in range");
        assert_eq!(key.decrypt(&other_iv, &sealed).err(), Some(Error::AuthenticationFailed));
        let longer_tag = Params::new(&[2; 12], b"aad", 128).expect("in range");
        assert_eq!(key.decrypt(&longer_tag, &sealed).err(), Some(Error::AuthenticationFailed));
        assert_eq!(key.decrypt(&params, &sealed[..11]).err(), Some(Error::EncryptedDataLength));
    }

    #[test]
    fn a_key_is_not_changed_by_its_uses() {
        let key = Key::new(&[1; 16]).expect("a key");
        let long = Params::new(&[2; 200], b"aad", 128).expect("in range");
        let short = Params::new(&[2; 12], b"", 128).expect("in range");
        let before = key.encrypt(&short, b"x").expect("sealed");
        let sealed = key.encrypt(&long, b"y").expect("sealed");
        assert!(key.decrypt(&short, &sealed).is_err());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| assert_eq!(key.encrypt(&short, b"x"), Ok(before.clone()))));
            }
        });
    }
}
