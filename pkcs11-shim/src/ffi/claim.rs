//! What a C caller claims about memory, checked once. A claim is a pointer with what the standard says about it; its
//! methods look at it and give safe values, or `CKR_ARGUMENTS_BAD`. No claim outlives the C call that made it.
//!
//! Making a claim is `unsafe`: the caller of the C function vouches for the pointer (PKCS#11 v3.0 section 5.2). Reads and
//! writes are unaligned, because not every caller keeps alignment.
#![expect(unsafe_code, reason = "raw pointers of a C caller become checked values here")]

use std::ffi::c_void;
use std::marker::PhantomData;
use std::{ptr, slice};

use ck::Rv;
use ck::attribute::{Attribute, Kind};
use ck::rv::{CKR_ARGUMENTS_BAD, CKR_ATTRIBUTE_VALUE_INVALID, CKR_BUFFER_TOO_SMALL, CKR_HOST_MEMORY};
use cryptoki_sys::{
    CK_ATTRIBUTE, CK_BBOOL, CK_BYTE, CK_C_INITIALIZE_ARGS, CK_INTERFACE, CK_MECHANISM, CK_ULONG,
    CK_UNAVAILABLE_INFORMATION, CK_VERSION,
};
use hsm_proto::v1::{self, attribute::Value};

use super::parameter::Parameter;

/// The longest template that is looked at; real ones have a few dozen rows.
const MAX_ATTRIBUTES: usize = 1024;
/// Templates inside templates: CKA_WRAP_TEMPLATE and its like, which hold no further template.
const MAX_DEPTH: u8 = 2;
/// The length that says "not available" (PKCS#11 v3.0 section 5.7.5).
const UNAVAILABLE: CK_ULONG = CK_UNAVAILABLE_INFORMATION;

/// The C call in progress: claims borrow it and so cannot be kept.
pub(crate) struct Call(());

impl Call {
    /// Begins a call.
    pub(crate) fn begin() -> Self {
        Call(())
    }
}

/// `len` bytes at `start` that the caller lets us read.
///
/// # Safety
/// While `'c` lasts, `start` is NULL or points at `len` readable bytes.
pub(crate) unsafe fn slice_at<'c>(start: *const u8, len: CK_ULONG) -> Result<&'c [u8], Rv> {
    if len == 0 {
        return Ok(&[]);
    }
    let len = usize::try_from(len).ok().filter(|&len| len <= isize::MAX as usize).ok_or(CKR_ARGUMENTS_BAD)?;
    if start.is_null() || start.addr().checked_add(len).is_none() {
        return Err(CKR_ARGUMENTS_BAD);
    }
    // SAFETY: not NULL, does not wrap, and readable for `len` bytes as the caller of this function guarantees.
    Ok(unsafe { slice::from_raw_parts(start, len) })
}

/// A copy of bytes whose length a caller chose: running out of memory is an answer, not an abort.
pub(crate) fn copied(bytes: &[u8]) -> Result<Vec<u8>, Rv> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| CKR_HOST_MEMORY)?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

// --- numbers ---------------------------------------------------------------------------------------------------------

/// A number by value: a handle, flags, a length.
///
/// # Safety
/// None is needed; the signature is that of the other claims.
pub(crate) unsafe fn number(_call: &Call, value: CK_ULONG) -> u64 {
    value
}

/// A `CK_BBOOL` by value.
///
/// # Safety
/// None is needed; the signature is that of the other claims.
pub(crate) unsafe fn flag(_call: &Call, value: CK_BBOOL) -> bool {
    value != 0
}

// --- bytes in --------------------------------------------------------------------------------------------------------

/// Bytes to read.
#[derive(Clone, Copy)]
pub(crate) struct InBytes<'c> {
    start: *const u8,
    len: CK_ULONG,
    call: PhantomData<&'c Call>,
}

/// Claims bytes to read.
///
/// # Safety
/// While the call lasts, `start` is NULL or points at `len` readable bytes.
pub(crate) unsafe fn bytes(_call: &Call, start: *mut CK_BYTE, len: CK_ULONG) -> InBytes<'_> {
    InBytes { start, len, call: PhantomData }
}

/// Claims the 32 bytes of a token label.
///
/// # Safety
/// While the call lasts, `start` is NULL or points at 32 readable bytes.
pub(crate) unsafe fn label(_call: &Call, start: *mut CK_BYTE) -> InBytes<'_> {
    InBytes { start, len: 32, call: PhantomData }
}

