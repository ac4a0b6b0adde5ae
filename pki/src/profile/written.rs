//! A profile as written in the configuration, and what is meant by it.

use super::names::{NameRules, Network};
use super::preset::Preset;
use super::{KeyRule, Profile, Requested, Validity};
use crate::clock::DAY_SECONDS;
use crate::store::record::ISSUING;
use crate::x509::algorithm::KeyKind;
use crate::x509::csr::is_host_name;
use crate::x509::general_name::is_uri;
use crate::x509::{extension, name, year_9999};
use const_oid::ObjectIdentifier;
use data_encoding::HEXLOWER_PERMISSIVE;
use der::asn1::OctetString;
use der::{AnyRef, Decode};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::str::FromStr;
use time::format_description::well_known::Rfc3339;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::KeyUsages;
use x509_cert::name::Name;

/// `[profiles.NAME]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenProfile {
    #[serde(default = "default_preset")]
    preset: String,
    #[serde(default = "default_authority")]
    authority: String,
    validity_days: Option<u32>,
    valid_until: Option<String>,
    subject_attributes: Option<Vec<String>>,
    #[serde(default)]
    subject_fixed: String,
    #[serde(default)]
    dns_suffixes: Vec<String>,
    #[serde(default)]
    ip_networks: Vec<String>,
    #[serde(default)]
    uri_prefixes: Vec<String>,
    #[serde(default)]
    hardware_module_types: Vec<String>,
    #[serde(default)]
    permanent_identifier_assigners: Vec<String>,
    #[serde(default)]
    keys: Vec<String>,
    key_usage: Option<Vec<String>>,
    extended_key_usage: Option<Vec<String>>,
    #[serde(default)]
    crl_urls: Vec<String>,
    #[serde(default)]
    ca_issuers_urls: Vec<String>,
    #[serde(default)]
    ocsp_urls: Vec<String>,
    #[serde(default)]
    policies: Vec<String>,
    #[serde(default)]
    extensions: Vec<WrittenExtension>,
    #[serde(default)]
    refuse_other_extensions: bool,
    #[serde(default)]
    revoke_on_reenroll: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenExtension {
    oid: String,
    #[serde(default)]
    critical: bool,
    der: String,
}

fn default_authority() -> String {
    ISSUING.to_owned()
}
fn default_preset() -> String {
    "device".to_owned()
}

/// The usages of end entities, with their names in the configuration (RFC 5280 section 4.2.1.3).
const USAGES: &[(&str, KeyUsages)] = &[
    ("digitalSignature", KeyUsages::DigitalSignature),
    ("nonRepudiation", KeyUsages::NonRepudiation),
    ("keyEncipherment", KeyUsages::KeyEncipherment),
    ("dataEncipherment", KeyUsages::DataEncipherment),
    ("keyAgreement", KeyUsages::KeyAgreement),
];

/// The kinds of keys, with their names in the configuration.
const KEYS: &[(&str, KeyRule)] = &[
    ("ec:P-256", KeyRule::Exactly(KeyKind::EcP256)),
    ("ec:P-384", KeyRule::Exactly(KeyKind::EcP384)),
    ("ec:P-521", KeyRule::Exactly(KeyKind::EcP521)),
    ("rsa:2048", KeyRule::RsaFrom(2048)),
    ("rsa:3072", KeyRule::RsaFrom(3072)),
    ("rsa:4096", KeyRule::RsaFrom(4096)),
    ("ed25519", KeyRule::Exactly(KeyKind::Ed25519)),
    ("ml-dsa-44", KeyRule::Exactly(KeyKind::MlDsa(44))),
    ("ml-dsa-65", KeyRule::Exactly(KeyKind::MlDsa(65))),
    ("ml-dsa-87", KeyRule::Exactly(KeyKind::MlDsa(87))),
    ("ml-kem-512", KeyRule::Exactly(KeyKind::MlKem(512))),
    ("ml-kem-768", KeyRule::Exactly(KeyKind::MlKem(768))),
    ("ml-kem-1024", KeyRule::Exactly(KeyKind::MlKem(1024))),
];

