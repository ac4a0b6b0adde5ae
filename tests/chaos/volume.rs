//! A running daemon on a volume that is really full, and under a limit for the length of its files: nothing that was answered is lost,
//! nothing is answered without its record, and when there is room again the service goes on without a restart.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use acceptance::namespace::{in_own_namespace, mount_memory};
use acceptance::tools::{available, run};
use acceptance::worker::Worker;
use acceptance::world::{Carrier, World};

use crate::disk::{Told, until_refused, until_well};
use crate::table;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Sizes of the volume; a store and its journal take two and a half MiB at the beginning.
const SIZES: [u64; 3] = [4 * MIB, 6 * MIB, 9 * MIB];

/// What lies on the volume.
const ROWS: [(&str, bool, bool); 3] =
    [("store and journal", true, true), ("store", true, false), ("journal", false, true)];

#[test]
fn a_volume_that_is_full_costs_nothing_that_was_answered() {
    let name = "volume::a_volume_that_is_full_costs_nothing_that_was_answered";
    if !available(name, "unshare") || !available(name, "mount") {
        return;
    }
    in_own_namespace(name, || {
        for size in SIZES {
            for (what, store, journal) in ROWS {
                full_volume(what, size, store, journal);
            }
        }
        table("a full volume", &format!("{} sizes, {} arrangements: nothing lost", SIZES.len(), ROWS.len()));
    });
}

fn full_volume(what: &str, size: u64, store: bool, journal: bool) {
    let mut world = World::unstarted_for(Carrier::Express);
    let volume = world.dir().join("volume");
    mount_memory(&volume, size, false);
    let on_volume = |text: String, file: &str, there: bool| match there {
        true => text.replace(&format!("/{file}\""), &format!("/volume/{file}\"")),
        false => text,
    };
    let config = on_volume(world.standard_config(), "store", store);
    let config = on_volume(config, "audit.jsonl", journal);
    // Otherwise the journal refuses before the volume is full.
    world.write_config(&config.replace("[audit]", "[audit]\nmin_free_mib = 0"));
    world.start_daemon();
    world.init_token();
    let path = if journal { volume.join("audit.jsonl") } else { world.journal() };
    let mut worker = Worker::entered(&world);
    worker.ok("token-key first");
    let mut told = Told::default();
    for (turn, more) in [false, true].into_iter().enumerate() {
        let ballast = volume.join("ballast");
        fill(&ballast);
        let prefix = format!("t{turn}");
        if journal {
            until_refused(&mut told, &mut worker, &prefix);
        } else {
            until_no_key(&mut told, &mut worker, &prefix);
        }
        // Room comes back: somebody removes a file, or makes the volume larger.
        match more {
            false => fs::remove_file(&ballast).expect("our own file"),
            true => mount_memory(&volume, size + 16 * MIB, true),
        }
        until_well(&mut told, &mut worker, &format!("{what} of {} KiB {prefix}", size / KIB).replace(' ', "-"), &world);
    }
    told.check(&mut worker, &world, &path);
    drop(worker);
    world.crash_and_restart();
    told.check(&mut Worker::entered(&world), &world, &path);
    world.stop_daemon();
    run(Command::new("umount").arg(&volume)).ok();
}

/// Writes a file until no byte more has room.
fn fill(path: &Path) {
    let mut file = File::create(path).expect("our own directory");
    for bytes in [64 * KIB, 4 * KIB, 1] {
        let piece = vec![0x5a; usize::try_from(bytes).expect("small")];
        while file.write_all(&piece).is_ok() {}
    }
}

/// The store takes no more, and the journal lies elsewhere.
fn until_no_key(told: &mut Told, worker: &mut Worker, prefix: &str) {
    let refused = (0..2000).any(|turn| told.work_much(worker, &format!("{prefix}n{turn}"), 20, 1).0 == 0);
    assert!(refused, "{prefix}: a full volume takes keys without end");
}

/// setrlimit(2), RLIMIT_FSIZE: a write beyond it is refused and a signal sent, which ends a process that does not expect it.
#[test]
fn a_limit_for_the_length_of_files_costs_nothing_that_was_answered() {
    let name = "volume::a_limit_for_the_length_of_files_costs_nothing_that_was_answered";
    if !available(name, "prlimit") {
        return;
    }
    let mut world = World::unstarted_for(Carrier::Express);
    world.start_daemon();
    world.init_token();
    let mut worker = Worker::entered(&world);
    worker.ok("token-key first");
    let mut told = Told::default();
    let length = |path: &Path| fs::metadata(path).expect("our own file").len();
    let limits = [0, length(&world.journal()) + KIB, length(&world.store().join("vault.redb")) / 2];
    for (turn, limit) in limits.into_iter().enumerate() {
        let pid = world.daemon().pid().to_string();
        // The soft limit: everybody may raise it again.
        run(Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}:")])).ok();
        until_refused(&mut told, &mut worker, &format!("limit{turn}"));
        assert!(!world.daemon_has_ended(), "a file that may not grow ended the daemon\n{}", world.daemon().log());
        run(Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited:"])).ok();
        until_well(&mut told, &mut worker, &format!("limit{turn}"), &world);
    }
    told.check(&mut worker, &world, &world.journal());
    drop(worker);
    world.crash_and_restart();
    told.check(&mut Worker::entered(&world), &world, &world.journal());
    table("a limit for the length of files", &format!("{} limits: nothing lost", limits.len()));
}
