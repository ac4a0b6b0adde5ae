//! Who calls: the peer that a door has authenticated, and the application that owns sessions, logins and session objects.
//!
//! An application is one loaded module under one peer identity. It lives as long as one of its connections does; nothing that
//! belongs to it can be reached by another.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::audit;
use crate::crypto::digest;
use crate::grant::Grant;
use crate::hsm::Hsm;
use crate::mechanism::table::Row;
use crate::session::Session;
use crate::session::objects::SessionObjects;
use crate::token::login::Logins;
use crate::token::shown::Shown;

/// Who a door says the peer is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A process of this machine, by the credentials that the kernel gave with its Unix socket.
    Local {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// The holder of a client certificate's key.
    Certificate {
        /// SHA-256 of the certificate's SubjectPublicKeyInfo.
        key_sha256: [u8; 32],
        /// The certificate's subject, for people.
        subject: String,
    },
    /// Nobody in particular: a loopback listener that was told to allow it.
    Anonymous,
}

/// A peer: identity, and the process id where the kernel told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub identity: Identity,
    /// Its process, for the journal and for telling instances apart.
    pub pid: Option<u32>,
    /// What it may do.
    pub grant: Arc<Grant>,
}

impl Peer {
    /// A peer that may do all that a local application may.
    pub fn unrestricted(identity: Identity, pid: Option<u32>) -> Self {
        Peer { identity, pid, grant: Arc::new(Grant::token_service()) }
    }

    /// The identity under which wrong PINs and connections are counted.
    pub fn canonical(&self) -> String {
        match &self.identity {
            Identity::Local { uid, .. } => format!("uid:{uid}"),
            Identity::Certificate { key_sha256, .. } => format!("key:{}", data_encoding::HEXLOWER.encode(key_sha256)),
            Identity::Anonymous => "anonymous".to_owned(),
        }
    }

    /// The identity as the journal writes it.
    pub(crate) fn journal(&self) -> audit::Client {
        match &self.identity {
            Identity::Local { uid, gid } => {
                audit::Client::Unix { uid: *uid, gid: *gid, pid: self.pid.unwrap_or_default() }
            }
            Identity::Certificate { key_sha256, subject } => {
                audit::Client::Certificate { key_sha256: *key_sha256, subject: subject.clone() }
            }
            Identity::Anonymous => audit::Client::Certificate { key_sha256: [0; 32], subject: "anonymous".to_owned() },
        }
    }
}

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

/// One connection of an application. When the last one is dropped, the application's sessions, logins and session objects end.
pub struct Caller {
    hsm: Arc<Hsm>,
    application: Arc<Application>,
}

impl Caller {
    /// A connection of an application; made by the front desk only, under its application lock.
    pub(crate) fn new(hsm: Arc<Hsm>, application: Arc<Application>) -> Self {
        application.connections.fetch_add(1, Ordering::AcqRel);
        Caller { hsm, application }
    }

    /// The application's secret name, with which further connections join it.
    pub fn application(&self) -> [u8; 16] {
        self.application.id
    }

    /// The peer that attached.
    pub fn peer(&self) -> &Peer {
        &self.application.peer
    }

    pub(crate) fn app(&self) -> &Arc<Application> {
        &self.application
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.hsm.leave(&self.application);
    }
}
