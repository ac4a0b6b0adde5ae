//! The part of `craton_hsm.toml` that the tool needs: where the daemon listens, where the store and the journal are.
//!
//! The file is found and judged as the daemon does it; keys that only the daemon understands are left to the daemon.

use std::path::{Path, PathBuf};

use hsm_core::config::{
    self, AlgorithmsTable, AuditTable, BackupTable, Config, PolicyTable, SecurityTable, StoreTable, TokenTable,
};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::failure::Failure;

/// Where the file is looked for when neither the command line nor the environment names one.
const USUAL_PLACES: [&str; 2] = ["craton_hsm.toml", "/etc/craton-hsm/craton_hsm.toml"];
/// The daemon's socket when the file names none.
const DEFAULT_SOCKET: &str = "/run/craton-hsm/hsm.sock";

/// What the file means.
pub(crate) struct Settings {
    /// The daemon's Unix socket.
    pub(crate) socket: PathBuf,
    /// Store, journal and rules.
    pub(crate) core: Config,
    /// The daemon's own table, as far as operators are advised about it.
    pub(crate) daemon: DaemonTable,
    /// Where monitors may ask.
    pub(crate) metrics: MetricsTable,
    /// The module's own table, likewise.
    pub(crate) shim: ShimTable,
    /// How far the daemon confines itself.
    pub(crate) hardening: HardeningTable,
    /// The file all of it is from, if there is one, and the folder that its paths are relative to.
    pub(crate) source: Option<PathBuf>,
    pub(crate) base: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    daemon: DaemonTable,
    token: TokenTable,
    security: SecurityTable,
    store: StoreTable,
    audit: AuditTable,
    algorithms: AlgorithmsTable,
    policy: PolicyTable,
    backup: BackupTable,
    metrics: MetricsTable,
    hardening: HardeningTable,
    #[serde(rename = "telemetry")]
    _telemetry: Option<IgnoredAny>,
    #[serde(rename = "witness")]
    _witness: Option<IgnoredAny>,
    shim: ShimTable,
}

/// `[daemon]`: its other keys are the daemon's to judge.
#[derive(Clone, Deserialize)]
#[serde(default)]
pub(crate) struct DaemonTable {
    bind_unix: Option<PathBuf>,
    pub(crate) bind: Option<String>,
    pub(crate) socket_group: Option<String>,
    pub(crate) tls_cert: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    pub(crate) tls_client_ca: Option<PathBuf>,
    pub(crate) tls_client_crl: Option<PathBuf>,
    pub(crate) allow_unauthenticated_tls: bool,
    pub(crate) allow_insecure: bool,
    pub(crate) max_connections: u64,
}

impl Default for DaemonTable {
    fn default() -> Self {
        DaemonTable {
            bind_unix: None,
            bind: None,
            socket_group: None,
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            tls_client_crl: None,
            allow_unauthenticated_tls: false,
            allow_insecure: false,
            max_connections: 256,
        }
    }
}

/// `[hardening]`, likewise; what is absent is enforced.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct HardeningTable {
    pub(crate) seccomp: Option<String>,
    pub(crate) landlock: Option<String>,
}

/// `[metrics]`, likewise.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct MetricsTable {
    pub(crate) bind: Option<String>,
}

/// `[shim]`, likewise.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ShimTable {
    pub(crate) pin_cache: bool,
}

impl Settings {
    /// Reads `given`, else the file in its usual places, else takes the defaults.
    ///
    /// # Errors
    ///
    /// A configuration failure that names the file or the key.
    pub(crate) fn load(given: Option<&Path>) -> Result<Self, Failure> {
        let found = given.map(Path::to_owned).or_else(|| USUAL_PLACES.iter().map(PathBuf::from).find(|p| p.exists()));
        let Some(path) = found else {
            return judge(Written::default(), Path::new(""), None);
        };
        let refuse = |why: String| Failure::config(format!("the configuration {}: {why}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|error| refuse(error.to_string()))?;
        config::check_file_mode(&path).map_err(|error| Failure::config(error.to_string()))?;
        let written: Written = toml::from_str(&text).map_err(|error| refuse(at_line(&error, &text)))?;
        let base = path.canonicalize().map_err(|error| refuse(error.to_string()))?;
        let folder = base.parent().unwrap_or(Path::new("/"));
        judge(written, folder, Some(path.clone())).map_err(|failure| refuse(failure.sentence().to_owned()))
    }
}

fn at_line(error: &toml::de::Error, text: &str) -> String {
    let why = error.message().trim_end().replace('\n', " ");
    match error.span() {
        Some(span) => format!("line {}: {why}", text[..span.start.min(text.len())].matches('\n').count() + 1),
        None => why,
    }
}

/// Relative paths are taken from `base`, the folder of the file.
fn judge(mut written: Written, base: &Path, source: Option<PathBuf>) -> Result<Settings, Failure> {
    let socket = base.join(written.daemon.bind_unix.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET)));
    written.audit.rebase(base);
    for path in [&mut written.token.storage_path, &mut written.store.key_file] {
        // An empty path stays empty, for the core to refuse by name.
        if let Some(path) = path.as_mut().filter(|path| !path.as_os_str().is_empty()) {
            *path = base.join(&*path);
        }
    }
    let stream = written.backup.stream.iter_mut().chain(&mut written.backup.stream_recipients);
    stream.filter(|path| !path.as_os_str().is_empty()).for_each(|path| *path = base.join(&*path));
    let core = config::Written {
        token: written.token,
        security: written.security,
        store: written.store,
        audit: written.audit,
        algorithms: written.algorithms,
        policy: written.policy,
        backup: written.backup,
    };
    Ok(Settings {
        socket,
        core: core.resolve().map_err(|error| Failure::config(error.to_string()))?,
        daemon: written.daemon,
        metrics: written.metrics,
        shim: written.shim,
        hardening: written.hardening,
        source,
        base: base.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Settings, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("c.toml");
        std::fs::write(&path, text).unwrap();
        Settings::load(Some(&path)).map(|mut settings| {
            let folder = path.parent().unwrap();
            settings.socket = settings.socket.strip_prefix(folder).unwrap_or(&settings.socket).to_owned();
            settings
        })
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let settings = load("[daemon]\nbind_unix = \"run/s\"\nmax_connections = 9\n[shim]\nspin = true").unwrap();
        assert_eq!(settings.socket, Path::new("run/s"));
    }

    #[test]
    fn the_annotated_example_is_understood() {
        let settings = load(include_str!("../../craton_hsm.toml")).unwrap();
        assert_eq!((settings.metrics.bind, settings.daemon.bind), (None, None));
        load("[witness]\ndirectory = \"w\"").unwrap();
    }

    #[test]
    fn unknown_table_or_key_is_refused_with_its_line() {
        for text in ["\n[tokne]\nlabel = \"x\"", "[token]\nlable = \"x\"", "[audit]\nlog_level = \"some\""] {
            let Err(failure) = load(text) else { panic!("accepted: {text}") };
            assert!(failure.sentence().contains("line 2"), "{}", failure.sentence());
            assert_eq!(failure.exit_code(), std::process::ExitCode::from(78));
        }
    }

    #[test]
    fn missing_file_is_a_configuration_failure() {
        let Err(failure) = Settings::load(Some(Path::new("/nonexistent/c.toml"))) else { panic!("loaded") };
        assert!(failure.sentence().contains("/nonexistent/c.toml"));
    }
}
