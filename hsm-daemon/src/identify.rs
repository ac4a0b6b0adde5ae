//! Who is at the other end: the kernel's word for a Unix socket, the verified certificate for TLS.
//!
//! A [`Peer`] is made here and nowhere else. What a client says about itself is never part of it.

use std::os::fd::AsFd;

use der::{Decode, Encode};
use std::sync::Arc;

use hsm_core::{ClientRole, Grant, Identity, Peer};
use sha2::{Digest, Sha256};
use x509_cert::Certificate;

use crate::clients::{Clients, Known};

/// The peer of a Unix socket, as the kernel recorded it when the peer connected.
///
/// # Errors
/// When the kernel does not say.
pub(crate) fn local(socket: impl AsFd, clients: &Clients) -> std::io::Result<Peer> {
    let who = rustix::net::sockopt::socket_peercred(socket)?;
    let identity = Identity::Local { uid: who.uid.as_raw(), gid: who.gid.as_raw() };
    let grant = local_grant(&identity, clients);
    Ok(Peer { identity, pid: u32::try_from(who.pid.as_raw_nonzero().get()).ok(), grant })
}

/// What a local peer may do: what its row says; without one, the superuser and the daemon's own user everything, and others, whom
/// the socket lets in, what applications do.
fn local_grant(identity: &Identity, clients: &Clients) -> Arc<Grant> {
    clients.grant(identity, &Known::Local).unwrap_or_else(|| {
        let own = rustix::process::geteuid().as_raw();
        match identity {
            Identity::Local { uid, .. } if *uid == 0 || *uid == own => Arc::new(Grant::everything()),
            _ => Arc::new(Grant::token_service()),
        }
    })
}

/// Whether a local peer may still do what it might when it came.
pub(crate) fn may_the_same(peer: &Peer, clients: &Clients) -> bool {
    *local_grant(&peer.identity, clients) == *peer.grant
}

/// The holder of a client certificate that the TLS layer has verified: known by its public key, so that a renewed
/// certificate of the same key is the same client. Nobody when no row of the clients file names it.
///
/// # Errors
/// When the certificate does not parse.
pub(crate) fn certificate(der: &[u8], clients: &Clients) -> Result<Option<Peer>, der::Error> {
    let certificate = Certificate::from_der(der)?;
    let to_be_signed = certificate.tbs_certificate();
    let key = to_be_signed.subject_public_key_info().to_der()?;
    let identity =
        Identity::Certificate { key_sha256: Sha256::digest(&key).into(), subject: to_be_signed.subject().to_string() };
    let Some(grant) = clients.grant(&identity, &Known::Certificate(&certificate)) else {
        tracing::warn!(peer = ?identity, "no row of the clients file names this client: its connection is closed");
        return Ok(None);
    };
    Ok(Some(Peer { identity, pid: None, grant }))
}

/// Somebody on a loopback connection that the configuration lets in without a certificate.
pub(crate) fn anonymous() -> Peer {
    Peer::unrestricted(Identity::Anonymous, None)
}

/// Whether the peer may do what this role does in the service of administration, which is on this machine only.
pub(crate) fn may_administer(peer: &Peer, role: ClientRole) -> bool {
    let local = matches!(peer.identity, Identity::Local { .. });
    local && (peer.grant.has(role) || peer.grant.has(ClientRole::Admin))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_kernel_names_this_process() {
        let (ours, _theirs) = UnixStream::pair().expect("pair");
        let clients = Clients::open(None).expect("no file");
        let peer = local(&ours, &clients).expect("named");
        assert_eq!(peer.pid, Some(std::process::id()));
        assert!(may_administer(&peer, ClientRole::Admin) && may_administer(&peer, ClientRole::Backup));
    }

    #[test]
    fn another_user_or_the_network_may_not_administer() {
        let stranger = Identity::Local { uid: rustix::process::geteuid().as_raw() + 1, gid: 0 };
        let clients = Clients::open(None).expect("no file");
        let stranger = Peer { grant: local_grant(&stranger, &clients), identity: stranger, pid: None };
        let remote = Peer { grant: Arc::new(Grant::everything()), ..anonymous() };
        for (_, role) in ClientRole::ALL {
            assert!(!may_administer(&remote, role));
        }
        for role in [ClientRole::Admin, ClientRole::Backup, ClientRole::AuditRead] {
            assert!(!may_administer(&stranger, role));
        }
    }
}
