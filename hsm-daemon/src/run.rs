//! The order of start and end.
//!
//! Start: configuration, hardening, logs, power-on self-test, files confined, store, system calls confined, listeners. End: no new connection, what runs is
//! finished, the journal is flushed.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use hsm_core::{Hsm, SystemClock};

use crate::clients::Clients;
use crate::config::{self, Settings};
use crate::dispatch::Desk;
use crate::hardening;
use crate::lifecycle::{Signals, Wish};
use crate::log;
use crate::metrics::MetricsDoor;
use crate::server::{Doors, House};
use crate::service::SelfTest;
use crate::supervisor::Supervisor;
use crate::telemetry::Traces;
use crate::tls::Tls;
use crate::toml_file::Refused;
use crate::watch::Watch;
use crate::witness::Teller;

/// How long operations that run may take to finish when the daemon is told to stop.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a daemon that must lock its secrets does not start.
const NOT_LOCKED: &str = "secrets cannot be locked in memory, and hardening.require_locked_memory is set: allow the process more of it \
                          (LimitMEMLOCK, ulimit -l)";

/// How soon after the unsealing the health service tells of it.
const SEAL_CHECK: Duration = Duration::from_millis(200);

/// How often memory of clients that have gone is given back.
const GIVE_BACK: Duration = Duration::from_secs(5);

/// The Craton HSM daemon: keeps keys and uses them for its clients.
#[derive(Parser)]
#[command(name = "craton-hsm-daemon", version)]
struct Arguments {
    /// The configuration file [default: $CRATON_HSM_CONFIG, ./craton_hsm.toml, /etc/craton-hsm/craton_hsm.toml]
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Judge the configuration and exit
    #[arg(long)]
    check_config: bool,
}

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Configuration(String),
    #[error("{0}")]
    Start(String),
    /// Store or journal are not what was written: a restart would find the same.
    #[error("{0}")]
    Tampered(String),
}

impl Failure {
    fn start(why: impl core::fmt::Display) -> Self {
        Failure::Start(why.to_string())
    }

    /// 78 is EX_CONFIG of sysexits.h: restarting does not help.
    fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Configuration(_) | Failure::Tampered(_) => ExitCode::from(78),
            Failure::Start(_) => ExitCode::FAILURE,
        }
    }
}

impl From<Refused> for Failure {
    fn from(Refused(why): Refused) -> Self {
        Failure::Configuration(why)
    }
}

/// The whole program: reads its arguments, and runs until it is told to stop.
pub fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // With standard error closed there is nobody left to tell.
            writeln!(std::io::stderr(), "craton-hsm-daemon: {failure}").unwrap_or_default();
            failure.exit_code()
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    hsm_core::sys::keep_little_memory();
    hsm_core::sys::harden_process().map_err(|e| Failure::Start(format!("the process cannot be hardened: {e}")))?;
    let settings = config::load(arguments.config.as_deref())?;
    let files = settings.daemon.tcp.as_ref().and_then(|tcp| tcp.tls.clone());
    let tls = files.map(Tls::open).transpose().map_err(|why| Failure::Configuration(why.to_string()))?;
    let clients = Clients::open(settings.daemon.clients.clone())?;
    if arguments.check_config {
        let from = settings.source.as_ref().map_or("the defaults".into(), |path| path.display().to_string());
        return writeln!(std::io::stdout(), "the configuration is valid: {from}").map_err(Failure::start);
    }
    hardening::refuse_root(settings.daemon.allow_root)?;
    log::start().map_err(Failure::Configuration)?;
    if tls.as_ref().is_some_and(|tls| tls.asks_for_certificates()) && !clients.name_certificates() {
        tracing::warn!("nobody is served over TCP: daemon.clients names no certificate");
    }
    serve(settings, tls, clients)
}

