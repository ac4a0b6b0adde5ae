//! The OCSP responder (RFC 6960; RFC 5019 for the answers that caches may keep). It answers from the record of the certificate, by
//! a delegated signer, and remembers what it signed.
//!
//! A remembered answer is given again only while the record still says the same. The store counts the changes that may alter
//! anybody's standing; an answer that was checked at the present count needs no look at the record. So a revocation holds
//! from the moment it is durable, whoever made it, and costs every answer one look.
//!
//! A CertID that names none of our authorities is answered `unauthorized`; a serial number that our authority never gave out is
//! `unknown`, never `good` (RFC 6960 section 2.2).

use super::signer::{self, Signer, SignerRules};
use super::status::{self, Standing};
use crate::ca::{CaError, Desk};
use crate::clock;
use crate::counters;
use crate::store::query::{Cursor, MAX_PAGE, Span};
use crate::store::record::{Certificate, CertificateState};
use crate::store::{Query, Record, StoreError};
use crate::x509::ocsp::{self, CertId, ErrorStatus, Questions, Status};
use der::Encode;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The hash functions whose answers are signed ahead: SHA-1, which most clients use, and SHA-256 (rows of [`ocsp::HASHES`]).
const HASHES_AHEAD: [usize; 2] = [0, 1];
/// Certificates whose answers are signed ahead in one round.
const AHEAD_PER_ROUND: usize = 2000;

/// How answers are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// From thisUpdate to nextUpdate.
    pub(crate) validity_seconds: i64,
    /// Most answers remembered.
    pub(crate) max_remembered: usize,
    /// Whether every active certificate's answer is signed before anybody asks.
    pub(crate) signs_ahead: bool,
}

/// A signed answer.
pub(crate) struct Answer {
    /// The OCSPResponse.
    pub(crate) der: Vec<u8>,
    /// Its thisUpdate.
    pub(crate) this_update: i64,
    /// Its nextUpdate.
    pub(crate) next_update: i64,
    /// True when caches may keep it: no nonce.
    pub(crate) is_cacheable: bool,
    authority: String,
    certificate: CertId,
    status: Status,
    signer: [u8; 32],
    refresh_at: i64,
    /// The store's count of changes at which the status was last known to be right.
    checked_at: AtomicU64,
    asked: AtomicBool,
}

/// Whose answer: the encoded CertID, which names the issuer by its hashes.
type Key = Arc<[u8]>;

#[derive(Default)]
struct Memory {
    answers: HashMap<Key, Arc<Answer>>,
    /// By the time of their refreshing.
    due: BTreeSet<(i64, Key)>,
}

/// The responder.
pub(crate) struct Responder {
    desk: Desk,
    settings: Settings,
    signers: RwLock<Vec<Arc<Signer>>>,
    memory: Mutex<Memory>,
    ahead: Mutex<Option<Cursor>>,
    signed: AtomicU64,
}

impl Responder {
    /// A responder without signers: [`Self::ensure_signers`] is the next step.
    pub(crate) fn new(desk: Desk, settings: Settings) -> Self {
        Self {
            desk,
            settings,
            signers: RwLock::default(),
            memory: Mutex::default(),
            ahead: Mutex::default(),
            signed: AtomicU64::new(0),
        }
    }

    /// Makes or renews the signers of every authority.
    ///
    /// # Errors
    /// The first failure; an authority that has a signer keeps it.
    pub(crate) fn ensure_signers(&self, rules: &SignerRules, now: i64) -> Result<(), CaError> {
        let mut outcome = Ok(());
        for issuer in self.desk.authorities()? {
            // Who is not in force certifies no signer; one that there is stays.
            if !issuer.has_key() || issuer.in_force(now).is_err() {
                continue;
            }
            match signer::ensure(&self.desk, rules, &issuer, now) {
                Ok(signer) => {
                    let mut signers = self.signers.write();
                    signers.retain(|other| other.authority != signer.authority);
                    signers.push(Arc::new(signer));
                }
                Err(fault) => {
                    tracing::error!(event = "ocsp_signer_not_ready", authority = issuer.id, %fault);
                    outcome = Err(fault);
                }
            }
        }
        outcome
    }

    /// How many answers were signed since the start.
    pub(crate) fn signed(&self) -> u64 {
        self.signed.load(Ordering::Relaxed)
    }

