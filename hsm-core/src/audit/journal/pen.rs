//! The pen: what is written and staged so far, under the journal's lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::audit::chain::Head;
use crate::audit::draft::{Draft, Place};
use crate::audit::keys::PublicKey;
use crate::audit::merkle::Tree;
use crate::audit::outside::News;
use crate::audit::signer::{Signer, SigningKeys};
use crate::audit::stage::{Stage, Staged};

use super::lines::Lines;
use super::{CHECKPOINT_EVERY, CHECKPOINT_RECORDS, CHECKPOINT_REST, Files, JUMP_NANOS, REMEMBERED_CHANGES, RETRY};

pub(in crate::audit) struct Pen {
    /// The newest line.
    pub(super) head: Head,
    /// Records that are staged and not lines yet; with them the newest number is `assigned`.
    pub(super) queue: Queue,
    /// The room of the queue before: queues take turns, so that none grows anew.
    pub(super) spare: Queue,
    pub(super) assigned: u64,
    pub(super) stage: Option<Stage>,
    /// Somebody makes lines of records outside the lock: nobody else may.
    pub(super) forming: bool,
    /// The flusher sleeps until it is told that there is something to do.
    pub(super) resting: bool,
    /// Which run wrote the newest line that was found.
    pub(super) last_boot: String,
    pub(super) last_time: u64,
    pub(super) last_generation: u64,
    /// When the newest backup was made, as the journal tells it; zero when it does not.
    pub(super) last_backup: u64,
    /// Generation to sequence, of the records that belong to a store change; those up to `settled_changes` are in closed files.
    pub(super) changes: BTreeMap<u64, u64>,
    pub(super) settled_changes: u64,
    pub(super) last_change: u64,
    /// The tree of the durable lines.
    pub(super) tree: Tree,
    /// The key that certified records name, and whether another is announced that no checkpoint has certified.
    pub(super) key: Option<PublicKey>,
    pub(super) between_keys: bool,
    pub(super) signer: Option<Signer>,
    /// Another key signs now; the file still holds the one before.
    pub(super) key_to_erase: Option<Arc<SigningKeys>>,
    /// The record that carried the newest checkpoint, and when that was.
    pub(super) last_checkpoint: u64,
    pub(super) checkpointed: Instant,
    /// A change or an administrative operation wants to be under a checkpoint soon.
    pub(super) checkpoint_wanted: bool,
    /// A checkpoint of which nobody outside has heard: it is not durable yet.
    pub(super) news: Option<News>,
    /// The first record of the file, and when the file was begun or opened.
    pub(super) file_first: u64,
    pub(super) file_begun: Instant,
    /// The file was begun and has no record yet: the next must be its first.
    pub(super) headless: bool,
    /// Closing the file failed; when that was.
    pub(super) close_failed: Option<Instant>,
    pub(super) written_len: u64,
    pub(super) durable_len: u64,
    pub(super) durable: Head,
    /// When the oldest record that is not durable came.
    pub(super) behind_since: Option<Instant>,
    /// Lines that are written and not durable: those of the running fsync, and those after.
    pub(super) in_flight: Lines,
    pub(super) pending: Lines,
    pub(super) syncing: bool,
    /// A write failed and its bytes may still lie behind `written_len`.
    pub(super) tail_dirty: bool,
    pub(super) failed: Option<String>,
    pub(super) closing: bool,
    pub(super) room: Room,
    /// Wall clock minus steady clock, and the steady clock's origin.
    pub(super) offset: i128,
    pub(super) origin: Instant,
}

/// What the last look at the journal's disk has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Enough,
    /// Operators are warned.
    Low,
    /// Records are refused.
    Short,
}

/// How much room there is.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// When that was.
    pub(super) looked: Option<Instant>,
    pub(super) state: State,
    /// Where in the file the room that was set aside ends.
    pub(super) set_aside_to: u64,
}

/// Records that have their numbers and their times, from the first that came after the queue was emptied.
pub(super) struct Queue {
    /// No two queues have the same, and none has it again: an emptied queue takes its next turn.
    turn: u64,
    /// Each once, as many records as it may have: whoever uses one key again and again leaves the same draft.
    drafts: Vec<Draft>,
    records: Vec<Queued>,
}

struct Queued {
    draft: u32,
    time: u64,
    generation: u64,
}

static TURNS: AtomicU64 = AtomicU64::new(0);

impl Default for Queue {
    fn default() -> Self {
        Queue { turn: TURNS.fetch_add(1, Ordering::Relaxed), drafts: Vec::new(), records: Vec::new() }
    }
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Forgets the records and keeps their room.
    pub(super) fn clear(&mut self) {
        self.turn = TURNS.fetch_add(1, Ordering::Relaxed);
        self.drafts.clear();
        self.records.clear();
    }

    /// Draft, time and generation of each record.
    pub(super) fn records(&self) -> impl Iterator<Item = (&Draft, u64, u64)> {
        self.records.iter().map(|queued| (&self.drafts[queued.draft as usize], queued.time, queued.generation))
    }

