//! Administration: what operators ask of the running daemon, beside what PKCS#11 offers.

use std::sync::Arc;

use ck::attribute::*;
use ck::object::*;

use super::Hsm;
use crate::act;
use crate::audit::{Entry, Fact, Progress, Receipt};
use crate::backup;
use crate::error::{Error, Kind, Result, caught};
use crate::failpoint;
use crate::object::Object;
use crate::object::import::significant_bits;
use crate::peer::Peer;
use crate::secret::SecretBytes;
use crate::session::UserType;
use crate::store::{Role, TokenRecord};
use crate::token::slot::Slot;

/// The state of the whole token.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it; the proto file documents them")]
pub struct Status {
    pub sealed: bool,
    pub health: String,
    pub store_path: String,
    pub store_generation: u64,
    pub audit_path: String,
    pub audit_sequence: u64,
    pub applications: u64,
    pub sessions: u64,
    pub tokens: u64,
    pub started_unix_seconds: u64,
    pub approved_only: bool,
    pub stream: Option<StreamStatus>,
}

/// The streaming copy.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it; the proto file documents them")]
pub struct StreamStatus {
    pub directory: String,
    pub generation: u64,
    pub taken_unix_seconds: u64,
    pub loss_seconds: u64,
}

/// One token for the operator.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it; the proto file documents them")]
pub struct TokenSummary {
    pub slot: u64,
    pub label: String,
    pub serial: String,
    pub initialized: bool,
    pub user_pin_set: bool,
    pub user_pin_locked: bool,
    pub so_pin_locked: bool,
    pub user_pin_failures: u64,
    pub so_pin_failures: u64,
    pub objects: u64,
    pub sessions: u64,
    pub token_id: String,
    pub auto_login: bool,
    pub so_holds_master_key: bool,
}

/// One key for the operator.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it; the proto file documents them")]
pub struct KeySummary {
    pub handle: u64,
    pub class: String,
    pub key_type: String,
    pub label: String,
    pub id_hex: String,
    pub size_bits: u64,
    pub sensitive: bool,
    pub extractable: bool,
    pub local: bool,
    pub usage: Vec<String>,
}

/// How an operator names a token: by label or slot; neither is the only initialised one.
#[derive(Clone, Debug, Default)]
pub struct TokenName {
    /// The label.
    pub label: Option<String>,
    /// The slot.
    pub slot: Option<u64>,
}

/// What an operator or another daemon comes for, as far as it matters when they are turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// To look at what is no key: nothing is recorded.
    Look,
    /// To initialise a token.
    InitToken,
    /// To change a PIN.
    ChangePin,
    /// To set another user PIN.
    ResetPin,
    /// To see the keys.
    ListKeys,
    /// To allow or forbid logins without a PIN.
    AutoLogin,
    /// To give a token another master key.
    RotateKey,
    /// To bring what opens the store.
    Unseal,
    /// To take a backup.
    Backup,
    /// To show a checkpoint of another journal.
    ShowCheckpoint,
}

impl Errand {
    fn act(self) -> Option<&'static act::Act> {
        Some(match self {
            Errand::Look => return None,
            Errand::InitToken => &act::INIT_TOKEN,
            Errand::ChangePin => &act::SET_PIN,
            Errand::ResetPin => &act::RESET_PIN,
            Errand::ListKeys => &act::LIST_KEYS,
            Errand::AutoLogin => &act::AUTO_LOGIN,
            Errand::RotateKey => &act::ROTATE_KEY,
            Errand::Unseal => &act::UNSEAL,
            Errand::Backup => &act::BACKUP,
            Errand::ShowCheckpoint => &act::WITNESS,
        })
    }
}

/// Why a message with a secret was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretRefused {
    /// It was said, or was to be told, in plain words.
    Plain,
    /// Its seal does not open.
    Seal,
}

impl SecretRefused {
    fn word(self) -> &'static str {
        match self {
            SecretRefused::Plain => "plain",
            SecretRefused::Seal => "seal",
        }
    }
}

impl Hsm {
    /// Refuses somebody who has not the role for it; the record says who it was.
    ///
    /// # Errors
    /// [`Kind::ActionProhibited`], always; [`Kind::Device`] when that cannot be recorded.
    pub fn turn_away<T>(&self, peer: &Peer, errand: Errand) -> Result<T> {
        let refusal = Error::new(Kind::ActionProhibited, "the client does not have the role for this");
        match errand.act() {
            Some(act) => self.refused(act, peer, refusal),
            None => Err(refusal),
        }
    }

