//! A witness and the journals that it is shown: honest ones in any portions, and those that were cut, rolled back, rewritten or forged.

use std::path::Path;

use super::signed_tests::{SMALL, many_files, open};
use super::tests::entry;
use super::*;

/// Follows a journal to its end.
pub(super) fn follow(path: &Path, mut held: Option<Held>, trusted: &[Pin]) -> Vec<Held> {
    let from = held.as_ref().map(|held| (held.checkpoint().size, *held.key()));
    let mut follower = Follower::begin(path, from).unwrap();
    let mut all = Vec::new();
    while let Some(step) = follower.next_step(u64::MAX).unwrap() {
        let next = judge(held.as_ref(), trusted, &step).unwrap();
        all.push(next.clone());
        held = Some(next);
    }
    all
}

#[test]
fn a_witness_follows_a_journal_through_its_files_and_keys() {
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = many_files(folder.path(), 3);
    let summary = visit_file(&path, |_| Ok(())).unwrap();
    assert!(closed_files(&path).len() > 2);
    let all = follow(&path, None, &[first]);
    let last = all.last().unwrap();
    assert_eq!(last.checkpoint().size, summary.signatures.signed_records);
    assert_eq!(Some(*last.key()), summary.signatures.last_key);
    assert!(all.len() > closed_files(&path).len(), "each change of the key is a step of its own");
    for held in &all {
        let text = held.to_text();
        assert_eq!(Held::from_text(&text).as_ref(), Some(held));
        assert_eq!(witnessed(&text), [held.checkpoint().clone()]);
        verify_witnessed(&path, Trust::default(), &witnessed(&text)).unwrap();
        // From wherever it is, it comes to the same end; the first key is no longer needed.
        let rest = follow(&path, Some(held.clone()), &[]);
        assert_eq!(rest.last().unwrap_or(held), last);
    }
}

#[test]
fn a_follower_goes_on_while_the_journal_grows_and_changes_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let journal = open(&path, SMALL);
    let first = first_key(&path).unwrap();
    let mut follower = Follower::begin(&path, None).unwrap();
    let mut held: Option<Held> = None;
    let mut number = 0;
    // Files are closed beside those who write, at its own time.
    while number < 60 || closed_files(&path).len() <= 2 {
        assert!(number < 100_000, "no file is closed");
        journal.append_change(number + 1, &entry(number).encode()).map(drop).unwrap();
        journal.sync().unwrap();
        while let Some(step) = follower.next_step(journal.durable_head().seq).unwrap() {
            let next = judge(held.as_ref(), &[first], &step).unwrap();
            assert!(held.is_none_or(|held| held.checkpoint().size <= next.checkpoint().size));
            held = Some(next);
        }
        number += 1;
    }
    drop(journal);
    while let Some(step) = follower.next_step(u64::MAX).unwrap() {
        held = Some(judge(held.as_ref(), &[], &step).unwrap());
    }
    let summary = visit_file(&path, |_| Ok(())).unwrap();
    assert_eq!(held.unwrap().checkpoint().size, summary.signatures.signed_records);
}

#[test]
fn a_witness_may_begin_with_a_later_file_whose_key_it_knows() {
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = many_files(folder.path(), 2);
    let files = closed_files(&path);
    std::fs::remove_file(&files[0].1).unwrap();
    let mut follower = Follower::begin(&path, None).unwrap();
    let step = follower.next_step(u64::MAX).unwrap().unwrap();
    assert_eq!(judge(None, &[first], &step), Err(Refusal::Signature));
    let trust = Trust { keys: Vec::new(), later_start: true };
    let later = visit_trusting(&path, trust, |_| Ok(())).unwrap().signatures.first_key.unwrap();
    judge(None, &[later], &step).unwrap();
    // Whoever was witnessed up to a record cannot go on without those after it.
    assert!(Follower::begin(&path, Some((1, first))).is_err());
}

