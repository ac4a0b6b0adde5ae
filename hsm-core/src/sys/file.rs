//! Private files and directories, made and replaced so that a loss of power leaves the old or the new, never half.

use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Result, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Makes a directory that only its owner may enter, and its missing parents. An existing one is left as it is.
pub(crate) fn create_private_dir(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes a new file that only its owner may read; fails if there is one.
pub(crate) fn create_private_file(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Makes names created, renamed or removed in the directory durable.
fn sync_dir(path: &Path) -> Result<()> {
    File::open(if path.as_os_str().is_empty() { Path::new(".") } else { path })?.sync_all()
}

/// Writes a new private file, durable in content and name; fails if there is one.
pub(crate) fn write_durably(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => (),
    }
    let mut file = create_private_file(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    // A hard link, unlike a rename, never replaces a file that appeared meanwhile.
    std::fs::hard_link(&temporary, path)?;
    std::fs::remove_file(&temporary)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Gives a finished, synced file its final name, durably.
pub(crate) fn replace_durably(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to)?;
    sync_dir(to.parent().unwrap_or(Path::new(".")))
}

/// The number of the owner and the permission bits; a symbolic link is not followed.
pub(crate) fn owner_and_mode(path: &Path) -> Result<(u32, u32)> {
    let metadata = path.symlink_metadata()?;
    Ok((metadata.uid(), metadata.mode() & 0o777))
}

/// An exclusive lock that ends with the process, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, or `None` if another process has it.
    pub(crate) fn take(path: &Path) -> Result<Option<Lock>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_things_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        create_private_dir(&inner).unwrap();
        assert_eq!(owner_and_mode(&inner).unwrap().1, 0o700);
        write_durably(&inner.join("key"), b"content").unwrap();
        assert_eq!(owner_and_mode(&inner.join("key")).unwrap().1, 0o600);
        assert_eq!(std::fs::read(inner.join("key")).unwrap(), b"content");
    }

    #[test]
    fn an_existing_file_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_durably(&path, b"first").unwrap();
        assert!(write_durably(&path, b"second").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
    }

    #[test]
    fn a_lock_is_held_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::take(&path).unwrap();
        assert!(first.is_some());
        assert!(Lock::take(&path).unwrap().is_none());
        drop(first);
        assert!(Lock::take(&path).unwrap().is_some());
    }
}
