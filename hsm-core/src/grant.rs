//! What one client may do: which tokens, in which roles, by which mechanisms, with which keys. A door finds the grant of a peer in
//! its configuration; from then on the pipeline holds the peer to it.
//!
//! A grant only takes away. Whoever may use a token still needs its PIN, and a key's own attributes still say what it is for. The one
//! exception is [`ClientRole::AutoLogin`], and only where the token's user has allowed it.

use ck::Mechanism;
use ck::attribute::{CKA_CLASS, CKA_LABEL, CKA_TOKEN};
use ck::object::{CKO_PRIVATE_KEY, CKO_PUBLIC_KEY, CKO_SECRET_KEY};

use crate::error::{Error, Kind, Result};
use crate::object::Attributes;

/// What a client may be to a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientRole {
    /// Opens sessions, logs in as the user, uses keys, makes session objects.
    Use,
    /// Makes, changes and destroys what lasts in the token, wraps and unwraps keys, changes the user PIN.
    Manage,
    /// Initialises tokens and logs in as the SO.
    So,
    /// Takes backups.
    Backup,
    /// Sees the state of daemon, tokens and journal.
    AuditRead,
    /// Shows the checkpoints of another daemon's journal.
    Witness,
    /// Everything that the administrative service offers.
    Admin,
    /// Logs in as the user without a PIN, at tokens with an AUTO slot. Nobody has it who was not given it by name.
    AutoLogin,
}

impl ClientRole {
    /// Every role with its word in the configuration.
    pub const ALL: [(&'static str, ClientRole); 8] = [
        ("use", ClientRole::Use),
        ("manage", ClientRole::Manage),
        ("so", ClientRole::So),
        ("backup", ClientRole::Backup),
        ("audit-read", ClientRole::AuditRead),
        ("witness", ClientRole::Witness),
        ("admin", ClientRole::Admin),
        ("auto-login", ClientRole::AutoLogin),
    ];
}

/// Names, of which a trailing `*` makes the beginning of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns(Vec<String>);

impl Patterns {
    /// Those that fit any of these.
    pub fn new(patterns: Vec<String>) -> Self {
        Patterns(patterns)
    }

    /// Whether a name fits.
    pub fn fit(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == pattern,
        })
    }
}

/// What a client may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its roles.
    pub roles: Vec<ClientRole>,
    /// Labels or serial numbers of the tokens that it sees.
    pub tokens: Patterns,
    /// The mechanisms that it may use; `None` is all.
    pub mechanisms: Option<Vec<Mechanism>>,
    /// Labels of the keys in the token that it sees; `None` is all.
    pub key_labels: Option<Patterns>,
}

impl Grant {
    /// Everything that a local application may do: the service of administration is not part of it.
    pub fn token_service() -> Self {
        Grant {
            roles: vec![ClientRole::Use, ClientRole::Manage, ClientRole::So],
            tokens: Patterns::new(vec!["*".to_owned()]),
            mechanisms: None,
            key_labels: None,
        }
    }

    /// Everything, but nothing without a PIN.
    pub fn everything() -> Self {
        let roles = ClientRole::ALL.into_iter().map(|(_, role)| role).filter(|role| *role != ClientRole::AutoLogin);
        Grant { roles: roles.collect(), ..Grant::token_service() }
    }

    /// Whether the client has this role.
    pub fn has(&self, role: ClientRole) -> bool {
        self.roles.contains(&role)
    }

    /// Whether the client sees a token of this label and serial number.
    pub(crate) fn sees_token(&self, label: &str, serial: &str) -> bool {
        let serves = [ClientRole::Use, ClientRole::Manage, ClientRole::So].into_iter().any(|role| self.has(role));
        serves && (self.tokens.fit(label.trim_end()) || self.tokens.fit(serial))
    }

    /// Whether the client may use a mechanism.
    pub(crate) fn offers(&self, mechanism: Mechanism) -> bool {
        self.mechanisms.as_ref().is_none_or(|mechanisms| mechanisms.contains(&mechanism))
    }

    /// Whether the client sees an object with these attributes: session objects and what is no key always.
    pub(crate) fn sees_object(&self, attributes: &Attributes) -> bool {
        let Some(labels) = &self.key_labels else { return true };
        let class = attributes.number(CKA_CLASS).map(ck::ObjectClass);
        let is_key = matches!(class, Some(CKO_PUBLIC_KEY | CKO_PRIVATE_KEY | CKO_SECRET_KEY));
        !is_key || !attributes.flag(CKA_TOKEN) || labels.fit(&String::from_utf8_lossy(attributes.bytes(CKA_LABEL)))
    }

    /// Whether the client may make, change or destroy an object with these attributes.
    ///
    /// # Errors
    /// [`Kind::TokenWriteProtected`] without the role for it, [`Kind::AttributeValue`] for a label that is not its own.
    pub(crate) fn check_write(&self, attributes: &Attributes) -> Result<()> {
        if !attributes.flag(CKA_TOKEN) {
            return Ok(());
        }
        self.check(ClientRole::Manage)?;
        if self.sees_object(attributes) {
            return Ok(());
        }
        Err(Error::new(Kind::AttributeValue, "the client may not have keys of this CKA_LABEL"))
    }

    /// Whether the client has a role.
    ///
    /// # Errors
    /// [`Kind::TokenWriteProtected`].
    pub(crate) fn check(&self, role: ClientRole) -> Result<()> {
        if self.has(role) {
            return Ok(());
        }
        let (word, _) = ClientRole::ALL.into_iter().find(|(_, known)| *known == role).unwrap_or(ClientRole::ALL[0]);
        Err(Error::new(Kind::TokenWriteProtected, format!("the client does not have the role {word:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_names_or_beginnings() {
        let patterns = Patterns::new(vec!["web".into(), "tls-*".into()]);
        let rows = [("web", true), ("web2", false), ("tls-", true), ("tls-1", true), ("tls", false), ("", false)];
        for (name, fits) in rows {
            assert_eq!(patterns.fit(name), fits, "{name:?}");
        }
        assert!(Patterns::new(vec!["*".into()]).fit(""));
        assert!(!Patterns::new(Vec::new()).fit(""));
    }

    #[test]
    fn a_client_without_a_role_in_the_token_service_sees_no_token() {
        let grant = Grant { roles: vec![ClientRole::Backup, ClientRole::AuditRead], ..Grant::token_service() };
        assert!(!grant.sees_token("test", "0001"));
        assert!(Grant::token_service().sees_token("test", "0001"));
        assert!(!Grant::token_service().has(ClientRole::Admin));
    }

    #[test]
    fn nobody_may_log_in_without_a_pin_unless_a_row_says_so() {
        for grant in [Grant::token_service(), Grant::everything()] {
            assert!(!grant.has(ClientRole::AutoLogin));
        }
        assert!(Grant::everything().has(ClientRole::Admin));
    }
}
