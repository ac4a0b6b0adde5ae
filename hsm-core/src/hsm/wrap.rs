//! Keys leave and come back wrapped (PKCS#11 v3.0 §5.18.3 and §5.18.4). What may leave under what is the secret-target rule's to say
//! (`mechanism/secret_target.rs`); here it is done.

use std::sync::Arc;

use ck::attribute::*;
use ck::object::*;
use ck::{KeyType, ObjectClass};

use super::crypto::admitted_key;
use super::key::{enforced, material};
use super::object::NewObject;
use super::{Caller, Hsm};
use crate::act;
use crate::crypto::aes_cbc::{self, Padding};
use crate::crypto::{Direction, PrivateKey, PublicKey, aes_gcm, aes_wrap, ecdh, ecdsa, rng, rsa};
use crate::error::{Error, Kind, Result};
use crate::grant::ClientRole;
use crate::mechanism::admit;
use crate::mechanism::kdf;
use crate::mechanism::params::{self, MechanismCall, Parameter};
use crate::mechanism::purpose::Use;
use crate::mechanism::row::{Row, Scheme};
use crate::mechanism::secret_target;
use crate::object::template::{self, Heritage, Origin};
use crate::object::{Attr, Attributes, Material, Object, Snapshot, Value, aead_wrap, import, query};
use crate::perform::Work;
use crate::secret::SecretBytes;
use crate::session::operation::check_capacity;
use crate::session::scheme::{gcm, wrap_form};

impl Hsm {
    /// C_WrapKey: the wrapped bytes. A sensitive key leaves only under the secret-target rule.
    ///
    /// # Errors
    /// [`Kind::NoSuchWrappingKey`], [`Kind::NoSuchKey`], [`Kind::KeyUnextractable`], [`Kind::KeyNotWrappable`], [`Kind::BufferTooSmall`].
    pub fn wrap_key(
        &self,
        caller: &Caller,
        session: u64,
        call: MechanismCall,
        wrapping: u64,
        key: u64,
        capacity: Option<u64>,
    ) -> Result<Vec<u8>> {
        self.perform(caller, &act::WRAP_KEY, session, |work| {
            work.right.grant.check(ClientRole::Manage)?;
            let row = self.admit(work, &call, Use::Wrap)?;
            let (wrapping, target) = self.wrap_pair(work, row, (&call, Use::Wrap), wrapping, key)?;
            admit::parameter(row, Use::Wrap, &call.parameter, &self.config().policy)?;
            if let Some(len) = wrapped_len(row, &call.parameter, &wrapping, &target) {
                work.check_room(capacity, len)?;
            }
            let wrapped = wrap(row, &call.parameter, &wrapping, &target)?;
            check_capacity(capacity, wrapped.len())?;
            self.spend_parameter(&wrapping, &call.parameter)?;
            Ok(wrapped)
        })
    }

    /// The wrapping key and its target, when the one may wrap the other.
    pub(super) fn wrap_pair(
        &self,
        work: &mut Work<'_>,
        row: &Row,
        (call, purpose): (&MechanismCall, Use),
        wrapping: u64,
        key: u64,
    ) -> Result<(Arc<Object>, Arc<Object>)> {
        let wrapping = admitted_key(work, row, wrapping, purpose, Kind::NoSuchWrappingKey)?;
        work.with(&wrapping);
        let target = work.key(key, Kind::NoSuchKey)?;
        work.subject(&target);
        secret_target::check(row, &call.parameter, &wrapping, &target, &self.config().policy)?;
        if let Some(Value::Template(wanted)) = wrapping.attributes.get(CKA_WRAP_TEMPLATE)
            && !query::matches(&target, wanted)
        {
            // PKCS#11 v3.0 §5.18.3 names this value.
            let what = "the key does not match CKA_WRAP_TEMPLATE of the wrapping key";
            return Err(Error::new(Kind::NoSuchKey, what));
        }
        Ok((wrapping, target))
    }

