//! RSA (RFC 8017): generation, import, PKCS#1 v1.5 and PSS signatures, PKCS#1 v1.5 and OAEP encryption.
//!
//! Which sizes, hashes and schemes are allowed is decided above; this room refuses only what is broken: moduli outside
//! 1024 to 8192 bits, even or tiny exponents, parts that contradict each other, and the weak primes of CVE-2017-15361.
//!
//! Every signature is checked with the public key before it is given away: a fault in the CRT computation would betray
//! the factors. PKCS#1 v1.5 decryption never fails on a wrong padding: see [`PrivateKey::decrypt_pkcs1`].

mod rejection;
mod strength;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::ffi::{self, RsaKey, RsaNumbers, RsaPart};
use super::{Error, Hash, Result, digest, hmac};
use crate::SecretBytes;
use rejection::{expand, unpad_or_invent};
pub(crate) use strength::{ExponentRule, check_exponent};
use strength::{check_modulus_len, check_public_parts, check_size, significant};

/// The usual public exponent, 65537.
pub(crate) const F4: &[u8] = &[1, 0, 1];
/// Bytes that PKCS#1 v1.5 padding needs at least.
pub(crate) const PKCS1_OVERHEAD: usize = 11;

/// The parts of a private key, big-endian without leading zeros.
pub(crate) struct Components {
    /// Modulus.
    pub(crate) n: Vec<u8>,
    /// Public exponent.
    pub(crate) e: Vec<u8>,
    /// Private exponent.
    pub(crate) d: SecretBytes,
    /// First prime. On import, empty with `q` empty: both are computed from the exponents.
    pub(crate) p: SecretBytes,
    /// Second prime.
    pub(crate) q: SecretBytes,
    /// d mod (p − 1). On import, when one of the last three is empty, all three are computed.
    pub(crate) dp: SecretBytes,
    /// d mod (q − 1).
    pub(crate) dq: SecretBytes,
    /// q⁻¹ mod p.
    pub(crate) qinv: SecretBytes,
}

/// The parameters of RSASSA-PSS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pss {
    /// The hash of the message and of the encoding.
    pub(crate) hash: Hash,
    /// The hash of the mask.
    pub(crate) mgf: Hash,
    /// Length of the salt in bytes.
    pub(crate) salt_len: usize,
}

impl Pss {
    /// Checks the digest's length, and that digest and salt fit the modulus (RFC 8017, section 9.1.1).
    fn check(&self, modulus_bits: u32, digest: &[u8]) -> Result<()> {
        if digest.len() != self.hash.output_len() {
            return Err(Error::DataLength);
        }
        let encoded_len = (modulus_bits as usize - 1).div_ceil(8);
        let fits = self.hash.output_len().checked_add(self.salt_len).is_some_and(|len| len + 2 <= encoded_len);
        if fits { Ok(()) } else { Err(Error::InvalidParameter) }
    }
}

/// The parameters of RSAES-OAEP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Oaep<'a> {
    /// The hash of the label.
    pub(crate) hash: Hash,
    /// The hash of the mask.
    pub(crate) mgf: Hash,
    /// The label (PKCS#11: the encoding parameter's source data).
    pub(crate) label: &'a [u8],
}

impl Oaep<'_> {
    /// The longest message in bytes under a modulus of this many bytes (RFC 8017, section 7.1.1).
    pub(crate) fn data_max(&self, modulus_len: usize) -> Option<usize> {
        modulus_len.checked_sub(2 * self.hash.output_len() + 2)
    }
}

/// A private key with its CRT parts; wiped when dropped.
pub(crate) struct PrivateKey {
    key: RsaKey,
    /// The key of the answers that wrong PKCS#1 v1.5 paddings get; made when first needed.
    rejection: OnceLock<Zeroizing<[u8; 32]>>,
}

impl PrivateKey {
    fn checked(key: RsaKey) -> Result<Self> {
        check_public_parts(&key, ExponentRule::Legacy)?;
        // The library takes keys without factors; those are not offered: they have no complete stored form.
        if key.part(RsaPart::P)?.is_empty() || key.part(RsaPart::Qinv)?.is_empty() {
            return Err(Error::InvalidKey);
        }
        Ok(PrivateKey { key, rejection: OnceLock::new() })
    }

