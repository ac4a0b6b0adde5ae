//! What lies on disk at the start: a stale socket, another daemon, a store that was cut or edited.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use acceptance::world::World;

#[test]
fn a_stale_socket_is_taken_over() {
    let mut world = World::unstarted();
    // A listener that is dropped leaves its file behind, as a killed daemon does.
    drop(UnixListener::bind(world.socket()).expect("our own directory"));
    assert!(world.socket().exists());
    world.start_daemon();
    world.admin(["status"]).ok();
}

#[test]
fn a_file_that_is_no_socket_is_not_removed() {
    let world = World::unstarted();
    fs::write(world.socket(), b"precious").expect("our own directory");
    world.refused_start().says("hsm.sock");
    assert_eq!(fs::read(world.socket()).expect("still there"), b"precious");
}

#[test]
fn a_second_daemon_on_the_same_store_is_refused_and_the_first_goes_on() {
    let world = World::start();
    // Another socket: only the store is shared.
    let second = World::unstarted();
    second.write_config(&second.standard_config().replace(
        &format!("storage_path = \"{}", second.store().display()),
        &format!("storage_path = \"{}", world.store().display()),
    ));
    second.refused_start().says("store");
    world.admin(["token", "info"]).ok();
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused_and_the_first_goes_on() {
    let world = World::start();
    let second = World::unstarted();
    second.write_config(&second.standard_config().replace(
        &format!("bind_unix = \"{}", second.socket().display()),
        &format!("bind_unix = \"{}", world.socket().display()),
    ));
    second.refused_start().says("hsm.sock");
    world.admin(["status"]).ok();
}

#[test]
fn a_truncated_store_is_refused_and_left_alone() {
    damaged("truncated", |file, len| {
        File::options().write(true).open(file).and_then(|file| file.set_len(len / 2)).expect("our own file");
    });
}

#[test]
fn an_emptied_store_is_refused_and_left_alone() {
    damaged("emptied", |file, _| {
        File::options().write(true).open(file).and_then(|file| file.set_len(0)).expect("our own file");
    });
}

#[test]
fn an_edited_store_is_refused_or_shows_the_damage() {
    // A token with objects, one of its sealed records changed by one byte: it must not be served as if nothing had happened.
    let mut world = World::start();
    for label in ["one", "two", "three"] {
        if !acceptance::tools::available("store::an_edited_store_is_refused_or_shows_the_damage", "pkcs11-tool") {
            return;
        }
        world.pkcs11_tool_login(["--keypairgen", "--key-type", "EC:prime256v1", "--id", "01", "--label", label]).ok();
    }
    world.stop_daemon();
    let file = store_file(&world.store());
    let bytes = fs::read(&file).expect("our own file");
    // Records begin with a magic word; the first bytes of the first record's sealed part lie well behind its header of 136 bytes.
    let magic = b"HSR1";
    let records: Vec<usize> =
        bytes.windows(4).enumerate().filter(|(_, word)| word == magic).map(|(at, _)| at).collect();
    assert!(records.len() >= 6, "{} records were found", records.len());
    let writable = File::options().write(true).open(&file).expect("our own file");
    for at in &records {
        writable.write_all_at(&[bytes[at + 140] ^ 1], u64::try_from(at + 140).expect("small")).expect("our own file");
    }
    drop(writable);
    world.refused_start().says("store");
}

/// Damages the store of a stopped daemon; it must refuse the start with a sentence and leave the file as it found it.
fn damaged(how: &str, damage: impl FnOnce(&Path, u64)) {
    let mut world = World::start();
    world.stop_daemon();
    let file = store_file(&world.store());
    damage(&file, fs::metadata(&file).expect("our own file").len());
    let before = fs::read(&file).expect("our own file");
    world.refused_start().says("store");
    let after = fs::read(&file).expect("still there");
    // Not assert_eq: a store of some megabytes is nothing to print.
    assert!(after == before, "the {how} store was written to");
}

/// The database: the largest file of the store.
fn store_file(store: &Path) -> PathBuf {
    if store.is_file() {
        return store.to_owned();
    }
    let files = fs::read_dir(store).expect("the store is a directory").filter_map(Result::ok).map(|entry| entry.path());
    files.max_by_key(|file| fs::metadata(file).map_or(0, |meta| meta.len())).expect("the store holds files")
}

#[test]
fn store_and_socket_are_for_their_owner_only() {
    let world = World::start();
    let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o077;
    assert_eq!(mode(&world.store()), 0);
    assert_eq!(mode(&store_file(&world.store())), 0);
    assert_eq!(mode(&world.journal()), 0);
}
