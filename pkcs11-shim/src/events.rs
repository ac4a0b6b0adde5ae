//! Slot events (PKCS#11 v3.0 section 5.5.4): the daemon's going and coming are its tokens' removal and insertion.
//!
//! Nothing watches: what a call sees of the slots is compared with what was seen before. A slot that is new is no event.

use std::collections::{HashMap, VecDeque};

use ck::flags::slot::CKF_TOKEN_PRESENT;
use hsm_proto::v1::SlotInfo;

/// What was seen of the slots, and what has not been told yet.
#[derive(Default)]
pub(crate) struct Events {
    /// Whether a slot's token was present, and in which epoch of the link.
    seen: HashMap<u64, (bool, u64)>,
    untold: VecDeque<u64>,
}

impl Events {
    /// The slots are so now. A token that is present in another epoch was away in between.
    pub(crate) fn note(&mut self, slots: &[SlotInfo], epoch: u64) {
        for slot in slots {
            let present = slot.flags & CKF_TOKEN_PRESENT != 0;
            let before = self.seen.insert(slot.slot, (present, epoch));
            let moved = before.is_some_and(|(was_present, then)| was_present != present || (present && then != epoch));
            if moved && !self.untold.contains(&slot.slot) {
                self.untold.push_back(slot.slot);
            }
        }
    }

    /// The slot of the oldest event, which is told with that.
    pub(crate) fn next(&mut self) -> Option<u64> {
        self.untold.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(present: bool) -> Vec<SlotInfo> {
        let flags = if present { CKF_TOKEN_PRESENT } else { 0 };
        (0..2).map(|slot| SlotInfo { slot, flags, ..SlotInfo::default() }).collect()
    }

    #[test]
    fn going_and_coming_are_one_event_each_for_each_slot() {
        let mut events = Events::default();
        let mut told = |present, epoch| {
            events.note(&slots(present), epoch);
            std::iter::from_fn(|| events.next()).collect::<Vec<_>>()
        };
        let none: [u64; 0] = [];
        assert_eq!(told(true, 1), none, "what is seen first is no event");
        assert_eq!(told(true, 1), none);
        assert_eq!(told(false, 1), [0, 1]);
        assert_eq!(told(false, 1), none);
        assert_eq!(told(true, 2), [0, 1]);
        assert_eq!(told(true, 3), [0, 1], "an absence that nobody saw");
    }
}
