//! Sessions and login (PKCS#11 v3.0 §5.6): states, one login per application, dead handles.

use acceptance::module::{Token, pin, refused, token_object};
use acceptance::raw::{Init, Output, Raw, Room};
use acceptance::structure::Structure;
use acceptance::world::{PIN, SO_PIN};
use acceptance::{module, module_test};
use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki_sys::{
    CKM_ECDSA, CKM_RSA_PKCS, CKR_BUFFER_TOO_SMALL, CKR_KEY_HANDLE_INVALID, CKR_OBJECT_HANDLE_INVALID, CKR_OK,
    CKR_OPERATION_NOT_INITIALIZED, CKR_PIN_INCORRECT, CKR_SESSION_HANDLE_INVALID, CKR_USER_NOT_LOGGED_IN,
    CKU_CONTEXT_SPECIFIC,
};

module_test! {
    fn all_sessions_of_the_application_share_the_login(_world) {
        let token = Token::open();
        let (one, two) = (token.session(), token.session());
        let state = |session: &cryptoki::session::Session| session.get_session_info().expect("info").session_state();
        assert!(matches!(state(&one), SessionState::RwPublic));
        one.login(UserType::User, Some(&pin(PIN))).expect("login");
        assert!(matches!(state(&two), SessionState::RwUser));
        assert!(matches!(refused(two.login(UserType::User, Some(&pin(PIN)))), RvError::UserAlreadyLoggedIn));
        assert!(matches!(refused(two.login(UserType::So, Some(&pin(SO_PIN)))), RvError::UserAnotherAlreadyLoggedIn));
        let three = token.pkcs11.open_ro_session(token.slot).expect("a read-only session");
        assert!(matches!(state(&three), SessionState::RoUser));
        two.logout().expect("logout");
        assert!(matches!(state(&one), SessionState::RwPublic));
        assert!(matches!(refused(one.logout()), RvError::UserNotLoggedIn));
    }
}

module_test! {
    fn closing_the_last_session_logs_out(_world) {
        let token = Token::open();
        let session = token.user();
        drop(session);
        let session = token.session();
        assert!(matches!(session.get_session_info().expect("info").session_state(), SessionState::RwPublic));
    }
}

module_test! {
    fn a_wrong_pin_is_refused_and_the_right_one_still_works(_world) {
        let token = Token::open();
        let session = token.session();
        assert!(matches!(refused(session.login(UserType::User, Some(&pin("wrong-pin-000")))), RvError::PinIncorrect));
        session.login(UserType::User, Some(&pin(PIN))).expect("the right PIN opens");
    }
}

module_test! {
    fn the_so_cannot_log_in_beside_a_read_only_session(_world) {
        let token = Token::open();
        let read_only = token.pkcs11.open_ro_session(token.slot).expect("a read-only session");
        let session = token.session();
        assert!(matches!(refused(session.login(UserType::So, Some(&pin(SO_PIN)))), RvError::SessionReadOnlyExists));
        // Also when the user is logged in, which alone would be another refusal.
        session.login(UserType::User, Some(&pin(PIN))).expect("login");
        assert!(matches!(refused(session.login(UserType::So, Some(&pin(SO_PIN)))), RvError::SessionReadOnlyExists));
        drop(read_only);
        assert!(matches!(refused(session.login(UserType::So, Some(&pin(SO_PIN)))), RvError::UserAnotherAlreadyLoggedIn));
    }
}

module_test! {
    fn a_read_only_session_cannot_make_a_token_object(_world) {
        let token = Token::open();
        let _user = token.user();
        let read_only = token.pkcs11.open_ro_session(token.slot).expect("a read-only session");
        let made = module::ec(&read_only, module::P256, token_object("no"));
        assert!(matches!(refused(made), RvError::SessionReadOnly));
        module::ec(&read_only, module::P256, module::SESSION).expect("a session object is allowed");
    }
}

module_test! {
    fn private_keys_need_a_login(_world) {
        let token = Token::open();
        let session = token.session();
        assert!(matches!(refused(module::ec(&session, module::P256, module::SESSION)), RvError::UserNotLoggedIn));
    }
}

module_test! {
    fn logout_ends_operations_and_private_handles(_world) {
        let token = Token::open();
        let session = token.user();
        let (_, private) = module::ec(&session, module::P256, token_object("key")).expect("a key");
        let raw = Raw::load(&module::path());
        let handle = session.handle();
        assert_eq!(raw.sign_init(handle, CKM_ECDSA, private.handle()), 0);
        session.logout().expect("logout");
        let signed = raw.sign(handle, &[1; 32], Room::Bytes(128)).rv;
        let ended = [cryptoki_sys::CKR_OPERATION_NOT_INITIALIZED, CKR_USER_NOT_LOGGED_IN];
        assert!(ended.contains(&signed), "{signed:#x}");
        assert!(session.find_objects(&[Attribute::Private(true)]).expect("find").is_empty());
        let again = raw.sign_init(handle, CKM_ECDSA, private.handle());
        assert!([CKR_KEY_HANDLE_INVALID, CKR_USER_NOT_LOGGED_IN].contains(&again), "{again:#x}");
    }
}

