//! May this device have this certificate now? A pure function of facts: it reads no clock and no store.

use super::auth::Requester;
use super::fault::AdmissionFault;
use super::label::{Label, Registration, Renewal};
use crate::profile::{Named, Profile};
use crate::store::lifecycle::{self, Event};
use crate::store::record::{Certificate, CertificateState, Device, DeviceState, KeyUse};
use crate::x509::algorithm::{KeyKind, judge_key};
use crate::x509::csr::{VerifiedCsr, name_set};
use crate::x509::name::same_name;
use der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

/// What the device may have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Admission {
    /// A certificate.
    Issue(Box<Grant>),
    /// The certificate that it was already given for the same request, whose answer it never saw: the old certificate is worth
    /// nothing any more, so without this a lost answer would lock the device out.
    Repeat {
        /// Serial number.
        serial: Vec<u8>,
    },
}

/// A certificate that may be issued.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Grant {
    /// The device as it will be; its `certificate` is filled in once the serial number is known.
    pub(crate) device: Device,
    /// Subject to certify.
    pub(crate) subject: Name,
    /// Alternative names to certify.
    pub(crate) names: Vec<GeneralName>,
    /// Serial number of the active certificate it replaces, empty when none.
    pub(crate) replaces: Vec<u8>,
    /// Which of the device's identities it is for.
    pub(crate) identity: Identity,
}

/// A device has one identity, or further ones that are linked with it (RFC 9763): for example an elliptic curve of today and ML-DSA beside it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Identity {
    /// The one that the device lives by.
    First,
    /// Another one.
    Second {
        /// The certificate of the first that it names; none when the request did not prove to hold it.
        names: Option<Box<Certificate>>,
        /// Serial number of the one before it, empty when none.
        before: Vec<u8>,
    },
}

impl Grant {
    /// The device once it has the certificate of this serial number.
    pub(crate) fn bound(&self, serial: &[u8]) -> Device {
        let mut device = self.device.clone();
        match &self.identity {
            Identity::First => device.certificate = serial.to_vec(),
            Identity::Second { before, .. } => {
                device.related.retain(|known| known != before);
                device.related.push(serial.to_vec());
            }
        }
        device
    }
}

/// CRL reason code of a certificate that was revoked because it was replaced (RFC 5280 section 5.3.1).
const SUPERSEDED: u32 = 4;

/// What is known when the question is asked.
pub(crate) struct Facts<'a> {
    /// Who asks.
    pub(crate) requester: &'a Requester,
    /// The request, its proof of possession verified.
    pub(crate) csr: &'a VerifiedCsr,
    /// The profile of the label.
    pub(crate) profile: &'a Profile,
    /// The label.
    pub(crate) label: &'a str,
    /// The rules of the label.
    pub(crate) rules: &'a Label,
    /// The device of the request, if it is known.
    pub(crate) device: Option<&'a Device>,
    /// The current certificate of that device, if it has one.
    pub(crate) current: Option<&'a Certificate>,
    /// The current certificate of its further identity of this label, if it has one.
    pub(crate) related: Option<&'a Certificate>,
    /// Who was certified with the key of the request before.
    pub(crate) key_use: Option<&'a KeyUse>,
    /// The certificate that replaced the client's, if the client's was replaced.
    pub(crate) successor: Option<&'a Certificate>,
    /// Now.
    pub(crate) now: i64,
}