    /// Records that a message with a secret was not looked at: because it, or its answer, was not to travel plainly, or because its seal does
    /// not open. `rv` is what the client is told.
    ///
    /// # Errors
    /// [`Kind::Device`] when it could not be recorded: the client is told that.
    pub fn refuse_secret(&self, peer: &Peer, why: SecretRefused, rv: ck::Rv) -> Result<()> {
        let act = &act::REFUSE_SECRET;
        let mut entry = Entry::new(act.category, act.name, peer.journal()).with_fact("why", Fact::word(why.word()));
        entry.rv = rv;
        self.note(act, entry)
    }

    /// The state of the whole token. Answered even while sealed.
    pub fn status(&self) -> Status {
        let applications = self.applications();
        let sessions: usize = applications.iter().map(|app| app.sessions.read().len()).sum();
        let vault = self.vault.get();
        let sealed = vault.is_none().then(|| self.seal.lock().why());
        let stream = self.stream.lock().clone();
        let health = match (&sealed, self.journal().failure(), vault.is_some_and(|vault| vault.is_poisoned())) {
            (Some(sealed), _, _) => format!("sealed: {sealed}"),
            (_, Some(failure), _) => format!("the journal cannot be written: {failure}"),
            (_, _, true) => "a write to the store failed; it is opened again at the next change".to_owned(),
            _ if stream.failure.is_some() => {
                format!(
                    "backup.stream has no copy of the newest state: {}",
                    stream.failure.as_deref().unwrap_or_default()
                )
            }
            _ => "ok".to_owned(),
        };
        let store_generation = vault.map_or(0, |vault| vault.generation());
        let is_newest = stream.generation == store_generation;
        let age = self.clock.now_unix_nanos().saturating_sub(stream.taken) / 1_000_000_000;
        Status {
            sealed: sealed.is_some(),
            health,
            store_path: self.config().store.path.display().to_string(),
            store_generation,
            audit_path: self.config().audit.log_path.display().to_string(),
            audit_sequence: self.journal().progress().newest,
            applications: applications.len() as u64,
            sessions: sessions as u64,
            tokens: self.all_slots().iter().filter(|slot| slot.token().initialized).count() as u64,
            started_unix_seconds: self.started_ns / 1_000_000_000,
            approved_only: self.mechanisms.are_approved_only(),
            stream: self.config().stream.as_ref().map(|configured| StreamStatus {
                directory: configured.directory.display().to_string(),
                generation: stream.generation,
                taken_unix_seconds: stream.taken / 1_000_000_000,
                loss_seconds: if is_newest { 0 } else { age },
            }),
        }
    }

    /// How far the journal is.
    pub fn journal_progress(&self) -> Progress {
        self.journal().progress()
    }

    /// Every slot's token.
    ///
    /// # Errors
    /// [`Kind::Sealed`].
    pub fn admin_tokens(&self) -> Result<Vec<TokenSummary>> {
        self.vault()?;
        self.all_slots().iter().map(|slot| self.summary(slot)).collect()
    }

    fn summary(&self, slot: &Slot) -> Result<TokenSummary> {
        let token = slot.token();
        let vault = self.vault()?;
        let (user, so) = (vault.pin_state(token.id, Role::User)?, vault.pin_state(token.id, Role::So)?);
        let here = |app: &Arc<crate::application::Application>| {
            app.sessions.read().values().filter(|session| session.slot == slot.number).count()
        };
        Ok(TokenSummary {
            slot: slot.number,
            label: token.label,
            serial: token.serial,
            initialized: token.initialized,
            user_pin_set: user.set,
            user_pin_locked: user.locked,
            so_pin_locked: so.locked,
            user_pin_failures: u64::from(user.failed),
            so_pin_failures: u64::from(so.failed),
            objects: vault.object_count(token.id),
            sessions: self.applications().iter().map(here).sum::<usize>() as u64,
            token_id: token.id.to_string(),
            auto_login: vault.has_auto_slot(token.id)?,
            so_holds_master_key: vault.so_holds_master_key(token.id)?,
        })
    }

