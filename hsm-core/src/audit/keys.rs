//! The public keys of a journal: Ed25519, and beside it ML-DSA-44 (FIPS 204) while the journal is signed with both. What somebody outside keeps
//! of them is a [`Pin`].

use core::fmt;
use core::str::FromStr;
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::{Digest, Sha256};

use crate::crypto::ml_dsa::ParameterSet;
use crate::crypto::{eddsa, ml_dsa};

/// Bytes of an ML-DSA-44 public key.
pub(super) const ML_DSA_44_KEY_LEN: usize = ParameterSet::MlDsa44.public_len();
/// Bytes of the time and the signature that belong together (C2SP tlog-cosignature, "Format": `timestamped_signature`).
pub(super) const TIMESTAMPED_LEN: usize = 8 + ParameterSet::MlDsa44.signature_len();

/// The signature types of notes (C2SP signed-note, "Signature types", and tlog-cosignature, "Format").
const ED25519: u8 = 1;
const ML_DSA_44: u8 = 6;

/// The public keys that sign a file of the journal.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    ed25519: [u8; 32],
    ml_dsa_44: Option<Arc<[u8; ML_DSA_44_KEY_LEN]>>,
}

impl PublicKey {
    pub(super) fn new(ed25519: [u8; 32], ml_dsa_44: Option<[u8; ML_DSA_44_KEY_LEN]>) -> Self {
        PublicKey { ed25519, ml_dsa_44: ml_dsa_44.map(Arc::new) }
    }

    /// The key of Ed25519.
    pub fn ed25519(&self) -> &[u8; 32] {
        &self.ed25519
    }

    /// The key of ML-DSA-44, while the journal is signed with both.
    pub fn ml_dsa_44(&self) -> Option<&[u8]> {
        self.ml_dsa_44.as_ref().map(|key| &key[..])
    }

    /// What somebody outside keeps of it.
    pub fn pin(&self) -> Pin {
        Pin { ed25519: self.ed25519, ml_dsa_44: self.ml_dsa_44().map(digest) }
    }

    /// Whether the Ed25519 half made this signature.
    pub(super) fn verifies(&self, text: &[u8], signature: &[u8; 64]) -> bool {
        eddsa::PublicKey::from_bytes(&self.ed25519).and_then(|key| key.verify(text, signature)).is_ok()
    }

    /// Whether the other half is there and made this signature, whose context is empty.
    pub(super) fn verifies_ml_dsa_44(&self, message: &[u8], signature: &[u8]) -> bool {
        self.ml_dsa_44().is_some_and(|key| {
            ml_dsa::PublicKey::from_bytes(ParameterSet::MlDsa44, key)
                .and_then(|key| key.verify(message, b"", signature))
                .is_ok()
        })
    }

    /// The first four bytes of a signature in a note by the Ed25519 half, under a name.
    pub(super) fn key_id(&self, name: &str) -> [u8; 4] {
        key_id(name, ED25519, &self.ed25519)
    }

    /// As [`PublicKey::key_id`], of the other half.
    pub(super) fn ml_dsa_44_key_id(&self, name: &str) -> Option<[u8; 4]> {
        self.ml_dsa_44().map(|key| key_id(name, ML_DSA_44, key))
    }

    /// The keys as note verifiers take them: name, key id and key.
    pub fn verifier_keys(&self, name: &str) -> Vec<String> {
        let halves = [Some((ED25519, &self.ed25519[..])), self.ml_dsa_44().map(|key| (ML_DSA_44, key))];
        let written = |(kind, key): (u8, &[u8])| {
            let id = HEXLOWER.encode(&key_id(name, kind, key));
            format!("{name}+{id}+{}", BASE64.encode(&[&[kind], key].concat()))
        };
        halves.into_iter().flatten().map(written).collect()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.pin())
    }
}

