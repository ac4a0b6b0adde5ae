//! The one pen: a single thread owns every write, gathers the waiting changes and their journal entries into one durable
//! transaction, and releases their callers together.
//!
//! A commit that fails poisons the pen: after a failed fsync nobody knows what the disk holds, so the transaction is not
//! tried again; reads go on and writes answer [`Kind::Device`] until the store has been opened and verified anew, which the
//! next change begins.

use super::layout::TokenRecord;
use super::layout::{self, Role, Table};
use super::ledger::{Ledger, reconcile};
use super::manifest::Manifest;
use super::seal::{self, Place, StoreKeys};
use super::verify::{self, Verified};
use super::{Batch, OpenError, Snapshot, Store, device};
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::id::{ObjectId, TokenId};
use crate::observe::{Observer, Wait};
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A change is durable and its entry is in the journal.
#[must_use]
#[derive(Debug)]
pub(crate) struct Committed<R> {
    /// The journal's receipt.
    pub(crate) receipt: R,
}

/// One change, as the vault hands it over.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) batch: Batch,
    /// The change is refused if this token is gone by then.
    pub(crate) requires: Option<TokenId>,
    /// Everything that belongs to this token goes first.
    pub(crate) clears: Option<TokenId>,
    /// Refused rather than have a store opened again that a failed write has closed: the caller holds what those need who hear of it.
    pub(crate) as_it_is: bool,
}

/// How often a store whose write failed is tried to be opened again, when somebody wants to change it.
const AGAIN: Duration = Duration::from_millis(250);
/// At most so many changes share a transaction, so that the first does not wait for ever.
const GROUP_MAX: usize = 512;
/// So many outbox rows are kept before the journal is synced and they go.
const OUTBOX_MAX: usize = 64;

struct Job<R> {
    work: Work,
    entry: Option<Vec<u8>>,
    reply: SyncSender<Result<Option<R>>>,
}

/// What readers may know of the store's state without asking it.
pub(crate) struct Ledgered {
    pub(crate) manifest: RwLock<Manifest>,
    pub(crate) objects: RwLock<HashMap<TokenId, u64>>,
    pub(crate) poisoned: AtomicBool,
    pub(crate) when_ahead: Mutex<Option<WhenAhead>>,
    /// Hears how long each transaction took.
    pub(crate) observer: OnceLock<Observer>,
    next_version: AtomicU64,
}

/// Is told the tokens of a store that was opened again and holds more than was answered.
pub(crate) type WhenAhead = Box<dyn Fn(Vec<TokenRecord>) + Send + Sync>;

impl Ledgered {
    pub(crate) fn new(manifest: Manifest, objects: HashMap<TokenId, u64>) -> Ledgered {
        Ledgered {
            next_version: AtomicU64::new(manifest.next_version),
            manifest: RwLock::new(manifest),
            objects: RwLock::new(objects),
            poisoned: AtomicBool::new(false),
            when_ahead: Mutex::new(None),
            observer: OnceLock::new(),
        }
    }

    /// A number that no record of this store had before.
    pub(crate) fn next_version(&self) -> u64 {
        self.next_version.fetch_add(1, Ordering::Relaxed)
    }
}

