//! Checkpoints: the size and root of the Merkle tree over the journal's lines, signed.
//!
//! The signed text is a note in the form that transparency logs publish (C2SP `signed-note` and `tlog-checkpoint`): origin, size,
//! root, one extension line for the store's generation, and an Ed25519 signature. With ML-DSA-44 beside it the note has a second
//! signature, over the message of C2SP `tlog-cosignature`, "ML-DSA-44 signed message": `tlog-checkpoint`, "Signatures", has logs sign
//! with that form. A record of the journal carries the parts; [`SignedCheckpoint::note`] puts them together again.

use data_encoding::{BASE64, HEXLOWER};

use super::entry::{Category, Client, Entry, Fact};
use super::keys::{ML_DSA_44_KEY_LEN, PublicKey, TIMESTAMPED_LEN};
use super::merkle::Hash;
use super::record::Record;

/// The record that carries a checkpoint.
pub(super) const CHECKPOINT: &str = "checkpoint";
/// The record that announces a signing key.
pub(super) const JOURNAL_KEY: &str = "journal_key";
/// The first record of every file but the first.
pub(super) const SEGMENT_OPEN: &str = "segment_open";

/// The fact that names the ML-DSA-44 key, beside `key`, and the one that carries its signature.
const ML_DSA_44_KEY: &str = "ml_dsa_44_key";
const ML_DSA_44_SIGNATURE: &str = "ml_dsa_44_signature";

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

/// A checkpoint with its signature, or its two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What is signed.
    pub checkpoint: Checkpoint,
    /// Ed25519, over [`Checkpoint::text`].
    pub signature: [u8; 64],
    /// ML-DSA-44, while the journal is signed with both.
    pub ml_dsa_44: Option<Timestamped>,
}

/// An ML-DSA-44 signature and the time that it is about (C2SP `tlog-cosignature`, "Format": `timestamped_signature`).
#[derive(Clone, PartialEq, Eq)]
pub struct Timestamped(Box<[u8; TIMESTAMPED_LEN]>);

impl Timestamped {
    /// Of a time in seconds since the Unix epoch.
    pub(super) fn new(timestamp: u64, signature: &[u8]) -> Option<Self> {
        Timestamped::from_bytes(&[&timestamp.to_be_bytes()[..], signature].concat())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let timestamped = Timestamped(Box::new(bytes.try_into().ok()?));
        i64::try_from(timestamped.timestamp()).is_ok().then_some(timestamped)
    }

    /// Reads lower-case hexadecimal digits; `None` for anything else.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        Timestamped::from_bytes(&HEXLOWER.decode(text.as_bytes()).ok()?)
    }

    /// Lower-case hexadecimal digits.
    pub(super) fn to_hex(&self) -> String {
        HEXLOWER.encode(&self.0[..])
    }

    fn timestamp(&self) -> u64 {
        let (timestamp, _) = self.0.split_first_chunk().unwrap_or((&[0; 8], &[]));
        u64::from_be_bytes(*timestamp)
    }

    fn signature(&self) -> &[u8] {
        &self.0[8..]
    }
}

impl core::fmt::Debug for Timestamped {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Timestamped").field("timestamp", &self.timestamp()).finish_non_exhaustive()
    }
}

impl Checkpoint {
    /// The text of the note, which is what is signed.
    pub fn text(&self) -> String {
        let Checkpoint { origin, size, root, generation } = self;
        format!("{origin}\n{size}\n{}\ngeneration {generation}\n", BASE64.encode(root))
    }

    /// What ML-DSA-44 signs (C2SP `tlog-cosignature`, "ML-DSA-44 signed message"), with the journal's own name as the cosigner's. The
    /// generation is not in it: see `format.md`, "Two signatures".
    ///
    /// `None` for a name of more than 255 bytes.
    pub(super) fn message(&self, timestamp: u64) -> Option<Vec<u8>> {
        let mut message = b"subtree/v1\n\0".to_vec();
        let name = |message: &mut Vec<u8>| {
            message.push(u8::try_from(self.origin.len()).ok()?);
            message.extend_from_slice(self.origin.as_bytes());
            Some(())
        };
        name(&mut message)?;
        message.extend_from_slice(&timestamp.to_be_bytes());
        name(&mut message)?;
        for number in [0, self.size] {
            message.extend_from_slice(&number.to_be_bytes());
        }
        message.extend_from_slice(&self.root);
        Some(message)
    }
}

