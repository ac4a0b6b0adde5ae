//! `backup list`, `inspect`, `verify`, `prune` and `status`: archives as files, without the daemon.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use hsm_core::audit::export::timestamp;
use hsm_core::backup::{BackupSecretKey, Credential, Manifest, extract, inspect, looks_like_archive, verify};
use hsm_core::{Clock, SystemClock};
use serde::{Deserialize, Serialize};

use super::{archive_table, credential};
use crate::cli::{Archives, Opening};
use crate::failure::Failure;
use crate::output::{Output, Table, warn, write_new};

const HOUR_NANOS: u64 = 3_600_000_000_000;

/// What stands beside an archive: its files, and the manifest of both.
pub(super) const FILES: &str = ".files";
pub(crate) const MANIFEST: &str = ".manifest.json";

/// An archive's name with something after it.
pub(super) fn beside(archive: &Path, suffix: &str) -> PathBuf {
    [archive.as_os_str(), suffix.as_ref()].into_iter().collect::<OsString>().into()
}

/// An archive and where it lies.
#[derive(Clone, Serialize)]
pub(super) struct Found {
    pub(super) file: PathBuf,
    /// How many files are in the archive beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bundle: Option<u64>,
    #[serde(flatten)]
    pub(super) archive: Manifest,
}

/// Does what is asked of archives that exist.
pub(crate) fn run(asked: &Archives, output: &Output) -> Result<(), Failure> {
    match asked {
        Archives::List { directory, at } => list(directory, at.as_deref(), output),
        Archives::Inspect { file } => {
            let archive = inspect(file)?;
            shown(file, files_beside(file, &archive, None)?, archive, output)
        }
        Archives::Keygen { output: file } => keygen(file, output),
        Archives::Verify { file, opening } => {
            let credential = credential(opening)?;
            let archive = verify(file, &credential)?;
            shown(file, files_beside(file, &archive, Some(&credential))?, archive, output)
        }
        Archives::Extract { file, directory, opening } => extracted(file, directory, opening, output),
        Archives::Prune { directory, keep, days, daily, dry_run } => {
            prune(directory, &Keep { newest: *keep, days: *days, daily: *daily }, *dry_run, output)
        }
        Archives::Status { directory, max_age, store } => status(directory, *max_age, store.as_deref(), output),
    }
}

#[derive(Serialize)]
struct NewKey {
    name: String,
    public_key: PathBuf,
    secret_key: PathBuf,
}

fn keygen(file: &Path, output: &Output) -> Result<(), Failure> {
    let secret = BackupSecretKey::generate()?;
    let public = PathBuf::from([file.as_os_str(), OsStr::new(".pub")].into_iter().collect::<OsString>());
    write_new(file, 0o600, secret.to_text()?.as_bytes())?;
    write_new(&public, 0o644, secret.public().to_text().as_bytes())?;
    let made = NewKey { name: secret.public().name(), public_key: public, secret_key: file.to_owned() };
    output.answer(&made, || {
        let mut table = Table::default();
        table.fact("key", &made.name);
        table.fact("public key", format!("{}: for backup --recipient", made.public_key.display()));
        table.fact("secret key", format!("{}: for restore --secret-key; keep it elsewhere", made.secret_key.display()));
        table
    })
}

fn extracted(file: &Path, directory: &Path, opening: &Opening, output: &Output) -> Result<(), Failure> {
    let files = extract(file, &credential(opening)?, directory)?;
    output.answer(&files, || {
        let mut table = Table::new(&["FILE", "BYTES", "SHA256"]);
        for line in &files {
            table.row([line.name.clone(), line.bytes.to_string(), line.sha256.clone()]);
        }
        table
    })
}

fn shown(file: &Path, bundle: Option<u64>, archive: Manifest, output: &Output) -> Result<(), Failure> {
    let found = Found { file: file.to_owned(), bundle, archive };
    output.answer(&found, || {
        let mut table = Table::default();
        table.fact("archive", found.file.display());
        if let Some(files) = found.bundle {
            table.fact("beside it", format!("{files} files, of the same moment"));
        }
        table.append(archive_table(&found.archive));
        table
    })
}

