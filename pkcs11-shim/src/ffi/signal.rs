//! For tests only: whether this thread raised SIGPIPE.
#![expect(unsafe_code, reason = "a signal is blocked to see whether it was raised")]

/// The number of SIGPIPE on Linux.
const SIGPIPE: u32 = 13;

/// Blocks SIGPIPE in this thread. Blocked signals stay pending, even ignored ones: so one thread can see what it raised, and no
/// other is disturbed.
pub(crate) fn block_sigpipe() {
    unsafe extern "C" {
        fn pthread_sigmask(how: i32, set: *const [u64; 16], old: *mut [u64; 16]) -> i32;
    }
    let mut set = [0; 16];
    set[0] = 1 << (SIGPIPE - 1);
    // SAFETY: glibc's signal sets are 128 bytes; 0 is SIG_BLOCK; the old set is not asked for.
    assert_eq!(unsafe { pthread_sigmask(0, &raw const set, std::ptr::null_mut()) }, 0);
}

/// Whether a SIGPIPE waits for this thread.
pub(crate) fn sigpipe_was_raised() -> bool {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("proc");
    let pending = status.lines().find_map(|line| line.strip_prefix("SigPnd:")).expect("the kernel says");
    u64::from_str_radix(pending.trim(), 16).expect("hexadecimal") & (1 << (SIGPIPE - 1)) != 0
}
