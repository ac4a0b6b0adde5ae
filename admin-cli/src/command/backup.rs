//! `backup`: one archive of the running token, verified before it gets its name.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use hsm_core::audit::{Witness, closed_files, head_path};
use hsm_core::backup::{BackupPublicKey, Credential, FileLine, Manifest, Share, new_shares, verify, write_files};
use hsm_proto::v1::backup_recipient::Whom;
use hsm_proto::v1::{BackupRecipient, BackupRequest, BackupShares};
use serde::Serialize;
use zeroize::Zeroizing;

use super::archive_table;
use super::archives::{self, FILES, MANIFEST, beside};
use crate::cli::Backup;
use crate::config::Settings;
use crate::connect::{Client, talk_sealed};
use crate::failure::Failure;
use crate::output::{Output, Table, write_new};
use crate::prompt;

#[derive(Serialize)]
struct Answer {
    file: PathBuf,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shares: Vec<PathBuf>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bundle: Vec<PathBuf>,
    #[serde(flatten)]
    archive: Manifest,
}

/// Takes the backup.
pub(crate) fn run(settings: &Settings, given: &Backup, output: &Output) -> Result<(), Failure> {
    if let Some(archives) = &given.archives {
        return archives::run(archives, output);
    }
    let file = given.output.as_deref().ok_or_else(|| Failure::new("--output is missing"))?;
    refuse_existing(file)?;
    let pin = prompt::pin("--pin", "SO PIN", given.pin.as_deref())?;
    let (recipients, shares) = recipients(given)?;
    let request =
        BackupRequest { token: Some((&given.which).into()), so_pin: pin.expose().to_vec(), recipients, sealed: None };
    let part = Part::create(file)?;
    talk_sealed(settings, request, |daemon, sealed| receive(daemon, sealed, &part))?;
    part.file.sync_all().map_err(|error| part.failed(&error))?;
    let credential = Credential::SoPin(pin);
    let archive = verify(&part.path, &credential)?;
    let bundle = given.bundle.then(|| Bundle::make(settings, given, file, (&part.path, &archive), &credential));
    let bundle = bundle.transpose()?;
    let shares = write_shares(&part.path, given, file, &shares)?;
    hsm_core::failpoint!("backup.name.before");
    part.keep(file)?;
    let bundle = bundle.map(|bundle| bundle.keep(file, &archive)).transpose()?.unwrap_or_default();
    let answer = Answer { file: file.to_owned(), shares, bundle, archive };
    output.answer(&answer, || {
        let mut table = Table::default();
        table.fact("backup", answer.file.display());
        for file in &answer.bundle {
            table.fact("with", file.display());
        }
        for share in &answer.shares {
            table.fact("share", format!("{}: give it to its keeper and remove it here", share.display()));
        }
        table.append(archive_table(&answer.archive));
        table
    })
}

/// The files beside the archive, made and verified, without their name yet.
struct Bundle {
    part: Part,
    lines: Vec<FileLine>,
    sealed: Manifest,
}

/// For people and for whoever stores the bundle: what there is, without a secret.
#[derive(Serialize)]
struct BundleManifest<'a> {
    created: u64,
    host: String,
    program: &'a str,
    store: &'a str,
    generation: u64,
    archive: Sum<'a>,
    files: Sum<'a>,
    contents: &'a [FileLine],
}

#[derive(Serialize)]
struct Sum<'a> {
    name: String,
    bytes: u64,
    sha256: &'a str,
}

impl Bundle {
    fn make(
        settings: &Settings,
        given: &Backup,
        output: &Path,
        (archive, manifest): (&Path, &Manifest),
        credential: &Credential,
    ) -> Result<Self, Failure> {
        let output = beside(output, FILES);
        refuse_existing(&output)?;
        let part = Part::create(&output)?;
        let mut redacted = Vec::new();
        let mut files = bundled(settings, &given.with)?;
        if let Some(path) = &settings.source {
            files.push(("craton_hsm.toml".to_owned(), configuration(path, &output, &mut redacted)?));
        }
        let image = given.pki.as_deref().map(|config| PkiImage::take(config, &output)).transpose()?;
        if let (Some(config), Some(image)) = (&given.pki, &image) {
            files.push(("pki/craton_pki.toml".to_owned(), configuration(config, &output, &mut redacted)?));
            files.push(("pki/store.image".to_owned(), image.0.0.clone()));
        }
        let mut out = std::io::BufWriter::new(&part.file);
        // The archive's own time: the two belong together.
        let lines = write_files(archive, credential, manifest.created, &files, &mut out)?;
        out.flush().map_err(|error| part.failed(&error))?;
        drop(out);
        part.file.sync_all().map_err(|error| part.failed(&error))?;
        let sealed = verify(&part.path, credential)?;
        Ok(Bundle { part, lines, sealed })
    }

