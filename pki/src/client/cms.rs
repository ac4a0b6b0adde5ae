//! Reading the certs-only CMS message (RFC 5652 section 5.1, RFC 7030 section 4.1.3) that EST answers with.

use super::ClientError;
use const_oid::ObjectIdentifier;
use der::asn1::AnyRef;
use der::{Decode, Encode, Reader, SliceReader, Tag, TagNumber, Tagged};

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");

/// The certificates in a message, in the order in which they stand there.
pub(super) fn certificates(cms: &[u8]) -> Result<Vec<Vec<u8>>, ClientError> {
    let malformed = |fault: der::Error| ClientError::Answer(format!("not a certs-only CMS message: {fault}"));
    let outer = AnyRef::from_der(cms).map_err(malformed)?;
    let mut content = SliceReader::new(outer.value()).map_err(malformed)?;
    let kind: ObjectIdentifier = content.decode().map_err(malformed)?;
    if outer.tag() != Tag::Sequence || kind != SIGNED_DATA {
        return Err(ClientError::Answer("not a SignedData message".to_owned()));
    }
    let explicit: AnyRef<'_> = content.decode().map_err(malformed)?;
    let signed = AnyRef::from_der(explicit.value()).map_err(malformed)?;
    let mut fields = SliceReader::new(signed.value()).map_err(malformed)?;
    let mut found = Vec::new();
    while !fields.is_finished() {
        let field: AnyRef<'_> = fields.decode().map_err(malformed)?;
        // certificates [0] IMPLICIT CertificateSet
        if field.tag() == (Tag::ContextSpecific { constructed: true, number: TagNumber(0) }) {
            let mut set = SliceReader::new(field.value()).map_err(malformed)?;
            while !set.is_finished() {
                let certificate: AnyRef<'_> = set.decode().map_err(malformed)?;
                found.push(certificate.to_der().map_err(malformed)?);
            }
        }
    }
    if found.is_empty() { Err(ClientError::Answer("the message holds no certificate".to_owned())) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::est::codec::certs_only;

    #[test]
    fn what_the_server_writes_is_read_back() {
        let (first, second) = ([0x30, 3, 2, 1, 1], [0x30, 3, 2, 1, 2]);
        assert_eq!(certificates(&certs_only(&[&second, &first])).expect("reads"), [first.to_vec(), second.to_vec()]);
    }

    #[test]
    fn rubbish_is_no_message() {
        let good = certs_only(&[&[0x30, 3, 2, 1, 1]]);
        for len in 0..good.len() {
            assert!(certificates(&good[..len]).is_err(), "{len} bytes");
        }
        assert!(certificates(&certs_only(&[])).is_err());
    }
}
