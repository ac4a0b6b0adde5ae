//! Whether to look for the other side's next bytes without sleeping. A lone caller on an idle machine gets its reply several times sooner
//! when both sides do, because a sleep and a wake-up cost more than most operations; a busy machine loses by it. So each side looks
//! while that has lately been worth it.

/// What looking has been worth lately: a hit earns one point up to 8, a miss costs four down to -32. Below zero only every 64th wait tries.
///
/// With a floor of -1, so that one hit is enough to try again each time, a lone caller was a sixth faster on a busy machine and no faster on
/// an idle one, and eight callers on an idle one were slower by some percent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    points: i8,
    waits: u8,
}

const MOST: i8 = 8;
const LEAST: i8 = -32;
const MISS: i8 = 4;
/// Below zero one in so many waits tries.
const RETRY: u8 = 64;

impl Patience {
    /// Nothing has been tried yet.
    pub const fn new() -> Self {
        Patience { points: 0, waits: 0 }
    }

    /// Whether to look in the wait that begins.
    pub fn wants_to_look(&mut self) -> bool {
        self.waits = (self.waits + 1) % RETRY;
        self.points >= 0 || self.waits == 0
    }

    /// The bytes came meanwhile.
    pub fn hit(&mut self) {
        self.points = (self.points + 1).min(MOST);
    }

    /// They did not.
    pub fn miss(&mut self) {
        self.points = (self.points - MISS).max(LEAST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks_in_128_waits(patience: &mut Patience) -> usize {
        (0..128).filter(|_| patience.wants_to_look()).count()
    }

    #[test]
    fn misses_stop_the_looking_until_every_64th_wait_and_hits_bring_it_back() {
        let mut patience = Patience::new();
        (0..20).for_each(|_| patience.hit());
        for _ in 0..2 {
            patience.miss();
            assert_eq!(looks_in_128_waits(&mut patience), 128, "what was worth it for long is not given up at once");
        }
        (0..20).for_each(|_| patience.miss());
        assert_eq!(looks_in_128_waits(&mut patience), 2);
        (0..31).for_each(|_| patience.hit());
        assert_eq!(looks_in_128_waits(&mut patience), 2);
        patience.hit();
        assert_eq!(looks_in_128_waits(&mut patience), 128);
    }
}
