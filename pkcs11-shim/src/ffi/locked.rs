//! Memory for a secret that must outlive a call: not swapped, not dumped, empty in a forked child, wiped at its end.
#![expect(unsafe_code, reason = "pages are mapped, locked and given back")]

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use zeroize::Zeroize;

/// The size of the mapping: one page, of whatever size, holds a PIN.
const SIZE: usize = 4096;

/// See the module.
pub(crate) struct Locked {
    place: NonNull<c_void>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone, and is only read after it was made.
unsafe impl Send for Locked {}

impl Locked {
    /// A copy of the bytes. `None` when they are too many, or when the system does not lock any more memory for this process.
    pub(crate) fn copy_of(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > SIZE {
            return None;
        }
        // SAFETY: a new private mapping at an address of the kernel's choice disturbs nobody.
        let place =
            unsafe { mmap_anonymous(ptr::null_mut(), SIZE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) };
        let locked = Locked { place: NonNull::new(place.ok()?)?, len: bytes.len() };
        let place = locked.place.as_ptr();
        // SAFETY: these pages are the mapping made above, which nobody else knows.
        unsafe {
            mlock(place, SIZE).ok()?;
            madvise(place, SIZE, Advice::LinuxDontDump).ok()?;
            madvise(place, SIZE, Advice::LinuxWipeOnFork).ok()?;
            ptr::copy_nonoverlapping(bytes.as_ptr(), place.cast(), bytes.len());
        }
        Some(locked)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable, `len` bytes of it were written by `copy_of`, and it lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.place.as_ptr().cast(), self.len) }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // SAFETY: the mapping is writable, SIZE bytes long, and nobody reads it any more.
        unsafe {
            std::slice::from_raw_parts_mut(self.place.as_ptr().cast::<u8>(), SIZE).zeroize();
            // There is nothing to do about a failure: the bytes are wiped.
            munmap(self.place.as_ptr(), SIZE).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_locked_and_left_out_of_dumps() {
        let locked = Locked::copy_of(b"user-pin").expect("a page can be locked");
        assert_eq!(locked.bytes(), b"user-pin");
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("the kernel says");
        let start = format!("{:x}-", locked.place.as_ptr() as usize);
        let (_, mine) = maps.split_once(&start).expect("the mapping begins where it was made");
        let flags = mine.lines().find_map(|line| line.strip_prefix("VmFlags:")).expect("flags");
        for flag in ["lo", "dd", "wf"] {
            assert!(flags.split_whitespace().any(|held| held == flag), "{flag} in {flags}");
        }
        assert!(Locked::copy_of(&[0; SIZE + 1]).is_none());
    }
}
