//! SLH-DSA (FIPS 205) over plain bytes: the internal functions of section 9 for the twelve parameter sets of section 11, on keys and
//! messages that the caller has formatted. It knows no context, no hash and no format of keys.
//!
//! A crate of its own, because the algorithm is generic code that is compiled where it is used, and only a crate can be optimised in
//! a debug build: without that, one signature of a small parameter set takes minutes.

use slh_dsa::{
    ParameterSet, Sha2_128f, Sha2_128s, Sha2_192f, Sha2_192s, Sha2_256f, Sha2_256s, Shake128f, Shake128s, Shake192f,
    Shake192s, Shake256f, Shake256s, Signature, SigningKey, VerifyingKey,
};
use zeroize::Zeroizing;

/// Three seeds and the length of one.
type Generate = fn(&[u8], usize) -> Zeroizing<Vec<u8>>;
/// A private key, the parts of a message, and random bytes.
type Sign = fn(&[u8], Parts<'_>, Option<&[u8]>) -> Option<Vec<u8>>;
/// A public key, the parts of a message, and a signature.
type Verify = fn(&[u8], Parts<'_>, &[u8]) -> bool;
/// A message in parts.
type Parts<'a> = &'a [&'a [u8]];

/// A parameter set: its functions and sizes.
pub struct Set {
    /// Bytes of the security parameter; a public key has twice, a private key four times as many.
    pub n: usize,
    /// Bytes of a signature.
    pub signature_len: usize,
    generate: Generate,
    sign: Sign,
    verify: Verify,
}

/// SLH-DSA-SHA2-128s.
pub static SHA2_128S: Set = set::<Sha2_128s>(16, 7856);
/// SLH-DSA-SHA2-128f.
pub static SHA2_128F: Set = set::<Sha2_128f>(16, 17088);
/// SLH-DSA-SHA2-192s.
pub static SHA2_192S: Set = set::<Sha2_192s>(24, 16224);
/// SLH-DSA-SHA2-192f.
pub static SHA2_192F: Set = set::<Sha2_192f>(24, 35664);
/// SLH-DSA-SHA2-256s.
pub static SHA2_256S: Set = set::<Sha2_256s>(32, 29792);
/// SLH-DSA-SHA2-256f.
pub static SHA2_256F: Set = set::<Sha2_256f>(32, 49856);
/// SLH-DSA-SHAKE-128s.
pub static SHAKE_128S: Set = set::<Shake128s>(16, 7856);
/// SLH-DSA-SHAKE-128f.
pub static SHAKE_128F: Set = set::<Shake128f>(16, 17088);
/// SLH-DSA-SHAKE-192s.
pub static SHAKE_192S: Set = set::<Shake192s>(24, 16224);
/// SLH-DSA-SHAKE-192f.
pub static SHAKE_192F: Set = set::<Shake192f>(24, 35664);
/// SLH-DSA-SHAKE-256s.
pub static SHAKE_256S: Set = set::<Shake256s>(32, 29792);
/// SLH-DSA-SHAKE-256f.
pub static SHAKE_256F: Set = set::<Shake256f>(32, 49856);

const fn set<P: ParameterSet>(n: usize, signature_len: usize) -> Set {
    Set { n, signature_len, generate: generate::<P>, sign: sign::<P>, verify: verify::<P> }
}

impl Set {
    /// The private key of three seeds of `n` bytes each, in the order SK.seed, SK.prf, PK.seed (algorithm 18).
    ///
    /// Nothing for another length.
    pub fn generate(&self, seeds: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        (seeds.len() == 3 * self.n).then(|| (self.generate)(seeds, self.n))
    }

    /// Signs a message that is given in parts (algorithm 19), with `n` random bytes or, without them, deterministically.
    ///
    /// Nothing for a private key or random bytes of another length.
    pub fn sign(&self, private: &[u8], message: &[&[u8]], random: Option<&[u8]>) -> Option<Vec<u8>> {
        if random.is_some_and(|random| random.len() != self.n) {
            return None;
        }
        (self.sign)(private, message, random)
    }

    /// Whether the signature is the message's (algorithm 20).
    pub fn verify(&self, public: &[u8], message: &[&[u8]], signature: &[u8]) -> bool {
        (self.verify)(public, message, signature)
    }
}

fn generate<P: ParameterSet>(seeds: &[u8], n: usize) -> Zeroizing<Vec<u8>> {
    let (sk_seed, rest) = seeds.split_at(n);
    let (sk_prf, pk_seed) = rest.split_at(n);
    let key = SigningKey::<P>::slh_keygen_internal(sk_seed, sk_prf, pk_seed);
    let mut bytes = key.to_bytes();
    let copy = Zeroizing::new(bytes.to_vec());
    zeroize::Zeroize::zeroize(bytes.as_mut_slice());
    copy
}

fn sign<P: ParameterSet>(private: &[u8], message: &[&[u8]], random: Option<&[u8]>) -> Option<Vec<u8>> {
    let key = SigningKey::<P>::try_from(private).ok()?;
    Some(key.slh_sign_internal(message, random).to_vec())
}

fn verify<P: ParameterSet>(public: &[u8], message: &[&[u8]], signature: &[u8]) -> bool {
    let (Ok(key), Ok(signature)) = (VerifyingKey::<P>::try_from(public), Signature::<P>::try_from(signature)) else {
        return false;
    };
    key.slh_verify_internal(message, &signature).is_ok()
}
