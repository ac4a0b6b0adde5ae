//! Second certificates (RFC 9763): given to who shows the first by TLS and proves in the request to hold it.

use crate::hand::{self, tlv};
use crate::world::{Answer, Choice, PKCS10, World};
use data_encoding::{BASE64, HEXLOWER};
use std::time::{SystemTime, UNIX_EPOCH};

const LABELS: &str = r#"
    [est.labels.second]
    related_to = ""
    [est.labels.kem]
    profile = "kem"
    related_to = ""
    [profiles.kem]
    preset = "encryption"
    keys = ["ml-kem-768"]
    [est.labels.again]
    related_to = ""
    replaceable = true
"#;
const DAY: u64 = 86_400;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// relatedCertRequest: that the holder of `SIGNER.key` holds `NAMED.pem`.
fn claim(world: &World, named: &str, signer: &str, time: u64) -> Vec<u8> {
    let serial = HEXLOWER.decode(world.serial(named).as_bytes()).expect("hexadecimal");
    let id = tlv(0x30, &[hand::issuer_of(world, named), tlv(0x02, &serial)].concat());
    let bytes = time.to_be_bytes();
    let significant = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    let time = tlv(0x02, &[&[0][..usize::from(significant[0] >= 0x80)], significant].concat());
    std::fs::write(world.path("claim.der"), [id.clone(), time.clone()].concat()).expect("writes");
    let key = format!("{signer}.key");
    let signature = world.tool("openssl", &["dgst", "-sha256", "-sign", &key, "claim.der"]);
    let signature = tlv(0x03, &[&[0][..], &signature].concat());
    let value = tlv(0x30, &[id, time, tlv(0x16, b""), signature].concat());
    hand::attribute("1.2.840.113549.1.9.16.2.60", &value)
}

/// Asks at a path with the certificate of `HOLDER` for a new key, for the subject of `NAMED.pem`, with these attributes.
fn ask(world: &World, path: &str, holder: &[&str], subject: &str, attributes: &[Vec<u8>]) -> Answer {
    let request = hand::request(&hand::subject_of(world, subject), attributes);
    std::fs::write(world.path("ask.b64"), BASE64.encode(&request)).expect("writes");
    world.est(path, &[holder, &["-H", PKCS10, "--data-binary", "@ask.b64"]].concat())
}

/// Who asks, at which label, for whose subject, with which attributes, and why it is refused.
type Row<'a> = (&'a [&'a str], &'a str, &'a str, Vec<Vec<u8>>, &'a str);

