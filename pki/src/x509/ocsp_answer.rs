//! Asking the OCSP responder of another (RFC 6960 section 4): the request, and whether an answer is one that counts.

use super::foreign_crl::MAX_SKEW;
use super::ocsp::{CertId, IssuerHashes, NONCE, asking};
use super::tlv::{self, Element, context};
use super::verify;
use super::{extension, unix_seconds};
use const_oid::ObjectIdentifier;
use der::asn1::{BitString, GeneralizedTime, OctetString};
use der::{Decode, Encode};
use ring::digest;
use spki::AlgorithmIdentifierOwned;
use x509_cert::Certificate;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::ExtendedKeyUsage;

/// id-pkix-ocsp-basic.
const BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
/// The row of the hash functions that every responder knows: SHA-1 (RFC 5019 section 2.1.1).
const SHA1_ROW: usize = 0;

/// Why an answer does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnswerFault {
    /// The responder gives none.
    #[error("the responder answers with the status {0}")]
    Status(u8),
    /// It does not decode.
    #[error("it is no basic OCSP response: {0}")]
    Malformed(&'static str),
    /// Who signed it.
    #[error("it is not signed by the issuer or by a responder of the issuer: {0}")]
    Signer(&'static str),
    /// It is about another certificate.
    #[error("it says nothing of the certificate that was asked about")]
    OtherCertificate,
    /// The nonce.
    #[error("it does not give back the nonce of the request")]
    Nonce,
    /// Its times.
    #[error("it is not current")]
    Times,
}

/// What a responder says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// Not revoked.
    Good,
    /// Revoked, or on hold.
    Revoked,
    /// It does not know the certificate.
    Unknown,
}

/// A question about one certificate.
pub(crate) struct Inquiry {
    certificate: CertId,
    nonce: Vec<u8>,
}

/// An answer that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// What it says.
    pub(crate) said: Said,
    /// Until when; the instant of asking when it does not say.
    pub(crate) until: i64,
}

impl Inquiry {
    /// A question about a serial number of an issuer.
    ///
    /// # Errors
    /// A serial number that does not encode.
    pub(crate) fn new(issuer: &Certificate, serial: &[u8], nonce: Vec<u8>) -> der::Result<Self> {
        let above = issuer.tbs_certificate();
        let key = above.subject_public_key_info().subject_public_key.raw_bytes();
        let hashes = IssuerHashes::new(SHA1_ROW, &above.subject().to_der()?, key);
        let hashes = hashes.ok_or_else(|| der::Error::from(der::ErrorKind::Failed))?;
        Ok(Self { certificate: CertId::new(SHA1_ROW, &hashes, serial)?, nonce })
    }

    /// DER of the request.
    ///
    /// # Errors
    /// Never, unless memory ends.
    pub(crate) fn request(&self) -> der::Result<Vec<u8>> {
        asking(&self.certificate, &self.nonce)
    }

    /// Judges an answer. A nonce that is there must be the one that was sent; `needs_nonce` refuses an answer without.
    ///
    /// # Errors
    /// The [`AnswerFault`].
    pub(crate) fn judge(
        &self,
        der: &[u8],
        issuer: &Certificate,
        needs_nonce: bool,
        now: i64,
    ) -> Result<Verdict, AnswerFault> {
        let basic = Basic::read(der)?;
        basic.verify(issuer, now)?;
        match &basic.nonce {
            Some(nonce) if *nonce != self.nonce => return Err(AnswerFault::Nonce),
            None if needs_nonce => return Err(AnswerFault::Nonce),
            _ => {}
        }
        let mut verdict = Err(AnswerFault::OtherCertificate);
        for single in &basic.singles {
            let (certificate, single) = single_response(single)?;
            if self.certificate.is_about_the_same(&certificate) {
                verdict = Ok(single.verdict(now)?);
            }
        }
        verdict
    }
}

/// True when an answer is read to its end, whoever signed it.
pub(crate) fn is_read(der: &[u8]) -> bool {
    Basic::read(der).is_ok_and(|basic| basic.singles.iter().all(|single| single_response(single).is_ok()))
}

/// A BasicOCSPResponse in its parts.
struct Basic<'a> {
    data: &'a [u8],
    algorithm: AlgorithmIdentifierOwned,
    signature: Vec<u8>,
    certificates: Vec<&'a [u8]>,
    responder: Element<'a>,
    singles: Vec<&'a [u8]>,
    nonce: Option<Vec<u8>>,
}

/// The next element, which must have this tag.
fn expect<'a>(rest: &mut &'a [u8], tag: u8) -> Result<Element<'a>, AnswerFault> {
    let (element, tail) = tlv::read(rest).ok_or(AnswerFault::Malformed("it ends early"))?;
    if element.tag != tag {
        return Err(AnswerFault::Malformed("an element is of another kind"));
    }
    *rest = tail;
    Ok(element)
}

