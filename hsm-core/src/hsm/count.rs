//! The signature counts of guarded keys: durable before the signature is answered, one commit for all that wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Hsm;
use crate::error::Result;
use crate::id::{ObjectId, TokenId};
use crate::object::Object;

/// The counts of the guarded keys that signed since the start.
#[derive(Default)]
pub(crate) struct SignatureCounts(Mutex<HashMap<ObjectId, Arc<Count>>>);

/// One count.
struct Count {
    /// Numbers taken by signatures that were made.
    taken: AtomicU64,
    /// What the store holds. Who has this lock writes for everyone who waits for it.
    durable: Mutex<u64>,
}

impl SignatureCounts {
    fn of(&self, object: ObjectId, load: impl FnOnce() -> Result<u64>) -> Result<Arc<Count>> {
        let mut counts = self.0.lock();
        if let Some(count) = counts.get(&object) {
            return Ok(Arc::clone(count));
        }
        let stored = load()?;
        let count = Arc::new(Count { taken: AtomicU64::new(stored), durable: Mutex::new(stored) });
        counts.insert(object, Arc::clone(&count));
        Ok(count)
    }

    /// The key is gone.
    pub(super) fn forget(&self, object: ObjectId) {
        self.0.lock().remove(&object);
    }
}

impl Hsm {
    /// CKA_CRATON_SIGNATURE_COUNT: how many signatures of the key may have been given out.
    ///
    /// # Errors
    /// [`crate::Kind::Device`] if the store cannot be read.
    pub(super) fn signature_count(&self, token: TokenId, object: ObjectId) -> Result<u64> {
        let vault = self.vault()?;
        let count = self.signature_counts.of(object, || vault.signature_count(token, object))?;
        let durable = *count.durable.lock();
        Ok(durable)
    }

    /// Counts a signature that is about to be given out, if its key is guarded, and says which one of the key's it is. A signature that could
    /// not be counted is not given out; its number is not taken back, so that the count is never too low.
    ///
    /// # Errors
    /// [`crate::Kind::Device`] if the count could not be made durable.
    pub(super) fn count_signature(&self, token: TokenId, key: Option<&Object>) -> Result<Option<u64>> {
        let Some(key) = key.filter(|key| key.counts_signatures()) else { return Ok(None) };
        let vault = self.vault()?;
        let count = self.signature_counts.of(key.id, || vault.signature_count(token, key.id))?;
        let mine = count.taken.fetch_add(1, Ordering::AcqRel) + 1;
        let mut durable = count.durable.lock();
        if *durable < mine {
            let taken = count.taken.load(Ordering::Acquire);
            vault.keep_signature_count(token, key.id, taken)?;
            *durable = taken;
        }
        Ok(Some(mine))
    }
}
