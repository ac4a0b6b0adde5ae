//! The PKI under a wall clock that jumps, or stands still. What it signs is never dated so that nobody can use it for longer than the clock is
//! wrong; what it did too early it undoes; numbers rise whatever the clock says. The daemon's side is `tests/chaos/clock.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use acceptance::faults::{Calls, Errno, Faults};
use acceptance::tools::{Finished, run};
use acceptance::world::{Carrier, World};

use crate::{Pki, tools_for};

pub(crate) const DAY: i64 = 24 * 3600;
const DECADE: i64 = 3653 * DAY;
/// Authorities that are in force ten years ahead; certificates of devices that are not.
pub(crate) const LONG: [u32; 3] = [7300, 5000, 400];
const INTERNAL: &str = "[ca.internal]\nvalidity_days = 5000";

/// A daemon and a PKI of one machine, whose clock is in our hands and was so many seconds from the right one at the founding.
fn machine(test: &str, founded: i64) -> Option<(World, Pki, Faults)> {
    machine_with(test, founded, "")
}

/// The same with more lines of configuration.
pub(crate) fn machine_with(test: &str, founded: i64, more: &str) -> Option<(World, Pki, Faults)> {
    if !tools_for(test) {
        return None;
    }
    let mut world = World::unstarted_for(Carrier::Express);
    let faults = Faults::prepare(test, world.dir())?;
    faults.shift_clock(founded);
    world.daemon_environment(faults.environment());
    world.start_daemon();
    world.init_token();
    let pki = Pki::found_for(&world, "ec:P-256", LONG, &format!("{INTERNAL}\n{more}"), faults.environment());
    Some((world, pki, faults))
}

