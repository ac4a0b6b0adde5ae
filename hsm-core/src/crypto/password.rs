//! How a PIN or a passphrase becomes 32 bytes of key: PBKDF2-HMAC-SHA256 (SP 800-132, RFC 8018 section 5.2) or Argon2id (RFC 9106).
//! The parameters are stored beside what they protect, so the limits here are also a reader's: no file shall keep it busy for hours.

use core::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::pbkdf2;

use super::{Error, Result};
use crate::SecretBytes;

/// Bytes that come out.
pub(crate) const OUTPUT_LEN: usize = 32;
/// Most rounds of PBKDF2.
pub(crate) const ITERATIONS_MAX: u32 = 10_000_000;
/// Most memory of Argon2id: 1 GiB.
pub(crate) const MEMORY_KIB_MAX: u32 = 1 << 20;
/// Most passes of Argon2id.
pub(crate) const PASSES_MAX: u32 = 64;
/// Most lanes of Argon2id.
pub(crate) const LANES_MAX: u32 = 16;

/// The function and its cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordFunction {
    /// PBKDF2-HMAC-SHA256.
    Pbkdf2 {
        /// Rounds.
        iterations: u32,
    },
    /// Argon2id, version 0x13.
    Argon2id {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
}

impl PasswordFunction {
    /// 32 bytes of a password.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] if a cost is out of range.
    pub(crate) fn stretch(self, password: &SecretBytes, salt: &[u8]) -> Result<SecretBytes> {
        let mut out = SecretBytes::zeroed(OUTPUT_LEN);
        match self {
            PasswordFunction::Pbkdf2 { iterations } => {
                let rounds = NonZeroU32::new(iterations).filter(|rounds| rounds.get() <= ITERATIONS_MAX);
                let rounds = rounds.ok_or(Error::InvalidParameter)?;
                pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password.expose(), out.expose_mut());
            }
            PasswordFunction::Argon2id { memory_kib, passes, lanes } => {
                if memory_kib > MEMORY_KIB_MAX || passes > PASSES_MAX || lanes > LANES_MAX {
                    return Err(Error::InvalidParameter);
                }
                let params = Params::new(memory_kib, passes, lanes, Some(OUTPUT_LEN));
                let params = params.map_err(|_| Error::InvalidParameter)?;
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
                let done = argon2.hash_password_into(password.expose(), salt, out.expose_mut());
                done.map_err(|_| Error::InvalidParameter)?;
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by another implementation: Python's `hashlib.pbkdf2_hmac` and `argon2-cffi` 25.1 (the reference implementation in C).
    #[test]
    fn both_functions_agree_with_another_implementation() {
        let rows = [
            (
                PasswordFunction::Pbkdf2 { iterations: 1000 },
                "9b7d9ed9031c046cb40a700a730802a163ac2be28d80acccdbaeba7101198b03",
            ),
            (
                PasswordFunction::Argon2id { memory_kib: 1024, passes: 3, lanes: 1 },
                "f29e44089cb352057686137a71c665c40398e46ec6c56561e5b0ef2d851dc610",
            ),
            (
                PasswordFunction::Argon2id { memory_kib: 64, passes: 2, lanes: 4 },
                "a0bb4c8c25043da8cf9852e2e4de40f1cd6d9ce92862d3f58c549b5310f70d55",
            ),
        ];
        for (function, expected) in rows {
            let out = function.stretch(&SecretBytes::copy_from(b"correct horse"), &[7; 32]).expect("derives");
            assert!(out.expose() == crate::crypto::testing::hex(expected), "{function:?}");
        }
    }

    #[test]
    fn costs_out_of_range_are_refused() {
        let rows = [
            PasswordFunction::Pbkdf2 { iterations: 0 },
            PasswordFunction::Pbkdf2 { iterations: ITERATIONS_MAX + 1 },
            PasswordFunction::Argon2id { memory_kib: MEMORY_KIB_MAX + 1, passes: 1, lanes: 1 },
            PasswordFunction::Argon2id { memory_kib: 64, passes: PASSES_MAX + 1, lanes: 1 },
            PasswordFunction::Argon2id { memory_kib: 64, passes: 0, lanes: 1 },
            PasswordFunction::Argon2id { memory_kib: 7, passes: 1, lanes: 1 },
            PasswordFunction::Argon2id { memory_kib: 1024, passes: 1, lanes: LANES_MAX + 1 },
        ];
        for function in rows {
            let refused = function.stretch(&SecretBytes::copy_from(b"p"), &[0; 32]);
            assert_eq!(refused.err(), Some(Error::InvalidParameter), "{function:?}");
        }
    }
}