module_test! {
    fn a_key_that_wants_it_is_used_once_for_each_login_of_its_own(_world) {
        let token = Token::open();
        let session = token.user();
        let key = Cautious::new(&session);
        let (begin, login) = (|| key.begin(), |pin: &str| key.login(pin));
        let decrypt = |room: usize| key.decrypt(room).rv;
        assert_eq!(login(PIN), CKR_OPERATION_NOT_INITIALIZED, "there is nothing to log in for");
        begin();
        assert_eq!(decrypt(256), CKR_USER_NOT_LOGGED_IN);
        begin();
        assert_eq!((login("wrong-pin-000"), login(PIN)), (CKR_PIN_INCORRECT, CKR_OK));
        assert_eq!(decrypt(256), CKR_OK);
        begin();
        assert_eq!(decrypt(256), CKR_USER_NOT_LOGGED_IN, "one login, one decryption");
    }
}

module_test! {
    fn a_buffer_that_is_too_small_once_uses_no_login_up(_world) {
        let token = Token::open();
        let session = token.user();
        let key = Cautious::new(&session);
        let begin = || {
            key.begin();
            assert_eq!(key.login(PIN), CKR_OK);
        };
        let decrypt = |room: usize| key.decrypt(room);
        begin();
        let short = decrypt(17);
        assert_eq!((short.rv, short.len), (CKR_BUFFER_TOO_SMALL, 18));
        assert_eq!(decrypt(18).bytes, b"eighteen bytes' de");
        // How long plaintexts are is not told for nothing.
        begin();
        assert_eq!([decrypt(17).rv, decrypt(17).rv], [CKR_BUFFER_TOO_SMALL; 2]);
        assert_eq!(decrypt(18).rv, CKR_USER_NOT_LOGGED_IN);
    }
}

/// An RSA key that wants a login for each use, and a ciphertext for it.
struct Cautious {
    raw: Raw,
    session: u64,
    key: u64,
    blob: Vec<u8>,
}

impl Cautious {
    fn new(session: &Session) -> Self {
        let public = [Attribute::Token(false), Attribute::ModulusBits(2048.into()), Attribute::Encrypt(true)];
        let private = [Attribute::Token(false), Attribute::AlwaysAuthenticate(true), Attribute::Decrypt(true)];
        let (public, private) =
            session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private).expect("a key");
        let blob = session.encrypt(&Mechanism::RsaPkcs, public, b"eighteen bytes' de").expect("encrypts");
        Cautious { raw: Raw::load(&module::path()), session: session.handle(), key: private.handle(), blob }
    }

    fn begin(&self) {
        let none = Structure::Bytes(&[]);
        assert_eq!(self.raw.init(Init::Decrypt, self.session, CKM_RSA_PKCS, none, self.key), CKR_OK);
    }

    fn login(&self, pin: &str) -> u64 {
        self.raw.login_as(self.session, CKU_CONTEXT_SPECIFIC, pin)
    }

    fn decrypt(&self, room: usize) -> Output {
        self.raw.decrypt(self.session, &self.blob, Room::Bytes(room))
    }
}

module_test! {
    fn dead_and_invented_session_handles_are_refused(_world) {
        let token = Token::open();
        let raw = Raw::load(&module::path());
        let live = raw.open_session(token.slot.id()).expect("a session");
        assert_eq!(raw.close_session(live), 0);
        for handle in [live, 0, u64::MAX, live + 1_000_000] {
            assert_eq!(raw.session_state(handle), Err(CKR_SESSION_HANDLE_INVALID), "{handle}");
            assert_eq!(raw.close_session(handle), CKR_SESSION_HANDLE_INVALID, "{handle}");
            assert_eq!(raw.sign_init(handle, CKM_ECDSA, 1), CKR_SESSION_HANDLE_INVALID, "{handle}");
            assert_eq!(raw.sign(handle, b"", Room::Bytes(64)).rv, CKR_SESSION_HANDLE_INVALID, "{handle}");
            assert_eq!(raw.destroy(handle, 1), CKR_SESSION_HANDLE_INVALID, "{handle}");
        }
    }
}

module_test! {
    fn dead_object_handles_are_refused_and_never_reused(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let mut seen = std::collections::HashSet::new();
        for _ in 0..50 {
            let key = module::aes(&session, 16, &[]).expect("a key");
            assert!(seen.insert(key.handle()), "handle {} came back", key.handle());
            session.destroy_object(key).expect("destroyed");
            assert_eq!(raw.destroy(session.handle(), key.handle()), CKR_OBJECT_HANDLE_INVALID);
            let rv = raw.sign_init(session.handle(), cryptoki_sys::CKM_SHA256_HMAC, key.handle());
            assert_eq!(rv, CKR_KEY_HANDLE_INVALID);
        }
    }
}

module_test! {
    fn session_objects_die_with_their_session(_world) {
        let token = Token::open();
        let session = token.user();
        let other = token.session();
        let key = module::aes(&other, 16, &[Attribute::Label("short-lived".into())]).expect("a key");
        assert_eq!(session.find_objects(&[Attribute::Label("short-lived".into())]).expect("find"), vec![key]);
        drop(other);
        assert!(session.find_objects(&[Attribute::Label("short-lived".into())]).expect("find").is_empty());
    }
}
