//! Taking certificates back: the reasons, one or many in one change, and the release from hold.

use super::CaError;
use crate::store::query::{MAX_PAGE, Span};
use crate::store::record::{Certificate, CertificateState};
use crate::store::{Change, Conflict, Query, Record, Store, StoreError};
use crate::x509::reason;
use x509_cert::ext::pkix::CrlReason;

/// Why certificates are revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cause {
    /// The reason.
    pub(crate) reason: CrlReason,
    /// Since when they are not to be relied upon, seconds since 1970; 0 when that is not known.
    pub(crate) invalid_since: i64,
}

/// Revokes a certificate, or puts it on hold. Its CRL is the caller's next step.
///
/// # Errors
/// [`Conflict::Missing`], [`Conflict::AlreadyRevoked`], or a failing store.
pub(crate) fn revoke(store: &dyn Store, serial: &[u8], cause: Cause, now: i64) -> Result<Certificate, CaError> {
    store.commit(change(vec![serial.to_vec()], cause, now))?;
    store.certificate(serial)?.ok_or(CaError::NotInitialised)
}

/// Releases a certificate from hold. Its CRL is the caller's next step.
///
/// # Errors
/// [`Conflict::Missing`], [`Conflict::NotOnHold`], or a failing store.
pub(crate) fn release(store: &dyn Store, serial: &[u8], now: i64) -> Result<Certificate, CaError> {
    store.commit(Change::Released { serial: serial.to_vec(), at: now })?;
    store.certificate(serial)?.ok_or(CaError::NotInitialised)
}

fn change(serials: Vec<Vec<u8>>, cause: Cause, now: i64) -> Change {
    Change::Revoked { serials, reason: reason::code(cause.reason), at: now, invalid_since: cause.invalid_since }
}

/// Which certificates are revoked together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selection {
    /// These serial numbers.
    Serials(Vec<Vec<u8>>),
    /// All that one authority gave to devices; what the house needs for itself stays.
    Authority(String),
    /// All that were enrolled under one EST label.
    Label(String),
    /// All of one device, of both its identities.
    Device(String),
}

/// Revokes what is selected and not revoked or expired yet, in one change. Gives the certificates as they were.
///
/// # Errors
/// [`Conflict::Missing`] for a serial number that was never issued, or a failing store; then nothing is revoked.
pub(crate) fn revoke_all(
    store: &dyn Store,
    selection: &Selection,
    cause: Cause,
    now: i64,
) -> Result<Vec<Certificate>, CaError> {
    let mut tries_left = 5;
    loop {
        let chosen = selected(store, selection, cause, now, usize::MAX)?;
        if chosen.is_empty() {
            return Ok(chosen);
        }
        let serials = chosen.iter().map(|certificate| certificate.serial.clone()).collect();
        match store.commit(change(serials, cause, now)) {
            // Somebody revoked one of them between the look and the change: look again.
            Err(StoreError::Conflict(Conflict::AlreadyRevoked)) if tries_left > 0 => tries_left -= 1,
            Err(fault) => return Err(fault.into()),
            Ok(()) => return Ok(chosen),
        }
    }
}

/// What is selected and not revoked or expired yet. When there are more than `enough` of an authority or a label, some of them.
///
/// # Errors
/// [`Conflict::Missing`] for a serial number that was never issued, or a failing store.
pub(super) fn selected(
    store: &dyn Store,
    selection: &Selection,
    cause: Cause,
    now: i64,
    enough: usize,
) -> Result<Vec<Certificate>, CaError> {
    let is_hold = cause.reason == CrlReason::CertificateHold;
    let choose = |mut certificate: Certificate| {
        let revocable = match certificate.state() {
            CertificateState::Active | CertificateState::Superseded => true,
            CertificateState::OnHold => !is_hold,
            _ => false,
        };
        let is_meant = !matches!(selection, Selection::Authority(_)) || !certificate.device.is_empty();
        // Many may be chosen: only what tells where they belong is kept.
        certificate.der = Vec::new();
        (revocable && is_meant && certificate.not_after > now).then_some(certificate)
    };
    let mut chosen = Vec::new();
    if let Selection::Serials(serials) = selection {
        for serial in serials {
            chosen.extend(choose(store.certificate(serial)?.ok_or(StoreError::Conflict(Conflict::Missing))?));
        }
        return Ok(chosen);
    }
    let mut after = None;
    loop {
        let span = Span { after, limit: MAX_PAGE };
        let page = store.find(match selection {
            Selection::Label(label) => Query::CertificatesUnderLabel { label: label.clone(), span },
            Selection::Device(device) => Query::CertificatesOfDevice { device: device.clone(), span },
            Selection::Authority(authority) => Query::CertificatesOfAuthority { authority: authority.clone(), span },
            Selection::Serials(_) => return Ok(chosen),
        })?;
        after = page.next.clone();
        chosen.extend(page.all(Record::certificate).into_iter().filter_map(choose));
        if after.is_none() || chosen.len() >= enough {
            return Ok(chosen);
        }
    }
}
