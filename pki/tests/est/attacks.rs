//! Sixteen attacks on enrolment, one row each: all their attempts are refused by name, and not one of them leaves a certificate.

use crate::hand;
use crate::world::{Answer, Choice, Credential, PKCS10, World};
use data_encoding::BASE64;
use serde_json::Value;

const TABLES: &str = r#"
    [est.labels.registered]
    registration = "pre-registered"
    [est.labels.bound]
    channel_binding = "required"
    [est.labels.sealed]
    server_keygen = "encrypted"
    decryption_keys = "keys"
    [est.labels.strict]
    profile = "strict"
    [est.labels.ras]
    profile = "ra"
    [est.labels.fallen]
    profile = "fallen"
    [profiles.strict]
    refuse_other_extensions = true
    dns_suffixes = ["devices.example"]
    [profiles.ra]
    preset = "ra"
    [profiles.fallen]
    authority = "fallen"
    validity_days = 30
"#;

/// What was tried, what came of it, and what must.
type Attempt = (String, (u16, String), (u16, &'static str));
/// A row: its number, its attempts, and how many certificates are due all the same.
type Row = (&'static str, fn(&World) -> Vec<Attempt>, usize);

const ROWS: [Row; 16] = [
    ("E1 no proof of possession", possession, 0),
    ("E2 re-enrolment under another name", other_names, 0),
    ("E3 re-enrolment with a certificate that proves nothing", other_certificates, 0),
    ("E4 at a label that is not the device's", other_labels, 0),
    ("E5 when nobody answers for the authority", fallen_authority, 0),
    ("E6 extensions of an authority", authority, 0),
    ("E7 names that are not what they seem", names, 0),
    ("E8 weak, stolen and compromised keys", keys, 0),
    ("E9 validity beyond the authority", validity, 0),
    ("E10 passwords", passwords, 0),
    ("E11 channel binding", binding, 0),
    ("E12 fields of a proxy", proxy_fields, 0),
    ("E13 paths, types and encodings", encodings, 0),
    ("E14 a key without encryption", key_generation, 0),
    ("E15 the responder", responder, 0),
    ("E16 two at once", two_at_once, 1),
];

/// Devices' certificates, whatever became of them.
fn certificates(world: &World) -> Vec<(String, String)> {
    let answer = world.done(&["cert", "list", "--limit", "1000"]);
    let items = answer.get("items").and_then(Value::as_array).expect("items").clone();
    let word = |item: &Value, key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
    items.iter().filter_map(|item| Some((word(item, "device")?, word(item, "serial")?))).collect()
}

#[test]
fn sixteen_attacks_of_sixteen_issue_nothing() {
    let choice = Choice { more: TABLES, ..Choice::default() };
    let Some(mut world) = World::bare("sixteen_attacks_of_sixteen_issue_nothing", &choice) else { return };
    world.done(&["init"]);
    world.done(&["ca", "create", "fallen", "--subject", "CN=Fallen,O=Craton"]);
    world.serve();
    std::fs::create_dir(world.path("keys")).expect("folder");
    // Those who live here: two devices, one with a name, one of another label, a registration authority.
    for name in ["a", "b"] {
        world.enrolled(name);
    }
    world.request("named", "/CN=named", &["-addext", "subjectAltName=DNS:n.devices.example"]);
    let answer = world.enrol("named", &world.credential(&[]));
    world.keep(&answer, "named");
    for (name, label) in [("line", "line-1"), ("ra", "ras"), ("late", "fallen")] {
        world.request(name, &format!("/CN={name}"), &[]);
        let answer = world.enrol_at(&format!("{label}/simpleenroll"), name, &world.credential(&["--label", label]));
        world.keep(&answer, name);
    }
    for (index, (row, attack, due)) in ROWS.iter().enumerate() {
        assert!(row.starts_with(&format!("E{} ", index + 1)), "{row}");
        let before = certificates(&world);
        let attempts = attack(&world);
        assert!(!attempts.is_empty(), "{row}");
        for (what, came, must) in attempts {
            assert_eq!(came, (must.0, must.1.to_owned()), "{row}: {what}");
        }
        let new: Vec<_> = certificates(&world).into_iter().filter(|one| !before.contains(one)).collect();
        assert_eq!(new.len(), *due, "{row}: {new:?}");
    }
}

fn attempt(what: &str, answer: &Answer, status: u16, reason: &'static str) -> Attempt {
    (what.to_owned(), answer.refusal(), (status, reason))
}

fn write(world: &World, name: &str, der: &[u8]) {
    std::fs::write(world.path(&format!("{name}.b64")), BASE64.encode(der)).expect("writes");
}

fn replaced(der: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = der.windows(from.len()).position(|window| window == from).expect("it is there");
    [&der[..at], to, &der[at + from.len()..]].concat()
}

/// The request that a device would make for somebody.
fn fresh(world: &World, name: &str, subject: &str, more: &[&str]) -> Vec<u8> {
    world.request(name, subject, more);
    std::fs::read(world.path(&format!("{name}.csr"))).expect("reads")
}

fn possession(world: &World) -> Vec<Attempt> {
    let credential = world.credential(&[]);
    let own = fresh(world, "x", "/CN=xxxx", &[]);
    let other = fresh(world, "y", "/CN=xxxx", &[]);
    // The last 65 bytes of a P-256 key in a request are its point.
    let point = |der: &[u8]| {
        let head = [0x03, 0x42, 0x00, 0x04];
        let at = der.windows(4).position(|window| window == head).expect("a point");
        der[at..at + 68].to_vec()
    };
    let mut false_signature = own.clone();
    *false_signature.last_mut().expect("not empty") ^= 1;
    let rows = [
        ("a false signature", false_signature),
        ("somebody else's key", replaced(&own, &point(&own), &point(&other))),
        ("another subject", replaced(&own, b"xxxx", b"xxxy")),
    ];
    let try_one = |(what, der): (&str, Vec<u8>)| {
        write(world, "x", &der);
        attempt(what, &world.enrol("x", &credential), 400, "csr_signature_false")
    };
    rows.into_iter().map(try_one).collect()
}

fn other_names(world: &World) -> Vec<Attempt> {
    let rows: [(&str, &str, &[&str], &str); 7] = [
        ("a", "/CN=b", &[], "subject_differs"),
        ("a", "/CN=a/O=More", &[], "subject_differs"),
        ("a", "/CN=a", &["-addext", "subjectAltName=DNS:x.devices.example"], "alt_name_differs"),
        ("named", "/CN=named", &[], "alt_name_differs"),
        ("named", "/CN=named", &["-addext", "subjectAltName=DNS:m.devices.example"], "alt_name_differs"),
        (
            "named",
            "/CN=named",
            &["-addext", "subjectAltName=DNS:n.devices.example,DNS:m.devices.example"],
            "alt_name_differs",
        ),
        ("named", "/O=x/CN=named", &["-addext", "subjectAltName=DNS:n.devices.example"], "subject_differs"),
    ];
    let try_one = |(holder, subject, more, reason): (&str, &str, &[&str], &'static str)| {
        fresh(world, "x", subject, more);
        attempt(&format!("{holder} as {subject} {more:?}"), &world.reenrol("x", holder), 403, reason)
    };
    rows.into_iter().map(try_one).collect()
}

fn other_certificates(world: &World) -> Vec<Attempt> {
    // A certificate of another authority does not pass the handshake.
    world.openssl(&["req", "-x509", "-new", "-key", "a.key", "-subj", "/CN=a", "-days", "9", "-out", "foreign.pem"]);
    std::fs::copy(world.path("a.key"), world.path("foreign.key")).expect("copies");
    fresh(world, "x", "/CN=a", &[]);
    let mut attempts = vec![
        attempt("another device's", &world.reenrol("x", "b"), 403, "subject_differs"),
        ("another authority's".to_owned(), (world.reenrol("x", "foreign").status, String::new()), (0, "")),
    ];
    let none = world.est("simplereenroll", &["-H", PKCS10, "--data-binary", "@x.b64"]);
    attempts.push(attempt("none", &none, 403, "certificate_needed"));
    fresh(world, "x", "/CN=line", &[]);
    attempts.push(attempt("another label's", &world.reenrol("x", "line"), 403, "other_label"));
    world.done(&["cert", "revoke", &world.serial("b"), "--reason", "superseded"]);
    fresh(world, "x", "/CN=b", &[]);
    attempts.push(attempt("a replaced one", &world.reenrol("x", "b"), 403, "certificate_superseded"));
    world.done(&["cert", "revoke", &world.serial("line"), "--reason", "key-compromise"]);
    fresh(world, "x", "/CN=line", &[]);
    let (cert, key) = ("line.pem", "line.key");
    let revoked = ["--cert", cert, "--key", key, "-H", PKCS10, "--data-binary", "@x.b64"];
    attempts.push(attempt("a revoked one", &world.est("line-1/simplereenroll", &revoked), 403, "certificate_revoked"));
    attempts
}

fn other_labels(world: &World) -> Vec<Attempt> {
    fresh(world, "x", "/CN=x4", &[]);
    let of_line = world.credential(&["--label", "line-1"]);
    let of_registered = world.credential(&["--label", "registered"]);
    let for_another = world.credential(&["--device", "somebody"]);
    let by_ra = ["--cert", "ra.pem", "--key", "ra.key", "-H", PKCS10, "--data-binary", "@x.b64"];
    vec![
        attempt("another label's credential", &world.enrol("x", &of_line), 403, "credential_label"),
        attempt(
            "not registered",
            &world.enrol_at("registered/simpleenroll", "x", &of_registered),
            403,
            "device_unknown",
        ),
        attempt("another device's credential", &world.enrol("x", &for_another), 403, "other_device"),
        attempt(
            "a registration authority of no label",
            &world.est("simpleenroll", &by_ra),
            403,
            "registrar_not_permitted",
        ),
        attempt(
            "a device of another label",
            &{
                fresh(world, "x", "/CN=a", &[]);
                world.enrol_at("line-1/simpleenroll", "x", &world.credential(&["--label", "line-1", "--device", "a"]))
            },
            403,
            "other_label",
        ),
    ]
}

fn fallen_authority(world: &World) -> Vec<Attempt> {
    world.done(&["ca", "revoke", "fallen", "--reason", "key-compromise"]);
    fresh(world, "x", "/CN=late", &[]);
    let again = ["--cert", "late.pem", "--key", "late.key", "-H", PKCS10, "--data-binary", "@x.b64"];
    fresh(world, "y", "/CN=y5", &[]);
    let new = world.enrol_at("fallen/simpleenroll", "y", &world.credential(&["--label", "fallen"]));
    // Whether its certificates still pass the handshake or not: they prove nothing.
    let old = world.est("fallen/simplereenroll", &again);
    let refused = if old.status == 0 { (0, String::new()) } else { old.refusal() };
    let must = if old.status == 0 { (0, "") } else { (403, "certificate_revoked") };
    vec![("its certificate".to_owned(), refused, must), attempt("a new one", &new, 503, "authority_idle")]
}

fn authority(world: &World) -> Vec<Attempt> {
    let credential = world.credential(&[]);
    let strict = world.credential(&["--label", "strict"]);
    let mut attempts = Vec::new();
    for extension in ["basicConstraints=critical,CA:TRUE", "basicConstraints=CA:TRUE,pathlen:3", "keyUsage=keyCertSign"]
    {
        fresh(world, "x", "/CN=x6", &["-addext", extension]);
        attempts.push(attempt(extension, &world.enrol("x", &credential), 403, "csr_asks_for_authority"));
    }
    for extension in [
        "nameConstraints=permitted;DNS:evil.example",
        "authorityInfoAccess=OCSP;URI:http://evil.example",
        "crlDistributionPoints=URI:http://evil.example/x.crl",
        "certificatePolicies=1.2.3.4",
        "1.2.3.4=critical,ASN1:UTF8String:x",
    ] {
        fresh(world, "x", "/CN=x6", &["-addext", extension]);
        let answer = world.enrol_at("strict/simpleenroll", "x", &strict);
        attempts.push(attempt(extension, &answer, 403, "extension_not_permitted"));
    }
    attempts
}

fn names(world: &World) -> Vec<Attempt> {
    let credential = world.credential(&[]);
    let many: Vec<String> = (0..17).map(|number| format!("DNS:n{number}.devices.example")).collect();
    let rows = [
        ("DNS:*.devices.example", 400, "names_malformed"),
        ("DNS:10.1.2.3", 400, "names_malformed"),
        ("DNS:s1.devices.example.", 400, "names_malformed"),
        ("DNS:S1.devices.example", 400, "names_malformed"),
        ("DNS:evildevices.example", 403, "name_not_permitted"),
        ("IP:10.1.2.3", 403, "name_not_permitted"),
        ("URI:http://devices.example", 403, "name_not_permitted"),
        ("email:a@devices.example", 400, "names_malformed"),
        ("otherName:1.3.6.1.4.1.311.20.2.3;UTF8:admin", 400, "names_malformed"),
        (&many.join(","), 400, "names_malformed"),
    ];
    let mut attempts: Vec<Attempt> = rows
        .into_iter()
        .map(|(names, status, reason)| {
            fresh(world, "x", "/CN=x7", &["-addext", &format!("subjectAltName={names}")]);
            attempt(names, &world.enrol("x", &credential), status, reason)
        })
        .collect();
    // A NUL that ends the name for readers of C.
    let subject = hand::tlv(0x0C, b"x7");
    let subject = hand::tlv(0x30, &hand::tlv(0x31, &hand::tlv(0x30, &[hand::oid("2.5.4.3"), subject].concat())));
    let names = hand::tlv(0x30, &hand::tlv(0x82, b"a.devices.example\0.evil.example"));
    let names = hand::tlv(0x30, &[hand::oid("2.5.29.17"), hand::tlv(0x04, &names)].concat());
    let asked = hand::attribute("1.2.840.113549.1.9.14", &hand::tlv(0x30, &names));
    write(world, "x", &hand::request(&subject, &[asked]));
    attempts.push(attempt("NUL", &world.enrol("x", &credential), 400, "names_malformed"));
    attempts
}

fn keys(world: &World) -> Vec<Attempt> {
    let credential = world.credential(&[]);
    let rows: [(&str, &[&str], &str); 4] = [
        ("rsa1024", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"], "key_weak"),
        (
            "rsa-e3",
            &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_pubexp:3"],
            "key_weak",
        ),
        ("p192", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime192v1"], "key_unsupported"),
        ("k256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"], "key_unsupported"),
    ];
    let mut attempts = Vec::new();
    for (name, kind, reason) in rows {
        world.openssl(&[&["genpkey", "-out", &format!("{name}.key")], kind].concat());
        world.request_for_key(name, &format!("/CN={name}"), &[]);
        attempts.push(attempt(name, &world.enrol(name, &credential), 400, reason));
    }
    for (name, from, reason) in [("thief", "a", "key_reused"), ("finder", "line", "key_compromised")] {
        std::fs::copy(world.path(&format!("{from}.key")), world.path(&format!("{name}.key"))).expect("copies");
        world.request_for_key(name, &format!("/CN={name}"), &[]);
        attempts.push(attempt(name, &world.enrol(name, &credential), 403, reason));
    }
    attempts
}

/// No request can ask for a validity; a configuration that would exceed its authority's is not taken.
fn validity(world: &World) -> Vec<Attempt> {
    let good = world.text("pki.toml");
    let mut attempts = Vec::new();
    for days in ["validity_days = 36000", "validity_days = 0"] {
        let text = good.replacen("validity_days = 90", days, 1);
        assert_ne!(text, good);
        std::fs::write(world.path("pki.toml"), text).expect("writes");
        let output = world.run(&["profile", "list"]);
        attempts.push((days.to_owned(), (u16::from(output.status.code() == Some(2)), String::new()), (1, "")));
    }
    std::fs::write(world.path("pki.toml"), good).expect("writes");
    attempts
}

fn passwords(world: &World) -> Vec<Attempt> {
    let used = world.credential(&["--device", "a"]);
    fresh(world, "x", "/CN=x10", &[]);
    let wrong = Credential { secret: "guess".to_owned(), ..used.clone() };
    let unknown = Credential { name: "nobody".to_owned(), ..used.clone() };
    let empty = Credential { name: String::new(), secret: String::new() };
    let mut attempts = vec![
        attempt("a wrong password", &world.enrol("x", &wrong), 401, "credentials_wrong"),
        attempt("an unknown name", &world.enrol("x", &unknown), 401, "credentials_wrong"),
        attempt("nothing in it", &world.enrol("x", &empty), 401, "credentials_wrong"),
        attempt("another device", &world.enrol("x", &used), 403, "other_device"),
    ];
    let mut last = None;
    for _ in 0..20 {
        last = Some(world.enrol("x", &wrong));
    }
    attempts.extend(last.map(|answer| attempt("again and again", &answer, 429, "too_many_failures")));
    attempts
}

fn binding(world: &World) -> Vec<Attempt> {
    // The failed logins of the row before are counted by address too: certificates are not.
    let config = "[req]\nprompt=no\ndistinguished_name=dn\nattributes=a\n[dn]\nCN=a\n[a]\nchallengePassword=secret\n";
    std::fs::write(world.path("bound.cnf"), config).expect("writes");
    fresh(world, "x", "", &["-config", "bound.cnf"]);
    let of_a = |version: &'static str| {
        ["--cert", "a.pem", "--key", "a.key", "-H", PKCS10, "--data-binary", "@x.b64", "--tls-max", version]
    };
    let mut attempts: Vec<Attempt> = ["1.2", "1.3"]
        .into_iter()
        .map(|version| {
            let answer = world.est("simplereenroll", &of_a(version));
            attempt(&format!("a false binding on TLS {version}"), &answer, 403, "channel_binding")
        })
        .collect();
    fresh(world, "x", "/CN=a", &[]);
    let answer = world.est("bound/simplereenroll", &of_a("1.3"));
    attempts.push(attempt("none where one is required", &answer, 403, "channel_binding_needed"));
    attempts
}

fn proxy_fields(world: &World) -> Vec<Attempt> {
    fresh(world, "x", "/CN=a", &[]);
    let pem = world.text("a.pem").replace('\n', "%0A");
    let fields = [
        format!("X-Forwarded-Client-Cert: Cert=\"{pem}\""),
        format!("X-SSL-Client-Cert: {pem}"),
        "X-SSL-Client-Verify: SUCCESS".to_owned(),
        "X-Forwarded-For: 127.0.0.1".to_owned(),
        format!("Client-Cert: :{}:", BASE64.encode(pem.as_bytes())),
    ];
    let try_one = |field: &String| {
        let answer = world.est("simplereenroll", &["-H", field, "-H", PKCS10, "--data-binary", "@x.b64"]);
        attempt(field.split(':').next().unwrap_or_default(), &answer, 403, "certificate_needed")
    };
    fields.iter().map(try_one).collect()
}

fn encodings(world: &World) -> Vec<Attempt> {
    let der = fresh(world, "x", "/CN=a", &[]);
    let of_a = ["--cert", "a.pem", "--key", "a.key"];
    let post = |path: &str, more: &[&str]| world.est(path, &[&of_a[..], more].concat());
    let data = ["-H", PKCS10, "--data-binary", "@x.b64"];
    let mut attempts = vec![
        attempt("an unknown operation", &post("simplereenrol", &data), 404, "not_found"),
        attempt("an unknown label", &post("nobody/simplereenroll", &data), 404, "unknown_label"),
        attempt("PUT", &post("simplereenroll", &[&["-X", "PUT"][..], &data].concat()), 405, "method"),
        attempt(
            "another type",
            &post("simplereenroll", &["-H", "Content-Type: text/plain", "--data-binary", "@x.b64"]),
            415,
            "content_type",
        ),
    ];
    let pem = world.openssl(&["req", "-inform", "DER", "-in", "x.csr"]);
    let base64 = BASE64.encode(&der);
    let rows = [
        ("twice base64", BASE64.encode(base64.as_bytes()), 400, "csr_malformed"),
        ("PEM", pem, 400, "not_base64"),
        ("a byte behind", BASE64.encode(&[der.as_slice(), &[0]].concat()), 400, "csr_malformed"),
        ("cut off", BASE64.encode(&der[..der.len() - 1]), 400, "csr_malformed"),
        ("not base64", format!("{base64}!"), 400, "not_base64"),
        ("nothing", String::new(), 400, "not_base64"),
        ("too much", "A".repeat(70_000), 413, "body_too_large"),
    ];
    for (what, body, status, reason) in rows {
        std::fs::write(world.path("x.b64"), body).expect("writes");
        attempts.push(attempt(what, &post("simplereenroll", &data), status, reason));
    }
    attempts
}

fn key_generation(world: &World) -> Vec<Attempt> {
    fresh(world, "x", "/CN=x14", &[]);
    let by_ra = ["--cert", "ra.pem", "--key", "ra.key", "-H", PKCS10, "--data-binary", "@x.b64"];
    vec![
        attempt("where none are made", &world.est("serverkeygen", &by_ra), 404, "keygen_off"),
        attempt("in the clear", &world.est("sealed/serverkeygen", &by_ra), 403, "keygen_key_needed"),
    ]
}

/// The responder says nothing good of what was never issued.
fn responder(world: &World) -> Vec<Attempt> {
    let url = format!("http://127.0.0.1:{}/ocsp", world.crl_port);
    let asked = ["ocsp", "-issuer", "state/issuing.pem", "-serial", "0x4142434445464748", "-url", &url];
    let output = world.try_tool("openssl", &[&asked[..], &["-CAfile", "state/root.pem"]].concat());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("unknown") && !said.contains("good"), "{said}");
    let mut many = vec!["ocsp", "-no_nonce", "-issuer", "state/issuing.pem", "-reqout", "many.req"];
    for _ in 0..65 {
        many.extend(["-serial", "0x41"]);
    }
    world.openssl(&many);
    let answer = world.curl(&url, &["-H", "Content-Type: application/ocsp-request", "--data-binary", "@many.req"]);
    // malformedRequest, and nothing else.
    vec![("65 questions".to_owned(), (u16::from(answer.body == [0x30, 3, 0x0A, 1, 1]), String::new()), (1, ""))]
}

/// Of two re-enrolments at once one is granted.
fn two_at_once(world: &World) -> Vec<Attempt> {
    fresh(world, "one", "/CN=a", &[]);
    fresh(world, "two", "/CN=a", &[]);
    let statuses = std::thread::scope(|scope| {
        let runs = ["one", "two"].map(|name| scope.spawn(move || world.reenrol(name, "a").status));
        runs.map(|run| run.join().expect("a thread ends"))
    });
    let granted = statuses.iter().filter(|status| **status == 200).count();
    let states = world.states("a");
    let active = states.iter().filter(|state| *state == "active").count();
    let counted = |what: &str, number: usize| {
        (what.to_owned(), (u16::try_from(number).unwrap_or(u16::MAX), String::new()), (1, ""))
    };
    vec![counted("granted", granted), counted("active", active)]
}
