//! The documents at the root say what is there: folders, make targets, links.

use std::path::Path;

use acceptance::daemon::workspace;

use super::{files, read};

#[test]
fn the_readme_has_a_sentence_for_every_folder() {
    let readme = read(Path::new("README.md"));
    let mut folders: Vec<String> = files()
        .iter()
        .filter(|file| file.components().count() > 1)
        .filter_map(|file| file.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned()))
        .collect();
    folders.sort();
    folders.dedup();
    for folder in folders.iter().filter(|folder| !folder.starts_with('.')) {
        assert!(readme.contains(&format!("`{folder}/`")), "README.md does not say what {folder}/ is");
    }
}

#[test]
fn the_readme_names_every_make_target_and_no_other() {
    let (readme, makefile) = (read(Path::new("README.md")), read(Path::new("Makefile")));
    let word = |text: &str| text.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect::<String>();
    let lines = makefile.lines().filter(|line| line.contains(": ## ") && !line.starts_with(char::is_whitespace));
    let targets: Vec<String> = lines.map(word).collect();
    let phony = makefile.lines().find_map(|line| line.strip_prefix(".PHONY: ")).expect("targets are no files");
    for target in &targets {
        // A folder of its name would otherwise be the target, and up to date for ever.
        assert!(phony.split_whitespace().any(|name| name == target), "{target} is not .PHONY");
        let is_named = target == "help" || readme.split("make ").skip(1).any(|rest| word(rest) == *target);
        assert!(is_named, "README.md does not name make {target}");
    }
    let named = readme.split("`make ").chain(readme.split("\nmake ")).skip(1).map(word);
    for name in named.filter(|name| !name.is_empty()) {
        assert!(targets.contains(&name), "make {name} is promised and does not exist");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for file in files().into_iter().filter(|file| file.extension().is_some_and(|e| e == "md")) {
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        for link in read(&file).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            assert!(workspace().join(&folder).join(target).exists(), "{}: {link} leads nowhere", file.display());
        }
    }
}

#[test]
fn every_place_that_the_documents_name_exists() {
    let rooms = ["proto/", "hsm-core/", "hsm-daemon/", "pkcs11-shim/", "admin-cli/", "pki/", "tests/", "scripts/"];
    let mut seen = 0;
    for document in ["README.md", "ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md"] {
        let text = read(Path::new(document));
        for word in text.split('`').skip(1).step_by(2) {
            if rooms.iter().any(|room| word.starts_with(room)) && !word.contains([' ', '*']) {
                seen += 1;
                assert!(workspace().join(word).exists(), "{document} names {word}");
            }
        }
    }
    assert!(seen > 20, "the documents name {seen} places");
}

/// A test is known by its long name; a document that names one is wrong when it is gone.
#[test]
fn every_test_that_the_page_of_promises_names_exists() {
    let sources: String = files()
        .iter()
        .filter(|file| file.extension().is_some_and(|kind| kind == "rs"))
        .map(|file| read(file))
        .collect();
    for (document, least, underscores) in [("docs/reliability.md", 60, 2), ("docs/operations.md", 15, 3)] {
        let page = read(Path::new(document));
        let is_test = |word: &&str| {
            word.matches('_').count() > underscores
                && !word.starts_with("craton_hsm")
                && !word.contains(['.', '/', ' ', '{', '<'])
        };
        let named: Vec<&str> = page.split('`').skip(1).step_by(2).filter(is_test).collect();
        assert!(named.len() > least, "{} tests are named in {document}", named.len());
        for test in named {
            assert!(sources.contains(&format!("fn {test}(")), "{document} names {test}, which is no test");
        }
    }
}

