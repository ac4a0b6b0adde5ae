//! How many signatures each guarded key has given (`format.md` sections 2 and 5).

use prost::Message;

use super::commit::Work;
use super::layout::{self, SignatureCount, Table};
use super::ledger::Ledger;
use super::vault::Vault;
use super::verify::NO_TOKEN;
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::id::{ObjectId, TokenId};

impl<L: Ledger> Vault<L> {
    /// The count of a key; zero before its first signature.
    ///
    /// # Errors
    /// [`Kind::Device`] if the store cannot be read.
    pub(crate) fn signature_count(&self, token: TokenId, object: ObjectId) -> Result<u64> {
        self.awaken()?;
        let Some(body) = self.open_row(Table::Reserved, &layout::count_key(token, object))? else { return Ok(0) };
        SignatureCount::decode(body.expose())
            .map(|counted| counted.count)
            .map_err(|_| Error::new(Kind::Device, "a signature count cannot be read"))
    }

    /// Makes a count durable.
    ///
    /// # Errors
    /// [`Kind::Device`] if it could not be written; [`Kind::TokenNotInitialized`] if the token was initialised again meanwhile.
    pub(crate) fn keep_signature_count(&self, token: TokenId, object: ObjectId, count: u64) -> Result<()> {
        failpoint!("store.count.before");
        let row = layout::count_key(token, object);
        let body = SignatureCount { count }.encode_to_vec();
        let mut work = Work { requires: Some(token), ..Work::default() };
        work.batch.put(Table::Reserved, &row, self.seal_own(Table::Reserved, NO_TOKEN, &row, &body)?);
        self.pen.write_unrecorded(work)
    }
}
