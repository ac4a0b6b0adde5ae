//! The business events: the only ways the memory of the PKI changes.

use super::record::{Authority, AuthorityState, Certificate, Credential, Crl, Device, Due, Intent, KeyPlan};

/// What becomes of the certificate that a new one replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Supersession {
    /// It stays off the CRL and runs out by itself.
    Expire,
    /// It is put on the CRL with the reason `superseded`.
    Revoke,
}

/// Whether the token may have signed something under an abandoned serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Certainly not: the serial number is forgotten.
    NothingSigned,
    /// Perhaps: the serial number goes on the CRL.
    MaybeSigned,
}

/// A business event.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// A key is about to be generated in the token.
    KeyPlanned(KeyPlan),
    /// An authority has its certificate. Closes the intent of that certificate when there is one.
    AuthorityCreated {
        /// The authority.
        authority: Authority,
        /// Its certificate.
        certificate: Certificate,
    },
    /// An authority from elsewhere is known here from now on.
    AuthorityImported(Authority),
    /// An authority is another from now on: its state or its successor.
    AuthorityMoved {
        /// As it is from now on.
        authority: Authority,
        /// The state it was read with.
        from: AuthorityState,
    },
    /// A serial number is reserved; device, replaced certificate and credential are claimed until the intent closes.
    Intend(Intent),
    /// A certificate for the house itself (the TLS server) exists. Closes its intent and supersedes the one before.
    Issued {
        /// What the house uses it for.
        role: String,
        /// The certificate.
        certificate: Certificate,
    },
    /// A device has its certificate. Closes the intent, binds the device, spends the credential, supersedes the old one.
    Enrolled {
        /// The certificate.
        certificate: Certificate,
        /// The device as it is from now on; its `revision` is the one it was read with.
        device: Device,
        /// What becomes of the replaced certificate.
        supersession: Supersession,
    },
    /// An issuance broke off. Closes the intent.
    Abandoned {
        /// The reserved serial number.
        serial: Vec<u8>,
        /// Whether a signature may exist.
        doubt: Doubt,
        /// When.
        at: i64,
    },
    /// A certificate is revoked.
    Revoked {
        /// Its serial number.
        serial: Vec<u8>,
        /// CRL reason code.
        reason: u32,
        /// When.
        at: i64,
        /// Its device as it is from now on; `revision` as read.
        device: Option<Device>,
    },
    /// The next CRL number is taken, before the CRL is signed.
    CrlNumbered {
        /// The authority.
        authority: String,
        /// The number, one above the last.
        number: u64,
    },
    /// A CRL is published. Revocations of certificates that had expired before its thisUpdate are dropped from the next.
    CrlPublished {
        /// The CRL; `last_number` and `pending` are kept by the store.
        crl: Crl,
        /// How many revocations it answers for (the value of `pending` it was made with).
        answers: u64,
    },
    /// What was due has happened. It leaves the queue.
    DuePassed {
        /// What.
        due: Due,
        /// Its device as it is from now on, when it moves; `revision` as read.
        device: Option<Device>,
    },
    /// A bootstrap credential exists.
    CredentialCreated(Credential),
}

impl Change {
    /// False only for changes that leave every certificate as good or as revoked as it was.
    pub(crate) fn may_alter_standing(&self) -> bool {
        !matches!(
            self,
            Self::KeyPlanned(_)
                | Self::Intend(_)
                | Self::Enrolled { supersession: Supersession::Expire, .. }
                | Self::CrlNumbered { .. }
                | Self::CrlPublished { .. }
                | Self::DuePassed { .. }
                | Self::CredentialCreated(_)
        )
    }

    /// The name of the event in the journal.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::KeyPlanned(_) => "key_planned",
            Self::AuthorityCreated { .. } => "authority_created",
            Self::AuthorityImported(_) => "authority_imported",
            Self::AuthorityMoved { .. } => "authority_moved",
            Self::Intend(_) => "intended",
            Self::Issued { .. } => "issued",
            Self::Enrolled { .. } => "enrolled",
            Self::Abandoned { .. } => "abandoned",
            Self::Revoked { .. } => "revoked",
            Self::CrlNumbered { .. } => "crl_numbered",
            Self::CrlPublished { .. } => "crl_published",
            Self::DuePassed { .. } => "due_passed",
            Self::CredentialCreated(_) => "credential_created",
        }
    }
}
