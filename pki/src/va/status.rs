//! The one place that says whether a certificate may be relied upon: from its record and from the record of its authority.
//!
//! Whoever judges a certificate asks here: the OCSP responder, EST, the operators. A store that fails is an error, never "good".

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

/// The standing of a certificate whose record is at hand.
///
/// # Errors
/// When the store fails.
pub(crate) fn of_record(_store: &dyn Store, record: &Certificate) -> Result<Standing, StoreError> {
    Ok(match record.state() {
        CertificateState::Active | CertificateState::Superseded => Standing::Good,
        CertificateState::Revoked | CertificateState::Abandoned | CertificateState::OnHold => {
            Standing::Revoked { at: record.revoked_at, reason: record.reason }
        }
        CertificateState::Unknown => Standing::Unknown,
    })
}
