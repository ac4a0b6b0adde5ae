//! The keys of the house: planned first (the id is durable), then made, so that no key in the token is forgotten.

use super::authority::key_ref;
use super::{CaError, Desk, serial};
use crate::store::Change;
use crate::store::record::KeyPlan;
use crate::token::{KeyRef, TokenError, no_key};
use crate::x509::algorithm::KeySpec;
use parking_lot::Mutex;
use spki::SubjectPublicKeyInfoOwned;

/// The TLS server's.
pub(crate) const SERVER: &str = "server";
/// The one that signs CMS messages.
pub(crate) const MESSAGES: &str = "messages";
/// The one that signs protocols of ceremonies.
pub(crate) const PROTOCOL: &str = "protocol";
/// The one that signs the journal's checkpoints.
pub(crate) const JOURNAL: &str = "journal";
/// Before the name of an authority: the one that signs its OCSP answers.
pub(crate) const OCSP_OF: &str = "ocsp-";

/// True for the role of a key that is no authority's. An authority of that name would have the same key.
pub(crate) fn is_reserved(role: &str) -> bool {
    [SERVER, MESSAGES, PROTOCOL, JOURNAL].contains(&role) || role.starts_with(OCSP_OF)
}

/// One key is made at a time: two who find none would make two pairs under one id, and mix their halves.
static MAKING: Mutex<()> = Mutex::new(());

/// The planned key of a role, made in the token if it is not there yet.
///
/// # Errors
/// When the token or the store fails, the token holds a key under the same label that we know nothing of, or a key that was
/// certified is gone.
pub(crate) fn ensure(desk: &Desk, role: &str, spec: KeySpec) -> Result<(KeyRef, SubjectPublicKeyInfoOwned), CaError> {
    ensure_guarded(desk, role, spec, || Ok(Vec::new()))
}

/// The same for a key that the token is to guard with an issuance policy, unless that is empty. A key that was planned keeps what it
/// was planned with.
///
/// # Errors
/// As [`ensure`].
pub(crate) fn ensure_guarded(
    desk: &Desk,
    role: &str,
    spec: KeySpec,
    policy: impl FnOnce() -> Result<Vec<u8>, CaError>,
) -> Result<(KeyRef, SubjectPublicKeyInfoOwned), CaError> {
    let _turn = MAKING.lock();
    let plan = match desk.store.key_plan(role)? {
        Some(plan) => plan,
        None => plan(desk, role, spec, policy()?)?,
    };
    let key = key_ref(&plan)?;
    let is_certified = desk.store.authority(role)?.is_some() || desk.store.house(role)?.is_some();
    let spki = match desk.token.public_key(&key) {
        Ok(Some(spki)) => spki,
        Ok(None) | Err(TokenError::HalfKey(_)) if !is_certified => {
            let spki = desk.token.generate(&key, &plan.policy)?;
            tracing::info!(event = "key_generated", role, spec = plan.spec, label = plan.label, guarded = key.guarded);
            spki
        }
        // A lost key is not replaced in silence once there is a certificate for it.
        Ok(None) => return Err(no_key(&key).into()),
        Err(fault) => return Err(fault.into()),
    };
    Ok((key, spki))
}

fn plan(desk: &Desk, role: &str, spec: KeySpec, policy: Vec<u8>) -> Result<KeyPlan, CaError> {
    let label = format!("{}-{role}", desk.key_label_prefix);
    if desk.token.has_label(&label)? {
        return Err(CaError::ForeignKey(label));
    }
    let key_id = serial::random(16)?;
    let plan = KeyPlan { role: role.to_owned(), key_id, label, spec: spec.to_string(), policy };
    desk.store.commit(Change::KeyPlanned(plan.clone()))?;
    Ok(plan)
}
