//! Journals that are signed with ML-DSA-44 too, for a while or always: what a verifier says of them, and what somebody cannot do who broke
//! Ed25519.

use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;

use super::checkpoint::{CHECKPOINT, JOURNAL_KEY, SignedCheckpoint, Timestamped, announced, key_entry};
use super::follow::Follower;
use super::keys::PublicKey;
use super::signed_tests::{
    SMALL, Site, check, independent, keys, open_with, rewritten_with, sealed, trusting, whole, written,
};
use super::tests::entry;
use super::witness_tests::follow;
use super::*;
use crate::Kind;
use crate::crypto::ml_dsa::{self, Hedge, ParameterSet};
use crate::crypto::{eddsa, rng};

const E: Suite = Suite::Ed25519;
const B: Suite = Suite::WithMlDsa44;

/// The keys that the journal names, in turn.
fn named(path: &Path) -> Vec<PublicKey> {
    let mut keys: Vec<PublicKey> = Vec::new();
    visit_file(path, |line| {
        keys.extend(announced(line.record).filter(|key| line.record.op == JOURNAL_KEY && !keys.contains(key)));
        Ok(())
    })
    .unwrap();
    keys
}

fn half(pin: Pin) -> Pin {
    <[u8; 32]>::try_from(&pin.to_bytes()[..32]).unwrap().into()
}

fn trust(keys: &[Pin]) -> Trust {
    Trust { keys: keys.to_vec(), later_start: false }
}

fn judged(path: &Path, keys: &[Pin]) -> Result<Summary, Finding> {
    visit_trusting(path, trust(keys), |_| Ok(()))
}

/// What must be the same to everybody who verifies: none, 64 digits, 128 digits.
#[test]
fn ml_dsa_44_may_begin_and_end_whenever_a_run_begins() {
    let plans: &[&[Suite]] = &[&[E, E], &[B], &[B, B, B], &[E, B], &[B, E], &[E, B, B, E, E, B], &[B, E, B, E]];
    for plan in plans {
        let folder = tempfile::tempdir().unwrap();
        let (path, first) = written(folder.path(), SMALL, plan);
        assert_eq!(first.is_of_both(), plan[0] == B, "{plan:?}");
        let seen = visit_file(&path, |_| Ok(())).unwrap().signatures;
        let turns = |from: Suite, to: Suite| plan.windows(2).filter(|pair| **pair == [from, to]).count();
        let began = turns(E, B) + usize::from(plan[0] == B);
        assert_eq!((seen.ml_dsa_44_began.len(), seen.ml_dsa_44_ended.len()), (began, turns(B, E)), "{plan:?}");
        assert!(seen.uncertified_keys.is_empty());
        assert_eq!(seen.ml_dsa_44_trusted, 0);
        assert_eq!(seen.last_key.map(|key| key.is_of_both()), plan.last().map(|suite| *suite == B));
        let last_of_both = plan.last() == Some(&B);
        assert_eq!(seen.ml_dsa_44_records == seen.signed_records, last_of_both, "{plan:?}");
        // One half is enough to verify, and says nothing of the other.
        assert_eq!(check(&path, half(first)).unwrap().signatures, seen);
        let stands = judged(&path, &[first]).unwrap().signatures.ml_dsa_44_trusted;
        match (plan[0], turns(B, E)) {
            (Suite::Ed25519, _) => assert_eq!(stands, 0),
            (Suite::WithMlDsa44, 0) => assert_eq!(stands, seen.ml_dsa_44_records),
            (Suite::WithMlDsa44, _) => assert!(stands > 0 && stands < seen.ml_dsa_44_ended[0]),
        }
        // With each key with which it began, the whole stands.
        let began: Vec<Pin> = named(&path).iter().map(PublicKey::pin).filter(Pin::is_of_both).collect();
        let all = [&[half(first)], &began[..]].concat();
        assert_eq!(judged(&path, &all).unwrap().signatures.ml_dsa_44_trusted, seen.ml_dsa_44_records, "{plan:?}");
        let strange = PublicKey::new(*named(&path)[0].ed25519(), Some([9; 1312])).pin();
        assert_eq!(judged(&path, &[strange]).unwrap_err().wrong, Wrong::Signature);
        judged(&path, &[half(first), strange]).unwrap_err();
        proofs_and_witnesses(&path, first);
    }
}

