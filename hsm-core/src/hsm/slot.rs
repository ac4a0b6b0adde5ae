//! Slots and tokens (PKCS#11 v3.0 §5.5).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ck::Mechanism;
use ck::flags::{slot, token};

use super::{Caller, Hsm};
use crate::act;
use crate::audit::Entry;
use crate::error::{Error, Kind, Result, caught};
use crate::grant::ClientRole;
use crate::mechanism::MechanismView;
use crate::peer::Peer;
use crate::secret::SecretBytes;
use crate::store::{Role, TokenRecord};
use crate::token::slot::Slot;

/// A slot as C_GetSlotInfo shows it.
#[derive(Clone, Debug)]
pub struct SlotView {
    /// Its number.
    pub slot: u64,
    /// For people, at most 64 bytes.
    pub description: String,
    /// CKF_* of CK_SLOT_INFO.
    pub flags: u64,
    /// The token in it.
    pub token: TokenView,
}

/// A token as C_GetTokenInfo shows it.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields of CK_TOKEN_INFO under their own names")]
pub struct TokenView {
    pub label: String,
    pub model: String,
    pub serial: String,
    pub flags: u64,
    pub sessions: u64,
    pub rw_sessions: u64,
    pub pin_min_len: u64,
    pub pin_max_len: u64,
    pub max_sessions: u64,
    pub max_rw_sessions: u64,
}

/// Whether the caller's grant names the token in a slot.
fn sees(caller: &Caller, slot: &Slot) -> bool {
    let token = slot.token();
    caller.peer().grant.sees_token(&token.label, &token.serial)
}

/// The most slots there are.
const SLOTS_MAX: u64 = 256;

/// Tokens with more objects than this are opened beside the start.
const AT_ONCE: u64 = 1000;

impl Hsm {
    /// Makes the configured slots, those that the store has, and one spare.
    pub(crate) fn fill_slots(&self) -> Result<()> {
        let vault = self.vault()?;
        for number in 0..u64::from(self.config().token.slot_count) {
            let (label, serial) = match number {
                0 => (self.config().token.label.clone(), self.config().token.serial_number.clone()),
                _ => (String::new(), None),
            };
            vault.ensure_slot(number, &label, serial.as_deref())?;
        }
        let mut large = Vec::new();
        for token in vault.tokens() {
            let slot = if vault.object_count(token.id) > AT_ONCE {
                let slot = Arc::new(Slot::unfilled(token));
                large.push(Arc::clone(&slot));
                slot
            } else {
                let objects = self.load(token.id, None)?;
                Arc::new(Slot::new(token, objects))
            };
            self.slots.write().push(slot);
        }
        self.fill_beside(large)?;
        self.ensure_spare()
    }

