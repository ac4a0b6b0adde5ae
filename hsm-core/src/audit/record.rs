//! A journal line that was read back: its members and their order, its check sum, and its hash in the chain (`format.md`).

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use memchr::memmem;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::entry::Fact;
use super::merkle::{self, Hash};

/// The record version that this code writes.
pub const VERSION: u64 = 2;
/// The first one, which it reads too.
pub(super) const FIRST_VERSION: u64 = 1;

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
        (Ok(Version { v }), Some(error)) => format!("not a version {v} record ({})", cause(&error)),
        (_, Some(error)) => format!("not a journal record ({})", cause(&error)),
        (_, None) => "not a journal record".to_owned(),
    }
}

/// What was read, without the list of all that could have been there: an operator reads it at night.
fn cause(error: &serde_json::Error) -> String {
    let said = error.to_string();
    said.split_once(", expected one of ").map_or(said.as_str(), |(found, _)| found).to_owned()
}

/// The digits of the CRC-32 of a line, which comes in parts without the member that holds them. It tells damage from forgery at a glance and
/// covers the last line, which no later line's hash covers yet. It is no protection against anybody: the chain is.
fn sum_digits(parts: &[&[u8]]) -> [u8; 8] {
    further_sum(crc32fast::Hasher::new(), parts)
}

/// The same where what comes first is summed already.
pub(super) fn further_sum(mut sum: crc32fast::Hasher, parts: &[&[u8]]) -> [u8; 8] {
    parts.iter().for_each(|part| sum.update(part));
    let mut digits = [0; 8];
    HEXLOWER.encode_mut(&sum.finalize().to_be_bytes(), &mut digits);
    digits
}
