//! The rules of EST for servers, one test per rule: RFC 7030 with the clarifications of RFC 8951 and RFC 9908. The numbers are ours;
//! each test's first line says the rule.

use crate::hand;
use crate::world::{Answer, Choice, PKCS10, World};
use data_encoding::BASE64;
use std::io::{Read, Write};
use std::sync::Arc;

/// Labels and profiles that the tests of this file share.
const TABLES: &str = r#"
    [est.labels.unwrapped]
    base64_wrap = 0
    [est.labels.bound]
    channel_binding = "required"
    [est.labels.der]
    raw_der = true
    [est.labels.renaming]
    change_subject_name = true
    profile = "named"
    [est.labels.ras]
    profile = "ra"
    [est.labels.fleet]
    registration_authorities = ["ra-1"]
    [est.labels.same-key]
    renewal = "same-key"
    [profiles.named]
    dns_suffixes = ["devices.example"]
    [profiles.ra]
    preset = "ra"
"#;

fn world(test: &str) -> Option<World> {
    World::new(test, &Choice { more: TABLES, ..Choice::default() })
}

fn user(world: &World, more: &[&str]) -> String {
    let credential = world.credential(more);
    format!("{}:{}", credential.name, credential.secret)
}

fn base64_of(answer: &Answer) -> Vec<u8> {
    data_encoding::BASE64_MIME_PERMISSIVE.decode(&answer.body).expect("base64")
}

/// A client's TLS connection, of one version, with its tls-exporter value.
pub(crate) fn connect(world: &World, version: &'static rustls::SupportedProtocolVersion) -> (Stream, [u8; 32]) {
    connect_to(world, world.est_port, version)
}

fn connect_to(world: &World, port: u16, version: &'static rustls::SupportedProtocolVersion) -> (Stream, [u8; 32]) {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    let root = rustls::pki_types::CertificateDer::from_pem_file(world.path("state/root.pem")).expect("root");
    roots.add(root).expect("root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("name");
    let connection = rustls::ClientConnection::new(Arc::new(config), name).expect("connection");
    let socket = std::net::TcpStream::connect(("127.0.0.1", port)).expect("connects");
    let mut stream = rustls::StreamOwned::new(connection, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).expect("handshake");
    }
    let exporter = stream.conn.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None).expect("exporter");
    (stream, exporter)
}

pub(crate) type Stream = rustls::StreamOwned<rustls::ClientConnection, std::net::TcpStream>;

