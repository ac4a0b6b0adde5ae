//! /fullcmc (RFC 7030 section 4.3, RFC 5272): renewal and revocation by messages that `openssl cms` signs and reads.

use crate::hand::{self, tlv};
use crate::world::{Answer, Choice, World};
use data_encoding::{BASE64, BASE64_MIME_PERMISSIVE};

const REQUEST: &str = "Content-Type: application/pkcs7-mime; smime-type=CMC-request";
const RESPONSE: &str = "application/pkcs7-mime; smime-type=CMC-response";
const PKI_DATA: &str = "1.3.6.1.5.5.7.12.2";
const LABELS: &str = r#"
    [est.labels.ras]
    profile = "ra"
    [est.labels.fleet]
    registration_authorities = ["ra-1"]
    [profiles.ra]
    preset = "ra"
"#;

fn integer(number: u8) -> Vec<u8> {
    tlv(0x02, &[number])
}

fn control(number: u8, kind: &str, value: &[u8]) -> Vec<u8> {
    tlv(0x30, &[integer(number), hand::oid(kind), tlv(0x31, value)].concat())
}

/// PKIData of controls and requests.
fn pki_data(controls: &[Vec<u8>], requests: &[Vec<u8>]) -> Vec<u8> {
    let (empty, controls, requests) = (tlv(0x30, &[]), tlv(0x30, &controls.concat()), tlv(0x30, &requests.concat()));
    tlv(0x30, &[controls, requests, empty.clone(), empty].concat())
}

/// The controls of a transaction.
fn transaction() -> Vec<Vec<u8>> {
    vec![control(1, "1.3.6.1.5.5.7.7.5", &integer(77)), control(2, "1.3.6.1.5.5.7.7.6", &tlv(0x04, b"their nonce"))]
}

/// The request in `NAME.csr`, as a part of a PKIData.
fn tagged(world: &World, number: u8, name: &str) -> Vec<u8> {
    let csr = std::fs::read(world.path(&format!("{name}.csr"))).expect("reads");
    tlv(0xA0, &[integer(number), csr].concat())
}

/// A control that revokes the certificate in `NAME.pem`.
fn revocation(world: &World, number: u8, name: &str, reason: u8) -> Vec<u8> {
    let shown = world.serial(name);
    let serial = data_encoding::HEXLOWER.decode(shown.as_bytes()).expect("hexadecimal");
    let issuer = hand::issuer_of(world, name);
    let request = tlv(0x30, &[issuer, tlv(0x02, &serial), tlv(0x0A, &[reason])].concat());
    control(number, "1.3.6.1.5.5.7.7.17", &request)
}

/// The DER of a message around some content, signed by the holder of `NAME.pem`.
fn signed(world: &World, content: &[u8], kind: &str, name: &str) -> Vec<u8> {
    std::fs::write(world.path("content.der"), content).expect("writes");
    let (pem, key) = (format!("{name}.pem"), format!("{name}.key"));
    let arguments = ["cms", "-sign", "-binary", "-nodetach", "-nosmimecap", "-outform", "DER", "-econtent_type", kind];
    let files = ["-in", "content.der", "-signer", &pem, "-inkey", &key, "-out", "message.der"];
    world.openssl(&[&arguments[..], &files].concat());
    std::fs::read(world.path("message.der")).expect("reads")
}

/// Sends a message over a connection with the certificate in `NAME.pem`.
fn send(world: &World, message: &[u8], name: &str) -> Answer {
    std::fs::write(world.path("message.b64"), BASE64.encode(message)).expect("writes");
    let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
    world.est("fullcmc", &["--cert", &cert, "--key", &key, "-H", REQUEST, "--data-binary", "@message.b64"])
}

/// Signs, sends, and reads the answer: how it is printed, after OpenSSL has verified it.
fn exchange(world: &World, content: &[u8], name: &str) -> (Answer, String) {
    let answer = send(world, &signed(world, content, PKI_DATA, name), name);
    let shown = shown(world, &answer);
    (answer, shown)
}

fn shown(world: &World, answer: &Answer) -> String {
    assert_eq!(answer.header("content-type").as_deref(), Some(RESPONSE), "{}", answer.headers);
    let der = BASE64_MIME_PERMISSIVE.decode(&answer.body).expect("base64");
    std::fs::write(world.path("answer.der"), der).expect("writes");
    let verify = ["cms", "-verify", "-inform", "DER", "-in", "answer.der", "-CAfile", "state/root.pem", "-binary"];
    world.openssl(&[&verify[..], &["-purpose", "any", "-out", "response.der", "-signer", "signer.pem"]].concat());
    world.openssl(&["pkcs7", "-inform", "DER", "-in", "answer.der", "-print_certs", "-out", "certificates.pem"]);
    world.openssl(&["asn1parse", "-inform", "DER", "-in", "response.der", "-i"])
}

