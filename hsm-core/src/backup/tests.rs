//! Archives made from a real vault: restored, damaged in every way, and refused.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::body::{CHUNK_LEN, TAG_LEN};
use super::{
    Credential, For, MAC_LEN, PREFIX_LEN, Replace, Request, Restore, Restored, TRAILER_LEN, inspect, restore, verify,
    write,
};
use crate::audit::{Category, Client, Entry, Journal, Level, Options, visit_file};
use crate::config::{Config, PasswordFunction, PinConfig, Written};
use crate::store::{Change, ObjectPut, Role, Vault};
use crate::{Kind, ObjectId, Result, SecretBytes, SystemClock, TokenId};

pub(super) const SO_PIN: &[u8] = b"so pin 1234";
pub(super) const USER_PIN: &[u8] = b"user pin 1234";
pub(super) const LABEL: &str = "backup test";

pub(super) fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::copy_from(bytes)
}

pub(super) fn pins() -> PinConfig {
    PinConfig { function: PasswordFunction::Pbkdf2 { iterations: 1 }, ..PinConfig::default() }
}

pub(super) fn body() -> Vec<u8> {
    Entry::new(Category::Admin, "test", Client::Daemon).encode()
}

pub(super) fn journal(path: &Path) -> Arc<Journal> {
    let options = Options {
        path: path.to_owned(),
        level: Level::All,
        known: None,
        anchor: None,
        witnesses: Vec::new(),
        files: crate::audit::Files::default(),
    };
    Arc::new(Journal::open(options, Arc::new(SystemClock)).unwrap())
}

/// The archive of a vault in memory with private objects of these sizes and one public object.
pub(super) fn archive(folder: &Path, sizes: &[usize]) -> PathBuf {
    archive_for(folder, sizes, &[])
}

