//! The program: from its arguments to its exit status. 0 done, 1 refused or failed, 2 wrong arguments or configuration.

use crate::api::command::{Command, Fault, Paging};
use crate::api::operator::Operator;
use crate::api::{socket, view};
use crate::backup::{self, Restore};
use crate::ca::blocklist::Blocklist;
use crate::ca::reconcile::{self, Differences};
use crate::ca::{CaError, Desk, Parsed, hindsight, issue};
use crate::ceremony::{self, protocol};
use crate::cli::ceremony::CeremonyAct;
use crate::cli::{self, Act, Cli, CrlFormat, JournalAct, ProfileAct, ReconcileArgs};
use crate::clock;
use crate::config::{Config, LogFormat};
use crate::dry_run;
use crate::error::Error;
use crate::file;
use crate::founding::{self, Founding};
use crate::journal::proof::{self, Proof};
use crate::secret::SecretSource;
use crate::serve;
use crate::store::query::MAX_PAGE;
use crate::store::record::ROOT;
use crate::store::redb::RedbStore;
use crate::store::{Store, StoreError};
use crate::token::{Token, TokenConfig};
use crate::va::crl::CrlOffice;
use crate::x509::{der_of_pem, ders_of};
use clap::Parser;
use der::Decode;
use serde_json::{Value, json};
use spki::SubjectPublicKeyInfoOwned;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tracing_subscriber::EnvFilter;

/// Runs the program and gives its exit status.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.json;
    // The back end may panic on a damaged file: of a large one not every page is checked at the start.
    match catch_unwind(AssertUnwindSafe(|| run(cli))).unwrap_or(Err(Error::Panicked)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            cli::complain(fault.code(), &fault.to_string(), json);
            ExitCode::from(fault.exit_status())
        }
    }
}

fn run(cli: Cli) -> Result<(), Error> {
    if let Act::Journal { act: JournalAct::Check { file, key } } = &cli.act {
        // A proof needs no configuration: whoever got it may check it.
        return check_proof(file, key.as_deref(), cli.json);
    }
    let path = cli.config.ok_or(Error::NoConfig)?;
    let config = Arc::new(Config::load(&path)?);
    start_log(&config)?;
    for warning in &config.warnings {
        tracing::warn!(event = "config_warning", warning);
    }
    match cli.act {
        Act::Init => init(&config, cli.json),
        Act::Serve => {
            let desk = open_desk(&config)?;
            serve::serve(&config, desk).map_err(Error::Serve)
        }
        Act::Crl { ca, renew, shard, delta, format, out } => {
            let answer = operate(&config, Command::Crl { authority: ca, renew, shard, delta })?;
            write_crl(&answer, cli.json, format, out.as_deref())
        }
        Act::Ceremony { act } => Ok(cli::show(&perform_ceremony(&config, act)?, cli.json)?),
        Act::Ca { act } => {
            let command = act.command().map_err(|fault| Error::Operator(Fault::new("bad_request", fault)))?;
            Ok(cli::show(&operate(&config, command)?, cli.json)?)
        }
        Act::Backup(args) => {
            let passphrase = args.passphrase.as_deref().map(secret_source).transpose()?;
            let store = || open_store(&config);
            Ok(cli::show(&backup::take(&config, &args.output, passphrase.as_ref(), store)?, cli.json)?)
        }
        Act::Restore(args) => {
            open_state_dir(&config)?;
            let passphrase = args.passphrase.as_deref().map(secret_source).transpose()?;
            let asked = Restore {
                input: &args.input,
                passphrase: passphrase.as_ref(),
                replaces: args.replace,
                accepts_rollback: args.reason.as_deref(),
            };
            Ok(cli::show(&backup::restore(&config, &asked)?, cli.json)?)
        }
        Act::Reconcile(args) => reconcile_all(&config, &args, cli.json),
        Act::Profile { act } => Ok(cli::show(&profile(&config, &act)?, cli.json)?),
        Act::Journal { act: JournalAct::Export { out } } => export_journal(&config, &out, cli.json),
        act => {
            let command = act.command()?.ok_or(Error::NoConfig)?;
            Ok(cli::show(&operate(&config, command)?, cli.json)?)
        }
    }
}

