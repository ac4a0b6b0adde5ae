//! Signing checkpoints, verifying the whole journal, and making proofs.

use super::note::Checkpoint;
use super::proof::{Proof, encoded};
use crate::ca::authority::Authority;
use crate::ca::key::{self, JOURNAL};
use crate::ca::{CaError, Desk};
use crate::store::merkle::{self, Hash, Nodes};
use crate::store::query::{MAX_PAGE, Span};
use crate::store::record::{ROOT, StoredCheckpoint};
use crate::store::{Change, Query, Record, Store, StoreError};
use crate::token::KeyRef;
use crate::x509::{hex, sha256, verify};
use spki::SubjectPublicKeyInfoOwned;
use std::collections::BTreeMap;

/// The tree in a store.
pub(crate) struct Stored<'a>(pub(crate) &'a dyn Store);

impl Nodes for Stored<'_> {
    fn subtree(&self, level: u8, index: u64) -> Result<Hash, StoreError> {
        let found = self.0.find(Query::Subtree { level, index })?.one(Record::hash);
        found.ok_or_else(|| StoreError::Damaged("the journal's tree lacks a subtree".to_owned()))
    }
}

/// How many records the journal has.
///
/// # Errors
/// When the store fails.
pub(crate) fn size(store: &dyn Store) -> Result<u64, StoreError> {
    Ok(store.find(Query::JournalSize)?.one(Record::count).unwrap_or(0))
}

/// The last checkpoint.
///
/// # Errors
/// When the store fails.
pub(crate) fn last_checkpoint(store: &dyn Store) -> Result<Option<StoredCheckpoint>, StoreError> {
    Ok(store.find(Query::LastCheckpoint)?.one(Record::checkpoint))
}

fn each_checkpoint(store: &dyn Store, mut take: impl FnMut(StoredCheckpoint)) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = store.find(Query::Checkpoints(Span { after, limit: MAX_PAGE }))?;
        after = page.next.clone();
        page.all(Record::checkpoint).into_iter().for_each(&mut take);
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Signs checkpoints with the journal's key.
pub(crate) struct JournalOffice {
    desk: Desk,
    key: KeyRef,
    origin: String,
    /// The public key.
    pub(crate) spki: SubjectPublicKeyInfoOwned,
}

impl JournalOffice {
    /// An office for the journal's key, which is made in the token if it is not there yet.
    ///
    /// # Errors
    /// When the token or the store fails.
    pub(crate) fn open(desk: Desk) -> Result<Self, CaError> {
        let (key, spki) = key::ensure(&desk, JOURNAL, desk.journal_key)?;
        let root = Authority::load(desk.store.as_ref(), ROOT)?;
        let origin = format!("craton-pki/{}", hex(&sha256(&root.certificate)[..8]));
        Ok(Self { desk, key, spki, origin })
    }

    /// Signs the journal as it stands. Nothing is signed when nothing but the last checkpoint itself came since.
    ///
    /// # Errors
    /// When the token or the store fails.
    pub(crate) fn checkpoint(&self, now: i64) -> Result<StoredCheckpoint, CaError> {
        let store = self.desk.store.as_ref();
        let size = size(store)?;
        if let Some(last) = last_checkpoint(store)?.filter(|last| last.size.saturating_add(1) >= size) {
            return Ok(last);
        }
        let root = merkle::root(&Stored(store), size)?;
        let checkpoint = Checkpoint { origin: self.origin.clone(), size, root };
        let text = checkpoint.text();
        let signature = self.desk.token.sign(&self.key, self.key.spec.certificate_scheme(), text.as_bytes())?;
        verify::verify(&self.spki, &self.key.spec.signature_algorithm(), text.as_bytes(), &signature)
            .map_err(|_| CaError::FalseSignature(self.key.label.clone()))?;
        let stored = StoredCheckpoint { size, note: checkpoint.note(&self.spki, &signature)?, at: now };
        store.commit(Change::Checkpointed(stored.clone()))?;
        tracing::info!(event = "journal_checkpoint", size);
        Ok(stored)
    }
}

/// What a reading of the whole journal found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// How many records.
    pub(crate) size: u64,
    /// The root over them.
    pub(crate) root: Hash,
    /// How many checkpoints were checked.
    pub(crate) checkpoints: u64,
    /// What is wrong; empty when nothing is.
    pub(crate) findings: Vec<String>,
}

/// A tree that is built leaf by leaf, from the lines alone.
#[derive(Default)]
struct Rebuilt(BTreeMap<(u8, u64), Hash>, u64);

impl Nodes for Rebuilt {
    fn subtree(&self, level: u8, index: u64) -> Result<Hash, StoreError> {
        self.0.get(&(level, index)).copied().ok_or_else(|| StoreError::Damaged("a subtree was forgotten".to_owned()))
    }
}

