//! Devices: what state they are in and whether they may have a certificate now.

pub(crate) mod expiry;
pub(crate) mod webhook;
