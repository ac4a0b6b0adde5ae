//! The hierarchy: making authorities below authorities, putting them on hold, releasing and retiring them.
//!
//! Each step of a creation looks whether it was done before: one that broke off is finished by the same command.

use super::authority::Authority;
use super::issue::{self, Circumstances};
use super::plan::Plan;
use super::profile::{Kind, Order};
use super::{CaError, Desk, guard, key};
use crate::store::kind::AuthorityKind;
use crate::store::record::{self, AuthorityState};
use crate::store::{Change, Store};
use crate::x509::name;
use spki::SubjectPublicKeyInfoOwned;
use std::sync::Arc;

/// Longest name of an authority: it stands in addresses and key labels.
const MAX_ID_LEN: usize = 40;

/// Judges the name of an authority: it becomes part of addresses and of key labels.
///
/// # Errors
/// [`CaError::Hierarchy`].
pub(crate) fn judge_id(id: &str) -> Result<(), CaError> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if key::is_reserved(id) {
        return Err(CaError::Hierarchy(format!(
            "'{id}' cannot be the name of an authority: a key of the house has it"
        )));
    }
    if (1..=MAX_ID_LEN).contains(&id.len()) && id.chars().all(good) && !id.starts_with('-') {
        return Ok(());
    }
    Err(CaError::Hierarchy(format!(
        "'{id}' cannot be the name of an authority: use 1 to {MAX_ID_LEN} lower-case letters, digits and hyphens"
    )))
}

/// Makes an authority: its key in the token, its certificate signed by its parent or, for a root, by itself.
///
/// # Errors
/// [`CaError::Hierarchy`] when it does not fit under its parent; a failing token or store.
pub(crate) fn create(desk: &Desk, plan: &Plan, now: i64) -> Result<Arc<Authority>, CaError> {
    judge_id(&plan.id)?;
    if desk.store.authority(&plan.id)?.is_some() {
        return Err(CaError::Hierarchy(format!("there is an authority '{}' already", plan.id)));
    }
    let issuer = match plan.kind {
        AuthorityKind::Root => None,
        AuthorityKind::Imported => {
            return Err(CaError::Hierarchy("use `ca import` for an authority from elsewhere".to_owned()));
        }
        AuthorityKind::Intermediate | AuthorityKind::Issuing => Some(desk.issuer(&plan.parent)?),
    };
    let kind = kind_under(plan, issuer.as_deref())?;
    refuse_second_name(desk, plan)?;
    let end = now.saturating_add(plan.validity_seconds);
    let end = issuer.as_ref().map_or(end, |issuer| end.min(issuer.not_after));
    let policy = guard::policy(desk, plan, Some(end))?;
    let (key, spki) = key::ensure_guarded(desk, &plan.id, plan.key, || Ok(policy))?;
    let issuer = match issuer {
        Some(issuer) => issuer,
        None => {
            let not_after = now.saturating_add(plan.validity_seconds);
            Arc::new(Authority::nascent(&plan.id, plan.subject.clone(), spki.clone(), not_after, key)?)
        }
    };
    let prepared = issue::prepare(desk, &issuer, &order(plan, kind, spki), Circumstances::default(), now)?;
    prepared.intend()?.sign()?.record(|certificate| Change::AuthorityCreated {
        authority: stored(plan, if plan.kind == AuthorityKind::Root { "" } else { &issuer.id }, &certificate.der, now),
        certificate,
    })?;
    tracing::info!(event = "authority_created", authority = plan.id, subject = name::text(&plan.subject));
    desk.authority(&plan.id)
}

/// The record of an authority with this certificate.
pub(crate) fn stored(plan: &Plan, parent: &str, certificate: &[u8], now: i64) -> record::Authority {
    record::Authority {
        id: plan.id.clone(),
        certificate: certificate.to_vec(),
        key_role: plan.id.clone(),
        kind: plan.kind.word().to_owned(),
        parent: parent.to_owned(),
        predecessor: plan.predecessor.clone(),
        created_at: now,
        ..record::Authority::default()
    }
}

/// The order of an authority's certificate.
pub(crate) fn order(plan: &Plan, kind: Kind, spki: SubjectPublicKeyInfoOwned) -> Order {
    Order {
        kind,
        subject: plan.subject.clone(),
        spki,
        dns_names: Vec::new(),
        addresses: Vec::new(),
        particular: Vec::new(),
        constraints: plan.constraints.clone(),
        validity_seconds: plan.validity_seconds,
    }
}

/// The kind of certificate that the plan gives under this parent: the path length counts down along the chain
/// (RFC 5280 section 4.2.1.9).
pub(crate) fn kind_under(plan: &Plan, parent: Option<&Authority>) -> Result<Kind, CaError> {
    let room = parent.and_then(|parent| parent.path_length);
    if let Some(parent) = parent
        && room == Some(0)
    {
        return Err(CaError::Hierarchy(format!(
            "the authority '{}' may certify no authority: its path length is 0",
            parent.id
        )));
    }
    match plan.kind {
        AuthorityKind::Root => Ok(Kind::Root),
        AuthorityKind::Issuing | AuthorityKind::Imported => Ok(Kind::Issuing),
        AuthorityKind::Intermediate => {
            let wanted = plan.path_length.unwrap_or(1);
            if wanted == 0 {
                return Err(CaError::Hierarchy(
                    "an intermediate with path length 0 is an issuing authority".to_owned(),
                ));
            }
            if room.is_some_and(|room| wanted >= room) {
                return Err(CaError::Hierarchy(format!(
                    "the path length {wanted} does not fit below '{}', which allows {} below it",
                    plan.parent,
                    room.map_or(0, |room| room.saturating_sub(1))
                )));
            }
            Ok(Kind::Intermediate { path_length: wanted })
        }
    }
}

