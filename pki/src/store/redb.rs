//! The store on redb, in a file or in memory.
//!
//! One thread holds the pen: it gathers the changes that wait, applies them in one transaction, makes that durable with
//! one sync, and answers all of them. A change checks everything before it writes anything, so that one that does not fit
//! leaves no trace among its neighbours.
//!
//! Layout, version 1. Every table maps bytes to bytes; values are the prost records of [`super::record`]. Numbers in keys
//! are big endian, so that they sort.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | `version`, `sequence` | 8 bytes |
//! | `certificates` | serial | Certificate |
//! | `issued` | sequence | serial |
//! | `issued_to` | device, 0, sequence | serial |
//! | `intents` | serial | Intent |
//! | `claims` | kind, `:`, name | serial of the intent that holds it |
//! | `revocations` | authority, 0, serial | Revocation |
//! | `devices` | identity | Device |
//! | `authorities`, `key_plans`, `crls`, `credentials` | name | their record |
//! | `queue` | time, event (1 byte), serial | Due |
//! | `house` | role | serial |
//! | `key_uses` | SHA-256 of the key | KeyUse |
//! | `journal` | sequence | name of the event, a space, hex of the serial number or the name concerned |

use super::query::{Cursor, MAX_PAGE, Page, Query, Record, Span};
use super::record::{
    Authority, Certificate, CertificateState, Credential, Crl, Device, Due, DueEvent, Intent, KeyPlan, KeyUse,
    Revocation,
};
use super::{Change, Conflict, Store, StoreError, Supersession};
use crate::store::change::Doubt;
use prost::Message;
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// The format this program reads and writes.
const VERSION: u64 = 1;
/// Most changes in one transaction.
const MAX_BATCH: usize = 256;
/// Reason code `keyCompromise` (RFC 5280 section 5.3.1).
const KEY_COMPROMISE: u32 = 1;
/// Reason code `superseded`.
const SUPERSEDED: u32 = 4;

type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;
const META: Table = Table::new("meta");
const CERTIFICATES: Table = Table::new("certificates");
const ISSUED: Table = Table::new("issued");
const ISSUED_TO: Table = Table::new("issued_to");
const INTENTS: Table = Table::new("intents");
const CLAIMS: Table = Table::new("claims");
const REVOCATIONS: Table = Table::new("revocations");
const DEVICES: Table = Table::new("devices");
const AUTHORITIES: Table = Table::new("authorities");
const KEY_PLANS: Table = Table::new("key_plans");
const CRLS: Table = Table::new("crls");
const CREDENTIALS: Table = Table::new("credentials");
const KEY_USES: Table = Table::new("key_uses");
const JOURNAL: Table = Table::new("journal");
const HOUSE: Table = Table::new("house");
const QUEUE: Table = Table::new("queue");
const ALL: [Table; 16] = [
    QUEUE,
    HOUSE,
    META,
    CERTIFICATES,
    ISSUED,
    ISSUED_TO,
    INTENTS,
    CLAIMS,
    REVOCATIONS,
    DEVICES,
    AUTHORITIES,
    KEY_PLANS,
    CRLS,
    CREDENTIALS,
    KEY_USES,
    JOURNAL,
];

fn backend(fault: impl std::fmt::Display) -> StoreError {
    StoreError::Backend(fault.to_string())
}

type Answer = Result<(), StoreError>;
type Job = (Change, SyncSender<Answer>);

/// The store.
pub(crate) struct RedbStore {
    database: Arc<Database>,
    /// None only while the store is being dropped.
    jobs: Option<SyncSender<Job>>,
    pen: Option<std::thread::JoinHandle<()>>,
}

impl RedbStore {
    /// Opens or creates the store in a file.
    ///
    /// # Errors
    /// [`StoreError::Held`] when another process has it, [`StoreError::Version`] when a newer program wrote it.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::create(path).map_err(|fault| match fault {
            redb::DatabaseError::DatabaseAlreadyOpen => StoreError::Held(path.display().to_string()),
            other => StoreError::Backend(format!("{}: {other}", path.display())),
        })?;
        Self::start(database)
    }

    /// An empty store in memory.
    ///
    /// # Errors
    /// When memory cannot be had.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Result<Self, StoreError> {
        let memory = redb::backends::InMemoryBackend::new();
        Self::start(Database::builder().create_with_backend(memory).map_err(backend)?)
    }

    fn start(database: Database) -> Result<Self, StoreError> {
        let transaction = database.begin_write().map_err(backend)?;
        for table in ALL {
            transaction.open_table(table).map_err(backend)?;
        }
        match number(&transaction, b"version")? {
            0 => put(&transaction, META, b"version", &VERSION.to_be_bytes())?,
            VERSION => {}
            found => return Err(StoreError::Version { found, known: VERSION }),
        }
        transaction.commit().map_err(backend)?;
        let database = Arc::new(database);
        let (jobs, waiting) = sync_channel(MAX_BATCH);
        let pen = std::thread::Builder::new()
            .name("pen".to_owned())
            .spawn({
                let database = Arc::clone(&database);
                move || hold_the_pen(&database, &waiting)
            })
            .map_err(backend)?;
        Ok(Self { database, jobs: Some(jobs), pen: Some(pen) })
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(pen) = self.pen.take()
            && pen.join().is_err()
        {
            tracing::error!("the store's writer ended by a panic");
        }
    }
}

