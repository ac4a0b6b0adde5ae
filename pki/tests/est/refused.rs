//! Bad input at the devices' door: each gets its own status, its own reason and changes nothing.

use crate::world::{Choice, PKCS10, World};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[test]
fn malformed_requests_are_refused_row_by_row() {
    let Some(world) = World::new("malformed_requests_are_refused_row_by_row", &Choice::default()) else { return };
    world.request("sensor", "/CN=sensor", &[]);
    let der = std::fs::read(world.path("sensor.csr")).expect("reads");
    let good = world.text("sensor.b64");
    let base64 = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
    let mut false_signature = der.clone();
    *false_signature.last_mut().expect("not empty") ^= 1;
    let mut other_subject = der.clone();
    let at = other_subject.windows(6).position(|window| window == b"sensor").expect("subject");
    other_subject[at] = b'S';
    let rows: &[(&str, String, u16, &str)] = &[
        ("false signature", base64(&false_signature), 400, "csr_signature_false"),
        ("edited subject", base64(&other_subject), 400, "csr_signature_false"),
        ("truncated", base64(&der[..der.len() / 2]), 400, "csr_malformed"),
        ("trailing byte", base64(&[der.as_slice(), &[0]].concat()), 400, "csr_malformed"),
        ("no request at all", base64(b"hello"), 400, "csr_malformed"),
        ("empty", String::new(), 400, "not_base64"),
        ("not base64", "!!!!".to_owned(), 400, "not_base64"),
        ("PEM", world.openssl(&["req", "-inform", "DER", "-in", "sensor.csr"]), 400, "not_base64"),
        ("twice base64", base64(good.as_bytes()), 400, "csr_malformed"),
        ("too large", "A".repeat(70_000), 413, "body_too_large"),
        ("much too large", "A".repeat(6_000_000), 413, "body_too_large"),
    ];
    let credential = world.credential(&[]);
    for (what, body, status, reason) in rows {
        std::fs::write(world.path("bad.b64"), body).expect("writes");
        assert_eq!(world.enrol("bad", &credential).refusal(), (*status, (*reason).to_owned()), "{what}");
    }
    // Raw DER is refused too, unless it were enabled.
    let user = format!("{}:{}", credential.name, credential.secret);
    let raw = world.est("simpleenroll", &["-u", &user, "-H", PKCS10, "--data-binary", "@sensor.csr"]);
    assert_eq!(raw.refusal(), (400, "not_base64".to_owned()));
    // None of this spent the credential or made a device.
    assert_eq!(world.done(&["device", "list"])["items"], serde_json::json!([]));
    assert_eq!(world.enrol("sensor", &credential).status, 200);
}

#[test]
fn wrong_methods_types_and_paths_are_refused() {
    let Some(world) = World::new("wrong_methods_types_and_paths_are_refused", &Choice::default()) else { return };
    world.request("sensor", "/CN=sensor", &[]);
    let credential = world.credential(&[]);
    let user = format!("{}:{}", credential.name, credential.secret);
    let post = ["-u", &user, "--data-binary", "@sensor.b64", "-H"];
    let rows: &[(&str, &[&str], u16, &str)] = &[
        ("simpleenroll", &["-u", &user], 405, "method"),
        ("cacerts", &["-X", "POST", "-d", "x"], 405, "method"),
        ("fullcmc", &[], 405, "method"),
        ("serverkeygen", &["-X", "POST"], 404, "keygen_off"),
        ("../cacerts", &["--path-as-is"], 404, "unknown_label"),
        ("cacerts/", &[], 404, "not_found"),
    ];
    for (operation, arguments, status, reason) in rows {
        assert_eq!(world.est(operation, arguments).refusal(), (*status, (*reason).to_owned()), "{operation}");
    }
    for content_type in ["text/plain", "application/pkcs7-mime", "application/pkcs10x", ""] {
        let field = format!("Content-Type: {content_type}");
        let answer = world.est("simpleenroll", &[&post[..], &[&field]].concat());
        assert_eq!(answer.refusal(), (415, "content_type".to_owned()), "{content_type}");
    }
    let answer = world.est("simpleenroll", &["-u", &user]);
    assert_eq!(answer.header("allow").as_deref(), Some("POST"));
    // Chunked and oddly labelled bodies are good.
    let odd = ["Application/PKCS10; charset=x", "Transfer-Encoding: chunked", "Content-Transfer-Encoding: nonsense"];
    let odd = [format!("Content-Type: {}", odd[0]), odd[1].to_owned(), odd[2].to_owned()];
    let answer = world.est("simpleenroll", &[&post[..], &[&odd[0], "-H", &odd[1], "-H", &odd[2]]].concat());
    assert_eq!(answer.status, 200, "{}", answer.headers);
}

