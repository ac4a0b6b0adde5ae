//! The configuration: as written (`Written`, unknown keys refused, units in the key names) and as meant ([`Config`]).
//!
//! The file is given by `--config` or `CRATON_PKI_CONFIG`. It is either all ours, or a file with a `[pki]` table that is.
//! Relative paths in it are relative to the folder of the file. Every key is explained in `craton_pki.toml`.

use crate::ca::Publication;
use crate::ca::authority::{INTERNAL, ISSUING, ROOT};
use crate::ca::guard::{Guard, GuardRules};
use crate::ca::validity;
use crate::est::label::{self, Label, WrittenLabel};
use crate::profile::written::{WrittenProfile, profiles};
use crate::profile::{Profile, Validity};
use crate::va::foreign;
use crate::va::foreign::settings::WrittenRevocation;
use crate::va::signer::responder_id_form;
use crate::x509::algorithm::KeySpec;
use crate::x509::csr::is_host_name;
use crate::x509::ocsp::ResponderId;
use cryptoki::types::AuthPin;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use x509_cert::name::Name;

/// Subject of the internal authority unless the configuration says another: the name that fleets know it by.
const INTERNAL_SUBJECT: &str = "CN=LAMASSU-DMS-MANAGER";
/// Seconds of a day.
const DAY_SECONDS: i64 = 86_400;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
#[error("{}: {detail}", .path.display())]
pub(crate) struct ConfigError {
    path: PathBuf,
    detail: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    token: WrittenToken,
    store: WrittenStore,
    ca: WrittenAuthorities,
    #[serde(default)]
    profiles: BTreeMap<String, WrittenProfile>,
    est: WrittenEst,
    crl: WrittenCrl,
    #[serde(default)]
    ocsp: WrittenOcsp,
    #[serde(default)]
    revocation: WrittenRevocation,
    #[serde(default)]
    journal: WrittenJournal,
    #[serde(default)]
    api: WrittenApi,
    #[serde(default)]
    log: WrittenLog,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenToken {
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

/// A secret, or where it comes from. What is not a text is refused without being said again.
struct WrittenSecret(String);

impl<'de> Deserialize<'de> for WrittenSecret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer) {
            Ok(toml::Value::String(text)) => Ok(Self(text)),
            _ => Err(serde::de::Error::custom("a pin or token is a text in quotes: \"env:NAME\" or \"file:PATH\"")),
        }
    }
}

/// A boolean, or "auto".
#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenGuard {
    Switch(bool),
    Word(String),
}

impl Default for WrittenGuard {
    fn default() -> Self {
        Self::Word("auto".to_owned())
    }
}