fn key_id(name: &str, kind: u8, key: &[u8]) -> [u8; 4] {
    let digest = Sha256::new().chain_update(name).chain_update(b"\n").chain_update([kind]).chain_update(key).finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// What tells a journal's keys from all others: the Ed25519 key, and the SHA-256 of the ML-DSA-44 key. Without the digest it says nothing
/// about that half.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    ed25519: [u8; 32],
    ml_dsa_44: Option<[u8; 32]>,
}

impl Pin {
    /// Whether these are the keys, as far as the pin says.
    pub fn fits(&self, key: &PublicKey) -> bool {
        self.ed25519 == key.ed25519 && (self.ml_dsa_44.is_none() || self.ml_dsa_44 == key.pin().ml_dsa_44)
    }

    /// Whether it says which the ML-DSA-44 key is.
    pub fn is_of_both(&self) -> bool {
        self.ml_dsa_44.is_some()
    }

    /// Whether it names this Ed25519 key.
    pub(super) fn names(&self, key: &PublicKey) -> bool {
        self.ed25519 == key.ed25519
    }

    /// The keys, if the ML-DSA-44 key that somebody says belongs to it does; the Ed25519 key alone for a pin of that.
    pub(super) fn key(&self, ml_dsa_44: Option<&[u8]>) -> Option<PublicKey> {
        let Some(expected) = self.ml_dsa_44 else { return Some(PublicKey::new(self.ed25519, None)) };
        let key = ml_dsa_44.filter(|key| digest(key) == expected)?.try_into().ok()?;
        Some(PublicKey::new(self.ed25519, Some(key)))
    }

    /// The bytes: 32 or 64.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.ed25519[..], self.ml_dsa_44.as_ref().map_or(&[][..], |digest| &digest[..])].concat()
    }

    /// Reads [`Pin::to_bytes`]; `None` for another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (ed25519, rest) = bytes.split_first_chunk()?;
        let ml_dsa_44 = if rest.is_empty() { None } else { Some(rest.try_into().ok()?) };
        Some(Pin { ed25519: *ed25519, ml_dsa_44 })
    }
}

impl From<[u8; 32]> for Pin {
    fn from(ed25519: [u8; 32]) -> Self {
        Pin { ed25519, ml_dsa_44: None }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.to_bytes()))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
        let pin = bytes.and_then(|bytes| Pin::from_bytes(&bytes));
        pin.ok_or_else(|| format!("{text:?} is not 64 or 128 hexadecimal digits"))
    }
}

impl serde::Serialize for Pin {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_of_both_fits_no_key_without_its_second_half() {
        let both = PublicKey::new([1; 32], Some([2; ML_DSA_44_KEY_LEN]));
        let alone = PublicKey::new([1; 32], None);
        let other = PublicKey::new([1; 32], Some([3; ML_DSA_44_KEY_LEN]));
        let rows = [
            (both.pin(), &both, true),
            (both.pin(), &alone, false),
            (both.pin(), &other, false),
            (alone.pin(), &both, true),
            (alone.pin(), &alone, true),
            (Pin::from([9; 32]), &both, false),
        ];
        for (pin, key, fits) in rows {
            assert_eq!(pin.fits(key), fits, "{pin:?} {key:?}");
        }
        assert_eq!(both.pin().key(both.ml_dsa_44()), Some(both.clone()));
        assert_eq!(both.pin().key(other.ml_dsa_44()), None);
        assert_eq!(both.pin().key(None), None);
        assert_eq!(alone.pin().key(both.ml_dsa_44()), Some(alone));
    }

    #[test]
    fn a_pin_is_64_or_128_digits() {
        for len in [32, 64] {
            let text = "0a".repeat(len);
            let pin: Pin = text.parse().unwrap();
            assert_eq!((pin.to_string(), pin.is_of_both()), (text.clone(), len == 64));
            assert_eq!(text.to_uppercase().parse(), Ok(pin));
        }
        for wrong in ["", "0a", &"0a".repeat(31), &"0a".repeat(33), &"0a".repeat(65), &"0g".repeat(32)] {
            assert!(wrong.parse::<Pin>().is_err(), "{wrong}");
        }
    }
}
