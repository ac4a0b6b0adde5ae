//! Templates: attributes to read (create, find, set) or to fill (get), with arrays of attributes inside.
#![expect(unsafe_code, reason = "raw pointers of a C caller become checked values here")]

use std::marker::PhantomData;
use std::ptr;

use ck::Rv;
use ck::attribute::{Attribute, Kind};
use ck::rv::{CKR_ARGUMENTS_BAD, CKR_ATTRIBUTE_VALUE_INVALID, CKR_BUFFER_TOO_SMALL};
use cryptoki_sys::{CK_ATTRIBUTE, CK_ULONG, CK_UNAVAILABLE_INFORMATION};
use hsm_proto::frame::MAX_BODY;
use hsm_proto::v1::{self, attribute::Value};

use super::{Call, copied, slice_at};

/// The longest template that is looked at; real ones have a few dozen rows.
const MAX_ATTRIBUTES: usize = 1024;
/// The most bytes that all values have together: no message can carry more. A length that was never set is mostly a huge one.
const MAX_VALUE: CK_ULONG = MAX_BODY as CK_ULONG;
/// Templates inside templates: CKA_WRAP_TEMPLATE and its like, which hold no further template.
const MAX_DEPTH: u8 = 2;
/// The length that says "not available" (PKCS#11 v3.0 section 5.7.5).
const UNAVAILABLE: CK_ULONG = CK_UNAVAILABLE_INFORMATION;

/// A template: attributes to read (create, find, set) or to fill (get).
pub(crate) struct Template<'c> {
    pub(super) start: *mut CK_ATTRIBUTE,
    pub(super) count: CK_ULONG,
    pub(super) call: PhantomData<&'c Call>,
}

/// Claims a template.
///
/// # Safety
/// While the call lasts, `start` is NULL or points at `count` attributes, the value of each is NULL or points at as many
/// bytes as its length says, and the same holds for the attributes of array attributes.
pub(crate) unsafe fn template(_call: &Call, start: *mut CK_ATTRIBUTE, count: CK_ULONG) -> Template<'_> {
    Template { start, count, call: PhantomData }
}

