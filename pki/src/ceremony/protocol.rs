//! The protocol of a ceremony: a text that a person reads, signed by a key of the root's token that signs protocols and nothing
//! else. The root certifies that key, so that whoever knows the root can verify the text.

use super::{Answer, Request};
use crate::ca::authority::Authority;
use crate::ca::issue::{self, Circumstances};
use crate::ca::key::PROTOCOL;
use crate::ca::profile::{Kind, Order};
use crate::ca::{CaError, Desk, key};
use crate::clock::{DAY_SECONDS, instant_text};
use crate::store::Change;
use crate::store::record::{Certificate, CertificateState, ROOT};
use crate::token::KeyRef;
use crate::x509::algorithm::KeySpec;
use crate::x509::{der_of_pem, ders_of_pem, hex, name, pem, sha256, unix_seconds, verify};
use der::{Decode, Encode};
use std::str::FromStr;
use x509_cert::name::Name;

/// What separates the text from its signature.
const SIGNATURE: &str = "SIGNATURE";
/// How long a protocol key is certified: as long as its protocols matter.
const VALIDITY_SECONDS: i64 = 20 * 365 * DAY_SECONDS;

/// The key that signs protocols and its certificate, made if they are not there yet.
///
/// # Errors
/// When the token or the store fails.
pub(crate) fn ensure_signer(desk: &Desk, now: i64) -> Result<(KeyRef, Certificate), CaError> {
    let (key, spki) = key::ensure(desk, PROTOCOL, KeySpec::EcP256)?;
    let is_good = |known: &Certificate| known.state() == CertificateState::Active && known.not_before <= now;
    if let Some(known) = desk.store.house(PROTOCOL)?.filter(is_good) {
        return Ok((key, known));
    }
    let root = desk.issuer(ROOT)?;
    let order = Order {
        kind: Kind::Protocol,
        subject: Name::from_str("CN=Ceremony protocol").map_err(|fault| CaError::Encoding(fault.to_string()))?,
        spki,
        dns_names: Vec::new(),
        addresses: Vec::new(),
        constraints: None,
        particular: Vec::new(),
        validity_seconds: VALIDITY_SECONDS,
    };
    let prepared = issue::prepare(desk, &root, &order, Circumstances::default(), now)?;
    let certificate =
        prepared.intend()?.sign()?.record(|certificate| Change::Issued { role: PROTOCOL.to_owned(), certificate })?;
    Ok((key, certificate))
}

/// Writes and signs the protocol of a ceremony.
///
/// # Errors
/// When the token or the store fails.
pub(crate) fn write(
    desk: &Desk,
    request: &Request,
    answer: &Answer,
    witnesses: &[String],
    now: i64,
) -> Result<String, CaError> {
    let (key, certificate) = ensure_signer(desk, now)?;
    let root = desk.authority(ROOT)?;
    let text = text(&root, request, answer, witnesses, now)?;
    let signature = desk.token.sign(&key, key.spec.certificate_scheme(), text.as_bytes())?;
    Ok(format!("{text}{}{}", pem(SIGNATURE, &signature), pem("CERTIFICATE", &certificate.der)))
}

fn text(
    root: &Authority,
    request: &Request,
    answer: &Answer,
    witnesses: &[String],
    now: i64,
) -> Result<String, CaError> {
    let mut lines = vec![
        "Protocol of a ceremony of the root".to_owned(),
        format!("  when       {}", instant_text(now)),
        format!("  root       {}", name::text(&root.name)),
        format!("  root key   {}, '{}'", root.key.spec, root.key.label),
        format!("  SHA-256    {}", hex(&sha256(&root.certificate))),
        format!("  request    {} (SHA-256 of the file)", answer.request_sha256),
    ];
    lines.extend(witnesses.iter().map(|witness| format!("  witness    {}", witness.replace(char::is_control, " "))));
    for given in &answer.certificates {
        for der in ders_of_pem(&given.certificate, "CERTIFICATE").unwrap_or_default() {
            let parsed = x509_cert::Certificate::from_der(&der)?;
            let facts = parsed.tbs_certificate();
            lines.push(format!("Issued the certificate of '{}'", given.id));
            lines.push(format!("  subject    {}", name::text(facts.subject())));
            lines.push(format!("  serial     {}", hex(facts.serial_number().as_bytes())));
            lines.push(format!("  until      {}", instant_text(unix_seconds(&facts.validity().not_after))));
            lines.push(format!("  key        {} (SHA-256)", hex(&sha256(&facts.subject_public_key_info().to_der()?))));
            lines.push(format!("  SHA-256    {}", hex(&sha256(&der))));
        }
    }
    for revocation in &request.revocations {
        lines.push(format!("Revoked {} ({})", revocation.serial, revocation.reason));
    }
    for der in ders_of_pem(&answer.crl, "X509 CRL").unwrap_or_default() {
        lines.push(format!("Signed a CRL, SHA-256 {}", hex(&sha256(&der))));
    }
    Ok(lines.join("\n") + "\n")
}

/// Verifies a protocol against a root certificate and gives its text.
///
/// # Errors
/// When a signature is false or the protocol's key is not certified by this root.
pub(crate) fn verified(protocol: &str, root_pem: &str) -> Result<String, CaError> {
    let refuse = |sentence: &str| CaError::Hierarchy(sentence.to_owned());
    let begin = format!("-----BEGIN {SIGNATURE}-----");
    let end = protocol.find(&begin).ok_or_else(|| refuse("the file is no protocol: it has no signature"))?;
    let one = |text: &str, label: &str| der_of_pem(text, label).ok_or_else(|| refuse("a part is missing"));
    let signature = one(protocol, SIGNATURE)?;
    let signer = x509_cert::Certificate::from_der(&one(protocol, "CERTIFICATE")?)?;
    let root = x509_cert::Certificate::from_der(&one(root_pem, "CERTIFICATE")?)?;
    let facts = signer.tbs_certificate();
    let certified = verify::verify(
        root.tbs_certificate().subject_public_key_info(),
        signer.signature_algorithm(),
        &facts.to_der()?,
        signer.signature().as_bytes().unwrap_or_default(),
    );
    if certified.is_err()
        || facts.subject() != &Name::from_str("CN=Ceremony protocol").map_err(|_| refuse("no name"))?
    {
        return Err(refuse("the key that signed the protocol is not certified for it by this root"));
    }
    let spki = facts.subject_public_key_info();
    let spec = KeySpec::of(spki).map_err(|fault| refuse(&fault.to_string()))?;
    let text = &protocol[..end];
    verify::verify(spki, &spec.signature_algorithm(), text.as_bytes(), &signature)
        .map_err(|_| refuse("the signature of the protocol is false: it was changed"))?;
    Ok(text.to_owned())
}
