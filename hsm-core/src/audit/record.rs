//! What one journal record says, and its canonical bytes (`format.md`).
//!
//! [`Entry`] is what an operation reports; [`Draft`] is that entry as text with the gaps that only the journal fills
//! (sequence, time, chain); [`Record`] is a line read back. An entry has no field that can hold a PIN, a key value or a
//! plaintext: numbers, names from the PKCS#11 tables, identifiers, digests, and the few texts that [`Fact`] admits.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use ck::{Mechanism, ObjectClass, Rv};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::{Error, Kind, ObjectId, Result, TokenId};

/// The record version that this code writes, and the only one it reads.
pub const VERSION: u64 = 1;

/// The longest text from outside (a certificate subject, a label) that a record carries; longer ones are cut.
const MAX_TEXT_CHARS: usize = 256;

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// The program itself: start, stop, repair, a job.
    Daemon,
    /// A process on this host, as the kernel names it (`SO_PEERCRED`).
    Unix {
        /// User id of the peer.
        uid: u32,
        /// Group id of the peer.
        gid: u32,
        /// Process id of the peer.
        pid: u32,
    },
    /// The holder of a TLS client certificate.
    Certificate {
        /// SHA-256 of the certificate's SubjectPublicKeyInfo.
        key_sha256: [u8; 32],
        /// The certificate's subject, RFC 4514 text.
        subject: String,
    },
    /// A person at the administration tool, working on files.
    Operator {
        /// User id of the tool's process.
        uid: u32,
    },
}

/// Which kind of operation a record is about; `[audit].log_level` keeps one of them or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// Making, changing, using and destroying keys and objects.
    Crypto,
    /// Login, logout, PINs, sessions.
    Auth,
    /// Tokens, policy, backup, restore.
    Admin,
    /// The journal about itself: kept at every level.
    Journal,
}

/// An object that a record names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its lasting name.
    pub id: ObjectId,
    /// Its class.
    pub class: ObjectClass,
}

/// One more fact about an operation. The constructors are the list of what may be said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Fact {
    /// A count, a size, a time.
    #[doc(hidden)]
    Number(u64),
    /// A name.
    #[doc(hidden)]
    Text(Cow<'static, str>),
}

impl Fact {
    /// A count, a length in bytes, a time.
    pub fn number(value: u64) -> Self {
        Fact::Number(value)
    }

    /// A word of this program.
    pub fn word(value: &'static str) -> Self {
        Fact::Text(Cow::Borrowed(value))
    }

    /// A SHA-256 digest of something that is not a low-entropy secret.
    pub fn digest(value: &[u8; 32]) -> Self {
        Fact::Text(Cow::Owned(HEXLOWER.encode(value)))
    }

    /// A signature or a public key.
    pub(super) fn public(value: &[u8]) -> Self {
        Fact::Text(Cow::Owned(HEXLOWER.encode(value)))
    }

    /// A 16-byte identifier.
    pub fn id(value: &[u8; 16]) -> Self {
        Fact::Text(Cow::Owned(HEXLOWER.encode(value)))
    }

    /// A label, a serial number or a file name that an operator chose; cut at 256 characters.
    pub fn name(value: &str) -> Self {
        Fact::Text(Cow::Owned(cut(value).to_owned()))
    }
}

/// What an operation reports to the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which kind of operation this is; not written, it decides whether the record is kept.
    pub category: Category,
    /// The operation, as the act table names it: `sign`, `generate_key_pair`.
    pub op: &'static str,
    /// Who asked.
    pub client: Client,
    /// The attached application.
    pub app: Option<u128>,
    /// The token.
    pub token: Option<TokenId>,
    /// The session's handle.
    pub session: Option<u64>,
    /// The key used, or the object made or changed.
    pub object: Option<Subject>,
    /// The second object: the public half of a new pair, the wrapping key of a wrap, the base key of a derivation.
    pub with: Option<Subject>,
    /// The mechanism.
    pub mechanism: Option<Mechanism>,
    /// SHA-256 of the mechanism's parameter.
    pub params: Option<[u8; 32]>,
    /// How it ended.
    pub rv: Rv,
    /// The request's identifier, as the client chose it.
    pub request: Option<u128>,
    /// Further facts, by name.
    pub detail: Vec<(&'static str, Fact)>,
}

