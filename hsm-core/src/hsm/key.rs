//! Key management (PKCS#11 v3.0 §5.18): generate, wrap, unwrap; derivation is in `derive.rs`.

use ck::attribute::*;
use ck::object::*;
use ck::{KeyType, ObjectClass};
use zeroize::Zeroizing;

use super::Hsm;
use super::crypto::admitted_key;
use super::object::NewObject;
use crate::act;
use crate::caller::Caller;
use crate::crypto::{PrivateKey, aes_wrap, ecdsa, eddsa, ml_dsa, rng, rsa};
use crate::error::{Error, Kind, Result};
use crate::mechanism::admit::{self, Use};
use crate::mechanism::params::{MechanismCall, Parameter};
use crate::mechanism::table::{Row, Scheme};
use crate::object::import;
use crate::object::template::{self, Heritage, Origin};
use crate::object::{Attr, Attributes, Material, Object, Snapshot, Value, query};
use crate::perform::Work;
use crate::secret::SecretBytes;
use crate::session::operation::{check_capacity, oaep};

impl Hsm {
    pub(super) fn admit(&self, work: &mut Work<'_>, call: &MechanismCall, purpose: Use) -> Result<&'static Row> {
        work.mechanism(call.kind);
        admit::mechanism(&self.mechanisms, call, purpose)
    }

    /// C_GenerateKey.
    ///
    /// # Errors
    /// [`Kind::MechanismInvalid`], the template errors, [`Kind::NotLoggedIn`], [`Kind::SessionReadOnly`].
    pub fn generate_key(
        &self,
        caller: &Caller,
        session: u64,
        call: MechanismCall,
        template: Vec<Attr>,
    ) -> Result<Snapshot> {
        self.perform(caller, &act::GENERATE_KEY, session, |work| {
            let row = self.admit(work, &call, Use::Generate)?;
            let key_type = made_type(row)?;
            let mut attributes =
                template::build(Origin::Generate, CKO_SECRET_KEY, Some(key_type), template, work.authority())?;
            work.check_write(&attributes)?;
            let len = attributes.number(CKA_VALUE_LEN).and_then(|len| usize::try_from(len).ok()).unwrap_or_default();
            import::check_secret_len(key_type, len)?;
            let value = rng::secret(len)?;
            template::record_heritage(&mut attributes, &Heritage::Generated(call.kind));
            self.put_one(work, NewObject { attributes, material: Some(material(&value)) })
        })
    }

    /// C_GenerateKeyPair: the public key first. Blocks for as long as the generation takes.
    ///
    /// # Errors
    /// As [`Hsm::generate_key`]; [`Kind::KeySize`], [`Kind::CurveNotSupported`], [`Kind::ParameterSetNotSupported`].
    pub fn generate_key_pair(
        &self,
        caller: &Caller,
        session: u64,
        call: MechanismCall,
        public: Vec<Attr>,
        private: Vec<Attr>,
    ) -> Result<(Snapshot, Snapshot)> {
        self.perform(caller, &act::GENERATE_KEY_PAIR, session, |work| {
            let row = self.admit(work, &call, Use::GeneratePair)?;
            let key_type = Some(made_type(row)?);
            let mut public = template::build(Origin::Generate, CKO_PUBLIC_KEY, key_type, public, work.authority())?;
            let mut private = template::build(Origin::Generate, CKO_PRIVATE_KEY, key_type, private, work.authority())?;
            work.check_write(&public)?;
            work.check_write(&private)?;
            let key = self.generate_private(row, &public)?;
            import::describe_public(&mut public, &key.public()?)?;
            import::describe_private(&mut private, &key)?;
            template::record_heritage(&mut public, &Heritage::Generated(call.kind));
            template::record_heritage(&mut private, &Heritage::Generated(call.kind));
            let material = Some(import::stored(&key)?);
            let pair =
                vec![NewObject { attributes: public, material: None }, NewObject { attributes: private, material }];
            let objects = self.put(work, pair)?;
            match objects.as_slice() {
                [public, private] => Ok((public.snapshot(), private.snapshot())),
                _ => Err(Kind::Internal.into()),
            }
        })
    }

    fn generate_private(&self, row: &Row, public: &Attributes) -> Result<PrivateKey> {
        let key = match row.scheme {
            Scheme::RsaPair => {
                let bits = public.number(CKA_MODULUS_BITS).unwrap_or_default();
                let weak = self.key_rules().allow_weak_rsa && bits >= 1024;
                let offered = (row.sizes.0..=row.sizes.1).contains(&bits) || (weak && bits < row.sizes.0);
                if !offered {
                    let (min, max) = row.sizes;
                    return Err(Error::new(
                        Kind::KeySize,
                        format!("CKA_MODULUS_BITS is {min} to {max} here, not {bits}"),
                    ));
                }
                let bits = u32::try_from(bits).map_err(|_| Kind::KeySize)?;
                PrivateKey::Rsa(rsa::PrivateKey::generate(bits, public.bytes(CKA_PUBLIC_EXPONENT))?)
            }
            Scheme::EcPair => {
                let curve = ecdsa::Curve::from_params(public.bytes(CKA_EC_PARAMS))?;
                PrivateKey::Ec(ecdsa::PrivateKey::generate(curve)?)
            }
            Scheme::EdwardsPair => {
                eddsa::check_params(public.bytes(CKA_EC_PARAMS))?;
                PrivateKey::Edwards(eddsa::PrivateKey::generate()?)
            }
            Scheme::MlDsaPair => {
                let set = import::ml_dsa_set(public.number(CKA_PARAMETER_SET))?;
                PrivateKey::MlDsa(ml_dsa::PrivateKey::generate(set)?)
            }
            _ => return Err(Kind::Internal.into()),
        };
        Ok(key)
    }

    /// C_WrapKey: the wrapped bytes. A sensitive key leaves only under the secret-target rule (`mechanism/admit.rs`).
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
            let row = self.admit(work, &call, Use::Wrap)?;
            let wrapping = admitted_key(work, row, wrapping, Use::Wrap, Kind::NoSuchWrappingKey)?;
            work.with(&wrapping);
            let target = work.object(key, Kind::NoSuchKey)?;
            work.subject(&target);
            admit::wrap(row, &wrapping, &target, &self.config().policy)?;
            if let Some(Value::Template(wanted)) = wrapping.attributes.get(CKA_WRAP_TEMPLATE)
                && !query::matches(&target, wanted)
            {
                return Err(Error::new(
                    Kind::KeyNotWrappable,
                    "the key does not match CKA_WRAP_TEMPLATE of the wrapping key",
                ));
            }
            let secret = target.material().ok_or(Kind::KeyNotWrappable)?;
            let wrapped = wrap(row, &call.parameter, &wrapping, &target, secret)?;
            check_capacity(capacity, wrapped.len())?;
            Ok(wrapped)
        })
    }

    /// C_UnwrapKey.
    ///
    /// # Errors
    /// [`Kind::NoSuchUnwrappingKey`], [`Kind::WrappedKeyInvalid`], the template errors; [`Kind::TemplateInconsistent`] for a template
    /// that asks a sensitive key's child to be readable.
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
            let row = self.admit(work, &call, Use::Unwrap)?;
            let unwrapping = admitted_key(work, row, unwrapping, Use::Unwrap, Kind::NoSuchUnwrappingKey)?;
            work.with(&unwrapping);
            let template = enforced(template, unwrapping.attributes.get(CKA_UNWRAP_TEMPLATE))?;
            let asked = template::asked_secrecy(&template);
            let (class, key_type) = kind_to_make(&template)?;
            let mut attributes = template::build(Origin::Unwrap, class, Some(key_type), template, work.authority())?;
            work.check_write(&attributes)?;
            if unwrapping.attributes.flag(CKA_SENSITIVE) && self.config().policy.unwrap_secrecy_inherit {
                template::inherit_secrecy(&mut attributes, &asked)?;
            }
            let value = unwrap(row, &call.parameter, &unwrapping, wrapped)?;
            let material = unwrapped_material(&mut attributes, class, key_type, &value)?;
            template::record_heritage(&mut attributes, &Heritage::Imported);
            self.put_one(work, NewObject { attributes, material: Some(material) })
        })
    }
}

