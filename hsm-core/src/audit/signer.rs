//! The journal's signing keys at rest: an Ed25519 seed, and an ML-DSA-44 seed while both sign, in a private file beside the journal, sealed
//! under a key of the store's.
//!
//! Each file of the journal has its own key. The next one is made, saved and announced before the last checkpoint of the old one;
//! then the old seed is overwritten. Who breaks in later finds no key that could sign for the past.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use data_encoding::HEXLOWER;

use super::checkpoint::{Checkpoint, SignedCheckpoint, Timestamped};
use super::keys::PublicKey;
use super::merkle::Tree;
use crate::crypto::ml_dsa::{self, Hedge, ParameterSet};
use crate::crypto::{eddsa, rng};
use crate::secret::SecretBytes;
use crate::{Error, Kind, Result, failpoint, sys};

/// First word of a key file, by its number of seeds; then the public key's pin, nonce and sealed seeds in hexadecimal digits, and a line
/// feed.
const WORDS: [(&str, usize); 2] = [("craton-journal-key-1", 1), ("craton-journal-key-2", 2)];
/// Either kind of seed has this length.
const SEED_LEN: usize = eddsa::SEED_LEN;
const _: () = assert!(SEED_LEN == ml_dsa::SEED_LEN);

/// With what a journal is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Ed25519.
    Ed25519,
    /// Ed25519, and ML-DSA-44 beside it.
    WithMlDsa44,
}

/// What the journal needs to sign: where its keys lie, what seals them, the journal's name in checkpoints, and what kinds of keys are wanted.
pub(crate) struct SigningKeys {
    file: PathBuf,
    sealing: SecretBytes,
    origin: String,
    suite: Suite,
}

/// The private keys that sign a file of the journal.
struct PrivateKey {
    ed25519: eddsa::PrivateKey,
    ml_dsa_44: Option<ml_dsa::PrivateKey>,
    public: PublicKey,
}

impl PrivateKey {
    fn generate(suite: Suite) -> Result<Self> {
        let second = match suite {
            Suite::Ed25519 => None,
            Suite::WithMlDsa44 => Some(ml_dsa::PrivateKey::generate(ParameterSet::MlDsa44)?),
        };
        PrivateKey::of(eddsa::PrivateKey::generate()?, second)
    }

    fn of(ed25519: eddsa::PrivateKey, ml_dsa_44: Option<ml_dsa::PrivateKey>) -> Result<Self> {
        let internal = || Error::from(Kind::Internal);
        let first = ed25519.public()?.as_bytes().try_into().map_err(|_| internal())?;
        let second = match &ml_dsa_44 {
            Some(key) => Some(key.public()?.to_bytes()?.try_into().map_err(|_| internal())?),
            None => None,
        };
        Ok(PrivateKey { ed25519, ml_dsa_44, public: PublicKey::new(first, second) })
    }

    fn suite(&self) -> Suite {
        suite_of(&self.public)
    }

    /// The seeds, one after the other.
    fn seeds(&self) -> Result<SecretBytes> {
        let mut seeds = SecretBytes::zeroed(SEED_LEN * if self.ml_dsa_44.is_some() { 2 } else { 1 });
        let (first, second) = seeds.expose_mut().split_at_mut(SEED_LEN);
        first.copy_from_slice(self.ed25519.seed().expose());
        if let Some(key) = &self.ml_dsa_44 {
            second.copy_from_slice(key.seed().ok_or(Kind::Internal)?.expose());
        }
        Ok(seeds)
    }

    fn from_seeds(seeds: &SecretBytes) -> Option<Self> {
        let (first, second) = seeds.expose().split_at_checked(SEED_LEN)?;
        let second = match second {
            [] => None,
            seed => Some(ml_dsa::PrivateKey::from_seed(ParameterSet::MlDsa44, seed).ok()?),
        };
        PrivateKey::of(eddsa::PrivateKey::from_seed(first).ok()?, second).ok()
    }
}

fn suite_of(key: &PublicKey) -> Suite {
    if key.ml_dsa_44().is_some() { Suite::WithMlDsa44 } else { Suite::Ed25519 }
}

impl SigningKeys {
    /// For the journal at this path. `sealing` are 32 bytes.
    pub(crate) fn new(journal: &Path, sealing: SecretBytes, origin: String) -> Self {
        SigningKeys { file: beside(journal, ".key"), sealing, origin, suite: Suite::Ed25519 }
    }

    /// With keys of these kinds.
    pub(crate) fn of(mut self, suite: Suite) -> Self {
        self.suite = suite;
        self
    }

    /// What somebody takes who broke Ed25519, and not ML-DSA.
    #[cfg(test)]
    pub(super) fn stolen(&self) -> eddsa::PrivateKey {
        self.load(&self.file).expect("a key").ed25519
    }

