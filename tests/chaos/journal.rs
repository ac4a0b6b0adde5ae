//! What the journal's files hold, read as text: a test's view that no program of ours is between.

use std::fs;
use std::path::{Path, PathBuf};

/// Records of all the journal's files in which both texts stand.
pub(crate) fn records(journal: &Path, one: &str, other: &str) -> u64 {
    let folder = journal.parent().expect("a file lies in a folder");
    let files = fs::read_dir(folder).expect("our own folder").filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let of_journal = files.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("audit") && name.ends_with(".jsonl")
    });
    let count = |path: PathBuf| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().filter(|line| line.contains(one) && line.contains(other)).count() as u64
    };
    of_journal.map(count).sum()
}
