//! Where things may lie: files at the root, the first line of a module, the rooms for `unsafe`, words that are not left on the floor.

use std::path::{Path, PathBuf};

use super::{files, read, rust_files};

/// What may lie at the root of the repository.
const ROOT: [&str; 20] = [
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "clippy.toml",
    "craton_hsm.toml",
    "craton_hsm_clients.toml",
    "deny.toml",
    "rust-toolchain.toml",
    "rustfmt.toml",
    // Tools' own folders and files that later issues may bring.
    ".gitattributes",
    ".editorconfig",
    ".dockerignore",
    ".cargo",
];

/// The folders at the root: one room each.
const ROOMS: [&str; 12] = [
    ".cargo",
    ".ci",
    "admin-cli",
    "docs",
    "fuzz",
    "hsm-core",
    "hsm-daemon",
    "packaging",
    "pkcs11-shim",
    "pki",
    "proto",
    "scripts",
];

/// The only places that may hold `unsafe`. The last two play the C caller in tests; they are no part of the product.
const UNSAFE_ROOMS: [&str; 5] = [
    "pkcs11-shim/src/ffi/",
    "hsm-core/src/sys/",
    "hsm-core/src/crypto/ffi",
    "pkcs11-shim/tests/door.rs",
    "tests/src/raw",
];

#[test]
fn the_root_holds_what_it_should_and_nothing_else() {
    for file in files() {
        let mut parts = file.components();
        let first = parts.next().map(|part| part.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
        let known = match parts.next() {
            None => ROOT.contains(&first.as_str()),
            Some(_) => ROOMS.contains(&first.as_str()) || first == "tests",
        };
        assert!(known, "{}: what is this at the root?", file.display());
    }
}

#[test]
fn every_source_file_begins_by_saying_what_it_is() {
    for (file, source) in rust_files() {
        let first = source.lines().next().unwrap_or_default();
        assert!(first.starts_with("//! ") && first.len() > 10, "{} begins with {first:?}", file.display());
    }
}

#[test]
fn no_room_is_a_drawer_for_everything() {
    const DRAWERS: [&str; 8] = ["utils", "util", "helpers", "helper", "common", "misc", "manager", "stuff"];
    for (file, _) in rust_files() {
        for part in file.components() {
            let name = Path::new(part.as_os_str()).file_stem().unwrap_or_default().to_string_lossy().into_owned();
            assert!(!DRAWERS.contains(&name.as_str()), "{}: name the thing", file.display());
        }
    }
}

#[test]
fn unsafe_code_stays_in_its_rooms_and_every_block_says_why() {
    for (file, source) in rust_files() {
        let here = file.to_string_lossy().into_owned();
        let in_a_room = UNSAFE_ROOMS.iter().any(|room| here.starts_with(room));
        let lines: Vec<&str> = source.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let code = without_strings(line.split("//").next().unwrap_or_default());
            let words: Vec<&str> = code.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
            let is_unsafe = words.contains(&"unsafe") && !code.contains("unsafe_code");
            if !is_unsafe {
                continue;
            }
            assert!(in_a_room, "{here}:{}: unsafe outside its rooms: {}", number + 1, line.trim());
            if code.trim_end().ends_with("unsafe {") || code.contains("unsafe { ") {
                let above = &lines[number.saturating_sub(6)..=number];
                assert!(above.iter().any(|line| line.contains("SAFETY:")), "{here}:{}: no SAFETY sentence", number + 1);
            }
        }
    }
}

/// The line without what stands between quotation marks.
fn without_strings(line: &str) -> String {
    line.split('"').step_by(2).collect()
}

#[test]
fn nothing_is_left_for_later_without_an_issue() {
    // Spelled in two halves, so that this file does not find itself.
    let words = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["X", "XX"].concat()];
    for file in files() {
        let checked =
            file.extension().is_some_and(|e| ["rs", "py", "toml", "proto", "sh", "md"].iter().any(|known| e == *known))
                || file.starts_with("scripts");
        if !checked || file.file_name().is_some_and(|name| name == "LICENSE") {
            continue;
        }
        for (number, line) in read(&file).lines().enumerate() {
            let left = words.iter().any(|word| line.split(|c: char| !c.is_alphanumeric()).any(|part| part == word));
            assert!(!left || line.contains("issue "), "{}:{}: {}", file.display(), number + 1, line.trim());
        }
    }
}

#[test]
fn no_test_is_switched_off() {
    // A measurement is no test, and a test that needs a process of its own is started by another: their reasons say so.
    let switch = ["#[ign", "ore"].concat();
    for (file, source) in rust_files() {
        for line in source.lines().filter(|line| line.contains(&switch)) {
            assert!(
                line.contains("a measurement") || line.contains("runs it"),
                "{} holds a test that does not run: {}",
                file.display(),
                line.trim()
            );
        }
    }
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    for file in files().into_iter().filter(|file| file.ends_with("Cargo.toml") && file != &PathBuf::from("Cargo.toml"))
    {
        if file.starts_with("fuzz") {
            continue;
        }
        let manifest: toml::Table = read(&file).parse().unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let lints = manifest
            .get("lints")
            .and_then(toml::Value::as_table)
            .unwrap_or_else(|| panic!("{}: no lints", file.display()));
        let inherits = lints.get("workspace").and_then(toml::Value::as_bool) == Some(true);
        let own = lints
            .get("rust")
            .and_then(|rust| rust.get("unsafe_code"))
            .is_some_and(|level| level.as_str() == Some("deny"));
        assert!(inherits || own, "{}: neither the workspace's lints nor `unsafe_code = \"deny\"`", file.display());
    }
}
