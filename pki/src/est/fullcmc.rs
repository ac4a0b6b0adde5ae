//! /fullcmc (RFC 7030 section 4.3): a device renews its certificate by a PKCS#10 request, or has certificates revoked, in a Full PKI
//! Request that is signed with the certificate it shows. Other requests and controls are refused by name.
//!
//! Whoever showed a certificate of ours is answered by a signed CMC message, also when refused.

use super::admission::{self};
use super::auth::{self, Requester};
use super::enroll;
use super::error::Refusal;
use super::fault::AdmissionFault;
use super::request::{self, Request};
use super::routes::Route;
use super::{Est, base64};
use crate::ca::CaError;
use crate::ca::revoke::{self, Cause, Selection};
use crate::ca::serial;
use crate::clock;
use crate::cms::cmc::{self, FailInfo, Outcome, PkiData};
use crate::cms::read::{CmsFault, Signed};
use crate::cms::signed;
use crate::listener::{Call, Reply};
use crate::store::record::{Certificate, CertificateState};
use crate::x509::csr::{CsrFault, VerifiedCsr};
use crate::x509::{hex, name, reason};
use der::asn1::{GeneralizedTime, Int, OctetStringRef, Utf8StringRef};
use der::{Decode, Sequence};
use x509_cert::ext::pkix::CrlReason;
use x509_cert::name::Name;

const RESPONSE: &str = "application/pkcs7-mime; smime-type=CMC-response";
/// Longest nonce and transaction identifier that are given back, as DER.
const MAX_ECHOED: usize = 258;
/// Most certificates that one request has revoked.
const MAX_REVOCATIONS: usize = 64;

/// RevokeRequest (RFC 5272 section 6.11).
#[derive(Sequence)]
struct RevokeRequest<'a> {
    issuer: Name,
    serial: Int,
    reason: CrlReason,
    invalidity_date: Option<GeneralizedTime>,
    passphrase: Option<&'a OctetStringRef>,
    comment: Option<Utf8StringRef<'a>>,
}

/// What was done.
struct Done {
    /// The numbers of the parts that asked for it.
    parts: Vec<u32>,
    /// The certificate that was issued.
    certificate: Option<Vec<u8>>,
}

/// Answers a Full PKI Request.
///
/// # Errors
/// The [`Refusal`] of who shows no certificate of ours; others are answered by CMC.
pub(super) fn answer(est: &Est, route: &Route, call: &Call) -> Result<Reply, Refusal> {
    let now = clock::now();
    request::judge_media_type(call, "application/pkcs7-mime", Some("CMC-request"))?;
    let requester = auth::by_certificate(call, est.desk.store.as_ref())?;
    let Requester::Device { certificate, .. } = &requester else {
        return Err(AdmissionFault::CertificateNeeded.into());
    };
    let data = open(route, call, certificate);
    let done = match &data {
        Ok(data) => perform(est, route, call, &requester, certificate, data, now),
        Err(refusal) => Err(refusal.clone()),
    };
    if let Err(refusal) = &done {
        refusal.log(call);
    }
    respond(est, route, data.as_ref().ok(), &done, now)
}

/// The PKIData in a message that the holder of this certificate signed.
fn open(route: &Route, call: &Call, certificate: &Certificate) -> Result<PkiData, Refusal> {
    let message = Signed::read(&request::payload(route, call)?)?;
    let signer = x509_cert::Certificate::from_der(&certificate.der).map_err(|_| AdmissionFault::Inconsistent)?;
    let content = message.verify(&signer)?;
    if message.kind() != cmc::PKI_DATA {
        return Err(CmsFault::Malformed("it is not a Full PKI Request".to_owned()).into());
    }
    Ok(PkiData::read(content)?)
}

