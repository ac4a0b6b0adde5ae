//! craton-pki-client: the device's side of EST. It makes a key, enrols it, and renews the certificate in time.
//!
//! Everything lies in one folder. `current` is a link to the generation in use, changed in one step, so that key and certificate
//! always belong together; `next` is the generation that is being made. A renewal that broke off goes on with the same key,
//! which the server recognises and answers with the certificate that it may have issued already.
//!
//! | exit status | meaning |
//! | --- | --- |
//! | 0 | done, or nothing to do |
//! | 1 | refused or failed |
//! | 2 | wrong arguments |
//! | 75 | try again later: the server is busy or away |

mod cms;
mod enrolment;
mod http;
mod key;
mod load;
mod request;
mod settings;
mod window;

use crate::file::FileFault;
use clap::{Args, Parser, Subcommand};
use enrolment::{Credentials, Enrolment};
use settings::{RelatedSettings, Settings, TokenSettings};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Why the client did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The arguments do not fit together.
    #[error("{0}")]
    Arguments(String),
    /// A file cannot be read or written.
    #[error("{0}")]
    File(String),
    /// The key cannot be made, read or used.
    #[error("the key: {0}")]
    Key(String),
    /// The server cannot be reached now.
    #[error("{0}")]
    Unreachable(String),
    /// The server asks to come again later.
    #[error("the server asks to come again in {seconds} seconds: {sentence}")]
    Later {
        /// How long to wait.
        seconds: u64,
        /// What it said.
        sentence: String,
    },
    /// The server refused.
    #[error("the server refused with status {status} ({reason}): {sentence}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Stable reason code, if it gave one.
        reason: String,
        /// What it said.
        sentence: String,
    },
    /// The first identity is there, the second is not yet.
    #[error("the first identity is enrolled, the second is not: {0}; `renew` tries again")]
    Half(Box<ClientError>),
    /// What the server sent is not what EST promises.
    #[error("the server's answer: {0}")]
    Answer(String),
}

impl From<FileFault> for ClientError {
    fn from(fault: FileFault) -> Self {
        Self::File(fault.to_string())
    }
}

impl From<der::Error> for ClientError {
    fn from(fault: der::Error) -> Self {
        Self::Key(format!("the request does not encode: {fault}"))
    }
}

impl ClientError {
    fn exit_status(&self) -> u8 {
        match self {
            Self::Arguments(_) => 2,
            Self::Unreachable(_) | Self::Later { .. } => 75,
            Self::Half(fault) => fault.exit_status(),
            _ => 1,
        }
    }
}

/// The certificates in the bytes of an HTTP answer: all that a server can say to this program.
pub(crate) fn certificates_in(answer: &[u8]) -> Result<Vec<Vec<u8>>, ClientError> {
    let answer = http::parse(answer).ok_or_else(|| ClientError::Answer("it is not a whole HTTP answer".to_owned()))?;
    cms::certificates(&enrolment::decoded(&enrolment::succeeded(answer)?)?)
}

/// Enrols a device over EST and renews its certificate.
#[derive(Parser)]
#[command(name = "craton-pki-client", version, about, propagate_version = true)]
struct Cli {
    /// The folder of key, certificate and settings.
    #[arg(long, env = "CRATON_PKI_CLIENT_DIR", global = true, default_value = "/var/lib/craton-pki-client")]
    dir: PathBuf,
    /// What to do.
    #[command(subcommand)]
    act: Act,
}

#[derive(Subcommand)]
enum Act {
    /// Make a key and get its first certificate.
    Enrol(Box<EnrolArgs>),
    /// Renew the certificate if its time has come. Made for a timer: it does nothing until then.
    Renew {
        /// Renew now.
        #[arg(long)]
        force: bool,
        /// Keep the key instead of making a new one.
        #[arg(long)]
        keep_key: bool,
        /// Run this command by the shell after a renewal, for example to restart a service.
        #[arg(long, value_name = "COMMAND")]
        after: Option<String>,
    },
    /// Show the certificate and when it will be renewed.
    Status,
    /// Measure how many renewals a second a server gives.
    #[command(hide = true)]
    Load(load::LoadArgs),
}

