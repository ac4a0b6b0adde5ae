//! A new master key for a token, while the token is used (`format.md` section 3, "Epochs").
//!
//! The new key comes in one transaction, wrapped for the SO, for the user if the PIN is known, and under the old key; then the private
//! objects are sealed again, batch by batch; then one transaction drops the old key. A crash between leaves a token that opens and
//! whose rotation is finished at the next login.

use super::commit::{Committed, Work};
use super::device;
use super::layout::{self, KeyLink, Role, Table};
use super::ledger::Ledger;
use super::seal::{self, Key, Place, SealError, TokenMasterKey};
use super::vault::{Vault, broken_row};
use super::verify::NO_OBJECT;
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::id::TokenId;
use crate::secret::SecretBytes;
use prost::Message;
use std::sync::Arc;

/// Private objects that are sealed again in one transaction: few, so that other changes wait only a moment.
const BATCH: usize = 64;

/// What a rotation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rotated {
    /// The number of the token's key now.
    pub(crate) epoch: u32,
    /// Private objects sealed again.
    pub(crate) objects: u64,
    /// Whether nothing opens the old key any more; else the user has to log in once.
    pub(crate) complete: bool,
}

impl<L: Ledger> Vault<L> {
    /// Gives the token a new master key. [`Vault::finish_rotation`] does the rest. A rotation that is under way is not begun again.
    ///
    /// # Errors
    /// As [`Vault::unlock`] for either PIN; [`Kind::ArgumentsBad`] if the user has not logged in since the last rotation and the
    /// user PIN is not given.
    pub(crate) fn begin_rotation(
        &self,
        token: TokenId,
        so_pin: &SecretBytes,
        user_pin: Option<&SecretBytes>,
        client: &str,
        entry: &[u8],
    ) -> Result<(Arc<TokenMasterKey>, Committed<L::Receipt>)> {
        let _turn = self.turnstile.enter(token)?;
        self.awaken()?;
        if user_pin.is_none() && self.pin_slot(token, Role::So)?.is_some_and(|slot| !slot.proof.is_empty()) {
            let why = "the SO PIN does not open this token's master key: give the user PIN too";
            return Err(Error::new(Kind::ArgumentsBad, why));
        }
        let so = self.prove(token, Role::So, so_pin, client)?;
        // Whatever is wrong with the rest, this PIN was right.
        let mut right = Work { requires: Some(token), ..Work::default() };
        self.forgive(&mut right, client, token);
        self.put_attempts(&mut right, token, Role::So, 0)?;
        self.pen.write_unrecorded(right)?;
        let user = user_pin.map(|pin| self.prove(token, Role::User, pin, client)).transpose()?;
        let opened = so.tmk.as_ref().or(user.as_ref().and_then(|user| user.tmk.as_ref()));
        let tmk = Arc::clone(opened.ok_or(Kind::Internal)?);
        let link = self.link(token)?;
        let mut work = Work { requires: Some(token), ..Work::default() };
        self.forgive(&mut work, client, token);
        if link.as_ref().is_some_and(|link| !link.backward.is_empty()) {
            if user.is_some() {
                self.put_attempts(&mut work, token, Role::User, 0)?;
            }
            return Ok((tmk, self.pen.write(work, entry)?));
        }
        let is_behind = link.is_some_and(|link| !link.forward.is_empty());
        if is_behind && user.is_none() {
            let why = "the user has not logged in since the last rotation: give the user PIN too";
            return Err(Error::new(Kind::ArgumentsBad, why));
        }
        let (old_epoch, old) = tmk.current();
        let epoch = old_epoch.checked_add(1).ok_or(Kind::ResourceExceeded)?;
        let new = Key::random()?;
        if so.tmk.is_some() {
            self.put_pin(&mut work, token, Some((epoch, &new)), Role::So, so.version + 1, so_pin)?;
        }
        let mut waits_for_user = self.pin_slot(token, Role::User)?.is_some();
        if let (Some(user), Some(pin)) = (user, user_pin) {
            self.put_pin(&mut work, token, Some((epoch, &new)), Role::User, user.version + 1, pin)?;
            waits_for_user = false;
        }
        // One that was left behind opened nothing, and does not begin to.
        if self.auto_epoch(token)? == Some(old_epoch) {
            self.put_auto(&mut work, token, (epoch, &new))?;
        }
        let link = KeyLink {
            from: old_epoch,
            to: epoch,
            forward: if waits_for_user { self.seal_link(token, &old, epoch, (epoch, &new))? } else { Vec::new() },
            backward: self.seal_link(token, &new, epoch, (old_epoch, &old))?,
        };
        self.put_link(&mut work, token, Some(&link))?;
        // Nobody seals under the old key once this is durable. (Links are begun only here, in the token's turn.)
        let _sealing = self.sealing.write();
        work.as_it_is = true;
        failpoint!("rotate.begin.before");
        let committed = self.pen.write(work, entry)?;
        failpoint!("rotate.begin.after");
        tmk.advance(epoch, new);
        Ok((tmk, committed))
    }

