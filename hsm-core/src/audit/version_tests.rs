//! Records of version 1, as programs before this one wrote them: they verify, this program goes on after them, and no line passes for one of
//! the other version. `testdata/journal_version_1` is such a journal.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::chain::verify;
use super::draft::{Change, Draft, Stamp};
use super::signed_tests::{SMALL, check, open, open_with, sealed};
use super::tests::{entry, records};
use super::*;

/// How many records the golden journal has, and the key that it names first.
const RECORDS: usize = 97;
const KEY: &str = "ef17815bd072fb979ec2370ed2de6449aa727a722ed877427d36c767ef0bbbb9";

fn key() -> Pin {
    KEY.parse().unwrap()
}

/// A copy of the golden journal.
fn golden(folder: &Path) -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/journal_version_1");
    for file in std::fs::read_dir(golden).unwrap() {
        let file = file.unwrap();
        let copy = folder.join(file.file_name());
        std::fs::copy(file.path(), &copy).unwrap();
        std::fs::set_permissions(copy, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    folder.join("audit.jsonl")
}

/// All lines of a journal, each with its line feed.
fn lines(path: &Path) -> Vec<Vec<u8>> {
    let files = closed_files(path).into_iter().map(|(_, file)| file).chain([path.to_owned()]);
    let text = files.map(|file| std::fs::read(file).unwrap()).collect::<Vec<_>>().concat();
    text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

#[test]
fn a_journal_of_version_1_verifies_and_goes_on_in_version_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = golden(folder.path());
    assert_eq!(check(&path, key()).unwrap().records, RECORDS as u64);
    let early = remembered_head(&path).unwrap();
    let journal = open(&path, SMALL);
    assert!(journal.contains_head(&early).unwrap() && journal.contains_generation(2));
    for number in 0..60 {
        journal.append(entry(number), 3, Durability::Written).map(drop).unwrap();
    }
    drop(journal);
    let summary = check(&path, key()).unwrap();
    assert!(summary.signatures.uncertified_keys.is_empty());
    let versions: Vec<u64> = records(&path).iter().map(|record| record.v).collect();
    assert!(versions.len() > RECORDS + 60 && versions[..RECORDS].iter().all(|v| *v == 1), "{versions:?}");
    assert!(versions[RECORDS..].iter().all(|v| *v == 2), "{versions:?}");
    assert!(open(&path, SMALL).contains_head(&early).unwrap());
    prove(&path, 20, Trust { keys: vec![key()], later_start: false }).unwrap();
}

#[test]
fn a_journal_of_version_1_goes_on_with_both_signatures() {
    let folder = tempfile::tempdir().unwrap();
    let path = golden(folder.path());
    drop(open_with(&path, SMALL, Suite::WithMlDsa44));
    let signatures = check(&path, key()).unwrap().signatures;
    assert!(signatures.uncertified_keys.is_empty() && signatures.ml_dsa_44_began[0] > RECORDS as u64);
    assert!(signatures.ml_dsa_44_records > 0 && signatures.ml_dsa_44_trusted == 0);
    let both = Trust { keys: vec![key(), signatures.last_key.unwrap()], later_start: false };
    let signatures = visit_trusting(&path, both, |_| Ok(())).unwrap().signatures;
    assert_eq!(signatures.ml_dsa_44_trusted, signatures.signed_records);
}

#[test]
fn the_independent_verifier_agrees_on_both_versions() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/verify_journal.py");
    let python = |journal: &Path| std::process::Command::new("python3").arg(&script).arg(journal).arg(KEY).output();
    let folder = tempfile::tempdir().unwrap();
    let path = golden(folder.path());
    let Ok(output) = python(&path) else {
        eprintln!("SKIPPED the_independent_verifier_agrees_on_both_versions: python3 not found");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    drop(open(&path, SMALL));
    let output = python(&path).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let good = lines(&path);
    // The head file and the closed files are of the journal that was.
    let alone = tempfile::tempdir().unwrap();
    let path = alone.path().join("audit.jsonl");
    std::fs::write(&path, good.concat()).unwrap();
    assert!(python(&path).unwrap().status.success());
    for (at, from, to) in [(RECORDS - 1, "\"v\":1", "\"v\":2"), (RECORDS, "\"v\":2", "\"v\":1")] {
        let mut edited = good.clone();
        edited[at] = String::from_utf8(good[at].clone()).unwrap().replace(from, to).into_bytes();
        std::fs::write(&path, edited.concat()).unwrap();
        assert_eq!(python(&path).unwrap().status.code(), Some(1), "{from} in line {at}");
    }
}

/// Somebody who knows the format changes the version of a line and makes its sum anew.
#[test]
fn a_line_whose_version_was_changed_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = golden(folder.path());
    drop(open(&path, SMALL));
    let good = lines(&path);
    verify(good.concat().as_slice(), &[]).unwrap();
    for at in 0..good.len() {
        let mut record = Record::parse(&good[at][..good[at].len() - 1]).unwrap();
        record.v = 3 - record.v;
        let mut edited = good.clone();
        edited[at] = [sealed(&mut record).as_bytes(), b"\n"].concat();
        assert!(verify(edited.concat().as_slice(), &[]).is_err(), "line {at}");
    }
}