/// Enrols over a connection with a request that carries this challengePassword; gives the whole answer.
fn enrol_over(
    world: &World,
    mut stream: Stream,
    label: &str,
    user: &str,
    name: &str,
    challenge: Option<&[u8]>,
) -> String {
    let attributes = match challenge {
        Some(value) => format!("attributes=a\n[a]\nchallengePassword={}\n", BASE64.encode(value)),
        None => String::new(),
    };
    let config = format!("[req]\nprompt=no\ndistinguished_name=dn\n{attributes}\n[dn]\nCN={name}\n");
    let file = format!("{name}.cnf");
    std::fs::write(world.path(&file), config).expect("writes");
    world.request(name, "", &["-config", &file]);
    let body = world.text(&format!("{name}.b64"));
    let request = format!(
        "POST /.well-known/est/{label}/simpleenroll HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {}\r\n{PKCS10}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        BASE64.encode(user.as_bytes()),
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("sends");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("receives");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Every operation has its path and its method, with and without a label; what is not offered is not there.
#[test]
fn m1_m2_m8_operations_have_their_paths_labels_and_methods() {
    let Some(world) = world("m1_m2_m8_operations_have_their_paths_labels_and_methods") else { return };
    for path in ["cacerts", "csrattrs", "line-1/cacerts", "unwrapped/csrattrs"] {
        assert_eq!(world.est(path, &[]).status, 200, "{path}");
        assert_eq!(world.est(path, &["-X", "POST", "-d", "x"]).refusal(), (405, "method".to_owned()), "{path}");
    }
    for path in ["simpleenroll", "simplereenroll", "line-1/simpleenroll", "line-1/simplereenroll"] {
        let answer = world.est(path, &[]);
        assert_eq!(answer.refusal(), (405, "method".to_owned()), "{path}");
        assert_eq!(answer.header("allow").as_deref(), Some("POST"), "{path}");
    }
    assert_eq!(world.est("nobody/cacerts", &[]).refusal(), (404, "unknown_label".to_owned()));
}

/// Only TLS, 1.2 and 1.3, without anonymous, NULL, export or DES suites; the certificate names the host.
#[test]
fn m3_m4_only_tls_with_a_certificate_that_names_the_host() {
    let Some(world) = world("m3_m4_only_tls_with_a_certificate_that_names_the_host") else { return };
    for version in ["1.2", "1.3"] {
        let answer = world.est("cacerts", &["--tls-max", version, &format!("--tlsv{version}")]);
        assert_eq!(answer.status, 200, "TLS {version}");
    }
    let old = world.est("cacerts", &["--tls-max", "1.1", "--ciphers", "DEFAULT:@SECLEVEL=0"]);
    assert_eq!(old.status, 0, "{}", old.headers);
    let weak = world.est("cacerts", &["--tls-max", "1.2", "--ciphers", "NULL:aNULL:3DES:@SECLEVEL=0"]);
    assert_eq!(weak.status, 0, "{}", weak.headers);
    let plain = world.curl(&format!("http://localhost:{}/.well-known/est/cacerts", world.est_port), &[]);
    assert_eq!(plain.status, 0, "{}", plain.headers);
    let by_address = format!("https://127.0.0.1:{}/.well-known/est/cacerts", world.est_port);
    assert_eq!(world.curl(&by_address, &[]).status, 200);
}

/// Each listener agrees on keys by X25519 and ML-KEM-768 together with whoever offers that.
#[test]
fn m3_listeners_agree_on_keys_by_a_hybrid() {
    let Some(world) = world("m3_listeners_agree_on_keys_by_a_hybrid") else { return };
    for port in [world.est_port, world.api_port] {
        let (stream, _) = connect_to(&world, port, &rustls::version::TLS13);
        let group = stream.conn.negotiated_key_exchange_group().map(|group| group.name());
        assert_eq!(group, Some(rustls::NamedGroup::X25519MLKEM768), "port {port}");
    }
}

/// HTTP authentication is asked for by WWW-Authenticate with an empty body; an empty user name is legal, and no credential.
#[test]
fn m5_m7_clients_authenticate_by_certificate_or_by_basic() {
    let Some(world) = world("m5_m7_clients_authenticate_by_certificate_or_by_basic") else { return };
    world.request("a", "/CN=a", &[]);
    for arguments in [&[][..], &["-u", ":nothing"], &["-H", "Authorization: Digest username=\"x\""]] {
        let answer = world.est("simpleenroll", &[&["-H", PKCS10, "--data-binary", "@a.b64"], arguments].concat());
        assert_eq!(answer.status, 401, "{arguments:?}");
        assert!(
            answer.header("www-authenticate").is_some_and(|field| field.starts_with("Basic realm=")),
            "{arguments:?}"
        );
        assert!(answer.body.is_empty(), "{arguments:?}");
        assert_eq!(answer.header("content-length").as_deref(), Some("0"), "{arguments:?}");
    }
    world.enrolled("device");
    world.request("device", "/CN=device", &[]);
    assert_eq!(world.reenrol("device", "device").status, 200);
}

/// A client that compares the names of header fields letter by letter, as libest does, reads an answer until TLS is closed, and asks
/// without credentials first, gets through each step.
#[test]
fn m7_m26_header_fields_are_spelt_as_old_clients_compare_them() {
    let Some(world) = world("m7_m26_header_fields_are_spelt_as_old_clients_compare_them") else { return };
    let ask = |request: &str| {
        let (mut stream, _) = connect(&world, &rustls::version::TLS12);
        stream.write_all(request.as_bytes()).expect("sends");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("TLS is closed in order");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let lines: Vec<_> = head.split("\r\n").map(str::to_owned).collect();
        assert!(lines.len() <= 16, "libest reads as many: {head}");
        (lines, body.to_owned())
    };
    let has = |lines: &[String], line: &str| assert!(lines.iter().any(|one| one == line), "{line}: {lines:?}");

    let (lines, body) = ask("GET /.well-known/est/cacerts HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\n\r\n");
    for line in ["HTTP/1.1 200 OK", "Content-Type: application/pkcs7-mime", &format!("Content-Length: {}", body.len())]
    {
        has(&lines, line);
    }
    world.request("old", "/CN=old", &[]);
    let csr = world.text("old.b64");
    let enrol = |authorization: &str| {
        ask(&format!(
            "POST /.well-known/est/simpleenroll HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\n{authorization}{PKCS10}\r\n\
             Content-Length: {}\r\n\r\n{csr}",
            csr.len()
        ))
    };
    let (lines, body) = enrol("");
    has(&lines, "HTTP/1.1 401 Unauthorized");
    assert!(lines.iter().any(|line| line.starts_with("WWW-Authenticate: Basic realm=")), "{lines:?}");
    assert_eq!(body, "");
    let (lines, body) = enrol(&format!("Authorization: Basic {}\r\n", BASE64.encode(user(&world, &[]).as_bytes())));
    let length = format!("Content-Length: {}", body.len());
    for line in ["HTTP/1.1 200 OK", "Content-Type: application/pkcs7-mime; smime-type=certs-only", &length] {
        has(&lines, line);
    }
}

/// Bodies are base64 whatever Content-Transfer-Encoding says, with white space anywhere, in lines or in one, chunked or not.
#[test]
fn m9_s10_x11_request_bodies_are_base64_in_any_dress() {
    let Some(world) = world("m9_s10_x11_request_bodies_are_base64_in_any_dress") else { return };
    world.request("a", "/CN=a", &[]);
    let dense: String = world.text("a.b64").split_whitespace().collect();
    let spaced: String = dense.chars().flat_map(|c| [c, ' ', '\t', '\r', '\n']).collect();
    let crlf = world.text("a.b64").replace('\n', "\r\n");
    let fields: &[&[&str]] = &[
        &[],
        &["-H", "Content-Transfer-Encoding: base64"],
        &["-H", "Content-Transfer-Encoding: binary"],
        &["-H", "Content-Transfer-Encoding: 8bit"],
        &["-H", "Transfer-Encoding: chunked", "-H", "Content-Transfer-Encoding: base64", "-H", "Accept:"],
        &["-H", "Accept: application/pkcs7-mime", "-H", "Expect:"],
    ];
    let mut number = 0;
    for (form, body) in [("one line", &dense), ("white space", &spaced), ("CRLF", &crlf)] {
        for fields in fields {
            number += 1;
            std::fs::write(world.path("body"), body).expect("writes");
            let user = user(&world, &["--device", "a"]);
            let answer =
                world.est("simpleenroll", &[&["-u", &user, "-H", PKCS10, "--data-binary", "@body"], *fields].concat());
            assert_eq!(answer.status, 200, "{number} {form} {fields:?}: {}", String::from_utf8_lossy(&answer.body));
        }
    }
}

/// DER without base64 is taken only where a label says so.
#[test]
fn x12_raw_der_is_taken_only_where_it_is_enabled() {
    let Some(world) = world("x12_raw_der_is_taken_only_where_it_is_enabled") else { return };
    world.request("a", "/CN=a", &[]);
    let send = |path: &str, user: &str| world.est(path, &["-u", user, "-H", PKCS10, "--data-binary", "@a.csr"]);
    assert_eq!(send("simpleenroll", &user(&world, &[])).refusal(), (400, "not_base64".to_owned()));
    let credential = user(&world, &["--label", "der"]);
    assert_eq!(send("der/simpleenroll", &credential).status, 200);
}

/// A body may have 64 KiB; beyond it the answer is 413.
#[test]
fn m13_large_requests_are_taken_and_larger_ones_refused() {
    let Some(world) = world("m13_large_requests_are_taken_and_larger_ones_refused") else { return };
    world.request("a", "/CN=a", &[]);
    let user = user(&world, &[]);
    for (size, status) in [(66_000, 413), (60_000, 200)] {
        let body = format!("{}{}", world.text("a.b64"), " ".repeat(size));
        std::fs::write(world.path("body"), body).expect("writes");
        let answer = world.est("simpleenroll", &["-u", &user, "-H", PKCS10, "--data-binary", "@body"]);
        assert_eq!(answer.status, status, "{size}");
    }
}

/// /cacerts: no authentication, 200, certs-only CMS in DER with root and intermediate, stable, in lines as the label asks.
#[test]
fn m14_to_x19_cacerts_is_certs_only_der_for_anybody_and_stable() {
    let Some(world) = world("m14_to_x19_cacerts_is_certs_only_der_for_anybody_and_stable") else { return };
    let first = world.est("cacerts", &[]);
    assert_eq!(first.status, 200);
    assert_eq!(first.header("content-type").as_deref(), Some("application/pkcs7-mime"));
    assert_eq!(first.header("content-transfer-encoding").as_deref(), Some("base64"));
    assert_eq!(first.header("content-length"), Some(first.body.len().to_string()));
    assert_eq!(first.header("transfer-encoding"), None);
    assert!(first.body.ends_with(b"\n") && !first.body.contains(&b'\r'));
    let lines: Vec<usize> = first.body.split(|byte| *byte == b'\n').map(<[u8]>::len).collect();
    assert!(lines[..lines.len() - 2].iter().all(|length| *length == 64), "{lines:?}");
    assert_eq!(world.est("cacerts", &[]).body, first.body);
    assert_eq!(world.est("cacerts", &[]).header("etag"), first.header("etag"));
    let unwrapped = world.est("unwrapped/cacerts", &[]);
    assert!(!unwrapped.body.contains(&b'\n'));
    assert_eq!(base64_of(&unwrapped), base64_of(&first));
    // DER: no `crls`, no signers, and the certificates in ascending order.
    std::fs::write(world.path("cacerts.p7"), base64_of(&first)).expect("writes");
    let shown = world.openssl(&["cms", "-inform", "DER", "-in", "cacerts.p7", "-cmsout", "-print", "-noout"]);
    assert!(shown.contains("crls:\n        <ABSENT>") || shown.contains("crls:\n      <ABSENT>"), "{shown}");
    let certificates = world.openssl(&["pkcs7", "-inform", "DER", "-in", "cacerts.p7", "-print_certs"]);
    let ders: Vec<Vec<u8>> = certificates
        .split("-----END CERTIFICATE-----")
        .filter_map(|part| part.split_once("-----BEGIN CERTIFICATE-----"))
        .map(|(_, body)| data_encoding::BASE64_MIME.decode(body.trim().as_bytes()).expect("base64"))
        .collect();
    assert_eq!(ders.len(), 2);
    assert!(ders[0] < ders[1], "a SET OF is in ascending order");
}

/// /simpleenroll: the proof of possession is checked; the answer holds the issued certificate alone.
#[test]
fn m20_m21_m26_an_enrolment_gives_the_issued_certificate_only() {
    let Some(world) = world("m20_m21_m26_an_enrolment_gives_the_issued_certificate_only") else { return };
    world.request("a", "/CN=a", &[]);
    let answer = world.enrol("a", &world.credential(&[]));
    assert_eq!(answer.header("content-type").as_deref(), Some("application/pkcs7-mime; smime-type=certs-only"));
    assert_eq!(answer.header("content-transfer-encoding").as_deref(), Some("base64"));
    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string()));
    world.keep(&answer, "a");
    assert_eq!(world.text("a.pem").matches("BEGIN CERTIFICATE").count(), 1);
    let mut der = std::fs::read(world.path("a.csr")).expect("reads");
    *der.last_mut().expect("not empty") ^= 1;
    std::fs::write(world.path("a.b64"), BASE64.encode(&der)).expect("writes");
    assert_eq!(world.enrol("a", &world.credential(&[])).refusal(), (400, "csr_signature_false".to_owned()));
}

