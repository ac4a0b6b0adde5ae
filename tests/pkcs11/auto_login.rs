//! Logins without a PIN: at tokens whose user allowed it, by clients to whom the operator gave it; after a restart of the daemon too, which
//! is what they are for.

use std::fs;

use acceptance::tools::available;
use acceptance::worker::Worker;
use acceptance::world::{ANY_CERTIFICATE, Carrier, World, trusted};

/// No PIN is kept.
const RESUME: &str = "session_resume = true\nresume_wait_secs = 60";
/// CKR_OK, CKR_ARGUMENTS_BAD, CKR_PIN_INCORRECT.
const OK: &str = "rv 0x0";
const NO_PIN: &str = "rv 0x7";
const DENIED: &str = "rv 0xa0";
const USER: &str = "login-without-pin 1";
const SO: &str = "login-without-pin 0";

/// Whether the operators' tool says that the token takes clients without a PIN.
fn is_shown(world: &World) -> bool {
    world.admin_json(["token", "info", "--slot", "0"])[0]["auto_login"] == true
}

/// What the doctor finds about it.
fn is_found(world: &World) -> bool {
    let said = world.admin(["--json", "doctor"]);
    said.stdout.windows(12).any(|word| word == b"\"auto-login\"")
}

#[test]
fn who_was_given_it_logs_in_without_a_pin_until_it_is_taken_away() {
    let world = World::unattended("");
    assert!(is_shown(&world) && is_found(&world));
    let mut worker = Worker::opened(&world);
    assert_eq!(worker.ok("wrong-pin"), "PinIncorrect");
    assert_eq!((worker.ok("protected-path"), worker.ok(SO)), ("true".into(), DENIED.into()));
    assert_eq!((worker.ok(USER), worker.ok("state")), (OK.into(), "RwUser".into()));
    worker.ok("token-key one");
    assert_eq!(world.admin_json(["token", "info", "--slot", "0"])[0]["user_pin_failures"], 1, "the count is as it was");
    let journal = fs::read_to_string(world.journal()).expect("the journal");
    let logins: Vec<&str> = journal.lines().filter(|line| line.contains("\"op\":\"login\"")).collect();
    assert_eq!(
        logins.iter().filter(|line| line.contains("\"by\":\"auto\"")).count(),
        2,
        "one denied, one that came in"
    );

    world.admin(["token", "auto-login", "--disable"]).ok();
    assert!(!is_shown(&world) && !is_found(&world));
    worker.ok("token-key two");
    let mut next = Worker::opened(&world);
    assert_eq!((next.ok("protected-path"), next.ok(USER)), ("false".into(), NO_PIN.into()));
    worker.ok("logout");
    assert_eq!(worker.ok(USER), NO_PIN);
    worker.ok("login");
}

#[test]
fn a_client_without_the_role_needs_the_pin() {
    let mut world = World::unattended("");
    let standard = world.standard_config();
    let own = rustix::process::geteuid().as_raw();
    let rows = trusted(own).replace(", \"auto-login\"", "");
    for (clients, key) in [(rows.as_str(), "clients = \"clients.toml\"\n"), ("", "")] {
        world.stop_daemon();
        world.write_clients(clients);
        world.write_config(&format!("{standard}{key}"));
        world.start_daemon();
        assert!(is_shown(&world), "the slot is there");
        let mut worker = Worker::opened(&world);
        assert_eq!((worker.ok("protected-path"), worker.ok(USER)), ("false".into(), NO_PIN.into()));
        assert_eq!(worker.ok("state"), "RwPublic");
        worker.ok("login");
    }
}

#[test]
fn a_certificate_logs_in_without_a_pin_only_where_its_row_says_so() {
    let test = "auto_login::a_certificate_logs_in_without_a_pin_only_where_its_row_says_so";
    if !available(test, "openssl") {
        return;
    }
    let mut world = World::unstarted_for(Carrier::Grpc);
    world.start_daemon();
    world.init_token();
    world.take_without_pin();
    let mut worker = Worker::opened(&world);
    assert_eq!((worker.ok("protected-path"), worker.ok(USER)), ("false".into(), NO_PIN.into()));
    drop(worker);
    world.stop_daemon();
    world.write_clients(&ANY_CERTIFICATE.replace("\"so\"", "\"auto-login\""));
    world.start_daemon();
    let mut worker = Worker::opened(&world);
    assert_eq!((worker.ok("protected-path"), worker.ok(USER)), ("true".into(), OK.into()));
    assert_eq!(worker.ok("state"), "RwUser");
}

#[test]
fn a_restart_asks_nobody_for_a_pin() {
    let mut world = World::unattended(RESUME);
    let (mut by_pin, mut by_slot, mut nobody) =
        (Worker::opened(&world), Worker::opened(&world), Worker::opened(&world));
    by_pin.ok("login");
    assert_eq!(by_slot.ok(USER), OK);
    by_pin.ok("token-key served");
    for _ in 0..3 {
        world.crash_and_restart();
        for worker in [&mut by_pin, &mut by_slot] {
            assert_eq!(worker.ok("sign-some served 3"), "3");
            assert_eq!(worker.ok("state"), "RwUser");
        }
        assert_eq!(nobody.ok("state"), "RwPublic", "who had not logged in is not logged in");
    }
    by_slot.ok("logout");
    world.crash_and_restart();
    assert_eq!((by_pin.ok("state"), by_slot.ok("state")), ("RwUser".into(), "RwPublic".into()));
    world.admin(["token", "auto-login", "--disable"]).ok();
    assert_eq!(by_pin.ok("state"), "RwUser", "who is logged in stays so");
    world.crash_and_restart();
    assert_eq!(by_pin.ok("state"), "RwPublic");
}

#[test]
fn a_restored_token_opens_as_the_one_that_was_saved() {
    let world = World::unattended("");
    let mut first = Worker::opened(&world);
    first.ok("login");
    first.ok("token-key kept");
    world.admin(["backup", "--pin", "env:SO_PIN", "--output", "token.backup"]).ok();
    world.admin(["drill", "--pin", "env:SO_PIN", "--input", "token.backup"]).ok();
    let archive = world.dir().join("token.backup");
    let mut restored = World::unstarted_for(Carrier::Express);
    let clients = trusted(rustix::process::geteuid().as_raw());
    restored.write_clients(&clients);
    restored.configure("clients = \"clients.toml\"");
    restored
        .admin(["restore".as_ref(), "--pin".as_ref(), "env:SO_PIN".as_ref(), "--input".as_ref(), archive.as_os_str()])
        .ok();
    restored.start_daemon();
    assert!(is_shown(&restored) && is_found(&restored));
    let mut worker = Worker::opened(&restored);
    assert_eq!((worker.ok(USER), worker.ok("sign-some kept 1")), (OK.into(), "1".into()));
}
