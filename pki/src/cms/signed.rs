//! SignedData (RFC 5652 section 5) by one signer, whose certificate comes along.

use super::{CONTENT_TYPE, MESSAGE_DIGEST, SHA_256, SIGNED_DATA, algorithm, oid, set_of};
use crate::x509::algorithm::KeySpec;
use crate::x509::tlv::{self, SET, context};
use const_oid::ObjectIdentifier;
use der::{Decode, Encode};
use ring::digest::{self, digest};
use x509_cert::Certificate;
use zeroize::Zeroizing;

const SHA_384: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.2");
const SHA_512: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.3");
const INTEGER_ONE: &[u8] = &[tlv::INTEGER, 1, 1];
const INTEGER_THREE: &[u8] = &[tlv::INTEGER, 1, 3];

/// The digest that goes with a key: for ECDSA the one of its signatures, SHA-512 for Ed25519 (RFC 8419) and ML-DSA (RFC 9882).
fn digest_of(spec: KeySpec) -> (ObjectIdentifier, &'static digest::Algorithm) {
    match spec {
        KeySpec::EcP256 | KeySpec::Rsa { .. } => (SHA_256, &digest::SHA256),
        KeySpec::EcP384 => (SHA_384, &digest::SHA384),
        KeySpec::EcP521 | KeySpec::Ed25519 | KeySpec::MlDsa44 | KeySpec::MlDsa65 | KeySpec::MlDsa87 => {
            (SHA_512, &digest::SHA512)
        }
    }
}

/// A message that waits for its signature. The content may be a key: what holds it is wiped.
#[must_use]
pub(crate) struct Unsigned {
    spec: KeySpec,
    encapsulated: Zeroizing<Vec<u8>>,
    attributes: Vec<u8>,
}

/// What is to be signed: a content of a type, by a key of a kind.
///
/// # Errors
/// What has no encoding.
pub(crate) fn prepare(kind: ObjectIdentifier, content: &[u8], spec: KeySpec) -> der::Result<Unsigned> {
    let encapsulated = Zeroizing::new(tlv::write(tlv::OCTET_STRING, &[content]));
    let encapsulated = Zeroizing::new(tlv::write(context(0), &[&encapsulated]));
    let encapsulated = Zeroizing::new(tlv::write(tlv::SEQUENCE, &[&kind.to_der()?, &encapsulated]));
    let attribute = |kind: ObjectIdentifier, value: &[u8]| {
        kind.to_der().map(|kind| tlv::write(tlv::SEQUENCE, &[&kind, &tlv::write(SET, &[value])]))
    };
    let digest = digest(digest_of(spec).1, content);
    let attributes = set_of(vec![
        attribute(CONTENT_TYPE, &kind.to_der()?)?,
        attribute(MESSAGE_DIGEST, &tlv::write(tlv::OCTET_STRING, &[digest.as_ref()]))?,
    ]);
    Ok(Unsigned { spec, encapsulated, attributes })
}

impl Unsigned {
    /// The bytes that the signature is made over (RFC 5652 section 5.4).
    pub(crate) fn to_be_signed(&self) -> Vec<u8> {
        tlv::write(SET, &[&self.attributes])
    }

    /// The SignedData with its signature, the signer's certificate and others, without a ContentInfo around it.
    ///
    /// # Errors
    /// A certificate that does not decode.
    pub(crate) fn signed(self, signature: &[u8], signer: &[u8], others: &[&[u8]]) -> der::Result<Zeroizing<Vec<u8>>> {
        let certificate = Certificate::from_der(signer)?;
        let facts = certificate.tbs_certificate();
        let id = tlv::write(tlv::SEQUENCE, &[&facts.issuer().to_der()?, &facts.serial_number().to_der()?]);
        let digest = algorithm(digest_of(self.spec).0, &[])?;
        let info = tlv::write(
            tlv::SEQUENCE,
            &[
                INTEGER_ONE,
                &id,
                &digest,
                &tlv::write(context(0), &[&self.attributes]),
                &self.spec.signature_algorithm().to_der()?,
                &tlv::write(tlv::OCTET_STRING, &[signature]),
            ],
        );
        let mut certificates: Vec<Vec<u8>> = others.iter().map(|der| der.to_vec()).collect();
        certificates.push(signer.to_vec());
        let parts: &[&[u8]] = &[
            INTEGER_THREE,
            &tlv::write(SET, &[&digest]),
            &self.encapsulated,
            &tlv::write(context(0), &[&set_of(certificates)]),
            &tlv::write(SET, &[&info]),
        ];
        Ok(Zeroizing::new(tlv::write(tlv::SEQUENCE, parts)))
    }
}

/// A SignedData as a message of its own.
///
/// # Errors
/// Never for what this room wrote.
pub(crate) fn message(signed_data: &[u8]) -> der::Result<Vec<u8>> {
    super::content_info(SIGNED_DATA, signed_data)
}