    /// A new key.
    ///
    /// # Errors
    /// [`Error::KeySize`] if the length is not a multiple of 128 bits in [`strength::MODULUS_BITS`] (the library makes no others),
    /// [`Error::InvalidParameter`] if the exponent is even, below 3 or longer than 32 bits.
    pub(crate) fn generate(modulus_bits: u32, public_exponent: &[u8]) -> Result<Self> {
        check_size(modulus_bits)?;
        if !modulus_bits.is_multiple_of(128) {
            return Err(Error::KeySize);
        }
        if significant(public_exponent).len() > 4 || check_exponent(public_exponent, ExponentRule::Legacy).is_err() {
            return Err(Error::InvalidParameter);
        }
        PrivateKey::checked(RsaKey::generate(modulus_bits, public_exponent)?)
    }

    /// A key from its parts; missing primes and CRT parts are computed, given ones must agree.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if the parts contradict each other or are weak, [`Error::KeySize`] if the modulus is too
    /// short or too long.
    pub(crate) fn from_components(parts: &Components) -> Result<Self> {
        check_exponent(&parts.e, ExponentRule::Legacy)?;
        check_modulus_len(&parts.n)?;
        let (n, d) = (significant(&parts.n), significant(parts.d.expose()));
        let (p, q) = (significant(parts.p.expose()), significant(parts.q.expose()));
        if [d, p, q].iter().any(|part| part.len() > n.len()) {
            return Err(Error::InvalidKey);
        }
        let primes_given = !p.is_empty() && !q.is_empty();
        let computed;
        let (p, q) = if primes_given {
            (p, q)
        } else {
            computed = ffi::rsa_factors(n, &parts.e, d)?;
            (computed.0.expose(), computed.1.expose())
        };
        // Computed primes may come in the other order, so given CRT parts count only beside given primes.
        let crt = |part: &'_ SecretBytes| if primes_given { part.duplicate() } else { SecretBytes::zeroed(0) };
        let (dp, dq, qinv) = (crt(&parts.dp), crt(&parts.dq), crt(&parts.qinv));
        PrivateKey::checked(RsaKey::private(&RsaNumbers {
            n,
            e: &parts.e,
            d,
            p,
            q,
            dp: dp.expose(),
            dq: dq.expose(),
            qinv: qinv.expose(),
        })?)
    }

    /// The parts of the key.
    pub(crate) fn components(&self) -> Result<Components> {
        Ok(Components {
            n: self.key.part(RsaPart::N)?.expose().to_vec(),
            e: self.key.part(RsaPart::E)?.expose().to_vec(),
            d: self.key.part(RsaPart::D)?,
            p: self.key.part(RsaPart::P)?,
            q: self.key.part(RsaPart::Q)?,
            dp: self.key.part(RsaPart::Dp)?,
            dq: self.key.part(RsaPart::Dq)?,
            qinv: self.key.part(RsaPart::Qinv)?,
        })
    }

    /// Reads the DER of RSAPrivateKey (RFC 8017, appendix A.1.2), two primes.
    pub(super) fn from_pkcs1_der(der: &[u8]) -> Result<Self> {
        PrivateKey::checked(RsaKey::private_from_der(der)?)
    }

    /// The DER of RSAPrivateKey.
    pub(super) fn to_pkcs1_der(&self) -> Result<SecretBytes> {
        self.key.private_to_der()
    }

    /// The public key.
    pub(crate) fn public(&self) -> Result<PublicKey> {
        let (n, e) = (self.key.part(RsaPart::N)?, self.key.part(RsaPart::E)?);
        Ok(PublicKey { key: RsaKey::public(n.expose(), e.expose())? })
    }

    /// Length of the modulus in bytes: of every signature and ciphertext.
    pub(crate) fn modulus_len(&self) -> usize {
        self.key.len()
    }

    /// Length of the modulus in bits.
    pub(crate) fn modulus_bits(&self) -> u32 {
        self.key.bits()
    }

    /// PKCS#1 v1.5 over the caller's bytes as they are (a DigestInfo, or anything else).
    ///
    /// # Errors
    /// [`Error::DataLength`] if there are more bytes than the modulus has less 11.
    pub(crate) fn sign_pkcs1_raw(&self, data: &[u8]) -> Result<Vec<u8>> {
        if data.len() + PKCS1_OVERHEAD > self.modulus_len() {
            return Err(Error::DataLength);
        }
        let signature = self.key.sign_pkcs1_raw(data)?;
        verify_pkcs1_raw(&self.key, data, &signature).map_err(|_| Error::Internal)?;
        Ok(signature)
    }

