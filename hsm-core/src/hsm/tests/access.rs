//! Applications, logins and logouts, with a PIN and without.

use super::*;
use crate::Unsealing;
use crate::config::OnTamper;
use crate::envelope::For;
use crate::store::seal_store_key;

#[test]
fn another_application_sees_no_session_no_login_and_no_session_object() {
    let world = world();
    let (one, two) = (world.caller(10), world.caller(11));
    let session = world.user(&one);
    let template = vec![Attr::number(CKA_VALUE_LEN, 32)];
    let key = world.hsm.generate_key(&one, session, plain(CKM_AES_KEY_GEN), template).expect("generates").object;
    let kind = |result: crate::Result<_>| result.err().map(|error: crate::Error| error.kind());
    assert_eq!(kind(world.hsm.session_info(&two, session).map(drop)), Some(Kind::NoSuchSession));
    let other = world.session(&two);
    assert_eq!(kind(world.hsm.object_size(&two, other, key).map(drop)), Some(Kind::NoSuchObject));
    assert_eq!(world.hsm.find(&two, other, vec![], 8).expect("finds").objects, Vec::<u64>::new());
    assert!(world.hsm.join(peer(11), one.application()).is_err());
    world.hsm.login(&two, other, user::CKU_USER, pin(PIN)).expect("logs in by itself");
    assert_eq!(kind(world.hsm.object_size(&two, other, key).map(drop)), Some(Kind::NoSuchObject));
}

#[test]
fn an_application_that_vanishes_leaves_nothing() {
    let world = world();
    let caller = world.caller(10);
    world.user(&caller);
    assert_eq!((world.hsm.status().applications, world.hsm.status().sessions), (1, 1));
    drop(caller);
    assert_eq!((world.hsm.status().applications, world.hsm.status().sessions), (0, 0));
}

#[test]
fn a_private_token_object_is_gone_after_logout_and_back_after_login() {
    let world = world();
    let caller = world.caller(10);
    let session = world.user(&caller);
    let template = vec![Attr::number(CKA_VALUE_LEN, 32), Attr::flag(CKA_TOKEN, true)];
    let key = world.hsm.generate_key(&caller, session, plain(CKM_AES_KEY_GEN), template).expect("generates").object;
    world.hsm.logout(&caller, session).expect("logs out");
    assert!(world.hsm.object_size(&caller, session, key).is_err());
    world.hsm.login(&caller, session, user::CKU_USER, pin(PIN)).expect("logs in");
    assert_eq!(world.hsm.find(&caller, session, vec![], 0).expect("finds").objects, [key]);
}

#[test]
fn logout_cancels_every_operation() {
    let world = world();
    let caller = world.caller(10);
    let session = world.user(&caller);
    let keys = keys(&world, &caller, session);
    let begin = Some(Begin { mechanism: plain(CKM_SHA256_HMAC), key: keys.secret });
    world.hsm.update(&caller, session, OperationKind::Sign, begin, b"data", None).expect("opens");
    world.hsm.logout(&caller, session).expect("logs out");
    let refused = world.hsm.finish(&caller, session, OperationKind::Sign, None, &[], None).expect_err("cancelled");
    assert_eq!(refused.kind(), Kind::OperationNotInitialized);
}

#[test]
fn a_wrong_so_pin_changes_nothing_at_init_token() {
    let world = world();
    let caller = world.caller(10);
    let refused = world.hsm.init_token(&caller, 0, pin(b"not the so pin"), "other").expect_err("refused");
    assert_eq!(refused.kind(), Kind::PinIncorrect);
    assert_eq!(world.hsm.slots(&caller).expect("slots")[0].token.label.trim_end(), "test");
    let session = world.user(&caller);
    let refused = world.hsm.init_token(&caller, 0, pin(SO_PIN), "other").expect_err("in use");
    assert_eq!(refused.kind(), Kind::SessionExists);
    world.hsm.close_session(&caller, session).expect("closes");
    world.hsm.init_token(&caller, 0, pin(SO_PIN), "other").expect("the right PIN");
    assert_eq!(world.hsm.slots(&caller).expect("slots")[0].token.label.trim_end(), "other");
}