fn perform(
    est: &Est,
    route: &Route,
    call: &Call,
    requester: &Requester,
    certificate: &Certificate,
    data: &PkiData,
    now: i64,
) -> Result<Done, Refusal> {
    let known = [cmc::TRANSACTION_ID, cmc::SENDER_NONCE, cmc::RECIPIENT_NONCE, cmc::REVOKE_REQUEST];
    if data.controls.iter().any(|control| !known.contains(&control.kind)) {
        return Err(Refusal::CmcUnsupported("one of its controls is not known here"));
    }
    if !data.others.is_empty() {
        return Err(Refusal::CmcUnsupported("it holds something else than PKCS#10 requests and controls"));
    }
    let revocations: Vec<_> = data.controls.iter().filter(|control| control.kind == cmc::REVOKE_REQUEST).collect();
    match (data.requests.as_slice(), revocations.as_slice()) {
        ([(number, request)], []) => {
            let csr = VerifiedCsr::verify(request)?;
            request::check_binding(route.rules.channel_binding, csr.challenge(), &call.peer)?;
            let request = Request { route, requester, csr: &csr, key_is_ours: false };
            let certificate = enroll::admit_and_issue(est, &request, now)?;
            Ok(Done { parts: vec![*number], certificate: Some(certificate) })
        }
        ([], [_, ..]) => {
            admission::good(certificate, now)?;
            let parts = revocations.iter().map(|control| control.id).collect();
            let values = revocations.iter().flat_map(|control| &control.values).map(Vec::as_slice);
            revoke(est, certificate, &values.collect::<Vec<_>>(), now)?;
            Ok(Done { parts, certificate: None })
        }
        _ => Err(Refusal::CmcUnsupported("it must hold one PKCS#10 request, or requests for revocation")),
    }
}

/// Revokes what may be revoked, all of it or nothing.
fn revoke(est: &Est, requester: &Certificate, requests: &[&[u8]], now: i64) -> Result<(), Refusal> {
    if requests.is_empty() || requests.len() > MAX_REVOCATIONS {
        return Err(Refusal::CmcUnsupported("it must revoke 1 to 64 certificates"));
    }
    let mut serials = Vec::new();
    let mut causes = Vec::new();
    for der in requests {
        let request = RevokeRequest::from_der(der).map_err(CmsFault::from)?;
        serials.push(target(est, requester, &request, now)?);
        let since = request.invalidity_date.map_or(0, |date| date.to_unix_duration().as_secs());
        causes.push(Cause { reason: permitted(request.reason)?, invalid_since: i64::try_from(since).unwrap_or(0) });
    }
    let [cause, others @ ..] = causes.as_slice() else { return Ok(()) };
    if others.iter().any(|other| other != cause) {
        return Err(Refusal::CmcUnsupported("the certificates of one request are revoked for one reason"));
    }
    let revoked = revoke::revoke_all(est.desk.store.as_ref(), &Selection::Serials(serials), *cause, now)?;
    for certificate in &revoked {
        let (serial, by) = (hex(&certificate.serial), requester.device.as_str());
        let reason = reason::name(reason::code(cause.reason));
        tracing::info!(event = "revoked", serial, reason, device = certificate.device, by);
    }
    Ok(())
}

/// What a device may say of a certificate; that an authority is compromised is not its to say.
fn permitted(reason: CrlReason) -> Result<CrlReason, Refusal> {
    match reason {
        CrlReason::CaCompromise | CrlReason::AaCompromise | CrlReason::RemoveFromCRL => {
            Err(Refusal::CmcUnsupported("a device cannot revoke for this reason"))
        }
        reason => Ok(reason),
    }
}

/// The serial number of a certificate that the requester may have revoked: one of its own device, or, for a registration authority, one of
/// a label at which it enrols others.
fn target(est: &Est, requester: &Certificate, request: &RevokeRequest<'_>, now: i64) -> Result<Vec<u8>, Refusal> {
    let store = est.desk.store.as_ref();
    let found = store.certificate(request.serial.as_bytes())?.filter(|found| !found.device.is_empty());
    let found = found.ok_or(Refusal::CmcNoCertificate)?;
    let parsed = x509_cert::Certificate::from_der(&found.der).map_err(|_| AdmissionFault::Inconsistent)?;
    if !name::same_name(parsed.tbs_certificate().issuer(), &request.issuer) {
        return Err(Refusal::CmcNoCertificate);
    }
    let registers = |label: &str| {
        let rules = est.labels.get(label);
        rules.is_some_and(|rules| rules.registration_authorities.contains(&requester.device))
    };
    let may = found.device == requester.device || (auth::is_registrar(requester) && registers(&found.label));
    // Who may not revoke it learns no more than that it cannot.
    if !may {
        return Err(Refusal::CmcNoCertificate);
    }
    revocable(&found, now)?;
    Ok(found.serial)
}

