//! ML-DSA and HashML-DSA (FIPS 204): signatures with a context, hedged or deterministic. A private key is its 32-byte seed, or the
//! expanded key alone where nobody kept the seed.
//!
//! Signing and verifying run in AWS-LC. Deterministic signing, which AWS-LC does not offer, runs in the `ml-dsa` crate:
//! the same seed gives the same key in both.

use const_oid::ObjectIdentifier;

use super::ffi::{MlDsaKey, MlDsaSet, Shake, ShakeState};
use super::{Error, PreHash, Result, prehash, rng};
use crate::SecretBytes;

/// Bytes of the seed.
pub(crate) const SEED_LEN: usize = 32;

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

    /// The parameter set of an object identifier, if it names one.
    pub(super) fn from_oid(oid: ObjectIdentifier) -> Option<Self> {
        ParameterSet::ALL.iter().copied().find(|set| set.oid() == oid)
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
    if context.len() > prehash::CONTEXT_MAX { Err(Error::InvalidParameter) } else { Ok(()) }
}

/// A private key; wiped when dropped.
pub(crate) struct PrivateKey {
    key: MlDsaKey,
    set: ParameterSet,
    seed: Option<SecretBytes>,
}

impl PrivateKey {
    /// A new key.
    pub(crate) fn generate(set: ParameterSet) -> Result<Self> {
        PrivateKey::from_seed(set, rng::secret(SEED_LEN)?.expose())
    }

    /// A key from its 32-byte seed.
    pub(crate) fn from_seed(set: ParameterSet, seed: &[u8]) -> Result<Self> {
        if seed.len() != SEED_LEN {
            return Err(Error::InvalidKey);
        }
        // Not an array, which leaves a copy wherever it is moved from.
        let seed = SecretBytes::copy_from(seed);
        Ok(PrivateKey { key: MlDsaKey::private(set.library_set(), seed.expose())?, set, seed: Some(seed) })
    }

    /// A key from its expanded form, whose seed nobody kept. The public key is computed from it and must agree.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] for another length and for parts out of range or at odds with each other.
    pub(crate) fn from_expanded(set: ParameterSet, expanded: &[u8]) -> Result<Self> {
        if expanded.len() != set.expanded_len() {
            return Err(Error::InvalidKey);
        }
        Ok(PrivateKey { key: MlDsaKey::private(set.library_set(), expanded)?, set, seed: None })
    }

    /// The parameter set.
    pub(crate) fn set(&self) -> ParameterSet {
        self.set
    }

    /// The seed, where it is known.
    pub(crate) fn seed(&self) -> Option<SecretBytes> {
        self.seed.as_ref().map(SecretBytes::duplicate)
    }

    /// The expanded private key of FIPS 204, algorithm 24.
    pub(crate) fn expanded(&self) -> Result<SecretBytes> {
        self.key.expanded(self.set.expanded_len())
    }

    /// The public key.
    pub(crate) fn public(&self) -> Result<PublicKey> {
        PublicKey::from_bytes(self.set, &self.public_bytes()?)
    }

    fn public_bytes(&self) -> Result<Vec<u8>> {
        self.key.public_bytes(self.set.public_len())
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

    /// Signs the digest of a message (HashML-DSA; FIPS 204, algorithm 4).
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] if the context is longer than 255 bytes, [`Error::DataLength`] if the digest has not the hash's
    /// length.
    pub(crate) fn sign_digest(&self, hash: PreHash, digest: &[u8], context: &[u8], hedge: Hedge) -> Result<Vec<u8>> {
        let mu = representative(&self.public_bytes()?, hash, digest, context)?;
        match hedge {
            Hedge::Random => self.key.sign_representative(&mu, self.set.signature_len()),
            Hedge::Deterministic => self.deterministic(Input::Representative(&mu)),
        }
    }

    fn sign_deterministic(&self, message: &[u8], context: &[u8]) -> Result<Vec<u8>> {
        self.deterministic(Input::Message(message, context))
    }

    fn deterministic(&self, input: Input<'_>) -> Result<Vec<u8>> {
        fn sign<P: ml_dsa::MlDsaParams>(key: &PrivateKey, input: Input<'_>) -> Result<Vec<u8>> {
            let key = key.reference::<P>()?;
            let signature = match input {
                Input::Message(message, context) => {
                    key.sign_deterministic(message, context).map_err(|_| Error::Internal)?
                }
                Input::Representative(mu) => key.sign_mu_deterministic(&(*mu).into()),
            };
            Ok(signature.encode().to_vec())
        }
        match self.set {
            ParameterSet::MlDsa44 => sign::<ml_dsa::MlDsa44>(self, input),
            ParameterSet::MlDsa65 => sign::<ml_dsa::MlDsa65>(self, input),
            ParameterSet::MlDsa87 => sign::<ml_dsa::MlDsa87>(self, input),
        }
    }

    /// The same key in the other implementation.
    fn reference<P: ml_dsa::MlDsaParams>(&self) -> Result<ml_dsa::ExpandedSigningKey<P>> {
        if let Some(seed) = &self.seed {
            let seed = seed.expose().try_into().map_err(|_| Error::Internal)?;
            return Ok(ml_dsa::ExpandedSigningKey::from_seed(seed));
        }
        let expanded = self.expanded()?;
        let expanded = expanded.expose().try_into().map_err(|_| Error::Internal)?;
        // Its coefficients were checked by the first implementation when the key came in.
        #[expect(deprecated, reason = "the only way to a key whose seed nobody kept")]
        Ok(ml_dsa::ExpandedSigningKey::from_expanded(expanded))
    }
}

