//! Reading a SignedData message (RFC 5652 section 5) and verifying its one signature.

use super::{CONTENT_TYPE, MESSAGE_DIGEST, SHA_256, SIGNED_DATA, elements, oid};
use crate::x509::algorithm::oid as key;
use crate::x509::tlv::{self, SET};
use crate::x509::verify::{VerifyFault, verify};
use const_oid::ObjectIdentifier;
use der::asn1::{AnyRef, OctetStringRef};
use der::{Decode, Encode, Tag, TagNumber, Tagged};
use ring::digest::{self, digest};
use spki::AlgorithmIdentifierOwned;
use x509_cert::Certificate;
use x509_cert::ext::pkix::SubjectKeyIdentifier;

/// One digest: its identifier, what computes it, and the RSA signature (RFC 8017) that it stands for where a signer names only "RSA".
type Digest = (ObjectIdentifier, &'static digest::Algorithm, ObjectIdentifier);
const DIGESTS: &[Digest] = &[
    (SHA_256, &digest::SHA256, key::RSA_SHA256),
    (oid("2.16.840.1.101.3.4.2.2"), &digest::SHA384, key::RSA_SHA384),
    (oid("2.16.840.1.101.3.4.2.3"), &digest::SHA512, key::RSA_SHA512),
];

/// Why a message is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CmsFault {
    /// It does not decode.
    #[error("the body is not the DER of one signed CMS message: {0}")]
    Malformed(String),
    /// It is signed by somebody else than who sends it.
    #[error("the CMS message is not signed with the client certificate of this connection")]
    OtherSigner,
    /// The algorithms are not known.
    #[error("the CMS message is signed with an algorithm that is not supported: {0}")]
    Algorithm(String),
    /// The signature is false.
    #[error("the signature of the CMS message does not verify")]
    FalseSignature,
}

impl From<der::Error> for CmsFault {
    fn from(fault: der::Error) -> Self {
        Self::Malformed(fault.to_string())
    }
}

fn malformed(what: &str) -> CmsFault {
    CmsFault::Malformed(what.to_owned())
}

/// A message that decodes. Nothing in it is believed until [`Signed::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    kind: ObjectIdentifier,
    content: Vec<u8>,
    signer: Signer,
}

/// The SignerInfo.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Signer {
    /// DER of IssuerAndSerialNumber, or of `[0]` subjectKeyIdentifier.
    id: Vec<u8>,
    digest: ObjectIdentifier,
    /// The signed attributes one after the other.
    attributes: Vec<u8>,
    algorithm: AlgorithmIdentifierOwned,
    signature: Vec<u8>,
}

/// The tag `[number]`, constructed.
fn is_context(element: &AnyRef<'_>, number: u32) -> bool {
    element.tag() == (Tag::ContextSpecific { constructed: true, number: TagNumber(number) })
}

fn sequence<'a>(element: &AnyRef<'a>) -> Result<Vec<AnyRef<'a>>, CmsFault> {
    if element.tag() == Tag::Sequence {
        Ok(elements(element.value())?)
    } else {
        Err(malformed("a SEQUENCE is missing"))
    }
}

