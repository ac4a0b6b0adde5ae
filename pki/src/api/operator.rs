//! Performs the operators' commands: the one place where each is implemented.

use super::command::{Command, Fault, Paging};
use super::view;
use crate::ca::reconcile;
use crate::ca::revoke::{self, Cause, Selection};
use crate::ca::{CaError, serial, sweep};
use crate::clock::instant;
use crate::est::label::is_label;
use crate::journal::office::{self, JournalOffice};
use crate::metrics;
use crate::store::query::{Cursor, MAX_PAGE, Span};
use crate::store::record::{ApprovalState, Certificate, Credential, Crl, CrlList, Device};
use crate::store::{Change, Conflict, Page, Query, Record, Store, StoreError};
use crate::va::crl::CrlOffice;
use crate::x509::{hex, name, pem, reason, sha256};
use crate::{clock, counters};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use der::{Decode, Encode};
use serde_json::{Value, json};
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_cert::ext::pkix::CrlReason;

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
            CaError::Store(StoreError::Conflict(Conflict::NotOnHold)) => "not_on_hold",
            CaError::Store(StoreError::Conflict(_)) => "conflict",
            CaError::Store(StoreError::Held(_)) => "store_held",
            CaError::Store(_) => "store",
            CaError::Token(_) => "token",
            CaError::NotInitialised => "not_initialised",
            CaError::Restored(_) => "restored",
            CaError::NoAuthority(_) => "not_found",
            CaError::Hierarchy(_) | CaError::Idle { .. } | CaError::CertificateOnly(_) => "hierarchy",
            CaError::NameConstraint { .. } => "name_constraint",
            CaError::WrongKey(_) => "wrong_key",
            CaError::KeyBlocked(_) => "key_compromised",
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
        self.attempt(command).inspect_err(|fault| counters::refused(&fault.code))
    }

    /// Writes the image of the store.
    ///
    /// # Errors
    /// When the store fails or nobody reads any longer.
    pub(super) fn write_image(&self, out: &mut dyn std::io::Write) -> Result<(), StoreError> {
        let now = clock::now();
        self.store.write_image(now, out)?;
        counters::image_taken(now);
        Ok(())
    }

    fn attempt(&self, command: Command) -> Result<Value, Fault> {
        match command {
            Command::Health {} => self.health(),
            Command::Signatures {} => self.signatures(),
            Command::CaList {} => self.ca_list(),
            Command::CaShow { id } => self.ca_show(&id),
            Command::CaCreate(order) => self.ca_create(*order),
            Command::CaImport(import) => self.ca_import(&import),
            Command::CaMove { id, act } => self.ca_move(&id, act),
            Command::CaRollover { id, key, validity_days } => self.ca_rollover(&id, key, validity_days),
            Command::CaRevoke { id, reason } => self.ca_revoke(&id, cause(&reason, None)?),
            Command::CertList { device, paging } => self.cert_list(device, &paging),
            Command::CertShow { serial } => self.cert_show(&serial),
            Command::CertRevoke { serial, reason, invalid_since } => {
                self.cert_revoke(&serial, cause(&reason, invalid_since.as_deref())?)
            }
            Command::CertRelease { serial } => self.cert_release(&serial),
            Command::CertRevokeAll { authority, label, device, serials, reason, invalid_since } => {
                let cause = cause(&reason, invalid_since.as_deref())?;
                self.cert_revoke_all(&selection(authority, label, device, serials)?, cause)
            }
            Command::DeviceList { paging } => {
                let page = self.store.find(Query::Devices(span(&paging)?))?;
                Ok(list(page, |record| record.device().map(|device| view::device(&device))))
            }
            Command::DeviceShow { id } => self.device_show(&id),
            Command::Crl { authority, renew, shard, delta } => {
                self.crl(&CrlList { authority, shard, is_delta: delta }, renew)
            }
            Command::Image {} => {
                Err(Fault::new("bad_request", "the image of the store goes through the local socket only"))
            }
            Command::Metrics {} => Ok(json!({ "text": metrics::text(self.store.as_ref())? })),
            Command::Stats {} => self.stats(),
            Command::JournalCheckpoint { lazily } => self.journal_checkpoint(lazily),
            Command::JournalVerify {} => self.journal_verify(),
            Command::JournalProve { serial, index, from } => self.journal_prove(serial.as_deref(), index, from),
            Command::JournalList { paging } => {
                let page = self.store.find(Query::Leaves(span(&paging)?))?;
                Ok(list(page, |record| record.leaf().map(|leaf| leaf.line.into())))
            }
            Command::ApprovalList { paging } => {
                let page = self.store.find(Query::Approvals(span(&paging)?))?;
                Ok(list(page, |record| record.approval().map(|approval| view::approval(&approval))))
            }
            Command::ApprovalDecide { id, grant } => self.approval_decide(&id, grant),
            Command::DeviceRegister { id, label } => self.device_register(id, label),
            Command::BootstrapNew { device, label, valid_hours } => self.bootstrap_new(device, label, valid_hours),
        }
    }

    fn health(&self) -> Result<Value, Fault> {
        let now = clock::now();
        let mut lists = serde_json::Map::new();
        let mut well = true;
        for authority in self.store.authorities()? {
            // Of an offline root there is the list that the last ceremony brought; it runs out too.
            let Some(crl) = self.store.crl_record(&authority.id)? else {
                well &= authority.key_role.is_empty();
                continue;
            };
            let is_good = crl.next_update > now && !clock::is_to_come(crl.this_update, now);
            let fresh = crl.number > 0 && is_good && crl.pending == 0;
            well &= fresh;
            let status = json!({
                "fresh": fresh,
                "number": crl.number,
                "next_update": instant(crl.next_update),
                "revocations_not_published": crl.pending,
            });
            lists.insert(authority.id, status);
        }
        let unaccounted = counters::unaccounted();
        well &= unaccounted.is_empty();
        let status = if well { "ok" } else { "degraded" };
        Ok(json!({ "status": status, "crl": lists, "signatures_unaccounted": unaccounted }))
    }

    /// Compares what is recorded with the token's counts, while both go on.
    fn signatures(&self) -> Result<Value, Fault> {
        let lines = reconcile::look((self.office)()?.desk())?;
        Ok(json!({ "items": lines.iter().map(view::account).collect::<Vec<_>>() }))
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

    fn cert_revoke(&self, serial: &str, cause: Cause) -> Result<Value, Fault> {
        let serial = parse_serial(serial)?;
        let now = clock::now();
        let certificate = revoke::revoke(self.store.as_ref(), &serial, cause, now).map_err(of_certificate)?;
        let reason = reason::name(certificate.reason);
        tracing::info!(event = "revoked", serial = hex(&serial), reason, device = certificate.device);
        Ok(self.published_with(view::certificate(&certificate, now), [list_of(&certificate)], now))
    }

    fn cert_release(&self, serial: &str) -> Result<Value, Fault> {
        let serial = parse_serial(serial)?;
        let now = clock::now();
        let certificate = revoke::release(self.store.as_ref(), &serial, now).map_err(of_certificate)?;
        tracing::info!(event = "released", serial = hex(&serial), device = certificate.device);
        Ok(self.published_with(view::certificate(&certificate, now), [list_of(&certificate)], now))
    }

    fn cert_revoke_all(&self, selection: &Selection, cause: Cause) -> Result<Value, Fault> {
        if let Selection::Authority(id) = selection
            && self.store.authority(id)?.is_none()
        {
            return Err(CaError::NoAuthority(id.clone()).into());
        }
        let now = clock::now();
        let revoked = sweep::revoke_all(self.store.as_ref(), selection, cause, now).map_err(of_certificate)?;
        let reason = reason::name(reason::code(cause.reason));
        tracing::info!(event = "revoked_together", count = revoked.count, reason);
        Ok(self.published_with(json!({ "revoked": revoked.count, "reason": reason }), revoked.lists, now))
    }

    fn ca_revoke(&self, id: &str, cause: Cause) -> Result<Value, Fault> {
        let now = clock::now();
        if cause.reason == CrlReason::CertificateHold {
            return Err(Fault::new("bad_request", "an authority is put on hold by `ca hold`"));
        }
        let authority = self.store.authority(id)?.ok_or_else(|| CaError::NoAuthority(id.to_owned()))?;
        let reason = reason::code(cause.reason);
        self.store.commit(Change::AuthorityRevoked { id: id.to_owned(), reason, at: now })?;
        tracing::warn!(event = "authority_revoked", authority = id, reason = reason::name(reason));
        let parsed = x509_cert::Certificate::from_der(&authority.certificate).map_err(CaError::from)?;
        let certificate = self.store.certificate(parsed.tbs_certificate().serial_number().as_bytes())?;
        let view = json!({ "id": id, "state": "revoked", "reason": reason::name(reason) });
        Ok(self.published_with(view, certificate.iter().map(list_of), now))
    }

    /// Publishes lists and adds their numbers to an answer, or what hinders.
    fn published_with(&self, mut view: Value, lists: impl IntoIterator<Item = CrlList>, now: i64) -> Value {
        let Some(object) = view.as_object_mut() else { return view };
        let mut numbers = serde_json::Map::new();
        for list in lists {
            match (self.office)().and_then(|office| office.publish_pending(&list, now)) {
                Ok(crl) => drop(numbers.insert(crl.authority, crl.number.into())),
                Err(fault) => {
                    tracing::error!(event = "crl_not_published", list = list.name(), %fault);
                    let warning =
                        format!("done, but the CRL is not published yet ({fault}); the server will try again");
                    object.insert("warning".to_owned(), warning.into());
                }
            }
        }
        if numbers.len() == 1
            && let Some(number) = numbers.values().next()
        {
            object.insert("crl_number".to_owned(), number.clone());
        } else {
            object.insert("crl_numbers".to_owned(), numbers.into());
        }
        view
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

    fn crl(&self, list: &CrlList, renew: bool) -> Result<Value, Fault> {
        if self.store.authority(&list.authority)?.is_none() {
            return Err(CaError::NoAuthority(list.authority.clone()).into());
        }
        let now = clock::now();
        let stored =
            || -> Result<Option<Crl>, Fault> { Ok(self.store.crl(&list.name())?.filter(|crl| crl.number > 0)) };
        if renew {
            (self.office)()?.publish(&list.authority, now)?;
        } else if stored()?.is_none() {
            (self.office)()?.publish_due(now)?;
        }
        let crl = stored()?.ok_or_else(|| Fault::new("not_found", format!("there is no CRL '{}'", list.name())))?;
        Ok(view::crl(&crl))
    }

    fn stats(&self) -> Result<Value, Fault> {
        let mut all = serde_json::Map::new();
        for (name, value) in self.store.find(Query::Counts(Span::first(MAX_PAGE)))?.all(Record::named_count) {
            all.insert(name, value.into());
        }
        all.insert("journal/records".to_owned(), office::size(self.store.as_ref())?.into());
        Ok(all.into())
    }

    fn journal(&self) -> Result<JournalOffice, Fault> {
        Ok(JournalOffice::open((self.office)()?.desk().clone())?)
    }

    fn journal_checkpoint(&self, lazily: bool) -> Result<Value, Fault> {
        let journal = self.journal()?;
        let last = if lazily { office::last_checkpoint(self.store.as_ref())? } else { None };
        let checkpoint = match last {
            Some(last) => last,
            None => journal.checkpoint(clock::now())?,
        };
        Ok(json!({
            "size": checkpoint.size,
            "signed_at": instant(checkpoint.at),
            "public_key": public_key(&journal)?,
            "checkpoint": checkpoint.note,
        }))
    }

    fn journal_verify(&self) -> Result<Value, Fault> {
        let journal = self.journal()?;
        let verdict = office::verify_all(self.store.as_ref(), Some(&journal.spki))?;
        if let Some(finding) = verdict.findings.first() {
            tracing::error!(event = "journal_not_sound", finding, findings = verdict.findings.len());
            return Err(Fault::new("journal_not_sound", verdict.findings.join("; ")));
        }
        Ok(json!({
            "status": "ok",
            "records": verdict.size,
            "checkpoints": verdict.checkpoints,
            "root": BASE64.encode(&verdict.root),
        }))
    }

    fn journal_prove(&self, serial: Option<&str>, index: Option<u64>, from: Option<u64>) -> Result<Value, Fault> {
        let journal = self.journal()?;
        let store = self.store.as_ref();
        let checkpoint = journal.checkpoint(clock::now())?;
        let missing = || Fault::new("not_found", "the journal has no such record");
        let proofs = match (serial, index, from) {
            (None, None, Some(size)) => {
                let earlier = office::checkpoint_of(store, size)?
                    .ok_or_else(|| Fault::new("not_found", format!("there is no checkpoint of {size} records")))?;
                vec![office::prove_consistency(store, &earlier, &checkpoint)?.ok_or_else(missing)?]
            }
            (None, Some(index), None) => {
                vec![office::prove_inclusion(store, index, &checkpoint)?.ok_or_else(missing)?]
            }
            (Some(serial), None, None) => {
                let query = Query::LeavesAbout { serial: parse_serial(serial)?, span: Span::first(PAGE) };
                let leaves = store.find(query)?.all(Record::leaf);
                let proofs = leaves.iter().map(|leaf| office::prove_inclusion(store, leaf.index, &checkpoint));
                proofs.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect()
            }
            _ => {
                return Err(Fault::new(
                    "bad_request",
                    "say exactly one: a serial number, a place or a checkpoint's size",
                ));
            }
        };
        if proofs.is_empty() {
            return Err(missing());
        }
        Ok(json!({ "public_key": public_key(&journal)?, "proofs": proofs }))
    }

    fn approval_decide(&self, id: &str, grant: bool) -> Result<Value, Fault> {
        let state = if grant { ApprovalState::Granted } else { ApprovalState::Refused };
        self.store.commit(Change::ApprovalDecided { id: id.to_owned(), state, at: clock::now() })?;
        tracing::info!(event = "approval_decided", id, decision = state.word());
        let approval = self.store.find(Query::Approval { id: id.to_owned() })?.one(Record::approval);
        approval.map(|approval| view::approval(&approval)).ok_or_else(|| Fault::new("not_found", "it was just used"))
    }

    fn device_register(&self, id: String, label: Option<String>) -> Result<Value, Fault> {
        let label = self.known_label(label)?;
        if !name::is_device_text(&id) {
            return Err(Fault::new(
                "bad_request",
                "a device is named by 1 to 64 letters, digits and . _ : - and space",
            ));
        }
        let device = Device { id, label, created_at: clock::now(), ..Device::default() };
        self.store.commit(Change::DeviceRegistered(device.clone())).map_err(|fault| match fault {
            StoreError::Conflict(Conflict::Exists) => Fault::new("conflict", "the device is known already"),
            fault => fault.into(),
        })?;
        tracing::info!(event = "device_registered", device = device.id, label = device.label);
        Ok(view::device(&device))
    }

    fn known_label(&self, label: Option<String>) -> Result<String, Fault> {
        let label = label.unwrap_or_default();
        if !label.is_empty() && !is_label(&label) || !self.labels.contains(&label) {
            return Err(Fault::new("bad_request", format!("'{label}' is not an EST label of the configuration")));
        }
        Ok(label)
    }

    fn bootstrap_new(&self, device: Option<String>, label: Option<String>, valid_hours: u32) -> Result<Value, Fault> {
        let label = self.known_label(label)?;
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
            "expires_at": instant(expires_at),
        }))
    }
}

