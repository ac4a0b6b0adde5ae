//! To-be-signed structures: certificates (RFC 5280 section 4.1) and CRLs (section 5.1).
//!
//! The certificate is a structure of our own because the one used for reading cannot be filled from outside its crate.

use der::asn1::{Any, BitString};
use der::{Decode, Encode, Sequence};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::Version;
use x509_cert::crl::{RevokedCert, TbsCertList};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::CrlReason;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::Time;

#[derive(Sequence)]
struct Validity {
    not_before: Time,
    not_after: Time,
}

#[derive(Sequence)]
struct TbsCertificate {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: Version,
    serial_number: SerialNumber,
    signature: AlgorithmIdentifierOwned,
    issuer: Name,
    validity: Validity,
    subject: Name,
    subject_public_key_info: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

/// What goes into a certificate. Instants are seconds since 1970.
pub(crate) struct CertificateContents {
    /// Positive serial number, big endian.
    pub(crate) serial: Vec<u8>,
    /// Algorithm of the issuer's signature.
    pub(crate) algorithm: AlgorithmIdentifierOwned,
    /// Name of the issuer, as it stands in the issuer's own certificate.
    pub(crate) issuer: Name,
    /// Begin of validity.
    pub(crate) not_before: i64,
    /// End of validity.
    pub(crate) not_after: i64,
    /// Name of the subject.
    pub(crate) subject: Name,
    /// Public key of the subject.
    pub(crate) spki: SubjectPublicKeyInfoOwned,
    /// Extensions in the order they are written.
    pub(crate) extensions: Vec<Extension>,
}

/// DER of a to-be-signed version 3 certificate.
///
/// # Errors
/// Values that have no DER encoding.
pub(crate) fn certificate(contents: CertificateContents) -> der::Result<Vec<u8>> {
    TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(&contents.serial)?,
        signature: contents.algorithm,
        issuer: contents.issuer,
        validity: Validity {
            not_before: super::time(contents.not_before)?,
            not_after: super::time(contents.not_after)?,
        },
        subject: contents.subject,
        subject_public_key_info: contents.spki,
        extensions: contents.extensions,
    }
    .to_der()
}

/// One revoked certificate on a CRL.
pub(crate) struct CrlEntry {
    /// Serial number, big endian.
    pub(crate) serial: Vec<u8>,
    /// When it was revoked, seconds since 1970.
    pub(crate) revoked_at: i64,
    /// Why.
    pub(crate) reason: CrlReason,
}

/// What goes into a CRL.
pub(crate) struct CrlContents {
    /// Algorithm of the issuer's signature.
    pub(crate) algorithm: AlgorithmIdentifierOwned,
    /// Name of the issuer.
    pub(crate) issuer: Name,
    /// Key identifier of the issuer.
    pub(crate) issuer_key_id: Vec<u8>,
    /// cRLNumber.
    pub(crate) number: u64,
    /// When it was made, seconds since 1970.
    pub(crate) this_update: i64,
    /// When the next one will be there at the latest.
    pub(crate) next_update: i64,
    /// The revoked certificates.
    pub(crate) entries: Vec<CrlEntry>,
}

/// DER of a to-be-signed version 2 CRL. `revokedCertificates` is absent when there is none (RFC 5280 section 5.1.2.6).
///
/// # Errors
/// Values that have no DER encoding.
pub(crate) fn crl(contents: CrlContents) -> der::Result<Vec<u8>> {
    let mut revoked = Vec::with_capacity(contents.entries.len());
    for entry in contents.entries {
        let reason = super::extension::reason_code(entry.reason)?;
        revoked.push(RevokedCert {
            serial_number: SerialNumber::new(&entry.serial)?,
            revocation_date: super::time(entry.revoked_at)?,
            crl_entry_extensions: reason.map(|reason| vec![reason]),
        });
    }
    let list: TbsCertList = TbsCertList {
        version: Version::V2,
        signature: contents.algorithm,
        issuer: contents.issuer,
        this_update: super::time(contents.this_update)?,
        next_update: Some(super::time(contents.next_update)?),
        revoked_certificates: (!revoked.is_empty()).then_some(revoked),
        crl_extensions: Some(vec![
            super::extension::authority_key_identifier(&contents.issuer_key_id)?,
            super::extension::crl_number(contents.number)?,
        ]),
    };
    list.to_der()
}

#[derive(Sequence)]
struct Signed {
    to_be_signed: Any,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

/// Joins a to-be-signed structure with its signature: the outer form of certificates, CRLs and requests alike.
///
/// # Errors
/// A to-be-signed part that is not DER.
pub(crate) fn join(tbs: &[u8], algorithm: AlgorithmIdentifierOwned, signature: &[u8]) -> der::Result<Vec<u8>> {
    Signed { to_be_signed: Any::from_der(tbs)?, algorithm, signature: BitString::from_bytes(signature)? }.to_der()
}
