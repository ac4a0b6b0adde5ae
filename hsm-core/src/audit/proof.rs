//! Proofs that one record is in the journal, to be handed to somebody who has the record, the proof and a key, and nothing else.
//!
//! A proof is an inclusion path of the Merkle tree (RFC 6962, section 2.1.1) to the root of a checkpoint. It shows one record and
//! tells nothing of the others.

use std::path::Path;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::chain::{Finding, Wrong};
use super::checkpoint::{Checkpoint, JOURNAL_KEY, SEGMENT_OPEN, SignedCheckpoint, Timestamped, announced};
use super::file::visit_trusting;
use super::keys::{Pin, PublicKey};
use super::merkle;
use super::trust::Trust;

/// A record with its way to a signed root; hashes and signature are lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// The record's number; its leaf is the one before in a count from 0.
    pub seq: u64,
    /// The record's line, without its line feed.
    pub record: String,
    /// The siblings on the way to the root, from the leaf upward.
    pub path: Vec<String>,
    /// The checkpoint's parts.
    pub origin: String,
    /// How many records the checkpoint covers.
    pub size: u64,
    /// The root.
    pub root: String,
    /// The store's generation at the checkpoint.
    pub generation: u64,
    /// The key that signed it.
    pub key: String,
    /// Ed25519.
    pub signature: String,
    /// The ML-DSA-44 key, and the time and signature as the journal has them; of a checkpoint with both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ml_dsa_44_key: Option<String>,
    /// See above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ml_dsa_44_signature: Option<String>,
}

/// The newest checkpoint of a journal and the key that signed it.
///
/// # Errors
/// The first [`Finding`]; [`Wrong::Signature`] when there is no checkpoint.
pub fn newest_checkpoint(path: &Path, trust: Trust) -> Result<(SignedCheckpoint, PublicKey), Finding> {
    let mut newest = Newest::default();
    visit_trusting(path, trust, |line| {
        newest.see(line.record);
        Ok(())
    })?;
    newest.found.ok_or_else(|| finding("the journal has no checkpoint"))
}

/// Follows which key signs, in a journal that is being verified.
#[derive(Default)]
struct Newest {
    keys: Vec<PublicKey>,
    found: Option<(SignedCheckpoint, PublicKey)>,
}

impl Newest {
    fn see(&mut self, record: &super::Record) {
        if matches!(record.op.as_str(), JOURNAL_KEY | SEGMENT_OPEN) {
            self.keys.extend(announced(record));
        }
        if let Some(Ok(signed)) = SignedCheckpoint::of(record)
            && let Some(key) = self.keys.iter().rev().find(|key| signed.is_by(key))
        {
            self.found = Some((signed, key.clone()));
        }
    }
}

/// Proves that record `seq` is under the journal's newest checkpoint. The whole journal is verified on the way.
///
/// # Errors
/// The first [`Finding`]; a sentence when the record is not there or not yet under a checkpoint.
pub fn prove(path: &Path, seq: u64, trust: Trust) -> Result<Proof, Finding> {
    let mut newest = Newest::default();
    let mut leaves = Vec::new();
    let mut wanted = None;
    visit_trusting(path, trust, |line| {
        newest.see(line.record);
        leaves.push(merkle::leaf(line.text));
        if line.record.seq == seq {
            wanted = Some(String::from_utf8_lossy(line.text).into_owned());
        }
        Ok(())
    })?;
    let record = wanted.ok_or_else(|| finding(&format!("the journal has no record {seq}")))?;
    let (SignedCheckpoint { checkpoint, signature, ml_dsa_44 }, key) =
        newest.found.ok_or_else(|| finding("the journal has no checkpoint"))?;
    let covered = usize::try_from(checkpoint.size).ok().and_then(|size| leaves.get(..size));
    let index = seq.checked_sub(1).and_then(|index| usize::try_from(index).ok());
    let way = covered.zip(index).and_then(|(leaves, index)| merkle::inclusion(index, leaves));
    let way = way.ok_or_else(|| finding(&format!("record {seq} is not under a checkpoint yet")))?;
    let Checkpoint { origin, size, root, generation } = checkpoint;
    Ok(Proof {
        seq,
        record,
        path: way.iter().map(|hash| HEXLOWER.encode(hash)).collect(),
        origin,
        size,
        root: HEXLOWER.encode(&root),
        generation,
        key: HEXLOWER.encode(key.ed25519()),
        signature: HEXLOWER.encode(&signature),
        ml_dsa_44_key: key.ml_dsa_44().map(|key| HEXLOWER.encode(key)),
        ml_dsa_44_signature: ml_dsa_44.as_ref().map(Timestamped::to_hex),
    })
}

impl Proof {
    /// The key that signed it, as somebody outside keeps it; `None` when it is malformed.
    pub fn pin(&self) -> Option<Pin> {
        self.signer().map(|key| key.pin())
    }

    fn signer(&self) -> Option<PublicKey> {
        let second = match &self.ml_dsa_44_key {
            Some(key) => Some(bytes(key)?),
            None => None,
        };
        Some(PublicKey::new(bytes(&self.key)?, second))
    }

    /// Checks the proof with a key that is known from elsewhere. Every signature that it has must verify; a key with an ML-DSA-44 half wants
    /// both.
    ///
    /// # Errors
    /// A sentence that says what does not hold.
    pub fn check(&self, trusted: &[Pin]) -> Result<(), String> {
        let key = self.signer().ok_or("the key is malformed")?;
        if !trusted.iter().any(|pin| pin.fits(&key)) {
            return Err(format!("the key {} is not one that is trusted", key.pin()));
        }
        let root = bytes(&self.root).ok_or("the root is malformed")?;
        let signature = bytes(&self.signature).ok_or("the signature is malformed")?;
        let second = self.ml_dsa_44_signature.as_deref();
        let ml_dsa_44 = second.map(|text| Timestamped::from_hex(text).ok_or("the ML-DSA-44 signature is malformed"));
        let ml_dsa_44 = ml_dsa_44.transpose()?;
        let checkpoint = Checkpoint { origin: self.origin.clone(), size: self.size, root, generation: self.generation };
        if !(SignedCheckpoint { checkpoint, signature, ml_dsa_44 }).is_by(&key) {
            return Err("the checkpoint's signature does not verify".to_owned());
        }
        let path: Option<Vec<_>> = self.path.iter().map(|hash| bytes(hash)).collect();
        let path = path.ok_or("a hash of the path is malformed")?;
        let record = super::Record::parse(self.record.as_bytes())?;
        if record.seq != self.seq {
            return Err(format!("the record is {} and not {}", record.seq, self.seq));
        }
        let index = self.seq.checked_sub(1).ok_or("there is no record 0")?;
        if merkle::root_by(&path, index, self.size, merkle::leaf(self.record.as_bytes())) != Some(root) {
            return Err("the path does not lead from the record to the signed root".to_owned());
        }
        Ok(())
    }
}

fn bytes<const LEN: usize>(text: &str) -> Option<[u8; LEN]> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

fn finding(what: &str) -> Finding {
    Finding { line: 0, wrong: Wrong::Signature, what: what.to_owned() }
}
