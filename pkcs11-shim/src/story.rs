//! Conversations with a daemon, told through the handlers: what is asked of it and what is not, and what happens when it
//! hangs up, falls silent, goes away or comes back.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ck::Rv;
use ck::attribute::*;
use ck::flags::mechanism::{CKF_FIND_OBJECTS, CKF_SIGN};
use ck::flags::session::CKF_SERIAL_SESSION;
use ck::flags::user::{CKU_CONTEXT_SPECIFIC, CKU_USER};
use ck::mechanism::*;
use ck::rv::*;
use cryptoki_sys::CK_UNAVAILABLE_INFORMATION;

use crate::fake::{Daemon, KEY, Mood, SIGNATURE, config};
use crate::ffi::claim::over;
use crate::fns::{digest, encrypt, object, random, session, sign, slot, verify};
use crate::library::Run;

struct World {
    run: Run,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        World::with_timeout(Duration::from_secs(60))
    }

    fn with_timeout(request_timeout: Duration) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("hsm.sock");
        World { run: Run::new(&config(&path, request_timeout)), path, _folder: folder }
    }

    fn with_daemon() -> (Self, Daemon) {
        let world = World::new();
        let daemon = Daemon::start(&world.path, 1);
        (world, daemon)
    }

    fn open(&self) -> Result<u64, Rv> {
        let mut handle = 0;
        session::open(&self.run, 0, CKF_SERIAL_SESSION, over::place(&mut handle))?;
        Ok(handle)
    }

    fn sign_init(&self, handle: u64) -> Result<(), Rv> {
        sign::init(&self.run, handle, over::mechanism(&over::plain(CKM_ECDSA)), KEY)
    }

    fn sign(&self, handle: u64, data: &[u8]) -> Result<Vec<u8>, Rv> {
        let (mut buffer, mut len) = ([0; 80], 0);
        sign::sign(&self.run, handle, over::bytes(data), over::buffer(&mut buffer, &mut len))?;
        Ok(buffer[..len as usize].to_vec())
    }

    fn init_and_sign(&self, handle: u64) -> Result<Vec<u8>, Rv> {
        self.sign_init(handle)?;
        self.sign(handle, b"digest")
    }
}

#[test]
fn a_signature_is_one_message_once_the_key_is_known() {
    let (world, daemon) = World::with_daemon();
    let handle = world.open().expect("opened");
    assert_eq!(world.init_and_sign(handle), Ok(SIGNATURE.to_vec()));
    assert_eq!(daemon.asked(), ["Attach", "OpenSession", "Mechanisms", "Snapshot", "OneShot"]);
    assert_eq!(world.init_and_sign(handle), Ok(SIGNATURE.to_vec()));
    assert_eq!(daemon.asked(), ["OneShot"]);
}

#[test]
fn a_length_query_and_a_short_buffer_send_nothing_and_keep_the_operation() {
    let (world, daemon) = World::with_daemon();
    let handle = world.open().expect("opened");
    world.sign_init(handle).expect("begun");
    daemon.asked();
    let mut len = 0;
    assert_eq!(sign::sign(&world.run, handle, over::bytes(b"digest"), over::query(&mut len)), Ok(()));
    assert_eq!(len, 64);
    let mut short = [0; 63];
    let out = over::buffer(&mut short, &mut len);
    assert_eq!(sign::sign(&world.run, handle, over::bytes(b"digest"), out), Err(CKR_BUFFER_TOO_SMALL));
    assert_eq!((len, daemon.asked().len()), (64, 0));
    assert_eq!(world.sign(handle, b"digest"), Ok(SIGNATURE.to_vec()));
    assert_eq!(world.sign(handle, b"digest"), Err(CKR_OPERATION_NOT_INITIALIZED));
}

#[test]
fn every_other_error_ends_the_operation() {
    let (world, _daemon) = World::with_daemon();
    let handle = world.open().expect("opened");
    let mut buffer = [0; 80];
    let mut len = 0;
    world.sign_init(handle).expect("begun");
    assert_eq!(sign::sign(&world.run, handle, over::bytes(b"x"), over::nowhere()), Err(CKR_ARGUMENTS_BAD));
    assert_eq!(world.sign(handle, b"x"), Err(CKR_OPERATION_NOT_INITIALIZED));
    world.sign_init(handle).expect("begun");
    let out = over::buffer(&mut buffer, &mut len);
    assert_eq!(sign::sign(&world.run, handle, over::no_bytes(5), out), Err(CKR_ARGUMENTS_BAD));
    assert_eq!(world.sign(handle, b"x"), Err(CKR_OPERATION_NOT_INITIALIZED));
    world.sign_init(handle).expect("begun");
    assert_eq!(world.sign(handle, b"refuse"), Err(CKR_DATA_LEN_RANGE));
    assert_eq!(world.sign(handle, b"x"), Err(CKR_OPERATION_NOT_INITIALIZED));
}

