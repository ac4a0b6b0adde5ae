//! The journal under edits, crashes, a full disk and a bad clock.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::chain::{Finding, Head, Walk, Wrong, verify};
use super::draft::{Change, Draft, Stamp};
use super::export::{Style, export};
use super::file::Medium;
use super::journal::Pen;
use super::merkle::leaf;
use super::stage::{Stage, Staged};
use super::{
    Category, Client, Durability, Entry, Fact, Files, Journal, Level, Options, Record, Subject, head_path, visit_file,
};
use crate::{Clock, Kind, ObjectId, TokenId};

const START: u64 = 1_790_000_000_000_000_000;
const DAY: u64 = 86_400_000_000_000;

/// A clock that a test sets.
pub(super) struct TestClock(AtomicU64);

impl TestClock {
    pub(super) fn at(nanos: u64) -> Arc<Self> {
        Arc::new(TestClock(AtomicU64::new(nanos)))
    }

    fn set(&self, nanos: u64) {
        self.0.store(nanos, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now_unix_nanos(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

pub(super) fn entry(number: u64) -> Entry {
    let clients = [
        Client::Unix { uid: 1000, gid: 1000, pid: 4711 },
        Client::Certificate { key_sha256: [7; 32], subject: "CN=\"x\\y\"\u{1}\u{7f}\n\u{2028},O=Ünï €".to_owned() },
        Client::Daemon,
        Client::Operator { uid: 0 },
    ];
    let mut entry = Entry::new(Category::Crypto, "sign", clients[number as usize % 4].clone());
    if number.is_multiple_of(2) {
        entry.app = Some(u128::from(number) << 70);
        entry.token = Some(TokenId([3; 16]));
        entry.session = Some(number);
        entry.mechanism = Some(ck::mechanism::CKM_ECDSA);
        entry.params = Some([9; 32]);
        entry.request = Some(u128::from(number));
    }
    if number.is_multiple_of(3) {
        entry.object = Some(Subject { id: ObjectId([5; 16]), class: ck::object::CKO_PRIVATE_KEY });
        entry.with = Some(Subject { id: ObjectId([6; 16]), class: ck::ObjectClass(0x8000_0001) });
        entry.rv = ck::rv::CKR_PIN_INCORRECT;
    }
    if number.is_multiple_of(5) {
        entry = entry.with_fact("zeta", Fact::name("a \"label\" \t\\")).with_fact("alpha", Fact::number(number));
    }
    entry
}

/// The lines of a journal with `count` records, without touching a file.
fn lines(count: u64) -> Vec<Vec<u8>> {
    let mut prev = [0; 32];
    (1..=count)
        .map(|seq| {
            let mut line = Vec::new();
            let stamp = Stamp {
                seq,
                time: START + seq,
                boot: "0123456789abcdef",
                generation: seq / 3,
                change: if seq % 4 == 0 { Change::Made } else { Change::Nothing },
                prev: &prev,
            };
            prev = Draft::new(&entry(seq)).stamp(&stamp, &mut line);
            line.push(b'\n');
            line
        })
        .collect()
}

/// The line of an entry that is a journal's first record.
pub(super) fn line_of(entry: &Entry) -> Vec<u8> {
    let mut line = Vec::new();
    let (boot, change, prev) = ("0123456789abcdef", Change::Nothing, &[0; 32]);
    Draft::new(entry).stamp(&Stamp { seq: 1, time: START, boot, generation: 0, change, prev }, &mut line);
    line
}

fn check(lines: &[Vec<u8>], known: &[Head]) -> Result<u64, Finding> {
    verify(lines.concat().as_slice(), known).map(|summary| summary.records)
}

pub(super) fn options(path: &Path) -> Options {
    Options {
        path: path.to_owned(),
        level: Level::All,
        known: None,
        anchor: None,
        witnesses: Vec::new(),
        files: Files::default(),
    }
}

fn open(path: &Path) -> Journal {
    Journal::open(options(path), TestClock::at(START)).unwrap()
}

fn refusal(path: &Path) -> String {
    match Journal::open(options(path), TestClock::at(START)) {
        Ok(_) => panic!("the journal was opened"),
        Err(error) => error.detail().unwrap().to_owned(),
    }
}

/// A closed journal with `count` records of its own beside `journal_open`.
fn journal_file(folder: &Path, count: u64) -> PathBuf {
    let path = folder.join("audit.jsonl");
    let journal = open(&path);
    for number in 0..count {
        journal.append(entry(number), number, Durability::Written).map(drop).unwrap();
    }
    path
}

pub(super) fn records(path: &Path) -> Vec<Record> {
    let mut all = Vec::new();
    visit_file(path, |line| {
        all.push(line.record.clone());
        Ok(())
    })
    .unwrap();
    all
}

#[test]
fn an_entry_has_its_own_text_whatever_its_thread_wrote_before() {
    // Many share a place in what the thread keeps: those without a session, and each sixteenth.
    for number in (1..40).chain(1..40).flat_map(|number| [number, number, 17 * number, 32, 31]) {
        let (sample, text) = (entry(number), Draft::again(entry(number)));
        assert_eq!(text.as_bytes(), Draft::new(&sample).as_bytes(), "{number}");
    }
}

#[test]
fn written_lines_are_what_serde_would_write() {
    for (index, line) in lines(60).iter().enumerate() {
        let record = Record::parse(&line[..line.len() - 1]).unwrap();
        assert_eq!(record.seq, index as u64 + 1);
    }
    assert_eq!(check(&lines(60), &[]), Ok(60));
}

#[test]
fn every_changed_byte_is_found_at_its_line_or_the_next() {
    let lines = lines(200);
    let mut walk = Walk::new();
    for (index, line) in lines.iter().enumerate() {
        for at in 0..line.len() {
            for flip in [1_u8, 0x80] {
                let mut edited = line.clone();
                edited[at] ^= flip;
                let mut bytes = edited;
                bytes.extend_from_slice(lines.get(index + 1).map_or(&[], Vec::as_slice));
                let mut copy = walk.clone();
                let found = bytes.split_inclusive(|byte| *byte == b'\n').any(|line| copy.step(line).is_err());
                assert!(found, "line {} byte {at} flip {flip:#x}", index + 1);
            }
        }
        walk.step(line).unwrap();
    }
}

#[test]
fn structural_edits_are_found_at_their_line() {
    type Edit = fn(&mut Vec<Vec<u8>>, usize);
    let edits: [(&str, Edit); 6] = [
        ("deleted", |lines, at| drop(lines.remove(at))),
        ("swapped", |lines, at| lines.swap(at, at + 1)),
        ("repeated", |lines, at| lines.insert(at, lines[at].clone())),
        ("repeated later", |lines, at| lines.push(lines[at].clone())),
        ("inserted from another journal", |lines, at| lines.insert(at, other_lines()[at].clone())),
        ("replaced from another journal", |lines, at| lines[at] = other_lines()[at].clone()),
    ];
    for (name, edit) in edits {
        for at in 0..18 {
            let mut lines = lines(20);
            edit(&mut lines, at);
            assert!(check(&lines, &[]).is_err(), "{name} at {at}");
        }
    }
}

/// Each line gone, each in the place of each other (an older one among them), each twice wherever that may be, and each two swapped.
#[test]
fn every_deleted_older_repeated_and_swapped_line_is_found() {
    let good = lines(20);
    let head = Head { seq: 20, hash: leaf(&good[19][..good[19].len() - 1]) };
    let is_found = |lines: &[Vec<u8>]| check(lines, &[head]).is_err();
    assert!(!is_found(&good));
    for (one, line) in good.iter().enumerate() {
        let mut gone = good.clone();
        gone.remove(one);
        assert!(is_found(&gone), "line {one} is gone");
        for other in 0..good.len() {
            let mut twice = good.clone();
            twice.insert(other, line.clone());
            assert!(is_found(&twice), "line {one} before line {other} once more");
            if one != other {
                let mut over = good.clone();
                over[other].clone_from(line);
                assert!(is_found(&over), "line {one} instead of line {other}");
                let mut swapped = good.clone();
                swapped.swap(one, other);
                assert!(is_found(&swapped), "lines {one} and {other} swapped");
            }
        }
        let mut after = good.clone();
        after.push(line.clone());
        assert!(is_found(&after), "line {one} at the end once more");
    }
}

fn other_lines() -> Vec<Vec<u8>> {
    let mut prev = [0; 32];
    (1..=20)
        .map(|seq| {
            let mut line = Vec::new();
            let stamp =
                Stamp { seq, time: START + seq, boot: "ff", generation: 0, change: Change::Nothing, prev: &prev };
            prev = Draft::new(&entry(seq + 1)).stamp(&stamp, &mut line);
            line.push(b'\n');
            line
        })
        .collect()
}

#[test]
fn cut_tail_is_found_at_every_line_by_a_remembered_head() {
    let lines = lines(30);
    let head = Head { seq: 30, hash: leaf(&lines[29][..lines[29].len() - 1]) };
    for keep in 0..30 {
        assert_eq!(check(&lines[..keep], &[head]).unwrap_err().wrong, Wrong::CutTail, "{keep} lines kept");
    }
    assert_eq!(check(&lines, &[head]), Ok(30));
}

#[test]
fn a_journal_that_is_cut_at_any_byte_does_not_hold_its_remembered_head() {
    let lines = lines(15);
    let head = Head { seq: 15, hash: leaf(&lines[14][..lines[14].len() - 1]) };
    let whole = lines.concat();
    for keep in 0..whole.len() {
        assert!(verify(&whole[..keep], &[head]).is_err(), "{keep} bytes kept");
    }
}

#[test]
fn rewritten_chain_is_found_by_a_remembered_head() {
    let lines = lines(20);
    let head = Head { seq: 12, hash: leaf(&lines[11][..lines[11].len() - 1]) };
    let finding = check(&other_lines(), &[head]).unwrap_err();
    assert_eq!((finding.line, finding.wrong), (12, Wrong::Chain));
}

proptest::proptest! {
    #[test]
    fn arbitrary_edits_of_a_journal_never_panic_and_never_pass(
        at in 0_usize..9000,
        len in 0_usize..40,
        insert in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40),
    ) {
        let good = lines(20).concat();
        let at = at.min(good.len());
        let end = (at + len).min(good.len());
        let edited = [&good[..at], &insert, &good[end..]].concat();
        let head = Head { seq: 20, hash: leaf(&lines(20)[19][..lines(20)[19].len() - 1]) };
        let outcome = verify(edited.as_slice(), &[head]);
        proptest::prop_assert_eq!(outcome.is_ok(), edited == good);
    }
}

#[test]
fn unknown_record_version_is_named() {
    let finding = verify(&b"{\"future\":1.5,\"v\":3}\n"[..], &[]).unwrap_err();
    assert!(finding.what.contains("version 3") && finding.what.contains("versions 1 to 2"), "{}", finding.what);
}

#[test]
fn incomplete_last_line_is_set_aside_and_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = journal_file(folder.path(), 3);
    let whole = std::fs::read(&path).unwrap();
    let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for cut in (last + 1)..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        std::fs::remove_file(head_path(&path)).unwrap();
        drop(open(&path));
        let records = records(&path);
        let repair = &records[records.len() - 2];
        assert_eq!(repair.op, "tail_repaired");
        assert_eq!(repair.detail["bytes"], Fact::number((cut - last) as u64));
        let name = repair.detail["file"].to_string();
        let aside = folder.path().join(name);
        assert_eq!(std::fs::read(&aside).unwrap(), &whole[last..cut]);
        std::fs::remove_file(aside).unwrap();
    }
}

/// A file system that had given the file its new length and not yet the bytes shows zeros where they were to be: the journal was refused.
#[test]
fn records_that_a_loss_of_power_left_unwritten_are_set_aside_and_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = journal_file(folder.path(), 40);
    let whole = std::fs::read(&path).unwrap();
    let (mut durable, mut durable_len) = (None, 0);
    visit_file(&path, |line| {
        if line.record.seq <= 20 {
            durable = Some(line.head);
            durable_len += line.text.len() + 1;
        }
        Ok(())
    })
    .unwrap();
    let at = whole[durable_len + 900..].iter().position(|byte| *byte == b'\n').unwrap() + durable_len + 930;
    let mut lost = whole.clone();
    lost[at..at + 512].fill(0);
    std::fs::write(&path, &lost).unwrap();
    // Acknowledged as durable: no loss of power takes them.
    assert!(refusal(&path).contains("never written"), "{}", refusal(&path));
    std::fs::write(head_path(&path), durable.unwrap().to_line()).unwrap();
    // Where the staging file is still whole, as after a kill, it has them all.
    std::fs::remove_file(super::stage::stage_path(&path)).unwrap();
    drop(open(&path));
    let kept = records(&path);
    let repaired = kept.iter().position(|record| record.op == "tail_repaired").unwrap();
    assert!((20..40).contains(&repaired), "{repaired}");
    let aside = folder.path().join(format!("torn-{}.bin", repaired + 1));
    let set_aside = std::fs::read(aside).unwrap();
    assert!(lost.ends_with(&set_aside) && set_aside.len() > 512);
}

