//! Types that hold secrets never derive `Debug`: what prints one would print it byte for byte.

use std::fs;
use std::path::Path;

use acceptance::daemon::workspace;

/// What wipes its bytes when dropped, and prints them when asked.
const WIPED: &str = "Zeroizing<";

/// The bodies of all types of a source that derive `Debug`, each with its first line.
fn printed(source: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for item in source.split("#[derive(").skip(1) {
        let Some((derived, rest)) = item.split_once(")]") else { continue };
        let is_printed = derived.split(',').any(|word| word.trim() == "Debug");
        let Some(at) = ["struct ", "enum "].iter().filter_map(|word| rest.find(word)).min() else { continue };
        let body = &rest[at..];
        let first = body.lines().next().unwrap_or_default();
        // One line, or up to the brace that closes it.
        let end = if first.ends_with('{') { body.find("\n}").unwrap_or(body.len()) } else { first.len() };
        if is_printed {
            found.push((first, &body[..end]));
        }
    }
    found
}

fn sources(folder: &Path, read: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).expect("a folder of the repository").filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, read);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            read(&path, &fs::read_to_string(&path).expect("a source"));
        }
    }
}

#[test]
fn no_type_that_holds_wiped_bytes_derives_debug() {
    let mut looked_at = 0;
    for part in ["hsm-core/src", "hsm-daemon/src", "admin-cli/src", "pkcs11-shim/src", "pki/src", "proto/src"] {
        sources(&workspace().join(part), &mut |path, source| {
            for (name, body) in printed(source) {
                looked_at += 1;
                assert!(!body.contains(WIPED), "{}: {name} prints what it wipes", path.display());
            }
        });
    }
    assert!(looked_at > 100, "{looked_at} types that derive Debug");
}

#[test]
fn a_type_that_prints_what_it_wipes_is_seen() {
    let source = "#[derive(Clone, Debug)]\npub struct Pin(Zeroizing<Vec<u8>>);\n#[derive(Debug)]\nenum Key {\n    A { value: Zeroizing<u8> },\n}\n";
    let seen = printed(source);
    assert_eq!(seen.iter().filter(|(_, body)| body.contains(WIPED)).count(), 2, "{seen:?}");
}
