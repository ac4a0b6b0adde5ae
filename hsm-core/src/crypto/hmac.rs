//! HMAC (FIPS 198-1, RFC 2104) over the hashes of [`super::digest`], with keys of any length.

use super::ffi::HmacState;
use super::{Hash, MacStream};

/// A prepared key; wiped when dropped.
pub(crate) struct Key(HmacState);

impl Key {
    /// Prepares a key of any length; one longer than a block is hashed first, as the standard says.
    pub(crate) fn new(hash: Hash, key: &[u8]) -> Self {
        Key(HmacState::new(hash, key))
    }

    /// A MAC of nothing yet; it does not borrow the key.
    pub(crate) fn start(&self) -> Stream {
        Stream(self.0.clone())
    }

    /// The MAC of one piece, of the hash's full length.
    pub(crate) fn sign(&self, data: &[u8]) -> Vec<u8> {
        let mut state = self.0.clone();
        state.update(data);
        state.finish()
    }
}

/// A MAC in the making; a clone continues from the same point.
#[derive(Clone)]
pub(crate) struct Stream(HmacState);

impl MacStream for Stream {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finish(self: Box<Self>) -> Vec<u8> {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Error;
    use crate::crypto::digest;
    use crate::crypto::testing::hex;

    /// RFC 4231, section 4.7: a key of 131 bytes.
    #[test]
    fn a_key_longer_than_a_block_is_hashed_first() {
        let data = b"Test Using Larger Than Block-Size Key - Hash Key First";
        let tag = hex("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
        assert_eq!(Key::new(Hash::Sha256, &[0xaa; 131]).sign(data), tag);
        for &hash in Hash::ALL {
            let key = vec![0xaa; hash.block_len() + 1];
            let long = Key::new(hash, &key).sign(data);
            assert_eq!(Key::new(hash, &digest::digest(hash, &key)).sign(data), long, "{hash:?}");
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
            let mut stream = Box::new(key.start());
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
