//! The end of a file and the beginning of the next. All of it happens under the pen's lock: nobody may write in between.

use std::time::Instant;

use super::open::LAST_BACKUP;
use super::{Pen, Shared};
use crate::audit::checkpoint::{self, SEGMENT_OPEN};
use crate::audit::file::closed_path;
use crate::audit::outside::News;
use crate::audit::record::{Category, Client, Entry, Fact};
use crate::audit::signer::Signer;
use crate::{Error, Kind, Result};

impl Shared {
    /// Closes the file if it has grown large or old; says whether it tried. No fsync may be running.
    pub(super) fn close_full_file(&self, pen: &mut Pen) -> bool {
        if !pen.file_is_full(&self.files) {
            return false;
        }
        let outcome = self.close_file(pen);
        pen.close_failed = outcome.as_ref().is_err().then(Instant::now);
        if let Err(error) = outcome {
            tracing::error!(error = error.detail(), "the journal goes on in its present file");
        }
        true
    }

    /// Closes the file and begins another: the next key is announced under the old one's last checkpoint, everything is made
    /// durable, the file gets its closed name, and the old key is erased.
    fn close_file(&self, pen: &mut Pen) -> Result<()> {
        self.change_key(pen)?;
        let cannot = |error| Error::new(Kind::Device, format!("the journal's file cannot be closed: {error}"));
        self.medium.begin_another(pen.file_first).map_err(cannot)?;
        (pen.written_len, pen.durable_len) = (0, 0);
        pen.settled_changes = pen.last_change;
        pen.changes.clear();
        self.continue_file(pen)
    }

    /// From now on the next key signs: it is announced under the last checkpoint of the one before, and that is erased when this is durable.
    fn change_key(&self, pen: &mut Pen) -> Result<()> {
        if let Some(prepared) = pen.signer.as_ref().map(Signer::prepare).transpose()?.flatten() {
            self.write_entry(pen, &checkpoint::key_entry(prepared.public()))?;
            if let Some(signer) = &mut pen.signer {
                signer.announced(prepared);
            }
        }
        self.write_checkpoint(pen)?;
        self.sync_alone(pen)?;
        if let Some(signer) = &mut pen.signer {
            signer.retire()?;
        }
        Ok(())
    }

    /// Goes over to keys of the kinds that are wanted, in the middle of a file.
    pub(super) fn change_suite(&self) -> Result<()> {
        let mut pen = self.lock_when_formed();
        while pen.syncing {
            self.settled.wait(&mut pen);
        }
        self.recover(&mut pen)?;
        // What this start announced has a checkpoint of its own before another key is announced.
        self.write_checkpoint(&mut pen)?;
        self.change_key(&mut pen)?;
        // All that is there is under the new signatures at once.
        self.write_checkpoint(&mut pen)?;
        self.sync_alone(&mut pen)
    }

    /// Signs for everything written so far: the tree and `pending` together are all lines.
    fn write_checkpoint(&self, pen: &mut Pen) -> Result<()> {
        self.form(pen)?;
        let Some(signer) = &pen.signer else { return Ok(()) };
        let mut tree = pen.tree.clone();
        pen.pending.grow(&mut tree);
        let time = self.clock.now_unix_nanos().max(pen.last_time);
        let signed = signer.sign(&tree, pen.last_generation, pen.head.seq, time)?;
        let key = signer.public().clone();
        self.write_entry(pen, &signed.entry())?;
        pen.news = Some(News { head: pen.head, signed, key, time: pen.last_time });
        if let Some(signer) = &mut pen.signer {
            signer.signed();
            pen.key = Some(signer.public().clone());
        }
        self.checkpointed(pen);
        Ok(())
    }

    /// The first record of a file that continues another: what a verifier must know of the files before.
    pub(super) fn continue_file(&self, pen: &mut Pen) -> Result<()> {
        let peaks = pen.tree.peaks().concat();
        let closed = closed_path(&self.path, pen.file_first);
        let name = closed.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut entry = Entry::new(Category::Journal, SEGMENT_OPEN, Client::Daemon)
            .with_fact("file", Fact::name(&name))
            .with_fact("last_change", Fact::number(pen.settled_changes))
            .with_fact("last_generation", Fact::number(pen.last_generation))
            .with_fact("peaks", Fact::public(&peaks));
        if pen.last_backup > 0 {
            entry = entry.with_fact(LAST_BACKUP, Fact::number(pen.last_backup));
        }
        if let Some(key) = &pen.key {
            entry = checkpoint::with_key(entry, key);
        }
        self.write_entry(pen, &entry)?;
        (pen.file_first, pen.file_begun) = (pen.head.seq, Instant::now());
        Ok(())
    }

    /// One fsync under the lock.
    pub(super) fn sync_alone(&self, pen: &mut Pen) -> Result<()> {
        match self.medium.sync() {
            Ok(()) => {
                self.all_durable(pen);
                Ok(())
            }
            Err(error) => Err(self.fail(pen, &format!("the journal cannot be made durable: {error}"))),
        }
    }
}
