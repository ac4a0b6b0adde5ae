//! The command line: its arguments, and how answers are shown to people or, with `--json`, to programs.

mod authority;
pub(crate) mod ceremony;

use crate::api::command::{Command, Paging};
use authority::CaAct;
use ceremony::CeremonyAct;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::Value;
use std::io::Write;
use std::path::PathBuf;

/// Certificate authority, EST enrolment and devices over a PKCS#11 token.
#[derive(Parser)]
#[command(name = "craton-pki", version, about, propagate_version = true)]
pub(crate) struct Cli {
    /// The configuration file.
    #[arg(long, env = "CRATON_PKI_CONFIG", global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) act: Act,
}

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Act {
    /// Found the PKI: root, issuing authority and server certificate, their keys made in the token.
    Init,
    /// Serve EST, CRLs and the operators.
    Serve,
    /// Is everything well?
    Health,
    /// Counters and gauges for monitors, in the text format of Prometheus.
    Metrics,
    /// How many certificates and devices there are, by state.
    Stats,
    /// The authorities.
    Ca {
        /// What to do.
        #[command(subcommand)]
        act: CaAct,
    },
    /// The ceremony of an offline root: two sides that exchange files only. No server may be running.
    Ceremony {
        /// What to do.
        #[command(subcommand)]
        act: CeremonyAct,
    },
    /// Certificates.
    Cert {
        /// What to do.
        #[command(subcommand)]
        act: CertAct,
    },
    /// Devices.
    Device {
        /// What to do.
        #[command(subcommand)]
        act: DeviceAct,
    },
    /// Print the current CRL of an authority, or write it to a file.
    Crl {
        /// The name of the authority.
        #[arg(long, default_value = "issuing")]
        ca: String,
        /// Make new ones of all shards first, due or not.
        #[arg(long)]
        renew: bool,
        /// Which shard, when the CRLs are divided.
        #[arg(long, default_value_t = 0)]
        shard: u32,
        /// The delta instead of the base.
        #[arg(long)]
        delta: bool,
        /// Encoding.
        #[arg(long, default_value = "pem")]
        format: CrlFormat,
        /// Write it here instead of to standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Profiles: what certificates may be.
    Profile {
        /// What to do.
        #[command(subcommand)]
        act: ProfileAct,
    },
    /// The journal: every change, provable.
    Journal {
        /// What to do.
        #[command(subcommand)]
        act: JournalAct,
    },
    /// First enrolments that wait for an operator.
    Approval {
        /// What to do.
        #[command(subcommand)]
        act: ApprovalAct,
    },
    /// Credentials for the first enrolment.
    Bootstrap {
        /// What to do.
        #[command(subcommand)]
        act: BootstrapAct,
    },
    /// Take a backup of the store, while the server runs or not. The keys are in the token's own backup.
    Backup(BackupArgs),
    /// Make the store from a backup. The server must not run; afterwards comes `reconcile`.
    Restore(RestoreArgs),
    /// Account for every signature of the authorities' keys: the token's counts against the records. A server does the same at each
    /// start and every half minute. A restored store is told here what came after its backup, while no server runs.
    Reconcile(ReconcileArgs),
}

/// A backup.
#[derive(Args)]
pub(crate) struct BackupArgs {
    /// The file to make; one that exists is never replaced.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// What it opens with: env:NAME or file:PATH.
    #[arg(long, value_name = "SOURCE", required_unless_present = "plain")]
    pub(crate) passphrase: Option<String>,
    /// Do not seal it: for whoever does it otherwise, such as `craton-hsm-admin backup --bundle --pki`.
    #[arg(long, conflicts_with = "passphrase")]
    pub(crate) plain: bool,
}

/// A restore.
#[derive(Args)]
pub(crate) struct RestoreArgs {
    /// The backup, sealed or plain.
    #[arg(long, value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// What it opens with: env:NAME or file:PATH.
    #[arg(long, value_name = "SOURCE")]
    pub(crate) passphrase: Option<String>,
    /// Keep a store that is there aside under another name.
    #[arg(long)]
    pub(crate) replace: bool,
    /// Also takes a backup that is dated in the future. DANGER: what was published since cannot be told by its date.
    #[arg(long, requires = "reason")]
    pub(crate) accept_rollback: bool,
    /// Why that is right; the journal notes it.
    #[arg(long, value_name = "TEXT", requires = "accept_rollback")]
    pub(crate) reason: Option<String>,
}

/// What is known of the time after a backup.
#[derive(Args)]
pub(crate) struct ReconcileArgs {
    /// A CRL that was published after the backup, PEM or DER. Can be repeated.
    #[arg(long, value_name = "FILE")]
    pub(crate) crl: Vec<PathBuf>,
    /// Certificates that were issued after the backup, PEM or DER. Can be repeated.
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Vec<PathBuf>,
    /// Take the token's counts for the new beginning although they differ; the journal says so. What a restored store is not told now is
    /// given up, and it serves again.
    #[arg(long)]
    pub(crate) accept: bool,
}

/// Encodings of a CRL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CrlFormat {
    /// PEM (RFC 7468).
    Pem,
    /// DER.
    Der,
}

