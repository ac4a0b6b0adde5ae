//! Tokens and their PINs: initialisation, login, PIN changes.
//!
//! An attempt is counted, durably, before it is checked, so that a crash or a broken disk never gives a free guess. The
//! PIN is right when its slot opens: there is no separate verifier. Whoever holds the token's turn is the only one who
//! reads or writes its PIN rows.

use super::commit::{Committed, Work};
use super::device;
use super::layout::{self, Attempts, PinSlot, Role, Table, TokenRecord};
use super::ledger::Ledger;
use super::seal::{self, Key, Place, SealError, TokenMasterKey};
use super::vault::{PinState, Vault, broken_row};
use super::verify::NO_TOKEN;
use crate::crypto::password::PasswordFunction;
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::id::TokenId;
use crate::secret::SecretBytes;
use crate::sys;
use crate::token::pin;
use prost::Message;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const SALT_LEN: usize = 32;

/// The number of a new token's key.
const FIRST_EPOCH: u32 = 1;

/// A PIN that was right, and what its slot held.
pub(super) struct Proven {
    /// Nothing where the PIN does not open the master key.
    pub(super) tmk: Option<Arc<TokenMasterKey>>,
    pub(super) version: u64,
    /// The number of the key in its slot; zero without one.
    epoch: u32,
    function: PasswordFunction,
}

impl<L: Ledger> Vault<L> {
    /// Every slot's token, by slot, also those that are not initialised.
    pub(crate) fn tokens(&self) -> Vec<TokenRecord> {
        self.tokens.read().values().cloned().collect()
    }

    /// The token in a slot.
    pub(crate) fn token_in_slot(&self, slot: u64) -> Option<TokenRecord> {
        self.tokens.read().get(&slot).cloned()
    }

    /// The slot's token; a new slot gets one that is not initialised, with a serial number that lasts.
    pub(crate) fn ensure_slot(&self, slot: u64, label: &str, serial: Option<&str>) -> Result<TokenRecord> {
        let _administration = self.administration.lock();
        if let Some(token) = self.token_in_slot(slot) {
            return Ok(token);
        }
        let token = TokenRecord {
            id: TokenId(seal::random_id()?),
            slot,
            label: label.to_owned(),
            serial: serial.map_or_else(random_serial, |serial| Ok(serial.to_owned()))?,
            created_ns: self.clock.now_unix_nanos(),
            initialized: false,
        };
        let mut work = Work::default();
        self.put_token(&mut work, &token)?;
        self.pen.write_unrecorded(work)?;
        self.tokens.write().insert(slot, token.clone());
        Ok(token)
    }

    /// C_InitToken. A token that is initialised needs its SO PIN, and loses all its objects and its user PIN.
    ///
    /// # Errors
    /// [`Kind::NoSuchSlot`]; as [`Vault::unlock`] for a wrong SO PIN, which changes nothing; [`Kind::PinLength`].
    pub(crate) fn init_token(
        &self,
        slot: u64,
        label: &str,
        so_pin: &SecretBytes,
        client: &str,
        entry: impl FnOnce(&TokenRecord) -> Vec<u8>,
    ) -> Result<(TokenRecord, Committed<L::Receipt>)> {
        let _administration = self.administration.lock();
        let old = self.token_in_slot(slot).ok_or(Kind::NoSuchSlot)?;
        let _turn = self.turnstile.enter(old.id)?;
        let mut work = Work::default();
        if old.initialized {
            self.prove(old.id, Role::So, so_pin, client)?;
            work.clears = Some(old.id);
        } else {
            pin::check_length(&self.pins, so_pin)?;
        }
        let token = TokenRecord {
            id: TokenId(seal::random_id()?),
            label: label.to_owned(),
            created_ns: self.clock.now_unix_nanos(),
            initialized: true,
            ..old
        };
        self.put_token(&mut work, &token)?;
        let first = Key::random()?;
        let key = self.pins.so_holds_master_key.then_some((FIRST_EPOCH, &first));
        self.put_pin(&mut work, token.id, key, Role::So, 1, so_pin)?;
        let entry = entry(&token);
        let committed = self.pen.write(work, &entry);
        failpoint!("token.init.after");
        // The change is durable even when its entry waits in the outbox; the store says which token there is.
        self.reload_token(slot)?;
        Ok((token, committed?))
    }

