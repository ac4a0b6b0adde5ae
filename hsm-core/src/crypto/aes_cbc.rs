//! AES in CBC, ECB and CTR (SP 800-38A), fed piece by piece; CBC also with the padding of PKCS#7 (RFC 5652, section 6.3).
//!
//! None of these modes authenticates: who must know that a ciphertext is genuine uses [`super::aes_gcm`].

use subtle::{ConstantTimeEq, ConstantTimeGreater, ConstantTimeLess};
use zeroize::Zeroize;

use super::ffi::{AesCipher, AesMode};
use super::{CipherStream, Direction, Error, Result};

const BLOCK: usize = 16;

/// What happens to a last block that is not full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Padding {
    /// The message is a whole number of blocks.
    None,
    /// PKCS#7: one to sixteen bytes are added, each holding their number.
    Pkcs7,
}

/// A CBC stream.
///
/// # Errors
/// [`Error::KeySize`] if the key has not 16, 24 or 32 bytes, [`Error::InvalidParameter`] if the IV has not 16.
pub(crate) fn cbc(direction: Direction, padding: Padding, key: &[u8], iv: &[u8]) -> Result<Box<dyn CipherStream>> {
    let iv: &[u8; BLOCK] = iv.try_into().map_err(|_| Error::InvalidParameter)?;
    let mut cipher = AesCipher::new(AesMode::Cbc, direction, key)?;
    cipher.set_block_iv(direction, iv)?;
    Ok(Box::new(BlockStream::new(cipher, BLOCK, direction, padding)))
}

/// An ECB stream over a whole number of blocks.
///
/// # Errors
/// [`Error::KeySize`] if the key has not 16, 24 or 32 bytes.
pub(crate) fn ecb(direction: Direction, key: &[u8]) -> Result<Box<dyn CipherStream>> {
    let cipher = AesCipher::new(AesMode::Ecb, direction, key)?;
    Ok(Box::new(BlockStream::new(cipher, BLOCK, direction, Padding::None)))
}

/// Bits of the largest counter: the whole block.
const COUNTER_BITS_MAX: u64 = 128;

/// A CTR stream whose counter is the last `counter_bits` bits of the block. Both directions compute the same and differ in
/// the error for a message that is too long for the counter.
///
/// A counter of 128 bits wraps, as SP 800-38A, appendix B.1 allows; no message is long enough to come round. A shorter one
/// must not carry into the bits before it, so the message ends where the counter does.
///
/// # Errors
/// [`Error::KeySize`] if the key has not 16, 24 or 32 bytes, [`Error::InvalidParameter`] if the block has not 16 or the
/// counter has not 1 to 128 bits.
pub(crate) fn ctr(
    direction: Direction,
    key: &[u8],
    first_block: &[u8],
    counter_bits: u64,
) -> Result<Box<dyn CipherStream>> {
    let block: &[u8; BLOCK] = first_block.try_into().map_err(|_| Error::InvalidParameter)?;
    let left = match counter_bits {
        1..COUNTER_BITS_MAX => {
            let counters = 1_u128 << counter_bits;
            let blocks = counters - (u128::from_be_bytes(*block) & (counters - 1));
            blocks.saturating_mul(BLOCK as u128)
        }
        COUNTER_BITS_MAX => u128::MAX,
        _ => return Err(Error::InvalidParameter),
    };
    let mut cipher = AesCipher::new(AesMode::Ctr, Direction::Encrypt, key)?;
    cipher.set_block_iv(Direction::Encrypt, block)?;
    Ok(Box::new(CounterStream { cipher, left, too_long: length_error(direction) }))
}

fn length_error(direction: Direction) -> Error {
    match direction {
        Direction::Encrypt => Error::DataLength,
        Direction::Decrypt => Error::EncryptedDataLength,
    }
}

/// A block mode: bytes wait in `held` until they make a block, and the last block of a padded ciphertext until the end.
pub(super) struct BlockStream {
    cipher: AesCipher,
    block: usize,
    direction: Direction,
    padding: Padding,
    held: Vec<u8>,
}

impl BlockStream {
    /// Nothing processed yet. The cipher has blocks of `block` bytes.
    pub(super) fn new(cipher: AesCipher, block: usize, direction: Direction, padding: Padding) -> Self {
        BlockStream { cipher, block, direction, padding, held: Vec::with_capacity(2 * block) }
    }

    /// How many of `total` waiting bytes can be processed now.
    fn ready(&self, total: usize) -> usize {
        let whole = total - total % self.block;
        let last_must_wait = self.direction == Direction::Decrypt && self.padding == Padding::Pkcs7;
        if last_must_wait && whole == total { whole.saturating_sub(self.block) } else { whole }
    }
}

