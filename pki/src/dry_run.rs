//! Profiles for people: what there is, and the certificate that a request would get. Nothing is signed and nothing is stored.

use crate::ca::serial;
use crate::clock::{DAY_SECONDS, instant, instant_text};
use crate::config::Config;
use crate::est::codec;
use crate::profile::names::text;
use crate::profile::preset::PRESETS;
use crate::profile::{Profile, Requested, Validity};
use crate::x509::csr::VerifiedCsr;
use crate::x509::lint::{self, IssuerFacts, Linted, Role};
use crate::x509::tbs::CertificateContents;
use crate::x509::{der_of_pem, extension, hex, name, tbs};
use der::Encode;
use serde_json::{Value, json};
use spki::AlgorithmIdentifierOwned;
use std::path::Path;
use x509_cert::ext::Extension;
use x509_cert::name::Name;

/// All profiles of a configuration, and the presets they may start from.
pub(crate) fn list(config: &Config) -> Value {
    let items: Vec<Value> = config.profiles.values().map(|profile| json!({
        "id": profile.name,
        "kind": profile.preset.row().word,
        "key": profile.key_words().join(", "),
        "labels": config.est.labels.iter().filter(|(_, label)| label.profile == profile.name).map(|(name, _)| name).collect::<Vec<_>>(),
    })).collect();
    json!({ "items": items, "next": null })
}

/// The presets.
pub(crate) fn presets() -> Value {
    let items: Vec<Value> = PRESETS
        .iter()
        .map(|row| json!({ "id": row.word, "purpose": row.purpose, "validity_days": row.validity_days }))
        .collect();
    json!({ "items": items, "next": null })
}

/// One profile, with everything that was not written.
pub(crate) fn show(profile: &Profile) -> Value {
    let oids = |list: &[const_oid::ObjectIdentifier]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "id": profile.name,
        "preset": profile.preset.row().word,
        "purpose": profile.preset.row().purpose,
        "valid": match profile.validity {
            Validity::Seconds(seconds) => format!("{} days", seconds / DAY_SECONDS),
            Validity::Until(until) => format!("until {}", instant_text(until)),
        },
        "keys": if profile.keys.is_empty() { vec!["any that is strong enough".to_owned()] } else { profile.key_words() },
        "subject_attributes": oids(&profile.subject_attributes),
        "subject_fixed": profile.subject_fixed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "dns_suffixes": profile.names.dns_suffixes,
        "uri_prefixes": profile.names.uri_prefixes,
        "hardware_module_types": oids(&profile.names.hardware_types),
        "permanent_identifier_assigners": oids(&profile.names.assigners),
        "key_usage": profile.usages.iter().map(|usage| format!("{usage:?}")).collect::<Vec<_>>(),
        "extended_key_usage": oids(&profile.purposes),
        "policies": oids(&profile.policies),
        "extensions": oids(&profile.extensions.iter().map(|extension| extension.extn_id).collect::<Vec<_>>()),
        "refuse_other_extensions": profile.requested == Requested::Refused,
        "revoke_on_reenroll": profile.revoke_on_reenroll,
    })
}

/// The certificate that a request would get by a profile.
///
/// # Errors
/// The sentence that the device would read.
pub(crate) fn test(config: &Config, profile: &Profile, path: &Path, now: i64) -> Result<Value, String> {
    let bytes = std::fs::read(path).map_err(|fault| format!("{}: {fault}", path.display()))?;
    let csr = VerifiedCsr::verify(&der(bytes)).map_err(|fault| fault.to_string())?;
    profile.judge(&csr).map_err(|fault| fault.to_string())?;
    let named = profile.named(&csr).map_err(|fault| fault.to_string())?;
    let extensions = profile.extensions(csr.spki(), &named.subject, &named.names).map_err(|fault| fault.to_string())?;
    let shown: Vec<Value> = extensions
        .iter()
        .map(|extension| {
            json!({
                "id": extension.extn_id.to_string(),
                "critical": extension.critical,
                "der": hex(extension.extn_value.as_bytes()),
            })
        })
        .collect();
    let not_after = now.saturating_add(profile.validity_seconds(now));
    let answer = json!({
        "device": named.id,
        "subject": name::text(&named.subject),
        "names": named.names.iter().map(text).collect::<Vec<_>>(),
        "not_before": instant(now),
        "not_after": instant(not_after),
        "extensions": shown,
    });
    let imagined = Imagined {
        issuer: &config.issuing.subject,
        algorithm: config.issuing.key.signature_algorithm(),
        base_url: &config.crl.base_url,
        validity: (now, not_after),
    };
    imagined.certificate(&csr, &named.subject, extensions).map(drop)?;
    Ok(answer)
}

