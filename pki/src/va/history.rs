//! What stands on the next CRL: the entries of the last one, and what changed since. It knows no token, and reads as many records as
//! changed, however many certificates there are.

use crate::ca::CaError;
use crate::store::query::{MAX_PAGE, Span};
use crate::store::record::{Crl, CrlChange, CrlList, Revocation};
use crate::store::{Query, Record, Store, StoreError};
use crate::x509::crl::{Entries, Entry};
use crate::x509::reason;
use std::collections::{BTreeMap, HashSet};
use x509_cert::ext::pkix::CrlReason;

/// What changed on a list.
pub(crate) struct Changes {
    /// The point of its history up to which this goes.
    pub(crate) last: u64,
    /// The first change of each serial number: it tells whether the base had it.
    pub(crate) changed: BTreeMap<Vec<u8>, CrlChange>,
}

impl Changes {
    /// What changed since a point.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn since(store: &dyn Store, list: &CrlList, through: u64) -> Result<Self, StoreError> {
        let mut changes = Self { last: through, changed: BTreeMap::new() };
        let mut after = None;
        loop {
            let span = Span { after, limit: MAX_PAGE };
            let page = store.find(Query::CrlChanges { list: list.name(), through, span })?;
            after = page.next.clone();
            for change in page.all(Record::crl_change) {
                changes.last = changes.last.max(change.sequence);
                changes.changed.entry(change.serial.clone()).or_insert(change);
            }
            if after.is_none() {
                return Ok(changes);
            }
        }
    }
}

/// The entries of the next base.
///
/// # Errors
/// When the store fails, or the published list does not decode.
pub(crate) fn base(store: &dyn Store, list: &CrlList, before: &Crl, changes: &Changes) -> Result<Entries, CaError> {
    if !before.is_followed {
        return all(store, list);
    }
    let damaged = || StoreError::Damaged(format!("the CRL '{}' does not decode", list.name()));
    let mut entries = Entries::of_list(&before.der).ok_or_else(damaged)?;
    entries.remove(&changes.changed.keys().cloned().collect::<HashSet<_>>());
    for serial in changes.changed.keys() {
        if let Some(revocation) = store.revocation(&list.name(), serial)? {
            entries.add(&entry(revocation))?;
        }
    }
    Ok(entries)
}

/// The entries of the next delta.
///
/// # Errors
/// When the store fails.
pub(crate) fn delta(store: &dyn Store, list: &CrlList, changes: &Changes) -> Result<Entries, CaError> {
    let mut entries = Entries::default();
    for (serial, change) in &changes.changed {
        match store.revocation(&list.name(), serial)? {
            Some(revocation) => entries.add(&entry(revocation))?,
            // Released from hold since the base that lists it.
            None if change.was_listed && !change.is_pruned => entries.add(&Entry {
                serial: serial.clone(),
                revoked_at: change.at,
                reason: CrlReason::RemoveFromCRL,
                invalid_since: 0,
            })?,
            None => {}
        }
    }
    Ok(entries)
}

/// Every entry from its record: for the first list, or after one that an earlier version of this program made.
fn all(store: &dyn Store, list: &CrlList) -> Result<Entries, CaError> {
    let mut entries = Entries::default();
    let mut after = None;
    loop {
        let span = Span { after, limit: MAX_PAGE };
        let page = store.find(Query::Revocations { list: list.name(), span })?;
        after = page.next.clone();
        for revocation in page.all(Record::revocation) {
            entries.add(&entry(revocation))?;
        }
        if after.is_none() {
            return Ok(entries);
        }
    }
}

