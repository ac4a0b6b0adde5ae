//! The bodies of Full PKI Requests and Responses (RFC 5272 section 3.2): PKIData is read, PKIResponse is written.

use super::read::CmsFault;
use super::{elements, oid};
use crate::x509::tlv::{self, SET, UTF8_STRING};
use const_oid::ObjectIdentifier;
use der::asn1::AnyRef;
use der::{Decode, Encode, Tag, TagNumber, Tagged};
use std::collections::BTreeSet;

/// id-cct-PKIData.
pub(crate) const PKI_DATA: ObjectIdentifier = oid("1.3.6.1.5.5.7.12.2");
/// id-cct-PKIResponse.
pub(crate) const PKI_RESPONSE: ObjectIdentifier = oid("1.3.6.1.5.5.7.12.3");
/// id-cmc-transactionId.
pub(crate) const TRANSACTION_ID: ObjectIdentifier = oid("1.3.6.1.5.5.7.7.5");
/// id-cmc-senderNonce.
pub(crate) const SENDER_NONCE: ObjectIdentifier = oid("1.3.6.1.5.5.7.7.6");
/// id-cmc-recipientNonce.
pub(crate) const RECIPIENT_NONCE: ObjectIdentifier = oid("1.3.6.1.5.5.7.7.7");
/// id-cmc-revokeRequest.
pub(crate) const REVOKE_REQUEST: ObjectIdentifier = oid("1.3.6.1.5.5.7.7.17");
/// id-cmc-statusInfoV2.
const STATUS_INFO: ObjectIdentifier = oid("1.3.6.1.5.5.7.7.25");
/// The body part that stands for the whole of a request.
const WHOLE: u32 = 0;

/// A control of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Control {
    /// Its number.
    pub(crate) id: u32,
    /// What it is.
    pub(crate) kind: ObjectIdentifier,
    /// DER of its values.
    pub(crate) values: Vec<Vec<u8>>,
}

/// A PKIData.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PkiData {
    /// Its controls.
    pub(crate) controls: Vec<Control>,
    /// DER of the PKCS#10 requests in it, with their numbers.
    pub(crate) requests: Vec<(u32, Vec<u8>)>,
    /// Numbers of parts of a kind that nobody here reads: requests of other forms, messages within.
    pub(crate) others: Vec<u32>,
}

fn malformed(what: &str) -> CmsFault {
    CmsFault::Malformed(format!("PKIData: {what}"))
}

fn list<'a>(element: &AnyRef<'a>) -> Result<Vec<AnyRef<'a>>, CmsFault> {
    if element.tag() == Tag::Sequence {
        Ok(elements(element.value())?)
    } else {
        Err(malformed("a SEQUENCE is missing"))
    }
}

impl PkiData {
    /// Reads it.
    ///
    /// # Errors
    /// [`CmsFault::Malformed`].
    pub(crate) fn read(der: &[u8]) -> Result<Self, CmsFault> {
        let fields = list(&AnyRef::from_der(der)?)?;
        let [controls, requests, messages, others] = fields.as_slice() else {
            return Err(malformed("there are not four sequences"));
        };
        let mut data = Self { controls: Vec::new(), requests: Vec::new(), others: Vec::new() };
        for control in list(controls)? {
            let parts = list(&control)?;
            let [id, kind, values] = parts.as_slice() else { return Err(malformed("a control has three parts")) };
            if values.tag() != Tag::Set {
                return Err(malformed("the values of a control are a SET"));
            }
            let values = elements(values.value())?.iter().map(Encode::to_der).collect::<der::Result<_>>()?;
            data.controls.push(Control { id: id.decode_as()?, kind: kind.decode_as()?, values });
        }
        for request in list(requests)? {
            let parts = elements(request.value())?;
            let is_pkcs10 = request.tag() == (Tag::ContextSpecific { constructed: true, number: TagNumber(0) });
            match parts.as_slice() {
                [id, request] if is_pkcs10 => data.requests.push((id.decode_as()?, request.to_der()?)),
                [id, ..] if !is_pkcs10 => data.others.push(id.decode_as().unwrap_or(WHOLE)),
                _ => return Err(malformed("a request has a number and a body")),
            }
        }
        for part in list(messages)?.iter().chain(&list(others)?) {
            let parts = list(part)?;
            data.others.push(parts.first().and_then(|id| id.decode_as().ok()).unwrap_or(WHOLE));
        }
        data.judge_numbers()?;
        Ok(data)
    }

