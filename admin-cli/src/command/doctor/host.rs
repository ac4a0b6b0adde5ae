//! What the doctor asks of the machine: its services and timers, its clock, and what the daemon's process may use. What cannot be asked
//! is absent.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

/// A service or timer as systemd tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) name: String,
    /// `loaded`, `not-found`.
    pub(super) load: String,
    /// `active`, `inactive`, `failed`.
    pub(super) active: String,
    /// Why it failed.
    pub(super) result: String,
}

/// Whether somebody keeps the clock right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    Kept,
    Drifts,
    Unknown,
}

/// What the daemon's process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) files: u64,
    pub(super) locked_bytes: u64,
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// Empty where systemd is not, or does not answer.
    pub(super) units: Vec<Unit>,
    pub(super) clock: Clock,
    pub(super) limits: Option<Limits>,
    /// The running daemon's `RUST_LOG`.
    pub(super) log: Option<String>,
}

/// What the package brings.
pub(super) const TIMERS: [&str; 3] = ["craton-backup.timer", "craton-drill.timer", "craton-pki-backup.timer"];
pub(super) const PKI: &str = "craton-pki.service";
const SERVICES: [&str; 6] = [
    "craton-hsm.service",
    PKI,
    "craton-backup.service",
    "craton-drill.service",
    "craton-pki-backup.service",
    "craton-pki-client.service",
];

impl Host {
    pub(super) fn look(socket: &Path) -> Self {
        let process = peer(socket).map(|pid| format!("/proc/{pid}"));
        let of = |file: &str| process.as_ref().and_then(|process| fs::read(format!("{process}/{file}")).ok());
        Host {
            units: ask(
                "systemctl",
                &[&["show", "--property=Id,LoadState,ActiveState,Result"], &TIMERS[..], &SERVICES].concat(),
            )
            .map(|text| units(&text))
            .unwrap_or_default(),
            clock: clock(ask("timedatectl", &["show", "--property=NTPSynchronized"]).as_deref()),
            limits: of("limits").and_then(|text| limits(&String::from_utf8_lossy(&text))),
            log: of("environ").and_then(|text| log(&String::from_utf8_lossy(&text))),
        }
    }

    pub(super) fn unit(&self, name: &str) -> Option<&Unit> {
        self.units.iter().find(|unit| unit.name == name)
    }
}

/// Who serves on the socket.
fn peer(socket: &Path) -> Option<i32> {
    let stream = UnixStream::connect(socket).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    Some(peer.pid.as_raw_nonzero().get())
}

/// What a program prints, if it is there and succeeds.
fn ask(program: &str, arguments: &[&str]) -> Option<String> {
    let said = Command::new(program).args(arguments).env("LC_ALL", "C").output().ok()?;
    said.status.success().then(|| String::from_utf8_lossy(&said.stdout).into_owned())
}

/// Blocks of `Name=value`, one per unit.
fn units(text: &str) -> Vec<Unit> {
    let unit = |block: &str| {
        let value = |name: &str| {
            let mut lines = block.lines().filter_map(|line| line.split_once('='));
            lines.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).unwrap_or_default()
        };
        Unit { name: value("Id"), load: value("LoadState"), active: value("ActiveState"), result: value("Result") }
    };
    text.split("\n\n").map(unit).filter(|unit| !unit.name.is_empty()).collect()
}

fn clock(text: Option<&str>) -> Clock {
    match text.map(str::trim) {
        Some("NTPSynchronized=yes") => Clock::Kept,
        Some("NTPSynchronized=no") => Clock::Drifts,
        _ => Clock::Unknown,
    }
}

/// The soft limits, as the kernel prints them.
fn limits(text: &str) -> Option<Limits> {
    let soft = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        match rest.split_whitespace().next()? {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        }
    };
    Some(Limits { files: soft("Max open files")?, locked_bytes: soft("Max locked memory")? })
}

fn log(environment: &str) -> Option<String> {
    environment.split('\0').find_map(|entry| entry.strip_prefix("RUST_LOG=")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_says_is_understood() {
        let text = "Id=craton-backup.timer\nLoadState=loaded\nActiveState=active\nResult=success\n\n\
                    Result=exit-code\nId=craton-backup.service\nLoadState=loaded\nActiveState=failed\n\n\
                    Id=craton-drill.timer\nLoadState=not-found\nActiveState=inactive\n";
        let found = units(text);
        assert_eq!(found.len(), 3);
        assert_eq!((found[1].active.as_str(), found[1].result.as_str()), ("failed", "exit-code"));
        assert_eq!((found[2].load.as_str(), found[2].result.as_str()), ("not-found", ""));
        assert!(units("").is_empty() && units("nonsense\n\nmore").is_empty());
    }

    #[test]
    fn what_the_clock_and_the_kernel_say_is_understood() {
        let rows = [
            (Some("NTPSynchronized=yes\n"), Clock::Kept),
            (Some("NTPSynchronized=no\n"), Clock::Drifts),
            (Some(""), Clock::Unknown),
            (None, Clock::Unknown),
        ];
        for (text, due) in rows {
            assert_eq!(clock(text), due, "{text:?}");
        }
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max open files            1024                 1048576              files\n\
                    Max locked memory         unlimited            unlimited            bytes\n";
        assert_eq!(limits(text), Some(Limits { files: 1024, locked_bytes: u64::MAX }));
        assert_eq!(limits("Max open files 1\n"), None);
        assert_eq!(log("A=1\0RUST_LOG=info,x=debug\0"), Some("info,x=debug".to_owned()));
        assert_eq!(log("A=1"), None);
        assert!(ask("a-program-that-nobody-has", &[]).is_none());
    }
}
