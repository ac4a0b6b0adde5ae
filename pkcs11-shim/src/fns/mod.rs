//! The C functions as safe Rust over claims and messages, one file per section of PKCS#11 v3.0 chapter 5.

pub(crate) mod decrypt;
pub(crate) mod digest;
pub(crate) mod dual;
pub(crate) mod encrypt;
pub(crate) mod general;
pub(crate) mod init;
pub(crate) mod kem;
pub(crate) mod key;
pub(crate) mod legacy;
pub(crate) mod message;
pub(crate) mod object;
pub(crate) mod random;
pub(crate) mod recover;
pub(crate) mod session;
pub(crate) mod sign;
pub(crate) mod slot;
pub(crate) mod state;
pub(crate) mod verify;
pub(crate) mod verify_signature;
