//! The vault's promises, tested through its own door: PINs, objects, handles, and what opening says. In the folder: writes that fail, the
//! journal's part, backup and restore.

mod backup;
mod failure;
mod ledger;

pub(super) use failure::{faulty, reopened};

use super::create;
use super::layout::{Role, Table};
use super::ledger::Ledger;
use super::manifest::LedgerHead;
use super::memory::MemoryStore;
use super::vault::StoredObject;
use super::*;
use crate::clock::{Clock, SystemClock};
use crate::config::{PasswordFunction, PinConfig, StoreConfig};
use crate::error::{Error, Kind, Result};
use crate::id::{ObjectId, TokenId};
use crate::object::iv::Reserved;
use crate::secret::SecretBytes;
use parking_lot::Mutex;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// A journal in memory that can be told to fail, and that outlives a vault as a file would.
#[derive(Default)]
pub(super) struct Book {
    pub(super) entries: Mutex<Vec<(u64, Vec<u8>)>>,
    synced: AtomicUsize,
    pub(super) full: AtomicBool,
    /// Panics once.
    pub(super) is_defective: AtomicBool,
}

impl Ledger for Book {
    type Receipt = u64;

    fn append(&self, generation: u64, body: &[u8]) -> Result<u64> {
        assert!(!self.is_defective.swap(false, Ordering::Relaxed), "a defect");
        if self.full.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Device, "the journal is full"));
        }
        let mut entries = self.entries.lock();
        entries.push((generation, body.to_vec()));
        Ok(entries.len() as u64)
    }

    fn sync(&self) -> Result<()> {
        self.synced.store(self.entries.lock().len(), Ordering::Relaxed);
        Ok(())
    }

    fn contains(&self, generation: u64) -> bool {
        self.entries.lock().iter().any(|(found, _)| *found == generation)
    }

    fn last_generation(&self) -> Option<u64> {
        self.entries.lock().iter().map(|(generation, _)| *generation).max()
    }

    fn synced_head(&self) -> LedgerHead {
        LedgerHead { sequence: self.synced.load(Ordering::Relaxed) as u64, hash: [0; 32] }
    }

    fn contains_head(&self, head: &LedgerHead) -> bool {
        self.entries.lock().len() as u64 >= head.sequence
    }
}

pub(super) fn quick() -> PinConfig {
    PinConfig {
        min_length: 4,
        function: PasswordFunction::Pbkdf2 { iterations: 10 },
        client_attempts: 1000,
        ..PinConfig::default()
    }
}

pub(super) fn pin(text: &str) -> SecretBytes {
    SecretBytes::copy_from(text.as_bytes())
}

fn place(dir: &Path) -> StoreConfig {
    StoreConfig { path: dir.join("store"), key_file: None }
}

fn try_open(dir: &Path, book: &Arc<Book>) -> Result<Vault<Book>, OpenError> {
    Vault::open(&place(dir), &quick(), Arc::clone(book), Arc::new(SystemClock))
}

fn open(dir: &Path, book: &Arc<Book>) -> Vault<Book> {
    try_open(dir, book).unwrap()
}

/// An initialised token in slot 0 with SO PIN "so-pin" and user PIN "user-pin".
pub(super) fn ready(vault: &Vault<Book>) -> (TokenId, Arc<TokenMasterKey>) {
    vault.ensure_slot(0, "spare", None).unwrap();
    let (token, _receipt) = vault.init_token(0, "label", &pin("so-pin"), "t", |_| b"init".to_vec()).unwrap();
    let so = vault.unlock(token.id, Role::So, &pin("so-pin"), "t").unwrap();
    let _receipt = vault.init_user_pin(&so, &pin("user-pin"), b"init-pin").unwrap();
    (token.id, vault.unlock(token.id, Role::User, &pin("user-pin"), "t").unwrap())
}

pub(super) fn put(token: TokenId, number: u8, private: bool, text: &str) -> Change {
    let object = ObjectPut { token, id: ObjectId([number; 16]), private, plaintext: pin(text) };
    Change { puts: vec![object], deletes: vec![] }
}

fn texts(objects: Vec<StoredObject>) -> Vec<String> {
    objects.into_iter().map(|object| String::from_utf8(object.plaintext.expose().to_vec()).unwrap()).collect()
}

fn memory() -> (Arc<Book>, Vault<Book>) {
    let book = Arc::new(Book::default());
    let vault = Vault::in_memory(&quick(), Arc::clone(&book), Arc::new(SystemClock)).unwrap();
    (book, vault)
}

