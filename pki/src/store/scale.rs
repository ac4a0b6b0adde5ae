//! What the store costs when it is large: acts of every day read as many records among many certificates as among few. The records
//! are counted, not the time. And a filler for `scripts/scale-pki`, which measures the time.

use super::query::Span;
use super::record::{Authority, Certificate, CertificateState, Device, DeviceState, Intent};
use super::redb::RedbStore;
use super::{Change, Query, Record, Store, Supersession};
use crate::clock::DAY_SECONDS;
use crate::device::expiry::{self, Notices};
use crate::metrics;
use crate::va::status::{self, Standing};
use crate::x509::sha256;
use std::sync::atomic::{AtomicU64, Ordering};

/// Certificates under one authority, as an enrolment leaves them; only the signature is none.
struct Crowd<'a> {
    authority: &'a str,
    label: &'a str,
    /// A certificate with this serial number inside, to be replaced.
    template: (&'a [u8], &'a [u8]),
    now: i64,
}

impl Crowd<'_> {
    /// Serial numbers rise with the number: what is filled in order is written in order, which only the filling profits from.
    fn serial(number: u64) -> Vec<u8> {
        [&[0x41, 0x5C, 0xA1, 0xE0, 0, 0, 0, 0][..], &number.to_be_bytes()].concat()
    }

    fn device(number: u64) -> String {
        format!("scale-{number:09}")
    }

    fn certificate(&self, number: u64) -> Certificate {
        let (template, replaced) = self.template;
        let (serial, mut der) = (Self::serial(number), template.to_vec());
        if let Some(at) = der.windows(replaced.len().max(1)).position(|window| window == replaced) {
            der[at..at + serial.len()].copy_from_slice(&serial);
        }
        // They come of age one after another, from a month on.
        let spread = i64::try_from(number % 4_000_000).expect("fits");
        Certificate {
            spki_sha256: sha256(&serial).to_vec(),
            serial,
            authority: self.authority.to_owned(),
            kind: "device".to_owned(),
            der,
            subject: format!("CN={}", Self::device(number)),
            not_before: self.now,
            not_after: self.now + 90 * DAY_SECONDS + spread,
            issued_at: self.now,
            state: CertificateState::Active.into(),
            device: Self::device(number),
            profile: "device".to_owned(),
            label: self.label.to_owned(),
            warn_at: self.now + 30 * DAY_SECONDS + spread,
            ..Certificate::default()
        }
    }

    fn enrol(&self, store: &dyn Store, number: u64) {
        let certificate = self.certificate(number);
        let intent = Intent {
            serial: certificate.serial.clone(),
            authority: certificate.authority.clone(),
            device: certificate.device.clone(),
            began_at: self.now,
            not_after: certificate.not_after,
            subject: certificate.subject.clone(),
            ..Intent::default()
        };
        let device = Device {
            id: certificate.device.clone(),
            state: DeviceState::FullyProvisioned.into(),
            certificate: certificate.serial.clone(),
            created_at: self.now,
            changed_at: self.now,
            label: self.label.to_owned(),
            revision: 0,
            ..Device::default()
        };
        store.commit(Change::Intend(intent)).expect("intent");
        let change = Change::Enrolled { certificate, device, supersession: Supersession::Expire };
        store.commit(change).expect("enrolled");
    }
}

const NOW: i64 = 1_800_000_000;
const FEW: Crowd<'_> = Crowd { authority: "issuing", label: "", template: (&[], &[]), now: NOW };

fn store_of(certificates: u64) -> RedbStore {
    let store = RedbStore::in_memory().expect("store");
    for (id, parent) in [("root", ""), ("issuing", "root")] {
        let certificate = super::conformance::authority_der();
        let authority = Authority { id: id.to_owned(), parent: parent.to_owned(), certificate, ..Authority::default() };
        store.commit(Change::AuthorityImported(authority)).expect("imported");
    }
    for number in 0..certificates {
        FEW.enrol(&store, number);
    }
    store
}

