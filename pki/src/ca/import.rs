//! Authorities from elsewhere: with their key in the token, proven to be the one of the certificate by a signature, or with
//! their certificate only, to verify what they issued.

use super::authority::Authority;
use super::{CaError, Desk, hierarchy, serial};
use crate::store::Change;
use crate::store::kind::AuthorityKind;
use crate::store::record::{self, KeyPlan};
use crate::token::{KeyRef, no_key};
use crate::x509::algorithm::KeySpec;
use crate::x509::{name, sha256, unix_seconds, verify};
use der::asn1::SetOfVec;
use der::{Decode, Encode};
use std::sync::Arc;
use x509_cert::Certificate;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};
use x509_cert::request::{CertReqInfo, Version};

/// What begins the bytes that an imported key signs as its proof: no certificate, list or request begins like this.
const PROOF: &[u8] = b"craton-pki proof of possession of an imported authority key\0";

/// An authority that is to be imported.
pub(crate) struct Import {
    /// Its name in the configuration and in commands.
    pub(crate) id: String,
    /// Its certificate.
    pub(crate) certificate: Vec<u8>,
    /// The certificates above it, nearest first.
    pub(crate) chain: Vec<Vec<u8>>,
    /// CKA_ID of its key in the token; none to import the certificate only.
    pub(crate) key_id: Option<Vec<u8>>,
}

/// Imports an authority.
///
/// # Errors
/// [`CaError::Hierarchy`] when the certificate is not one of an authority, its chain does not verify, it has expired, or the
/// key is another.
pub(crate) fn import(desk: &Desk, import: &Import, now: i64) -> Result<Arc<Authority>, CaError> {
    hierarchy::judge_id(&import.id)?;
    if desk.store.authority(&import.id)?.is_some() {
        return Err(CaError::Hierarchy(format!("there is an authority '{}' already", import.id)));
    }
    let parsed = Certificate::from_der(&import.certificate)?;
    judge(&parsed, now)?;
    let parent = judge_chain(desk, import, &parsed)?;
    let spki = parsed.tbs_certificate().subject_public_key_info();
    let spec = KeySpec::of(spki).map_err(|fault| CaError::Hierarchy(fault.to_string()))?;
    let key_role = match &import.key_id {
        None => String::new(),
        Some(id) => {
            let label = format!("{} (imported)", import.id);
            let key = KeyRef { id: id.clone(), label: label.clone(), spec, guarded: false };
            let policy = desk.token.issuance_policy(&key)?;
            let key = KeyRef { guarded: !policy.is_empty(), ..key };
            prove(desk, &key, &parsed)?;
            let plan = KeyPlan { role: import.id.clone(), key_id: id.clone(), label, spec: spec.to_string(), policy };
            // A repetition after a failure finds its own plan; another one under this name is somebody else's.
            match desk.store.key_plan(&import.id)? {
                Some(known) if known == plan => {}
                Some(_) => return Err(CaError::Hierarchy(format!("a key is planned for '{}' already", import.id))),
                None => desk.store.commit(Change::KeyPlanned(plan))?,
            }
            import.id.clone()
        }
    };
    desk.store.commit(Change::AuthorityImported(record::Authority {
        id: import.id.clone(),
        certificate: import.certificate.clone(),
        key_role,
        kind: AuthorityKind::Imported.word().to_owned(),
        parent,
        chain: import.chain.clone(),
        created_at: now,
        ..record::Authority::default()
    }))?;
    let authority = desk.authority(&import.id)?;
    if authority.key.guarded {
        // What it signed elsewhere is accounted for there.
        let counted = desk.token.signature_count(&authority.key)?;
        let id = import.id.clone();
        desk.store.commit(Change::Reconciled { authority: id, counted, recorded: 0, open: 0, is_accepted: true })?;
    }
    let subject = name::text(parsed.tbs_certificate().subject());
    tracing::info!(event = "authority_imported", authority = import.id, subject, with_key = import.key_id.is_some());
    Ok(authority)
}