/// What `backup --bundle` notes beside an archive, as far as it is compared.
#[derive(Deserialize)]
struct Noted {
    archive: NotedSum,
    files: NotedSum,
}

#[derive(Deserialize)]
struct NotedSum {
    sha256: String,
}

/// How many files are in the archive beside this one, after both were found to belong together and, with a credential, all of it was
/// verified. Nothing where there is none.
pub(super) fn files_beside(
    file: &Path,
    archive: &Manifest,
    credential: Option<&Credential>,
) -> Result<Option<u64>, Failure> {
    let (files, manifest) = (beside(file, FILES), beside(file, MANIFEST));
    if archive.files.is_some() || !files.exists() {
        return Ok(None);
    }
    let sealed = match credential {
        Some(credential) => verify(&files, credential)?,
        None => inspect(&files)?,
    };
    let wrong = |what: &str| Failure::new(format!("{}: {what}", files.display()));
    if (sealed.created, &sealed.store) != (archive.created, &archive.store) {
        return Err(wrong("it belongs to another archive"));
    }
    if manifest.exists() {
        let text = std::fs::read(&manifest).map_err(|error| wrong(&format!("its manifest cannot be read: {error}")))?;
        let noted: Noted =
            serde_json::from_slice(&text).map_err(|error| wrong(&format!("its manifest is damaged: {error}")))?;
        if (&noted.archive.sha256, &noted.files.sha256) != (&archive.sha256, &sealed.sha256) {
            return Err(wrong("the check sums of the manifest beside it are others"));
        }
    }
    Ok(sealed.files)
}

