//! What each derivation computes: from the base key, other keys and the parameter to bytes. Who may derive what, and how secret the
//! result is, is decided elsewhere (`admit.rs`, `hsm/derive.rs`).

use std::sync::Arc;

use ck::Mechanism;
use ck::mechanism::*;
use ck::parameter::*;

use super::kdf_params::{
    HkdfParams, KbkdfField, KbkdfParams, TlsKdfParams, TlsKeysParams, TlsMasterParams, TlsMasterSeed,
};
use super::params::{self, Parameter};
use super::row::Kdf;
use crate::crypto::kbkdf::{self, Field, Format, Prf};
use crate::crypto::{CipherStream, Direction};
use crate::crypto::{Hash, PreHash, PrivateKey, aes_cbc, digest, ecdh, hkdf, tls_prf, x25519};
use crate::error::{Error, Kind, Result};
use crate::object::{Object, import};
use crate::secret::SecretBytes;

/// Everything that goes in.
pub(crate) struct Ingredients<'a> {
    /// Which derivation.
    pub(crate) kdf: Kdf,
    /// Its parameter.
    pub(crate) parameter: &'a Parameter,
    /// The base key.
    pub(crate) base: &'a Object,
    /// The other keys that the parameter names, in its order ([`other_keys`]).
    pub(crate) others: &'a [Arc<Object>],
}

/// A TLS master secret has this many bytes (RFC 5246, section 8.1).
pub(crate) const MASTER_LEN: usize = 48;

fn bad_parameter(what: impl Into<String>) -> Error {
    Error::new(Kind::MechanismParam, what)
}

/// The handles of the keys that a parameter names besides the base key.
pub(crate) fn other_keys(parameter: &Parameter) -> Vec<u64> {
    match parameter {
        Parameter::Key(handle) => vec![*handle],
        Parameter::Hkdf(HkdfParams { extract: true, salt_type, salt_key, .. })
            if HkdfSalt(*salt_type) == CKF_HKDF_SALT_KEY =>
        {
            vec![*salt_key]
        }
        Parameter::Kbkdf(KbkdfParams { fields, .. }) => {
            let handle = |field: &KbkdfField| if let KbkdfField::Key(handle) = field { Some(*handle) } else { None };
            fields.iter().filter_map(handle).collect()
        }
        _ => Vec::new(),
    }
}

