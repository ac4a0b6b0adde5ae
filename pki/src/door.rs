//! The doors without listeners, token and clock: what a fuzz target calls in place of a stranger.
//!
//! What decides here is the code that serves. Only what would be signed is looked at instead, and what a stranger sends to the
//! client is read without being fetched.

use crate::client;
use crate::dry_run::Imagined;
use crate::est::admission::Admission;
use crate::est::auth::Porter;
use crate::est::codec;
use crate::est::enroll;
use crate::est::error::Refusal;
use crate::est::label::{Label, labels};
use crate::est::operation::Operation;
use crate::est::request::{self, Request};
use crate::est::routes::Route;
use crate::listener::{Call, MAX_BODY_BYTES, Peer};
use crate::profile::Profile;
use crate::profile::written::{WrittenProfile, profiles};
use crate::store::record::Credential;
use crate::store::redb::RedbStore;
use crate::store::{Change, Store};
use crate::va::public::decoded_path;
use crate::x509::algorithm::KeySpec;
use crate::x509::crl::{self, Entries};
use crate::x509::extension::CrlScope;
use crate::x509::foreign_crl::ForeignCrl;
use crate::x509::ocsp::{self, Questions, ResponderId, Status};
use crate::x509::ocsp_answer;
use crate::x509::{sha256, tbs};
use bytes::Bytes;
use der::Decode;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::sync::Arc;
use x509_cert::name::Name;

/// The EST service up to the moment at which a certificate would be signed: profiles, labels and one credential for each label.
pub struct Counter {
    profiles: BTreeMap<String, Profile>,
    labels: BTreeMap<String, Arc<Label>>,
    store: RedbStore,
    porter: Porter,
}

/// A request as the listener reads it.
pub struct Asked<'a> {
    /// Method.
    pub method: &'a str,
    /// Path.
    pub path: &'a str,
    /// Header fields; those that no listener would let in are left out.
    pub headers: &'a [(&'a str, Vec<u8>)],
    /// Body.
    pub body: &'a [u8],
    /// Seconds since 1970.
    pub now: i64,
}

/// What became of a request.
pub enum Told {
    /// It only reads, and is answered.
    Read,
    /// It is refused.
    Refused {
        /// HTTP status.
        status: u16,
        /// Stable reason code.
        code: &'static str,
        /// What the device is told.
        sentence: String,
    },
    /// It is admitted.
    Granted {
        /// The to-be-signed certificate; the linter's findings would be a fault of the rules before it.
        certificate: Result<Vec<u8>, String>,
    },
}

impl Counter {
    /// A counter by the tables `[profiles]` and `[labels]` of a text, with a credential of this name and secret for each label: its name
    /// is followed by the label.
    ///
    /// # Errors
    /// What is wrong with the text, or a store that cannot be had.
    pub fn new(text: &str, name: &str, secret: &str) -> Result<Self, String> {
        let say = |fault: &dyn std::fmt::Display| fault.to_string();
        let mut table: BTreeMap<String, BTreeMap<String, toml::Value>> =
            toml::from_str(text).map_err(|fault| say(&fault))?;
        let mut take = |key: &str| table.remove(key).unwrap_or_default();
        let mut written = BTreeMap::new();
        for (name, value) in take("profiles") {
            let profile: WrittenProfile = value.try_into().map_err(|fault: toml::de::Error| say(&fault))?;
            written.insert(name, profile);
        }
        let profiles = profiles(written, i64::MAX)?;
        let first = profiles.keys().next().cloned().unwrap_or_default();
        let labels = labels(take("labels"), None, &first, 64, &profiles)?;
        let store = RedbStore::in_memory().map_err(|fault| say(&fault))?;
        for label in labels.keys() {
            let credential = Credential {
                name: format!("{name}{label}"),
                secret_sha256: sha256(secret.as_bytes()).to_vec(),
                expires_at: i64::MAX,
                label: label.clone(),
                ..Credential::default()
            };
            store.commit(Change::CredentialCreated(credential)).map_err(|fault| say(&fault))?;
        }
        let labels = labels.into_iter().map(|(name, label)| (name, Arc::new(label))).collect();
        Ok(Self { profiles, labels, store, porter: Porter::default() })
    }

    /// Answers a request; nothing is remembered of it but failed logins.
    pub fn ask(&self, asked: &Asked<'_>) -> Told {
        self.perform(asked).unwrap_or_else(|refusal| {
            let (status, code) = refusal.row();
            Told::Refused { status: status.as_u16(), code, sentence: refusal.to_string() }
        })
    }

    fn perform(&self, asked: &Asked<'_>) -> Result<Told, Refusal> {
        let call = call(asked);
        let route = Route::find(&call.path, &self.labels)?;
        route.operation.judge_method(&call.method)?;
        if !matches!(route.operation, Operation::SimpleEnroll | Operation::SimpleReenroll) {
            return Ok(Told::Read);
        }
        let (requester, csr) = request::read(&route, &call, &self.store, &self.porter, asked.now)?;
        let profile = self.profiles.get(&route.rules.profile).ok_or(Refusal::UnknownLabel)?;
        let request = Request { route: &route, requester: &requester, csr: &csr, key_is_ours: false };
        let Admission::Issue(grant) = enroll::admit(&self.store, &request, profile, asked.now)? else {
            return Ok(Told::Read);
        };
        let issuer = issuer();
        let imagined = Imagined {
            issuer: &issuer,
            algorithm: KeySpec::EcP256.signature_algorithm(),
            base_url: "http://pki.example",
            validity: (asked.now, asked.now.saturating_add(profile.validity_seconds(asked.now))),
        };
        let certificate = profile
            .extensions(csr.spki(), &grant.subject, &grant.names)
            .map_err(|fault| fault.to_string())
            .and_then(|extensions| imagined.certificate(&csr, &grant.subject, extensions))
            .map(|linted| linted.tbs().to_vec());
        Ok(Told::Granted { certificate })
    }
}

