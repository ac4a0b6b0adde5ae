//! CKM_CRATON_AEAD_WRAP: a key wrapped together with its attributes. The format is `aead_wrap.md`, byte by byte.

use ck::Attribute;
use ck::attribute::*;

use super::{Attr, Object, Value};
use crate::crypto::{aes_gcm, rng};
use crate::error::{Error, Kind, Result};
use crate::secret::SecretBytes;

const MAGIC: [u8; 4] = *b"CRAW";
const VERSION: u8 = 1;
const NONCE_LEN: usize = 12;
const TAG_BITS: u32 = 128;
const TAG_LEN: usize = 16;
/// Magic, version, nonce and the length of the block.
const HEADER_LEN: usize = 4 + 1 + NONCE_LEN + 4;
const BLOCK_MAX: usize = 65_536;
/// The deepest template within a template.
const DEPTH_MAX: u8 = 2;

/// What travels with a key.
const BOUND: [Attribute; 28] = [
    CKA_CLASS,
    CKA_KEY_TYPE,
    CKA_PRIVATE,
    CKA_SENSITIVE,
    CKA_EXTRACTABLE,
    CKA_WRAP_WITH_TRUSTED,
    CKA_ALWAYS_AUTHENTICATE,
    CKA_COPYABLE,
    CKA_MODIFIABLE,
    CKA_START_DATE,
    CKA_END_DATE,
    CKA_ALLOWED_MECHANISMS,
    CKA_WRAP_TEMPLATE,
    CKA_UNWRAP_TEMPLATE,
    CKA_DERIVE_TEMPLATE,
    CKA_ENCAPSULATE_TEMPLATE,
    CKA_DECAPSULATE_TEMPLATE,
    CKA_ENCRYPT,
    CKA_DECRYPT,
    CKA_SIGN,
    CKA_SIGN_RECOVER,
    CKA_VERIFY,
    CKA_VERIFY_RECOVER,
    CKA_WRAP,
    CKA_UNWRAP,
    CKA_DERIVE,
    CKA_ENCAPSULATE,
    CKA_DECAPSULATE,
];

/// An opened key: what it is, and its value.
pub(crate) struct Opened {
    /// The attributes that were bound to it.
    pub(crate) attributes: Vec<Attr>,
    /// CKA_VALUE of a secret key, the PKCS#8 structure of a private one.
    pub(crate) value: SecretBytes,
}

/// Wraps a key.
///
/// # Errors
/// [`Kind::KeyNotWrappable`] for a key whose attributes are too long, [`Kind::KeySize`] for a wrapping key that is no AES-256 key.
pub(crate) fn seal(wrapping: &[u8], target: &Object) -> Result<Vec<u8>> {
    let value = target.material().ok_or(Kind::KeyNotWrappable)?;
    let (block, block_len) = bound(target)?;
    let mut nonce = [0; NONCE_LEN];
    rng::fill(&mut nonce)?;
    let mut out = Vec::with_capacity(HEADER_LEN + block.len() + value.len() + TAG_LEN);
    out.extend(MAGIC);
    out.push(VERSION);
    out.extend(nonce);
    out.extend(block_len.to_be_bytes());
    out.extend(block);
    let sealed = key(wrapping)?.encrypt(&aes_gcm::Params::new(&nonce, &out, TAG_BITS)?, value)?;
    out.extend(sealed);
    Ok(out)
}

/// How long the wrapped key is.
///
/// # Errors
/// [`Kind::KeyNotWrappable`], as [`seal`].
pub(crate) fn sealed_len(target: &Object) -> Result<usize> {
    let value = target.material().ok_or(Kind::KeyNotWrappable)?;
    Ok(HEADER_LEN + bound(target)?.0.len() + value.len() + TAG_LEN)
}

