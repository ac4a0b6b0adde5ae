//! Keys made for devices (RFC 7030 section 4.4): as they are, and encrypted to a key that the device names. `openssl cms` is the
//! independent reader.

use crate::hand;
use crate::world::{Answer, Choice, PKCS10, World};
use data_encoding::{BASE64, BASE64_MIME_PERMISSIVE, HEXLOWER};
use x509_cert::der::{AnyRef, Decode};

const LABELS: &str = r#"
    [est.labels.made]
    server_keygen = "plain"
    decryption_keys = "keys"
    [est.labels.made-rsa]
    server_keygen = "plain"
    profile = "rsa"
    [est.labels.sealed]
    server_keygen = "encrypted"
    decryption_keys = "keys"
    [profiles.rsa]
    keys = ["rsa:2048"]
"#;
/// DecryptKeyIdentifier, AsymmetricDecryptKeyIdentifier, SMIMECapabilities.
const SECRET: &str = "1.2.840.113549.1.9.16.2.37";
const PUBLIC: &str = "1.2.840.113549.1.9.16.2.54";
const CAPABILITIES: &str = "1.2.840.113549.1.9.15";
const SEALED: &str = "application/pkcs7-mime; smime-type=server-generated-key";

fn world(test: &str) -> Option<World> {
    let world = World::new(test, &Choice { more: LABELS, ..Choice::default() })?;
    std::fs::create_dir(world.path("keys")).expect("folder");
    Some(world)
}

fn ask(world: &World, label: &str, name: &str) -> Answer {
    let credential = world.credential(&if label.is_empty() { vec![] } else { vec!["--label", label] });
    let user = format!("{}:{}", credential.name, credential.secret);
    let (path, data) = (format!("{label}/serverkeygen"), format!("@{name}.b64"));
    let path = path.trim_start_matches('/');
    world.est(path, &["-u", &user, "-H", PKCS10, "--data-binary", &data])
}

/// Writes `a.b64`, a request for a subject with these attributes.
fn request(world: &World, subject: &str, mut attributes: Vec<Vec<u8>>) {
    let value = hand::tlv(0x0C, subject.as_bytes());
    let attribute = hand::tlv(0x30, &[hand::oid("2.5.4.3"), value].concat());
    let subject = hand::tlv(0x30, &hand::tlv(0x31, &attribute));
    attributes.sort();
    std::fs::write(world.path("a.b64"), BASE64.encode(&hand::request(&subject, &attributes))).expect("writes");
}

fn named(kind: &str, identifier: &[u8]) -> Vec<u8> {
    hand::attribute(kind, &hand::tlv(0x04, identifier))
}

/// The two parts of an answer: the key, of this type, and the certificate, which goes to `made.pem`.
fn parts(world: &World, answer: &Answer, kind_of_key: &str) -> Vec<u8> {
    assert_eq!(answer.status, 200, "{}", answer.headers);
    let kind = answer.header("content-type").expect("a type");
    let boundary = kind.strip_prefix("multipart/mixed; boundary=").expect("multipart").to_owned();
    assert_eq!(answer.header("content-transfer-encoding"), None, "it belongs to the parts");
    let text = String::from_utf8(answer.body.clone()).expect("ASCII");
    let parts: Vec<&str> = text.split(&format!("--{boundary}")).collect();
    assert_eq!((parts.len(), parts[0], parts[3]), (4, "", "--\r\n"));
    let der = |part: &str, kind: &str| {
        let (head, body) = part.split_once("\r\n\r\n").expect("head and body");
        assert_eq!(head, format!("\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: base64"));
        BASE64_MIME_PERMISSIVE.decode(body.trim().as_bytes()).expect("base64")
    };
    let certificate = der(parts[2], "application/pkcs7-mime; smime-type=certs-only");
    std::fs::write(world.path("made.p7"), certificate).expect("writes");
    world.openssl(&["pkcs7", "-inform", "DER", "-in", "made.p7", "-print_certs", "-out", "made.pem"]);
    der(parts[1], kind_of_key)
}

/// The PKCS#8 key is the one of `made.pem`, which verifies.
fn is_key_of_made(world: &World, pkcs8: &[u8], what: &str) {
    std::fs::write(world.path("made.key.der"), pkcs8).expect("writes");
    let of_key = world.openssl(&["pkey", "-inform", "DER", "-in", "made.key.der", "-pubout"]);
    assert_eq!(world.openssl(&["x509", "-in", "made.pem", "-noout", "-pubkey"]), of_key, "{what}");
    assert!(world.verify("made", &["-x509_strict"]).status.success(), "{what}");
    assert!(!world.text("log").contains("PRIVATE"), "{what}");
}

