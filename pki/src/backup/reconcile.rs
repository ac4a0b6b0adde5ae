//! What a restored store lacks, told to it by what is known elsewhere: CRLs that were published after the backup, and certificates that
//! were issued after it. Each is believed only when an authority of this PKI has signed it.
//!
//! A serial number on such a list that is unknown here stays on the lists that follow. A certificate that is taken up counts as issued,
//! and its device lives by it. Nothing is taken up twice.

use crate::ca::CaError;
use crate::ca::authority::Authority;
use crate::clock::instant;
use crate::store::change::Doubt;
use crate::store::lifecycle::{self, Event};
use crate::store::record::{Certificate, CertificateState, CrlList, Device, Intent, Restoration};
use crate::store::{Change, Store, Supersession};
use crate::x509::{extension, hex, name, reason, related, sha256, unix_seconds, verify};
use const_oid::AssociatedOid;
use der::{Decode, Encode};
use serde_json::{Value, json};
use x509_cert::crl::{CertificateList, RevokedCert};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    BasicConstraints, CrlDistributionPoints, CrlNumber, CrlReason, ExtendedKeyUsage, IssuingDistributionPoint,
};

/// A third of the life that is left when a device is warned about.
const WARN_PART: i64 = 3;

/// What was taken up.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TakenUp {
    /// Certificates that were unknown.
    pub(crate) certificates: u64,
    /// Revocations that were unknown.
    pub(crate) revocations: u64,
    /// What was known already.
    pub(crate) known: u64,
}

/// Takes up CRLs and certificates (DER); with `accepts`, the mark of the restoration is taken away: what is not known now is given up.
///
/// # Errors
/// [`CaError::Reconcile`] for what no authority of this PKI has signed; what stood before it in the lists is taken up.
pub(crate) fn reconcile(
    store: &dyn Store,
    crls: &[Vec<u8>],
    certificates: &[Vec<u8>],
    accepts: bool,
    now: i64,
) -> Result<Value, CaError> {
    let authorities = store.authorities()?.into_iter().map(|stored| Authority::of(store, stored));
    let authorities: Vec<Authority> = authorities.collect::<Result<_, _>>()?;
    let restoration = store.restoration()?;
    let since = restoration.as_ref().and_then(Restoration::lacks_since).unwrap_or(0);
    let mut taken = TakenUp::default();
    let mut parsed = certificates
        .iter()
        .map(|der| x509_cert::Certificate::from_der(der).map(|parsed| (der, parsed)))
        .collect::<Result<Vec<_>, _>>()?;
    parsed.sort_by_key(|(_, certificate)| unix_seconds(&certificate.tbs_certificate().validity().not_before));
    // Certificates first: what a list revokes is then known.
    for (der, certificate) in parsed {
        take_certificate(store, &authorities, der, &certificate, now, &mut taken)?;
    }
    for der in crls {
        take_crl(store, &authorities, der, since, now, &mut taken)?;
    }
    if accepts && restoration.is_some() {
        let TakenUp { certificates, revocations, .. } = taken;
        store.commit(Change::CaughtUp { certificates, revocations })?;
        tracing::warn!(event = "caught_up", certificates, revocations);
    }
    let still = store.restoration()?;
    Ok(json!({
        "certificates_taken_up": taken.certificates,
        "revocations_taken_up": taken.revocations,
        "known_already": taken.known,
        "restored_from": restoration.map(|restoration| instant(restoration.taken_at)),
        "serves": still.is_none(),
    }))
}

fn refused(sentence: impl std::fmt::Display) -> CaError {
    CaError::Reconcile(sentence.to_string())
}

fn extension_of<'a, T: AssociatedOid + Decode<'a, Error = der::Error>>(
    extensions: &'a [Extension],
) -> der::Result<Option<T>> {
    let found = extensions.iter().find(|found| found.extn_id == T::OID);
    found.map(|found| T::from_der(found.extn_value.as_bytes())).transpose()
}

/// The shard in an address of ours.
fn shard_of(points: Option<&DistributionPointName>, authority: &str) -> u32 {
    let Some(DistributionPointName::FullName(names)) = points else { return 0 };
    let urls = names.iter().filter_map(|name| match name {
        GeneralName::UniformResourceIdentifier(url) => Some(url.as_str()),
        _ => None,
    });
    let lists = urls.filter_map(|url| CrlList::parse(url.split_once("/crl/")?.1.strip_suffix(".crl")?));
    lists.filter(|list| list.authority == authority).map(|list| list.shard).next().unwrap_or(0)
}

