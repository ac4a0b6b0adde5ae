//! The end of a file and the beginning of the next. What must not be interrupted happens under the pen's lock, with one fsync: the next key is
//! made before, the one before it erased after, while others write.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::MutexGuard;

use super::open::LAST_BACKUP;
use super::{Pen, Shared};
use crate::audit::checkpoint::{self, SEGMENT_OPEN};
use crate::audit::entry::{Category, Client, Entry, Fact};
use crate::audit::file::closed_path;
use crate::audit::outside::News;
use crate::audit::signer::{Prepared, Signer, SigningKeys};
use crate::{Error, Kind, Result, failpoint};

impl Shared {
    /// Closes the file if it has grown large or old; says whether it tried. No fsync may be running.
    pub(super) fn close_full_file(&self, pen: &mut MutexGuard<'_, Pen>) -> bool {
        if !pen.file_is_full(&self.files) {
            return false;
        }
        let _alone = MutexGuard::unlocked(pen, || self.names.lock());
        let outcome = self.close_file(pen);
        pen.close_failed = outcome.as_ref().is_err().then(Instant::now);
        if let Err(error) = outcome {
            tracing::error!(error = error.detail(), "the journal goes on in its present file");
        }
        self.erase(pen);
        true
    }

    /// Closes the file and begins another: the next key is announced under the old one's last checkpoint, everything is made
    /// durable, and the file gets its closed name.
    fn close_file(&self, pen: &mut MutexGuard<'_, Pen>) -> Result<()> {
        let keys = maker_of_next_key(pen)?;
        let prepared = MutexGuard::unlocked(pen, || keys.map(|keys| keys.prepare()).transpose())?;
        while pen.syncing {
            self.settled.wait(pen);
        }
        self.recover(pen)?;
        self.change_key(pen, prepared)?;
        let cannot = |error| Error::new(Kind::Device, format!("the journal's file cannot be closed: {error}"));
        self.medium.begin_another(pen.file_first).map_err(cannot)?;
        (pen.written_len, pen.durable_len) = (0, 0);
        pen.settled_changes = pen.last_change;
        pen.changes.clear();
        pen.headless = true;
        self.begin_file(pen)
    }

    /// From now on the next key signs: it is announced under the last checkpoint of the one before.
    fn change_key(&self, pen: &mut Pen, prepared: Option<Prepared>) -> Result<()> {
        if let Some(prepared) = prepared {
            self.write_entry(pen, &checkpoint::key_entry(prepared.public()))?;
            if let Some(signer) = &mut pen.signer {
                signer.announced(prepared);
            }
        }
        failpoint!("journal.close.announced");
        self.write_checkpoint(pen)?;
        self.sync_alone(pen)?;
        failpoint!("journal.close.synced");
        Ok(())
    }

    /// Erases the key before the one that signs, if that has not been done when it was replaced; says whether it tried.
    pub(super) fn erase_key_before(&self, pen: &mut MutexGuard<'_, Pen>) -> bool {
        let tried = pen.key_to_erase.is_some() && pen.may_close();
        if tried {
            let _alone = MutexGuard::unlocked(pen, || self.names.lock());
            self.erase(pen);
        }
        tried
    }

    /// Nobody else may be at the key files. The checkpoint that certified the next key may be a line that no fsync has reached: then it is
    /// too early.
    fn erase(&self, pen: &mut MutexGuard<'_, Pen>) {
        let certified = pen.last_checkpoint <= pen.durable.seq;
        let Some(keys) = pen.key_to_erase.take_if(|_| certified) else { return };
        if let Err(error) = MutexGuard::unlocked(pen, || keys.retire()) {
            tracing::error!(error = error.detail(), "a signing key of before is not erased yet");
            pen.key_to_erase = Some(keys);
            pen.close_failed = Some(Instant::now());
        }
    }

    /// Goes over to keys of the kinds that are wanted, in the middle of a file.
    pub(super) fn change_suite(&self) -> Result<()> {
        let _alone = self.names.lock();
        let mut pen = self.lock_when_formed();
        while pen.syncing {
            self.settled.wait(&mut pen);
        }
        self.recover(&mut pen)?;
        // What this start announced has a checkpoint of its own before another key is announced.
        self.write_checkpoint(&mut pen)?;
        let prepared = maker_of_next_key(&pen)?.map(|keys| keys.prepare()).transpose()?;
        self.change_key(&mut pen, prepared)?;
        // All that is there is under the new signatures at once.
        self.write_checkpoint(&mut pen)?;
        self.sync_alone(&mut pen)?;
        self.erase(&mut pen);
        Ok(())
    }