/// A challengePassword is the channel binding: the true one is taken, any other refused, and on TLS 1.2 it cannot be checked.
#[test]
fn m22_o23_s25_a_channel_binding_is_true_or_the_request_is_refused() {
    let Some(world) = world("m22_o23_s25_a_channel_binding_is_true_or_the_request_is_refused") else { return };
    let (tls12, tls13) = (&rustls::version::TLS12, &rustls::version::TLS13);
    let user = user(&world, &["--label", "bound"]);
    let (stream, _) = connect(&world, tls13);
    let missing = enrol_over(&world, stream, "bound", &user, "bound", None);
    assert!(missing.starts_with("HTTP/1.1 403") && missing.contains("channel_binding_needed"), "{missing}");
    assert!(missing.contains("requires requests to be linked"), "{missing}");
    let (stream, _) = connect(&world, tls13);
    let forged = enrol_over(&world, stream, "bound", &user, "bound", Some(&[7; 32]));
    assert!(forged.starts_with("HTTP/1.1 403") && forged.contains("channel_binding\r\n"), "{forged}");
    let (stream, exporter) = connect(&world, tls12);
    let unchecked = enrol_over(&world, stream, "bound", &user, "bound", Some(&exporter));
    assert!(unchecked.starts_with("HTTP/1.1 403") && unchecked.contains("on TLS 1.2"), "{unchecked}");
    let (stream, exporter) = connect(&world, tls13);
    let granted = enrol_over(&world, stream, "bound", &user, "bound", Some(&exporter));
    assert!(granted.starts_with("HTTP/1.1 200"), "{granted}");
}

