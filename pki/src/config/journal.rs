//! `[journal]`: the record of every change.

use crate::x509::algorithm::KeySpec;
use serde::Deserialize;

/// `[journal]` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenJournal {
    key: String,
    checkpoint_hours: u32,
}

impl Default for WrittenJournal {
    fn default() -> Self {
        Self { key: "ec:P-256".to_owned(), checkpoint_hours: 1 }
    }
}

/// `[journal]` as meant.
pub(crate) struct JournalSection {
    /// Kind of the key that signs checkpoints.
    pub(crate) key: KeySpec,
    /// How often a checkpoint is signed.
    pub(crate) checkpoint_seconds: i64,
}

impl WrittenJournal {
    /// What is meant.
    ///
    /// # Errors
    /// The first wrong key with a sentence.
    pub(super) fn mean(self) -> Result<JournalSection, String> {
        if !(1..=24 * 31).contains(&self.checkpoint_hours) {
            return Err("journal.checkpoint_hours must be 1 to 744".to_owned());
        }
        Ok(JournalSection {
            key: self.key.parse().map_err(|fault| format!("journal.key: {fault}"))?,
            checkpoint_seconds: i64::from(self.checkpoint_hours) * 3600,
        })
    }
}
