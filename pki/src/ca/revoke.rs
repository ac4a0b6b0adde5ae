//! Taking certificates back: reasons, the change itself and what it does to the device.

use super::CaError;
use crate::device::lifecycle::{self, Event};
use crate::store::record::Certificate;
use crate::store::{Change, Conflict, Store, StoreError};
use x509_cert::ext::pkix::CrlReason;

/// The reasons an operator may give, with their names in the CLI and the API (RFC 5280 section 5.3.1).
pub(crate) const REASONS: &[(&str, CrlReason)] = &[
    ("unspecified", CrlReason::Unspecified),
    ("key-compromise", CrlReason::KeyCompromise),
    ("affiliation-changed", CrlReason::AffiliationChanged),
    ("superseded", CrlReason::Superseded),
    ("cessation-of-operation", CrlReason::CessationOfOperation),
    ("privilege-withdrawn", CrlReason::PrivilegeWithdrawn),
];

/// The reason with this name.
pub(crate) fn reason(name: &str) -> Option<CrlReason> {
    REASONS.iter().find(|row| row.0 == name).map(|row| row.1)
}

/// The reason with this CRL code; unknown codes are `unspecified`.
pub(crate) fn reason_of_code(code: u32) -> CrlReason {
    REASONS.iter().map(|row| row.1).find(|reason| code_of(*reason) == code).unwrap_or(CrlReason::Unspecified)
}

/// The name of a CRL code.
pub(crate) fn reason_name(code: u32) -> &'static str {
    REASONS.iter().find(|row| code_of(row.1) == code).map_or("unspecified", |row| row.0)
}

/// The CRL code of a reason.
pub(crate) fn code_of(reason: CrlReason) -> u32 {
    match reason {
        CrlReason::Unspecified => 0,
        CrlReason::KeyCompromise => 1,
        CrlReason::CaCompromise => 2,
        CrlReason::AffiliationChanged => 3,
        CrlReason::Superseded => 4,
        CrlReason::CessationOfOperation => 5,
        CrlReason::CertificateHold => 6,
        CrlReason::RemoveFromCRL => 8,
        CrlReason::PrivilegeWithdrawn => 9,
        CrlReason::AaCompromise => 10,
    }
}

/// Revokes a certificate and moves its device. The CRL is the caller's next step.
///
/// # Errors
/// [`Conflict::Missing`], [`Conflict::AlreadyRevoked`], or a failing store.
pub(crate) fn revoke(store: &dyn Store, serial: &[u8], reason: CrlReason, now: i64) -> Result<Certificate, CaError> {
    let mut tries_left = 5;
    loop {
        let certificate = store.certificate(serial)?.ok_or(StoreError::Conflict(Conflict::Missing))?;
        let device = match certificate.device.as_str() {
            "" => None,
            id => store.device(id)?,
        };
        // Only the certificate the device lives by moves it.
        let device = device
            .filter(|device| device.certificate == certificate.serial)
            .and_then(|device| lifecycle::moved(&device, Event::CertificateRevoked, now).ok());
        let change = Change::Revoked { serial: serial.to_vec(), reason: code_of(reason), at: now, device };
        match store.commit(change) {
            // The device changed between the look and the change: look again.
            Err(StoreError::Conflict(Conflict::Stale)) if tries_left > 0 => tries_left -= 1,
            Err(fault) => return Err(fault.into()),
            Ok(()) => return store.certificate(serial)?.ok_or(CaError::NotInitialised),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_one_name_and_one_code() {
        for (name, reason) in REASONS {
            assert_eq!(super::reason(name), Some(*reason));
            assert_eq!(reason_of_code(code_of(*reason)), *reason);
            assert_eq!(reason_name(code_of(*reason)), *name);
        }
        assert_eq!(super::reason("certificateHold"), None);
    }
}
