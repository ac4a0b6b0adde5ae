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
    tmk: Arc<TokenMasterKey>,
}

/// A small store with a record in every table.
fn subject() -> Subject {
    let store = Arc::new(MemoryStore::default());
    let opened = create::create_in(Arc::clone(&store) as Arc<dyn Store>).unwrap();
    let keys = Arc::clone(&opened.keys);
    let vault = Vault::start(opened, &quick(), Arc::new(Book::default()), Arc::new(SystemClock)).unwrap();
    let (token, tmk) = ready(&vault);
    let _receipt = vault.enable_auto_login(token, &pin("user-pin"), "t", b"on").unwrap();
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
    Subject { store, keys, rows, token, tmk }
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
    /// The same store later: its rows after some changes.
    fn rewritten(&self, change: impl FnOnce(&Vault<Book>, crate::id::TokenId)) -> Vec<(Address, Vec<u8>)> {
        let opened = create::Opened {
            verified: verify::verify(&*self.store.snapshot().unwrap(), &self.keys, Path::new("m")).unwrap(),
            store: Arc::clone(&self.store) as Arc<dyn Store>,
            keys: Arc::clone(&self.keys),
            lock: None,
        };
        let vault = Vault::start(opened, &quick(), Arc::new(Book::default()), Arc::new(SystemClock)).unwrap();
        change(&vault, self.token);
        core::mem::forget(vault);
        all(&*self.store.snapshot().unwrap())
    }

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
    let (_, tmk) = subject.tmk.current();
    let mut opened = 0;
    for ((table, key), row) in subject.rows.iter().filter(|((table, _), _)| *table != Table::Meta) {
        let place = seal::Place { table: *table, key };
        let under = (*table == Table::PrivateObject).then_some(&*tmk);
        subject.keys.open_row(under, place, row).unwrap();
        opened += 1;
        let record = row.len() - 32;
        for bit in 0..record * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(subject.keys.open_row(under, place, &flipped).is_err(), "{} bit {bit}", table.name());
        }
    }
    assert_eq!(opened + 2, subject.rows.len(), "every row but the format row and the manifest");
}