    /// The bare private-key operation (RFC 8017, section 5.2.1) over a number, big-endian.
    ///
    /// # Errors
    /// [`Error::DataLength`] if the number is 0, 1 or not below the modulus less one: those that the operation leaves as they
    /// are, and those that are no residue.
    pub(crate) fn sign_raw(&self, data: &[u8]) -> Result<Vec<u8>> {
        let padded = padded(data, self.modulus_len())?;
        let signature = self.key.decrypt_raw(padded.expose()).map_err(|_| Error::DataLength)?.expose().to_vec();
        verify_raw(&self.key, data, &signature).map_err(|_| Error::Internal)?;
        Ok(signature)
    }

    /// The bare private-key operation over a ciphertext: as many bytes as the modulus has.
    ///
    /// # Errors
    /// [`Error::EncryptedDataLength`] if the ciphertext has not the modulus's length, [`Error::EncryptedDataInvalid`] if
    /// it is 0, 1 or not below the modulus less one.
    pub(crate) fn decrypt_raw(&self, ciphertext: &[u8]) -> Result<SecretBytes> {
        if ciphertext.len() != self.modulus_len() {
            return Err(Error::EncryptedDataLength);
        }
        self.key.decrypt_raw(ciphertext)
    }

    /// PKCS#1 v1.5 over a digest, which is wrapped in a DigestInfo.
    ///
    /// # Errors
    /// [`Error::DataLength`] if the digest has not the hash's length, [`Error::KeySize`] if it does not fit the modulus.
    pub(crate) fn sign_pkcs1(&self, hash: Hash, digest: &[u8]) -> Result<Vec<u8>> {
        if digest.len() != hash.output_len() {
            return Err(Error::DataLength);
        }
        let signature = self.key.sign_pkcs1(hash, digest)?;
        self.key.verify_pkcs1(hash, digest, &signature).map_err(|_| Error::Internal)?;
        Ok(signature)
    }

    /// PSS over a digest.
    ///
    /// # Errors
    /// [`Error::DataLength`] if the digest has not the hash's length, [`Error::InvalidParameter`] if digest and salt do
    /// not fit the modulus.
    pub(crate) fn sign_pss(&self, params: &Pss, digest: &[u8]) -> Result<Vec<u8>> {
        params.check(self.modulus_bits(), digest)?;
        let Pss { hash, mgf, salt_len } = *params;
        let signature = self.key.sign_pss(hash, mgf, salt_len, digest)?;
        self.key.verify_pss(hash, mgf, salt_len, digest, &signature).map_err(|_| Error::Internal)?;
        Ok(signature)
    }

    /// PKCS#1 v1.5 decryption with implicit rejection (draft-irtf-cfrg-rsa-guidance): a ciphertext whose padding is wrong
    /// gives a message that looks random, is always the same for the same key and ciphertext, and tells nothing.
    /// So there is no error to be told apart, and the work does not depend on the padding.
    ///
    /// # Errors
    /// [`Error::EncryptedDataLength`] if the ciphertext has not the modulus's length; [`Error::EncryptedDataInvalid`] if
    /// it is 0, 1 or not below the modulus less one. Both are known to everyone who has the public key.
    pub(crate) fn decrypt_pkcs1(&self, ciphertext: &[u8]) -> Result<SecretBytes> {
        if ciphertext.len() != self.modulus_len() {
            return Err(Error::EncryptedDataLength);
        }
        let padded = self.key.decrypt_raw(ciphertext)?;
        let message_key = hmac::Key::new(Hash::Sha256, &self.rejection_key()?[..]).sign(ciphertext);
        Ok(unpad_or_invent(padded.expose(), &hmac::Key::new(Hash::Sha256, &Zeroizing::new(message_key))))
    }

    fn rejection_key(&self) -> Result<&Zeroizing<[u8; 32]>> {
        if let Some(key) = self.rejection.get() {
            return Ok(key);
        }
        let d = self.key.part(RsaPart::D)?;
        let mut padded = SecretBytes::zeroed(self.modulus_len());
        let start = padded.len().checked_sub(d.len()).ok_or(Error::Internal)?;
        padded.expose_mut()[start..].copy_from_slice(d.expose());
        let hashed = Zeroizing::new(digest::digest(Hash::Sha256, padded.expose()));
        let key = Zeroizing::new(<[u8; 32]>::try_from(hashed.as_slice()).map_err(|_| Error::Internal)?);
        Ok(self.rejection.get_or_init(|| key))
    }

