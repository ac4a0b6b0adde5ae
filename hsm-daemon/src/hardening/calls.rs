//! The list of system calls that the daemon makes (docs/hardening.md shows it), and those that end the process.

use std::collections::BTreeMap;

use libc::*;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};

use crate::config::Seccomp;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
#[error("the filter of system calls cannot be set: {0}")]
pub(crate) struct NoFilter(String);

/// Filters the system calls of all threads, those of today and those to come.
///
/// # Errors
/// When this kernel takes no filter.
pub(crate) fn confine_calls(how: Seccomp) -> Result<(), NoFilter> {
    let otherwise = match how {
        Seccomp::Off => return Ok(()),
        Seccomp::Log => SeccompAction::Log,
        Seccomp::Enforce => SeccompAction::Errno(EPERM as u32),
    };
    let allowed = ALLOWED.iter().map(|(_, number)| (*number, Vec::new()));
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = allowed.collect();
    rules.insert(SYS_socket, socket_families()?);
    rules.insert(SYS_clone, no_namespaces()?);
    rules.insert(SYS_clone3, Vec::new());
    if how == Seccomp::Enforce {
        // Of several filters the strictest answer counts: these allow everything else, so they come with the last.
        let ended = ENDED.iter().map(|(_, number)| (*number, Vec::new())).collect();
        apply(ended, SeccompAction::Allow, SeccompAction::KillProcess)?;
        let unknown = BTreeMap::from([(SYS_clone3, Vec::new())]);
        apply(unknown, SeccompAction::Allow, SeccompAction::Errno(ENOSYS as u32))?;
    }
    apply(rules, otherwise, SeccompAction::Allow)?;
    tracing::info!(allowed = ALLOWED.len(), ?how, "system calls are filtered");
    Ok(())
}

fn apply(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> Result<(), NoFilter> {
    let arch = std::env::consts::ARCH.try_into().map_err(|_| NoFilter("this processor is not known".to_owned()))?;
    let filter = SeccompFilter::new(rules, otherwise, listed, arch).map_err(|why| NoFilter(why.to_string()))?;
    let program: BpfProgram = filter.try_into().map_err(|why: seccompiler::BackendError| NoFilter(why.to_string()))?;
    apply_filter_all_threads(&program).map_err(|why| NoFilter(why.to_string()))
}

/// socket(2) with one of these families only.
fn socket_families() -> Result<Vec<SeccompRule>, NoFilter> {
    let rule = |family: i32| {
        let family = u64::from(family.unsigned_abs());
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family);
        condition.and_then(|condition| SeccompRule::new(vec![condition])).map_err(|why| NoFilter(why.to_string()))
    };
    [AF_UNIX, AF_INET, AF_INET6].into_iter().map(rule).collect()
}

/// clone(2) without a flag that makes a namespace. The flags of clone3(2) lie in memory, where no filter sees them: it is answered as if
/// this kernel did not know it, and libraries take clone(2).
fn no_namespaces() -> Result<Vec<SeccompRule>, NoFilter> {
    let flags = [CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET];
    let mask = flags.into_iter().fold(0, |mask, flag| mask | u64::from(flag.unsigned_abs()));
    let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(mask), 0);
    let rule = condition.and_then(|condition| SeccompRule::new(vec![condition]));
    Ok(vec![rule.map_err(|why| NoFilter(why.to_string()))?])
}

macro_rules! calls {
    ($($name:ident)*) => { &[$((stringify!($name), $name)),*] };
}

/// What the daemon calls. `socket` is allowed for Unix and Internet sockets only, `clone` without new namespaces.
#[cfg(target_arch = "x86_64")]
pub(crate) static ALLOWED: &[(&str, i64)] = calls! {
    SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64 SYS_lseek SYS_open SYS_openat SYS_close SYS_close_range
    SYS_stat SYS_lstat SYS_fstat SYS_newfstatat SYS_statx SYS_statfs SYS_fstatfs SYS_access SYS_faccessat SYS_faccessat2
    SYS_readlink SYS_readlinkat SYS_getdents64 SYS_getcwd SYS_mkdir SYS_mkdirat SYS_rmdir SYS_rename SYS_renameat SYS_renameat2
    SYS_link SYS_linkat SYS_unlink SYS_unlinkat SYS_chmod SYS_fchmod SYS_fchmodat SYS_chown SYS_fchown SYS_lchown SYS_fchownat
    SYS_umask SYS_truncate SYS_ftruncate SYS_fallocate SYS_fsync SYS_fdatasync SYS_flock SYS_fcntl SYS_ioctl SYS_dup SYS_dup2
    SYS_dup3 SYS_pipe2 SYS_eventfd2 SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_wait SYS_epoll_pwait SYS_epoll_pwait2 SYS_poll
    SYS_ppoll SYS_select SYS_pselect6 SYS_socketpair SYS_bind SYS_listen SYS_accept SYS_accept4 SYS_connect SYS_getsockname
    SYS_getpeername SYS_getsockopt SYS_setsockopt SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_shutdown SYS_mmap
    SYS_mprotect SYS_munmap SYS_mremap SYS_madvise SYS_msync SYS_mincore SYS_brk SYS_mlock SYS_mlock2 SYS_munlock
    SYS_memfd_secret SYS_futex SYS_set_robust_list SYS_get_robust_list SYS_clone SYS_exit SYS_exit_group
    SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_sigaltstack SYS_tgkill SYS_gettid SYS_getpid SYS_getppid
    SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getgroups SYS_getrandom SYS_clock_gettime SYS_clock_getres
    SYS_clock_nanosleep SYS_nanosleep SYS_gettimeofday SYS_time SYS_timerfd_create SYS_timerfd_settime SYS_sched_yield
    SYS_sched_getaffinity SYS_prctl SYS_arch_prctl SYS_rseq SYS_set_tid_address SYS_prlimit64 SYS_getrlimit SYS_getrusage
    SYS_sysinfo SYS_uname SYS_membarrier SYS_restart_syscall SYS_setpriority
};