impl SignedCheckpoint {
    /// The record that carries it.
    pub(super) fn entry(&self) -> Entry {
        let Checkpoint { origin, size, root, .. } = &self.checkpoint;
        let entry = Entry::new(Category::Journal, CHECKPOINT, Client::Daemon)
            .with_fact("origin", Fact::name(origin))
            .with_fact("root", Fact::digest(root))
            .with_fact("signature", Fact::public(&self.signature))
            .with_fact("size", Fact::number(*size));
        match &self.ml_dsa_44 {
            Some(Timestamped(bytes)) => entry.with_fact(ML_DSA_44_SIGNATURE, Fact::public(&bytes[..])),
            None => entry,
        }
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
        let ml_dsa_44 = match record.detail.get(ML_DSA_44_SIGNATURE) {
            Some(_) => Some(Timestamped::from_hex(text(record, ML_DSA_44_SIGNATURE)?)?),
            None => None,
        };
        let checkpoint = Checkpoint { origin, size: *size, root, generation: record.generation };
        Some(SignedCheckpoint { checkpoint, signature, ml_dsa_44 })
    }

    /// Whether this key made what is signed: the one signature, or both. A key of both halves did not make a checkpoint that lacks the
    /// second, and one of Ed25519 alone did not make one that has it.
    pub fn is_by(&self, key: &PublicKey) -> bool {
        self.is_by_ed25519(key)
            && match (key.ml_dsa_44(), &self.ml_dsa_44) {
                (None, None) => true,
                (Some(_), Some(second)) => self.checkpoint.is_signed(key, second),
                _ => false,
            }
    }

    /// Whether the Ed25519 half made its signature, whatever is with the other.
    pub(super) fn is_by_ed25519(&self, key: &PublicKey) -> bool {
        key.verifies(self.checkpoint.text().as_bytes(), &self.signature)
    }

    /// The note as witnesses and other tools take it, signed by this key under the origin's name.
    pub fn note(&self, key: &PublicKey) -> String {
        let origin = &self.checkpoint.origin;
        let line = |id: [u8; 4], signature: &[u8]| {
            format!("\u{2014} {origin} {}\n", BASE64.encode(&[&id[..], signature].concat()))
        };
        let mut note = format!("{}\n{}", self.checkpoint.text(), line(key.key_id(origin), &self.signature));
        if let (Some(id), Some(Timestamped(second))) = (key.ml_dsa_44_key_id(origin), &self.ml_dsa_44) {
            note.push_str(&line(id, &second[..]));
        }
        note
    }
}

impl Checkpoint {
    fn is_signed(&self, key: &PublicKey, second: &Timestamped) -> bool {
        let message = self.message(second.timestamp());
        message.is_some_and(|message| key.verifies_ml_dsa_44(&message, second.signature()))
    }
}

/// A note has no more signatures by one name that are looked at; C2SP signed-note, "Format", has verifiers accept 16.
const MAX_SIGNATURES: usize = 16;

/// A signed note that somebody hands over: its checkpoint, and the signatures under the origin's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What is signed.
    pub checkpoint: Checkpoint,
    signatures: Vec<([u8; 4], [u8; 64])>,
    ml_dsa_44: Vec<([u8; 4], Timestamped)>,
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
            let (id, signature) = blob.split_first_chunk()?;
            Some((*id, signature.to_vec()))
        });
        let (mut signatures, mut ml_dsa_44) = (Vec::new(), Vec::new());
        // Those of other lengths are of types that nobody here knows.
        for (id, signature) in own.take(MAX_SIGNATURES) {
            if let Ok(signature) = signature[..].try_into() {
                signatures.push((id, signature));
            } else if let Some(signature) = Timestamped::from_bytes(&signature) {
                ml_dsa_44.push((id, signature));
            }
        }
        Some(Note { checkpoint, signatures, ml_dsa_44 })
    }

    /// Whether this key made one of the signatures; with both halves, one of either type.
    pub fn is_by(&self, key: &PublicKey) -> bool {
        let (origin, text) = (&self.checkpoint.origin, self.checkpoint.text());
        let id = key.key_id(origin);
        let first = self.signatures.iter().any(|(named, by)| *named == id && key.verifies(text.as_bytes(), by));
        let id = key.ml_dsa_44_key_id(origin);
        let second = |(named, by): &([u8; 4], Timestamped)| Some(*named) == id && self.checkpoint.is_signed(key, by);
        first && (id.is_none() || self.ml_dsa_44.iter().any(second))
    }
}

