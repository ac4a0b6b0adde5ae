//! Groups of lines become durable, and signed: by the flusher's thread, or by whoever waits.

use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::lines::Lines;
use super::pen::Queue;
use super::{GROUP, Pen, RETRY, Shared, refused, whole};
use crate::Result;
use crate::audit::chain::Head;
use crate::audit::checkpoint::SignedCheckpoint;
use crate::audit::draft::{Change, Draft, Stamp};
use crate::audit::entry::{Category, Client, Entry};
use crate::audit::merkle::Tree;
use crate::audit::outside::News;
use crate::audit::signer::Signer;
use crate::failpoint;
use crate::observe::Wait;

/// What is taken from the pen to make lines of, outside its lock.
struct Group {
    queue: Queue,
    /// The lines that are written and not durable, to which those of the group are added; and where in the file these go.
    lines: Lines,
    position: u64,
    dirty: bool,
    head: Head,
    seal: Option<Seal>,
}

/// A checkpoint that is due after the group's records.
struct Seal {
    signer: Signer,
    /// Of the durable lines.
    tree: Tree,
    time: u64,
    generation: u64,
}

/// A group's checkpoint, and the tree that holds its line too.
struct Sealed {
    signer: Signer,
    tree: Tree,
    signed: Result<SignedCheckpoint>,
    time: u64,
}

impl Shared {
    /// Returns when record `seq` is durable. One thread runs the fsync for all that wait.
    pub(super) fn make_durable(&self, seq: u64) -> Result<()> {
        let mut pen = self.pen.lock();
        let _whole = whole();
        while pen.durable.seq < seq {
            if let Some(why) = &pen.failed {
                return Err(refused(why));
            }
            if pen.syncing {
                self.settled.wait(&mut pen);
            } else {
                self.sync_group(&mut pen);
            }
        }
        Ok(())
    }

    /// Writes what is staged, with a checkpoint if one is due, and makes everything written durable.
    fn sync_group(&self, pen: &mut MutexGuard<'_, Pen>) {
        pen.syncing = true;
        failpoint!("journal.group.before");
        let Ok(ahead) = self.form_group(pen) else {
            pen.syncing = false;
            self.settled.notify_all();
            return;
        };
        let group = &mut **pen;
        core::mem::swap(&mut group.in_flight, &mut group.pending);
        let (head, len) = (pen.head, pen.written_len);
        // While `syncing` is set nobody else looks at these two.
        let (tree, mut lines) = (core::mem::take(&mut pen.tree), core::mem::take(&mut pen.in_flight));
        let begun = Instant::now();
        let (outcome, tree) = MutexGuard::unlocked(pen, || match self.medium.sync() {
            Ok(()) => {
                self.observed(begun.elapsed());
                self.medium.remember(&head);
                let grown = ahead.unwrap_or_else(|| {
                    let mut tree = tree;
                    lines.grow(&mut tree);
                    tree
                });
                (Ok(()), grown)
            }
            Err(error) => (Err(error), tree),
        });
        pen.syncing = false;
        pen.tree = tree;
        match outcome {
            Ok(()) => {
                pen.made_durable(head, len);
                lines.clear();
                pen.in_flight = lines;
                self.tell_outside(pen);
            }
            Err(error) => {
                let later = core::mem::replace(&mut pen.pending, lines);
                pen.pending.extend(&later);
                tracing::error!(%error, "the audit journal cannot be made durable; operations are refused");
                pen.failed = Some(format!("the journal cannot be made durable: {error}"));
            }
        }
        self.settled.notify_all();
    }

    fn observed(&self, took: Duration) {
        if let Some(observer) = self.observer.get() {
            observer(Wait::JournalSync, took);
        }
    }

    /// Makes lines of the records that are staged and of a checkpoint that is due, outside the lock: others go on being staged. Gives
    /// the tree of all lines, if it had to be known, and an error when the lines could not be written.
    fn form_group(&self, pen: &mut MutexGuard<'_, Pen>) -> Result<Option<Tree>, ()> {
        let seal = self.take_seal(pen);
        if pen.queue.is_empty() && seal.is_none() {
            return Ok(None);
        }
        pen.forming = true;
        if let Some(stage) = &mut pen.stage {
            stage.turn();
        }
        let room = core::mem::take(&mut pen.spare);
        let mut group = Group {
            queue: core::mem::replace(&mut pen.queue, room),
            lines: core::mem::take(&mut pen.pending),
            position: pen.written_len,
            dirty: pen.tail_dirty,
            head: pen.head,
            seal,
        };
        let (sealed, written) = MutexGuard::unlocked(pen, || group.write(self));
        pen.forming = false;
        pen.head = group.head;
        pen.pending = group.lines;
        pen.spare = group.queue;
        let ahead = sealed.map(|sealed| self.take_up(pen, sealed));
        self.settled.notify_all();
        match written {
            Ok(len) => {
                pen.tail_dirty = false;
                pen.written_len += len;
                Ok(ahead)
            }
            Err(error) => {
                pen.failed = Some(format!("the journal cannot be written: {error}"));
                tracing::error!(%error, "the audit journal cannot be written; operations are refused");
                Err(())
            }
        }
    }

