//! The command line, as written. What a command does is in `command/`, under the command's name.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

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

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Initialises a token: label, SO PIN and, if given, the user PIN.
    Init(TokenInit),
    /// Shows the tokens.
    Info(TokenInfo),
    /// Lets clients that have the role "auto-login" log in as the user without a PIN, or ends that.
    AutoLogin(TokenAutoLogin),
    /// Gives the token a new master key and seals its objects again, while it is used.
    RotateKey(TokenRotateKey),
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
#[command(after_help = PIN_HELP)]
pub(crate) struct TokenInit {
    /// The token's label: 1 to 32 bytes.
    #[arg(long)]
    pub(crate) label: String,
    /// The slot; else the first without an initialised token.
    #[arg(long, value_name = "N")]
    pub(crate) slot: Option<u64>,
    /// The SO PIN: the new one, or that of the token which is initialised again.
    #[arg(long, value_name = "PIN")]
    pub(crate) so_pin: Option<String>,
    /// The user PIN.
    #[arg(long, value_name = "PIN")]
    pub(crate) user_pin: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = PIN_HELP)]
pub(crate) struct TokenRotateKey {
    /// The SO PIN.
    #[arg(long, value_name = "SO_PIN")]
    pub(crate) pin: Option<String>,
    /// The user PIN; without it the old key goes at the user's next login.
    #[arg(long, value_name = "PIN")]
    pub(crate) user_pin: Option<String>,
    #[command(flatten)]
    pub(crate) which: Which,
}

#[derive(Debug, Args)]
#[command(after_help = PIN_HELP)]
pub(crate) struct TokenAutoLogin {
    /// DANGER: the token's master key is then wrapped under the store key too: whoever has the store and its key has every private key.
    #[arg(long, required_unless_present = "disable")]
    pub(crate) enable: bool,
    /// Takes that away, at once for new logins; who is logged in stays so. Needs no PIN.
    #[arg(long, conflicts_with_all = ["enable", "pin"])]
    pub(crate) disable: bool,
    /// The user PIN, to enable it.
    #[arg(long, value_name = "PIN")]
    pub(crate) pin: Option<String>,
    #[command(flatten)]
    pub(crate) which: Which,
}

#[derive(Debug, Args)]
pub(crate) struct TokenInfo {
    #[command(flatten)]
    pub(crate) which: Which,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Pin {
    /// Changes a PIN, given the old one.
    Change(PinChange),
    /// The SO sets a new user PIN; no object is lost.
    Reset(PinReset),
}

/// Whose PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum UserType {
    /// The normal user.
    #[value(name = "USER", alias = "user")]
    User,
    /// The security officer.
    #[value(name = "SO", alias = "so")]
    So,
}

#[derive(Debug, Args)]
#[command(after_help = PIN_HELP)]
pub(crate) struct PinChange {
    /// Whose PIN.
    #[arg(long, value_enum, default_value = "USER")]
    pub(crate) user_type: UserType,
    /// The old PIN.
    #[arg(long, value_name = "PIN")]
    pub(crate) pin: Option<String>,
    /// The new PIN.
    #[arg(long, value_name = "PIN")]
    pub(crate) new_pin: Option<String>,
    #[command(flatten)]
    pub(crate) which: Which,
}

#[derive(Debug, Args)]
#[command(after_help = PIN_HELP)]
pub(crate) struct PinReset {
    /// The SO PIN.
    #[arg(long, value_name = "PIN")]
    pub(crate) so_pin: Option<String>,
    /// The new user PIN.
    #[arg(long, value_name = "PIN")]
    pub(crate) new_pin: Option<String>,
    #[command(flatten)]
    pub(crate) which: Which,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Lists keys: the public ones, and with the user PIN the private ones too.
    List(KeyList),
}

#[derive(Debug, Args)]
#[command(after_help = PIN_HELP)]
pub(crate) struct KeyList {
    /// The user PIN; without it only public objects are shown.
    #[arg(long, value_name = "PIN")]
    pub(crate) pin: Option<String>,
    #[command(flatten)]
    pub(crate) which: Which,
}

