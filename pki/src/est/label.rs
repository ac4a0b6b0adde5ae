//! What an enrolment label (a registration authority's path, `/.well-known/est/LABEL/`) asks of devices and gives them.

use super::manufacturer::{Manufacturers, WrittenManufacturers};
use super::operation::Operation;
use crate::clock::DAY_SECONDS;
use crate::profile::Profile;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The rules of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    /// Profile of its certificates.
    pub(crate) profile: String,
    /// Line length of answers, 0 for no line breaks.
    pub(crate) base64_wrap_columns: usize,
    /// Whether requests must be linked to their TLS connection.
    pub(crate) channel_binding: ChannelBinding,
    /// Who decides about first enrolments.
    pub(crate) approval: Approval,
    /// What a device that waits for approval is told.
    pub(crate) retry_after_seconds: u32,
    /// Whether a device must be known before its first enrolment.
    pub(crate) registration: Registration,
    /// Whether a registration authority may enrol a known device again.
    pub(crate) replaceable: bool,
    /// The label whose devices are given a second certificate here, which names their first; none for a label of first ones.
    pub(crate) related_to: Option<String>,
    /// Registration authorities that may enrol others here.
    pub(crate) registration_authorities: Vec<String>,
    /// Which keys a re-enrolment may bring.
    pub(crate) renewal: Renewal,
    /// How long before expiry a re-enrolment is accepted, 0 for always.
    pub(crate) renewal_window_seconds: i64,
    /// How long after expiry a certificate still re-enrols.
    pub(crate) expired_grace_seconds: i64,
    /// Whether a request may ask for other names by ChangeSubjectName.
    pub(crate) change_of_name: bool,
    /// Whether a body may be DER instead of base64.
    pub(crate) raw_der: bool,
    /// Whether keys are made for devices.
    pub(crate) server_keygen: ServerKeygen,
    /// The folder of the keys that such keys are encrypted to; none when there are none.
    pub(crate) decryption_keys: Option<PathBuf>,
    /// Whose devices may enrol by the certificates they were born with; none for nobody's.
    pub(crate) manufacturers: Option<Manufacturers>,
    /// The same as written; taken when they are read.
    pub(crate) written_manufacturers: Option<WrittenManufacturers>,
}

impl Label {
    /// Reads what the label refers to; paths are relative to `folder`.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn resolve(&mut self, folder: &Path) -> Result<(), String> {
        self.decryption_keys = self.decryption_keys.as_ref().map(|keys| folder.join(keys));
        self.manufacturers = self.written_manufacturers.take().map(|written| written.read(folder)).transpose()?;
        Ok(())
    }
}

/// Whether requests must be linked to their TLS connection (RFC 7030 section 3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ChannelBinding {
    /// A binding that is there must be true.
    Optional,
    /// There must be one.
    Required,
}

/// Who decides about first enrolments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Approval {
    /// The rules.
    Automatic,
    /// An operator, beside the rules.
    Manual,
}

/// Whether a device must be known before its first enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Registration {
    /// A new device is recorded when it first enrols.
    JustInTime,
    /// An operator has recorded it.
    PreRegistered,
}

/// Which keys a re-enrolment may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Renewal {
    /// The same key or another one.
    #[serde(rename = "any-key")]
    Any,
    /// The same key only: renewal.
    #[serde(rename = "same-key")]
    Same,
    /// Another key only: rekey.
    #[serde(rename = "new-key")]
    New,
}

/// Whether keys are made for devices (RFC 7030 section 4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ServerKeygen {
    /// Never.
    Off,
    /// The key goes to the device as it is, unless the device asks for more: TLS alone protects it on its way.
    Plain,
    /// The key goes to the device encrypted to another key of its own, or not at all.
    Encrypted,
}