    /// Stages a record and adds it; false when there is no room.
    fn push(&mut self, draft: &Draft, staged: Staged, stage: &mut Stage) -> bool {
        let index = match draft.place(self.turn) {
            Some(place) if stage.put_again(staged, place.staged_at) => place.index,
            Some(_) => return false,
            None => {
                let Some(staged_at) = stage.put(staged, draft) else { return false };
                let Ok(index) = u32::try_from(self.drafts.len()) else { return false };
                self.drafts.push(draft.clone());
                draft.placed(Place { turn: self.turn, index, staged_at });
                index
            }
        };
        self.records.push(Queued { draft: index, time: staged.time, generation: staged.generation });
        true
    }
}

impl Pen {
    pub(in crate::audit) fn empty() -> Self {
        Pen {
            head: Head::EMPTY,
            queue: Queue::default(),
            spare: Queue::default(),
            assigned: 0,
            stage: None,
            forming: false,
            resting: false,
            last_boot: String::new(),
            last_time: 0,
            last_generation: 0,
            last_backup: 0,
            changes: BTreeMap::new(),
            settled_changes: 0,
            last_change: 0,
            tree: Tree::default(),
            key: None,
            between_keys: false,
            signer: None,
            key_to_erase: None,
            last_checkpoint: 0,
            checkpointed: Instant::now(),
            checkpoint_wanted: false,
            news: None,
            file_first: 1,
            file_begun: Instant::now(),
            headless: false,
            close_failed: None,
            written_len: 0,
            durable_len: 0,
            durable: Head::EMPTY,
            behind_since: None,
            in_flight: Lines::default(),
            pending: Lines::default(),
            syncing: false,
            tail_dirty: false,
            failed: None,
            closing: false,
            room: Room::default(),
            offset: 0,
            origin: Instant::now(),
        }
    }

    pub(super) fn note(&mut self, generation: u64, change: bool, seq: u64) {
        self.last_generation = self.last_generation.max(generation);
        if change {
            self.last_change = self.last_change.max(generation);
            self.changes.insert(generation, seq);
            if self.changes.len() > REMEMBERED_CHANGES {
                self.changes.pop_first();
            }
        }
    }

    /// Stages a record and gives its number; none when there is no stage or no room on it.
    pub(super) fn stage(&mut self, draft: &Draft, now: u64, generation: u64) -> Option<u64> {
        let (seq, time) = (self.assigned + 1, now.max(self.last_time));
        let staged = Staged { seq, time, generation };
        if !self.queue.push(draft, staged, self.stage.as_mut()?) {
            return None;
        }
        (self.assigned, self.last_time) = (seq, time);
        self.behind_since.get_or_insert_with(Instant::now);
        Some(seq)
    }

    /// Stages what the next run takes for the record with the next number, if this one does not come to write its line. False when there
    /// is no room; without a stage nothing is answered before its line is written.
    pub(super) fn stage_aside(&mut self, draft: &Draft) -> bool {
        let staged = Staged { seq: self.assigned + 1, time: self.last_time, generation: self.last_generation };
        self.stage.as_mut().is_none_or(|stage| stage.put(staged, draft).is_some())
    }

    /// Records that no checkpoint covers, the newest checkpoint's own apart.
    fn unsigned(&self) -> u64 {
        match self.signer {
            Some(_) => self.assigned.saturating_sub(self.last_checkpoint),
            None => 0,
        }
    }

    /// How long it is until a checkpoint is due; `None` when there is nothing to sign.
    pub(super) fn until_checkpoint(&self) -> Option<Duration> {
        let wait = match self.unsigned() {
            0 => return None,
            _ if self.checkpoint_wanted || self.closing => Duration::ZERO,
            CHECKPOINT_RECORDS.. => CHECKPOINT_REST,
            _ => CHECKPOINT_EVERY,
        };
        Some(wait.saturating_sub(self.checkpointed.elapsed()))
    }

    /// Whether a checkpoint is due.
    pub(super) fn checkpoint_due(&self) -> bool {
        self.until_checkpoint() == Some(Duration::ZERO)
    }

    pub(super) fn file_is_full(&self, files: &Files) -> bool {
        let full = self.written_len >= files.max_bytes || self.file_begun.elapsed() >= files.max_age;
        let holds_records = self.head.seq > self.file_first;
        full && holds_records && self.may_close()
    }

    /// Whether the last attempt to close a file succeeded, or is long enough ago.
    pub(super) fn may_close(&self) -> bool {
        self.close_failed.is_none_or(|when| when.elapsed() >= RETRY)
    }

    /// How far the wall clock jumped since the last look, if it did.
    pub(super) fn jump(&mut self, now: u64) -> Option<i128> {
        let elapsed = i128::try_from(self.origin.elapsed().as_nanos()).unwrap_or(i128::MAX);
        let offset = i128::from(now) - elapsed;
        let jumped = offset - self.offset;
        self.offset = offset;
        (jumped.abs() > JUMP_NANOS).then_some(jumped)
    }

    /// Everything up to `head` is durable now.
    pub(super) fn made_durable(&mut self, head: Head, len: u64) {
        (self.durable, self.durable_len) = (head, len);
        self.behind_since = (self.assigned > head.seq).then(Instant::now);
    }
}
