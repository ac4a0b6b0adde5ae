//! What the doctor thinks: one row per rule. docs/operations.md explains each of them; a test holds the two together.

use hsm_core::config::{LogLevel, PasswordFunction, UseRecords};

use super::facts::{Facts, Place, started};
use super::{Finding, Severity};

use Severity::{Critical, Note, Warning};

/// Below this a disk is as good as full, and below that it will soon be.
const ROOM_CRITICAL: u64 = 64 << 20;
const ROOM_WARNING: u64 = 1 << 30;
/// The advice for new configurations.
const ROUNDS: u32 = 600_000;
const PIN_LENGTH: usize = 8;
const ATTEMPTS: u32 = 10;
/// Backups are daily, drills quarterly, both with some grace.
const BACKUP_HOURS: u64 = 26;
const DRILL_DAYS: u64 = 100;
/// A certificate is to be renewed before so many days, and at the latest before so many.
const RENEW_DAYS: i64 = 30;
const LAST_DAYS: i64 = 7;

type Sentences = Vec<(Severity, String)>;

/// A rule: its name, what it finds, and what helps.
pub(super) struct Rule {
    name: &'static str,
    find: fn(&Facts) -> Sentences,
    remedy: &'static str,
}

impl Rule {
    /// Its findings.
    pub(super) fn judge(&self, facts: &Facts) -> Vec<Finding> {
        let findings = (self.find)(facts).into_iter();
        let finding = |(severity, sentence)| Finding { rule: self.name, severity, sentence, remedy: self.remedy };
        findings.map(finding).collect()
    }
}

fn when(is_so: bool, severity: Severity, sentence: impl Into<String>) -> Sentences {
    if is_so { vec![(severity, sentence.into())] } else { Vec::new() }
}

