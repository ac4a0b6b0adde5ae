//! The client's half of sealing (`seal.proto`): HPKE in base mode (RFC 9180) with DHKEM(P-256, HKDF-SHA256), HKDF-SHA256 and AES-128-GCM, over
//! ring's ECDH, HMAC and AEAD. The daemon's half is another implementation, and the tests of the daemon have them understand each other.
//!
//! Each key seals or opens one message, so the sequence number of RFC 9180, Section 5.2 is always 0 and the base nonce is the nonce.

use prost::Message;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::hmac::{self, HMAC_SHA256};
use ring::rand::SystemRandom;
use zeroize::{Zeroize, Zeroizing};

use crate::secrecy::{REPLY, REQUEST, Sealable};
use crate::v1;

/// DHKEM(P-256, HKDF-SHA256), as its own labels name it (RFC 9180, Section 4.1).
const KEM: &[u8] = b"KEM\x00\x10";
/// With HKDF-SHA256 and AES-128-GCM (RFC 9180, Section 5.1).
const SUITE: &[u8] = b"HPKE\x00\x10\x00\x01\x00\x01";
const KEY_LEN: usize = 16;
const TAG_LEN: usize = 16;

/// A key that is no key, or a message that does not open with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsealable;

impl core::fmt::Display for Unsealable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the sealing key of the other side cannot be used, or what it sealed does not open")
    }
}

impl core::error::Error for Unsealable {}

impl From<ring::error::Unspecified> for Unsealable {
    fn from(_: ring::error::Unspecified) -> Self {
        Unsealable
    }
}

/// A request that only the daemon opens; its reply, if a key for it is given, only that key.
///
/// # Errors
/// [`Unsealable`]: the daemon's key is none.
pub fn request(
    key: &v1::SealKeyReply,
    request: &v1::Request,
    reply: Option<&ReplyKey>,
) -> Result<v1::SealedExchange, Unsealable> {
    let sealed = seal(key, REQUEST, request)?;
    let reply_key = reply.map(|reply| reply.public.clone()).unwrap_or_default();
    Ok(v1::SealedExchange { request: Some(v1::sealed_exchange::Request::Sealed(sealed)), reply_key })
}

/// An operator's message that only the daemon opens.
///
/// # Errors
/// [`Unsealable`]: the daemon's key is none.
pub fn message<M: Sealable>(key: &v1::SealKeyReply, message: &M) -> Result<M, Unsealable> {
    let mut outer = M::default();
    *outer.sealed() = Some(seal(key, M::PURPOSE, message)?);
    Ok(outer)
}

/// Seals anything for a purpose.
///
/// # Errors
/// [`Unsealable`]: the daemon's key is none.
pub fn seal(key: &v1::SealKeyReply, purpose: &[u8], message: &impl Message) -> Result<v1::Sealed, Unsealable> {
    let own = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new())?;
    let enc = own.compute_public_key()?.as_ref().to_vec();
    let context = agreed(own, &key.public_key, &[&enc, &key.public_key], purpose)?;
    // Its whole length at once: what grows leaves copies. The ciphertext then stands in the same place.
    let mut text = Vec::with_capacity(message.encoded_len() + TAG_LEN);
    message.encode_raw(&mut text);
    match context.cipher()?.seal_in_place_append_tag(context.nonce(), Aad::from(key.key.to_be_bytes()), &mut text) {
        Ok(()) => Ok(v1::Sealed { key: key.key, enc, ciphertext: text }),
        Err(_) => {
            text.zeroize();
            Err(Unsealable)
        }
    }
}

/// The client's one-time key, for one reply.
pub struct ReplyKey {
    private: EphemeralPrivateKey,
    public: Vec<u8>,
}

impl ReplyKey {
    /// A fresh one.
    ///
    /// # Errors
    /// [`Unsealable`]: the system gives no random numbers.
    pub fn new() -> Result<Self, Unsealable> {
        let private = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new())?;
        let public = private.compute_public_key()?.as_ref().to_vec();
        Ok(ReplyKey { private, public })
    }

    /// What the daemon seals to.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The reply, sealed or not.
    ///
    /// # Errors
    /// [`Unsealable`]: it is not sealed to this key, or no reply.
    pub fn open(self, reply: v1::SealedReply) -> Result<v1::Reply, Unsealable> {
        use v1::sealed_reply::Reply;
        let mut sealed = match reply.reply.ok_or(Unsealable)? {
            Reply::Plain(reply) => return Ok(reply),
            Reply::Sealed(sealed) => sealed,
        };
        let context = agreed(self.private, &sealed.enc, &[&sealed.enc, &self.public], REPLY)?;
        let mut text = Zeroizing::new(core::mem::take(&mut sealed.ciphertext));
        let text = context.cipher()?.open_in_place(context.nonce(), Aad::empty(), &mut text)?;
        v1::Reply::decode(&*text).map_err(|_| Unsealable)
    }
}

