//! CRLs: shards, deltas, numbers and what relying parties make of them (RFC 5280 section 5).

use crate::world::{Choice, World};
use serde_json::Value;

/// The text of a CRL, fetched by its path below `/crl/`; written to `NAME.pem` too.
fn text(world: &World, path: &str, name: &str) -> String {
    let answer = world.curl(&format!("http://127.0.0.1:{}/crl/{path}.crl", world.crl_port), &[]);
    assert_eq!(answer.status, 200, "{path}: {}", answer.headers);
    let (der, pem) = (format!("{name}.der"), format!("{name}.pem"));
    std::fs::write(world.path(&der), &answer.body).expect("writes");
    world.openssl(&["crl", "-inform", "DER", "-in", &der, "-out", &pem]);
    world.openssl(&["crl", "-in", &pem, "-CAfile", "state/chain.pem", "-noout"]);
    world.openssl(&["crl", "-in", &pem, "-noout", "-text"])
}

/// The path below `/crl/` of the list that a certificate names.
fn named_list(world: &World, certificate: &str) -> String {
    let text = world.openssl(&["x509", "-in", &format!("{certificate}.pem"), "-noout", "-text"]);
    let after = text.split("/crl/").nth(1).expect("a distribution point");
    after.split(".crl").next().expect("a path").to_owned()
}

fn number(world: &World, more: &[&str]) -> u64 {
    world.done(&[&["crl"], more].concat())["number"].as_u64().expect("number")
}

/// `openssl verify` of a certificate against the root's list and these.
fn verifies(world: &World, certificate: &str, lists: &[&str], more: &[&str]) -> bool {
    let mut all = Vec::new();
    for list in lists {
        all.extend(std::fs::read(world.path(&format!("{list}.pem"))).expect("list"));
    }
    std::fs::write(world.path("lists.pem"), all).expect("writes");
    world.verify(certificate, &[&["-crl_check", "-CRLfile", "lists.pem"], more].concat()).status.success()
}

#[test]
fn a_revocation_renews_the_shard_of_its_certificate_only() {
    let test = "a_revocation_renews_the_shard_of_its_certificate_only";
    let choice = Choice { crl: "shards = 3", ..Choice::default() };
    let Some(world) = World::new(test, &choice) else { return };
    let names = ["a", "b", "c", "d"];
    for name in names {
        world.enrolled(name);
        let list = named_list(&world, name);
        let tail = u32::from_str_radix(&world.serial(name)[24..], 16).expect("hexadecimal");
        assert_eq!(list, format!("issuing/{}", 1 + tail % 3), "{name}");
        let shown = text(&world, &list, "shard");
        assert!(shown.contains("Issuing Distribution Point: critical"), "{shown}");
        assert!(shown.contains(&format!("/crl/{list}.crl")), "{shown}");
        assert!(verifies(&world, name, &["shard"], &[]), "{name}");
    }
    let shards = ["1", "2", "3"];
    let before = shards.map(|shard| number(&world, &["--shard", shard]));
    let hit = named_list(&world, "a");
    let answer = world.done(&["cert", "revoke", &world.serial("a"), "--reason", "ca-compromise"]);
    assert!(answer["crl_number"].is_u64(), "{answer}");
    for (shard, before) in shards.iter().zip(before) {
        let renewed = u64::from(hit == format!("issuing/{shard}"));
        assert_eq!(number(&world, &["--shard", shard]), before + renewed, "shard {shard}");
    }
    text(&world, &hit, "shard");
    assert!(!verifies(&world, "a", &["shard"], &[]));
    // A list that does not cover the certificate does not vouch for it.
    let other = shards.iter().map(|shard| format!("issuing/{shard}")).find(|list| *list != hit).expect("another shard");
    text(&world, &other, "other");
    assert!(!verifies(&world, "b", &["other"], &[]) || named_list(&world, "b") == other);
    let whole = text(&world, "issuing", "whole");
    assert!(whole.contains("No Revoked Certificates"), "{whole}");
    for nothing in ["issuing/4", "issuing/0", "issuing/x", "nobody/1", "issuing/delta"] {
        let url = format!("http://127.0.0.1:{}/crl/{nothing}.crl", world.crl_port);
        assert_eq!(world.curl(&url, &[]).refusal(), (404, "not_found".to_owned()), "{nothing}");
    }
}

#[test]
fn the_number_of_shards_may_change_and_certificates_keep_theirs() {
    let test = "the_number_of_shards_may_change_and_certificates_keep_theirs";
    let choice = Choice { crl: "shards = 1", ..Choice::default() };
    let Some(mut world) = World::new(test, &choice) else { return };
    world.enrolled("old");
    assert_eq!(named_list(&world, "old"), "issuing/1");
    world.stop();
    std::fs::write(world.path("pki.toml"), world.text("pki.toml").replace("shards = 1", "shards = 0")).expect("writes");
    world.serve();
    world.enrolled("new");
    assert_eq!(named_list(&world, "new"), "issuing");
    world.done(&["cert", "revoke", &world.serial("old")]);
    world.done(&["cert", "revoke", &world.serial("new")]);
    text(&world, "issuing/1", "first");
    text(&world, "issuing", "whole");
    assert!(!verifies(&world, "old", &["first"], &[]));
    assert!(!verifies(&world, "new", &["whole"], &[]));
}

