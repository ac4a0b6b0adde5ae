//! Other projects' own test suites against the module, on the default profile and with every switch open.
//!
//! What fails is listed in `python_pkcs11.txt` and `pykcs11.txt` with its reason. A test that newly fails is a defect; one that no longer
//! fails is struck out, so that the lists stay true. docs/conformance.md has the suites that take longer (`make conformance`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use acceptance::daemon::workspace;
use acceptance::tools::{self, skip};
use acceptance::world::{LABEL, PIN, SO_PIN, World};

/// A suite that pytest runs.
struct Suite {
    name: &'static str,
    /// The module that it tests the token through.
    module: &'static str,
    /// Where in its source package the tests are, and one of them.
    tests: [&'static str; 2],
    /// What fails: `profile test reason`, one a line.
    expected: &'static str,
    /// The PINs of user and SO that it has built in, or is told.
    pins: [&'static str; 2],
    /// A pytest plugin of tests/testdata.
    plugin: Option<&'static str>,
}

const PYTHON_PKCS11: Suite = Suite {
    name: "python-pkcs11",
    module: "pkcs11",
    tests: ["tests", "test_sessions.py"],
    expected: include_str!("python_pkcs11.txt"),
    pins: [PIN, SO_PIN],
    plugin: None,
};

const PYKCS11: Suite = Suite {
    name: "PyKCS11",
    module: "PyKCS11",
    tests: ["test", "test_ckbytelist.py"],
    expected: include_str!("pykcs11.txt"),
    pins: ["1234", "123456"],
    plugin: Some("pykcs11_version"),
};

const OPEN: &str = include_str!("../testdata/conformance.toml");
/// A hung suite, not a slow machine.
const LIMIT: Duration = Duration::from_secs(600);

#[test]
fn python_pkcs11_on_the_default_profile() {
    run(&PYTHON_PKCS11, "safe", "suites::python_pkcs11_on_the_default_profile");
}

#[test]
fn python_pkcs11_with_every_switch_open() {
    run(&PYTHON_PKCS11, "compat", "suites::python_pkcs11_with_every_switch_open");
}

#[test]
fn pykcs11_on_the_default_profile() {
    run(&PYKCS11, "safe", "suites::pykcs11_on_the_default_profile");
}

#[test]
fn pykcs11_with_every_switch_open() {
    run(&PYKCS11, "compat", "suites::pykcs11_with_every_switch_open");
}

fn run(suite: &Suite, profile: &str, test: &str) {
    let name = suite.name;
    let Some(python) = tools::python(suite.module) else { return skip(test, &format!("{name} not found in .venv")) };
    let Some(sources) = sources(suite) else {
        return skip(test, &format!("the tests of {name} not found in .venv/suites"));
    };
    let world = stage(suite, profile);
    let (mut said, mut counted) = (String::new(), BTreeMap::<&str, u64>::new());
    for file in files(suite, &sources) {
        let output = tried(suite, &world, &python, &sources, &file);
        for (what, count) in ["passed", "failed", "skipped"].map(|what| (what, count(&output, what))) {
            *counted.entry(what).or_default() += count;
        }
        said += &output;
    }
    assert!(counted["passed"] > 0, "nothing was tried: {said}");
    println!("TABLE {name} {profile}: {counted:?}");
    let failed: BTreeSet<&str> = said.lines().filter_map(|line| failure(suite, line)).collect();
    let expected: BTreeSet<&str> = suite.expected.lines().filter_map(|line| listed(line, profile)).collect();
    let new: Vec<_> = failed.difference(&expected).collect();
    let gone: Vec<_> = expected.difference(&failed).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "fails and is not listed: {new:#?}\nis listed and does not fail: {gone:#?}"
    );
}

/// The suite's files, each of which has a process of its own: what a failed test leaves open is in nobody's way.
fn files(suite: &Suite, sources: &Path) -> Vec<String> {
    let found = fs::read_dir(sources.join(suite.tests[0])).expect("the suite was found").flatten();
    let mut names: Vec<String> = found.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.starts_with("test_") && name.ends_with(".py"));
    names.sort();
    names
}

