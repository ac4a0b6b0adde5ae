//! The daemon, and an application with the module, under valgrind: nothing reads memory that is not its own or was given back, nothing decides
//! by or says what was never written, and nothing that nobody can reach any more stays.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use acceptance::daemon::binary;
use acceptance::tools::available;
use acceptance::worker::Worker;
use acceptance::world::{Carrier, World};

/// Memcheck, and the exit status of a program in which it found something.
const VALGRIND: &str =
    "valgrind --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite --num-callers=30";

/// What valgrind itself cannot live with: it opens files and asks the kernel for more than the daemon does.
const UNFILTERED: &str = "[hardening]\nseccomp = \"off\"\nlandlock = \"off\"\n";

/// What the application does, a line each.
const STORY: [&str; 13] = [
    "open",
    "wrong-pin",
    "login",
    "token-key first",
    "sign first 2 5",
    "session-object second",
    "secrets",
    "guard authority",
    "issue authority 2",
    "churn passing 3",
    "ids",
    "calls",
    "logout",
];

/// A program that becomes another under valgrind, whose findings go to a file.
fn under_valgrind(world: &World, options: &str, program: &Path, findings: &Path) -> PathBuf {
    let script = world.dir().join(program.file_name().expect("a program has a name"));
    let text = format!(
        "#!/bin/sh\nexec {VALGRIND} {options} --log-file={} {} \"$@\"\n",
        findings.display(),
        program.display()
    );
    fs::write(&script, text).expect("the world's directory is writable");
    fs::set_permissions(&script, Permissions::from_mode(0o700)).expect("our own file");
    script
}

fn touches_only_its_own_memory(carrier: Carrier, test: &str) {
    if !available(test, "valgrind") {
        return;
    }
    let mut world = World::unstarted_for(carrier);
    world.configure(UNFILTERED);
    let (of_daemon, of_application) = (world.dir().join("daemon.findings"), world.dir().join("application.findings"));
    let daemon = under_valgrind(&world, "", &binary("craton-hsm-daemon"), &of_daemon);
    world.daemon_program(daemon);
    world.start_daemon();
    world.init_token();
    // The TLS library of the module hashes by code that memcheck does not follow: it takes the sum for something that was never written, and
    // all that is encrypted under it. The other kinds of findings stand.
    let options = if carrier == Carrier::Grpc { "--undef-value-errors=no" } else { "" };
    let application = under_valgrind(&world, options, &Worker::program(), &of_application);
    let mut worker = Worker::start_with(&mut world.command(application));
    for line in STORY {
        worker.ok(line);
    }
    let ended = worker.end();
    let said = |findings: &Path| fs::read_to_string(findings).unwrap_or_default();
    assert!(ended.success() && said(&of_application).contains("ERROR SUMMARY: 0 errors"), "{}", said(&of_application));
    let ended = world.take_daemon().stop();
    assert!(ended.success() && said(&of_daemon).contains("ERROR SUMMARY: 0 errors"), "{}", said(&of_daemon));
}

#[test]
fn daemon_and_module_touch_only_their_own_memory() {
    touches_only_its_own_memory(Carrier::Express, "memcheck::daemon_and_module_touch_only_their_own_memory");
}

#[test]
fn daemon_and_module_touch_only_their_own_memory_over_grpc() {
    touches_only_its_own_memory(Carrier::Grpc, "memcheck::daemon_and_module_touch_only_their_own_memory_over_grpc");
}

/// Memcheck would have found something, and the test would have failed.
#[test]
fn memory_that_was_never_written_is_found() {
    let test = "memcheck::memory_that_was_never_written_is_found";
    if !available(test, "valgrind") || !available(test, "cc") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (source, program) = (folder.path().join("wrong.c"), folder.path().join("wrong"));
    fs::write(&source, "#include <stdlib.h>\nint main(void) { char *p = malloc(2); return p[1] ? 0 : 1; }\n")
        .expect("written");
    let compiled = Command::new("cc").args(["-O0", "-o"]).args([&program, &source]).status().expect("cc runs");
    assert!(compiled.success());
    let mut words = VALGRIND.split_whitespace();
    let checked =
        Command::new(words.next().expect("a program")).args(words).arg(&program).output().expect("valgrind runs");
    assert_eq!(checked.status.code(), Some(99), "{}", String::from_utf8_lossy(&checked.stderr));
}
