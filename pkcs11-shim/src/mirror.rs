//! What the shim remembers of the token: public attributes of objects, and the mechanism table of each slot.
//!
//! Never a sensitive value: the daemon does not send one in a snapshot. A snapshot goes when the generation that every reply
//! carries moves on. That alone would let an application that sends nothing read old values for ever; so an attribute is
//! only read from memory for [`FRESH`] after a reply has confirmed the generation. Whether an operation may begin is
//! judged from an older snapshot too, since the daemon judges again when the operation is carried out.
//!
//! A snapshot is true of the time when its request was sent or later. It is kept only if nothing has moved since then: another
//! thread's reply may have overtaken it, and nothing would clear it away any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ck::attribute::Attribute;
use hsm_proto::v1::{self, attribute::Value, reply::Result as Answer};

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
    pub(crate) fn new(mut snapshot: v1::ObjectSnapshot) -> Self {
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

/// What a request is sent under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    epoch: u64,
    generation: u64,
    /// How often every object was forgotten in this epoch.
    forgotten: u64,
}

#[derive(Default)]
struct Objects {
    moment: Moment,
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
            if objects.moment.is_of(epoch, generation) && recent {
                return;
            }
        }
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        if !objects.moment.is_of(epoch, generation) {
            // A reply may be overtaken by a later one: the older generation says nothing new.
            if objects.moment.epoch == epoch && generation < objects.moment.generation {
                return;
            }
            objects.held.clear();
            (objects.moment.epoch, objects.moment.generation) = (epoch, generation);
        }
        objects.confirmed = Some(now);
    }

    /// The link is in this epoch now.
    pub(crate) fn enter(&self, epoch: u64) {
        let entered = self.objects.read().unwrap_or_else(PoisonError::into_inner).moment.epoch == epoch;
        if !entered {
            let moment = Moment { epoch, ..Moment::default() };
            *self.objects.write().unwrap_or_else(PoisonError::into_inner) = Objects { moment, ..Objects::default() };
            lock(&self.mechanisms).clear();
        }
    }

    /// What a request that is sent now is sent under.
    pub(crate) fn moment(&self) -> Moment {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).moment
    }

    /// Remembers the snapshots that the answer brings to a request of this moment, if nothing has moved since.
    pub(crate) fn keep(&self, sent: Moment, answer: &mut Answer) {
        let snapshots = brought(answer);
        if snapshots.is_empty() {
            return;
        }
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        if objects.moment != sent {
            return;
        }
        for snapshot in snapshots {
            if objects.held.len() >= MAX_OBJECTS {
                objects.held.clear();
            }
            objects.held.insert(snapshot.object, Arc::new(Snapshot::new(snapshot)));
        }
    }

    /// What is remembered of an object, and whether that was confirmed a moment ago.
    pub(crate) fn snapshot(&self, object: u64) -> Option<(Arc<Snapshot>, bool)> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        let fresh = objects.confirmed.is_some_and(|at| at.elapsed() < FRESH);
        objects.held.get(&object).map(|snapshot| (Arc::clone(snapshot), fresh))
    }

    /// Forgets every object: a login or logout changes what can be seen.
    pub(crate) fn forget_objects(&self) {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        objects.held.clear();
        objects.moment.forgotten += 1;
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

impl Moment {
    fn is_of(&self, epoch: u64, generation: u64) -> bool {
        (self.epoch, self.generation) == (epoch, generation)
    }
}

/// Takes the snapshots out of an answer; the one that was asked for itself stays in it.
fn brought(answer: &mut Answer) -> Vec<v1::ObjectSnapshot> {
    let taken = |made: &mut v1::ObjectReply| made.snapshot.take();
    match answer {
        Answer::Object(made) => taken(made).into_iter().collect(),
        Answer::KeyPair(pair) => {
            [&mut pair.public_key, &mut pair.private_key].into_iter().flatten().filter_map(taken).collect()
        }
        Answer::Encapsulated(reply) => reply.key.as_mut().and_then(taken).into_iter().collect(),
        Answer::Derived(reply) => reply.keys.iter_mut().filter_map(taken).collect(),
        Answer::Find(found) => std::mem::take(&mut found.snapshots),
        Answer::Snapshot(snapshot) => vec![snapshot.clone()],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ck::attribute::{CKA_CLASS, CKA_LABEL};

    /// A mirror at epoch 1 and generation 5.
    fn mirror() -> Mirror {
        let mirror = Mirror::default();
        mirror.observe(1, 5);
        mirror
    }

    fn snapshot(object: u64) -> v1::ObjectSnapshot {
        let class = v1::Attribute { r#type: CKA_CLASS.0, value: Some(Value::Number(3)) };
        v1::ObjectSnapshot { object, attributes: vec![class], complete: true }
    }

    #[test]
    fn a_snapshot_goes_when_the_generation_or_the_epoch_moves() {
        for (epoch, generation, kept) in [(1, 5, true), (1, 4, true), (1, 6, false), (2, 5, false)] {
            let mirror = mirror();
            mirror.keep(mirror.moment(), &mut Answer::Snapshot(snapshot(9)));
            mirror.observe(epoch, generation);
            assert_eq!(mirror.snapshot(9).is_some(), kept, "epoch {epoch} generation {generation}");
        }
    }

    #[test]
    fn a_snapshot_that_another_reply_or_a_logout_has_overtaken_is_not_kept() {
        type Overtake = fn(&Mirror);
        let overtaken: [(&str, Overtake); 4] = [
            ("generation", |mirror| mirror.observe(1, 6)),
            ("epoch", |mirror| mirror.observe(2, 5)),
            ("epoch without a reply", |mirror| mirror.enter(2)),
            ("login or logout", Mirror::forget_objects),
        ];
        for (what, overtake) in overtaken {
            let mirror = mirror();
            let sent = mirror.moment();
            overtake(&mirror);
            mirror.keep(sent, &mut Answer::Snapshot(snapshot(9)));
            assert!(mirror.snapshot(9).is_none(), "{what}");
        }
    }

    #[test]
    fn every_answer_that_makes_or_finds_objects_brings_their_snapshots() {
        let made = |object| v1::ObjectReply { object, snapshot: Some(snapshot(object)) };
        let mut answers = [
            Answer::Object(made(1)),
            Answer::KeyPair(v1::KeyPairReply { public_key: Some(made(1)), private_key: Some(made(2)) }),
            Answer::Encapsulated(v1::EncapsulateKeyReply { ciphertext: Vec::new(), key: Some(made(1)) }),
            Answer::Derived(v1::DeriveKeyReply { keys: vec![made(1), made(2)], ..Default::default() }),
            Answer::Find(v1::FindReply { objects: vec![1, 2], snapshots: vec![snapshot(1), snapshot(2)] }),
            Answer::Snapshot(snapshot(1)),
        ];
        for (index, (answer, count)) in answers.iter_mut().zip([1, 2, 1, 2, 2, 1]).enumerate() {
            let mirror = mirror();
            mirror.keep(mirror.moment(), answer);
            let held = [1, 2].into_iter().filter(|&object| mirror.snapshot(object).is_some()).count();
            assert_eq!(held, count, "answer {index}");
        }
    }

    #[test]
    fn values_are_found_by_attribute() {
        let mirror = mirror();
        mirror.keep(mirror.moment(), &mut Answer::Snapshot(snapshot(9)));
        let (held, fresh) = mirror.snapshot(9).expect("kept");
        assert_eq!((held.number(CKA_CLASS), held.number(ck::attribute::CKA_TOKEN)), (Some(3), None));
        assert!(fresh);
    }

    #[test]
    fn an_empty_value_is_a_value() {
        let mut snapshot = snapshot(9);
        snapshot.attributes.push(v1::Attribute { r#type: CKA_LABEL.0, value: None });
        assert_eq!(Snapshot::new(snapshot).bytes(CKA_LABEL), Some(&[][..]));
    }
}
