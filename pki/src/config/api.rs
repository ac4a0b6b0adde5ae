//! `[api]`: the operators' door.

use crate::secret::{SecretSource, WrittenSecret};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::Path;

/// `[api]` as written.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenApi {
    listen: Option<SocketAddr>,
    token: Option<WrittenSecret>,
}

/// `[api]` as meant.
pub(crate) struct ApiSection {
    /// Where to listen; none for no REST listener.
    pub(crate) listen: Option<SocketAddr>,
    /// Where the bearer token comes from.
    pub(crate) token: Option<SecretSource>,
}

impl WrittenApi {
    /// What is meant.
    pub(super) fn mean(self, folder: &Path, warnings: &mut Vec<String>) -> ApiSection {
        let token = self.token.map(|written| SecretSource::parse(&written.0, folder));
        if matches!(token, Some(SecretSource::Inline(_))) {
            warnings.push("api.token stands in the configuration file: use env:NAME or file:PATH".to_owned());
        }
        ApiSection { listen: self.listen, token }
    }
}