fn public_key(journal: &JournalOffice) -> Result<String, Fault> {
    Ok(pem("PUBLIC KEY", &journal.spki.to_der().map_err(CaError::from)?))
}

fn of_certificate(fault: CaError) -> Fault {
    match fault {
        CaError::Store(StoreError::Conflict(Conflict::Missing)) => {
            Fault::new("not_found", "no certificate has this serial number")
        }
        fault => fault.into(),
    }
}

fn list_of(certificate: &Certificate) -> CrlList {
    CrlList::base(&certificate.authority, certificate.crl_shard)
}

fn cause(reason: &str, invalid_since: Option<&str>) -> Result<Cause, Fault> {
    let reason = reason::named(reason).ok_or_else(|| {
        let names: Vec<_> = reason::REASONS.iter().map(|row| row.0).collect();
        Fault::new("bad_request", format!("unknown reason '{reason}': use one of {}", names.join(", ")))
    })?;
    let invalid_since = match invalid_since {
        None => 0,
        Some(text) => parse_instant(text).ok_or_else(|| {
            Fault::new("bad_request", format!("'{text}' is no date: write 2026-01-31 or 2026-01-31T12:00:00Z"))
        })?,
    };
    Ok(Cause { reason, invalid_since })
}

/// A date, or an instant of RFC 3339, as seconds since 1970.
fn parse_instant(text: &str) -> Option<i64> {
    let whole = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00Z") };
    let instant = OffsetDateTime::parse(&whole, &Rfc3339).ok()?.unix_timestamp();
    (instant > 0).then_some(instant)
}

fn selection(
    authority: Option<String>,
    label: Option<String>,
    device: Option<String>,
    serials: Option<Vec<String>>,
) -> Result<Selection, Fault> {
    match (authority, label, device, serials) {
        (Some(authority), None, None, None) => Ok(Selection::Authority(authority)),
        (None, Some(label), None, None) => Ok(Selection::Label(label)),
        (None, None, Some(device), None) => Ok(Selection::Device(device)),
        (None, None, None, Some(serials)) => {
            Ok(Selection::Serials(serials.iter().map(|serial| parse_serial(serial)).collect::<Result<_, _>>()?))
        }
        _ => Err(Fault::new("bad_request", "say exactly one: an authority, a label, a device or serial numbers")),
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
