//! The changes: what each business event does to the tables.

use super::{
    AUTHORITIES, CERTIFICATES, CLAIMS, CREDENTIALS, CRLS, DEVICES, HOUSE, INTENTS, ISSUED, ISSUED_TO, JOURNAL,
    KEY_PLANS, KEY_USES, QUEUE, REVOCATIONS, Table, backend, decode, get, joined, next_sequence, put, raw, remove,
    save,
};
use crate::store::change::Doubt;
use crate::store::record::{
    Authority, Certificate, CertificateState, Credential, Crl, Device, Due, DueEvent, Intent, KeyUse, Revocation,
};
use crate::store::{Change, Conflict, StoreError, Supersession};
use crate::x509::hex;
use prost::Message;
use redb::{ReadableTable, WriteTransaction};

/// Reason code `keyCompromise` (RFC 5280 section 5.3.1).
const KEY_COMPROMISE: u32 = 1;
/// Reason code `superseded`.
const SUPERSEDED: u32 = 4;

/// Makes one change within a transaction: checks everything first, then writes.
///
/// # Errors
/// [`StoreError::Conflict`] with nothing written; after any other fault the transaction must be dropped.
pub(super) fn apply(transaction: &WriteTransaction, change: &Change) -> Result<(), StoreError> {
    match change {
        Change::KeyPlanned(plan) => create(transaction, KEY_PLANS, &plan.role, plan)?,
        Change::CredentialCreated(credential) => create(transaction, CREDENTIALS, &credential.name, credential)?,
        Change::AuthorityCreated { authority, certificate } => {
            if raw(transaction, AUTHORITIES, authority.id.as_bytes())?.is_some() {
                return Err(Conflict::Exists.into());
            }
            let intent = open_intent(transaction, &certificate.serial)?;
            save(transaction, AUTHORITIES, authority.id.as_bytes(), authority)?;
            store_certificate(transaction, certificate)?;
            close_intent(transaction, &intent)?;
        }
        Change::AuthorityImported(authority) => create(transaction, AUTHORITIES, &authority.id, authority)?,
        Change::AuthorityMoved { authority, from } => {
            let stored: Authority = get(transaction, AUTHORITIES, authority.id.as_bytes())?.ok_or(Conflict::Missing)?;
            if stored.state() != *from || stored.certificate != authority.certificate {
                return Err(Conflict::Stale.into());
            }
            save(transaction, AUTHORITIES, authority.id.as_bytes(), authority)?;
        }
        Change::Intend(intent) => intend(transaction, intent)?,
        Change::Issued { role, certificate } => {
            let intent = open_intent(transaction, &certificate.serial)?;
            if let Some(serial) = raw(transaction, HOUSE, role.as_bytes())?
                && let Some(mut before) = get::<Certificate>(transaction, CERTIFICATES, &serial)?
                && before.state() == CertificateState::Active
            {
                before.set_state(CertificateState::Superseded);
                before.successor.clone_from(&certificate.serial);
                save(transaction, CERTIFICATES, &serial, &before)?;
            }
            put(transaction, HOUSE, role.as_bytes(), &certificate.serial)?;
            store_certificate(transaction, certificate)?;
            close_intent(transaction, &intent)?;
        }
        Change::Enrolled { certificate, device, supersession } => {
            enrolled(transaction, certificate, device, *supersession)?;
        }
        Change::Abandoned { serial, doubt, at } => abandoned(transaction, serial, *doubt, *at)?,
        Change::Revoked { serial, reason, at, device } => revoked(transaction, serial, *reason, *at, device.as_ref())?,
        Change::CrlNumbered { authority, number } => {
            let mut crl = crl_of(transaction, authority)?;
            if *number != crl.last_number.saturating_add(1) {
                return Err(Conflict::Number.into());
            }
            crl.last_number = *number;
            save(transaction, CRLS, authority.as_bytes(), &crl)?;
        }
        Change::DuePassed { due, device } => {
            if raw(transaction, QUEUE, &queue_key(due))?.is_none() {
                return Err(Conflict::Missing.into());
            }
            if let Some(device) = device {
                fresh(transaction, device)?;
                save_device(transaction, device)?;
            }
            remove(transaction, QUEUE, &queue_key(due))?;
        }
        Change::CrlPublished { crl, answers } => crl_published(transaction, crl, *answers)?,
    }
    journal(transaction, change)
}