/// The door to the writer thread.
pub(crate) struct Pen<L: Ledger> {
    jobs: Mutex<Option<Sender<Job<L::Receipt>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<L: Ledger> Pen<L> {
    /// Starts the writer. `outbox` names the rows whose entries are in the journal and may go.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        keys: Arc<StoreKeys>,
        state: Arc<Ledgered>,
        ledger: Arc<L>,
        outbox: VecDeque<u64>,
    ) -> Result<Pen<L>> {
        let (sender, receiver) = channel();
        let mut writer = Writer { store, keys, state, ledger, outbox, backlog: VecDeque::new(), tried: None };
        let thread = std::thread::Builder::new()
            .name("store-pen".into())
            .spawn(move || writer.run(&receiver))
            .map_err(|error| Error::new(Kind::Internal, format!("the store's writer cannot start: {error}")))?;
        Ok(Pen { jobs: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    /// Makes a change durable together with its journal entry.
    pub(crate) fn write(&self, work: Work, entry: &[u8]) -> Result<Committed<L::Receipt>> {
        match self.submit(work, Some(entry.to_vec()))? {
            Some(receipt) => Ok(Committed { receipt }),
            None => Err(Error::new(Kind::Internal, "the pen returned no receipt for an entry")),
        }
    }

    /// Makes a change durable that has no entry of its own: an attempt counter, a reservation.
    pub(crate) fn write_unrecorded(&self, work: Work) -> Result<()> {
        self.submit(work, None).map(drop)
    }

    fn submit(&self, work: Work, entry: Option<Vec<u8>>) -> Result<Option<L::Receipt>> {
        let (reply, answer) = sync_channel(1);
        let sent = match &*self.jobs.lock() {
            Some(jobs) => jobs.send(Job { work, entry, reply }).is_ok(),
            None => false,
        };
        if !sent {
            return Err(gone());
        }
        answer.recv().unwrap_or_else(|_| Err(gone()))
    }
}

impl<L: Ledger> Drop for Pen<L> {
    fn drop(&mut self) {
        drop(self.jobs.lock().take());
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer ended by a panic");
        }
    }
}

fn gone() -> Error {
    Error::new(Kind::Device, "the store's writer did not say what became of the change")
}

fn poisoned() -> Error {
    Error::new(
        Kind::Device,
        "a write to the store failed: it takes no changes until it can be opened again and verifies",
    )
}

/// An accepted job, waiting for the transaction.
struct Accepted<R> {
    generation: u64,
    entry: Option<Vec<u8>>,
    reply: SyncSender<Result<Option<R>>>,
}

struct Writer<L: Ledger> {
    store: Arc<dyn Store>,
    keys: Arc<StoreKeys>,
    state: Arc<Ledgered>,
    ledger: Arc<L>,
    /// Rows whose entries were appended; they go after the next sync.
    outbox: VecDeque<u64>,
    /// Durable changes whose entry the journal refused; tried again before any recorded change.
    backlog: VecDeque<(u64, Vec<u8>)>,
    /// When the store was last tried to be opened again after a failed write.
    tried: Option<Instant>,
}

impl<L: Ledger> Writer<L> {
    fn run(&mut self, jobs: &Receiver<Job<L::Receipt>>) {
        while let Ok(first) = jobs.recv() {
            let mut group = vec![first];
            while group.len() < GROUP_MAX
                && let Ok(next) = jobs.try_recv()
            {
                group.push(next);
            }
            // A defect: nobody knows how far the group came. As after a failed write, the store is read again before the next change;
            // whoever waits in the group is told that its outcome is not known.
            if catch_unwind(AssertUnwindSafe(|| self.write_group(group))).is_err() {
                self.state.poisoned.store(true, Ordering::Release);
            }
        }
        self.close();
    }

    /// One transaction, in this order: entries that the journal still lacks, preconditions, rows, manifest, commit,
    /// journal, answers.
    fn write_group(&mut self, mut group: Vec<Job<L::Receipt>>) {
        failpoint!("store.group.before");
        if self.state.poisoned.load(Ordering::Acquire) {
            let refused = group.extract_if(.., |job| job.work.as_it_is);
            refuse(refused.map(|job| job.reply), &poisoned());
        }
        if group.is_empty() {
            return;
        }
        if self.state.poisoned.load(Ordering::Acquire)
            && let Err(error) = self.revive()
        {
            return refuse(group.into_iter().map(|job| job.reply), &error);
        }
        let snapshot = match self.store.snapshot() {
            Ok(snapshot) => snapshot,
            Err(error) => return refuse(group.into_iter().map(|job| job.reply), &device(&error)),
        };
        let journal = self.flush_backlog();
        let mut manifest = self.state.manifest.read().clone();
        let mut rows = Batch::default();
        let mut accepted = Vec::with_capacity(group.len());
        for job in group {
            if let (Some(_), Err(error)) = (&job.entry, &journal) {
                refuse([job.reply], error);
                continue;
            }
            match self.admit(&*snapshot, &mut rows, manifest.generation + 1, job.work, job.entry.as_deref()) {
                Ok(()) => {
                    manifest.generation += 1;
                    accepted.push(Accepted { generation: manifest.generation, entry: job.entry, reply: job.reply });
                }
                Err(error) => refuse([job.reply], &error),
            }
        }
        if accepted.is_empty() {
            return;
        }
        let trimmed = self.trim_outbox(&mut rows, OUTBOX_MAX);
        failpoint!("store.outbox.after");
        match self.commit(&*snapshot, rows, manifest) {
            Ok(()) => {
                self.outbox.drain(..trimmed);
                self.record(accepted);
            }
            Err(error) => refuse(accepted.into_iter().map(|job| job.reply), &error),
        }
    }

    /// Lays a change and its outbox row over the group's rows.
    fn admit(
        &self,
        snapshot: &dyn Snapshot,
        rows: &mut Batch,
        generation: u64,
        work: Work,
        entry: Option<&[u8]>,
    ) -> Result<()> {
        if let Some(token) = work.requires
            && !exists(snapshot, rows, Table::Pin, &layout::pin_key(token, Role::So))?
        {
            return Err(Error::new(Kind::TokenNotInitialized, "the token was initialised again meanwhile"));
        }
        let outbox = match entry {
            Some(entry) => Some(self.outbox_row(generation, entry)?),
            None => None,
        };
        if let Some(token) = work.clears {
            clear(snapshot, rows, token)?;
        }
        rows.extend(work.batch);
        if let Some(row) = outbox {
            rows.put(Table::Outbox, &layout::outbox_key(generation), row);
        }
        Ok(())
    }

    fn outbox_row(&self, generation: u64, entry: &[u8]) -> Result<Vec<u8>> {
        let key = layout::outbox_key(generation);
        let none = (TokenId([0; 16]), ObjectId([0; 16]));
        let version = self.state.next_version();
        let label = seal::table_label(Table::Outbox, self.keys.store_id(), none.0, none.1, version);
        self.keys.seal_row(&label, Place { table: Table::Outbox, key: &key }, entry)
    }

    /// Adds the manifest that the rows lead to, and commits.
    fn commit(&self, snapshot: &dyn Snapshot, mut rows: Batch, mut manifest: Manifest) -> Result<()> {
        let mut objects: HashMap<TokenId, i64> = HashMap::new();
        for ((table, key), new) in rows.rows() {
            let old = snapshot.row(*table, key).map_err(|error| device(&error))?;
            for row in [old.as_deref(), new].into_iter().flatten() {
                manifest.toggle(&self.keys.row_element(*table, key, row));
            }
            let change = i64::from(new.is_some()) - i64::from(old.is_some());
            manifest.records = manifest.records.saturating_add_signed(change);
            if matches!(table, Table::PublicObject | Table::PrivateObject)
                && let Some(token) = key.first_chunk()
            {
                *objects.entry(TokenId(*token)).or_default() += change;
            }
        }
        manifest.next_version = self.state.next_version.load(Ordering::Relaxed);
        manifest.journal = self.ledger.synced_head();
        rows.put(Table::Meta, layout::MANIFEST_KEY, manifest.encode(&self.keys));
        let begun = Instant::now();
        let committed = self.store.commit(&rows);
        if let Some(observer) = self.state.observer.get() {
            observer(Wait::StoreCommit, begun.elapsed());
        }
        failpoint!("store.commit.after");
        if let Err(error) = committed {
            self.state.poisoned.store(true, Ordering::Release);
            tracing::error!(%error, "a commit to the store failed: it takes no changes until it is opened again and verifies");
            return Err(device(&error));
        }
        *self.state.manifest.write() = manifest;
        let mut counts = self.state.objects.write();
        for (token, change) in objects {
            let count = counts.entry(token).or_default();
            *count = count.saturating_add_signed(change);
        }
        Ok(())
    }

    /// After a failed write nobody knows what the disk holds. The store is opened again, as at a start: every record and the
    /// manifest verify, nothing that was answered is missing, and the journal gets the entries that it lacks.
    fn revive(&mut self) -> Result<()> {
        if self.tried.is_some_and(|tried| tried.elapsed() < AGAIN) {
            return Err(poisoned());
        }
        self.tried = Some(Instant::now());
        let verified =
            self.open_again().inspect_err(|error| tracing::error!(%error, "the store stays closed to changes"))?;
        let known = self.state.manifest.read().generation;
        let ahead = verified.manifest.generation != known;
        *self.state.manifest.write() = verified.manifest;
        *self.state.objects.write() = verified.objects;
        if ahead && let Some(tell) = &*self.state.when_ahead.lock() {
            tell(verified.tokens);
        }
        self.state.poisoned.store(false, Ordering::Release);
        tracing::info!(ahead, "the store was opened again after a failed write, and verifies");
        Ok(())
    }

    fn open_again(&mut self) -> Result<Verified> {
        self.store.reopen().map_err(|error| device(&error))?;
        let snapshot = self.store.snapshot().map_err(|error| device(&error))?;
        let broken = |error: OpenError| Error::new(Kind::Device, error.to_string());
        let verified = verify::verify(&*snapshot, &self.keys, Path::new("the store")).map_err(broken)?;
        let answered = self.state.manifest.read().generation;
        if verified.manifest.generation < answered {
            let found = verified.manifest.generation;
            return Err(Error::new(Kind::Device, format!("the store is at {found}, and {answered} was answered")));
        }
        self.outbox = reconcile(&verified, &*self.ledger).map_err(broken)?;
        self.backlog.clear();
        Ok(verified)
    }

    /// Appends the committed entries in order and answers the callers.
    fn record(&mut self, accepted: Vec<Accepted<L::Receipt>>) {
        for job in accepted {
            failpoint!("store.journal.before");
            let answer = match job.entry {
                None => Ok(None),
                Some(entry) => self.append(job.generation, entry).map(Some),
            };
            failpoint!("store.journal.after");
            answer_caller(&job.reply, answer);
        }
    }

    fn append(&mut self, generation: u64, entry: Vec<u8>) -> Result<L::Receipt> {
        let appended = match self.backlog.is_empty() {
            true => self.ledger.append(generation, &entry),
            false => Err(Error::new(Kind::Device, "an earlier entry is not in the journal yet")),
        };
        match appended {
            Ok(receipt) => {
                self.outbox.push_back(generation);
                Ok(receipt)
            }
            Err(error) => {
                tracing::error!(%error, generation, "the change is stored, its journal entry waits in the outbox");
                self.backlog.push_back((generation, entry));
                Err(error)
            }
        }
    }

    fn flush_backlog(&mut self) -> Result<()> {
        while let Some((generation, entry)) = self.backlog.front() {
            drop(self.ledger.append(*generation, entry)?);
            self.outbox.push_back(*generation);
            self.backlog.pop_front();
        }
        Ok(())
    }

    /// Once more than `keep` rows wait: syncs the journal and adds their removal. Returns how many will be gone.
    fn trim_outbox(&self, rows: &mut Batch, keep: usize) -> usize {
        if self.outbox.len() <= keep {
            return 0;
        }
        if let Err(error) = self.ledger.sync() {
            tracing::error!(%error, "the journal could not be synced: its entries stay in the outbox");
            return 0;
        }
        failpoint!("store.trim.before");
        for generation in &self.outbox {
            rows.delete(Table::Outbox, &layout::outbox_key(*generation));
        }
        self.outbox.len()
    }

    /// The last words: empties the outbox, so that the next start has nothing to reconcile.
    fn close(&mut self) {
        if self.state.poisoned.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = self.flush_backlog() {
            tracing::error!(%error, "entries stay in the outbox until the next start");
        }
        let mut rows = Batch::default();
        let trimmed = self.trim_outbox(&mut rows, 0);
        if trimmed == 0 {
            return;
        }
        let mut manifest = self.state.manifest.read().clone();
        manifest.generation += 1;
        let closed = match self.store.snapshot() {
            Ok(snapshot) => self.commit(&*snapshot, rows, manifest),
            Err(error) => Err(device(&error)),
        };
        match closed {
            Ok(()) => drop(self.outbox.drain(..trimmed)),
            Err(error) => tracing::error!(%error, "the outbox could not be emptied"),
        }
    }
}

/// Whether a row exists once the group's rows so far are written.
fn exists(snapshot: &dyn Snapshot, rows: &Batch, table: Table, key: &[u8]) -> Result<bool> {
    match rows.get(table, key) {
        Some(value) => Ok(value.is_some()),
        None => Ok(snapshot.row(table, key).map_err(|error| device(&error))?.is_some()),
    }
}

/// Removes all that belongs to a token, but for its token record, which its slot keeps.
fn clear(snapshot: &dyn Snapshot, rows: &mut Batch, token: TokenId) -> Result<()> {
    let of_token = [Table::Pin, Table::Attempts, Table::PublicObject, Table::PrivateObject];
    let of_token = of_token.into_iter().map(|table| (table, token.0.to_vec()));
    for (table, prefix) in of_token
        .chain([layout::count_prefix(token), layout::client_prefix(token)].map(|prefix| (Table::Reserved, prefix)))
    {
        let mut keys = rows.keys_with_prefix(table, &prefix);
        let mut visit = |key: &[u8], _: &[u8]| {
            keys.push(key.to_vec());
            Ok(())
        };
        snapshot.scan(table, &prefix, &mut visit).map_err(|error| device(&error))?;
        for key in keys {
            rows.delete(table, &key);
        }
    }
    Ok(())
}

fn refuse<R>(replies: impl IntoIterator<Item = SyncSender<Result<Option<R>>>>, error: &Error) {
    for reply in replies {
        answer_caller(&reply, Err(error.clone()));
    }
}

fn answer_caller<R>(reply: &SyncSender<Result<Option<R>>>, answer: Result<Option<R>>) {
    if reply.send(answer).is_err() {
        tracing::debug!("a caller of the store's writer went away before its answer");
    }
}
