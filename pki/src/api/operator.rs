//! Performs the operators' commands: the one place where each is implemented.

use super::command::{Command, Fault, Paging};
use super::view;
use crate::ca::{CaError, revoke, serial};
use crate::clock;
use crate::est::routes::is_label;
use crate::store::query::{Cursor, Span};
use crate::store::record::Credential;
use crate::store::{Change, Conflict, Page, Query, Record, Store, StoreError};
use crate::va::crl::CrlOffice;
use crate::x509::{hex, sha256};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use serde_json::{Value, json};
use std::sync::Arc;

/// Records on a page unless asked otherwise.
const PAGE: usize = 100;
/// Longest life of a bootstrap credential.
const MAX_CREDENTIAL_HOURS: u32 = 24 * 365;

/// Where CRLs are made: at hand in the server, opened on demand by the command line.
pub(crate) type OfficeSource = Box<dyn Fn() -> Result<Arc<CrlOffice>, CaError> + Send + Sync>;

/// Performs commands.
pub(crate) struct Operator {
    pub(super) store: Arc<dyn Store>,
    pub(super) office: OfficeSource,
    labels: Vec<String>,
}

impl From<CaError> for Fault {
    fn from(fault: CaError) -> Self {
        let code = match &fault {
            CaError::Store(StoreError::Conflict(Conflict::Missing)) => "not_found",
            CaError::Store(StoreError::Conflict(Conflict::AlreadyRevoked)) => "already_revoked",
            CaError::Store(StoreError::Conflict(_)) => "conflict",
            CaError::Store(StoreError::Held(_)) => "store_held",
            CaError::Store(_) => "store",
            CaError::Token(_) => "token",
            CaError::NotInitialised => "not_initialised",
            CaError::NoAuthority(_) => "not_found",
            CaError::Hierarchy(_) | CaError::Idle { .. } | CaError::CertificateOnly(_) => "hierarchy",
            CaError::NameConstraint { .. } => "name_constraint",
            CaError::WrongKey(_) => "wrong_key",
            _ => "internal",
        };
        Self::new(code, fault)
    }
}

impl From<StoreError> for Fault {
    fn from(fault: StoreError) -> Self {
        CaError::from(fault).into()
    }
}

impl Operator {
    /// An operator over a store. `labels` are the EST labels, the empty one among them.
    pub(crate) fn new(store: Arc<dyn Store>, office: OfficeSource, labels: Vec<String>) -> Self {
        Self { store, office, labels }
    }

    /// Performs a command.
    ///
    /// # Errors
    /// The [`Fault`].
    pub(crate) fn perform(&self, command: Command) -> Result<Value, Fault> {
        match command {
            Command::Health {} => self.health(),
            Command::CaList {} => self.ca_list(),
            Command::CaShow { id } => self.ca_show(&id),
            Command::CaCreate(order) => self.ca_create(*order),
            Command::CaImport(import) => self.ca_import(&import),
            Command::CaMove { id, act } => self.ca_move(&id, act),
            Command::CaRollover { id, key, validity_days } => self.ca_rollover(&id, key, validity_days),
            Command::CertList { device, paging } => self.cert_list(device, &paging),
            Command::CertShow { serial } => self.cert_show(&serial),
            Command::CertRevoke { serial, reason } => self.cert_revoke(&serial, &reason),
            Command::DeviceList { paging } => {
                let page = self.store.find(Query::Devices(span(&paging)?))?;
                Ok(list(page, |record| record.device().map(|device| view::device(&device))))
            }
            Command::DeviceShow { id } => self.device_show(&id),
            Command::Crl { authority, renew } => self.crl(&authority, renew),
            Command::BootstrapNew { device, label, valid_hours } => self.bootstrap_new(device, label, valid_hours),
        }
    }

    fn health(&self) -> Result<Value, Fault> {
        let now = clock::now();
        let mut lists = serde_json::Map::new();
        let mut well = true;
        for authority in self.store.authorities()? {
            if authority.key_role.is_empty() {
                continue;
            }
            let crl = self.store.crl(&authority.id)?.unwrap_or_default();
            let fresh = crl.number > 0 && crl.next_update > now && crl.pending == 0;
            well &= fresh;
            let status = json!({
                "fresh": fresh,
                "number": crl.number,
                "next_update": view::instant(crl.next_update),
                "revocations_not_published": crl.pending,
            });
            lists.insert(authority.id, status);
        }
        Ok(json!({ "status": if well { "ok" } else { "degraded" }, "crl": lists }))
    }

    fn cert_list(&self, device: Option<String>, paging: &Paging) -> Result<Value, Fault> {
        let span = span(paging)?;
        let query = match device {
            Some(device) => Query::CertificatesOfDevice { device, span },
            None => Query::Certificates(span),
        };
        let now = clock::now();
        let page = self.store.find(query)?;
        Ok(list(page, |record| record.certificate().map(|certificate| view::certificate(&certificate, now))))
    }

    fn cert_show(&self, serial: &str) -> Result<Value, Fault> {
        let found = self.store.certificate(&parse_serial(serial)?)?;
        let certificate = found.ok_or_else(|| Fault::new("not_found", "no certificate has this serial number"))?;
        Ok(view::certificate_whole(&certificate, clock::now()))
    }