fn issuer() -> Name {
    Name::from_str("CN=Issuing,O=Craton").unwrap_or_default()
}

fn call(asked: &Asked<'_>) -> Call {
    let mut headers = HeaderMap::new();
    for (name, value) in asked.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(*name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let too_large = asked.body.len() > MAX_BODY_BYTES;
    Call {
        method: Method::from_bytes(asked.method.as_bytes()).unwrap_or(Method::GET),
        path: asked.path.to_owned(),
        query: String::new(),
        headers,
        body: if too_large {
            Err(crate::listener::BodyFault::TooLarge)
        } else {
            Ok(Bytes::copy_from_slice(asked.body))
        },
        peer: Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST), certificate: None, above: Vec::new(), exporter: None },
    }
}

/// A certs-only CMS message.
pub fn certs_only(certificates: &[&[u8]]) -> Vec<u8> {
    codec::certs_only(certificates)
}

/// The certificates that the client takes out of the bytes of an HTTP answer.
///
/// # Errors
/// What it says of it.
pub fn certificates_in(answer: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    client::certificates_in(answer).map_err(|fault| fault.to_string())
}

/// An OCSP request that the responder understood.
pub struct Question {
    /// The request as it is encoded after reading.
    pub written_again: Vec<u8>,
    /// How many certificates it asks about.
    pub certificates: usize,
    /// Its nonce.
    pub nonce: Option<Vec<u8>>,
    /// The answer if all of them were unknown, with a signature that means nothing.
    pub response: Vec<u8>,
}

/// Reads an OCSP request and writes the answer.
///
/// # Errors
/// The response status (RFC 6960 section 4.2.1), or 0 when the answer has no encoding.
pub fn ocsp(der: &[u8], now: i64) -> Result<Question, u8> {
    let questions = Questions::decode(der).map_err(|status| status.response().last().copied().unwrap_or_default())?;
    let singles: Result<Vec<_>, _> =
        questions.certificates.iter().map(|id| ocsp::single(id, Status::Unknown, now, now + 3600)).collect();
    let responder = ocsp::responder_id(ResponderId::ByKey, &[], &[7; 65]);
    let response =
        singles.and_then(|singles| ocsp::response_data(&responder, now, &singles, questions.nonce.as_deref()));
    let algorithm = KeySpec::EcP256.signature_algorithm();
    let response = response.and_then(|data| ocsp::response(&data, &algorithm, &[0; 70], &[]));
    Ok(Question {
        written_again: ocsp::written_again(der).unwrap_or_default(),
        certificates: questions.certificates.len(),
        nonce: questions.nonce,
        response: response.map_err(|_| 0)?,
    })
}

/// The request in the path of an OCSP question by GET.
pub fn ocsp_path(rest: &str) -> Option<Vec<u8>> {
    decoded_path(rest)
}

/// The serial numbers on a revocation list.
pub type Serials = Vec<Vec<u8>>;

/// The serial numbers on a list from which the next one is made, and those on that next one when nothing has changed.
pub fn crl(der: &[u8]) -> Option<(Serials, Option<Serials>)> {
    let serials = |entries: &Entries| entries.serials().map(<[u8]>::to_vec).collect::<Vec<_>>();
    let entries = Entries::of_list(der)?;
    let algorithm = KeySpec::EcP256.signature_algorithm();
    let next = crl::encode(&crl::Contents {
        algorithm: algorithm.clone(),
        issuer: &issuer(),
        issuer_key_id: &[7; 20],
        number: 1,
        this_update: 1_800_000_000,
        next_update: 1_800_086_400,
        scope: CrlScope { own_url: None, freshest_url: None, base_number: None },
        entries: &entries,
    });
    let next = next.and_then(|tbs| tbs::join(&tbs, algorithm, &[0; 70])).ok();
    let again = next.and_then(|der| Entries::of_list(&der)).map(|entries| serials(&entries));
    Some((serials(&entries), again))
}

/// Whether each of some serial numbers is revoked by a list of another, if that would be taken from its issuer.
pub fn foreign_crl(der: &[u8], serials: &[Vec<u8>], now: i64) -> Option<bool> {
    let list: x509_cert::crl::CertificateList = x509_cert::crl::CertificateList::from_der(der).ok()?;
    let read = ForeignCrl::of(&list.tbs_cert_list, now).ok()?;
    Some(serials.iter().all(|serial| read.revoked(serial).is_some()))
}

/// Whether the answer of another's OCSP responder is read to its end.
pub fn foreign_ocsp_answer(der: &[u8]) -> bool {
    ocsp_answer::is_read(der)
}