/// What is meant by the profiles of a configuration. `most_seconds` is how long their authority lives.
///
/// # Errors
/// The first wrong key with a sentence.
pub(crate) fn profiles(
    written: BTreeMap<String, WrittenProfile>,
    most_seconds: i64,
) -> Result<BTreeMap<String, Profile>, String> {
    let mut profiles = BTreeMap::new();
    for (name, profile) in written {
        let meant = profile.mean(&name, most_seconds).map_err(|fault| format!("profiles.{name}.{fault}"))?;
        profiles.insert(name, meant);
    }
    Ok(profiles)
}

impl WrittenProfile {
    fn mean(self, name: &str, most_seconds: i64) -> Result<Profile, String> {
        let preset = Preset::parse(&self.preset).map_err(|fault| format!("preset: {fault}"))?;
        let row = preset.row();
        // Another authority lives as long as it was made for: what is longer is cut when it issues.
        let most_seconds = if self.authority == ISSUING { most_seconds } else { i64::MAX };
        let subject_fixed = fixed(&self.subject_fixed)?;
        let names = NameRules {
            dns_suffixes: hosts(self.dns_suffixes)?,
            networks: each("ip_networks", &self.ip_networks, Network::parse)?,
            uri_prefixes: uris("uri_prefixes", self.uri_prefixes)?,
            hardware_types: each("hardware_module_types", &self.hardware_module_types, oid)?,
            assigners: each("permanent_identifier_assigners", &self.permanent_identifier_assigners, oid)?,
        };
        let usages = match &self.key_usage {
            Some(words) => each("key_usage", words, |word| row_of("usage", USAGES, word))?,
            None => row.usages.to_vec(),
        };
        if usages.is_empty() {
            return Err("key_usage is empty: the certificate would be good for nothing".to_owned());
        }
        let keys = each("keys", &self.keys, |word| row_of("kind of key", KEYS, word))?;
        let enciphers = usages.contains(&KeyUsages::KeyEncipherment);
        if !enciphers && keys.iter().any(|rule| matches!(rule, KeyRule::Exactly(KeyKind::MlKem(_)))) {
            return Err("keys: ML-KEM keys are for keyEncipherment alone, which is not in key_usage".to_owned());
        }
        let purposes = match &self.extended_key_usage {
            Some(words) => each("extended_key_usage", words, purpose)?,
            None => row.purposes.to_vec(),
        };
        if purposes.is_empty() {
            return Err("extended_key_usage is empty: name the purposes".to_owned());
        }
        Ok(Profile {
            name: name.to_owned(),
            preset,
            authority: self.authority,
            validity: validity(self.validity_days, self.valid_until.as_deref(), row.validity_days, most_seconds)?,
            subject_attributes: attributes(self.subject_attributes.as_deref(), &subject_fixed)?,
            subject_fixed,
            names,
            keys,
            usages,
            purposes,
            distribution_points: addresses("crl_urls", self.crl_urls)?,
            ca_issuers: addresses("ca_issuers_urls", self.ca_issuers_urls)?,
            ocsp: addresses("ocsp_urls", self.ocsp_urls)?,
            policies: each("policies", &self.policies, oid)?,
            extensions: custom(self.extensions)?,
            requested: if self.refuse_other_extensions { Requested::Refused } else { Requested::Ignored },
            revoke_on_reenroll: self.revoke_on_reenroll,
        })
    }
}

fn each<T>(key: &str, words: &[String], read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    words.iter().map(|word| read(word).map_err(|fault| format!("{key}: {fault}"))).collect()
}

fn row_of<T: Copy>(what: &str, table: &[(&str, T)], word: &str) -> Result<T, String> {
    table.iter().find(|row| row.0 == word).map(|row| row.1).ok_or_else(|| {
        let words: Vec<_> = table.iter().map(|row| row.0).collect();
        format!("unknown {what} '{word}': use {}", words.join(", "))
    })
}

fn oid(text: &str) -> Result<ObjectIdentifier, String> {
    ObjectIdentifier::new(text).map_err(|_| format!("'{text}' is not an object identifier"))
}

