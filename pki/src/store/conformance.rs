//! What every back end of the store must do. Each test runs on every back end.

use super::change::Doubt;
use super::query::Span;
use super::record::{
    Authority, AuthorityState, Certificate, CertificateState, Credential, Crl, Device, DeviceState, DueEvent, Intent,
    KeyPlan,
};
use super::redb::RedbStore;
use super::{Change, Conflict, Passed, Query, Record, Store, StoreError, Supersession};

/// Runs a test on each back end.
fn on_each(test: fn(&dyn Store)) {
    test(&RedbStore::in_memory().expect("memory store"));
    let directory = tempfile::tempdir().expect("temporary directory");
    test(&RedbStore::open(&directory.path().join("pki.redb")).expect("file store"));
}

fn intent(serial: u8, device: &str) -> Intent {
    Intent {
        serial: vec![serial; 16],
        authority: "issuing".to_owned(),
        device: device.to_owned(),
        not_after: 1000,
        subject: format!("CN={device}"),
        ..Intent::default()
    }
}

fn certificate(serial: u8, device: &str) -> Certificate {
    Certificate {
        serial: vec![serial; 16],
        authority: "issuing".to_owned(),
        kind: "device".to_owned(),
        der: vec![0x30, serial],
        subject: format!("CN={device}"),
        not_after: 1000,
        issued_at: 10,
        state: CertificateState::Active.into(),
        device: device.to_owned(),
        spki_sha256: vec![serial; 32],
        ..Certificate::default()
    }
}

fn device(id: &str, certificate: u8, revision: u64) -> Device {
    Device {
        id: id.to_owned(),
        state: DeviceState::FullyProvisioned.into(),
        certificate: vec![certificate; 16],
        revision,
        ..Device::default()
    }
}

fn enrolled(serial: u8, id: &str, revision: u64) -> Change {
    Change::Enrolled {
        certificate: certificate(serial, id),
        device: device(id, serial, revision),
        supersession: Supersession::Expire,
    }
}

fn enrol(store: &dyn Store, serial: u8, id: &str, revision: u64) {
    store.commit(Change::Intend(intent(serial, id))).expect("intent");
    store.commit(enrolled(serial, id, revision)).expect("enrolled");
}

fn revoked(serials: &[u8], reason: u32) -> Change {
    let serials = serials.iter().map(|serial| vec![*serial; 16]).collect();
    Change::Revoked { serials, reason, at: 20, invalid_since: 0 }
}

fn refused(answer: Result<(), StoreError>, conflict: Conflict) {
    assert_eq!(answer, Err(StoreError::Conflict(conflict)));
}

fn state(store: &dyn Store, serial: u8) -> CertificateState {
    store.certificate(&[serial; 16]).expect("answer").expect("certificate").state()
}

fn revocations(store: &dyn Store, authority: &str) -> usize {
    let query = Query::Revocations { list: authority.to_owned(), span: Span::first(100) };
    store.find(query).expect("answer").records.len()
}

#[test]
fn an_enrolment_is_found_by_every_question() {
    on_each(|store| {
        enrol(store, 1, "sensor", 0);
        assert_eq!(store.certificate(&[1; 16]).expect("answer"), Some(certificate(1, "sensor")));
        assert_eq!(store.device("sensor").expect("answer"), Some(device("sensor", 1, 1)));
        assert_eq!(store.key_use(&[1; 32]).expect("answer").map(|found| found.device), Some("sensor".to_owned()));
        let of_device = Query::CertificatesOfDevice { device: "sensor".to_owned(), span: Span::first(10) };
        assert_eq!(store.find(of_device).expect("answer").records.len(), 1);
        let of_prefix = Query::CertificatesOfDevice { device: "sens".to_owned(), span: Span::first(10) };
        assert_eq!(store.find(of_prefix).expect("answer").records.len(), 0);
        assert!(store.find(Query::Intents).expect("answer").records.is_empty());
    });
}

