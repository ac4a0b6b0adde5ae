//! The names in subjectAltName that a profile honours. A name outside its rules refuses the request; none is dropped in
//! silence, because a device would then believe to have it.

use super::ProfileFault;
use crate::x509::csr::{is_host_name, name_set};
use crate::x509::general_name::{
    HARDWARE_MODULE_NAME, HardwareModuleName, MAX_TEXT, PERMANENT_IDENTIFIER, PermanentIdentifier, is_uri,
};
use crate::x509::name::{self, common_name};
use const_oid::ObjectIdentifier;
use der::{Decode, Encode};
use std::net::IpAddr;
use x509_cert::ext::pkix::name::{GeneralName, OtherName};
use x509_cert::name::Name;

/// Names that are honoured.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct NameRules {
    /// DNS names must end in one of these, after a dot.
    pub(crate) dns_suffixes: Vec<String>,
    /// Addresses must lie in one of these.
    pub(crate) networks: Vec<Network>,
    /// URIs must begin with one of these.
    pub(crate) uri_prefixes: Vec<String>,
    /// Types of hardware modules whose names are honoured.
    pub(crate) hardware_types: Vec<ObjectIdentifier>,
    /// Assigners whose permanent identifiers are honoured.
    pub(crate) assigners: Vec<ObjectIdentifier>,
}

/// An IP network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    prefix_bits: u32,
}

impl Network {
    /// Reads `10.0.0.0/8` or `2001:db8::/32`.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("'{text}' is not a network: write address/bits");
        let (address, bits) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let prefix_bits: u32 = bits.parse().map_err(|_| bad())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if prefix_bits > most { Err(bad()) } else { Ok(Self { address, prefix_bits }) }
    }

    fn contains(self, octets: &[u8]) -> bool {
        let own = match self.address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let bit = |bytes: &[u8], index: usize| bytes.get(index / 8).map(|byte| byte >> (7 - index % 8) & 1);
        own.len() == octets.len()
            && (0..usize::try_from(self.prefix_bits).unwrap_or(usize::MAX))
                .all(|index| bit(&own, index) == bit(octets, index))
    }
}

impl NameRules {
    /// Judges the names asked for.
    ///
    /// # Errors
    /// The first that has a bad form or is not permitted.
    pub(crate) fn judge(&self, names: &[GeneralName]) -> Result<(), ProfileFault> {
        if name_set(names).len() != names.len() {
            return Err(malformed("a name is asked for twice"));
        }
        names.iter().try_for_each(|name| self.judge_one(name))
    }