/// Refusals are 4xx or 5xx, with a sentence in plain text.
#[test]
fn m27_refusals_are_plain_text() {
    let Some(world) = world("m27_refusals_are_plain_text") else { return };
    world.request("a", "/O=Nobody", &[]);
    let answer = world.enrol("a", &world.credential(&[]));
    assert_eq!(answer.refusal(), (403, "subject_not_acceptable".to_owned()));
    assert_eq!(answer.header("content-type").as_deref(), Some("text/plain; charset=utf-8"));
    assert!(String::from_utf8_lossy(&answer.body).contains("names no device"));
}

/// ChangeSubjectName is honoured where the label allows it, refused elsewhere, and never changes whose certificate it is.
#[test]
fn o29_m33_names_change_only_by_changesubjectname_where_it_is_allowed() {
    let Some(world) = world("o29_m33_names_change_only_by_changesubjectname_where_it_is_allowed") else { return };
    for label in ["renaming", "line-1"] {
        let name = format!("at-{label}");
        world.request(&name, &format!("/CN=a/serialNumber={label}"), &[]);
        let credential = world.credential(&["--label", label]);
        let answer = world.enrol_at(&format!("{label}/simpleenroll"), &name, &credential);
        world.keep(&answer, &name);
    }
    let request = |holder: &str, tag: u8| {
        let names = hand::tlv(tag, &hand::tlv(0x82, b"b.devices.example"));
        let change = hand::attribute("1.3.6.1.5.5.7.7.36", &hand::tlv(0x30, &names));
        let request = hand::request(&hand::subject_of(&world, holder), &[change]);
        std::fs::write(world.path("renamed.b64"), BASE64.encode(&request)).expect("writes");
    };
    let reenrol = |label: &str, holder: &str| {
        let (cert, key) = (format!("{holder}.pem"), format!("{holder}.key"));
        let operation = format!("{label}/simplereenroll");
        world.est(&operation, &["--cert", &cert, "--key", &key, "-H", PKCS10, "--data-binary", "@renamed.b64"])
    };
    // The new names as RFC 6402 writes them, and with the tag of its erratum 3943.
    request("at-renaming", 0x30);
    let answer = reenrol("renaming", "at-renaming");
    world.keep(&answer, "renamed");
    let text = world.openssl(&["x509", "-in", "renamed.pem", "-noout", "-text"]);
    assert!(text.contains("DNS:b.devices.example"), "{text}");
    request("at-line-1", 0xA1);
    assert_eq!(reenrol("line-1", "at-line-1").refusal(), (403, "change_of_name_not_permitted".to_owned()));
}

