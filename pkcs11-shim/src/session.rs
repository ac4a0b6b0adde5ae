//! A session as the shim knows it: its number at the daemon, and the operations that are active in it.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use ck::Rv;
use ck::rv::{CKR_OPERATION_ACTIVE, CKR_OPERATION_NOT_INITIALIZED};
use hsm_proto::v1::OperationKind;

use crate::carrier::lock;
use crate::operation::Operation;

/// See the module.
pub(crate) struct Session {
    /// The handle that the application has.
    pub(crate) handle: u64,
    /// The handle that the daemon has.
    pub(crate) daemon_handle: u64,
    pub(crate) slot: u64,
    /// As C_OpenSession had them.
    pub(crate) flags: u64,
    /// The epoch of the link in which it was opened, or last resumed.
    pub(crate) epoch: AtomicU64,
    active: Mutex<Active>,
}

#[derive(Default)]
struct Active {
    /// By kind.
    operations: Vec<Operation>,
    /// What a search found and nobody has fetched yet.
    found: Option<VecDeque<u64>>,
}

impl Session {
    pub(crate) fn new(handle: u64, daemon_handle: u64, slot: u64, flags: u64, epoch: u64) -> Self {
        Session { handle, daemon_handle, slot, flags, epoch: AtomicU64::new(epoch), active: Mutex::default() }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The daemon has taken the session up again: the operations that it had of it are gone.
    pub(crate) fn resume(&self, epoch: u64) {
        lock(&self.active).operations.retain(|operation| !operation.is_opened());
        self.epoch.store(epoch, Ordering::Release);
    }

    /// Takes the active operation out: who does not put it back has ended it.
    ///
    /// # Errors
    /// `CKR_OPERATION_NOT_INITIALIZED`.
    pub(crate) fn take(&self, kind: OperationKind) -> Result<Operation, Rv> {
        let mut active = lock(&self.active);
        let index = active.operations.iter().position(|operation| operation.kind == kind);
        Ok(active.operations.swap_remove(index.ok_or(CKR_OPERATION_NOT_INITIALIZED)?))
    }

    /// Puts an operation in, new or taken out before.
    pub(crate) fn put(&self, operation: Operation) {
        let mut active = lock(&self.active);
        active.operations.retain(|other| other.kind != operation.kind);
        active.operations.push(operation);
    }

    /// Whether an operation of this kind is active.
    pub(crate) fn has(&self, kind: OperationKind) -> bool {
        lock(&self.active).operations.iter().any(|operation| operation.kind == kind)
    }

    /// Whether any operation but a search is active.
    pub(crate) fn has_any(&self) -> bool {
        !lock(&self.active).operations.is_empty()
    }

    /// Whether an operation that uses a key is active.
    pub(crate) fn has_keyed(&self) -> bool {
        let digest = OperationKind::OperationDigest;
        lock(&self.active).operations.iter().any(|operation| operation.kind != digest)
    }

    /// Forgets every operation: the daemon has.
    pub(crate) fn end_operations(&self) {
        lock(&self.active).operations.clear();
    }

    /// Forgets every operation and search: the daemon has, at a logout.
    pub(crate) fn clear(&self) {
        *lock(&self.active) = Active::default();
    }

    /// Begins to hand out what a search found.
    ///
    /// # Errors
    /// `CKR_OPERATION_ACTIVE`.
    pub(crate) fn begin_search(&self, found: Vec<u64>) -> Result<(), Rv> {
        let mut active = lock(&self.active);
        if active.found.is_some() {
            return Err(CKR_OPERATION_ACTIVE);
        }
        active.found = Some(found.into());
        Ok(())
    }

    /// Whether a search is active.
    pub(crate) fn is_searching(&self) -> bool {
        lock(&self.active).found.is_some()
    }

    /// The next handles that were found.
    ///
    /// # Errors
    /// `CKR_OPERATION_NOT_INITIALIZED`.
    pub(crate) fn next_found(&self, most: usize) -> Result<Vec<u64>, Rv> {
        let mut active = lock(&self.active);
        let found = active.found.as_mut().ok_or(CKR_OPERATION_NOT_INITIALIZED)?;
        let count = most.min(found.len());
        Ok(found.drain(..count).collect())
    }

    /// Ends the search.
    ///
    /// # Errors
    /// `CKR_OPERATION_NOT_INITIALIZED`.
    pub(crate) fn end_search(&self) -> Result<(), Rv> {
        lock(&self.active).found.take().map(drop).ok_or(CKR_OPERATION_NOT_INITIALIZED)
    }
}
