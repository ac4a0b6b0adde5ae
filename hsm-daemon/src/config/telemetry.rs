//! `[telemetry]`: who is told of single requests, and of how many.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::telemetry::{Place, Telemetry};
use crate::tls_files::ClientFiles;
use crate::toml_file::{Refused, narrow, refuse, seconds, within};

/// `[telemetry]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenTelemetry {
    endpoint: Option<String>,
    sample_ratio: f64,
    interval_secs: u64,
    queue: u64,
    resource: BTreeMap<String, String>,
    tls_ca: Option<PathBuf>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
}

impl Default for WrittenTelemetry {
    fn default() -> Self {
        let (tls_ca, tls_cert, tls_key) = (None, None, None);
        let (sample_ratio, interval_secs, queue, resource) = (0.01, 5, 2_048, BTreeMap::new());
        WrittenTelemetry { endpoint: None, sample_ratio, interval_secs, queue, resource, tls_ca, tls_cert, tls_key }
    }
}

impl WrittenTelemetry {
    /// What it means; nothing without an endpoint.
    ///
    /// # Errors
    /// [`Refused`] with the first key that cannot be.
    pub(super) fn judge(self, base: &Path) -> Result<Option<Telemetry>, Refused> {
        let interval = seconds("telemetry.interval_secs", self.interval_secs, 300)?;
        let queue = narrow(within("telemetry.queue", self.queue, 1, 100_000)?);
        let ratio = self.sample_ratio;
        if !(0.0..=1.0).contains(&ratio) {
            return refuse(format!("telemetry.sample_ratio: {ratio} is not in 0.0..=1.0"));
        }
        let resource: Vec<(String, String)> = self.resource.into_iter().collect();
        if resource.len() > 32 || resource.iter().any(|(key, value)| key.is_empty() || key.len().max(value.len()) > 256)
        {
            return refuse("telemetry.resource: at most 32 attributes of at most 256 bytes, each with a name");
        }
        let files = ClientFiles::of("telemetry", [self.tls_ca, self.tls_cert, self.tls_key], base)?;
        let Some(endpoint) = self.endpoint else { return Ok(None) };
        let place = Place::parse(&endpoint, files)
            .map_err(|why| Refused(format!("telemetry.endpoint: an endpoint {why}, not {endpoint:?}")))?;
        // Of 2^64 equal chances; the largest share is all but one of them.
        let sampled = (ratio * u64::MAX as f64) as u64;
        Ok(Some(Telemetry { place, sampled, interval, queue, resource }))
    }
}
