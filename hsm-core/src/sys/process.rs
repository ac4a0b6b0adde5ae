//! Hardening of the daemon's process: no core dump, no tracing by others, no gained privileges, private new files. Threads that give way.

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

/// How much less of a busy processor a thread gets that gives way, as a nice value: a third of what others do (sched(7)).
const GIVES_WAY: i32 = 5;

/// From now on the calling thread leaves busy processors to others. Where the system does not allow this, nothing changes.
pub(crate) fn give_way() {
    // setpriority(2) of no process is the calling thread's own on Linux.
    rustix::process::setpriority_process(None, GIVES_WAY).ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{dumpable_behavior, getrlimit};

    #[test]
    fn hardening_takes_effect() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "sys::process::tests::a_hardened_process_is_hard", "--ignored"]);
        let output = child.output().unwrap();
        let report = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && report.contains("1 passed"), "{report}");
    }

    #[test]
    fn a_thread_that_gives_way_is_alone_in_that() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let before = priority();
        let given = std::thread::spawn(move || {
            give_way();
            priority()
        });
        assert_eq!(given.join().unwrap(), before.max(GIVES_WAY));
        assert_eq!(priority(), before);
    }

    #[test]
    #[ignore = "it changes its whole process: hardening_takes_effect runs it in one of its own"]
    fn a_hardened_process_is_hard() {
        harden_process().unwrap();
        assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: Some(0) });
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert!(rustix::thread::no_new_privs().unwrap());
        assert_eq!(umask(rustix::fs::Mode::empty()).as_raw_mode(), 0o077);
    }
}