/// Now, by the right clock, as the PKI writes it: such texts sort as the instants do.
fn now() -> String {
    let said = run(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"])).ok();
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}

/// A list as the PKI publishes it, its times in order.
fn list(pki: &Pki, world: &World, authority: &str) -> (u64, String, String) {
    let list = pki.json(world, &["crl", "--ca", authority]);
    let text = |field: &str| list[field].as_str().unwrap_or_else(|| panic!("{list}")).to_owned();
    let (this, next) = (text("this_update"), text("next_update"));
    assert!(this < next, "{authority}: {this} to {next}");
    (list["number"].as_u64().expect("a number"), this, next)
}

/// Waits until a fact is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(180), "not within three minutes: {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// How often the server's log names an event.
fn logged(world: &World, event: &str) -> usize {
    let log = fs::read_to_string(world.dir().join("pki.log")).unwrap_or_default();
    log.matches(&format!("event=\"{event}\"")).count()
}

/// Sets the clock, and waits until the server has dealt with it.
pub(crate) fn jump(world: &World, faults: &Faults, seconds: i64) {
    let before = logged(world, "clock_jump");
    faults.shift_clock(seconds);
    until("the jump is in the log", || logged(world, "clock_jump") > before);
}

/// What the responder says of a certificate, if `openssl` believes it by the right clock. Without a nonce: it may have been signed before.
fn ocsp(pki: &Pki, certificate: &Path) -> String {
    let file = |name: &str| pki.state.join(name);
    let said = run(Command::new("openssl")
        .args(["ocsp", "-no_nonce", "-url", &format!("{}/ocsp", pki.crl), "-CAfile"])
        .arg(file("chain.pem"))
        .arg("-issuer")
        .arg(file("issuing.pem"))
        .arg("-cert")
        .arg(certificate))
    .all();
    let is_believed = said.contains("Response verify OK") && !said.contains("WARNING");
    let word = ["good", "revoked", "unknown"].into_iter().find(|word| said.contains(&format!(": {word}")));
    word.filter(|_| is_believed).map_or(said, str::to_owned)
}

/// What openssl says of a certificate with the list of its authority, by the right clock.
fn checked(pki: &Pki, world: &World, certificate: &Path) -> Finished {
    let crl = world.dir().join("issuing.crl");
    fs::write(&crl, pki.json(world, &["crl", "--ca", "issuing"])["pem"].as_str().expect("PEM")).expect("our own file");
    let file = |name: &str| pki.state.join(name);
    run(Command::new("openssl")
        .args(["verify", "-crl_check", "-CAfile"])
        .arg(file("root.pem"))
        .arg("-untrusted")
        .arg(file("issuing.pem"))
        .arg("-CRLfile")
        .arg(&crl)
        .arg(certificate))
}

pub(crate) fn serial(certificate: &Path) -> String {
    let said = run(Command::new("openssl").args(["x509", "-noout", "-serial", "-in"]).arg(certificate)).ok();
    String::from_utf8_lossy(&said.stdout).trim().trim_start_matches("serial=").to_lowercase()
}

fn state(pki: &Pki, world: &World, device: &str) -> String {
    pki.json(world, &["device", "show", device])["state"].as_str().expect("a state").to_owned()
}

/// A renewal with the certificate that the device holds.
fn renewed(pki: &Pki, world: &World, name: &str) -> Finished {
    let [key, _, certificate] = Pki::files(world, name).map(|path| path.display().to_string());
    pki.ask(world, name, "simplereenroll", &["--cert", &certificate, "--key", &key])
}

#[test]
fn a_clock_that_was_ten_years_ahead_leaves_everything_as_it_was() {
    let test = "clock::a_clock_that_was_ten_years_ahead_leaves_everything_as_it_was";
    let Some((world, mut pki, faults)) = machine(test, 0) else { return };
    pki.serve(&world);
    let (good, bad) = (pki.enrol(&world, "good"), pki.enrol(&world, "bad"));
    pki.command(&world, &["cert", "revoke", &serial(&bad), "--reason", "key-compromise"]).ok();
    assert_eq!(state(&pki, &world, "good"), "Fully Provisioned");
    let authorities = ["root", "issuing", "internal"];
    let mut numbers: Vec<u64> = authorities.iter().map(|id| list(&pki, &world, id).0).collect();
    let mut rise = |pki: &Pki, is_dated: &dyn Fn(&str) -> bool| {
        for (id, number) in authorities.iter().zip(&mut numbers) {
            until("a new list is published", || is_dated(&list(pki, &world, id).1));
            let next = list(pki, &world, id).0;
            assert!(next > *number, "{id}: {next} after {number}");
            *number = next;
        }
    };

    jump(&world, &faults, DECADE);
    let today = now();
    rise(&pki, &|this| this > today.as_str());
    until("the device is taken for expired", || state(&pki, &world, "good") == "Requires Action");
    // An answer of then is remembered.
    assert!(!["good", "revoked", "unknown"].contains(&ocsp(&pki, &good).as_str()), "nobody believes it");
    // So long ago that its entry leaves the list after next.
    pki.command(&world, &["crl", "--ca", "issuing", "--renew"]).ok();
    pki.command(&world, &["crl", "--ca", "issuing", "--renew"]).ok();
    Pki::request(&world, "late");
    let late = pki.credential(&world);
    // Its clock is right: it does not believe the server's certificate.
    let answer = pki.ask(&world, "late", "simpleenroll", &["-u", &late, "--insecure"]).ok();
    pki.keep(&world, "late", &answer);
    let left = pki.credential(&world);

    jump(&world, &faults, 0);
    until("what was done too early is undone", || state(&pki, &world, "good") == "Fully Provisioned");
    rise(&pki, &|this| this <= now().as_str());
    checked(&pki, &world, &good).ok().says("OK");
    until("the entry is on the list again", || !checked(&pki, &world, &bad).status.success());
    checked(&pki, &world, &bad).refused().says("revoked");
    until("answers are good by the right clock", || ocsp(&pki, &good) == "good");
    assert_eq!(ocsp(&pki, &bad), "revoked");
    // First enrolments and renewals, also by a certificate that is not good yet.
    pki.enrol(&world, "new");
    for name in ["good", "late"] {
        let fresh = pki.keep(&world, name, &renewed(&pki, &world, name).ok());
        checked(&pki, &world, &fresh).ok().says("OK");
    }
    // A credential of then would be good for ten years.
    Pki::request(&world, "other");
    pki.ask(&world, "other", "simpleenroll", &["-u", &left]).refused();
    pki.json(&world, &["journal", "checkpoint"]);
    pki.command(&world, &["journal", "verify"]).ok();
    until("all is well", || pki.json(&world, &["health"])["status"] == "ok");
    // Nothing of it comes back with a start.
    pki.stop();
    pki.serve(&world);
    assert_eq!(ocsp(&pki, &good), "good");
    checked(&pki, &world, &bad).refused().says("revoked");
    until("all is well", || pki.json(&world, &["health"])["status"] == "ok");
}

#[test]
fn a_clock_that_is_set_right_while_the_server_is_off_is_noticed_at_its_start() {
    let test = "clock::a_clock_that_is_set_right_while_the_server_is_off_is_noticed_at_its_start";
    let Some((world, mut pki, faults)) = machine(test, 0) else { return };
    pki.serve(&world);
    let good = pki.enrol(&world, "good");
    pki.stop();
    faults.shift_clock(DECADE);
    let today = now();
    pki.serve_unbelieved(&world);
    until("the device is taken for expired", || state(&pki, &world, "good") == "Requires Action");
    assert!(list(&pki, &world, "issuing").1 > today);
    pki.stop();
    faults.shift_clock(0);
    pki.serve(&world);
    until("what was done too early is undone", || state(&pki, &world, "good") == "Fully Provisioned");
    checked(&pki, &world, &good).ok().says("OK");
    assert_eq!(ocsp(&pki, &good), "good");
    let fresh = pki.keep(&world, "good", &renewed(&pki, &world, "good").ok());
    checked(&pki, &world, &fresh).ok().says("OK");
}

#[test]
fn a_clock_that_is_a_day_behind_issues_and_one_before_the_founding_refuses() {
    let test = "clock::a_clock_that_is_a_day_behind_issues_and_one_before_the_founding_refuses";
    let Some((world, mut pki, faults)) = machine(test, -3 * DAY) else { return };
    let ended = ["ca", "create", "ended", "--subject", "CN=Ended", "--validity-days", "2"];
    pki.command(&world, &ended).ok();
    pki.command(&world, &["crl", "--ca", "ended", "--renew"]).ok();
    let last = list(&pki, &world, "ended");
    faults.shift_clock(0);
    pki.serve(&world);
    let before = list(&pki, &world, "issuing");
    jump(&world, &faults, -DAY);
    assert_eq!(list(&pki, &world, "ended"), last, "an authority that is over publishes nothing");
    let certificate = pki.enrol(&world, "behind");
    pki.verify(&certificate).ok().says("OK");
    let shown = pki.json(&world, &["cert", "show", &serial(&certificate)]);
    assert!(shown["not_before"].as_str().is_some_and(|begin| begin < now().as_str()), "{shown}");
    pki.command(&world, &["crl", "--ca", "issuing", "--renew"]).ok();
    let behind = list(&pki, &world, "issuing");
    assert!(behind.0 > before.0, "{behind:?} after {before:?}");

    jump(&world, &faults, -10 * DAY);
    Pki::request(&world, "early");
    let credential = pki.credential(&world);
    let refused = pki.ask(&world, "early", "simpleenroll", &["-u", &credential, "--insecure", "-D", "-"]).refused();
    assert!(refused.all().contains("authority_not_in_force"), "{refused}");
    pki.command(&world, &["crl", "--ca", "issuing", "--renew"]).refused().says("clock");
    assert_eq!(list(&pki, &world, "issuing").0, behind.0);

    jump(&world, &faults, 0);
    let fresh = pki.enrol(&world, "right");
    until("a list of today is published", || list(&pki, &world, "issuing").2 > now());
    pki.command(&world, &["crl", "--ca", "issuing", "--renew"]).ok();
    assert!(list(&pki, &world, "issuing").0 > behind.0);
    checked(&pki, &world, &fresh).ok().says("OK");
}

#[test]
fn with_a_clock_that_stands_numbers_rise_and_serial_numbers_differ() {
    let test = "clock::with_a_clock_that_stands_numbers_rise_and_serial_numbers_differ";
    let Some((world, mut pki, faults)) = machine(test, 0) else { return };
    pki.serve(&world);
    faults.freeze_clock(Some(SystemTime::now()));
    let mut last = list(&pki, &world, "issuing");
    for _ in 0..3 {
        pki.command(&world, &["crl", "--ca", "issuing", "--renew"]).ok();
        let next = list(&pki, &world, "issuing");
        assert!(next.0 > last.0 && next.1 >= last.1, "{next:?} after {last:?}");
        last = next;
    }
    let certificates: Vec<_> = (0..3).map(|number| pki.enrol(&world, &format!("still-{number}"))).collect();
    let serials: BTreeSet<String> = certificates.iter().map(|certificate| serial(certificate)).collect();
    assert_eq!(serials.len(), certificates.len());
    pki.command(&world, &["cert", "revoke", &serial(&certificates[0]), "--reason", "key-compromise"]).ok();
    let fresh = pki.keep(&world, "still-1", &renewed(&pki, &world, "still-1").ok());
    faults.freeze_clock(None);
    checked(&pki, &world, &fresh).ok().says("OK");
    checked(&pki, &world, &certificates[0]).refused().says("revoked");
    assert_eq!(ocsp(&pki, &certificates[0]), "revoked");
    pki.command(&world, &["journal", "verify"]).ok();
}

/// The other promise of a file that is published: its name stays when the power goes.
#[test]
fn a_file_is_not_said_to_be_written_before_its_folder_is_synced() {
    let test = "clock::a_file_is_not_said_to_be_written_before_its_folder_is_synced";
    let Some((world, mut pki, faults)) = machine(test, 0) else { return };
    pki.serve(&world);
    let folder = world.dir().join("published");
    fs::create_dir(&folder).expect("the world's directory is writable");
    let file = folder.join("issuing.crl").display().to_string();
    let publish = || pki.command(&world, &["crl", "--ca", "issuing", "--out", &file]);
    publish().ok();
    // The file's own sync is the first.
    for spare in [0, 1] {
        faults.fail(Calls::Sync, Errno::BrokenDisk, "published", spare);
        publish().refused().says("published");
    }
    faults.heal();
    publish().ok();
}
