//! The messages of the Online Certificate Status Protocol (RFC 6960 section 4): requests are decoded and judged, answers encoded.
//!
//! What a request may hold beyond the names of certificates is the nonce (RFC 9654). Its signature and the requestor's name say
//! nothing that this responder needs: anybody may ask.

use super::tlv::{self, context};
use const_oid::ObjectIdentifier;
use der::asn1::{Any, BitString, GeneralizedTime, Int, OctetString};
use der::{Decode, Encode, Sequence};
use ring::digest;
use spki::AlgorithmIdentifierOwned;
use std::time::Duration;
use x509_cert::ext::Extension;

/// id-pkix-ocsp-basic.
const BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
/// id-pkix-ocsp-nonce.
pub(crate) const NONCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.2");
/// Longest nonce (RFC 9654).
const MAX_NONCE_BYTES: usize = 128;
/// Most certificates in one request.
const MAX_QUESTIONS: usize = 64;

/// The hash functions that a CertID may be made with.
pub(crate) const HASHES: &[(ObjectIdentifier, &digest::Algorithm)] = &[
    (ObjectIdentifier::new_unwrap("1.3.14.3.2.26"), &digest::SHA1_FOR_LEGACY_USE_ONLY),
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1"), &digest::SHA256),
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2"), &digest::SHA384),
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3"), &digest::SHA512),
];

/// Why a request gets no answer: the OCSPResponseStatus, one row each, with its stable reason code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorStatus {
    /// The request does not decode, or holds something critical that is not understood.
    MalformedRequest = 1,
    /// The responder failed.
    InternalError = 2,
    /// The token is away.
    TryLater = 3,
    /// The certificate is not from an authority that this responder speaks for.
    Unauthorized = 6,
}

impl ErrorStatus {
    /// The whole answer: a status, and no responseBytes (RFC 6960 section 4.2.1).
    pub(crate) fn response(self) -> Vec<u8> {
        let status = match self {
            Self::MalformedRequest => 1,
            Self::InternalError => 2,
            Self::TryLater => 3,
            Self::Unauthorized => 6,
        };
        tlv::write(tlv::SEQUENCE, &[&tlv::write(tlv::ENUMERATED, &[&[status]])])
    }

    /// The stable reason code.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::MalformedRequest => "ocsp_malformed",
            Self::InternalError => "ocsp_internal",
            Self::TryLater => "ocsp_try_later",
            Self::Unauthorized => "ocsp_unauthorized",
        }
    }
}

#[derive(Sequence)]
struct OcspRequest {
    tbs_request: TbsRequest,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    optional_signature: Option<Any>,
}

#[derive(Sequence)]
struct TbsRequest {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    version: Option<u8>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    requestor_name: Option<Any>,
    request_list: Vec<SingleRequest>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    request_extensions: Option<Vec<Extension>>,
}

#[derive(Sequence)]
struct SingleRequest {
    certificate: CertId,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<Vec<Extension>>,
}

/// Which certificate is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub(crate) struct CertId {
    hash_algorithm: AlgorithmIdentifierOwned,
    issuer_name_hash: OctetString,
    issuer_key_hash: OctetString,
    serial_number: Int,
}

impl CertId {
    /// The CertID of a certificate, by a row of [`HASHES`] with absent parameters encoded as NULL, the way most clients write it.
    ///
    /// # Errors
    /// A serial number that does not encode.
    pub(crate) fn new(row: usize, issuer: &IssuerHashes, serial: &[u8]) -> der::Result<Self> {
        let oid = HASHES.get(row).ok_or_else(|| der::Error::from(der::ErrorKind::Failed))?.0;
        Ok(Self {
            hash_algorithm: AlgorithmIdentifierOwned { oid, parameters: Some(Any::null()) },
            issuer_name_hash: OctetString::new(issuer.name.clone())?,
            issuer_key_hash: OctetString::new(issuer.key.clone())?,
            serial_number: Int::new(serial)?,
        })
    }

    /// Its serial number, big endian.
    pub(crate) fn serial(&self) -> &[u8] {
        self.serial_number.as_bytes()
    }

    /// The row of [`HASHES`] it was made with; `None` for another hash function.
    pub(crate) fn hash(&self) -> Option<usize> {
        HASHES.iter().position(|row| row.0 == self.hash_algorithm.oid)
    }