fn take_crl(
    store: &dyn Store,
    authorities: &[Authority],
    der: &[u8],
    since: i64,
    now: i64,
    taken: &mut TakenUp,
) -> Result<(), CaError> {
    let list = CertificateList::from_der(der)?;
    let facts = &list.tbs_cert_list;
    let tbs = facts.to_der()?;
    let signature = list.signature.as_bytes().unwrap_or_default();
    let signed = |authority: &&Authority| {
        authority.has_key()
            && name::same_name(&authority.name, &facts.issuer)
            && verify::verify(&authority.spki, &list.signature_algorithm, &tbs, signature).is_ok()
    };
    let issuer = authorities.iter().find(signed);
    let issuer = issuer.ok_or_else(|| refused("a CRL is signed by no authority whose key is here"))?;
    if unix_seconds(&facts.this_update) < since {
        return Err(refused(format!("a CRL of '{}' is older than the backup: it tells nothing new", issuer.id)));
    }
    let extensions = facts.crl_extensions.as_deref().unwrap_or_default();
    let point = extension_of::<IssuingDistributionPoint>(extensions)?.and_then(|point| point.distribution_point);
    let shard = shard_of(point.as_ref(), &issuer.id);
    if let Some(number) = extension_of::<CrlNumber>(extensions)? {
        let number = number
            .0
            .as_bytes()
            .iter()
            .try_fold(0u64, |sum, octet| sum.checked_mul(256)?.checked_add(u64::from(*octet)));
        let number = number.ok_or_else(|| refused("a CRL has a number that this program cannot go on from"))?;
        let name = CrlList::base(&issuer.id, shard).name();
        if store.crl_record(&name)?.is_none_or(|record| record.last_number < number) {
            store.commit(Change::CrlNumbered { list: name, number, lists: 0 })?;
        }
    }
    for entry in facts.revoked_certificates.iter().flatten() {
        take_revocation(store, issuer, shard, entry, now, taken)?;
    }
    Ok(())
}

fn take_revocation(
    store: &dyn Store,
    issuer: &Authority,
    shard: u32,
    entry: &RevokedCert,
    now: i64,
    taken: &mut TakenUp,
) -> Result<(), CaError> {
    let serial = positive(entry.serial_number.as_bytes());
    let reason = extension_of::<CrlReason>(entry.crl_entry_extensions.as_deref().unwrap_or_default())?;
    let reason = reason.unwrap_or(CrlReason::Unspecified);
    if reason == CrlReason::RemoveFromCRL {
        return Ok(());
    }
    let is_hold = reason == CrlReason::CertificateHold;
    match store.certificate(&serial)? {
        Some(known) if known.authority != issuer.id => {
            return Err(refused(format!("the serial number {} belongs to another authority", hex(&serial))));
        }
        Some(known) => {
            let revocable = match known.state() {
                CertificateState::Active | CertificateState::Superseded => true,
                CertificateState::OnHold => !is_hold,
                _ => false,
            };
            if !revocable {
                taken.known += 1;
                return Ok(());
            }
            let at = unix_seconds(&entry.revocation_date);
            let reason = reason::code(reason);
            store.commit(Change::Revoked { serials: vec![serial], reason, at, invalid_since: 0 })?;
        }
        None => {
            // Issued and revoked after the backup: it stays on the lists, whatever it was, as long as its issuer lives.
            let intent = Intent {
                serial: serial.clone(),
                authority: issuer.id.clone(),
                began_at: now,
                not_after: issuer.not_after,
                crl_shard: shard,
                ..Intent::default()
            };
            store.commit(Change::Intend(intent))?;
            store.commit(Change::Abandoned { serial, doubt: Doubt::MaybeSigned, at: now })?;
        }
    }
    taken.revocations += 1;
    Ok(())
}

/// Without the zero that keeps an INTEGER positive.
fn positive(octets: &[u8]) -> Vec<u8> {
    match octets {
        [0, rest @ ..] if !rest.is_empty() => rest.to_vec(),
        octets => octets.to_vec(),
    }
}

fn take_certificate(
    store: &dyn Store,
    authorities: &[Authority],
    der: &[u8],
    certificate: &x509_cert::Certificate,
    now: i64,
    taken: &mut TakenUp,
) -> Result<(), CaError> {
    let facts = certificate.tbs_certificate();
    let serial = positive(facts.serial_number().as_bytes());
    let tbs = facts.to_der()?;
    let signature = certificate.signature().as_bytes().unwrap_or_default();
    let signed = |authority: &&Authority| {
        authority.has_key()
            && name::same_name(&authority.name, facts.issuer())
            && verify::verify(&authority.spki, certificate.signature_algorithm(), &tbs, signature).is_ok()
    };
    let issuer = authorities.iter().find(signed);
    let issuer = issuer.ok_or_else(|| refused("a certificate is signed by no authority whose key is here"))?;
    if store.certificate(&serial)?.is_some() {
        taken.known += 1;
        return Ok(());
    }
    if facts.get_extension::<BasicConstraints>()?.is_some_and(|(_, constraints)| constraints.ca) {
        return Err(refused("the certificate of an authority is not taken up so: `craton-pki ca import`"));
    }
    let points = facts.get_extension::<CrlDistributionPoints>()?;
    let point = points.and_then(|(_, points)| points.0.into_iter().next()).and_then(|point| point.distribution_point);
    let not_after = unix_seconds(&facts.validity().not_after);
    let record = Certificate {
        serial: serial.clone(),
        authority: issuer.id.clone(),
        kind: "device".to_owned(),
        der: der.to_vec(),
        subject: name::text(facts.subject()),
        not_before: unix_seconds(&facts.validity().not_before),
        not_after,
        issued_at: now,
        state: CertificateState::Active.into(),
        spki_sha256: sha256(&facts.subject_public_key_info().to_der()?).to_vec(),
        crl_shard: shard_of(point.as_ref(), &issuer.id),
        ..Certificate::default()
    };
    let usages = facts.get_extension::<ExtendedKeyUsage>()?;
    let is_signer = usages.is_some_and(|(_, usages)| usages.0.contains(&extension::OCSP_SIGNING));
    if is_signer {
        keep_signer(store, record, now)?
    } else if related::names_another(certificate) {
        keep_second(store, record, certificate, now)?
    } else {
        keep_device(store, record, facts.subject(), now)?
    }
    taken.certificates += 1;
    Ok(())
}

