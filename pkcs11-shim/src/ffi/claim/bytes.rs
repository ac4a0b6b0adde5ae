//! Bytes that come in and buffers that go out.
#![expect(unsafe_code, reason = "raw pointers of a C caller become checked values here")]

use std::marker::PhantomData;
use std::ptr;

use ck::Rv;
use ck::rv::{CKR_ARGUMENTS_BAD, CKR_BUFFER_TOO_SMALL};
use cryptoki_sys::{CK_BYTE, CK_ULONG};
use hsm_proto::frame::MAX_BODY;

use super::{Call, copied, slice_at};
use crate::ffi::memory::{Access, is_usable};

/// The most bytes that one call takes or gives, in as many messages as that needs: what is longer is a length that was never set, or
/// work for the Update functions.
pub(crate) const MAX_CALL: CK_ULONG = 1 << 30;
/// What is longer than a message is looked up in the kernel's list of this process's memory before it is touched.
const LONG: CK_ULONG = MAX_BODY as CK_ULONG;

/// Bytes to read.
#[derive(Clone, Copy)]
pub(crate) struct InBytes<'c> {
    pub(super) start: *const u8,
    pub(super) len: CK_ULONG,
    pub(super) call: PhantomData<&'c Call>,
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
    pub(in crate::ffi) unsafe fn at(start: *const u8, len: CK_ULONG) -> Self {
        InBytes { start, len, call: PhantomData }
    }

    /// Bytes of our own.
    pub(crate) fn over(bytes: &'c [u8]) -> Self {
        InBytes { start: bytes.as_ptr(), len: bytes.len() as CK_ULONG, call: PhantomData }
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
    /// `CKR_ARGUMENTS_BAD` for NULL with a length, and for a length that the memory has not.
    pub(crate) fn get(&self) -> Result<&'c [u8], Rv> {
        if self.len > LONG && is_usable(self.start.expose_provenance() as u64, self.len, Access::Read) == Some(false) {
            return Err(CKR_ARGUMENTS_BAD);
        }
        // SAFETY: who made the claim vouched for the pointer while the call lasts.
        unsafe { slice_at(self.start, self.len) }
    }

    /// The same bytes if there are no more than `most`, judged by the length alone.
    ///
    /// # Errors
    /// `too_long`; `CKR_ARGUMENTS_BAD` for NULL with a length.
    pub(crate) fn at_most(self, most: u64, too_long: Rv) -> Result<Self, Rv> {
        match (self.len, self.start.is_null()) {
            (1.., true) => Err(CKR_ARGUMENTS_BAD),
            (len, _) if len > most => Err(too_long),
            _ => Ok(self),
        }
    }

    /// A copy of bytes that go into one message.
    ///
    /// # Errors
    /// As [`InBytes::to_vec`], and `too_long` for more than any message holds.
    pub(crate) fn short(self, too_long: Rv) -> Result<Vec<u8>, Rv> {
        self.at_most(LONG, too_long)?.to_vec()
    }

    /// As [`InBytes::short`] for bytes that cannot be missing: a signature to verify, a wrapped key, a ciphertext.
    ///
    /// # Errors
    /// As [`InBytes::short`], and `CKR_ARGUMENTS_BAD` for NULL.
    pub(crate) fn present(self, too_long: Rv) -> Result<Vec<u8>, Rv> {
        if self.is_null() { Err(CKR_ARGUMENTS_BAD) } else { self.short(too_long) }
    }

    /// A copy of the bytes.
    ///
    /// # Errors
    /// As [`InBytes::get`], and `CKR_HOST_MEMORY`.
    pub(crate) fn to_vec(self) -> Result<Vec<u8>, Rv> {
        copied(self.get()?)
    }
}

