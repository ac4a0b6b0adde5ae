//! A manufacturer, its lists, its responder, and a server on the loopback interface that gives what a test lays there. The clock is the
//! tests' own.

use super::{Foreign, ForeignFault, Method, Settings};
use crate::clock::DAY_SECONDS as DAY;
use crate::fetch::Bounds;
use crate::store::query::Span;
use crate::store::redb::RedbStore;
use crate::store::{Query, Record, Store};
use crate::x509::algorithm::{self, KeySpec, oid};
use crate::x509::crl::{self, Contents, Entries, Entry};
use crate::x509::extension::{self, CrlScope};
use crate::x509::ocsp::{self, Questions, ResponderId, Status};
use crate::x509::tbs::{self, CertificateContents};
use der::{Decode, Encode};
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use spki::SubjectPublicKeyInfoOwned;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use x509_cert::Certificate;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{CrlReason, KeyUsages};
use x509_cert::name::Name;

const NOW: i64 = 1_800_000_000;

/// Somebody with a key.
struct Party {
    name: Name,
    pair: EcdsaKeyPair,
}

impl Party {
    fn new(name: &str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).expect("key");
        Self { name: Name::from_str(name).expect("name"), pair }
    }

    fn spki(&self) -> SubjectPublicKeyInfoOwned {
        algorithm::ec_spki(oid::P256, self.pair.public_key().as_ref()).expect("encodes")
    }

    fn signature(&self, bytes: &[u8]) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), bytes).expect("signs").as_ref().to_vec()
    }

    fn certify(&self, subject: &Self, serial: u8, extensions: Vec<Extension>) -> Certificate {
        let algorithm = KeySpec::EcP256.signature_algorithm();
        let contents = CertificateContents {
            serial: vec![serial],
            algorithm: algorithm.clone(),
            issuer: self.name.clone(),
            not_before: NOW - 10 * DAY,
            not_after: NOW + 1000 * DAY,
            subject: subject.name.clone(),
            spki: subject.spki(),
            extensions,
        };
        let tbs = tbs::certificate(contents).expect("encodes");
        let der = tbs::join(&tbs, algorithm, &self.signature(&tbs)).expect("joins");
        Certificate::from_der(&der).expect("decodes")
    }

    /// A CRL of this number with the revoked serial numbers, good for a day.
    fn list(&self, number: u64, this_update: i64, revoked: &[u8], own_url: Option<&str>) -> Vec<u8> {
        let mut entries = Entries::default();
        for serial in revoked {
            let reason = CrlReason::KeyCompromise;
            let entry = Entry { serial: vec![*serial], revoked_at: this_update, reason, invalid_since: 0 };
            entries.add(&entry).expect("encodes");
        }
        let algorithm = KeySpec::EcP256.signature_algorithm();
        let contents = Contents {
            algorithm: algorithm.clone(),
            issuer: &self.name,
            issuer_key_id: &[7; 20],
            number,
            this_update,
            next_update: this_update + DAY,
            scope: CrlScope { own_url, freshest_url: None, base_number: None },
            entries: &entries,
        };
        let tbs = crl::encode(&contents).expect("encodes");
        tbs::join(&tbs, algorithm, &self.signature(&tbs)).expect("joins")
    }
}

/// Answers questions.
type Answering = Arc<dyn Fn(&Questions) -> Vec<u8> + Send + Sync>;

/// What a page answers with.
#[derive(Clone)]
enum Page {
    Bytes(Vec<u8>),
    /// An OCSP responder.
    Responder(Answering),
}

/// A server of pages.
#[derive(Clone, Default)]
struct Pages {
    pages: Arc<Mutex<HashMap<String, Page>>>,
    asked: Arc<Mutex<u32>>,
    port: u16,
}

