//! The OCSP responder, asked by `openssl ocsp`, `curl` and Python's `cryptography` (RFC 6960, RFC 5019, RFC 9654).

use crate::world::{Answer, Choice, World, python};

/// Asks with `openssl ocsp`, which verifies the answer, and gives what it says.
fn ask(world: &World, what: &[&str]) -> String {
    let url = format!("http://127.0.0.1:{}/ocsp", world.crl_port);
    let common = ["ocsp", "-CAfile", "state/chain.pem", "-issuer", "state/issuing.pem", "-url", &url];
    let output = world.try_tool("openssl", &[&common[..], what].concat());
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Writes a request without nonce about the certificate in `NAME.pem` to `NAME.ocsp`.
fn request(world: &World, name: &str, issuer: &str, more: &[&str]) -> Vec<u8> {
    let (pem, out) = (format!("{name}.pem"), format!("{name}.ocsp"));
    let mut arguments = vec!["ocsp", "-no_nonce", "-reqout", &out, "-issuer", issuer];
    arguments.extend(more);
    arguments.extend(["-cert", &pem]);
    world.openssl(&arguments);
    std::fs::read(world.path(&out)).expect("request")
}

fn get(world: &World, path: &str, more: &[&str]) -> Answer {
    let url = format!("http://127.0.0.1:{}/ocsp{path}", world.crl_port);
    world.curl(&url, &[&["--path-as-is"], more].concat())
}

fn post(world: &World, file: &str) -> Answer {
    let data = format!("@{file}");
    get(world, "", &["-H", "Content-Type: application/ocsp-request", "--data-binary", &data])
}

#[test]
fn openssl_is_told_good_revoked_and_unknown() {
    let Some(world) = World::new("openssl_is_told_good_revoked_and_unknown", &Choice::default()) else { return };
    world.enrolled("sensor");
    world.enrolled("other");
    let hashes: &[&[&str]] = &[&["-sha1"], &["-sha256"], &["-sha384"], &["-sha256", "-no_nonce"]];
    for hash in hashes {
        let said = ask(&world, &[*hash, &["-cert", "sensor.pem"]].concat());
        assert!(said.contains("Response verify OK") && said.contains("sensor.pem: good"), "{hash:?}: {said}");
        // A nonce that came back otherwise would be an error of its own.
        assert!(!said.to_lowercase().contains("nonce"), "{hash:?}: {said}");
    }
    world.done(&["cert", "revoke", &world.serial("sensor"), "--reason", "key-compromise"]);
    for hash in hashes {
        let said = ask(&world, &[*hash, &["-cert", "sensor.pem", "-cert", "other.pem"]].concat());
        assert!(said.contains("sensor.pem: revoked") && said.contains("keyCompromise"), "{hash:?}: {said}");
        assert!(said.contains("Response verify OK") && said.contains("other.pem: good"), "{hash:?}: {said}");
    }
    let said = ask(&world, &["-serial", "0x4711471147114711"]);
    assert!(said.contains("Response verify OK") && said.contains("unknown"), "{said}");
    // The root answers for the certificate of the issuing authority, by a signer of its own.
    let url = format!("http://127.0.0.1:{}/ocsp", world.crl_port);
    let said = world.openssl(&[
        "ocsp",
        "-CAfile",
        "state/root.pem",
        "-issuer",
        "state/root.pem",
        "-cert",
        "state/issuing.pem",
        "-url",
        &url,
    ]);
    assert!(said.contains("state/issuing.pem: good"), "{said}");
}

#[test]
fn an_answer_may_be_cached_and_never_outlives_a_revocation() {
    let test = "an_answer_may_be_cached_and_never_outlives_a_revocation";
    let Some(world) = World::new(test, &Choice::default()) else { return };
    world.enrolled("sensor");
    let der = request(&world, "sensor", "state/issuing.pem", &[]);
    let path =
        format!("/{}", data_encoding::BASE64.encode(&der).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D"));
    let first = get(&world, &path, &[]);
    assert_eq!(first.status, 200);
    assert_eq!(first.header("content-type").as_deref(), Some("application/ocsp-response"));
    let control = first.header("cache-control").expect("cache-control");
    for word in ["max-age=300", "public", "no-transform", "must-revalidate"] {
        assert!(control.contains(word), "{control}");
    }
    for field in ["last-modified", "expires"] {
        assert!(first.header(field).is_some_and(|date| date.ends_with(" GMT")), "{field}");
    }
    let again = get(&world, &path, &[]);
    assert_eq!(again.body, first.body, "the same answer is given again");
    let tag = format!("If-None-Match: {}", first.header("etag").expect("etag"));
    assert_eq!(get(&world, &path, &["-H", &tag]).status, 304);
    let head = get(&world, &path, &["-I"]);
    assert_eq!((head.status, head.header("etag")), (200, first.header("etag")));
    assert_eq!(post(&world, "sensor.ocsp").body, first.body, "POST and GET share the answer");
    // Every spelling of the path that clients and proxies produce.
    let spellings = [
        format!("/{}", data_encoding::BASE64.encode(&der)),
        format!("//{}", data_encoding::BASE64.encode(&der)),
        format!("/{}", data_encoding::BASE64URL_NOPAD.encode(&der)),
    ];
    for spelling in spellings {
        assert_eq!(get(&world, &spelling, &[]).body, first.body, "{spelling}");
    }
    world.done(&["cert", "revoke", &world.serial("sensor")]);
    let after = get(&world, &path, &["-H", &tag]);
    assert_eq!(after.status, 200);
    std::fs::write(world.path("after.der"), &after.body).expect("writes");
    let said = world.openssl(&["ocsp", "-respin", "after.der", "-resp_text", "-noverify"]);
    assert!(said.contains("Cert Status: revoked"), "{said}");
}

#[test]
fn what_cannot_be_answered_has_a_status_and_no_body() {
    let test = "what_cannot_be_answered_has_a_status_and_no_body";
    let Some(world) = World::new(test, &Choice::default()) else { return };
    world.enrolled("sensor");
    // A certificate of an authority that nobody here knows.
    world.openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "foreign.key",
        "-subj",
        "/CN=Foreign",
        "-out",
        "foreign.pem",
    ]);
    request(&world, "foreign", "foreign.pem", &[]);
    std::fs::write(world.path("garbage.ocsp"), b"0\x80 not DER").expect("writes");
    let error = |status: u8| vec![0x30, 3, 0x0A, 1, status];
    for (file, status, reason) in [("foreign", 6, "ocsp_unauthorized"), ("garbage", 1, "ocsp_malformed")] {
        let answer = post(&world, &format!("{file}.ocsp"));
        assert_eq!((answer.status, answer.body == error(status)), (200, true), "{file}");
        assert_eq!(answer.header("x-craton-reason").as_deref(), Some(reason));
        assert_eq!(answer.header("cache-control"), None, "an error is not to be kept");
    }
    for path in ["", "/", "/%%%", "/AAAA"] {
        assert_eq!(get(&world, path, &[]).body, error(1), "{path}");
    }
    assert_eq!(get(&world, "", &["--data-binary", "x"]).refusal(), (415, "content_type".to_owned()));
    assert_eq!(get(&world, "", &["-X", "DELETE"]).refusal(), (405, "method".to_owned()));
    let large = ["-H", "Content-Type: application/ocsp-request", "--data-binary", "@large"];
    std::fs::write(world.path("large"), vec![0x30; 70_000]).expect("writes");
    assert_eq!(get(&world, "", &large).refusal(), (413, "body_too_large".to_owned()));
}