/// Judges a first enrolment (/simpleenroll).
///
/// # Errors
/// The reason it is refused.
pub(crate) fn enrol(facts: &Facts<'_>) -> Result<Admission, AdmissionFault> {
    if let Some(first) = &facts.rules.related_to {
        return enrol_second(facts, first);
    }
    if facts.csr.related().is_some() {
        return Err(AdmissionFault::RelatedNotGiven);
    }
    facts.profile.judge(facts.csr)?;
    let named = permitted_names(facts)?;
    let may_replace = warrant(facts, &named.id)?;
    judge_key_use(facts, &named.id)?;
    let device = match facts.device {
        Some(device) => device.clone(),
        None if facts.rules.registration == Registration::PreRegistered => return Err(AdmissionFault::UnknownDevice),
        None => Device {
            id: named.id.clone(),
            state: DeviceState::PendingProvisioning.into(),
            created_at: facts.now,
            label: facts.label.to_owned(),
            ..Device::default()
        },
    };
    if device.label != facts.label {
        return Err(AdmissionFault::OtherLabel);
    }
    if !may_replace && device.state() != DeviceState::PendingProvisioning {
        return Err(AdmissionFault::AlreadyEnrolled);
    }
    let active = facts.current.filter(|current| current.state() == CertificateState::Active);
    Ok(Admission::Issue(Box::new(Grant {
        device: provisioned(&device, facts.now)?,
        subject: named.subject,
        names: named.names,
        replaces: active.map(|certificate| certificate.serial.clone()).unwrap_or_default(),
        identity: Identity::First,
    })))
}

/// The first certificate of a second identity: for the holder of the first identity's, who names it in the request and proves there, with
/// its key, to hold it.
fn enrol_second(facts: &Facts<'_>, first: &str) -> Result<Admission, AdmissionFault> {
    let Requester::Device { certificate: held, .. } = facts.requester else {
        return Err(AdmissionFault::RelatedNeeded("a second certificate is given to who shows the first, by TLS"));
    };
    good(held, facts.now)?;
    let device = facts.device.ok_or(AdmissionFault::Inconsistent)?;
    if held.label != first {
        return Err(AdmissionFault::OtherLabel);
    }
    if device.certificate != held.serial {
        return Err(AdmissionFault::Superseded);
    }
    match facts.csr.related() {
        Some(claim) => claim.verify(&parsed(held)?, facts.now)?,
        // The first one's key signed for this one's.
        None if facts.csr.is_stated() => {}
        None => {
            return Err(AdmissionFault::RelatedNeeded(
                "the request for a second certificate must name the first by relatedCertRequest (RFC 9763)",
            ));
        }
    }
    facts.profile.judge(facts.csr)?;
    let named = permitted_names(facts)?;
    if named.id != device.id {
        return Err(AdmissionFault::OtherDevice);
    }
    judge_key_use(facts, &device.id)?;
    let active = facts.related.filter(|related| good(related, facts.now).is_ok());
    match active {
        // The client never saw the answer.
        Some(known) if known.spki_sha256 == facts.csr.spki_sha256() && known.label == facts.label => {
            return Ok(Admission::Repeat { serial: known.serial.clone() });
        }
        // A key that cannot sign cannot ask for its own renewal: the first identity does.
        Some(known) if matches!(judge_key(facts.csr.spki()), Ok(KeyKind::MlKem(_))) => judge_renewal(facts, known)?,
        Some(_) if !facts.rules.replaceable => return Err(AdmissionFault::AlreadyEnrolled),
        _ => {}
    }
    Ok(Admission::Issue(Box::new(Grant {
        device: unmoved(device, facts.now)?,
        subject: named.subject,
        names: named.names,
        replaces: active.map(|related| related.serial.clone()).unwrap_or_default(),
        identity: Identity::Second {
            names: Some(held.clone()),
            before: facts.related.map(|related| related.serial.clone()).unwrap_or_default(),
        },
    })))
}

/// A stored certificate, taken apart.
///
/// # Errors
/// [`AdmissionFault::Inconsistent`].
pub(crate) fn parsed(certificate: &Certificate) -> Result<x509_cert::Certificate, AdmissionFault> {
    x509_cert::Certificate::from_der(&certificate.der).map_err(|_| AdmissionFault::Inconsistent)
}

/// The device lives by its first identity: what becomes of the second does not move it.
fn unmoved(device: &Device, now: i64) -> Result<Device, AdmissionFault> {
    match device.state() {
        DeviceState::Decommissioned => Err(AdmissionFault::Decommissioned),
        _ => Ok(Device { changed_at: now, ..device.clone() }),
    }
}