/// Every rule.
#[rustfmt::skip]
pub(super) const RULES: &[Rule] = &[
    Rule { name: "daemon-away", find: daemon_away, remedy: "systemctl start craton-hsm, and read its log: journalctl -u craton-hsm" },
    Rule { name: "daemon-unwell", find: daemon_unwell, remedy: "docs/runbook.md, \"The daemon is not well\"" },
    Rule { name: "daemon-version", find: daemon_version, remedy: "restart the daemon: a newer program waits to be started" },
    Rule { name: "daemon-root", find: daemon_root, remedy: "run the daemon as a user of its own, as packaging/systemd/craton-hsm.service does" },
    Rule { name: "not-persistent", find: not_persistent, remedy: "set token.persist_objects = true" },
    Rule { name: "policy-open", find: policy_open, remedy: "close the switch in [policy], or write down who needs it and until when" },
    Rule { name: "weak-algorithms", find: weak_algorithms, remedy: "close the switch in [algorithms]" },
    Rule { name: "pin-rounds", find: pin_rounds, remedy: "set security.pbkdf2_iterations = 600000; each PIN moves over at its next login" },
    Rule { name: "pin-length", find: pin_length, remedy: "set security.pin_min_length = 8 or more" },
    Rule { name: "pin-attempts", find: pin_attempts, remedy: "set security.max_failed_logins = 10 or fewer" },
    Rule { name: "pin-locked", find: pin_locked, remedy: "user PIN: craton-hsm-admin pin reset; SO PIN: restore a backup" },
    Rule { name: "pin-guessed", find: pin_guessed, remedy: "find out who tried: craton-hsm-admin audit dump" },
    Rule { name: "slot-open", find: slot_open, remedy: "initialise the slot's token, or lower token.slot_count" },
    Rule { name: "journal-partial", find: journal_partial, remedy: "set audit.log_level = \"all\"" },
    Rule { name: "journal-delayed", find: journal_delayed, remedy: "audit.use_operations = \"synced\" where a record must survive a power cut" },
    Rule { name: "journal-alone", find: journal_alone, remedy: "set audit.anchor or audit.witness to a place that this machine's users cannot rewrite" },
    Rule { name: "file-modes", find: file_modes, remedy: "chmod 0700 the directory, chmod 0600 the file" },
    Rule { name: "config-owner", find: config_owner, remedy: "chown root the configuration" },
    Rule { name: "key-beside-store", find: key_beside_store, remedy: "keep the store key on another device, or as a systemd credential (packaging/README.md)" },
    Rule { name: "disk-full", find: disk_full, remedy: "make room: the daemon refuses work that it cannot record" },
    Rule { name: "tls-open", find: tls_open, remedy: "set tls_cert, tls_key and tls_client_ca, and remove the allow_ keys" },
    Rule { name: "tls-expiry", find: tls_expiry, remedy: "renew daemon.tls_cert; the daemon reads it again by itself" },
    Rule { name: "tls-no-crl", find: tls_no_crl, remedy: "set daemon.tls_client_crl, so that a lost client can be locked out" },
    Rule { name: "network-zone", find: network_zone, remedy: "let the firewall admit the applications' hosts only; leave daemon.bind out where all are local" },
    Rule { name: "socket-open", find: socket_open, remedy: "restart the daemon, which gives its socket the right mode, and find out who changed it" },
    Rule { name: "socket-group", find: socket_group, remedy: "keep the group's membership to what must use keys" },
    Rule { name: "pin-cache", find: pin_cache, remedy: "shim.pin_cache = false where an application can log in again by itself" },
    Rule { name: "no-monitor", find: no_monitor, remedy: "set metrics.bind, and load packaging/prometheus/craton-hsm.rules.yml" },
    Rule { name: "backup-none", find: backup_none, remedy: "enable craton-backup.timer, or name the directory: doctor --backups DIR" },
    Rule { name: "backup-old", find: backup_old, remedy: "craton-hsm-admin backup; then find out why the timer did not" },
    Rule { name: "backup-few", find: backup_few, remedy: "keep the two newest at least, and one of the quarter: backup prune" },
    Rule { name: "backup-behind", find: backup_behind, remedy: "after keys were made or imported in number: craton-hsm-admin backup --bundle" },
    Rule { name: "backup-opener", find: backup_opener, remedy: "bring it to its keeper, and remove it here: with the archive it is the token" },
    Rule { name: "backup-bare", find: backup_bare, remedy: "take backups with --bundle: a new host needs the configuration, too" },
    Rule { name: "config-newer", find: config_newer, remedy: "craton-hsm-admin backup --bundle, now and before the next change" },
    Rule { name: "backup-same-disk", find: backup_same_disk, remedy: "copy the archives to another machine: a fire takes both" },
    Rule { name: "backup-exposed", find: backup_exposed, remedy: "chmod 0600 the archives: the SO PIN can be tried against them" },
    Rule { name: "drill-old", find: drill_old, remedy: "craton-hsm-admin drill, or enable craton-drill.timer" },
    Rule { name: "drill-failed", find: drill_failed, remedy: "read the report: the archive may be of no use; take a backup and run the drill again" },
    Rule { name: "swap", find: swap, remedy: "encrypt the swap, or switch it off" },
];

fn daemon_away(facts: &Facts) -> Sentences {
    facts.status.as_ref().err().map(|why| (Critical, why.clone())).into_iter().collect()
}

fn daemon_unwell(facts: &Facts) -> Sentences {
    let Ok(status) = &facts.status else { return Vec::new() };
    when(status.health != "ok", Critical, format!("the daemon is not well: {}", status.health))
}

fn daemon_version(facts: &Facts) -> Sentences {
    let Ok(status) = &facts.status else { return Vec::new() };
    let ours = env!("CARGO_PKG_VERSION");
    let sentence = format!("the daemon is version {} (since {}), this tool {ours}", status.version, started(status));
    when(status.version != ours, Warning, sentence)
}

fn daemon_root(facts: &Facts) -> Sentences {
    let is_root = facts.status.is_ok() && facts.socket.as_ref().is_some_and(|socket| socket.owner == 0);
    when(is_root, Warning, "the daemon runs as root")
}