/// `[est.labels.LABEL]` and `[est.unlabelled]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenLabel {
    profile: Option<String>,
    base64_wrap: Option<usize>,
    #[serde(default = "default_channel_binding")]
    channel_binding: ChannelBinding,
    #[serde(default = "default_approval")]
    approval: Approval,
    #[serde(default = "default_retry_after_seconds")]
    retry_after_seconds: u32,
    #[serde(default = "default_registration")]
    registration: Registration,
    #[serde(default)]
    replaceable: bool,
    related_to: Option<String>,
    #[serde(default)]
    registration_authorities: Vec<String>,
    #[serde(default = "default_renewal")]
    renewal: Renewal,
    #[serde(default)]
    renewal_window_days: u32,
    #[serde(default)]
    expired_grace_days: u32,
    #[serde(default)]
    change_subject_name: bool,
    #[serde(default)]
    raw_der: bool,
    #[serde(default = "default_server_keygen")]
    server_keygen: ServerKeygen,
    decryption_keys: Option<PathBuf>,
    manufacturer_roots: Option<PathBuf>,
    #[serde(default)]
    manufacturer_authorities: Vec<String>,
    manufacturer_crls: Option<String>,
}

fn default_channel_binding() -> ChannelBinding {
    ChannelBinding::Optional
}
fn default_approval() -> Approval {
    Approval::Automatic
}
fn default_retry_after_seconds() -> u32 {
    60
}
fn default_registration() -> Registration {
    Registration::JustInTime
}
fn default_renewal() -> Renewal {
    Renewal::Any
}
fn default_server_keygen() -> ServerKeygen {
    ServerKeygen::Off
}

impl WrittenLabel {
    /// A label of which only the profile is written.
    fn of_profile(profile: String) -> Self {
        Self {
            profile: Some(profile),
            base64_wrap: None,
            channel_binding: default_channel_binding(),
            approval: default_approval(),
            retry_after_seconds: default_retry_after_seconds(),
            registration: default_registration(),
            replaceable: false,
            related_to: None,
            registration_authorities: Vec::new(),
            renewal: default_renewal(),
            renewal_window_days: 0,
            expired_grace_days: 0,
            change_subject_name: false,
            raw_der: false,
            server_keygen: default_server_keygen(),
            decryption_keys: None,
            manufacturer_roots: None,
            manufacturer_authorities: Vec::new(),
            manufacturer_crls: None,
        }
    }

    /// Reads a label: the name of its profile, or a table.
    ///
    /// # Errors
    /// A sentence.
    fn read(value: toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::String(profile) => Ok(Self::of_profile(profile)),
            table => table.try_into().map_err(|fault: toml::de::Error| fault.message().to_owned()),
        }
    }

    fn mean(self, profile: &str, columns: usize) -> Result<Label, String> {
        let base64_wrap_columns = self.base64_wrap.unwrap_or(columns);
        if !matches!(base64_wrap_columns, 0 | 64 | 76) {
            return Err("base64_wrap must be 64, 76 or 0 for no line breaks".to_owned());
        }
        if !(1..=86_400).contains(&self.retry_after_seconds) {
            return Err("retry_after_seconds must be 1 to 86400".to_owned());
        }
        if self.server_keygen == ServerKeygen::Encrypted && self.decryption_keys.is_none() {
            return Err(
                "server_keygen = \"encrypted\" needs decryption_keys, the folder of the devices' keys".to_owned()
            );
        }
        let written_manufacturers = WrittenManufacturers::parse(
            self.manufacturer_roots,
            self.manufacturer_authorities,
            self.manufacturer_crls,
        )?;
        Ok(Label {
            profile: self.profile.unwrap_or_else(|| profile.to_owned()),
            base64_wrap_columns,
            channel_binding: self.channel_binding,
            approval: self.approval,
            retry_after_seconds: self.retry_after_seconds,
            registration: self.registration,
            replaceable: self.replaceable,
            related_to: self.related_to,
            registration_authorities: self.registration_authorities,
            renewal: self.renewal,
            renewal_window_seconds: i64::from(self.renewal_window_days) * DAY_SECONDS,
            expired_grace_seconds: i64::from(self.expired_grace_days) * DAY_SECONDS,
            change_of_name: self.change_subject_name,
            raw_der: self.raw_der,
            server_keygen: self.server_keygen,
            decryption_keys: self.decryption_keys,
            manufacturers: None,
            written_manufacturers,
        })
    }
}

