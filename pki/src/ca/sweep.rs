//! Revoking very many certificates: one mark, from which on all of them are revoked for everyone who asks, and then their records in
//! pieces, between which the store does other work. The mark goes away with the last piece; whoever finds one goes on with it, so that
//! a kill between two pieces loses nothing. The lists are made when the last piece is done.

use super::revoke::{self, Cause, Selection};
use super::{CaError, PIECE, hindsight};
use crate::store::query::{Cursor, Span};
use crate::store::record::{Certificate, CertificateState, CrlList, Sweep};
use crate::store::{Change, Conflict, Query, Record, Store, StoreError};
use crate::x509::reason;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use x509_cert::ext::pkix::CrlReason;

/// One of this process goes on with sweeps at a time; two would only hinder each other.
static TURN: Mutex<()> = Mutex::new(());

/// What was revoked together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// How many certificates.
    pub(crate) count: usize,
    /// The lists that they belong on.
    pub(crate) lists: BTreeSet<CrlList>,
}

impl Swept {
    fn add(&mut self, certificates: &[Certificate]) {
        self.count += certificates.len();
        let list_of = |certificate: &Certificate| CrlList::base(&certificate.authority, certificate.crl_shard);
        self.lists.extend(certificates.iter().map(list_of));
    }
}

/// Revokes what is selected and not revoked or expired yet: few in one change, many by a sweep.
///
/// # Errors
/// [`Conflict::Missing`] for a serial number that was never issued; then nothing is revoked. When the store fails in the middle of a
/// sweep, the rest follows.
pub(crate) fn revoke_all(store: &dyn Store, selection: &Selection, cause: Cause, now: i64) -> Result<Swept, CaError> {
    let mut swept = Swept::default();
    // Of one device there are never many.
    let is_of_device = matches!(selection, Selection::Device(_));
    if is_of_device || revoke::selected(store, selection, cause, now, PIECE + 1)?.len() <= PIECE {
        swept.add(&revoke::revoke_all(store, selection, cause, now)?);
        return Ok(swept);
    }
    let sweep =
        Sweep { ahead_until: hindsight::ahead(store)?.map_or(0, |ahead| ahead.until), ..begun(selection, cause, now) };
    store.commit(Change::SweepBegun(sweep.clone()))?;
    let _turn = TURN.lock();
    go_on_with(store, &sweep.id, &mut swept)?;
    Ok(swept)
}

/// Goes on with the sweeps that broke off, unless another is about it. Gives what was revoked.
///
/// # Errors
/// When the store fails.
pub(crate) fn go_on(store: &dyn Store) -> Result<Swept, CaError> {
    let mut swept = Swept::default();
    let Some(_turn) = TURN.try_lock() else { return Ok(swept) };
    for sweep in open(store)? {
        go_on_with(store, &sweep.id, &mut swept)?;
    }
    Ok(swept)
}

/// The sweeps that are not done.
///
/// # Errors
/// When the store fails.
pub(crate) fn open(store: &dyn Store) -> Result<Vec<Sweep>, StoreError> {
    Ok(store.find(Query::Sweeps)?.all(Record::sweep))
}

fn begun(selection: &Selection, cause: Cause, now: i64) -> Sweep {
    let mut sweep =
        Sweep { reason: reason::code(cause.reason), at: now, invalid_since: cause.invalid_since, ..Sweep::default() };
    match selection {
        Selection::Authority(authority) => sweep.authority.clone_from(authority),
        // In one change: see above.
        Selection::Device(_) => {}
        Selection::Label(label) => (sweep.is_of_label, sweep.label) = (true, label.clone()),
        Selection::Serials(serials) => {
            sweep.serials.clone_from(serials);
            sweep.serials.sort_unstable();
            sweep.serials.dedup();
        }
    }
    sweep.id = crate::x509::sha256(&prost::Message::encode_to_vec(&sweep)).to_vec();
    sweep
}

impl Sweep {
    /// True when a certificate is revoked by this sweep, whether its record says so already or not.
    pub(crate) fn takes(&self, certificate: &Certificate) -> bool {
        let is_revocable = match certificate.state() {
            CertificateState::Active | CertificateState::Superseded => true,
            CertificateState::OnHold => self.reason != reason::code(CrlReason::CertificateHold),
            _ => false,
        };
        let is_of_its_time = certificate.not_after > self.at && certificate.issued_at <= self.at.max(self.ahead_until);
        let is_meant = if !self.serials.is_empty() {
            self.serials.binary_search(&certificate.serial).is_ok()
        } else if self.is_of_label {
            !certificate.device.is_empty() && certificate.label == self.label
        } else {
            !certificate.device.is_empty() && certificate.authority == self.authority
        };
        is_revocable && is_of_its_time && is_meant
    }

