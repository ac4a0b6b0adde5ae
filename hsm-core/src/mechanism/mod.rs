//! Mechanisms: the table, its parameters, and who may use which key with them.

pub(crate) mod admit;
pub(crate) mod approved;
#[cfg(test)]
mod document;
pub(crate) mod kdf;
pub(crate) mod kdf_params;
pub(crate) mod params;
pub(crate) mod period;
pub(crate) mod purpose;
pub(crate) mod row;
pub(crate) mod secret_target;
pub(crate) mod table;

use ck::Mechanism;
use ck::flags::mechanism::{CKF_MESSAGE_SIGN, CKF_SIGN, CKF_UNWRAP, CKF_WRAP};
use ck::object::CKK_RSA;

pub use kdf_params::{
    HkdfParams, KbkdfCounter, KbkdfField, KbkdfParams, Password, Pbkdf2Params, TlsKdfParams, TlsKeysParams,
    TlsMacParams, TlsMasterParams, TlsMasterSeed, TlsRandoms,
};
pub use params::{MechanismCall, Parameter};
pub use row::OutputRule;

use crate::config::{AlgorithmsConfig, PolicyConfig};
use crate::error::{Error, Kind, Result};
use row::{Class, Row, Scheme};
use table::TABLE;

/// The shortest RSA key in bits that the switches for old keys admit.
pub(crate) const WEAK_RSA_BITS: u64 = 1024;

/// The switch for MD5 and triple DES.
pub(crate) const LEGACY_SWITCH: &str = "algorithms.allow_legacy";

/// A row of the mechanism table as a client sees it.
#[derive(Clone, Debug)]
pub struct MechanismView {
    /// CKM number.
    pub number: u64,
    /// Smallest key, in the unit of the standard for the mechanism.
    pub min: u64,
    /// Largest key.
    pub max: u64,
    /// CKF_* flags.
    pub flags: u64,
    /// How long the output is.
    pub output: OutputRule,
    /// CKK numbers of the keys that the mechanism takes or makes.
    pub key_types: Vec<u64>,
    /// Whether Update and Final are offered.
    pub multi_part: bool,
}

/// A switch that decides whether rows of a class are offered at all.
struct Door {
    class: Class,
    switch: &'static str,
    is_open: fn(&AlgorithmsConfig, &PolicyConfig) -> bool,
}

/// The classes that are not always offered.
const DOORS: [Door; 5] = [
    Door { class: Class::Legacy, switch: LEGACY_SWITCH, is_open: |algorithms, _| algorithms.allow_legacy },
    Door { class: Class::PostQuantum, switch: "algorithms.enable_pqc", is_open: |algorithms, _| algorithms.enable_pqc },
    Door { class: Class::RawRsa, switch: "policy.raw_rsa", is_open: |_, policy| policy.raw_rsa },
    Door { class: Class::PasswordKey, switch: "policy.cbc_unwrap", is_open: |_, policy| policy.cbc_unwrap },
    Door { class: Class::LegacyDerive, switch: "policy.legacy_derive", is_open: |_, policy| policy.legacy_derive },
];

/// A switch that decides whether a row serves some of its functions.
struct Gate {
    applies: fn(&Row) -> bool,
    /// The functions that need the switch, CKF_*.
    flags: u64,
    switch: &'static str,
    is_open: fn(&AlgorithmsConfig, &PolicyConfig) -> bool,
}

/// The functions that are not always offered: they forge, or they open what others sealed without noticing a change.
const GATES: [Gate; 3] = [
    Gate {
        applies: |row| row.class == Class::VerifyOnly,
        flags: CKF_SIGN | CKF_MESSAGE_SIGN,
        switch: "algorithms.allow_sha1_signing",
        is_open: |algorithms, _| algorithms.allow_sha1_signing,
    },
    Gate {
        applies: |row| matches!(row.scheme, Scheme::AesCbc { .. }),
        flags: CKF_WRAP | CKF_UNWRAP,
        switch: "policy.cbc_unwrap",
        is_open: |_, policy| policy.cbc_unwrap,
    },
    Gate {
        applies: |row| row.scheme == Scheme::RsaPkcs1(None),
        flags: CKF_WRAP | CKF_UNWRAP,
        switch: "policy.rsa_v15_unwrap",
        is_open: |_, policy| policy.rsa_v15_unwrap,
    },
];

/// Whether signing by this mechanism takes a good part of a second: no thread that serves others should wait for it.
pub fn signs_slowly(number: u64) -> bool {
    let slow = |scheme| matches!(scheme, Scheme::SlhDsa | Scheme::HashSlhDsa(_));
    TABLE.iter().any(|row| row.number.0 == number && slow(row.scheme))
}

