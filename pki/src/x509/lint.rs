//! The last look at a certificate before it is signed: reads the encoded bytes back and holds them against the rules of
//! RFC 5280 that this PKI promises. Only [`pass`] makes a [`Linted`], and only a `Linted` can be signed.

use super::algorithm::{KeyKind, judge_key};
use super::extension::ANY_EXTENDED_KEY_USAGE;
use super::general_name::{is_known_other_name, is_uri};
use super::{csr, extension, unix_seconds};
use der::{Decode, Encode, Tag, Tagged};
use std::collections::BTreeSet;
use x509_cert::ext::pkix::crl::dp::DistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints, CrlDistributionPoints, ExtendedKeyUsage,
    KeyUsage, KeyUsages, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::time::Time;
use x509_cert::{TbsCertificate, Version};

/// First second of 2050.
const YEAR_2050: i64 = 2_524_608_000;

/// What the certificate is meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Self-signed root.
    Root,
    /// Authority below the root, allowed no authority below itself.
    Issuing,
    /// Authority below the root, allowed authorities below itself.
    Intermediate,
    /// Device or server.
    EndEntity,
}

/// What the linter must know of the issuer.
pub(crate) struct IssuerFacts<'a> {
    /// DER of the issuer's name.
    pub(crate) name_der: &'a [u8],
    /// Key identifier of the issuer.
    pub(crate) key_id: &'a [u8],
    /// End of the issuer's validity, seconds since 1970.
    pub(crate) not_after: i64,
}

/// A to-be-signed certificate that passed.
#[must_use]
#[derive(Debug)]
pub(crate) struct Linted {
    tbs: Vec<u8>,
}

impl Linted {
    /// The bytes to sign.
    pub(crate) fn tbs(&self) -> &[u8] {
        &self.tbs
    }
}

/// What the linter found. A finding is a fault of ours, never of the device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate was not signed because it breaks its profile: {}", .0.join("; "))]
pub(crate) struct Findings(pub(crate) Vec<String>);

/// Judges an encoded to-be-signed certificate.
///
/// # Errors
/// Every rule that is broken, by name.
pub(crate) fn pass(tbs: Vec<u8>, role: Role, issuer: &IssuerFacts<'_>) -> Result<Linted, Findings> {
    let certificate =
        TbsCertificate::from_der(&tbs).map_err(|fault| Findings(vec![format!("does not decode: {fault}")]))?;
    let mut findings = Vec::new();
    let mut rule = |holds: bool, name: &str| {
        if !holds {
            findings.push(name.to_owned());
        }
    };
    rule(certificate.to_der().is_ok_and(|again| again == tbs), "the encoding is not canonical");
    rule(certificate.version() == Version::V3, "version is not 3");
    judge_serial(certificate.serial_number().as_bytes(), &mut rule);
    judge_validity(&certificate, issuer, &mut rule);
    rule(certificate.issuer().to_der().is_ok_and(|der| der == issuer.name_der), "issuer is not the issuer's subject");
    judge_extensions(&certificate, role, issuer, &mut rule);
    judge_names(&certificate, &mut rule);
    judge_public_key(&certificate, role, issuer, &mut rule);
    if findings.is_empty() { Ok(Linted { tbs }) } else { Err(Findings(findings)) }
}

fn judge_serial(serial: &[u8], rule: &mut impl FnMut(bool, &str)) {
    rule(serial.len() <= 20, "serial is longer than 20 octets");
    rule(serial.len() >= 9, "serial has fewer than 64 random bits");
    rule(serial.first().is_some_and(|first| *first < 0x80), "serial is not positive");
}

fn judge_validity(certificate: &TbsCertificate, issuer: &IssuerFacts<'_>, rule: &mut impl FnMut(bool, &str)) {
    let validity = certificate.validity();
    for time in [&validity.not_before, &validity.not_after] {
        let is_utc = matches!(time, Time::UtcTime(_));
        rule(is_utc == (unix_seconds(time) < YEAR_2050), "a date has the wrong encoding for its year");
    }
    let not_after = unix_seconds(&validity.not_after);
    rule(unix_seconds(&validity.not_before) < not_after, "validity ends before it begins");
    rule(not_after <= issuer.not_after, "validity ends after the issuer's");
}

