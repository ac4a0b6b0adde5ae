//! HMAC (FIPS 198-1, RFC 2104) over the hashes of [`super::digest`], with keys of any length.

use aws_lc_rs::hmac as lib;
use subtle::ConstantTimeEq;

use super::{Error, Hash, Result};

/// A prepared key; wiped when dropped.
pub(crate) struct Key(lib::Key);

impl Key {
    /// Prepares a key of any length; one longer than a block is hashed first, as the standard says.
    pub(crate) fn new(hash: Hash, key: &[u8]) -> Self {
        let algorithm = match hash {
            Hash::Sha1 => lib::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha224 => lib::HMAC_SHA224,
            Hash::Sha256 => lib::HMAC_SHA256,
            Hash::Sha384 => lib::HMAC_SHA384,
            Hash::Sha512 => lib::HMAC_SHA512,
        };
        Key(lib::Key::new(algorithm, key))
    }

    /// A MAC of nothing yet; it does not borrow the key.
    pub(crate) fn start(&self) -> Stream {
        Stream(lib::Context::with_key(&self.0))
    }

    /// The MAC of one piece, of the hash's full length.
    pub(crate) fn sign(&self, data: &[u8]) -> Vec<u8> {
        lib::sign(&self.0, data).as_ref().to_vec()
    }
}

/// A MAC in the making; a clone continues from the same point.
#[derive(Clone)]
pub(crate) struct Stream(lib::Context);

impl Stream {
    /// Takes the next piece.
    pub(crate) fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The MAC of all pieces, of the hash's full length.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.sign().as_ref().to_vec()
    }

    /// Compares, in constant time, `tag` with the first `tag_len` bytes of the MAC.
    ///
    /// # Errors
    /// [`Error::SignatureLength`] if `tag` has another length; [`Error::SignatureInvalid`] if it differs.
    pub(crate) fn verify(self, tag: &[u8], tag_len: usize) -> Result<()> {
        let full = self.finish();
        let expected = full.get(..tag_len).filter(|kept| !kept.is_empty()).ok_or(Error::InvalidParameter)?;
        if tag.len() != tag_len {
            return Err(Error::SignatureLength);
        }
        if expected.ct_eq(tag).into() { Ok(()) } else { Err(Error::SignatureInvalid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::digest;
    use crate::crypto::testing::hex;

    /// RFC 4231, section 4.7: a key of 131 bytes.
    #[test]
    fn a_key_longer_than_a_block_is_hashed_first() {
        let data = b"Test Using Larger Than Block-Size Key - Hash Key First";
        let tag = hex("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
        assert_eq!(Key::new(Hash::Sha256, &[0xaa; 131]).sign(data), tag);
        for &hash in Hash::ALL {
            let long = Key::new(hash, &[0xaa; 131]).sign(data);
            assert_eq!(Key::new(hash, &digest::digest(hash, &[0xaa; 131])).sign(data), long, "{hash:?}");
        }
    }

    #[test]
    fn an_empty_key_is_a_key() {
        // RFC 2104: a key is padded with zeros to a block.
        for &hash in Hash::ALL {
            assert_eq!(Key::new(hash, &[]).sign(b"x"), Key::new(hash, &vec![0; hash.block_len()]).sign(b"x"));
        }
    }

    #[test]
    fn truncated_tags_are_compared_over_their_own_length() {
        let key = Key::new(Hash::Sha256, b"key");
        let full = key.sign(b"data");
        let verify = |tag: &[u8], len| {
            let mut stream = key.start();
            stream.update(b"data");
            stream.verify(tag, len)
        };
        assert_eq!(verify(&full, 32), Ok(()));
        assert_eq!(verify(&full[..8], 8), Ok(()));
        assert_eq!(verify(&full[1..9], 8), Err(Error::SignatureInvalid));
        assert_eq!(verify(&full[..8], 32), Err(Error::SignatureLength));
        assert_eq!(verify(&full, 8), Err(Error::SignatureLength));
        assert_eq!(verify(&[], 0), Err(Error::InvalidParameter));
        assert_eq!(verify(&[0; 33], 33), Err(Error::InvalidParameter));
    }
}
