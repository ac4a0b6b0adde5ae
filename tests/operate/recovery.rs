//! docs/recovery.md: the commands and tests that its tables name exist. Its last section is run beside a PKI, in tests/pki.

use std::fs;
use std::path::Path;
use std::process::Command;

use acceptance::daemon::{binary, workspace};
use acceptance::page;
use acceptance::tools::run;

/// What stands between back quotes.
pub(crate) fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// All Rust sources below a folder, as one text.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).expect("a folder of the repository").filter_map(Result::ok) {
        let path = entry.path();
        match path.is_dir() {
            true => text += &sources(&path),
            false if path.extension().is_some_and(|extension| extension == "rs") => {
                text += &fs::read_to_string(&path).expect("a source");
            }
            false => {}
        }
    }
    text
}

/// A command line as a table has it: the program, its subcommands, and the options that are named.
pub(crate) fn is_offered(line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_command = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-');
    // Where the configuration lies is said before the subcommand.
    let first = if words.get(1) == Some(&"--config") { 3 } else { 1 };
    let path = words[first.min(words.len())..].iter().take_while(is_command);
    let options = words[1..].iter().filter(|word| word.starts_with("--"));
    let help = run(Command::new(binary(words[0])).args(path).arg("--help")).ok();
    for option in options {
        let name = option.split(['=', ']', ')', ',', '"']).next().unwrap_or_default();
        assert!(help.text().contains(name), "{line}: there is no {name}");
    }
}

#[test]
fn every_point_names_a_command_and_a_test_that_exist() {
    let sources: String = ["tests", "hsm-core/src", "admin-cli/src"].map(|at| sources(&workspace().join(at))).concat();
    let page = page::document("recovery.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| ---"))
        .map(|line| line.trim_matches('|').split(" | ").collect())
        .filter(|row: &Vec<&str>| row.len() == 3 && row[2].trim() != "shown by")
        .collect();
    assert!(rows.len() > 25, "{} rows", rows.len());
    for row in rows {
        let tests = quoted(row[2]);
        assert!(!tests.is_empty(), "no test shows: {}", row[0]);
        for test in tests {
            assert!(sources.contains(&format!("fn {test}(")), "there is no test {test}");
        }
        for word in quoted(row[1]) {
            match word.split(' ').next() {
                Some("craton-hsm-admin" | "craton-pki" | "craton-hsm-daemon") => is_offered(&word),
                Some(unit) if unit.ends_with(".timer") => {
                    assert!(workspace().join("packaging/systemd").join(unit).is_file(), "there is no {unit}");
                }
                _ => {}
            }
        }
    }
}
