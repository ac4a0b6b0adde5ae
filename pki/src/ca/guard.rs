//! The issuance policy of an authority's key, which our token enforces (docs/guard.md): what the authority is made for, for all its life.
//! It bounds a process that was taken over; what is right for a request the profiles say.

use super::plan::Plan;
use super::{CaError, Desk};
use crate::clock::DAY_SECONDS;
use crate::store::kind::AuthorityKind;
use crate::x509::extension;
use crate::x509::tlv::{self, IA5_STRING, SEQUENCE, context, write};
use const_oid::ObjectIdentifier;
use der::asn1::GeneralizedTime;
use der::{DateTime, Encode};
use std::time::Duration;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

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
    /// Purposes that profiles give.
    pub(crate) purposes: Vec<ObjectIdentifier>,
    /// The longest that a certificate of an end entity is made for; none when one is made without end.
    pub(crate) longest_seconds: Option<i64>,
}

/// The version of the policy.
const VERSION: u8 = 1;
/// Kinds of structures (docs/guard.md).
const END_ENTITY: u8 = 1;
const AUTHORITY: u8 = 2;
const OWN: u8 = 4;
const CRL: u8 = 8;
const OCSP: u8 = 16;
const REQUEST: u8 = 32;
/// Longer than any schedule of CRLs, shorter than for ever.
const STATUS_DAYS: [u8; 2] = [0x01, 0x90];

/// Purposes of the certificates that the house gives itself.
const OWN_PURPOSES: &[ObjectIdentifier] =
    &[extension::SERVER_AUTH, extension::OCSP_SIGNING, extension::CMC_RA, extension::DOCUMENT_SIGNING];
/// The days of certificates that an issuing authority may sign in any case, so that a profile can grow without a new key.
const LEAST_DAYS: i64 = 730;

/// The policy of the key of a new authority; empty where keys are not guarded. `not_after` is the end of its certificate, where that is
/// known before the key is made.
///
/// # Errors
/// [`CaError::Hierarchy`] when the guard is wanted and the module is not ours.
pub(crate) fn policy(desk: &Desk, plan: &Plan, not_after: Option<i64>) -> Result<Vec<u8>, CaError> {
    if is_wanted(desk)? { written(plan, not_after, &desk.guard) } else { Ok(Vec::new()) }
}

/// The policy of the key of a delegated responder: it signs OCSP answers in this name, and nothing else. Empty where keys are not guarded.
///
/// # Errors
/// As [`policy`].
pub(crate) fn of_responder(desk: &Desk, name: &Name) -> Result<Vec<u8>, CaError> {
    if !is_wanted(desk)? {
        return Ok(Vec::new());
    }
    let bounds = [bound(0, &name.to_der()?), bound(5, &tlv::integer(&STATUS_DAYS))].concat();
    Ok(write(SEQUENCE, &[&tlv::integer(&[VERSION]), &tlv::integer(&[OCSP]), &bounds]))
}

fn is_wanted(desk: &Desk) -> Result<bool, CaError> {
    match desk.guard.guard {
        Guard::Never => Ok(false),
        Guard::Auto => Ok(desk.token.is_ours()?),
        Guard::Always if desk.token.is_ours()? => Ok(true),
        Guard::Always => Err(CaError::Hierarchy(
            "token.guard = true wants our own token: another module enforces no policy".to_owned(),
        )),
    }
}

fn bound(number: u8, value: &[u8]) -> Vec<u8> {
    write(context(number), &[value])
}

fn list(identifiers: impl Iterator<Item = ObjectIdentifier>) -> Result<Vec<u8>, CaError> {
    let all = identifiers.map(|oid| oid.to_der()).collect::<Result<Vec<_>, _>>()?.concat();
    Ok(write(SEQUENCE, &[&all]))
}

/// The trees of DNS names that an authority is permitted; none when it is bound to no tree.
fn dns_trees(plan: &Plan) -> Option<Vec<u8>> {
    let permitted = plan.constraints.as_ref().and_then(|constraints| constraints.permitted_subtrees.as_ref())?;
    let trees: Vec<u8> = permitted
        .iter()
        .filter_map(|subtree| match &subtree.base {
            GeneralName::DnsName(tree) => Some(write(IA5_STRING, &[tree.as_str().trim_start_matches('.').as_bytes()])),
            _ => None,
        })
        .flatten()
        .collect();
    (!trees.is_empty()).then(|| write(SEQUENCE, &[&trees]))
}