#[test]
fn a_serial_number_is_given_once() {
    on_each(|store| {
        store.commit(Change::Intend(intent(1, "a"))).expect("intent");
        refused(store.commit(Change::Intend(intent(1, "b"))), Conflict::SerialTaken);
        store.commit(enrolled(1, "a", 0)).expect("enrolled");
        refused(store.commit(Change::Intend(intent(1, "b"))), Conflict::SerialTaken);
    });
}

#[test]
fn nothing_is_enrolled_without_an_intent() {
    on_each(|store| {
        refused(store.commit(enrolled(1, "a", 0)), Conflict::NoIntent);
        assert_eq!(store.certificate(&[1; 16]).expect("answer"), None);
        assert_eq!(store.device("a").expect("answer"), None);
    });
}

#[test]
fn one_enrolment_of_a_device_at_a_time() {
    on_each(|store| {
        store.commit(Change::Intend(intent(1, "a"))).expect("intent");
        refused(store.commit(Change::Intend(intent(2, "a"))), Conflict::Busy);
        let nothing = Change::Abandoned { serial: vec![1; 16], doubt: Doubt::NothingSigned, at: 5 };
        store.commit(nothing).expect("abandoned");
        assert_eq!(revocations(store, "issuing"), 0);
        enrol(store, 2, "a", 0);
    });
}

#[test]
fn a_replacement_leaves_one_active_certificate() {
    on_each(|store| {
        enrol(store, 1, "a", 0);
        let second = Intent { replaces: vec![1; 16], ..intent(2, "a") };
        store.commit(Change::Intend(second)).expect("intent");
        store.commit(enrolled(2, "a", 1)).expect("enrolled");
        assert_eq!(state(store, 1), CertificateState::Superseded);
        assert_eq!(state(store, 2), CertificateState::Active);
        let third = Intent { replaces: vec![1; 16], ..intent(3, "a") };
        refused(store.commit(Change::Intend(third)), Conflict::NotActive);
    });
}

#[test]
fn a_device_that_changed_meanwhile_is_not_overwritten() {
    on_each(|store| {
        enrol(store, 1, "a", 0);
        store.commit(Change::Intend(intent(2, "a"))).expect("intent");
        refused(store.commit(enrolled(2, "a", 0)), Conflict::Stale);
        assert_eq!(store.certificate(&[2; 16]).expect("answer"), None);
    });
}

#[test]
fn a_credential_pays_once() {
    on_each(|store| {
        let credential = Credential { name: "boot".to_owned(), ..Credential::default() };
        store.commit(Change::CredentialCreated(credential.clone())).expect("credential");
        refused(store.commit(Change::CredentialCreated(credential)), Conflict::Exists);
        let paid = |serial, device| Intent { credential: "boot".to_owned(), ..intent(serial, device) };
        store.commit(Change::Intend(paid(1, "a"))).expect("intent");
        refused(store.commit(Change::Intend(paid(2, "b"))), Conflict::Busy);
        store.commit(enrolled(1, "a", 0)).expect("enrolled");
        refused(store.commit(Change::Intend(paid(2, "b"))), Conflict::Spent);
        assert_eq!(store.credential("boot").expect("answer").map(|c| c.used_for), Some(vec![1; 16]));
    });
}

#[test]
fn a_revocation_happens_once_and_moves_the_device() {
    on_each(|store| {
        enrol(store, 1, "a", 0);
        let revoke = revoked(&[1], 1);
        store.commit(revoke.clone()).expect("revoked");
        refused(store.commit(revoke), Conflict::AlreadyRevoked);
        assert_eq!(state(store, 1), CertificateState::Revoked);
        assert_eq!(store.device("a").expect("answer").map(|d| d.state()), Some(DeviceState::RequiresAction));
        assert!(store.key_use(&[1; 32]).expect("answer").expect("known").compromised);
        assert_eq!(revocations(store, "issuing"), 1);
        assert_eq!(revocations(store, "root"), 0);
        refused(store.commit(revoked(&[9], 0)), Conflict::Missing);
    });
}

