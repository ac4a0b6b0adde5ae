//! `backup`: one archive of the running token, verified before it gets its name.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use hsm_core::backup::{BackupPublicKey, Credential, Manifest, Share, new_shares, verify};
use hsm_proto::v1::backup_recipient::Whom;
use hsm_proto::v1::{BackupRecipient, BackupRequest, BackupShares};
use serde::Serialize;
use zeroize::Zeroizing;

use super::archive_table;
use crate::cli::Backup;
use crate::config::Settings;
use crate::connect::{Client, talk};
use crate::failure::Failure;
use crate::output::{Output, Table, write_new};
use crate::prompt;

#[derive(Serialize)]
struct Answer {
    file: PathBuf,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shares: Vec<PathBuf>,
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
    let (recipients, shares) = recipients(given)?;
    let request = BackupRequest { token: Some((&given.which).into()), so_pin: pin.expose().to_vec(), recipients };
    let part = Part::create(file)?;
    talk(settings, |daemon| receive(daemon, request, &part))?;
    part.file.sync_all().map_err(|error| part.failed(&error))?;
    let archive = verify(&part.path, &Credential::SoPin(pin))?;
    let shares = write_shares(&part.path, given, file, &shares)?;
    part.keep(file)?;
    let answer = Answer { file: file.to_owned(), shares, archive };
    output.answer(&answer, || {
        let mut table = Table::default();
        table.fact("backup", answer.file.display());
        for share in &answer.shares {
            table.fact("share", format!("{}: give it to its keeper and remove it here", share.display()));
        }
        table.append(archive_table(&answer.archive));
        table
    })
}

/// Who may open the archive beside the SO, and the shares to be handed out.
fn recipients(given: &Backup) -> Result<(Vec<BackupRecipient>, Vec<Share>), Failure> {
    let mut recipients = Vec::new();
    for file in &given.recipient {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::new(format!("{} cannot be read: {error}", file.display())))?;
        let key = BackupPublicKey::parse(&text)
            .map_err(|error| Failure::new(format!("{}: {}", file.display(), error.detail().unwrap_or_default())))?;
        recipients.push(Whom::PublicKey(key.as_bytes().to_vec()));
    }
    if let Some(place) = &given.passphrase {
        let phrase = prompt::new_pin("--passphrase", "passphrase", Some(place))?;
        recipients.push(Whom::Passphrase(phrase.expose().to_vec()));
    }
    let mut shares = Vec::new();
    if let Some((threshold, count)) = given.shares {
        let (key, made) = new_shares(threshold, count)?;
        let (set, key) = (made[0].set().name.to_vec(), key.expose().to_vec());
        recipients.push(Whom::Shares(BackupShares { set, threshold: threshold.into(), count: count.into(), key }));
        shares = made;
    }
    let recipients = recipients.into_iter().map(|whom| BackupRecipient { whom: Some(whom) });
    Ok((recipients.collect(), shares))
}

/// Writes the shares, after the archive was found to open with what the files hold.
fn write_shares(archive: &Path, given: &Backup, output: &Path, shares: &[Share]) -> Result<Vec<PathBuf>, Failure> {
    let mut base = output.to_owned();
    if let (Some(directory), Some(name)) = (&given.shares_directory, output.file_name()) {
        base = directory.join(name);
    }
    let mut files = Vec::new();
    for share in shares {
        let mut name = base.as_os_str().to_owned();
        name.push(format!(".share-{}", share.index()));
        let text = Zeroizing::new(format!("{}\n", share.to_text().as_str()));
        write_new(Path::new(&name), 0o600, text.as_bytes())?;
        files.push(PathBuf::from(name));
    }
    if !files.is_empty() {
        let read = files.iter().rev().map(|file| super::share(&format!("file:{}", file.display())));
        let quorum = shares.first().map_or(0, |share| usize::from(share.set().threshold));
        let read = read.take(quorum).collect::<Result<Vec<Share>, Failure>>()?;
        verify(archive, &Credential::Shares(read))?;
    }
    Ok(files)
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
