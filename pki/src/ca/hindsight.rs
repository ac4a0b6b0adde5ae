//! What was done too early because the clock was ahead, undone once it is right again: notices of expiry that were passed over, devices
//! that were taken for expired, entries that left the CRLs of certificates that are good for longer.
//!
//! That the clock was ahead is noted before anything else, so that a kill loses nothing; then the certificates are read in pieces, between
//! which the store does other work. Where the clock was never ahead this costs one record a second.

use super::{CaError, PIECE};
use crate::clock;
use crate::store::lifecycle::{self, Event};
use crate::store::query::{Cursor, Span};
use crate::store::record::{Certificate, CertificateState, ClockAhead, CrlList, Device, Due, DueEvent};
use crate::store::{Change, Conflict, Query, Record, Store, StoreError, Undone, notice};
use serde_json::Value;

/// What is done an hour too early needs no undoing.
const WORTH_SECONDS: i64 = 3600;

/// Notes that the clock was ahead, if the newest record of the journal is from an instant that has not come.
///
/// # Errors
/// When the store fails.
pub(crate) fn look_back(store: &dyn Store, now: i64) -> Result<(), StoreError> {
    let size = store.find(Query::JournalSize)?.one(Record::count).unwrap_or(0);
    let Some(last) = size.checked_sub(1) else { return Ok(()) };
    let newest = store.find(Query::Leaf { index: last })?.one(Record::leaf);
    let at = newest.and_then(|leaf| serde_json::from_str::<Value>(&leaf.line).ok()?.get("at")?.as_i64());
    went_back(store, at.unwrap_or(0), now)
}

/// Notes that the clock was ahead, and how far it had come.
///
/// # Errors
/// When the store fails.
pub(crate) fn went_back(store: &dyn Store, until: i64, now: i64) -> Result<(), StoreError> {
    if until.saturating_sub(now) <= WORTH_SECONDS {
        return Ok(());
    }
    tracing::warn!(event = "clock_was_ahead", until = clock::instant_text(until), "what was done too early is undone");
    store.commit(Change::ClockWentBack { until, at: now })
}

/// How far the clock was ahead, if it ever was.
///
/// # Errors
/// When the store fails.
pub(crate) fn ahead(store: &dyn Store) -> Result<Option<ClockAhead>, StoreError> {
    Ok(store.find(Query::ClockAhead)?.one(Record::clock_ahead))
}

/// Undoes what was done too early, if there is anything left to do. Gives how many certificates that concerned.
///
/// # Errors
/// When the store fails; the rest is done when it is called again.
pub(crate) fn go_on(store: &dyn Store, now: i64) -> Result<usize, CaError> {
    let mut count = 0;
    while let Some(ahead) = ahead(store)?.filter(|ahead| ahead.is_open) {
        let after = (!ahead.after.is_empty()).then(|| Cursor(ahead.after.clone()));
        let page = store.find(Query::Certificates(Span { after, limit: PIECE }))?;
        let next = page.next.clone().map(|cursor| cursor.0);
        let mut undone = Vec::new();
        for certificate in page.all(Record::certificate) {
            undone.extend(judged(store, &certificate, ahead.until, now)?);
        }
        let concerned = undone.len();
        match store.commit(Change::Undone { from: ahead.after, next, undone }) {
            // A device changed between the look and the change, or the clock went back once more: look again.
            Err(StoreError::Conflict(Conflict::Stale)) => {}
            Err(fault) => return Err(fault.into()),
            Ok(()) => count += concerned,
        }
    }
    Ok(count)
}

/// What was done too early about a certificate: between now and `until`.
fn judged(store: &dyn Store, certificate: &Certificate, until: i64, now: i64) -> Result<Option<Undone>, StoreError> {
    let is_early = |at: i64| at > now && at <= until;
    let mut undone = Undone { serial: certificate.serial.clone(), due: Vec::new(), device: None, is_relisted: false };
    match certificate.state() {
        CertificateState::Active => {
            let ages = [(certificate.warn_at, DueEvent::ExpiryNear), (certificate.not_after, DueEvent::Expired)];
            let ages = ages.into_iter().filter(|(at, _)| certificate.warn_at != 0 && is_early(*at));
            let due =
                |(at, event): (i64, DueEvent)| Due { at, event: event.into(), serial: certificate.serial.clone() };
            undone.due.extend(ages.map(due));
            if !undone.due.is_empty() {
                undone.device = restored(store, certificate, now)?;
            }
            undone.due.extend(notice::next_step(certificate, now).filter(|step| is_early(step.at)));
        }
        CertificateState::Revoked | CertificateState::OnHold | CertificateState::Abandoned => {
            let list = CrlList::base(&certificate.authority, certificate.crl_shard).name();
            undone.is_relisted =
                is_early(certificate.not_after) && store.revocation(&list, &certificate.serial)?.is_none();
        }
        CertificateState::Superseded | CertificateState::Unknown => {}
    }
    Ok((undone.is_relisted || !undone.due.is_empty()).then_some(undone))
}

