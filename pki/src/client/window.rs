//! When a certificate is renewed: at a moment within a window of its life that is drawn from the certificate itself. It is the
//! same at every look and another for every device, so that a fleet enrolled in one night is not renewed in one night.

use super::ClientError;
use crate::x509::sha256;

/// A window, in percent of the life of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    begin: i64,
    end: i64,
}

impl Window {
    /// Reads `66-80`.
    pub(super) fn parse(text: &str) -> Result<Self, ClientError> {
        let parts = text.split_once('-').and_then(|(begin, end)| Some((begin.parse().ok()?, end.parse().ok()?)));
        match parts {
            Some((begin, end)) if 0 < begin && begin <= end && end < 100 => Ok(Self { begin, end }),
            _ => Err(ClientError::Arguments(format!(
                "the window '{text}' must be BEGIN-END, two percentages from 1 to 99"
            ))),
        }
    }

    /// The moment at which a certificate is to be renewed.
    pub(super) fn moment(self, certificate: &[u8], not_before: i64, not_after: i64) -> i64 {
        let life = not_after.saturating_sub(not_before);
        let at = |percent: i64| not_before.saturating_add(life / 100 * percent);
        let span = at(self.end).saturating_sub(at(self.begin)).max(1);
        let digest = sha256(certificate);
        let drawn = digest.iter().take(7).fold(0i64, |sum, byte| sum << 8 | i64::from(*byte));
        at(self.begin).saturating_add(drawn % span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::DAY_SECONDS;

    #[test]
    fn the_moment_lies_in_the_window_and_differs_from_device_to_device() {
        let window = Window::parse("66-80").expect("parses");
        let moments: std::collections::BTreeSet<_> =
            (0..50u8).map(|device| window.moment(&[device], 1000, 1000 + 90 * DAY_SECONDS)).collect();
        assert!(moments.len() > 40);
        let life = 90 * DAY_SECONDS;
        assert!(moments.iter().all(|moment| (1000 + life * 65 / 100..=1000 + life * 80 / 100).contains(moment)));
        assert_eq!(window.moment(&[7], 0, 1000), window.moment(&[7], 0, 1000));
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for bad in ["", "66", "80-66", "0-50", "50-100", "a-b", "-5-9"] {
            assert!(Window::parse(bad).is_err(), "{bad}");
        }
    }
}
