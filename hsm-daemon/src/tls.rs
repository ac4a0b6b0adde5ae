//! The TLS side of the TCP listener: TLS 1.3 only, client certificates verified against one CA file and one CRL file,
//! all files read again from time to time and on SIGHUP.
//!
//! No session is resumed: every connection shows its certificate again and is checked against the current CRL. When the
//! files have been read again, the connections that are open are judged again too, and closed if they would not be
//! accepted any more.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hsm_core::Peer;
use parking_lot::{Mutex, RwLock};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};

use crate::clients::Clients;
use crate::identify;
use crate::tls_files::{ClientFiles, TlsFiles};

/// Why the TLS files cannot be used: one sentence that names the file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unusable(String);

/// What the files say.
struct Content {
    config: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

/// The current TLS configuration, and the connections that came in by it.
pub(crate) struct Tls {
    files: TlsFiles,
    current: RwLock<Content>,
    open: Arc<Mutex<OpenLines>>,
}

#[derive(Default)]
struct OpenLines {
    last_name: u64,
    lines: HashMap<u64, OpenLine>,
}

struct OpenLine {
    chain: Vec<CertificateDer<'static>>,
    /// Who it is, with what it may do.
    peer: Peer,
    /// A second handle of the connection's socket, to shut it down from outside.
    socket: TcpStream,
}

/// Belongs to one connection; dropped with it.
pub(crate) struct Watched {
    open: Arc<Mutex<OpenLines>>,
    name: u64,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.open.lock().lines.remove(&self.name);
    }
}

impl Tls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// [`Unusable`]: the daemon does not start.
    pub(crate) fn open(files: TlsFiles) -> Result<Arc<Self>, Unusable> {
        let current = RwLock::new(build(&files)?);
        Ok(Arc::new(Tls { files, current, open: Arc::default() }))
    }

    /// Whether clients must show a certificate.
    pub(crate) fn asks_for_certificates(&self) -> bool {
        self.files.client_ca.is_some()
    }

    /// How often the files are read again.
    pub(crate) fn refresh(&self) -> Duration {
        self.files.refresh
    }

    /// What the next handshake uses.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().config)
    }

    /// Closes the connection when its client's certificate is no longer accepted.
    pub(crate) fn watch(&self, chain: &[CertificateDer<'_>], peer: &Peer, socket: TcpStream) -> Watched {
        let chain = chain.iter().cloned().map(CertificateDer::into_owned).collect();
        let mut open = self.open.lock();
        open.last_name += 1;
        let name = open.last_name;
        open.lines.insert(name, OpenLine { chain, peer: peer.clone(), socket });
        Watched { open: Arc::clone(&self.open), name }
    }

    /// Reads the files again; if one is unusable the old ones stay in use and the log says why.
    pub(crate) fn reload(&self, clients: &Clients) {
        match build(&self.files) {
            Ok(fresh) => {
                *self.current.write() = fresh;
                tracing::debug!("the TLS files have been read again");
            }
            Err(why) => tracing::error!(%why, "the TLS files cannot be used, the previous ones stay in use"),
        }
        self.judge_open_lines(clients);
    }

    /// The files that are watched for changes.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let TlsFiles { certificate, key, client_ca, client_crl, .. } = &self.files;
        [Some(certificate), Some(key), client_ca.as_ref(), client_crl.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
    }

    /// Closes the connections whose clients are not accepted any more, or may do something else. Also when the files are as they were: a
    /// certificate expires by itself.
    pub(crate) fn judge_open_lines(&self, clients: &Clients) {
        let Some(verifier) = self.current.read().verifier.clone() else { return };
        for line in self.open.lock().lines.values() {
            let Some((leaf, intermediates)) = line.chain.split_first() else { continue };
            if let Err(why) = verifier.verify_client_cert(leaf, intermediates, UnixTime::now()) {
                tracing::warn!(%why, "a client's certificate is no longer accepted: its connection is closed");
                // A connection that is gone already needs no closing.
                line.socket.shutdown(Shutdown::Both).unwrap_or_default();
                continue;
            }
            let now = identify::certificate(leaf, clients).ok().flatten();
            if now.is_none_or(|now| now.grant != line.peer.grant) {
                tracing::warn!(peer = ?line.peer.identity, "what a client may do has changed: its connection is closed");
                line.socket.shutdown(Shutdown::Both).unwrap_or_default();
            }
        }
    }
}