#[test]
fn a_second_certificate_is_given_to_who_proves_to_hold_the_first() {
    let test = "a_second_certificate_is_given_to_who_proves_to_hold_the_first";
    let Some(world) = World::new(test, &Choice { more: LABELS, ..Choice::default() }) else { return };
    world.enrolled("a");
    world.enrolled("b");
    world.request("line", "/CN=line", &[]);
    let answer = world.enrol_at("line-1/simpleenroll", "line", &world.credential(&["--label", "line-1"]));
    world.keep(&answer, "line");
    let of_a: &[&str] = &["--cert", "a.pem", "--key", "a.key"];
    let of_line: &[&str] = &["--cert", "line.pem", "--key", "line.key"];
    let good = || claim(&world, "a", "a", now());
    let mut forged = good();
    *forged.last_mut().expect("not empty") ^= 1;
    let credential = world.credential(&["--label", "second"]);
    let user = format!("{}:{}", credential.name, credential.secret);
    let plain = world.credential(&[]);
    let new = format!("{}:{}", plain.name, plain.secret);
    let (by_credential, as_new): (&[&str], &[&str]) = (&["-u", &user], &["-u", &new]);
    let rows: Vec<Row<'_>> = vec![
        (of_a, "second", "a", vec![], "related_needed"),
        (by_credential, "second", "a", vec![good()], "related_needed"),
        (of_a, "second", "a", vec![claim(&world, "b", "a", now())], "related_false"),
        (of_a, "second", "a", vec![claim(&world, "a", "b", now())], "related_false"),
        (of_a, "second", "a", vec![claim(&world, "a", "a", now() - 2 * DAY)], "related_false"),
        (of_a, "second", "a", vec![claim(&world, "a", "a", now() + 2 * DAY)], "related_false"),
        (of_a, "second", "a", vec![forged], "related_false"),
        (of_a, "second", "b", vec![good()], "other_device"),
        (of_line, "second", "line", vec![claim(&world, "line", "line", now())], "other_label"),
        (as_new, "", "b", vec![good()], "related_not_given"),
    ];
    for (index, (holder, label, subject, attributes, reason)) in rows.into_iter().enumerate() {
        let path = format!("{label}/simpleenroll");
        let answer = ask(&world, path.trim_start_matches('/'), holder, subject, &attributes);
        assert_eq!(answer.refusal(), (403, reason.to_owned()), "row {index}");
    }
    let twice = ask(&world, "second/simpleenroll", of_a, "a", &[good(), good()]);
    assert_eq!(twice.refusal(), (400, "csr_malformed".to_owned()));
    assert_eq!(world.states("a"), ["active"], "nothing was issued");

    let given = ask(&world, "second/simpleenroll", of_a, "a", &[good()]);
    world.keep(&given, "second");
    assert!(world.verify("second", &["-x509_strict"]).status.success());
    let shown = world.openssl(&["x509", "-in", "second.pem", "-noout", "-text"]);
    assert!(shown.contains("1.3.6.1.5.5.7.1.36") || shown.contains("elated"), "{shown}");
    assert_eq!(world.done(&["device", "show", "a"])["related"], serde_json::json!([world.serial("second")]));
    // An answer that was lost is given again; another key is another certificate, which only a label that says so replaces.
    let repeated = world.est("second/simpleenroll", &[of_a, &["-H", PKCS10, "--data-binary", "@ask.b64"]].concat());
    assert_eq!(repeated.body, given.body);
    let other = ask(&world, "second/simpleenroll", of_a, "a", &[good()]);
    assert_eq!(other.refusal(), (403, "already_enrolled".to_owned()));
    for _ in 0..2 {
        assert_eq!(ask(&world, "again/simpleenroll", of_a, "a", &[good()]).status, 200);
    }
    assert_eq!(world.states("a"), ["active", "active", "superseded", "active"], "one of each label");
    assert_eq!(world.done(&["device", "show", "a"])["related"].as_array().map(Vec::len), Some(2));
    // The first renews as ever, and names nobody.
    let renewal = ask(&world, "simplereenroll", of_a, "a", &[good()]);
    assert_eq!(renewal.refusal(), (403, "related_not_given".to_owned()));
    assert_eq!(ask(&world, "simplereenroll", of_a, "a", &[]).status, 200);
    let late = ask(&world, "again/simpleenroll", of_a, "a", &[good()]);
    assert_eq!(late.refusal(), (403, "certificate_superseded".to_owned()));
}

/// What a backup does not know of a further identity is told from its certificate, and stays a further one.
#[test]
fn a_restored_store_takes_a_second_certificate_for_what_it_is() {
    let test = "a_restored_store_takes_a_second_certificate_for_what_it_is";
    let Some(mut world) = World::new(test, &Choice { more: LABELS, ..Choice::default() }) else { return };
    world.enrolled("a");
    let image = world.path("plain.image").display().to_string();
    world.done(&["backup", "--plain", "--output", &image]);
    let of_a: &[&str] = &["--cert", "a.pem", "--key", "a.key"];
    world.keep(&ask(&world, "second/simpleenroll", of_a, "a", &[claim(&world, "a", "a", now())]), "second");
    world.stop();
    world.done(&["restore", "--input", &image, "--replace"]);
    assert_eq!(world.done(&["device", "show", "a"])["related"], serde_json::json!([]));
    let second = world.path("second.pem").display().to_string();
    world.done(&["reconcile", "--certificate", &second, "--accept"]);
    let record = world.done(&["device", "show", "a"]);
    assert_eq!(record["certificate"], world.serial("a"));
    assert_eq!(record["related"], serde_json::json!([world.serial("second")]));
    assert_eq!(world.done(&["cert", "show", &world.serial("second")])["related_to"], world.serial("a"));
    assert_eq!(world.states("a"), ["active", "active"]);
}

