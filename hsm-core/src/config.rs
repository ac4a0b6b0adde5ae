//! The tables `[token] [security] [store] [audit] [algorithms] [policy]` of `craton_hsm.toml`: as written, then as meant.
//!
//! The daemon parses the file (its root struct has one field per table and adds `[daemon]`); this module says what the
//! tables may hold and what they mean. An unknown key is refused by the parser, a key that is deliberately not honoured
//! by [`Written::resolve`], with a sentence that names its replacement.

mod algorithms;
mod audit;
mod policy;
mod security;
mod token;

pub use crate::audit::Level as LogLevel;
pub use crate::crypto::password::PasswordFunction;
pub use algorithms::{AlgorithmsConfig, AlgorithmsTable};
pub use audit::{AuditConfig, AuditTable, OnTamper, UseRecords, WitnessConfig, WitnessedJournal, witness_stem};
pub use policy::{PolicyConfig, PolicyTable, Profile};
pub use security::{PinConfig, PinKdf, SecurityTable};
pub use token::{TokenConfig, TokenTable};

use serde::Deserialize;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Why a configuration is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value is outside its range.
    #[error("{key} = {value} is not allowed: {rule}")]
    Range {
        /// Table and key.
        key: &'static str,
        /// What was written.
        value: String,
        /// What is allowed.
        rule: String,
    },
    /// The key is known and deliberately not honoured.
    #[error("{key} is not offered: {instead}")]
    NotOffered {
        /// Table and key, with the value.
        key: String,
        /// What to write instead.
        instead: &'static str,
    },
    /// The file can be changed by others.
    #[error("{} has mode {mode:03o}: it must not be writable by group or others (chmod go-w)", path.display())]
    FileMode {
        /// The configuration file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file cannot be examined.
    #[error("{}: {reason}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}

fn range(key: &'static str, value: impl ToString, rule: impl Into<String>) -> ConfigError {
    ConfigError::Range { key, value: value.to_string(), rule: rule.into() }
}

/// Refuses a configuration file that its group or others may write.
pub fn check_file_mode(path: &Path) -> Result<(), ConfigError> {
    let metadata = std::fs::metadata(path)
        .map_err(|error| ConfigError::Io { path: path.to_owned(), reason: error.to_string() })?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(ConfigError::FileMode { path: path.to_owned(), mode });
    }
    Ok(())
}

/// `[store]` as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreTable {
    /// Path of the store key; beside the store when absent.
    pub key_file: Option<PathBuf>,
}

/// `[backup]` as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackupTable {
    /// A directory that always holds a copy of the newest state.
    pub stream: Option<PathBuf>,
    /// Public keys, as `craton-hsm-admin backup keygen` makes them, whose secret halves open the copy.
    pub stream_recipients: Vec<PathBuf>,
}

/// The tables of this crate, as written.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// `[token]`
    pub token: TokenTable,
    /// `[security]`
    pub security: SecurityTable,
    /// `[store]`
    pub store: StoreTable,
    /// `[audit]`
    pub audit: AuditTable,
    /// `[algorithms]`
    pub algorithms: AlgorithmsTable,
    /// `[policy]`
    pub policy: PolicyTable,
    /// `[backup]`
    pub backup: BackupTable,
}

/// What the tables mean.
#[derive(Clone, Debug)]
pub struct Config {
    /// Slots and sessions.
    pub token: TokenConfig,
    /// PIN rules.
    pub pin: PinConfig,
    /// Where the store is.
    pub store: StoreConfig,
    /// The journal.
    pub audit: AuditConfig,
    /// Which algorithms are offered.
    pub algorithms: AlgorithmsConfig,
    /// What keys may do.
    pub policy: PolicyConfig,
    /// The copy of the newest state, if there shall be one.
    pub stream: Option<StreamConfig>,
    /// The journals of others of which this daemon is a witness; the door's configuration names them.
    pub witness: WitnessConfig,
}

/// A copy of the newest state.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// Where.
    pub directory: PathBuf,
    /// Public keys whose secret halves open it; at least one.
    pub recipients: Vec<PathBuf>,
}

/// Where the store is.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The store's directory.
    pub path: PathBuf,
    /// The store key, if it is not beside the store.
    pub key_file: Option<PathBuf>,
}

/// The store's home on an installed machine.
const INSTALLED_STORE: &str = "/var/lib/craton-hsm/store";
const LOCAL_STORE: &str = "./craton_hsm_store";

