//! What a store that came from a backup must not say again: numbers of lists that may have been published since, credentials that may
//! have been used, grants that may have been taken.

use super::{APPROVALS, AUTHORITIES, CREDENTIALS, CRLS, LEAST_CRL_NUMBER, META, RESTORED, decode, entries, put, save};
use crate::store::StoreError;
use crate::store::record::{Approval, ApprovalState, Authority, Credential, Crl, Restoration};
use redb::WriteTransaction;
use std::collections::BTreeSet;

/// Marks the store, and takes back what may be spent.
///
/// # Errors
/// When a record does not decode or the file fails.
pub(super) fn restored(
    transaction: &WriteTransaction,
    restoration: &Restoration,
    least_crl_number: u64,
) -> Result<(), StoreError> {
    let mut with_key = BTreeSet::new();
    for (key, value) in entries(transaction, AUTHORITIES)? {
        let authority: Authority = decode(AUTHORITIES, &value)?;
        if !authority.key_role.is_empty() {
            with_key.insert(key);
        }
    }
    for (key, value) in entries(transaction, CRLS)? {
        let mut crl: Crl = decode(CRLS, &value)?;
        // The numbers of an authority whose key is elsewhere are given there.
        if !with_key.contains(crl.list().authority.as_bytes()) {
            continue;
        }
        if !crl.list().is_delta {
            crl.last_number = crl.last_number.saturating_add(1).max(least_crl_number);
        }
        // Due at once: what is published lacks nothing that is known by then.
        crl.next_update = 0;
        save(transaction, CRLS, &key, &crl)?;
    }
    for (key, value) in entries(transaction, CREDENTIALS)? {
        let mut credential: Credential = decode(CREDENTIALS, &value)?;
        if credential.used_at == 0 && credential.expires_at > restoration.restored_at {
            credential.expires_at = restoration.restored_at;
            save(transaction, CREDENTIALS, &key, &credential)?;
        }
    }
    for (key, value) in entries(transaction, APPROVALS)? {
        let mut approval: Approval = decode(APPROVALS, &value)?;
        if approval.state() == ApprovalState::Granted {
            approval.set_state(ApprovalState::Waiting);
            approval.decided_at = 0;
            save(transaction, APPROVALS, &key, &approval)?;
        }
    }
    put(transaction, META, LEAST_CRL_NUMBER, &least_crl_number.to_be_bytes())?;
    save(transaction, META, RESTORED, restoration)
}
