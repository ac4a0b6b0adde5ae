//! `craton-hsm-admin`: what operators ask of a token and its files.
//!
//! Commands that need the running daemon speak gRPC over its Unix socket; `restore` and `audit` work on files and need no
//! daemon. No key and no PIN is ever printed or logged. Exit status: see `failure.rs`.

mod cli;
mod command;
mod config;
mod connect;
mod failure;
mod output;
mod prompt;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Parser;

use crate::cli::{Audit, Cli, Command, Key, Pin, Store, Token};
use crate::config::Settings;
use crate::failure::Failure;
use crate::output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    match unbroken(|| run(&cli, &output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            failure.exit_code()
        }
    }
}

/// A defect is one sentence, too. What a damaged store makes the database's library say is not one: who opens the store catches it, and
/// answers.
fn unbroken(run: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let place = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&place);
    std::panic::set_hook(Box::new(move |panic| {
        let found = panic.location().map(ToString::to_string).unwrap_or_default();
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }));
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        let place = place.lock().unwrap_or_else(PoisonError::into_inner);
        Err(Failure::new(format!(
            "a defect of this program: an invariant did not hold at {place}; what was asked may be half done"
        )))
    })
}

fn run(cli: &Cli, output: &Output) -> Result<(), Failure> {
    let settings = || Settings::load(cli.config.as_deref());
    match &cli.command {
        Command::Status => command::health::status(&settings()?, output),
        Command::Doctor(given) => command::doctor::run(&settings()?, given, output),
        Command::Metrics => command::health::metrics(&settings()?),
        Command::Token(Token::Init(given)) => command::token::init(&settings()?, given, output),
        Command::Token(Token::Info(given)) => command::token::info(&settings()?, given, output),
        Command::Token(Token::AutoLogin(given)) => command::token::auto_login(&settings()?, given, output),
        Command::Token(Token::RotateKey(given)) => command::token::rotate_key(&settings()?, given, output),
        Command::Pin(Pin::Change(given)) => command::pin::change(&settings()?, given, output),
        Command::Pin(Pin::Reset(given)) => command::pin::reset(&settings()?, given, output),
        Command::Key(Key::List(given)) => command::key::list(&settings()?, given, output),
        Command::Unseal(given) => command::unseal::run(&settings()?, given, output),
        Command::StoreKey(given) => command::store_key::run(&settings()?, given, output),
        Command::Store(Store::AcceptRollback(given)) => command::store::accept_rollback(&settings()?, given, output),
        Command::Backup(given) => command::backup::run(&settings()?, given, output),
        Command::Restore(given) => command::restore::run(&settings()?, given, output),
        Command::Drill(given) => command::drill::run(&settings()?, given, output),
        Command::Audit(audit) => {
            let journal = || match audit.file() {
                Some(file) => Ok(file.to_owned()),
                None => settings().map(|settings| settings.core.audit.log_path),
            };
            match audit {
                Audit::Verify(given) => command::audit::verify(&journal()?, given, output),
                Audit::Key(_) => command::audit::key(&journal()?, output),
                Audit::Checkpoint(given) => command::audit::checkpoint(&journal()?, given),
                Audit::Anchor(given) => command::audit::anchor(&journal()?, given),
                Audit::Witnessed(given) => command::audit::held(&settings()?, given, output),
                Audit::Prove(given) => command::audit::prove(&journal()?, given),
                Audit::CheckProof(given) => command::audit::check_proof(given, output),
                Audit::ExportCef(given) => command::audit::export(&journal()?, cli::Format::Cef, given.from),
                Audit::Export(given) => command::audit::export(&journal()?, given.format, given.from),
                Audit::ExportJson(given) => command::audit::export(&journal()?, cli::Format::Json, given.from),
                Audit::ExportNdjson(given) => command::audit::export(&journal()?, cli::Format::Ndjson, given.from),
                Audit::ExportSyslog(given) => command::audit::export(&journal()?, cli::Format::Syslog, given.from),
                Audit::Dump(given) => command::audit::dump(&journal()?, given.last, output),
            }
        }
    }
}
