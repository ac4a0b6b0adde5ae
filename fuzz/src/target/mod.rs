//! The targets, one file each.

pub(crate) mod parameter;
pub(crate) mod request;
pub(crate) mod sequence;
pub(crate) mod template;
