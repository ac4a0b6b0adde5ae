//! `[algorithms]`: which are offered.

use super::ConfigError;
use serde::Deserialize;

/// `[algorithms]` as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlgorithmsTable {
    /// RSA keys under 2048 bits.
    pub allow_weak_rsa: bool,
    /// RSA signatures over SHA-1 digests.
    pub allow_sha1_signing: bool,
    /// MD5 and triple DES.
    pub allow_legacy: bool,
    /// ML-DSA and its kin.
    pub enable_pqc: bool,
    /// Only mechanisms that FIPS 140-3 approves.
    pub fips_approved_only: bool,
    /// The implementation: "aws-lc" is the only one.
    pub crypto_backend: String,
    /// Whether a derived key is extractable when its template does not say.
    pub derived_keys_extractable_by_default: bool,
}

impl Default for AlgorithmsTable {
    fn default() -> Self {
        AlgorithmsTable {
            allow_weak_rsa: false,
            allow_sha1_signing: false,
            allow_legacy: false,
            enable_pqc: true,
            fips_approved_only: false,
            crypto_backend: "aws-lc".into(),
            derived_keys_extractable_by_default: false,
        }
    }
}

impl AlgorithmsTable {
    /// Checks that no value contradicts another.
    pub(super) fn resolve(&self) -> Result<AlgorithmsConfig, ConfigError> {
        if self.crypto_backend != "aws-lc" {
            return Err(ConfigError::NotOffered {
                key: format!("algorithms.crypto_backend = {:?}", self.crypto_backend),
                instead: "the only implementation is \"aws-lc\"; remove the line",
            });
        }
        for (key, open) in [
            ("algorithms.allow_weak_rsa", self.allow_weak_rsa),
            ("algorithms.allow_sha1_signing", self.allow_sha1_signing),
            ("algorithms.allow_legacy", self.allow_legacy),
        ] {
            if self.fips_approved_only && open {
                return Err(ConfigError::NotOffered {
                    key: format!("{key} = true together with algorithms.fips_approved_only"),
                    instead: "one of the two must go",
                });
            }
        }
        Ok(AlgorithmsConfig {
            allow_weak_rsa: self.allow_weak_rsa,
            allow_sha1_signing: self.allow_sha1_signing,
            allow_legacy: self.allow_legacy,
            enable_pqc: self.enable_pqc,
            fips_approved_only: self.fips_approved_only,
            derived_keys_extractable_by_default: self.derived_keys_extractable_by_default,
        })
    }
}

/// Which algorithms are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlgorithmsConfig {
    /// RSA keys under 2048 bits.
    pub allow_weak_rsa: bool,
    /// Signatures over SHA-1 digests.
    pub allow_sha1_signing: bool,
    /// MD5 and triple DES.
    pub allow_legacy: bool,
    /// ML-DSA and its kin.
    pub enable_pqc: bool,
    /// Only approved mechanisms and key sizes.
    pub fips_approved_only: bool,
    /// Whether a derived key is extractable when its template does not say.
    pub derived_keys_extractable_by_default: bool,
}
