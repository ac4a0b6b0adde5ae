//! What the attributes of a certificate object must be, and what is taken out of the certificate itself (PKCS#11 v3.0 §4.6.3).
//!
//! A certificate is stored as it comes: nothing here judges it. Bytes that are no certificate are stored too, they only tell nothing.

use ck::attribute::*;
use ck::object::{CKC_X_509, CertificateType};
use der::asn1::AnyRef;
use der::{Decode, Encode, Reader, Tag, Tagged};

use super::{Attributes, Value};
use crate::error::{Error, Kind, Result};

/// Checks the attributes against each other and fills in what the certificate says.
///
/// # Errors
/// [`Kind::AttributeValue`] for a type that is not offered or a number out of range, [`Kind::TemplateIncomplete`] when neither the
/// certificate nor its address and hashes are given.
pub(crate) fn complete(attributes: &mut Attributes) -> Result<()> {
    let kind = CertificateType(attributes.number(CKA_CERTIFICATE_TYPE).unwrap_or(u64::MAX));
    if kind != CKC_X_509 {
        return Err(Error::new(Kind::AttributeValue, format!("certificates of type {kind} are not offered")));
    }
    for (attribute, largest) in [(CKA_CERTIFICATE_CATEGORY, 3), (CKA_JAVA_MIDP_SECURITY_DOMAIN, 3)] {
        if attributes.number(attribute).is_some_and(|given| given > largest) {
            return Err(Error::new(Kind::AttributeValue, format!("{attribute} is 0 to {largest}")));
        }
    }
    let missing = |attribute| attributes.bytes(attribute).is_empty();
    if missing(CKA_VALUE) {
        let needed = [CKA_URL, CKA_HASH_OF_SUBJECT_PUBLIC_KEY, CKA_HASH_OF_ISSUER_PUBLIC_KEY];
        if let Some(first) = needed.into_iter().find(|&attribute| missing(attribute)) {
            let what =
                format!("{first} is missing: without CKA_VALUE, CKA_URL and both hashes of public keys are needed");
            return Err(Error::new(Kind::TemplateIncomplete, what));
        }
        return Ok(());
    }
    let Ok(contents) = contents(attributes.bytes(CKA_VALUE)) else { return Ok(()) };
    let found = [
        (CKA_START_DATE, contents.start),
        (CKA_END_DATE, contents.end),
        (CKA_PUBLIC_KEY_INFO, Some(contents.public_key_info)),
    ];
    for (attribute, value) in found {
        if let Some(value) = value.filter(|_| attributes.bytes(attribute).is_empty()) {
            attributes.put(attribute, Value::bytes(value));
        }
    }
    Ok(())
}

/// What a certificate says of itself (RFC 5280, section 4.1).
struct Contents {
    start: Option<Vec<u8>>,
    end: Option<Vec<u8>>,
    public_key_info: Vec<u8>,
}

fn contents(certificate: &[u8]) -> der::Result<Contents> {
    AnyRef::from_der(certificate)?.sequence(|reader| -> der::Result<_> {
        let contents = AnyRef::decode(reader)?.sequence(tbs)?;
        AnyRef::decode(reader)?;
        AnyRef::decode(reader)?;
        Ok(contents)
    })
}

fn tbs<'a>(reader: &mut impl Reader<'a>) -> der::Result<Contents> {
    let mut next = AnyRef::decode(reader)?;
    if matches!(next.tag(), Tag::ContextSpecific { .. }) {
        next = AnyRef::decode(reader)?;
    }
    // `next` is the serial number; the signature algorithm and the issuer follow.
    next.tag().assert_eq(Tag::Integer)?;
    AnyRef::decode(reader)?;
    AnyRef::decode(reader)?;
    let (start, end) = AnyRef::decode(reader)?
        .sequence(|reader| -> der::Result<_> { Ok((day(AnyRef::decode(reader)?), day(AnyRef::decode(reader)?))) })?;
    AnyRef::decode(reader)?;
    let public_key_info = AnyRef::decode(reader)?.to_der()?;
    // Extensions and the like.
    while !reader.is_finished() {
        AnyRef::decode(reader)?;
    }
    Ok(Contents { start, end, public_key_info })
}

