//! A file of fixed length as memory: what is put there is in the system's hands at once, without a system call, and outlives the
//! process however it ends. It is not made durable.
#![expect(unsafe_code, reason = "mapping memory; each block says why it holds")]

use std::fs::OpenOptions;
use std::io::{Error, Result, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;

use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The mapped file. If somebody shortens it, the process ends at the next access (SIGBUS).
pub(crate) struct SharedFile {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone and is reached through its borrows only.
unsafe impl Send for SharedFile {}

impl SharedFile {
    /// Opens a private file of this length, or makes one whose bytes are zero. Its blocks exist when this returns: a disk that
    /// becomes full later does not matter.
    pub(crate) fn open(path: &Path, len: usize) -> Result<Self> {
        let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(nofollow);
        let mut file = options.open(path)?;
        if file.metadata()?.len() != len as u64 {
            file.set_len(0)?;
            match fallocate(&file, FallocateFlags::empty(), 0, len as u64) {
                // Not every file system can do that.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.write_all(&vec![0; len])?,
                done => done?,
            }
            file.sync_all()?;
        }
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of ours.
        let start =
            unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0) }?;
        let start = NonNull::new(start.cast()).ok_or_else(|| Error::other("mapped at address zero"))?;
        Ok(SharedFile { start, len })
    }

    /// Puts bytes at a place inside; `false` when they do not fit there.
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) -> bool {
        if at.checked_add(bytes.len()).is_none_or(|end| end > self.len) {
            return false;
        }
        // SAFETY: the place lies inside the mapping, which `&mut self` alone reaches; a slice from elsewhere does not overlap it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(at), bytes.len()) };
        true
    }
}

impl Drop for SharedFile {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length and is reached by nobody any more.
        if let Err(error) = unsafe { munmap(self.start.as_ptr().cast(), self.len) } {
            tracing::error!(%error, "memory could not be given back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_in_the_file_and_nothing_beyond_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shared");
        let mut file = SharedFile::open(&path, 4096).unwrap();
        assert!(file.put(4090, b"inside"));
        assert!(!file.put(4091, b"inside") && !file.put(usize::MAX, b"x"));
        assert!(std::fs::read(&path).unwrap().ends_with(b"inside"));
        drop(file);
        drop(SharedFile::open(&path, 4096).unwrap());
        assert!(std::fs::read(&path).unwrap().ends_with(b"inside"), "the same file again");
        drop(SharedFile::open(&path, 8192).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), [0; 8192], "another length, another file");
    }
}
