//! `[ocsp]`: the responder.

use crate::clock::DAY_SECONDS;
use crate::va::signer::{SignerRules, responder_id_form};
use serde::Deserialize;
use std::net::SocketAddr;

/// `[ocsp]` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenOcsp {
    enabled: bool,
    listen: Option<SocketAddr>,
    url: Option<String>,
    key: String,
    signer_validity_days: u32,
    next_update_hours: u32,
    responder_id: String,
    max_age_seconds: u32,
    max_remembered: usize,
    sign_ahead: bool,
}

impl Default for WrittenOcsp {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: None,
            url: None,
            key: "ec:P-256".to_owned(),
            signer_validity_days: 30,
            next_update_hours: 24,
            responder_id: "key".to_owned(),
            max_age_seconds: 300,
            max_remembered: 200_000,
            sign_ahead: false,
        }
    }
}

/// `[ocsp]` as meant.
pub(crate) struct OcspSection {
    /// Where to listen, when not with the CRLs.
    pub(crate) listen: Option<SocketAddr>,
    /// The address written into certificates; none when the responder is switched off.
    pub(crate) url: Option<String>,
    /// What the signers are to be.
    pub(crate) signer: SignerRules,
    /// From thisUpdate to nextUpdate.
    pub(crate) validity_seconds: i64,
    /// How long a cache may use an answer without asking again.
    pub(crate) max_age_seconds: i64,
    /// Most answers remembered.
    pub(crate) max_remembered: usize,
    /// Whether answers are signed before anybody asks.
    pub(crate) sign_ahead: bool,
}

impl WrittenOcsp {
    /// What is meant.
    ///
    /// # Errors
    /// The first wrong key with a sentence.
    pub(super) fn mean(self, base_url: &str) -> Result<OcspSection, String> {
        let url = self.url.unwrap_or_else(|| format!("{base_url}/ocsp"));
        if !url.starts_with("http://") || !url.is_ascii() {
            return Err("ocsp.url must begin with http:// (an answer is signed)".to_owned());
        }
        if !(1..=24 * 14).contains(&self.next_update_hours) {
            return Err("ocsp.next_update_hours must be 1 to 336".to_owned());
        }
        if !(1..=398).contains(&self.signer_validity_days) {
            return Err(
                "ocsp.signer_validity_days must be 1 to 398: nobody can ask whether a signer is revoked".to_owned()
            );
        }
        if !(1..=10_000_000).contains(&self.max_remembered) {
            return Err("ocsp.max_remembered must be 1 to 10000000".to_owned());
        }
        Ok(OcspSection {
            listen: self.listen,
            url: self.enabled.then_some(url),
            signer: SignerRules {
                key: self.key.parse().map_err(|fault| format!("ocsp.key: {fault}"))?,
                validity_seconds: i64::from(self.signer_validity_days) * DAY_SECONDS,
                responder_id: responder_id_form(&self.responder_id)?,
            },
            validity_seconds: i64::from(self.next_update_hours) * 3600,
            max_age_seconds: i64::from(self.max_age_seconds),
            max_remembered: self.max_remembered,
            sign_ahead: self.sign_ahead,
        })
    }
}
