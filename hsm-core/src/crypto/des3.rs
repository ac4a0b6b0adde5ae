//! Triple DES with three keys (SP 800-67 Revision 2) in ECB and CBC (SP 800-38A), for old applications: NIST disallows it for new
//! ciphertexts since 2024, and blocks of 8 bytes repeat after some gigabytes.

use super::aes_cbc::{BlockStream, Padding};
use super::ffi::{AesCipher, Direction};
use super::{CipherStream, Error, Result};

/// Length of a key in bytes, parity bits included.
pub(crate) const KEY_LEN: usize = 24;
/// Length of a block in bytes.
pub(crate) const BLOCK: usize = 8;

/// A CBC stream.
///
/// # Errors
/// [`Error::KeySize`] if the key has not 24 bytes, [`Error::InvalidParameter`] if the IV has not 8.
pub(crate) fn cbc(direction: Direction, padding: Padding, key: &[u8], iv: &[u8]) -> Result<Box<dyn CipherStream>> {
    let mut cipher = AesCipher::triple_des(true, direction, sized(key)?)?;
    cipher.set_block_iv(direction, iv)?;
    Ok(Box::new(BlockStream::new(cipher, BLOCK, direction, padding)))
}

/// An ECB stream over a whole number of blocks.
///
/// # Errors
/// [`Error::KeySize`] if the key has not 24 bytes.
pub(crate) fn ecb(direction: Direction, key: &[u8]) -> Result<Box<dyn CipherStream>> {
    let cipher = AesCipher::triple_des(false, direction, sized(key)?)?;
    Ok(Box::new(BlockStream::new(cipher, BLOCK, direction, Padding::None)))
}

fn sized(key: &[u8]) -> Result<&[u8; KEY_LEN]> {
    key.try_into().map_err(|_| Error::KeySize)
}

/// Gives every byte an odd number of ones by its lowest bit, which the cipher does not use.
pub(crate) fn set_odd_parity(key: &mut [u8]) {
    for byte in key {
        let ones = (*byte & 0xfe).count_ones();
        *byte = (*byte & 0xfe) | u8::from(ones % 2 == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::hex;

    const KEY: &str = "0123456789abcdef23456789abcdef01456789abcdef0123";

    fn run(mut stream: Box<dyn CipherStream>, input: &[u8], piece: usize) -> Result<Vec<u8>> {
        let mut output = Vec::new();
        for part in input.chunks(piece) {
            output.extend(stream.update(part)?);
        }
        output.extend(stream.finish()?);
        Ok(output)
    }

    /// SP 800-67 Revision 1, appendix B.1.
    #[test]
    fn ecb_gives_the_published_answer() {
        let (key, text) = (hex(KEY), b"The qufck brown fox jump");
        let sealed = hex("a826fd8ce53b855fcce21c8112256fe668d5c05dd9b6b900");
        assert_eq!(run(ecb(Direction::Encrypt, &key).expect("a key"), text, 5), Ok(sealed.clone()));
        assert_eq!(run(ecb(Direction::Decrypt, &key).expect("a key"), &sealed, 5), Ok(text.to_vec()));
    }

    #[test]
    fn every_length_comes_back_in_pieces_of_every_length() {
        let (key, iv) = (hex(KEY), [9; BLOCK]);
        for len in 0..=25 {
            let message: Vec<u8> = (0..len).collect();
            let stream = |direction| cbc(direction, Padding::Pkcs7, &key, &iv).expect("a key");
            let sealed = run(stream(Direction::Encrypt), &message, 64).expect("sealed");
            assert_eq!(sealed.len(), (usize::from(len) / BLOCK + 1) * BLOCK);
            for piece in 1..=sealed.len() {
                assert_eq!(run(stream(Direction::Decrypt), &sealed, piece), Ok(message.clone()), "{len} {piece}");
            }
        }
    }

    #[test]
    fn what_has_another_length_or_padding_is_refused() {
        for len in [0, 8, 16, 23, 25, 32] {
            assert_eq!(ecb(Direction::Encrypt, &vec![1; len]).err(), Some(Error::KeySize));
        }
        let key = [1; KEY_LEN];
        for len in [0, 7, 9, 16] {
            let refused = cbc(Direction::Encrypt, Padding::None, &key, &vec![1; len]);
            assert_eq!(refused.err(), Some(Error::InvalidParameter));
        }
        let open =
            |input: &[u8]| run(cbc(Direction::Decrypt, Padding::Pkcs7, &key, &[0; 8]).expect("a key"), input, 64);
        // Sixteen is a padding of AES, and no padding here.
        let sealed = run(cbc(Direction::Encrypt, Padding::None, &key, &[0; 8]).expect("a key"), &[16; 16], 64);
        assert_eq!(open(&sealed.expect("sealed")), Err(Error::EncryptedDataInvalid));
        assert_eq!(open(&[0; 9]), Err(Error::EncryptedDataLength));
    }

    #[test]
    fn parity_is_odd_and_the_other_bits_stay() {
        let mut bytes: Vec<u8> = (0..=255).collect();
        set_odd_parity(&mut bytes);
        for (before, after) in (0..=255_u8).zip(bytes) {
            assert_eq!((after.count_ones() % 2, after & 0xfe), (1, before & 0xfe));
        }
    }
}
