//! The IVs of one key: which of the caller's were used, and the numbers from which the token makes its own.
//!
//! GCM and CTR lose everything when one key meets one IV twice (SP 800-38D, section 8; SP 800-38A, appendix B). A caller's IV is
//! refused when it is among the last 65,536 that the key was given. The token's own are a prefix and a 32-bit number that counts
//! up for the life of the key: for a token key the numbers are reserved in the store in blocks before the first of a block is
//! used, so that a crash skips numbers and never gives one twice. A copy of a key shares the book of its original.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use ck::parameter::*;
use parking_lot::Mutex;

use crate::crypto::rng;
use crate::error::{Error, Kind, Result};

/// How many of the caller's IVs a key remembers, at least.
const REMEMBERED: usize = 1 << 16;
/// How many IVs the token makes for a key, at most: the bound of SP 800-38D, section 8.3.
const MADE_MAX: u64 = 1 << 32;
/// The bytes of the counting number.
const NUMBER_LEN: usize = 4;
/// The fewest random bits of an IV that is nothing else (SP 800-38D, section 8.2.2).
const RANDOM_BITS_MIN: u64 = 96;
/// The longest IV in bytes that is made.
const IV_MAX: usize = 256;

/// What a generator is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// The caller's bytes: of them the fixed bits are kept, and for the XOR generator all.
    pub(crate) template: &'a [u8],
    /// How many leading bits are the caller's.
    pub(crate) fixed_bits: u64,
    /// CKG number.
    pub(crate) generator: Generator,
}

/// What is remembered beyond a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reserved {
    /// The first number that was not reserved.
    pub(crate) next: u64,
    /// What the counter is XORed with, once it counts.
    pub(crate) mask: Option<u32>,
}

/// The book of one key.
pub(crate) struct IvBook {
    hasher: RandomState,
    page: Mutex<Page>,
    durable: AtomicBool,
}

#[derive(Default)]
struct Page {
    /// Hashes of the caller's IVs: the younger and the older half of what is remembered.
    young: HashSet<u64>,
    old: HashSet<u64>,
    /// Numbers that may be used now.
    numbers: Range<u64>,
    mask: Option<u32>,
}

impl IvBook {
    /// The book of a key that was used before as far as `reserved` says.
    pub(crate) fn new(reserved: Reserved) -> Self {
        let page = Page { numbers: reserved.next..reserved.next, mask: reserved.mask, ..Page::default() };
        IvBook { hasher: RandomState::new(), page: Mutex::new(page), durable: AtomicBool::new(false) }
    }

    /// Whether numbers must be reserved in the store.
    pub(crate) fn is_durable(&self) -> bool {
        self.durable.load(Ordering::Acquire)
    }

    /// The key is one of the token's from now on: what was given out so far, and whatever comes, must outlive a restart.
    ///
    /// # Errors
    /// What `reserve` says.
    pub(crate) fn make_durable(&self, reserve: impl FnOnce(Reserved) -> Result<Range<u64>>) -> Result<()> {
        let mut page = self.page.lock();
        if !self.is_durable() && page.mask.is_some() {
            page.numbers = reserve(Reserved { next: page.numbers.start, mask: page.mask })?;
        }
        self.durable.store(true, Ordering::Release);
        Ok(())
    }

    /// Enters an IV of the caller's; `mode` tells uses apart that do not endanger each other.
    ///
    /// # Errors
    /// [`Kind::MechanismParam`] for one that was used before, or that the token has made or may have made.
    pub(crate) fn spend(&self, mode: u64, iv: &[u8]) -> Result<()> {
        let mut page = self.page.lock();
        let hash = self.hasher.hash_one((mode, iv));
        if page.has_seen(hash) || page.may_have_made(iv) {
            let what = "this key was used with this IV before";
            return Err(Error::closed(Kind::MechanismParam, "policy.gcm_caller_iv", what));
        }
        page.remember(hash);
        Ok(())
    }

