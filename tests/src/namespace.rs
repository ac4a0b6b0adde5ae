//! Tests that mount file systems: each in a process of its own, in a mount namespace of its own, so that nothing stays mounted.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::tools::{self, run, skip};

const CHILD: &str = "ACCEPTANCE_NAMESPACE";
/// The longest that such a test may take.
const LIMIT: Duration = Duration::from_secs(1800);
/// As root, and as everybody else where the system lets them.
const WAYS: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];

/// Runs `body` where it may mount; `test` is the test's path in this test binary. Skips the test by name where nobody may.
///
/// # Panics
/// In the parent, with the child's output, when the child failed.
pub fn in_own_namespace(test: &str, body: impl FnOnce()) {
    if std::env::var(CHILD).is_ok_and(|child| child == test) {
        return body();
    }
    let place = tempfile::tempdir().expect("a temporary directory can be made");
    let may_mount = |way: &&[&str]| {
        let mut command = Command::new("unshare");
        command.args(*way).args(["mount", "-t", "tmpfs", "-o", "size=1m", "none"]).arg(place.path());
        command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
    };
    let Some(way) = WAYS.into_iter().find(may_mount) else {
        return skip(test, "nothing may be mounted here, not in a namespace either");
    };
    let out = place.path().join("out");
    let file = fs::File::create(&out).expect("our own directory");
    let copy = file.try_clone().expect("a file can be shared");
    let mut child = Command::new("unshare")
        .args(way)
        .arg(std::env::current_exe().expect("the test binary is running"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, test)
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(copy)
        .spawn()
        .expect("the test binary can be started again");
    let status = tools::wait(&mut child, LIMIT);
    let said = String::from_utf8_lossy(&fs::read(&out).unwrap_or_default()).into_owned();
    let passed = status.is_some_and(|status| status.success()) && said.contains("1 passed");
    let quoted: String = said.lines().map(|line| format!("  | {line}\n")).collect();
    assert!(passed, "in its own namespace, {status:?}:\n{quoted}");
    for line in said.lines().filter(|line| line.starts_with("SKIPPED ") || line.starts_with("TABLE ")) {
        println!("{line}");
    }
}

/// A file system in memory of so many bytes at a directory, which is made; or another size for the one that is there.
///
/// # Panics
/// When it cannot be mounted.
pub fn mount_memory(directory: &Path, bytes: u64, again: bool) {
    fs::create_dir_all(directory).expect("our own directory");
    let options = format!("{}size={bytes},mode=700", if again { "remount," } else { "" });
    run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(directory)).ok();
}
