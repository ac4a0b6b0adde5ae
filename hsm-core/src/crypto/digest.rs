//! SHA-1 and SHA-2 (FIPS 180-4), in one piece or many.

use aws_lc_rs::digest as lib;

/// The hash functions that the token offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Hash {
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
}

impl Hash {
    /// Every hash function.
    #[cfg(test)]
    pub(crate) const ALL: &'static [Hash] = &[Hash::Sha1, Hash::Sha224, Hash::Sha256, Hash::Sha384, Hash::Sha512];

    /// Length of the digest in bytes.
    pub(crate) const fn output_len(self) -> usize {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha224 => 28,
            Hash::Sha256 => 32,
            Hash::Sha384 => 48,
            Hash::Sha512 => 64,
        }
    }

    /// Length of an input block in bytes.
    #[cfg(test)]
    pub(crate) const fn block_len(self) -> usize {
        match self {
            Hash::Sha1 | Hash::Sha224 | Hash::Sha256 => 64,
            Hash::Sha384 | Hash::Sha512 => 128,
        }
    }

    fn algorithm(self) -> &'static lib::Algorithm {
        match self {
            Hash::Sha1 => &lib::SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha224 => &lib::SHA224,
            Hash::Sha256 => &lib::SHA256,
            Hash::Sha384 => &lib::SHA384,
            Hash::Sha512 => &lib::SHA512,
        }
    }
}

/// A digest in the making; a clone continues from the same point.
#[derive(Clone)]
pub(crate) struct Stream(lib::Context);

impl Stream {
    /// A digest of nothing yet.
    pub(crate) fn new(hash: Hash) -> Self {
        Stream(lib::Context::new(hash.algorithm()))
    }

    /// Takes the next piece.
    pub(crate) fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The digest of all pieces.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.finish().as_ref().to_vec()
    }
}

/// The digest of one piece.
pub(crate) fn digest(hash: Hash, data: &[u8]) -> Vec<u8> {
    lib::digest(hash.algorithm(), data).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn lengths_are_the_librarys() {
        for &hash in Hash::ALL {
            assert_eq!(hash.output_len(), hash.algorithm().output_len());
            assert_eq!(hash.block_len(), hash.algorithm().block_len());
            assert_eq!(digest(hash, b"").len(), hash.output_len());
        }
    }
}