impl Ingredients<'_> {
    fn secret(&self) -> Result<&[u8]> {
        self.base.secret()
    }

    fn other(&self, index: usize) -> Result<&[u8]> {
        self.others.get(index).ok_or_else(|| Error::from(Kind::Internal))?.secret()
    }

    /// How many bytes the derivation gives by itself; nothing where the template must say.
    ///
    /// # Errors
    /// [`Kind::MechanismParam`].
    pub(crate) fn natural_len(&self) -> Result<Option<usize>> {
        Ok(match (self.kdf, self.parameter) {
            (Kdf::Ecdh, _) => match self.base.private_key()? {
                PrivateKey::Ec(key) => Some(key.curve().field_len()),
                PrivateKey::Montgomery(_) => Some(x25519::PUBLIC_LEN),
                _ => return Err(Kind::KeyType.into()),
            },
            (Kdf::Hkdf | Kdf::HkdfData, Parameter::Hkdf(hkdf)) => Some(params::hash(hkdf.hash)?.output_len()),
            (Kdf::Digest(hash), _) => Some(hash.output_len()),
            (Kdf::Shake(shake), _) => Some(PreHash::Shake(shake).output_len()),
            (Kdf::TlsMaster { .. }, _) => Some(MASTER_LEN),
            (Kdf::ConcatenateKey, _) => Some(self.secret()?.len() + self.other(0)?.len()),
            (Kdf::ConcatenateData | Kdf::DataConcatenate, Parameter::Bytes(data)) => {
                Some(self.secret()?.len() + data.len())
            }
            (Kdf::Xor, Parameter::Bytes(data)) => Some(self.secret()?.len().min(data.len())),
            (Kdf::AesEcbData, Parameter::Bytes(data)) | (Kdf::AesCbcData, Parameter::CbcData { data, .. }) => {
                Some(data.len())
            }
            _ => None,
        })
    }

    /// Fewer bytes than this would be a piece of something longer: the base key itself, or a ciphertext under it.
    ///
    /// # Errors
    /// [`Kind::KeyType`].
    pub(crate) fn whole_len(&self) -> Result<usize> {
        let natural = self.natural_len()?.unwrap_or_default();
        Ok(match self.kdf {
            Kdf::AesEcbData | Kdf::AesCbcData => natural.min(self.secret()?.len()),
            // What comes first may be known: a cut would leave one unknown byte after it, and the next cut the next.
            Kdf::ConcatenateKey | Kdf::ConcatenateData | Kdf::DataConcatenate => natural,
            Kdf::Xor | Kdf::Extract => self.secret()?.len(),
            _ => 0,
        })
    }

    /// The bytes of one key.
    ///
    /// # Errors
    /// [`Kind::MechanismParam`], [`Kind::PublicKeyInvalid`]; [`Kind::KeySize`] when more is asked than the derivation gives.
    pub(crate) fn derive(&self, len: usize) -> Result<SecretBytes> {
        if len == 0 {
            return Err(Error::new(Kind::KeySize, "CKA_VALUE_LEN is zero"));
        }
        match (self.kdf, self.parameter) {
            (Kdf::Ecdh, Parameter::Ecdh1 { kdf, shared_data, public_data }) => {
                self.agree(*kdf, shared_data, public_data, len)
            }
            (Kdf::Hkdf | Kdf::HkdfData, Parameter::Hkdf(hkdf)) => self.hkdf(hkdf, len),
            (Kdf::Digest(hash), _) => leading(SecretBytes::new(digest::digest(hash, self.secret()?)), len),
            (Kdf::Shake(shake), _) => {
                leading(digest::shake(shake, self.secret()?, PreHash::Shake(shake).output_len()), len)
            }
            (Kdf::TlsMaster { .. }, Parameter::TlsMaster(master)) => leading(self.tls_master(master)?, len),
            (Kdf::TlsExporter, Parameter::TlsKdf(tls)) => self.tls_kdf(tls, len),
            (Kdf::ConcatenateKey, _) => leading(joined(self.secret()?, self.other(0)?), len),
            (Kdf::ConcatenateData, Parameter::Bytes(data)) => leading(joined(self.secret()?, data), len),
            (Kdf::DataConcatenate, Parameter::Bytes(data)) => leading(joined(data, self.secret()?), len),
            (Kdf::Xor, Parameter::Bytes(data)) => {
                let mixed = self.secret()?.iter().zip(data).map(|(key, data)| key ^ data).collect();
                leading(SecretBytes::new(mixed), len)
            }
            (Kdf::Extract, Parameter::Number(first)) => extract_bits(self.secret()?, *first, len),
            (Kdf::AesEcbData, Parameter::Bytes(data)) => {
                leading(encrypted(aes_cbc::ecb(Direction::Encrypt, self.secret()?)?, data, len)?, len)
            }
            (Kdf::AesCbcData, Parameter::CbcData { iv, data }) => {
                let stream = aes_cbc::cbc(Direction::Encrypt, aes_cbc::Padding::None, self.secret()?, iv)?;
                leading(encrypted(stream, data, len)?, len)
            }
            _ => Err(Kind::MechanismParam.into()),
        }
    }

    /// ECDH (PKCS#11 3.2 §6.3): without a KDF the leading bytes of the secret are cut off.
    fn agree(&self, kdf: u64, shared_data: &[u8], public_data: &[u8], len: usize) -> Result<SecretBytes> {
        let secret = match self.base.private_key()? {
            PrivateKey::Ec(key) => ecdh::agree(key, import::point(public_data, key.curve().point_len())),
            PrivateKey::Montgomery(key) => key.agree(import::point(public_data, x25519::PUBLIC_LEN)),
            _ => return Err(Kind::KeyType.into()),
        };
        let invalid = |_| Error::new(Kind::PublicKeyInvalid, "the public data is no point that the key agrees with");
        let secret = secret.map_err(invalid)?;
        agreed(&secret, params::ecdh_kdf(kdf)?, shared_data, len)
    }

    fn hkdf(&self, asked: &HkdfParams, len: usize) -> Result<SecretBytes> {
        let hash = params::hash(asked.hash)?;
        let extracted = match (asked.extract, HkdfSalt(asked.salt_type)) {
            (false, _) => SecretBytes::copy_from(self.secret()?),
            (true, CKF_HKDF_SALT_NULL) => hkdf::extract(hash, &[], self.secret()?),
            (true, CKF_HKDF_SALT_DATA) => hkdf::extract(hash, &asked.salt, self.secret()?),
            (true, CKF_HKDF_SALT_KEY) => hkdf::extract(hash, self.other(0)?, self.secret()?),
            (true, other) => return Err(bad_parameter(format!("{other} is no source of a salt"))),
        };
        match (asked.extract, asked.expand) {
            (false, false) => Err(bad_parameter("neither extract nor expand is asked")),
            (true, false) if len != extracted.len() => {
                Err(Error::new(Kind::KeySize, "without expand the key has the length of the hash"))
            }
            (true, false) => Ok(extracted),
            (_, true) => Ok(hkdf::expand(hash, extracted.expose(), &asked.info, len)?),
        }
    }

    fn tls_master(&self, asked: &TlsMasterParams) -> Result<SecretBytes> {
        let hash = params::hash(asked.hash)?;
        Ok(match &asked.seed {
            // RFC 5246, section 8.1.
            TlsMasterSeed::Randoms(randoms) => {
                let seeds = [randoms.client.as_slice(), &randoms.server];
                tls_prf::derive(hash, self.secret()?, b"master secret", &seeds, MASTER_LEN)
            }
            // RFC 7627, section 4.
            TlsMasterSeed::SessionHash(session_hash) => {
                tls_prf::derive(hash, self.secret()?, b"extended master secret", &[session_hash], MASTER_LEN)
            }
        })
    }

    /// RFC 5705, section 4: the context comes with its length, and differs from no context even when it is empty.
    fn tls_kdf(&self, asked: &TlsKdfParams, len: usize) -> Result<SecretBytes> {
        let hash = params::hash(asked.hash)?;
        let mut seed = [asked.randoms.client.as_slice(), &asked.randoms.server].concat();
        if let Some(context) = &asked.context {
            let context_len = u16::try_from(context.len()).map_err(|_| bad_parameter("the context is too long"))?;
            seed.extend_from_slice(&context_len.to_be_bytes());
            seed.extend_from_slice(context);
        }
        Ok(tls_prf::derive(hash, self.secret()?, &asked.label, &[&seed], len))
    }

    /// The key block of TLS 1.2 (RFC 5246, section 6.3): `len` bytes.
    ///
    /// # Errors
    /// [`Kind::MechanismParam`] for a hash that is not offered.
    pub(crate) fn tls_key_block(&self, asked: &TlsKeysParams, len: usize) -> Result<SecretBytes> {
        let hash = params::hash(asked.hash)?;
        let seeds = [asked.randoms.server.as_slice(), &asked.randoms.client];
        Ok(tls_prf::derive(hash, self.secret()?, b"key expansion", &seeds, len))
    }

    /// The keys of one SP 800-108 derivation, each from segments of its own (PKCS#11 3.2 §6.42).
    ///
    /// # Errors
    /// [`Kind::MechanismParam`] for fields that the mode does not take; [`Kind::KeyType`] for AES-CMAC with another key.
    pub(crate) fn kbkdf(&self, asked: &KbkdfParams, lens: &[usize]) -> Result<Vec<SecretBytes>> {
        if lens.contains(&0) {
            return Err(Error::new(Kind::KeySize, "CKA_VALUE_LEN is zero"));
        }
        let prf = prf(asked.prf)?;
        if prf == Prf::AesCmac && self.base.attributes.key_type() != Some(ck::object::CKK_AES) {
            return Err(Error::new(Kind::KeyType, "AES-CMAC takes an AES key"));
        }
        let mode = match self.kdf {
            Kdf::Counter if asked.iv.is_empty() => kbkdf::Mode::Counter,
            Kdf::Feedback => kbkdf::Mode::Feedback(&asked.iv),
            Kdf::DoublePipeline if asked.iv.is_empty() => kbkdf::Mode::DoublePipeline,
            _ => return Err(bad_parameter("only the feedback mode takes an IV")),
        };
        let segments = |len: &usize| len.div_ceil(prf.output_len());
        let all: usize = lens.iter().map(segments).sum();
        let bits =
            Lengths { keys: 8 * lens.iter().sum::<usize>() as u64, segments: 8 * (all * prf.output_len()) as u64 };
        let fields = self.kbkdf_fields(asked, bits)?;
        let output = kbkdf::derive(prf, self.secret()?, mode, &fields, all)?;
        let mut rest = output.expose();
        let mut keys = Vec::with_capacity(lens.len());
        for len in lens {
            let (own, others) = rest.split_at(segments(len) * prf.output_len());
            keys.push(SecretBytes::copy_from(&own[..*len]));
            rest = others;
        }
        Ok(keys)
    }

    fn kbkdf_fields<'s>(&'s self, asked: &'s KbkdfParams, bits: Lengths) -> Result<Vec<Field<'s>>> {
        let count = |wanted: fn(&KbkdfField) -> bool| asked.fields.iter().filter(|field| wanted(field)).count();
        let iterations = count(|field| matches!(field, KbkdfField::Iteration(_)));
        let counters = count(|field| matches!(field, KbkdfField::Counter(_)));
        let lengths = count(|field| matches!(field, KbkdfField::Length { .. }));
        let counts_itself = self.kdf == Kdf::Counter;
        if iterations != 1 || lengths > 1 || counters > usize::from(!counts_itself) {
            return Err(bad_parameter(
                "the fields are one iteration variable, at most one length, and at most one counter",
            ));
        }
        let mut others = 0;
        let mut fields = Vec::with_capacity(asked.fields.len());
        for field in &asked.fields {
            fields.push(match field {
                KbkdfField::Iteration(Some(format)) if counts_itself => {
                    Field::Counter(Format::new(format.little_endian, format.width_bits)?)
                }
                KbkdfField::Iteration(None) if !counts_itself => Field::Iteration,
                KbkdfField::Iteration(_) => {
                    return Err(bad_parameter("the iteration variable has a format in counter mode, and only there"));
                }
                KbkdfField::Counter(format) => Field::Counter(Format::new(format.little_endian, format.width_bits)?),
                KbkdfField::Length { method, format } => {
                    let format = Format::new(format.little_endian, format.width_bits)?;
                    match KbkdfLength(*method) {
                        CK_SP800_108_DKM_LENGTH_SUM_OF_KEYS => Field::Length(format, bits.keys),
                        CK_SP800_108_DKM_LENGTH_SUM_OF_SEGMENTS => Field::Length(format, bits.segments),
                        other => return Err(bad_parameter(format!("{other} is no way to count the length"))),
                    }
                }
                KbkdfField::Bytes(bytes) => Field::Bytes(bytes),
                KbkdfField::Key(_) => {
                    others += 1;
                    Field::Bytes(self.other(others - 1)?)
                }
            });
        }
        Ok(fields)
    }
}