/// A first enrolment.
#[derive(Args)]
struct EnrolArgs {
    /// The EST service: https://host[:port]/.well-known/est, with the label behind it if there is one.
    #[arg(long)]
    url: String,
    /// PEM of the certificates that the server is verified with.
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// The subject to ask for.
    #[arg(long)]
    subject: String,
    /// DNS names to ask for.
    #[arg(long)]
    dns: Vec<String>,
    /// Kind of key: ec:P-256, ec:P-384, ed25519, ml-dsa-44, ml-dsa-65 or ml-dsa-87; in a token also the others of the server.
    #[arg(long, default_value = "ec:P-256")]
    key: String,
    /// User name of the bootstrap credential.
    #[arg(long)]
    user: Option<String>,
    /// Its password: env:NAME or file:PATH.
    #[arg(long, requires = "user")]
    password: Option<String>,
    /// Certificate to authenticate with instead (PEM, with its chain).
    #[arg(long, value_name = "FILE", requires = "with_key", conflicts_with = "user")]
    with_certificate: Option<PathBuf>,
    /// Its key (PKCS#8 PEM).
    #[arg(long, value_name = "FILE")]
    with_key: Option<PathBuf>,
    /// Keep the keys in a token behind this PKCS#11 module instead of in files.
    #[arg(long, value_name = "FILE", requires = "token")]
    module: Option<PathBuf>,
    /// Label of the token.
    #[arg(long)]
    token: Option<String>,
    /// Its user PIN: env:NAME or file:PATH. The renewal reads it from the same place.
    #[arg(long, requires = "module")]
    pin: Option<String>,
    /// Give the device a second identity as well: the EST service with the label that gives second certificates (`related_to`).
    #[arg(long, value_name = "URL")]
    related_url: Option<String>,
    /// Kind of key of the second identity.
    #[arg(long, value_name = "KIND", default_value = "ml-dsa-65", requires = "related_url")]
    related_key: String,
    /// Renew between these percentages of the life of the certificate; the moment within is drawn from the certificate.
    #[arg(long, default_value = "66-80")]
    window: String,
}

impl EnrolArgs {
    fn settings(&self) -> Result<Settings, ClientError> {
        let token = match (&self.module, &self.token, &self.pin) {
            (Some(module), Some(label), Some(pin)) => {
                Some(TokenSettings { module: module.clone(), label: label.clone(), pin: pin.clone() })
            }
            (None, ..) => None,
            _ => return Err(ClientError::Arguments("--module needs --token and --pin".to_owned())),
        };
        let settings = Settings {
            url: self.url.clone(),
            subject: self.subject.clone(),
            dns: self.dns.clone(),
            key: self.key.clone(),
            window: self.window.clone(),
            token,
            related: self.related_url.clone().map(|url| RelatedSettings { url, key: self.related_key.clone() }),
        };
        settings.judge()?;
        Ok(settings)
    }

    fn credentials(&self) -> Result<Credentials, ClientError> {
        if let (Some(certificate), Some(key)) = (&self.with_certificate, &self.with_key) {
            return Ok(Credentials::Certificate { certificate: certificate.clone(), key: key.clone() });
        }
        match (&self.user, &self.password) {
            (Some(user), Some(password)) => Ok(Credentials::Basic { user: user.clone(), password: password.clone() }),
            _ => Err(ClientError::Arguments(
                "name a bootstrap credential (--user, --password) or a certificate (--with-certificate, --with-key)"
                    .to_owned(),
            )),
        }
    }
}

/// Runs the client and gives its exit status.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = run(cli);
    let (text, status) = match &outcome {
        Ok(text) => (text.clone(), ExitCode::SUCCESS),
        Err(fault) => (format!("craton-pki-client: {fault}"), ExitCode::from(fault.exit_status())),
    };
    // With both outputs closed the exit status still tells.
    drop(if outcome.is_ok() { writeln!(std::io::stdout(), "{text}") } else { writeln!(std::io::stderr(), "{text}") });
    status
}

fn run(cli: Cli) -> Result<String, ClientError> {
    match cli.act {
        Act::Enrol(args) => {
            let settings = args.settings()?;
            let credentials = args.credentials()?;
            let enrolment = Enrolment::found(&cli.dir, settings, &args.ca)?;
            let first = enrolment.enrol(&credentials)?;
            let second = enrolment.relate(false, false).map_err(|fault| ClientError::Half(Box::new(fault)))?;
            Ok(both([Some(first), second]).unwrap_or_default())
        }
        Act::Renew { force, keep_key, after } => {
            let enrolment = Enrolment::open(&cli.dir)?;
            let first = enrolment.renew(force, keep_key)?;
            let second = enrolment.relate(force, keep_key);
            // What is there is there, whatever became of the other.
            if let (true, Some(command)) = (first.is_some() || matches!(second, Ok(Some(_))), after) {
                run_after(&command)?;
            }
            let renewed = both([first, second?]);
            Ok(renewed.unwrap_or_else(|| "not yet: the time of the renewal has not come".to_owned()))
        }
        Act::Load(args) => load::run(&args),
        Act::Status => Enrolment::open(&cli.dir)?.whole_status(),
    }
}

/// What was done for the one identity and for the other.
fn both(done: [Option<String>; 2]) -> Option<String> {
    let done: Vec<String> = done.into_iter().flatten().collect();
    (!done.is_empty()).then(|| done.join("\n\n"))
}

fn run_after(command: &str) -> Result<(), ClientError> {
    let status = std::process::Command::new("/bin/sh").arg("-c").arg(command).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(ClientError::File(format!("renewed, but '{command}' ended with {status}"))),
        Err(fault) => Err(ClientError::File(format!("renewed, but '{command}' did not start: {fault}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
