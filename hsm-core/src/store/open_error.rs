//! Why a store cannot be opened, in sentences that say what to do next.

use super::StoreError;
use crate::error::Error;
use std::path::PathBuf;

/// Why a store was not opened, created or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The store exists and its key does not.
    #[error("the store {} is sealed: its key {} is missing; put the key back or restore a backup", store.display(), key.display())]
    Sealed {
        /// The store file.
        store: PathBuf,
        /// Where the key was looked for.
        key: PathBuf,
    },
    /// The key is there, and sealed.
    #[error("the store {} is sealed: its key opens with {}; unseal it with craton-hsm-admin unseal", store.display(), opens.join(", or with "))]
    Locked {
        /// The store file.
        store: PathBuf,
        /// What opens the key, in words.
        opens: Vec<String>,
    },
    /// The key file is there and is not the key of this store.
    #[error("the key {} is not the key of the store {}; put the right key back or restore a backup", key.display(), store.display())]
    WrongKey {
        /// The store file.
        store: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// The key file does not hold a key.
    #[error("the key file {} does not hold a store key; put the right key back or restore a backup", .0.display())]
    KeyMalformed(PathBuf),
    /// Another daemon has it.
    #[error("the store {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// It was written by a newer version.
    #[error("the store has format {found} and this version reads up to format {supported}; start a newer version")]
    FormatNewer {
        /// The format of the store.
        found: u16,
        /// The newest format this version reads.
        supported: u16,
    },
    /// A record was changed outside the daemon.
    #[error("the record {record} does not verify: {reason}; restore a backup")]
    RecordBroken {
        /// The table and key, for people.
        record: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Each record is good, and together they are not what was written last.
    #[error(
        "the records do not add up to the manifest ({found} found, {expected} expected): one was removed, added or \
         replaced by an older copy; restore a backup"
    )]
    SetMismatch {
        /// Records found.
        found: u64,
        /// Records that the manifest counts.
        expected: u64,
    },
    /// The manifest or the format row is missing or was changed.
    #[error("the {0} of the store does not verify; restore a backup")]
    ManifestBroken(&'static str),
    /// The file's structure is damaged.
    #[error("the store {} is damaged: {reason}; restore a backup", path.display())]
    Corrupt {
        /// The store file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Others could read or change it.
    #[error("{} has mode {mode:03o} and may be used by others: set it to {wanted:03o}", path.display())]
    Permissions {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they must be at most.
        wanted: u32,
    },
    /// Somebody else owns it.
    #[error("{} belongs to user {owner}, not to the user who runs the daemon", path.display())]
    Owner {
        /// The file or directory.
        path: PathBuf,
        /// Its owner's number.
        owner: u32,
    },
    /// The store is older than the journal, or is not there at all (generation 0).
    #[error("{}", rolled_back(*store, *journal))]
    RolledBack {
        /// The store's generation.
        store: u64,
        /// The newest generation in the journal.
        journal: u64,
    },
    /// The journal lacks an entry that was durable when the store was last written.
    #[error(
        "the journal was cut or replaced: the store remembers its entry {sequence}, which is not there; put the journal back (is its \
         volume mounted?) or, if it is lost, restore the newest backup"
    )]
    JournalCut {
        /// The sequence number that the store remembers.
        sequence: u64,
    },
    /// A restore is only done into an empty place.
    #[error("{} is not empty, and a backup is restored into an empty directory; --force keeps beside the new store what is there", .0.display())]
    NotEmpty(PathBuf),
    /// The operating system refused.
    #[error("{}: {reason}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The journal could not take an entry that the store holds for it, or randomness failed.
    #[error("the store cannot be started: {}", .0.detail().unwrap_or(.0.rv().sentence()))]
    Start(Error),
}

impl OpenError {
    /// Whether all is well but the key: the daemon then runs sealed.
    pub fn is_sealed(&self) -> bool {
        matches!(self, OpenError::Sealed { .. } | OpenError::Locked { .. })
    }

    /// Whether another start would find the same: what lies on the disk is not what was written, or may not be used as it is.
    pub fn is_lasting(&self) -> bool {
        !matches!(self, OpenError::InUse(_) | OpenError::Io { .. } | OpenError::Start(_))
    }

    pub(super) fn io(path: &std::path::Path, error: &std::io::Error) -> OpenError {
        OpenError::Io { path: path.to_owned(), reason: error.to_string() }
    }

    pub(super) fn store(path: &std::path::Path, error: StoreError) -> OpenError {
        let path = path.to_owned();
        match error {
            StoreError::InUse => OpenError::InUse(path),
            StoreError::Corrupt(reason) => OpenError::Corrupt { path, reason },
            StoreError::Io(reason) => OpenError::Io { path, reason },
        }
    }
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        OpenError::Start(error)
    }
}

fn rolled_back(store: u64, journal: u64) -> String {
    match store {
        0 => format!(
            "there is no store, and the journal is at generation {journal}: is the store's volume mounted? If the store is lost, restore the \
             newest backup"
        ),
        _ => format!(
            "the store was rolled back: it is at generation {store} and the journal at {journal}; restore the newest backup, or have the SO \
             accept it (craton-hsm-admin store accept-rollback)"
        ),
    }
}
