//! The journal's signatures and files: what a stranger with the first public key finds out, and what a crash or a full disk leaves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::checkpoint::{CHECKPOINT, SEGMENT_OPEN, SignedCheckpoint};
use super::draft::{Change, Draft, Stamp};
use super::merkle::Tree;
use super::proof::{newest_checkpoint, prove};
use super::tests::{Faulty, TestClock, entry, faulty_with, options};
use super::*;
use crate::secret::SecretBytes;

pub(super) const SMALL: Files = Files { max_bytes: 12_000, max_age: Duration::from_secs(3600), min_free: 0 };

pub(super) fn keys(path: &Path) -> SigningKeys {
    SigningKeys::new(path, SecretBytes::copy_from(&[1; 32]), "craton-hsm/test".into())
}

pub(super) fn open(path: &Path, files: Files) -> Journal {
    open_with(path, files, Suite::Ed25519)
}

pub(super) fn open_with(path: &Path, files: Files, suite: Suite) -> Journal {
    let journal = Journal::open(Options { files, ..options(path) }, TestClock::at(5)).unwrap();
    journal.sign_with(keys(path).of(suite)).unwrap();
    journal
}

/// A closed journal of many files; its path and first key.
pub(super) fn many_files(folder: &Path, runs: u64) -> (PathBuf, Pin) {
    let runs: Vec<Suite> = (0..runs).map(|_| Suite::Ed25519).collect();
    written(folder, SMALL, &runs)
}

/// A closed journal that each run signed with keys of these kinds; its path and first key.
pub(super) fn written(folder: &Path, files: Files, runs: &[Suite]) -> (PathBuf, Pin) {
    let path = folder.join("audit.jsonl");
    for (run, suite) in (0..).zip(runs) {
        let journal = open_with(&path, files, *suite);
        for number in 0..40 {
            journal.append(entry(number), run, Durability::Written).map(drop).unwrap();
        }
        journal.append_change(run + 1, &entry(30).encode()).map(drop).unwrap();
        drop(journal);
    }
    let summary = visit_file(&path, |_| Ok(())).unwrap();
    (path, summary.signatures.first_key.unwrap())
}

pub(super) fn trusting(key: Pin) -> Trust {
    Trust { keys: vec![key], later_start: false }
}

pub(super) fn check(path: &Path, key: Pin) -> Result<Summary, Finding> {
    visit_trusting(path, trusting(key), |_| Ok(()))
}

pub(super) fn whole(path: &Path) -> Vec<PathBuf> {
    closed_files(path).into_iter().map(|(_, file)| file).chain([path.to_owned()]).collect()
}

#[test]
fn everything_that_was_answered_is_signed_when_the_journal_closes() {
    let folder = tempfile::tempdir().unwrap();
    let (path, key) = many_files(folder.path(), 1);
    let summary = check(&path, key).unwrap();
    assert_eq!(summary.signatures.signed_records + 1, summary.records, "all but the checkpoint itself");
    assert_eq!(check(&path, [9; 32].into()).unwrap_err().wrong, Wrong::Signature);
}

#[test]
fn a_journal_without_signatures_is_not_by_the_trusted_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    drop(Journal::open(Options { files: SMALL, ..options(&path) }, TestClock::at(5)).unwrap());
    assert_eq!(check(&path, [9; 32].into()).unwrap_err().wrong, Wrong::Signature);
    assert_eq!(visit_file(&path, |_| Ok(())).unwrap().signatures, Signatures::default());
}

