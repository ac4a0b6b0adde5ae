//! PINs, passphrases and keys of every type are used, and looked for in all that a token writes or shows: its log at the finest level, its
//! journal in every form, its store, its backup, its metrics, its status. None is there.

use std::fs;
use std::path::{Path, PathBuf};

use acceptance::worker::Worker;
use acceptance::world::{LABEL, PIN, SO_PIN, World};
use data_encoding::{BASE64, HEXLOWER, HEXUPPER};

/// Said beside the world's own PINs.
const WORDS: [&str; 4] =
    ["wrong-user-pin-7391", "set-by-the-so-51937", "set-by-the-user-8264", "a passphrase nobody guesses 4417"];

/// The forms in which a secret might be written.
fn forms(name: &str, bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let text = |form: &str, text: String| (format!("{name} in {form}"), text.into_bytes());
    vec![
        (name.to_owned(), bytes.to_vec()),
        text("hexadecimal digits", HEXLOWER.encode(bytes)),
        text("upper-case hexadecimal digits", HEXUPPER.encode(bytes)),
        text("base 64", BASE64.encode(bytes).trim_end_matches('=').to_owned()),
        text("a list of numbers", bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")),
    ]
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).expect("our own directory").filter_map(|entry| entry.ok().map(|entry| entry.path()));
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn no_pin_no_passphrase_and_no_key_is_in_what_a_token_writes_or_shows() {
    let mut world = World::unstarted();
    world.daemon_environment(vec![("RUST_LOG", PathBuf::from("trace"))]);
    world.start_daemon();
    world.init_token();
    let [wrong, by_so, by_user, phrase] = WORDS;
    let mut so = Worker::opened(&world);
    assert_eq!(so.ok(&format!("login-with so {SO_PIN}")), "ok");
    so.ok(&format!("init-pin {by_so}"));
    drop(so);
    let mut worker = Worker::opened(&world);
    assert_eq!(worker.ok(&format!("login-with user {wrong}")), "PinIncorrect");
    assert_eq!(worker.ok(&format!("login-with user {by_so}")), "ok");
    worker.ok(&format!("set-pin {by_so} {by_user}"));
    worker.ok("create-some kept 2");
    let told = worker.ok("secrets");
    let mut wanted: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, digits) in told.split_whitespace().filter_map(|word| word.split_once('=')) {
        let bytes = HEXLOWER.decode(digits.as_bytes()).expect("hexadecimal digits");
        // Shorter ones are found anywhere.
        if bytes.len() >= 16 {
            wanted.extend(forms(name, &bytes));
        }
    }
    assert!(wanted.len() > 50, "{} forms of secrets", wanted.len());
    for word in WORDS.into_iter().chain([PIN, SO_PIN]) {
        wanted.extend(forms(word, word.as_bytes()));
    }
    let mut command = world.command(acceptance::daemon::binary("craton-hsm-admin"));
    command.arg("--config").arg(world.config()).env("PHRASE", phrase);
    let line = ["backup", "--pin", "env:SO_PIN", "--passphrase", "env:PHRASE", "--output", "token.backup"];
    acceptance::tools::run(command.args(line)).ok();
    let shown: [&[&str]; 10] = [
        &["status", "--json"],
        &["metrics"],
        &["token", "info"],
        &["key", "list"],
        &["doctor"],
        &["backup", "inspect", "token.backup"],
        &["audit", "dump", "--last", "500"],
        &["audit", "export-json"],
        &["audit", "export-syslog"],
        &["audit", "export-cef"],
    ];
    let mut looked_at: Vec<(String, Vec<u8>)> =
        shown.iter().map(|line| (line.join(" "), world.admin(*line).to_string().into_bytes())).collect();
    world.stop_daemon();
    for path in files(world.dir()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        looked_at.push((name, fs::read(&path).expect("our own file")));
    }
    let holds = |bytes: &[u8], what: &[u8]| memchr::memmem::find(bytes, what).is_some();
    let seen = |name: &str| looked_at.iter().find(|(found, _)| found == name).map_or(&[][..], |(_, bytes)| bytes);
    // What is public is found, so the rest would have been.
    for place in ["token info", "token.backup", "audit export-json"] {
        assert!(holds(seen(place), LABEL.as_bytes()) || holds(seen(place), b"\"op\""), "{place} holds nothing");
    }
    assert!(holds(seen("daemon.log"), b"TRACE") || holds(seen("daemon.log"), b"DEBUG"), "the log is not at its finest");
    assert!(seen("vault.redb").len() > 4096 && seen("audit.jsonl").len() > 1000);
    let mut found = Vec::new();
    for (place, bytes) in &looked_at {
        found
            .extend(wanted.iter().filter(|(_, what)| holds(bytes, what)).map(|(name, _)| format!("{name} in {place}")));
    }
    assert!(found.is_empty(), "{found:?}");
}
