//! The reasons of a revocation (RFC 5280 section 5.3.1): their words, and their codes in CRLs and in the store.

use x509_cert::ext::pkix::CrlReason;

/// The reasons an operator may give, with their names in the CLI and the API (RFC 5280 section 5.3.1).
pub(crate) const REASONS: &[(&str, CrlReason)] = &[
    ("unspecified", CrlReason::Unspecified),
    ("key-compromise", CrlReason::KeyCompromise),
    ("ca-compromise", CrlReason::CaCompromise),
    ("affiliation-changed", CrlReason::AffiliationChanged),
    ("superseded", CrlReason::Superseded),
    ("cessation-of-operation", CrlReason::CessationOfOperation),
    ("certificate-hold", CrlReason::CertificateHold),
    ("privilege-withdrawn", CrlReason::PrivilegeWithdrawn),
    ("aa-compromise", CrlReason::AaCompromise),
];

/// The reason with this name.
pub(crate) fn named(name: &str) -> Option<CrlReason> {
    REASONS.iter().find(|row| row.0 == name).map(|row| row.1)
}

/// The reason with this CRL code; unknown codes are `unspecified`.
pub(crate) fn of_code(wanted: u32) -> CrlReason {
    REASONS.iter().map(|row| row.1).find(|reason| code(*reason) == wanted).unwrap_or(CrlReason::Unspecified)
}

/// The name of a CRL code.
pub(crate) fn name(wanted: u32) -> &'static str {
    REASONS.iter().find(|row| code(row.1) == wanted).map_or("unspecified", |row| row.0)
}

/// The CRL code of a reason.
pub(crate) const fn code(reason: CrlReason) -> u32 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_one_name_and_one_code() {
        for (word, reason) in REASONS {
            assert_eq!(named(word), Some(*reason));
            assert_eq!(of_code(code(*reason)), *reason);
            assert_eq!(name(code(*reason)), *word);
        }
        assert_eq!(named("certificateHold"), None);
    }
}