#[test]
fn the_signer_is_delegated_short_lived_and_renews_itself() {
    let test = "the_signer_is_delegated_short_lived_and_renews_itself";
    let choice = Choice { more: "[ocsp]\nresponder_id = \"name\"\nsigner_validity_days = 7", ..Choice::default() };
    let Some(mut world) = World::new(test, &choice) else { return };
    world.enrolled("sensor");
    let said = ask(&world, &["-cert", "sensor.pem", "-resp_text"]);
    for words in ["Responder Id: CN = OCSP responder issuing", "OCSP Signing", "OCSP No Check", "Response verify OK"] {
        assert!(said.replace("CN=OCSP", "CN = OCSP").contains(words), "{words}: {said}");
    }
    let signers = |world: &World| -> Vec<(String, String)> {
        let list = world.done(&["cert", "list"]);
        let items = list["items"].as_array().expect("items").clone();
        let word = |item: &serde_json::Value, key: &str| item[key].as_str().unwrap_or_default().to_owned();
        let signers = items.iter().filter(|item| item["kind"] == "ocsp-responder" && item["issuer"] == "issuing");
        signers.map(|item| (word(item, "serial"), word(item, "state"))).collect()
    };
    let first = signers(&world);
    assert_eq!(first.len(), 1);
    assert_eq!(world.est("cacerts", &[]).status, 200);
    let text = world.openssl(&["x509", "-in", "sensor.pem", "-noout", "-text"]);
    assert!(text.contains(&format!("OCSP - URI:http://127.0.0.1:{}/ocsp", world.crl_port)), "{text}");
    let issuer = format!("http://127.0.0.1:{}/ca/issuing.cer", world.crl_port);
    assert!(text.contains(&format!("CA Issuers - URI:{issuer}")), "{text}");
    std::fs::write(world.path("fetched.der"), world.curl(&issuer, &[]).body).expect("writes");
    world.openssl(&["x509", "-inform", "DER", "-in", "fetched.der", "-out", "fetched.pem"]);
    assert_eq!(world.text("fetched.pem"), world.text("state/issuing.pem"));
    // A signer that is no longer good is replaced at the next start or round, and the answers with it.
    world.done(&["cert", "revoke", &first[0].0]);
    world.stop();
    world.serve();
    let second = signers(&world);
    assert_eq!(second.iter().map(|row| row.1.as_str()).collect::<Vec<_>>(), ["revoked", "active"]);
    assert!(ask(&world, &["-cert", "sensor.pem"]).contains("sensor.pem: good"));
}

