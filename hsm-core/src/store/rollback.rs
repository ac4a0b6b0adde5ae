//! A store that is older than its journal, taken for the store from now on because its security officer says so (`format.md` section 8).

use super::backup::{RestoreFloor, moved_on};
use super::create::{self, Fresh, Opened};
use super::layout::{Role, Table};
use super::ledger::Ledger;
use super::manifest::LedgerHead;
use super::memory::MemoryStore;
use super::vault::Vault;
use super::{Batch, OpenError, Store, verify};
use crate::clock::Clock;
use crate::config::{PinConfig, StoreConfig};
use crate::error::{Error, Kind, Result};
use crate::secret::SecretBytes;
use std::sync::Arc;

/// Who accepts it, and what must not go back.
pub(crate) struct Acceptance<'a> {
    pub(crate) config: &'a StoreConfig,
    pub(crate) pins: &'a PinConfig,
    /// The slot of the token whose SO PIN this is; needless if there is one token.
    pub(crate) slot: Option<u64>,
    pub(crate) so_pin: &'a SecretBytes,
    /// Who it is, for a login.
    pub(crate) client: &'a str,
    pub(crate) floor: RestoreFloor,
}

/// The generations of the store before and after.
pub(crate) struct Accepted {
    pub(crate) before: u64,
    pub(crate) after: u64,
}

/// Stands in for the journal while the SO PIN is looked at: it agrees with everything and takes nothing.
struct Aside;

impl Ledger for Aside {
    type Receipt = ();

    fn append(&self, _: u64, _: &[u8]) -> Result<()> {
        Err(Error::new(Kind::Device, "nothing is changed while a rollback is accepted"))
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn contains(&self, _: u64) -> bool {
        true
    }

    fn last_generation(&self) -> Option<u64> {
        None
    }

    fn synced_head(&self) -> LedgerHead {
        LedgerHead::default()
    }

    fn contains_head(&self, _: &LedgerHead) -> bool {
        true
    }
}

/// Proves the SO PIN and makes the store one of its own that lies above everything the journal remembers: numbers jump as they do when
/// a backup is restored. A wrong PIN changes nothing: whoever could try many here has files and key of the store.
///
/// # Errors
/// What [`Vault::open`] finds; [`Kind::ArgumentsBad`] in [`OpenError::Start`] if the store is not older than `floor` or the slot is not named;
/// as [`Vault::unlock`] for a wrong PIN.
pub(crate) fn accept_rollback(request: &Acceptance<'_>, clock: Arc<dyn Clock>) -> Result<Accepted, OpenError> {
    let Acceptance { config, floor, .. } = request;
    let opened = create::open(config, Fresh::RolledBack { journal: floor.generation }, None)?;
    let path = create::file_of(config);
    let failed = |error| OpenError::store(&path, error);
    let before = opened.verified.manifest.generation;
    if before >= floor.generation {
        let why = "the store is not older than its journal: there is nothing to accept";
        return Err(Error::new(Kind::ArgumentsBad, why).into());
    }
    prove(request, &opened, clock)?;
    let Opened { store, keys, verified, lock } = opened;
    let rows = moved_on(&*store.snapshot().map_err(failed)?, &keys, verified, floor)?;
    store.commit(&rows).map_err(failed)?;
    let after = verify::verify(&*store.snapshot().map_err(failed)?, &keys, &path)?;
    drop((store, lock));
    Ok(Accepted { before, after: after.manifest.generation })
}

/// The SO PIN opens its slot, in a copy of the tables that a login reads and writes.
fn prove(request: &Acceptance<'_>, opened: &Opened, clock: Arc<dyn Clock>) -> Result<(), OpenError> {
    let path = create::file_of(request.config);
    let failed = |error| OpenError::store(&path, error);
    let tokens = opened.verified.tokens.iter().filter(|token| token.initialized);
    let wanted = tokens.filter(|token| request.slot.is_none_or(|slot| slot == token.slot));
    let wanted: Vec<_> = wanted.map(|token| token.id).collect();
    let [token] = wanted[..] else {
        let why = format!("{} tokens could be meant: name the slot of the one whose SO PIN it is", wanted.len());
        return Err(Error::new(Kind::ArgumentsBad, why).into());
    };
    let snapshot = opened.store.snapshot().map_err(failed)?;
    let mut rows = Batch::default();
    for table in [Table::Meta, Table::Token, Table::Pin, Table::Attempts, Table::Reserved] {
        let mut copy = |key: &[u8], row: &[u8]| {
            rows.put(table, key, row.to_vec());
            Ok(())
        };
        snapshot.scan(table, &[], &mut copy).map_err(failed)?;
    }
    let store = Arc::new(MemoryStore::default());
    store.commit(&rows).map_err(failed)?;
    let verified = verify::verify(&*snapshot, &opened.keys, &path)?;
    let copy = Opened { store, keys: Arc::clone(&opened.keys), verified, lock: None };
    let vault = Vault::start(copy, request.pins, Arc::new(Aside), clock)?;
    vault.let_in(token, Role::So, request.so_pin, request.client)?;
    Ok(())
}
