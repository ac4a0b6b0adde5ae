//! What each kind of certificate contains. A request only ever contributes its public key, the allowed part of its subject
//! and DNS names that the profile admits; every extension is written here.

use super::{CaError, Desk};
use crate::ca::authority::Authority;
use crate::store::record::CrlList;
use crate::x509::algorithm::{KeyKind, judge_key};
use crate::x509::extension;
use crate::x509::lint::Role;
use crate::x509::tbs::CertificateContents;
use const_oid::AssociatedOid;
use spki::SubjectPublicKeyInfoOwned;
use std::net::IpAddr;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{AuthorityInfoAccessSyntax, CrlDistributionPoints, KeyUsages, NameConstraints};
use x509_cert::name::Name;

/// How far notBefore lies in the past, so that a device with a slow clock accepts its certificate.
const BACKDATE_SECONDS: i64 = 300;
/// A certificate that would be good for less than this is not issued.
const MIN_VALIDITY_SECONDS: i64 = 3600;

/// The kinds of certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Self-signed root.
    Root,
    /// Authority that certifies this many levels of authorities below itself.
    Intermediate {
        /// pathLenConstraint, at least 1.
        path_length: u8,
    },
    /// Authority that certifies no authority.
    Issuing,
    /// The same authority's other key, certified by this one: it leads over a change of the key.
    Link,
    /// TLS server of this PKI.
    Server,
    /// Device.
    Device,
    /// Signer of OCSP answers.
    OcspResponder,
    /// Signer of the protocols of ceremonies.
    Protocol,
    /// Signer of CMS messages to devices.
    Messages,
}

impl Kind {
    /// The word in the store.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Intermediate { .. } => "intermediate",
            Self::Issuing => "issuing",
            Self::Link => "link",
            Self::Server => "server",
            Self::Device => "device",
            Self::OcspResponder => "ocsp-responder",
            Self::Protocol => "protocol",
            Self::Messages => "messages",
        }
    }

    /// What the linter holds it to.
    pub(crate) fn role(self) -> Role {
        match self {
            Self::Root | Self::Link => Role::Root,
            Self::Intermediate { .. } => Role::Intermediate,
            Self::Issuing => Role::Issuing,
            Self::Server | Self::Device | Self::OcspResponder | Self::Protocol | Self::Messages => Role::EndEntity,
        }
    }
}

/// What is to be certified.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    /// Kind of certificate.
    pub(crate) kind: Kind,
    /// Name of the subject.
    pub(crate) subject: Name,
    /// Its public key.
    pub(crate) spki: SubjectPublicKeyInfoOwned,
    /// DNS names.
    pub(crate) dns_names: Vec<String>,
    /// Addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// The names that an authority may certify; none for no limit.
    pub(crate) constraints: Option<NameConstraints>,
    /// For a device: what its profile gives, instead of what the kind would.
    pub(crate) particular: Vec<Extension>,
    /// How long it is to be good; never longer than the issuer.
    pub(crate) validity_seconds: i64,
}

/// Writes the contents of a certificate.
///
/// # Errors
/// [`CaError::IssuerExpires`] when the issuer has less than an hour left; [`CaError::NotBegun`], [`CaError::Ended`].
pub(crate) fn contents(
    desk: &Desk,
    issuer: &Authority,
    order: &Order,
    serial: Vec<u8>,
    now: i64,
) -> Result<CertificateContents, CaError> {
    issuer.in_force(now)?;
    let not_after = now.saturating_add(order.validity_seconds).min(issuer.not_after);
    if not_after < now.saturating_add(MIN_VALIDITY_SECONDS) {
        return Err(CaError::IssuerExpires(issuer.id.clone()));
    }
    let extensions = extensions(desk, issuer, order, &serial)?;
    Ok(CertificateContents {
        serial,
        algorithm: issuer.key.spec.signature_algorithm(),
        issuer: issuer.name.clone(),
        not_before: now.saturating_sub(BACKDATE_SECONDS),
        not_after,
        subject: order.subject.clone(),
        spki: order.spki.clone(),
        extensions,
    })
}

fn extensions(desk: &Desk, issuer: &Authority, order: &Order, serial: &[u8]) -> Result<Vec<Extension>, CaError> {
    let publication = &desk.publication;
    let mut list = vec![
        extension::subject_key_identifier(&extension::key_identifier(&order.spki))?,
        extension::authority_key_identifier(&issuer.key_id)?,
    ];
    let mut end_entity_usage = vec![KeyUsages::DigitalSignature];
    if matches!(judge_key(&order.spki), Ok(KeyKind::Rsa)) {
        end_entity_usage.push(KeyUsages::KeyEncipherment);
    }
    let authority_usage = [KeyUsages::KeyCertSign, KeyUsages::CRLSign];
    match order.kind {
        Kind::Root | Kind::Link => {
            list.push(extension::basic_constraints_ca(None)?);
            list.push(extension::key_usage(&authority_usage)?);
            return Ok(list);
        }
        Kind::Intermediate { path_length } => {
            list.push(extension::basic_constraints_ca(Some(path_length))?);
            list.push(extension::key_usage(&authority_usage)?);
        }
        Kind::Issuing => {
            list.push(extension::basic_constraints_ca(Some(0))?);
            list.push(extension::key_usage(&authority_usage)?);
        }
        Kind::Server => {
            list.push(extension::basic_constraints_end_entity()?);
            list.push(extension::key_usage(&end_entity_usage)?);
            list.push(extension::extended_key_usage(&[extension::SERVER_AUTH])?);
        }
        Kind::Device => list.extend(order.particular.iter().cloned()),
        Kind::Protocol => {
            list.push(extension::basic_constraints_end_entity()?);
            list.push(extension::key_usage(&[KeyUsages::DigitalSignature])?);
            list.push(extension::extended_key_usage(&[extension::DOCUMENT_SIGNING])?);
        }
        Kind::Messages => {
            list.push(extension::basic_constraints_end_entity()?);
            list.push(extension::key_usage(&[KeyUsages::DigitalSignature])?);
            list.push(extension::extended_key_usage(&[extension::CMC_RA])?);
        }
        Kind::OcspResponder => {
            list.push(extension::basic_constraints_end_entity()?);
            list.push(extension::key_usage(&[KeyUsages::DigitalSignature])?);
            list.push(extension::extended_key_usage(&[extension::OCSP_SIGNING])?);
            list.push(extension::ocsp_no_check()?);
        }
    }
    if let Some(constraints) = &order.constraints {
        list.push(extension::name_constraints(constraints)?);
    }
    let given = |list: &[Extension], id| list.iter().any(|extension| extension.extn_id == id);
    // Nobody asks the responder about the certificate that makes its answers believed.
    let ocsp_url = publication.ocsp_url.as_deref().filter(|_| order.kind != Kind::OcspResponder);
    if !given(&list, AuthorityInfoAccessSyntax::OID) {
        list.push(extension::authority_info_access(ocsp_url, &publication.issuer_url(&issuer.id))?);
    }
    if !given(&list, CrlDistributionPoints::OID) {
        let list_of_shard = CrlList::base(&issuer.id, publication.shard(&issuer.id, serial));
        list.push(extension::crl_distribution_point(&publication.crl_url(&list_of_shard))?);
    }
    if !order.dns_names.is_empty() || !order.addresses.is_empty() {
        let subject_is_empty = order.subject.is_empty();
        list.push(extension::subject_alt_name(&order.dns_names, &order.addresses, subject_is_empty)?);
    }
    Ok(list)
}