/// What a length field may count, in bits.
#[derive(Clone, Copy)]
struct Lengths {
    keys: u64,
    segments: u64,
}

/// A key from the secret of an agreement.
///
/// # Errors
/// [`Kind::KeySize`] when the secret is shorter than the key; [`Kind::MechanismParam`].
pub(crate) fn agreed(
    secret: &SecretBytes,
    kdf: params::EcdhKdf,
    shared_data: &[u8],
    len: usize,
) -> Result<SecretBytes> {
    match kdf {
        params::EcdhKdf::Null if !shared_data.is_empty() => Err(bad_parameter("CKD_NULL takes no shared data")),
        params::EcdhKdf::Null => {
            let start = secret.len().checked_sub(len).filter(|_| len > 0);
            let start =
                start.ok_or_else(|| Error::new(Kind::KeySize, "the shared secret is shorter than CKA_VALUE_LEN"))?;
            Ok(SecretBytes::copy_from(&secret.expose()[start..]))
        }
        params::EcdhKdf::X963(hash) => Ok(ecdh::x963_kdf(hash, secret.expose(), shared_data, len)?),
        params::EcdhKdf::OneStep(hash) => Ok(ecdh::one_step_kdf(hash, secret.expose(), shared_data, len)?),
    }
}

/// The pseudorandom function that a mechanism number names.
fn prf(number: u64) -> Result<Prf> {
    Ok(match Mechanism(number) {
        CKM_AES_CMAC => Prf::AesCmac,
        CKM_SHA_1_HMAC => Prf::Hmac(Hash::Sha1),
        CKM_SHA224_HMAC => Prf::Hmac(Hash::Sha224),
        CKM_SHA256_HMAC => Prf::Hmac(Hash::Sha256),
        CKM_SHA384_HMAC => Prf::Hmac(Hash::Sha384),
        CKM_SHA512_HMAC => Prf::Hmac(Hash::Sha512),
        CKM_SHA512_224_HMAC => Prf::Hmac(Hash::Sha512_224),
        CKM_SHA512_256_HMAC => Prf::Hmac(Hash::Sha512_256),
        CKM_SHA3_224_HMAC => Prf::Hmac(Hash::Sha3_224),
        CKM_SHA3_256_HMAC => Prf::Hmac(Hash::Sha3_256),
        CKM_SHA3_384_HMAC => Prf::Hmac(Hash::Sha3_384),
        CKM_SHA3_512_HMAC => Prf::Hmac(Hash::Sha3_512),
        other => return Err(bad_parameter(format!("{other} is no pseudorandom function that is offered"))),
    })
}

