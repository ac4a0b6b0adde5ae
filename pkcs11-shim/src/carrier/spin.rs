//! Adaptive spinning: a lone caller on an idle machine gets its reply several times sooner when it spins, a busy machine
//! loses by it. So a thread spins, at most [`LONGEST`], only while its recent spins succeeded.

use std::cell::Cell;
use std::time::Duration;

/// The longest spin. It must outlast a sleeping daemon's wake-up and a P-256 signature together (about 60 microseconds on a virtual
/// machine): with less, one run of misses put both sides to sleep for good, because no later try could succeed.
pub(super) const LONGEST: Duration = Duration::from_micros(100);

const BEST: i32 = 8;
const WORST: i32 = -32;
const MISS: i32 = 4;
/// A thread that has given up tries again once in so many waits.
const RETRY: u32 = 64;

// Plain cells without destructors: nothing to run when a thread or the process ends.
thread_local! {
    static SCORE: Cell<i32> = const { Cell::new(0) };
    static WAITS: Cell<u32> = const { Cell::new(0) };
}

/// Whether this thread should spin for the wait that begins.
pub(super) fn is_wanted() -> bool {
    if SCORE.get() >= 0 {
        return true;
    }
    WAITS.set(WAITS.get().wrapping_add(1));
    WAITS.get().is_multiple_of(RETRY)
}

/// The reply came while spinning.
pub(super) fn hit() {
    SCORE.set((SCORE.get() + 1).min(BEST));
}

/// It did not.
pub(super) fn miss() {
    SCORE.set((SCORE.get() - MISS).max(WORST));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_stop_the_spinning_until_every_64th_wait() {
        assert!(is_wanted());
        miss();
        assert_eq!((0..128).filter(|_| is_wanted()).count(), 2);
        (0..4).for_each(|_| hit());
        assert!(is_wanted());
    }
}