fn purpose(word: &str) -> Result<ObjectIdentifier, String> {
    let found = match extension::PURPOSES.iter().find(|row| row.0 == word) {
        Some(row) => row.1,
        None => oid(word)?,
    };
    if found == extension::ANY_EXTENDED_KEY_USAGE {
        return Err("anyExtendedKeyUsage is never given".to_owned());
    }
    Ok(found)
}

fn validity(
    days: Option<u32>,
    until: Option<&str>,
    preset_days: Option<u32>,
    most_seconds: i64,
) -> Result<Validity, String> {
    let seconds = |days: u32| i64::from(days) * DAY_SECONDS;
    match (days, until, preset_days) {
        (Some(_), Some(_), _) => Err("validity_days and valid_until cannot both be given".to_owned()),
        (Some(days), None, _) if !(1..=36_500).contains(&days) => {
            Err("validity_days must be 1 to 36500 days".to_owned())
        }
        (Some(days), None, _) if seconds(days) > most_seconds => {
            Err("validity_days is longer than ca.issuing.validity_days".to_owned())
        }
        (Some(days), None, _) => Ok(Validity::Seconds(seconds(days))),
        (None, Some(date), _) => {
            let instant = time::OffsetDateTime::parse(date, &Rfc3339)
                .map_err(|_| format!("valid_until: '{date}' is not a date like 2030-12-31T23:59:59Z"))?;
            Ok(Validity::Until(instant.unix_timestamp()))
        }
        (None, None, Some(days)) => Ok(Validity::Seconds(seconds(days).min(most_seconds))),
        (None, None, None) => Ok(Validity::Until(year_9999())),
    }
}

/// The attributes that every certificate has, in the order they are written.
fn fixed(text: &str) -> Result<Vec<AttributeTypeAndValue>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let parsed = Name::from_str(text).map_err(|fault| format!("subject_fixed: {fault}"))?;
    let fixed: Vec<_> = parsed.iter().cloned().collect();
    let named = |attribute: &AttributeTypeAndValue| name::ATTRIBUTES.iter().any(|row| row.1 == attribute.oid);
    if !fixed.iter().all(named) {
        return Err("subject_fixed: use the attributes that subject_attributes knows".to_owned());
    }
    if fixed.iter().any(|attribute| [name::COMMON_NAME, name::SERIAL_NUMBER].contains(&attribute.oid)) {
        return Err("subject_fixed: CN and serialNumber name the device and cannot be the same for all".to_owned());
    }
    Ok(fixed)
}

fn attributes(words: Option<&[String]>, fixed: &[AttributeTypeAndValue]) -> Result<Vec<ObjectIdentifier>, String> {
    let Some(words) = words else { return Ok(vec![name::COMMON_NAME, name::SERIAL_NUMBER]) };
    let honoured = each("subject_attributes", words, |word| row_of("attribute", name::ATTRIBUTES, word))?;
    if !honoured.iter().any(|oid| [name::COMMON_NAME, name::SERIAL_NUMBER].contains(oid)) {
        return Err("subject_attributes: CN or serialNumber must be among them, they name the device".to_owned());
    }
    if fixed.iter().any(|attribute| honoured.contains(&attribute.oid)) {
        return Err("subject_attributes: an attribute of subject_fixed cannot be honoured too".to_owned());
    }
    Ok(honoured)
}

fn hosts(suffixes: Vec<String>) -> Result<Vec<String>, String> {
    match suffixes.iter().find(|suffix| !is_host_name(suffix)) {
        Some(bad) => Err(format!("dns_suffixes: '{bad}' is not a lower-case host name")),
        None => Ok(suffixes),
    }
}

fn uris(key: &str, prefixes: Vec<String>) -> Result<Vec<String>, String> {
    match prefixes.iter().find(|prefix| !is_uri(prefix)) {
        Some(bad) => Err(format!("{key}: '{bad}' is not the begin of a URI")),
        None => Ok(prefixes),
    }
}

