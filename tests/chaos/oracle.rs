//! What the driver of a chaos test knows: what its clients were told, and what they had asked for and were not told. After a restart
//! the first is true, the second has happened or not, and nothing else has changed.

use std::collections::BTreeMap;

/// A key's CKA_ID, in hexadecimal digits; none when there is no such key.
type State = Option<String>;

/// What the driver knows of each key by its label: what was acknowledged last, and what was asked for since.
#[derive(Default)]
pub(crate) struct Oracle {
    acknowledged: BTreeMap<String, State>,
    in_flight: BTreeMap<String, State>,
    pub(crate) signatures: u64,
    pub(crate) changes: u64,
}

impl Oracle {
    /// Lines of a worker: `try LABEL STATE` before a call, `did LABEL STATE` after its success; `-` is no key. `signed` is a signature,
    /// `failed NAME` the answer to a call that failed.
    pub(crate) fn hear(&mut self, line: &str) {
        let state = |word: &str| (word != "-").then(|| word.to_owned());
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["try", label, to] => drop(self.in_flight.insert(label.to_owned(), state(to))),
            ["did", label, to] => {
                self.in_flight.remove(label);
                self.acknowledged.insert(label.to_owned(), state(to));
                self.changes += 1;
            }
            ["signed"] => self.signatures += 1,
            ["failed", _] => {}
            _ => panic!("a worker said {line:?}"),
        }
    }

    /// How many keys are there, as far as it knows.
    pub(crate) fn there(&self) -> u64 {
        self.acknowledged.values().flatten().count() as u64
    }

    /// Compares with what the store holds, which from now on is what is known.
    pub(crate) fn check(&mut self, when: &str, stored: &BTreeMap<String, String>) {
        for (label, state) in &self.acknowledged {
            let now = stored.get(label).cloned();
            let may_be = self.in_flight.get(label);
            assert!(now == *state || Some(&now) == may_be, "{when}: {label} is {now:?}, not {state:?} (or {may_be:?})");
        }
        for (label, now) in stored {
            let known = self.acknowledged.contains_key(label) || self.in_flight.contains_key(label);
            assert!(known || label == "first", "{when}: nobody asked for {label} ({now})");
        }
        let known = self.in_flight.keys().chain(self.acknowledged.keys());
        self.acknowledged = known.map(|label| (label.clone(), stored.get(label).cloned())).collect();
        self.in_flight.clear();
    }
}

/// What a worker said to `ids`: CKA_ID of every private key, by label.
pub(crate) fn ids(said: &str) -> BTreeMap<String, String> {
    let pairs = said.split_whitespace().filter_map(|word| word.split_once('='));
    pairs.map(|(label, id)| (label.to_owned(), id.to_owned())).collect()
}
