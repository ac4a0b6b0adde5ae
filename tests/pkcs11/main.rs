//! The PKCS#11 door, as applications meet it: one file per chapter of the standard (the names of pkcs11-shim/src/fns), and then
//! the stories that cross chapters: other programs (interop), other processes (isolation), fork, and a daemon that is away.

mod abuse;
mod approved;
mod attribute;
mod auto_login;
mod chance;
mod daemon_away;
mod derive;
mod digest;
mod dual;
mod encrypt;
mod expectations;
mod fork;
mod general;
mod guard;
mod guest;
mod hostile;
mod interop;
mod isolation;
mod kem;
mod key;
mod legacy;
mod mechanisms;
mod message;
mod object;
mod officer;
mod random;
mod recover;
mod remote;
mod restart;
mod scale;
mod session;
mod sign;
mod slot;
mod state;
