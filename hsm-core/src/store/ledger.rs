//! The journal, as far as the store needs it, and how the two are brought to agreement at a start.

use std::collections::VecDeque;

use super::OpenError;
use super::manifest::LedgerHead;
use super::verify::Verified;
use crate::error::Result;

/// The journal, as far as the store needs it.
///
/// Order and durability: an entry is first part of the change's own transaction (the outbox), then appended here, and
/// leaves the outbox when the journal has been synced. So store and journal cannot disagree after a crash.
pub(crate) trait Ledger: Send + Sync + 'static {
    /// Proof that an entry was appended.
    type Receipt: Send + 'static;

    /// Appends the entry of the change with that generation. It must have reached the operating system on return, and
    /// need not be durable yet. Called in order of generation, from one thread at a time.
    fn append(&self, generation: u64, body: &[u8]) -> Result<Self::Receipt>;

    /// Makes all that was appended durable.
    fn sync(&self) -> Result<()>;

    /// Whether the change with that generation has its entry. Asked at the start, for outbox rows: at most the last
    /// few hundred generations.
    fn contains(&self, generation: u64) -> bool;

    /// The newest generation that any entry names.
    fn last_generation(&self) -> Option<u64>;

    /// The newest entry known to be durable; the manifest remembers it.
    fn synced_head(&self) -> LedgerHead;

    /// Whether the journal still holds an entry that it once reported by [`Ledger::synced_head`].
    fn contains_head(&self, head: &LedgerHead) -> bool;
}

/// Appends the entries that the journal lacks, and refuses a store or a journal that is older than the other remembers.
pub(super) fn reconcile<L: Ledger>(verified: &Verified, ledger: &L) -> Result<VecDeque<u64>, OpenError> {
    let store = verified.manifest.generation;
    if let Some(journal) = ledger.last_generation().filter(|journal| *journal > store) {
        return Err(OpenError::RolledBack { store, journal });
    }
    let head = &verified.manifest.journal;
    if head.sequence > 0 && !ledger.contains_head(head) {
        return Err(OpenError::JournalCut { sequence: head.sequence });
    }
    for (generation, entry) in &verified.outbox {
        if !ledger.contains(*generation) {
            drop(ledger.append(*generation, entry)?);
        }
    }
    if !verified.outbox.is_empty() {
        ledger.sync()?;
    }
    Ok(verified.outbox.iter().map(|(generation, _)| *generation).collect())
}
