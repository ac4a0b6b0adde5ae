//! The hash chain over the journal's lines, and its verification: pure, over any reader, with no secret.
//!
//! Every record names the SHA-256 of the line before it. A changed, deleted, swapped, inserted or repeated line breaks
//! the chain at a line that [`verify`] names; a tail that was cut off at a line's end is found by comparing with a
//! [`Head`] remembered elsewhere.

use std::io::{BufRead, Read};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::record::Record;

/// The longest line that a verifier accepts; the longest that the journal writes is far below.
pub(super) const MAX_LINE_BYTES: u64 = 64 * 1024;

/// What the first record of a journal names as the hash of the line before it.
pub(super) const NOTHING_BEFORE: [u8; 32] = [0; 32];

/// The newest record: how many there are, and the hash that the next one will name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Sequence number of the newest record; 0 for an empty journal.
    pub seq: u64,
    /// SHA-256 of its line; zeros for an empty journal.
    pub hash: [u8; 32],
}

impl Head {
    /// The head of a journal without records.
    pub const EMPTY: Head = Head { seq: 0, hash: NOTHING_BEFORE };
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHead {
    hash: String,
    seq: u64,
    v: u64,
}

impl Head {
    /// One line of JSON, as the head file holds it.
    pub fn to_line(&self) -> String {
        format!("{{\"hash\":\"{}\",\"seq\":{},\"v\":1}}\n", HEXLOWER.encode(&self.hash), self.seq)
    }

    /// Reads [`Head::to_line`]; `None` for anything else.
    pub fn from_line(line: &str) -> Option<Self> {
        let written: WrittenHead = serde_json::from_str(line).ok()?;
        let hash = HEXLOWER.decode(written.hash.as_bytes()).ok()?.try_into().ok()?;
        (written.v == 1).then_some(Head { seq: written.seq, hash })
    }
}

/// What a verified journal holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Number of records.
    pub records: u64,
    /// The newest record.
    #[serde(serialize_with = "head_as_text")]
    pub head: Head,
    /// Time of the first record, nanoseconds since the Unix epoch; 0 when there is none.
    pub first_time: u64,
    /// Time of the newest record.
    pub last_time: u64,
    /// The highest store generation that any record names.
    pub last_generation: u64,
    /// How many runs of the program wrote to it.
    pub boots: u64,
    /// Length in bytes of the verified lines.
    pub bytes: u64,
}

fn head_as_text<S: serde::Serializer>(head: &Head, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&HEXLOWER.encode(&head.hash))
}

/// Which kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The line is not a record that this program's version could have written.
    Line,
    /// The line is a record, but not the one that belongs here.
    Chain,
    /// The last line has no line feed: a write that never finished.
    TornTail {
        /// Where the incomplete line begins.
        offset: u64,
    },
    /// Records that existed are missing at the end.
    CutTail,
    /// The file could not be read.
    Unreadable,
}

/// The first thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The line, counted from 1.
    pub line: u64,
    /// Which kind of thing.
    pub wrong: Wrong,
    /// What is wrong, in a sentence.
    pub what: String,
}

impl core::fmt::Display for Finding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for Finding {}

/// SHA-256 of a line without its line feed.
pub(super) fn line_hash(line: &[u8]) -> [u8; 32] {
    Sha256::digest(line).into()
}

/// Verifies a whole journal. `known` are records that somebody remembers: the journal must still hold them.
///
/// # Errors
///
/// The first [`Finding`].
pub fn verify<R: BufRead>(reader: R, known: &[Head]) -> Result<Summary, Finding> {
    visit(reader, known, |_| Ok(()))
}

/// A line that was just found good.
pub struct Line<'a> {
    /// What it says.
    pub record: &'a Record,
    /// Its bytes, without the line feed.
    pub text: &'a [u8],
    /// The head of the journal up to here.
    pub head: Head,
}

/// Verifies, and shows each line to `each` as soon as it is known to be good.
///
/// # Errors
///
/// The first [`Finding`], or what `each` answered.
pub fn visit<R, F>(reader: R, known: &[Head], each: F) -> Result<Summary, Finding>
where
    R: BufRead,
    F: FnMut(&Line<'_>) -> std::io::Result<()>,
{
    visit_until(reader, known, Tail::Whole, each)
}

/// What the end of a journal may look like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// The last line is complete.
    Whole,
    /// Somebody is writing: a reader may see the beginning of a line, which is then left out.
    BeingWritten,
}