fn hold_the_pen(database: &Database, waiting: &Receiver<Job>) {
    while let Ok(first) = waiting.recv() {
        let mut jobs = vec![first];
        while jobs.len() < MAX_BATCH
            && let Ok(next) = waiting.try_recv()
        {
            jobs.push(next);
        }
        let answers = write(database, jobs.iter().map(|(change, _)| change));
        for (index, (_, reply)) in jobs.into_iter().enumerate() {
            let answer = match &answers {
                Ok(answers) => answers.get(index).cloned().unwrap_or_else(|| Err(backend("no answer"))),
                Err(fault) => Err(fault.clone()),
            };
            // An asker who went away loses only the answer.
            drop(reply.send(answer));
        }
    }
}

/// Applies changes in one durable transaction. A change that does not fit is answered; any other fault undoes all.
fn write<'a>(database: &Database, changes: impl Iterator<Item = &'a Change>) -> Result<Vec<Answer>, StoreError> {
    let mut transaction = database.begin_write().map_err(backend)?;
    // Opening after a crash must not walk the whole file: the allocator state is saved with each commit.
    transaction.set_quick_repair(true);
    let mut answers = Vec::new();
    for change in changes {
        match apply(&transaction, change) {
            Ok(()) => answers.push(Ok(())),
            Err(StoreError::Conflict(conflict)) => answers.push(Err(conflict.into())),
            Err(fault) => return Err(fault),
        }
    }
    transaction.commit().map_err(backend)?;
    Ok(answers)
}

// ---- bytes ----

fn get<T: Message + Default>(
    transaction: &WriteTransaction,
    table: Table,
    key: &[u8],
) -> Result<Option<T>, StoreError> {
    raw(transaction, table, key)?.map(|bytes| decode(table, &bytes)).transpose()
}

fn raw(transaction: &WriteTransaction, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let open = transaction.open_table(table).map_err(backend)?;
    let found = open.get(key).map_err(backend)?;
    Ok(found.map(|value| value.value().to_vec()))
}

fn put(transaction: &WriteTransaction, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    transaction.open_table(table).map_err(backend)?.insert(key, value).map_err(backend)?;
    Ok(())
}

fn save(transaction: &WriteTransaction, table: Table, key: &[u8], record: &impl Message) -> Result<(), StoreError> {
    put(transaction, table, key, &record.encode_to_vec())
}

fn remove(transaction: &WriteTransaction, table: Table, key: &[u8]) -> Result<(), StoreError> {
    transaction.open_table(table).map_err(backend)?.remove(key).map_err(backend)?;
    Ok(())
}

fn decode<T: Message + Default>(table: Table, bytes: &[u8]) -> Result<T, StoreError> {
    use redb::TableHandle;
    T::decode(bytes).map_err(|fault| StoreError::Damaged(format!("a record of table '{}': {fault}", table.name())))
}

fn number(transaction: &WriteTransaction, key: &[u8]) -> Result<u64, StoreError> {
    let bytes = raw(transaction, META, key)?.unwrap_or_else(|| vec![0; 8]);
    let bytes =
        <[u8; 8]>::try_from(bytes.as_slice()).map_err(|_| StoreError::Damaged("a number is not 8 bytes".to_owned()))?;
    Ok(u64::from_be_bytes(bytes))
}

fn next_sequence(transaction: &WriteTransaction) -> Result<[u8; 8], StoreError> {
    let next = number(transaction, b"sequence")?.saturating_add(1).to_be_bytes();
    put(transaction, META, b"sequence", &next)?;
    Ok(next)
}

fn joined(first: &str, second: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(first.len() + 1 + second.len());
    key.extend_from_slice(first.as_bytes());
    key.push(0);
    key.extend_from_slice(second);
    key
}

// ---- changes ----

fn apply(transaction: &WriteTransaction, change: &Change) -> Result<(), StoreError> {
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
        Change::Intend(intent) => crate::x509::hex(&intent.serial),
        Change::Issued { certificate, .. } | Change::Enrolled { certificate, .. } => {
            crate::x509::hex(&certificate.serial)
        }
        Change::Abandoned { serial, .. } | Change::Revoked { serial, .. } => crate::x509::hex(serial),
        Change::CrlNumbered { authority, number } => format!("{authority}:{number}"),
        Change::CrlPublished { crl, .. } => format!("{}:{}", crl.authority, crl.number),
        Change::DuePassed { due, .. } => crate::x509::hex(&due.serial),
        Change::CredentialCreated(credential) => credential.name.clone(),
    };
    let sequence = next_sequence(transaction)?;
    put(transaction, JOURNAL, &sequence, format!("{} {concerns}", change.name()).as_bytes())
}

// ---- questions ----

