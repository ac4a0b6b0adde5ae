//! Two applications on one token: each has its own sessions, login, session objects; one that vanishes leaves nothing behind.

use std::thread;
use std::time::{Duration, Instant};

use acceptance::worker::Worker;
use acceptance::world::World;
use cryptoki_sys::{CKR_KEY_HANDLE_INVALID, CKR_OBJECT_HANDLE_INVALID, CKR_SESSION_HANDLE_INVALID};

#[test]
fn two_processes_log_in_independently() {
    let world = World::start();
    let (mut one, mut two) = (Worker::start(&world), Worker::start(&world));
    one.ok("open");
    two.ok("open");
    one.ok("login");
    assert_eq!((one.ok("state"), two.ok("state")), ("RwUser".into(), "RwPublic".into()));
    two.ok("login");
    one.ok("logout");
    assert_eq!((one.ok("state"), two.ok("state")), ("RwPublic".into(), "RwUser".into()));
}

#[test]
fn one_process_cannot_use_the_sessions_of_another() {
    let world = World::start();
    let (mut one, mut two) = (Worker::start(&world), Worker::start(&world));
    let mine = one.ok("open");
    two.ok("open");
    two.ok("login");
    // Handles may look alike in two processes: what matters is that none reaches the other's session.
    for _ in 0..20 {
        one.ok("open");
    }
    let newest = one.ok("open");
    let answer = two.ok(&format!("state-of {newest}"));
    assert_eq!(answer, format!("rv {CKR_SESSION_HANDLE_INVALID:#x}"));
    let answer = two.ok(&format!("state-of {mine}"));
    // The same number may be its own session; then it must show its own login, not the other's public state (2: R/W public, 3: R/W user).
    assert!(answer == format!("rv {CKR_SESSION_HANDLE_INVALID:#x}") || answer == "state 3", "{answer}");
}

#[test]
fn session_objects_are_seen_by_their_own_process_only() {
    let world = World::start();
    let (mut one, mut two) = (Worker::start(&world), Worker::start(&world));
    for worker in [&mut one, &mut two] {
        worker.ok("open");
        worker.ok("login");
    }
    let object = one.ok("session-object mine");
    one.ok("token-key shared");
    assert_eq!((one.ok("count mine"), two.ok("count mine")), ("2".into(), "0".into()));
    assert_eq!((one.ok("count shared"), two.ok("count shared")), ("2".into(), "2".into()));
    let answer = two.ok(&format!("sign-with-handle {object}"));
    let refused = [CKR_KEY_HANDLE_INVALID, CKR_OBJECT_HANDLE_INVALID].map(|rv| format!("rv {rv:#x}"));
    assert!(refused.contains(&answer), "{answer}");
}

#[test]
fn a_vanished_process_leaves_no_session_and_no_login() {
    let world = World::start();
    let sessions = || world.admin_json(["status"])["sessions"].as_u64().expect("a number");
    let applications = || world.admin_json(["status"])["applications"].as_u64().expect("a number");
    let (before, alone) = (sessions(), applications());
    let mut doomed = Worker::start(&world);
    for _ in 0..5 {
        doomed.ok("open");
    }
    doomed.ok("login");
    doomed.ok("session-object temporary");
    assert_eq!(sessions(), before + 5);
    assert!(applications() > alone);
    doomed.vanish();
    let deadline = Instant::now() + Duration::from_secs(180);
    while sessions() != before || applications() != alone {
        assert!(Instant::now() < deadline, "{} sessions are left, {} applications", sessions(), applications());
        thread::sleep(Duration::from_millis(50));
    }
    let mut next = Worker::opened(&world);
    assert_eq!(next.ok("state"), "RwPublic");
}

#[test]
fn ten_thousand_signatures_by_two_processes_of_eight_threads_all_verify() {
    let world = World::start();
    let (mut one, mut two) = (Worker::start(&world), Worker::start(&world));
    for worker in [&mut one, &mut two] {
        worker.ok("open");
        worker.ok("login");
    }
    one.ok("token-key busy");
    // 2 processes x 8 threads x 625 signatures.
    one.say("sign busy 8 625");
    two.say("sign busy 8 625");
    assert_eq!((one.hear().as_deref(), two.hear().as_deref()), (Some("ok 5000"), Some("ok 5000")));
}
