//! The door without its listeners: what a fuzz target calls in place of a client.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hsm_core::config::Config;
use hsm_core::{Attr, Caller, Hsm, Peer};
use hsm_proto::v1;

use crate::dispatch::{Desk, Seat};
use crate::express::{self, Deadlines, Lookouts};
use crate::seal::{ReplySeal, SealKeys};
use crate::{config, convert};

/// The dispatcher before one token.
pub struct Door {
    desk: Desk,
}

impl Door {
    /// A door to a token, which gives at most so many random bytes at once.
    pub fn new(hsm: Arc<Hsm>, max_random_bytes: u64) -> Self {
        Door { desk: Desk::new(hsm, max_random_bytes) }
    }

    /// The token behind it.
    pub fn hsm(&self) -> &Arc<Hsm> {
        &self.desk.hsm
    }
}

/// A connection that has not attached yet.
pub struct Client {
    seat: Seat,
    seal_keys: SealKeys,
}

impl Client {
    /// A connection of this peer.
    pub fn new(peer: Peer) -> Self {
        Client { seat: Seat::new(peer), seal_keys: SealKeys::default() }
    }

    /// One request and its reply.
    pub fn ask(&mut self, door: &Door, request: v1::Request) -> v1::Reply {
        door.desk.dispatch(&mut self.seat, request)
    }

    /// A one-time key of this connection's.
    ///
    /// # Panics
    /// When the system gives no random numbers.
    pub fn seal_key(&self) -> v1::SealKeyReply {
        self.seal_keys.give().expect("random numbers")
    }

    /// One exchange that may be sealed, and its reply.
    ///
    /// # Panics
    /// When a reply cannot be sealed, which is a defect.
    pub fn exchange(&mut self, door: &Door, exchange: v1::SealedExchange) -> v1::SealedReply {
        let (reply, seal) = match self.seal_keys.exchange(exchange) {
            Ok(opened) => (self.ask(door, opened.request), opened.reply),
            Err(refusal) => (door.desk.refuse(&v1::Request::default(), refusal), None),
        };
        ReplySeal::close(seal, reply).map_err(|refusal| refusal.0).expect("a reply can be sealed")
    }

    /// The application, once attached.
    pub fn caller(&self) -> Option<&Arc<Caller>> {
        self.seat.caller.as_ref()
    }
}

/// Longer than a fuzz target waits.
const IDLE: Duration = Duration::from_secs(600);

/// A conversation of frames on a socket, until the client ends it.
///
/// # Errors
/// Why it was broken off.
pub fn converse(stream: &UnixStream, answer: impl FnMut(v1::Request) -> v1::Reply) -> Result<(), String> {
    express::converse(stream, &Lookouts::of_this_machine(), Deadlines::idle(IDLE), answer)
        .map_err(|broken| broken.to_string())
}

/// What a configuration file means, as far as safety is concerned.
pub struct Judged {
    /// The TCP listener, and whether it asks for client certificates.
    pub tcp: Option<(SocketAddr, bool)>,
    /// The core's tables.
    pub core: Config,
}

/// Reads and judges a configuration file.
///
/// # Errors
/// The sentence of the refusal.
pub fn judge(file: &Path) -> Result<Judged, String> {
    let settings = config::load(Some(file)).map_err(|refused| refused.to_string())?;
    let mutual = |tcp: &config::Tcp| tcp.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    let tcp = settings.daemon.tcp.as_ref().map(|tcp| (tcp.address, mutual(tcp)));
    Ok(Judged { tcp, core: settings.core })
}

/// A template as the core takes it.
pub fn template(template: v1::Template) -> Vec<Attr> {
    convert::template(Some(template))
}