/// A request for an ML-KEM key, signed with the key in `SIGNER.key`, which states to have it as the holder of `NAMED.pem` (RFC 9883).
fn stated(world: &World, named: Option<&str>, signer: &str, octet: u8) -> Vec<u8> {
    let algorithm = tlv(0x30, &hand::oid("2.16.840.1.101.3.4.4.2"));
    let spki = tlv(0x30, &[algorithm, tlv(0x03, &[&[0][..], &[octet; 1184]].concat())].concat());
    let statement = named.map(|named| {
        let serial = HEXLOWER.decode(world.serial(named).as_bytes()).expect("hexadecimal");
        let id = tlv(0x30, &[hand::issuer_of(world, named), tlv(0x02, &serial)].concat());
        hand::attribute("1.3.6.1.4.1.22112.2.1", &tlv(0x30, &id))
    });
    let attributes = tlv(0xA0, &statement.unwrap_or_default());
    let info = tlv(0x30, &[tlv(0x02, &[0]), hand::subject_of(world, "a"), spki, attributes].concat());
    std::fs::write(world.path("info.der"), &info).expect("writes");
    let key = format!("{signer}.key");
    let signature = world.tool("openssl", &["dgst", "-sha256", "-sign", &key, "info.der"]);
    let algorithm = tlv(0x30, &hand::oid("1.2.840.10045.4.3.2"));
    tlv(0x30, &[info, algorithm, tlv(0x03, &[&[0][..], &signature].concat())].concat())
}

/// The device's own ML-KEM key, which cannot sign: the certificate that it shows signs for it. Any module does.
#[test]
fn an_ml_kem_key_is_certified_for_who_states_to_have_it() {
    let Some(world) = World::new(
        "an_ml_kem_key_is_certified_for_who_states_to_have_it",
        &Choice { more: LABELS, ..Choice::default() },
    ) else {
        return;
    };
    world.enrolled("a");
    world.enrolled("b");
    let ask = |holder: &[&str], request: &[u8]| {
        std::fs::write(world.path("ask.b64"), BASE64.encode(request)).expect("writes");
        world.est("kem/simpleenroll", &[holder, &["-H", PKCS10, "--data-binary", "@ask.b64"]].concat())
    };
    let of_a: &[&str] = &["--cert", "a.pem", "--key", "a.key"];
    let credential = world.credential(&["--label", "kem"]);
    let user = format!("{}:{}", credential.name, credential.secret);
    let rows: [(&[&str], Vec<u8>, &str); 6] = [
        (of_a, stated(&world, None, "a", 1), "key_unsupported"),
        (&["-u", &user], stated(&world, Some("a"), "a", 1), "key_unsupported"),
        (of_a, stated(&world, Some("b"), "b", 1), "possession_statement"),
        (of_a, stated(&world, Some("a"), "b", 1), "possession_statement"),
        (of_a, stated(&world, Some("b"), "a", 1), "possession_statement"),
        // No coefficient is 0xEEE.
        (of_a, stated(&world, Some("a"), "a", 0xEE), "key_unsupported"),
    ];
    for (index, (holder, request, reason)) in rows.into_iter().enumerate() {
        assert_eq!(ask(holder, &request).refusal(), (400, reason.to_owned()), "row {index}");
    }
    assert_eq!(world.states("a"), ["active"], "nothing was issued");
    world.keep(&ask(of_a, &stated(&world, Some("a"), "a", 1)), "kem");
    let shown = world.openssl(&["x509", "-in", "kem.pem", "-noout", "-ext", "keyUsage"]);
    assert!(shown.contains("critical") && shown.trim().ends_with("Key Encipherment"), "{shown}");
    // It is no certificate to come with; the next key comes as the first did.
    world.keep(&ask(of_a, &stated(&world, Some("a"), "a", 2)), "next");
    assert_eq!(world.states("a"), ["active", "superseded", "active"]);
    assert_eq!(world.done(&["device", "show", "a"])["related"], serde_json::json!([world.serial("next")]));
}
