//! The journal's signing keys at rest: one Ed25519 seed in a private file beside the journal, sealed under a key of the store's.
//!
//! Each file of the journal has its own key. The next one is made, saved and announced before the last checkpoint of the old one;
//! then the old seed is overwritten. Who breaks in later finds no key that could sign for the past.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use data_encoding::HEXLOWER;

use super::checkpoint::{Checkpoint, PublicKey, SignedCheckpoint};
use super::merkle::Tree;
use crate::crypto::{eddsa, rng};
use crate::secret::SecretBytes;
use crate::{Error, Kind, Result, sys};

/// First word of a key file; then public key, nonce and sealed seed in hexadecimal digits, and a line feed.
const WORD: &str = "craton-journal-key-1";

/// What the journal needs to sign: where its keys lie, what seals them, and the journal's name in checkpoints.
pub(crate) struct SigningKeys {
    file: PathBuf,
    sealing: SecretBytes,
    origin: String,
}

impl SigningKeys {
    /// For the journal at this path. `sealing` are 32 bytes.
    pub(crate) fn new(journal: &Path, sealing: SecretBytes, origin: String) -> Self {
        SigningKeys { file: beside(journal, ".key"), sealing, origin }
    }

    fn next_file(&self) -> PathBuf {
        beside(&self.file, ".next")
    }

