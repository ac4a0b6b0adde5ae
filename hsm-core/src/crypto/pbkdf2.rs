//! PBKDF2 (SP 800-132, RFC 8018 section 5.2) over HMAC, for keys that an application makes of a password. The token's own PINs are
//! stretched in `token/pin.rs`.

use super::{Error, Hash, Result, ffi};
use crate::SecretBytes;

/// The most rounds: whoever asks for them occupies a thread of the daemon.
const ITERATIONS_MAX: u64 = 10_000_000;

/// `len` bytes of a password.
///
/// # Errors
/// [`Error::InvalidParameter`] if `len` or the rounds are zero, or the rounds more than ten million.
pub(crate) fn derive(hash: Hash, password: &[u8], salt: &[u8], iterations: u64, len: usize) -> Result<SecretBytes> {
    let rounds = u32::try_from(iterations).ok().filter(|_| (1..=ITERATIONS_MAX).contains(&iterations) && len > 0);
    let mut output = SecretBytes::zeroed(len);
    ffi::pbkdf2(hash, password, salt, rounds.ok_or(Error::InvalidParameter)?, output.expose_mut())?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::hex;

    /// RFC 6070, section 2 (SHA-1): cases 1, 2, 3, 5 and 6.
    #[test]
    fn the_examples_of_the_standard() {
        let rows: [(&[u8], &[u8], u64, &str); 5] = [
            (b"password", b"salt", 1, "0c60c80f961f0e71f3a9b524af6012062fe037a6"),
            (b"password", b"salt", 2, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957"),
            (b"password", b"salt", 4096, "4b007901b765489abead49d926f721d065a429c1"),
            (
                b"passwordPASSWORDpassword",
                b"saltSALTsaltSALTsaltSALTsaltSALTsalt",
                4096,
                "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038",
            ),
            (b"pass\0word", b"sa\0lt", 4096, "56fa6aa75548099dcc37d7f03425e0c3"),
        ];
        for (password, salt, rounds, answer) in rows {
            let answer = hex(answer);
            let derived = derive(Hash::Sha1, password, salt, rounds, answer.len()).expect("derives");
            assert_eq!(derived.expose(), answer, "{rounds}");
        }
    }

    #[test]
    fn no_rounds_no_bytes_and_too_many_rounds_are_refused() {
        for (rounds, len) in [(0, 16), (1, 0), (ITERATIONS_MAX + 1, 16), (u64::MAX, 16)] {
            let refused = derive(Hash::Sha256, b"password", b"salt", rounds, len).err();
            assert_eq!(refused, Some(Error::InvalidParameter), "{rounds} {len}");
        }
    }
}
