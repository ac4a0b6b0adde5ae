//! Store and journal agree: every change has its entry, and neither may be older than the other remembers.

use super::failure::start;
use super::*;

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
    let gone = try_open(dir.path(), &book).map(drop).unwrap_err();
    assert!(matches!(gone, OpenError::RolledBack { store: 0, .. }), "{gone}");
    // An operator whose volume is not mounted is not sent to restore a backup first.
    assert!(gone.to_string().contains("volume mounted"), "{gone}");
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
    let cut = try_open(dir.path(), &book).map(drop).unwrap_err();
    assert!(matches!(cut, OpenError::JournalCut { .. }) && cut.to_string().contains("put the journal back"), "{cut}");
}
