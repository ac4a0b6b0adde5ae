//! What a stranger's certificate may be: what is honoured of a request, what is imposed and what is refused.
//!
//! A profile is judged once, when the configuration is read. Here it meets requests; it knows no store, no clock and no key.

pub(crate) mod names;
pub(crate) mod preset;
pub(crate) mod written;

use crate::x509::algorithm::{KeyKind, judge_key, rsa_modulus_bits};
use crate::x509::csr::VerifiedCsr;
use crate::x509::extension;
use crate::x509::name::{self, NameFault};
use const_oid::ObjectIdentifier;
use names::NameRules;
use preset::Preset;
use spki::SubjectPublicKeyInfoOwned;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::KeyUsages;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

/// What a certificate may be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Profile {
    /// Its name.
    pub(crate) name: String,
    /// What it starts from.
    pub(crate) preset: Preset,
    /// The authority that issues them.
    pub(crate) authority: String,
    /// How long certificates are good.
    pub(crate) validity: Validity,
    /// Subject attributes that are honoured; the others of a request are left out.
    pub(crate) subject_attributes: Vec<ObjectIdentifier>,
    /// Subject attributes that every certificate has, before those of the request.
    pub(crate) subject_fixed: Vec<AttributeTypeAndValue>,
    /// Names in subjectAltName that are honoured; any other refuses the request.
    pub(crate) names: NameRules,
    /// Kinds of keys that are accepted, the preferred first; empty for every kind that is strong enough.
    pub(crate) keys: Vec<KeyRule>,
    /// Bits of keyUsage, as far as the key can do them.
    pub(crate) usages: Vec<KeyUsages>,
    /// Purposes in extKeyUsage.
    pub(crate) purposes: Vec<ObjectIdentifier>,
    /// CRL addresses instead of those of the authority.
    pub(crate) distribution_points: Vec<String>,
    /// Where the issuer's certificate is.
    pub(crate) ca_issuers: Vec<String>,
    /// Where OCSP is answered.
    pub(crate) ocsp: Vec<String>,
    /// Certificate policies.
    pub(crate) policies: Vec<ObjectIdentifier>,
    /// Extensions that every certificate has.
    pub(crate) extensions: Vec<Extension>,
    /// What becomes of extensions that a request asks for and the profile does not give.
    pub(crate) requested: Requested,
    /// Whether the old certificate goes on the CRL at a re-enrolment.
    pub(crate) revoke_on_reenroll: bool,
}

/// How long certificates are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    /// This many seconds from now.
    Seconds(i64),
    /// Until this instant, seconds since 1970.
    Until(i64),
}

/// What becomes of extensions that are asked for and not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requested {
    /// The certificate is issued without them.
    Ignored,
    /// The request is refused.
    Refused,
}

/// A kind of key that is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyRule {
    /// This kind, of one size.
    Exactly(KeyKind),
    /// RSA of at least this many bits.
    RsaFrom(u32),
}

/// Why a request does not fit its profile. Each has a stable code in `est/error.rs`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProfileFault {
    /// The subject is not acceptable.
    #[error(transparent)]
    Subject(#[from] NameFault),
    /// A name has a bad form.
    #[error("{0}")]
    NameMalformed(String),
    /// A name asked for is outside the profile.
    #[error("the name '{0}' is not allowed by the profile")]
    NameNotPermitted(String),
    /// The profile needs a name that is not asked for.
    #[error("{0}")]
    NameMissing(&'static str),
    /// The kind of key is not accepted.
    #[error("the profile accepts keys of these kinds only: {0}")]
    KeyNotPermitted(String),
    /// An extension is asked for that the profile does not give.
    #[error("the extension {0} is not allowed by the profile")]
    ExtensionNotPermitted(String),
    /// The profile does not encode.
    #[error("an extension of the profile does not encode: {0}")]
    Encoding(String),
}

/// Whom a certificate names, and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Named {
    /// Under which identity the device is kept.
    pub(crate) id: String,
    /// Subject to certify.
    pub(crate) subject: Name,
    /// Names to certify.
    pub(crate) names: Vec<GeneralName>,
}

impl Profile {
    /// Judges everything in a request but its names: key and extensions.
    ///
    /// # Errors
    /// What is not permitted.
    pub(crate) fn judge(&self, csr: &VerifiedCsr) -> Result<(), ProfileFault> {
        if !self.accepts(csr.spki()) {
            return Err(ProfileFault::KeyNotPermitted(self.key_words().join(", ")));
        }
        if self.requested == Requested::Refused {
            let given = self.given();
            if let Some(other) = csr.requested().iter().find(|asked| !given.contains(asked)) {
                return Err(ProfileFault::ExtensionNotPermitted(other.to_string()));
            }
        }
        Ok(())
    }

