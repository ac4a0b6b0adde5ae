//! Which objects a template matches (C_FindObjectsInit, PKCS#11 v3.0 §5.7.7), and the table that answers from indexes: the cost of a
//! search follows the number of matches, not the number of objects.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ck::Attribute;
use ck::attribute::{CKA_CLASS, CKA_ID, CKA_KEY_TYPE, CKA_LABEL};

use super::{Attr, Object, Value};

/// Whether the object has every attribute of the template with that value. Secret parts match only where they could be read, so that a
/// search is no oracle for them.
pub(crate) fn matches(object: &Object, template: &[Attr]) -> bool {
    template.iter().all(|attr| match object.attributes.get(attr.kind) {
        Some(value) => *value == attr.value,
        // Secret parts are never among the attributes.
        None => object.read(attr.kind).is_ok_and(|value| value == attr.value),
    })
}

/// The attributes that people search by.
const INDEXED: [Attribute; 4] = [CKA_ID, CKA_LABEL, CKA_CLASS, CKA_KEY_TYPE];

/// An indexed value: attribute and the bytes of its value.
type Term = (Attribute, Vec<u8>);

/// Objects by handle, with an index over what people search by.
#[derive(Default)]
pub(crate) struct Objects {
    by_handle: BTreeMap<u64, Arc<Object>>,
    by_term: HashMap<Term, BTreeSet<u64>>,
}

impl Objects {
    /// The object of a handle.
    pub(crate) fn get(&self, handle: u64) -> Option<&Arc<Object>> {
        self.by_handle.get(&handle)
    }

    /// Adds an object, or puts a changed one in the place of its older self.
    pub(crate) fn insert(&mut self, object: Arc<Object>) {
        self.remove(object.handle);
        for term in terms(&object) {
            self.by_term.entry(term).or_default().insert(object.handle);
        }
        self.by_handle.insert(object.handle, object);
    }

    /// Takes an object out.
    pub(crate) fn remove(&mut self, handle: u64) -> Option<Arc<Object>> {
        let object = self.by_handle.remove(&handle)?;
        for term in terms(&object) {
            if let Some(handles) = self.by_term.get_mut(&term) {
                handles.remove(&handle);
                if handles.is_empty() {
                    self.by_term.remove(&term);
                }
            }
        }
        Some(object)
    }

    /// Keeps the objects that `keep` wants.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Object) -> bool) {
        let gone: Vec<u64> =
            self.by_handle.values().filter(|object| !keep(object)).map(|object| object.handle).collect();
        for handle in gone {
            self.remove(handle);
        }
    }

    /// The objects that match the template, ascending by handle.
    pub(crate) fn find<'a>(&'a self, template: &'a [Attr]) -> Box<dyn Iterator<Item = &'a Arc<Object>> + 'a> {
        Box::new(self.candidates(template).filter(|object| matches(object, template)))
    }

    /// The objects that must be looked at to answer: those of the template's rarest indexed value.
    fn candidates<'a>(&'a self, template: &'a [Attr]) -> Box<dyn Iterator<Item = &'a Arc<Object>> + 'a> {
        let known = template.iter().filter_map(|attr| term(attr.kind, &attr.value));
        let narrowest =
            known.map(|term| self.by_term.get(&term)).min_by_key(|handles| handles.map_or(0, BTreeSet::len));
        match narrowest {
            Some(Some(handles)) => Box::new(handles.iter().filter_map(|handle| self.by_handle.get(handle))),
            Some(None) => Box::new(std::iter::empty()),
            None => Box::new(self.by_handle.values()),
        }
    }
}

fn terms(object: &Object) -> impl Iterator<Item = Term> + '_ {
    INDEXED.into_iter().filter_map(|kind| term(kind, object.attributes.get(kind)?))
}

fn term(kind: Attribute, value: &Value) -> Option<Term> {
    match value {
        _ if !INDEXED.contains(&kind) => None,
        Value::Empty => Some((kind, Vec::new())),
        Value::Bytes(bytes) => Some((kind, bytes.to_vec())),
        Value::Ulong(number) => Some((kind, number.to_be_bytes().to_vec())),
        Value::Bool(_) | Value::Ulongs(_) | Value::Template(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ObjectId;
    use crate::object::Attributes;
    use ck::object::CKO_DATA;

    fn data(handle: u64, label: &str) -> Arc<Object> {
        let mut attributes = Attributes::default();
        attributes.put(CKA_CLASS, Value::Ulong(CKO_DATA.0));
        attributes.put(CKA_LABEL, Value::bytes(label.as_bytes()));
        Arc::new(Object::new(ObjectId([0; 16]), handle, attributes, None))
    }

    fn found(objects: &Objects, template: &[Attr]) -> Vec<u64> {
        objects.find(template).map(|object| object.handle).collect()
    }

    #[test]
    fn a_search_sees_what_a_walk_over_all_objects_sees() {
        let mut objects = Objects::default();
        for handle in 0..200 {
            objects.insert(data(handle, ["a", "b", "", "c"][handle as usize % 4]));
        }
        objects.insert(data(3, "a"));
        objects.remove(4);
        let class = Attr::number(CKA_CLASS, CKO_DATA.0);
        let templates =
            [vec![], vec![class.clone()], vec![Attr::bytes(CKA_LABEL, "a")], vec![class, Attr::bytes(CKA_LABEL, "")]];
        for template in templates {
            let walk: Vec<u64> = objects
                .by_handle
                .values()
                .filter(|object| matches(object, &template))
                .map(|object| object.handle)
                .collect();
            assert_eq!(found(&objects, &template), walk);
            assert!(!walk.is_empty());
        }
        assert_eq!(found(&objects, &[Attr::bytes(CKA_LABEL, "nowhere")]), Vec::<u64>::new());
        assert_eq!(found(&objects, &[Attr::number(CKA_KEY_TYPE, 0)]), Vec::<u64>::new());
    }

    #[test]
    fn a_search_by_label_or_id_looks_at_its_matches_however_many_objects_there_are() {
        for count in [1_000_u64, 20_000] {
            let mut objects = Objects::default();
            for handle in 0..count {
                let mut attributes = Attributes::default();
                attributes.put(CKA_CLASS, Value::Ulong(CKO_DATA.0));
                attributes.put(CKA_LABEL, Value::bytes(format!("label {}", handle / 2).into_bytes()));
                attributes.put(CKA_ID, Value::bytes(handle.to_be_bytes().to_vec()));
                objects.insert(Arc::new(Object::new(ObjectId([0; 16]), handle, attributes, None)));
            }
            let class = Attr::number(CKA_CLASS, CKO_DATA.0);
            let (label, id) = (Attr::bytes(CKA_LABEL, "label 7"), Attr::bytes(CKA_ID, 7_u64.to_be_bytes().to_vec()));
            let rows = [
                (vec![label.clone()], 2),
                (vec![id.clone()], 1),
                (vec![class.clone(), label.clone()], 2),
                (vec![class.clone(), label, id], 1),
                (vec![class.clone(), Attr::bytes(CKA_LABEL, "nowhere")], 0),
            ];
            for (template, looked_at) in rows {
                assert_eq!(objects.candidates(&template).count(), looked_at, "{template:?} among {count}");
            }
        }
    }

    #[test]
    fn what_is_removed_leaves_no_trace_in_the_index() {
        let mut objects = Objects::default();
        objects.insert(data(1, "x"));
        objects.insert(data(1, "y"));
        objects.retain(|_| false);
        assert!(objects.by_handle.is_empty() && objects.by_term.is_empty());
    }
}