/// Two parts, the key as PKCS#8 and its certificate; off unless the label says otherwise.
#[test]
fn m36_m37_m38_m44_keys_are_made_for_devices_where_a_label_says_so() {
    let test = "m36_m37_m38_m44_keys_are_made_for_devices_where_a_label_says_so";
    let Some(world) = world(test) else { return };
    world.request("a", "/CN=a", &[]);
    assert_eq!(ask(&world, "", "a").refusal(), (404, "keygen_off".to_owned()));
    for (label, subject) in [("made", "ec"), ("made-rsa", "rsa")] {
        // The signature of the request means nothing here: its key is not certified.
        world.request("a", &format!("/CN={subject}"), &[]);
        let mut der = std::fs::read(world.path("a.csr")).expect("reads");
        *der.last_mut().expect("not empty") ^= 1;
        std::fs::write(world.path("a.b64"), BASE64.encode(&der)).expect("writes");
        let key = parts(&world, &ask(&world, label, "a"), "application/pkcs8");
        is_key_of_made(&world, &key, label);
    }
}

/// A key pair of a device for decryption: `NAME.key`, a certificate `NAME.pem`, and the identifier in it.
fn decryption_pair(world: &World, name: &str, algorithm: &[&str]) -> Vec<u8> {
    let (key, pem) = (format!("{name}.key"), format!("{name}.pem"));
    world.openssl(&[&["genpkey", "-out", &key], algorithm].concat());
    world.openssl(&["req", "-x509", "-new", "-key", &key, "-subj", "/CN=decrypts", "-out", &pem]);
    let shown = world.openssl(&["x509", "-in", &pem, "-noout", "-ext", "subjectKeyIdentifier"]);
    let digits: String = shown.lines().nth(1).expect("identifier").trim().replace(':', "").to_lowercase();
    HEXLOWER.decode(digits.as_bytes()).expect("hexadecimal")
}

/// The key in an EnvelopedData that `openssl cms -decrypt` opens with these arguments.
fn opened(world: &World, message: &[u8], with: &[&str], what: &str) -> Vec<u8> {
    std::fs::write(world.path("sealed.p7"), message).expect("writes");
    let arguments = ["cms", "-decrypt", "-inform", "DER", "-in", "sealed.p7", "-out", "signed.der"];
    world.openssl(&[&arguments[..], with].concat());
    let signed_data = std::fs::read(world.path("signed.der")).expect("reads");
    let content = hand::tlv(0xA0, &signed_data);
    let whole = hand::tlv(0x30, &[hand::oid("1.2.840.113549.1.7.2"), content].concat());
    std::fs::write(world.path("signed.p7"), whole).expect("writes");
    let verify =
        ["cms", "-verify", "-inform", "DER", "-in", "signed.p7", "-CAfile", "state/root.pem", "-purpose", "any"];
    world.openssl(&[&verify[..], &["-binary", "-out", "package.der", "-signer", "signer.pem"]].concat());
    let signer = world.openssl(&["x509", "-in", "signer.pem", "-noout", "-ext", "extendedKeyUsage"]);
    assert!(signer.contains("CMC Registration Authority") || signer.contains("1.3.6.1.5.5.7.3.28"), "{what}: {signer}");
    let package = std::fs::read(world.path("package.der")).expect("reads");
    AnyRef::from_der(&package).expect("a package").value().to_vec()
}

