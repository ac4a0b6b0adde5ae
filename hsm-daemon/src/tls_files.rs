//! The files that TLS needs: of the listener, and of this daemon as a client.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::toml_file::{Refused, refuse};

/// The files of the TLS listener.
#[derive(Clone, Debug)]
pub(crate) struct TlsFiles {
    /// The server's chain, leaf first.
    pub(crate) certificate: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
    /// Who may issue client certificates; without it clients are anonymous (loopback only).
    pub(crate) client_ca: Option<PathBuf>,
    /// Which client certificates are revoked.
    pub(crate) client_crl: Option<PathBuf>,
    /// How often all four are read again.
    pub(crate) refresh: Duration,
}

/// The files of a TLS client: what this daemon shows, and whom it believes, when it calls others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientFiles {
    /// Who may vouch for the server.
    pub(crate) ca: PathBuf,
    /// The client's chain, leaf first.
    pub(crate) certificate: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
}

impl ClientFiles {
    /// The files `tls_ca`, `tls_cert` and `tls_key` of a table, which has all of them or none.
    pub(crate) fn of(table: &str, files: [Option<PathBuf>; 3], base: &Path) -> Result<Option<Self>, Refused> {
        match files.map(|file| file.map(|path| base.join(path))) {
            [Some(ca), Some(certificate), Some(key)] => Ok(Some(ClientFiles { ca, certificate, key })),
            [None, None, None] => Ok(None),
            _ => refuse(format!("{table}.tls_ca, tls_cert and tls_key go together: one of them is missing")),
        }
    }
}
