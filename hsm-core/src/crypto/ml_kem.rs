//! ML-KEM (FIPS 203): encapsulation to a public key and decapsulation, in AWS-LC. A private key is its 64-byte seed (d followed
//! by z), or the expanded key alone where nobody kept the seed.

use const_oid::ObjectIdentifier;

use super::ffi::{MlKemKey, MlKemSet};
use super::{Error, Result, rng};
use crate::SecretBytes;

/// Bytes of the seed: d and z (FIPS 203, algorithm 19).
pub(crate) const SEED_LEN: usize = 64;
/// Bytes of a shared secret.
pub(crate) const SECRET_LEN: usize = 32;

/// The parameter sets of FIPS 203, section 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ParameterSet {
    /// ML-KEM-512, category 1.
    MlKem512,
    /// ML-KEM-768, category 3.
    MlKem768,
    /// ML-KEM-1024, category 5.
    MlKem1024,
}

impl ParameterSet {
    /// Every parameter set.
    pub(crate) const ALL: &'static [ParameterSet] =
        &[ParameterSet::MlKem512, ParameterSet::MlKem768, ParameterSet::MlKem1024];

    /// The rank of the module.
    const fn k(self) -> usize {
        match self {
            ParameterSet::MlKem512 => 2,
            ParameterSet::MlKem768 => 3,
            ParameterSet::MlKem1024 => 4,
        }
    }

    /// Bytes of the public (encapsulation) key (FIPS 203, table 3).
    pub(crate) const fn public_len(self) -> usize {
        384 * self.k() + 32
    }

    /// Bytes of the expanded private (decapsulation) key (FIPS 203, table 3).
    pub(crate) const fn expanded_len(self) -> usize {
        768 * self.k() + 96
    }

    /// Bytes of a ciphertext (FIPS 203, table 3).
    pub(crate) const fn ciphertext_len(self) -> usize {
        match self {
            ParameterSet::MlKem512 => 768,
            ParameterSet::MlKem768 => 1088,
            ParameterSet::MlKem1024 => 1568,
        }
    }

    /// The object identifier (RFC 9935, section 3).
    pub(crate) const fn oid(self) -> ObjectIdentifier {
        match self {
            ParameterSet::MlKem512 => ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.4.1"),
            ParameterSet::MlKem768 => ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.4.2"),
            ParameterSet::MlKem1024 => ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.4.3"),
        }
    }

    /// The parameter set of an object identifier, if it names one.
    pub(super) fn from_oid(oid: ObjectIdentifier) -> Option<Self> {
        ParameterSet::ALL.iter().copied().find(|set| set.oid() == oid)
    }

    fn library_set(self) -> MlKemSet {
        match self {
            ParameterSet::MlKem512 => MlKemSet::MlKem512,
            ParameterSet::MlKem768 => MlKemSet::MlKem768,
            ParameterSet::MlKem1024 => MlKemSet::MlKem1024,
        }
    }
}

/// A private key; wiped when dropped.
pub(crate) struct PrivateKey {
    key: MlKemKey,
    set: ParameterSet,
    seed: Option<SecretBytes>,
}

impl PrivateKey {
    /// A new key.
    pub(crate) fn generate(set: ParameterSet) -> Result<Self> {
        PrivateKey::from_seed(set, rng::secret(SEED_LEN)?.expose())
    }

    /// A key from its 64-byte seed.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] for another length.
    pub(crate) fn from_seed(set: ParameterSet, seed: &[u8]) -> Result<Self> {
        if seed.len() != SEED_LEN {
            return Err(Error::InvalidKey);
        }
        // Not an array, which leaves a copy wherever it is moved from.
        let seed = SecretBytes::copy_from(seed);
        let der = super::pkcs8_form::seed(set.oid(), seed.expose())?;
        Ok(PrivateKey { key: MlKemKey::from_pkcs8(der.expose())?, set, seed: Some(seed) })
    }

    /// A key from its expanded form, whose seed nobody kept; the hash and the pairwise check of FIPS 203, section 7.3, are made.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] for another length, a malformed part, or parts that do not belong together.
    pub(crate) fn from_expanded(set: ParameterSet, expanded: &[u8]) -> Result<Self> {
        // dk = dk_PKE (384k bytes) || ek || H(ek) || z: FIPS 203, algorithm 16.
        let start = 384 * set.k();
        if expanded.len() != set.expanded_len() {
            return Err(Error::InvalidKey);
        }
        let public = &expanded[start..start + set.public_len()];
        Ok(PrivateKey { key: MlKemKey::from_halves(set.library_set(), public, expanded)?, set, seed: None })
    }

    /// The parameter set.
    pub(crate) fn set(&self) -> ParameterSet {
        self.set
    }

    /// The seed, where it is known.
    pub(crate) fn seed(&self) -> Option<SecretBytes> {
        self.seed.as_ref().map(SecretBytes::duplicate)
    }

    /// The expanded private key.
    pub(crate) fn expanded(&self) -> Result<SecretBytes> {
        self.key.expanded(self.set.expanded_len())
    }