impl<'c> InBytes<'c> {
    /// The same claim from within this room.
    ///
    /// # Safety
    /// As for [`bytes`]; the lifetime is that of the call.
    pub(super) unsafe fn at(start: *const u8, len: CK_ULONG) -> Self {
        InBytes { start, len, call: PhantomData }
    }

    /// Whether the pointer is NULL, whatever the length says.
    pub(crate) fn is_null(&self) -> bool {
        self.start.is_null()
    }

    /// The length that the caller names, before any check.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The bytes.
    ///
    /// # Errors
    /// `CKR_ARGUMENTS_BAD` for NULL with a length, and for a length that no memory has.
    pub(crate) fn get(&self) -> Result<&'c [u8], Rv> {
        // SAFETY: who made the claim vouched for the pointer while the call lasts.
        unsafe { slice_at(self.start, self.len) }
    }

    /// A copy of the bytes.
    ///
    /// # Errors
    /// As [`InBytes::get`], and `CKR_HOST_MEMORY`.
    pub(crate) fn to_vec(self) -> Result<Vec<u8>, Rv> {
        copied(self.get()?)
    }
}

// --- bytes out -------------------------------------------------------------------------------------------------------

/// A buffer with its length, to be filled by the rules of PKCS#11 v3.0 section 5.2.
pub(crate) struct OutBuf<'c> {
    start: *mut u8,
    len: *mut CK_ULONG,
    call: PhantomData<&'c Call>,
}

/// What a caller gives us to write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// NULL: only the length is asked.
    Query,
    /// A buffer of so many bytes.
    Bytes(u64),
}

/// Claims a buffer.
///
/// # Safety
/// While the call lasts, `len` is NULL or points at a `CK_ULONG`, and `start` is NULL or points at `*len` writable bytes.
pub(crate) unsafe fn out(_call: &Call, start: *mut CK_BYTE, len: *mut CK_ULONG) -> OutBuf<'_> {
    OutBuf { start, len, call: PhantomData }
}

impl OutBuf<'_> {
    /// How much room there is.
    ///
    /// # Errors
    /// `CKR_ARGUMENTS_BAD` when there is no place for the length.
    pub(crate) fn room(&self) -> Result<Room, Rv> {
        if self.len.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        if self.start.is_null() {
            return Ok(Room::Query);
        }
        // SAFETY: not NULL, and the maker of the claim vouched for it.
        Ok(Room::Bytes(unsafe { self.len.read_unaligned() }))
    }

    /// Says how long the output is or would be.
    pub(crate) fn set_len(&mut self, len: u64) {
        if !self.len.is_null() {
            // SAFETY: not NULL, and the maker of the claim vouched for it.
            unsafe { self.len.write_unaligned(len) }
        }
    }

    /// Copies the output and sets its length; a NULL buffer gets the length only.
    ///
    /// # Errors
    /// `CKR_BUFFER_TOO_SMALL`, with the length set; `CKR_ARGUMENTS_BAD`.
    pub(crate) fn put(&mut self, output: &[u8]) -> Result<(), Rv> {
        let room = self.room()?;
        self.set_len(output.len() as u64);
        match room {
            Room::Query => Ok(()),
            Room::Bytes(capacity) if (output.len() as u64) <= capacity => {
                // SAFETY: the buffer has `capacity` writable bytes, as the maker of the claim vouched; `output` is ours.
                unsafe { ptr::copy_nonoverlapping(output.as_ptr(), self.start, output.len()) }
                Ok(())
            }
            Room::Bytes(_) => Err(CKR_BUFFER_TOO_SMALL),
        }
    }
}

/// A buffer of a fixed length that is always filled (C_GenerateRandom).
pub(crate) struct OutExact<'c> {
    start: *mut u8,
    len: CK_ULONG,
    call: PhantomData<&'c Call>,
}

/// Claims a buffer that will be filled.
///
/// # Safety
/// While the call lasts, `start` is NULL or points at `len` writable bytes.
pub(crate) unsafe fn exact(_call: &Call, start: *mut CK_BYTE, len: CK_ULONG) -> OutExact<'_> {
    OutExact { start, len, call: PhantomData }
}

