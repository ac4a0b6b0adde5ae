//! The configuration: as written (`Written`, unknown keys refused, units in the key names) and as meant ([`Config`]).
//!
//! The file is given by `--config` or `CRATON_PKI_CONFIG`. It is either all ours, or a file with a `[pki]` table that is.
//! Relative paths in it are relative to the folder of the file. Every key is explained in `craton_pki.toml`.

mod alerts;
mod api;
mod authority;
mod crl;
mod est;
mod journal;
mod log;
mod ocsp;
mod token;

pub(crate) use api::ApiSection;
pub(crate) use authority::{AuthoritySection, Side};
pub(crate) use crl::CrlSection;
pub(crate) use est::EstSection;
pub(crate) use journal::JournalSection;
pub(crate) use log::{LogFormat, LogSection};
pub(crate) use ocsp::OcspSection;
pub(crate) use token::TokenSection;

use crate::ca::Publication;
use crate::ca::guard::GuardRules;
use crate::clock::DAY_SECONDS;
use crate::profile::written::{WrittenProfile, profiles};
use crate::profile::{Profile, Validity};
use crate::store::record::{INTERNAL, ISSUING, ROOT};
use crate::va::foreign;
use crate::va::foreign::settings::WrittenRevocation;
use alerts::{Alerts, WrittenAlerts};
use api::WrittenApi;
use authority::{WrittenAuthorities, WrittenAuthority};
use crl::WrittenCrl;
use est::{WrittenEst, default_server_key};
use journal::WrittenJournal;
use log::WrittenLog;
use ocsp::WrittenOcsp;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use token::WrittenToken;

/// Subject of the internal authority unless the configuration says another: the name that fleets know it by.
const INTERNAL_SUBJECT: &str = "CN=LAMASSU-DMS-MANAGER";

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
    alerts: WrittenAlerts,
    #[serde(default)]
    log: WrittenLog,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStore {
    state_dir: PathBuf,
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
    /// Where notices are told; none for nowhere.
    pub(crate) alerts: Option<Alerts>,
    /// Logging.
    pub(crate) log: LogSection,
    /// Sentences for the log: what is allowed but dangerous.
    pub(crate) warnings: Vec<String>,
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
        let of_house = self.est.server_validity_seconds.max(self.ocsp.signer.validity_seconds);
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
        let api = self.api.mean(folder, &mut warnings);
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
            alerts: self.alerts.mean(folder)?,
            log,
            warnings,
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

#[cfg(test)]
mod tests {
    use super::crl::default_crl_listen;
    use super::est::{default_base64_wrap_columns, default_est_listen};
    use super::token::{default_key_label_prefix, default_max_sessions};
    use super::*;
    use crate::secret::SecretSource;

    /// The annotated example that is shipped beside the crate.
    const EXAMPLE: &str = include_str!("../../craton_pki.toml");

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
        assert_eq!((meant.signer.key, meant.signer.responder_id), (default.signer.key, default.signer.responder_id));
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
            ("max_sessions = 8", "max_sessions = 1", "token.max_sessions"),
            ("reconnect_seconds = 5", "reconnect_seconds = 9223372036854775807", "token.reconnect_seconds"),
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
