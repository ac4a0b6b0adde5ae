//! What the process that supervises this one (systemd) is told (sd_notify(3)): that the daemon serves, that it still lives, that it ends. Without one, nobody
//! is told.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The one that started this process, if there is any.
pub(crate) struct Supervisor {
    line: Option<(UnixDatagram, SocketAddr)>,
    period: Option<Duration>,
}

impl Supervisor {
    /// The one that the environment names.
    pub(crate) fn of_this_process() -> Self {
        let value = |name: &str| std::env::var(name).ok();
        let is_ours = value("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let period = value("WATCHDOG_USEC").filter(|_| is_ours).and_then(|number| number.parse().ok());
        Supervisor {
            line: std::env::var_os("NOTIFY_SOCKET").and_then(|name| line(&name)),
            // Twice as often as it wants to hear of us.
            period: period.map(Duration::from_micros).map(|period| period / 2).filter(|period| !period.is_zero()),
        }
    }

    /// How often it wants to hear that the daemon lives.
    pub(crate) fn period(&self) -> Option<Duration> {
        self.period.filter(|_| self.line.is_some())
    }

    /// Tells it. What it does not hear it does not hear: a daemon serves without.
    pub(crate) fn tell(&self, state: &str) {
        let Some((socket, address)) = &self.line else { return };
        if let Err(error) = socket.send_to_addr(state.as_bytes(), address) {
            tracing::debug!(%error, "the supervisor could not be told");
        }
    }
}

/// A path, or after an `@` a name without one.
fn line(name: &OsStr) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => return None,
    };
    Some((UnixDatagram::unbound().ok()?, address.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_hears_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("notify");
        let name = format!("craton-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(name.as_bytes()).expect("a name");
        let rows = [
            (UnixDatagram::bind(&path).expect("bound"), path.into_os_string()),
            (UnixDatagram::bind_addr(&abstract_name).expect("bound"), format!("@{name}").into()),
        ];
        for (listener, name) in rows {
            let supervisor = Supervisor { line: line(&name), period: None };
            supervisor.tell("READY=1");
            let mut heard = [0; 16];
            let count = listener.recv(&mut heard).expect("a message");
            assert_eq!(&heard[..count], b"READY=1");
        }
        assert!(line(OsStr::new("relative")).is_none());
    }
}
