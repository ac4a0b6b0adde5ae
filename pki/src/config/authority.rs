//! `[ca]`: the authorities that `init` founds, and which of them are here.

use super::seconds;
use crate::ca::validity;
use crate::store::record::{ISSUING, ROOT};
use crate::x509::algorithm::KeySpec;
use serde::Deserialize;
use std::path::PathBuf;
use std::str::FromStr;
use x509_cert::name::Name;

/// `[ca]` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenAuthorities {
    #[serde(default)]
    pub(super) role: Side,
    pub(super) root: WrittenAuthority,
    pub(super) issuing: WrittenAuthority,
    #[serde(default)]
    pub(super) internal: WrittenAuthority,
    pub(super) compromised_keys: Option<PathBuf>,
}

/// `[ca.root]`, `[ca.issuing]` or `[ca.internal]` as written.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenAuthority {
    pub(super) subject: Option<String>,
    pub(super) key: Option<String>,
    pub(super) validity_days: Option<u32>,
}

/// Which part of the hierarchy is here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    /// All of it.
    #[default]
    Whole,
    /// The root, and nothing else: the side that is started for ceremonies only.
    Root,
    /// Everything but the root.
    Below,
}

/// An authority as meant.
pub(crate) struct AuthoritySection {
    /// Its name.
    pub(crate) subject: Name,
    /// Kind of its key.
    pub(crate) key: KeySpec,
    /// How long its certificate is good.
    pub(crate) validity_seconds: i64,
}

impl WrittenAuthority {
    /// What is meant.
    ///
    /// # Errors
    /// The first wrong key with a sentence.
    pub(super) fn mean(self, id: &str, warnings: &mut Vec<String>) -> Result<AuthoritySection, String> {
        let key = format!("ca.{id}");
        let text = self.subject.ok_or_else(|| format!("{key}.subject is missing"))?;
        let subject = Name::from_str(&text).map_err(|fault| format!("{key}.subject: {fault}"))?;
        if subject.is_empty() {
            return Err(format!("{key}.subject is empty"));
        }
        let usual = validity::named(if id == ROOT { ROOT } else { ISSUING });
        let days = self.validity_days.or(usual.map(|usual| usual.default_days)).unwrap_or(1);
        let remark = usual.and_then(|usual| usual.remark(days));
        warnings.extend(remark.map(|remark| format!("{key}.validity_days: {remark}")));
        let spec = self.key.ok_or_else(|| format!("{key}.key is missing"))?;
        Ok(AuthoritySection {
            subject,
            key: spec.parse().map_err(|fault| format!("{key}.key: {fault}"))?,
            validity_seconds: seconds(days, &format!("{key}.validity_days"))?,
        })
    }
}
