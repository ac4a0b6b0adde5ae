//! The life of a device: THE transition table. Every pair of state and event without a row is an error.

use super::record::{Device, DeviceState};
use DeviceState::{Decommissioned, FullyProvisioned, PendingProvisioning, RequiresAction, WithWarnings};

/// What may happen to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// It received a certificate, its first or another.
    CertificateIssued,
    /// Its certificate expires soon.
    ExpiryNear,
    /// Its certificate has expired.
    CertificateExpired,
    /// It was taken to expire soon, or to have expired, by a clock that was ahead.
    ExpiryUndone,
    /// Its certificate was revoked.
    CertificateRevoked,
    /// Its certificate was on hold and is released.
    CertificateReleased,
    /// It is taken out of service.
    Retired,
}

/// All events, for the tests that walk the table.
#[cfg(test)]
const EVENTS: &[Event] = &[
    Event::CertificateIssued,
    Event::ExpiryNear,
    Event::CertificateExpired,
    Event::ExpiryUndone,
    Event::CertificateRevoked,
    Event::CertificateReleased,
    Event::Retired,
];

/// One row: in this state, on this event, go to that state.
type Row = (DeviceState, Event, DeviceState);

const TABLE: &[Row] = &[
    (PendingProvisioning, Event::CertificateIssued, FullyProvisioned),
    (PendingProvisioning, Event::Retired, Decommissioned),
    (FullyProvisioned, Event::CertificateIssued, FullyProvisioned),
    (FullyProvisioned, Event::ExpiryNear, WithWarnings),
    (FullyProvisioned, Event::CertificateExpired, RequiresAction),
    (FullyProvisioned, Event::CertificateRevoked, RequiresAction),
    (FullyProvisioned, Event::Retired, Decommissioned),
    (WithWarnings, Event::CertificateIssued, FullyProvisioned),
    (FullyProvisioned, Event::ExpiryUndone, FullyProvisioned),
    (WithWarnings, Event::ExpiryUndone, FullyProvisioned),
    (RequiresAction, Event::ExpiryUndone, FullyProvisioned),
    (WithWarnings, Event::CertificateExpired, RequiresAction),
    (WithWarnings, Event::CertificateRevoked, RequiresAction),
    (WithWarnings, Event::Retired, Decommissioned),
    (RequiresAction, Event::CertificateIssued, FullyProvisioned),
    (RequiresAction, Event::CertificateRevoked, RequiresAction),
    (RequiresAction, Event::CertificateExpired, RequiresAction),
    (RequiresAction, Event::CertificateReleased, FullyProvisioned),
    (RequiresAction, Event::Retired, Decommissioned),
];

/// An event that cannot happen in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a device that is '{}' cannot have the event {event:?}", .state.words())]
pub(crate) struct Impossible {
    state: DeviceState,
    event: Event,
}

/// The state after an event.
///
/// # Errors
/// [`Impossible`] when the table has no row.
pub(crate) fn next(state: DeviceState, event: Event) -> Result<DeviceState, Impossible> {
    TABLE.iter().find(|row| row.0 == state && row.1 == event).map(|row| row.2).ok_or(Impossible { state, event })
}

/// The device after an event. Its revision stays: the store raises it.
///
/// # Errors
/// As [`next`].
pub(crate) fn moved(device: &Device, event: Event, now: i64) -> Result<Device, Impossible> {
    let state = next(device.state(), event)?;
    Ok(Device { state: state.into(), changed_at: now, ..device.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: &[DeviceState] =
        &[PendingProvisioning, FullyProvisioned, WithWarnings, RequiresAction, Decommissioned];

    #[test]
    fn the_table_has_one_row_per_pair() {
        for (index, row) in TABLE.iter().enumerate() {
            assert!(!TABLE[..index].iter().any(|other| (other.0, other.1) == (row.0, row.1)), "{row:?}");
        }
    }

    #[test]
    fn nothing_happens_to_a_decommissioned_device() {
        for event in EVENTS {
            assert!(next(Decommissioned, *event).is_err(), "{event:?}");
        }
    }

    #[test]
    fn every_state_is_reached_and_revocation_requires_action() {
        for state in STATES.iter().filter(|state| **state != PendingProvisioning) {
            assert!(TABLE.iter().any(|row| row.2 == *state), "{state:?}");
        }
        for state in [FullyProvisioned, WithWarnings, RequiresAction] {
            assert_eq!(next(state, Event::CertificateRevoked), Ok(RequiresAction));
            assert_eq!(next(state, Event::CertificateIssued), Ok(FullyProvisioned));
        }
        assert!(next(PendingProvisioning, Event::CertificateRevoked).is_err());
    }
}
