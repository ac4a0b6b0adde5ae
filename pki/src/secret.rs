//! Secrets, or where they come from.

use cryptoki::types::AuthPin;
use serde::Deserialize;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A secret, or where it comes from. What is not a text is refused without being said again.
pub(crate) struct WrittenSecret(pub(crate) String);

impl<'de> Deserialize<'de> for WrittenSecret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer) {
            Ok(toml::Value::String(text)) => Ok(Self(text)),
            _ => Err(serde::de::Error::custom("a pin or token is a text in quotes: \"env:NAME\" or \"file:PATH\"")),
        }
    }
}

/// Where a secret comes from. Never shown.
pub(crate) enum SecretSource {
    /// An environment variable.
    Environment(String),
    /// First line of a file that only its owner may read.
    File(PathBuf),
    /// The configuration file itself.
    Inline(AuthPin),
}

impl SecretSource {
    /// Reads how a source is written; a path is relative to `folder`.
    pub(crate) fn parse(written: &str, folder: &Path) -> Self {
        if let Some(name) = written.strip_prefix("env:") {
            Self::Environment(name.to_owned())
        } else if let Some(path) = written.strip_prefix("file:") {
            Self::File(folder.join(path))
        } else {
            Self::Inline(AuthPin::from(written.to_owned()))
        }
    }

    /// Reads how an argument names a source. Others see arguments, so the secret itself is refused.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn of_argument(written: &str) -> Result<Self, String> {
        match Self::parse(written, Path::new("")) {
            Self::Inline(_) => {
                Err("write env:NAME or file:PATH: what stands in arguments can be seen by others".to_owned())
            }
            source => Ok(source),
        }
    }

    /// Reads the secret.
    ///
    /// # Errors
    /// A sentence that names the source, never the secret.
    pub(crate) fn read(&self) -> Result<AuthPin, String> {
        match self {
            Self::Environment(name) => std::env::var(name)
                .ok()
                .filter(|value| !value.is_empty())
                .map(AuthPin::from)
                .ok_or_else(|| format!("the environment variable {name} is not set")),
            Self::File(path) => {
                let shown = path.display();
                let mode = std::fs::metadata(path).map_err(|fault| format!("{shown}: {fault}"))?.permissions().mode();
                if mode & 0o077 != 0 {
                    return Err(format!("{shown} holds a secret and may be read by others: chmod 600 {shown}"));
                }
                let text = std::fs::read_to_string(path).map_err(|fault| format!("{shown}: {fault}"))?;
                let line = text.lines().next().unwrap_or_default().to_owned();
                if line.is_empty() { Err(format!("{shown} is empty")) } else { Ok(AuthPin::from(line)) }
            }
            Self::Inline(secret) => Ok(secret.clone()),
        }
    }
}
