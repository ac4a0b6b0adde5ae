//! `status`: how the daemon is.

use hsm_proto::v1::StatusRequest;
use serde::Serialize;

use crate::config::Settings;
use crate::connect::talk;
use crate::failure::Failure;
use crate::output::{Output, Table};

#[derive(Serialize)]
struct Status {
    health: String,
    sealed: bool,
    version: String,
    self_test: String,
    approved_only: bool,
    started_unix_seconds: u64,
    store_path: String,
    store_generation: u64,
    audit_path: String,
    audit_sequence: u64,
    tokens: u64,
    applications: u64,
    sessions: u64,
}

/// Asks the running daemon.
pub(crate) fn status(settings: &Settings, output: &Output) -> Result<(), Failure> {
    let reply = talk(settings, |mut daemon| async move { Ok(daemon.status(StatusRequest {}).await?.into_inner()) })?;
    let status = Status {
        health: reply.health,
        sealed: reply.sealed,
        version: reply.version,
        self_test: reply.self_test,
        approved_only: reply.approved_only,
        started_unix_seconds: reply.started_unix_seconds,
        store_path: reply.store_path,
        store_generation: reply.store_generation,
        audit_path: reply.audit_path,
        audit_sequence: reply.audit_sequence,
        tokens: reply.tokens,
        applications: reply.applications,
        sessions: reply.sessions,
    };
    output.answer(&status, || {
        let mut table = Table::default();
        table.fact("health", &status.health);
        table.fact("sealed", super::yes_no(status.sealed));
        table.fact("version", &status.version);
        table.fact("self-test", &status.self_test);
        table.fact("approved only", super::yes_no(status.approved_only));
        let started = status.started_unix_seconds.saturating_mul(1_000_000_000);
        table.fact("started", hsm_core::audit::export::timestamp(started));
        table.fact("store", format!("{} at generation {}", status.store_path, status.store_generation));
        table.fact("journal", format!("{} at record {}", status.audit_path, status.audit_sequence));
        table.fact("tokens", status.tokens);
        table.fact("applications", status.applications);
        table.fact("sessions", status.sessions);
        table
    })?;
    match (status.sealed, status.health.as_str()) {
        (false, "ok") => Ok(()),
        (true, _) => Err(Failure::new("the daemon is sealed: its store key is missing")),
        (false, why) => Err(Failure::new(format!("the daemon is not well: {why}"))),
    }
}
