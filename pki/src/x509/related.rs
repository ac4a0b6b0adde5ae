//! Certificates that belong to one another (RFC 9763): what a request says of the certificate that its requester holds already, and what
//! the new certificate then says of it.

use super::algorithm::KeySpec;
use super::extension::{RELATED_CERTIFICATE, plain};
use super::tlv;
use super::verify;
use crate::clock::DAY_SECONDS;
use const_oid::ObjectIdentifier;
use der::asn1::{Any, BitString, Ia5StringRef, Int, SetOfVec};
use der::{Encode, Sequence};
use sha2::{Digest, Sha512};
use x509_cert::attr::Attribute;
use x509_cert::ext::Extension;
use x509_cert::name::Name;

/// id-aa-relatedCertRequest.
pub(crate) const RELATED_CERT_REQUEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.60");
/// id-sha512, whose parameters are absent.
const SHA_512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
/// How far the time of a proof may lie from ours: a device's clock may be wrong, and TLS proves possession of the same key anyway.
const FRESH_SECONDS: i64 = DAY_SECONDS;

/// IssuerAndSerialNumber.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub(crate) struct CertificateId {
    issuer: Name,
    serial: Int,
}

impl CertificateId {
    /// True when it is this certificate's.
    pub(crate) fn names(&self, certificate: &x509_cert::Certificate) -> bool {
        let facts = certificate.tbs_certificate();
        self.serial.as_bytes() == facts.serial_number().as_bytes()
            && super::name::same_name(&self.issuer, facts.issuer())
    }
}

/// RequesterCertificate.
#[derive(Sequence)]
struct RequesterCertificate<'a> {
    certificate: CertificateId,
    request_time: u64,
    location: Ia5StringRef<'a>,
    signature: BitString,
}

/// What a request says of a certificate that its requester holds. Nothing of it is believed until [`Claim::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    certificate: CertificateId,
    request_time: u64,
    signature: Vec<u8>,
}

/// Why a claim is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimFault {
    /// It names another certificate.
    #[error("relatedCertRequest names another certificate than the one that the device holds")]
    OtherCertificate,
    /// It was made too long ago, or will be.
    #[error("relatedCertRequest was not signed today by this server's clock")]
    Stale,
    /// The proof is false.
    #[error("the signature in relatedCertRequest does not verify with the key of the certificate that it names")]
    FalseSignature,
}

/// The bytes that the proof is made over: the identifier and the time, one behind the other.
fn to_be_signed(certificate: &CertificateId, request_time: u64) -> der::Result<Vec<u8>> {
    Ok([certificate.to_der()?, request_time.to_der()?].concat())
}

impl Claim {
    /// Reads the value of the attribute.
    ///
    /// # Errors
    /// What does not decode.
    pub(crate) fn read(value: &Any) -> der::Result<Self> {
        let RequesterCertificate { certificate, request_time, signature, .. } = value.decode_as()?;
        let signature = signature.as_bytes().unwrap_or_default().to_vec();
        Ok(Self { certificate, request_time, signature })
    }

    /// Believes that whoever made the request holds this certificate's key.
    ///
    /// # Errors
    /// A [`ClaimFault`].
    pub(crate) fn verify(&self, certificate: &x509_cert::Certificate, now: i64) -> Result<(), ClaimFault> {
        let facts = certificate.tbs_certificate();
        if !self.certificate.names(certificate) {
            return Err(ClaimFault::OtherCertificate);
        }
        let requested_at = i64::try_from(self.request_time).unwrap_or(i64::MAX);
        if now.saturating_sub(requested_at).saturating_abs() > FRESH_SECONDS {
            return Err(ClaimFault::Stale);
        }
        let signed = to_be_signed(&self.certificate, self.request_time).map_err(|_| ClaimFault::FalseSignature)?;
        let spki = facts.subject_public_key_info();
        // The structure names no algorithm: it is the one that the key signs its certificates and requests with.
        let algorithm = KeySpec::of(spki).map_err(|_| ClaimFault::FalseSignature)?.signature_algorithm();
        verify::verify(spki, &algorithm, &signed, &self.signature).map_err(|_| ClaimFault::FalseSignature)
    }
}

/// The attribute that proves possession of a certificate's key, for a request of the same requester. `sign` signs as the key signs requests.
///
/// # Errors
/// What does not encode, and what `sign` says.
pub(crate) fn claim<E: From<der::Error>>(
    certificate: &x509_cert::Certificate,
    now: i64,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<Attribute, E> {
    let facts = certificate.tbs_certificate();
    let certificate =
        CertificateId { issuer: facts.issuer().clone(), serial: Int::new(facts.serial_number().as_bytes())? };
    let request_time = u64::try_from(now).unwrap_or(0);
    let signature = BitString::from_bytes(&sign(&to_be_signed(&certificate, request_time)?)?)?;
    // The authority issued the certificate and fetches it from nowhere.
    let location = Ia5StringRef::new("")?;
    let value = Any::encode_from(&RequesterCertificate { certificate, request_time, location, signature })?;
    Ok(Attribute { oid: RELATED_CERT_REQUEST, values: SetOfVec::try_from(vec![value])? })
}

/// RelatedCertificate, not critical: the digest of the certificate that belongs to the one with this extension.
///
/// # Errors
/// What does not encode.
pub(crate) fn extension(certificate: &[u8]) -> der::Result<Extension> {
    let algorithm = tlv::write(tlv::SEQUENCE, &[&SHA_512.to_der()?]);
    let digest = tlv::write(tlv::OCTET_STRING, &[&Sha512::digest(certificate)]);
    plain(RELATED_CERTIFICATE, false, tlv::write(tlv::SEQUENCE, &[&algorithm, &digest]))
}

fn found_in(certificate: &x509_cert::Certificate) -> Option<&Extension> {
    certificate.tbs_certificate().extensions()?.iter().find(|found| found.extn_id == RELATED_CERTIFICATE)
}

/// True when a certificate names another that belongs to it.
pub(crate) fn names_another(certificate: &x509_cert::Certificate) -> bool {
    found_in(certificate).is_some()
}

/// True when a certificate says that this other one belongs to it.
pub(crate) fn relates(certificate: &x509_cert::Certificate, other: &[u8]) -> bool {
    found_in(certificate).is_some_and(|found| extension(other).is_ok_and(|expected| expected == *found))
}
