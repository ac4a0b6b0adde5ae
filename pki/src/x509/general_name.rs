//! The forms of names in subjectAltName (RFC 5280 section 4.2.1.6) that this PKI writes besides DNS names and addresses.

use const_oid::ObjectIdentifier;
use der::asn1::{AnyRef, OctetStringRef, Utf8StringRef};
use der::{Decode, Encode, Sequence};
use x509_cert::ext::pkix::name::OtherName;

/// id-on-hardwareModuleName (RFC 4108 section 5).
pub(crate) const HARDWARE_MODULE_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.8.4");
/// id-on-permanentIdentifier (RFC 4043 section 2).
pub(crate) const PERMANENT_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.8.3");
/// Longest URI and identifier.
pub(crate) const MAX_TEXT: usize = 255;

/// HardwareModuleName (RFC 4108 section 5).
#[derive(Sequence)]
pub(crate) struct HardwareModuleName<'a> {
    /// Kind of module.
    pub(crate) hw_type: ObjectIdentifier,
    /// Its serial number.
    pub(crate) hw_serial_num: &'a OctetStringRef,
}

/// PermanentIdentifier (RFC 4043 section 2).
#[derive(Sequence)]
pub(crate) struct PermanentIdentifier<'a> {
    /// The identifier.
    pub(crate) identifier_value: Option<Utf8StringRef<'a>>,
    /// Who assigned it.
    pub(crate) assigner: Option<ObjectIdentifier>,
}

/// True for a URI of visible ASCII with a scheme (RFC 3986 section 3.1).
pub(crate) fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let scheme_is_good = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    scheme_is_good && !rest.is_empty() && text.len() <= MAX_TEXT && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// True for an otherName that we issue, with a well-formed value.
pub(crate) fn is_known_other_name(other: &OtherName) -> bool {
    let every = |value: &[u8]| match other.type_id {
        HARDWARE_MODULE_NAME => HardwareModuleName::from_der(value).is_ok(),
        PERMANENT_IDENTIFIER => PermanentIdentifier::from_der(value).is_ok(),
        _ => false,
    };
    other.value.to_der().is_ok_and(|value| AnyRef::from_der(&value).is_ok() && every(&value))
}