/// The day of a Time (RFC 5280, section 4.1.2.5) as CK_DATE writes it; none for "no end" and for what is no time.
fn day(time: AnyRef<'_>) -> Option<Vec<u8>> {
    let text = time.value();
    let day = match time.tag() {
        Tag::UtcTime => {
            let century: &[u8] = if text.first()? >= &b'5' { b"19" } else { b"20" };
            [century, text.get(..6)?].concat()
        }
        Tag::GeneralizedTime => text.get(..8)?.to_vec(),
        _ => return None,
    };
    let is_day = Value::bytes(day.clone()).check_shape(CKA_END_DATE).is_ok();
    (is_day && day != b"99991231").then_some(day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::hex;
    use ck::object::CKO_CERTIFICATE;

    /// A certificate in outline: version, serial number, algorithm, issuer, validity, subject, key, signature.
    fn outline(validity: &str) -> Vec<u8> {
        let wrap = |tag: u8, body: Vec<u8>| [vec![tag, u8::try_from(body.len()).expect("short")], body].concat();
        let parts = [
            hex("a003020102"),
            hex("020105"),
            hex("3000"),
            hex("3000"),
            wrap(0x30, hex(validity)),
            hex("3000"),
            hex("30020500"),
        ];
        let tbs = wrap(0x30, parts.concat());
        wrap(0x30, [tbs, hex("3000"), hex("030100")].concat())
    }

    fn given(more: &[(ck::Attribute, Value)]) -> Result<Attributes> {
        let mut attributes = Attributes::default();
        attributes.put(CKA_CLASS, Value::Ulong(CKO_CERTIFICATE.0));
        attributes.put(CKA_CERTIFICATE_TYPE, Value::Ulong(CKC_X_509.0));
        for (kind, value) in more {
            attributes.put(*kind, value.clone());
        }
        complete(&mut attributes)?;
        Ok(attributes)
    }

    #[test]
    fn dates_and_key_come_from_the_certificate() {
        // 2026-01-02 as UTCTime, 2051-03-04 as GeneralizedTime.
        let certificate = outline("170d3236303130323030303030305a180f32303531303330343030303030305a");
        let attributes = given(&[(CKA_VALUE, Value::bytes(certificate.clone()))]).expect("good");
        assert_eq!(attributes.bytes(CKA_START_DATE), b"20260102");
        assert_eq!(attributes.bytes(CKA_END_DATE), b"20510304");
        assert_eq!(attributes.bytes(CKA_PUBLIC_KEY_INFO), hex("30020500"));
        let own = given(&[(CKA_VALUE, Value::bytes(certificate)), (CKA_END_DATE, Value::bytes("20300101"))]);
        assert_eq!(own.expect("good").bytes(CKA_END_DATE), b"20300101");
    }

    #[test]
    fn bytes_that_are_no_certificate_are_stored_and_tell_nothing() {
        for value in [vec![0x30; 700], vec![1], hex("3003020100"), outline("05000500")[..30].to_vec()] {
            let attributes = given(&[(CKA_VALUE, Value::bytes(value))]).expect("stored");
            assert!(attributes.bytes(CKA_START_DATE).is_empty());
        }
    }

    #[test]
    fn an_address_needs_both_hashes() {
        let url = (CKA_URL, Value::bytes("https://example.org/c"));
        let subject = (CKA_HASH_OF_SUBJECT_PUBLIC_KEY, Value::bytes(vec![1; 20]));
        let issuer = (CKA_HASH_OF_ISSUER_PUBLIC_KEY, Value::bytes(vec![2; 20]));
        let kind = |result: Result<Attributes>| result.err().map(|error| error.kind());
        assert_eq!(kind(given(&[])), Some(Kind::TemplateIncomplete));
        assert_eq!(kind(given(&[url.clone(), subject.clone()])), Some(Kind::TemplateIncomplete));
        assert_eq!(kind(given(&[url, subject, issuer])), None);
        let category = (CKA_CERTIFICATE_CATEGORY, Value::Ulong(4));
        assert_eq!(kind(given(&[(CKA_VALUE, Value::bytes(vec![1])), category])), Some(Kind::AttributeValue));
        assert_eq!(kind(given(&[(CKA_CERTIFICATE_TYPE, Value::Ulong(2))])), Some(Kind::AttributeValue));
    }
}
