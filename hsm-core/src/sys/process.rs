//! Hardening of the daemon's process: no core dump, no tracing by others, no gained privileges, private new files.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask};

/// Applies to the whole process; to be called first, before any secret is read and any thread started.
///
/// # Errors
/// What the system refused: the daemon should not run then.
pub fn harden_process() -> std::io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_no_new_privs(true)?;
    umask(rustix::fs::Mode::from_raw_mode(0o077));
    Ok(())
}