#[test]
fn init_refuses_what_the_key_or_the_mechanism_does_not_allow() {
    let (world, _daemon) = World::with_daemon();
    let run = &world.run;
    let handle = world.open().expect("opened");
    let plain = over::plain;
    let begin = |number, key| sign::init(run, handle, over::mechanism(&plain(number)), key);
    assert_eq!(begin(CKM_RSA_PKCS, KEY), Err(CKR_KEY_TYPE_INCONSISTENT));
    assert_eq!(begin(CKM_AES_GCM, KEY), Err(CKR_MECHANISM_INVALID));
    assert_eq!(begin(CKM_SHA256, KEY), Err(CKR_MECHANISM_INVALID));
    assert_eq!(begin(CKM_ECDSA, 5), Err(CKR_KEY_HANDLE_INVALID));
    let ecdsa = plain(CKM_ECDSA);
    assert_eq!(verify::init(run, handle, over::mechanism(&ecdsa), KEY), Err(CKR_KEY_TYPE_INCONSISTENT));
    assert_eq!(encrypt::init(run, handle, over::mechanism(&ecdsa), KEY), Err(CKR_MECHANISM_INVALID));
    assert_eq!(sign::init(run, 99, over::mechanism(&ecdsa), KEY), Err(CKR_SESSION_HANDLE_INVALID));
    assert_eq!(sign::init(run, handle, over::no_mechanism(), KEY), Err(CKR_ARGUMENTS_BAD));
    assert_eq!(begin(CKM_ECDSA, KEY), Ok(()));
    assert_eq!(begin(CKM_ECDSA, KEY), Err(CKR_OPERATION_ACTIVE));
    assert_eq!(sign::init(run, handle, over::no_mechanism(), 0), Ok(()));
    assert_eq!(begin(CKM_ECDSA, KEY), Ok(()));
    assert_eq!(session::cancel(run, handle, CKF_SIGN | CKF_FIND_OBJECTS), Ok(()));
    assert_eq!(world.sign(handle, b"x"), Err(CKR_OPERATION_NOT_INITIALIZED));
}

#[test]
fn multi_part_opens_with_the_first_update_and_cancel_is_said() {
    let (world, daemon) = World::with_daemon();
    let handle = world.open().expect("opened");
    world.sign_init(handle).expect("begun");
    sign::update(&world.run, handle, over::bytes(b"one")).expect("taken");
    assert_eq!(world.sign(handle, b"two"), Err(CKR_OPERATION_NOT_INITIALIZED));
    assert!(daemon.asked().ends_with(&["Update".into(), "Cancel".into()]));
    world.sign_init(handle).expect("begun");
    // Longer than a message of the fake: three Updates.
    sign::update(&world.run, handle, over::bytes(&[1; 150_000])).expect("taken");
    let (mut buffer, mut len) = ([0; 64], 0);
    sign::finish(&world.run, handle, over::buffer(&mut buffer, &mut len)).expect("signed");
    assert_eq!((buffer, len), (SIGNATURE, 64));
    assert_eq!(daemon.asked(), ["Update", "Update", "Update", "Final"]);
}

#[test]
fn a_one_shot_longer_than_a_message_goes_in_parts() {
    let (world, daemon) = World::with_daemon();
    let handle = world.open().expect("opened");
    world.sign_init(handle).expect("begun");
    daemon.asked();
    assert_eq!(world.sign(handle, &[7; 100_000]), Ok(SIGNATURE.to_vec()));
    assert_eq!(daemon.asked(), ["Update", "Update", "Final"]);
}