fn serve(settings: Settings, tls: Option<Arc<Tls>>, clients: Arc<Clients>) -> Result<(), Failure> {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = ?settings.source, "starting");
    let tests = Hsm::self_test().map_err(|why| Failure::Start(format!("the power-on self-test failed: {why}")))?;
    tracing::info!(tests = tests.len(), "power-on self-test passed");
    match hsm_core::sys::protect_secrets() {
        hsm_core::sys::Protection::Locked => tracing::info!("secrets lie in locked memory"),
        _ if settings.hardening.require_locked_memory => return Err(Failure::start(NOT_LOCKED)),
        how => tracing::warn!(
            ?how,
            "secrets cannot be locked in memory: allow the process more of it (LimitMEMLOCK, ulimit -l)"
        ),
    }
    hardening::confine_files(&settings).map_err(Failure::Start)?;
    let hsm = Hsm::open(&settings.core, Arc::new(SystemClock)).map_err(|why| match why.is_lasting() {
        true => Failure::Tampered(why.to_string()),
        false => Failure::start(why),
    })?;
    let status = hsm.status();
    if status.sealed {
        tracing::warn!(health = status.health, "the store is sealed: no token can be used");
    }
    let mut desk = Desk::new(Arc::clone(&hsm), settings.daemon.max_random_bytes);
    desk.plain_secrets = settings.daemon.plain_secrets;
    let counts = desk.metrics.spans();
    desk.traces = settings.telemetry.map(|told| Traces::start(told, counts)).transpose().map_err(Failure::start)?;
    let desk = Arc::new(desk);
    hardening::confine_calls(settings.hardening.seccomp).map_err(Failure::start)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::start)?;
    let monitors = settings.metrics.map(MetricsDoor::bind).transpose().map_err(Failure::start)?;
    let metrics = monitors.as_ref().map(MetricsDoor::address);
    if let Some(door) = monitors {
        door.open(Arc::clone(&desk)).map_err(Failure::start)?;
    }
    let teller = Teller::start(&hsm, &settings.core.audit, settings.witness_tls, desk.metrics.witness());
    let teller = teller.map_err(Failure::start)?;
    let (socket, tcp) = (settings.daemon.socket.clone(), settings.daemon.tcp.as_ref().map(|tcp| tcp.address));
    let self_test = SelfTest(format!("passed ({} tests)", tests.len()));
    // Before the listeners, so that no signal finds the socket file without somebody to remove it.
    let mut signals = runtime.block_on(async { Signals::listen() }).map_err(Failure::start)?;
    let mut watch = Watch::over(tls.as_deref(), settings.daemon.clients.as_deref());
    let house = House {
        desk: Arc::clone(&desk),
        self_test,
        settings: settings.daemon,
        tls: tls.clone(),
        clients: Arc::clone(&clients),
    };
    let doors = Doors::open(house).map_err(Failure::start)?;
    let reload = || {
        clients.reload();
        if let Some(tls) = &tls {
            tls.reload(&clients);
        }
        doors.judge_again(&clients);
    };
    let supervisor = Supervisor::of_this_process();
    let signal = runtime.block_on(async {
        doors.report_health(!status.sealed).await;
        supervisor.tell(&format!("READY=1\nSTATUS={}", status.health));
        tracing::info!(socket = %socket.display(), tcp = tcp.map(tracing::field::display), metrics = metrics.map(tracing::field::display), "ready");
        hsm_core::failpoint!("daemon.ready");
        let unsealed = async {
            while hsm.status().sealed {
                tokio::time::sleep(SEAL_CHECK).await;
            }
            doors.report_health(true).await;
            std::future::pending().await
        };
        let signal = tokio::select! {
            signal = until_told_to_stop(&mut signals, &mut watch, reload) => signal,
            never = unsealed => never,
            never = tell_that_it_lives(&supervisor, &hsm) => never,
            never = give_memory_back(&doors) => never,
        };
        supervisor.tell("STOPPING=1");
        doors.report_health(false).await;
        signal
    });
    tracing::info!(signal, "stopping");
    if !doors.close(PATIENCE) {
        tracing::warn!(seconds = PATIENCE.as_secs(), "some connections did not finish in time");
    }
    if let Some(traces) = &desk.traces {
        traces.finish();
    }
    drop(desk);
    hsm.close();
    let_go(hsm);
    if let Some(teller) = teller {
        teller.finish();
    }
    tracing::info!("stopped");
    Ok(())
}

/// As often as the supervisor wants to hear it. It hears nothing of a daemon whose token does not answer any more.
async fn tell_that_it_lives(supervisor: &Supervisor, hsm: &Arc<Hsm>) -> &'static str {
    let Some(period) = supervisor.period() else { return std::future::pending().await };
    loop {
        tokio::time::sleep(period).await;
        let token = Arc::clone(hsm);
        if let Ok(health) = tokio::task::spawn_blocking(move || token.status().health).await {
            supervisor.tell(&format!("WATCHDOG=1\nSTATUS={health}"));
        }
    }
}

/// What clients that have gone have left behind.
async fn give_memory_back(doors: &Doors) -> &'static str {
    let mut seen = [0, 0];
    loop {
        tokio::time::sleep(GIVE_BACK).await;
        let gone = doors.departures();
        // Twice for each: some of a connection's memory is freed after it has been counted.
        if seen != [gone, gone] {
            hsm_core::sys::give_memory_back();
            seen = [seen[1], gone];
        }
    }
}

/// Whoever holds the token last closes store and journal. A connection's thread may be about to end: a moment's patience lets the
/// next start find a store that needs no repair and a journal signed to its end.
fn let_go(hsm: Arc<Hsm>) {
    let begun = std::time::Instant::now();
    while Arc::strong_count(&hsm) > 1 && begun.elapsed() < PATIENCE {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Until then, TLS files and clients file are read again when they change, when their time has come, or when SIGHUP asks for it.
async fn until_told_to_stop(signals: &mut Signals, watch: &mut Watch, reload: impl Fn()) -> &'static str {
    loop {
        let wish = tokio::select! {
            wish = signals.next() => wish,
            () = watch.until_due() => Wish::Reload,
        };
        match wish {
            Wish::Stop(signal) => return signal,
            // What is changed while it is read is seen at the next look.
            Wish::Reload => {
                watch.begin_again();
                reload();
            }
        }
    }
}