/// What pytest says of one file.
fn tried(suite: &Suite, world: &World, python: &Path, sources: &Path, file: &str) -> String {
    let said = world.dir().join("suite.out");
    let out = File::create(&said).expect("the world's directory is writable");
    let err = out.try_clone().expect("a file can be shared");
    let [user_pin, so_pin] = suite.pins;
    let mut command = world.command(python);
    command
        .args(["-m", "pytest", "-q", "--tb=no", "-rfE", "-p", "no:cacheprovider"])
        .args(suite.plugin.iter().flat_map(|plugin| ["-p", plugin]))
        .arg(format!("{}/{file}", suite.tests[0]))
        .env("PYTHONPATH", workspace().join("tests/testdata"))
        .env("PKCS11_TOKEN_LABEL", LABEL)
        .env("PKCS11_TOKEN_PIN", user_pin)
        .env("PKCS11_TOKEN_SO_PIN", so_pin)
        .env("PYKCS11LIB", acceptance::module::path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // A line of the summary is not cut.
        .env("COLUMNS", "400")
        .current_dir(sources)
        .stdout(out)
        .stderr(err);
    let status = tools::wait(&mut command.spawn().expect("the interpreter can be started"), LIMIT);
    let said = fs::read_to_string(said).unwrap_or_default();
    let last = said.lines().last().unwrap_or_default();
    let ended = [" passed", " failed", " skipped"].iter().any(|word| last.contains(word));
    assert!(status.is_some() && ended, "{file} did not end: {said}");
    said
}

/// The number before a word in pytest's last line.
fn count(said: &str, what: &str) -> u64 {
    let words: Vec<&str> = said.lines().last().unwrap_or_default().split_whitespace().collect();
    let at = words.iter().position(|word| word.trim_end_matches(',') == what);
    at.and_then(|at| words.get(at.checked_sub(1)?)?.parse().ok()).unwrap_or(0)
}

/// A daemon in a profile, whose token has the PINs of the suite, however short they are.
fn stage(suite: &Suite, profile: &str) -> World {
    let mut world = World::unstarted();
    let [user_pin, so_pin] = suite.pins;
    let shortest = user_pin.len().min(so_pin.len()).min(8);
    let config = world.standard_config().replace("[security]\n", &format!("[security]\npin_min_length = {shortest}\n"));
    world.write_config(&format!("{config}{}", if profile == "compat" { OPEN } else { "" }));
    world.start_daemon();
    world.admin(["token", "init", "--label", LABEL, "--so-pin", so_pin, "--user-pin", user_pin]).ok();
    world
}

/// The suite's source package, as scripts/install-test-tools unpacks it.
fn sources(suite: &Suite) -> Option<PathBuf> {
    let mut unpacked = fs::read_dir(workspace().join(".venv/suites")).ok()?.flatten().map(|entry| entry.path());
    unpacked.find(|path| path.join(suite.tests.join("/")).is_file())
}

/// The test that a line of pytest's summary names; of a failed subtest the description stands before it.
fn failure<'s>(suite: &Suite, line: &'s str) -> Option<&'s str> {
    let rest = ["FAILED ", "ERROR ", "SUBFAILED"].iter().find_map(|word| line.strip_prefix(word))?;
    let words = rest.split_whitespace();
    words.filter_map(|word| word.strip_prefix(suite.tests[0])?.strip_prefix('/')).find(|test| test.contains("::"))
}

/// The test that a line lists for this profile.
fn listed<'t>(line: &'t str, profile: &str) -> Option<&'t str> {
    let mut words = line.split_whitespace();
    let of = words.next().filter(|word| *word == profile || *word == "both")?;
    let test = words.next().unwrap_or_else(|| panic!("{of}: which test?"));
    assert!(words.next().is_some(), "{test}: why does it fail?");
    Some(test)
}
