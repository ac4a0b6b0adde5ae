//! Rewrites a store of an earlier layout when it is opened.

use super::counts::count;
use super::{
    CERTIFICATES, CRL_BODIES, CRLS, DEVICES, ISSUED, ISSUED_BY, ISSUED_UNDER, JOURNAL, REVOCATIONS, REVOKED_UNTIL,
    decode, joined, put, raw, remove, save,
};
use super::{entries, journal, revoked_until_key};
use crate::store::StoreError;
use crate::store::record::{Certificate, Crl, Device, Revocation};
use redb::WriteTransaction;
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

#[cfg(test)]
mod tests {
    use super::super::{ALL, META, RedbStore};
    use super::*;
    use crate::journal::office::Stored;
    use crate::store::merkle;
    use crate::store::query::Span;
    use crate::store::record::{CertificateState, CrlList, DeviceState};
    use crate::store::{Change, Query, Record, Store};
    use crate::va::history::{self, Changes};
    use redb::{Database, TableHandle};

    /// What version 1 had: no `leaves`, no indexes by authority and label, no counts, encoded CRLs in their records.
    const LACKING: [&str; 10] = [
        "leaves",
        "leaves_of",
        "subtrees",
        "checkpoints",
        "counts",
        "issued_by",
        "issued_under",
        "revoked_until",
        "crl_changes",
        "crl_bodies",
    ];

    fn database_of_version_1() -> Database {
        let memory = redb::backends::InMemoryBackend::new();
        let database = Database::builder().create_with_backend(memory).expect("memory");
        let transaction = database.begin_write().expect("begins");
        for table in ALL.iter().filter(|table| !LACKING.contains(&table.name())) {
            transaction.open_table(*table).expect("opens");
        }
        put(&transaction, META, b"version", &1u64.to_be_bytes()).expect("writes");
        put(&transaction, META, b"sequence", &3u64.to_be_bytes()).expect("writes");
        for (number, state) in [(1u8, CertificateState::Active), (2, CertificateState::Revoked)] {
            let certificate = Certificate {
                serial: vec![number; 16],
                authority: "issuing".to_owned(),
                kind: "device".to_owned(),
                device: format!("device-{number}"),
                label: "line-1".to_owned(),
                state: state.into(),
                not_after: 1000,
                ..Certificate::default()
            };
            let device = Device {
                id: certificate.device.clone(),
                state: DeviceState::FullyProvisioned.into(),
                certificate: certificate.serial.clone(),
                revision: 1,
                ..Device::default()
            };
            save(&transaction, CERTIFICATES, &certificate.serial, &certificate).expect("writes");
            put(&transaction, ISSUED, &u64::from(number).to_be_bytes(), &certificate.serial).expect("writes");
            save(&transaction, DEVICES, device.id.as_bytes(), &device).expect("writes");
            put(&transaction, JOURNAL, &u64::from(number).to_be_bytes(), b"enrolled device").expect("writes");
        }
        let revocation = Revocation { serial: vec![2; 16], revoked_at: 20, not_after: 1000, ..Revocation::default() };
        save(&transaction, REVOCATIONS, &joined("issuing", &revocation.serial), &revocation).expect("writes");
        let crl = Crl { authority: "issuing".to_owned(), last_number: 4, number: 4, der: vec![0x30], ..Crl::default() };
        save(&transaction, CRLS, b"issuing", &crl).expect("writes");
        transaction.commit().expect("commits");
        database
    }

    #[test]
    fn a_store_of_version_1_answers_every_question_of_version_2() {
        let store = RedbStore::start(database_of_version_1()).expect("opens");
        let span = Span::first(10);
        let by = Query::CertificatesOfAuthority { authority: "issuing".to_owned(), span: span.clone() };
        assert_eq!(store.find(by).expect("answer").records.len(), 2);
        let under = Query::CertificatesUnderLabel { label: "line-1".to_owned(), span: span.clone() };
        assert_eq!(store.find(under).expect("answer").records.len(), 2);
        let counts = store.find(Query::Counts(span)).expect("answer").all(Record::named_count);
        let count = |name: &str| counts.iter().find(|(counted, _)| counted == name).map(|(_, count)| *count);
        assert_eq!(count("certificates/issuing/active"), Some(1));
        assert_eq!(count("certificates/issuing/revoked"), Some(1));
        assert_eq!(count("devices/Fully Provisioned"), Some(2));
        let crl = store.crl("issuing").expect("answer").expect("a list");
        assert_eq!((crl.der, crl.number, crl.is_followed), (vec![0x30], 4, false));
        assert!(store.crl_record("issuing").expect("answer").expect("a record").der.is_empty());
        let size = store.find(Query::JournalSize).expect("answer").one(Record::count);
        assert_eq!(size, Some(2));
        assert!(merkle::root(&Stored(&store), 2).is_ok());
    }

    #[test]
    fn the_first_list_after_the_migration_has_what_was_revoked_before_and_after() {
        let store = RedbStore::start(database_of_version_1()).expect("opens");
        let revoke = Change::Revoked { serials: vec![vec![1; 16]], reason: 1, at: 30, invalid_since: 0 };
        store.commit(revoke).expect("revoked");
        let list = CrlList::base("issuing", 0);
        let before = store.crl("issuing").expect("answer").expect("a list");
        let changes = Changes::since(&store, &list, before.through).expect("changes");
        assert_eq!(history::base(&store, &list, &before, &changes).expect("entries").len(), 2);
    }
}
