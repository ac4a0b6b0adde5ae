//! Starting the daemon: what it refuses, with which sentence, and what it repairs.

mod calls;
mod config;
mod package;
mod store;
mod units;
mod with_token;
