//! How often something that goes on failing is said.

use std::time::{Duration, Instant};

/// The same reason is said again after so long.
const AGAIN: Duration = Duration::from_secs(600);

/// What was said last of something that may fail again and again: another reason is said at once, the same one every ten minutes.
#[derive(Debug, Default)]
pub struct Complaint(Option<(String, Instant)>);

impl Complaint {
    /// Whether this failure is to be said.
    pub fn is_due(&mut self, why: &str) -> bool {
        self.is_due_at(why, Instant::now())
    }

    fn is_due_at(&mut self, why: &str, now: Instant) -> bool {
        let said = self.0.as_ref().is_some_and(|(said, when)| said == why && now.duration_since(*when) < AGAIN);
        if !said {
            self.0 = Some((why.to_owned(), now));
        }
        !said
    }

    /// It has succeeded; says whether a failure was told before.
    pub fn is_over(&mut self) -> bool {
        self.0.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_reason_is_said_at_once_and_the_same_one_after_a_while() {
        let (mut complaint, begun) = (Complaint::default(), Instant::now());
        let rows = [
            ("refused", 0, true),
            ("refused", 1, false),
            ("no route", 2, true),
            ("refused", 3, true),
            ("refused", 602, false),
            ("refused", 603, true),
            ("refused", 604, false),
        ];
        for (why, seconds, expected) in rows {
            let now = begun + Duration::from_secs(seconds);
            assert_eq!(complaint.is_due_at(why, now), expected, "{why} after {seconds} s");
        }
        assert!(complaint.is_over() && !complaint.is_over());
        assert!(complaint.is_due_at("refused", begun + Duration::from_secs(605)));
    }
}
