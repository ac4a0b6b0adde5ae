//! Tokens whose SO PIN does not open the master key (`security.so_holds_master_key = false`): nothing is lost without a word.

use super::layout::Role;
use super::vault_tests::{Book, kind, pin, put, quick};
use super::*;
use crate::clock::SystemClock;
use crate::config::PinConfig;
use crate::error::Kind;
use crate::id::{ObjectId, TokenId};
use std::sync::Arc;

/// A vault with a token whose SO cannot open it, with the user PIN "user-pin".
fn separate() -> (Vault<Book>, TokenId) {
    let pins = PinConfig { so_holds_master_key: false, ..quick() };
    let vault = Vault::in_memory(&pins, Arc::new(Book::default()), Arc::new(SystemClock)).unwrap();
    vault.ensure_slot(0, "spare", None).unwrap();
    let (token, _receipt) = vault.init_token(0, "label", &pin("so-pin"), "t", |_| b"init".to_vec()).unwrap();
    let _receipt = vault.init_user_pin_anew(token.id, &pin("user-pin"), b"e").unwrap();
    assert!(!vault.so_holds_master_key(token.id).unwrap());
    (vault, token.id)
}

fn user(vault: &Vault<Book>, token: TokenId, text: &str) -> Result<Arc<TokenMasterKey>, Kind> {
    vault.unlock(token, Role::User, &pin(text), "t").map_err(|error| error.kind())
}

/// How many private objects the user's PIN opens.
fn objects(vault: &Vault<Book>, token: TokenId) -> usize {
    let tmk = user(vault, token, "user-pin").unwrap();
    vault.load_objects(token, Some(&tmk)).unwrap().len()
}

#[test]
fn the_sos_pin_is_proved_and_opens_nothing() {
    let (vault, token) = separate();
    assert!(vault.let_in(token, Role::So, &pin("so-pin"), "t").unwrap().is_none());
    assert_eq!(kind(vault.unlock(token, Role::So, &pin("so-pin"), "t")), Some(Kind::ActionProhibited));
    assert_eq!(kind(vault.let_in(token, Role::So, &pin("wrong"), "t")), Some(Kind::PinIncorrect));
    assert_eq!(vault.pin_state(token, Role::So).unwrap().failed, 1);
    let _receipt = vault.set_pin(token, Role::So, &pin("so-pin"), &pin("so-pin-2"), "t", b"e").unwrap();
    assert_eq!(kind(vault.let_in(token, Role::So, &pin("so-pin"), "t")), Some(Kind::PinIncorrect));
    assert!(vault.let_in(token, Role::So, &pin("so-pin-2"), "t").unwrap().is_none());
    assert_eq!(vault.pin_state(token, Role::So).unwrap().failed, 0);
}

#[test]
fn a_new_user_pin_is_refused_while_it_would_lose_something() {
    let (vault, token) = separate();
    let tmk = user(&vault, token, "user-pin").unwrap();
    let _receipt = vault.commit(put(token, 1, true, "private"), Some(&tmk), b"e").unwrap();
    let _receipt = vault.commit(put(token, 2, false, "public"), None, b"e").unwrap();
    let anew = |text: &str| kind(vault.init_user_pin_anew(token, &pin(text), b"e"));
    assert_eq!(anew("another"), Some(Kind::ActionProhibited));
    drop(tmk);
    assert_eq!(anew("another"), Some(Kind::ActionProhibited));
    assert_eq!(user(&vault, token, "another").err(), Some(Kind::PinIncorrect));
    assert_eq!(objects(&vault, token), 1);

    let gone = Change { puts: vec![], deletes: vec![(token, ObjectId([1; 16]))] };
    let _receipt = vault.commit(gone, None, b"e").unwrap();
    let tmk = user(&vault, token, "user-pin").unwrap();
    assert_eq!(
        anew("another"),
        Some(Kind::ActionProhibited),
        "the user is there, and could make an object at this moment"
    );
    drop(tmk);
    let _receipt = vault.enable_auto_login(token, &pin("user-pin"), "t", b"on").unwrap();
    assert_eq!(anew("another"), None);
    assert_eq!(user(&vault, token, "user-pin").err(), Some(Kind::PinIncorrect));
    assert!(!vault.has_auto_slot(token).unwrap(), "that held the key that went");
    let tmk = user(&vault, token, "another").unwrap();
    assert_eq!(tmk.current().0, 2);
    let _receipt = vault.commit(put(token, 3, true, "private"), Some(&tmk), b"e").unwrap();
    assert_eq!(vault.load_objects(token, Some(&tmk)).unwrap().len(), 1);
    assert_eq!(vault.load_objects(token, None).unwrap().len(), 1, "what is public was not touched");
}

#[test]
fn a_rotation_takes_the_users_pin_and_leaves_the_so_without_the_key() {
    let (vault, token) = separate();
    let tmk = user(&vault, token, "user-pin").unwrap();
    let _receipt = vault.commit(put(token, 1, true, "private"), Some(&tmk), b"e").unwrap();
    drop(tmk);
    let _receipt = vault.enable_auto_login(token, &pin("user-pin"), "t", b"on").unwrap();
    let begin = |user: Option<&str>| {
        let user = user.map(pin);
        vault.begin_rotation(token, &pin("so-pin"), user.as_ref(), "t", b"e").map(|(tmk, _receipt)| tmk)
    };
    assert_eq!(kind(begin(None)), Some(Kind::ArgumentsBad));
    assert_eq!(vault.pin_state(token, Role::So).unwrap().failed, 0, "nothing was tried");
    for epoch in 2..4 {
        let tmk = begin(Some("user-pin")).unwrap();
        assert_eq!(vault.finish_rotation(&tmk).unwrap(), Rotated { epoch, objects: 1, complete: true });
        drop(tmk);
        assert_eq!(objects(&vault, token), 1);
        assert!(vault.let_in(token, Role::So, &pin("so-pin"), "t").unwrap().is_none());
        assert_eq!(vault.unlock_without_pin(token).unwrap().current().0, epoch);
    }
}
