//! Every rule twice: silent about a token that is kept as advised, and heard when one thing is other than advised.

use std::path::PathBuf;

use hsm_core::audit::Witness;
use hsm_core::config::{LogLevel, PasswordFunction, UseRecords};
use hsm_proto::v1::{StatusReply, TokenSummary};

use super::Severity::{self, Critical, Note, Warning};
use super::facts::{Backups, Facts, Place};
use super::host::{Clock, Host, Limits, Unit};
use super::rules::RULES;
use super::volume::Volume;
use crate::config::Settings;

const STORE: u64 = 1;
const ELSEWHERE: u64 = 2;

fn place(path: &str, mode: u32, device: u64) -> Option<Place> {
    let room = Some((1 << 40, 1 << 41));
    Some(Place { path: PathBuf::from(path), mode, owner: 1000, device, room })
}

fn unit(name: &str, load: &str, active: &str) -> Unit {
    Unit { name: name.into(), load: load.into(), active: active.into(), result: "exit-code".into() }
}

/// A token that is kept as advised in every respect.
fn well() -> Facts {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("craton_hsm.toml");
    std::fs::write(&file, "").expect("a file");
    let settings = Settings::load(Some(&file)).expect("the defaults");
    let mut core = settings.core;
    core.audit.use_operations = UseRecords::Synced;
    core.audit.anchor = Some("/other/anchor".into());
    core.audit.witnesses = vec![Witness::Daemon("https://witness:5696".into())];
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Facts {
        core,
        daemon: settings.daemon,
        shim: settings.shim,
        hardening: settings.hardening,
        is_watched: true,
        status: Ok(StatusReply { version, health: "ok".into(), ..StatusReply::default() }),
        tokens: vec![TokenSummary {
            initialized: true,
            so_holds_master_key: true,
            objects: 7,
            ..TokenSummary::default()
        }],
        socket: place("/run/hsm.sock", 0o660, ELSEWHERE),
        config_file: place("/etc/craton_hsm.toml", 0o640, STORE),
        config_changed: Some(1_000),
        store: place("/store", 0o700, STORE),
        store_key: place("/keys/store.key", 0o600, ELSEWHERE),
        is_key_sealed: false,
        old_stores: Vec::new(),
        store_volume: Volume::Encrypted,
        journal: place("/journal", 0o700, STORE),
        outside: place("/other/anchor", 0o600, ELSEWHERE).into_iter().collect(),
        tls_key: place("/etc/server.key", 0o600, STORE),
        certificate_days: Some(300),
        backups: Some(Backups {
            place: place("/backups", 0o700, ELSEWHERE),
            unread: None,
            newest_age: Some(1),
            newest_taken: Some(2_000),
            newest_is_bundle: true,
            drill_age: Some(3),
            failed_drill: None,
            exposed: None,
            count: 3,
            unsaved: Vec::new(),
            opener: None,
            pin: None,
            locked: Some(true),
            volume: Volume::Encrypted,
        }),
        has_swap: false,
        host: Host {
            units: vec![
                unit("craton-backup.timer", "loaded", "active"),
                unit("craton-drill.timer", "loaded", "active"),
                unit("craton-pki-backup.timer", "loaded", "inactive"),
                unit("craton-pki.service", "loaded", "inactive"),
                unit("craton-backup.service", "loaded", "inactive"),
            ],
            clock: Clock::Kept,
            limits: Some(Limits { files: 65_536, locked_bytes: 64 << 20 }),
            log: Some("info".into()),
        },
    }
}

fn token(facts: &mut Facts) -> &mut TokenSummary {
    &mut facts.tokens[0]
}

fn backups(facts: &mut Facts) -> &mut Backups {
    facts.backups.as_mut().expect("a directory of backups")
}

fn open(place: &mut Option<Place>) -> &mut Place {
    place.as_mut().expect("a place")
}

