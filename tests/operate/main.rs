//! Operating a token: what monitors read, what the doctor finds, how it shows its state, and the runbook as it stands.

mod canaries;
mod doctor;
mod metrics;
mod records;
mod recovery;
mod runbook;
mod status;
mod traces;
mod watch;
