//! The arguments of `craton-pki ca`.

use crate::api::command::{CaImport, CaOrder, Command};
use crate::ca::hierarchy::Act;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What to do with authorities.
#[derive(Subcommand)]
pub(crate) enum CaAct {
    /// List them.
    List,
    /// Show one.
    Show {
        /// Its name.
        id: String,
    },
    /// Make one: its key in the token, its certificate signed by its parent.
    Create(Box<CreateArgs>),
    /// Take in one from elsewhere: with its key, which is in the token already, or its certificate only.
    Import {
        /// The name it gets here.
        id: String,
        /// PEM of its certificate, followed by those above it unless they are known here.
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
        /// CKA_ID of its key in the token, in hexadecimal. Without it, only what it issued can be verified.
        #[arg(long, value_name = "HEX")]
        key_id: Option<String>,
    },
    /// Let it issue nothing until it is released. What it issued stays good.
    Hold {
        /// Its name.
        id: String,
    },
    /// Let it issue again.
    Release {
        /// Its name.
        id: String,
    },
    /// Let it issue nothing any more. Its CRLs are still signed.
    Retire {
        /// Its name.
        id: String,
    },
    /// Revoke it: whatever it issued is no longer good, by one mark; its own certificate goes on its parent's CRL.
    Revoke {
        /// Its name.
        id: String,
        /// ca-compromise, key-compromise, superseded, cessation-of-operation ...: as for certificates.
        #[arg(long, default_value = "cessation-of-operation")]
        reason: String,
    },
    /// Give it its next key; a root's two keys certify each other. Interrupted, the same command finishes it.
    Rollover {
        /// Its name.
        id: String,
        /// Kind of the new key; without it, the kind of the old one.
        #[arg(long)]
        key: Option<String>,
        /// How long the new certificate is good; without it, as usual.
        #[arg(long)]
        validity_days: Option<u32>,
    },
}

/// A new authority.
#[derive(Args)]
pub(crate) struct CreateArgs {
    /// The name it gets: in profiles, commands and CRL addresses.
    id: String,
    /// root, intermediate or issuing.
    #[arg(long, default_value = "issuing")]
    kind: String,
    /// Who signs it; not for a root.
    #[arg(long, default_value = "root")]
    parent: String,
    /// Its subject as RFC 4514 text.
    #[arg(long)]
    subject: String,
    /// Kind of its key: ec:P-256, ec:P-384, ec:P-521, rsa:2048, rsa:3072, rsa:4096, ed25519, ml-dsa-44, ml-dsa-65, ml-dsa-87.
    #[arg(long, default_value = "ec:P-256")]
    key: String,
    /// How long it is good; without it: root 20 years, intermediate 10, issuing 5.
    #[arg(long)]
    validity_days: Option<u32>,
    /// How many levels of authorities an intermediate may have below itself, 1 without it.
    #[arg(long)]
    path_length: Option<u8>,
    /// Names it may certify: dns:example.com, ip:10.0.0.0/8, dn:O=Craton, uri:.example.com, email:example.com.
    #[arg(long, value_name = "FORM:NAME")]
    permit: Vec<String>,
    /// Names it must not certify.
    #[arg(long, value_name = "FORM:NAME")]
    exclude: Vec<String>,
}

impl CaAct {
    /// The command of an operator that it stands for.
    ///
    /// # Errors
    /// A sentence, when a file cannot be read.
    pub(crate) fn command(self) -> Result<Command, String> {
        Ok(match self {
            Self::List => Command::CaList {},
            Self::Show { id } => Command::CaShow { id },
            Self::Create(args) => Command::CaCreate(Box::new(args.order())),
            Self::Import { id, certificate, key_id } => {
                let pem = std::fs::read_to_string(&certificate)
                    .map_err(|fault| format!("{}: {fault}", certificate.display()))?;
                Command::CaImport(CaImport { id, pem, key_id })
            }
            Self::Hold { id } => Command::CaMove { id, act: Act::Hold },
            Self::Release { id } => Command::CaMove { id, act: Act::Release },
            Self::Retire { id } => Command::CaMove { id, act: Act::Retire },
            Self::Revoke { id, reason } => Command::CaRevoke { id, reason },
            Self::Rollover { id, key, validity_days } => Command::CaRollover { id, key, validity_days },
        })
    }
}

impl CreateArgs {
    fn order(self) -> CaOrder {
        CaOrder {
            parent: if self.kind == "root" { String::new() } else { self.parent },
            id: self.id,
            kind: self.kind,
            subject: self.subject,
            key: self.key,
            validity_days: self.validity_days,
            path_length: self.path_length,
            permit: self.permit,
            exclude: self.exclude,
        }
    }
}