#[test]
fn silent_clients_are_hung_up_on() {
    let Some(world) = World::new("silent_clients_are_hung_up_on", &Choice::default()) else { return };
    let hung_up = |mut stream: TcpStream, first_words: &[u8]| {
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("timeout");
        stream.write_all(first_words).expect("sends");
        let began = Instant::now();
        let mut rest = Vec::new();
        // An end or a reset, but not our own timeout.
        let ended = stream.read_to_end(&mut rest);
        assert!(began.elapsed() < Duration::from_secs(100), "{ended:?} after {:?}", began.elapsed());
    };
    let connect = |port: u16| TcpStream::connect(("127.0.0.1", port)).expect("connects");
    std::thread::scope(|scope| {
        scope.spawn(|| hung_up(connect(world.est_port), b""));
        scope.spawn(|| hung_up(connect(world.est_port), &[0x16, 0x03, 0x01]));
        scope.spawn(|| hung_up(connect(world.crl_port), b"GET /crl/issuing.crl HTTP/1.1\r\nHost: "));
        // Others are served meanwhile.
        for _ in 0..10 {
            assert_eq!(world.est("cacerts", &[]).status, 200);
        }
    });
}

#[test]
fn a_second_request_cannot_hide_behind_a_first() {
    let Some(world) = World::new("a_second_request_cannot_hide_behind_a_first", &Choice::default()) else { return };
    let head = "GET /crl/issuing.crl HTTP/1.1\r\nHost: x\r\n";
    let hidden = "GET /crl/root.crl HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let rows = [
        ("both framings", format!("{head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("two lengths", format!("{head}Content-Length: 0\r\nContent-Length: 5\r\n\r\n{hidden}")),
        ("odd encoding", format!("{head}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}")),
        ("signed length", format!("{head}Content-Length: +0\r\n\r\n{hidden}")),
    ];
    for (what, request) in rows {
        let mut stream = TcpStream::connect(("127.0.0.1", world.crl_port)).expect("connects");
        stream.write_all(request.as_bytes()).expect("sends");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("timeout");
        let mut answer = Vec::new();
        // A reset after the answer is an end as well.
        if let Err(fault) = stream.read_to_end(&mut answer) {
            assert_eq!(fault.kind(), std::io::ErrorKind::ConnectionReset, "{what}");
        }
        let answers = answer.windows(9).filter(|window| window == b"HTTP/1.1 ").count();
        assert_eq!(answers, 1, "{what}: {}", String::from_utf8_lossy(&answer));
    }
}

#[test]
fn credentials_are_good_for_one_certificate() {
    let Some(world) = World::new("credentials_are_good_for_one_certificate", &Choice::default()) else { return };
    world.request("sensor", "/CN=sensor", &[]);
    world.request("other", "/CN=other", &[]);
    let nobody = world.est("simpleenroll", &["-H", PKCS10, "--data-binary", "@sensor.b64"]);
    assert_eq!(nobody.refusal(), (401, "credentials_needed".to_owned()));
    assert!(nobody.header("www-authenticate").is_some_and(|field| field.starts_with("Basic ")));
    assert!(nobody.body.is_empty());
    let credential = world.credential(&[]);
    let mut wrong = credential.clone();
    wrong.secret.push('x');
    assert_eq!(world.enrol("sensor", &wrong).refusal(), (401, "credentials_wrong".to_owned()));
    let mut unknown = credential.clone();
    unknown.name.push('x');
    assert_eq!(world.enrol("sensor", &unknown).refusal(), (401, "credentials_wrong".to_owned()));
    assert_eq!(world.enrol("sensor", &credential).status, 200);
    assert_eq!(world.enrol("other", &credential).refusal(), (403, "credential_used".to_owned()));
    // A known device needs a credential that was made for it.
    world.request("again", "/CN=sensor", &[]);
    assert_eq!(world.enrol("again", &world.credential(&[])).refusal(), (403, "already_enrolled".to_owned()));
    let bound = world.credential(&["--device", "sensor"]);
    assert_eq!(world.enrol("other", &bound).refusal(), (403, "other_device".to_owned()));
    assert_eq!(world.enrol("again", &bound).status, 200);
    assert_eq!(world.states("sensor"), ["superseded", "active"]);
}

#[test]
fn many_wrong_passwords_are_slowed_down() {
    let Some(world) = World::new("many_wrong_passwords_are_slowed_down", &Choice::default()) else { return };
    world.request("sensor", "/CN=sensor", &[]);
    let mut credential = world.credential(&[]);
    credential.secret = "guess".to_owned();
    let answers: Vec<u16> = (0..22).map(|_| world.enrol("sensor", &credential).status).collect();
    assert_eq!(answers[..20], [401; 20]);
    assert_eq!(answers[20..], [429; 2]);
}

#[test]
fn nothing_dangerous_is_copied_from_a_request() {
    let Some(world) = World::new("nothing_dangerous_is_copied_from_a_request", &Choice::default()) else { return };
    let credential = world.credential(&[]);
    for extension in ["basicConstraints=critical,CA:TRUE", "keyUsage=keyCertSign", "keyUsage=cRLSign,digitalSignature"]
    {
        world.request("sensor", "/CN=sensor", &["-addext", extension]);
        let answer = world.enrol("sensor", &credential);
        assert_eq!(answer.refusal(), (403, "csr_asks_for_authority".to_owned()), "{extension}");
    }
    let harmless = [
        "-addext",
        "extendedKeyUsage=serverAuth,codeSigning",
        "-addext",
        "certificatePolicies=1.2.3.4",
        "-addext",
        "crlDistributionPoints=URI:http://evil.example/x.crl",
        "-addext",
        "authorityInfoAccess=OCSP;URI:http://evil.example",
        "-addext",
        "nameConstraints=permitted;DNS:evil.example",
        "-addext",
        "subjectKeyIdentifier=hash",
        "-addext",
        "1.2.3.4=critical,ASN1:UTF8String:x",
    ];
    world.request("sensor", "/CN=sensor/OU=Admins/emailAddress=a@evil.example", &harmless);
    let answer = world.enrol("sensor", &credential);
    world.keep(&answer, "sensor");
    let text = world.openssl(&["x509", "-in", "sensor.pem", "-noout", "-text"]);
    for word in ["evil", "Code Signing", "TLS Web Server", "1.2.3.4", "Name Constraints", "Policies", "Admins"] {
        assert!(!text.contains(word), "{word} in {text}");
    }
    assert!(text.contains("Subject: CN = sensor\n"), "{text}");
}

#[test]
fn weak_reused_and_foreign_keys_are_refused() {
    let Some(world) = World::new("weak_reused_and_foreign_keys_are_refused", &Choice::default()) else { return };
    let rows: &[(&str, &[&str], &str)] = &[
        ("rsa1024", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"], "key_weak"),
        (
            "rsa-e3",
            &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_pubexp:3"],
            "key_weak",
        ),
        ("p192", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime192v1"], "key_unsupported"),
        ("k256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"], "key_unsupported"),
        ("ed448", &["-algorithm", "ED448"], "key_unsupported"),
    ];
    let credential = world.credential(&[]);
    for (name, key, reason) in rows {
        world.openssl(&[&["genpkey", "-out", &format!("{name}.key")], *key].concat());
        world.request_for_key(name, &format!("/CN={name}"), &[]);
        assert_eq!(world.enrol(name, &credential).refusal(), (400, (*reason).to_owned()), "{name}");
    }
    world.enrolled("sensor");
    std::fs::copy(world.path("sensor.key"), world.path("thief.key")).expect("copies");
    world.request_for_key("thief", "/CN=thief", &[]);
    assert_eq!(world.enrol("thief", &credential).refusal(), (403, "key_reused".to_owned()));
    for subject in ["/O=Nobody", "/CN=a/CN=b", "/CN=a;b"] {
        world.request("sensor-2", subject, &[]);
        let answer = world.enrol("sensor-2", &credential);
        assert_eq!(answer.refusal(), (403, "subject_not_acceptable".to_owned()), "{subject}");
    }
}

#[test]
fn a_binding_that_cannot_be_checked_is_refused() {
    let Some(world) = World::new("a_binding_that_cannot_be_checked_is_refused", &Choice::default()) else { return };
    let config = "[req]\nprompt=no\ndistinguished_name=dn\nattributes=a\n[dn]\nCN=x\n[a]\nchallengePassword=secret\n";
    std::fs::write(world.path("bound.cnf"), config).expect("writes");
    world.request("sensor", "", &["-config", "bound.cnf"]);
    let credential = world.credential(&[]);
    let user = format!("{}:{}", credential.name, credential.secret);
    for version in ["1.2", "1.3"] {
        let arguments = ["-u", &user, "-H", PKCS10, "--data-binary", "@sensor.b64", "--tls-max", version];
        let answer = world.est("simpleenroll", &arguments);
        assert_eq!(answer.refusal(), (403, "channel_binding".to_owned()), "TLS {version}");
    }
}

#[test]
fn nothing_is_certified_for_a_key_on_the_list_of_compromised_ones() {
    let test = "nothing_is_certified_for_a_key_on_the_list_of_compromised_ones";
    let choice = Choice { more: "[ca]\ncompromised_keys = \"compromised.txt\"", ..Choice::default() };
    let Some(mut world) = World::bare(test, &choice) else { return };
    assert!(!world.run(&["init"]).status.success(), "a list that cannot be read stops everything");
    std::fs::write(world.path("compromised.txt"), "# nothing yet\n").expect("writes");
    world.done(&["init"]);
    world.serve();
    world.request("sensor", "/CN=sensor", &[]);
    world.openssl(&["pkey", "-in", "sensor.key", "-pubout", "-outform", "DER", "-out", "sensor.spki"]);
    let digest = world.openssl(&["dgst", "-sha256", "-r", "sensor.spki"]);
    let digest = digest.split_whitespace().next().expect("a digest");
    std::fs::write(world.path("compromised.txt"), format!("# found in a public repository\n{digest}\n"))
        .expect("writes");
    let credential = world.credential(&[]);
    assert_eq!(world.enrol("sensor", &credential).refusal(), (403, "key_compromised".to_owned()));
    std::fs::write(world.path("compromised.txt"), "").expect("writes");
    assert_eq!(world.enrol("sensor", &credential).status, 200, "the credential is not spent by a refusal");
}
