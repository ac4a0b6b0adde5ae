//! First enrolment, on tokens of several kinds of keys, and the shape of what comes out.

use crate::world::{Choice, World};

#[test]
fn a_device_enrols_with_openssl_and_curl() {
    let Some(world) = World::new("a_device_enrols_with_openssl_and_curl", &Choice::default()) else { return };
    let answer = world.est("cacerts", &[]);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type").as_deref(), Some("application/pkcs7-mime"));
    assert_eq!(answer.header("content-transfer-encoding").as_deref(), Some("base64"));
    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string()));
    assert!(answer.body.split(|byte| *byte == b'\n').all(|line| line.len() <= 64));
    world.keep(&answer, "cacerts");
    assert_eq!(world.text("cacerts.pem").matches("BEGIN CERTIFICATE").count(), 2);

    world.request("sensor", "/CN=sensor/O=Somebody Else", &[]);
    let answer = world.enrol("sensor", &world.credential(&[]));
    assert_eq!(answer.header("content-type").as_deref(), Some("application/pkcs7-mime; smime-type=certs-only"));
    world.keep(&answer, "sensor");
    assert_eq!(world.text("sensor.pem").matches("BEGIN CERTIFICATE").count(), 1, "only the issued certificate");
    let verified = world.verify("sensor", &["-purpose", "sslclient", "-x509_strict"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let text = world.openssl(&["x509", "-in", "sensor.pem", "-noout", "-text"]);
    for line in [
        "Subject: CN = sensor\n",
        "CA:FALSE",
        "X509v3 Key Usage: critical",
        "TLS Web Client Authentication",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
        &format!("URI:http://127.0.0.1:{}/crl/issuing.crl", world.crl_port),
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let device = world.done(&["device", "show", "sensor"]);
    assert_eq!(device["state"], "Fully Provisioned");
    assert_eq!(device["certificate"], world.serial("sensor"));
}

#[test]
fn the_authorities_conform_and_their_keys_cannot_leave_the_token() {
    let test = "the_authorities_conform_and_their_keys_cannot_leave_the_token";
    let Some(world) = World::new(test, &Choice::default()) else { return };
    let root = world.openssl(&["x509", "-in", "state/root.pem", "-noout", "-text"]);
    assert!(root.contains("CA:TRUE\n") && root.contains("Certificate Sign, CRL Sign"), "{root}");
    let issuing = world.openssl(&["x509", "-in", "state/issuing.pem", "-noout", "-text"]);
    assert!(issuing.contains("CA:TRUE, pathlen:0"), "{issuing}");
    assert!(issuing.contains("/crl/root.crl"), "{issuing}");
    for name in ["state/root", "state/issuing"] {
        let verified = world.verify(name, &["-x509_strict"]);
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    }
    assert!(world.text("log").lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[test]
fn authorities_of_rsa_keys_work_the_same() {
    let choice = Choice { root_key: "rsa:3072", issuing_key: "rsa:2048", server_key: "rsa:2048", ..Choice::default() };
    let Some(world) = World::new("authorities_of_rsa_keys_work_the_same", &choice) else { return };
    world.enrolled("sensor");
    assert!(world.verify("sensor", &["-x509_strict"]).status.success());
    for version in ["1.2", "1.3"] {
        let answer = world.est("cacerts", &["--tls-max", version, &format!("--tlsv{version}")]);
        assert_eq!(answer.status, 200, "TLS {version}: {}", answer.headers);
    }
}

#[test]
fn each_kind_of_device_key_is_certified() {
    let Some(world) = World::new("each_kind_of_device_key_is_certified", &Choice::default()) else { return };
    let rows: &[(&str, &[&str], &[&str])] = &[
        ("p384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], &["-sha384"]),
        ("p384-256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], &["-sha256"]),
        ("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], &["-sha256"]),
        ("rsa-512", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], &["-sha512"]),
        ("ed25519", &["-algorithm", "ED25519"], &[]),
    ];
    for (name, key, digest) in rows {
        world.openssl(&[&["genpkey", "-out", &format!("{name}.key")], *key].concat());
        world.request_for_key(name, &format!("/CN={name}"), digest);
        let answer = world.enrol(name, &world.credential(&[]));
        world.keep(&answer, name);
        assert!(world.verify(name, &["-x509_strict"]).status.success(), "{name}");
    }
}

#[test]
fn labels_have_credentials_of_their_own() {
    let Some(world) = World::new("labels_have_credentials_of_their_own", &Choice::default()) else { return };
    world.request("sensor", "/CN=sensor", &[]);
    let of_line = world.credential(&["--label", "line-1"]);
    assert_eq!(world.enrol("sensor", &of_line).refusal(), (403, "credential_label".to_owned()));
    let of_none = world.credential(&[]);
    let answer = world.enrol_at("line-1/simpleenroll", "sensor", &of_none);
    assert_eq!(answer.refusal(), (403, "credential_label".to_owned()));
    assert_eq!(world.enrol_at("nobody/simpleenroll", "sensor", &of_none).refusal(), (404, "unknown_label".to_owned()));
    let answer = world.enrol_at("line-1/simpleenroll", "sensor", &of_line);
    world.keep(&answer, "sensor");
    // The certificate of one label is worth nothing at another.
    assert_eq!(world.reenrol("sensor", "sensor").refusal(), (403, "other_label".to_owned()));
    assert_eq!(world.est("line-1/cacerts", &[]).status, 200);
    assert_eq!(world.est("nobody/cacerts", &[]).status, 404);
}

#[test]
fn dns_names_of_the_profile_are_certified_and_others_refused() {
    let test = "dns_names_of_the_profile_are_certified_and_others_refused";
    let Some(world) = World::new(test, &Choice::default()) else { return };
    world.request("sensor", "/CN=sensor", &["-addext", "subjectAltName=DNS:s1.devices.example"]);
    let answer = world.enrol("sensor", &world.credential(&[]));
    world.keep(&answer, "sensor");
    let text = world.openssl(&["x509", "-in", "sensor.pem", "-noout", "-ext", "subjectAltName"]);
    assert!(text.contains("DNS:s1.devices.example"), "{text}");
    let rows = [
        ("DNS:s1.example", 403, "name_not_permitted"),
        ("DNS:devices.example", 403, "name_not_permitted"),
        ("DNS:evildevices.example", 403, "name_not_permitted"),
        ("DNS:*.devices.example", 400, "names_malformed"),
        ("DNS:S1.devices.example", 400, "names_malformed"),
        ("DNS:s1.devices.example.", 400, "names_malformed"),
        ("IP:10.0.0.1", 403, "name_not_permitted"),
        ("email:a@devices.example", 400, "names_malformed"),
        ("URI:http://devices.example", 403, "name_not_permitted"),
    ];
    let credential = world.credential(&[]);
    for (names, status, reason) in rows {
        world.request("other", "/CN=other", &["-addext", &format!("subjectAltName={names}")]);
        assert_eq!(world.enrol("other", &credential).refusal(), (status, reason.to_owned()), "{names}");
    }
    // A refusal does not spend the credential.
    world.request("other", "/CN=other", &[]);
    assert_eq!(world.enrol("other", &credential).status, 200);
}
