//! A record on its way to becoming a line (`format.md`, "Canonical bytes").
//!
//! [`Draft`] is an entry as text with the gaps that only the journal fills (sequence, time, chain); [`Draft::stamp`] fills them.

use std::cell::RefCell;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use memchr::memmem;
use parking_lot::Mutex;

use super::entry::{Client, Entry, Fact, Subject, cut};
use super::merkle::{Hash, LeafHasher};
use super::record::{FIRST_VERSION, Record, VERSION, further_sum};
use crate::{Error, Kind, Result};

/// What the journal alone knows of a record.
pub(super) struct Stamp<'a> {
    pub(super) seq: u64,
    pub(super) time: u64,
    pub(super) boot: &'a str,
    pub(super) generation: u64,
    pub(super) change: Change,
    pub(super) prev: &'a [u8; 32],
}

/// Whether the record belongs to a store transaction of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// The record of the transaction that made its generation.
    Made,
    /// A record that changed nothing; its generation says what the store was.
    Nothing,
}

const CUTS: usize = 5;
const BODY_FORMAT: u8 = 2;
/// The format before: six positions, the second of them that of the sum, and text that names the version before.
const FORMAT_BEFORE: u8 = 1;

/// An entry as canonical text, with the positions at which the journal inserts its stamps, in the bytes that the store's outbox and the
/// staging file keep: format, positions, text.
#[derive(Clone)]
pub(super) struct Draft {
    shared: Arc<Shared>,
}

struct Shared {
    place: Mutex<Option<Place>>,
    written: Written,
}

/// Where a draft is while its records wait for their lines: in one turn of the queue.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Which turn; no two queues have the same.
    pub(super) turn: u64,
    /// Among the queue's drafts.
    pub(super) index: u32,
    /// Of the first of its records in the staging file.
    pub(super) staged_at: u32,
}

/// What the thread that writes lines looks at, on cache lines of its own: others stage records of this draft at the same time.
#[repr(align(128))]
struct Written {
    body: Vec<u8>,
    /// What its line began with when it was written last: the next one will begin so too.
    begun: Mutex<Option<Begun>>,
}

/// Where the text begins.
const TEXT: usize = 1 + CUTS * 4;

impl Entry {
    /// The bytes that the store keeps in the same transaction as the change (`format.md`, "Outbox body").
    pub fn encode(&self) -> Vec<u8> {
        body(self)
    }
}

/// The body of an entry's draft. Keys come in byte order, so the stamps' places are fixed by their names.
pub(super) fn body(entry: &Entry) -> Vec<u8> {
    let mut text = Text(Vec::with_capacity(TEXT + 512));
    text.0.push(BODY_FORMAT);
    text.0.resize(TEXT, 0);
    let mut cuts = [0; CUTS];
    text.raw("{");
    text.hex_u128("app", entry.app);
    cuts[0] = text.len(); // boot, change
    text.client(&entry.client);
    text.detail(&entry.detail);
    cuts[1] = text.len(); // generation
    if let Some(mechanism) = entry.mechanism {
        text.named("mechanism", mechanism.name(), mechanism.0);
    }
    text.subject("object", entry.object);
    text.word("op", entry.op);
    if let Some(params) = &entry.params {
        text.hex("params", params);
    }
    cuts[2] = text.len(); // prev
    text.hex_u128("request", entry.request);
    text.named("rv", entry.rv.name(), entry.rv.0);
    cuts[3] = text.len(); // seq
    if let Some(session) = entry.session {
        text.number("session", session);
    }
    cuts[4] = text.len(); // sum, time
    if let Some(token) = entry.token {
        text.hex("token", &token.0);
    }
    text.number("v", VERSION);
    text.subject("with", entry.with);
    text.close();
    let mut body = text.0;
    for (place, cut) in body[1..TEXT].chunks_exact_mut(4).zip(cuts) {
        place.copy_from_slice(&u32::try_from(cut - TEXT).unwrap_or(u32::MAX).to_le_bytes());
    }
    body
}

/// So many drafts a thread keeps, by session.
const KEPT: usize = 16;

thread_local! {
    /// Who uses a key in a loop does the same again and again, and the same entry has the same draft. A connection's thread serves several
    /// of the application's threads, each with its session.
    static DRAFTS: RefCell<[Option<(Entry, Draft)>; KEPT]> = const { RefCell::new([const { None }; KEPT]) };
}

impl Draft {
    /// The text of the entry.
    pub(super) fn new(entry: &Entry) -> Self {
        Draft::of(body(entry))
    }

    fn of(body: Vec<u8>) -> Self {
        Draft {
            shared: Arc::new(Shared { place: Mutex::new(None), written: Written { body, begun: Mutex::new(None) } }),
        }
    }

    /// The text of the entry, which may be like one before.
    pub(super) fn again(entry: Entry) -> Self {
        let place = usize::try_from(entry.session.unwrap_or_default()).unwrap_or_default() % KEPT;
        DRAFTS.with_borrow_mut(|drafts| match &mut drafts[place] {
            Some((before, draft)) if *before == entry => draft.clone(),
            other => {
                let draft = Draft::new(&entry);
                *other = Some((entry, draft.clone()));
                draft
            }
        })
    }

