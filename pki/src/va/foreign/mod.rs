//! Whether certificates that others issued are revoked: those of manufacturers, and of authorities that were imported without their key.
//! Their issuers say it by CRLs and by OCSP; whoever cannot be asked, and has said nothing that still holds, makes the answer "not known",
//! which nobody takes for "good".
//!
//! A list is fetched once for all who ask, kept in the store, and never followed by an older one. Of OCSP the answers are remembered as
//! long as they hold.

mod list;
pub(crate) mod settings;
#[cfg(test)]
mod tests;

use crate::ca::serial;
use crate::clock;
use crate::counters;
use crate::fetch::{Address, Bounds, Question};
use crate::store::Store;
use crate::x509::foreign_crl::{crl_urls, ocsp_urls};
use crate::x509::ocsp_answer::{Inquiry, Said};
use crate::x509::{hex, sha256};
use der::Encode;
use list::Lists;
use parking_lot::Mutex;
use rustls::ClientConfig;
use std::collections::HashMap;
use std::sync::Arc;
use x509_cert::Certificate;
use x509_cert::ext::pkix::BasicConstraints;

/// Largest OCSP answer with its head.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Octets of a nonce (RFC 9654).
const NONCE_BYTES: usize = 32;
/// How long somebody who did not answer is not asked again, in seconds: those who wait for him would wait for nothing.
const REST_SECONDS: i64 = 30;
/// OCSP answers that are remembered at once.
const MAX_REMEMBERED: usize = 10_000;

/// A way to know whether a certificate is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Method {
    /// By the issuer's list.
    Crl,
    /// By asking the issuer's responder.
    Ocsp,
}

/// How it is asked.
#[derive(Clone)]
pub(crate) struct Settings {
    /// The ways, in their order: the first that knows decides.
    pub(crate) methods: Vec<Method>,
    /// Addresses of lists besides those in the certificates, asked first.
    pub(crate) crl_urls: Vec<String>,
    /// Addresses of responders besides those in the certificates, asked first.
    pub(crate) ocsp_urls: Vec<String>,
    /// How long after its end a list is believed when there is no newer one.
    pub(crate) stale_seconds: i64,
    /// How often a list is fetched again, and how long an OCSP answer is remembered at most.
    pub(crate) refresh_seconds: i64,
    /// What bounds fetching a list.
    pub(crate) bounds: Bounds,
    /// Whether an OCSP answer must give back the nonce.
    pub(crate) needs_nonce: bool,
    /// For https; none when nothing is trusted.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// Why a certificate of another is not relied upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ForeignFault {
    /// It is revoked, or one above it.
    Revoked,
    /// Nobody says that it is not.
    Unknown(String),
}

/// A responder, and a certificate by the hash of its issuer's key and its serial number.
type Remembered = HashMap<(Vec<u8>, Vec<u8>), (Said, i64)>;

/// The one who asks others.
pub(crate) struct Foreign {
    settings: Settings,
    lists: Lists,
    remembered: Mutex<Remembered>,
    /// Responders that did not answer, and when.
    resting: Mutex<HashMap<String, i64>>,
}

