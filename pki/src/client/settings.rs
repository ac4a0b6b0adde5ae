//! What the client remembers of an enrolment, in `settings.toml` of its folder: all that a renewal needs.

use super::ClientError;
use super::window::Window;
use crate::x509::algorithm::KeySpec;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use x509_cert::name::Name;

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The EST service, with its label.
    pub(super) url: String,
    /// The subject asked for.
    pub(super) subject: String,
    /// The DNS names asked for.
    #[serde(default)]
    pub(super) dns: Vec<String>,
    /// Kind of key.
    pub(super) key: String,
    /// When to renew.
    pub(super) window: String,
    /// Where the keys are, when not in files.
    #[serde(default)]
    pub(super) token: Option<TokenSettings>,
    /// The second identity, when there is one.
    #[serde(default)]
    pub(super) related: Option<RelatedSettings>,
}

/// A second identity of the same device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RelatedSettings {
    /// The EST service, with the label that gives second certificates.
    pub(super) url: String,
    /// Kind of key.
    pub(super) key: String,
}

/// A token behind a PKCS#11 module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenSettings {
    /// Path of the module.
    pub(super) module: PathBuf,
    /// Label of the token.
    pub(super) label: String,
    /// Where its PIN comes from.
    pub(super) pin: String,
}

impl Settings {
    /// Judges what was given.
    pub(super) fn judge(&self) -> Result<(), ClientError> {
        self.spec()?;
        self.name()?;
        Window::parse(&self.window)?;
        super::http::Service::parse(&self.url)?;
        if let Some(related) = &self.related {
            self.of_related(related).judge()?;
        }
        if let Some(token) = &self.token
            && !token.pin.starts_with("env:")
            && !token.pin.starts_with("file:")
        {
            return Err(ClientError::Arguments(
                "the PIN comes from env:NAME or file:PATH, never from the command line".to_owned(),
            ));
        }
        Ok(())
    }

    /// The settings of the second identity: where it is asked for, and its kind of key, are its own.
    pub(super) fn of_related(&self, related: &RelatedSettings) -> Self {
        Self { url: related.url.clone(), key: related.key.clone(), related: None, ..self.clone() }
    }

    /// The kind of key.
    pub(super) fn spec(&self) -> Result<KeySpec, ClientError> {
        self.key.parse().map_err(ClientError::Arguments)
    }

    /// The subject.
    pub(super) fn name(&self) -> Result<Name, ClientError> {
        Name::from_str(&self.subject).map_err(|fault| ClientError::Arguments(format!("the subject: {fault}")))
    }

    /// Reads the settings of a folder.
    pub(super) fn read(dir: &Path) -> Result<Self, ClientError> {
        let path = dir.join("settings.toml");
        let text = std::fs::read_to_string(&path)
            .map_err(|fault| ClientError::File(format!("{}: {fault}: enrol first", path.display())))?;
        let settings: Self =
            toml::from_str(&text).map_err(|fault| ClientError::File(format!("{}: {fault}", path.display())))?;
        settings.judge()?;
        Ok(settings)
    }

    /// Their text.
    pub(super) fn text(&self) -> Result<String, ClientError> {
        toml::to_string(self).map_err(|fault| ClientError::File(fault.to_string()))
    }
}
