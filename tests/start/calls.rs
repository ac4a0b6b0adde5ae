//! What a daemon that was taken over may ask of the kernel: every system call there is, made inside a running daemon, against the lists
//! in docs/hardening.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use acceptance::daemon::workspace;
use acceptance::tools::{available, run};
use acceptance::world::World;

/// The number of a call and its first argument; the others are zero.
type Call = (i64, i64);

const DONE: i32 = 0;
const REFUSED: i32 = 1;
const UNKNOWN: i32 = 38;
const ENDED: i32 = -1;
/// It was the kernel's to judge, not the filter's.
const PASSED: i32 = -2;

/// Flags of clone(2) that make namespaces: of mounts, control groups, host names, System V objects, users, processes, networks.
const NAMESPACES: [i64; 7] =
    [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
/// Families of sockets that the daemon uses: Unix, and both of the Internet.
const FAMILIES: [i64; 3] = [1, 2, 10];
/// Numbers of x86-64's other way to call have this bit.
const OTHER_WAY: i64 = 0x4000_0000;

/// All calls by name, as the C library's headers number them on this machine.
fn numbers(dir: &Path) -> BTreeMap<String, i64> {
    let source = dir.join("numbers.c");
    fs::write(&source, "#include <sys/syscall.h>\n").expect("the world's directory is writable");
    let said = run(Command::new("cc").args(["-dM", "-E"]).arg(source)).ok().text();
    let lines = said.lines().filter_map(|line| line.strip_prefix("#define __NR_")?.split_once(' '));
    lines.filter_map(|(name, number)| Some((name.to_owned(), number.trim().parse().ok()?))).collect()
}

/// The page's paragraphs of nothing but calls: those that are allowed, and those that end the process.
fn lists() -> [BTreeSet<String>; 2] {
    let page = fs::read_to_string(workspace().join("docs/hardening.md")).expect("the page");
    let section = page.split("\n## ").find(|section| section.starts_with("System calls")).expect("its section");
    let names = |paragraph: &str| -> Option<BTreeSet<String>> {
        let words = paragraph.split_whitespace();
        words.map(|word| Some(word.strip_prefix('`')?.strip_suffix('`')?.to_owned())).collect()
    };
    let found: Vec<_> = section.split("\n\n").filter_map(names).filter(|names| names.len() > 10).collect();
    found.try_into().expect("two lists")
}

/// Has the calls made inside the daemon of a world, and gives what came of each.
fn ask(world: &World, calls: &[Call]) -> BTreeMap<Call, i32> {
    let asked = world.dir().join("calls");
    let lines: String = calls.iter().map(|(number, first)| format!("{number} {first} 0 0 0 0 0\n")).collect();
    fs::write(world.dir().join("calls.new"), lines).expect("the world's directory is writable");
    fs::rename(world.dir().join("calls.new"), &asked).expect("the same directory");
    let told = world.dir().join("calls.told");
    let deadline = Instant::now() + Duration::from_secs(300);
    while !told.exists() {
        assert!(
            Instant::now() < deadline,
            "not all calls came back: {:?}",
            fs::read_to_string(told.with_extension("part"))
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let text = fs::read_to_string(&told).expect("our own file");
    let number = |word: Option<&str>| word.expect("three words").parse::<i64>().expect("a number");
    let line = |line: &str| {
        let mut words = line.split(' ');
        let call = (number(words.next()), number(words.next()));
        (call, i32::try_from(number(words.next())).expect("small"))
    };
    text.lines().map(line).collect()
}

/// A world whose daemon makes calls when it is told to.
fn world(test: &str, hardening: &str) -> Option<World> {
    if !available(test, "cc") {
        return None;
    }
    let mut world = World::unstarted();
    let (source, library) = (workspace().join("tests/testdata/asked.c"), world.dir().join("asked.so"));
    run(Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-pthread", "-o"])
        .arg(&library)
        .arg(source))
    .ok();
    world.daemon_environment(vec![("LD_PRELOAD", library), ("CALLS", world.dir().join("calls"))]);
    world.write_config(&format!("{}[hardening]\n{hardening}\n", world.standard_config()));
    world.start_daemon();
    Some(world)
}

#[test]
fn the_kernel_refuses_a_running_daemon_every_call_that_the_page_does_not_list() {
    let name = "calls::the_kernel_refuses_a_running_daemon_every_call_that_the_page_does_not_list";
    let Some(world) = world(name, "") else { return };
    let (numbers, [allowed, ended]) = (numbers(world.dir()), lists());
    assert!(numbers.len() > 200 && allowed.is_disjoint(&ended), "{} calls", numbers.len());
    let mut due: BTreeMap<Call, (String, i32)> = BTreeMap::new();
    for (call, number) in numbers.iter().filter(|(call, _)| !allowed.contains(*call)) {
        let outcome = match call.as_str() {
            "socket" => continue,
            "clone3" => UNKNOWN,
            _ if ended.contains(call) => ENDED,
            _ => REFUSED,
        };
        due.insert((*number, 0), (call.clone(), outcome));
    }
    for family in 0..46 {
        let outcome = if FAMILIES.contains(&family) { PASSED } else { REFUSED };
        due.insert((numbers["socket"], family), (format!("socket of family {family}"), outcome));
    }
    for flag in NAMESPACES {
        due.insert((numbers["clone"], flag), (format!("clone with {flag:#x}"), REFUSED));
    }
    if cfg!(target_arch = "x86_64") {
        due.insert((numbers["getpid"] | OTHER_WAY, 0), ("getpid by the other way".to_owned(), REFUSED));
    }
    let calls: Vec<Call> = due.keys().copied().collect();
    let came = ask(&world, &calls);
    let is_as_due = |call: &Call, outcome: i32| match (came.get(call), outcome) {
        (Some(errno), PASSED) => ![REFUSED, ENDED].contains(errno),
        (came, _) => came == Some(&outcome),
    };
    let other: Vec<String> = due
        .iter()
        .filter(|(call, (_, outcome))| !is_as_due(call, *outcome))
        .map(|(call, (what, outcome))| format!("{what}: {:?} where {outcome} was due", came.get(call)))
        .collect();
    assert!(other.is_empty(), "{other:#?}");
    let ended_here = due.values().filter(|(_, outcome)| *outcome == ENDED).count();
    assert!(ended_here > 20 && due.len() > 150, "{ended_here} of {} calls end a process", due.len());
    world.admin(["status"]).ok();
}

/// That the refusals above are the filter's: without it the same calls are done.
#[test]
fn without_the_filter_the_same_daemon_is_refused_nothing_of_it() {
    let name = "calls::without_the_filter_the_same_daemon_is_refused_nothing_of_it";
    let Some(world) = world(name, "seccomp = \"off\"") else { return };
    let numbers = numbers(world.dir());
    // What any process may do with arguments of zero.
    let calls: Vec<Call> = ["unshare", "getpriority", "getsid", "inotify_init1", "sched_getscheduler"]
        .map(|call| (numbers[call], 0))
        .into();
    let came = ask(&world, &calls);
    assert!(calls.iter().all(|call| came.get(call) == Some(&DONE)), "{came:?}");
}
