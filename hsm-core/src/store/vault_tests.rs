//! The vault's promises, tested through its own door: PINs, objects, the journal's part, backup and restore.

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

/// Fails commits, or pretends a crash after them, from the n-th on.
pub(super) struct Faulty {
    inner: Arc<MemoryStore>,
    /// Commits that still succeed.
    pub(super) left: AtomicUsize,
    /// Whether a commit that fails has written nevertheless.
    writes_all_the_same: AtomicBool,
    /// Nothing can be read: it was closed, and could not be opened again.
    closed: AtomicBool,
}

impl Store for Faulty {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        if self.closed.load(Ordering::Relaxed) { Err(StoreError::Io("closed".into())) } else { self.inner.snapshot() }
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let broken = self.left.load(Ordering::Relaxed) == 0;
        self.closed.store(broken, Ordering::Relaxed);
        if broken { Err(StoreError::Io("injected".into())) } else { Ok(()) }
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            if self.writes_all_the_same.load(Ordering::Relaxed) {
                self.inner.commit(batch)?;
            }
            return Err(StoreError::Io("injected".into()));
        }
        self.left.store(left - 1, Ordering::Relaxed);
        self.inner.commit(batch)
    }
}

/// A vault whose store can be made to fail, and the bytes that a restart would find.
pub(super) fn faulty() -> (Arc<Book>, Arc<Faulty>, create::Opened, TokenId) {
    let book = Arc::new(Book::default());
    let inner = Arc::new(MemoryStore::default());
    let (left, no) = (AtomicUsize::new(usize::MAX), || AtomicBool::new(false));
    let store = Arc::new(Faulty { inner, left, writes_all_the_same: no(), closed: no() });
    let opened = create::create_in(Arc::clone(&store) as Arc<dyn Store>).unwrap();
    let keys = Arc::clone(&opened.keys);
    let vault = Vault::start(opened, &quick(), Arc::clone(&book), Arc::new(SystemClock)).unwrap();
    let (token, _) = ready(&vault);
    drop(vault);
    (Arc::clone(&book), Arc::clone(&store), reopened(&store, &keys), token)
}

pub(super) fn reopened(store: &Arc<Faulty>, keys: &Arc<seal::StoreKeys>) -> create::Opened {
    let path = Path::new("(memory)");
    let verified = verify::verify(&*store.snapshot().unwrap(), keys, path).unwrap();
    let store = Arc::clone(store) as Arc<dyn Store>;
    create::Opened { store, keys: Arc::clone(keys), verified, lock: None }
}

fn start(opened: create::Opened, book: &Arc<Book>) -> Vault<Book> {
    Vault::start(opened, &quick(), Arc::clone(book), Arc::new(SystemClock)).unwrap()
}

#[test]
fn an_attempt_that_cannot_be_counted_is_not_checked() {
    let (book, store, opened, token) = faulty();
    let vault = start(opened, &book);
    store.left.store(0, Ordering::Relaxed);
    let derivations = vault.derivations();
    for text in ["user-pin", "wrong", "user-pin"] {
        assert_eq!(kind(vault.unlock(token, Role::User, &pin(text), "t")), Some(Kind::Device));
    }
    assert_eq!(vault.derivations(), derivations);
}

#[test]
fn a_crash_between_count_and_check_costs_an_attempt() {
    let (book, store, opened, token) = faulty();
    let keys = Arc::clone(&opened.keys);
    let vault = start(opened, &book);
    // The count is written; then the machine stops: nothing after it reaches the disk.
    store.left.store(1, Ordering::Relaxed);
    assert_eq!(kind(vault.unlock(token, Role::User, &pin("user-pin"), "t")), Some(Kind::Device));
    drop(vault);
    store.left.store(usize::MAX, Ordering::Relaxed);
    let vault = start(reopened(&store, &keys), &book);
    assert_eq!(vault.pin_state(token, Role::User).unwrap().failed, 1);
}

#[test]
fn a_crash_in_a_pin_change_leaves_the_old_or_the_new_pin() {
    // A PIN change is two commits: the counted attempt, then slot and count together.
    for commits in 0..3 {
        let (book, store, opened, token) = faulty();
        let keys = Arc::clone(&opened.keys);
        let vault = start(opened, &book);
        store.left.store(commits, Ordering::Relaxed);
        let changed = vault.set_pin(token, Role::User, &pin("user-pin"), &pin("next-pin"), "t", b"e");
        assert_eq!(changed.is_ok(), commits == 2);
        drop(changed);
        drop(vault);
        store.left.store(usize::MAX, Ordering::Relaxed);
        let vault = start(reopened(&store, &keys), &book);
        let works = |text| vault.unlock(token, Role::User, &pin(text), "t").is_ok();
        assert_eq!((works("user-pin"), works("next-pin")), (commits < 2, commits == 2), "after {commits} commits");
    }
}

