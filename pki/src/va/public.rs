//! The public listener, plain HTTP for what carries its own signature: CRLs (`GET /crl/AUTHORITY.crl`), certificates of authorities
//! (`GET /ca/AUTHORITY.cer`) and the OCSP responder (`POST /ocsp`, `GET /ocsp/BASE64`: RFC 6960 appendix A), with the caching
//! fields that relying parties use (RFC 5019 section 6).

use super::ocsp::{Answer, Responder};
use crate::listener::{BodyFault, Call, Reply};
use crate::store::record::Crl;
use crate::store::{Store, StoreError};
use crate::x509::ocsp::ErrorStatus;
use crate::x509::{hex, sha256};
use crate::{clock, counters};
use bytes::Bytes;
use data_encoding::{BASE64_NOPAD, HEXLOWER_PERMISSIVE};
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    LAST_MODIFIED,
};
use http::{HeaderMap, Method, StatusCode};
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// IMF-fixdate (RFC 9110 section 5.6.7).
const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
/// The reason code of an answer, for programs.
const REASON: HeaderName = HeaderName::from_static("x-craton-reason");
const OCSP_RESPONSE: &str = "application/ocsp-response";
const OCSP_REQUEST: &[u8] = b"application/ocsp-request";
/// How long a CRL may be used by a cache without asking again.
const CRL_MAX_AGE_SECONDS: i64 = 60;

/// What the listener serves.
pub(crate) struct Public {
    /// Where the published lists are.
    pub(crate) store: Arc<dyn Store>,
    /// Who answers OCSP; none when it is switched off.
    pub(crate) responder: Option<Arc<Responder>>,
    /// How long an OCSP answer may be used by a cache without asking again.
    pub(crate) ocsp_max_age_seconds: i64,
}

/// What the caching fields are made of.
struct Freshness {
    tag: String,
    modified: i64,
    expires: i64,
    max_age_seconds: i64,
}

