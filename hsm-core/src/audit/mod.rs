//! The audit journal: one canonical line per operation, chained by SHA-256, written before the answer goes out.
//!
//! [`Journal::append`] gives a [`Receipt`], and nothing else does: an answer that needs a record asks for one. The
//! format is in `format.md`; [`verify`] and [`export`] need neither the daemon nor a secret. The journal knows what was
//! done, never with which bytes.

mod chain;
mod crc;
pub mod export;
mod file;
mod journal;
mod ledger;
mod record;
#[cfg(test)]
mod tests;

pub use crate::config::LogLevel as Level;
pub use chain::{Finding, Head, Line, Summary, Wrong, verify, visit};
pub use file::{head_path, remembered_head, visit_file};
pub use journal::{Durability, Journal, Options, Receipt};
pub use record::{Category, Client, Entry, Fact, Record, RecordClient, RecordSubject, Subject, VERSION};
