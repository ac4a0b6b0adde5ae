//! A reader of DER (ITU-T X.690) that takes nothing else: definite and shortest lengths, shortest integers, sorted sets. It is small so
//! that it can be read whole, and total: every input is an item or refused.

use super::Breach;

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const IA5_STRING: u8 = 0x16;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const NULL: u8 = 0x05;

/// The tag [n] around something else.
pub(super) const fn explicit(n: u8) -> u8 {
    0xa0 | n
}

/// How deep structures may nest.
const DEPTH_MAX: usize = 24;

fn malformed<T>() -> Result<T, Breach> {
    super::breach("encoding", "it is not DER")
}

/// One tag, length and value.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    /// The identifier octet.
    pub(super) tag: u8,
    /// The value.
    pub(super) contents: &'a [u8],
    /// All of it.
    pub(super) whole: &'a [u8],
}

impl<'a> Item<'a> {
    /// The only item of some bytes.
    pub(super) fn only(bytes: &'a [u8]) -> Result<Item<'a>, Breach> {
        let mut reader = Reader(bytes);
        let item = reader.next()?;
        reader.end()?;
        Ok(item)
    }

    /// What is in it.
    pub(super) fn reader(&self) -> Reader<'a> {
        Reader(self.contents)
    }

    /// A number from 0 to 255.
    pub(super) fn octet(&self) -> Option<u8> {
        match (self.tag, self.contents) {
            (INTEGER, [octet @ 0..=0x7f] | [0, octet]) => Some(*octet),
            _ => None,
        }
    }

    /// A number below 2^32.
    pub(super) fn number(&self) -> Option<u32> {
        if self.tag != INTEGER || self.contents.first().is_none_or(|first| *first >= 0x80) {
            return None;
        }
        let significant = self.contents.strip_prefix(&[0]).unwrap_or(self.contents);
        (significant.len() <= 4).then(|| significant.iter().fold(0, |sum, octet| sum << 8 | u32::from(*octet)))
    }

    /// A time, in seconds since 1970. UTCTime means 1950 to 2049.
    pub(super) fn time(&self) -> Result<i64, Breach> {
        let (year, rest) = match (self.tag, self.contents.len()) {
            (UTC_TIME, 13) => {
                let (year, rest) = self.contents.split_at(2);
                let year = digits(year).ok_or(()).or_else(|()| malformed())?;
                (if year < 50 { 2000 + year } else { 1900 + year }, rest)
            }
            (GENERALIZED_TIME, 15) => {
                let (year, rest) = self.contents.split_at(4);
                (digits(year).ok_or(()).or_else(|()| malformed())?, rest)
            }
            _ => return malformed(),
        };
        let mut parts = rest.chunks(2);
        let mut part = |from: i64, to: i64| parts.next().and_then(digits).filter(|part| (from..=to).contains(part));
        let parts = (part(1, 12), part(1, 31), part(0, 23), part(0, 59), part(0, 59));
        let (Some(month), Some(day), Some(hour), Some(minute), Some(second)) = parts else { return malformed() };
        if rest.last() != Some(&b'Z') || day > days_of(year, month) {
            return malformed();
        }
        Ok((days_since_1970(year, month, day) * 24 + hour) * 3600 + minute * 60 + second)
    }
}

fn digits(bytes: &[u8]) -> Option<i64> {
    let digit = |sum: i64, byte: &u8| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0'));
    bytes.iter().try_fold(0, digit)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let of_years = before * 365 + before / 4 - before / 100 + before / 400;
    let of_months: i64 = (1..month).map(|month| days_of(year, month)).sum();
    of_years + of_months + day - 1 - 719_162
}

/// What follows, item by item.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next item.
    pub(super) fn next(&mut self) -> Result<Item<'a>, Breach> {
        let [tag, first, rest @ ..] = self.0 else { return malformed() };
        if tag & 0x1f == 0x1f {
            return malformed();
        }
        let (len, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x84 => {
                let (octets, rest) = match rest.split_at_checked(usize::from(first & 0x7f)) {
                    Some(split) => split,
                    None => return malformed(),
                };
                let len = octets.iter().fold(0_usize, |sum, octet| sum << 8 | usize::from(*octet));
                if octets.first() == Some(&0) || len < 0x80 {
                    return malformed();
                }
                (len, rest)
            }
            _ => return malformed(),
        };
        let Some((contents, rest)) = rest.split_at_checked(len) else { return malformed() };
        let whole = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Ok(Item { tag: *tag, contents, whole })
    }

    /// The next item if it has this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<Item<'a>>, Breach> {
        if self.0.first() == Some(&tag) { self.next().map(Some) } else { Ok(None) }
    }

    /// The next item, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<Item<'a>, Breach> {
        match self.optional(tag)? {
            Some(item) => Ok(item),
            None => super::breach("structure", "something else stands where the standard wants another element"),
        }
    }

    /// What is inside the tag [n], if that is next.
    pub(super) fn inside(&mut self, n: u8) -> Result<Option<Item<'a>>, Breach> {
        self.optional(explicit(n))?.map(|item| Item::only(item.contents)).transpose()
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Result<(), Breach> {
        super::demand(self.0.is_empty(), "structure", "more follows than the standard knows")
    }

    /// Whether nothing follows.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Checks an item and all that is in it.