/// The attributes that are bound to the key, and their length as it is written.
fn bound(target: &Object) -> Result<(Vec<u8>, u32)> {
    let bound =
        BOUND.iter().filter_map(|&kind| target.attributes.get(kind).map(|value| Attr { kind, value: value.clone() }));
    let block = encode(&bound.collect::<Vec<_>>());
    let len = u32::try_from(block.len()).ok().filter(|_| block.len() <= BLOCK_MAX);
    let len = len.ok_or_else(|| Error::new(Kind::KeyNotWrappable, "the key's attributes are too long"))?;
    Ok((block, len))
}

/// Opens a wrapped key.
///
/// # Errors
/// [`Kind::WrappedKeyInvalid`] for whatever is wrong with it.
pub(crate) fn open(unwrapping: &[u8], wrapped: &[u8]) -> Result<Opened> {
    let invalid = || Error::from(Kind::WrappedKeyInvalid);
    let (header, rest) = wrapped.split_at_checked(HEADER_LEN).ok_or_else(invalid)?;
    let (magic, header) = header.split_at(MAGIC.len());
    let (version, header) = header.split_at(1);
    let (nonce, block_len) = header.split_at(NONCE_LEN);
    if magic != MAGIC || version != [VERSION] {
        return Err(Error::new(Kind::WrappedKeyInvalid, "not a wrapped key of version 1"));
    }
    let block_len = u32::from_be_bytes(block_len.try_into().map_err(|_| invalid())?);
    let block_len = usize::try_from(block_len).ok().filter(|&len| len <= BLOCK_MAX).ok_or_else(invalid)?;
    let (block, sealed) = rest.split_at_checked(block_len).ok_or_else(invalid)?;
    let aad = &wrapped[..HEADER_LEN + block_len];
    let params = aes_gcm::Params::new(nonce, aad, TAG_BITS)?;
    let value = key(unwrapping)?.decrypt(&params, sealed).map_err(|_| invalid())?;
    let attributes = decode(block, 0).filter(|attributes| encode(attributes) == block).ok_or_else(invalid)?;
    if !attributes.iter().all(|attr| BOUND.contains(&attr.kind) && attr.value.check_shape(attr.kind).is_ok()) {
        return Err(invalid());
    }
    Ok(Opened { attributes, value })
}

fn key(value: &[u8]) -> Result<aes_gcm::Key> {
    match value.len() {
        32 => Ok(aes_gcm::Key::new(value)?),
        _ => Err(Kind::KeySize.into()),
    }
}

