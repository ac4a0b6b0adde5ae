//! The arguments of `craton-pki ceremony`.

use clap::Subcommand;
use std::path::PathBuf;

/// What to do in a ceremony.
#[derive(Subcommand)]
pub(crate) enum CeremonyAct {
    /// Below the root: make the keys and write what the root is asked for.
    Request {
        /// The file to carry to the root.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// An authority whose certificate belongs on the root's CRL.
        #[arg(long, value_name = "ID")]
        revoke: Option<String>,
        /// Why.
        #[arg(long, default_value = "unspecified", requires = "revoke")]
        reason: String,
    },
    /// At the root: issue what is asked for, make a CRL, write the answer and the protocol.
    Sign {
        /// The file from below.
        request: PathBuf,
        /// The file to carry back. The protocol is written beside it as FILE.protocol.txt.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Somebody who is present; may be repeated.
        #[arg(long, value_name = "NAME")]
        witness: Vec<String>,
    },
    /// Below the root: verify the answer and go on with it.
    Import {
        /// The file from the root.
        answer: PathBuf,
        /// SHA-256 of the root certificate as the protocol shows it; needed the first time.
        #[arg(long, value_name = "HEX")]
        root_sha256: Option<String>,
    },
    /// Verify a protocol and print it.
    Protocol {
        /// The protocol.
        file: PathBuf,
        /// PEM of the root certificate.
        #[arg(long, value_name = "FILE")]
        root: PathBuf,
    },
}
