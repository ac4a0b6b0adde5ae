//! What the PKI remembers, behind two methods: [`Store::commit`] takes a business event, [`Store::find`] answers a question.
//!
//! A new event or a new question is a new variant; the compiler then walks its author to every place that must know it.
//! No certificate list is ever scanned: each question has its index.

pub(crate) mod change;
#[cfg(test)]
mod conformance;
pub(crate) mod image;
pub(crate) mod kind;
pub(crate) mod lifecycle;
pub(crate) mod merkle;
pub(crate) mod notice;
pub(crate) mod query;
pub(crate) mod record;
pub(crate) mod redb;
#[cfg(test)]
mod scale;

pub(crate) use change::{Change, Passed, Supersession, Undone};
pub(crate) use query::{Page, Query, Record};

use image::Facts;
use record::{Authority, Certificate, Credential, Crl, Device, KeyPlan, KeyUse, Restoration, Revocation};

/// Why a change was not made or a question not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// The change does not fit what is stored: nothing was changed.
    #[error("{0}")]
    Conflict(Conflict),
    /// The file is held by another process.
    #[error("the store {0} is held by another craton-pki process")]
    Held(String),
    /// The file was written by a newer program.
    #[error("the store has format version {found}, this program knows version {known}: use a newer craton-pki")]
    Version {
        /// What the file says.
        found: u64,
        /// What we know.
        known: u64,
    },
    /// A record does not decode.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The back end failed.
    #[error("the store failed: {0}")]
    Backend(String),
}

/// Why a change does not fit. Each is a fact that was true at the moment of the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Conflict {
    /// The serial number is taken.
    #[error("the serial number is already used")]
    SerialTaken,
    /// There is no such open intent.
    #[error("there is no open intent for this serial number")]
    NoIntent,
    /// Another enrolment of the same device, certificate or credential is under way.
    #[error("another enrolment of the same device is under way")]
    Busy,
    /// The certificate to replace or revoke is not active.
    #[error("the certificate is not active")]
    NotActive,
    /// The certificate to release is not on hold.
    #[error("the certificate is not on hold")]
    NotOnHold,
    /// The certificate to revoke is revoked already.
    #[error("the certificate is already revoked")]
    AlreadyRevoked,
    /// There is no such record.
    #[error("there is no such record")]
    Missing,
    /// The record exists already.
    #[error("there is already such a record")]
    Exists,
    /// The device changed since it was read.
    #[error("the device changed meanwhile")]
    Stale,
    /// The credential was used before.
    #[error("the credential was used before")]
    Spent,
    /// A CRL number that is not above the last.
    #[error("the CRL number is not above the last one")]
    Number,
}

impl From<Conflict> for StoreError {
    fn from(conflict: Conflict) -> Self {
        Self::Conflict(conflict)
    }
}

/// The memory of the PKI. Every method blocks until its answer is durable.
pub(crate) trait Store: Send + Sync {
    /// Makes a change whole and durable, or not at all.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the change does not fit; then nothing was changed.
    fn commit(&self, change: Change) -> Result<(), StoreError>;

    /// How many records questions have read since the start.
    fn rows_read(&self) -> u64;

    /// How many records changes have read since the start.
    fn rows_read_by_changes(&self) -> u64;

    /// Answers a question, a page at a time.
    ///
    /// # Errors
    /// When the back end fails or a record is damaged.
    fn find(&self, query: Query) -> Result<Page, StoreError>;

    /// Writes the image of one moment; changes go on meanwhile.
    ///
    /// # Errors
    /// When the back end fails or the output takes no more.
    fn write_image(&self, now: i64, out: &mut dyn std::io::Write) -> Result<Facts, StoreError>;

    /// That this store came from a backup and nobody has said yet what it lacks.
    ///
    /// # Errors
    /// As [`Store::find`].
    fn restoration(&self) -> Result<Option<Restoration>, StoreError> {
        Ok(self.find(Query::Restoration)?.one(Record::restoration))
    }

    /// Counts the changes since the start that may have altered the standing of a certificate. What was found out at the present
    /// count still holds.
    fn standing_changes(&self) -> u64;

    /// One certificate by serial number.
    ///
    /// # Errors
    /// As [`Store::find`].
    fn certificate(&self, serial: &[u8]) -> Result<Option<Certificate>, StoreError> {
        Ok(self.find(Query::Certificate { serial: serial.to_vec() })?.one(Record::certificate))
    }

    /// One device by identity.
    ///
    /// # Errors
    /// As [`Store::find`].
    fn device(&self, id: &str) -> Result<Option<Device>, StoreError> {
        Ok(self.find(Query::Device { id: id.to_owned() })?.one(Record::device))
    }

    /// One authority by name.
    ///
    /// # Errors
    /// As [`Store::find`].
    fn authority(&self, id: &str) -> Result<Option<Authority>, StoreError> {
        Ok(self.find(Query::Authority { id: id.to_owned() })?.one(Record::authority))
    }

    /// Every authority by name.
    ///
    /// # Errors
    /// As [`Store::find`].
    fn authorities(&self) -> Result<Vec<Authority>, StoreError> {
        Ok(self.find(Query::Authorities)?.all(Record::authority))
    }

    /// The plan of a key by role.
    ///
    /// # Errors
    /// As [`Store::find`].
    fn key_plan(&self, role: &str) -> Result<Option<KeyPlan>, StoreError> {
        Ok(self.find(Query::KeyPlan { role: role.to_owned() })?.one(Record::key_plan))
    }

    /// The record of a list without its encoding.
    ///
    /// # Errors
    /// As [`Store::find`].
    fn crl_record(&self, list: &str) -> Result<Option<Crl>, StoreError> {
        Ok(self.find(Query::CrlRecord { list: list.to_owned() })?.one(Record::crl))
    }

    /// The last published CRL of a list, or the record of its numbers.
    ///
    /// # Errors
    /// As [`Store::find`].
    fn crl(&self, list: &str) -> Result<Option<Crl>, StoreError> {
        Ok(self.find(Query::Crl { list: list.to_owned() })?.one(Record::crl))
    }

    /// One revocation on a list.
    ///
    /// # Errors
    /// As [`Store::find`].
    fn revocation(&self, list: &str, serial: &[u8]) -> Result<Option<Revocation>, StoreError> {
        let query = Query::Revocation { list: list.to_owned(), serial: serial.to_vec() };
        Ok(self.find(query)?.one(Record::revocation))
    }

    /// One bootstrap credential by name.
    ///
    /// # Errors
    /// As [`Store::find`].
    fn credential(&self, name: &str) -> Result<Option<Credential>, StoreError> {
        Ok(self.find(Query::Credential { name: name.to_owned() })?.one(Record::credential))
    }

    /// Who was certified with a public key before.
    ///
    /// # Errors
    /// As [`Store::find`].
    fn key_use(&self, spki_sha256: &[u8]) -> Result<Option<KeyUse>, StoreError> {
        Ok(self.find(Query::KeyUse { spki_sha256: spki_sha256.to_vec() })?.one(Record::key_use))
    }

    /// The certificate that the house uses for a role.
    ///
    /// # Errors
    /// As [`Store::find`].
    fn house(&self, role: &str) -> Result<Option<Certificate>, StoreError> {
        Ok(self.find(Query::House { role: role.to_owned() })?.one(Record::certificate))
    }
}
