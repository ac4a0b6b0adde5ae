//! The journal as the store sees it: where the record of each change goes.

use super::{Head, Journal, Receipt};
use crate::Result;
use crate::store::{Ledger, LedgerHead};

impl Ledger for Journal {
    type Receipt = Receipt;

    fn append(&self, generation: u64, body: &[u8]) -> Result<Receipt> {
        self.append_change(generation, body)
    }

    fn sync(&self) -> Result<()> {
        Journal::sync(self)
    }

    fn contains(&self, generation: u64) -> bool {
        self.contains_generation(generation)
    }

    fn last_generation(&self) -> Option<u64> {
        Some(Journal::last_generation(self)).filter(|generation| *generation > 0)
    }

    fn synced_head(&self) -> LedgerHead {
        let Head { seq, hash } = self.durable_head();
        LedgerHead { sequence: seq, hash }
    }

    fn contains_head(&self, head: &LedgerHead) -> bool {
        let head = Head { seq: head.sequence, hash: head.hash };
        // A journal that cannot be read holds nothing that anybody could rely on.
        Journal::contains_head(self, &head).unwrap_or(false)
    }
}
