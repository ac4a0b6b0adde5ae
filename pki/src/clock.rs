//! The clock: seconds since 1970, read at the doors and handed inward; and how people read an instant.
//!
//! It may be wrong: set back by a day, or years ahead for an hour. What is remembered by an instant that has not come is therefore not
//! trusted: [`is_to_come`], [`is_within`]. What was done too early is undone by [`crate::ca::hindsight`].

use serde_json::Value;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Seconds of a day.
pub(crate) const DAY_SECONDS: i64 = 86_400;
/// By so much a clock may be corrected while it is right.
pub(crate) const SKEW_SECONDS: i64 = 60;

/// Now.
pub(crate) fn now() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)
}

/// Whether an instant that was remembered has not come yet: the clock was ahead when it was remembered, or is behind now.
pub(crate) fn is_to_come(instant: i64, now: i64) -> bool {
    instant > now.saturating_add(SKEW_SECONDS)
}

/// Whether so many seconds since an instant are not over. Of an instant that has not come they are: nothing lasts for years because a
/// clock was ahead.
pub(crate) fn is_within(seconds: i64, since: i64, now: i64) -> bool {
    !is_to_come(since, now) && now.saturating_sub(since) < seconds
}

/// Compares the clock with one that nobody sets.
pub(crate) struct Watch {
    begun: Instant,
    wall: i64,
}

impl Watch {
    /// Begins now.
    pub(crate) fn start(now: i64) -> Self {
        Self { begun: Instant::now(), wall: now }
    }

    /// By how many seconds the clock was set since it was last asked, ahead or back; none when it only ran.
    pub(crate) fn jump(&mut self, now: i64) -> Option<i64> {
        let ran = i64::try_from(self.begun.elapsed().as_secs()).unwrap_or(i64::MAX);
        let jump = now.saturating_sub(self.wall).saturating_sub(ran);
        if jump.abs() <= SKEW_SECONDS {
            return None;
        }
        *self = Self::start(now);
        Some(jump)
    }
}

/// An instant in RFC 3339, or null for none.
pub(crate) fn instant(unix_seconds: i64) -> Value {
    written(unix_seconds).map_or(Value::Null, Value::String)
}

/// The same inside a sentence; "never" for none.
pub(crate) fn instant_text(unix_seconds: i64) -> String {
    written(unix_seconds).unwrap_or_else(|| "never".to_owned())
}

fn written(unix_seconds: i64) -> Option<String> {
    let instant = (unix_seconds != 0).then(|| OffsetDateTime::from_unix_timestamp(unix_seconds).ok())??;
    instant.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_lasts_because_it_was_remembered_in_the_future() {
        for (since, expected) in
            [(1000, true), (941, true), (940, false), (1060, true), (1061, false), (i64::MAX, false)]
        {
            assert_eq!(is_within(60, since, 1000), expected, "{since}");
        }
        assert!(!is_within(60, i64::MIN, 1000));
    }

    #[test]
    fn an_instant_is_null_for_programs_and_bare_words_for_people() {
        assert_eq!((instant(1), instant(0)), ("1970-01-01T00:00:01Z".into(), Value::Null));
        assert_eq!([1, 0, i64::MAX].map(instant_text), ["1970-01-01T00:00:01Z", "never", "never"]);
    }

    #[test]
    fn a_watch_tells_a_jump_once_and_no_correction() {
        let mut watch = Watch::start(1000);
        assert_eq!(watch.jump(1000 + SKEW_SECONDS), None);
        assert_eq!(watch.jump(1000 + DAY_SECONDS), Some(DAY_SECONDS));
        assert_eq!(watch.jump(1000 + DAY_SECONDS), None);
        assert_eq!(watch.jump(1000), Some(-DAY_SECONDS));
    }
}
