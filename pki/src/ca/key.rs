//! The keys of the house: planned first (the id is durable), then made, so that no key in the token is forgotten.

use super::authority::key_ref;
use super::{CaError, Desk, serial};
use crate::store::Change;
use crate::store::record::KeyPlan;
use crate::token::{KeyRef, TokenError, no_key};
use crate::x509::algorithm::KeySpec;
use spki::SubjectPublicKeyInfoOwned;

/// The planned key of a role, made in the token if it is not there yet.
///
/// # Errors
/// When the token or the store fails, the token holds a key under the same label that we know nothing of, or a key that was
/// certified is gone.
pub(crate) fn ensure(desk: &Desk, role: &str, spec: KeySpec) -> Result<(KeyRef, SubjectPublicKeyInfoOwned), CaError> {
    let plan = match desk.store.key_plan(role)? {
        Some(plan) => plan,
        None => plan(desk, role, spec)?,
    };
    let key = key_ref(&plan)?;
    let is_certified = desk.store.authority(role)?.is_some() || desk.store.house(role)?.is_some();
    let spki = match desk.token.public_key(&key) {
        Ok(Some(spki)) => spki,
        Ok(None) | Err(TokenError::HalfKey(_)) if !is_certified => {
            let spki = desk.token.generate(&key)?;
            tracing::info!(event = "key_generated", role, spec = plan.spec, label = plan.label);
            spki
        }
        // A lost key is not replaced in silence once there is a certificate for it.
        Ok(None) => return Err(no_key(&key).into()),
        Err(fault) => return Err(fault.into()),
    };
    Ok((key, spki))
}

fn plan(desk: &Desk, role: &str, spec: KeySpec) -> Result<KeyPlan, CaError> {
    let label = format!("{}-{role}", desk.key_label_prefix);
    if desk.token.has_label(&label)? {
        return Err(CaError::ForeignKey(label));
    }
    let plan = KeyPlan { role: role.to_owned(), key_id: serial::random(16)?, label, spec: spec.to_string() };
    desk.store.commit(Change::KeyPlanned(plan.clone()))?;
    Ok(plan)
}
