//! Records under the lock: numbered and staged, or chained and written at once.

use parking_lot::MutexGuard;

use super::lines::Lines;
use super::pen::Queue;
use super::{Pen, Shared, refused, whole};
use crate::audit::chain::Head;
use crate::audit::draft::{Change, Draft, Stamp};
use crate::audit::entry::{Category, Client, Entry, Fact};
use crate::{Error, Result, failpoint};

impl Shared {
    /// The short lock: stamp, write, remember. Returns the sequence number.
    pub(super) fn write(&self, draft: &Draft, generation: u64, change: Change, checkpoint_wanted: bool) -> Result<u64> {
        let now = self.clock.now_unix_nanos();
        let mut pen = self.lock_when_formed();
        let _whole = whole();
        self.recover(&mut pen)?;
        self.note_jump(&mut pen, now)?;
        self.write_line(&mut pen, draft, now, generation, change)?;
        let seq = pen.head.seq;
        pen.note(generation, change == Change::Made, seq);
        pen.checkpoint_wanted |= checkpoint_wanted;
        Ok(seq)
    }

    /// The shorter lock: number, stage, remember. Returns the sequence number.
    pub(super) fn write_staged(&self, draft: &Draft, generation: u64) -> Result<u64> {
        let now = self.clock.now_unix_nanos();
        let mut pen = self.pen.lock();
        let _whole = whole();
        let jumped = pen.jump(now);
        if let Some(jumped) = jumped {
            // Seen again below: the jump is noted by a line.
            pen.offset -= jumped;
        }
        if pen.failed.is_none()
            && !pen.tail_dirty
            && jumped.is_none()
            && let Some(seq) = pen.stage(draft, now, generation)
        {
            pen.note(generation, false, seq);
            failpoint!("journal.stage.after");
            self.wake(&mut pen);
            return Ok(seq);
        }
        drop(pen);
        self.write(draft, generation, Change::Nothing, false)
    }

    /// Wakes the flusher, if it sleeps until there is something to do.
    pub(super) fn wake(&self, pen: &mut Pen) {
        if core::mem::take(&mut pen.resting) {
            self.dirty.notify_one();
        }
    }

    fn note_jump(&self, pen: &mut Pen, now: u64) -> Result<()> {
        let Some(jumped) = pen.jump(now) else { return Ok(()) };
        let generation = pen.last_generation;
        self.write_line(pen, &Draft::new(&jump_entry(now, jumped)), now, generation, Change::Nothing)
    }