    /// Opens the public objects of large tokens beside the start. Every record has been verified by then.
    fn fill_beside(&self, slots: Vec<Arc<Slot>>) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let me = self.me.upgrade().ok_or(Kind::Internal)?;
        let fill = move || {
            for slot in slots {
                let read = caught(|| me.load(slot.token_id(), None)).and_then(|read| read);
                let objects = read.unwrap_or_else(|error| {
                    tracing::error!(%error, slot = slot.number, "a token's objects cannot be read: everything is refused");
                    me.unreadable.store(true, Ordering::Release);
                    Vec::new()
                });
                slot.fill(objects);
            }
        };
        let started = std::thread::Builder::new().name("objects".into()).spawn(fill);
        started.map(drop).map_err(|error| Error::new(Kind::Internal, format!("no thread to open objects: {error}")))
    }

    /// There is always a slot whose token can be initialised.
    pub(crate) fn ensure_spare(&self) -> Result<()> {
        let slots = self.all_slots();
        let next = slots.iter().map(|slot| slot.number + 1).max().unwrap_or_default();
        if slots.iter().all(|slot| slot.token().initialized) && next < SLOTS_MAX {
            // Not under the lock of the slots, for which the store's pen may have to wait.
            let token = self.vault()?.ensure_slot(next, "", None)?;
            let mut slots = self.slots.write();
            if slots.iter().all(|slot| slot.number != next) {
                slots.push(Arc::new(Slot::new(token, Vec::new())));
            }
        }
        Ok(())
    }

    /// Every slot with its token: initialised tokens first, since many programs take the first that is listed; ascending otherwise.
    ///
    /// # Errors
    /// [`Kind::Sealed`].
    pub fn slots(&self, caller: &Caller) -> Result<Vec<SlotView>> {
        self.vault()?;
        let mut slots = self.all_slots();
        slots.retain(|slot| sees(caller, slot));
        slots.sort_by_cached_key(|slot| (!slot.token().initialized, slot.number));
        slots.iter().map(|slot| self.slot_view(caller, slot)).collect()
    }

    fn slot_view(&self, caller: &Caller, at: &Slot) -> Result<SlotView> {
        let record = at.token();
        let sessions = caller.app().sessions.read();
        let here = || sessions.values().filter(|session| session.slot == at.number);
        let config = &self.config().token;
        Ok(SlotView {
            slot: at.number,
            description: match self.mechanisms.are_approved_only() {
                true => format!("Craton HSM slot {}, approved mechanisms only", at.number),
                false => format!("Craton HSM slot {}", at.number),
            },
            flags: slot::CKF_TOKEN_PRESENT,
            token: TokenView {
                label: record.label.clone(),
                model: "Craton HSM".to_owned(),
                serial: record.serial.clone(),
                flags: self.token_flags(&record)? | self.protected_path(caller, &record)?,
                sessions: here().count() as u64,
                rw_sessions: here().filter(|session| session.read_write).count() as u64,
                pin_min_len: self.config().pin.min_length as u64,
                pin_max_len: self.config().pin.max_length as u64,
                max_sessions: u64::from(config.max_sessions),
                max_rw_sessions: u64::from(config.max_rw_sessions),
            },
        })
    }

    /// The flag that says that the user logs in without a PIN (PKCS#11 v3.1 §3.2): shown to those only who may.
    fn protected_path(&self, caller: &Caller, record: &TokenRecord) -> Result<u64> {
        let may = caller.peer().grant.has(ClientRole::AutoLogin) && self.vault()?.has_auto_slot(record.id)?;
        Ok(if may { token::CKF_PROTECTED_AUTHENTICATION_PATH } else { 0 })
    }

    fn token_flags(&self, record: &TokenRecord) -> Result<u64> {
        let mut flags = token::CKF_RNG | token::CKF_LOGIN_REQUIRED | token::CKF_DUAL_CRYPTO_OPERATIONS;
        if !record.initialized {
            return Ok(flags);
        }
        flags |= token::CKF_TOKEN_INITIALIZED;
        let user = self.vault()?.pin_state(record.id, Role::User)?;
        let so = self.vault()?.pin_state(record.id, Role::So)?;
        for (set, flag) in [
            (user.set, token::CKF_USER_PIN_INITIALIZED),
            (user.count_low, token::CKF_USER_PIN_COUNT_LOW),
            (user.final_try, token::CKF_USER_PIN_FINAL_TRY),
            (user.locked, token::CKF_USER_PIN_LOCKED),
            (so.count_low, token::CKF_SO_PIN_COUNT_LOW),
            (so.final_try, token::CKF_SO_PIN_FINAL_TRY),
            (so.locked, token::CKF_SO_PIN_LOCKED),
        ] {
            if set {
                flags |= flag;
            }
        }
        Ok(flags)
    }

    /// The mechanisms of a slot's token.
    ///
    /// # Errors
    /// [`Kind::NoSuchSlot`], [`Kind::Sealed`].
    pub fn mechanisms(&self, caller: &Caller, slot: u64) -> Result<Vec<MechanismView>> {
        self.slot_of(caller, slot)?;
        let grant = &caller.peer().grant;
        Ok(self.mechanisms.views().into_iter().filter(|row| grant.offers(Mechanism(row.number))).collect())
    }

    /// The slot of a number, if the caller sees its token.
    pub(crate) fn slot_of(&self, caller: &Caller, number: u64) -> Result<Arc<Slot>> {
        let slot = self.slot(number)?;
        if sees(caller, &slot) { Ok(slot) } else { Err(Kind::NoSuchSlot.into()) }
    }

    /// C_InitToken: a new token in the slot. An initialised one needs its SO PIN and loses its objects and its user PIN.
    ///
    /// # Errors
    /// [`Kind::SessionExists`] while any application has a session with the token; [`Kind::PinIncorrect`] and its kin, which change
    /// nothing; [`Kind::ArgumentsBad`] for a label that does not fit 32 bytes.
    pub fn init_token(&self, caller: &Caller, slot: u64, so_pin: SecretBytes, label: &str) -> Result<()> {
        self.slot_of(caller, slot)?;
        let peer = caller.peer();
        peer.grant.check(ClientRole::So).or_else(|refusal| self.refused(&act::INIT_TOKEN, peer, refusal))?;
        self.init_token_as(caller.peer(), slot, &so_pin, label).map(drop)
    }

    pub(crate) fn init_token_as(
        &self,
        peer: &Peer,
        number: u64,
        so_pin: &SecretBytes,
        label: &str,
    ) -> Result<TokenRecord> {
        let slot = self.slot(number)?;
        let act = &act::INIT_TOKEN;
        let mut entry = Entry::new(act.category, act.name, peer.journal());
        entry.token = Some(slot.token_id());
        let mut receipt = None;
        let result = self.init_slot(peer, &slot, so_pin, label, &entry).map(|(token, made)| {
            receipt = Some(made);
            token
        });
        Ok(self.record(act, entry, receipt, result)?.release())
    }

    fn init_slot(
        &self,
        peer: &Peer,
        slot: &Slot,
        so_pin: &SecretBytes,
        label: &str,
        entry: &Entry,
    ) -> Result<(TokenRecord, crate::audit::Receipt)> {
        if label.len() > 32 {
            return Err(Error::new(Kind::ArgumentsBad, "a token label has at most 32 bytes"));
        }
        let _turn = slot.turn.lock();
        let in_use = |app: &Arc<crate::application::Application>| {
            app.sessions.read().values().any(|session| session.slot == slot.number)
        };
        if self.applications().iter().any(in_use) {
            return Err(Error::new(Kind::SessionExists, "an application has a session with the token"));
        }
        let body = |token: &TokenRecord| {
            let mut entry = entry.clone();
            entry.token = Some(token.id);
            self.body(&entry)
        };
        let vault = self.vault()?;
        let outcome =
            caught(|| vault.init_token(slot.number, label, so_pin, &peer.canonical(), body)).and_then(|done| done);
        if outcome.is_err() {
            // It may have been done all the same: the store says which token there is.
            vault.reload_token(slot.number)?;
        }
        if let Some(now) = vault.token_in_slot(slot.number).filter(|now| now.id != slot.token_id()) {
            slot.replace(now);
            self.moved_on();
        }
        let (token, committed) = outcome?;
        self.ensure_spare()?;
        Ok((token, committed.receipt))
    }

    /// C_InitPIN: the SO sets the user PIN. No object is touched.
    ///
    /// # Errors
    /// [`Kind::NotLoggedIn`] unless the SO is logged in; [`Kind::PinLength`]; [`Kind::ActionProhibited`] where the SO does not hold the
    /// master key and private objects would be lost.
    pub fn init_pin(&self, caller: &Caller, session: u64, pin: SecretBytes) -> Result<()> {
        self.perform(caller, &act::INIT_PIN, session, |work| {
            let held = work.app.logins.held(work.slot.number).ok_or(Kind::NotLoggedIn)?;
            let body = self.body(&work.entry);
            let vault = self.vault()?;
            let committed = match &held.tmk {
                Some(tmk) => vault.init_user_pin(tmk, &pin, &body)?,
                None => vault.init_user_pin_anew(work.slot.token_id(), &pin, &body)?,
            };
            work.record(committed);
            Ok(())
        })
    }

    /// C_SetPIN: the PIN of whoever is logged in, the user's when nobody is.
    ///
    /// # Errors
    /// [`Kind::SessionReadOnly`], [`Kind::PinIncorrect`] and its kin, [`Kind::PinLength`].
    pub fn set_pin(&self, caller: &Caller, session: u64, old: SecretBytes, new: SecretBytes) -> Result<()> {
        self.perform(caller, &act::SET_PIN, session, |work| {
            if !work.session.read_write {
                return Err(Kind::SessionReadOnly.into());
            }
            work.right.grant.check(ClientRole::Manage)?;
            let role = match work.right.login {
                crate::token::login::Login::So => Role::So,
                _ => Role::User,
            };
            let token = work.slot.token();
            let body = self.body(&work.entry);
            let client = work.app.peer.canonical();
            let committed = self.vault()?.set_pin(token.id, role, &old, &new, &client, &body)?;
            work.record(committed);
            Ok(())
        })
    }
}