/// The archives of a directory, newest first. Other files are passed over; a damaged archive is warned about.
pub(super) fn archives_in(directory: &Path) -> Result<Vec<Found>, Failure> {
    let unreadable = |error: std::io::Error| Failure::new(format!("{} cannot be read: {error}", directory.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if !looks_like_archive(&file) {
            continue;
        }
        match inspect(&file) {
            // What belongs beside an archive is not one to restore from. The backup of a PKI's store is files, too, and stands alone.
            Ok(archive) if archive.files.is_some() && file.as_os_str().as_bytes().ends_with(FILES.as_bytes()) => {}
            Ok(archive) => {
                let bundle = files_beside(&file, &archive, None).unwrap_or_else(|failure| {
                    warn(failure.sentence());
                    None
                });
                found.push(Found { file, bundle, archive });
            }
            Err(error) => warn(&format!("{}: {}", file.display(), error.detail().unwrap_or("not readable"))),
        }
    }
    found.sort_by_key(|found| std::cmp::Reverse(found.archive.created));
    Ok(found)
}

fn list(directory: &Path, at: Option<&str>, output: &Output) -> Result<(), Failure> {
    let mut found = archives_in(directory)?;
    if let Some(at) = at {
        // The texts of times are ordered as the times are; one that is cut short means all of its day or minute.
        let until = format!("{at}~");
        found.retain(|found| timestamp(found.archive.created) <= until);
        found.truncate(1);
    }
    output.answer(&found, || {
        let mut table = Table::new(&["FILE", "TAKEN", "GENERATION", "RECORDS", "BYTES", "BUNDLE", "STORE"]);
        for Found { file, bundle, archive } in &found {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            table.row([
                name,
                timestamp(archive.created),
                archive.generation.to_string(),
                archive.records.to_string(),
                archive.bytes.to_string(),
                bundle.map_or_else(|| "-".to_owned(), |files| format!("{files} files")),
                archive.store.clone(),
            ]);
        }
        table
    })
}

#[derive(Serialize)]
struct Pruned {
    kept: Vec<PathBuf>,
    removed: Vec<PathBuf>,
    dry_run: bool,
}

/// What is not removed, of each store: beside these the first of the current quarter.
struct Keep {
    /// So many of the newest.
    newest: u32,
    /// All that are younger than so many days.
    days: u64,
    /// Of each of the last so many days the newest.
    daily: u64,
}

fn prune(directory: &Path, keep: &Keep, dry_run: bool, output: &Output) -> Result<(), Failure> {
    let now = SystemClock.now_unix_nanos();
    let mut stores: BTreeMap<String, Vec<Found>> = BTreeMap::new();
    for found in archives_in(directory)? {
        stores.entry(found.archive.store.clone()).or_default().push(found);
    }
    let mut pruned = Pruned { kept: Vec::new(), removed: Vec::new(), dry_run };
    for archives in stores.into_values() {
        let (kept, removed) = divided(&archives, keep, now);
        pruned.kept.extend(kept);
        pruned.removed.extend(removed);
    }
    if !dry_run {
        for file in &pruned.removed {
            std::fs::remove_file(file)
                .map_err(|error| Failure::new(format!("{} cannot be removed: {error}", file.display())))?;
            for suffix in [FILES, MANIFEST] {
                // Not every archive is a bundle.
                std::fs::remove_file(beside(file, suffix)).unwrap_or_default();
            }
        }
    }
    output.answer(&pruned, || {
        let mut table = Table::default();
        for file in &pruned.kept {
            table.fact("kept", file.display());
        }
        for file in &pruned.removed {
            table.fact(if dry_run { "would go" } else { "removed" }, file.display());
        }
        table
    })
}

/// Whether an archive names a moment that has not come: it was taken while the clock was ahead, and nobody knows how old it is. It is
/// the newest of its store for ever, so it is not taken for that.
pub(super) fn is_to_come(archive: &Manifest, now: u64) -> bool {
    archive.created > now.saturating_add(HOUR_NANOS)
}

/// Of one store's archives, newest first: those to keep and those to remove. What nobody knows the age of is kept beside them.
fn divided(archives: &[Found], keep: &Keep, now: u64) -> (Vec<PathBuf>, Vec<PathBuf>) {
    const DAY_NANOS: u64 = 24 * HOUR_NANOS;
    let (unknown, archives) = archives.split_at(archives.partition_point(|found| is_to_come(&found.archive, now)));
    let quarter = quarter_of(now);
    let first_of_quarter = archives.iter().rposition(|found| quarter_of(found.archive.created) == quarter);
    let newest = usize::try_from(keep.newest).unwrap_or(usize::MAX);
    let day = |at: usize| archives[at].archive.created / DAY_NANOS;
    let is_within = |at: usize, days: u64| {
        days > 0 && archives[at].archive.created > now.saturating_sub(days.saturating_mul(DAY_NANOS))
    };
    let is_last_of_its_day = |at: usize| at == 0 || day(at - 1) != day(at);
    let is_kept = |at: usize| {
        at < newest
            || Some(at) == first_of_quarter
            || is_within(at, keep.days)
            || (is_within(at, keep.daily) && is_last_of_its_day(at))
    };
    let of = |kept: bool| {
        let chosen = archives.iter().enumerate().filter(|(at, _)| is_kept(*at) == kept);
        chosen.map(|(_, found)| found.file.clone()).collect::<Vec<_>>()
    };
    let unknown = unknown.iter().map(|found| found.file.clone());
    (unknown.chain(of(true)).collect(), of(false))
}

/// Year and quarter of a time in nanoseconds since the Unix epoch, from its RFC 3339 text.
fn quarter_of(nanos: u64) -> (u64, u64) {
    let text = timestamp(nanos);
    let number = |from: usize, to: usize| text.get(from..to).and_then(|digits| digits.parse().ok()).unwrap_or(0_u64);
    (number(0, 4), number(5, 7).saturating_sub(1) / 3)
}

/// How old the newest archive of one store is.
#[derive(Clone, Serialize)]
struct Freshness {
    store: String,
    newest: PathBuf,
    age_hours: u64,
    state: &'static str,
}

/// All stores, and what is to be told of them: the state of the one that is worst off.
#[derive(Serialize)]
struct Shelf {
    newest: Option<PathBuf>,
    age_hours: Option<u64>,
    max_age_hours: u64,
    state: &'static str,
    stores: Vec<Freshness>,
}

fn state_of(age: u64, max_age: u64) -> &'static str {
    match age {
        age if age < max_age => "ok",
        age if age < max_age.saturating_mul(2) => "warning",
        _ => "critical",
    }
}

