//! Whether the library is initialised in this process, and its one global: what belongs to this process id, and to no process forked from it.
//!
//! A forked child inherits the pointer but not the process id; it is uninitialised, and its first `C_Initialize` makes a
//! [`Process`] of its own. The parent's is leaked there on purpose: its locks may be held by threads that the child does
//! not have, and its sockets are the parent's (PKCS#11 v3.0 section 5.4, C_Initialize).
#![expect(unsafe_code, reason = "a leaked pointer is read back")]

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use ck::Rv;
use ck::rv::{CKR_CRYPTOKI_ALREADY_INITIALIZED, CKR_CRYPTOKI_NOT_INITIALIZED};

use crate::config::Config;
use crate::library::Run;

static PROCESS: AtomicPtr<Process> = AtomicPtr::new(ptr::null_mut());

/// What one process id has: a library that is initialised, or not.
struct Process {
    id: u32,
    run: RwLock<Option<Arc<Run>>>,
}

/// C_Initialize: the daemon is not needed for it and is reached when something first needs it.
pub(crate) fn initialize() -> Result<(), Rv> {
    let mut run = current_or_new().run.write().unwrap_or_else(PoisonError::into_inner);
    if run.is_some() {
        return Err(CKR_CRYPTOKI_ALREADY_INITIALIZED);
    }
    *run = Some(Arc::new(Run::new(&Config::load()?)));
    Ok(())
}

/// C_Finalize.
pub(crate) fn finalize() -> Result<(), Rv> {
    let process = current().ok_or(CKR_CRYPTOKI_NOT_INITIALIZED)?;
    let run = process.run.write().unwrap_or_else(PoisonError::into_inner).take();
    run.ok_or(CKR_CRYPTOKI_NOT_INITIALIZED)?.finalize();
    Ok(())
}

/// The library of this process.
pub(crate) fn library() -> Result<Arc<Run>, Rv> {
    let process = current().ok_or(CKR_CRYPTOKI_NOT_INITIALIZED)?;
    let run = process.run.read().unwrap_or_else(PoisonError::into_inner);
    run.clone().ok_or(CKR_CRYPTOKI_NOT_INITIALIZED)
}

/// What this very process has made so far.
fn current() -> Option<&'static Process> {
    own(PROCESS.load(Ordering::Acquire))
}

fn own(pointer: *mut Process) -> Option<&'static Process> {
    // SAFETY: every value of `PROCESS` is NULL or comes from `Box::leak` in `current_or_new`, where it is never freed once it was stored.
    let process = unsafe { pointer.as_ref() }?;
    (process.id == std::process::id()).then_some(process)
}

/// What this process has made so far, or a new beginning. What is judged is what is replaced: a beginning that another thread made
/// meanwhile stays.
fn current_or_new() -> &'static Process {
    loop {
        let old = PROCESS.load(Ordering::Acquire);
        if let Some(process) = own(old) {
            return process;
        }
        let new: *mut Process = Box::leak(Box::new(Process { id: std::process::id(), run: RwLock::new(None) }));
        if PROCESS.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: the exchange failed, so no one else has seen the box that was leaked two lines above.
            drop(unsafe { Box::from_raw(new) });
        }
    }
}
