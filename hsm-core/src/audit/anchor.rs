//! The anchor: one line in a file on another disk that names a durable record of the journal. Who puts an older store and the older
//! journal that belongs to it back together is found out by it, unless the anchor is put back too (`format.md`, "Anchor").

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::chain::Head;
use super::file::hash_of_record;
use super::signer::beside;
use crate::{Error, Kind, Result, failpoint, sys};

/// The head that an anchor names; `None` when the file is missing.
///
/// # Errors
///
/// [`Kind::Device`] when the file cannot be read or is no anchor.
pub fn read(path: &Path) -> Result<Option<Head>> {
    let bad = |why: &str| Error::new(Kind::Device, format!("the anchor {} {why}", path.display()));
    match std::fs::read_to_string(path) {
        Ok(line) => Head::from_line(&line)
            .map(Some)
            .ok_or_else(|| bad("is none: an anchor is one line, as `craton-hsm-admin audit anchor` writes it")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(bad(&format!("cannot be read: {error}"))),
    }
}

/// Refuses a journal that lacks the record which the anchor names, before anything is written to it.
///
/// # Errors
///
/// [`Kind::DataInvalid`] with a sentence for the operator; [`Kind::Device`] when a file cannot be read.
pub(super) fn check(anchor: &Path, journal: &Path) -> Result<()> {
    let Some(head) = read(anchor)?.filter(|head| head.seq > 0) else {
        tracing::warn!(anchor = %anchor.display(), "there is no anchor yet: an older store with an older journal would not be noticed");
        return Ok(());
    };
    let found = hash_of_record(journal, head.seq);
    let found = found.map_err(|error| Error::new(Kind::Device, format!("{}: {error}", journal.display())))?;
    if found == Some(head.hash) {
        return Ok(());
    }
    let sentence = format!(
        "the journal {} lacks record {} that the anchor {} names: store and journal were rolled back, or are another token's; \
         restore the newest, or remove the anchor if you know why",
        journal.display(),
        head.seq,
        anchor.display()
    );
    Err(Error::new(Kind::DataInvalid, sentence))
}

/// Names a durable record. An anchor that cannot be written is no reason to stop: it is older then, and finds out less.
pub(super) fn write(anchor: &Path, durable: &Head) {
    let fresh = beside(anchor, ".new");
    let written = match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sys::create_private_file(&fresh).and_then(|mut file: File| {
            file.write_all(durable.to_line().as_bytes())?;
            file.sync_all()?;
            failpoint!("anchor.rename.before");
            sys::replace_durably(&fresh, anchor)
        }),
    };
    if let Err(error) = written {
        tracing::error!(anchor = %anchor.display(), %error, "the anchor cannot be written");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::file::closed_path;
    use super::super::tests::options;
    use super::super::{Category, Client, Durability, Entry, Journal, Options};
    use super::*;
    use crate::SystemClock;
    use crate::audit::SigningKeys;
    use crate::secret::SecretBytes;

    fn open(folder: &Path) -> Result<Journal> {
        let path = folder.join("here/audit.jsonl");
        let anchor = Some(folder.join("there/anchor"));
        let journal = Journal::open(Options { anchor, ..options(&path) }, Arc::new(SystemClock))?;
        journal.sign_with(SigningKeys::new(&path, SecretBytes::copy_from(&[7; 32]), "test".into()))?;
        Ok(journal)
    }

    fn write_some(folder: &Path) {
        let journal = open(folder).unwrap();
        for _ in 0..5 {
            let entry = Entry::new(Category::Admin, "test", Client::Daemon);
            journal.append(entry, 1, Durability::Durable).map(drop).unwrap();
        }
    }

    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }

    #[test]
    fn yesterdays_journal_is_refused_and_todays_is_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("there")).unwrap();
        write_some(folder.path());
        let (here, kept) = (folder.path().join("here"), folder.path().join("kept"));
        copy(&here, &kept);
        write_some(folder.path());
        let newest = read(&folder.path().join("there/anchor")).unwrap().unwrap();
        assert!(newest.seq > 5, "{newest:?}");
        std::fs::rename(&here, folder.path().join("today")).unwrap();
        copy(&kept, &here);
        let before = std::fs::read(here.join("audit.jsonl")).unwrap();
        let refused = open(folder.path()).map(drop).unwrap_err();
        assert!(refused.detail().unwrap().contains("rolled back"), "{refused}");
        assert!(std::fs::read(here.join("audit.jsonl")).unwrap() == before, "a refused journal is not written");
        // Its own head file does not give it away: it was put back too.
        std::fs::remove_dir_all(&here).unwrap();
        std::fs::rename(folder.path().join("today"), &here).unwrap();
        write_some(folder.path());
    }

    /// A daemon that was killed between the end of one file and the first record of the next did not start again.
    #[test]
    fn a_run_that_ended_between_two_files_is_no_rollback() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("there")).unwrap();
        write_some(folder.path());
        let path = folder.path().join("here/audit.jsonl");
        std::fs::rename(&path, closed_path(&path, 1)).unwrap();
        drop(sys::create_private_file(&path).unwrap());
        write_some(folder.path());
    }

    #[test]
    fn a_journal_that_was_deleted_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("there")).unwrap();
        write_some(folder.path());
        std::fs::remove_dir_all(folder.path().join("here")).unwrap();
        assert!(open(folder.path()).is_err());
        std::fs::write(folder.path().join("there/anchor"), "rubbish").unwrap();
        assert!(open(folder.path()).is_err(), "an anchor that is none is not passed over");
        std::fs::remove_file(folder.path().join("there/anchor")).unwrap();
        write_some(folder.path());
    }
}