/// CMCStatus of an answer, and its CMCFailInfo: the only ENUMERATED-like INTEGERs beside the numbers of parts.
fn status(shown: &str) -> (String, Option<String>) {
    let integers: Vec<&str> = shown
        .lines()
        .skip_while(|line| !line.contains("1.3.6.1.5.5.7.7.25") && !line.contains("id-cmc-statusInfoV2"))
        .take_while(|line| !line.contains("1.3.6.1.5.5.7.7.6") && !line.contains("id-cmc-senderNonce"))
        .filter_map(|line| line.split_once("INTEGER").map(|(_, value)| value.trim_start_matches([' ', ':'])))
        .collect();
    let has_sentence = shown.contains("UTF8STRING");
    let reason = if has_sentence { integers.get(2) } else { None };
    (integers.first().copied().unwrap_or_default().to_owned(), reason.map(|reason| (*reason).to_owned()))
}

#[test]
fn m58_m59_a_device_renews_its_certificate_by_full_cmc() {
    let Some(world) = World::new("m58_m59_a_device_renews_its_certificate_by_full_cmc", &Choice::default()) else {
        return;
    };
    world.enrolled("a");
    world.request("next", "/CN=a", &[]);
    let data = pki_data(&transaction(), &[tagged(&world, 3, "next")]);
    let (answer, shown) = exchange(&world, &data, "a");
    assert_eq!(answer.status, 200, "{}", answer.headers);
    assert_eq!(status(&shown), ("00".to_owned(), None), "{shown}");
    let nonce = data_encoding::HEXUPPER.encode(b"their nonce");
    assert!(shown.contains(&nonce) || shown.contains("their nonce"), "{shown}");
    assert!(shown.contains(":4D"), "the transaction: {shown}");
    let signer = world.openssl(&["x509", "-in", "signer.pem", "-noout", "-text"]);
    assert!(signer.contains("CMC Registration Authority") || signer.contains("1.3.6.1.5.5.7.3.28"), "{signer}");
    // The new certificate is among those of the message.
    let all = world.text("certificates.pem");
    let wanted = world.openssl(&["pkey", "-in", "next.key", "-pubout"]);
    let found = all.split_inclusive("-----END CERTIFICATE-----").filter(|pem| pem.contains("BEGIN")).any(|pem| {
        std::fs::write(world.path("next.pem"), pem).expect("writes");
        world.openssl(&["x509", "-in", "next.pem", "-noout", "-pubkey"]) == wanted
    });
    assert!(found, "{all}");
    assert!(world.verify("next", &["-x509_strict"]).status.success());
    assert_eq!(world.states("a"), ["superseded", "active"]);
    // The same message again: the device never saw the answer.
    let again = send(&world, &signed(&world, &data, PKI_DATA, "a"), "a");
    assert_eq!(again.status, 200, "{}", again.headers);
    assert_eq!(world.states("a"), ["superseded", "active"]);
}

#[test]
fn m59_a_device_and_its_registration_authority_revoke_by_full_cmc() {
    let test = "m59_a_device_and_its_registration_authority_revoke_by_full_cmc";
    let Some(world) = World::new(test, &Choice { more: LABELS, ..Choice::default() }) else { return };
    world.enrolled("a");
    world.enrolled("b");
    for (name, label, subject) in [("ra", "ras", "/CN=ra-1"), ("c", "fleet", "/CN=c")] {
        world.request(name, subject, &[]);
        let credential = world.credential(&["--label", label]);
        let answer = world.enrol_at(&format!("{label}/simpleenroll"), name, &credential);
        world.keep(&answer, name);
    }
    let ask = |name: &str, by: &str, reason: u8| {
        let mut controls = transaction();
        controls.push(revocation(&world, 3, name, reason));
        let (answer, shown) = exchange(&world, &pki_data(&controls, &[]), by);
        (answer.refusal(), status(&shown).1)
    };
    let refused = |reason: &str, info: &str| ((403, reason.to_owned()), Some(info.to_owned()));
    // Nobody else's, not by a registration authority elsewhere, and not in the name of an authority.
    assert_eq!(ask("b", "a", 1), refused("cmc_no_certificate", "04"));
    assert_eq!(ask("b", "ra", 1), refused("cmc_no_certificate", "04"));
    assert_eq!(ask("a", "a", 2), ((400, "cmc_unsupported".to_owned()), Some("02".to_owned())));
    assert_eq!((world.states("a"), world.states("b")), (vec!["active".to_owned()], vec!["active".to_owned()]));
    assert_eq!(ask("a", "a", 1), ((200, String::new()), None));
    assert_eq!(ask("c", "ra", 4), ((200, String::new()), None));
    for (name, reason) in [("a", "key-compromise"), ("c", "superseded")] {
        let shown = world.done(&["cert", "show", &world.serial(name)]);
        assert_eq!((&shown["state"], &shown["reason"]), (&"revoked".into(), &reason.into()), "{name}");
    }
    assert_eq!(ask("c", "ra", 4), refused("cmc_already_revoked", "04"));
    // Who is revoked asks for nothing more.
    world.request("next", "/CN=a", &[]);
    let (answer, shown) = exchange(&world, &pki_data(&[], &[tagged(&world, 3, "next")]), "a");
    assert_eq!(answer.refusal().0, 403);
    assert_eq!(status(&shown).0, "02", "{shown}");
    assert_eq!(world.states("a"), ["revoked"]);
}