    fn keep(self, output: &Path, archive: &Manifest) -> Result<Vec<PathBuf>, Failure> {
        let (files, manifest) = (beside(output, FILES), beside(output, MANIFEST));
        self.part.keep(&files)?;
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let written = BundleManifest {
            created: archive.created,
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            program: &archive.program,
            store: &archive.store,
            generation: archive.generation,
            archive: Sum { name: name(output), bytes: archive.bytes, sha256: &archive.sha256 },
            files: Sum { name: name(&files), bytes: self.sealed.bytes, sha256: &self.sealed.sha256 },
            contents: &self.lines,
        };
        let json = serde_json::to_string_pretty(&written).map_err(|error| Failure::new(error.to_string()))?;
        write_new(&manifest, 0o600, format!("{json}\n").as_bytes())?;
        Ok(vec![files, manifest])
    }
}

/// The configuration as it may travel: its own file, or a copy beside the bundle without its secrets.
fn configuration(path: &Path, output: &Path, copies: &mut Vec<Passing>) -> Result<PathBuf, Failure> {
    let said = |why: &dyn core::fmt::Display| Failure::new(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| said(&error))?;
    let Some(clean) = super::redact::redacted(&text).map_err(|failure| said(&failure.sentence()))? else {
        return Ok(path.to_owned());
    };
    let copy = beside(output, &format!(".config-{}-{}", copies.len(), std::process::id()));
    write_new(&copy, 0o600, clean.as_bytes())?;
    copies.push(Passing(copy.clone()));
    Ok(copy)
}

/// A file on its way into the bundle; gone when dropped.
struct Passing(PathBuf);

impl Drop for Passing {
    fn drop(&mut self) {
        // What cannot be removed is seen beside the bundle.
        std::fs::remove_file(&self.0).unwrap_or_default();
    }
}

/// The image of a PKI's store while it is on its way into the bundle.
struct PkiImage(Passing);

impl PkiImage {
    /// Has craton-pki write it, from one moment of the store, beside the bundle. It holds no key: those are in the token.
    fn take(config: &Path, beside_this: &Path) -> Result<Self, Failure> {
        let image = PkiImage(Passing(beside(beside_this, &format!(".pki-{}", std::process::id()))));
        let program = std::env::current_exe().map(|own| own.with_file_name("craton-pki")).unwrap_or_default();
        // Beside this program, else where the system looks.
        let program = if program.is_file() { program } else { PathBuf::from("craton-pki") };
        let mut command = std::process::Command::new(&program);
        command.arg("--config").arg(config).args(["backup", "--plain", "--output"]).arg(&image.0.0);
        let done = command
            .stdin(std::process::Stdio::null())
            .output()
            .map_err(|error| Failure::new(format!("{} cannot be run: {error}", program.display())))?;
        match done.status.success() {
            true => Ok(image),
            false => {
                let said = String::from_utf8_lossy(&done.stderr);
                Err(Failure::new(format!("the PKI gave no backup: {}", said.lines().last().unwrap_or_default())))
            }
        }
    }
}

/// TLS material, journal, what was noted of it elsewhere, and what the operator adds; by their names in the bundle.
fn bundled(settings: &Settings, more: &[PathBuf]) -> Result<Vec<(String, PathBuf)>, Failure> {
    let mut files = Vec::new();
    let daemon = &settings.daemon;
    let tls = [&daemon.tls_cert, &daemon.tls_key, &daemon.tls_client_ca, &daemon.tls_client_crl];
    for path in tls.into_iter().flatten().map(|path| settings.base.join(path)) {
        files.push((format!("tls/{}", leaf(&path)), path));
    }
    let journal = &settings.core.audit.log_path;
    let closed = closed_files(journal).into_iter().map(|(_, path)| path);
    for path in closed.chain([journal.clone(), head_path(journal)]).filter(|path| path.is_file()) {
        files.push((format!("journal/{}", leaf(&path)), path));
    }
    let witnesses = settings.core.audit.witnesses.iter().filter_map(|witness| match witness {
        Witness::File(path) => Some(path),
        Witness::Syslog(_) | Witness::Daemon(_) => None,
    });
    for (number, path) in settings.core.audit.anchor.iter().chain(witnesses).filter(|path| path.is_file()).enumerate() {
        files.push((format!("anchors/{number}-{}", leaf(path)), path.clone()));
    }
    for path in more {
        add_tree(&format!("with/{}", leaf(path)), path, &mut files)?;
    }
    Ok(files)
}

fn leaf(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A file, or all files below a directory. What another process keeps locked is in use, and a copy of it would be torn.
fn add_tree(name: &str, path: &Path, files: &mut Vec<(String, PathBuf)>) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| Failure::new(format!("{} cannot be read: {error}", path.display()));
    let metadata = path.symlink_metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        let mut inside =
            std::fs::read_dir(path).map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
        inside.sort_by_key(std::fs::DirEntry::file_name);
        return inside
            .into_iter()
            .try_for_each(|entry| add_tree(&format!("{name}/{}", leaf(&entry.path())), &entry.path(), files));
    }
    if !metadata.is_file() {
        return Ok(());
    }
    let file = File::open(path).map_err(unreadable)?;
    if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared).is_err() {
        let sentence = "is in use: stop its program first, a copy of a running store is torn";
        return Err(Failure::new(format!("{} {sentence}", path.display())));
    }
    files.push((name.to_owned(), path.to_owned()));
    Ok(())
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
