//! What one journal record says, and its canonical bytes (`format.md`).
//!
//! [`Entry`] is what an operation reports; [`Record`] is a line read back. An entry has no field that can hold a PIN, a key value or a
//! plaintext: numbers, names from the PKCS#11 tables, identifiers, digests, and the few texts that [`Fact`] admits.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ck::{Mechanism, ObjectClass, Rv};
use data_encoding::HEXLOWER;
use memchr::memmem;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::draft::{body, sum_digits};
use super::merkle::{self, Hash};
use crate::{ObjectId, TokenId};

/// The record version that this code writes.
pub const VERSION: u64 = 2;
/// The first one, which it reads too.
pub(super) const FIRST_VERSION: u64 = 1;

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

/// A text from outside, no longer than a record may carry.
pub(super) fn cut(text: &str) -> &str {
    match text.char_indices().nth(MAX_TEXT_CHARS) {
        Some((end, _)) => &text[..end],
        None => text,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crc: Option<String>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sum: Option<String>,
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
            Ok(record) if (FIRST_VERSION..=VERSION).contains(&record.v) => record,
            parsed => return Err(foreign(line, parsed.err())),
        };
        let canonical = serde_json::to_vec(&record).map_err(|error| format!("not a journal record ({error})"))?;
        if canonical != line {
            return Err("the bytes are not in canonical form: the line was edited".to_owned());
        }
        let holds = record
            .summed(line)
            .is_some_and(|(member, said)| said.as_bytes() == sum_digits(&[&line[..member.start], &line[member.end..]]));
        if !holds {
            return Err("the check sum does not match: the line is damaged or was edited".to_owned());
        }
        Ok(record)
    }

    /// Where the member with the check sum stands in the record's line, and what it says. Before version 1's come only `app`, `boot`, `change`
    /// and `client`, after the later ones' only `time`, `token`, `v` and `with`, in whose strings a quote is escaped: the member's text
    /// cannot occur there.
    fn summed(&self, line: &[u8]) -> Option<(core::ops::Range<usize>, &str)> {
        let (said, at) = match (&self.crc, &self.sum, self.v) {
            (Some(said), None, FIRST_VERSION) => (said, memmem::find(line, format!("\"crc\":\"{said}\",").as_bytes())?),
            (None, Some(said), VERSION) => (said, memmem::rfind(line, format!("\"sum\":\"{said}\",").as_bytes())?),
            _ => return None,
        };
        Some((at..at + "\"sum\":\"\",".len() + said.len(), said))
    }

    /// The hash that the next record names: of the line's leaf in the tree; of a record of version 1, of the line alone.
    pub(super) fn hash(&self, line: &[u8]) -> Hash {
        if self.v == FIRST_VERSION { Sha256::digest(line).into() } else { merkle::leaf(line) }
    }
}

/// Why a line is no record of a version that this program reads.
fn foreign(line: &[u8], error: Option<serde_json::Error>) -> String {
    let known = FIRST_VERSION..=VERSION;
    match (serde_json::from_slice::<Version>(line), error) {
        (Ok(Version { v }), _) if !known.contains(&v) => format!(
            "record version {v} is unknown to this program, which reads versions {FIRST_VERSION} to {VERSION}: use a newer one"
        ),
        (Ok(Version { v }), Some(error)) => format!("not a version {v} record ({error})"),
        (_, Some(error)) => format!("not a journal record ({error})"),
        (_, None) => "not a journal record".to_owned(),
    }
}

impl core::fmt::Display for Fact {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Fact::Number(value) => write!(f, "{value}"),
            Fact::Text(value) => f.write_str(value),
        }
    }
}
