//! What a daemon that was taken over could still do, made small: no superuser, no files but its own, no system call that it does not
//! need. What the process does for itself before it reads anything (no core dump, no tracing) is hsm-core's `harden_process`.
//!
//! The order: [`refuse_root`] and [`confine_files`] before the store is opened, while there is one thread; [`confine_calls`] for all
//! threads when it is open.

mod calls;

use std::path::{Path, PathBuf};

use hsm_core::audit::Witness;
use landlock::{
    ABI, Access, AccessFs, BitFlags, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, path_beneath_rules,
};

use crate::config::{Landlock, Settings};
use crate::toml_file::Refused;

pub(crate) use calls::confine_calls;

/// A daemon of the superuser could undo most of what follows.
///
/// # Errors
/// [`Refused`] unless the configuration allows it.
pub(crate) fn refuse_root(allowed: bool) -> Result<(), Refused> {
    if allowed || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Refused("the daemon does not run as root: give it a user of its own, or set daemon.allow_root".to_owned()))
}

/// Holds the process to its files: what it writes lies in the folders that the configuration names, what it reads there, in the
/// folders of its TLS files, and where the system keeps libraries and settings. Nothing is ever executed.
///
/// # Errors
/// A sentence when a kernel that can do it does not. One that cannot leaves a warning.
pub(crate) fn confine_files(settings: &Settings) -> Result<(), String> {
    if settings.hardening.landlock == Landlock::Off {
        return Ok(());
    }
    let said = |error: &dyn core::fmt::Display| format!("the daemon cannot be held to its files: {error}");
    // What a kernel does not know is left out.
    let abi = ABI::V5;
    let look: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let change = AccessFs::from_write(abi) & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeFifo);
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))
        .and_then(Ruleset::create)
        .and_then(|rules| rules.add_rules(path_beneath_rules(readable(settings), look)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(writable(settings), look | change)))
        .and_then(|rules| rules.restrict_self())
        .map_err(|error| said(&error))?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => tracing::info!("held to its files by Landlock"),
        RulesetStatus::PartiallyEnforced => tracing::info!("held to its files by Landlock, as far as this kernel can"),
        RulesetStatus::NotEnforced => {
            tracing::warn!("this kernel has no Landlock: the daemon is not held to its files")
        }
    }
    Ok(())
}

/// What the daemon reads beside its own folders.
const SYSTEM: [&str; 8] =
    ["/etc", "/usr", "/lib", "/lib64", "/proc", "/sys/fs/cgroup", "/sys/devices/system/cpu", "/dev"];

fn readable(settings: &Settings) -> Vec<PathBuf> {
    let daemon = &settings.daemon;
    let tls = daemon.tcp.as_ref().and_then(|tcp| tcp.tls.as_ref());
    let files = tls
        .into_iter()
        .flat_map(|tls| [Some(&tls.certificate), Some(&tls.key), tls.client_ca.as_ref(), tls.client_crl.as_ref()]);
    // The folders, because a file that is replaced is another one.
    let files = files.flatten().chain(&daemon.clients).chain(&settings.source).chain(&settings.core.store.key_file);
    let told = settings.telemetry.as_ref().and_then(|told| told.place.files());
    let files = files.chain(told.into_iter().flat_map(|files| [&files.ca, &files.certificate, &files.key]));
    let files = files.chain(settings.core.stream.iter().flat_map(|stream| &stream.recipients));
    let files = files.chain(settings.witness_tls.iter().flat_map(|tls| [&tls.ca, &tls.certificate, &tls.key]));
    let folders = files.filter_map(|file| existing(file.parent()?));
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    folders.chain(SYSTEM.map(PathBuf::from)).chain(credentials).collect()
}

fn writable(settings: &Settings) -> Vec<PathBuf> {
    let core = &settings.core;
    // The store's key, its lock and what a restore sets aside lie beside the store.
    let own = [
        Some(core.store.path.as_path()),
        core.store.path.parent(),
        core.audit.log_path.parent(),
        settings.daemon.socket.parent(),
    ];
    let key = core.store.key_file.as_deref().and_then(Path::parent);
    let elsewhere =
        [core.audit.anchor.as_deref().and_then(Path::parent), core.stream.as_ref().map(|s| s.directory.as_path())];
    let witnesses = core.audit.witnesses.iter().map(|witness| match witness {
        Witness::File(path) => path.parent(),
        Witness::Syslog(_) | Witness::Daemon(_) => None,
    });
    let held = (!core.witness.journals.is_empty()).then_some(core.witness.directory.as_path());
    let own =
        own.into_iter().chain([key]).chain(elsewhere).chain(witnesses).chain([held]).flatten().filter_map(existing);
    own.chain(settings.hardening.writable.iter().filter_map(|path| existing(path)))
        .chain([PathBuf::from("/dev/null")])
        .collect()
}

/// The folder, or the nearest above it that is there: one that will be made is made in it.
fn existing(folder: &Path) -> Option<PathBuf> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    folder.ancestors().find(|ancestor| ancestor.exists()).map(|found| match found.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => found.to_owned(),
    })
}
