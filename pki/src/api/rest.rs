//! The operators' REST interface: TLS, a bearer token, JSON. Each path is one command.
//!
//! | method and path | command |
//! | --- | --- |
//! | GET /api/v1/health | health (without token) |
//! | GET /metrics | metrics, in the text format of Prometheus |
//! | GET /api/v1/stats | stats |
//! | GET /api/v1/cas | ca list |
//! | POST /api/v1/cas {"id": "...", "kind": "issuing", "parent": "root", "subject": "...", "key": "..."} | ca create |
//! | GET /api/v1/cas/ID | ca show |
//! | POST /api/v1/cas/ID/hold, /release, /retire | ca hold, release, retire |
//! | POST /api/v1/cas/ID/revoke {"reason": "..."} | ca revoke |
//! | POST /api/v1/cas/ID/rollover {"key": "...", "validity_days": 1825} | ca rollover |
//! | GET /api/v1/cas/ID/crl?shard=&delta=true | crl |
//! | POST /api/v1/cas/ID/crl | crl --renew |
//! | GET /api/v1/certificates?after=&limit=&device= | cert list |
//! | GET /api/v1/certificates/SERIAL | cert show |
//! | POST /api/v1/certificates/SERIAL/revoke {"reason": "...", "invalid_since": "2026-01-31"} | cert revoke |
//! | POST /api/v1/certificates/SERIAL/release | cert release |
//! | POST /api/v1/revocations {"authority" or "label" or "serials": ..., "reason": "..."} | cert revoke-all |
//! | GET /api/v1/devices?after=&limit= | device list |
//! | GET /api/v1/devices/ID | device show |
//! | POST /api/v1/bootstrap {"device": "...", "label": "...", "valid_hours": 24} | bootstrap new |

use super::command::{Command, Fault, Paging};
use super::operator::Operator;
use crate::ca::hierarchy::Act;
use crate::counters;
use crate::listener::{BodyFault, Call, Reply};
use crate::x509::sha256;
use http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// Where monitors read.
const METRICS: &str = "/metrics";

