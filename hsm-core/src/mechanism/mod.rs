//! Mechanisms: the table, its parameters, and who may use which key with them.

pub(crate) mod admit;
pub(crate) mod params;
pub(crate) mod table;

use ck::Mechanism;
use ck::flags::mechanism::CKF_SIGN;

pub use params::{MechanismCall, Parameter};
pub use table::OutputRule;

use crate::config::{AlgorithmsConfig, PolicyConfig};
use crate::error::{Error, Kind, Result};
use table::{Class, Row, TABLE};

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

/// The rows that this configuration offers, looked up by number.
pub(crate) struct Mechanisms {
    rows: Vec<&'static Row>,
    allow_sha1_signing: bool,
}

impl Mechanisms {
    /// The rows that are on; post-quantum ones and RSA without padding by switch.
    pub(crate) fn new(algorithms: &AlgorithmsConfig, policy: &PolicyConfig) -> Self {
        let offered = |row: &&Row| match row.class {
            Class::PostQuantum => algorithms.enable_pqc,
            Class::RawRsa => policy.raw_rsa,
            Class::Approved | Class::VerifyOnly => true,
        };
        let mut rows: Vec<&'static Row> = TABLE.iter().filter(offered).collect();
        rows.sort_unstable_by_key(|row| row.number);
        Mechanisms { rows, allow_sha1_signing: algorithms.allow_sha1_signing }
    }

    /// What a row may be used for here, CKF_*: policy can take signing away.
    pub(crate) fn flags(&self, row: &Row) -> u64 {
        let verify_only = row.class == Class::VerifyOnly && !self.allow_sha1_signing;
        row.flags & if verify_only { !CKF_SIGN } else { u64::MAX }
    }

    /// The row of a mechanism.
    ///
    /// # Errors
    /// [`Kind::MechanismInvalid`] when there is none.
    pub(crate) fn row(&self, number: Mechanism) -> Result<&'static Row> {
        let at = self.rows.binary_search_by_key(&number, |row| row.number);
        at.map(|at| self.rows[at]).map_err(|_| Error::new(Kind::MechanismInvalid, format!("{number} is not offered")))
    }

    /// Every row, for clients.
    pub(crate) fn views(&self) -> Vec<MechanismView> {
        self.rows
            .iter()
            .map(|row| MechanismView {
                number: row.number.0,
                min: row.sizes.0,
                max: row.sizes.1,
                flags: self.flags(row),
                output: row.output,
                key_types: row.key_types.iter().map(|kind| kind.0).collect(),
                multi_part: row.multi_part,
            })
            .collect()
    }
}
