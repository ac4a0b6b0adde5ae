//! `backup`: one archive of the running token, verified before it gets its name.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use hsm_core::backup::{Manifest, verify};
use hsm_proto::v1::BackupRequest;
use serde::Serialize;

use super::archive_table;
use crate::cli::Backup;
use crate::config::Settings;
use crate::connect::{Client, talk};
use crate::failure::Failure;
use crate::output::{Output, Table};
use crate::prompt;

#[derive(Serialize)]
struct Answer {
    file: PathBuf,
    #[serde(flatten)]
    archive: Manifest,
}

/// Takes the backup.
pub(crate) fn run(settings: &Settings, given: &Backup, output: &Output) -> Result<(), Failure> {
    if let Some(archives) = &given.archives {
        return super::archives::run(archives, output);
    }
    let file = given.output.as_deref().ok_or_else(|| Failure::new("--output is missing"))?;
    refuse_existing(file)?;
    let pin = prompt::pin("--pin", "SO PIN", given.pin.as_deref())?;
    let request = BackupRequest { token: Some((&given.which).into()), so_pin: pin.expose().to_vec() };
    let part = Part::create(file)?;
    talk(settings, |daemon| receive(daemon, request, &part))?;
    part.file.sync_all().map_err(|error| part.failed(&error))?;
    let archive = verify(&part.path, &pin)?;
    part.keep(file)?;
    let answer = Answer { file: file.to_owned(), archive };
    output.answer(&answer, || {
        let mut table = Table::default();
        table.fact("backup", answer.file.display());
        table.append(archive_table(&answer.archive));
        table
    })
}

async fn receive(mut daemon: Client, request: BackupRequest, part: &Part) -> Result<(), Failure> {
    let mut chunks = daemon.backup(request).await?.into_inner();
    while let Some(chunk) = chunks.message().await? {
        (&part.file).write_all(&chunk.data).map_err(|error| part.failed(&error))?;
    }
    Ok(())
}

fn refuse_existing(path: &Path) -> Result<(), Failure> {
    match path.symlink_metadata() {
        Ok(_) => Err(Failure::new(format!("{} exists already; a backup never replaces a file", path.display()))),
        Err(_) => Ok(()),
    }
}

/// The archive while it is being made; gone when dropped, unless it was kept.
struct Part {
    path: PathBuf,
    file: File,
}

impl Part {
    fn create(output: &Path) -> Result<Self, Failure> {
        let mut name = output.as_os_str().to_owned();
        name.push(format!(".part-{}", std::process::id()));
        let path = PathBuf::from(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| Failure::new(format!("{} cannot be made: {error}", path.display())))?;
        Ok(Part { path, file })
    }

    fn failed(&self, error: &std::io::Error) -> Failure {
        Failure::new(format!("{} cannot be written: {error}; no backup was made", self.path.display()))
    }

    /// Gives the archive its name. A hard link, unlike a rename, never replaces a file that appeared meanwhile; where
    /// the file system has none, the name is looked at once more.
    fn keep(self, output: &Path) -> Result<(), Failure> {
        let named = match std::fs::hard_link(&self.path, output) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return refuse_existing(output),
            Err(_) => refuse_existing(output).map(|()| std::fs::rename(&self.path, output))?,
            linked => linked,
        };
        named.map_err(|error| self.failed(&error))?;
        let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| self.failed(&error))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After a rename there is nothing to remove, and what cannot be removed is harmless: it is encrypted.
        std::fs::remove_file(&self.path).unwrap_or_default();
    }
}