    /// Checks a PIN and opens the token: C_Login. Takes a few hundred milliseconds, whatever the outcome.
    ///
    /// # Errors
    /// [`Kind::PinIncorrect`], [`Kind::PinLocked`], [`Kind::UserPinNotInitialized`], [`Kind::TokenNotInitialized`];
    /// [`Kind::LoginBackoff`] if this client or too many clients tried; [`Kind::Device`] if the attempt could not be
    /// counted.
    pub(crate) fn unlock(
        &self,
        token: TokenId,
        role: Role,
        pin: &SecretBytes,
        client: &str,
    ) -> Result<Arc<TokenMasterKey>> {
        let opened = self.let_in(token, role, pin, client)?;
        opened.ok_or_else(|| Error::new(Kind::ActionProhibited, "this PIN does not open the token's master key"))
    }

    /// Checks a PIN, and gives the master key where the PIN opens it: the SO's does not where `security.so_holds_master_key` was off when
    /// the token was initialised.
    ///
    /// # Errors
    /// As [`Vault::unlock`].
    pub(crate) fn let_in(
        &self,
        token: TokenId,
        role: Role,
        pin: &SecretBytes,
        client: &str,
    ) -> Result<Option<Arc<TokenMasterKey>>> {
        let _turn = self.turnstile.enter(token)?;
        let proven = self.prove(token, role, pin, client)?;
        failpoint!("pin.clear.before");
        let mut work = Work { requires: Some(token), ..Work::default() };
        self.put_right(&mut work, (token, role), pin, client, &proven)?;
        let _links = self.links.lock();
        self.trim_link(&mut work, token, role)?;
        self.pen.write_unrecorded(work)?;
        Ok(proven.tmk)
    }

    /// The counts of a PIN that was right go; its slot is written anew where its function or its key is not the present one.
    pub(super) fn put_right(
        &self,
        work: &mut Work,
        (token, role): (TokenId, Role),
        pin: &SecretBytes,
        client: &str,
        proven: &Proven,
    ) -> Result<()> {
        self.forgive(work, client, token);
        let newest = proven.tmk.as_ref().map_or(0, |tmk| tmk.current().0);
        if proven.function == self.pins.function && proven.epoch == newest {
            return self.put_attempts(work, token, role, 0);
        }
        // The configured function or its cost has changed, or the token's key: this is the moment when the PIN is known.
        self.put_next(work, (token, role), pin, proven)
    }

    /// The slot after the one that was proven, under this PIN.
    fn put_next(
        &self,
        work: &mut Work,
        (token, role): (TokenId, Role),
        pin: &SecretBytes,
        proven: &Proven,
    ) -> Result<()> {
        let newest = proven.tmk.as_ref().map(|tmk| tmk.current());
        let newest = newest.as_ref().map(|(epoch, key)| (*epoch, &**key));
        self.put_pin(work, token, newest, role, proven.version + 1, pin)
    }

    /// C_SetPIN: from the old PIN to the new one, in one step.
    ///
    /// # Errors
    /// [`Kind::PinLength`] before anything is counted; then as [`Vault::unlock`].
    pub(crate) fn set_pin(
        &self,
        token: TokenId,
        role: Role,
        old: &SecretBytes,
        new: &SecretBytes,
        client: &str,
        entry: &[u8],
    ) -> Result<Committed<L::Receipt>> {
        pin::check_length(&self.pins, new)?;
        let _turn = self.turnstile.enter(token)?;
        let proven = self.prove(token, role, old, client)?;
        let mut work = Work { requires: Some(token), ..Work::default() };
        self.forgive(&mut work, client, token);
        self.put_next(&mut work, (token, role), new, &proven)?;
        failpoint!("pin.change.before");
        let committed = self.pen.write(work, entry);
        failpoint!("pin.change.after");
        committed
    }

