//! The sentences spoken between the doors and the daemon: protobuf messages, the frame of the express lane, and faults.
//!
//! The messages are generated from `craton/hsm/v1/*.proto` at build time. Feature `grpc` adds the gRPC services and
//! clients; without it no async code is compiled, which is what the shim's express lane needs. Feature `seal` adds the client's half of
//! sealing.

pub mod effect;
pub mod fault;
pub mod frame;
pub mod patience;
mod redacted;
#[cfg(feature = "seal")]
pub mod seal;
pub mod secrecy;

/// Messages of the package `craton.hsm.v1`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    reason = "generated code; the .proto files are the documentation"
)]
pub mod v1 {
    #[cfg(feature = "grpc")]
    tonic::include_proto!("craton.hsm.v1");
    #[cfg(not(feature = "grpc"))]
    include!(concat!(env!("OUT_DIR"), "/craton.hsm.v1.rs"));
}
