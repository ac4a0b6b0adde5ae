//! `[security]`: what PINs are held to.

use super::{ConfigError, range};
use crate::crypto::password::PasswordFunction;
use serde::Deserialize;
use std::time::Duration;

/// `[security]` as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecurityTable {
    /// Shortest PIN, in bytes: at least 4.
    pub pin_min_length: usize,
    /// Longest PIN, in bytes: at most 256.
    pub pin_max_length: usize,
    /// Wrong PINs until the PIN is locked: 3 to 100.
    pub max_failed_logins: u32,
    /// The function that stretches new PINs, and passphrases of backups.
    pub pin_kdf: PinKdf,
    /// PBKDF2 rounds for new PINs: 100000 to 10000000.
    pub pbkdf2_iterations: u32,
    /// Argon2id memory in MiB for new PINs: 19 to 1024.
    pub argon2_memory_mib: u32,
    /// Argon2id passes for new PINs: 2 to 64.
    pub argon2_passes: u32,
    /// Whether the SO PIN of tokens that are initialised from now on opens the master key.
    pub so_holds_master_key: bool,
}

/// The function that stretches PINs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PinKdf {
    /// PBKDF2-HMAC-SHA256.
    Pbkdf2,
    /// Argon2id: guessing costs memory too. Not approved by FIPS 140-3.
    Argon2id,
}

impl Default for SecurityTable {
    fn default() -> Self {
        SecurityTable {
            pin_min_length: 8,
            pin_max_length: 64,
            max_failed_logins: 10,
            pin_kdf: PinKdf::Pbkdf2,
            pbkdf2_iterations: 600_000,
            argon2_memory_mib: 64,
            argon2_passes: 3,
            so_holds_master_key: true,
        }
    }
}

impl SecurityTable {
    /// Checks every value.
    pub(super) fn resolve(&self) -> Result<PinConfig, ConfigError> {
        if self.pin_min_length < 4 {
            return Err(range("security.pin_min_length", self.pin_min_length, "at least 4 bytes"));
        }
        if !(self.pin_min_length..=256).contains(&self.pin_max_length) {
            return Err(range(
                "security.pin_max_length",
                self.pin_max_length,
                "at least security.pin_min_length and at most 256 bytes",
            ));
        }
        if !(3..=100).contains(&self.max_failed_logins) {
            return Err(range("security.max_failed_logins", self.max_failed_logins, "3 to 100"));
        }
        if !(100_000..=10_000_000).contains(&self.pbkdf2_iterations) {
            return Err(range("security.pbkdf2_iterations", self.pbkdf2_iterations, "100000 to 10000000"));
        }
        if !(19..=1024).contains(&self.argon2_memory_mib) {
            return Err(range("security.argon2_memory_mib", self.argon2_memory_mib, "19 to 1024"));
        }
        if !(2..=64).contains(&self.argon2_passes) {
            return Err(range("security.argon2_passes", self.argon2_passes, "2 to 64"));
        }
        Ok(PinConfig {
            min_length: self.pin_min_length,
            max_length: self.pin_max_length,
            max_attempts: self.max_failed_logins,
            so_holds_master_key: self.so_holds_master_key,
            function: match self.pin_kdf {
                PinKdf::Pbkdf2 => PasswordFunction::Pbkdf2 { iterations: self.pbkdf2_iterations },
                PinKdf::Argon2id => PasswordFunction::Argon2id {
                    memory_kib: self.argon2_memory_mib << 10,
                    passes: self.argon2_passes,
                    lanes: 1,
                },
            },
            ..PinConfig::default()
        })
    }
}

/// PIN rules.
#[derive(Clone, Debug)]
pub struct PinConfig {
    /// Shortest new PIN, in bytes.
    pub min_length: usize,
    /// Longest new PIN, in bytes.
    pub max_length: usize,
    /// Wrong PINs until the PIN is locked.
    pub max_attempts: u32,
    /// Stretches new PINs.
    pub function: PasswordFunction,
    /// Whether the SO PIN of a new token opens its master key.
    pub so_holds_master_key: bool,
    /// Wrong PINs from one client until that client must wait; `daemon.max_login_attempts`.
    pub client_attempts: u32,
    /// How long it waits the first time, doubling; `daemon.login_cooldown_secs`.
    pub client_cooldown: Duration,
}

impl Default for PinConfig {
    fn default() -> Self {
        let written = SecurityTable::default();
        PinConfig {
            min_length: written.pin_min_length,
            max_length: written.pin_max_length,
            max_attempts: written.max_failed_logins,
            function: PasswordFunction::Pbkdf2 { iterations: written.pbkdf2_iterations },
            so_holds_master_key: written.so_holds_master_key,
            client_attempts: 5,
            client_cooldown: Duration::from_secs(60),
        }
    }
}
