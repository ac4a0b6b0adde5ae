//! The certificate and CRL extensions this PKI writes (RFC 5280 sections 4.2 and 5.2), each by one function that fixes its
//! criticality.

use super::tlv;
use const_oid::{AssociatedOid, ObjectIdentifier};
use der::Encode;
use der::asn1::{Ia5String, OctetString};
use spki::SubjectPublicKeyInfoOwned;
use std::net::IpAddr;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::certpolicy::PolicyInformation;
use x509_cert::ext::pkix::crl::dp::DistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AccessDescription, AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints, CertificatePolicies,
    CrlDistributionPoints, CrlNumber, CrlReason, ExtendedKeyUsage, KeyUsage, KeyUsages, NameConstraints,
    SubjectAltName, SubjectKeyIdentifier,
};

/// id-kp-serverAuth (RFC 5280 section 4.2.1.12).
pub(crate) const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
/// id-kp-clientAuth (RFC 5280 section 4.2.1.12).
pub(crate) const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
/// id-kp-codeSigning (RFC 5280 section 4.2.1.12).
pub(crate) const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
/// id-kp-emailProtection (RFC 5280 section 4.2.1.12).
pub(crate) const EMAIL_PROTECTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.4");
/// id-kp-timeStamping (RFC 5280 section 4.2.1.12).
const TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
/// id-kp-OCSPSigning (RFC 6960 section 4.2.2.2).
pub(crate) const OCSP_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.9");
/// id-kp-cmcRA (RFC 6402 section 2.10).
pub(crate) const CMC_RA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.28");
/// id-pkix-ocsp-nocheck (RFC 6960 section 4.2.2.2.1).
pub(crate) const OCSP_NO_CHECK: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.5");
/// id-ad-ocsp (RFC 5280 section 4.2.2.1).
const ACCESS_OCSP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1");
/// id-ad-caIssuers (RFC 5280 section 4.2.2.1).
const ACCESS_CA_ISSUERS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.2");
/// id-kp-documentSigning.
pub(crate) const DOCUMENT_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.36");
/// The purposes, with their names in the configuration.
pub(crate) const PURPOSES: &[(&str, ObjectIdentifier)] = &[
    ("serverAuth", SERVER_AUTH),
    ("clientAuth", CLIENT_AUTH),
    ("codeSigning", CODE_SIGNING),
    ("emailProtection", EMAIL_PROTECTION),
    ("timeStamping", TIME_STAMPING),
    ("OCSPSigning", OCSP_SIGNING),
    ("cmcRA", CMC_RA),
];
/// cRLDistributionPoints.
pub(crate) const CRL_DISTRIBUTION_POINTS: ObjectIdentifier = CrlDistributionPoints::OID;
/// Extensions that every certificate of a stranger has.
pub(crate) const ALWAYS_GIVEN: &[ObjectIdentifier] = &[
    SubjectKeyIdentifier::OID,
    AuthorityKeyIdentifier::OID,
    BasicConstraints::OID,
    KeyUsage::OID,
    ExtendedKeyUsage::OID,
    SubjectAltName::OID,
];
/// Extensions that the house writes by other rules than "as the configuration says".
pub(crate) const WRITTEN_BY_US: &[ObjectIdentifier] = &[
    SubjectKeyIdentifier::OID,
    AuthorityKeyIdentifier::OID,
    BasicConstraints::OID,
    KeyUsage::OID,
    ExtendedKeyUsage::OID,
    SubjectAltName::OID,
    CrlDistributionPoints::OID,
    AuthorityInfoAccessSyntax::OID,
    CertificatePolicies::OID,
    NameConstraints::OID,
    OCSP_NO_CHECK,
];
/// id-ce-issuingDistributionPoint (RFC 5280 section 5.2.5).
const ISSUING_DISTRIBUTION_POINT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.28");
/// id-ce-deltaCRLIndicator (RFC 5280 section 5.2.4).
const DELTA_CRL_INDICATOR: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.27");
/// id-ce-freshestCRL (RFC 5280 section 5.2.6).
const FRESHEST_CRL: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.46");
/// id-pe-relatedCert.
pub(crate) const RELATED_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.36");
/// What the kinds of certificates have besides.
pub(crate) const ADDED_BY_US: &[ObjectIdentifier] = &[OCSP_NO_CHECK, FRESHEST_CRL, RELATED_CERTIFICATE];
/// anyExtendedKeyUsage, which we never write.
pub(crate) const ANY_EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");