fn proofs_and_witnesses(path: &Path, first: Pin) {
    let (signed, by) = newest_checkpoint(path, Trust::default()).unwrap();
    assert_eq!(signed.ml_dsa_44.is_some(), by.ml_dsa_44().is_some());
    let proof = prove(path, 3, trusting(first)).unwrap();
    proof.check(&[by.pin()]).unwrap();
    proof.check(&[half(by.pin())]).unwrap();
    let without = Proof { ml_dsa_44_signature: None, ..proof.clone() };
    assert_eq!(without.check(&[half(by.pin())]).is_ok(), by.ml_dsa_44().is_none());
    let stripped = Proof { ml_dsa_44_key: None, ..without };
    assert_eq!(stripped.check(&[by.pin()]).is_ok(), by.ml_dsa_44().is_none());
    for trusted in [first, half(first)] {
        let all = follow(path, None, &[trusted]);
        let last = all.last().unwrap();
        assert_eq!((last.checkpoint(), last.key()), (&signed.checkpoint, &by.pin()));
        for held in &all {
            assert_eq!(Held::from_text(&held.to_text()).as_ref(), Some(held));
            let rest = follow(path, Some(held.clone()), &[]);
            assert_eq!(rest.last().unwrap_or(held), last);
        }
    }
}

#[test]
fn a_witness_takes_no_step_without_the_second_signature_of_the_key_that_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = written(folder.path(), SMALL, &[B, B]);
    let mut follower = Follower::begin(&path, None).unwrap();
    let mut held: Option<Held> = None;
    while let Some(step) = follower.next_step(u64::MAX).unwrap() {
        let second = step.note.rfind('\u{2014}').unwrap();
        let other = step.ml_dsa_44_key.clone().map(|mut key| {
            key[5] ^= 1;
            key
        });
        let forged = [
            Step { note: step.note[..second].to_owned(), ..step.clone() },
            Step { ml_dsa_44_key: None, ..step.clone() },
            Step { ml_dsa_44_key: other, ..step.clone() },
        ];
        for forged in &forged {
            assert_eq!(judge(held.as_ref(), &[first], forged), Err(Refusal::Signature));
        }
        held = Some(judge(held.as_ref(), &[first], &step).unwrap());
    }
    assert!(held.unwrap().key().is_of_both());
}

#[test]
fn each_file_has_an_ml_dsa_key_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = written(folder.path(), SMALL, &[B, B, B]);
    let all = named(&path);
    assert!(all.len() >= whole(&path).len() && whole(&path).len() > 2, "{} keys", all.len());
    let mut seconds: Vec<_> = all.iter().map(|key| key.ml_dsa_44().unwrap()).collect();
    seconds.sort_unstable();
    seconds.dedup();
    assert_eq!(seconds.len(), all.len());
    let file = std::fs::read_to_string(folder.path().join("audit.jsonl.key")).unwrap();
    let newest = all.last().unwrap().pin().to_string();
    assert!(file.starts_with(&format!("craton-journal-key-2 {newest} ")), "the newest, and no other");
    // Who begins with a later file needs that file's key.
    let (_, oldest) = closed_files(&path).remove(0);
    std::fs::remove_file(oldest).unwrap();
    let later = |keys: Vec<Pin>| visit_trusting(&path, Trust { keys, later_start: true }, |_| Ok(()));
    let first = later(vec![]).unwrap().signatures.first_key.unwrap();
    assert!(first.is_of_both() && first != all[0].pin());
    let summary = later(vec![first]).unwrap();
    assert_eq!(summary.signatures.ml_dsa_44_trusted, summary.signatures.signed_records);
    later(vec![all[0].pin()]).unwrap_err();
}

/// The journal with its last line edited, and the head beside it gone.
fn with_last(path: &Path, edit: impl FnOnce(&mut Record)) {
    let text = std::fs::read_to_string(path).unwrap();
    let (before, last) = text.trim_end().rsplit_once('\n').unwrap();
    let mut record = Record::parse(last.as_bytes()).unwrap();
    edit(&mut record);
    std::fs::write(path, format!("{before}\n{}\n", sealed(&mut record))).unwrap();
    std::fs::remove_file(head_path(path)).ok();
}

fn restored(files: &[(PathBuf, Vec<u8>)]) {
    files.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
}