    /// True when another one names the same certificate. NULL and absent parameters of the hash function are the same.
    pub(crate) fn is_about_the_same(&self, other: &Self) -> bool {
        self.hash_algorithm.oid == other.hash_algorithm.oid
            && self.issuer_name_hash == other.issuer_name_hash
            && self.issuer_key_hash == other.issuer_key_hash
            && self.serial_number == other.serial_number
    }

    /// True when these are the hashes of the issuer's name and key.
    pub(crate) fn names(&self, issuer: &IssuerHashes) -> bool {
        self.issuer_name_hash.as_bytes() == issuer.name && self.issuer_key_hash.as_bytes() == issuer.key
    }
}

/// An issuer, by the hashes of one hash function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IssuerHashes {
    name: Vec<u8>,
    key: Vec<u8>,
}

impl IssuerHashes {
    /// The hashes of an issuer by a row of [`HASHES`]: of its encoded name, and of the bits of its public key.
    pub(crate) fn new(row: usize, name_der: &[u8], key_bits: &[u8]) -> Option<Self> {
        let algorithm = HASHES.get(row)?.1;
        let hash = |bytes| digest::digest(algorithm, bytes).as_ref().to_vec();
        Some(Self { name: hash(name_der), key: hash(key_bits) })
    }
}

/// A request that decodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Questions {
    /// What is asked, at least one.
    pub(crate) certificates: Vec<CertId>,
    /// The nonce to give back.
    pub(crate) nonce: Option<Vec<u8>>,
}

impl Questions {
    /// Decodes a request.
    ///
    /// # Errors
    /// [`ErrorStatus::MalformedRequest`].
    pub(crate) fn decode(der: &[u8]) -> Result<Self, ErrorStatus> {
        let malformed = ErrorStatus::MalformedRequest;
        let request = OcspRequest::from_der(der).map_err(|_| malformed)?.tbs_request;
        if request.version.unwrap_or(0) != 0 {
            return Err(malformed);
        }
        let mut nonce = None;
        for extension in request.request_extensions.iter().flatten() {
            if extension.extn_id == NONCE {
                let value = OctetString::from_der(extension.extn_value.as_bytes()).map_err(|_| malformed)?;
                if value.as_bytes().is_empty() || value.as_bytes().len() > MAX_NONCE_BYTES || nonce.is_some() {
                    return Err(malformed);
                }
                nonce = Some(value.as_bytes().to_vec());
            } else if extension.critical {
                return Err(malformed);
            }
        }
        let list = request.request_list;
        let is_critical = |single: &SingleRequest| single.extensions.iter().flatten().any(|found| found.critical);
        if list.is_empty() || list.len() > MAX_QUESTIONS || list.iter().any(is_critical) {
            return Err(malformed);
        }
        Ok(Self { certificates: list.into_iter().map(|single| single.certificate).collect(), nonce })
    }
}

/// A request as it is encoded after reading: other bytes than it came in would be another reader's another request.
pub(crate) fn written_again(der: &[u8]) -> Option<Vec<u8>> {
    OcspRequest::from_der(der).ok()?.to_der().ok()
}

/// What is said of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Not revoked.
    Good,
    /// Revoked, or on hold.
    Revoked {
        /// When, seconds since 1970.
        at: i64,
        /// CRL reason code; 0 is left out.
        reason: u32,
    },
    /// This authority never issued it.
    Unknown,
}

/// How the responder names itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResponderId {
    /// By the SHA-1 of its public key.
    ByKey,
    /// By its subject.
    ByName,
}

/// The DER of a responder's name for itself.
pub(crate) fn responder_id(form: ResponderId, subject_der: &[u8], key_bits: &[u8]) -> Vec<u8> {
    match form {
        ResponderId::ByName => tlv::write(context(1), &[subject_der]),
        ResponderId::ByKey => {
            let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, key_bits);
            tlv::write(context(2), &[&tlv::write(tlv::OCTET_STRING, &[hash.as_ref()])])
        }
    }
}

fn generalized(unix_seconds: i64) -> der::Result<Vec<u8>> {
    let seconds = u64::try_from(unix_seconds).map_err(|_| der::Error::from(der::ErrorKind::DateTime))?;
    GeneralizedTime::from_unix_duration(Duration::from_secs(seconds))?.to_der()
}

