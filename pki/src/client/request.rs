//! Building a certification request (RFC 2986) for a device's key.

use super::ClientError;
use super::key::DeviceKey;
use super::settings::Settings;
use crate::x509::{extension, tbs};
use const_oid::ObjectIdentifier;
use der::Encode;
use der::asn1::{Any, SetOfVec};
use x509_cert::attr::Attribute;
use x509_cert::name::Name;
use x509_cert::request::{CertReqInfo, Version};

const EXTENSION_REQUEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");

/// DER of a request for a subject and DNS names, signed by the key that it asks a certificate for. `more` are further attributes.
pub(super) fn request(
    key: &DeviceKey,
    subject: Name,
    dns: &[String],
    more: Option<Attribute>,
) -> Result<Vec<u8>, ClientError> {
    let encoding = |fault: der::Error| ClientError::Key(format!("the request does not encode: {fault}"));
    let mut attributes = attributes(&subject, dns).map_err(encoding)?;
    if let Some(more) = more {
        attributes.insert(more).map_err(encoding)?;
    }
    let info = CertReqInfo { version: Version::V1, subject, public_key: key.spki()?, attributes };
    let tbs = info.to_der().map_err(encoding)?;
    let signature = key.sign(&tbs)?;
    tbs::join(&tbs, key.spec().signature_algorithm(), &signature).map_err(encoding)
}

fn attributes(subject: &Name, dns: &[String]) -> der::Result<SetOfVec<Attribute>> {
    let mut attributes = SetOfVec::new();
    if !dns.is_empty() {
        let names = extension::subject_alt_name(dns, &[], subject.is_empty())?;
        let values = SetOfVec::try_from(vec![Any::encode_from(&vec![names])?])?;
        attributes.insert(Attribute { oid: EXTENSION_REQUEST, values })?;
    }
    Ok(attributes)
}

/// The request that the settings ask for.
pub(super) fn of_settings(
    key: &DeviceKey,
    settings: &Settings,
    more: Option<Attribute>,
) -> Result<Vec<u8>, ClientError> {
    request(key, settings.name()?, &settings.dns, more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::algorithm::KeySpec;
    use crate::x509::csr::VerifiedCsr;
    use std::str::FromStr;

    #[test]
    fn requests_of_every_kind_of_key_are_accepted_by_the_server() {
        for spec in
            [KeySpec::EcP256, KeySpec::EcP384, KeySpec::Ed25519, KeySpec::MlDsa44, KeySpec::MlDsa65, KeySpec::MlDsa87]
        {
            let key = DeviceKey::generate(spec).expect("key");
            let names = ["a.devices.example".to_owned()];
            let der = request(&key, Name::from_str("CN=a").expect("parses"), &names, None).expect("request");
            let csr = VerifiedCsr::verify(&der).unwrap_or_else(|fault| panic!("{spec}: {fault}"));
            let held: Vec<_> = csr.alt_names().iter().map(crate::profile::names::text).collect();
            assert_eq!(held, names, "{spec}");
            let again = DeviceKey::of_pem(&key.pem().expect("a file key")).expect("reads");
            assert_eq!(again.spki().expect("public"), key.spki().expect("public"), "{spec}");
        }
    }
}
