//! Keys over the NIST, SEC and Brainpool curves of the table, and ECDSA (FIPS 186-5) over a digest that the caller made.
//!
//! A signature is r‖s, each half of the curve's width. A digest longer than the order is cut to its leftmost bits, a
//! shorter one is taken as it is (FIPS 186-5), so every length signs.

use super::ffi::EcKey;
use super::{Curve, Error, Result};
use crate::SecretBytes;

fn check_signs(curve: Curve) -> Result<()> {
    if curve.signs() { Ok(()) } else { Err(Error::UnsupportedCurve) }
}

/// A private key with its public point; wiped when dropped.
pub(crate) struct PrivateKey {
    key: EcKey,
    curve: Curve,
}

impl PrivateKey {
    /// A new key.
    ///
    /// # Errors
    /// [`Error::UnsupportedCurve`] for a curve that only verifies.
    pub(crate) fn generate(curve: Curve) -> Result<Self> {
        check_signs(curve)?;
        Ok(PrivateKey { key: EcKey::generate(curve)?, curve })
    }

    /// A key from its scalar (big-endian, leading zeros allowed or missing) and, if it is given, its public point,
    /// which must be the one of the scalar.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if the scalar is zero or not below the order, or the point is another;
    /// [`Error::UnsupportedCurve`] for a curve that only verifies.
    pub(crate) fn from_scalar(curve: Curve, scalar: &[u8], point: Option<&[u8]>) -> Result<Self> {
        check_signs(curve)?;
        if scalar.len() > curve.field_len() {
            let (excess, _) = scalar.split_at(scalar.len() - curve.field_len());
            if excess.iter().any(|&byte| byte != 0) {
                return Err(Error::InvalidKey);
            }
        }
        let key = PrivateKey { key: EcKey::private(curve, scalar)?, curve };
        match point {
            Some(point) if key.key.point()? != point => Err(Error::InvalidKey),
            _ => Ok(key),
        }
    }

    /// The curve.
    pub(crate) fn curve(&self) -> Curve {
        self.curve
    }

    /// The scalar, big-endian, of the curve's width.
    pub(crate) fn scalar(&self) -> Result<SecretBytes> {
        self.key.scalar()
    }

    /// The public key.
    pub(crate) fn public(&self) -> Result<PublicKey> {
        PublicKey::from_point(self.curve, &self.key.point()?)
    }

    /// The public point, uncompressed.
    pub(crate) fn point(&self) -> Result<Vec<u8>> {
        self.key.point()
    }

    /// Signs a digest of any length; gives r‖s.
    pub(crate) fn sign(&self, digest: &[u8]) -> Result<Vec<u8>> {
        self.key.sign(digest)
    }

    pub(super) fn ffi(&self) -> &EcKey {
        &self.key
    }
}

/// A public key; its point was checked to be on the curve.
pub(crate) struct PublicKey {
    key: EcKey,
    curve: Curve,
}

impl PublicKey {
    /// A key from its uncompressed point.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] for another form or length, a point off the curve, and the point at infinity.
    pub(crate) fn from_point(curve: Curve, point: &[u8]) -> Result<Self> {
        Ok(PublicKey { key: EcKey::public(curve, point)?, curve })
    }

    /// The curve.
    pub(crate) fn curve(&self) -> Curve {
        self.curve
    }

    /// The point, uncompressed.
    pub(crate) fn point(&self) -> Result<Vec<u8>> {
        self.key.point()
    }