    /// C_InitPIN: a new user PIN, from the SO's login. No object is touched.
    ///
    /// # Errors
    /// [`Kind::PinLength`], [`Kind::LoginBackoff`], [`Kind::Device`].
    pub(crate) fn init_user_pin(
        &self,
        tmk: &TokenMasterKey,
        new: &SecretBytes,
        entry: &[u8],
    ) -> Result<Committed<L::Receipt>> {
        pin::check_length(&self.pins, new)?;
        let token = tmk.token();
        let _turn = self.turnstile.enter(token)?;
        self.awaken()?;
        self.check_newest(tmk)?;
        let version = self.pin_slot(token, Role::User)?.map_or(1, |slot| slot.version + 1);
        let mut work = Work { requires: Some(token), ..Work::default() };
        let (epoch, key) = tmk.current();
        self.put_pin(&mut work, token, Some((epoch, &key)), Role::User, version, new)?;
        self.pen.write(work, entry)
    }

    /// C_InitPIN by an SO whose PIN does not open the master key: the token gets a new one, so it must hold nothing under the old one.
    ///
    /// # Errors
    /// [`Kind::ActionProhibited`] where there is a private object, or the user is logged in somewhere; as [`Vault::init_user_pin`].
    pub(crate) fn init_user_pin_anew(
        &self,
        token: TokenId,
        new: &SecretBytes,
        entry: &[u8],
    ) -> Result<Committed<L::Receipt>> {
        pin::check_length(&self.pins, new)?;
        let _turn = self.turnstile.enter(token)?;
        self.awaken()?;
        let old = self.pin_slot(token, Role::User)?;
        let epoch =
            old.as_ref().and_then(held_epoch).unwrap_or_default().checked_add(1).ok_or(Kind::ResourceExceeded)?;
        let mut work = Work { requires: Some(token), as_it_is: true, ..Work::default() };
        let version = old.map_or(1, |slot| slot.version + 1);
        self.put_pin(&mut work, token, Some((epoch, &Key::random()?)), Role::User, version, new)?;
        for gone in [layout::link_key(token), layout::auto_key(token)] {
            work.batch.delete(Table::Pin, &gone);
        }
        // Nobody seals under the old key between the look at what there is and the moment when the new one is durable.
        let _sealing = self.sealing.write();
        self.check_nothing_to_lose(token)?;
        self.pen.write(work, entry)
    }

    /// Refuses a new master key in the place of one that somebody still needs.
    fn check_nothing_to_lose(&self, token: TokenId) -> Result<()> {
        let refuse =
            |why| Err(Error::new(Kind::ActionProhibited, format!("the SO does not hold the master key: {why}")));
        if self.rings.lock().get(&token).is_some_and(|ring| ring.strong_count() > 0) {
            return refuse("the user is logged in, and may change the PIN");
        }
        if self.has_private_objects(token)? {
            return refuse(
                "private objects would be lost; the user changes the PIN, or the token is initialised again",
            );
        }
        Ok(())
    }

    fn has_private_objects(&self, token: TokenId) -> Result<bool> {
        let mut has = false;
        let mut visit = |_: &[u8], _: &[u8]| {
            has = true;
            Ok(())
        };
        self.snapshot()?.scan(Table::PrivateObject, &token.0, &mut visit).map_err(|error| device(&error))?;
        Ok(has)
    }

    /// Whether the SO's PIN opens the token's master key.
    pub(crate) fn so_holds_master_key(&self, token: TokenId) -> Result<bool> {
        Ok(self.pin_slot(token, Role::So)?.is_some_and(|slot| slot.proof.is_empty()))
    }

    /// What the token flags tell about a PIN.
    pub(crate) fn pin_state(&self, token: TokenId, role: Role) -> Result<PinState> {
        let set = self.pin_slot(token, role)?.is_some();
        Ok(PinState::of(set, self.attempts(token, role)?, self.pins.max_attempts))
    }

    /// How many PINs have been stretched since the start.
    #[cfg(test)]
    pub(crate) fn derivations(&self) -> u64 {
        self.derivations.load(Ordering::Relaxed)
    }