    /// The next certificates of it from a place on, and the place after them; none when they are the last.
    fn piece(&self, store: &dyn Store) -> Result<(Vec<Certificate>, Option<Vec<u8>>), StoreError> {
        let (found, next) = if self.serials.is_empty() {
            let after = (!self.after.is_empty()).then(|| Cursor(self.after.clone()));
            let span = Span { after, limit: PIECE };
            let page = store.find(if self.is_of_label {
                Query::CertificatesUnderLabel { label: self.label.clone(), span }
            } else {
                Query::CertificatesOfAuthority { authority: self.authority.clone(), span }
            })?;
            let next = page.next.clone().map(|cursor| cursor.0);
            (page.all(Record::certificate), next)
        } else {
            let begin = self.serials.partition_point(|serial| *serial <= self.after);
            let mut found = Vec::with_capacity(PIECE);
            for serial in self.serials.iter().skip(begin).take(PIECE) {
                found.extend(store.certificate(serial)?);
            }
            (found, self.serials.get((begin + PIECE).saturating_sub(1)).cloned())
        };
        Ok((found.into_iter().filter(|certificate| self.takes(certificate)).collect(), next))
    }
}

/// Revokes one piece more. False when that was the last, or another has ended the sweep.
pub(crate) fn step(store: &dyn Store, id: &[u8], swept: &mut Swept) -> Result<bool, CaError> {
    let Some(sweep) = open(store)?.into_iter().find(|sweep| sweep.id == id) else { return Ok(false) };
    let (certificates, next) = sweep.piece(store)?;
    let is_last = next.is_none();
    let change = Change::SweepWent {
        id: sweep.id.clone(),
        from: sweep.after.clone(),
        next: next.unwrap_or_default(),
        is_last,
        serials: certificates.iter().map(|certificate| certificate.serial.clone()).collect(),
        reason: sweep.reason,
        at: sweep.at,
        invalid_since: sweep.invalid_since,
    };
    match store.commit(change) {
        // Somebody revoked one of them between the look and the change, or went on with the same sweep: look again.
        Err(StoreError::Conflict(Conflict::AlreadyRevoked | Conflict::Stale)) => Ok(true),
        Err(fault) => Err(fault.into()),
        Ok(()) => {
            swept.add(&certificates);
            Ok(!is_last)
        }
    }
}

