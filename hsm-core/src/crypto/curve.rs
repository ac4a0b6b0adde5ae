//! The curves by name, with their identifiers and lengths. What computes on them is in `ecdsa` and `ecdh`.

use const_oid::ObjectIdentifier;
use der::asn1::{AnyRef, PrintableStringRef};
use der::{Decode, Encode, Tag, Tagged};

use super::{Error, Result};

/// The curves that the token offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Curve {
    /// NIST P-224, secp224r1: old signatures are verified, nothing new is made.
    P224,
    /// NIST P-256, secp256r1, prime256v1.
    P256,
    /// NIST P-384, secp384r1.
    P384,
    /// NIST P-521, secp521r1.
    P521,
    /// secp256k1.
    Secp256k1,
    /// brainpoolP256r1.
    BrainpoolP256r1,
    /// brainpoolP320r1.
    BrainpoolP320r1,
    /// brainpoolP384r1.
    BrainpoolP384r1,
    /// brainpoolP512r1.
    BrainpoolP512r1,
}

struct CurveRow {
    curve: Curve,
    oid: ObjectIdentifier,
    order_bits: u32,
    names: &'static [&'static str],
    /// Whether private keys are taken.
    signs: bool,
}

/// The curves in the order of their variants: identifiers and names as in SEC 2 version 2.0, RFC 5480 section 2.1.1.1, FIPS 186-5
/// and RFC 5639 section 4.1.
static CURVES: [CurveRow; 9] = [
    CurveRow {
        curve: Curve::P224,
        oid: ObjectIdentifier::new_unwrap("1.3.132.0.33"),
        order_bits: 224,
        names: &["secp224r1", "P-224"],
        signs: false,
    },
    CurveRow {
        curve: Curve::P256,
        oid: ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"),
        order_bits: 256,
        names: &["secp256r1", "prime256v1", "P-256"],
        signs: true,
    },
    CurveRow {
        curve: Curve::P384,
        oid: ObjectIdentifier::new_unwrap("1.3.132.0.34"),
        order_bits: 384,
        names: &["secp384r1", "P-384"],
        signs: true,
    },
    CurveRow {
        curve: Curve::P521,
        oid: ObjectIdentifier::new_unwrap("1.3.132.0.35"),
        order_bits: 521,
        names: &["secp521r1", "P-521"],
        signs: true,
    },
    CurveRow {
        curve: Curve::Secp256k1,
        oid: ObjectIdentifier::new_unwrap("1.3.132.0.10"),
        order_bits: 256,
        names: &["secp256k1"],
        signs: true,
    },
    CurveRow {
        curve: Curve::BrainpoolP256r1,
        oid: ObjectIdentifier::new_unwrap("1.3.36.3.3.2.8.1.1.7"),
        order_bits: 256,
        names: &["brainpoolP256r1"],
        signs: true,
    },
    CurveRow {
        curve: Curve::BrainpoolP320r1,
        oid: ObjectIdentifier::new_unwrap("1.3.36.3.3.2.8.1.1.9"),
        order_bits: 320,
        names: &["brainpoolP320r1"],
        signs: true,
    },
    CurveRow {
        curve: Curve::BrainpoolP384r1,
        oid: ObjectIdentifier::new_unwrap("1.3.36.3.3.2.8.1.1.11"),
        order_bits: 384,
        names: &["brainpoolP384r1"],
        signs: true,
    },
    CurveRow {
        curve: Curve::BrainpoolP512r1,
        oid: ObjectIdentifier::new_unwrap("1.3.36.3.3.2.8.1.1.13"),
        order_bits: 512,
        names: &["brainpoolP512r1"],
        signs: true,
    },
];