/// The newest archive of each store, the oldest of them first. `archives` are the newest first. One whose moment has not come counts only
/// where there is no other, and is critical.
fn freshness(archives: &[Found], max_age: u64, now: u64) -> Vec<Freshness> {
    let mut stores: Vec<Freshness> = Vec::new();
    let (unknown, known) = archives.split_at(archives.partition_point(|found| is_to_come(&found.archive, now)));
    for Found { file, archive, .. } in known.iter().chain(unknown) {
        if stores.iter().any(|known| known.store == archive.store) {
            continue;
        }
        let age_hours = now.saturating_sub(archive.created) / HOUR_NANOS;
        let state = if is_to_come(archive, now) { "critical" } else { state_of(age_hours, max_age) };
        stores.push(Freshness { store: archive.store.clone(), newest: file.clone(), age_hours, state });
    }
    stores.reverse();
    stores
}

/// For monitors, which know what is critical by the exit status: so is a directory that cannot be judged.
fn status(directory: &Path, max_age: u64, store: Option<&str>, output: &Output) -> Result<(), Failure> {
    let mut found = archives_in(directory).map_err(|failure| Failure::critical(failure.sentence()))?;
    found.retain(|found| store.is_none_or(|store| found.archive.store.starts_with(store)));
    let stores = freshness(&found, max_age, SystemClock.now_unix_nanos());
    let worst = stores.first().cloned();
    let shelf = Shelf {
        newest: worst.as_ref().map(|worst| worst.newest.clone()),
        age_hours: worst.as_ref().map(|worst| worst.age_hours),
        max_age_hours: max_age,
        state: worst.as_ref().map_or("critical", |worst| worst.state),
        stores,
    };
    output.answer(&shelf, || {
        let mut table = Table::default();
        table.fact("backups", shelf.state);
        for Freshness { store, newest, age_hours, state } in &shelf.stores {
            table.fact("newest", format!("{}, {age_hours} hours old, of store {store}: {state}", newest.display()));
        }
        table
    })?;
    let told = match &worst {
        Some(Freshness { store, newest, age_hours, .. }) if *age_hours < max_age => {
            let newest = newest.display();
            format!("{newest}, the only backup of store {store}, names a moment that has not come: take another")
        }
        Some(Freshness { store, age_hours, .. }) => {
            let place = directory.display();
            format!("the newest backup of store {store} in {place} is {age_hours} hours old, over {max_age}")
        }
        None => format!(
            "there is no backup in {}: take one with craton-hsm-admin backup, and see that the timer runs",
            directory.display()
        ),
    };
    match shelf.state {
        "ok" => Ok(()),
        "warning" => Err(Failure::new(told)),
        _ => Err(Failure::critical(told)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 22 November 2026, in the fourth quarter.
    const NOW: u64 = 1_795_305_600_000_000_000;
    const DAY: u64 = 24 * HOUR_NANOS;

    fn archives(ages_in_days: &[u64]) -> Vec<Found> {
        let found = ages_in_days.iter().map(|age| Found {
            file: PathBuf::from(format!("{age}")),
            bundle: None,
            archive: Manifest {
                bytes: 0,
                sha256: String::new(),
                format: 1,
                program: String::new(),
                created: NOW - age * DAY,
                store: String::new(),
                generation: 0,
                records: 0,
                audit_seq: 0,
                audit_head: String::new(),
                audit_first_key: None,
                files: None,
                opened_by: Vec::new(),
                tokens: Vec::new(),
            },
        });
        found.collect()
    }

    #[test]
    fn the_newest_and_the_first_of_the_quarter_are_kept() {
        type Row<'a> = (&'a [u64], (u32, u64), &'a [&'a str]);
        let rows: [Row<'_>; 6] = [
            (&[0, 1, 2, 30, 51, 53, 400], (2, 0), &["0", "1", "51"]), // 51 days before is 2 October, 53 is 30 September
            (&[0, 1, 2], (2, 0), &["0", "1", "2"]),
            (&[0], (2, 0), &["0"]),
            (&[100, 200, 300], (2, 0), &["100", "200"]),
            (&[0, 1, 2, 3], (1, 0), &["0", "3"]),
            (&[0, 1, 2, 30, 40, 51], (1, 31), &["0", "1", "2", "30", "51"]),
        ];
        for (ages, (newest, days), expected) in rows {
            let (kept, removed) = divided(&archives(ages), &Keep { newest, days, daily: 0 }, NOW);
            assert_eq!(kept, expected.iter().map(PathBuf::from).collect::<Vec<_>>(), "{ages:?}");
            assert_eq!(kept.len() + removed.len(), ages.len());
        }
    }

    /// Archives of these hours before now.
    fn hourly(hours: impl Iterator<Item = u64>) -> Vec<Found> {
        let ages = hours.map(|hour| {
            let mut found = archives(&[0]).remove(0);
            found.file = PathBuf::from(format!("{hour}"));
            found.archive.created = NOW - hour * HOUR_NANOS;
            found
        });
        ages.collect()
    }

    #[test]
    fn of_each_day_the_newest_is_kept_for_as_many_days_as_asked() {
        // Every hour for four days.
        let archives = hourly(0..96);
        let (kept, _) = divided(&archives, &Keep { newest: 2, days: 0, daily: 3 }, NOW);
        // It is midnight: an hour ago it was yesterday. The oldest here is the first of the quarter.
        assert_eq!(kept, ["0", "1", "25", "49", "95"].map(PathBuf::from));
    }

    /// Ten years ahead.
    fn of_another_decade(found: &mut Found) {
        found.archive.created = NOW + 3653 * DAY;
        found.file = PathBuf::from("ahead");
    }

    #[test]
    fn an_archive_that_was_taken_while_the_clock_was_ahead_displaces_none() {
        let mut archives = archives(&[0, 0, 1, 2]);
        of_another_decade(&mut archives[0]);
        let (kept, removed) = divided(&archives, &Keep { newest: 1, days: 0, daily: 0 }, NOW);
        assert_eq!((kept, removed), (["ahead", "0", "2"].map(PathBuf::from).to_vec(), vec![PathBuf::from("1")]));
    }

    #[test]
    fn an_archive_that_was_taken_while_the_clock_was_ahead_is_not_fresh_for_years() {
        let mut archives = hourly([0, 30].into_iter());
        of_another_decade(&mut archives[0]);
        for (max_age, expected) in [(31, "ok"), (26, "warning"), (15, "critical")] {
            let stores = freshness(&archives, max_age, NOW);
            assert_eq!((stores.len(), stores[0].age_hours, stores[0].state), (1, 30, expected));
        }
        archives.truncate(1);
        assert_eq!(freshness(&archives, 31, NOW)[0].state, "critical", "there is no other");
        // A clock that stands a little behind that of the archive's host is no such thing.
        let mut young = hourly([0].into_iter());
        young[0].archive.created = NOW + HOUR_NANOS / 2;
        assert_eq!(freshness(&young, 31, NOW)[0].state, "ok");
    }

    #[test]
    fn a_fresh_store_does_not_hide_another_whose_backups_have_stopped() {
        let mut archives = hourly([0, 1, 30, 31].into_iter());
        for (at, found) in archives.iter_mut().enumerate() {
            found.archive.store = ["a", "a", "b", "b"][at].to_owned();
        }
        let rows = [(31, "ok"), (26, "warning"), (15, "critical")];
        for (max_age, expected) in rows {
            let stores = freshness(&archives, max_age, NOW);
            let worst = &stores[0];
            assert_eq!((worst.store.as_str(), worst.age_hours, worst.state), ("b", 30, expected));
            assert_eq!((stores.len(), stores[1].state), (2, "ok"));
        }
    }
}