#[test]
fn line_that_is_being_written_is_no_finding_for_a_reader() {
    let folder = tempfile::tempdir().unwrap();
    let path = journal_file(folder.path(), 3);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_slice(b"{\"boot\":");
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(visit_file(&path, |_| Ok(())).unwrap_err().wrong, Wrong::TornTail { .. }));
    let writer = std::fs::File::open(&path).unwrap();
    rustix::fs::flock(&writer, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    assert_eq!(visit_file(&path, |_| Ok(())).unwrap().records, 4);
}

#[test]
fn acknowledged_lines_are_not_repaired_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = journal_file(folder.path(), 5);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 10]).unwrap();
    let sentence = refusal(&path);
    assert!(sentence.contains("incomplete"), "{sentence}");
    assert_eq!(std::fs::read(&path).unwrap().len(), whole.len() - 10);
}

#[test]
fn damaged_journal_refuses_to_open_and_names_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = journal_file(folder.path(), 5);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(refusal(&path).contains("at line 1: "));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn shortened_journal_refuses_to_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = journal_file(folder.path(), 5);
    let bytes = std::fs::read(&path).unwrap();
    let kept: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').take(4).collect();
    std::fs::write(&path, kept.concat()).unwrap();
    assert!(refusal(&path).contains("the tail was cut off"));
    std::fs::remove_file(&path).unwrap();
    assert!(refusal(&path).contains("the tail was cut off"));
}