    /// Judges the names a request asks for, in its subject or its ChangeSubjectName.
    ///
    /// # Errors
    /// What is missing or not permitted.
    pub(crate) fn named(&self, csr: &VerifiedCsr) -> Result<Named, ProfileFault> {
        let change = csr.change_of_name();
        let subject = change.and_then(|change| change.subject.as_ref()).unwrap_or(csr.subject());
        let names = change.and_then(|change| change.alt_names.as_deref()).unwrap_or(csr.alt_names());
        let device = name::device_name(subject, &self.subject_attributes, &self.subject_fixed)?;
        self.names.judge(names)?;
        if self.preset.row().needs_serial_number && !name::has_attribute(&device.subject, name::SERIAL_NUMBER) {
            return Err(ProfileFault::NameMissing("the subject needs a serialNumber"));
        }
        if self.preset.row().needs_names {
            self.names.covers_common_name(&device.subject, names)?;
        }
        Ok(Named { id: device.id, subject: device.subject, names: names.to_vec() })
    }

    /// How many seconds a certificate is good that is issued now.
    pub(crate) fn validity_seconds(&self, now: i64) -> i64 {
        match self.validity {
            Validity::Seconds(seconds) => seconds,
            Validity::Until(instant) => instant.saturating_sub(now),
        }
    }

    /// The extensions this profile gives, besides the key identifiers and what the authority adds.
    ///
    /// # Errors
    /// A value without an encoding.
    pub(crate) fn extensions(
        &self,
        spki: &SubjectPublicKeyInfoOwned,
        subject: &Name,
        names: &[GeneralName],
    ) -> Result<Vec<Extension>, ProfileFault> {
        self.encode(spki, subject, names).map_err(|fault| ProfileFault::Encoding(fault.to_string()))
    }

    fn encode(
        &self,
        spki: &SubjectPublicKeyInfoOwned,
        subject: &Name,
        names: &[GeneralName],
    ) -> der::Result<Vec<Extension>> {
        let mut list = vec![
            extension::basic_constraints_end_entity()?,
            extension::key_usage(&self.usages_of(judge_key(spki).ok()))?,
        ];
        if !self.purposes.is_empty() {
            list.push(extension::extended_key_usage(&self.purposes)?);
        }
        if self.preset == Preset::OcspResponder {
            list.push(extension::ocsp_no_check()?);
        }
        if !names.is_empty() {
            list.push(extension::general_names(names, subject.is_empty())?);
        }
        if !self.policies.is_empty() {
            list.push(extension::certificate_policies(&self.policies)?);
        }
        if !self.distribution_points.is_empty() {
            list.push(extension::crl_distribution_points(&self.distribution_points)?);
        }
        if !self.ca_issuers.is_empty() || !self.ocsp.is_empty() {
            list.push(extension::authority_information_access(&self.ca_issuers, &self.ocsp)?);
        }
        list.extend(self.extensions.iter().cloned());
        Ok(list)
    }

    /// The usages of the profile that a key of this kind can do (RFC 9881 section 5 for ML-DSA, RFC 9935 for ML-KEM, RFC 8410
    /// section 5 for Ed25519).
    pub(crate) fn usages_of(&self, kind: Option<KeyKind>) -> Vec<KeyUsages> {
        let fits = |usage: &KeyUsages| match usage {
            KeyUsages::KeyEncipherment => matches!(kind, Some(KeyKind::Rsa | KeyKind::MlKem(_))),
            KeyUsages::DataEncipherment => kind == Some(KeyKind::Rsa),
            KeyUsages::KeyAgreement => matches!(kind, Some(KeyKind::EcP256 | KeyKind::EcP384 | KeyKind::EcP521)),
            _ => !matches!(kind, Some(KeyKind::MlKem(_))),
        };
        self.usages.iter().copied().filter(fits).collect()
    }

    /// True when a certificate is issued for keys of this kind and size.
    pub(crate) fn accepts(&self, spki: &SubjectPublicKeyInfoOwned) -> bool {
        let Ok(kind) = judge_key(spki) else { return false };
        self.keys.is_empty()
            || self.keys.iter().any(|rule| match rule {
                KeyRule::Exactly(wanted) => *wanted == kind,
                KeyRule::RsaFrom(bits) => {
                    rsa_modulus_bits(spki).is_some_and(|modulus| kind == KeyKind::Rsa && modulus >= *bits)
                }
            })
    }

    /// The accepted kinds in the words of the configuration.
    pub(crate) fn key_words(&self) -> Vec<String> {
        self.keys.iter().map(KeyRule::word).collect()
    }

    /// The extensions that a certificate of this profile has anyway.
    fn given(&self) -> Vec<ObjectIdentifier> {
        let mut given = extension::ALWAYS_GIVEN.to_vec();
        given.extend(self.extensions.iter().map(|extension| extension.extn_id));
        given
    }
}

impl KeyRule {
    /// The rule in the words of the configuration.
    pub(crate) fn word(&self) -> String {
        match self {
            Self::Exactly(KeyKind::EcP256) => "ec:P-256".to_owned(),
            Self::Exactly(KeyKind::EcP384) => "ec:P-384".to_owned(),
            Self::Exactly(KeyKind::EcP521) => "ec:P-521".to_owned(),
            Self::Exactly(KeyKind::Ed25519) => "ed25519".to_owned(),
            Self::Exactly(KeyKind::MlDsa(set)) => format!("ml-dsa-{set}"),
            Self::Exactly(KeyKind::MlKem(set)) => format!("ml-kem-{set}"),
            Self::Exactly(KeyKind::Rsa) => "rsa".to_owned(),
            Self::RsaFrom(bits) => format!("rsa:{bits}"),
        }
    }
}