impl Pages {
    fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("address").port();
        let pages = Self { port, ..Self::default() };
        let served = pages.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("accepts");
                let (path, body) = read(&mut stream);
                *served.asked.lock() += 1;
                let answer = match served.pages.lock().get(&path).cloned() {
                    Some(Page::Bytes(bytes)) => bytes,
                    Some(Page::Responder(answer)) => answer(&Questions::decode(&body).expect("a request")),
                    None => {
                        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").expect("writes");
                        continue;
                    }
                };
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
                stream.write_all(&[head.as_bytes(), &answer].concat()).expect("writes");
            }
        });
        pages
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    fn lay(&self, path: &str, page: Page) {
        self.pages.lock().insert(format!("/{path}"), page);
    }

    fn take_away(&self) {
        self.pages.lock().clear();
    }
}

/// Path and body of a request.
fn read(stream: &mut impl Read) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).expect("reads");
        bytes.extend_from_slice(&part[..count]);
        let Some(split) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
        if bytes.len() >= split + 4 + length {
            let path = head.split(' ').nth(1).expect("a path").to_owned();
            return (path, bytes.split_off(split + 4));
        }
    }
}

/// A manufacturer whose devices name a CRL and a responder.
struct Maker {
    root: Party,
    certificate: Certificate,
    device: Certificate,
    pages: Pages,
    store: Arc<RedbStore>,
}

const DEVICE: u8 = 9;

impl Maker {
    fn new() -> Self {
        let pages = Pages::serve();
        let root = Party::new("CN=Maker");
        let usages = [KeyUsages::KeyCertSign, KeyUsages::CRLSign];
        let of_authority = vec![
            extension::basic_constraints_ca(None).expect("encodes"),
            extension::key_usage(&usages).expect("encodes"),
        ];
        let certificate = root.certify(&root, 1, of_authority);
        let of_device = vec![
            extension::basic_constraints_end_entity().expect("encodes"),
            extension::crl_distribution_point(&pages.url("list")).expect("encodes"),
            extension::authority_info_access(Some(&pages.url("ocsp")), &pages.url("ca")).expect("encodes"),
        ];
        let device = root.certify(&Party::new("CN=Device"), DEVICE, of_device);
        Self { root, certificate, device, pages, store: Arc::new(RedbStore::in_memory().expect("store")) }
    }

    fn settings(methods: &[Method]) -> Settings {
        Settings {
            methods: methods.to_vec(),
            crl_urls: Vec::new(),
            ocsp_urls: Vec::new(),
            stale_seconds: 0,
            refresh_seconds: 3600,
            bounds: Bounds { deadline: Duration::from_secs(60), max_bytes: 1 << 20 },
            needs_nonce: false,
            tls: None,
        }
    }

    /// Somebody who asks, as after a start.
    fn asker(&self, settings: Settings) -> Foreign {
        let store: Arc<dyn Store> = Arc::clone(&self.store) as Arc<dyn Store>;
        Foreign::new(store, settings).expect("opens")
    }

    fn judge(&self, foreign: &Foreign, now: i64) -> Result<(), ForeignFault> {
        foreign.judge(&[self.device.clone(), self.certificate.clone()], now)
    }

    fn lay_list(&self, der: Vec<u8>) {
        self.pages.lay("list", Page::Bytes(der));
    }
}