    /// The slot that an operator means.
    pub(super) fn named(&self, name: &TokenName) -> Result<Arc<Slot>> {
        if let Some(number) = name.slot {
            return self.slot(number);
        }
        self.vault()?;
        let wanted = |token: &TokenRecord| {
            token.initialized && name.label.as_ref().is_none_or(|label| token.label.trim_end() == label.trim_end())
        };
        let found: Vec<_> = self.all_slots().into_iter().filter(|slot| wanted(&slot.token())).collect();
        match found.as_slice() {
            [only] => Ok(Arc::clone(only)),
            [] => Err(Error::new(Kind::TokenNotInitialized, "there is no initialised token of that name")),
            _ => Err(Error::new(Kind::ArgumentsBad, "several tokens fit; name one by its slot")),
        }
    }

    /// As [`Hsm::named`]; that there is none is a failure of the operation, and recorded as such.
    pub(super) fn named_for(&self, act: &'static act::Act, peer: &Peer, name: &TokenName) -> Result<Arc<Slot>> {
        self.named(name).or_else(|error| self.refused(act, peer, error))
    }

    /// Initialises the token of a slot, or of the first slot without one, and sets its user PIN.
    ///
    /// # Errors
    /// As [`Hsm::init_token`]; [`Kind::TokenNotInitialized`] when every slot has a token.
    pub fn admin_init_token(
        &self,
        peer: &Peer,
        slot: Option<u64>,
        label: &str,
        so_pin: SecretBytes,
        user_pin: Option<SecretBytes>,
    ) -> Result<TokenSummary> {
        let number = self.spare_slot(slot).and_then(|number| {
            user_pin.as_ref().map_or(Ok(()), |pin| self.check_pin_length(pin))?;
            Ok(number)
        });
        let number = number.or_else(|error| self.refused(&act::INIT_TOKEN, peer, error))?;
        self.init_token_as(peer, number, &so_pin, label)?;
        let slot = self.slot(number)?;
        if let Some(pin) = user_pin {
            self.set_user_pin(peer, &slot, &so_pin, &pin)?;
        }
        self.summary(&slot)
    }

    /// The slot that is named, or the first that has no token.
    fn spare_slot(&self, named: Option<u64>) -> Result<u64> {
        if let Some(number) = named {
            return self.slot(number).map(|slot| slot.number);
        }
        self.vault()?;
        let slots = self.all_slots();
        let spare = slots.iter().find(|slot| !slot.token().initialized);
        Ok(spare.ok_or_else(|| Error::new(Kind::ResourceExceeded, "every slot has a token"))?.number)
    }

    fn check_pin_length(&self, pin: &SecretBytes) -> Result<()> {
        let rules = &self.config().pin;
        if (rules.min_length..=rules.max_length).contains(&pin.len()) {
            return Ok(());
        }
        Err(Error::new(Kind::PinLength, format!("a PIN has {} to {} bytes", rules.min_length, rules.max_length)))
    }

    /// The SO sets the user PIN; recorded in the transaction of the change, or as a failure.
    fn set_user_pin(&self, peer: &Peer, slot: &Slot, so_pin: &SecretBytes, pin: &SecretBytes) -> Result<()> {
        self.administer(&act::RESET_PIN, peer, slot, |entry| {
            let vault = self.vault()?;
            let token = slot.token_id();
            let committed = match vault.let_in(token, Role::So, so_pin, &peer.canonical())? {
                Some(tmk) => vault.init_user_pin(&tmk, pin, &self.body(entry))?,
                None => vault.init_user_pin_anew(token, pin, &self.body(entry))?,
            };
            Ok(((), committed.receipt))
        })
    }

    /// Runs an administrative change whose record is in its transaction.
    pub(super) fn administer<T>(
        &self,
        act: &'static act::Act,
        peer: &Peer,
        slot: &Slot,
        body: impl FnOnce(&Entry) -> Result<(T, Receipt)>,
    ) -> Result<T> {
        let mut entry = Entry::new(act.category, act.name, peer.journal());
        entry.token = Some(slot.token_id());
        let (result, receipt) = match caught(|| body(&entry)).and_then(|done| done) {
            Ok((value, receipt)) => (Ok(value), Some(receipt)),
            Err(error) => (Err(error), None),
        };
        Ok(self.record(act, entry, receipt, result)?.release())
    }

