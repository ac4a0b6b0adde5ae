//! `[token]`: slots and sessions.

use super::{ConfigError, range};
use serde::Deserialize;
use std::path::PathBuf;

/// `[token]` as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenTable {
    /// Label of the first token until it is initialised: 1 to 32 printable ASCII characters.
    pub label: String,
    /// Directory of the store.
    pub storage_path: Option<PathBuf>,
    /// Sessions per application.
    pub max_sessions: u32,
    /// Read-write sessions per application.
    pub max_rw_sessions: u32,
    /// Sessions per client (user number or certificate), of all its applications.
    pub max_sessions_per_client: u32,
    /// Sessions of all clients together.
    pub max_sessions_total: u32,
    /// False: the token lives in memory and is gone when the daemon stops.
    pub persist_objects: bool,
    /// Number of slots.
    pub slot_count: u32,
    /// Serial number of slot 0: 1 to 16 printable ASCII characters; random when absent.
    pub serial_number: Option<String>,
}

impl Default for TokenTable {
    fn default() -> Self {
        TokenTable {
            label: "Craton HSM Token 0".into(),
            storage_path: None,
            max_sessions: 1024,
            max_rw_sessions: 1024,
            max_sessions_per_client: 12_288,
            max_sessions_total: 16_384,
            persist_objects: true,
            slot_count: 1,
            serial_number: None,
        }
    }
}

impl TokenTable {
    /// Checks every value.
    pub(super) fn resolve(self) -> Result<TokenConfig, ConfigError> {
        printable("token.label", &self.label, 32)?;
        if let Some(serial) = &self.serial_number {
            printable("token.serial_number", serial, 16)?;
        }
        if !(1..=10_000).contains(&self.max_sessions) {
            return Err(range("token.max_sessions", self.max_sessions, "1 to 10000"));
        }
        let defaults = TokenTable::default();
        let max_rw_sessions = within(self.max_rw_sessions, defaults.max_rw_sessions, self.max_sessions);
        if !(1..=self.max_sessions).contains(&max_rw_sessions) {
            return Err(range("token.max_rw_sessions", self.max_rw_sessions, "1 to token.max_sessions"));
        }
        if !(1..=1_000_000).contains(&self.max_sessions_total) {
            return Err(range("token.max_sessions_total", self.max_sessions_total, "1 to 1000000"));
        }
        let written = self.max_sessions_per_client;
        let max_sessions_per_client = within(written, defaults.max_sessions_per_client, self.max_sessions_total);
        if !(1..=self.max_sessions_total).contains(&max_sessions_per_client) {
            return Err(range("token.max_sessions_per_client", written, "1 to token.max_sessions_total"));
        }
        if !(1..=256).contains(&self.slot_count) {
            return Err(range("token.slot_count", self.slot_count, "1 to 256"));
        }
        Ok(TokenConfig {
            label: self.label,
            max_sessions: self.max_sessions,
            max_rw_sessions,
            max_sessions_per_client,
            max_sessions_total: self.max_sessions_total,
            persist_objects: self.persist_objects,
            slot_count: self.slot_count,
            serial_number: self.serial_number,
        })
    }
}

/// Slots and sessions.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// Label of slot 0 until its token is initialised.
    pub label: String,
    /// Sessions per application.
    pub max_sessions: u32,
    /// Read-write sessions per application.
    pub max_rw_sessions: u32,
    /// Sessions per client (user number or certificate), of all its applications.
    pub max_sessions_per_client: u32,
    /// Sessions of all clients together.
    pub max_sessions_total: u32,
    /// False: nothing is written to disk.
    pub persist_objects: bool,
    /// Number of slots.
    pub slot_count: u32,
    /// Serial number of slot 0, if the operator chose one.
    pub serial_number: Option<String>,
}

/// The default of a limit must not contradict what is written of another.
fn within(limit: u32, default: u32, most: u32) -> u32 {
    if limit == default { limit.min(most) } else { limit }
}

fn printable(key: &'static str, value: &str, longest: usize) -> Result<(), ConfigError> {
    let good = (1..=longest).contains(&value.len()) && value.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    match good {
        true => Ok(()),
        false => Err(range(key, format!("{value:?}"), format!("1 to {longest} printable ASCII characters"))),
    }
}
