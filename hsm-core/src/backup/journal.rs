//! The journal of a store that is put into another's place: opened by the operator's process, and asked how often that happened.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::audit::{Journal, closed_files};
use crate::config::Config;
use crate::{Clock, Result};

/// The record of a restore.
pub(super) const RESTORE: &str = "restore";
/// The record of an older store that was accepted.
pub(super) const ACCEPTED: &str = "rollback_accepted";

/// How many restores, and accepted rollbacks, the journal's files tell of. A file that cannot be read tells of none: the replaced store
/// knows as well.
pub(super) fn restores_told(journal: &Path) -> u32 {
    let files = closed_files(journal).into_iter().map(|(_, path)| path).chain([journal.to_owned()]);
    let holds = |line: &[u8], text: &str| memchr::memmem::find(line, text.as_bytes()).is_some();
    let ops = [RESTORE, ACCEPTED].map(|op| format!("\"op\":\"{op}\","));
    let count = |path: PathBuf| {
        let lines =
            File::open(path).map(BufReader::new).into_iter().flat_map(|file| file.split(b'\n').map_while(Result::ok));
        lines.filter(|line| ops.iter().any(|op| holds(line, op)) && holds(line, "\"rv\":\"CKR_OK\"")).count()
    };
    u32::try_from(files.map(count).sum::<usize>()).unwrap_or(u32::MAX)
}

/// Opens the journal that the configuration names.
pub(super) fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Journal> {
    Journal::open(config.audit.options(), clock)
}
