//! The changes: what each business event does to the tables.

use super::counts::account;
use super::rows::{
    change_list, crl_of, drop_revocation, fresh, list_again, list_of, notice_key, queue_key, save_certificate,
    save_device,
};
use super::{
    APPROVALS, AUTHORITIES, CERTIFICATES, CHECKPOINTS, CLAIMS, COUNTS, CREDENTIALS, CRL_BODIES, CRL_CHANGES, CRLS,
    DEVICES, FOREIGN_LISTS, HOUSE, INTENTS, ISSUED, ISSUED_BY, ISSUED_TO, ISSUED_UNDER, KEY_PLANS, KEY_USES, META,
    NOTICES, QUEUE, READ, RESTORED, REVOCATIONS, REVOKED_UNTIL, SWEEPS, Table, backend, get, joined, next_sequence,
    put, raw, remove, save,
};
use super::{clock, journal, restored};
use crate::store::change::Doubt;
use crate::store::lifecycle::{self, Event};
use crate::store::notice::{self, Outcome};
use crate::store::query::{MADE, OPEN, SETTLED, count_name};
use crate::store::record::{
    Approval, ApprovalState, Authority, AuthorityState, Certificate, CertificateState, Credential, Crl, CrlChange,
    Device, Due, DueEvent, ForeignList, Intent, KeyUse, Notice, Sweep,
};
use crate::store::{Change, Conflict, Passed, StoreError, Supersession};
use crate::x509::reason;
use der::Decode;
use prost::Message;
use redb::{ReadableTable, WriteTransaction};
use x509_cert::ext::pkix::CrlReason;

const KEY_COMPROMISE: u32 = reason::code(CrlReason::KeyCompromise);
const CERTIFICATE_HOLD: u32 = reason::code(CrlReason::CertificateHold);
const SUPERSEDED: u32 = reason::code(CrlReason::Superseded);

