//! Writes that fail, or of which nobody knows whether they did: what a caller is told, and how the store goes on.

use super::*;

/// Fails commits, or pretends a crash after them, from the n-th on.
pub(in crate::store) struct Faulty {
    inner: Arc<MemoryStore>,
    /// Commits that still succeed.
    pub(in crate::store) left: AtomicUsize,
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
pub(in crate::store) fn faulty() -> (Arc<Book>, Arc<Faulty>, create::Opened, TokenId) {
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

pub(in crate::store) fn reopened(store: &Arc<Faulty>, keys: &Arc<seal::StoreKeys>) -> create::Opened {
    let path = Path::new("(memory)");
    let verified = verify::verify(&*store.snapshot().unwrap(), keys, path).unwrap();
    let store = Arc::clone(store) as Arc<dyn Store>;
    create::Opened { store, keys: Arc::clone(keys), verified, lock: None }
}

pub(super) fn start(opened: create::Opened, book: &Arc<Book>) -> Vault<Book> {
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