    /// Answers a request.
    ///
    /// # Errors
    /// The status that is answered instead.
    pub(crate) fn respond(&self, request: &[u8], now: i64) -> Result<Arc<Answer>, ErrorStatus> {
        let questions = Questions::decode(request)?;
        let signer = self.signer_for(&questions)?;
        // What it signs now nobody would believe; its successor may be on its way.
        if signer.not_after <= now {
            return Err(ErrorStatus::TryLater);
        }
        let outcome = match (questions.certificates.as_slice(), &questions.nonce) {
            ([one], None) => self.remembered(&signer, one, now),
            _ => self.fresh(&signer, &questions, now),
        };
        outcome.map_err(|fault| {
            tracing::error!(event = "ocsp_not_answered", authority = signer.authority, %fault);
            if matches!(fault, CaError::Token(_)) { ErrorStatus::TryLater } else { ErrorStatus::InternalError }
        })
    }

    /// The signer that speaks for all that is asked: one answer has one signature.
    fn signer_for(&self, questions: &Questions) -> Result<Arc<Signer>, ErrorStatus> {
        let signers = self.signers.read();
        let speaks = |signer: &&Arc<Signer>| questions.certificates.iter().all(|asked| signer.speaks_for(asked));
        signers.iter().find(speaks).cloned().ok_or(ErrorStatus::Unauthorized)
    }

    fn status(&self, signer: &Signer, asked: &CertId) -> Result<Status, StoreError> {
        Ok(match status::standing(self.desk.store.as_ref(), &signer.authority, asked.serial())? {
            Standing::Good => Status::Good,
            Standing::Revoked { at, reason } => Status::Revoked { at, reason },
            Standing::Unknown => Status::Unknown,
        })
    }

    /// The answer to one question, signed before if it still holds.
    fn remembered(&self, signer: &Signer, asked: &CertId, now: i64) -> Result<Arc<Answer>, CaError> {
        let key: Key = asked.to_der()?.into();
        let known = self.memory.lock().answers.get(&key).cloned();
        let holds = |known: &Arc<Answer>| {
            known.signer == signer.id && now < self.last_use(known) && !clock::is_to_come(known.this_update, now)
        };
        let known = known.filter(holds);
        // Counted before the record is read: a change in between makes the count old, and the next look is taken again.
        let count = self.desk.store.standing_changes();
        if let Some(known) = &known {
            known.asked.store(true, Ordering::Relaxed);
            if known.checked_at.load(Ordering::Acquire) == count {
                return Ok(Arc::clone(known));
            }
        }
        let status = self.status(signer, asked)?;
        if let Some(known) = known.filter(|known| known.status == status) {
            known.checked_at.store(count, Ordering::Release);
            return Ok(known);
        }
        let answer = self.sign_one(signer, asked, status, count, now)?;
        answer.asked.store(true, Ordering::Relaxed);
        // Anybody can ask for serial numbers that do not exist: they are not remembered.
        if status != Status::Unknown {
            self.remember(key, &answer);
        }
        Ok(answer)
    }

    /// Until when an answer is given out: relying parties get one that is good for a while.
    fn last_use(&self, answer: &Answer) -> i64 {
        answer.next_update.saturating_sub(self.settings.validity_seconds / 8)
    }

    fn sign_one(
        &self,
        signer: &Signer,
        asked: &CertId,
        status: Status,
        count: u64,
        now: i64,
    ) -> Result<Arc<Answer>, CaError> {
        let next_update = self.next_update(signer, now);
        let der = signer.sign(&self.desk, &[ocsp::single(asked, status, now, next_update)?], now, None)?;
        self.signed.fetch_add(1, Ordering::Relaxed);
        counters::ocsp_signed();
        // Spread by the serial number, so that what was signed together is not refreshed together.
        let life = next_update.saturating_sub(now);
        let spread = i64::from(*asked.serial().last().unwrap_or(&0)) * (life / 8).max(1) / 256;
        Ok(Arc::new(Answer {
            der,
            this_update: now,
            next_update,
            is_cacheable: true,
            authority: signer.authority.clone(),
            certificate: asked.clone(),
            status,
            signer: signer.id,
            refresh_at: now.saturating_add(life / 2).saturating_add(spread),
            checked_at: AtomicU64::new(count),
            asked: AtomicBool::new(false),
        }))
    }

    /// An answer is never good for longer than the certificate of its signer.
    fn next_update(&self, signer: &Signer, now: i64) -> i64 {
        now.saturating_add(self.settings.validity_seconds).min(signer.not_after)
    }