impl Entry {
    /// An entry with everything optional absent and `CKR_OK` as its result.
    pub fn new(category: Category, op: &'static str, client: Client) -> Self {
        Entry {
            category,
            op,
            client,
            app: None,
            token: None,
            session: None,
            object: None,
            with: None,
            mechanism: None,
            params: None,
            rv: ck::rv::CKR_OK,
            request: None,
            detail: Vec::new(),
        }
    }

    /// The same entry with one more fact.
    #[must_use]
    pub fn with_fact(mut self, name: &'static str, fact: Fact) -> Self {
        self.detail.push((name, fact));
        self
    }

    /// The bytes that the store keeps in the same transaction as the change (`format.md`, "Outbox body").
    pub fn encode(&self) -> Vec<u8> {
        body(self)
    }
}

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

const CUTS: usize = 6;
const BODY_FORMAT: u8 = 1;

/// An entry as canonical text, with the positions at which the journal inserts its stamps, in the bytes that the store's outbox and the
/// staging file keep: format, positions, text.
#[derive(Clone)]
pub(super) struct Draft {
    body: Arc<Vec<u8>>,
}

/// Where the text begins.
const TEXT: usize = 1 + CUTS * 4;

/// The body of an entry's draft. Keys come in byte order, so the stamps' places are fixed by their names.
fn body(entry: &Entry) -> Vec<u8> {
    let mut text = Text(Vec::with_capacity(TEXT + 512));
    text.0.push(BODY_FORMAT);
    text.0.resize(TEXT, 0);
    let mut cuts = [0; CUTS];
    text.raw("{");
    text.hex_u128("app", entry.app);
    cuts[0] = text.len(); // boot, change
    text.client(&entry.client);
    cuts[1] = text.len(); // crc
    text.detail(&entry.detail);
    cuts[2] = text.len(); // generation
    if let Some(mechanism) = entry.mechanism {
        text.named("mechanism", mechanism.name(), mechanism.0);
    }
    text.subject("object", entry.object);
    text.word("op", entry.op);
    if let Some(params) = &entry.params {
        text.hex("params", params);
    }
    cuts[3] = text.len(); // prev
    text.hex_u128("request", entry.request);
    text.named("rv", entry.rv.name(), entry.rv.0);
    cuts[4] = text.len(); // seq
    if let Some(session) = entry.session {
        text.number("session", session);
    }
    cuts[5] = text.len(); // time
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
        Draft { body: Arc::new(body(entry)) }
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

    /// Appends the finished line, without its line feed, to `out`.
    pub(super) fn stamp(&self, stamp: &Stamp<'_>, out: &mut Vec<u8>) {
        let text = &self.body[TEXT..];
        let part = |from: usize, to: usize| &text[from..to];
        let [boot, crc, generation, prev, seq, time] = cuts(&self.body);
        let start = out.len();
        let mut line = Text(core::mem::take(out));
        line.0.extend_from_slice(part(0, boot));
        line.word("boot", stamp.boot);
        if stamp.change == Change::Made {
            line.raw("\"change\":true,");
        }
        line.0.extend_from_slice(part(boot, crc));
        let crc_at = line.len();
        line.raw("\"crc\":\"00000000\",");
        line.0.extend_from_slice(part(crc, generation));
        line.number("generation", stamp.generation);
        line.0.extend_from_slice(part(generation, prev));
        line.hex("prev", stamp.prev);
        line.0.extend_from_slice(part(prev, seq));
        line.number("seq", stamp.seq);
        line.0.extend_from_slice(part(seq, time));
        line.number("time", stamp.time);
        line.0.extend_from_slice(part(time, text.len()));
        *out = line.0;
        let sum = crc_without(&out[start..], crc_at - start);
        let digits = crc_at + CRC_PREFIX;
        out[digits..digits + 8].copy_from_slice(&hex_u32(sum));
    }

    /// What [`Draft::from_bytes`] reads.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.body
    }

    /// Reads what [`Entry::encode`] wrote, perhaps by an earlier run of the program.
    pub(super) fn from_bytes(body: &[u8]) -> Result<Self> {
        let bad = || Error::new(Kind::Device, "an outbox body is not one that this program wrote");
        let text = body.get(TEXT..).filter(|_| body[0] == BODY_FORMAT).ok_or_else(bad)?;
        let cuts = cuts(body);
        let ascending = cuts.windows(2).all(|pair| pair[0] <= pair[1]);
        if !ascending || cuts[CUTS - 1] > text.len() {
            return Err(bad());
        }
        let draft = Draft { body: Arc::new(body.to_vec()) };
        let probe = Stamp { seq: 1, time: 0, boot: "00", generation: 0, change: Change::Nothing, prev: &[0; 32] };
        let mut line = Vec::new();
        draft.stamp(&probe, &mut line);
        Record::parse(&line).map_err(|what| Error::new(Kind::Device, format!("an outbox body: {what}")))?;
        Ok(draft)
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

/// Length of `"crc":"`, the text before the eight digits.
const CRC_PREFIX: usize = 7;
/// Length of `"crc":"00000000",`.
const CRC_FIELD: usize = CRC_PREFIX + 8 + 2;

/// CRC-32 of the line with its own `crc` member, which starts at `at`, left out. It tells damage from forgery at a glance and covers
/// the last line, which no later line's hash covers yet. It is no protection against anybody: the chain is.
fn crc_without(line: &[u8], at: usize) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&line[..at]);
    sum.update(&line[at + CRC_FIELD..]);
    sum.finalize()
}

