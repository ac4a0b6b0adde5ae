//! `store`: what concerns the store as a whole, offline.

use std::sync::Arc;

use hsm_core::SystemClock;
use hsm_core::backup::{AcceptRollback as Request, accept_rollback as accept};

use super::restore::refuse_running;
use crate::cli::AcceptRollback;
use crate::config::Settings;
use crate::failure::Failure;
use crate::output::{Output, Table};
use crate::prompt;

/// Takes an older store for the store.
pub(crate) fn accept_rollback(settings: &Settings, given: &AcceptRollback, output: &Output) -> Result<(), Failure> {
    refuse_running(&settings.socket)?;
    let so_pin = prompt::pin("--pin", "SO PIN", given.pin.as_deref())?;
    let request = Request {
        config: &settings.core,
        slot: given.slot,
        so_pin: &so_pin,
        reason: &given.reason,
        uid: rustix::process::geteuid().as_raw(),
        clock: Arc::new(SystemClock),
    };
    let accepted = accept(&request).map_err(|error| Failure::of_call(&error))?;
    output.answer(&accepted, || {
        let mut table = Table::default();
        table.fact("accepted", accepted.store_path.display());
        table.fact("found at", format!("generation {}", accepted.found));
        table.fact("journal at", format!("generation {}", accepted.journal_generation));
        table.fact("now at", format!("generation {}", accepted.generation));
        table.fact("recorded in", accepted.journal.display());
        table
    })
}