/// The certificate must be one of an authority that still lives.
fn judge(certificate: &Certificate, now: i64) -> Result<(), CaError> {
    let refuse = |reason: &str| Err(CaError::Hierarchy(format!("the certificate cannot be imported: {reason}")));
    let facts = certificate.tbs_certificate();
    if !facts.get_extension::<BasicConstraints>()?.is_some_and(|(_, constraints)| constraints.ca) {
        return refuse("it is not the certificate of an authority (basicConstraints without cA)");
    }
    if facts.get_extension::<KeyUsage>()?.is_some_and(|(_, usage)| !usage.key_cert_sign()) {
        return refuse("its keyUsage does not allow to sign certificates");
    }
    if unix_seconds(&facts.validity().not_after) <= now {
        return refuse("it has expired");
    }
    if facts.subject().is_empty() {
        return refuse("it names nobody");
    }
    Ok(())
}

/// Each certificate must be signed by the next; the last by itself or by an authority that is known here. Gives the parent
/// when it is known here.
fn judge_chain(desk: &Desk, import: &Import, first: &Certificate) -> Result<String, CaError> {
    let mut last = first.clone();
    for above in &import.chain {
        let above = Certificate::from_der(above)?;
        if !is_signed_by(&last, &above)? {
            return Err(CaError::Hierarchy(format!(
                "the chain does not hold: {} is not signed by {}",
                name::text(last.tbs_certificate().subject()),
                name::text(above.tbs_certificate().subject())
            )));
        }
        last = above;
    }
    if is_signed_by(&last, &last)? {
        return Ok(String::new());
    }
    for known in desk.authorities()? {
        if is_signed_by(&last, &Certificate::from_der(&known.certificate)?)? {
            return Ok(if import.chain.is_empty() { known.id.clone() } else { String::new() });
        }
    }
    Err(CaError::Hierarchy(format!(
        "{} is not self-signed, and who signed it is not known here: give the certificates above it",
        name::text(last.tbs_certificate().subject())
    )))
}

/// True when one certificate names another as its issuer and is signed with its key.
///
/// # Errors
/// A certificate that does not encode.
pub(crate) fn is_signed_by(certificate: &Certificate, issuer: &Certificate) -> Result<bool, CaError> {
    let (facts, above) = (certificate.tbs_certificate(), issuer.tbs_certificate());
    if !name::same_name(facts.issuer(), above.subject()) {
        return Ok(false);
    }
    let signature = certificate.signature().as_bytes().unwrap_or_default();
    let verified =
        verify::verify(above.subject_public_key_info(), certificate.signature_algorithm(), &facts.to_der()?, signature);
    Ok(verified.is_ok())
}

/// The key in the token signs, and the certificate's public key verifies it. A guarded key signs what its policy knows: a request for a
/// certificate of its own; any other something fresh.
fn prove(desk: &Desk, key: &KeyRef, certificate: &Certificate) -> Result<(), CaError> {
    let facts = certificate.tbs_certificate();
    let spki = facts.subject_public_key_info();
    let held = desk.token.public_key(key)?.ok_or_else(|| no_key(key))?;
    if held.to_der()? != spki.to_der()? {
        return Err(CaError::WrongKey(key.label.clone()));
    }
    let challenge = if key.guarded {
        let (subject, public_key) = (facts.subject().clone(), spki.clone());
        CertReqInfo { version: Version::V1, subject, public_key, attributes: SetOfVec::new() }.to_der()?
    } else {
        [PROOF, &serial::random(32)?, &sha256(&spki.to_der()?)].concat()
    };
    let signature = desk.token.sign(key, key.spec.certificate_scheme(), &challenge)?;
    verify::verify(spki, &key.spec.signature_algorithm(), &challenge, &signature)
        .map_err(|_| CaError::WrongKey(key.label.clone()))
}
