//! The built library itself, as a C program meets it without any daemon: its symbols, C_Initialize and C_Finalize in all
//! their forms, threads, fork, and silence.
#![expect(unsafe_code, reason = "a C library is loaded and called")]

use std::ffi::c_void;
use std::path::PathBuf;
use std::process::Command;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ck::Rv;
use ck::rv::{
    CKR_ARGUMENTS_BAD, CKR_CRYPTOKI_ALREADY_INITIALIZED, CKR_CRYPTOKI_NOT_INITIALIZED, CKR_NO_EVENT, CKR_OK,
    CKR_SESSION_HANDLE_INVALID,
};
use cryptoki_sys::{
    CK_C_INITIALIZE_ARGS, CK_FUNCTION_LIST, CK_INFO, CK_RV, CKF_DONT_BLOCK, CKF_LIBRARY_CANT_CREATE_OS_THREADS,
    CKF_OS_LOCKING_OK,
};
use libloading::Library;

/// C_Initialize belongs to the whole process: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

struct Module {
    list: *mut CK_FUNCTION_LIST,
    library: Library,
    _turn: MutexGuard<'static, ()>,
}

/// Calls a function of the list; the return value prints its name.
macro_rules! call {
    ($module:expr, $function:ident($($argument:expr),*)) => {{
        // SAFETY: the list came from C_GetFunctionList and the arguments are this test's.
        let function = unsafe { (*$module.list).$function }.expect("no pointer is NULL");
        // SAFETY: as above.
        Rv(unsafe { function($($argument),*) })
    }};
}

fn path() -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    test.parent().expect("a folder").join("libcraton_pkcs11.so")
}

impl Module {
    fn load() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: our own library; it runs no code when it is loaded.
        let library = unsafe { Library::new(path()) }.expect("the library loads");
        let mut list = ptr::null_mut();
        // SAFETY: the standard's entry point with its signature.
        unsafe {
            let entry =
                library.get::<unsafe extern "C" fn(*mut *mut CK_FUNCTION_LIST) -> CK_RV>(b"C_GetFunctionList\0");
            assert_eq!(entry.expect("exported")(&raw mut list), 0);
        }
        Module { list, library, _turn: turn }
    }

    fn initialize(&self) -> Rv {
        call!(self, C_Initialize(ptr::null_mut()))
    }

    fn finalize(&self) -> Rv {
        call!(self, C_Finalize(ptr::null_mut()))
    }
}

/// Runs `body` in a forked child and gives its exit status; the child ends without any cleaning up.
fn in_a_child(body: impl FnOnce() -> bool) -> i32 {
    unsafe extern "C" {
        fn fork() -> i32;
        fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
        fn _exit(status: i32) -> !;
    }
    // SAFETY: the child only calls the library and leaves by _exit.
    unsafe {
        let pid = fork();
        if pid == 0 {
            _exit(if body() { 0 } else { 1 });
        }
        let mut status = -1;
        assert_eq!(waitpid(pid, &raw mut status, 0), pid);
        status
    }
}

