//! The archive's keys: from the file key to the header's MAC and the body. How a recipient gets at the file key is the business of the room
//! `envelope`.

use data_encoding::HEXLOWER;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::MAC_LEN;
use crate::crypto::{aes_gcm, rng};
use crate::{Error, Kind, Result, SecretBytes};

const KEY_LEN: usize = 32;

/// The key of one archive.
pub(super) struct FileKey {
    pub(super) key: SecretBytes,
    pub(super) file: [u8; 32],
}

impl FileKey {
    /// A new one, with the random bytes that make the archive's keys its own.
    pub(super) fn random() -> Result<Self> {
        let mut file = [0; 32];
        rng::fill(&mut file).map_err(|_| no_random())?;
        Ok(FileKey { key: rng::secret(KEY_LEN).map_err(|_| no_random())?, file })
    }

    /// The archive's own random bytes, as the header names them.
    pub(super) fn file_hex(&self) -> String {
        HEXLOWER.encode(&self.file)
    }

    /// HMAC-SHA256 over everything before the MAC.
    pub(super) fn header_mac(&self, head: &[u8]) -> [u8; MAC_LEN] {
        let key = self.derive(&[b"craton-hsm backup v1 header"]);
        let mut mac = Hmac::<Sha256>::new_from_slice(&key[..]).expect("HMAC takes a key of any length");
        mac.update(head);
        mac.finalize().into_bytes().into()
    }

    /// The body's key, bound to the head by its digest.
    pub(super) fn body(&self, head: &[u8]) -> Result<aes_gcm::Key> {
        let key = self.derive(&[b"craton-hsm backup v1 body", &Sha256::digest(head)]);
        aes_gcm::Key::new(&key[..]).map_err(|_| Error::new(Kind::Internal, "the body's key could not be prepared"))
    }

    fn derive(&self, info: &[&[u8]]) -> Zeroizing<[u8; KEY_LEN]> {
        let mut out = Zeroizing::new([0; KEY_LEN]);
        expand(&self.file, self.key.expose(), info, &mut out[..]);
        out
    }
}

fn expand(salt: &[u8], ikm: &[u8], info: &[&[u8]], out: &mut [u8]) {
    Hkdf::<Sha256>::new(Some(salt), ikm)
        .expand_multi_info(info, out)
        .expect("64 bytes are fewer than the 255 blocks that HKDF can make");
}

fn no_random() -> Error {
    Error::new(Kind::Device, "the random number generator failed")
}
