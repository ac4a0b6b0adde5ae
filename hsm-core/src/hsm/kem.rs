//! Key encapsulation (PKCS#11 3.2, C_EncapsulateKey and C_DecapsulateKey): a secret key is made from a key pair's half.

use ck::attribute::*;
use ck::object::*;

use super::Hsm;
use super::crypto::admitted_key;
use super::key::{enforced, material};
use super::object::NewObject;
use crate::act;
use crate::caller::Caller;
use crate::crypto::{PrivateKey, PublicKey, ml_kem};
use crate::error::{Error, Kind, Result};
use crate::mechanism::params::MechanismCall;
use crate::mechanism::purpose::Use;
use crate::object::import;
use crate::object::template::{self, Heritage, Origin};
use crate::object::{Attr, Attributes, Snapshot, Value};
use crate::perform::Work;
use crate::secret::SecretBytes;
use crate::session::operation::check_capacity;

impl Hsm {
    /// C_EncapsulateKey: the ciphertext and the new key. Everything is checked before the capacity, and nothing is made if the
    /// ciphertext does not fit.
    ///
    /// # Errors
    /// [`Kind::NoSuchKey`], [`Kind::KeyFunction`], the template errors, [`Kind::BufferTooSmall`] with the length.
    pub fn encapsulate_key(
        &self,
        caller: &Caller,
        session: u64,
        call: MechanismCall,
        public: u64,
        template: Vec<Attr>,
        capacity: Option<u64>,
    ) -> Result<(Vec<u8>, Snapshot)> {
        self.perform(caller, &act::ENCAPSULATE_KEY, session, |work| {
            let row = self.admit(work, &call, Use::Encapsulate)?;
            let key = admitted_key(work, row, public, Use::Encapsulate, Kind::NoSuchKey)?;
            work.with(&key);
            let attributes = shared_key(work, template, key.attributes.get(CKA_ENCAPSULATE_TEMPLATE))?;
            let PublicKey::MlKem(public) = key.public_key()? else { return Err(Kind::KeyType.into()) };
            check_capacity(capacity, public.set().ciphertext_len())?;
            let (ciphertext, secret) = public.encapsulate()?;
            let made = self.put_one(work, NewObject { attributes, material: Some(material(&secret)) })?;
            Ok((ciphertext, made))
        })
    }

    /// C_DecapsulateKey. A ciphertext that was not made for the key gives a key that nobody else has (implicit rejection).
    ///
    /// # Errors
    /// [`Kind::NoSuchKey`], [`Kind::KeyFunction`], the template errors, [`Kind::WrappedKeyLength`] for a ciphertext of another length.
    pub fn decapsulate_key(
        &self,
        caller: &Caller,
        session: u64,
        call: MechanismCall,
        private: u64,
        template: Vec<Attr>,
        ciphertext: &[u8],
    ) -> Result<Snapshot> {
        self.perform(caller, &act::DECAPSULATE_KEY, session, |work| {
            let row = self.admit(work, &call, Use::Decapsulate)?;
            let key = admitted_key(work, row, private, Use::Decapsulate, Kind::NoSuchKey)?;
            work.with(&key);
            let attributes = shared_key(work, template, key.attributes.get(CKA_DECAPSULATE_TEMPLATE))?;
            let PrivateKey::MlKem(private) = key.private_key()? else { return Err(Kind::KeyType.into()) };
            let secret = decapsulate(private, ciphertext)?;
            self.put_one(work, NewObject { attributes, material: Some(material(&secret)) })
        })
    }
}

fn decapsulate(private: &ml_kem::PrivateKey, ciphertext: &[u8]) -> Result<SecretBytes> {
    let expected = private.set().ciphertext_len();
    if ciphertext.len() != expected {
        let what = format!("a ciphertext for this key has {expected} bytes, not {}", ciphertext.len());
        return Err(Error::new(Kind::WrappedKeyLength, what));
    }
    Ok(private.decapsulate(ciphertext)?)
}

/// The attributes of the key that holds the shared secret. As the standard has it, it is extractable unless the template says
/// otherwise, and its past is unknown: neither always sensitive nor never extractable, because the other side has it too.
fn shared_key(work: &Work<'_>, template: Vec<Attr>, demanded: Option<&Value>) -> Result<Attributes> {
    let mut template = enforced(template, demanded)?;
    let (class, key_type) = template::kind_of(&template);
    if class.is_some_and(|class| class != CKO_SECRET_KEY) {
        return Err(Error::new(Kind::TemplateInconsistent, "what is encapsulated is a secret key"));
    }
    let key_type = key_type.unwrap_or(CKK_GENERIC_SECRET);
    if !template.iter().any(|attr| attr.kind == CKA_EXTRACTABLE) {
        template.push(Attr::flag(CKA_EXTRACTABLE, true));
    }
    let mut attributes = template::build(Origin::Derive, CKO_SECRET_KEY, Some(key_type), template, work.authority())?;
    work.check_write(&attributes)?;
    let len = ml_kem::SECRET_LEN as u64;
    if attributes.number(CKA_VALUE_LEN).is_some_and(|asked| asked != len) {
        return Err(Error::new(Kind::TemplateInconsistent, format!("CKA_VALUE_LEN of a shared secret is {len}")));
    }
    import::check_secret_len(key_type, ml_kem::SECRET_LEN)
        .map_err(|_| Error::new(Kind::TemplateInconsistent, format!("a key of type {key_type} has not {len} bytes")))?;
    attributes.put(CKA_VALUE_LEN, Value::Ulong(len));
    template::record_heritage(&mut attributes, &Heritage::Imported);
    Ok(attributes)
}