#[test]
fn readable_or_shared_journal_refuses_to_open() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let journal = open(&path);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(refusal(&path).contains("another process"));
    drop(journal);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(refusal(&path).contains("mode 640"));
}

#[test]
fn time_never_decreases_and_jumps_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let clock = TestClock::at(START);
    let journal = Journal::open(options(&path), clock.clone()).unwrap();
    for now in [START + 1, START - DAY, START + 3650 * DAY, START + 3650 * DAY + 1] {
        clock.set(now);
        journal.append(entry(1), 0, Durability::Written).map(drop).unwrap();
    }
    drop(journal);
    drop(Journal::open(options(&path), TestClock::at(START)).unwrap()); // ten years back, while it was closed
    let records = records(&path);
    let ops: Vec<&str> = records.iter().map(|record| record.op.as_str()).collect();
    let jump = "clock_jump";
    assert_eq!(ops, ["journal_open", "sign", jump, "sign", jump, "sign", "sign", jump, "journal_open"]);
    let ways: Vec<String> = records.iter().filter_map(|r| r.detail.get("direction")).map(Fact::to_string).collect();
    assert_eq!(ways, ["back", "forward", "back"]);
}

#[test]
fn level_keeps_its_category_and_the_journals_own() {
    use Category::{Admin, Auth, Crypto};
    let rows: [(Level, &[Category]); 5] = [
        (Level::All, &[Crypto, Auth, Admin]),
        (Level::Crypto, &[Crypto]),
        (Level::Auth, &[Auth]),
        (Level::Admin, &[Admin]),
        (Level::None, &[]),
    ];
    for (level, kept) in rows {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { level, ..options(&folder.path().join("a")) };
        let journal = Journal::open(options, TestClock::at(START)).unwrap();
        for category in [Crypto, Auth, Admin] {
            let entry = Entry::new(category, "x", Client::Daemon);
            let receipt = journal.append(entry, 0, Durability::Written).unwrap();
            assert_eq!(receipt.seq().is_some(), kept.contains(&category), "{level:?} {category:?}");
        }
        assert!(level.keeps(Category::Journal));
    }
}