    /// Seals again what is still under the old key, and drops it. Other changes go on between the batches. Nothing to do is no error.
    ///
    /// # Errors
    /// [`Kind::Device`] if the store cannot be read or written: the rest is done at the next login.
    pub(crate) fn finish_rotation(&self, tmk: &TokenMasterKey) -> Result<Rotated> {
        self.awaken()?;
        let mut objects = 0;
        loop {
            match self.reseal_batch(tmk)? {
                0 => break,
                sealed => objects += sealed,
            }
        }
        let complete = self.link(tmk.token())?.is_none();
        Ok(Rotated { epoch: tmk.current().0, objects, complete })
    }

    /// Zero when no object was left, and the old key is dropped.
    fn reseal_batch(&self, tmk: &TokenMasterKey) -> Result<u64> {
        let token = tmk.token();
        let _sealing = self.sealing.write();
        let (epoch, key) = tmk.current();
        let snapshot = self.snapshot()?;
        let mut work = Work { requires: Some(token), as_it_is: true, ..Work::default() };
        let mut failed = None;
        let mut sealed = 0;
        let mut visit = |row_key: &[u8], row: &[u8]| {
            if sealed == BATCH || seal::epoch_of(row) == Some(epoch) || failed.is_some() {
                return Ok(());
            }
            match self.seal_again(tmk, (epoch, &key), row_key, row) {
                Ok(new) => work.batch.put(Table::PrivateObject, row_key, new),
                Err(error) => failed = Some(error),
            }
            sealed += 1;
            Ok(())
        };
        snapshot.scan(Table::PrivateObject, &token.0, &mut visit).map_err(|error| device(&error))?;
        drop(snapshot);
        if let Some(error) = failed {
            return Err(error);
        }
        let _links = self.links.lock();
        if sealed == 0 {
            let Some(link) = self.link(token)?.filter(|link| !link.backward.is_empty()) else {
                tmk.forget_previous();
                return Ok(0);
            };
            check_newest(Some(&link), tmk)?;
            failpoint!("rotate.end.before");
            let left = KeyLink { backward: Vec::new(), ..link };
            self.put_link(&mut work, token, Some(&left).filter(|left| !left.forward.is_empty()))?;
        }
        self.pen.write_unrecorded(work)?;
        failpoint!("rotate.batch.after");
        if sealed == 0 {
            tmk.forget_previous();
        }
        Ok(sealed as u64)
    }

    fn seal_again(
        &self,
        tmk: &TokenMasterKey,
        (epoch, key): (u32, &Key),
        row_key: &[u8],
        row: &[u8],
    ) -> Result<Vec<u8>> {
        let table = Table::PrivateObject;
        let object = self.open_object(table, Some(tmk), row_key, row)?;
        let mut label = seal::table_label(table, self.store_id(), tmk.token(), object.id, self.state.next_version());
        label.epoch = epoch;
        self.keys.seal_row_under(key, &label, Place { table, key: row_key }, object.plaintext.expose())
    }

    /// The token's keys, from one that a PIN slot gave. Whoever is logged in at the token shares them.
    pub(super) fn ring(&self, token: TokenId, epoch: u32, key: Key) -> Result<Arc<TokenMasterKey>> {
        let mut rings = self.rings.lock();
        let link = self.link(token)?;
        if let Some(ring) = rings.get(&token).and_then(std::sync::Weak::upgrade) {
            self.catch_up(&ring, link, epoch, key)?;
            return Ok(ring);
        }
        let ring = match link {
            Some(link) if link.from == epoch => {
                let new = self.open_link(token, &key, &link, &link.forward)?;
                let ring = TokenMasterKey::from_parts(token, epoch, key);
                ring.advance(link.to, new);
                if link.backward.is_empty() {
                    ring.forget_previous();
                }
                ring
            }
            Some(link) if link.to == epoch && !link.backward.is_empty() => {
                let old = self.open_link(token, &key, &link, &link.backward)?;
                let ring = TokenMasterKey::from_parts(token, link.from, old);
                ring.advance(epoch, key);
                ring
            }
            _ => TokenMasterKey::from_parts(token, epoch, key),
        };
        let ring = Arc::new(ring);
        rings.retain(|_, ring| ring.strong_count() > 0);
        rings.insert(token, Arc::downgrade(&ring));
        Ok(ring)
    }

