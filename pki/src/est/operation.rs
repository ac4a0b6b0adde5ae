//! The operations of EST (RFC 7030 section 3.2.2): their names in paths and their methods.

use super::error::Refusal;
use http::Method;

/// An operation of EST that this server offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// /cacerts.
    CaCerts,
    /// /csrattrs.
    CsrAttrs,
    /// /simpleenroll.
    SimpleEnroll,
    /// /simplereenroll.
    SimpleReenroll,
    /// /serverkeygen.
    ServerKeygen,
    /// /fullcmc.
    FullCmc,
}

/// The names of all EST operations.
const NAMES: &[(&str, Operation)] = &[
    ("cacerts", Operation::CaCerts),
    ("csrattrs", Operation::CsrAttrs),
    ("simpleenroll", Operation::SimpleEnroll),
    ("simplereenroll", Operation::SimpleReenroll),
    ("fullcmc", Operation::FullCmc),
    ("serverkeygen", Operation::ServerKeygen),
];

impl Operation {
    /// The operation with this name in a path.
    pub(crate) fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|row| row.0 == name).map(|row| row.1)
    }

    /// The method it is called with.
    pub(crate) fn method(self) -> Method {
        if self.is_read() { Method::GET } else { Method::POST }
    }

    /// Holds a call to its method; what only reads may be asked for without a body too.
    ///
    /// # Errors
    /// [`Refusal::Method`].
    pub(crate) fn judge_method(self, method: &Method) -> Result<(), Refusal> {
        let fits = *method == self.method() || (self.is_read() && *method == Method::HEAD);
        if fits { Ok(()) } else { Err(Refusal::Method(self.method())) }
    }

    /// True when it changes nothing.
    pub(crate) fn is_read(self) -> bool {
        matches!(self, Self::CaCerts | Self::CsrAttrs)
    }
}
