//! The founding of the PKI: root, issuing authority and server certificate, their keys made in the token.
//!
//! Each step looks whether it was done before, so that an interrupted founding goes on where it broke off and a second one
//! changes nothing. A key is planned (its id is durable) before it is made, so that no key in the token is forgotten.

use super::authority::{Authority, ISSUING, ROOT, SERVER, key_ref};
use super::issue::{self, Circumstances};
use super::profile::{Kind, Order};
use super::{CaError, Desk, serial};
use crate::config::{AuthoritySection, Config};
use crate::store::Change;
use crate::store::record::{self, Certificate, KeyPlan};
use crate::token::{KeyRef, TokenError, no_key};
use crate::x509::algorithm::KeySpec;
use crate::x509::csr::name_set;
use crate::x509::{extension, name, pem};
use der::{Decode, Encode};
use spki::SubjectPublicKeyInfoOwned;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::FromStr;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::name::Name;

/// What the founding found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Founding {
    /// Something was made.
    Done,
    /// Everything was there already; nothing was changed.
    AlreadyThere,
}

/// Founds the PKI, or what is missing of it.
///
/// # Errors
/// When the token or the store fails; a repetition then goes on from there.
pub(crate) fn found(desk: &Desk, config: &Config, now: i64) -> Result<Founding, CaError> {
    let store = desk.store.as_ref();
    let complete =
        store.authority(ROOT)?.is_some() && store.authority(ISSUING)?.is_some() && store.house(SERVER)?.is_some();
    if complete {
        return Ok(Founding::AlreadyThere);
    }
    issue::resolve_intents(desk, now)?;
    let root = ensure_root(desk, config, now)?;
    let issuing = ensure_issuing(desk, config, &root, now)?;
    ensure_server(desk, config, &issuing, now)?;
    Ok(Founding::Done)
}

/// The planned key of a role, made in the token if it is not there yet.
///
/// # Errors
/// When the token or the store fails, or a key that was certified is gone.
pub(crate) fn ensure_key(
    desk: &Desk,
    config: &Config,
    role: &str,
    spec: KeySpec,
) -> Result<(KeyRef, SubjectPublicKeyInfoOwned), CaError> {
    let plan = match desk.store.key_plan(role)? {
        Some(plan) => plan,
        None => {
            let label = format!("{}-{role}", config.token.key_label_prefix);
            if desk.token.has_label(&label)? {
                return Err(CaError::ForeignKey(label));
            }
            let plan = KeyPlan { role: role.to_owned(), key_id: serial::random(16)?, label, spec: spec.to_string() };
            desk.store.commit(Change::KeyPlanned(plan.clone()))?;
            plan
        }
    };
    let key = key_ref(&plan)?;
    let is_certified = desk.store.authority(role)?.is_some() || desk.store.house(role)?.is_some();
    let spki = match desk.token.public_key(&key) {
        Ok(Some(spki)) => spki,
        Ok(None) | Err(TokenError::HalfKey(_)) if !is_certified => {
            let spki = desk.token.generate(&key)?;
            tracing::info!(event = "key_generated", role, spec = plan.spec, label = plan.label);
            spki
        }
        // A lost key is not replaced in silence once there is a certificate for it.
        Ok(None) => return Err(no_key(&key).into()),
        Err(fault) => return Err(fault.into()),
    };
    Ok((key, spki))
}

fn ensure_root(desk: &Desk, config: &Config, now: i64) -> Result<Authority, CaError> {
    if desk.store.authority(ROOT)?.is_some() {
        return Authority::load(desk.store.as_ref(), ROOT);
    }
    let (key, spki) = ensure_key(desk, config, ROOT, config.root.key)?;
    let subject = config.root.subject.clone();
    let not_after = now.saturating_add(config.root.validity_seconds);
    let issuer = Authority::nascent(ROOT, subject, spki.clone(), not_after, key)?;
    create(desk, &issuer, ROOT, &order(Kind::Root, &config.root, spki), now)
}

fn ensure_issuing(desk: &Desk, config: &Config, root: &Authority, now: i64) -> Result<Authority, CaError> {
    if desk.store.authority(ISSUING)?.is_some() {
        return Authority::load(desk.store.as_ref(), ISSUING);
    }
    let (_, spki) = ensure_key(desk, config, ISSUING, config.issuing.key)?;
    create(desk, root, ISSUING, &order(Kind::Issuing, &config.issuing, spki), now)
}

