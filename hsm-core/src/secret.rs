//! `SecretBytes`: the only type in which a PIN, a key value or a plaintext record lives.
//!
//! Zeroized when dropped, compared in constant time, printed as a constant. It cannot be cloned by accident: a copy is
//! made with [`SecretBytes::duplicate`], which a reviewer can search for.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Bytes that must not outlive their use nor reach a log.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes the bytes over; the vector's own buffer becomes the secret, nothing is copied.
    pub fn new(bytes: Vec<u8>) -> Self {
        SecretBytes(Zeroizing::new(bytes))
    }

    /// Copies the bytes; the caller still owns, and must wipe, the original.
    pub fn copy_from(bytes: &[u8]) -> Self {
        SecretBytes::new(bytes.to_vec())
    }

    /// `len` zero bytes, to be filled in place.
    pub fn zeroed(len: usize) -> Self {
        SecretBytes::new(vec![0; len])
    }

    /// A second copy of the secret, made on purpose.
    pub fn duplicate(&self) -> Self {
        SecretBytes::copy_from(&self.0)
    }

    /// The bytes, for one use.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, to be filled in place.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for SecretBytes {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
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
