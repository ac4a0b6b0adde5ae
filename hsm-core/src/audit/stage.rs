//! Records on their way to the journal (`format.md`, "The staging file"): an operation's answer waits until its record is here, which
//! costs no system call; the flusher writes them to the journal some milliseconds later, many at once. When the process is killed
//! between, the next start finds them here.

use std::path::{Path, PathBuf};

use super::record::Draft;
use super::signer::beside;
use crate::Result;
use crate::sys::SharedFile;

/// One half takes records while those of the other are being written.
const HALF: usize = 512 << 10;
const MAGIC: u32 = 0x3147_5453; // "STG1"
/// Magic, length of the body, sum, boot, sequence, time, generation.
const HEADER: usize = 4 + 4 + 8 + 8 + 8 + 8 + 8;

/// What stands before a record's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Staged {
    pub(super) seq: u64,
    pub(super) time: u64,
    pub(super) generation: u64,
}

/// The staging file of an open journal.
pub(super) struct Stage {
    file: SharedFile,
    boot: [u8; 8],
    /// Which half takes records, and where in it.
    half: usize,
    at: usize,
    scratch: Vec<u8>,
}

/// The staging file beside a journal.
pub(super) fn stage_path(journal: &Path) -> PathBuf {
    beside(journal, ".staged")
}

impl Stage {
    /// Opens the staging file; the records that an earlier run left are read first, by [`leftover`].
    pub(super) fn open(journal: &Path, boot: [u8; 8]) -> std::io::Result<Self> {
        let file = SharedFile::open(&stage_path(journal), 2 * HALF)?;
        Ok(Stage { file, boot, half: 0, at: 0, scratch: Vec::with_capacity(2048) })
    }

    /// Puts a record; `false` when the half is full.
    pub(super) fn put(&mut self, staged: Staged, draft: &Draft) -> bool {
        let entry = &mut self.scratch;
        entry.clear();
        entry.resize(HEADER, 0);
        entry.extend_from_slice(draft.as_bytes());
        let body = entry.len() - HEADER;
        let end = self.at + entry.len();
        if end + 4 > HALF {
            return false;
        }
        entry[4..8].copy_from_slice(&u32::try_from(body).unwrap_or(u32::MAX).to_le_bytes());
        entry[16..24].copy_from_slice(&self.boot);
        entry[24..32].copy_from_slice(&staged.seq.to_le_bytes());
        entry[32..40].copy_from_slice(&staged.time.to_le_bytes());
        entry[40..48].copy_from_slice(&staged.generation.to_le_bytes());
        let sum = sum(&entry[16..]);
        entry[8..16].copy_from_slice(&sum.to_le_bytes());
        // What follows is no record; the magic comes last, so that a record that is not whole is none.
        entry.extend_from_slice(&[0; 4]);
        let base = self.half * HALF + self.at;
        let put = self.file.put(base + 4, &self.scratch[4..]) && self.file.put(base, &MAGIC.to_le_bytes());
        if put {
            self.at = end;
        }
        put
    }

    /// The records of the half so far are about to be written, and those of the other have been.
    pub(super) fn turn(&mut self) {
        self.half = 1 - self.half;
        self.begin();
    }

    /// All records have been written.
    pub(super) fn begin(&mut self) {
        self.at = 0;
        self.file.put(self.half * HALF, &[0; 4]);
    }
}

/// The records that an earlier run did not write: those of the boot that wrote the journal's last line, from the number after it on
/// without a gap.
pub(super) fn leftover(journal: &Path, last_boot: &str, last: u64) -> Result<Vec<(Staged, Draft)>> {
    let Ok(content) = std::fs::read(stage_path(journal)) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for half in content.chunks_exact(HALF) {
        let mut rest = half;
        while let Some((entry, later)) = split(rest) {
            rest = later;
            let staged = Staged { seq: number(entry, 24), time: number(entry, 32), generation: number(entry, 40) };
            if data_encoding::HEXLOWER.encode(&entry[16..24]) == last_boot && staged.seq > last {
                found.push((staged, Draft::from_bytes(&entry[HEADER..])?));
            }
        }
    }
    found.sort_by_key(|(staged, _)| staged.seq);
    let numbers = last + 1..;
    Ok(found
        .into_iter()
        .zip(numbers)
        .take_while(|((staged, _), seq)| staged.seq == *seq)
        .map(|(found, _)| found)
        .collect())
}

