//! Making CRLs (RFC 5280 section 5): the number is durable before the list is signed, the list before it is served.

use crate::ca::authority::Authority;
use crate::ca::revoke::reason_of_code;
use crate::ca::{CaError, Desk};
use crate::store::query::{MAX_PAGE, Span};
use crate::store::record::Crl;
use crate::store::{Change, Query, Record, Store, StoreError};
use crate::x509::tbs::{self, CrlContents, CrlEntry};
use parking_lot::Mutex;

/// How long a CRL is good.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    /// From thisUpdate to nextUpdate.
    pub(crate) validity_seconds: i64,
    /// How long before nextUpdate the next one is due.
    pub(crate) overlap_seconds: i64,
}

/// The one who makes CRLs. One at a time, so that numbers and contents rise together.
pub(crate) struct CrlOffice {
    desk: Desk,
    schedule: Schedule,
    turn: Mutex<()>,
}

impl CrlOffice {
    /// An office at a desk.
    pub(crate) fn new(desk: Desk, schedule: Schedule) -> Self {
        Self { desk, schedule, turn: Mutex::new(()) }
    }

    /// The desk it sits at.
    pub(crate) fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Makes and publishes a new CRL of an authority.
    ///
    /// # Errors
    /// When the token or the store fails; the old CRL stays in place.
    pub(crate) fn publish(&self, authority: &str, now: i64) -> Result<Crl, CaError> {
        let _turn = self.turn.lock();
        let issuer = Authority::load(self.desk.store.as_ref(), authority)?;
        let last = self.desk.store.crl(authority)?.unwrap_or_default();
        let number = last.last_number.saturating_add(1);
        self.desk.store.commit(Change::CrlNumbered { authority: authority.to_owned(), number })?;
        let next_update = now.saturating_add(self.schedule.validity_seconds).min(issuer.not_after);
        let list = tbs::crl(CrlContents {
            algorithm: issuer.key.spec.signature_algorithm(),
            issuer: issuer.name.clone(),
            issuer_key_id: issuer.key_id.clone(),
            number,
            this_update: now,
            next_update,
            entries: entries(self.desk.store.as_ref(), authority)?,
        })?;
        let crl = Crl {
            authority: authority.to_owned(),
            number,
            der: issuer.sign(&self.desk, &list)?,
            this_update: now,
            next_update,
            ..Crl::default()
        };
        self.desk.store.commit(Change::CrlPublished { crl: crl.clone(), answers: last.pending })?;
        tracing::info!(event = "crl_published", authority, number, next_update);
        Ok(crl)
    }

    /// Publishes what is due: lists that run out soon, and lists that miss a revocation.
    ///
    /// # Errors
    /// The first failure, after every authority had its turn.
    pub(crate) fn publish_due(&self, now: i64) -> Result<(), CaError> {
        let mut outcome = Ok(());
        for authority in self.desk.authorities()? {
            // Who has no key here publishes elsewhere.
            if !authority.has_key() {
                continue;
            }
            let authority = authority.id.as_str();
            let due = self.desk.store.crl(authority).map(|crl| {
                crl.is_none_or(|crl| {
                    crl.number == 0
                        || crl.pending > 0
                        || crl.next_update.saturating_sub(self.schedule.overlap_seconds) <= now
                })
            });
            let published = match due {
                Ok(true) => self.publish(authority, now).map(drop),
                Ok(false) => Ok(()),
                Err(fault) => Err(fault.into()),
            };
            if let Err(fault) = published {
                tracing::error!(event = "crl_not_published", authority, %fault);
                outcome = Err(fault);
            }
        }
        outcome
    }
}

fn entries(store: &dyn Store, authority: &str) -> Result<Vec<CrlEntry>, StoreError> {
    let mut entries = Vec::new();
    let mut after = None;
    loop {
        let span = Span { after, limit: MAX_PAGE };
        let page = store.find(Query::Revocations { authority: authority.to_owned(), span })?;
        after = page.next.clone();
        entries.extend(page.all(Record::revocation).into_iter().map(|revocation| CrlEntry {
            serial: revocation.serial,
            revoked_at: revocation.revoked_at,
            reason: reason_of_code(revocation.reason),
        }));
        if after.is_none() {
            return Ok(entries);
        }
    }
}