    /// The lock, at a moment when nobody makes lines outside it.
    pub(super) fn lock_when_formed(&self) -> MutexGuard<'_, Pen> {
        let mut pen = self.pen.lock();
        while pen.forming {
            self.settled.wait(&mut pen);
        }
        pen
    }

    /// Makes lines of the records that are staged, and writes them.
    pub(super) fn form(&self, pen: &mut Pen) -> Result<()> {
        if pen.queue.is_empty() {
            return Ok(());
        }
        let start = pen.pending.len();
        pen.head = self.chain(&pen.queue, pen.head, &mut pen.pending);
        pen.queue.clear();
        match self.medium.write_at(&pen.pending.text()[start..], pen.written_len) {
            Ok(()) => {
                pen.written_len += (pen.pending.len() - start) as u64;
                if let Some(stage) = &mut pen.stage {
                    stage.begin();
                }
                Ok(())
            }
            Err(error) => Err(self.fail(pen, &format!("the journal cannot be written: {error}"))),
        }
    }

    /// From now on records are refused, until the journal has recovered.
    pub(super) fn fail(&self, pen: &mut Pen, why: &str) -> Error {
        pen.failed = Some(why.to_owned());
        self.settled.notify_all();
        refused(why)
    }

    /// Appends the lines of records to `lines`; gives the newest.
    pub(super) fn chain(&self, queue: &Queue, mut head: Head, lines: &mut Lines) -> Head {
        for (draft, time, generation) in queue.records() {
            let stamp = Stamp {
                seq: head.seq + 1,
                time,
                boot: &self.boot,
                generation,
                change: Change::Nothing,
                prev: &head.hash,
            };
            head = lines.push(draft, &stamp);
        }
        head
    }

    /// A record of the journal about itself.
    pub(super) fn write_entry(&self, pen: &mut Pen, entry: &Entry) -> Result<()> {
        let generation = pen.last_generation;
        self.write_line(pen, &Draft::new(entry), self.clock.now_unix_nanos(), generation, Change::Nothing)
    }

    fn write_line(&self, pen: &mut Pen, draft: &Draft, now: u64, generation: u64, change: Change) -> Result<()> {
        self.form(pen)?;
        self.write_line_of(&self.boot, pen, draft, now, generation, change)
    }

    /// A line of this run or of the one before it.
    pub(super) fn write_line_of(
        &self,
        boot: &str,
        pen: &mut Pen,
        draft: &Draft,
        now: u64,
        generation: u64,
        change: Change,
    ) -> Result<()> {
        let Head { seq, hash } = pen.head;
        let time = now.max(pen.last_time);
        let stamp = Stamp { seq: seq + 1, time, boot, generation, change, prev: &hash };
        let start = pen.pending.len();
        let head = pen.pending.push(draft, &stamp);
        if let Err(error) = self.medium.write_at(&pen.pending.text()[start..], pen.written_len) {
            pen.pending.take_back(start);
            pen.tail_dirty = self.medium.truncate(pen.written_len).is_err();
            return Err(refused(&format!("the journal cannot be written: {error}")));
        }
        pen.written_len += (pen.pending.len() - start) as u64;
        pen.head = head;
        (pen.assigned, pen.last_time) = (head.seq, time);
        pen.behind_since.get_or_insert_with(std::time::Instant::now);
        self.wake(pen);
        Ok(())
    }

    /// Brings a journal that failed back to a state in which the next line may follow, or refuses.
    pub(super) fn recover(&self, pen: &mut Pen) -> Result<()> {
        if pen.tail_dirty {
            self.medium
                .truncate(pen.written_len)
                .map_err(|error| refused(&format!("the journal cannot be written: {error}")))?;
            pen.tail_dirty = false;
        }
        if pen.failed.is_none() {
            return Ok(());
        }
        if pen.syncing || self.is_short_of_room(pen) {
            return Err(refused(pen.failed.as_deref().unwrap_or_default()));
        }
        // Over what is there, and what is too much goes last: whoever ends this process meanwhile takes no line away.
        let again = self
            .medium
            .write_at(pen.pending.text(), pen.durable_len)
            .and_then(|()| self.medium.truncate(pen.durable_len + pen.pending.len() as u64))
            .and_then(|()| self.medium.sync());
        match again {
            Ok(()) => {
                pen.failed = None;
                self.all_durable(pen);
                if pen.headless { self.begin_file(pen) } else { Ok(()) }
            }
            Err(error) => Err(self.fail(pen, &format!("the journal cannot be made durable: {error}"))),
        }
    }

    /// Every line is durable.
    pub(super) fn all_durable(&self, pen: &mut Pen) {
        self.medium.remember(&pen.head);
        pen.pending.grow(&mut pen.tree);
        pen.written_len = pen.durable_len + pen.pending.len() as u64;
        pen.pending.clear();
        pen.made_durable(pen.head, pen.written_len);
        self.tell_outside(pen);
        self.settled.notify_all();
    }

    /// A checkpoint that is durable is told to whoever wants to hear it.
    pub(super) fn tell_outside(&self, pen: &mut Pen) {
        let durable = pen.durable;
        if let Some(mut news) = pen.news.take_if(|news| news.head.seq <= durable.seq)
            && let Some(outside) = &self.outside
        {
            news.head = durable;
            outside.tell(news);
        }
    }
}

/// The record of a wall clock that ran away.
pub(super) fn jump_entry(clock: u64, jumped: i128) -> Entry {
    let seconds = u64::try_from(jumped.unsigned_abs() / 1_000_000_000).unwrap_or(u64::MAX);
    Entry::new(Category::Journal, "clock_jump", Client::Daemon)
        .with_fact("clock", Fact::number(clock))
        .with_fact("direction", Fact::word(if jumped < 0 { "back" } else { "forward" }))
        .with_fact("seconds", Fact::number(seconds))
}