    /// Makes the object of a wrapped key: what was bound to it, if anything was, or what `open` gives once the template is admitted.
    pub(super) fn put_unwrapped(
        &self,
        work: &mut Work<'_>,
        unwrapping: &Object,
        bound: Option<aead_wrap::Opened>,
        template: Vec<Attr>,
        open: impl FnOnce(&Expected) -> Result<SecretBytes>,
    ) -> Result<Snapshot> {
        let restored = bound.as_ref().map(|bound| Value::Template(bound.attributes.clone()));
        let template = enforced(template, restored.as_ref())?;
        let template = enforced(template, unwrapping.attributes.get(CKA_UNWRAP_TEMPLATE))?;
        let asked = template::asked_secrecy(&template);
        let (class, key_type) = kind_to_make(&template)?;
        let mut attributes = template::build(Origin::Unwrap, class, Some(key_type), template, work.authority())?;
        work.check_write(&attributes)?;
        let inherits = bound.is_none() && unwrapping.attributes.flag(CKA_SENSITIVE);
        if inherits && self.config().policy.unwrap_secrecy_inherit {
            template::inherit_secrecy(&mut attributes, &asked)?;
        }
        let value = match bound {
            Some(bound) => bound.value,
            None => open(&Expected::of(&attributes))?,
        };
        let material = unwrapped_material(&mut attributes, class, key_type, &value)?;
        if class == CKO_PRIVATE_KEY && key_type == CKK_RSA {
            self.key_rules().check_exponent(attributes.bytes(CKA_PUBLIC_EXPONENT))?;
        }
        template::record_heritage(&mut attributes, &Heritage::Imported);
        self.put_one(work, NewObject { attributes, material: Some(material) })
    }

    /// C_UnwrapKey.
    ///
    /// # Errors
    /// [`Kind::NoSuchUnwrappingKey`], [`Kind::WrappedKeyInvalid`], the template errors; [`Kind::TemplateInconsistent`] for a template
    /// that asks a sensitive key's child to be readable, or contradicts the attributes that were wrapped with the key.
    pub fn unwrap_key(
        &self,
        caller: &Caller,
        session: u64,
        call: MechanismCall,
        unwrapping: u64,
        wrapped: &[u8],
        template: Vec<Attr>,
    ) -> Result<Snapshot> {
        self.perform(caller, &act::UNWRAP_KEY, session, |work| {
            work.right.grant.check(ClientRole::Manage)?;
            let row = self.admit(work, &call, Use::Unwrap)?;
            let unwrapping = admitted_key(work, row, unwrapping, Use::Unwrap, Kind::NoSuchUnwrappingKey)?;
            work.with(&unwrapping);
            let bound = match row.scheme {
                Scheme::AeadWrap => Some(aead_wrap::open(unwrapping.secret()?, wrapped)?),
                _ => None,
            };
            let open = |expected: &Expected| unwrap(row, &call.parameter, &unwrapping, wrapped, expected);
            self.put_unwrapped(work, &unwrapping, bound, template, open)
        })
    }
}

/// C_UnwrapKey's template must say what the wrapped bytes are.
fn kind_to_make(template: &[Attr]) -> Result<(ObjectClass, KeyType)> {
    match template::kind_of(template) {
        (Some(class @ (CKO_SECRET_KEY | CKO_PRIVATE_KEY)), Some(key_type)) => Ok((class, key_type)),
        (Some(CKO_SECRET_KEY | CKO_PRIVATE_KEY), None) => {
            Err(Error::new(Kind::TemplateIncomplete, "CKA_KEY_TYPE is missing"))
        }
        (None, _) => Err(Error::new(Kind::TemplateIncomplete, "CKA_CLASS is missing")),
        (Some(class), _) => Err(Error::new(Kind::TemplateInconsistent, format!("{class} cannot be unwrapped"))),
    }
}

/// What the template says of the wrapped key.
pub(super) struct Expected {
    class: ObjectClass,
    key_type: KeyType,
    len: Option<usize>,
}

impl Expected {
    fn of(attributes: &Attributes) -> Self {
        let key_type = attributes.key_type().unwrap_or(CKK_GENERIC_SECRET);
        let len = attributes.number(CKA_VALUE_LEN).and_then(|len| usize::try_from(len).ok());
        Expected { class: attributes.class(), key_type, len }
    }