/// [`visit`], also for a journal that grows.
pub(super) fn visit_until<R, F>(mut reader: R, known: &[Head], tail: Tail, mut each: F) -> Result<Summary, Finding>
where
    R: BufRead,
    F: FnMut(&Line<'_>) -> std::io::Result<()>,
{
    let mut walk = Walk::new();
    let mut line = Vec::with_capacity(1024);
    loop {
        line.clear();
        let number = walk.summary.records + 1;
        let unreadable = |error: std::io::Error| Finding {
            line: number,
            wrong: Wrong::Unreadable,
            what: format!("the journal cannot be read or passed on: {error}"),
        };
        reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(unreadable)?;
        if line.is_empty() {
            break;
        }
        let record = match walk.step(&line) {
            Err(Finding { wrong: Wrong::TornTail { .. }, .. }) if tail == Tail::BeingWritten => break,
            stepped => stepped?,
        };
        walk.check_known(known)?;
        let seen = Line { record: &record, text: &line[..line.len() - 1], head: walk.summary.head };
        each(&seen).map_err(unreadable)?;
    }
    walk.finish(known)
}

#[derive(Clone)]
pub(super) struct Walk {
    summary: Summary,
    boot: String,
}

impl Walk {
    pub(super) fn new() -> Self {
        let summary = Summary {
            records: 0,
            head: Head::EMPTY,
            first_time: 0,
            last_time: 0,
            last_generation: 0,
            boots: 0,
            bytes: 0,
        };
        Walk { summary, boot: String::new() }
    }

    fn finding(&self, wrong: Wrong, what: impl Into<String>) -> Finding {
        Finding { line: self.summary.records + 1, wrong, what: what.into() }
    }

    pub(super) fn step(&mut self, line: &[u8]) -> Result<Record, Finding> {
        let Some((b'\n', text)) = line.split_last() else {
            if u64::try_from(line.len()).unwrap_or(u64::MAX) >= MAX_LINE_BYTES {
                return Err(self.finding(Wrong::Line, format!("longer than {MAX_LINE_BYTES} bytes")));
            }
            let wrong = Wrong::TornTail { offset: self.summary.bytes };
            return Err(self.finding(wrong, "the last line is incomplete: a write did not finish"));
        };
        let record = Record::parse(text).map_err(|what| self.finding(Wrong::Line, what))?;
        self.check_place(&record)?;
        let summary = &mut self.summary;
        if summary.records == 0 {
            summary.first_time = record.time;
        }
        if record.boot != self.boot {
            summary.boots += 1;
            self.boot.clone_from(&record.boot);
        }
        summary.records += 1;
        summary.last_time = record.time;
        summary.last_generation = summary.last_generation.max(record.generation);
        summary.head = Head { seq: record.seq, hash: line_hash(text) };
        summary.bytes += u64::try_from(line.len()).unwrap_or(u64::MAX);
        Ok(record)
    }

    fn check_place(&self, record: &Record) -> Result<(), Finding> {
        let head = &self.summary.head;
        let expected = head.seq + 1;
        if record.seq != expected {
            let what = format!(
                "sequence {} where {expected} belongs: a line was deleted, inserted, repeated or moved",
                record.seq
            );
            return Err(self.finding(Wrong::Chain, what));
        }
        if record.prev != HEXLOWER.encode(&head.hash) {
            let what = match head.seq {
                0 => "the first record names a line before it: the beginning was cut off".to_owned(),
                seq => format!("the record does not continue record {seq}: one of the two was replaced"),
            };
            return Err(self.finding(Wrong::Chain, what));
        }
        if record.time < self.summary.last_time {
            return Err(self.finding(Wrong::Chain, "the time is before that of the record above"));
        }
        Ok(())
    }

    fn check_known(&self, known: &[Head]) -> Result<(), Finding> {
        let head = &self.summary.head;
        match known.iter().find(|known| known.seq == head.seq && known.hash != head.hash) {
            Some(known) => Err(Finding {
                line: self.summary.records,
                wrong: Wrong::Chain,
                what: format!("record {} is not the one that was remembered: the journal was rewritten", known.seq),
            }),
            None => Ok(()),
        }
    }

    fn finish(self, known: &[Head]) -> Result<Summary, Finding> {
        let end = self.summary.head.seq;
        match known.iter().find(|known| known.seq > end) {
            Some(known) => {
                let written = known.seq;
                let what =
                    format!("the journal ends at record {end}, but record {written} was written: the tail was cut off");
                Err(self.finding(Wrong::CutTail, what))
            }
            None => Ok(self.summary),
        }
    }
}
