//! The next key of an authority: one command makes it, certifies it under the same name and retires the old one.
//!
//! A root's two keys certify each other: `OldWithNew` lets who trusts the new key verify what the old one signed,
//! `NewWithOld` lets who trusts the old key verify what the new one signs, as RFC 4210 calls them. Both are served with the chain. The old
//! authority keeps its name in CRL addresses and signs the lists of what it issued until that has expired.

use super::authority::Authority;
use super::hierarchy;
use super::issue::{self, Circumstances};
use super::plan::Plan;
use super::profile::{Kind, Order};
use super::{CaError, Desk};
use crate::store::Change;
use crate::store::kind::AuthorityKind;
use crate::store::record::{AuthorityState, CertificateState};
use crate::x509::algorithm::KeySpec;
use std::sync::Arc;

/// What may be chosen about the next key.
pub(crate) struct Next {
    /// Kind of the new key; none for the kind of the old one.
    pub(crate) key: Option<KeySpec>,
    /// How long the new certificate is to be good.
    pub(crate) validity_seconds: i64,
}

/// The roles under which the links of a new key are kept.
fn roles(new: &str) -> [String; 2] {
    [format!("old-with-new/{new}"), format!("new-with-old/{new}")]
}

/// The certificates that lead from one key of a root to the other, as long as they are good.
///
/// # Errors
/// A failing store.
pub(crate) fn links(desk: &Desk, root: &Authority) -> Result<Vec<Vec<u8>>, CaError> {
    let mut found = Vec::new();
    let newer = if root.successor.is_empty() { None } else { Some(root.successor.as_str()) };
    for id in newer.into_iter().chain([root.id.as_str()]) {
        for role in roles(id) {
            let link = desk.store.house(&role)?.filter(|link| link.state() == CertificateState::Active);
            found.extend(link.map(|link| link.der));
        }
    }
    Ok(found)
}

/// The name of the next key: `issuing`, `issuing-2`, `issuing-3`.
fn next_id(id: &str) -> String {
    let numbered = id.rsplit_once('-').and_then(|(stem, digits)| Some((stem, digits.parse::<u32>().ok()?)));
    match numbered {
        Some((stem, number)) => format!("{stem}-{}", number.saturating_add(1)),
        None => format!("{id}-2"),
    }
}

/// Gives an authority its next key. Interrupted, the same command finishes it.
///
/// # Errors
/// When the authority does not issue, or the token or the store fails.
pub(crate) fn roll(desk: &Desk, id: &str, next: &Next, now: i64) -> Result<Arc<Authority>, CaError> {
    let old = desk.issuer(id)?;
    let new_id = next_id(&old.id);
    let new = match desk.store.authority(&new_id)? {
        Some(begun) if begun.predecessor == old.id => desk.authority(&new_id)?,
        Some(_) => return Err(CaError::Hierarchy(format!("there is an authority '{new_id}' already"))),
        None => {
            let plan = Plan {
                id: new_id.clone(),
                kind: if old.is_root() { AuthorityKind::Root } else { old.kind },
                parent: old.parent.clone(),
                subject: old.name.clone(),
                key: next.key.unwrap_or(old.key.spec),
                validity_seconds: next.validity_seconds,
                path_length: old.path_length,
                constraints: old.constraints.clone(),
                predecessor: old.id.clone(),
            };
            hierarchy::create(desk, &plan, now)?
        }
    };
    if new.is_root() {
        let [old_with_new, new_with_old] = roles(&new.id);
        link(desk, &new, &old, &old_with_new, now)?;
        link(desk, &old, &new, &new_with_old, now)?;
    }
    let mut stored = desk.store.authority(&old.id)?.ok_or_else(|| CaError::NoAuthority(old.id.clone()))?;
    stored.set_state(AuthorityState::Retired);
    stored.successor.clone_from(&new.id);
    stored.changed_at = now;
    desk.store.commit(Change::AuthorityMoved { authority: stored, from: old.state })?;
    tracing::info!(event = "authority_rolled_over", from = old.id, to = new.id);
    desk.authority(&new.id)
}

/// The certificate of one key by the other.
fn link(desk: &Desk, issuer: &Authority, subject: &Authority, role: &str, now: i64) -> Result<(), CaError> {
    if desk.store.house(role)?.is_some() {
        return Ok(());
    }
    let order = Order {
        kind: Kind::Link,
        subject: subject.name.clone(),
        spki: subject.spki.clone(),
        dns_names: Vec::new(),
        addresses: Vec::new(),
        particular: Vec::new(),
        constraints: None,
        // Neither key is trusted longer than its own certificate says.
        validity_seconds: subject.not_after.min(issuer.not_after).saturating_sub(now),
    };
    let prepared = issue::prepare(desk, issuer, &order, Circumstances::default(), now)?;
    prepared.intend()?.sign()?.record(|certificate| Change::Issued { role: role.to_owned(), certificate })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::next_id;

    #[test]
    fn the_next_key_has_the_next_number() {
        for (id, next) in
            [("issuing", "issuing-2"), ("issuing-2", "issuing-3"), ("line-a", "line-a-2"), ("root-9", "root-10")]
        {
            assert_eq!(next_id(id), next);
        }
    }
}