/// The key must be as strong as we promise, must not be the issuer's own, and its usages must be ones it can do.
fn judge_public_key(
    certificate: &TbsCertificate,
    role: Role,
    issuer: &IssuerFacts<'_>,
    rule: &mut impl FnMut(bool, &str),
) {
    let spki = certificate.subject_public_key_info();
    let kind = judge_key(spki);
    rule(kind.is_ok(), "the public key is weak or of a kind that we do not certify");
    let is_issuers = extension::key_identifier(spki) == issuer.key_id;
    rule(role == Role::Root || !is_issuers, "the public key is the issuer's own");
    let Some((_, usage)) = certificate.get_extension::<KeyUsage>().ok().flatten() else { return };
    let is_kem = matches!(kind, Ok(KeyKind::MlKem(_)));
    let enciphers = usage.data_encipherment() || (usage.key_encipherment() && !is_kem);
    rule(!enciphers || kind == Ok(KeyKind::Rsa), "keyUsage enciphers with a key that cannot");
    // RFC 9935.
    let is_alone = KeyUsage(KeyUsages::KeyEncipherment.into()) == usage;
    rule(!is_kem || is_alone, "keyUsage of an ML-KEM key is another than keyEncipherment alone");
    let is_ec = matches!(kind, Ok(KeyKind::EcP256 | KeyKind::EcP384 | KeyKind::EcP521));
    rule(!usage.key_agreement() || is_ec, "keyUsage agrees on keys with a key that cannot");
    rule(!usage.encipher_only() && !usage.decipher_only(), "keyUsage holds encipherOnly or decipherOnly");
}

/// Addresses in a certificate are fetched without TLS: what is there is signed, and TLS would need this very certificate.
fn judge_addresses(certificate: &TbsCertificate, rule: &mut impl FnMut(bool, &str)) {
    let is_http = |name: &GeneralName| matches!(name, GeneralName::UniformResourceIdentifier(uri) if uri.as_str().starts_with("http://") && is_uri(uri.as_str()));
    if let Ok(Some((critical, points))) = certificate.get_extension::<CrlDistributionPoints>() {
        let named = |point: &DistributionPoint| match &point.distribution_point {
            Some(DistributionPointName::FullName(names)) => !names.is_empty() && names.iter().all(is_http),
            _ => false,
        };
        rule(!critical && points.0.iter().all(named), "cRLDistributionPoints is critical or not of http addresses");
    }
    if let Ok(Some((critical, access))) = certificate.get_extension::<AuthorityInfoAccessSyntax>() {
        let good = !access.0.is_empty() && access.0.iter().all(|access| is_http(&access.access_location));
        rule(!critical && good, "authorityInfoAccess is critical or not of http addresses");
    }
}

fn judge_extensions(
    certificate: &TbsCertificate,
    role: Role,
    issuer: &IssuerFacts<'_>,
    rule: &mut impl FnMut(bool, &str),
) {
    let extensions = certificate.extensions().map(Vec::as_slice).unwrap_or_default();
    let distinct: BTreeSet<_> = extensions.iter().map(|extension| extension.extn_id).collect();
    rule(distinct.len() == extensions.len(), "an extension occurs twice");
    judge_addresses(certificate, rule);
    let is_authority = role != Role::EndEntity;

    let subject_key = certificate.get_extension::<SubjectKeyIdentifier>().ok().flatten();
    rule(subject_key.is_some_and(|(critical, _)| !critical), "subjectKeyIdentifier is missing or critical");
    let authority_key = certificate.get_extension::<AuthorityKeyIdentifier>().ok().flatten();
    let issuer_named = authority_key
        .is_some_and(|(critical, id)| !critical && id.key_identifier.is_some_and(|id| id.as_bytes() == issuer.key_id));
    rule(issuer_named, "authorityKeyIdentifier is not the issuer's key identifier");

    let constraints = certificate.get_extension::<BasicConstraints>().ok().flatten();
    let constraints_hold = match (role, constraints) {
        (Role::Root, Some((critical, value))) => critical && value.ca,
        (Role::Issuing, Some((critical, value))) => critical && value.ca && value.path_len_constraint == Some(0),
        (Role::Intermediate, Some((critical, value))) => {
            critical && value.ca && value.path_len_constraint.is_some_and(|length| length > 0)
        }
        (Role::EndEntity, Some((_, value))) => !value.ca && value.path_len_constraint.is_none(),
        (Role::EndEntity, None) => true,
        (_, None) => false,
    };
    rule(constraints_hold, "basicConstraints do not fit the role");

    let usage = certificate.get_extension::<KeyUsage>().ok().flatten();
    let usage_holds = usage.is_some_and(|(critical, usage)| {
        let authority_bits = usage.key_cert_sign() && usage.crl_sign();
        let is_for_something = usage.digital_signature() || usage.key_encipherment();
        let no_authority_bits = !usage.key_cert_sign() && !usage.crl_sign() && is_for_something;
        critical && if is_authority { authority_bits } else { no_authority_bits }
    });
    rule(usage_holds, "keyUsage is missing, not critical or does not fit the role");

    let purposes = certificate.get_extension::<ExtendedKeyUsage>().ok().flatten();
    let purposes_hold = match purposes {
        Some((_, purposes)) => !purposes.0.is_empty() && !purposes.0.contains(&ANY_EXTENDED_KEY_USAGE),
        None => is_authority,
    };
    rule(purposes_hold, "extKeyUsage is missing or names any purpose");
    let has_distribution_point = certificate.get_extension::<CrlDistributionPoints>().ok().flatten().is_some();
    rule(role == Role::Root || has_distribution_point, "cRLDistributionPoints is missing");
}

