//! Slots and tokens (PKCS#11 v3.0 §5.5), PIN administration included.

use acceptance::module::{Token, load, pin, refused, token_object};
use acceptance::raw::Raw;
use acceptance::worker::Worker;
use acceptance::world::{LABEL, PIN, SO_PIN, World};
use acceptance::{module, module_test};
use cryptoki::error::{Error, RvError};
use cryptoki::object::Attribute;
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::{Limit, Slot};
use cryptoki_sys::{CKR_OK, CKR_PIN_INCORRECT};

module_test! {
    fn token_info_says_initialised_with_a_user_pin(_world) {
        let token = Token::open();
        let info = token.pkcs11.get_token_info(token.slot).expect("C_GetTokenInfo");
        assert_eq!(info.label().trim_end(), LABEL);
        assert!(info.token_initialized() && info.user_pin_initialized() && info.login_required() && info.rng());
        assert!(!info.user_pin_locked() && !info.write_protected());
        assert!(!info.serial_number().trim().is_empty());
    }
}

module_test! {
    fn init_token_with_a_wrong_so_pin_changes_nothing(_world) {
        let token = Token::open();
        let session = token.user();
        module::ec(&session, module::P256, token_object("kept")).expect("a key");
        // The standard allows C_InitToken only when no session is open.
        drop(session);
        let raw = Raw::load(&module::path());
        assert_eq!(raw.init_token(token.slot.id(), "not-the-so-pin", "other"), CKR_PIN_INCORRECT);
        let info = token.pkcs11.get_token_info(token.slot).expect("the token is still there");
        assert_eq!(info.label().trim_end(), LABEL);
        let session = token.user();
        assert_eq!(session.find_objects(&[Attribute::Label("kept".into())]).expect("find").len(), 2);
    }
}

module_test! {
    fn init_token_with_the_so_pin_empties_the_token(_world) {
        let token = Token::open();
        let session = token.user();
        module::ec(&session, module::P256, token_object("gone")).expect("a key");
        drop(session);
        let raw = Raw::load(&module::path());
        assert_eq!(raw.init_token(token.slot.id(), SO_PIN, "again"), CKR_OK);
        let info = token.pkcs11.get_token_info(token.slot).expect("the token is still there");
        assert_eq!((info.label().trim_end(), info.user_pin_initialized()), ("again", false));
        let so = token.so();
        so.init_pin(&pin(PIN)).expect("the SO sets a user PIN");
        so.logout().expect("logout");
        let session = token.user();
        assert!(session.find_objects(&[]).expect("find").is_empty());
    }
}

module_test! {
    fn so_reset_of_the_user_pin_loses_no_object(_world) {
        let token = Token::open();
        let session = token.user();
        let (_, private) = module::ec(&session, module::P256, token_object("kept")).expect("a key");
        session.sign(&cryptoki::mechanism::Mechanism::EcdsaSha256, private, b"before").expect("signs");
        session.logout().expect("logout");
        drop(session);
        let so = token.so();
        so.init_pin(&pin("another-pin-99")).expect("the SO resets the PIN");
        so.logout().expect("logout");
        let session = token.session();
        assert!(matches!(refused(session.login(UserType::User, Some(&pin(PIN)))), RvError::PinIncorrect));
        session.login(UserType::User, Some(&pin("another-pin-99"))).expect("the new PIN opens");
        let keys = session.find_objects(&[Attribute::Label("kept".into()), Attribute::Sign(true)]).expect("find");
        session.sign(&cryptoki::mechanism::Mechanism::EcdsaSha256, keys[0], b"after").expect("the key still signs");
    }
}

module_test! {
    fn set_pin_replaces_the_pin_and_wants_the_old_one(_world) {
        let token = Token::open();
        let session = token.user();
        assert!(matches!(refused(session.set_pin(&pin("not-the-pin"), &pin("new-pin-5678"))), RvError::PinIncorrect));
        session.set_pin(&pin(PIN), &pin("new-pin-5678")).expect("the PIN changes");
        session.logout().expect("logout");
        assert!(matches!(refused(session.login(UserType::User, Some(&pin(PIN)))), RvError::PinIncorrect));
        session.login(UserType::User, Some(&pin("new-pin-5678"))).expect("the new PIN opens");
    }
}