#[test]
fn changes_are_found_by_generation_after_reopening_and_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let body = entry(30).encode();
    let journal = open(&path);
    let first = journal.append_change(7, &body).unwrap();
    assert_eq!(journal.append_change(7, &body).unwrap().seq(), first.seq());
    journal.append(entry(1), 9, Durability::Durable).map(drop).unwrap();
    let head = journal.head();
    drop(journal);
    let journal = open(&path);
    assert!(journal.contains_generation(7) && !journal.contains_generation(9) && !journal.contains_generation(8));
    assert_eq!(journal.last_generation(), 9);
    assert!(journal.contains_head(&head).unwrap());
    assert!(!journal.contains_head(&Head { seq: head.seq, hash: [1; 32] }).unwrap());
    assert!(!journal.contains_head(&Head { seq: 99, hash: head.hash }).unwrap());
}

#[test]
fn change_that_is_not_kept_leaves_no_record_and_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let journal = open(&path);
    assert_eq!(journal.append_change(7, &[]).unwrap().seq(), None);
    drop(journal);
    assert_eq!(records(&path).len(), 1);
}

#[test]
fn forgotten_generations_get_their_records_again() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(&folder.path().join("audit.jsonl"));
    let first = journal.append_change(7, &entry(30).encode()).unwrap();
    journal.forget_generations();
    assert_eq!(journal.last_generation(), 0);
    assert_ne!(journal.append_change(7, &entry(30).encode()).unwrap().seq(), first.seq());
}