    /// Changes the SO's or the user's PIN, with the old one.
    ///
    /// # Errors
    /// [`Kind::UserTypeInvalid`], [`Kind::PinIncorrect`] and its kin, [`Kind::PinLength`].
    pub fn admin_change_pin(
        &self,
        peer: &Peer,
        token: &TokenName,
        user: u64,
        old: SecretBytes,
        new: SecretBytes,
    ) -> Result<()> {
        let role = match UserType::from_number(user) {
            Some(UserType::So) => Role::So,
            Some(UserType::User) => Role::User,
            _ => return self.refused(&act::SET_PIN, peer, Kind::UserTypeInvalid.into()),
        };
        let slot = self.named_for(&act::SET_PIN, peer, token)?;
        self.administer(&act::SET_PIN, peer, &slot, |entry| {
            let (id, body) = (slot.token_id(), self.body(entry));
            Ok(((), self.vault()?.set_pin(id, role, &old, &new, &peer.canonical(), &body)?.receipt))
        })
    }

    /// The SO sets a new user PIN. No object is touched, and a locked PIN is free again.
    ///
    /// # Errors
    /// [`Kind::PinIncorrect`] and its kin for the SO PIN, [`Kind::PinLength`].
    pub fn admin_reset_pin(&self, peer: &Peer, token: &TokenName, so_pin: SecretBytes, new: SecretBytes) -> Result<()> {
        self.check_pin_length(&new).or_else(|error| self.refused(&act::RESET_PIN, peer, error))?;
        let slot = self.named_for(&act::RESET_PIN, peer, token)?;
        self.set_user_pin(peer, &slot, &so_pin, &new)
    }

    /// Makes the token's AUTO slot, for which the user PIN is needed, or takes it away, for which it is not. Clients that have the role log in
    /// without a PIN while there is one; who is logged in stays so.
    ///
    /// # Errors
    /// [`Kind::PinIncorrect`] and its kin.
    pub fn admin_auto_login(
        &self,
        peer: &Peer,
        token: &TokenName,
        enable: Option<SecretBytes>,
    ) -> Result<TokenSummary> {
        let slot = self.named_for(&act::AUTO_LOGIN, peer, token)?;
        self.administer(&act::AUTO_LOGIN, peer, &slot, |entry| {
            let (vault, id) = (self.vault()?, slot.token_id());
            let entry = entry.clone().with_fact("state", Fact::word(if enable.is_some() { "on" } else { "off" }));
            let body = self.body(&entry);
            let committed = match &enable {
                Some(user_pin) => vault.enable_auto_login(id, user_pin, &peer.canonical(), &body)?,
                None => vault.disable_auto_login(id, &body)?,
            };
            Ok(((), committed.receipt))
        })?;
        self.summary(&slot)
    }

    /// The token's keys: all with the user PIN, the public ones without.
    ///
    /// # Errors
    /// [`Kind::PinIncorrect`] and its kin.
    pub fn admin_list_keys(
        &self,
        peer: &Peer,
        token: &TokenName,
        user_pin: Option<SecretBytes>,
    ) -> Result<Vec<KeySummary>> {
        let act = &act::LIST_KEYS;
        let slot = self.named_for(act, peer, token)?;
        let mut entry = Entry::new(act.category, act.name, peer.journal());
        entry.token = Some(slot.token_id());
        let keys = self.keys(peer, &slot, user_pin);
        Ok(self.record(act, entry, None, keys)?.release())
    }

    fn keys(&self, peer: &Peer, slot: &Slot, user_pin: Option<SecretBytes>) -> Result<Vec<KeySummary>> {
        let token = slot.token_id();
        let mut objects = self.load(token, None)?;
        if let Some(pin) = user_pin {
            let tmk = self.vault()?.unlock(token, Role::User, &pin, &peer.canonical())?;
            objects.extend(self.load(token, Some(&tmk))?);
        }
        objects.sort_unstable_by_key(|object| object.handle);
        Ok(objects.iter().filter(|object| object.is_key()).map(key_summary).collect())
    }

