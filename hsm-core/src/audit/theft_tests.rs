//! A thief has the newest signing key and may write whatever he likes: he cannot rewrite what earlier keys signed.

use std::path::Path;

use super::checkpoint::{CHECKPOINT, SEGMENT_OPEN};
use super::merkle::{Tree, leaf};
use super::signed_tests::{SMALL, keys, many_files, open, sealed, trusting, whole};
use super::signer::Signer;
use super::tests::entry;
use super::*;

/// Writes the journal anew from a record on, with that record changed: chain, tree and checkpoints are right again, signed by the key
/// that lies beside the journal.
fn forge(path: &Path, from: u64) {
    let (signer, _) = Signer::attach(keys(path), None).unwrap();
    let (mut prev, mut tree) = (None, Tree::default());
    for file in whole(path) {
        let mut out = String::new();
        for line in std::fs::read_to_string(&file).unwrap().lines() {
            let mut record = Record::parse(line.as_bytes()).unwrap();
            let mut line = line.to_owned();
            if record.seq >= from {
                if record.seq == from {
                    record.session = Some(77);
                }
                if record.op == CHECKPOINT {
                    let signed = signer.sign(&tree, record.generation, record.seq - 1, record.time).unwrap();
                    record.detail = signed.entry().detail.into_iter().map(|(name, fact)| (name.into(), fact)).collect();
                }
                if record.op == SEGMENT_OPEN {
                    record.detail.insert("peaks".into(), Fact::public(&tree.peaks().concat()));
                }
                if let Some(prev) = &prev {
                    record.prev.clone_from(prev);
                }
                line = sealed(&mut record);
            }
            prev = Some(data_encoding::HEXLOWER.encode(&record.hash(line.as_bytes())));
            tree.push(leaf(line.as_bytes()));
            out.push_str(&line);
            out.push('\n');
        }
        std::fs::write(&file, out).unwrap();
    }
    std::fs::remove_file(head_path(path)).unwrap();
}

/// The number of the first signature that is recorded in a file.
fn first_signature(file: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(file).unwrap();
    let records = text.lines().map(|line| Record::parse(line.as_bytes()).unwrap());
    records.filter(|record| record.op == "sign").map(|record| record.seq).next()
}

#[test]
fn a_stolen_key_rewrites_its_own_file_and_none_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let (path, key) = many_files(folder.path(), 6);
    let journal = open(&path, SMALL);
    for number in 0..3 {
        journal.append(entry(number), 7, Durability::Durable).map(drop).unwrap();
    }
    drop(journal);
    let check = || visit_trusting(&path, trusting(key), |_| Ok(()));
    check().unwrap();
    let files = whole(&path);
    let pristine: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    let head = std::fs::read(head_path(&path)).unwrap();
    let mut tried = 0;
    for (index, file) in files.iter().enumerate() {
        let Some(from) = first_signature(file) else { continue };
        forge(&path, from);
        let outcome = check();
        // What the thief's own key signed he can sign again: that is what witnesses are for.
        assert_eq!(outcome.is_ok(), index + 1 == files.len(), "file {index} of {}", files.len());
        tried += 1;
        for (file, bytes) in files.iter().zip(&pristine) {
            std::fs::write(file, bytes).unwrap();
        }
        std::fs::write(head_path(&path), &head).unwrap();
        check().unwrap();
    }
    assert!(tried > 4, "{tried} files hold signatures");
}
