//! Which key signs, as a verifier follows it from record to record: the first is taken or compared with those that are known from elsewhere, each
//! later one stands on the signatures of the one before.

use serde::Serialize;

use super::checkpoint::SignedCheckpoint;
use super::keys::{Pin, PublicKey};

/// What a verifier takes on trust.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Keys known from elsewhere. When there are any, the first key of the journal, and each that its predecessor did not sign
    /// for, must be one of them, and there must be a signature. When one of them names an ML-DSA-44 key too, there must be a signature that
    /// stands on such a key.
    pub keys: Vec<Pin>,
    /// Whether a journal may begin in the middle: earlier files are archived elsewhere.
    pub later_start: bool,
}

impl Trust {
    fn admit(&self, key: &PublicKey) -> Result<(), String> {
        if self.keys.is_empty() || self.keys.iter().any(|pin| pin.fits(key)) {
            return Ok(());
        }
        let pin = key.pin();
        if !self.keys.iter().any(|known| known.names(key)) {
            return Err(format!("the key {pin} is not one that is trusted"));
        }
        Err(match key.ml_dsa_44() {
            Some(_) => format!("the key {pin} is not the one that is trusted: its ML-DSA-44 half is another"),
            None => format!("the key {pin} is trusted only with its ML-DSA-44 half, which the journal does not name"),
        })
    }

    /// Whether the ML-DSA-44 half too is known from elsewhere.
    fn names_both(&self, key: &PublicKey) -> bool {
        self.keys.iter().any(|pin| pin.is_of_both() && pin.fits(key))
    }

    fn wants_both(&self) -> bool {
        self.keys.iter().any(Pin::is_of_both)
    }
}

/// What the checkpoints of a verified journal say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Signatures {
    /// Records that a checkpoint covers: all up to this one.
    pub signed_records: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// The key that the journal named first, on whose word all others stand.
    pub first_key: Option<Pin>,
    /// The key in use at the end.
    pub last_key: Option<Pin>,
    /// Records at which a key began that its predecessor did not sign for.
    pub uncertified_keys: Vec<u64>,
    /// Records that a checkpoint with an ML-DSA-44 signature covers: all up to this one.
    pub ml_dsa_44_records: u64,
    /// The same of those checkpoints whose ML-DSA-44 key is known from elsewhere, or certified by one that is.
    pub ml_dsa_44_trusted: u64,
    /// Records at which checkpoints began to have that signature.
    pub ml_dsa_44_began: Vec<u64>,
    /// Records at which that ended, by a step that both signatures are under.
    pub ml_dsa_44_ended: Vec<u64>,
}

/// The keys on the way through a journal.
#[derive(Clone)]
pub(super) struct KeyWalk {
    trust: Trust,
    /// The key that the next checkpoint must be signed with, and one that was announced after it.
    key: Option<PublicKey>,
    announced: Option<PublicKey>,
    /// The ML-DSA-44 half of the key in use is known from elsewhere, or certified by one that is.
    stands: bool,
    signatures: Signatures,
}

impl KeyWalk {
    pub(super) fn trusting(trust: Trust) -> Self {
        KeyWalk { trust, key: None, announced: None, stands: false, signatures: Signatures::default() }
    }

    pub(super) fn later_start(&self) -> bool {
        self.trust.later_start
    }

    /// The key that certified records name last.
    pub(super) fn key(&self) -> Option<&PublicKey> {
        self.key.as_ref()
    }

    /// A key that was announced and that no checkpoint has certified.
    pub(super) fn announced(&self) -> Option<&PublicKey> {
        self.announced.as_ref()
    }

    /// A record names a key: the first, or the next.
    pub(super) fn name(&mut self, key: PublicKey, seq: u64) -> Result<(), String> {
        if self.key.is_some() {
            self.announced = Some(key);
            return Ok(());
        }
        self.trust.admit(&key)?;
        self.stands = self.trust.names_both(&key);
        self.signatures.first_key = Some(key.pin());
        self.take(key, seq);
        Ok(())
    }