#[test]
fn a_doubtful_serial_number_goes_on_the_crl() {
    on_each(|store| {
        store.commit(Change::Intend(intent(1, "a"))).expect("intent");
        store.commit(Change::Abandoned { serial: vec![1; 16], doubt: Doubt::MaybeSigned, at: 5 }).expect("abandoned");
        assert_eq!(state(store, 1), CertificateState::Abandoned);
        assert_eq!(revocations(store, "issuing"), 1);
        enrol(store, 2, "a", 0);
    });
}

#[test]
fn many_are_revoked_together_or_not_at_all() {
    on_each(|store| {
        for serial in 1..=3 {
            enrol(store, serial, &format!("device-{serial}"), 0);
        }
        refused(store.commit(revoked(&[1, 2, 9], 4)), Conflict::Missing);
        store.commit(revoked(&[2], 4)).expect("revoked");
        refused(store.commit(revoked(&[1, 2], 4)), Conflict::AlreadyRevoked);
        assert_eq!(state(store, 1), CertificateState::Active);
        store.commit(revoked(&[1, 3, 1], 4)).expect("revoked");
        assert_eq!(revocations(store, "issuing"), 3);
        assert_eq!(store.device("device-3").expect("answer").map(|d| d.state()), Some(DeviceState::RequiresAction));
    });
}

#[test]
fn what_is_on_hold_is_released_or_revoked() {
    const HOLD: u32 = 6;
    on_each(|store| {
        enrol(store, 1, "a", 0);
        let release = Change::Released { serial: vec![1; 16], at: 30 };
        refused(store.commit(release.clone()), Conflict::NotOnHold);
        store.commit(revoked(&[1], HOLD)).expect("held");
        refused(store.commit(revoked(&[1], HOLD)), Conflict::AlreadyRevoked);
        assert_eq!(state(store, 1), CertificateState::OnHold);
        assert_eq!(store.device("a").expect("answer").map(|d| d.state()), Some(DeviceState::RequiresAction));
        store.commit(release.clone()).expect("released");
        assert_eq!((state(store, 1), revocations(store, "issuing")), (CertificateState::Active, 0));
        assert_eq!(store.device("a").expect("answer").map(|d| d.state()), Some(DeviceState::FullyProvisioned));
        store.commit(revoked(&[1], HOLD)).expect("held again");
        store.commit(revoked(&[1], 1)).expect("revoked for good");
        assert_eq!((state(store, 1), revocations(store, "issuing")), (CertificateState::Revoked, 1));
        refused(store.commit(release), Conflict::NotOnHold);
        let query = Query::CrlChanges { list: "issuing".to_owned(), through: 0, span: Span::first(10) };
        let history = store.find(query).expect("answer").all(Record::crl_change);
        assert_eq!(history.iter().map(|change| change.was_listed).collect::<Vec<_>>(), [false, true, false, true]);
    });
}

#[test]
fn standing_changes_are_counted() {
    on_each(|store| {
        enrol(store, 1, "a", 0);
        let before = store.standing_changes();
        enrol(store, 2, "b", 0);
        assert_eq!(store.standing_changes(), before, "a new certificate alters nobody's standing");
        store.commit(revoked(&[1], 0)).expect("revoked");
        assert!(store.standing_changes() > before);
    });
}