#[test]
fn a_failed_commit_stops_writes_and_not_reads() {
    let (book, store, opened, token) = faulty();
    let vault = start(opened, &book);
    let tmk = vault.unlock(token, Role::User, &pin("user-pin"), "t").unwrap();
    let _receipt = vault.commit(put(token, 1, true, "kept"), Some(&tmk), b"e").unwrap();
    store.left.store(0, Ordering::Relaxed);
    assert_eq!(kind(vault.commit(put(token, 2, true, "lost"), Some(&tmk), b"e")), Some(Kind::Device));
    assert!(vault.is_poisoned());
    assert_eq!(texts(vault.load_objects(token, Some(&tmk)).unwrap()), ["kept"]);
    assert_eq!(kind(vault.commit(put(token, 3, true, "late"), Some(&tmk), b"e")), Some(Kind::Device));
    assert!(book.entries.lock().iter().filter(|(_, body)| body == b"e").count() == 1);
}

/// A login reads the PIN's slot before it writes the count. After a write that failed, and an opening that failed, it could read nothing, so
/// it never came to the write that would have had the store opened again: a token at which people only logged in stayed closed for ever.
#[test]
fn a_login_has_a_store_opened_again_that_a_failed_write_had_closed() {
    let (book, store, opened, token) = faulty();
    let vault = start(opened, &book);
    let login = |vault: &Vault<Book>| vault.unlock(token, Role::User, &pin("user-pin"), "t");
    store.left.store(0, Ordering::Relaxed);
    for _ in 0..3 {
        assert_eq!(kind(login(&vault)), Some(Kind::Device));
    }
    assert!(store.closed.load(Ordering::Relaxed), "it was tried to open it");
    store.left.store(usize::MAX, Ordering::Relaxed);
    let begun = std::time::Instant::now();
    while let Err(error) = login(&vault) {
        assert!(begun.elapsed().as_secs() < 60, "{error}");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!vault.is_poisoned());
}