    /// Writes the first record of the file that was just begun. Until it is written no other may be: the journal would not verify.
    pub(super) fn begin_file(&self, pen: &mut Pen) -> Result<()> {
        match self.continue_file(pen) {
            Ok(()) => {
                pen.headless = false;
                Ok(())
            }
            Err(_) => Err(self.fail(pen, "the journal's next file cannot be begun")),
        }
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
            let to_erase = signer.signed();
            pen.key = Some(signer.public().clone());
            pen.key_to_erase = to_erase.or(pen.key_to_erase.take());
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

/// What makes the next key, if none is announced already. Not before the last one has its place: a further key would take the place of the only
/// copy of the one in use.
fn maker_of_next_key(pen: &Pen) -> Result<Option<Arc<SigningKeys>>> {
    if pen.key_to_erase.is_some() {
        return Err(Error::new(Kind::Device, "the journal's signing key before this one is not erased yet"));
    }
    Ok(pen.signer.as_ref().and_then(Signer::keys_to_prepare))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use parking_lot::Mutex;

    use super::*;
    use crate::audit::chain::Head;
    use crate::audit::file::Medium;
    use crate::audit::signed_tests::{SMALL, open};
    use crate::audit::tests::{TestClock, entry, options};
    use crate::audit::{Durability, Files, Journal, Options, visit_file};

    /// A disk on which the first writes to each new file fail.
    #[derive(Default)]
    struct Turning {
        files: Mutex<Vec<Vec<u8>>>,
        refusals: AtomicUsize,
    }

    impl Medium for Arc<Turning> {
        fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
            if self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                return Err(io::Error::other("no space left on device"));
            }
            let mut files = self.files.lock();
            if files.is_empty() {
                files.push(Vec::new());
            }
            let file = files.last_mut().unwrap();
            file.truncate(usize::try_from(position).unwrap());
            file.extend_from_slice(bytes);
            Ok(())
        }

        fn truncate(&self, length: u64) -> io::Result<()> {
            if let Some(file) = self.files.lock().last_mut() {
                file.truncate(usize::try_from(length).unwrap());
            }
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        fn remember(&self, _: &Head) {}

        fn begin_another(&self, _: u64) -> io::Result<()> {
            self.files.lock().push(Vec::new());
            self.refusals.store(2, Ordering::SeqCst);
            Ok(())
        }
    }

    /// The file had been begun, its first record could not be written, and the next operation's record took its place: the journal
    /// did not verify at the next start.
    #[test]
    fn a_file_whose_first_record_could_not_be_written_takes_no_other_before_it() {
        let medium = Arc::new(Turning::default());
        let files = Files { max_bytes: 2000, ..SMALL };
        let options = Options { files, ..options(Path::new("")) };
        let (clock, empty) = (TestClock::at(0), Pen::empty());
        let journal = Journal::start(Box::new(Arc::clone(&medium)), clock, "00".to_owned(), options, empty);
        let begun = Instant::now();
        let mut refused = 0;
        while medium.files.lock().len() < 4 && begun.elapsed() < Duration::from_secs(60) {
            refused += usize::from(journal.append(entry(1), 1, Durability::Durable).is_err());
        }
        drop(journal);
        let files = medium.files.lock();
        assert!(files.len() >= 4 && refused > 0, "{} files, {refused} refused", files.len());
        for file in files.iter().skip(1).filter(|file| !file.is_empty()) {
            let first = file.split(|byte| *byte == b'\n').next().unwrap();
            assert!(String::from_utf8_lossy(first).contains("\"op\":\"segment_open\""));
        }
    }

    /// A run that ended there, with the old key at hand and the new one erased, wrote a journal that never verified again.
    #[test]
    fn a_run_that_ends_between_announcing_a_key_and_certifying_it_is_followed_by_one_that_verifies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let journal = open(&path, SMALL);
        journal.append(entry(1), 1, Durability::Durable).map(drop).unwrap();
        let killed = tempfile::tempdir().unwrap();
        {
            let mut pen = journal.shared.lock_when_formed();
            let prepared = pen.signer.as_ref().unwrap().keys_to_prepare().unwrap().prepare().unwrap();
            journal.shared.write_entry(&mut pen, &checkpoint::key_entry(prepared.public())).unwrap();
            for file in std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
                std::fs::copy(file.path(), killed.path().join(file.file_name())).unwrap();
            }
        }
        let path = killed.path().join("audit.jsonl");
        for run in 2..5 {
            let journal = open(&path, SMALL);
            journal.append(entry(run), run, Durability::Durable).map(drop).unwrap();
            drop(journal);
            let summary = visit_file(&path, |_| Ok(())).unwrap();
            assert!(summary.signatures.uncertified_keys.is_empty());
        }
    }
}
