//! Making CRLs (RFC 5280 section 5): the number is durable before the list is signed, the list before it is served.
//!
//! An authority publishes a list for each of its shards (number 0 is the list that is whole when there are no shards), and beside
//! each a delta if the schedule has any. A new list is made from the one before and from what changed since: the cost
//! follows the changes, not the certificates. Only one list of a shard is made at a time; who comes while one is being made
//! finds its revocation on that one or on the next, which then serves all who waited.

use crate::ca::authority::Authority;
use crate::ca::sweep;
use crate::ca::{CaError, Desk};
use crate::clock;
use crate::store::kind::AuthorityKind;
use crate::store::query::{MAX_PAGE, Span};
use crate::store::record::{Crl, CrlList};
use crate::store::{Change, Query, Record, StoreError};
use crate::va::history::{self, Changes};
use crate::x509::crl::{self, Contents, Entries};
use crate::x509::extension::CrlScope;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A number above every one that was given out before an instant, here or elsewhere, as long as numbers rise from 1 or from such a
/// number, and by fewer than a million a second. It is for lists whose last number is not known: relying parties keep the list
/// with the greater number (RFC 5280 section 5.2.3).
pub(crate) fn least_number_at(now: i64) -> u64 {
    u64::try_from(now).unwrap_or(0) << 20
}

/// How long a CRL is good.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    /// From thisUpdate to nextUpdate.
    pub(crate) validity_seconds: i64,
    /// How long before nextUpdate the next one is due.
    pub(crate) overlap_seconds: i64,
    /// From thisUpdate to nextUpdate of a delta; 0 for no deltas.
    pub(crate) delta_seconds: i64,
}

/// The one who makes CRLs.
pub(crate) struct CrlOffice {
    desk: Desk,
    schedule: Schedule,
    /// One list of a shard at a time, so that numbers and contents rise together.
    turns: Mutex<HashMap<CrlList, Arc<Mutex<()>>>>,
}

/// Which lists are to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edition {
    /// A base; with deltas a delta of the same number.
    Base,
    /// A delta to the last base.
    Delta,
}

impl CrlOffice {
    /// An office at a desk.
    pub(crate) fn new(desk: Desk, schedule: Schedule) -> Self {
        Self { desk, schedule, turns: Mutex::default() }
    }

    /// The desk it sits at.
    pub(crate) fn desk(&self) -> &Desk {
        &self.desk
    }