/// Commits until the store has been opened again: it is tried once a second.
fn commit_when_open(vault: &Vault<Book>, token: TokenId, tmk: &TokenMasterKey, number: u8, text: &str) {
    let begun = std::time::Instant::now();
    while let Err(error) = vault.commit(put(token, number, true, text), Some(tmk), b"e") {
        assert!(begun.elapsed().as_secs() < 60, "{error}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_store_whose_write_failed_serves_again_when_it_verifies() {
    for wrote in [false, true] {
        let (book, store, opened, token) = faulty();
        let vault = start(opened, &book);
        let told = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&told);
        vault.when_ahead(move |tokens| counted.store(tokens.len(), Ordering::Relaxed));
        let tmk = vault.unlock(token, Role::User, &pin("user-pin"), "t").unwrap();
        commit_when_open(&vault, token, &tmk, 1, "kept");
        store.writes_all_the_same.store(wrote, Ordering::Relaxed);
        store.left.store(0, Ordering::Relaxed);
        assert_eq!(kind(vault.commit(put(token, 2, true, "in doubt"), Some(&tmk), b"doubt")), Some(Kind::Device));
        assert_eq!(kind(vault.commit(put(token, 3, true, "late"), Some(&tmk), b"e")), Some(Kind::Device));
        store.left.store(usize::MAX, Ordering::Relaxed);
        commit_when_open(&vault, token, &tmk, 4, "again");
        assert!(!vault.is_poisoned());
        let texts = texts(vault.load_objects(token, Some(&tmk)).unwrap());
        assert_eq!(texts, if wrote { vec!["kept", "in doubt", "again"] } else { vec!["kept", "again"] });
        // The change in doubt has its entry if it happened, and none if it did not.
        let doubts = book.entries.lock().iter().filter(|(_, body)| body == b"doubt").count();
        assert_eq!((doubts, told.load(Ordering::Relaxed) > 0), (usize::from(wrote), wrote));
    }
}

#[test]
fn a_store_that_came_back_older_stays_closed() {
    let (book, store, opened, token) = faulty();
    let older = store.inner.snapshot().unwrap();
    let mut rows = Batch::default();
    for table in Table::SEALED.into_iter().chain([Table::Meta]) {
        let mut keep = |key: &[u8], row: &[u8]| {
            rows.put(table, key, row.to_vec());
            Ok(())
        };
        older.scan(table, &[], &mut keep).unwrap();
    }
    let vault = start(opened, &book);
    let tmk = vault.unlock(token, Role::User, &pin("user-pin"), "t").unwrap();
    let _receipt = vault.commit(put(token, 1, true, "answered"), Some(&tmk), b"e").unwrap();
    store.left.store(0, Ordering::Relaxed);
    assert_eq!(kind(vault.commit(put(token, 2, true, "lost"), Some(&tmk), b"e")), Some(Kind::Device));
    let answered = store.inner.snapshot().unwrap();
    for table in Table::SEALED {
        let mut gone = |key: &[u8], _: &[u8]| {
            if rows.get(table, key).is_none() {
                rows.delete(table, key);
            }
            Ok(())
        };
        answered.scan(table, &[], &mut gone).unwrap();
    }
    store.inner.commit(&rows).unwrap();
    store.left.store(usize::MAX, Ordering::Relaxed);
    let refused = vault.commit(put(token, 3, true, "never"), Some(&tmk), b"e").expect_err("refused");
    assert!(refused.to_string().contains("was answered"), "{refused}");
    assert!(vault.is_poisoned());
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
fn every_change_has_its_entry_even_when_the_journal_was_full() {
    let (book, vault) = memory();
    let (token, tmk) = ready(&vault);
    book.full.store(true, Ordering::Relaxed);
    assert_eq!(kind(vault.commit(put(token, 1, true, "first"), Some(&tmk), b"first")), Some(Kind::Device));
    let stored = vault.load_objects(token, Some(&tmk)).unwrap().len();
    assert_eq!(kind(vault.commit(put(token, 2, true, "second"), Some(&tmk), b"second")), Some(Kind::Device));
    assert_eq!(vault.load_objects(token, Some(&tmk)).unwrap().len(), stored, "refused before it was stored");
    book.full.store(false, Ordering::Relaxed);
    let _receipt = vault.commit(put(token, 3, true, "third"), Some(&tmk), b"third").unwrap();
    let last: Vec<_> = book.entries.lock().iter().rev().take(2).map(|(_, body)| body.clone()).collect();
    assert_eq!(last, [b"third".to_vec(), b"first".to_vec()]);
}

#[test]
fn entries_that_a_crash_kept_from_the_journal_are_appended_at_the_start() {
    let (book, store, opened, token) = faulty();
    let keys = Arc::clone(&opened.keys);
    let vault = start(opened, &book);
    let tmk = vault.unlock(token, Role::User, &pin("user-pin"), "t").unwrap();
    book.full.store(true, Ordering::Relaxed);
    assert_eq!(kind(vault.commit(put(token, 1, true, "x"), Some(&tmk), b"orphan")), Some(Kind::Device));
    drop(vault);
    book.full.store(false, Ordering::Relaxed);
    let count = || book.entries.lock().iter().filter(|(_, body)| body == b"orphan").count();
    assert_eq!(count(), 0);
    for _ in 0..2 {
        drop(start(reopened(&store, &keys), &book));
        assert_eq!(count(), 1);
    }
}

#[test]
fn the_outbox_is_emptied_as_the_journal_becomes_durable() {
    let (book, store, opened, token) = faulty();
    let keys = Arc::clone(&opened.keys);
    let vault = start(opened, &book);
    for number in 0..200 {
        let _receipt = vault.commit(put(token, number, false, "x"), None, b"e").unwrap();
    }
    let waiting = |opened: create::Opened| opened.verified.outbox.len();
    assert!(waiting(reopened(&store, &keys)) <= 66);
    drop(vault);
    assert_eq!(waiting(reopened(&store, &keys)), 0);
    assert_eq!(book.entries.lock().iter().filter(|(_, body)| body == b"e").count(), 200);
}

#[test]
fn a_store_older_than_its_journal_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let book = Arc::new(Book::default());
    drop(open(dir.path(), &book));
    let file = dir.path().join("store/vault.redb");
    let old = std::fs::read(&file).unwrap();
    ready(&open(dir.path(), &book));
    std::fs::write(&file, old).unwrap();
    assert!(matches!(try_open(dir.path(), &book), Err(OpenError::RolledBack { .. })));
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(try_open(dir.path(), &book), Err(OpenError::RolledBack { store: 0, .. })));
}

