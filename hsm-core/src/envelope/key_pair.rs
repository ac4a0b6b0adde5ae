//! A pair of keys for backups: whoever has the public one can make archives, only the private one opens them.
//!
//! Hybrid: an archive opens only to somebody who breaks X25519 (RFC 7748) and ML-KEM-768 (FIPS 203) both. Text forms and the way
//! from two shared secrets to one key are in `format.md`.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::crypto::ml_kem::{self, ParameterSet};
use crate::crypto::x25519;
use crate::{Error, Kind, Result, SecretBytes};

const PUBLIC_WORD: &str = "craton-backup-public-key-1";
const SECRET_WORD: &str = "craton-backup-secret-key-1";
const SET: ParameterSet = ParameterSet::MlKem768;
const KEM_PUBLIC_LEN: usize = SET.public_len();
/// Length of a public key in bytes.
const PUBLIC_LEN: usize = KEM_PUBLIC_LEN + x25519::PUBLIC_LEN;
const SECRET_LEN: usize = ml_kem::SEED_LEN + x25519::SCALAR_LEN;
const NAME_LEN: usize = 16;

/// Who may open an archive.
pub struct BackupPublicKey {
    bytes: Vec<u8>,
}

/// Opens archives made for its public key; wiped when dropped.
pub struct BackupSecretKey {
    kem: ml_kem::PrivateKey,
    dh: x25519::PrivateKey,
    public: BackupPublicKey,
}

/// What travels in the archive, and the two secrets that only the two sides know.
pub(super) struct Encapsulated {
    pub(super) ephemeral: Vec<u8>,
    pub(super) ciphertext: Vec<u8>,
    pub(super) secrets: SecretBytes,
}

impl BackupPublicKey {
    /// Its bytes: the ML-KEM-768 encapsulation key, then the X25519 public key.
    ///
    /// # Errors
    /// [`Kind::ArgumentsBad`] for another length or a malformed ML-KEM key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let bad = || Error::new(Kind::ArgumentsBad, "it is no public key for backups");
        if bytes.len() != PUBLIC_LEN {
            return Err(bad());
        }
        ml_kem::PublicKey::from_bytes(SET, &bytes[..KEM_PUBLIC_LEN]).map_err(|_| bad())?;
        Ok(BackupPublicKey { bytes: bytes.to_vec() })
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// One line of text.
    pub fn to_text(&self) -> String {
        format!("{PUBLIC_WORD} {}\n", HEXLOWER.encode(&self.bytes))
    }

    /// Reads the line.
    ///
    /// # Errors
    /// [`Kind::DataInvalid`] if it is none.
    pub fn parse(text: &str) -> Result<Self> {
        let bytes = digits_after(text, PUBLIC_WORD);
        bytes.and_then(|bytes| BackupPublicKey::from_bytes(&bytes).ok()).ok_or_else(|| {
            Error::new(Kind::DataInvalid, format!("it is no public key for backups: one begins with {PUBLIC_WORD}"))
        })
    }

    /// Its name: the first 16 bytes of its SHA-256, in hexadecimal digits.
    pub fn name(&self) -> String {
        HEXLOWER.encode(&Sha256::digest(&self.bytes)[..NAME_LEN])
    }

    pub(super) fn encapsulate(&self) -> Result<Encapsulated> {
        let (kem, dh) = self.bytes.split_at(KEM_PUBLIC_LEN);
        let (ciphertext, kem_secret) = ml_kem::PublicKey::from_bytes(SET, kem)?.encapsulate()?;
        let own = x25519::PrivateKey::generate()?;
        let dh_secret = own.agree(dh)?;
        Ok(Encapsulated {
            ephemeral: own.public().as_bytes().to_vec(),
            ciphertext,
            secrets: joined(&kem_secret, &dh_secret),
        })
    }
}

impl BackupSecretKey {
    /// A new pair.
    ///
    /// # Errors
    /// [`Kind::Device`] if there is no randomness.
    pub fn generate() -> Result<Self> {
        BackupSecretKey::of(ml_kem::PrivateKey::generate(SET)?, x25519::PrivateKey::generate()?)
    }

