//! The TLS side of the TCP listener: TLS 1.3 only, client certificates verified against one CA file and one CRL file,
//! all files read again from time to time and on SIGHUP.
//!
//! No session is resumed: every connection shows its certificate again and is checked against the current CRL.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::config::TlsFiles;

/// Why the TLS files cannot be used: one sentence that names the file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unusable(String);

/// The current TLS configuration.
pub(crate) struct Tls {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// [`Unusable`]: the daemon does not start.
    pub(crate) fn open(files: TlsFiles) -> Result<Arc<Self>, Unusable> {
        let current = RwLock::new(build(&files)?);
        Ok(Arc::new(Tls { files, current }))
    }

    /// How often the files are read again.
    pub(crate) fn refresh(&self) -> std::time::Duration {
        self.files.refresh
    }

    /// What the next handshake uses.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read())
    }

    /// Reads the files again; if one is unusable the old ones stay in use and the log says why.
    pub(crate) fn reload(&self) {
        match build(&self.files) {
            Ok(fresh) => {
                *self.current.write() = fresh;
                tracing::debug!("the TLS files have been read again");
            }
            Err(why) => tracing::error!(%why, "the TLS files cannot be used, the previous ones stay in use"),
        }
    }
}

fn build(files: &TlsFiles) -> Result<Arc<ServerConfig>, Unusable> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| Unusable(format!("TLS 1.3 is not available: {e}")))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(ca)? {
                roots.add(certificate).map_err(|e| unusable(ca, e))?;
            }
            let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            if let Some(crl) = &files.client_crl {
                // An expired list says nothing about today: its clients are refused.
                verifier = verifier.with_crls(revocation_lists(crl)?).enforce_revocation_expiration();
            }
            builder.with_client_cert_verifier(verifier.build().map_err(|e| unusable(ca, e))?)
        }
    };
    let mut config = builder
        .with_single_cert(certificates(&files.certificate)?, private_key(&files.key)?)
        .map_err(|e| unusable(&files.certificate, e))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

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

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Unusable> {
    let bytes = read(path, FOR_OTHERS)?;
    if is_pem(&bytes) {
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| unusable(path, e))
    } else {
        PrivateKeyDer::try_from(bytes).map_err(|e| unusable(path, e))
    }
}
