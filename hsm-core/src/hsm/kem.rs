//! Key encapsulation (PKCS#11 3.2, C_EncapsulateKey and C_DecapsulateKey): a secret key is made from a key pair's half, by ML-KEM or
//! by an agreement with a key pair that is made for it.

use ck::KeyType;
use ck::attribute::*;
use ck::object::*;

use super::crypto::admitted_key;
use super::derive::{asked_len, child_len};
use super::key::{enforced, material};
use super::object::NewObject;
use super::{Caller, Hsm};
use crate::act;
use crate::crypto::{Curve, PrivateKey, PublicKey, ecdh, ecdsa, ml_kem, x25519};
use crate::error::{Error, Kind, Result};
use crate::mechanism::admit;
use crate::mechanism::kdf::{self, Ingredients};
use crate::mechanism::params::{self, MechanismCall, Parameter};
use crate::mechanism::purpose::Use;
use crate::mechanism::row::Kdf;
use crate::object::import;
use crate::object::template::{self, Heritage, Origin};
use crate::object::{Attr, Attributes, Snapshot, Value};
use crate::perform::Work;
use crate::secret::SecretBytes;

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
            let template = enforced(template, key.attributes.get(CKA_ENCAPSULATE_TEMPLATE))?;
            let public = key.public_key()?;
            let shared = Shared::of(&call.parameter, || natural_len(public.into()))?;
            let (attributes, len) = shared_key(work, template, &shared)?;
            work.check_room(capacity, ciphertext_len(public.into())?)?;
            let (ciphertext, secret) = encapsulate(public)?;
            let secret = shared.key(secret, len)?;
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
            let template = enforced(template, key.attributes.get(CKA_DECAPSULATE_TEMPLATE))?;
            let private = key.private_key()?;
            let shared = Shared::of(&call.parameter, || natural_len(private.into()))?;
            let (attributes, len) = shared_key(work, template, &shared)?;
            // Who may ask for one byte, then two, then three of the same secret reads all of it.
            let from = Ingredients { kdf: Kdf::Ecdh, parameter: &call.parameter, base: &key, others: &[] };
            let readable = !attributes.flag(CKA_SENSITIVE) && attributes.flag(CKA_EXTRACTABLE);
            admit::derive(row, &from, len, readable, &self.config().policy)?;
            let secret = shared.key(decapsulate(private, ciphertext)?, len)?;
            self.put_one(work, NewObject { attributes, material: Some(material(&secret)) })
        })
    }
}

/// The half of a key pair, as far as lengths go.
enum Half {
    MlKem(ml_kem::ParameterSet),
    Ec(Curve),
    Montgomery,
    Other,
}

impl From<&PublicKey> for Half {
    fn from(key: &PublicKey) -> Self {
        match key {
            PublicKey::MlKem(key) => Half::MlKem(key.set()),
            PublicKey::Ec(key) => Half::Ec(key.curve()),
            PublicKey::Montgomery(_) => Half::Montgomery,
            _ => Half::Other,
        }
    }
}

impl From<&PrivateKey> for Half {
    fn from(key: &PrivateKey) -> Self {
        match key {
            PrivateKey::MlKem(key) => Half::MlKem(key.set()),
            PrivateKey::Ec(key) => Half::Ec(key.curve()),
            PrivateKey::Montgomery(_) => Half::Montgomery,
            _ => Half::Other,
        }
    }
}

/// Bytes of a ciphertext; of an agreement it is the point of the key that was made for it.
fn ciphertext_len(half: Half) -> Result<usize> {
    match half {
        Half::MlKem(set) => Ok(set.ciphertext_len()),
        Half::Ec(curve) => Ok(curve.point_len()),
        Half::Montgomery => Ok(x25519::PUBLIC_LEN),
        Half::Other => Err(Kind::KeyType.into()),
    }
}

/// Bytes of the shared secret.
fn natural_len(half: Half) -> Result<usize> {
    match half {
        Half::MlKem(_) => Ok(ml_kem::SECRET_LEN),
        Half::Ec(curve) => Ok(curve.field_len()),
        Half::Montgomery => Ok(x25519::PUBLIC_LEN),
        Half::Other => Err(Kind::KeyType.into()),
    }
}

/// What becomes of the shared secret.
enum Shared<'a> {
    /// It is the key, or its beginning is.
    Own,
    /// A key is made of it as C_DeriveKey does (PKCS#11 3.2 §6.3).
    Agreed { kdf: u64, shared_data: &'a [u8], natural: usize },
}

