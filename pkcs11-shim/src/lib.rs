//! The C door: `libcraton_pkcs11.so`, a PKCS#11 module that carries every operation to the daemon.
//!
//! What this library never does, in the process of whoever loads it:
//! - hold a token's key, hash, sign or decrypt for the token: the only cryptography is that of TLS, towards a daemon on
//!   another machine;
//! - start a thread, or leave a destructor behind that does I/O; an async runtime exists only towards a daemon on another
//!   machine, and runs in the threads that call;
//! - write to standard output or standard error, or raise SIGPIPE;
//! - touch a connection that belongs to the parent process after a fork: the child is uninitialised, the parent's
//!   descriptors stay as they are;
//! - unwind into C, or trust a pointer or a length before `ffi::claim` has looked at it;
//! - resend a request that changes something.
//!
//! `unsafe` lives in [`ffi`] alone. Only `std` locks are used: they have no state outside themselves, so that a child
//! process which makes new ones cannot meet one that was held at the moment of the fork.

mod carrier;
mod config;
mod events;
mod ffi;
mod fns;
mod keepsake;
mod library;
mod message;
mod mirror;
mod operation;
mod params;
mod session;
mod step;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod story;

/// Handles, lengths and flags travel as 64-bit numbers; a target with another `CK_ULONG` needs its own review.
const _: () = assert!(size_of::<cryptoki_sys::CK_ULONG>() == 8);
