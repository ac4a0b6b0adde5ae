//! What the journal's files hold, read as text: a test's view that no program of ours is between.

use std::fs;
use std::path::{Path, PathBuf};

/// The generations of all records of changes, in order: each change of the store has one record, so none comes twice.
pub(crate) fn generations(journal: &Path) -> Vec<u64> {
    let mut found: Vec<u64> = Vec::new();
    for path in files(journal) {
        for line in fs::read_to_string(path).unwrap_or_default().lines().filter(|line| line.contains("\"change\":true"))
        {
            let record: serde_json::Value = serde_json::from_str(line).expect("a record");
            found.push(record["generation"].as_u64().expect("a number"));
        }
    }
    found.sort_unstable();
    found
}

/// Records of all the journal's files in which both texts stand.
pub(crate) fn records(journal: &Path, one: &str, other: &str) -> u64 {
    let count = |path: PathBuf| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().filter(|line| line.contains(one) && line.contains(other)).count() as u64
    };
    files(journal).into_iter().map(count).sum()
}

/// All the journal's files.
pub(crate) fn files(journal: &Path) -> Vec<PathBuf> {
    let folder = journal.parent().expect("a file lies in a folder");
    let files = fs::read_dir(folder).expect("our own folder").filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let of_journal = files.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("audit") && name.ends_with(".jsonl")
    });
    of_journal.collect()
}
