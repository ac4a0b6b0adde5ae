//! Starting the daemon: what it refuses, with which sentence, and what it repairs.

mod config;
mod store;
mod with_token;
