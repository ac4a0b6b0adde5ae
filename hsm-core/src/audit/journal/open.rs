//! From the files of an earlier run to an open journal: verify, repair what a kill may leave, write what it had staged.

use std::sync::Arc;

use data_encoding::HEXLOWER;

use super::{Durability, JUMP_NANOS, Journal, Options, Pen, write};
use crate::audit::anchor;
use crate::audit::chain::Head;
use crate::audit::checkpoint::{self, SEGMENT_OPEN};
use crate::audit::draft::{Change, Draft};
use crate::audit::entry::{Category, Client, Entry, Fact};
use crate::audit::file::{JournalFile, Opened, Opening, TornTail, remembered_head};
use crate::audit::record::Record;
use crate::audit::stage::{Stage, Staged, leftover};
use crate::crypto::rng;
use crate::{Clock, Error, Kind, Result, act};

impl Journal {
    /// Opens the journal, creating it when there is none: verifies every record, sets an unfinished last line aside,
    /// and writes `journal_open`.
    ///
    /// # Errors
    ///
    /// [`Kind::Device`] when the file cannot be used or is in use; [`Kind::DataInvalid`] when it does not verify, or lacks what the anchor
    /// names: the sentence names the line.
    pub fn open(options: Options, clock: Arc<dyn Clock>) -> Result<Self> {
        let file = JournalFile::open(&options.path)?;
        let noted = remembered_head(&options.path);
        let mut pen = Pen::empty();
        if let Some(anchor) = &options.anchor {
            anchor::check(anchor, &options.path)?;
        }
        let (torn, begin_another) = load(&file, &options, noted, &mut pen)?;
        let now = clock.now_unix_nanos();
        let behind = pen.last_time.saturating_sub(now);
        pen.offset = i128::from(now);
        let mut boot = [0; 8];
        rng::fill(&mut boot).map_err(|_| Error::new(Kind::Device, "no random bytes from the system"))?;
        let staged = leftover(&options.path, &pen.last_boot, pen.head.seq)?;
        let journal = Journal::start(Box::new(file), clock, HEXLOWER.encode(&boot), options, pen);
        if begin_another {
            journal.shared.continue_file(&mut journal.shared.pen.lock())?;
        }
        journal.finish(staged)?;
        let generation = journal.last_generation();
        if let Some(torn) = torn {
            let entry = Entry::new(Category::Journal, "tail_repaired", Client::Daemon)
                .with_fact("bytes", Fact::number(torn.bytes))
                .with_fact("file", Fact::name(&torn.name))
                .with_fact("sha256", Fact::digest(&torn.sha256));
            journal.append(entry, generation, Durability::Durable).map(drop)?;
        }
        if i128::from(behind) > JUMP_NANOS {
            let entry = write::jump_entry(now, -i128::from(behind));
            journal.append(entry, generation, Durability::Durable).map(drop)?;
        }
        let entry = Entry::new(Category::Journal, "journal_open", Client::Daemon)
            .with_fact("program", Fact::word(env!("CARGO_PKG_VERSION")));
        journal.append(entry, generation, Durability::Durable).map(drop)?;
        // Not before: until here the file holds what an earlier run left.
        match Stage::open(&journal.path, boot) {
            Ok(stage) => journal.shared.pen.lock().stage = Some(stage),
            Err(error) => tracing::warn!(%error, "no staging file: every record is written by itself"),
        }
        Ok(journal)
    }

    /// Writes the records that an earlier run had staged and answered for.
    fn finish(&self, staged: Vec<(Staged, Draft)>) -> Result<()> {
        if staged.is_empty() {
            return Ok(());
        }
        tracing::info!(records = staged.len(), "records of the last run are taken from the staging file");
        let mut pen = self.shared.pen.lock();
        let boot = pen.last_boot.clone();
        for (Staged { time, generation, .. }, draft) in staged {
            self.shared.write_line_of(&boot, &mut pen, &draft, time, generation, Change::Nothing)?;
            let seq = pen.head.seq;
            pen.note(generation, false, seq);
        }
        drop(pen);
        self.sync()
    }
}

/// Verifies the file into `pen`; sets an unfinished last line aside, if nobody remembers it as written. Also says whether the file
/// has just been begun.
fn load(file: &JournalFile, options: &Options, noted: Option<Head>, pen: &mut Pen) -> Result<(Option<TornTail>, bool)> {
    let known: Vec<Head> = options.known.into_iter().chain(noted).collect();
    // Of the file, what is noted as durable.
    let mut durable_len = 0;
    let outcome = file.visit(&known, |line| {
        let record = line.record;
        if pen.head.seq == 0 || record.op == SEGMENT_OPEN {
            (pen.file_first, pen.written_len, durable_len) = (record.seq, 0, 0);
        }
        if record.op == checkpoint::CHECKPOINT {
            pen.last_checkpoint = record.seq;
        }
        if is_backup(record) {
            pen.last_backup = record.time;
        }
        if let Some(Fact::Number(time)) = record.detail.get(LAST_BACKUP).filter(|_| record.op == SEGMENT_OPEN) {
            pen.last_backup = *time;
        }
        pen.note(record.generation, record.change == Some(true), record.seq);
        pen.last_time = record.time;
        pen.head = line.head;
        if pen.last_boot != record.boot {
            pen.last_boot.clone_from(&record.boot);
        }
        pen.written_len += line.text.len() as u64 + 1;
        if noted == Some(line.head) {
            durable_len = pen.written_len;
        }
        Ok(())
    });
    let Opened { walk, torn, begin_another } = outcome.map_err(|opening| tampered(&opening))?;
    let torn = torn.map(|offset| file.set_tail_aside(offset, pen.head.seq + 1)).transpose()?;
    // What the records of closed files said, the file's first record says.
    pen.settled_changes = walk.last_change_before();
    pen.last_change = walk.last_change();
    pen.last_generation = pen.last_generation.max(walk.summary().last_generation);
    pen.key = walk.key().cloned();
    pen.between_keys = walk.is_between_keys();
    pen.tree = walk.tree().clone();
    if begin_another {
        pen.written_len = 0;
        pen.settled_changes = pen.last_change;
    }
    file.write_anew(durable_len, pen.written_len)?;
    pen.durable_len = pen.written_len;
    pen.durable = pen.head;
    pen.assigned = pen.head.seq;
    Ok((torn, begin_another))
}

fn tampered(opening: &Opening) -> Error {
    let Opening { path, finding } = opening;
    Error::new(
        Kind::DataInvalid,
        format!(
            "the journal {} does not verify at {finding}; move it aside for examination, or restore it, before starting again",
            path.display()
        ),
    )
}

/// The fact of a file's first record that tells when the newest backup before it was made.
pub(super) const LAST_BACKUP: &str = "last_backup";

fn is_backup(record: &Record) -> bool {
    record.op == act::BACKUP.name && record.rv == "CKR_OK" && !record.detail.contains_key("phase")
}
