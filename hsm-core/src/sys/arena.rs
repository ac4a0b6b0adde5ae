//! Where secrets lie while they are in memory: pages that are never swapped, left out of core dumps and empty in a forked child, between
//! pages that nobody may touch. They are wiped when they are given back.
//!
//! The arena has slots of three lengths and does not grow. A secret that finds no slot lies on the heap, wiped when dropped as well;
//! which it is, its owner does not see.
#![expect(unsafe_code, reason = "mapping memory; each block says why it holds")]

use std::ptr::NonNull;
use std::sync::OnceLock;

use parking_lot::Mutex;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mlock, mmap_anonymous, mprotect};
use zeroize::Zeroize;

/// Lengths of the slots in bytes, and how many of each there are: a key of the store or a PIN, an EC or AES key with its encoding,
/// an RSA key.
const CLASSES: [(usize, usize); 3] = [(64, 4096), (256, 1024), (2560, 400)];
/// The unit of protection; a larger page of the system would be a multiple of it.
const PAGE: usize = 64 << 10;

/// A place for one secret.
pub(crate) struct Slot {
    start: NonNull<u8>,
    len: usize,
    class: usize,
}

// SAFETY: a slot belongs to its owner alone and is reached through its borrows only.
unsafe impl Send for Slot {}
// SAFETY: as above; a shared borrow only reads.
unsafe impl Sync for Slot {}

impl Slot {
    /// A slot of `len` zero bytes; none when it is too long for the arena or the arena is full or could not be made.
    pub(crate) fn take(len: usize) -> Option<Slot> {
        let class = CLASSES.iter().position(|(size, _)| len <= *size)?;
        let arena = arena()?;
        // A longer slot than necessary is better than none.
        (class..CLASSES.len()).find_map(|class| {
            let start = arena.free[class].lock().pop()?;
            Some(Slot { start: start.0, len, class })
        })
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the slot lies inside the mapping, which lasts for ever, is this long at least, and its bytes were set to zero
        // by the kernel or the owner before.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// Its bytes, to be changed.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; `&mut self` is the only way to these bytes.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        if let Some(arena) = arena() {
            arena.free[self.class].lock().push(Free(self.start));
        }
    }
}

/// How the arena is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Locked.
    Locked,
    /// Left out of dumps only: the system does not let this process lock so much memory.
    Unlocked,
    /// There is no arena: secrets lie on the heap.
    None,
}

/// Makes the arena, if there is none yet, and says how it is protected.
pub fn protect_secrets() -> Protection {
    arena().map_or(Protection::None, |arena| arena.protection)
}

struct Free(NonNull<u8>);

// SAFETY: a free slot belongs to the list that holds it.
unsafe impl Send for Free {}

struct Arena {
    free: [Mutex<Vec<Free>>; CLASSES.len()],
    protection: Protection,
}

fn arena() -> Option<&'static Arena> {
    static ARENA: OnceLock<Option<Arena>> = OnceLock::new();
    ARENA.get_or_init(Arena::make).as_ref()
}

impl Arena {
    fn make() -> Option<Arena> {
        let inside: usize = CLASSES.iter().map(|(size, count)| size * count).sum();
        let inside = inside.next_multiple_of(PAGE);
        let (start, protection) = map(inside)?;
        let mut free = CLASSES.map(|_| Vec::new());
        let mut at = 0;
        for (class, (size, count)) in CLASSES.into_iter().enumerate() {
            for _ in 0..count {
                // SAFETY: the sum of all slots is not longer than the mapping.
                free[class].push(Free(unsafe { start.add(at) }));
                at += size;
            }
        }
        Some(Arena { free: free.map(Mutex::new), protection })
    }
}

/// Maps so many bytes between two guards, and protects them.
fn map(len: usize) -> Option<(NonNull<u8>, Protection)> {
    let whole = len + 2 * PAGE;
    // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of ours.
    let guard = unsafe { mmap_anonymous(std::ptr::null_mut(), whole, ProtFlags::empty(), MapFlags::PRIVATE) }.ok()?;
    // SAFETY: the place lies inside the mapping of `whole` bytes.
    let inside = unsafe { guard.cast::<u8>().add(PAGE) };
    let start = NonNull::new(inside)?;
    // SAFETY: the pages belong to the mapping above, which nobody has a reference into.
    unsafe { mprotect(inside.cast(), len, MprotectFlags::READ | MprotectFlags::WRITE) }.ok()?;
    for advice in [Advice::LinuxDontDump, Advice::LinuxWipeOnFork] {
        // SAFETY: advice about pages of ours changes no content that this process sees.
        unsafe { madvise(inside.cast(), len, advice) }.ok()?;
    }
    // SAFETY: locking pages of ours changes nothing but where they may lie.
    let locked = unsafe { mlock(inside.cast(), len) }.is_ok();
    Some((start, if locked { Protection::Locked } else { Protection::Unlocked }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_apart_and_empty_when_they_come_again() {
        let mut slots: Vec<Slot> = (0..100).map(|number| Slot::take(1 + number % 64).expect("room")).collect();
        for (number, slot) in slots.iter_mut().enumerate() {
            assert_eq!(slot.bytes().len(), 1 + number % 64);
            slot.bytes_mut().fill(number as u8 + 1);
        }
        for (number, slot) in slots.iter().enumerate() {
            assert!(slot.bytes().iter().all(|byte| *byte == number as u8 + 1), "slot {number}");
        }
        drop(slots);
        let again: Vec<Slot> = (0..100).map(|_| Slot::take(64).expect("room")).collect();
        assert!(again.iter().all(|slot| slot.bytes().iter().all(|byte| *byte == 0)));
    }

    #[test]
    fn what_is_too_long_has_no_slot() {
        assert!(Slot::take(2560).is_some());
        assert!(Slot::take(2561).is_none());
    }

    #[test]
    fn the_pages_are_locked_and_left_out_of_dumps() {
        let slot = Slot::take(32).expect("room");
        let address = slot.bytes().as_ptr() as usize;
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut flags = None;
        let mut inside = false;
        for line in maps.lines() {
            if let Some((from, to)) = line.split_once(' ').and_then(|(range, _)| range.split_once('-'))
                && let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
            {
                inside = (from..to).contains(&address);
            } else if inside && line.starts_with("VmFlags:") {
                flags = Some(line.to_owned());
            }
        }
        let flags = flags.expect("the kernel tells");
        assert!(flags.contains(" dd") && flags.contains(" wf"), "{flags}");
        // A machine may allow no locked memory at all.
        assert_eq!(flags.contains(" lo"), protect_secrets() == Protection::Locked, "{flags}");
    }
}
