//! Messages of the Cryptographic Message Syntax (RFC 5652) that EST needs beyond certs-only ones: signed ones, and ones that only their
//! recipient opens.
//!
//! This room knows bytes. It knows no store, no token and no device: keys, and what signs, are given to it.

pub(crate) mod cmc;
pub(crate) mod enveloped;
pub(crate) mod read;
pub(crate) mod signed;

use crate::x509::tlv::{self, context};
use const_oid::ObjectIdentifier;
use der::asn1::AnyRef;
use der::{Encode, Reader, SliceReader};

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// id-signedData.
pub(crate) const SIGNED_DATA: ObjectIdentifier = oid("1.2.840.113549.1.7.2");
/// id-envelopedData.
const ENVELOPED_DATA: ObjectIdentifier = oid("1.2.840.113549.1.7.3");
/// id-contentType (RFC 5652 section 11.1).
const CONTENT_TYPE: ObjectIdentifier = oid("1.2.840.113549.1.9.3");
/// id-messageDigest (RFC 5652 section 11.2).
const MESSAGE_DIGEST: ObjectIdentifier = oid("1.2.840.113549.1.9.4");
/// id-sha256.
const SHA_256: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.1");
/// id-ct-KP-aKeyPackage (RFC 5958 section 2).
pub(crate) const KEY_PACKAGE: ObjectIdentifier = oid("2.16.840.1.101.2.1.2.78.5");

/// The elements of a constructed value.
fn elements(value: &[u8]) -> der::Result<Vec<AnyRef<'_>>> {
    let mut reader = SliceReader::new(value)?;
    let mut found = Vec::new();
    while !reader.is_finished() {
        found.push(reader.decode()?);
    }
    Ok(found)
}

/// ContentInfo: a content with the name of its type.
fn content_info(kind: ObjectIdentifier, content: &[u8]) -> der::Result<Vec<u8>> {
    Ok(tlv::write(tlv::SEQUENCE, &[&kind.to_der()?, &tlv::write(context(0), &[content])]))
}

/// AlgorithmIdentifier with parameters that are DER already, or none.
fn algorithm(kind: ObjectIdentifier, parameters: &[u8]) -> der::Result<Vec<u8>> {
    Ok(tlv::write(tlv::SEQUENCE, &[&kind.to_der()?, parameters]))
}

/// SET OF, in the order that DER asks for.
fn set_of(mut elements: Vec<Vec<u8>>) -> Vec<u8> {
    elements.sort_unstable();
    elements.concat()
}