/// The same for others beside the SO.
pub(super) fn archive_for(folder: &Path, sizes: &[usize], others: &[For]) -> PathBuf {
    let journal = journal(&folder.join("source.jsonl"));
    let vault = Vault::in_memory(&pins(), Arc::clone(&journal), Arc::new(SystemClock)).unwrap();
    vault.ensure_slot(0, "empty", Some("0001")).unwrap();
    let (token, _) = vault.init_token(0, LABEL, &secret(SO_PIN), "test", |_| body()).unwrap();
    let so = vault.unlock(token.id, Role::So, &secret(SO_PIN), "test").unwrap();
    let _user = vault.init_user_pin(&so, &secret(USER_PIN), &body()).unwrap();
    let mut puts = vec![object(token.id, 0xFF_FFFF, false, 40)];
    puts.extend(sizes.iter().enumerate().map(|(number, size)| object(token.id, number, true, *size)));
    let _commit = vault.commit(Change { puts, deletes: Vec::new() }, Some(&so), &body()).unwrap();
    let snapshot = vault.snapshot_for_backup().unwrap();
    let pin = secret(SO_PIN);
    let request = Request {
        so: Some((token.id, &pin)),
        others,
        function: pins().function,
        created: 1_790_000_000_000_000_000,
        audit: journal.head(),
        first_key: Some([0xab; 32].into()),
    };
    let mut bytes = Vec::new();
    let written = write(&snapshot, &request, &|id| vault.object_count(id), &mut bytes).unwrap();
    assert_eq!(written.bytes, bytes.len() as u64);
    assert_eq!(written.generation, vault.generation());
    let path = folder.join("backup.enc");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn object(token: TokenId, number: usize, private: bool, size: usize) -> ObjectPut {
    let id = ObjectId((number as u128).to_be_bytes());
    ObjectPut { token, id, private, plaintext: SecretBytes::new(vec![id.0[15]; size]) }
}

pub(super) fn config(folder: &Path) -> Config {
    let mut written = Written::default();
    written.token.storage_path = Some(folder.join("store"));
    written.resolve().unwrap()
}

pub(super) fn so_pin(pin: &[u8]) -> Credential {
    Credential::SoPin(secret(pin))
}

pub(super) fn restore_to(folder: &Path, input: &Path, pin: &[u8]) -> Result<Restored> {
    let config = config(folder);
    restore_with(&config, input, &so_pin(pin), Replace::Never)
}

pub(super) fn restore_with(
    config: &Config,
    input: &Path,
    credential: &Credential,
    replace: Replace,
) -> Result<Restored> {
    restore(&Restore { input, credential, config, uid: 1000, clock: Arc::new(SystemClock), replace })
}

fn refusal(folder: &Path, bytes: &[u8]) -> crate::Error {
    let input = folder.join("edited.enc");
    std::fs::write(&input, bytes).unwrap();
    let target = folder.join("target");
    let error = restore_to(&target, &input, SO_PIN).unwrap_err();
    assert!(!target.exists(), "something was made before the archive was refused");
    error
}

/// What an attacker does after an edit: the check sum at the end has no key.
pub(super) fn with_right_check_sum(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 32;
    let digest = Sha256::digest(&bytes[..end]);
    bytes[end..].copy_from_slice(&digest);
    bytes
}

#[test]
fn restored_store_opens_with_the_same_pins_and_objects() {
    let folder = tempfile::tempdir().unwrap();
    let input = archive(folder.path(), &[32, 200_000, 0, 1]);
    for host in ["one", "two"] {
        let target = folder.path().join(host);
        let restored = restore_to(&target, &input, SO_PIN).unwrap();
        let config = config(&target);
        let journal = journal(&config.audit.log_path);
        let vault = Vault::open(&config.store, &pins(), journal, Arc::new(SystemClock)).unwrap();
        assert_eq!(vault.generation(), restored.generation);
        assert!(restored.generation > restored.archive.generation);
        let token = vault.token_in_slot(0).unwrap();
        assert_eq!((token.label.as_str(), token.serial.as_str()), (LABEL, "0001"));
        assert!(vault.unlock(token.id, Role::So, &secret(SO_PIN), "test").is_ok());
        let user = vault.unlock(token.id, Role::User, &secret(USER_PIN), "test").unwrap();
        let mut objects = vault.load_objects(token.id, Some(&user)).unwrap();
        objects.sort_by_key(|object| object.id);
        let sizes: Vec<usize> = objects.iter().map(|object| object.plaintext.len()).collect();
        assert_eq!(sizes, [32, 200_000, 0, 1]);
        assert!(objects.iter().all(|object| object.plaintext.expose().iter().all(|byte| *byte == object.id.0[15])));
        assert_eq!(vault.load_objects(token.id, None).unwrap().len(), 1);
    }
}

#[test]
fn manifest_says_what_is_in_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let input = archive(folder.path(), &[10, 20]);
    let manifest = inspect(&input).unwrap();
    assert_eq!(manifest, verify(&input, &so_pin(SO_PIN)).unwrap());
    let bytes = std::fs::read(&input).unwrap();
    assert_eq!(manifest.bytes, bytes.len() as u64);
    assert_eq!(manifest.sha256, data_encoding::HEXLOWER.encode(&Sha256::digest(&bytes)));
    assert_eq!(manifest.opened_by, ["the SO PIN of \"backup test\" (serial 0001)"]);
    assert_eq!((manifest.tokens[0].label.as_str(), manifest.tokens[0].objects), (LABEL, 3));
    assert!(manifest.audit_seq > 0);
}

#[test]
fn journal_tells_of_the_restore_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let input = archive(folder.path(), &[10]);
    let target = folder.path().join("host");
    let config = config(&target);
    std::fs::create_dir(&target).unwrap();
    drop(journal(&config.audit.log_path)); // a journal of the store before it
    let restored = restore_to(&target, &input, SO_PIN).unwrap();
    let mut seen = Vec::new();
    visit_file(&restored.journal, |line| {
        seen.push(line.record.clone());
        Ok(())
    })
    .unwrap();
    let ops: Vec<&str> = seen.iter().map(|record| record.op.as_str()).collect();
    assert_eq!(ops, ["journal_open", "journal_open", "restore_begin", "restore"]);
    let last = &seen[3];
    assert_eq!(last.detail["backup_audit_head"].to_string(), restored.archive.audit_head);
    assert_eq!((last.generation, last.rv.as_str()), (restored.generation, "CKR_OK"));
}

#[test]
fn occupied_target_is_refused_and_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let input = archive(folder.path(), &[10]);
    let target = folder.path().join("host");
    restore_to(&target, &input, SO_PIN).unwrap();
    let store = target.join("store/vault.redb");
    let before = std::fs::read(&store).unwrap();
    let error = restore_to(&target, &input, SO_PIN).unwrap_err();
    assert!(error.detail().unwrap().contains("not empty"), "{error}");
    assert_eq!(std::fs::read(&store).unwrap(), before);
}