/// Which identity a certificate is of, and what the next one of the second names: the first identity's current certificate, if the request
/// proves to hold that.
fn identity_of(facts: &Facts<'_>, device: &Device, held: &Certificate) -> Result<Identity, AdmissionFault> {
    if device.certificate == held.serial {
        let names = facts.csr.related().is_some();
        return if names { Err(AdmissionFault::RelatedNotGiven) } else { Ok(Identity::First) };
    }
    if !device.related.contains(&held.serial) {
        return Err(AdmissionFault::Superseded);
    }
    let before = held.serial.clone();
    let Some(claim) = facts.csr.related() else { return Ok(Identity::Second { names: None, before }) };
    let first = facts.current.ok_or(AdmissionFault::Inconsistent)?;
    good(first, facts.now)?;
    claim.verify(&parsed(first)?, facts.now)?;
    Ok(Identity::Second { names: Some(Box::new(first.clone())), before })
}

/// Whether the requester may enrol this device; true when even one that is enrolled already.
fn warrant(facts: &Facts<'_>, id: &str) -> Result<bool, AdmissionFault> {
    match facts.requester {
        // Only a credential that an operator made for this very device may give a known device another certificate: else
        // whoever holds any unused credential could take over an identity.
        Requester::Bootstrap { device: bound, .. } if bound.is_empty() => Ok(false),
        Requester::Bootstrap { device: bound, .. } if bound == id => Ok(true),
        Requester::Bootstrap { .. } => Err(AdmissionFault::OtherDevice),
        Requester::Registrar { certificate, .. } => {
            good(certificate, facts.now)?;
            if !facts.rules.registration_authorities.contains(&certificate.device) {
                return Err(AdmissionFault::RegistrarNotPermitted);
            }
            // It enrols others; its own certificate it renews by re-enrolment.
            if certificate.device == id { Err(AdmissionFault::AlreadyEnrolled) } else { Ok(facts.rules.replaceable) }
        }
        // It speaks for itself only; whether it may begin anew, a reset device for example, the label says.
        Requester::Born { device: born, .. } if born == id => Ok(facts.rules.replaceable),
        Requester::Born { .. } => Err(AdmissionFault::OtherDevice),
        Requester::Device { .. } => Err(AdmissionFault::AlreadyEnrolled),
    }
}

/// A certificate of ours that is good for anything at all.
///
/// # Errors
/// What it came to.
pub(crate) fn good(certificate: &Certificate, now: i64) -> Result<(), AdmissionFault> {
    match certificate.state() {
        CertificateState::Active if certificate.not_after > now => Ok(()),
        CertificateState::Active => Err(AdmissionFault::Expired),
        CertificateState::Superseded => Err(AdmissionFault::Superseded),
        _ => Err(AdmissionFault::Revoked),
    }
}

/// Judges a re-enrolment (/simplereenroll).
///
/// # Errors
/// The reason it is refused.
pub(crate) fn reenrol(facts: &Facts<'_>) -> Result<Admission, AdmissionFault> {
    let Requester::Device { certificate: held, .. } = facts.requester else {
        return Err(AdmissionFault::CertificateNeeded);
    };
    let parsed = parsed(held)?;
    same_identity(&parsed, facts.csr)?;
    facts.profile.judge(facts.csr)?;
    judge_key_use(facts, &held.device)?;
    match held.state() {
        CertificateState::Active => {}
        CertificateState::Superseded => return repeated(facts),
        CertificateState::Revoked if held.reason == SUPERSEDED => return repeated(facts),
        _ => return Err(AdmissionFault::Revoked),
    }
    if held.not_after.saturating_add(facts.rules.expired_grace_seconds) <= facts.now {
        return Err(AdmissionFault::Expired);
    }
    if held.label != facts.label {
        return Err(AdmissionFault::OtherLabel);
    }
    let device = facts.device.ok_or(AdmissionFault::Inconsistent)?;
    let identity = identity_of(facts, device, held)?;
    judge_renewal(facts, held)?;
    let named = permitted_names(facts)?;
    let renamed = facts.csr.change_of_name().is_some_and(|change| change.subject.is_some());
    // Another name for the same device, never another device.
    if renamed && named.id != held.device {
        return Err(AdmissionFault::OtherDevice);
    }
    Ok(Admission::Issue(Box::new(Grant {
        device: match identity {
            Identity::First => provisioned(device, facts.now)?,
            Identity::Second { .. } => unmoved(device, facts.now)?,
        },
        subject: if renamed { named.subject } else { parsed.tbs_certificate().subject().clone() },
        names: named.names,
        replaces: held.serial.clone(),
        identity,
    })))
}

