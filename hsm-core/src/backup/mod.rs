//! Backup and restore: one consistent state of the store in one file, for whoever has the file and the SO PIN, or another credential
//! that was named when it was made.
//!
//! The archive's bytes are in `format.md`. This room takes what the store hands out and hands back what it read; how a
//! record is sealed, and what it means, is not known here.

mod body;
#[cfg(test)]
mod exhaustive_tests;
mod files;
mod header;
mod journal;
mod keys;
mod read;
#[cfg(test)]
mod recipient_tests;
mod restore;
mod rollback;
#[cfg(test)]
mod tests;
mod write;

pub use crate::envelope::{BackupPublicKey, BackupSecretKey, Credential, For};
pub use crate::share::{Share, ShareSet, combine_shares, new_shares};
pub use files::{FileLine, extract, write_files};
pub use header::TokenLine;
pub use read::{Manifest, inspect, looks_like_archive, verify};
pub use restore::{Replace, Restore, Restored, restore};
pub use rollback::{AcceptRollback, AcceptedRollback, accept_rollback};
pub(crate) use write::{Request, Written, write};

/// The archive format that this program writes, and the newest that it reads.
pub const FORMAT: u16 = 2;

/// First bytes of an archive, and of its trailer.
const MAGIC: &[u8; 4] = b"HSMB";
const TRAILER_MAGIC: &[u8; 4] = b"BMSH";
/// Magic, format, min reader, header length.
const PREFIX_LEN: usize = 12;
const MAC_LEN: usize = 32;
/// Magic, record count, SHA-256.
const TRAILER_LEN: usize = 44;
const DIGEST_LEN: usize = 32;

use crate::{Error, Kind};

/// The file is not an archive, or not any more.
fn damaged(what: &str) -> Error {
    Error::new(Kind::DataInvalid, format!("the backup is damaged: {what}"))
}

/// An archive of files where one of a store is needed.
fn of_files() -> Error {
    Error::new(Kind::DataInvalid, "it is an archive of files, not of a store: see `craton-hsm-admin backup extract`")
}

fn io(what: &str, error: &std::io::Error) -> Error {
    Error::new(Kind::Device, format!("{what}: {error}"))
}
