//! `[revocation]`: how others are asked, as written and as meant.

use super::{Method, Settings};
use crate::fetch::{self, Address, Bounds};
use crate::x509::ders_of_pem;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `[revocation]` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenRevocation {
    methods: Vec<Method>,
    crl_urls: Vec<String>,
    ocsp_urls: Vec<String>,
    stale_hours: u32,
    refresh_minutes: u32,
    timeout_seconds: u64,
    max_list_mib: usize,
    ocsp_nonce: String,
    https_roots: Option<PathBuf>,
}

impl Default for WrittenRevocation {
    fn default() -> Self {
        Self {
            methods: vec![Method::Crl, Method::Ocsp],
            crl_urls: Vec::new(),
            ocsp_urls: Vec::new(),
            stale_hours: 0,
            refresh_minutes: 60,
            timeout_seconds: 5,
            max_list_mib: 16,
            ocsp_nonce: "optional".to_owned(),
            https_roots: None,
        }
    }
}

impl WrittenRevocation {
    /// Judges what is written; paths are relative to `folder`.
    ///
    /// # Errors
    /// A sentence with the key.
    pub(crate) fn mean(self, folder: &Path) -> Result<Settings, String> {
        if self.methods.is_empty() {
            return Err("revocation.methods is empty: then nothing is ever known".to_owned());
        }
        if let Some(bad) = self.crl_urls.iter().chain(&self.ocsp_urls).find(|url| Address::parse(url).is_none()) {
            return Err(format!("revocation: '{bad}' must be http://host[:port]/path, or the same with https"));
        }
        if self.stale_hours > 24 * 366 {
            return Err("revocation.stale_hours must be 0 to 8784".to_owned());
        }
        if !(1..=60 * 24 * 31).contains(&self.refresh_minutes) {
            return Err("revocation.refresh_minutes must be 1 to 44640".to_owned());
        }
        if !(1..=60).contains(&self.timeout_seconds) {
            return Err("revocation.timeout_seconds must be 1 to 60".to_owned());
        }
        if !(1..=256).contains(&self.max_list_mib) {
            return Err("revocation.max_list_mib must be 1 to 256".to_owned());
        }
        let needs_nonce = match self.ocsp_nonce.as_str() {
            "optional" => false,
            "required" => true,
            other => return Err(format!("revocation.ocsp_nonce '{other}' must be optional or required")),
        };
        let tls = match self.https_roots {
            Some(path) => Some(trusted("revocation.https_roots", &folder.join(path))?),
            None => None,
        };
        Ok(Settings {
            methods: self.methods,
            crl_urls: self.crl_urls,
            ocsp_urls: self.ocsp_urls,
            stale_seconds: i64::from(self.stale_hours) * 3600,
            refresh_seconds: i64::from(self.refresh_minutes) * 60,
            bounds: Bounds {
                deadline: Duration::from_secs(self.timeout_seconds),
                max_bytes: self.max_list_mib * 1024 * 1024,
            },
            needs_nonce,
            tls,
        })
    }
}

/// A TLS client that trusts the certificates of a PEM file.
///
/// # Errors
/// A sentence with the key and the file.
pub(crate) fn trusted(key: &str, path: &Path) -> Result<std::sync::Arc<rustls::ClientConfig>, String> {
    let say = |what: &dyn std::fmt::Display| format!("{key}: {}: {what}", path.display());
    let text = std::fs::read_to_string(path).map_err(|fault| say(&fault))?;
    let roots = ders_of_pem(&text, "CERTIFICATE").filter(|roots| !roots.is_empty());
    fetch::trusting(&roots.ok_or_else(|| say(&"no certificate in PEM"))?).map_err(|fault| say(&fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bad_value_is_refused_with_its_key() {
        let mean = |text: &str| {
            let written: Result<WrittenRevocation, _> = toml::from_str(text);
            written.map_err(|fault| fault.to_string()).and_then(|written| written.mean(Path::new("/")).map(drop))
        };
        assert_eq!(mean(""), Ok(()));
        for (text, named) in [
            ("methods = []", "methods"),
            ("methods = [\"luck\"]", "luck"),
            ("crl_urls = [\"ftp://a/b\"]", "ftp://a/b"),
            ("refresh_minutes = 0", "refresh_minutes"),
            ("timeout_seconds = 0", "timeout_seconds"),
            ("max_list_mib = 0", "max_list_mib"),
            ("ocsp_nonce = \"never\"", "ocsp_nonce"),
            ("https_roots = \"/nowhere.pem\"", "https_roots"),
            ("stale_hours = 9000", "stale_hours"),
            ("colour = 1", "colour"),
        ] {
            let fault = mean(text).expect_err(text);
            assert!(fault.contains(named), "{text}: {fault}");
        }
    }
}
