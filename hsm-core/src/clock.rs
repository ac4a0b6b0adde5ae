//! The only door to the time of day; tests bring their own clock.
//!
//! The time of day can be set, by an operator, by the network or by whoever would like a wait to be over. What must last as long as it was
//! said to last is measured by [`Clock::since_boot_nanos`].

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Something that tells the time.
pub trait Clock: Send + Sync {
    /// Nanoseconds since the Unix epoch, UTC.
    fn now_unix_nanos(&self) -> u64;

    /// Nanoseconds since the machine was started: a clock that nobody sets, and that goes on while the daemon is away. It begins anew
    /// with the machine.
    fn since_boot_nanos(&self) -> u64 {
        self.now_unix_nanos()
    }
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one door to the system clock")]
    fn now_unix_nanos(&self) -> u64 {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
    }

    fn since_boot_nanos(&self) -> u64 {
        /// A moment of this process, and how many seconds the machine was up by then. The kernel is asked once: later the process may
        /// ask no more.
        static BEGUN: LazyLock<(Instant, u64)> = LazyLock::new(|| {
            let up = rustix::system::sysinfo().uptime;
            (Instant::now(), u64::try_from(up).unwrap_or(0))
        });
        let (begun, up) = *BEGUN;
        let ran = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        up.saturating_mul(1_000_000_000).saturating_add(ran)
    }
}
