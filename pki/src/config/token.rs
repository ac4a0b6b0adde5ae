//! `[token]`: where the keys are, and how the token is reached.

use crate::ca::guard::Guard;
use crate::secret::{SecretSource, WrittenSecret};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest wait for a token: whoever asked has gone long before.
const MAX_RECONNECT_SECONDS: u64 = 3600;

/// `[token]` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenToken {
    module: PathBuf,
    label: String,
    pin: WrittenSecret,
    #[serde(default = "default_key_label_prefix")]
    key_label_prefix: String,
    #[serde(default = "default_max_sessions")]
    max_sessions: usize,
    #[serde(default = "default_reconnect_seconds")]
    reconnect_seconds: u64,
    #[serde(default)]
    guard: WrittenGuard,
}

/// A boolean, or "auto".
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum WrittenGuard {
    Switch(bool),
    Word(String),
}

impl Default for WrittenGuard {
    fn default() -> Self {
        Self::Word("auto".to_owned())
    }
}

impl WrittenGuard {
    /// What is meant.
    ///
    /// # Errors
    /// The first wrong key with a sentence.
    pub(super) fn mean(&self) -> Result<Guard, String> {
        match self {
            Self::Switch(true) => Ok(Guard::Always),
            Self::Switch(false) => Ok(Guard::Never),
            Self::Word(word) if word == "auto" => Ok(Guard::Auto),
            Self::Word(word) => Err(format!("token.guard '{word}' must be true, false or \"auto\"")),
        }
    }
}

pub(super) fn default_key_label_prefix() -> String {
    "craton-pki".to_owned()
}

pub(super) fn default_max_sessions() -> usize {
    8
}

pub(super) fn default_reconnect_seconds() -> u64 {
    5
}

/// `[token]` as meant.
pub(crate) struct TokenSection {
    /// Path of the PKCS#11 module.
    pub(crate) module: PathBuf,
    /// Label of the token.
    pub(crate) label: String,
    /// Where the PIN comes from; it is read only when the token is opened.
    pub(crate) pin: SecretSource,
    /// Begin of the labels of our keys.
    pub(crate) key_label_prefix: String,
    /// Most sessions at once.
    pub(crate) max_sessions: usize,
    /// How long to wait for a token that went away.
    pub(crate) reconnect: Duration,
    /// Whether the token guards the keys of new authorities.
    pub(crate) guard: Guard,
}

impl WrittenToken {
    /// What is meant.
    ///
    /// # Errors
    /// The first wrong key with a sentence.
    pub(super) fn mean(self, folder: &Path, warnings: &mut Vec<String>) -> Result<TokenSection, String> {
        if !(2..=256).contains(&self.max_sessions) {
            return Err("token.max_sessions must be 2 to 256".to_owned());
        }
        if self.reconnect_seconds > MAX_RECONNECT_SECONDS {
            return Err(format!("token.reconnect_seconds must be 0 to {MAX_RECONNECT_SECONDS}"));
        }
        let pin = SecretSource::parse(&self.pin.0, folder);
        if matches!(pin, SecretSource::Inline(_)) {
            warnings.push("token.pin stands in the configuration file: use env:NAME or file:PATH".to_owned());
        }
        Ok(TokenSection {
            module: folder.join(self.module),
            label: self.label,
            pin,
            key_label_prefix: self.key_label_prefix,
            max_sessions: self.max_sessions,
            reconnect: Duration::from_secs(self.reconnect_seconds),
            guard: self.guard.mean()?,
        })
    }
}