/// The next element, if it has this tag.
fn maybe<'a>(rest: &mut &'a [u8], tag: u8) -> Option<Element<'a>> {
    let (element, tail) = tlv::read(rest)?;
    (element.tag == tag).then(|| {
        *rest = tail;
        element
    })
}

fn is_over(rest: &[u8]) -> Result<(), AnswerFault> {
    if rest.is_empty() { Ok(()) } else { Err(AnswerFault::Malformed("something follows")) }
}

impl<'a> Basic<'a> {
    fn read(der: &'a [u8]) -> Result<Self, AnswerFault> {
        let mut rest = der;
        let mut whole = expect(&mut rest, tlv::SEQUENCE)?.content;
        is_over(rest)?;
        match expect(&mut whole, tlv::ENUMERATED)?.content {
            [0] => {}
            [status] => return Err(AnswerFault::Status(*status)),
            _ => return Err(AnswerFault::Malformed("its status")),
        }
        let mut bytes = expect(&mut whole, context(0))?.content;
        let mut bytes = expect(&mut bytes, tlv::SEQUENCE)?.content;
        let (kind, mut content) = tlv::read(bytes).ok_or(AnswerFault::Malformed("it has no kind"))?;
        if ObjectIdentifier::from_der(kind.whole) != Ok(BASIC) {
            return Err(AnswerFault::Malformed("another kind of response"));
        }
        bytes = expect(&mut content, tlv::OCTET_STRING)?.content;
        let mut basic = expect(&mut bytes, tlv::SEQUENCE)?.content;
        let data = expect(&mut basic, tlv::SEQUENCE)?;
        let algorithm = expect(&mut basic, tlv::SEQUENCE)?.whole;
        let algorithm = AlgorithmIdentifierOwned::from_der(algorithm);
        let (signature, mut basic) = tlv::read(basic).ok_or(AnswerFault::Malformed("it has no signature"))?;
        let signature = BitString::from_der(signature.whole).ok();
        let signature = signature.and_then(|bits| bits.as_bytes().map(<[u8]>::to_vec));
        let certificates = match maybe(&mut basic, context(0)) {
            Some(list) => tlv::elements(expect(&mut { list.content }, tlv::SEQUENCE)?.content)
                .map(|certificate| certificate.whole)
                .collect(),
            None => Vec::new(),
        };
        is_over(basic)?;
        let mut fields = data.content;
        // The version is 1, which is not written.
        if maybe(&mut fields, context(0)).is_some() {
            return Err(AnswerFault::Malformed("another version"));
        }
        let (responder, mut fields) = tlv::read(fields).ok_or(AnswerFault::Malformed("it has no responder"))?;
        expect(&mut fields, GENERALIZED_TIME)?;
        let singles = tlv::elements(expect(&mut fields, tlv::SEQUENCE)?.content).map(|single| single.whole).collect();
        let nonce = match maybe(&mut fields, context(1)) {
            Some(extensions) => nonce_among(extensions.content)?,
            None => None,
        };
        is_over(fields)?;
        Ok(Self {
            data: data.whole,
            algorithm: algorithm.map_err(|_| AnswerFault::Malformed("its algorithm"))?,
            signature: signature.ok_or(AnswerFault::Malformed("its signature"))?,
            certificates,
            responder,
            singles,
            nonce,
        })
    }

    /// The issuer itself signed it, or one whom the issuer certified for it (RFC 6960 section 4.2.2.2). Nobody says of such a one whether
    /// it was revoked, unless its certificate says that nobody need ask.
    fn verify(&self, issuer: &Certificate, now: i64) -> Result<(), AnswerFault> {
        if self.names(issuer) && self.is_signed_by(issuer) {
            return Ok(());
        }
        let mut why = AnswerFault::Signer("no certificate in it is of the responder that it names");
        for der in &self.certificates {
            let Ok(certificate) = Certificate::from_der(der) else { continue };
            if !self.names(&certificate) {
                continue;
            }
            match judge_responder(&certificate, issuer, now) {
                Ok(()) if self.is_signed_by(&certificate) => return Ok(()),
                Ok(()) => why = AnswerFault::Signer("its signature is false"),
                Err(fault) => why = AnswerFault::Signer(fault),
            }
        }
        Err(why)
    }

    fn is_signed_by(&self, signer: &Certificate) -> bool {
        let key = signer.tbs_certificate().subject_public_key_info();
        verify::verify(key, &self.algorithm, self.data, &self.signature).is_ok()
    }

