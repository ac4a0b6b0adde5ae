//! Enrolment over Secure Transport (RFC 7030, clarified by RFC 8951): the devices' door.
//!
//! A request passes through types that only their own room can make: `Route` (routes), `Requester` (auth), `VerifiedCsr`
//! (x509), `Admission` (device), `Prepared`, `Intended`, `Issued` (ca). What is refused is refused by name (error).

pub(crate) mod auth;
pub(crate) mod codec;
pub(crate) mod enroll;
pub(crate) mod error;
pub(crate) mod routes;

use crate::ca::Desk;
use crate::config::Profile;
use crate::listener::{Call, Reply};
use auth::Limiter;
use error::Refusal;
use http::header::{ETAG, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use routes::{Operation, Route};
use std::collections::BTreeMap;

/// Content-Transfer-Encoding, which clients of 2013 still look for.
const TRANSFER_ENCODING: HeaderName = HeaderName::from_static("content-transfer-encoding");

/// The EST service.
pub(crate) struct Est {
    /// Where certificates are issued.
    pub(crate) desk: Desk,
    /// Profiles by name.
    pub(crate) profiles: BTreeMap<String, Profile>,
    /// Profile names by label.
    pub(crate) labels: BTreeMap<String, String>,
    /// Line length of answers, 0 for no line breaks.
    pub(crate) base64_wrap_columns: usize,
    /// Counts failed logins.
    pub(crate) limiter: Limiter,
}

impl Est {
    /// Answers a request.
    pub(crate) fn answer(&self, call: &Call) -> Reply {
        let outcome = Route::find(&call.path, &self.labels).and_then(|route| self.perform(&route, call));
        outcome.unwrap_or_else(|refusal| {
            refusal.log(call);
            refusal.reply()
        })
    }

    fn perform(&self, route: &Route, call: &Call) -> Result<Reply, Refusal> {
        if call.method != route.operation.method() && !(route.operation.is_read() && call.method == Method::HEAD) {
            return Err(Refusal::Method(route.operation.method()));
        }
        match route.operation {
            Operation::CaCerts => self.ca_certs(route),
            // Nothing is asked of requests beyond RFC 7030, so there is nothing to say (section 4.5.2).
            Operation::CsrAttrs => Ok(Reply::empty(StatusCode::NO_CONTENT)),
            Operation::SimpleEnroll | Operation::SimpleReenroll => {
                let certificate = enroll::enroll(self, route, call)?;
                let body = codec::certs_only(&[&certificate]);
                Ok(self.certificates("application/pkcs7-mime; smime-type=certs-only", &body))
            }
        }
    }

    /// The chain of the authority that issues under this label (RFC 7030 section 4.1.3).
    fn ca_certs(&self, route: &Route) -> Result<Reply, Refusal> {
        let profile = self.profiles.get(&route.profile).ok_or(Refusal::UnknownLabel)?;
        let issuer = self.desk.newest(&profile.authority)?;
        let chain = self.desk.chain_certificates(&issuer.id)?;
        let body = codec::certs_only(&chain.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let tag = format!("\"{}\"", crate::x509::hex(&crate::x509::sha256(&body)));
        let reply = self.certificates("application/pkcs7-mime", &body);
        Ok(match HeaderValue::try_from(tag) {
            Ok(tag) => reply.header(ETAG, tag),
            Err(_) => reply,
        })
    }

    fn certificates(&self, content_type: &'static str, cms: &[u8]) -> Reply {
        let body = codec::encode(cms, self.base64_wrap_columns);
        Reply::with(StatusCode::OK, content_type, body).header(TRANSFER_ENCODING, HeaderValue::from_static("base64"))
    }
}
