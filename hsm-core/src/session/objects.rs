//! The session objects of one application: each is seen by all its sessions with the token, and lives as long as the session that made it.
//! They are found by the index that finds token objects, so that a search costs its matches here too.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::object::query::Objects;
use crate::object::{Attr, Object};

/// See the module.
#[derive(Default)]
pub(crate) struct SessionObjects {
    by_slot: HashMap<u64, Objects>,
    makers: HashMap<u64, Maker>,
    by_session: HashMap<u64, HashSet<u64>>,
}

/// Where an object was made.
#[derive(Clone, Copy)]
struct Maker {
    slot: u64,
    session: u64,
}

impl SessionObjects {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.makers.len()
    }

    /// The object of a handle that is seen in this slot.
    pub(crate) fn get(&self, slot: u64, handle: u64) -> Option<&Arc<Object>> {
        self.by_slot.get(&slot)?.get(handle)
    }

    /// The objects in a slot that match the template, ascending by handle.
    pub(crate) fn find<'a>(&'a self, slot: u64, template: &'a [Attr]) -> impl Iterator<Item = &'a Arc<Object>> + 'a {
        self.by_slot.get(&slot).into_iter().flat_map(|objects| objects.find(template))
    }

    /// Adds an object that a session with this slot has made.
    pub(crate) fn insert(&mut self, slot: u64, session: u64, object: Arc<Object>) {
        self.makers.insert(object.handle, Maker { slot, session });
        self.by_session.entry(session).or_default().insert(object.handle);
        self.by_slot.entry(slot).or_default().insert(object);
    }

    /// Puts a changed object in the place of its older self, if that is still here.
    pub(crate) fn replace(&mut self, changed: Arc<Object>) {
        if let Some(objects) = self.makers.get(&changed.handle).and_then(|maker| self.by_slot.get_mut(&maker.slot)) {
            objects.insert(changed);
        }
    }

    /// Forgets a destroyed object.
    pub(crate) fn remove(&mut self, handle: u64) {
        let Some(maker) = self.makers.remove(&handle) else { return };
        if let Some(objects) = self.by_slot.get_mut(&maker.slot) {
            objects.remove(handle);
        }
        if let Some(made) = self.by_session.get_mut(&maker.session) {
            made.remove(&handle);
            if made.is_empty() {
                self.by_session.remove(&maker.session);
            }
        }
    }

    /// The session has ended.
    pub(crate) fn end_session(&mut self, session: u64) {
        for handle in self.by_session.remove(&session).unwrap_or_default() {
            self.remove(handle);
        }
    }

    /// Every session with the slot has ended.
    pub(crate) fn end_slot(&mut self, slot: u64) {
        self.remove_where(slot, |_| true);
        self.by_slot.remove(&slot);
    }

    /// The user of the slot has gone, and private objects go along.
    pub(crate) fn end_login(&mut self, slot: u64) {
        self.remove_where(slot, Object::is_private);
    }

    fn remove_where(&mut self, slot: u64, goes: impl Fn(&Object) -> bool) {
        let gone: Vec<u64> = self.find(slot, &[]).filter(|object| goes(object)).map(|object| object.handle).collect();
        gone.into_iter().for_each(|handle| self.remove(handle));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ObjectId;
    use crate::object::{Attributes, Value};
    use ck::attribute::{CKA_LABEL, CKA_PRIVATE};

    fn object(handle: u64, label: &str, private: bool) -> Arc<Object> {
        let mut attributes = Attributes::default();
        attributes.put(CKA_LABEL, Value::bytes(label.as_bytes()));
        attributes.put(CKA_PRIVATE, Value::Bool(private));
        Arc::new(Object::new(ObjectId([0; 16]), handle, attributes, None))
    }

    fn found(objects: &SessionObjects, slot: u64, label: &str) -> Vec<u64> {
        objects.find(slot, &[Attr::bytes(CKA_LABEL, label)]).map(|object| object.handle).collect()
    }

    /// Objects 1 and 2 of session 10, 3 of session 11 in slot 0; 4 of session 12 in slot 1. The even ones are private.
    fn some() -> SessionObjects {
        let mut objects = SessionObjects::default();
        for (handle, slot, session) in [(1, 0, 10), (2, 0, 10), (3, 0, 11), (4, 1, 12)] {
            objects.insert(slot, session, object(handle, "x", handle % 2 == 0));
        }
        objects
    }

    #[test]
    fn objects_go_with_their_session_their_slot_or_their_login() {
        type End = fn(&mut SessionObjects);
        let rows: [(&str, End, &[u64], &[u64]); 6] = [
            ("nothing", |_| (), &[1, 2, 3], &[4]),
            ("a destruction", |objects| objects.remove(2), &[1, 3], &[4]),
            ("a session", |objects| objects.end_session(10), &[3], &[4]),
            ("a session without objects", |objects| objects.end_session(99), &[1, 2, 3], &[4]),
            ("every session of a slot", |objects| objects.end_slot(0), &[], &[4]),
            ("a logout", |objects| objects.end_login(0), &[1, 3], &[4]),
        ];
        for (what, end, left, elsewhere) in rows {
            let mut objects = some();
            end(&mut objects);
            assert_eq!(
                (found(&objects, 0, "x"), found(&objects, 1, "x")),
                (left.to_vec(), elsewhere.to_vec()),
                "{what}"
            );
            assert_eq!(objects.len(), left.len() + elsewhere.len(), "{what}");
            let seen = (1..=4).filter(|&handle| objects.get(0, handle).is_some());
            assert_eq!(seen.collect::<Vec<_>>(), left, "{what}");
        }
    }

    #[test]
    fn a_changed_object_is_found_by_what_it_is_now() {
        let mut objects = some();
        objects.replace(object(1, "y", false));
        objects.replace(object(9, "y", false));
        assert_eq!((found(&objects, 0, "x"), found(&objects, 0, "y")), (vec![2, 3], vec![1]));
        objects.end_session(10);
        assert_eq!(found(&objects, 0, "y"), Vec::<u64>::new());
    }

    #[test]
    fn nothing_is_left_over() {
        let mut objects = some();
        [10, 11, 12].into_iter().for_each(|session| objects.end_session(session));
        assert!(objects.makers.is_empty() && objects.by_session.is_empty());
    }
}
