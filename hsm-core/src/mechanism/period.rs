//! CKA_START_DATE and CKA_END_DATE as the life of a key (SP 800-57 Part 1 Revision 5, §5.3.6: the originator's and the recipient's usage
//! period). Before the start a key does nothing; after the end it no longer protects anything new, but still verifies, decrypts and
//! unwraps what was protected in time. The dates are days in UTC, both inclusive.

use core::fmt;

use ck::attribute::{CKA_END_DATE, CKA_START_DATE};

use super::purpose::Use;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::object::Attributes;

/// A day, written as `CK_DATE` writes it: YYYYMMDD. Such days compare as bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Day([u8; 8]);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(&self.0).unwrap_or_default())
    }
}

const NANOS_PER_DAY: u64 = 86_400 * 1_000_000_000;

impl Day {
    /// The day of the clock, UTC.
    pub(crate) fn today(clock: &dyn Clock) -> Day {
        Day::since_epoch(clock.now_unix_nanos() / NANOS_PER_DAY)
    }

    /// The day so many days after 1 January 1970, in the Gregorian calendar.
    fn since_epoch(days: u64) -> Day {
        let (mut year, mut rest) = (1970, days);
        while rest >= year_len(year) {
            rest -= year_len(year);
            year += 1;
        }
        let mut month = 1;
        while rest >= month_len(year, month) {
            rest -= month_len(year, month);
            month += 1;
        }
        let text = format!("{:04}{month:02}{:02}", year.min(9999), rest + 1);
        Day(text.as_bytes().try_into().expect("eight digits were written"))
    }

    fn of(attributes: &Attributes, kind: ck::Attribute) -> Option<Day> {
        attributes.bytes(kind).try_into().ok().map(Day)
    }
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn year_len(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

const fn month_len(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Uses that undo what was done while the key was in force.
fn is_for_the_past(purpose: Use) -> bool {
    let verifies = matches!(purpose, Use::Verify | Use::VerifyRecover | Use::MessageVerify);
    let decrypts = matches!(purpose, Use::Decrypt | Use::MessageDecrypt | Use::Decapsulate);
    verifies || decrypts || matches!(purpose, Use::Unwrap | Use::UnwrapAuthenticated)
}

/// Whether the key may be used in this way today.
///
/// # Errors
/// [`Kind::KeyFunction`] naming the date.
pub(crate) fn check(attributes: &Attributes, purpose: Use, clock: &dyn Clock) -> Result<()> {
    let (start, end) = (Day::of(attributes, CKA_START_DATE), Day::of(attributes, CKA_END_DATE));
    if start.is_none() && end.is_none() {
        return Ok(());
    }
    let today = Day::today(clock);
    if let Some(start) = start.filter(|&start| today < start) {
        return Err(Error::new(Kind::KeyFunction, format!("the key is not in force before {start} (CKA_START_DATE)")));
    }
    if let Some(end) = end.filter(|&end| today > end && !is_for_the_past(purpose)) {
        let what = format!("the key ended on {end} (CKA_END_DATE): it only verifies, decrypts and unwraps");
        return Err(Error::new(Kind::KeyFunction, what));
    }
    Ok(())
}

/// Whether the dates of a template make a period.
///
/// # Errors
/// [`Kind::TemplateInconsistent`] when the end lies before the start.
pub(crate) fn check_order(attributes: &Attributes) -> Result<()> {
    match (Day::of(attributes, CKA_START_DATE), Day::of(attributes, CKA_END_DATE)) {
        (Some(start), Some(end)) if end < start => {
            Err(Error::new(Kind::TemplateInconsistent, "CKA_END_DATE lies before CKA_START_DATE"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Value;

    struct On(u64);

    impl Clock for On {
        fn now_unix_nanos(&self) -> u64 {
            self.0 * NANOS_PER_DAY + 1
        }
    }

    #[test]
    fn days_are_counted_in_the_gregorian_calendar() {
        for (days, text) in [
            (0, "19700101"),
            (30, "19700131"),
            (59, "19700301"),
            (10_956, "19991231"),
            (11_016, "20000229"),
            (20_000, "20241004"),
            (47_540, "21000228"),
            (47_541, "21000301"),
        ] {
            assert_eq!(Day::today(&On(days)).to_string(), text, "{days}");
        }
    }

    fn period(start: &str, end: &str) -> Attributes {
        let mut attributes = Attributes::default();
        attributes.put(CKA_START_DATE, Value::bytes(start));
        attributes.put(CKA_END_DATE, Value::bytes(end));
        attributes
    }

    #[test]
    fn a_key_lives_from_its_first_day_to_its_last() {
        // 4 October 2024.
        let clock = On(20_000);
        let past = [Use::Verify, Use::Decrypt, Use::Unwrap, Use::Decapsulate];
        let new = [Use::Sign, Use::Encrypt, Use::Wrap, Use::Derive, Use::Encapsulate];
        for (start, end, past_fine, new_fine) in [
            ("", "", true, true),
            ("20241004", "20241004", true, true),
            ("20241005", "", false, false),
            ("20241005", "20251005", false, false),
            ("", "20241003", true, false),
            ("20230101", "20241003", true, false),
        ] {
            let attributes = period(start, end);
            for (uses, fine) in [(&past[..], past_fine), (&new[..], new_fine)] {
                for &purpose in uses {
                    assert_eq!(check(&attributes, purpose, &clock).is_ok(), fine, "{start}..{end} {purpose:?}");
                }
            }
        }
    }

    #[test]
    fn an_end_before_the_start_is_no_period() {
        assert!(check_order(&period("20240101", "20240101")).is_ok());
        assert!(check_order(&period("20240102", "20240101")).is_err());
    }
}