fn entry(revocation: Revocation) -> Entry {
    Entry {
        serial: revocation.serial,
        revoked_at: revocation.revoked_at,
        reason: reason::of_code(revocation.reason),
        invalid_since: revocation.invalid_since,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Change;
    use crate::store::record::{Certificate, CertificateState, Intent};
    use crate::store::redb::RedbStore;
    use crate::x509::algorithm::KeySpec;
    use crate::x509::crl::{Contents, encode};
    use crate::x509::extension::CrlScope;
    use crate::x509::tbs;
    use std::str::FromStr;
    use x509_cert::name::Name;

    const HOLD: u32 = 6;

    fn serial(number: u32) -> Vec<u8> {
        [&[0x41; 12][..], &number.to_be_bytes()].concat()
    }

    /// A store with certificates for the house of one authority, the first `revoked` of them revoked.
    fn store(certificates: u32, revoked: u32, not_after: i64) -> RedbStore {
        let store = RedbStore::in_memory().expect("store");
        for number in 0..certificates {
            let intent = Intent { serial: serial(number), authority: "issuing".to_owned(), ..Intent::default() };
            store.commit(Change::Intend(intent)).expect("intent");
            let certificate = Certificate {
                serial: serial(number),
                authority: "issuing".to_owned(),
                state: CertificateState::Active.into(),
                not_after,
                ..Certificate::default()
            };
            store.commit(Change::Issued { role: format!("role-{number}"), certificate }).expect("issued");
        }
        revoke(&store, 0..revoked, 4);
        store
    }

    fn revoke(store: &RedbStore, numbers: std::ops::Range<u32>, reason: u32) {
        if !numbers.is_empty() {
            let serials = numbers.map(serial).collect();
            store.commit(Change::Revoked { serials, reason, at: 20, invalid_since: 0 }).expect("revoked");
        }
    }

    /// Publishes what the office would publish, without a signature that means anything. Gives the number of entries.
    fn publish(store: &RedbStore, now: i64) -> usize {
        let list = CrlList::base("issuing", 0);
        let before = store.crl("issuing").expect("answer").unwrap_or_default();
        let number = before.last_number + 1;
        store.commit(Change::CrlNumbered { list: list.name(), number, lists: 1 }).expect("numbered");
        let changes = Changes::since(store, &list, before.through).expect("changes");
        let entries = base(store, &list, &before, &changes).expect("entries");
        let algorithm = KeySpec::EcP256.signature_algorithm();
        let contents = Contents {
            algorithm: algorithm.clone(),
            issuer: &Name::from_str("CN=Issuer").expect("parses"),
            issuer_key_id: &[7; 20],
            number,
            this_update: now,
            next_update: now + 1,
            scope: CrlScope { own_url: None, freshest_url: None, base_number: None },
            entries: &entries,
        };
        let der = tbs::join(&encode(&contents).expect("encodes"), algorithm, &[0; 70]).expect("joins");
        let (through, authority) = (changes.last, list.name());
        let crl = Crl { authority, number, der, this_update: now, through, is_followed: true, ..Crl::default() };
        store.commit(Change::CrlPublished { crls: vec![crl], answers: before.pending }).expect("published");
        entries.len()
    }

    #[test]
    fn the_cost_of_a_list_follows_what_changed_not_how_many_there_are() {
        let (mut read, mut by_changes) = (Vec::new(), Vec::new());
        for (certificates, revoked) in [(20, 10), (4000, 2000)] {
            let store = store(certificates, revoked, 1000);
            assert_eq!(publish(&store, 30), revoked as usize);
            revoke(&store, revoked..revoked + 1, 1);
            let (before, before_changes) = (store.rows_read(), store.rows_read_by_changes());
            assert_eq!(publish(&store, 40), revoked as usize + 1);
            read.push(store.rows_read() - before);
            by_changes.push(store.rows_read_by_changes() - before_changes);
        }
        assert_eq!(read[0], read[1], "rows read for one revocation among few and among many");
        assert!(read[0] < 10, "{read:?}");
        // The journal's tree grows by a level when it doubles.
        assert!(by_changes[1] <= by_changes[0] + 30 && by_changes[1] < 60, "{by_changes:?}");
    }

    #[test]
    fn a_list_made_step_by_step_is_the_one_made_at_once() {
        let store = store(12, 3, 1000);
        assert_eq!(publish(&store, 30), 3);
        revoke(&store, 5..7, HOLD);
        assert_eq!(publish(&store, 40), 5);
        store.commit(Change::Released { serial: serial(5), at: 41 }).expect("released");
        revoke(&store, 6..7, 1);
        assert_eq!(publish(&store, 50), 4);
        let list = CrlList::base("issuing", 0);
        let stored = store.crl("issuing").expect("answer").expect("published");
        let mut step_by_step = Entries::of_list(&stored.der).expect("reads");
        let at_once = all(&store, &list).expect("entries");
        assert_eq!(step_by_step.len(), at_once.len());
        step_by_step.remove(&[0, 1, 2, 6].into_iter().map(serial).collect());
        assert_eq!(step_by_step.len(), 0);
    }

    #[test]
    fn an_expired_entry_stands_on_one_list_after_its_expiry() {
        let store = store(3, 2, 100);
        assert_eq!(publish(&store, 90), 2);
        assert_eq!(publish(&store, 101), 2, "the first list after the expiry still has it");
        assert_eq!(publish(&store, 102), 0);
        assert_eq!(publish(&store, 103), 0);
    }

    #[test]
    fn a_delta_tells_what_the_base_does_not() {
        let store = store(8, 2, 1000);
        revoke(&store, 2..3, HOLD);
        publish(&store, 30);
        let through = store.crl("issuing").expect("answer").expect("published").through;
        let list = CrlList::base("issuing", 0);
        let entries = |store: &RedbStore| {
            let changes = Changes::since(store, &list, through).expect("changes");
            delta(store, &list, &changes).expect("entries").len()
        };
        assert_eq!(entries(&store), 0);
        revoke(&store, 4..5, 1);
        assert_eq!(entries(&store), 1);
        // Held and released since the base: it never stood there, so there is nothing to take off.
        revoke(&store, 5..6, HOLD);
        store.commit(Change::Released { serial: serial(5), at: 31 }).expect("released");
        assert_eq!(entries(&store), 1);
        // Held on the base and released since: removeFromCRL.
        store.commit(Change::Released { serial: serial(2), at: 32 }).expect("released");
        assert_eq!(entries(&store), 2);
    }
}
