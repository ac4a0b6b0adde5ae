//! The daemon's configuration: where the file is, what it says (`Written`), and what it means (`Settings`).
//!
//! One file configures everything that runs beside the store. This crate owns `[daemon]`, `[witness]`, `[metrics]`, `[telemetry]` and
//! `[hardening]`; the core owns `[token]`, `[security]`, `[store]`, `[audit]`, `[algorithms]`, `[policy]` and `[backup]`; `[shim]` belongs to the library in the
//! applications' processes, and only its keys are checked here. An unknown table or key is refused everywhere.

use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hsm_core::audit::Witness;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::telemetry::Telemetry;
use crate::tls_files::{ClientFiles, TlsFiles};
use crate::toml_file::{Refused, narrow, parse, read, refuse, seconds, within};

mod hardening;
mod telemetry;
mod witness;

use self::hardening::WrittenHardening;
pub(crate) use self::hardening::{Hardening, Landlock, Seccomp};
use self::telemetry::WrittenTelemetry;
use self::witness::WrittenWitness;

/// The environment variable that names the file.
pub(crate) const VARIABLE: &str = "CRATON_HSM_CONFIG";

/// Where the file is looked for when neither the command line nor the environment names one.
const USUAL_PLACES: [&str; 2] = ["craton_hsm.toml", "/etc/craton-hsm/craton_hsm.toml"];

/// The Unix socket when the file names none.
const DEFAULT_SOCKET: &str = "/run/craton-hsm/hsm.sock";

/// The longest path that a Unix socket address holds (`sun_path` with its terminating NUL is 108 bytes on Linux).
const LONGEST_SOCKET_PATH: usize = 107;

/// The whole configuration as it is meant.
pub(crate) struct Settings {
    /// Ours.
    pub(crate) daemon: Daemon,
    /// Where monitors may ask, if anywhere.
    pub(crate) metrics: Option<SocketAddr>,
    /// Who is told of single requests, if anybody is.
    pub(crate) telemetry: Option<Telemetry>,
    /// How the process confines itself.
    pub(crate) hardening: Hardening,
    /// What this daemon shows when it calls a witness over TCP.
    pub(crate) witness_tls: Option<ClientFiles>,
    /// The core's.
    pub(crate) core: hsm_core::config::Config,
    /// The file it came from; without one these are the defaults.
    pub(crate) source: Option<PathBuf>,
}

/// `[daemon]` as it is meant.
#[derive(Debug)]
pub(crate) struct Daemon {
    /// The Unix socket, absolute or relative to the working directory.
    pub(crate) socket: PathBuf,
    /// The group whose members may connect to it, beside the daemon's own user.
    pub(crate) socket_group: Option<u32>,
    /// The TCP listener, if there is one.
    pub(crate) tcp: Option<Tcp>,
    /// The most bytes one request for random bytes gets.
    pub(crate) max_random_bytes: u64,
    /// The most connections at once.
    pub(crate) limits: Limits,
    /// Who may do what.
    pub(crate) clients: Option<PathBuf>,
    /// Whether the superuser may run the daemon.
    pub(crate) allow_root: bool,
    /// How long a gRPC request may take.
    pub(crate) request_timeout: Duration,
    /// Whether gRPC clients may say and hear secrets in plain words.
    pub(crate) plain_secrets: bool,
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Of all kinds, once it is known who it is.
    pub(crate) connections: usize,
    /// Of these, over TCP: the others stay for local clients.
    pub(crate) from_afar: usize,
    /// Of one client.
    pub(crate) of_one_client: usize,
    /// That have not said yet who they are; one more, and the one that has waited longest is closed.
    pub(crate) pending: usize,
    /// How long they may take to say so.
    pub(crate) greeting: Duration,
    /// How long a connection may ask nothing when no application of it has a session.
    pub(crate) idle: Duration,
    /// How many requests of one gRPC connection are taken at once.
    pub(crate) streams: u32,
}

/// The TCP listener as it is meant.
#[derive(Debug)]
pub(crate) struct Tcp {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Without TLS it is `daemon.allow_insecure` on a loopback address.
    pub(crate) tls: Option<TlsFiles>,
}