/// The REST service.
pub(crate) struct Rest {
    /// Who performs the commands.
    pub(crate) operator: Arc<Operator>,
    /// SHA-256 of the bearer token.
    pub(crate) token_sha256: [u8; 32],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revocation {
    #[serde(default = "unspecified")]
    reason: String,
    invalid_since: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revocations {
    authority: Option<String>,
    label: Option<String>,
    device: Option<String>,
    serials: Option<Vec<String>>,
    #[serde(default = "unspecified")]
    reason: String,
    invalid_since: Option<String>,
}

fn unspecified() -> String {
    "unspecified".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rollover {
    key: Option<String>,
    validity_days: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bootstrap {
    device: Option<String>,
    label: Option<String>,
    #[serde(default = "one_day")]
    valid_hours: u32,
}

fn one_day() -> u32 {
    24
}

impl Rest {
    /// Answers a request.
    pub(crate) fn answer(&self, call: &Call) -> Reply {
        let is_health = call.path == "/api/v1/health";
        if !is_health && !self.is_operator(call) {
            counters::refused("operator_token");
            tracing::info!(event = "refused", reason = "operator_token", address = %call.peer.address, path = call.path);
            let fault = Fault::new("unauthorized", "the operators' bearer token is needed");
            return json(StatusCode::UNAUTHORIZED, &fault)
                .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"craton-pki\""));
        }
        match command(call).and_then(|command| self.operator.perform(command)) {
            Ok(value) if call.path == METRICS => {
                let text = value.get("text").and_then(serde_json::Value::as_str).unwrap_or_default();
                Reply::with(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.to_owned())
            }
            Ok(value) => json(StatusCode::OK, &value),
            Err(fault) => json(status(&fault), &fault),
        }
    }

    fn is_operator(&self, call: &Call) -> bool {
        let field = call.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let Some((scheme, token)) = field.split_at_checked(7) else { return false };
        let matches = sha256(token).ct_eq(&self.token_sha256);
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(matches)
    }
}

fn command(call: &Call) -> Result<Command, Fault> {
    let not_found = || Fault::new("not_found", "there is nothing at this path");
    if call.path == METRICS && call.method == Method::GET {
        return Ok(Command::Metrics {});
    }
    let rest = call.path.strip_prefix("/api/v1/").ok_or_else(not_found)?;
    let segments = rest.split('/').map(decoded).collect::<Option<Vec<String>>>().ok_or_else(not_found)?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (method, command): (Method, Result<Command, Fault>) = match segments.as_slice() {
        ["health"] => (Method::GET, Ok(Command::Health {})),
        ["cas"] if call.method == Method::POST => {
            (Method::POST, body(call).map(|order| Command::CaCreate(Box::new(order))))
        }
        ["stats"] => (Method::GET, Ok(Command::Stats {})),
        ["signatures"] => (Method::GET, Ok(Command::Signatures {})),
        ["cas"] => (Method::GET, Ok(Command::CaList {})),
        ["cas", id] => (Method::GET, Ok(Command::CaShow { id: (*id).to_owned() })),
        ["cas", id, "hold"] => (Method::POST, Ok(Command::CaMove { id: (*id).to_owned(), act: Act::Hold })),
        ["cas", id, "release"] => (Method::POST, Ok(Command::CaMove { id: (*id).to_owned(), act: Act::Release })),
        ["cas", id, "retire"] => (Method::POST, Ok(Command::CaMove { id: (*id).to_owned(), act: Act::Retire })),
        ["cas", id, "revoke"] => (
            Method::POST,
            body(call).map(|body: Revocation| Command::CaRevoke { id: (*id).to_owned(), reason: body.reason }),
        ),
        ["cas", id, "rollover"] => (
            Method::POST,
            body(call).map(|body: Rollover| Command::CaRollover {
                id: (*id).to_owned(),
                key: body.key,
                validity_days: body.validity_days,
            }),
        ),
        ["cas", id, "crl"] if call.method == Method::POST => {
            (Method::POST, Ok(Command::Crl { authority: (*id).to_owned(), renew: true, shard: 0, delta: false }))
        }
        ["cas", id, "crl"] => (Method::GET, query(call).and_then(|query| crl(id, query))),
        ["certificates"] => (
            Method::GET,
            query(call)
                .and_then(|mut query| Ok(Command::CertList { device: query.remove("device"), paging: paging(query)? })),
        ),
        ["certificates", serial] => (Method::GET, Ok(Command::CertShow { serial: (*serial).to_owned() })),
        ["certificates", serial, "revoke"] => (
            Method::POST,
            body(call).map(|Revocation { reason, invalid_since }| Command::CertRevoke {
                serial: (*serial).to_owned(),
                reason,
                invalid_since,
            }),
        ),
        ["certificates", serial, "release"] => {
            (Method::POST, Ok(Command::CertRelease { serial: (*serial).to_owned() }))
        }
        ["revocations"] => (
            Method::POST,
            body(call).map(|body: Revocations| {
                let Revocations { authority, label, device, serials, reason, invalid_since } = body;
                Command::CertRevokeAll { authority, label, device, serials, reason, invalid_since }
            }),
        ),
        ["devices"] => (Method::GET, query(call).and_then(|query| Ok(Command::DeviceList { paging: paging(query)? }))),
        ["devices", id] => (Method::GET, Ok(Command::DeviceShow { id: (*id).to_owned() })),
        ["approvals"] => {
            (Method::GET, query(call).and_then(|query| Ok(Command::ApprovalList { paging: paging(query)? })))
        }
        ["approvals", id, decision @ ("grant" | "refuse")] => {
            (Method::POST, Ok(Command::ApprovalDecide { id: (*id).to_owned(), grant: *decision == "grant" }))
        }
        ["bootstrap"] => (
            Method::POST,
            body(call).map(|body: Bootstrap| Command::BootstrapNew {
                device: body.device,
                label: body.label,
                valid_hours: body.valid_hours,
            }),
        ),
        _ => return Err(not_found()),
    };
    if call.method != method {
        return Err(Fault::new("method", format!("this path is called with {method}")));
    }
    command
}

fn crl(authority: &str, mut query: BTreeMap<String, String>) -> Result<Command, Fault> {
    let number = query.remove("shard").unwrap_or_else(|| "0".to_owned());
    let shard = number.parse().map_err(|_| Fault::new("bad_request", "'shard' is not a number"))?;
    let delta = query.remove("delta").is_some_and(|word| word == "true");
    match query.keys().next() {
        Some(unknown) => Err(Fault::new("bad_request", format!("unknown query key '{unknown}'"))),
        None => Ok(Command::Crl { authority: authority.to_owned(), renew: false, shard, delta }),
    }
}

fn body<T: for<'a> Deserialize<'a>>(call: &Call) -> Result<T, Fault> {
    let bytes = call.body.as_ref().map_err(|fault| match fault {
        BodyFault::TooLarge => Fault::new("body_too_large", "the body is larger than 64 KiB"),
        BodyFault::Broken => Fault::new("bad_request", "the body did not arrive"),
    })?;
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(text).map_err(|fault| Fault::new("bad_request", fault))
}

fn query(call: &Call) -> Result<BTreeMap<String, String>, Fault> {
    let bad = || Fault::new("bad_request", "the query does not decode");
    call.query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(key).ok_or_else(bad)?, decoded(value).ok_or_else(bad)?))
        })
        .collect()
}

fn paging(mut query: BTreeMap<String, String>) -> Result<Paging, Fault> {
    let after = query.remove("after");
    let limit = match query.remove("limit") {
        Some(text) => Some(text.parse().map_err(|_| Fault::new("bad_request", "'limit' is not a number"))?),
        None => None,
    };
    match query.keys().next() {
        Some(unknown) => Err(Fault::new("bad_request", format!("unknown query key '{unknown}'"))),
        None => Ok(Paging { after, limit }),
    }
}

/// Percent-decoding (RFC 3986 section 2.1).
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let (digits, tail) = tail.split_at_checked(2)?;
            bytes.extend(data_encoding::HEXLOWER_PERMISSIVE.decode(digits).ok()?);
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

fn status(fault: &Fault) -> StatusCode {
    match fault.code.as_str() {
        "not_found" => StatusCode::NOT_FOUND,
        "bad_request" => StatusCode::BAD_REQUEST,
        "method" => StatusCode::METHOD_NOT_ALLOWED,
        "body_too_large" => StatusCode::PAYLOAD_TOO_LARGE,
        "already_revoked" | "not_on_hold" | "conflict" | "hierarchy" | "name_constraint" | "wrong_key" => {
            StatusCode::CONFLICT
        }
        "token" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(body) => Reply::with(status, "application/json", body),
        Err(_) => Reply::empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_signs_are_decoded() {
        assert_eq!(decoded("sensor%201%2Fa"), Some("sensor 1/a".to_owned()));
        for bad in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }
}
