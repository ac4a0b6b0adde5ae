//! The daemon on another machine: the module reaches it over TCP with mutual TLS. What holds beside a local daemon holds
//! here: the application gets no thread, and a proper CKR within the deadline when the daemon is away or refuses it.
//!
//! Each story runs in a process of its own without `CRATON_HSM_SOCKET`, which would name a local daemon.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use acceptance::certificates;
use acceptance::daemon::{Daemon, end_left_over, workspace};
use acceptance::module::{self, P256, Token, refused, token_object};
use acceptance::port::free_port;
use acceptance::tools::{available, run};
use acceptance::world::{ANY_CERTIFICATE, Carrier, World};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass};
use rustix::process::{Pid, Signal, kill_process};

/// Names the world's directory to the process in which a story runs.
const STORY: &str = "ACCEPTANCE_REMOTE_DIR";
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs `story` in a process of its own, beside a daemon that listens on TCP; the module shows `client`'s certificate and
/// trusts `ca` for the server's.
fn beside_a_remote_daemon(name: &str, client: &str, ca: &str, story: impl FnOnce(&Path)) {
    beside_a_daemon(name, client, ca, "", story);
}

/// The same, with these keys of `[daemon]` besides.
fn beside_a_daemon(name: &str, client: &str, ca: &str, daemon: &str, story: impl FnOnce(&Path)) {
    let test = format!("remote::{name}");
    if let Some(dir) = std::env::var_os(STORY) {
        return story(Path::new(&dir));
    }
    if !available(&test, "openssl") {
        return;
    }
    let mut world = World::unstarted_for(Carrier::Express);
    certificates::make(world.dir(), &certificates::ALL);
    let port = free_port();
    world.configure(&format!(
        "bind = \"127.0.0.1:{port}\"\ntls_cert = \"server.pem\"\ntls_key = \"server.key\"\ntls_client_ca = \"ca.pem\"\n\
         clients = \"clients.toml\"\n{daemon}"
    ));
    world.write_clients(ANY_CERTIFICATE);
    world.start_daemon();
    world.init_token();
    // The other machine has a file of its own.
    let config = world.dir().join("client.toml");
    let text = format!(
        "[shim]\nendpoint = \"https://127.0.0.1:{port}\"\nrequest_timeout_secs = 8\n\
         tls_ca = \"{ca}.pem\"\ntls_cert = \"{client}.pem\"\ntls_key = \"{client}.key\"\n"
    );
    fs::write(&config, text).expect("the world's directory is writable");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).expect("our own file");
    let mut command = world.command(std::env::current_exe().expect("the test binary is running"));
    command.env_remove("CRATON_HSM_SOCKET").env("CRATON_HSM_CONFIG", config).env(STORY, world.dir());
    let told = run(command.args([&test, "--exact", "--nocapture", "--test-threads=1"])).ok();
    assert!(told.text().contains("1 passed"), "{told}");
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").expect("the kernel says").count()
}

fn is_away(rv: RvError) -> bool {
    matches!(rv, RvError::DeviceRemoved | RvError::DeviceError)
}

#[test]
fn a_remote_daemon_serves_as_a_local_one_does() {
    beside_a_remote_daemon("a_remote_daemon_serves_as_a_local_one_does", "right", "ca", |_| {
        let before = threads();
        let token = Token::open();
        let session = token.user();
        let (public, private) = module::ec(&session, P256, token_object("key")).expect("a key");
        let found = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label("key".into())]);
        assert_eq!(found.expect("find"), [private]);
        let signature = session.sign(&Mechanism::EcdsaSha256, private, b"far away").expect("signs");
        session.verify(&Mechanism::EcdsaSha256, public, b"far away", &signature).expect("verifies");
        let forged = refused(session.verify(&Mechanism::EcdsaSha256, public, b"nearby", &signature));
        assert!(matches!(forged, RvError::SignatureInvalid), "{forged:?}");
        // More than fits into one HTTP/2 frame, both ways.
        let random = session.generate_random_vec(40_000).expect("random bytes");
        assert_eq!(random.len(), 40_000);
        let long = vec![7; 3 << 20];
        let signature = session.sign(&Mechanism::EcdsaSha256, private, &long).expect("signs");
        session.verify(&Mechanism::EcdsaSha256, public, &long, &signature).expect("verifies");
        assert_eq!(threads(), before, "the module started a thread");
    });
}

fn sign_at_once(threads: usize, each: usize) {
    let token = Token::open();
    let session = token.user();
    let (public, private) = module::ec(&session, P256, token_object("key")).expect("a key");
    let signatures: BTreeSet<Vec<u8>> = thread::scope(|scope| {
        let signers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let session = token.session();
                    let sign = || session.sign(&Mechanism::EcdsaSha256, private, b"at once").expect("signs");
                    (0..each).map(|_| sign()).collect::<Vec<_>>()
                })
            })
            .collect();
        signers.into_iter().flat_map(|signer| signer.join().expect("no panic")).collect()
    });
    assert_eq!(signatures.len(), threads * each, "each signature is another");
    for signature in &signatures {
        session.verify(&Mechanism::EcdsaSha256, public, b"at once", signature).expect("verifies");
    }
}

