//! The audit journal: it tells what happened, verifies as it is, and does not verify when a byte of it was changed.

use std::fs;

use acceptance::tools::available;
use acceptance::world::{PIN, SO_PIN, World};

fn eventful() -> Option<World> {
    if !available("journal", "pkcs11-tool") {
        return None;
    }
    let world = World::start();
    world.pkcs11_tool_login(["--keypairgen", "--key-type", "EC:prime256v1", "--id", "01", "--label", "recorded"]).ok();
    world.pkcs11_tool(["--token-label", "test", "--login", "--pin", "wrong-pin-000", "-O"]).refused();
    Some(world)
}

#[test]
fn the_journal_verifies_while_the_daemon_runs_and_after_it_stopped() {
    let Some(mut world) = eventful() else { return };
    world.admin(["audit", "verify"]).ok();
    world.stop_daemon();
    world.admin(["audit", "verify"]).ok();
}

#[test]
fn the_journal_is_json_lines_and_holds_what_happened_but_no_secret() {
    let Some(world) = eventful() else { return };
    let text = fs::read_to_string(world.journal()).expect("the journal");
    assert!(text.lines().count() >= 4, "{text}");
    for line in text.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert!(record.is_object(), "{line}");
    }
    for secret in [PIN, SO_PIN, "wrong-pin-000"] {
        assert!(!text.contains(secret), "the journal holds {secret:?}");
    }
    let lower = text.to_lowercase();
    for word in ["generate", "login"] {
        assert!(lower.contains(word), "nothing about {word:?} in:\n{text}");
    }
}

#[test]
fn a_changed_deleted_or_swapped_line_is_found() {
    let Some(mut world) = eventful() else { return };
    world.stop_daemon();
    let good = fs::read(world.journal()).expect("the journal");
    let lines: Vec<&[u8]> = good.split_inclusive(|byte| *byte == b'\n').collect();
    let middle = lines.len() / 2;
    let mut changed: Vec<(String, Vec<u8>)> = Vec::new();
    for at in [10, good.len() / 2, good.len() - 10] {
        let mut bytes = good.clone();
        bytes[at] ^= 0x01;
        changed.push((format!("byte {at}"), bytes));
    }
    let without: Vec<&[u8]> = lines.iter().enumerate().filter(|(at, _)| *at != middle).map(|(_, line)| *line).collect();
    changed.push(("a deleted line".into(), without.concat()));
    let mut swapped = lines.clone();
    swapped.swap(middle, middle - 1);
    changed.push(("swapped lines".into(), swapped.concat()));
    let mut doubled = lines.clone();
    doubled.insert(middle, lines[middle]);
    changed.push(("a doubled line".into(), doubled.concat()));
    for (what, bytes) in changed {
        fs::write(world.journal(), bytes).expect("our own directory");
        let verdict = world.admin(["audit", "verify"]);
        assert!(!verdict.status.success(), "{what} was not found: {verdict}");
        verdict.refused();
    }
    fs::write(world.journal(), &good).expect("our own directory");
    world.admin(["audit", "verify"]).ok();
}

#[test]
fn a_daemon_does_not_go_on_with_a_changed_journal() {
    let Some(mut world) = eventful() else { return };
    world.stop_daemon();
    let mut bytes = fs::read(world.journal()).expect("the journal");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x01;
    fs::write(world.journal(), bytes).expect("our own directory");
    world.refused_start().says("audit");
}

#[test]
fn the_export_holds_every_record() {
    let Some(world) = eventful() else { return };
    let exported = world.admin(["audit", "export"]).ok().text();
    let records = exported.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count();
    assert!(records >= 4, "{exported}");
}

#[test]
fn a_stranger_with_the_first_key_verifies_and_is_shown_single_records() {
    let Some(mut world) = eventful() else { return };
    let text = |name: &str| world.admin_json(["audit", "key"])[name].as_str().expect("a text").to_owned();
    let key = text("first");
    world.admin(["audit", "verify", "--key", &key]).ok();
    world.admin(["audit", "verify", "--key", &"07".repeat(32)]).refused();
    let note = world.admin(["audit", "checkpoint", "--key", &key]).ok().text();
    let (body, signature) = note.split_once("\n\n").expect("a blank line");
    assert!(body.starts_with(&text("origin")) && signature.starts_with("\u{2014} "), "{note}");
    let proof = world.dir().join("proof.json");
    fs::write(&proof, world.admin(["audit", "prove", "--seq", "2"]).ok().text()).expect("our own directory");
    let path = proof.to_str().expect("a plain path");
    world.admin(["audit", "check-proof", "--proof", path, "--key", &text("current")]).ok().says("proved");
    let forged = fs::read_to_string(&proof).expect("the proof").replace("CKR_OK", "CKR_NO");
    fs::write(&proof, forged).expect("our own directory");
    world.admin(["audit", "check-proof", "--proof", path, "--key", &key]).refused();
    // The next run of the daemon goes on with the same key.
    world.stop_daemon();
    world.start_daemon();
    world.admin(["audit", "verify", "--key", &key]).ok();
}