/// As above; the older names are not known on this processor.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) static ALLOWED: &[(&str, i64)] = calls! {
    SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64 SYS_lseek SYS_openat SYS_close SYS_close_range SYS_fstat
    SYS_newfstatat SYS_statx SYS_statfs SYS_fstatfs SYS_faccessat SYS_faccessat2 SYS_readlinkat SYS_getdents64 SYS_getcwd
    SYS_mkdirat SYS_renameat SYS_renameat2 SYS_linkat SYS_unlinkat SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_umask
    SYS_truncate SYS_ftruncate SYS_fallocate SYS_fsync SYS_fdatasync SYS_flock SYS_fcntl SYS_ioctl SYS_dup SYS_dup3 SYS_pipe2
    SYS_eventfd2 SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_ppoll SYS_pselect6 SYS_socketpair
    SYS_bind SYS_listen SYS_accept SYS_accept4 SYS_connect SYS_getsockname SYS_getpeername SYS_getsockopt SYS_setsockopt
    SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_shutdown SYS_mmap SYS_mprotect SYS_munmap SYS_mremap SYS_madvise
    SYS_msync SYS_mincore SYS_brk SYS_mlock SYS_mlock2 SYS_munlock SYS_futex SYS_set_robust_list SYS_get_robust_list SYS_clone
    SYS_exit SYS_exit_group SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_sigaltstack SYS_tgkill
    SYS_gettid SYS_getpid SYS_getppid SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getgroups SYS_getrandom
    SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_nanosleep SYS_gettimeofday SYS_timerfd_create
    SYS_timerfd_settime SYS_sched_yield SYS_sched_getaffinity SYS_prctl SYS_rseq SYS_set_tid_address SYS_prlimit64
    SYS_getrusage SYS_sysinfo SYS_uname SYS_membarrier SYS_restart_syscall SYS_setpriority
};

/// What no daemon of ours ever calls, and an intruder would: it ends the process.
pub(crate) static ENDED: &[(&str, i64)] = calls! {
    SYS_execve SYS_execveat SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev SYS_bpf SYS_perf_event_open SYS_userfaultfd
    SYS_kexec_load SYS_init_module SYS_finit_module SYS_delete_module SYS_mount SYS_umount2 SYS_pivot_root SYS_chroot SYS_setns
    SYS_unshare SYS_add_key SYS_request_key SYS_keyctl SYS_io_uring_setup SYS_setuid SYS_setgid SYS_reboot SYS_pidfd_getfd
    SYS_kexec_file_load SYS_setresuid SYS_setresgid SYS_setreuid SYS_setregid SYS_setfsuid SYS_setfsgid SYS_setgroups SYS_capset
    SYS_move_mount SYS_fsopen SYS_fsconfig SYS_fsmount SYS_open_tree SYS_open_by_handle_at SYS_swapon SYS_swapoff SYS_acct
    SYS_settimeofday SYS_clock_settime SYS_syslog
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs one of the ignored tests below in a process of its own.
    fn alone(test: &str) -> std::process::Output {
        let mut child = std::process::Command::new(std::env::current_exe().expect("running"));
        child.args(["--exact", &format!("hardening::calls::tests::{test}"), "--ignored", "--test-threads=1"]);
        child.output().expect("started")
    }

    #[test]
    fn a_forbidden_family_of_sockets_is_refused_and_the_rest_goes_on() {
        let output = alone("a_filtered_process_goes_on");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    #[test]
    fn starting_a_program_ends_a_filtered_process() {
        use std::os::unix::process::ExitStatusExt;
        let output = alone("a_filtered_process_starts_a_program");
        assert_eq!(output.status.signal(), Some(SIGSYS), "{}", String::from_utf8_lossy(&output.stdout));
    }

    #[test]
    fn no_call_is_on_both_lists() {
        for (name, number) in ENDED {
            assert!(ALLOWED.iter().all(|(_, allowed)| allowed != number), "{name}");
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_documented_lists_are_the_lists() {
        let document = include_str!("../../../docs/hardening.md");
        for (first, table) in [("`accept`", ALLOWED), ("`acct`", ENDED)] {
            let paragraph = document.split("\n\n").find(|part| part.starts_with(first)).expect("its paragraph");
            let named: Vec<&str> = paragraph.split_whitespace().map(|word| word.trim_matches('`')).collect();
            let mut due: Vec<&str> = table.iter().map(|(name, _)| name.trim_start_matches("SYS_")).collect();
            due.sort_unstable();
            assert_eq!(named, due, "docs/hardening.md");
        }
    }

    #[test]
    #[ignore = "it changes its whole process: another test runs it in one of its own"]
    fn a_filtered_process_goes_on() {
        confine_calls(Seccomp::Enforce).expect("a filter");
        use rustix::net::{AddressFamily, SocketType, socket};
        let refused = socket(AddressFamily::NETLINK, SocketType::DGRAM, None).expect_err("not on the list");
        assert_eq!(refused, rustix::io::Errno::PERM);
        socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("on the list");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("file"), "text").expect("written");
        std::thread::spawn(|| ()).join().expect("a thread");
    }

    #[test]
    #[ignore = "it ends its whole process: another test runs it in one of its own"]
    fn a_filtered_process_starts_a_program() {
        use std::os::unix::process::CommandExt;
        confine_calls(Seccomp::Enforce).expect("a filter");
        // In this process, not in a child of it.
        let error = std::process::Command::new("/bin/true").exec();
        panic!("still here: {error}");
    }
}