fn extension<T: AssociatedOid + Encode>(critical: bool, value: &T) -> der::Result<Extension> {
    Ok(Extension { extn_id: T::OID, critical, extn_value: OctetString::new(value.to_der()?)? })
}

/// The key identifier of a public key: the leftmost 160 bits of the SHA-256 of the key bits (RFC 7093 section 2, method 1).
pub(crate) fn key_identifier(spki: &SubjectPublicKeyInfoOwned) -> Vec<u8> {
    super::sha256(spki.subject_public_key.raw_bytes())[..20].to_vec()
}

/// subjectKeyIdentifier, not critical.
pub(crate) fn subject_key_identifier(id: &[u8]) -> der::Result<Extension> {
    extension(false, &SubjectKeyIdentifier(OctetString::new(id)?))
}

/// authorityKeyIdentifier, not critical, by key identifier only.
pub(crate) fn authority_key_identifier(id: &[u8]) -> der::Result<Extension> {
    let value = AuthorityKeyIdentifier { key_identifier: Some(OctetString::new(id)?), ..Default::default() };
    extension(false, &value)
}

/// keyUsage, critical.
pub(crate) fn key_usage(usages: &[KeyUsages]) -> der::Result<Extension> {
    let mut set = der::flagset::FlagSet::<KeyUsages>::default();
    for usage in usages {
        set |= *usage;
    }
    extension(true, &KeyUsage(set))
}

/// extKeyUsage, not critical.
pub(crate) fn extended_key_usage(purposes: &[ObjectIdentifier]) -> der::Result<Extension> {
    extension(false, &ExtendedKeyUsage(purposes.to_vec()))
}

/// basicConstraints of an authority, critical.
pub(crate) fn basic_constraints_ca(path_len: Option<u8>) -> der::Result<Extension> {
    extension(true, &BasicConstraints { ca: true, path_len_constraint: path_len })
}

/// nameConstraints, critical (RFC 5280 section 4.2.1.10).
pub(crate) fn name_constraints(constraints: &NameConstraints) -> der::Result<Extension> {
    extension(true, constraints)
}

/// basicConstraints of an end entity (cA FALSE), critical.
pub(crate) fn basic_constraints_end_entity() -> der::Result<Extension> {
    extension(true, &BasicConstraints { ca: false, path_len_constraint: None })
}

/// cRLDistributionPoints with one http address, not critical.
pub(crate) fn crl_distribution_point(url: &str) -> der::Result<Extension> {
    crl_distribution_points(std::slice::from_ref(&url))
}

/// cRLDistributionPoints with one point at several http addresses, not critical.
pub(crate) fn crl_distribution_points(urls: &[impl AsRef<str>]) -> der::Result<Extension> {
    let point = DistributionPoint {
        distribution_point: Some(DistributionPointName::FullName(
            urls.iter().map(|url| uri(url.as_ref())).collect::<der::Result<_>>()?,
        )),
        reasons: None,
        crl_issuer: None,
    };
    extension(false, &CrlDistributionPoints(vec![point]))
}

/// authorityInfoAccess, not critical: where to ask about the certificate, when anybody answers, and where its issuer's certificate is
/// (RFC 5280 section 4.2.2.1).
pub(crate) fn authority_info_access(ocsp_url: Option<&str>, issuer_url: &str) -> der::Result<Extension> {
    authority_information_access(&[issuer_url], ocsp_url.as_slice())
}

fn uri(text: &str) -> der::Result<GeneralName> {
    Ok(GeneralName::UniformResourceIdentifier(Ia5String::new(text)?))
}

/// authorityInfoAccess with any number of addresses.
pub(crate) fn authority_information_access(
    ca_issuers: &[impl AsRef<str>],
    ocsp: &[impl AsRef<str>],
) -> der::Result<Extension> {
    let mut list = Vec::with_capacity(ocsp.len() + ca_issuers.len());
    for url in ocsp {
        list.push(AccessDescription { access_method: ACCESS_OCSP, access_location: uri(url.as_ref())? });
    }
    for url in ca_issuers {
        list.push(AccessDescription { access_method: ACCESS_CA_ISSUERS, access_location: uri(url.as_ref())? });
    }
    extension(false, &AuthorityInfoAccessSyntax(list))
}

