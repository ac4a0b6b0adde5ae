//! C_DeriveKey (PKCS#11 v3.0 §5.18.5): keys computed from a key of the token.

use ck::attribute::*;
use ck::object::*;

use super::Hsm;
use super::crypto::admitted_key;
use super::key::{enforced, material};
use super::object::NewObject;
use crate::act;
use crate::caller::Caller;
use crate::crypto::{PrivateKey, ecdh, x25519};
use crate::error::{Error, Kind, Result};
use crate::mechanism::admit::Use;
use crate::mechanism::params::{self, MechanismCall, Parameter};
use crate::object::import;
use crate::object::template::{self, Heritage, Origin};
use crate::object::{Attr, Object, Snapshot, Value};
use crate::secret::SecretBytes;

impl Hsm {
    /// C_DeriveKey: ECDH with an optional X9.63 KDF.
    ///
    /// # Errors
    /// [`Kind::NoSuchKey`], [`Kind::MechanismParam`], [`Kind::PublicKeyInvalid`] for a peer point that is not on the curve, the
    /// template errors.
    pub fn derive_key(
        &self,
        caller: &Caller,
        session: u64,
        call: MechanismCall,
        base: u64,
        template: Vec<Attr>,
    ) -> Result<Snapshot> {
        self.perform(caller, &act::DERIVE_KEY, session, |work| {
            let row = self.admit(work, &call, Use::Derive)?;
            let base = admitted_key(work, row, base, Use::Derive, Kind::NoSuchKey)?;
            work.with(&base);
            let mut template = enforced(template, base.attributes.get(CKA_DERIVE_TEMPLATE))?;
            let (_, key_type) = template::kind_of(&template);
            let key_type = key_type.unwrap_or(CKK_GENERIC_SECRET);
            if self.config().algorithms.derived_keys_extractable_by_default
                && !template.iter().any(|attr| attr.kind == CKA_EXTRACTABLE)
            {
                template.push(Attr::flag(CKA_EXTRACTABLE, true));
            }
            let mut attributes =
                template::build(Origin::Derive, CKO_SECRET_KEY, Some(key_type), template, work.authority())?;
            work.check_write(&attributes)?;
            let value = agree(&call.parameter, &base, attributes.number(CKA_VALUE_LEN))?;
            import::check_secret_len(key_type, value.len())?;
            attributes.put(CKA_VALUE_LEN, Value::Ulong(value.len() as u64));
            let always_sensitive = base.attributes.flag(CKA_ALWAYS_SENSITIVE);
            let never_extractable = base.attributes.flag(CKA_NEVER_EXTRACTABLE);
            template::record_heritage(&mut attributes, &Heritage::Derived { always_sensitive, never_extractable });
            self.put_one(work, NewObject { attributes, material: Some(material(&value)) })
        })
    }
}

/// ECDH (PKCS#11 v3.0 Current Mechanisms, ECDH1_DERIVE): without a KDF the leading bytes of the secret are cut off.
fn agree(parameter: &Parameter, base: &Object, asked: Option<u64>) -> Result<SecretBytes> {
    let Parameter::Ecdh1 { kdf, shared_data, public_data } = parameter else { return Err(Kind::MechanismParam.into()) };
    let secret = match base.private_key()? {
        PrivateKey::Ec(key) => ecdh::agree(key, import::point(public_data, key.curve().point_len())),
        PrivateKey::Montgomery(key) => key.agree(import::point(public_data, x25519::PUBLIC_LEN)),
        _ => return Err(Kind::KeyType.into()),
    };
    let invalid = |_| Error::new(Kind::PublicKeyInvalid, "the public data is no point that the key agrees with");
    let secret = secret.map_err(invalid)?;
    let asked = asked.map(usize::try_from).transpose().map_err(|_| Kind::KeySize)?;
    let len = asked.unwrap_or(secret.len());
    match params::x963(*kdf)? {
        None if !shared_data.is_empty() => Err(Error::new(Kind::MechanismParam, "CKD_NULL takes no shared data")),
        None => {
            let start = secret.len().checked_sub(len).filter(|_| len > 0);
            let start =
                start.ok_or_else(|| Error::new(Kind::KeySize, "the shared secret is shorter than CKA_VALUE_LEN"))?;
            Ok(SecretBytes::copy_from(&secret.expose()[start..]))
        }
        Some(hash) => Ok(ecdh::x963_kdf(hash, secret.expose(), shared_data, len)?),
    }
}
