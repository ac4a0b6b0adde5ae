//! To-be-signed certificates (RFC 5280 section 4.1), and the joining of what is signed with its signature.
//!
//! The certificate is a structure of our own because the one used for reading cannot be filled from outside its crate.

use super::tlv;
use der::asn1::BitString;
use der::{Encode, Sequence};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::Version;
use x509_cert::ext::Extension;
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

/// Joins a to-be-signed structure with its signature: the outer form of certificates, CRLs and requests alike.
///
/// # Errors
/// A signature that does not encode.
pub(crate) fn join(tbs: &[u8], algorithm: AlgorithmIdentifierOwned, signature: &[u8]) -> der::Result<Vec<u8>> {
    let signature = BitString::from_bytes(signature)?.to_der()?;
    Ok(tlv::write(tlv::SEQUENCE, &[tbs, &algorithm.to_der()?, &signature]))
}
