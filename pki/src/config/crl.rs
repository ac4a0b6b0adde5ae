//! `[crl]`: the lists, and where they are fetched.

use serde::Deserialize;
use std::net::SocketAddr;

/// `[crl]` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenCrl {
    #[serde(default = "default_crl_listen")]
    listen: SocketAddr,
    base_url: String,
    #[serde(default = "default_next_update_hours")]
    next_update_hours: u32,
    #[serde(default = "default_overlap_hours")]
    overlap_hours: u32,
    #[serde(default)]
    shards: u32,
    #[serde(default)]
    delta_hours: u32,
}

pub(super) fn default_crl_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

pub(super) fn default_next_update_hours() -> u32 {
    24
}

pub(super) fn default_overlap_hours() -> u32 {
    6
}

/// `[crl]` as meant.
pub(crate) struct CrlSection {
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// Begin of the distribution point addresses, without final slash.
    pub(crate) base_url: String,
    /// From thisUpdate to nextUpdate.
    pub(crate) validity_seconds: i64,
    /// How long before nextUpdate the next one is made.
    pub(crate) overlap_seconds: i64,
    /// Into how many shards the lists of new certificates are divided, 0 for one list that is whole.
    pub(crate) shards: u32,
    /// From thisUpdate to nextUpdate of a delta CRL, 0 for no delta CRLs.
    pub(crate) delta_seconds: i64,
}

impl WrittenCrl {
    /// What is meant.
    ///
    /// # Errors
    /// The first wrong key with a sentence.
    pub(super) fn mean(self) -> Result<CrlSection, String> {
        let base_url = self.base_url.trim_end_matches('/').to_owned();
        if !base_url.starts_with("http://") || !base_url.is_ascii() {
            return Err(
                "crl.base_url must begin with http:// (a CRL is signed; fetching it by https is a circle)".to_owned()
            );
        }
        if self.next_update_hours == 0 || self.overlap_hours >= self.next_update_hours {
            return Err("crl.overlap_hours must be less than crl.next_update_hours".to_owned());
        }
        if self.shards > 100_000 {
            return Err("crl.shards must be 0 to 100000".to_owned());
        }
        if self.delta_hours > 0 && self.delta_hours >= self.next_update_hours {
            return Err("crl.delta_hours must be less than crl.next_update_hours".to_owned());
        }
        Ok(CrlSection {
            shards: self.shards,
            delta_seconds: i64::from(self.delta_hours) * 3600,
            listen: self.listen,
            base_url,
            validity_seconds: i64::from(self.next_update_hours) * 3600,
            overlap_seconds: i64::from(self.overlap_hours) * 3600,
        })
    }
}