/// The master key inside a PIN slot is a record of its own.
#[test]
fn every_flipped_bit_of_a_wrapped_master_key_is_refused() {
    let subject = subject();
    for (role, text) in [(Role::So, "so-pin"), (Role::User, "user-pin")] {
        let key = layout::pin_key(subject.token, role);
        let place = seal::Place { table: Table::Pin, key: &key };
        let (_, row) = subject.rows.iter().find(|((table, found), _)| *table == Table::Pin && *found == key).unwrap();
        let (_, body) = subject.keys.open_row(None, place, row).unwrap();
        let slot: layout::PinSlot = prost::Message::decode(body.expose()).unwrap();
        let stretched = seal::stretch(&pin(text), &slot.salt, slot.function().unwrap()).unwrap();
        let kek = subject.keys.pin_key(&stretched, subject.token, role, slot.version);
        seal::open(&kek, place, &slot.wrapped).unwrap();
        for bit in 0..slot.wrapped.len() * 8 {
            let mut flipped = slot.wrapped.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(seal::open(&kek, place, &flipped).is_err(), "{role:?} bit {bit}");
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

/// What was moved is named; what is gone leaves a sum that does not add up. The two rows of `meta` have a sentence of their own.
#[track_caller]
fn named(opened: Result<(), OpenError>, moved: &[&Address], what: &str) {
    match opened {
        Err(OpenError::RecordBroken { record, .. }) => {
            assert!(moved.iter().any(|(table, _)| record.starts_with(table.name())), "{what}: {record} was named");
        }
        Err(OpenError::ManifestBroken(_)) => assert!(moved.iter().any(|(table, _)| *table == Table::Meta), "{what}"),
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn swapped_copied_and_deleted_records_are_found() {
    let subject = subject();
    for (a, a_row) in &subject.rows {
        match subject.opens_after(&[(a, None)]) {
            Err(OpenError::SetMismatch { found, expected }) => assert_eq!(found + 1, expected, "deleted {a:?}"),
            Err(OpenError::ManifestBroken(_)) => assert_eq!(a.0, Table::Meta),
            other => panic!("deleted {a:?}: {other:?}"),
        }
        let mut twin = a.1.clone();
        twin.push(0);
        if a.0 != Table::Meta {
            let twin = (a.0, twin);
            named(subject.opens_after(&[(&twin, Some(a_row))]), &[a], "duplicated");
        }
        for (b, b_row) in subject.rows.iter().filter(|(b, _)| b != a) {
            named(subject.opens_after(&[(a, Some(b_row))]), &[a], "copied over");
            named(subject.opens_after(&[(a, Some(b_row)), (b, Some(a_row))]), &[a, b], "swapped");
        }
    }
}

#[test]
fn a_table_that_was_truncated_is_found_at_every_length() {
    let subject = subject();
    for table in Table::SEALED {
        let rows: Vec<_> = subject.rows.iter().filter(|((found, _), _)| *found == table).collect();
        for kept in 0..rows.len() {
            let gone: Vec<_> = rows[kept..].iter().map(|(address, _)| (address, None)).collect();
            let opened = subject.opens_after(&gone);
            let lost = gone.len() as u64;
            let found = matches!(opened, Err(OpenError::SetMismatch { found, expected }) if found + lost == expected);
            assert!(found, "{} cut to {kept} rows: {opened:?}", table.name());
        }
    }
}

#[test]
fn a_record_that_was_removed_and_put_back_is_named() {
    let subject = subject();
    let now = subject.rewritten(|vault, token| {
        let gone = Change { puts: vec![], deletes: vec![(token, crate::id::ObjectId([1; 16]))] };
        let _receipt = vault.commit(gone, None, b"e").unwrap();
    });
    let (address, row) = subject
        .rows
        .iter()
        .find(|(address, _)| address.0 == Table::PublicObject && !now.iter().any(|(found, _)| found == address))
        .unwrap();
    match subject.opens_after(&[(address, Some(row))]) {
        Err(OpenError::RecordBroken { record, reason }) => {
            assert!(record.starts_with("object.public 0101") && reason.contains("put back"), "{record}: {reason}");
        }
        other => panic!("{other:?}"),
    }
}

/// Of every table: what it held before is refused beside all that it holds now.
#[test]
fn older_copies_are_found() {
    let mut tried = std::collections::BTreeSet::new();
    let changed: fn(&Vault<Book>, crate::id::TokenId) = |vault, token| {
        vault.unlock(token, Role::User, &pin("guess"), "t").unwrap_err();
        let _receipt = vault.set_pin(token, Role::So, &pin("so-pin"), &pin("other-so"), "t", b"e").unwrap();
        vault.reserve_handles(5).unwrap();
        let tmk = vault.unlock(token, Role::User, &pin("user-pin"), "t").unwrap();
        let _receipt = vault.commit(put(token, 1, false, "newer"), None, b"e").unwrap();
        let _receipt = vault.commit(put(token, 2, true, "newer"), Some(&tmk), b"e").unwrap();
    };
    let begun_anew: fn(&Vault<Book>, crate::id::TokenId) = |vault, _| {
        let (_, _receipt) = vault.init_token(0, "newer", &pin("so-pin"), "t", |_| b"e".to_vec()).unwrap();
    };
    for change in [changed, begun_anew] {
        let subject = subject();
        let now = subject.rewritten(change);
        let old = &subject.rows;
        for (address, row) in old.iter().filter(|(address, row)| !now.contains(&(address.clone(), row.clone()))) {
            tried.insert(address.0.name());
            assert!(subject.opens_after(&[(address, Some(row))]).is_err(), "older {address:?}");
        }
    }
    // What waits for the journal is written once and never changed.
    for table in Table::SEALED.into_iter().chain([Table::Meta]).filter(|table| *table != Table::Outbox) {
        assert!(tried.contains(table.name()), "{} has no older copy", table.name());
    }
}
