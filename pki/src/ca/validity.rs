//! How long certificates are good: one row per use, with its usual bounds. A value outside them works and is warned about,
//! because a house may have its reasons.

/// Days of a year, as validity counts them.
const YEAR: u32 = 365;

/// One use of a certificate.
pub(crate) struct Validity {
    /// Its name: the kind of an authority, or a kind of certificate.
    pub(crate) name: &'static str,
    /// Usually not shorter, in days.
    pub(crate) min_days: u32,
    /// Usually not longer, in days.
    pub(crate) max_days: u32,
    /// When nobody says, in days.
    pub(crate) default_days: u32,
}

/// THE table of validities.
pub(crate) const VALIDITIES: &[Validity] = &[
    row("root", 10 * YEAR, 20 * YEAR, 20 * YEAR),
    row("intermediate", 5 * YEAR, 10 * YEAR, 10 * YEAR),
    row("issuing", 2 * YEAR, 5 * YEAR, 5 * YEAR),
    row("device", YEAR, 2 * YEAR, YEAR),
    row("bootstrap", 30, 90, 90),
];

const fn row(name: &'static str, min_days: u32, max_days: u32, default_days: u32) -> Validity {
    Validity { name, min_days, max_days, default_days }
}

/// The row with this name.
pub(crate) fn named(name: &str) -> Option<&'static Validity> {
    VALIDITIES.iter().find(|row| row.name == name)
}

impl Validity {
    /// What is unusual about this many days.
    pub(crate) fn remark(&self, days: u32) -> Option<String> {
        let Self { name, min_days, max_days, .. } = self;
        let is_usual = (*min_days..=*max_days).contains(&days);
        (!is_usual)
            .then(|| format!("{days} days are unusual for '{name}' certificates: {min_days} to {max_days} days are"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_lies_within_its_bounds_and_below_the_row_above() {
        for row in VALIDITIES {
            assert!(row.remark(row.default_days).is_none(), "{}", row.name);
            assert!(row.remark(row.max_days + 1).is_some(), "{}", row.name);
        }
        for pair in VALIDITIES.windows(2) {
            assert!(pair[1].max_days <= pair[0].max_days, "{}", pair[1].name);
        }
        assert!(named("leaf").is_none());
    }
}
