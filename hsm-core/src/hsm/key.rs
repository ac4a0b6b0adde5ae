//! Key management (PKCS#11 v3.0 §5.18): generation; `wrap.rs` and `derive.rs` hold the rest.

use ck::attribute::*;
use ck::object::*;
use ck::parameter::{CKZ_SALT_SPECIFIED, SaltSource};
use ck::{Attribute, KeyType};
use zeroize::Zeroizing;

use super::object::NewObject;
use super::{Caller, Hsm};
use crate::act;
use crate::crypto::{Curve, PrivateKey, des3, ecdsa, eddsa, ml_dsa, ml_kem, pbkdf2, rng, rsa, slh_dsa, x25519};
use crate::error::{Error, Kind, Result};
use crate::mechanism::admit;
use crate::mechanism::kdf_params::Pbkdf2Params;
use crate::mechanism::params::{self, MechanismCall, Parameter};
use crate::mechanism::purpose::Use;
use crate::mechanism::row::{Row, Scheme};
use crate::object::import;
use crate::object::template::{self, Heritage, Origin};
use crate::object::{Attr, Attributes, Material, Snapshot, Value};
use crate::perform::Work;
use crate::secret::SecretBytes;

/// What the two halves of a pair share and the public template says.
const DOMAIN: [Attribute; 2] = [CKA_EC_PARAMS, CKA_PARAMETER_SET];

impl Hsm {
    pub(super) fn admit(&self, work: &mut Work<'_>, call: &MechanismCall, purpose: Use) -> Result<&'static Row> {
        work.mechanism(call.kind)?;
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
            let key_type = match template::kind_of(&template).1 {
                Some(key_type) if row.key_types.contains(&key_type) => key_type,
                _ => made_type(row)?,
            };
            let mut attributes =
                template::build(Origin::Generate, CKO_SECRET_KEY, Some(key_type), template, work.authority())?;
            work.check_write(&attributes)?;
            let asked = attributes.number(CKA_VALUE_LEN).and_then(|len| usize::try_from(len).ok());
            let len = if key_type == CKK_DES3 { des3::KEY_LEN } else { asked.unwrap_or_default() };
            import::check_secret_len(key_type, len)?;
            let (mut value, heritage) = match &call.parameter {
                Parameter::Pbkdf2(asked) => (of_password(asked, len)?, Heritage::Recreated(call.kind)),
                _ => (rng::secret(len)?, Heritage::Generated(call.kind)),
            };
            if key_type == CKK_DES3 {
                des3::set_odd_parity(value.expose_mut());
            }
            template::record_heritage(&mut attributes, &heritage);
            self.put_one(work, NewObject { attributes, material: Some(material(&value)) })
        })
    }

    /// C_GenerateKeyPair: the public key first. Blocks for as long as the generation takes.
    ///
    /// # Errors
    /// As [`Hsm::generate_key`]; [`Kind::AttributeValue`], [`Kind::CurveNotSupported`], [`Kind::ParameterSetNotSupported`].
    pub fn generate_key_pair(
        &self,
        caller: &Caller,
        session: u64,
        call: MechanismCall,
        public: Vec<Attr>,
        mut private: Vec<Attr>,
    ) -> Result<(Snapshot, Snapshot)> {
        self.perform(caller, &act::GENERATE_KEY_PAIR, session, |work| {
            let row = self.admit(work, &call, Use::GeneratePair)?;
            let key_type = Some(made_type(row)?);
            let mut public = template::build(Origin::Generate, CKO_PUBLIC_KEY, key_type, public, work.authority())?;
            // The domain belongs into the public template alone; applications that say the same twice mean no harm.
            private.retain(|attr| !(DOMAIN.contains(&attr.kind) && public.get(attr.kind) == Some(&attr.value)));
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
                let (min, max) = self.mechanisms.sizes(row);
                if !(min..=max).contains(&bits) {
                    return Err(Error::new(
                        Kind::AttributeValue,
                        format!("CKA_MODULUS_BITS is {min} to {max} here, not {bits}"),
                    ));
                }
                let bits = u32::try_from(bits).map_err(|_| Kind::KeySize)?;
                self.key_rules().check_exponent(public.bytes(CKA_PUBLIC_EXPONENT))?;
                PrivateKey::Rsa(rsa::PrivateKey::generate(bits, public.bytes(CKA_PUBLIC_EXPONENT))?)
            }
            Scheme::EcPair => {
                let curve = Curve::from_params(public.bytes(CKA_EC_PARAMS))?;
                PrivateKey::Ec(ecdsa::PrivateKey::generate(curve)?)
            }
            Scheme::EdwardsPair => {
                eddsa::check_params(public.bytes(CKA_EC_PARAMS))?;
                PrivateKey::Edwards(eddsa::PrivateKey::generate()?)
            }
            Scheme::MontgomeryPair => {
                x25519::check_params(public.bytes(CKA_EC_PARAMS))?;
                PrivateKey::Montgomery(x25519::PrivateKey::generate()?)
            }
            Scheme::MlDsaPair => {
                let set = import::ml_dsa_set(public.number(CKA_PARAMETER_SET))?;
                PrivateKey::MlDsa(ml_dsa::PrivateKey::generate(set)?)
            }
            Scheme::SlhDsaPair => {
                let set = import::slh_dsa_set(public.number(CKA_PARAMETER_SET))?;
                PrivateKey::SlhDsa(slh_dsa::PrivateKey::generate(set)?)
            }
            Scheme::MlKemPair => {
                let set = import::ml_kem_set(public.number(CKA_PARAMETER_SET))?;
                PrivateKey::MlKem(ml_kem::PrivateKey::generate(set)?)
            }
            _ => return Err(Kind::Internal.into()),
        };
        Ok(key)
    }
}

/// The key type that a generating mechanism makes.
fn made_type(row: &Row) -> Result<KeyType> {
    row.key_types.first().copied().ok_or_else(|| Kind::Internal.into())
}

/// A key's value that is made of a password.
fn of_password(asked: &Pbkdf2Params, len: usize) -> Result<SecretBytes> {
    if SaltSource(asked.salt_source) != CKZ_SALT_SPECIFIED || !asked.prf_data.is_empty() {
        return Err(Error::new(Kind::MechanismParam, "the salt is CKZ_SALT_SPECIFIED and the function has no data"));
    }
    let hash = params::pbkdf2_prf(asked.prf)?;
    Ok(pbkdf2::derive(hash, &asked.password.0, &asked.salt, asked.iterations, len)?)
}

pub(super) fn material(value: &SecretBytes) -> Material {
    Zeroizing::new(value.expose().to_vec())
}

/// The template with what the parent's CKA_UNWRAP_TEMPLATE, CKA_DERIVE_TEMPLATE or their like demands.
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
