//! ML-DSA (FIPS 204): pure signatures with a context, hedged or deterministic. A private key is its 32-byte seed.
//!
//! Signing and verifying run in AWS-LC. Deterministic signing, which AWS-LC does not offer, runs in the `ml-dsa` crate:
//! the same seed gives the same key in both.

use const_oid::ObjectIdentifier;
use zeroize::Zeroizing;

use super::ffi::{MlDsaKey, MlDsaSet};
use super::{Error, Result, rng};
use crate::SecretBytes;

/// Bytes of the seed.
pub(crate) const SEED_LEN: usize = 32;
/// The longest context in bytes (FIPS 204, section 5.2).
pub(crate) const CONTEXT_MAX: usize = 255;

/// The parameter sets of FIPS 204, section 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ParameterSet {
    /// ML-DSA-44, category 2.
    MlDsa44,
    /// ML-DSA-65, category 3.
    MlDsa65,
    /// ML-DSA-87, category 5.
    MlDsa87,
}

/// Where the random part of a signature comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hedge {
    /// Fresh randomness in every signature: the standard's default.
    Random,
    /// None: the same message gives the same signature.
    Deterministic,
}

impl ParameterSet {
    /// Every parameter set.
    pub(crate) const ALL: &'static [ParameterSet] =
        &[ParameterSet::MlDsa44, ParameterSet::MlDsa65, ParameterSet::MlDsa87];

    /// Bytes of the public key (FIPS 204, table 2).
    pub(crate) const fn public_len(self) -> usize {
        match self {
            ParameterSet::MlDsa44 => 1312,
            ParameterSet::MlDsa65 => 1952,
            ParameterSet::MlDsa87 => 2592,
        }
    }

    /// Bytes of the expanded private key (FIPS 204, table 2).
    pub(crate) const fn expanded_len(self) -> usize {
        match self {
            ParameterSet::MlDsa44 => 2560,
            ParameterSet::MlDsa65 => 4032,
            ParameterSet::MlDsa87 => 4896,
        }
    }

    /// Bytes of a signature (FIPS 204, table 2).
    pub(crate) const fn signature_len(self) -> usize {
        match self {
            ParameterSet::MlDsa44 => 2420,
            ParameterSet::MlDsa65 => 3309,
            ParameterSet::MlDsa87 => 4627,
        }
    }

    /// The object identifier (RFC 9881, section 2).
    pub(crate) const fn oid(self) -> ObjectIdentifier {
        match self {
            ParameterSet::MlDsa44 => ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.17"),
            ParameterSet::MlDsa65 => ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.18"),
            ParameterSet::MlDsa87 => ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.19"),
        }
    }

    /// The parameter set of an object identifier.
    ///
    /// # Errors
    /// [`Error::UnsupportedParameterSet`] for another signature algorithm of NIST's arc (SLH-DSA, the pre-hash forms),
    /// [`Error::InvalidKey`] for anything else.
    pub(super) fn from_oid(oid: ObjectIdentifier) -> Result<Self> {
        /// The arc of NIST's signature algorithms.
        const SIGNATURES: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3");
        let known = ParameterSet::ALL.iter().copied().find(|set| set.oid() == oid);
        let refusal = if oid.starts_with(SIGNATURES) { Error::UnsupportedParameterSet } else { Error::InvalidKey };
        known.ok_or(refusal)
    }

    fn library_set(self) -> MlDsaSet {
        match self {
            ParameterSet::MlDsa44 => MlDsaSet::MlDsa44,
            ParameterSet::MlDsa65 => MlDsaSet::MlDsa65,
            ParameterSet::MlDsa87 => MlDsaSet::MlDsa87,
        }
    }
}

fn check_context(context: &[u8]) -> Result<()> {
    if context.len() > CONTEXT_MAX { Err(Error::InvalidParameter) } else { Ok(()) }
}

/// A private key; wiped when dropped.
pub(crate) struct PrivateKey {
    key: MlDsaKey,
    set: ParameterSet,
    seed: Zeroizing<[u8; SEED_LEN]>,
}

impl PrivateKey {
    /// A new key.
    pub(crate) fn generate(set: ParameterSet) -> Result<Self> {
        PrivateKey::from_seed(set, rng::secret(SEED_LEN)?.expose())
    }

    /// A key from its 32-byte seed.
    pub(crate) fn from_seed(set: ParameterSet, seed: &[u8]) -> Result<Self> {
        let seed: Zeroizing<[u8; SEED_LEN]> = Zeroizing::new(seed.try_into().map_err(|_| Error::InvalidKey)?);
        Ok(PrivateKey { key: MlDsaKey::private(set.library_set(), &seed)?, set, seed })
    }

    /// The parameter set.
    pub(crate) fn set(&self) -> ParameterSet {
        self.set
    }

    /// The seed.
    pub(crate) fn seed(&self) -> SecretBytes {
        SecretBytes::copy_from(&self.seed[..])
    }

    /// The expanded private key of FIPS 204, algorithm 24.
    pub(crate) fn expanded(&self) -> Result<SecretBytes> {
        self.key.expanded(self.set.expanded_len())
    }

    /// The public key.
    pub(crate) fn public(&self) -> Result<PublicKey> {
        PublicKey::from_bytes(self.set, &self.key.public_bytes(self.set.public_len())?)
    }