/// Encodes one SingleResponse.
///
/// # Errors
/// Instants that have no encoding.
pub(crate) fn single(certificate: &CertId, status: Status, this: i64, next: i64) -> der::Result<Vec<u8>> {
    let status = match status {
        Status::Good => vec![0x80, 0],
        Status::Unknown => vec![0x82, 0],
        Status::Revoked { at, reason } => {
            let reason = match u8::try_from(reason) {
                Ok(0) | Err(_) => Vec::new(),
                Ok(code) => tlv::write(context(0), &[&tlv::write(tlv::ENUMERATED, &[&[code]])]),
            };
            tlv::write(context(1), &[&generalized(at)?, &reason])
        }
    };
    let next = tlv::write(context(0), &[&generalized(next)?]);
    Ok(tlv::write(tlv::SEQUENCE, &[&certificate.to_der()?, &status, &generalized(this)?, &next]))
}

/// Encodes the ResponseData, which is what is signed.
///
/// # Errors
/// Instants that have no encoding.
pub(crate) fn response_data(
    responder_id: &[u8],
    produced_at: i64,
    singles: &[Vec<u8>],
    nonce: Option<&[u8]>,
) -> der::Result<Vec<u8>> {
    let singles: Vec<&[u8]> = singles.iter().map(Vec::as_slice).collect();
    let list = tlv::write(tlv::SEQUENCE, &singles);
    let extensions = match nonce {
        Some(nonce) => {
            let value = tlv::write(tlv::OCTET_STRING, &[&tlv::write(tlv::OCTET_STRING, &[nonce])]);
            let extension = tlv::write(tlv::SEQUENCE, &[&NONCE.to_der()?, &value]);
            tlv::write(context(1), &[&tlv::write(tlv::SEQUENCE, &[&extension])])
        }
        None => Vec::new(),
    };
    Ok(tlv::write(tlv::SEQUENCE, &[responder_id, &generalized(produced_at)?, &list, &extensions]))
}

/// Encodes the whole answer: the signed data with the certificate of the signer.
///
/// # Errors
/// A signature that does not encode.
pub(crate) fn response(
    data: &[u8],
    algorithm: &AlgorithmIdentifierOwned,
    signature: &[u8],
    signer_certificate: &[u8],
) -> der::Result<Vec<u8>> {
    let signature = BitString::from_bytes(signature)?.to_der()?;
    let certificates = tlv::write(context(0), &[&tlv::write(tlv::SEQUENCE, &[signer_certificate])]);
    let basic = tlv::write(tlv::SEQUENCE, &[data, &algorithm.to_der()?, &signature, &certificates]);
    let bytes = tlv::write(tlv::SEQUENCE, &[&BASIC.to_der()?, &tlv::write(tlv::OCTET_STRING, &[&basic])]);
    let successful = tlv::write(tlv::ENUMERATED, &[&[0]]);
    Ok(tlv::write(tlv::SEQUENCE, &[&successful, &tlv::write(context(0), &[&bytes])]))
}

/// DER of a request about one certificate, with a nonce.
///
/// # Errors
/// Values that have no DER encoding.
pub(crate) fn asking(certificate: &CertId, nonce: &[u8]) -> der::Result<Vec<u8>> {
    let value = OctetString::new(nonce)?.to_der()?;
    let nonce = Extension { extn_id: NONCE, critical: false, extn_value: OctetString::new(value)? };
    let single = SingleRequest { certificate: certificate.clone(), extensions: None };
    let tbs_request = TbsRequest {
        version: None,
        requestor_name: None,
        request_list: vec![single],
        request_extensions: Some(vec![nonce]),
    };
    OcspRequest { tbs_request, optional_signature: None }.to_der()
}

/// Encodes a request, for the tests of the responder.
#[cfg(test)]
pub(crate) mod made {
    use super::*;

    /// A CertID by a row of [`HASHES`].
    pub(crate) fn cert_id(row: usize, name_der: &[u8], key_bits: &[u8], serial: &[u8]) -> CertId {
        CertId::new(row, &IssuerHashes::new(row, name_der, key_bits).expect("a row"), serial).expect("encodes")
    }