#[test]
fn running_daemons_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let input = archive(folder.path(), &[10]);
    let target = folder.path().join("host");
    std::fs::create_dir(&target).unwrap();
    let _daemon = journal(&config(&target).audit.log_path);
    let error = restore_to(&target, &input, SO_PIN).unwrap_err();
    assert!(error.detail().unwrap().contains("running daemon"), "{error}");
    assert!(!target.join("store").exists());
}

#[test]
fn wrong_pin_says_whose_pin_is_meant_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let input = archive(folder.path(), &[10]);
    let target = folder.path().join("host");
    for pin in [USER_PIN, b"so pin 1235", b""] {
        let error = restore_to(&target, &input, pin).unwrap_err();
        assert_eq!(error.kind(), Kind::PinIncorrect);
        assert!(error.detail().unwrap().contains(LABEL));
        assert!(!target.exists());
    }
}

#[test]
fn every_flipped_byte_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let good = std::fs::read(archive(folder.path(), &[10])).unwrap();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        assert_eq!(refusal(folder.path(), &bytes).kind(), Kind::DataInvalid, "byte {at}");
        if at < good.len() - 32 {
            let kind = refusal(folder.path(), &with_right_check_sum(bytes)).kind();
            assert!(
                matches!(kind, Kind::DataInvalid | Kind::PinIncorrect),
                "byte {at}, check sum made right: {kind:?}"
            );
        }
    }
}

#[test]
fn truncated_and_extended_archives_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = std::fs::read(archive(folder.path(), &[10])).unwrap();
    for len in 0..good.len() {
        assert_eq!(refusal(folder.path(), &good[..len]).kind(), Kind::DataInvalid, "cut to {len}");
    }
    for extra in [&[0_u8][..], &good] {
        let longer = [&good[..], extra].concat();
        assert_eq!(refusal(folder.path(), &longer).kind(), Kind::DataInvalid);
        assert_eq!(refusal(folder.path(), &with_right_check_sum(longer)).kind(), Kind::DataInvalid);
    }
    // The body cut, and a trailer that fits it.
    let trailer = good.len() - TRAILER_LEN;
    for cut in 1..64 {
        let bytes = [&good[..trailer - cut], &good[trailer..]].concat();
        assert_eq!(refusal(folder.path(), &with_right_check_sum(bytes)).kind(), Kind::DataInvalid, "{cut} bytes less");
    }
}

#[test]
fn every_deleted_repeated_and_swapped_byte_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = std::fs::read(archive(folder.path(), &[10])).unwrap();
    let end = good.len() - 32;
    for at in 0..good.len() {
        let (mut gone, mut twice, mut swapped) = (good.clone(), good.clone(), good.clone());
        gone.remove(at);
        twice.insert(at, good[at]);
        swapped.swap(at, (at + 1) % good.len());
        for (edit, bytes) in [("deleted", gone), ("repeated", twice), ("swapped", swapped)] {
            if bytes == good {
                continue;
            }
            assert_eq!(refusal(folder.path(), &bytes).kind(), Kind::DataInvalid, "byte {at} {edit}");
            if at + 1 < end {
                let kind = refusal(folder.path(), &with_right_check_sum(bytes)).kind();
                let is_refused = matches!(kind, Kind::DataInvalid | Kind::PinIncorrect);
                assert!(is_refused, "byte {at} {edit}, check sum made right: {kind:?}");
            }
        }
    }
}

#[test]
fn moved_chunks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = std::fs::read(archive(folder.path(), &[200_000, 100_000])).unwrap();
    let header_len = u32::from_le_bytes(good[8..12].try_into().unwrap()) as usize;
    let start = PREFIX_LEN + header_len + MAC_LEN;
    let end = good.len() - TRAILER_LEN;
    let chunks: Vec<&[u8]> = good[start..end].chunks(CHUNK_LEN + TAG_LEN).collect();
    assert!(chunks.len() >= 4);
    let last = chunks.len() - 1;
    let orders: [(&str, Vec<usize>); 5] = [
        ("swapped", [1, 0].into_iter().chain(2..=last).collect()),
        ("dropped", (0..=last).filter(|number| *number != 1).collect()),
        ("last dropped", (0..last).collect()),
        ("repeated", [0].into_iter().chain(0..=last).collect()),
        ("last moved", [last].into_iter().chain(0..last).collect()),
    ];
    for (name, order) in orders {
        let body: Vec<&[u8]> = order.iter().map(|number| chunks[*number]).collect();
        let bytes = [&good[..start], &body.concat(), &good[end..]].concat();
        assert_eq!(refusal(folder.path(), &with_right_check_sum(bytes)).kind(), Kind::DataInvalid, "{name}");
    }
}

