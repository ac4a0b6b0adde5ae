//! Elliptic-curve keys in AWS-LC: ECDSA over a digest of any length, and ECDH.

use core::ffi::c_int;
use core::ptr;

use aws_lc_sys as c;

use super::{BigNum, Curve, Error, Result, check, failed, padded_bytes_of};
use crate::SecretBytes;

/// A curve's number in the library.
fn nid(curve: Curve) -> c_int {
    match curve {
        Curve::P224 => c::NID_secp224r1,
        Curve::P256 => c::NID_X9_62_prime256v1,
        Curve::P384 => c::NID_secp384r1,
        Curve::P521 => c::NID_secp521r1,
        Curve::Secp256k1 => c::NID_secp256k1,
        Curve::BrainpoolP256r1 => c::NID_brainpoolP256r1,
        Curve::BrainpoolP320r1 => c::NID_brainpoolP320r1,
        Curve::BrainpoolP384r1 => c::NID_brainpoolP384r1,
        Curve::BrainpoolP512r1 => c::NID_brainpoolP512r1,
    }
}

/// An elliptic-curve key, public or private, never changed after construction.
pub(in crate::crypto) struct EcKey {
    key: *mut c::EC_KEY,
    curve: Curve,
}

// SAFETY: AWS-LC's EC_KEY object may be moved between threads; it holds no thread-local state.
unsafe impl Send for EcKey {}
// SAFETY: the object is only read after construction, which AWS-LC allows from many threads at once.
unsafe impl Sync for EcKey {}

/// A point on a curve.
struct EcPoint(*mut c::EC_POINT);

impl EcPoint {
    fn new(key: &EcKey) -> Result<Self> {
        // SAFETY: the group lives as long as the key; null is checked.
        let point = unsafe { c::EC_POINT_new(c::EC_KEY_get0_group(key.key)) };
        if point.is_null() { failed(Error::Internal) } else { Ok(EcPoint(point)) }
    }

    /// Reads the uncompressed form only; the library refuses coordinates out of range and points off the curve.
    fn decode(key: &EcKey, bytes: &[u8]) -> Result<Self> {
        if bytes.len() != key.curve.point_len() || bytes[0] != 4 {
            return Err(Error::InvalidKey);
        }
        let point = EcPoint::new(key)?;
        // SAFETY: group, point and bytes are alive; null scratch memory is allowed.
        let code = unsafe {
            let group = c::EC_KEY_get0_group(key.key);
            c::EC_POINT_oct2point(group, point.0, bytes.as_ptr(), bytes.len(), ptr::null_mut())
        };
        check(code, Error::InvalidKey)?;
        Ok(point)
    }
}

impl Drop for EcPoint {
    fn drop(&mut self) {
        // SAFETY: the point is owned by this value and freed once.
        unsafe { c::EC_POINT_free(self.0) };
    }
}

impl EcKey {
    fn empty(curve: Curve) -> Result<Self> {
        // SAFETY: null is checked; otherwise the new object is owned by the value.
        let key = unsafe { c::EC_KEY_new_by_curve_name(nid(curve)) };
        if key.is_null() { failed(Error::UnsupportedCurve) } else { Ok(EcKey { key, curve }) }
    }

    pub(in crate::crypto) fn generate(curve: Curve) -> Result<Self> {
        let key = EcKey::empty(curve)?;
        // SAFETY: the key is alive and not yet shared.
        check(unsafe { c::EC_KEY_generate_key(key.key) }, Error::Internal)?;
        Ok(key)
    }

    pub(in crate::crypto) fn public(curve: Curve, point: &[u8]) -> Result<Self> {
        let key = EcKey::empty(curve)?;
        let point = EcPoint::decode(&key, point)?;
        // SAFETY: key and point are alive; the function copies the point; the key is not yet shared.
        check(unsafe { c::EC_KEY_set_public_key(key.key, point.0) }, Error::InvalidKey)?;
        // SAFETY: the key is alive and only read.
        check(unsafe { c::EC_KEY_check_key(key.key) }, Error::InvalidKey)?;
        Ok(key)
    }

    /// A key from its scalar; the public point is computed.
    pub(in crate::crypto) fn private(curve: Curve, scalar: &[u8]) -> Result<Self> {
        let key = EcKey::empty(curve)?;
        let scalar = BigNum::from_be(scalar)?;
        // SAFETY: key and scalar are alive; the function copies the scalar and refuses one out of range.
        check(unsafe { c::EC_KEY_set_private_key(key.key, scalar.0) }, Error::InvalidKey)?;
        let point = EcPoint::new(&key)?;
        // SAFETY: all objects are alive; null point and factor mean a multiple of the generator only.
        let code = unsafe {
            let group = c::EC_KEY_get0_group(key.key);
            c::EC_POINT_mul(group, point.0, scalar.0, ptr::null(), ptr::null(), ptr::null_mut())
        };
        check(code, Error::InvalidKey)?;
        // SAFETY: key and point are alive; the key is not yet shared.
        check(unsafe { c::EC_KEY_set_public_key(key.key, point.0) }, Error::InvalidKey)?;
        // SAFETY: the key is alive and only read.
        check(unsafe { c::EC_KEY_check_key(key.key) }, Error::InvalidKey)?;
        Ok(key)
    }

