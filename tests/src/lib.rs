//! The stage of the acceptance tests: daemons on temporary stores, the module loaded as any application loads it, external tools.
//!
//! Black box: nothing here depends on our own crates. The tests know binaries, a shared library, files and exit codes, as users do.

pub mod arguments;
pub mod certificates;
pub mod control;
pub mod daemon;
pub mod faults;
pub mod functions;
pub mod module;
pub mod namespace;
pub mod page;
pub mod port;
pub mod power;
pub mod raw;
pub mod secrets;
pub mod structure;
pub mod tbs;
pub mod tools;
pub mod worker;
pub mod world;
