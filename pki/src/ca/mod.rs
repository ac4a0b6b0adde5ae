//! The certificate authorities: what they are, what they issue and how it is taken back.
//!
//! Nothing here hears the network. Times are given as seconds since 1970.

pub(crate) mod authority;
pub(crate) mod ceremony;
pub(crate) mod issue;
pub(crate) mod profile;
pub(crate) mod revoke;
pub(crate) mod serial;

use crate::store::{Store, StoreError};
use crate::token::{Token, TokenError};
use crate::x509::lint::Findings;
use std::sync::Arc;

/// The desk at which certificates are issued: what every act of the authorities needs.
#[derive(Clone)]
pub(crate) struct Desk {
    /// Where the keys are.
    pub(crate) token: Arc<Token>,
    /// What is remembered.
    pub(crate) store: Arc<dyn Store>,
    /// Where relying parties find what is published.
    pub(crate) publication: Publication,
}

/// Where relying parties find what is published: the addresses that are written into certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publication {
    /// Begin of the addresses, without final slash.
    pub(crate) base_url: String,
    /// Address of the OCSP responder; none when there is none.
    pub(crate) ocsp_url: Option<String>,
}

impl Publication {
    /// The address of an authority's CRL.
    pub(crate) fn crl_url(&self, authority: &str) -> String {
        format!("{}/crl/{authority}.crl", self.base_url)
    }

    /// The address of an authority's certificate.
    pub(crate) fn issuer_url(&self, authority: &str) -> String {
        format!("{}/ca/{authority}.cer", self.base_url)
    }
}

/// Why an authority did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CaError {
    /// The token failed.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The store failed or the change does not fit.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Our own certificate breaks our own rules.
    #[error(transparent)]
    Lint(#[from] Findings),
    /// The token's signature is false in the eyes of the second implementation.
    #[error("the token's signature with the key '{0}' does not verify: nothing was issued")]
    FalseSignature(String),
    /// The key in the token is not the one of the certificate.
    #[error("the key '{0}' in the token is not the one in the certificate of the same role: is this the right token?")]
    WrongKey(String),
    /// Something that must be there is not.
    #[error("this PKI is not initialised: run `craton-pki init`")]
    NotInitialised,
    /// The token holds a key of ours that this store does not know.
    #[error(
        "the token already holds a key labelled '{0}' that this state_dir knows nothing of: choose another token.key_label_prefix, or restore the state_dir that made it"
    )]
    ForeignKey(String),
    /// The operating system's randomness failed.
    #[error("no randomness can be had from the operating system")]
    Randomness,
    /// Something did not encode.
    #[error("an ASN.1 value does not encode: {0}")]
    Encoding(String),
    /// The issuer has too little time left.
    #[error("the authority '{0}' expires too soon to issue anything")]
    IssuerExpires(String),
    /// A file could not be written.
    #[error("{0}")]
    File(String),
}

impl From<der::Error> for CaError {
    fn from(fault: der::Error) -> Self {
        Self::Encoding(fault.to_string())
    }
}
