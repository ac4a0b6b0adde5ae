//! What the shim remembers of the token: public attributes of objects, and the mechanism table of each slot.
//!
//! Never a sensitive value: the daemon does not send one in a snapshot. A snapshot goes when the generation that every reply
//! carries moves on. That alone would let an application that sends nothing read old values for ever; so an attribute is
//! only read from memory for [`FRESH`] after a reply has confirmed the generation. Whether an operation may begin is
//! judged from an older snapshot too, since the daemon judges again when the operation is carried out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ck::attribute::Attribute;
use hsm_proto::v1::{self, attribute::Value};

use crate::carrier::lock;

/// How long a confirmed snapshot answers for attribute values.
const FRESH: Duration = Duration::from_millis(100);
/// The most objects that are remembered.
const MAX_OBJECTS: usize = 4096;

/// What is known of one object.
#[derive(Debug)]
pub(crate) struct Snapshot {
    attributes: Vec<v1::Attribute>,
    /// Every readable attribute is there.
    pub(crate) complete: bool,
}

impl Snapshot {
    fn new(mut snapshot: v1::ObjectSnapshot) -> Self {
        snapshot.attributes.sort_unstable_by_key(|attribute| attribute.r#type);
        // An empty value travels as none: without this a key without a label would be a key that cannot have one.
        for attribute in &mut snapshot.attributes {
            attribute.value.get_or_insert(Value::Bytes(Vec::new()));
        }
        Snapshot { attributes: snapshot.attributes, complete: snapshot.complete }
    }

    /// The attribute's value.
    pub(crate) fn value(&self, attribute: Attribute) -> Option<&Value> {
        let index = self.attributes.binary_search_by_key(&attribute.0, |held| held.r#type).ok()?;
        self.attributes.get(index)?.value.as_ref()
    }

    pub(crate) fn number(&self, attribute: Attribute) -> Option<u64> {
        if let Value::Number(number) = self.value(attribute)? { Some(*number) } else { None }
    }

    pub(crate) fn flag(&self, attribute: Attribute) -> Option<bool> {
        if let Value::Flag(flag) = self.value(attribute)? { Some(*flag) } else { None }
    }

    pub(crate) fn bytes(&self, attribute: Attribute) -> Option<&[u8]> {
        if let Value::Bytes(bytes) = self.value(attribute)? { Some(bytes) } else { None }
    }

    pub(crate) fn numbers(&self, attribute: Attribute) -> Option<&[u64]> {
        if let Value::Numbers(numbers) = self.value(attribute)? { Some(&numbers.values) } else { None }
    }
}

/// The mechanisms of a slot, by number.
pub(crate) type Mechanisms = Arc<Vec<v1::MechanismRow>>;

/// See the module.
#[derive(Default)]
pub(crate) struct Mirror {
    objects: RwLock<Objects>,
    mechanisms: Mutex<HashMap<u64, Mechanisms>>,
}

#[derive(Default)]
struct Objects {
    epoch: u64,
    generation: u64,
    confirmed: Option<Instant>,
    held: HashMap<u64, Arc<Snapshot>>,
}

impl Mirror {
    /// A reply of this epoch carried this generation.
    pub(crate) fn observe(&self, epoch: u64, generation: u64) {
        let now = Instant::now();
        {
            let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
            let recent = objects.confirmed.is_some_and(|at| now.duration_since(at) < FRESH / 4);
            if (objects.epoch, objects.generation) == (epoch, generation) && recent {
                return;
            }
        }
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        if (objects.epoch, objects.generation) != (epoch, generation) {
            // A reply may be overtaken by a later one: the older generation says nothing new.
            if objects.epoch == epoch && generation < objects.generation {
                return;
            }
            objects.held.clear();
            (objects.epoch, objects.generation) = (epoch, generation);
        }
        objects.confirmed = Some(now);
    }

    /// The link is in this epoch now.
    pub(crate) fn enter(&self, epoch: u64) {
        let entered = self.objects.read().unwrap_or_else(PoisonError::into_inner).epoch == epoch;
        if !entered {
            *self.objects.write().unwrap_or_else(PoisonError::into_inner) = Objects { epoch, ..Objects::default() };
            lock(&self.mechanisms).clear();
        }
    }

    /// Remembers a snapshot that came in a reply of this generation.
    pub(crate) fn keep(&self, snapshot: v1::ObjectSnapshot) -> Arc<Snapshot> {
        let object = snapshot.object;
        let snapshot = Arc::new(Snapshot::new(snapshot));
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        if objects.held.len() >= MAX_OBJECTS {
            objects.held.clear();
        }
        objects.held.insert(object, Arc::clone(&snapshot));
        snapshot
    }

    /// What is remembered of an object, and whether that was confirmed a moment ago.
    pub(crate) fn snapshot(&self, object: u64) -> Option<(Arc<Snapshot>, bool)> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        let fresh = objects.confirmed.is_some_and(|at| at.elapsed() < FRESH);
        objects.held.get(&object).map(|snapshot| (Arc::clone(snapshot), fresh))
    }

    /// Forgets every object: a login or logout changes what can be seen.
    pub(crate) fn forget_objects(&self) {
        self.objects.write().unwrap_or_else(PoisonError::into_inner).held.clear();
    }

    pub(crate) fn forget_all(&self) {
        self.forget_objects();
        lock(&self.mechanisms).clear();
    }

    pub(crate) fn mechanisms(&self, slot: u64) -> Option<Mechanisms> {
        lock(&self.mechanisms).get(&slot).cloned()
    }

    pub(crate) fn keep_mechanisms(&self, slot: u64, mut rows: Vec<v1::MechanismRow>) -> Mechanisms {
        rows.sort_unstable_by_key(|row| row.r#type);
        let rows = Arc::new(rows);
        lock(&self.mechanisms).insert(slot, Arc::clone(&rows));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ck::attribute::{CKA_CLASS, CKA_LABEL};

    fn snapshot(object: u64) -> v1::ObjectSnapshot {
        let class = v1::Attribute { r#type: CKA_CLASS.0, value: Some(Value::Number(3)) };
        v1::ObjectSnapshot { object, attributes: vec![class], complete: true }
    }

    #[test]
    fn a_snapshot_goes_when_the_generation_or_the_epoch_moves() {
        for (epoch, generation, kept) in [(1, 5, true), (1, 4, true), (1, 6, false), (2, 5, false)] {
            let mirror = Mirror::default();
            mirror.observe(1, 5);
            mirror.keep(snapshot(9));
            mirror.observe(epoch, generation);
            assert_eq!(mirror.snapshot(9).is_some(), kept, "epoch {epoch} generation {generation}");
        }
    }

    #[test]
    fn values_are_found_by_attribute() {
        let mirror = Mirror::default();
        mirror.observe(1, 1);
        let held = mirror.keep(snapshot(9));
        assert_eq!((held.number(CKA_CLASS), held.number(ck::attribute::CKA_TOKEN)), (Some(3), None));
        assert!(mirror.snapshot(9).is_some_and(|(_, fresh)| fresh));
    }

    #[test]
    fn an_empty_value_is_a_value() {
        let mut snapshot = snapshot(9);
        snapshot.attributes.push(v1::Attribute { r#type: CKA_LABEL.0, value: None });
        assert_eq!(Mirror::default().keep(snapshot).bytes(CKA_LABEL), Some(&[][..]));
    }
}