fn judge_names(certificate: &TbsCertificate, rule: &mut impl FnMut(bool, &str)) {
    for attribute in certificate.subject().iter() {
        let is_text = matches!(attribute.value.tag(), Tag::Utf8String | Tag::PrintableString | Tag::Ia5String);
        let has_nul = attribute.value.value().contains(&0);
        rule(is_text && !has_nul, "the subject holds a string that is not UTF8String or PrintableString, or a NUL");
    }
    let subject_is_empty = certificate.subject().is_empty();
    let Ok(Some((critical, names))) = certificate.get_extension::<SubjectAltName>() else {
        rule(!subject_is_empty, "the certificate names nobody");
        return;
    };
    rule(!names.0.is_empty(), "subjectAltName is empty");
    rule(csr::name_set(&names.0).len() == names.0.len(), "subjectAltName holds a name twice");
    rule(critical == subject_is_empty, "subjectAltName must be critical exactly when the subject is empty");
    for name in &names.0 {
        let good = match name {
            GeneralName::DnsName(name) => csr::is_host_name(name.as_str()),
            GeneralName::IpAddress(address) => matches!(address.as_bytes().len(), 4 | 16),
            GeneralName::UniformResourceIdentifier(uri) => is_uri(uri.as_str()),
            GeneralName::OtherName(other) => is_known_other_name(other),
            _ => false,
        };
        rule(good, "subjectAltName holds a name of a form we do not issue");
    }
}

#[cfg(test)]
mod tests {
    use super::super::algorithm::{KeySpec, bare_spki, ec_spki, oid};
    use super::super::tbs;
    use super::*;
    use crate::clock::DAY_SECONDS as DAY;
    use std::str::FromStr;
    use x509_cert::name::Name;

    const NOW: i64 = 1_800_000_000;

    fn contents() -> tbs::CertificateContents {
        let spki = ec_spki(oid::P256, &[4; 65]).expect("encodes");
        let id = extension::key_identifier(&spki);
        tbs::CertificateContents {
            serial: vec![0x41; 16],
            algorithm: KeySpec::EcP256.signature_algorithm(),
            issuer: Name::from_str("CN=Issuer").expect("parses"),
            not_before: NOW,
            not_after: NOW + DAY,
            subject: Name::from_str("CN=device").expect("parses"),
            extensions: vec![
                extension::subject_key_identifier(&id).expect("encodes"),
                extension::authority_key_identifier(&[7; 20]).expect("encodes"),
                extension::basic_constraints_end_entity().expect("encodes"),
                extension::key_usage(&[KeyUsages::DigitalSignature]).expect("encodes"),
                extension::extended_key_usage(&[extension::CLIENT_AUTH]).expect("encodes"),
                extension::crl_distribution_point("http://127.0.0.1/crl/issuing.crl").expect("encodes"),
            ],
            spki,
        }
    }

