//! The questions: each is one lookup or one walk along an index.

use super::journal::subtree_key;
use super::{
    APPROVALS, AUTHORITIES, CERTIFICATES, CHECKPOINTS, CLOCK_AHEAD, COUNTS, CREDENTIALS, CRL_BODIES, CRL_CHANGES, CRLS,
    DEVICES, FOREIGN_LISTS, HOUSE, INTENTS, ISSUED, ISSUED_BY, ISSUED_TO, ISSUED_UNDER, JOURNAL_SIZE, KEY_PLANS,
    KEY_USES, LEAST_CRL_NUMBER, LEAVES, LEAVES_OF, META, NOTICES, QUEUE, RESTORED, REVOCATIONS, RedbStore, SUBTREES,
    SWEEPS, Table, backend, decode, joined,
};
use crate::store::image::Facts;
use crate::store::query::{Cursor, MAX_PAGE, Page, Query, Record, Span};
use crate::store::record::{
    Approval, Authority, Certificate, ClockAhead, Credential, Crl, CrlChange, Device, ForeignList, Intent, KeyPlan,
    KeyUse, Leaf, Restoration, Revocation, StoredCheckpoint, Sweep,
};
use crate::store::{Change, Store, StoreError};
use crate::x509::hex;
use prost::Message;
use redb::{ReadOnlyTable, ReadableDatabase, ReadableTable};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;

/// What is said when the pen panicked.
const ENDED: &str =
    "its writer broke off at a fault: restart craton-pki; if that comes again, the file is damaged: restore a backup";

impl Store for RedbStore {
    fn commit(&self, change: Change) -> Result<(), StoreError> {
        let (reply, answer) = sync_channel(1);
        let jobs = self.jobs.as_ref().ok_or_else(|| backend("the store is closed"))?;
        jobs.send((change, reply)).map_err(|_| backend(ENDED))?;
        answer.recv().map_err(|_| backend(ENDED))?
    }

    fn standing_changes(&self) -> u64 {
        self.standing_changes.load(Ordering::Acquire)
    }

    fn write_image(&self, now: i64, out: &mut dyn Write) -> Result<Facts, StoreError> {
        Self::write_image(self, now, out)
    }

    fn rows_read(&self) -> u64 {
        self.rows_read.load(Ordering::Relaxed)
    }

    fn rows_read_by_changes(&self) -> u64 {
        self.rows_read_by_changes.load(Ordering::Relaxed)
    }

