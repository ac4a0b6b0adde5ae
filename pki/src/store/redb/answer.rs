//! The questions: each is one lookup or one walk along an index.

use super::{
    AUTHORITIES, CERTIFICATES, CREDENTIALS, CRLS, DEVICES, HOUSE, INTENTS, ISSUED, ISSUED_TO, KEY_PLANS, KEY_USES,
    QUEUE, REVOCATIONS, RedbStore, Table, backend, decode, joined,
};
use crate::store::query::{Cursor, MAX_PAGE, Page, Query, Record, Span};
use crate::store::record::{Authority, Certificate, Credential, Crl, Device, Due, Intent, KeyPlan, KeyUse, Revocation};
use crate::store::{Change, Store, StoreError};
use prost::Message;
use redb::{ReadOnlyTable, ReadableDatabase};
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;

impl Store for RedbStore {
    fn commit(&self, change: Change) -> Result<(), StoreError> {
        let (reply, answer) = sync_channel(1);
        let jobs = self.jobs.as_ref().ok_or_else(|| backend("the store is closed"))?;
        jobs.send((change, reply)).map_err(|_| backend("the store's writer has ended"))?;
        answer.recv().map_err(|_| backend("the store's writer has ended"))?
    }

    fn standing_changes(&self) -> u64 {
        self.standing_changes.load(Ordering::Acquire)
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
            Query::Authorities => read(AUTHORITIES)?.many::<Authority>(&[], &Span::first(MAX_PAGE), Record::Authority),
            Query::KeyPlan { role } => read(KEY_PLANS)?.one::<KeyPlan>(role.as_bytes(), Record::KeyPlan),
            Query::Crl { authority } => read(CRLS)?.one::<Crl>(authority.as_bytes(), Record::Crl),
            Query::Credential { name } => read(CREDENTIALS)?.one::<Credential>(name.as_bytes(), Record::Credential),
            Query::KeyUse { spki_sha256 } => read(KEY_USES)?.one::<KeyUse>(&spki_sha256, Record::KeyUse),
            Query::House { role } => {
                let (entries, _) = read(HOUSE)?.page(role.as_bytes(), &Span::first(1))?;
                match entries.into_iter().find(|(key, _)| key == role.as_bytes()) {
                    Some((_, serial)) => self.find(Query::Certificate { serial }),
                    None => Ok(Page::default()),
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
        let last = entries.last().map(|(key, _)| Cursor(key.clone()));
        let mut records = Vec::with_capacity(entries.len());
        for (_, serial) in entries {
            records.extend(self.find(Query::Certificate { serial })?.records);
        }
        Ok(Page { records, next, last })
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
        Ok(Page { records: record.map(wrap).into_iter().collect(), ..Page::default() })
    }

    fn many<T: Message + Default>(
        &self,
        prefix: &[u8],
        span: &Span,
        wrap: fn(T) -> Record,
    ) -> Result<Page, StoreError> {
        let (entries, next) = self.page(prefix, span)?;
        let last = entries.last().map(|(key, _)| Cursor(key.clone()));
        let records = entries.iter().map(|(_, value)| decode(self.definition, value).map(wrap));
        Ok(Page { records: records.collect::<Result<_, _>>()?, next, last })
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