/// The whole file as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    daemon: WrittenDaemon,
    token: hsm_core::config::TokenTable,
    security: hsm_core::config::SecurityTable,
    store: hsm_core::config::StoreTable,
    audit: hsm_core::config::AuditTable,
    algorithms: hsm_core::config::AlgorithmsTable,
    policy: hsm_core::config::PolicyTable,
    backup: hsm_core::config::BackupTable,
    metrics: WrittenMetrics,
    telemetry: WrittenTelemetry,
    hardening: WrittenHardening,
    witness: WrittenWitness,
    shim: WrittenShim,
}

/// `[metrics]` as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenMetrics {
    bind: Option<String>,
    allow_remote: bool,
}

/// `[daemon]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenDaemon {
    bind: Option<String>,
    bind_unix: Option<PathBuf>,
    socket_group: Option<String>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_client_ca: Option<PathBuf>,
    tls_client_crl: Option<PathBuf>,
    crl_refresh_secs: u64,
    allow_unauthenticated_tls: bool,
    allow_insecure: bool,
    max_random_length: u64,
    max_connections: u64,
    max_tcp_connections: Option<u64>,
    max_connections_per_client: u64,
    max_handshakes: u64,
    handshake_timeout_secs: u64,
    idle_timeout_secs: u64,
    max_streams: u64,
    clients: Option<PathBuf>,
    allow_root: bool,
    request_timeout_secs: u64,
    plain_secrets: bool,
    max_login_attempts: u64,
    login_cooldown_secs: u64,
}

impl Default for WrittenDaemon {
    fn default() -> Self {
        WrittenDaemon {
            bind: None,
            bind_unix: None,
            socket_group: None,
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            tls_client_crl: None,
            crl_refresh_secs: 300,
            allow_unauthenticated_tls: false,
            allow_insecure: false,
            max_random_length: 1_048_576,
            max_connections: 256,
            max_tcp_connections: None,
            max_connections_per_client: 192,
            max_handshakes: 256,
            handshake_timeout_secs: 5,
            idle_timeout_secs: 600,
            max_streams: 64,
            clients: None,
            allow_root: false,
            request_timeout_secs: 30,
            plain_secrets: true,
            max_login_attempts: 5,
            login_cooldown_secs: 60,
        }
    }
}

/// `[shim]`: the names only, the values are the shim's.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenShim {
    endpoint: Option<IgnoredAny>,
    tls_ca: Option<IgnoredAny>,
    tls_cert: Option<IgnoredAny>,
    tls_key: Option<IgnoredAny>,
    spin: Option<IgnoredAny>,
    connect_timeout_ms: Option<IgnoredAny>,
    request_timeout_secs: Option<IgnoredAny>,
    session_resume: Option<IgnoredAny>,
    resume_wait_secs: Option<IgnoredAny>,
    pin_cache: Option<IgnoredAny>,
}

/// Finds, reads and judges the configuration: `given` (the command line's) first, then the environment's, then the usual
/// places; with no file anywhere the defaults hold.
///
/// # Errors
/// [`Refused`] with the one thing that is wrong first.
pub(crate) fn load(given: Option<&Path>) -> Result<Settings, Refused> {
    let Some(path) = find(given, std::env::var_os(VARIABLE).map(PathBuf::from))? else {
        return judge(Written::default(), Path::new(""), None);
    };
    let text = read(&path)?;
    let written = parse(&text).map_err(|Refused(why)| Refused(format!("{}: {why}", path.display())))?;
    // Without symbolic links and `..`, which the core refuses in the paths of the store.
    let base = path
        .canonicalize()
        .map_err(|e| Refused(format!("the configuration {} cannot be found again: {e}", path.display())))?;
    judge(written, base.parent().unwrap_or(Path::new("/")), Some(path))
}

fn find(given: Option<&Path>, environment: Option<PathBuf>) -> Result<Option<PathBuf>, Refused> {
    if let Some(path) = given {
        return Ok(Some(path.to_owned()));
    }
    if let Some(path) = environment.filter(|path| !path.as_os_str().is_empty()) {
        return Ok(Some(path));
    }
    Ok(USUAL_PLACES.iter().map(PathBuf::from).find(|path| path.exists()))
}