#[test]
fn a_journal_that_was_rolled_back_or_rewritten_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = many_files(folder.path(), 1);
    let yesterday: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    let go_on = |more: u64| {
        let journal = open(&path, Files::default());
        (0..more).for_each(|number| journal.append(entry(number), 9, Durability::Written).map(drop).unwrap());
    };
    go_on(20);
    let held = follow(&path, None, &[first]).pop().unwrap();
    for file in closed_files(&path) {
        std::fs::remove_file(file.1).unwrap();
    }
    yesterday.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    let newest = |path: &Path| {
        let (signed, by) = newest_checkpoint(path, Trust::default()).unwrap();
        let from = held.checkpoint().size;
        Step {
            note: signed.note(&by),
            ml_dsa_44_key: None,
            from,
            before: Vec::new(),
            announcement: None,
            after: Vec::new(),
        }
    };
    let refusal = judge(Some(&held), &[first], &newest(&path)).unwrap_err();
    assert!(matches!(refusal, Refusal::Shrunk { .. }), "{refusal}");
    // It has grown beyond what was witnessed, with another history.
    go_on(60);
    let mut follower = Follower::begin(&path, Some((held.checkpoint().size, *held.key()))).unwrap();
    let step = follower.next_step(u64::MAX).unwrap().unwrap();
    assert!(matches!(judge(Some(&held), &[first], &step), Err(Refusal::Inconsistent(_))));
    // As many records, and others.
    let encoded = |root: &[u8; 32]| data_encoding::BASE64.encode(root);
    let note = held.note().replacen(&encoded(&held.checkpoint().root), &encoded(&[7; 32]), 1);
    let fork = Step { note, ..newest(&path) };
    assert_eq!(judge(Some(&held), &[first], &fork), Err(Refusal::Forked(held.checkpoint().size)));
}

#[test]
fn a_forged_step_is_refused_whatever_was_changed_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = many_files(folder.path(), 2);
    let mut follower = Follower::begin(&path, None).unwrap();
    let mut held: Option<Held> = None;
    let mut tried = 0;
    while let Some(step) = follower.next_step(u64::MAX).unwrap() {
        let trusted = [first];
        let mut forged = vec![
            Step { from: step.from + 1, ..step.clone() },
            Step { note: step.note.replacen("generation ", "generation 1", 1), ..step.clone() },
            Step { note: step.note.replacen("craton-hsm/", "craton-hsm/o", 1), ..step.clone() },
            Step { before: [step.before.as_slice(), &[[1; 32]]].concat(), ..step.clone() },
            Step { after: [step.after.as_slice(), &[[1; 32]]].concat(), ..step.clone() },
        ];
        if !step.before.is_empty() {
            let mut before = step.before.clone();
            before[0][0] ^= 1;
            forged.push(Step { before, ..step.clone() });
        }
        if let Some(line) = &step.announcement {
            forged.push(Step { announcement: None, ..step.clone() });
            // Another key in the place of the announced one, with a check sum that fits.
            let text = String::from_utf8(line.clone()).unwrap();
            let record = Record::parse(line).unwrap();
            let Fact::Text(key) = &record.detail["key"] else { panic!("a key") };
            let other = text.replace(key.as_ref(), &"0".repeat(64));
            forged.push(Step { announcement: Some(other.into_bytes()), ..step.clone() });
        }
        for step in &forged {
            assert!(judge(held.as_ref(), &trusted, step).is_err(), "{step:?}");
            tried += 1;
        }
        if held.is_none() {
            assert_eq!(judge(None, &[[3; 32].into()], &step), Err(Refusal::Signature));
            assert_eq!(judge(None, &[], &step), Err(Refusal::Signature));
        }
        held = Some(judge(held.as_ref(), &trusted, &step).unwrap());
    }
    assert!(tried > 20, "{tried}");
}

#[test]
fn a_damaged_file_of_a_witness_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = many_files(folder.path(), 1);
    let text = follow(&path, None, &[first]).pop().unwrap().to_text();
    for len in 0..text.len() {
        assert!(text.get(..len).and_then(Held::from_text).is_none(), "{len} bytes");
    }
    let (before, peaks) = text.split_at(text.rfind("peaks ").unwrap() + 6);
    let other = format!("{before}{}{}", if peaks.starts_with('0') { '1' } else { '0' }, &peaks[1..]);
    assert!(Held::from_text(&other).is_none());
}
