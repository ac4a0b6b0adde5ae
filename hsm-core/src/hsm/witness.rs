//! The token's daemon as a witness of other journals: each newest checkpoint in a file of its own, and every one in this journal.

use std::io;
use std::path::PathBuf;

use super::Hsm;
use crate::act;
use crate::audit::{Durability, Entry, Fact, Held, Note, Step, judge};
use crate::config::{WitnessedJournal, witness_stem};
use crate::error::{Error, Kind, Result};
use crate::peer::Peer;
use crate::sys;

impl Hsm {
    /// What is held of a journal; `None` before its first checkpoint.
    ///
    /// # Errors
    /// [`Kind::ActionProhibited`] for a journal of which this daemon is no witness; [`Kind::Device`] when the file is damaged.
    pub fn witnessed(&self, origin: &str) -> Result<Option<Held>> {
        self.witnessed_journal(origin).and_then(|journal| self.read_witnessed(&journal.origin))
    }

    /// The names of the journals of which this daemon is a witness.
    pub fn witnessed_origins(&self) -> impl Iterator<Item = &str> {
        self.config.witness.journals.iter().map(|journal| journal.origin.as_str())
    }

    /// Judges a checkpoint of another journal, keeps it, and records that, or that it was refused.
    ///
    /// # Errors
    /// [`Kind::DataInvalid`] with the reason of a refusal; as [`Hsm::witnessed`]; [`Kind::Device`] when it cannot be kept or recorded.
    pub fn witness(&self, peer: &Peer, step: &Step) -> Result<Held> {
        let malformed = || Error::new(Kind::ArgumentsBad, "the checkpoint is malformed");
        let told = match Note::parse(&step.note) {
            Some(note) => note.checkpoint,
            None => return self.refused(&act::WITNESS, peer, malformed()),
        };
        let _turn = self.witnessing.lock();
        let journal = match self.witnessed_journal(&told.origin) {
            Ok(journal) => journal,
            Err(error) => return self.refused(&act::WITNESS, peer, error),
        };
        let held = self.read_witnessed(&journal.origin)?;
        let outcome = judge(held.as_ref(), &journal.keys, step)
            .map_err(|refusal| Error::new(Kind::DataInvalid, refusal.to_string()));
        if let (Ok(next), Some(held)) = (&outcome, &held)
            && next.checkpoint().size == held.checkpoint().size
        {
            // It was told before.
            return Ok(held.clone());
        }
        // Kept before it is recorded: what was once accepted binds, whatever happens in between.
        let outcome = outcome.and_then(|next| self.write_witnessed(&next).map(|()| next));
        let mut entry = Entry::new(act::WITNESS.category, act::WITNESS.name, peer.journal())
            .with_fact("origin", Fact::name(&told.origin))
            .with_fact("root", Fact::digest(&told.root))
            .with_fact("size", Fact::number(told.size));
        if let Err(error) = &outcome {
            entry.rv = error.rv();
            let why = error.detail().unwrap_or_default();
            tracing::error!(origin = told.origin, size = told.size, why, "a checkpoint of another journal is refused");
        }
        drop(self.journal.append(entry, self.store_generation(), Durability::Durable)?);
        outcome
    }

    fn witnessed_journal(&self, origin: &str) -> Result<&WitnessedJournal> {
        let known = self.config.witness.journals.iter().find(|journal| journal.origin == origin);
        known.ok_or_else(|| Error::new(Kind::ActionProhibited, "this daemon is no witness of that journal"))
    }

    fn read_witnessed(&self, origin: &str) -> Result<Option<Held>> {
        let path = self.witness_file(origin);
        let bad = |why: &str| Error::new(Kind::Device, format!("the witnessed checkpoint {} {why}", path.display()));
        match std::fs::read_to_string(&path) {
            Ok(text) => match Held::from_text(&text).filter(|held| held.checkpoint().origin == origin) {
                Some(held) => Ok(Some(held)),
                None => Err(bad("is damaged: compare with this daemon's journal before it is moved aside")),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(bad(&format!("cannot be read: {error}"))),
        }
    }

    fn write_witnessed(&self, held: &Held) -> Result<()> {
        let path = self.witness_file(&held.checkpoint().origin);
        let fresh = path.with_extension("fresh");
        let directory = &self.config.witness.directory;
        let written = sys::create_private_dir(directory)
            .and_then(|()| match std::fs::remove_file(&fresh) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => sys::write_durably(&fresh, held.to_text().as_bytes()),
            })
            .and_then(|()| sys::replace_durably(&fresh, &path));
        written.map_err(|error| {
            Error::new(Kind::Device, format!("the witnessed checkpoint {} cannot be kept: {error}", path.display()))
        })
    }

    fn witness_file(&self, origin: &str) -> PathBuf {
        self.config.witness.directory.join(format!("{}.checkpoint", witness_stem(origin)))
    }
}