fn copied(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    whole(path).into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

const SECOND: &str = "ml_dsa_44_signature";

#[test]
fn a_second_signature_that_is_missing_or_another_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = written(folder.path(), SMALL, &[B, B]);
    let good = copied(&path);
    let mut earlier = None;
    visit_file(&path, |line| {
        earlier = line.record.detail.get(SECOND).filter(|_| line.head.seq < 60).cloned().or(earlier.take());
        Ok(())
    })
    .unwrap();
    let earlier = earlier.unwrap();
    let stranger = ml_dsa::PrivateKey::generate(ParameterSet::MlDsa44).unwrap();
    type Edit<'a> = Box<dyn Fn(&mut Record) + 'a>;
    let by_stranger = |record: &mut Record| {
        let signed = SignedCheckpoint::of(record).unwrap().unwrap();
        let message = signed.checkpoint.message(7).unwrap();
        let second = stranger.sign(&message, b"", Hedge::Random).unwrap();
        let second = Timestamped::new(7, &second).unwrap().to_hex();
        record.detail.insert(SECOND.to_owned(), Fact::public(&HEXLOWER.decode(second.as_bytes()).unwrap()));
    };
    let flipped = |at: usize| {
        move |record: &mut Record| {
            let Some(Fact::Text(text)) = record.detail.get_mut(SECOND) else { panic!("a signature") };
            let digit = if &text[at..=at] == "0" { "1" } else { "0" };
            text.to_mut().replace_range(at..=at, digit);
        }
    };
    let rows: Vec<(&str, Edit<'_>, &str)> = vec![
        ("taken away", Box::new(|record| drop(record.detail.remove(SECOND))), "lacks the ML-DSA-44 signature"),
        ("another time", Box::new(flipped(15)), "ML-DSA-44 signature of the checkpoint"),
        ("its first digit", Box::new(flipped(16)), "ML-DSA-44 signature of the checkpoint"),
        ("a digit in the middle", Box::new(flipped(2_000)), "ML-DSA-44 signature of the checkpoint"),
        ("its last digit", Box::new(flipped(4_855)), "ML-DSA-44 signature of the checkpoint"),
        (
            "that of another checkpoint",
            Box::new(|record| drop(record.detail.insert(SECOND.to_owned(), earlier.clone()))),
            "ML-DSA-44 signature of the checkpoint",
        ),
        ("that of another key", Box::new(by_stranger), "ML-DSA-44 signature of the checkpoint"),
        ("cut", Box::new(|record| drop(record.detail.insert(SECOND.to_owned(), Fact::word("00")))), "malformed"),
        ("a number", Box::new(|record| drop(record.detail.insert(SECOND.to_owned(), Fact::number(5)))), "malformed"),
        (
            "the first one's last digit",
            Box::new(|record| {
                let Some(Fact::Text(text)) = record.detail.get_mut("signature") else { panic!("a signature") };
                let digit = if text.ends_with('0') { "1" } else { "0" };
                text.to_mut().replace_range(127..128, digit);
            }),
            "the signature of the checkpoint does not verify",
        ),
    ];
    for (what, edit, says) in &rows {
        with_last(&path, edit);
        for keys in [&[][..], &[first], &[half(first)]] {
            let finding = judged(&path, keys).unwrap_err();
            assert!(finding.wrong == Wrong::Signature && finding.what.contains(says), "{what}: {finding}");
        }
        if let Some((status, said)) = independent(&path, Site::Packages, &[first]) {
            // 3 where the packages are not there, which is no good word either.
            assert!(matches!(status, Some(1 | 3)), "{what}: {said:.300}");
        }
        restored(&good);
        check(&path, first).unwrap();
    }
    with_last(&path, |_| ());
    check(&path, first).unwrap();
}

/// What somebody does with a checkpoint of a journal that he rewrites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forgery {
    /// Leaves the second signature as it was.
    Kept,
    /// Takes it away.
    Dropped,
    /// Takes it away with the key that it is by.
    DroppedWithKey,
    /// Makes it with a key of his own, which he puts in the place of the true one.
    Replaced,
}

