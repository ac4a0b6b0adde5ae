//! The daemon dies and comes back under applications that work: what they hold then, which errors they get, and how those go on that
//! asked for it (`[shim] session_resume`). A daemon that stays away is another story: `daemon_away`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use acceptance::module::{P256, Token, refused, token_object};
use acceptance::worker::Worker;
use acceptance::world::{Carrier, World};
use acceptance::{module, module_test};
use cryptoki::context::Pkcs11;
use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

/// How often the daemon is killed under load.
const KILLS: usize = 4;
const RESUME: &str = "session_resume = true\nresume_wait_secs = 60\npin_cache = true";

/// The handles of the private keys by their labels.
fn keys(session: &Session) -> BTreeMap<String, ObjectHandle> {
    let label = |key| match module::attribute(session, key, AttributeType::Label) {
        Attribute::Label(label) => String::from_utf8_lossy(&label).into_owned(),
        other => panic!("{other:?}"),
    };
    let found = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]).expect("find");
    found.into_iter().map(|key| (label(key), key)).collect()
}

fn sign(session: &Session, key: ObjectHandle) -> Result<Vec<u8>, cryptoki::error::Error> {
    session.sign(&Mechanism::EcdsaSha256, key, b"across a restart")
}

module_test! {
    fn handles_keep_their_objects_and_name_no_others(world) {
        let token = Token::open();
        let session = token.user();
        for number in 0..6 {
            module::ec(&session, P256, token_object(&format!("key-{number}"))).expect("a key");
        }
        let before = keys(&session);
        let gone = before["key-5"];
        session.destroy_object(gone).expect("destroyed");
        world.crash_and_restart();
        let session = token.user();
        let mut after = keys(&session);
        for (label, key) in &after {
            assert_eq!(before[label], *key, "{label}");
        }
        assert_eq!(after.len(), 5);
        // The handle of what was destroyed is given to nobody else, also by the next run of the daemon.
        for number in 6..9 {
            let label = format!("key-{number}");
            let (public, private) = module::ec(&session, P256, token_object(&label)).expect("a key");
            assert!(before.values().all(|old| *old != private && *old != public), "{label}");
            after.insert(label, private);
        }
        assert!(matches!(refused(sign(&session, gone)), RvError::KeyHandleInvalid));
        world.crash_and_restart();
        assert_eq!(keys(&token.user()), after);
    }
}

fn present(pkcs11: &Pkcs11) -> usize {
    pkcs11.get_slots_with_token().expect("slots are listed").len()
}

module_test! {
    fn without_resumption_each_error_is_the_one_that_is_promised(world) {
        let token = Token::open();
        let session = token.user();
        let (_, key) = module::ec(&session, P256, token_object("key")).expect("a key");
        let slots = token.pkcs11.get_all_slots().expect("slots are listed").len();
        let event = || token.pkcs11.get_slot_event().expect("C_WaitForSlotEvent").map(|slot| slot.id());
        let events = || { let mut all: Vec<u64> = std::iter::from_fn(event).collect(); all.sort_unstable(); all };
        let every: Vec<u64> = (0..slots as u64).collect();
        assert_eq!(events(), [0_u64; 0]);

        world.take_daemon().kill();
        assert!(matches!(refused(sign(&session, key)), RvError::DeviceRemoved));
        assert!(matches!(refused(session.generate_random_vec(8)), RvError::DeviceRemoved));
        assert!(matches!(refused(token.pkcs11.open_rw_session(token.slot)), RvError::TokenNotPresent));
        assert_eq!((token.pkcs11.get_all_slots().expect("slots are listed").len(), present(&token.pkcs11)), (slots, 0));
        assert!(!token.pkcs11.get_slot_info(token.slot).expect("C_GetSlotInfo").token_present());
        assert!(matches!(refused(token.pkcs11.get_token_info(token.slot)), RvError::TokenNotPresent));
        assert_eq!(events(), every, "the tokens went");
        assert_eq!(events(), [0_u64; 0]);

        world.start_daemon();
        assert_eq!(events(), every, "the tokens came");
        assert_eq!(present(&token.pkcs11), slots);
        assert!(matches!(refused(sign(&session, key)), RvError::SessionHandleInvalid));
        let next = token.session();
        assert!(matches!(refused(sign(&next, key)), RvError::KeyHandleInvalid), "nobody is logged in");
        next.login(cryptoki::session::UserType::User, Some(&module::pin(acceptance::world::PIN))).expect("logs in");
        sign(&next, key).expect("the old handle of the key in a new session");
        assert!(matches!(refused(sign(&session, key)), RvError::SessionHandleInvalid));
    }
}

/// A world whose module resumes its sessions.
fn resuming() -> World {
    let mut world = World::unstarted();
    world.write_config(&world.config_with_shim(RESUME));
    world.start_daemon();
    world.init_token();
    world
}

#[test]
fn threads_that_sign_meet_no_error_when_sessions_resume() {
    let mut world = resuming();
    let go = world.dir().join("go");
    fs::write(&go, "").expect("the world's directory is writable");
    let mut workers = [Worker::start(&world), Worker::start(&world), Worker::start(&world)];
    for worker in &mut workers {
        worker.ok("open");
        worker.ok("login");
    }
    workers[0].ok("token-key busy");
    for worker in &mut workers {
        worker.say(&format!("sign-while {} busy 4", go.display()));
    }
    for _ in 0..KILLS {
        thread::sleep(Duration::from_millis(300));
        world.crash_and_restart();
    }
    thread::sleep(Duration::from_millis(300));
    fs::remove_file(&go).expect("our own file");
    for worker in &mut workers {
        let answer = worker.hear().expect("the worker lives");
        let signatures: u64 =
            answer.strip_prefix("ok ").and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{answer}"));
        assert!(signatures > 4, "{signatures} signatures");
        assert_eq!(worker.ok("state"), "RwUser");
    }
    // The PIN was kept in memory that the process may lock; nobody else is logged in by it.
    let mut other = Worker::opened(&world);
    assert_eq!(other.ok("state"), "RwPublic");
}

