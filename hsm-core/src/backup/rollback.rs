//! An older store that its security officer takes for the store from now on, with the journal told before and after.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::journal::{self, ACCEPTED, restores_told};
use crate::audit::{Category, Client, Durability, Entry, Fact};
use crate::config::Config;
use crate::store::{Acceptance, OpenError, RestoreFloor};
use crate::{Clock, Error, Kind, Result, SecretBytes};

/// Which store, by whom, and why.
pub struct AcceptRollback<'a> {
    /// Names the store's and the journal's place.
    pub config: &'a Config,
    /// The slot of the token whose SO PIN it is; needless if there is one token.
    pub slot: Option<u64>,
    /// The SO PIN.
    pub so_pin: &'a SecretBytes,
    /// For the journal.
    pub reason: &'a str,
    /// User id of the operator's process, for the journal.
    pub uid: u32,
    /// For the journal.
    pub clock: Arc<dyn Clock>,
}

/// What was accepted.
#[derive(Clone, Debug, Serialize)]
pub struct AcceptedRollback {
    /// The store.
    pub store_path: PathBuf,
    /// The newest generation that the journal remembers.
    pub journal_generation: u64,
    /// The generation that the store was at.
    pub found: u64,
    /// The generation that it is at now: above everything in the journal.
    pub generation: u64,
    /// The journal that tells of it.
    pub journal: PathBuf,
}

const BEGIN: &str = "rollback_begin";

/// Takes a store that is older than its journal for the store from now on. The daemon must not run. The journal itself must be whole: one
/// that lacks what its anchor names is refused as ever.
///
/// # Errors
///
/// [`Kind::ArgumentsBad`] if the store is not older than its journal, or the slot must be named; as C_Login for a wrong SO PIN;
/// [`Kind::Device`] if store or journal cannot be used.
pub fn accept_rollback(request: &AcceptRollback<'_>) -> Result<AcceptedRollback> {
    let journal = journal::open(request.config, Arc::clone(&request.clock))?;
    let remembered = journal.last_generation();
    let entry = |op: &'static str| {
        Entry::new(Category::Journal, op, Client::Operator { uid: request.uid })
            .with_fact("journal_generation", Fact::number(remembered))
            .with_fact("reason", Fact::name(request.reason))
    };
    journal.append(entry(BEGIN), remembered, Durability::Durable).map(drop)?;
    let path = &request.config.audit.log_path;
    let acceptance = Acceptance {
        config: &request.config.store,
        pins: &request.config.pin,
        slot: request.slot,
        so_pin: request.so_pin,
        client: &format!("operator:{}", request.uid),
        floor: RestoreFloor { generation: remembered, attempts: Vec::new(), restores: restores_told(path) },
    };
    match crate::store::accept_rollback(&acceptance, Arc::clone(&request.clock)) {
        Ok(accepted) => {
            let told = entry(ACCEPTED).with_fact("store_generation", Fact::number(accepted.before));
            journal.append(told, accepted.after, Durability::Durable).map(drop)?;
            Ok(AcceptedRollback {
                store_path: request.config.store.path.clone(),
                journal_generation: remembered,
                found: accepted.before,
                generation: accepted.after,
                journal: path.clone(),
            })
        }
        Err(error) => {
            let error = match error {
                OpenError::Start(error) => error,
                other => Error::new(Kind::Device, format!("nothing was accepted: {other}")),
            };
            let mut told = entry(ACCEPTED);
            told.rv = error.kind().rv();
            journal.append(told, remembered, Durability::Durable).map(drop)?;
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SO_PIN, USER_PIN, archive, config, journal, pins, restore_to, secret};
    use super::*;
    use crate::SystemClock;
    use crate::store::{Role, Vault};

    fn accept(config: &Config, pin: &[u8]) -> Result<AcceptedRollback> {
        let (so_pin, clock) = (secret(pin), Arc::new(SystemClock));
        let request = AcceptRollback { config, slot: None, so_pin: &so_pin, reason: "the disk died", uid: 7, clock };
        accept_rollback(&request)
    }

    fn open(config: &Config) -> Result<Vault<crate::audit::Journal>, OpenError> {
        Vault::open(&config.store, &pins(), journal(&config.audit.log_path), Arc::new(SystemClock))
    }

    /// The generations of store and journal, when the one is older than the other.
    fn rolled_back(config: &Config) -> (u64, u64) {
        match open(config) {
            Err(OpenError::RolledBack { store, journal }) => (store, journal),
            other => panic!("{:?}", other.err()),
        }
    }

    #[test]
    fn an_older_store_is_taken_by_the_so_with_a_reason_and_repeats_no_handle() {
        let folder = tempfile::tempdir().unwrap();
        let input = archive(folder.path(), &[32, 64]);
        let place = config(&folder.path().join("host"));
        restore_to(&folder.path().join("host"), &input, SO_PIN).unwrap();
        let file = place.store.path.join("vault.redb");
        let yesterday = std::fs::read(&file).unwrap();
        assert!(accept(&place, SO_PIN).unwrap_err().detail().unwrap().contains("nothing to accept"));
        let vault = open(&place).unwrap();
        let token = vault.token_in_slot(0).unwrap().id;
        let given = vault.reserve_handles(1000).unwrap();
        let so = vault.unlock(token, Role::So, &secret(SO_PIN), "test").unwrap();
        let _receipt = vault.init_user_pin(&so, &secret(b"of today"), &super::super::tests::body()).unwrap();
        drop((so, vault));
        std::fs::write(&file, yesterday).unwrap();
        let found = rolled_back(&place);
        assert_eq!(accept(&place, b"not the pin").unwrap_err().kind(), Kind::PinIncorrect);
        assert_eq!(rolled_back(&place), found, "a wrong PIN changes nothing");
        let accepted = accept(&place, SO_PIN).unwrap();
        assert!(accepted.found < accepted.journal_generation && accepted.journal_generation < accepted.generation);
        let vault = open(&place).unwrap();
        assert_eq!(vault.generation(), accepted.generation);
        let tmk = vault.unlock(token, Role::User, &secret(USER_PIN), "test").unwrap();
        assert_eq!(vault.load_objects(token, Some(&tmk)).unwrap().len(), 2);
        let after = vault.reserve_handles(1).unwrap();
        assert!(after.start > given.end, "handles that were given out since are not given out again");
        let told = std::fs::read_to_string(&place.audit.log_path).unwrap();
        let of = |op: &str| told.lines().filter(|line| line.contains(op) && line.contains("the disk died")).count();
        assert_eq!((of("\"rollback_begin\""), of("\"rollback_accepted\"")), (3, 3));
        drop(vault);
        // The archive, restored into an empty place beside the same journal, does not make those handles again either.
        std::fs::remove_dir_all(&place.store.path).unwrap();
        restore_to(&folder.path().join("host"), &input, SO_PIN).unwrap();
        assert!(open(&place).unwrap().reserve_handles(1).unwrap().start > after.end);
    }
}
