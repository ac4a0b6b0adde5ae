//! The hashes of HashML-DSA and HashSLH-DSA, and the bytes that both put before a digest (FIPS 204, section 5.4.1; FIPS 205,
//! section 10.2.2).

use super::ffi::{Shake, ShakeState};
use super::{Error, Hash, Result, digest};

/// The longest context in bytes.
pub(crate) const CONTEXT_MAX: usize = 255;

/// A hash whose digest is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PreHash {
    /// SHA-2 or SHA-3.
    Hash(Hash),
    /// SHAKE128 with 256 bits, SHAKE256 with 512 bits of output.
    Shake(Shake),
}

impl PreHash {
    /// Every hash that is offered.
    #[cfg(test)]
    pub(crate) const ALL: &'static [PreHash] = &[
        PreHash::Hash(Hash::Sha224),
        PreHash::Hash(Hash::Sha256),
        PreHash::Hash(Hash::Sha384),
        PreHash::Hash(Hash::Sha512),
        PreHash::Hash(Hash::Sha512_224),
        PreHash::Hash(Hash::Sha512_256),
        PreHash::Hash(Hash::Sha3_224),
        PreHash::Hash(Hash::Sha3_256),
        PreHash::Hash(Hash::Sha3_384),
        PreHash::Hash(Hash::Sha3_512),
        PreHash::Shake(Shake::Shake128),
        PreHash::Shake(Shake::Shake256),
    ];

    /// Bytes of a digest.
    pub(crate) const fn output_len(self) -> usize {
        match self {
            PreHash::Hash(hash) => hash.output_len(),
            PreHash::Shake(Shake::Shake128) => 32,
            PreHash::Shake(Shake::Shake256) => 64,
        }
    }

    /// The last arc of the hash's object identifier under NIST's hashAlgs, 2.16.840.1.101.3.4.2.
    const fn arc(self) -> Option<u8> {
        Some(match self {
            PreHash::Hash(Hash::Sha256) => 1,
            PreHash::Hash(Hash::Sha384) => 2,
            PreHash::Hash(Hash::Sha512) => 3,
            PreHash::Hash(Hash::Sha224) => 4,
            PreHash::Hash(Hash::Sha512_224) => 5,
            PreHash::Hash(Hash::Sha512_256) => 6,
            PreHash::Hash(Hash::Sha3_224) => 7,
            PreHash::Hash(Hash::Sha3_256) => 8,
            PreHash::Hash(Hash::Sha3_384) => 9,
            PreHash::Hash(Hash::Sha3_512) => 10,
            PreHash::Shake(Shake::Shake128) => 11,
            PreHash::Shake(Shake::Shake256) => 12,
            PreHash::Hash(_) => return None,
        })
    }

    /// What stands before the digest in the message that is signed: 1, the context with its length, and the hash's identifier.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] if the context is longer than 255 bytes or the hash is not one for this (SHA-1),
    /// [`Error::DataLength`] if the digest has not the hash's length.
    pub(super) fn prefix(self, digest: &[u8], context: &[u8]) -> Result<Vec<u8>> {
        let context_len = u8::try_from(context.len()).map_err(|_| Error::InvalidParameter)?;
        let arc = self.arc().ok_or(Error::InvalidParameter)?;
        if digest.len() != self.output_len() {
            return Err(Error::DataLength);
        }
        let mut prefix = vec![1, context_len];
        prefix.extend_from_slice(context);
        prefix.extend_from_slice(&[0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, arc]);
        Ok(prefix)
    }

    /// The digest of one piece.
    #[cfg(test)]
    pub(crate) fn digest(self, data: &[u8]) -> Vec<u8> {
        let mut stream = Stream::new(self);
        stream.update(data);
        stream.finish()
    }
}

/// A digest in the making.
pub(crate) struct Stream(State, PreHash);

enum State {
    Hash(digest::Stream),
    Shake(ShakeState),
}

impl Stream {
    /// A new digest.
    pub(crate) fn new(hash: PreHash) -> Self {
        let state = match hash {
            PreHash::Hash(hash) => State::Hash(digest::Stream::new(hash)),
            PreHash::Shake(shake) => State::Shake(ShakeState::new(shake)),
        };
        Stream(state, hash)
    }

    /// Takes the next piece.
    pub(crate) fn update(&mut self, data: &[u8]) {
        match &mut self.0 {
            State::Hash(stream) => stream.update(data),
            State::Shake(state) => state.update(data),
        }
    }

    /// The digest of all pieces.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut out = vec![0; self.1.output_len()];
        match self.0 {
            State::Hash(stream) => return stream.finish(),
            State::Shake(state) => state.finish(&mut out),
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::hex;

    /// FIPS 202: the empty message, from NIST's example values for SHAKE128 and SHAKE256, first 256 and 512 bits.
    #[test]
    fn shake_of_nothing_is_the_known_one() {
        let rows = [
            (Shake::Shake128, "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26"),
            (
                Shake::Shake256,
                "46b9dd2b0ba88d13233b3feb743eeb243fcd52ea62b81b82b50c27646ed5762f\
                 d75dc4ddd8c0f200cb05019d67b592f6fc821c49479ab48640292eacb3b7c4be",
            ),
        ];
        for (shake, answer) in rows {
            assert_eq!(PreHash::Shake(shake).digest(b""), hex(answer));
        }
    }

    #[test]
    fn sha_1_is_not_for_this() {
        let refused = PreHash::Hash(Hash::Sha1).prefix(&[0; 20], b"");
        assert_eq!(refused, Err(Error::InvalidParameter));
    }
}