/// Two authorities of one name would be taken for each other, unless one goes on with the name of the other.
fn refuse_second_name(desk: &Desk, plan: &Plan) -> Result<(), CaError> {
    for other in desk.authorities()? {
        let goes_on = !plan.predecessor.is_empty() && other.name == plan.subject;
        if !goes_on && name::same_name(&other.name, &plan.subject) {
            return Err(CaError::Hierarchy(format!(
                "the authority '{}' has the subject {} already",
                other.id,
                name::text(&plan.subject)
            )));
        }
    }
    Ok(())
}

/// A change of an authority's state that an operator may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Act {
    /// It issues nothing until it is released.
    Hold,
    /// It issues again.
    Release,
    /// It issues nothing any more.
    Retire,
}

/// THE table: from which state an act leads to which.
const MOVES: &[(Act, AuthorityState, AuthorityState)] = &[
    (Act::Hold, AuthorityState::Active, AuthorityState::OnHold),
    (Act::Release, AuthorityState::OnHold, AuthorityState::Active),
    (Act::Retire, AuthorityState::Active, AuthorityState::Retired),
    (Act::Retire, AuthorityState::OnHold, AuthorityState::Retired),
];

/// Moves an authority. What it issued stays good; its lists are still signed.
///
/// # Errors
/// [`CaError::Hierarchy`] when the act does not fit its state.
pub(crate) fn act(store: &dyn Store, id: &str, act: Act, now: i64) -> Result<Authority, CaError> {
    let mut authority = store.authority(id)?.ok_or_else(|| CaError::NoAuthority(id.to_owned()))?;
    let from = authority.state();
    let to = MOVES
        .iter()
        .find(|row| row.0 == act && row.1 == from)
        .map(|row| row.2)
        .ok_or_else(|| CaError::Hierarchy(format!("the authority '{id}' is {}: that does not fit", from.word())))?;
    authority.set_state(to);
    authority.changed_at = now;
    store.commit(Change::AuthorityMoved { authority, from })?;
    tracing::info!(event = "authority_moved", authority = id, from = from.word(), to = to.word());
    Authority::load(store, id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::KeyRef;
    use crate::x509::algorithm::KeySpec;
    use crate::x509::algorithm::{ec_spki, oid};
    use std::str::FromStr;
    use x509_cert::name::Name;

    fn authority(path_length: Option<u8>) -> Authority {
        let spki = ec_spki(oid::P256, &[4; 65]).expect("encodes");
        let key = KeyRef { id: vec![1], label: "k".to_owned(), spec: KeySpec::EcP256, guarded: false };
        let name = Name::from_str("CN=Parent").expect("parses");
        let mut authority = Authority::nascent("parent", name, spki, 0, key).expect("builds");
        authority.path_length = path_length;
        authority
    }

    fn plan(kind: AuthorityKind, path_length: Option<u8>) -> Plan {
        Plan {
            id: "child".to_owned(),
            kind,
            parent: "parent".to_owned(),
            subject: Name::from_str("CN=Child").expect("parses"),
            key: KeySpec::EcP256,
            validity_seconds: 1,
            path_length,
            constraints: None,
            predecessor: String::new(),
        }
    }

    #[test]
    fn the_path_length_counts_down_along_the_chain() {
        type Row = (AuthorityKind, Option<u8>, Option<u8>, Option<Kind>);
        let rows: &[Row] = &[
            (AuthorityKind::Issuing, None, None, Some(Kind::Issuing)),
            (AuthorityKind::Issuing, None, Some(1), Some(Kind::Issuing)),
            (AuthorityKind::Issuing, None, Some(0), None),
            (AuthorityKind::Intermediate, None, None, Some(Kind::Intermediate { path_length: 1 })),
            (AuthorityKind::Intermediate, Some(3), Some(4), Some(Kind::Intermediate { path_length: 3 })),
            (AuthorityKind::Intermediate, Some(3), Some(3), None),
            (AuthorityKind::Intermediate, Some(1), Some(1), None),
            (AuthorityKind::Intermediate, Some(0), None, None),
        ];
        for (kind, wanted, room, expected) in rows {
            let found = kind_under(&plan(*kind, *wanted), Some(&authority(*room))).ok();
            assert_eq!(found, *expected, "{kind:?} {wanted:?} under {room:?}");
        }
        assert_eq!(kind_under(&plan(AuthorityKind::Root, None), None).ok(), Some(Kind::Root));
    }

    #[test]
    fn names_of_authorities_fit_into_addresses() {
        for good in ["issuing", "line-7", "a"] {
            assert!(judge_id(good).is_ok(), "{good}");
        }
        for bad in ["", "Issuing", "a b", "../x", "-a", &"x".repeat(41)] {
            assert!(judge_id(bad).is_err(), "{bad}");
        }
        // Else the authority would sign with a key of the house, or the house with the authority's.
        for taken in ["server", "messages", "protocol", "journal", "ocsp-issuing"] {
            assert!(judge_id(taken).is_err(), "{taken}");
        }
    }

    #[test]
    fn a_retired_authority_never_issues_again() {
        assert!(MOVES.iter().all(|row| row.1 != AuthorityState::Retired));
    }
}