/// What is meant by the labels of a configuration; the empty one stands for the path without label.
///
/// # Errors
/// The first wrong key with a sentence.
pub(crate) fn labels(
    written: BTreeMap<String, toml::Value>,
    unlabelled: Option<WrittenLabel>,
    profile: &str,
    columns: usize,
    profiles: &BTreeMap<String, Profile>,
) -> Result<BTreeMap<String, Label>, String> {
    let unlabelled = unlabelled.unwrap_or_else(|| WrittenLabel::of_profile(profile.to_owned()));
    let mut labels = BTreeMap::new();
    labels
        .insert(String::new(), unlabelled.mean(profile, columns).map_err(|fault| format!("est.unlabelled: {fault}"))?);
    for (label, value) in written {
        if !is_label(&label) {
            return Err(format!(
                "est.labels: '{label}' must be 1 to 64 letters, digits, '-' or '_' and not the name of an EST operation"
            ));
        }
        let meant = WrittenLabel::read(value).and_then(|written| written.mean(profile, columns));
        labels.insert(label.clone(), meant.map_err(|fault| format!("est.labels.{label}: {fault}"))?);
    }
    if let Some((name, label)) = labels.iter().find(|(_, label)| !profiles.contains_key(&label.profile)) {
        return Err(format!("est: label '{name}' names the profile '{}', which is not in [profiles]", label.profile));
    }
    let is_first = |name: &String| labels.get(name).is_some_and(|label| label.related_to.is_none());
    match labels
        .iter()
        .find_map(|(name, label)| Some((name, label.related_to.as_ref()?)).filter(|row| !is_first(row.1)))
    {
        Some((name, first)) => Err(format!(
            "est: label '{name}': related_to = \"{first}\" is no label, or one of second certificates itself"
        )),
        None => Ok(labels),
    }
}

/// A label that asks for nothing in particular, for the tests of this and other rooms.
#[cfg(test)]
pub(crate) fn plain(profile: &str) -> Label {
    WrittenLabel::of_profile(profile.to_owned()).mean(profile, 64).expect("a plain label")
}

/// True for a word that may be a label: it cannot be taken for an operation (RFC 7030 section 3.2.2).
pub(crate) fn is_label(word: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&word.len()) && word.bytes().all(allowed) && Operation::named(word).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<BTreeMap<String, Label>, String> {
        let table: toml::Table = toml::from_str(text).map_err(|fault| fault.to_string())?;
        let profile = toml::from_str::<crate::profile::written::WrittenProfile>("").expect("empty profile");
        let profiles = crate::profile::written::profiles(BTreeMap::from([("device".to_owned(), profile)]), 1 << 40)?;
        labels(table.into_iter().collect(), None, "device", 64, &profiles)
    }

    #[test]
    fn a_label_is_a_profile_or_a_table() {
        let labels = read("a = \"device\"\nb = { base64_wrap = 0, channel_binding = \"required\" }").expect("parses");
        assert_eq!(labels["a"], labels[""]);
        assert_eq!((labels["b"].base64_wrap_columns, labels["b"].channel_binding), (0, ChannelBinding::Required));
        assert_eq!(labels["b"].profile, "device");
    }

    #[test]
    fn each_bad_label_is_named() {
        for (text, named) in [
            ("simpleenroll = \"device\"", "simpleenroll"),
            ("a = \"nobody\"", "nobody"),
            ("a = { base64_wrap = 63 }", "base64_wrap"),
            ("a = { server_keygen = \"yes\" }", "yes"),
            ("a = { server_keygen = \"encrypted\" }", "decryption_keys"),
            ("a = { manufacturer_roots = \"roots.pem\" }", "manufacturer_crls"),
            ("a = { manufacturer_authorities = [\"maker\"] }", "manufacturer_crls"),
            ("a = { manufacturer_crls = \"none\" }", "manufacturer_roots"),
            ("a = { related_to = \"nobody\" }", "nobody"),
            ("a = { related_to = \"a\" }", "second certificates"),
            ("a = { colour = 1 }", "colour"),
            ("a = 7", "a"),
        ] {
            let fault = read(text).expect_err(text);
            assert!(fault.contains(named), "{text}: {fault}");
        }
    }
}