#[test]
fn no_record_follows_one_of_a_later_version() {
    let mut text = Vec::new();
    let stamp = Stamp { seq: 1, time: 0, boot: "00", generation: 0, change: Change::Nothing, prev: &[0; 32] };
    let hash = Draft::new(&entry(1)).stamp(&stamp, &mut text);
    let mut record = Record::parse(&text).unwrap();
    (record.seq, record.v, record.prev) = (2, 1, data_encoding::HEXLOWER.encode(&hash));
    let text = [&text, b"\n".as_slice(), sealed(&mut record).as_bytes(), b"\n"].concat();
    let finding = verify(text.as_slice(), &[]).unwrap_err();
    assert_eq!((finding.line, finding.wrong), (2, Wrong::Chain));
}

#[test]
fn a_record_has_the_sum_of_its_version_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = golden(folder.path());
    drop(open(&path, SMALL));
    let all = lines(&path);
    for line in [&all[0], &all[RECORDS]] {
        let record = Record::parse(&line[..line.len() - 1]).unwrap();
        let said = record.crc.clone().or(record.sum.clone());
        for (crc, sum) in [(None, None), (said.clone(), said.clone()), (record.sum.clone(), record.crc.clone())] {
            let edited = Record { crc, sum, ..record.clone() };
            Record::parse(&serde_json::to_vec(&edited).unwrap()).unwrap_err();
        }
    }
}

/// A store that a program of version 1 left with a record which the journal did not have yet.
#[test]
fn an_outbox_body_of_the_format_before_becomes_a_line_of_version_2() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(&folder.path().join("audit.jsonl"), SMALL);
    // After `client`, `client`, `detail`, `op`, `rv` and `session`.
    let text = concat!(
        r#"{"client":{"kind":"daemon"},"detail":{"label":"\"v\":1"},"op":"generate_key","rv":"CKR_OK","session":5,"#,
        r#""token":"03030303030303030303030303030303","v":1,"with":{"class":"CKO_DATA","id":"06060606060606060606060606060606"}}"#
    );
    let positions: [u32; 6] = [1, 28, 57, 77, 91, 103];
    let mut body = vec![1];
    body.extend(positions.iter().flat_map(|position| position.to_le_bytes()));
    body.extend_from_slice(text.as_bytes());
    for cut in [1, 8, 24, 40] {
        journal.append_change(1, &body[..cut]).unwrap_err();
    }
    let seq = journal.append_change(1, &body).unwrap().seq().unwrap();
    journal.sync().unwrap();
    drop(journal);
    let record = records(&folder.path().join("audit.jsonl")).swap_remove(seq as usize - 1);
    assert_eq!((record.v, record.op.as_str(), record.session), (2, "generate_key", Some(5)));
    assert_eq!(record.detail["label"], Fact::name("\"v\":1"));
    assert_eq!(record.with.unwrap().class, "CKO_DATA");
}

#[test]
fn a_line_that_is_no_record_is_told_by_what_is_wrong_with_it_alone() {
    let rows =
        [(&br#"{"v":2,"sEq":1}"#[..], "not a version 2 record (unknown field `sEq`)"), (&b"{}"[..], "missing field")];
    for (line, due) in rows {
        let said = Record::parse(line).map(|_| ()).unwrap_err();
        assert!(said.contains(due) && !said.contains("expected one of"), "{said}");
    }
}