fn not_persistent(facts: &Facts) -> Sentences {
    when(
        !facts.core.token.persist_objects,
        Critical,
        "token.persist_objects is off: every key is gone when the daemon stops",
    )
}

fn policy_open(facts: &Facts) -> Sentences {
    let opened = facts.core.policy.opened().into_iter();
    opened.map(|switch| (Warning, format!("policy.{switch} is opened: a known attack works"))).collect()
}

fn weak_algorithms(facts: &Facts) -> Sentences {
    let algorithms = &facts.core.algorithms;
    let rows = [
        ("allow_weak_rsa", algorithms.allow_weak_rsa),
        ("allow_sha1_signing", algorithms.allow_sha1_signing),
        ("allow_legacy", algorithms.allow_legacy),
    ];
    let open = rows.into_iter().filter(|(_, is_open)| *is_open);
    open.map(|(key, _)| (Warning, format!("algorithms.{key} is on"))).collect()
}

fn pin_rounds(facts: &Facts) -> Sentences {
    let PasswordFunction::Pbkdf2 { iterations: rounds } = facts.core.pin.function else {
        return Vec::new();
    };
    when(rounds < ROUNDS, Warning, format!("new PINs get {rounds} rounds of PBKDF2, fewer than {ROUNDS}"))
}

fn pin_length(facts: &Facts) -> Sentences {
    let least = facts.core.pin.min_length;
    when(least < PIN_LENGTH, Warning, format!("a PIN may have {least} bytes only"))
}

fn pin_attempts(facts: &Facts) -> Sentences {
    let most = facts.core.pin.max_attempts;
    when(most > ATTEMPTS, Warning, format!("a PIN is locked only after {most} wrong ones"))
}

fn pin_locked(facts: &Facts) -> Sentences {
    let tokens = facts.tokens.iter();
    let locked = |token: &hsm_proto::v1::TokenSummary| {
        let user = when(token.user_pin_locked, Warning, format!("the user PIN of slot {} is locked", token.slot));
        let so = when(token.so_pin_locked, Critical, format!("the SO PIN of slot {} is locked", token.slot));
        [user, so].concat()
    };
    tokens.flat_map(locked).collect()
}

fn pin_guessed(facts: &Facts) -> Sentences {
    let tokens = facts.tokens.iter();
    let guessed = tokens.filter(|token| token.user_pin_failures + token.so_pin_failures > 0);
    let sentence = |token: &hsm_proto::v1::TokenSummary| {
        let (user, so) = (token.user_pin_failures, token.so_pin_failures);
        (Warning, format!("slot {}: {user} wrong user PINs and {so} wrong SO PINs in a row", token.slot))
    };
    guessed.map(sentence).collect()
}

fn slot_open(facts: &Facts) -> Sentences {
    let open =
        facts.tokens.iter().filter(|token| !token.initialized && token.slot < u64::from(facts.core.token.slot_count));
    let sentence = |token: &hsm_proto::v1::TokenSummary| {
        (Warning, format!("slot {} holds no initialised token: whoever reaches the socket may take it", token.slot))
    };
    open.map(sentence).collect()
}

fn journal_partial(facts: &Facts) -> Sentences {
    let is_partial = facts.core.audit.log_level != LogLevel::All;
    when(is_partial, Warning, "not every operation leaves a record: audit.log_level is not \"all\"")
}

fn journal_delayed(facts: &Facts) -> Sentences {
    let is_delayed = facts.core.audit.use_operations == UseRecords::Written;
    when(is_delayed, Note, "the records of signatures and decryptions reach the disk up to 10 ms after the answer")
}

fn journal_alone(facts: &Facts) -> Sentences {
    let audit = &facts.core.audit;
    let is_alone = audit.anchor.is_none() && audit.witnesses.is_empty();
    when(
        is_alone,
        Note,
        "nothing outside remembers the journal: one that is rolled back together with the store is not found",
    )
}

