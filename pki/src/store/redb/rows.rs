//! What more than one change does to the rows of devices, certificates, lists and queues.

use super::counts::count;
use super::{
    CERTIFICATES, CRL_CHANGES, CRLS, DEVICES, LEAST_CRL_NUMBER, REVOCATIONS, REVOKED_UNTIL, get, joined, next_sequence,
    number, put, remove, revoked_until_key, save,
};
use crate::store::record::{Certificate, Crl, CrlChange, CrlList, Device, Due, Notice, Revocation};
use crate::store::{Conflict, StoreError};
use redb::WriteTransaction;

/// Time first: the notices are read from the front.
pub(super) fn notice_key(notice: &Notice) -> Vec<u8> {
    let time = u64::try_from(notice.next_try).unwrap_or(0).to_be_bytes();
    [&time[..], &notice.days.to_be_bytes(), &notice.serial].concat()
}

/// Time first: the queue is read from its front.
pub(super) fn queue_key(due: &Due) -> Vec<u8> {
    let time = u64::try_from(due.at).unwrap_or(0).to_be_bytes();
    let event = u8::try_from(due.event).unwrap_or(u8::MAX);
    [&time[..], &[event], &due.serial].concat()
}

/// The stored device must be the one the change was made from.
pub(super) fn fresh(transaction: &WriteTransaction, device: &Device) -> Result<(), StoreError> {
    let stored: Option<Device> = get(transaction, DEVICES, device.id.as_bytes())?;
    if stored.map_or(0, |stored| stored.revision) == device.revision { Ok(()) } else { Err(Conflict::Stale.into()) }
}

/// Saves a certificate and counts it by its state.
pub(super) fn save_certificate(transaction: &WriteTransaction, certificate: &Certificate) -> Result<(), StoreError> {
    let counted = |record: &Certificate| format!("certificates/{}/{}", record.authority, record.state().word());
    let before: Option<Certificate> = get(transaction, CERTIFICATES, &certificate.serial)?;
    count(transaction, before.as_ref().map(counted), counted(certificate))?;
    save(transaction, CERTIFICATES, &certificate.serial, certificate)
}

pub(super) fn save_device(transaction: &WriteTransaction, device: &Device) -> Result<(), StoreError> {
    let counted = |record: &Device| format!("devices/{}", record.state().words());
    let before: Option<Device> = get(transaction, DEVICES, device.id.as_bytes())?;
    count(transaction, before.as_ref().map(counted), counted(device))?;
    let next = Device { revision: device.revision.saturating_add(1), ..device.clone() };
    save(transaction, DEVICES, device.id.as_bytes(), &next)
}

/// The name of the list that a certificate is on when revoked.
pub(super) fn list_of(certificate: &Certificate) -> String {
    CrlList::base(&certificate.authority, certificate.crl_shard).name()
}

/// Puts the revocation of a certificate, as its record says it, in line for the next CRL.
///
/// # Errors
/// When the file fails.
pub(super) fn list_again(transaction: &WriteTransaction, certificate: &Certificate, at: i64) -> Result<(), StoreError> {
    let Certificate { serial, revoked_at, reason, not_after, invalid_since, .. } = certificate.clone();
    let list = list_of(certificate);
    let was_listed = drop_revocation(transaction, &list, &serial)?;
    let revocation = Revocation { serial: serial.clone(), revoked_at, reason, not_after, invalid_since };
    put(transaction, REVOKED_UNTIL, &revoked_until_key(&list, &revocation), &[])?;
    save(transaction, REVOCATIONS, &joined(&list, &serial), &revocation)?;
    change_list(transaction, &list, CrlChange { serial, at, was_listed, ..CrlChange::default() })
}

pub(super) fn drop_revocation(transaction: &WriteTransaction, list: &str, serial: &[u8]) -> Result<bool, StoreError> {
    let key = joined(list, serial);
    let before: Option<Revocation> = get(transaction, REVOCATIONS, &key)?;
    if let Some(before) = &before {
        remove(transaction, REVOKED_UNTIL, &revoked_until_key(list, before))?;
        remove(transaction, REVOCATIONS, &key)?;
    }
    Ok(before.is_some())
}

/// Adds to the history of a list, and puts it in line for the next.
pub(super) fn change_list(transaction: &WriteTransaction, list: &str, change: CrlChange) -> Result<(), StoreError> {
    let sequence = next_sequence(transaction)?;
    let is_pruned = change.is_pruned;
    let change = CrlChange { sequence: u64::from_be_bytes(sequence), ..change };
    save(transaction, CRL_CHANGES, &joined(list, &sequence), &change)?;
    if is_pruned {
        return Ok(());
    }
    let mut crl = crl_of(transaction, list)?;
    crl.pending = crl.pending.saturating_add(1);
    save(transaction, CRLS, list.as_bytes(), &crl)
}

pub(super) fn crl_of(transaction: &WriteTransaction, list: &str) -> Result<Crl, StoreError> {
    if let Some(stored) = get(transaction, CRLS, list.as_bytes())? {
        return Ok(stored);
    }
    let last_number = number(transaction, LEAST_CRL_NUMBER)?;
    Ok(Crl { authority: list.to_owned(), last_number, ..Crl::default() })
}
