//! The post-quantum PKI: the demonstration is the test.

use std::fs;
use std::process::Command;

use acceptance::daemon::binary;
use acceptance::tools::{available, python, run, skip};
use acceptance::world::World;

use crate::Pki;

#[test]
fn an_ml_dsa_device_enrols_renews_and_is_verified_by_an_implementation_of_others() {
    let test = "an_ml_dsa_device_enrols_renews_and_is_verified_by_an_implementation_of_others";
    if !["python3", "curl"].iter().all(|tool| available(test, tool)) {
        return;
    }
    let programs = binary("craton-pki").parent().expect("a folder").to_path_buf();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/demo-pq");
    let finished = run(Command::new(script).env("CRATON_BIN_DIR", programs).env_remove("PKCS11_MODULE"));
    if finished.status.code() == Some(77) {
        skip(test, "python cryptography with ML-DSA not found");
        return;
    }
    assert!(finished.status.success(), "{finished}");
    let said = String::from_utf8_lossy(&finished.stdout).into_owned();
    let linked = "the ML-DSA certificate names the one of the elliptic curve";
    for line in
        [linked, "signed with ML-DSA-87", "signed with ML-DSA-65", "a forged signature is refused", "demo-pq: done"]
    {
        assert!(said.contains(line), "{line}: {said}");
    }
}

/// Reads the key and the certificate as others read them: they belong together, the issuer signed, and the key is for nothing else.
const JUDGE: &str = r#"
import sys
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import mlkem
from cryptography.hazmat.primitives.serialization import load_der_private_key
key = load_der_private_key(open(sys.argv[1], "rb").read(), None)
certificate = x509.load_der_x509_certificate(open(sys.argv[2], "rb").read())
issuer = x509.load_pem_x509_certificates(open(sys.argv[3], "rb").read())[0]
assert isinstance(key, mlkem.MLKEM768PrivateKey), key
certificate.verify_directly_issued_by(issuer)
assert certificate.public_key().public_bytes_raw() == key.public_key().public_bytes_raw()
secret, ciphertext = certificate.public_key().encapsulate()
assert key.decapsulate(ciphertext) == secret
usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
assert usage.critical and usage.value.key_encipherment
assert not any(getattr(usage.value, other) for other in (
    "digital_signature", "content_commitment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign"))
assert certificate.subject.rfc4514_string() == "CN=sensor-kem"
print("judged")
"#;

/// Nobody can prove by a signature to hold an ML-KEM key, so the token makes it (RFC 9935).
#[test]
fn an_ml_kem_key_is_made_certified_and_given_away() {
    let test = "an_ml_kem_key_is_made_certified_and_given_away";
    if !crate::tools_for(test) {
        return;
    }
    let Some(python) = python("cryptography.hazmat.primitives.asymmetric.mlkem") else {
        skip(test, "python cryptography with ML-KEM not found");
        return;
    };
    let world = World::start();
    let more = "[est.labels.kem]\nprofile = \"kem\"\nserver_keygen = \"plain\"\n\
                [profiles.kem]\npreset = \"encryption\"\nkeys = [\"ml-kem-768\"]\nvalidity_days = 10\n";
    let mut pki = Pki::found_with(&world, more);
    pki.serve(&world);
    let file = |name: &str| world.dir().join(name);
    let new = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-outform", "DER"];
    let csr = run(Command::new("openssl").args(new).args(["-subj", "/CN=sensor-kem", "-keyout"]).arg(file("unused")));
    fs::write(file("csr.b64"), data_encoding::BASE64_MIME.encode(&csr.ok().stdout)).expect("writes");
    let credential = pki.json(&world, &["bootstrap", "new", "--label", "kem"]);
    let word = |field: &str| credential[field].as_str().expect("a credential").to_owned();
    let (user, body) =
        (format!("{}:{}", word("username"), word("password")), format!("@{}", file("csr.b64").display()));
    let ask = ["-u", &user, "-H", "Content-Type: application/pkcs10", "--data-binary", &body];
    let answer = String::from_utf8(pki.curl(&ask, "kem/serverkeygen").ok().stdout).expect("ASCII");
    let parts: Vec<Vec<u8>> = answer
        .split("\r\n\r\n")
        .skip(1)
        .map(|part| part.split("\r\n--").next().unwrap_or_default().trim())
        .map(|text| data_encoding::BASE64_MIME_PERMISSIVE.decode(text.as_bytes()).expect("base64"))
        .collect();
    let [key, certificates] = parts.try_into().expect("a key and a certificate");
    for (name, bytes) in [("key.der", key), ("made.p7", certificates)] {
        fs::write(file(name), bytes).expect("writes");
    }
    let pem =
        run(Command::new("openssl").args(["pkcs7", "-inform", "DER", "-print_certs", "-in"]).arg(file("made.p7")));
    let pem = String::from_utf8(pem.ok().stdout).expect("ASCII");
    let body: String = pem
        .lines()
        .skip_while(|line| !line.starts_with("-----BEGIN"))
        .skip(1)
        .take_while(|line| !line.starts_with("-----END"))
        .collect();
    fs::write(file("made.der"), data_encoding::BASE64.decode(body.as_bytes()).expect("base64")).expect("writes");
    fs::write(file("judge.py"), JUDGE).expect("writes");
    let judged = run(Command::new(&python)
        .arg(file("judge.py"))
        .args([file("key.der"), file("made.der")])
        .arg(pki.state.join("issuing.pem")));
    judged.ok().says("judged");
    let lint = "import sys; from pkilint.bin import lint_pkix_cert; sys.exit(lint_pkix_cert.main(['lint', '-s', 'ERROR', sys.argv[1]]))";
    if acceptance::tools::python("pkilint").is_some() {
        // The tool prints names before the certificate, which pkilint does not skip.
        let armoured = &pem[pem.find("-----BEGIN").expect("a certificate")..];
        fs::write(file("made.pem"), armoured).expect("writes");
        run(Command::new(python).args(["-c", lint]).arg(file("made.pem"))).ok();
    } else {
        skip(test, "pkilint not found");
    }
}