/// The rules of the label for renewals: which key, and when.
fn judge_renewal(facts: &Facts<'_>, held: &Certificate) -> Result<(), AdmissionFault> {
    let same_key = held.spki_sha256 == facts.csr.spki_sha256();
    match facts.rules.renewal {
        Renewal::Same if !same_key => {
            return Err(AdmissionFault::RenewalKey("renews certificates for the same key only"));
        }
        Renewal::New if same_key => return Err(AdmissionFault::RenewalKey("wants a new key at every re-enrolment")),
        _ => {}
    }
    let window = facts.rules.renewal_window_seconds;
    if window > 0 && held.not_after.saturating_sub(facts.now) > window { Err(AdmissionFault::TooEarly) } else { Ok(()) }
}

/// The client never saw the answer to its last re-enrolment: with the same key it gets the same certificate again, where it was issued.
fn repeated(facts: &Facts<'_>) -> Result<Admission, AdmissionFault> {
    facts
        .successor
        .filter(|successor| successor.state() == CertificateState::Active && successor.label == facts.label)
        .filter(|successor| successor.spki_sha256 == facts.csr.spki_sha256())
        .map(|successor| Admission::Repeat { serial: successor.serial.clone() })
        .ok_or(AdmissionFault::Superseded)
}

/// RFC 7030 section 4.2.2: subject and subjectAltName of the request are those of the certificate.
fn same_identity(held: &x509_cert::Certificate, csr: &VerifiedCsr) -> Result<(), AdmissionFault> {
    let facts = held.tbs_certificate();
    if !same_name(facts.subject(), csr.subject()) {
        return Err(AdmissionFault::SubjectDiffers);
    }
    let names = facts.get_extension::<SubjectAltName>().map_err(|_| AdmissionFault::Inconsistent)?;
    let names = names.map(|(_, names)| name_set(&names.0)).unwrap_or_default();
    if names == csr.alt_name_set() { Ok(()) } else { Err(AdmissionFault::AltNameDiffers) }
}

fn judge_key_use(facts: &Facts<'_>, device: &str) -> Result<(), AdmissionFault> {
    match facts.key_use {
        Some(used) if used.compromised => Err(AdmissionFault::KeyCompromised),
        Some(used) if used.device != device => Err(AdmissionFault::KeyReused),
        _ => Ok(()),
    }
}

fn permitted_names(facts: &Facts<'_>) -> Result<Named, AdmissionFault> {
    if facts.csr.change_of_name().is_some() && !facts.rules.change_of_name {
        return Err(AdmissionFault::ChangeOfName);
    }
    Ok(facts.profile.named(facts.csr)?)
}