    /// A key out of a PKCS#1 v1.5 ciphertext, without an error to be told apart: when the padding is wrong, or the key inside has a
    /// length that does not fit, another key comes out, always the same for the same ciphertext, of one of the lengths in `lens`.
    ///
    /// # Errors
    /// As [`PrivateKey::decrypt_pkcs1`]; [`Error::InvalidParameter`] if `lens` is empty.
    pub(crate) fn unwrap_pkcs1(
        &self,
        ciphertext: &[u8],
        fits: impl Fn(usize) -> bool,
        lens: &[usize],
    ) -> Result<SecretBytes> {
        let found = self.decrypt_pkcs1(ciphertext)?;
        let other_key = Zeroizing::new(hmac::Key::new(Hash::Sha384, &self.rejection_key()?[..]).sign(ciphertext));
        let other_key = hmac::Key::new(Hash::Sha256, &other_key);
        let choice = usize::from(expand(&other_key, b"which", 1).expose()[0]);
        let len = lens.get(choice % lens.len().max(1)).copied().ok_or(Error::InvalidParameter)?;
        let other = expand(&other_key, b"key", len);
        Ok(if fits(found.len()) { found } else { other })
    }

    /// OAEP decryption.
    ///
    /// # Errors
    /// [`Error::EncryptedDataLength`] if the ciphertext has not the modulus's length, [`Error::KeySize`] if the modulus is
    /// too short for the hash, else one [`Error::EncryptedDataInvalid`] for whatever is wrong.
    pub(crate) fn decrypt_oaep(&self, params: &Oaep<'_>, ciphertext: &[u8]) -> Result<SecretBytes> {
        params.data_max(self.modulus_len()).ok_or(Error::KeySize)?;
        if ciphertext.len() != self.modulus_len() {
            return Err(Error::EncryptedDataLength);
        }
        self.key.decrypt_oaep(params.hash, params.mgf, params.label, ciphertext)
    }
}

/// A number left-padded with zeros to the modulus's length.
fn padded(data: &[u8], len: usize) -> Result<SecretBytes> {
    let data = significant(data);
    let start = len.checked_sub(data.len()).ok_or(Error::DataLength)?;
    let mut out = SecretBytes::zeroed(len);
    out.expose_mut()[start..].copy_from_slice(data);
    Ok(out)
}

fn verify_raw(key: &RsaKey, data: &[u8], signature: &[u8]) -> Result<()> {
    let padded = padded(data, key.len())?;
    let recovered = key.encrypt_raw(signature).map_err(|_| Error::SignatureInvalid)?;
    if recovered.as_slice().ct_eq(padded.expose()).into() { Ok(()) } else { Err(Error::SignatureInvalid) }
}

fn verify_pkcs1_raw(key: &RsaKey, data: &[u8], signature: &[u8]) -> Result<()> {
    let recovered = key.recover_pkcs1(signature)?;
    if recovered.as_slice().ct_eq(data).into() { Ok(()) } else { Err(Error::SignatureInvalid) }
}

/// A public key.
pub(crate) struct PublicKey {
    key: RsaKey,
}

impl PublicKey {
    /// A key from modulus and exponent, big-endian.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if either is even, the exponent breaks the rule or has more than 33 bits, or the modulus is
    /// a weak one; [`Error::KeySize`] if the modulus is too short or too long.
    pub(crate) fn from_components(n: &[u8], e: &[u8], rule: ExponentRule) -> Result<Self> {
        check_exponent(e, rule)?;
        check_modulus_len(n)?;
        let key = RsaKey::public(n, e)?;
        check_public_parts(&key, rule)?;
        Ok(PublicKey { key })
    }

    /// Reads the DER of RSAPublicKey (RFC 8017, appendix A.1.1) under [`ExponentRule::Legacy`].
    pub(super) fn from_pkcs1_der(der: &[u8]) -> Result<Self> {
        let key = RsaKey::public_from_der(der)?;
        check_public_parts(&key, ExponentRule::Legacy)?;
        Ok(PublicKey { key })
    }

    /// The DER of RSAPublicKey.
    pub(super) fn to_pkcs1_der(&self) -> Result<Vec<u8>> {
        self.key.public_to_der()
    }

    /// The modulus, big-endian.
    pub(crate) fn modulus(&self) -> Result<Vec<u8>> {
        Ok(self.key.part(RsaPart::N)?.expose().to_vec())
    }

    /// The public exponent, big-endian.
    pub(crate) fn exponent(&self) -> Result<Vec<u8>> {
        Ok(self.key.part(RsaPart::E)?.expose().to_vec())
    }

    /// Length of the modulus in bytes: of every signature and ciphertext.
    pub(crate) fn modulus_len(&self) -> usize {
        self.key.len()
    }

    /// Length of the modulus in bits.
    pub(crate) fn modulus_bits(&self) -> u32 {
        self.key.bits()
    }

