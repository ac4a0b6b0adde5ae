//! What is said to backups: taking, keeping, restoring and rehearsing them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{PIN_HELP, Which, quorum};

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