fn provisioned(device: &Device, now: i64) -> Result<Device, AdmissionFault> {
    lifecycle::moved(device, Event::CertificateIssued, now).map_err(|_| AdmissionFault::Decommissioned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::est::auth::{bootstrap_requester, device_requester, registrar_requester};
    use crate::est::label;
    use crate::x509::algorithm::KeySpec;
    use crate::x509::csr::made;
    use crate::x509::{extension, tbs};
    use std::str::FromStr;

    const NOW: i64 = 1_800_000_000;

    fn profile() -> Profile {
        let written = toml::from_str("").expect("an empty profile");
        let mut profiles = crate::profile::written::profiles([("device".to_owned(), written)].into(), 1 << 40);
        profiles.as_mut().ok().and_then(|profiles| profiles.remove("device")).expect("a profile")
    }

    fn rules() -> &'static Label {
        static RULES: std::sync::OnceLock<Label> = std::sync::OnceLock::new();
        RULES.get_or_init(|| label::plain("device"))
    }

    fn csr(subject: &str) -> VerifiedCsr {
        VerifiedCsr::verify(&made::request(subject)).expect("verifies")
    }

    fn known(state: DeviceState) -> Device {
        Device { id: "sensor".to_owned(), state: state.into(), certificate: vec![1; 16], ..Device::default() }
    }

    /// A stored certificate of `sensor`. Its signature is never looked at here.
    fn held() -> Certificate {
        let spki = csr("CN=sensor").spki().clone();
        let contents = tbs::CertificateContents {
            serial: vec![1; 16],
            algorithm: KeySpec::EcP256.signature_algorithm(),
            issuer: Name::from_str("CN=Issuer").expect("parses"),
            not_before: NOW - 1000,
            not_after: NOW + 1000,
            subject: Name::from_str("CN=sensor").expect("parses"),
            extensions: vec![extension::subject_key_identifier(&[1; 20]).expect("encodes")],
            spki,
        };
        let tbs = tbs::certificate(contents).expect("encodes");
        Certificate {
            serial: vec![1; 16],
            der: tbs::join(&tbs, KeySpec::EcP256.signature_algorithm(), &[0; 8]).expect("encodes"),
            device: "sensor".to_owned(),
            state: CertificateState::Active.into(),
            not_after: NOW + 1000,
            ..Certificate::default()
        }
    }

    fn facts<'a>(requester: &'a Requester, csr: &'a VerifiedCsr, profile: &'a Profile) -> Facts<'a> {
        Facts {
            requester,
            csr,
            profile,
            label: "",
            rules: rules(),
            device: None,
            current: None,
            related: None,
            key_use: None,
            successor: None,
            now: NOW,
        }
    }

    #[test]
    fn a_new_device_is_admitted_as_provisioned() {
        let (requester, csr, profile) = (bootstrap_requester(""), csr("CN=sensor,O=Else"), profile());
        let Ok(Admission::Issue(grant)) = enrol(&facts(&requester, &csr, &profile)) else { panic!("refused") };
        assert_eq!(grant.device.state(), DeviceState::FullyProvisioned);
        assert_eq!((grant.device.id.as_str(), grant.device.created_at), ("sensor", NOW));
        assert_eq!(grant.subject.to_string(), "CN=sensor");
        assert!(grant.replaces.is_empty());
    }

    #[test]
    fn a_known_device_needs_a_credential_of_its_own_and_a_decommissioned_one_gets_nothing() {
        use DeviceState::{Decommissioned, FullyProvisioned, PendingProvisioning, RequiresAction, WithWarnings};
        let (csr, profile) = (csr("CN=sensor"), profile());
        let rows = [
            (PendingProvisioning, "", Ok(())),
            (FullyProvisioned, "", Err(AdmissionFault::AlreadyEnrolled)),
            (WithWarnings, "", Err(AdmissionFault::AlreadyEnrolled)),
            (RequiresAction, "", Err(AdmissionFault::AlreadyEnrolled)),
            (Decommissioned, "", Err(AdmissionFault::AlreadyEnrolled)),
            (FullyProvisioned, "sensor", Ok(())),
            (RequiresAction, "sensor", Ok(())),
            (Decommissioned, "sensor", Err(AdmissionFault::Decommissioned)),
            (FullyProvisioned, "other", Err(AdmissionFault::OtherDevice)),
        ];
        for (state, bound, expected) in rows {
            let (requester, device) = (bootstrap_requester(bound), known(state));
            let facts = Facts { device: Some(&device), ..facts(&requester, &csr, &profile) };
            assert_eq!(enrol(&facts).map(drop), expected, "{state:?} {bound}");
        }
    }

    #[test]
    fn a_held_certificate_is_judged_row_by_row() {
        type Change = fn(&mut Certificate);
        let (csr, profile, device) = (csr("CN=sensor"), profile(), known(DeviceState::FullyProvisioned));
        let rows: &[(Change, Option<AdmissionFault>)] = &[
            (|_| {}, None),
            (|held| held.not_after = NOW, Some(AdmissionFault::Expired)),
            (|held| held.set_state(CertificateState::Revoked), Some(AdmissionFault::Revoked)),
            (|held| held.set_state(CertificateState::Abandoned), Some(AdmissionFault::Revoked)),
            (|held| held.set_state(CertificateState::Superseded), Some(AdmissionFault::Superseded)),
            (|held| held.label = "line-1".to_owned(), Some(AdmissionFault::OtherLabel)),
            (|held| held.serial = vec![9; 16], Some(AdmissionFault::Superseded)),
        ];
        for (index, (change, expected)) in rows.iter().enumerate() {
            let mut certificate = held();
            change(&mut certificate);
            let requester = device_requester(certificate);
            let facts = Facts { device: Some(&device), ..facts(&requester, &csr, &profile) };
            assert_eq!(reenrol(&facts).err(), *expected, "row {index}");
        }
    }

    #[test]
    fn a_lost_answer_is_repeated_for_the_same_key_at_the_same_label_only() {
        let (csr, profile, device) = (csr("CN=sensor"), profile(), known(DeviceState::FullyProvisioned));
        let mut before = held();
        before.set_state(CertificateState::Superseded);
        let requester = device_requester(before);
        let next = Certificate { serial: vec![2; 16], spki_sha256: csr.spki_sha256().to_vec(), ..held() };
        let rows = [
            (next.clone(), Ok(Admission::Repeat { serial: vec![2; 16] })),
            (Certificate { label: "line-1".to_owned(), ..next.clone() }, Err(AdmissionFault::Superseded)),
            (Certificate { spki_sha256: vec![7; 32], ..next.clone() }, Err(AdmissionFault::Superseded)),
            (Certificate { state: CertificateState::Revoked.into(), ..next }, Err(AdmissionFault::Superseded)),
        ];
        for (index, (successor, expected)) in rows.into_iter().enumerate() {
            let (device, successor) = (Some(&device), Some(&successor));
            let facts = Facts { device, successor, ..facts(&requester, &csr, &profile) };
            assert_eq!(reenrol(&facts), expected, "row {index}");
        }
    }

    #[test]
    fn m31_only_a_named_registration_authority_enrols_others_and_not_itself() {
        let (csr, profile) = (csr("CN=sensor"), profile());
        let of_label = |names: &[&str], replaceable| Label {
            registration_authorities: names.iter().map(|name| (*name).to_owned()).collect(),
            replaceable,
            ..label::plain("device")
        };
        let registrar = |id: &str, state: CertificateState| {
            let mut certificate = Certificate { device: id.to_owned(), ..held() };
            certificate.set_state(state);
            registrar_requester(certificate)
        };
        let device = known(DeviceState::FullyProvisioned);
        let (active, revoked) = (CertificateState::Active, CertificateState::Revoked);
        let rows = [
            (registrar("ra", active), of_label(&["ra"], false), None, None),
            (registrar("ra", active), of_label(&[], false), None, Some(AdmissionFault::RegistrarNotPermitted)),
            (registrar("ra", active), of_label(&["other"], false), None, Some(AdmissionFault::RegistrarNotPermitted)),
            (registrar("ra", revoked), of_label(&["ra"], false), None, Some(AdmissionFault::Revoked)),
            (registrar("sensor", active), of_label(&["sensor"], true), None, Some(AdmissionFault::AlreadyEnrolled)),
            (registrar("ra", active), of_label(&["ra"], false), Some(&device), Some(AdmissionFault::AlreadyEnrolled)),
            (registrar("ra", active), of_label(&["ra"], true), Some(&device), None),
        ];
        for (index, (requester, rules, device, expected)) in rows.iter().enumerate() {
            let facts = Facts { rules, device: *device, ..facts(requester, &csr, &profile) };
            assert_eq!(enrol(&facts).err(), *expected, "row {index}");
        }
    }

    #[test]
    fn m35_a_label_decides_about_keys_and_times_of_renewals() {
        let (csr, profile, device) = (csr("CN=sensor"), profile(), known(DeviceState::FullyProvisioned));
        let other_key = held();
        let same_key = Certificate { spki_sha256: csr.spki_sha256().to_vec(), ..held() };
        let (any, same, new) = (Renewal::Any, Renewal::Same, Renewal::New);
        let rows = [
            (&same_key, any, 0, true),
            (&other_key, any, 0, true),
            (&same_key, same, 0, true),
            (&other_key, same, 0, false),
            (&same_key, new, 0, false),
            (&other_key, new, 0, true),
            (&other_key, any, 1000, true),
            (&other_key, any, 999, false),
        ];
        for (index, (certificate, renewal, renewal_window_seconds, admitted)) in rows.into_iter().enumerate() {
            let rules = Label { renewal, renewal_window_seconds, ..label::plain("device") };
            let requester = device_requester(certificate.clone());
            let facts = Facts { rules: &rules, device: Some(&device), ..facts(&requester, &csr, &profile) };
            assert_eq!(reenrol(&facts).is_ok(), admitted, "row {index}");
        }
    }

    #[test]
    fn x35_an_expired_certificate_re_enrols_within_the_grace_of_its_label_and_no_longer() {
        let (csr, profile, device) = (csr("CN=sensor"), profile(), known(DeviceState::FullyProvisioned));
        for (expired_since, grace, admitted) in
            [(-1, 0, true), (0, 0, false), (1, 0, false), (0, 1, true), (99, 100, true), (100, 100, false)]
        {
            let rules = Label { expired_grace_seconds: grace, ..label::plain("device") };
            let requester = device_requester(Certificate { not_after: NOW - expired_since, ..held() });
            let facts = Facts { rules: &rules, device: Some(&device), ..facts(&requester, &csr, &profile) };
            let expected = if admitted { None } else { Some(AdmissionFault::Expired) };
            assert_eq!(reenrol(&facts).err(), expected, "{expired_since} s after, {grace} s of grace");
        }
    }

    #[test]
    fn e4_an_unknown_device_is_refused_where_devices_are_registered_before() {
        let (requester, csr, profile) = (bootstrap_requester(""), csr("CN=sensor"), profile());
        let rules = Label { registration: Registration::PreRegistered, ..label::plain("device") };
        let device = known(DeviceState::PendingProvisioning);
        let refused = Facts { rules: &rules, ..facts(&requester, &csr, &profile) };
        assert_eq!(enrol(&refused).err(), Some(AdmissionFault::UnknownDevice));
        assert_eq!(enrol(&Facts { device: Some(&device), ..refused }).err(), None);
    }

    #[test]
    fn a_key_of_somebody_else_or_a_compromised_one_is_refused() {
        let (requester, csr, profile) = (bootstrap_requester(""), csr("CN=sensor"), profile());
        for (owner, compromised, expected) in [
            ("sensor", false, None),
            ("other", false, Some(AdmissionFault::KeyReused)),
            ("", false, Some(AdmissionFault::KeyReused)),
            ("sensor", true, Some(AdmissionFault::KeyCompromised)),
        ] {
            let key_use = KeyUse { device: owner.to_owned(), compromised, ..KeyUse::default() };
            let facts = Facts { key_use: Some(&key_use), ..facts(&requester, &csr, &profile) };
            assert_eq!(enrol(&facts).err(), expected, "{owner}");
        }
    }
}
