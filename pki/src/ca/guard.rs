//! The issuance policy of an authority's key, which our token enforces (docs/guard.md): what the authority is made for, for all its life.
//! It bounds a process that was taken over; what is right for a request the profiles say.

use super::authority::AuthorityKind;
use super::hierarchy::Plan;
use super::{CaError, Desk};
use crate::x509::extension;
use crate::x509::tlv::{self, SEQUENCE, context, write};
use const_oid::ObjectIdentifier;
use der::asn1::GeneralizedTime;
use der::{DateTime, Encode};
use std::time::Duration;

/// Whether the keys of new authorities get a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Guard {
    /// Where the module is ours.
    #[default]
    Auto,
    /// Always: another module's token is refused.
    Always,
    /// Never.
    Never,
}

/// What the guard must know of the configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct GuardRules {
    /// Whether keys are guarded.
    pub(crate) guard: Guard,
    /// Extensions that profiles give besides the usual ones.
    pub(crate) extensions: Vec<ObjectIdentifier>,
}

/// The version of the policy.
const VERSION: u8 = 1;
/// Kinds of structures (docs/guard.md).
const END_ENTITY: u8 = 1;
const AUTHORITY: u8 = 2;
const OWN: u8 = 4;
const CRL: u8 = 8;
const REQUEST: u8 = 32;
/// Longer than any schedule of CRLs, shorter than for ever.
const STATUS_DAYS: [u8; 2] = [0x01, 0x90];

/// The policy of the key of a new authority; empty where keys are not guarded. `not_after` is the end of its certificate, where that is
/// known before the key is made.
///
/// # Errors
/// [`CaError::Hierarchy`] when the guard is wanted and the module is not ours.
pub(crate) fn policy(desk: &Desk, plan: &Plan, not_after: Option<i64>) -> Result<Vec<u8>, CaError> {
    let ours = match desk.guard.guard {
        Guard::Never => return Ok(Vec::new()),
        Guard::Auto | Guard::Always => desk.token.is_ours()?,
    };
    match (ours, desk.guard.guard) {
        (true, _) => written(plan, not_after, &desk.guard.extensions),
        (false, Guard::Always) => Err(CaError::Hierarchy(
            "token.guard = true wants our own token: another module enforces no policy".to_owned(),
        )),
        (false, _) => Ok(Vec::new()),
    }
}

fn written(plan: &Plan, not_after: Option<i64>, further: &[ObjectIdentifier]) -> Result<Vec<u8>, CaError> {
    // Every authority certifies its OCSP signer and asks for its own certificate.
    let common = END_ENTITY | CRL | REQUEST;
    let (kinds, path_length) = match plan.kind {
        AuthorityKind::Root => (common | AUTHORITY | OWN, None),
        AuthorityKind::Intermediate => (common | AUTHORITY, Some(plan.path_length.unwrap_or(1).saturating_sub(1))),
        AuthorityKind::Issuing | AuthorityKind::Imported => (common, None),
    };
    let bound = |number, value: &[u8]| write(context(number), &[value]);
    let listed = extension::WRITTEN_BY_US.iter().chain(extension::ADDED_BY_US).chain(further);
    let listed = listed.map(|oid| oid.to_der()).collect::<Result<Vec<_>, _>>()?.concat();
    let mut bounds = bound(0, &plan.subject.to_der()?);
    bounds.extend(path_length.map(|length| bound(1, &tlv::integer(&[length]))).unwrap_or_default());
    if let Some(not_after) = not_after {
        let seconds = Duration::from_secs(u64::try_from(not_after).unwrap_or(0));
        let time = GeneralizedTime::from_date_time(DateTime::from_unix_duration(seconds)?);
        bounds.extend(bound(3, &time.to_der()?));
    }
    bounds.extend(bound(4, &write(SEQUENCE, &[&listed])));
    bounds.extend(bound(5, &tlv::integer(&STATUS_DAYS)));
    Ok(write(SEQUENCE, &[&tlv::integer(&[VERSION]), &tlv::integer(&[kinds]), &bounds]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::algorithm::KeySpec;
    use std::str::FromStr;
    use x509_cert::name::Name;

    fn plan(kind: AuthorityKind, path_length: Option<u8>) -> Plan {
        Plan {
            id: "ca".to_owned(),
            kind,
            parent: String::new(),
            subject: Name::from_str("CN=CA").expect("parses"),
            key: KeySpec::EcP256,
            validity_seconds: 1,
            path_length,
            constraints: None,
            predecessor: String::new(),
        }
    }

    #[test]
    fn only_those_above_others_may_certify_authorities() {
        for (kind, path_length, kinds, bound) in [
            (AuthorityKind::Root, None, 47, None),
            (AuthorityKind::Intermediate, None, 43, Some(0)),
            (AuthorityKind::Intermediate, Some(3), 43, Some(2)),
            (AuthorityKind::Issuing, None, 41, None),
        ] {
            let policy = written(&plan(kind, path_length), Some(0), &[]).expect("encodes");
            let (whole, rest) = tlv::read(&policy).expect("reads");
            assert!(rest.is_empty());
            let elements: Vec<_> = tlv::elements(whole.content).collect();
            assert_eq!(elements[1].content, [kinds], "{kind:?}");
            let found = elements.iter().find(|element| element.tag == context(1)).map(|element| element.content);
            assert_eq!(found, bound.map(|length| [2, 1, length]).as_ref().map(|length| &length[..]), "{kind:?}");
        }
    }
}
