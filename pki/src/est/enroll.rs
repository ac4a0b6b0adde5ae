//! /simpleenroll and /simplereenroll (RFC 7030 section 4.2): one way for both, from the body to the recorded certificate.

use super::admission::{self, Admission, Facts, Grant, Identity};
use super::auth::Requester;
use super::error::Refusal;
use super::fault::AdmissionFault;
use super::operation::Operation;
use super::request::{self, Request};
use super::routes::Route;
use super::{Est, approval};
use crate::ca::CaError;
use crate::ca::issue::{self, Circumstances};
use crate::ca::profile::{Kind, Order};
use crate::clock;
use crate::listener::Call;
use crate::profile::Profile;
use crate::store::record::Certificate;
use crate::store::{Change, Store, Supersession};
use crate::x509::{hex, related};

/// Enrols and gives the DER of the certificate.
///
/// # Errors
/// The [`Refusal`].
pub(crate) fn enroll(est: &Est, route: &Route, call: &Call) -> Result<Vec<u8>, Refusal> {
    let now = clock::now();
    let (requester, csr) = request::read(route, call, est.desk.store.as_ref(), &est.porter, now)?;
    admit_and_issue(est, &Request { route, requester: &requester, csr: &csr, key_is_ours: false }, now)
}

/// Admits a request and issues; gives the DER of the certificate.
///
/// # Errors
/// The [`Refusal`].
pub(super) fn admit_and_issue(est: &Est, request: &Request<'_>, now: i64) -> Result<Vec<u8>, Refusal> {
    match admit(est.desk.store.as_ref(), request, est.profile(request.route)?, now)? {
        Admission::Repeat { serial } => {
            let certificate = est.desk.store.certificate(&serial)?.ok_or(AdmissionFault::Inconsistent)?;
            tracing::info!(event = "repeated", serial = hex(&serial), device = certificate.device);
            Ok(certificate.der)
        }
        Admission::Issue(grant) => issue(est, request, *grant, now),
    }
}

/// Whether the request may have its certificate.
///
/// # Errors
/// The [`Refusal`].
pub(crate) fn admit(
    store: &dyn Store,
    request: &Request<'_>,
    profile: &Profile,
    now: i64,
) -> Result<Admission, Refusal> {
    let Request { route, requester, csr, .. } = request;
    let (id, successor) = match requester {
        Requester::Device { certificate, .. } => {
            let successor = match certificate.successor.as_slice() {
                [] => None,
                serial => store.certificate(serial)?,
            };
            (certificate.device.clone(), successor)
        }
        _ => (profile.named(csr).map_err(AdmissionFault::from)?.id, None),
    };
    let device = store.device(&id)?;
    let held = |serial: &[u8]| if serial.is_empty() { Ok(None) } else { store.certificate(serial) };
    let current = held(device.as_ref().map(|device| device.certificate.as_slice()).unwrap_or_default())?;
    let mut related = None;
    for serial in device.iter().flat_map(|device| &device.related) {
        related = held(serial)?.filter(|found| found.label == route.label).or(related);
    }
    let key_use = store.key_use(csr.spki_sha256())?;
    let facts = Facts {
        requester,
        csr,
        profile,
        label: &route.label,
        rules: &route.rules,
        device: device.as_ref(),
        current: current.as_ref(),
        related: related.as_ref(),
        key_use: key_use.as_ref(),
        successor: successor.as_ref(),
        now,
    };
    let admission = match route.operation {
        Operation::SimpleReenroll | Operation::FullCmc => admission::reenrol(&facts),
        _ => admission::enrol(&facts),
    };
    Ok(admission?)
}

fn issue(est: &Est, request: &Request<'_>, grant: Grant, now: i64) -> Result<Vec<u8>, Refusal> {
    let Request { route, requester, csr, .. } = request;
    let profile = est.profile(route)?;
    let approval = approval::needed(request, &grant, est.desk.store.as_ref(), now)?;
    let named = match &grant.identity {
        Identity::Second { names: Some(first), .. } => Some(first),
        _ => None,
    };
    let mut particular = profile.extensions(csr.spki(), &grant.subject, &grant.names).map_err(AdmissionFault::from)?;
    if let Some(first) = named {
        particular.push(related::extension(&first.der).map_err(CaError::from)?);
    }
    let order = Order {
        kind: Kind::Device,
        particular,
        subject: grant.subject.clone(),
        spki: csr.spki().clone(),
        dns_names: Vec::new(),
        addresses: Vec::new(),
        constraints: None,
        validity_seconds: profile.validity_seconds(now),
    };
    let circumstances = Circumstances {
        device: grant.device.id.clone(),
        replaces: grant.replaces.clone(),
        credential: match requester {
            Requester::Bootstrap { name, .. } => name.clone(),
            Requester::Device { .. } | Requester::Registrar { .. } | Requester::Born { .. } => String::new(),
        },
        approval,
        profile: profile.name.clone(),
        label: route.label.clone(),
        related_to: named.map(|first| first.serial.clone()).unwrap_or_default(),
    };
    let supersession = if profile.revoke_on_reenroll { Supersession::Revoke } else { Supersession::Expire };
    let issuer = est.desk.issuer(&profile.authority)?;
    let prepared = issue::prepare(&est.desk, &issuer, &order, circumstances, now)?;
    let certificate = prepared.intend()?.sign()?.record(|certificate: Certificate| Change::Enrolled {
        device: grant.bound(&certificate.serial),
        certificate,
        supersession,
    })?;
    tracing::info!(
        event = "issued",
        serial = hex(&certificate.serial),
        device = certificate.device,
        subject = certificate.subject,
        replaces = hex(&grant.replaces),
        related_to = hex(&certificate.related_to),
        not_after = certificate.not_after,
        label = route.label,
    );
    Ok(certificate.der)
}