/// A registration authority of our own enrols others where it is named; the certificate of another CA never makes one.
#[test]
fn m31_registration_authorities_enrol_others() {
    let Some(world) = world("m31_registration_authorities_enrol_others") else { return };
    world.request("ra", "/CN=ra-1", &[]);
    let answer = world.enrol_at("ras/simpleenroll", "ra", &world.credential(&["--label", "ras"]));
    world.keep(&answer, "ra");
    let text = world.openssl(&["x509", "-in", "ra.pem", "-noout", "-text"]);
    assert!(text.contains("CMC Registration Authority") || text.contains("1.3.6.1.5.5.7.3.28"), "{text}");
    let enrol = |path: &str, holder: &str| {
        let (cert, key) = (format!("{holder}.pem"), format!("{holder}.key"));
        let path = format!("{path}simpleenroll");
        world.est(&path, &["--cert", &cert, "--key", &key, "-H", PKCS10, "--data-binary", "@inner.b64"])
    };
    // The inner client's challengePassword belongs to another connection and is not compared with the RA's.
    let config =
        "[req]\nprompt=no\ndistinguished_name=dn\nattributes=a\n[dn]\nCN=inner\n[a]\nchallengePassword=other\n";
    std::fs::write(world.path("inner.cnf"), config).expect("writes");
    world.request("inner", "", &["-config", "inner.cnf"]);
    assert_eq!(enrol("", "ra").refusal(), (403, "registrar_not_permitted".to_owned()));
    let answer = enrol("fleet/", "ra");
    world.keep(&answer, "inner");
    assert_eq!(enrol("fleet/", "ra").refusal(), (403, "already_enrolled".to_owned()));
    // A device is no RA, and neither is who holds the purpose from elsewhere.
    world.enrolled("device");
    world.request("inner", "/CN=inner", &[]);
    assert_eq!(enrol("fleet/", "device").refusal(), (403, "already_enrolled".to_owned()));
    let foreign =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=ra-1"];
    let foreign = [&foreign[..], &["-addext", "extendedKeyUsage=clientAuth,1.3.6.1.5.5.7.3.28"]].concat();
    world.openssl(&[&foreign[..], &["-keyout", "foreign.key", "-out", "foreign.pem"]].concat());
    assert_ne!(enrol("fleet/", "foreign").status, 200);
}