#[test]
fn m58_m60_what_is_no_full_pki_request_is_refused_by_cmc() {
    let Some(world) = World::new("m58_m60_what_is_no_full_pki_request_is_refused_by_cmc", &Choice::default()) else {
        return;
    };
    world.enrolled("a");
    world.enrolled("b");
    world.request("next", "/CN=a", &[]);
    world.request("stolen", "/CN=b", &[]);
    let good = pki_data(&transaction(), &[tagged(&world, 3, "next")]);
    let message = signed(&world, &good, PKI_DATA, "a");
    let mut tampered = message.clone();
    let at = tampered.windows(11).position(|window| window == b"their nonce").expect("the nonce");
    tampered[at] ^= 1;
    let mut forged = message.clone();
    *forged.last_mut().expect("not empty") ^= 1;
    let mut csr = std::fs::read(world.path("next.csr")).expect("reads");
    *csr.last_mut().expect("not empty") ^= 1;
    let false_proof = tlv(0xA0, &[integer(3), csr].concat());
    let by_a = |content: &[u8]| signed(&world, content, PKI_DATA, "a");
    let tcr = |number, name| tagged(&world, number, name);
    let identification = control(4, "1.3.6.1.5.5.7.7.2", &tlv(0x0C, b"a"));
    let crmf = tlv(0xA1, &[integer(3), tlv(0x30, &[])].concat());
    let rows: Vec<(&str, Vec<u8>, u16, &str, &str)> = vec![
        ("no CMS", b"hello".to_vec(), 400, "cms_malformed", "02"),
        ("truncated", message[..message.len() - 9].to_vec(), 400, "cms_malformed", "02"),
        ("trailing byte", [message.as_slice(), &[0]].concat(), 400, "cms_malformed", "02"),
        ("a bare request", std::fs::read(world.path("next.csr")).expect("reads"), 400, "cms_malformed", "02"),
        ("other content", signed(&world, &good, "1.2.840.113549.1.7.1", "a"), 400, "cms_malformed", "02"),
        ("changed content", tampered, 400, "cms_signature_false", "01"),
        ("false signature", forged, 400, "cms_signature_false", "01"),
        ("another signer", signed(&world, &good, PKI_DATA, "b"), 403, "cms_other_signer", "07"),
        ("nothing asked", by_a(&pki_data(&transaction(), &[])), 400, "cmc_unsupported", "02"),
        ("two requests", by_a(&pki_data(&[], &[tcr(3, "next"), tcr(4, "next")])), 400, "cmc_unsupported", "02"),
        ("same number", by_a(&pki_data(&transaction(), &[tcr(1, "next")])), 400, "cms_malformed", "02"),
        ("unknown control", by_a(&pki_data(&[identification], &[tcr(3, "next")])), 400, "cmc_unsupported", "02"),
        ("CRMF", by_a(&pki_data(&transaction(), &[crmf])), 400, "cmc_unsupported", "02"),
        ("no proof", by_a(&pki_data(&transaction(), &[false_proof])), 400, "csr_signature_false", "09"),
        ("another subject", by_a(&pki_data(&transaction(), &[tcr(3, "stolen")])), 403, "subject_differs", "07"),
    ];
    for (what, message, code, reason, info) in rows {
        let answer = send(&world, &message, "a");
        assert_eq!(answer.refusal(), (code, reason.to_owned()), "{what}");
        let shown = shown(&world, &answer);
        assert_eq!(status(&shown), ("02".to_owned(), Some(info.to_owned())), "{what}: {shown}");
    }
    // Who is not known, or sends something else, gets a sentence.
    std::fs::write(world.path("message.b64"), BASE64.encode(&message)).expect("writes");
    let of_a = ["--cert", "a.pem", "--key", "a.key", "--data-binary", "@message.b64", "-H"];
    for kind in ["application/pkcs10", "application/pkcs7-mime", "application/pkcs7-mime; smime-type=certs-only"] {
        let answer = world.est("fullcmc", &[&of_a[..], &[&format!("Content-Type: {kind}")]].concat());
        assert_eq!(answer.refusal(), (415, "content_type".to_owned()), "{kind}");
    }
    let nobody = world.est("fullcmc", &["-H", REQUEST, "--data-binary", "@message.b64"]);
    assert_eq!(nobody.refusal(), (403, "certificate_needed".to_owned()));
    assert_eq!((world.states("a"), world.states("b")), (vec!["active".to_owned()], vec!["active".to_owned()]));
    assert_eq!(send(&world, &message, "a").status, 200, "and the message as it was is good");
}