fn file_modes(facts: &Facts) -> Sentences {
    let rows = [("the store", &facts.store), ("the store key", &facts.store_key), ("the TLS key", &facts.tls_key)];
    let open = rows.into_iter().filter_map(|(what, place)| place.as_ref().map(|place| (what, place)));
    let open = open.filter(|(_, place)| place.mode & 0o077 != 0);
    let sentence = |(what, place): (&str, &Place)| {
        (Critical, format!("{what} {} has mode {:04o}: others may enter", place.path.display(), place.mode))
    };
    open.map(sentence).collect()
}

fn config_owner(facts: &Facts) -> Sentences {
    let (Some(config), Some(store)) = (&facts.config_file, &facts.store) else { return Vec::new() };
    let is_foreign = config.owner != 0 && config.owner != store.owner;
    when(
        is_foreign,
        Warning,
        format!("{} belongs to user {}, who can change what the daemon obeys", config.path.display(), config.owner),
    )
}

fn key_beside_store(facts: &Facts) -> Sentences {
    let (Some(key), Some(store)) = (&facts.store_key, &facts.store) else { return Vec::new() };
    let sentence =
        format!("the store key {} is on the device of the store: who takes the disk has both", key.path.display());
    when(key.device == store.device, Note, sentence)
}

fn disk_full(facts: &Facts) -> Sentences {
    let backups = facts.backups.as_ref().and_then(|backups| backups.place.clone());
    let mut devices = Vec::new();
    let mut found = Vec::new();
    for place in [&facts.store, &facts.journal, &backups].into_iter().flatten() {
        let Some((free, _)) = place.room.filter(|_| !devices.contains(&place.device)) else { continue };
        devices.push(place.device);
        let severity = if free < ROOM_CRITICAL { Critical } else { Warning };
        let sentence = format!("{} MiB are left for {}", free >> 20, place.path.display());
        found.extend(when(free < ROOM_WARNING, severity, sentence));
    }
    found
}

fn tls_open(facts: &Facts) -> Sentences {
    let daemon = &facts.daemon;
    if daemon.bind.is_none() {
        return Vec::new();
    }
    [
        when(daemon.allow_insecure, Critical, "daemon.allow_insecure: TCP without TLS"),
        when(
            daemon.allow_unauthenticated_tls,
            Critical,
            "daemon.allow_unauthenticated_tls: TLS without client certificates",
        ),
    ]
    .concat()
}

fn tls_expiry(facts: &Facts) -> Sentences {
    let Some(days) = facts.certificate_days else { return Vec::new() };
    let severity = if days < LAST_DAYS { Critical } else { Warning };
    let sentence = match days {
        ..0 => "daemon.tls_cert has expired".to_owned(),
        _ => format!("daemon.tls_cert expires in {days} days"),
    };
    when(days < RENEW_DAYS, severity, sentence)
}

fn tls_no_crl(facts: &Facts) -> Sentences {
    let daemon = &facts.daemon;
    let is_missing = daemon.bind.is_some() && daemon.tls_client_ca.is_some() && daemon.tls_client_crl.is_none();
    when(is_missing, Warning, "client certificates are not checked against a CRL")
}

fn network_zone(facts: &Facts) -> Sentences {
    let Some(bind) = &facts.daemon.bind else { return Vec::new() };
    let address = bind.parse::<std::net::SocketAddr>();
    let is_beyond = address.is_ok_and(|address| !address.ip().is_loopback());
    when(is_beyond, Note, format!("the daemon listens on {bind}, beyond this machine"))
}

fn socket_open(facts: &Facts) -> Sentences {
    let open = facts.socket.as_ref().filter(|socket| socket.mode & 0o007 != 0);
    let sentence = |socket: &Place| {
        format!("the socket {} has mode {:04o}: everybody here may use it", socket.path.display(), socket.mode)
    };
    open.map(|socket| (Warning, sentence(socket))).into_iter().collect()
}

fn socket_group(facts: &Facts) -> Sentences {
    let Some(group) = &facts.daemon.socket_group else { return Vec::new() };
    vec![(Note, format!("members of the group {group:?} may use the token, and try PINs"))]
}