/// Judges everything; relative paths are taken from `base`.
fn judge(mut written: Written, base: &Path, source: Option<PathBuf>) -> Result<Settings, Refused> {
    let attempts = narrow(within("daemon.max_login_attempts", written.daemon.max_login_attempts, 1, 1_000)?);
    let cooldown = seconds("daemon.login_cooldown_secs", written.daemon.login_cooldown_secs, 86_400)?;
    let daemon = judge_daemon(written.daemon, base)?;
    let metrics = judge_metrics(&written.metrics)?;
    let telemetry = written.telemetry.judge(base)?;
    written.audit.rebase(base);
    for path in [&mut written.token.storage_path, &mut written.store.key_file] {
        // An empty path stays empty, for the core to refuse by name.
        if let Some(path) = path.as_mut().filter(|path| !path.as_os_str().is_empty()) {
            *path = base.join(&*path);
        }
    }
    let stream = written.backup.stream.iter_mut().chain(&mut written.backup.stream_recipients);
    stream.filter(|path| !path.as_os_str().is_empty()).for_each(|path| *path = base.join(&*path));
    let hardening = written.hardening.judge(base);
    let core = hsm_core::config::Written {
        token: written.token,
        security: written.security,
        store: written.store,
        audit: written.audit,
        algorithms: written.algorithms,
        policy: written.policy,
        backup: written.backup,
    };
    let mut core = core.resolve().map_err(|why| Refused(why.to_string()))?;
    core.pin.client_attempts = attempts;
    core.pin.client_cooldown = cooldown;
    let (witness_tls, witnessed) = written.witness.judge(&core.audit.log_path, base)?;
    let afar = |witness: &Witness| matches!(witness, Witness::Daemon(endpoint) if endpoint.starts_with("https:"));
    if witness_tls.is_none() && core.audit.witnesses.iter().any(afar) {
        return refuse("audit.witness: a daemon over https needs witness.tls_ca, witness.tls_cert and witness.tls_key");
    }
    core.witness = witnessed;
    Ok(Settings { daemon, metrics, telemetry, hardening, witness_tls, core, source })
}

fn judge_daemon(written: WrittenDaemon, base: &Path) -> Result<Daemon, Refused> {
    let socket = base.join(written.bind_unix.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET)));
    if socket.file_name().is_none() || socket.as_os_str().as_bytes().len() > LONGEST_SOCKET_PATH {
        return refuse(format!("daemon.bind_unix: {} is not a path of at most 107 bytes", socket.display()));
    }
    let socket_group = match &written.socket_group {
        None => None,
        Some(name) => match crate::socket::group(name) {
            None => return refuse(format!("daemon.socket_group: this machine has no group {name:?}")),
            known => known,
        },
    };
    Ok(Daemon {
        socket,
        socket_group,
        max_random_bytes: within("daemon.max_random_length", written.max_random_length, 1, 4_194_304)?,
        limits: judge_limits(&written)?,
        clients: written.clients.as_ref().map(|path| base.join(path)),
        allow_root: written.allow_root,
        request_timeout: seconds("daemon.request_timeout_secs", written.request_timeout_secs, 3_600)?,
        plain_secrets: written.plain_secrets,
        tcp: judge_tcp(&written, base)?,
    })
}

fn judge_limits(written: &WrittenDaemon) -> Result<Limits, Refused> {
    let (connections, of_one_client) = (written.max_connections, written.max_connections_per_client);
    let connections = within("daemon.max_connections", connections, 1, 100_000)?;
    // A quarter is out of reach from afar unless the file says otherwise.
    let from_afar = written.max_tcp_connections.unwrap_or((connections - connections / 4).max(1));
    Ok(Limits {
        connections: narrow(connections),
        from_afar: narrow(within("daemon.max_tcp_connections", from_afar, 1, connections)?),
        of_one_client: narrow(within("daemon.max_connections_per_client", of_one_client, 1, 100_000)?),
        pending: narrow(within("daemon.max_handshakes", written.max_handshakes, 1, 10_000)?),
        greeting: seconds("daemon.handshake_timeout_secs", written.handshake_timeout_secs, 60)?,
        idle: seconds("daemon.idle_timeout_secs", written.idle_timeout_secs, 86_400)?,
        streams: narrow(within("daemon.max_streams", written.max_streams, 1, 1024)?),
    })
}