#[test]
fn certificates_are_found_by_authority_and_by_label() {
    on_each(|store| {
        enrol(store, 1, "a", 0);
        store.commit(Change::Intend(intent(2, "b"))).expect("intent");
        let mut change = enrolled(2, "b", 0);
        if let Change::Enrolled { certificate, .. } = &mut change {
            certificate.label = "line-1".to_owned();
        }
        store.commit(change).expect("enrolled");
        let span = Span::first(10);
        let serials = |query| -> Vec<u8> {
            let found = store.find(query).expect("answer").all(Record::certificate);
            found.iter().map(|certificate| certificate.serial[0]).collect()
        };
        let by =
            |authority: &str| Query::CertificatesOfAuthority { authority: authority.to_owned(), span: span.clone() };
        let under = |label: &str| Query::CertificatesUnderLabel { label: label.to_owned(), span: span.clone() };
        assert_eq!((serials(by("issuing")), serials(by("root"))), (vec![1, 2], vec![]));
        assert_eq!((serials(under("line-1")), serials(under("")), serials(under("line"))), (vec![2], vec![1], vec![]));
    });
}

#[test]
fn crl_numbers_only_rise() {
    on_each(|store| {
        let numbered = |number| Change::CrlNumbered { list: "issuing".to_owned(), number, lists: 1 };
        let published = |number, this_update| {
            let crl = Crl { authority: "issuing".to_owned(), number, this_update, ..Crl::default() };
            Change::CrlPublished { crls: vec![crl], answers: 1 }
        };
        refused(store.commit(published(1, 1)), Conflict::Number);
        store.commit(numbered(1)).expect("numbered");
        refused(store.commit(numbered(1)), Conflict::Number);
        refused(store.commit(published(2, 1)), Conflict::Number);
        store.commit(published(1, 1)).expect("published");
        refused(store.commit(published(1, 1)), Conflict::Number);
        store.commit(numbered(9)).expect("a gap is no harm");
        refused(store.commit(numbered(8)), Conflict::Number);
        refused(store.commit(published(8, 2)), Conflict::Number);
        store.commit(published(9, 2)).expect("published");
    });
}

#[test]
fn an_expired_revocation_stays_for_one_crl_after_its_expiry() {
    on_each(|store| {
        enrol(store, 1, "a", 0);
        store.commit(revoked(&[1], 0)).expect("revoked");
        assert_eq!(store.crl("issuing").expect("answer").map(|crl| crl.pending), Some(1));
        for (number, this_update, left) in [(1, 900, 1), (2, 1001, 0)] {
            store.commit(Change::CrlNumbered { list: "issuing".to_owned(), number, lists: 1 }).expect("numbered");
            let crl = Crl { authority: "issuing".to_owned(), number, this_update, ..Crl::default() };
            store.commit(Change::CrlPublished { crls: vec![crl], answers: 1 }).expect("published");
            assert_eq!(revocations(store, "issuing"), left, "after {this_update}");
        }
        assert_eq!(store.crl("issuing").expect("answer").map(|crl| crl.pending), Some(0));
    });
}

#[test]
fn pages_join_without_gap_or_repeat() {
    on_each(|store| {
        for serial in 1..=7 {
            enrol(store, serial, &format!("device-{serial}"), 0);
        }
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = store.find(Query::Certificates(Span { after, limit: 3 })).expect("answer");
            assert!(page.records.len() <= 3);
            after = page.next.clone();
            seen.extend(page.all(Record::certificate).into_iter().map(|found| found.serial[0]));
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7]);
    });
}

#[test]
fn an_authority_and_its_key_plan_are_made_once() {
    on_each(|store| {
        let plan = KeyPlan { role: "root".to_owned(), key_id: vec![1], ..KeyPlan::default() };
        store.commit(Change::KeyPlanned(plan.clone())).expect("planned");
        refused(store.commit(Change::KeyPlanned(plan.clone())), Conflict::Exists);
        assert_eq!(store.key_plan("root").expect("answer"), Some(plan));
        let authority = Authority { id: "root".to_owned(), ..Authority::default() };
        let created = Change::AuthorityCreated { authority: authority.clone(), certificate: certificate(1, "") };
        refused(store.commit(created.clone()), Conflict::NoIntent);
        store.commit(Change::Intend(intent(1, ""))).expect("intent");
        store.commit(created.clone()).expect("created");
        refused(store.commit(created), Conflict::Exists);
        assert_eq!(store.authority("root").expect("answer"), Some(authority));
    });
}

