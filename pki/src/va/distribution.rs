//! The CRL distribution point: `GET /crl/AUTHORITY.crl` by plain HTTP, with the caching fields that relying parties use.

use super::crl::AUTHORITIES;
use crate::listener::{Call, Reply};
use crate::store::Store;
use crate::store::record::Crl;
use http::header::{ALLOW, CACHE_CONTROL, ETAG, EXPIRES, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, Method, StatusCode};
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// IMF-fixdate (RFC 9110 section 5.6.7).
const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

/// The distribution point.
pub(crate) struct Distribution {
    /// Where the published lists are.
    pub(crate) store: Arc<dyn Store>,
}

impl Distribution {
    /// Answers a request.
    pub(crate) fn answer(&self, call: &Call) -> Reply {
        let authority = call.path.strip_prefix("/crl/").and_then(|rest| rest.strip_suffix(".crl"));
        let Some(authority) = authority.filter(|authority| AUTHORITIES.contains(authority)) else {
            return Reply::sentence(StatusCode::NOT_FOUND, "there is nothing at this path");
        };
        if call.method != Method::GET && call.method != Method::HEAD {
            return Reply::empty(StatusCode::METHOD_NOT_ALLOWED).header(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        match self.store.crl(authority) {
            Ok(Some(crl)) if crl.number > 0 => published(crl, &call.headers),
            Ok(_) => Reply::sentence(StatusCode::SERVICE_UNAVAILABLE, "no CRL is published yet"),
            Err(fault) => {
                tracing::error!(event = "crl_not_served", authority, %fault);
                Reply::sentence(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
            }
        }
    }
}

fn published(crl: Crl, asked: &HeaderMap) -> Reply {
    let tag = format!("\"{}-{}\"", crl.authority, crl.number);
    let modified = http_date(crl.this_update);
    let has = |name, wanted: &str| asked.get(name).and_then(|value| value.to_str().ok()) == Some(wanted);
    let known = match asked.get(IF_NONE_MATCH) {
        Some(_) => has(IF_NONE_MATCH, &tag),
        None => has(IF_MODIFIED_SINCE, &modified),
    };
    let mut reply = if known {
        Reply::empty(StatusCode::NOT_MODIFIED)
    } else {
        Reply::with(StatusCode::OK, "application/pkix-crl", crl.der)
    };
    reply = reply.header(CACHE_CONTROL, HeaderValue::from_static("public, no-transform, must-revalidate, max-age=60"));
    for (name, value) in [(ETAG, tag), (LAST_MODIFIED, modified), (EXPIRES, http_date(crl.next_update))] {
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
        let mut asked = HeaderMap::new();
        assert_eq!(published(crl.clone(), &asked).status, StatusCode::OK);
        asked.insert(IF_NONE_MATCH, HeaderValue::from_static("\"issuing-3\""));
        assert_eq!(published(crl.clone(), &asked).status, StatusCode::NOT_MODIFIED);
        asked.insert(IF_NONE_MATCH, HeaderValue::from_static("\"issuing-2\""));
        assert_eq!(published(crl, &asked).status, StatusCode::OK);
    }
}
