//! What the doctor thinks of backups and drills: the functions of those rows of the table.

use super::Severity::{Critical, Note, Warning};
use super::facts::{Backups, Facts};
use super::host::TIMERS;
use super::volume::Volume;
use super::{Sentences, when};

/// Backups are daily, drills quarterly, both with some grace.
const BACKUP_HOURS: u64 = 26;
const DRILL_DAYS: u64 = 100;

pub(super) fn backup_none(facts: &Facts) -> Sentences {
    match &facts.backups {
        None => vec![(Warning, "no directory of backups is known".to_owned())],
        Some(Backups { unread: Some(why), .. }) => vec![(Critical, why.clone())],
        Some(backups) => when(backups.newest_age.is_none(), Critical, "there is no backup"),
    }
}

pub(super) fn backup_old(facts: &Facts) -> Sentences {
    let Some(age) = facts.backups.as_ref().and_then(|backups| backups.newest_age) else { return Vec::new() };
    let severity = if age >= 2 * BACKUP_HOURS { Critical } else { Warning };
    when(age >= BACKUP_HOURS, severity, format!("the newest backup is {age} hours old"))
}

pub(super) fn backup_few(facts: &Facts) -> Sentences {
    let is_alone = facts.backups.as_ref().is_some_and(|backups| backups.count == 1);
    when(is_alone, Note, "there is one backup only: if it is damaged there is none")
}

pub(super) fn backup_behind(facts: &Facts) -> Sentences {
    let unsaved = facts.backups.iter().flat_map(|backups| &backups.unsaved);
    let sentence = |(slot, here, saved): &(u64, u64, u64)| {
        (Note, format!("slot {slot} holds {here} objects, the newest backup {saved}"))
    };
    unsaved.map(sentence).collect()
}

pub(super) fn backup_opener(facts: &Facts) -> Sentences {
    let opener = facts.backups.as_ref().and_then(|backups| backups.opener.as_ref());
    opener
        .map(|file| (Warning, format!("{} opens archives and lies beside them", file.display())))
        .into_iter()
        .collect()
}

pub(super) fn backup_bare(facts: &Facts) -> Sentences {
    let is_bare = |backups: &Backups| backups.newest_age.is_some() && !backups.newest_is_bundle;
    let sentence = "the newest backup has neither configuration nor journal beside it";
    when(facts.backups.as_ref().is_some_and(is_bare), Note, sentence)
}

pub(super) fn config_newer(facts: &Facts) -> Sentences {
    let taken = facts.backups.as_ref().and_then(|backups| backups.newest_taken);
    let is_newer = facts.config_changed.zip(taken).is_some_and(|(changed, taken)| changed > taken);
    when(is_newer, Note, "the configuration was changed after the newest backup was taken")
}

pub(super) fn backup_same_disk(facts: &Facts) -> Sentences {
    let place = facts.backups.as_ref().and_then(|backups| backups.place.as_ref());
    let (Some(place), Some(store)) = (place, &facts.store) else { return Vec::new() };
    when(place.device == store.device, Note, format!("{} is on the device of the store", place.path.display()))
}

pub(super) fn backup_exposed(facts: &Facts) -> Sentences {
    let exposed = facts.backups.as_ref().and_then(|backups| backups.exposed.as_ref());
    exposed.map(|file| (Warning, format!("{} can be read by others", file.display()))).into_iter().collect()
}

pub(super) fn drill_old(facts: &Facts) -> Sentences {
    let Some(backups) = &facts.backups else { return Vec::new() };
    match backups.drill_age {
        None => {
            let shelf = backups.place.as_ref().map(|place| format!(" in {} or its drills", place.path.display()));
            vec![(Warning, format!("no report of a restore drill was found{}", shelf.unwrap_or_default()))]
        }
        Some(age) => when(age > DRILL_DAYS, Warning, format!("the newest restore drill is {age} days old")),
    }
}

pub(super) fn drill_failed(facts: &Facts) -> Sentences {
    let failed = facts.backups.as_ref().and_then(|backups| backups.failed_drill.as_ref());
    failed
        .map(|report| (Critical, format!("the newest restore drill failed: {}", report.display())))
        .into_iter()
        .collect()
}

pub(super) fn backup_pin(facts: &Facts) -> Sentences {
    let file = facts.backups.as_ref().and_then(|backups| backups.pin.as_ref());
    let sentence = |file: &std::path::PathBuf| {
        (Warning, format!("{} looks like a PIN or a passphrase and lies beside archives", file.display()))
    };
    file.map(sentence).into_iter().collect()
}

pub(super) fn backup_volume(facts: &Facts) -> Sentences {
    let Some(backups) = &facts.backups else { return Vec::new() };
    let Some(place) = &backups.place else { return Vec::new() };
    let sentence = format!("backups are in {}: {}", place.path.display(), backups.volume.sentence());
    when(backups.count > 0 && backups.volume != Volume::Encrypted, Note, sentence)
}

pub(super) fn backup_deletable(facts: &Facts) -> Sentences {
    let Some(backups) = facts.backups.as_ref().filter(|backups| backups.count > 0) else { return Vec::new() };
    match backups.locked {
        Some(true) => Vec::new(),
        Some(false) => {
            vec![(Note, "no archive here is locked: whoever takes this machine over can delete them all".to_owned())]
        }
        None => vec![(Note, "whether an archive here is locked against deletion cannot be told".to_owned())],
    }
}

pub(super) fn timer_off(facts: &Facts) -> Sentences {
    if facts.host.units.is_empty() {
        return vec![(Note, "whether the timers run cannot be told: systemd does not answer".to_owned())];
    }
    let is_due = |name: &str| {
        let pki = facts.host.unit(super::host::PKI).is_some_and(|unit| unit.active == "active");
        !name.contains("pki") || pki
    };
    let due = TIMERS.into_iter().filter(|name| is_due(name)).filter_map(|name| facts.host.unit(name));
    let off = due.filter(|unit| !["active", "failed"].contains(&unit.active.as_str()));
    let sentence = |unit: &super::host::Unit| match unit.load.as_str() {
        "not-found" => (Note, format!("{} is not installed: what takes its place?", unit.name)),
        _ => (Warning, format!("{} is {}", unit.name, unit.active)),
    };
    off.map(sentence).collect()
}
