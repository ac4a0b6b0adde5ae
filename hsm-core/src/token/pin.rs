//! PIN rules: lengths, how many guesses one client has, and how many derivations run at a time.
//!
//! It stores nothing: the counter that locks a PIN for everybody, and what is remembered of a client, live in the store and are written
//! before each check.

use crate::clock::Clock;
use crate::config::PinConfig;
use crate::error::{Error, Kind, Result};
use crate::id::TokenId;
use crate::secret::SecretBytes;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Whether a new PIN has an allowed length.
pub(crate) fn check_length(config: &PinConfig, pin: &SecretBytes) -> Result<()> {
    if (config.min_length..=config.max_length).contains(&pin.len()) {
        return Ok(());
    }
    let detail = format!("a PIN has {} to {} bytes", config.min_length, config.max_length);
    Err(Error::new(Kind::PinLength, detail))
}

/// Derivations that may run at the same time, in the whole daemon; one per token.
const RUNNING_MAX: usize = 2;
/// Derivations that may wait; more are refused at once, so that a flood of logins does not starve signing.
const WAITING_MAX: usize = 16;

/// Limits the slow derivations. A [`Turn`] also makes its holder the only one who checks or changes PINs of that token.
#[derive(Default)]
pub(crate) struct Turnstile {
    state: Mutex<Queue>,
    freed: Condvar,
}

#[derive(Default)]
struct Queue {
    running: HashSet<TokenId>,
    waiting: usize,
}

impl Turnstile {
    /// Waits for a turn with the token's PINs.
    ///
    /// # Errors
    /// [`Kind::LoginBackoff`] if too many are waiting already.
    pub(crate) fn enter(&self, token: TokenId) -> Result<Turn<'_>> {
        let mut queue = self.state.lock();
        let free = |queue: &Queue| queue.running.len() < RUNNING_MAX && !queue.running.contains(&token);
        if !free(&queue) {
            if queue.waiting >= WAITING_MAX {
                return Err(Error::new(Kind::LoginBackoff, "too many logins are waiting: try again later"));
            }
            queue.waiting += 1;
            self.freed.wait_while(&mut queue, |queue| !free(queue));
            queue.waiting -= 1;
        }
        queue.running.insert(token);
        Ok(Turn { turnstile: self, token })
    }

    /// Waits until nobody else looks at the token's PINs, for what stretches none and is done in a moment: others' wrong PINs neither turn
    /// it away nor let it wait for longer than the one that is being looked at.
    pub(crate) fn pass(&self, token: TokenId) -> Turn<'_> {
        let mut queue = self.state.lock();
        self.freed.wait_while(&mut queue, |queue| queue.running.contains(&token));
        queue.running.insert(token);
        Turn { turnstile: self, token }
    }
}

/// The right to check and change one token's PINs.
#[must_use]
pub(crate) struct Turn<'a> {
    turnstile: &'a Turnstile,
    token: TokenId,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turnstile.state.lock().running.remove(&self.token);
        self.turnstile.freed.notify_all();
    }
}

/// How often the wait of a client doubles at most.
const DOUBLINGS_MAX: u32 = 6;
/// By so much two runs of the daemon may disagree how long the machine is up: they learn it in seconds.
const ROUNDED_NS: u64 = 2_000_000_000;
/// Clients remembered; beyond, the one that has been quiet longest is forgotten.
const CLIENTS_MAX: usize = 4096;

/// Counts the wrong PINs of each client for each token, so that one client cannot lock the token for all others.
pub(crate) struct ClientLimits {
    attempts: u32,
    cooldown_ns: u64,
    clock: Arc<dyn Clock>,
    clients: Mutex<HashMap<(String, TokenId), Conduct>>,
}

/// What is remembered of one client at one token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conduct {
    /// Wrong PINs since the last that was right, or since the last wait.
    pub(crate) failed: u32,
    /// How often it had to wait.
    pub(crate) blocks: u32,
    /// Until when it has to wait, by the time of day: with `seen_ns` the length of the wait, and all that earlier versions kept.
    pub(crate) blocked_until_ns: u64,
    /// The same by the clock that nobody sets ([`Clock::since_boot_nanos`]).
    pub(crate) blocked_until_up_ns: u64,
    /// When it was last heard of.
    pub(crate) seen_ns: u64,
}

