//! What is refused, by name: one row per reason with its HTTP status and its stable code. The code stands in the answer, in
//! the log and nowhere else twice.

use super::fault::AdmissionFault;
use crate::ca::CaError;
use crate::cms::enveloped::EnvelopeFault;
use crate::cms::read::CmsFault;
use crate::counters;
use crate::listener::{BodyFault, Call, Reply};
use crate::profile::ProfileFault;
use crate::store::{Conflict, StoreError};
use crate::x509::algorithm::KeyFault;
use crate::x509::csr::CsrFault;
use http::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, StatusCode};

/// The reason code of an answer, for programs.
const REASON: HeaderName = HeaderName::from_static("x-craton-reason");

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// No such path.
    #[error("there is nothing at this path")]
    NotFound,
    /// No such label.
    #[error("there is no such enrolment label")]
    UnknownLabel,
    /// Wrong method; the right one.
    #[error("this operation is called with {0}")]
    Method(Method),
    /// Wrong content type.
    #[error("the Content-Type must be {0}")]
    ContentType(&'static str),
    /// The body did not arrive.
    #[error("{}", match .0 { BodyFault::TooLarge => "the body is larger than 64 KiB", BodyFault::Broken => "the body did not arrive" })]
    Body(BodyFault),
    /// The body is not base64.
    #[error("the body must be the base64 of a DER request, without PEM lines")]
    NotBase64,
    /// The CMS message is not acceptable.
    #[error(transparent)]
    Cms(#[from] CmsFault),
    /// The Full PKI Request asks for something that is not offered.
    #[error("the Full PKI Request is not one that this server answers: {0}")]
    CmcUnsupported(&'static str),
    /// There is no such certificate, or not for this requester.
    #[error("there is no such certificate that you could have revoked")]
    CmcNoCertificate,
    /// The certificate was revoked before.
    #[error("the certificate was revoked before")]
    CmcAlreadyRevoked,
    /// The certificate is expired.
    #[error("the certificate is expired: there is nothing left to revoke")]
    CmcExpired,
    /// The request is not acceptable.
    #[error(transparent)]
    Csr(#[from] CsrFault),
    /// The channel binding is of no use.
    #[error(
        "the request carries a challengePassword, which EST uses to link it to this TLS connection (RFC 7030 section 3.5): {0}"
    )]
    Binding(&'static str),
    /// A channel binding is needed.
    #[error(
        "this label requires requests to be linked to their TLS connection: put the base64 of the tls-exporter value into challengePassword (RFC 7030 section 3.5, RFC 9266), on TLS 1.3"
    )]
    BindingNeeded,
    /// An operator has not decided yet. How many seconds to wait.
    #[error("the request waits for an operator's approval: send it again after the time in Retry-After")]
    Waiting(u32),
    /// An operator decided against it.
    #[error("an operator refused this request")]
    ApprovalRefused,
    /// Too many wait.
    #[error("too many requests wait for approval: come again later")]
    ApprovalsFull,
    /// No keys are made at this label.
    #[error("no keys are made for devices at this label")]
    KeygenOff,
    /// The key cannot be encrypted as the request asks.
    #[error("the new key cannot be encrypted as the request asks, and nothing was issued: {0}")]
    KeygenEncryption(#[from] EnvelopeFault),
    /// The key to encrypt to is not known.
    #[error(
        "the request names a key to encrypt the new key to that is not known at this label: nothing was issued (RFC 7030 section 4.4.1)"
    )]
    KeygenKeyUnknown,
    /// The key to encrypt to must be named.
    #[error(
        "this label gives keys only encrypted: name a key by DecryptKeyIdentifier or AsymmetricDecryptKeyIdentifier (RFC 7030 section 4.4.1)"
    )]
    KeygenKeyNeeded,
    /// Nobody was named.
    #[error("credentials are needed")]
    CredentialsNeeded,
    /// User name or secret are wrong.
    #[error("the credentials are wrong")]
    CredentialsWrong,
    /// The credential was used before.
    #[error("the bootstrap credential was used before: it is good for one certificate")]
    CredentialUsed,
    /// The credential is expired.
    #[error("the bootstrap credential is expired")]
    CredentialExpired,
    /// The credential is for another label.
    #[error("the bootstrap credential is for another enrolment label")]
    CredentialLabel,
    /// Too many failures.
    #[error("too many failed logins: wait a minute")]
    TooManyFailures,
    /// The device may not have the certificate.
    #[error(transparent)]
    Admission(#[from] AdmissionFault),
    /// Nobody knows whether the certificate was revoked. Why, for the log.
    #[error("it cannot be known whether the client certificate was revoked: nothing is issued by it")]
    RevocationUnknown(String),
    /// Another enrolment of the same device is under way, or just ended.
    #[error("another enrolment of this device is under way")]
    Busy,
    /// We failed.
    #[error("the certificate cannot be issued now; nothing is wrong with the request")]
    Ca(CaError),
}

