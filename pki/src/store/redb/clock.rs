//! What is undone after the clock was ahead.

use super::rows::{fresh, list_again, notice_key, queue_key, save_device};
use super::{CERTIFICATES, CLOCK_AHEAD, META, NOTICES, QUEUE, decode, entries, get, remove, save};
use crate::store::record::{Certificate, ClockAhead, Notice};
use crate::store::{Conflict, StoreError, Undone, notice};
use redb::WriteTransaction;

/// Notes it. Notices that wait to be told are brought into line; they are as many as nobody could be told: one that was due lets nobody wait
/// for the time that the clock told, and one that was not due yet goes, because its certificate stands in the queue again.
///
/// # Errors
/// When a record does not decode or the file fails.
pub(super) fn went_back(transaction: &WriteTransaction, until: i64, at: i64) -> Result<(), StoreError> {
    for (key, value) in entries(transaction, NOTICES)? {
        let notice: Notice = decode(NOTICES, &value)?;
        if notice.next_try <= at {
            continue;
        }
        remove(transaction, NOTICES, &key)?;
        if notice::is_due(&notice, at) {
            let notice = Notice { next_try: at, at: notice.at.min(at), ..notice };
            save(transaction, NOTICES, &notice_key(&notice), &notice)?;
        }
    }
    let before: Option<ClockAhead> = get(transaction, META, CLOCK_AHEAD)?;
    let until = before.map_or(until, |before| before.until.max(until));
    let noted = ClockAhead { until, noticed_at: at, is_open: true, after: Vec::new() };
    save(transaction, META, CLOCK_AHEAD, &noted)
}

/// Undoes a piece.
///
/// # Errors
/// [`Conflict::Stale`] when another has undone it, or a device is not as it was read; then nothing is changed.
pub(super) fn undone(
    transaction: &WriteTransaction,
    from: &[u8],
    next: Option<&[u8]>,
    undone: &[Undone],
) -> Result<(), StoreError> {
    let mut ahead: ClockAhead = get(transaction, META, CLOCK_AHEAD)?.ok_or(Conflict::Stale)?;
    if !ahead.is_open || ahead.after != from {
        return Err(Conflict::Stale.into());
    }
    for device in undone.iter().filter_map(|one| one.device.as_ref()) {
        fresh(transaction, device)?;
    }
    for Undone { serial, due, device, is_relisted } in undone {
        for due in due {
            save(transaction, QUEUE, &queue_key(due), due)?;
        }
        if let Some(device) = device {
            save_device(transaction, device)?;
        }
        if *is_relisted {
            let certificate: Certificate = get(transaction, CERTIFICATES, serial)?.ok_or(Conflict::Missing)?;
            list_again(transaction, &certificate, ahead.noticed_at)?;
        }
    }
    ahead.is_open = next.is_some();
    ahead.after = next.unwrap_or_default().to_vec();
    save(transaction, META, CLOCK_AHEAD, &ahead)
}
