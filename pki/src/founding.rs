//! The founding of the PKI: root, issuing authority and server certificate, their keys made in the token.
//!
//! Each step looks whether it was done before, so that an interrupted founding goes on where it broke off and a second one
//! changes nothing. A key is planned (its id is durable) before it is made, so that no key in the token is forgotten.

use crate::ca::hierarchy;
use crate::ca::issue::{self, Circumstances};
use crate::ca::key::SERVER;
use crate::ca::plan::Plan;
use crate::ca::profile::{Kind, Order};
use crate::ca::{CaError, Desk, key};
use crate::ceremony::protocol;
use crate::config::{AuthoritySection, Config, Side};
use crate::file;
use crate::store::Change;
use crate::store::kind::AuthorityKind;
use crate::store::record::{Certificate, INTERNAL, ISSUING, ROOT};
use crate::token::KeyRef;
use crate::x509::csr::name_set;
use crate::x509::{extension, pem};
use der::{Decode, Encode};
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
    if config.side == Side::Root {
        return found_root(desk, config, now);
    }
    let mut complete = store.house(SERVER)?.is_some();
    for id in [ROOT, ISSUING, INTERNAL] {
        complete &= store.authority(id)?.is_some();
    }
    if complete {
        return Ok(Founding::AlreadyThere);
    }
    issue::resolve_intents(desk, now)?;
    if config.side == Side::Below {
        if store.authority(ISSUING)?.is_none() || store.authority(INTERNAL)?.is_none() {
            return Err(CaError::Hierarchy(
                "the root is elsewhere (ca.role): run `craton-pki ceremony request`, carry the file to it, and import its answer"
                    .to_owned(),
            ));
        }
        ensure_server(desk, config, now)?;
        return Ok(Founding::Done);
    }
    ensure_authority(desk, (ROOT, AuthorityKind::Root, ""), &config.root, now)?;
    ensure_authority(desk, (ISSUING, AuthorityKind::Issuing, ROOT), &config.issuing, now)?;
    ensure_authority(desk, (INTERNAL, AuthorityKind::Issuing, ROOT), &config.internal, now)?;
    ensure_server(desk, config, now)?;
    Ok(Founding::Done)
}

/// The side of an offline root: the root and the key that signs protocols, nothing else.
fn found_root(desk: &Desk, config: &Config, now: i64) -> Result<Founding, CaError> {
    let complete = desk.store.authority(ROOT)?.is_some();
    issue::resolve_intents(desk, now)?;
    ensure_authority(desk, (ROOT, AuthorityKind::Root, ""), &config.root, now)?;
    protocol::ensure_signer(desk, now)?;
    Ok(if complete { Founding::AlreadyThere } else { Founding::Done })
}

/// An authority of the configuration, founded if it is not there yet.
fn ensure_authority(
    desk: &Desk,
    (id, kind, parent): (&str, AuthorityKind, &str),
    section: &AuthoritySection,
    now: i64,
) -> Result<(), CaError> {
    if desk.store.authority(id)?.is_some() {
        return Ok(());
    }
    let plan = Plan {
        id: id.to_owned(),
        kind,
        parent: parent.to_owned(),
        subject: section.subject.clone(),
        key: section.key,
        validity_seconds: section.validity_seconds,
        path_length: None,
        constraints: None,
        predecessor: String::new(),
    };
    hierarchy::create(desk, &plan, now).map(drop)
}

/// The server certificate, issued again when a third of its life is left or the configured names changed.
///
/// # Errors
/// When the token or the store fails.
pub(crate) fn ensure_server(desk: &Desk, config: &Config, now: i64) -> Result<(KeyRef, Certificate), CaError> {
    let (key, spki) = key::ensure(desk, SERVER, config.est.server_key)?;
    if let Some(current) = desk.store.house(SERVER)?
        && issue::serves_still(&current, now)
        && has_names(&current, config).unwrap_or(false)
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
        particular: Vec::new(),
        constraints: None,
        validity_seconds: config.est.server_validity_seconds,
    };
    let issuer = desk.services_issuer()?;
    let prepared = issue::prepare(desk, &issuer, &order, Circumstances::default(), now)?;
    let certificate =
        prepared.intend()?.sign()?.record(|certificate| Change::Issued { role: SERVER.to_owned(), certificate })?;
    tracing::info!(event = "server_certificate_issued", not_after = certificate.not_after);
    Ok((key, certificate))
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
    if desk.store.authority(ISSUING)?.is_none() {
        return Err(CaError::NotInitialised);
    }
    for authority in desk.authorities()? {
        if !authority.has_key() {
            continue;
        }
        let held = desk.token.public_key(&authority.key)?;
        if held.and_then(|held| held.to_der().ok()) != Some(authority.spki.to_der()?) {
            return Err(CaError::WrongKey(authority.key.label.clone()));
        }
    }
    Ok(())
}

/// Writes public copies of the CA certificates: `root.pem`, `issuing.pem` and `chain.pem` (both, issuing first).
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write_copies(desk: &Desk, folder: &Path) -> Result<(), CaError> {
    if desk.store.authority(ISSUING)?.is_none() {
        let root = desk.newest(ROOT)?;
        return Ok(file::write(&folder.join("root.pem"), pem("CERTIFICATE", &root.certificate).as_bytes(), 0o644)?);
    }
    let text = |id| Ok::<_, CaError>(pem("CERTIFICATE", &desk.newest(id)?.certificate));
    let (root, issuing) = (text(ROOT)?, text(ISSUING)?);
    file::write(&folder.join("root.pem"), root.as_bytes(), 0o644)?;
    file::write(&folder.join("issuing.pem"), issuing.as_bytes(), 0o644)?;
    Ok(file::write(&folder.join("chain.pem"), format!("{issuing}{root}").as_bytes(), 0o644)?)
}
