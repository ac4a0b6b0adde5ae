//! craton-pki as its users meet it: the real program on a real PKCS#11 module, played with `curl` and `openssl`.
//!
//! The module is SoftHSM2, or the one named by `PKCS11_MODULE`, `TOKEN_LABEL` and `PIN`: the same authority must run on any.
//! A missing tool skips the test by name.
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

mod attacks;
mod backup;
mod born;
mod ceremony;
mod client;
mod crash;
mod crl;
mod enrol;
mod foreign;
mod fullcmc;
mod hand;
mod hierarchy;
mod journal;
mod judged;
mod keygen;
mod must;
mod ocsp;
mod operator;
mod others;
#[path = "../../../tests/src/port.rs"]
#[allow(unreachable_pub, reason = "a library's file")]
mod port;
mod profile;
mod reenrol;
mod refused;
mod related;
mod revoke;
mod smuggling;
mod tls;
mod world;