/// Compares the token's counts with the records, shows both, and fails when they differ. A running server compares while it goes on;
/// without one, intents are closed and what agrees is the new beginning.
fn account_for_signatures(config: &Config, accept: bool, json: bool) -> Result<(), Error> {
    let report = match socket::ask(&socket::path(&config.state_dir), &Command::Signatures {})
        .map_err(Error::Operator)?
    {
        Some(_) if accept => {
            let sentence = "stop the server first: its start compares, and --accept begins anew from a count at rest";
            return Err(Error::Operator(Fault::new("store_held", sentence)));
        }
        Some(answer) => Result::from(answer).map_err(Error::Operator)?,
        None => {
            let desk = open_desk(config)?;
            let differences = if accept { Differences::Accept } else { Differences::Keep };
            let report = reconcile::reconcile(&desk, differences, clock::now())?;
            let items: Vec<Value> = report.lines.iter().map(view::account).collect();
            json!({ "items": items, "intents_closed": report.closed, "accepted": accept })
        }
    };
    cli::show(&report, json)?;
    let mut items = report.get("items").and_then(Value::as_array).into_iter().flatten();
    if accept || items.all(|item| item.get("state").and_then(Value::as_str) == Some("agrees")) {
        return Ok(());
    }
    let sentence = "the token's counts and the records differ: see the table, the journal and docs/guard.md";
    Err(Error::Operator(Fault::new("signatures_unaccounted", sentence)))
}

/// Tells a restored store what it lacks; else compares the token's counts with the records.
fn reconcile_all(config: &Config, args: &ReconcileArgs, json: bool) -> Result<(), Error> {
    let crls = ders(&args.crl, "X509 CRL")?;
    let certificates = ders(&args.certificate, "CERTIFICATE")?;
    let has_nothing_to_tell = crls.is_empty() && certificates.is_empty();
    let store = match open_store(config) {
        // The server has it: a store that lacks something is served by none.
        Err(Error::Ca(CaError::Store(StoreError::Held(_)))) if has_nothing_to_tell => {
            return account_for_signatures(config, args.accept, json);
        }
        opened => opened?,
    };
    let is_restored = store.restoration().map_err(CaError::from)?.is_some();
    if !is_restored && has_nothing_to_tell {
        drop(store);
        return account_for_signatures(config, args.accept, json);
    }
    let now = clock::now();
    let answer = backup::reconcile::reconcile(store.as_ref(), &crls, &certificates, args.accept, now)?;
    if is_restored && args.accept {
        // The token counted on after the backup.
        reconcile::reconcile(&desk_over(config, store)?, Differences::Accept, now)?;
    }
    Ok(cli::show(&answer, json)?)
}

/// Where a secret of the command line comes from; never from the command line itself, which others can see.
fn secret_source(written: &str) -> Result<SecretSource, Error> {
    SecretSource::of_argument(written).map_err(|fault| Error::Operator(Fault::new("bad_request", fault)))
}

/// The structures in files, PEM or DER.
fn ders(paths: &[std::path::PathBuf], label: &str) -> Result<Vec<Vec<u8>>, Error> {
    let mut all = Vec::new();
    for path in paths {
        let refuse = |fault: &dyn std::fmt::Display| {
            Error::Operator(Fault::new("bad_request", format!("{}: {fault}", path.display())))
        };
        let found = ders_of(std::fs::read(path).map_err(|fault| refuse(&fault))?, label);
        // DER of any of these is a SEQUENCE.
        if found.iter().any(|der| der.first() != Some(&0x30)) {
            return Err(refuse(&format!("it holds no {label}, neither as PEM nor as DER")));
        }
        all.extend(found);
    }
    Ok(all)
}

