//! Records as operators see them: JSON with times in RFC 3339 and serial numbers in hexadecimal.

use crate::ca::authority::Authority;
use crate::ca::reconcile::{Line, Verdict};
use crate::clock::instant;
use crate::store::record::{Approval, Certificate, CertificateState, Crl, Device};
use crate::x509::{hex, name, pem, reason, sha256};
use serde_json::{Value, json};

/// A first enrolment that waits for an operator.
pub(crate) fn approval(approval: &Approval) -> Value {
    json!({
        "id": approval.id,
        "state": approval.state().word(),
        "device": approval.device,
        "subject": approval.subject,
        "label": approval.label,
        "key_sha256": hex(&approval.spki_sha256),
        "requester": approval.requester,
        "asked_at": instant(approval.asked_at),
        "decided_at": instant(approval.decided_at),
    })
}

/// The state of a certificate at an instant: `expired` is not stored, it comes by itself.
pub(crate) fn state(certificate: &Certificate, now: i64) -> &'static str {
    match certificate.state() {
        CertificateState::Active if certificate.not_after <= now => "expired",
        state => state.word(),
    }
}

/// A certificate as a line of a list.
pub(crate) fn certificate(certificate: &Certificate, now: i64) -> Value {
    let mut view = json!({
        "serial": hex(&certificate.serial),
        "state": state(certificate, now),
        "kind": certificate.kind,
        "issuer": certificate.authority,
        "subject": certificate.subject,
        "not_before": instant(certificate.not_before),
        "not_after": instant(certificate.not_after),
    });
    let mut add = |key: &str, value: Value| {
        if let Some(object) = view.as_object_mut() {
            object.insert(key.to_owned(), value);
        }
    };
    if !certificate.device.is_empty() {
        add("device", certificate.device.clone().into());
    }
    if certificate.revoked_at != 0 {
        add("revoked_at", instant(certificate.revoked_at));
        add("reason", reason::name(certificate.reason).into());
        if certificate.invalid_since != 0 {
            add("invalid_since", instant(certificate.invalid_since));
        }
    }
    if !certificate.related_to.is_empty() {
        add("related_to", hex(&certificate.related_to).into());
    }
    if !certificate.successor.is_empty() {
        add("replaced_by", hex(&certificate.successor).into());
    }
    view
}

/// A certificate with everything.
pub(crate) fn certificate_whole(record: &Certificate, now: i64) -> Value {
    let mut view = certificate(record, now);
    if let Some(object) = view.as_object_mut() {
        object.insert("profile".to_owned(), record.profile.clone().into());
        object.insert("label".to_owned(), record.label.clone().into());
        object.insert("issued_at".to_owned(), instant(record.issued_at));
        object.insert("public_key_sha256".to_owned(), hex(&record.spki_sha256).into());
        if !record.der.is_empty() {
            object.insert("sha256".to_owned(), hex(&sha256(&record.der)).into());
            object.insert("pem".to_owned(), pem("CERTIFICATE", &record.der).into());
        }
    }
    view
}

/// A device.
pub(crate) fn device(device: &Device) -> Value {
    json!({
        "id": device.id,
        "state": device.state().words(),
        "certificate": hex(&device.certificate),
        "related": device.related.iter().map(|serial| hex(serial)).collect::<Vec<_>>(),
        "label": device.label,
        "created_at": instant(device.created_at),
        "changed_at": instant(device.changed_at),
    })
}

/// An authority.
pub(crate) fn authority(authority: &Authority, crl: Option<&Crl>) -> Value {
    json!({
        "id": authority.id,
        "kind": authority.kind.word(),
        "state": authority.state.word(),
        "parent": text_or_null(&authority.parent),
        "successor": text_or_null(&authority.successor),
        "path_length": authority.path_length,
        "has_key": authority.has_key(),
        "subject": name::text(&authority.name),
        "key": authority.key.spec.to_string(),
        "key_label": authority.key.label,
        "guarded": authority.key.guarded,
        "key_id": text_or_null(&hex(&authority.key.id)),
        "not_after": instant(authority.not_after),
        "sha256": hex(&sha256(&authority.certificate)),
        "crl_number": crl.map(|crl| crl.number),
        "crl_next_update": crl.map_or(Value::Null, |crl| instant(crl.next_update)),
        "pem": pem("CERTIFICATE", &authority.certificate),
    })
}

/// A line of the account of signatures.
pub(crate) fn account(line: &Line) -> Value {
    let (state, difference) = match line.verdict {
        Verdict::Agrees => ("agrees", 0),
        Verdict::Unaccounted(more) => ("unaccounted", more),
        Verdict::TokenBehind(less) => ("token_behind", less),
    };
    json!({
        "id": line.authority, "state": state, "difference": difference, "token_count": line.counted,
        "recorded": line.account.recorded(), "open": line.account.open,
    })
}

fn text_or_null(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

/// A CRL.
pub(crate) fn crl(crl: &Crl) -> Value {
    json!({
        "authority": crl.list().authority,
        "list": crl.authority,
        "number": crl.number,
        "this_update": instant(crl.this_update),
        "next_update": instant(crl.next_update),
        "pem": pem("X509 CRL", &crl.der),
    })
}
