//! The journal inside the store: each change writes its records in its own transaction, as leaves of a Merkle tree, so that nothing is
//! changed without a record and no record is of a change that was not made.

use super::super::merkle::{self, Hash, Nodes};
use super::{JOURNAL_SIZE, LEAVES, LEAVES_OF, META, SUBTREES, backend, joined, number, put, raw};
use crate::clock;
use crate::store::{Change, StoreError};
use redb::WriteTransaction;
use serde_json::{Map, Value};

/// Where the root of a perfect subtree is.
pub(super) fn subtree_key(level: u8, index: u64) -> Vec<u8> {
    [&[level][..], &index.to_be_bytes()].concat()
}

struct Written<'a>(&'a WriteTransaction);

impl Nodes for Written<'_> {
    fn subtree(&self, level: u8, index: u64) -> Result<Hash, StoreError> {
        let found = raw(self.0, SUBTREES, &subtree_key(level, index))?;
        let missing = || StoreError::Damaged("the journal's tree lacks a subtree".to_owned());
        found.and_then(|hash| hash.try_into().ok()).ok_or_else(missing)
    }
}

/// Writes the records of a change.
///
/// # Errors
/// When the file fails.
pub(super) fn record(transaction: &WriteTransaction, change: &Change) -> Result<(), StoreError> {
    for facts in change.facts() {
        append(transaction, change.name(), facts)?;
    }
    Ok(())
}

/// Writes one record. Its members are sorted by name, so that a record has one encoding.
///
/// # Errors
/// When the file fails.
pub(super) fn append(
    transaction: &WriteTransaction,
    event: &str,
    mut facts: Map<String, Value>,
) -> Result<(), StoreError> {
    let index = number(transaction, JOURNAL_SIZE)?;
    let subject = facts.get("serial").and_then(Value::as_str).map(str::to_owned);
    facts.insert("index".to_owned(), index.into());
    facts.insert("at".to_owned(), clock::now().into());
    facts.insert("event".to_owned(), event.into());
    let line = serde_json::to_vec(&facts).map_err(backend)?;
    put(transaction, LEAVES, &index.to_be_bytes(), &line)?;
    for (level, at, hash) in merkle::grown(&Written(transaction), index, merkle::leaf(&line))? {
        put(transaction, SUBTREES, &subtree_key(level, at), &hash)?;
    }
    if let Some(serial) = subject {
        put(transaction, LEAVES_OF, &joined(&serial, &index.to_be_bytes()), &index.to_be_bytes())?;
    }
    put(transaction, META, JOURNAL_SIZE, &index.saturating_add(1).to_be_bytes())
}