    /// An answer that nobody else can use: to several questions, or with a nonce.
    fn fresh(&self, signer: &Signer, questions: &Questions, now: i64) -> Result<Arc<Answer>, CaError> {
        let first = questions.certificates.first().expect("a request that decodes asks about at least one");
        let next_update = self.next_update(signer, now);
        let mut singles = Vec::with_capacity(questions.certificates.len());
        for asked in &questions.certificates {
            singles.push(ocsp::single(asked, self.status(signer, asked)?, now, next_update)?);
        }
        let der = signer.sign(&self.desk, &singles, now, questions.nonce.as_deref())?;
        self.signed.fetch_add(1, Ordering::Relaxed);
        counters::ocsp_signed();
        Ok(Arc::new(Answer {
            der,
            this_update: now,
            next_update,
            is_cacheable: questions.nonce.is_none(),
            authority: signer.authority.clone(),
            certificate: first.clone(),
            status: Status::Unknown,
            signer: signer.id,
            refresh_at: now,
            checked_at: AtomicU64::new(0),
            asked: AtomicBool::new(true),
        }))
    }

    fn remember(&self, key: Key, answer: &Arc<Answer>) {
        let mut memory = self.memory.lock();
        while memory.answers.len() >= self.settings.max_remembered && !memory.answers.contains_key(&key) {
            let Some((_, oldest)) = memory.due.pop_first() else { return };
            memory.answers.remove(&oldest);
        }
        if let Some(before) = memory.answers.insert(Arc::clone(&key), Arc::clone(answer)) {
            memory.due.remove(&(before.refresh_at, Arc::clone(&key)));
        }
        memory.due.insert((answer.refresh_at, key));
    }

    fn take_due(&self, now: i64) -> Option<(Key, Arc<Answer>)> {
        let mut memory = self.memory.lock();
        let due = memory.due.first().filter(|(at, _)| *at <= now).cloned()?;
        memory.due.remove(&due);
        memory.answers.remove(&due.1).map(|answer| (due.1, answer))
    }

    fn signer_of(&self, authority: &str) -> Option<Arc<Signer>> {
        self.signers.read().iter().find(|signer| signer.authority == authority).cloned()
    }

    /// Signs again what has lived half its time and is still asked for; what nobody asks for any more is forgotten.
    ///
    /// # Errors
    /// When the token or the store fails.
    pub(crate) fn refresh_due(&self, now: i64) -> Result<usize, CaError> {
        let mut refreshed = 0;
        while let Some((key, old)) = self.take_due(now) {
            let wanted = self.settings.signs_ahead || old.asked.load(Ordering::Relaxed);
            let signer = self.signer_of(&old.authority).filter(|signer| wanted && signer.not_after > now);
            let Some(signer) = signer else { continue };
            self.sign_and_remember(key, &signer, &old.certificate, now)?;
            refreshed += 1;
        }
        Ok(refreshed)
    }

    fn sign_and_remember(&self, key: Key, signer: &Signer, asked: &CertId, now: i64) -> Result<(), CaError> {
        let count = self.desk.store.standing_changes();
        let status = self.status(signer, asked)?;
        let answer = self.sign_one(signer, asked, status, count, now)?;
        self.remember(key, &answer);
        Ok(())
    }

    /// Signs the answers of active certificates before anybody asks, each certificate once, in the order of issuance. Each round
    /// goes on where the last one ended.
    ///
    /// # Errors
    /// When the token or the store fails.
    pub(crate) fn sign_ahead(&self, now: i64) -> Result<usize, CaError> {
        let mut made = 0;
        if !self.settings.signs_ahead {
            return Ok(made);
        }
        let mut ahead = self.ahead.lock();
        for _ in 0..AHEAD_PER_ROUND.div_ceil(MAX_PAGE) {
            let span = Span { after: ahead.clone(), limit: MAX_PAGE };
            let page = self.desk.store.find(Query::Certificates(span))?;
            let (last, is_last) = (page.last.clone(), page.next.is_none());
            for certificate in page.all(Record::certificate) {
                if certificate.state() == CertificateState::Active && certificate.not_after > now {
                    made += self.sign_ahead_of(&certificate, now)?;
                }
            }
            *ahead = last.or(ahead.take());
            if is_last {
                break;
            }
        }
        Ok(made)
    }

    fn sign_ahead_of(&self, certificate: &Certificate, now: i64) -> Result<usize, CaError> {
        let signer = self.signer_of(&certificate.authority).filter(|signer| signer.not_after > now);
        let Some(signer) = signer else { return Ok(0) };
        let mut made = 0;
        for row in HASHES_AHEAD {
            let Some(asked) = signer.cert_id(row, &certificate.serial)? else { continue };
            let key: Key = asked.to_der()?.into();
            if !self.memory.lock().answers.contains_key(&key) {
                self.sign_and_remember(key, &signer, &asked, now)?;
                made += 1;
            }
        }
        Ok(made)
    }
}