#[test]
fn chunk_of_another_archive_is_refused() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [mut one, two] = folders.each_ref().map(|folder| std::fs::read(archive(folder.path(), &[10])).unwrap());
    assert_eq!(one.len(), two.len());
    let body = one.len() - TRAILER_LEN - 200;
    let end = one.len() - TRAILER_LEN;
    one[body..end].copy_from_slice(&two[body..end]);
    assert_eq!(refusal(folders[0].path(), &with_right_check_sum(one)).kind(), Kind::DataInvalid);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn arbitrary_bytes_after_the_magic_are_refused(rest in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600)) {
        let folder = tempfile::tempdir().unwrap();
        let bytes = [&b"HSMB\x02\x00\x02\x00"[..], &rest].concat();
        proptest::prop_assert_eq!(refusal(folder.path(), &bytes).kind(), Kind::DataInvalid);
        if bytes.len() > 32 {
            proptest::prop_assert_eq!(refusal(folder.path(), &with_right_check_sum(bytes)).kind(), Kind::DataInvalid);
        }
    }
}

#[test]
fn newer_format_is_refused_naming_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(archive(folder.path(), &[10])).unwrap();
    bytes[4] = 4;
    bytes[6] = 3;
    let sentence = refusal(folder.path(), &bytes).detail().unwrap().to_owned();
    assert!(
        sentence.contains("format 4") && sentence.contains("format 3") && sentence.contains("format 2"),
        "{sentence}"
    );
}

#[test]
fn full_output_is_an_error_at_every_length() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let room = self.0.min(bytes.len());
            self.0 -= room;
            if room == 0 && !bytes.is_empty() {
                Err(std::io::Error::other("no space left on device"))
            } else {
                Ok(room)
            }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let vault = Vault::in_memory(&pins(), journal(&folder.path().join("a")), Arc::new(SystemClock)).unwrap();
    vault.ensure_slot(0, LABEL, None).unwrap();
    let (token, _) = vault.init_token(0, LABEL, &secret(SO_PIN), "test", |_| body()).unwrap();
    let snapshot = vault.snapshot_for_backup().unwrap();
    let pin = secret(SO_PIN);
    let request = Request {
        so: Some((token.id, &pin)),
        others: &[],
        function: pins().function,
        created: 0,
        audit: crate::audit::Head::EMPTY,
        first_key: None,
    };
    let run = |room| write(&snapshot, &request, &|_| 0, &mut Full(room));
    let whole = run(usize::MAX).unwrap().bytes as usize;
    for room in (0..whole).step_by(7).chain([whole - 1]) {
        assert_eq!(run(room).unwrap_err().kind(), Kind::Device, "{room} bytes of room");
    }
    let stranger = Request { so: Some((TokenId([9; 16]), &pin)), ..request };
    assert_eq!(write(&snapshot, &stranger, &|_| 0, &mut Vec::new()).unwrap_err().kind(), Kind::ArgumentsBad);
}

/// How long 10,000 objects take: `cargo test --release -p hsm-core ten_thousand -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn ten_thousand_objects() {
    let folder = tempfile::tempdir().unwrap();
    let start = std::time::Instant::now();
    let input = archive(folder.path(), &[300; 10_000]);
    eprintln!("fill a store and take the backup: {:?}", start.elapsed());
    let start = std::time::Instant::now();
    verify(&input, &so_pin(SO_PIN)).unwrap();
    eprintln!("verify: {:?}", start.elapsed());
    let start = std::time::Instant::now();
    let restored = restore_to(&folder.path().join("host"), &input, SO_PIN).unwrap();
    eprintln!("restore: {:?} for {} records", start.elapsed(), restored.records);
}