    /// Every part has a number of its own, which is not 0.
    fn judge_numbers(&self) -> Result<(), CmsFault> {
        let numbers = self.controls.iter().map(|control| control.id);
        let numbers: Vec<u32> =
            numbers.chain(self.requests.iter().map(|request| request.0)).chain(self.others.iter().copied()).collect();
        let distinct: BTreeSet<u32> = numbers.iter().copied().collect();
        if distinct.len() == numbers.len() && !distinct.contains(&WHOLE) {
            Ok(())
        } else {
            Err(malformed("two parts have the same number, or one has the number 0"))
        }
    }

    /// The value of a control that may stand there once.
    ///
    /// # Errors
    /// [`CmsFault::Malformed`] when it stands there twice or has not one value.
    pub(crate) fn only(&self, kind: ObjectIdentifier) -> Result<Option<&[u8]>, CmsFault> {
        let found: Vec<&Control> = self.controls.iter().filter(|control| control.kind == kind).collect();
        match found.as_slice() {
            [] => Ok(None),
            [Control { values, .. }] if values.len() == 1 => Ok(values.first().map(Vec::as_slice)),
            _ => Err(malformed("a control stands there twice or does not have one value")),
        }
    }
}

/// CMCFailInfo (RFC 5272 section 6.1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailInfo {
    /// An algorithm is not supported.
    BadAlg = 0,
    /// The signature is false.
    BadMessageCheck = 1,
    /// The request is not permitted or not supported.
    BadRequest = 2,
    /// No such certificate.
    BadCertId = 4,
    /// The requester is not who may ask.
    BadIdentity = 7,
    /// The proof of possession failed.
    PopFailed = 9,
    /// The authority failed.
    InternalCaError = 11,
    /// Not now.
    TryLater = 12,
}

impl FailInfo {
    fn number(self) -> u8 {
        match self {
            Self::BadAlg => 0,
            Self::BadMessageCheck => 1,
            Self::BadRequest => 2,
            Self::BadCertId => 4,
            Self::BadIdentity => 7,
            Self::PopFailed => 9,
            Self::InternalCaError => 11,
            Self::TryLater => 12,
        }
    }
}

/// What became of a request.
pub(crate) struct Outcome<'a> {
    /// Why it failed, and a sentence; none when it did not.
    pub(crate) failure: Option<(FailInfo, &'a str)>,
    /// The numbers of the parts that this is said of; empty for the whole.
    pub(crate) parts: Vec<u32>,
    /// DER of the transaction's identifier, given back.
    pub(crate) transaction: Option<&'a [u8]>,
    /// DER of the requester's nonce, given back.
    pub(crate) nonce: Option<&'a [u8]>,
    /// A nonce of ours.
    pub(crate) own_nonce: &'a [u8],
}

/// Encodes a PKIResponse.
///
/// # Errors
/// Never for what this room writes.
pub(crate) fn response(outcome: &Outcome<'_>) -> der::Result<Vec<u8>> {
    let status: u8 = if outcome.failure.is_some() { 2 } else { 0 };
    let parts = if outcome.parts.is_empty() { vec![WHOLE] } else { outcome.parts.clone() };
    let parts: Vec<u8> = parts.iter().flat_map(|part| tlv::integer(&part.to_be_bytes())).collect();
    let (sentence, reason) = match outcome.failure {
        Some((info, sentence)) => {
            (tlv::write(UTF8_STRING, &[sentence.as_bytes()]), vec![tlv::INTEGER, 1, info.number()])
        }
        None => (Vec::new(), Vec::new()),
    };
    let info = tlv::write(
        tlv::SEQUENCE,
        &[&[tlv::INTEGER, 1, status], &tlv::write(tlv::SEQUENCE, &[&parts]), &sentence, &reason],
    );
    let own_nonce = tlv::write(tlv::OCTET_STRING, &[outcome.own_nonce]);
    let controls = [
        (STATUS_INFO, Some(info.as_slice())),
        (TRANSACTION_ID, outcome.transaction),
        (SENDER_NONCE, Some(own_nonce.as_slice())),
        (RECIPIENT_NONCE, outcome.nonce),
    ];
    let mut written = Vec::new();
    for (index, (kind, value)) in controls.iter().enumerate() {
        let Some(value) = value else { continue };
        let number = tlv::integer(&[u8::try_from(index + 1).unwrap_or(u8::MAX)]);
        written.extend(tlv::write(tlv::SEQUENCE, &[&number, &kind.to_der()?, &tlv::write(SET, &[value])]));
    }
    let empty = tlv::write(tlv::SEQUENCE, &[]);
    Ok(tlv::write(tlv::SEQUENCE, &[&tlv::write(tlv::SEQUENCE, &[&written]), &empty, &empty]))
}