pub(super) fn kind<T>(result: Result<T>) -> Option<Kind> {
    result.err().map(|error| error.kind())
}

#[test]
fn a_first_start_makes_a_private_store_and_the_next_opens_it() {
    let dir = tempfile::tempdir().unwrap();
    let book = Arc::new(Book::default());
    let vault = open(dir.path(), &book);
    let (token, tmk) = ready(&vault);
    let _receipt = vault.commit(put(token, 1, false, "public"), None, b"e").unwrap();
    let _receipt = vault.commit(put(token, 2, true, "private"), Some(&tmk), b"e").unwrap();
    let id = vault.store_id();
    drop(vault);
    for (name, mode) in [("store", 0o700), ("store/vault.redb", 0o600), ("store/store.key", 0o600)] {
        let found = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
    let vault = open(dir.path(), &book);
    assert_eq!(vault.store_id(), id);
    assert_eq!(vault.tokens().len(), 1);
    assert_eq!(vault.object_count(token), 2);
    assert_eq!(texts(vault.load_objects(token, None).unwrap()), ["public"]);
    let tmk = vault.unlock(token, Role::User, &pin("user-pin"), "t").unwrap();
    assert_eq!(texts(vault.load_objects(token, Some(&tmk)).unwrap()), ["private"]);
}

#[test]
fn objects_are_replaced_moved_and_destroyed() {
    let (_, vault) = memory();
    let (token, tmk) = ready(&vault);
    let _receipt = vault.commit(put(token, 1, true, "one"), Some(&tmk), b"e").unwrap();
    let _receipt = vault.commit(put(token, 1, true, "two"), Some(&tmk), b"e").unwrap();
    assert_eq!(texts(vault.load_objects(token, Some(&tmk)).unwrap()), ["two"]);
    assert_eq!(vault.object_count(token), 1);
    let _receipt = vault.commit(put(token, 1, false, "three"), Some(&tmk), b"e").unwrap();
    assert!(vault.load_objects(token, Some(&tmk)).unwrap().is_empty());
    assert_eq!(texts(vault.load_objects(token, None).unwrap()), ["three"]);
    let gone = Change { puts: vec![], deletes: vec![(token, ObjectId([1; 16]))] };
    let _receipt = vault.commit(gone, None, b"e").unwrap();
    assert_eq!(vault.object_count(token), 0);
    vault.snapshot_for_backup().unwrap();
}

#[test]
fn a_private_object_needs_its_own_tokens_key() {
    let (_, vault) = memory();
    let (token, _) = ready(&vault);
    vault.ensure_slot(1, "other", None).unwrap();
    let (other, _receipt) = vault.init_token(1, "other", &pin("so-pin"), "t", |_| vec![]).unwrap();
    let other_tmk = vault.unlock(other.id, Role::So, &pin("so-pin"), "t").unwrap();
    assert_eq!(kind(vault.commit(put(token, 1, true, "x"), None, b"e")), Some(Kind::NotLoggedIn));
    assert_eq!(kind(vault.commit(put(token, 1, true, "x"), Some(&other_tmk), b"e")), Some(Kind::NotLoggedIn));
    assert!(vault.load_objects(token, Some(&other_tmk)).is_err());
}

#[test]
fn sixty_four_writers_lose_nothing() {
    let (book, vault) = memory();
    let (token, tmk) = ready(&vault);
    let before = book.entries.lock().len();
    std::thread::scope(|scope| {
        for number in 0..64 {
            let (vault, tmk) = (&vault, &tmk);
            scope.spawn(move || {
                for round in 0..8 {
                    let change = put(token, number, round % 2 == 0, &format!("{number}:{round}"));
                    let _receipt = vault.commit(change, Some(tmk), b"e").unwrap();
                }
            });
        }
    });
    assert_eq!(vault.object_count(token), 64);
    let generations: Vec<_> = book.entries.lock()[before..].iter().map(|(generation, _)| *generation).collect();
    assert_eq!(generations.len(), 64 * 8);
    assert!(generations.is_sorted_by(|a, b| a < b), "entries are in order of generation");
    vault.snapshot_for_backup().unwrap();
}

#[test]
fn handles_are_never_given_twice() {
    let dir = tempfile::tempdir().unwrap();
    let book = Arc::new(Book::default());
    let mut end = 1;
    for _ in 0..3 {
        let vault = open(dir.path(), &book);
        for count in [1, 10, 1000] {
            let range = vault.reserve_handles(count).unwrap();
            assert_eq!((range.start, range.end), (end, end + count));
            end = range.end;
        }
    }
}

#[test]
fn a_wrong_so_pin_at_initialisation_changes_nothing() {
    let (book, vault) = memory();
    let (token, tmk) = ready(&vault);
    let _receipt = vault.commit(put(token, 1, true, "kept"), Some(&tmk), b"e").unwrap();
    let entries = book.entries.lock().len();
    let refused = vault.init_token(0, "new", &pin("wrong"), "t", |_| vec![]);
    assert_eq!(kind(refused), Some(Kind::PinIncorrect));
    assert_eq!(vault.pin_state(token, Role::So).unwrap().failed, 1);
    assert_eq!(vault.token_in_slot(0).unwrap().label, "label");
    assert_eq!(texts(vault.load_objects(token, Some(&tmk)).unwrap()), ["kept"]);
    assert_eq!(book.entries.lock().len(), entries);
}

#[test]
fn initialisation_keeps_the_serial_and_nothing_else() {
    let (_, vault) = memory();
    let (token, tmk) = ready(&vault);
    let _receipt = vault.commit(put(token, 1, true, "lost"), Some(&tmk), b"e").unwrap();
    let serial = vault.token_in_slot(0).unwrap().serial;
    let (new, _receipt) = vault.init_token(0, "new", &pin("so-pin"), "t", |_| vec![]).unwrap();
    assert_ne!(new.id, token);
    assert_eq!(new.serial, serial);
    assert_eq!(vault.object_count(token), 0);
    assert_eq!(kind(vault.unlock(new.id, Role::User, &pin("user-pin"), "t")), Some(Kind::UserPinNotInitialized));
    assert_eq!(kind(vault.unlock(token, Role::User, &pin("user-pin"), "t")), Some(Kind::TokenNotInitialized));
    let late = vault.commit(put(token, 1, true, "late"), Some(&tmk), b"e");
    assert_eq!(kind(late), Some(Kind::TokenNotInitialized), "a change of the old token comes too late");
    vault.snapshot_for_backup().unwrap();
}

#[test]
fn pins_lock_after_the_configured_attempts_and_the_so_unlocks() {
    let (_, vault) = memory();
    let (token, _) = ready(&vault);
    let max = quick().max_attempts;
    for failed in 1..=max {
        assert_eq!(kind(vault.unlock(token, Role::User, &pin("guess"), "t")), Some(Kind::PinIncorrect));
        let state = vault.pin_state(token, Role::User).unwrap();
        assert_eq!((state.failed, state.locked), (failed, failed == max));
        assert_eq!(state.final_try, failed + 1 == max);
        assert!(state.count_low && state.set);
    }
    let derivations = vault.derivations();
    assert_eq!(kind(vault.unlock(token, Role::User, &pin("user-pin"), "t")), Some(Kind::PinLocked));
    assert_eq!(vault.derivations(), derivations, "a locked PIN is not checked");
    let so = vault.unlock(token, Role::So, &pin("so-pin"), "t").unwrap();
    let _receipt = vault.init_user_pin(&so, &pin("fresh"), b"e").unwrap();
    assert_eq!(vault.pin_state(token, Role::User).unwrap().failed, 0);
    vault.unlock(token, Role::User, &pin("fresh"), "t").unwrap();
}

#[test]
fn a_right_pin_clears_the_count() {
    let (_, vault) = memory();
    let (token, _) = ready(&vault);
    for _ in 0..30 {
        assert_eq!(kind(vault.unlock(token, Role::User, &pin("guess"), "t")), Some(Kind::PinIncorrect));
        vault.unlock(token, Role::User, &pin("user-pin"), "t").unwrap();
    }
}

#[test]
fn an_so_reset_of_the_user_pin_loses_no_object() {
    let (_, vault) = memory();
    let (token, tmk) = ready(&vault);
    let puts = (0..1000_u16).map(|number| {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        ObjectPut { token, id: ObjectId(id), private: true, plaintext: pin(&number.to_string()) }
    });
    let _receipt = vault.commit(Change { puts: puts.collect(), deletes: vec![] }, Some(&tmk), b"e").unwrap();
    let so = vault.unlock(token, Role::So, &pin("so-pin"), "t").unwrap();
    let _receipt = vault.init_user_pin(&so, &pin("another"), b"e").unwrap();
    assert_eq!(kind(vault.unlock(token, Role::User, &pin("user-pin"), "t")), Some(Kind::PinIncorrect));
    let tmk = vault.unlock(token, Role::User, &pin("another"), "t").unwrap();
    let expected: Vec<_> = (0..1000_u16).map(|number| number.to_string()).collect();
    assert_eq!(texts(vault.load_objects(token, Some(&tmk)).unwrap()), expected);
}

#[test]
fn a_pin_change_needs_the_old_pin_and_an_allowed_length() {
    let (_, vault) = memory();
    let (token, _) = ready(&vault);
    let change = |old: &str, new: &str| vault.set_pin(token, Role::User, &pin(old), &pin(new), "t", b"e");
    assert_eq!(kind(change("user-pin", "abc")), Some(Kind::PinLength));
    assert_eq!(kind(change("user-pin", &"x".repeat(65))), Some(Kind::PinLength));
    assert_eq!(vault.pin_state(token, Role::User).unwrap().failed, 0);
    assert_eq!(kind(change("wrong", "next-pin")), Some(Kind::PinIncorrect));
    let _receipt = change("user-pin", "next-pin").unwrap();
    assert_eq!(vault.pin_state(token, Role::User).unwrap().failed, 0);
    assert_eq!(kind(vault.unlock(token, Role::User, &pin("user-pin"), "t")), Some(Kind::PinIncorrect));
    vault.unlock(token, Role::User, &pin("next-pin"), "t").unwrap();
    vault.unlock(token, Role::So, &pin("so-pin"), "t").unwrap();
}

#[test]
fn one_client_is_stopped_before_the_token_locks() {
    let pins = PinConfig { client_attempts: 5, client_cooldown: Duration::from_secs(3600), ..quick() };
    let vault = Vault::in_memory(&pins, Arc::new(Book::default()), Arc::new(SystemClock)).unwrap();
    let (token, _) = ready(&vault);
    let before = vault.derivations();
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| vault.unlock(token, Role::User, &pin("guess"), "uid:7").is_ok());
        }
    });
    for _ in 0..10 {
        let _refused = vault.unlock(token, Role::User, &pin("guess"), "uid:7").unwrap_err();
    }
    assert_eq!(vault.derivations() - before, 5);
    assert_eq!(kind(vault.unlock(token, Role::User, &pin("user-pin"), "uid:7")), Some(Kind::LoginBackoff));
    vault.unlock(token, Role::User, &pin("user-pin"), "uid:8").unwrap();
}