/// The key that a record announces, or with which a segment begins.
pub(super) fn announced(record: &Record) -> Option<PublicKey> {
    let ml_dsa_44 = match record.detail.get(ML_DSA_44_KEY) {
        Some(_) => Some(bytes::<ML_DSA_44_KEY_LEN>(record, ML_DSA_44_KEY)?),
        None => None,
    };
    Some(PublicKey::new(bytes(record, "key")?, ml_dsa_44))
}

/// Whether a record names a key at all.
pub(super) fn names_key(record: &Record) -> bool {
    record.detail.contains_key("key") || record.detail.contains_key(ML_DSA_44_KEY)
}

/// The subtree roots that a segment's first record carries.
pub(super) fn peaks(record: &Record) -> Option<Vec<Hash>> {
    let joined = HEXLOWER.decode(text(record, "peaks")?.as_bytes()).ok()?;
    joined.chunks(32).map(|hash| hash.try_into().ok()).collect()
}

/// The record that announces a key.
pub(super) fn key_entry(key: &PublicKey) -> Entry {
    with_key(Entry::new(Category::Journal, JOURNAL_KEY, Client::Daemon), key)
}

/// An entry that names a key.
pub(super) fn with_key(entry: Entry, key: &PublicKey) -> Entry {
    let entry = entry.with_fact("key", Fact::public(key.ed25519()));
    match key.ml_dsa_44() {
        Some(second) => entry.with_fact(ML_DSA_44_KEY, Fact::public(second)),
        None => entry,
    }
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
    use crate::crypto::{eddsa, ml_dsa};

    fn keys(seed: u8) -> (eddsa::PrivateKey, ml_dsa::PrivateKey, PublicKey) {
        let first = eddsa::PrivateKey::from_seed(&[seed; 32]).unwrap();
        let second = ml_dsa::PrivateKey::from_seed(ml_dsa::ParameterSet::MlDsa44, &[seed; 32]).unwrap();
        let public = first.public().unwrap().as_bytes().try_into().unwrap();
        let both = second.public().unwrap().to_bytes().unwrap().try_into().unwrap();
        (first, second, PublicKey::new(public, Some(both)))
    }

    fn alone(key: &PublicKey) -> PublicKey {
        PublicKey::new(*key.ed25519(), None)
    }

    /// Signed with both keys of this seed.
    fn signed(seed: u8, size: u64) -> (SignedCheckpoint, PublicKey) {
        let (first, second, key) = keys(seed);
        let checkpoint = Checkpoint { origin: "example/log".into(), size, root: [1; 32], generation: 9 };
        let signature: [u8; 64] = first.sign(checkpoint.text().as_bytes()).unwrap().try_into().unwrap();
        let message = checkpoint.message(1_700_000_000).unwrap();
        let second = second.sign(&message, b"", ml_dsa::Hedge::Deterministic).unwrap();
        let ml_dsa_44 = Timestamped::new(1_700_000_000, &second);
        (SignedCheckpoint { checkpoint, signature, ml_dsa_44 }, key)
    }

    #[test]
    fn a_note_is_text_blank_line_and_signature_under_the_origins_name() {
        let (signed, key) = signed(7, 5);
        let signed = SignedCheckpoint { ml_dsa_44: None, ..signed };
        let (public, other) = (alone(&key), PublicKey::new([3; 32], None));
        assert!(signed.is_by(&public) && !signed.is_by(&other));
        let note = signed.note(&public);
        let (text, signatures) = note.split_once("\n\n").unwrap();
        assert_eq!(text, "example/log\n5\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\ngeneration 9");
        let blob =
            BASE64.decode(signatures.strip_prefix("\u{2014} example/log ").unwrap().trim_end().as_bytes()).unwrap();
        assert_eq!((&blob[..4], &blob[4..]), (&public.key_id("example/log")[..], &signed.signature[..]));
        let read = Note::parse(&note).unwrap();
        assert!(read.checkpoint == signed.checkpoint && read.is_by(&public) && !read.is_by(&other));
        let cosigned = format!("{note}\u{2014} somebody else AAAAAAAA\n");
        assert!(Note::parse(&cosigned).unwrap().is_by(&public));
        for wrong in [note.replace("\n5\n", "\n05\n"), note.replace("example", "exam ple"), note.replace("\n\n", "\n")]
        {
            assert!(Note::parse(&wrong).is_none_or(|note| !note.is_by(&public)), "{wrong}");
        }
    }

    #[test]
    fn a_checkpoint_is_by_a_key_of_two_halves_only_with_both_signatures() {
        let (whole, key) = signed(7, 5);
        let (larger, _) = signed(7, 6);
        let (strange, stranger) = signed(8, 5);
        let without = SignedCheckpoint { ml_dsa_44: None, ..whole.clone() };
        let with = |ml_dsa_44: &Option<Timestamped>| SignedCheckpoint { ml_dsa_44: ml_dsa_44.clone(), ..whole.clone() };
        let flipped = |at: usize| {
            let mut bytes = whole.ml_dsa_44.clone().unwrap().0;
            bytes[at] ^= 1;
            with(&Some(Timestamped(bytes)))
        };
        let rows = [
            ("both", whole.clone(), true),
            ("the second taken away", without.clone(), false),
            ("that of another checkpoint", with(&larger.ml_dsa_44), false),
            ("that by another key", with(&strange.ml_dsa_44), false),
            ("another time", flipped(7), false),
            ("a bit of it", flipped(8), false),
            ("its last bit", flipped(TIMESTAMPED_LEN - 1), false),
            ("the first by another key", SignedCheckpoint { signature: strange.signature, ..whole.clone() }, false),
        ];
        for (what, signed, verifies) in rows {
            assert_eq!(signed.is_by(&key), verifies, "{what}");
            let note = Note::parse(&signed.note(&key)).unwrap();
            assert_eq!(note.is_by(&key), verifies, "{what}, as a note");
        }
        assert!(without.is_by(&alone(&key)) && !whole.is_by(&alone(&key)) && !whole.is_by(&stranger));
        // Who knows the first key only takes the note, as the note's own rules have it.
        assert!(Note::parse(&whole.note(&key)).unwrap().is_by(&alone(&key)));
        let record = |signed: &SignedCheckpoint| {
            let facts = signed.entry().detail.into_iter().map(|(name, fact)| (name.to_owned(), fact));
            let line = crate::audit::tests::line_of(&signed.entry());
            let mut record = Record::parse(&line).unwrap();
            record.generation = 9;
            assert_eq!(record.detail, facts.collect());
            record
        };
        for signed in [&whole, &without] {
            assert_eq!(SignedCheckpoint::of(&record(signed)).unwrap().as_ref(), Ok(signed));
        }
        for wrong in ["", "00", &"g0".repeat(TIMESTAMPED_LEN), &"ff".repeat(TIMESTAMPED_LEN)] {
            let mut record = record(&whole);
            record.detail.insert(ML_DSA_44_SIGNATURE.to_owned(), Fact::name(wrong));
            assert!(SignedCheckpoint::of(&record).unwrap().is_err(), "{wrong:.20}");
        }
    }

    /// The note was made by another implementation from the page of C2SP: see `testdata/README.md`.
    #[test]
    fn a_note_that_another_implementation_signed_verifies() {
        let note = include_str!("../../testdata/checkpoint_ml_dsa_44.note");
        let read = Note::parse(note).unwrap();
        let (first, second, key) = keys(0x17);
        assert!(read.is_by(&key));
        assert!(!read.is_by(&keys(0x18).2));
        let (checkpoint, time) = (read.checkpoint.clone(), read.ml_dsa_44[0].1.timestamp());
        let signature = first.sign(checkpoint.text().as_bytes()).unwrap().try_into().unwrap();
        let message = checkpoint.message(time).unwrap();
        let known = "737562747265652f76310a000b6578616d706c652f6c6f67000000006b0230800b6578616d706c652f6c6f67000000000000000000\
                     00000000011170000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        assert_eq!(HEXLOWER.encode(&message), known);
        let second = second.sign(&message, b"", ml_dsa::Hedge::Deterministic).unwrap();
        let signed = SignedCheckpoint { checkpoint, signature, ml_dsa_44: Timestamped::new(time, &second) };
        // All but the second signature, which has a random part.
        let most = |note: &str| note.lines().map(|line| line.chars().take(100).collect::<String>()).collect::<Vec<_>>();
        let ours = signed.note(&key);
        assert_eq!(most(&ours)[..6], most(note)[..6]);
        let id = |note: &str| note.lines().last().map(|line| line.chars().take(30).collect::<String>());
        assert_eq!(id(&ours), id(note), "name, key id and time");
    }
}
