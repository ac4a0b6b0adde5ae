//! The token as a guard of certification authorities: a key that carries an issuance policy (CKA_CRATON_ISSUANCE_POLICY) signs only
//! what decodes as a certificate, a CRL, an OCSP answer or a request of its own, and stays inside the policy.
//!
//! What the policy says is in `policy.rs` and `docs/guard.md`. Nothing here signs, and nothing here trusts the caller: the whole message
//! is at hand, and the token makes the digest itself.

pub(crate) mod algorithm;
mod der;
pub(crate) mod policy;
mod structure;

use core::fmt;

pub use policy::Policy;
pub use structure::Structure;

/// What the signer says of itself.
#[derive(Debug)]
pub struct Signer<'a> {
    /// The AlgorithmIdentifiers, in DER, that say how it signs; more than one where the standards allow two spellings.
    pub algorithms: Vec<Vec<u8>>,
    /// Its own SubjectPublicKeyInfo, in DER.
    pub spki: &'a [u8],
}

/// Why a message is not signed: the rule that it breaks, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// The rule, one word.
    pub rule: &'static str,
    /// What is wrong.
    pub what: &'static str,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.rule)
    }
}

/// Ends a judgement with the rule and what is wrong.
fn breach<T>(rule: &'static str, what: &'static str) -> Result<T, Breach> {
    Err(Breach { rule, what })
}

/// Goes on if `holds`.
fn demand(holds: bool, rule: &'static str, what: &'static str) -> Result<(), Breach> {
    if holds { Ok(()) } else { breach(rule, what) }
}

/// Judges a message that is about to be signed.
///
/// # Errors
/// The first rule that it breaks.
pub fn judge(policy: &Policy, signer: &Signer<'_>, message: &[u8]) -> Result<Structure, Breach> {
    structure::judge(policy, signer, message)
}
