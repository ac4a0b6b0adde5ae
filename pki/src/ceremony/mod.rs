//! The ceremony of an offline root: two sides that exchange files only.
//!
//! The side below (`ca.role = "below"`) has every authority but the root; the side of the root (`ca.role = "root"`) has the root and
//! nothing else, on a machine and a token that are started for the ceremony and for nothing more.
//!
//! 1. below: `ceremony request` makes the keys and writes a [`Request`]: certification requests, and the revocations that belong on
//!    the root's CRL.
//! 2. root: `ceremony sign` verifies it, issues, makes a new CRL, and writes an [`Answer`] and the protocol (`protocol.rs`).
//! 3. below: `ceremony import` verifies every signature and that the certified keys are its own, and goes on from there.

pub(crate) mod protocol;

use crate::ca::authority::Authority;
use crate::ca::hierarchy;
use crate::ca::issue::{self, Circumstances};
use crate::ca::plan::Plan;
use crate::ca::{CaError, Desk, guard, key, revoke};
use crate::clock::DAY_SECONDS;
use crate::config::{AuthoritySection, Config};
use crate::store::kind::AuthorityKind;
use crate::store::record::{self, Crl, INTERNAL, ISSUING, ROOT};
use crate::store::{Change, Conflict, StoreError};
use crate::x509::csr::VerifiedCsr;
use crate::x509::{ders_of_pem, name, pem, reason, sha256, tbs, unix_seconds, verify};
use der::asn1::SetOfVec;
use der::{Decode, Encode};
use serde::{Deserialize, Serialize};
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::ext::pkix::CrlNumber;
use x509_cert::request::{CertReqInfo, Version};

/// What the side below asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// Says what the file is.
    pub(crate) format: String,
    /// Authorities that need a certificate.
    pub(crate) authorities: Vec<Wanted>,
    /// Certificates of authorities that belong on the root's CRL.
    pub(crate) revocations: Vec<Revocation>,
}

/// An authority that needs a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// Its name.
    pub(crate) id: String,
    /// How long it is to be good.
    pub(crate) validity_days: u32,
    /// PEM of a certification request that its key signed.
    pub(crate) csr: String,
}

/// A certificate that belongs on the root's CRL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Revocation {
    /// Serial number in hexadecimal.
    pub(crate) serial: String,
    /// Name of the reason.
    pub(crate) reason: String,
}

/// What the side of the root gives back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    /// Says what the file is.
    pub(crate) format: String,
    /// SHA-256 of the request that it answers.
    pub(crate) request_sha256: String,
    /// PEM of the root certificate.
    pub(crate) root: String,
    /// The certificates, by the names of their authorities.
    pub(crate) certificates: Vec<Given>,
    /// PEM of the root's CRL.
    pub(crate) crl: String,
}

/// The certificate of an authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Given {
    /// The name of the authority.
    pub(crate) id: String,
    /// PEM of its certificate.
    pub(crate) certificate: String,
}

/// What a request file says that it is.
pub(crate) const REQUEST: &str = "craton-pki ceremony request 1";
/// What an answer file says that it is.
pub(crate) const ANSWER: &str = "craton-pki ceremony answer 1";

fn refuse<T>(sentence: impl Into<String>) -> Result<T, CaError> {
    Err(CaError::Hierarchy(sentence.into()))
}

/// The DER of one PEM block.
fn der_of(text: &str, label: &str) -> Result<Vec<u8>, CaError> {
    let ders = ders_of_pem(text, label).unwrap_or_default();
    match <[Vec<u8>; 1]>::try_from(ders) {
        Ok([der]) => Ok(der),
        Err(_) => refuse(format!("the file does not hold one {label} where it should")),
    }
}