/// An issuer of which only this is known.
pub(crate) struct Imagined<'a> {
    /// Its name.
    pub(crate) issuer: &'a Name,
    /// How it signs.
    pub(crate) algorithm: AlgorithmIdentifierOwned,
    /// Where its CRL is.
    pub(crate) base_url: &'a str,
    /// From when to when it issues.
    pub(crate) validity: (i64, i64),
}

impl Imagined<'_> {
    /// The to-be-signed certificate, after the linter.
    ///
    /// # Errors
    /// The linter's findings.
    pub(crate) fn certificate(
        &self,
        csr: &VerifiedCsr,
        subject: &Name,
        extensions: Vec<Extension>,
    ) -> Result<Linted, String> {
        let say = |fault: der::Error| fault.to_string();
        let issuer_key_id = [0; 20];
        let mut all = vec![
            extension::subject_key_identifier(&extension::key_identifier(csr.spki())).map_err(say)?,
            extension::authority_key_identifier(&issuer_key_id).map_err(say)?,
        ];
        all.extend(extensions);
        if !all.iter().any(|extension| extension.extn_id == extension::CRL_DISTRIBUTION_POINTS) {
            all.push(extension::crl_distribution_point(&format!("{}/crl/issuing.crl", self.base_url)).map_err(say)?);
        }
        let (not_before, not_after) = self.validity;
        let contents = CertificateContents {
            serial: serial::fresh().map_err(|fault| fault.to_string())?,
            algorithm: self.algorithm.clone(),
            issuer: self.issuer.clone(),
            not_before,
            not_after,
            subject: subject.clone(),
            spki: csr.spki().clone(),
            extensions: all,
        };
        let name_der = self.issuer.to_der().map_err(say)?;
        let issuer = IssuerFacts { name_der: &name_der, key_id: &issuer_key_id, not_after };
        let tbs = tbs::certificate(contents).map_err(say)?;
        lint::pass(tbs, Role::EndEntity, &issuer).map_err(|findings| findings.to_string())
    }
}

/// The DER in a file of PEM, base64 or DER.
fn der(bytes: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8_lossy(&bytes);
    // The second is what older programs write.
    let in_pem = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"].iter().find_map(|label| der_of_pem(&text, label));
    in_pem.or_else(|| codec::decode(&bytes)).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_pem_base64_and_der() {
        let rows: [&[u8]; 6] = [
            b"0\x82",
            b"MII=",
            b"M\r\nII=\n",
            b"-----BEGIN CERTIFICATE REQUEST-----\nMII=\n-----END CERTIFICATE REQUEST-----\n",
            b"-----BEGIN NEW CERTIFICATE REQUEST-----\nMII=\n-----END NEW CERTIFICATE REQUEST-----\n",
            // As `openssl req -text` writes it.
            b"Certificate Request:\n    Data:\n-----BEGIN CERTIFICATE REQUEST-----\nMII=\n-----END CERTIFICATE REQUEST-----\n",
        ];
        for row in rows {
            assert_eq!(der(row.to_vec()), b"0\x82", "{}", String::from_utf8_lossy(row));
        }
    }
}
