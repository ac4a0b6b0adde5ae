//! Each thread's patience with its replies: how long it spins, at most, before it sleeps.

use std::cell::Cell;
use std::time::Duration;

use hsm_proto::patience::Patience;

/// The longest spin. It must outlast a sleeping daemon's wake-up and a P-256 signature together (about 60 microseconds on a virtual
/// machine): with less, one run of misses put both sides to sleep for good, because no later try could succeed.
pub(super) const LONGEST: Duration = Duration::from_micros(100);

// A plain cell without a destructor: nothing to run when a thread or the process ends.
thread_local! {
    static OF_THIS_THREAD: Cell<Patience> = const { Cell::new(Patience::new()) };
}

/// Something that this thread learns, or asks, of its patience.
pub(super) fn patience<T>(of: impl FnOnce(&mut Patience) -> T) -> T {
    let mut patience = OF_THIS_THREAD.get();
    let answer = of(&mut patience);
    OF_THIS_THREAD.set(patience);
    answer
}