    /// Verifies r‖s over a digest of any length.
    ///
    /// # Errors
    /// [`Error::SignatureLength`] if the signature has not the curve's length, else [`Error::SignatureInvalid`].
    pub(crate) fn verify(&self, digest: &[u8], signature: &[u8]) -> Result<()> {
        if signature.len() != self.curve.signature_len() {
            return Err(Error::SignatureLength);
        }
        self.key.verify(digest, signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::hex;

    #[test]
    fn digests_of_every_length_sign_and_verify() {
        for &curve in Curve::ALL {
            let key = PrivateKey::generate(curve).expect("a key");
            let public = key.public().expect("public");
            for len in [0, 1, 20, 28, 31, 32, 33, 48, 64, 65, 66, 67, 200] {
                let digest = vec![0xc3; len];
                let signature = key.sign(&digest).expect("signature");
                assert_eq!(signature.len(), curve.signature_len());
                assert_eq!(public.verify(&digest, &signature), Ok(()), "{curve:?} {len}");
                assert_eq!(public.verify(&[1; 32], &signature), Err(Error::SignatureInvalid), "{curve:?} {len}");
            }
        }
    }

    #[test]
    fn a_long_digest_is_cut_and_a_short_one_is_not_shifted() {
        let key = PrivateKey::generate(Curve::P256).expect("a key");
        let public = key.public().expect("public");
        let signature = key.sign(&[7; 64]).expect("signature");
        assert_eq!(public.verify(&[7; 32], &signature), Ok(()), "the leftmost 256 bits count");
        let signature = key.sign(&[7; 20]).expect("signature");
        assert_eq!(public.verify(&[vec![0; 12], vec![7; 20]].concat(), &signature), Ok(()), "zeros lead");
    }

    #[test]
    fn a_signature_of_another_length_is_told_from_a_wrong_one() {
        let key = PrivateKey::generate(Curve::P384).expect("a key");
        let (public, signature) = (key.public().expect("public"), key.sign(&[1; 48]).expect("signature"));
        assert_eq!(public.verify(&[1; 48], &signature[..95]), Err(Error::SignatureLength));
        assert_eq!(public.verify(&[1; 48], &[signature, vec![0]].concat()), Err(Error::SignatureLength));
        assert_eq!(public.verify(&[1; 48], &[0; 96]), Err(Error::SignatureInvalid));
        assert_eq!(public.verify(&[1; 48], &[0xff; 96]), Err(Error::SignatureInvalid));
        assert_eq!(public.verify(&[1; 48], &[]), Err(Error::SignatureLength));
    }

    #[test]
    fn p_224_verifies_and_signs_nothing() {
        assert_eq!(PrivateKey::generate(Curve::P224).err(), Some(Error::UnsupportedCurve));
        assert_eq!(PrivateKey::from_scalar(Curve::P224, &[1; 28], None).err(), Some(Error::UnsupportedCurve));
        // The generator (SP 800-186, section 3.2.1.2) is the public key of the scalar one.
        let point = hex("04b70e0cbd6bb4bf7f321390b94a03c1d356c21122343280d6115c1d21\
                         bd376388b5f723fb4c22dfe6cd4375a05a07476444d5819985007e34");
        let key = PublicKey::from_point(Curve::P224, &point).expect("a point");
        assert_eq!(key.verify(&[1; 28], &[1; 56]), Err(Error::SignatureInvalid));
    }

    #[test]
    fn scalars_out_of_range_and_foreign_points_are_refused() {
        // SP 800-186, section 3.2.1.3: the order of P-256.
        let order = hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
        for wrong in [vec![], vec![0; 32], order, vec![0xff; 32], vec![1; 33]] {
            assert_eq!(PrivateKey::from_scalar(Curve::P256, &wrong, None).err(), Some(Error::InvalidKey));
        }
        let one = PrivateKey::from_scalar(Curve::P256, &[0, 0, 1], None).expect("one is a scalar");
        let longer = PrivateKey::from_scalar(Curve::P256, &[&[0; 40][..], &[1]].concat(), None).expect("zeros lead");
        assert_eq!(one.point(), longer.point());
        assert_eq!(one.scalar().expect("scalar").len(), 32);
        let other = PrivateKey::generate(Curve::P256).expect("a key").point().expect("point");
        assert_eq!(PrivateKey::from_scalar(Curve::P256, &[1], Some(&other)).err(), Some(Error::InvalidKey));
        let own = one.point().expect("point");
        assert!(PrivateKey::from_scalar(Curve::P256, &[1], Some(&own)).is_ok());
    }

    #[test]
    fn points_in_other_forms_or_off_the_curve_are_refused() {
        let point = PrivateKey::generate(Curve::P256).expect("a key").point().expect("point");
        let read = |bytes: &[u8]| PublicKey::from_point(Curve::P256, bytes).err();
        assert_eq!(read(&point), None);
        let compressed = [&[2 + (point[64] & 1)], &point[1..33]].concat();
        let hybrid = [&[6 + (point[64] & 1)], &point[1..]].concat();
        let mut off = point.clone();
        off[64] ^= 1;
        let too_large = [&[4][..], &[0xff; 64]].concat();
        for wrong in [&[][..], &[0], &point[1..], &point[..64], &compressed, &hybrid, &off, &too_large, &[4; 65]] {
            assert_eq!(read(wrong), Some(Error::InvalidKey), "{wrong:x?}");
        }
        assert_eq!(PublicKey::from_point(Curve::P384, &point).err(), Some(Error::InvalidKey));
    }

    #[test]
    fn one_key_signs_in_many_threads_at_once() {
        let key = PrivateKey::generate(Curve::P256).expect("a key");
        let public = key.public().expect("public");
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let (key, public) = (&key, &public);
                scope.spawn(move || {
                    for round in 0..32 {
                        let digest = [thread * 32 + round; 32];
                        assert_eq!(public.verify(&digest, &key.sign(&digest).expect("signature")), Ok(()));
                    }
                });
            }
        });
    }
}
