//! The journal: every change is provable, by this program and by a verifier that shares no line with it.

use crate::world::{Choice, World, is_there};

/// The separate verifier, on two or three files.
fn separate(world: &World, arguments: &[&str]) -> (bool, String) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/verify_journal.py");
    let output = world.try_tool("python3", &[&[script], arguments].concat());
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn prove(world: &World, what: &[&str], file: &str) {
    let proof = world.done(&[&["journal", "prove"], what].concat());
    std::fs::write(world.path(file), proof.to_string()).expect("writes");
    std::fs::write(world.path("trusted.pem"), proof["public_key"].as_str().expect("key")).expect("writes");
}

fn check(world: &World, file: &str) -> bool {
    let (file, key) = (world.path(file), world.path("trusted.pem"));
    world.run(&["journal", "check", &file.to_string_lossy(), "--key", &key.to_string_lossy()]).status.success()
}

#[test]
fn every_change_of_a_certificate_is_proved_to_outsiders() {
    let test = "every_change_of_a_certificate_is_proved_to_outsiders";
    if !is_there("python3", "--version") {
        println!("SKIPPED {test}: python3 not found");
        return;
    }
    let Some(world) = World::new(test, &Choice::default()) else { return };
    world.enrolled("sensor");
    let first = world.done(&["journal", "checkpoint"])["size"].as_u64().expect("size").to_string();
    world.done(&["cert", "revoke", &world.serial("sensor"), "--reason", "superseded"]);
    prove(&world, &["--serial", &world.serial("sensor")], "sensor.proof");
    let text = world.text("sensor.proof");
    for event in ["intended", "enrolled", "revoked"] {
        assert!(text.contains(&format!("\\\"event\\\":\\\"{event}\\\"")), "{event}: {text}");
    }
    let sha256 = world.done(&["cert", "show", &world.serial("sensor")])["sha256"].as_str().expect("sha256").to_owned();
    assert!(text.contains(&sha256), "the journal names the very certificate");
    prove(&world, &["--from", &first], "later.proof");
    for (file, from, to) in [
        ("sensor.proof", "enrolled", "enroled"),
        ("sensor.proof", "\"index\":", "\"index\":1"),
        ("later.proof", "\"path\":[\"", "\"path\":[\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\",\""),
        ("later.proof", &format!("\\n{first}\\n"), "\\n1\\n"),
    ] {
        assert!(check(&world, file), "{file}");
        let (holds, said) = separate(&world, &["proof", file, "trusted.pem"]);
        assert!(holds, "{file}: {said}");
        let good = world.text(file);
        let bad = good.replacen(from, to, 1);
        assert_ne!(good, bad, "{file} holds no {from}");
        std::fs::write(world.path("bad.proof"), bad).expect("writes");
        assert!(!check(&world, "bad.proof"), "{file} with {to}");
        assert!(!separate(&world, &["proof", "bad.proof", "trusted.pem"]).0, "{file} with {to}");
    }
    // Another key vouches for nothing.
    world.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "other.key"]);
    world.openssl(&["pkey", "-in", "other.key", "-pubout", "-out", "trusted.pem"]);
    assert!(!check(&world, "sensor.proof"));
    assert!(!separate(&world, &["proof", "sensor.proof", "trusted.pem"]).0);
    let nothing = world.run(&["journal", "prove", "--serial", "4711"]);
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("no such record"), "{nothing:?}");
}

#[test]
fn the_exported_journal_is_the_one_that_was_signed() {
    let test = "the_exported_journal_is_the_one_that_was_signed";
    if !is_there("python3", "--version") {
        println!("SKIPPED {test}: python3 not found");
        return;
    }
    let Some(mut world) = World::new(test, &Choice::default()) else { return };
    world.enrolled("sensor");
    world.kill();
    world.serve();
    world.enrolled("other");
    assert_eq!(world.done(&["journal", "verify"])["status"], "ok");
    let path = world.path("journal.jsonl");
    let count =
        world.done(&["journal", "export", "--out", &path.to_string_lossy()])["records"].as_u64().expect("records");
    let files = ["journal.jsonl", "journal.note", "journal.pem"];
    let said = separate(&world, &[&["journal"], &files[..]].concat());
    assert_eq!(said, (true, format!("{count} records are those that the checkpoint signs\n")));
    let good = world.text("journal.jsonl");
    let without_one: String = good.lines().skip(1).map(|line| format!("{line}\n")).collect();
    let mut lines: Vec<&str> = good.lines().collect();
    lines.swap(0, 1);
    for bad in [good.replacen("sensor", "censor", 1), without_one, lines.join("\n") + "\n", good.clone() + "{}\n"] {
        std::fs::write(world.path("journal.jsonl"), bad).expect("writes");
        assert!(!separate(&world, &[&["journal"], &files[..]].concat()).0);
    }
    let note = world.text("journal.note");
    std::fs::write(world.path("journal.jsonl"), good).expect("writes");
    std::fs::write(
        world.path("journal.note"),
        note.replacen(&format!("\n{count}\n"), &format!("\n{}\n", count + 1), 1),
    )
    .expect("writes");
    assert!(!separate(&world, &[&["journal"], &files[..]].concat()).0);
}