fn addresses(key: &str, urls: Vec<String>) -> Result<Vec<String>, String> {
    match urls.iter().find(|url| !url.starts_with("http://") || !is_uri(url)) {
        Some(bad) => {
            Err(format!("{key}: '{bad}' must begin with http:// (what is fetched there carries its own signature)"))
        }
        None => Ok(urls),
    }
}

fn custom(written: Vec<WrittenExtension>) -> Result<Vec<Extension>, String> {
    let mut list: Vec<Extension> = Vec::new();
    for WrittenExtension { oid: id, critical, der } in written {
        let fault = |why: &str| format!("extensions: {id}: {why}");
        let extn_id = oid(&id).map_err(|why| fault(&why))?;
        if extension::WRITTEN_BY_US.contains(&extn_id) || list.iter().any(|other| other.extn_id == extn_id) {
            return Err(fault("is given by other keys of the profile, or twice"));
        }
        let value = HEXLOWER_PERMISSIVE.decode(der.as_bytes()).map_err(|_| fault("'der' must be hexadecimal"))?;
        AnyRef::from_der(&value).map_err(|_| fault("'der' must be one DER value"))?;
        let extn_value = OctetString::new(value).map_err(|_| fault("is too long"))?;
        list.push(Extension { extn_id, critical, extn_value });
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: i64 = 3650 * DAY_SECONDS;

    fn read(text: &str) -> Result<Profile, String> {
        let written: WrittenProfile = toml::from_str(text).map_err(|fault| fault.to_string())?;
        profiles(BTreeMap::from([("p".to_owned(), written)]), MOST).map(|mut all| all.remove("p").expect("p"))
    }

    #[test]
    fn presets_give_what_is_not_written() {
        let device = read("").expect("parses");
        assert_eq!((device.preset, device.validity), (Preset::Device, Validity::Seconds(365 * DAY_SECONDS)));
        assert_eq!(device.purposes, [extension::CLIENT_AUTH]);
        assert_eq!(read("preset = \"idevid\"").expect("parses").validity, Validity::Until(year_9999()));
        assert_eq!(read("preset = \"ra\"").expect("parses").purposes, [extension::CLIENT_AUTH, extension::CMC_RA]);
        let dated = read("valid_until = \"2030-01-01T00:00:00Z\"").expect("parses");
        assert_eq!(dated.validity_seconds(1_893_455_000), 1_000);
    }

    #[test]
    fn each_bad_value_is_named() {
        for (text, named) in [
            ("preset = \"root\"", "preset"),
            ("validity_days = 0", "validity_days"),
            ("validity_days = 9999", "validity_days"),
            ("validity_days = 9\nvalid_until = \"2030-01-01T00:00:00Z\"", "valid_until"),
            ("valid_until = \"2030\"", "valid_until"),
            ("dns_suffixes = [\"*.example\"]", "dns_suffixes"),
            ("ip_networks = [\"10.0.0.0\"]", "ip_networks"),
            ("uri_prefixes = [\"x y\"]", "uri_prefixes"),
            ("keys = [\"rsa:1024\"]", "keys"),
            ("keys = [\"ml-kem-768\"]\nkey_usage = [\"digitalSignature\"]", "keyEncipherment"),
            ("key_usage = [\"keyCertSign\"]", "key_usage"),
            ("extended_key_usage = [\"2.5.29.37.0\"]", "extended_key_usage"),
            ("extended_key_usage = []", "extended_key_usage"),
            ("subject_attributes = [\"O\"]", "subject_attributes"),
            ("subject_fixed = \"CN=all\"", "subject_fixed"),
            ("subject_fixed = \"O=a\"\nsubject_attributes = [\"CN\", \"O\"]", "subject_attributes"),
            ("crl_urls = [\"https://x/\"]", "crl_urls"),
            ("policies = [\"x\"]", "policies"),
            ("extensions = [{ oid = \"2.5.29.19\", der = \"3000\" }]", "extensions"),
            ("extensions = [{ oid = \"1.2.3\", der = \"30\" }]", "extensions"),
            ("color = \"red\"", "color"),
        ] {
            let fault = read(text).expect_err(text);
            assert!(fault.contains(named), "{text}: {fault}");
        }
    }
}