type Row = (&'static str, Severity, fn(&mut Facts));

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("daemon-away", Critical, |facts| facts.status = Err("the daemon does not answer".into())),
    ("daemon-unwell", Critical, |facts| facts.status.as_mut().expect("a daemon").health = "sealed: unseal it".into()),
    ("daemon-version", Warning, |facts| facts.status.as_mut().expect("a daemon").version = "0.0.9".into()),
    ("daemon-root", Warning, |facts| open(&mut facts.socket).owner = 0),
    ("unit-failed", Critical, |facts| facts.host.units[4].active = "failed".into()),
    ("unit-failed", Critical, |facts| facts.host.units[1].active = "failed".into()),
    ("timer-off", Warning, |facts| facts.host.units[0].active = "inactive".into()),
    ("timer-off", Warning, |facts| facts.host.units[3].active = "active".into()),
    ("timer-off", Note, |facts| facts.host.units.clear()),
    ("timer-off", Note, |facts| facts.host.units[1] = unit("craton-drill.timer", "not-found", "inactive")),
    ("clock", Warning, |facts| facts.host.clock = Clock::Drifts),
    ("clock", Note, |facts| facts.host.clock = Clock::Unknown),
    ("limit-files", Warning, |facts| facts.host.limits = Some(Limits { files: 300, locked_bytes: 64 << 20 })),
    ("limit-memory", Warning, |facts| { facts.has_swap = true; facts.host.limits = Some(Limits { files: 65_536, locked_bytes: 65_536 }); }),
    ("log-loud", Note, |facts| facts.host.log = Some("hsm_core=debug".into())),
    ("hardening-off", Warning, |facts| facts.hardening.seccomp = Some("log".into())),
    ("hardening-off", Warning, |facts| facts.hardening.landlock = Some("off".into())),
    ("not-persistent", Critical, |facts| facts.core.token.persist_objects = false),
    ("policy-open", Warning, |facts| facts.core.policy = compat()),
    ("weak-algorithms", Warning, |facts| facts.core.algorithms.allow_weak_rsa = true),
    ("pin-rounds", Warning, |facts| facts.core.pin.function = PasswordFunction::Pbkdf2 { iterations: 100_000 }),
    ("pin-length", Warning, |facts| facts.core.pin.min_length = 4),
    ("pin-attempts", Warning, |facts| facts.core.pin.max_attempts = 50),
    ("pin-locked", Warning, |facts| token(facts).user_pin_locked = true),
    ("pin-locked", Critical, |facts| token(facts).so_pin_locked = true),
    ("pin-guessed", Warning, |facts| token(facts).user_pin_failures = 1),
    ("auto-login", Note, |facts| token(facts).auto_login = true),
    ("auto-login", Warning, |facts| { token(facts).auto_login = true; open(&mut facts.store_key).device = STORE; }),
    ("so-without-key", Note, |facts| token(facts).so_holds_master_key = false),
    ("slot-open", Warning, |facts| token(facts).initialized = false),
    ("journal-partial", Warning, |facts| facts.core.audit.log_level = LogLevel::Auth),
    ("journal-delayed", Note, |facts| facts.core.audit.use_operations = UseRecords::Written),
    ("journal-alone", Note, |facts| { facts.core.audit.anchor = None; facts.core.audit.witnesses.clear(); }),
    ("anchor-near", Warning, |facts| facts.outside[0].device = STORE),
    ("witness-none", Note, |facts| facts.core.audit.witnesses.clear()),
    ("file-modes", Critical, |facts| open(&mut facts.store).mode = 0o755),
    ("config-owner", Warning, |facts| open(&mut facts.config_file).owner = 1001),
    ("key-beside-store", Note, |facts| { open(&mut facts.store_key).device = STORE; facts.store_volume = Volume::Plain; }),
    ("key-beside-store", Note, |facts| { open(&mut facts.store_key).device = STORE; facts.store_volume = Volume::Unknown("it is of the kind nfs4".into()); }),
    ("old-store", Note, |facts| facts.old_stores = vec!["/store.pre-restore-7".into()]),
    ("disk-full", Critical, |facts| open(&mut facts.store).room = Some((1 << 20, 1 << 30))),
    ("disk-full", Warning, |facts| open(&mut facts.store).room = Some((100 << 20, 1 << 30))),
    ("tls-open", Critical, |facts| { facts.daemon.bind = Some("127.0.0.1:5696".into()); facts.daemon.allow_insecure = true; }),
    ("tls-expiry", Warning, |facts| facts.certificate_days = Some(20)),
    ("tls-expiry", Critical, |facts| facts.certificate_days = Some(-1)),
    ("tls-no-crl", Warning, |facts| { facts.daemon.bind = Some("127.0.0.1:5696".into()); facts.daemon.tls_client_ca = Some("ca".into()); }),
    ("network-zone", Note, |facts| facts.daemon.bind = Some("192.0.2.1:5696".into())),
    ("socket-open", Warning, |facts| open(&mut facts.socket).mode = 0o666),
    ("socket-group", Note, |facts| facts.daemon.socket_group = Some("users".into())),
    ("pin-cache", Note, |facts| facts.shim.pin_cache = true),
    ("no-monitor", Note, |facts| facts.is_watched = false),
    ("backup-none", Warning, |facts| facts.backups = None),
    ("backup-none", Critical, |facts| { backups(facts).newest_age = None; backups(facts).count = 0; }),
    ("backup-none", Critical, |facts| backups(facts).unread = Some("/backups cannot be read".into())),
    ("backup-old", Warning, |facts| backups(facts).newest_age = Some(30)),
    ("backup-old", Critical, |facts| backups(facts).newest_age = Some(60)),
    ("backup-few", Note, |facts| backups(facts).count = 1),
    ("backup-behind", Note, |facts| backups(facts).unsaved = vec![(0, 8, 7)]),
    ("backup-opener", Warning, |facts| backups(facts).opener = Some("/backups/a.backup.share-1".into())),
    ("backup-pin", Warning, |facts| backups(facts).pin = Some("/backups/so-pin".into())),
    ("backup-bare", Note, |facts| backups(facts).newest_is_bundle = false),
    ("config-newer", Note, |facts| facts.config_changed = Some(3_000)),
    ("backup-same-disk", Note, |facts| open(&mut backups(facts).place).device = STORE),
    ("backup-volume", Note, |facts| backups(facts).volume = Volume::Plain),
    ("backup-volume", Note, |facts| backups(facts).volume = Volume::Unknown("it is of the kind nfs4".into())),
    ("backup-deletable", Note, |facts| backups(facts).locked = Some(false)),
    ("backup-deletable", Note, |facts| backups(facts).locked = None),
    ("backup-exposed", Warning, |facts| backups(facts).exposed = Some("/backups/a.backup".into())),
    ("drill-old", Warning, |facts| backups(facts).drill_age = None),
    ("drill-old", Warning, |facts| backups(facts).drill_age = Some(101)),
    ("drill-failed", Critical, |facts| backups(facts).failed_drill = Some("/backups/drills/20261122.json".into())),
    ("swap", Note, |facts| facts.has_swap = true),
];