    /// A checkpoint of the records before. `highest` is the highest generation that these name.
    pub(super) fn pass(&mut self, signed: &SignedCheckpoint, seq: u64, highest: u64) -> Result<(), String> {
        let Some(key) = self.key.clone() else { return Err("a checkpoint before any key was named".to_owned()) };
        let size = signed.checkpoint.size;
        if signed.is_by(&key) {
            self.count(signed);
            if let Some(next) = self.announced.take() {
                // Who signs for no second half leaves nothing for a later one to stand on.
                self.stands = next.ml_dsa_44().is_some() && (self.stands || self.trust.names_both(&next));
                self.take(next, seq);
            }
        } else {
            let Some(next) = self.announced.take().filter(|next| signed.is_by(next)) else {
                return Err(what_is_wrong(signed, &key));
            };
            self.admit_uncertified(&key, &next)?;
            self.stands = self.trust.names_both(&next);
            self.take(next, seq);
            self.count(signed);
            self.signatures.uncertified_keys.push(seq);
        }
        if signed.ml_dsa_44.is_some() && signed.checkpoint.generation != highest {
            return Err("the checkpoint's generation is not the highest of the records before it".to_owned());
        }
        self.signatures.checkpoints += 1;
        self.signatures.signed_records = size;
        Ok(())
    }

    /// A checkpoint is by the key in use.
    fn count(&mut self, signed: &SignedCheckpoint) {
        if signed.ml_dsa_44.is_some() {
            self.signatures.ml_dsa_44_records = signed.checkpoint.size;
            if self.stands {
                self.signatures.ml_dsa_44_trusted = signed.checkpoint.size;
            }
        }
    }

    /// Somebody who broke Ed25519 can make any key follow any other: what he cannot make must not be given up.
    fn admit_uncertified(&self, before: &PublicKey, next: &PublicKey) -> Result<(), String> {
        self.trust.admit(next)?;
        if before.ml_dsa_44().is_none() {
            return Ok(());
        }
        let pin = next.pin();
        if next.ml_dsa_44().is_none() {
            return Err(format!(
                "the key {pin} has no ML-DSA-44 half, and both signatures of the one before are missing"
            ));
        }
        if self.trust.wants_both() && !self.trust.names_both(next) {
            return Err(format!("the key {pin} is not one that is trusted with its ML-DSA-44 half"));
        }
        Ok(())
    }

    fn take(&mut self, key: PublicKey, seq: u64) {
        let had = self.key.as_ref().is_some_and(|key| key.ml_dsa_44().is_some());
        match (had, key.ml_dsa_44().is_some()) {
            (false, true) => self.signatures.ml_dsa_44_began.push(seq),
            (true, false) => self.signatures.ml_dsa_44_ended.push(seq),
            _ => {}
        }
        self.signatures.last_key = Some(key.pin());
        self.key = Some(key);
    }

    /// What was seen, at the end.
    pub(super) fn finish(self) -> Result<Signatures, String> {
        if !self.trust.keys.is_empty() && self.signatures.checkpoints == 0 {
            return Err("no checkpoint is signed: nothing here is by the trusted key".to_owned());
        }
        if self.trust.wants_both() && self.signatures.ml_dsa_44_trusted == 0 {
            return Err("no checkpoint has an ML-DSA-44 signature by a key that is trusted".to_owned());
        }
        Ok(self.signatures)
    }
}

fn what_is_wrong(signed: &SignedCheckpoint, key: &PublicKey) -> String {
    let what = match (key.ml_dsa_44(), &signed.ml_dsa_44) {
        _ if !signed.is_by_ed25519(key) => "the signature of the checkpoint does not verify",
        (Some(_), None) => "the checkpoint lacks the ML-DSA-44 signature that the journal has announced",
        (None, Some(_)) => "the checkpoint has an ML-DSA-44 signature, for which the journal names no key",
        _ => "the ML-DSA-44 signature of the checkpoint does not verify",
    };
    what.to_owned()
}
