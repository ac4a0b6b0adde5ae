//! `[alerts]`: where notices are told, as written and as meant.

use crate::device::webhook::Webhook;
use crate::fetch::Address;
use crate::secret::SecretSource;
use crate::va::foreign::settings::trusted;
use rustls::ClientConfig;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `[alerts]` as written.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenAlerts {
    webhook: Option<String>,
    secret: Option<String>,
    https_roots: Option<PathBuf>,
}

/// `[alerts]` as meant.
pub(crate) struct Alerts {
    address: Address,
    secret: SecretSource,
    tls: Option<Arc<ClientConfig>>,
}

impl WrittenAlerts {
    /// Judges what is written; paths are relative to `folder`. None when nothing is told.
    ///
    /// # Errors
    /// A sentence with the key.
    pub(crate) fn mean(self, folder: &Path) -> Result<Option<Alerts>, String> {
        let Some(webhook) = self.webhook else {
            return match self.secret.is_some() || self.https_roots.is_some() {
                true => Err("alerts.webhook is missing".to_owned()),
                false => Ok(None),
            };
        };
        let bad = || format!("alerts.webhook '{webhook}' must be https://host[:port]/path, or the same with http");
        let address = Address::parse(&webhook).ok_or_else(bad)?;
        let secret = self.secret.ok_or("alerts.secret is missing: messages are authenticated with it")?;
        let secret = match SecretSource::parse(&secret, folder) {
            SecretSource::Inline(_) => return Err("alerts.secret must be env:NAME or file:PATH".to_owned()),
            source => source,
        };
        let roots = self.https_roots.map(|path| trusted("alerts.https_roots", &folder.join(path)));
        let tls = roots.transpose()?;
        if address.is_secure && tls.is_none() {
            return Err("alerts.webhook is https and needs alerts.https_roots".to_owned());
        }
        Ok(Some(Alerts { address, secret, tls }))
    }
}

impl Alerts {
    /// The webhook, with its secret read.
    ///
    /// # Errors
    /// A sentence, when the secret cannot be read.
    pub(crate) fn webhook(&self) -> Result<Webhook, String> {
        Ok(Webhook::new(self.address.clone(), self.tls.clone(), &self.secret.read()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bad_value_is_refused_with_its_key() {
        let mean = |text: &str| {
            let written: WrittenAlerts = toml::from_str(text).expect("parses");
            written.mean(Path::new("/")).map(|alerts| alerts.is_some())
        };
        assert_eq!(mean(""), Ok(false));
        assert_eq!(mean("webhook = \"http://127.0.0.1/a\"\nsecret = \"env:X\""), Ok(true));
        for (text, named) in [
            ("secret = \"env:X\"", "alerts.webhook"),
            ("webhook = \"http://a/b\"", "alerts.secret"),
            ("webhook = \"http://a/b\"\nsecret = \"hunter2\"", "alerts.secret"),
            ("webhook = \"https://a/b\"\nsecret = \"env:X\"", "alerts.https_roots"),
            ("webhook = \"a\"\nsecret = \"env:X\"", "alerts.webhook"),
        ] {
            let fault = mean(text).expect_err(text);
            assert!(fault.contains(named) && !fault.contains("hunter2"), "{text}: {fault}");
        }
    }
}
