//! Proofs as files: what somebody outside needs to see that a record is in the journal, or that the journal of today begins with the
//! journal of a day before. [`check`] needs nothing but the file and the journal's public key.

use super::note::Checkpoint;
use crate::store::merkle::{self, Hash};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use spki::SubjectPublicKeyInfoOwned;

/// A proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Proof {
    /// A record is in the journal.
    Inclusion {
        /// Its place, from 0.
        index: u64,
        /// The record: one line without line feed.
        leaf: String,
        /// Hashes from the leaf upward, base64.
        path: Vec<String>,
        /// The signed note of the journal it is in.
        checkpoint: String,
    },
    /// The journal begins with an earlier one.
    Consistency {
        /// The signed note of the earlier one.
        earlier: String,
        /// Hashes, base64.
        path: Vec<String>,
        /// The signed note of the later one.
        checkpoint: String,
    },
}

/// Hashes as they stand in a proof.
pub(crate) fn encoded(path: &[Hash]) -> Vec<String> {
    path.iter().map(|hash| BASE64.encode(hash)).collect()
}

fn decoded(path: &[String]) -> Option<Vec<Hash>> {
    path.iter().map(|text| BASE64.decode(text.as_bytes()).ok()?.try_into().ok()).collect()
}

/// Checks a proof, and gives what it shows.
///
/// # Errors
/// A sentence.
pub(crate) fn check(proof: &Proof, key: &SubjectPublicKeyInfoOwned) -> Result<String, &'static str> {
    const MALFORMED: &str = "the proof's hashes do not decode";
    match proof {
        Proof::Inclusion { index, leaf, path, checkpoint } => {
            let tree = Checkpoint::open(checkpoint, key)?;
            let path = decoded(path).ok_or(MALFORMED)?;
            let root = merkle::root_by(&path, *index, tree.size, merkle::leaf(leaf.as_bytes()));
            if root != Some(tree.root) {
                return Err("the record is not in the journal of this checkpoint");
            }
            Ok(format!("record {index} is in the journal of {} records", tree.size))
        }
        Proof::Consistency { earlier, path, checkpoint } => {
            let before = Checkpoint::open(earlier, key)?;
            let tree = Checkpoint::open(checkpoint, key)?;
            let path = decoded(path).ok_or(MALFORMED)?;
            if before.origin != tree.origin
                || !merkle::goes_on(&path, (before.size, before.root), (tree.size, tree.root))
            {
                return Err("the later journal does not begin with the earlier one");
            }
            Ok(format!("the journal of {} records begins with the journal of {}", tree.size, before.size))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::algorithm::{ec_spki, oid};
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

    /// A journal of four records with notes of its first two and of all, signed by a key of the test.
    fn journal() -> (SubjectPublicKeyInfoOwned, Vec<&'static str>, String, String) {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).expect("key");
        let key = ec_spki(oid::P256, pair.public_key().as_ref()).expect("encodes");
        let lines = vec!["one", "two", "three", "four"];
        let hashes: Vec<Hash> = lines.iter().map(|line| merkle::leaf(line.as_bytes())).collect();
        let (left, right) = (merkle::node(&hashes[0], &hashes[1]), merkle::node(&hashes[2], &hashes[3]));
        let note = |size, root| {
            let checkpoint = Checkpoint { origin: "craton-pki/test".to_owned(), size, root };
            let signature = pair.sign(&random, checkpoint.text().as_bytes()).expect("signs");
            checkpoint.note(&key, signature.as_ref()).expect("encodes")
        };
        let (early, late) = (note(2, left), note(4, merkle::node(&left, &right)));
        (key, lines, early, late)
    }

    #[test]
    fn a_proof_shows_its_record_and_no_other() {
        let (key, lines, _, late) = journal();
        let hashes: Vec<Hash> = lines.iter().map(|line| merkle::leaf(line.as_bytes())).collect();
        let path = encoded(&[hashes[3], merkle::node(&hashes[0], &hashes[1])]);
        let proof =
            Proof::Inclusion { index: 2, leaf: "three".to_owned(), path: path.clone(), checkpoint: late.clone() };
        assert!(check(&proof, &key).is_ok());
        let other =
            Proof::Inclusion { index: 2, leaf: "four".to_owned(), path: path.clone(), checkpoint: late.clone() };
        assert!(check(&other, &key).is_err());
        let elsewhere =
            Proof::Inclusion { index: 1, leaf: "three".to_owned(), path: path.clone(), checkpoint: late.clone() };
        assert!(check(&elsewhere, &key).is_err());
        let (another_key, ..) = journal();
        assert_eq!(check(&proof, &another_key), Err("the checkpoint is not signed by this key"));
        let larger = late.replacen("\n4\n", "\n5\n", 1);
        let altered = Proof::Inclusion { index: 2, leaf: "three".to_owned(), path, checkpoint: larger };
        assert_eq!(check(&altered, &key), Err("the checkpoint's signature is false"));
    }

    #[test]
    fn a_later_journal_is_shown_to_go_on_from_an_earlier_one() {
        let (key, lines, early, late) = journal();
        let hashes: Vec<Hash> = lines.iter().map(|line| merkle::leaf(line.as_bytes())).collect();
        let path = encoded(&[merkle::node(&hashes[2], &hashes[3])]);
        let proof = Proof::Consistency { earlier: early.clone(), path: path.clone(), checkpoint: late.clone() };
        assert!(check(&proof, &key).is_ok());
        let backwards = Proof::Consistency { earlier: late, path: path.clone(), checkpoint: early.clone() };
        assert!(check(&backwards, &key).is_err());
        let nothing = Proof::Consistency { earlier: early.clone(), path: Vec::new(), checkpoint: early };
        assert!(check(&nothing, &key).is_ok(), "a journal goes on from itself");
    }
}
