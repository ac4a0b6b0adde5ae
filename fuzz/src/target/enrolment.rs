//! What a device sends to be enrolled: the certification request, and the HTTP request around it.

use std::cell::RefCell;

use data_encoding::BASE64;
use pki::door::{Asked, Counter, Told};
use ring::signature::{Ed25519KeyPair, KeyPair};
use x509_cert::TbsCertificate;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName};
use x509_cert::request::CertReq;

use crate::asn1::{self, BIT_STRING, INTEGER, OCTET_STRING, SEQUENCE, SET, UTF8_STRING, oid, tlv};
use crate::feedback;
use crate::input::Input;

/// Labels of every kind that a configuration may have, and the profiles that they lead to.
const TABLES: &str = r#"
    [profiles.device]
    dns_suffixes = ["devices.example"]
    ip_networks = ["10.1.0.0/16", "2001:db8::/32"]
    uri_prefixes = ["urn:dev:"]
    hardware_module_types = ["1.3.6.1.4.1.55555.1"]
    permanent_identifier_assigners = ["1.3.6.1.4.1.55555.2"]
    [profiles.idevid]
    preset = "idevid"
    hardware_module_types = ["1.3.6.1.4.1.55555.1"]
    [profiles.server]
    preset = "server"
    dns_suffixes = ["devices.example"]
    ip_networks = ["10.1.0.0/16"]
    [profiles.strict]
    preset = "code_signing"
    refuse_other_extensions = true
    [labels]
    plain = "device"
    born = "idevid"
    server = "server"
    strict = "strict"
    [labels.renaming]
    profile = "device"
    change_subject_name = true
    [labels.der]
    profile = "device"
    raw_der = true
    [labels.bound]
    profile = "device"
    channel_binding = "required"
    [labels.known]
    profile = "device"
    registration = "pre-registered"
"#;
const LABELS: [&str; 8] = ["plain", "born", "server", "strict", "renaming", "der", "bound", "known"];
/// Labels at which nothing is ever granted here: there is no connection to be bound to, and no device is registered.
const CLOSED: [&str; 2] = ["bound", "known"];
const USER: &str = "boot-";
const SECRET: &str = "3rWq-secret";

thread_local! {
    static COUNTER: Counter = Counter::new(TABLES, USER, SECRET).expect("the tables are good");
    /// The next request comes a minute later: failed logins are forgotten by then.
    static NOW: RefCell<i64> = const { RefCell::new(1_800_000_000) };
}

fn ask(method: &str, path: &str, headers: &[(&str, Vec<u8>)], body: &[u8]) -> Told {
    let now = NOW.with_borrow_mut(|now| {
        *now += 61;
        *now
    });
    COUNTER.with(|counter| counter.ask(&Asked { method, path, headers, body, now }))
}

fn key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed has 32 bytes")
}

/// The SubjectPublicKeyInfo of the key that signs.
fn spki() -> Vec<u8> {
    let algorithm = tlv(SEQUENCE, &[&oid(&[43, 101, 112])]);
    tlv(SEQUENCE, &[&algorithm, &tlv(BIT_STRING, &[&[0], key().public_key().as_ref()])])
}

/// One RDN with one attribute of the arc `2.5.4`.
fn rdn(kind: u32, value: &[u8]) -> Vec<u8> {
    tlv(SET, &[&tlv(SEQUENCE, &[&oid(&[85, 4, kind]), &tlv(UTF8_STRING, &[value])])])
}

fn extension(id: &[u32], value: &[u8]) -> Vec<u8> {
    tlv(SEQUENCE, &[&oid(id), &tlv(OCTET_STRING, &[value])])
}

fn other_name(kind: u32, value: &[u8]) -> Vec<u8> {
    let name = tlv(SEQUENCE, &[value]);
    tlv(0xA0, &[&oid(&[43, 6, 1, 5, 5, 7, 8, kind]), &tlv(0xA0, &[&name])])
}