fn go_on_with(store: &dyn Store, id: &[u8], swept: &mut Swept) -> Result<(), CaError> {
    while step(store, id, swept)? {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::{Credential, Intent};
    use crate::store::redb::RedbStore;
    use crate::va::status::{self, Standing};

    const NOW: i64 = 1000;
    const CAUSE: Cause = Cause { reason: CrlReason::KeyCompromise, invalid_since: 0 };
    const REVOKED: Standing = Standing::Revoked { at: NOW, reason: 1 };

    fn serial(number: u32) -> Vec<u8> {
        [&[0x41; 12][..], &number.to_be_bytes()].concat()
    }

    /// One certificate, as an enrolment leaves it, without the device's record.
    fn issue(store: &dyn Store, number: u32, label: &str, issued_at: i64) {
        let authority = "issuing".to_owned();
        let intent = Intent { serial: serial(number), authority: authority.clone(), ..Intent::default() };
        store.commit(Change::Intend(intent)).expect("intent");
        let certificate = Certificate {
            serial: serial(number),
            authority,
            state: CertificateState::Active.into(),
            device: if number == 0 { String::new() } else { format!("device-{number}") },
            label: label.to_owned(),
            issued_at,
            not_after: if number == 1 { NOW } else { NOW + 5000 },
            ..Certificate::default()
        };
        store.commit(Change::Issued { role: format!("role-{number}"), certificate }).expect("issued");
    }

    /// Number 0 is the house's own, number 1 has expired, and every third belongs to another label.
    fn fill(store: &dyn Store, count: u32) {
        for number in 0..count {
            issue(store, number, if number % 3 == 2 { "line-2" } else { "line-1" }, 500);
        }
    }

    fn standing(store: &dyn Store, number: u32) -> Standing {
        status::standing(store, "issuing", &serial(number)).expect("answer")
    }

    fn by_record(store: &dyn Store, number: u32) -> CertificateState {
        store.certificate(&serial(number)).expect("answer").expect("a certificate").state()
    }

    #[test]
    fn all_are_revoked_from_the_mark_on_and_their_records_follow() {
        let store = RedbStore::in_memory().expect("store");
        fill(&store, 700);
        let sweep = begun(&Selection::Authority("issuing".to_owned()), CAUSE, NOW);
        store.commit(Change::SweepBegun(sweep.clone())).expect("begun");
        issue(&store, 9000, "line-1", NOW + 1);
        for number in [2, 3, 350, 699] {
            assert_eq!((standing(&store, number), by_record(&store, number)), (REVOKED, CertificateState::Active));
        }
        for number in [0, 1, 9000] {
            assert_eq!(standing(&store, number), Standing::Good, "{number}");
        }
        let mut swept = Swept::default();
        assert_eq!(step(&store, &sweep.id, &mut swept).ok(), Some(true));
        assert_eq!(swept.count, PIECE - 2, "the first two are not meant");
        // Between two pieces the store does other work.
        let credential = Credential { name: "between".to_owned(), ..Credential::default() };
        store.commit(Change::CredentialCreated(credential)).expect("created");
        store
            .commit(Change::Revoked { serials: vec![serial(400)], reason: 4, at: NOW, invalid_since: 0 })
            .expect("one that the next piece has");
        let went = go_on(&store).expect("goes on");
        assert_eq!((swept.count + went.count, went.lists.len()), (700 - 2 - 1, 1));
        assert_eq!(open(&store).expect("answer"), []);
        for number in 2..700 {
            let expected = if number == 400 { Standing::Revoked { at: NOW, reason: 4 } } else { REVOKED };
            assert_eq!((standing(&store, number), by_record(&store, number)), (expected, CertificateState::Revoked));
        }
        for number in [0, 1, 9000] {
            assert_eq!(by_record(&store, number), CertificateState::Active, "{number}");
        }
        let leaves = |serial: Vec<u8>| {
            let about = Query::LeavesAbout { serial, span: Span::first(9) };
            let lines = store.find(about).expect("answer").all(Record::leaf);
            lines.iter().filter(|leaf| leaf.line.contains("\"event\":\"revoked\"")).count()
        };
        assert_eq!((leaves(serial(3)), leaves(serial(400)), leaves(serial(9000))), (1, 1, 0));
    }

    #[test]
    fn a_sweep_that_broke_off_is_gone_on_with_after_a_start() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("pki.redb");
        let selections = [
            Selection::Label("line-1".to_owned()),
            Selection::Serials((2..600).rev().filter(|number| number % 3 == 2).map(serial).collect()),
        ];
        let mut done = 0;
        for (turn, selection) in selections.iter().enumerate() {
            let sweep = begun(selection, CAUSE, NOW);
            let store = RedbStore::open(&path).expect("opens");
            if turn == 0 {
                fill(&store, 900);
            }
            store.commit(Change::SweepBegun(sweep.clone())).expect("begun");
            step(&store, &sweep.id, &mut Swept::default()).expect("a piece");
            drop(store);
            let store = RedbStore::open(&path).expect("opens again");
            assert_eq!(open(&store).expect("answer").len(), usize::from(turn == 0 || sweep.serials.len() > PIECE));
            go_on(&store).expect("goes on");
            let revoked = |number: &u32| by_record(&store, *number) == CertificateState::Revoked;
            done = (0..900).filter(revoked).count();
        }
        let (first, second) = ((2..900).filter(|number| number % 3 != 2), (2..600).filter(|number| number % 3 == 2));
        assert_eq!(done, first.count() + second.count());
    }

    #[test]
    fn few_are_revoked_in_one_change_and_many_by_a_sweep() {
        let store = RedbStore::in_memory().expect("store");
        fill(&store, 600);
        let few = Selection::Serials((10..20).map(serial).collect());
        assert_eq!(revoke_all(&store, &few, CAUSE, NOW).expect("revokes").count, 10);
        let label = Selection::Label("line-1".to_owned());
        let swept = revoke_all(&store, &label, CAUSE, NOW).expect("revokes");
        assert!(swept.count > PIECE, "{}", swept.count);
        let unknown = Selection::Serials((2..600).chain([7000]).map(serial).collect());
        let refused = revoke_all(&store, &unknown, CAUSE, NOW);
        assert_eq!(refused, Err(CaError::Store(Conflict::Missing.into())));
        assert_eq!(by_record(&store, 2), CertificateState::Active, "nothing is revoked");
    }

    #[test]
    fn a_piece_counts_once() {
        let store = RedbStore::in_memory().expect("store");
        fill(&store, 300);
        let sweep = begun(&Selection::Authority("issuing".to_owned()), CAUSE, NOW);
        store.commit(Change::SweepBegun(sweep.clone())).expect("begun");
        assert_eq!(store.commit(Change::SweepBegun(sweep.clone())), Err(Conflict::Exists.into()));
        let went = |from: &[u8]| {
            store.commit(Change::SweepWent {
                id: sweep.id.clone(),
                from: from.to_vec(),
                next: vec![7],
                is_last: false,
                serials: Vec::new(),
                reason: 1,
                at: NOW,
                invalid_since: 0,
            })
        };
        assert_eq!(went(&[]), Ok(()));
        assert_eq!(went(&[]), Err(Conflict::Stale.into()));
        assert_eq!(went(&[7]), Ok(()));
    }
}
