//! A journal that is not what was written: it takes no record, and is left as it was found.

use std::io;
use std::sync::Arc;

use super::{Journal, Options, Pen};
use crate::audit::chain::Head;
use crate::audit::file::Medium;
use crate::clock::Clock;

/// Where nothing can be written, and why.
struct Closed(String);

impl Closed {
    fn refusal<T>(&self) -> io::Result<T> {
        Err(io::Error::other(self.0.clone()))
    }
}

impl Medium for Closed {
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        self.refusal()
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        self.refusal()
    }

    fn sync(&self) -> io::Result<()> {
        self.refusal()
    }

    fn remember(&self, _: &Head) {}

    fn begin_another(&self, _: u64) -> io::Result<()> {
        self.refusal()
    }
}

impl Journal {
    /// A journal in the place of one that cannot be opened: whatever needs a record is refused with that sentence.
    pub(crate) fn closed(options: Options, clock: Arc<dyn Clock>, why: &str) -> Self {
        let options = Options { anchor: None, witnesses: Vec::new(), ..options };
        let pen = Pen { failed: Some(why.to_owned()), ..Pen::empty() };
        Journal::start(Box::new(Closed(why.to_owned())), clock, String::new(), options, pen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Durability;
    use crate::audit::tests::{TestClock, entry, options};

    #[test]
    fn a_closed_journal_takes_no_record_and_touches_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let journal = Journal::closed(options(&path), TestClock::at(0), "line 7 does not verify");
        for durability in [Durability::Written, Durability::Durable] {
            let refused = journal.append(entry(1), 1, durability).map(drop).unwrap_err();
            assert!(refused.detail().unwrap().contains("line 7 does not verify"), "{refused}");
        }
        assert!(journal.failure().unwrap().contains("line 7"));
        drop(journal);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