    /// Counts the attempt, for the PIN and for the client, then checks the PIN. The caller holds the token's turn, and clears both counts
    /// on success.
    pub(super) fn prove(&self, token: TokenId, role: Role, pin: &SecretBytes, client: &str) -> Result<Proven> {
        self.clients.admit(client, token)?;
        self.awaken()?;
        let Some(slot) = self.pin_slot(token, role)? else {
            // As slow as a wrong PIN: time does not tell whether a PIN exists.
            self.stretch(pin, &[0; SALT_LEN], self.pins.function)?;
            return Err(self.no_pin(token, role));
        };
        let failed = self.attempts(token, role)?;
        if failed >= self.pins.max_attempts {
            return Err(Error::new(Kind::PinLocked, format!("the {} PIN is locked by {failed} attempts", role.name())));
        }
        let mut work = Work { requires: Some(token), ..Work::default() };
        self.put_attempts(&mut work, token, role, failed + 1)?;
        let conduct = self.clients.after_wrong(client, token);
        self.put_conduct(&mut work, client, token, conduct)?;
        failpoint!("pin.count.before");
        self.pen.write_unrecorded(work)?;
        self.remember(client, token, conduct);
        let unknown = || {
            let suite = u8::try_from(slot.kdf).unwrap_or(u8::MAX);
            broken_row(Table::Pin, &layout::pin_key(token, role), SealError::Unknown { format: 1, suite })
        };
        let function = slot.function().ok_or_else(unknown)?;
        failpoint!("pin.kdf.before");
        let stretched = self.stretch(pin, &slot.salt, function)?;
        failpoint!("pin.kdf.after");
        match self.unwrap(token, role, &slot, &stretched) {
            Ok(opened) => {
                self.clients.succeeded(client, token);
                let epoch = opened.as_ref().map_or(0, |(epoch, _)| *epoch);
                let tmk = opened.map(|(epoch, key)| self.ring(token, epoch, key)).transpose()?;
                Ok(Proven { tmk, version: slot.version, epoch, function })
            }
            Err(SealError::WrongKey) => {
                let left = self.pins.max_attempts.saturating_sub(failed + 1);
                Err(Error::new(Kind::PinIncorrect, format!("{left} attempts are left")))
            }
            Err(error) => Err(broken_row(Table::Pin, &layout::pin_key(token, role), error)),
        }
    }

    fn no_pin(&self, token: TokenId, role: Role) -> Error {
        let known = self.tokens.read().values().any(|record| record.id == token && record.initialized);
        if known && role == Role::User { Kind::UserPinNotInitialized.into() } else { Kind::TokenNotInitialized.into() }
    }

