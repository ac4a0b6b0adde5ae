//! Backup while the server runs, restore, and what a restored store must be told before it serves: nothing that was published or spent
//! after the backup comes back as if it had not been.

use crate::world::{Choice, World};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::time::{SystemTime, UNIX_EPOCH};

/// Runs craton-pki with the passphrase of the test in its environment.
fn with_passphrase(world: &mut World, phrase: &str) {
    world.environment.retain(|(name, _)| name != "PHRASE");
    world.environment.push(("PHRASE".to_owned(), phrase.to_owned()));
}

fn backup(world: &World, name: &str) -> Value {
    world.done(&["backup", "--passphrase", "env:PHRASE", "--output", &world.path(name).to_string_lossy()])
}

fn restore(world: &World, name: &str, more: &[&str]) -> Output {
    let input = world.path(name).to_string_lossy().into_owned();
    world.run(&[&["restore", "--passphrase", "env:PHRASE", "--input", &input], more].concat())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn ocsp(world: &World, name: &str) -> String {
    let (url, cert) = (format!("http://127.0.0.1:{}/ocsp", world.crl_port), format!("{name}.pem"));
    world.openssl(&[
        "ocsp",
        "-no_nonce",
        "-issuer",
        "state/issuing.pem",
        "-cert",
        &cert,
        "-url",
        &url,
        "-CAfile",
        "state/chain.pem",
    ])
}

/// Fetches the CRL of the issuing authority to `NAME.crl` and gives its number.
fn crl(world: &World, name: &str) -> u64 {
    let answer = world.curl(&format!("http://127.0.0.1:{}/crl/issuing.crl", world.crl_port), &[]);
    assert_eq!(answer.status, 200, "{}", answer.headers);
    let file = format!("{name}.crl");
    std::fs::write(world.path(&file), &answer.body).expect("writes");
    let shown = world.openssl(&["crl", "-inform", "DER", "-in", &file, "-noout", "-crlnumber"]);
    let digits = shown.trim().trim_start_matches("crlNumber=").trim_start_matches("0x");
    u64::from_str_radix(digits, 16).expect("a number")
}

#[test]
fn a_restored_store_serves_only_when_it_was_told_what_it_lacks_and_its_numbers_go_on() {
    let test = "a_restored_store_serves_only_when_it_was_told_what_it_lacks_and_its_numbers_go_on";
    let Some(mut world) = World::new(test, &Choice::default()) else { return };
    with_passphrase(&mut world, "correct horse battery");
    for name in ["before", "revoked-later", "revoked-early"] {
        world.enrolled(name);
    }
    let used_later = world.credential(&[]);
    let taken = backup(&world, "one.backup");
    assert_eq!(taken["sealed"], true);
    let mode = std::fs::metadata(world.path("one.backup")).expect("file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // What comes after the backup.
    world.request("after", "/CN=after", &[]);
    let answer = world.enrol("after", &used_later);
    world.keep(&answer, "after");
    world.enrolled("gone");
    world.enrolled("unheard-of");
    for name in ["revoked-later", "gone"] {
        world.done(&["cert", "revoke", &world.serial(name), "--reason", "key-compromise"]);
    }
    let published = crl(&world, "published");
    let refused = restore(&world, "one.backup", &[]);
    assert!(said(&refused).contains("stop it first"), "{refused:?}");
    world.kill();
    let refused = restore(&world, "one.backup", &[]);
    assert!(said(&refused).contains("--replace"), "{refused:?}");
    let done = restore(&world, "one.backup", &["--replace"]);
    assert!(done.status.success(), "{}", said(&done));

    // Neither the server nor the command line signs anything before it was told.
    let create = ["ca", "create", "line-7", "--parent", "root", "--subject", "CN=Line 7"];
    let request = world.path("request.json").to_string_lossy().into_owned();
    let rows: [&[&str]; 7] = [
        &["serve"],
        &["crl", "--renew"],
        &create,
        &["ca", "rollover", "issuing"],
        &["journal", "checkpoint"],
        &["ceremony", "request", "--out", &request],
        &["init"],
    ];
    for row in rows {
        let refused = world.run(row);
        assert!(!refused.status.success() && said(&refused).contains("was restored from a backup"), "{refused:?}");
    }
    // A revocation is taken down at once, and is on the first list.
    let revoked = world.done(&["cert", "revoke", &world.serial("revoked-early")]);
    assert!(revoked["warning"].as_str().expect("a warning").contains("was restored from a backup"), "{revoked}");
    let file = |name: &str| world.path(name).to_string_lossy().into_owned();
    let told = world.done(&[
        "reconcile",
        "--crl",
        &file("published.crl"),
        "--certificate",
        &file("after.pem"),
        "--certificate",
        &file("before.pem"),
    ]);
    // `revoked-later` by its record, `gone` by its serial number alone.
    let counts = ["certificates_taken_up", "revocations_taken_up", "known_already", "serves"].map(|key| &told[key]);
    assert_eq!(counts, [&Value::from(1), &Value::from(2), &Value::from(1), &Value::Bool(false)], "{told}");
    assert_eq!(world.done(&["reconcile", "--accept"])["serves"], true);
    world.serve();

    assert!(crl(&world, "next") > published, "a relying party keeps the list with the greater number");
    for (name, standing) in [
        ("before", "good"),
        ("after", "good"),
        ("revoked-later", "revoked"),
        ("revoked-early", "revoked"),
        ("gone", "revoked"),
        ("unheard-of", "unknown"),
    ] {
        let answer = ocsp(&world, name);
        assert!(answer.contains(&format!(": {standing}")), "{name}: {answer}");
    }
    world.openssl(&["crl", "-inform", "DER", "-in", "next.crl", "-out", "next.pem"]);
    let listed = world.openssl(&["crl", "-in", "next.pem", "-noout", "-text"]).to_lowercase();
    for name in ["revoked-later", "revoked-early", "gone"] {
        assert!(listed.contains(&world.serial(name)), "{name}: {listed}");
    }
    // A device that was enrolled after the backup goes on; a credential that may have been used is void.
    let again = world.reenrol("after", "after");
    assert_eq!(again.status, 200, "{}", again.headers);
    world.request("thief", "/CN=thief", &[]);
    assert_eq!(world.enrol("thief", &used_later).status, 403);
    assert_eq!(world.done(&["journal", "verify"])["status"], "ok");
    assert_eq!(world.done(&["health"])["status"], "ok");
}

#[test]
fn the_same_backup_restored_twice_never_gives_the_same_number_twice() {
    let test = "the_same_backup_restored_twice_never_gives_the_same_number_twice";
    let Some(mut world) = World::new(test, &Choice::default()) else { return };
    with_passphrase(&mut world, "correct horse battery");
    backup(&world, "one.backup");
    let mut last = crl(&world, "first");
    for turn in 0..2 {
        world.kill();
        assert!(restore(&world, "one.backup", &["--replace"]).status.success(), "turn {turn}");
        world.done(&["reconcile", "--accept"]);
        world.serve();
        for _ in 0..2 {
            world.done(&["crl", "--renew"]);
        }
        let number = crl(&world, "next");
        assert!(number > last, "turn {turn}: {number} after {last}");
        last = number;
        // Two restores within one second would have to publish a million lists to collide; the clock says that it was later.
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
}

#[test]
fn a_backup_that_does_not_open_or_is_not_whole_changes_nothing() {
    let test = "a_backup_that_does_not_open_or_is_not_whole_changes_nothing";
    let Some(mut world) = World::new(test, &Choice::default()) else { return };
    with_passphrase(&mut world, "correct horse battery");
    world.enrolled("sensor");
    backup(&world, "good.backup");
    let again =
        world.run(&["backup", "--passphrase", "env:PHRASE", "--output", &world.path("good.backup").to_string_lossy()]);
    assert!(said(&again).contains("never replaces a file"), "{again:?}");
    let inline = world.run(&["backup", "--passphrase", "secret", "--output", "x"]);
    assert!(said(&inline).contains("can be seen by others"), "{inline:?}");
    world.stop();
    // The command line takes one without a server too, and plain for whoever seals it otherwise.
    let plain = world.path("plain.image").to_string_lossy().into_owned();
    assert_eq!(world.done(&["backup", "--plain", "--output", &plain])["sealed"], false);
    let before = world.done(&["cert", "list"]);
    let good = std::fs::read(world.path("good.backup")).expect("reads");
    let mut turned = good.clone();
    turned[good.len() / 2] ^= 1;
    std::fs::write(world.path("turned.backup"), turned).expect("writes");
    std::fs::write(world.path("cut.backup"), &good[..good.len() - 100]).expect("writes");
    let mut image = std::fs::read(world.path("plain.image")).expect("reads");
    let middle = image.len() / 2;
    image[middle] ^= 1;
    std::fs::write(world.path("turned.image"), image).expect("writes");
    std::fs::write(world.path("nothing"), b"nothing").expect("writes");
    for name in ["turned.backup", "cut.backup", "turned.image", "nothing", "missing"] {
        let output = restore(&world, name, &["--replace"]);
        assert!(!output.status.success(), "{name}: {output:?}");
    }
    with_passphrase(&mut world, "another");
    let output = restore(&world, "good.backup", &["--replace"]);
    assert!(said(&output).contains("the passphrase does not open"), "{output:?}");
    assert_eq!(world.done(&["cert", "list"]), before);
    let names = std::fs::read_dir(world.path("state")).expect("reads").map(|entry| entry.expect("entry").file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().contains("restored")).collect();
    assert!(left.is_empty(), "{left:?}");
    let output = restore(&world, "plain.image", &["--replace"]);
    assert!(output.status.success(), "{}", said(&output));
    world.done(&["reconcile", "--accept"]);
    world.serve();
    assert_eq!(world.states("sensor"), ["active"]);
}

/// Dates a plain image, and makes its check sum right again.
fn date(world: &World, name: &str, taken_at: u64) {
    let path = world.path(name);
    let mut image = std::fs::read(&path).expect("reads");
    image[8..16].copy_from_slice(&taken_at.to_be_bytes());
    let end = image.len() - 32;
    let digest = Sha256::digest(&image[..end]);
    image[end..].copy_from_slice(&digest);
    std::fs::write(path, image).expect("writes");
}

/// Taken while the clock was ten years ahead.
#[test]
fn a_backup_from_the_future_is_taken_for_a_reason_only_and_numbers_go_on() {
    let test = "a_backup_from_the_future_is_taken_for_a_reason_only_and_numbers_go_on";
    let Some(mut world) = World::new(test, &Choice::default()) else { return };
    with_passphrase(&mut world, "it opens nothing");
    world.enrolled("gone");
    let plain = world.path("plain.image").to_string_lossy().into_owned();
    world.done(&["backup", "--plain", "--output", &plain]);
    world.done(&["cert", "revoke", &world.serial("gone"), "--reason", "key-compromise"]);
    crl(&world, "published");
    world.kill();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let ahead = now + 3653 * 86_400;
    date(&world, "plain.image", ahead);

    let refused = restore(&world, "plain.image", &["--replace"]);
    assert!(said(&refused).contains("--accept-rollback --reason"), "{refused:?}");
    for half in [&["--accept-rollback"][..], &["--reason", "x"]] {
        let refused = restore(&world, "plain.image", &[&["--replace"], half].concat());
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    }
    let accepted = ["--replace", "--accept-rollback", "--reason", "the clock was ahead"];
    let done = restore(&world, "plain.image", &accepted);
    assert!(done.status.success(), "{}", said(&done));
    // By its date the list is older than the backup.
    let list = world.path("published.crl").to_string_lossy().into_owned();
    let told = world.done(&["reconcile", "--crl", &list, "--accept"]);
    assert_eq!((&told["revocations_taken_up"], &told["serves"]), (&Value::from(1), &Value::Bool(true)), "{told}");
    world.serve();

    assert!(crl(&world, "next") > ahead << 20, "above every number of before the backup");
    assert!(ocsp(&world, "gone").contains(": revoked"));
    let journal = world.done(&["journal", "list", "--limit", "1000"]);
    let lines = journal["items"].as_array().expect("items").iter().map(|line| line.as_str().expect("a line"));
    let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |event: &str| lines.iter().filter(|line| line["event"] == event).collect::<Vec<_>>();
    assert_eq!(of("restored").iter().map(|line| &line["reason"]).collect::<Vec<_>>(), ["the clock was ahead"]);
    assert_eq!(of("clock_went_back").iter().map(|line| &line["until"]).collect::<Vec<_>>(), [&Value::from(ahead)]);
    assert_eq!(world.done(&["journal", "verify"])["status"], "ok");
    assert_eq!(world.done(&["health"])["status"], "ok");
}

#[test]
fn a_damaged_store_that_is_too_large_to_be_checked_at_the_start_serves_nothing_and_says_what_to_do() {
    use std::os::unix::fs::FileExt;
    let test = "a_damaged_store_that_is_too_large_to_be_checked_at_the_start_serves_nothing_and_says_what_to_do";
    let Some(mut world) = World::new(test, &Choice::default()) else { return };
    world.stop();
    let path = world.path("state/pki.redb");
    let whole = std::fs::read(&path).expect("reads");
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("opens");
    file.set_len(257 << 20).expect("a file with a hole");
    // The first page holds where everything is; it stays.
    for page in (4096..whole.len()).step_by(4096) {
        file.write_all_at(&[0xA5; 64], page as u64).expect("writes");
    }
    for row in [&["serve"][..], &["cert", "list"]] {
        let output = world.run(row);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(said(&output).contains("restore"), "{row:?}: {}", said(&output));
    }
}

#[test]
fn only_what_an_authority_here_has_signed_is_taken_up() {
    let test = "only_what_an_authority_here_has_signed_is_taken_up";
    let Some(mut world) = World::new(test, &Choice::default()) else { return };
    with_passphrase(&mut world, "correct horse battery");
    world.enrolled("sensor");
    crl(&world, "old");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    backup(&world, "one.backup");
    world.stop();
    assert!(restore(&world, "one.backup", &["--replace"]).status.success());
    let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9"];
    world.openssl(
        &[&new[..], &["-keyout", "f.key", "-subj", "/O=Craton/CN=Test Issuing", "-out", "false.pem"]].concat(),
    );
    let rows = [
        ("--certificate", "false.pem", "signed by no authority"),
        ("--crl", "old.crl", "older than the backup"),
        ("--crl", "false.pem", "holds no X509 CRL"),
    ];
    for (argument, name, sentence) in rows {
        let path = world.path(name).to_string_lossy().into_owned();
        let output = world.run(&["reconcile", argument, &path]);
        assert!(!output.status.success() && said(&output).contains(sentence), "{name}: {}", said(&output));
    }
    let told = world.done(&["reconcile", "--accept"]);
    assert_eq!(told["revocations_taken_up"], 0);
}
