//! Checkpoints: the size and root of the Merkle tree over the journal's lines, signed.
//!
//! The signed text is a note in the form that transparency logs publish (C2SP `signed-note` and `tlog-checkpoint`): origin, size,
//! root, one extension line for the store's generation, and an Ed25519 signature. A record of the journal carries its parts;
//! [`Checkpoint::note`] puts them together again.

use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256};

use super::merkle::Hash;
use super::record::{Category, Client, Entry, Fact, Record};
use crate::crypto::eddsa;

/// The record that carries a checkpoint.
pub(super) const CHECKPOINT: &str = "checkpoint";
/// The record that announces a signing key.
pub(super) const JOURNAL_KEY: &str = "journal_key";
/// The first record of every file but the first.
pub(super) const SEGMENT_OPEN: &str = "segment_open";

/// A public signing key of the journal.
pub type PublicKey = [u8; 32];

/// The journal up to a record, in one hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which journal: a name without white space and without `+`.
    pub origin: String,
    /// How many records the tree covers: all before the one that carries the checkpoint.
    pub size: u64,
    /// The tree's root.
    pub root: [u8; 32],
    /// The store's generation.
    pub generation: u64,
}

/// A checkpoint with its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What is signed.
    pub checkpoint: Checkpoint,
    /// Ed25519, over [`Checkpoint::text`].
    pub signature: [u8; 64],
}

impl Checkpoint {
    /// The text of the note, which is what is signed.
    pub fn text(&self) -> String {
        let Checkpoint { origin, size, root, generation } = self;
        format!("{origin}\n{size}\n{}\ngeneration {generation}\n", BASE64.encode(root))
    }
}

impl SignedCheckpoint {
    /// The record that carries it.
    pub(super) fn entry(&self) -> Entry {
        let Checkpoint { origin, size, root, .. } = &self.checkpoint;
        Entry::new(Category::Journal, CHECKPOINT, Client::Daemon)
            .with_fact("origin", Fact::name(origin))
            .with_fact("root", Fact::digest(root))
            .with_fact("signature", Fact::public(&self.signature))
            .with_fact("size", Fact::number(*size))
    }

    /// Reads a record; `None` for one that carries no checkpoint.
    ///
    /// # Errors
    /// A sentence, for a record that calls itself a checkpoint and is none.
    pub fn of(record: &Record) -> Option<Result<Self, String>> {
        (record.op == CHECKPOINT)
            .then(|| SignedCheckpoint::parse(record).ok_or_else(|| "a malformed checkpoint".into()))
    }

    fn parse(record: &Record) -> Option<Self> {
        let Fact::Number(size) = record.detail.get("size")? else { return None };
        let origin = text(record, "origin")?.to_owned();
        let plain = |character: char| !character.is_whitespace() && character != '+';
        if origin.is_empty() || !origin.chars().all(plain) {
            return None;
        }
        let root = bytes(record, "root")?;
        let signature = bytes(record, "signature")?;
        let checkpoint = Checkpoint { origin, size: *size, root, generation: record.generation };
        Some(SignedCheckpoint { checkpoint, signature })
    }

    /// Whether this key made the signature.
    pub fn is_by(&self, key: &PublicKey) -> bool {
        eddsa::PublicKey::from_bytes(key)
            .and_then(|key| key.verify(self.checkpoint.text().as_bytes(), &self.signature))
            .is_ok()
    }

    /// The note as witnesses and other tools take it, signed by this key under the origin's name.
    pub fn note(&self, key: &PublicKey) -> String {
        let mut blob = key_hash(&self.checkpoint.origin, key).to_vec();
        blob.extend_from_slice(&self.signature);
        format!("{}\n\u{2014} {} {}\n", self.checkpoint.text(), self.checkpoint.origin, BASE64.encode(&blob))
    }
}

/// A signed note that somebody hands over: its checkpoint, and the signatures under the origin's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What is signed.
    pub checkpoint: Checkpoint,
    signatures: Vec<([u8; 4], [u8; 64])>,
}

