//! What another program of the daemon's own user gets: no memory, no tracing, and no core when the daemon crashes.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod world;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use world::World;

/// A user who is nobody on this machine.
const USER: &str = "54321";

/// A command of the user whom the daemon runs as: somebody who is not the superuser.
fn as_user(program: &str) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups", program]);
    command
}

#[test]
fn a_program_of_the_same_user_reads_no_memory_and_a_crash_leaves_no_core() {
    const NAME: &str = "a_program_of_the_same_user_reads_no_memory_and_a_crash_leaves_no_core";
    if Command::new("setpriv").arg("--version").output().is_err() {
        println!("SKIPPED {NAME}: setpriv not found");
        return;
    }
    let mut world = World::new("");
    let folder = world.folder.path().to_owned();
    // Where that user may read it.
    let program = world.path("daemon");
    std::fs::copy(env!("CARGO_BIN_EXE_craton-hsm-daemon"), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    if rustix::process::geteuid().is_root() {
        let owner = format!("{USER}:{USER}");
        assert!(Command::new("chown").arg("-R").arg(&owner).arg(&folder).status().unwrap().success());
    }
    let log = std::fs::File::create(world.path("log")).unwrap();
    let mut command = as_user("sh");
    command.args(["-c", "ulimit -c unlimited && exec \"$0\" --config \"$1\""]).arg(&program);
    command.arg(world.path("craton_hsm.toml")).current_dir(&folder).env_remove("RUST_LOG");
    world.child = Some(command.stdin(Stdio::null()).stderr(log).spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(180);
    while !world.log().contains("ready") {
        assert!(Instant::now() < deadline, "not ready:\n{}", world.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = world.child.as_ref().unwrap().id();

    // What the same user may look into at other programs of his.
    let mut other = as_user("sleep").arg("600").spawn().unwrap();
    let look = |pid: u32, what: &str| {
        let output = as_user("cat").arg(format!("/proc/{pid}/{what}")).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    while !std::fs::read_to_string(format!("/proc/{}/comm", other.id())).is_ok_and(|name| name.trim() == "sleep") {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(look(other.id(), "maps").0 && look(other.id(), "environ").0, "the test could not see anything");
    for what in ["maps", "environ", "mem", "auxv"] {
        let (seen, said) = look(pid, what);
        assert!(!seen && said.contains("ermission denied"), "/proc/PID/{what}: {said}");
    }
    match as_user("gcore").arg("-o").arg(folder.join("dump")).arg(pid.to_string()).output() {
        Ok(traced) => assert!(!traced.status.success(), "it could be traced"),
        Err(_) => println!("SKIPPED {NAME} (the tracing): gcore not found"),
    }
    other.kill().unwrap();
    other.wait().unwrap();

    let mut child = world.child.take().unwrap();
    // The first one is caught by Rust's runtime, which looks for an overflow of the stack, finds none, and gives the signal back.
    let status = loop {
        Command::new("kill").args(["-SEGV", &pid.to_string()]).stderr(Stdio::null()).status().unwrap();
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline + Duration::from_secs(180), "it goes on");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!((status.signal(), status.core_dumped()), (Some(11), false));
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("core")), "{left:?}");
}
