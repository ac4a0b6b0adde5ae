//! A request as it arrives: who sends it where, what it asks for, and whether it belongs to its connection.

use super::admission;
use super::auth::{Porter, Requester, authenticate};
use super::codec;
use super::error::Refusal;
use super::label::ChannelBinding;
use super::routes::Route;
use crate::listener::{Call, Peer};
use crate::store::Store;
use crate::x509::algorithm::KeyFault;
use crate::x509::csr::{CsrFault, VerifiedCsr};
use data_encoding::BASE64;
use http::header::CONTENT_TYPE;
use subtle::ConstantTimeEq;

/// A request, and who sent it where.
pub(crate) struct Request<'a> {
    /// Where.
    pub(crate) route: &'a Route,
    /// Who.
    pub(crate) requester: &'a Requester,
    /// What.
    pub(crate) csr: &'a VerifiedCsr,
    /// True when the key is one that we made for the device.
    pub(crate) key_is_ours: bool,
}

/// Who asks in a call, and for what.
///
/// # Errors
/// The [`Refusal`].
pub(crate) fn read(
    route: &Route,
    call: &Call,
    store: &dyn Store,
    porter: &Porter,
    now: i64,
) -> Result<(Requester, VerifiedCsr), Refusal> {
    let requester = authenticate(route, call, store, porter, now)?;
    let csr = verified(&requester, &body(route, call)?)?;
    // What a registration authority passes on was linked to another connection than its own (RFC 7030 section 3.7).
    if !matches!(requester, Requester::Registrar { .. }) {
        check_binding(route.rules.channel_binding, csr.challenge(), &call.peer)?;
    }
    Ok((requester, csr))
}

/// A request that proves what it asks to certify: by the key's own signature or, for a key that cannot sign, by that of the certificate
/// which the requester shows (RFC 9883).
fn verified(requester: &Requester, der: &[u8]) -> Result<VerifiedCsr, Refusal> {
    match (VerifiedCsr::verify(der), requester) {
        (Err(CsrFault::Key(KeyFault::CannotSign)), Requester::Device { certificate, .. }) => {
            Ok(VerifiedCsr::stated(der, &admission::parsed(certificate)?)?)
        }
        (verified, _) => Ok(verified?),
    }
}

/// The DER in the body of a call.
///
/// # Errors
/// A [`Refusal`] when the body is of another kind or not base64.
pub(super) fn body(route: &Route, call: &Call) -> Result<Vec<u8>, Refusal> {
    judge_media_type(call, "application/pkcs10", None)?;
    payload(route, call)
}

/// Holds a call to the type of its body, and to its parameter `smime-type` where there must be one.
///
/// # Errors
/// [`Refusal::ContentType`].
pub(super) fn judge_media_type(call: &Call, media_type: &'static str, smime_type: Option<&str>) -> Result<(), Refusal> {
    let field = call.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = field.split(';').map(str::trim);
    let is_type = parts.next().is_some_and(|found| found.eq_ignore_ascii_case(media_type));
    let is_parameter = |part: &str, wanted: &str| {
        let pair = part.split_once('=').map(|(name, value)| (name.trim(), value.trim().trim_matches('"')));
        pair.is_some_and(|(name, value)| name.eq_ignore_ascii_case("smime-type") && value.eq_ignore_ascii_case(wanted))
    };
    let fits = is_type && smime_type.is_none_or(|wanted| parts.any(|part| is_parameter(part, wanted)));
    if fits { Ok(()) } else { Err(Refusal::ContentType(media_type)) }
}

/// The DER in a body of whatever type.
///
/// # Errors
/// A [`Refusal`] when it did not arrive or is not base64.
pub(super) fn payload(route: &Route, call: &Call) -> Result<Vec<u8>, Refusal> {
    let body = call.body.as_ref().map_err(|fault| Refusal::Body(*fault))?;
    // A SEQUENCE begins with 0x30, which is also the digit 0 of base64, but no long form of a length follows it there.
    let is_der = route.rules.raw_der && matches!(body.get(..2), Some([0x30, 0x80..=0xFF]));
    if is_der { Ok(body.to_vec()) } else { codec::decode(body).ok_or(Refusal::NotBase64) }
}

/// RFC 7030 section 3.5 with RFC 9266: a request that claims to belong to this connection must prove it.
///
/// # Errors
/// [`Refusal::Binding`] or [`Refusal::BindingNeeded`].
pub(super) fn check_binding(rule: ChannelBinding, challenge: Option<&str>, peer: &Peer) -> Result<(), Refusal> {
    let challenge = match (challenge, rule) {
        (Some(challenge), _) => challenge,
        (None, ChannelBinding::Optional) => return Ok(()),
        (None, ChannelBinding::Required) => return Err(Refusal::BindingNeeded),
    };
    let Some(exporter) = peer.exporter else {
        return Err(Refusal::Binding(
            "on TLS 1.2 this server cannot check it; use TLS 1.3 with tls-exporter, or leave it out",
        ));
    };
    let claimed = BASE64.decode(challenge.as_bytes()).unwrap_or_default();
    if bool::from(claimed.as_slice().ct_eq(&exporter)) {
        Ok(())
    } else {
        Err(Refusal::Binding("it is not the base64 of the tls-exporter value of this connection"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn a_binding_is_checked_or_refused_never_ignored() {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let peer = |exporter| Peer { address, certificate: None, above: Vec::new(), exporter };
        let right = BASE64.encode(&[7; 32]);
        let optional = ChannelBinding::Optional;
        assert_eq!(check_binding(optional, None, &peer(None)), Ok(()));
        for rule in [optional, ChannelBinding::Required] {
            assert_eq!(check_binding(rule, Some(&right), &peer(Some([7; 32]))), Ok(()));
        }
        let missing = check_binding(ChannelBinding::Required, None, &peer(Some([7; 32])));
        assert_eq!(missing, Err(Refusal::BindingNeeded));
        for (challenge, exporter) in
            [(right.as_str(), None), (&right, Some([8; 32])), ("", Some([7; 32])), ("x", Some([7; 32]))]
        {
            assert!(
                matches!(check_binding(optional, Some(challenge), &peer(exporter)), Err(Refusal::Binding(_))),
                "{challenge}"
            );
        }
    }
}