    /// Appends the finished line, without its line feed, to `out`, and gives its leaf's hash.
    pub(super) fn stamp(&self, stamp: &Stamp<'_>, out: &mut Vec<u8>) -> Hash {
        let Written { body, begun } = &self.shared.written;
        let mut begun = begun.lock();
        let begun = match &mut *begun {
            Some(begun) if begun.is_with(stamp) => begun,
            other => other.insert(Begun::new(body, stamp)),
        };
        let text = &body[TEXT..];
        let [_, _, prev, seq, time] = cuts(body);
        let mut line = Text(core::mem::take(out));
        let start = line.len();
        line.0.extend_from_slice(&begun.text);
        line.hex_digits(stamp.prev);
        line.raw("\",");
        line.0.extend_from_slice(&text[prev..seq]);
        line.number("seq", stamp.seq);
        line.0.extend_from_slice(&text[seq..time]);
        let sum_at = line.len();
        line.raw(SUM);
        let sum_end = line.len();
        line.number("time", stamp.time);
        line.0.extend_from_slice(&text[time..]);
        *out = line.0;
        let begun_to = start + begun.text.len();
        let digits = further_sum(begun.sum.clone(), &[&out[begun_to..sum_at], &out[sum_end..]]);
        out[sum_at + SUM_PREFIX..][..8].copy_from_slice(&digits);
        begun.hash.clone().chain(&out[begun_to..]).finish()
    }

    /// What [`Draft::from_bytes`] reads.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.shared.written.body
    }

    /// Where it is in this turn, if it has come already.
    pub(super) fn place(&self, turn: u64) -> Option<Place> {
        self.shared.place.lock().filter(|place| place.turn == turn)
    }

    /// It has come to this place.
    pub(super) fn placed(&self, place: Place) {
        *self.shared.place.lock() = Some(place);
    }

    /// Reads what [`Entry::encode`] wrote, perhaps by an earlier run of the program, perhaps by a version before this one.
    pub(super) fn from_bytes(body: &[u8]) -> Result<Self> {
        let bad = || Error::new(Kind::Device, "an outbox body is not one that this program wrote");
        let body = match body.first() {
            Some(&BODY_FORMAT) => body.to_vec(),
            Some(&FORMAT_BEFORE) => from_format_before(body).ok_or_else(bad)?,
            _ => return Err(bad()),
        };
        let text = body.get(TEXT..).ok_or_else(bad)?;
        let cuts = cuts(&body);
        let ascending = cuts.windows(2).all(|pair| pair[0] <= pair[1]);
        if !ascending || cuts[CUTS - 1] > text.len() {
            return Err(bad());
        }
        let draft = Draft::of(body);
        let probe = Stamp { seq: 1, time: 0, boot: "00", generation: 0, change: Change::Nothing, prev: &[0; 32] };
        let mut line = Vec::new();
        draft.stamp(&probe, &mut line);
        Record::parse(&line).map_err(|what| Error::new(Kind::Device, format!("an outbox body: {what}")))?;
        Ok(draft)
    }
}

/// A body of the format before in this one: its record is not a line yet, so it becomes one of this version.
fn from_format_before(body: &[u8]) -> Option<Vec<u8>> {
    const TEXT_BEFORE: usize = TEXT + 4;
    let (positions, text) = (body.get(1..TEXT_BEFORE)?, body.get(TEXT_BEFORE..)?);
    let version = format!("\"v\":{FIRST_VERSION}");
    // Nothing but a `with` follows it, in which no text is from outside.
    let digit = memmem::rfind(text, version.as_bytes())? + version.len() - 1;
    let mut converted = vec![BODY_FORMAT];
    converted.extend_from_slice(&positions[..4]);
    converted.extend_from_slice(&positions[8..]);
    converted.extend_from_slice(text);
    converted[TEXT + digit] = b'0' + u8::try_from(VERSION).ok()?;
    Some(converted)
}

/// The line of a draft up to the hash of the line before, as far as hashed and summed. It stays the same from record to record of who uses
/// one key again and again: half of the work.
struct Begun {
    boot: String,
    generation: u64,
    change: Change,
    text: Vec<u8>,
    hash: LeafHasher,
    sum: crc32fast::Hasher,
}

impl Begun {
    fn new(body: &[u8], stamp: &Stamp<'_>) -> Self {
        let text = &body[TEXT..];
        let [boot, generation, prev, ..] = cuts(body);
        let mut line = Text(text[..boot].to_vec());
        line.word("boot", stamp.boot);
        if stamp.change == Change::Made {
            line.raw("\"change\":true,");
        }
        line.0.extend_from_slice(&text[boot..generation]);
        line.number("generation", stamp.generation);
        line.0.extend_from_slice(&text[generation..prev]);
        line.raw("\"prev\":\"");
        let mut sum = crc32fast::Hasher::new();
        sum.update(&line.0);
        let hash = LeafHasher::new().chain(&line.0);
        let (boot, generation, change) = (stamp.boot.to_owned(), stamp.generation, stamp.change);
        Begun { boot, generation, change, text: line.0, hash, sum }
    }

