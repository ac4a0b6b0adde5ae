//! What lies on disk at the start: a stale socket, another daemon, a store that was cut or edited.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use acceptance::tools::Finished;
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
    let refused = second.refused_start().says("store");
    // The first may end: another start may find it otherwise.
    assert_eq!(refused.status.code(), Some(1), "{refused}");
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
    tampered(&world).says("store");
}

/// What a start says that finds something else than was written. A service manager does not start it again (78 is EX_CONFIG).
fn tampered(world: &World) -> Finished {
    let refused = world.refused_start();
    assert_eq!(refused.status.code(), Some(78), "{refused}");
    refused
}

/// `audit.on_tamper = "seal"`: monitors are told why, and nobody gets at a key or leaves anything in the files.
#[test]
fn a_damaged_store_or_journal_may_start_sealed_and_is_left_alone() {
    for what in ["store", "journal"] {
        let mut world = World::start();
        world.stop_daemon();
        let sealing = world.standard_config().replace("[audit]", "[audit]\non_tamper = \"seal\"");
        world.write_config(&sealing);
        let file = if what == "store" { store_file(&world.store()) } else { world.journal() };
        let bytes = fs::read(&file).expect("our own file");
        let damaged = match what {
            "store" => bytes[..bytes.len() / 2].to_vec(),
            _ => String::from_utf8(bytes.clone()).expect("text").replacen("\"seq\":2,", "\"seq\":7,", 1).into_bytes(),
        };
        assert!(damaged != bytes);
        fs::write(&file, &damaged).expect("our own file");
        world.start_daemon();
        // Not well: its exit status says so too.
        let status = world.admin(["--json", "status"]).refused();
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
        assert_eq!(status["sealed"], true, "{status}");
        assert!(status["health"].as_str().is_some_and(|health| health.contains(what)), "{status}");
        world.admin(["token", "info"]).refused();
        world.admin(["token", "init", "--label", "new", "--so-pin", "env:SO_PIN"]).refused();
        world.stop_daemon();
        assert!(fs::read(&file).expect("still there") == damaged, "the damaged {what} was written to");
        // What was written is in its place again.
        fs::write(&file, &bytes).expect("our own file");
        world.start_daemon();
        assert_eq!(world.admin_json(["status"])["sealed"], false);
    }
}

/// Damages the store of a stopped daemon; it must refuse the start with a sentence and leave the file as it found it.
fn damaged(how: &str, damage: impl FnOnce(&Path, u64)) {
    let mut world = World::start();
    world.stop_daemon();
    let file = store_file(&world.store());
    damage(&file, fs::metadata(&file).expect("our own file").len());
    let before = fs::read(&file).expect("our own file");
    tampered(&world).says("store");
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

/// The files of store and journal, as they lie on the disk of a stopped daemon.
fn copied(world: &World, to: &str) -> PathBuf {
    let kept = world.dir().join(to);
    fs::create_dir(&kept).expect("our own directory");
    for from in [world.store().as_path(), world.dir()] {
        for entry in fs::read_dir(from).expect("our own directory").filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("audit.jsonl") || name == "vault.redb" {
                fs::copy(entry.path(), kept.join(name)).expect("copied");
            }
        }
    }
    kept
}

/// Puts files back whose names begin like this.
fn put_back(world: &World, kept: &Path, prefix: &str) {
    for entry in fs::read_dir(kept).expect("our own directory").filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            let place = if name == "vault.redb" { world.store() } else { world.dir().to_owned() };
            fs::copy(entry.path(), place.join(name)).expect("copied");
        }
    }
}

/// A world with yesterday's files; since then its user PIN was changed to "of today".
fn world_with_a_yesterday(anchored: bool) -> (World, PathBuf) {
    let mut world = World::unstarted();
    if anchored {
        fs::create_dir(world.dir().join("elsewhere")).expect("our own directory");
        let anchor = format!("[audit]\nanchor = \"{}/elsewhere/anchor\"\n", world.dir().display());
        world.write_config(&world.standard_config().replacen("[audit]\n", &anchor, 1));
    }
    world.start_daemon();
    world.init_token();
    world.stop_daemon();
    let kept = copied(&world, "yesterday");
    world.start_daemon();
    fs::write(world.dir().join("of-today"), "pin of today\n").expect("our own directory");
    world.admin(["pin", "change", "--pin", "env:PIN", "--new-pin", "file:of-today"]).ok();
    world.stop_daemon();
    (world, kept)
}

#[test]
fn yesterdays_store_is_refused_by_todays_journal_until_the_so_accepts_it() {
    let (mut world, yesterday) = world_with_a_yesterday(false);
    let accept =
        |world: &World, pin: &str| world.admin(["store", "accept-rollback", "--pin", pin, "--reason", "the disk died"]);
    accept(&world, "env:SO_PIN").refused().says("nothing to accept");
    put_back(&world, &yesterday, "vault.redb");
    tampered(&world).says("rolled back");
    accept(&world, "env:PIN").refused().says("CKR_PIN_INCORRECT");
    tampered(&world).says("rolled back");
    accept(&world, "env:SO_PIN").ok();
    world.start_daemon();
    world.admin(["key", "list", "--pin", "env:PIN"]).ok();
    world.admin(["key", "list", "--pin", "file:of-today"]).refused();
    world.admin(["audit", "verify"]).ok();
    let told = fs::read_to_string(world.journal()).expect("the journal");
    let accepted = told.lines().filter(|line| line.contains("\"op\":\"rollback_accepted\""));
    let accepted: Vec<&str> = accepted.filter(|line| line.contains("the disk died")).collect();
    assert_eq!(accepted.iter().filter(|line| line.contains("\"rv\":\"CKR_OK\"")).count(), 1, "{accepted:#?}");
    accept(&world, "env:SO_PIN").refused().says("running");
}

#[test]
fn yesterdays_store_with_yesterdays_journal_is_refused_by_the_anchor() {
    let (mut world, yesterday) = world_with_a_yesterday(true);
    let today = copied(&world, "today");
    put_back(&world, &yesterday, "vault.redb");
    put_back(&world, &yesterday, "audit.jsonl");
    tampered(&world).says("anchor");
    // It is the anchor that tells: the SO cannot pass over it either, and today's files are taken as ever.
    world.admin(["store", "accept-rollback", "--pin", "env:SO_PIN", "--reason", "x"]).refused().says("anchor");
    put_back(&world, &today, "vault.redb");
    put_back(&world, &today, "audit.jsonl");
    world.start_daemon();
    world.admin(["key", "list", "--pin", "file:of-today"]).ok();
}

#[test]
fn a_journal_that_was_cut_or_deleted_is_missed_by_the_store() {
    let (mut world, yesterday) = world_with_a_yesterday(false);
    let today = copied(&world, "today");
    put_back(&world, &yesterday, "audit.jsonl");
    tampered(&world).says("journal");
    for entry in fs::read_dir(world.dir()).expect("our own directory").filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with("audit.jsonl") {
            fs::remove_file(entry.path()).expect("our own file");
        }
    }
    tampered(&world).says("journal");
    put_back(&world, &today, "audit.jsonl");
    world.start_daemon();
}
