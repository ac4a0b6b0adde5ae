//! Slots and tokens (PKCS#11 v3.0 §5.5), PIN administration included.

use acceptance::module::{Token, load, pin, refused, token_object};
use acceptance::raw::Raw;
use acceptance::world::{LABEL, PIN, SO_PIN};
use acceptance::{module, module_test};
use cryptoki::error::{Error, RvError};
use cryptoki::object::Attribute;
use cryptoki::session::UserType;
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
