//! Guesses at PINs: by somebody who took the store's files home, and by clients who begin anew with every restart.

use super::layout::{self, PinSlot, Role, Table};
use super::seal::{self, Key, StoreKeys};
use super::vault_tests::{Book, faulty, kind, pin, put, quick, ready, reopened};
use super::*;
use crate::clock::SystemClock;
use crate::config::PinConfig;
use crate::error::Kind;
use crate::id::TokenId;
use prost::Message;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The user's slot, as whoever has the store key reads it.
fn slot(snapshot: &BackupSnapshot, keys: &StoreKeys, token: TokenId) -> Option<PinSlot> {
    let wanted = layout::pin_key(token, Role::User);
    let mut slot = None;
    let mut visit = |table: &str, key: &[u8], row: &[u8]| {
        let place = seal::Place { table: Table::Pin, key };
        if table == Table::Pin.name() && key == wanted {
            slot = keys.open_row(None, place, row).ok().and_then(|(_, body)| PinSlot::decode(body.expose()).ok());
        }
        Ok(())
    };
    snapshot.for_each(&mut visit).unwrap();
    slot
}

/// Tries a list of PINs at a slot: the one that opens it.
fn crack<'l>(slot: &PinSlot, keys: &StoreKeys, token: TokenId, list: &[&'l str]) -> Option<&'l str> {
    let key = layout::pin_key(token, Role::User);
    let place = seal::Place { table: Table::Pin, key: &key };
    list.iter().copied().find(|guess| {
        let stretched = seal::stretch(&pin(guess), &slot.salt, slot.function().unwrap()).unwrap();
        let kek = keys.pin_key(&stretched, token, Role::User, slot.version);
        [&kek, &stretched].into_iter().any(|key| seal::open(key, place, &slot.wrapped).is_ok())
    })
}

/// The same program that finds the PIN with the store key finds nothing without, even if it is told what the slot holds.
#[test]
fn a_stolen_store_gives_its_pin_to_who_has_its_key_and_to_nobody_else() {
    let vault = Vault::in_memory(&quick(), Arc::new(Book::default()), Arc::new(SystemClock)).unwrap();
    let (token, tmk) = ready(&vault);
    let _receipt = vault.commit(put(token, 1, true, "a private key"), Some(&tmk), b"e").unwrap();
    let snapshot = vault.snapshot_for_backup().unwrap();
    let list = ["0000", "1234", "user-pi", "user-pin", "user-pin1"];
    let with = |key: Key| StoreKeys::new(key, snapshot.store_id);
    let own = with(Key::from_slice(snapshot.store_key.expose()).unwrap());
    let known = slot(&snapshot, &own, token).unwrap();
    assert_eq!(crack(&known, &own, token, &list), Some("user-pin"));
    let mut nearly = snapshot.store_key.expose().to_vec();
    nearly[31] ^= 1;
    for other in [&[0; 32][..], &nearly, &snapshot.store_id.repeat(2)] {
        let other = with(Key::from_slice(other).unwrap());
        assert!(slot(&snapshot, &other, token).is_none(), "the slot's salt opens without the key");
        assert_eq!(crack(&known, &other, token, &list), None);
    }
}

/// The limits that are the default.
fn strict() -> PinConfig {
    PinConfig { client_attempts: 5, client_cooldown: Duration::from_secs(3600), ..quick() }
}

/// Of a hundred connections that guess at once, how many guesses were looked at.
fn looked_at(vault: &Vault<Book>, token: TokenId, clients: usize) -> u64 {
    let before = vault.derivations();
    std::thread::scope(|scope| {
        for connection in 0..100 {
            scope.spawn(move || {
                let client = format!("uid:{}", connection % clients);
                loop {
                    let refused = vault.unlock(token, Role::User, &pin("guess"), &client).unwrap_err();
                    // A full queue refuses at once and counts nothing: the guesser comes again.
                    if refused.kind() != Kind::LoginBackoff || refused.to_string().contains("from this client") {
                        return;
                    }
                    std::thread::yield_now();
                }
            });
        }
    });
    vault.derivations() - before
}

