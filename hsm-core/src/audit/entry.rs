//! What an operation reports to the journal.
//!
//! An entry has no field that can hold a PIN, a key value or a plaintext: numbers, names from the PKCS#11 tables, identifiers, digests,
//! and the few texts that [`Fact`] admits.

use std::borrow::Cow;

use ck::{Mechanism, ObjectClass, Rv};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::{ObjectId, TokenId};

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

/// Which operations leave a record in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Every operation.
    All,
    /// Operations with keys.
    Crypto,
    /// Logins and PINs.
    Auth,
    /// Administration.
    Admin,
    /// None: refused.
    None,
}

impl Level {
    /// Whether records of this category are kept; the journal's own always are.
    pub(super) fn keeps(self, category: Category) -> bool {
        match category {
            Category::Journal => true,
            Category::Crypto => matches!(self, Level::All | Level::Crypto),
            Category::Auth => matches!(self, Level::All | Level::Auth),
            Category::Admin => matches!(self, Level::All | Level::Admin),
        }
    }
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
}

/// A text from outside, no longer than a record may carry.
pub(super) fn cut(text: &str) -> &str {
    match text.char_indices().nth(MAX_TEXT_CHARS) {
        Some((end, _)) => &text[..end],
        None => text,
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