/// certificatePolicies without qualifiers, not critical.
pub(crate) fn certificate_policies(policies: &[ObjectIdentifier]) -> der::Result<Extension> {
    let list = policies
        .iter()
        .map(|policy| PolicyInformation { policy_identifier: *policy, policy_qualifiers: None })
        .collect();
    extension(false, &CertificatePolicies(list))
}

/// id-pkix-ocsp-nocheck, not critical: NULL.
pub(crate) fn ocsp_no_check() -> der::Result<Extension> {
    plain(OCSP_NO_CHECK, false, vec![0x05, 0x00])
}

/// What a CRL covers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CrlScope<'a> {
    /// The address that the certificates on it carry; none when the list is all there is of its issuer.
    pub(crate) own_url: Option<&'a str>,
    /// The address of the deltas to it.
    pub(crate) freshest_url: Option<&'a str>,
    /// The number of the base that it is a delta to.
    pub(crate) base_number: Option<u64>,
}

/// The extensions of a CRL that say what it covers: issuingDistributionPoint, critical (RFC 5280 section 5.2.5), deltaCRLIndicator,
/// critical (5.2.4), and freshestCRL, not critical (5.2.6).
pub(crate) fn crl_scope(scope: &CrlScope<'_>) -> der::Result<Vec<Extension>> {
    let mut list = Vec::new();
    if let Some(url) = scope.own_url {
        // Written by hand: the x509-cert crate encodes the choice inside without its tag.
        let address = Ia5String::new(url)?;
        let name = tlv::write(0x86, &[address.as_bytes()]);
        let point = tlv::write(tlv::context(0), &[&tlv::write(tlv::context(0), &[&name])]);
        list.push(plain(ISSUING_DISTRIBUTION_POINT, true, tlv::write(tlv::SEQUENCE, &[&point]))?);
    }
    if let Some(number) = scope.base_number {
        list.push(plain(DELTA_CRL_INDICATOR, true, tlv::integer(&number.to_be_bytes()))?);
    }
    if let Some(url) = scope.freshest_url {
        list.push(Extension { extn_id: FRESHEST_CRL, ..crl_distribution_point(url)? });
    }
    Ok(list)
}

/// An extension from its parts.
pub(crate) fn plain(extn_id: ObjectIdentifier, critical: bool, value: Vec<u8>) -> der::Result<Extension> {
    Ok(Extension { extn_id, critical, extn_value: OctetString::new(value)? })
}

/// subjectAltName of DNS names and addresses; critical exactly when the subject is empty (RFC 5280 section 4.2.1.6).
pub(crate) fn subject_alt_name(dns: &[String], addresses: &[IpAddr], subject_is_empty: bool) -> der::Result<Extension> {
    let mut names = Vec::with_capacity(dns.len() + addresses.len());
    for name in dns {
        names.push(GeneralName::DnsName(Ia5String::new(name)?));
    }
    names.extend(addresses.iter().map(|address| GeneralName::from(*address)));
    extension(subject_is_empty, &SubjectAltName(names))
}

/// subjectAltName of names of any kind; critical exactly when the subject is empty.
pub(crate) fn general_names(names: &[GeneralName], subject_is_empty: bool) -> der::Result<Extension> {
    extension(subject_is_empty, &SubjectAltName(names.to_vec()))
}

/// cRLNumber, not critical (RFC 5280 section 5.2.3).
pub(crate) fn crl_number(number: u64) -> der::Result<Extension> {
    extension(false, &CrlNumber(der::asn1::Uint::new(&number.to_be_bytes())?))
}

/// reasonCode of a CRL entry, not critical. `Unspecified` gives none: RFC 5280 section 5.3.1 asks to leave it out.
pub(crate) fn reason_code(reason: CrlReason) -> der::Result<Option<Extension>> {
    match reason {
        CrlReason::Unspecified => Ok(None),
        reason => extension(false, &reason).map(Some),
    }
}
