//! Places for single values and for lists.
#![expect(unsafe_code, reason = "raw pointers of a C caller become checked values here")]

use std::marker::PhantomData;

use ck::Rv;
use ck::rv::{CKR_ARGUMENTS_BAD, CKR_BUFFER_TOO_SMALL};
use cryptoki_sys::{CK_INTERFACE, CK_ULONG};

use super::Call;

/// A place for one value: a handle, a structure.
pub(crate) struct Out<'c, T> {
    pub(super) place: *mut T,
    pub(super) call: PhantomData<&'c Call>,
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
    /// The same claim from within this room.
    ///
    /// # Safety
    /// As for [`place`]; the lifetime is that of the call.
    pub(in crate::ffi) unsafe fn at(place: *mut T) -> Self {
        Out { place, call: PhantomData }
    }

    /// Whether there is no place.
    pub(crate) fn is_null(&self) -> bool {
        self.place.is_null()
    }

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
    pub(super) start: *mut CK_ULONG,
    pub(super) count: *mut CK_ULONG,
    pub(super) call: PhantomData<&'c Call>,
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
    pub(super) start: *mut CK_ULONG,
    pub(super) max: CK_ULONG,
    pub(super) count: *mut CK_ULONG,
    pub(super) call: PhantomData<&'c Call>,
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

/// A list of interfaces with its length.
pub(crate) struct OutInterfaces<'c> {
    pub(super) start: *mut CK_INTERFACE,
    pub(super) count: *mut CK_ULONG,
    pub(super) call: PhantomData<&'c Call>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

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
}
