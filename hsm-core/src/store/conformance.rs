//! What every back end must do, run on each of them.

use super::layout::Table;
use super::memory::MemoryStore;
use super::redb::RedbStore;
use super::{Batch, Snapshot, Store, StoreError};

type Row = (Vec<u8>, Vec<u8>);

fn rows(snapshot: &dyn Snapshot, table: Table, prefix: &[u8]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        rows.push((key.to_vec(), value.to_vec()));
        Ok(())
    };
    snapshot.scan(table, prefix, &mut visit).unwrap();
    rows
}

type Put<'a> = (Table, &'a [u8], Option<&'a [u8]>);

fn batch(changes: &[Put<'_>]) -> Batch {
    let mut batch = Batch::default();
    for (table, key, value) in changes {
        match value {
            Some(value) => batch.put(*table, key, value.to_vec()),
            None => batch.delete(*table, key),
        }
    }
    batch
}

fn an_empty_store_has_no_rows(store: &dyn Store) {
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.row(Table::Token, b"x").unwrap(), None);
    assert!(rows(&*snapshot, Table::Token, b"").is_empty());
}

fn a_snapshot_does_not_see_later_commits(store: &dyn Store) {
    store.commit(&batch(&[(Table::Token, b"a", Some(b"1"))])).unwrap();
    let before = store.snapshot().unwrap();
    store.commit(&batch(&[(Table::Token, b"a", Some(b"2")), (Table::Token, b"b", Some(b"3"))])).unwrap();
    assert_eq!(before.row(Table::Token, b"a").unwrap().unwrap(), b"1");
    assert_eq!(before.row(Table::Token, b"b").unwrap(), None);
    assert_eq!(store.snapshot().unwrap().row(Table::Token, b"a").unwrap().unwrap(), b"2");
}

fn a_batch_spans_tables_and_deletes(store: &dyn Store) {
    store.commit(&batch(&[(Table::Pin, b"a", Some(b"1")), (Table::Outbox, b"a", Some(b"2"))])).unwrap();
    store
        .commit(&batch(&[(Table::Pin, b"a", None), (Table::Pin, b"none", None), (Table::Outbox, b"b", Some(b""))]))
        .unwrap();
    let snapshot = store.snapshot().unwrap();
    assert!(rows(&*snapshot, Table::Pin, b"").is_empty());
    let expected = vec![(b"a".to_vec(), b"2".to_vec()), (b"b".to_vec(), vec![])];
    assert_eq!(rows(&*snapshot, Table::Outbox, b""), expected);
}

fn a_scan_is_ordered_and_keeps_to_its_prefix(store: &dyn Store) {
    let keys: [&[u8]; 6] = [b"a", b"ab", b"ab\x00", b"ab\xff", b"ac", b"b"];
    for key in keys.iter().rev() {
        store.commit(&batch(&[(Table::PublicObject, key, Some(b"v"))])).unwrap();
    }
    let snapshot = store.snapshot().unwrap();
    let found: Vec<_> = rows(&*snapshot, Table::PublicObject, b"ab").into_iter().map(|(key, _)| key).collect();
    assert_eq!(found, keys[1..4]);
    let all: Vec<_> = rows(&*snapshot, Table::PublicObject, b"").into_iter().map(|(key, _)| key).collect();
    assert_eq!(all, keys);
}

fn a_visitor_ends_the_scan_with_its_error(store: &dyn Store) {
    store.commit(&batch(&[(Table::Attempts, b"a", Some(b"1")), (Table::Attempts, b"b", Some(b"2"))])).unwrap();
    let mut seen = 0;
    let mut visit = |_: &[u8], _: &[u8]| {
        seen += 1;
        Err(StoreError::Io("enough".into()))
    };
    let ended = store.snapshot().unwrap().scan(Table::Attempts, b"", &mut visit);
    assert!(matches!(ended, Err(StoreError::Io(reason)) if reason == "enough"));
    assert_eq!(seen, 1);
}

const RULES: [fn(&dyn Store); 5] = [
    an_empty_store_has_no_rows,
    a_snapshot_does_not_see_later_commits,
    a_batch_spans_tables_and_deletes,
    a_scan_is_ordered_and_keeps_to_its_prefix,
    a_visitor_ends_the_scan_with_its_error,
];

#[test]
fn memory_keeps_the_rules() {
    for rule in RULES {
        rule(&MemoryStore::default());
    }
}

#[test]
fn redb_keeps_the_rules() {
    for rule in RULES {
        let dir = tempfile::tempdir().unwrap();
        rule(&RedbStore::create(&dir.path().join("file")).unwrap());
    }
}

#[test]
fn redb_keeps_rows_over_a_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let store = RedbStore::create(&path).unwrap();
    store.commit(&batch(&[(Table::Token, b"a", Some(b"1"))])).unwrap();
    drop(store);
    let store = RedbStore::open(&path).unwrap();
    assert_eq!(store.snapshot().unwrap().row(Table::Token, b"a").unwrap().unwrap(), b"1");
}

#[test]
fn redb_does_not_open_a_file_twice_nor_a_missing_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    assert!(matches!(RedbStore::open(&path), Err(StoreError::Io(_))));
    let _held = RedbStore::create(&path).unwrap();
    assert!(matches!(RedbStore::open(&path), Err(StoreError::InUse)));
    assert!(matches!(RedbStore::create(&path), Err(StoreError::Io(_))));
}
