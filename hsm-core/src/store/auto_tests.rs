//! The AUTO slot: it opens the token without a PIN, only where it was made, only as long as it is there, and through rotations.

use super::commit::Work;
use super::layout::{self, AutoSlot, Role, Table};
use super::vault_tests::{Book, kind, pin, put, quick, ready};
use super::*;
use crate::clock::SystemClock;
use crate::error::Kind;
use crate::id::TokenId;
use prost::Message;
use std::sync::Arc;

const TEXTS: [&str; 2] = ["one", "two"];

/// A vault whose token has two private objects and an AUTO slot.
fn unattended() -> (Vault<Book>, TokenId) {
    let vault = Vault::in_memory(&quick(), Arc::new(Book::default()), Arc::new(SystemClock)).unwrap();
    let (token, tmk) = ready(&vault);
    for (number, text) in (1..).zip(TEXTS) {
        let _receipt = vault.commit(put(token, number, true, text), Some(&tmk), b"e").unwrap();
    }
    drop(tmk);
    let _receipt = vault.enable_auto_login(token, &pin("user-pin"), "t", b"on").unwrap();
    (vault, token)
}

/// Whether the AUTO slot opens the token, and its objects.
fn opens(vault: &Vault<Book>, token: TokenId) -> Result<bool, Kind> {
    let tmk = vault.unlock_without_pin(token).map_err(|error| error.kind())?;
    let objects = vault.load_objects(token, Some(&tmk)).map_err(|error| error.kind())?;
    let mut texts: Vec<_> = objects.into_iter().map(|object| object.plaintext).collect();
    texts.sort_by(|a, b| a.expose().cmp(b.expose()));
    Ok(texts.len() == 2 && texts.iter().zip(TEXTS).all(|(found, text)| found.expose() == text.as_bytes()))
}

/// Puts a slot's message in a token's row, as only the holder of the store key can.
fn plant(vault: &Vault<Book>, token: TokenId, slot: &AutoSlot) {
    let key = layout::auto_key(token);
    let mut work = Work::default();
    work.batch.put(Table::Pin, &key, vault.seal_own(Table::Pin, token, &key, &slot.encode_to_vec()).unwrap());
    vault.pen.write_unrecorded(work).unwrap();
}

fn slot(vault: &Vault<Book>, token: TokenId) -> AutoSlot {
    let body = vault.open_row(Table::Pin, &layout::auto_key(token)).unwrap().unwrap();
    AutoSlot::decode(body.expose()).unwrap()
}

#[test]
fn it_opens_the_token_and_no_count_of_pins_is_touched() {
    let (vault, token) = unattended();
    assert_eq!(kind(vault.unlock(token, Role::User, &pin("wrong"), "t")), Some(Kind::PinIncorrect));
    let derivations = vault.derivations();
    assert_eq!(opens(&vault, token), Ok(true));
    assert_eq!(vault.derivations(), derivations, "a PIN was stretched");
    assert_eq!(vault.pin_state(token, Role::User).unwrap().failed, 1);
    for _ in 1..10 {
        assert_eq!(kind(vault.unlock(token, Role::User, &pin("wrong"), "t")), Some(Kind::PinIncorrect));
    }
    assert!(vault.pin_state(token, Role::User).unwrap().locked);
    assert_eq!(opens(&vault, token), Ok(true), "who guesses PINs does not stop who needs none");
    assert!(vault.pin_state(token, Role::User).unwrap().locked);
}

#[test]
fn it_takes_the_user_pin_to_make_it_and_nothing_to_take_it_away() {
    let (vault, token) = unattended();
    let _receipt = vault.disable_auto_login(token, b"off").unwrap();
    assert!(!vault.has_auto_slot(token).unwrap());
    assert_eq!(opens(&vault, token), Err(Kind::PinIncorrect));
    for wrong in ["so-pin", ""] {
        assert_eq!(kind(vault.enable_auto_login(token, &pin(wrong), "t", b"on")), Some(Kind::PinIncorrect));
    }
    assert!(!vault.has_auto_slot(token).unwrap());
    assert_eq!(vault.pin_state(token, Role::User).unwrap().failed, 2, "such a guess counts as any other");
    let _receipt = vault.disable_auto_login(token, b"off").unwrap();
    let _receipt = vault.enable_auto_login(token, &pin("user-pin"), "t", b"on").unwrap();
    assert_eq!(vault.pin_state(token, Role::User).unwrap().failed, 0);
    assert_eq!(opens(&vault, token), Ok(true));
}