/// A buffer with its length, to be filled by the rules of PKCS#11 v3.0 section 5.2.
pub(crate) struct OutBuf<'c> {
    pub(super) start: *mut u8,
    pub(super) len: *mut CK_ULONG,
    pub(super) call: PhantomData<&'c Call>,
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
    /// Whether there is not even a place for the length.
    pub(crate) fn is_nowhere(&self) -> bool {
        self.len.is_null()
    }

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
    pub(super) start: *mut u8,
    pub(super) len: CK_ULONG,
    pub(super) call: PhantomData<&'c Call>,
}

/// Claims a buffer that will be filled.
///
/// # Safety
/// While the call lasts, `start` is NULL or points at `len` writable bytes.
pub(crate) unsafe fn exact(_call: &Call, start: *mut CK_BYTE, len: CK_ULONG) -> OutExact<'_> {
    OutExact { start, len, call: PhantomData }
}

impl OutExact<'_> {
    /// The same claim from within this room.
    ///
    /// # Safety
    /// As for [`exact`]; the lifetime is that of the call.
    pub(in crate::ffi) unsafe fn at(start: *mut u8, len: CK_ULONG) -> Self {
        OutExact { start, len, call: PhantomData }
    }

    /// Fills the buffer, which must have exactly this length.
    ///
    /// # Errors
    /// `CKR_ARGUMENTS_BAD`.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> Result<(), Rv> {
        if self.wanted()? != bytes.len() as u64 {
            return Err(CKR_ARGUMENTS_BAD);
        }
        self.put_at(0, bytes)
    }

    /// The bytes that are wanted.
    ///
    /// # Errors
    /// `CKR_ARGUMENTS_BAD` for NULL with a length, and for a length that the memory has not or that is too much for one call.
    pub(crate) fn wanted(&self) -> Result<u64, Rv> {
        let place = self.start.expose_provenance() as u64;
        if self.len > MAX_CALL || (self.len > LONG && is_usable(place, self.len, Access::Write) == Some(false)) {
            return Err(CKR_ARGUMENTS_BAD);
        }
        // SAFETY: the claim covers reading too; the slice is not kept.
        unsafe { slice_at(self.start, self.len) }.map(|slice| slice.len() as u64)
    }

    /// Writes `piece` at `offset`; what does not fit is refused.
    ///
    /// # Errors
    /// `CKR_ARGUMENTS_BAD`.
    pub(crate) fn put_at(&mut self, offset: u64, piece: &[u8]) -> Result<(), Rv> {
        let end = offset.checked_add(piece.len() as u64).ok_or(CKR_ARGUMENTS_BAD)?;
        if end > self.len || (self.start.is_null() && end > 0) {
            return Err(CKR_ARGUMENTS_BAD);
        }
        // SAFETY: offset + length lies within the claimed buffer, checked above, so the offset fits a usize.
        unsafe { ptr::copy_nonoverlapping(piece.as_ptr(), self.start.add(offset as usize), piece.len()) }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn lengths_beyond_the_limit_or_the_memory_are_refused_unread() {
        let call = Call::begin();
        let mut byte = 7u8;
        let whole = vec![0u8; LONG as usize + 1];
        let refused = ck::rv::CKR_DATA_LEN_RANGE;
        // SAFETY: the lengths that are not true are refused before anything is read.
        unsafe {
            assert_eq!(bytes(&call, &raw mut byte, MAX_CALL).get(), Err(CKR_ARGUMENTS_BAD));
            assert!(bytes(&call, whole.as_ptr().cast_mut(), LONG + 1).get().is_ok());
            assert_eq!(bytes(&call, &raw mut byte, LONG + 1).short(refused), Err(refused));
            assert_eq!(bytes(&call, ptr::null_mut(), LONG + 1).short(refused), Err(CKR_ARGUMENTS_BAD));
            assert_eq!(bytes(&call, &raw mut byte, 1).short(refused), Ok(vec![7]));
            assert_eq!(exact(&call, &raw mut byte, MAX_CALL + 1).wanted(), Err(CKR_ARGUMENTS_BAD));
            assert_eq!(exact(&call, &raw mut byte, MAX_CALL).wanted(), Err(CKR_ARGUMENTS_BAD));
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
}