/// The whole record at the beginning, and what follows it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let head = bytes.get(..HEADER)?;
    let word = |at: usize| head.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let len = HEADER.checked_add(usize::try_from(word(4)?).ok()?)?;
    let entry = bytes.get(..len).filter(|_| word(0) == Some(MAGIC))?;
    (sum(&entry[16..]) == number(entry, 8)).then(|| bytes.split_at(len))
}

/// Eight bytes of an entry that is long enough.
fn number(entry: &[u8], at: usize) -> u64 {
    entry.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// A sum that tells a record from one that was put over it in part; eight bytes a step, because every operation waits for it. It
/// protects against nobody.
fn sum(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut words = bytes.chunks_exact(8);
    let mut sum = bytes.len() as u64;
    for word in &mut words {
        sum = (sum.rotate_left(23) ^ number(word, 0)).wrapping_mul(FACTOR);
    }
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    (sum.rotate_left(23) ^ u64::from_le_bytes(last)).wrapping_mul(FACTOR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tests::entry;

    const BOOT: [u8; 8] = [7; 8];
    const BOOT_TEXT: &str = "0707070707070707";

    fn put(stage: &mut Stage, seq: u64) -> bool {
        stage.put(Staged { seq, time: seq * 10, generation: 3 }, &Draft::new(&entry(seq)))
    }

    fn numbers(journal: &Path, last: u64) -> Vec<u64> {
        leftover(journal, BOOT_TEXT, last).unwrap().iter().map(|(staged, _)| staged.seq).collect()
    }

    #[test]
    fn what_was_not_written_is_found_without_a_gap() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("audit.jsonl");
        assert_eq!(numbers(&journal, 0), [0; 0]);
        let mut stage = Stage::open(&journal, BOOT).unwrap();
        assert!((5..8).all(|seq| put(&mut stage, seq)));
        stage.turn();
        assert!((8..11).all(|seq| put(&mut stage, seq)));
        assert_eq!(numbers(&journal, 4), [5, 6, 7, 8, 9, 10]);
        assert_eq!(numbers(&journal, 8), [9, 10]);
        assert_eq!(numbers(&journal, 10), [0; 0]);
        assert_eq!(numbers(&journal, 3), [0; 0], "record 4 is missing");
        assert!(leftover(&journal, "0808080808080808", 4).unwrap().is_empty(), "of another run");
        // The first half again: its older records are gone although their bytes are there.
        stage.turn();
        assert!(put(&mut stage, 11));
        assert_eq!(numbers(&journal, 7), [8, 9, 10, 11]);
        assert_eq!(leftover(&journal, BOOT_TEXT, 10).unwrap()[0].0, Staged { seq: 11, time: 110, generation: 3 });
    }

    #[test]
    fn a_damaged_record_and_those_after_it_are_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("audit.jsonl");
        let mut stage = Stage::open(&journal, BOOT).unwrap();
        assert!((1..4).all(|seq| put(&mut stage, seq)));
        let path = stage_path(&journal);
        let whole = std::fs::read(&path).unwrap();
        for at in (0..stage.at).step_by(7) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            let found = numbers(&journal, 0);
            assert!(found.len() < 3 && found == (1..=found.len() as u64).collect::<Vec<_>>(), "byte {at}: {found:?}");
        }
    }

    #[test]
    fn a_full_half_takes_no_more_until_its_records_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut stage = Stage::open(&folder.path().join("audit.jsonl"), BOOT).unwrap();
        let fitting = (1..).take_while(|seq| put(&mut stage, *seq)).count();
        assert!(fitting > 500, "{fitting}");
        stage.begin();
        assert!(put(&mut stage, 1));
    }
}