    /// Makes an IV that this key has not met. `reserve` is asked for the next numbers when there are none left: it is given the
    /// first number and the mask, and what it answers is durable.
    ///
    /// # Errors
    /// [`Kind::MechanismParam`] for an IV that is too short or a mask that is not the key's, [`Kind::ResourceExceeded`] when the
    /// key has had all its IVs, and what `reserve` says.
    pub(crate) fn make(
        &self,
        mode: u64,
        wanted: Wanted<'_>,
        mut reserve: impl FnMut(Reserved) -> Result<Range<u64>>,
    ) -> Result<Vec<u8>> {
        let free_bits = free_bits(wanted)?;
        let mut page = self.page.lock();
        if wanted.generator == CKG_GENERATE_RANDOM {
            if free_bits < RANDOM_BITS_MIN {
                let what = format!("CKG_GENERATE_RANDOM needs {RANDOM_BITS_MIN} bits that are not fixed");
                return Err(Error::new(Kind::MechanismParam, what));
            }
            let iv = randomized(wanted, free_bits)?;
            page.remember(self.hasher.hash_one((mode, iv.as_slice())));
            return Ok(iv);
        }
        loop {
            page.stock(mask_of(wanted)?, &mut reserve)?;
            let iv = page.counted(wanted, free_bits)?;
            if !page.has_seen(self.hasher.hash_one((mode, iv.as_slice()))) {
                return Ok(iv);
            }
        }
    }
}

impl Page {
    fn has_seen(&self, hash: u64) -> bool {
        self.young.contains(&hash) || self.old.contains(&hash)
    }

    fn remember(&mut self, hash: u64) {
        if self.young.len() >= REMEMBERED {
            self.old = core::mem::take(&mut self.young);
        }
        self.young.insert(hash);
    }

    /// Whether the last bytes hold a number that was given out, or reserved by a run that may have given it out.
    fn may_have_made(&self, iv: &[u8]) -> bool {
        let Some(mask) = self.mask else { return false };
        let last = iv.last_chunk::<NUMBER_LEN>().map(|last| u32::from_be_bytes(*last));
        // The prefixes of what was made are not remembered, so a caller's IV that merely ends in such a number is refused too.
        last.is_some_and(|last| u64::from(last ^ mask) < self.numbers.start)
    }

    /// Sees to it that there is a number.
    fn stock(&mut self, mask: u32, reserve: &mut impl FnMut(Reserved) -> Result<Range<u64>>) -> Result<()> {
        if self.mask.is_some_and(|counted_with| counted_with != mask) {
            let what = "this key's IVs are counted from another value: the part that is not fixed must not vary";
            return Err(Error::new(Kind::MechanismParam, what));
        }
        if self.numbers.is_empty() {
            let numbers = reserve(Reserved { next: self.numbers.start, mask: Some(mask) })?;
            self.numbers = numbers.start.min(MADE_MAX)..numbers.end.min(MADE_MAX);
        }
        self.mask = Some(mask);
        Ok(())
    }

    /// The IV of the next number.
    fn counted(&mut self, wanted: Wanted<'_>, free_bits: u64) -> Result<Vec<u8>> {
        let number =
            self.numbers.next().and_then(|number| u32::try_from(number).ok()).ok_or_else(|| {
                Error::new(Kind::ResourceExceeded, "the key has been given all the IVs that it may have")
            })?;
        let mut iv = match wanted.generator {
            CKG_GENERATE_COUNTER_XOR => wanted.template.to_vec(),
            CKG_GENERATE_COUNTER => filled(wanted, &vec![0; wanted.template.len()], free_bits),
            _ => randomized(wanted, free_bits)?,
        };
        let mask = if wanted.generator == CKG_GENERATE_COUNTER_XOR { mask_of(wanted)? } else { 0 };
        if let Some(last) = iv.last_chunk_mut::<NUMBER_LEN>() {
            *last = (mask ^ number).to_be_bytes();
        }
        Ok(iv)
    }
}