fn create(transaction: &WriteTransaction, table: Table, name: &str, record: &impl Message) -> Result<(), StoreError> {
    if raw(transaction, table, name.as_bytes())?.is_some() {
        return Err(Conflict::Exists.into());
    }
    save(transaction, table, name.as_bytes(), record)
}

/// The things that only one enrolment at a time may have its hands on.
fn claims(intent: &Intent) -> Vec<Vec<u8>> {
    let mut claims = Vec::new();
    if !intent.device.is_empty() {
        claims.push([b"device:", intent.device.as_bytes()].concat());
    }
    if !intent.replaces.is_empty() {
        claims.push([b"certificate:", intent.replaces.as_slice()].concat());
    }
    if !intent.credential.is_empty() {
        claims.push([b"credential:", intent.credential.as_bytes()].concat());
    }
    claims
}

fn intend(transaction: &WriteTransaction, intent: &Intent) -> Result<(), StoreError> {
    let taken = raw(transaction, CERTIFICATES, &intent.serial)?.is_some()
        || raw(transaction, INTENTS, &intent.serial)?.is_some();
    if taken {
        return Err(Conflict::SerialTaken.into());
    }
    for claim in claims(intent) {
        if raw(transaction, CLAIMS, &claim)?.is_some() {
            return Err(Conflict::Busy.into());
        }
    }
    if !intent.replaces.is_empty() {
        active(transaction, &intent.replaces)?;
    }
    if !intent.credential.is_empty() {
        unspent(transaction, &intent.credential)?;
    }
    for claim in claims(intent) {
        put(transaction, CLAIMS, &claim, &intent.serial)?;
    }
    save(transaction, INTENTS, &intent.serial, intent)
}

fn active(transaction: &WriteTransaction, serial: &[u8]) -> Result<Certificate, StoreError> {
    let certificate: Certificate = get(transaction, CERTIFICATES, serial)?.ok_or(Conflict::Missing)?;
    if certificate.state() == CertificateState::Active { Ok(certificate) } else { Err(Conflict::NotActive.into()) }
}

fn unspent(transaction: &WriteTransaction, name: &str) -> Result<Credential, StoreError> {
    let credential: Credential = get(transaction, CREDENTIALS, name.as_bytes())?.ok_or(Conflict::Missing)?;
    if credential.used_at == 0 { Ok(credential) } else { Err(Conflict::Spent.into()) }
}

fn open_intent(transaction: &WriteTransaction, serial: &[u8]) -> Result<Intent, StoreError> {
    get(transaction, INTENTS, serial)?.ok_or_else(|| Conflict::NoIntent.into())
}

fn close_intent(transaction: &WriteTransaction, intent: &Intent) -> Result<(), StoreError> {
    for claim in claims(intent) {
        remove(transaction, CLAIMS, &claim)?;
    }
    remove(transaction, INTENTS, &intent.serial)
}

/// Time first: the queue is read from its front.
fn queue_key(due: &Due) -> Vec<u8> {
    let time = u64::try_from(due.at).unwrap_or(0).to_be_bytes();
    let event = u8::try_from(due.event).unwrap_or(u8::MAX);
    [&time[..], &[event], &due.serial].concat()
}