    /// In a thread of its own that gives way to others: whoever does nothing but log in slows those that log in, and not signatures.
    fn stretch(&self, pin: &SecretBytes, salt: &[u8], function: PasswordFunction) -> Result<Key> {
        self.derivations.fetch_add(1, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let derive = || {
                sys::give_way();
                seal::stretch(pin, salt, function)
            };
            match std::thread::Builder::new().name("pin".to_owned()).spawn_scoped(scope, derive) {
                Ok(thread) => thread.join().unwrap_or_else(|_| Err(Kind::Internal.into())),
                Err(_) => seal::stretch(pin, salt, function),
            }
        })
    }

    /// What a PIN slot holds: the master key with its number, or nothing but the proof that the PIN is right.
    fn unwrap(
        &self,
        token: TokenId,
        role: Role,
        slot: &PinSlot,
        stretched: &Key,
    ) -> Result<Option<(u32, Key)>, SealError> {
        let kek = self.keys.pin_key(stretched, token, role, slot.version);
        let key = layout::pin_key(token, role);
        let place = Place { table: Table::Pin, key: &key };
        if !slot.proof.is_empty() {
            let (label, _) = seal::open(&kek, place, &slot.proof)?;
            let is_ours = label == seal::proof_label(self.store_id(), token, slot.version);
            return if is_ours { Ok(None) } else { Err(SealError::Misplaced) };
        }
        let (label, tmk) = seal::open(&kek, place, &slot.wrapped)?;
        if label != seal::wrapped_label(self.store_id(), token, slot.version, label.epoch) {
            return Err(SealError::Misplaced);
        }
        Ok(Some((label.epoch, Key::from_slice(tmk.expose()).ok_or(SealError::NotARecord)?)))
    }

    /// A new slot and a cleared count, in the same change; without a key one that only tells whether the PIN is right.
    pub(super) fn put_pin(
        &self,
        work: &mut Work,
        token: TokenId,
        held: Option<(u32, &Key)>,
        role: Role,
        version: u64,
        new: &SecretBytes,
    ) -> Result<()> {
        let mut salt = vec![0; SALT_LEN];
        seal::fill_random(&mut salt)?;
        let stretched = self.stretch(new, &salt, self.pins.function)?;
        let kek = self.keys.pin_key(&stretched, token, role, version);
        let key = layout::pin_key(token, role);
        let place = Place { table: Table::Pin, key: &key };
        let mut slot = PinSlot::new(self.pins.function, salt, version);
        match held {
            Some((epoch, tmk)) => {
                let label = seal::wrapped_label(self.store_id(), token, version, epoch);
                slot.wrapped = seal::seal(&kek, &label, place, tmk.expose())?;
            }
            None => slot.proof = seal::seal(&kek, &seal::proof_label(self.store_id(), token, version), place, b"")?,
        }
        work.batch.put(Table::Pin, &key, self.seal_own(Table::Pin, token, &key, &slot.encode_to_vec())?);
        self.put_attempts(work, token, role, 0)
    }

    pub(super) fn put_attempts(&self, work: &mut Work, token: TokenId, role: Role, failed: u32) -> Result<()> {
        let key = layout::pin_key(token, role);
        let row = self.seal_own(Table::Attempts, token, &key, &Attempts { failed }.encode_to_vec())?;
        work.batch.put(Table::Attempts, &key, row);
        Ok(())
    }

    fn put_token(&self, work: &mut Work, token: &TokenRecord) -> Result<()> {
        let key = layout::token_key(token.slot);
        work.batch.put(Table::Token, &key, self.seal_own(Table::Token, NO_TOKEN, &key, &token.encode())?);
        Ok(())
    }

    /// Reads a slot's token again: what the store says is true.
    pub(crate) fn reload_token(&self, slot: u64) -> Result<()> {
        let Some(body) = self.open_row(Table::Token, &layout::token_key(slot))? else {
            return Ok(());
        };
        let token = TokenRecord::decode(body.expose())
            .ok_or_else(|| broken_row(Table::Token, &layout::token_key(slot), SealError::NotARecord))?;
        self.tokens.write().insert(slot, token);
        Ok(())
    }

    pub(super) fn pin_slot(&self, token: TokenId, role: Role) -> Result<Option<PinSlot>> {
        let key = layout::pin_key(token, role);
        let Some(body) = self.open_row(Table::Pin, &key)? else {
            return Ok(None);
        };
        PinSlot::decode(body.expose()).map(Some).map_err(|_| broken_row(Table::Pin, &key, SealError::NotARecord))
    }

    fn attempts(&self, token: TokenId, role: Role) -> Result<u32> {
        let key = layout::pin_key(token, role);
        let Some(body) = self.open_row(Table::Attempts, &key)? else {
            return Ok(0);
        };
        let attempts = Attempts::decode(body.expose());
        Ok(attempts.map_err(|_| broken_row(Table::Attempts, &key, SealError::NotARecord))?.failed)
    }
}

/// The number of the master key that a PIN slot holds, if it holds one.
pub(super) fn held_epoch(slot: &PinSlot) -> Option<u32> {
    seal::read_label(&slot.wrapped).ok().map(|label| label.epoch)
}

/// Sixteen hexadecimal digits, as long as CK_TOKEN_INFO's serial number is.
fn random_serial() -> Result<String> {
    let mut bytes = [0; 8];
    seal::fill_random(&mut bytes)?;
    Ok(data_encoding::HEXLOWER.encode(&bytes))
}
