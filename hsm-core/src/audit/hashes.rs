//! The two hashes of a line: the one that the next line names, and that of its leaf in the tree. Both are SHA-256, the second with a zero
//! byte before the line. A sum's steps wait for each other, but not for those of another sum: a processor that gets both in turns needs
//! two thirds of the time, and the journal's writer does little else.

use sha2::block_api::compress256;

use super::merkle::Hash;

/// What SHA-256 takes in one step.
const BLOCK: usize = 64;
/// What SHA-256 begins with.
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The hashes of a line without its line feed.
pub(super) struct Hashes {
    /// What the next line names.
    pub(super) line: Hash,
    /// The leaf's.
    pub(super) leaf: Hash,
}

impl Hashes {
    pub(super) fn of(line: &[u8]) -> Self {
        let (plain, led) = (Message { zeros: 0, line }, Message { zeros: 1, line });
        let (mut of_line, mut of_leaf) = (INITIAL, INITIAL);
        for index in 0..led.blocks() {
            if index < plain.blocks() {
                compress256(&mut of_line, &[plain.block(index)]);
            }
            compress256(&mut of_leaf, &[led.block(index)]);
        }
        Hashes { line: bytes(of_line), leaf: bytes(of_leaf) }
    }
}

/// Zero bytes and a line, cut into blocks and padded as SHA-256 demands: a one bit, zeros, the length in bits.
struct Message<'a> {
    zeros: usize,
    line: &'a [u8],
}

impl Message<'_> {
    fn len(&self) -> usize {
        self.zeros + self.line.len()
    }

    fn blocks(&self) -> usize {
        (self.len() + 1 + 8).div_ceil(BLOCK)
    }

    fn block(&self, index: usize) -> [u8; BLOCK] {
        let skipped = if index == 0 { self.zeros } else { 0 };
        let rest = self.line.get(index * BLOCK + skipped - self.zeros..).unwrap_or_default();
        if let Some(whole) = rest.first_chunk().filter(|_| skipped == 0) {
            return *whole;
        }
        let mut block = [0; BLOCK];
        let part = &rest[..rest.len().min(BLOCK - skipped)];
        block[skipped..skipped + part.len()].copy_from_slice(part);
        if self.len() / BLOCK == index {
            block[self.len() % BLOCK] = 0x80;
        }
        if index + 1 == self.blocks() {
            block[BLOCK - 8..].copy_from_slice(&(self.len() as u64 * 8).to_be_bytes());
        }
        block
    }
}

fn bytes(words: [u32; 8]) -> Hash {
    let mut hash = [0; 32];
    for (bytes, word) in hash.as_chunks_mut().0.iter_mut().zip(words) {
        *bytes = word.to_be_bytes();
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::super::chain::line_hash;
    use super::super::merkle::leaf;
    use super::*;

    #[test]
    fn lines_of_every_length_have_the_hashes_of_the_standard() {
        let text: Vec<u8> = (0..=255).cycle().take(300).collect();
        for length in 0..=text.len() {
            let (line, hashes) = (&text[..length], Hashes::of(&text[..length]));
            assert_eq!((hashes.line, hashes.leaf), (line_hash(line), leaf(line)), "{length} bytes");
        }
    }
}
