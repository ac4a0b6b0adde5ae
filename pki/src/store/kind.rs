//! What authorities are for, and the words for it.

use super::record::{Authority, ROOT};

/// What an authority is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthorityKind {
    /// Self-signed.
    Root,
    /// Certifies other authorities.
    Intermediate,
    /// Certifies devices, servers and people, but no authority.
    Issuing,
    /// From elsewhere, with or without its key.
    Imported,
}

/// One row per kind, with its word in the store and on the command line.
const KINDS: &[(AuthorityKind, &str)] = &[
    (AuthorityKind::Root, "root"),
    (AuthorityKind::Intermediate, "intermediate"),
    (AuthorityKind::Issuing, "issuing"),
    (AuthorityKind::Imported, "imported"),
];

impl AuthorityKind {
    /// The word in the store and on the command line.
    pub(crate) fn word(self) -> &'static str {
        KINDS.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }

    /// The kind with this word.
    pub(crate) fn named(word: &str) -> Option<Self> {
        KINDS.iter().find(|row| row.1 == word).map(|row| row.0)
    }

    /// The kind of a record. Records of version 0.1 say it by their id.
    pub(crate) fn of(stored: &Authority) -> Self {
        let by_id = if stored.id == ROOT { Self::Root } else { Self::Issuing };
        Self::named(&stored.kind).unwrap_or(by_id)
    }
}
