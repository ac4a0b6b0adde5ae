//! /serverkeygen (RFC 7030 section 4.4): the token makes the key, the device gets it once, and it is kept nowhere.
//!
//! Off unless a label says otherwise. The key leaves over the TLS connection that the device authenticated on: as it is where the label
//! allows that, or signed by the house and encrypted to a key that the request names. A request that names one is never answered in the
//! clear.

use super::auth::{Requester, authenticate};
use super::enroll;
use super::error::Refusal;
use super::fault::AdmissionFault;
use super::label::ServerKeygen;
use super::request::{self, Request};
use super::routes::Route;
use super::{Est, codec, recipient};
use crate::ca::serial;
use crate::clock;
use crate::cms::{KEY_PACKAGE, enveloped};
use crate::listener::{Call, Reply};
use crate::profile::{KeyRule, ProfileFault};
use crate::token::GivenKey;
use crate::x509::algorithm::{KeyKind, KeySpec};
use crate::x509::csr::{DecryptionKey, VerifiedCsr};
use crate::x509::{hex, tlv};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use zeroize::Zeroizing;

/// Makes a key, enrols it and answers both.
///
/// # Errors
/// The [`Refusal`].
pub(super) fn answer(est: &Est, route: &Route, call: &Call) -> Result<Reply, Refusal> {
    if route.rules.server_keygen == ServerKeygen::Off {
        return Err(Refusal::KeygenOff);
    }
    let now = clock::now();
    let requester = authenticate(route, call, est.desk.store.as_ref(), &est.porter, now)?;
    let der = request::body(route, call)?;
    let spec = kind_of_key(est, route)?;
    let (spki, key) = est.desk.token.generate_for_export(spec).map_err(crate::ca::CaError::from)?;
    let csr = VerifiedCsr::with_our_key(&der, spki)?;
    if !matches!(requester, Requester::Registrar { .. }) {
        request::check_binding(route.rules.channel_binding, csr.challenge(), &call.peer)?;
    }
    // Sealed before anything is issued: a key that nobody can open has no certificate.
    let key = match (csr.decryption_key(), route.rules.server_keygen) {
        (Some(named), _) => Part::Sealed(seal(est, route, &csr, named, &key, now)?),
        (None, ServerKeygen::Encrypted) => return Err(Refusal::KeygenKeyNeeded),
        (None, _) => Part::Plain(key),
    };
    let request = Request { route, requester: &requester, csr: &csr, key_is_ours: true };
    let certificate = enroll::admit_and_issue(est, &request, now)?;
    tracing::info!(event = "key_generated_for_device", spec = %spec, label = route.label, spki = hex(csr.spki_sha256()));
    multipart(route, &key, &codec::certs_only(&[&certificate]))
}

/// The part of an answer with the key.
enum Part {
    /// PKCS#8.
    Plain(Zeroizing<Vec<u8>>),
    /// EnvelopedData.
    Sealed(Vec<u8>),
}

impl Part {
    fn content_type(&self) -> &'static str {
        match self {
            Self::Plain(_) => "application/pkcs8",
            Self::Sealed(_) => "application/pkcs7-mime; smime-type=server-generated-key",
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(key) => key,
            Self::Sealed(message) => message,
        }
    }
}

/// The key as a package (RFC 5958 section 2) in a SignedData in an EnvelopedData (RFC 7030 section 4.4.2).
fn seal(
    est: &Est,
    route: &Route,
    csr: &VerifiedCsr,
    named: &DecryptionKey,
    key: &[u8],
    now: i64,
) -> Result<Vec<u8>, Refusal> {
    let recipient = recipient::find(&route.rules, named)?;
    let package = Zeroizing::new(tlv::write(tlv::SEQUENCE, &[key]));
    let signed = est.signer.sign(&est.desk, KEY_PACKAGE, &package, &[], now)?;
    let (DecryptionKey::Public(identifier) | DecryptionKey::Secret(identifier)) = named;
    Ok(enveloped::seal(signed, &recipient, identifier, csr.capabilities())?)
}

/// The kind of key: the first of the profile that the token can give away.
fn kind_of_key(est: &Est, route: &Route) -> Result<GivenKey, Refusal> {
    let profile = est.profile(route)?;
    if profile.keys.is_empty() {
        return Ok(GivenKey::Signing(KeySpec::EcP256));
    }
    let spec = |rule: &KeyRule| match rule {
        KeyRule::Exactly(KeyKind::EcP256) => Some(GivenKey::Signing(KeySpec::EcP256)),
        KeyRule::Exactly(KeyKind::EcP384) => Some(GivenKey::Signing(KeySpec::EcP384)),
        KeyRule::RsaFrom(bits) => Some(GivenKey::Signing(KeySpec::Rsa { modulus_bits: *bits })),
        KeyRule::Exactly(KeyKind::EcP521) => Some(GivenKey::Signing(KeySpec::EcP521)),
        KeyRule::Exactly(KeyKind::MlKem(set)) => Some(GivenKey::Encapsulation(*set)),
        KeyRule::Exactly(_) => None,
    };
    let given = "ec:P-256, ec:P-384, ec:P-521, rsa, ml-kem";
    let fault = || AdmissionFault::from(ProfileFault::KeyNotPermitted(given.to_owned()));
    profile.keys.iter().find_map(spec).ok_or_else(|| fault().into())
}

/// Two parts, the key and then the certificate, each with its own fields (RFC 7030 section 4.4.2).
fn multipart(route: &Route, key: &Part, certificate: &[u8]) -> Result<Reply, Refusal> {
    let boundary = format!("part-{}", hex(&serial::random(12)?));
    let columns = route.rules.base64_wrap_columns;
    let text = Zeroizing::new(codec::encode(key.bytes(), columns));
    let certificate = codec::encode(certificate, columns);
    let part = |kind: &str, body: &str| {
        format!("--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: base64\r\n\r\n{body}\r\n")
    };
    let head = Zeroizing::new(part(key.content_type(), &text));
    let tail = part("application/pkcs7-mime; smime-type=certs-only", &certificate);
    let body = [head.as_str(), &tail, "--", &boundary, "--\r\n"].concat();
    let content_type = HeaderValue::try_from(format!("multipart/mixed; boundary={boundary}"));
    let content_type = content_type.map_err(|fault| crate::ca::CaError::Encoding(fault.to_string()))?;
    Ok(Reply { body: body.into(), ..Reply::empty(StatusCode::OK) }.header(CONTENT_TYPE, content_type))
}