    /// Signs a message under a context of at most 255 bytes.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] if the context is longer.
    pub(crate) fn sign(&self, message: &[u8], context: &[u8], hedge: Hedge) -> Result<Vec<u8>> {
        check_context(context)?;
        match hedge {
            Hedge::Random => self.key.sign(message, context, self.set.signature_len()),
            Hedge::Deterministic => self.sign_deterministic(message, context),
        }
    }

    fn sign_deterministic(&self, message: &[u8], context: &[u8]) -> Result<Vec<u8>> {
        fn sign<P: ml_dsa::MlDsaParams>(seed: &[u8; SEED_LEN], message: &[u8], context: &[u8]) -> Result<Vec<u8>> {
            let key = ml_dsa::SigningKey::<P>::from_seed(&(*seed).into());
            let signature = key.expanded_key().sign_deterministic(message, context).map_err(|_| Error::Internal)?;
            Ok(signature.encode().to_vec())
        }
        match self.set {
            ParameterSet::MlDsa44 => sign::<ml_dsa::MlDsa44>(&self.seed, message, context),
            ParameterSet::MlDsa65 => sign::<ml_dsa::MlDsa65>(&self.seed, message, context),
            ParameterSet::MlDsa87 => sign::<ml_dsa::MlDsa87>(&self.seed, message, context),
        }
    }
}

/// A public key.
pub(crate) struct PublicKey {
    key: MlDsaKey,
    set: ParameterSet,
}

impl PublicKey {
    /// A key from its bytes (FIPS 204, algorithm 22).
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if the length is not the parameter set's.
    pub(crate) fn from_bytes(set: ParameterSet, bytes: &[u8]) -> Result<Self> {
        if bytes.len() != set.public_len() {
            return Err(Error::InvalidKey);
        }
        Ok(PublicKey { key: MlDsaKey::public(set.library_set(), bytes)?, set })
    }

    /// The parameter set.
    pub(crate) fn set(&self) -> ParameterSet {
        self.set
    }

    /// The bytes.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        self.key.public_bytes(self.set.public_len())
    }

    /// Verifies a signature over a message under a context.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] if the context is longer than 255 bytes, [`Error::SignatureLength`] if the signature
    /// has not the parameter set's length, else [`Error::SignatureInvalid`].
    pub(crate) fn verify(&self, message: &[u8], context: &[u8], signature: &[u8]) -> Result<()> {
        check_context(context)?;
        if signature.len() != self.set.signature_len() {
            return Err(Error::SignatureLength);
        }
        self.key.verify(message, context, signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hedged_signatures_differ_and_deterministic_ones_do_not() {
        for &set in ParameterSet::ALL {
            let key = PrivateKey::generate(set).expect("a key");
            let public = key.public().expect("public");
            let sign = |hedge| key.sign(b"message", b"context", hedge).expect("signature");
            assert_ne!(sign(Hedge::Random), sign(Hedge::Random));
            assert_eq!(sign(Hedge::Deterministic), sign(Hedge::Deterministic));
            for hedge in [Hedge::Random, Hedge::Deterministic] {
                let signature = sign(hedge);
                assert_eq!(signature.len(), set.signature_len());
                assert_eq!(public.verify(b"message", b"context", &signature), Ok(()));
                assert_eq!(public.verify(b"message", b"", &signature), Err(Error::SignatureInvalid));
                assert_eq!(public.verify(b"other", b"context", &signature), Err(Error::SignatureInvalid));
                assert_eq!(public.verify(b"message", b"context", &signature[1..]), Err(Error::SignatureLength));
            }
        }
    }

    #[test]
    fn a_context_has_at_most_255_bytes() {
        let key = PrivateKey::generate(ParameterSet::MlDsa44).expect("a key");
        let public = key.public().expect("public");
        for hedge in [Hedge::Random, Hedge::Deterministic] {
            let signature = key.sign(b"m", &[7; 255], hedge).expect("signature");
            assert_eq!(public.verify(b"m", &[7; 255], &signature), Ok(()));
            assert_eq!(key.sign(b"m", &[7; 256], hedge), Err(Error::InvalidParameter));
            assert_eq!(public.verify(b"m", &[7; 256], &signature), Err(Error::InvalidParameter));
        }
    }

    #[test]
    fn keys_of_another_length_are_refused() {
        for &set in ParameterSet::ALL {
            for len in [0, 31, 33, set.expanded_len()] {
                assert_eq!(PrivateKey::from_seed(set, &vec![1; len]).err(), Some(Error::InvalidKey));
            }
            for len in [0, set.public_len() - 1, set.public_len() + 1] {
                assert_eq!(PublicKey::from_bytes(set, &vec![1; len]).err(), Some(Error::InvalidKey));
            }
        }
    }

    #[test]
    fn one_key_signs_in_many_threads_at_once() {
        let key = PrivateKey::generate(ParameterSet::MlDsa44).expect("a key");
        let public = key.public().expect("public");
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let (key, public) = (&key, &public);
                scope.spawn(move || {
                    for round in 0..8 {
                        let message = [thread, round];
                        let signature = key.sign(&message, &[], Hedge::Random).expect("signature");
                        assert_eq!(public.verify(&message, &[], &signature), Ok(()));
                    }
                });
            }
        });
    }
}