fn joined(first: &[u8], second: &[u8]) -> SecretBytes {
    let mut joined = SecretBytes::zeroed(first.len() + second.len());
    let (head, tail) = joined.expose_mut().split_at_mut(first.len());
    head.copy_from_slice(first);
    tail.copy_from_slice(second);
    joined
}

fn leading(whole: SecretBytes, len: usize) -> Result<SecretBytes> {
    let too_long = || Error::new(Kind::KeySize, format!("the derivation gives {} bytes", whole.len()));
    let kept = whole.expose().get(..len).ok_or_else(too_long)?;
    Ok(SecretBytes::copy_from(kept))
}

/// Data that are to become a key of `len` bytes: too few of them are a wrong parameter.
fn encrypted(mut stream: Box<dyn CipherStream>, data: &[u8], len: usize) -> Result<SecretBytes> {
    if data.len() < len {
        return Err(bad_parameter("the data is shorter than CKA_VALUE_LEN"));
    }
    let output = SecretBytes::new(stream.update(data)?);
    stream.finish().map_err(|_| bad_parameter("the data is no whole number of blocks"))?;
    Ok(output)
}

/// `len` bytes from bit `first` on, counted from the most significant bit of the first byte; the bits after the last come round.
fn extract_bits(key: &[u8], first: u64, len: usize) -> Result<SecretBytes> {
    if len > key.len() {
        return Err(Error::new(Kind::KeySize, "the base key is shorter than CKA_VALUE_LEN"));
    }
    let bits = 8 * key.len();
    let first = usize::try_from(first).ok().filter(|&first| first < bits);
    let first = first.ok_or_else(|| bad_parameter("the base key has no such bit"))?;
    let mut output = SecretBytes::zeroed(len);
    for (at, byte) in output.expose_mut().iter_mut().enumerate() {
        let start = (first + 8 * at) % bits;
        let pair = [key[start / 8], key[(start / 8 + 1) % key.len()]];
        // The shift leaves the wanted eight bits in the high byte.
        *byte = (u16::from_be_bytes(pair) << (start % 8)).to_be_bytes()[0];
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_counted_as_in_the_example_of_the_standard() {
        // PKCS#11 3.2 §6.43: two bytes from bit 21.
        let extracted = extract_bits(&[0x32, 0x9f, 0x84, 0xa9], 21, 2).expect("extracts");
        assert_eq!(extracted.expose(), [0x95, 0x26]);
        assert_eq!(extract_bits(&[0x32, 0x9f], 0, 2).expect("extracts").expose(), [0x32, 0x9f]);
        assert!(extract_bits(&[0x32, 0x9f], 16, 1).is_err());
        assert!(extract_bits(&[0x32, 0x9f], 0, 3).is_err());
    }
}
