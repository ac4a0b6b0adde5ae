//! How the program ends when something is wrong: one exit status and one stable code per kind of fault.

use crate::api::command::Fault;
use crate::ca::CaError;
use crate::config::ConfigError;
use crate::file::FileFault;

/// Why the program did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No configuration was named.
    #[error("name the configuration file: --config FILE or CRATON_PKI_CONFIG")]
    NoConfig,
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log filter is wrong.
    #[error("log.filter: {0}")]
    Log(String),
    /// The state folder is not usable.
    #[error("store.state_dir {0}")]
    StateDir(String),
    /// An authority failed.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// A command was refused.
    #[error("{}", .0.message)]
    Operator(Fault),
    /// The server could not start.
    #[error("{0}")]
    Serve(String),
    /// A file named by an argument cannot be read, or the output is closed.
    #[error("{0}")]
    Output(#[from] std::io::Error),
    /// The program panicked; the panic has been reported.
    #[error(
        "the program broke off at the fault that is named above. If that comes again the store may be damaged: restore a backup \
         (`craton-pki restore`)"
    )]
    Panicked,
}

impl From<FileFault> for Error {
    fn from(fault: FileFault) -> Self {
        CaError::from(fault).into()
    }
}

impl Error {
    /// Exit status: 2 for what the caller must correct in arguments or configuration, 1 for the rest.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::NoConfig | Self::Config(_) | Self::Log(_) | Self::StateDir(_) => 2,
            _ => 1,
        }
    }

    /// Stable code for programs.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::NoConfig | Self::Config(_) | Self::Log(_) => "config",
            Self::StateDir(_) => "state_dir",
            Self::Ca(CaError::Token(_)) => "token",
            Self::Ca(CaError::Store(_)) => "store",
            Self::Ca(CaError::NotInitialised) => "not_initialised",
            Self::Ca(CaError::Restored(_)) => "restored",
            Self::Ca(_) => "internal",
            Self::Operator(fault) => &fault.code,
            Self::Serve(_) => "serve",
            Self::Output(_) => "output",
            Self::Panicked => "panicked",
        }
    }
}