/// Names of every form, good and bad.
fn names() -> Vec<Vec<u8>> {
    let module = [oid(&[43, 6, 1, 4, 1, 55555, 1]), tlv(OCTET_STRING, &[b"4711"])].concat();
    let permanent = [tlv(UTF8_STRING, &[b"4711"]), oid(&[43, 6, 1, 4, 1, 55555, 2])].concat();
    vec![
        tlv(0x82, &[b"a.devices.example"]),
        tlv(0x82, &[b"*.devices.example"]),
        tlv(0x82, &[b"b.other.example"]),
        tlv(0x87, &[&[10, 1, 2, 3]]),
        tlv(0x87, &[&[10, 2, 2, 3]]),
        tlv(0x86, &[b"urn:dev:mac:1"]),
        tlv(0x81, &[b"a@devices.example"]),
        other_name(4, &module),
        other_name(3, &permanent),
        tlv(0xA4, &[&tlv(SEQUENCE, &[&rdn(3, b"x")])]),
    ]
}

fn some_names(input: &mut Input<'_>) -> Vec<u8> {
    let names = names();
    let chosen: Vec<Vec<u8>> = (0..input.below(3)).map(|_| input.pick(&names).clone()).collect();
    tlv(SEQUENCE, &[&chosen.concat()])
}

fn subject(input: &mut Input<'_>) -> Vec<u8> {
    let attributes =
        [rdn(3, b"sensor-1"), rdn(5, b"4711"), rdn(10, b"Craton"), rdn(3, b"a.devices.example"), rdn(6, b"CH")];
    let chosen = input.byte();
    let chosen = attributes.iter().enumerate().filter(|(index, _)| chosen >> index & 1 == 1);
    tlv(SEQUENCE, &[&chosen.flat_map(|(_, rdn)| rdn.clone()).collect::<Vec<u8>>()])
}

/// The attributes of a request.
fn attributes(input: &mut Input<'_>) -> Vec<Vec<u8>> {
    let attribute = |id: &[u32], value: &[u8]| tlv(SEQUENCE, &[&oid(id), &tlv(SET, &[value])]);
    let pkcs9 = |kind: &[u32]| [&[42, 840, 113549, 1, 9], kind].concat();
    let mut list = Vec::new();
    let chosen = input.byte();
    if chosen & 1 != 0 {
        let mut extensions = vec![extension(&[85, 29, 17], &some_names(input))];
        let more = [
            extension(&[85, 29, 15], &tlv(BIT_STRING, &[&[7, 0x80]])),
            extension(&[85, 29, 15], &tlv(BIT_STRING, &[&[2, 0x04]])),
            extension(&[85, 29, 19], &tlv(SEQUENCE, &[])),
            extension(&[85, 29, 19], &tlv(SEQUENCE, &[&[1, 1, 0xFF]])),
            extension(&[85, 29, 37], &tlv(SEQUENCE, &[&oid(&[85, 29, 37, 0])])),
            extension(&[42, 3, 4], b"\x05\x00"),
        ];
        extensions.extend((0..input.below(3)).map(|_| input.pick(&more).clone()));
        list.push(attribute(&pkcs9(&[14]), &tlv(SEQUENCE, &[&extensions.concat()])));
    }
    if chosen & 2 != 0 {
        list.push(attribute(&pkcs9(&[7]), &tlv(UTF8_STRING, &[input.bytes(40)])));
    }
    if chosen & 4 != 0 {
        let change = [subject(input), some_names(input)];
        list.push(attribute(&[43, 6, 1, 5, 5, 7, 7, 36], &tlv(SEQUENCE, &[&change.concat()])));
    }
    if chosen & 8 != 0 {
        list.push(attribute(&pkcs9(&[16, 2, 54]), &tlv(OCTET_STRING, &[input.bytes(20)])));
    }
    // DER wants a SET OF in ascending order.
    list.sort();
    list
}

/// A request, with something wrong in it before it was signed.
fn request(input: &mut Input<'_>) -> Vec<u8> {
    let parts = |input: &mut Input<'_>| {
        let (subject, attributes) = (subject(input), attributes(input));
        tlv(SEQUENCE, &[&[INTEGER, 1, 0], &subject, &spki(), &tlv(0xA0, &[&attributes.concat()])])
    };
    let others: Vec<Vec<u8>> = vec![tlv(SEQUENCE, &[&names().concat()]), rdn(3, b"other")];
    let info = parts(input);
    let info = asn1::changed(&info, &others, input);
    let signature = key().sign(&info);
    let algorithm = tlv(SEQUENCE, &[&oid(&[43, 101, 112])]);
    let whole = tlv(SEQUENCE, &[&info, &algorithm, &tlv(BIT_STRING, &[&[0], signature.as_ref()])]);
    if input.one_in(8) { asn1::changed(&whole, &others, input) } else { whole }
}