#[test]
fn records_that_a_killed_run_had_staged_are_written_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let journal = open(&path);
    journal.append(entry(1), 4, Durability::Durable).map(drop).unwrap();
    let last = journal.head().seq;
    drop(journal);
    let boot = records(&path).last().unwrap().boot.clone();
    let boot = data_encoding::HEXLOWER.decode(boot.as_bytes()).unwrap().try_into().unwrap();
    let mut stage = Stage::open(&path, boot).unwrap();
    for seq in last + 1..last + 4 {
        assert!(stage.put(Staged { seq, time: START, generation: 5 }, &Draft::new(&entry(seq))).is_some());
    }
    drop(stage);
    // The kill also tore the line that was being written.
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"app\":\"0").unwrap();
    drop(open(&path));
    let found = records(&path);
    let ops: Vec<&str> = found.iter().skip(last as usize).map(|record| record.op.as_str()).collect();
    assert_eq!(ops[..3], [entry(2).op; 3]);
    assert_eq!(ops[3..], ["tail_repaired", "journal_open"]);
    assert!(found[last as usize..].iter().take(3).all(|record| record.generation == 5));
    // Not twice.
    drop(open(&path));
    assert_eq!(records(&path).len(), found.len() + 1);
}

#[test]
fn staged_records_of_eight_threads_are_all_written_while_others_are_made_durable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let journal = open(&path);
    let receipts: Vec<u64> = std::thread::scope(|scope| {
        let one = |thread: u64| {
            let journal = &journal;
            move || {
                let mut seqs = Vec::new();
                for number in 0..600 {
                    let durability = if number % 97 == thread { Durability::Durable } else { Durability::Written };
                    seqs.extend(journal.append(entry(number), 1, durability).unwrap().seq());
                }
                seqs
            }
        };
        let running: Vec<_> = (0..8).map(|thread| scope.spawn(one(thread))).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    drop(journal);
    let distinct: std::collections::BTreeSet<u64> = receipts.iter().copied().collect();
    assert_eq!(distinct.len(), 4800);
    assert!(*distinct.last().unwrap() <= records(&path).len() as u64);
    verify(std::fs::read(&path).unwrap().as_slice(), &[]).unwrap();
}

#[test]
fn foreign_outbox_body_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(&folder.path().join("audit.jsonl"));
    let good = entry(30).encode();
    let mut wrong_format = good.clone();
    wrong_format[0] = 9;
    let mut wrong_cut = good.clone();
    wrong_cut[1] = 0xFF;
    for body in [&b"\x01"[..], &good[..good.len() - 3], &wrong_format, &wrong_cut] {
        assert_eq!(journal.append_change(1, body).unwrap_err().kind(), Kind::Device);
    }
    journal.append_change(1, &good).map(drop).unwrap();
}

