//! A token gets a new master key while it is used, and while the power goes.

use super::crash_tests::{base, open, start};
use super::layout::{Role, Table};
use super::seal::epoch_of;
use super::vault_tests::{Book, pin, put, quick, ready};
use super::*;
use crate::clock::SystemClock;
use crate::error::Kind;
use crate::id::TokenId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const OBJECTS: u8 = 150;

fn vault() -> Vault<Book> {
    Vault::in_memory(&quick(), Arc::new(Book::default()), Arc::new(SystemClock)).unwrap()
}

fn fill(vault: &Vault<Book>, token: TokenId, tmk: &TokenMasterKey, count: u8) {
    for number in 1..=count {
        let _receipt = vault.commit(put(token, number, true, &number.to_string()), Some(tmk), b"e").unwrap();
    }
}

fn rotate(vault: &Vault<Book>, token: TokenId, user: Option<&str>) -> super::rotate::Rotated {
    let user = user.map(pin);
    let (tmk, _receipt) = vault.begin_rotation(token, &pin("so-pin"), user.as_ref(), "t", b"rotate").unwrap();
    vault.finish_rotation(&tmk).unwrap()
}

fn texts(vault: &Vault<Book>, token: TokenId, tmk: &TokenMasterKey) -> Vec<String> {
    let mut found: Vec<(u8, String)> = vault
        .load_objects(token, Some(tmk))
        .unwrap()
        .into_iter()
        .map(|object| (object.id.0[0], String::from_utf8(object.plaintext.expose().to_vec()).unwrap()))
        .collect();
    found.sort();
    found.into_iter().map(|(_, text)| text).collect()
}

fn numbers(count: u8) -> Vec<String> {
    (1..=count).map(|number| number.to_string()).collect()
}

/// The numbers of the keys that the token's private objects are sealed under.
fn epochs(vault: &Vault<Book>, token: TokenId) -> Vec<u32> {
    let mut found = Vec::new();
    let mut visit = |_: &[u8], row: &[u8]| {
        found.extend(epoch_of(row));
        Ok(())
    };
    vault.snapshot().unwrap().scan(Table::PrivateObject, &token.0, &mut visit).unwrap();
    found.sort_unstable();
    found.dedup();
    found
}

#[test]
fn a_rotation_with_both_pins_leaves_nothing_under_the_old_key() {
    let vault = vault();
    let (token, tmk) = ready(&vault);
    fill(&vault, token, &tmk, OBJECTS);
    assert_eq!(epochs(&vault, token), [1]);
    let rotated = rotate(&vault, token, Some("user-pin"));
    assert_eq!((rotated.epoch, rotated.objects, rotated.complete), (2, u64::from(OBJECTS), true));
    assert_eq!(epochs(&vault, token), [2]);
    assert_eq!(texts(&vault, token, &tmk), numbers(OBJECTS), "who was logged in goes on");
    drop(tmk);
    for role in [Role::User, Role::So] {
        let text = if role == Role::So { "so-pin" } else { "user-pin" };
        let tmk = vault.unlock(token, role, &pin(text), "t").unwrap();
        assert_eq!(tmk.current().0, 2);
        assert_eq!(texts(&vault, token, &tmk), numbers(OBJECTS));
    }
    assert_eq!(rotate(&vault, token, Some("user-pin")).epoch, 3);
}

#[test]
fn without_the_user_pin_the_old_key_goes_at_the_users_next_login() {
    let vault = vault();
    let (token, tmk) = ready(&vault);
    fill(&vault, token, &tmk, 3);
    drop(tmk);
    let rotated = rotate(&vault, token, None);
    assert!(!rotated.complete && epochs(&vault, token) == [2]);
    let refused = vault.begin_rotation(token, &pin("so-pin"), None, "t", b"e").map(drop).unwrap_err();
    assert_eq!(refused.kind(), Kind::ArgumentsBad);
    let tmk = vault.unlock(token, Role::User, &pin("user-pin"), "t").unwrap();
    assert_eq!(texts(&vault, token, &tmk), numbers(3));
    drop(tmk);
    let rotated = rotate(&vault, token, None);
    assert_eq!((rotated.epoch, rotated.complete), (3, false));
    // A PIN that the SO sets anew holds the newest key too.
    let so = vault.unlock(token, Role::So, &pin("so-pin"), "t").unwrap();
    let _receipt = vault.init_user_pin(&so, &pin("other-pin"), b"e").unwrap();
    drop(so);
    let tmk = vault.unlock(token, Role::User, &pin("other-pin"), "t").unwrap();
    assert_eq!((tmk.current().0, texts(&vault, token, &tmk)), (3, numbers(3)));
    drop(tmk);
    assert_eq!(rotate(&vault, token, Some("other-pin")).epoch, 4);
}

/// Ten rotations with a wrong user PIN, or without the one that was needed, locked the SO PIN, which had been right each time.
#[test]
fn an_so_pin_that_was_right_is_not_counted_as_wrong_because_the_users_was() {
    let vault = vault();
    let (token, tmk) = ready(&vault);
    drop(tmk);
    let begin = |user: Option<&str>| {
        let user = user.map(pin);
        vault.begin_rotation(token, &pin("so-pin"), user.as_ref(), "t", b"e").map(drop).map_err(|error| error.kind())
    };
    let failed = |role| vault.pin_state(token, role).unwrap().failed;
    assert_eq!(begin(Some("wrong")), Err(Kind::PinIncorrect));
    assert_eq!((failed(Role::So), failed(Role::User)), (0, 1));
    rotate(&vault, token, None);
    assert_eq!(begin(None), Err(Kind::ArgumentsBad));
    assert_eq!((failed(Role::So), failed(Role::User)), (0, 1));
}