fn written(plan: &Plan, not_after: Option<i64>, rules: &GuardRules) -> Result<Vec<u8>, CaError> {
    // Every authority certifies its OCSP signer and asks for its own certificate.
    let common = END_ENTITY | CRL | REQUEST;
    let (kinds, path_length) = match plan.kind {
        AuthorityKind::Root => (common | AUTHORITY | OWN, None),
        AuthorityKind::Intermediate => (common | AUTHORITY, Some(plan.path_length.unwrap_or(1).saturating_sub(1))),
        AuthorityKind::Issuing | AuthorityKind::Imported => (common, None),
    };
    let listed = extension::WRITTEN_BY_US.iter().chain(extension::ADDED_BY_US).chain(&rules.extensions);
    // Who certifies authorities certifies them for longer than any device.
    let longest = rules.longest_seconds.filter(|_| kinds & AUTHORITY == 0);
    let mut bounds = bound(0, &plan.subject.to_der()?);
    bounds.extend(path_length.map(|length| bound(1, &tlv::integer(&[length]))).unwrap_or_default());
    if let Some(longest) = longest {
        let days = (longest / DAY_SECONDS).saturating_mul(2).max(LEAST_DAYS);
        bounds.extend(bound(2, &tlv::integer(&u32::try_from(days).unwrap_or(u32::MAX).to_be_bytes())));
    }
    if let Some(not_after) = not_after {
        let seconds = Duration::from_secs(u64::try_from(not_after).unwrap_or(0));
        let time = GeneralizedTime::from_date_time(DateTime::from_unix_duration(seconds)?);
        bounds.extend(bound(3, &time.to_der()?));
    }
    bounds.extend(bound(4, &list(listed.copied())?));
    bounds.extend(bound(5, &tlv::integer(&STATUS_DAYS)));
    bounds.extend(bound(6, &list(OWN_PURPOSES.iter().chain(&rules.purposes).copied())?));
    bounds.extend(dns_trees(plan).map(|trees| bound(7, &trees)).unwrap_or_default());
    Ok(write(SEQUENCE, &[&tlv::integer(&[VERSION]), &tlv::integer(&[kinds]), &bounds]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::algorithm::KeySpec;
    use crate::x509::constraint;
    use std::str::FromStr;

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
            let policy = written(&plan(kind, path_length), Some(0), &GuardRules::default()).expect("encodes");
            let (whole, rest) = tlv::read(&policy).expect("reads");
            assert!(rest.is_empty());
            let elements: Vec<_> = tlv::elements(whole.content).collect();
            assert_eq!(elements[1].content, [kinds], "{kind:?}");
            let found = elements.iter().find(|element| element.tag == context(1)).map(|element| element.content);
            assert_eq!(found, bound.map(|length| [2, 1, length]).as_ref().map(|length| &length[..]), "{kind:?}");
        }
    }

    /// The bound of this number in the policy of a plan, under rules of this longest time.
    fn found(plan: &Plan, number: u8, longest_seconds: Option<i64>) -> Option<Vec<u8>> {
        let rules = GuardRules { longest_seconds, ..GuardRules::default() };
        let policy = written(plan, None, &rules).expect("encodes");
        let (whole, _) = tlv::read(&policy).expect("reads");
        let found = tlv::elements(whole.content).find(|element| element.tag == context(number));
        found.map(|element| element.content.to_vec())
    }

    #[test]
    fn how_long_and_for_which_names_an_issuing_authority_certifies_is_bounded() {
        let day = DAY_SECONDS;
        for (kind, longest, days) in [
            (AuthorityKind::Issuing, Some(90 * day), Some(vec![2, 2, 0x02, 0xDA])),
            (AuthorityKind::Issuing, Some(1000 * day), Some(vec![2, 2, 0x07, 0xD0])),
            (AuthorityKind::Issuing, None, None),
            (AuthorityKind::Intermediate, Some(90 * day), None),
            (AuthorityKind::Root, Some(90 * day), None),
        ] {
            assert_eq!(found(&plan(kind, None), 2, longest), days, "{kind:?} {longest:?}");
        }
        let permit = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            Plan { constraints: constraint::parse(&names, &[]).expect("parses"), ..plan(AuthorityKind::Issuing, None) }
        };
        assert_eq!(found(&permit(&[]), 7, None), None);
        assert_eq!(found(&permit(&["ip:10.0.0.0/8"]), 7, None), None);
        let tree = found(&permit(&["ip:10.0.0.0/8", "dns:a.example"]), 7, None);
        assert_eq!(tree, Some([&[SEQUENCE, 11, IA5_STRING, 9][..], b"a.example"].concat()));
    }
}
