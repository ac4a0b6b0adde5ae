//! Structures that come in: a mechanism, initialisation arguments, the name and version of an interface.
#![expect(unsafe_code, reason = "raw pointers of a C caller become checked values here")]

use std::ffi::c_void;
use std::marker::PhantomData;

use ck::Rv;
use ck::rv::CKR_ARGUMENTS_BAD;
use cryptoki_sys::{CK_BYTE, CK_C_INITIALIZE_ARGS, CK_MECHANISM, CK_ULONG, CK_VERSION};

use super::Call;
use crate::ffi::parameter::Parameter;

/// A mechanism, or NULL.
pub(crate) struct InMechanism<'c> {
    pub(super) place: *const CK_MECHANISM,
    pub(super) call: PhantomData<&'c Call>,
}

/// Claims a mechanism.
///
/// # Safety
/// While the call lasts, `place` is NULL or points at a mechanism whose parameter is NULL or points at as many bytes as
/// its length says, and the pointers within the parameter keep what its structure says.
pub(crate) unsafe fn mechanism(_call: &Call, place: *mut CK_MECHANISM) -> InMechanism<'_> {
    InMechanism { place, call: PhantomData }
}

/// Claims the parameter of one message.
///
/// # Safety
/// While the call lasts, `start` is NULL or points at `len` bytes, and the pointers in the structure that lies there keep what
/// the structure says.
pub(crate) unsafe fn parameter(_call: &Call, start: *mut c_void, len: CK_ULONG) -> Parameter<'_> {
    // SAFETY: passed on.
    unsafe { Parameter::at(start.cast(), len) }
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

/// The arguments of C_Initialize and C_Finalize.
pub(crate) struct InitArgs<'c> {
    pub(super) place: *const c_void,
    pub(super) call: PhantomData<&'c Call>,
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
    pub(super) name: *const CK_BYTE,
    pub(super) version: *const CK_VERSION,
    pub(super) call: PhantomData<&'c Call>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

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
