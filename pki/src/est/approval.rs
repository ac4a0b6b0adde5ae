//! First enrolments that an operator decides about: the device is told to come again (RFC 7030 section 4.2.3), and is known again
//! by its public key and subject, because a request that is linked to its connection is a new one each time.

use super::admission::Grant;
use super::auth::Requester;
use super::error::Refusal;
use super::label::Approval as Rule;
use super::request::Request;
use crate::store::query::Span;
use crate::store::record::{Approval, ApprovalState};
use crate::store::{Change, Conflict, Query, Record, Store, StoreError};
use crate::x509::{hex, name, sha256};
use der::Encode;

/// Requests that may wait at once.
const MAX_WAITING: usize = 1000;

/// The approval that the issuance uses up; empty when none is needed.
///
/// # Errors
/// [`Refusal::Waiting`] until an operator has decided, [`Refusal::ApprovalRefused`] when against it.
pub(super) fn needed(request: &Request<'_>, grant: &Grant, store: &dyn Store, now: i64) -> Result<String, Refusal> {
    let rules = &request.route.rules;
    if rules.approval == Rule::Automatic || matches!(request.requester, Requester::Device { .. }) {
        return Ok(String::new());
    }
    let id = identity(request);
    match store.find(Query::Approval { id: id.clone() })?.one(Record::approval) {
        Some(known) => match known.state() {
            ApprovalState::Granted => return Ok(id),
            ApprovalState::Refused => return Err(Refusal::ApprovalRefused),
            ApprovalState::Waiting => {}
        },
        None => ask(request, grant, store, id, now)?,
    }
    Err(Refusal::Waiting(rules.retry_after_seconds))
}

fn ask(request: &Request<'_>, grant: &Grant, store: &dyn Store, id: String, now: i64) -> Result<(), Refusal> {
    let standing = store.find(Query::Approvals(Span::first(MAX_WAITING)))?.records.len();
    if standing >= MAX_WAITING {
        return Err(Refusal::ApprovalsFull);
    }
    let requester = match request.requester {
        Requester::Bootstrap { name, .. } => format!("credential {name}"),
        Requester::Registrar { certificate, .. } => format!("registration authority {}", certificate.device),
        Requester::Device { certificate, .. } => format!("device {}", certificate.device),
        Requester::Born { device, .. } => format!("manufacturer's certificate of {device}"),
    };
    let approval = Approval {
        id: id.clone(),
        label: request.route.label.clone(),
        device: grant.device.id.clone(),
        subject: name::text(&grant.subject),
        spki_sha256: request.csr.spki_sha256().to_vec(),
        requester,
        asked_at: now,
        state: ApprovalState::Waiting.into(),
        decided_at: 0,
    };
    tracing::info!(
        event = "approval_asked",
        id,
        device = approval.device,
        subject = approval.subject,
        label = approval.label
    );
    match store.commit(Change::ApprovalAsked(approval)) {
        // The same request arrived twice at once.
        Ok(()) | Err(StoreError::Conflict(Conflict::Exists)) => Ok(()),
        Err(fault) => Err(fault.into()),
    }
}

/// Label, public key and subject. A key that we make is another one each time, so it does not count.
fn identity(request: &Request<'_>) -> String {
    let key: &[u8] = if request.key_is_ours { b"ours" } else { request.csr.spki_sha256() };
    let subject = request.csr.subject().to_der().unwrap_or_default();
    let whole = [request.route.label.as_bytes(), &[0], key, &[0], &subject].concat();
    hex(&sha256(&whole)[..8])
}