impl Template<'_> {
    /// The same claim from within this room.
    ///
    /// # Safety
    /// As for [`template`]; the lifetime is that of the call.
    pub(in crate::ffi) unsafe fn at(start: *mut CK_ATTRIBUTE, count: CK_ULONG) -> Self {
        Template { start, count, call: PhantomData }
    }

    fn count(&self) -> Result<usize, Rv> {
        let count =
            usize::try_from(self.count).ok().filter(|&count| count <= MAX_ATTRIBUTES).ok_or(CKR_ARGUMENTS_BAD)?;
        if count > 0 && self.start.is_null() { Err(CKR_ARGUMENTS_BAD) } else { Ok(count) }
    }

    fn row(&self, index: usize) -> CK_ATTRIBUTE {
        // SAFETY: every caller in this file takes `index` below `count()`, which has checked the pointer.
        unsafe { self.start.add(index).read_unaligned() }
    }

    fn set_row_len(&mut self, index: usize, len: CK_ULONG) {
        // SAFETY: as for `row`; the field is written in place, nothing else of the row changes.
        unsafe { (&raw mut (*self.start.add(index)).ulValueLen).write_unaligned(len) }
    }

    /// The attributes with their values.
    ///
    /// # Errors
    /// `CKR_ARGUMENTS_BAD` for NULL or an absurd count, `CKR_ATTRIBUTE_VALUE_INVALID` for a value that is not of its
    /// attribute's kind, `CKR_HOST_MEMORY`.
    pub(crate) fn read(&self) -> Result<v1::Template, Rv> {
        self.read_nested(0, &mut { MAX_VALUE })
    }

    /// `left`: how many bytes the values may still have together.
    fn read_nested(&self, depth: u8, left: &mut CK_ULONG) -> Result<v1::Template, Rv> {
        let count = self.count()?;
        let mut attributes = Vec::with_capacity(count);
        for index in 0..count {
            let row = self.row(index);
            // SAFETY: the maker of the claim vouched for the value of every row.
            let value = unsafe { value_at(Attribute(row.type_), row.pValue.cast(), row.ulValueLen, depth, left)? };
            attributes.push(v1::Attribute { r#type: row.type_, value: Some(value) });
        }
        Ok(v1::Template { attributes })
    }

    /// The attribute types in the order of the rows.
    ///
    /// # Errors
    /// `CKR_ARGUMENTS_BAD` for NULL or an absurd count.
    pub(crate) fn types(&self) -> Result<Vec<u64>, Rv> {
        Ok((0..self.count()?).map(|index| self.row(index).type_).collect())
    }

    /// Fills row `index`; `None` is an attribute that cannot be had.
    ///
    /// # Errors
    /// `CKR_BUFFER_TOO_SMALL` with the length set to "not available" (PKCS#11 v3.0 section 5.7.5, rule 4), and
    /// `CKR_ARGUMENTS_BAD` for a row that is not there.
    pub(crate) fn put(&mut self, index: usize, value: Option<&Value>) -> Result<(), Rv> {
        if index >= self.count()? {
            return Err(CKR_ARGUMENTS_BAD);
        }
        let Some(value) = value else {
            self.set_row_len(index, UNAVAILABLE);
            return Ok(());
        };
        if let Value::Template(inner) = value {
            return self.put_template(index, inner);
        }
        let bytes = encoded(value);
        let row = self.row(index);
        if !row.pValue.is_null() && row.ulValueLen < bytes.len() as u64 {
            self.set_row_len(index, UNAVAILABLE);
            return Err(CKR_BUFFER_TOO_SMALL);
        }
        if !row.pValue.is_null() {
            // SAFETY: the row's buffer has at least `bytes.len()` writable bytes, as the maker of the claim vouched.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), row.pValue.cast::<u8>(), bytes.len()) }
        }
        self.set_row_len(index, bytes.len() as u64);
        Ok(())
    }

    /// An array of attributes: the outer length counts the array itself, each inner row is filled like any other.
    fn put_template(&mut self, index: usize, inner: &v1::Template) -> Result<(), Rv> {
        let needed = (inner.attributes.len() * size_of::<CK_ATTRIBUTE>()) as u64;
        let row = self.row(index);
        if row.pValue.is_null() {
            self.set_row_len(index, needed);
            return Ok(());
        }
        if row.ulValueLen < needed {
            self.set_row_len(index, UNAVAILABLE);
            return Err(CKR_BUFFER_TOO_SMALL);
        }
        self.set_row_len(index, needed);
        let count = inner.attributes.len() as u64;
        let mut rows = Template { start: row.pValue.cast(), count, call: PhantomData };
        let mut outcome = Ok(());
        for (place, attribute) in inner.attributes.iter().enumerate() {
            // SAFETY: the array has room for `count` rows (checked above); only the type is written.
            unsafe { (&raw mut (*rows.start.add(place)).type_).write_unaligned(attribute.r#type) };
            let bytes = attribute.value.as_ref().map_or_else(Vec::new, encoded);
            outcome = outcome.and(rows.put(place, Some(&Value::Bytes(bytes))));
        }
        outcome
    }
}

/// A value as C sees it; an array of attributes is not one block and has its own way.
fn encoded(value: &Value) -> Vec<u8> {
    match value {
        Value::Flag(flag) => vec![u8::from(*flag)],
        Value::Number(number) => number.to_ne_bytes().to_vec(),
        Value::Bytes(bytes) => bytes.clone(),
        Value::Numbers(numbers) => numbers.values.iter().flat_map(|number| number.to_ne_bytes()).collect(),
        Value::Template(_) => Vec::new(),
    }
}

/// The typed value of an attribute.
///
/// # Safety
/// `start` is NULL or points at `len` readable bytes; for an array of attributes the same holds for each of its rows.
unsafe fn value_at(
    attribute: Attribute,
    start: *const u8,
    len: CK_ULONG,
    depth: u8,
    left: &mut CK_ULONG,
) -> Result<Value, Rv> {
    *left = left.checked_sub(len).ok_or(CKR_ATTRIBUTE_VALUE_INVALID)?;
    // SAFETY: passed on.
    let bytes = unsafe { slice_at(start, len) }.map_err(|_| CKR_ATTRIBUTE_VALUE_INVALID)?;
    Ok(match attribute.kind() {
        Kind::Bool => match bytes {
            [flag] => Value::Flag(*flag != 0),
            _ => return Err(CKR_ATTRIBUTE_VALUE_INVALID),
        },
        Kind::Ulong => Value::Number(ulong(bytes).ok_or(CKR_ATTRIBUTE_VALUE_INVALID)?),
        Kind::Mechanisms => {
            let (numbers, rest) = bytes.as_chunks::<8>();
            if !rest.is_empty() {
                return Err(CKR_ATTRIBUTE_VALUE_INVALID);
            }
            let values = numbers.iter().map(|number| u64::from_ne_bytes(*number)).collect();
            Value::Numbers(v1::Numbers { values })
        }
        Kind::Template => {
            if depth + 1 >= MAX_DEPTH || bytes.len() % size_of::<CK_ATTRIBUTE>() != 0 {
                return Err(CKR_ATTRIBUTE_VALUE_INVALID);
            }
            let count = (bytes.len() / size_of::<CK_ATTRIBUTE>()) as u64;
            let inner = Template { start: start.cast_mut().cast(), count, call: PhantomData };
            Value::Template(inner.read_nested(depth + 1, left)?)
        }
        Kind::Date if !matches!(bytes.len(), 0 | 8) => return Err(CKR_ATTRIBUTE_VALUE_INVALID),
        Kind::Date | Kind::Bytes | Kind::BigInteger | Kind::String => Value::Bytes(copied(bytes)?),
    })
}

fn ulong(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ck::attribute::*;

    fn attribute(kind: Attribute, value: &mut [u8]) -> CK_ATTRIBUTE {
        CK_ATTRIBUTE { type_: kind.0, pValue: value.as_mut_ptr().cast(), ulValueLen: value.len() as u64 }
    }

    #[test]
    fn values_must_have_the_length_of_their_kind() {
        let call = Call::begin();
        let rows: [(Attribute, usize, bool); 9] = [
            (CKA_TOKEN, 1, true),
            (CKA_TOKEN, 0, false),
            (CKA_TOKEN, 8, false),
            (CKA_CLASS, 8, true),
            (CKA_CLASS, 4, false),
            (CKA_ALLOWED_MECHANISMS, 16, true),
            (CKA_ALLOWED_MECHANISMS, 12, false),
            (CKA_START_DATE, 8, true),
            (CKA_START_DATE, 7, false),
        ];
        for (kind, len, fine) in rows {
            let mut value = vec![1u8; len];
            let mut row = attribute(kind, &mut value);
            // SAFETY: one row with its true length.
            let read = unsafe { template(&call, &raw mut row, 1) }.read();
            assert_eq!(read.is_ok(), fine, "{kind} {len}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_there_is_invalid() {
        let call = Call::begin();
        let mut row = CK_ATTRIBUTE { type_: CKA_LABEL.0, pValue: ptr::null_mut(), ulValueLen: 5 };
        // SAFETY: one row; its NULL value is what is tested.
        assert_eq!(unsafe { template(&call, &raw mut row, 1) }.read().err(), Some(CKR_ATTRIBUTE_VALUE_INVALID));
        let mut huge =
            CK_ATTRIBUTE { type_: CKA_MODULUS.0, pValue: (&raw mut row).cast(), ulValueLen: u64::from(u32::MAX) };
        // SAFETY: the length is not true, and nothing may be read for that reason.
        assert_eq!(unsafe { template(&call, &raw mut huge, 1) }.read().err(), Some(CKR_ATTRIBUTE_VALUE_INVALID));
        // SAFETY: NULL and absurd counts are refused before anything is read.
        unsafe {
            assert_eq!(template(&call, ptr::null_mut(), 1).read().err(), Some(CKR_ARGUMENTS_BAD));
            assert_eq!(template(&call, &raw mut row, u64::MAX).types().err(), Some(CKR_ARGUMENTS_BAD));
        }
    }

    #[test]
    fn templates_inside_templates_go_in_and_out() {
        let call = Call::begin();
        let mut flag = [1u8];
        let mut inner = [attribute(CKA_ENCRYPT, &mut flag)];
        let mut outer = CK_ATTRIBUTE { type_: CKA_WRAP_TEMPLATE.0, pValue: inner.as_mut_ptr().cast(), ulValueLen: 24 };
        // SAFETY: one row, whose value is one row.
        let read = unsafe { template(&call, &raw mut outer, 1) }.read().expect("well formed");
        let value = read.attributes[0].value.clone().expect("set");
        let Value::Template(held) = &value else { panic!("not a template") };
        assert!(held.attributes[0].value == Some(Value::Flag(true)));

        flag = [9];
        let mut back = [CK_ATTRIBUTE { type_: 0, pValue: flag.as_mut_ptr().cast(), ulValueLen: 1 }];
        let mut row = CK_ATTRIBUTE { type_: CKA_WRAP_TEMPLATE.0, pValue: back.as_mut_ptr().cast(), ulValueLen: 24 };
        // SAFETY: as above.
        unsafe { template(&call, &raw mut row, 1) }.put(0, Some(&value)).expect("fits");
        assert_eq!((row.ulValueLen, back[0].type_, flag), (24, CKA_ENCRYPT.0, [1]));
        outer.pValue = ptr::null_mut();
        // SAFETY: a length query.
        unsafe { template(&call, &raw mut outer, 1) }.put(0, Some(&value)).expect("a query");
        assert_eq!(outer.ulValueLen, 24);
    }

    #[test]
    fn a_short_row_says_unavailable_and_the_others_are_filled() {
        let call = Call::begin();
        let (mut short, mut long) = ([0u8; 2], [0u8; 8]);
        let mut rows = [attribute(CKA_LABEL, &mut short), attribute(CKA_CLASS, &mut long)];
        // SAFETY: two rows with their true lengths.
        let mut claim = unsafe { template(&call, rows.as_mut_ptr(), 2) };
        assert_eq!(claim.put(0, Some(&Value::Bytes(b"label".to_vec()))), Err(CKR_BUFFER_TOO_SMALL));
        assert_eq!(claim.put(1, Some(&Value::Number(3))), Ok(()));
        assert_eq!(claim.put(2, None), Err(CKR_ARGUMENTS_BAD));
        assert_eq!((rows[0].ulValueLen, rows[1].ulValueLen, long), (UNAVAILABLE, 8, 3u64.to_ne_bytes()));
    }
}
