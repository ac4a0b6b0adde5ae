//! AES-XTS (IEEE 1619, as SP 800-38E allows it) with two keys of 128 or 256 bits in one value, over data units of 16 bytes to
//! 16 MiB, in one piece because of the ciphertext stealing at the end. It hides what is on a disk; it authenticates nothing.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::ffi::{AesCipher, AesMode, Direction};
use super::{Error, Result};
use crate::SecretBytes;

const BLOCK: usize = 16;
/// The longest data unit in bytes: 2^20 blocks (SP 800-38E, section 4).
const UNIT_MAX: usize = BLOCK << 20;

/// The two keys of a value, which must differ (FIPS 140-3 implementation guidance C.I).
///
/// # Errors
/// [`Error::KeySize`] if the value has not 32 or 64 bytes, [`Error::InvalidKey`] if its halves are the same.
pub(crate) fn split(key: &[u8]) -> Result<(&[u8], &[u8])> {
    if !matches!(key.len(), 32 | 64) {
        return Err(Error::KeySize);
    }
    let (data, tweak) = key.split_at(key.len() / 2);
    if data.ct_eq(tweak).into() { Err(Error::InvalidKey) } else { Ok((data, tweak)) }
}

/// Multiplies by x in the field of 2^128 elements, least significant byte first (IEEE 1619, section 5.2).
fn doubled(tweak: [u8; BLOCK]) -> [u8; BLOCK] {
    let number = u128::from_le_bytes(tweak);
    let reduction = 0x87 & (number >> 127).wrapping_neg();
    ((number << 1) ^ reduction).to_le_bytes()
}

struct Xts {
    cipher: AesCipher,
    tweak: Zeroizing<[u8; BLOCK]>,
}

impl Xts {
    /// Processes whole blocks, in place, each under the next tweak.
    fn blocks(&mut self, data: &mut [u8]) -> Result<()> {
        let mut input = Zeroizing::new([0_u8; 256 * BLOCK]);
        let mut tweaks = Zeroizing::new([0_u8; 256 * BLOCK]);
        for piece in data.chunks_mut(input.len()) {
            for place in tweaks[..piece.len()].chunks_mut(BLOCK) {
                place.copy_from_slice(&*self.tweak);
                *self.tweak = doubled(*self.tweak);
            }
            let input = &mut input[..piece.len()];
            input.iter_mut().zip(piece.iter().zip(&*tweaks)).for_each(|(out, (data, tweak))| *out = data ^ tweak);
            self.cipher.process(input, piece)?;
            piece.iter_mut().zip(&*tweaks).for_each(|(out, tweak)| *out ^= tweak);
        }
        Ok(())
    }
}

/// One data unit; the output is as long as the input.
///
/// # Errors
/// As [`split`]; [`Error::DataLength`] or [`Error::EncryptedDataLength`] for a unit that is too short or too long.
pub(crate) fn process(direction: Direction, key: &[u8], unit: &[u8; BLOCK], input: &[u8]) -> Result<SecretBytes> {
    let (data_key, tweak_key) = split(key)?;
    if !(BLOCK..=UNIT_MAX).contains(&input.len()) {
        return Err(match direction {
            Direction::Encrypt => Error::DataLength,
            Direction::Decrypt => Error::EncryptedDataLength,
        });
    }
    let mut tweak = Zeroizing::new([0; BLOCK]);
    AesCipher::new(AesMode::Ecb, Direction::Encrypt, tweak_key)?.process(unit, &mut *tweak)?;
    let mut xts = Xts { cipher: AesCipher::new(AesMode::Ecb, direction, data_key)?, tweak };
    let mut output = SecretBytes::copy_from(input);
    let part = input.len() % BLOCK;
    let data = output.expose_mut();
    if part == 0 {
        xts.blocks(data)?;
        return Ok(output);
    }
    // Ciphertext stealing: the last whole block lends its end to the part, and the two change places (section 5.3.2).
    let last = data.len() - part - BLOCK;
    xts.blocks(&mut data[..last])?;
    let first = *xts.tweak;
    if direction == Direction::Decrypt {
        *xts.tweak = doubled(first);
    }
    xts.blocks(&mut data[last..last + BLOCK])?;
    let (block, rest) = data[last..].split_at_mut(BLOCK);
    block[..part].swap_with_slice(rest);
    if direction == Direction::Decrypt {
        *xts.tweak = first;
    }
    xts.blocks(&mut data[last..last + BLOCK])?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::hex;

    /// IEEE 1619-2007, appendix B: vectors 2 and 15 (AES-128, a data unit of 17 bytes).
    #[test]
    fn the_vectors_of_the_standard() {
        let unit = |number: u64| {
            let mut unit = [0; 16];
            unit[..8].copy_from_slice(&number.to_le_bytes());
            unit
        };
        let rows = [
            (
                "1111111111111111111111111111111122222222222222222222222222222222",
                unit(0x33_3333_3333),
                "4444444444444444444444444444444444444444444444444444444444444444",
                "c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0",
            ),
            (
                "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0bfbebdbcbbbab9b8b7b6b5b4b3b2b1b0",
                unit(0x12_3456_789a),
                "000102030405060708090a0b0c0d0e0f10",
                "6c1625db4671522d3d7599601de7ca09ed",
            ),
        ];
        for (key, unit, plaintext, ciphertext) in rows {
            let (key, plaintext, ciphertext) = (hex(key), hex(plaintext), hex(ciphertext));
            let sealed = process(Direction::Encrypt, &key, &unit, &plaintext).expect("encrypts");
            assert_eq!(sealed.expose(), ciphertext);
            let opened = process(Direction::Decrypt, &key, &unit, &ciphertext).expect("decrypts");
            assert_eq!(opened.expose(), plaintext);
        }
    }

    #[test]
    fn every_length_comes_back() {
        let key: Vec<u8> = (0..64).collect();
        for len in (16..=80).chain([4095, 4096, 4097, 4113]) {
            let message: Vec<u8> = (0..=255).cycle().take(len).collect();
            let sealed = process(Direction::Encrypt, &key, &[9; 16], &message).expect("encrypts");
            assert_eq!(sealed.len(), len);
            let opened = process(Direction::Decrypt, &key, &[9; 16], sealed.expose()).expect("decrypts");
            assert_eq!(opened.expose(), message, "{len}");
        }
    }

    #[test]
    fn equal_halves_and_other_lengths_are_refused() {
        let run = |key: &[u8], data: &[u8]| process(Direction::Encrypt, key, &[0; 16], data).err();
        assert_eq!(run(&[7; 32], &[0; 16]), Some(Error::InvalidKey));
        let key: Vec<u8> = (0..64).collect();
        for len in [0, 16, 31, 33, 48, 63] {
            assert_eq!(run(&key[..len], &[0; 16]), Some(Error::KeySize), "{len}");
        }
        for len in [0, 15, UNIT_MAX + 1] {
            assert_eq!(run(&key, &vec![0; len]), Some(Error::DataLength), "{len}");
        }
    }
}
