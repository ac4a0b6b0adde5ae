//! Ed25519 (RFC 8032, section 5.1; FIPS 186-5): pure, with a context, and over the digest of the message.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use const_oid::ObjectIdentifier;
use der::Decode;
use der::asn1::PrintableStringRef;

use super::ffi::{ed25519_sign, ed25519_verify};
use super::{Error, Result, rng};
use crate::SecretBytes;

/// Bytes of the seed, which is the private key.
pub(crate) const SEED_LEN: usize = 32;
/// Bytes of the public key.
pub(crate) const PUBLIC_LEN: usize = 32;
/// Bytes of a signature.
pub(crate) const SIGNATURE_LEN: usize = 64;
/// The DER of the object identifier of Ed25519 (RFC 8410, section 3).
pub(crate) const PARAMS_DER: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];

pub(crate) use super::Variant;

/// The longest context in bytes.
pub(crate) const CONTEXT_MAX: usize = 255;

/// The identifier that older programs use, from GnuPG's arc.
const GNU_PARAMS_DER: &[u8] = &[0x06, 0x09, 0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01];

pub(crate) const OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Reads the parameters of an Edwards key: the identifier of Ed25519, or the curve's name in a PrintableString.
///
/// # Errors
/// [`Error::UnsupportedCurve`] for anything else.
pub(crate) fn check_params(der: &[u8]) -> Result<()> {
    let named = PrintableStringRef::from_der(der).is_ok_and(|name| matches!(name.as_str(), "edwards25519" | "Ed25519"));
    if der == PARAMS_DER || der == GNU_PARAMS_DER || named { Ok(()) } else { Err(Error::UnsupportedCurve) }
}

/// A private key; the seed is wiped when dropped.
pub(crate) struct PrivateKey {
    key: Ed25519KeyPair,
    seed: SecretBytes,
    public: [u8; PUBLIC_LEN],
}

impl PrivateKey {
    /// A new key.
    pub(crate) fn generate() -> Result<Self> {
        PrivateKey::from_seed(rng::secret(SEED_LEN)?.expose())
    }

    /// A key from its 32-byte seed.
    pub(crate) fn from_seed(seed: &[u8]) -> Result<Self> {
        if seed.len() != SEED_LEN {
            return Err(Error::InvalidKey);
        }
        let key = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| Error::InvalidKey)?;
        let public = key.public_key().as_ref().try_into().map_err(|_| Error::Internal)?;
        Ok(PrivateKey { key, seed: SecretBytes::copy_from(seed), public })
    }

    /// The seed.
    pub(crate) fn seed(&self) -> &SecretBytes {
        &self.seed
    }

    /// The public key.
    pub(crate) fn public(&self) -> Result<PublicKey> {
        Ok(PublicKey(self.public))
    }

    /// Signs a message.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        Ok(self.key.try_sign(message).map_err(|_| Error::Internal)?.as_ref().to_vec())
    }

    /// Signs a message in one of the variants that take a context.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] if the context is longer than 255 bytes.
    pub(crate) fn sign_variant(&self, variant: Variant, message: &[u8], context: &[u8]) -> Result<Vec<u8>> {
        check_context(context)?;
        let seed = self.seed.expose().try_into().map_err(|_| Error::Internal)?;
        Ok(ed25519_sign(variant, seed, &self.public, message, context)?.to_vec())
    }
}

fn check_context(context: &[u8]) -> Result<()> {
    if context.len() > CONTEXT_MAX { Err(Error::InvalidParameter) } else { Ok(()) }
}

/// A public key.
pub(crate) struct PublicKey([u8; PUBLIC_LEN]);

