//! The delegated signers of OCSP answers (RFC 6960 section 4.2.2.2): one for each authority, with a key of its own in the token and
//! a certificate that lives so short that nobody need ask whether it is revoked. They renew themselves.

use crate::ca::authority::Authority;
use crate::ca::issue::{self, Circumstances};
use crate::ca::profile::{Kind, Order};
use crate::ca::{CaError, Desk, guard, key};
use crate::store::Change;
use crate::store::record::Certificate;
use crate::token::KeyRef;
use crate::x509::algorithm::KeySpec;
use crate::x509::ocsp::{self, CertId, HASHES, IssuerHashes, ResponderId};
use crate::x509::{sha256, verify};
use der::{Decode, Encode};
use spki::SubjectPublicKeyInfoOwned;
use std::str::FromStr;
use x509_cert::name::Name;

/// A signer, and the authority that it speaks for.
pub(crate) struct Signer {
    /// The authority.
    pub(crate) authority: String,
    /// SHA-256 of its certificate: what it signed is good for nothing once another one signs.
    pub(crate) id: [u8; 32],
    /// When its certificate expires.
    pub(crate) not_after: i64,
    certificate: Vec<u8>,
    key: KeyRef,
    spki: SubjectPublicKeyInfoOwned,
    responder_id: Vec<u8>,
    issuer: Vec<IssuerHashes>,
}

impl Signer {
    /// True when a CertID names the authority of this signer.
    pub(crate) fn speaks_for(&self, certificate: &CertId) -> bool {
        let row = certificate.hash().and_then(|row| self.issuer.get(row));
        row.is_some_and(|issuer| certificate.names(issuer))
    }

    /// The CertID that a client would make of one of our certificates, with a row of [`HASHES`].
    ///
    /// # Errors
    /// A serial number that does not encode.
    pub(crate) fn cert_id(&self, row: usize, serial: &[u8]) -> der::Result<Option<CertId>> {
        self.issuer.get(row).map(|issuer| CertId::new(row, issuer, serial)).transpose()
    }

    /// Signs an answer.
    ///
    /// # Errors
    /// When the token fails or its signature is false.
    pub(crate) fn sign(
        &self,
        desk: &Desk,
        singles: &[Vec<u8>],
        now: i64,
        nonce: Option<&[u8]>,
    ) -> Result<Vec<u8>, CaError> {
        let data = ocsp::response_data(&self.responder_id, now, singles, nonce)?;
        let algorithm = self.key.spec.signature_algorithm();
        let signature = desk.token.sign(&self.key, self.key.spec.certificate_scheme(), &data)?;
        verify::verify(&self.spki, &algorithm, &data, &signature)
            .map_err(|_| CaError::FalseSignature(self.key.label.clone()))?;
        Ok(ocsp::response(&data, &algorithm, &signature, &self.certificate)?)
    }
}

/// What the signers are to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SignerRules {
    /// Kind of their keys.
    pub(crate) key: KeySpec,
    /// How long their certificates are good.
    pub(crate) validity_seconds: i64,
    /// How the responder names itself.
    pub(crate) responder_id: ResponderId,
}

/// The role of the key and the certificate of an authority's signer.
pub(crate) fn role(authority: &str) -> String {
    format!("{}{authority}", key::OCSP_OF)
}

/// The signer of an authority; its certificate is issued, or issued again when a third of its life is left.
///
/// # Errors
/// When the token or the store fails.
pub(crate) fn ensure(desk: &Desk, rules: &SignerRules, issuer: &Authority, now: i64) -> Result<Signer, CaError> {
    let role = role(&issuer.id);
    let name = name(issuer)?;
    let (key, spki) = key::ensure_guarded(desk, &role, rules.key, || guard::of_responder(desk, &name))?;
    let certificate = match desk.store.house(&role)?.filter(|current| current.authority == issuer.id) {
        Some(current) if issue::serves_still(&current, now) => current,
        _ => issue(desk, rules, issuer, &role, name, spki.clone(), now)?,
    };
    let parsed = x509_cert::Certificate::from_der(&certificate.der)?;
    let subject = parsed.tbs_certificate().subject().to_der()?;
    let issuer_name = issuer.name.to_der()?;
    let hashes = |row| IssuerHashes::new(row, &issuer_name, issuer.spki.subject_public_key.raw_bytes());
    Ok(Signer {
        authority: issuer.id.clone(),
        id: sha256(&certificate.der),
        not_after: certificate.not_after,
        responder_id: ocsp::responder_id(rules.responder_id, &subject, spki.subject_public_key.raw_bytes()),
        issuer: (0..HASHES.len()).filter_map(hashes).collect(),
        certificate: certificate.der,
        key,
        spki,
    })
}

fn name(issuer: &Authority) -> Result<Name, CaError> {
    Name::from_str(&format!("CN=OCSP responder {}", issuer.id)).map_err(|fault| CaError::Encoding(fault.to_string()))
}

fn issue(
    desk: &Desk,
    rules: &SignerRules,
    issuer: &Authority,
    role: &str,
    subject: Name,
    spki: SubjectPublicKeyInfoOwned,
    now: i64,
) -> Result<Certificate, CaError> {
    let order = Order {
        kind: Kind::OcspResponder,
        subject,
        spki,
        dns_names: Vec::new(),
        addresses: Vec::new(),
        constraints: None,
        particular: Vec::new(),
        validity_seconds: rules.validity_seconds,
    };
    let prepared = issue::prepare(desk, issuer, &order, Circumstances::default(), now)?;
    let certificate =
        prepared.intend()?.sign()?.record(|certificate| Change::Issued { role: role.to_owned(), certificate })?;
    tracing::info!(event = "ocsp_signer_issued", authority = issuer.id, not_after = certificate.not_after);
    Ok(certificate)
}

/// How the configuration names the form of the responder's name.
///
/// # Errors
/// A sentence.
pub(crate) fn responder_id_form(written: &str) -> Result<ResponderId, String> {
    match written {
        "key" => Ok(ResponderId::ByKey),
        "name" => Ok(ResponderId::ByName),
        other => Err(format!("ocsp.responder_id '{other}' must be key or name")),
    }
}