    /// Verifies the SO PIN and writes one encrypted archive of one snapshot, for the SO and the `others`.
    ///
    /// # Errors
    /// [`Kind::PinIncorrect`] and its kin; [`Kind::ArgumentsBad`] for too many recipients; [`Kind::Device`] when the archive or its
    /// record cannot be written.
    pub fn admin_backup(
        &self,
        peer: &Peer,
        token: &TokenName,
        so_pin: SecretBytes,
        others: &[backup::For],
        out: &mut dyn std::io::Write,
    ) -> Result<()> {
        let act = &act::BACKUP;
        let slot = self.named_for(act, peer, token)?;
        let mut entry = Entry::new(act.category, act.name, peer.journal());
        entry.token = Some(slot.token_id());
        let written = caught(|| self.write_backup(peer, &slot, (&so_pin, others), &entry, out)).and_then(|done| done);
        if let Ok(written) = &written {
            entry = entry.with_fact("records", Fact::number(written.records));
            entry = entry.with_fact("recipients", Fact::number(1 + others.len() as u64));
            entry = entry.with_fact("backup_generation", Fact::number(written.generation));
        }
        self.record(act, entry, None, written.map(drop)).map(|recorded| recorded.release())
    }

    fn write_backup(
        &self,
        peer: &Peer,
        slot: &Slot,
        (so_pin, others): (&SecretBytes, &[backup::For]),
        entry: &Entry,
        out: &mut dyn std::io::Write,
    ) -> Result<backup::Written> {
        let vault = self.vault()?;
        let token = slot.token();
        vault.let_in(token.id, Role::So, so_pin, &peer.canonical())?;
        self.record_intent(&act::BACKUP, entry.clone())?;
        failpoint!("backup.begin");
        let snapshot = vault.snapshot_for_backup()?;
        let request = backup::Request {
            so: Some((token.id, so_pin)),
            others,
            function: self.config().pin.function,
            created: self.clock().now_unix_nanos(),
            audit: self.journal().durable_head(),
            first_key: crate::audit::first_key(&self.config().audit.log_path),
        };
        backup::write(&snapshot, &request, &|token| vault.object_count(token), out)
    }
}

fn key_summary(object: &Object) -> KeySummary {
    let attributes = &object.attributes;
    let text = |kind| String::from_utf8_lossy(attributes.bytes(kind)).into_owned();
    let usages = [CKA_ENCRYPT, CKA_DECRYPT, CKA_SIGN, CKA_VERIFY, CKA_WRAP, CKA_UNWRAP, CKA_DERIVE];
    let name = |usage: &ck::Attribute| usage.name().unwrap_or_default().trim_start_matches("CKA_").to_lowercase();
    let short = |name: Option<&'static str>| name.unwrap_or_default().get(4..).unwrap_or_default().to_lowercase();
    KeySummary {
        handle: object.handle,
        class: short(object.class().name()),
        key_type: short(attributes.key_type().and_then(ck::KeyType::name)),
        label: text(CKA_LABEL),
        id_hex: data_encoding::HEXLOWER.encode(attributes.bytes(CKA_ID)),
        size_bits: size_bits(object),
        sensitive: attributes.flag(CKA_SENSITIVE),
        extractable: attributes.flag(CKA_EXTRACTABLE),
        local: attributes.flag(CKA_LOCAL),
        usage: usages.iter().filter(|usage| attributes.flag(**usage)).map(name).collect(),
    }
}

/// The size by which people name a key: modulus, curve or value length in bits, public key length for ML-DSA.
fn size_bits(object: &Object) -> u64 {
    let attributes = &object.attributes;
    match attributes.key_type() {
        Some(CKK_RSA) => significant_bits(attributes.bytes(CKA_MODULUS)),
        Some(CKK_EC) => crate::crypto::Curve::from_params(attributes.bytes(CKA_EC_PARAMS))
            .map_or(0, |curve| u64::from(curve.order_bits())),
        Some(CKK_EC_EDWARDS) => 255,
        Some(CKK_ML_DSA) => match attributes.number(CKA_PARAMETER_SET).map(ParameterSet) {
            Some(CKP_ML_DSA_44) => 44,
            Some(CKP_ML_DSA_65) => 65,
            _ => 87,
        },
        Some(CKK_DES3) => 168,
        _ => 8 * attributes.number(CKA_VALUE_LEN).unwrap_or_default(),
    }
}