/// Which page of a list.
#[derive(Args)]
pub(crate) struct PageArgs {
    /// Begin after this: the `next` of the page before.
    #[arg(long)]
    after: Option<String>,
    /// Records on the page.
    #[arg(long)]
    limit: Option<usize>,
}

/// What to do with certificates.
#[derive(Subcommand)]
pub(crate) enum CertAct {
    /// List them in the order of issuance.
    List {
        /// Only of this device.
        #[arg(long)]
        device: Option<String>,
        /// Which page.
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show one.
    Show {
        /// Serial number in hexadecimal.
        serial: String,
    },
    /// Revoke one and publish the CRL.
    Revoke {
        /// Serial number in hexadecimal.
        serial: String,
        /// Why: one of the reasons below.
        #[command(flatten)]
        why: ReasonArgs,
    },
    /// Release one that was revoked with the reason certificate-hold, and publish the CRL.
    Release {
        /// Serial number in hexadecimal.
        serial: String,
    },
    /// Revoke many in one change and publish each CRL once.
    RevokeAll {
        /// Those that this authority gave to devices.
        #[arg(long, group = "which", value_name = "AUTHORITY")]
        ca: Option<String>,
        /// Those that were enrolled under this EST label; "" for the path without label.
        #[arg(long, group = "which")]
        label: Option<String>,
        /// Those of this device, of both its identities.
        #[arg(long, group = "which")]
        device: Option<String>,
        /// Those whose serial numbers stand in this file, one a line in hexadecimal; "-" for standard input.
        #[arg(long, group = "which", value_name = "FILE", required_unless_present_any = ["ca", "label", "device"])]
        serials: Option<PathBuf>,
        /// Why: one of the reasons below.
        #[command(flatten)]
        why: ReasonArgs,
    },
}

/// Why certificates are revoked.
#[derive(Args)]
pub(crate) struct ReasonArgs {
    /// unspecified, key-compromise, ca-compromise, affiliation-changed, superseded, cessation-of-operation, certificate-hold,
    /// privilege-withdrawn or aa-compromise.
    #[arg(long, default_value = "unspecified")]
    pub(crate) reason: String,
    /// Since when they are not to be relied upon: 2026-01-31 or 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "DATE")]
    pub(crate) invalid_since: Option<String>,
}

/// What to do with devices.
#[derive(Subcommand)]
pub(crate) enum DeviceAct {
    /// List them by identity.
    List {
        /// Which page.
        #[command(flatten)]
        page: PageArgs,
    },
    /// Record one before its first enrolment, for labels that enrol registered devices only.
    Register {
        /// Its identity: the serialNumber of its subject, else the commonName.
        id: String,
        /// The EST label it belongs to; without it, the path without label.
        #[arg(long)]
        label: Option<String>,
    },
    /// Show one with its certificates.
    Show {
        /// Its identity.
        id: String,
    },
}

/// What to do with profiles. They stand in the configuration; nothing here changes anything.
#[derive(Subcommand)]
pub(crate) enum ProfileAct {
    /// List those of the configuration.
    List,
    /// List the presets that a profile may start from.
    Presets,
    /// Show one with everything that was not written.
    Show {
        /// Its name.
        name: String,
    },
    /// Show the certificate that a request would get. Nothing is signed.
    Test {
        /// Name of the profile.
        #[arg(long, default_value = "device")]
        profile: String,
        /// File with the request: PEM, DER or base64.
        #[arg(long, value_name = "FILE")]
        csr: PathBuf,
    },
}

/// What to do with the journal.
#[derive(Subcommand)]
pub(crate) enum JournalAct {
    /// List its records, one JSON object each.
    List {
        /// Which page.
        #[command(flatten)]
        page: PageArgs,
    },
    /// Sign a checkpoint of it and print that; with --last, the last one.
    Checkpoint {
        /// Print the last one instead.
        #[arg(long)]
        last: bool,
    },
    /// Read all of it and check its tree and its checkpoints.
    Verify,
    /// Make a proof for somebody outside.
    Prove {
        /// That the records about this certificate are in it: serial number in hexadecimal.
        #[arg(long, group = "what")]
        serial: Option<String>,
        /// That the record at this place is in it.
        #[arg(long, group = "what")]
        index: Option<u64>,
        /// That it goes on from the checkpoint of this size.
        #[arg(long, group = "what", value_name = "SIZE", required_unless_present_any = ["serial", "index"])]
        from: Option<u64>,
    },
    /// Check a proof. Needs neither configuration nor token.
    Check {
        /// The proof.
        file: PathBuf,
        /// The journal's public key (PEM), from somewhere you trust.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Write all records to FILE, the checkpoint and the key beside it (.note and .pem).
    Export {
        /// Where.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// What to do with first enrolments that wait.
#[derive(Subcommand)]
pub(crate) enum ApprovalAct {
    /// List those that wait, and those decided about that the device has not fetched yet.
    List {
        /// Which page.
        #[command(flatten)]
        page: PageArgs,
    },
    /// Let one be issued when the device comes again.
    Grant {
        /// Its identifier.
        id: String,
    },
    /// Refuse one.
    Refuse {
        /// Its identifier.
        id: String,
    },
}

/// What to do with credentials.
#[derive(Subcommand)]
pub(crate) enum BootstrapAct {
    /// Make a user name and a password, good for one certificate. The password is shown once and stored as a hash.
    New {
        /// The only device it is good for (its serialNumber or commonName); needed for a device that was enrolled before.
        #[arg(long)]
        device: Option<String>,
        /// The EST label it is good for; without it, the path without label.
        #[arg(long)]
        label: Option<String>,
        /// How long it is good, in hours.
        #[arg(long, default_value_t = 24)]
        valid_hours: u32,
    },
}

impl PageArgs {
    fn paging(self) -> Paging {
        Paging { after: self.after, limit: self.limit }
    }
}

impl Act {
    /// The command of an operator that it stands for; none for those that the program itself performs.
    ///
    /// # Errors
    /// When a file that it names cannot be read.
    pub(crate) fn command(self) -> std::io::Result<Option<Command>> {
        Ok(match self {
            Self::Init | Self::Serve | Self::Ca { .. } | Self::Ceremony { .. } | Self::Profile { .. } => None,
            Self::Backup(_) | Self::Restore(_) | Self::Reconcile(_) => None,
            Self::Journal { act: JournalAct::Check { .. } | JournalAct::Export { .. } } => None,
            Self::Journal { act: JournalAct::List { page } } => Some(Command::JournalList { paging: page.paging() }),
            Self::Journal { act: JournalAct::Checkpoint { last } } => Some(Command::JournalCheckpoint { lazily: last }),
            Self::Journal { act: JournalAct::Verify } => Some(Command::JournalVerify {}),
            Self::Journal { act: JournalAct::Prove { serial, index, from } } => {
                Some(Command::JournalProve { serial, index, from })
            }
            Self::Health => Some(Command::Health {}),
            Self::Metrics => Some(Command::Metrics {}),
            Self::Stats => Some(Command::Stats {}),
            Self::Cert { act: CertAct::List { device, page } } => {
                Some(Command::CertList { device, paging: page.paging() })
            }
            Self::Cert { act: CertAct::Show { serial } } => Some(Command::CertShow { serial }),
            Self::Cert { act: CertAct::Revoke { serial, why: ReasonArgs { reason, invalid_since } } } => {
                Some(Command::CertRevoke { serial, reason, invalid_since })
            }
            Self::Cert { act: CertAct::Release { serial } } => Some(Command::CertRelease { serial }),
            Self::Cert {
                act: CertAct::RevokeAll { ca, label, device, serials, why: ReasonArgs { reason, invalid_since } },
            } => {
                let serials = serials.map(|path| lines(&path)).transpose()?;
                Some(Command::CertRevokeAll { authority: ca, label, device, serials, reason, invalid_since })
            }
            Self::Device { act: DeviceAct::List { page } } => Some(Command::DeviceList { paging: page.paging() }),
            Self::Device { act: DeviceAct::Register { id, label } } => Some(Command::DeviceRegister { id, label }),
            Self::Approval { act: ApprovalAct::List { page } } => Some(Command::ApprovalList { paging: page.paging() }),
            Self::Approval { act: ApprovalAct::Grant { id } } => Some(Command::ApprovalDecide { id, grant: true }),
            Self::Approval { act: ApprovalAct::Refuse { id } } => Some(Command::ApprovalDecide { id, grant: false }),
            Self::Device { act: DeviceAct::Show { id } } => Some(Command::DeviceShow { id }),
            Self::Crl { ca, renew, shard, delta, .. } => Some(Command::Crl { authority: ca, renew, shard, delta }),
            Self::Bootstrap { act: BootstrapAct::New { device, label, valid_hours } } => {
                Some(Command::BootstrapNew { device, label, valid_hours })
            }
        })
    }
}

/// The lines of a file that hold anything; "-" is standard input.
fn lines(path: &std::path::Path) -> std::io::Result<Vec<String>> {
    let text = if path.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())?
    } else {
        std::fs::read_to_string(path)
            .map_err(|fault| std::io::Error::new(fault.kind(), format!("{}: {fault}", path.display())))?
    };
    Ok(text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect())
}

/// Writes an answer to standard output.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn show(value: &Value, json: bool) -> std::io::Result<()> {
    let text = if json { format!("{value:#}\n") } else { text(value) };
    std::io::stdout().lock().write_all(text.as_bytes())
}

/// Writes bytes to standard output.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn show_bytes(bytes: &[u8]) -> std::io::Result<()> {
    std::io::stdout().lock().write_all(bytes)
}

