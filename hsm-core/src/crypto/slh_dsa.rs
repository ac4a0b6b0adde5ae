//! SLH-DSA and HashSLH-DSA (FIPS 205): signatures with a context, hedged or deterministic. AWS-LC has no SLH-DSA, so it runs in the
//! `slh-dsa` crate behind the crate `slh`. A signature of a small ("s") parameter set takes a good part of a second.

use const_oid::ObjectIdentifier;

use super::{Error, Hedge, PreHash, Result, prehash, rng};
use crate::SecretBytes;

macro_rules! parameter_sets {
    ($($variant:ident: $set:ident, $arc:literal, $name:literal;)*) => {
        /// The parameter sets of FIPS 205, section 11.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum ParameterSet {
            $(#[doc = $name] $variant,)*
        }

        impl ParameterSet {
            /// Every parameter set.
            pub(crate) const ALL: &'static [ParameterSet] = &[$(ParameterSet::$variant),*];

            fn algorithm(self) -> &'static slh::Set {
                match self {
                    $(ParameterSet::$variant => &slh::$set,)*
                }
            }

            /// The object identifier (RFC 9909, section 3).
            pub(crate) const fn oid(self) -> ObjectIdentifier {
                match self {
                    $(ParameterSet::$variant => {
                        ObjectIdentifier::new_unwrap(concat!("2.16.840.1.101.3.4.3.", $arc))
                    })*
                }
            }
        }
    };
}

parameter_sets! {
    Sha2_128s: SHA2_128S, "20", "SLH-DSA-SHA2-128s, category 1.";
    Sha2_128f: SHA2_128F, "21", "SLH-DSA-SHA2-128f, category 1.";
    Sha2_192s: SHA2_192S, "22", "SLH-DSA-SHA2-192s, category 3.";
    Sha2_192f: SHA2_192F, "23", "SLH-DSA-SHA2-192f, category 3.";
    Sha2_256s: SHA2_256S, "24", "SLH-DSA-SHA2-256s, category 5.";
    Sha2_256f: SHA2_256F, "25", "SLH-DSA-SHA2-256f, category 5.";
    Shake128s: SHAKE_128S, "26", "SLH-DSA-SHAKE-128s, category 1.";
    Shake128f: SHAKE_128F, "27", "SLH-DSA-SHAKE-128f, category 1.";
    Shake192s: SHAKE_192S, "28", "SLH-DSA-SHAKE-192s, category 3.";
    Shake192f: SHAKE_192F, "29", "SLH-DSA-SHAKE-192f, category 3.";
    Shake256s: SHAKE_256S, "30", "SLH-DSA-SHAKE-256s, category 5.";
    Shake256f: SHAKE_256F, "31", "SLH-DSA-SHAKE-256f, category 5.";
}

impl ParameterSet {
    /// Bytes of the public key.
    pub(crate) fn public_len(self) -> usize {
        2 * self.algorithm().n
    }

    /// Bytes of the private key.
    pub(crate) fn private_len(self) -> usize {
        4 * self.algorithm().n
    }

    /// Bytes of a signature (FIPS 205, table 2).
    pub(crate) fn signature_len(self) -> usize {
        self.algorithm().signature_len
    }

    /// The parameter set of an object identifier, if it names one.
    pub(super) fn from_oid(oid: ObjectIdentifier) -> Option<Self> {
        ParameterSet::ALL.iter().copied().find(|set| set.oid() == oid)
    }
}

/// What stands before a message that is not hashed first: 0, and the context with its length (FIPS 205, algorithm 22).
fn pure_prefix(context: &[u8]) -> Result<Vec<u8>> {
    let len = u8::try_from(context.len()).map_err(|_| Error::InvalidParameter)?;
    debug_assert!(context.len() <= prehash::CONTEXT_MAX);
    Ok([&[0, len], context].concat())
}

/// A private key; wiped when dropped.
pub(crate) struct PrivateKey {
    set: ParameterSet,
    bytes: SecretBytes,
}

