//! Distinguished names: building, comparing (RFC 5280 section 7.1) and what a device may call itself.

use const_oid::ObjectIdentifier;
use der::asn1::{Any, SetOfVec};
use der::{Decode, Encode, Tag, Tagged};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};

/// commonName (RFC 5280 appendix A.1).
pub(crate) const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// serialNumber, the device attribute of IEEE 802.1AR.
pub(crate) const SERIAL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.5");

/// countryName: two letters, PrintableString.
const COUNTRY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.6");

/// Longest commonName and serialNumber (RFC 5280 appendix A.1, ub-common-name and ub-serial-number).
const UPPER_BOUND: usize = 64;

/// Why a subject was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameFault {
    /// The subject has no attribute that names a device.
    #[error("the subject names no device: give a commonName or a serialNumber")]
    NoDevice,
    /// An attribute occurs more than once.
    #[error("the subject has more than one {0}")]
    Repeated(&'static str),
    /// A value has a form we do not put in certificates.
    #[error(
        "the {0} of the subject must be 1 to 64 characters of letters, digits and . _ : - and space, as UTF8String or PrintableString"
    )]
    Form(&'static str),
    /// The name does not encode.
    #[error("the subject does not encode")]
    Encoding,
}

/// What a subject says about a device, reduced to the attributes a device profile allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceName {
    /// The identity under which the device is kept: its serialNumber if given, else its commonName.
    pub(crate) id: String,
    /// The subject to certify: the allowed attributes only, in the order and encoding of the request.
    pub(crate) subject: Name,
}

/// The attributes a subject may have, with their names in the configuration (RFC 5280 appendix A.1).
pub(crate) const ATTRIBUTES: &[(&str, ObjectIdentifier)] = &[
    ("CN", COMMON_NAME),
    ("serialNumber", SERIAL_NUMBER),
    ("C", ObjectIdentifier::new_unwrap("2.5.4.6")),
    ("ST", ObjectIdentifier::new_unwrap("2.5.4.8")),
    ("L", ObjectIdentifier::new_unwrap("2.5.4.7")),
    ("O", ObjectIdentifier::new_unwrap("2.5.4.10")),
    ("OU", ObjectIdentifier::new_unwrap("2.5.4.11")),
];

/// The word of an attribute.
fn word(oid: ObjectIdentifier) -> &'static str {
    match oid {
        COMMON_NAME => "commonName",
        SERIAL_NUMBER => "serialNumber",
        _ => ATTRIBUTES.iter().find(|row| row.1 == oid).map_or("attribute", |row| row.0),
    }
}

/// Reduces a requested subject to the honoured attributes, behind those that are imposed. Others are left out, never copied.
///
/// # Errors
/// A [`NameFault`] when nothing is left or a value has a bad form.
pub(crate) fn device_name(
    requested: &Name,
    honoured: &[ObjectIdentifier],
    imposed: &[AttributeTypeAndValue],
) -> Result<DeviceName, NameFault> {
    let mut found: Vec<(ObjectIdentifier, String)> = Vec::new();
    let mut rdns = RdnSequence::default();
    let mut write = |attribute: &AttributeTypeAndValue| {
        let set = SetOfVec::try_from(vec![attribute.clone()]).map_err(|_| NameFault::Encoding)?;
        rdns.push(RelativeDistinguishedName::from(set));
        Ok(())
    };
    imposed.iter().try_for_each(&mut write)?;
    for attribute in requested.iter().filter(|attribute| honoured.contains(&attribute.oid)) {
        let what = word(attribute.oid);
        if found.iter().any(|known| known.0 == attribute.oid) {
            return Err(NameFault::Repeated(what));
        }
        let text = device_text(&attribute.value).ok_or(NameFault::Form(what))?;
        if attribute.oid == COUNTRY && (text.len() != 2 || attribute.value.tag() != Tag::PrintableString) {
            return Err(NameFault::Form(what));
        }
        found.push((attribute.oid, text));
        write(attribute)?;
    }
    let value = |oid| found.iter().find(|known| known.0 == oid).map(|known| known.1.clone());
    let id = value(SERIAL_NUMBER).or_else(|| value(COMMON_NAME)).ok_or(NameFault::NoDevice)?;
    let subject = rdns.to_der().and_then(|der| Name::from_der(&der)).map_err(|_| NameFault::Encoding)?;
    Ok(DeviceName { id, subject })
}

/// The commonName of a subject that [`device_name`] made.
pub(crate) fn common_name(subject: &Name) -> Option<String> {
    subject.iter().find(|attribute| attribute.oid == COMMON_NAME).and_then(|attribute| device_text(&attribute.value))
}

/// True when a subject has an attribute.
pub(crate) fn has_attribute(subject: &Name, oid: ObjectIdentifier) -> bool {
    subject.iter().any(|attribute| attribute.oid == oid)
}

/// True for a text that may name a device.
pub(crate) fn is_device_text(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-' | ' ');
    !text.is_empty() && text.len() <= UPPER_BOUND && text.trim() == text && text.chars().all(allowed)
}