#[test]
fn files_follow_one_another_over_restarts_each_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let (path, key) = many_files(folder.path(), 12);
    let files = whole(&path);
    assert!(files.len() > 8, "{} files", files.len());
    let mut announced = Vec::new();
    let summary = visit_trusting(&path, trusting(key), |line| {
        if line.record.op == SEGMENT_OPEN {
            announced.push(line.record.detail["key"].to_string());
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(announced.len() + 1, files.len());
    let count = announced.len();
    announced.sort();
    announced.dedup();
    assert_eq!(announced.len(), count, "no key serves two files");
    assert!(summary.signatures.uncertified_keys.is_empty());
    let journal = open(&path, SMALL);
    assert!((1..=12).all(|generation| journal.contains_generation(generation)));
    assert!(!journal.contains_generation(13));
    assert_eq!(journal.append_change(3, &entry(30).encode()).unwrap().seq(), None, "no record is written twice");
}

/// The start asks for the record that the store remembers while a file that is full is closed: it was not found under either name, and the daemon
/// said that the journal was cut.
#[test]
fn a_record_is_found_while_its_file_gets_another_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let journal = open(&path, SMALL);
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                if over.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                journal.append(entry(number), 0, Durability::Durable).map(drop).unwrap();
            }
        });
        let begun = std::time::Instant::now();
        let mut missed = 0;
        while closed_files(&path).len() < 60 && begun.elapsed() < Duration::from_secs(60) {
            let remembered = journal.durable_head();
            missed += usize::from((0..5).any(|_| !journal.contains_head(&remembered).unwrap_or(false)));
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(missed, 0);
    });
    assert!(closed_files(&path).len() > 1);
}

/// Fifty files, closed by length, with a restart after each: no false alarm, one chain, and proofs of records from its first file to its last.
#[test]
fn fifty_files_and_restarts_are_one_journal_with_proofs_across_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let (path, key) = many_files(folder.path(), 50);
    let files = whole(&path);
    assert!(files.len() >= 50, "{} files", files.len());
    let summary = check(&path, key).unwrap();
    assert_eq!(summary.signatures.signed_records + 1, summary.records);
    let by = newest_checkpoint(&path, trusting(key)).unwrap().1.pin();
    for file in files.iter().step_by(7) {
        let text = std::fs::read_to_string(file).unwrap();
        let first = Record::parse(text.lines().next().unwrap().as_bytes()).unwrap().seq;
        let proof = prove(&path, first, trusting(key)).unwrap();
        proof.check(&[by]).unwrap();
    }
    drop(open(&path, SMALL));
    check(&path, key).unwrap();
}

#[test]
fn heads_in_closed_files_are_still_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let journal = open(&path, SMALL);
    journal.append(entry(1), 0, Durability::Durable).map(drop).unwrap();
    let early = journal.head();
    drop(journal);
    let (path, _) = many_files(folder.path(), 6);
    assert!(closed_files(&path).len() > 2);
    let journal = open(&path, SMALL);
    assert!(journal.contains_head(&early).unwrap());
    assert!(!journal.contains_head(&Head { hash: [1; 32], ..early }).unwrap());
}

#[test]
fn a_missing_replaced_or_shortened_file_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (path, key) = many_files(folder.path(), 8);
    let files = whole(&path);
    for (index, file) in files.iter().enumerate() {
        let bytes = std::fs::read(file).unwrap();
        std::fs::remove_file(file).unwrap();
        assert!(check(&path, key).is_err(), "file {index} is missing");
        let last_line = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        std::fs::write(file, &bytes[..last_line]).unwrap();
        assert!(check(&path, key).is_err(), "file {index} lacks its last line");
        let other = std::fs::read(&files[(index + 1) % files.len()]).unwrap();
        std::fs::write(file, other).unwrap();
        assert!(check(&path, key).is_err(), "file {index} is another");
        std::fs::write(file, &bytes).unwrap();
    }
    check(&path, key).unwrap();
}

/// The journal written anew by somebody who knows the format: `edit` may change each record's text, the chain is right again.
fn rewritten(path: &Path, from: u64, edit: impl Fn(&mut Record)) {
    rewritten_with(path, from, |record, _| edit(record));
}

/// As [`rewritten`]; `edit` is told the tree of the lines before.
pub(super) fn rewritten_with(path: &Path, from: u64, mut edit: impl FnMut(&mut Record, &Tree)) {
    let (mut prev, mut tree) = (None, Tree::default());
    for file in whole(path) {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut out = String::new();
        for line in text.lines() {
            let mut record = Record::parse(line.as_bytes()).unwrap();
            if record.seq >= from {
                edit(&mut record, &tree);
                if let Some(prev) = &prev {
                    record.prev.clone_from(prev);
                }
            }
            let line = sealed(&mut record);
            tree.push(merkle::leaf(line.as_bytes()));
            prev = Some(data_encoding::HEXLOWER.encode(&record.hash(line.as_bytes())));
            out.push_str(&line);
            out.push('\n');
        }
        std::fs::write(&file, out).unwrap();
    }
    std::fs::remove_file(head_path(path)).ok();
}

