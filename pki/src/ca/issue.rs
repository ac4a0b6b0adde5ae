//! The way of a certificate: prepared (linted), intended (durable), signed (verified), recorded (durable). Each step gives
//! the type that the next one takes, so that none can be skipped.
//!
//! A crash leaves an intent; [`resolve_intents`] closes it at the next start. The serial number of an issuance that may
//! have been signed but was not recorded goes on the CRL: whatever the token made under it is void.

use super::authority::Authority;
use super::profile::{self, Kind, Order};
use super::{CaError, Desk, serial};
use crate::store::change::Doubt;
use crate::store::record::{Certificate, CertificateState, Intent};
use crate::store::{Change, Query, Record};
use crate::x509::lint::{self, Linted};
use crate::x509::{constraint, hex, name, sha256, tbs};
use const_oid::AssociatedOid;
use der::{Decode, Encode};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::SubjectAltName;

/// Whose certificate it will be, and what it costs. Empty for the house's own certificates.
#[derive(Debug, Clone, Default)]
pub(crate) struct Circumstances {
    /// The device.
    pub(crate) device: String,
    /// Serial number of the certificate it replaces.
    pub(crate) replaces: Vec<u8>,
    /// Bootstrap credential that pays.
    pub(crate) credential: String,
    /// Operator's approval that it uses up.
    pub(crate) approval: String,
    /// Profile.
    pub(crate) profile: String,
    /// EST label.
    pub(crate) label: String,
    /// Serial number of the certificate that it names as belonging to it.
    pub(crate) related_to: Vec<u8>,
}

/// A certificate that passed the linter. Nothing is durable yet.
#[must_use]
pub(crate) struct Prepared<'a> {
    desk: &'a Desk,
    issuer: &'a Authority,
    linted: Linted,
    intent: Intent,
    record: Certificate,
}

/// A certificate whose intent is durable.
#[must_use]
pub(crate) struct Intended<'a>(Prepared<'a>);

/// A signed certificate that is not recorded yet.
#[must_use]
pub(crate) struct Issued<'a> {
    desk: &'a Desk,
    record: Certificate,
}

/// Profile, serial number and lint.
///
/// # Errors
/// When the certificate would break a rule.
pub(crate) fn prepare<'a>(
    desk: &'a Desk,
    issuer: &'a Authority,
    order: &Order,
    circumstances: Circumstances,
    now: i64,
) -> Result<Prepared<'a>, CaError> {
    let contents = profile::contents(desk, issuer, order, serial::fresh()?, now)?;
    judge_names(desk, issuer, order, &contents.extensions)?;
    let record = Certificate {
        serial: contents.serial.clone(),
        authority: issuer.id.clone(),
        kind: order.kind.word().to_owned(),
        subject: name::text(&order.subject),
        not_before: contents.not_before,
        not_after: contents.not_after,
        issued_at: now,
        state: CertificateState::Active.into(),
        device: circumstances.device.clone(),
        spki_sha256: sha256(&order.spki.to_der()?).to_vec(),
        profile: circumstances.profile,
        label: circumstances.label,
        related_to: circumstances.related_to,
        crl_shard: desk.publication.shard(&issuer.id, &contents.serial),
        warn_at: match order.kind {
            Kind::Device => contents.not_after.saturating_sub(contents.not_after.saturating_sub(now) / 3),
            _ => 0,
        },
        ..Certificate::default()
    };
    desk.blocklist.judge(&record.spki_sha256)?;
    let intent = Intent {
        serial: contents.serial.clone(),
        authority: issuer.id.clone(),
        device: circumstances.device,
        replaces: circumstances.replaces,
        credential: circumstances.credential,
        approval: circumstances.approval,
        began_at: now,
        not_after: contents.not_after,
        subject: record.subject.clone(),
        crl_shard: record.crl_shard,
    };
    let linted = lint::pass(tbs::certificate(contents)?, order.kind.role(), &issuer.facts())?;
    Ok(Prepared { desk, issuer, linted, intent, record })
}