fn compat() -> hsm_core::config::PolicyConfig {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("craton_hsm.toml");
    std::fs::write(&file, "[policy]\nprofile = \"compat\"\nkcv = true\n").expect("a file");
    Settings::load(Some(&file)).expect("a configuration").core.policy
}

fn heard(facts: &Facts) -> Vec<(&'static str, Severity)> {
    RULES.iter().flat_map(|rule| rule.judge(facts)).map(|finding| (finding.rule, finding.severity)).collect()
}

#[test]
fn each_rule_is_silent_when_all_is_well_and_heard_when_its_own_thing_is_not() {
    assert_eq!(heard(&well()), []);
    for (number, (rule, severity, spoil)) in ROWS.iter().enumerate() {
        let mut facts = well();
        spoil(&mut facts);
        let found = heard(&facts);
        assert!(found.contains(&(*rule, *severity)), "row {number}: {rule} is not among {found:?}");
    }
    for rule in RULES {
        assert!(ROWS.iter().any(|(name, ..)| *name == rule.name), "{} has no row", rule.name);
    }
}

#[test]
fn a_sealed_key_and_an_encrypted_volume_may_lie_beside_the_store() {
    for spoil in
        [|facts: &mut Facts| facts.is_key_sealed = true, |facts: &mut Facts| facts.store_volume = Volume::Encrypted]
    {
        let mut facts = well();
        open(&mut facts.store_key).device = STORE;
        facts.store_volume = Volume::Plain;
        spoil(&mut facts);
        assert_eq!(heard(&facts), []);
    }
}
