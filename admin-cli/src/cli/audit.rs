//! What is said to the journal.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Verifies every record, the chain between them and the signatures over it.
    #[command(visible_alias = "verify-chain")]
    Verify(AuditWitnessed),
    /// Shows the signing keys: the first is what verifiers elsewhere should keep.
    Key(AuditKey),
    /// Writes the newest signed checkpoint as a note that witnesses and other tools read.
    Checkpoint(AuditVerify),
    /// Writes the line that an anchor file holds: the newest record's number and hash. Or compares the journal with such a file.
    Anchor(AuditAnchor),
    /// Writes the newest checkpoints that the running daemon holds as a witness of other daemons, for `audit verify --witness` there.
    Witnessed(AuditOrigin),
    /// Proves that one record is under the newest checkpoint, for somebody who has a key and nothing else.
    Prove(AuditProve),
    /// Checks such a proof.
    CheckProof(AuditCheckProof),
    /// Writes the verified records to standard output.
    Export(AuditExport),
    /// Export as one JSON array.
    ExportJson(AuditFrom),
    /// Export as the journal's own lines.
    ExportNdjson(AuditFrom),
    /// Export as syslog messages (RFC 5424).
    ExportSyslog(AuditFrom),
    /// Export in the Common Event Format.
    ExportCef(AuditFrom),
    /// Shows the newest records.
    Dump(AuditDump),
}

impl Audit {
    /// The journal's file, if the command line names one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Audit::Verify(given) => given.journal.file.as_deref(),
            Audit::Checkpoint(given) => given.file.as_deref(),
            Audit::Key(given) => given.file.as_deref(),
            Audit::Anchor(given) => given.file.as_deref(),
            Audit::Prove(given) => given.journal.file.as_deref(),
            Audit::CheckProof(_) | Audit::Witnessed(_) => None,
            Audit::Export(given) => given.file.as_deref(),
            Audit::ExportJson(given)
            | Audit::ExportNdjson(given)
            | Audit::ExportSyslog(given)
            | Audit::ExportCef(given) => given.file.as_deref(),
            Audit::Dump(given) => given.file.as_deref(),
        }
    }
}

/// How records are exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The journal's own lines: the export verifies like the journal.
    Ndjson,
    /// One JSON array.
    Json,
    /// Syslog messages, RFC 5424.
    Syslog,
    /// Common Event Format.
    Cef,
    /// One line for people per record.
    Text,
}

#[derive(Debug, Args)]
pub(crate) struct AuditVerify {
    /// The journal; else the configuration's. Closed files beside it belong to it.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// A public key known from elsewhere, as `audit key` shows it: 64 hexadecimal digits, or 128 with its ML-DSA-44 half. Given once for the
    /// first key, again for each that its predecessor did not sign for, and for the one with which ML-DSA-44 began.
    #[arg(long, value_name = "HEX")]
    pub(crate) key: Vec<String>,
    /// Earlier files are archived elsewhere: take the first file that is here at its word.
    #[arg(long)]
    pub(crate) later_start: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AuditWitnessed {
    #[command(flatten)]
    pub(crate) journal: AuditVerify,
    /// Checkpoints that a witness kept: its file, or lines of a system's log. The journal must hold every one.
    #[arg(long, value_name = "FILE")]
    pub(crate) witness: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AuditKey {
    /// The journal; else the configuration's.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AuditAnchor {
    /// The journal; else the configuration's.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// An anchor that was written earlier: the journal must hold its record.
    #[arg(long, value_name = "FILE")]
    pub(crate) check: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AuditOrigin {
    /// The journal's name, as `audit key` tells it; else all.
    #[arg(long, value_name = "NAME")]
    pub(crate) origin: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AuditProve {
    #[command(flatten)]
    pub(crate) journal: AuditVerify,
    /// The record's sequence number.
    #[arg(long, value_name = "SEQ")]
    pub(crate) seq: u64,
}

#[derive(Debug, Args)]
pub(crate) struct AuditCheckProof {
    /// The proof, as `audit prove` wrote it.
    #[arg(long, value_name = "FILE")]
    pub(crate) proof: PathBuf,
    /// A public key that is trusted: 64 hexadecimal digits, or 128 with its ML-DSA-44 half.
    #[arg(long, value_name = "HEX", required = true)]
    pub(crate) key: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AuditExport {
    /// The journal; else the configuration's.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// How.
    #[arg(long, value_enum, default_value = "ndjson")]
    pub(crate) format: Format,
    /// The first record's sequence number.
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    pub(crate) from: u64,
}

#[derive(Debug, Args)]
pub(crate) struct AuditFrom {
    /// The journal; else the configuration's.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The first record's sequence number.
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    pub(crate) from: u64,
}

#[derive(Debug, Args)]
pub(crate) struct AuditDump {
    /// The journal; else the configuration's.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// How many.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) last: usize,
}