#[test]
fn what_is_due_comes_once_in_the_order_of_time() {
    on_each(|store| {
        for (serial, warn_at) in [(1, 700), (2, 600)] {
            store.commit(Change::Intend(intent(serial, &format!("device-{serial}")))).expect("intent");
            let mut change = enrolled(serial, &format!("device-{serial}"), 0);
            if let Change::Enrolled { certificate, .. } = &mut change {
                certificate.warn_at = warn_at;
            }
            store.commit(change).expect("enrolled");
        }
        let due = |now| store.find(Query::Due { now }).expect("answer").all(Record::due);
        assert!(due(599).is_empty());
        let both: Vec<_> = due(700).into_iter().map(|due| (due.at, due.event(), due.serial[0])).collect();
        assert_eq!(both, [(600, DueEvent::ExpiryNear, 2), (700, DueEvent::ExpiryNear, 1)]);
        let first = due(600).remove(0);
        let passed = Change::DuePassed(vec![Passed { due: first, device: None, notice: None, next: None }]);
        store.commit(passed.clone()).expect("passed");
        refused(store.commit(passed), Conflict::Missing);
        assert_eq!(due(700).len(), 1);
        assert_eq!(due(1000).last().map(|due| due.event()), Some(DueEvent::Expired));
    });
}

#[test]
fn a_certificate_of_the_house_supersedes_the_one_before() {
    on_each(|store| {
        let issued = |serial| Change::Issued { role: "server".to_owned(), certificate: certificate(serial, "") };
        refused(store.commit(issued(1)), Conflict::NoIntent);
        assert_eq!(store.house("server").expect("answer"), None);
        for serial in [1, 2] {
            store.commit(Change::Intend(intent(serial, ""))).expect("intent");
            store.commit(issued(serial)).expect("issued");
            assert_eq!(store.house("server").expect("answer").map(|found| found.serial), Some(vec![serial; 16]));
        }
        assert_eq!(state(store, 1), CertificateState::Superseded);
        assert_eq!(state(store, 2), CertificateState::Active);
    });
}

#[test]
fn a_store_is_held_by_one_process_and_remembers() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("pki.redb");
    let store = RedbStore::open(&path).expect("opens");
    enrol(&store, 1, "a", 0);
    assert!(matches!(RedbStore::open(&path), Err(StoreError::Held(_))));
    drop(store);
    let again = RedbStore::open(&path).expect("opens again");
    assert!(again.device("a").expect("answer").is_some());
}

#[test]
fn a_truncated_store_is_refused_with_a_sentence() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("pki.redb");
    enrol(&RedbStore::open(&path).expect("opens"), 1, "a", 0);
    let bytes = std::fs::read(&path).expect("reads");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("writes");
    let fault = RedbStore::open(&path).err().expect("a truncated store must not open");
    assert!(fault.to_string().contains("pki.redb"), "{fault}");
}

#[test]
fn a_creation_that_broke_off_is_begun_anew() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("pki.redb");
    std::fs::write(path.with_extension("new"), [0; 4096]).expect("writes");
    drop(RedbStore::open(&path).expect("a new store"));
    assert!(!path.with_extension("new").exists());
    assert!(RedbStore::open(&path).is_ok());
}

#[test]
fn an_edited_store_is_refused_or_says_the_same() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("pki.redb");
    enrol(&RedbStore::open(&path).expect("opens"), 1, "a", 0);
    let good = std::fs::read(&path).expect("reads");
    let in_use: Vec<usize> = (0..good.len()).filter(|index| good[*index] != 0).collect();
    let mut refused = 0;
    for index in in_use.iter().step_by(in_use.len() / 150 + 1) {
        let mut edited = good.clone();
        edited[*index] ^= 0x10;
        std::fs::write(&path, &edited).expect("writes");
        match RedbStore::open(&path) {
            Err(_) => refused += 1,
            Ok(store) => {
                assert_eq!(store.certificate(&[1; 16]), Ok(Some(certificate(1, "a"))), "byte {index}");
                assert_eq!(store.device("a"), Ok(Some(device("a", 1, 1))), "byte {index}");
            }
        }
    }
    assert!(refused > 0, "no edit was noticed");
}

