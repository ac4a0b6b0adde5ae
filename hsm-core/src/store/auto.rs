//! The AUTO slot: a token's master key under a key that the store key gives, for logins without a PIN (`format.md` section 3, "The AUTO
//! slot"). Who may log in so is not decided here.

use super::commit::{Committed, Work};
use super::layout::{self, AutoSlot, Role, Table};
use super::ledger::Ledger;
use super::seal::{self, Key, Place, SealError, TokenMasterKey};
use super::tokens::held_epoch;
use super::vault::{Vault, broken_row};
use crate::error::{Error, Kind, Result};
use crate::id::TokenId;
use crate::secret::SecretBytes;
use prost::Message;
use std::sync::Arc;

impl<L: Ledger> Vault<L> {
    /// Whether the token has an AUTO slot.
    pub(crate) fn has_auto_slot(&self, token: TokenId) -> Result<bool> {
        self.auto_slot(token).map(|slot| slot.is_some())
    }

    /// Makes the slot, or makes it anew. The user PIN opens the master key.
    ///
    /// # Errors
    /// As [`Vault::unlock`].
    pub(crate) fn enable_auto_login(
        &self,
        token: TokenId,
        user_pin: &SecretBytes,
        client: &str,
        entry: &[u8],
    ) -> Result<Committed<L::Receipt>> {
        let _turn = self.turnstile.enter(token)?;
        let proven = self.prove(token, Role::User, user_pin, client)?;
        let tmk = proven.tmk.as_ref().ok_or(Kind::Internal)?;
        self.check_newest(tmk)?;
        let mut work = Work { requires: Some(token), ..Work::default() };
        self.put_right(&mut work, (token, Role::User), user_pin, client, &proven)?;
        let (epoch, key) = tmk.current();
        self.put_auto(&mut work, token, (epoch, &key))?;
        let _links = self.links.lock();
        self.trim_link(&mut work, token, Role::User)?;
        self.pen.write(work, entry)
    }

    /// Takes the slot away; that there is none is no error.
    ///
    /// # Errors
    /// [`Kind::Device`]; [`Kind::TokenNotInitialized`] if the token is gone.
    pub(crate) fn disable_auto_login(&self, token: TokenId, entry: &[u8]) -> Result<Committed<L::Receipt>> {
        let _turn = self.turnstile.pass(token);
        let mut work = Work { requires: Some(token), ..Work::default() };
        work.batch.delete(Table::Pin, &layout::auto_key(token));
        self.pen.write(work, entry)
    }

    /// Opens the token by its AUTO slot. Neither are attempts counted nor is their count looked at: nothing is guessed.
    ///
    /// # Errors
    /// [`Kind::PinIncorrect`] if there is no such slot, or one that a program which did not know it has left behind in a rotation;
    /// [`Kind::Device`] if it does not verify.
    pub(crate) fn unlock_without_pin(&self, token: TokenId) -> Result<Arc<TokenMasterKey>> {
        let _turn = self.turnstile.pass(token);
        self.awaken()?;
        let refuse = |why| Err(Error::new(Kind::PinIncorrect, why));
        let Some(slot) = self.auto_slot(token)? else { return refuse("the token has no AUTO slot") };
        let (epoch, key) = self.open_auto(token, &slot)?;
        match self.newest_epoch(token)? {
            Some(newest) if newest == epoch => self.ring(token, epoch, key),
            _ => refuse("the token's AUTO slot holds an older master key: enable it again"),
        }
    }

    /// Wraps a master key in the slot.
    pub(super) fn put_auto(&self, work: &mut Work, token: TokenId, (epoch, tmk): (u32, &Key)) -> Result<()> {
        let key = layout::auto_key(token);
        let version = self.state.next_version();
        let label = seal::wrapped_label(self.store_id(), token, version, epoch);
        let kek = self.keys.auto_key(token, version);
        let wrapped = seal::seal(&kek, &label, Place { table: Table::Pin, key: &key }, tmk.expose())?;
        let body = AutoSlot { version, wrapped }.encode_to_vec();
        work.batch.put(Table::Pin, &key, self.seal_own(Table::Pin, token, &key, &body)?);
        Ok(())
    }

    fn open_auto(&self, token: TokenId, slot: &AutoSlot) -> Result<(u32, Key)> {
        let row_key = layout::auto_key(token);
        let broken = |error| broken_row(Table::Pin, &row_key, error);
        let kek = self.keys.auto_key(token, slot.version);
        let place = Place { table: Table::Pin, key: &row_key };
        let (label, key) = seal::open(&kek, place, &slot.wrapped).map_err(broken)?;
        if label != seal::wrapped_label(self.store_id(), token, slot.version, label.epoch) {
            return Err(broken(SealError::Misplaced));
        }
        Ok((label.epoch, Key::from_slice(key.expose()).ok_or_else(|| broken(SealError::NotARecord))?))
    }

    fn auto_slot(&self, token: TokenId) -> Result<Option<AutoSlot>> {
        let key = layout::auto_key(token);
        let Some(body) = self.open_row(Table::Pin, &key)? else { return Ok(None) };
        let slot = AutoSlot::decode(body.expose());
        slot.map(Some).map_err(|_| broken_row(Table::Pin, &key, SealError::NotARecord))
    }

    /// The number of the master key that the AUTO slot holds.
    pub(super) fn auto_epoch(&self, token: TokenId) -> Result<Option<u32>> {
        Ok(self.auto_slot(token)?.and_then(|slot| seal::read_label(&slot.wrapped).ok()).map(|label| label.epoch))
    }

    /// The number of the newest master key that a PIN slot holds.
    fn newest_epoch(&self, token: TokenId) -> Result<Option<u32>> {
        let mut newest = None;
        for role in [Role::So, Role::User] {
            newest = newest.max(self.pin_slot(token, role)?.as_ref().and_then(held_epoch));
        }
        Ok(newest)
    }
}
