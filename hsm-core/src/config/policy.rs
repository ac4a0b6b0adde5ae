//! `[policy]`: what keys may do. Safe by default; each switch is opened by name and only in the profile "compat".

use super::{ConfigError, range};
use serde::Deserialize;

/// How strict the token is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// A secret leaves only under a key made for that; ordinary tools keep working.
    #[default]
    Safe,
    /// Switches may be opened one by one, for programs that need it.
    Compat,
    /// Also refuses conflicting templates, caller-chosen GCM IVs, PKCS#1 v1.5 decryption.
    Strict,
}

macro_rules! switches {
    ($($(#[$doc:meta])* $name:ident: $closed:literal;)*) => {
        /// `[policy]` as written.
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct PolicyTable {
            /// How strict the token is.
            pub profile: Profile,
            /// Smallest RSA wrapping key in bits: 3072; 2048 in the profile "compat".
            pub wrap_rsa_min: Option<u32>,
            /// Shortest MAC in bytes: 8; less in the profile "compat".
            pub mac_min_bytes: Option<u32>,
            /// Shortest GCM tag in bits: 96; less in the profile "compat".
            pub gcm_min_tag_bits: Option<u32>,
            $($(#[$doc])* pub $name: Option<bool>,)*
        }

        /// What keys may do.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct PolicyConfig {
            /// How strict the token is.
            pub profile: Profile,
            /// Smallest RSA wrapping key for a sensitive key, in bits.
            pub wrap_rsa_min: u32,
            /// Shortest MAC, in bytes.
            pub mac_min_bytes: u32,
            /// Shortest GCM tag, in bits.
            pub gcm_min_tag_bits: u32,
            $($(#[$doc])* pub $name: bool,)*
        }

        impl Default for PolicyConfig {
            fn default() -> Self {
                PolicyConfig {
                    profile: Profile::Safe,
                    wrap_rsa_min: 3072,
                    mac_min_bytes: 8,
                    gcm_min_tag_bits: 96,
                    $($name: $closed,)*
                }
            }
        }

        impl PolicyTable {
            /// Checks that only the profile "compat" opens anything.
            pub(super) fn resolve(self) -> Result<PolicyConfig, ConfigError> {
                let closed = PolicyConfig::default();
                let config = PolicyConfig {
                    profile: self.profile,
                    wrap_rsa_min: self.wrap_rsa_min.unwrap_or(closed.wrap_rsa_min),
                    mac_min_bytes: self.mac_min_bytes.unwrap_or(closed.mac_min_bytes),
                    gcm_min_tag_bits: self.gcm_min_tag_bits.unwrap_or(closed.gcm_min_tag_bits),
                    $($name: self.$name.unwrap_or($closed),)*
                };
                config.check()
            }
        }

        impl PolicyConfig {
            /// The switches that are opened, for the journal and the doctor.
            pub fn opened(&self) -> Vec<&'static str> {
                let closed = PolicyConfig::default();
                let mut opened = Vec::new();
                $(if self.$name != closed.$name {
                    opened.push(stringify!($name));
                })*
                for (name, less) in [
                    ("wrap_rsa_min", self.wrap_rsa_min < closed.wrap_rsa_min),
                    ("mac_min_bytes", self.mac_min_bytes < closed.mac_min_bytes),
                    ("gcm_min_tag_bits", self.gcm_min_tag_bits < closed.gcm_min_tag_bits),
                ] {
                    if less {
                        opened.push(name);
                    }
                }
                opened
            }
        }
    };
}

switches! {
    /// False lets a key that wraps also encrypt, decrypt, sign or derive, and still wrap sensitive keys.
    wrap_role_separation: true;
    /// True lets C_SetAttributeValue and C_CopyObject turn usage attributes on.
    usage_bits_settable: false;
    /// False lets a public key without CKA_TRUSTED wrap sensitive keys.
    wrap_public_requires_trusted: true;
    /// True lets AES-CBC and AES-CBC-PAD wrap and unwrap.
    cbc_unwrap: false;
    /// False lets a key unwrapped by a sensitive key be readable.
    unwrap_secrecy_inherit: true;
    /// False lets an imported key wrap sensitive keys.
    wrap_requires_local: true;
    /// False lets a weaker key wrap a stronger one.
    wrap_strength_check: true;
    /// True lets RSA-OAEP with a hash under 256 bits, SHA-1 too, wrap sensitive keys.
    wrap_oaep_any_hash: false;
    /// True offers derivations that can expose parts of their base key.
    legacy_derive: false;
    /// False lets a base key that cannot be read give keys under 112 bits and pieces of itself, and encrypt beside it.
    derived_key_check: true;
    /// True lets C_DigestKey digest a sensitive key.
    digest_sensitive: false;
    /// True lets a caller use the same IV of AES-GCM or AES-CTR under the same key again.
    gcm_caller_iv: false;
    /// True offers CKM_RSA_X_509.
    raw_rsa: false;
    /// True lets CKM_RSA_PKCS unwrap.
    rsa_v15_unwrap: false;
    /// True shows CKA_CHECK_VALUE of sensitive keys.
    kcv: false;
    /// True admits RSA keys under 2048 bits and public exponents under 65537.
    allow_legacy_rsa: false;
}

impl PolicyConfig {
    fn check(self) -> Result<PolicyConfig, ConfigError> {
        if self.profile != Profile::Compat
            && let Some(first) = self.opened().first()
        {
            return Err(ConfigError::NotOffered {
                key: format!("policy.{first} with this value"),
                instead: "only profile = \"compat\" opens single switches",
            });
        }
        if self.wrap_rsa_min < 2048 {
            return Err(range("policy.wrap_rsa_min", self.wrap_rsa_min, "at least 2048 bits"));
        }
        if !(1..=64).contains(&self.mac_min_bytes) {
            return Err(range("policy.mac_min_bytes", self.mac_min_bytes, "1 to 64 bytes"));
        }
        if !(32..=128).contains(&self.gcm_min_tag_bits) || !self.gcm_min_tag_bits.is_multiple_of(8) {
            return Err(range("policy.gcm_min_tag_bits", self.gcm_min_tag_bits, "32 to 128 bits, in whole bytes"));
        }
        Ok(self)
    }
}