impl CipherStream for BlockStream {
    fn update(&mut self, input: &[u8]) -> Result<Vec<u8>> {
        let ready = self.ready(self.held.len() + input.len());
        let mut output = vec![0; ready];
        if ready == 0 {
            self.held.extend_from_slice(input);
            return Ok(output);
        }
        // First the block (or, before a padded end, the block) that began in earlier pieces, then straight from the input.
        let missing = (self.block - self.held.len() % self.block) % self.block;
        self.held.extend_from_slice(&input[..missing]);
        let (first, rest) = output.split_at_mut(self.held.len());
        self.cipher.process(&self.held, first)?;
        self.held.zeroize();
        let (direct, waiting) = input[missing..].split_at(rest.len());
        self.cipher.process(direct, rest)?;
        self.held.extend_from_slice(waiting);
        Ok(output)
    }

    fn output_len_for(&self, input_len: usize) -> usize {
        self.ready(self.held.len() + input_len)
    }

    fn finish_len(&self) -> usize {
        match (self.direction, self.padding) {
            (Direction::Encrypt, Padding::Pkcs7) => self.block,
            (Direction::Decrypt, Padding::Pkcs7) => self.block - 1,
            (_, Padding::None) => 0,
        }
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<u8>> {
        match (self.direction, self.padding) {
            (_, Padding::None) if self.held.is_empty() => Ok(Vec::new()),
            (_, Padding::None) => Err(length_error(self.direction)),
            (Direction::Encrypt, Padding::Pkcs7) => {
                let fill = self.block - self.held.len();
                // A block has at most 16 bytes, so the number fits a byte.
                self.held.resize(self.block, fill as u8);
                let mut output = vec![0; self.block];
                self.cipher.process(&self.held, &mut output)?;
                Ok(output)
            }
            (Direction::Decrypt, Padding::Pkcs7) => {
                if self.held.len() != self.block {
                    return Err(length_error(self.direction));
                }
                let mut block = vec![0; self.block];
                self.cipher.process(&self.held, &mut block)?;
                match unpadded_len(&block) {
                    Some(len) => {
                        block[len..].zeroize();
                        block.truncate(len);
                        Ok(block)
                    }
                    None => {
                        block.zeroize();
                        Err(Error::EncryptedDataInvalid)
                    }
                }
            }
        }
    }
}

impl Drop for BlockStream {
    fn drop(&mut self) {
        self.held.zeroize();
    }
}

/// Length of the last block without its padding, if the padding is right. Looks at every byte whatever it holds.
fn unpadded_len(block: &[u8]) -> Option<usize> {
    let fill = *block.last()?;
    // A block has at most 16 bytes.
    let mut good = fill.ct_gt(&0) & fill.ct_lt(&(block.len() as u8 + 1));
    for (from_end, byte) in (1_u8..).zip(block.iter().rev()) {
        let in_padding = !from_end.ct_gt(&fill);
        good &= !in_padding | byte.ct_eq(&fill);
    }
    if good.into() { block.len().checked_sub(usize::from(fill)) } else { None }
}

struct CounterStream {
    cipher: AesCipher,
    /// How many bytes the counter still has blocks for.
    left: u128,
    too_long: Error,
}

impl CipherStream for CounterStream {
    fn update(&mut self, input: &[u8]) -> Result<Vec<u8>> {
        self.left = self.left.checked_sub(input.len() as u128).ok_or(self.too_long)?;
        let mut output = vec![0; input.len()];
        self.cipher.process(input, &mut output)?;
        Ok(output)
    }

    fn output_len_for(&self, input_len: usize) -> usize {
        input_len
    }

    fn finish_len(&self) -> usize {
        0
    }

    fn finish(self: Box<Self>) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IV: [u8; 16] = [8; 16];

    fn run(mut stream: Box<dyn CipherStream>, input: &[u8]) -> Result<Vec<u8>> {
        let mut output = stream.update(input)?;
        output.extend(stream.finish()?);
        Ok(output)
    }

    #[test]
    fn keys_and_ivs_of_another_length_are_refused() {
        for len in [0, 8, 15, 17, 33] {
            assert_eq!(cbc(Direction::Encrypt, Padding::None, &vec![1; len], &IV).err(), Some(Error::KeySize));
            assert_eq!(ecb(Direction::Encrypt, &vec![1; len]).err(), Some(Error::KeySize));
            assert_eq!(ctr(Direction::Encrypt, &vec![1; len], &IV, 128).err(), Some(Error::KeySize));
            let wrong_iv = cbc(Direction::Encrypt, Padding::None, &[1; 16], &vec![1; len]);
            assert_eq!(wrong_iv.err(), Some(Error::InvalidParameter));
            let wrong_block = ctr(Direction::Encrypt, &[1; 16], &vec![1; len], 128);
            assert_eq!(wrong_block.err(), Some(Error::InvalidParameter));
        }
    }

