//! The only door to randomness: AWS-LC's generator (SP 800-90A CTR_DRBG, seeded by the operating system).

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use super::{Error, Result};
use crate::SecretBytes;

/// Fills the buffer with random bytes.
pub(crate) fn fill(buffer: &mut [u8]) -> Result<()> {
    SystemRandom::new().fill(buffer).map_err(|_| Error::Internal)
}

/// A secret of `len` random bytes.
pub(crate) fn secret(len: usize) -> Result<SecretBytes> {
    let mut secret = SecretBytes::zeroed(len);
    fill(secret.expose_mut())?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ_and_an_empty_one_is_allowed() {
        assert!(secret(32).expect("random") != secret(32).expect("random"));
        assert!(secret(0).expect("random").is_empty());
    }
}