/// The key type that a generating mechanism makes.
fn made_type(row: &Row) -> Result<KeyType> {
    row.key_types.first().copied().ok_or_else(|| Kind::Internal.into())
}

pub(super) fn material(value: &SecretBytes) -> Material {
    Zeroizing::new(value.expose().to_vec())
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

/// The template with what the parent's CKA_UNWRAP_TEMPLATE or CKA_DERIVE_TEMPLATE demands.
pub(super) fn enforced(mut template: Vec<Attr>, demanded: Option<&Value>) -> Result<Vec<Attr>> {
    let Some(Value::Template(demanded)) = demanded else { return Ok(template) };
    for attr in demanded {
        match template.iter().find(|given| given.kind == attr.kind) {
            Some(given) if given.value.clone().normalized() != attr.value.clone().normalized() => {
                let what = format!("{} contradicts the template of the parent key", attr.kind);
                return Err(Error::new(Kind::TemplateInconsistent, what));
            }
            Some(_) => {}
            None => template.push(attr.clone()),
        }
    }
    Ok(template)
}

fn check_default_iv(parameter: &Parameter, default: &[u8]) -> Result<()> {
    match parameter {
        Parameter::Bytes(iv) if iv.as_slice() != default => {
            Err(Error::new(Kind::MechanismParam, "only the default initial value of the key wrap is offered"))
        }
        _ => Ok(()),
    }
}

fn wrap_form(pad: bool, parameter: &Parameter) -> Result<aes_wrap::Form> {
    // RFC 3394 §2.2.3.1 and RFC 5649 §3: the default initial values.
    if pad {
        check_default_iv(parameter, &[0xa6, 0x59, 0x59, 0xa6])?;
        Ok(aes_wrap::Form::Kwp)
    } else {
        check_default_iv(parameter, &[0xa6; 8])?;
        Ok(aes_wrap::Form::Kw)
    }
}

fn wrap(row: &Row, parameter: &Parameter, wrapping: &Object, target: &Object, secret: &[u8]) -> Result<Vec<u8>> {
    match row.scheme {
        Scheme::AesWrap { pad } => {
            let form = wrap_form(pad, parameter)?;
            aes_wrap::wrap(form, wrapping.secret()?, secret)
                .map_err(|error| Error::new(Kind::KeySize, error.to_string()))
        }
        Scheme::RsaOaep if target.class() == CKO_SECRET_KEY => match wrapping.public_key()? {
            crate::crypto::PublicKey::Rsa(key) => {
                let wrapped = key.encrypt_oaep(&oaep(parameter)?, secret);
                wrapped.map_err(|error| Error::new(Kind::KeySize, error.to_string()))
            }
            _ => Err(Kind::WrappingKeyType.into()),
        },
        _ => Err(Error::new(Kind::KeyNotWrappable, format!("{} does not wrap such a key", row.number))),
    }
}

fn unwrap(row: &Row, parameter: &Parameter, unwrapping: &Object, wrapped: &[u8]) -> Result<SecretBytes> {
    let opened = match row.scheme {
        Scheme::AesWrap { pad } => aes_wrap::unwrap(wrap_form(pad, parameter)?, unwrapping.secret()?, wrapped),
        Scheme::RsaOaep => match unwrapping.private_key()? {
            PrivateKey::Rsa(key) => key.decrypt_oaep(&oaep(parameter)?, wrapped),
            _ => return Err(Kind::UnwrappingKeyType.into()),
        },
        _ => return Err(Kind::MechanismInvalid.into()),
    };
    opened.map_err(|error| Error::new(Kind::WrappedKeyInvalid, error.to_string()))
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