/// Below: makes the keys of the authorities that have no certificate yet and asks for certificates.
///
/// # Errors
/// When the token or the store fails, or this PKI has its root itself.
pub(crate) fn request(desk: &Desk, config: &Config, revoke: Option<(&str, &str)>) -> Result<Request, CaError> {
    if desk.store.authority(ROOT)?.is_some_and(|root| !root.key_role.is_empty()) {
        return refuse("the key of the root is here: no ceremony is needed");
    }
    let mut authorities = Vec::new();
    for (id, section) in [(ISSUING, &config.issuing), (INTERNAL, &config.internal)] {
        if desk.store.authority(id)?.is_none() {
            authorities.push(wanted(desk, id, section)?);
        }
    }
    let mut revocations = Vec::new();
    if let Some((id, reason)) = revoke {
        let authority = desk.authority(id)?;
        if reason::named(reason).is_none() {
            return refuse(format!("unknown reason '{reason}'"));
        }
        let parsed = Certificate::from_der(&authority.certificate)?;
        let serial = crate::x509::hex(parsed.tbs_certificate().serial_number().as_bytes());
        revocations.push(Revocation { serial, reason: reason.to_owned() });
    }
    Ok(Request { format: REQUEST.to_owned(), authorities, revocations })
}

fn wanted(desk: &Desk, id: &str, section: &AuthoritySection) -> Result<Wanted, CaError> {
    let subject = section.subject.clone();
    let plan = Plan {
        id: id.to_owned(),
        kind: AuthorityKind::Issuing,
        parent: ROOT.to_owned(),
        subject: subject.clone(),
        key: section.key,
        validity_seconds: section.validity_seconds,
        path_length: None,
        constraints: None,
        predecessor: String::new(),
    };
    // The root decides how long the certificate is good.
    let policy = guard::policy(desk, &plan, None)?;
    let (key, public_key) = key::ensure_guarded(desk, id, section.key, || Ok(policy))?;
    let info = CertReqInfo { version: Version::V1, subject, public_key, attributes: SetOfVec::new() };
    let to_be_signed = info.to_der()?;
    let note = || desk.note_doubt(id);
    note()?;
    let signature = desk.token.sign_noting(&key, key.spec.certificate_scheme(), &to_be_signed, &note)?;
    let der = tbs::join(&to_be_signed, key.spec.signature_algorithm(), &signature)?;
    Ok(Wanted {
        id: id.to_owned(),
        validity_days: u32::try_from(section.validity_seconds / DAY_SECONDS).unwrap_or(1),
        csr: pem("CERTIFICATE REQUEST", &der),
    })
}

