//! What the doctor thinks: one row per rule. docs/operations.md explains each of them; a test holds the two together.

use hsm_core::audit::Witness;
use hsm_core::config::{LogLevel, PasswordFunction, UseRecords};

use super::facts::{Facts, Place, started};
use super::host::Clock;
use super::volume::Volume;
use super::{Finding, Sentences, Severity, shelf, when};

use Severity::{Critical, Note, Warning};

/// Below this a disk is as good as full, and below that it will soon be.
const ROOM_CRITICAL: u64 = 64 << 20;
const ROOM_WARNING: u64 = 1 << 30;
/// The advice for new configurations.
const ROUNDS: u32 = 600_000;
const PIN_LENGTH: usize = 8;
const ATTEMPTS: u32 = 10;
/// A certificate is to be renewed before so many days, and at the latest before so many.
const RENEW_DAYS: i64 = 30;
const LAST_DAYS: i64 = 7;
/// Store, journal, listeners and what connections open for a moment.
const FILES_BESIDE: u64 = 128;
/// The arena of secrets, and the page around each of its parts.
const LOCKED: u64 = 2 << 20;

/// A rule: its name, what it finds, and what helps.
pub(super) struct Rule {
    pub(super) name: &'static str,
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

/// Every rule.
#[rustfmt::skip]
pub(super) const RULES: &[Rule] = &[
    Rule { name: "daemon-away", find: daemon_away, remedy: "systemctl start craton-hsm, and read its log: journalctl -u craton-hsm" },
    Rule { name: "daemon-unwell", find: daemon_unwell, remedy: "docs/runbook.md, \"The daemon is not well\"" },
    Rule { name: "daemon-version", find: daemon_version, remedy: "restart the daemon: a newer program waits to be started" },
    Rule { name: "daemon-root", find: daemon_root, remedy: "run the daemon as a user of its own, as the package's craton-hsm.service does" },
    Rule { name: "unit-failed", find: unit_failed, remedy: "systemctl status and journalctl -u the unit say why; when it is mended: systemctl reset-failed, and start it" },
    Rule { name: "timer-off", find: shelf::timer_off, remedy: "systemctl enable --now the timer (packaging/README.md says what it needs)" },
    Rule { name: "clock", find: clock, remedy: "run chrony or systemd-timesyncd: certificates, CRLs and the journal's times depend on the clock" },
    Rule { name: "limit-files", find: limit_files, remedy: "raise LimitNOFILE of craton-hsm.service (ulimit -n), or lower daemon.max_connections" },
    Rule { name: "limit-memory", find: limit_memory, remedy: "raise LimitMEMLOCK of craton-hsm.service (ulimit -l), or switch the swap off" },
    Rule { name: "log-loud", find: log_loud, remedy: "take RUST_LOG out of the daemon's environment when you have seen what you looked for" },
    Rule { name: "hardening-off", find: hardening_off, remedy: "set hardening.seccomp and hardening.landlock to \"enforce\"; docs/hardening.md says how to find what they refuse" },
    Rule { name: "not-persistent", find: not_persistent, remedy: "set token.persist_objects = true" },
    Rule { name: "policy-open", find: policy_open, remedy: "close the switch in [policy], or write down who needs it and until when" },
    Rule { name: "weak-algorithms", find: weak_algorithms, remedy: "close the switch in [algorithms]" },
    Rule { name: "pin-rounds", find: pin_rounds, remedy: "set security.pbkdf2_iterations = 600000; each PIN moves over at its next login" },
    Rule { name: "pin-length", find: pin_length, remedy: "set security.pin_min_length = 8 or more" },
    Rule { name: "pin-attempts", find: pin_attempts, remedy: "set security.max_failed_logins = 10 or fewer" },
    Rule { name: "pin-locked", find: pin_locked, remedy: "user PIN: craton-hsm-admin pin reset; SO PIN: restore a backup" },
    Rule { name: "pin-guessed", find: pin_guessed, remedy: "find out who tried: craton-hsm-admin audit dump" },
    Rule { name: "auto-login", find: auto_login, remedy: "craton-hsm-admin token auto-login --disable, where somebody is there to enter the PIN" },
    Rule { name: "so-without-key", find: so_without_key, remedy: "keep the user PIN where it outlasts a person: nobody resets it" },
    Rule { name: "slot-open", find: slot_open, remedy: "initialise the slot's token, or lower token.slot_count" },
    Rule { name: "journal-partial", find: journal_partial, remedy: "set audit.log_level = \"all\"" },
    Rule { name: "journal-delayed", find: journal_delayed, remedy: "audit.use_operations = \"synced\" where a record must survive a power cut" },
    Rule { name: "journal-alone", find: journal_alone, remedy: "set audit.anchor or audit.witness to a place that this machine's users cannot rewrite" },
    Rule { name: "anchor-near", find: anchor_near, remedy: "put audit.anchor and files of audit.witness on another disk, or better another machine" },
    Rule { name: "witness-none", find: witness_none, remedy: "audit.witness = [\"daemon:https://HOST:PORT\"]: docs/operations.md, \"A second daemon as witness\"" },
    Rule { name: "file-modes", find: file_modes, remedy: "chmod 0700 the directory, chmod 0600 the file" },
    Rule { name: "config-owner", find: config_owner, remedy: "chown root the configuration" },
    Rule { name: "key-beside-store", find: key_beside_store, remedy: "keep the store key on another device, or as a systemd credential (packaging/README.md)" },
    Rule { name: "old-store", find: old_store, remedy: "remove it when the store that took its place has proved itself: it holds the keys of then" },
    Rule { name: "disk-full", find: disk_full, remedy: "make room: the daemon refuses work that it cannot record" },
    Rule { name: "tls-open", find: tls_open, remedy: "set tls_cert, tls_key and tls_client_ca, and remove the allow_ keys" },
    Rule { name: "tls-expiry", find: tls_expiry, remedy: "renew daemon.tls_cert; the daemon reads it again by itself" },
    Rule { name: "tls-no-crl", find: tls_no_crl, remedy: "set daemon.tls_client_crl, so that a lost client can be locked out" },
    Rule { name: "network-zone", find: network_zone, remedy: "let the firewall admit the applications' hosts only; leave daemon.bind out where all are local" },
    Rule { name: "socket-open", find: socket_open, remedy: "restart the daemon, which gives its socket the right mode, and find out who changed it" },
    Rule { name: "socket-group", find: socket_group, remedy: "keep the group's membership to what must use keys" },
    Rule { name: "pin-cache", find: pin_cache, remedy: "shim.pin_cache = false where an application can log in again by itself" },
    Rule { name: "no-monitor", find: no_monitor, remedy: "set metrics.bind, and load packaging/prometheus/craton-hsm.rules.yml" },
    Rule { name: "backup-none", find: shelf::backup_none, remedy: "enable craton-backup.timer, or name the directory: doctor --backups DIR" },
    Rule { name: "backup-old", find: shelf::backup_old, remedy: "craton-hsm-admin backup; then find out why the timer did not" },
    Rule { name: "backup-few", find: shelf::backup_few, remedy: "keep the two newest at least, and one of the quarter: backup prune" },
    Rule { name: "backup-behind", find: shelf::backup_behind, remedy: "after keys were made or imported in number: craton-hsm-admin backup --bundle" },
    Rule { name: "backup-opener", find: shelf::backup_opener, remedy: "bring it to its keeper, and remove it here: with the archive it is the token" },
    Rule { name: "backup-pin", find: shelf::backup_pin, remedy: "keep the PIN where who reads the archives does not: a password vault, or systemd-creds" },
    Rule { name: "backup-bare", find: shelf::backup_bare, remedy: "take backups with --bundle: a new host needs the configuration, too" },
    Rule { name: "config-newer", find: shelf::config_newer, remedy: "craton-hsm-admin backup --bundle, now and before the next change" },
    Rule { name: "backup-same-disk", find: shelf::backup_same_disk, remedy: "copy the archives to another machine: a fire takes both" },
    Rule { name: "backup-volume", find: shelf::backup_volume, remedy: "keep archives on an encrypted volume (LUKS): archive and SO PIN together are the token" },
    Rule { name: "backup-deletable", find: shelf::backup_deletable, remedy: "have another machine fetch them into storage with object lock or append-only access; here: chattr +i FILE" },
    Rule { name: "backup-exposed", find: shelf::backup_exposed, remedy: "chmod 0600 the archives: the SO PIN can be tried against them" },
    Rule { name: "drill-old", find: shelf::drill_old, remedy: "craton-hsm-admin drill --report FILE.json, with the file there; or enable craton-drill.timer" },
    Rule { name: "drill-failed", find: shelf::drill_failed, remedy: "read the report: the archive may be of no use; take a backup and run the drill again" },
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

fn auto_login(facts: &Facts) -> Sentences {
    let open = facts.tokens.iter().filter(|token| token.auto_login);
    let is_beside =
        facts.store_key.as_ref().zip(facts.store.as_ref()).is_some_and(|(key, store)| key.device == store.device);
    let severity = if is_beside { Warning } else { Note };
    let sentence = |token: &hsm_proto::v1::TokenSummary| {
        (
            severity,
            format!("slot {} opens without a PIN: whoever has the store and its key has its private keys", token.slot),
        )
    };
    open.map(sentence).collect()
}

fn so_without_key(facts: &Facts) -> Sentences {
    let without = facts.tokens.iter().filter(|token| token.initialized && !token.so_holds_master_key);
    let sentence = |token: &hsm_proto::v1::TokenSummary| {
        (
            Note,
            format!(
                "the SO PIN of slot {} does not open its master key: a forgotten user PIN costs the private objects",
                token.slot
            ),
        )
    };
    without.map(sentence).collect()
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
    let sentence = format!(
        "the store key {} is plain and on the device of the store, so who takes the disk has both; {}",
        key.path.display(),
        facts.store_volume.sentence()
    );
    let is_open = !facts.is_key_sealed && facts.store_volume != Volume::Encrypted;
    when(is_open && key.device == store.device, Note, sentence)
}

fn old_store(facts: &Facts) -> Sentences {
    let sentence =
        |path: &std::path::PathBuf| (Note, format!("{} is a store that is not used any more", path.display()));
    facts.old_stores.iter().map(sentence).collect()
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

fn swap(facts: &Facts) -> Sentences {
    when(facts.has_swap, Note, "this machine swaps: what applications hold (PINs, plaintext) may reach the disk")
}

fn unit_failed(facts: &Facts) -> Sentences {
    let failed = facts.host.units.iter().filter(|unit| unit.active == "failed");
    failed.map(|unit| (Critical, format!("{} failed ({})", unit.name, unit.result))).collect()
}

fn clock(facts: &Facts) -> Sentences {
    match facts.host.clock {
        Clock::Kept => Vec::new(),
        Clock::Drifts => vec![(Warning, "the clock of this machine is not synchronised".to_owned())],
        Clock::Unknown => {
            vec![(Note, "whether the clock is synchronised cannot be told: timedatectl does not answer".to_owned())]
        }
    }
}

fn limit_files(facts: &Facts) -> Sentences {
    let Some(limits) = facts.host.limits else { return Vec::new() };
    let connections = facts.daemon.max_connections;
    let sentence = format!("the daemon may open {} files, and is to serve {connections} connections", limits.files);
    when(limits.files < connections.saturating_add(FILES_BESIDE), Warning, sentence)
}

fn limit_memory(facts: &Facts) -> Sentences {
    let Some(limits) = facts.host.limits else { return Vec::new() };
    // The superuser may lock what it wants.
    let is_root = facts.socket.as_ref().is_some_and(|socket| socket.owner == 0);
    let sentence = format!(
        "the daemon may lock {} KiB of memory: secrets that do not fit may be swapped to the disk",
        limits.locked_bytes >> 10
    );
    when(facts.has_swap && !is_root && limits.locked_bytes < LOCKED, Warning, sentence)
}

fn log_loud(facts: &Facts) -> Sentences {
    let log = facts.host.log.as_deref().unwrap_or_default();
    let is_loud = ["debug", "trace"].iter().any(|level| log.to_lowercase().contains(level));
    when(is_loud, Note, format!("the daemon logs at the level {log:?}: the log names every call of every client"))
}

fn hardening_off(facts: &Facts) -> Sentences {
    let rows = [("seccomp", &facts.hardening.seccomp), ("landlock", &facts.hardening.landlock)];
    let open = rows.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?)));
    let open = open.filter(|(_, value)| *value != "enforce");
    open.map(|(key, value)| (Warning, format!("hardening.{key} is {value:?}: a daemon that is taken over may do more")))
        .collect()
}

fn anchor_near(facts: &Facts) -> Sentences {
    let Some(store) = &facts.store else { return Vec::new() };
    let near = facts.outside.iter().filter(|place| place.device == store.device);
    let sentence = |place: &Place| {
        format!("{} is on the device of the store: who rolls one back rolls back the other", place.path.display())
    };
    near.map(|place| (Warning, sentence(place))).collect()
}

fn witness_none(facts: &Facts) -> Sentences {
    let audit = &facts.core.audit;
    let is_elsewhere = |witness: &Witness| matches!(witness, Witness::Daemon(_));
    let is_alone = audit.anchor.is_some() || !audit.witnesses.is_empty();
    when(
        is_alone && !audit.witnesses.iter().any(is_elsewhere),
        Note,
        "no witness on another machine holds the journal's checkpoints: who takes this one over can write all of it anew",
    )
}