#[test]
fn the_so_resets_the_user_pin_and_no_object_is_lost() {
    let world = world();
    let caller = world.caller(10);
    let session = world.user(&caller);
    let template = vec![Attr::number(CKA_VALUE_LEN, 16), Attr::flag(CKA_TOKEN, true)];
    let key = world.hsm.generate_key(&caller, session, plain(CKM_AES_KEY_GEN), template).expect("generates").object;
    world.hsm.logout(&caller, session).expect("logs out");
    world.hsm.login(&caller, session, user::CKU_SO, pin(SO_PIN)).expect("SO logs in");
    world.hsm.init_pin(&caller, session, pin(b"another-pin-1")).expect("sets the PIN");
    world.hsm.logout(&caller, session).expect("logs out");
    assert!(world.hsm.login(&caller, session, user::CKU_USER, pin(PIN)).is_err());
    world.hsm.login(&caller, session, user::CKU_USER, pin(b"another-pin-1")).expect("logs in");
    assert_eq!(world.hsm.find(&caller, session, vec![], 0).expect("finds").objects, [key]);
}

#[test]
fn a_key_made_in_a_public_session_needs_a_login() {
    let world = world();
    let caller = world.caller(10);
    let session = world.session(&caller);
    let template = vec![Attr::number(CKA_VALUE_LEN, 16)];
    let refused = world.hsm.generate_key(&caller, session, plain(CKM_AES_KEY_GEN), template);
    assert_eq!(refused.err().map(|error| error.kind()), Some(Kind::NotLoggedIn));
    let data = vec![Attr::number(CKA_CLASS, ObjectClass::from(CKO_DATA.0).0), Attr::bytes(CKA_VALUE, b"v".to_vec())];
    world.hsm.create_object(&caller, session, data).expect("public data needs none");
}

/// The user of this machine to whom a row gives the role beside those of an application.
fn trusted(pid: u32) -> Peer {
    let mut grant = crate::Grant::token_service();
    grant.roles.push(crate::ClientRole::AutoLogin);
    Peer { grant: Arc::new(grant), ..peer(pid) }
}

#[test]
fn without_a_pin_only_those_log_in_who_may_and_only_as_the_user() {
    use ck::flags::token::CKF_PROTECTED_AUTHENTICATION_PATH;
    let world = world();
    let (trusted, other) = (world.hsm.attach(trusted(7), "test").expect("attaches"), world.caller(8));
    let path = |caller: &Caller| {
        world.hsm.slots(caller).expect("slots")[0].token.flags & CKF_PROTECTED_AUTHENTICATION_PATH != 0
    };
    let (session, others) = (world.session(&trusted), world.session(&other));
    let log_in =
        |caller, session, user| world.hsm.login_without_pin(caller, session, user).err().map(|error| error.kind());
    assert_eq!(log_in(&trusted, session, user::CKU_USER), Some(Kind::PinIncorrect), "there is no slot");
    assert!(!path(&trusted));
    let summary = world.hsm.admin_auto_login(&peer(1), &Default::default(), Some(pin(PIN))).expect("enabled");
    assert!(summary.auto_login && path(&trusted) && !path(&other));
    for (caller, session, user) in
        [(&other, others, user::CKU_USER), (&other, others, user::CKU_SO), (&trusted, session, user::CKU_SO)]
    {
        assert_eq!(log_in(caller, session, user), Some(Kind::PinIncorrect));
    }
    assert_eq!(log_in(&trusted, session, user::CKU_CONTEXT_SPECIFIC), Some(Kind::NotLoggedIn));
    assert_eq!(log_in(&trusted, session, user::CKU_USER), None);
    assert_eq!(log_in(&trusted, session, user::CKU_USER), Some(Kind::AlreadyLoggedIn));
    assert_eq!(log_in(&trusted, session, user::CKU_CONTEXT_SPECIFIC), Some(Kind::PinIncorrect));
    let summary = &world.hsm.admin_tokens().expect("tokens")[0];
    assert_eq!((summary.user_pin_failures, summary.so_pin_failures), (0, 0));
    // Taken away: who is in stays, nobody comes.
    world.hsm.admin_auto_login(&peer(1), &Default::default(), None).expect("disabled");
    assert!(!path(&trusted));
    let key = world.hsm.generate_key(&trusted, session, plain(CKM_AES_KEY_GEN), vec![Attr::number(CKA_VALUE_LEN, 32)]);
    key.expect("the login lasts");
    world.hsm.logout(&trusted, session).expect("logs out");
    assert_eq!(log_in(&trusted, session, user::CKU_USER), Some(Kind::PinIncorrect));
    let journal = world.journal();
    for told in ["\"by\":\"auto\"", "\"state\":\"on\"", "\"state\":\"off\""] {
        assert!(journal.contains(told), "{told}");
    }
}

