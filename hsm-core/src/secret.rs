//! `SecretBytes`: the only type in which a PIN, a key value or a plaintext record lives.
//!
//! Zeroized when dropped, compared in constant time, printed as a constant. It cannot be cloned by accident: a copy is
//! made with [`SecretBytes::duplicate`], which a reviewer can search for. It lies in the arena of locked pages (`sys::Slot`) as long as
//! there is room: keys, PINs and decrypted keys are short enough, long plaintexts are not.

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::sys::Slot;

/// Bytes that must not outlive their use nor reach a log.
pub struct SecretBytes(Place);

enum Place {
    Arena(Slot),
    Heap(Zeroizing<Vec<u8>>),
}

impl SecretBytes {
    /// Takes the bytes over; what remains of the vector is wiped.
    pub fn new(mut bytes: Vec<u8>) -> Self {
        match Slot::take(bytes.len()) {
            Some(mut slot) => {
                slot.bytes_mut().copy_from_slice(&bytes);
                bytes.zeroize();
                SecretBytes(Place::Arena(slot))
            }
            None => SecretBytes(Place::Heap(Zeroizing::new(bytes))),
        }
    }

    /// Copies the bytes; the caller still owns, and must wipe, the original.
    pub fn copy_from(bytes: &[u8]) -> Self {
        let mut copy = SecretBytes::zeroed(bytes.len());
        copy.expose_mut().copy_from_slice(bytes);
        copy
    }

    /// `len` zero bytes, to be filled in place.
    pub fn zeroed(len: usize) -> Self {
        match Slot::take(len) {
            Some(slot) => SecretBytes(Place::Arena(slot)),
            None => SecretBytes(Place::Heap(Zeroizing::new(vec![0; len]))),
        }
    }

    /// A second copy of the secret, made on purpose.
    pub fn duplicate(&self) -> Self {
        SecretBytes::copy_from(self.expose())
    }

    /// The bytes, for one use.
    pub fn expose(&self) -> &[u8] {
        match &self.0 {
            Place::Arena(slot) => slot.bytes(),
            Place::Heap(bytes) => bytes,
        }
    }

    /// The bytes, to be filled in place.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Place::Arena(slot) => slot.bytes_mut(),
            Place::Heap(bytes) => bytes,
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.expose().len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }
}

impl PartialEq for SecretBytes {
    fn eq(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl Eq for SecretBytes {}

impl core::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SecretBytes(..)")
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        SecretBytes::new(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_is_constant() {
        assert_eq!(format!("{:?}", SecretBytes::copy_from(b"hunter2")), format!("{:?}", SecretBytes::zeroed(3)));
    }

    #[test]
    fn equality_needs_same_length_and_bytes() {
        let secret = SecretBytes::copy_from(b"abc");
        assert!(secret == SecretBytes::copy_from(b"abc"));
        assert!(secret != SecretBytes::copy_from(b"abd"));
        assert!(secret != SecretBytes::copy_from(b"abcd"));
    }
}
