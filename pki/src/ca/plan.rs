//! What an authority is to be, before there is one.

use crate::store::kind::AuthorityKind;
use crate::x509::algorithm::KeySpec;
use x509_cert::ext::pkix::NameConstraints;
use x509_cert::name::Name;

/// An authority that is to be.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Its name in the configuration and in commands.
    pub(crate) id: String,
    /// What it is for.
    pub(crate) kind: AuthorityKind,
    /// Who signs it; empty for a root.
    pub(crate) parent: String,
    /// Its subject.
    pub(crate) subject: Name,
    /// Kind of its key.
    pub(crate) key: KeySpec,
    /// How long it is to be good.
    pub(crate) validity_seconds: i64,
    /// How many levels of authorities an intermediate may have below itself.
    pub(crate) path_length: Option<u8>,
    /// The names it may certify; none for no limit.
    pub(crate) constraints: Option<NameConstraints>,
    /// The authority whose name it goes on with, empty for a new name.
    pub(crate) predecessor: String,
}
