//! What relying parties ask: the revocation lists, the OCSP responder and the listener that serves both.

pub(crate) mod crl;
pub(crate) mod foreign;
pub(crate) mod history;
pub(crate) mod ocsp;
pub(crate) mod public;
pub(crate) mod signer;
pub(crate) mod status;
