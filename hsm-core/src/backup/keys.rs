//! The archive's keys: from the SO PIN to the file key, from the file key to the header's MAC and the body.

use core::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use data_encoding::HEXLOWER;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::header::{Header, KDF, Recipient, SO_PIN, unhex};
use super::{FORMAT, MAC_LEN, MAGIC, damaged};
use crate::crypto::{aes_gcm, rng};
use crate::{Error, Kind, Result, SecretBytes, TokenId};

/// The parameter comes from the file: a larger one would only keep the reader busy.
const MAX_ITERATIONS: u32 = 10_000_000;
const KEY_LEN: usize = 32;
const ZERO_IV: [u8; 12] = [0; 12];

/// The key of one archive.
pub(super) struct FileKey {
    key: SecretBytes,
    file: [u8; 32],
}

impl FileKey {
    /// A new one, with the random bytes that make the archive's keys its own.
    pub(super) fn random() -> Result<Self> {
        let mut file = [0; 32];
        rng::fill(&mut file).map_err(|_| no_random())?;
        Ok(FileKey { key: rng::secret(KEY_LEN).map_err(|_| no_random())?, file })
    }

    /// The archive's own random bytes.
    pub(super) fn file(&self) -> [u8; 32] {
        self.file
    }

    /// Wraps the file key for the SO of a token.
    pub(super) fn wrap(&self, pin: &SecretBytes, token: TokenId, iterations: u32) -> Result<Recipient> {
        let mut salt = [0; 32];
        rng::fill(&mut salt).map_err(|_| no_random())?;
        let keys = recipient_keys(pin, &salt, iterations, &self.file, &token)?;
        let (kek, commitment) = keys.split_at(KEY_LEN);
        let aad = wrap_aad(&self.file, &token);
        let wrapped = gcm(kek, &ZERO_IV, &aad)
            .and_then(|(key, params)| key.encrypt(&params, self.key.expose()))
            .map_err(|_| Error::new(Kind::Internal, "the file key could not be wrapped"))?;
        Ok(Recipient {
            commitment: HEXLOWER.encode(commitment),
            iterations,
            kdf: KDF.to_owned(),
            kind: SO_PIN.to_owned(),
            salt: HEXLOWER.encode(&salt),
            token: token.to_string(),
            wrapped: HEXLOWER.encode(&wrapped),
        })
    }

    /// Opens the archive's file key with an SO PIN.
    ///
    /// # Errors
    ///
    /// [`Kind::PinIncorrect`] when the PIN is no recipient's.
    pub(super) fn unwrap(header: &Header, pin: &SecretBytes) -> Result<Self> {
        let file = unhex(&header.file)?;
        for recipient in &header.recipients {
            if let Some(key) = open_recipient(recipient, pin, &file)? {
                return Ok(FileKey { key, file });
            }
        }
        let names: Vec<String> = header.recipients.iter().map(|to| header.token_name(&to.token)).collect();
        let names = names.join(" or ");
        Err(Error::new(
            Kind::PinIncorrect,
            format!("it is not the SO PIN that token {names} had when it was backed up"),
        ))
    }

    /// HMAC-SHA256 over everything before the MAC.
    pub(super) fn header_mac(&self, head: &[u8]) -> [u8; MAC_LEN] {
        let key = self.derive(&[b"craton-hsm backup v1 header"]);
        let mut mac = Hmac::<Sha256>::new_from_slice(&key[..]).expect("HMAC takes a key of any length");
        mac.update(head);
        mac.finalize().into_bytes().into()
    }

    /// The body's key, bound to the head by its digest.
    pub(super) fn body(&self, head: &[u8]) -> Result<aes_gcm::Key> {
        let key = self.derive(&[b"craton-hsm backup v1 body", &Sha256::digest(head)]);
        aes_gcm::Key::new(&key[..]).map_err(|_| Error::new(Kind::Internal, "the body's key could not be prepared"))
    }

    fn derive(&self, info: &[&[u8]]) -> Zeroizing<[u8; KEY_LEN]> {
        let mut out = Zeroizing::new([0; KEY_LEN]);
        expand(&self.file, self.key.expose(), info, &mut out[..]);
        out
    }
}

fn open_recipient(recipient: &Recipient, pin: &SecretBytes, file: &[u8; 32]) -> Result<Option<SecretBytes>> {
    if recipient.kind != SO_PIN || recipient.kdf != KDF {
        return Err(damaged("it names a recipient or a password function that format 1 does not have"));
    }
    let token = TokenId(unhex(&recipient.token)?);
    let salt: [u8; 32] = unhex(&recipient.salt)?;
    let commitment: [u8; 32] = unhex(&recipient.commitment)?;
    let wrapped: [u8; KEY_LEN + 16] = unhex(&recipient.wrapped)?;
    let keys = recipient_keys(pin, &salt, recipient.iterations, file, &token)?;
    let (kek, expected) = keys.split_at(KEY_LEN);
    if !bool::from(expected.ct_eq(&commitment)) {
        return Ok(None);
    }
    let aad = wrap_aad(file, &token);
    gcm(kek, &ZERO_IV, &aad)
        .and_then(|(key, params)| key.decrypt(&params, &wrapped))
        .map(Some)
        .map_err(|_| damaged("its wrapped key does not open"))
}

fn recipient_keys(
    pin: &SecretBytes,
    salt: &[u8; 32],
    iterations: u32,
    file: &[u8; 32],
    token: &TokenId,
) -> Result<Zeroizing<[u8; 2 * KEY_LEN]>> {
    let rounds = NonZeroU32::new(iterations).filter(|rounds| rounds.get() <= MAX_ITERATIONS);
    let rounds = rounds.ok_or_else(|| damaged("its iteration count is out of range"))?;
    let mut stretched = Zeroizing::new([0; KEY_LEN]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, pin.expose(), &mut stretched[..]);
    let mut keys = Zeroizing::new([0; 2 * KEY_LEN]);
    expand(file, &stretched[..], &[b"craton-hsm backup v1 recipient", &token.0], &mut keys[..]);
    Ok(keys)
}

fn expand(salt: &[u8], ikm: &[u8], info: &[&[u8]], out: &mut [u8]) {
    Hkdf::<Sha256>::new(Some(salt), ikm)
        .expand_multi_info(info, out)
        .expect("64 bytes are fewer than the 255 blocks that HKDF can make");
}

fn wrap_aad(file: &[u8; 32], token: &TokenId) -> Vec<u8> {
    [&MAGIC[..], &FORMAT.to_le_bytes(), file, &token.0].concat()
}

/// AES-256-GCM with a 96-bit IV and a 128-bit tag.
pub(super) fn gcm<'a>(
    key: &[u8],
    iv: &'a [u8; 12],
    aad: &'a [u8],
) -> Result<(aes_gcm::Key, aes_gcm::Params<'a>), crate::crypto::Error> {
    Ok((aes_gcm::Key::new(key)?, aes_gcm::Params::new(iv, aad, 128)?))
}

fn no_random() -> Error {
    Error::new(Kind::Device, "the random number generator failed")
}
