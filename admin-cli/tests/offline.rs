//! The tool without a daemon: usage, configuration, journals as files, archives that are none.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use hsm_core::SystemClock;
use hsm_core::audit::{Category, Client, Durability, Entry, Files, Journal, Level, Options};

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        let text = "[token]\nstorage_path = \"state/store\"\n[daemon]\nbind_unix = \"hsm.sock\"\n";
        std::fs::write(place.path("craton_hsm.toml"), text).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, line: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_craton-hsm-admin"))
            .args(line.split(' '))
            .env("CRATON_HSM_CONFIG", self.path("craton_hsm.toml"))
            .env("PIN", "12345678")
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Exit status and the only line on standard error.
    fn refused(&self, line: &str) -> (i32, String) {
        let output = self.run(line);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{line}: {text}");
        (output.status.code().unwrap(), text)
    }
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn journal(path: &Path, records: u64) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let options = Options {
        path: path.to_owned(),
        level: Level::All,
        known: None,
        anchor: None,
        witnesses: Vec::new(),
        files: Files::default(),
    };
    let journal = Journal::open(options, Arc::new(SystemClock)).unwrap();
    for number in 0..records {
        let entry = Entry::new(Category::Crypto, "sign", Client::Unix { uid: 1, gid: 2, pid: 3 });
        journal.append(entry, number, Durability::Written).map(drop).unwrap();
    }
}

#[test]
fn good_journal_verifies_and_exports() {
    let place = Place::new();
    let path = place.path("state/craton_hsm_audit.jsonl");
    journal(&path, 9);
    let answer: serde_json::Value = serde_json::from_str(&stdout(&place.run("audit verify --json"))).unwrap();
    assert_eq!((answer["verified"].as_bool(), answer["records"].as_u64()), (Some(true), Some(10)));
    assert!(stdout(&place.run("audit verify-chain")).contains("records:"));
    assert_eq!(stdout(&place.run("audit export-ndjson")).into_bytes(), std::fs::read(&path).unwrap());
    let array: Vec<serde_json::Value> =
        serde_json::from_str(&stdout(&place.run("audit export-json --from 4"))).unwrap();
    assert_eq!(array.len(), 7);
    assert_eq!(stdout(&place.run("audit export --format syslog")).lines().count(), 10);
    let text = stdout(&place.run("audit dump --last 3"));
    assert_eq!(text.lines().count(), 3);
    assert!(text.starts_with("8 ") && text.contains("uid=1 pid=3 sign CKR_OK"), "{text}");
    let array: Vec<serde_json::Value> =
        serde_json::from_str(&stdout(&place.run("audit dump --last 2 --json"))).unwrap();
    assert_eq!(array[1]["seq"], 10);
}

#[test]
fn edited_journal_is_refused_with_its_line() {
    let place = Place::new();
    let path = place.path("log");
    journal(&path, 9);
    let text = std::fs::read_to_string(&path).unwrap();
    let edited = text.replacen("\"op\":\"sign\"", "\"op\":\"sigh\"", 1);
    std::fs::write(&path, edited).unwrap();
    for command in ["verify", "dump", "export"] {
        let (status, sentence) = place.refused(&format!("audit {command} --file log"));
        assert_eq!(status, 1);
        assert!(sentence.contains("line 2"), "{sentence}");
    }
    let (status, sentence) = place.refused("audit verify --file absent");
    assert!(status == 1 && sentence.contains("absent"), "{sentence}");
}

#[test]
fn exit_status_tells_usage_from_configuration_from_refusal() {
    let place = Place::new();
    assert_eq!(place.run("no-such-command").status.code(), Some(2));
    assert_eq!(place.run("restore").status.code(), Some(2));
    std::fs::write(place.path("bad.toml"), "[token]\nlable = 1\n").unwrap();
    let (status, sentence) = place.refused("--config bad.toml status");
    assert!(status == 78 && sentence.contains("line 2"), "{sentence}");
    assert_eq!(place.refused("--config absent.toml status").0, 78);
    let (status, sentence) = place.refused("status");
    assert!(status == 1 && sentence.contains("hsm.sock"), "{sentence}");
    let json: serde_json::Value = serde_json::from_str(&place.refused("status --json").1).unwrap();
    assert!(json["error"].as_str().unwrap().contains("no daemon"));
}

#[test]
fn file_that_is_no_archive_is_refused_and_nothing_is_made() {
    let place = Place::new();
    std::fs::write(place.path("short"), b"HSMB").unwrap();
    std::fs::write(place.path("text"), vec![b'x'; 5000]).unwrap();
    for (file, reason) in [("short", "not a backup"), ("text", "not a backup"), ("absent", "absent cannot be read")] {
        let (status, sentence) = place.refused(&format!("restore --pin env:PIN --input {file}"));
        assert!(status == 1 && sentence.contains(reason), "{sentence}");
        assert!(!place.path("state").exists());
    }
}

#[test]
fn pin_on_the_command_line_is_warned_about() {
    let place = Place::new();
    let output = place.run("restore --pin 12345678 --input absent");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("warning") && text.contains("env:NAME"), "{text}");
    assert!(!text.contains("12345678"), "{text}");
}

#[test]
fn pin_that_cannot_be_asked_for_is_a_sentence() {
    let place = Place::new();
    let (status, sentence) = place.refused("restore --input absent");
    assert!(status == 1 && sentence.contains("--pin"), "{sentence}");
}

#[test]
fn backup_never_replaces_a_file() {
    let place = Place::new();
    std::fs::write(place.path("old"), b"precious").unwrap();
    let (status, sentence) = place.refused("backup --pin env:PIN --output old");
    assert!(status == 1 && sentence.contains("never replaces"), "{sentence}");
    assert_eq!(std::fs::read(place.path("old")).unwrap(), b"precious");
    assert_eq!(place.refused("backup --pin env:PIN --output new").0, 1);
    let left: Vec<_> =
        std::fs::read_dir(place.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}
