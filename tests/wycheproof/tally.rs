//! What became of the cases of one algorithm: counted, judged, and printed as one row of a table.

use std::collections::BTreeMap;

use cryptoki_sys::{CK_RV, CKR_DEVICE_ERROR, CKR_FUNCTION_FAILED, CKR_GENERAL_ERROR, CKR_HOST_MEMORY};
use serde_json::Value;

/// The most cases of an algorithm that may be skipped, in per cent.
const MOST_SKIPPED: usize = 2;

/// What the module did with a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Saw {
    /// It accepted the input and gave the expected output.
    Accepted,
    /// It refused.
    Refused(CK_RV),
    /// It accepted and gave something else.
    Other(String),
    /// The case was not run, and why.
    Skipped(&'static str),
    /// The case is about an encoding that no PKCS#11 call carries.
    NoSuchInput(&'static str),
}

impl Saw {
    /// Accepted if the result is a success.
    pub(crate) fn of<T>(result: Result<T, CK_RV>) -> Saw {
        result.map_or_else(Saw::Refused, |_| Saw::Accepted)
    }

    /// Accepted if it is CKR_OK.
    pub(crate) fn rv(rv: CK_RV) -> Saw {
        if rv == 0 { Saw::Accepted } else { Saw::Refused(rv) }
    }

    /// Accepted if the output is what was expected.
    pub(crate) fn output(rv: CK_RV, got: &[u8], expected: &[u8]) -> Saw {
        match rv {
            0 if got == expected => Saw::Accepted,
            0 => Saw::Other(format!("{} bytes, not the {} expected", got.len(), expected.len())),
            rv => Saw::Refused(rv),
        }
    }

    /// The first of two that is not an acceptance.
    pub(crate) fn and(self, then: impl FnOnce() -> Saw) -> Saw {
        if self == Saw::Accepted { then() } else { self }
    }
}

/// The row of one algorithm.
pub(crate) struct Tally {
    name: String,
    run: usize,
    skipped: BTreeMap<&'static str, usize>,
    no_such_input: BTreeMap<&'static str, usize>,
    /// Acceptable cases: accepted, refused.
    acceptable: (usize, usize),
    wrong: Vec<String>,
}

impl Tally {
    /// An empty row.
    pub(crate) fn new(name: impl Into<String>) -> Tally {
        Tally {
            name: name.into(),
            run: 0,
            skipped: BTreeMap::new(),
            no_such_input: BTreeMap::new(),
            acceptable: (0, 0),
            wrong: Vec::new(),
        }
    }

    /// Judges a case by its `result`.
    pub(crate) fn case(&mut self, case: &Value, saw: Saw) {
        match &saw {
            Saw::Skipped(why) => return *self.skipped.entry(why).or_default() += 1,
            Saw::NoSuchInput(why) => return *self.no_such_input.entry(why).or_default() += 1,
            _ => self.run += 1,
        }
        let failure = matches!(saw, Saw::Refused(rv) if FAILURES.contains(&rv));
        let right = match (case["result"].as_str(), &saw) {
            (Some("valid"), Saw::Accepted) => true,
            (Some("invalid"), Saw::Refused(_)) => !failure,
            (Some("acceptable"), Saw::Accepted) => {
                self.acceptable.0 += 1;
                true
            }
            (Some("acceptable"), Saw::Refused(_)) => {
                self.acceptable.1 += 1;
                !failure
            }
            _ => false,
        };
        if !right {
            let (id, comment) = (&case["tcId"], &case["comment"]);
            self.wrong.push(format!("{id} {comment} {} {}: {saw:x?}", case["flags"], case["result"]));
        }
    }

    /// Prints the row (on a line of its own: the harness has begun one) and asserts that nothing is wrong, that not too much was skipped, and that of the acceptable cases as
    /// many were accepted as are pinned here.
    ///
    /// # Panics
    /// When one of the three does not hold.
    pub(crate) fn settle(self, accepted: usize) {
        let skipped: usize = self.skipped.values().sum();
        println!(
            "\nTABLE wycheproof {:<28} run {:>5}  skipped {:?}  no such input {:?}  acceptable: {} accepted, {} refused  wrong {}",
            self.name,
            self.run,
            self.skipped,
            self.no_such_input,
            self.acceptable.0,
            self.acceptable.1,
            self.wrong.len()
        );
        let shown = self.wrong.iter().take(20).map(|line| format!("\n  {line}")).collect::<String>();
        assert!(self.wrong.is_empty(), "{}: {} wrong answers:{shown}", self.name, self.wrong.len());
        assert!(
            skipped * 100 <= MOST_SKIPPED * (self.run + skipped),
            "{}: {skipped} skipped of {}",
            self.name,
            self.run
        );
        assert!(self.run > 0, "{}: nothing was run", self.name);
        assert_eq!(self.acceptable.0, accepted, "{}: acceptable cases that were accepted", self.name);
    }
}

/// Answers that say nothing about the input.
const FAILURES: [CK_RV; 4] = [CKR_GENERAL_ERROR, CKR_DEVICE_ERROR, CKR_FUNCTION_FAILED, CKR_HOST_MEMORY];

/// Says that an algorithm was not run because the module does not list its mechanism.
pub(crate) fn not_offered(name: &str) {
    println!("\nTABLE wycheproof {name:<28} not offered by the module");
}