#[test]
fn attributes_come_from_memory_until_the_generation_moves() {
    let (world, daemon) = World::with_daemon();
    let handle = world.open().expect("opened");
    object::find_init(&world.run, handle, over::rows(&mut [])).expect("found");
    object::find_final(&world.run, handle).expect("ended");
    daemon.asked();
    let mut rows = [over::row(CKA_LABEL), over::row(CKA_SUBJECT)];
    let ask = |rows: &mut [_]| object::attributes(&world.run, handle, KEY, over::rows(rows));
    assert_eq!(ask(&mut rows), Err(CKR_ATTRIBUTE_TYPE_INVALID));
    assert_eq!((rows[0].ulValueLen, rows[1].ulValueLen), (5, CK_UNAVAILABLE_INFORMATION));
    assert_eq!(daemon.asked().len(), 0);
    assert_eq!(ask(&mut [over::row(CKA_VALUE)]), Err(CKR_ATTRIBUTE_SENSITIVE));
    assert_eq!(daemon.asked(), ["GetAttributes"]);
    daemon.move_generation();
    let mut byte = [0];
    random::generate(&world.run, handle, over::exact(&mut byte)).expect("random");
    let mut rows = [over::row(CKA_LABEL)];
    assert_eq!(ask(&mut rows), Ok(()));
    assert_eq!(rows[0].ulValueLen, 15);
    assert_eq!(daemon.asked(), ["Random", "GetAttributes"]);
}

#[test]
fn random_bytes_are_asked_for_in_pieces() {
    let (world, daemon) = World::with_daemon();
    let handle = world.open().expect("opened");
    daemon.asked();
    let mut buffer = [0; 70];
    random::generate(&world.run, handle, over::exact(&mut buffer)).expect("random");
    assert_eq!((buffer, daemon.asked().len()), ([9; 70], 3));
}

#[test]
fn digests_need_no_key() {
    let (world, _daemon) = World::with_daemon();
    let handle = world.open().expect("opened");
    digest::init(&world.run, handle, over::mechanism(&over::plain(CKM_SHA256))).expect("begun");
    let (mut buffer, mut len) = ([0; 64], 0);
    assert_eq!(digest::digest(&world.run, handle, over::bytes(b""), over::buffer(&mut buffer, &mut len)), Ok(()));
}

#[test]
fn a_pin_is_needed_and_a_context_login_needs_an_operation() {
    let (world, _daemon) = World::with_daemon();
    let handle = world.open().expect("opened");
    let login = |user, pin| session::login(&world.run, handle, user, pin);
    assert_eq!(login(CKU_USER, over::no_bytes(0)), Err(CKR_ARGUMENTS_BAD));
    assert_eq!(login(CKU_USER, over::bytes(b"0000")), Err(CKR_PIN_INCORRECT));
    assert_eq!(login(CKU_USER, over::bytes(b"1234")), Ok(()));
    assert_eq!(login(CKU_CONTEXT_SPECIFIC, over::bytes(b"1234")), Err(CKR_OPERATION_NOT_INITIALIZED));
    world.sign_init(handle).expect("begun");
    assert_eq!(login(CKU_CONTEXT_SPECIFIC, over::bytes(b"1234")), Ok(()));
}

#[test]
fn a_logout_ends_the_operations_of_every_session() {
    let (world, _daemon) = World::with_daemon();
    let (one, other) = (world.open().expect("opened"), world.open().expect("opened"));
    world.sign_init(one).expect("begun");
    object::find_init(&world.run, one, over::rows(&mut [])).expect("found");
    assert_eq!(session::logout(&world.run, other), Ok(()));
    assert_eq!(world.sign(one, b"x"), Err(CKR_OPERATION_NOT_INITIALIZED));
    assert_eq!(object::find_final(&world.run, one), Err(CKR_OPERATION_NOT_INITIALIZED));
}

#[test]
fn without_a_daemon_there_are_slots_and_no_tokens() {
    let world = World::new();
    let mut count = 9;
    assert_eq!(slot::list(&world.run, false, over::count(&mut count)), Ok(()));
    assert_eq!(count, 1);
    assert_eq!(slot::list(&world.run, true, over::count(&mut count)), Ok(()));
    assert_eq!(count, 0);
    assert_eq!(world.open(), Err(CKR_TOKEN_NOT_PRESENT));
    let daemon = Daemon::start(&world.path, 1);
    assert_eq!(slot::list(&world.run, true, over::count(&mut count)), Ok(()));
    assert_eq!(count, 1);
    drop(daemon);
    let mut ids = [7; 4];
    assert_eq!(slot::list(&world.run, false, over::count(&mut count)), Ok(()));
    assert_eq!(slot::list(&world.run, false, over::list(&mut ids, &mut count)), Ok(()));
    assert_eq!((count, &ids[..2]), (2, &[0, 1][..]));
}

