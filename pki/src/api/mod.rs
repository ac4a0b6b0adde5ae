//! The operators' doors. Every operation is one [`command::Command`], performed in one place ([`operator`]); the command
//! line, the local socket ([`socket`]) and REST ([`rest`]) only carry it.

mod authority;
pub(crate) mod command;
pub(crate) mod operator;
pub(crate) mod rest;
pub(crate) mod socket;
pub(crate) mod view;
