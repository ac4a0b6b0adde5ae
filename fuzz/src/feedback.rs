//! What an input made happen, as numbers: an input that brings a new one is worth mutating further.
//!
//! This is the poor relation of coverage instrumentation: it needs none, so the bounded driver runs in an ordinary build.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

thread_local! {
    static NOTED: RefCell<HashSet<u64>> = RefCell::default();
}

/// Something happened that may be new.
pub(crate) fn note(what: impl Hash) {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    NOTED.with_borrow_mut(|noted| noted.insert(hasher.finish()));
}

/// What happened since the last call.
pub(crate) fn take() -> HashSet<u64> {
    NOTED.take()
}