/// The names must be allowed by every authority of the chain (RFC 5280 section 4.2.1.10).
fn judge_names(desk: &Desk, issuer: &Authority, order: &Order, extensions: &[Extension]) -> Result<(), CaError> {
    let above = if issuer.parent.is_empty() { Vec::new() } else { desk.chain(&issuer.parent)? };
    let chain = std::iter::once(issuer).chain(above.iter().map(AsRef::as_ref));
    for authority in chain {
        let Some(constraints) = &authority.constraints else { continue };
        let names = extensions.iter().find(|extension| extension.extn_id == SubjectAltName::OID);
        let names = names.map(|names| SubjectAltName::from_der(names.extn_value.as_bytes())).transpose()?;
        constraint::judge(constraints, &order.subject, names.as_ref().map_or(&[], |names| names.0.as_slice()))
            .map_err(|name| CaError::NameConstraint { id: authority.id.clone(), name })?;
    }
    Ok(())
}

impl<'a> Prepared<'a> {
    /// Makes the intent durable: the serial number is reserved; device, old certificate and credential are claimed.
    ///
    /// # Errors
    /// When another issuance holds one of them.
    pub(crate) fn intend(self) -> Result<Intended<'a>, CaError> {
        self.desk.store.commit(Change::Intend(self.intent.clone()))?;
        Ok(Intended(self))
    }
}

impl<'a> Intended<'a> {
    /// Has it signed by the token, and the signature verified. A failure gives the claims back.
    ///
    /// # Errors
    /// When the token fails or its signature is false.
    pub(crate) fn sign(self) -> Result<Issued<'a>, CaError> {
        let Prepared { desk, issuer, linted, mut record, .. } = self.0;
        match issuer.sign(desk, linted.tbs()) {
            Ok(der) => {
                record.der = der;
                Ok(Issued { desk, record })
            }
            Err(fault) => {
                // A signature that reached us and is false exists somewhere; otherwise none was ever made known.
                let doubt = if matches!(fault, CaError::Token(_)) { Doubt::NothingSigned } else { Doubt::MaybeSigned };
                abandon(desk, &record, doubt);
                Err(fault)
            }
        }
    }
}

impl Issued<'_> {
    /// Makes the certificate durable as part of the change that `event` builds around it. Only what this returns may be
    /// handed out.
    ///
    /// # Errors
    /// When the change no longer fits; the certificate is then void and its serial number goes on the CRL.
    pub(crate) fn record(self, event: impl FnOnce(Certificate) -> Change) -> Result<Certificate, CaError> {
        match self.desk.store.commit(event(self.record.clone())) {
            Ok(()) => Ok(self.record),
            Err(fault) => {
                abandon(self.desk, &self.record, Doubt::MaybeSigned);
                Err(fault.into())
            }
        }
    }
}

fn abandon(desk: &Desk, record: &Certificate, doubt: Doubt) {
    let change = Change::Abandoned { serial: record.serial.clone(), doubt, at: record.issued_at };
    if let Err(fault) = desk.store.commit(change) {
        let serial = hex(&record.serial);
        tracing::error!(event = "intent_left_open", serial, %fault, "will be closed at the next start");
    }
}

/// Whether a certificate that the house issued to itself needs no successor yet: it is good, and more than a third of its life is left.
/// One that was issued while the clock was ahead is not good now, however long it will be.
pub(crate) fn serves_still(current: &Certificate, now: i64) -> bool {
    let life = current.not_after.saturating_sub(current.not_before);
    let is_active = current.state() == CertificateState::Active;
    is_active && current.not_before <= now && current.not_after.saturating_sub(now) > life / 3
}

/// Closes the intents that a crash left open. Nobody else may be issuing.
///
/// # Errors
/// When the store fails.
pub(crate) fn resolve_intents(desk: &Desk, now: i64) -> Result<usize, CaError> {
    let mut closed = 0;
    loop {
        let open = desk.store.find(Query::Intents)?.all(Record::intent);
        if open.is_empty() {
            return Ok(closed);
        }
        for intent in open {
            let serial = hex(&intent.serial);
            tracing::warn!(event = "intent_resolved", serial, device = intent.device, "an issuance had broken off");
            desk.store.commit(Change::Abandoned { serial: intent.serial, doubt: Doubt::MaybeSigned, at: now })?;
            closed += 1;
        }
    }
}