/// The record's line, with the sum that its version has.
pub(super) fn sealed(record: &mut Record) -> String {
    (record.crc, record.sum) = (None, None);
    let sum = format!("{:08x}", crc32fast::hash(&serde_json::to_vec(record).unwrap()));
    *(if record.v == 1 { &mut record.crc } else { &mut record.sum }) = Some(sum);
    serde_json::to_string(record).unwrap()
}

#[test]
fn a_rewritten_chain_does_not_carry_the_signatures() {
    for from in [3_u64, 60, 200] {
        let folder = tempfile::tempdir().unwrap();
        let (path, key) = many_files(folder.path(), 8);
        rewritten(&path, u64::MAX, |_| ());
        check(&path, key).unwrap();
        rewritten(&path, from, |record| {
            if record.op == "sign" {
                record.session = Some(77);
            }
        });
        let finding = visit_file(&path, |_| Ok(())).unwrap_err();
        assert!(matches!(finding.wrong, Wrong::Signature | Wrong::Chain), "{from}: {finding}");
    }
}

#[test]
fn a_lost_signing_key_leaves_a_break_that_is_named_and_must_be_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (path, key) = many_files(folder.path(), 1);
    std::fs::remove_file(folder.path().join("audit.jsonl.key")).unwrap();
    drop(open(&path, SMALL));
    let summary = visit_file(&path, |_| Ok(())).unwrap();
    assert_eq!(summary.signatures.uncertified_keys.len(), 1);
    assert_eq!(check(&path, key).unwrap_err().wrong, Wrong::Signature);
    let both = Trust { keys: vec![key, summary.signatures.last_key.unwrap()], later_start: false };
    visit_trusting(&path, both, |_| Ok(())).unwrap();
}

#[test]
fn a_journal_whose_early_files_are_archived_begins_with_a_trusted_key_of_its_first_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, key) = many_files(folder.path(), 8);
    let (_, first) = closed_files(&path).remove(0);
    std::fs::remove_file(first).unwrap();
    assert!(check(&path, key).unwrap_err().what.contains("missing"));
    let begins = visit_trusting(&path, Trust { keys: vec![], later_start: true }, |_| Ok(())).unwrap();
    let key = begins.signatures.first_key.unwrap();
    visit_trusting(&path, Trust { keys: vec![key], later_start: true }, |_| Ok(())).unwrap();
    let strange = Trust { keys: vec![[4; 32].into()], later_start: true };
    assert_eq!(visit_trusting(&path, strange, |_| Ok(())).unwrap_err().wrong, Wrong::Signature);
    open(&path, SMALL).append(entry(1), 0, Durability::Durable).map(drop).unwrap();
}

#[test]
fn a_run_that_ends_while_a_file_is_closed_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (path, key) = many_files(folder.path(), 3);
    // Under both names: not closed yet.
    let first = visit_first(&path);
    std::fs::hard_link(&path, closed_path(&path, first)).unwrap();
    drop(open(&path, SMALL));
    let before = check(&path, key).unwrap().records;
    // Closed, and the next file is still empty.
    let first = visit_first(&path);
    std::fs::rename(&path, closed_path(&path, first)).unwrap();
    drop(open(&path, SMALL));
    assert!(check(&path, key).unwrap().records > before);
    assert!(visit_first(&path) > first);
}

/// The next file has its name, and its first record was cut off or never written when the power went: the journal was refused.
#[test]
fn a_file_whose_first_record_was_lost_with_the_power_is_begun_again() {
    let torn = [&b"{\"v\":2,\"seq\":"[..], &[0; 700], b"{\"v\":2,\0\0\0\0\n{\"v\""];
    let folder = tempfile::tempdir().unwrap();
    let (path, key) = many_files(folder.path(), 2);
    for bytes in torn {
        let records = check(&path, key).unwrap().records;
        let first = visit_first(&path);
        std::fs::rename(&path, closed_path(&path, first)).unwrap();
        std::io::Write::write_all(&mut crate::sys::create_private_file(&path).unwrap(), bytes).unwrap();
        drop(open(&path, SMALL));
        assert!(check(&path, key).unwrap().records > records);
        assert!(visit_first(&path) > first);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"op\":\"tail_repaired\""), "{text}");
    }
}