/// An act of every day.
type Act = fn(&RedbStore);

const ACTS: &[(&str, Act)] = &[
    ("the standing of a certificate", |store| {
        let standing = status::standing(store, "issuing", &Crowd::serial(7)).expect("answer");
        assert_eq!(standing, Standing::Good);
    }),
    ("a look at what comes of age, when nothing does", |store| {
        assert_eq!(expiry::pass_due(store, NOW, Notices::Kept), Ok(0));
    }),
    ("what monitors read", |store| {
        assert!(metrics::text(store).expect("text").contains("craton_pki_devices"));
    }),
    ("an enrolment", |store| FEW.enrol(store, 10_000_000)),
    ("a revocation", |store| {
        let change = Change::Revoked { serials: vec![Crowd::serial(3)], reason: 1, at: NOW, invalid_since: 0 };
        store.commit(change).expect("revoked");
    }),
    ("a list's number", |store| {
        store.commit(Change::CrlNumbered { list: "issuing".to_owned(), number: 1, lists: 1 }).expect("numbered");
    }),
    ("the revocation of an authority", |store| {
        store.commit(Change::AuthorityRevoked { id: "issuing".to_owned(), reason: 2, at: NOW }).expect("revoked");
        let standing = status::standing(store, "issuing", &Crowd::serial(9)).expect("answer");
        assert_eq!(standing, Standing::Revoked { at: NOW, reason: 2 });
    }),
];

#[test]
fn acts_of_every_day_read_as_little_among_many_as_among_few() {
    let (few, many) = (store_of(20), store_of(3000));
    for (name, act) in ACTS {
        let read = |store: &RedbStore| {
            let before = store.rows_read() + store.rows_read_by_changes();
            act(store);
            store.rows_read() + store.rows_read_by_changes() - before
        };
        let (among_few, among_many) = (read(&few), read(&many));
        // The tree of the journal grows by one level when it doubles.
        assert!(among_many <= among_few + 30, "{name}: {among_few} records among few, {among_many} among many");
        assert!(among_many < 120, "{name}: {among_many} records");
    }
}

/// Fills the store of a founded PKI, as `scripts/scale-pki` asks for it by its environment: `CRATON_SCALE_STORE`, the file;
/// `CRATON_SCALE_TEMPLATE`, a device certificate (DER) and `CRATON_SCALE_SERIAL`, its serial number in hexadecimal;
/// `CRATON_SCALE_CROWDS`, words AUTHORITY:LABEL:COUNT.
#[test]
#[ignore = "it fills a store for a measurement: scripts/scale-pki runs it"]
fn fills_a_store() {
    let given = |name: &str| std::env::var(name).expect(name);
    let template = std::fs::read(given("CRATON_SCALE_TEMPLATE")).expect("template");
    let replaced = data_encoding::HEXLOWER_PERMISSIVE.decode(given("CRATON_SCALE_SERIAL").as_bytes()).expect("serial");
    let store = RedbStore::open(given("CRATON_SCALE_STORE").as_ref()).expect("store");
    let now = crate::clock::now();
    let mut begin = 0;
    for crowd in given("CRATON_SCALE_CROWDS").split_whitespace() {
        let words: Vec<&str> = crowd.split(':').collect();
        let [authority, label, count] = words.as_slice() else { panic!("'{crowd}' is not AUTHORITY:LABEL:COUNT") };
        let count: u64 = count.parse().expect("a count");
        let crowd = Crowd { authority, label, template: (&template, &replaced), now };
        let next = AtomicU64::new(begin);
        begin += count;
        std::thread::scope(|scope| {
            // As many as the pen takes into one transaction.
            for _ in 0..256 {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= begin {
                            break;
                        }
                        crowd.enrol(&store, number);
                    }
                });
            }
        });
    }
    let counted = store.find(Query::Counts(Span::first(100))).expect("answer").all(Record::named_count);
    assert!(counted.iter().any(|(_, count)| *count >= begin), "{counted:?}");
}