#[test]
fn eight_threads_get_distinct_receipts_and_a_chain_that_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let journal = open(&path);
    let seen = Mutex::new(HashSet::new());
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (journal, seen) = (&journal, &seen);
            scope.spawn(move || {
                for number in 0..200 {
                    let durability = if number % 20 == 0 { Durability::Durable } else { Durability::Written };
                    let receipt = journal.append(entry(thread * 200 + number), 1, durability).unwrap();
                    assert!(seen.lock().insert(receipt.seq()));
                }
            });
        }
    });
    drop(journal);
    assert_eq!(records(&path).len(), 1601);
}

#[test]
fn journal_verifies_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let journal = open(&path);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..2_000 {
                journal.append(entry(number), 1, Durability::Written).map(drop).unwrap();
            }
            done.store(true, Ordering::SeqCst);
        });
        let mut seen = 0;
        while !done.load(Ordering::SeqCst) {
            let records = visit_file(&path, |_| Ok(())).unwrap().records;
            assert!(records >= seen);
            seen = records;
        }
    });
    drop(journal);
    assert_eq!(records(&path).len(), 2001);
}

#[test]
fn moved_journal_refuses_records_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let journal = open(&path);
    let away = folder.path().join("audit.old");
    std::fs::rename(&path, &away).unwrap();
    assert!(journal.append(entry(1), 0, Durability::Durable).is_err());
    assert!(journal.append(entry(2), 0, Durability::Written).is_err());
    assert!(journal.failure().unwrap().contains("moved"));
    std::fs::rename(&away, &path).unwrap();
    journal.append(entry(3), 0, Durability::Durable).map(drop).unwrap();
    drop(journal);
    assert_eq!(records(&path).len(), 3); // journal_open, the record whose fsync was refused, the last
}

/// A file in memory that forgets what was not synced when a sync fails, as a page cache may; or goes on showing it.
#[derive(Default)]
pub(super) struct Faulty {
    bytes: Mutex<Vec<u8>>,
    goes_on_showing: AtomicBool,
    /// Bytes that truncations took away.
    cut: AtomicUsize,
    pub(super) durable: Mutex<Vec<u8>>,
    no_space: AtomicBool,
    pub(super) no_sync: AtomicBool,
    no_truncate: AtomicBool,
}