impl WrittenGuard {
    fn mean(&self) -> Result<Guard, String> {
        match self {
            Self::Switch(true) => Ok(Guard::Always),
            Self::Switch(false) => Ok(Guard::Never),
            Self::Word(word) if word == "auto" => Ok(Guard::Auto),
            Self::Word(word) => Err(format!("token.guard '{word}' must be true, false or \"auto\"")),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStore {
    state_dir: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAuthorities {
    #[serde(default)]
    role: Side,
    root: WrittenAuthority,
    issuing: WrittenAuthority,
    #[serde(default)]
    internal: WrittenAuthority,
    compromised_keys: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct WrittenAuthority {
    subject: Option<String>,
    key: Option<String>,
    validity_days: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEst {
    #[serde(default = "default_est_listen")]
    listen: SocketAddr,
    host_names: Vec<String>,
    #[serde(default)]
    addresses: Vec<IpAddr>,
    #[serde(default = "default_server_key")]
    server_key: String,
    #[serde(default = "default_server_validity_days")]
    server_validity_days: u32,
    #[serde(default = "default_profile")]
    profile: String,
    #[serde(default)]
    labels: BTreeMap<String, toml::Value>,
    unlabelled: Option<WrittenLabel>,
    #[serde(default = "default_base64_wrap_columns")]
    base64_wrap_columns: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCrl {
    #[serde(default = "default_crl_listen")]
    listen: SocketAddr,
    base_url: String,
    #[serde(default = "default_next_update_hours")]
    next_update_hours: u32,
    #[serde(default = "default_overlap_hours")]
    overlap_hours: u32,
    #[serde(default)]
    shards: u32,
    #[serde(default)]
    delta_hours: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenOcsp {
    enabled: bool,
    listen: Option<SocketAddr>,
    url: Option<String>,
    key: String,
    signer_validity_days: u32,
    next_update_hours: u32,
    responder_id: String,
    max_age_seconds: u32,
    max_remembered: usize,
    sign_ahead: bool,
}

impl Default for WrittenOcsp {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: None,
            url: None,
            key: "ec:P-256".to_owned(),
            signer_validity_days: 30,
            next_update_hours: 24,
            responder_id: "key".to_owned(),
            max_age_seconds: 300,
            max_remembered: 200_000,
            sign_ahead: false,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenJournal {
    key: String,
    checkpoint_hours: u32,
}

impl Default for WrittenJournal {
    fn default() -> Self {
        Self { key: "ec:P-256".to_owned(), checkpoint_hours: 1 }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct WrittenApi {
    listen: Option<SocketAddr>,
    token: Option<WrittenSecret>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct WrittenLog {
    format: Option<String>,
    filter: Option<String>,
}

fn default_key_label_prefix() -> String {
    "craton-pki".to_owned()
}
fn default_max_sessions() -> usize {
    8
}
fn default_reconnect_seconds() -> u64 {
    5
}
fn default_est_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8443))
}
fn default_crl_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}
fn default_server_key() -> String {
    "ec:P-256".to_owned()
}
fn default_server_validity_days() -> u32 {
    90
}
fn default_profile() -> String {
    "device".to_owned()
}
fn default_base64_wrap_columns() -> usize {
    64
}
fn default_next_update_hours() -> u32 {
    24
}
fn default_overlap_hours() -> u32 {
    6
}

/// Which part of the hierarchy is here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    /// All of it.
    #[default]
    Whole,
    /// The root, and nothing else: the side that is started for ceremonies only.
    Root,
    /// Everything but the root.
    Below,
}

/// The configuration as meant.
pub(crate) struct Config {
    /// Which part of the hierarchy is here.
    pub(crate) side: Side,
    /// The token.
    pub(crate) token: TokenSection,
    /// Folder of the store, the operators' socket and the public copies of the CA certificates.
    pub(crate) state_dir: PathBuf,
    /// The root authority.
    pub(crate) root: AuthoritySection,
    /// The issuing authority.
    pub(crate) issuing: AuthoritySection,
    /// The authority of the house itself.
    pub(crate) internal: AuthoritySection,
    /// The file of compromised keys.
    pub(crate) compromised_keys: Option<PathBuf>,
    /// The profiles by name.
    pub(crate) profiles: BTreeMap<String, Profile>,
    /// EST.
    pub(crate) est: EstSection,
    /// CRLs.
    pub(crate) crl: CrlSection,
    /// The OCSP responder.
    pub(crate) ocsp: OcspSection,
    /// How others are asked about their certificates.
    pub(crate) revocation: foreign::Settings,
    /// The journal.
    pub(crate) journal: JournalSection,
    /// Operators' REST.
    pub(crate) api: ApiSection,
    /// Logging.
    pub(crate) log: LogSection,
    /// Sentences for the log: what is allowed but dangerous.
    pub(crate) warnings: Vec<String>,
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

/// An authority as meant.
pub(crate) struct AuthoritySection {
    /// Its name.
    pub(crate) subject: Name,
    /// Kind of its key.
    pub(crate) key: KeySpec,
    /// How long its certificate is good.
    pub(crate) validity_seconds: i64,
}

/// `[est]` as meant.
pub(crate) struct EstSection {
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// Names in the server certificate.
    pub(crate) host_names: Vec<String>,
    /// Addresses in the server certificate.
    pub(crate) addresses: Vec<IpAddr>,
    /// Kind of the server key.
    pub(crate) server_key: KeySpec,
    /// How long the server certificate is good.
    pub(crate) server_validity_seconds: i64,
    /// Rules by label; the empty label stands for the path without label.
    pub(crate) labels: BTreeMap<String, Label>,
}

/// `[crl]` as meant.
pub(crate) struct CrlSection {
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// Begin of the distribution point addresses, without final slash.
    pub(crate) base_url: String,
    /// From thisUpdate to nextUpdate.
    pub(crate) validity_seconds: i64,
    /// How long before nextUpdate the next one is made.
    pub(crate) overlap_seconds: i64,
    /// Into how many shards the lists of new certificates are divided, 0 for one list that is whole.
    pub(crate) shards: u32,
    /// From thisUpdate to nextUpdate of a delta CRL, 0 for no delta CRLs.
    pub(crate) delta_seconds: i64,
}

/// `[ocsp]` as meant.
pub(crate) struct OcspSection {
    /// Where to listen, when not with the CRLs.
    pub(crate) listen: Option<SocketAddr>,
    /// The address written into certificates; none when the responder is switched off.
    pub(crate) url: Option<String>,
    /// Kind of the signers' keys.
    pub(crate) key: KeySpec,
    /// How long a signer's certificate is good.
    pub(crate) signer_validity_seconds: i64,
    /// From thisUpdate to nextUpdate.
    pub(crate) validity_seconds: i64,
    /// How the responder names itself.
    pub(crate) responder_id: ResponderId,
    /// How long a cache may use an answer without asking again.
    pub(crate) max_age_seconds: i64,
    /// Most answers remembered.
    pub(crate) max_remembered: usize,
    /// Whether answers are signed before anybody asks.
    pub(crate) sign_ahead: bool,
}

/// `[journal]` as meant.
pub(crate) struct JournalSection {
    /// Kind of the key that signs checkpoints.
    pub(crate) key: KeySpec,
    /// How often a checkpoint is signed.
    pub(crate) checkpoint_seconds: i64,
}

/// `[api]` as meant.
pub(crate) struct ApiSection {
    /// Where to listen; none for no REST listener.
    pub(crate) listen: Option<SocketAddr>,
    /// Where the bearer token comes from.
    pub(crate) token: Option<SecretSource>,
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

impl Config {
    /// Reads and judges a configuration file.
    ///
    /// # Errors
    /// The first thing wrong with it, with the path of the file.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let refuse = |detail: String| ConfigError { path: path.to_path_buf(), detail };
        let metadata = std::fs::metadata(path).map_err(|fault| refuse(fault.to_string()))?;
        if metadata.permissions().mode() & 0o002 != 0 {
            return Err(refuse("anyone may write this file, so it decides nothing: chmod o-w".to_owned()));
        }
        let text = std::fs::read_to_string(path).map_err(|fault| refuse(fault.to_string()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        Self::parse(&text, folder).map_err(refuse)
    }

    /// What the token is to hold the keys of new authorities to.
    pub(crate) fn guard_rules(&self) -> GuardRules {
        let profiles = || self.profiles.values();
        let of_house = self.est.server_validity_seconds.max(self.ocsp.signer_validity_seconds);
        let longest = profiles().try_fold(of_house, |longest, profile| match profile.validity {
            Validity::Seconds(seconds) => Some(longest.max(seconds)),
            Validity::Until(_) => None,
        });
        GuardRules {
            guard: self.token.guard,
            extensions: profiles().flat_map(|profile| &profile.extensions).map(|found| found.extn_id).collect(),
            purposes: profiles().flat_map(|profile| &profile.purposes).copied().collect(),
            longest_seconds: longest,
        }
    }

    /// The addresses that are written into certificates.
    pub(crate) fn publication(&self) -> Publication {
        Publication {
            base_url: self.crl.base_url.clone(),
            ocsp_url: self.ocsp.url.clone(),
            crl_shards: self.crl.shards,
        }
    }

    /// Judges the text of a configuration file that lies in `folder`.
    fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let whole: toml::Table = toml::from_str(text).map_err(|fault| at_line(&fault, text))?;
        let written: Written = match whole.get("pki") {
            Some(table) => table.clone().try_into().map_err(|fault: toml::de::Error| format!("[pki]: {fault}"))?,
            None => toml::from_str(text).map_err(|fault| at_line(&fault, text))?,
        };
        written.mean(folder)
    }
}

/// Where a text is wrong and why, without the line itself: a secret may stand in it.
fn at_line(fault: &toml::de::Error, text: &str) -> String {
    let why = fault.message().trim_end().replace('\n', " ");
    match fault.span() {
        Some(span) => {
            let line = text.bytes().take(span.start).filter(|byte| *byte == b'\n').count().saturating_add(1);
            format!("line {line}: {why}")
        }
        None => why,
    }
}

impl Written {
    fn mean(self, folder: &Path) -> Result<Config, String> {
        let mut warnings = Vec::new();
        let token = self.token.mean(folder, &mut warnings)?;
        let side = self.ca.role;
        let compromised_keys = self.ca.compromised_keys.map(|path| folder.join(path));
        let root = self.ca.root.mean(ROOT, &mut warnings)?;
        let issuing = self.ca.issuing.mean(ISSUING, &mut warnings)?;
        let internal = WrittenAuthority {
            subject: self.ca.internal.subject.or_else(|| Some(INTERNAL_SUBJECT.to_owned())),
            key: self.ca.internal.key.or_else(|| Some(default_server_key())),
            validity_days: self.ca.internal.validity_days,
        };
        let internal = internal.mean(INTERNAL, &mut warnings)?;
        for (one, other) in [(&root, &issuing), (&root, &internal), (&issuing, &internal)] {
            if one.subject == other.subject {
                return Err("the subjects of [ca.root], [ca.issuing] and [ca.internal] must differ".to_owned());
            }
        }
        let profiles = profiles(self.profiles, issuing.validity_seconds)?;
        let est = self.est.mean(&profiles, folder)?;
        let crl = self.crl.mean()?;
        let log = self.log.mean()?;
        let api = ApiSection {
            listen: self.api.listen,
            token: self.api.token.map(|written| SecretSource::parse(&written.0, folder)),
        };
        if matches!(api.token, Some(SecretSource::Inline(_))) {
            warnings.push("api.token stands in the configuration file: use env:NAME or file:PATH".to_owned());
        }
        Ok(Config {
            side,
            token,
            state_dir: folder.join(self.store.state_dir),
            root,
            issuing,
            internal,
            compromised_keys,
            profiles,
            est,
            ocsp: self.ocsp.mean(&crl.base_url)?,
            revocation: self.revocation.mean(folder)?,
            journal: self.journal.mean()?,
            crl,
            api,
            log,
            warnings,
        })
    }
}

impl WrittenToken {
    fn mean(self, folder: &Path, warnings: &mut Vec<String>) -> Result<TokenSection, String> {
        if !(2..=256).contains(&self.max_sessions) {
            return Err("token.max_sessions must be 2 to 256".to_owned());
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

fn seconds(days: u32, key: &str) -> Result<i64, String> {
    if (1..=36_500).contains(&days) {
        Ok(i64::from(days) * DAY_SECONDS)
    } else {
        Err(format!("{key} must be 1 to 36500 days"))
    }
}

impl WrittenAuthority {
    fn mean(self, id: &str, warnings: &mut Vec<String>) -> Result<AuthoritySection, String> {
        let key = format!("ca.{id}");
        let text = self.subject.ok_or_else(|| format!("{key}.subject is missing"))?;
        let subject = Name::from_str(&text).map_err(|fault| format!("{key}.subject: {fault}"))?;
        if subject.is_empty() {
            return Err(format!("{key}.subject is empty"));
        }
        let usual = validity::named(if id == ROOT { ROOT } else { ISSUING });
        let days = self.validity_days.or(usual.map(|usual| usual.default_days)).unwrap_or(1);
        let remark = usual.and_then(|usual| usual.remark(days));
        warnings.extend(remark.map(|remark| format!("{key}.validity_days: {remark}")));
        let spec = self.key.ok_or_else(|| format!("{key}.key is missing"))?;
        Ok(AuthoritySection {
            subject,
            key: spec.parse().map_err(|fault| format!("{key}.key: {fault}"))?,
            validity_seconds: seconds(days, &format!("{key}.validity_days"))?,
        })
    }
}

impl WrittenEst {
    fn mean(self, profiles: &BTreeMap<String, Profile>, folder: &Path) -> Result<EstSection, String> {
        if self.host_names.is_empty() {
            return Err("est.host_names is empty: the server certificate needs a name".to_owned());
        }
        if let Some(bad) = self.host_names.iter().find(|name| !is_host_name(name)) {
            return Err(format!("est.host_names: '{bad}' is not a lower-case host name"));
        }
        let mut labels =
            label::labels(self.labels, self.unlabelled, &self.profile, self.base64_wrap_columns, profiles)?;
        for (name, label) in &mut labels {
            label.resolve(folder).map_err(|fault| format!("est.labels.{name}: {fault}"))?;
        }
        Ok(EstSection {
            listen: self.listen,
            host_names: self.host_names,
            addresses: self.addresses,
            server_key: self.server_key.parse().map_err(|fault| format!("est.server_key: {fault}"))?,
            server_validity_seconds: seconds(self.server_validity_days, "est.server_validity_days")?,
            labels,
        })
    }
}

impl WrittenCrl {
    fn mean(self) -> Result<CrlSection, String> {
        let base_url = self.base_url.trim_end_matches('/').to_owned();
        if !base_url.starts_with("http://") || !base_url.is_ascii() {
            return Err(
                "crl.base_url must begin with http:// (a CRL is signed; fetching it by https is a circle)".to_owned()
            );
        }
        if self.next_update_hours == 0 || self.overlap_hours >= self.next_update_hours {
            return Err("crl.overlap_hours must be less than crl.next_update_hours".to_owned());
        }
        if self.shards > 100_000 {
            return Err("crl.shards must be 0 to 100000".to_owned());
        }
        if self.delta_hours > 0 && self.delta_hours >= self.next_update_hours {
            return Err("crl.delta_hours must be less than crl.next_update_hours".to_owned());
        }
        Ok(CrlSection {
            shards: self.shards,
            delta_seconds: i64::from(self.delta_hours) * 3600,
            listen: self.listen,
            base_url,
            validity_seconds: i64::from(self.next_update_hours) * 3600,
            overlap_seconds: i64::from(self.overlap_hours) * 3600,
        })
    }
}

impl WrittenOcsp {
    fn mean(self, base_url: &str) -> Result<OcspSection, String> {
        let url = self.url.unwrap_or_else(|| format!("{base_url}/ocsp"));
        if !url.starts_with("http://") || !url.is_ascii() {
            return Err("ocsp.url must begin with http:// (an answer is signed)".to_owned());
        }
        if !(1..=24 * 14).contains(&self.next_update_hours) {
            return Err("ocsp.next_update_hours must be 1 to 336".to_owned());
        }
        if !(1..=398).contains(&self.signer_validity_days) {
            return Err(
                "ocsp.signer_validity_days must be 1 to 398: nobody can ask whether a signer is revoked".to_owned()
            );
        }
        if !(1..=10_000_000).contains(&self.max_remembered) {
            return Err("ocsp.max_remembered must be 1 to 10000000".to_owned());
        }
        Ok(OcspSection {
            listen: self.listen,
            url: self.enabled.then_some(url),
            key: self.key.parse().map_err(|fault| format!("ocsp.key: {fault}"))?,
            signer_validity_seconds: i64::from(self.signer_validity_days) * DAY_SECONDS,
            validity_seconds: i64::from(self.next_update_hours) * 3600,
            responder_id: responder_id_form(&self.responder_id)?,
            max_age_seconds: i64::from(self.max_age_seconds),
            max_remembered: self.max_remembered,
            sign_ahead: self.sign_ahead,
        })
    }
}

impl WrittenJournal {
    fn mean(self) -> Result<JournalSection, String> {
        if !(1..=24 * 31).contains(&self.checkpoint_hours) {
            return Err("journal.checkpoint_hours must be 1 to 744".to_owned());
        }
        Ok(JournalSection {
            key: self.key.parse().map_err(|fault| format!("journal.key: {fault}"))?,
            checkpoint_seconds: i64::from(self.checkpoint_hours) * 3600,
        })
    }
}

impl WrittenLog {
    fn mean(self) -> Result<LogSection, String> {
        let format = match self.format.as_deref() {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => return Err(format!("log.format '{other}' must be text or json")),
        };
        Ok(LogSection { format, filter: self.filter.unwrap_or_else(|| "info".to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The annotated example that is shipped beside the crate.
    const EXAMPLE: &str = include_str!("../craton_pki.toml");

    fn fault(text: &str) -> String {
        Config::parse(text, Path::new("/etc/craton")).err().unwrap_or_default()
    }

    #[test]
    fn the_example_parses_and_shows_the_defaults() {
        let config = Config::parse(EXAMPLE, Path::new("/etc/craton")).expect("parses");
        assert_eq!(config.est.listen, default_est_listen());
        assert_eq!(config.crl.listen, default_crl_listen());
        assert_eq!(config.token.max_sessions, default_max_sessions());
        assert_eq!(config.token.key_label_prefix, default_key_label_prefix());
        assert_eq!(config.est.labels[""].base64_wrap_columns, default_base64_wrap_columns());
        let (meant, default) = (&config.ocsp, WrittenOcsp::default().mean("http://127.0.0.1:8080").expect("means"));
        assert_eq!((&meant.url, meant.max_age_seconds), (&default.url, default.max_age_seconds));
        assert_eq!((meant.key, meant.responder_id), (default.key, default.responder_id));
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        assert!(config.state_dir.is_absolute());
    }

    #[test]
    fn the_example_is_accepted_as_a_pki_table_too() {
        let mut pki: toml::Table = toml::from_str(EXAMPLE).expect("parses");
        let mut whole = toml::Table::new();
        whole.insert("token".to_owned(), toml::Value::Table(toml::Table::new()));
        whole.insert("pki".to_owned(), toml::Value::Table(std::mem::take(&mut pki)));
        let text = toml::to_string(&whole).expect("writes");
        assert!(Config::parse(&text, Path::new("/")).is_ok());
    }

    #[test]
    fn each_bad_value_is_refused_with_its_key() {
        let rows = [
            ("module =", "modul =", "modul"),
            ("key = \"ec:P-384\"", "key = \"rsa:1024\"", "ca.root.key"),
            ("validity_days = 90 ", "validity_days = 0 ", "validity_days"),
            ("responder_id = \"key\"", "responder_id = \"hash\"", "ocsp.responder_id"),
            ("signer_validity_days = 30", "signer_validity_days = 3650", "ocsp.signer_validity_days"),
            ("checkpoint_hours = 1", "checkpoint_hours = 0", "journal.checkpoint_hours"),
            ("delta_hours = 0", "delta_hours = 24", "crl.delta_hours"),
            ("base_url = \"http://", "base_url = \"https://", "crl.base_url"),
            ("profile = \"device\"", "profile = \"nobody\"", "nobody"),
            ("line-1 =", "simpleenroll =", "simpleenroll"),
            ("host_names = [\"localhost\"]", "host_names = [\"*.example\"]", "est.host_names"),
            ("format = \"text\"", "format = \"xml\"", "log.format"),
            ("pin = \"env:", "pin = 7 # ", "pin"),
        ];
        for (good, bad, named) in rows {
            let text = EXAMPLE.replace(good, bad);
            assert_ne!(text, EXAMPLE, "the example lost '{good}'");
            assert!(fault(&text).contains(named), "{bad}: {}", fault(&text));
        }
    }

    #[test]
    fn an_inline_pin_is_warned_about_and_not_shown() {
        let text = EXAMPLE.replace("pin = \"env:CRATON_PKI_PIN\"", "pin = \"98765432\"");
        let config = Config::parse(&text, Path::new("/")).expect("parses");
        assert!(config.warnings.iter().any(|warning| warning.contains("token.pin")));
        assert!(!config.warnings.concat().contains("98765432"));
    }

    #[test]
    fn a_pin_that_is_written_wrong_is_not_shown() {
        for wrong in ["pin = 98765432", "pin = \"98765432", "pin = { is = \"98765432\" }", "pin = 98765432x"] {
            let text = EXAMPLE.replace("pin = \"env:CRATON_PKI_PIN\"", wrong);
            let in_pki = format!("[pki]\n{}", text.replace("\n[", "\n[pki.").replace("[pki.[", "[[pki."));
            for text in [text, in_pki] {
                let fault = fault(&text);
                assert!(!fault.is_empty(), "{wrong}");
                assert!(!fault.contains("9876"), "{wrong}: {fault}");
            }
        }
    }

    #[test]
    fn a_world_writable_file_is_refused() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("craton_pki.toml");
        std::fs::write(&path, EXAMPLE).expect("writes");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o646)).expect("chmod");
        let fault = Config::load(&path).err().expect("refused").to_string();
        assert!(fault.contains("chmod o-w"), "{fault}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(Config::load(&path).is_ok());
    }

    #[test]
    fn a_secret_file_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("pin");
        std::fs::write(&path, "1234\n").expect("writes");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(SecretSource::File(path.clone()).read().is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        assert!(SecretSource::File(path).read().is_ok());
    }
}
