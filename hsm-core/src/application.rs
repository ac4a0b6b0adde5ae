//! One loaded module under one peer identity, and what belongs to it: sessions, logins and session objects.
//!
//! It lives as long as one of its connections does ([`crate::hsm::Caller`]); nothing that belongs to it can be reached by another.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use parking_lot::{Mutex, RwLock};

use crate::crypto::digest;
use crate::mechanism::row::Row;
use crate::peer::Peer;
use crate::session::Session;
use crate::session::objects::SessionObjects;
use crate::token::login::Logins;
use crate::token::shown::Shown;

/// One application.
pub(crate) struct Application {
    /// Its secret name.
    pub(crate) id: [u8; 16],
    /// Who it is.
    pub(crate) peer: Peer,
    /// Its sessions by handle.
    pub(crate) sessions: RwLock<HashMap<u64, Arc<Session>>>,
    /// Its session objects.
    pub(crate) objects: RwLock<SessionObjects>,
    /// Who is logged in, by slot.
    pub(crate) logins: Logins,
    /// What it may name after a logout.
    pub(crate) shown: Shown,
    /// Held while somebody logs in or out.
    pub(crate) login_turn: Mutex<()>,
    /// The digests that it saved, oldest first.
    pub(crate) states: Mutex<VecDeque<SavedState>>,
    /// How many connections it has.
    pub(crate) connections: AtomicUsize,
}

/// A digest that C_GetOperationState saved.
pub(crate) struct SavedState {
    /// What the application was given for it.
    pub(crate) name: Vec<u8>,
    /// The mechanism.
    pub(crate) row: &'static Row,
    /// The digest so far.
    pub(crate) stream: digest::Stream,
    /// Whether it had been given data.
    pub(crate) updated: bool,
}

impl Application {
    pub(crate) fn new(id: [u8; 16], peer: Peer) -> Self {
        Application {
            id,
            peer,
            sessions: RwLock::default(),
            objects: RwLock::default(),
            logins: Logins::default(),
            shown: Shown::default(),
            login_turn: Mutex::new(()),
            states: Mutex::default(),
            connections: AtomicUsize::new(0),
        }
    }
}