#[test]
fn a_journal_that_was_cut_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let book = Arc::new(Book::default());
    let vault = open(dir.path(), &book);
    let (token, _) = ready(&vault);
    for number in 0..100 {
        let _receipt = vault.commit(put(token, number, false, "x"), None, b"e").unwrap();
    }
    drop(vault);
    book.entries.lock().truncate(3);
    assert!(matches!(try_open(dir.path(), &book), Err(OpenError::JournalCut { .. })));
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

fn raw(snapshot: &BackupSnapshot) -> Vec<RawRecord> {
    let mut records = Vec::new();
    let mut visit = |table: &str, key: &[u8], value: &[u8]| {
        records.push(RawRecord { table: table.to_owned(), key: key.to_vec(), value: value.to_vec() });
        Ok(())
    };
    snapshot.for_each(&mut visit).unwrap();
    assert_eq!(records.len() as u64, snapshot.records);
    records
}

fn restore(dir: &Path, snapshot: &BackupSnapshot, records: Vec<RawRecord>) -> Result<Restored, OpenError> {
    restore_after(0, dir, snapshot, records)
}

/// A restore that others came before.
fn restore_after(
    restores: u32,
    dir: &Path,
    snapshot: &BackupSnapshot,
    records: Vec<RawRecord>,
) -> Result<Restored, OpenError> {
    let floor = RestoreFloor { generation: 5000, attempts: vec![], restores };
    let records = records.into_iter().map(Ok);
    restore_into(&place(dir), records, &snapshot.manifest, snapshot.store_id, &snapshot.store_key, &floor)
}

#[test]
fn a_restored_store_has_all_objects_and_moves_on() {
    let (_, vault) = memory();
    let (token, tmk) = ready(&vault);
    let _receipt = vault.commit(put(token, 1, true, "key"), Some(&tmk), b"e").unwrap();
    let handles = vault.reserve_handles(7).unwrap();
    let snapshot = vault.snapshot_for_backup().unwrap();
    let _receipt = vault.commit(put(token, 2, true, "later"), Some(&tmk), b"e").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let restored = restore(dir.path(), &snapshot, raw(&snapshot)).unwrap();
    assert_eq!(restored.generation, 5001);
    let vault = open(dir.path(), &Arc::new(Book::default()));
    assert_eq!(vault.store_id(), snapshot.store_id);
    let tmk = vault.unlock(token, Role::User, &pin("user-pin"), "t").unwrap();
    assert_eq!(texts(vault.load_objects(token, Some(&tmk)).unwrap()), ["key"]);
    assert!(vault.reserve_handles(1).unwrap().start >= handles.end + 1000);
    drop(vault);
    assert!(matches!(restore(dir.path(), &snapshot, raw(&snapshot)), Err(OpenError::NotEmpty(_))));
}

/// The same backup, restored again, made the handles and the counted IVs of its first restore once more.
#[test]
fn a_backup_that_is_restored_again_repeats_no_handle_and_no_iv() {
    let (_, vault) = memory();
    ready(&vault);
    let before = Reserved { next: 10, mask: Some(0) };
    let first = vault.reserve_ivs(b"key value", before, 5).unwrap();
    assert_eq!(first, 10..15);
    let snapshot = vault.snapshot_for_backup().unwrap();
    let (mut handles, mut ivs) = (vec![vault.reserve_handles(9).unwrap()], vec![first]);
    for restores in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        restore_after(restores, dir.path(), &snapshot, raw(&snapshot)).unwrap();
        let vault = open(dir.path(), &Arc::new(Book::default()));
        handles.push(vault.reserve_handles(1000).unwrap());
        let reserved = vault.reserved_ivs(b"key value").unwrap();
        ivs.push(vault.reserve_ivs(b"key value", reserved, 1000).unwrap());
    }
    for ranges in [handles, ivs] {
        assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start), "{ranges:?}");
    }
}

#[test]
fn a_restore_does_not_give_guesses_back() {
    let (_, vault) = memory();
    let (token, _) = ready(&vault);
    let snapshot = vault.snapshot_for_backup().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let floor = RestoreFloor { generation: 0, attempts: vec![(token, Role::User, 9)], restores: 0 };
    let records = raw(&snapshot).into_iter().map(Ok);
    restore_into(&place(dir.path()), records, &snapshot.manifest, snapshot.store_id, &snapshot.store_key, &floor)
        .unwrap();
    let vault = open(dir.path(), &Arc::new(Book::default()));
    assert!(vault.pin_state(token, Role::User).unwrap().final_try);
}

