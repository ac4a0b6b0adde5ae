//! Tidiness that a machine can check: the import law, the floor plan, the three `unsafe` rooms, words that may not stay.

mod documents;
mod edges;
mod failpoints;
mod floor_plan;
mod loops;
mod proto;
mod secrets;

use std::path::{Path, PathBuf};

use acceptance::daemon::workspace;
use acceptance::tools::run;
use std::process::Command;

/// The tracked files of the repository (and those that would be added), as paths from its root.
fn files() -> Vec<PathBuf> {
    let mut git = Command::new("git");
    git.current_dir(workspace()).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let mut files: Vec<PathBuf> = run(&mut git).ok().text().lines().map(PathBuf::from).collect();
    // A file that was removed but not yet committed is still listed.
    files.retain(|file| workspace().join(file).is_file());
    assert!(files.len() > 50, "only {} files: this is not the repository", files.len());
    files
}

fn rust_files() -> Vec<(PathBuf, String)> {
    let rust = files().into_iter().filter(|file| file.extension().is_some_and(|e| e == "rs"));
    rust.map(|file| (file.clone(), read(&file))).collect()
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(workspace().join(file)).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}