fn visit_first(path: &Path) -> u64 {
    let text = std::fs::read_to_string(path).unwrap();
    Record::parse(text.lines().next().unwrap().as_bytes()).unwrap().seq
}

#[test]
fn a_file_that_cannot_be_closed_goes_on_under_the_next_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let files = Files { max_bytes: 500, ..SMALL };
    let (medium, journal) = faulty_with(Options { files, ..options(&path) });
    journal.sign_with(keys(&path)).unwrap();
    let mut keys_seen = std::collections::HashSet::new();
    for _ in 0..3 {
        for number in 0..20 {
            journal.append(entry(number), 0, Durability::Durable).map(drop).unwrap();
        }
        std::thread::sleep(Duration::from_millis(1100)); // closing is tried again after a second
    }
    drop(journal);
    let bytes = medium.durable();
    let mut key = None;
    let summary = visit(bytes.as_slice(), &[], |line| {
        key = key.or(super::checkpoint::announced(line.record).map(|key| key.pin()));
        if line.record.op == CHECKPOINT {
            let signed = SignedCheckpoint::of(line.record).unwrap().unwrap();
            keys_seen.insert(signed.signature);
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(summary.signatures.first_key, key);
    assert_ne!(summary.signatures.last_key, key, "a key was announced and certified");
    assert!(summary.signatures.uncertified_keys.is_empty());
    assert!(summary.signatures.checkpoints as usize == keys_seen.len());
}

/// The file had got its closed name and could not give up its own: it was never closed again.
#[test]
fn a_file_that_has_its_closed_name_already_is_closed_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let journal = open(&path, SMALL);
    std::fs::hard_link(&path, closed_path(&path, 1)).unwrap();
    let begun = std::time::Instant::now();
    while closed_files(&path).len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no file is closed");
        journal.append(entry(1), 0, Durability::Durable).map(drop).unwrap();
    }
    drop(journal);
    assert!(visit_file(&path, |_| Ok(())).unwrap().signatures.uncertified_keys.is_empty());
}

/// The next key took over and its file lies beside the old one's: another key would be written over it.
#[test]
fn no_file_is_closed_before_the_key_of_the_last_one_is_erased() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let journal = open(&path, SMALL);
    let key_file = folder.path().join("audit.jsonl.key");
    std::fs::remove_file(&key_file).unwrap();
    std::fs::create_dir(&key_file).unwrap();
    let write = || {
        for number in 0..60 {
            journal.append(entry(number), 0, Durability::Written).map(drop).unwrap();
        }
        journal.sync().unwrap();
    };
    let until = |what: &str, reached: &dyn Fn() -> bool| {
        let begun = std::time::Instant::now();
        while !reached() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let closed = || closed_files(&path).len();
    write();
    until("the first file is closed", &|| closed() == 1);
    write();
    std::thread::sleep(Duration::from_millis(1100)); // closing is tried again after a second
    assert_eq!(closed(), 1);
    std::fs::remove_dir(&key_file).unwrap();
    until("the next key has its place", &|| key_file.is_file());
    until("the second file is closed", &|| closed() > 1);
    drop(journal);
    drop(open(&path, SMALL));
    assert!(visit_file(&path, |_| Ok(())).unwrap().signatures.uncertified_keys.is_empty());
}

#[test]
fn failed_fsyncs_leave_tree_and_records_in_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let (medium, journal) = faulty_with(options(&path));
    journal.sign_with(keys(&path)).unwrap();
    for round in 0..20 {
        medium.fail_sync(round % 3 == 1);
        for number in 0..7 {
            journal.append(entry(number), 0, Durability::Written).map(drop).ok();
        }
        journal.append_change(round + 1, &entry(30).encode()).map(drop).ok();
        journal.sync().ok();
    }
    medium.fail_sync(false);
    journal.append(entry(1), 0, Durability::Durable).map(drop).unwrap();
    drop(journal);
    let summary = verify(medium.durable().as_slice(), &[]).unwrap();
    assert_eq!(summary.signatures.signed_records + 1, summary.records);
}