#[test]
fn only_the_standards_names_are_exported() {
    let output = match Command::new("nm").args(["-D", "--defined-only"]).arg(path()).output() {
        Ok(output) => output,
        Err(_) => return eprintln!("SKIPPED only_the_standards_names_are_exported: nm not found"),
    };
    let text = String::from_utf8(output.stdout).expect("ASCII");
    let names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    assert_eq!(names.len(), 104);
    let others: Vec<_> = names.iter().filter(|name| !name.starts_with("C_")).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn neither_openssl_nor_aws_lc_is_linked() {
    let library = std::fs::read(path()).expect("readable");
    // Built together with the daemon, a few lines of AWS-LC's start-up code may lie in it unused: see build.rs.
    for name in ["libcrypto.so", "libssl.so", "EVP_sha256", "EVP_aead_", "ECDSA_sign", "RSA_sign"] {
        let found = library.windows(name.len()).any(|window| window == name.as_bytes());
        assert!(!found, "{name}");
    }
}

/// The C runtime has one of each, and `std` a constructor that takes the program's arguments.
#[test]
fn no_constructor_and_no_destructor_runs_in_the_program() {
    let output = match Command::new("readelf").args(["--dynamic", "--wide"]).arg(path()).output() {
        Ok(output) => output,
        Err(_) => return eprintln!("SKIPPED no_constructor_and_no_destructor_runs_in_the_program: readelf not found"),
    };
    let text = String::from_utf8(output.stdout).expect("ASCII");
    for (array, most) in [("(INIT_ARRAYSZ)", 16), ("(FINI_ARRAYSZ)", 8)] {
        let line = text.lines().find(|line| line.contains(array)).expect("the array is there");
        let size: usize = line.split_whitespace().nth(2).and_then(|size| size.parse().ok()).expect("a size");
        assert!(size <= most, "{line}");
    }
}

#[test]
fn initialize_and_finalize_alternate() {
    let module = Module::load();
    assert_eq!(module.finalize(), CKR_CRYPTOKI_NOT_INITIALIZED);
    let mut info = std::mem::MaybeUninit::<CK_INFO>::uninit();
    assert_eq!(call!(module, C_GetInfo(info.as_mut_ptr())), CKR_CRYPTOKI_NOT_INITIALIZED);
    for _ in 0..3 {
        assert_eq!(module.initialize(), CKR_OK);
        assert_eq!(module.initialize(), CKR_CRYPTOKI_ALREADY_INITIALIZED);
        assert_eq!(call!(module, C_GetInfo(info.as_mut_ptr())), CKR_OK);
        assert_eq!(call!(module, C_GetInfo(ptr::null_mut())), CKR_ARGUMENTS_BAD);
        assert_eq!(call!(module, C_Finalize(info.as_mut_ptr().cast())), CKR_ARGUMENTS_BAD);
        assert_eq!(module.finalize(), CKR_OK);
    }
}

#[test]
fn a_reserved_pointer_is_refused_and_never_followed() {
    let module = Module::load();
    let mut args = CK_C_INITIALIZE_ARGS {
        CreateMutex: None,
        DestroyMutex: None,
        LockMutex: None,
        UnlockMutex: None,
        flags: CKF_OS_LOCKING_OK | CKF_LIBRARY_CANT_CREATE_OS_THREADS,
        pReserved: ptr::without_provenance_mut::<c_void>(1),
    };
    assert_eq!(call!(module, C_Initialize((&raw mut args).cast())), CKR_ARGUMENTS_BAD);
    args.pReserved = ptr::null_mut();
    assert_eq!(call!(module, C_Initialize((&raw mut args).cast())), CKR_OK);
    assert_eq!(module.finalize(), CKR_OK);
}

#[test]
fn no_function_answers_without_a_library_or_a_session() {
    let module = Module::load();
    let mut len = 0;
    let mut calls = || {
        [
            call!(module, C_DigestEncryptUpdate(1, ptr::null_mut(), 0, ptr::null_mut(), &raw mut len)),
            call!(module, C_GetOperationState(1, ptr::null_mut(), &raw mut len)),
            call!(module, C_SignRecover(1, ptr::null_mut(), 0, ptr::null_mut(), &raw mut len)),
            call!(module, C_Sign(1, ptr::null_mut(), 0, ptr::null_mut(), &raw mut len)),
        ]
    };
    assert_eq!(calls(), [CKR_CRYPTOKI_NOT_INITIALIZED; 4]);
    assert_eq!(module.initialize(), CKR_OK);
    assert_eq!(calls(), [CKR_SESSION_HANDLE_INVALID; 4]);
    assert_eq!(module.finalize(), CKR_OK);
}

#[test]
fn a_forked_child_begins_anew_and_the_parent_goes_on() {
    let module = Module::load();
    assert_eq!(module.initialize(), CKR_OK);
    let status = in_a_child(|| {
        let mut info = std::mem::MaybeUninit::<CK_INFO>::uninit();
        call!(module, C_GetInfo(info.as_mut_ptr())) == CKR_CRYPTOKI_NOT_INITIALIZED
            && module.finalize() == CKR_CRYPTOKI_NOT_INITIALIZED
            && module.initialize() == CKR_OK
            && module.initialize() == CKR_CRYPTOKI_ALREADY_INITIALIZED
            && call!(module, C_GetInfo(info.as_mut_ptr())) == CKR_OK
            && module.finalize() == CKR_OK
    });
    assert_eq!(status, 0);
    assert_eq!(module.initialize(), CKR_CRYPTOKI_ALREADY_INITIALIZED);
    assert_eq!(module.finalize(), CKR_OK);
}

#[test]
fn a_blocking_wait_for_a_slot_event_ends_with_finalize() {
    let module = Module::load();
    assert_eq!(module.initialize(), CKR_OK);
    let mut slot = 0;
    assert_eq!(call!(module, C_WaitForSlotEvent(CKF_DONT_BLOCK, &raw mut slot, ptr::null_mut())), CKR_NO_EVENT);
    // SAFETY: the list came from C_GetFunctionList.
    let wait = unsafe { (*module.list).C_WaitForSlotEvent }.expect("no pointer is NULL");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            let mut slot = 0;
            // SAFETY: a place of this thread.
            Rv(unsafe { wait(0, &raw mut slot, ptr::null_mut()) })
        });
        assert_eq!(module.finalize(), CKR_OK);
        assert_eq!(waiter.join().expect("no panic"), CKR_CRYPTOKI_NOT_INITIALIZED);
    });
}

#[test]
fn no_thread_is_started_and_unloading_is_harmless() {
    let threads = || std::fs::read_dir("/proc/self/task").expect("proc").count();
    let module = Module::load();
    assert_eq!(module.initialize(), CKR_OK);
    let before = threads();
    let mut count = 0;
    assert_eq!(call!(module, C_GetSlotList(0, ptr::null_mut(), &raw mut count)), CKR_OK);
    // Other tests of this process wait for their turn, so the count stands still but for the harness's own.
    assert!(threads() <= before + 1, "{before} then {}", threads());
    assert_eq!(module.finalize(), CKR_OK);
    let list = module.list;
    module.library.close().expect("closed");
    // SAFETY: the library is linked so that it is never unloaded; its list is still there.
    assert_eq!(unsafe { (*list).version.major }, 2);
}