    /// What a checkpoint needs, if one is due; its record has the next number. Should this run end before the line is written, the next
    /// one must find something under that number, or it would not take the records after it: so what says that there is no
    /// checkpoint is staged. While there is no room for it, none is due.
    fn take_seal(&self, pen: &mut Pen) -> Option<Seal> {
        if !pen.checkpoint_due() || !pen.stage_aside(&Draft::new(&no_checkpoint())) {
            return None;
        }
        let signer = pen.signer.take()?;
        let time = self.clock.now_unix_nanos().max(pen.last_time);
        (pen.assigned, pen.last_time) = (pen.assigned + 1, time);
        Some(Seal { signer, tree: pen.tree.clone(), time, generation: pen.last_generation })
    }

    /// A checkpoint's record is a line; gives the tree.
    fn take_up(&self, pen: &mut Pen, sealed: Sealed) -> Tree {
        let Sealed { mut signer, tree, signed, time } = sealed;
        match signed {
            Ok(signed) => {
                pen.news = Some(News { head: pen.head, signed, key: signer.public().clone(), time });
                pen.key_to_erase = signer.signed().or(pen.key_to_erase.take());
                pen.key = Some(signer.public().clone());
            }
            Err(error) => tracing::error!(error = error.detail(), "no checkpoint could be written"),
        }
        pen.signer = Some(signer);
        self.checkpointed(pen);
        tree
    }

    /// The newest record carries a checkpoint.
    pub(super) fn checkpointed(&self, pen: &mut Pen) {
        pen.last_checkpoint = pen.head.seq;
        pen.checkpointed = Instant::now();
        pen.checkpoint_wanted = false;
    }

    /// What the flusher does while all is durable: another file, a checkpoint. True when it did something.
    fn keep_house(&self, pen: &mut MutexGuard<'_, Pen>) -> bool {
        if pen.syncing || pen.failed.is_some() || pen.tail_dirty {
            return false;
        }
        if self.erase_key_before(pen) || self.close_full_file(pen) {
            return true;
        }
        let due = pen.checkpoint_due();
        if due {
            self.sync_group(pen);
        }
        due
    }

    pub(super) fn flush_loop(&self) {
        let mut pen = self.pen.lock();
        let _whole = whole();
        loop {
            self.look_at_room(&mut pen);
            if pen.failed.is_some() {
                if pen.closing {
                    return;
                }
                // Somebody's record may find the disk well before that: then there is a group to make durable.
                pen.resting = true;
                self.dirty.wait_for(&mut pen, RETRY);
                pen.resting = false;
                if pen.failed.is_some() && self.recover(&mut pen).is_ok() {
                    tracing::info!("the audit journal can be written again");
                }
                continue;
            }
            if pen.durable.seq == pen.assigned {
                if !self.keep_house(&mut pen) {
                    if pen.closing {
                        return;
                    }
                    self.rest(&mut pen);
                }
                continue;
            }
            if !pen.closing {
                self.dirty.wait_for(&mut pen, GROUP);
            }
            if pen.syncing {
                self.settled.wait(&mut pen);
            } else if pen.failed.is_none() && pen.durable.seq < pen.assigned {
                self.sync_group(&mut pen);
                if !pen.syncing && pen.failed.is_none() && !pen.tail_dirty {
                    self.close_full_file(&mut pen);
                }
            }
        }
    }

    /// Until there is something to make durable or to sign.
    fn rest(&self, pen: &mut MutexGuard<'_, Pen>) {
        pen.resting = true;
        let retry = pen.key_to_erase.as_ref().map(|_| RETRY);
        match pen.until_checkpoint().into_iter().chain(retry).min() {
            Some(rest) => drop(self.dirty.wait_for(pen, rest.max(GROUP))),
            None => self.dirty.wait(pen),
        }
        pen.resting = false;
    }
}