    /// Whether a secret of so many bytes is what the template describes.
    fn takes(&self, len: usize) -> bool {
        self.len.is_none_or(|asked| asked == len) && import::check_secret_len(self.key_type, len).is_ok()
    }
}

/// A one-time AES key of so many bits.
fn aes_key_len(bits: u64) -> Result<usize> {
    match bits {
        128 => Ok(16),
        192 => Ok(24),
        256 => Ok(32),
        _ => Err(Error::new(Kind::MechanismParam, format!("an AES key of {bits} bits"))),
    }
}

/// How long the wrapped key is, where that is known before it is wrapped; nothing for what cannot be wrapped so.
fn wrapped_len(row: &Row, parameter: &Parameter, wrapping: &Object, target: &Object) -> Option<usize> {
    let len = target.material()?.len();
    let is_secret_key = target.class() == CKO_SECRET_KEY;
    let kwp = len.next_multiple_of(8) + 8;
    match (row.scheme, parameter) {
        (Scheme::AesWrap { pad: false }, _) if len >= 16 && len.is_multiple_of(8) => Some(len + 8),
        (Scheme::AesWrap { pad: true }, _) => Some(kwp),
        (Scheme::AeadWrap, _) => aead_wrap::sealed_len(target).ok(),
        (Scheme::RsaAesWrap, _) => Some(rsa_public(wrapping).ok()?.modulus_len() + kwp),
        (Scheme::EcdhAesWrap, _) => match wrapping.public_key().ok()? {
            PublicKey::Ec(key) => Some(key.curve().point_len() + kwp),
            _ => None,
        },
        (Scheme::RsaOaep | Scheme::RsaPkcs1(None), _) if is_secret_key => {
            Some(rsa_public(wrapping).ok()?.modulus_len())
        }
        (Scheme::AesCbc { pad: false }, _) if is_secret_key && len.is_multiple_of(16) => Some(len),
        (Scheme::AesCbc { pad: true }, _) => Some((len / 16 + 1) * 16),
        (Scheme::AesGcm, Parameter::Gcm { tag_bits, .. }) => Some(len + usize::try_from(tag_bits.div_ceil(8)).ok()?),
        _ => None,
    }
}

fn wrap(row: &Row, parameter: &Parameter, wrapping: &Object, target: &Object) -> Result<Vec<u8>> {
    let too_long = |error: crate::crypto::Error| Error::new(Kind::KeySize, error.to_string());
    let secret = target.material().ok_or(Kind::KeyNotWrappable)?;
    let is_secret_key = target.class() == CKO_SECRET_KEY;
    match (row.scheme, parameter) {
        (Scheme::AesWrap { pad }, _) => {
            aes_wrap::wrap(wrap_form(pad, parameter)?, wrapping.secret()?, secret).map_err(too_long)
        }
        (Scheme::AeadWrap, _) => aead_wrap::seal(wrapping.secret()?, target),
        (Scheme::AesGcm, _) => Ok(aes_gcm::Key::new(wrapping.secret()?)?.encrypt(&gcm(parameter)?, secret)?),
        (Scheme::RsaAesWrap, Parameter::RsaAesWrap { aes_bits, .. }) => {
            let one_time = rng::secret(aes_key_len(*aes_bits)?)?;
            let mut out =
                rsa_public(wrapping)?.encrypt_oaep(&params::oaep(parameter)?, one_time.expose()).map_err(too_long)?;
            out.extend(aes_wrap::wrap(aes_wrap::Form::Kwp, one_time.expose(), secret).map_err(too_long)?);
            Ok(out)
        }
        (Scheme::EcdhAesWrap, Parameter::EcdhAesWrap { aes_bits, kdf, shared_data }) => {
            let PublicKey::Ec(key) = wrapping.public_key()? else { return Err(Kind::WrappingKeyType.into()) };
            let one_time = ecdsa::PrivateKey::generate(key.curve())?;
            let shared = ecdh::agree(&one_time, &key.point()?)?;
            let aes = agreed_key(&shared, *kdf, shared_data, *aes_bits)?;
            let mut out = one_time.point()?;
            out.extend(aes_wrap::wrap(aes_wrap::Form::Kwp, aes.expose(), secret).map_err(too_long)?);
            Ok(out)
        }
        (Scheme::RsaOaep, _) if is_secret_key => {
            rsa_public(wrapping)?.encrypt_oaep(&params::oaep(parameter)?, secret).map_err(too_long)
        }
        (Scheme::RsaPkcs1(None), _) if is_secret_key => rsa_public(wrapping)?.encrypt_pkcs1(secret).map_err(too_long),
        (Scheme::AesCbc { pad }, Parameter::Bytes(iv)) if pad || is_secret_key => {
            cbc(Direction::Encrypt, pad, wrapping.secret()?, iv, secret)
                .map(|wrapped| wrapped.expose().to_vec())
                .map_err(too_long)
        }
        _ => Err(Error::new(Kind::KeyNotWrappable, format!("{} does not wrap such a key", row.number))),
    }
}