#[test]
fn pins_change_and_it_stays_a_new_token_has_none() {
    let (vault, token) = unattended();
    let _receipt = vault.set_pin(token, Role::User, &pin("user-pin"), &pin("another"), "t", b"e").unwrap();
    assert_eq!(opens(&vault, token), Ok(true));
    let so = vault.unlock(token, Role::So, &pin("so-pin"), "t").unwrap();
    let _receipt = vault.init_user_pin(&so, &pin("a third"), b"e").unwrap();
    drop(so);
    assert_eq!(opens(&vault, token), Ok(true));
    let (new, _receipt) = vault.init_token(0, "label", &pin("so-pin"), "t", |_| b"e".to_vec()).unwrap();
    for token in [token, new.id] {
        assert!(!vault.has_auto_slot(token).unwrap());
        assert_eq!(opens(&vault, token), Err(Kind::PinIncorrect));
    }
}

#[test]
fn a_rotation_wraps_the_new_key_in_it_whoever_has_come_by_then() {
    for user in [None, Some(pin("user-pin"))] {
        let (vault, token) = unattended();
        let (tmk, _receipt) = vault.begin_rotation(token, &pin("so-pin"), user.as_ref(), "t", b"e").unwrap();
        drop(tmk);
        // Nobody holds the key now, and the objects are still sealed under the old one.
        assert_eq!(opens(&vault, token), Ok(true));
        let tmk = vault.unlock_without_pin(token).unwrap();
        assert_eq!(vault.finish_rotation(&tmk).unwrap().epoch, 2);
        drop(tmk);
        assert_eq!(opens(&vault, token), Ok(true));
        assert!(vault.unlock(token, Role::User, &pin("user-pin"), "t").is_ok());
        assert_eq!(opens(&vault, token), Ok(true));
    }
}

#[test]
fn one_that_a_rotation_left_behind_opens_nothing() {
    let (vault, token) = unattended();
    let old = slot(&vault, token);
    let (tmk, _receipt) = vault.begin_rotation(token, &pin("so-pin"), Some(&pin("user-pin")), "t", b"e").unwrap();
    // What a program would leave that does not know the slot.
    plant(&vault, token, &old);
    assert_eq!(opens(&vault, token), Err(Kind::PinIncorrect));
    vault.finish_rotation(&tmk).unwrap();
    drop(tmk);
    assert_eq!(opens(&vault, token), Err(Kind::PinIncorrect));
    let (tmk, _receipt) = vault.begin_rotation(token, &pin("so-pin"), Some(&pin("user-pin")), "t", b"e").unwrap();
    vault.finish_rotation(&tmk).unwrap();
    drop(tmk);
    assert_eq!(opens(&vault, token), Err(Kind::PinIncorrect), "the next rotation leaves it there");
    let _receipt = vault.enable_auto_login(token, &pin("user-pin"), "t", b"on").unwrap();
    assert_eq!(opens(&vault, token), Ok(true));
}

#[test]
fn every_flipped_bit_of_what_is_in_it_is_refused() {
    let (vault, token) = unattended();
    let good = slot(&vault, token);
    for bit in 0..good.wrapped.len() * 8 {
        let mut bad = good.clone();
        bad.wrapped[bit / 8] ^= 1 << (bit % 8);
        plant(&vault, token, &bad);
        assert_eq!(opens(&vault, token), Err(Kind::Device), "bit {bit}");
    }
    plant(&vault, token, &AutoSlot { version: good.version + 1, ..good.clone() });
    assert_eq!(opens(&vault, token), Err(Kind::Device), "another version");
    plant(&vault, token, &good);
    assert_eq!(opens(&vault, token), Ok(true));
}

#[test]
fn it_opens_no_other_token() {
    let (vault, token) = unattended();
    vault.ensure_slot(1, "spare", None).unwrap();
    let (other, _receipt) = vault.init_token(1, "other", &pin("so-pin"), "t", |_| b"e".to_vec()).unwrap();
    plant(&vault, other.id, &slot(&vault, token));
    assert_eq!(kind(vault.unlock_without_pin(other.id)), Some(Kind::Device));
    assert_eq!(opens(&vault, token), Ok(true));
}
