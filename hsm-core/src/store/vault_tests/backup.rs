//! What a backup's rows become when they are restored.

use super::*;

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