/// The journal rewritten and signed by somebody who has its Ed25519 key.
fn forged(path: &Path, forgery: Forgery, stolen: &eddsa::PrivateKey) {
    let own = ml_dsa::PrivateKey::generate(ParameterSet::MlDsa44).unwrap();
    let own_public = own.public().unwrap().to_bytes().unwrap();
    let key = "ml_dsa_44_key".to_owned();
    rewritten_with(path, 3, |_, _| ());
    rewritten_with(path, 1, |record, tree| {
        if record.op == "sign" {
            record.session = Some(77);
        }
        if record.op == JOURNAL_KEY {
            match forgery {
                Forgery::DroppedWithKey => drop(record.detail.remove(&key)),
                Forgery::Replaced => drop(record.detail.insert(key.clone(), Fact::public(&own_public))),
                Forgery::Kept | Forgery::Dropped => {}
            }
        }
        if record.op != CHECKPOINT {
            return;
        }
        record.detail.insert("root".to_owned(), Fact::digest(&tree.root()));
        let checkpoint = SignedCheckpoint::of(record).unwrap().unwrap().checkpoint;
        assert_eq!(checkpoint.size, tree.size());
        let signature = stolen.sign(checkpoint.text().as_bytes()).unwrap();
        record.detail.insert("signature".to_owned(), Fact::public(&signature));
        match forgery {
            Forgery::Kept => {}
            Forgery::Dropped | Forgery::DroppedWithKey => drop(record.detail.remove(SECOND)),
            Forgery::Replaced => {
                let second = own.sign(&checkpoint.message(9).unwrap(), b"", Hedge::Random).unwrap();
                let bytes = [&9_u64.to_be_bytes()[..], &second].concat();
                record.detail.insert(SECOND.to_owned(), Fact::public(&bytes));
            }
        }
    });
}

#[test]
fn who_has_the_ed25519_key_alone_rewrites_nothing_that_ml_dsa_44_is_under() {
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = written(folder.path(), Files::default(), &[B]);
    let stolen = keys(&path).stolen();
    let good = copied(&path);
    check(&path, first).unwrap();
    // Who looks at the Ed25519 half alone is deceived by the two that hide or replace the key: for that there is the pin of both.
    let rows = [
        (Forgery::Kept, false, "ML-DSA-44 signature of the checkpoint does not verify"),
        (Forgery::Dropped, false, "lacks the ML-DSA-44 signature"),
        (Forgery::DroppedWithKey, true, "only with its ML-DSA-44 half"),
        (Forgery::Replaced, true, "its ML-DSA-44 half is another"),
    ];
    for (forgery, deceives, says) in rows {
        forged(&path, forgery, &stolen);
        for keys in [&[][..], &[half(first)]] {
            assert_eq!(judged(&path, keys).is_ok(), deceives, "{forgery:?}: {:?}", judged(&path, keys).err());
        }
        let finding = judged(&path, &[first]).unwrap_err();
        assert!(finding.what.contains(says), "{forgery:?}: {finding}");
        judged(&path, &[half(first), first]).unwrap_err();
        // The daemon itself knows better than to go on.
        let opened = Journal::open(super::tests::options(&path), super::tests::TestClock::at(5));
        let attached = opened.and_then(|journal| journal.sign_with(keys(&path).of(B)));
        assert_eq!(attached.map_err(|error| error.kind()), Err(Kind::DataInvalid), "{forgery:?}");
        if let Some((status, said)) = independent(&path, Site::Packages, &[first]) {
            assert!(matches!(status, Some(1 | 3)), "{forgery:?}: {said:.300}");
        }
        restored(&good);
    }
}

/// Adds records at the end of a journal of one file, as somebody would who knows the format; then a checkpoint by an Ed25519 key.
fn added(path: &Path, entries: &[Entry], by: &eddsa::PrivateKey) {
    let text = std::fs::read_to_string(path).unwrap();
    let template = Record::parse(text.lines().last().unwrap().as_bytes()).unwrap();
    let mut lines: Vec<String> = Vec::new();
    let mut tree = merkle::Tree::default();
    text.lines().for_each(|line| tree.push(merkle::leaf(line.as_bytes())));
    let signed = |tree: &merkle::Tree| {
        let origin = SignedCheckpoint::of(&template).unwrap().unwrap().checkpoint.origin;
        let (size, root, generation) = (tree.size(), tree.root(), template.generation);
        let checkpoint = Checkpoint { origin, size, root, generation };
        let signature = by.sign(checkpoint.text().as_bytes()).unwrap().try_into().unwrap();
        SignedCheckpoint { checkpoint, signature, ml_dsa_44: None }.entry()
    };
    let mut last = text.lines().last().unwrap().to_owned();
    let add = |entry: &Entry, last: &mut String, tree: &mut merkle::Tree, lines: &mut Vec<String>| {
        let mut record = Record::parse(&super::tests::line_of(entry)).unwrap();
        (record.seq, record.time, record.generation) = (tree.size() + 1, template.time, template.generation);
        let before = Record::parse(last.as_bytes()).unwrap();
        record.prev = HEXLOWER.encode(&before.hash(last.as_bytes()));
        *last = sealed(&mut record);
        tree.push(merkle::leaf(last.as_bytes()));
        lines.push(last.clone());
    };
    for entry in entries {
        add(entry, &mut last, &mut tree, &mut lines);
    }
    let checkpoint = signed(&tree);
    add(&checkpoint, &mut last, &mut tree, &mut lines);
    std::fs::write(path, format!("{text}{}\n", lines.join("\n"))).unwrap();
    std::fs::remove_file(head_path(path)).ok();
}

