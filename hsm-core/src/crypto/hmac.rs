//! HMAC (FIPS 198-1, RFC 2104) over the hashes of [`super::digest`], with keys of any length.

use aws_lc_rs::hmac as lib;
use subtle::ConstantTimeEq;

use super::{Error, Hash, Result};

/// A prepared key; wiped when dropped.
pub(crate) struct Key {
    key: lib::Key,
    hash: Hash,
}

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
        Key { key: lib::Key::new(algorithm, key), hash }
    }

    /// The hash function.
    pub(crate) fn hash(&self) -> Hash {
        self.hash
    }

    /// A MAC of nothing yet; it does not borrow the key.
    pub(crate) fn start(&self) -> Stream {
        Stream(lib::Context::with_key(&self.key))
    }

    /// The MAC of one piece, of the hash's full length.
    pub(crate) fn sign(&self, data: &[u8]) -> Vec<u8> {
        lib::sign(&self.key, data).as_ref().to_vec()
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