    #[test]
    fn without_padding_a_part_of_a_block_is_refused_at_the_end() {
        for len in [1, 15, 17, 31] {
            let input = vec![0; len];
            let encrypted = run(cbc(Direction::Encrypt, Padding::None, &[1; 16], &IV).expect("a key"), &input);
            assert_eq!(encrypted, Err(Error::DataLength));
            let decrypted = run(ecb(Direction::Decrypt, &[1; 16]).expect("a key"), &input);
            assert_eq!(decrypted, Err(Error::EncryptedDataLength));
        }
        assert_eq!(run(cbc(Direction::Encrypt, Padding::None, &[1; 16], &IV).expect("a key"), &[]), Ok(vec![]));
    }

    #[test]
    fn every_length_comes_back_in_pieces_of_every_length() {
        for key_len in [16, 24, 32] {
            let key = vec![7; key_len];
            for len in 0..=50 {
                let message: Vec<u8> = (0..len).collect();
                let sealed = run(cbc(Direction::Encrypt, Padding::Pkcs7, &key, &IV).expect("a key"), &message);
                let sealed = sealed.expect("sealed");
                assert_eq!(sealed.len(), (usize::from(len) / 16 + 1) * 16);
                for piece in 1..=sealed.len() {
                    let mut stream = cbc(Direction::Decrypt, Padding::Pkcs7, &key, &IV).expect("a key");
                    let mut opened = Vec::new();
                    for part in sealed.chunks(piece) {
                        opened.extend(stream.update(part).expect("decrypts"));
                    }
                    opened.extend(stream.finish().expect("the padding is right"));
                    assert_eq!(opened, message, "{len} {piece}");
                }
            }
        }
    }

    #[test]
    fn ctr_goes_on_across_pieces() {
        let message: Vec<u8> = (0..100).collect();
        // The counter's carry runs through the whole block.
        let whole =
            run(ctr(Direction::Encrypt, &[7; 32], &[0xff; 16], 128).expect("a key"), &message).expect("encrypts");
        for piece in 1..=33 {
            let mut stream = ctr(Direction::Decrypt, &[7; 32], &[0xff; 16], 128).expect("a key");
            let mut output = Vec::new();
            message.chunks(piece).for_each(|part| output.extend(stream.update(part).expect("encrypts")));
            assert_eq!(output, whole, "{piece}");
            assert_eq!(stream.finish(), Ok(vec![]));
        }
    }

    #[test]
    fn a_counter_ends_where_its_bits_end() {
        let mut block = [0xa0; 16];
        block[15] = 0xfd;
        for (bits, blocks) in [(8, 3), (2, 3), (1, 1), (9, 0x100 + 3), (128, 1000)] {
            for (direction, error) in
                [(Direction::Encrypt, Error::DataLength), (Direction::Decrypt, Error::EncryptedDataLength)]
            {
                let most = vec![0; blocks * 16];
                let mut stream = ctr(direction, &[7; 16], &block, bits).expect("in range");
                assert_eq!(stream.update(&most).map(|output| output.len()), Ok(most.len()), "{bits}");
                let beyond = stream.update(&[0]).err();
                assert_eq!(beyond, (bits < 128).then_some(error), "{bits}");
            }
        }
        for bits in [0, 129, u64::MAX] {
            assert_eq!(ctr(Direction::Encrypt, &[7; 16], &block, bits).err(), Some(Error::InvalidParameter), "{bits}");
        }
    }

    #[test]
    fn only_the_right_padding_is_taken_off() {
        let mut block = [0_u8; 16];
        for fill in 1..=16_u8 {
            block[16 - usize::from(fill)..].fill(fill);
            assert_eq!(unpadded_len(&block), Some(16 - usize::from(fill)));
            for position in 16 - usize::from(fill)..15 {
                let mut wrong = block;
                wrong[position] ^= 0x40;
                assert_eq!(unpadded_len(&wrong), None, "{fill} {position}");
            }
        }
        for last in [0, 17, 18, 32, 128, 255] {
            assert_eq!(unpadded_len(&[last; 16]), None, "{last}");
        }
    }

    #[test]
    fn a_wrong_padding_and_an_empty_ciphertext_have_their_errors() {
        let sealed = run(cbc(Direction::Encrypt, Padding::None, &[1; 16], &IV).expect("a key"), &[0; 16]);
        let open = |input: &[u8]| run(cbc(Direction::Decrypt, Padding::Pkcs7, &[1; 16], &IV).expect("a key"), input);
        assert_eq!(open(&sealed.expect("sealed")), Err(Error::EncryptedDataInvalid));
        assert_eq!(open(&[]), Err(Error::EncryptedDataLength));
        assert_eq!(open(&[0; 17]), Err(Error::EncryptedDataLength));
    }
}
