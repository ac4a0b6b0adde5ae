//! What every door counts, for the whole process: refusals by reason code, answers, notices. Monitors read it (`metrics.rs`), and the
//! journal is told of refusals from time to time.

use crate::clock;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

static REFUSALS: Mutex<BTreeMap<String, Refusals>> = Mutex::new(BTreeMap::new());
/// The authorities whose signatures do not agree with the token's counts, and by how much.
static UNACCOUNTED: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());
static FOREIGN_FAILURES: AtomicU64 = AtomicU64::new(0);
static FOREIGN_OVERDUE: AtomicU64 = AtomicU64::new(0);
/// Notices by what became of telling them.
static NOTICES: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());
/// When the image of the store was last taken from this process, or when that began.
static IMAGE_AT: LazyLock<AtomicI64> = LazyLock::new(|| AtomicI64::new(clock::now()));
static OCSP_SIGNED: AtomicU64 = AtomicU64::new(0);
static OCSP_ANSWERED: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Copy, Default)]
struct Refusals {
    count: u64,
    told: u64,
}

/// Counts a refusal by its reason code, which is one of ours.
pub(crate) fn refused(reason: &str) {
    let mut refusals = REFUSALS.lock();
    match refusals.get_mut(reason) {
        Some(known) => known.count += 1,
        None => drop(refusals.insert(reason.to_owned(), Refusals { count: 1, told: 0 })),
    }
}

/// The refusals that the journal was not told of yet; from now on it was.
pub(crate) fn untold_refusals() -> BTreeMap<String, u64> {
    let mut refusals = REFUSALS.lock();
    let untold = refusals.iter().filter(|(_, known)| known.count > known.told);
    let untold = untold.map(|(reason, known)| (reason.clone(), known.count - known.told)).collect();
    refusals.values_mut().for_each(|known| known.told = known.count);
    untold
}

/// What the last comparison with the token's counts found. True when it is another than before.
pub(crate) fn compared(unaccounted: BTreeMap<String, u64>) -> bool {
    let mut held = UNACCOUNTED.lock();
    let is_news = *held != unaccounted;
    *held = unaccounted;
    is_news
}

/// The authorities whose signatures did not agree with the token's counts when they were last compared.
pub(crate) fn unaccounted() -> BTreeMap<String, u64> {
    UNACCOUNTED.lock().clone()
}

/// Counts a CRL or an OCSP answer of another that could not be had or does not count.
pub(crate) fn foreign_failed() {
    FOREIGN_FAILURES.fetch_add(1, Ordering::Relaxed);
}

/// How many CRLs of others are over, and there is no newer one.
pub(crate) fn foreign_lists_overdue(count: u64) {
    FOREIGN_OVERDUE.store(count, Ordering::Relaxed);
}

/// Counts notices by what became of telling them.
pub(crate) fn notices(outcome: &'static str, count: usize) {
    *NOTICES.lock().entry(outcome).or_default() += u64::try_from(count).unwrap_or(0);
}

/// Remembers when the image of the store was taken.
pub(crate) fn image_taken(at: i64) {
    IMAGE_AT.store(at, Ordering::Relaxed);
}

/// Counts an OCSP answer that was signed.
pub(crate) fn ocsp_signed() {
    OCSP_SIGNED.fetch_add(1, Ordering::Relaxed);
}

/// Counts an OCSP answer that was given, signed for it or before.
pub(crate) fn ocsp_answered() {
    OCSP_ANSWERED.fetch_add(1, Ordering::Relaxed);
}

/// Everything that was counted since the start.
pub(crate) struct Counted {
    /// Requests refused, by reason code.
    pub(crate) refusals: BTreeMap<String, u64>,
    /// Notices of expiry, by what became of telling them.
    pub(crate) notices: BTreeMap<&'static str, u64>,
    /// CRLs and OCSP answers of others that could not be had or did not count.
    pub(crate) foreign_failures: u64,
    /// CRLs of others that are over now.
    pub(crate) foreign_overdue: u64,
    /// OCSP answers given.
    pub(crate) ocsp_answered: u64,
    /// OCSP answers signed.
    pub(crate) ocsp_signed: u64,
    /// When the image of the store was last taken, or when this process began.
    pub(crate) image_at: i64,
}

/// What was counted.
pub(crate) fn counted() -> Counted {
    Counted {
        refusals: REFUSALS.lock().iter().map(|(reason, known)| (reason.clone(), known.count)).collect(),
        notices: NOTICES.lock().clone(),
        foreign_failures: FOREIGN_FAILURES.load(Ordering::Relaxed),
        foreign_overdue: FOREIGN_OVERDUE.load(Ordering::Relaxed),
        ocsp_answered: OCSP_ANSWERED.load(Ordering::Relaxed),
        ocsp_signed: OCSP_SIGNED.load(Ordering::Relaxed),
        image_at: IMAGE_AT.load(Ordering::Relaxed),
    }
}
