//! What the doctor looks at: files and their modes, disks, the running daemon, the newest backup and drill, certificates.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use der::{Decode, DecodePem};
use hsm_core::audit::Witness;
use hsm_core::audit::export::timestamp;
use hsm_core::config::Config;
use hsm_core::store_key::key_state;
use hsm_core::{Clock, SystemClock};
use hsm_proto::v1::{ListTokensRequest, StatusReply, StatusRequest, TokenSummary};
use rustix::fs::IFlags;
use x509_cert::Certificate;

use super::host::Host;
use super::volume::Volume;
use crate::cli::Doctor;
use crate::command::archives::{Found, MANIFEST, archives_in, is_to_come};
use crate::config::{DaemonTable, HardeningTable, Settings, ShimTable};
use crate::connect::talk;

/// Where the packaged timers put their archives.
const PACKAGED_BACKUPS: &str = "/var/lib/craton-backup";
/// A certificate file is a few kilobytes.
const CERTIFICATE_MAX: u64 = 1 << 20;
const HOUR: u64 = 3600;

/// A file or directory that is there.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    pub(super) owner: u32,
    pub(super) device: u64,
    /// Bytes that a user may still write on its file system, and the size of that.
    pub(super) room: Option<(u64, u64)>,
}

impl Place {
    fn look(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        let room = rustix::fs::statvfs(path).ok().map(|system| {
            (system.f_bavail.saturating_mul(system.f_frsize), system.f_blocks.saturating_mul(system.f_frsize))
        });
        Some(Place {
            path: path.to_owned(),
            mode: found.mode() & 0o7777,
            owner: found.uid(),
            device: found.dev(),
            room,
        })
    }
}

/// What a backup directory holds.
#[derive(Clone, Debug)]
pub(super) struct Backups {
    pub(super) place: Option<Place>,
    /// Why the directory cannot be read.
    pub(super) unread: Option<String>,
    /// Of this store; in hours.
    pub(super) newest_age: Option<u64>,
    /// When it was taken, in seconds since 1970.
    pub(super) newest_taken: Option<u64>,
    /// Whether configuration and journal lie beside it.
    pub(super) newest_is_bundle: bool,
    /// The newest drill's report, in days.
    pub(super) drill_age: Option<u64>,
    /// That report, if it says that the drill failed.
    pub(super) failed_drill: Option<PathBuf>,
    /// An archive that others than its owner may read.
    pub(super) exposed: Option<PathBuf>,
    /// How many archives there are.
    pub(super) count: usize,
    /// Tokens whose objects are other in number than the newest archive says: slot, here, there.
    pub(super) unsaved: Vec<(u64, u64, u64)>,
    /// A share or secret key that opens archives and lies among them.
    pub(super) opener: Option<PathBuf>,
    /// A file that looks like a PIN or a passphrase.
    pub(super) pin: Option<PathBuf>,
    /// Whether an archive is immutable or may only be added to; where the file system tells.
    pub(super) locked: Option<bool>,
    /// Where they lie.
    pub(super) volume: Volume,
}

/// All of it.
pub(super) struct Facts {
    pub(super) core: Config,
    pub(super) daemon: DaemonTable,
    pub(super) shim: ShimTable,
    pub(super) is_watched: bool,
    /// The running daemon's answer, or why there is none.
    pub(super) status: Result<StatusReply, String>,
    pub(super) tokens: Vec<TokenSummary>,
    pub(super) socket: Option<Place>,
    pub(super) config_file: Option<Place>,
    /// When it was last written, in seconds since 1970.
    pub(super) config_changed: Option<u64>,
    pub(super) store: Option<Place>,
    pub(super) store_key: Option<Place>,
    pub(super) journal: Option<Place>,
    pub(super) tls_key: Option<Place>,
    /// Days until the server's certificate ends; below zero when it has.
    pub(super) certificate_days: Option<i64>,
    /// `None`: no directory was named and the packaged one is not there.
    pub(super) backups: Option<Backups>,
    pub(super) has_swap: bool,
    pub(super) hardening: HardeningTable,
    /// The store key needs somebody, or something else, to open it.
    pub(super) is_key_sealed: bool,
    /// What restores have kept, and what operators have moved aside: it holds the keys of then.
    pub(super) old_stores: Vec<PathBuf>,
    pub(super) store_volume: Volume,
    /// The anchor, and witnesses that are files.
    pub(super) outside: Vec<Place>,
    pub(super) host: Host,
}

