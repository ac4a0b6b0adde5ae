//! SHA-1 and SHA-2 (FIPS 180-4), SHA-3 (FIPS 202) and MD5 (RFC 1321), in one piece or many.

use super::ffi::{self, DigestState, Shake, ShakeState};
use crate::SecretBytes;

/// The hash functions that the token offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Hash {
    /// MD5: for old applications only.
    Md5,
    /// SHA-1: for old signatures, HMAC and OAEP only.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
    /// SHA-512/224.
    Sha512_224,
    /// SHA-512/256.
    Sha512_256,
    /// SHA3-224.
    Sha3_224,
    /// SHA3-256.
    Sha3_256,
    /// SHA3-384.
    Sha3_384,
    /// SHA3-512.
    Sha3_512,
}

impl Hash {
    /// Every hash function.
    #[cfg(test)]
    pub(crate) const ALL: &'static [Hash] = &[
        Hash::Md5,
        Hash::Sha1,
        Hash::Sha224,
        Hash::Sha256,
        Hash::Sha384,
        Hash::Sha512,
        Hash::Sha512_224,
        Hash::Sha512_256,
        Hash::Sha3_224,
        Hash::Sha3_256,
        Hash::Sha3_384,
        Hash::Sha3_512,
    ];

    /// Length of the digest in bytes.
    pub(crate) const fn output_len(self) -> usize {
        match self {
            Hash::Md5 => 16,
            Hash::Sha1 => 20,
            Hash::Sha224 | Hash::Sha512_224 | Hash::Sha3_224 => 28,
            Hash::Sha256 | Hash::Sha512_256 | Hash::Sha3_256 => 32,
            Hash::Sha384 | Hash::Sha3_384 => 48,
            Hash::Sha512 | Hash::Sha3_512 => 64,
        }
    }

    /// Length of an input block in bytes.
    #[cfg(test)]
    pub(crate) const fn block_len(self) -> usize {
        match self {
            Hash::Md5 | Hash::Sha1 | Hash::Sha224 | Hash::Sha256 => 64,
            Hash::Sha384 | Hash::Sha512 | Hash::Sha512_224 | Hash::Sha512_256 => 128,
            Hash::Sha3_224 => 144,
            Hash::Sha3_256 => 136,
            Hash::Sha3_384 => 104,
            Hash::Sha3_512 => 72,
        }
    }
}

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