#[test]
fn objects_are_changed_once_or_not_at_all_under_kills() {
    let mut world = resuming();
    let mut worker = Worker::entered(&world);
    let mut acknowledged = Vec::new();
    for round in 0..KILLS {
        worker.say(&format!("create-some round{round} 40"));
        thread::sleep(Duration::from_millis(60));
        world.crash_and_restart();
        let answer = worker.hear().expect("the worker lives");
        let labels = answer.strip_prefix("ok ").unwrap_or_else(|| panic!("{answer}"));
        acknowledged.extend(labels.split_whitespace().map(str::to_owned));
    }
    let labels = worker.ok("labels");
    let mut seen: Vec<&str> = labels.split_whitespace().collect();
    let all = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), all, "a key was made twice");
    for label in &acknowledged {
        assert!(seen.binary_search(&label.as_str()).is_ok(), "{label} is lost");
    }
    // What was under way when the daemon died may be there or not; at most one at a time was.
    assert!(all >= acknowledged.len() && all <= acknowledged.len() + KILLS, "{all} keys, {} known", acknowledged.len());
}

#[test]
fn a_search_goes_on_and_what_was_the_sessions_own_is_gone() {
    let mut world = resuming();
    let mut worker = Worker::entered(&world);
    for label in ["one", "two", "three"] {
        worker.ok(&format!("token-key {label}"));
    }
    let object = worker.ok("session-object mine");
    // Begins a search, an update of a signature and an Init; each goes on after the restart, or says that it cannot.
    worker.ok("begin-across one");
    world.crash_and_restart();
    assert_eq!(worker.ok("end-across"), "found 8 update CKR_OPERATION_NOT_INITIALIZED sign ok");
    assert_eq!(worker.ok("count mine"), "0");
    assert!(worker.ok(&format!("sign-with-handle {object}")).starts_with("rv 0x60"), "CKR_KEY_HANDLE_INVALID");
    worker.ok("logout");
    world.crash_and_restart();
    assert_eq!(worker.ok("state"), "RwPublic", "a logout forgets the PIN");
}

/// Stands between a module and the daemon, and once swallows an answer and hangs up.
struct Between {
    armed: Arc<AtomicBool>,
}

impl Between {
    fn open(world: &World, place: &Path) -> Between {
        let listener = UnixListener::bind(place).expect("the world's directory is writable");
        let armed = Arc::new(AtomicBool::new(false));
        let (socket, trap) = (world.socket(), Arc::clone(&armed));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(daemon)) = (client, UnixStream::connect(&socket)) else { continue };
                let (to, from) = (daemon.try_clone().expect("a handle"), client.try_clone().expect("a handle"));
                thread::spawn(move || copy(from, to, &AtomicBool::new(false)));
                let trap = Arc::clone(&trap);
                thread::spawn(move || copy(daemon, client, &trap));
            }
        });
        Between { armed }
    }
}

fn copy(mut from: UnixStream, mut to: UnixStream, trap: &AtomicBool) {
    let mut buffer = vec![0; 65536];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if trap.swap(false, Ordering::SeqCst) || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    from.shutdown(std::net::Shutdown::Both).ok();
    to.shutdown(std::net::Shutdown::Both).ok();
}

#[test]
fn an_answer_that_was_lost_is_asked_for_and_nothing_is_done_twice() {
    let mut world = World::unstarted_for(Carrier::Express);
    world.start_daemon();
    world.init_token();
    let place = world.dir().join("between.sock");
    let between = Between::open(&world, &place);
    let mut worker = Worker::start_with(world.command(Worker::program()).env("CRATON_HSM_SOCKET", &place));
    let mut witness = Worker::entered(&world);
    for round in 0..3 {
        // The only connection of the application was cut. Its sessions went with it, unless the next one came before that was noticed.
        worker.ok("open");
        if worker.ok("state") == "RwPublic" {
            worker.ok("login");
        }
        let label = format!("once-{round}");
        between.armed.store(true, Ordering::SeqCst);
        let key = worker.ok(&format!("token-key {label}"));
        assert!(!between.armed.load(Ordering::SeqCst), "the answer was lost");
        assert_eq!(witness.ok(&format!("count {label}")), "2", "a pair, made once");
        assert!(witness.ok(&format!("sign-with-handle {key}")).starts_with("rv 0x0"), "the handle that was told");
    }
}

#[test]
fn a_daemon_that_comes_late_is_found_by_the_next_call() {
    let mut world = World::unstarted();
    world.write_config(&world.config_with_shim(RESUME));
    // Before there ever was a daemon nothing is waited for: a program without its token goes on.
    let mut worker = Worker::start(&world);
    assert!(worker.ask("open").starts_with("error"));
    world.start_daemon();
    world.init_token();
    worker.ok("open");
    worker.ok("login");
    assert_eq!(worker.ok("state"), "RwUser");
}