fn authorization(user: &str, secret: &str) -> Vec<u8> {
    format!("Basic {}", BASE64.encode(format!("{user}:{secret}").as_bytes())).into_bytes()
}

fn contains(whole: &[u8], part: &[u8]) -> bool {
    part.is_empty() || whole.windows(part.len()).any(|window| window == part)
}

/// What must hold of a certificate that a request was granted.
fn check(csr: &[u8], certificate: &[u8]) {
    let decoded = CertReq::from_der(csr).expect("what is granted decodes");
    assert!(decoded.to_der().is_ok_and(|again| again == csr), "a request that another reader would read otherwise");
    let certificate = TbsCertificate::from_der(certificate).expect("decodes");
    let key = certificate.subject_public_key_info().to_der().expect("encodes");
    assert_eq!(key, decoded.info.public_key.to_der().expect("encodes"), "another key");
    let constraints = certificate.get_extension::<BasicConstraints>().expect("decodes");
    assert!(constraints.is_none_or(|(_, constraints)| !constraints.ca), "an authority");
    for attribute in certificate.subject().iter() {
        assert!(contains(csr, attribute.value.value()), "a name that nobody asked for");
    }
    let names = certificate.get_extension::<SubjectAltName>().expect("decodes");
    for name in names.map(|(_, names)| names.0).unwrap_or_default() {
        let name = name.to_der().expect("encodes");
        assert!(contains(csr, &name), "a name that nobody asked for");
    }
    feedback::note(("granted", certificate.extensions().map(|extensions| extensions.len())));
}

/// Holds an answer to what an answer may be.
fn answered(told: &Told) {
    match told {
        Told::Read => feedback::note("read"),
        Told::Refused { status, code, sentence } => {
            assert!(matches!(status, 400..=415 | 429), "{status} {code}: {sentence}");
            assert!(!code.is_empty() && !sentence.is_empty() && !sentence.contains('\n'), "{code}: {sentence:?}");
            feedback::note((code, sentence.chars().filter(|c| c.is_alphabetic()).take(60).collect::<String>()));
        }
        Told::Granted { certificate } => {
            if let Err(findings) = certificate {
                panic!("the rules let through what the linter does not: {findings}");
            }
        }
    }
}

/// A certification request at every label: what is granted is what was asked for, and passes the linter.
pub(crate) fn csr(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let csr = if input.one_in(8) { input.rest().to_vec() } else { request(&mut input) };
    for label in LABELS {
        let headers = [
            ("content-type", b"application/pkcs10".to_vec()),
            ("authorization", authorization(&format!("{USER}{label}"), SECRET)),
        ];
        let path = format!("/.well-known/est/{label}/simpleenroll");
        let told = ask("POST", &path, &headers, BASE64.encode(&csr).as_bytes());
        answered(&told);
        if let Told::Granted { certificate: Ok(certificate) } = told {
            assert!(!CLOSED.contains(&label), "{label} grants nothing");
            check(&csr, &certificate);
        }
    }
}

const METHODS: [&str; 6] = ["POST", "GET", "HEAD", "PUT", "post", "DELETE"];
const OPERATIONS: [&str; 10] = [
    "simpleenroll",
    "simpleenroll",
    "simpleenroll",
    "simplereenroll",
    "serverkeygen",
    "cacerts",
    "csrattrs",
    "fullcmc",
    "simpleenroll/",
    "SimpleEnroll",
];
const TYPES: [&str; 8] = [
    "application/pkcs10",
    "Application/PKCS10; charset=x",
    "application/pkcs10x",
    "application/pkcs7-mime; smime-type=CMC-request",
    "text/plain",
    "",
    "multipart/mixed; boundary=application/pkcs10",
    ";application/pkcs10",
];

