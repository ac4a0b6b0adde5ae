//! What the module takes from `craton_hsm.toml`: where the daemon listens, how long to wait, and its own `[shim]` table.
//!
//! The file is named by `CRATON_HSM_CONFIG`, else it is `/etc/craton-hsm/craton_hsm.toml` if that can be read; without
//! either the defaults hold. Other tables belong to others and are not looked at; an unknown key in `[shim]` is refused. As
//! nothing may be printed in someone else's process, every fault of the file is `CKR_GENERAL_ERROR` from C_Initialize.
//! Environment variables are ignored in a process that runs with another's privileges (set-user-id and the like).

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use ck::Rv;
use ck::rv::CKR_GENERAL_ERROR;
use rustix::process::{getegid, geteuid, getgid, getuid};
use serde::Deserialize;

use crate::carrier::{Remote, TlsFiles};

const CONFIG_VARIABLE: &str = "CRATON_HSM_CONFIG";
const SOCKET_VARIABLE: &str = "CRATON_HSM_SOCKET";
const DEFAULT_CONFIG: &str = "/etc/craton-hsm/craton_hsm.toml";
const DEFAULT_SOCKET: &str = "/run/craton-hsm/hsm.sock";
/// A configuration file is a few kilobytes; more than this is not one.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// The file as written: the keys that concern the module.
#[derive(Deserialize, Default)]
struct Written {
    #[serde(default)]
    daemon: WrittenDaemon,
    #[serde(default)]
    shim: WrittenShim,
}

#[derive(Deserialize, Default)]
struct WrittenDaemon {
    bind_unix: Option<PathBuf>,
    request_timeout_secs: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct WrittenShim {
    /// `unix:/path`: another socket than the daemon table says. `https://host:port`: a daemon on another machine.
    endpoint: Option<String>,
    tls_ca: Option<PathBuf>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    spin: Option<bool>,
    connect_timeout_ms: Option<u64>,
    /// Instead of the daemon's, which another machine's file does not say.
    request_timeout_secs: Option<u64>,
    session_resume: Option<bool>,
    resume_wait_secs: Option<u64>,
    pin_cache: Option<bool>,
}

/// Where the daemon is.
#[derive(Clone)]
pub(crate) enum Endpoint {
    /// On this machine, behind this Unix socket.
    Local(PathBuf),
    /// On another one.
    Remote(Remote),
}

/// The file as meant.
#[derive(Clone)]
pub(crate) struct Config {
    /// Where the daemon is.
    pub(crate) endpoint: Endpoint,
    /// How long an ordinary request may take.
    pub(crate) request_timeout: Duration,
    /// How long connecting and attaching may take.
    pub(crate) connect_timeout: Duration,
    /// Whether a thread may briefly spin for its reply while that keeps succeeding.
    pub(crate) spin: bool,
    /// Whether sessions go on after the daemon was away.
    pub(crate) resume: Option<Resume>,
}

/// How sessions go on.
#[derive(Clone)]
pub(crate) struct Resume {
    /// How long a call waits for a daemon that went away.
    pub(crate) wait: Duration,
    /// Whether the user's PIN is kept, to log in again.
    pub(crate) pin_cache: bool,
}

impl Config {
    /// Reads the configuration of this process.
    ///
    /// # Errors
    /// `CKR_GENERAL_ERROR`: a file that was named cannot be read, is not valid, or may be written by anyone.
    pub(crate) fn load() -> Result<Self, Rv> {
        let trusted = getuid() == geteuid() && getgid() == getegid();
        let variable = |name| env::var_os(name).filter(|value| trusted && !value.is_empty()).map(PathBuf::from);
        let named = variable(CONFIG_VARIABLE);
        let path = named.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG));
        let mut config = match read(&path) {
            Ok(text) => Self::parse(&text, &path)?,
            Err(ErrorKind::NotFound | ErrorKind::PermissionDenied) if named.is_none() => Self::parse("", &path)?,
            Err(_) => return Err(CKR_GENERAL_ERROR),
        };
        if let Some(socket) = variable(SOCKET_VARIABLE) {
            config.endpoint = Endpoint::Local(socket);
        }
        Ok(config)
    }

    /// From the text of the file at `path`, against whose folder relative paths are resolved.
    fn parse(text: &str, path: &Path) -> Result<Self, Rv> {
        let written: Written = toml::from_str(text).map_err(|_| CKR_GENERAL_ERROR)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let endpoint = written.endpoint(folder)?;
        let seconds = written.shim.request_timeout_secs.or(written.daemon.request_timeout_secs);
        Ok(Config {
            endpoint,
            request_timeout: Duration::from_secs(seconds.unwrap_or(30).clamp(1, 3600)),
            connect_timeout: Duration::from_millis(written.shim.connect_timeout_ms.unwrap_or(5000).clamp(10, 600_000)),
            spin: written.shim.spin.unwrap_or(true),
            resume: written.shim.resume()?,
        })
    }
}