#[test]
fn a_key_that_wants_the_pin_each_time_gets_it_although_the_login_had_none() {
    let world = world();
    world.hsm.admin_auto_login(&peer(1), &Default::default(), Some(pin(PIN))).expect("enabled");
    let caller = world.hsm.attach(trusted(7), "test").expect("attaches");
    let session = world.session(&caller);
    world.hsm.login_without_pin(&caller, session, user::CKU_USER).expect("logs in");
    let public = vec![Attr::bytes(CKA_EC_PARAMS, crate::crypto::Curve::P256.params_der())];
    let private = vec![Attr::flag(CKA_ALWAYS_AUTHENTICATE, true), Attr::flag(CKA_PRIVATE, true)];
    let (_, private) =
        world.hsm.generate_key_pair(&caller, session, plain(CKM_EC_KEY_PAIR_GEN), public, private).expect("generates");
    let signs = || {
        let begin = Begin { mechanism: plain(CKM_ECDSA_SHA256), key: private.object };
        let signed = world.hsm.one_shot(&caller, session, OperationKind::Sign, begin, b"x", &[], None);
        signed.map(drop).map_err(|error| error.kind())
    };
    assert_eq!(signs(), Err(Kind::NotLoggedIn));
    assert!(world.hsm.login_without_pin(&caller, session, user::CKU_CONTEXT_SPECIFIC).is_err());
    assert_eq!(signs(), Err(Kind::NotLoggedIn));
}

/// Whoever asked how to unseal such a daemon was told how many shares to bring.
#[test]
fn what_was_tampered_with_says_so_to_whoever_would_unseal_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log_path = dir.path().join("audit.jsonl");
    let written = Written {
        token: TokenTable { storage_path: Some(dir.path().join("store")), ..TokenTable::default() },
        audit: AuditTable { log_path: Some(log_path.clone()), on_tamper: OnTamper::Seal, ..AuditTable::default() },
        ..Written::default()
    };
    let config = written.resolve().expect("a good configuration");
    let open = || Hsm::open(&config, Arc::new(SystemClock)).expect("opens");
    assert!(!open().seal_state().expect("its state").sealed);
    seal_store_key(&config, &[For::Passphrase(pin(PIN))], config.pin.function, None).expect("a sealed store key");
    let mut journal = std::fs::read(&log_path).expect("the journal");
    journal[40] ^= 1;
    std::fs::write(&log_path, &journal).expect("written");
    let hsm = open();
    let told = hsm.seal_state().expect_err("no key helps");
    assert!(told.kind() == Kind::Sealed && told.to_string().contains("does not verify"), "{told}");
    assert!(hsm.unseal(&peer(1), Unsealing::Passphrase(pin(PIN))).is_err());
    drop(hsm);
    assert!(std::fs::read(&log_path).expect("the journal") == journal, "it is left as it was found");
}