/// A body around a request: base64 in many spellings, most of them wrong.
fn body(csr: &[u8], input: &mut Input<'_>) -> Vec<u8> {
    let text = BASE64.encode(csr);
    match input.below(10) {
        0 | 1 => text.into_bytes(),
        2 => {
            let columns = 1 + input.below(100);
            let lines: Vec<&[u8]> = text.as_bytes().chunks(columns).collect();
            lines.join(input.pick(&["\n", "\r\n", " ", "\t", "\r"]).as_bytes())
        }
        3 => BASE64.encode(text.as_bytes()).into_bytes(),
        4 => format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n").into_bytes(),
        5 => csr.to_vec(),
        6 => text.trim_end_matches('=').as_bytes().to_vec(),
        7 => text.replace('+', "-").replace('/', "_").into_bytes(),
        8 => {
            let mut text = text.into_bytes();
            let at = input.below(text.len().max(1));
            text.splice(at..at, input.bytes(4).iter().copied());
            text
        }
        _ => input.rest().to_vec(),
    }
}

/// Base64 as EST takes it, by another reader: white space anywhere, nothing else.
fn unwrapped(body: &[u8]) -> Option<Vec<u8>> {
    let dense: Vec<u8> = body.iter().copied().filter(|byte| !b" \t\r\n".contains(byte)).collect();
    let sextet =
        |byte: u8| b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".iter().position(|c| *c == byte);
    let padding = dense.iter().rev().take_while(|byte| **byte == b'=').count();
    let (digits, _) = dense.split_at(dense.len() - padding);
    let digits: Vec<usize> = digits.iter().map(|byte| sextet(*byte)).collect::<Option<_>>()?;
    let fits = dense.len().is_multiple_of(4) && padding <= 2 && !digits.is_empty();
    let bits = digits.iter().flat_map(|digit| (0..6).rev().map(move |bit| (digit >> bit & 1) as u8));
    let bits: Vec<u8> = bits.collect();
    let (whole, rest) = bits.split_at(bits.len() / 8 * 8);
    let bytes = whole.chunks(8).map(|octet| octet.iter().fold(0u8, |sum, bit| sum << 1 | bit)).collect();
    (fits && rest.iter().all(|bit| *bit == 0)).then_some(bytes)
}

/// An HTTP request: nothing is granted but to the right credential, for the right type, by the right method.
pub(crate) fn est(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let label = *input.pick(&LABELS);
    let operation = *input.pick(&OPERATIONS);
    let method = if input.one_in(4) { *input.pick(&METHODS) } else { "POST" };
    let kind = if input.one_in(3) { *input.pick(&TYPES) } else { TYPES[0] };
    let other = *input.pick(&LABELS);
    let (authority, is_right) = match input.below(8) {
        0 => (authorization(&format!("{USER}{other}"), SECRET), other == label),
        1 => (authorization(&format!("{USER}{label}"), "3rWq-Secret"), false),
        2 => (authorization("", ""), false),
        3 => ([b"Basic ", input.bytes(40)].concat(), false),
        4 => (authorization(&format!("{USER}{label}"), SECRET).to_ascii_lowercase(), false),
        _ => (authorization(&format!("{USER}{label}"), SECRET), true),
    };
    let mut headers = vec![("content-type", kind.as_bytes().to_vec()), ("authorization", authority)];
    if input.one_in(3) {
        let more = ["content-transfer-encoding", "x-forwarded-client-cert", "x-ssl-client-verify", "content-encoding"];
        let field = more[input.below(more.len())];
        headers.push((field, input.bytes(30).to_vec()));
    }
    let mut path = format!("/.well-known/est/{label}/{operation}");
    if input.one_in(8) {
        let at = input.below(path.len());
        path.insert_str(at, &String::from_utf8_lossy(input.bytes(5)));
    }
    let csr = request(&mut input);
    let body = body(&csr, &mut input);
    let told = ask(method, &path, &headers, &body);
    answered(&told);
    if let Told::Granted { certificate: Ok(certificate) } = told {
        let media_type = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        assert!(method == "POST" && media_type == "application/pkcs10", "{method} {kind}");
        assert!(is_right && !CLOSED.contains(&label), "granted without the credential of {label}");
        assert_eq!(path, format!("/.well-known/est/{label}/simpleenroll"));
        let sent = if label == "der" && body.starts_with(b"\x30") { Some(body.clone()) } else { unwrapped(&body) };
        let sent = sent.filter(|sent| CertReq::from_der(sent).is_ok()).or_else(|| unwrapped(&body));
        check(&sent.expect("what is granted decodes"), &certificate);
    }
}
