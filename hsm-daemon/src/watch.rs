//! When files are read again: when one of them has changed, and in any case after the configured time.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::tls::Tls;

/// How often the files are looked at. Their times are looked at, not their content.
const LOOK: Duration = Duration::from_secs(1);

/// What tells one state of a file from another: place on the disk, length, times of change.
type Stamp = Option<(u64, u64, u64, i64, i64, i64, i64)>;

/// The files that a running daemon reads again.
pub(crate) struct Watch {
    files: Vec<(PathBuf, Stamp)>,
    refresh: Option<Duration>,
    begun: Instant,
}

impl Watch {
    /// Over the files of the TLS listener and the clients file.
    pub(crate) fn over(tls: Option<&Tls>, clients: Option<&Path>) -> Self {
        let files = tls.into_iter().flat_map(Tls::files).chain(clients);
        let files = files.map(|path| (path.to_owned(), stamp(path))).collect();
        Watch { files, refresh: tls.map(Tls::refresh), begun: Instant::now() }
    }

    /// Returns when a file has changed or the time has come; never when there is nothing to watch.
    pub(crate) async fn until_due(&self) {
        if self.files.is_empty() {
            return core::future::pending().await;
        }
        loop {
            tokio::time::sleep(LOOK).await;
            let old = self.refresh.is_some_and(|refresh| self.begun.elapsed() >= refresh);
            if old || self.files.iter().any(|(path, known)| stamp(path) != *known) {
                return;
            }
        }
    }

    /// The files are about to be read.
    pub(crate) fn begin_again(&mut self) {
        for (path, known) in &mut self.files {
            *known = stamp(path);
        }
        self.begun = Instant::now();
    }
}

fn stamp(path: &Path) -> Stamp {
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.len(), found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_rewritten_replaced_or_removed_looks_different() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("clients.toml");
        std::fs::write(&path, "one").expect("written");
        let first = stamp(&path);
        assert_eq!(stamp(&path), first);
        let other = folder.path().join("other");
        std::fs::write(&other, "two").expect("written");
        std::fs::rename(&other, &path).expect("replaced");
        let second = stamp(&path);
        assert_ne!(second, first);
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(stamp(&path), None);
    }
}
