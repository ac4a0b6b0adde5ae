//! The EST service that the client asks: over TLS always.

use super::ClientError;
use crate::fetch::{Address, Bounds, FetchError, Question};
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;

pub(super) use crate::fetch::{Answer, parse};

/// A first enrolment may wait for a token that went away.
const BOUNDS: Bounds = Bounds { deadline: Duration::from_secs(120), max_bytes: 1024 * 1024 };

impl From<FetchError> for ClientError {
    fn from(fault: FetchError) -> Self {
        match fault {
            FetchError::Address(_) => Self::Arguments(fault.to_string()),
            FetchError::Unreachable(_) => Self::Unreachable(fault.to_string()),
            FetchError::Broken | FetchError::TooLarge(_) => Self::Answer(fault.to_string()),
        }
    }
}

/// Where the EST service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service(Address);

impl Service {
    /// Reads `https://host[:port]/path`.
    pub(super) fn parse(url: &str) -> Result<Self, ClientError> {
        let bad = || ClientError::Arguments(format!("'{url}' must be https://host[:port]/.well-known/est[/LABEL]"));
        let address =
            Address::parse(url.trim_end_matches('/')).filter(|address| address.is_secure && address.path != "/");
        address.map(Self).ok_or_else(bad)
    }

    /// Sends a request and reads its answer whole.
    pub(super) fn call(
        &self,
        tls: Arc<ClientConfig>,
        operation: &str,
        more_headers: &str,
        body: Option<&str>,
    ) -> Result<Answer, ClientError> {
        let question = Question { headers: more_headers, body: body.map(str::as_bytes) };
        Ok(self.0.below(operation).ask(Some(tls), question, BOUNDS)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_asked_over_tls_and_below_a_path() {
        assert_eq!(
            Service::parse("https://pki.example:8443/.well-known/est/line-1/").ok(),
            Address::parse("https://pki.example:8443/.well-known/est/line-1").map(Service)
        );
        for bad in ["http://a/b", "https://a", "https:///b", "pki.example/e"] {
            assert!(Service::parse(bad).is_err(), "{bad}");
        }
    }
}