/// How many bits the token fills; enough for its number.
fn free_bits(wanted: Wanted<'_>) -> Result<u64> {
    let refuse = |what: String| Err(Error::new(Kind::MechanismParam, what));
    let known = [CKG_GENERATE, CKG_GENERATE_COUNTER, CKG_GENERATE_RANDOM, CKG_GENERATE_COUNTER_XOR];
    if !known.contains(&wanted.generator) {
        return refuse(format!("{} is not offered", wanted.generator));
    }
    if wanted.template.len() > IV_MAX {
        return refuse(format!("an IV has at most {IV_MAX} bytes"));
    }
    let bits = wanted.template.len() as u64 * 8;
    match bits.checked_sub(wanted.fixed_bits) {
        Some(free) if free >= NUMBER_LEN as u64 * 8 => Ok(free),
        _ => refuse(format!("of {bits} bits {} are fixed: at least 32 must be free", wanted.fixed_bits)),
    }
}

/// What the number is XORed with: for the XOR generator the last bytes of the caller's.
fn mask_of(wanted: Wanted<'_>) -> Result<u32> {
    if wanted.generator != CKG_GENERATE_COUNTER_XOR {
        return Ok(0);
    }
    let last = wanted.template.last_chunk::<NUMBER_LEN>().ok_or(Kind::MechanismParam)?;
    Ok(u32::from_be_bytes(*last))
}

fn randomized(wanted: Wanted<'_>, free_bits: u64) -> Result<Vec<u8>> {
    let mut random = vec![0; wanted.template.len()];
    rng::fill(&mut random)?;
    Ok(filled(wanted, &random, free_bits))
}