fn why(outcome: Result<(), ForeignFault>) -> String {
    match outcome {
        Err(ForeignFault::Unknown(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_list_is_believed_as_long_as_it_says_and_fetched_once() {
    let maker = Maker::new();
    let foreign = maker.asker(Maker::settings(&[Method::Crl]));
    maker.lay_list(maker.root.list(1, NOW, &[], None));
    for at in [0, 1, 60, DAY - 1] {
        assert_eq!(maker.judge(&foreign, NOW + at), Ok(()), "{at}");
    }
    assert_eq!(*maker.pages.asked.lock(), 1);
    // The server is away: what it said holds until its end, also after a start, and no longer.
    maker.pages.take_away();
    let again = maker.asker(Maker::settings(&[Method::Crl]));
    for foreign in [&foreign, &again] {
        foreign.refresh(NOW + DAY / 2);
        assert_eq!(maker.judge(foreign, NOW + DAY - 1), Ok(()));
        assert!(why(maker.judge(foreign, NOW + DAY)).contains("is over"));
    }
    // Unless the configuration believes it for longer.
    let patient = maker.asker(Settings { stale_seconds: 3600, ..Maker::settings(&[Method::Crl]) });
    assert_eq!(maker.judge(&patient, NOW + DAY + 3599), Ok(()));
    assert!(why(maker.judge(&patient, NOW + DAY + 3600)).contains("is over"));
}

#[test]
fn a_revocation_is_seen_when_the_list_is_fetched_again() {
    let maker = Maker::new();
    let foreign = maker.asker(Maker::settings(&[Method::Crl]));
    maker.lay_list(maker.root.list(1, NOW, &[], None));
    assert_eq!(maker.judge(&foreign, NOW), Ok(()));
    maker.lay_list(maker.root.list(2, NOW + 10, &[3, DEVICE], None));
    foreign.refresh(NOW + 3599);
    assert_eq!(maker.judge(&foreign, NOW + 3599), Ok(()), "not fetched yet");
    foreign.refresh(NOW + 3600);
    assert_eq!(maker.judge(&foreign, NOW + 3600), Err(ForeignFault::Revoked));
    let taken = maker.store.find(Query::ForeignLists(Span::first(9))).expect("answer").all(Record::foreign_list);
    assert_eq!(taken.iter().map(|list| list.number.clone()).collect::<Vec<_>>(), [vec![2]]);
    let lines = maker.store.find(Query::Leaves(Span::first(9))).expect("answer").all(Record::leaf);
    assert_eq!(lines.iter().filter(|leaf| leaf.line.contains("foreign_list_taken")).count(), 2);
}

#[test]
fn a_list_that_is_forged_old_or_not_about_it_is_not_believed() {
    let other = Party::new("CN=Maker");
    let maker = Maker::new();
    let url = maker.pages.url("list");
    let mut turned = maker.root.list(1, NOW, &[], None);
    let last = turned.len() - 1;
    turned[last] ^= 1;
    let rows: [(Vec<u8>, &str); 8] = [
        (other.list(1, NOW, &[], None), "signature"),
        (Party::new("CN=Other").list(1, NOW, &[], None), "another issuer"),
        (turned, "signature"),
        (b"<html>".to_vec(), "no CRL"),
        (maker.root.list(1, NOW - DAY, &[], None), "is over"),
        (maker.root.list(1, NOW + 301, &[], None), "future"),
        (vec![0x30; 2 << 20], "larger than"),
        // It is good for others, so it is the last: it is kept.
        (maker.root.list(1, NOW, &[], Some("http://127.0.0.1/another")), "does not speak for"),
    ];
    for (list, expected) in rows {
        let foreign = maker.asker(Maker::settings(&[Method::Crl]));
        maker.lay_list(list);
        let said = why(maker.judge(&foreign, NOW));
        assert!(said.contains(expected), "{expected}: {said}");
    }
    // One of its own place is.
    let maker = Maker { store: Arc::new(RedbStore::in_memory().expect("store")), ..maker };
    maker.lay_list(maker.root.list(1, NOW, &[], Some(&url)));
    assert_eq!(maker.judge(&maker.asker(Maker::settings(&[Method::Crl])), NOW), Ok(()));
}

#[test]
fn numbers_never_go_back_also_after_a_start() {
    let maker = Maker::new();
    let settings = || Maker::settings(&[Method::Crl]);
    maker.lay_list(maker.root.list(300, NOW, &[DEVICE], None));
    assert_eq!(maker.judge(&maker.asker(settings()), NOW), Err(ForeignFault::Revoked));
    // Somebody on the way gives an older list that is good in itself, and a newer one with an older number.
    for list in [maker.root.list(299, NOW - 10, &[], None), maker.root.list(255, NOW + 3600, &[], None)] {
        maker.lay_list(list);
        let foreign = maker.asker(settings());
        foreign.refresh(NOW + 3600);
        assert_eq!(maker.judge(&foreign, NOW + 3600), Err(ForeignFault::Revoked));
        assert!(why(maker.judge(&foreign, NOW + DAY)).contains("older"));
    }
}

#[test]
fn who_does_not_answer_is_left_alone_for_a_while() {
    let maker = Maker::new();
    let foreign = maker.asker(Maker::settings(&[Method::Crl]));
    for at in [0, 1, 29] {
        assert!(why(maker.judge(&foreign, NOW + at)).contains("404"), "{at}");
    }
    assert_eq!(*maker.pages.asked.lock(), 1);
    maker.lay_list(maker.root.list(1, NOW, &[], None));
    assert_eq!(maker.judge(&foreign, NOW + 30), Ok(()));
}

/// How the responder of a test behaves.
#[derive(Clone, Copy)]
struct Manner {
    status: Status,
    /// From when to when.
    times: (i64, i64),
    gives_nonce: bool,
    /// What its certificate lacks.
    lacks: &'static str,
    /// It signs with another key than its certificate's.
    forges: bool,
    /// It speaks of another serial number.
    errs: bool,
}

const GOOD: Manner =
    Manner { status: Status::Good, times: (NOW, NOW + DAY), gives_nonce: true, lacks: "", forges: false, errs: false };

fn lay_responder(maker: &Maker, manner: Manner) {
    let responder = Party::new("CN=Responder");
    let mut extensions = vec![extension::basic_constraints_end_entity().expect("encodes")];
    if manner.lacks != "purpose" {
        extensions.push(extension::extended_key_usage(&[extension::OCSP_SIGNING]).expect("encodes"));
    }
    if manner.lacks != "nocheck" {
        extensions.push(extension::ocsp_no_check().expect("encodes"));
    }
    let issuer = if manner.lacks == "issuer" { &Party::new("CN=Maker") } else { &maker.root };
    let certificate = issuer.certify(&responder, 8, extensions).to_der().expect("encodes");
    let answer = move |questions: &Questions| {
        let asked = &questions.certificates[0];
        let hashes = ocsp::IssuerHashes::new(0, b"other", b"other").expect("a row");
        let other = ocsp::CertId::new(0, &hashes, &[DEVICE]).expect("encodes");
        let about = if manner.errs { &other } else { asked };
        let single = ocsp::single(about, manner.status, manner.times.0, manner.times.1).expect("encodes");
        let bits = responder.spki().subject_public_key.raw_bytes().to_vec();
        let id = ocsp::responder_id(ResponderId::ByKey, &[], &bits);
        let nonce = questions.nonce.as_deref().filter(|_| manner.gives_nonce);
        let data = ocsp::response_data(&id, NOW, &[single], nonce).expect("encodes");
        let signature = if manner.forges { Party::new("CN=X").signature(&data) } else { responder.signature(&data) };
        ocsp::response(&data, &KeySpec::EcP256.signature_algorithm(), &signature, &certificate).expect("encodes")
    };
    maker.pages.lay("ocsp", Page::Responder(Arc::new(answer)));
}

#[test]
fn a_responder_says_good_revoked_or_unknown() {
    let maker = Maker::new();
    let revoked = Status::Revoked { at: NOW - 5, reason: 1 };
    for (status, expected) in [(Status::Good, Ok(())), (revoked, Err(ForeignFault::Revoked))] {
        lay_responder(&maker, Manner { status, ..GOOD });
        assert_eq!(maker.judge(&maker.asker(Maker::settings(&[Method::Ocsp])), NOW), expected);
    }
    // Whom his issuer does not know is not good by any other way.
    lay_responder(&maker, Manner { status: Status::Unknown, ..GOOD });
    maker.lay_list(maker.root.list(1, NOW, &[], None));
    let foreign = maker.asker(Maker::settings(&[Method::Ocsp, Method::Crl]));
    assert!(why(maker.judge(&foreign, NOW)).contains("does not know it"));
}

#[test]
fn an_answer_is_remembered_until_its_end_and_then_asked_for_again() {
    let maker = Maker::new();
    let foreign = maker.asker(Maker::settings(&[Method::Ocsp]));
    lay_responder(&maker, Manner { times: (NOW, NOW + 100), ..GOOD });
    for at in [0, 50, 99] {
        assert_eq!(maker.judge(&foreign, NOW + at), Ok(()), "{at}");
    }
    assert_eq!(*maker.pages.asked.lock(), 1);
    maker.pages.take_away();
    assert!(why(maker.judge(&foreign, NOW + 100)).contains("404"));
}

#[test]
fn an_answer_that_does_not_count_is_not_believed() {
    let maker = Maker::new();
    let rows: [(Manner, &str); 7] = [
        (Manner { forges: true, ..GOOD }, "signature is false"),
        (Manner { errs: true, ..GOOD }, "says nothing of"),
        (Manner { lacks: "purpose", ..GOOD }, "not one for OCSP"),
        (Manner { lacks: "nocheck", ..GOOD }, "nocheck"),
        (Manner { lacks: "issuer", ..GOOD }, "did not certify"),
        (Manner { times: (NOW - DAY, NOW), ..GOOD }, "not current"),
        (Manner { times: (NOW + 301, NOW + DAY), ..GOOD }, "not current"),
    ];
    for (manner, expected) in rows {
        lay_responder(&maker, manner);
        let said = why(maker.judge(&maker.asker(Maker::settings(&[Method::Ocsp])), NOW));
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn a_nonce_must_be_given_back_if_it_is_there_or_asked_for() {
    let maker = Maker::new();
    let needs_nonce = Settings { needs_nonce: true, ..Maker::settings(&[Method::Ocsp]) };
    lay_responder(&maker, GOOD);
    assert_eq!(maker.judge(&maker.asker(needs_nonce.clone()), NOW), Ok(()));
    lay_responder(&maker, Manner { gives_nonce: false, ..GOOD });
    assert_eq!(maker.judge(&maker.asker(Maker::settings(&[Method::Ocsp])), NOW), Ok(()));
    assert!(why(maker.judge(&maker.asker(needs_nonce), NOW)).contains("nonce"));
    // An answer to somebody else's question.
    lay_responder(&maker, GOOD);
    let Some(Page::Responder(answer)) = maker.pages.pages.lock().get("/ocsp").cloned() else { panic!("a responder") };
    let stale = move |asked: &Questions| {
        answer(&Questions { nonce: Some(vec![7; 32]), certificates: asked.certificates.clone() })
    };
    maker.pages.lay("ocsp", Page::Responder(Arc::new(stale)));
    assert!(why(maker.judge(&maker.asker(Maker::settings(&[Method::Ocsp])), NOW)).contains("nonce"));
}

#[test]
fn the_second_way_is_asked_when_the_first_does_not_know() {
    let maker = Maker::new();
    let foreign = maker.asker(Maker::settings(&[Method::Crl, Method::Ocsp]));
    lay_responder(&maker, GOOD);
    assert_eq!(maker.judge(&foreign, NOW), Ok(()));
    // And an address of the configuration before those in the certificate.
    maker.pages.take_away();
    maker.pages.lay("elsewhere", Page::Bytes(maker.root.list(1, NOW, &[DEVICE], None)));
    let crl_urls = vec![maker.pages.url("elsewhere")];
    let foreign = maker.asker(Settings { crl_urls, ..Maker::settings(&[Method::Crl]) });
    assert_eq!(maker.judge(&foreign, NOW), Err(ForeignFault::Revoked));
}