    /// The public key.
    pub(crate) fn public(&self) -> Result<PublicKey> {
        let expanded = self.expanded()?;
        let start = 384 * self.set.k();
        PublicKey::from_bytes(self.set, &expanded.expose()[start..start + self.set.public_len()])
    }

    /// The shared secret that a ciphertext carries. A ciphertext of the right length that was not made for this key gives a secret
    /// that nobody else knows (implicit rejection).
    ///
    /// # Errors
    /// [`Error::EncryptedDataLength`] for another length.
    pub(crate) fn decapsulate(&self, ciphertext: &[u8]) -> Result<SecretBytes> {
        if ciphertext.len() != self.set.ciphertext_len() {
            return Err(Error::EncryptedDataLength);
        }
        self.key.decapsulate(ciphertext)
    }
}

/// A public key; its encoding was checked.
pub(crate) struct PublicKey {
    key: MlKemKey,
    set: ParameterSet,
}

impl PublicKey {
    /// A key from its bytes.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] for another length, or a coefficient that is not below the modulus (FIPS 203, section 7.2).
    pub(crate) fn from_bytes(set: ParameterSet, bytes: &[u8]) -> Result<Self> {
        if bytes.len() != set.public_len() {
            return Err(Error::InvalidKey);
        }
        Ok(PublicKey { key: MlKemKey::public(set.library_set(), bytes)?, set })
    }

    /// The parameter set.
    pub(crate) fn set(&self) -> ParameterSet {
        self.set
    }

    /// The bytes.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        self.key.public_bytes(self.set.public_len())
    }

    /// A fresh shared secret and the ciphertext that carries it to the holder of the private key.
    pub(crate) fn encapsulate(&self) -> Result<(Vec<u8>, SecretBytes)> {
        self.key.encapsulate(self.set.ciphertext_len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encapsulated_is_decapsulated() {
        for &set in ParameterSet::ALL {
            let key = PrivateKey::generate(set).expect("a key");
            let public = key.public().expect("public");
            let (ciphertext, secret) = public.encapsulate().expect("encapsulates");
            assert_eq!((ciphertext.len(), secret.len()), (set.ciphertext_len(), SECRET_LEN));
            assert!(key.decapsulate(&ciphertext).expect("decapsulates") == secret);
            let (other_ciphertext, other) = public.encapsulate().expect("encapsulates");
            assert!(other != secret && other_ciphertext != ciphertext);
        }
    }

    #[test]
    fn a_ciphertext_for_nobody_gives_the_same_secret_each_time_and_no_error() {
        for &set in ParameterSet::ALL {
            let key = PrivateKey::generate(set).expect("a key");
            let (mut ciphertext, secret) = key.public().expect("public").encapsulate().expect("encapsulates");
            ciphertext[7] ^= 1;
            let first = key.decapsulate(&ciphertext).expect("rejects implicitly");
            assert!(first != secret && first == key.decapsulate(&ciphertext).expect("again"));
            for wrong in [&ciphertext[1..], &[&ciphertext[..], &[0]].concat(), &[]] {
                assert_eq!(key.decapsulate(wrong).err(), Some(Error::EncryptedDataLength));
            }
        }
    }

    #[test]
    fn seed_and_expanded_form_are_the_same_key() {
        for &set in ParameterSet::ALL {
            let key = PrivateKey::generate(set).expect("a key");
            let (seed, expanded) = (key.seed().expect("a seed"), key.expanded().expect("expanded"));
            let from_seed = PrivateKey::from_seed(set, seed.expose()).expect("reads");
            let from_expanded = PrivateKey::from_expanded(set, expanded.expose()).expect("reads");
            let (ciphertext, secret) = key.public().expect("public").encapsulate().expect("encapsulates");
            for again in [&from_seed, &from_expanded] {
                assert!(again.decapsulate(&ciphertext).expect("decapsulates") == secret);
            }
            assert!(from_expanded.seed().is_none());
        }
    }

    #[test]
    fn malformed_keys_are_refused() {
        for &set in ParameterSet::ALL {
            let key = PrivateKey::generate(set).expect("a key");
            let expanded = key.expanded().expect("expanded").expose().to_vec();
            for len in [0, 32, 63, 65, set.expanded_len()] {
                assert_eq!(PrivateKey::from_seed(set, &vec![1; len]).err(), Some(Error::InvalidKey));
            }
            // The hash of the public key stands 64 bytes before the end.
            let mut other_hash = expanded.clone();
            let at = other_hash.len() - 60;
            other_hash[at] ^= 1;
            // Another secret half than the public one's.
            let mut other_half = expanded.clone();
            other_half[0] ^= 1;
            for wrong in [&expanded[1..], &other_hash, &other_half, &[]] {
                assert_eq!(PrivateKey::from_expanded(set, wrong).err(), Some(Error::InvalidKey), "{set:?}");
            }
            let public = key.public().expect("public").to_bytes().expect("bytes");
            let mut above = public.clone();
            above[..3].fill(0xff);
            for wrong in [&public[1..], &above, &[]] {
                assert_eq!(PublicKey::from_bytes(set, wrong).err(), Some(Error::InvalidKey), "{set:?}");
            }
        }
    }
}
