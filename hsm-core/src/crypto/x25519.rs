//! X25519 (RFC 7748, section 5): agreement over curve25519. A shared secret of nothing but zeros is refused, as section 6.1 allows
//! and SP 800-56A asks of every agreement.

use const_oid::ObjectIdentifier;
use der::Decode;
use der::asn1::PrintableStringRef;

use super::ffi;
use super::{Error, Result, rng};
use crate::SecretBytes;

/// Bytes of the scalar, which is the private key.
pub(crate) const SCALAR_LEN: usize = 32;
/// Bytes of the public coordinate.
pub(crate) const PUBLIC_LEN: usize = 32;
/// The DER of the object identifier of X25519 (RFC 8410, section 3).
pub(crate) const PARAMS_DER: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x6e];
/// The identifier that older programs use.
const OLD_PARAMS_DER: &[u8] = &[0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x97, 0x55, 0x01, 0x05, 0x01];

pub(super) const OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.110");

/// Reads the parameters of a Montgomery key: the identifier of X25519, or the curve's name in a PrintableString.
///
/// # Errors
/// [`Error::UnsupportedCurve`] for anything else.
pub(crate) fn check_params(der: &[u8]) -> Result<()> {
    let named = PrintableStringRef::from_der(der).is_ok_and(|name| matches!(name.as_str(), "curve25519" | "X25519"));
    if der == PARAMS_DER || der == OLD_PARAMS_DER || named { Ok(()) } else { Err(Error::UnsupportedCurve) }
}

/// A private key; wiped when dropped.
pub(crate) struct PrivateKey(SecretBytes);

impl PrivateKey {
    /// A new key.
    pub(crate) fn generate() -> Result<Self> {
        PrivateKey::from_scalar(rng::secret(SCALAR_LEN)?.expose())
    }

    /// A key from its 32 bytes, little-endian, as RFC 7748 writes them; the bits that it fixes are fixed when the key is used.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] for another length.
    pub(crate) fn from_scalar(scalar: &[u8]) -> Result<Self> {
        // Not an array, which leaves a copy wherever it is moved from.
        if scalar.len() == SCALAR_LEN { Ok(PrivateKey(SecretBytes::copy_from(scalar))) } else { Err(Error::InvalidKey) }
    }

    /// The 32 bytes as they came.
    pub(crate) fn scalar(&self) -> SecretBytes {
        self.0.duplicate()
    }

    fn bytes(&self) -> &[u8; SCALAR_LEN] {
        self.0.expose().try_into().expect("its length was checked when it was made")
    }

    /// The public key.
    pub(crate) fn public(&self) -> PublicKey {
        PublicKey(ffi::x25519_public(self.bytes()))
    }

    /// The secret that both sides compute.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if the peer's value has not 32 bytes, or leads to nothing but zeros.
    pub(crate) fn agree(&self, peer: &[u8]) -> Result<SecretBytes> {
        ffi::x25519(self.bytes(), peer.try_into().map_err(|_| Error::InvalidKey)?)
    }
}

/// A public key.
pub(crate) struct PublicKey([u8; PUBLIC_LEN]);

impl PublicKey {
    /// A key from its 32 bytes.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] for another length.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Ok(PublicKey(bytes.try_into().map_err(|_| Error::InvalidKey)?))
    }

    /// The 32 bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::hex;

    #[test]
    fn parameters_are_an_identifier_or_the_name() {
        for good in [PARAMS_DER, OLD_PARAMS_DER, b"\x13\x0acurve25519", b"\x13\x06X25519"] {
            assert_eq!(check_params(good), Ok(()));
        }
        for wrong in [&b""[..], b"\x13\x08curve448", super::super::eddsa::PARAMS_DER, b"\x06\x03\x2b\x65\x6e\x00"] {
            assert_eq!(check_params(wrong), Err(Error::UnsupportedCurve));
        }
    }

    /// RFC 7748, section 6.1: Bob's side.
    #[test]
    fn the_known_pair_gives_the_known_secret() {
        let bob = hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
        let bob = PrivateKey::from_scalar(&bob).expect("32 bytes");
        let public = hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
        assert_eq!(bob.public().as_bytes(), public);
        let alice = hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
        let secret = hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
        assert_eq!(bob.agree(&alice).expect("agrees").expose(), secret);
    }

    #[test]
    fn values_of_small_order_and_of_another_length_are_refused() {
        let key = PrivateKey::generate().expect("a key");
        let mut one = [0; 32];
        one[0] = 1;
        for wrong in [&[0; 32][..], &one, &[9; 31], &[9; 33], &[]] {
            assert_eq!(key.agree(wrong).err(), Some(Error::InvalidKey));
        }
        for len in [0, 31, 33] {
            assert_eq!(PrivateKey::from_scalar(&vec![1; len]).err(), Some(Error::InvalidKey));
            assert_eq!(PublicKey::from_bytes(&vec![1; len]).err(), Some(Error::InvalidKey));
        }
    }

    #[test]
    fn both_sides_agree() {
        let (one, other) = (PrivateKey::generate().expect("a key"), PrivateKey::generate().expect("a key"));
        let first = one.agree(other.public().as_bytes()).expect("agrees");
        assert!(first == other.agree(one.public().as_bytes()).expect("agrees"));
    }
}