fn intent_of(record: &Certificate, replaces: Vec<u8>, now: i64) -> Intent {
    Intent {
        serial: record.serial.clone(),
        authority: record.authority.clone(),
        device: record.device.clone(),
        replaces,
        began_at: now,
        not_after: record.not_after,
        subject: record.subject.clone(),
        crl_shard: record.crl_shard,
        ..Intent::default()
    }
}

/// A responder's certificate: known, and used by nobody here.
fn keep_signer(store: &dyn Store, record: Certificate, now: i64) -> Result<(), CaError> {
    let certificate = Certificate { kind: "ocsp_responder".to_owned(), ..record };
    store.commit(Change::Intend(intent_of(&certificate, Vec::new(), now)))?;
    store.commit(Change::Issued { role: format!("reconciled-{}", hex(&certificate.serial)), certificate })?;
    Ok(())
}

fn id_of(subject: &x509_cert::name::Name) -> Result<String, CaError> {
    let honoured: Vec<_> = name::ATTRIBUTES.iter().map(|row| row.1).collect();
    Ok(name::device_name(subject, &honoured, &[]).map_err(|fault| refused(fault.to_string()))?.id)
}

/// A further identity of a device that is known: it is linked with it. Its label stands in no certificate, so the device is given another
/// one at its next request.
fn keep_second(
    store: &dyn Store,
    record: Certificate,
    parsed: &x509_cert::Certificate,
    now: i64,
) -> Result<(), CaError> {
    let id = id_of(parsed.tbs_certificate().subject())?;
    let unknown = || refused(format!("a certificate of '{id}' names another of that device, which is not known"));
    let mut device = store.device(&id)?.ok_or_else(unknown)?;
    let first = if device.certificate.is_empty() { None } else { store.certificate(&device.certificate)? };
    let related_to = first.filter(|first| related::relates(parsed, &first.der)).map(|first| first.serial);
    let certificate = Certificate { device: id, related_to: related_to.unwrap_or_default(), ..record };
    device.related.push(certificate.serial.clone());
    store.commit(Change::Intend(intent_of(&certificate, Vec::new(), now)))?;
    store.commit(Change::Enrolled { certificate, device, supersession: Supersession::Expire })?;
    Ok(())
}

/// The device lives by it from now on, unless it has a later one.
fn keep_device(
    store: &dyn Store,
    record: Certificate,
    subject: &x509_cert::name::Name,
    now: i64,
) -> Result<(), CaError> {
    let id = id_of(subject)?;
    let device = store.device(&id)?;
    let current = match &device {
        Some(device) if !device.certificate.is_empty() => store.certificate(&device.certificate)?,
        _ => None,
    };
    if let Some(current) = current.as_ref().filter(|current| current.not_before > record.not_before) {
        let known = hex(&current.serial);
        return Err(refused(format!("the device '{id}' has the later certificate {known}: revoke one of them")));
    }
    let replaces = current.filter(|current| current.state() == CertificateState::Active);
    let device = device.unwrap_or_else(|| Device { id: id.clone(), created_at: now, ..Device::default() });
    let device = lifecycle::moved(&device, Event::CertificateIssued, now)
        .map_err(|fault| refused(format!("the device '{id}': {fault}")))?;
    let life = record.not_after.saturating_sub(record.not_before);
    let certificate = Certificate {
        device: id,
        label: device.label.clone(),
        warn_at: record.not_after.saturating_sub(life / WARN_PART),
        ..record
    };
    let intent = intent_of(&certificate, replaces.map(|found| found.serial).unwrap_or_default(), now);
    store.commit(Change::Intend(intent))?;
    let device = Device { certificate: certificate.serial.clone(), ..device };
    store.commit(Change::Enrolled { certificate, device, supersession: Supersession::Expire })?;
    Ok(())
}
