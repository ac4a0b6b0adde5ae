//! What relying parties ask: the revocation lists and their distribution point.

pub(crate) mod crl;
pub(crate) mod distribution;
