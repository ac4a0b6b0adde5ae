//! What is said to tokens, their PINs and keys.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use super::{PIN_HELP, Which};

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

#[derive(Debug, Args)]
#[command(after_help = PIN_HELP)]
pub(crate) struct TokenInit {
    /// The token's label: 1 to 32 bytes.
    #[arg(long)]
    pub(crate) label: String,
    /// The slot; else the first without an initialised token. DANGER: the objects of a token that is initialised again are gone.
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
#[command(after_help = PIN_HELP, group(ArgGroup::new("state").required(true).args(["enable", "disable"])))]
pub(crate) struct TokenAutoLogin {
    /// DANGER: the token's master key is then wrapped under the store key too: whoever has the store and its key has every private key.
    #[arg(long)]
    pub(crate) enable: bool,
    /// Takes that away, at once for new logins; who is logged in stays so. Needs no PIN.
    #[arg(long, conflicts_with = "pin")]
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