/// The second signature is off, on and off again; each key of 128 digits is one that an auditor keeps.
#[test]
fn ml_dsa_44_begins_and_ends_with_the_configuration_and_stands_on_a_key_that_was_kept() {
    let mut world = World::unstarted();
    let plain = world.standard_config();
    let both = plain.replacen("[audit]\n", "[audit]\npost_quantum = true\n", 1);
    let key = |world: &World, name: &str| world.admin_json(["audit", "key"])[name].as_str().expect("a text").to_owned();
    world.write_config(&plain);
    world.start_daemon();
    let made = world.admin_json(["token", "init", "--label", "x", "--so-pin", "env:SO_PIN", "--user-pin", "env:PIN"]);
    let first = key(&world, "first");
    assert_eq!(made["journal_key"], first);
    assert_eq!((first.len(), key(&world, "current").len()), (64, 64));
    world.admin(["audit", "verify", "--key", &first]).ok().says("the Ed25519 signature alone");
    world.stop_daemon();
    world.write_config(&both);
    world.start_daemon();
    // While it runs, and before anything else happened.
    let current = key(&world, "current");
    assert_eq!((key(&world, "first"), current.len()), (first.clone(), 128));
    world.admin(["audit", "verify", "--key", &first]).ok().says("128 digits");
    world.admin(["audit", "verify", "--key", &first, "--key", &current]).ok().says("by it too; trusted");
    let strange = format!("{}{}", &current[..64], "07".repeat(32));
    world.admin(["audit", "verify", "--key", &first, "--key", &strange]).refused().says("ML-DSA-44");
    let note = world.admin(["audit", "checkpoint", "--key", &first]).ok().text();
    assert_eq!(note.lines().filter(|line| line.starts_with('\u{2014}')).count(), 2, "{note:.400}");
    let verifiers = world.admin_json(["audit", "key"])["verifiers"].as_array().expect("a list").len();
    assert_eq!(verifiers, 2);
    let proof = world.dir().join("proof.json");
    fs::write(&proof, world.admin(["audit", "prove", "--seq", "2"]).ok().text()).expect("our own directory");
    let path = proof.to_str().expect("a plain path");
    world.admin(["audit", "check-proof", "--proof", path, "--key", &current]).ok().says("Ed25519 and ML-DSA-44");
    world.stop_daemon();
    // Another start with the same configuration changes nothing.
    world.start_daemon();
    world.admin(["audit", "verify", "--key", &first, "--key", &current]).ok().says("by it too; trusted");
    world.stop_daemon();
    world.write_config(&plain);
    world.start_daemon();
    assert_eq!(key(&world, "current").len(), 64);
    let verdict = world.admin(["audit", "verify", "--key", &first, "--key", &current]).ok();
    verdict.says("ML-DSA-44 began").says("by a step under both signatures");
    let answer = world.admin_json(["audit", "verify", "--key", &first, "--key", &current]);
    let signatures = &answer["signatures"];
    let number = |name: &str| signatures[name].as_u64().expect("a number");
    assert!(number("ml_dsa_44_trusted") > 0 && number("ml_dsa_44_records") < number("signed_records"), "{signatures}");
}

#[test]
fn a_journal_that_was_rolled_back_with_its_store_lacks_what_a_witness_kept() {
    let mut world = World::unstarted();
    let elsewhere = world.dir().join("elsewhere");
    fs::create_dir(&elsewhere).expect("our own directory");
    let kept = elsewhere.join("kept");
    let told = format!("[audit]\nwitness = [\"file:{}\", \"syslog:elsewhere/nobody\"]\n", kept.display());
    world.write_config(&world.standard_config().replacen("[audit]\n", &told, 1));
    world.start_daemon();
    world.init_token();
    world.stop_daemon();
    let kept = kept.to_str().expect("a plain path");
    let answer = world.admin_json(["audit", "verify", "--witness", kept]);
    assert!(answer["witnessed"].as_u64().is_some_and(|count| count > 0), "{answer}");
    let yesterday = fs::read(world.journal()).expect("the journal");
    world.start_daemon();
    world.stop_daemon();
    world.admin(["audit", "verify", "--witness", kept]).ok();
    fs::write(world.journal(), yesterday).expect("our own directory");
    let head = world.dir().join("audit.jsonl.head");
    fs::remove_file(head).expect("the head beside the journal");
    world.admin(["audit", "verify"]).ok();
    world.admin(["audit", "verify", "--witness", kept]).refused().says("a witness kept");
}