/// The one encoding of these attributes.
fn encode(attributes: &[Attr]) -> Vec<u8> {
    let mut ascending: Vec<&Attr> = attributes.iter().collect();
    ascending.sort_by_key(|attr| attr.kind);
    ascending.dedup_by_key(|attr| attr.kind);
    let mut out = Vec::new();
    for attr in ascending {
        let (kind, value) = match &attr.value {
            Value::Empty => (0, Vec::new()),
            Value::Bool(flag) => (1, vec![u8::from(*flag)]),
            Value::Ulong(number) => (2, number.to_be_bytes().to_vec()),
            Value::Bytes(bytes) => (3, bytes.to_vec()),
            Value::Ulongs(numbers) => (4, numbers.iter().flat_map(|number| number.to_be_bytes()).collect()),
            Value::Template(inner) => (5, encode(inner)),
        };
        out.extend(attr.kind.0.to_be_bytes());
        out.push(kind);
        // A value that is longer than a block may be is refused with the block.
        out.extend(u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend(value);
    }
    out
}

fn decode(mut block: &[u8], depth: u8) -> Option<Vec<Attr>> {
    let mut attributes = Vec::new();
    while !block.is_empty() {
        let (number, rest) = block.split_first_chunk::<8>()?;
        let (kind, rest) = rest.split_first()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
        block = rest;
        let value = match (kind, value) {
            (0, []) => Value::Empty,
            (1, [flag @ (0 | 1)]) => Value::Bool(*flag == 1),
            (2, value) => Value::Ulong(u64::from_be_bytes(value.try_into().ok()?)),
            (3, value) => Value::bytes(value),
            (4, value) => {
                let (numbers, rest) = value.as_chunks::<8>();
                rest.is_empty()
                    .then(|| Value::Ulongs(numbers.iter().map(|number| u64::from_be_bytes(*number)).collect()))?
            }
            (5, value) if depth < DEPTH_MAX => Value::Template(decode(value, depth + 1)?),
            _ => return None,
        };
        attributes.push(Attr { kind: Attribute(u64::from_be_bytes(*number)), value });
    }
    Some(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ObjectId;
    use crate::object::Attributes;
    use ck::object::{CKK_AES, CKO_SECRET_KEY};
    use zeroize::Zeroizing;

    const WRAPPING: [u8; 32] = [3; 32];

    fn target() -> Object {
        let mut attributes = Attributes::default();
        attributes.put(CKA_CLASS, Value::Ulong(CKO_SECRET_KEY.0));
        attributes.put(CKA_KEY_TYPE, Value::Ulong(CKK_AES.0));
        attributes.put(CKA_LABEL, Value::bytes("not bound"));
        attributes.put(CKA_DECRYPT, Value::Bool(false));
        attributes.put(CKA_START_DATE, Value::Empty);
        attributes.put(CKA_ALLOWED_MECHANISMS, Value::Ulongs(vec![5, 4]));
        attributes.put(CKA_UNWRAP_TEMPLATE, Value::Template(vec![Attr::flag(CKA_EXTRACTABLE, false)]));
        Object::new(ObjectId([1; 16]), 1, attributes, Some(Zeroizing::new(vec![7; 32])))
    }

    #[test]
    fn what_is_bound_comes_back_and_nothing_else() {
        let target = target();
        let opened = open(&WRAPPING, &seal(&WRAPPING, &target).expect("wraps")).expect("opens");
        assert_eq!(opened.value.expose(), [7; 32]);
        assert_eq!(opened.attributes.len(), 6);
        for attr in &opened.attributes {
            assert_eq!(target.attributes.get(attr.kind), Some(&attr.value), "{}", attr.kind);
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let wrapped = seal(&WRAPPING, &target()).expect("wraps");
        assert_eq!(wrapped[..5], *b"CRAW\x01");
        let block_len = u32::from_be_bytes(wrapped[17..21].try_into().expect("four bytes")) as usize;
        assert_eq!(wrapped.len(), 21 + block_len + 32 + 16);
        // The first entry: CKA_CLASS (0), a number of eight bytes, CKO_SECRET_KEY (4).
        assert_eq!(wrapped[21..42], [&[0; 8][..], &[2], &[0, 0, 0, 8], &[0, 0, 0, 0, 0, 0, 0, 4]].concat());
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let wrapped = seal(&WRAPPING, &target()).expect("wraps");
        for position in 0..wrapped.len() {
            let mut wrong = wrapped.clone();
            wrong[position] ^= 1;
            assert_eq!(open(&WRAPPING, &wrong).err().map(|e| e.kind()), Some(Kind::WrappedKeyInvalid), "{position}");
            assert_eq!(open(&WRAPPING, &wrapped[..position]).err().map(|e| e.kind()), Some(Kind::WrappedKeyInvalid));
        }
        assert!(open(&[4; 32], &wrapped).is_err());
        assert!(open(&WRAPPING[..16], &wrapped).is_err());
    }

    #[test]
    fn a_block_has_one_encoding() {
        let bound = [Attr::flag(CKA_SIGN, true), Attr::flag(CKA_ENCRYPT, true)];
        let block = encode(&bound);
        let swapped = [&block[14..], &block[..14]].concat();
        let twice = [&block[..14], &block].concat();
        for (bytes, canonical) in [(&block, true), (&swapped, false), (&twice, false)] {
            let again = decode(bytes, 0).map(|attributes| encode(&attributes));
            assert_eq!(again.as_ref() == Some(bytes), canonical);
        }
        for malformed in [&block[..13], &[0; 14][..], &[1; 7][..]] {
            let again = decode(malformed, 0).map(|attributes| encode(&attributes));
            assert!(again.as_deref() != Some(malformed));
        }
    }
}