    fn judge_one(&self, name: &GeneralName) -> Result<(), ProfileFault> {
        let permitted = match name {
            GeneralName::DnsName(dns) => {
                let dns = dns.as_str();
                if !is_host_name(dns) {
                    return Err(malformed(
                        "a DNS name must be lower-case letters, digits and hyphens in labels, no wildcard, no final dot",
                    ));
                }
                let under = |suffix: &String| dns.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.ends_with('.'));
                self.dns_suffixes.iter().any(under)
            }
            GeneralName::IpAddress(octets) => {
                if !matches!(octets.as_bytes().len(), 4 | 16) {
                    return Err(malformed("an address has 4 or 16 octets"));
                }
                self.networks.iter().any(|network| network.contains(octets.as_bytes()))
            }
            GeneralName::UniformResourceIdentifier(uri) => {
                let uri = uri.as_str();
                if !is_uri(uri) {
                    return Err(malformed("a URI must have a scheme and no spaces or controls"));
                }
                self.uri_prefixes.iter().any(|prefix| uri.starts_with(prefix.as_str()))
            }
            GeneralName::OtherName(other) => self.judge_other(other)?,
            _ => return Err(malformed("names of this kind cannot be asked for in subjectAltName")),
        };
        if permitted { Ok(()) } else { Err(ProfileFault::NameNotPermitted(text(name))) }
    }

    fn judge_other(&self, other: &OtherName) -> Result<bool, ProfileFault> {
        let value = other.value.to_der().map_err(|_| malformed("an otherName does not encode"))?;
        match other.type_id {
            HARDWARE_MODULE_NAME => {
                let name = HardwareModuleName::from_der(&value)
                    .ok()
                    .filter(|name| (1..=64).contains(&name.hw_serial_num.as_bytes().len()))
                    .ok_or_else(|| {
                        malformed("a hardwareModuleName has a type and a serial number of 1 to 64 octets")
                    })?;
                Ok(self.hardware_types.contains(&name.hw_type))
            }
            PERMANENT_IDENTIFIER => {
                let name = PermanentIdentifier::from_der(&value).ok().filter(|name| {
                    name.identifier_value.is_some_and(|value| (1..=MAX_TEXT).contains(&value.as_str().len()))
                });
                let name = name.ok_or_else(|| malformed("a permanentIdentifier has a value of 1 to 255 octets"))?;
                Ok(name.assigner.is_some_and(|assigner| self.assigners.contains(&assigner)))
            }
            _ => Err(malformed("an otherName must be a hardwareModuleName or a permanentIdentifier")),
        }
    }

    /// A certificate of this profile is looked up by its names: there must be one, and the commonName must be among them.
    ///
    /// # Errors
    /// A missing name, or a commonName that is not asked for as a name.
    pub(crate) fn covers_common_name(&self, subject: &Name, names: &[GeneralName]) -> Result<(), ProfileFault> {
        if names.is_empty() {
            return Err(ProfileFault::NameMissing("the profile needs a subjectAltName"));
        }
        let Some(common_name) = common_name(subject) else { return Ok(()) };
        let is_it = |name: &GeneralName| match name {
            GeneralName::DnsName(dns) => dns.as_str() == common_name,
            GeneralName::IpAddress(octets) => {
                address(octets.as_bytes()).is_some_and(|ip| ip.to_string() == common_name)
            }
            _ => false,
        };
        if names.iter().any(is_it) { Ok(()) } else { Err(ProfileFault::NameNotPermitted(common_name)) }
    }
}