impl Facts {
    /// Looks at everything; what cannot be seen is absent.
    pub(super) fn gather(settings: &Settings, asked: &Doctor) -> Self {
        let answer = talk(settings, |mut daemon| async move {
            let status = daemon.status(StatusRequest {}).await?.into_inner();
            // A sealed daemon knows no tokens.
            let tokens = daemon.list_tokens(ListTokensRequest {}).await.map(|reply| reply.into_inner().tokens);
            Ok((status, tokens.unwrap_or_default()))
        });
        let (status, tokens) = match answer {
            Ok((status, tokens)) => (Ok(status), tokens),
            Err(failure) => (Err(failure.sentence().to_owned()), Vec::new()),
        };
        let core = settings.core.clone();
        let beside = |path: &Option<PathBuf>| path.as_ref().map(|path| settings.base.join(path));
        let key_file = core.store.key_file.clone().unwrap_or_else(|| core.store.path.join("store.key"));
        let directory = asked.backups.clone().or_else(|| {
            let packaged = PathBuf::from(PACKAGED_BACKUPS);
            packaged.is_dir().then_some(packaged)
        });
        Facts {
            is_watched: settings.metrics.bind.is_some(),
            socket: Place::look(&settings.socket),
            config_file: settings.source.as_deref().and_then(Place::look),
            config_changed: settings.source.as_deref().and_then(changed),
            store: Place::look(&core.store.path),
            store_key: Place::look(&key_file),
            journal: core.audit.log_path.parent().and_then(Place::look),
            tls_key: beside(&settings.daemon.tls_key).as_deref().and_then(Place::look),
            certificate_days: beside(&settings.daemon.tls_cert).as_deref().and_then(days_left),
            backups: directory.as_deref().map(|directory| look_at_backups(directory, &tokens)),
            hardening: settings.hardening.clone(),
            is_key_sealed: key_state(&core).is_ok_and(|state| state.sealed),
            old_stores: old_stores(&core.store.path),
            store_volume: Volume::of(&core.store.path),
            outside: outside(&core),
            host: Host::look(&settings.socket),
            has_swap: std::fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1),
            daemon: settings.daemon.clone(),
            shim: settings.shim.clone(),
            core,
            status,
            tokens,
        }
    }
}

/// What is to remember the journal elsewhere; a file that is not there yet, by its folder.
fn outside(core: &Config) -> Vec<Place> {
    let files = core.audit.witnesses.iter().filter_map(|witness| match witness {
        Witness::File(path) => Some(path),
        Witness::Syslog(_) | Witness::Daemon(_) => None,
    });
    let places = core.audit.anchor.iter().chain(files);
    places.filter_map(|path| Place::look(path).or_else(|| Place::look(path.parent()?))).collect()
}

/// Directories beside the store that bear its name and more.
fn old_stores(store: &Path) -> Vec<PathBuf> {
    let begins = |name: &OsStr| {
        let known = store.file_name().unwrap_or_default().as_bytes();
        name.as_bytes().strip_prefix(known).is_some_and(|rest| rest.starts_with(b"."))
    };
    let beside = store.parent().and_then(|folder| folder.read_dir().ok()).into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<PathBuf> =
        beside.filter(|entry| begins(&entry.file_name()) && entry.path().is_dir()).map(|entry| entry.path()).collect();
    found.sort();
    found
}

fn look_at_backups(directory: &Path, tokens: &[TokenSummary]) -> Backups {
    let (mut found, unread) = match archives_in(directory) {
        Ok(found) => (found, None),
        Err(failure) => (Vec::new(), Some(failure.sentence().to_owned())),
    };
    let line_of = |found: &Found, token: &TokenSummary| {
        let mut lines = found.archive.tokens.iter();
        lines.find(|line| line.serial == token.serial).map(|line| line.objects)
    };
    // Those of the tokens here; where nobody says which these are, of all tokens.
    let is_here = |found: &Found| tokens.is_empty() || tokens.iter().any(|token| line_of(found, token).is_some());
    found.retain(|found| found.archive.files.is_none() && is_here(found));
    let nanos = SystemClock.now_unix_nanos();
    let age = |created: u64| (nanos / 1_000_000_000).saturating_sub(created / 1_000_000_000) / HOUR;
    let newest = found.iter().find(|found| !is_to_come(&found.archive, nanos));
    let other = |token: &TokenSummary| {
        let saved = line_of(newest?, token)?;
        (saved != token.objects).then_some((token.slot, token.objects, saved))
    };
    let drill = newest_drill(directory);
    let exposed = found.iter().find(|found| Place::look(&found.file).is_some_and(|place| place.mode & 0o077 != 0));
    Backups {
        place: Place::look(directory),
        unread,
        newest_age: newest.map(|found| age(found.archive.created)),
        newest_taken: newest.map(|found| found.archive.created / 1_000_000_000),
        newest_is_bundle: newest.is_some_and(|found| found.bundle.is_some()),
        drill_age: drill.as_ref().map(|(age, _)| age.as_secs() / HOUR / 24),
        failed_drill: drill.map(|(_, report)| report).filter(|report| has_failed(report)),
        exposed: exposed.map(|found| found.file.clone()),
        count: found.len(),
        unsaved: tokens.iter().filter_map(other).collect(),
        opener: opener_in(directory),
        pin: pin_in(directory),
        locked: locked(&found),
        volume: Volume::of(directory),
    }
}

