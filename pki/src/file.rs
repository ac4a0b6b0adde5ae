//! Files that appear whole or not at all, and stay when the power goes.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A file that cannot be written, named.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {fault}")]
pub(crate) struct FileFault {
    path: String,
    fault: std::io::Error,
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> FileFault {
    move |fault| FileFault { path: path.display().to_string(), fault }
}

/// Writes a file whole or not at all.
///
/// # Errors
/// When it cannot be written, or its folder not be synced.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileFault> {
    let fresh = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh).map_err(at(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(path))?;
    std::fs::rename(&fresh, path).map_err(at(path))?;
    sync_folder_of(path)
}

/// Makes the name of a file durable.
///
/// # Errors
/// When its folder cannot be synced.
pub(crate) fn sync_folder_of(path: &Path) -> Result<(), FileFault> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
}