/// The table of limits says the defaults that the example configuration has, which a test of the daemon holds to the program.
#[test]
fn every_default_in_the_table_of_limits_is_the_configurations() {
    let (page, example) = (read(Path::new("docs/operations.md")), read(Path::new("craton_hsm.toml")));
    let (_, table) = page.split_once("\n## Limits\n").expect("the table of limits");
    let rows = table.split("\n## ").next().unwrap_or_default().lines().filter(|line| line.starts_with("| "));
    let mut seen = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (Some(said), Some(key)) = (cells.get(2), cells.get(3).and_then(|key| key.split('.').nth(1))) else {
            continue;
        };
        let key = key.trim_end_matches('`');
        let written = example.lines().find_map(|line| line.strip_prefix(&format!("{key} = ")));
        let default: u64 =
            written.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("{key} has no default"));
        // The last number, in its unit.
        let said = said.rsplit(": ").next().unwrap_or_default();
        let (number, unit) = said.split_once(' ').unwrap_or((said, ""));
        let factor = match unit {
            "" | "s" => 1,
            "min" => 60,
            "MiB" => 1 << 20,
            other => panic!("{key}: {other}"),
        };
        let number: u64 = number.replace(',', "").parse().unwrap_or_else(|e| panic!("{key}: {said}: {e}"));
        assert_eq!(number * factor, default, "{key}");
        seen += 1;
    }
    assert!(seen >= 11, "{seen} limits have keys");
}

/// The keys that a table of the configuration accepts, out of its declaration in the source.
fn keys(file: &str, declaration: &str) -> Vec<String> {
    let source = read(Path::new(file));
    let (_, rest) = source.split_once(declaration).unwrap_or_else(|| panic!("{file} does not declare {declaration:?}"));
    let (body, _) = rest.split_once("\n}").expect("the end of the declaration");
    let fields = body.lines().filter(|line| !line.trim_start().starts_with("//"));
    fields
        .filter_map(|line| line.split_once(':').map(|(name, _)| name.trim().trim_start_matches("pub ").to_owned()))
        .filter(|name| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        })
        .collect()
}

#[test]
fn the_example_configuration_explains_every_key() {
    const TABLES: [(&str, &str, &str); 10] = [
        ("token", "hsm-core/src/config/token.rs", "pub struct TokenTable {"),
        ("security", "hsm-core/src/config/security.rs", "pub struct SecurityTable {"),
        ("store", "hsm-core/src/config.rs", "pub struct StoreTable {"),
        ("audit", "hsm-core/src/config/audit.rs", "pub struct AuditTable {"),
        ("backup", "hsm-core/src/config.rs", "pub struct BackupTable {"),
        ("algorithms", "hsm-core/src/config/algorithms.rs", "pub struct AlgorithmsTable {"),
        ("policy", "hsm-core/src/config/policy.rs", "\nswitches! {"),
        ("daemon", "hsm-daemon/src/config.rs", "\nstruct WrittenDaemon {"),
        ("metrics", "hsm-daemon/src/config.rs", "\nstruct WrittenMetrics {"),
        ("shim", "pkcs11-shim/src/config.rs", "\nstruct WrittenShim {"),
    ];
    let example = read(Path::new("craton_hsm.toml"));
    for (table, file, declaration) in TABLES {
        let (_, rest) =
            example.split_once(&format!("\n[{table}]\n")).unwrap_or_else(|| panic!("no [{table}] in the example"));
        let section = rest.split("\n[").next().unwrap_or_default();
        let explained: Vec<&str> = section
            .lines()
            .filter_map(|line| line.trim_start_matches("# ").split_once(" = ").map(|(key, _)| key))
            .collect();
        let keys = keys(file, declaration);
        assert!(!keys.is_empty(), "{declaration} has no keys");
        for key in keys {
            assert!(explained.contains(&key.as_str()), "craton_hsm.toml does not explain {table}.{key}");
        }
    }
}

#[test]
fn the_daemon_accepts_every_key_of_the_shims_table() {
    // One file may configure both; the daemon refuses keys that it does not know, also in the table that is not its own.
    let known = keys("hsm-daemon/src/config.rs", "\nstruct WrittenShim {");
    for key in keys("pkcs11-shim/src/config.rs", "\nstruct WrittenShim {") {
        assert!(known.contains(&key), "the daemon does not know shim.{key}");
    }
}