impl WrittenShim {
    /// The other keys mean nothing without the first.
    fn resume(&self) -> Result<Option<Resume>, Rv> {
        let pin_cache = self.pin_cache.unwrap_or(false);
        match self.session_resume.unwrap_or(false) {
            true => {
                let wait = Duration::from_secs(self.resume_wait_secs.unwrap_or(10).clamp(1, 600));
                Ok(Some(Resume { wait, pin_cache }))
            }
            false if pin_cache => Err(CKR_GENERAL_ERROR),
            false => Ok(None),
        }
    }
}

impl Written {
    /// The files of TLS go with `https:` and with nothing else: all of them, or none.
    fn endpoint(&self, folder: &Path) -> Result<Endpoint, Rv> {
        let shim = &self.shim;
        let endpoint = shim.endpoint.as_deref();
        if let Some(authority) = endpoint.and_then(|endpoint| endpoint.strip_prefix("https://")) {
            let place = |file: &Option<PathBuf>| file.as_ref().map(|file| folder.join(file)).ok_or(CKR_GENERAL_ERROR);
            let files = TlsFiles { ca: place(&shim.tls_ca)?, cert: place(&shim.tls_cert)?, key: place(&shim.tls_key)? };
            return Remote::open(authority, &files).map(Endpoint::Remote).ok_or(CKR_GENERAL_ERROR);
        }
        if [&shim.tls_ca, &shim.tls_cert, &shim.tls_key].into_iter().any(Option::is_some) {
            return Err(CKR_GENERAL_ERROR);
        }
        let socket = match endpoint {
            None => self.daemon.bind_unix.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET)),
            Some(endpoint) => Path::new(endpoint.strip_prefix("unix:").ok_or(CKR_GENERAL_ERROR)?),
        };
        Ok(Endpoint::Local(folder.join(socket)))
    }
}

/// A file that anyone may write could lead PINs to a stranger's socket; it is no configuration.
fn read(path: &Path) -> Result<String, ErrorKind> {
    let metadata = fs::metadata(path).map_err(|error| error.kind())?;
    if !metadata.is_file() || metadata.mode() & 0o002 != 0 || metadata.len() > MAX_CONFIG_BYTES {
        return Err(ErrorKind::InvalidData);
    }
    fs::read_to_string(path).map_err(|error| error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    fn parse(text: &str) -> Result<Config, Rv> {
        Config::parse(text, Path::new("/srv/hsm/craton_hsm.toml"))
    }

    fn socket(config: &Config) -> &Path {
        match &config.endpoint {
            Endpoint::Local(socket) => socket,
            Endpoint::Remote(_) => panic!("not a socket"),
        }
    }

    #[test]
    fn without_a_file_the_defaults_hold() {
        let config = parse("").expect("empty");
        assert_eq!(socket(&config), Path::new(DEFAULT_SOCKET));
        assert_eq!(config.request_timeout, Duration::from_secs(30));
        assert!(config.spin);
    }

    #[test]
    fn tables_of_others_are_ignored_and_relative_sockets_resolved() {
        let text =
            "top = 1\n[daemon]\nbind_unix = \"run/hsm.sock\"\nrequest_timeout_secs = 7\nworkers = 3\n[store]\nx = 1\n";
        let config = parse(text).expect("valid");
        assert_eq!(socket(&config), Path::new("/srv/hsm/run/hsm.sock"));
        assert_eq!(config.request_timeout, Duration::from_secs(7));
    }

    #[test]
    fn the_shims_own_table_decides_and_is_strict() {
        let config =
            parse("[daemon]\nbind_unix = \"/a\"\n[shim]\nendpoint = \"unix:/b\"\nspin = false\n").expect("valid");
        assert_eq!((socket(&config), config.spin), (Path::new("/b"), false));
        let bad = [
            "[shim]\nspinn = true",
            "[shim]\npin_cache = true",
            "[shim]\nendpoint = \"ftp://x\"",
            "[daemon]\nbind_unix = 3",
            "[daemon",
            "[shim]\ntls_ca = \"ca.pem\"",
            "[shim]\nendpoint = \"https://localhost:1\"",
            "[shim]\nendpoint = \"https://localhost:1\"\ntls_ca = \"a\"\ntls_cert = \"absent\"\ntls_key = \"k\"",
        ];
        for bad in bad {
            assert_eq!(parse(bad).err(), Some(CKR_GENERAL_ERROR), "{bad}");
        }
    }

    #[test]
    fn sessions_go_on_only_where_that_is_written() {
        let resume = |text| parse(text).expect("valid").resume.map(|resume| (resume.wait.as_secs(), resume.pin_cache));
        assert_eq!(resume("[shim]\nresume_wait_secs = 3"), None);
        assert_eq!(resume("[shim]\nsession_resume = true"), Some((10, false)));
        assert_eq!(resume("[shim]\nsession_resume = true\nresume_wait_secs = 3\npin_cache = true"), Some((3, true)));
    }

    #[test]
    fn a_world_writable_file_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("craton_hsm.toml");
        fs::write(&path, "").expect("written");
        for (mode, fine) in [(0o644, true), (0o646, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set");
            assert_eq!(read(&path).is_ok(), fine, "{mode:o}");
        }
    }
}