/// Makes one change within a transaction: checks everything first, then writes.
///
/// # Errors
/// [`StoreError::Conflict`] with nothing written; after any other fault the transaction must be dropped.
pub(super) fn apply(transaction: &WriteTransaction, change: &Change) -> Result<(), StoreError> {
    match change {
        Change::Checkpointed(checkpoint) => {
            save(transaction, CHECKPOINTS, &checkpoint.size.to_be_bytes(), checkpoint)?;
        }
        Change::Refused { .. } => {}
        Change::Restored { restoration, least_crl_number } => {
            restored::restored(transaction, restoration, *least_crl_number)?;
        }
        Change::CaughtUp { .. } => {
            if raw(transaction, META, RESTORED)?.is_none() {
                return Err(Conflict::Missing.into());
            }
            remove(transaction, META, RESTORED)?;
        }
        Change::KeyPlanned(plan) => create(transaction, KEY_PLANS, &plan.role, plan)?,
        Change::ApprovalAsked(approval) => create(transaction, APPROVALS, &approval.id, approval)?,
        Change::ApprovalDecided { id, state, at } => {
            let mut approval: Approval = get(transaction, APPROVALS, id.as_bytes())?.ok_or(Conflict::Missing)?;
            approval.set_state(*state);
            approval.decided_at = *at;
            save(transaction, APPROVALS, id.as_bytes(), &approval)?;
        }
        Change::DeviceRegistered(device) => {
            if raw(transaction, DEVICES, device.id.as_bytes())?.is_some() {
                return Err(Conflict::Exists.into());
            }
            save_device(transaction, device)?;
        }
        Change::CredentialCreated(credential) => create(transaction, CREDENTIALS, &credential.name, credential)?,
        Change::AuthorityCreated { authority, certificate } => {
            if raw(transaction, AUTHORITIES, authority.id.as_bytes())?.is_some() {
                return Err(Conflict::Exists.into());
            }
            let intent = open_intent(transaction, &certificate.serial)?;
            save(transaction, AUTHORITIES, authority.id.as_bytes(), authority)?;
            store_certificate(transaction, certificate)?;
            account(transaction, &certificate.authority, RECORDED)?;
            close_intent(transaction, &intent)?;
        }
        Change::AuthorityImported(authority) => create(transaction, AUTHORITIES, &authority.id, authority)?,
        Change::AuthorityRevoked { id, reason, at } => {
            authority_revoked(transaction, id, Cause { reason: *reason, at: *at, invalid_since: 0 })?;
        }
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
                save_certificate(transaction, &before)?;
            }
            put(transaction, HOUSE, role.as_bytes(), &certificate.serial)?;
            store_certificate(transaction, certificate)?;
            account(transaction, &certificate.authority, RECORDED)?;
            close_intent(transaction, &intent)?;
        }
        Change::Enrolled { certificate, device, supersession } => {
            enrolled(transaction, certificate, device, *supersession)?;
        }
        Change::Abandoned { serial, doubt, at } => abandoned(transaction, serial, *doubt, *at)?,
        Change::Revoked { serials, reason, at, invalid_since } => {
            let cause = Cause { reason: *reason, at: *at, invalid_since: *invalid_since };
            revoked(transaction, serials, cause)?;
        }
        Change::SweepBegun(sweep) => {
            if raw(transaction, SWEEPS, &sweep.id)?.is_some() {
                return Err(Conflict::Exists.into());
            }
            save(transaction, SWEEPS, &sweep.id, sweep)?;
        }
        Change::SweepWent { id, from, next, is_last, serials, reason, at, invalid_since } => {
            let mut sweep: Sweep = get(transaction, SWEEPS, id)?.ok_or(Conflict::Stale)?;
            if sweep.after != *from {
                return Err(Conflict::Stale.into());
            }
            revoked(transaction, serials, Cause { reason: *reason, at: *at, invalid_since: *invalid_since })?;
            sweep.after.clone_from(next);
            if *is_last {
                remove(transaction, SWEEPS, id)?;
            } else {
                save(transaction, SWEEPS, id, &sweep)?;
            }
        }
        Change::Released { serial, at } => released(transaction, serial, *at)?,
        Change::SignatureIntended { authority } => account(transaction, authority, &[(OPEN, 1)])?,
        Change::Reconciled { authority, counted, .. } => {
            for (name, value) in [(SETTLED, *counted), (MADE, 0), (OPEN, 0)] {
                put(transaction, COUNTS, count_name(authority, name).as_bytes(), &value.to_be_bytes())?;
            }
        }
        Change::CrlNumbered { list, number, lists } => {
            let mut crl = crl_of(transaction, list)?;
            if *number <= crl.last_number {
                return Err(Conflict::Number.into());
            }
            crl.last_number = *number;
            save(transaction, CRLS, list.as_bytes(), &crl)?;
            account(transaction, &crl.list().authority, &[(OPEN, i64::try_from(*lists).unwrap_or(0))])?;
        }
        Change::ForeignListTaken(list) => foreign_list_taken(transaction, list)?,
        Change::NoticesTried { notices, outcome, next_try } => {
            notices_tried(transaction, notices, *outcome, *next_try)?;
        }
        Change::ClockWentBack { until, at } => clock::went_back(transaction, *until, *at)?,
        Change::Undone { from, next, undone } => clock::undone(transaction, from, next.as_deref(), undone)?,
        Change::DuePassed(passed) => due_passed(transaction, passed)?,
        Change::CrlPublished { crls, answers } => crl_published(transaction, crls, *answers)?,
    }
    journal::record(transaction, change)
}

fn foreign_list_taken(transaction: &WriteTransaction, list: &ForeignList) -> Result<(), StoreError> {
    let before: Option<ForeignList> = get(transaction, FOREIGN_LISTS, list.name.as_bytes())?;
    let rank = |list: &ForeignList| (list.number.len(), list.number.clone());
    if before.is_some_and(|before| rank(&before) > rank(list) || before.this_update > list.this_update) {
        return Err(Conflict::Number.into());
    }
    save(transaction, FOREIGN_LISTS, list.name.as_bytes(), list)
}

fn due_passed(transaction: &WriteTransaction, passed: &[Passed]) -> Result<(), StoreError> {
    for Passed { due, device, .. } in passed {
        if raw(transaction, QUEUE, &queue_key(due))?.is_none() {
            return Err(Conflict::Missing.into());
        }
        if let Some(device) = device {
            fresh(transaction, device)?;
        }
    }
    for Passed { due, device, notice, next } in passed {
        if let Some(device) = device {
            save_device(transaction, device)?;
        }
        remove(transaction, QUEUE, &queue_key(due))?;
        if let Some(next) = next {
            save(transaction, QUEUE, &queue_key(next), next)?;
        }
        if let Some(notice) = notice {
            save(transaction, NOTICES, &notice_key(notice), notice)?;
        }
    }
    Ok(())
}

