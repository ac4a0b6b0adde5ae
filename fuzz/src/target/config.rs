//! The configuration file: read, or refused in one sentence, and what is accepted is safe.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use hsm_core::config::{PasswordFunction, Profile};
use hsm_daemon::door::{self, Judged};

use crate::feedback;
use crate::input::Input;

const VALUES: [&str; 24] = [
    "true",
    "false",
    "0",
    "1",
    "3",
    "96",
    "2048",
    "100000",
    "4294967296",
    "-1",
    "9223372036854775807",
    "1.5",
    "\"\"",
    "\"x\"",
    "\"compat\"",
    "\"strict\"",
    "\"127.0.0.1:0\"",
    "\"0.0.0.0:5696\"",
    "\"[::1]:1\"",
    "\"../up\"",
    "\"a/b\"",
    "\"a\\u0000b\"",
    "[]",
    "{}",
];

/// The lines of the annotated example that are or could be a table or a key.
fn lines() -> impl Iterator<Item = &'static str> {
    let all = include_str!("../../../craton_hsm.toml").lines().map(|line| line.trim_start_matches(['#', ' ']));
    all.filter(|line| line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')))
}

/// Plays an input: its first byte says whether it is the text itself or changes the annotated example.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let text = if input.byte() & 1 == 0 { changed(&mut input) } else { input.rest().to_vec() };
    let mut file = tempfile::NamedTempFile::new_in(crate::stage::memory_folder()).expect("a temporary file");
    file.write_all(&text).expect("written");
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o600)).expect("changed");
    match door::judge(file.path()) {
        Err(why) => {
            assert!(!why.is_empty() && !why.contains('\n'), "a refusal is one sentence: {why:?}");
            let facts = why.replace(&file.path().display().to_string(), "");
            feedback::note(facts.chars().filter(|c| c.is_alphabetic()).take(30).collect::<String>());
        }
        Ok(judged) => {
            feedback::note("accepted");
            check(&judged);
        }
    }
}

fn changed(input: &mut Input<'_>) -> Vec<u8> {
    let mut text = String::new();
    let lines: Vec<&str> = lines().collect();
    let mut from = 0;
    while !input.is_empty() && text.len() < 4000 {
        // Whole runs of the example, so that keys stand under their tables.
        from = if input.one_in(4) { input.below(lines.len()) } else { (from + 1) % lines.len() };
        match lines[from].split_once(" = ") {
            Some((key, _)) if input.one_in(3) => text.push_str(&format!("{key} = {}\n", input.pick(&VALUES))),
            Some(_) if input.one_in(3) => {}
            _ => text.push_str(&format!("{}\n", lines[from])),
        }
    }
    text.into_bytes()
}

fn check(judged: &Judged) {
    if let Some((address, mutual)) = judged.tcp {
        assert!(address.ip().is_loopback() || mutual, "a listener beyond loopback without client certificates");
    }
    let core = &judged.core;
    assert!(
        core.policy.profile == Profile::Compat || core.policy.opened().is_empty(),
        "a switch is open in a safe profile"
    );
    assert!(
        !matches!(core.pin.function, PasswordFunction::Pbkdf2 { iterations: ..100_000 })
            && core.pin.min_length >= 4
            && core.pin.max_attempts <= 100,
        "{:?}",
        core.pin
    );
    let up = |path: &PathBuf| path.components().any(|part| part == std::path::Component::ParentDir);
    assert!(!up(&core.store.path) && !up(&core.audit.log_path), "a path leads upwards");
}
