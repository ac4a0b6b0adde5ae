//! What a restore and a backup refuse: one flipped byte, a cut file, a wrong SO PIN, a target that is not empty. Nothing is lost.

use std::fs;
use std::path::Path;

use acceptance::tools::{Finished, available};
use acceptance::world::World;

use crate::drill::backed_up;

fn restore(world: &World, file: &Path) -> Finished {
    world.admin(["restore", "--pin", "env:SO_PIN", "--input", file.to_str().expect("UTF-8")])
}

/// The target must be as empty after a refused restore as it was before: a good backup still goes in.
fn nothing_was_written(world: &World) {
    let left = fs::read_dir(world.store()).map_or(0, |entries| entries.count());
    assert_eq!(left, 0, "a refused restore left {left} files");
}

#[test]
fn one_flipped_byte_anywhere_is_refused_before_anything_is_written() {
    if !available("tamper::one_flipped_byte_anywhere_is_refused_before_anything_is_written", "pkcs11-tool") {
        return;
    }
    let (_world, file) = backed_up();
    let good = fs::read(&file).expect("the backup");
    let target = World::unstarted();
    // Every part of the format: the first bytes, the header, the middle, the last bytes.
    let last = good.len() - 1;
    for at in [0, 4, 5, 8, 20, 40, 64, 100, 200, last / 3, last / 2, last - 40, last - 16, last - 1, last] {
        let mut bad = good.clone();
        bad[at] ^= 0x01;
        let changed = target.dir().join("changed.backup");
        fs::write(&changed, bad).expect("our own directory");
        let refused = restore(&target, &changed);
        assert!(!refused.status.success(), "byte {at} of {} was flipped: {refused}", good.len());
        refused.refused();
        nothing_was_written(&target);
    }
    restore(&target, &file).ok();
}

#[test]
fn a_cut_or_lengthened_backup_is_refused() {
    if !available("tamper::a_cut_or_lengthened_backup_is_refused", "pkcs11-tool") {
        return;
    }
    let (_world, file) = backed_up();
    let good = fs::read(&file).expect("the backup");
    let target = World::unstarted();
    let longer = [good.as_slice(), b"x"].concat();
    for bad in [&good[..0], &good[..7], &good[..good.len() / 2], &good[..good.len() - 1], &longer] {
        let changed = target.dir().join("changed.backup");
        fs::write(&changed, bad).expect("our own directory");
        restore(&target, &changed).refused();
        nothing_was_written(&target);
    }
    restore(&target, &file).ok();
}

#[test]
fn a_wrong_so_pin_is_refused_at_backup_and_at_restore() {
    if !available("tamper::a_wrong_so_pin_is_refused_at_backup_and_at_restore", "pkcs11-tool") {
        return;
    }
    let (world, file) = backed_up();
    let out = world.dir().join("no.backup");
    let out = out.to_str().expect("UTF-8");
    world.admin(["backup", "--pin", "not-the-so-pin", "--output", out]).refused().says("PIN");
    assert!(!Path::new(out).exists(), "a refused backup left a file");
    let target = World::unstarted();
    let args = ["restore", "--pin", "not-the-so-pin", "--input", file.to_str().expect("UTF-8")];
    target.admin(args).refused().says("PIN");
    nothing_was_written(&target);
    restore(&target, &file).ok();
}

#[test]
fn a_target_that_is_not_empty_is_refused_and_left_alone() {
    if !available("tamper::a_target_that_is_not_empty_is_refused_and_left_alone", "pkcs11-tool") {
        return;
    }
    let (_world, file) = backed_up();
    let mut target = World::start();
    target.pkcs11_tool_login(["--keypairgen", "--key-type", "EC:prime256v1", "--id", "07", "--label", "resident"]).ok();
    target.stop_daemon();
    restore(&target, &file).refused().says("empty");
    target.start_daemon();
    target.pkcs11_tool_login(["-O"]).ok().says("resident");
}

#[test]
fn a_restore_over_a_damaged_store_says_what_it_did_and_nothing_of_the_damage() {
    let name = "tamper::a_restore_over_a_damaged_store_says_what_it_did_and_nothing_of_the_damage";
    if !available(name, "pkcs11-tool") {
        return;
    }
    let (mut world, file) = backed_up();
    world.stop_daemon();
    let store = world.store().join("vault.redb");
    let mut bytes = fs::read(&store).expect("the store");
    for page in 1..8 {
        bytes[page * 4096 + 100..][..4].copy_from_slice(b"XXXX");
    }
    fs::write(&store, bytes).expect("the store");
    let input = file.to_str().expect("UTF-8");
    let restored = world.admin(["restore", "--pin", "env:SO_PIN", "--input", input, "--force"]).ok();
    assert!(restored.stderr.is_empty(), "the operator reads: {restored}");
    world.start_daemon();
    world.pkcs11_tool_login(["-O"]).ok().says("kept");
}

#[test]
fn a_backup_does_not_replace_a_file() {
    if !available("tamper::a_backup_does_not_replace_a_file", "pkcs11-tool") {
        return;
    }
    let (world, file) = backed_up();
    let before = fs::read(&file).expect("the backup");
    world.admin(["backup", "--pin", "env:SO_PIN", "--output", file.to_str().expect("UTF-8")]).refused();
    assert_eq!(fs::read(&file).expect("the backup"), before);
}

#[test]
fn a_backup_shows_no_label_and_no_pin() {
    if !available("tamper::a_backup_shows_no_label_and_no_pin", "pkcs11-tool") {
        return;
    }
    let (_world, file) = backed_up();
    let bytes = fs::read(&file).expect("the backup");
    for word in [acceptance::world::PIN, acceptance::world::SO_PIN] {
        assert!(!bytes.windows(word.len()).any(|window| window == word.as_bytes()), "the backup holds {word:?}");
    }
    let kept = b"kept";
    assert!(!bytes.windows(kept.len()).any(|window| window == kept), "the backup shows an object's label");
}
