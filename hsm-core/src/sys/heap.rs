//! Memory that was freed and that the allocator keeps for later.
#![expect(unsafe_code, reason = "a function of the C library; the block says why it may be called")]

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    fn malloc_trim(pad: usize) -> core::ffi::c_int;
    fn mallopt(parameter: core::ffi::c_int, value: core::ffi::c_int) -> core::ffi::c_int;
}

/// Holds the C library's allocator to what it gives back: to be called before the first thread starts. By itself it makes eight heaps for
/// each processor, and the larger the messages were that it has seen, the more it keeps at the end of each.
pub fn keep_little_memory() {
    // The numbers of malloc.h: M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD.
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [(-8, 4), (-3, 1 << 20), (-1, 128 << 10)] {
        // SAFETY: the C library's own function, with numbers that it knows; what it does not take it leaves as it was.
        unsafe { mallopt(parameter, value) };
    }
}

/// Gives freed memory back to the system. The C library does so by itself at the end of a heap only, and a crowd of clients leaves holes: a
/// process would stay as large as it ever was. Takes a millisecond or so, in which other threads may wait for memory.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the C library's own function, which takes its own locks and may be called by any thread at any time.
    unsafe {
        malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn holes_are_given_back() {
        // Small pieces, of which one in a hundred stays: nothing at the end of the heap is free.
        let mut pieces: Vec<Option<Vec<u8>>> = (0..200_000).map(|_| Some(vec![7; 1000])).collect();
        let full = resident_kib();
        for (at, piece) in pieces.iter_mut().enumerate() {
            if at % 100 != 0 {
                *piece = None;
            }
        }
        give_memory_back();
        let left = resident_kib();
        assert!(left + 100 * 1024 < full, "{full} KiB became {left} KiB");
    }
}
