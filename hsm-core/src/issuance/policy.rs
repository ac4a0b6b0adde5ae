//! The policy: what a guarded key may certify. It is the value of CKA_CRATON_ISSUANCE_POLICY, in DER:
//!
//! ```text
//! IssuancePolicy ::= SEQUENCE {
//!     version        INTEGER (1),
//!     kinds          INTEGER,                        -- sum of: 1 end-entity certificate, 2 certificate of an authority,
//!                                                    -- 4 certificate of this key itself, 8 CRL, 16 OCSP answer,
//!                                                    -- 32 request of this key itself
//!     issuer     [0] EXPLICIT Name OPTIONAL,         -- the only issuer that may be named
//!     pathLength [1] EXPLICIT INTEGER OPTIONAL,      -- the longest path below an authority; without it any, or none
//!     days       [2] EXPLICIT INTEGER OPTIONAL,      -- the longest time from notBefore to notAfter
//!     notAfter   [3] EXPLICIT GeneralizedTime OPTIONAL,
//!     extensions [4] EXPLICIT SEQUENCE OF OBJECT IDENTIFIER OPTIONAL,  -- the only ones in a certificate
//!     statusDays [5] EXPLICIT INTEGER OPTIONAL,      -- the longest time from thisUpdate to nextUpdate
//!     purposes   [6] EXPLICIT SEQUENCE OF OBJECT IDENTIFIER OPTIONAL,  -- the only ones in extKeyUsage
//!     dnsNames   [7] EXPLICIT SEQUENCE OF IA5String OPTIONAL           -- the only trees of names in subjectAltName
//! }
//! ```

use super::der::{IA5_STRING, INTEGER, Item, OID, SEQUENCE, check};
use super::{Breach, breach, demand};

/// The only version.
const VERSION: u8 = 1;
/// The longest policy in bytes.
const LEN_MAX: usize = 8192;

/// Certificates of devices and services.
pub(super) const END_ENTITY: u8 = 1;
/// Certificates of authorities.
pub(super) const AUTHORITY: u8 = 2;
/// The certificate of the guarded key itself, signed by itself.
pub(super) const OWN: u8 = 4;
/// CRLs.
pub(super) const CRL: u8 = 8;
/// OCSP answers.
pub(super) const OCSP: u8 = 16;
/// The request for a certificate of the guarded key.
pub(super) const REQUEST: u8 = 32;
const KINDS: u8 = END_ENTITY | AUTHORITY | OWN | CRL | OCSP | REQUEST;

/// A policy that has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub(super) kinds: u8,
    pub(super) issuer: Option<Vec<u8>>,
    pub(super) path_length: Option<u8>,
    pub(super) days: Option<u32>,
    pub(super) not_after: Option<i64>,
    pub(super) extensions: Option<Vec<Vec<u8>>>,
    pub(super) status_days: Option<u32>,
    pub(super) purposes: Option<Vec<Vec<u8>>>,
    pub(super) dns_names: Option<Vec<Vec<u8>>>,
}

impl Policy {
    /// Reads the value of the attribute.
    ///
    /// # Errors
    /// What is wrong with it; an element that is not known is never skipped.
    pub fn read(bytes: &[u8]) -> Result<Policy, Breach> {
        const RULE: &str = "policy";
        demand(bytes.len() <= LEN_MAX, RULE, "the policy is too long")?;
        let item = Item::only(bytes)?;
        check(&item)?;
        demand(item.tag == SEQUENCE, RULE, "the policy is no SEQUENCE")?;
        let mut reader = item.reader();
        demand(reader.expect(INTEGER)?.octet() == Some(VERSION), RULE, "the policy has another version")?;
        let kinds = reader.expect(INTEGER)?.octet().filter(|kinds| *kinds != 0 && kinds & !KINDS == 0);
        let Some(kinds) = kinds else { return breach(RULE, "the policy names kinds that are not known, or none") };
        let whole = |item: Item<'_>| item.whole.to_vec();
        let issuer = reader.inside(0)?.map(|name| has(name, SEQUENCE).map(whole)).transpose()?;
        let path_length = reader.inside(1)?.map(|item| item.octet().ok_or_else(out_of_range)).transpose()?;
        let days = reader.inside(2)?.map(|item| item.number().ok_or_else(out_of_range)).transpose()?;
        let not_after = reader.inside(3)?.map(|item| item.time()).transpose()?;
        let extensions = reader.inside(4)?.map(|item| list_of(item, OID)).transpose()?;
        let status_days = reader.inside(5)?.map(|item| item.number().ok_or_else(out_of_range)).transpose()?;
        let purposes = reader.inside(6)?.map(|item| list_of(item, OID)).transpose()?;
        let dns_names = reader.inside(7)?.map(|item| list_of(item, IA5_STRING)).transpose()?;
        reader.end()?;
        Ok(Policy { kinds, issuer, path_length, days, not_after, extensions, status_days, purposes, dns_names })
    }