impl Rebuilt {
    fn push(&mut self, line: &str) -> Result<(), StoreError> {
        let grown = merkle::grown(self, self.1, merkle::leaf(line.as_bytes()))?;
        // What became part of a larger subtree is needed no longer.
        for (level, at, _) in grown.iter().take(grown.len() - 1) {
            if at % 2 == 1 {
                self.0.remove(&(*level, at - 1));
            }
        }
        if let Some((level, at, hash)) = grown.last() {
            self.0.insert((*level, *at), *hash);
        }
        self.1 += 1;
        Ok(())
    }
}

/// Reads the whole journal, rebuilds its tree, and holds the stored tree and every checkpoint against it; without the key of the
/// checkpoints, the tree only.
///
/// # Errors
/// When the store fails.
pub(crate) fn verify_all(store: &dyn Store, key: Option<&SubjectPublicKeyInfoOwned>) -> Result<Verdict, StoreError> {
    let mut findings = Vec::new();
    let mut signed = BTreeMap::new();
    each_checkpoint(store, |checkpoint| drop(signed.insert(checkpoint.size, checkpoint.note)))?;
    let size = size(store)?;
    let mut tree = Rebuilt::default();
    let mut after = None;
    loop {
        let page = store.find(Query::Leaves(Span { after, limit: MAX_PAGE }))?;
        after = page.next.clone();
        for leaf in page.all(Record::leaf) {
            if leaf.index != tree.1 {
                findings.push(format!("record {} is missing", tree.1));
                return Ok(Verdict { size, root: [0; 32], checkpoints: 0, findings });
            }
            judge_checkpoint(signed.get(&tree.1), &tree, key, &mut findings)?;
            if tree.1 < size {
                tree.push(&leaf.line)?;
            }
        }
        if after.is_none() {
            break;
        }
    }
    judge_checkpoint(signed.get(&tree.1).filter(|_| tree.1 == size), &tree, key, &mut findings)?;
    if tree.1 != size {
        findings.push(format!("the journal has {} records instead of {size}", tree.1));
    }
    let root = merkle::root(&tree, tree.1)?;
    if merkle::root(&Stored(store), size).ok() != Some(root) {
        findings.push("the stored tree is not the tree of the records".to_owned());
    }
    if let Some((beyond, _)) = signed.last_key_value().filter(|(signed_size, _)| **signed_size > size) {
        findings.push(format!("a checkpoint covers {beyond} records: the end of the journal is gone"));
    }
    let checkpoints = u64::try_from(signed.len()).unwrap_or(u64::MAX);
    Ok(Verdict { size, root, checkpoints, findings })
}

fn judge_checkpoint(
    note: Option<&String>,
    tree: &Rebuilt,
    key: Option<&SubjectPublicKeyInfoOwned>,
    findings: &mut Vec<String>,
) -> Result<(), StoreError> {
    let (Some(note), Some(key)) = (note, key) else { return Ok(()) };
    let finding = match Checkpoint::open(note, key) {
        Err(fault) => Some(fault),
        Ok(opened) if opened.size != tree.1 || opened.root != merkle::root(tree, tree.1)? => {
            Some("the records are not those that were signed")
        }
        Ok(_) => None,
    };
    findings.extend(finding.map(|fault| format!("checkpoint of {} records: {fault}", tree.1)));
    Ok(())
}

/// The checkpoint of a size.
///
/// # Errors
/// When the store fails.
pub(crate) fn checkpoint_of(store: &dyn Store, size: u64) -> Result<Option<StoredCheckpoint>, StoreError> {
    Ok(store.find(Query::Checkpoint { size })?.one(Record::checkpoint))
}

/// The proof that a record is in the journal.
///
/// # Errors
/// When the store fails. `None` when there is no such record in the checkpoint.
pub(crate) fn prove_inclusion(
    store: &dyn Store,
    index: u64,
    checkpoint: &StoredCheckpoint,
) -> Result<Option<Proof>, StoreError> {
    let Some(path) = merkle::inclusion(&Stored(store), index, checkpoint.size)? else { return Ok(None) };
    let Some(leaf) = store.find(Query::Leaf { index })?.one(Record::leaf) else { return Ok(None) };
    Ok(Some(Proof::Inclusion { index, leaf: leaf.line, path: encoded(&path), checkpoint: checkpoint.note.clone() }))
}

/// The proof that a checkpoint goes on from an earlier one. `None` when the earlier is later.
///
/// # Errors
/// When the store fails.
pub(crate) fn prove_consistency(
    store: &dyn Store,
    earlier: &StoredCheckpoint,
    later: &StoredCheckpoint,
) -> Result<Option<Proof>, StoreError> {
    let path = merkle::consistency(&Stored(store), earlier.size, later.size)?;
    Ok(path.map(|path| Proof::Consistency {
        earlier: earlier.note.clone(),
        path: encoded(&path),
        checkpoint: later.note.clone(),
    }))
}
