//! The signer of the house's CMS messages: keys that are made for devices, answers of CMC. Its key is in the token, its certificate
//! has the purpose id-kp-cmcRA (RFC 6402 section 2.10) and renews itself. Both are made when they are needed first.

use super::authority::Authority;
use super::issue::{self, Circumstances};
use super::key::MESSAGES;
use super::profile::{Kind, Order};
use super::{CaError, Desk, key};
use crate::cms::signed;
use crate::store::Change;
use crate::store::record::Certificate;
use crate::token::KeyRef;
use crate::x509::algorithm::KeySpec;
use crate::x509::verify::verify;
use const_oid::ObjectIdentifier;
use parking_lot::Mutex;
use spki::SubjectPublicKeyInfoOwned;
use std::str::FromStr;
use std::sync::Arc;
use x509_cert::name::Name;
use zeroize::Zeroizing;

/// The signer.
pub(crate) struct MessageSigner {
    spec: KeySpec,
    validity_seconds: i64,
    held: Mutex<Option<Arc<Held>>>,
}

/// Its key and its certificate as they were used last.
struct Held {
    key: KeyRef,
    spki: SubjectPublicKeyInfoOwned,
    certificate: Certificate,
    /// The certificate and those above it, without the root.
    chain: Vec<Vec<u8>>,
}

impl MessageSigner {
    /// A signer with a key of this kind, whose certificates are good for so long.
    pub(crate) fn new(spec: KeySpec, validity_seconds: i64) -> Self {
        Self { spec, validity_seconds, held: Mutex::new(None) }
    }

    /// A SignedData of a content, without a ContentInfo around it. The certificates of the signer come along, and `others`.
    ///
    /// # Errors
    /// When the token or the store fails.
    pub(crate) fn sign(
        &self,
        desk: &Desk,
        kind: ObjectIdentifier,
        content: &[u8],
        others: &[&[u8]],
        now: i64,
    ) -> Result<Zeroizing<Vec<u8>>, CaError> {
        let held = self.held(desk, now)?;
        let unsigned = signed::prepare(kind, content, held.key.spec)?;
        let tbs = unsigned.to_be_signed();
        let signature = desk.token.sign(&held.key, held.key.spec.certificate_scheme(), &tbs)?;
        verify(&held.spki, &held.key.spec.signature_algorithm(), &tbs, &signature)
            .map_err(|_| CaError::FalseSignature(held.key.label.clone()))?;
        let above = held.chain.iter().skip(1).map(Vec::as_slice);
        let others: Vec<&[u8]> = above.chain(others.iter().copied()).collect();
        Ok(unsigned.signed(&signature, &held.certificate.der, &others)?)
    }

    fn held(&self, desk: &Desk, now: i64) -> Result<Arc<Held>, CaError> {
        let mut place = self.held.lock();
        let issuer = desk.services_issuer()?;
        let serves = |current: &Certificate| current.authority == issuer.id && issue::serves_still(current, now);
        if let Some(held) = place.as_ref().filter(|held| serves(&held.certificate)) {
            return Ok(Arc::clone(held));
        }
        let (key, spki) = key::ensure(desk, MESSAGES, self.spec)?;
        let certificate = match desk.store.house(MESSAGES)?.filter(serves) {
            Some(current) => current,
            None => self.issue(desk, &issuer, spki.clone(), now)?,
        };
        let chain = desk.shown_chain(&certificate)?;
        let held = Arc::new(Held { key, spki, certificate, chain });
        *place = Some(Arc::clone(&held));
        Ok(held)
    }

    fn issue(
        &self,
        desk: &Desk,
        issuer: &Authority,
        spki: SubjectPublicKeyInfoOwned,
        now: i64,
    ) -> Result<Certificate, CaError> {
        let order = Order {
            kind: Kind::Messages,
            subject: Name::from_str("CN=EST messages").map_err(|fault| CaError::Encoding(fault.to_string()))?,
            spki,
            dns_names: Vec::new(),
            addresses: Vec::new(),
            constraints: None,
            particular: Vec::new(),
            validity_seconds: self.validity_seconds,
        };
        let prepared = issue::prepare(desk, issuer, &order, Circumstances::default(), now)?;
        let certificate = prepared
            .intend()?
            .sign()?
            .record(|certificate| Change::Issued { role: MESSAGES.to_owned(), certificate })?;
        tracing::info!(event = "message_signer_issued", authority = issuer.id, not_after = certificate.not_after);
        Ok(certificate)
    }
}