    fn next_file(&self) -> PathBuf {
        beside(&self.file, ".next")
    }

    fn load(&self, path: &Path) -> Option<PrivateKey> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "the journal's signing key cannot be read");
                return None;
            }
        };
        let key = self.open(&text);
        if key.is_none() {
            tracing::warn!(file = %path.display(), "the journal's signing key is damaged or sealed for another store");
        }
        key
    }

    fn save(&self, path: &Path, key: &PrivateKey) -> Result<()> {
        let text = self.seal(key)?;
        let written = match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sys::write_durably(path, text.as_bytes()),
        };
        written.map_err(|error| unusable(path, &error))
    }

    /// Keeps a key file that is not this journal's, for whoever must find out why.
    fn set_aside(&self) -> Result<()> {
        match std::fs::rename(&self.file, beside(&self.file, ".unused")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unusable(&self.file, &error)),
            _ => Ok(()),
        }
    }

    fn cipher(&self) -> Result<Aes256Gcm> {
        Aes256Gcm::new_from_slice(self.sealing.expose()).map_err(|_| Kind::Internal.into())
    }

    fn seal(&self, key: &PrivateKey) -> Result<String> {
        let pin = key.public.pin();
        let mut seeds = key.seeds()?;
        let count = seeds.expose().len() / SEED_LEN;
        let (word, _) = WORDS.iter().find(|(_, seeds)| *seeds == count).ok_or(Kind::Internal)?;
        let mut nonce = [0; 12];
        rng::fill(&mut nonce)?;
        let tag = self.cipher()?.encrypt_inout_detached(
            &Nonce::from(nonce),
            format!("{word} {pin}").as_bytes(),
            seeds.expose_mut().into(),
        );
        let tag = tag.map_err(|_| Error::from(Kind::Internal))?;
        let sealed = [HEXLOWER.encode(seeds.expose()), HEXLOWER.encode(&tag)].concat();
        Ok(format!("{word} {pin} {} {sealed}\n", HEXLOWER.encode(&nonce)))
    }

    fn open(&self, text: &str) -> Option<PrivateKey> {
        let mut words = text.strip_suffix('\n')?.split(' ');
        let (word, pin) = (words.next()?, words.next()?);
        let (_, count) = WORDS.iter().find(|(known, _)| *known == word)?;
        let nonce: [u8; 12] = HEXLOWER.decode(words.next()?.as_bytes()).ok()?.try_into().ok()?;
        let sealed = HEXLOWER.decode(words.next()?.as_bytes()).ok()?;
        let (seeds, tag) = sealed.split_at_checked(count * SEED_LEN)?;
        let tag: [u8; 16] = tag.try_into().ok()?;
        if words.next().is_some() {
            return None;
        }
        let mut seeds = SecretBytes::copy_from(seeds);
        self.cipher()
            .ok()?
            .decrypt_inout_detached(
                &Nonce::from(nonce),
                format!("{word} {pin}").as_bytes(),
                seeds.expose_mut().into(),
                &Tag::from(tag),
            )
            .ok()?;
        PrivateKey::from_seeds(&seeds).filter(|key| key.public.pin().to_string() == pin)
    }

    /// Makes and saves the key of the next file.
    pub(super) fn prepare(&self) -> Result<Prepared> {
        let key = PrivateKey::generate(self.suite)?;
        self.save(&self.next_file(), &key)?;
        Ok(Prepared(key))
    }

    /// Erases the key before and puts the next one's file in its place. What certified the next one must be durable.
    pub(super) fn retire(&self) -> Result<()> {
        let (old, next) = (&self.file, self.next_file());
        erase(old).map_err(|error| unusable(old, &error))?;
        failpoint!("journal.key.erased");
        sys::replace_durably(&next, old).map_err(|error| unusable(old, &error))
    }
}

/// The signer of the file that is being written.
pub(super) struct Signer {
    keys: Arc<SigningKeys>,
    key: PrivateKey,
    /// Announced: the next checkpoint certifies it, and it takes over.
    next: Option<Prepared>,
}

/// A key that is saved and not yet announced.
pub(super) struct Prepared(PrivateKey);

impl Prepared {
    /// The public half.
    pub(super) fn public(&self) -> &PublicKey {
        &self.0.public
    }
}

/// Whether the journal already names the signer's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// It does.
    Yes,
    /// It names none: this is the first.
    First,
    /// It names another, whose private half is gone.
    Broken,
}