impl Public {
    /// Answers a request.
    pub(crate) fn answer(&self, call: &Call) -> Reply {
        if let Some(name) = call.path.strip_prefix("/crl/").and_then(|rest| rest.strip_suffix(".crl")) {
            return self.crl(name, call);
        }
        if let Some(name) = call.path.strip_prefix("/ca/").and_then(|rest| rest.strip_suffix(".cer")) {
            return self.certificate(name, call);
        }
        match (&self.responder, call.path.strip_prefix("/ocsp")) {
            (Some(responder), Some(rest)) if rest.is_empty() || rest.starts_with('/') => {
                self.ocsp(responder, rest, call)
            }
            _ => refused(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path"),
        }
    }

    fn crl(&self, name: &str, call: &Call) -> Reply {
        if call.method != Method::GET && call.method != Method::HEAD {
            return wrong_method("GET, HEAD");
        }
        match self.crl_for(name, call) {
            Ok(Some(crl)) if crl.number > 0 => published(crl, &call.headers),
            Ok(Some(_)) => refused(StatusCode::SERVICE_UNAVAILABLE, "crl_not_published", "no CRL is published yet"),
            Ok(None) => refused(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path"),
            Err(fault) => {
                tracing::error!(event = "crl_not_served", name, %fault);
                refused(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error")
            }
        }
    }

    /// The list; only its record for who has the list already, because it may be large.
    fn crl_for(&self, name: &str, call: &Call) -> Result<Option<Crl>, StoreError> {
        let record = self.store.crl_record(name)?;
        match record {
            Some(record) if record.number > 0 && !is_known(&call.headers, &freshness_of(&record)) => {
                self.store.crl(name)
            }
            record => Ok(record),
        }
    }

    fn certificate(&self, authority: &str, call: &Call) -> Reply {
        if call.method != Method::GET && call.method != Method::HEAD {
            return wrong_method("GET, HEAD");
        }
        match self.store.authority(authority) {
            Ok(Some(found)) => Reply::with(StatusCode::OK, "application/pkix-cert", found.certificate)
                .header(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600")),
            Ok(None) => refused(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path"),
            Err(fault) => {
                tracing::error!(event = "certificate_not_served", authority, %fault);
                refused(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error")
            }
        }
    }

    fn ocsp(&self, responder: &Responder, rest: &str, call: &Call) -> Reply {
        let request = match call.method {
            Method::GET | Method::HEAD => decoded_path(rest).map(Bytes::from).ok_or(ErrorStatus::MalformedRequest),
            Method::POST => match posted(call) {
                Ok(body) => Ok(body),
                Err(reply) => return *reply,
            },
            _ => return wrong_method("GET, HEAD, POST"),
        };
        let now = clock::now();
        match request.and_then(|request| responder.respond(&request, now)) {
            Ok(answer) => self.answered(&answer, call, now),
            Err(status) => {
                let (reason, address) = (status.code(), call.peer.address);
                counters::refused(reason);
                tracing::info!(event = "refused", reason, status = 200, %address, path = "/ocsp");
                Reply::with(StatusCode::OK, OCSP_RESPONSE, status.response())
                    .header(REASON, HeaderValue::from_static(reason))
            }
        }
    }

    fn answered(&self, answer: &Answer, call: &Call, now: i64) -> Reply {
        counters::ocsp_answered();
        let body = answer.der.clone();
        if call.method == Method::POST || !answer.is_cacheable {
            return Reply::with(StatusCode::OK, OCSP_RESPONSE, body);
        }
        let freshness = Freshness {
            tag: format!("\"{}\"", hex(&sha256(&body)[..16])),
            modified: answer.this_update,
            expires: answer.next_update,
            max_age_seconds: self.ocsp_max_age_seconds.min(answer.next_update.saturating_sub(now)),
        };
        cached(Reply::with(StatusCode::OK, OCSP_RESPONSE, body), &call.headers, &freshness)
    }
}

fn refused(status: StatusCode, reason: &'static str, sentence: &str) -> Reply {
    counters::refused(reason);
    Reply::sentence(status, sentence).header(REASON, HeaderValue::from_static(reason))
}

fn wrong_method(allowed: &'static str) -> Reply {
    counters::refused("method");
    Reply::empty(StatusCode::METHOD_NOT_ALLOWED)
        .header(ALLOW, HeaderValue::from_static(allowed))
        .header(REASON, HeaderValue::from_static("method"))
}

/// The body of a POST.
fn posted(call: &Call) -> Result<Bytes, Box<Reply>> {
    let content_type = call.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if !media_type.eq_ignore_ascii_case(OCSP_REQUEST) {
        let sentence = "the Content-Type must be application/ocsp-request";
        return Err(Box::new(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", sentence)));
    }
    call.body.clone().map_err(|fault| {
        Box::new(match fault {
            BodyFault::TooLarge => {
                refused(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the body is larger than 64 KiB")
            }
            BodyFault::Broken => refused(StatusCode::BAD_REQUEST, "body_broken", "the body did not arrive"),
        })
    })
}

/// The request in the path of a GET: base64, percent-encoded or not, of either alphabet, padded or not, behind any number of
/// slashes. Clients and proxies produce all of these.
pub(crate) fn decoded_path(rest: &str) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(rest.len());
    let mut bytes = rest.as_bytes();
    while let [first, tail @ ..] = bytes {
        bytes = tail;
        let byte = if *first == b'%' {
            let (digits, tail) = tail.split_at_checked(2)?;
            bytes = tail;
            *HEXLOWER_PERMISSIVE.decode(digits).ok()?.first()?
        } else {
            *first
        };
        match byte {
            b'-' | b' ' => text.push(b'+'),
            b'_' => text.push(b'/'),
            b'\r' | b'\n' | b'=' => {}
            other => text.push(other),
        }
    }
    let start = text.iter().position(|byte| *byte != b'/').unwrap_or(text.len());
    BASE64_NOPAD.decode(&text[start..]).ok().filter(|request| !request.is_empty())
}

fn freshness_of(crl: &Crl) -> Freshness {
    Freshness {
        tag: format!("\"{}-{}\"", crl.authority, crl.number),
        modified: crl.this_update,
        expires: crl.next_update,
        max_age_seconds: CRL_MAX_AGE_SECONDS,
    }
}

fn published(crl: Crl, asked: &HeaderMap) -> Reply {
    let freshness = freshness_of(&crl);
    cached(Reply::with(StatusCode::OK, "application/pkix-crl", crl.der), asked, &freshness)
}

/// Whether the asker has it already (RFC 9110 section 13.2.2).
fn is_known(asked: &HeaderMap, freshness: &Freshness) -> bool {
    let modified = http_date(freshness.modified);
    let text = |name| asked.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    match text(IF_NONE_MATCH) {
        Some(tags) => tags.split(',').any(|tag| {
            let tag = tag.trim();
            tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == freshness.tag
        }),
        None => text(IF_MODIFIED_SINCE).is_some_and(|date| date == modified),
    }
}

/// The reply with its caching fields; without its body when the asker has it already.
fn cached(reply: Reply, asked: &HeaderMap, freshness: &Freshness) -> Reply {
    let modified = http_date(freshness.modified);
    let mut reply = if is_known(asked, freshness) { Reply::empty(StatusCode::NOT_MODIFIED) } else { reply };
    let control = format!("max-age={}, public, no-transform, must-revalidate", freshness.max_age_seconds.max(0));
    let fields = [
        (CACHE_CONTROL, control),
        (ETAG, freshness.tag.clone()),
        (LAST_MODIFIED, modified),
        (EXPIRES, http_date(freshness.expires)),
    ];
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::try_from(value) {
            reply = reply.header(name, value);
        }
    }
    reply
}

fn http_date(unix_seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix_seconds)
        .ok()
        .and_then(|instant| instant.format(HTTP_DATE).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_imf_fixdate() {
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn a_known_list_is_not_sent_again() {
        let crl = Crl {
            authority: "issuing".to_owned(),
            number: 3,
            der: vec![1],
            this_update: 784_111_777,
            ..Crl::default()
        };
        let rows = [
            ("\"issuing-3\"", StatusCode::NOT_MODIFIED),
            ("\"issuing-1\", W/\"issuing-3\"", StatusCode::NOT_MODIFIED),
            ("*", StatusCode::NOT_MODIFIED),
            ("\"issuing-2\"", StatusCode::OK),
        ];
        assert_eq!(published(crl.clone(), &HeaderMap::new()).status, StatusCode::OK);
        for (tags, status) in rows {
            let mut asked = HeaderMap::new();
            asked.insert(IF_NONE_MATCH, HeaderValue::from_static(tags));
            assert_eq!(published(crl.clone(), &asked).status, status, "{tags}");
        }
        let mut asked = HeaderMap::new();
        asked.insert(IF_MODIFIED_SINCE, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(published(crl, &asked).status, StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn the_path_of_a_get_is_read_in_every_spelling() {
        // Base64 "+/++Pg==" in all the ways it is sent.
        let wanted = Some(vec![0xFB, 0xFF, 0xBE, 0x3E]);
        let rows =
            ["/+/++Pg==", "/%2B%2F%2b%2bPg%3D%3D", "//%2B/++Pg==", "/-_--Pg", "/ /  Pg==", "/%2B%2F++Pg%3d%3D%0A"];
        for row in rows {
            assert_eq!(decoded_path(row), wanted, "{row}");
        }
        for bad in ["", "/", "/%", "/%zz", "/!!!!", "/A"] {
            assert_eq!(decoded_path(bad), None, "{bad}");
        }
    }
}