impl OutExact<'_> {
    /// The bytes that are wanted.
    ///
    /// # Errors
    /// `CKR_ARGUMENTS_BAD` for NULL with a length, and for a length that no memory has.
    pub(crate) fn wanted(&self) -> Result<u64, Rv> {
        // SAFETY: the claim covers reading too; the slice is not kept.
        unsafe { slice_at(self.start, self.len) }.map(|slice| slice.len() as u64)
    }

    /// Writes `piece` at `offset`; what does not fit is refused.
    ///
    /// # Errors
    /// `CKR_ARGUMENTS_BAD`.
    pub(crate) fn put_at(&mut self, offset: u64, piece: &[u8]) -> Result<(), Rv> {
        let end = offset.checked_add(piece.len() as u64).ok_or(CKR_ARGUMENTS_BAD)?;
        if end > self.wanted()? {
            return Err(CKR_ARGUMENTS_BAD);
        }
        // SAFETY: offset + length lies within the claimed buffer, checked above, so the offset fits a usize.
        unsafe { ptr::copy_nonoverlapping(piece.as_ptr(), self.start.add(offset as usize), piece.len()) }
        Ok(())
    }
}

// --- single values and lists out -------------------------------------------------------------------------------------

/// A place for one value: a handle, a structure.
pub(crate) struct Out<'c, T> {
    place: *mut T,
    call: PhantomData<&'c Call>,
}

/// A place that is there.
pub(crate) struct Place<'c, T>(Out<'c, T>);

/// Claims a place for one value.
///
/// # Safety
/// While the call lasts, `place` is NULL or points at room for a `T`.
pub(crate) unsafe fn place<T: Copy>(_call: &Call, place: *mut T) -> Out<'_, T> {
    Out { place, call: PhantomData }
}

impl<'c, T: Copy> Out<'c, T> {
    /// The place, if there is one: asked before anything is done whose result could not be handed over.
    ///
    /// # Errors
    /// `CKR_ARGUMENTS_BAD` for NULL.
    pub(crate) fn there(self) -> Result<Place<'c, T>, Rv> {
        if self.place.is_null() { Err(CKR_ARGUMENTS_BAD) } else { Ok(Place(self)) }
    }
}

impl<T: Copy> Place<'_, T> {
    /// Hands the value over.
    pub(crate) fn put(self, value: T) {
        // SAFETY: not NULL (checked by `there`), and the maker of the claim vouched for the place.
        unsafe { self.0.place.write_unaligned(value) }
    }
}

/// A list of numbers with its length in elements (C_GetSlotList, C_GetMechanismList).
pub(crate) struct OutList<'c> {
    start: *mut CK_ULONG,
    count: *mut CK_ULONG,
    call: PhantomData<&'c Call>,
}

/// Claims a list.
///
/// # Safety
/// While the call lasts, `count` is NULL or points at a `CK_ULONG`, and `start` is NULL or at room for `*count` numbers.
pub(crate) unsafe fn list(_call: &Call, start: *mut CK_ULONG, count: *mut CK_ULONG) -> OutList<'_> {
    OutList { start, count, call: PhantomData }
}

impl OutList<'_> {
    /// Whether only the number of elements is asked.
    ///
    /// # Errors
    /// `CKR_ARGUMENTS_BAD` when there is no place for the number.
    pub(crate) fn is_query(&self) -> Result<bool, Rv> {
        if self.count.is_null() { Err(CKR_ARGUMENTS_BAD) } else { Ok(self.start.is_null()) }
    }

    /// Writes the list and its length, or only the length.
    ///
    /// # Errors
    /// `CKR_BUFFER_TOO_SMALL` with the length set; `CKR_ARGUMENTS_BAD`.
    pub(crate) fn put(self, values: &[u64]) -> Result<(), Rv> {
        let query = self.is_query()?;
        // SAFETY: `count` is not NULL (checked by `is_query`), and the maker of the claim vouched for it.
        let room = unsafe { self.count.read_unaligned() };
        // SAFETY: as above.
        unsafe { self.count.write_unaligned(values.len() as u64) };
        if query {
            return Ok(());
        }
        if room < values.len() as u64 {
            return Err(CKR_BUFFER_TOO_SMALL);
        }
        for (index, value) in values.iter().enumerate() {
            // SAFETY: `index` is below `room`, the number of elements that the maker of the claim vouched for.
            unsafe { self.start.add(index).write_unaligned(*value) };
        }
        Ok(())
    }
}