fn hex_u32(value: u32) -> [u8; 8] {
    let mut digits = [0; 8];
    HEXLOWER.encode_mut(&value.to_be_bytes(), &mut digits);
    digits
}

fn cut(text: &str) -> &str {
    match text.char_indices().nth(MAX_TEXT_CHARS) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

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
        let start = self.0.len();
        self.0.resize(start + bytes.len() * 2, 0);
        HEXLOWER.encode_mut(bytes, &mut self.0[start..]);
        self.raw("\",");
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

/// The client of a record that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the members are described in format.md and on `Client`")]
pub struct RecordClient {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_sha256: Option<String>,
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

/// An object of a record that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the members are described in format.md and on `Subject`")]
pub struct RecordSubject {
    pub class: String,
    pub id: String,
}

/// A line that was read back. Its fields stand in byte order of their names, which is the canonical order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the members are described in format.md and on `Entry`")]
pub struct Record {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    pub boot: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<bool>,
    pub client: RecordClient,
    pub crc: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub detail: BTreeMap<String, Fact>,
    pub generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<RecordSubject>,
    pub op: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<String>,
    pub prev: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    pub rv: String,
    pub seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    pub time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    pub v: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with: Option<RecordSubject>,
}

#[derive(Deserialize)]
struct Version {
    v: u64,
}

impl Record {
    /// Reads one line without its line feed: known version, canonical bytes, right check sum. The chain is not this
    /// function's business.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong with the line.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let record = match serde_json::from_slice::<Record>(line) {
            Ok(record) if record.v == VERSION => record,
            parsed => return Err(foreign(line, parsed.err())),
        };
        let canonical = serde_json::to_vec(&record).map_err(|error| format!("not a journal record ({error})"))?;
        if canonical != line {
            return Err("the bytes are not in canonical form: the line was edited".to_owned());
        }
        let at = find(line, format!("\"crc\":\"{}\",", record.crc).as_bytes());
        let holds = at.is_some_and(|at| {
            record.crc.len() == 8 && record.crc.as_bytes() == hex_u32(crc_without(line, at)).as_slice()
        });
        if !holds {
            return Err("the check sum does not match: the line is damaged or was edited".to_owned());
        }
        Ok(record)
    }
}

/// Why a line is no record of this version.
fn foreign(line: &[u8], error: Option<serde_json::Error>) -> String {
    match (serde_json::from_slice::<Version>(line), error) {
        (Ok(Version { v }), _) if v != VERSION => {
            format!("record version {v} is unknown to this program, which reads version {VERSION}: use a newer one")
        }
        (Ok(_), Some(error)) => format!("not a version {VERSION} record ({error})"),
        (_, Some(error)) => format!("not a journal record ({error})"),
        (_, None) => "not a journal record".to_owned(),
    }
}

/// Where the record's own `crc` member stands. Its text cannot occur earlier: before it come only `app`, `boot`,
/// `change` and `client`, in whose strings a quote is escaped.
fn find(line: &[u8], needle: &[u8]) -> Option<usize> {
    line.windows(needle.len()).position(|window| window == needle)
}

impl core::fmt::Display for Fact {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Fact::Number(value) => write!(f, "{value}"),
            Fact::Text(value) => f.write_str(value),
        }
    }
}
