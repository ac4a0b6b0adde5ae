//! What the time of the store's functions might tell: where a commitment differs, whether there is a PIN.

use super::layout::{Role, Table};
use super::seal::{self, Key, Label, Place};
use super::vault_tests::{Book, pin, quick, ready};
use super::*;
use crate::clock::SystemClock;
use crate::config::{PasswordFunction, PinConfig};
use crate::id::{ObjectId, TokenId};
use crate::timing::compare;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

#[test]
#[ignore = "a measurement"]
fn timing_of_records_with_the_first_or_the_last_byte_of_the_commitment_wrong() {
    let key = Key::from_slice(&[7; 32]).unwrap();
    let (token, object) = (TokenId([2; 16]), ObjectId([3; 16]));
    let label = Label { record_type: 7, store_id: [1; 16], token, object, version: 1, epoch: 1 };
    let place = Place { table: Table::PrivateObject, key: b"key" };
    let record = seal::seal(&key, &label, place, &[9; 64]).unwrap();
    let mut buffer = record.clone();
    compare("commitment of a record, first or last byte wrong", 500_000, |last| {
        buffer.copy_from_slice(&record);
        buffer[if last { 131 } else { 100 }] ^= 1;
        let begun = Instant::now();
        let _wrong = black_box(seal::open(&key, place, &buffer).is_ok());
        begun.elapsed()
    });
}

#[test]
#[ignore = "a measurement"]
fn timing_of_a_wrong_pin_and_of_one_that_is_not_set() {
    let pins = PinConfig {
        function: PasswordFunction::Pbkdf2 { iterations: 20_000 },
        max_attempts: u32::MAX,
        client_attempts: u32::MAX,
        ..quick()
    };
    let vault = Vault::in_memory(&pins, Arc::new(Book::default()), Arc::new(SystemClock)).unwrap();
    let (with, _) = ready(&vault);
    vault.ensure_slot(1, "without", None).unwrap();
    let (without, _receipt) = vault.init_token(1, "without", &pin("so-pin"), "t", |_| vec![]).unwrap();
    compare("a wrong PIN, or one that is not set (store in memory)", 5000, |unset| {
        let token = if unset { without.id } else { with };
        let guess = pin("guess");
        let begun = Instant::now();
        let _refused = black_box(vault.unlock(token, Role::User, &guess, "t").is_ok());
        begun.elapsed()
    });
}
