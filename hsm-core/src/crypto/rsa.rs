//! RSA (RFC 8017): generation, import, PKCS#1 v1.5 and PSS signatures, PKCS#1 v1.5 and OAEP encryption.
//!
//! Which sizes, hashes and schemes are allowed is decided above; this room refuses only what is broken: moduli outside
//! 1024 to 8192 bits, even or tiny exponents, parts that contradict each other, and the weak primes of CVE-2017-15361.
//!
//! Every signature is checked with the public key before it is given away: a fault in the CRT computation would betray
//! the factors. PKCS#1 v1.5 decryption never fails on a wrong padding: see [`PrivateKey::decrypt_pkcs1`].

use core::ops::RangeInclusive;
use std::sync::OnceLock;

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq, ConstantTimeGreater, ConstantTimeLess};
use zeroize::Zeroizing;

use super::ffi::{self, RsaKey, RsaNumbers, RsaPart};
use super::{Error, Hash, MacStream, Result, digest, hmac};
use crate::SecretBytes;

/// The modulus lengths in bits that this room can work with.
pub(crate) const MODULUS_BITS: RangeInclusive<u32> = 1024..=8192;
/// The usual public exponent, 65537.
pub(crate) const F4: &[u8] = &[1, 0, 1];
/// Bytes that PKCS#1 v1.5 padding needs at least.
pub(crate) const PKCS1_OVERHEAD: usize = 11;

/// The least public exponent that is accepted; all are odd and have at most 33 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExponentRule {
    /// 65537 or more (FIPS 186-5).
    Modern,
    /// 3 or more: for old keys; which of them come in is decided above this room.
    Legacy,
}

impl ExponentRule {
    fn least(self) -> u64 {
        match self {
            ExponentRule::Modern => 65_537,
            ExponentRule::Legacy => 3,
        }
    }
}

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

fn check_size(bits: u32) -> Result<()> {
    if MODULUS_BITS.contains(&bits) { Ok(()) } else { Err(Error::KeySize) }
}

/// The bytes from the first that is not zero.
fn significant(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&byte| byte != 0).unwrap_or(bytes.len());
    &bytes[start..]
}

fn check_modulus_len(n: &[u8]) -> Result<()> {
    if significant(n).len() > *MODULUS_BITS.end() as usize / 8 { Err(Error::KeySize) } else { Ok(()) }
}

/// Whether a public exponent, big-endian, keeps a rule.
///
/// # Errors
/// [`Error::InvalidKey`].
pub(crate) fn check_exponent(e: &[u8], rule: ExponentRule) -> Result<()> {
    let e = significant(e);
    if e.len() > 5 {
        return Err(Error::InvalidKey);
    }
    let value = e.iter().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
    if value >= rule.least() && value < 1 << 33 && value % 2 == 1 { Ok(()) } else { Err(Error::InvalidKey) }
}

/// Primes for which the moduli of CVE-2017-15361 always fall in the subgroup that 65537 generates. A random modulus does
/// so for all of them with a probability of 2⁻²⁸.
const FINGERPRINT_PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Whether the modulus has the form that the flawed generator of CVE-2017-15361 gives.
fn is_from_flawed_generator(n: &[u8]) -> bool {
    FINGERPRINT_PRIMES.iter().all(|&prime| {
        let residue = n.iter().fold(0_u32, |rest, &byte| (rest << 8 | u32::from(byte)) % prime);
        let mut power = 1;
        (0..prime).any(|_| {
            power = power * (65_537 % prime) % prime;
            power == residue
        })
    })
}

