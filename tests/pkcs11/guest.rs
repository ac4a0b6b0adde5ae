//! The module as a guest in other people's processes: forked, unloaded, loaded twice, finalised while it works, interrupted by signals,
//! left without goodbye. The stories are told by a C program (`testdata/guest.c`), each in a process of its own; what is left at the
//! daemon afterwards is asked of the daemon.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use acceptance::daemon::workspace;
use acceptance::module;
use acceptance::tools::{self, available, run};
use acceptance::world::World;

/// How long the daemon may take to notice that a process is gone.
const SETTLE: Duration = Duration::from_secs(180);

/// The compiled program; none when there is no C compiler.
fn program(test: &str, world: &World) -> Option<PathBuf> {
    available(&format!("guest::{test}"), "cc").then(|| {
        let program = world.dir().join("guest");
        let source = workspace().join("tests/testdata/guest.c");
        let mut compiler = Command::new("cc");
        run(compiler.args(["-O1", "-Wall", "-Werror", "-pthread", "-o"]).arg(&program).arg(source).arg("-ldl")).ok();
        program
    })
}

/// Sessions, applications and descriptors at the daemon.
fn left_at_the_daemon(world: &World) -> (u64, u64, usize) {
    let status = world.admin_json(["status"]);
    let number = |name: &str| status[name].as_u64().expect("a number");
    let descriptors = fs::read_dir(format!("/proc/{}/fd", world.daemon().pid())).expect("the daemon runs").count();
    (number("sessions"), number("applications"), descriptors)
}

/// Waits until nothing more than `before` is left.
fn nothing_is_left(world: &World, before: (u64, u64, usize)) {
    let deadline = Instant::now() + SETTLE;
    loop {
        let now = left_at_the_daemon(world);
        // The daemon may keep fewer descriptors than before: what the admin tool used has gone meanwhile.
        if (now.0, now.1) == (before.0, before.1) && now.2 <= before.2 {
            return;
        }
        assert!(Instant::now() < deadline, "sessions, applications, descriptors: {now:?}, before: {before:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Runs a story; it ends well, prints nothing, and leaves nothing at the daemon.
fn tell(test: &str, words: &[&str], times: usize) {
    let world = World::start();
    let Some(program) = program(test, &world) else { return };
    let before = left_at_the_daemon(&world);
    for _ in 0..times {
        let told = run(world.command(&program).args(words)).ok();
        assert_eq!(told.all(), "", "{told}");
    }
    nothing_is_left(&world, before);
}

macro_rules! stories {
    ($($test:ident: $story:literal x $times:literal;)*) => {
        $(#[test] fn $test() { tell(stringify!($test), &[$story], $times); })*
    };
}

stories! {
    a_forked_child_is_uninitialised_and_leaves_its_parent_alone: "fork" x 1;
    children_come_and_go_while_the_parent_signs: "fork-under-load" x 1;
    a_module_is_loaded_and_unloaded_many_times: "reload" x 1;
    a_module_may_be_unloaded_while_threads_call_it: "unload-under-load" x 1;
    finalize_ends_the_calls_of_other_threads: "finalize-under-load" x 1;
    finalize_ends_a_wait_for_slot_events: "finalize-ends-waiting" x 1;
    each_form_of_initialize_is_taken_or_refused_as_the_standard_says: "initialize-forms" x 1;
    of_sixteen_threads_that_initialize_at_once_one_does: "concurrent-initialize" x 1;
    every_descriptor_closes_on_exec_and_no_thread_is_started: "descriptors" x 1;
    closed_standard_streams_stay_closed: "closed-streams" x 1;
    signal_masks_and_handlers_stay_as_they_are: "signals" x 1;
    interrupted_system_calls_are_no_errors: "interrupted" x 1;
    a_process_that_exits_without_finalize_leaves_nothing: "exit" x 3;
    a_process_that_ends_at_once_leaves_nothing: "quick-exit" x 3;
    five_hundred_short_processes_leave_nothing: "short" x 500;
}

#[test]
fn two_copies_of_the_module_in_one_process_are_two_applications() {
    let test = "two_copies_of_the_module_in_one_process_are_two_applications";
    let world = World::start();
    let Some(program) = program(test, &world) else { return };
    let copy = world.dir().join("another-copy.so");
    fs::copy(module::path(), &copy).expect("the world's directory is writable");
    let before = left_at_the_daemon(&world);
    let told = run(world.command(program).arg("two-copies").arg(copy)).ok();
    assert_eq!(told.all(), "", "{told}");
    nothing_is_left(&world, before);
}

#[test]
fn a_daemon_that_dies_kills_no_process_by_sigpipe() {
    let mut world = World::start();
    let Some(program) = program("a_daemon_that_dies_kills_no_process_by_sigpipe", &world) else { return };
    let mut command = world.command(program);
    let command = command.arg("daemon-dies").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().expect("the program starts");
    let mut line = String::new();
    let output = child.stdout.as_mut().expect("stdout is piped");
    BufReader::new(output).read_line(&mut line).expect("the program speaks");
    assert_eq!(line, "ready\n");
    world.take_daemon().kill();
    child.stdin.take().expect("stdin is piped").write_all(b"gone\n").expect("the program listens");
    let status = tools::wait(&mut child, SETTLE).expect("the program ends");
    assert!(status.success(), "{status}");
}

#[test]
fn a_process_without_an_environment_is_served() {
    let world = World::start();
    let Some(program) = program("a_process_without_an_environment_is_served", &world) else { return };
    // What a service manager leaves: no HOME, no PATH, no LANG; the module's own variables alone.
    let given: Vec<_> =
        world.command(&program).get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
    let mut command = Command::new(program);
    command.arg("short").env_clear().current_dir("/");
    command.envs(given.into_iter().filter_map(|(name, value)| Some((name, value?))));
    assert_eq!(run(&mut command).ok().all(), "");
}

#[test]
fn pkcs11_tool_passes_its_own_tests_of_threads_and_curves() {
    if !available("guest::pkcs11_tool_passes_its_own_tests_of_threads_and_curves", "pkcs11-tool") {
        return;
    }
    let world = World::start();
    // IN: initialise, GI: get interface, SL: slots and tokens; one word per thread, each a list of what it does.
    for threads in [&["IN"][..], &["IN", "IN", "IN"], &["ILGISLT0", "ILGISLT0", "ILGISLT0", "ILGISLT0"]] {
        let words = threads.iter().flat_map(|thread| ["--test-threads", thread]);
        world.pkcs11_tool(words).ok();
    }
    let tested = world.pkcs11_tool_login([
        "--session-rw",
        "--test-ec",
        "--id",
        "04",
        "--label",
        "tested",
        "--key-type",
        "EC:prime256v1",
    ]);
    let tested = tested.ok();
    assert!(!tested.all().contains("ERR"), "{tested}");
}