    /// A request for certificates with extensions.
    pub(crate) fn request(certificates: &[CertId], extensions: Vec<Extension>) -> Vec<u8> {
        let request_list = certificates
            .iter()
            .map(|certificate| SingleRequest { certificate: certificate.clone(), extensions: None })
            .collect();
        let request_extensions = (!extensions.is_empty()).then_some(extensions);
        let tbs_request = TbsRequest { version: None, requestor_name: None, request_list, request_extensions };
        OcspRequest { tbs_request, optional_signature: None }.to_der().expect("encodes")
    }

    /// A nonce extension.
    pub(crate) fn nonce(value: &[u8], critical: bool) -> Extension {
        let inner = OctetString::new(value).expect("encodes").to_der().expect("encodes");
        Extension { extn_id: NONCE, critical, extn_value: OctetString::new(inner).expect("encodes") }
    }

    /// An extension that nobody knows.
    pub(crate) fn strange(critical: bool) -> Extension {
        let oid = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.99");
        Extension { extn_id: oid, critical, extn_value: OctetString::new([5, 0]).expect("encodes") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> CertId {
        made::cert_id(0, b"name", b"key", &[0x41; 16])
    }

    #[test]
    fn a_request_is_read_and_its_certificate_recognised_by_each_hash() {
        for row in 0..HASHES.len() {
            let id = made::cert_id(row, b"name", b"key", &[0x41; 16]);
            let read = Questions::decode(&made::request(std::slice::from_ref(&id), Vec::new())).expect("decodes");
            assert_eq!((read.certificates.len(), read.nonce), (1, None));
            assert_eq!((id.hash(), id.serial()), (Some(row), &[0x41; 16][..]));
            assert!(id.names(&IssuerHashes::new(row, b"name", b"key").expect("row")));
            assert!(!id.names(&IssuerHashes::new(row, b"name", b"other").expect("row")));
            assert!(!id.names(&IssuerHashes::new(row, b"other", b"key").expect("row")));
        }
    }

    #[test]
    fn a_nonce_has_1_to_128_octets() {
        for (length, good) in [(0, false), (1, true), (16, true), (32, true), (128, true), (129, false)] {
            let der = made::request(&[asked()], vec![made::nonce(&vec![7; length], false)]);
            let read = Questions::decode(&der);
            assert_eq!(read.is_ok(), good, "{length}");
            assert_eq!(read.ok().and_then(|read| read.nonce).map(|nonce| nonce.len()), good.then_some(length));
        }
        let twice = vec![made::nonce(&[7; 16], false), made::nonce(&[8; 16], false)];
        assert_eq!(Questions::decode(&made::request(&[asked()], twice)), Err(ErrorStatus::MalformedRequest));
    }

    #[test]
    fn what_is_critical_must_be_understood() {
        assert!(Questions::decode(&made::request(&[asked()], vec![made::strange(false)])).is_ok());
        assert!(Questions::decode(&made::request(&[asked()], vec![made::nonce(&[7; 16], true)])).is_ok());
        let refused = Questions::decode(&made::request(&[asked()], vec![made::strange(true)]));
        assert_eq!(refused, Err(ErrorStatus::MalformedRequest));
    }

    #[test]
    fn what_does_not_decode_is_malformed() {
        let good = made::request(&[asked()], Vec::new());
        for end in 0..good.len() {
            assert_eq!(Questions::decode(&good[..end]), Err(ErrorStatus::MalformedRequest), "{end}");
        }
        let nothing = made::request(&[], Vec::new());
        let many = made::request(&vec![asked(); MAX_QUESTIONS + 1], Vec::new());
        let trailing = [good.as_slice(), &[0]].concat();
        for bad in [nothing, many, trailing, Vec::new(), b"GET / HTTP/1.1".to_vec()] {
            assert_eq!(Questions::decode(&bad), Err(ErrorStatus::MalformedRequest));
        }
    }

    #[test]
    fn an_error_has_a_status_and_nothing_else() {
        let rows = [
            (ErrorStatus::MalformedRequest, 1),
            (ErrorStatus::InternalError, 2),
            (ErrorStatus::TryLater, 3),
            (ErrorStatus::Unauthorized, 6),
        ];
        for (status, code) in rows {
            assert_eq!(status.response(), [0x30, 3, 0x0A, 1, code], "{status:?}");
        }
    }
}
