//! Which notice of its end a certificate is due next, and what is told. A certificate stands in the queue of what is due with its next
//! step only, so the cost follows what comes of age.

use super::kind::AuthorityKind;
use super::record::{Certificate, Due, DueEvent, Notice};
use crate::clock::DAY_SECONDS;

/// The steps: the event in the queue, and how many days before the end.
const STEPS: &[(DueEvent, u32)] =
    &[(DueEvent::Notice60, 60), (DueEvent::Notice30, 30), (DueEvent::Notice7, 7), (DueEvent::Notice1, 1)];

/// The next step of a certificate after an instant. Steps in the first half of a life tell nothing: the certificate is new.
pub(crate) fn next_step(certificate: &Certificate, after: i64) -> Option<Due> {
    let is_told_about = !certificate.device.is_empty() || AuthorityKind::named(&certificate.kind).is_some();
    let half = certificate.not_after.saturating_sub(certificate.not_before) / 2;
    let steps = STEPS
        .iter()
        .map(|(event, days)| (*event, i64::from(*days) * DAY_SECONDS))
        .filter(|(_, before)| *before <= half);
    let mut due = steps.map(|(event, before)| (event, certificate.not_after.saturating_sub(before)));
    let (event, at) = due.find(|(_, at)| *at > after).filter(|_| is_told_about)?;
    Some(Due { at, event: event.into(), serial: certificate.serial.clone() })
}

/// What is told of a certificate whose step is due: of the last step that is reached, when a server was off meanwhile.
pub(crate) fn of(certificate: &Certificate, now: i64) -> Notice {
    let left = certificate.not_after.saturating_sub(now);
    let reached = STEPS.iter().rev().map(|row| row.1).find(|days| i64::from(*days) * DAY_SECONDS >= left);
    let days = reached.unwrap_or_default();
    Notice {
        next_try: now,
        serial: certificate.serial.clone(),
        days,
        subject: certificate.subject.clone(),
        device: certificate.device.clone(),
        authority: certificate.authority.clone(),
        not_after: certificate.not_after,
        at: now,
        tries: 0,
    }
}

/// Whether the step that a notice tells of has come.
pub(crate) fn is_due(notice: &Notice, now: i64) -> bool {
    notice.not_after.saturating_sub(i64::from(notice.days) * DAY_SECONDS) <= now
}

/// What became of a try to tell notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// They were told.
    Told,
    /// They are tried again.
    Later,
    /// They are tried no more.
    GivenUp,
}

impl Outcome {
    /// The word in the journal.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Told => "told",
            Self::Later => "later",
            Self::GivenUp => "given_up",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: i64 = 1_800_000_000;

    fn certificate(device: &str, days: i64) -> Certificate {
        Certificate {
            device: device.to_owned(),
            not_before: BEGIN,
            not_after: BEGIN + days * DAY_SECONDS,
            ..Certificate::default()
        }
    }

    fn days_of(event: DueEvent) -> Option<u32> {
        STEPS.iter().find(|row| row.0 == event).map(|row| row.1)
    }

    #[test]
    fn steps_follow_one_another_and_the_first_half_of_a_life_has_none() {
        let steps = |certificate: &Certificate| {
            let (mut steps, mut after) = (Vec::new(), BEGIN);
            while let Some(due) = next_step(certificate, after) {
                steps.push((days_of(due.event()).expect("a step"), (certificate.not_after - due.at) / DAY_SECONDS));
                after = due.at;
            }
            steps
        };
        assert_eq!(steps(&certificate("a", 365)), [(60, 60), (30, 30), (7, 7), (1, 1)]);
        assert_eq!(steps(&certificate("a", 90)), [(30, 30), (7, 7), (1, 1)]);
        assert_eq!(steps(&certificate("a", 14)), [(7, 7), (1, 1)]);
        assert_eq!(steps(&certificate("a", 1)), []);
        assert_eq!(steps(&certificate("", 365)), [], "what the house renews by itself");
        let authority = Certificate { kind: "issuing".to_owned(), ..certificate("", 365) };
        assert_eq!(steps(&authority).len(), 4);
    }
}