fn notices_tried(
    transaction: &WriteTransaction,
    notices: &[Notice],
    outcome: Outcome,
    next_try: i64,
) -> Result<(), StoreError> {
    for notice in notices {
        if raw(transaction, NOTICES, &notice_key(notice))?.is_none() {
            return Err(Conflict::Missing.into());
        }
    }
    for notice in notices {
        remove(transaction, NOTICES, &notice_key(notice))?;
        if outcome == Outcome::Later {
            let again = Notice { next_try, tries: notice.tries + 1, ..notice.clone() };
            save(transaction, NOTICES, &notice_key(&again), &again)?;
        }
    }
    Ok(())
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
    if !intent.approval.is_empty() {
        claims.push([b"approval:", intent.approval.as_bytes()].concat());
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
    if !intent.approval.is_empty() {
        granted(transaction, &intent.approval)?;
    }
    for claim in claims(intent) {
        put(transaction, CLAIMS, &claim, &intent.serial)?;
    }
    account(transaction, &intent.authority, &[(OPEN, 1)])?;
    save(transaction, INTENTS, &intent.serial, intent)
}

/// What a recorded signature changes in its authority's account.
const RECORDED: &[(&str, i64)] = &[(OPEN, -1), (MADE, 1)];

fn active(transaction: &WriteTransaction, serial: &[u8]) -> Result<Certificate, StoreError> {
    let certificate: Certificate = get(transaction, CERTIFICATES, serial)?.ok_or(Conflict::Missing)?;
    if certificate.state() == CertificateState::Active { Ok(certificate) } else { Err(Conflict::NotActive.into()) }
}

fn unspent(transaction: &WriteTransaction, name: &str) -> Result<Credential, StoreError> {
    let credential: Credential = get(transaction, CREDENTIALS, name.as_bytes())?.ok_or(Conflict::Missing)?;
    if credential.used_at == 0 { Ok(credential) } else { Err(Conflict::Spent.into()) }
}

fn granted(transaction: &WriteTransaction, id: &str) -> Result<(), StoreError> {
    let approval: Approval = get(transaction, APPROVALS, id.as_bytes())?.ok_or(Conflict::Missing)?;
    if approval.state() == ApprovalState::Granted { Ok(()) } else { Err(Conflict::Stale.into()) }
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

fn store_certificate(transaction: &WriteTransaction, certificate: &Certificate) -> Result<(), StoreError> {
    let sequence = next_sequence(transaction)?;
    put(transaction, ISSUED, &sequence, &certificate.serial)?;
    put(transaction, ISSUED_BY, &joined(&certificate.authority, &sequence), &certificate.serial)?;
    if !certificate.device.is_empty() {
        put(transaction, ISSUED_TO, &joined(&certificate.device, &sequence), &certificate.serial)?;
        put(transaction, ISSUED_UNDER, &joined(&certificate.label, &sequence), &certificate.serial)?;
    }
    if certificate.warn_at != 0 {
        for (at, event) in [(certificate.warn_at, DueEvent::ExpiryNear), (certificate.not_after, DueEvent::Expired)] {
            let due = Due { at, event: event.into(), serial: certificate.serial.clone() };
            save(transaction, QUEUE, &queue_key(&due), &due)?;
        }
    }
    if let Some(due) = notice::next_step(certificate, certificate.issued_at) {
        save(transaction, QUEUE, &queue_key(&due), &due)?;
    }
    if !certificate.spki_sha256.is_empty() {
        let use_of_key = KeyUse {
            spki_sha256: certificate.spki_sha256.clone(),
            device: certificate.device.clone(),
            compromised: false,
        };
        save(transaction, KEY_USES, &certificate.spki_sha256, &use_of_key)?;
    }
    save_certificate(transaction, certificate)
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
    if !intent.approval.is_empty() {
        granted(transaction, &intent.approval)?;
    }
    let credential = if intent.credential.is_empty() { None } else { Some(unspent(transaction, &intent.credential)?) };

    if let Some(mut replaced) = replaced {
        replaced.successor.clone_from(&certificate.serial);
        match supersession {
            Supersession::Expire => replaced.set_state(CertificateState::Superseded),
            Supersession::Revoke => {
                let cause = Cause { reason: SUPERSEDED, at: certificate.issued_at, invalid_since: 0 };
                revoke_record(transaction, &mut replaced, cause)?;
            }
        }
        save_certificate(transaction, &replaced)?;
    }
    if let Some(mut credential) = credential {
        credential.used_at = certificate.issued_at;
        credential.used_for.clone_from(&certificate.serial);
        save(transaction, CREDENTIALS, credential.name.as_bytes(), &credential)?;
    }
    store_certificate(transaction, certificate)?;
    account(transaction, &certificate.authority, RECORDED)?;
    save_device(transaction, device)?;
    if !intent.approval.is_empty() {
        remove(transaction, APPROVALS, intent.approval.as_bytes())?;
    }
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
            crl_shard: intent.crl_shard,
            ..Certificate::default()
        };
        revoke_record(transaction, &mut record, Cause { reason: 0, at, invalid_since: 0 })?;
        record.set_state(CertificateState::Abandoned);
        store_certificate(transaction, &record)?;
    } else {
        account(transaction, &intent.authority, &[(OPEN, -1)])?;
    }
    close_intent(transaction, &intent)
}

