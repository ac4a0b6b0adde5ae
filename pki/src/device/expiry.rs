//! Devices whose certificates come of age. A queue ordered by time replaces every daily scan: each certificate stands in it
//! twice, when a third of its life is left and when it ends, and leaves it when that was dealt with.

use super::lifecycle::{self, Event};
use crate::store::record::{CertificateState, Device, Due, DueEvent};
use crate::store::{Change, Conflict, Query, Record, Store, StoreError};
use crate::x509::hex;

/// Deals with everything that is due, and gives how many devices moved.
///
/// # Errors
/// When the store fails.
pub(crate) fn pass_due(store: &dyn Store, now: i64) -> Result<usize, StoreError> {
    let mut moved = 0;
    loop {
        let due = store.find(Query::Due { now })?.all(Record::due);
        if due.is_empty() {
            return Ok(moved);
        }
        for due in due {
            let device = concerned(store, &due, now)?;
            let id = device.as_ref().map(|device| (device.id.clone(), device.state().words()));
            match store.commit(Change::DuePassed { due: due.clone(), device }) {
                // The device changed meanwhile: it is looked at again in the next turn of the loop.
                Err(StoreError::Conflict(Conflict::Stale)) => {}
                Err(fault) => return Err(fault),
                Ok(()) => {
                    if let Some((device, state)) = id {
                        tracing::warn!(event = "device_moved", device, state, serial = hex(&due.serial));
                        moved += 1;
                    }
                }
            }
        }
    }
}

/// The device after the event, if it still lives by the certificate and the event changes anything.
fn concerned(store: &dyn Store, due: &Due, now: i64) -> Result<Option<Device>, StoreError> {
    let certificate = store.certificate(&due.serial)?;
    let Some(certificate) = certificate.filter(|found| found.state() == CertificateState::Active) else {
        return Ok(None);
    };
    let device = store.device(&certificate.device)?.filter(|device| device.certificate == certificate.serial);
    let event = match due.event() {
        DueEvent::ExpiryNear => Event::ExpiryNear,
        DueEvent::Expired => Event::CertificateExpired,
    };
    Ok(device.and_then(|device| lifecycle::moved(&device, event, now).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Supersession;
    use crate::store::record::{Certificate, DeviceState, Intent};
    use crate::store::redb::RedbStore;

    fn enrol(store: &dyn Store, serial: u8, replaces: Vec<u8>, revision: u64) {
        let intent = Intent { serial: vec![serial; 16], device: "a".to_owned(), replaces, ..Intent::default() };
        store.commit(Change::Intend(intent)).expect("intent");
        let certificate = Certificate {
            serial: vec![serial; 16],
            device: "a".to_owned(),
            state: CertificateState::Active.into(),
            warn_at: i64::from(serial) * 1000 + 600,
            not_after: i64::from(serial) * 1000 + 900,
            ..Certificate::default()
        };
        let device = Device {
            id: "a".to_owned(),
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
            assert_eq!(pass_due(&store, now), Ok(moved), "{now}");
            assert_eq!(state(&store), expected, "{now}");
        }
    }

    #[test]
    fn a_replaced_certificate_ages_in_silence() {
        let store = RedbStore::in_memory().expect("store");
        enrol(&store, 1, Vec::new(), 0);
        enrol(&store, 2, vec![1; 16], 1);
        assert_eq!(pass_due(&store, 2000), Ok(0));
        assert_eq!(state(&store), DeviceState::FullyProvisioned);
        assert_eq!(pass_due(&store, 2600), Ok(1));
        assert_eq!(state(&store), DeviceState::WithWarnings);
    }
}