#[test]
fn an_unset_pin_is_as_slow_as_a_wrong_one() {
    let (_, vault) = memory();
    vault.ensure_slot(0, "spare", None).unwrap();
    let (token, _receipt) = vault.init_token(0, "label", &pin("so-pin"), "t", |_| vec![]).unwrap();
    let before = vault.derivations();
    assert_eq!(kind(vault.unlock(token.id, Role::User, &pin("x"), "t")), Some(Kind::UserPinNotInitialized));
    assert_eq!(kind(vault.unlock(TokenId([9; 16]), Role::So, &pin("x"), "t")), Some(Kind::TokenNotInitialized));
    assert_eq!(vault.derivations() - before, 2);
}

#[test]
fn opening_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let book = Arc::new(Book::default());
    let vault = open(dir.path(), &book);
    assert!(matches!(try_open(dir.path(), &book), Err(OpenError::InUse(_))));
    drop(vault);
    let key = dir.path().join("store/store.key");
    let text = std::fs::read(&key).unwrap();

    std::fs::remove_file(&key).unwrap();
    let sealed = try_open(dir.path(), &book).err().unwrap();
    assert!(sealed.is_sealed(), "{sealed}");
    assert!(!key.exists(), "no new key is made for an old store");

    std::fs::write(&key, format!("craton-store-key-1 {}\n", "00".repeat(32))).unwrap();
    assert!(matches!(try_open(dir.path(), &book), Err(OpenError::Permissions { .. })));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(try_open(dir.path(), &book), Err(OpenError::WrongKey { .. })));
    std::fs::write(&key, "hello").unwrap();
    assert!(matches!(try_open(dir.path(), &book), Err(OpenError::KeyMalformed(_))));

    std::fs::write(&key, text).unwrap();
    let store = dir.path().join("store");
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(try_open(dir.path(), &book), Err(OpenError::Permissions { .. })));
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o700)).unwrap();
    open(dir.path(), &book);
}