impl Foreign {
    /// One who asks others, with the lists that were taken before.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn new(store: Arc<dyn Store>, settings: Settings) -> Result<Self, crate::store::StoreError> {
        let lists = Lists::open(store)?;
        Ok(Self { settings, lists, remembered: Mutex::default(), resting: Mutex::default() })
    }

    /// Fetches the lists again whose time has come, in the background of those who ask.
    pub(crate) fn refresh(&self, now: i64) {
        self.lists.refresh(&self.settings, now);
    }

    /// Judges a path: each certificate by the next, which issued it.
    ///
    /// # Errors
    /// [`ForeignFault::Revoked`] when one is, [`ForeignFault::Unknown`] when of one it is not known.
    pub(crate) fn judge(&self, path: &[Certificate], now: i64) -> Result<(), ForeignFault> {
        let pairs = path.iter().zip(path.iter().skip(1));
        pairs.into_iter().try_for_each(|(certificate, issuer)| self.judge_one(certificate, issuer, now))
    }

    fn judge_one(&self, certificate: &Certificate, issuer: &Certificate, now: i64) -> Result<(), ForeignFault> {
        let mut faults = Vec::new();
        for method in &self.settings.methods {
            let said = match method {
                Method::Crl => self.by_list(certificate, issuer, now),
                Method::Ocsp => self.by_responder(certificate, issuer, now),
            };
            match said {
                Ok(Said::Good) => return Ok(()),
                Ok(Said::Revoked) => return Err(ForeignFault::Revoked),
                // Its own issuer does not know it: no other way would make that good.
                Ok(Said::Unknown) => {
                    return Err(ForeignFault::Unknown("its issuer's OCSP responder does not know it".to_owned()));
                }
                Err(fault) => faults.push(fault),
            }
        }
        Err(ForeignFault::Unknown(faults.join("; ")))
    }

    fn by_list(&self, certificate: &Certificate, issuer: &Certificate, now: i64) -> Result<Said, String> {
        let facts = certificate.tbs_certificate();
        let own = crl_urls(certificate);
        let is_authority = facts.get_extension::<BasicConstraints>().ok().flatten().is_some_and(|(_, basic)| basic.ca);
        let mut faults = Vec::new();
        for url in self.settings.crl_urls.iter().chain(&own) {
            match self.lists.current(issuer, url, &self.settings, now) {
                Ok(list) if !list.covers(is_authority, &own) => {
                    faults.push(format!("{url}: it does not speak for this certificate"));
                }
                Ok(list) if list.revoked(facts.serial_number().as_bytes()).is_some() => return Ok(Said::Revoked),
                Ok(_) => return Ok(Said::Good),
                Err(fault) => faults.push(format!("{url}: {fault}")),
            }
        }
        if faults.is_empty() { Err("no address of a CRL is known".to_owned()) } else { Err(faults.join("; ")) }
    }

    fn by_responder(&self, certificate: &Certificate, issuer: &Certificate, now: i64) -> Result<Said, String> {
        let facts = certificate.tbs_certificate();
        let own = ocsp_urls(certificate);
        let issuer_key =
            issuer.tbs_certificate().subject_public_key_info().to_der().map_err(|fault| fault.to_string())?;
        let who = (sha256(&issuer_key).to_vec(), facts.serial_number().as_bytes().to_vec());
        if let Some((said, until)) = self.remembered.lock().get(&who)
            && *until > now
        {
            return Ok(*said);
        }
        let mut faults = Vec::new();
        for url in self.settings.ocsp_urls.iter().chain(&own) {
            match self.asked(url, issuer, &who.1, now) {
                Ok((said, until)) => {
                    self.remember(who, said, until, now);
                    return Ok(said);
                }
                Err(fault) => {
                    tracing::warn!(event = "foreign_ocsp_failed", url, serial = hex(&who.1), fault);
                    counters::foreign_failed();
                    faults.push(format!("{url}: {fault}"));
                }
            }
        }
        if faults.is_empty() {
            Err("no address of an OCSP responder is known".to_owned())
        } else {
            Err(faults.join("; "))
        }
    }

    /// Asks one responder. Gives what it says and until when that may be remembered.
    fn asked(&self, url: &str, issuer: &Certificate, serial: &[u8], now: i64) -> Result<(Said, i64), String> {
        if self.resting.lock().get(url).is_some_and(|since| clock::is_within(REST_SECONDS, *since, now)) {
            return Err("it did not answer a moment ago".to_owned());
        }
        let nonce = serial::random(NONCE_BYTES).map_err(|fault| fault.to_string())?;
        let inquiry = Inquiry::new(issuer, serial, nonce).map_err(|fault| fault.to_string())?;
        let body = inquiry.request().map_err(|fault| fault.to_string())?;
        let address = Address::parse(url).ok_or("it is no address of http or https")?;
        let headers = "Content-Type: application/ocsp-request\r\nAccept: application/ocsp-response\r\n";
        let question = Question { headers, body: Some(&body) };
        let bounds = Bounds { max_bytes: MAX_ANSWER_BYTES, ..self.settings.bounds };
        let answer = address.ask(self.settings.tls.clone(), question, bounds).map_err(|fault| {
            self.resting.lock().insert(url.to_owned(), now);
            fault.to_string()
        })?;
        if answer.status != 200 {
            return Err(format!("it answers with status {}", answer.status));
        }
        let verdict = inquiry.judge(&answer.body, issuer, self.settings.needs_nonce, now);
        let verdict = verdict.map_err(|fault| fault.to_string())?;
        Ok((verdict.said, verdict.until.min(now.saturating_add(self.settings.refresh_seconds))))
    }

    fn remember(&self, who: (Vec<u8>, Vec<u8>), said: Said, until: i64, now: i64) {
        let mut remembered = self.remembered.lock();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.retain(|_, (_, until)| *until > now);
        }
        if remembered.len() < MAX_REMEMBERED {
            remembered.insert(who, (said, until));
        }
    }
}