fn device_text(value: &Any) -> Option<String> {
    if !matches!(value.tag(), Tag::Utf8String | Tag::PrintableString) {
        return None;
    }
    let text = std::str::from_utf8(value.value()).ok()?;
    is_device_text(text).then(|| text.to_owned())
}

/// True when two names are the same: first by bytes, then by the rules of RFC 5280 section 7.1 (RDN by RDN in order,
/// attributes of an RDN as a set, strings without regard to encoding, case and repeated white space).
pub(crate) fn same_name(left: &Name, right: &Name) -> bool {
    if left == right {
        return true;
    }
    left.iter_rdn().count() == right.iter_rdn().count()
        && left.iter_rdn().zip(right.iter_rdn()).all(|(left, right)| folded(left) == folded(right))
}

/// True when a name begins with the attributes of another (RFC 5280 section 4.2.1.10, directoryName).
pub(crate) fn begins_with(name: &Name, base: &Name) -> bool {
    name.iter_rdn().count() >= base.iter_rdn().count()
        && name.iter_rdn().zip(base.iter_rdn()).all(|(rdn, base)| folded(rdn) == folded(base))
}

fn folded(rdn: &RelativeDistinguishedName) -> Vec<(ObjectIdentifier, Vec<u8>)> {
    let mut attributes: Vec<_> = rdn.iter().map(|attribute| (attribute.oid, fold(attribute))).collect();
    attributes.sort();
    attributes
}

/// A value in comparable form. Strings that are not UTF8String, PrintableString or IA5String compare by bytes and tag.
fn fold(attribute: &AttributeTypeAndValue) -> Vec<u8> {
    let value = &attribute.value;
    match (value.tag(), std::str::from_utf8(value.value())) {
        (Tag::Utf8String | Tag::PrintableString | Tag::Ia5String, Ok(text)) => {
            text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase().into_bytes()
        }
        _ => value.to_der().unwrap_or_default(),
    }
}

/// Text of a name for people and logs (RFC 4514).
pub(crate) fn text(name: &Name) -> String {
    name.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr;

    fn name(text: &str) -> Name {
        Name::from_str(text).expect("parses")
    }

    fn device(requested: &Name) -> Result<DeviceName, NameFault> {
        device_name(requested, &[COMMON_NAME, SERIAL_NUMBER], &[])
    }

    #[test]
    fn imposed_attributes_stand_before_those_of_the_request() {
        let imposed: Vec<_> = name("O=Acme").iter().cloned().collect();
        let honoured = [COMMON_NAME, SERIAL_NUMBER, ATTRIBUTES[2].1];
        let made = device_name(&name("C=DE,CN=a,O=Evil,serialNumber=7"), &honoured, &imposed).expect("accepted");
        assert_eq!(made.id, "7");
        let order: Vec<_> = made.subject.iter().map(|attribute| attribute.oid).collect();
        assert_eq!(order.len(), 4);
        assert_eq!(order[0], ATTRIBUTES[5].1);
        assert!(device_name(&name("C=Germany,CN=a"), &honoured, &[]).is_err());
    }

    /// The name with every PrintableString or UTF8String re-tagged.
    fn retagged(name: &Name, from: u8, to: u8) -> Name {
        let mut der = name.to_der().expect("encodes");
        for index in 0..der.len().saturating_sub(3) {
            if der[index..index + 3] == [0x55, 0x04, 0x03] && der.get(index + 3) == Some(&from) {
                der[index + 3] = to;
            }
        }
        Name::from_der(&der).expect("decodes")
    }

    #[test]
    fn only_common_name_and_serial_number_are_kept() {
        let device = device(&name("CN=sensor-1,O=Evil,OU=Admins,C=DE")).expect("accepted");
        assert_eq!(device.id, "sensor-1");
        assert_eq!(text(&device.subject), "CN=sensor-1");
    }

    #[test]
    fn bad_subjects_are_refused() {
        assert_eq!(device(&name("O=Nobody")), Err(NameFault::NoDevice));
        assert_eq!(device(&name("CN=a,CN=b")), Err(NameFault::Repeated("commonName")));
        assert_eq!(device(&name("CN=a/../b;")), Err(NameFault::Form("commonName")));
        let long = format!("CN={}", "x".repeat(65));
        assert_eq!(device(&name(&long)), Err(NameFault::Form("commonName")));
    }

    #[test]
    fn encoding_case_and_spaces_do_not_make_another_name() {
        let utf8 = retagged(&name("CN=Sensor 1"), 0x13, 0x0C);
        let printable = retagged(&utf8, 0x0C, 0x13);
        assert_ne!(utf8, printable);
        assert!(same_name(&utf8, &printable));
        assert!(same_name(&name("CN=Sensor 1"), &name("CN=sensor  1")));
        assert!(!same_name(&name("CN=sensor 1"), &name("CN=sensor 2")));
        assert!(!same_name(&name("CN=a,O=b"), &name("O=b,CN=a")));
        assert!(!same_name(&name("CN=a"), &name("CN=a,O=b")));
    }
}