/// A re-enrolment is authenticated by the certificate it renews, and keeps its subject and its names.
#[test]
fn m32_m33_x34_a_reenrolment_keeps_subject_and_names() {
    let Some(world) = world("m32_m33_x34_a_reenrolment_keeps_subject_and_names") else { return };
    let san = ["-addext", "subjectAltName=DNS:a.devices.example,DNS:b.devices.example"];
    world.request("a", "/CN=a", &san);
    let answer = world.enrol("a", &world.credential(&[]));
    world.keep(&answer, "a");
    let none = world.est("simplereenroll", &["-H", PKCS10, "--data-binary", "@a.b64"]);
    assert_eq!(none.refusal(), (403, "certificate_needed".to_owned()));
    let rows: &[(&str, &str, &str)] = &[
        ("/CN=b", san[1], "subject_differs"),
        ("/CN=a/O=x", san[1], "subject_differs"),
        ("/CN=a", "subjectAltName=DNS:a.devices.example", "alt_name_differs"),
        ("/CN=a", "subjectAltName=DNS:a.devices.example,DNS:c.devices.example", "alt_name_differs"),
        ("/CN=a", "subjectAltName=DNS:a.devices.example,DNS:b.devices.example,IP:10.0.0.1", "alt_name_differs"),
        ("/CN=a", "keyUsage=digitalSignature", "alt_name_differs"),
    ];
    for (subject, extension, reason) in rows {
        world.request("next", subject, &["-addext", extension]);
        assert_eq!(world.reenrol("next", "a").refusal(), (403, (*reason).to_owned()), "{subject} {extension}");
    }
    // Another order of the names and another string type of the subject are the same identity.
    let swapped = "subjectAltName=DNS:b.devices.example,DNS:a.devices.example";
    world.request("next", "/CN=a", &["-addext", swapped, "-utf8"]);
    assert_eq!(world.reenrol("next", "a").status, 200);
}

/// A re-enrolment with the same key renews, one with another key rekeys; a label may want one of them.
#[test]
fn m35_a_label_may_want_the_same_key() {
    let Some(world) = world("m35_a_label_may_want_the_same_key") else { return };
    world.request("a", "/CN=a", &[]);
    let answer = world.enrol_at("same-key/simpleenroll", "a", &world.credential(&["--label", "same-key"]));
    world.keep(&answer, "a");
    let reenrol = |name: &str| {
        let data = format!("@{name}.b64");
        let arguments = ["--cert", "a.pem", "--key", "a.key", "-H", PKCS10, "--data-binary", &data];
        world.est("same-key/simplereenroll", &arguments)
    };
    world.request("other", "/CN=a", &[]);
    assert_eq!(reenrol("other").refusal(), (403, "renewal_key".to_owned()));
    assert_eq!(reenrol("a").status, 200);
}

