//! Who calls, as a door has authenticated it, and what it may do.

use std::sync::Arc;

use crate::audit;
use crate::grant::Grant;

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
