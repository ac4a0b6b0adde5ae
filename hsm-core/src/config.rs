//! The tables `[token] [security] [store] [audit] [algorithms] [policy]` of `craton_hsm.toml`: as written, then as meant.
//!
//! The daemon parses the file (its root struct has one field per table and adds `[daemon]`); this module says what the
//! tables may hold and what they mean. An unknown key is refused by the parser, a key that is deliberately not honoured
//! by [`Written::resolve`], with a sentence that names its replacement.

mod policy;

pub use crate::audit::Level as LogLevel;
pub use crate::crypto::password::PasswordFunction;
pub use policy::{PolicyConfig, PolicyTable, Profile};

use crate::audit::{self, Files, Pin, Suite, Witness};

use serde::Deserialize;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

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

/// `[store]` as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreTable {
    /// Path of the store key; beside the store when absent.
    pub key_file: Option<PathBuf>,
}

/// `[audit]` as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditTable {
    /// Must be true: no operation is answered without its record.
    pub enabled: bool,
    /// The journal; beside the store when absent.
    pub log_path: Option<PathBuf>,
    /// Which operations leave a record.
    pub log_level: LogLevel,
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
}

impl Default for AuditTable {
    fn default() -> Self {
        AuditTable {
            enabled: true,
            log_path: None,
            log_level: LogLevel::All,
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

/// `[algorithms]` as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlgorithmsTable {
    /// RSA keys under 2048 bits.
    pub allow_weak_rsa: bool,
    /// RSA signatures over SHA-1 digests.
    pub allow_sha1_signing: bool,
    /// MD5 and triple DES.
    pub allow_legacy: bool,
    /// ML-DSA and its kin.
    pub enable_pqc: bool,
    /// Only mechanisms that FIPS 140-3 approves.
    pub fips_approved_only: bool,
    /// The implementation: "aws-lc" is the only one.
    pub crypto_backend: String,
    /// Whether a derived key is extractable when its template does not say.
    pub derived_keys_extractable_by_default: bool,
}

impl Default for AlgorithmsTable {
    fn default() -> Self {
        AlgorithmsTable {
            allow_weak_rsa: false,
            allow_sha1_signing: false,
            allow_legacy: false,
            enable_pqc: true,
            fips_approved_only: false,
            crypto_backend: "aws-lc".into(),
            derived_keys_extractable_by_default: false,
        }
    }
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

/// A copy of the newest state.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// Where.
    pub directory: PathBuf,
    /// Public keys whose secret halves open it; at least one.
    pub recipients: Vec<PathBuf>,
}

/// The name of a witnessed journal as a part of a file's name.
pub fn witness_stem(origin: &str) -> String {
    origin.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect()
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

/// Where the store is.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The store's directory.
    pub path: PathBuf,
    /// The store key, if it is not beside the store.
    pub key_file: Option<PathBuf>,
}

/// The journal.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// Path of the journal.
    pub log_path: PathBuf,
    /// Which operations leave a record.
    pub log_level: LogLevel,
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

/// Which algorithms are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlgorithmsConfig {
    /// RSA keys under 2048 bits.
    pub allow_weak_rsa: bool,
    /// Signatures over SHA-1 digests.
    pub allow_sha1_signing: bool,
    /// MD5 and triple DES.
    pub allow_legacy: bool,
    /// ML-DSA and its kin.
    pub enable_pqc: bool,
    /// Only approved mechanisms and key sizes.
    pub fips_approved_only: bool,
    /// Whether a derived key is extractable when its template does not say.
    pub derived_keys_extractable_by_default: bool,
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
            token: token_config(self.token)?,
            pin: pin_config(&self.security)?,
            audit: audit_config(self.audit, &store.path)?,
            store,
            algorithms: algorithms_config(&self.algorithms)?,
            policy: self.policy.resolve()?,
            stream: stream_config(self.backup)?,
            witness: WitnessConfig::default(),
        })
    }
}

fn printable(key: &'static str, value: &str, longest: usize) -> Result<(), ConfigError> {
    let good = (1..=longest).contains(&value.len()) && value.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    match good {
        true => Ok(()),
        false => Err(range(key, format!("{value:?}"), format!("1 to {longest} printable ASCII characters"))),
    }
}

fn token_config(table: TokenTable) -> Result<TokenConfig, ConfigError> {
    printable("token.label", &table.label, 32)?;
    if let Some(serial) = &table.serial_number {
        printable("token.serial_number", serial, 16)?;
    }
    if !(1..=10_000).contains(&table.max_sessions) {
        return Err(range("token.max_sessions", table.max_sessions, "1 to 10000"));
    }
    // The default of one must not contradict the other as written.
    let written_rw = table.max_rw_sessions;
    let max_rw_sessions = match written_rw == TokenTable::default().max_rw_sessions {
        true => written_rw.min(table.max_sessions),
        false => written_rw,
    };
    if !(1..=table.max_sessions).contains(&max_rw_sessions) {
        return Err(range("token.max_rw_sessions", written_rw, "1 to token.max_sessions"));
    }
    if !(1..=1_000_000).contains(&table.max_sessions_total) {
        return Err(range("token.max_sessions_total", table.max_sessions_total, "1 to 1000000"));
    }
    let of_one = table.max_sessions_per_client;
    let max_sessions_per_client = match of_one == TokenTable::default().max_sessions_per_client {
        true => of_one.min(table.max_sessions_total),
        false => of_one,
    };
    if !(1..=table.max_sessions_total).contains(&max_sessions_per_client) {
        return Err(range("token.max_sessions_per_client", of_one, "1 to token.max_sessions_total"));
    }
    if !(1..=256).contains(&table.slot_count) {
        return Err(range("token.slot_count", table.slot_count, "1 to 256"));
    }
    Ok(TokenConfig {
        label: table.label,
        max_sessions: table.max_sessions,
        max_rw_sessions,
        max_sessions_per_client,
        max_sessions_total: table.max_sessions_total,
        persist_objects: table.persist_objects,
        slot_count: table.slot_count,
        serial_number: table.serial_number,
    })
}

