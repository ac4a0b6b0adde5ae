//! Attributes as the core carries them: a PKCS#11 number and a typed value. Values are wiped when dropped and never printed,
//! because any of them may be a key.

use ck::Attribute;
use ck::attribute::{CKA_APPLICATION, CKA_LABEL, Kind as ValueKind};
use zeroize::Zeroizing;

use crate::error::{Kind, Result};

/// The value of one attribute.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// No bytes: an empty value of whatever kind the attribute has.
    Empty,
    /// `CK_BBOOL`.
    Bool(bool),
    /// `CK_ULONG` and its aliases.
    Ulong(u64),
    /// Bytes, big integers (most significant byte first), strings and dates.
    Bytes(Zeroizing<Vec<u8>>),
    /// An array of mechanism numbers.
    Ulongs(Vec<u64>),
    /// An array of attributes.
    Template(Vec<Attr>),
}

impl core::fmt::Debug for Value {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Value(..)")
    }
}

/// One attribute: which one, and its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attr {
    /// The CKA number.
    pub kind: Attribute,
    /// The value.
    pub value: Value,
}

impl Attr {
    /// A boolean attribute.
    pub fn flag(kind: Attribute, value: bool) -> Self {
        Attr { kind, value: Value::Bool(value) }
    }

    /// A number.
    pub fn number(kind: Attribute, value: u64) -> Self {
        Attr { kind, value: Value::Ulong(value) }
    }

    /// Bytes.
    pub fn bytes(kind: Attribute, value: impl Into<Vec<u8>>) -> Self {
        Attr { kind, value: Value::bytes(value) }
    }
}

impl Value {
    /// Bytes; an empty vector is [`Value::Empty`], so that equality does not depend on how "nothing" was written.
    pub fn bytes(value: impl Into<Vec<u8>>) -> Self {
        let value = value.into();
        if value.is_empty() { Value::Empty } else { Value::Bytes(Zeroizing::new(value)) }
    }

    /// The value as bytes, empty for [`Value::Empty`].
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            Value::Empty => Some(&[]),
            _ => None,
        }
    }

    /// The value as a number.
    pub fn as_ulong(&self) -> Option<u64> {
        match self {
            Value::Ulong(number) => Some(*number),
            _ => None,
        }
    }

    /// The value as a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    /// The value in one spelling: no bytes, no numbers and no attributes are all [`Value::Empty`].
    pub(crate) fn normalized(self) -> Self {
        match self {
            Value::Bytes(bytes) if bytes.is_empty() => Value::Empty,
            Value::Ulongs(numbers) if numbers.is_empty() => Value::Empty,
            Value::Template(attrs) if attrs.is_empty() => Value::Empty,
            other => other,
        }
    }

    /// Whether the value has the shape that the attribute's kind demands (PKCS#11 v3.0 §4, data types).
    ///
    /// # Errors
    /// [`Kind::AttributeValue`] when it has not.
    pub(crate) fn check_shape(&self, kind: Attribute) -> Result<()> {
        let fits = match (kind.kind(), self) {
            (ValueKind::Bool, Value::Bool(_)) | (ValueKind::Ulong, Value::Ulong(_)) => true,
            (ValueKind::Bytes | ValueKind::BigInteger, Value::Bytes(_) | Value::Empty) => true,
            // Go's crypto11 makes labels of random bytes, and other modules take them.
            (ValueKind::String, Value::Bytes(_)) if matches!(kind, CKA_LABEL | CKA_APPLICATION) => true,
            (ValueKind::String, Value::Bytes(bytes)) => core::str::from_utf8(bytes).is_ok(),
            (ValueKind::Date, Value::Bytes(bytes)) => bytes.is_empty() || is_date(bytes),
            (ValueKind::String | ValueKind::Date, Value::Empty) => true,
            (ValueKind::Mechanisms, Value::Ulongs(_) | Value::Empty) => true,
            (ValueKind::Template, Value::Template(_) | Value::Empty) => true,
            _ => false,
        };
        if fits { Ok(()) } else { Err(Kind::AttributeValue.into()) }
    }

    /// Length in bytes of the value in a C template, for object sizes.
    pub(crate) fn c_len(&self) -> u64 {
        match self {
            Value::Empty => 0,
            Value::Bool(_) => 1,
            Value::Ulong(_) => 8,
            Value::Bytes(bytes) => bytes.len() as u64,
            Value::Ulongs(numbers) => 8 * numbers.len() as u64,
            Value::Template(attrs) => attrs.iter().map(|attr| 24 + attr.value.c_len()).sum(),
        }
    }
}

/// `CK_DATE`: YYYYMMDD in ASCII digits (PKCS#11 v3.0 §3.4).
fn is_date(bytes: &[u8]) -> bool {
    let digits = bytes.iter().all(u8::is_ascii_digit);
    let two =
        |at: usize| bytes.get(at..at + 2).map(|pair| (pair[0].wrapping_sub(b'0')) * 10 + pair[1].wrapping_sub(b'0'));
    bytes.len() == 8 && digits && matches!((two(4), two(6)), (Some(1..=12), Some(1..=31)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ck::attribute::*;

    #[test]
    fn shapes_follow_the_attribute_kind() {
        let rows: [(Attribute, Value, bool); 11] = [
            (CKA_TOKEN, Value::Bool(true), true),
            (CKA_TOKEN, Value::bytes(vec![1]), false),
            (CKA_CLASS, Value::Ulong(2), true),
            (CKA_LABEL, Value::bytes(b"caf\xc3\xa9".to_vec()), true),
            (CKA_LABEL, Value::bytes(vec![0xff, 0xfe]), true),
            (CKA_URL, Value::bytes(b"caf\xc3\xa9".to_vec()), true),
            (CKA_URL, Value::bytes(vec![0xff, 0xfe]), false),
            (CKA_START_DATE, Value::bytes(b"20261122".to_vec()), true),
            (CKA_START_DATE, Value::bytes(b"20261322".to_vec()), false),
            (CKA_ALLOWED_MECHANISMS, Value::Ulongs(vec![1]), true),
            (CKA_WRAP_TEMPLATE, Value::Ulong(1), false),
        ];
        for (kind, value, fits) in rows {
            assert_eq!(value.check_shape(kind).is_ok(), fits, "{kind}");
        }
    }
}