/// Room for at most `max` handles, and a place for how many there are (C_FindObjects).
pub(crate) struct OutHandles<'c> {
    start: *mut CK_ULONG,
    max: CK_ULONG,
    count: *mut CK_ULONG,
    call: PhantomData<&'c Call>,
}

/// Claims room for handles.
///
/// # Safety
/// While the call lasts, `start` is NULL or points at room for `max` numbers, and `count` is NULL or at a `CK_ULONG`.
pub(crate) unsafe fn handles(
    _call: &Call,
    start: *mut CK_ULONG,
    max: CK_ULONG,
    count: *mut CK_ULONG,
) -> OutHandles<'_> {
    OutHandles { start, max, count, call: PhantomData }
}

impl OutHandles<'_> {
    /// How many handles fit.
    ///
    /// # Errors
    /// `CKR_ARGUMENTS_BAD` for NULL where room is named, or without a place for the number.
    pub(crate) fn room(&self) -> Result<usize, Rv> {
        if self.count.is_null() || (self.start.is_null() && self.max > 0) {
            return Err(CKR_ARGUMENTS_BAD);
        }
        Ok(usize::try_from(self.max).unwrap_or(usize::MAX))
    }

    /// Writes the handles and their number.
    ///
    /// # Errors
    /// `CKR_ARGUMENTS_BAD` when they do not fit.
    pub(crate) fn put(self, values: &[u64]) -> Result<(), Rv> {
        if values.len() > self.room()? {
            return Err(CKR_ARGUMENTS_BAD);
        }
        for (index, value) in values.iter().enumerate() {
            // SAFETY: `index` is below `max`, the number of elements that the maker of the claim vouched for.
            unsafe { self.start.add(index).write_unaligned(*value) };
        }
        // SAFETY: not NULL (checked by `room`), and the maker of the claim vouched for it.
        unsafe { self.count.write_unaligned(values.len() as u64) };
        Ok(())
    }
}

// --- templates -------------------------------------------------------------------------------------------------------

/// A template: attributes to read (create, find, set) or to fill (get).
pub(crate) struct Template<'c> {
    start: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    call: PhantomData<&'c Call>,
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
        self.read_nested(0)
    }

    fn read_nested(&self, depth: u8) -> Result<v1::Template, Rv> {
        let count = self.count()?;
        let mut attributes = Vec::with_capacity(count);
        for index in 0..count {
            let row = self.row(index);
            // SAFETY: the maker of the claim vouched for the value of every row.
            let value = unsafe { value_at(Attribute(row.type_), row.pValue.cast(), row.ulValueLen, depth)? };
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
unsafe fn value_at(attribute: Attribute, start: *const u8, len: CK_ULONG, depth: u8) -> Result<Value, Rv> {
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
            Value::Template(inner.read_nested(depth + 1)?)
        }
        Kind::Date if !matches!(bytes.len(), 0 | 8) => return Err(CKR_ATTRIBUTE_VALUE_INVALID),
        Kind::Date | Kind::Bytes | Kind::BigInteger | Kind::String => Value::Bytes(copied(bytes)?),
    })
}

fn ulong(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_ne_bytes)
}

// --- mechanism -------------------------------------------------------------------------------------------------------

/// A mechanism, or NULL.
pub(crate) struct InMechanism<'c> {
    place: *const CK_MECHANISM,
    call: PhantomData<&'c Call>,
}

/// Claims a mechanism.
///
/// # Safety
/// While the call lasts, `place` is NULL or points at a mechanism whose parameter is NULL or points at as many bytes as
/// its length says, and the pointers within the parameter keep what its structure says.
pub(crate) unsafe fn mechanism(_call: &Call, place: *mut CK_MECHANISM) -> InMechanism<'_> {
    InMechanism { place, call: PhantomData }
}

impl<'c> InMechanism<'c> {
    /// The mechanism's number and parameter; `None` for NULL.
    pub(crate) fn get(&self) -> Option<(u64, Parameter<'c>)> {
        if self.place.is_null() {
            return None;
        }
        // SAFETY: not NULL, and the maker of the claim vouched for it.
        let raw = unsafe { self.place.read_unaligned() };
        // SAFETY: as above; the parameter is part of the claim.
        Some((raw.mechanism, unsafe { Parameter::at(raw.pParameter.cast(), raw.ulParameterLen) }))
    }
}

