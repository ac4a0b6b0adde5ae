//! The hash chain over the journal's lines, and its verification: pure, over any reader, with no secret.
//!
//! Every record names the hash of the line before it, which is that of the line's leaf in the tree. A changed, deleted, swapped, inserted or repeated line breaks
//! the chain at a line that [`verify`] names; a tail that was cut off at a line's end is found by comparing with a
//! [`Head`] remembered elsewhere. Whoever rewrites the whole chain cannot sign it: checkpoints are verified as they pass, each
//! key by the signature of the one before.

use std::io::{BufRead, Read};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::checkpoint::{self, JOURNAL_KEY, SEGMENT_OPEN, SignedCheckpoint};
use super::keys::PublicKey;
use super::merkle::{self, Tree};
use super::record::{FIRST_VERSION, Record};
use super::trust::{KeyWalk, Signatures, Trust};

/// The longest line that a verifier accepts; the longest that the journal writes is far below.
pub(super) const MAX_LINE_BYTES: u64 = 64 * 1024;

/// What the first record of a journal names as the hash of the line before it.
pub(super) const NOTHING_BEFORE: [u8; 32] = [0; 32];

/// The newest record: how many there are, and the hash that the next one will name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Sequence number of the newest record; 0 for an empty journal.
    pub seq: u64,
    /// The hash of its line; zeros for an empty journal.
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
    /// What is known of the signatures.
    pub signatures: Signatures,
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
    /// A checkpoint or a key is not what it says, or not by a key that is trusted.
    Signature,
    /// The last line has no line feed: a write that never finished.
    TornTail {
        /// Where the incomplete line begins.
        offset: u64,
    },
    /// From here on there are bytes that no write has reached: the power was lost before they were synced.
    Unwritten {
        /// Where the first line that lacks some of them begins.
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
    /// The line, counted from 1 in its file.
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

/// Whether a part of a line was never written: what a file system shows of such a part are zeros, which no line of JSON has.
pub(super) fn is_unwritten(line: &[u8]) -> bool {
    memchr::memchr(0, line).is_some()
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
pub fn visit<R, F>(reader: R, known: &[Head], mut each: F) -> Result<Summary, Finding>
where
    R: BufRead,
    F: FnMut(&Line<'_>) -> std::io::Result<()>,
{
    let mut walk = Walk::new();
    walk.read(reader, known, Tail::Whole, &mut each)?;
    walk.finish(known)
}

/// What the end of a journal may look like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// The last line is complete.
    Whole,
    /// Somebody is writing: a reader may see the beginning of a line, which is then left out.
    BeingWritten,
}

/// A verification on its way, over one file or several in a row.
#[derive(Clone)]
pub(super) struct Walk {
    summary: Summary,
    boot: String,
    tree: Tree,
    keys: KeyWalk,
    /// That of the newest record.
    version: u64,
    /// Lines and bytes of the file that is being read.
    lines: u64,
    bytes: u64,
    /// The newest change that has its record; also the newest in files before the one where the walk began.
    last_change: u64,
    last_change_before: u64,
}

impl Walk {
    pub(super) fn new() -> Self {
        Walk::trusting(Trust::default())
    }

    pub(super) fn trusting(trust: Trust) -> Self {
        let summary = Summary {
            records: 0,
            head: Head::EMPTY,
            first_time: 0,
            last_time: 0,
            last_generation: 0,
            boots: 0,
            bytes: 0,
            signatures: Signatures::default(),
        };
        let (keys, tree, boot) = (KeyWalk::trusting(trust), Tree::default(), String::new());
        let (lines, bytes, last_change, last_change_before) = (0, 0, 0, 0);
        let version = FIRST_VERSION;
        Walk { summary, boot, tree, keys, version, lines, bytes, last_change, last_change_before }
    }

    /// The tree of the lines so far.
    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The key that certified records name last.
    pub(super) fn key(&self) -> Option<&PublicKey> {
        self.keys.key()
    }

    /// Whether a key is announced that no checkpoint has certified.
    pub(super) fn is_between_keys(&self) -> bool {
        self.keys.announced().is_some()
    }

    /// The newest change that has its record.
    pub(super) fn last_change(&self) -> u64 {
        self.last_change
    }

    /// The newest change whose record is in a file before the one where the walk began.
    pub(super) fn last_change_before(&self) -> u64 {
        self.last_change_before
    }

    /// The head so far.
    pub(super) fn head(&self) -> Head {
        self.summary.head
    }

    /// What the records so far say.
    pub(super) fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Goes on with another file.
    pub(super) fn next_file(&mut self) {
        (self.lines, self.bytes) = (0, 0);
    }

    /// Verifies a file from its first line to its last.
    pub(super) fn read<R, F>(&mut self, mut reader: R, known: &[Head], tail: Tail, each: &mut F) -> Result<(), Finding>
    where
        R: BufRead,
        F: FnMut(&Line<'_>) -> std::io::Result<()>,
    {
        let mut line = Vec::with_capacity(1024);
        loop {
            line.clear();
            let number = self.lines + 1;
            let unreadable = |error: std::io::Error| Finding {
                line: number,
                wrong: Wrong::Unreadable,
                what: format!("the journal cannot be read or passed on: {error}"),
            };
            reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(unreadable)?;
            if line.is_empty() {
                return Ok(());
            }
            let record = match self.step(&line) {
                Err(Finding { wrong: Wrong::TornTail { .. }, .. }) if tail == Tail::BeingWritten => return Ok(()),
                stepped => stepped?,
            };
            self.check_known(known)?;
            let seen = Line { record: &record, text: &line[..line.len() - 1], head: self.summary.head };
            each(&seen).map_err(unreadable)?;
        }
    }

    fn finding(&self, wrong: Wrong, what: impl Into<String>) -> Finding {
        Finding { line: self.lines + 1, wrong, what: what.into() }
    }

    fn unwritten(&self) -> Finding {
        let wrong = Wrong::Unwritten { offset: self.bytes };
        self.finding(wrong, "parts of it were never written: the power was lost, or it was overwritten with zeros")
    }

    pub(super) fn step(&mut self, line: &[u8]) -> Result<Record, Finding> {
        let Some((b'\n', text)) = line.split_last() else {
            if is_unwritten(line) {
                return Err(self.unwritten());
            }
            if u64::try_from(line.len()).unwrap_or(u64::MAX) >= MAX_LINE_BYTES {
                return Err(self.finding(Wrong::Line, format!("longer than {MAX_LINE_BYTES} bytes")));
            }
            let wrong = Wrong::TornTail { offset: self.bytes };
            return Err(self.finding(wrong, "the last line is incomplete: a write did not finish"));
        };
        if is_unwritten(text) {
            return Err(self.unwritten());
        }
        let record = Record::parse(text).map_err(|what| self.finding(Wrong::Line, what))?;
        if self.summary.records == 0 && self.keys.later_start() && record.op == SEGMENT_OPEN {
            self.begin_at(&record)?;
        }
        self.check_place(&record)?;
        self.check_signature(&record)?;
        let leaf = merkle::leaf(text);
        let hash = if record.v == FIRST_VERSION { record.hash(text) } else { leaf };
        self.tree.push(leaf);
        self.version = record.v;
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
        summary.head = Head { seq: record.seq, hash };
        let len = u64::try_from(line.len()).unwrap_or(u64::MAX);
        summary.bytes += len;
        self.bytes += len;
        self.lines += 1;
        if record.change == Some(true) {
            self.last_change = self.last_change.max(record.generation);
        }
        Ok(record)
    }

    /// Takes a file's first record at its word about what lies before it; the next checkpoint's signature covers it.
    fn begin_at(&mut self, record: &Record) -> Result<(), Finding> {
        let line = self.lines + 1;
        let malformed = || Finding { line, wrong: Wrong::Line, what: "a malformed beginning of a file".into() };
        let size = record.seq.checked_sub(1).ok_or_else(malformed)?;
        let peaks = checkpoint::peaks(record).ok_or_else(malformed)?;
        let tree = Tree::from_peaks(size, peaks).ok_or_else(malformed)?;
        let hash = HEXLOWER.decode(record.prev.as_bytes()).ok().and_then(|hash| hash.try_into().ok());
        let hash = hash.ok_or_else(malformed)?;
        let number = |name: &str| match record.detail.get(name) {
            Some(super::Fact::Number(number)) => Some(*number),
            _ => None,
        };
        self.last_change = number("last_change").ok_or_else(malformed)?;
        self.last_change_before = self.last_change;
        self.summary.last_generation = number("last_generation").ok_or_else(malformed)?;
        self.tree = tree;
        self.summary.head = Head { seq: size, hash };
        if checkpoint::names_key(record) {
            let key = checkpoint::announced(record).ok_or_else(malformed)?;
            self.name(key, record.seq)?;
        }
        Ok(())
    }

    fn name(&mut self, key: PublicKey, seq: u64) -> Result<(), Finding> {
        self.keys.name(key, seq).map_err(|what| self.finding(Wrong::Signature, what))
    }

    fn check_signature(&mut self, record: &Record) -> Result<(), Finding> {
        match record.op.as_str() {
            JOURNAL_KEY => {
                let malformed = || self.finding(Wrong::Signature, "a malformed key");
                let key = checkpoint::announced(record).ok_or_else(malformed)?;
                self.name(key, record.seq)
            }
            SEGMENT_OPEN => {
                let same = checkpoint::peaks(record).is_some_and(|peaks| peaks == self.tree.peaks());
                let key = checkpoint::announced(record);
                if same && (!checkpoint::names_key(record) || key.as_ref() == self.keys.key()) {
                    return Ok(());
                }
                Err(self.finding(Wrong::Chain, "the file does not begin where the one before it ended"))
            }
            _ => match SignedCheckpoint::of(record) {
                Some(signed) => {
                    let signed = signed.map_err(|what| self.finding(Wrong::Signature, what))?;
                    self.check_checkpoint(&signed, record.seq)
                }
                None => Ok(()),
            },
        }
    }

    fn check_checkpoint(&mut self, signed: &SignedCheckpoint, seq: u64) -> Result<(), Finding> {
        let checkpoint = &signed.checkpoint;
        if (checkpoint.size, checkpoint.root) != (self.tree.size(), self.tree.root()) {
            return Err(self.finding(Wrong::Signature, "the checkpoint is not of the records before it"));
        }
        let highest = self.summary.last_generation;
        self.keys.pass(signed, seq, highest).map_err(|what| self.finding(Wrong::Signature, what))
    }

    fn check_place(&self, record: &Record) -> Result<(), Finding> {
        let head = &self.summary.head;
        let expected = head.seq + 1;
        if record.seq != expected {
            let what = match (self.summary.records, record.op.as_str()) {
                (0, SEGMENT_OPEN) => {
                    format!("the journal begins with record {}: the files before it are missing", record.seq)
                }
                _ => format!(
                    "sequence {} where {expected} belongs: a line was deleted, inserted, repeated or moved",
                    record.seq
                ),
            };
            return Err(self.finding(Wrong::Chain, what));
        }
        if record.prev != HEXLOWER.encode(&head.hash) {
            let what = match head.seq {
                0 => "the first record names a line before it: the beginning was cut off".to_owned(),
                seq => format!("the record does not continue record {seq}: one of the two was replaced"),
            };
            return Err(self.finding(Wrong::Chain, what));
        }
        if record.v < self.version {
            return Err(self.finding(Wrong::Chain, "the version is below that of the record above"));
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
                line: self.lines,
                wrong: Wrong::Chain,
                what: format!("record {} is not the one that was remembered: the journal was rewritten", known.seq),
            }),
            None => Ok(()),
        }
    }

    pub(super) fn finish(mut self, known: &[Head]) -> Result<Summary, Finding> {
        match self.keys.clone().finish() {
            Ok(signatures) => self.summary.signatures = signatures,
            Err(what) => return Err(self.finding(Wrong::Signature, what)),
        }
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
