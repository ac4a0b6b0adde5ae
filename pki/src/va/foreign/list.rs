//! The lists of others: fetched, verified, kept, and fetched again in time.

use super::{REST_SECONDS, Settings};
use crate::clock;
use crate::counters;
use crate::fetch::{Address, Question};
use crate::store::query::Span;
use crate::store::record::ForeignList;
use crate::store::{Change, Conflict, Query, Record, Store, StoreError};
use crate::x509::foreign_crl::ForeignCrl;
use crate::x509::{ders_of, hex, name, sha256};
use der::{Decode, Encode};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use x509_cert::Certificate;

/// Lists that are kept at once.
const MAX_LISTS: usize = 1000;

/// What is known of a list.
struct Slot {
    issuer: Certificate,
    list: Option<(Arc<ForeignCrl>, [u8; 32])>,
    fetched_at: i64,
    tried_at: i64,
    fault: String,
}

impl Slot {
    fn of(issuer: Certificate) -> Self {
        Self { issuer, list: None, fetched_at: 0, tried_at: i64::MIN, fault: String::new() }
    }

    fn good_until(&self, after_its_end: i64) -> i64 {
        self.list.as_ref().map_or(i64::MIN, |(list, _)| list.next_update.saturating_add(after_its_end))
    }

    /// A list is fetched again as often as the settings say, and at the latest when half of its life is over.
    fn is_due(&self, settings: &Settings, now: i64) -> bool {
        let Some((list, _)) = &self.list else { return false };
        let half = list.next_update.saturating_sub(list.this_update) / 2;
        let due = self.fetched_at.saturating_add(settings.refresh_seconds).min(list.this_update.saturating_add(half));
        now >= due && !clock::is_within(REST_SECONDS, self.tried_at, now)
    }
}

/// Where a list is: the hash of its issuer's certificate, and its address.
type Place = (String, String);

/// The lists of others.
pub(super) struct Lists {
    store: Arc<dyn Store>,
    slots: Mutex<HashMap<Place, Arc<Mutex<Slot>>>>,
}

/// The name of a list in the store.
fn name_of(place: &Place) -> String {
    format!("{} {}", place.0, place.1)
}

impl Lists {
    /// The lists that were taken before.
    pub(super) fn open(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let mut slots = HashMap::new();
        let span = Span::first(MAX_LISTS);
        for stored in store.find(Query::ForeignLists(span))?.all(Record::foreign_list) {
            // It was verified when it was taken, and is again: the file may be another's.
            let Ok(issuer) = Certificate::from_der(&stored.issuer) else { continue };
            let mut slot = Slot::of(issuer);
            if let Ok(list) = ForeignCrl::read(&stored.der, &slot.issuer, stored.fetched_at) {
                slot.list = Some((Arc::new(list), sha256(&stored.der)));
                slot.fetched_at = stored.fetched_at;
            }
            slots.insert((hex(&sha256(&stored.issuer)), stored.url), Arc::new(Mutex::new(slot)));
        }
        Ok(Self { store, slots: Mutex::new(slots) })
    }

    /// The list of an issuer at an address, if there is one that holds. It is fetched when there is none.
    pub(super) fn current(
        &self,
        issuer: &Certificate,
        url: &str,
        settings: &Settings,
        now: i64,
    ) -> Result<Arc<ForeignCrl>, String> {
        let der = issuer.to_der().map_err(|fault| fault.to_string())?;
        let place = (hex(&sha256(&der)), url.to_owned());
        let slot = {
            let mut slots = self.slots.lock();
            if slots.len() >= MAX_LISTS && !slots.contains_key(&place) {
                return Err(format!("more than {MAX_LISTS} lists of others are named"));
            }
            Arc::clone(slots.entry(place.clone()).or_insert_with(|| Arc::new(Mutex::new(Slot::of(issuer.clone())))))
        };
        // One fetches, the others wait for him.
        let mut slot = slot.lock();
        if slot.good_until(0) <= now && !clock::is_within(REST_SECONDS, slot.tried_at, now) {
            self.fetch(&place, &mut slot, settings, now);
        }
        let is_old = slot.good_until(0) <= now;
        match &slot.list {
            Some((list, _)) if slot.good_until(settings.stale_seconds) > now => {
                if is_old {
                    tracing::warn!(event = "foreign_list_stale", url, fault = slot.fault);
                }
                Ok(Arc::clone(list))
            }
            Some(_) => Err(format!("the list that is known is over, and there is no newer one ({})", slot.fault)),
            None => Err(slot.fault.clone()),
        }
    }

    /// Fetches the lists again whose time has come.
    pub(super) fn refresh(&self, settings: &Settings, now: i64) {
        let slots: Vec<_> = self.slots.lock().iter().map(|(place, slot)| (place.clone(), Arc::clone(slot))).collect();
        let mut overdue = 0;
        for (place, slot) in slots {
            let mut slot = slot.lock();
            if slot.is_due(settings, now) {
                self.fetch(&place, &mut slot, settings, now);
            }
            overdue += u64::from(slot.good_until(0) <= now);
        }
        counters::foreign_lists_overdue(overdue);
    }

    fn fetch(&self, place: &Place, slot: &mut Slot, settings: &Settings, now: i64) {
        slot.tried_at = now;
        if let Err(fault) = self.try_fetch(place, slot, settings, now) {
            tracing::warn!(event = "foreign_list_not_taken", url = place.1, fault);
            counters::foreign_failed();
            slot.fault = fault;
        }
    }

    fn try_fetch(&self, place: &Place, slot: &mut Slot, settings: &Settings, now: i64) -> Result<(), String> {
        let url = &place.1;
        let address = Address::parse(url).ok_or("it is no address of http or https")?;
        let question = Question { headers: "Accept: application/pkix-crl\r\n", body: None };
        let answer = address.ask(settings.tls.clone(), question, settings.bounds).map_err(|fault| fault.to_string())?;
        if answer.status != 200 {
            return Err(format!("it answers with status {}", answer.status));
        }
        let der = ders_of(answer.body, "X509 CRL").into_iter().next().unwrap_or_default();
        let hash = sha256(&der);
        if slot.list.as_ref().is_some_and(|(_, known)| *known == hash) {
            slot.fetched_at = now;
            return Ok(());
        }
        let list = ForeignCrl::read(&der, &slot.issuer, now).map_err(|fault| fault.to_string())?;
        if slot.list.as_ref().is_some_and(|(known, _)| !list.may_follow(&known.number, known.this_update)) {
            return Err("it is older than the one that was taken before".to_owned());
        }
        if list.next_update <= now {
            return Err("it is over".to_owned());
        }
        let stored = ForeignList {
            name: name_of(place),
            url: url.clone(),
            issuer: slot.issuer.to_der().map_err(|fault| fault.to_string())?,
            number: list.number.clone(),
            this_update: list.this_update,
            next_update: list.next_update,
            fetched_at: now,
            der,
        };
        match self.store.commit(Change::ForeignListTaken(stored)) {
            Err(StoreError::Conflict(Conflict::Number)) => return Err("an older one than the store has".to_owned()),
            outcome => outcome.map_err(|fault| fault.to_string())?,
        }
        let issuer = name::text(slot.issuer.tbs_certificate().subject());
        tracing::info!(
            event = "foreign_list_taken",
            url,
            issuer,
            number = hex(&list.number),
            next_update = list.next_update
        );
        (slot.list, slot.fetched_at) = (Some((Arc::new(list), hash)), now);
        slot.fault = String::new();
        Ok(())
    }
}