    /// Whether signatures within it are counted: answers about certificates are nothing to account for, and are many.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.kinds != OCSP
    }

    /// Whether all of some kinds may be signed.
    pub(super) fn allows(&self, kind: u8) -> bool {
        self.kinds & kind == kind
    }
}

fn out_of_range() -> Breach {
    Breach { rule: "policy", what: "a number of the policy is out of range" }
}

fn has(item: Item<'_>, tag: u8) -> Result<Item<'_>, Breach> {
    demand(item.tag == tag, "policy", "an element of the policy has another type")?;
    Ok(item)
}

fn list_of(item: Item<'_>, tag: u8) -> Result<Vec<Vec<u8>>, Breach> {
    let mut reader = has(item, SEQUENCE)?.reader();
    let mut list = Vec::new();
    while !reader.is_empty() {
        list.push(reader.expect(tag)?.contents.to_vec());
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_skipped() {
        assert!(Policy::read(&[0x30, 6, 2, 1, 1, 2, 1, 8]).is_ok());
        let bounded = [0x30, 16, 2, 1, 1, 2, 1, 1, 0xa1, 3, 2, 1, 0, 0xa2, 3, 2, 1, 90];
        let read = Policy::read(&bounded).expect("a policy");
        assert_eq!((read.kinds, read.path_length, read.days, read.issuer), (END_ENTITY, Some(0), Some(90), None));
        let is_counted = |kinds| Policy::read(&[0x30, 6, 2, 1, 1, 2, 1, kinds]).expect("a policy").is_counted();
        assert!(is_counted(END_ENTITY) && is_counted(CRL | OCSP) && !is_counted(OCSP));
        let listed = [0x30, 19, 2, 1, 1, 2, 1, 1, 0xa6, 5, 0x30, 3, 6, 1, 42, 0xa7, 4, 0x30, 2, 0x16, 0];
        let read = Policy::read(&listed).expect("a policy");
        assert_eq!((read.purposes, read.dns_names), (Some(vec![vec![42]]), Some(vec![vec![]])));
        let bad: [&[u8]; 9] = [
            &[],
            &[0x30, 0],
            &[0x30, 6, 2, 1, 2, 2, 1, 8],
            &[0x30, 6, 2, 1, 1, 2, 1, 0],
            &[0x30, 6, 2, 1, 1, 2, 1, 64],
            &[0x30, 11, 2, 1, 1, 2, 1, 8, 0xa6, 3, 2, 1, 0],
            &[0x30, 11, 2, 1, 1, 2, 1, 8, 0xa8, 3, 2, 1, 0],
            &[0x30, 11, 2, 1, 1, 2, 1, 8, 0xa1, 3, 2, 1, 0xff],
            &[0x30, 16, 2, 1, 1, 2, 1, 1, 0xa2, 3, 2, 1, 90, 0xa1, 3, 2, 1, 0],
        ];
        bad.into_iter().for_each(|bytes| assert!(Policy::read(bytes).is_err(), "{bytes:?}"));
    }
}
