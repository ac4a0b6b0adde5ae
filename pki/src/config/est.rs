//! `[est]`: the devices' door.

use super::seconds;
use crate::est::label::{self, Label, WrittenLabel};
use crate::profile::Profile;
use crate::x509::algorithm::KeySpec;
use crate::x509::csr::is_host_name;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// `[est]` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenEst {
    #[serde(default = "default_est_listen")]
    listen: SocketAddr,
    host_names: Vec<String>,
    #[serde(default)]
    addresses: Vec<IpAddr>,
    #[serde(default = "default_server_key")]
    server_key: String,
    #[serde(default = "default_server_validity_days")]
    server_validity_days: u32,
    #[serde(default = "default_profile")]
    profile: String,
    #[serde(default)]
    labels: BTreeMap<String, toml::Value>,
    unlabelled: Option<WrittenLabel>,
    #[serde(default = "default_base64_wrap_columns")]
    base64_wrap_columns: usize,
}

pub(super) fn default_est_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8443))
}

pub(super) fn default_server_key() -> String {
    "ec:P-256".to_owned()
}

pub(super) fn default_server_validity_days() -> u32 {
    90
}

pub(super) fn default_profile() -> String {
    "device".to_owned()
}

pub(super) fn default_base64_wrap_columns() -> usize {
    64
}

/// `[est]` as meant.
pub(crate) struct EstSection {
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// Names in the server certificate.
    pub(crate) host_names: Vec<String>,
    /// Addresses in the server certificate.
    pub(crate) addresses: Vec<IpAddr>,
    /// Kind of the server key.
    pub(crate) server_key: KeySpec,
    /// How long the server certificate is good.
    pub(crate) server_validity_seconds: i64,
    /// Rules by label; the empty label stands for the path without label.
    pub(crate) labels: BTreeMap<String, Label>,
}

impl WrittenEst {
    /// What is meant.
    ///
    /// # Errors
    /// The first wrong key with a sentence.
    pub(super) fn mean(self, profiles: &BTreeMap<String, Profile>, folder: &Path) -> Result<EstSection, String> {
        if self.host_names.is_empty() {
            return Err("est.host_names is empty: the server certificate needs a name".to_owned());
        }
        if let Some(bad) = self.host_names.iter().find(|name| !is_host_name(name)) {
            return Err(format!("est.host_names: '{bad}' is not a lower-case host name"));
        }
        let mut labels =
            label::labels(self.labels, self.unlabelled, &self.profile, self.base64_wrap_columns, profiles)?;
        for (name, label) in &mut labels {
            label.resolve(folder).map_err(|fault| format!("est.labels.{name}: {fault}"))?;
        }
        Ok(EstSection {
            listen: self.listen,
            host_names: self.host_names,
            addresses: self.addresses,
            server_key: self.server_key.parse().map_err(|fault| format!("est.server_key: {fault}"))?,
            server_validity_seconds: seconds(self.server_validity_days, "est.server_validity_days")?,
            labels,
        })
    }
}
