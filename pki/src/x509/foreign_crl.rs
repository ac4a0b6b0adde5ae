//! CRLs that others signed (RFC 5280 section 5): whether one is good and for what it speaks. What is not understood is refused whole, so
//! that no entry is missed in silence.

use super::verify::{self, VerifyFault};
use super::{name, tlv, unix_seconds};
use crate::x509::reason;
use const_oid::ObjectIdentifier;
use der::Decode;
use der::asn1::Uint;
use std::collections::HashMap;
use x509_cert::Certificate;
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{AuthorityInfoAccessSyntax, CrlReason, KeyUsage};

const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
const ISSUING_DISTRIBUTION_POINT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.28");
const REASON_CODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.21");

const CRL_DISTRIBUTION_POINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.31");
/// id-ad-ocsp (RFC 5280 section 4.2.2.1).
const OCSP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1");

/// The fields of an issuingDistributionPoint (RFC 5280 section 5.2.5) by their tags; read by hand, as they are written.
const POINT: u8 = tlv::context(0);
const ONLY_USERS: u8 = 0x81;
const ONLY_AUTHORITIES: u8 = 0x82;
const INDIRECT: u8 = 0x84;
const ONLY_ATTRIBUTES: u8 = 0x85;
/// A uniformResourceIdentifier among GeneralNames.
const URI: u8 = 0x86;

/// How far the clock of another may go before ours, in seconds.
pub(crate) const MAX_SKEW: i64 = 300;

