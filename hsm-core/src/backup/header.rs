//! The archive's plain header: canonical JSON, its limits, and nothing that it could not say without a PIN.

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::damaged;
use crate::Result;
use crate::envelope::Recipient;

/// A header is never longer.
pub(super) const MAX_HEADER_BYTES: u32 = 1 << 20;
/// An archive has no more recipients: each costs a reader one password derivation.
pub(super) const MAX_RECIPIENTS: usize = 8;

/// The newest durable journal record when the snapshot was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditHead {
    /// The public key that the journal named first: what a verifier needs. Absent in format 1, and for a journal without signatures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) first_key: Option<String>,
    pub(super) hash: String,
    pub(super) seq: u64,
}

/// A token in the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenLine {
    /// Its lasting name, hexadecimal.
    pub id: String,
    /// Whether `C_InitToken` was called on it.
    pub initialized: bool,
    /// Its label.
    pub label: String,
    /// Number of its token objects, public and private.
    pub objects: u64,
    /// Its serial number.
    pub serial: String,
    /// The slot that it sits in.
    pub slot: u64,
}

/// What makes an archive of files one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FilesLine {
    pub(super) count: u64,
    /// Random, so that two archives of files beside one token's archive have different keys.
    pub(super) salt: String,
}

/// The header; the fields stand in byte order of their names, which is the canonical order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) audit: AuditHead,
    pub(super) created: u64,
    pub(super) file: String,
    /// In an archive of files: how many. Absent in a token's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) files: Option<FilesLine>,
    pub(super) generation: u64,
    pub(super) program: String,
    pub(super) recipients: Vec<Recipient>,
    pub(super) records: u64,
    pub(super) store: String,
    pub(super) tokens: Vec<TokenLine>,
}

impl Header {
    /// The canonical bytes.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|_| damaged("its header cannot be encoded"))
    }

    /// Reads the canonical bytes, and no others.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let header: Header = serde_json::from_slice(bytes).map_err(|_| damaged("its header is not one"))?;
        if header.encode()? != bytes {
            return Err(damaged("its header is not in canonical form"));
        }
        if header.recipients.is_empty() || header.recipients.len() > MAX_RECIPIENTS {
            return Err(damaged("its header has no recipient, or too many"));
        }
        Ok(header)
    }

    /// The token with this identifier, for people.
    pub(super) fn token_name(&self, id: &str) -> String {
        match self.tokens.iter().find(|token| token.id == id) {
            Some(token) => format!("{:?} (serial {})", token.label, token.serial),
            None => id.to_owned(),
        }
    }
}

/// Lower-case hexadecimal of exactly `N` bytes.
pub(super) fn unhex<const N: usize>(text: &str) -> Result<[u8; N]> {
    let bytes = HEXLOWER.decode(text.as_bytes()).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| damaged("a field of its header is malformed"))
}