/// What the configuration says about profiles.
fn profile(config: &Config, act: &ProfileAct) -> Result<Value, Error> {
    let named = |name: &str| {
        let unknown = || Error::Operator(Fault::new("not_found", format!("there is no profile '{name}'")));
        config.profiles.get(name).ok_or_else(unknown)
    };
    match act {
        ProfileAct::List => Ok(dry_run::list(config)),
        ProfileAct::Presets => Ok(dry_run::presets()),
        ProfileAct::Show { name } => Ok(dry_run::show(named(name)?)),
        ProfileAct::Test { profile, csr } => dry_run::test(config, named(profile)?, csr, clock::now())
            .map_err(|sentence| Error::Operator(Fault::new("refused", sentence))),
    }
}

fn read_text(path: &std::path::Path) -> Result<String, CaError> {
    std::fs::read_to_string(path).map_err(|fault| CaError::File(format!("{}: {fault}", path.display())))
}

/// A file of a ceremony: JSON that a person can look at.
fn file_of(value: &impl serde::Serialize) -> Result<Vec<u8>, CaError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|fault| CaError::Encoding(fault.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// A step of the ceremony of an offline root.
fn perform_ceremony(config: &Config, act: CeremonyAct) -> Result<Value, Error> {
    let now = clock::now();
    let malformed = |path: &std::path::Path, fault: serde_json::Error| {
        CaError::File(format!("{} is not a file of a ceremony: {fault}", path.display()))
    };
    match act {
        CeremonyAct::Request { out, revoke, reason } => {
            let desk = open_desk(config)?;
            let revoke = revoke.as_deref().map(|id| (id, reason.as_str()));
            let request = ceremony::request(&desk, config, revoke)?;
            file::write(&out, &file_of(&request)?, 0o644)?;
            let ids: Vec<_> = request.authorities.iter().map(|wanted| wanted.id.clone()).collect();
            Ok(json!({ "request": out, "authorities": ids, "revocations": request.revocations.len() }))
        }
        CeremonyAct::Sign { request: path, out, witness } => {
            let desk = open_desk(config)?;
            issue::resolve_intents(&desk, now)?;
            let bytes = read_text(&path)?;
            let request = serde_json::from_str(&bytes).map_err(|fault| malformed(&path, fault))?;
            let mut answer = ceremony::sign(&desk, &request, bytes.as_bytes(), now)?;
            let crl = CrlOffice::new(desk.clone(), serve::schedule(config)).publish(ROOT, now)?;
            answer.crl = crate::x509::pem("X509 CRL", &crl.der);
            let protocol = protocol::write(&desk, &request, &answer, &witness, now)?;
            file::write(&out, &file_of(&answer)?, 0o644)?;
            let beside = std::path::PathBuf::from(format!("{}.protocol.txt", out.display()));
            file::write(&beside, protocol.as_bytes(), 0o644)?;
            Ok(json!({ "answer": out, "protocol": beside, "issued": answer.certificates.len() }))
        }
        CeremonyAct::Import { answer: path, root_sha256 } => {
            let desk = open_desk(config)?;
            let answer = serde_json::from_str(&read_text(&path)?).map_err(|fault| malformed(&path, fault))?;
            let imported = ceremony::import(&desk, &answer, root_sha256.as_deref(), now)?;
            Ok(json!({ "imported": imported, "next": "craton-pki init" }))
        }
        CeremonyAct::Protocol { file, root } => {
            let text = protocol::verified(&read_text(&file)?, &read_text(&root)?)?;
            Ok(json!({ "verified": true, "text": text }))
        }
    }
}

fn start_log(config: &Config) -> Result<(), Error> {
    let filter = EnvFilter::try_new(&config.log.filter).map_err(|fault| Error::Log(fault.to_string()))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match config.log.format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Makes the state folder if it is not there, and insists that only its owner may enter.
fn open_state_dir(config: &Config) -> Result<(), Error> {
    let path = &config.state_dir;
    let fault = |fault: std::io::Error| Error::StateDir(format!("{}: {fault}", path.display()));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fault)?;
    let mode = std::fs::metadata(path).map_err(fault)?.permissions().mode();
    if mode & 0o077 != 0 {
        let shown = path.display();
        return Err(Error::StateDir(format!("{shown} may be entered by others: chmod 700 {shown}")));
    }
    Ok(())
}

fn open_store(config: &Config) -> Result<Arc<dyn Store>, Error> {
    open_state_dir(config)?;
    let store = RedbStore::open(&config.state_dir.join("pki.redb")).map_err(CaError::from)?;
    hindsight::look_back(&store, clock::now()).map_err(CaError::from)?;
    Ok(Arc::new(store))
}

fn open_token(config: &Config) -> Result<Arc<Token>, CaError> {
    let section = &config.token;
    let pin = section.pin.read().map_err(|fault| CaError::File(format!("token.pin: {fault}")))?;
    let token = Token::open(TokenConfig {
        module: section.module.clone(),
        label: section.label.clone(),
        pin,
        max_sessions: section.max_sessions,
        reconnect: section.reconnect,
    })?;
    Ok(Arc::new(token))
}

fn open_desk(config: &Config) -> Result<Desk, Error> {
    let store = open_store(config)?;
    Ok(desk_over(config, store)?)
}

/// The only way to the keys. A restored store has none until it was told what it lacks: it would sign by what is no longer true.
fn desk_over(config: &Config, store: Arc<dyn Store>) -> Result<Desk, CaError> {
    if let Some(restoration) = store.restoration()? {
        return Err(CaError::Restored(restoration.taken_at));
    }
    Ok(Desk {
        token: open_token(config)?,
        store,
        publication: config.publication(),
        journal_key: config.journal.key,
        key_label_prefix: config.token.key_label_prefix.clone(),
        guard: config.guard_rules(),
        blocklist: Arc::new(Blocklist::new(config.compromised_keys.clone())),
        parsed: Parsed::default(),
    })
}

fn init(config: &Config, json: bool) -> Result<(), Error> {
    let asked = socket::ask(&socket::path(&config.state_dir), &Command::CaList {}).map_err(Error::Operator)?;
    let (founding, authorities) = match asked {
        // A server that runs has everything that init makes.
        Some(answer) => (Founding::AlreadyThere, Result::from(answer).map_err(Error::Operator)?),
        None => {
            let desk = open_desk(config)?;
            let now = clock::now();
            let founding = founding::found(&desk, config, now)?;
            founding::write_copies(&desk, &config.state_dir)?;
            serve::ensure_operator_token(config)?;
            let office = CrlOffice::new(desk.clone(), serve::schedule(config));
            if founding == Founding::Done {
                office.publish_due(now)?;
            }
            let operator = Operator::new(
                Arc::clone(&desk.store),
                Box::new(|| Err(CaError::NotInitialised)),
                serve::labels(config),
            );
            (founding, operator.perform(Command::CaList {}).map_err(Error::Operator)?)
        }
    };
    let status = match founding {
        Founding::Done => "initialised",
        Founding::AlreadyThere => "already initialised, nothing was changed",
    };
    let answer = json!({
        "status": status,
        "changed": founding == Founding::Done,
        "state_dir": config.state_dir,
        "authorities": authorities.get("items").cloned().unwrap_or_default(),
    });
    Ok(cli::show(&answer, json)?)
}

/// Performs an operator's command: by the running server, or by ourselves when there is none.
fn operate(config: &Arc<Config>, command: Command) -> Result<Value, Error> {
    if let Some(answer) = socket::ask(&socket::path(&config.state_dir), &command).map_err(Error::Operator)? {
        return Result::from(answer).map_err(Error::Operator);
    }
    let store = open_store(config)?;
    let office = {
        let (config, store) = (Arc::clone(config), Arc::clone(&store));
        move || {
            let desk = desk_over(&config, Arc::clone(&store))?;
            Ok(Arc::new(CrlOffice::new(desk, serve::schedule(&config))))
        }
    };
    Operator::new(store, Box::new(office), serve::labels(config)).perform(command).map_err(Error::Operator)
}

/// Writes every record of the journal, one a line, the signed checkpoint of them and its key.
fn export_journal(config: &Arc<Config>, out: &Path, json: bool) -> Result<(), Error> {
    let checkpoint = operate(config, Command::JournalCheckpoint { lazily: false })?;
    let size = checkpoint.get("size").and_then(Value::as_u64).unwrap_or(0);
    let mut text = String::new();
    let (mut written, mut after) = (0, None);
    while written < size {
        let paging = Paging { after: after.take(), limit: Some(MAX_PAGE) };
        let page = operate(config, Command::JournalList { paging })?;
        for line in page.get("items").and_then(Value::as_array).into_iter().flatten() {
            if written < size {
                text.push_str(line.as_str().unwrap_or_default());
                text.push('\n');
                written += 1;
            }
        }
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    file::write(out, text.as_bytes(), 0o644)?;
    for (ending, member) in [("note", "checkpoint"), ("pem", "public_key")] {
        let content = checkpoint.get(member).and_then(Value::as_str).unwrap_or_default();
        file::write(&out.with_extension(ending), content.as_bytes(), 0o644)?;
    }
    Ok(cli::show(&json!({ "records": written, "file": out }), json)?)
}

/// Checks the proofs in a file with the journal's public key: the one that is given, else the one in the file, which is said.
fn check_proof(file: &Path, key: Option<&Path>, json: bool) -> Result<(), Error> {
    let refuse = |detail: &str| Error::Operator(Fault::new("proof_not_sound", format!("{}: {detail}", file.display())));
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .map_err(|fault| Error::Operator(Fault::new("bad_request", format!("{}: {fault}", path.display()))))
    };
    let value: Value = serde_json::from_str(&read(file)?).map_err(|fault| refuse(&fault.to_string()))?;
    let pem = match key {
        Some(path) => read(path)?,
        None => value.get("public_key").and_then(Value::as_str).unwrap_or_default().to_owned(),
    };
    let spki = der_of_pem(&pem, "PUBLIC KEY").and_then(|der| SubjectPublicKeyInfoOwned::from_der(&der).ok());
    let spki = spki.ok_or_else(|| refuse("the public key does not decode"))?;
    let proofs = value.get("proofs").cloned().unwrap_or_default();
    let proofs: Vec<Proof> = serde_json::from_value(proofs).map_err(|fault| refuse(&fault.to_string()))?;
    if proofs.is_empty() {
        return Err(refuse("it holds no proof"));
    }
    let mut shown = Vec::new();
    for proof in &proofs {
        shown.push(proof::check(proof, &spki).map_err(refuse)?);
    }
    let key = if key.is_some() { "given" } else { "from the proof itself: compare it with one you trust" };
    Ok(cli::show(&json!({ "status": "ok", "key": key, "shows": shown }), json)?)
}

fn write_crl(answer: &Value, json: bool, format: CrlFormat, out: Option<&std::path::Path>) -> Result<(), Error> {
    let pem = answer.get("pem").and_then(Value::as_str).unwrap_or_default();
    let bytes = match format {
        CrlFormat::Pem => pem.as_bytes().to_vec(),
        CrlFormat::Der => der_of_pem(pem, "X509 CRL")
            .ok_or_else(|| Error::Operator(Fault::new("internal", "the CRL does not decode")))?,
    };
    match out {
        Some(path) => {
            file::write(path, &bytes, 0o644)?;
            if json { Ok(cli::show(answer, true)?) } else { Ok(()) }
        }
        None if json => Ok(cli::show(answer, true)?),
        None => Ok(cli::show_bytes(&bytes)?),
    }
}