/// Why and when a certificate is revoked.
#[derive(Debug, Clone, Copy)]
struct Cause {
    reason: u32,
    at: i64,
    invalid_since: i64,
}

fn revoked(transaction: &WriteTransaction, serials: &[Vec<u8>], cause: Cause) -> Result<(), StoreError> {
    let mut certificates = Vec::with_capacity(serials.len());
    for serial in serials {
        let certificate: Certificate = get(transaction, CERTIFICATES, serial)?.ok_or(Conflict::Missing)?;
        match certificate.state() {
            CertificateState::Active | CertificateState::Superseded => {}
            CertificateState::OnHold if cause.reason != CERTIFICATE_HOLD => {}
            CertificateState::Revoked | CertificateState::Abandoned | CertificateState::OnHold => {
                return Err(Conflict::AlreadyRevoked.into());
            }
            CertificateState::Unknown => return Err(Conflict::NotActive.into()),
        }
        certificates.push(certificate);
    }
    for mut certificate in certificates {
        // A serial number that was named twice is revoked once.
        if certificate.state() != CertificateState::OnHold
            && raw(transaction, REVOCATIONS, &joined(&list_of(&certificate), &certificate.serial))?.is_some()
        {
            continue;
        }
        revoke_record(transaction, &mut certificate, cause)?;
        save_certificate(transaction, &certificate)?;
        move_device(transaction, &certificate, Event::CertificateRevoked, cause.at)?;
        if cause.reason == KEY_COMPROMISE
            && let Some(mut use_of_key) = get::<KeyUse>(transaction, KEY_USES, &certificate.spki_sha256)?
        {
            use_of_key.compromised = true;
            save(transaction, KEY_USES, &certificate.spki_sha256, &use_of_key)?;
        }
    }
    Ok(())
}

/// One mark, however many certificates the authority issued: whoever asks about one of them looks at the mark too.
fn authority_revoked(transaction: &WriteTransaction, id: &str, cause: Cause) -> Result<(), StoreError> {
    let mut authority: Authority = get(transaction, AUTHORITIES, id.as_bytes())?.ok_or(Conflict::Missing)?;
    if authority.revoked_at != 0 {
        return Err(Conflict::AlreadyRevoked.into());
    }
    (authority.revoked_at, authority.reason, authority.changed_at) = (cause.at, cause.reason, cause.at);
    authority.set_state(AuthorityState::Retired);
    let damaged = |fault: der::Error| StoreError::Damaged(format!("the certificate of the authority '{id}': {fault}"));
    let parsed = x509_cert::Certificate::from_der(&authority.certificate).map_err(damaged)?;
    let serial = parsed.tbs_certificate().serial_number().as_bytes().to_vec();
    // An authority from elsewhere is on nobody's list here.
    let certificate: Option<Certificate> = get(transaction, CERTIFICATES, &serial)?;
    let revocable = |certificate: &Certificate| {
        matches!(
            certificate.state(),
            CertificateState::Active | CertificateState::Superseded | CertificateState::OnHold
        )
    };
    if let Some(mut certificate) = certificate.filter(revocable) {
        revoke_record(transaction, &mut certificate, cause)?;
        save_certificate(transaction, &certificate)?;
    }
    save(transaction, AUTHORITIES, id.as_bytes(), &authority)
}

fn released(transaction: &WriteTransaction, serial: &[u8], at: i64) -> Result<(), StoreError> {
    let mut certificate: Certificate = get(transaction, CERTIFICATES, serial)?.ok_or(Conflict::Missing)?;
    if certificate.state() != CertificateState::OnHold {
        return Err(Conflict::NotOnHold.into());
    }
    let is_replaced = !certificate.successor.is_empty();
    certificate.set_state(if is_replaced { CertificateState::Superseded } else { CertificateState::Active });
    (certificate.reason, certificate.revoked_at, certificate.invalid_since) = (0, 0, 0);
    save_certificate(transaction, &certificate)?;
    let list = list_of(&certificate);
    drop_revocation(transaction, &list, serial)?;
    let change = CrlChange { serial: serial.to_vec(), at, was_listed: true, ..CrlChange::default() };
    change_list(transaction, &list, change)?;
    if !is_replaced {
        move_device(transaction, &certificate, Event::CertificateReleased, at)?;
    }
    Ok(())
}