/// The device as its certificate is today, if the clock made it another.
fn restored(store: &dyn Store, certificate: &Certificate, now: i64) -> Result<Option<Device>, StoreError> {
    let device = store.device(&certificate.device)?.filter(|device| device.certificate == certificate.serial);
    let restored = device.and_then(|device| {
        let good = lifecycle::moved(&device, Event::ExpiryUndone, now).ok()?;
        let is_near = certificate.warn_at <= now;
        let today = if is_near { lifecycle::moved(&good, Event::ExpiryNear, now).ok()? } else { good };
        (today.state() != device.state()).then_some(today)
    });
    Ok(restored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::DAY_SECONDS;
    use crate::device::expiry::{Notices, pass_due};
    use crate::store::Supersession;
    use crate::store::record::{Crl, DeviceState, Intent};
    use crate::store::redb::RedbStore;

    const NOW: i64 = 1_800_000_000;
    const DECADE: i64 = 3653 * DAY_SECONDS;

    /// A device with a certificate of a year, at the last day but `left`.
    fn enrol(store: &dyn Store, id: &str, serial: u8, left: i64) {
        let intent = Intent { serial: vec![serial; 16], device: id.to_owned(), ..Intent::default() };
        store.commit(Change::Intend(intent)).expect("intent");
        let not_after = NOW + left * DAY_SECONDS;
        let certificate = Certificate {
            serial: vec![serial; 16],
            authority: "issuing".to_owned(),
            device: id.to_owned(),
            state: CertificateState::Active.into(),
            issued_at: not_after - 365 * DAY_SECONDS,
            not_before: not_after - 365 * DAY_SECONDS,
            warn_at: not_after - 122 * DAY_SECONDS,
            not_after,
            ..Certificate::default()
        };
        let device = Device {
            id: id.to_owned(),
            certificate: vec![serial; 16],
            state: DeviceState::FullyProvisioned.into(),
            ..Device::default()
        };
        let change = Change::Enrolled { certificate, device, supersession: Supersession::Expire };
        store.commit(change).expect("enrolled");
    }

    fn state(store: &dyn Store, id: &str) -> DeviceState {
        store.device(id).expect("answer").expect("device").state()
    }

    fn due(store: &dyn Store) -> Vec<(Vec<u8>, i64, i32)> {
        let due = store.find(Query::Due { now: NOW + DECADE }).expect("answer").all(Record::due);
        due.into_iter().map(|due| (due.serial, due.at, due.event)).collect()
    }

    #[test]
    fn what_a_clock_ten_years_ahead_did_to_devices_is_undone() {
        let store = RedbStore::in_memory().expect("store");
        for (id, serial, left) in [("young", 1, 300), ("old", 2, 100), ("over", 3, -1)] {
            enrol(&store, id, serial, left);
        }
        pass_due(&store, NOW, Notices::Kept).expect("passes");
        let states = |store: &RedbStore| ["young", "old", "over"].map(|id| state(store, id));
        let before = (states(&store), due(&store));
        use DeviceState::{FullyProvisioned, RequiresAction, WithWarnings};
        assert_eq!(before.0, [FullyProvisioned, WithWarnings, RequiresAction]);
        pass_due(&store, NOW + DECADE, Notices::Kept).expect("passes");
        assert_eq!((states(&store), due(&store)), ([RequiresAction; 3], Vec::new()));
        // The newest record of the journal tells it to who opens the store. Here it is of the real clock.
        went_back(&store, NOW + DECADE, NOW).expect("notes");
        assert_eq!(go_on(&store, NOW).expect("undoes"), 2);
        assert_eq!((states(&store), due(&store)), before);
        assert_eq!(go_on(&store, NOW).expect("has nothing to do"), 0);
        assert_eq!(ahead(&store).expect("answer").map(|ahead| ahead.until), Some(NOW + DECADE), "is remembered");
    }

    #[test]
    fn a_notice_waits_for_no_time_that_a_wrong_clock_told_and_none_is_told_early() {
        let store = RedbStore::in_memory().expect("store");
        enrol(&store, "near", 1, 40);
        enrol(&store, "far", 2, 300);
        let waiting = |now| {
            let due = store.find(Query::NoticesDue { now }).expect("answer").all(Record::notice);
            due.into_iter().map(|notice| (notice.serial[0], notice.days, notice.tries)).collect::<Vec<_>>()
        };
        pass_due(&store, NOW, Notices::Kept).expect("passes");
        assert_eq!(waiting(NOW), [(1, 60, 0)]);
        // Ahead by 250 days nobody takes it, and the other certificate comes to its step.
        let ahead = NOW + 250 * DAY_SECONDS;
        let notices = store.find(Query::NoticesDue { now: NOW }).expect("answer").all(Record::notice);
        let tried = Change::NoticesTried { notices, outcome: notice::Outcome::Later, next_try: ahead + 60 };
        store.commit(tried).expect("tried");
        pass_due(&store, ahead, Notices::Kept).expect("passes");
        assert_eq!(waiting(ahead + 60), [(2, 60, 0), (1, 60, 1)]);
        went_back(&store, ahead, NOW).expect("notes");
        assert_eq!(waiting(i64::MAX), [(1, 60, 1)]);
        assert_eq!(waiting(NOW), [(1, 60, 1)], "it is told now");
        go_on(&store, NOW).expect("undoes");
        for (days, expected) in [(239, &[(1, 60, 1)][..]), (240, &[(1, 60, 1), (2, 60, 0)])] {
            let now = NOW + days * DAY_SECONDS;
            pass_due(&store, now, Notices::Kept).expect("passes");
            assert_eq!(waiting(now).into_iter().filter(|row| row.1 == 60).collect::<Vec<_>>(), expected, "{days}");
        }
    }

    #[test]
    fn an_entry_that_left_a_list_too_early_comes_back() {
        let store = RedbStore::in_memory().expect("store");
        for (id, serial, left) in [("long", 1, 300), ("short", 2, -1)] {
            enrol(&store, id, serial, left);
        }
        let serials = vec![vec![1; 16], vec![2; 16]];
        store.commit(Change::Revoked { serials, reason: 1, at: NOW, invalid_since: 0 }).expect("revoked");
        let publish = |number, this_update| {
            let list = "issuing".to_owned();
            store.commit(Change::CrlNumbered { list: list.clone(), number, lists: 1 }).expect("numbered");
            let crl = Crl { authority: list, number, this_update, is_followed: true, ..Crl::default() };
            store.commit(Change::CrlPublished { crls: vec![crl], answers: 2 }).expect("published");
        };
        let listed = || {
            let span = Span::first(10);
            let query = Query::Revocations { list: "issuing".to_owned(), span };
            let found = store.find(query).expect("answer").all(Record::revocation);
            found.into_iter().map(|found| found.serial[0]).collect::<Vec<_>>()
        };
        publish(1, NOW - 2 * DAY_SECONDS);
        assert_eq!(listed(), vec![1, 2]);
        publish(2, NOW + DECADE);
        assert_eq!(listed(), Vec::<u8>::new());
        went_back(&store, NOW + DECADE, NOW).expect("notes");
        assert_eq!(go_on(&store, NOW).expect("undoes"), 1);
        assert_eq!(listed(), vec![1], "what is over stays away");
        let crl = store.crl_record("issuing").expect("answer").expect("a record");
        assert_eq!(crl.pending, 1, "the next list is made at once");
    }

    #[test]
    fn the_journal_tells_that_the_clock_was_ahead_and_an_hour_is_nothing() {
        let store = RedbStore::in_memory().expect("store");
        let now = clock::now();
        look_back(&store, now - DECADE).expect("an empty journal tells nothing");
        assert_eq!(ahead(&store).expect("answer"), None);
        enrol(&store, "a", 1, 300);
        for back in [0, WORTH_SECONDS - 60] {
            look_back(&store, now - back).expect("looks");
            assert_eq!(ahead(&store).expect("answer"), None, "{back}");
        }
        look_back(&store, now - DECADE).expect("notes");
        let noted = ahead(&store).expect("answer").expect("is noted");
        assert!(noted.is_open && noted.until >= now, "{noted:?}");
    }
}