impl<'a> Shared<'a> {
    fn of(parameter: &'a Parameter, natural: impl FnOnce() -> Result<usize>) -> Result<Self> {
        let Parameter::Ecdh1 { kdf, shared_data, public_data } = parameter else { return Ok(Shared::Own) };
        if !public_data.is_empty() {
            return Err(Error::new(Kind::MechanismParam, "the other's public key is made here, or is the ciphertext"));
        }
        Ok(Shared::Agreed { kdf: *kdf, shared_data, natural: natural()? })
    }

    fn key(&self, secret: SecretBytes, len: usize) -> Result<SecretBytes> {
        match self {
            Shared::Own => secret.expose().get(..len).map(SecretBytes::copy_from).ok_or_else(|| Kind::Internal.into()),
            Shared::Agreed { kdf, shared_data, .. } => kdf::agreed(&secret, params::ecdh_kdf(*kdf)?, shared_data, len),
        }
    }
}

/// The ciphertext and the secret. An agreement is with a key pair that nobody sees again.
fn encapsulate(public: &PublicKey) -> Result<(Vec<u8>, SecretBytes)> {
    match public {
        PublicKey::MlKem(key) => Ok(key.encapsulate()?),
        PublicKey::Ec(key) => {
            let once = ecdsa::PrivateKey::generate(key.curve())?;
            Ok((once.point()?, ecdh::agree(&once, &key.point()?)?))
        }
        PublicKey::Montgomery(key) => {
            let once = x25519::PrivateKey::generate()?;
            Ok((once.public().as_bytes().to_vec(), once.agree(key.as_bytes())?))
        }
        _ => Err(Kind::KeyType.into()),
    }
}

fn decapsulate(private: &PrivateKey, ciphertext: &[u8]) -> Result<SecretBytes> {
    let expected = ciphertext_len(private.into())?;
    if ciphertext.len() != expected {
        let what = format!("a ciphertext for this key has {expected} bytes, not {}", ciphertext.len());
        return Err(Error::new(Kind::WrappedKeyLength, what));
    }
    let invalid = |_| Error::new(Kind::WrappedKeyInvalid, "the ciphertext is no point that the key agrees with");
    match private {
        PrivateKey::MlKem(key) => Ok(key.decapsulate(ciphertext)?),
        PrivateKey::Ec(key) => ecdh::agree(key, ciphertext).map_err(invalid),
        PrivateKey::Montgomery(key) => key.agree(ciphertext).map_err(invalid),
        _ => Err(Kind::KeyType.into()),
    }
}

/// The attributes of the key that holds the shared secret, and its length. As the standard has it, it is extractable unless the
/// template says otherwise, and its past is unknown: neither always sensitive nor never extractable, because the other side has it
/// too.
fn shared_key(work: &Work<'_>, mut template: Vec<Attr>, shared: &Shared<'_>) -> Result<(Attributes, usize)> {
    let (class, key_type) = template::kind_of(&template);
    if class.is_some_and(|class| class != CKO_SECRET_KEY) {
        return Err(Error::new(Kind::TemplateInconsistent, "what is encapsulated is a secret key"));
    }
    let key_type = key_type.unwrap_or(CKK_GENERIC_SECRET);
    if !template.iter().any(|attr| attr.kind == CKA_EXTRACTABLE) {
        template.push(Attr::flag(CKA_EXTRACTABLE, true));
    }
    let asked = asked_len(&template)?;
    let mut attributes = template::build(Origin::Derive, CKO_SECRET_KEY, Some(key_type), template, work.authority())?;
    let len = match shared {
        Shared::Own => own_len(key_type, asked)?,
        Shared::Agreed { natural, .. } => child_len(key_type, asked, Some(*natural))?,
    };
    work.check_write(&attributes)?;
    attributes.put(CKA_VALUE_LEN, Value::Ulong(len as u64));
    template::record_heritage(&mut attributes, &Heritage::Imported);
    Ok((attributes, len))
}

/// A secret of ML-KEM is a key of 32 bytes, or of the fewer that its template asks for.
fn own_len(key_type: KeyType, asked: Option<usize>) -> Result<usize> {
    let most = ml_kem::SECRET_LEN;
    let len = asked.unwrap_or(most);
    if len > most {
        return Err(Error::new(Kind::TemplateInconsistent, format!("a shared secret has {most} bytes, not {len}")));
    }
    import::check_secret_len(key_type, len)
        .map_err(|_| Error::new(Kind::TemplateInconsistent, format!("a key of type {key_type} has not {len} bytes")))?;
    Ok(len)
}