impl Signed {
    /// Decodes a message with one signer and signed attributes.
    ///
    /// # Errors
    /// [`CmsFault::Malformed`].
    pub(crate) fn read(message: &[u8]) -> Result<Self, CmsFault> {
        let outer = sequence(&AnyRef::from_der(message)?)?;
        let [kind, explicit] = outer.as_slice() else { return Err(malformed("no ContentInfo")) };
        if kind.decode_as::<ObjectIdentifier>()? != SIGNED_DATA || !is_context(explicit, 0) {
            return Err(malformed("no SignedData"));
        }
        let fields = sequence(&AnyRef::from_der(explicit.value())?)?;
        // version, digestAlgorithms, encapContentInfo, certificates [0], crls [1], signerInfos
        let ([_version, _digests, encapsulated], rest) = fields
            .split_at_checked(3)
            .and_then(|(head, rest)| Some((<&[AnyRef<'_>; 3]>::try_from(head).ok()?, rest)))
            .ok_or_else(|| malformed("a field of SignedData is missing"))?;
        let encapsulated = sequence(encapsulated)?;
        let [kind, content] = encapsulated.as_slice() else {
            return Err(malformed("the content is not in the message"));
        };
        if !is_context(content, 0) {
            return Err(malformed("the content is not in the message"));
        }
        let content = <&OctetStringRef>::from_der(content.value())?.as_bytes().to_vec();
        let ([infos], before) =
            rest.split_last().map(|(last, before)| ([last], before)).ok_or_else(|| malformed("no signer"))?;
        if infos.tag() != Tag::Set || !before.iter().all(|field| is_context(field, 0) || is_context(field, 1)) {
            return Err(malformed("no signer"));
        }
        let infos = elements(infos.value())?;
        let [info] = infos.as_slice() else { return Err(malformed("there must be one signer")) };
        Ok(Self { kind: kind.decode_as()?, content, signer: Signer::read(info)? })
    }

    /// The type of the content.
    pub(crate) fn kind(&self) -> ObjectIdentifier {
        self.kind
    }

    /// The content, if the holder of this certificate signed it.
    ///
    /// # Errors
    /// A [`CmsFault`].
    pub(crate) fn verify(&self, certificate: &Certificate) -> Result<&[u8], CmsFault> {
        let Signer { id, digest: digest_id, attributes, algorithm, signature } = &self.signer;
        if !names(id, certificate)? {
            return Err(CmsFault::OtherSigner);
        }
        let unknown = || CmsFault::Algorithm(digest_id.to_string());
        let row = DIGESTS.iter().find(|row| row.0 == *digest_id).ok_or_else(unknown)?;
        let content_digest = digest(row.1, &self.content);
        let claimed: &OctetStringRef = only(attributes, MESSAGE_DIGEST)?.decode_as()?;
        if only(attributes, CONTENT_TYPE)?.decode_as::<ObjectIdentifier>()? != self.kind {
            return Err(malformed("the signed content type is another one"));
        }
        if claimed.as_bytes() != content_digest.as_ref() {
            return Err(CmsFault::FalseSignature);
        }
        let mut algorithm = algorithm.clone();
        if algorithm.oid == key::RSA {
            algorithm.oid = row.2;
        }
        let spki = certificate.tbs_certificate().subject_public_key_info();
        verify(spki, &algorithm, &tlv::write(SET, &[attributes]), signature).map_err(|fault| match fault {
            VerifyFault::Unsupported(which) => CmsFault::Algorithm(which),
            VerifyFault::False => CmsFault::FalseSignature,
        })?;
        Ok(&self.content)
    }
}

impl Signer {
    fn read(info: &AnyRef<'_>) -> Result<Self, CmsFault> {
        let fields = sequence(info)?;
        // version, sid, digestAlgorithm, signedAttrs [0], signatureAlgorithm, signature, unsignedAttrs [1]
        let [_version, id, digest, attributes, algorithm, signature, more @ ..] = fields.as_slice() else {
            return Err(malformed("a field of SignerInfo is missing; signed attributes are needed"));
        };
        if !is_context(attributes, 0) || more.len() > 1 || !more.iter().all(|field| is_context(field, 1)) {
            return Err(malformed("the signed attributes are missing"));
        }
        Ok(Self {
            id: id.to_der()?,
            digest: digest.decode_as::<AlgorithmIdentifierOwned>()?.oid,
            attributes: attributes.value().to_vec(),
            algorithm: algorithm.decode_as()?,
            signature: signature.decode_as::<&OctetStringRef>()?.as_bytes().to_vec(),
        })
    }
}

/// True when a SignerIdentifier is this certificate's.
fn names(id: &[u8], certificate: &Certificate) -> Result<bool, CmsFault> {
    let facts = certificate.tbs_certificate();
    let by_issuer = tlv::write(tlv::SEQUENCE, &[&facts.issuer().to_der()?, &facts.serial_number().to_der()?]);
    let key_id = facts.get_extension::<SubjectKeyIdentifier>()?.map(|(_, key_id)| key_id);
    // [0] IMPLICIT OCTET STRING
    let by_key = key_id.map(|key_id| tlv::write(0x80, &[key_id.0.as_bytes()]));
    Ok(id == by_issuer || by_key.is_some_and(|by_key| id == by_key))
}

/// The only value of an attribute that stands there once.
fn only(attributes: &[u8], kind: ObjectIdentifier) -> Result<AnyRef<'_>, CmsFault> {
    let mut found = None;
    for attribute in elements(attributes)? {
        let fields = sequence(&attribute)?;
        let [name, values] = fields.as_slice() else { return Err(malformed("a signed attribute is damaged")) };
        if name.decode_as::<ObjectIdentifier>()? != kind {
            continue;
        }
        let values = elements(values.value())?;
        match (values.as_slice(), &found) {
            ([value], None) => found = Some(*value),
            _ => return Err(malformed("a signed attribute does not have one value")),
        }
    }
    found.ok_or_else(|| malformed("a signed attribute is missing"))
}