    /// The lists of an authority: one for each shard that certificates are or were issued into.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn lists(&self, authority: &str) -> Result<Vec<CrlList>, StoreError> {
        let shards = self.desk.publication.shards(authority);
        let mut lists: BTreeMap<u32, CrlList> =
            (0..=shards).map(|shard| (shard, CrlList::base(authority, shard))).collect();
        for crl in self.published(authority)? {
            lists.entry(crl.list().shard).or_insert_with(|| crl.list().to_base());
        }
        Ok(lists.into_values().collect())
    }

    /// The records of an authority's lists, without the lists themselves.
    fn published(&self, authority: &str) -> Result<Vec<Crl>, StoreError> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let span = Span { after, limit: MAX_PAGE };
            let page = self.desk.store.find(Query::Crls { authority: authority.to_owned(), span })?;
            after = page.next.clone();
            all.extend(page.all(Record::crl));
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// Makes and publishes new lists of all shards of an authority, due or not. Gives the one of the smallest shard.
    ///
    /// # Errors
    /// When the token or the store fails; the old lists stay in place.
    pub(crate) fn publish(&self, authority: &str, now: i64) -> Result<Crl, CaError> {
        let mut first = None;
        for list in self.lists(authority)? {
            let crl = self.in_turn(&list, |before| self.make(&list, before, Edition::Base, now))?;
            first = first.or(Some(crl));
        }
        first.ok_or(CaError::NotInitialised)
    }

    /// Publishes what a revocation asks for: at once, and once for all who wait at the same time.
    ///
    /// # Errors
    /// When the token or the store fails; the old list stays in place.
    pub(crate) fn publish_pending(&self, list: &CrlList, now: i64) -> Result<Crl, CaError> {
        self.in_turn(list, |before| {
            if before.number > 0 && before.pending == 0 {
                return Ok(before);
            }
            let edition = if self.has_deltas() && before.number > 0 { Edition::Delta } else { Edition::Base };
            self.make(list, before, edition, now)
        })
    }

    /// Publishes what is due: lists that run out soon, and lists that miss a revocation.
    ///
    /// # Errors
    /// The first failure, after every list had its turn.
    pub(crate) fn publish_due(&self, now: i64) -> Result<(), CaError> {
        let mut outcome = Ok(());
        for authority in self.desk.authorities()? {
            // Who has no key here publishes elsewhere; who is not in force publishes nothing.
            if !authority.has_key() || authority.in_force(now).is_err() {
                continue;
            }
            for list in self.lists(&authority.id)? {
                if let Err(fault) = self.publish_if_due(&authority, &list, now) {
                    tracing::error!(event = "crl_not_published", list = list.name(), %fault);
                    outcome = Err(fault);
                }
            }
        }
        outcome
    }

    fn publish_if_due(&self, issuer: &Authority, list: &CrlList, now: i64) -> Result<(), CaError> {
        let state = self.state(list)?;
        // One that runs out because its authority does is replaced by none.
        let runs_out = |crl: &Crl, overlap: i64| {
            let is_near = crl.next_update.saturating_sub(overlap) <= now;
            is_near && crl.next_update < self.next_update(&crl.list(), issuer, now)
        };
        // One that was made while the clock was ahead is good for nobody until then.
        let is_due = |crl: &Crl, overlap: i64| {
            crl.number == 0 || clock::is_to_come(crl.this_update, now) || runs_out(crl, overlap)
        };
        if is_due(&state, self.schedule.overlap_seconds) {
            return self.in_turn(list, |before| self.make(list, before, Edition::Base, now)).map(drop);
        }
        if self.has_deltas() {
            let delta = self.state(&list.to_delta())?;
            if is_due(&delta, self.schedule.delta_seconds / 4) {
                return self.in_turn(list, |before| self.make(list, before, Edition::Delta, now)).map(drop);
            }
        }
        // The records of a sweep go on one list, when they are complete: whoever asks is told before.
        let is_complete = sweep::open(self.desk.store.as_ref())?.is_empty();
        if state.pending > 0 && is_complete { self.publish_pending(list, now).map(drop) } else { Ok(()) }
    }

    /// Until when a list is good that is made now: its authority's certificate must be.
    fn next_update(&self, list: &CrlList, issuer: &Authority, now: i64) -> i64 {
        let seconds = if list.is_delta { self.schedule.delta_seconds } else { self.schedule.validity_seconds };
        now.saturating_add(seconds).min(issuer.not_after)
    }

    fn has_deltas(&self) -> bool {
        self.schedule.delta_seconds > 0
    }

    /// The record of a list, without the list itself.
    fn state(&self, list: &CrlList) -> Result<Crl, StoreError> {
        if let Some(record) = self.desk.store.crl_record(&list.name())? {
            return Ok(record);
        }
        let least = self.desk.store.find(Query::LeastCrlNumber)?.one(Record::count);
        Ok(Crl { authority: list.name(), last_number: least.unwrap_or(0), ..Crl::default() })
    }

    fn in_turn(&self, list: &CrlList, make: impl FnOnce(Crl) -> Result<Crl, CaError>) -> Result<Crl, CaError> {
        let turn = Arc::clone(self.turns.lock().entry(list.to_base()).or_default());
        let _turn = turn.lock();
        make(self.state(list)?)
    }

    /// Makes one edition. `before` is the record of the base.
    fn make(&self, list: &CrlList, mut before: Crl, edition: Edition, now: i64) -> Result<Crl, CaError> {
        let store = self.desk.store.as_ref();
        if edition == Edition::Base && before.is_followed {
            before.der = store.crl(&list.name())?.unwrap_or_default().der;
        }
        let issuer = Authority::load(store, &list.authority)?;
        issuer.in_force(now)?;
        // An imported key may have signed lists elsewhere.
        let is_first_here = before.last_number == 0 && issuer.kind == AuthorityKind::Imported;
        let least = if is_first_here { least_number_at(now) } else { 1 };
        let number = before.last_number.saturating_add(1).max(least);
        let has_delta = self.has_deltas() && before.number > 0;
        let lists = u64::from(edition == Edition::Base) + u64::from(has_delta);
        store.commit(Change::CrlNumbered { list: list.name(), number, lists })?;
        let changes = Changes::since(store, list, before.through)?;
        let mut made = Vec::new();
        if edition == Edition::Base {
            let entries = history::base(store, list, &before, &changes)?;
            made.push(self.sign(&issuer, list, number, &entries, now, None)?);
        }
        if has_delta {
            let entries = history::delta(store, list, &changes)?;
            made.push(self.sign(&issuer, &list.to_delta(), number, &entries, now, Some(before.number))?);
        }
        for crl in &mut made {
            crl.through = changes.last;
        }
        let first = made.first().cloned().ok_or(CaError::NotInitialised)?;
        store.commit(Change::CrlPublished { crls: made, answers: before.pending })?;
        let (changed, next_update) = (changes.changed.len(), first.next_update);
        tracing::info!(event = "crl_published", list = first.authority, number, next_update, changed);
        tracing::debug!(rows_read = store.rows_read(), "records read by questions since the start");
        Ok(first)
    }

    fn sign(
        &self,
        issuer: &Authority,
        list: &CrlList,
        number: u64,
        entries: &Entries,
        now: i64,
        base_number: Option<u64>,
    ) -> Result<Crl, CaError> {
        let next_update = self.next_update(list, issuer, now);
        let publication = &self.desk.publication;
        // The address in the list is the one in the certificates that it covers (RFC 5280 section 5.2.5).
        let own_url = publication.crl_url(&list.to_base());
        let freshest_url = publication.crl_url(&list.to_delta());
        let is_partial = list.shard > 0 || publication.shards(&list.authority) > 0;
        let contents = Contents {
            algorithm: issuer.key.spec.signature_algorithm(),
            issuer: &issuer.name,
            issuer_key_id: &issuer.key_id,
            number,
            this_update: now,
            next_update,
            scope: CrlScope {
                own_url: is_partial.then_some(own_url.as_str()),
                freshest_url: (self.has_deltas() && !list.is_delta).then_some(freshest_url.as_str()),
                base_number,
            },
            entries,
        };
        Ok(Crl {
            authority: list.name(),
            number,
            der: issuer.sign(&self.desk, &crl::encode(&contents)?)?,
            this_update: now,
            next_update,
            base_number: base_number.unwrap_or(0),
            is_followed: true,
            ..Crl::default()
        })
    }
}