#[test]
fn python_reads_and_verifies_the_answers() {
    let test = "python_reads_and_verifies_the_answers";
    let Some(python) = python(test, "cryptography") else { return };
    let Some(world) = World::new(test, &Choice::default()) else { return };
    world.enrolled("sensor");
    world.enrolled("gone");
    world.done(&["cert", "revoke", &world.serial("gone"), "--reason", "superseded"]);
    let script = r"
import sys, urllib.request
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
url, issuer_file, *files = sys.argv[1:]
issuer = x509.load_pem_x509_certificate(open(issuer_file, 'rb').read())
for file in files:
    certificate = x509.load_pem_x509_certificate(open(file, 'rb').read())
    for algorithm in (hashes.SHA1(), hashes.SHA256()):
        builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, algorithm)
        request = builder.add_extension(x509.OCSPNonce(b'n' * 32), critical=False).build()
        body = request.public_bytes(serialization.Encoding.DER)
        call = urllib.request.Request(url, body, {'Content-Type': 'application/ocsp-request'})
        answer = ocsp.load_der_ocsp_response(urllib.request.urlopen(call, timeout=60).read())
        assert answer.response_status == ocsp.OCSPResponseStatus.SUCCESSFUL
        assert answer.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b'n' * 32
        signer, = answer.certificates
        signer.verify_directly_issued_by(issuer)
        purposes = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(purposes) == [x509.oid.ExtendedKeyUsageOID.OCSP_SIGNING]
        signer.extensions.get_extension_for_class(x509.OCSPNoCheck)
        signer.public_key().verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(answer.signature_hash_algorithm))
        assert answer.serial_number == certificate.serial_number
        assert answer.this_update_utc < answer.next_update_utc
        print(answer.certificate_status.name, answer.revocation_reason.name if answer.revocation_reason else '-')
";
    std::fs::write(world.path("ask.py"), script).expect("writes");
    let url = format!("http://127.0.0.1:{}/ocsp", world.crl_port);
    let arguments = ["ask.py", &url, "state/issuing.pem", "sensor.pem", "gone.pem"];
    let said = String::from_utf8_lossy(&world.tool(&python, &arguments)).into_owned();
    assert_eq!(said, "GOOD -\nGOOD -\nREVOKED superseded\nREVOKED superseded\n");
}

/// The whole revocation path by Ed25519: list, delta and the answer of a delegated signer, each verified by openssl.
#[test]
fn ed25519_signs_lists_deltas_and_answers() {
    let choice = Choice {
        root_key: "ed25519",
        issuing_key: "ed25519",
        crl: "delta_hours = 1",
        more: "[ocsp]\nkey = \"ed25519\"",
        ..Choice::default()
    };
    let Some(world) = World::new("ed25519_signs_lists_deltas_and_answers", &choice) else { return };
    world.enrolled("sensor");
    world.enrolled("other");
    world.done(&["cert", "revoke", &world.serial("sensor"), "--reason", "key-compromise"]);
    let said = ask(&world, &["-sha256", "-cert", "sensor.pem", "-cert", "other.pem"]);
    for part in ["Response verify OK", "sensor.pem: revoked", "other.pem: good"] {
        assert!(said.contains(part), "{said}");
    }
    for path in ["issuing", "issuing/delta"] {
        let list = world.curl(&format!("http://127.0.0.1:{}/crl/{path}.crl", world.crl_port), &[]);
        assert_eq!(list.status, 200, "{path}");
        std::fs::write(world.path("list.der"), &list.body).expect("writes");
        let arguments = ["crl", "-inform", "DER", "-in", "list.der", "-CAfile", "state/chain.pem", "-noout", "-text"];
        let output = world.try_tool("openssl", &arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("verify OK") && said.contains("ED25519"), "{path}: {said}");
        assert_eq!(said.contains("Key Compromise"), path.ends_with("delta"), "{path}: {said}");
    }
}