fn order(kind: Kind, section: &AuthoritySection, spki: SubjectPublicKeyInfoOwned) -> Order {
    Order {
        kind,
        subject: section.subject.clone(),
        spki,
        dns_names: Vec::new(),
        addresses: Vec::new(),
        validity_seconds: section.validity_seconds,
    }
}

fn create(desk: &Desk, issuer: &Authority, id: &str, order: &Order, now: i64) -> Result<Authority, CaError> {
    let prepared = issue::prepare(desk, issuer, order, Circumstances::default(), now)?;
    prepared.intend()?.sign()?.record(|certificate| Change::AuthorityCreated {
        authority: record::Authority {
            id: id.to_owned(),
            certificate: certificate.der.clone(),
            key_role: id.to_owned(),
        },
        certificate,
    })?;
    tracing::info!(event = "authority_created", authority = id, subject = name::text(&order.subject));
    Authority::load(desk.store.as_ref(), id)
}

/// The server certificate, issued again when a third of its life is left or the configured names changed.
///
/// # Errors
/// When the token or the store fails.
pub(crate) fn ensure_server(
    desk: &Desk,
    config: &Config,
    issuing: &Authority,
    now: i64,
) -> Result<(KeyRef, Certificate), CaError> {
    let (key, spki) = ensure_key(desk, config, SERVER, config.est.server_key)?;
    if let Some(current) = desk.store.house(SERVER)?
        && serves_still(&current, config, now)
    {
        return Ok((key, current));
    }
    let first = config.est.host_names.first().map_or("localhost", String::as_str);
    let subject = Name::from_str(&format!("CN={first}")).map_err(|fault| CaError::Encoding(fault.to_string()))?;
    let order = Order {
        kind: Kind::Server,
        subject,
        spki,
        dns_names: config.est.host_names.clone(),
        addresses: config.est.addresses.clone(),
        validity_seconds: config.est.server_validity_seconds,
    };
    let prepared = issue::prepare(desk, issuing, &order, Circumstances::default(), now)?;
    let certificate =
        prepared.intend()?.sign()?.record(|certificate| Change::Issued { role: SERVER.to_owned(), certificate })?;
    tracing::info!(event = "server_certificate_issued", not_after = certificate.not_after);
    Ok((key, certificate))
}

fn serves_still(current: &Certificate, config: &Config, now: i64) -> bool {
    let life = current.not_after.saturating_sub(current.not_before);
    let active = current.state() == record::CertificateState::Active;
    active && current.not_after.saturating_sub(now) > life / 3 && has_names(current, config).unwrap_or(false)
}

fn has_names(current: &Certificate, config: &Config) -> der::Result<bool> {
    let parsed = x509_cert::Certificate::from_der(&current.der)?;
    let held = parsed.tbs_certificate().get_extension::<SubjectAltName>()?.map(|(_, names)| name_set(&names.0));
    let wanted = extension::subject_alt_name(&config.est.host_names, &config.est.addresses, false)?;
    let wanted = SubjectAltName::from_der(wanted.extn_value.as_bytes())?;
    Ok(held == Some(name_set(&wanted.0)))
}

/// Checks that the token holds the keys of the certificates in the store.
///
/// # Errors
/// [`CaError::WrongKey`] or a missing key.
pub(crate) fn check_keys(desk: &Desk) -> Result<(), CaError> {
    for id in [ROOT, ISSUING] {
        let authority = Authority::load(desk.store.as_ref(), id)?;
        let held = desk.token.public_key(&authority.key)?;
        if held.and_then(|held| held.to_der().ok()) != Some(authority.spki.to_der()?) {
            return Err(CaError::WrongKey(authority.key.label));
        }
    }
    Ok(())
}

/// Writes public copies of the CA certificates: `root.pem`, `issuing.pem` and `chain.pem` (both, issuing first).
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write_copies(desk: &Desk, folder: &Path) -> Result<(), CaError> {
    let text = |id| Ok::<_, CaError>(pem("CERTIFICATE", &Authority::load(desk.store.as_ref(), id)?.certificate));
    let (root, issuing) = (text(ROOT)?, text(ISSUING)?);
    write_file(&folder.join("root.pem"), root.as_bytes(), 0o644)?;
    write_file(&folder.join("issuing.pem"), issuing.as_bytes(), 0o644)?;
    write_file(&folder.join("chain.pem"), format!("{issuing}{root}").as_bytes(), 0o644)
}

/// Writes a file whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CaError> {
    let fault = |fault: std::io::Error| CaError::File(format!("{}: {fault}", path.display()));
    let fresh = path.with_extension("new");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh).map_err(fault)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fault)?;
    std::fs::rename(&fresh, path).map_err(fault)
}
