//! The numbers from which the token makes IVs, reserved per key value (`format.md` sections 2 and 5). A restored store may lack what
//! was reserved after its backup: each restore moves every key on.

use std::ops::Range;

use prost::Message;

use super::commit::Work;
use super::layout::{self, ReservedIvs, Table};
use super::ledger::Ledger;
use super::vault::Vault;
use super::verify::NO_TOKEN;
use crate::error::{Error, Kind, Result};
use crate::object::iv::Reserved;

/// How far a restore moves every key on; the bound of all its numbers is 2^32.
const RESTORE_JUMP: u64 = 1 << 28;

impl<L: Ledger> Vault<L> {
    /// The row of a key, by its value: the same for every copy and for every import. It tells nothing of the value to who has
    /// not the store key.
    fn iv_row(&self, key_value: &[u8]) -> Vec<u8> {
        layout::iv_key(&self.keys.iv_name(key_value))
    }

    /// What is reserved for a key.
    ///
    /// # Errors
    /// [`Kind::Device`] if the store cannot be read.
    pub(crate) fn reserved_ivs(&self, key_value: &[u8]) -> Result<Reserved> {
        self.awaken()?;
        let body = self.open_row(Table::Reserved, &self.iv_row(key_value))?;
        let stored = match body {
            Some(body) => ReservedIvs::decode(body.expose())
                .map_err(|_| Error::new(Kind::Device, "a record of reserved IVs cannot be read"))?,
            None => ReservedIvs::default(),
        };
        let restores = u64::from(self.restores.saturating_sub(stored.restores));
        let next = stored.next.saturating_add(restores.saturating_mul(RESTORE_JUMP));
        Ok(Reserved { next, mask: stored.mask })
    }

    /// Reserves numbers for a key, durably: none of them was or will be given out by another call in the life of the store.
    ///
    /// # Errors
    /// [`Kind::Device`] if it could not be written.
    pub(crate) fn reserve_ivs(&self, key_value: &[u8], from: Reserved, count: u64) -> Result<Range<u64>> {
        let _turn = self.iv_turn.lock();
        let start = self.reserved_ivs(key_value)?.next.max(from.next);
        let next = start.saturating_add(count);
        let row = self.iv_row(key_value);
        let body = ReservedIvs { next, mask: from.mask, restores: self.restores }.encode_to_vec();
        let mut work = Work::default();
        work.batch.put(Table::Reserved, &row, self.seal_own(Table::Reserved, NO_TOKEN, &row, &body)?);
        self.pen.write_unrecorded(work)?;
        Ok(start..next)
    }
}
