//! `[log]`: what is told, and how.

use serde::Deserialize;

/// `[log]` as written.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenLog {
    format: Option<String>,
    filter: Option<String>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[log]` as meant.
pub(crate) struct LogSection {
    /// How lines look.
    pub(crate) format: LogFormat,
    /// Which events are written, in the words of `tracing`.
    pub(crate) filter: String,
}

impl WrittenLog {
    /// What is meant.
    ///
    /// # Errors
    /// The first wrong key with a sentence.
    pub(super) fn mean(self) -> Result<LogSection, String> {
        let format = match self.format.as_deref() {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => return Err(format!("log.format '{other}' must be text or json")),
        };
        Ok(LogSection { format, filter: self.filter.unwrap_or_else(|| "info".to_owned()) })
    }
}
