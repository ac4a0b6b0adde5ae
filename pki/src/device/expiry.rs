//! Devices whose certificates come of age. A queue ordered by time replaces every daily scan: each certificate stands in it
//! twice, when a third of its life is left and when it ends, and once more with its next notice ([`super::notice`]). It leaves it when that
//! was dealt with.

use crate::store::lifecycle::{self, Event};
use crate::store::notice;
use crate::store::record::{Certificate, CertificateState, Due, DueEvent};
use crate::store::{Change, Conflict, Passed, Query, Record, Store, StoreError};
use crate::x509::hex;

/// Whether notices are kept until they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notices {
    /// There is somebody to tell.
    Kept,
    /// They are in the log only.
    LoggedOnly,
}

/// Deals with everything that is due, and gives how many devices moved. When nothing is, it reads one record.
///
/// # Errors
/// When the store fails.
pub(crate) fn pass_due(store: &dyn Store, now: i64, notices: Notices) -> Result<usize, StoreError> {
    let mut moved = 0;
    loop {
        let due = store.find(Query::Due { now })?.all(Record::due);
        if due.is_empty() {
            return Ok(moved);
        }
        let mut passed = Vec::with_capacity(due.len());
        for due in due {
            passed.push(judged(store, due, now, notices)?);
        }
        moved += pass(store, passed)?;
    }
}

/// All in one change, however many come of age in the same moment; one by one when one of the devices changed meanwhile. That one
/// stays due and is looked at again.
fn pass(store: &dyn Store, passed: Vec<Passed>) -> Result<usize, StoreError> {
    match store.commit(Change::DuePassed(passed.clone())) {
        Err(StoreError::Conflict(Conflict::Stale)) if passed.len() > 1 => {
            passed.into_iter().map(|one| pass(store, vec![one])).sum()
        }
        Err(StoreError::Conflict(Conflict::Stale)) => Ok(0),
        Err(fault) => Err(fault),
        Ok(()) => {
            let moved: Vec<_> = passed.iter().filter_map(|one| one.device.as_ref().map(|to| (to, one))).collect();
            for (device, one) in &moved {
                let (id, state) = (&device.id, device.state().words());
                tracing::warn!(event = "device_moved", device = id, state, serial = hex(&one.due.serial));
            }
            Ok(moved.len())
        }
    }
}

/// What comes of something due. Of a certificate that is revoked or replaced nothing does.
fn judged(store: &dyn Store, due: Due, now: i64, notices: Notices) -> Result<Passed, StoreError> {
    let certificate = store.certificate(&due.serial)?;
    let certificate = certificate.filter(|found| found.state() == CertificateState::Active);
    let mut passed = Passed { due, device: None, notice: None, next: None };
    let Some(certificate) = certificate else { return Ok(passed) };
    let device = store.device(&certificate.device)?.filter(|device| device.certificate == certificate.serial);
    let event = match passed.due.event() {
        DueEvent::ExpiryNear => Event::ExpiryNear,
        DueEvent::Expired => Event::CertificateExpired,
        DueEvent::Notice60 | DueEvent::Notice30 | DueEvent::Notice7 | DueEvent::Notice1 => {
            if device.is_some() || certificate.device.is_empty() {
                tell(&certificate, &mut passed, now, notices);
            }
            return Ok(passed);
        }
    };
    passed.device = device.and_then(|device| lifecycle::moved(&device, event, now).ok());
    Ok(passed)
}

