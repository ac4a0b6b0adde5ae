//! The one place that says whether a certificate may be relied upon: from its record and from the record of its authority.
//!
//! Whoever judges a certificate asks here: the OCSP responder, EST, the operators. A store that fails is an error, never "good".

use crate::ca::sweep;
use crate::store::record::{Certificate, CertificateState};
use crate::store::{Store, StoreError};

/// Whether a certificate may be relied upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not revoked. Whether it has expired is another question.
    Good,
    /// Revoked, or on hold.
    Revoked {
        /// When, seconds since 1970.
        at: i64,
        /// CRL reason code.
        reason: u32,
    },
    /// This authority never issued it.
    Unknown,
}

/// The standing of a serial number under an authority.
///
/// # Errors
/// When the store fails.
pub(crate) fn standing(store: &dyn Store, authority: &str, serial: &[u8]) -> Result<Standing, StoreError> {
    match store.certificate(serial)? {
        Some(record) if record.authority == authority => of_record(store, &record),
        _ => Ok(Standing::Unknown),
    }
}

/// How many authorities are looked at above a certificate.
const MAX_CHAIN: usize = 16;
/// CRL reason codes (RFC 5280 section 5.3.1).
const KEY_COMPROMISE: u32 = 1;
const CA_COMPROMISE: u32 = 2;
const CESSATION_OF_OPERATION: u32 = 5;

/// The standing of a certificate whose record is at hand. What an authority issued falls with it.
///
/// # Errors
/// When the store fails.
pub(crate) fn of_record(store: &dyn Store, record: &Certificate) -> Result<Standing, StoreError> {
    match record.state() {
        CertificateState::Active | CertificateState::Superseded => {}
        CertificateState::Revoked | CertificateState::Abandoned | CertificateState::OnHold => {
            return Ok(Standing::Revoked { at: record.revoked_at, reason: record.reason });
        }
        CertificateState::Unknown => return Ok(Standing::Unknown),
    }
    if let Some(sweep) = sweep::open(store)?.iter().find(|sweep| sweep.takes(record)) {
        return Ok(Standing::Revoked { at: sweep.at, reason: sweep.reason });
    }
    let mut id = record.authority.clone();
    for _ in 0..MAX_CHAIN {
        let Some(authority) = store.authority(&id)? else { break };
        if authority.revoked_at != 0 {
            let is_compromise = matches!(authority.reason, KEY_COMPROMISE | CA_COMPROMISE);
            let reason = if is_compromise { CA_COMPROMISE } else { CESSATION_OF_OPERATION };
            return Ok(Standing::Revoked { at: authority.revoked_at, reason });
        }
        if authority.parent.is_empty() {
            break;
        }
        id = authority.parent;
    }
    Ok(Standing::Good)
}
