//! Objects that the token itself has: profiles, mechanisms and a clock (PKCS#11 v3.0 §4.3, §4.12 and §4.13).
//!
//! A search finds them only when its template names their class. The standard rules so for hardware features and mechanisms, so that
//! programs do not meet objects that they do not know; profiles are treated alike. They are made when they are asked for and stored
//! nowhere; their handles lie above all others and are the same after every restart. There are no CKO_VALIDATION objects: nobody has
//! validated this software.

use std::sync::Arc;

use ck::attribute::*;
use ck::object::*;
use ck::{Attribute, Mechanism, ObjectClass};

use super::query;
use super::{Attr, Attributes, Object, Value};
use crate::clock::Clock;
use crate::id::ObjectId;
use crate::mechanism::Mechanisms;
use crate::mechanism::period::Day;

/// The first handle of a built-in object; handles of stored objects count up from one and never reach it.
const FIRST_HANDLE: u64 = 1 << 62;
/// Bits of a handle for the object's number within its class: mechanism numbers have 32.
const NUMBER_BITS: u32 = 40;

/// CKP_BASELINE_PROVIDER, CKP_EXTENDED_PROVIDER and CKP_AUTHENTICATION_TOKEN.
const PROFILES: [u64; 3] = [CKP_BASELINE_PROVIDER.0, CKP_EXTENDED_PROVIDER.0, CKP_AUTHENTICATION_TOKEN.0];

/// The built-in classes, in the order of their handles, and the attribute that holds an object's number.
const CLASSES: [(ObjectClass, Attribute); 3] =
    [(CKO_PROFILE, CKA_PROFILE_ID), (CKO_MECHANISM, CKA_MECHANISM_TYPE), (CKO_HW_FEATURE, CKA_HW_FEATURE_TYPE)];

/// Whether objects of a class are built in, and cannot be made.
pub(crate) fn has_class(class: ObjectClass) -> bool {
    CLASSES.iter().any(|(built_in, _)| *built_in == class)
}

/// The built-in objects that a template finds.
pub(crate) fn find(template: &[Attr], mechanisms: &Mechanisms, clock: &dyn Clock) -> Vec<Arc<Object>> {
    let asked = template.iter().find(|attr| attr.kind == CKA_CLASS).and_then(|attr| attr.value.as_ulong());
    let Some(index) = CLASSES.iter().position(|(class, _)| Some(class.0) == asked) else { return Vec::new() };
    let all = numbers(index, mechanisms).into_iter().map(|number| make(index, number, clock));
    all.filter(|object| query::matches(object, template)).map(Arc::new).collect()
}

/// The built-in object of a handle.
pub(crate) fn get(handle: u64, mechanisms: &Mechanisms, clock: &dyn Clock) -> Option<Arc<Object>> {
    let place = handle.checked_sub(FIRST_HANDLE)?;
    let (index, number) = (usize::try_from(place >> NUMBER_BITS).ok()?, place & ((1 << NUMBER_BITS) - 1));
    let there = index < CLASSES.len() && numbers(index, mechanisms).contains(&number);
    there.then(|| Arc::new(make(index, number, clock)))
}

fn numbers(index: usize, mechanisms: &Mechanisms) -> Vec<u64> {
    match CLASSES[index].0 {
        CKO_PROFILE => PROFILES.to_vec(),
        CKO_MECHANISM => mechanisms.numbers().map(|Mechanism(number)| number).collect(),
        _ => vec![CKH_CLOCK.0],
    }
}

fn make(index: usize, number: u64, clock: &dyn Clock) -> Object {
    let (class, kind) = CLASSES[index];
    let handle = FIRST_HANDLE | (index as u64) << NUMBER_BITS | number;
    let mut attributes = Attributes::default();
    attributes.put(CKA_CLASS, Value::Ulong(class.0));
    attributes.put(kind, Value::Ulong(number));
    attributes.put(CKA_TOKEN, Value::Bool(true));
    for no in [CKA_PRIVATE, CKA_MODIFIABLE, CKA_COPYABLE, CKA_DESTROYABLE] {
        attributes.put(no, Value::Bool(false));
    }
    attributes.put(CKA_LABEL, Value::Empty);
    attributes.put(CKA_UNIQUE_ID, Value::bytes(format!("{handle:032x}")));
    if class == CKO_HW_FEATURE {
        attributes.put(CKA_VALUE, Value::bytes(time_of_day(clock)));
        attributes.put(CKA_RESET_ON_INIT, Value::Bool(false));
        attributes.put(CKA_HAS_RESET, Value::Bool(false));
    }
    let mut id = [0; 16];
    id[8..].copy_from_slice(&handle.to_be_bytes());
    Object::new(ObjectId(id), handle, attributes, None)
}

/// YYYYMMDDhhmmss00, UTC (PKCS#11 v3.0 §4.3.2).
fn time_of_day(clock: &dyn Clock) -> String {
    let seconds = clock.now_unix_nanos() / 1_000_000_000 % 86_400;
    format!("{}{:02}{:02}{:02}00", Day::today(clock), seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AlgorithmsConfig, PolicyConfig};

    struct At(u64);

    impl Clock for At {
        fn now_unix_nanos(&self) -> u64 {
            self.0 * 1_000_000_000
        }
    }

    fn mechanisms() -> Mechanisms {
        let algorithms = AlgorithmsConfig {
            allow_weak_rsa: false,
            allow_sha1_signing: false,
            allow_legacy: false,
            enable_pqc: true,
            fips_approved_only: false,
            derived_keys_extractable_by_default: false,
        };
        Mechanisms::new(&algorithms, &PolicyConfig::default())
    }

    #[test]
    fn a_search_must_name_the_class_and_handles_lead_back() {
        let (mechanisms, clock) = (mechanisms(), At(0));
        assert!(find(&[], &mechanisms, &clock).is_empty());
        assert!(find(&[Attr::flag(CKA_TOKEN, true)], &mechanisms, &clock).is_empty());
        for (class, kind) in CLASSES {
            let found = find(&[Attr::number(CKA_CLASS, class.0)], &mechanisms, &clock);
            assert!(!found.is_empty(), "{class}");
            for object in found {
                let again = get(object.handle, &mechanisms, &clock).expect("the handle leads back");
                assert_eq!(again.attributes.number(kind), object.attributes.number(kind));
                assert_eq!(again.read(CKA_CLASS).ok(), Some(Value::Ulong(class.0)));
            }
        }
        for handle in [0, 1, FIRST_HANDLE, FIRST_HANDLE | 99, u64::MAX] {
            assert!(get(handle, &mechanisms, &clock).is_none(), "{handle:#x}");
        }
    }

    #[test]
    fn the_clock_tells_the_time_in_utc() {
        assert_eq!(time_of_day(&At(20_000 * 86_400 + 3 * 3600 + 4 * 60 + 5)), "2024100403040500");
    }
}