#[test]
fn a_proof_shows_its_record_to_who_trusts_the_key_and_no_changed_one() {
    let folder = tempfile::tempdir().unwrap();
    let (path, key) = many_files(folder.path(), 3);
    let (signed, by) = newest_checkpoint(&path, trusting(key)).unwrap();
    assert!(signed.is_by(&by));
    for seq in [1, 2, 17, signed.checkpoint.size] {
        let proof = prove(&path, seq, trusting(key)).unwrap();
        let by = by.pin();
        proof.check(&[by]).unwrap();
        proof.check(&[[1; 32].into()]).unwrap_err();
        let text = serde_json::to_string(&proof).unwrap();
        assert_eq!(serde_json::from_str::<Proof>(&text).unwrap(), proof);
        let mut other = proof.clone();
        other.record = prove(&path, seq % 17 + 3, trusting(key)).unwrap().record;
        other.check(&[by]).unwrap_err();
        let mut other = proof.clone();
        other.size += 1;
        other.check(&[by]).unwrap_err();
        let mut other = proof;
        other.path.pop();
        other.check(&[by]).unwrap_err();
    }
    assert!(prove(&path, signed.checkpoint.size + 1, trusting(key)).unwrap_err().what.contains("not under"));
    assert!(prove(&path, 1 << 40, trusting(key)).unwrap_err().what.contains("no record"));
}

#[test]
fn a_checkpoint_of_other_records_is_found() {
    // A journal whose only checkpoint has a right signature over a wrong root.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let (medium, journal) = faulty_with(options(&path));
    journal.sign_with(keys(&path)).unwrap();
    drop(journal);
    let good = medium.durable();
    let lines: Vec<&[u8]> = good.split_inclusive(|byte| *byte == b'\n').collect();
    // The key's record, then the checkpoint that belongs after it, with one record put in between.
    let announcement = &lines[0][..lines[0].len() - 1];
    let mut text = lines[0].to_vec();
    let stamp = |seq, prev| Stamp { seq, time: 0, boot: "00", generation: 0, change: Change::Nothing, prev };
    let hash = super::merkle::leaf(announcement);
    let hash = Draft::new(&entry(1)).stamp(&stamp(2, &hash), &mut text);
    text.push(b'\n');
    let mut record = Record::parse(&lines[1][..lines[1].len() - 1]).unwrap();
    record.seq = 3;
    record.prev = data_encoding::HEXLOWER.encode(&hash);
    text.extend_from_slice(sealed(&mut record).as_bytes());
    text.push(b'\n');
    let finding = verify(text.as_slice(), &[]).unwrap_err();
    assert_eq!((finding.line, finding.wrong), (3, Wrong::Signature));
}

impl Faulty {
    fn durable(&self) -> Vec<u8> {
        self.durable.lock().clone()
    }

    fn fail_sync(&self, fail: bool) {
        self.no_sync.store(fail, std::sync::atomic::Ordering::SeqCst);
    }
}

/// The exit status and words of the independent verifier; `None` where there is no Python. `site` says whether it finds packages.
pub(super) fn independent(journal: &Path, site: Site, pins: &[Pin]) -> Option<(Option<i32>, String)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/verify_journal.py");
    let of_tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    let python = if of_tests.exists() { of_tests } else { "python3".into() };
    let mut command = std::process::Command::new(python);
    if site == Site::Bare {
        command.args(["-I", "-S"]);
    }
    let output = command.arg(&script).arg(journal).args(pins.iter().map(Pin::to_string)).output().ok()?;
    Some((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// Whether a Python finds packages that were installed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Site {
    Bare,
    Packages,
}

#[test]
fn the_independent_verifier_agrees_on_files_and_signatures() {
    let folder = tempfile::tempdir().unwrap();
    let (path, key) = many_files(folder.path(), 2);
    let python = |key| independent(&path, Site::Bare, &[key]);
    let Some((status, text)) = python(key) else {
        eprintln!("SKIPPED the_independent_verifier_agrees_on_files_and_signatures: python3 not found");
        return;
    };
    assert_eq!(status, Some(0), "{text}");
    assert_eq!(python([7; 32].into()).unwrap().0, Some(1));
    rewritten(&path, 20, |record| {
        if record.op == "sign" {
            record.session = Some(77);
        }
    });
    assert_eq!(python(key).unwrap().0, Some(1));
}
