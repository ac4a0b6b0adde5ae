//! `status`: how the daemon is. `metrics`: what it has counted.

use std::io::Write;

use hsm_proto::v1::{ListTokensRequest, MetricsRequest, StatusRequest, TokenSummary};
use serde::Serialize;

use crate::config::Settings;
use crate::connect::talk;
use crate::failure::Failure;
use crate::output::{Output, Paint, Table, bar, written};

#[derive(Serialize)]
struct Status {
    health: String,
    sealed: bool,
    version: String,
    self_test: String,
    approved_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<Stream>,
    started_unix_seconds: u64,
    store_path: String,
    store_generation: u64,
    audit_path: String,
    audit_sequence: u64,
    tokens: u64,
    applications: u64,
    sessions: u64,
    slots: Vec<Slot>,
}

/// The copy of the newest state.
#[derive(Serialize)]
struct Stream {
    directory: String,
    generation: u64,
    taken_unix_seconds: u64,
    loss_seconds: u64,
}

/// One slot with its token.
#[derive(Serialize)]
struct Slot {
    slot: u64,
    label: String,
    initialized: bool,
    objects: u64,
    sessions: u64,
    user_pin_failures: u64,
    so_pin_failures: u64,
    user_pin_locked: bool,
    so_pin_locked: bool,
}

impl From<TokenSummary> for Slot {
    fn from(token: TokenSummary) -> Self {
        Slot {
            slot: token.slot,
            label: token.label,
            initialized: token.initialized,
            objects: token.objects,
            sessions: token.sessions,
            user_pin_failures: token.user_pin_failures,
            so_pin_failures: token.so_pin_failures,
            user_pin_locked: token.user_pin_locked,
            so_pin_locked: token.so_pin_locked,
        }
    }
}

/// Asks the running daemon. Tables are for people: whoever reads through a pipe gets JSON.
pub(crate) fn status(settings: &Settings, output: &Output) -> Result<(), Failure> {
    let (reply, tokens) = talk(settings, |mut daemon| async move {
        let reply = daemon.status(StatusRequest {}).await?.into_inner();
        // A sealed daemon shows no tokens.
        let tokens = daemon.list_tokens(ListTokensRequest {}).await.map(|reply| reply.into_inner().tokens);
        Ok((reply, tokens.unwrap_or_default()))
    })?;
    let status = Status {
        health: reply.health,
        sealed: reply.sealed,
        version: reply.version,
        self_test: reply.self_test,
        approved_only: reply.approved_only,
        stream: reply.stream.map(|stream| Stream {
            directory: stream.directory,
            generation: stream.generation,
            taken_unix_seconds: stream.taken_unix_seconds,
            loss_seconds: stream.loss_seconds,
        }),
        started_unix_seconds: reply.started_unix_seconds,
        store_path: reply.store_path,
        store_generation: reply.store_generation,
        audit_path: reply.audit_path,
        audit_sequence: reply.audit_sequence,
        tokens: reply.tokens,
        applications: reply.applications,
        sessions: reply.sessions,
        slots: tokens.into_iter().map(Slot::from).collect(),
    };
    let reader = Output::new(!output.has_reader());
    reader.answer(&status, || status_table(settings, &status))?;
    match (status.sealed, status.health.as_str()) {
        (false, "ok") => Ok(()),
        (true, why) => Err(Failure::new(format!("the daemon is {why}"))),
        (false, why) => Err(Failure::new(format!("the daemon is not well: {why}"))),
    }
}

fn status_table(settings: &Settings, status: &Status) -> Table {
    let mut table = Table::default();
    let paint = if status.health == "ok" { Paint::Good } else { Paint::Critical };
    table.painted_fact("health", paint, &status.health);
    table.fact("sealed", super::yes_no(status.sealed));
    table.fact("version", &status.version);
    table.fact("self-test", &status.self_test);
    table.fact("approved only", super::yes_no(status.approved_only));
    let started = status.started_unix_seconds.saturating_mul(1_000_000_000);
    table.fact("started", hsm_core::audit::export::timestamp(started));
    table.fact("store", format!("{} at generation {}", status.store_path, status.store_generation));
    table.fact("journal", format!("{} at record {}", status.audit_path, status.audit_sequence));
    if let Some(stream) = &status.stream {
        let behind = match stream.loss_seconds {
            0 => "the newest state".to_owned(),
            seconds => format!("{seconds} seconds behind"),
        };
        table.fact("copy", format!("{} at generation {}: {behind}", stream.directory, stream.generation));
    }
    table.fact("tokens", status.tokens);
    table.fact("applications", status.applications);
    let most = u64::from(settings.core.token.max_sessions_total);
    table.fact("sessions", bar(status.sessions, most));
    let attempts = u64::from(settings.core.pin.max_attempts);
    for slot in &status.slots {
        let name = format!("slot {}", slot.slot);
        if !slot.initialized {
            table.fact(&name, "not initialised");
            continue;
        }
        table.fact(&name, format!("{:?}, {} objects, {} sessions", slot.label, slot.objects, slot.sessions));
        let holders = [
            ("user PIN", slot.user_pin_failures, slot.user_pin_locked),
            ("SO PIN", slot.so_pin_failures, slot.so_pin_locked),
        ];
        for (holder, failures, is_locked) in
            holders.into_iter().filter(|(_, failures, locked)| *locked || *failures > 0)
        {
            let paint = if is_locked { Paint::Critical } else { Paint::Warning };
            let lock = if is_locked { ", LOCKED" } else { "" };
            table.painted_fact(&format!("  {holder}"), paint, format!("wrong {}{lock}", bar(failures, attempts)));
        }
    }
    table
}

/// Writes the page that monitors read.
pub(crate) fn metrics(settings: &Settings) -> Result<(), Failure> {
    let reply = talk(settings, |mut daemon| async move { Ok(daemon.metrics(MetricsRequest {}).await?.into_inner()) })?;
    written(std::io::stdout().lock().write_all(reply.text.as_bytes()))
}
