//! What a C caller claims about memory, checked once. A claim is a pointer with what the standard says about it; its
//! methods look at it and give safe values, or `CKR_ARGUMENTS_BAD`. No claim outlives the C call that made it.
//!
//! Making a claim is `unsafe`: the caller of the C function vouches for the pointer (PKCS#11 v3.0 section 5.2). Reads and
//! writes are unaligned, because not every caller keeps alignment.
#![expect(unsafe_code, reason = "raw pointers of a C caller become checked values here")]

mod bytes;
#[cfg(test)]
pub(crate) mod over;
mod place;
mod structure;
mod template;

use std::slice;

use ck::Rv;
use ck::rv::{CKR_ARGUMENTS_BAD, CKR_HOST_MEMORY};
use cryptoki_sys::{CK_BBOOL, CK_ULONG};

pub(crate) use bytes::{InBytes, MAX_CALL, OutBuf, OutExact, Room, bytes, exact, label, out};
pub(crate) use place::{Out, OutHandles, OutInterfaces, OutList, Place, handles, interfaces, list, place};
pub(crate) use structure::{InMechanism, InitArgs, Wanted, init_args, mechanism, parameter, wanted};
pub(crate) use template::{Template, template};

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
    // A program's memory lies in the lower half of the addresses: a length that leads out of it belongs to no buffer.
    if start.is_null() || start.addr().checked_add(len).is_none_or(|end| end > isize::MAX as usize) {
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

/// Puts `more` behind `bytes`, whose length a caller chose.
pub(crate) fn append(bytes: &mut Vec<u8>, more: &[u8]) -> Result<(), Rv> {
    bytes.try_reserve(more.len()).map_err(|_| CKR_HOST_MEMORY)?;
    bytes.extend_from_slice(more);
    Ok(())
}

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