#[test]
fn the_second_signature_ends_by_both_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = written(folder.path(), Files::default(), &[B]);
    let good = copied(&path);
    let stolen = keys(&path).stolen();
    let own = eddsa::PrivateKey::generate().unwrap();
    let public = |key: &eddsa::PrivateKey| PublicKey::new(key.public().unwrap().as_bytes().try_into().unwrap(), None);
    let mut second = [0; 1312];
    rng::fill(&mut second).unwrap();
    let with = PublicKey::new(*public(&own).ed25519(), Some(second));
    let end = key_entry(&public(&own));
    let known = half(first);
    // What he announces, with what he signs, whom the verifier trusts besides.
    let rows = [
        ("the end, under the stolen key", &end, &stolen, public(&own).pin(), "lacks the ML-DSA-44 signature"),
        ("the end, under the new key", &end, &own, public(&own).pin(), "has no ML-DSA-44 half"),
        ("the stolen key again", &key_entry(&public(&stolen)), &stolen, known, "has no ML-DSA-44 half"),
        ("a key of two halves", &key_entry(&with), &own, public(&own).pin(), "does not verify"),
    ];
    for (what, announcement, by, besides, says) in rows {
        added(&path, core::slice::from_ref(announcement), by);
        for keys in [&[][..], &[first, besides], &[known, besides]] {
            let finding = judged(&path, keys).unwrap_err();
            assert!(finding.what.contains(says), "{what}: {finding}");
        }
        restored(&good);
        check(&path, first).unwrap();
    }
}

#[test]
fn a_lost_key_of_both_halves_is_followed_only_by_one_that_is_trusted_with_both() {
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = written(folder.path(), Files::default(), &[B]);
    std::fs::remove_file(folder.path().join("audit.jsonl.key")).unwrap();
    // Even if the next run wants Ed25519 alone, that is a second step.
    drop(open_with(&path, Files::default(), E));
    let seen = visit_file(&path, |_| Ok(())).unwrap().signatures;
    assert_eq!((seen.uncertified_keys.len(), seen.ml_dsa_44_ended.len()), (1, 1));
    let next = named(&path)[1].pin();
    assert!(next.is_of_both());
    check(&path, first).unwrap_err();
    judged(&path, &[first, half(next)]).unwrap_err();
    judged(&path, &[first, next]).unwrap();
    judged(&path, &[half(first), half(next)]).unwrap();
}