    /// A ring that is in use lacks the newest key when a rotation was durable although its caller was told of a failure: nobody has
    /// the key then but the PIN slots.
    fn catch_up(&self, ring: &TokenMasterKey, link: Option<KeyLink>, epoch: u32, key: Key) -> Result<()> {
        let (now, _) = ring.current();
        match link {
            Some(link) if link.from == now && link.from == epoch && !link.forward.is_empty() => {
                ring.advance(link.to, self.open_link(ring.token(), &key, &link, &link.forward)?);
            }
            Some(link) if link.from == now && link.to == epoch => ring.advance(epoch, key),
            _ => {}
        }
        Ok(())
    }

    /// After a login whose slot holds the newest key: the way from the old key is no longer needed if it was the user's.
    pub(super) fn trim_link(&self, work: &mut Work, token: TokenId, role: Role) -> Result<()> {
        let Some(link) = self.link(token)?.filter(|link| role == Role::User && !link.forward.is_empty()) else {
            return Ok(());
        };
        let left = KeyLink { forward: Vec::new(), ..link };
        self.put_link(work, token, Some(&left).filter(|left| !left.backward.is_empty()))
    }

    /// Refuses a key that the token has left behind: nothing may be sealed for later under it.
    ///
    /// # Errors
    /// [`Kind::Device`].
    pub(super) fn check_newest(&self, tmk: &TokenMasterKey) -> Result<()> {
        check_newest(self.link(tmk.token())?.as_ref(), tmk)
    }

    fn link(&self, token: TokenId) -> Result<Option<KeyLink>> {
        let key = layout::link_key(token);
        let Some(body) = self.open_row(Table::Pin, &key)? else {
            return Ok(None);
        };
        let link = KeyLink::decode(body.expose());
        link.map(Some).map_err(|_| broken_row(Table::Pin, &key, SealError::NotARecord))
    }

    fn put_link(&self, work: &mut Work, token: TokenId, link: Option<&KeyLink>) -> Result<()> {
        let key = layout::link_key(token);
        match link {
            Some(link) => {
                let row = self.seal_own(Table::Pin, token, &key, &link.encode_to_vec())?;
                work.batch.put(Table::Pin, &key, row);
            }
            None => work.batch.delete(Table::Pin, &key),
        }
        Ok(())
    }

    fn seal_link(&self, token: TokenId, under: &Key, to: u32, (epoch, key): (u32, &Key)) -> Result<Vec<u8>> {
        let label = seal::wrapped_label(self.store_id(), token, u64::from(to), epoch);
        let place = layout::link_key(token);
        seal::seal(under, &label, Place { table: Table::Pin, key: &place }, key.expose())
    }

    fn open_link(&self, token: TokenId, under: &Key, link: &KeyLink, record: &[u8]) -> Result<Key> {
        let place = layout::link_key(token);
        let broken = |error| broken_row(Table::Pin, &place, error);
        let (label, key) = seal::open(under, Place { table: Table::Pin, key: &place }, record).map_err(broken)?;
        if label != seal::wrapped_label(self.store_id(), token, u64::from(link.to), label.epoch) {
            return Err(broken(SealError::Misplaced));
        }
        debug_assert!(label.object == NO_OBJECT, "a wrapped key belongs to no object");
        Key::from_slice(key.expose()).ok_or_else(|| broken(SealError::NotARecord))
    }
}

/// A rotation was durable although its caller was told of a failure: the key in memory is the one before then, until a PIN brings the
/// newest.
fn check_newest(link: Option<&KeyLink>, tmk: &TokenMasterKey) -> Result<()> {
    match link {
        Some(link) if link.from == tmk.current().0 => {
            let why = "the token has a newer master key than this login: log in again";
            Err(Error::new(Kind::Device, why))
        }
        _ => Ok(()),
    }
}