/// Writes a refusal: to standard output with `--json`, else to standard error.
pub(crate) fn complain(code: &str, message: &str, json: bool) {
    let written = if json {
        let value = serde_json::json!({ "error": { "code": code, "message": message } });
        std::io::stdout().lock().write_all(format!("{value:#}\n").as_bytes())
    } else {
        std::io::stderr().lock().write_all(format!("craton-pki: {message}\n").as_bytes())
    };
    // With both outputs closed the exit status still tells.
    drop(written);
}

/// Columns of lists, in order; those that no record has are left out.
const COLUMNS: &[&str] =
    &["id", "serial", "state", "kind", "parent", "device", "subject", "not_after", "certificate", "key", "crl_number"];

fn text(value: &Value) -> String {
    match value.get("items").and_then(Value::as_array) {
        Some(items) => {
            let lines = items.iter().map(Value::as_str).collect::<Option<Vec<_>>>().filter(|lines| !lines.is_empty());
            let mut text = match lines {
                Some(lines) => lines.join("\n") + "\n",
                None => table(items),
            };
            if let Some(next) = value.get("next").and_then(Value::as_str) {
                text.push_str(&format!("more: --after {next}\n"));
            }
            text
        }
        None => pairs(value),
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn table(items: &[Value]) -> String {
    let columns: Vec<&str> =
        COLUMNS.iter().copied().filter(|column| items.iter().any(|item| item.get(column).is_some())).collect();
    let mut rows = vec![columns.iter().map(|column| column.to_uppercase()).collect::<Vec<_>>()];
    for item in items {
        rows.push(columns.iter().map(|column| item.get(column).map(cell).unwrap_or_default()).collect());
    }
    let widths: Vec<usize> = (0..columns.len())
        .map(|index| rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn pairs(value: &Value) -> String {
    let Some(object) = value.as_object() else { return format!("{}\n", cell(value)) };
    let width = object.keys().map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    let mut last = String::new();
    for (key, value) in object {
        match value {
            Value::Array(items) if items.iter().any(Value::is_object) => {
                last.push_str(&format!("{key}:\n{}", table(items)))
            }
            Value::String(block) if block.contains('\n') => last.push_str(block),
            value => text.push_str(&format!("{key:<width$}  {}\n", cell(value))),
        }
    }
    text + &last
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lists_become_tables_and_records_become_pairs() {
        let list = serde_json::json!({ "items": [{ "id": "a", "state": "x" }, { "id": "longer", "state": "y" }], "next": "00" });
        assert_eq!(text(&list), "ID      STATE\na       x\nlonger  y\nmore: --after 00\n");
        let record = serde_json::json!({ "id": "a", "state": null });
        assert_eq!(text(&record), "id     a\nstate  \n");
    }
}
