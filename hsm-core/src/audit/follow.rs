//! The journal as a witness on another machine is told of it: step by step, each from one signed checkpoint to a later one.
//!
//! A step carries what shows that the later tree only added to the earlier one: the roots of the subtrees of the lines between (a witness
//! keeps those of the lines before). A change of the signing key takes a step of its own, which carries the line that announces the new
//! key. Only lines that are durable are read, and each once.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use memchr::memmem;

use super::chain::MAX_LINE_BYTES;
use super::checkpoint::{self, JOURNAL_KEY, SEGMENT_OPEN, SignedCheckpoint};
use super::file::file_of;
use super::keys::{Pin, PublicKey};
use super::merkle::{self, Range, Tree};
use super::record::Record;

/// From one checkpoint to a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The later one, as a signed note.
    pub note: String,
    /// The ML-DSA-44 key that signed the note, of a checkpoint with both signatures: a witness keeps its digest.
    pub ml_dsa_44_key: Option<Vec<u8>>,
    /// The size of the earlier one; 0 to begin with.
    pub from: u64,
    /// Roots of the largest subtrees of the lines between, from left to right: of those before the announcement, if there is one.
    pub before: Vec<[u8; 32]>,
    /// The line, without its line feed, that announces the key with which all later checkpoints are signed.
    pub announcement: Option<Vec<u8>>,
    /// As `before`, of the lines after the announcement.
    pub after: Vec<[u8; 32]>,
}

/// A reader of a journal that somebody else writes.
pub struct Follower {
    journal: PathBuf,
    file: Reading,
    /// The number of the next line.
    seq: u64,
    /// The key in use.
    key: Option<PublicKey>,
    since: Since,
}

/// The lines since a checkpoint.
#[derive(Clone)]
struct Since {
    all: Range,
    announced: Option<Announced>,
}

#[derive(Clone)]
struct Announced {
    before: Range,
    line: Vec<u8>,
    key: PublicKey,
    after: Range,
}

impl Since {
    fn begin_at(index: u64) -> Self {
        Since { all: Range::begin_at(index), announced: None }
    }

    fn push(&mut self, line: &[u8], announces: Option<&PublicKey>) {
        let leaf = merkle::leaf(line);
        if let Some(key) = announces {
            let (before, after) = (self.all.clone(), Range::begin_at(self.all.end() + 1));
            self.announced = Some(Announced { before, line: line.to_vec(), key: key.clone(), after });
        } else if let Some(announced) = &mut self.announced {
            announced.after.push(leaf);
        }
        self.all.push(leaf);
    }

    fn step(&self, signed: &SignedCheckpoint, by: &PublicKey) -> Step {
        let (before, announcement, after) = match &self.announced {
            None => (self.all.hashes(), None, Vec::new()),
            Some(Announced { before, line, after, .. }) => (before.hashes(), Some(line.clone()), after.hashes()),
        };
        let ml_dsa_44_key = by.ml_dsa_44().map(<[u8]>::to_vec);
        Step { note: signed.note(by), ml_dsa_44_key, from: self.all.begin(), before, announcement, after }
    }
}

impl Follower {
    /// Goes on where a witness is that holds a checkpoint of so many records, and the key that signs the next; or from the beginning.
    ///
    /// # Errors
    /// When the files that hold the next record cannot be read or are elsewhere.
    pub fn begin(journal: &Path, held: Option<(u64, Pin)>) -> io::Result<Self> {
        let from = held.map_or(0, |(size, _)| size);
        let mut file = Reading::with(journal, from + 1)?;
        let first = file.first_record()?;
        let (mut seq, mut since) = (first.seq, Since::begin_at(from));
        if seq > from + 1 {
            let gone = || io::Error::new(io::ErrorKind::NotFound, format!("record {} is archived elsewhere", from + 1));
            // Who holds nothing yet may begin with a file's own word of what lies before it.
            let peaks = (from == 0 && first.op == SEGMENT_OPEN).then(|| checkpoint::peaks(&first)).flatten();
            let tree = Tree::from_peaks(seq - 1, peaks.ok_or_else(gone)?).ok_or_else(gone)?;
            since.all = Range::of(&tree);
        }
        let (mut line, mut named, mut key) = (Vec::new(), None, None);
        while seq <= from {
            file.next_line(&mut line)?;
            // The witness holds the key's pin, and the file the key.
            if let Told::Key(told) | Told::Segment(told) = Told::of(&line)? {
                key = held.filter(|(_, pin)| pin.fits(&told)).map(|_| told.clone()).or(key);
                named = Some(told);
            }
            seq += 1;
        }
        Ok(Follower { journal: journal.to_owned(), file, seq, key: key.or(named), since })
    }