// --- the rest --------------------------------------------------------------------------------------------------------

/// The arguments of C_Initialize and C_Finalize.
pub(crate) struct InitArgs<'c> {
    place: *const c_void,
    call: PhantomData<&'c Call>,
}

/// Claims initialisation arguments.
///
/// # Safety
/// While the call lasts, `place` is NULL or points at a `CK_C_INITIALIZE_ARGS`.
pub(crate) unsafe fn init_args(_call: &Call, place: *mut c_void) -> InitArgs<'_> {
    InitArgs { place, call: PhantomData }
}

impl InitArgs<'_> {
    /// Whether there are none.
    pub(crate) fn is_null(&self) -> bool {
        self.place.is_null()
    }

    /// Whether the arguments are such as the standard allows: no reserved pointer, and all callbacks or none.
    ///
    /// # Errors
    /// `CKR_ARGUMENTS_BAD`.
    pub(crate) fn check(&self) -> Result<(), Rv> {
        if self.place.is_null() {
            return Ok(());
        }
        // SAFETY: not NULL, and the maker of the claim vouched for it. The reserved pointer is never followed.
        let args = unsafe { self.place.cast::<CK_C_INITIALIZE_ARGS>().read_unaligned() };
        let callbacks = [
            args.CreateMutex.is_some(),
            args.DestroyMutex.is_some(),
            args.LockMutex.is_some(),
            args.UnlockMutex.is_some(),
        ];
        let some = callbacks.contains(&true);
        let all = !callbacks.contains(&false);
        if !args.pReserved.is_null() || (some && !all) { Err(CKR_ARGUMENTS_BAD) } else { Ok(()) }
    }
}

/// The name and version that C_GetInterface asks for.
pub(crate) struct Wanted<'c> {
    name: *const CK_BYTE,
    version: *const CK_VERSION,
    call: PhantomData<&'c Call>,
}

/// Claims the name and version of an interface.
///
/// # Safety
/// While the call lasts, `name` is NULL or a NUL-terminated string and `version` is NULL or points at a `CK_VERSION`.
pub(crate) unsafe fn wanted(_call: &Call, name: *mut CK_BYTE, version: *mut CK_VERSION) -> Wanted<'_> {
    Wanted { name, version, call: PhantomData }
}

impl Wanted<'_> {
    /// Whether the interface is called so; a caller that names none takes any.
    pub(crate) fn is_named(&self, name: &std::ffi::CStr) -> bool {
        if self.name.is_null() {
            return true;
        }
        // SAFETY: reading stops at the first byte that differs, at the latest at the terminator that the caller vouched for.
        name.to_bytes_with_nul().iter().enumerate().all(|(at, byte)| unsafe { *self.name.add(at) } == *byte)
    }

    /// The version that is asked for.
    pub(crate) fn version(&self) -> Option<CK_VERSION> {
        // SAFETY: NULL or a version, as the maker of the claim vouched.
        (!self.version.is_null()).then(|| unsafe { self.version.read_unaligned() })
    }
}

/// A list of interfaces with its length.
pub(crate) struct OutInterfaces<'c> {
    start: *mut CK_INTERFACE,
    count: *mut CK_ULONG,
    call: PhantomData<&'c Call>,
}

/// Claims a list of interfaces.
///
/// # Safety
/// While the call lasts, `count` is NULL or points at a `CK_ULONG`, and `start` is NULL or at room for `*count` of them.
pub(crate) unsafe fn interfaces(_call: &Call, start: *mut CK_INTERFACE, count: *mut CK_ULONG) -> OutInterfaces<'_> {
    OutInterfaces { start, count, call: PhantomData }
}

impl OutInterfaces<'_> {
    /// Writes the list and its length, or only the length.
    ///
    /// # Errors
    /// `CKR_BUFFER_TOO_SMALL` with the length set; `CKR_ARGUMENTS_BAD`.
    pub(crate) fn put(self, values: &[CK_INTERFACE]) -> Result<(), Rv> {
        if self.count.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        // SAFETY: not NULL, and the maker of the claim vouched for it.
        let room = unsafe { self.count.read_unaligned() };
        // SAFETY: as above.
        unsafe { self.count.write_unaligned(values.len() as u64) };
        if self.start.is_null() {
            return Ok(());
        }
        if room < values.len() as u64 {
            return Err(CKR_BUFFER_TOO_SMALL);
        }
        for (index, value) in values.iter().enumerate() {
            // SAFETY: `index` is below `room`, the number of elements that the maker of the claim vouched for.
            unsafe { self.start.add(index).write_unaligned(*value) };
        }
        Ok(())
    }
}