impl PublicKey {
    /// A key from its 32 bytes.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] for another length. Bytes that name no point are found when a signature is verified: none
    /// verifies.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Ok(PublicKey(bytes.try_into().map_err(|_| Error::InvalidKey)?))
    }

    /// The 32 bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Verifies a signature over a message.
    ///
    /// # Errors
    /// [`Error::SignatureLength`] if it has not 64 bytes, else [`Error::SignatureInvalid`].
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<()> {
        if signature.len() != SIGNATURE_LEN {
            return Err(Error::SignatureLength);
        }
        let key = UnparsedPublicKey::new(&ED25519, &self.0[..]);
        key.verify(message, signature).map_err(|_| Error::SignatureInvalid)
    }

    /// Verifies a signature in one of the variants that take a context.
    ///
    /// # Errors
    /// As [`PublicKey::verify`]; [`Error::InvalidParameter`] if the context is longer than 255 bytes.
    pub(crate) fn verify_variant(
        &self,
        variant: Variant,
        message: &[u8],
        context: &[u8],
        signature: &[u8],
    ) -> Result<()> {
        check_context(context)?;
        let signature = signature.try_into().map_err(|_| Error::SignatureLength)?;
        ed25519_verify(variant, &self.0, message, context, signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_the_identifier_or_the_name() {
        assert_eq!(check_params(PARAMS_DER), Ok(()));
        assert_eq!(check_params(b"\x13\x0cedwards25519"), Ok(()));
        assert_eq!(check_params(GNU_PARAMS_DER), Ok(()));
        for wrong in [&b""[..], b"\x13\x0aedwards448", b"\x06\x03\x2b\x65\x71", b"\x06\x03\x2b\x65\x70\x00"] {
            assert_eq!(check_params(wrong), Err(Error::UnsupportedCurve));
        }
    }

    #[test]
    fn a_generated_key_signs_and_its_seed_gives_it_back() {
        let key = PrivateKey::generate().expect("a key");
        let again = PrivateKey::from_seed(key.seed().expose()).expect("a seed");
        let signature = key.sign(b"message").expect("signature");
        assert_eq!(again.sign(b"message"), Ok(signature.clone()));
        let public = key.public().expect("public");
        assert_eq!(public.verify(b"message", &signature), Ok(()));
        assert_eq!(public.verify(b"other", &signature), Err(Error::SignatureInvalid));
        assert_eq!(public.verify(b"message", &signature[1..]), Err(Error::SignatureLength));
    }

    /// RFC 8032, sections 7.2 (the test "foo") and 7.3.
    #[test]
    fn the_variants_give_the_known_answers() {
        use crate::crypto::testing::hex;
        let rows = [
            (
                Variant::Context,
                "0305334e381af78f141cb666f6199f57bc3495335a256a95bd2a55bf546663f6",
                "f726936d19c800494e3fdaff20b276a8",
                "666f6f",
                "55a4cc2f70a54e04288c5f4cd1e45a7bb520b36292911876cada7323198dd87a\
                 8b36950b95130022907a7fb7c4e9b2d5f6cca685a587b4b21f4b888e4e7edb0d",
            ),
            (
                Variant::PreHash,
                "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
                "616263",
                "",
                "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41\
                 31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406",
            ),
        ];
        for (variant, seed, message, context, answer) in rows {
            let key = PrivateKey::from_seed(&hex(seed)).expect("a seed");
            let (public, message, context) = (key.public().expect("public"), hex(message), hex(context));
            let signature = key.sign_variant(variant, &message, &context).expect("signature");
            assert_eq!(signature, hex(answer), "{variant:?}");
            assert_eq!(public.verify_variant(variant, &message, &context, &signature), Ok(()));
            let other = public.verify_variant(variant, &message, b"other", &signature);
            assert_eq!(other, Err(Error::SignatureInvalid));
            assert_eq!(public.verify(&message, &signature), Err(Error::SignatureInvalid), "no variant is pure");
            let short = public.verify_variant(variant, &message, &context, &signature[1..]);
            assert_eq!(short, Err(Error::SignatureLength));
            assert_eq!(key.sign_variant(variant, &message, &[0; 256]), Err(Error::InvalidParameter));
        }
    }

    #[test]
    fn seeds_and_points_of_another_length_are_refused_and_no_point_verifies_nothing() {
        for len in [0, 31, 33, 64] {
            assert_eq!(PrivateKey::from_seed(&vec![1; len]).err(), Some(Error::InvalidKey));
            assert_eq!(PublicKey::from_bytes(&vec![1; len]).err(), Some(Error::InvalidKey));
        }
        let none = PublicKey::from_bytes(&[0xff; 32]).expect("32 bytes");
        assert_eq!(none.verify(b"", &[0; 64]), Err(Error::SignatureInvalid));
    }
}