impl PrivateKey {
    /// A new key.
    pub(crate) fn generate(set: ParameterSet) -> Result<Self> {
        let seeds = rng::secret(3 * set.algorithm().n)?;
        let bytes = set.algorithm().generate(seeds.expose()).ok_or(Error::Internal)?;
        Ok(PrivateKey { set, bytes: SecretBytes::copy_from(&bytes) })
    }

    /// A key from its bytes: SK.seed, SK.prf, PK.seed, PK.root.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] for another length.
    pub(crate) fn from_bytes(set: ParameterSet, bytes: &[u8]) -> Result<Self> {
        if bytes.len() != set.private_len() {
            return Err(Error::InvalidKey);
        }
        Ok(PrivateKey { set, bytes: SecretBytes::copy_from(bytes) })
    }

    /// Computes the public root again, as long as a generation takes: what a key from outside must stand.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if it is another.
    pub(crate) fn check(&self) -> Result<()> {
        let seeds = self.bytes.expose().get(..3 * self.set.algorithm().n).ok_or(Error::InvalidKey)?;
        let computed = self.set.algorithm().generate(seeds).ok_or(Error::Internal)?;
        if SecretBytes::copy_from(&computed) == self.bytes { Ok(()) } else { Err(Error::InvalidKey) }
    }

    /// The parameter set.
    pub(crate) fn set(&self) -> ParameterSet {
        self.set
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &SecretBytes {
        &self.bytes
    }

    /// The public key.
    pub(crate) fn public(&self) -> Result<PublicKey> {
        let public = self.bytes.expose().get(self.set.public_len()..).ok_or(Error::Internal)?;
        PublicKey::from_bytes(self.set, public)
    }

    /// Signs a message under a context of at most 255 bytes.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] if the context is longer.
    pub(crate) fn sign(&self, message: &[u8], context: &[u8], hedge: Hedge) -> Result<Vec<u8>> {
        self.sign_parts(&[&pure_prefix(context)?, message], hedge)
    }

    /// Signs the digest of a message (HashSLH-DSA; FIPS 205, algorithm 23).
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] if the context is longer, [`Error::DataLength`] if the digest has not the hash's length.
    pub(crate) fn sign_digest(&self, hash: PreHash, digest: &[u8], context: &[u8], hedge: Hedge) -> Result<Vec<u8>> {
        self.sign_parts(&[&hash.prefix(digest, context)?, digest], hedge)
    }

    fn sign_parts(&self, message: &[&[u8]], hedge: Hedge) -> Result<Vec<u8>> {
        let algorithm = self.set.algorithm();
        let random = match hedge {
            Hedge::Random => Some(rng::secret(algorithm.n)?),
            Hedge::Deterministic => None,
        };
        let random = random.as_ref().map(SecretBytes::expose);
        algorithm.sign(self.bytes.expose(), message, random).ok_or(Error::Internal)
    }
}

/// A public key.
pub(crate) struct PublicKey {
    set: ParameterSet,
    bytes: Vec<u8>,
}

impl PublicKey {
    /// A key from its bytes: PK.seed, PK.root.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] for another length.
    pub(crate) fn from_bytes(set: ParameterSet, bytes: &[u8]) -> Result<Self> {
        if bytes.len() != set.public_len() {
            return Err(Error::InvalidKey);
        }
        Ok(PublicKey { set, bytes: bytes.to_vec() })
    }

    /// The parameter set.
    pub(crate) fn set(&self) -> ParameterSet {
        self.set
    }

    /// The bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Verifies a signature over a message under a context.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] if the context is longer than 255 bytes, [`Error::SignatureLength`] if the signature has not the
    /// parameter set's length, else [`Error::SignatureInvalid`].
    pub(crate) fn verify(&self, message: &[u8], context: &[u8], signature: &[u8]) -> Result<()> {
        self.verify_parts(&[&pure_prefix(context)?, message], signature)
    }

    /// Verifies a signature over the digest of a message under a context.
    ///
    /// # Errors
    /// As [`PublicKey::verify`]; [`Error::DataLength`] if the digest has not the hash's length.
    pub(crate) fn verify_digest(&self, hash: PreHash, digest: &[u8], context: &[u8], signature: &[u8]) -> Result<()> {
        self.verify_parts(&[&hash.prefix(digest, context)?, digest], signature)
    }

