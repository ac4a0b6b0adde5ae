//! Devices: what state they are in and whether they may have a certificate now.

pub(crate) mod admission;
pub(crate) mod expiry;
pub(crate) mod lifecycle;
pub(crate) mod notice;