/// Only the certificate that a device lives by moves it.
fn move_device(
    transaction: &WriteTransaction,
    certificate: &Certificate,
    event: Event,
    at: i64,
) -> Result<(), StoreError> {
    if certificate.device.is_empty() {
        return Ok(());
    }
    let device: Option<Device> = get(transaction, DEVICES, certificate.device.as_bytes())?;
    let device = device.filter(|device| device.certificate == certificate.serial);
    match device.and_then(|device| lifecycle::moved(&device, event, at).ok()) {
        Some(moved) => save_device(transaction, &moved),
        None => Ok(()),
    }
}

/// Marks a certificate as revoked and puts it in line for the next CRL. The caller saves the certificate.
fn revoke_record(
    transaction: &WriteTransaction,
    certificate: &mut Certificate,
    cause: Cause,
) -> Result<(), StoreError> {
    let Cause { reason, at, invalid_since } = cause;
    let is_hold = reason == CERTIFICATE_HOLD;
    certificate.set_state(if is_hold { CertificateState::OnHold } else { CertificateState::Revoked });
    (certificate.reason, certificate.revoked_at, certificate.invalid_since) = (reason, at, invalid_since);
    list_again(transaction, certificate, at)
}

/// A base and its delta take their numbers from the record of the base.
fn crl_published(transaction: &WriteTransaction, published: &[Crl], answers: u64) -> Result<(), StoreError> {
    let first = published.first().ok_or(Conflict::Missing)?;
    let base_name = first.list().to_base().name();
    let mut base = crl_of(transaction, &base_name)?;
    for crl in published {
        let before = if crl.list().is_delta { crl_of(transaction, &crl.authority)?.number } else { base.number };
        if crl.number != base.last_number || crl.number <= before || crl.list().to_base().name() != base_name {
            return Err(Conflict::Number.into());
        }
    }
    base.pending = base.pending.saturating_sub(answers);
    for crl in published {
        // What was signed elsewhere is nobody's account here.
        if crl.is_followed {
            account(transaction, &crl.list().authority, RECORDED)?;
        }
        put(transaction, CRL_BODIES, crl.authority.as_bytes(), &crl.der)?;
        if crl.list().is_delta {
            save(transaction, CRLS, crl.authority.as_bytes(), &Crl { der: Vec::new(), ..crl.clone() })?;
        } else {
            let (last_number, pending) = (base.last_number, base.pending);
            base = Crl { der: Vec::new(), last_number, pending, ..crl.clone() };
            forget_told(transaction, crl)?;
            prune(transaction, crl)?;
        }
    }
    save(transaction, CRLS, base_name.as_bytes(), &base)
}

/// The history that a published base tells is needed no longer.
fn forget_told(transaction: &WriteTransaction, base: &Crl) -> Result<(), StoreError> {
    let prefix = joined(&base.authority, &[]);
    let end = joined(&base.authority, &base.through.to_be_bytes());
    for key in keys(transaction, CRL_CHANGES, &prefix, &end)? {
        remove(transaction, CRL_CHANGES, &key)?;
    }
    Ok(())
}

/// What had expired when a base was made has stood on one list after its expiry, and leaves with the next.
fn prune(transaction: &WriteTransaction, base: &Crl) -> Result<(), StoreError> {
    let prefix = joined(&base.authority, &[]);
    let before = u64::try_from(base.this_update).unwrap_or(0).to_be_bytes();
    for key in keys(transaction, REVOKED_UNTIL, &prefix, &joined(&base.authority, &before))? {
        let serial = key.get(prefix.len() + before.len()..).unwrap_or_default();
        drop_revocation(transaction, &base.authority, serial)?;
        let change =
            CrlChange { serial: serial.to_vec(), at: base.this_update, was_listed: true, is_pruned: true, sequence: 0 };
        change_list(transaction, &base.authority, change)?;
    }
    Ok(())
}

/// The keys from `begin` up to and with `end`.
fn keys(transaction: &WriteTransaction, table: Table, begin: &[u8], end: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
    let open = transaction.open_table(table).map_err(backend)?;
    let mut keys = Vec::new();
    for entry in open.range(begin..=end).map_err(backend)? {
        READ.set(READ.get() + 1);
        keys.push(entry.map_err(backend)?.0.value().to_vec());
    }
    Ok(keys)
}
