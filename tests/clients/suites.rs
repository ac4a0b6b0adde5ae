//! Another project's own test suite against the module, on the default profile and with every switch open.
//!
//! What fails is listed in `python_pkcs11.txt` with its reason. A test that newly fails is a defect; one that no longer fails is struck
//! out, so that the list stays true. docs/conformance.md has the suites that take longer (`make conformance`).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use acceptance::daemon::workspace;
use acceptance::tools::{self, skip};
use acceptance::world::{LABEL, PIN, SO_PIN, World};

/// `profile test reason`, one a line.
const EXPECTED: &str = include_str!("python_pkcs11.txt");
const OPEN: &str = include_str!("../testdata/conformance.toml");
/// A hung suite, not a slow machine.
const LIMIT: Duration = Duration::from_secs(600);

#[test]
fn python_pkcs11_on_the_default_profile() {
    python_pkcs11("safe", "suites::python_pkcs11_on_the_default_profile");
}

#[test]
fn python_pkcs11_with_every_switch_open() {
    python_pkcs11("compat", "suites::python_pkcs11_with_every_switch_open");
}

fn python_pkcs11(profile: &str, test: &str) {
    let Some(python) = tools::python() else { return skip(test, "python-pkcs11 not found in .venv") };
    let Some(sources) = sources() else { return skip(test, "the tests of python-pkcs11 not found in .venv/suites") };
    let mut world = World::start();
    if profile == "compat" {
        world.stop_daemon();
        world.write_config(&format!("{}{OPEN}", world.standard_config()));
        world.start_daemon();
    }
    let said = world.dir().join("suite.out");
    let out = File::create(&said).expect("the world's directory is writable");
    let err = out.try_clone().expect("a file can be shared");
    let mut child = world
        .command(&python)
        .args(["-m", "pytest", "-q", "--tb=no", "-rfE", "-p", "no:cacheprovider", "tests"])
        .env("PKCS11_TOKEN_LABEL", LABEL)
        .env("PKCS11_TOKEN_PIN", PIN)
        .env("PKCS11_TOKEN_SO_PIN", SO_PIN)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // A line of the summary is not cut.
        .env("COLUMNS", "400")
        .current_dir(sources)
        .stdout(out)
        .stderr(err)
        .spawn()
        .expect("the interpreter can be started");
    let status = tools::wait(&mut child, LIMIT);
    let said = fs::read_to_string(said).unwrap_or_default();
    let last = said.lines().last().unwrap_or_default();
    assert!(status.is_some() && last.contains(" passed"), "the suite did not end: {said}");
    println!("TABLE python-pkcs11 {profile}: {last}");
    let failed: BTreeSet<&str> = said.lines().filter_map(failure).collect();
    let expected: BTreeSet<&str> = EXPECTED.lines().filter_map(|line| listed(line, profile)).collect();
    let new: Vec<_> = failed.difference(&expected).collect();
    let gone: Vec<_> = expected.difference(&failed).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "fails and is not listed: {new:#?}\nis listed and does not fail: {gone:#?}"
    );
}

/// The suite's source package, as scripts/install-test-tools unpacks it.
fn sources() -> Option<PathBuf> {
    let unpacked = fs::read_dir(workspace().join(".venv/suites")).ok()?.flatten().map(|entry| entry.path());
    unpacked.into_iter().find(|path| path.join("tests/test_sessions.py").is_file())
}

fn failure(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("FAILED tests/").or_else(|| line.strip_prefix("ERROR tests/"))?;
    rest.split_whitespace().next()
}

/// The test that a line lists for this profile.
fn listed<'t>(line: &'t str, profile: &str) -> Option<&'t str> {
    let mut words = line.split_whitespace();
    let of = words.next().filter(|word| *word == profile || *word == "both")?;
    let test = words.next().unwrap_or_else(|| panic!("{of}: which test?"));
    assert!(words.next().is_some(), "{test}: why does it fail?");
    Some(test)
}
