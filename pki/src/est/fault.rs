//! Why a device may not have a certificate.

use crate::profile::ProfileFault;
use crate::x509::related::ClaimFault;

/// Why a device may not have the certificate. Each has a stable code in `est/error.rs`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AdmissionFault {
    /// The request does not fit the profile.
    #[error(transparent)]
    Profile(#[from] ProfileFault),
    /// Nobody has recorded the device.
    #[error("the device is not known here: this label enrols only devices that an operator has registered")]
    UnknownDevice,
    /// The registration authority may not enrol at this label.
    #[error("this registration authority may not enrol devices at this label")]
    RegistrarNotPermitted,
    /// The request asks for other names.
    #[error("the request asks for other names by ChangeSubjectName, which this label does not allow")]
    ChangeOfName,
    /// The key is the one of the certificate, or is not.
    #[error("this label {0}")]
    RenewalKey(&'static str),
    /// It is too early.
    #[error("it is too early: this label re-enrols only certificates that expire soon")]
    TooEarly,
    /// The credential is for another device.
    #[error("this credential is for another device")]
    OtherDevice,
    /// The device was enrolled before.
    #[error(
        "the device was enrolled before: re-enrol with its certificate, or let an operator make a credential for this very device"
    )]
    AlreadyEnrolled,
    /// The device is out of service.
    #[error("the device is decommissioned")]
    Decommissioned,
    /// The device belongs to another label.
    #[error("the device belongs to another enrolment label")]
    OtherLabel,
    /// The key is certified for another device or is a key of this PKI.
    #[error("this public key belongs to somebody else: every device needs a key of its own")]
    KeyReused,
    /// The key was compromised.
    #[error("this public key was revoked for compromise: make a new one")]
    KeyCompromised,
    /// Re-enrolment needs the certificate that it renews.
    #[error("a client certificate is needed to re-enrol")]
    CertificateNeeded,
    /// The client certificate is not one of ours, or not a device's.
    #[error("the client certificate is not a device certificate of this PKI")]
    ForeignCertificate,
    /// The client certificate was revoked.
    #[error("the client certificate is revoked")]
    Revoked,
    /// The client certificate was replaced.
    #[error("the client certificate was replaced by a later one: use that")]
    Superseded,
    /// The client certificate is expired.
    #[error("the client certificate is expired")]
    Expired,
    /// The request is for another subject.
    #[error("the subject of the request is not that of the client certificate")]
    SubjectDiffers,
    /// The request is for other names.
    #[error("the subjectAltName of the request is not that of the client certificate")]
    AltNameDiffers,
    /// A second certificate is asked for by who has not shown the first, or does not name it.
    #[error("{0}")]
    RelatedNeeded(&'static str),
    /// What the request says of the other certificate is false.
    #[error(transparent)]
    RelatedFalse(#[from] ClaimFault),
    /// There is none here.
    #[error("certificates of this label name no other: leave relatedCertRequest out, or ask at a label of second ones")]
    RelatedNotGiven,
    /// A stored record contradicts itself.
    #[error("the device record contradicts its certificate")]
    Inconsistent,
}
