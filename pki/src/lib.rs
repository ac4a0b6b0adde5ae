//! craton-pki: certificate authority, EST enrolment and devices. The tenant next door: it reaches its keys only through
//! PKCS#11, like any other application, and links to no other crate of this workspace.
//!
//! A library only so that the fuzz targets can call what strangers reach: the program is [`main`].

mod api;
mod backup;
mod ca;
mod ceremony;
mod cli;
mod client;
mod clock;
mod cms;
mod config;
mod counters;
mod device;
pub mod door;
mod dry_run;
mod error;
mod est;
mod fetch;
mod file;
mod founding;
mod journal;
mod listener;
mod metrics;
mod profile;
mod run;
mod secret;
mod serve;
mod store;
mod token;
mod va;
mod x509;

pub use client::main as client_main;
pub use run::main;