#[test]
fn a_stolen_store_without_its_key_tells_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let book = Arc::new(Book::default());
    let vault = open(dir.path(), &book);
    let (token, tmk) = ready(&vault);
    let _receipt =
        vault.commit(put(token, 1, false, "a public certificate"), None, b"an entry of the journal").unwrap();
    let _receipt = vault.commit(put(token, 2, true, "a private key"), Some(&tmk), b"e").unwrap();
    let snapshot = vault.snapshot_for_backup().unwrap();
    let id = snapshot.store_id;
    let file = std::fs::read(dir.path().join("store/vault.redb")).unwrap();
    for text in ["a public certificate", "a private key", "an entry of the journal", "user-pin", "so-pin", "label"] {
        assert!(!file.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
    }
    // Whoever has the right PIN in a list, and not the store key, cannot even begin: the slot's salt is sealed.
    let guess = seal::StoreKeys::new(seal::Key::from_slice(&[0; 32]).unwrap(), id);
    let mut opened = 0;
    let mut visit = |table: &str, key: &[u8], row: &[u8]| {
        let place = seal::Place { table: Table::from_name(table).unwrap(), key };
        opened += usize::from(guess.open_row(None, place, row).is_ok());
        Ok(())
    };
    snapshot.for_each(&mut visit).unwrap();
    assert_eq!(opened, 0);
}

