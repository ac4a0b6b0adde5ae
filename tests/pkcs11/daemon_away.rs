//! The daemon is absent, restarted or silent: the application gets a proper CKR within the deadline, never a hang, never a crash
//! (SIGPIPE included), and works again when the daemon does.

use std::time::{Duration, Instant};

use acceptance::module::{P256, Token, refused, token_object};
use acceptance::tools::available;
use acceptance::world::World;
use acceptance::{module, module_test};
use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::Session;

/// No call may take longer, whatever the daemon does: the module's own limit is `LIMIT_SECONDS`, and a little.
const DEADLINE: Duration = Duration::from_secs(60);
const LIMIT_SECONDS: &str = "request_timeout_secs = 8";

fn is_away(rv: RvError) -> bool {
    matches!(rv, RvError::DeviceRemoved | RvError::DeviceError)
}

fn in_time<T>(what: &str, call: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = call();
    assert!(start.elapsed() < DEADLINE, "{what} took {:?}", start.elapsed());
    result
}

fn signs(session: &Session) {
    let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label("key".into())];
    let key = session.find_objects(&template).expect("find")[0];
    session.sign(&Mechanism::EcdsaSha256, key, b"it works").expect("signs");
}

module_test! {
    fn a_daemon_that_went_away_is_a_device_that_was_removed(world) {
        let token = Token::open();
        let session = token.user();
        let (_, key) = module::ec(&session, P256, token_object("key")).expect("a key");
        world.take_daemon().kill();
        for turn in 0..3 {
            let rv = in_time("C_Sign", || refused(session.sign(&Mechanism::EcdsaSha256, key, b"gone")));
            // After the first call the module may know that the session went with the daemon.
            assert!(is_away(rv) || (turn > 0 && matches!(rv, RvError::SessionHandleInvalid)), "C_Sign, {turn}: {rv:?}");
            let rv = in_time("C_OpenSession", || refused(token.pkcs11.open_rw_session(token.slot)));
            assert!(is_away(rv) || matches!(rv, RvError::TokenNotPresent), "C_OpenSession, {turn}: {rv:?}");
        }
    }
}

module_test! {
    fn a_restarted_daemon_serves_the_same_process_again(world) {
        let token = Token::open();
        let session = token.user();
        let (_, key) = module::ec(&session, P256, token_object("key")).expect("a key");
        signs(&session);
        world.crash_and_restart();
        let rv = in_time("C_Sign", || refused(session.sign(&Mechanism::EcdsaSha256, key, b"an old session")));
        assert!(is_away(rv) || matches!(rv, RvError::SessionHandleInvalid), "{rv:?}");
        let next = token.user();
        signs(&next);
        // The old handle stays dead, although the daemon lives.
        let rv = refused(session.sign(&Mechanism::EcdsaSha256, key, b"an old session"));
        assert!(matches!(rv, RvError::SessionHandleInvalid | RvError::DeviceRemoved), "{rv:?}");
        signs(&next);
    }
}

module_test! {
    fn a_silent_daemon_is_given_up_within_the_deadline(world) {
        world.configure(LIMIT_SECONDS);
        let token = Token::open();
        let session = token.user();
        let (_, key) = module::ec(&session, P256, token_object("key")).expect("a key");
        signs(&session);
        world.daemon().pause();
        let rv = in_time("C_Sign", || refused(session.sign(&Mechanism::EcdsaSha256, key, b"silence")));
        world.daemon().resume();
        assert!(is_away(rv) || matches!(rv, RvError::FunctionFailed | RvError::GeneralError), "{rv:?}");
        // What comes next is either the old session or a new one; both must answer, and answer for the right call.
        drop(session);
        signs(&token.user());
    }
}

#[test]
fn a_daemon_that_never_ran_is_a_module_without_tokens() {
    if !available("daemon_away::a_daemon_that_never_ran_is_a_module_without_tokens", "pkcs11-tool") {
        return;
    }
    let world = World::unstarted();
    let start = Instant::now();
    let listed = world.pkcs11_tool(["-L"]);
    assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
    assert!(listed.status.code().is_some(), "it should not have crashed: {listed}");
    let signed = world.pkcs11_tool_login(["-O"]);
    signed.refused();
}
