//! Objects as stored bytes: a prost message, sealed by the store before it reaches a disk.
//!
//! Field numbers are part of the store's format (store/format.md) and are never reused.

use ck::Attribute;
use prost::Message;
use zeroize::{Zeroize, Zeroizing};

use super::{Attr, Attributes, Object, Value};
use crate::error::{Error, Kind, Result};
use crate::id::ObjectId;
use crate::secret::SecretBytes;

#[derive(Clone, PartialEq, Message)]
struct Record {
    /// [`VERSION`], or [`GUARDED`] for a key with an issuance policy.
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint64, tag = "2")]
    handle: u64,
    #[prost(message, repeated, tag = "3")]
    attributes: Vec<Entry>,
    #[prost(bytes = "vec", optional, tag = "4")]
    material: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(uint64, tag = "1")]
    kind: u64,
    #[prost(oneof = "Stored", tags = "2, 3, 4, 5, 6")]
    value: Option<Stored>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Stored {
    #[prost(bool, tag = "2")]
    Flag(bool),
    #[prost(uint64, tag = "3")]
    Number(u64),
    #[prost(bytes, tag = "4")]
    Bytes(Vec<u8>),
    #[prost(message, tag = "5")]
    Numbers(Numbers),
    #[prost(message, tag = "6")]
    Template(Entries),
}

#[derive(Clone, PartialEq, Message)]
struct Numbers {
    #[prost(uint64, repeated, tag = "1")]
    values: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct Entries {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<Entry>,
}

const VERSION: u32 = 1;
/// The version of keys that only sign inside a policy: software that does not know the policy must not take them up.
const GUARDED: u32 = 2;

/// The object's bytes, to be sealed.
pub(crate) fn encode(object: &Object) -> SecretBytes {
    let entries = object.attributes.iter().map(|(kind, value)| entry(kind, value)).collect();
    let material = object.material().map(|material| material.to_vec());
    let version = if object.issuance_policy().is_some() { GUARDED } else { VERSION };
    let mut record = Record { version, handle: object.handle, attributes: entries, material };
    let bytes = SecretBytes::new(record.encode_to_vec());
    record.material.zeroize();
    bytes
}

/// The object of stored bytes.
///
/// # Errors
/// [`Kind::Device`] when they are no object record of a version known here.
pub(crate) fn decode(id: ObjectId, bytes: &SecretBytes) -> Result<Object> {
    let record = Record::decode(bytes.expose())
        .map_err(|_| Error::new(Kind::Device, format!("object {id} is not an object record")))?;
    if !matches!(record.version, VERSION | GUARDED) {
        let found = record.version;
        return Err(Error::new(
            Kind::Device,
            format!("object {id} has record version {found}; this version reads {VERSION} and {GUARDED}"),
        ));
    }
    let mut attributes = Attributes::default();
    for entry in record.attributes {
        let attr = attr(entry);
        attributes.put(attr.kind, attr.value);
    }
    Ok(Object::new(id, record.handle, attributes, record.material.map(Zeroizing::new)))
}

fn entry(kind: Attribute, value: &Value) -> Entry {
    let value = match value {
        Value::Empty => None,
        Value::Bool(flag) => Some(Stored::Flag(*flag)),
        Value::Ulong(number) => Some(Stored::Number(*number)),
        Value::Bytes(bytes) => Some(Stored::Bytes(bytes.to_vec())),
        Value::Ulongs(values) => Some(Stored::Numbers(Numbers { values: values.clone() })),
        Value::Template(attrs) => {
            let entries = attrs.iter().map(|attr| entry(attr.kind, &attr.value)).collect();
            Some(Stored::Template(Entries { entries }))
        }
    };
    Entry { kind: kind.0, value }
}

fn attr(entry: Entry) -> Attr {
    let value = match entry.value {
        None => Value::Empty,
        Some(Stored::Flag(flag)) => Value::Bool(flag),
        Some(Stored::Number(number)) => Value::Ulong(number),
        Some(Stored::Bytes(bytes)) => Value::bytes(bytes),
        Some(Stored::Numbers(numbers)) => Value::Ulongs(numbers.values),
        Some(Stored::Template(entries)) => Value::Template(entries.entries.into_iter().map(attr).collect()),
    };
    Attr { kind: Attribute(entry.kind), value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ck::attribute::*;

    #[test]
    fn every_kind_of_value_survives_the_store() {
        let mut attributes = Attributes::default();
        attributes.put(CKA_CLASS, Value::Ulong(0));
        attributes.put(CKA_TOKEN, Value::Bool(true));
        attributes.put(CKA_LABEL, Value::bytes(b"label".to_vec()));
        attributes.put(CKA_ID, Value::Empty);
        attributes.put(CKA_ALLOWED_MECHANISMS, Value::Ulongs(vec![1, 2]));
        attributes.put(CKA_WRAP_TEMPLATE, Value::Template(vec![Attr::flag(CKA_SENSITIVE, true)]));
        let object = Object::new(ObjectId([7; 16]), 42, attributes, Some(Zeroizing::new(vec![1, 2, 3])));
        let back = decode(object.id, &encode(&object)).expect("just encoded");
        assert_eq!(back.handle, 42);
        assert_eq!(back.material().map(|material| material.to_vec()), Some(vec![1, 2, 3]));
        let (left, right): (Vec<_>, Vec<_>) = (object.attributes.iter().collect(), back.attributes.iter().collect());
        assert!(left == right);
    }

    #[test]
    fn another_version_is_refused_by_number() {
        let record = Record { version: 9, ..Default::default() };
        let error = decode(ObjectId([0; 16]), &SecretBytes::new(record.encode_to_vec())).err().expect("refused");
        assert!(error.detail().is_some_and(|detail| detail.contains("version 9")));
    }
}
