//! The shim's only `unsafe` room: the exported symbols, what a C caller claims, and the state of this process.

pub(crate) mod claim;
pub(crate) mod guard;
pub(crate) mod locked;
mod memory;
pub(crate) mod parameter;
pub(crate) mod process;
#[cfg(test)]
pub(crate) mod signal;
pub(crate) mod table;
pub(crate) mod types;