/// What is signed.
#[derive(Clone, Copy)]
enum Input<'a> {
    /// A message and its context.
    Message(&'a [u8], &'a [u8]),
    /// A message representative.
    Representative(&'a [u8; 64]),
}

/// The message representative of HashML-DSA: SHAKE256 over the public key's hash and the formatted message (FIPS 204, algorithm 4,
/// line 23, and algorithm 7, line 6).
fn representative(public: &[u8], hash: PreHash, digest: &[u8], context: &[u8]) -> Result<[u8; 64]> {
    let prefix = hash.prefix(digest, context)?;
    let mut public_hash = [0; 64];
    let mut shake = ShakeState::new(Shake::Shake256);
    shake.update(public);
    shake.finish(&mut public_hash);
    let mut shake = ShakeState::new(Shake::Shake256);
    for part in [&public_hash[..], &prefix, digest] {
        shake.update(part);
    }
    let mut mu = [0; 64];
    shake.finish(&mut mu);
    Ok(mu)
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

    /// Verifies a signature over the digest of a message under a context (HashML-DSA; FIPS 204, algorithm 5).
    ///
    /// # Errors
    /// As [`PublicKey::verify`]; [`Error::DataLength`] if the digest has not the hash's length.
    pub(crate) fn verify_digest(&self, hash: PreHash, digest: &[u8], context: &[u8], signature: &[u8]) -> Result<()> {
        let mu = representative(&self.to_bytes()?, hash, digest, context)?;
        if signature.len() != self.set.signature_len() {
            return Err(Error::SignatureLength);
        }
        self.key.verify_representative(&mu, signature)
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
    fn a_key_without_its_seed_signs_as_the_one_with_it() {
        for &set in ParameterSet::ALL {
            let key = PrivateKey::generate(set).expect("a key");
            let expanded = key.expanded().expect("expanded");
            let other = PrivateKey::from_expanded(set, expanded.expose()).expect("reads");
            assert!(other.seed().is_none() && other.expanded().expect("expanded") == expanded);
            let sign = |key: &PrivateKey| key.sign(b"message", b"context", Hedge::Deterministic).expect("signature");
            assert_eq!(sign(&key), sign(&other));
            let hedged = other.sign(b"message", b"", Hedge::Random).expect("signature");
            assert_eq!(key.public().expect("public").verify(b"message", b"", &hedged), Ok(()));
            // The first 32 bytes go into the public key, the next 64 hold its hash: algorithm 24.
            let mut wrong = expanded.expose().to_vec();
            wrong[70] ^= 1;
            for wrong in [&wrong[..], &expanded.expose()[1..], &[]] {
                assert_eq!(PrivateKey::from_expanded(set, wrong).err(), Some(Error::InvalidKey), "{set:?}");
            }
        }
    }

    #[test]
    fn a_digest_is_signed_under_its_hash_and_context() {
        for &set in ParameterSet::ALL {
            let key = PrivateKey::generate(set).expect("a key");
            let public = key.public().expect("public");
            for &hash in PreHash::ALL {
                let digest = hash.digest(b"message");
                for hedge in [Hedge::Random, Hedge::Deterministic] {
                    let signature = key.sign_digest(hash, &digest, b"context", hedge).expect("signature");
                    assert_eq!(public.verify_digest(hash, &digest, b"context", &signature), Ok(()));
                    let other = public.verify_digest(hash, &digest, b"", &signature);
                    assert_eq!(other, Err(Error::SignatureInvalid));
                    // The pure form never takes it.
                    assert_eq!(public.verify(&digest, b"context", &signature), Err(Error::SignatureInvalid));
                }
                let short = key.sign_digest(hash, &digest[1..], b"", Hedge::Random);
                assert_eq!(short, Err(Error::DataLength));
                assert_eq!(key.sign_digest(hash, &digest, &[0; 256], Hedge::Random), Err(Error::InvalidParameter));
            }
        }
    }

    /// The other implementation signs over the formatted message; this one verifies, and the other way round.
    #[test]
    fn the_other_implementation_agrees_on_hashed_messages() {
        let seed = [0x17; SEED_LEN];
        let key = PrivateKey::from_seed(ParameterSet::MlDsa65, &seed).expect("a key");
        let reference = ml_dsa::ExpandedSigningKey::<ml_dsa::MlDsa65>::from_seed(&seed.into());
        let hash = PreHash::Shake(Shake::Shake128);
        let digest = hash.digest(b"message");
        let prefix = hash.prefix(&digest, b"ctx").expect("short");
        let theirs = reference.sign_internal(&[&prefix, &digest], &[0; 32].into()).encode();
        let ours = key.sign_digest(hash, &digest, b"ctx", Hedge::Deterministic).expect("signature");
        assert_eq!(ours, theirs.as_slice());
        assert_eq!(key.public().expect("public").verify_digest(hash, &digest, b"ctx", &theirs), Ok(()));
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
