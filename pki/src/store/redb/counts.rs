//! The counters that the store keeps: records by kind and state, signatures of authorities.

use super::{COUNTS, put, raw};
use crate::store::StoreError;
use crate::store::query::count_name;
use redb::WriteTransaction;

/// Changes numbers of an authority's account of signatures (`ca/reconcile.rs`).
pub(super) fn account(
    transaction: &WriteTransaction,
    authority: &str,
    steps: &[(&str, i64)],
) -> Result<(), StoreError> {
    for (number, step) in steps.iter().filter(|(_, step)| *step != 0) {
        let name = count_name(authority, number);
        let value = counted(transaction, &name)?.saturating_add_signed(*step);
        put(transaction, COUNTS, name.as_bytes(), &value.to_be_bytes())?;
    }
    Ok(())
}

/// Moves one from a count to another.
pub(super) fn count(transaction: &WriteTransaction, from: Option<String>, to: String) -> Result<(), StoreError> {
    if from.as_ref() == Some(&to) {
        return Ok(());
    }
    if let Some(from) = from {
        put(transaction, COUNTS, from.as_bytes(), &counted(transaction, &from)?.saturating_sub(1).to_be_bytes())?;
    }
    put(transaction, COUNTS, to.as_bytes(), &counted(transaction, &to)?.saturating_add(1).to_be_bytes())
}

fn counted(transaction: &WriteTransaction, name: &str) -> Result<u64, StoreError> {
    let bytes = raw(transaction, COUNTS, name.as_bytes())?.and_then(|bytes| bytes.try_into().ok());
    Ok(bytes.map_or(0, u64::from_be_bytes))
}
