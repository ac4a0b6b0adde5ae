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
    /// Until when it has to wait.
    pub(crate) blocked_until_ns: u64,
    /// When it was last heard of.
    pub(crate) seen_ns: u64,
}

impl ClientLimits {
    pub(crate) fn new(config: &PinConfig, clock: Arc<dyn Clock>) -> ClientLimits {
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
        let left_ns = conduct.blocked_until_ns.saturating_sub(self.clock.now_unix_nanos());
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
        conduct.seen_ns = now;
        conduct.failed += 1;
        if conduct.failed >= self.attempts {
            let wait = self.cooldown_ns.saturating_mul(1 << conduct.blocks.min(DOUBLINGS_MAX));
            conduct.blocked_until_ns = now.saturating_add(wait);
            conduct.blocks = conduct.blocks.saturating_add(1);
            conduct.failed = 0;
        }
        conduct
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
