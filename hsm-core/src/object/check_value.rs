//! CKA_CHECK_VALUE: three bytes by which people compare keys and certificates without seeing them (PKCS#11 v3.0 §4.10 for secret keys,
//! §4.6.3 for certificates). Of a block cipher's key they are the begin of a block of zeros, encrypted; of any other secret key and of a
//! certificate the begin of the SHA-1 hash of CKA_VALUE. No key is looked up or trusted by them here.

use ck::attribute::{CKA_CHECK_VALUE, CKA_VALUE};
use ck::object::{CKK_AES, CKK_DES3, CKO_CERTIFICATE, CKO_SECRET_KEY};

use super::{Attributes, Material, Object, Value};
use crate::crypto::{self, Direction, Hash, aes_cbc, des3, digest};
use crate::error::{Error, Kind, Result};

const LEN: usize = 3;

/// The check value of a secret key or a certificate; none for objects that have none, or whose maker wanted none.
pub(crate) fn of(object: &Object) -> Option<Value> {
    match object.attributes.get(CKA_CHECK_VALUE) {
        // Made with an empty one: its maker wants none.
        Some(Value::Empty) => return None,
        Some(value) => return Some(value.clone()),
        None => {}
    }
    compute(&object.attributes, object.material()).map(Value::bytes)
}

fn compute(attributes: &Attributes, material: Option<&Material>) -> Option<Vec<u8>> {
    let hashed = |value: &[u8]| digest::digest(Hash::Sha1, value);
    let mut value = match (attributes.class(), material) {
        (CKO_CERTIFICATE, _) if !attributes.bytes(CKA_VALUE).is_empty() => hashed(attributes.bytes(CKA_VALUE)),
        (CKO_SECRET_KEY, Some(key)) if attributes.key_type() == Some(CKK_AES) => encrypted_zeros(key).ok()?,
        (CKO_SECRET_KEY, Some(key)) if attributes.key_type() == Some(CKK_DES3) => {
            des3::ecb(Direction::Encrypt, key).and_then(|mut cipher| cipher.update(&[0; des3::BLOCK])).ok()?
        }
        (CKO_SECRET_KEY, Some(key)) => hashed(key),
        _ => return None,
    };
    value.truncate(LEN);
    Some(value)
}

fn encrypted_zeros(key: &[u8]) -> crypto::Result<Vec<u8>> {
    aes_cbc::ecb(Direction::Encrypt, key)?.update(&[0; 16])
}

/// Checks the value that a template gave, if it gave one, and keeps only the wish to have none.
///
/// # Errors
/// [`Kind::AttributeValue`] for a value that is not the object's.
pub(crate) fn settle(attributes: &mut Attributes, material: Option<&Material>) -> Result<()> {
    match attributes.take(CKA_CHECK_VALUE) {
        None => Ok(()),
        Some(Value::Empty) => {
            attributes.put(CKA_CHECK_VALUE, Value::Empty);
            Ok(())
        }
        Some(given) if compute(attributes, material).map(Value::bytes) == Some(given.clone()) => Ok(()),
        Some(_) => Err(Error::new(Kind::AttributeValue, "CKA_CHECK_VALUE is not that of the key or certificate")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ck::attribute::{CKA_CLASS, CKA_KEY_TYPE};
    use ck::object::CKK_GENERIC_SECRET;
    use zeroize::Zeroizing;

    fn key(key_type: ck::KeyType) -> Attributes {
        let mut attributes = Attributes::default();
        attributes.put(CKA_CLASS, Value::Ulong(CKO_SECRET_KEY.0));
        attributes.put(CKA_KEY_TYPE, Value::Ulong(key_type.0));
        attributes
    }

    #[test]
    fn values_follow_the_kind_of_key() {
        let material = Zeroizing::new(vec![0; 16]);
        // AES-128 of zeros under a key of zeros (FIPS 197, zero vectors of the AESAVS), and SHA-1 of sixteen zero bytes.
        assert_eq!(compute(&key(CKK_AES), Some(&material)), Some(vec![0x66, 0xe9, 0x4b]));
        assert_eq!(compute(&key(CKK_GENERIC_SECRET), Some(&material)), Some(vec![0xe1, 0x29, 0xf2]));
    }

    #[test]
    fn a_given_value_must_be_right_and_an_empty_one_means_none() {
        let material = Zeroizing::new(vec![0; 16]);
        let with = |value: &[u8]| {
            let mut attributes = key(CKK_AES);
            attributes.put(CKA_CHECK_VALUE, Value::bytes(value));
            settle(&mut attributes, Some(&material)).map(|()| attributes.get(CKA_CHECK_VALUE).cloned())
        };
        assert_eq!(with(&[0x66, 0xe9, 0x4b]), Ok(None));
        assert_eq!(with(&[]), Ok(Some(Value::Empty)));
        assert_eq!(with(&[1, 2, 3]).map_err(|error| error.kind()), Err(Kind::AttributeValue));
    }
}