impl Note {
    /// Reads [`SignedCheckpoint::note`], also with further signatures beside it; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (body, signatures) = text.split_once("\n\n")?;
        let mut lines = body.split('\n');
        let mut next = || lines.next();
        let (origin, size, root, generation) = (next()?, next()?, next()?, next()?);
        let root = BASE64.decode(root.as_bytes()).ok()?.try_into().ok()?;
        let generation = generation.strip_prefix("generation ")?.parse().ok()?;
        let checkpoint = Checkpoint { origin: origin.to_owned(), size: size.parse().ok()?, root, generation };
        // The text is signed, so it has one form.
        if checkpoint.text() != format!("{body}\n") || !signatures.ends_with('\n') {
            return None;
        }
        let own = signatures.lines().filter_map(|line| {
            let blob = line.strip_prefix("\u{2014} ")?.strip_prefix(origin)?.strip_prefix(' ')?;
            let blob = BASE64.decode(blob.as_bytes()).ok()?;
            let (hash, signature) = blob.split_first_chunk()?;
            Some((*hash, signature.try_into().ok()?))
        });
        let signatures = own.collect();
        Some(Note { checkpoint, signatures })
    }

    /// Whether this key made one of the signatures.
    pub fn is_by(&self, key: &PublicKey) -> bool {
        let hash = key_hash(&self.checkpoint.origin, key);
        self.signatures.iter().filter(|(named, _)| *named == hash).any(|(_, signature)| {
            SignedCheckpoint { checkpoint: self.checkpoint.clone(), signature: *signature }.is_by(key)
        })
    }
}

/// Note signatures of Ed25519 have type 1 (C2SP signed-note, "Signature types").
const ED25519: u8 = 1;

fn key_hash(name: &str, key: &PublicKey) -> [u8; 4] {
    let digest =
        Sha256::new().chain_update(name).chain_update(b"\n").chain_update([ED25519]).chain_update(key).finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

/// A public key as note verifiers take it: name, key hash and key.
pub fn verifier_key(name: &str, key: &PublicKey) -> String {
    let mut typed = vec![ED25519];
    typed.extend_from_slice(key);
    format!("{name}+{}+{}", HEXLOWER.encode(&key_hash(name, key)), BASE64.encode(&typed))
}

/// The key that a record announces, or with which a segment begins.
pub(super) fn announced(record: &Record) -> Option<PublicKey> {
    bytes(record, "key")
}

/// The subtree roots that a segment's first record carries.
pub(super) fn peaks(record: &Record) -> Option<Vec<Hash>> {
    let joined = HEXLOWER.decode(text(record, "peaks")?.as_bytes()).ok()?;
    joined.chunks(32).map(|hash| hash.try_into().ok()).collect()
}

/// The record that announces a key.
pub(super) fn key_entry(key: &PublicKey) -> Entry {
    Entry::new(Category::Journal, JOURNAL_KEY, Client::Daemon).with_fact("key", Fact::public(key))
}

fn text<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    match record.detail.get(name)? {
        Fact::Text(text) => Some(text),
        Fact::Number(_) => None,
    }
}

fn bytes<const LEN: usize>(record: &Record, name: &str) -> Option<[u8; LEN]> {
    HEXLOWER.decode(text(record, name)?.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_text_blank_line_and_signature_under_the_origins_name() {
        let key = eddsa::PrivateKey::from_seed(&[7; 32]).unwrap();
        let public: PublicKey = key.public().unwrap().as_bytes().try_into().unwrap();
        let checkpoint = Checkpoint { origin: "example/log".into(), size: 5, root: [1; 32], generation: 9 };
        let signature: [u8; 64] = key.sign(checkpoint.text().as_bytes()).unwrap().try_into().unwrap();
        let signed = SignedCheckpoint { checkpoint, signature };
        assert!(signed.is_by(&public) && !signed.is_by(&[3; 32]));
        let note = signed.note(&public);
        let (text, signatures) = note.split_once("\n\n").unwrap();
        assert_eq!(text, "example/log\n5\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\ngeneration 9");
        let blob =
            BASE64.decode(signatures.strip_prefix("\u{2014} example/log ").unwrap().trim_end().as_bytes()).unwrap();
        assert_eq!((&blob[..4], &blob[4..]), (&key_hash("example/log", &public)[..], &signature[..]));
        let read = Note::parse(&note).unwrap();
        assert!(read.checkpoint == signed.checkpoint && read.is_by(&public) && !read.is_by(&[3; 32]));
        let cosigned = format!("{note}\u{2014} somebody else AAAAAAAA\n");
        assert!(Note::parse(&cosigned).unwrap().is_by(&public));
        for wrong in [note.replace("\n5\n", "\n05\n"), note.replace("example", "exam ple"), note.replace("\n\n", "\n")]
        {
            assert!(Note::parse(&wrong).is_none_or(|note| !note.is_by(&public)), "{wrong}");
        }
    }
}