#[test]
fn of_a_hundred_guesses_at_once_five_of_one_client_and_ten_of_twenty_are_looked_at() {
    for (clients, expected) in [(1, 5), (20, 10)] {
        let vault = Vault::in_memory(&strict(), Arc::new(Book::default()), Arc::new(SystemClock)).unwrap();
        let (token, _) = ready(&vault);
        assert_eq!(looked_at(&vault, token, clients), expected, "{clients} clients");
        assert_eq!(vault.pin_state(token, Role::User).unwrap().locked, expected == 10);
    }
}

#[test]
fn of_a_hundred_guesses_at_once_none_is_looked_at_when_they_cannot_be_counted() {
    let (book, store, opened, token) = faulty();
    let vault = Vault::start(opened, &strict(), book, Arc::new(SystemClock)).unwrap();
    store.left.store(0, Ordering::Relaxed);
    assert_eq!(looked_at(&vault, token, 20), 0);
    // What could not be counted is held against nobody.
    vault.clients.admit("uid:0", token).unwrap();
}

#[test]
fn a_client_that_has_to_wait_waits_over_a_kill() {
    let (book, store, opened, token) = faulty();
    let keys = Arc::clone(&opened.keys);
    let start = |opened| Vault::start(opened, &strict(), Arc::clone(&book), Arc::new(SystemClock)).unwrap();
    let guess = |vault: &Vault<Book>, client: &str| kind(vault.unlock(token, Role::User, &pin("guess"), client));
    let mut vault = start(opened);
    for _ in 0..5 {
        assert_eq!(guess(&vault, "uid:7"), Some(Kind::PinIncorrect));
        // Killed after each answer: nothing is written at the end.
        core::mem::forget(vault);
        vault = start(reopened(&store, &keys));
    }
    let derivations = vault.derivations();
    assert_eq!(kind(vault.unlock(token, Role::User, &pin("user-pin"), "uid:7")), Some(Kind::LoginBackoff));
    assert_eq!(vault.derivations(), derivations);
    vault.unlock(token, Role::User, &pin("user-pin"), "uid:8").unwrap();
}

#[test]
fn a_right_pin_and_a_new_token_leave_nothing_of_their_clients() {
    let (book, store, opened, token) = faulty();
    let vault = Vault::start(opened, &strict(), book, Arc::new(SystemClock)).unwrap();
    let remembered = || {
        let mut rows = 0;
        let mut visit = |_: &[u8], _: &[u8]| {
            rows += 1;
            Ok(())
        };
        store.snapshot().unwrap().scan(Table::Reserved, layout::CLIENT_PREFIX, &mut visit).unwrap();
        rows
    };
    for client in ["uid:7", "uid:8"] {
        vault.unlock(token, Role::User, &pin("guess"), client).unwrap_err();
    }
    assert_eq!(remembered(), 2);
    vault.unlock(token, Role::User, &pin("user-pin"), "uid:7").unwrap();
    assert_eq!(remembered(), 1);
    let _token = vault.init_token(0, "again", &pin("so-pin"), "uid:9", |_| vec![]).unwrap();
    assert_eq!(remembered(), 0);
}

#[test]
fn who_is_forgotten_in_memory_is_forgotten_in_the_store() {
    let (book, store, opened, token) = faulty();
    let keys = Arc::clone(&opened.keys);
    let vault = Vault::start(opened, &strict(), Arc::clone(&book), Arc::new(SystemClock)).unwrap();
    let conduct = vault.clients.after_wrong("quiet", token);
    let mut work = super::commit::Work::default();
    vault.put_conduct(&mut work, "quiet", token, conduct).unwrap();
    vault.pen.write_unrecorded(work).unwrap();
    vault.remember("quiet", token, conduct);
    for client in 0..5000 {
        vault.remember(&client.to_string(), token, vault.clients.after_wrong("nobody", token));
    }
    drop(vault);
    let vault = Vault::start(reopened(&store, &keys), &strict(), book, Arc::new(SystemClock)).unwrap();
    assert_eq!(vault.clients.after_wrong("quiet", token).failed, 1, "it is a stranger again");
}