impl Written {
    /// Checks every value and fills in what depends on the machine.
    ///
    /// # Errors
    /// The first key whose value is out of range, contradicts another, or is not offered.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        if self.algorithms.fips_approved_only && self.security.pin_kdf == PinKdf::Argon2id {
            return Err(ConfigError::NotOffered {
                key: "security.pin_kdf = \"argon2id\" together with algorithms.fips_approved_only".into(),
                instead: "the approved function is \"pbkdf2\"",
            });
        }
        let store = store_config(self.token.storage_path.as_deref(), self.store)?;
        Ok(Config {
            token: self.token.resolve()?,
            pin: self.security.resolve()?,
            audit: self.audit.resolve(&store.path)?,
            store,
            algorithms: self.algorithms.resolve()?,
            policy: self.policy.resolve()?,
            stream: stream_config(self.backup)?,
            witness: WitnessConfig::default(),
        })
    }
}

fn store_config(path: Option<&Path>, table: StoreTable) -> Result<StoreConfig, ConfigError> {
    let path = match path {
        Some(path) => path.to_owned(),
        None => default_store(),
    };
    check_path("token.storage_path", &path)?;
    if let Some(key_file) = &table.key_file {
        check_path("store.key_file", key_file)?;
    }
    Ok(StoreConfig { path, key_file: table.key_file })
}

fn default_store() -> PathBuf {
    let installed = Path::new(INSTALLED_STORE);
    match installed.parent().is_some_and(Path::is_dir) {
        true => installed.to_owned(),
        false => PathBuf::from(LOCAL_STORE),
    }
}

/// No `..`, no NUL, no symbolic link on the way: what is checked is then what is opened.
fn check_path(key: &'static str, path: &Path) -> Result<(), ConfigError> {
    let refuse = |rule: &str| Err(range(key, format!("{:?}", path.display().to_string()), rule));
    if path.as_os_str().is_empty() {
        return refuse("it must not be empty");
    }
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return refuse("it must not contain a NUL byte");
    }
    let mut walked = PathBuf::new();
    for component in path.components() {
        if component == Component::ParentDir {
            return refuse("it must not contain ..");
        }
        walked.push(component);
        if walked.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_symlink()) {
            return refuse(&format!("{} is a symbolic link", walked.display()));
        }
    }
    Ok(())
}

