//! Revocation: the certificate, its device and the CRL together.

use crate::world::{Choice, World};

#[test]
fn a_revoked_certificate_is_refused_by_openssl() {
    let Some(world) = World::new("a_revoked_certificate_is_refused_by_openssl", &Choice::default()) else { return };
    world.enrolled("sensor");
    world.enrolled("other");
    world.fetch_crls();
    let check = ["-crl_check_all", "-CRLfile", "crls.pem"];
    assert!(world.verify("sensor", &check).status.success());
    let before = world.openssl(&["crl", "-in", "crls.pem", "-noout", "-text"]);
    assert!(before.contains("No Revoked Certificates"), "{before}");

    let answer = world.done(&["cert", "revoke", &world.serial("sensor"), "--reason", "key-compromise"]);
    assert_eq!(answer["state"], "revoked");
    world.fetch_crls();
    let verified = world.verify("sensor", &check);
    assert!(!verified.status.success());
    assert!(String::from_utf8_lossy(&verified.stderr).contains("certificate revoked"));
    assert!(world.verify("other", &check).status.success());
    let after = world.openssl(&["crl", "-inform", "DER", "-in", "issuing.crl", "-noout", "-text"]);
    assert!(after.contains("Key Compromise") && after.contains("X509v3 CRL Number"), "{after}");
    world.openssl(&["crl", "-inform", "DER", "-in", "issuing.crl", "-CAfile", "state/chain.pem", "-noout"]);
    assert_eq!(world.done(&["device", "show", "sensor"])["state"], "Requires Action");
    assert_eq!(world.done(&["device", "show", "other"])["state"], "Fully Provisioned");

    // The compromised key is never certified again, and the device comes back with a new one.
    let bound = world.credential(&["--device", "sensor"]);
    assert_eq!(world.enrol("sensor", &bound).refusal(), (403, "key_compromised".to_owned()));
    world.request("fresh", "/CN=sensor", &[]);
    assert_eq!(world.enrol("fresh", &bound).status, 200);
    assert_eq!(world.done(&["device", "show", "sensor"])["state"], "Fully Provisioned");
}

#[test]
fn a_revocation_is_refused_with_a_sentence() {
    let Some(world) = World::new("a_revocation_is_refused_with_a_sentence", &Choice::default()) else { return };
    world.enrolled("sensor");
    let serial = world.serial("sensor");
    let rows: &[(&[&str], &str)] = &[
        (&["00ff"], "no certificate has this serial number"),
        (&["not-hex"], "hexadecimal"),
        (&[&serial, "--reason", "boredom"], "unknown reason 'boredom'"),
    ];
    for (arguments, sentence) in rows {
        let output = world.run(&[&["cert", "revoke"], *arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(sentence), "{output:?}");
    }
    world.done(&["cert", "revoke", &serial]);
    let again = world.run(&["cert", "revoke", &serial]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("already revoked"), "{again:?}");
}

#[test]
fn crl_numbers_rise_and_caches_are_served() {
    let Some(mut world) = World::new("crl_numbers_rise_and_caches_are_served", &Choice::default()) else { return };
    let number = |world: &World| world.done(&["crl"])["number"].as_u64().expect("number");
    let first = number(&world);
    assert_eq!(number(&world), first, "reading makes no new list");
    world.done(&["crl", "--renew"]);
    assert_eq!(number(&world), first + 1);
    world.kill();
    world.serve();
    world.done(&["crl", "--renew"]);
    assert_eq!(number(&world), first + 2);

    let url = format!("http://127.0.0.1:{}/crl/issuing.crl", world.crl_port);
    let tag = world.curl(&url, &[]).header("etag").expect("etag");
    assert_eq!(world.curl(&url, &["-H", &format!("If-None-Match: {tag}")]).status, 304);
    let head = world.curl(&url, &["-I"]);
    assert_eq!(head.status, 200);
    assert!(head.header("last-modified").is_some_and(|date| date.ends_with(" GMT")));
    assert_eq!(world.curl(&url, &["-X", "POST", "-d", "x"]).status, 405);
    let nothing = format!("http://127.0.0.1:{}/crl/../pki.redb", world.crl_port);
    assert_eq!(world.curl(&nothing, &["--path-as-is"]).status, 404);
}

#[test]
fn whatever_a_revoked_authority_issued_is_refused_by_one_list() {
    let test = "whatever_a_revoked_authority_issued_is_refused_by_one_list";
    let Some(world) = World::new(test, &Choice::default()) else { return };
    for name in ["a", "b"] {
        world.enrolled(name);
    }
    let number = |ca: &str| world.done(&["crl", "--ca", ca])["number"].as_u64().expect("number");
    let (root, issuing) = (number("root"), number("issuing"));
    let answer = world.done(&["ca", "revoke", "issuing", "--reason", "ca-compromise"]);
    assert_eq!(answer["crl_number"], root + 1, "{answer}");
    assert_eq!(number("issuing"), issuing, "one list, that of the parent");
    let again = world.run(&["ca", "revoke", "issuing"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("already revoked"), "{again:?}");
    world.fetch_crls();
    assert!(!world.verify("a", &["-crl_check_all", "-CRLfile", "crls.pem"]).status.success());
    let url = format!("http://127.0.0.1:{}/ocsp", world.crl_port);
    let said = world.openssl(&[
        "ocsp",
        "-CAfile",
        "state/chain.pem",
        "-issuer",
        "state/issuing.pem",
        "-cert",
        "b.pem",
        "-url",
        &url,
    ]);
    assert!(said.contains("b.pem: revoked") && said.contains("cACompromise"), "{said}");
    // Not even a handshake: a revoked authority vouches for nobody.
    assert_eq!(world.reenrol("a", "a").status, 0);
    world.request("c", "/CN=c", &[]);
    assert!(world.enrol("c", &world.credential(&[])).status >= 400, "it issues nothing any more");
}