#[test]
fn an_authority_moves_only_from_the_state_it_was_read_with() {
    on_each(|store| {
        let authority = Authority { id: "line".to_owned(), certificate: vec![1], ..Authority::default() };
        store.commit(Change::AuthorityImported(authority.clone())).expect("imported");
        refused(store.commit(Change::AuthorityImported(authority.clone())), Conflict::Exists);
        let held = Authority { state: AuthorityState::OnHold.into(), changed_at: 5, ..authority.clone() };
        store.commit(Change::AuthorityMoved { authority: held.clone(), from: AuthorityState::Active }).expect("moved");
        refused(
            store.commit(Change::AuthorityMoved { authority: held.clone(), from: AuthorityState::Active }),
            Conflict::Stale,
        );
        let other = Authority { certificate: vec![2], ..held.clone() };
        refused(
            store.commit(Change::AuthorityMoved { authority: other, from: AuthorityState::OnHold }),
            Conflict::Stale,
        );
        let nobody = Authority { id: "nobody".to_owned(), ..held.clone() };
        refused(
            store.commit(Change::AuthorityMoved { authority: nobody, from: AuthorityState::OnHold }),
            Conflict::Missing,
        );
        assert_eq!(store.authorities().expect("answer"), [held]);
    });
}

/// A certificate with a signature that means nothing.
pub(super) fn authority_der() -> Vec<u8> {
    use crate::x509::algorithm::{KeySpec, ec_spki, oid};
    use crate::x509::{extension, tbs};
    let name: x509_cert::name::Name = "CN=Issuing".parse().expect("parses");
    let algorithm = KeySpec::EcP256.signature_algorithm();
    let contents = tbs::CertificateContents {
        serial: vec![0x4A; 16],
        algorithm: algorithm.clone(),
        issuer: name.clone(),
        not_before: 0,
        not_after: 1000,
        subject: name,
        spki: ec_spki(oid::P256, &[4; 65]).expect("encodes"),
        extensions: vec![extension::basic_constraints_ca(None).expect("encodes")],
    };
    tbs::join(&tbs::certificate(contents).expect("encodes"), algorithm, &[0; 70]).expect("joins")
}

#[test]
fn an_authority_is_revoked_by_one_mark_however_much_it_issued() {
    use crate::va::status::{Standing, of_record};
    on_each(|store| {
        let authority = Authority { id: "issuing".to_owned(), certificate: authority_der(), ..Authority::default() };
        store.commit(Change::AuthorityImported(authority)).expect("imported");
        for serial in 1..=20 {
            enrol(store, serial, &format!("device-{serial}"), 0);
        }
        let size = |store: &dyn Store| store.find(Query::JournalSize).expect("answer").one(Record::count);
        let (before, changes) = (size(store), store.standing_changes());
        let revoke = Change::AuthorityRevoked { id: "issuing".to_owned(), reason: 2, at: 30 };
        store.commit(revoke.clone()).expect("revoked");
        refused(store.commit(revoke), Conflict::AlreadyRevoked);
        assert_eq!(size(store), before.map(|size| size + 1));
        assert!(store.standing_changes() > changes);
        assert_eq!(revocations(store, "issuing"), 0);
        let certificate = store.certificate(&[7; 16]).expect("answer").expect("certificate");
        assert_eq!(certificate.state(), CertificateState::Active);
        assert_eq!(of_record(store, &certificate), Ok(Standing::Revoked { at: 30, reason: 2 }));
    });
}
