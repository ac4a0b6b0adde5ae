//! The one global of the library: what belongs to this process id, and to no process forked from it.
//!
//! A forked child inherits the pointer but not the process id; it is uninitialised, and its first `C_Initialize` makes a
//! [`Process`] of its own. The parent's is leaked there on purpose: its locks may be held by threads that the child does
//! not have, and its sockets are the parent's (PKCS#11 v3.0 section 5.4, C_Initialize).
#![expect(unsafe_code, reason = "a leaked pointer is read back")]

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::library::Process;

static PROCESS: AtomicPtr<Process> = AtomicPtr::new(ptr::null_mut());

/// What this very process has made so far.
pub(crate) fn current() -> Option<&'static Process> {
    own(PROCESS.load(Ordering::Acquire))
}

fn own(pointer: *mut Process) -> Option<&'static Process> {
    // SAFETY: every value of `PROCESS` is NULL or comes from `Box::leak` in `current_or_new`, where it is never freed once it was stored.
    let process = unsafe { pointer.as_ref() }?;
    (process.id() == std::process::id()).then_some(process)
}

/// What this process has made so far, or a new beginning. What is judged is what is replaced: a beginning that another thread made
/// meanwhile stays.
pub(crate) fn current_or_new() -> &'static Process {
    loop {
        let old = PROCESS.load(Ordering::Acquire);
        if let Some(process) = own(old) {
            return process;
        }
        let new: *mut Process = Box::leak(Box::new(Process::new(std::process::id())));
        if PROCESS.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: the exchange failed, so no one else has seen the box that was leaked two lines above.
            drop(unsafe { Box::from_raw(new) });
        }
    }
}
