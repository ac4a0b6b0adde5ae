//! Rows that need another process, a restart, or wrong PINs: A27, A28, A30.

use std::collections::HashSet;

use acceptance::raw::key::{Call, number};
use acceptance::worker::Worker;
use acceptance::world::{PIN, World};
use acceptance::{module, module_test};
use cryptoki_sys::*;

use crate::target::{Target, is};

#[test]
fn a27_another_applications_session_and_login() {
    let world = World::start();
    let (mut one, mut two) = (Worker::start(&world), Worker::start(&world));
    // More sessions than the other has, so that the last one's number is none of the other's.
    let sessions: Vec<String> = (0..4).map(|_| one.ok("open")).collect();
    one.ok("login");
    two.ok("open");
    assert_eq!(two.ok("state"), "RwPublic", "the login of one application is none of another's");
    let last = sessions.last().expect("four were opened");
    assert_eq!(two.ok(&format!("state-of {last}")), format!("rv {CKR_SESSION_HANDLE_INVALID:#x}"));
}

module_test! {
    fn a28_pin_guessing(_world) {
        let raw = acceptance::raw::Raw::load(&module::path());
        assert_eq!(raw.initialize(), CKR_OK);
        let slot = raw.slots().expect("slots")[0];
        let session = raw.open_session(slot).expect("a session");
        let wrong: Vec<_> = (0..5).map(|n| raw.login(session, &format!("wrong-pin-{n}"))).collect();
        assert_eq!(wrong, [CKR_PIN_INCORRECT; 5]);
        // Whoever has guessed five times waits; the right PIN is not even compared.
        for _ in 0..20 {
            assert_eq!(raw.login(session, PIN), CKR_FUNCTION_FAILED);
        }
    }
}

module_test! {
    fn a30_handles_are_never_used_twice(world) {
        let mut seen = HashSet::new();
        let data = |token: bool| {
            vec![(CKA_CLASS, number(CKO_DATA)), is(CKA_TOKEN, token), (CKA_VALUE, b"short-lived".to_vec())]
        };
        let target = Target::craton();
        let mut last = 0;
        for round in 0..2000 {
            let object = target.raw.create(target.session, &data(round % 100 == 0)).expect("an object");
            assert!(seen.insert(object), "{object} was given before");
            assert_eq!(target.raw.destroy(target.session, object), CKR_OK);
            last = object;
        }
        assert_eq!(target.raw.get(target.session, last, CKA_VALUE), Err(CKR_OBJECT_HANDLE_INVALID));
        let keeper = target.raw.create(target.session, &data(true)).expect("an object");
        drop(target);
        world.crash_and_restart();
        let again = acceptance::raw::Raw::load(&module::path());
        assert_eq!(again.finalize(), CKR_OK);
        let target = Target::craton();
        assert!(target.raw.get(target.session, keeper, CKA_VALUE).is_ok(), "a token object keeps its handle");
        seen.insert(keeper);
        for round in 0..500 {
            let object = target.raw.create(target.session, &data(round % 100 == 0)).expect("an object");
            assert!(seen.insert(object), "{object} was given before the restart");
            assert_eq!(target.raw.destroy(target.session, object), CKR_OK);
        }
        assert_eq!(target.raw.destroy(target.session, last), CKR_OBJECT_HANDLE_INVALID);
        let call = Call::plain(CKM_AES_KEY_WRAP);
        assert!(target.raw.wrap(target.session, &call, last, last).is_err());
    }
}
