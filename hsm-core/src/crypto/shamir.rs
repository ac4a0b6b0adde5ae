//! Shamir's scheme over GF(2^8): a secret cut into shares of which any m give it back and m - 1 tell nothing of it (Shamir: "How to
//! share a secret", Communications of the ACM 22, 1979).
//!
//! The field is that of AES, with the polynomial x^8 + x^4 + x^3 + x + 1. Products are computed without tables and without a branch on
//! a value, so that neither time nor cache tells of the secret.

use super::{Error, Result, rng};
use crate::SecretBytes;

/// One share: the polynomials' values at `index`, one byte per byte of the secret.
pub(crate) struct Point {
    /// 1 to 255; the secret lies at 0.
    pub(crate) index: u8,
    /// As long as the secret.
    pub(crate) value: SecretBytes,
}

/// Cuts a secret into `count` shares of which `threshold` are needed.
///
/// # Errors
/// [`Error::InvalidParameter`] unless 2 <= threshold <= count.
pub(crate) fn split(secret: &SecretBytes, threshold: u8, count: u8) -> Result<Vec<Point>> {
    if threshold < 2 || threshold > count {
        return Err(Error::InvalidParameter);
    }
    // The coefficients of x, x^2 ... for every byte of the secret, degree by degree.
    let random = rng::secret(secret.len() * usize::from(threshold - 1))?;
    let points = (1..=count).map(|index| {
        let mut value = SecretBytes::zeroed(secret.len());
        for coefficients in random.expose().chunks(secret.len().max(1)).rev() {
            for (sum, coefficient) in value.expose_mut().iter_mut().zip(coefficients) {
                *sum = mul(*sum ^ coefficient, index);
            }
        }
        for (sum, byte) in value.expose_mut().iter_mut().zip(secret.expose()) {
            *sum ^= byte;
        }
        Point { index, value }
    });
    Ok(points.collect())
}

/// The secret of these shares, all of which are used: the polynomials' values at 0.
///
/// # Errors
/// [`Error::InvalidParameter`] if there is no share, an index is 0 or occurs twice, or lengths differ.
pub(crate) fn combine(points: &[&Point]) -> Result<SecretBytes> {
    let len = points.first().ok_or(Error::InvalidParameter)?.value.len();
    let mut secret = SecretBytes::zeroed(len);
    for (at, point) in points.iter().enumerate() {
        if point.index == 0 || point.value.len() != len {
            return Err(Error::InvalidParameter);
        }
        let mut weight = 1;
        for (_, other) in points.iter().enumerate().filter(|(other, _)| *other != at) {
            let distance = point.index ^ other.index;
            if distance == 0 {
                return Err(Error::InvalidParameter);
            }
            weight = mul(weight, mul(other.index, inverse(distance)));
        }
        for (sum, byte) in secret.expose_mut().iter_mut().zip(point.value.expose()) {
            *sum ^= mul(*byte, weight);
        }
    }
    Ok(secret)
}

fn mul(a: u8, b: u8) -> u8 {
    let (mut product, mut power) = (0, a);
    for bit in 0..8 {
        product ^= power & 0u8.wrapping_sub((b >> bit) & 1);
        power = (power << 1) ^ (0x1b & 0u8.wrapping_sub(power >> 7));
    }
    product
}

/// The power 254, which is the inverse of all but 0.
fn inverse(a: u8) -> u8 {
    let (mut result, mut square) = (1, a);
    for _ in 0..7 {
        square = mul(square, square);
        result = mul(result, square);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(bytes: &[u8]) -> SecretBytes {
        SecretBytes::copy_from(bytes)
    }

    #[test]
    fn the_field_is_that_of_aes() {
        // FIPS 197, section 4.2: {57} x {83} = {c1}, {57} x {13} = {fe}.
        assert_eq!((mul(0x57, 0x83), mul(0x57, 0x13)), (0xc1, 0xfe));
        for a in 1..=255 {
            assert_eq!(mul(a, inverse(a)), 1);
            assert_eq!((mul(a, 1), mul(a, 0)), (a, 0));
        }
    }

    #[test]
    fn every_quorum_of_every_small_scheme_gives_the_secret_back() {
        let bytes = [0, 1, 0x80, 0xff, 42];
        for count in 2..=6_u8 {
            for threshold in 2..=count {
                let points = split(&secret(&bytes), threshold, count).expect("splits");
                for chosen in 1_u32..1 << count {
                    let quorum: Vec<&Point> =
                        points.iter().filter(|point| chosen >> (point.index - 1) & 1 == 1).collect();
                    let found = combine(&quorum).expect("combines");
                    if quorum.len() >= usize::from(threshold) {
                        assert!(found == secret(&bytes), "{chosen:b} of {threshold}:{count}");
                    }
                }
            }
        }
    }

    /// With m - 1 shares every secret is as likely as any other: for each of the 256 values there is exactly one m-th share that leads
    /// to it.
    #[test]
    fn one_share_less_leaves_all_256_values_possible() {
        for threshold in 2..=4_u8 {
            let points = split(&secret(&[0x5a]), threshold, threshold).expect("splits");
            let (last, known) = points.split_last().expect("shares");
            let mut seen = [0; 256];
            for guess in 0..=255 {
                let guessed = Point { index: last.index, value: secret(&[guess]) };
                let quorum: Vec<&Point> = known.iter().chain([&guessed]).collect();
                seen[usize::from(combine(&quorum).expect("combines").expose()[0])] += 1;
            }
            assert_eq!(seen, [1; 256], "{threshold} shares");
        }
    }

    #[test]
    fn what_is_no_scheme_and_no_quorum_is_refused() {
        for (threshold, count) in [(0, 0), (0, 3), (1, 3), (4, 3)] {
            assert!(split(&secret(b"s"), threshold, count).is_err(), "{threshold}:{count}");
        }
        let points = split(&secret(b"secret"), 2, 3).expect("splits");
        assert!(combine(&[]).is_err());
        assert!(combine(&[&points[0], &points[0]]).is_err(), "twice the same");
        let zero = Point { index: 0, value: secret(b"secret") };
        assert!(combine(&[&zero, &points[0]]).is_err(), "the place of the secret");
        let short = Point { index: 9, value: secret(b"s") };
        assert!(combine(&[&points[0], &short]).is_err(), "another length");
    }

    /// Computed by an independent program (Python, with tables of logarithms): coefficients 0x11 and 0x22 on the secret 0x42.
    #[test]
    fn known_shares_give_the_known_secret() {
        let points = [(1, 0x71), (2, 0xe8), (200, 0xfe)].map(|(index, value)| Point { index, value: secret(&[value]) });
        assert!(combine(&points.each_ref()).expect("combines") == secret(&[0x42]));
    }
}