fn judge_tcp(written: &WrittenDaemon, base: &Path) -> Result<Option<Tcp>, Refused> {
    let refresh = seconds("daemon.crl_refresh_secs", written.crl_refresh_secs, 86_400)?;
    let Some(bind) = &written.bind else {
        if written.tls_cert.is_some() || written.tls_key.is_some() {
            return refuse("daemon.tls_cert and daemon.tls_key are set, but daemon.bind is not: name the TCP address");
        }
        return Ok(None);
    };
    let address: SocketAddr = bind
        .parse()
        .map_err(|_| Refused(format!("daemon.bind: {bind:?} is not an address with a port, such as 127.0.0.1:5696")))?;
    let place = |path: &Option<PathBuf>| path.as_ref().map(|path| base.join(path));
    let tls = match (place(&written.tls_cert), place(&written.tls_key)) {
        (Some(certificate), Some(key)) => Some(TlsFiles {
            certificate,
            key,
            client_ca: place(&written.tls_client_ca),
            client_crl: place(&written.tls_client_crl),
            refresh,
        }),
        (None, None) => None,
        _ => return refuse("daemon.tls_cert and daemon.tls_key go together: one of them is missing"),
    };
    let loopback = address.ip().is_loopback();
    match &tls {
        None if !loopback => {
            refuse(format!("daemon.bind: {address} is not a loopback address: set tls_cert, tls_key and tls_client_ca"))
        }
        None if !written.allow_insecure => refuse(
            "daemon.bind: TCP without TLS is refused: set tls_cert, tls_key and tls_client_ca \
             (or allow_insecure, on a loopback address, for tests)",
        ),
        Some(files) if files.client_ca.is_none() && !loopback => {
            refuse(format!("daemon.tls_client_ca is missing: {address} is not a loopback address"))
        }
        Some(files) if files.client_ca.is_none() && !written.allow_unauthenticated_tls => {
            refuse("daemon.tls_client_ca is missing (or allow_unauthenticated_tls, on a loopback address, for tests)")
        }
        Some(files) if files.client_crl.is_some() && files.client_ca.is_none() => {
            refuse("daemon.tls_client_crl needs daemon.tls_client_ca")
        }
        _ => Ok(Some(Tcp { address, tls })),
    }
}