impl Store for RedbStore {
    fn commit(&self, change: Change) -> Result<(), StoreError> {
        let (reply, answer) = sync_channel(1);
        let jobs = self.jobs.as_ref().ok_or_else(|| backend("the store is closed"))?;
        jobs.send((change, reply)).map_err(|_| backend("the store's writer has ended"))?;
        answer.recv().map_err(|_| backend("the store's writer has ended"))?
    }

    fn find(&self, query: Query) -> Result<Page, StoreError> {
        let read = |table| -> Result<Reader, StoreError> {
            let transaction = self.database.begin_read().map_err(backend)?;
            Ok(Reader { table: transaction.open_table(table).map_err(backend)?, definition: table })
        };
        match query {
            Query::Certificate { serial } => read(CERTIFICATES)?.one::<Certificate>(&serial, Record::Certificate),
            Query::Device { id } => read(DEVICES)?.one::<Device>(id.as_bytes(), Record::Device),
            Query::Authority { id } => read(AUTHORITIES)?.one::<Authority>(id.as_bytes(), Record::Authority),
            Query::KeyPlan { role } => read(KEY_PLANS)?.one::<KeyPlan>(role.as_bytes(), Record::KeyPlan),
            Query::Crl { authority } => read(CRLS)?.one::<Crl>(authority.as_bytes(), Record::Crl),
            Query::Credential { name } => read(CREDENTIALS)?.one::<Credential>(name.as_bytes(), Record::Credential),
            Query::KeyUse { spki_sha256 } => read(KEY_USES)?.one::<KeyUse>(&spki_sha256, Record::KeyUse),
            Query::House { role } => {
                let (entries, _) = read(HOUSE)?.page(role.as_bytes(), &Span::first(1))?;
                match entries.into_iter().find(|(key, _)| key == role.as_bytes()) {
                    Some((_, serial)) => self.find(Query::Certificate { serial }),
                    None => Ok(Page { records: Vec::new(), next: None }),
                }
            }
            Query::Devices(span) => read(DEVICES)?.many::<Device>(&[], &span, Record::Device),
            Query::Due { now } => {
                let mut page = read(QUEUE)?.many::<Due>(&[], &Span::first(MAX_PAGE), Record::Due)?;
                page.records.retain(|record| matches!(record, Record::Due(due) if due.at <= now));
                page.next = None;
                Ok(page)
            }
            Query::Intents => read(INTENTS)?.many::<Intent>(&[], &Span::first(MAX_PAGE), Record::Intent),
            Query::Revocations { authority, span } => {
                read(REVOCATIONS)?.many::<Revocation>(&joined(&authority, &[]), &span, Record::Revocation)
            }
            Query::Certificates(span) => self.certificates(&read(ISSUED)?, &[], &span),
            Query::CertificatesOfDevice { device, span } => {
                self.certificates(&read(ISSUED_TO)?, &joined(&device, &[]), &span)
            }
        }
    }
}

impl RedbStore {
    /// Follows an index of serial numbers.
    fn certificates(&self, index: &Reader, prefix: &[u8], span: &Span) -> Result<Page, StoreError> {
        let (entries, next) = index.page(prefix, span)?;
        let mut records = Vec::with_capacity(entries.len());
        for (_, serial) in entries {
            records.extend(self.find(Query::Certificate { serial })?.records);
        }
        Ok(Page { records, next })
    }
}

/// A key and its value, as stored.
type Entry = (Vec<u8>, Vec<u8>);

struct Reader {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
    definition: Table,
}

impl Reader {
    fn one<T: Message + Default>(&self, key: &[u8], wrap: fn(T) -> Record) -> Result<Page, StoreError> {
        let found = self.table.get(key).map_err(backend)?;
        let record = found.map(|value| decode(self.definition, value.value())).transpose()?;
        Ok(Page { records: record.map(wrap).into_iter().collect(), next: None })
    }

    fn many<T: Message + Default>(
        &self,
        prefix: &[u8],
        span: &Span,
        wrap: fn(T) -> Record,
    ) -> Result<Page, StoreError> {
        let (entries, next) = self.page(prefix, span)?;
        let records = entries.iter().map(|(_, value)| decode(self.definition, value).map(wrap));
        Ok(Page { records: records.collect::<Result<_, _>>()?, next })
    }

    /// The entries under a prefix after the cursor, and the cursor of the next page.
    fn page(&self, prefix: &[u8], span: &Span) -> Result<(Vec<Entry>, Option<Cursor>), StoreError> {
        let from = match &span.after {
            // The smallest key above the last one seen.
            Some(cursor) => [cursor.0.as_slice(), &[0]].concat(),
            None => prefix.to_vec(),
        };
        let limit = span.limit.clamp(1, MAX_PAGE);
        let mut entries = Vec::new();
        for entry in self.table.range(from.as_slice()..).map_err(backend)? {
            let (key, value) = entry.map_err(backend)?;
            if !key.value().starts_with(prefix) {
                break;
            }
            if entries.len() == limit {
                let next = entries.last().map(|(key, _): &Entry| Cursor(key.clone()));
                return Ok((entries, next));
            }
            entries.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok((entries, None))
    }
}