fn store_certificate(transaction: &WriteTransaction, certificate: &Certificate) -> Result<(), StoreError> {
    let sequence = next_sequence(transaction)?;
    put(transaction, ISSUED, &sequence, &certificate.serial)?;
    if !certificate.device.is_empty() {
        put(transaction, ISSUED_TO, &joined(&certificate.device, &sequence), &certificate.serial)?;
    }
    if certificate.warn_at != 0 {
        for (at, event) in [(certificate.warn_at, DueEvent::ExpiryNear), (certificate.not_after, DueEvent::Expired)] {
            let due = Due { at, event: event.into(), serial: certificate.serial.clone() };
            save(transaction, QUEUE, &queue_key(&due), &due)?;
        }
    }
    if !certificate.spki_sha256.is_empty() {
        let use_of_key = KeyUse {
            spki_sha256: certificate.spki_sha256.clone(),
            device: certificate.device.clone(),
            compromised: false,
        };
        save(transaction, KEY_USES, &certificate.spki_sha256, &use_of_key)?;
    }
    save(transaction, CERTIFICATES, &certificate.serial, certificate)
}

/// The stored device must be the one the change was made from.
fn fresh(transaction: &WriteTransaction, device: &Device) -> Result<(), StoreError> {
    let stored: Option<Device> = get(transaction, DEVICES, device.id.as_bytes())?;
    if stored.map_or(0, |stored| stored.revision) == device.revision { Ok(()) } else { Err(Conflict::Stale.into()) }
}

fn save_device(transaction: &WriteTransaction, device: &Device) -> Result<(), StoreError> {
    let next = Device { revision: device.revision.saturating_add(1), ..device.clone() };
    save(transaction, DEVICES, device.id.as_bytes(), &next)
}

fn enrolled(
    transaction: &WriteTransaction,
    certificate: &Certificate,
    device: &Device,
    supersession: Supersession,
) -> Result<(), StoreError> {
    let intent = open_intent(transaction, &certificate.serial)?;
    fresh(transaction, device)?;
    let replaced = if intent.replaces.is_empty() { None } else { Some(active(transaction, &intent.replaces)?) };
    let credential = if intent.credential.is_empty() { None } else { Some(unspent(transaction, &intent.credential)?) };

    if let Some(mut replaced) = replaced {
        replaced.successor.clone_from(&certificate.serial);
        match supersession {
            Supersession::Expire => replaced.set_state(CertificateState::Superseded),
            Supersession::Revoke => {
                revoke_record(transaction, &mut replaced, SUPERSEDED, certificate.issued_at)?;
            }
        }
        save(transaction, CERTIFICATES, &replaced.serial, &replaced)?;
    }
    if let Some(mut credential) = credential {
        credential.used_at = certificate.issued_at;
        credential.used_for.clone_from(&certificate.serial);
        save(transaction, CREDENTIALS, credential.name.as_bytes(), &credential)?;
    }
    store_certificate(transaction, certificate)?;
    save_device(transaction, device)?;
    close_intent(transaction, &intent)
}

fn abandoned(transaction: &WriteTransaction, serial: &[u8], doubt: Doubt, at: i64) -> Result<(), StoreError> {
    let intent = open_intent(transaction, serial)?;
    if doubt == Doubt::MaybeSigned {
        let mut record = Certificate {
            serial: intent.serial.clone(),
            authority: intent.authority.clone(),
            kind: "abandoned".to_owned(),
            subject: intent.subject.clone(),
            not_after: intent.not_after,
            device: intent.device.clone(),
            ..Certificate::default()
        };
        revoke_record(transaction, &mut record, 0, at)?;
        record.set_state(CertificateState::Abandoned);
        store_certificate(transaction, &record)?;
    }
    close_intent(transaction, &intent)
}