module_test! {
    fn a_new_pin_outside_the_limits_is_refused(_world) {
        let token = Token::open();
        let session = token.user();
        for bad in ["short", &"x".repeat(300)] {
            assert!(matches!(refused(session.set_pin(&pin(PIN), &pin(bad))), RvError::PinLenRange | RvError::PinInvalid), "{}", bad.len());
        }
        session.logout().expect("logout");
        session.login(UserType::User, Some(&pin(PIN))).expect("the old PIN still opens");
    }
}

module_test! {
    fn wrong_pins_lock_the_user_and_the_so_unlocks(world) {
        // Lowest limits that the daemon accepts; the count is kept by the daemon, so a restart forgives nothing.
        world.stop_daemon();
        let standard = world.standard_config();
        world.write_config(&standard.replace("[security]\n", "[security]\nmax_failed_logins = 3\n"));
        world.start_daemon();
        let token = Token::open();
        let session = token.session();
        let wrong = || refused(session.login(UserType::User, Some(&pin("wrong-pin-000"))));
        assert!(matches!(wrong(), RvError::PinIncorrect));
        assert!(matches!(wrong(), RvError::PinIncorrect));
        let third = wrong();
        assert!(matches!(third, RvError::PinIncorrect | RvError::PinLocked), "{third:?}");
        assert!(matches!(refused(session.login(UserType::User, Some(&pin(PIN)))), RvError::PinLocked));
        assert!(token.pkcs11.get_token_info(token.slot).expect("info").user_pin_locked());
        drop(session);
        let so = token.so();
        so.init_pin(&pin(PIN)).expect("the SO resets the PIN");
        so.logout().expect("logout");
        token.user();
    }
}

module_test! {
    fn a_slot_that_does_not_exist_is_refused(_world) {
        let raw = Raw::load(&module::path());
        let _module = load();
        assert_eq!(raw.open_session(987_654), Err(cryptoki_sys::CKR_SLOT_ID_INVALID));
        assert_eq!(raw.mechanisms(987_654), Err(cryptoki_sys::CKR_SLOT_ID_INVALID));
    }
}

module_test! {
    fn every_listed_mechanism_has_an_info(_world) {
        let token = Token::open();
        let raw = Raw::load(&module::path());
        let list = raw.mechanisms(token.slot.id()).expect("C_GetMechanismList");
        assert!(list.len() > 30, "only {} mechanisms", list.len());
        for mechanism in list {
            let flags = raw.mechanism_flags(token.slot.id(), mechanism);
            assert!(flags.is_ok_and(|flags| flags != 0), "{mechanism:#x}: {flags:?}");
        }
    }
}

module_test! {
    fn no_slot_event_is_pending(_world) {
        let token = Token::open();
        match token.pkcs11.get_slot_event() {
            Ok(None) | Err(Error::Pkcs11(RvError::NoEvent, _)) => {}
            other => panic!("C_WaitForSlotEvent(DONT_BLOCK): {other:?}"),
        }
    }
}

/// The standard configuration with more keys in its `[token]` table, taken up by a new daemon.
fn restart_with(world: &mut World, token: &str) {
    world.stop_daemon();
    world.write_config(&world.standard_config().replace("[token]\n", &format!("[token]\n{token}\n")));
    world.start_daemon();
}

fn numbers(slots: Result<Vec<Slot>, Error>) -> Vec<u64> {
    slots.expect("slots are listed").iter().map(Slot::id).collect()
}

module_test! {
    fn initialised_tokens_come_first_and_slot_numbers_stay(world) {
        restart_with(world, "slot_count = 4");
        let pkcs11 = load();
        assert_eq!(numbers(pkcs11.get_all_slots()), [0, 1, 2, 3]);
        let raw = Raw::load(&module::path());
        assert_eq!(raw.init_token(2, SO_PIN, "second"), CKR_OK);
        assert_eq!(numbers(pkcs11.get_all_slots()), [0, 2, 1, 3]);
        assert_eq!(numbers(pkcs11.get_slots_with_initialized_token()), [0, 2]);
        world.crash_and_restart();
        assert_eq!(numbers(pkcs11.get_all_slots()), [0, 2, 1, 3]);
    }
}

