//! Records on their way to the journal (`format.md`, "The staging file"): an operation's answer waits until its record is here, which
//! costs no system call; the flusher writes them to the journal some milliseconds later, many at once. When the process is killed
//! between, the next start finds them here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

use super::draft::Draft;
use super::signer::beside;
use crate::Result;
use crate::sys::SharedFile;

/// One half takes records while those of the other are being written: ten thousand that differ, or seventy thousand that do not, for a disk
/// that keeps an fsync waiting for a tenth of a second.
const HALF: usize = 4 << 20;
/// Before a record; before one with the same body as an earlier record of the half, whose place stands for the body.
const MAGIC: [u8; 4] = *b"STG1";
const MAGIC_AGAIN: [u8; 4] = *b"STG2";
/// Magic, length of the body, sum, boot, sequence, time, generation.
const HEADER: usize = 4 + 4 + 8 + 8 + 8 + 8 + 8;
/// What is no magic, and ends a half.
const END: [u8; 4] = [0; 4];

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
}

/// The staging file beside a journal.
pub(super) fn stage_path(journal: &Path) -> PathBuf {
    beside(journal, ".staged")
}

impl Stage {
    /// Opens the staging file; the records that an earlier run left are read first, by [`leftover`].
    pub(super) fn open(journal: &Path, boot: [u8; 8]) -> std::io::Result<Self> {
        let file = SharedFile::open(&stage_path(journal), 2 * HALF)?;
        Ok(Stage { file, boot, half: 0, at: 0 })
    }

    /// Puts a record, and says where in the half it is; none when the half is full.
    pub(super) fn put(&mut self, staged: Staged, draft: &Draft) -> Option<u32> {
        self.put_body(MAGIC, staged, draft.as_bytes())
    }

    /// Puts a record with the draft of the one that is there in the half; `false` when the half is full. Most records are of this kind: their
    /// operations wait for a few bytes instead of a whole body and its sum.
    pub(super) fn put_again(&mut self, staged: Staged, there: u32) -> bool {
        self.put_body(MAGIC_AGAIN, staged, &there.to_le_bytes()).is_some()
    }

    fn put_body(&mut self, magic: [u8; 4], staged: Staged, body: &[u8]) -> Option<u32> {
        let (at, end) = (self.at, self.at + HEADER + body.len());
        if end + END.len() > HALF {
            return None;
        }
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&magic);
        header[4..8].copy_from_slice(&u32::try_from(body.len()).ok()?.to_le_bytes());
        header[16..24].copy_from_slice(&self.boot);
        header[24..32].copy_from_slice(&staged.seq.to_le_bytes());
        header[32..40].copy_from_slice(&staged.time.to_le_bytes());
        header[40..48].copy_from_slice(&staged.generation.to_le_bytes());
        let sum = sum(&header[16..], body);
        header[8..16].copy_from_slice(&sum.to_le_bytes());
        let base = self.half * HALF;
        // The magic comes last, so that a record that is not whole is none.
        let put = self.file.put(base + end, &END)
            && self.file.put(base + at + HEADER, body)
            && self.file.put(base + at + 4, &header[4..])
            && self.file.put(base + at, &header[..4]);
        self.at = if put { end } else { at };
        u32::try_from(at).ok().filter(|_| put)
    }

    /// The records of the half so far are about to be written, and those of the other have been.
    pub(super) fn turn(&mut self) {
        self.half = 1 - self.half;
        self.begin();
    }

    /// All records have been written.
    pub(super) fn begin(&mut self) {
        self.at = 0;
        self.file.put(self.half * HALF, &END);
    }
}

/// The records that an earlier run did not write: those of the boot that wrote the journal's last line, from the number after it on
/// without a gap.
pub(super) fn leftover(journal: &Path, last_boot: &str, last: u64) -> Result<Vec<(Staged, Draft)>> {
    let Ok(content) = std::fs::read(stage_path(journal)) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    // Halves were smaller once.
    for half in content.chunks_exact((content.len() / 2).max(1)) {
        let mut bodies = HashMap::new();
        let mut at = 0;
        while let Some(entry) = entry_at(half, at) {
            let own = &entry[HEADER..];
            let body = match entry.first_chunk() {
                Some(&MAGIC) => *bodies.entry(at).or_insert(own),
                _ => match bodies.get(&word(own, 0)) {
                    Some(body) => *body,
                    None => break,
                },
            };
            at += entry.len();
            let staged = Staged { seq: number(entry, 24), time: number(entry, 32), generation: number(entry, 40) };
            if data_encoding::HEXLOWER.encode(&entry[16..24]) == last_boot && staged.seq > last {
                found.push((staged, body));
            }
        }
    }
    found.sort_by_key(|(staged, _)| staged.seq);
    let mut drafts = HashMap::new();
    let mut leftover = Vec::new();
    for ((staged, body), seq) in found.into_iter().zip(last + 1..) {
        if staged.seq != seq {
            break;
        }
        let draft = match drafts.entry(body) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(first) => first.insert(Draft::from_bytes(body)?),
        };
        leftover.push((staged, draft.clone()));
    }
    Ok(leftover)
}

/// The whole record that begins there.
fn entry_at(half: &[u8], at: usize) -> Option<&[u8]> {
    let rest = half.get(at..)?;
    let magic = rest.first_chunk()?;
    let len = HEADER.checked_add(word(rest.get(..HEADER)?, 4))?;
    let entry = rest.get(..len).filter(|_| matches!(magic, &MAGIC | &MAGIC_AGAIN))?;
    (sum(&entry[16..HEADER], &entry[HEADER..]) == number(entry, 8)).then_some(entry)
}

