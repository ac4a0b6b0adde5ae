//! The command line, as written. What a command does is in `command/`, under the command's name.

mod audit;
mod backup;
mod store;
#[cfg(test)]
mod tests;
mod token;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use audit::{
    Audit, AuditAnchor, AuditCheckProof, AuditOrigin, AuditProve, AuditVerify, AuditWitnessed, Format,
};
pub(crate) use backup::{Archives, Backup, Drill, Opening, Restore};
pub(crate) use store::{AcceptRollback, Store, StoreKey, StoreKeySeal, Unseal};
pub(crate) use token::{
    Key, KeyList, Pin, PinChange, PinReset, Token, TokenAutoLogin, TokenInfo, TokenInit, TokenRotateKey, UserType,
};

const PIN_HELP: &str = "A PIN is given as `-` (a line of standard input), `env:NAME`, `file:PATH`, or as itself (others \
on the machine may then see it); without it the tool asks.";

const EXIT_HELP: &str = "\
A PIN is given as `-` (a line of standard input), `env:NAME`, `file:PATH`, or as itself (others on the machine may
then see it); without it the tool asks.

Exit status: 0 done, 1 refused or failed (one sentence on standard error says why), 2 wrong usage, 78 the
configuration cannot be used.";

/// Administers a Craton token and its files.
#[derive(Debug, Parser)]
#[command(name = "craton-hsm-admin", version, after_help = EXIT_HELP)]
pub(crate) struct Cli {
    /// The configuration; else ./craton_hsm.toml, else /etc/craton-hsm/craton_hsm.toml.
    #[arg(long, global = true, value_name = "PATH", env = "CRATON_HSM_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Answers in JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Tokens: initialise, show.
    #[command(subcommand)]
    Token(Token),
    /// PINs: change, reset.
    #[command(subcommand)]
    Pin(Pin),
    /// Keys: list.
    #[command(subcommand)]
    Key(Key),
    /// How the daemon is; exit status 1 unless it is well.
    Status,
    /// Holds configuration, files, daemon and backups against what operators are advised; each finding has a remedy.
    Doctor(Doctor),
    /// Shows what monitors read: counters, durations and gauges in Prometheus' text format.
    Metrics,
    /// Brings what a sealed token needs; without options says how far the unsealing is.
    Unseal(Unseal),
    /// How the store key is kept: plain in its file, or sealed. Works on the file; a running daemon goes on.
    #[command(subcommand)]
    StoreKey(StoreKey),
    /// The store as a whole.
    #[command(subcommand)]
    Store(Store),
    /// Takes an encrypted backup of the running token.
    Backup(Backup),
    /// Restores a backup into an empty store; the daemon must not run.
    Restore(Restore),
    /// Rehearses a restore: into a scratch directory, with a daemon of its own, up to signatures that verify.
    Drill(Drill),
    /// The audit journal: verify, export, show. Needs no daemon.
    #[command(subcommand)]
    Audit(Audit),
}

/// Which token; needless when there is only one.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Which {
    /// The token's label.
    #[arg(long, value_name = "LABEL", conflicts_with = "slot")]
    pub(crate) token: Option<String>,
    /// The slot it sits in.
    #[arg(long, value_name = "N")]
    pub(crate) slot: Option<u64>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "It changes nothing and needs no PIN. Exit status: 0 well (or notes only), 1 warnings, 2 critical findings."
)]
pub(crate) struct Doctor {
    /// Where the backups are; else /var/lib/craton-backup if it is there.
    #[arg(long, value_name = "DIR")]
    pub(crate) backups: Option<PathBuf>,
}

/// `M:N`, with 2 <= M <= N <= 255.
fn quorum(text: &str) -> Result<(u8, u8), String> {
    let number = |text: &str| text.parse::<u8>().ok();
    let pair = text.split_once(':').and_then(|(m, n)| Some((number(m)?, number(n)?)));
    pair.filter(|(m, n)| (2..=*n).contains(m)).ok_or_else(|| "it is M:N with 2 <= M <= N <= 255".to_owned())
}