module_test! {
    fn a_spare_slot_follows_whenever_the_last_one_is_initialised(_world) {
        let pkcs11 = load();
        let raw = Raw::load(&module::path());
        for round in 1..=5 {
            let expected: Vec<u64> = (0..=round).collect();
            assert_eq!(numbers(pkcs11.get_all_slots()), expected, "round {round}");
            assert_eq!(raw.init_token(round, SO_PIN, "more"), CKR_OK);
        }
        assert_eq!(numbers(pkcs11.get_slots_with_initialized_token()), [0, 1, 2, 3, 4, 5]);
    }
}

module_test! {
    fn tokens_in_two_slots_share_nothing(_world) {
        let token = Token::open();
        let raw = Raw::load(&module::path());
        assert_eq!(raw.init_token(1, SO_PIN, "second"), CKR_OK);
        let second = Token { pkcs11: token.pkcs11.clone(), slot: Slot::try_from(1_u64).expect("a slot number") };
        let so = second.so();
        so.init_pin(&pin("another-pin-99")).expect("the SO sets a user PIN");
        drop(so);
        let (one, two) = (token.user(), second.session());
        let state = |session: &Session| session.get_session_info().expect("C_GetSessionInfo").session_state();
        assert_eq!((state(&one), state(&two)), (SessionState::RwUser, SessionState::RwPublic), "a login is one token's");
        two.login(UserType::User, Some(&pin("another-pin-99"))).expect("its own PIN");
        let (_, key) = module::ec(&one, module::P256, token_object("mine")).expect("a key");
        assert!(two.find_objects(&[]).expect("find").is_empty());
        let rv = refused(two.sign(&cryptoki::mechanism::Mechanism::EcdsaSha256, key, b"stolen"));
        assert!(matches!(rv, RvError::KeyHandleInvalid), "{rv:?}");
        assert!(matches!(refused(two.destroy_object(key)), RvError::ObjectHandleInvalid));
        one.logout().expect("logout");
        assert_eq!(state(&two), SessionState::RwUser);
    }
}

module_test! {
    fn pin_flags_count_down_to_the_lock(world) {
        world.stop_daemon();
        let config = world.standard_config().replace("[security]\n", "[security]\nmax_failed_logins = 3\n");
        world.write_config(&config);
        world.start_daemon();
        let token = Token::open();
        let session = token.session();
        let flags = || {
            let info = token.pkcs11.get_token_info(token.slot).expect("C_GetTokenInfo");
            [info.user_pin_count_low(), info.user_pin_final_try(), info.user_pin_locked()]
        };
        assert_eq!(flags(), [false, false, false]);
        for expected in [[true, false, false], [true, true, false]] {
            let rv = refused(session.login(UserType::User, Some(&pin("wrong-pin-0"))));
            assert!(matches!(rv, RvError::PinIncorrect), "{rv:?}");
            assert_eq!(flags(), expected);
        }
        let rv = refused(session.login(UserType::User, Some(&pin("wrong-pin-0"))));
        assert!(matches!(rv, RvError::PinIncorrect | RvError::PinLocked), "{rv:?}");
        assert!(flags()[2]);
        assert!(matches!(refused(session.login(UserType::User, Some(&pin(PIN)))), RvError::PinLocked));
        drop(session);
        token.so().init_pin(&pin(PIN)).expect("the SO resets the PIN");
        assert_eq!(flags(), [false, false, false]);
        token.user();
    }
}

module_test! {
    fn session_limits_hold_for_each_application_and_for_all(world) {
        restart_with(world, "max_sessions = 4\nmax_rw_sessions = 2\nmax_sessions_total = 6");
        let token = Token::open();
        let is_full = |rv: RvError| matches!(rv, RvError::SessionCount);
        let read_write = [token.session(), token.session()];
        assert!(is_full(refused(token.pkcs11.open_rw_session(token.slot))));
        let read_only = [(); 2].map(|()| token.pkcs11.open_ro_session(token.slot).expect("a session"));
        assert!(is_full(refused(token.pkcs11.open_ro_session(token.slot))));
        let info = token.pkcs11.get_token_info(token.slot).expect("C_GetTokenInfo");
        assert_eq!((info.session_count(), info.rw_session_count()), (Some(4), Some(2)));
        assert!(matches!((info.max_session_count(), info.max_rw_session_count()), (Limit::Max(4), Limit::Max(2))));
        let mut other = Worker::opened(world);
        other.ok("open");
        let mut third = Worker::start(world);
        let answer = third.ask("open");
        assert!(answer.contains("session") && answer.starts_with("error"), "{answer}");
        drop((read_write, read_only));
        third.ok("open");
    }
}