/// Asks the responder about a certificate, and lints what was signed.
const LINT: &str = r#"
import base64, contextlib, hashlib, io, sys, urllib.request
from cryptography import x509
from cryptography.x509 import ocsp
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from pkilint.bin import lint_crl, lint_ocsp_response, lint_pkix_cert
from pyasn1.codec.der import decoder, encoder
from pyasn1_alt_modules import rfc5280
url, issuer, device, crl, answer = sys.argv[1:]
def facts(file):
    lines = open(file).read().split("-----BEGIN CERTIFICATE-----")[1].split("-----END")[0]
    return decoder.decode(base64.b64decode(lines), asn1Spec=rfc5280.Certificate())[0]["tbsCertificate"]
above = facts(issuer)
name, key = encoder.encode(above["subject"]), above["subjectPublicKeyInfo"]["subjectPublicKey"].asOctets()
asked = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
    hashlib.sha1(name).digest(), hashlib.sha1(key).digest(), int(facts(device)["serialNumber"]), hashes.SHA1())
body = asked.build().public_bytes(Encoding.DER)
request = urllib.request.Request(url, body, {"Content-Type": "application/ocsp-request"})
text = open(device).read()
open(device, "w").write(text[text.index("-----BEGIN"):])
open(answer, "wb").write(urllib.request.urlopen(request).read())
failed = 0
for lint, arguments in [(lint_pkix_cert, [issuer]), (lint_pkix_cert, [device]), (lint_crl, ["-t", "CRL", "-p", "PKIX", crl]),
                        (lint_ocsp_response, [answer])]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = lint.main(["lint", "-s", "ERROR"] + arguments)
    if code or said.getvalue().strip():
        failed += 1
        print(arguments, code, said.getvalue())
print("linted 4 failed", failed)
"#;

#[test]
fn pkilint_finds_no_error_in_what_ml_dsa_signed() {
    let test = "pkilint_finds_no_error_in_what_ml_dsa_signed";
    if !crate::tools_for(test) {
        return;
    }
    let Some(python) = python("pkilint, cryptography.x509.ocsp") else {
        skip(test, "pkilint not found");
        return;
    };
    let world = World::start();
    let mut pki = Pki::found_keyed(&world, "ml-dsa-65", "[ocsp]\nkey = \"ml-dsa-44\"\n");
    pki.serve(&world);
    let device = pki.enrol(&world, "device");
    let (crl, answer) = (world.dir().join("issuing.crl"), world.dir().join("answer.ors"));
    pki.command(&world, &["crl", "--format", "der", "--out", &crl.display().to_string()]).ok();
    let mut lint = Command::new(python);
    lint.args(["-c", LINT, &format!("{}/ocsp", pki.crl)]);
    let said = run(lint.arg(pki.state.join("issuing.pem")).args([&device, &crl, &answer])).ok();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.ends_with("linted 4 failed 0\n"), "{said}");
}