/// Whether any of them is kept from being deleted or changed. Nobody knows where the file system has no such flags.
fn locked(found: &[Found]) -> Option<bool> {
    let flags = |found: &Found| rustix::fs::ioctl_getflags(std::fs::File::open(&found.file).ok()?).ok();
    let mut known = found.iter().filter_map(flags).peekable();
    known.peek()?;
    Some(known.any(|flags| flags.intersects(IFlags::IMMUTABLE | IFlags::APPEND)))
}

/// A short file of one line with such a name.
fn pin_in(directory: &Path) -> Option<PathBuf> {
    const WORDS: [&str; 3] = ["pin", "pass", "secret"];
    const LONGEST: u64 = 300;
    let looks = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let is_short = path.metadata().is_ok_and(|found| found.is_file() && (4..LONGEST).contains(&found.len()));
        let is_line = || std::fs::read_to_string(path).is_ok_and(|text| text.trim_end().lines().count() == 1);
        WORDS.iter().any(|word| name.contains(word)) && is_short && is_line()
    };
    directory.read_dir().ok()?.filter_map(Result::ok).map(|entry| entry.path()).find(looks)
}

/// What begins as a share or a secret key for backups does.
fn opener_in(directory: &Path) -> Option<PathBuf> {
    const WORDS: [&[u8]; 2] = [b"craton-share-1 ", b"craton-backup-secret-key-1 "];
    let opens = |path: &PathBuf| {
        let mut first = Vec::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(32).read_to_end(&mut first));
        read.is_ok() && WORDS.iter().any(|word| first.starts_with(word))
    };
    let mut files = directory.read_dir().ok()?.filter_map(Result::ok).map(|entry| entry.path());
    files.find(|path| path.is_file() && opens(path))
}

/// When a file was last written, in seconds since 1970.
fn changed(path: &Path) -> Option<u64> {
    let written = path.metadata().ok()?.modified().ok()?;
    written.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// The newest report of a drill in the directory or in its `drills`, and how long ago it was written. The manifests of bundles are JSON,
/// too. What was written while the clock was ahead is not the newest for ever.
fn newest_drill(directory: &Path) -> Option<(Duration, PathBuf)> {
    let reports =
        [directory.to_owned(), directory.join("drills")].into_iter().filter_map(|folder| folder.read_dir().ok());
    let written = reports.flatten().filter_map(Result::ok).filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_report = name.ends_with(".json") && !name.ends_with(MANIFEST);
        Some((entry.metadata().ok().filter(|_| is_report)?.modified().ok()?, entry.path()))
    });
    let now = SystemTime::now();
    written.filter_map(|(written, report)| Some((now.duration_since(written).ok()?, report))).min()
}

/// Whether a report says so.
fn has_failed(report: &Path) -> bool {
    let text = std::fs::read(report).unwrap_or_default();
    serde_json::from_slice(&text).is_ok_and(|report: serde_json::Value| report["passed"] == false)
}

/// Days until a PEM or DER certificate ends.
fn days_left(file: &Path) -> Option<i64> {
    let mut bytes = Vec::new();
    std::fs::File::open(file).ok()?.take(CERTIFICATE_MAX).read_to_end(&mut bytes).ok()?;
    let certificate = Certificate::from_pem(first_block(&bytes)).or_else(|_| Certificate::from_der(&bytes)).ok()?;
    let end = certificate.tbs_certificate().validity().not_after.to_unix_duration().as_secs();
    let now = SystemClock.now_unix_nanos() / 1_000_000_000;
    let (end, now) = (i64::try_from(end).ok()?, i64::try_from(now).ok()?);
    Some((end - now).div_euclid(24 * 3600))
}

/// A chain's file holds several certificates; the first is the server's.
fn first_block(bytes: &[u8]) -> &[u8] {
    const END: &[u8] = b"-----END CERTIFICATE-----";
    let end = bytes.windows(END.len()).position(|window| window == END);
    end.map_or(bytes, |at| &bytes[..at + END.len()])
}

/// When the daemon started, for people.
pub(super) fn started(status: &StatusReply) -> String {
    timestamp(status.started_unix_seconds.saturating_mul(1_000_000_000))
}
