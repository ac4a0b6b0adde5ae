//! The targets, one file each.

pub(crate) mod archive;
pub(crate) mod config;
pub(crate) mod enrolment;
pub(crate) mod frames;
pub(crate) mod import;
pub(crate) mod issuance;
pub(crate) mod parameter;
pub(crate) mod record;
pub(crate) mod request;
pub(crate) mod sequence;
pub(crate) mod template;
pub(crate) mod validation;