    fn of(kem: ml_kem::PrivateKey, dh: x25519::PrivateKey) -> Result<Self> {
        let bytes = [&kem.public()?.to_bytes()?[..], dh.public().as_bytes()].concat();
        Ok(BackupSecretKey { kem, dh, public: BackupPublicKey { bytes } })
    }

    /// The public half.
    pub fn public(&self) -> &BackupPublicKey {
        &self.public
    }

    /// One line of text: the ML-KEM seed (d, z), then the X25519 scalar.
    ///
    /// # Errors
    /// None in practice: the seed is always known.
    pub fn to_text(&self) -> Result<Zeroizing<String>> {
        let seed = self.kem.seed().ok_or_else(|| Error::from(Kind::Internal))?;
        let bytes = Zeroizing::new([seed.expose(), self.dh.scalar().expose()].concat());
        let digits = Zeroizing::new(HEXLOWER.encode(&bytes));
        Ok(Zeroizing::new(format!("{SECRET_WORD} {}\n", digits.as_str())))
    }

    /// Reads the line.
    ///
    /// # Errors
    /// [`Kind::DataInvalid`] if it is none.
    pub fn parse(text: &str) -> Result<Self> {
        let none =
            || Error::new(Kind::DataInvalid, format!("it is no secret key for backups: one begins with {SECRET_WORD}"));
        let bytes = digits_after(text, SECRET_WORD).filter(|bytes| bytes.len() == SECRET_LEN).ok_or_else(none)?;
        let (seed, scalar) = bytes.split_at(ml_kem::SEED_LEN);
        let kem = ml_kem::PrivateKey::from_seed(SET, seed).map_err(|_| none())?;
        BackupSecretKey::of(kem, x25519::PrivateKey::from_scalar(scalar).map_err(|_| none())?)
    }

    /// The two secrets that the archive carries.
    pub(super) fn decapsulate(&self, ephemeral: &[u8], ciphertext: &[u8]) -> Result<SecretBytes> {
        Ok(joined(&self.kem.decapsulate(ciphertext)?, &self.dh.agree(ephemeral)?))
    }
}

fn joined(kem: &SecretBytes, dh: &SecretBytes) -> SecretBytes {
    SecretBytes::new([kem.expose(), dh.expose()].concat())
}

fn digits_after(text: &str, word: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digits = text.trim().strip_prefix(word)?.strip_prefix(' ')?;
    HEXLOWER.decode(digits.as_bytes()).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_find_the_same_secrets() {
        let secret = BackupSecretKey::generate().unwrap();
        let read = BackupSecretKey::parse(&secret.to_text().unwrap()).unwrap();
        let public = BackupPublicKey::parse(&secret.public().to_text()).unwrap();
        assert_eq!(public.name(), read.public().name());
        let made = public.encapsulate().unwrap();
        assert!(read.decapsulate(&made.ephemeral, &made.ciphertext).unwrap() == made.secrets);
        let stranger = BackupSecretKey::generate().unwrap();
        assert!(stranger.decapsulate(&made.ephemeral, &made.ciphertext).unwrap() != made.secrets);
    }

    /// Each half matters: with one of the two private keys exchanged, the secrets are others.
    #[test]
    fn half_a_key_opens_nothing() {
        let (secret, stranger) = (BackupSecretKey::generate().unwrap(), BackupSecretKey::generate().unwrap());
        let made = secret.public().encapsulate().unwrap();
        let text = |key: &BackupSecretKey| key.to_text().unwrap().trim().split_once(' ').unwrap().1.to_owned();
        let (own, other) = (text(&secret), text(&stranger));
        let cut = 2 * ml_kem::SEED_LEN;
        for digits in [[&own[..cut], &other[cut..]].concat(), [&other[..cut], &own[cut..]].concat()] {
            let mixed = BackupSecretKey::parse(&format!("{SECRET_WORD} {digits}")).unwrap();
            assert!(mixed.decapsulate(&made.ephemeral, &made.ciphertext).unwrap() != made.secrets);
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let public = BackupSecretKey::generate().unwrap().public().to_text();
        let rows = ["", "craton-backup-public-key-1", &public[..public.len() - 3], &public.replace("key-1", "key-2")];
        for text in rows {
            assert!(BackupPublicKey::parse(text).is_err());
            assert!(BackupSecretKey::parse(text).is_err());
        }
        assert!(BackupSecretKey::parse(&public).is_err());
    }
}
