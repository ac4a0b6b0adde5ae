//! Rewrites a store of an earlier layout when it is opened.

use super::apply::{count, revoked_until_key};
use super::journal;
use super::{
    CERTIFICATES, CRL_BODIES, CRLS, DEVICES, ISSUED, ISSUED_BY, ISSUED_UNDER, JOURNAL, REVOCATIONS, REVOKED_UNTIL,
    Table, backend, decode, joined, put, raw, remove, save,
};
use crate::store::StoreError;
use crate::store::record::{Certificate, Crl, Device, Revocation};
use redb::{ReadableTable, WriteTransaction};
use serde_json::{Map, Value};

/// Fills the tables that version 1 lacked.
///
/// # Errors
/// When a record does not decode or the file fails.
pub(super) fn from_version_1(transaction: &WriteTransaction) -> Result<(), StoreError> {
    for (key, value) in entries(transaction, REVOCATIONS)? {
        let revocation: Revocation = decode(REVOCATIONS, &value)?;
        let list = key.split(|byte| *byte == 0).next().unwrap_or_default();
        put(transaction, REVOKED_UNTIL, &revoked_until_key(&String::from_utf8_lossy(list), &revocation), &[])?;
    }
    for (key, value) in entries(transaction, CRLS)? {
        let mut crl: Crl = decode(CRLS, &value)?;
        put(transaction, CRL_BODIES, &key, &std::mem::take(&mut crl.der))?;
        save(transaction, CRLS, &key, &crl)?;
    }
    for (sequence, serial) in entries(transaction, ISSUED)? {
        let Some(stored) = raw(transaction, CERTIFICATES, &serial)? else { continue };
        let certificate: Certificate = decode(CERTIFICATES, &stored)?;
        count(transaction, None, format!("certificates/{}/{}", certificate.authority, certificate.state().word()))?;
        put(transaction, ISSUED_BY, &joined(&certificate.authority, &sequence), &serial)?;
        if certificate.kind == "device" {
            put(transaction, ISSUED_UNDER, &joined(&certificate.label, &sequence), &serial)?;
        }
    }
    for (_, value) in entries(transaction, DEVICES)? {
        let device: Device = decode(DEVICES, &value)?;
        count(transaction, None, format!("devices/{}", device.state().words()))?;
    }
    for (key, value) in entries(transaction, JOURNAL)? {
        let line = String::from_utf8_lossy(&value);
        let (event, concerns) = line.split_once(' ').unwrap_or((&line, ""));
        let facts = Map::from_iter([("concerns".to_owned(), Value::from(concerns))]);
        journal::append(transaction, event, facts)?;
        remove(transaction, JOURNAL, &key)?;
    }
    Ok(())
}

/// A key and its value, as stored.
type Entry = (Vec<u8>, Vec<u8>);

fn entries(transaction: &WriteTransaction, table: Table) -> Result<Vec<Entry>, StoreError> {
    let open = transaction.open_table(table).map_err(backend)?;
    let mut all = Vec::new();
    for entry in open.iter().map_err(backend)? {
        let (key, value) = entry.map_err(backend)?;
        all.push((key.value().to_vec(), value.value().to_vec()));
    }
    Ok(all)
}