impl Signer {
    /// The key that the journal names last, else a new one. A key with an ML-DSA-44 half is never replaced by one without it here: that takes
    /// both signatures of the key before.
    ///
    /// # Errors
    /// [`Kind::Device`] when a key cannot be saved; [`Kind::DataInvalid`] when the journal names half of the key that is saved.
    pub(super) fn attach(keys: SigningKeys, named: Option<&PublicKey>) -> Result<(Self, Announced)> {
        if let Some(key) = keys.load(&keys.next_file()).filter(|key| Some(&key.public) == named) {
            // The announcement was certified and the run ended before the old seed was erased.
            keys.retire()?;
            return Ok((Signer { keys: Arc::new(keys), key, next: None }, Announced::Yes));
        }
        let (key, announced) = match (keys.load(&keys.file), named) {
            (Some(key), Some(named)) if key.public == *named => (key, Announced::Yes),
            // A key is named with both halves at once: who rewrote the journal took one away, or put another in its place.
            (Some(key), Some(named)) if key.public.ed25519() == named.ed25519() => {
                let (ours, theirs) = (key.public.pin(), named.pin());
                let what = format!(
                    "the journal names the key {theirs}, and this program signed it with {ours}: it was rewritten"
                );
                return Err(Error::new(Kind::DataInvalid, what));
            }
            (Some(key), None) if key.suite() == keys.suite => (key, Announced::First),
            (_, named) => {
                keys.set_aside()?;
                let before = named.map(suite_of);
                let key =
                    PrivateKey::generate(before.filter(|suite| *suite == Suite::WithMlDsa44).unwrap_or(keys.suite))?;
                keys.save(&keys.file, &key)?;
                (key, if named.is_some() { Announced::Broken } else { Announced::First })
            }
        };
        std::fs::remove_file(keys.next_file()).ok();
        Ok((Signer { keys: Arc::new(keys), key, next: None }, announced))
    }

    /// Whether keys of other kinds are wanted than the journal is signed with.
    pub(super) fn is_to_change(&self) -> bool {
        self.key.suite() != self.keys.suite
    }

    /// The public half.
    pub(super) fn public(&self) -> &PublicKey {
        &self.key.public
    }

    /// Signs for a journal of so many records, at a time in nanoseconds since the Unix epoch.
    pub(super) fn sign(&self, tree: &Tree, generation: u64, records: u64, time: u64) -> Result<SignedCheckpoint> {
        if tree.size() != records {
            return Err(Error::new(Kind::Internal, "the journal's tree has lost count of its records"));
        }
        let origin = self.keys.origin.clone();
        let checkpoint = Checkpoint { origin, size: records, root: tree.root(), generation };
        let signature = self.key.ed25519.sign(checkpoint.text().as_bytes())?;
        let signature = signature.try_into().map_err(|_| Error::from(Kind::Internal))?;
        let ml_dsa_44 = match &self.key.ml_dsa_44 {
            Some(key) => Some(timestamped(key, &checkpoint, time / 1_000_000_000)?),
            None => None,
        };
        Ok(SignedCheckpoint { checkpoint, signature, ml_dsa_44 })
    }

    /// What makes the next key, for whoever does that beside the signing; none when one is announced already.
    pub(super) fn keys_to_prepare(&self) -> Option<Arc<SigningKeys>> {
        self.next.is_none().then(|| Arc::clone(&self.keys))
    }

    /// The record that names the key is written.
    pub(super) fn announced(&mut self, prepared: Prepared) {
        self.next = Some(prepared);
    }

    /// A checkpoint is written. If it certified an announced key, that signs all later ones, and the key before is to be erased: gives what
    /// does that.
    pub(super) fn signed(&mut self) -> Option<Arc<SigningKeys>> {
        let Prepared(key) = self.next.take()?;
        self.key = key;
        Some(Arc::clone(&self.keys))
    }
}

fn timestamped(key: &ml_dsa::PrivateKey, checkpoint: &Checkpoint, seconds: u64) -> Result<Timestamped> {
    let internal = || Error::from(Kind::Internal);
    let message = checkpoint.message(seconds).ok_or_else(internal)?;
    Timestamped::new(seconds, &key.sign(&message, b"", Hedge::Random)?).ok_or_else(internal)
}

fn erase(path: &Path) -> io::Result<()> {
    let mut file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let len = usize::try_from(file.metadata()?.len()).unwrap_or_default();
    file.write_all(&vec![0; len.min(4096)])?;
    file.sync_all()
}

