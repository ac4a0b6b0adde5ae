//! `[audit]`: the journal, and the journals of others of which this daemon is a witness.

use super::{ConfigError, check_path, range};
use crate::audit::{self, Files, Level, Pin, Suite, Witness};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `[audit]` as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditTable {
    /// Must be true: no operation is answered without its record.
    pub enabled: bool,
    /// The journal; beside the store when absent.
    pub log_path: Option<PathBuf>,
    /// Which operations leave a record.
    pub log_level: Level,
    /// Whether a signature waits for its record to be durable.
    pub use_operations: UseRecords,
    /// Length in MiB at which the file is closed and another begun.
    pub file_max_mib: u32,
    /// Age in hours at which the file is closed and another begun.
    pub file_max_hours: u32,
    /// MiB that are to be free on the journal's disk.
    pub min_free_mib: u32,
    /// A file elsewhere that names the journal's head.
    pub anchor: Option<PathBuf>,
    /// Who is told each checkpoint.
    pub witness: Vec<String>,
    /// Whether checkpoints have an ML-DSA-44 signature beside that of Ed25519.
    pub post_quantum: bool,
    /// What the daemon does about a store or a journal that is not what was written.
    pub on_tamper: OnTamper,
}

/// What a daemon does that finds its store or its journal changed by somebody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTamper {
    /// It does not start.
    #[default]
    Refuse,
    /// It starts sealed: it answers health, status and metrics, and nobody can use or change a token.
    Seal,
}

impl AuditTable {
    /// Takes relative paths from `base`, the folder of the file.
    pub fn rebase(&mut self, base: &Path) {
        // An empty path stays empty, to be refused by name.
        for path in [&mut self.log_path, &mut self.anchor] {
            if let Some(path) = path.as_mut().filter(|path| !path.as_os_str().is_empty()) {
                *path = base.join(&*path);
            }
        }
        for witness in &mut self.witness {
            if let Some(Witness::File(path)) = Witness::parse(witness) {
                *witness = Witness::File(base.join(path)).to_string();
            }
        }
    }

    /// Checks every value; a journal without a path lies beside the store.
    pub(super) fn resolve(self, store: &Path) -> Result<AuditConfig, ConfigError> {
        let instead = "no operation is answered without its record; remove the line, and choose the journal's place with \
                       audit.log_path";
        if !self.enabled {
            return Err(ConfigError::NotOffered { key: "audit.enabled = false".into(), instead });
        }
        if self.log_level == Level::None {
            return Err(ConfigError::NotOffered { key: "audit.log_level = \"none\"".into(), instead });
        }
        let log_path = self.log_path.unwrap_or_else(|| store.with_file_name("craton_hsm_audit.jsonl"));
        check_path("audit.log_path", &log_path)?;
        if !(1..=1024).contains(&self.file_max_mib) {
            return Err(range("audit.file_max_mib", self.file_max_mib, "1 to 1024 MiB"));
        }
        if !(1..=8760).contains(&self.file_max_hours) {
            return Err(range("audit.file_max_hours", self.file_max_hours, "1 to 8760 hours"));
        }
        if self.min_free_mib > 1 << 20 {
            return Err(range("audit.min_free_mib", self.min_free_mib, "0 to 1048576 MiB"));
        }
        let files = Files {
            max_bytes: u64::from(self.file_max_mib) << 20,
            max_age: Duration::from_secs(u64::from(self.file_max_hours) * 3600),
            min_free: u64::from(self.min_free_mib) << 20,
        };
        if let Some(anchor) = &self.anchor {
            check_elsewhere("audit.anchor", anchor, &log_path)?;
        }
        let witnesses = witnesses(&self.witness, &log_path)?;
        let (log_level, use_operations) = (self.log_level, self.use_operations);
        let suite = if self.post_quantum { Suite::WithMlDsa44 } else { Suite::Ed25519 };
        let (anchor, on_tamper) = (self.anchor, self.on_tamper);
        Ok(AuditConfig { log_path, log_level, use_operations, files, anchor, witnesses, suite, on_tamper })
    }
}

impl Default for AuditTable {
    fn default() -> Self {
        AuditTable {
            enabled: true,
            log_path: None,
            log_level: Level::All,
            use_operations: UseRecords::Written,
            file_max_mib: 16,
            file_max_hours: 24,
            min_free_mib: 64,
            anchor: None,
            witness: Vec::new(),
            post_quantum: false,
            on_tamper: OnTamper::Refuse,
        }
    }
}

/// How far the record of a use operation (sign, decrypt, MAC) must be before the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UseRecords {
    /// Handed to the operating system; durable at most 10 ms later.
    Written,
    /// Durable.
    Synced,
}

/// The journal.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// Path of the journal.
    pub log_path: PathBuf,
    /// Which operations leave a record.
    pub log_level: Level,
    /// How far the record of a use operation must be before the answer.
    pub use_operations: UseRecords,
    /// When a file is closed and another begun.
    pub files: Files,
    /// A file elsewhere that names the journal's head.
    pub anchor: Option<PathBuf>,
    /// Who is told each checkpoint.
    pub witnesses: Vec<Witness>,
    /// With what checkpoints are signed.
    pub suite: Suite,
    /// What is done about a store or a journal that is not what was written.
    pub on_tamper: OnTamper,
}

impl AuditConfig {
    /// How the journal is opened by who knows no more of it than this.
    pub(crate) fn options(&self) -> audit::Options {
        audit::Options {
            path: self.log_path.clone(),
            level: self.log_level,
            known: None,
            anchor: self.anchor.clone(),
            witnesses: self.witnesses.clone(),
            files: self.files,
        }
    }
}

fn witnesses(written: &[String], journal: &Path) -> Result<Vec<Witness>, ConfigError> {
    let rule =
        "one of \"file:PATH\", \"syslog\", \"syslog:SOCKET\", \"daemon:unix:SOCKET\", \"daemon:https://HOST:PORT\"";
    let read = |text: &String| {
        let witness = Witness::parse(text).ok_or_else(|| range("audit.witness", text, rule))?;
        if let Witness::File(path) = &witness {
            check_elsewhere("audit.witness", path, journal)?;
        }
        Ok(witness)
    };
    written.iter().map(read).collect()
}

/// A file that shall tell of a journal that was rolled back.
fn check_elsewhere(key: &'static str, path: &Path, journal: &Path) -> Result<(), ConfigError> {
    check_path(key, path)?;
    if path.parent() == journal.parent() {
        let rule = "it must not lie beside the journal: whoever puts an older journal back would put it back too";
        return Err(range(key, path.display(), rule));
    }
    Ok(())
}

/// Of which journals this daemon is a witness.
#[derive(Clone, Debug, Default)]
pub struct WitnessConfig {
    /// Where their newest checkpoints are kept.
    pub directory: PathBuf,
    /// Whose.
    pub journals: Vec<WitnessedJournal>,
}

/// The journal of another daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessedJournal {
    /// Its name.
    pub origin: String,
    /// The key of its first checkpoint here, and each that its predecessor did not sign for.
    pub keys: Vec<Pin>,
}

/// The name of a witnessed journal as a part of a file's name.
pub fn witness_stem(origin: &str) -> String {
    origin.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect()
}