    /// True when the responder that it names has this certificate.
    fn names(&self, signer: &Certificate) -> bool {
        let facts = signer.tbs_certificate();
        let by_key = || {
            let bits = facts.subject_public_key_info().subject_public_key.raw_bytes();
            let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bits);
            tlv::write(tlv::OCTET_STRING, &[hash.as_ref()])
        };
        match self.responder.tag {
            tag if tag == context(1) => facts.subject().to_der().is_ok_and(|name| name == self.responder.content),
            tag if tag == context(2) => by_key() == self.responder.content,
            _ => false,
        }
    }
}

const GENERALIZED_TIME: u8 = 0x18;

fn nonce_among(extensions: &[u8]) -> Result<Option<Vec<u8>>, AnswerFault> {
    let malformed = AnswerFault::Malformed("its extensions");
    let list = Vec::<Extension>::from_der(extensions).map_err(|_| malformed.clone())?;
    let mut nonce = None;
    for extension in list {
        if extension.extn_id == NONCE {
            let value = OctetString::from_der(extension.extn_value.as_bytes()).map_err(|_| malformed.clone())?;
            nonce = Some(value.as_bytes().to_vec());
        } else if extension.critical {
            return Err(AnswerFault::Malformed("a critical extension that is not known"));
        }
    }
    Ok(nonce)
}

fn judge_responder(responder: &Certificate, issuer: &Certificate, now: i64) -> Result<(), &'static str> {
    let facts = responder.tbs_certificate();
    let tbs = facts.to_der().map_err(|_| "its responder's certificate does not encode")?;
    let signature = responder.signature().as_bytes().unwrap_or_default();
    let above = issuer.tbs_certificate().subject_public_key_info();
    verify::verify(above, responder.signature_algorithm(), &tbs, signature)
        .map_err(|_| "the issuer did not certify the responder")?;
    let purposes = facts.get_extension::<ExtendedKeyUsage>().ok().flatten();
    if !purposes.is_some_and(|(_, purposes)| purposes.0.contains(&extension::OCSP_SIGNING)) {
        return Err("the responder's certificate is not one for OCSP");
    }
    let validity = facts.validity();
    if now < unix_seconds(&validity.not_before).saturating_sub(MAX_SKEW) || now > unix_seconds(&validity.not_after) {
        return Err("the responder's certificate is not valid now");
    }
    let is_trusted_while_valid =
        facts.extensions().is_some_and(|all| all.iter().any(|found| found.extn_id == extension::OCSP_NO_CHECK));
    if !is_trusted_while_valid {
        return Err("whether the responder's certificate was revoked is not known (it has no id-pkix-ocsp-nocheck)");
    }
    Ok(())
}

/// A SingleResponse.
struct Single {
    said: Said,
    this_update: i64,
    next_update: Option<i64>,
}

impl Single {
    fn verdict(&self, now: i64) -> Result<Verdict, AnswerFault> {
        let is_begun = self.this_update <= now.saturating_add(MAX_SKEW);
        // Without nextUpdate there is always something newer to ask for: what was said just now holds now.
        let until = self.next_update.unwrap_or(self.this_update.saturating_add(MAX_SKEW));
        if !is_begun || until <= now {
            return Err(AnswerFault::Times);
        }
        Ok(Verdict { said: self.said, until: self.next_update.unwrap_or(now) })
    }
}

fn single_response(der: &[u8]) -> Result<(CertId, Single), AnswerFault> {
    let mut rest = der;
    let mut fields = expect(&mut rest, tlv::SEQUENCE)?.content;
    let certificate = expect(&mut fields, tlv::SEQUENCE)?.whole;
    let certificate = CertId::from_der(certificate).map_err(|_| AnswerFault::Malformed("a certificate's name"))?;
    let (status, mut fields) = tlv::read(fields).ok_or(AnswerFault::Malformed("it has no status"))?;
    let said = match status.tag {
        0x80 => Said::Good,
        tag if tag == context(1) => Said::Revoked,
        0x82 => Said::Unknown,
        _ => return Err(AnswerFault::Malformed("its status")),
    };
    let this_update = time(expect(&mut fields, GENERALIZED_TIME)?.whole)?;
    let next_update = match maybe(&mut fields, context(0)) {
        Some(next) => Some(time(next.content)?),
        None => None,
    };
    if let Some(extensions) = maybe(&mut fields, context(1)) {
        let list = Vec::<Extension>::from_der(extensions.content);
        if !list.is_ok_and(|list| list.iter().all(|extension| !extension.critical)) {
            return Err(AnswerFault::Malformed("a critical extension that is not known"));
        }
    }
    is_over(fields)?;
    Ok((certificate, Single { said, this_update, next_update }))
}

fn time(der: &[u8]) -> Result<i64, AnswerFault> {
    let time = GeneralizedTime::from_der(der).map_err(|_| AnswerFault::Malformed("its times"))?;
    Ok(i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX))
}