    fn cert_revoke(&self, serial: &str, reason: &str) -> Result<Value, Fault> {
        let serial = parse_serial(serial)?;
        let reason = revoke::reason(reason).ok_or_else(|| {
            let names: Vec<_> = revoke::REASONS.iter().map(|row| row.0).collect();
            Fault::new("bad_request", format!("unknown reason '{reason}': use one of {}", names.join(", ")))
        })?;
        let now = clock::now();
        let certificate = revoke::revoke(self.store.as_ref(), &serial, reason, now).map_err(|fault| match fault {
            CaError::Store(StoreError::Conflict(Conflict::Missing)) => {
                Fault::new("not_found", "no certificate has this serial number")
            }
            fault => fault.into(),
        })?;
        tracing::info!(
            event = "revoked",
            serial = hex(&serial),
            reason = revoke::reason_name(certificate.reason),
            device = certificate.device,
        );
        let mut view = view::certificate(&certificate, now);
        let published = (self.office)().and_then(|office| office.publish(&certificate.authority, now));
        if let Some(object) = view.as_object_mut() {
            match published {
                Ok(crl) => object.insert("crl_number".to_owned(), crl.number.into()),
                Err(fault) => {
                    tracing::error!(event = "crl_not_published", authority = certificate.authority, %fault);
                    let warning =
                        format!("revoked, but the CRL is not published yet ({fault}); the server will try again");
                    object.insert("warning".to_owned(), warning.into())
                }
            };
        }
        Ok(view)
    }

    fn device_show(&self, id: &str) -> Result<Value, Fault> {
        let device = self.store.device(id)?.ok_or_else(|| Fault::new("not_found", "there is no such device"))?;
        let certificates = self.cert_list(Some(id.to_owned()), &Paging::default())?;
        let mut view = view::device(&device);
        if let Some(object) = view.as_object_mut() {
            object.insert("certificates".to_owned(), certificates.get("items").cloned().unwrap_or_default());
        }
        Ok(view)
    }

    fn crl(&self, authority: &str, renew: bool) -> Result<Value, Fault> {
        if self.store.authority(authority)?.is_none() {
            return Err(CaError::NoAuthority(authority.to_owned()).into());
        }
        let stored = self.store.crl(authority)?.filter(|crl| crl.number > 0 && !renew);
        let crl = match stored {
            Some(crl) => crl,
            None => (self.office)()?.publish(authority, clock::now())?,
        };
        Ok(view::crl(&crl))
    }

    fn bootstrap_new(&self, device: Option<String>, label: Option<String>, valid_hours: u32) -> Result<Value, Fault> {
        let label = label.unwrap_or_default();
        if !label.is_empty() && !is_label(&label) || !self.labels.contains(&label) {
            return Err(Fault::new("bad_request", format!("'{label}' is not an EST label of the configuration")));
        }
        if valid_hours == 0 || valid_hours > MAX_CREDENTIAL_HOURS {
            return Err(Fault::new("bad_request", "a credential is good for 1 hour to one year"));
        }
        let now = clock::now();
        let expires_at = now.saturating_add(i64::from(valid_hours) * 3600);
        let name = format!("boot-{}", hex(&serial::random(6)?));
        let secret = BASE64URL_NOPAD.encode(&serial::random(32)?);
        let credential = Credential {
            name: name.clone(),
            secret_sha256: sha256(secret.as_bytes()).to_vec(),
            expires_at,
            device: device.clone().unwrap_or_default(),
            label: label.clone(),
            created_at: now,
            ..Credential::default()
        };
        self.store.commit(Change::CredentialCreated(credential))?;
        tracing::info!(event = "credential_created", name, device, label, expires_at);
        Ok(json!({
            "username": name,
            "password": secret,
            "device": device,
            "label": label,
            "expires_at": view::instant(expires_at),
        }))
    }
}

fn span(paging: &Paging) -> Result<Span, Fault> {
    let after = match &paging.after {
        Some(text) => Some(Cursor(
            HEXLOWER_PERMISSIVE
                .decode(text.as_bytes())
                .map_err(|_| Fault::new("bad_request", "'after' must be the 'next' of an earlier page"))?,
        )),
        None => None,
    };
    Ok(Span { after, limit: paging.limit.unwrap_or(PAGE) })
}

fn list(page: Page, view: impl Fn(Record) -> Option<Value>) -> Value {
    let next = page.next.map(|cursor| hex(&cursor.0));
    let items: Vec<Value> = page.records.into_iter().filter_map(view).collect();
    json!({ "items": items, "next": next })
}

/// Accepts what `openssl x509 -serial` and our own lists show: hexadecimal, colons allowed, leading zeros without meaning.
fn parse_serial(text: &str) -> Result<Vec<u8>, Fault> {
    let digits: String = text.trim_start_matches("serial=").chars().filter(|c| *c != ':').collect();
    let digits = if digits.len().is_multiple_of(2) { digits } else { format!("0{digits}") };
    let bytes = HEXLOWER_PERMISSIVE
        .decode(digits.as_bytes())
        .map_err(|_| Fault::new("bad_request", "a serial number is written in hexadecimal"))?;
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    Ok(bytes[first..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_read_as_people_copy_them() {
        for text in ["4A0B", "4a:0b", "00:4A:0B", "serial=4A0B"] {
            assert_eq!(parse_serial(text), Ok(vec![0x4A, 0x0B]), "{text}");
        }
        assert_eq!(parse_serial("a0b"), Ok(vec![0x0A, 0x0B]));
        assert!(parse_serial("xyz").is_err());
    }
}