fn unusable(path: &Path, error: &io::Error) -> Error {
    Error::new(Kind::Device, format!("the journal's signing key {} cannot be saved: {error}", path.display()))
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITES: [Suite; 2] = [Suite::Ed25519, Suite::WithMlDsa44];

    fn keys(folder: &Path, sealing: u8, suite: Suite) -> SigningKeys {
        let journal = folder.join("audit.jsonl");
        SigningKeys::new(&journal, SecretBytes::copy_from(&[sealing; 32]), "test/log".into()).of(suite)
    }

    #[test]
    fn a_key_is_found_again_and_only_under_its_sealing_key() {
        for suite in SUITES {
            let folder = tempfile::tempdir().unwrap();
            let (first, announced) = Signer::attach(keys(folder.path(), 1, suite), None).unwrap();
            assert_eq!((announced, suite_of(first.public())), (Announced::First, suite));
            let named = Some(first.public());
            let (again, announced) = Signer::attach(keys(folder.path(), 1, suite), named).unwrap();
            assert_eq!((again.public(), announced), (first.public(), Announced::Yes));
            let (other, announced) = Signer::attach(keys(folder.path(), 2, suite), named).unwrap();
            assert_eq!(announced, Announced::Broken);
            assert_ne!(other.public(), first.public());
        }
    }

    #[test]
    fn any_changed_byte_of_a_key_file_makes_it_no_key() {
        for suite in SUITES {
            let folder = tempfile::tempdir().unwrap();
            let keys = keys(folder.path(), 1, suite);
            let text = keys.seal(&PrivateKey::generate(suite).unwrap()).unwrap();
            assert!(keys.open(&text).is_some_and(|key| key.suite() == suite));
            for at in 0..text.len() {
                let mut edited = text.clone().into_bytes();
                edited[at] = if edited[at] == b'a' { b'b' } else { b'a' };
                assert!(keys.open(&String::from_utf8(edited).unwrap()).is_none(), "byte {at}");
            }
        }
    }

    #[test]
    fn going_over_erases_the_old_seed_at_whatever_point_the_run_ends() {
        for (before, wanted) in SUITES.into_iter().flat_map(|before| SUITES.map(|wanted| (before, wanted))) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("audit.jsonl.key");
            let (signer, _) = Signer::attach(keys(folder.path(), 1, before), None).unwrap();
            let (old, old_text) = (signer.public().clone(), std::fs::read_to_string(&path).unwrap());
            let next = signer.keys_to_prepare().unwrap().prepare().unwrap().public().clone();
            drop(signer); // before the announcement: the old key goes on
            let (mut signer, announced) = Signer::attach(keys(folder.path(), 1, wanted), Some(&old)).unwrap();
            assert_eq!((signer.public(), announced), (&old, Announced::Yes));
            assert_eq!(signer.is_to_change(), before != wanted);
            let prepared = signer.keys_to_prepare().unwrap().prepare().unwrap();
            let after = prepared.public().clone();
            assert_ne!(next, after);
            signer.announced(prepared);
            assert!(signer.signed().is_some() && signer.signed().is_none());
            assert_eq!((signer.public(), signer.is_to_change()), (&after, false));
            drop(signer); // after it: the new one does
            let (signer, announced) = Signer::attach(keys(folder.path(), 1, wanted), Some(&after)).unwrap();
            assert_eq!((signer.public(), announced), (&after, Announced::Yes));
            assert_ne!(std::fs::read_to_string(&path).unwrap(), old_text);
            assert!(!folder.path().join("audit.jsonl.key.next").exists());
        }
    }

    #[test]
    fn a_key_before_that_could_not_be_erased_costs_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let (path, aside) = (folder.path().join("audit.jsonl.key"), folder.path().join("aside"));
        let (mut signer, _) = Signer::attach(keys(folder.path(), 1, SUITES[0]), None).unwrap();
        let prepared = signer.keys_to_prepare().unwrap().prepare().unwrap();
        let after = prepared.public().clone();
        signer.announced(prepared);
        let before = signer.signed().unwrap();
        // What cannot be opened for writing cannot be erased.
        std::fs::rename(&path, &aside).unwrap();
        std::fs::create_dir(&path).unwrap();
        before.retire().unwrap_err();
        std::fs::remove_dir(&path).unwrap();
        std::fs::rename(&aside, &path).unwrap();
        before.retire().unwrap();
        drop(signer);
        let (signer, announced) = Signer::attach(keys(folder.path(), 1, SUITES[0]), Some(&after)).unwrap();
        assert_eq!((signer.public(), announced), (&after, Announced::Yes));
    }

    #[test]
    fn a_lost_key_of_both_kinds_is_followed_by_another_of_both() {
        for (before, wanted) in SUITES.into_iter().flat_map(|before| SUITES.map(|wanted| (before, wanted))) {
            let folder = tempfile::tempdir().unwrap();
            let named = PrivateKey::generate(before).unwrap().public;
            let (signer, announced) = Signer::attach(keys(folder.path(), 1, wanted), Some(&named)).unwrap();
            assert_eq!(announced, Announced::Broken);
            let both = before == Suite::WithMlDsa44 || wanted == Suite::WithMlDsa44;
            assert_eq!(signer.public().ml_dsa_44().is_some(), both, "{before:?}, then {wanted:?}");
        }
    }
}