    fn verify_parts(&self, message: &[&[u8]], signature: &[u8]) -> Result<()> {
        if signature.len() != self.set.signature_len() {
            return Err(Error::SignatureLength);
        }
        let good = self.set.algorithm().verify(&self.bytes, message, signature);
        if good { Ok(()) } else { Err(Error::SignatureInvalid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::hex;

    /// Keys of all parameter sets, and a signature of each of the two fastest to verify, made by another implementation
    /// (`testdata/README.md`).
    #[test]
    fn keys_and_signatures_of_another_implementation_are_taken() {
        let rows: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../testdata/slh_dsa.json")).expect("the file is JSON");
        assert_eq!(rows.len(), ParameterSet::ALL.len());
        for row in rows {
            let text = |name: &str| row[name].as_str().expect("a text");
            let named = |set: &&ParameterSet| format!("{set:?}").eq_ignore_ascii_case(text("set"));
            let &set = ParameterSet::ALL.iter().find(named).expect("a known set");
            let public = PublicKey::from_bytes(set, &hex(text("public"))).expect("a key");
            let key = PrivateKey::from_bytes(set, &hex(text("private"))).expect("a key");
            assert_eq!(key.public().expect("public").as_bytes(), public.as_bytes(), "{set:?}");
            if let Some(signature) = row["signature"].as_str() {
                let signature = hex(signature);
                assert_eq!(signature.len(), set.signature_len());
                assert_eq!(public.verify(b"Craton", b"", &signature), Ok(()), "{set:?}");
                assert_eq!(public.verify(b"Krypton", b"", &signature), Err(Error::SignatureInvalid));
                key.check().expect("the root is the seeds'");
            }
        }
    }

    /// The fast sets: the others are the same code with other numbers, and are signed with by the acceptance tests.
    #[test]
    fn signatures_are_bound_to_message_context_and_hash() {
        for set in [ParameterSet::Sha2_128f, ParameterSet::Shake128f] {
            let key = PrivateKey::generate(set).expect("a key");
            let public = key.public().expect("public");
            let fixed = key.sign(b"message", b"context", Hedge::Deterministic).expect("signature");
            assert_eq!(key.sign(b"message", b"context", Hedge::Deterministic).expect("signature"), fixed);
            let hedged = key.sign(b"message", b"context", Hedge::Random).expect("signature");
            assert_ne!(hedged, fixed);
            for signature in [&fixed, &hedged] {
                assert_eq!(public.verify(b"message", b"context", signature), Ok(()));
                assert_eq!(public.verify(b"message", b"", signature), Err(Error::SignatureInvalid));
                assert_eq!(public.verify(b"message", b"context", &signature[1..]), Err(Error::SignatureLength));
            }
            let hash = PreHash::Hash(crate::crypto::Hash::Sha256);
            let digest = hash.digest(b"message");
            let signature = key.sign_digest(hash, &digest, b"", Hedge::Random).expect("signature");
            assert_eq!(public.verify_digest(hash, &digest, b"", &signature), Ok(()));
            assert_eq!(public.verify(&digest, b"", &signature), Err(Error::SignatureInvalid));
            assert_eq!(key.sign(b"", &[0; 256], Hedge::Random), Err(Error::InvalidParameter));
        }
    }

    #[test]
    fn keys_that_do_not_hold_together_are_refused() {
        let key = PrivateKey::generate(ParameterSet::Sha2_128f).expect("a key");
        assert_eq!(key.check(), Ok(()));
        let mut bytes = key.bytes().expose().to_vec();
        bytes[63] ^= 1;
        let other = PrivateKey::from_bytes(ParameterSet::Sha2_128f, &bytes).expect("the length is right");
        assert_eq!(other.check(), Err(Error::InvalidKey));
        for len in [0, 63, 65] {
            assert_eq!(PrivateKey::from_bytes(ParameterSet::Sha2_128f, &vec![1; len]).err(), Some(Error::InvalidKey));
        }
    }
}