impl From<CaError> for Refusal {
    fn from(fault: CaError) -> Self {
        match fault {
            CaError::Store(StoreError::Conflict(Conflict::Busy | Conflict::Stale)) => Self::Busy,
            CaError::Store(StoreError::Conflict(Conflict::NotActive)) => AdmissionFault::Superseded.into(),
            CaError::Store(StoreError::Conflict(Conflict::Spent)) => Self::CredentialUsed,
            CaError::KeyBlocked(_) => AdmissionFault::KeyCompromised.into(),
            fault => Self::Ca(fault),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(fault: StoreError) -> Self {
        CaError::from(fault).into()
    }
}

impl Refusal {
    /// Status and stable code.
    pub(crate) fn row(&self) -> (StatusCode, &'static str) {
        use AdmissionFault as A;
        use CsrFault as C;
        match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::UnknownLabel => (StatusCode::NOT_FOUND, "unknown_label"),
            Self::Method(_) => (StatusCode::METHOD_NOT_ALLOWED, "method"),
            Self::ContentType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type"),
            Self::Body(BodyFault::TooLarge) => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::Body(BodyFault::Broken) => (StatusCode::BAD_REQUEST, "body_broken"),
            Self::NotBase64 => (StatusCode::BAD_REQUEST, "not_base64"),
            Self::Cms(CmsFault::Malformed(_)) => (StatusCode::BAD_REQUEST, "cms_malformed"),
            Self::Cms(CmsFault::FalseSignature) => (StatusCode::BAD_REQUEST, "cms_signature_false"),
            Self::Cms(CmsFault::Algorithm(_)) => (StatusCode::BAD_REQUEST, "cms_algorithm_unsupported"),
            Self::Cms(CmsFault::OtherSigner) => (StatusCode::FORBIDDEN, "cms_other_signer"),
            Self::CmcUnsupported(_) => (StatusCode::BAD_REQUEST, "cmc_unsupported"),
            Self::CmcNoCertificate => (StatusCode::FORBIDDEN, "cmc_no_certificate"),
            Self::CmcAlreadyRevoked => (StatusCode::FORBIDDEN, "cmc_already_revoked"),
            Self::CmcExpired => (StatusCode::FORBIDDEN, "cmc_expired"),
            Self::Csr(C::Malformed(_)) => (StatusCode::BAD_REQUEST, "csr_malformed"),
            Self::Csr(C::FalseSignature) => (StatusCode::BAD_REQUEST, "csr_signature_false"),
            Self::Csr(C::Key(KeyFault::Weak(_))) => (StatusCode::BAD_REQUEST, "key_weak"),
            Self::Csr(C::Key(_)) => (StatusCode::BAD_REQUEST, "key_unsupported"),
            Self::Csr(C::Statement(_)) => (StatusCode::BAD_REQUEST, "possession_statement"),
            Self::Csr(C::Algorithm(_)) => (StatusCode::BAD_REQUEST, "algorithm_unsupported"),
            Self::Csr(C::AsksForAuthority) => (StatusCode::FORBIDDEN, "csr_asks_for_authority"),
            Self::Csr(C::Names(_)) | Self::Admission(A::Profile(ProfileFault::NameMalformed(_))) => {
                (StatusCode::BAD_REQUEST, "names_malformed")
            }
            Self::BindingNeeded => (StatusCode::FORBIDDEN, "channel_binding_needed"),
            Self::Binding(_) => (StatusCode::FORBIDDEN, "channel_binding"),
            Self::Waiting(_) => (StatusCode::ACCEPTED, "approval_waiting"),
            Self::ApprovalRefused => (StatusCode::FORBIDDEN, "approval_refused"),
            Self::ApprovalsFull => (StatusCode::SERVICE_UNAVAILABLE, "approvals_full"),
            Self::KeygenOff => (StatusCode::NOT_FOUND, "keygen_off"),
            Self::KeygenEncryption(_) => (StatusCode::BAD_REQUEST, "keygen_encryption"),
            Self::KeygenKeyUnknown => (StatusCode::BAD_REQUEST, "keygen_key_unknown"),
            Self::KeygenKeyNeeded => (StatusCode::FORBIDDEN, "keygen_key_needed"),
            Self::CredentialsNeeded => (StatusCode::UNAUTHORIZED, "credentials_needed"),
            Self::CredentialsWrong => (StatusCode::UNAUTHORIZED, "credentials_wrong"),
            Self::CredentialUsed => (StatusCode::FORBIDDEN, "credential_used"),
            Self::CredentialExpired => (StatusCode::FORBIDDEN, "credential_expired"),
            Self::CredentialLabel => (StatusCode::FORBIDDEN, "credential_label"),
            Self::TooManyFailures => (StatusCode::TOO_MANY_REQUESTS, "too_many_failures"),
            Self::Admission(fault) => (StatusCode::FORBIDDEN, admission_code(fault)),
            Self::RevocationUnknown(_) => (StatusCode::SERVICE_UNAVAILABLE, "revocation_unknown"),
            Self::Busy => (StatusCode::CONFLICT, "busy"),
            Self::Ca(CaError::Idle { .. } | CaError::CertificateOnly(_) | CaError::NoAuthority(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "authority_idle")
            }
            Self::Ca(CaError::NotBegun(..) | CaError::Ended(_) | CaError::IssuerExpires(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "authority_not_in_force")
            }
            Self::Ca(CaError::NameConstraint { .. }) => (StatusCode::FORBIDDEN, "name_constraint"),
            Self::Ca(CaError::Token(_)) => (StatusCode::SERVICE_UNAVAILABLE, "token_unavailable"),
            Self::Ca(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }

    /// How long the client should wait before it tries again.
    fn retry_after_seconds(&self) -> Option<u32> {
        match self {
            Self::Busy => Some(1),
            Self::Ca(CaError::Token(_)) => Some(5),
            Self::TooManyFailures => Some(60),
            Self::Waiting(seconds) => Some(*seconds),
            Self::ApprovalsFull | Self::RevocationUnknown(_) => Some(600),
            Self::Ca(CaError::NotBegun(..) | CaError::Ended(_)) => Some(600),
            _ => None,
        }
    }

    /// The answer. A 401 has no body: a widespread client fails on one.
    pub(crate) fn reply(&self) -> Reply {
        let (status, code) = self.row();
        let mut reply = if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"est\", charset=\"UTF-8\"");
            Reply::empty(status).header(WWW_AUTHENTICATE, challenge)
        } else {
            Reply::sentence(status, &self.to_string())
        };
        if let Self::Method(method) = self
            && let Ok(allowed) = HeaderValue::from_str(method.as_str())
        {
            reply = reply.header(ALLOW, allowed);
        }
        if let Some(seconds) = self.retry_after_seconds() {
            reply = reply.header(RETRY_AFTER, HeaderValue::from(seconds));
        }
        reply.header(REASON, HeaderValue::from_static(code))
    }

    /// Writes the refusal to the log, with what only the operator should know.
    pub(crate) fn log(&self, call: &Call) {
        let (status, reason) = self.row();
        counters::refused(reason);
        let (status, address) = (status.as_u16(), call.peer.address);
        match self {
            Self::Ca(fault) => {
                tracing::error!(event = "refused", reason, status, %address, path = call.path, %fault);
            }
            Self::RevocationUnknown(fault) => {
                tracing::warn!(event = "refused", reason, status, %address, path = call.path, fault);
            }
            refusal => {
                tracing::info!(event = "refused", reason, status, %address, path = call.path, sentence = %refusal)
            }
        }
    }
}

fn admission_code(fault: &AdmissionFault) -> &'static str {
    use AdmissionFault as A;
    match fault {
        A::Profile(ProfileFault::Subject(_)) => "subject_not_acceptable",
        A::Profile(ProfileFault::NameMalformed(_)) => "names_malformed",
        A::Profile(ProfileFault::NameNotPermitted(_)) => "name_not_permitted",
        A::Profile(ProfileFault::NameMissing(_)) => "name_missing",
        A::Profile(ProfileFault::KeyNotPermitted(_)) => "key_not_permitted",
        A::Profile(ProfileFault::ExtensionNotPermitted(_)) => "extension_not_permitted",
        A::Profile(ProfileFault::Encoding(_)) => "profile",
        A::UnknownDevice => "device_unknown",
        A::RegistrarNotPermitted => "registrar_not_permitted",
        A::ChangeOfName => "change_of_name_not_permitted",
        A::RenewalKey(_) => "renewal_key",
        A::TooEarly => "too_early",
        A::OtherDevice => "other_device",
        A::AlreadyEnrolled => "already_enrolled",
        A::Decommissioned => "decommissioned",
        A::OtherLabel => "other_label",
        A::KeyReused => "key_reused",
        A::KeyCompromised => "key_compromised",
        A::CertificateNeeded => "certificate_needed",
        A::ForeignCertificate => "certificate_foreign",
        A::Revoked => "certificate_revoked",
        A::Superseded => "certificate_superseded",
        A::Expired => "certificate_expired",
        A::SubjectDiffers => "subject_differs",
        A::AltNameDiffers => "alt_name_differs",
        A::RelatedNeeded(_) => "related_needed",
        A::RelatedFalse(_) => "related_false",
        A::RelatedNotGiven => "related_not_given",
        A::Inconsistent => "record_inconsistent",
    }
}