/// Claims over Rust references, which keep every promise: the handlers' tests are safe code.
#[cfg(test)]
pub(crate) mod over {
    use super::*;

    pub(crate) fn bytes(bytes: &[u8]) -> InBytes<'_> {
        InBytes { start: bytes.as_ptr(), len: bytes.len() as u64, call: PhantomData }
    }

    pub(crate) fn no_bytes(len: u64) -> InBytes<'static> {
        InBytes { start: ptr::null(), len, call: PhantomData }
    }

    pub(crate) fn buffer<'c>(buffer: &'c mut [u8], len: &'c mut u64) -> OutBuf<'c> {
        *len = buffer.len() as u64;
        OutBuf { start: buffer.as_mut_ptr(), len, call: PhantomData }
    }

    pub(crate) fn query(len: &mut u64) -> OutBuf<'_> {
        OutBuf { start: ptr::null_mut(), len, call: PhantomData }
    }

    pub(crate) fn nowhere() -> OutBuf<'static> {
        OutBuf { start: ptr::null_mut(), len: ptr::null_mut(), call: PhantomData }
    }

    pub(crate) fn exact(buffer: &mut [u8]) -> OutExact<'_> {
        OutExact { start: buffer.as_mut_ptr(), len: buffer.len() as u64, call: PhantomData }
    }

    pub(crate) fn place<T: Copy>(place: &mut T) -> Out<'_, T> {
        Out { place, call: PhantomData }
    }

    pub(crate) fn list<'c>(list: &'c mut [u64], count: &'c mut u64) -> OutList<'c> {
        *count = list.len() as u64;
        OutList { start: list.as_mut_ptr(), count, call: PhantomData }
    }

    pub(crate) fn count(count: &mut u64) -> OutList<'_> {
        OutList { start: ptr::null_mut(), count, call: PhantomData }
    }

    /// Rows without buffers: a length query, or an empty search template.
    pub(crate) fn rows(rows: &mut [CK_ATTRIBUTE]) -> Template<'_> {
        assert!(rows.iter().all(|row| row.pValue.is_null()), "only NULL values are safe here");
        Template { start: rows.as_mut_ptr(), count: rows.len() as u64, call: PhantomData }
    }

    pub(crate) fn row(kind: Attribute) -> CK_ATTRIBUTE {
        CK_ATTRIBUTE { type_: kind.0, pValue: ptr::null_mut(), ulValueLen: 0 }
    }

    /// A mechanism without a parameter.
    pub(crate) fn mechanism(mechanism: &CK_MECHANISM) -> InMechanism<'_> {
        assert!(mechanism.pParameter.is_null(), "only NULL parameters are safe here");
        InMechanism { place: mechanism, call: PhantomData }
    }

    pub(crate) fn plain(number: ck::Mechanism) -> CK_MECHANISM {
        CK_MECHANISM { mechanism: number.0, pParameter: ptr::null_mut(), ulParameterLen: 0 }
    }

    pub(crate) fn no_mechanism() -> InMechanism<'static> {
        InMechanism { place: ptr::null(), call: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ck::attribute::*;

    fn attribute(kind: Attribute, value: &mut [u8]) -> CK_ATTRIBUTE {
        CK_ATTRIBUTE { type_: kind.0, pValue: value.as_mut_ptr().cast(), ulValueLen: value.len() as u64 }
    }

    #[test]
    fn null_and_absurd_lengths_are_bad_arguments() {
        let call = Call::begin();
        let mut byte = 7u8;
        let rows: [(*mut u8, u64, bool); 5] = [
            (ptr::null_mut(), 0, true),
            (ptr::null_mut(), 1, false),
            (&raw mut byte, 1, true),
            (&raw mut byte, u64::MAX, false),
            (&raw mut byte, 1 << 63, false),
        ];
        for (start, len, fine) in rows {
            // SAFETY: the lengths that are wrong are refused before anything is read.
            assert_eq!(unsafe { bytes(&call, start, len) }.get().is_ok(), fine, "{start:?} {len}");
        }
    }

    #[test]
    fn an_out_buffer_answers_query_too_small_and_fits() {
        let call = Call::begin();
        let (mut buffer, mut len) = ([0u8; 4], 0u64);
        // SAFETY: pointers of this function, with their true lengths.
        unsafe {
            assert_eq!(out(&call, ptr::null_mut(), ptr::null_mut()).room(), Err(CKR_ARGUMENTS_BAD));
            assert_eq!(out(&call, ptr::null_mut(), &raw mut len).put(b"abc"), Ok(()));
            assert_eq!(len, 3);
            len = 2;
            assert_eq!(out(&call, buffer.as_mut_ptr(), &raw mut len).put(b"abc"), Err(CKR_BUFFER_TOO_SMALL));
            assert_eq!((len, buffer), (3, [0; 4]));
            len = 4;
            assert_eq!(out(&call, buffer.as_mut_ptr(), &raw mut len).put(b"abc"), Ok(()));
        }
        assert_eq!((len, &buffer), (3, b"abc\0"));
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
    fn a_null_value_with_a_length_is_an_invalid_value() {
        let call = Call::begin();
        let mut row = CK_ATTRIBUTE { type_: CKA_LABEL.0, pValue: ptr::null_mut(), ulValueLen: 5 };
        // SAFETY: one row; its NULL value is what is tested.
        assert_eq!(unsafe { template(&call, &raw mut row, 1) }.read().err(), Some(CKR_ATTRIBUTE_VALUE_INVALID));
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

    #[test]
    fn a_list_answers_query_too_small_and_fits() {
        let call = Call::begin();
        let (mut place, mut count) = ([0u64; 2], 0u64);
        // SAFETY: pointers of this function, with their true lengths.
        unsafe {
            assert_eq!(list(&call, ptr::null_mut(), &raw mut count).put(&[5, 6]), Ok(()));
            assert_eq!(count, 2);
            count = 1;
            assert_eq!(list(&call, place.as_mut_ptr(), &raw mut count).put(&[5, 6]), Err(CKR_BUFFER_TOO_SMALL));
            assert_eq!(count, 2);
            assert_eq!(list(&call, place.as_mut_ptr(), &raw mut count).put(&[5, 6]), Ok(()));
            assert_eq!(list(&call, place.as_mut_ptr(), ptr::null_mut()).put(&[]), Err(CKR_ARGUMENTS_BAD));
        }
        assert_eq!(place, [5, 6]);
    }

    #[test]
    fn initialisation_takes_all_callbacks_or_none_and_no_reserved_pointer() {
        unsafe extern "C" fn mutex(_: *mut c_void) -> u64 {
            0
        }
        unsafe extern "C" fn create(_: *mut *mut c_void) -> u64 {
            0
        }
        let none = CK_C_INITIALIZE_ARGS {
            CreateMutex: None,
            DestroyMutex: None,
            LockMutex: None,
            UnlockMutex: None,
            flags: 0,
            pReserved: ptr::null_mut(),
        };
        let all = CK_C_INITIALIZE_ARGS {
            CreateMutex: Some(create),
            DestroyMutex: Some(mutex),
            LockMutex: Some(mutex),
            UnlockMutex: Some(mutex),
            ..none
        };
        let mut anything = 1u8;
        let rows = [
            (none, true),
            (all, true),
            (CK_C_INITIALIZE_ARGS { flags: 3, ..none }, true),
            (CK_C_INITIALIZE_ARGS { flags: 3, ..all }, true),
            (CK_C_INITIALIZE_ARGS { LockMutex: None, ..all }, false),
            (CK_C_INITIALIZE_ARGS { LockMutex: Some(mutex), ..none }, false),
            (CK_C_INITIALIZE_ARGS { pReserved: (&raw mut anything).cast(), ..none }, false),
        ];
        for (number, (mut args, fine)) in rows.into_iter().enumerate() {
            let call = Call::begin();
            // SAFETY: a structure of this function.
            let claim = unsafe { init_args(&call, (&raw mut args).cast()) };
            assert_eq!(claim.check().is_ok(), fine, "row {number}");
        }
    }
}