fn tell(certificate: &Certificate, passed: &mut Passed, now: i64, notices: Notices) {
    passed.next = notice::next_step(certificate, now);
    if certificate.not_after <= now {
        return;
    }
    let notice = notice::of(certificate, now);
    let (days, serial, subject) = (notice.days, hex(&certificate.serial), &certificate.subject);
    tracing::warn!(event = "expiry_notice", days, serial, subject, device = certificate.device);
    passed.notice = (notices == Notices::Kept).then_some(notice);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Supersession;
    use crate::store::record::{Certificate, Device, DeviceState, Intent};
    use crate::store::redb::RedbStore;

    fn enrol(store: &dyn Store, serial: u8, replaces: Vec<u8>, revision: u64) {
        enrol_as(store, "a", serial, i64::from(serial) * 1000 + 600, replaces, revision);
    }

    fn enrol_as(store: &dyn Store, id: &str, serial: u8, warn_at: i64, replaces: Vec<u8>, revision: u64) {
        let intent = Intent { serial: vec![serial; 16], device: id.to_owned(), replaces, ..Intent::default() };
        store.commit(Change::Intend(intent)).expect("intent");
        let certificate = Certificate {
            serial: vec![serial; 16],
            device: id.to_owned(),
            state: CertificateState::Active.into(),
            warn_at,
            not_after: warn_at + 300,
            ..Certificate::default()
        };
        let device = Device {
            id: id.to_owned(),
            certificate: vec![serial; 16],
            state: DeviceState::FullyProvisioned.into(),
            revision,
            ..Device::default()
        };
        let change = Change::Enrolled { certificate, device, supersession: Supersession::Expire };
        store.commit(change).expect("enrolled");
    }

    fn state(store: &dyn Store) -> DeviceState {
        store.device("a").expect("answer").expect("device").state()
    }

    #[test]
    fn a_device_is_warned_about_and_then_requires_action() {
        let store = RedbStore::in_memory().expect("store");
        enrol(&store, 1, Vec::new(), 0);
        for (now, moved, expected) in [
            (1599, 0, DeviceState::FullyProvisioned),
            (1600, 1, DeviceState::WithWarnings),
            (1601, 0, DeviceState::WithWarnings),
            (1900, 1, DeviceState::RequiresAction),
            (9999, 0, DeviceState::RequiresAction),
        ] {
            assert_eq!(pass_due(&store, now, Notices::Kept), Ok(moved), "{now}");
            assert_eq!(state(&store), expected, "{now}");
        }
    }

    #[test]
    fn what_comes_of_age_in_one_moment_is_one_change_and_what_is_not_due_is_not_read() {
        let store = RedbStore::in_memory().expect("store");
        for serial in 1..=200 {
            enrol_as(&store, &format!("device-{serial}"), serial, 600, Vec::new(), 0);
        }
        let before = store.rows_read();
        assert_eq!(pass_due(&store, 599, Notices::Kept), Ok(0));
        assert_eq!(store.rows_read() - before, 1);
        let size = |store: &dyn Store| store.find(Query::JournalSize).expect("answer").one(Record::count);
        let journal = size(&store).expect("a number");
        assert_eq!(pass_due(&store, 600, Notices::Kept), Ok(200));
        assert_eq!(size(&store), Some(journal + 200), "a record for each");
        assert_eq!(
            store.device("device-7").expect("answer").map(|found| found.state()),
            Some(DeviceState::WithWarnings)
        );
    }

    #[test]
    fn a_device_that_changed_meanwhile_hinders_no_other() {
        let store = RedbStore::in_memory().expect("store");
        for serial in 1..=3 {
            enrol_as(&store, &format!("device-{serial}"), serial, 600, Vec::new(), 0);
        }
        let due = store.find(Query::Due { now: 600 }).expect("answer").all(Record::due);
        let with = |revision| move |device: Device| Device { revision, ..device };
        let passed = due.into_iter().map(|due| {
            let stale = due.serial[0] == 2;
            let passed = judged(&store, due, 600, Notices::Kept).expect("answer");
            Passed { device: passed.device.map(with(if stale { 0 } else { 1 })), ..passed }
        });
        assert_eq!(pass(&store, passed.collect()), Ok(2));
        assert_eq!(store.find(Query::Due { now: 600 }).expect("answer").records.len(), 1);
        assert_eq!(pass_due(&store, 600, Notices::Kept), Ok(1));
    }

    #[test]
    fn a_replaced_certificate_ages_in_silence() {
        let store = RedbStore::in_memory().expect("store");
        enrol(&store, 1, Vec::new(), 0);
        enrol(&store, 2, vec![1; 16], 1);
        assert_eq!(pass_due(&store, 2000, Notices::Kept), Ok(0));
        assert_eq!(state(&store), DeviceState::FullyProvisioned);
        assert_eq!(pass_due(&store, 2600, Notices::Kept), Ok(1));
        assert_eq!(state(&store), DeviceState::WithWarnings);
    }
}