impl Medium for Arc<Faulty> {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut file = self.bytes.lock();
        let position = position as usize;
        let room = if self.no_space.load(Ordering::SeqCst) { bytes.len() / 2 } else { bytes.len() };
        if file.len() < position + room {
            file.resize(position + room, 0);
        }
        file[position..position + room].copy_from_slice(&bytes[..room]);
        if room < bytes.len() { Err(io::Error::other("no space left on device")) } else { Ok(()) }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        if self.no_truncate.load(Ordering::SeqCst) {
            return Err(io::Error::other("input/output error"));
        }
        let mut file = self.bytes.lock();
        self.cut.fetch_add(file.len().saturating_sub(length as usize), Ordering::SeqCst);
        file.resize(length as usize, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.no_sync.load(Ordering::SeqCst) {
            if !self.goes_on_showing.load(Ordering::SeqCst) {
                let durable = self.durable.lock().clone();
                *self.bytes.lock() = durable;
            }
            return Err(io::Error::other("input/output error"));
        }
        *self.durable.lock() = self.bytes.lock().clone();
        Ok(())
    }

    fn remember(&self, _: &Head) {}

    fn begin_another(&self, _: u64) -> io::Result<()> {
        Err(io::Error::other("one file only"))
    }
}

fn faulty() -> (Arc<Faulty>, Journal) {
    faulty_with(options(Path::new("")))
}

pub(super) fn faulty_with(options: Options) -> (Arc<Faulty>, Journal) {
    let medium = Arc::new(Faulty::default());
    let journal =
        Journal::start(Box::new(Arc::clone(&medium)), TestClock::at(0), "00".to_owned(), options, Pen::empty());
    (medium, journal)
}

#[test]
fn full_disk_refuses_each_record_and_recovers_without_restart() {
    for no_truncate in [false, true] {
        let (medium, journal) = faulty();
        for number in 0..10 {
            journal.append(entry(number), 0, Durability::Written).map(drop).unwrap();
        }
        medium.no_space.store(true, Ordering::SeqCst);
        medium.no_truncate.store(no_truncate, Ordering::SeqCst);
        for number in 0..10 {
            let error = journal.append(entry(number), 0, Durability::Written).unwrap_err();
            assert_eq!(error.kind(), Kind::Device);
        }
        medium.no_space.store(false, Ordering::SeqCst);
        medium.no_truncate.store(false, Ordering::SeqCst);
        for number in 0..10 {
            journal.append(entry(number), 0, Durability::Durable).map(drop).unwrap();
        }
        drop(journal);
        assert_eq!(verify(medium.durable.lock().as_slice(), &[]).unwrap().records, 20);
    }
}

#[test]
fn failed_fsync_loses_no_answered_record() {
    let (medium, journal) = faulty();
    let mut answered = 0;
    for round in 0..20 {
        medium.no_sync.store(round % 3 == 1, Ordering::SeqCst);
        for number in 0..7 {
            let durability = if number == 6 { Durability::Durable } else { Durability::Written };
            answered += u64::from(journal.append(entry(number), 0, durability).is_ok());
        }
    }
    medium.no_sync.store(false, Ordering::SeqCst);
    journal.append(entry(1), 0, Durability::Durable).map(drop).unwrap();
    drop(journal);
    let kept = verify(medium.durable.lock().as_slice(), &[]).unwrap().records;
    assert!(kept > answered, "{kept} records for {} answers", answered + 1);
}

/// A kill in the middle of it must not take away what was answered for.
#[test]
fn a_journal_that_recovers_has_all_its_lines_meanwhile() {
    let (medium, journal) = faulty();
    medium.goes_on_showing.store(true, Ordering::SeqCst);
    medium.no_sync.store(true, Ordering::SeqCst);
    journal.append(entry(1), 0, Durability::Written).map(drop).unwrap();
    assert!(journal.append(entry(2), 0, Durability::Durable).is_err());
    medium.no_sync.store(false, Ordering::SeqCst);
    journal.append(entry(3), 0, Durability::Durable).map(drop).unwrap();
    assert_eq!(medium.cut.load(Ordering::SeqCst), 0);
    drop(journal);
    verify(medium.durable.lock().as_slice(), &[]).unwrap();
}