fn judge_metrics(written: &WrittenMetrics) -> Result<Option<SocketAddr>, Refused> {
    let Some(bind) = &written.bind else { return Ok(None) };
    let address: SocketAddr = bind.parse().map_err(|_| {
        Refused(format!("metrics.bind: {bind:?} is not an address with a port, such as 127.0.0.1:9464"))
    })?;
    if !address.ip().is_loopback() && !written.allow_remote {
        return refuse(format!("metrics.bind: {address} is not a loopback address (metrics.allow_remote allows it)"));
    }
    Ok(Some(address))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn judged(text: &str) -> Result<Settings, Refused> {
        judge(parse(text)?, Path::new("/base"), None)
    }

    #[test]
    fn each_wrong_file_is_refused_with_the_key_it_is_about() {
        let rows = [
            ("[daemon]\nbindd = 1", "bindd"),
            ("[deamon]\nbind = \"x\"", "deamon"),
            ("[token]\nlable = \"x\"", "lable"),
            ("[shim]\nspinn = true", "spinn"),
            ("[daemon]\nbind = \"localhost\"", "daemon.bind"),
            ("[daemon]\nbind = \"0.0.0.0:5696\"", "not a loopback"),
            ("[daemon]\nbind = \"0.0.0.0:5696\"\nallow_insecure = true", "not a loopback"),
            ("[daemon]\nbind = \"127.0.0.1:5696\"", "without TLS"),
            ("[daemon]\nbind = \"0.0.0.0:5696\"\ntls_cert = \"c\"\ntls_key = \"k\"", "tls_client_ca"),
            (
                "[daemon]\nbind = \"0.0.0.0:1\"\ntls_cert = \"c\"\ntls_key = \"k\"\nallow_unauthenticated_tls = true",
                "tls_client_ca",
            ),
            ("[daemon]\nbind = \"127.0.0.1:5696\"\ntls_cert = \"c\"\ntls_key = \"k\"", "tls_client_ca"),
            ("[daemon]\nbind = \"127.0.0.1:5696\"\ntls_cert = \"c\"", "go together"),
            ("[daemon]\ntls_cert = \"c\"\ntls_key = \"k\"", "daemon.bind"),
            ("[metrics]\nbind = \"here\"", "metrics.bind"),
            ("[metrics]\nbind = \"0.0.0.0:9464\"", "metrics.allow_remote"),
            ("[metrics]\nbnd = \"127.0.0.1:9464\"", "bnd"),
            ("[telemetry]\nendpoint = \"http://192.0.2.7:4318\"", "telemetry.endpoint"),
            ("[telemetry]\nendpoint = \"https://192.0.2.7\"\ntls_ca = \"a\"", "go together"),
            ("[telemetry]\nsample_ratio = 1.5", "telemetry.sample_ratio"),
            ("[telemetry]\nsample_ratio = nan", "telemetry.sample_ratio"),
            ("[telemetry]\nqueue = 0", "telemetry.queue"),
            ("[telemetry.resource]\n\"\" = \"x\"", "telemetry.resource"),
            ("[hardening]\nseccomp = \"on\"", "enforce"),
            ("[audit]\nwitness = [\"daemon:https://a:1\"]", "witness.tls_ca"),
            ("[audit]\nwitness = [\"daemon:http://a:1\"]", "audit.witness"),
            ("[witness]\ntls_ca = \"ca.pem\"", "go together"),
            ("[[witness.journal]]\norigin = \"a b\"\nkeys = []", "not a journal's name"),
            ("[[witness.journal]]\norigin = \"a\"\nkeys = []", "64 hexadecimal digits"),
            ("[[witness.journal]]\norigin = \"a\"\nkeys = [\"12\"]", "64 hexadecimal digits"),
            ("[daemon]\nmax_connections = 0", "daemon.max_connections"),
            ("[daemon]\nmax_connections = 9\nmax_tcp_connections = 10", "daemon.max_tcp_connections"),
            ("[daemon]\nmax_connections_per_client = 0", "daemon.max_connections_per_client"),
            ("[daemon]\nmax_handshakes = 0", "daemon.max_handshakes"),
            ("[daemon]\nhandshake_timeout_secs = 61", "daemon.handshake_timeout_secs"),
            ("[daemon]\nidle_timeout_secs = 0", "daemon.idle_timeout_secs"),
            ("[daemon]\nmax_streams = 1025", "daemon.max_streams"),
            ("[daemon]\nmax_random_length = 99999999", "daemon.max_random_length"),
            ("[daemon]\nrequest_timeout_secs = 0", "daemon.request_timeout_secs"),
        ];
        for (text, expected) in rows {
            let Err(Refused(why)) = judged(text) else { panic!("accepted: {text}") };
            assert!(why.contains(expected), "{text}: {why}");
            assert!(!why.contains('\n'), "{text}: {why}");
        }
    }

    #[test]
    fn the_annotated_example_says_what_the_defaults_are() {
        let example = judged(include_str!("../../craton_hsm.toml")).expect("valid");
        let defaults = judged("").expect("valid");
        assert_eq!(format!("{:?}", example.daemon), format!("{:?}", defaults.daemon));
        assert!(example.telemetry.is_none() && example.metrics.is_none());
        assert_eq!(format!("{:?}", example.hardening), format!("{:?}", defaults.hardening));
        assert_eq!(format!("{:?}", example.core), format!("{:?}", defaults.core));
    }

    #[test]
    fn a_relative_socket_lies_beside_the_file() {
        let settings = judged("[daemon]\nbind_unix = \"run/hsm.sock\"\n[shim]\nspin = false").expect("valid");
        assert_eq!(settings.daemon.socket, Path::new("/base/run/hsm.sock"));
        assert!(settings.daemon.tcp.is_none());
    }

    #[test]
    fn a_group_that_does_not_exist_is_refused() {
        assert_eq!(judged("[daemon]\nsocket_group = \"4711\"").expect("valid").daemon.socket_group, Some(4711));
        let refused = judged("[daemon]\nsocket_group = \"no such group\"").err().expect("refused").to_string();
        assert!(refused.contains("daemon.socket_group"), "{refused}");
    }

    #[test]
    fn mutual_tls_may_leave_the_machine() {
        let text = "[daemon]\nbind = \"0.0.0.0:5696\"\ntls_cert = \"c\"\ntls_key = \"/k\"\ntls_client_ca = \"ca\"";
        let tcp = judged(text).expect("valid").daemon.tcp.expect("given");
        let tls = tcp.tls.expect("given");
        assert_eq!((tls.certificate, tls.key), (PathBuf::from("/base/c"), PathBuf::from("/k")));
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("craton_hsm.toml");
        std::fs::write(&path, "").expect("written");
        for (mode, fits) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("changed");
            assert_eq!(read(&path).is_ok(), fits, "{mode:o}");
        }
    }

    #[test]
    fn the_command_line_wins_over_the_environment() {
        let found = find(Some(Path::new("a")), Some(PathBuf::from("b"))).expect("found");
        assert_eq!(found, Some(PathBuf::from("a")));
        assert_eq!(find(None, Some(PathBuf::from("b"))).expect("found"), Some(PathBuf::from("b")));
    }
}
