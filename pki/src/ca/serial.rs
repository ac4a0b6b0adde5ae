//! Serial numbers: 16 octets, positive, with 126 random bits (RFC 5280 section 4.1.2.2 allows 20 octets).

use super::CaError;
use ring::rand::{SecureRandom, SystemRandom};

/// A fresh serial number. Its first two bits are 01, so that it is positive and always 16 octets long.
///
/// # Errors
/// When the operating system gives no randomness.
pub(crate) fn fresh() -> Result<Vec<u8>, CaError> {
    let mut serial = random(16)?;
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x3F) | 0x40;
    }
    Ok(serial)
}

/// Random bytes from the operating system.
///
/// # Errors
/// When it gives none.
pub(crate) fn random(len_bytes: usize) -> Result<Vec<u8>, CaError> {
    let mut bytes = vec![0; len_bytes];
    SystemRandom::new().fill(&mut bytes).map_err(|_| CaError::Randomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn serial_numbers_are_positive_16_octets_and_differ() {
        let serials: BTreeSet<_> = (0..200).map(|_| fresh().expect("randomness")).collect();
        assert_eq!(serials.len(), 200);
        for serial in &serials {
            assert_eq!(serial.len(), 16);
            assert!((0x40..0x80).contains(&serial[0]));
        }
    }
}
