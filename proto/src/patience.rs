//! Whether to look for the other side's next bytes without sleeping. A lone caller on an idle machine gets its reply several times sooner
//! when both sides do, because a sleep and a wake-up cost more than most operations; a busy machine loses by it. So each side looks
//! while that has lately been worth it.

/// What looking has been worth lately: a hit earns a point, a miss costs four. Without points only every 64th wait tries.
///
/// One hit is then enough to try again each time. A side that stays without points for long keeps the other one there too: whoever is
/// woken answers too late for one who looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    points: i8,
    waits: u8,
}

const MOST: i8 = 8;
const NONE: i8 = -1;
const MISS: i8 = 4;
/// Without points one in so many waits tries.
const RETRY: u8 = 64;

impl Patience {
    /// Nothing has been tried yet.
    pub const fn new() -> Self {
        Patience { points: 0, waits: 0 }
    }

    /// Whether to look in the wait that begins.
    pub fn wants_to_look(&mut self) -> bool {
        self.waits = (self.waits + 1) % RETRY;
        self.points > NONE || self.waits == 0
    }

    /// The bytes came meanwhile.
    pub fn hit(&mut self) {
        self.points = (self.points + 1).min(MOST);
    }

    /// They did not.
    pub fn miss(&mut self) {
        self.points = (self.points - MISS).max(NONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks_in_128_waits(patience: &mut Patience) -> usize {
        (0..128).filter(|_| patience.wants_to_look()).count()
    }

    #[test]
    fn misses_stop_the_looking_until_every_64th_wait_and_one_hit_brings_it_back() {
        let mut patience = Patience::new();
        (0..20).for_each(|_| patience.hit());
        for _ in 0..2 {
            patience.miss();
            assert_eq!(looks_in_128_waits(&mut patience), 128, "what was worth it for long is not given up at once");
        }
        (0..20).for_each(|_| patience.miss());
        assert_eq!(looks_in_128_waits(&mut patience), 2);
        patience.hit();
        assert_eq!(looks_in_128_waits(&mut patience), 128);
        patience.miss();
        assert_eq!(looks_in_128_waits(&mut patience), 2);
    }
}