/// The change was durable and its record was not written: the caller was told of a failure, whoever was logged in kept the old key, and
/// the operator's second try took that for the newest. It dropped the way to the objects, and after a restart none of them opened.
#[test]
fn a_rotation_whose_record_was_refused_loses_nothing_when_it_is_asked_for_again() {
    for user in [None, Some("user-pin")] {
        let book = Arc::new(Book::default());
        let vault = Vault::in_memory(&quick(), Arc::clone(&book), Arc::new(SystemClock)).unwrap();
        let (token, tmk) = ready(&vault);
        fill(&vault, token, &tmk, 3);
        let so = vault.unlock(token, Role::So, &pin("so-pin"), "t").unwrap();
        book.full.store(true, Ordering::Relaxed);
        let refused = vault.begin_rotation(token, &pin("so-pin"), user.map(pin).as_ref(), "t", b"rotate").map(drop);
        assert_eq!(refused.unwrap_err().kind(), Kind::Device);
        book.full.store(false, Ordering::Relaxed);
        // Who is logged in goes on; what would be lost with the old key is refused.
        let _receipt = vault.commit(put(token, 4, true, "4"), Some(&tmk), b"e").unwrap();
        assert_eq!(vault.finish_rotation(&tmk).unwrap_err().kind(), Kind::Device);
        assert_eq!(vault.init_user_pin(&so, &pin("other-pin"), b"e").map(drop).unwrap_err().kind(), Kind::Device);
        let rotated = rotate(&vault, token, user);
        assert_eq!((rotated.epoch, rotated.objects), (2, 4), "{user:?}");
        assert_eq!(texts(&vault, token, &tmk), numbers(4), "{user:?}");
        drop((tmk, so));
        let tmk = vault.unlock(token, Role::User, &pin("user-pin"), "t").unwrap();
        assert_eq!((tmk.current().0, texts(&vault, token, &tmk)), (2, numbers(4)), "{user:?}");
        assert_eq!(epochs(&vault, token), [2]);
    }
}

#[test]
fn a_wrong_pin_rotates_nothing_and_is_counted() {
    let vault = vault();
    let (token, tmk) = ready(&vault);
    fill(&vault, token, &tmk, 2);
    for (so, user) in [("wrong", None), ("so-pin", Some(pin("wrong")))] {
        let refused = vault.begin_rotation(token, &pin(so), user.as_ref(), "t", b"e").map(drop).unwrap_err();
        assert_eq!(refused.kind(), Kind::PinIncorrect);
    }
    assert_eq!(epochs(&vault, token), [1]);
    assert_eq!(vault.pin_state(token, Role::User).unwrap().failed, 1);
}

#[test]
fn changes_and_reads_go_on_during_rotations() {
    let vault = vault();
    let (token, tmk) = ready(&vault);
    fill(&vault, token, &tmk, OBJECTS);
    let (stop, turns) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..2_u8 {
            let (vault, tmk, stop, turns) = (&vault, &tmk, &stop, &turns);
            scope.spawn(move || {
                let mut turn = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    let number = 200 + thread;
                    let text = format!("{thread}-{turn}");
                    let _receipt = vault.commit(put(token, number, true, &text), Some(tmk), b"e").unwrap();
                    assert!(texts(vault, token, tmk).contains(&text));
                    turn += 1;
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for epoch in 2..6 {
            let before = turns.load(Ordering::Relaxed);
            assert_eq!(rotate(&vault, token, Some("user-pin")).epoch, epoch);
            while turns.load(Ordering::Relaxed) < before + 2 {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let _rest = vault.finish_rotation(&tmk).unwrap();
    assert_eq!(epochs(&vault, token), [5]);
    assert_eq!(texts(&vault, token, &tmk).len(), usize::from(OBJECTS) + 2);
}

#[test]
fn the_power_may_go_at_every_write_of_a_rotation() {
    const COUNT: u8 = 5;
    let base = base();
    let (keys, token) = (&base.keys, base.token);
    let run = |vault: &Vault<Book>, user: Option<&str>| {
        let user = user.map(pin);
        let begun = vault.begin_rotation(token, &pin("so-pin"), user.as_ref(), "t", b"rotate");
        begun.and_then(|(tmk, _receipt)| vault.finish_rotation(&tmk)).is_ok()
    };
    for user in [None, Some("user-pin")] {
        let filled = || {
            let (disk, book) = base.again();
            let vault = start(open(&disk, keys).unwrap(), &book);
            let tmk = vault.unlock(token, Role::User, &pin("user-pin"), "t").unwrap();
            fill(&vault, token, &tmk, COUNT);
            (disk, book, vault)
        };
        let (disk, _book, vault) = filled();
        let before = disk.operations();
        assert!(run(&vault, user));
        let operations = disk.operations() - before;
        drop(vault);
        assert!(operations > 20, "{operations} operations");
        for at in (0..operations).step_by(3) {
            for keep in [true, false] {
                let (disk, book, vault) = filled();
                disk.stop_after(at);
                run(&vault, user);
                drop(vault);
                let disk = disk.after_crash(keep);
                let vault = start(open(&disk, keys).unwrap(), &book);
                for (role, text) in [(Role::User, "user-pin"), (Role::So, "so-pin")] {
                    let tmk = vault.unlock(token, role, &pin(text), "t").unwrap();
                    assert_eq!(texts(&vault, token, &tmk), numbers(COUNT), "power gone at {at}, {role:?}");
                }
                assert!(run(&vault, Some("user-pin")), "power gone at {at}: the rotation is not finished later");
                assert_eq!(epochs(&vault, token).len(), 1, "power gone at {at}");
            }
        }
    }
}