/// Why a list is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListFault {
    /// It does not decode.
    #[error("it is no CRL of version 2: {0}")]
    Malformed(String),
    /// Another issuer's.
    #[error("another issuer signed it")]
    OtherIssuer,
    /// The issuer's certificate does not allow its key to sign CRLs.
    #[error("its issuer's keyUsage does not allow to sign CRLs")]
    Usage,
    /// The signature.
    #[error("its signature: {0}")]
    Signature(#[from] VerifyFault),
    /// A kind of list that says nothing alone.
    #[error("it is a list of a kind that is not taken: {0}")]
    Kind(&'static str),
    /// Its times.
    #[error("its times: {0}")]
    Times(&'static str),
}

/// A list that its issuer signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignCrl {
    /// cRLNumber, big endian without leading zeros.
    pub(crate) number: Vec<u8>,
    /// When it was made.
    pub(crate) this_update: i64,
    /// When the next one will be there.
    pub(crate) next_update: i64,
    /// Serial numbers, when each was revoked, and the code of the reason.
    entries: HashMap<Vec<u8>, (i64, u32)>,
    /// The addresses it is published at, by its own word; none for a list of everything.
    points: Option<Vec<String>>,
    only_users: bool,
    only_authorities: bool,
}

impl ForeignCrl {
    /// Reads a list and verifies that this issuer signed it. Whether it is current is another question.
    ///
    /// # Errors
    /// The [`ListFault`].
    pub(crate) fn read(der: &[u8], issuer: &Certificate, now: i64) -> Result<Self, ListFault> {
        let malformed = |fault: der::Error| ListFault::Malformed(fault.to_string());
        let list = CertificateList::from_der(der).map_err(malformed)?;
        let facts = &list.tbs_cert_list;
        let above = issuer.tbs_certificate();
        if !name::same_name(&facts.issuer, above.subject()) {
            return Err(ListFault::OtherIssuer);
        }
        if above.get_extension::<KeyUsage>().map_err(malformed)?.is_some_and(|(_, usage)| !usage.crl_sign()) {
            return Err(ListFault::Usage);
        }
        if facts.signature != list.signature_algorithm {
            return Err(ListFault::Malformed("it names two algorithms".to_owned()));
        }
        let tbs = tlv::read(der).and_then(|(whole, _)| tlv::read(whole.content)).map(|(tbs, _)| tbs.whole);
        let tbs = tbs.ok_or_else(|| ListFault::Malformed("its length".to_owned()))?;
        let signature = list.signature.as_bytes().unwrap_or_default();
        verify::verify(above.subject_public_key_info(), &list.signature_algorithm, tbs, signature)?;
        Self::of(facts, now)
    }

    /// What a list says, whoever signed it.
    ///
    /// # Errors
    /// The [`ListFault`].
    pub(crate) fn of(facts: &TbsCertList, now: i64) -> Result<Self, ListFault> {
        let this_update = unix_seconds(&facts.this_update);
        let next_update =
            facts.next_update.as_ref().ok_or(ListFault::Times("it does not say when the next one comes"))?;
        let next_update = unix_seconds(next_update);
        if this_update > now.saturating_add(MAX_SKEW) || next_update < this_update {
            return Err(ListFault::Times("it is from the future"));
        }
        let mut read = Self {
            number: Vec::new(),
            this_update,
            next_update,
            entries: HashMap::new(),
            points: None,
            only_users: false,
            only_authorities: false,
        };
        for extension in facts.crl_extensions.iter().flatten() {
            read.take(extension)?;
        }
        for entry in facts.revoked_certificates.iter().flatten() {
            let reason = reason(entry)?;
            let serial = entry.serial_number.as_bytes();
            read.entries.insert(bare(serial).to_vec(), (unix_seconds(&entry.revocation_date), reason));
        }
        Ok(read)
    }

    fn take(&mut self, extension: &Extension) -> Result<(), ListFault> {
        let malformed = |fault: der::Error| ListFault::Malformed(fault.to_string());
        let value = extension.extn_value.as_bytes();
        match extension.extn_id {
            CRL_NUMBER => self.number = bare(Uint::from_der(value).map_err(malformed)?.as_bytes()).to_vec(),
            ISSUING_DISTRIBUTION_POINT => self.take_point(value)?,
            // A delta among them: its indicator is critical.
            _ if extension.critical => return Err(ListFault::Kind("with a critical extension that is not known")),
            _ => {}
        }
        Ok(())
    }

    fn take_point(&mut self, value: &[u8]) -> Result<(), ListFault> {
        let whole = tlv::read(value).filter(|(point, rest)| point.tag == tlv::SEQUENCE && rest.is_empty());
        let (point, _) = whole.ok_or_else(|| ListFault::Malformed("its issuingDistributionPoint".to_owned()))?;
        for field in tlv::elements(point.content) {
            let is_set = field.content.iter().any(|byte| *byte != 0);
            match field.tag {
                POINT => self.points = Some(point_urls(field.content)),
                ONLY_USERS => self.only_users = is_set,
                ONLY_AUTHORITIES => self.only_authorities = is_set,
                INDIRECT | ONLY_ATTRIBUTES if !is_set => {}
                _ => return Err(ListFault::Kind("indirect, or of some reasons only")),
            }
        }
        Ok(())
    }

    /// True when it speaks for a certificate that names these distribution points.
    pub(crate) fn covers(&self, is_authority: bool, points: &[String]) -> bool {
        let kind = if is_authority { !self.only_users } else { !self.only_authorities };
        kind && self.points.as_ref().is_none_or(|own| own.iter().any(|url| points.contains(url)))
    }

    /// When a serial number was revoked, and the code of the reason.
    pub(crate) fn revoked(&self, serial: &[u8]) -> Option<(i64, u32)> {
        self.entries.get(bare(serial)).copied()
    }

    /// True when this list may follow another one: numbers, and times, never go back.
    pub(crate) fn may_follow(&self, number: &[u8], this_update: i64) -> bool {
        let rises = (self.number.len(), self.number.as_slice()) >= (number.len(), number);
        rises && self.this_update >= this_update
    }
}

/// A number without the zeros before it.
fn bare(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

fn reason(entry: &RevokedCert) -> Result<u32, ListFault> {
    let mut reason = 0;
    for extension in entry.crl_entry_extensions.iter().flatten() {
        if extension.extn_id == REASON_CODE {
            let value = CrlReason::from_der(extension.extn_value.as_bytes());
            reason = value.map_or(0, reason::code);
        } else if extension.critical {
            return Err(ListFault::Kind("with a critical entry extension that is not known"));
        }
    }
    Ok(reason)
}

/// The addresses in a DistributionPointName of the form fullName that can be asked.
fn point_urls(name: &[u8]) -> Vec<String> {
    let Some((names, _)) = tlv::read(name).filter(|(names, _)| names.tag == tlv::context(0)) else { return Vec::new() };
    let uris = tlv::elements(names.content).filter(|name| name.tag == URI);
    uris.filter_map(|uri| askable(std::str::from_utf8(uri.content).ok()?)).collect()
}

/// The addresses of CRLs that a certificate names, of the lists that its own issuer signs for all reasons.
pub(crate) fn crl_urls(certificate: &Certificate) -> Vec<String> {
    let extensions = certificate.tbs_certificate().extensions().map(|all| all.iter()).into_iter().flatten();
    let found = extensions.into_iter().find(|extension| extension.extn_id == CRL_DISTRIBUTION_POINTS);
    let points = found.and_then(|extension| tlv::read(extension.extn_value.as_bytes()));
    let mut urls = Vec::new();
    for point in points.iter().flat_map(|(points, _)| tlv::elements(points.content)) {
        let fields: Vec<_> = tlv::elements(point.content).collect();
        if let [name] = fields.as_slice()
            && name.tag == POINT
        {
            urls.extend(point_urls(name.content));
        }
    }
    urls
}

fn askable(url: &str) -> Option<String> {
    (url.starts_with("http://") || url.starts_with("https://")).then(|| url.to_owned())
}

/// The address of the OCSP responder that a certificate names.
pub(crate) fn ocsp_urls(certificate: &Certificate) -> Vec<String> {
    let access = certificate.tbs_certificate().get_extension::<AuthorityInfoAccessSyntax>().ok().flatten();
    let entries = access.map(|(_, access)| access.0).unwrap_or_default();
    let ours = entries.iter().filter(|entry| entry.access_method == OCSP);
    ours.filter_map(|entry| match &entry.access_location {
        GeneralName::UniformResourceIdentifier(uri) => askable(uri.as_str()),
        _ => None,
    })
    .collect()
}