#[test]
fn a_run_that_ends_between_announcing_a_key_and_certifying_it_goes_on() {
    for (before, announced_suite, after) in [(E, E, E), (E, B, E), (E, B, B), (B, B, B), (B, E, E), (B, E, B)] {
        let folder = tempfile::tempdir().unwrap();
        let (path, first) = written(folder.path(), Files::default(), &[before]);
        let elsewhere = tempfile::tempdir().unwrap();
        let (_, stranger) = written(elsewhere.path(), Files::default(), &[announced_suite]);
        let lost = named(&elsewhere.path().join("audit.jsonl")).remove(0);
        assert_eq!(lost.pin(), stranger);
        // The announcement is the last line that was written; its checkpoint and the key that it names are gone.
        added(&path, &[key_entry(&lost)], &eddsa::PrivateKey::generate().unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        let (kept, _) = text.trim_end().rsplit_once('\n').unwrap();
        std::fs::write(&path, format!("{kept}\n")).unwrap();
        for _ in 0..2 {
            let journal = open_with(&path, Files::default(), after);
            journal.append(entry(1), 9, Durability::Written).map(drop).unwrap();
            drop(journal);
        }
        let seen = check(&path, first).unwrap().signatures;
        assert!(seen.uncertified_keys.is_empty(), "{before:?} {announced_suite:?} {after:?}");
        assert_eq!(seen.last_key.map(|key| key.is_of_both()), Some(after == B));
        assert_ne!(seen.last_key, Some(stranger));
    }
}

#[test]
fn a_generation_that_the_second_signature_is_not_over_is_that_of_the_records() {
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = written(folder.path(), Files::default(), &[B]);
    let stolen = keys(&path).stolen();
    with_last(&path, |record| {
        record.generation += 1;
        let checkpoint = SignedCheckpoint::of(record).unwrap().unwrap().checkpoint;
        let signature = stolen.sign(checkpoint.text().as_bytes()).unwrap();
        record.detail.insert("signature".to_owned(), Fact::public(&signature));
    });
    let finding = check(&path, first).unwrap_err();
    assert!(finding.what.contains("generation"), "{finding}");
}

#[test]
fn the_independent_verifier_agrees_on_both_signatures() {
    let test = "the_independent_verifier_agrees_on_both_signatures";
    for plan in [&[B, B][..], &[E, B, E], &[B, E, B]] {
        let folder = tempfile::tempdir().unwrap();
        let (path, first) = written(folder.path(), SMALL, plan);
        let began: Vec<Pin> = named(&path).iter().map(PublicKey::pin).filter(Pin::is_of_both).collect();
        let all = [&[first], &began[..]].concat();
        // Without the package it says that it did not look, and that does not read like a verified journal.
        let Some((status, said)) = independent(&path, Site::Bare, &all) else {
            eprintln!("SKIPPED {test}: python3 not found");
            return;
        };
        assert!(status == Some(3) && said.contains("NOT CHECKED") && said.contains("cryptography"), "{said}");
        let (status, said) = independent(&path, Site::Packages, &all).unwrap();
        if status == Some(3) {
            eprintln!("SKIPPED {test}: cryptography 48 for python not found");
            return;
        }
        let signatures = judged(&path, &all).unwrap().signatures;
        let both = format!("with ML-DSA-44 too up to record {}", signatures.ml_dsa_44_records);
        let standing = format!("from a trusted key up to record {}", signatures.ml_dsa_44_trusted);
        assert!(status == Some(0) && said.contains(&both) && said.contains(&standing), "{said}");
        let strange = PublicKey::new(*named(&path)[0].ed25519(), Some([9; 1312])).pin();
        assert_eq!(independent(&path, Site::Packages, &[half(first)]).unwrap().0, Some(0));
        assert_eq!(independent(&path, Site::Packages, &[half(first), strange]).unwrap().0, Some(1));
    }
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = written(folder.path(), Files::default(), &[B]);
    if independent(&path, Site::Packages, &[first]).unwrap().0 != Some(0) {
        return;
    }
    let stolen = keys(&path).stolen();
    let good = copied(&path);
    for (forgery, of_half) in [
        (Forgery::Kept, Some(1)),
        (Forgery::Dropped, Some(1)),
        (Forgery::DroppedWithKey, Some(0)),
        (Forgery::Replaced, Some(0)),
    ] {
        forged(&path, forgery, &stolen);
        assert_eq!(independent(&path, Site::Packages, &[half(first)]).unwrap().0, of_half, "{forgery:?}");
        assert_eq!(independent(&path, Site::Packages, &[first]).unwrap().0, Some(1), "{forgery:?}");
        restored(&good);
    }
}

/// `cargo test --release -p hsm-core --lib -- --ignored signature_cost --nocapture`
#[test]
#[ignore = "a measurement"]
fn signature_cost() {
    let tree = merkle::Tree::default();
    for suite in [E, B] {
        let folder = tempfile::tempdir().unwrap();
        let (signer, _) = super::signer::Signer::attach(keys(&folder.path().join("j")).of(suite), None).unwrap();
        let sign = || signer.sign(&tree, 1, 0, 5).unwrap();
        let count = 2_000;
        let start = std::time::Instant::now();
        (0..count).for_each(|_| drop(std::hint::black_box(sign())));
        let signing = start.elapsed() / count;
        let signed = sign();
        let start = std::time::Instant::now();
        (0..count).for_each(|_| assert!(signed.is_by(signer.public())));
        eprintln!("{suite:?}: {signing:?} to sign, {:?} to verify", start.elapsed() / count);
    }
}
