//! The server: everything is checked and made ready before the first listener opens, then the doors are held open until a
//! signal says to stop.

use crate::api::operator::Operator;
use crate::api::rest::Rest;
use crate::api::socket;
use crate::ca::message::MessageSigner;
use crate::ca::reconcile::{self, Differences, Line, Verdict};
use crate::ca::{CaError, Desk, hindsight, serial, sweep};
use crate::config::{Config, Side};
use crate::device::expiry::{self, Notices};
use crate::est::Est;
use crate::est::auth::{Limiter, Porter};
use crate::journal::office::{self, JournalOffice};
use crate::listener::tls::{CertificatePlace, ClientCertificates, ServerTls};
use crate::listener::{self, Handler, Transport};
use crate::secret::SecretSource;
use crate::store::Change;
use crate::va::crl::{CrlOffice, Schedule};
use crate::va::foreign::Foreign;
use crate::va::ocsp::{Responder, Settings};
use crate::va::public::Public;
use crate::x509::sha256;
use crate::{clock, counters, file, founding};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How often what runs out is looked at.
const ROUNDS: Duration = Duration::from_secs(30);
/// How often it is looked whether certificates were revoked by somebody who does not publish (a re-enrolment, a broken issuance), and
/// whether one comes of age. Both looks cost a record when there is nothing.
const LOOKS: Duration = Duration::from_secs(1);

/// The CRL schedule of a configuration.
pub(crate) fn schedule(config: &Config) -> Schedule {
    Schedule {
        validity_seconds: config.crl.validity_seconds,
        overlap_seconds: config.crl.overlap_seconds,
        delta_seconds: config.crl.delta_seconds,
    }
}

/// The labels of a configuration, the empty one among them.
pub(crate) fn labels(config: &Config) -> Vec<String> {
    config.est.labels.keys().cloned().collect()
}

/// The file that holds the bearer token unless the configuration names another source.
pub(crate) fn operator_token_path(state_dir: &Path) -> PathBuf {
    state_dir.join("operator.token")
}

/// Where the bearer token comes from; a random one is written first if the configuration leaves it to us.
///
/// # Errors
/// When there is no randomness or the file cannot be written.
pub(crate) fn ensure_operator_token(config: &Config) -> Result<(), CaError> {
    let path = operator_token_path(&config.state_dir);
    if config.api.token.is_some() || path.exists() {
        return Ok(());
    }
    let token = data_encoding::BASE64URL_NOPAD.encode(&serial::random(32)?);
    Ok(file::write(&path, format!("{token}\n").as_bytes(), 0o600)?)
}

fn operator_token_sha256(config: &Config) -> Result<[u8; 32], String> {
    use secrecy::ExposeSecret;
    let default = SecretSource::File(operator_token_path(&config.state_dir));
    let token = config.api.token.as_ref().unwrap_or(&default).read()?;
    Ok(sha256(token.expose_secret().as_bytes()))
}

/// The OCSP responder with its signers, unless it is switched off.
fn ensure_responder(desk: &Desk, config: &Config, now: i64) -> Result<Option<Arc<Responder>>, String> {
    if config.ocsp.url.is_none() {
        return Ok(None);
    }
    let settings = Settings {
        validity_seconds: config.ocsp.validity_seconds,
        max_remembered: config.ocsp.max_remembered,
        signs_ahead: config.ocsp.sign_ahead,
    };
    let responder = Responder::new(desk.clone(), settings);
    responder.ensure_signers(&config.ocsp.signer, now).map_err(|fault| fault.to_string())?;
    Ok(Some(Arc::new(responder)))
}

/// Who asks others about their certificates. The lists are fetched again by a thread of their own: who does not answer hinders nothing.
fn ask_others(desk: &Desk, config: &Config) -> Result<Arc<Foreign>, String> {
    let foreign =
        Foreign::new(Arc::clone(&desk.store), config.revocation.clone()).map_err(|fault| fault.to_string())?;
    let foreign = Arc::new(foreign);
    let refreshing = Arc::clone(&foreign);
    std::thread::Builder::new()
        .name("foreign-lists".to_owned())
        .spawn(move || {
            loop {
                refreshing.refresh(clock::now());
                std::thread::sleep(ROUNDS);
            }
        })
        .map_err(|fault| format!("the thread that fetches the lists of others does not start: {fault}"))?;
    Ok(foreign)
}

