//! Checkpoints: size and root of the tree, signed. The text and the signature are a note in the form of transparency logs (C2SP
//! `signed-note` and `tlog-checkpoint`), so that their witnesses and tools can read it.

use crate::store::merkle::Hash;
use crate::x509::algorithm::{KeyKind, KeySpec, judge_key};
use crate::x509::{sha256, verify};
use data_encoding::BASE64;
use der::Encode;
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

/// What begins a signature line: an em dash and a space.
const DASH: &str = "\u{2014} ";

/// A tree at a size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// Which journal: a name without white space and without `+`.
    pub(crate) origin: String,
    /// How many leaves.
    pub(crate) size: u64,
    /// The root over them.
    pub(crate) root: Hash,
}

impl Checkpoint {
    /// The text that is signed.
    pub(crate) fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(&self.root))
    }

    /// The whole note.
    ///
    /// # Errors
    /// A key that does not encode.
    pub(crate) fn note(&self, key: &SubjectPublicKeyInfoOwned, signature: &[u8]) -> der::Result<String> {
        let signed = [&key_id(&self.origin, key)?[..], signature].concat();
        Ok(format!("{}\n{DASH}{} {}\n", self.text(), self.origin, BASE64.encode(&signed)))
    }

    /// Reads a note whose signature by `key` is good.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn open(note: &str, key: &SubjectPublicKeyInfoOwned) -> Result<Self, &'static str> {
        const MALFORMED: &str = "the checkpoint is not a signed note";
        let (text, signatures) = note.split_once("\n\n").ok_or(MALFORMED)?;
        let text = format!("{text}\n");
        let mut lines = text.lines();
        let (origin, size, root) = (lines.next(), lines.next(), lines.next());
        let checkpoint = Self {
            origin: origin.ok_or(MALFORMED)?.to_owned(),
            size: size.and_then(|size| size.parse().ok()).ok_or(MALFORMED)?,
            root: root
                .and_then(|root| BASE64.decode(root.as_bytes()).ok())
                .and_then(|root| root.try_into().ok())
                .ok_or(MALFORMED)?,
        };
        let id = key_id(&checkpoint.origin, key).map_err(|_| MALFORMED)?;
        let signature = signatures.lines().find_map(|line| {
            let encoded = line.strip_prefix(DASH)?.strip_prefix(&checkpoint.origin)?.strip_prefix(' ')?;
            BASE64.decode(encoded.as_bytes()).ok()?.strip_prefix(&id[..]).map(<[u8]>::to_vec)
        });
        let signature = signature.ok_or("the checkpoint is not signed by this key")?;
        let algorithm = algorithm(key).ok_or("the key is of a kind that signs no checkpoints")?;
        verify::verify(key, &algorithm, text.as_bytes(), &signature)
            .map_err(|_| "the checkpoint's signature is false")?;
        Ok(checkpoint)
    }
}

/// How a key signs checkpoints.
pub(crate) fn algorithm(key: &SubjectPublicKeyInfoOwned) -> Option<AlgorithmIdentifierOwned> {
    let spec = match judge_key(key).ok()? {
        KeyKind::EcP256 => KeySpec::EcP256,
        KeyKind::EcP384 => KeySpec::EcP384,
        KeyKind::Rsa => KeySpec::Rsa { modulus_bits: 2048 },
        KeyKind::MlDsa(65) => KeySpec::MlDsa65,
        _ => return None,
    };
    Some(spec.signature_algorithm())
}

/// The id of a key in a note. Ed25519 has one of its own; the others are named by the hash of their SubjectPublicKeyInfo, as C2SP
/// does for ECDSA.
fn key_id(name: &str, key: &SubjectPublicKeyInfoOwned) -> der::Result<[u8; 4]> {
    let hash = match judge_key(key) {
        Ok(KeyKind::Ed25519) => sha256(&[name.as_bytes(), b"\n\x01", key.subject_public_key.raw_bytes()].concat()),
        _ => sha256(&key.to_der()?),
    };
    Ok([hash[0], hash[1], hash[2], hash[3]])
}