/// The key, signed by the house, is encrypted to the public key that the request names: RSA by ktri, EC by kari.
#[test]
fn m39_m41_a_key_is_encrypted_to_the_public_key_that_the_request_names() {
    let test = "m39_m41_a_key_is_encrypted_to_the_public_key_that_the_request_names";
    let Some(world) = world(test) else { return };
    let rows: &[(&str, &[&str], &[u8])] = &[
        ("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], &[]),
        // A client that names PKCS #1 v1.5 and AES-128 gets that.
        ("old", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], b"old"),
        ("p256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], &[]),
        ("p384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], &[]),
        ("p521", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"], &[]),
    ];
    for (name, algorithm, capabilities) in rows {
        let identifier = decryption_pair(&world, name, algorithm);
        let file = format!("keys/{}.pem", HEXLOWER.encode(&identifier));
        std::fs::copy(world.path(&format!("{name}.pem")), world.path(&file)).expect("copies");
        let mut attributes = vec![named(PUBLIC, &identifier)];
        if !capabilities.is_empty() {
            let list = ["1.2.840.113549.1.1.1", "2.16.840.1.101.3.4.1.2"];
            let list: Vec<u8> = list.iter().flat_map(|id| hand::tlv(0x30, &hand::oid(id))).collect();
            attributes.push(hand::attribute(CAPABILITIES, &hand::tlv(0x30, &list)));
        }
        request(&world, name, attributes);
        let message = parts(&world, &ask(&world, "sealed", "a"), SEALED);
        let (key, pem) = (format!("{name}.key"), format!("{name}.pem"));
        let pkcs8 = opened(&world, &message, &["-recip", &pem, "-inkey", &key], name);
        is_key_of_made(&world, &pkcs8, name);
        let shown = world.openssl(&["cms", "-cmsout", "-print", "-inform", "DER", "-in", "sealed.p7"]);
        let cipher = if capabilities.is_empty() { "aes-256-cbc" } else { "aes-128-cbc" };
        assert!(shown.contains(cipher), "{name}: {shown}");
    }
}

/// The key is encrypted under the secret that the request names, by kekri version 4.
#[test]
fn m40_a_key_is_encrypted_under_the_secret_that_the_request_names() {
    use std::os::unix::fs::PermissionsExt;
    let test = "m40_a_key_is_encrypted_under_the_secret_that_the_request_names";
    let Some(world) = world(test) else { return };
    for (subject, secret) in [("short", "000102030405060708090a0b0c0d0e0f".to_owned()), ("long", "5a".repeat(32))] {
        let identifier = HEXLOWER.encode(subject.as_bytes());
        let file = world.path(&format!("keys/{identifier}.key"));
        std::fs::write(&file, format!("{secret}\n")).expect("writes");
        request(&world, subject, vec![named(SECRET, subject.as_bytes())]);
        // A secret that others may read is none.
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        assert_eq!(ask(&world, "made", "a").refusal(), (500, "internal".to_owned()));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        let message = parts(&world, &ask(&world, "made", "a"), SEALED);
        let pkcs8 = opened(&world, &message, &["-secretkey", &secret, "-secretkeyid", &identifier], subject);
        is_key_of_made(&world, &pkcs8, subject);
        let shown = world.openssl(&["cms", "-cmsout", "-print", "-inform", "DER", "-in", "sealed.p7"]);
        assert!(shown.contains("d.kekri") && shown.contains("version: 4"), "{shown}");
    }
}

/// What cannot be encrypted as asked is not made: an unknown key, no key where one is needed, algorithms that nobody has.
#[test]
fn m42_m43_e14_a_key_that_cannot_be_encrypted_as_asked_is_not_made() {
    let test = "m42_m43_e14_a_key_that_cannot_be_encrypted_as_asked_is_not_made";
    let Some(world) = world(test) else { return };
    let identifier = decryption_pair(&world, "p256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let file = format!("keys/{}.pem", HEXLOWER.encode(&identifier));
    std::fs::copy(world.path("p256.pem"), world.path(&file)).expect("copies");
    std::fs::write(world.path("keys/ff.pem"), "nothing").expect("writes");
    let triple_des =
        hand::attribute(CAPABILITIES, &hand::tlv(0x30, &hand::tlv(0x30, &hand::oid("1.2.840.113549.3.7"))));
    let rows: Vec<(&str, Vec<Vec<u8>>, u16, &str)> = vec![
        ("sealed", vec![], 403, "keygen_key_needed"),
        ("sealed", vec![named(PUBLIC, b"nobody")], 400, "keygen_key_unknown"),
        ("made", vec![named(SECRET, b"nobody")], 400, "keygen_key_unknown"),
        // A public key is no secret.
        ("made", vec![named(SECRET, &identifier)], 400, "keygen_key_unknown"),
        ("made-rsa", vec![named(PUBLIC, &identifier)], 400, "keygen_key_unknown"),
        ("made", vec![named(PUBLIC, b"../../p256")], 400, "keygen_key_unknown"),
        ("made", vec![named(PUBLIC, &identifier), triple_des], 400, "keygen_encryption"),
        ("made", vec![named(PUBLIC, &identifier), named(SECRET, b"x")], 400, "csr_malformed"),
        ("made", vec![named(PUBLIC, b"")], 400, "csr_malformed"),
        ("made", vec![named(PUBLIC, &[7; 65])], 400, "csr_malformed"),
        ("made", vec![hand::attribute(PUBLIC, &hand::tlv(0x0C, b"x"))], 400, "csr_malformed"),
        ("made", vec![named(PUBLIC, &[0xFF])], 500, "internal"),
    ];
    for (index, (label, attributes, status, reason)) in rows.into_iter().enumerate() {
        request(&world, "a", attributes);
        assert_eq!(ask(&world, label, "a").refusal(), (status, reason.to_owned()), "row {index}");
    }
    assert_eq!(world.done(&["device", "list"])["items"], serde_json::json!([]));
}
