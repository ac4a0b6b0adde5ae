//! A daemon on another machine: its name and port, and the TLS files that prove who is who.
//!
//! The files are read once, at C_Initialize. TLS 1.3 only, the server's certificate verified against one CA file and the
//! endpoint's own name, the client's certificate always shown. The cryptography is *ring*'s, passed explicitly: no
//! process-wide provider is installed, and AWS-LC stays where the token's keys are.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::Uri;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

/// Any permission for group or others: forbidden for a private key.
const FOR_OTHERS: u32 = 0o077;
/// Writing by group or others: forbidden for what says whom to trust.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// A certificate chain is a few kilobytes; more than this is not one.
const MAX_BYTES: u64 = 1024 * 1024;

/// PEM files.
pub(crate) struct TlsFiles {
    /// Who may vouch for the daemon.
    pub(crate) ca: PathBuf,
    /// This client's certificate, and what leads from it to the daemon's client CA.
    pub(crate) cert: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
}

/// The calls of `Token` that carry everything.
pub(super) struct Rpcs {
    pub(super) exchange: Uri,
    pub(super) seal_key: Uri,
    pub(super) sealed: Uri,
}

/// What it takes to reach the daemon.
#[derive(Clone)]
pub(crate) struct Remote {
    pub(super) host: String,
    pub(super) port: u16,
    /// What every request is addressed to.
    pub(super) rpcs: Arc<Rpcs>,
    pub(super) name: ServerName<'static>,
    pub(super) tls: Arc<ClientConfig>,
}

impl Remote {
    /// From `host:port` and the files; `None` when one of them cannot be used.
    pub(crate) fn open(authority: &str, files: &TlsFiles) -> Option<Self> {
        let uri: Uri = format!("https://{authority}").parse().ok()?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || authority.contains('@') {
            return None;
        }
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let authority = uri.authority()?;
        let rpc = |name: &str| format!("https://{authority}/craton.hsm.v1.Token/{name}").parse().ok();
        Some(Remote {
            port: uri.port_u16()?,
            rpcs: Arc::new(Rpcs { exchange: rpc("Exchange")?, seal_key: rpc("SealKey")?, sealed: rpc("Sealed")? }),
            name: ServerName::try_from(host.clone()).ok()?,
            tls: Arc::new(configuration(files)?),
            host,
        })
    }
}

fn configuration(files: &TlsFiles) -> Option<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca)? {
        roots.add(certificate).ok()?;
    }
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key, FOR_OTHERS)?).ok()?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .ok()?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(&files.cert)?, key)
        .ok()?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // The daemon resumes nothing either: every connection shows its certificate.
    config.resumption = Resumption::disabled();
    Some(config)
}

/// At least one.
fn certificates(path: &Path) -> Option<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path, WRITABLE_BY_OTHERS)?).collect();
    found.ok().filter(|found| !found.is_empty())
}

/// Reads a file whose mode has none of the `forbidden` bits, through one open handle.
fn read(path: &Path, forbidden: u32) -> Option<Zeroizing<Vec<u8>>> {
    let mut file = File::open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.mode() & forbidden != 0 || metadata.len() > MAX_BYTES {
        return None;
    }
    // Its whole size at once: a buffer that grows leaves copies.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len()).ok()? + 1));
    file.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    #[test]
    fn files_that_others_may_touch_and_endpoints_without_a_port_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x"])
            .args(["-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(folder.path())
            .output();
        let Ok(made) = made else {
            return eprintln!(
                "SKIPPED files_that_others_may_touch_and_endpoints_without_a_port_are_refused: openssl not found"
            );
        };
        assert!(made.status.success(), "{made:?}");
        let files = TlsFiles { ca: path("cert.pem"), cert: path("cert.pem"), key: path("key.pem") };
        let set = |name: &str, mode| fs::set_permissions(path(name), Permissions::from_mode(mode)).expect("set");
        for (key, cert, fine) in [(0o600, 0o644, true), (0o640, 0o644, false), (0o600, 0o664, false)] {
            set("key.pem", key);
            set("cert.pem", cert);
            assert_eq!(Remote::open("localhost:5696", &files).is_some(), fine, "{key:o} {cert:o}");
        }
        set("cert.pem", 0o644);
        let endpoints =
            [("127.0.0.1:1", true), ("[::1]:1", true), ("localhost", false), ("a@b:1", false), ("b:1/x", false)];
        for (endpoint, fine) in endpoints {
            assert_eq!(Remote::open(endpoint, &files).is_some(), fine, "{endpoint}");
        }
        let absent = TlsFiles { ca: path("absent.pem"), ..files };
        assert!(Remote::open("localhost:1", &absent).is_none());
    }
}