impl Conduct {
    /// How long it still has to wait. Nobody who sets the time of day changes that. How long a machine was off that was started anew
    /// meanwhile is known from the time of day only: so of a wait from before, only the time since then has passed.
    fn left_ns(&self, clock: &dyn Clock) -> u64 {
        let whole = self.blocked_until_ns.saturating_sub(self.seen_ns);
        if self.blocked_until_up_ns == 0 {
            return self.blocked_until_ns.saturating_sub(clock.now_unix_nanos()).min(whole);
        }
        let (began, up) = (self.blocked_until_up_ns.saturating_sub(whole), clock.since_boot_nanos());
        // A machine that has been up for less than when the wait began was started since. One that was, and has been up for longer than
        // that, has waited at least as long as the difference.
        let is_started_anew = up.saturating_add(ROUNDED_NS) < began;
        whole.saturating_sub(if is_started_anew { up } else { up.saturating_sub(began) })
    }
}

impl ClientLimits {
    pub(crate) fn new(config: &PinConfig, clock: Arc<dyn Clock>) -> ClientLimits {
        // Before the process is confined.
        clock.since_boot_nanos();
        ClientLimits {
            attempts: config.client_attempts.max(1),
            cooldown_ns: u64::try_from(config.client_cooldown.as_nanos()).unwrap_or(u64::MAX),
            clock,
            clients: Mutex::default(),
        }
    }

    /// Whether the client may try now.
    ///
    /// # Errors
    /// [`Kind::LoginBackoff`] with the remaining seconds.
    pub(crate) fn admit(&self, client: &str, token: TokenId) -> Result<()> {
        let clients = self.clients.lock();
        let Some(conduct) = clients.get(&(client.to_owned(), token)) else {
            return Ok(());
        };
        let left_ns = conduct.left_ns(self.clock.as_ref());
        if left_ns == 0 {
            return Ok(());
        }
        let seconds = left_ns.div_ceil(1_000_000_000);
        Err(Error::new(Kind::LoginBackoff, format!("too many wrong PINs from this client: wait {seconds} s")))
    }

    /// How the client stands should its PIN be wrong. Whoever counts the attempt makes this durable, then remembers it, then looks
    /// at the PIN.
    pub(crate) fn after_wrong(&self, client: &str, token: TokenId) -> Conduct {
        let now = self.clock.now_unix_nanos();
        let mut conduct = self.clients.lock().get(&(client.to_owned(), token)).copied().unwrap_or_default();
        // A wait is over, or it would not be here.
        (conduct.seen_ns, conduct.blocked_until_ns, conduct.blocked_until_up_ns) = (now, 0, 0);
        conduct.failed += 1;
        if conduct.failed >= self.attempts {
            let wait = self.cooldown_ns.saturating_mul(1 << conduct.blocks.min(DOUBLINGS_MAX));
            conduct.blocked_until_ns = now.saturating_add(wait);
            conduct.blocked_until_up_ns = self.clock.since_boot_nanos().saturating_add(wait);
            conduct.blocks = conduct.blocks.saturating_add(1);
            conduct.failed = 0;
        }
        conduct
    }

    /// Remembers how a client stood when the daemon ended: from now on its wait goes by the clock that nobody sets.
    pub(crate) fn recall(&self, client: &str, token: TokenId, conduct: Conduct) {
        let left = conduct.left_ns(self.clock.as_ref());
        let blocked_until_ns = conduct.seen_ns.saturating_add(left);
        let blocked_until_up_ns = self.clock.since_boot_nanos().saturating_add(left);
        self.remember(client, token, Conduct { blocked_until_ns, blocked_until_up_ns, ..conduct });
    }

    /// Remembers how a client stands. Gives who was forgotten for it.
    pub(crate) fn remember(&self, client: &str, token: TokenId, conduct: Conduct) -> Option<(String, TokenId)> {
        let mut clients = self.clients.lock();
        let name = (client.to_owned(), token);
        let quietest = || clients.iter().min_by_key(|(_, conduct)| conduct.seen_ns).map(|(name, _)| name.clone());
        let full = clients.len() >= CLIENTS_MAX && !clients.contains_key(&name);
        let forgotten = full.then(quietest).flatten();
        if let Some(name) = &forgotten {
            clients.remove(name);
        }
        clients.insert(name, conduct);
        forgotten
    }

