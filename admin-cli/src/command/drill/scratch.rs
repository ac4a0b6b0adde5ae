//! The drill's own place: a private directory with a configuration, a restored store and a daemon, wiped when it is dropped.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hsm_proto::v1::StatusRequest;

use crate::config::Settings;
use crate::connect::talk;
use crate::failure::Failure;

/// How long the daemon may take until it answers.
const START: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The directory, and the daemon if it was started.
pub(super) struct Scratch {
    directory: PathBuf,
    pub(super) settings: Settings,
    daemon: Option<Child>,
}

impl Scratch {
    /// A new directory below `base` with a configuration for `slots` slots.
    pub(super) fn create(base: &Path, slots: u64) -> Result<Self, Failure> {
        let directory = base.join(format!("craton-drill-{}-{}", std::process::id(), nonce()));
        let failed = |error: std::io::Error| Failure::new(format!("{} cannot be made: {error}", directory.display()));
        DirBuilder::new().mode(0o700).create(&directory).map_err(failed)?;
        let config = directory.join("craton_hsm.toml");
        let text = format!(
            "[token]\nstorage_path = \"store\"\nslot_count = {slots}\n[daemon]\nallow_root = true\nbind_unix = \"hsm.sock\"\n[audit]\nlog_path = \
             \"audit.jsonl\"\n"
        );
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&config);
        written.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)?;
        let settings = Settings::load(Some(&config))?;
        Ok(Scratch { directory, settings, daemon: None })
    }

    /// A place in it.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Starts the daemon and waits until it answers.
    pub(super) fn start(&mut self, program: &Path) -> Result<(), Failure> {
        let log = self.directory.join("daemon.log");
        let failed = |error: std::io::Error| Failure::new(format!("{} cannot be started: {error}", program.display()));
        let out = File::create(&log).map_err(failed)?;
        let child = Command::new(program)
            .arg("--config")
            .arg(self.directory.join("craton_hsm.toml"))
            .env_remove("CRATON_HSM_CONFIG")
            .env_remove("CREDENTIALS_DIRECTORY")
            .env_remove("NOTIFY_SOCKET")
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(out.try_clone().map_err(failed)?)
            .stderr(out)
            .spawn()
            .map_err(failed)?;
        let daemon = self.daemon.insert(child);
        let begun = Instant::now();
        loop {
            if let Ok(Some(status)) = daemon.try_wait() {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                let last = text.lines().last().unwrap_or("it said nothing");
                return Err(Failure::new(format!("the drill's daemon ended with {status}: {last}")));
            }
            let asked =
                talk(
                    &self.settings,
                    |mut daemon| async move { Ok(daemon.status(StatusRequest {}).await?.into_inner()) },
                );
            match asked {
                Ok(status) if status.sealed => return Err(Failure::new("the restored store is sealed")),
                Ok(_) => return Ok(()),
                Err(_) if begun.elapsed() < START => std::thread::sleep(LOOK_AGAIN),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Ends the daemon, overwrites what was secret, and removes the directory.
    pub(super) fn destroy(mut self) -> Result<(), Failure> {
        self.wipe().map_err(|error| {
            Failure::new(format!("{} could not be removed: {error}; remove it by hand", self.directory.display()))
        })
    }

    fn wipe(&mut self) -> std::io::Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill()?;
            daemon.wait()?;
        }
        if !self.directory.exists() {
            return Ok(());
        }
        overwrite_all(&self.directory)?;
        std::fs::remove_dir_all(&self.directory)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = self.wipe() {
            crate::output::warn(&format!("{} could not be removed: {error}", self.directory.display()));
        }
    }
}

fn overwrite_all(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        match path.symlink_metadata()?.is_dir() {
            true => overwrite_all(&path)?,
            false => overwrite(&path)?,
        }
    }
    Ok(())
}

fn overwrite(path: &Path) -> std::io::Result<()> {
    let metadata = path.symlink_metadata()?;
    if !metadata.is_file() {
        return Ok(());
    }
    let mut file = OpenOptions::new().write(true).open(path)?;
    let zeros = vec![0; 1 << 16];
    let mut left = metadata.len();
    while left > 0 {
        let now = left.min(zeros.len() as u64);
        file.write_all(&zeros[..usize::try_from(now).unwrap_or(zeros.len())])?;
        left -= now;
    }
    file.sync_all()
}

fn nonce() -> u128 {
    std::time::UNIX_EPOCH.elapsed().map(|since| since.as_nanos()).unwrap_or_default()
}