///
/// # Errors
/// Anything that is not DER.
pub(super) fn check(item: &Item<'_>) -> Result<(), Breach> {
    check_at(item, 0)
}

fn check_at(item: &Item<'_>, depth: usize) -> Result<(), Breach> {
    let is_universal = item.tag & 0xc0 == 0;
    let is_constructed = item.tag & 0x20 != 0;
    if depth > DEPTH_MAX || (is_universal && is_constructed != matches!(item.tag, SEQUENCE | SET)) {
        return malformed();
    }
    if !is_constructed {
        return if !is_universal || is_primitive(item) { Ok(()) } else { malformed() };
    }
    let mut reader = item.reader();
    let mut before: &[u8] = &[];
    while !reader.is_empty() {
        let next = reader.next()?;
        if item.tag == SET && next.whole < before {
            return malformed();
        }
        before = next.whole;
        check_at(&next, depth + 1)?;
    }
    Ok(())
}

/// Whether a primitive value of a universal type is in its only spelling.
fn is_primitive(item: &Item<'_>) -> bool {
    match (item.tag, item.contents) {
        (BOOLEAN, value) => matches!(value, [0 | 0xff]),
        (INTEGER, []) => false,
        (INTEGER, [0, second, ..]) => *second >= 0x80,
        (INTEGER, [0xff, second, ..]) => *second < 0x80,
        (NULL, value) => value.is_empty(),
        (OID, value) => is_oid(value),
        (BIT_STRING, [unused, bits @ ..]) => {
            let padding = bits.last().map_or(0, |last| u32::from(*last) & ((1 << unused.min(&8)) - 1));
            *unused <= 7 && padding == 0 && (*unused == 0 || !bits.is_empty())
        }
        (BIT_STRING, []) => false,
        (UTC_TIME | GENERALIZED_TIME, _) => item.time().is_ok(),
        _ => true,
    }
}

/// Every number of an object identifier in its shortest form, the last one whole.
fn is_oid(value: &[u8]) -> bool {
    let begins_short = |at: usize| at == 0 || value[at - 1] < 0x80;
    let shortest = value.iter().enumerate().all(|(at, octet)| *octet != 0x80 || !begins_short(at));
    value.last().is_some_and(|last| *last < 0x80) && shortest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(bytes: &[u8]) -> bool {
        Item::only(bytes).and_then(|item| check(&item)).is_ok()
    }

    #[test]
    fn only_the_one_spelling_is_taken() {
        let good: [&[u8]; 8] = [
            &[0x30, 0],
            &[1, 1, 0xff],
            &[2, 1, 0],
            &[2, 2, 0, 0x80],
            &[6, 3, 0x55, 0x1d, 0x13],
            &[3, 2, 1, 0x06],
            &[0x31, 6, 2, 1, 1, 2, 1, 2],
            &[0xa0, 3, 2, 1, 2],
        ];
        good.into_iter().for_each(|bytes| assert!(takes(bytes), "{bytes:?}"));
        let bad: [&[u8]; 20] = [
            &[],
            &[0x30],
            &[0x30, 1],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81, 0],
            &[0x30, 0x82, 0, 0x80],
            &[0x30, 0, 0],
            &[1, 1, 1],
            &[1, 0],
            &[2, 0],
            &[2, 2, 0, 1],
            &[2, 2, 0xff, 0xff],
            &[5, 1, 0],
            &[6, 0],
            &[6, 2, 0x55, 0x80],
            &[6, 3, 0x55, 0x80, 1],
            &[3, 1, 1],
            &[3, 2, 1, 0x07],
            &[0x31, 6, 2, 1, 2, 2, 1, 1],
            &[0x24, 2, 4, 0],
        ];
        bad.into_iter().for_each(|bytes| assert!(!takes(bytes), "{bytes:?}"));
        let deep = (0..30).fold(vec![], |inner: Vec<u8>, _| {
            let mut outer = vec![0x30, u8::try_from(inner.len()).expect("short")];
            outer.extend(inner);
            outer
        });
        assert!(!takes(&deep));
    }

    #[test]
    fn times_are_counted_from_1970() {
        for (tag, text, seconds) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "500101000000Z", Some(-631_152_000)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (GENERALIZED_TIME, "20000229120000Z", Some(951_825_600)),
            (GENERALIZED_TIME, "20010229120000Z", None),
            (GENERALIZED_TIME, "20000101000060Z", None),
            (GENERALIZED_TIME, "20000101000000z", None),
            (GENERALIZED_TIME, "200001010000Z", None),
            (UTC_TIME, "7001010000 0Z", None),
            (UTC_TIME, "700001000000Z", None),
        ] {
            let item = Item { tag, contents: text.as_bytes(), whole: &[] };
            assert_eq!(item.time().ok(), seconds, "{text}");
        }
    }
}