/// Tells the webhook what is due, by a thread of its own.
fn tell_notices(desk: &Desk, config: &Config) -> Result<(), String> {
    let Some(alerts) = &config.alerts else { return Ok(()) };
    let (webhook, store) = (alerts.webhook()?, Arc::clone(&desk.store));
    let tell = move || {
        loop {
            if let Err(fault) = webhook.tell_due(store.as_ref(), clock::now()) {
                tracing::error!(event = "notices_not_read", %fault);
            }
            std::thread::sleep(LOOKS);
        }
    };
    let thread = std::thread::Builder::new().name("notices".to_owned()).spawn(tell);
    thread.map(drop).map_err(|fault| format!("the thread that tells notices does not start: {fault}"))
}

/// Goes on with revocations that broke off, and whose rest an operator's command does not see to; and with what is to be undone after
/// the clock was ahead.
fn go_on_with_sweeps(desk: &Desk) -> Result<(), String> {
    let store = Arc::clone(&desk.store);
    let go_on = move || {
        loop {
            match sweep::go_on(store.as_ref()) {
                Ok(swept) if swept.count > 0 => tracing::info!(event = "sweep_went_on", count = swept.count),
                Ok(_) => {}
                Err(fault) => tracing::error!(event = "sweep_broke_off", %fault),
            }
            match hindsight::go_on(store.as_ref(), clock::now()) {
                Ok(0) => {}
                Ok(count) => tracing::info!(event = "clock_was_ahead", undone = count),
                Err(fault) => tracing::error!(event = "clock_not_undone", %fault),
            }
            std::thread::sleep(LOOKS);
        }
    };
    let thread = std::thread::Builder::new().name("sweeps".to_owned()).spawn(go_on);
    thread.map(drop).map_err(|fault| format!("the thread that revokes does not start: {fault}"))
}

/// A profile must name an authority that there is.
fn refuse_unknown_authorities(desk: &Desk, config: &Config) -> Result<(), String> {
    for profile in config.profiles.values() {
        desk.newest(&profile.authority).map_err(|fault| format!("profiles.{}.authority: {fault}", profile.name))?;
    }
    Ok(())
}