fn pin_cache(facts: &Facts) -> Sentences {
    when(facts.shim.pin_cache, Note, "shim.pin_cache keeps the user PIN in every application's memory")
}

fn no_monitor(facts: &Facts) -> Sentences {
    when(!facts.is_watched, Note, "metrics.bind is not set: no monitor watches the daemon")
}

fn backup_none(facts: &Facts) -> Sentences {
    match &facts.backups {
        None => vec![(Warning, "no directory of backups is known".to_owned())],
        Some(backups) => when(backups.newest_age.is_none(), Critical, "there is no backup"),
    }
}

fn backup_old(facts: &Facts) -> Sentences {
    let Some(age) = facts.backups.as_ref().and_then(|backups| backups.newest_age) else { return Vec::new() };
    let severity = if age >= 2 * BACKUP_HOURS { Critical } else { Warning };
    when(age >= BACKUP_HOURS, severity, format!("the newest backup is {age} hours old"))
}

fn backup_few(facts: &Facts) -> Sentences {
    let is_alone = facts.backups.as_ref().is_some_and(|backups| backups.count == 1);
    when(is_alone, Note, "there is one backup only: if it is damaged there is none")
}

fn backup_behind(facts: &Facts) -> Sentences {
    let unsaved = facts.backups.iter().flat_map(|backups| &backups.unsaved);
    let sentence = |(slot, here, saved): &(u64, u64, u64)| {
        (Note, format!("slot {slot} holds {here} objects, the newest backup {saved}"))
    };
    unsaved.map(sentence).collect()
}

fn backup_opener(facts: &Facts) -> Sentences {
    let opener = facts.backups.as_ref().and_then(|backups| backups.opener.as_ref());
    opener
        .map(|file| (Warning, format!("{} opens archives and lies beside them", file.display())))
        .into_iter()
        .collect()
}

fn backup_bare(facts: &Facts) -> Sentences {
    let is_bare = |backups: &super::facts::Backups| backups.newest_age.is_some() && !backups.newest_is_bundle;
    let sentence = "the newest backup has neither configuration nor journal beside it";
    when(facts.backups.as_ref().is_some_and(is_bare), Note, sentence)
}

fn config_newer(facts: &Facts) -> Sentences {
    let taken = facts.backups.as_ref().and_then(|backups| backups.newest_taken);
    let is_newer = facts.config_changed.zip(taken).is_some_and(|(changed, taken)| changed > taken);
    when(is_newer, Note, "the configuration was changed after the newest backup was taken")
}

fn backup_same_disk(facts: &Facts) -> Sentences {
    let place = facts.backups.as_ref().and_then(|backups| backups.place.as_ref());
    let (Some(place), Some(store)) = (place, &facts.store) else { return Vec::new() };
    when(place.device == store.device, Note, format!("{} is on the device of the store", place.path.display()))
}

fn backup_exposed(facts: &Facts) -> Sentences {
    let exposed = facts.backups.as_ref().and_then(|backups| backups.exposed.as_ref());
    exposed.map(|file| (Warning, format!("{} can be read by others", file.display()))).into_iter().collect()
}

fn drill_old(facts: &Facts) -> Sentences {
    let Some(backups) = &facts.backups else { return Vec::new() };
    match backups.drill_age {
        None => vec![(Warning, "no report of a restore drill was found".to_owned())],
        Some(age) => when(age > DRILL_DAYS, Warning, format!("the newest restore drill is {age} days old")),
    }
}

fn drill_failed(facts: &Facts) -> Sentences {
    let failed = facts.backups.as_ref().and_then(|backups| backups.failed_drill.as_ref());
    failed
        .map(|report| (Critical, format!("the newest restore drill failed: {}", report.display())))
        .into_iter()
        .collect()
}

fn swap(facts: &Facts) -> Sentences {
    when(facts.has_swap, Note, "this machine swaps: what applications hold (PINs, plaintext) may reach the disk")
}