fn rsa_public(wrapping: &Object) -> Result<&rsa::PublicKey> {
    match wrapping.public_key()? {
        PublicKey::Rsa(key) => Ok(key),
        _ => Err(Kind::WrappingKeyType.into()),
    }
}

fn rsa_private(unwrapping: &Object) -> Result<&rsa::PrivateKey> {
    match unwrapping.private_key()? {
        PrivateKey::Rsa(key) => Ok(key),
        _ => Err(Kind::UnwrappingKeyType.into()),
    }
}

/// The AES key of an ECDH wrap: derived as by ECDH1_DERIVE.
fn agreed_key(shared: &SecretBytes, kdf: u64, shared_data: &[u8], aes_bits: u64) -> Result<SecretBytes> {
    kdf::agreed(shared, params::ecdh_kdf(kdf)?, shared_data, aes_key_len(aes_bits)?)
}

/// AES-CBC over a key; without PKCS#7 the value is filled up with zeros to whole blocks (PKCS#11 v3.0 Current Mechanisms, AES-CBC).
fn cbc(direction: Direction, pad: bool, key: &[u8], iv: &[u8], data: &[u8]) -> crate::crypto::Result<SecretBytes> {
    const BLOCK: usize = 16;
    let padding = if pad { Padding::Pkcs7 } else { Padding::None };
    let mut stream = aes_cbc::cbc(direction, padding, key, iv)?;
    let mut filled = SecretBytes::zeroed(if pad { data.len() } else { data.len().next_multiple_of(BLOCK) });
    filled.expose_mut()[..data.len()].copy_from_slice(data);
    let first = SecretBytes::new(stream.update(filled.expose())?);
    let last = SecretBytes::new(stream.finish()?);
    let mut out = SecretBytes::zeroed(first.len() + last.len());
    out.expose_mut()[..first.len()].copy_from_slice(first.expose());
    out.expose_mut()[first.len()..].copy_from_slice(last.expose());
    Ok(out)
}