fn stream_config(table: BackupTable) -> Result<Option<StreamConfig>, ConfigError> {
    let Some(directory) = table.stream else {
        return match table.stream_recipients.is_empty() {
            true => Ok(None),
            false => Err(range("backup.stream_recipients", "set", "it needs backup.stream")),
        };
    };
    check_path("backup.stream", &directory)?;
    if !(1..=8).contains(&table.stream_recipients.len()) {
        let count = table.stream_recipients.len();
        return Err(range("backup.stream_recipients", count, "1 to 8 public keys: a copy opens for nobody else"));
    }
    Ok(Some(StreamConfig { directory, recipients: table.stream_recipients }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, default)]
    #[derive(Default)]
    struct Root {
        token: TokenTable,
        security: SecurityTable,
        store: StoreTable,
        audit: AuditTable,
        algorithms: AlgorithmsTable,
        policy: PolicyTable,
        backup: BackupTable,
    }

    fn resolve(text: &str) -> Result<Config, String> {
        let root: Root = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let written = Written {
            token: root.token,
            security: root.security,
            store: root.store,
            audit: root.audit,
            algorithms: root.algorithms,
            policy: root.policy,
            backup: root.backup,
        };
        written.resolve().map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        let config = resolve("").unwrap();
        assert_eq!(config.token.label, "Craton HSM Token 0");
        assert_eq!(config.pin.function, PasswordFunction::Pbkdf2 { iterations: 600_000 });
        assert_eq!((config.pin.min_length, config.pin.max_length, config.pin.max_attempts), (8, 64, 10));
        assert!(config.token.persist_objects && config.algorithms.enable_pqc);
        assert_eq!(config.policy.profile, Profile::Safe);
    }

    #[test]
    fn the_journal_lies_beside_the_store() {
        let config = resolve("[token]\nstorage_path = \"./somewhere/store\"").unwrap();
        assert_eq!(config.audit.log_path, Path::new("./somewhere/craton_hsm_audit.jsonl"));
    }

    #[test]
    fn refusals_name_the_key_and_the_rule() {
        let rows = [
            ("[token]\nslots = 3", "unknown field `slots`"),
            ("[token]\nlabel = \"\"", "token.label"),
            ("[token]\nlabel = \"0123456789012345678901234567890123\"", "1 to 32"),
            ("[token]\nserial_number = \"01234567890123456\"", "1 to 16"),
            ("[token]\nserial_number = \"\\u0007\"", "printable"),
            ("[token]\nmax_sessions = 0", "1 to 10000"),
            ("[token]\nmax_sessions = 10001", "1 to 10000"),
            ("[token]\nmax_sessions = 5\nmax_rw_sessions = 6", "token.max_rw_sessions"),
            ("[token]\nmax_sessions_total = 0", "token.max_sessions_total"),
            ("[token]\nmax_sessions_total = 9\nmax_sessions_per_client = 10", "token.max_sessions_per_client"),
            ("[token]\nslot_count = 257", "1 to 256"),
            ("[token]\nstorage_path = \"a/../b\"", ".."),
            ("[token]\nstorage_path = \"a\\u0000b\"", "NUL"),
            ("[store]\nkey_file = \"../key\"", "store.key_file"),
            ("[security]\npin_min_length = 3", "at least 4"),
            ("[security]\npin_min_length = 20\npin_max_length = 19", "security.pin_max_length"),
            ("[security]\npin_max_length = 257", "at most 256"),
            ("[security]\nmax_failed_logins = 2", "3 to 100"),
            ("[security]\npbkdf2_iterations = 99999", "100000 to 10000000"),
            ("[security]\npin_kdf = \"scrypt\"", "unknown variant"),
            ("[security]\nargon2_memory_mib = 18", "19 to 1024"),
            ("[security]\nargon2_passes = 1", "2 to 64"),
            ("[security]\npin_kdf = \"argon2id\"\n[algorithms]\nfips_approved_only = true", "security.pin_kdf"),
            ("[audit]\nenabled = false", "audit.enabled = false is not offered"),
            ("[audit]\nlog_level = \"none\"", "audit.log_path"),
            ("[audit]\nlog_level = \"some\"", "unknown variant"),
            ("[token]\nstorage_path = \"d/store\"\n[audit]\nanchor = \"d/anchor\"", "beside the journal"),
            ("[token]\nstorage_path = \"d/store\"\n[audit]\nwitness = [\"file:d/kept\"]", "beside the journal"),
            ("[audit]\nwitness = [\"mail:somebody\"]", "audit.witness"),
            ("[backup]\nstream = \"copies\"", "1 to 8 public keys"),
            ("[backup]\nstream_recipients = [\"k.pub\"]", "needs backup.stream"),
            ("[algorithms]\ncrypto_backend = \"rustcrypto\"", "aws-lc"),
            ("[algorithms]\nfips_approved_only = true\nallow_weak_rsa = true", "algorithms.fips_approved_only"),
            ("[algorithms]\nfips_approved_only = true\nallow_legacy = true", "algorithms.fips_approved_only"),
            ("[policy]\ngcm_caller_iv = true", "policy.gcm_caller_iv"),
            ("[policy]\nprofile = \"loose\"", "unknown variant"),
            ("[policy]\nraw_rsa = true", "profile = \"compat\""),
            ("[policy]\nprofile = \"strict\"\nraw_rsa = true", "profile = \"compat\""),
        ];
        for (text, expected) in rows {
            let refusal = resolve(text).expect_err(text);
            assert!(refusal.contains(expected), "{text}: {refusal}");
        }
    }

    #[test]
    fn a_smaller_session_limit_lowers_the_read_write_default() {
        assert_eq!(resolve("[token]\nmax_sessions = 7").unwrap().token.max_rw_sessions, 7);
    }

    #[test]
    fn compat_opens_only_the_switches_that_are_written() {
        let policy = resolve("[policy]\nprofile = \"compat\"\nraw_rsa = true").unwrap().policy;
        assert!(policy.raw_rsa && !policy.cbc_unwrap && policy.wrap_requires_local);
        assert_eq!(policy.opened(), ["raw_rsa"]);
    }

    #[test]
    fn a_symbolic_link_on_the_way_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        symlink(dir.path(), &link).unwrap();
        let text = format!("[token]\nstorage_path = {:?}", link.join("store"));
        assert!(resolve(&text).unwrap_err().contains("symbolic link"));
    }

    #[test]
    fn a_file_others_may_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("craton_hsm.toml");
        std::fs::write(&file, "").unwrap();
        for (mode, good) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false), (0o666, false)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(check_file_mode(&file).is_ok(), good, "{mode:o}");
        }
        assert!(check_file_mode(&dir.path().join("absent")).is_err());
    }
}