#[test]
fn use_records_become_durable_without_being_asked() {
    let (medium, journal) = faulty();
    let head = journal.append(entry(1), 0, Durability::Written).map(|_| journal.head()).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while journal.durable_head() != head {
        assert!(std::time::Instant::now() < deadline, "the flusher never ran");
        std::thread::yield_now();
    }
    assert!(!medium.durable.lock().is_empty());
}

#[test]
fn exports_are_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = journal_file(folder.path(), 12);
    let run = |style, from| {
        let mut out = Vec::new();
        export(&path, from, style, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(run(Style::Ndjson, 1).into_bytes(), std::fs::read(&path).unwrap());
    let array: Vec<serde_json::Value> = serde_json::from_str(&run(Style::Json, 5)).unwrap();
    assert_eq!(array.len(), 9);
    assert_eq!(serde_json::from_str::<Vec<u8>>(&run(Style::Json, 99)).unwrap(), Vec::<u8>::new());
    let syslog = run(Style::Syslog, 1);
    assert!(syslog.starts_with("<110>1 2026-09-21T14:13:20Z - craton-hsm - journal_open - {"), "{syslog}");
    assert!(syslog.contains("\n<108>1 "));
    assert!(run(Style::Text, 1).starts_with("1 2026-09-21T14:13:20Z daemon journal_open CKR_OK program="));
}

#[test]
fn independent_verifier_agrees() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/verify_journal.py");
    let python = |journal: &Path| std::process::Command::new("python3").arg(&script).arg(journal).output();
    let folder = tempfile::tempdir().unwrap();
    let path = journal_file(folder.path(), 40);
    let Ok(output) = python(&path) else {
        return skipped("independent_verifier_agrees: python3 not found");
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let whole = std::fs::read(&path).unwrap();
    let edits: [fn(&mut Vec<u8>); 6] = [
        |bytes| bytes[500] ^= 1,
        |bytes| bytes[3] ^= 1,
        |bytes| bytes.truncate(bytes.len() - 1),
        |bytes| bytes.truncate(bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1),
        |bytes| drop(bytes.drain(..=bytes.iter().position(|byte| *byte == b'\n').unwrap())),
        |bytes| bytes.extend_from_slice(b"{}\n"),
    ];
    for edit in edits {
        let mut bytes = whole.clone();
        edit(&mut bytes);
        std::fs::write(&path, &bytes).unwrap();
        assert!(visit_file(&path, |_| Ok(())).is_err());
        assert_eq!(python(&path).unwrap().status.code(), Some(1));
    }
}

fn skipped(what: &str) {
    eprintln!("SKIPPED {what}");
}

/// How long one append takes: `cargo test --release -p hsm-core append_cost -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn append_cost() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(options(&folder.path().join("audit.jsonl")), Arc::new(crate::SystemClock)).unwrap();
    let sample = entry(30);
    let count = 100_000;
    let start = std::time::Instant::now();
    for _ in 0..count {
        journal.append(sample.clone(), 1, Durability::Written).map(drop).unwrap();
    }
    eprintln!("append: {} ns", start.elapsed().as_nanos() / count);
    let start = std::time::Instant::now();
    visit_file(&folder.path().join("audit.jsonl"), |_| Ok(())).unwrap();
    eprintln!("verify: {} ns a record", start.elapsed().as_nanos() / count);
    let draft = Draft::new(&sample);
    let mut line = Vec::new();
    let start = std::time::Instant::now();
    for seq in 0..count as u64 {
        line.clear();
        let stamp = Stamp {
            seq,
            time: START,
            boot: "0123456789abcdef",
            generation: 1,
            change: Change::Nothing,
            prev: &[1; 32],
        };
        std::hint::black_box(draft.stamp(&stamp, &mut line));
    }
    eprintln!("under the lock besides the write: {} ns for {} bytes", start.elapsed().as_nanos() / count, line.len());
}