/// A listener that is bound and what it will do.
struct Door {
    name: &'static str,
    listener: TcpListener,
    transport: Transport,
    handler: Handler,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// A sentence, when something is not ready.
pub(crate) fn serve(config: &Arc<Config>, desk: Desk) -> Result<(), String> {
    let say = |fault: CaError| fault.to_string();
    let now = clock::now();
    if config.side == Side::Root {
        return Err("the side of an offline root serves nothing (ca.role = \"root\")".to_owned());
    }
    founding::check_keys(&desk).map_err(say)?;
    // What does not agree is in the log; an operator looks into it while the devices go on.
    let report = reconcile::reconcile(&desk, Differences::Keep, now).map_err(say)?;
    counters::compared(differences(&report.lines));
    refuse_unknown_authorities(&desk, config)?;
    let (key, certificate) = founding::ensure_server(&desk, config, now).map_err(say)?;
    ensure_operator_token(config).map_err(say)?;
    let chain = desk.shown_chain(&certificate).map_err(say)?;
    let place = Arc::new(CertificatePlace::new(Arc::clone(&desk.token), key, chain));
    let office = Arc::new(CrlOffice::new(desk.clone(), schedule(config)));
    office.publish_due(now).map_err(say)?;
    let responder = ensure_responder(&desk, config, now)?;

    let operator = Arc::new(Operator::new(
        Arc::clone(&desk.store),
        Box::new({
            let office = Arc::clone(&office);
            move || Ok(Arc::clone(&office))
        }),
        labels(config),
    ));
    let foreign = ask_others(&desk, config)?;
    let est = Est {
        desk: desk.clone(),
        profiles: config.profiles.clone(),
        labels: config.est.labels.iter().map(|(name, label)| (name.clone(), Arc::new(label.clone()))).collect(),
        porter: Porter { limiter: Limiter::default(), foreign: Some(foreign) },
        signer: MessageSigner::new(config.est.server_key, config.est.server_validity_seconds),
    };
    let devices = ClientCertificates::Optional({
        let desk = desk.clone();
        let config = Arc::clone(config);
        Arc::new(move || {
            let mut anchors = desk.anchors().map_err(|fault| fault.to_string())?;
            for manufacturers in config.est.labels.values().filter_map(|label| label.manufacturers.as_ref()) {
                anchors.extend(manufacturers.anchors(desk.store.as_ref()).map_err(|fault| fault.to_string())?);
            }
            Ok(anchors)
        })
    });
    let est_tls = ServerTls::new(Arc::clone(&place), devices)?;
    let api_tls = ServerTls::new(Arc::clone(&place), ClientCertificates::NotAsked)?;
    let token_sha256 = operator_token_sha256(config)?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|fault| format!("the runtime does not start: {fault}"))?;
    let public = Public {
        store: Arc::clone(&desk.store),
        responder: responder.clone(),
        ocsp_max_age_seconds: config.ocsp.max_age_seconds,
    };
    let public: Handler = Arc::new(move |call| public.answer(call));
    let operators_socket = socket::listen(&socket::path(&config.state_dir))?;
    go_on_with_sweeps(&desk)?;
    tell_notices(&desk, config)?;
    runtime.block_on(async {
        let mut doors = vec![
            Door {
                name: "est",
                listener: listener::bind(config.est.listen).await?,
                transport: Transport::Tls(est_tls),
                handler: Arc::new(move |call| est.answer(call)),
            },
            Door {
                name: "crl",
                listener: listener::bind(config.crl.listen).await?,
                transport: Transport::Plain,
                handler: Arc::clone(&public),
            },
        ];
        if let Some(address) = config.ocsp.listen {
            let listener = listener::bind(address).await?;
            doors.push(Door { name: "ocsp", listener, transport: Transport::Plain, handler: public });
        }
        if let Some(address) = config.api.listen {
            let rest = Rest { operator: Arc::clone(&operator), token_sha256 };
            doors.push(Door {
                name: "api",
                listener: listener::bind(address).await?,
                transport: Transport::Tls(api_tls),
                handler: Arc::new(move |call| rest.answer(call)),
            });
        }
        std::thread::Builder::new()
            .name("operators".to_owned())
            .spawn(move || socket::serve(&operators_socket, &operator))
            .map_err(|fault| format!("the operators' socket does not start: {fault}"))?;
        let config = Arc::clone(config);
        let (published_at, watch) = (AtomicU64::new(u64::MAX), Mutex::new(clock::Watch::start(now)));
        let caretaker = Caretaker { config, desk: desk.clone(), office, place, responder, published_at, watch };
        hold_open(doors, caretaker).await
    })?;
    runtime.shutdown_timeout(Duration::from_secs(5));
    let socket = socket::path(&config.state_dir);
    if let Err(fault) = std::fs::remove_file(&socket) {
        tracing::debug!(%fault, "the operators' socket was gone");
    }
    tracing::info!(event = "stopped");
    Ok(())
}

async fn hold_open(doors: Vec<Door>, caretaker: Caretaker) -> Result<(), String> {
    let refuse = |fault: std::io::Error| format!("signals cannot be caught: {fault}");
    let mut terminate = signal(SignalKind::terminate()).map_err(refuse)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refuse)?;
    let (stop, stopped) = watch::channel(false);
    let mut running = tokio::task::JoinSet::new();
    for door in doors {
        let address = door.listener.local_addr().map_err(|fault| fault.to_string())?;
        tracing::info!(event = "listening", door = door.name, %address);
        running.spawn(listener::serve(door.listener, door.transport, door.handler, stopped.clone()));
    }
    tracing::info!(event = "ready");
    let caretaker = Arc::new(caretaker);
    let mut rounds = tokio::time::interval(ROUNDS);
    let mut looks = tokio::time::interval(LOOKS);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = looks.tick() => {
                let caretaker = Arc::clone(&caretaker);
                if let Err(fault) = tokio::task::spawn_blocking(move || caretaker.look()).await {
                    tracing::error!(event = "round_failed", %fault);
                }
            }
            _ = rounds.tick() => {
                let caretaker = Arc::clone(&caretaker);
                if let Err(fault) = tokio::task::spawn_blocking(move || caretaker.round()).await {
                    tracing::error!(event = "round_failed", %fault);
                }
            }
        }
    }
    tracing::info!(event = "stopping");
    if stop.send(true).is_err() {
        tracing::debug!("every listener had ended");
    }
    while running.join_next().await.is_some() {}
    Ok(())
}

