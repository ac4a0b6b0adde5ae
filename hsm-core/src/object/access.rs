//! Who sees which object, and who may change it (PKCS#11 v3.0 §4.4 and §5.6, session states).

use ck::attribute::*;

use super::Attributes;
use crate::error::{Kind, Result};
use crate::grant::Grant;
use crate::token::login::Login;

/// What a session may do: its application's login and whether it is read/write.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a> {
    /// Who is logged in.
    pub(crate) login: Login,
    /// Whether the session is read/write.
    pub(crate) read_write: bool,
    /// What the client may do at all.
    pub(crate) grant: &'a Grant,
}

impl Right<'_> {
    /// Whether an object with these attributes may be seen: private objects only by the user, and no keys that are not the
    /// client's.
    pub(crate) fn sees(self, attributes: &Attributes) -> bool {
        self.is_open_to(attributes) && self.grant.sees_object(attributes)
    }

    fn is_open_to(self, attributes: &Attributes) -> bool {
        !attributes.flag(CKA_PRIVATE) || self.login == Login::User
    }

    /// Whether an object with these attributes may be made, changed or destroyed in this session.
    ///
    /// # Errors
    /// [`Kind::SessionReadOnly`] for a token object in a read-only session, whoever is logged in; [`Kind::NotLoggedIn`] for a
    /// private object without the user; and what the client's grant says.
    pub(crate) fn check_write(self, attributes: &Attributes) -> Result<()> {
        if attributes.flag(CKA_TOKEN) && !self.read_write {
            return Err(Kind::SessionReadOnly.into());
        }
        if !self.is_open_to(attributes) {
            return Err(Kind::NotLoggedIn.into());
        }
        self.grant.check_write(attributes)
    }
}