/// Starts, logins and clean stops raise the generation, and take nothing with them.
#[test]
fn a_store_that_is_newer_only_in_what_a_restore_carries_on_is_replaced_without_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let input = archive(folder.path(), &[32]);
    let target = folder.path().join("host");
    restore_to(&target, &input, SO_PIN).unwrap();
    let config = config(&target);
    let so_pin = so_pin(SO_PIN);
    let open = || {
        let journal = journal(&config.audit.log_path);
        Vault::open(&config.store, &pins(), journal, Arc::new(SystemClock)).unwrap()
    };
    for _ in 0..3 {
        let vault = open();
        let token = vault.token_in_slot(0).unwrap();
        assert!(vault.unlock(token.id, Role::So, &secret(SO_PIN), "test").is_ok());
        drop(vault);
        let restored = restore_with(&config, &input, &so_pin, Replace::Store).unwrap();
        assert!(restored.kept.is_some());
    }
    // One object more, one less, and one PIN that is another.
    let vault = open();
    let token = vault.token_in_slot(0).unwrap();
    let user = vault.unlock(token.id, Role::User, &secret(USER_PIN), "test").unwrap();
    let gone = object(token.id, 0, true, 0).id;
    let change = Change { puts: vec![object(token.id, 7, true, 9)], deletes: vec![(token.id, gone)] };
    let _commit = vault.commit(change, Some(&user), &body()).unwrap();
    let _set =
        vault.set_pin(token.id, Role::User, &secret(USER_PIN), &secret(b"another pin"), "test", &body()).unwrap();
    drop((user, vault));
    let refused = restore_with(&config, &input, &so_pin, Replace::Store).unwrap_err();
    let said = refused.detail().unwrap();
    assert!(said.contains("made or changed: 1, destroyed: 1; PINs, tokens and counts changed: 1"), "{said}");
    assert!(said.contains("--force --accept-rollback --reason"), "{said}");
    assert!(restore_with(&config, &input, &so_pin, Replace::NewerStore("fire".into())).is_ok());
}

/// A locked SO PIN stays locked when the store is replaced, and not when the old store was out of the way.
#[test]
fn a_locked_so_pin_is_carried_on_by_a_replacement_and_not_by_a_restore_into_an_empty_place() {
    let folder = tempfile::tempdir().unwrap();
    let input = archive(folder.path(), &[32]);
    let target = folder.path().join("host");
    restore_to(&target, &input, SO_PIN).unwrap();
    let config = config(&target);
    let open = || {
        let journal = journal(&config.audit.log_path);
        Vault::open(&config.store, &pins(), journal, Arc::new(SystemClock)).unwrap()
    };
    let locked = |vault: &Vault<Journal>| {
        let token = vault.token_in_slot(0).unwrap();
        vault.pin_state(token.id, Role::So).unwrap().failed >= pins().max_attempts
    };
    let vault = open();
    let token = vault.token_in_slot(0).unwrap();
    for client in 0..pins().max_attempts {
        assert!(vault.unlock(token.id, Role::So, &secret(b"wrong-pin"), &client.to_string()).is_err());
    }
    assert!(locked(&vault));
    drop(vault);
    restore_with(&config, &input, &so_pin(SO_PIN), Replace::NewerStore("locked".into())).unwrap();
    assert!(locked(&open()));
    std::fs::rename(&config.store.path, target.join("store.quarantine")).unwrap();
    restore_with(&config, &input, &so_pin(SO_PIN), Replace::Never).unwrap();
    assert!(!locked(&open()));
}

#[test]
fn a_replaced_store_is_kept_and_its_attempts_go_on_counting() {
    let folder = tempfile::tempdir().unwrap();
    let input = archive(folder.path(), &[32]);
    let target = folder.path().join("host");
    restore_to(&target, &input, SO_PIN).unwrap();
    let config = config(&target);
    {
        let vault =
            Vault::open(&config.store, &pins(), journal(&config.audit.log_path), Arc::new(SystemClock)).unwrap();
        let token = vault.token_in_slot(0).unwrap();
        for client in ["a", "b", "c"] {
            assert!(vault.unlock(token.id, Role::User, &secret(b"wrong-pin"), client).is_err());
        }
    }
    let so_pin = so_pin(SO_PIN);
    let refused = restore_with(&config, &input, &so_pin, Replace::Store).unwrap_err();
    assert!(refused.detail().unwrap().contains("--accept-rollback"), "{refused:?}");
    let restored = restore_with(&config, &input, &so_pin, Replace::NewerStore("fire".into())).unwrap();
    let kept = restored.kept.unwrap();
    assert!(kept.join("vault.redb").exists() && kept.join("store.key").exists(), "{}", kept.display());
    let vault = Vault::open(&config.store, &pins(), journal(&config.audit.log_path), Arc::new(SystemClock)).unwrap();
    let token = vault.token_in_slot(0).unwrap();
    assert_eq!(vault.pin_state(token.id, Role::User).unwrap().failed, 3);
    drop(vault);
    // A store that does not open is kept as it is.
    std::fs::write(config.store.path.join("vault.redb"), b"rubbish").unwrap();
    let restored = restore_with(&config, &input, &so_pin, Replace::Store).unwrap();
    assert_eq!(std::fs::read(restored.kept.unwrap().join("vault.redb")).unwrap(), b"rubbish");
}