/// Root: issues what is asked for, after verifying that each key signed its request. A request that was signed before is given the
/// same certificates again.
///
/// # Errors
/// When a request is not sound, or the token or the store fails.
pub(crate) fn sign(desk: &Desk, request: &Request, request_bytes: &[u8], now: i64) -> Result<Answer, CaError> {
    if request.format != REQUEST {
        return refuse(format!("the file is not a '{REQUEST}'"));
    }
    let root = desk.issuer(ROOT)?;
    // Everything is judged before anything is signed.
    let mut plans = Vec::new();
    for wanted in &request.authorities {
        let csr = VerifiedCsr::verify(&der_of(&wanted.csr, "CERTIFICATE REQUEST")?)
            .map_err(|fault| CaError::Hierarchy(format!("the request of '{}': {fault}", wanted.id)))?;
        plans.push((plan(wanted, &csr)?, csr));
    }
    let mut certificates = Vec::new();
    for (plan, csr) in &plans {
        let certificate = issue_once(desk, &root, plan, csr, now)?;
        certificates.push(Given { id: plan.id.clone(), certificate: pem("CERTIFICATE", &certificate) });
    }
    for revocation in &request.revocations {
        let serial = data_encoding::HEXLOWER_PERMISSIVE
            .decode(revocation.serial.as_bytes())
            .map_err(|_| CaError::Hierarchy("a serial number is written in hexadecimal".to_owned()))?;
        let reason = reason::named(&revocation.reason)
            .ok_or_else(|| CaError::Hierarchy(format!("unknown reason '{}'", revocation.reason)))?;
        match revoke::revoke(desk.store.as_ref(), &serial, revoke::Cause { reason, invalid_since: 0 }, now) {
            Ok(_) | Err(CaError::Store(StoreError::Conflict(Conflict::AlreadyRevoked))) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(Answer {
        format: ANSWER.to_owned(),
        request_sha256: crate::x509::hex(&sha256(request_bytes)),
        root: pem("CERTIFICATE", &root.certificate),
        certificates,
        crl: String::new(),
    })
}

fn plan(wanted: &Wanted, csr: &VerifiedCsr) -> Result<Plan, CaError> {
    hierarchy::judge_id(&wanted.id)?;
    if wanted.id == ROOT {
        return refuse("a ceremony certifies authorities below the root");
    }
    Ok(Plan {
        id: wanted.id.clone(),
        kind: AuthorityKind::Issuing,
        parent: ROOT.to_owned(),
        subject: csr.subject().clone(),
        key: crate::x509::algorithm::KeySpec::of(csr.spki()).map_err(|fault| CaError::Hierarchy(fault.to_string()))?,
        validity_seconds: i64::from(wanted.validity_days.max(1)).saturating_mul(DAY_SECONDS),
        path_length: None,
        constraints: None,
        predecessor: String::new(),
    })
}

/// The certificate of an authority below, which here is known by its certificate only.
fn issue_once(desk: &Desk, root: &Authority, plan: &Plan, csr: &VerifiedCsr, now: i64) -> Result<Vec<u8>, CaError> {
    if let Some(known) = desk.store.authority(&plan.id)? {
        let parsed = Certificate::from_der(&known.certificate)?;
        if parsed.tbs_certificate().subject_public_key_info() == csr.spki() {
            return Ok(known.certificate);
        }
        return refuse(format!("'{}' was certified with another key already", plan.id));
    }
    let kind = hierarchy::kind_under(plan, Some(root))?;
    let order = hierarchy::order(plan, kind, csr.spki().clone());
    let prepared = issue::prepare(desk, root, &order, Circumstances::default(), now)?;
    let certificate = prepared.intend()?.sign()?.record(|certificate| Change::AuthorityCreated {
        authority: record::Authority {
            key_role: String::new(),
            ..hierarchy::stored(plan, ROOT, &certificate.der, now)
        },
        certificate,
    })?;
    Ok(certificate.der)
}

/// Below: takes an answer in. Everything in it is verified before anything is stored.
///
/// # Errors
/// When a signature is false, a key is not ours, or the root is another than the one that is known or expected.
pub(crate) fn import(
    desk: &Desk,
    answer: &Answer,
    root_sha256: Option<&str>,
    now: i64,
) -> Result<Vec<String>, CaError> {
    if answer.format != ANSWER {
        return refuse(format!("the file is not a '{ANSWER}'"));
    }
    let root = der_of(&answer.root, "CERTIFICATE")?;
    judge_root(desk, &root, root_sha256)?;
    let parsed_root = Certificate::from_der(&root)?;
    let mut taken = Vec::new();
    for given in &answer.certificates {
        let der = der_of(&given.certificate, "CERTIFICATE")?;
        judge_given(desk, given, &Certificate::from_der(&der)?, &parsed_root, now)?;
        taken.push((given.id.clone(), der));
    }
    let crl = crl_of(&answer.crl, &parsed_root)?;
    let authority = |id: &str, certificate: &[u8], kind: AuthorityKind| record::Authority {
        id: id.to_owned(),
        certificate: certificate.to_vec(),
        kind: kind.word().to_owned(),
        created_at: now,
        ..record::Authority::default()
    };
    if desk.store.authority(ROOT)?.is_none() {
        desk.store.commit(Change::AuthorityImported(authority(ROOT, &root, AuthorityKind::Root)))?;
    }
    let mut imported = Vec::new();
    for (id, der) in taken {
        if desk.store.authority(&id)?.is_none() {
            let record = record::Authority {
                key_role: id.clone(),
                parent: ROOT.to_owned(),
                ..authority(&id, &der, AuthorityKind::Issuing)
            };
            desk.store.commit(Change::AuthorityImported(record))?;
            imported.push(id);
        }
    }
    keep_crl(desk, crl)?;
    Ok(imported)
}

/// The root must be self-signed, and the one that is known here or, the first time, the one whose fingerprint was given.
fn judge_root(desk: &Desk, root: &[u8], expected: Option<&str>) -> Result<(), CaError> {
    let parsed = Certificate::from_der(root)?;
    verified(&parsed, &parsed)?;
    let fingerprint = crate::x509::hex(&sha256(root));
    let known = desk.store.authority(ROOT)?;
    let agrees = match (&known, expected) {
        (Some(known), _) => known.certificate == root,
        (None, Some(expected)) => expected.replace(':', "").eq_ignore_ascii_case(&fingerprint),
        (None, None) => {
            return refuse(format!(
                "compare the root's fingerprint with the protocol and give it: --root-sha256 {fingerprint}"
            ));
        }
    };
    if agrees { Ok(()) } else { refuse(format!("the root in the answer is another one: its SHA-256 is {fingerprint}")) }
}

fn verified(certificate: &Certificate, issuer: &Certificate) -> Result<(), CaError> {
    let facts = certificate.tbs_certificate();
    let above = issuer.tbs_certificate();
    let signature = certificate.signature().as_bytes().unwrap_or_default();
    let holds =
        verify::verify(above.subject_public_key_info(), certificate.signature_algorithm(), &facts.to_der()?, signature);
    if holds.is_ok() && facts.issuer() == above.subject() {
        return Ok(());
    }
    refuse(format!("the certificate of {} does not verify", name::text(facts.subject())))
}

/// The certificate must be signed by the root, still good, and for the key that was planned here for the authority.
fn judge_given(
    desk: &Desk,
    given: &Given,
    certificate: &Certificate,
    root: &Certificate,
    now: i64,
) -> Result<(), CaError> {
    verified(certificate, root)?;
    let facts = certificate.tbs_certificate();
    if unix_seconds(&facts.validity().not_after) <= now {
        return refuse(format!("the certificate of '{}' has expired", given.id));
    }
    let Some(plan) = desk.store.key_plan(&given.id)? else {
        return refuse(format!("no key was made here for '{}'", given.id));
    };
    let held = desk.token.public_key(&crate::ca::authority::key_ref(&plan)?)?;
    if held.as_ref() == Some(facts.subject_public_key_info()) {
        return Ok(());
    }
    Err(CaError::WrongKey(plan.label))
}

fn crl_of(text: &str, root: &Certificate) -> Result<Crl, CaError> {
    let der = der_of(text, "X509 CRL")?;
    let list: CertificateList = CertificateList::from_der(&der)?;
    let facts = &list.tbs_cert_list;
    let above = root.tbs_certificate();
    let signature = list.signature.as_bytes().unwrap_or_default();
    let holds = verify::verify(above.subject_public_key_info(), &list.signature_algorithm, &facts.to_der()?, signature);
    if holds.is_err() || facts.issuer != *above.subject() {
        return refuse("the root's CRL does not verify");
    }
    let extensions = facts.crl_extensions.as_deref().unwrap_or_default();
    let oid = <CrlNumber as const_oid::AssociatedOid>::OID;
    let number = extensions.iter().find(|extension| extension.extn_id == oid);
    let number = number.map(|number| CrlNumber::from_der(number.extn_value.as_bytes())).transpose()?;
    let number = number.map(|number| number.0.as_bytes().iter().fold(0u64, |sum, octet| sum << 8 | u64::from(*octet)));
    Ok(Crl {
        authority: ROOT.to_owned(),
        number: number.unwrap_or(0),
        this_update: unix_seconds(&facts.this_update),
        next_update: facts.next_update.as_ref().map_or(0, unix_seconds),
        der,
        ..Crl::default()
    })
}

/// Publishes the root's CRL, if it is newer than the one that is there. The numbers between were given on the other side.
fn keep_crl(desk: &Desk, crl: Crl) -> Result<(), CaError> {
    let known = desk.store.crl_record(ROOT)?.unwrap_or_default();
    if crl.number <= known.number {
        return Ok(());
    }
    if crl.number > known.last_number {
        desk.store.commit(Change::CrlNumbered { list: ROOT.to_owned(), number: crl.number, lists: 0 })?;
    }
    desk.store.commit(Change::CrlPublished { crls: vec![crl], answers: known.pending })?;
    Ok(())
}