/// Looks after what runs out.
struct Caretaker {
    config: Arc<Config>,
    desk: Desk,
    office: Arc<CrlOffice>,
    place: Arc<CertificatePlace>,
    responder: Option<Arc<Responder>>,
    /// The store's count of changes up to which every revocation is published.
    published_at: AtomicU64,
    watch: Mutex<clock::Watch>,
}

/// The authorities whose signatures do not agree with the token's counts, and by how much.
fn differences(lines: &[Line]) -> BTreeMap<String, u64> {
    let difference = |line: &Line| match line.verdict {
        Verdict::Agrees => None,
        Verdict::Unaccounted(by) | Verdict::TokenBehind(by) => Some((line.authority.clone(), by)),
    };
    lines.iter().filter_map(difference).collect()
}

impl Caretaker {
    /// Whatever was signed that we did not ask for is found within a round.
    fn compare_signatures(&self) {
        match reconcile::look(&self.desk) {
            Ok(lines) if counters::compared(differences(&lines)) => lines.iter().for_each(reconcile::report),
            Ok(_) => {}
            Err(fault) => tracing::error!(event = "signatures_not_compared", %fault),
        }
    }

    fn sign_journal(&self, now: i64) -> Result<(), CaError> {
        let last = office::last_checkpoint(self.desk.store.as_ref())?.map_or(0, |last| last.at);
        if !clock::is_within(self.config.journal.checkpoint_seconds, last, now) {
            JournalOffice::open(self.desk.clone())?.checkpoint(now)?;
        }
        Ok(())
    }

    fn look(&self) {
        self.notice_jump(clock::now());
        self.publish_revocations();
        let notices = if self.config.alerts.is_some() { Notices::Kept } else { Notices::LoggedOnly };
        if let Err(fault) = expiry::pass_due(self.desk.store.as_ref(), clock::now(), notices) {
            tracing::error!(event = "expiry_not_checked", %fault);
        }
    }

    /// What was made by another time is made anew at once.
    fn notice_jump(&self, now: i64) {
        let Some(jump) = self.watch.lock().jump(now) else { return };
        let direction = if jump > 0 { "ahead" } else { "back" };
        tracing::warn!(event = "clock_jump", direction, seconds = jump.unsigned_abs());
        if let Err(fault) = hindsight::went_back(self.desk.store.as_ref(), now.saturating_sub(jump), now) {
            tracing::error!(event = "clock_not_undone", %fault);
        }
        self.round();
    }

    fn publish_revocations(&self) {
        let count = self.desk.store.standing_changes();
        if self.published_at.load(Ordering::Relaxed) != count && self.office.publish_due(clock::now()).is_ok() {
            self.published_at.store(count, Ordering::Relaxed);
        }
    }

    fn round(&self) {
        let now = clock::now();
        // A failure is in the log, and tried again in the next round.
        drop(self.office.publish_due(now));
        let renewed = founding::ensure_server(&self.desk, &self.config, now)
            .and_then(|(key, certificate)| Ok((key, self.desk.shown_chain(&certificate)?)));
        match renewed {
            Ok((key, chain)) => self.place.replace(Arc::clone(&self.desk.token), key, chain),
            Err(fault) => tracing::error!(event = "server_certificate_not_renewed", %fault),
        }
        let counts = counters::untold_refusals();
        if !counts.is_empty()
            && let Err(fault) = self.desk.store.commit(Change::Refused { counts })
        {
            tracing::error!(event = "refusals_not_recorded", %fault);
        }
        self.compare_signatures();
        if let Err(fault) = self.sign_journal(now) {
            tracing::error!(event = "journal_not_signed", %fault);
        }
        if let Some(responder) = &self.responder {
            // A signer that is not ready is in the log, and tried again in the next round.
            drop(responder.ensure_signers(&self.config.ocsp.signer, now));
            match responder.refresh_due(now).and_then(|refreshed| Ok(refreshed + responder.sign_ahead(now)?)) {
                Ok(0) => {}
                Ok(renewed) => tracing::debug!(event = "ocsp_refreshed", renewed, signed = responder.signed()),
                Err(fault) => tracing::error!(event = "ocsp_not_refreshed", %fault),
            }
        }
    }
}
