//! SHA-1 and SHA-2 (FIPS 180-4), SHA-3 (FIPS 202) and MD5 (RFC 1321), in one piece or many.

use super::Hash;
use super::ffi::{self, DigestState, Shake, ShakeState};
use crate::SecretBytes;

/// A digest in the making; a clone continues from the same point.
#[derive(Clone)]
pub(crate) struct Stream(DigestState);

impl Stream {
    /// A digest of nothing yet.
    pub(crate) fn new(hash: Hash) -> Self {
        Stream(DigestState::new(hash))
    }

    /// Takes the next piece.
    pub(crate) fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The digest of all pieces.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.finish()
    }
}

/// The digest of one piece.
pub(crate) fn digest(hash: Hash, data: &[u8]) -> Vec<u8> {
    ffi::digest(hash, data)
}

/// `len` bytes of the SHAKE of one piece.
pub(crate) fn shake(shake: Shake, data: &[u8], len: usize) -> SecretBytes {
    let mut output = SecretBytes::zeroed(len);
    let mut state = ShakeState::new(shake);
    state.update(data);
    state.finish(output.expose_mut());
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 202 examples of the NIST: the message of no bits.
    #[test]
    fn shake_gives_the_known_answers() {
        let rows = [
            (Shake::Shake128, "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26"),
            (Shake::Shake256, "46b9dd2b0ba88d13233b3feb743eeb243fcd52ea62b81b82b50c27646ed5762f"),
        ];
        for (function, answer) in rows {
            assert_eq!(shake(function, b"", 32).expose(), crate::crypto::testing::hex(answer), "{function:?}");
        }
    }

    #[test]
    fn pieces_give_the_digest_of_the_whole() {
        let data: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for &hash in Hash::ALL {
            for piece in [1, 63, 64, 65, 127, 128, 129, 1000] {
                let mut stream = Stream::new(hash);
                data.chunks(piece).for_each(|part| stream.update(part));
                assert_eq!(stream.finish(), digest(hash, &data), "{hash:?} {piece}");
            }
        }
    }

    #[test]
    fn a_clone_continues_alone() {
        let mut stream = Stream::new(Hash::Sha256);
        stream.update(b"ab");
        let mut copy = stream.clone();
        stream.update(b"c");
        copy.update(b"d");
        assert_eq!(stream.finish(), digest(Hash::Sha256, b"abc"));
        assert_eq!(copy.finish(), digest(Hash::Sha256, b"abd"));
    }
}