/// The fixed bits of the template, then the last `free_bits` bits of `free`.
fn filled(wanted: Wanted<'_>, free: &[u8], free_bits: u64) -> Vec<u8> {
    let total = wanted.template.len() as u64 * 8;
    let byte = |(at, (fixed, free)): (usize, (&u8, &u8))| {
        // How many bits of this byte belong to the template.
        let kept = (total - free_bits).saturating_sub(at as u64 * 8).min(8);
        let mask = u8::try_from(0xff00_u32 >> kept & 0xff).unwrap_or(u8::MAX);
        fixed & mask | free & !mask
    };
    wanted.template.iter().zip(free).enumerate().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(template: &[u8], fixed_bits: u64, generator: Generator) -> Wanted<'_> {
        Wanted { template, fixed_bits, generator }
    }

    fn in_memory(reserved: Reserved) -> Result<Range<u64>> {
        Ok(reserved.next..reserved.next + 8)
    }

    fn kind<T>(result: Result<T>) -> Option<Kind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn a_callers_iv_is_taken_once() {
        let book = IvBook::new(Reserved::default());
        assert_eq!(kind(book.spend(1, b"twelve bytes")), None);
        assert_eq!(kind(book.spend(1, b"twelve bytes")), Some(Kind::MechanismParam));
        assert_eq!(kind(book.spend(2, b"twelve bytes")), None, "another mode");
        assert_eq!(kind(book.spend(1, b"twelve byteS")), None);
    }

    #[test]
    fn the_last_65536_are_remembered_and_memory_is_bounded() {
        let book = IvBook::new(Reserved::default());
        for number in 0..3 * REMEMBERED as u64 {
            book.spend(1, &number.to_be_bytes()).expect("new");
        }
        for number in 2 * REMEMBERED as u64..3 * REMEMBERED as u64 {
            assert_eq!(kind(book.spend(1, &number.to_be_bytes())), Some(Kind::MechanismParam), "{number}");
        }
        let page = book.page.lock();
        assert!(page.young.len() + page.old.len() <= 2 * REMEMBERED);
    }

    #[test]
    fn made_ivs_keep_the_fixed_bits_and_never_repeat() {
        let template = [0xab; 12];
        for (generator, fixed) in
            [(CKG_GENERATE, 0), (CKG_GENERATE, 33), (CKG_GENERATE_COUNTER, 32), (CKG_GENERATE_COUNTER_XOR, 64)]
        {
            let book = IvBook::new(Reserved::default());
            let mut seen = HashSet::new();
            for _ in 0..1000 {
                let iv = book.make(1, wanted(&template, fixed, generator), in_memory).expect("made");
                assert_eq!(iv[..fixed as usize / 8], template[..fixed as usize / 8], "{generator}");
                assert!(fixed != 33 || iv[4] & 0x80 == 0x80, "the 33rd bit");
                assert_eq!(kind(book.spend(1, &iv)), Some(Kind::MechanismParam), "{generator}: the caller's again");
                assert!(seen.insert(iv), "{generator}");
            }
        }
    }

    #[test]
    fn counters_begin_with_zero() {
        let template = [0x11; 12];
        let first = |generator| IvBook::new(Reserved::default()).make(1, wanted(&template, 32, generator), in_memory);
        assert_eq!(first(CKG_GENERATE_COUNTER), Ok([[0x11; 4], [0; 4], [0; 4]].concat()));
        assert_eq!(first(CKG_GENERATE_COUNTER_XOR), Ok(template.to_vec()));
        let book = IvBook::new(Reserved::default());
        let next = || book.make(1, wanted(&template, 32, CKG_GENERATE_COUNTER), in_memory).expect("made");
        next();
        assert_eq!(next()[8..], [0, 0, 0, 1]);
    }

    #[test]
    fn what_was_reserved_is_never_made_again() {
        let book = IvBook::new(Reserved { next: 40, mask: Some(0) });
        let iv = book.make(1, wanted(&[0; 12], 0, CKG_GENERATE_COUNTER), in_memory).expect("made");
        assert_eq!(iv[8..], 40_u32.to_be_bytes());
        let mut earlier = [0; 12];
        earlier[11] = 39;
        assert_eq!(kind(book.spend(1, &earlier)), Some(Kind::MechanismParam));
    }

    #[test]
    fn a_number_that_the_caller_used_is_skipped() {
        let book = IvBook::new(Reserved::default());
        book.spend(1, &[0; 12]).expect("new");
        let iv = book.make(1, wanted(&[0; 12], 0, CKG_GENERATE_COUNTER), in_memory).expect("made");
        assert_eq!(iv[8..], [0, 0, 0, 1]);
    }

    #[test]
    fn what_cannot_be_unique_is_refused() {
        let refused = Some(Kind::MechanismParam);
        let rows = [
            (12, 65, CKG_GENERATE, refused),
            (12, 97, CKG_GENERATE, refused),
            (12, u64::MAX, CKG_GENERATE, refused),
            (3, 0, CKG_GENERATE_COUNTER, refused),
            (0, 0, CKG_GENERATE, refused),
            (12, 1, CKG_GENERATE_RANDOM, refused),
            (12, 0, CKG_GENERATE_RANDOM, None),
            (257, 0, CKG_GENERATE, refused),
            (12, 0, CKG_NO_GENERATE, refused),
            (12, 0, Generator(99), refused),
            (12, 64, CKG_GENERATE_COUNTER_XOR, None),
        ];
        for (len, fixed, generator, expected) in rows {
            let book = IvBook::new(Reserved::default());
            let made = book.make(1, wanted(&vec![7; len], fixed, generator), in_memory);
            assert_eq!(kind(made), expected, "{len} {fixed} {generator}");
        }
        let book = IvBook::new(Reserved::default());
        book.make(1, wanted(&[7; 12], 0, CKG_GENERATE_COUNTER_XOR), in_memory).expect("made");
        // Handing the last IV in again would shift what is counted from.
        let shifted = book.make(1, wanted(&[8; 12], 0, CKG_GENERATE_COUNTER_XOR), in_memory);
        assert_eq!(kind(shifted), refused);
        let spent = IvBook::new(Reserved { next: MADE_MAX, mask: Some(0) });
        assert_eq!(kind(spent.make(1, wanted(&[0; 12], 0, CKG_GENERATE), in_memory)), Some(Kind::ResourceExceeded));
    }
}