    /// The next step: to the newest checkpoint up to record `durable`, or to the first that certifies another key.
    ///
    /// # Errors
    /// When a line cannot be read or is none of a journal's.
    pub fn next_step(&mut self, durable: u64) -> io::Result<Option<Step>> {
        self.file.forget_what_was_read_ahead()?;
        let (mut newest, mut line) = (None, Vec::new());
        while self.seq <= durable && self.read(&mut line)? {
            let told = Told::of(&line)?;
            if let Told::Checkpoint(signed) = &told {
                let step = self.signer_of(signed).map(|by| self.since.step(signed, &by)).ok_or_else(keyless)?;
                let rest = Since::begin_at(self.seq - 1);
                if let Some(announced) = self.since.announced.take() {
                    self.key = Some(announced.key);
                    self.since = rest;
                    self.pass(&line, None, &mut None);
                    return Ok(Some(step));
                }
                newest = Some((step, rest));
            }
            let announces = match told {
                Told::Key(key) if self.key.is_some() => Some(key),
                Told::Key(key) | Told::Segment(key) => {
                    self.key.get_or_insert(key);
                    None
                }
                _ => None,
            };
            self.pass(&line, announces.as_ref(), &mut newest);
        }
        Ok(newest.map(|(step, rest)| {
            self.since = rest;
            step
        }))
    }

    /// The key that made a signature, as far as the lines tell; whoever holds another will not take it.
    fn signer_of(&self, signed: &SignedCheckpoint) -> Option<PublicKey> {
        let announced = self.since.announced.as_ref().map(|announced| &announced.key);
        let known = self.key.iter().chain(announced).find(|key| signed.is_by(key));
        known.or(self.key.as_ref()).cloned()
    }

    fn pass(&mut self, line: &[u8], announces: Option<&PublicKey>, newest: &mut Option<(Step, Since)>) {
        self.since.push(line, announces);
        if let Some((_, rest)) = newest {
            rest.push(line, announces);
        }
        self.seq += 1;
    }

    /// The next line, from the next file if this one was closed; false at the journal's end.
    fn read(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        if self.file.next_line_if_any(line)? {
            return Ok(true);
        }
        if !self.file.is_closed(&self.journal)? {
            return Ok(false);
        }
        // What came between the end that was seen and the closing.
        if self.file.next_line_if_any(line)? {
            return Ok(true);
        }
        self.file = Reading::with(&self.journal, self.seq)?;
        match self.file.first_record()?.seq == self.seq {
            true => self.file.next_line_if_any(line),
            false => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a file of the journal does not continue the one before",
            )),
        }
    }
}

fn keyless() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a checkpoint before any key was named")
}

/// What a line says that a witness must know.
enum Told {
    Nothing,
    Checkpoint(SignedCheckpoint),
    Key(PublicKey),
    Segment(PublicKey),
}

impl Told {
    fn of(line: &[u8]) -> io::Result<Self> {
        // Most lines need not be parsed: the bytes are canonical.
        if !["checkpoint", JOURNAL_KEY, SEGMENT_OPEN].iter().any(|op| {
            let member = [b"\"op\":\"".as_slice(), op.as_bytes(), b"\""].concat();
            memmem::find(line, &member).is_some()
        }) {
            return Ok(Told::Nothing);
        }
        let malformed = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let record = Record::parse(line).map_err(malformed)?;
        if let Some(signed) = SignedCheckpoint::of(&record) {
            return signed.map(Told::Checkpoint).map_err(malformed);
        }
        Ok(match (record.op.as_str(), checkpoint::announced(&record)) {
            (JOURNAL_KEY, Some(key)) => Told::Key(key),
            (SEGMENT_OPEN, Some(key)) => Told::Segment(key),
            _ => Told::Nothing,
        })
    }
}

/// One file of the journal, and how far it was read.
struct Reading {
    file: BufReader<File>,
    inode: u64,
    at: u64,
}

impl Reading {
    /// The file that holds this record, or the one that begins soonest after it.
    fn with(journal: &Path, seq: u64) -> io::Result<Self> {
        let file = File::open(file_of(journal, seq)?)?;
        let inode = file.metadata()?.ino();
        Ok(Reading { file: BufReader::with_capacity(1 << 16, file), inode, at: 0 })
    }

    /// The first record, which stays the next to be read.
    fn first_record(&mut self) -> io::Result<Record> {
        let mut line = Vec::new();
        self.next_line(&mut line)?;
        self.at = 0;
        self.forget_what_was_read_ahead()?;
        Record::parse(&line).map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))
    }

    /// Lines that are not durable yet may be written again.
    fn forget_what_was_read_ahead(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.at)).map(drop)
    }

    fn next_line(&mut self, line: &mut Vec<u8>) -> io::Result<()> {
        let end = io::ErrorKind::UnexpectedEof;
        if self.next_line_if_any(line)? { Ok(()) } else { Err(io::Error::new(end, "the journal ends too soon")) }
    }

    /// The next line without its line feed; false when there is no whole one.
    fn next_line_if_any(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        line.clear();
        let len = self.file.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', line)?;
        if line.pop() != Some(b'\n') {
            self.forget_what_was_read_ahead()?;
            return Ok(false);
        }
        self.at += len as u64;
        Ok(true)
    }

    fn is_closed(&self, journal: &Path) -> io::Result<bool> {
        Ok(std::fs::metadata(journal)?.ino() != self.inode)
    }
}
