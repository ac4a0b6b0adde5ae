//! Enrolment over Secure Transport (RFC 7030, clarified by RFC 8951): the devices' door.
//!
//! A request passes through types that only their own room can make: `Route` (routes), `Requester` (auth), `VerifiedCsr`
//! (x509), `Admission` (admission), `Prepared`, `Intended`, `Issued` (ca). What is refused is refused by name (error).

pub(crate) mod admission;
mod approval;
pub(crate) mod auth;
pub(crate) mod codec;
pub(crate) mod csrattrs;
pub(crate) mod enroll;
pub(crate) mod error;
mod fault;
mod fullcmc;
mod keygen;
pub(crate) mod label;
pub(crate) mod manufacturer;
pub(crate) mod operation;
mod recipient;
pub(crate) mod request;
pub(crate) mod routes;

use crate::ca::message::MessageSigner;
use crate::ca::{CaError, Desk};
use crate::listener::{Call, Reply};
use crate::profile::Profile;
use auth::Porter;
use error::Refusal;
use http::StatusCode;
use http::header::{ETAG, HeaderName, HeaderValue};
use label::Label;
use operation::Operation;
use routes::Route;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Content-Transfer-Encoding, which clients of 2013 still look for.
const TRANSFER_ENCODING: HeaderName = HeaderName::from_static("content-transfer-encoding");

/// The EST service.
pub(crate) struct Est {
    /// Where certificates are issued.
    pub(crate) desk: Desk,
    /// Profiles by name.
    pub(crate) profiles: BTreeMap<String, Profile>,
    /// Rules by label.
    pub(crate) labels: BTreeMap<String, Arc<Label>>,
    /// Finds out who is asking.
    pub(crate) porter: Porter,
    /// Signs CMS messages.
    pub(crate) signer: MessageSigner,
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
        route.operation.judge_method(&call.method)?;
        match route.operation {
            Operation::CaCerts => self.ca_certs(route),
            Operation::CsrAttrs => self.csr_attrs(route),
            Operation::ServerKeygen => keygen::answer(self, route, call),
            Operation::FullCmc => fullcmc::answer(self, route, call),
            Operation::SimpleEnroll | Operation::SimpleReenroll => {
                let certificate = enroll::enroll(self, route, call)?;
                let body = codec::certs_only(&[&certificate]);
                Ok(base64(route, "application/pkcs7-mime; smime-type=certs-only", &body))
            }
        }
    }

    /// The chain of the authority that issues under this label (RFC 7030 section 4.1.3).
    fn ca_certs(&self, route: &Route) -> Result<Reply, Refusal> {
        let profile = self.profile(route)?;
        let issuer = self.desk.newest(&profile.authority)?;
        let chain = self.desk.chain_certificates(&issuer.id)?;
        let body = codec::certs_only(&chain.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let tag = format!("\"{}\"", crate::x509::hex(&crate::x509::sha256(&body)));
        let reply = base64(route, "application/pkcs7-mime", &body);
        Ok(match HeaderValue::try_from(tag) {
            Ok(tag) => reply.header(ETAG, tag),
            Err(_) => reply,
        })
    }

    /// What the profile asks of requests (RFC 7030 section 4.5.2, RFC 9908).
    fn csr_attrs(&self, route: &Route) -> Result<Reply, Refusal> {
        let der = csrattrs::attributes(self.profile(route)?, &route.rules).map_err(CaError::from)?;
        Ok(base64(route, "application/csrattrs", &der))
    }

    /// The profile of a route. The configuration refuses labels without one.
    fn profile(&self, route: &Route) -> Result<&Profile, Refusal> {
        self.profiles.get(&route.rules.profile).ok_or(Refusal::UnknownLabel)
    }
}

/// An answer in base64, in lines as the label asks.
fn base64(route: &Route, content_type: &'static str, der: &[u8]) -> Reply {
    let body = codec::encode(der, route.rules.base64_wrap_columns);
    Reply::with(StatusCode::OK, content_type, body).header(TRANSFER_ENCODING, HeaderValue::from_static("base64"))
}