    /// The client's PIN was right.
    pub(crate) fn succeeded(&self, client: &str, token: TokenId) {
        self.clients.lock().remove(&(client.to_owned(), token));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now_unix_nanos(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    const TOKEN: TokenId = TokenId([1; 16]);

    fn limits() -> (Arc<Hand>, ClientLimits) {
        let config = PinConfig { client_attempts: 2, client_cooldown: Duration::from_secs(60), ..PinConfig::default() };
        let clock = Arc::new(Hand(AtomicU64::new(1)));
        (Arc::clone(&clock), ClientLimits::new(&config, clock))
    }

    impl ClientLimits {
        fn failed(&self, client: &str, token: TokenId) {
            self.remember(client, token, self.after_wrong(client, token));
        }
    }

    #[test]
    fn the_wait_doubles_and_ends() {
        let (clock, limits) = limits();
        for wait in [60, 120, 240] {
            for _ in 0..2 {
                limits.admit("uid:1", TOKEN).unwrap();
                limits.failed("uid:1", TOKEN);
            }
            let refused = limits.admit("uid:1", TOKEN).unwrap_err();
            assert_eq!(refused.kind(), Kind::LoginBackoff);
            assert!(refused.detail().unwrap().ends_with(&format!("wait {wait} s")), "{refused}");
            clock.0.fetch_add(wait * 1_000_000_000, Ordering::Relaxed);
        }
        limits.admit("uid:1", TOKEN).unwrap();
    }

    /// Two clocks: one that is set, one that is not.
    #[derive(Default)]
    struct Hands {
        wall: AtomicU64,
        up: AtomicU64,
    }

    impl Clock for Hands {
        fn now_unix_nanos(&self) -> u64 {
            self.wall.load(Ordering::Relaxed)
        }

        fn since_boot_nanos(&self) -> u64 {
            self.up.load(Ordering::Relaxed)
        }
    }

    const SECOND: u64 = 1_000_000_000;
    const DAY: u64 = 86_400 * SECOND;
    const NOW: u64 = 1_800_000_000 * SECOND;

    /// A client that has to wait for a minute, at an instant of both clocks.
    fn blocked(wall: u64, up: u64) -> (Arc<Hands>, Conduct) {
        let config = PinConfig { client_attempts: 1, client_cooldown: Duration::from_secs(60), ..PinConfig::default() };
        let clock = Arc::new(Hands { wall: wall.into(), up: up.into() });
        let limits = ClientLimits::new(&config, clock.clone());
        (clock, limits.after_wrong("uid:1", TOKEN))
    }

    #[test]
    fn a_time_of_day_that_is_set_neither_shortens_a_wait_nor_makes_it_last() {
        // Seconds of the machine since the wait began; the time of day then; what is left, in seconds.
        let rows: &[(u64, u64, u64)] = &[
            (10, NOW + 10 * SECOND, 50),
            (10, NOW + 3653 * DAY, 50),
            (10, NOW - DAY, 50),
            (10, NOW, 50),
            (10, 0, 50),
            (60, NOW - DAY, 0),
            (3600, NOW - 3653 * DAY, 0),
        ];
        for (passed, wall, left) in rows {
            let (clock, conduct) = blocked(NOW, DAY);
            clock.up.fetch_add(passed * SECOND, Ordering::Relaxed);
            clock.wall.store(*wall, Ordering::Relaxed);
            assert_eq!(conduct.left_ns(clock.as_ref()), left * SECOND, "{passed} s later, at {wall}");
        }
    }

    #[test]
    fn a_new_start_of_the_machine_ends_no_wait_whatever_the_time_of_day_is_then() {
        // How long the machine is up; what is left, in seconds.
        let rows: &[(u64, u64)] = &[
            (0, 60),
            (5 * SECOND, 55),
            (60 * SECOND, 0),
            // Another run of the daemon on the same machine, which learned a second less.
            (DAY - SECOND, 60),
            // It cannot be told from one that went on; that errs on the long side.
            (DAY + 20 * SECOND, 40),
            (2 * DAY, 0),
        ];
        for (up, left) in rows {
            for wall in [0, NOW - DAY, NOW + 20 * SECOND, NOW + 3653 * DAY] {
                let (clock, conduct) = blocked(NOW, DAY);
                clock.up.store(*up, Ordering::Relaxed);
                clock.wall.store(wall, Ordering::Relaxed);
                assert_eq!(conduct.left_ns(clock.as_ref()), left * SECOND, "up for {up}, at {wall}");
            }
        }
    }

    #[test]
    fn a_wait_of_an_earlier_version_goes_by_the_time_of_day_until_it_is_recalled() {
        let (clock, conduct) = blocked(NOW, DAY);
        let old = Conduct { blocked_until_up_ns: 0, ..conduct };
        for (wall, left) in [(NOW + 20 * SECOND, 40), (NOW + DAY, 0), (NOW - DAY, 60)] {
            clock.wall.store(wall, Ordering::Relaxed);
            assert_eq!(old.left_ns(clock.as_ref()), left * SECOND, "{wall}");
        }
        clock.wall.store(NOW + 20 * SECOND, Ordering::Relaxed);
        let limits = ClientLimits::new(&PinConfig::default(), clock.clone());
        limits.recall("uid:1", TOKEN, old);
        clock.wall.store(NOW + 3653 * DAY, Ordering::Relaxed);
        let refused = limits.admit("uid:1", TOKEN).unwrap_err();
        assert!(refused.detail().unwrap().ends_with("wait 40 s"), "{refused}");
    }

    #[test]
    fn a_wrong_pin_after_a_wait_that_is_over_makes_nobody_wait_by_the_old_one() {
        let (clock, limits) = limits();
        clock.0.store(NOW + 3653 * DAY, Ordering::Relaxed);
        (0..2).for_each(|_| limits.failed("uid:1", TOKEN));
        clock.0.fetch_add(60 * SECOND, Ordering::Relaxed);
        limits.failed("uid:1", TOKEN);
        clock.0.store(NOW, Ordering::Relaxed);
        limits.admit("uid:1", TOKEN).unwrap();
    }

    #[test]
    fn another_client_and_another_token_are_not_blocked() {
        let (_, limits) = limits();
        limits.failed("uid:1", TOKEN);
        limits.failed("uid:1", TOKEN);
        assert!(limits.admit("uid:1", TOKEN).is_err());
        limits.admit("uid:2", TOKEN).unwrap();
        limits.admit("uid:1", TokenId([2; 16])).unwrap();
    }

    #[test]
    fn a_right_pin_clears_the_count() {
        let (_, limits) = limits();
        for _ in 0..5 {
            limits.failed("uid:1", TOKEN);
            limits.succeeded("uid:1", TOKEN);
        }
        limits.admit("uid:1", TOKEN).unwrap();
    }

    #[test]
    fn the_memory_of_clients_is_bounded() {
        let (_, limits) = limits();
        for client in 0..CLIENTS_MAX + 10 {
            limits.failed(&client.to_string(), TOKEN);
        }
        assert!(limits.clients.lock().len() <= CLIENTS_MAX);
    }

    #[test]
    fn one_turn_per_token_two_in_all_and_a_bounded_queue() {
        let turnstile = Arc::new(Turnstile::default());
        let first = turnstile.enter(TokenId([1; 16])).unwrap();
        let second = turnstile.enter(TokenId([2; 16])).unwrap();
        let waiters: Vec<_> = (0..WAITING_MAX)
            .map(|_| {
                let turnstile = Arc::clone(&turnstile);
                std::thread::spawn(move || drop(turnstile.enter(TokenId([3; 16])).unwrap()))
            })
            .collect();
        while turnstile.state.lock().waiting < WAITING_MAX {
            std::thread::yield_now();
        }
        let refused = turnstile.enter(TokenId([4; 16])).err().map(|error| error.kind());
        assert_eq!(refused, Some(Kind::LoginBackoff));
        drop((first, second));
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert!(turnstile.state.lock().running.is_empty());
    }

    #[test]
    fn pin_lengths_are_checked_at_both_ends() {
        let config = PinConfig { min_length: 4, max_length: 6, ..PinConfig::default() };
        for (len, good) in [(3, false), (4, true), (6, true), (7, false)] {
            assert_eq!(check_length(&config, &SecretBytes::zeroed(len)).is_ok(), good, "{len}");
        }
    }
}