    fn find(&self, query: Query) -> Result<Page, StoreError> {
        let read = |table| -> Result<Reader, StoreError> {
            let transaction = self.database.begin_read().map_err(backend)?;
            let table_open = transaction.open_table(table).map_err(backend)?;
            Ok(Reader { table: table_open, definition: table, rows_read: Arc::clone(&self.rows_read) })
        };
        match query {
            Query::Certificate { serial } => read(CERTIFICATES)?.one::<Certificate>(&serial, Record::Certificate),
            Query::Device { id } => read(DEVICES)?.one::<Device>(id.as_bytes(), Record::Device),
            Query::Authority { id } => read(AUTHORITIES)?.one::<Authority>(id.as_bytes(), Record::Authority),
            Query::Authorities => read(AUTHORITIES)?.many::<Authority>(&[], &Span::first(MAX_PAGE), Record::Authority),
            Query::KeyPlan { role } => read(KEY_PLANS)?.one::<KeyPlan>(role.as_bytes(), Record::KeyPlan),
            Query::Crl { list } => {
                let page = read(CRLS)?.one::<Crl>(list.as_bytes(), Record::Crl)?;
                let Some(mut crl) = page.one(Record::crl) else { return Ok(Page::default()) };
                if let Some(der) = read(CRL_BODIES)?.value(list.as_bytes())? {
                    crl.der = der;
                }
                Ok(Page { records: vec![Record::Crl(crl)], ..Page::default() })
            }
            Query::CrlRecord { list } => read(CRLS)?.one::<Crl>(list.as_bytes(), Record::Crl),
            Query::Crls { authority, span } => {
                read(CRLS)?.many::<Crl>(format!("{authority}/").as_bytes(), &span, Record::Crl)
            }
            Query::CrlChanges { list, through, span } => {
                let prefix = joined(&list, &[]);
                let after = span.after.unwrap_or_else(|| Cursor(joined(&list, &through.to_be_bytes())));
                let span = Span { after: Some(after), limit: span.limit };
                read(CRL_CHANGES)?.many::<CrlChange>(&prefix, &span, Record::CrlChange)
            }
            Query::Revocation { list, serial } => {
                read(REVOCATIONS)?.one::<Revocation>(&joined(&list, &serial), Record::Revocation)
            }
            Query::NoticesDue { now } => {
                let end = u64::try_from(now).unwrap_or(0).saturating_add(1).to_be_bytes();
                let (entries, _) = read(NOTICES)?.page_until(&[], Some(&end), &Span::first(MAX_PAGE))?;
                let notices = entries.iter().map(|(_, value)| decode(NOTICES, value).map(Record::Notice));
                Ok(Page { records: notices.collect::<Result<_, _>>()?, ..Page::default() })
            }
            Query::Sweeps => read(SWEEPS)?.many::<Sweep>(&[], &Span::first(MAX_PAGE), Record::Sweep),
            Query::ForeignLists(span) => read(FOREIGN_LISTS)?.many::<ForeignList>(&[], &span, Record::ForeignList),
            Query::Leaves(span) => read(LEAVES)?.leaves(&span),
            Query::Leaf { index } => {
                let line = read(LEAVES)?.value(&index.to_be_bytes())?;
                Ok(Page { records: line.map(|line| leaf(index, line)).into_iter().collect(), ..Page::default() })
            }
            Query::LeavesAbout { serial, span } => {
                let (entries, next) = read(LEAVES_OF)?.page(&joined(&hex(&serial), &[]), &span)?;
                let last = entries.last().map(|(key, _)| Cursor(key.clone()));
                let table = read(LEAVES)?;
                let mut records = Vec::with_capacity(entries.len());
                for (_, place) in entries {
                    records.extend(table.value(&place)?.map(|line| leaf(number_of(&place), line)));
                }
                Ok(Page { records, next, last })
            }
            Query::Counts(span) => {
                let (entries, next) = read(COUNTS)?.page(&[], &span)?;
                let named = |(name, value): (Vec<u8>, Vec<u8>)| {
                    Record::NamedCount((String::from_utf8_lossy(&name).into_owned(), number_of(&value)))
                };
                Ok(Page { records: entries.into_iter().map(named).collect(), next, last: None })
            }
            Query::Count { name } => {
                let number = read(COUNTS)?.value(name.as_bytes())?.map_or(0, |bytes| number_of(&bytes));
                Ok(Page { records: vec![Record::Count(number)], ..Page::default() })
            }
            Query::JournalSize => {
                let size = read(META)?.value(JOURNAL_SIZE)?.map_or(0, |bytes| number_of(&bytes));
                Ok(Page { records: vec![Record::Count(size)], ..Page::default() })
            }
            Query::LeastCrlNumber => {
                let least = read(META)?.value(LEAST_CRL_NUMBER)?.map_or(0, |bytes| number_of(&bytes));
                Ok(Page { records: vec![Record::Count(least)], ..Page::default() })
            }
            Query::ClockAhead => read(META)?.one::<ClockAhead>(CLOCK_AHEAD, Record::ClockAhead),
            Query::Restoration => read(META)?.one::<Restoration>(RESTORED, Record::Restoration),
            Query::Subtree { level, index } => {
                let hash = read(SUBTREES)?.value(&subtree_key(level, index))?;
                let hash = hash.and_then(|hash| hash.try_into().ok()).map(Record::Hash);
                Ok(Page { records: hash.into_iter().collect(), ..Page::default() })
            }
            Query::Checkpoint { size } => {
                read(CHECKPOINTS)?.one::<StoredCheckpoint>(&size.to_be_bytes(), Record::Checkpoint)
            }
            Query::LastCheckpoint => {
                let last = read(CHECKPOINTS)?.last()?;
                let last = last.map(|value| decode(CHECKPOINTS, &value)).transpose()?;
                Ok(Page { records: last.map(Record::Checkpoint).into_iter().collect(), ..Page::default() })
            }
            Query::Checkpoints(span) => read(CHECKPOINTS)?.many::<StoredCheckpoint>(&[], &span, Record::Checkpoint),
            Query::Approval { id } => read(APPROVALS)?.one::<Approval>(id.as_bytes(), Record::Approval),
            Query::Approvals(span) => read(APPROVALS)?.many::<Approval>(&[], &span, Record::Approval),
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
                let end = u64::try_from(now).unwrap_or(0).saturating_add(1).to_be_bytes();
                let (entries, _) = read(QUEUE)?.page_until(&[], Some(&end), &Span::first(MAX_PAGE))?;
                let due = entries.iter().map(|(_, value)| decode(QUEUE, value).map(Record::Due));
                Ok(Page { records: due.collect::<Result<_, _>>()?, ..Page::default() })
            }
            Query::Intents => read(INTENTS)?.many::<Intent>(&[], &Span::first(MAX_PAGE), Record::Intent),
            Query::Revocations { list, span } => {
                read(REVOCATIONS)?.many::<Revocation>(&joined(&list, &[]), &span, Record::Revocation)
            }
            Query::CertificatesOfAuthority { authority, span } => {
                self.certificates(&read(ISSUED_BY)?, &joined(&authority, &[]), &span)
            }
            Query::CertificatesUnderLabel { label, span } => {
                self.certificates(&read(ISSUED_UNDER)?, &joined(&label, &[]), &span)
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

fn number_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn leaf(index: u64, line: Vec<u8>) -> Record {
    Record::Leaf(Leaf { index, line: String::from_utf8_lossy(&line).into_owned() })
}

/// A key and its value, as stored.
type Entry = (Vec<u8>, Vec<u8>);

struct Reader {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
    definition: Table,
    rows_read: Arc<AtomicU64>,
}

impl Reader {
    fn one<T: Message + Default>(&self, key: &[u8], wrap: fn(T) -> Record) -> Result<Page, StoreError> {
        self.rows_read.fetch_add(1, Ordering::Relaxed);
        let found = self.table.get(key).map_err(backend)?;
        let record = found.map(|value| decode(self.definition, value.value())).transpose()?;
        Ok(Page { records: record.map(wrap).into_iter().collect(), ..Page::default() })
    }

    fn leaves(&self, span: &Span) -> Result<Page, StoreError> {
        let (entries, next) = self.page(&[], span)?;
        let last = entries.last().map(|(key, _)| Cursor(key.clone()));
        let records = entries.into_iter().map(|(place, line)| leaf(number_of(&place), line)).collect();
        Ok(Page { records, next, last })
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows_read.fetch_add(1, Ordering::Relaxed);
        Ok(self.table.get(key).map_err(backend)?.map(|value| value.value().to_vec()))
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

    /// The value of the greatest key.
    fn last(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows_read.fetch_add(1, Ordering::Relaxed);
        Ok(self.table.last().map_err(backend)?.map(|(_, value)| value.value().to_vec()))
    }

    /// The entries under a prefix after the cursor, and the cursor of the next page.
    fn page(&self, prefix: &[u8], span: &Span) -> Result<(Vec<Entry>, Option<Cursor>), StoreError> {
        self.page_until(prefix, None, span)
    }

    /// The same, up to a key that is not among them.
    fn page_until(
        &self,
        prefix: &[u8],
        end: Option<&[u8]>,
        span: &Span,
    ) -> Result<(Vec<Entry>, Option<Cursor>), StoreError> {
        let from = match &span.after {
            // The smallest key above the last one seen.
            Some(cursor) => [cursor.0.as_slice(), &[0]].concat(),
            None => prefix.to_vec(),
        };
        let limit = span.limit.clamp(1, MAX_PAGE);
        let mut entries = Vec::new();
        for entry in self.table.range(from.as_slice()..).map_err(backend)? {
            let (key, value) = entry.map_err(backend)?;
            self.rows_read.fetch_add(1, Ordering::Relaxed);
            if !key.value().starts_with(prefix) || end.is_some_and(|end| key.value() >= end) {
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