    fn judge(contents: tbs::CertificateContents) -> Result<Linted, Findings> {
        let name = Name::from_str("CN=Issuer").expect("parses").to_der().expect("encodes");
        let issuer = IssuerFacts { name_der: &name, key_id: &[7; 20], not_after: NOW + 10 * DAY };
        pass(tbs::certificate(contents).expect("encodes"), Role::EndEntity, &issuer)
    }

    #[test]
    fn a_sound_certificate_passes() {
        assert!(judge(contents()).is_ok());
    }

    #[test]
    fn an_ml_kem_key_enciphers_keys_and_does_nothing_else() {
        let rows: &[(&[KeyUsages], bool)] = &[
            (&[KeyUsages::KeyEncipherment], true),
            (&[KeyUsages::KeyEncipherment, KeyUsages::DigitalSignature], false),
            (&[KeyUsages::KeyEncipherment, KeyUsages::DataEncipherment], false),
            (&[KeyUsages::DigitalSignature], false),
            (&[KeyUsages::KeyAgreement], false),
        ];
        for (usages, expected) in rows {
            let mut contents = contents();
            contents.spki = bare_spki(oid::ML_KEM_768, &[1; 1184]).expect("encodes");
            contents.extensions[0] =
                extension::subject_key_identifier(&extension::key_identifier(&contents.spki)).expect("encodes");
            contents.extensions[3] = extension::key_usage(usages).expect("encodes");
            assert_eq!(judge(contents).is_ok(), *expected, "{usages:?}");
        }
    }

    #[test]
    fn each_broken_rule_is_found() {
        type Break = fn(&mut tbs::CertificateContents);
        let rows: &[(&str, Break)] = &[
            ("serial has fewer", |c| c.serial = vec![1; 8]),
            ("ends after the issuer", |c| c.not_after = NOW + 11 * DAY),
            ("ends before it begins", |c| c.not_after = NOW - 1),
            ("issuer is not", |c| c.issuer = Name::from_str("CN=Other").expect("parses")),
            ("subjectKeyIdentifier", |c| drop(c.extensions.remove(0))),
            ("authorityKeyIdentifier", |c| drop(c.extensions.remove(1))),
            ("basicConstraints", |c| c.extensions[2] = extension::basic_constraints_ca(None).expect("encodes")),
            ("keyUsage", |c| c.extensions[3] = extension::key_usage(&[KeyUsages::KeyCertSign]).expect("encodes")),
            ("extKeyUsage", |c| {
                c.extensions[4] = extension::extended_key_usage(&[ANY_EXTENDED_KEY_USAGE]).expect("encodes");
            }),
            ("cRLDistributionPoints", |c| drop(c.extensions.remove(5))),
            ("occurs twice", |c| c.extensions.push(c.extensions[0].clone())),
            ("weak", |c| c.spki = ec_spki(oid::P256, &[5; 65]).expect("encodes")),
            ("enciphers", |c| {
                let usages = [KeyUsages::DigitalSignature, KeyUsages::KeyEncipherment];
                c.extensions[3] = extension::key_usage(&usages).expect("encodes");
            }),
            ("not of http", |c| {
                c.extensions[5] = extension::crl_distribution_point("https://127.0.0.1/x.crl").expect("encodes");
            }),
            ("names nobody", |c| c.subject = Name::default()),
            ("form we do not issue", |c| {
                let name = ["*.example".to_owned()];
                c.extensions.push(extension::subject_alt_name(&name, &[], false).expect("encodes"));
            }),
        ];
        for (finding, break_it) in rows {
            let mut broken = contents();
            break_it(&mut broken);
            let findings = judge(broken).expect_err(finding).0;
            assert!(findings.iter().any(|found| found.contains(finding)), "{finding}: {findings:?}");
        }
    }

    #[test]
    fn the_issuers_own_key_is_never_certified_for_somebody_else() {
        let contents = contents();
        let id = extension::key_identifier(&contents.spki);
        let name = Name::from_str("CN=Issuer").expect("parses").to_der().expect("encodes");
        let issuer = IssuerFacts { name_der: &name, key_id: &id, not_after: NOW + 10 * DAY };
        let judged = pass(tbs::certificate(contents).expect("encodes"), Role::EndEntity, &issuer);
        assert!(judged.expect_err("refused").0.iter().any(|found| found.contains("issuer's own")));
    }
}