    fn is_with(&self, stamp: &Stamp<'_>) -> bool {
        (self.boot.as_str(), self.generation, self.change) == (stamp.boot, stamp.generation, stamp.change)
    }
}

/// The positions in a body that is long enough to hold them.
fn cuts(body: &[u8]) -> [usize; CUTS] {
    let mut cuts = [0; CUTS];
    for (cut, bytes) in cuts.iter_mut().zip(body[1..TEXT].chunks_exact(4)) {
        *cut = bytes
            .try_into()
            .ok()
            .and_then(|bytes| usize::try_from(u32::from_le_bytes(bytes)).ok())
            .unwrap_or(usize::MAX);
    }
    cuts
}

/// A line's sum before it is known, and the length of what stands before its digits.
const SUM: &str = "\"sum\":\"00000000\",";
const SUM_PREFIX: usize = 7;

/// The writer of canonical JSON: members end with a comma, which [`Text::close`] turns into the closing brace.
struct Text(Vec<u8>);

impl Text {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn key(&mut self, key: &str) {
        self.raw("\"");
        self.raw(key);
        self.raw("\":");
    }

    fn close(&mut self) {
        if let Some(last) = self.0.last_mut() {
            *last = b'}';
        }
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.digits(value);
        self.raw(",");
    }

    fn digits(&mut self, mut value: u64) {
        let mut digits = [0_u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(value % 10).unwrap_or_default();
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.0.extend_from_slice(&digits[at..]);
    }

    /// A value that needs no escape.
    fn word(&mut self, key: &str, value: &str) {
        self.key(key);
        self.raw("\"");
        self.raw(value);
        self.raw("\",");
    }

    fn named(&mut self, key: &str, name: Option<&'static str>, number: u64) {
        match name {
            Some(name) => self.word(key, name),
            None => self.word(key, &format!("{number:#x}")),
        }
    }

    fn hex(&mut self, key: &str, bytes: &[u8]) {
        self.key(key);
        self.raw("\"");
        self.hex_digits(bytes);
        self.raw("\",");
    }

    fn hex_digits(&mut self, bytes: &[u8]) {
        let start = self.0.len();
        self.0.resize(start + bytes.len() * 2, 0);
        HEXLOWER.encode_mut(bytes, &mut self.0[start..]);
    }

    fn hex_u128(&mut self, key: &str, value: Option<u128>) {
        if let Some(value) = value {
            self.hex(key, &value.to_be_bytes());
        }
    }

    fn subject(&mut self, key: &str, subject: Option<Subject>) {
        if let Some(subject) = subject {
            self.key(key);
            self.raw("{");
            self.named("class", subject.class.name(), subject.class.0);
            self.hex("id", &subject.id.0);
            self.close();
            self.raw(",");
        }
    }

    fn client(&mut self, client: &Client) {
        self.key("client");
        self.raw("{");
        match client {
            Client::Daemon => self.word("kind", "daemon"),
            Client::Unix { uid, gid, pid } => {
                self.number("gid", u64::from(*gid));
                self.word("kind", "unix");
                self.number("pid", u64::from(*pid));
                self.number("uid", u64::from(*uid));
            }
            Client::Certificate { key_sha256, subject } => {
                self.hex("key_sha256", key_sha256);
                self.word("kind", "certificate");
                self.text("subject", cut(subject));
            }
            Client::Operator { uid } => {
                self.word("kind", "operator");
                self.number("uid", u64::from(*uid));
            }
        }
        self.close();
        self.raw(",");
    }

    fn detail(&mut self, facts: &[(&'static str, Fact)]) {
        if facts.is_empty() {
            return;
        }
        let mut sorted: Vec<&(&str, Fact)> = facts.iter().collect();
        sorted.sort_by_key(|(name, _)| *name);
        sorted.dedup_by_key(|(name, _)| *name);
        self.key("detail");
        self.raw("{");
        for (name, fact) in sorted {
            match fact {
                Fact::Number(value) => self.number(name, *value),
                Fact::Text(value) => self.text(name, value),
            }
        }
        self.close();
        self.raw(",");
    }

    /// Text from outside: quotes, backslashes and control characters are escaped as RFC 8259 section 7 requires.
    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.raw("\"");
        for character in value.chars() {
            match character {
                '"' => self.raw("\\\""),
                '\\' => self.raw("\\\\"),
                '\u{8}' => self.raw("\\b"),
                '\u{c}' => self.raw("\\f"),
                '\n' => self.raw("\\n"),
                '\r' => self.raw("\\r"),
                '\t' => self.raw("\\t"),
                '\0'..='\u{1f}' => self.raw(&format!("\\u{:04x}", u32::from(character))),
                _ => self.raw(character.encode_utf8(&mut [0; 4])),
            }
        }
        self.raw("\",");
    }
}