/// The record in the place of a checkpoint that could not be made.
fn no_checkpoint() -> Entry {
    Entry::new(Category::Journal, "checkpoint_failed", Client::Daemon)
}

impl Group {
    /// Makes the lines and writes them; gives their length.
    fn write(&mut self, journal: &Shared) -> (Option<Sealed>, std::io::Result<u64>) {
        let start = self.lines.len();
        self.lines.reserve(self.queue.len());
        self.head = journal.chain(&self.queue, self.head, &mut self.lines);
        self.queue.clear();
        let sealed = self.seal.take().map(|seal| self.sign(seal, journal));
        let clean = if self.dirty { journal.medium.truncate(self.position) } else { Ok(()) };
        let lines = &self.lines.text()[start..];
        let written = clean.and_then(|()| journal.medium.write_at(lines, self.position));
        (sealed, written.map(|()| lines.len() as u64))
    }

    /// Signs for all lines so far, and adds the line that says so.
    fn sign(&mut self, seal: Seal, journal: &Shared) -> Sealed {
        let Seal { signer, mut tree, time, generation } = seal;
        self.lines.grow(&mut tree);
        failpoint!("journal.sign.before");
        let signed = signer.sign(&tree, generation, self.head.seq, time);
        // The record has its number, and those after it theirs: it must say something.
        let entry = match &signed {
            Ok(signed) => signed.entry(),
            Err(_) => no_checkpoint(),
        };
        let stamp = Stamp {
            seq: self.head.seq + 1,
            time,
            boot: &journal.boot,
            generation,
            change: Change::Nothing,
            prev: &self.head.hash,
        };
        self.head = self.lines.push(&Draft::new(&entry), &stamp);
        self.lines.grow_by_last(&mut tree);
        Sealed { signer, tree, signed, time }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::audit::file::Medium;
    use crate::audit::signer::SigningKeys;
    use crate::audit::stage::{Stage, leftover, stage_path};
    use crate::audit::tests::{TestClock, entry, options};
    use crate::audit::{Durability, Journal};
    use crate::secret::SecretBytes;

    const BOOT: [u8; 8] = [7; 8];
    const BOOT_TEXT: &str = "0707070707070707";

    type Act = Box<dyn FnOnce() + Send>;

    /// A medium on which something happens just before the lines with a checkpoint are written.
    #[derive(Default)]
    struct Slow {
        before_checkpoint: Mutex<Option<Act>>,
    }

    impl Medium for Arc<Slow> {
        fn write_at(&self, bytes: &[u8], _: u64) -> io::Result<()> {
            if bytes.windows(12).any(|window| window == b"\"checkpoint\"")
                && let Some(act) = self.before_checkpoint.lock().take()
            {
                act();
            }
            Ok(())
        }

        fn truncate(&self, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        fn remember(&self, _: &Head) {}

        fn begin_another(&self, _: u64) -> io::Result<()> {
            Err(io::Error::other("one file only"))
        }
    }

    /// What a kill leaves while a checkpoint is being signed: records before it and after it, and none of their lines.
    #[test]
    fn what_is_answered_while_a_checkpoint_is_made_is_found_after_a_kill() {
        let folder = tempfile::tempdir().unwrap();
        let (path, killed) = (folder.path().join("audit.jsonl"), folder.path().join("killed.jsonl"));
        let mut pen = Pen::empty();
        pen.stage = Some(Stage::open(&path, BOOT).unwrap());
        let medium = Arc::new(Slow::default());
        let clock = TestClock::at(5);
        let journal = Journal::start(Box::new(Arc::clone(&medium)), clock, BOOT_TEXT.to_owned(), options(&path), pen);
        let keys = SigningKeys::new(&path, SecretBytes::copy_from(&[1; 32]), "craton-hsm/test".into());
        journal.sign_with(keys).unwrap();
        let before = journal.head().seq;
        let (shared, kept) = (Arc::clone(&journal.shared), stage_path(&killed));
        let staged = stage_path(&path);
        *medium.before_checkpoint.lock() = Some(Box::new(move || {
            shared.write_staged(&Draft::new(&entry(2)), 1).map(drop).unwrap();
            std::fs::copy(staged, kept).map(drop).unwrap();
        }));
        journal.append(entry(1), 1, Durability::Written).map(drop).unwrap();
        drop(journal);
        let found = leftover(&killed, BOOT_TEXT, before).unwrap();
        let numbers: Vec<u64> = found.iter().map(|(staged, _)| staged.seq).collect();
        assert_eq!(numbers, [before + 1, before + 2, before + 3], "a record, the checkpoint's place, a record");
    }
}
