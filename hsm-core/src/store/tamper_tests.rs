//! A store that somebody edited while the daemon was down: every edit is found at the next opening, none panics.

use super::layout::{Role, Table};
use super::memory::MemoryStore;
use super::vault_tests::{Book, pin, put, quick, ready};
use super::*;
use crate::clock::SystemClock;
use std::path::Path;
use std::sync::Arc;

struct Subject {
    store: Arc<MemoryStore>,
    keys: Arc<seal::StoreKeys>,
    rows: Vec<(Address, Vec<u8>)>,
    token: crate::id::TokenId,
}

/// A small store with a record in every table.
fn subject() -> Subject {
    let store = Arc::new(MemoryStore::default());
    let opened = create::create_in(Arc::clone(&store) as Arc<dyn Store>).unwrap();
    let keys = Arc::clone(&opened.keys);
    let vault = Vault::start(opened, &quick(), Arc::new(Book::default()), Arc::new(SystemClock)).unwrap();
    let (token, tmk) = ready(&vault);
    vault.reserve_handles(5).unwrap();
    let _receipt = vault.commit(put(token, 1, false, "public"), None, b"e").unwrap();
    let _receipt = vault.commit(put(token, 2, true, "private"), Some(&tmk), b"e").unwrap();
    let _receipt = vault.commit(put(token, 3, true, "another"), Some(&tmk), b"e").unwrap();
    let rows = all(&*store.snapshot().unwrap());
    for table in Table::SEALED {
        assert!(rows.iter().any(|((found, _), _)| *found == table), "{}", table.name());
    }
    // The vault is not closed: its last commit would empty the outbox.
    core::mem::forget(vault);
    Subject { store, keys, rows, token }
}

fn all(snapshot: &dyn Snapshot) -> Vec<(Address, Vec<u8>)> {
    let mut rows = Vec::new();
    for table in Table::SEALED.into_iter().chain([Table::Meta]) {
        let mut visit = |key: &[u8], value: &[u8]| {
            rows.push(((table, key.to_vec()), value.to_vec()));
            Ok(())
        };
        snapshot.scan(table, b"", &mut visit).unwrap();
    }
    rows
}

impl Subject {
    /// Opens the store as it looks after an edit, then takes the edit back.
    fn opens_after(&self, edit: &[(&Address, Option<&[u8]>)]) -> Result<(), OpenError> {
        let mut forth = Batch::default();
        let mut back = Batch::default();
        let snapshot = self.store.snapshot().unwrap();
        for ((table, key), value) in edit {
            let old = snapshot.row(*table, key).unwrap();
            for (batch, value) in [(&mut forth, value.map(<[u8]>::to_vec)), (&mut back, old)] {
                match value {
                    Some(value) => batch.put(*table, key, value),
                    None => batch.delete(*table, key),
                }
            }
        }
        self.store.commit(&forth).unwrap();
        let edited = self.store.snapshot().unwrap();
        let path = Path::new("(memory)");
        let opened = verify::format_row(&*edited, path).and_then(|format| {
            if format.key_id != self.keys.key_id() || format.store_id != self.keys.store_id() {
                // What `create` would say, which derives its keys from this row.
                return Err(OpenError::ManifestBroken("format row"));
            }
            verify::verify(&*edited, &self.keys, path)
        });
        self.store.commit(&back).unwrap();
        opened.map(drop)
    }
}

#[test]
fn an_unedited_store_opens() {
    subject().opens_after(&[]).unwrap();
}

#[test]
fn every_flipped_bit_of_every_record_is_found() {
    let subject = subject();
    for (address, row) in &subject.rows {
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let opened = subject.opens_after(&[(address, Some(&flipped))]);
            match opened {
                Ok(()) => panic!("{address:?} bit {bit} was not found"),
                Err(OpenError::RecordBroken { record, .. }) => {
                    assert!(record.starts_with(address.0.name()), "{record} is not {address:?}");
                }
                Err(_) => assert_eq!(address.0, Table::Meta, "{address:?} bit {bit} was not named"),
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_refused_by_the_opening_of_the_record_too() {
    // Without the manifest's help: what AES-GCM, the commitment and the header do alone.
    let subject = subject();
    for ((table, key), row) in subject.rows.iter().filter(|((table, _), _)| subject.keys.for_table(*table).is_some()) {
        let place = seal::Place { table: *table, key };
        subject.keys.open_row(None, place, row).unwrap();
        let record = row.len() - 32;
        for bit in 0..record * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(subject.keys.open_row(None, place, &flipped).is_err(), "{} bit {bit}", table.name());
        }
    }
}

#[test]
fn truncated_records_are_found() {
    let subject = subject();
    for (address, row) in &subject.rows {
        for len in 0..row.len() {
            assert!(subject.opens_after(&[(address, Some(&row[..len]))]).is_err(), "{address:?} cut to {len}");
        }
    }
}

#[test]
fn swapped_copied_and_deleted_records_are_found() {
    let subject = subject();
    for (a, a_row) in &subject.rows {
        assert!(subject.opens_after(&[(a, None)]).is_err(), "deleted {a:?}");
        let mut twin = a.1.clone();
        twin.push(0);
        if a.0 != Table::Meta {
            let twin = (a.0, twin);
            assert!(subject.opens_after(&[(&twin, Some(a_row))]).is_err(), "duplicated {a:?}");
        }
        for (b, b_row) in subject.rows.iter().filter(|(b, _)| b != a) {
            assert!(subject.opens_after(&[(a, Some(b_row))]).is_err(), "{b:?} copied over {a:?}");
            assert!(subject.opens_after(&[(a, Some(b_row)), (b, Some(a_row))]).is_err(), "{a:?} and {b:?} swapped");
        }
    }
}

#[test]
fn older_copies_are_found() {
    let subject = subject();
    let old = all(&*subject.store.snapshot().unwrap());
    // The same store later: a guess was counted, an object replaced.
    let opened = create::Opened {
        verified: verify::verify(&*subject.store.snapshot().unwrap(), &subject.keys, Path::new("m")).unwrap(),
        store: Arc::clone(&subject.store) as Arc<dyn Store>,
        keys: Arc::clone(&subject.keys),
        lock: None,
    };
    let vault = Vault::start(opened, &quick(), Arc::new(Book::default()), Arc::new(SystemClock)).unwrap();
    let token = subject.token;
    vault.unlock(token, Role::User, &pin("guess"), "t").unwrap_err();
    let _receipt = vault.commit(put(token, 1, false, "newer"), None, b"e").unwrap();
    core::mem::forget(vault);
    let now = all(&*subject.store.snapshot().unwrap());
    let mut tried = 0;
    for (address, row) in old.iter().filter(|(address, row)| !now.contains(&(address.clone(), row.clone()))) {
        tried += 1;
        assert!(subject.opens_after(&[(address, Some(row))]).is_err(), "older {address:?}");
    }
    assert!(tried >= 3, "counter, object and manifest have older copies");
}