#[test]
fn a_restart_ends_old_sessions_and_a_fresh_one_works() {
    let (world, daemon) = World::with_daemon();
    let old = world.open().expect("opened");
    world.init_and_sign(old).expect("signed");
    world.sign_init(old).expect("begun");
    drop(daemon);
    assert_eq!(world.sign(old, b"x"), Err(CKR_DEVICE_REMOVED));
    assert_eq!(session::logout(&world.run, old), Err(CKR_DEVICE_REMOVED));
    // Without a PIN the token is asked first whether it needs one.
    assert_eq!(session::login(&world.run, old, CKU_USER, over::no_bytes(0)), Err(CKR_DEVICE_REMOVED));
    assert_eq!(world.open(), Err(CKR_TOKEN_NOT_PRESENT));
    let _again = Daemon::start(&world.path, 2);
    assert_eq!(session::logout(&world.run, old), Err(CKR_SESSION_HANDLE_INVALID));
    let fresh = world.open().expect("opened");
    assert_ne!(fresh, old);
    assert_eq!(world.init_and_sign(fresh), Ok(SIGNATURE.to_vec()));
    assert_eq!(world.init_and_sign(old), Err(CKR_SESSION_HANDLE_INVALID));
}

#[test]
fn a_daemon_that_dies_in_a_call_is_a_device_error() {
    let (world, daemon) = World::with_daemon();
    let handle = world.open().expect("opened");
    daemon.set_mood(Mood::HangsUp);
    let begun = Instant::now();
    assert_eq!(world.init_and_sign(handle), Err(CKR_DEVICE_ERROR));
    assert!(begun.elapsed() < Duration::from_secs(60), "it is noticed at once, not at the deadline");
}

#[test]
fn a_connection_that_breaks_is_replaced_while_the_application_lives() {
    let (world, daemon) = World::with_daemon();
    let handle = world.open().expect("opened");
    daemon.set_mood(Mood::HangsUpOnce);
    assert_eq!(world.init_and_sign(handle), Ok(SIGNATURE.to_vec()));
    let asked = daemon.asked();
    assert_eq!(asked.iter().filter(|name| *name == "OneShot").count(), 2, "{asked:?}");
}

#[test]
fn a_silent_daemon_is_a_device_error_at_the_deadline() {
    const DEADLINE: Duration = Duration::from_secs(2);
    let world = World::with_timeout(DEADLINE);
    let daemon = Daemon::start(&world.path, 1);
    let handle = world.open().expect("opened");
    daemon.set_mood(Mood::Silent);
    let begun = Instant::now();
    assert_eq!(world.init_and_sign(handle), Err(CKR_DEVICE_ERROR));
    let took = begun.elapsed();
    assert!(took >= DEADLINE && took < 30 * DEADLINE, "{took:?}");
    daemon.set_mood(Mood::Normal);
    assert_eq!(world.init_and_sign(handle), Ok(SIGNATURE.to_vec()));
}

#[test]
fn many_threads_share_few_connections() {
    let (world, daemon) = World::with_daemon();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let handle = world.open().expect("opened");
                for _ in 0..200 {
                    assert_eq!(world.init_and_sign(handle), Ok(SIGNATURE.to_vec()));
                }
            });
        }
    });
    let asked = daemon.asked();
    let count = |wanted: &str| asked.iter().filter(|name| *name == wanted).count();
    assert_eq!(count("OneShot"), 3200);
    let lanes = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 64);
    assert!(count("Attach") <= lanes, "{} connections", count("Attach"));
}

#[test]
fn finalize_frees_who_waits() {
    let (world, daemon) = World::with_daemon();
    let handle = world.open().expect("opened");
    daemon.set_mood(Mood::Silent);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| world.init_and_sign(handle));
        while !daemon.asked().contains(&"OneShot".to_owned()) {
            std::thread::yield_now();
        }
        world.run.finalize();
        assert_eq!(waiting.join().expect("no panic"), Err(CKR_CRYPTOKI_NOT_INITIALIZED));
    });
}