impl Curve {
    /// Every curve that signs.
    #[cfg(test)]
    pub(crate) const ALL: &'static [Curve] = &[
        Curve::P256,
        Curve::P384,
        Curve::P521,
        Curve::Secp256k1,
        Curve::BrainpoolP256r1,
        Curve::BrainpoolP320r1,
        Curve::BrainpoolP384r1,
        Curve::BrainpoolP512r1,
    ];

    fn row(self) -> &'static CurveRow {
        CURVES.iter().find(|row| row.curve == self).expect("every variant has its row: a test walks them")
    }

    /// Whether private keys are taken.
    pub(super) fn signs(self) -> bool {
        self.row().signs
    }

    /// The curve's object identifier.
    pub(crate) fn oid(self) -> ObjectIdentifier {
        self.row().oid
    }

    /// The curve of an object identifier.
    pub(crate) fn from_oid(oid: ObjectIdentifier) -> Result<Self> {
        CURVES.iter().find(|row| row.oid == oid).map(|row| row.curve).ok_or(Error::UnsupportedCurve)
    }

    /// The DER of the named-curve choice of ECParameters: the object identifier.
    pub(crate) fn params_der(self) -> Vec<u8> {
        self.oid().to_der().expect("a constant identifier has an encoding")
    }

    /// Reads ECParameters: a named curve by identifier, or by name in a PrintableString.
    ///
    /// # Errors
    /// [`Error::UnsupportedCurve`] for another curve and for explicit parameters, [`Error::MalformedCurve`] for
    /// anything that is not DER.
    pub(crate) fn from_params(der: &[u8]) -> Result<Self> {
        if let Ok(oid) = ObjectIdentifier::from_der(der) {
            return Curve::from_oid(oid);
        }
        if AnyRef::from_der(der).is_ok_and(|explicit| explicit.tag() == Tag::Sequence) {
            return Err(Error::UnsupportedCurve);
        }
        let name = PrintableStringRef::from_der(der).map_err(|_| Error::MalformedCurve)?;
        let known = |row: &&CurveRow| row.names.contains(&name.as_str());
        CURVES.iter().find(known).map(|row| row.curve).ok_or(Error::UnsupportedCurve)
    }

    /// Bits of the group's order, which PKCS#11 calls the key's size.
    pub(crate) fn order_bits(self) -> u32 {
        self.row().order_bits
    }

    /// Bytes of a field element and, for these curves, of a scalar.
    pub(crate) fn field_len(self) -> usize {
        self.order_bits().div_ceil(8) as usize
    }

    /// Bytes of an uncompressed point.
    pub(crate) fn point_len(self) -> usize {
        1 + 2 * self.field_len()
    }

    /// Bytes of a signature.
    pub(crate) fn signature_len(self) -> usize {
        2 * self.field_len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::hex;

    #[test]
    fn curves_are_found_by_identifier_and_by_name() {
        for &curve in Curve::ALL {
            assert_eq!(Curve::from_params(&curve.params_der()), Ok(curve));
        }
        for row in &CURVES {
            assert_eq!(Curve::from_params(&row.curve.params_der()), Ok(row.curve));
            for name in row.names {
                let der = PrintableStringRef::new(name).expect("printable").to_der().expect("der");
                assert_eq!(Curve::from_params(&der), Ok(row.curve), "{name}");
            }
        }
        assert_eq!(hex("06082a8648ce3d030107"), Curve::P256.params_der());
    }

    #[test]
    fn other_parameters_are_refused() {
        let name = PrintableStringRef::new("secp192k1").expect("printable").to_der().expect("der");
        let trailing = [Curve::P256.params_der(), vec![0]].concat();
        for unknown in [&hex("06052b8104001f")[..], &hex("30030201 01"), &name] {
            assert_eq!(Curve::from_params(unknown), Err(Error::UnsupportedCurve), "{unknown:x?}");
        }
        for malformed in [&[][..], &[5, 0], &trailing, &[0xff; 40]] {
            assert_eq!(Curve::from_params(malformed), Err(Error::MalformedCurve), "{malformed:x?}");
        }
    }
}
