//! Who may import whom (ARCHITECTURE.md, "The import law"): the edges of `cargo metadata` against a table.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use acceptance::daemon::workspace;
use acceptance::tools::run;

/// One row per crate of ours: which crates of ours it may depend on. What is not here is refused.
const LAW: [(&str, &[&str]); 10] = [
    ("ck", &[]),
    ("hsm-proto", &["ck"]),
    // Meaning: it knows the words, but neither messages nor doors.
    ("hsm-core", &["ck", "slh"]),
    // Part of the core's crypto room, apart only so that a debug build can optimise it.
    ("slh", &[]),
    ("hsm-daemon", &["ck", "hsm-proto", "hsm-core"]),
    // Never hsm-core: no key material can exist in an application's process.
    ("pkcs11-shim", &["ck", "hsm-proto"]),
    // Of hsm-core only `audit` and `backup`: see the second test.
    ("admin-cli", &["ck", "hsm-proto", "hsm-core"]),
    // Lives next door and enters through the PKCS#11 door like anyone else.
    ("pki", &[]),
    // Black box.
    ("acceptance", &[]),
    // Plays the client without a socket: it calls the core as a door does, the daemon's dispatcher, and what the PKI's doors call.
    ("hsm-fuzz", &["ck", "hsm-proto", "hsm-core", "hsm-daemon", "pki"]),
];

/// Crates from outside that only these of ours may depend on.
const WRAPPED: [(&str, &[&str]); 17] = [
    ("redb", &["hsm-core", "pki"]),
    ("tonic", &["hsm-proto", "hsm-daemon", "pkcs11-shim", "admin-cli"]),
    // The tenant encrypts with it the keys that it gives away.
    ("aws-lc-rs", &["hsm-core", "pki"]),
    ("aws-lc-sys", &["hsm-core"]),
    ("aes", &["hsm-core"]),
    ("aes-gcm", &["hsm-core"]),
    ("aes-kw", &["hsm-core"]),
    ("cbc", &["hsm-core"]),
    ("hmac", &["hsm-core"]),
    ("hkdf", &["hsm-core"]),
    ("pbkdf2", &["hsm-core"]),
    ("argon2", &["hsm-core"]),
    // The second opinion on signatures: the tenant's, and the tests' (the fuzz targets sign requests with it). The clients' half of sealing.
    ("ring", &["hsm-proto", "pki", "acceptance", "hsm-fuzz"]),
    // The second opinion again, and in the core what AWS-LC's ML-DSA does not offer.
    ("ml-dsa", &["hsm-core", "pki"]),
    ("slh-dsa", &["slh"]),
    ("axum", &["pki"]),
    ("prometheus-client", &["hsm-daemon", "pki"]),
];

/// What a crate may not depend on, directly or through others, in a normal build.
const NEVER_REACHES: [(&str, &[&str]); 3] = [
    ("hsm-core", &["tokio", "tonic", "hyper", "clap", "openssl-sys"]),
    // (ring is under its TLS to a daemon on another machine, and seals what it says there; nothing in this process does cryptography on keys.)
    ("pkcs11-shim", &["hsm-core", "redb", "openssl-sys", "aws-lc-sys", "tracing-subscriber", "clap"]),
    ("pki", &["hsm-core", "hsm-proto", "ck"]),
];

fn metadata() -> serde_json::Value {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()).args(["metadata", "--format-version", "1", "--locked", "--offline"]);
    serde_json::from_slice(&run(&mut cargo).ok().stdout).expect("cargo metadata is JSON")
}

/// Direct dependencies of each member, by name: normal, build and test alike.
fn direct(metadata: &serde_json::Value) -> BTreeMap<String, BTreeSet<String>> {
    let members: BTreeSet<&str> = strings(&metadata["workspace_members"]).collect();
    let packages = metadata["packages"].as_array().expect("packages");
    let ours = packages.iter().filter(|package| members.contains(text(&package["id"])));
    ours.map(|package| {
        let dependencies = package["dependencies"].as_array().expect("dependencies");
        (text(&package["name"]).to_owned(), dependencies.iter().map(|d| text(&d["name"]).to_owned()).collect())
    })
    .collect()
}

#[test]
fn our_crates_depend_on_each_other_as_the_law_says() {
    let direct = direct(&metadata());
    let law: BTreeMap<&str, &[&str]> = LAW.into_iter().collect();
    let known: BTreeSet<&str> = law.keys().copied().collect();
    assert_eq!(direct.keys().map(String::as_str).collect::<BTreeSet<_>>(), known, "the members and the law's rows");
    for (name, dependencies) in &direct {
        for dependency in dependencies.iter().filter(|dependency| known.contains(dependency.as_str())) {
            let allowed = law[name.as_str()].contains(&dependency.as_str());
            assert!(allowed, "{name} may not depend on {dependency}: a new edge is a separate, discussed change");
        }
    }
}

#[test]
fn wrapped_crates_are_used_by_their_rooms_only() {
    for (name, dependencies) in direct(&metadata()) {
        for (wrapped, rooms) in WRAPPED {
            let used = dependencies.contains(wrapped);
            assert!(!used || rooms.contains(&name.as_str()), "{name} may not depend on {wrapped}: only {rooms:?} may");
        }
    }
}

#[test]
fn what_must_stay_out_is_not_reached_through_others() {
    for (name, forbidden) in NEVER_REACHES {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(workspace()).args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none"]);
        let tree = run(cargo.args(["--format", "{p}", "-p", name])).ok().text();
        let reached: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert!(reached.contains(name) && reached.len() > 1, "{tree}");
        for crate_name in forbidden {
            assert!(
                !reached.contains(crate_name),
                "{name} reaches {crate_name}: ask `cargo tree -p {name} -i {crate_name}`"
            );
        }
    }
}

/// Offline verification and restore; what a restore is given (the configuration, a clock, a PIN) and how it fails.
#[test]
fn the_admin_tool_uses_only_audit_and_backup_of_the_core() {
    for (file, source) in super::rust_files() {
        if !file.starts_with("admin-cli") {
            continue;
        }
        for (number, line) in source.lines().enumerate() {
            let Some((_, rest)) = line.split_once("hsm_core::") else { continue };
            let allowed = [
                "audit",
                "backup",
                "store_key",
                "config",
                "SystemClock",
                "{Clock",
                "SecretBytes",
                "Error",
                "Kind",
                // A place where a test stops the program: nothing in what is shipped.
                "failpoint!",
                "{audit",
                "{backup",
                // Nothing in a release build.
                "failpoint!",
            ];
            let room = rest.trim_start();
            assert!(allowed.iter().any(|word| room.starts_with(word)), "{}:{}: {line}", file.display(), number + 1);
        }
    }
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().expect("cargo metadata holds a string here")
}

fn strings(value: &serde_json::Value) -> impl Iterator<Item = &str> {
    value.as_array().expect("cargo metadata holds a list here").iter().map(text)
}
