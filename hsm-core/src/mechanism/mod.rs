//! Mechanisms: the table, its parameters, and who may use which key with them.

pub(crate) mod admit;
pub(crate) mod params;
pub(crate) mod table;

use ck::Mechanism;

pub use params::{MechanismCall, Parameter};
pub use table::OutputRule;

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
}

impl Mechanisms {
    /// The rows that are on; post-quantum ones by switch.
    pub(crate) fn new(enable_pqc: bool) -> Self {
        let mut rows: Vec<&'static Row> =
            TABLE.iter().filter(|row| enable_pqc || row.class != Class::PostQuantum).collect();
        rows.sort_unstable_by_key(|row| row.number);
        Mechanisms { rows }
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
                flags: row.flags,
                output: row.output,
                key_types: row.key_types.iter().map(|kind| kind.0).collect(),
                multi_part: row.multi_part,
            })
            .collect()
    }
}