    fn check_signature_len(&self, signature: &[u8]) -> Result<()> {
        if signature.len() == self.modulus_len() { Ok(()) } else { Err(Error::SignatureLength) }
    }

    /// Verifies a PKCS#1 v1.5 signature over bytes as they are.
    ///
    /// # Errors
    /// [`Error::DataLength`], [`Error::SignatureLength`], [`Error::SignatureInvalid`].
    pub(crate) fn verify_pkcs1_raw(&self, data: &[u8], signature: &[u8]) -> Result<()> {
        if data.len() + PKCS1_OVERHEAD > self.modulus_len() {
            return Err(Error::DataLength);
        }
        self.check_signature_len(signature)?;
        verify_pkcs1_raw(&self.key, data, signature)
    }

    /// Verifies a PKCS#1 v1.5 signature over a digest.
    ///
    /// # Errors
    /// [`Error::DataLength`], [`Error::SignatureLength`], [`Error::SignatureInvalid`].
    pub(crate) fn verify_pkcs1(&self, hash: Hash, digest: &[u8], signature: &[u8]) -> Result<()> {
        if digest.len() != hash.output_len() {
            return Err(Error::DataLength);
        }
        self.check_signature_len(signature)?;
        self.key.verify_pkcs1(hash, digest, signature)
    }

    /// Verifies a PSS signature over a digest; the salt must have the length given.
    ///
    /// # Errors
    /// [`Error::DataLength`], [`Error::InvalidParameter`], [`Error::SignatureLength`], [`Error::SignatureInvalid`].
    pub(crate) fn verify_pss(&self, params: &Pss, digest: &[u8], signature: &[u8]) -> Result<()> {
        params.check(self.modulus_bits(), digest)?;
        self.check_signature_len(signature)?;
        self.key.verify_pss(params.hash, params.mgf, params.salt_len, digest, signature)
    }

    /// The bare public-key operation (RFC 8017, section 5.1.1) over a number, big-endian.
    ///
    /// # Errors
    /// [`Error::DataLength`] if the number is not below the modulus.
    pub(crate) fn encrypt_raw(&self, data: &[u8]) -> Result<Vec<u8>> {
        self.key.encrypt_raw(padded(data, self.modulus_len())?.expose())
    }

    /// Whether the bare public-key operation over the signature gives the number.
    ///
    /// # Errors
    /// [`Error::SignatureLength`] if the signature has not the modulus's length, [`Error::SignatureInvalid`] if it gives
    /// another number, [`Error::DataLength`] if the number is longer than the modulus.
    pub(crate) fn verify_raw(&self, data: &[u8], signature: &[u8]) -> Result<()> {
        if signature.len() != self.modulus_len() {
            return Err(Error::SignatureLength);
        }
        verify_raw(&self.key, data, signature)
    }

    /// What a PKCS#1 v1.5 signature carries, without its padding.
    ///
    /// # Errors
    /// [`Error::SignatureLength`], [`Error::SignatureInvalid`].
    pub(crate) fn recover_pkcs1(&self, signature: &[u8]) -> Result<Vec<u8>> {
        self.check_signature_len(signature)?;
        self.key.recover_pkcs1(signature)
    }

    /// The number that the bare public-key operation over the signature gives, as long as the modulus.
    ///
    /// # Errors
    /// [`Error::SignatureLength`], [`Error::SignatureInvalid`].
    pub(crate) fn recover_raw(&self, signature: &[u8]) -> Result<Vec<u8>> {
        self.check_signature_len(signature)?;
        self.key.encrypt_raw(signature).map_err(|_| Error::SignatureInvalid)
    }

    /// PKCS#1 v1.5 encryption.
    ///
    /// # Errors
    /// [`Error::DataLength`] if there are more bytes than the modulus has less 11.
    pub(crate) fn encrypt_pkcs1(&self, data: &[u8]) -> Result<Vec<u8>> {
        if data.len() + PKCS1_OVERHEAD > self.modulus_len() {
            return Err(Error::DataLength);
        }
        self.key.encrypt_pkcs1(data)
    }

    /// OAEP encryption.
    ///
    /// # Errors
    /// [`Error::KeySize`] if the modulus is too short for the hash, [`Error::DataLength`] if the data are too long.
    pub(crate) fn encrypt_oaep(&self, params: &Oaep<'_>, data: &[u8]) -> Result<Vec<u8>> {
        let longest = params.data_max(self.modulus_len()).ok_or(Error::KeySize)?;
        if data.len() > longest {
            return Err(Error::DataLength);
        }
        self.key.encrypt_oaep(params.hash, params.mgf, params.label, data)
    }
}