#[test]
fn many_threads_sign_at_once() {
    beside_a_remote_daemon("many_threads_sign_at_once", "right", "ca", |_| sign_at_once(8, 40));
}

/// However many connections the module opens, each gets more calls at once than it may carry: those wait, and none fails.
#[test]
fn more_threads_than_connections_carry_sign_at_once() {
    let name = "more_threads_than_connections_carry_sign_at_once";
    beside_a_daemon(name, "right", "ca", "max_streams = 1", |_| sign_at_once(100, 5));
}

fn is_kept_out() {
    let pkcs11 = module::load();
    let start = Instant::now();
    let slots = pkcs11.get_all_slots().expect("slots are listed");
    assert!(pkcs11.get_slots_with_initialized_token().expect("slots are listed").is_empty());
    for slot in slots {
        let rv = refused(pkcs11.open_rw_session(slot));
        assert!(is_away(rv) || matches!(rv, RvError::TokenNotPresent), "{rv:?}");
    }
    assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
}

#[test]
fn a_stranger_s_certificate_is_a_token_that_is_not_present() {
    let name = "a_stranger_s_certificate_is_a_token_that_is_not_present";
    beside_a_remote_daemon(name, "stranger", "ca", |_| is_kept_out());
}

#[test]
fn a_server_that_another_ca_vouches_for_is_not_spoken_to() {
    let name = "a_server_that_another_ca_vouches_for_is_not_spoken_to";
    beside_a_remote_daemon(name, "right", "other", |_| is_kept_out());
}

#[test]
fn a_restarted_remote_daemon_serves_the_same_process_again() {
    beside_a_remote_daemon("a_restarted_remote_daemon_serves_the_same_process_again", "right", "ca", |dir| {
        let token = Token::open();
        let session = token.user();
        let (_, key) = module::ec(&session, P256, token_object("key")).expect("a key");
        session.sign(&Mechanism::EcdsaSha256, key, b"it works").expect("signs");
        let log = dir.join("daemon.log");
        end_left_over(&log);
        while UnixStream::connect(dir.join("hsm.sock")).is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
        let start = Instant::now();
        let rv = refused(session.sign(&Mechanism::EcdsaSha256, key, b"gone"));
        assert!(is_away(rv), "{rv:?}");
        let rv = refused(token.pkcs11.open_rw_session(token.slot));
        assert!(is_away(rv) || matches!(rv, RvError::TokenNotPresent), "{rv:?}");
        assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
        let _daemon = Daemon::start(&dir.join("craton_hsm.toml"), &dir.join("hsm.sock"), &log).expect("starts again");
        let rv = refused(session.sign(&Mechanism::EcdsaSha256, key, b"an old session"));
        assert!(is_away(rv) || matches!(rv, RvError::SessionHandleInvalid), "{rv:?}");
        let next = token.user();
        let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label("key".into())];
        let key = next.find_objects(&template).expect("find")[0];
        next.sign(&Mechanism::EcdsaSha256, key, b"it works again").expect("signs");
        let rv = refused(session.sign(&Mechanism::EcdsaSha256, key, b"an old session"));
        assert!(matches!(rv, RvError::SessionHandleInvalid), "{rv:?}");
    });
}

#[test]
fn a_silent_remote_daemon_is_given_up_within_the_deadline() {
    beside_a_remote_daemon("a_silent_remote_daemon_is_given_up_within_the_deadline", "right", "ca", |dir| {
        let token = Token::open();
        let session = token.user();
        let (_, key) = module::ec(&session, P256, token_object("key")).expect("a key");
        let number = fs::read_to_string(dir.join("daemon.pid")).expect("the daemon's process id");
        let pid = number.parse().ok().and_then(Pid::from_raw).expect("a process id");
        let stat = || fs::read_to_string(format!("/proc/{number}/stat")).expect("the daemon lives");
        kill_process(pid, Signal::STOP).expect("our daemon");
        while !stat().contains(") T ") {
            thread::sleep(Duration::from_millis(5));
        }
        let start = Instant::now();
        let rv = refused(session.sign(&Mechanism::EcdsaSha256, key, b"silence"));
        let took = start.elapsed();
        kill_process(pid, Signal::CONT).expect("our daemon");
        assert!(is_away(rv) && took < DEADLINE, "{rv:?} after {took:?}");
        drop(session);
        let next = token.user();
        next.generate_random_vec(16).expect("random bytes");
    });
}

#[test]
fn a_forked_child_connects_for_itself() {
    if !available("remote::a_forked_child_connects_for_itself", "python3") {
        return;
    }
    beside_a_remote_daemon("a_forked_child_connects_for_itself", "right", "ca", |_| {
        run(Command::new("python3").arg(workspace().join("tests/testdata/fork.py"))).ok().says("parent goes on");
    });
}

#[test]
fn a_key_that_others_may_read_is_refused_at_initialisation() {
    beside_a_remote_daemon("a_key_that_others_may_read_is_refused_at_initialisation", "right", "ca", |dir| {
        let key: PathBuf = dir.join("right.key");
        let initialize = |mode| {
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("our own file");
            let pkcs11 = Pkcs11::new(module::path()).expect("the module loads");
            pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        };
        assert!(matches!(refused(initialize(0o640)), RvError::GeneralError));
        initialize(0o600).expect("a key that is its owner's alone");
    });
}
