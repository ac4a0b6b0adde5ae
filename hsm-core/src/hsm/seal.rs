//! Sealed and unsealed: without its store key the token answers health and refuses everything else. Who has a passphrase, shares or
//! another module's key brings the store key back while the daemon runs.

use super::{Hsm, StartError};
use crate::act;
use crate::audit::{Durability, Entry, Fact};
use crate::envelope::{Credential, ModuleKey};
use crate::error::{Error, Kind, Result};
use crate::peer::Peer;
use crate::secret::SecretBytes;
use crate::share::Share;
use crate::store::{SealedKey, Vault, sealed_key};

/// Why the token is sealed, and the shares that have been brought so far.
#[derive(Default)]
pub(super) struct Seal {
    why: Option<String>,
    /// No key helps: store or journal are not what was written.
    for_good: bool,
    shares: Vec<Share>,
}

impl Seal {
    pub(super) fn because(why: String) -> Seal {
        Seal { why: Some(why), ..Seal::default() }
    }

    /// Sealed until somebody has restored what was tampered with, and started the daemon again.
    pub(super) fn for_good(why: String) -> Seal {
        Seal { for_good: true, ..Seal::because(why) }
    }

    pub(super) fn why(&self) -> String {
        self.why.clone().unwrap_or_default()
    }
}

/// What somebody brings to unseal the token.
pub enum Unsealing {
    /// The passphrase.
    Passphrase(SecretBytes),
    /// One share; the others may come later, from other people.
    Share(Share),
    /// What another module decrypted.
    Module(SecretBytes),
}

/// How far the unsealing is.
#[derive(Clone, Debug, Default)]
pub struct SealState {
    /// Whether the token is sealed.
    pub sealed: bool,
    /// What opens the store key, in words.
    pub opens_with: Vec<String>,
    /// Shares that are there, and shares that are needed; zero if the key has none.
    pub shares: (u8, u8),
    /// Keys of other modules that open the store key.
    pub modules: Vec<ModuleKey>,
}

impl Hsm {
    /// How far the unsealing is.
    ///
    /// # Errors
    /// [`Kind::Device`] when the sealed key cannot be read; [`Kind::Sealed`] where no key helps.
    pub fn seal_state(&self) -> Result<SealState> {
        if self.vault.get().is_some() {
            return Ok(SealState::default());
        }
        let sealed = self.sealed_store_key()?;
        let seal = self.seal.lock();
        let have = u8::try_from(seal.shares.len()).unwrap_or(u8::MAX);
        let need = sealed.share_sets()?.first().map_or(0, |set| set.threshold);
        Ok(SealState { sealed: true, opens_with: sealed.openers()?, shares: (have, need), modules: sealed.modules()? })
    }

    fn sealed_store_key(&self) -> Result<SealedKey> {
        let for_good = Some(self.seal.lock()).filter(|seal| seal.for_good).map(|seal| seal.why());
        if let Some(why) = for_good {
            return Err(Error::new(Kind::Sealed, why));
        }
        let found = sealed_key(&self.config.store).map_err(|error| Error::new(Kind::Device, error.to_string()))?;
        found.ok_or_else(|| Error::new(Kind::Sealed, self.seal.lock().why()))
    }

    /// Takes a passphrase, a share or another module's answer; the token opens as soon as that is enough. Every attempt is recorded.
    ///
    /// # Errors
    /// [`Kind::PinIncorrect`] when it does not open the key; [`Kind::DataInvalid`] for a share of another set or one that is there
    /// already; [`Kind::Device`] when the store does not open.
    pub fn unseal(&self, peer: &Peer, brought: Unsealing) -> Result<SealState> {
        let mut entry = Entry::new(act::UNSEAL.category, act::UNSEAL.name, peer.journal());
        entry = entry.with_fact(
            "by",
            Fact::word(match &brought {
                Unsealing::Passphrase(_) => "passphrase",
                Unsealing::Share(_) => "share",
                Unsealing::Module(_) => "module",
            }),
        );
        let outcome = self.try_unsealing(brought);
        if let Err(error) = &outcome {
            entry.rv = error.rv();
        }
        drop(self.journal.append(entry, self.store_generation(), Durability::Durable)?);
        outcome.and_then(|()| self.seal_state())
    }

    fn try_unsealing(&self, brought: Unsealing) -> Result<()> {
        if self.vault.get().is_some() {
            return Ok(());
        }
        let sealed = self.sealed_store_key()?;
        let mut seal = self.seal.lock();
        let credential = match brought {
            Unsealing::Passphrase(phrase) => Credential::Passphrase(phrase),
            Unsealing::Module(secret) => Credential::Module(secret),
            Unsealing::Share(share) => {
                take_share(&sealed, &mut seal.shares, share)?;
                let need = seal.shares.first().map_or(0, |share| usize::from(share.set().threshold));
                if seal.shares.len() < need {
                    return Ok(());
                }
                // Right or wrong, this quorum is used up: a wrong share must not spoil the next one.
                Credential::Shares(core::mem::take(&mut seal.shares))
            }
        };
        let key = sealed.open(&credential)?;
        let (config, journal) = (&self.config, self.journal.clone());
        let clock = self.clock.clone();
        let opened = Vault::open_unsealed(&config.store, Some(key), &config.pin, journal, clock)
            .map_err(StartError::from)
            // `take_up` needs the lock to answer why a request is refused meanwhile.
            .and_then(|vault| parking_lot::MutexGuard::unlocked(&mut seal, || self.take_up(vault)));
        if let Err(error) = opened {
            seal.why = Some(error.to_string());
            tracing::error!(%error, "the store key was unsealed and the token does not open");
            return Err(Error::new(Kind::Device, error.to_string()));
        }
        tracing::info!("unsealed");
        Ok(())
    }
}

fn take_share(sealed: &SealedKey, shares: &mut Vec<Share>, share: Share) -> Result<()> {
    let sets = sealed.share_sets()?;
    let bad = |why: String| Err(Error::new(Kind::DataInvalid, why));
    match sets.iter().find(|set| **set == share.set()) {
        Some(_) => {}
        None if sets.is_empty() => return bad("the store key was not cut into shares".to_owned()),
        None => {
            let wanted = sets.iter().map(|set| set.name_hex()).collect::<Vec<_>>().join(" or ");
            return bad(format!(
                "share {} belongs to set {}; the store key was cut into set {wanted}",
                share.index(),
                share.set().name_hex()
            ));
        }
    }
    if shares.iter().any(|other| other.set() == share.set() && other.index() == share.index()) {
        return bad(format!("share {} of set {} is there already", share.index(), share.set().name_hex()));
    }
    shares.retain(|other| other.set() == share.set());
    shares.push(share);
    Ok(())
}