#[test]
fn a_delta_tells_a_revocation_and_a_release_at_once() {
    let test = "a_delta_tells_a_revocation_and_a_release_at_once";
    let choice = Choice { crl: "delta_hours = 1", ..Choice::default() };
    let Some(world) = World::new(test, &choice) else { return };
    world.enrolled("sensor");
    world.enrolled("held");
    let base = text(&world, "issuing", "base");
    assert!(base.contains("Freshest CRL") && base.contains("/crl/issuing/delta.crl"), "{base}");
    assert!(!base.contains("Delta CRL Indicator"), "{base}");
    let base_number = number(&world, &[]);
    let held = world.serial("held");
    let answer = world.done(&["cert", "revoke", &held, "--reason", "certificate-hold"]);
    assert_eq!(answer["state"], "on_hold");
    assert_eq!(number(&world, &[]), base_number, "the base follows on its schedule");
    let delta = text(&world, "issuing/delta", "delta");
    assert!(delta.contains("Delta CRL Indicator: critical") && delta.contains("Certificate Hold"), "{delta}");
    assert!(!delta.contains("Freshest CRL"), "{delta}");
    let use_deltas = ["-extended_crl", "-use_deltas"];
    assert!(verifies(&world, "held", &["base"], &[]));
    assert!(!verifies(&world, "held", &["base", "delta"], &use_deltas));
    // A new base comes with a delta of the same number.
    world.done(&["crl", "--renew"]);
    assert_eq!(number(&world, &[]), number(&world, &["--delta"]));
    text(&world, "issuing", "base");
    assert!(!verifies(&world, "held", &["base"], &[]));
    assert_eq!(world.done(&["cert", "release", &held])["state"], "active");
    let delta = text(&world, "issuing/delta", "delta");
    assert!(delta.contains("Remove From CRL"), "{delta}");
    assert!(verifies(&world, "held", &["base", "delta"], &use_deltas));
    assert_eq!(number(&world, &["--delta"]), number(&world, &[]) + 1);
    assert_eq!(world.done(&["device", "show", "held"])["state"], "Fully Provisioned");
    let again = world.run(&["cert", "release", &held]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("not on hold"), "{again:?}");
}

#[test]
fn every_reason_stands_on_the_list_with_its_date() {
    let test = "every_reason_stands_on_the_list_with_its_date";
    let Some(world) = World::new(test, &Choice::default()) else { return };
    let rows = [
        ("unspecified", ""),
        ("key-compromise", "Key Compromise"),
        ("ca-compromise", "CA Compromise"),
        ("affiliation-changed", "Affiliation Changed"),
        ("superseded", "Superseded"),
        ("cessation-of-operation", "Cessation Of Operation"),
        ("certificate-hold", "Certificate Hold"),
        ("privilege-withdrawn", "Privilege Withdrawn"),
        ("aa-compromise", "AA Compromise"),
    ];
    for (reason, words) in rows {
        world.enrolled(reason);
        world.done(&["cert", "revoke", &world.serial(reason), "--reason", reason, "--invalid-since", "2026-01-31"]);
        let shown = text(&world, "issuing", "list");
        let entry = shown.split("Serial Number: ").last().expect("an entry");
        assert!(entry.contains(words) && entry.contains("Jan 31 00:00:00 2026"), "{reason}: {shown}");
        assert_eq!(entry.contains("CRL Reason Code"), !words.is_empty(), "{reason}: {shown}");
    }
    let bad = world.run(&["cert", "revoke", &world.serial("superseded"), "--invalid-since", "yesterday"]);
    assert!(String::from_utf8_lossy(&bad.stderr).contains("is no date"), "{bad:?}");
}

#[test]
fn many_revocations_make_one_list() {
    let Some(world) = World::new("many_revocations_make_one_list", &Choice::default()) else { return };
    for name in ["a", "b"] {
        world.enrolled(name);
    }
    for name in ["c", "d"] {
        world.request(name, &format!("/CN={name}"), &[]);
        let answer = world.enrol_at("line-1/simpleenroll", name, &world.credential(&["--label", "line-1"]));
        world.keep(&answer, name);
    }
    let state = |name: &str| world.states(name).concat();
    let before = number(&world, &[]);
    let answer = world.done(&["cert", "revoke-all", "--label", "line-1", "--reason", "superseded"]);
    assert_eq!((&answer["revoked"], &answer["crl_number"]), (&Value::from(2), &Value::from(before + 1)), "{answer}");
    assert_eq!((state("a"), state("c"), state("d")), ("active".into(), "revoked".into(), "revoked".into()));
    std::fs::write(world.path("serials"), format!("# the first\n{}\n\n{}\n", world.serial("a"), world.serial("c")))
        .expect("writes");
    let file = world.path("serials");
    let answer = world.done(&["cert", "revoke-all", "--serials", &file.to_string_lossy()]);
    assert_eq!(answer["revoked"], 1, "what is revoked already is left alone: {answer}");
    let answer = world.done(&["cert", "revoke-all", "--ca", "issuing", "--reason", "cessation-of-operation"]);
    assert_eq!((&answer["revoked"], &answer["crl_number"]), (&Value::from(1), &Value::from(before + 3)), "{answer}");
    // What the house needs for itself stays.
    assert_eq!(world.est("cacerts", &[]).status, 200);
    let shown = text(&world, "issuing", "list");
    assert_eq!(shown.matches("Serial Number: ").count(), 4, "{shown}");
    let rows: &[(&[&str], &str)] = &[
        (&["--ca", "nobody"], "there is no authority"),
        (&["--serials", "/nonexistent"], "/nonexistent"),
        (&["--label", "a", "--ca", "issuing"], "cannot be used with"),
        (&[], "required"),
    ];
    for (arguments, sentence) in rows {
        let output = world.run(&[&["cert", "revoke-all"], *arguments].concat());
        assert!(!output.status.success(), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(sentence), "{arguments:?}: {output:?}");
    }
}
