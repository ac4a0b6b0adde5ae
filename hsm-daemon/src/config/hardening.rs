//! `[hardening]`: how the process confines itself.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// `[hardening]` as it is meant.
#[derive(Clone, Debug)]
pub(crate) struct Hardening {
    /// The filter of system calls.
    pub(crate) seccomp: Seccomp,
    /// The sandbox of files.
    pub(crate) landlock: Landlock,
    /// What the daemon may write beside its own folders.
    pub(crate) writable: Vec<PathBuf>,
    /// Whether it starts only where its secrets lie in locked memory.
    pub(crate) require_locked_memory: bool,
}

/// What becomes of a system call that is not on the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Seccomp {
    /// It is refused (EPERM); those that only an intruder makes end the process.
    #[default]
    Enforce,
    /// It is done, and the kernel's audit log names it.
    Log,
    /// There is no list.
    Off,
}

/// Whether the kernel holds the daemon to its files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Landlock {
    /// As far as this kernel can.
    #[default]
    Enforce,
    /// Not at all.
    Off,
}

/// `[hardening]` as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenHardening {
    seccomp: Seccomp,
    landlock: Landlock,
    writable: Vec<PathBuf>,
    require_locked_memory: bool,
}

impl WrittenHardening {
    /// What it means; relative paths are taken from `base`.
    pub(super) fn judge(self, base: &Path) -> Hardening {
        let WrittenHardening { seccomp, landlock, writable, require_locked_memory } = self;
        let writable = writable.iter().map(|path| base.join(path)).collect();
        Hardening { seccomp, landlock, writable, require_locked_memory }
    }
}