fn build(files: &TlsFiles) -> Result<Content, Unusable> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = client_verifier(files, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| Unusable(format!("TLS 1.3 is not available: {e}")))?;
    let builder = match &verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
    };
    let mut config = builder
        .with_single_cert(certificates(&files.certificate)?, private_key(&files.key)?)
        .map_err(|e| unusable(&files.certificate, e))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Content { config: Arc::new(config), verifier })
}

/// The other side: what this daemon shows and whom it believes when it calls others, to speak this protocol with them.
///
/// # Errors
/// [`Unusable`].
pub(crate) fn client(files: &ClientFiles, protocol: &[u8]) -> Result<ClientConfig, Unusable> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca)? {
        roots.add(certificate).map_err(|e| unusable(&files.ca, e))?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| Unusable(format!("TLS 1.3 is not available: {e}")))?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(&files.certificate)?, private_key(&files.key)?)
        .map_err(|e| unusable(&files.certificate, e))?;
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn client_verifier(
    files: &TlsFiles,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, Unusable> {
    let Some(ca) = &files.client_ca else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|e| unusable(ca, e))?;
    }
    let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if let Some(crl) = &files.client_crl {
        // An expired list says nothing about today: its clients are refused.
        verifier = verifier.with_crls(revocation_lists(crl)?).enforce_revocation_expiration();
    }
    verifier.build().map(Some).map_err(|e| unusable(ca, e))
}

/// A TLS file that is not as it should be.
fn unusable(path: &Path, why: impl core::fmt::Display) -> Unusable {
    Unusable(format!("the TLS file {} cannot be used: {why}", path.display()))
}

/// Reads a file whose mode has none of the `forbidden` bits, through one open handle.
fn read(path: &Path, forbidden: u32) -> Result<Vec<u8>, Unusable> {
    let mut file = File::open(path).map_err(|e| unusable(path, e))?;
    let mode = file.metadata().map_err(|e| unusable(path, e))?.mode() & 0o7777;
    if mode & forbidden != 0 {
        let wanted = if forbidden == FOR_OTHERS { "chmod 0600 it" } else { "chmod go-w it" };
        return Err(unusable(path, format!("its mode {mode:04o} lets others at it: {wanted}")));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|e| unusable(path, e))?;
    Ok(bytes)
}

/// Any permission for group or others: forbidden for a private key.
const FOR_OTHERS: u32 = 0o077;

/// Writing by group or others: forbidden for what says whom to trust.
const WRITABLE_BY_OTHERS: u32 = 0o022;

fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(11).any(|window| window == b"-----BEGIN ")
}

/// The certificates of a file, PEM or DER.
///
/// # Errors
/// [`Unusable`], also when others may write it.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let bytes = read(path, WRITABLE_BY_OTHERS)?;
    if !is_pem(&bytes) {
        return Ok(vec![CertificateDer::from(bytes)]);
    }
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|e| unusable(path, e))?;
    if found.is_empty() { Err(unusable(path, "there is no certificate in it")) } else { Ok(found) }
}

fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, Unusable> {
    let bytes = read(path, WRITABLE_BY_OTHERS)?;
    if !is_pem(&bytes) {
        return Ok(vec![CertificateRevocationListDer::from(bytes)]);
    }
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|e| unusable(path, e))?;
    if found.is_empty() { Err(unusable(path, "there is no certificate revocation list in it")) } else { Ok(found) }
}

/// The private key of a file, PEM or DER.
///
/// # Errors
/// [`Unusable`], also when others may read it.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Unusable> {
    let bytes = read(path, FOR_OTHERS)?;
    if is_pem(&bytes) {
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| unusable(path, e))
    } else {
        PrivateKeyDer::try_from(bytes).map_err(|e| unusable(path, e))
    }
}