#[test]
fn a_damaged_file_is_refused_and_never_panics() {
    let dir = tempfile::tempdir().unwrap();
    let book = Arc::new(Book::default());
    ready(&open(dir.path(), &book));
    let file = dir.path().join("store/vault.redb");
    let good = std::fs::read(&file).unwrap();
    let mut damages: Vec<Vec<u8>> = vec![vec![], b"not a store".to_vec(), good[..good.len() / 2].to_vec()];
    damages.push(good[..good.len() - 4096].to_vec());
    damages.push(vec![0; good.len()]);
    for damage in damages {
        std::fs::write(&file, &damage).unwrap();
        let refused = try_open(dir.path(), &book).err();
        assert!(refused.is_some(), "{} bytes", damage.len());
    }
    std::fs::write(&file, &good).unwrap();
    open(dir.path(), &book);
}

#[test]
fn a_flipped_bit_of_the_file_is_refused_or_lies_in_free_space() {
    let dir = tempfile::tempdir().unwrap();
    let book = Arc::new(Book::default());
    let vault = open(dir.path(), &book);
    let (token, _) = ready(&vault);
    let _receipt = vault.commit(put(token, 1, false, "public"), None, b"e").unwrap();
    drop(vault);
    let file = dir.path().join("store/vault.redb");
    let good = std::fs::read(&file).unwrap();
    let mut refused = 0;
    // Most of the file is free space: every seventh byte of its busy pages, and no more.
    let busy = good.chunks(4096).enumerate().filter(|(_, page)| page.iter().any(|byte| *byte != 0));
    let offsets = busy.flat_map(|(page, bytes)| (0..bytes.len()).step_by(331).map(move |at| page * 4096 + at));
    for offset in offsets.collect::<Vec<_>>() {
        let mut flipped = good.clone();
        flipped[offset] ^= 0x10;
        std::fs::write(&file, &flipped).unwrap();
        match try_open(dir.path(), &book) {
            Err(_) => refused += 1,
            Ok(vault) => assert_eq!(texts(vault.load_objects(token, None).unwrap()), ["public"], "byte {offset}"),
        }
    }
    assert!(refused > 10, "{refused} of the flips hit something");
}

struct Still;

impl Clock for Still {
    fn now_unix_nanos(&self) -> u64 {
        42
    }
}

#[test]
fn a_slot_keeps_its_serial_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let book = Arc::new(Book::default());
    let vault = Vault::open(&place(dir.path()), &quick(), Arc::clone(&book), Arc::new(Still)).unwrap();
    let chosen = vault.ensure_slot(0, "a", Some("chosen")).unwrap();
    let random = vault.ensure_slot(1, "b", None).unwrap();
    assert_eq!((chosen.serial.as_str(), chosen.created_ns, random.serial.len()), ("chosen", 42, 16));
    drop(vault);
    let vault = open(dir.path(), &book);
    assert_eq!(vault.ensure_slot(1, "c", None).unwrap(), random);
    assert_eq!(vault.tokens(), [chosen, random]);
    assert_eq!(kind(vault.init_token(5, "x", &pin("so-pin"), "t", |_| vec![])), Some(Kind::NoSuchSlot));
    assert_eq!(kind(vault.init_token(0, "x", &pin("abc"), "t", |_| vec![])), Some(Kind::PinLength));
}