/// The rows that this configuration offers, looked up by number.
pub(crate) struct Mechanisms {
    rows: Vec<&'static Row>,
    /// Doors and gates that are shut.
    shut_doors: Vec<&'static Door>,
    shut_gates: Vec<&'static Gate>,
    allow_weak_rsa: bool,
    approved_only: bool,
}

impl Mechanisms {
    /// The rows that are on.
    pub(crate) fn new(algorithms: &AlgorithmsConfig, policy: &PolicyConfig) -> Self {
        let shut_doors: Vec<&'static Door> = DOORS.iter().filter(|door| !(door.is_open)(algorithms, policy)).collect();
        let shut_gates = GATES.iter().filter(|gate| !(gate.is_open)(algorithms, policy)).collect();
        let approved_only = algorithms.fips_approved_only;
        let offered = |row: &&Row| {
            let approved = !approved_only || approved::limits(row.number).is_some();
            approved && !shut_doors.iter().any(|door| door.class == row.class)
        };
        let mut rows: Vec<&'static Row> = TABLE.iter().filter(offered).collect();
        rows.sort_unstable_by_key(|row| row.number);
        let allow_weak_rsa = algorithms.allow_weak_rsa || policy.allow_legacy_rsa;
        Mechanisms { rows, shut_doors, shut_gates, allow_weak_rsa, approved_only }
    }

    /// What a row may be used for here, CKF_*: policy can take functions away.
    pub(crate) fn flags(&self, row: &Row) -> u64 {
        let shut = self.shut_gates.iter().filter(|gate| (gate.applies)(row));
        shut.fold(row.flags & self.approved(row).0, |flags, gate| flags & !gate.flags)
    }

    /// The functions and the smallest key that the approved operation leaves of a row.
    fn approved(&self, row: &Row) -> (u64, u64) {
        match self.approved_only {
            true => approved::limits(row.number).unwrap_or((0, u64::MAX)),
            false => (u64::MAX, 0),
        }
    }

    /// Whether only approved mechanisms and keys are used.
    pub(crate) fn are_approved_only(&self) -> bool {
        self.approved_only
    }

    /// The switch that would open a function of a row.
    pub(crate) fn switch_for(&self, row: &Row, flag: u64) -> Option<&'static str> {
        if row.flags & flag != 0 && self.approved(row).0 & flag == 0 {
            return Some(approved::SWITCH);
        }
        let shut = self.shut_gates.iter().find(|gate| (gate.applies)(row) && gate.flags & flag & row.flags != 0);
        shut.map(|gate| gate.switch)
    }

    /// The smallest and largest key of a row here: policy can admit shorter RSA keys.
    pub(crate) fn sizes(&self, row: &Row) -> (u64, u64) {
        let (min, max) = row.sizes;
        let min = if self.allow_weak_rsa && row.key_types == [CKK_RSA] { min.min(WEAK_RSA_BITS) } else { min };
        (min.max(self.approved(row).1), max)
    }

    /// The row of a mechanism.
    ///
    /// # Errors
    /// [`Kind::MechanismInvalid`] when there is none.
    pub(crate) fn row(&self, number: Mechanism) -> Result<&'static Row> {
        let at = self.rows.binary_search_by_key(&number, |row| row.number);
        at.map(|at| self.rows[at]).map_err(|_| self.not_offered(number))
    }

    fn not_offered(&self, number: Mechanism) -> Error {
        let what = format!("{number} is not offered");
        let row = TABLE.iter().find(|row| row.number == number);
        match row.and_then(|row| self.shut_doors.iter().find(|door| door.class == row.class)) {
            Some(door) => Error::closed(Kind::MechanismInvalid, door.switch, what),
            None if row.is_some() => Error::closed(Kind::MechanismInvalid, approved::SWITCH, what),
            None => Error::new(Kind::MechanismInvalid, what),
        }
    }

    /// The numbers of the rows, ascending.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = Mechanism> {
        self.rows.iter().map(|row| row.number)
    }

    /// Every row, for clients.
    pub(crate) fn views(&self) -> Vec<MechanismView> {
        self.rows
            .iter()
            .map(|row| (row, self.sizes(row)))
            .map(|(row, (min, max))| MechanismView {
                number: row.number.0,
                min,
                max,
                flags: self.flags(row),
                output: row.output,
                key_types: row.key_types.iter().map(|kind| kind.0).collect(),
                multi_part: row.multi_part,
            })
            .collect()
    }
}