fn revoked(
    transaction: &WriteTransaction,
    serial: &[u8],
    reason: u32,
    at: i64,
    device: Option<&Device>,
) -> Result<(), StoreError> {
    let mut certificate: Certificate = get(transaction, CERTIFICATES, serial)?.ok_or(Conflict::Missing)?;
    match certificate.state() {
        CertificateState::Active | CertificateState::Superseded => {}
        CertificateState::Revoked | CertificateState::Abandoned => return Err(Conflict::AlreadyRevoked.into()),
        CertificateState::Unknown => return Err(Conflict::NotActive.into()),
    }
    if let Some(device) = device {
        fresh(transaction, device)?;
        save_device(transaction, device)?;
    }
    revoke_record(transaction, &mut certificate, reason, at)?;
    save(transaction, CERTIFICATES, serial, &certificate)?;
    if reason == KEY_COMPROMISE
        && let Some(mut use_of_key) = get::<KeyUse>(transaction, KEY_USES, &certificate.spki_sha256)?
    {
        use_of_key.compromised = true;
        save(transaction, KEY_USES, &certificate.spki_sha256, &use_of_key)?;
    }
    Ok(())
}

/// Marks a certificate as revoked and puts it in line for the next CRL. The caller saves the certificate.
fn revoke_record(
    transaction: &WriteTransaction,
    certificate: &mut Certificate,
    reason: u32,
    at: i64,
) -> Result<(), StoreError> {
    certificate.set_state(CertificateState::Revoked);
    certificate.reason = reason;
    certificate.revoked_at = at;
    let revocation =
        Revocation { serial: certificate.serial.clone(), revoked_at: at, reason, not_after: certificate.not_after };
    save(transaction, REVOCATIONS, &joined(&certificate.authority, &certificate.serial), &revocation)?;
    let mut crl = crl_of(transaction, &certificate.authority)?;
    crl.pending = crl.pending.saturating_add(1);
    save(transaction, CRLS, certificate.authority.as_bytes(), &crl)
}

fn crl_of(transaction: &WriteTransaction, authority: &str) -> Result<Crl, StoreError> {
    let stored = get(transaction, CRLS, authority.as_bytes())?;
    Ok(stored.unwrap_or_else(|| Crl { authority: authority.to_owned(), ..Crl::default() }))
}

fn crl_published(transaction: &WriteTransaction, published: &Crl, answers: u64) -> Result<(), StoreError> {
    let stored = crl_of(transaction, &published.authority)?;
    if published.number != stored.last_number || published.number <= stored.number {
        return Err(Conflict::Number.into());
    }
    let next =
        Crl { last_number: stored.last_number, pending: stored.pending.saturating_sub(answers), ..published.clone() };
    let mut done = Vec::new();
    {
        let table = transaction.open_table(REVOCATIONS).map_err(backend)?;
        let prefix = joined(&published.authority, &[]);
        for entry in table.range(prefix.as_slice()..).map_err(backend)? {
            let (key, value) = entry.map_err(backend)?;
            if !key.value().starts_with(&prefix) {
                break;
            }
            let revocation: Revocation = decode(REVOCATIONS, value.value())?;
            if revocation.not_after < published.this_update {
                done.push(key.value().to_vec());
            }
        }
    }
    for key in done {
        remove(transaction, REVOCATIONS, &key)?;
    }
    save(transaction, CRLS, published.authority.as_bytes(), &next)
}

fn journal(transaction: &WriteTransaction, change: &Change) -> Result<(), StoreError> {
    let concerns = match change {
        Change::KeyPlanned(plan) => plan.role.clone(),
        Change::AuthorityCreated { authority, .. } => authority.id.clone(),
        Change::AuthorityImported(authority) | Change::AuthorityMoved { authority, .. } => authority.id.clone(),
        Change::Intend(intent) => hex(&intent.serial),
        Change::Issued { certificate, .. } | Change::Enrolled { certificate, .. } => hex(&certificate.serial),
        Change::Abandoned { serial, .. } | Change::Revoked { serial, .. } => hex(serial),
        Change::CrlNumbered { authority, number } => format!("{authority}:{number}"),
        Change::CrlPublished { crl, .. } => format!("{}:{}", crl.authority, crl.number),
        Change::DuePassed { due, .. } => hex(&due.serial),
        Change::CredentialCreated(credential) => credential.name.clone(),
    };
    let sequence = next_sequence(transaction)?;
    put(transaction, JOURNAL, &sequence, format!("{} {concerns}", change.name()).as_bytes())
}
