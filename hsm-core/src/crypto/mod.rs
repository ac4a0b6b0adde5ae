//! The algorithms: keys as bytes or parsed, data in, data out. This room knows no session, attribute, mechanism number,
//! return value or file; which key may do what is decided before it is called.
//!
//! Parsed keys ([`PrivateKey`], [`PublicKey`], `aes_gcm::Key`, `hmac::Key`) are `Send + Sync`, never change after
//! construction, and are used by many threads at once without a lock. Randomness comes from [`rng`] or from inside the
//! library (RSA primes, ECDSA nonces, EC scalars, ML-DSA hedging, ML-KEM encapsulation).

pub(crate) mod aes_cbc;
pub(crate) mod aes_ccm;
pub(crate) mod aes_gcm;
pub(crate) mod aes_wrap;
pub(crate) mod aes_xts;
pub(crate) mod cmac;
mod curve;
pub(crate) mod des3;
pub(crate) mod digest;
pub(crate) mod ecdh;
pub(crate) mod ecdsa;
pub(crate) mod eddsa;
mod ffi;
mod hash;
pub(crate) mod hkdf;
pub(crate) mod hmac;
pub(crate) mod kbkdf;
pub(crate) mod key;
pub(crate) mod ml_dsa;
pub(crate) mod ml_kem;
pub(crate) mod password;
pub(crate) mod pbkdf2;
mod pkcs8_form;
pub(crate) mod prehash;
pub(crate) mod rng;
pub(crate) mod rsa;
pub(crate) mod selftest;
pub(crate) mod shamir;
pub(crate) mod slh_dsa;
#[cfg(test)]
mod timing_tests;
pub(crate) mod tls_prf;
#[cfg(test)]
mod vectors;
pub(crate) mod x25519;

pub(crate) use curve::Curve;
pub(crate) use ffi::{Direction, Shake, Variant};
pub(crate) use hash::Hash;
pub(crate) use key::{PrivateKey, PublicKey};
pub(crate) use ml_dsa::Hedge;
pub(crate) use prehash::PreHash;

use subtle::ConstantTimeEq;

/// What went wrong, without a word about the data: these values may reach a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The key's bytes are malformed, out of range, or contradict each other.
    #[error("the key is malformed or inconsistent")]
    InvalidKey,
    /// The curve is not offered, or is given by explicit parameters.
    #[error("the curve is not offered")]
    UnsupportedCurve,
    /// The bytes that should name a curve are neither an object identifier nor a name.
    #[error("the curve's parameters are malformed")]
    MalformedCurve,
    /// The parameter set is not offered.
    #[error("the parameter set is not offered")]
    UnsupportedParameterSet,
    /// A parameter of the operation is out of range (IV, tag, salt, context, block).
    #[error("a parameter of the operation is out of range")]
    InvalidParameter,
    /// The input has a length that the operation does not take.
    #[error("the input's length is not one the operation takes")]
    DataLength,
    /// The ciphertext does not open.
    #[error("the ciphertext does not open")]
    EncryptedDataInvalid,
    /// The ciphertext has a length that the operation does not take.
    #[error("the ciphertext's length is not one the operation takes")]
    EncryptedDataLength,
    /// The authentication tag does not match.
    #[error("the authentication tag does not match")]
    AuthenticationFailed,
    /// The signature or MAC does not verify.
    #[error("the signature does not verify")]
    SignatureInvalid,
    /// The signature or MAC has a length that the key does not produce.
    #[error("the signature's length is not one the key produces")]
    SignatureLength,
    /// The wrapped key does not open.
    #[error("the wrapped key does not open")]
    WrappedKeyInvalid,
    /// The key's size is not one the algorithm takes.
    #[error("the key's size is not one the algorithm takes")]
    KeySize,
    /// The library failed where it cannot, or memory ran out.
    #[error("the cryptographic library failed")]
    Internal,
}

/// The result of every operation of this room.
pub(crate) type Result<T, E = Error> = core::result::Result<T, E>;

/// A cipher that is fed piece by piece.
pub(crate) trait CipherStream: Send {
    /// Takes the next piece and gives what can be given already.
    fn update(&mut self, input: &[u8]) -> Result<Vec<u8>>;

    /// How many bytes [`update`](Self::update) would give for a piece of this length, exactly.
    fn output_len_for(&self, input_len: usize) -> usize;

    /// An upper bound of what [`finish`](Self::finish) would give now; exact except when a padding is to be removed.
    fn finish_len(&self) -> usize;

    /// Ends the message and gives the rest.
    fn finish(self: Box<Self>) -> Result<Vec<u8>>;
}

/// An authenticated encryption that is fed piece by piece: the ciphertext comes with each piece, the tag at the end.
pub(crate) trait SealStream: Send {
    /// The ciphertext of the next piece, as long as the piece.
    fn update(&mut self, plaintext: &[u8]) -> Result<Vec<u8>>;

    /// Whether the message may end here.
    ///
    /// # Errors
    /// [`Error::DataLength`] when another length was announced.
    fn check_len(&self) -> Result<()>;

    /// Ends the message: its tag.
    fn finish(self: Box<Self>) -> Result<Vec<u8>>;
}

/// A MAC that is fed piece by piece.
pub(crate) trait MacStream: Send {
    /// Takes the next piece.
    fn update(&mut self, data: &[u8]);

    /// The MAC of all pieces, of the algorithm's full length.
    fn finish(self: Box<Self>) -> Vec<u8>;

    /// Compares, in constant time, `tag` with the first `tag_len` bytes of the MAC.
    ///
    /// # Errors
    /// [`Error::SignatureLength`] if `tag` has another length; [`Error::SignatureInvalid`] if it differs.
    fn verify(self: Box<Self>, tag: &[u8], tag_len: usize) -> Result<()> {
        let full = self.finish();
        let expected = full.get(..tag_len).filter(|kept| !kept.is_empty()).ok_or(Error::InvalidParameter)?;
        if tag.len() != tag_len {
            return Err(Error::SignatureLength);
        }
        if expected.ct_eq(tag).into() { Ok(()) } else { Err(Error::SignatureInvalid) }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Hexadecimal text for the tests of this room.

    use data_encoding::HEXLOWER_PERMISSIVE;

    /// The bytes of a hexadecimal text; white space is skipped.
    pub(crate) fn hex(text: &str) -> Vec<u8> {
        let digits: String = text.chars().filter(|character| !character.is_whitespace()).collect();
        HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).expect("hexadecimal digits")
    }
}