fn check_public_parts(key: &RsaKey, rule: ExponentRule) -> Result<()> {
    check_size(key.bits())?;
    check_exponent(key.part(RsaPart::E)?.expose(), rule)?;
    if is_from_flawed_generator(key.part(RsaPart::N)?.expose()) { Err(Error::InvalidKey) } else { Ok(()) }
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
    /// [`Error::KeySize`] if the length is not a multiple of 128 bits in [`MODULUS_BITS`] (the library makes no others),
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

/// Takes the PKCS#1 v1.5 padding off, or gives the message that `message_key` makes, in the same time.
fn unpad_or_invent(padded: &[u8], message_key: &hmac::Key) -> SecretBytes {
    let len = padded.len();
    // The longest message leaves room for two marks, eight bytes of padding and a separator, which is counted below.
    let longest = (len - 10) as u32;
    let mut invented_len = 0_u32;
    let mask = u32::MAX >> longest.leading_zeros();
    for candidate in expand(message_key, b"length", 256).expose().chunks_exact(2) {
        let candidate = (u32::from(candidate[0]) << 8 | u32::from(candidate[1])) & mask;
        invented_len.conditional_assign(&candidate, candidate.ct_lt(&longest));
    }
    let invented = expand(message_key, b"message", len);

    let mut good = padded[0].ct_eq(&0) & padded[1].ct_eq(&2);
    let mut separator = 0_u32;
    let mut found = Choice::from(0);
    for (position, byte) in (0_u32..).zip(padded).skip(2) {
        let first_zero = byte.ct_eq(&0) & !found;
        separator.conditional_assign(&position, first_zero);
        found |= first_zero;
    }
    good &= found & separator.ct_gt(&9);

    let start = u32::conditional_select(&(len as u32 - invented_len), &(separator + 1), good) as usize;
    let mut chosen = SecretBytes::zeroed(len);
    for (out, (real, other)) in chosen.expose_mut().iter_mut().zip(padded.iter().zip(invented.expose())) {
        *out = u8::conditional_select(other, real, good);
    }
    SecretBytes::copy_from(&chosen.expose()[start..])
}

/// The pseudo-random function of draft-irtf-cfrg-rsa-guidance: HMAC over block number, label and length in bits.
fn expand(key: &hmac::Key, label: &[u8], len: usize) -> SecretBytes {
    let mut out = SecretBytes::zeroed(len);
    let bits = (len as u16).wrapping_mul(8).to_be_bytes();
    for (number, piece) in (0_u16..).zip(out.expose_mut().chunks_mut(32)) {
        let mut stream = Box::new(key.start());
        stream.update(&number.to_be_bytes());
        stream.update(label);
        stream.update(&bits);
        let block = Zeroizing::new(stream.finish());
        piece.copy_from_slice(&block[..piece.len()]);
    }
    out
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

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    /// One generated key for the tests of this file: generation is the slow part.
    static KEY: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate(2048, F4).expect("a key"));

    fn parts() -> Components {
        KEY.components().expect("parts")
    }

    fn none() -> SecretBytes {
        SecretBytes::zeroed(0)
    }

    fn padded(len: usize, body: &[u8]) -> Vec<u8> {
        let mut out = vec![0; len - body.len()];
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn a_generated_key_has_the_length_and_exponent_asked_for() {
        assert_eq!((KEY.modulus_bits(), KEY.modulus_len()), (2048, 256));
        assert_eq!(KEY.public().expect("public").exponent().expect("e"), F4);
        let other = PrivateKey::generate(1024, &[0, 1, 0, 3]).expect("65539 is odd and large enough");
        assert_eq!(other.public().expect("public").exponent().expect("e"), [1, 0, 3]);
    }

    #[test]
    fn sizes_and_exponents_that_cannot_be_made_are_refused() {
        for bits in [0, 512, 1016, 2040, 2056, 8200, u32::MAX] {
            assert_eq!(PrivateKey::generate(bits, F4).err(), Some(Error::KeySize), "{bits}");
        }
        for exponent in [&[][..], &[1], &[2], &[1, 0, 0], &[1, 0, 0, 0, 1]] {
            assert_eq!(PrivateKey::generate(2048, exponent).err(), Some(Error::InvalidParameter), "{exponent:?}");
        }
    }

    #[test]
    fn import_works_with_all_parts_with_primes_only_and_with_exponents_only() {
        let want = KEY.to_pkcs1_der().expect("der");
        let whole = PrivateKey::from_components(&parts()).expect("all parts");
        assert!(whole.to_pkcs1_der().expect("der") == want);
        let zeros = |bytes: &[u8]| SecretBytes::new(padded(bytes.len() + 3, bytes));
        let led = Components { d: zeros(parts().d.expose()), p: zeros(parts().p.expose()), ..parts() };
        assert!(PrivateKey::from_components(&led).expect("zeros lead").to_pkcs1_der().expect("der") == want);
        let primes = PrivateKey::from_components(&Components { dp: none(), ..parts() }).expect("primes only");
        assert!(primes.to_pkcs1_der().expect("der") == want);
        let bare = Components { p: none(), q: none(), dp: none(), dq: none(), qinv: none(), ..parts() };
        let bare = PrivateKey::from_components(&bare).expect("exponents only");
        assert_eq!(bare.public().expect("public").modulus(), Ok(parts().n));
        let digest = [7; 32];
        let signature = bare.sign_pkcs1(Hash::Sha256, &digest).expect("signature");
        assert_eq!(KEY.sign_pkcs1(Hash::Sha256, &digest), Ok(signature));
    }

    #[test]
    fn parts_that_contradict_each_other_are_refused() {
        let changed = |bytes: &[u8]| {
            let mut copy = bytes.to_vec();
            copy[40] ^= 4;
            SecretBytes::new(copy)
        };
        let rows = [
            ("n", Components { n: changed(&parts().n).expose().to_vec(), ..parts() }),
            ("d", Components { d: changed(parts().d.expose()), ..parts() }),
            ("p", Components { p: changed(parts().p.expose()), ..parts() }),
            ("q", Components { q: changed(parts().q.expose()), ..parts() }),
            ("dp", Components { dp: changed(parts().dp.expose()), ..parts() }),
            ("dq", Components { dq: changed(parts().dq.expose()), ..parts() }),
            ("qinv", Components { qinv: changed(parts().qinv.expose()), ..parts() }),
            ("e", Components { e: vec![1, 0, 3], ..parts() }),
            ("e even", Components { e: vec![1, 0, 0], ..parts() }),
            ("e small", Components { e: vec![3], ..parts() }),
            ("d alone", Components { d: changed(parts().d.expose()), p: none(), q: none(), ..parts() }),
            ("nothing", Components { n: vec![], e: vec![], d: none(), p: none(), q: none(), ..parts() }),
        ];
        for (name, wrong) in rows {
            assert_eq!(PrivateKey::from_components(&wrong).err(), Some(Error::InvalidKey), "{name}");
        }
    }

    #[test]
    fn public_keys_are_judged_by_the_exponent_rule_and_the_size() {
        let n = parts().n;
        let read = |n: &[u8], e: &[u8], rule| PublicKey::from_components(n, e, rule).err();
        assert_eq!(read(&n, F4, ExponentRule::Modern), None);
        assert_eq!(read(&n, &[0, 0, 1, 0, 1], ExponentRule::Modern), None);
        assert_eq!(read(&n, &[3], ExponentRule::Modern), Some(Error::InvalidKey));
        assert_eq!(read(&n, &[3], ExponentRule::Legacy), None);
        for wrong in [&[][..], &[1], &[2], &[1, 0, 0], &[2, 0, 0, 0, 1], &[1; 9]] {
            assert_eq!(read(&n, wrong, ExponentRule::Legacy), Some(Error::InvalidKey), "{wrong:?}");
        }
        let mut even = n.clone();
        even[255] &= 0xfe;
        assert_eq!(read(&even, F4, ExponentRule::Modern), Some(Error::InvalidKey));
        assert_eq!(read(&n[192..], F4, ExponentRule::Modern), Some(Error::KeySize));
        let mut long = vec![1; 1025];
        long[1024] = 1;
        assert_eq!(read(&long, F4, ExponentRule::Modern), Some(Error::KeySize));
    }

    #[test]
    fn moduli_of_the_flawed_generator_are_recognised() {
        assert!(is_from_flawed_generator(F4), "a power of 65537 lies in every subgroup");
        assert!(!is_from_flawed_generator(&parts().n));
    }

    #[test]
    fn raw_pkcs1_signatures_take_any_bytes_that_fit() {
        let public = KEY.public().expect("public");
        for len in [0, 1, 19, 51, 245] {
            let data = vec![0xa5; len];
            let signature = KEY.sign_pkcs1_raw(&data).expect("signature");
            assert_eq!(public.verify_pkcs1_raw(&data, &signature), Ok(()), "{len}");
            assert_eq!(public.verify_pkcs1_raw(b"else", &signature), Err(Error::SignatureInvalid), "{len}");
        }
        assert_eq!(KEY.sign_pkcs1_raw(&[0; 246]), Err(Error::DataLength));
        assert_eq!(public.verify_pkcs1_raw(&[0; 246], &[0; 256]), Err(Error::DataLength));
        assert_eq!(public.verify_pkcs1_raw(b"", &[0; 255]), Err(Error::SignatureLength));
        assert_eq!(public.verify_pkcs1_raw(b"", &[0xff; 256]), Err(Error::SignatureInvalid));
    }

    #[test]
    fn a_raw_signature_over_a_digest_info_is_the_signature_over_the_digest() {
        let digest = digest::digest(Hash::Sha256, b"abc");
        // RFC 8017, section 9.2, note 1: the DigestInfo prefix of SHA-256.
        let prefix = crate::crypto::testing::hex("3031300d060960864801650304020105000420");
        let raw = KEY.sign_pkcs1_raw(&[prefix, digest.clone()].concat()).expect("signature");
        assert_eq!(KEY.sign_pkcs1(Hash::Sha256, &digest), Ok(raw));
    }

    #[test]
    fn the_bare_operation_takes_numbers_below_the_modulus() {
        let public = KEY.public().expect("public");
        let modulus = public.modulus().expect("modulus");
        let mut below = modulus.clone();
        below[0] >>= 1;
        for data in [&[2][..], &[0, 0, 7], &below] {
            let signature = KEY.sign_raw(data).expect("below the modulus");
            assert_eq!(public.verify_raw(data, &signature), Ok(()));
            assert_eq!(public.verify_raw(&[9; 9], &signature), Err(Error::SignatureInvalid));
            assert_eq!(public.verify_raw(data, &signature[1..]), Err(Error::SignatureLength));
            let opened = KEY.decrypt_raw(&public.encrypt_raw(data).expect("below the modulus")).expect("opens");
            assert_eq!(significant(opened.expose()), significant(data));
            assert_eq!(opened.len(), modulus.len());
        }
        for data in [vec![], vec![1]] {
            assert_eq!(KEY.sign_raw(&data), Err(Error::DataLength));
        }
        for data in [modulus.clone(), vec![0xff; modulus.len()], [vec![1], modulus.clone()].concat()] {
            assert_eq!(KEY.sign_raw(&data), Err(Error::DataLength));
            assert_eq!(public.encrypt_raw(&data), Err(Error::DataLength));
        }
        assert_eq!(public.verify_raw(b"x", &modulus), Err(Error::SignatureInvalid));
        assert_eq!(KEY.decrypt_raw(&modulus).err(), Some(Error::EncryptedDataInvalid));
        assert_eq!(KEY.decrypt_raw(&modulus[1..]).err(), Some(Error::EncryptedDataLength));
    }

    #[test]
    fn every_hash_signs_and_a_digest_of_another_length_is_refused() {
        let public = KEY.public().expect("public");
        for &hash in Hash::ALL {
            let digest = vec![3; hash.output_len()];
            let signature = KEY.sign_pkcs1(hash, &digest).expect("signature");
            assert_eq!(public.verify_pkcs1(hash, &digest, &signature), Ok(()));
            assert_eq!(public.verify_pkcs1(hash, &digest, &signature[1..]), Err(Error::SignatureLength));
            assert_eq!(KEY.sign_pkcs1(hash, &digest[1..]), Err(Error::DataLength));
            let pss = Pss { hash, mgf: Hash::Sha1, salt_len: 11 };
            let signature = KEY.sign_pss(&pss, &digest).expect("signature");
            assert_eq!(public.verify_pss(&pss, &digest, &signature), Ok(()));
            let other_salt = Pss { salt_len: 12, ..pss };
            assert_eq!(public.verify_pss(&other_salt, &digest, &signature), Err(Error::SignatureInvalid));
            let other_mask = Pss { mgf: Hash::Sha512, ..pss };
            assert_eq!(public.verify_pss(&other_mask, &digest, &signature), Err(Error::SignatureInvalid));
            assert_eq!(KEY.sign_pss(&pss, &digest[1..]), Err(Error::DataLength));
        }
    }

    #[test]
    fn a_pss_salt_may_be_empty_or_fill_the_modulus_but_not_more() {
        let (digest, public) = ([9; 32], KEY.public().expect("public"));
        let params = |salt_len| Pss { hash: Hash::Sha256, mgf: Hash::Sha256, salt_len };
        for salt_len in [0, 32, 222] {
            let signature = KEY.sign_pss(&params(salt_len), &digest).expect("fits");
            assert_eq!(public.verify_pss(&params(salt_len), &digest, &signature), Ok(()));
        }
        for salt_len in [223, 256, usize::MAX] {
            assert_eq!(KEY.sign_pss(&params(salt_len), &digest), Err(Error::InvalidParameter));
        }
    }

    #[test]
    fn oaep_opens_only_with_the_same_hash_mask_and_label() {
        let public = KEY.public().expect("public");
        let params = Oaep { hash: Hash::Sha256, mgf: Hash::Sha1, label: b"label" };
        let longest = params.data_max(256).expect("fits");
        assert_eq!(longest, 190);
        for len in [0, 1, longest] {
            let data = vec![1; len];
            let ciphertext = public.encrypt_oaep(&params, &data).expect("fits");
            assert_eq!(KEY.decrypt_oaep(&params, &ciphertext).expect("opens").expose(), data);
        }
        let ciphertext = public.encrypt_oaep(&params, b"abc").expect("fits");
        let others = [
            Oaep { hash: Hash::Sha384, ..params },
            Oaep { mgf: Hash::Sha256, ..params },
            Oaep { label: b"", ..params },
            Oaep { label: b"Label", ..params },
        ];
        for other in others {
            assert_eq!(KEY.decrypt_oaep(&other, &ciphertext).err(), Some(Error::EncryptedDataInvalid));
        }
        assert_eq!(public.encrypt_oaep(&params, &[0; 191]), Err(Error::DataLength));
        assert_eq!(KEY.decrypt_oaep(&params, &ciphertext[1..]).err(), Some(Error::EncryptedDataLength));
        let long_label = vec![5; 4096];
        let params = Oaep { label: &long_label, ..params };
        let ciphertext = public.encrypt_oaep(&params, b"abc").expect("any label");
        assert_eq!(KEY.decrypt_oaep(&params, &ciphertext).expect("opens").expose(), b"abc");
    }

    #[test]
    fn a_modulus_too_short_for_the_hash_is_refused() {
        let key = PrivateKey::generate(1024, F4).expect("a key");
        let params = Oaep { hash: Hash::Sha512, mgf: Hash::Sha512, label: &[] };
        assert_eq!(key.public().expect("public").encrypt_oaep(&params, b""), Err(Error::KeySize));
        assert_eq!(key.decrypt_oaep(&params, &[0; 128]).err(), Some(Error::KeySize));
    }

    #[test]
    fn wrong_pkcs1_paddings_give_stable_messages_that_look_like_success() {
        let ciphertext = KEY.public().expect("public").encrypt_pkcs1(b"abc").expect("fits");
        assert_eq!(KEY.decrypt_pkcs1(&ciphertext).expect("opens").expose(), b"abc");
        let mut lengths = std::collections::BTreeSet::new();
        for byte in 0..32 {
            let mut wrong = ciphertext.clone();
            wrong[100 + byte] ^= 0x10;
            let first = KEY.decrypt_pkcs1(&wrong).expect("no padding is an error");
            let second = KEY.decrypt_pkcs1(&wrong).expect("no padding is an error");
            assert!(first == second, "the same ciphertext gives the same message");
            assert!(first.len() <= 245);
            lengths.insert(first.len());
        }
        assert!(lengths.len() > 8, "the invented lengths differ");
        assert_eq!(KEY.decrypt_pkcs1(&ciphertext[1..]).err(), Some(Error::EncryptedDataLength));
        assert_eq!(KEY.decrypt_pkcs1(&[0xff; 256]).err(), Some(Error::EncryptedDataInvalid));
        assert_eq!(KEY.public().expect("public").encrypt_pkcs1(&[0; 246]), Err(Error::DataLength));
    }

    #[test]
    fn paddings_are_judged_byte_by_byte() {
        let key = hmac::Key::new(Hash::Sha256, b"k");
        let mut body = vec![2; 9];
        body.extend_from_slice(b"\0abc");
        let good = [vec![0], body.clone()].concat();
        assert_eq!(unpad_or_invent(&good, &key).expose(), b"abc");
        let mut short = good.clone();
        short[9] = 0;
        assert_ne!(unpad_or_invent(&short, &key).expose(), b"\0abc", "seven bytes of padding are too few");
        let endless = [vec![0], vec![2; 31]].concat();
        assert!(unpad_or_invent(&endless, &key).len() < endless.len() - 10, "no separator");
        assert_ne!(unpad_or_invent(&padded(32, &body), &key).expose(), b"abc", "a second zero");
    }

    #[test]
    fn one_key_signs_in_many_threads_at_once() {
        let public = KEY.public().expect("public");
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let public = &public;
                scope.spawn(move || {
                    for round in 0..8 {
                        let digest = [thread * 16 + round; 32];
                        let signature = KEY.sign_pkcs1(Hash::Sha256, &digest).expect("signature");
                        assert_eq!(public.verify_pkcs1(Hash::Sha256, &digest, &signature), Ok(()));
                    }
                });
            }
        });
    }
}
