//! Who sees which object, and who may change it (PKCS#11 v3.0 §4.4 and §5.6, session states).

use ck::attribute::*;

use super::Attributes;
use crate::error::{Kind, Result};
use crate::token::login::Login;

/// What a session may do: its application's login and whether it is read/write.
#[derive(Clone, Copy)]
pub(crate) struct Right {
    /// Who is logged in.
    pub(crate) login: Login,
    /// Whether the session is read/write.
    pub(crate) read_write: bool,
}

impl Right {
    /// Whether an object with these attributes may be seen: private objects only by the user.
    pub(crate) fn sees(self, attributes: &Attributes) -> bool {
        !attributes.flag(CKA_PRIVATE) || self.login == Login::User
    }

    /// Whether an object with these attributes may be made, changed or destroyed in this session.
    ///
    /// # Errors
    /// [`Kind::NotLoggedIn`] for a private object without the user, [`Kind::SessionReadOnly`] for a token object in a read-only
    /// session.
    pub(crate) fn check_write(self, attributes: &Attributes) -> Result<()> {
        if !self.sees(attributes) {
            return Err(Kind::NotLoggedIn.into());
        }
        if attributes.flag(CKA_TOKEN) && !self.read_write {
            return Err(Kind::SessionReadOnly.into());
        }
        Ok(())
    }
}
