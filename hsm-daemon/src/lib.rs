//! The gRPC door and the express lane of the token: the program `craton-hsm-daemon`, and [`door`] for the fuzz targets.
//!
//! What the token does is written in hsm-core; this crate carries it to clients.

mod clients;
mod config;
mod convert;
mod dispatch;
pub mod door;
mod express;
mod hardening;
mod identify;
mod lifecycle;
mod line;
mod log;
mod metrics;
mod outcomes;
mod run;
mod seal;
mod server;
mod service;
mod socket;
mod supervisor;
mod telemetry;
mod tls;
mod tls_files;
mod toml_file;
mod traffic;
mod watch;
mod witness;

pub use run::main;
