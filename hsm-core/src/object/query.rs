//! Which objects a template matches (C_FindObjectsInit, PKCS#11 v3.0 §5.7.7): every given attribute must be there and equal.

use super::schema::F7_HIDDEN;
use super::{Attr, Object};

/// Whether the object has every attribute of the template with that value. Hidden attributes of keys that are not readable match
/// nothing, so that a search is no oracle for them.
pub(crate) fn matches(object: &Object, template: &[Attr]) -> bool {
    template.iter().all(|attr| {
        let hidden =
            object.schema().ok().and_then(|schema| schema.row(attr.kind)).is_some_and(|row| row.notes.has(F7_HIDDEN));
        if hidden {
            return object.read(attr.kind).is_ok_and(|value| value == attr.value);
        }
        object.attributes.get(attr.kind).is_some_and(|value| *value == attr.value)
    })
}
