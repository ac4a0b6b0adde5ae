//! What is said to the store and to what opens it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{PIN_HELP, quorum};

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