    pub(in crate::crypto) fn scalar(&self) -> Result<SecretBytes> {
        // SAFETY: the key is alive and only read; null is checked; the number lives as long as the key.
        unsafe {
            let scalar = c::EC_KEY_get0_private_key(self.key);
            if scalar.is_null() {
                return Err(Error::Internal);
            }
            padded_bytes_of(scalar, self.curve.field_len())
        }
    }

    /// The public point, uncompressed.
    pub(in crate::crypto) fn point(&self) -> Result<Vec<u8>> {
        let mut out = vec![0; self.curve.point_len()];
        // SAFETY: the key is alive and only read; the output has the length that is passed.
        let written = unsafe {
            c::EC_POINT_point2oct(
                c::EC_KEY_get0_group(self.key),
                c::EC_KEY_get0_public_key(self.key),
                c::point_conversion_form_t::POINT_CONVERSION_UNCOMPRESSED,
                out.as_mut_ptr(),
                out.len(),
                ptr::null_mut(),
            )
        };
        if written == out.len() { Ok(out) } else { failed(Error::Internal) }
    }

    /// ECDSA over a digest of any length, as r‖s of fixed width.
    pub(in crate::crypto) fn sign(&self, digest: &[u8]) -> Result<Vec<u8>> {
        // SAFETY: key and digest are alive and only read; null is checked and the result owned.
        let signature = EcSignature(unsafe { c::ECDSA_do_sign(digest.as_ptr(), digest.len(), self.key) });
        if signature.0.is_null() {
            return failed(Error::Internal);
        }
        let width = self.curve.field_len();
        let (mut r, mut s) = (ptr::null(), ptr::null());
        let mut out = vec![0; 2 * width];
        let (r_out, s_out) = out.split_at_mut(width);
        // SAFETY: the signature is alive; its two numbers live as long; both halves have `width` bytes.
        unsafe {
            c::ECDSA_SIG_get0(signature.0, &mut r, &mut s);
            check(c::BN_bn2bin_padded(r_out.as_mut_ptr(), width, r), Error::Internal)?;
            check(c::BN_bn2bin_padded(s_out.as_mut_ptr(), width, s), Error::Internal)?;
        }
        Ok(out)
    }

    /// Verifies r‖s of fixed width.
    pub(in crate::crypto) fn verify(&self, digest: &[u8], signature: &[u8]) -> Result<()> {
        let (r, s) = signature.split_at_checked(self.curve.field_len()).ok_or(Error::SignatureLength)?;
        let (r, s) = (BigNum::from_be(r)?, BigNum::from_be(s)?);
        // SAFETY: null is checked; otherwise the new object is owned by the value.
        let parsed = EcSignature(unsafe { c::ECDSA_SIG_new() });
        if parsed.0.is_null() {
            return failed(Error::Internal);
        }
        // SAFETY: all three objects are alive; with non-null numbers the function cannot fail and takes both over.
        check(unsafe { c::ECDSA_SIG_set0(parsed.0, r.into_raw(), s.into_raw()) }, Error::Internal)?;
        // SAFETY: digest, signature and key are alive and only read.
        let code = unsafe { c::ECDSA_do_verify(digest.as_ptr(), digest.len(), parsed.0, self.key) };
        check(code, Error::SignatureInvalid)
    }

    /// The x coordinate of the shared point, of the field's width.
    pub(in crate::crypto) fn agree(&self, peer_point: &[u8]) -> Result<SecretBytes> {
        let peer = EcPoint::decode(self, peer_point)?;
        let mut out = SecretBytes::zeroed(self.curve.field_len());
        // SAFETY: both keys are alive; the output has the length that is passed; no derivation function is given.
        let written = unsafe {
            c::ECDH_compute_key(out.expose_mut().as_mut_ptr().cast(), self.curve.field_len(), peer.0, self.key, None)
        };
        if usize::try_from(written) == Ok(self.curve.field_len()) { Ok(out) } else { failed(Error::InvalidKey) }
    }
}

impl Drop for EcKey {
    fn drop(&mut self) {
        // SAFETY: the key is owned by this value and freed once; the library wipes its scalar.
        unsafe { c::EC_KEY_free(self.key) };
    }
}

/// An ECDSA signature as two numbers.
struct EcSignature(*mut c::ECDSA_SIG);

impl Drop for EcSignature {
    fn drop(&mut self) {
        // SAFETY: null or owned by this value; freed once.
        unsafe { c::ECDSA_SIG_free(self.0) };
    }
}