/// The key and the nonce of one message.
struct Context {
    key: Zeroizing<[u8; KEY_LEN]>,
    nonce: [u8; NONCE_LEN],
}

impl Context {
    fn cipher(&self) -> Result<LessSafeKey, Unsealable> {
        Ok(LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &*self.key)?))
    }

    fn nonce(&self) -> Nonce {
        Nonce::assume_unique_for_key(self.nonce)
    }

    /// RFC 9180, Section 5.1, for the base mode: no pre-shared key.
    fn new(shared: &[u8], purpose: &[u8]) -> Self {
        let psk_id_hash = extract(&[], SUITE, b"psk_id_hash", &[]);
        let info_hash = extract(&[], SUITE, b"info_hash", purpose);
        let context: [&[u8]; 3] = [&[0], &*psk_id_hash, &*info_hash];
        let secret = extract(shared, SUITE, b"secret", &[]);
        let (mut key, mut nonce) = (Zeroizing::new([0; KEY_LEN]), [0; NONCE_LEN]);
        expand(&secret, SUITE, b"key", &context, &mut *key);
        expand(&secret, SUITE, b"base_nonce", &context, &mut nonce);
        Context { key, nonce }
    }
}

/// Encap and Decap of RFC 9180, Section 4.1, as far as they are the same, and the key schedule.
fn agreed(own: EphemeralPrivateKey, peer: &[u8], kem_context: &[&[u8]], purpose: &[u8]) -> Result<Context, Unsealable> {
    let shared = agree_ephemeral(own, &UnparsedPublicKey::new(&ECDH_P256, peer), |dh| {
        let prk = extract(&[], KEM, b"eae_prk", dh);
        let mut shared = Zeroizing::new([0; 32]);
        expand(&prk, KEM, b"shared_secret", kem_context, &mut *shared);
        shared
    })?;
    Ok(Context::new(&*shared, purpose))
}

/// LabeledExtract of RFC 9180, Section 4: HKDF-Extract is one HMAC.
fn extract(salt: &[u8], suite: &[u8], label: &[u8], input: &[u8]) -> Zeroizing<[u8; 32]> {
    mac(salt, &[b"HPKE-v1", suite, label, input])
}

/// LabeledExpand of RFC 9180, Section 4. Nothing that is asked for is longer than a hash, so HKDF-Expand is one HMAC.
fn expand(prk: &[u8; 32], suite: &[u8], label: &[u8], context: &[&[u8]], out: &mut [u8]) {
    let len = u16::try_from(out.len()).unwrap_or(u16::MAX).to_be_bytes();
    let (before, after): ([&[u8]; 4], [&[u8]; 1]) = ([&len, b"HPKE-v1", suite, label], [&[1]]);
    let parts = [&before[..], context, &after].concat();
    for (place, byte) in out.iter_mut().zip(&*mac(prk, &parts)) {
        *place = *byte;
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(HMAC_SHA256, key));
    parts.iter().for_each(|part| context.update(part));
    let mut out = Zeroizing::new([0; 32]);
    for (place, byte) in out.iter_mut().zip(context.sign().as_ref()) {
        *place = *byte;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits");
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    /// RFC 9180, Appendix A.3.1: the key schedule, and the first encryption.
    #[test]
    fn the_key_schedule_is_that_of_the_rfc() {
        let shared = bytes("c0d26aeab536609a572b07695d933b589dcf363ff9d93c93adea537aeabb8cb8");
        let context = Context::new(&shared, b"Ode on a Grecian Urn");
        assert_eq!(context.key[..], bytes("868c066ef58aae6dc589b6cfdd18f97e"));
        assert_eq!(context.nonce[..], bytes("4e0bc5018beba4bf004cca59"));
        let mut text = b"Beauty is truth, truth beauty".to_vec();
        let cipher = context.cipher().expect("a key");
        cipher.seal_in_place_append_tag(context.nonce(), Aad::from(b"Count-0"), &mut text).expect("seals");
        let expected = "5ad590bb8baa577f8619db35a36311226a896e7342a6d836d8b7bcd2f20b6c7f9076ac232e3ab2523f39513434";
        assert_eq!(text, bytes(expected));
    }

    #[test]
    fn a_key_that_is_none_seals_nothing() {
        for public_key in [Vec::new(), vec![4; 65], vec![0; 65]] {
            let key = v1::SealKeyReply { key: 1, public_key };
            assert_eq!(seal(&key, REQUEST, &v1::Request::default()).err(), Some(Unsealable));
        }
        let reply = v1::SealedReply { reply: Some(v1::sealed_reply::Reply::Sealed(v1::Sealed::default())) };
        assert_eq!(ReplyKey::new().expect("random").open(reply).err(), Some(Unsealable));
    }
}