#[test]
fn a_backup_that_was_changed_is_not_restored_and_leaves_nothing() {
    let (_, vault) = memory();
    let (token, tmk) = ready(&vault);
    let _receipt = vault.commit(put(token, 1, true, "key"), Some(&tmk), b"e").unwrap();
    let snapshot = vault.snapshot_for_backup().unwrap();
    let good = raw(&snapshot);
    for changed in 0..good.len() {
        let mut flipped = good.clone();
        flipped[changed].value[140] ^= 1;
        let mut missing = good.clone();
        missing.remove(changed);
        for records in [flipped, missing] {
            let dir = tempfile::tempdir().unwrap();
            assert!(restore(dir.path(), &snapshot, records).is_err());
            let left: Vec<_> = std::fs::read_dir(dir.path().join("store")).unwrap().collect();
            assert_eq!(left.len(), 1, "only the lock file: {left:?}");
        }
    }
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

/// A store whose commit fails once although it is done, as after an fsync whose outcome nobody knows.
#[derive(Default)]
struct Late {
    store: MemoryStore,
    fails: AtomicBool,
}

impl Store for Late {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.store.snapshot()
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.store.commit(batch)?;
        match self.fails.swap(false, Ordering::Relaxed) {
            true => Err(StoreError::Io("nobody knows".into())),
            false => Ok(()),
        }
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.store.reopen()
    }
}

/// The writer's thread panicked once and was gone: every later change was refused until a restart.
#[test]
fn a_defect_in_the_writer_costs_its_group_an_answer_and_nothing_else() {
    let (book, vault) = memory();
    let (token, tmk) = ready(&vault);
    let before = book.entries.lock().len();
    book.is_defective.store(true, Ordering::Relaxed);
    let refused = vault.commit(put(token, 1, true, "one"), Some(&tmk), b"first");
    assert_eq!(kind(refused), Some(Kind::Device));
    let _receipt = vault.commit(put(token, 2, true, "two"), Some(&tmk), b"second").unwrap();
    let mut found = texts(vault.load_objects(token, Some(&tmk)).unwrap());
    found.sort();
    assert_eq!(found, ["one", "two"]);
    let entries: Vec<Vec<u8>> = book.entries.lock()[before..].iter().map(|(_, entry)| entry.clone()).collect();
    assert_eq!(entries, [b"first".to_vec(), b"second".to_vec()], "what was done has its entry, once");
}

/// A rotation holds the keys while it waits for the writer. That had to open the store again first, told so, and whoever heard it read
/// the objects, for which he waited for the keys: nothing was ever written again.
#[test]
fn a_rotation_after_a_failed_write_does_not_wait_for_itself() {
    let late = Arc::new(Late::default());
    let opened = create::create_in(Arc::clone(&late) as Arc<dyn Store>).unwrap();
    let vault = Vault::start(opened, &quick(), Arc::new(Book::default()), Arc::new(SystemClock)).map(Arc::new).unwrap();
    let (token, tmk) = ready(&vault);
    let heard = Arc::new(AtomicUsize::new(0));
    let (weak, keys, count) = (Arc::downgrade(&vault), Arc::clone(&tmk), Arc::clone(&heard));
    vault.when_ahead(move |_| {
        let vault = weak.upgrade().unwrap();
        let found = vault.read_objects_as_they_lie(token, Some(&keys), Ok).unwrap();
        count.store(found.len(), Ordering::Relaxed);
    });
    late.fails.store(true, Ordering::Relaxed);
    assert_eq!(kind(vault.commit(put(token, 1, true, "one"), Some(&tmk), b"e")), Some(Kind::Device));
    let (done, waited) = std::sync::mpsc::channel();
    let rotating = Arc::clone(&vault);
    std::thread::spawn(move || {
        let (tmk, _receipt) =
            rotating.begin_rotation(token, &pin("so-pin"), Some(&pin("user-pin")), "t", b"rotate").unwrap();
        done.send(rotating.finish_rotation(&tmk).unwrap().complete).unwrap();
    });
    assert_eq!(waited.recv_timeout(Duration::from_secs(120)), Ok(true));
    assert_eq!(heard.load(Ordering::Relaxed), 1);
}