fn unwrap(
    row: &Row,
    parameter: &Parameter,
    unwrapping: &Object,
    wrapped: &[u8],
    expected: &Expected,
) -> Result<SecretBytes> {
    let invalid = |error: crate::crypto::Error| Error::new(Kind::WrappedKeyInvalid, error.to_string());
    match (row.scheme, parameter) {
        (Scheme::AesWrap { pad }, _) => {
            aes_wrap::unwrap(wrap_form(pad, parameter)?, unwrapping.secret()?, wrapped).map_err(invalid)
        }
        (Scheme::AesGcm, _) => {
            aes_gcm::Key::new(unwrapping.secret()?)?.decrypt(&gcm(parameter)?, wrapped).map_err(invalid)
        }
        (Scheme::RsaAesWrap, Parameter::RsaAesWrap { aes_bits, .. }) => {
            let key = rsa_private(unwrapping)?;
            let (first, rest) = wrapped.split_at_checked(key.modulus_len()).ok_or_else(too_short)?;
            let one_time = key.decrypt_oaep(&params::oaep(parameter)?, first).map_err(invalid)?;
            if one_time.len() != aes_key_len(*aes_bits)? {
                return Err(Error::new(Kind::WrappedKeyInvalid, "the AES key inside has another length"));
            }
            aes_wrap::unwrap(aes_wrap::Form::Kwp, one_time.expose(), rest).map_err(invalid)
        }
        (Scheme::EcdhAesWrap, Parameter::EcdhAesWrap { aes_bits, kdf, shared_data }) => {
            let PrivateKey::Ec(key) = unwrapping.private_key()? else { return Err(Kind::UnwrappingKeyType.into()) };
            let (point, rest) = wrapped.split_at_checked(key.curve().point_len()).ok_or_else(too_short)?;
            let shared = ecdh::agree(key, point).map_err(invalid)?;
            let aes = agreed_key(&shared, *kdf, shared_data, *aes_bits)?;
            aes_wrap::unwrap(aes_wrap::Form::Kwp, aes.expose(), rest).map_err(invalid)
        }
        (Scheme::RsaOaep, _) => {
            rsa_private(unwrapping)?.decrypt_oaep(&params::oaep(parameter)?, wrapped).map_err(invalid)
        }
        (Scheme::RsaPkcs1(None), _) if expected.class == CKO_SECRET_KEY => {
            let lens = match (expected.len, expected.key_type) {
                (Some(len), _) => vec![len],
                (None, CKK_AES) => vec![16, 24, 32],
                (None, CKK_DES3) => vec![24],
                (None, _) => vec![32],
            };
            let key = rsa_private(unwrapping)?.unwrap_pkcs1(wrapped, |len| expected.takes(len), &lens);
            key.map_err(invalid)
        }
        (Scheme::AesCbc { pad }, Parameter::Bytes(iv)) if pad || expected.class == CKO_SECRET_KEY => {
            let value =
                cbc(Direction::Decrypt, pad, unwrapping.secret()?, iv, whole_blocks(wrapped)?).map_err(invalid)?;
            match expected.len.filter(|&len| !pad && len < value.len()) {
                Some(len) => Ok(SecretBytes::copy_from(&value.expose()[..len])),
                None => Ok(value),
            }
        }
        _ => Err(Error::new(Kind::TemplateInconsistent, format!("{} does not unwrap such a key", row.number))),
    }
}

fn too_short() -> Error {
    Error::new(Kind::WrappedKeyInvalid, "the wrapped bytes are too short")
}

fn whole_blocks(wrapped: &[u8]) -> Result<&[u8]> {
    let fits = !wrapped.is_empty() && wrapped.len().is_multiple_of(16);
    fits.then_some(wrapped).ok_or_else(|| Error::new(Kind::WrappedKeyInvalid, "the wrapped bytes are no whole blocks"))
}

/// Turns unwrapped bytes into material and completes the attributes.
fn unwrapped_material(
    attributes: &mut Attributes,
    class: ObjectClass,
    key_type: KeyType,
    value: &SecretBytes,
) -> Result<Material> {
    if class == CKO_SECRET_KEY {
        import::check_secret_len(key_type, value.len()).map_err(|error| {
            Error::new(Kind::WrappedKeyInvalid, error.detail().unwrap_or("the key's length does not fit").to_owned())
        })?;
        let len = value.len() as u64;
        if attributes.number(CKA_VALUE_LEN).is_some_and(|asked| asked != len) {
            return Err(Error::new(Kind::TemplateInconsistent, "CKA_VALUE_LEN is not the length of the wrapped key"));
        }
        attributes.put(CKA_VALUE_LEN, Value::Ulong(len));
        return Ok(material(value));
    }
    let invalid = |_| Error::new(Kind::WrappedKeyInvalid, "the wrapped bytes are no PKCS#8 private key");
    let key = PrivateKey::from_pkcs8(value.expose()).map_err(invalid)?;
    if import::key_type_of(&key) != key_type {
        return Err(Error::new(Kind::TemplateInconsistent, "CKA_KEY_TYPE is not the type of the wrapped key"));
    }
    import::describe_private(attributes, &key)?;
    import::stored(&key)
}
