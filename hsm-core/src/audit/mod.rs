//! The audit journal: one canonical line per operation, chained by SHA-256, written before the answer goes out.
//!
//! [`Journal::append`] gives a [`Receipt`], and nothing else does: an answer that needs a record asks for one. The
//! format is in `format.md`; [`verify`] and [`export`] need neither the daemon nor a secret. The journal knows what was
//! done, never with which bytes.

mod anchor;
mod chain;
mod checkpoint;
mod complaint;
mod draft;
mod entry;
pub mod export;
mod file;
mod follow;
mod journal;
mod keys;
mod ledger;
mod merkle;
mod outside;
mod proof;
mod record;
#[cfg(test)]
mod signed_tests;
mod signer;
mod stage;
#[cfg(test)]
mod suite_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod theft_tests;
mod trust;
#[cfg(test)]
mod version_tests;
mod witness;
#[cfg(test)]
mod witness_tests;

pub use anchor::read as read_anchor;
pub use chain::{Finding, Head, Line, Summary, Wrong, verify, visit};
pub use checkpoint::{Checkpoint, Note, SignedCheckpoint, Timestamped};
pub use complaint::Complaint;
pub use entry::{Category, Client, Entry, Fact, Level, Subject};
pub use file::{closed_files, closed_path, first_key, head_path, remembered_head, visit_file, visit_trusting};
pub use follow::{Follower, Step};
pub use journal::{Durability, Files, Journal, Options, Progress, Receipt};
pub use keys::{Pin, PublicKey};
pub use outside::{Witness, verify_witnessed, witnessed};
pub use proof::{Proof, newest_checkpoint, prove};
pub use record::{Record, RecordClient, RecordSubject, VERSION};
pub(crate) use signer::SigningKeys;
pub use signer::Suite;
pub use trust::{Signatures, Trust};
pub use witness::{Held, Refusal, judge};
