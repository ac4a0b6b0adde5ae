//! Who is at the other end: the kernel's word for a Unix socket, the verified certificate for TLS.
//!
//! A [`Peer`] is made here and nowhere else. What a client says about itself is never part of it.

use std::os::fd::AsFd;

use der::{Decode, Encode};
use hsm_core::{Identity, Peer};
use sha2::{Digest, Sha256};
use x509_cert::Certificate;

/// The peer of a Unix socket, as the kernel recorded it when the peer connected.
///
/// # Errors
/// When the kernel does not say.
pub(crate) fn local(socket: impl AsFd) -> std::io::Result<Peer> {
    let who = rustix::net::sockopt::socket_peercred(socket)?;
    let identity = Identity::Local { uid: who.uid.as_raw(), gid: who.gid.as_raw() };
    Ok(Peer { identity, pid: u32::try_from(who.pid.as_raw_nonzero().get()).ok() })
}

/// The holder of a client certificate that the TLS layer has verified: known by its public key, so that a renewed
/// certificate of the same key is the same client.
///
/// # Errors
/// When the certificate does not parse.
pub(crate) fn certificate(der: &[u8]) -> Result<Peer, der::Error> {
    let certificate = Certificate::from_der(der)?;
    let to_be_signed = certificate.tbs_certificate();
    let key = to_be_signed.subject_public_key_info().to_der()?;
    let identity =
        Identity::Certificate { key_sha256: Sha256::digest(&key).into(), subject: to_be_signed.subject().to_string() };
    Ok(Peer { identity, pid: None })
}

/// Somebody on a loopback connection that the configuration lets in without a certificate.
pub(crate) fn anonymous() -> Peer {
    Peer { identity: Identity::Anonymous, pid: None }
}

/// Whether the peer may administer: the superuser or the user that the daemon runs as, on this machine.
pub(crate) fn may_administer(peer: &Peer) -> bool {
    match peer.identity {
        Identity::Local { uid, .. } => uid == 0 || uid == rustix::process::geteuid().as_raw(),
        Identity::Certificate { .. } | Identity::Anonymous => false,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_kernel_names_this_process() {
        let (ours, _theirs) = UnixStream::pair().expect("pair");
        let peer = local(&ours).expect("named");
        assert_eq!(peer.pid, Some(std::process::id()));
        assert!(may_administer(&peer));
    }

    #[test]
    fn another_user_or_the_network_may_not_administer() {
        let stranger = Identity::Local { uid: rustix::process::geteuid().as_raw() + 1, gid: 0 };
        assert!(!may_administer(&Peer { identity: stranger, pid: None }));
        assert!(!may_administer(&anonymous()));
    }
}
