//! What the kernel says of this process's memory. Asked where a caller's word is doubtful: a number that may be an address, and a
//! length that is longer than a message.

/// What is to be done with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Whether this process may use `len` bytes at `address` so; nothing when the kernel does not show its list.
pub(super) fn is_usable(address: u64, len: u64, access: Access) -> Option<bool> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    Some(address.checked_add(len).is_some_and(|end| covers(&maps, address, end, access)))
}

/// Whether the rows of the list, which ascend, cover everything from `start` to `end`.
fn covers(maps: &str, start: u64, end: u64, access: Access) -> bool {
    let mut covered = start;
    for line in maps.lines() {
        let Some((low, high)) = bounds(line, access) else { continue };
        if low <= covered && covered < high {
            covered = high;
        }
        if covered >= end {
            return true;
        }
    }
    false
}

fn bounds(line: &str, access: Access) -> Option<(u64, u64)> {
    let (range, rest) = line.split_once(' ')?;
    let column = match access {
        Access::Read => (0, b'r'),
        Access::Write => (1, b'w'),
    };
    if rest.as_bytes().get(column.0) != Some(&column.1) {
        return None;
    }
    let (low, high) = range.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((number(low)?, number(high)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_rows_cover_together_and_a_hole_does_not() {
        let maps = "1000-2000 r--p 00000000 00:00 0\n2000-3000 rw-p 00000000 00:00 0\n3000-4000 ---p 00000000 00:00 0\n\
                    5000-6000 rw-p 00000000 00:00 0  [heap]\n";
        let rows = [
            (0x1000, 0x3000, Access::Read, true),
            (0x1fff, 0x2001, Access::Read, true),
            (0x0fff, 0x2000, Access::Read, false),
            (0x2000, 0x3001, Access::Read, false),
            (0x2000, 0x6000, Access::Read, false),
            (0x1000, 0x1001, Access::Write, false),
            (0x2000, 0x3000, Access::Write, true),
            (0x5000, 0x6000, Access::Write, true),
            (0x6000, 0x6001, Access::Read, false),
        ];
        for (start, end, access, expected) in rows {
            assert_eq!(covers(maps, start, end, access), expected, "{start:x}..{end:x} {access:?}");
        }
        assert_eq!(is_usable(u64::MAX, 2, Access::Read), Some(false));
    }
}