fn malformed(sentence: &str) -> ProfileFault {
    ProfileFault::NameMalformed(sentence.to_owned())
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// A name for people.
pub(crate) fn text(general: &GeneralName) -> String {
    match general {
        GeneralName::DnsName(dns) => dns.as_str().to_owned(),
        GeneralName::IpAddress(octets) => address(octets.as_bytes())
            .map_or_else(|| crate::x509::hex(octets.as_bytes()), |address| address.to_string()),
        GeneralName::UniformResourceIdentifier(uri) => uri.as_str().to_owned(),
        GeneralName::DirectoryName(directory) => name::text(directory),
        GeneralName::OtherName(other) => match other.type_id {
            HARDWARE_MODULE_NAME => "hardwareModuleName".to_owned(),
            PERMANENT_IDENTIFIER => "permanentIdentifier".to_owned(),
            kind => format!("otherName {kind}"),
        },
        GeneralName::Rfc822Name(address) => address.as_str().to_owned(),
        GeneralName::RegisteredId(id) => id.to_string(),
        GeneralName::EdiPartyName(_) => "ediPartyName".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use der::Any;
    use der::asn1::{Ia5String, OctetString, OctetStringRef, Utf8StringRef};

    fn rules() -> NameRules {
        NameRules {
            dns_suffixes: vec!["devices.example".to_owned()],
            networks: vec![
                Network::parse("10.1.0.0/16").expect("network"),
                Network::parse("2001:db8::/33").expect("network"),
            ],
            uri_prefixes: vec!["urn:dev:".to_owned()],
            hardware_types: vec![ObjectIdentifier::new_unwrap("1.3.6.1.4.1.55555.1")],
            assigners: vec![ObjectIdentifier::new_unwrap("1.3.6.1.4.1.55555.2")],
        }
    }

    fn dns(name: &str) -> GeneralName {
        GeneralName::DnsName(Ia5String::new(name).expect("ASCII"))
    }

    fn uri(text: &str) -> GeneralName {
        GeneralName::UniformResourceIdentifier(Ia5String::new(text).expect("ASCII"))
    }

    fn ip(text: &str) -> GeneralName {
        GeneralName::from(text.parse::<IpAddr>().expect("address"))
    }

    fn other(type_id: ObjectIdentifier, value: &[u8]) -> GeneralName {
        GeneralName::OtherName(OtherName { type_id, value: Any::from_der(value).expect("DER") })
    }

    fn hardware(kind: &str, serial: &[u8]) -> GeneralName {
        let hw_serial_num = OctetStringRef::new(serial).expect("octets");
        let value = HardwareModuleName { hw_type: ObjectIdentifier::new_unwrap(kind), hw_serial_num };
        other(HARDWARE_MODULE_NAME, &value.to_der().expect("encodes"))
    }

    fn permanent(value: Option<&str>, assigner: Option<&str>) -> GeneralName {
        let value = PermanentIdentifier {
            identifier_value: value.map(|value| Utf8StringRef::new(value).expect("text")),
            assigner: assigner.map(ObjectIdentifier::new_unwrap),
        };
        other(PERMANENT_IDENTIFIER, &value.to_der().expect("encodes"))
    }

    #[test]
    fn each_kind_of_name_is_judged_row_by_row() {
        const PERMITTED: u8 = 0;
        const REFUSED: u8 = 1;
        const MALFORMED: u8 = 2;
        let rows: Vec<(GeneralName, u8)> = vec![
            (dns("a.devices.example"), PERMITTED),
            (dns("devices.example"), REFUSED),
            (dns("evildevices.example"), REFUSED),
            (dns("A.devices.example"), MALFORMED),
            (dns("*.devices.example"), MALFORMED),
            (dns("10.1.2.3"), MALFORMED),
            (ip("10.1.2.3"), PERMITTED),
            (ip("10.2.2.3"), REFUSED),
            (ip("2001:db8:7fff::1"), PERMITTED),
            (ip("2001:db8:8000::1"), REFUSED),
            (GeneralName::IpAddress(OctetString::new(&[1u8; 5][..]).expect("octets")), MALFORMED),
            (uri("urn:dev:mac:1"), PERMITTED),
            (uri("http://evil.example"), REFUSED),
            (uri("urn:dev:a b"), MALFORMED),
            (uri("nothing"), MALFORMED),
            (hardware("1.3.6.1.4.1.55555.1", b"4711"), PERMITTED),
            (hardware("1.3.6.1.4.1.55555.9", b"4711"), REFUSED),
            (hardware("1.3.6.1.4.1.55555.1", b""), MALFORMED),
            (permanent(Some("4711"), Some("1.3.6.1.4.1.55555.2")), PERMITTED),
            (permanent(Some("4711"), None), REFUSED),
            (permanent(None, Some("1.3.6.1.4.1.55555.2")), MALFORMED),
            (other(ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.20.2.3"), &[0x0C, 1, b'x']), MALFORMED),
            (GeneralName::Rfc822Name(Ia5String::new("a@devices.example").expect("ASCII")), MALFORMED),
        ];
        for (index, (name, expected)) in rows.iter().enumerate() {
            let judged = match rules().judge(std::slice::from_ref(name)) {
                Ok(()) => PERMITTED,
                Err(ProfileFault::NameNotPermitted(_)) => REFUSED,
                Err(_) => MALFORMED,
            };
            assert_eq!(judged, *expected, "row {index}: {}", text(name));
        }
        assert!(rules().judge(&[dns("a.devices.example"), dns("a.devices.example")]).is_err());
    }

    #[test]
    fn a_profile_without_rules_honours_no_name() {
        for name in [dns("a.example"), ip("10.1.2.3"), uri("urn:dev:1"), hardware("1.2.3", b"1")] {
            assert!(matches!(NameRules::default().judge(&[name]), Err(ProfileFault::NameNotPermitted(_))));
        }
    }
}