#[derive(Debug, Args)]
#[command(after_help = PIN_HELP)]
pub(crate) struct Unseal {
    /// The passphrase, given like a PIN.
    #[arg(long, value_name = "PASSPHRASE", conflicts_with_all = ["share", "module"])]
    pub(crate) passphrase: Option<String>,
    /// A share, given like a PIN; can be repeated. The shares of others may come later.
    #[arg(long, value_name = "SHARE", conflicts_with = "module")]
    pub(crate) share: Vec<String>,
    /// The PKCS#11 module whose key opens the store key.
    #[arg(long, value_name = "FILE", requires = "module_pin")]
    pub(crate) module: Option<PathBuf>,
    /// The user PIN of that module's token.
    #[arg(long, value_name = "PIN", requires = "module")]
    pub(crate) module_pin: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreKey {
    /// Shows whether the key is sealed, and what opens it.
    Show,
    /// Seals it: the next start waits for one of those who are named here.
    #[command(after_help = PIN_HELP)]
    Seal(StoreKeySeal),
    /// Makes it plain again: a start needs nothing but the file.
    #[command(after_help = PIN_HELP)]
    Open(Unseal),
}

#[derive(Debug, Args)]
pub(crate) struct StoreKeySeal {
    /// A passphrase opens it, given like a PIN.
    #[arg(long, value_name = "PASSPHRASE")]
    pub(crate) passphrase: Option<String>,
    /// Any M of N shares open it.
    #[arg(long, value_name = "M:N", value_parser = quorum, requires = "shares_directory")]
    pub(crate) shares: Option<(u8, u8)>,
    /// Where the shares are written, as store-key.share-1 and so on.
    #[arg(long, value_name = "DIR", requires = "shares")]
    pub(crate) shares_directory: Option<PathBuf>,
    /// A PKCS#11 module with an AES key that opens it.
    #[arg(long, value_name = "FILE", requires = "module_token", requires = "module_key", requires = "module_pin")]
    pub(crate) module: Option<PathBuf>,
    /// The label of the token in that module.
    #[arg(long, value_name = "LABEL", requires = "module")]
    pub(crate) module_token: Option<String>,
    /// The label of the AES key.
    #[arg(long, value_name = "LABEL", requires = "module")]
    pub(crate) module_key: Option<String>,
    /// The token's user PIN.
    #[arg(long, value_name = "PIN", requires = "module")]
    pub(crate) module_pin: Option<String>,
    /// The passphrase that opens the key now, if it is sealed already.
    #[arg(long, value_name = "PASSPHRASE")]
    pub(crate) old_passphrase: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = PIN_HELP, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Backup {
    /// Archives that exist already.
    #[command(subcommand)]
    pub(crate) archives: Option<Archives>,
    /// The SO PIN; the archive opens with it.
    #[arg(long, value_name = "SO_PIN")]
    pub(crate) pin: Option<String>,
    /// The archive to make; an existing file is never replaced.
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) output: Option<PathBuf>,
    /// Also opens with the secret half of this public key, as `backup keygen` made it. Can be repeated.
    #[arg(long, value_name = "FILE")]
    pub(crate) recipient: Vec<PathBuf>,
    /// Also opens with a passphrase, given like a PIN.
    #[arg(long, value_name = "PASSPHRASE")]
    pub(crate) passphrase: Option<String>,
    /// Also opens with any M of N shares, which are written beside the archive as FILE.share-1 and so on.
    #[arg(long, value_name = "M:N", value_parser = quorum)]
    pub(crate) shares: Option<(u8, u8)>,
    /// Also writes FILE.files, with configuration, TLS material and journal, which opens as the archive does, and FILE.manifest.json.
    #[arg(long)]
    pub(crate) bundle: bool,
    /// Puts the store of the craton-pki with this configuration into the bundle, whether it runs or not, and the configuration.
    #[arg(long, value_name = "CONFIG", requires = "bundle")]
    pub(crate) pki: Option<PathBuf>,
    /// Puts another file or directory into the bundle. Can be repeated.
    #[arg(long, value_name = "PATH", requires = "bundle")]
    pub(crate) with: Vec<PathBuf>,
    /// Where the shares are written instead.
    #[arg(long, value_name = "DIR", requires = "shares")]
    pub(crate) shares_directory: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) which: Which,
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

/// The beginning of a time in RFC 3339, in UTC.
fn moment(text: &str) -> Result<String, String> {
    let fits = |(at, byte): (usize, u8)| match (at, byte) {
        (4 | 7, byte) => byte == b'-',
        (10, byte) => byte == b'T',
        (13 | 16, byte) => byte == b':',
        (_, byte) => byte.is_ascii_digit(),
    };
    let bare = text.trim_end_matches('Z');
    let known = (4..=19).contains(&bare.len()) && bare.bytes().enumerate().all(fits);
    if known {
        Ok(bare.to_owned())
    } else {
        Err("it is a UTC time such as 2026-11-22T14:30, or its beginning".to_owned())
    }
}

/// What opens an archive: the SO PIN, unless something else is given.
#[derive(Debug, Default, Args)]
#[group(multiple = false)]
pub(crate) struct Opening {
    /// The SO PIN that the token had when the backup was taken.
    #[arg(long, value_name = "SO_PIN")]
    pub(crate) pin: Option<String>,
    /// A passphrase that was named when the backup was taken, given like a PIN.
    #[arg(long, value_name = "PASSPHRASE")]
    pub(crate) passphrase: Option<String>,
    /// The file with the secret half of a key that was named when the backup was taken.
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_key: Option<PathBuf>,
    /// A share, given like a PIN. To be repeated until there are enough.
    #[arg(long, value_name = "SHARE")]
    pub(crate) share: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Archives {
    /// Makes a pair of keys for backups: FILE.pub lets anybody make them, FILE opens them and belongs into a safe.
    Keygen {
        /// The file of the secret key.
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Lists the archives in a directory. Needs no PIN.
    List {
        /// The directory.
        directory: PathBuf,
        /// Only the newest that was taken by then: a UTC time such as 2026-11-22T14:30, or the beginning of one.
        #[arg(long, value_name = "TIME", value_parser = moment)]
        at: Option<String>,
    },
    /// Shows what an archive says of itself, after its check sum was found right, and that of the files beside it. Needs no PIN.
    Inspect {
        /// The archive.
        file: PathBuf,
    },
    /// Verifies all of an archive, and of the files beside it (--bundle), with what opens them.
    #[command(after_help = PIN_HELP)]
    Verify {
        /// The archive.
        file: PathBuf,
        #[command(flatten)]
        opening: Opening,
    },
    /// Writes the files of a bundle (FILE.files) into an empty directory.
    #[command(after_help = PIN_HELP)]
    Extract {
        /// The archive of files.
        file: PathBuf,
        /// Where to.
        #[arg(long, value_name = "DIR")]
        directory: PathBuf,
        #[command(flatten)]
        opening: Opening,
    },
    /// Removes archives that are no longer needed: per store the newest are kept, and the first of the current quarter.
    Prune {
        /// The directory.
        directory: PathBuf,
        /// How many of the newest are kept.
        #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
        keep: u32,
        /// Archives that are younger than so many days are kept too.
        #[arg(long, value_name = "N", default_value_t = 0)]
        days: u64,
        /// Of each of the last so many days (UTC) the newest is kept too.
        #[arg(long, value_name = "DAYS", default_value_t = 0)]
        daily: u64,
        /// Only says what would go.
        #[arg(long)]
        dry_run: bool,
    },
    /// For monitors: exit status 0 while the newest archive of every store is young enough, 1 up to twice that age, else 2.
    Status {
        /// The directory.
        directory: PathBuf,
        /// Age in hours.
        #[arg(long, value_name = "HOURS", default_value_t = 26)]
        max_age: u64,
        /// Only of the store whose name begins so, as `backup list` shows it.
        #[arg(long, value_name = "STORE")]
        store: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Store {
    /// Takes a store that is older than its journal for the store from now on; the daemon must not run. DANGER: what changed since is gone.
    #[command(after_help = PIN_HELP)]
    AcceptRollback(AcceptRollback),
}

#[derive(Debug, Args)]
pub(crate) struct AcceptRollback {
    /// The SO PIN that the store has.
    #[arg(long, value_name = "SO_PIN")]
    pub(crate) pin: Option<String>,
    /// The slot of the token whose SO PIN it is; needless when there is only one.
    #[arg(long, value_name = "N")]
    pub(crate) slot: Option<u64>,
    /// Why that is right; the journal notes it.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
#[command(after_help = PIN_HELP)]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) opening: Opening,
    /// The archive.
    #[arg(long, value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// Verifies the archive and shows what is in it; restores nothing.
    #[arg(long)]
    pub(crate) verify_only: bool,
    /// Replaces a store that is there. It is kept beside the new one, as STORE.pre-restore-GENERATION.
    #[arg(long)]
    pub(crate) force: bool,
    /// Also replaces a store that is newer than the backup. DANGER: what changed since is gone from the token.
    #[arg(long, requires = "force", requires = "reason")]
    pub(crate) accept_rollback: bool,
    /// Why that is right; the journal notes it.
    #[arg(long, value_name = "TEXT", requires = "accept_rollback")]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Nothing of the running token is changed. The drill sets a random user PIN in its scratch copy (or uses --user-pin), signs with the \
keys there, has the signatures verified by the running daemon if there is one, and wipes the scratch directory.\n\nExit status: 0 the \
backup restores, 1 it does not (the report says at which step)."
)]
pub(crate) struct Drill {
    #[command(flatten)]
    pub(crate) opening: Opening,
    /// The SO PIN that the token had when the backup was taken, where something else opens the archive. With it the copy gets a random
    /// user PIN.
    #[arg(long, value_name = "SO_PIN", conflicts_with = "pin")]
    pub(crate) so_pin: Option<String>,
    /// The archive; fetch it from where it would be fetched after a fire.
    #[arg(long, value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// Writes the report here as JSON, and beside it as a page for people (`.md`). Existing files are replaced.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Signs the report with this key of the running token, by label; the signature goes beside it (`.sig`).
    #[arg(long, value_name = "LABEL", requires = "report", requires = "user_pin")]
    pub(crate) sign_with: Option<String>,
    /// The user PIN: of the running token for --sign-with; and where no SO PIN is given, or the SO does not hold the master key, the one that the copy's keys are used by.
    #[arg(long, value_name = "PIN")]
    pub(crate) user_pin: Option<String>,
    /// Where the scratch directory is made; else the system's directory for temporary files.
    #[arg(long, value_name = "DIR")]
    pub(crate) scratch: Option<PathBuf>,
    /// The daemon's program; else the one beside this tool.
    #[arg(long, value_name = "FILE")]
    pub(crate) daemon: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) which: Which,
}

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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_readme_names_every_command() {
        fn paths(command: &clap::Command, before: &str, found: &mut Vec<String>) {
            let below: Vec<_> = command.get_subcommands().filter(|below| below.get_name() != "help").collect();
            if below.is_empty() || command.get_name() == "backup" {
                found.push(before.trim().to_owned());
            }
            for below in below {
                paths(below, &format!("{before} {}", below.get_name()), found);
            }
        }
        // One cell may name several that differ in the last word, parted by an escaped bar.
        let readme = include_str!("../README.md").replace("\\|", "|");
        let cells: Vec<&str> = readme.split('`').skip(1).step_by(2).collect();
        let mut all = Vec::new();
        paths(&Cli::command(), "", &mut all);
        assert!(all.len() > 30, "{all:?}");
        for path in all {
            let (before, last) = path.rsplit_once(' ').unwrap_or(("", &path));
            let names = |cell: &&str| {
                let rest = cell.strip_prefix(before).map(str::trim_start).unwrap_or_default();
                rest.split(' ').next().is_some_and(|word| word.split('|').any(|name| name == last))
            };
            let is_export = path.starts_with("audit export-") && cells.contains(&last);
            assert!(is_export || cells.iter().any(names), "README.md does not name {path}");
        }
    }

    #[test]
    fn documented_lines_parse() {
        let lines = [
            "token init --label L",
            "token init --label L --slot 1 --so-pin - --user-pin env:X",
            "token info --json",
            "token rotate-key --pin - --user-pin env:P --slot 0",
            "token auto-login --enable --pin env:P --token L",
            "token auto-login --disable",
            "--config c.toml status",
            "doctor --backups D",
            "metrics",
            "pin change --user-type USER",
            "pin change --user-type SO --pin - --new-pin -",
            "pin reset",
            "key list",
            "backup --pin 12345678 --output F",
            "backup --pin - --output F --recipient K --recipient L --passphrase env:P --shares 2:3 --shares-directory D",
            "backup keygen --output K",
            "backup --pin - --output F --bundle --with P --with Q",
            "backup extract F --directory D --pin -",
            "backup verify F --passphrase -",
            "restore --secret-key K --input F",
            "restore --share file:A --share - --input F",
            "unseal",
            "unseal --share file:A --share file:B",
            "unseal --passphrase -",
            "unseal --module M --module-pin -",
            "store-key show",
            "store-key seal --passphrase - --shares 2:3 --shares-directory D",
            "store-key seal --module M --module-token T --module-key K --module-pin - --old-passphrase env:P",
            "store-key open --passphrase -",
            "backup list D",
            "backup inspect F",
            "backup verify F --pin -",
            "backup prune D --keep 3 --days 30 --dry-run",
            "backup prune D --keep 48 --daily 90",
            "backup status D --max-age 2",
            "backup status D --store 00ff",
            "restore --pin 12345678 --input F",
            "restore --pin - --input F --force",
            "restore --pin - --input F --force --accept-rollback --reason fire",
            "store accept-rollback --pin - --reason fire",
            "drill --pin - --input F",
            "drill --secret-key K --so-pin - --input F",
            "drill --share file:A --share file:B --user-pin env:P --input F",
            "drill --passphrase env:P --user-pin - --input F",
            "backup list D --at 2026-11-22T14:30",
            "drill --pin - --input F --report R --sign-with L --user-pin env:P --scratch D --daemon E --token T",
            "audit verify --file F",
            "audit verify-chain",
            "audit verify --key abab --key cdcd --later-start",
            "audit verify --witness W --witness /var/log/syslog",
            "audit witnessed --origin craton-hsm/ab",
            "audit key",
            "audit checkpoint --file F",
            "audit anchor --file F --check A",
            "audit prove --seq 7 --key abab",
            "audit check-proof --proof F --key abab",
            "audit export-cef",
            "audit export --format syslog",
            "audit export-json",
            "audit export-ndjson --from 7",
            "audit export-syslog",
            "audit dump --last 5",
        ];
        for line in lines {
            let parsed = Cli::try_parse_from(["craton-hsm-admin"].into_iter().chain(line.split(' ')));
            assert!(parsed.is_ok(), "{line}: {}", parsed.map(|_| ()).unwrap_err());
        }
    }
}