fn pin_config(table: &SecurityTable) -> Result<PinConfig, ConfigError> {
    if table.pin_min_length < 4 {
        return Err(range("security.pin_min_length", table.pin_min_length, "at least 4 bytes"));
    }
    if !(table.pin_min_length..=256).contains(&table.pin_max_length) {
        return Err(range(
            "security.pin_max_length",
            table.pin_max_length,
            "at least security.pin_min_length and at most 256 bytes",
        ));
    }
    if !(3..=100).contains(&table.max_failed_logins) {
        return Err(range("security.max_failed_logins", table.max_failed_logins, "3 to 100"));
    }
    if !(100_000..=10_000_000).contains(&table.pbkdf2_iterations) {
        return Err(range("security.pbkdf2_iterations", table.pbkdf2_iterations, "100000 to 10000000"));
    }
    if !(19..=1024).contains(&table.argon2_memory_mib) {
        return Err(range("security.argon2_memory_mib", table.argon2_memory_mib, "19 to 1024"));
    }
    if !(2..=64).contains(&table.argon2_passes) {
        return Err(range("security.argon2_passes", table.argon2_passes, "2 to 64"));
    }
    Ok(PinConfig {
        min_length: table.pin_min_length,
        max_length: table.pin_max_length,
        max_attempts: table.max_failed_logins,
        so_holds_master_key: table.so_holds_master_key,
        function: match table.pin_kdf {
            PinKdf::Pbkdf2 => PasswordFunction::Pbkdf2 { iterations: table.pbkdf2_iterations },
            PinKdf::Argon2id => PasswordFunction::Argon2id {
                memory_kib: table.argon2_memory_mib << 10,
                passes: table.argon2_passes,
                lanes: 1,
            },
        },
        ..PinConfig::default()
    })
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

fn audit_config(table: AuditTable, store: &Path) -> Result<AuditConfig, ConfigError> {
    let instead = "no operation is answered without its record; remove the line, and choose the journal's place with \
                   audit.log_path";
    if !table.enabled {
        return Err(ConfigError::NotOffered { key: "audit.enabled = false".into(), instead });
    }
    if table.log_level == LogLevel::None {
        return Err(ConfigError::NotOffered { key: "audit.log_level = \"none\"".into(), instead });
    }
    let log_path = table.log_path.unwrap_or_else(|| store.with_file_name("craton_hsm_audit.jsonl"));
    check_path("audit.log_path", &log_path)?;
    if !(1..=1024).contains(&table.file_max_mib) {
        return Err(range("audit.file_max_mib", table.file_max_mib, "1 to 1024 MiB"));
    }
    if !(1..=8760).contains(&table.file_max_hours) {
        return Err(range("audit.file_max_hours", table.file_max_hours, "1 to 8760 hours"));
    }
    if table.min_free_mib > 1 << 20 {
        return Err(range("audit.min_free_mib", table.min_free_mib, "0 to 1048576 MiB"));
    }
    let files = Files {
        max_bytes: u64::from(table.file_max_mib) << 20,
        max_age: Duration::from_secs(u64::from(table.file_max_hours) * 3600),
        min_free: u64::from(table.min_free_mib) << 20,
    };
    if let Some(anchor) = &table.anchor {
        check_elsewhere("audit.anchor", anchor, &log_path)?;
    }
    let mut witnesses = Vec::new();
    for text in &table.witness {
        let rule =
            "one of \"file:PATH\", \"syslog\", \"syslog:SOCKET\", \"daemon:unix:SOCKET\", \"daemon:https://HOST:PORT\"";
        let witness = Witness::parse(text).ok_or_else(|| range("audit.witness", text, rule))?;
        if let Witness::File(path) = &witness {
            check_elsewhere("audit.witness", path, &log_path)?;
        }
        witnesses.push(witness);
    }
    let (log_level, use_operations) = (table.log_level, table.use_operations);
    let suite = if table.post_quantum { Suite::WithMlDsa44 } else { Suite::Ed25519 };
    let (anchor, on_tamper) = (table.anchor, table.on_tamper);
    Ok(AuditConfig { log_path, log_level, use_operations, files, anchor, witnesses, suite, on_tamper })
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

fn algorithms_config(table: &AlgorithmsTable) -> Result<AlgorithmsConfig, ConfigError> {
    if table.crypto_backend != "aws-lc" {
        return Err(ConfigError::NotOffered {
            key: format!("algorithms.crypto_backend = {:?}", table.crypto_backend),
            instead: "the only implementation is \"aws-lc\"; remove the line",
        });
    }
    for (key, open) in [
        ("algorithms.allow_weak_rsa", table.allow_weak_rsa),
        ("algorithms.allow_sha1_signing", table.allow_sha1_signing),
        ("algorithms.allow_legacy", table.allow_legacy),
    ] {
        if table.fips_approved_only && open {
            return Err(ConfigError::NotOffered {
                key: format!("{key} = true together with algorithms.fips_approved_only"),
                instead: "one of the two must go",
            });
        }
    }
    Ok(AlgorithmsConfig {
        allow_weak_rsa: table.allow_weak_rsa,
        allow_sha1_signing: table.allow_sha1_signing,
        allow_legacy: table.allow_legacy,
        enable_pqc: table.enable_pqc,
        fips_approved_only: table.fips_approved_only,
        derived_keys_extractable_by_default: table.derived_keys_extractable_by_default,
    })
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