    fn load(&self, path: &Path) -> Option<eddsa::PrivateKey> {
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

    fn save(&self, path: &Path, key: &eddsa::PrivateKey) -> Result<()> {
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

    fn seal(&self, key: &eddsa::PrivateKey) -> Result<String> {
        let public = HEXLOWER.encode(key.public()?.as_bytes());
        let mut nonce = [0; 12];
        rng::fill(&mut nonce)?;
        let mut seed = key.seed().duplicate();
        let tag = self.cipher()?.encrypt_inout_detached(
            &Nonce::from(nonce),
            format!("{WORD} {public}").as_bytes(),
            seed.expose_mut().into(),
        );
        let tag = tag.map_err(|_| Error::from(Kind::Internal))?;
        let sealed = [HEXLOWER.encode(seed.expose()), HEXLOWER.encode(&tag)].concat();
        Ok(format!("{WORD} {public} {} {sealed}\n", HEXLOWER.encode(&nonce)))
    }

    fn open(&self, text: &str) -> Option<eddsa::PrivateKey> {
        let mut words = text.strip_suffix('\n')?.split(' ');
        let (word, public) = (words.next()?, words.next()?);
        let nonce: [u8; 12] = HEXLOWER.decode(words.next()?.as_bytes()).ok()?.try_into().ok()?;
        let sealed = HEXLOWER.decode(words.next()?.as_bytes()).ok()?;
        let (seed, tag) = sealed.split_at_checked(eddsa::SEED_LEN)?;
        let tag: [u8; 16] = tag.try_into().ok()?;
        if word != WORD || words.next().is_some() {
            return None;
        }
        let mut seed = SecretBytes::copy_from(seed);
        self.cipher()
            .ok()?
            .decrypt_inout_detached(
                &Nonce::from(nonce),
                format!("{WORD} {public}").as_bytes(),
                seed.expose_mut().into(),
                &Tag::from(tag),
            )
            .ok()?;
        let key = eddsa::PrivateKey::from_seed(seed.expose()).ok()?;
        (HEXLOWER.encode(key.public().ok()?.as_bytes()) == public).then_some(key)
    }
}

/// The signer of the file that is being written.
pub(super) struct Signer {
    keys: SigningKeys,
    key: eddsa::PrivateKey,
    public: PublicKey,
    /// Announced: the next checkpoint certifies it, and it takes over.
    next: Option<Prepared>,
    /// The key file still holds the key before.
    stale: bool,
}

/// A key that is saved and not yet announced.
pub(super) struct Prepared {
    key: eddsa::PrivateKey,
    public: PublicKey,
}

impl Prepared {
    /// The public half.
    pub(super) fn public(&self) -> &PublicKey {
        &self.public
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
    /// The key that the journal names last, else a new one.
    ///
    /// # Errors
    /// [`Kind::Device`] when a key cannot be saved.
    pub(super) fn attach(keys: SigningKeys, named: Option<PublicKey>) -> Result<(Self, Announced)> {
        let with_public = |key: eddsa::PrivateKey| public_of(&key).map(|public| (key, public));
        let saved = keys.load(&keys.file).map(with_public).transpose()?;
        let next = keys.load(&keys.next_file()).map(with_public).transpose()?;
        if let Some((key, public)) = next.filter(|(_, public)| Some(*public) == named) {
            // The announcement was certified and the run ended before the old seed was erased.
            let mut signer = Signer { keys, key, public, next: None, stale: true };
            signer.retire()?;
            return Ok((signer, Announced::Yes));
        }
        let (key, public, announced) = match (saved, named) {
            (Some((key, public)), Some(named)) if public == named => (key, public, Announced::Yes),
            (Some((key, public)), None) => (key, public, Announced::First),
            (_, named) => {
                keys.set_aside()?;
                let key = eddsa::PrivateKey::generate()?;
                keys.save(&keys.file, &key)?;
                let public = public_of(&key)?;
                (key, public, if named.is_some() { Announced::Broken } else { Announced::First })
            }
        };
        std::fs::remove_file(keys.next_file()).ok();
        Ok((Signer { keys, key, public, next: None, stale: false }, announced))
    }

    /// The public half.
    pub(super) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs for a journal of so many records.
    pub(super) fn sign(&self, tree: &Tree, generation: u64, records: u64) -> Result<SignedCheckpoint> {
        if tree.size() != records {
            return Err(Error::new(Kind::Internal, "the journal's tree has lost count of its records"));
        }
        let origin = self.keys.origin.clone();
        let checkpoint = Checkpoint { origin, size: records, root: tree.root(), generation };
        let signature = self.key.sign(checkpoint.text().as_bytes())?;
        let signature = signature.try_into().map_err(|_| Error::from(Kind::Internal))?;
        Ok(SignedCheckpoint { checkpoint, signature })
    }

    /// Makes and saves the key of the next file; nothing when one is announced already.
    pub(super) fn prepare(&self) -> Result<Option<Prepared>> {
        if self.next.is_some() {
            return Ok(None);
        }
        let key = eddsa::PrivateKey::generate()?;
        let public = public_of(&key)?;
        self.keys.save(&self.keys.next_file(), &key)?;
        Ok(Some(Prepared { key, public }))
    }

    /// The record that names the key is written.
    pub(super) fn announced(&mut self, prepared: Prepared) {
        self.next = Some(prepared);
    }

    /// A checkpoint is written: it certified the announced key, with which all later ones are signed.
    pub(super) fn signed(&mut self) {
        if let Some(Prepared { key, public }) = self.next.take() {
            (self.key, self.public, self.stale) = (key, public, true);
        }
    }

    /// Erases the key before and puts this one's file in its place. What certified this one must be durable.
    pub(super) fn retire(&mut self) -> Result<()> {
        if self.stale {
            let (old, next) = (&self.keys.file, self.keys.next_file());
            erase(old).and_then(|()| sys::replace_durably(&next, old)).map_err(|error| unusable(old, &error))?;
            self.stale = false;
        }
        Ok(())
    }
}

fn public_of(key: &eddsa::PrivateKey) -> Result<PublicKey> {
    key.public()?.as_bytes().try_into().map_err(|_| Kind::Internal.into())
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

    fn keys(folder: &Path, sealing: u8) -> SigningKeys {
        SigningKeys::new(&folder.join("audit.jsonl"), SecretBytes::copy_from(&[sealing; 32]), "test/log".into())
    }

    #[test]
    fn a_key_is_found_again_and_only_under_its_sealing_key() {
        let folder = tempfile::tempdir().unwrap();
        let (first, announced) = Signer::attach(keys(folder.path(), 1), None).unwrap();
        assert_eq!(announced, Announced::First);
        let named = Some(*first.public());
        let (again, announced) = Signer::attach(keys(folder.path(), 1), named).unwrap();
        assert_eq!((again.public(), announced), (first.public(), Announced::Yes));
        let (other, announced) = Signer::attach(keys(folder.path(), 2), named).unwrap();
        assert_eq!(announced, Announced::Broken);
        assert_ne!(other.public(), first.public());
    }

    #[test]
    fn any_changed_byte_of_a_key_file_makes_it_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let keys = keys(folder.path(), 1);
        let text = keys.seal(&eddsa::PrivateKey::generate().unwrap()).unwrap();
        assert!(keys.open(&text).is_some());
        for at in 0..text.len() {
            let mut edited = text.clone().into_bytes();
            edited[at] = if edited[at] == b'a' { b'b' } else { b'a' };
            assert!(keys.open(&String::from_utf8(edited).unwrap()).is_none(), "byte {at}");
        }
    }

    #[test]
    fn going_over_erases_the_old_seed_at_whatever_point_the_run_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl.key");
        let (signer, _) = Signer::attach(keys(folder.path(), 1), None).unwrap();
        let (old, old_text) = (*signer.public(), std::fs::read_to_string(&path).unwrap());
        let next = *signer.prepare().unwrap().unwrap().public();
        drop(signer); // before the announcement: the old key goes on
        let (mut signer, announced) = Signer::attach(keys(folder.path(), 1), Some(old)).unwrap();
        assert_eq!((*signer.public(), announced), (old, Announced::Yes));
        let prepared = signer.prepare().unwrap().unwrap();
        let after = *prepared.public();
        assert_ne!(next, after);
        signer.announced(prepared);
        signer.signed();
        assert_eq!(*signer.public(), after);
        drop(signer); // after it: the new one does
        let (signer, announced) = Signer::attach(keys(folder.path(), 1), Some(after)).unwrap();
        assert_eq!((*signer.public(), announced), (after, Announced::Yes));
        assert_ne!(std::fs::read_to_string(&path).unwrap(), old_text);
        assert!(!folder.path().join("audit.jsonl.key.next").exists());
    }
}
