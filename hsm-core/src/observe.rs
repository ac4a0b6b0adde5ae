//! Whoever wants to know how long the disk is waited for.

use std::sync::Arc;
use std::time::Duration;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// A transaction of the store, until it is durable.
    StoreCommit,
    /// An fsync of the journal.
    JournalSync,
}

/// Hears how long each wait took. Called by the threads that write: it must return at once.
pub type Observer = Arc<dyn Fn(Wait, Duration) + Send + Sync>;