/// /csrattrs: for anybody, 200, base64 DER of a SEQUENCE; the binding stands in it where it is required.
#[test]
fn m48_m49_m51_csrattrs_tells_what_the_label_asks() {
    let Some(world) = world("m48_m49_m51_csrattrs_tells_what_the_label_asks") else { return };
    for (path, binding) in [("csrattrs", false), ("bound/csrattrs", true)] {
        let answer = world.est(path, &[]);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type").as_deref(), Some("application/csrattrs"));
        assert_eq!(answer.header("content-transfer-encoding").as_deref(), Some("base64"));
        std::fs::write(world.path("attributes.der"), base64_of(&answer)).expect("writes");
        let shown = world.openssl(&["asn1parse", "-inform", "DER", "-in", "attributes.der"]);
        assert!(shown.lines().next().is_some_and(|line| line.contains("SEQUENCE")), "{shown}");
        assert_eq!(shown.contains("challengePassword"), binding, "{path}: {shown}");
    }
}

/// Deferred: 202 with Retry-After; the same key and subject are known again, whatever the bytes of the request; then it is issued once.
#[test]
fn m28_a_request_that_waits_for_an_operator_is_known_again() {
    let more = "[est.labels.asked]\napproval = \"manual\"\nretry_after_seconds = 7\n";
    let choice = Choice { more, ..Choice::default() };
    let Some(world) = World::new("m28_a_request_that_waits_for_an_operator_is_known_again", &choice) else { return };
    let credential = world.credential(&["--label", "asked"]);
    world.request("a", "/CN=a", &[]);
    let enrol = |name: &str| world.enrol_at("asked/simpleenroll", name, &credential);
    let waiting = || world.done(&["approval", "list"])["items"].as_array().cloned().expect("items");
    let answer = enrol("a");
    assert_eq!(answer.refusal(), (202, "approval_waiting".to_owned()));
    assert_eq!(answer.header("retry-after").as_deref(), Some("7"));
    // ECDSA signs with other bytes each time: it is another request for the same key and subject.
    world.request("a", "/CN=a", &[]);
    assert_eq!(enrol("a").status, 202);
    assert_eq!(waiting().len(), 1);
    let id = waiting()[0]["id"].as_str().expect("id").to_owned();
    assert_eq!(world.done(&["approval", "refuse", &id])["state"], "refused");
    assert_eq!(enrol("a").refusal(), (403, "approval_refused".to_owned()));
    world.request("other", "/CN=a", &[]);
    assert_eq!(enrol("other").status, 202, "another key is another request");
    assert_eq!(world.done(&["approval", "grant", &id])["state"], "granted");
    let answer = enrol("a");
    world.keep(&answer, "a");
    assert_eq!(waiting().len(), 1, "the approval is used up");
    assert!(!world.run(&["approval", "grant", "nothing"]).status.success());
}

/// A device that nobody has registered gets nothing where registration comes first.
#[test]
fn e4_only_registered_devices_enrol_where_the_label_says_so() {
    let more = "[est.labels.known]\nregistration = \"pre-registered\"\n";
    let test = "e4_only_registered_devices_enrol_where_the_label_says_so";
    let Some(world) = World::new(test, &Choice { more, ..Choice::default() }) else { return };
    let credential = world.credential(&["--label", "known"]);
    world.request("a", "/CN=a", &[]);
    let enrol = || world.enrol_at("known/simpleenroll", "a", &credential);
    assert_eq!(enrol().refusal(), (403, "device_unknown".to_owned()));
    assert_eq!(world.done(&["device", "register", "a", "--label", "known"])["state"], "Pending Provisioning");
    assert!(!world.run(&["device", "register", "a", "--label", "known"]).status.success());
    assert_eq!(enrol().status, 200);
}