/// What would be passed over must not be answered as if it had been done.
fn revocable(certificate: &Certificate, now: i64) -> Result<(), Refusal> {
    match certificate.state() {
        CertificateState::Active | CertificateState::Superseded if certificate.not_after > now => Ok(()),
        CertificateState::Active | CertificateState::Superseded => Err(Refusal::CmcExpired),
        _ => Err(Refusal::CmcAlreadyRevoked),
    }
}

/// A CMC message about what was done or refused.
fn respond(
    est: &Est,
    route: &Route,
    data: Option<&PkiData>,
    done: &Result<Done, Refusal>,
    now: i64,
) -> Result<Reply, Refusal> {
    // A control that stands there twice, or is too long, is not given back.
    let echoed = |kind| {
        let value = data.and_then(|data| data.only(kind).ok().flatten());
        value.filter(|value| value.len() <= MAX_ECHOED)
    };
    let sentence = done.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let outcome = Outcome {
        failure: done.as_ref().err().map(|refusal| (fail_info(refusal), sentence.as_str())),
        parts: done.as_ref().map(|done| done.parts.clone()).unwrap_or_default(),
        transaction: echoed(cmc::TRANSACTION_ID),
        nonce: echoed(cmc::SENDER_NONCE),
        own_nonce: &serial::random(16)?,
    };
    let content = cmc::response(&outcome).map_err(CaError::from)?;
    let issued = done.as_ref().ok().and_then(|done| done.certificate.as_deref());
    let others: Vec<&[u8]> = issued.into_iter().collect();
    let signed = est.signer.sign(&est.desk, cmc::PKI_RESPONSE, &content, &others, now)?;
    let message = signed::message(&signed).map_err(CaError::from)?;
    let reply = base64(route, RESPONSE, &message);
    Ok(match done {
        Ok(_) => reply,
        Err(refusal) => refusal.reply().with_body_of(reply),
    })
}

/// The failure of CMC that is nearest to a refusal.
fn fail_info(refusal: &Refusal) -> FailInfo {
    use AdmissionFault as A;
    match refusal {
        Refusal::Cms(CmsFault::FalseSignature) => FailInfo::BadMessageCheck,
        Refusal::Cms(CmsFault::Algorithm(_)) | Refusal::Csr(CsrFault::Algorithm(_) | CsrFault::Key(_)) => {
            FailInfo::BadAlg
        }
        Refusal::Csr(CsrFault::FalseSignature) | Refusal::Binding(_) | Refusal::BindingNeeded => FailInfo::PopFailed,
        Refusal::Cms(CmsFault::OtherSigner)
        | Refusal::Admission(A::Revoked | A::Superseded | A::Expired | A::OtherLabel | A::SubjectDiffers) => {
            FailInfo::BadIdentity
        }
        Refusal::CmcNoCertificate | Refusal::CmcAlreadyRevoked | Refusal::CmcExpired => FailInfo::BadCertId,
        Refusal::Busy | Refusal::Ca(CaError::Token(_)) => FailInfo::TryLater,
        Refusal::Ca(_) => FailInfo::InternalCaError,
        _ => FailInfo::BadRequest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_revoked_any_more_is_refused_by_name() {
        use CertificateState::{Abandoned, Active, OnHold, Revoked, Superseded};
        for (state, not_after, expected) in [
            (Active, 11, Ok(())),
            (Superseded, 11, Ok(())),
            (Active, 10, Err(Refusal::CmcExpired)),
            (Superseded, 9, Err(Refusal::CmcExpired)),
            (Revoked, 9, Err(Refusal::CmcAlreadyRevoked)),
            (OnHold, 11, Err(Refusal::CmcAlreadyRevoked)),
            (Abandoned, 11, Err(Refusal::CmcAlreadyRevoked)),
        ] {
            let certificate = Certificate { state: state.into(), not_after, ..Certificate::default() };
            assert_eq!(revocable(&certificate, 10), expected, "{state:?} until {not_after}");
        }
    }
}