/// Four bytes of an entry as a length or a place; none such where they are missing.
fn word(bytes: &[u8], at: usize) -> usize {
    let word = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    word.and_then(|word| usize::try_from(word).ok()).unwrap_or(usize::MAX)
}

/// Eight bytes of an entry that is long enough.
fn number(entry: &[u8], at: usize) -> u64 {
    entry.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// A sum, of the rest of a header and the body as one, that tells a record from one that was put over it in part; eight bytes a step,
/// because every operation waits for it. It protects against nobody.
fn sum(header: &[u8], body: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let step = |sum: u64, word: [u8; 8]| (sum.rotate_left(23) ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR);
    let (whole, none) = header.as_chunks();
    debug_assert!(none.is_empty(), "a header has whole words");
    let (words, rest) = body.as_chunks();
    let begun = (header.len() + body.len()) as u64;
    let sum = whole.iter().chain(words).fold(begun, |sum, word| step(sum, *word));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    step(sum, last)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::audit::tests::entry;

    const BOOT: [u8; 8] = [7; 8];
    const BOOT_TEXT: &str = "0707070707070707";

    fn put(stage: &mut Stage, seq: u64) -> bool {
        stage.put(staged(seq), &Draft::new(&entry(seq))).is_some()
    }

    fn staged(seq: u64) -> Staged {
        Staged { seq, time: seq * 10, generation: 3 }
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
        assert_eq!(leftover(&journal, BOOT_TEXT, 10).unwrap()[0].0, staged(11));
    }

    #[test]
    fn a_record_staged_again_has_the_body_that_stands_in_its_half() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("audit.jsonl");
        let mut stage = Stage::open(&journal, BOOT).unwrap();
        let draft = |number| Draft::new(&entry(number));
        for half in 0..2 {
            let first = 6 * half;
            let one = stage.put(staged(first + 1), &draft(half + 1)).unwrap();
            assert!(stage.put_again(staged(first + 2), one));
            let other = stage.put(staged(first + 3), &draft(half + 10)).unwrap();
            assert!(stage.put_again(staged(first + 4), one) && stage.put_again(staged(first + 5), other));
            assert!(stage.put_again(staged(first + 6), other));
            if half == 0 {
                stage.turn();
            }
        }
        let found = leftover(&journal, BOOT_TEXT, 0).unwrap();
        let bodies: Vec<u64> = [1, 1, 10, 1, 10, 10].into_iter().flat_map(|number| [number, number + 1]).collect();
        assert_eq!(found.len(), bodies.len());
        for (index, (record, read)) in found.iter().enumerate() {
            let (half, row) = (index / 6, index % 6);
            let expected = draft(bodies[2 * row + half]);
            assert_eq!((*record, read.as_bytes()), (staged(index as u64 + 1), expected.as_bytes()), "{index}");
        }
        // The first record of a half is gone, and with it those that would have its body.
        stage.begin();
        assert!(stage.put_again(staged(7), 0) && put(&mut stage, 8));
        assert_eq!(numbers(&journal, 6), [0; 0]);
    }

    #[test]
    fn what_a_smaller_file_holds_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("audit.jsonl");
        let mut stage = Stage::open(&journal, BOOT).unwrap();
        assert!((1..3).all(|seq| put(&mut stage, seq)));
        stage.turn();
        assert!((3..5).all(|seq| put(&mut stage, seq)));
        let path = stage_path(&journal);
        let whole = std::fs::read(&path).unwrap();
        let (first, second) = whole.split_at(HALF);
        std::fs::write(&path, [&first[..512 << 10], &second[..512 << 10]].concat()).unwrap();
        assert_eq!(numbers(&journal, 0), [1, 2, 3, 4]);
    }

    #[test]
    fn a_damaged_record_and_those_after_it_are_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("audit.jsonl");
        let mut stage = Stage::open(&journal, BOOT).unwrap();
        let body = stage.put(staged(1), &Draft::new(&entry(1))).unwrap();
        assert!(stage.put_again(staged(2), body) && put(&mut stage, 3));
        let path = stage_path(&journal);
        let whole = std::fs::read(&path).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        for at in (0..stage.at).step_by(7) {
            file.write_all_at(&[whole[at] ^ 0x10], at as u64).unwrap();
            let found = numbers(&journal, 0);
            assert!(found.len() < 3 && found == (1..=found.len() as u64).collect::<Vec<_>>(), "byte {at}: {found:?}");
            file.write_all_at(&[whole[at]], at as u64).unwrap();
        }
    }

    #[test]
    fn a_full_half_takes_no_more_until_its_records_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut stage = Stage::open(&folder.path().join("audit.jsonl"), BOOT).unwrap();
        let fitting = (1..).take_while(|seq| put(&mut stage, *seq)).count();
        assert!(fitting > 5000, "{fitting}");
        stage.begin();
        let body = stage.put(staged(1), &Draft::new(&entry(1))).unwrap();
        let fitting = (2..).take_while(|seq| stage.put_again(staged(*seq), body)).count();
        assert!(fitting > 50_000, "{fitting}");
        stage.begin();
        assert!(put(&mut stage, 1));
    }
}
