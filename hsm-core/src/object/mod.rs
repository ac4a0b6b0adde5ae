//! Objects: attributes, key material, and the parsed key that the first use makes.
//!
//! An object is immutable and shared: a change makes a new one that takes its place under the same handle. Secret parts are
//! never attributes here: they are the material, and `read` is the only way to them.

pub(crate) mod access;
pub(crate) mod aead_wrap;
pub(crate) mod attribute;
pub(crate) mod built_in;
pub(crate) mod certificate;
pub(crate) mod check_value;
pub(crate) mod codec;
pub(crate) mod import;
pub(crate) mod iv;
pub(crate) mod query;
pub(crate) mod schema;
pub(crate) mod template;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use ck::attribute::*;
use ck::object::*;
use ck::{Attribute, KeyType, ObjectClass};
use zeroize::Zeroizing;

pub use attribute::{Attr, Value};

use crate::crypto;
use crate::error::{Error, Kind, Result};
use crate::id::ObjectId;
use crate::issuance::Policy;
use iv::IvBook;
use schema::{F7_HIDDEN, Schema};

/// The public attributes of one object, by number.
#[derive(Clone, Default)]
pub(crate) struct Attributes(BTreeMap<Attribute, Value>);

impl Attributes {
    /// The value of an attribute, if the object has it.
    pub(crate) fn get(&self, kind: Attribute) -> Option<&Value> {
        self.0.get(&kind)
    }

    /// A boolean attribute; an absent one is false.
    pub(crate) fn flag(&self, kind: Attribute) -> bool {
        self.get(kind).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A number, if the object has it.
    pub(crate) fn number(&self, kind: Attribute) -> Option<u64> {
        self.get(kind).and_then(Value::as_ulong)
    }

    /// Bytes; an absent attribute is empty.
    pub(crate) fn bytes(&self, kind: Attribute) -> &[u8] {
        self.get(kind).and_then(Value::as_bytes).unwrap_or_default()
    }

    /// Sets an attribute.
    pub(crate) fn put(&mut self, kind: Attribute, value: Value) {
        self.0.insert(kind, value.normalized());
    }

    /// Takes an attribute out.
    pub(crate) fn take(&mut self, kind: Attribute) -> Option<Value> {
        self.0.remove(&kind)
    }

    /// Every attribute in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Attribute, &Value)> {
        self.0.iter().map(|(kind, value)| (*kind, value))
    }

    /// CKA_CLASS.
    pub(crate) fn class(&self) -> ObjectClass {
        ObjectClass(self.number(CKA_CLASS).unwrap_or(u64::MAX))
    }

    /// CKA_KEY_TYPE, for keys.
    pub(crate) fn key_type(&self) -> Option<KeyType> {
        self.number(CKA_KEY_TYPE).map(KeyType)
    }
}

/// The secret part of an object: a PKCS#8 structure for private keys, the value for secret keys.
pub(crate) type Material = Zeroizing<Vec<u8>>;

/// A key in the form in which the crypto room takes it.
pub(crate) enum Key {
    /// A private key.
    Private(crypto::PrivateKey),
    /// A public key.
    Public(crypto::PublicKey),
}

/// One object.
pub(crate) struct Object {
    /// Its name in the store.
    pub(crate) id: ObjectId,
    /// Its handle, the same for every application and after every restart.
    pub(crate) handle: u64,
    /// Everything that is not secret.
    pub(crate) attributes: Attributes,
    material: Option<Material>,
    parsed: OnceLock<Option<Arc<Key>>>,
    ivs: OnceLock<Arc<IvBook>>,
}

impl Object {
    /// An object of attributes and, for keys that have one, a secret part.
    pub(crate) fn new(id: ObjectId, handle: u64, attributes: Attributes, material: Option<Material>) -> Self {
        Object { id, handle, attributes, material, parsed: OnceLock::new(), ivs: OnceLock::new() }
    }

    /// The book of the key's IVs, if one has been opened.
    pub(crate) fn iv_book(&self) -> Option<&Arc<IvBook>> {
        self.ivs.get()
    }

    /// Gives the key its book; the first one given stays.
    pub(crate) fn keep_iv_book(&self, book: Arc<IvBook>) -> Arc<IvBook> {
        Arc::clone(self.ivs.get_or_init(|| book))
    }

    /// The same object with other attributes.
    pub(crate) fn with_attributes(&self, attributes: Attributes) -> Self {
        let changed = Object::new(self.id, self.handle, attributes, self.material.clone());
        Object { ivs: self.ivs.clone(), ..changed }
    }

    /// CKA_CLASS.
    pub(crate) fn class(&self) -> ObjectClass {
        self.attributes.class()
    }

    /// Whether the object outlives its session (CKA_TOKEN).
    pub(crate) fn is_token(&self) -> bool {
        self.attributes.flag(CKA_TOKEN)
    }

    /// Whether only the user sees it (CKA_PRIVATE).
    pub(crate) fn is_private(&self) -> bool {
        self.attributes.flag(CKA_PRIVATE)
    }

    /// The issuance policy that the key carries, as it was given.
    pub(crate) fn issuance_policy(&self) -> Option<&[u8]> {
        self.attributes.get(CKA_CRATON_ISSUANCE_POLICY).map(|_| self.attributes.bytes(CKA_CRATON_ISSUANCE_POLICY))
    }

    /// Whether its signatures are counted: those of a key with an issuance policy, unless all that it signs is OCSP answers.
    pub(crate) fn counts_signatures(&self) -> bool {
        let counted = |policy| Policy::read(policy).map_or(true, |policy| policy.is_counted());
        self.issuance_policy().is_some_and(counted)
    }

    /// Whether it is a key of any class.
    pub(crate) fn is_key(&self) -> bool {
        matches!(self.class(), CKO_PUBLIC_KEY | CKO_PRIVATE_KEY | CKO_SECRET_KEY)
    }

    /// The attribute rows of this kind of object.
    pub(crate) fn schema(&self) -> Result<Schema> {
        schema::rows(self.class(), self.attributes.key_type()).ok_or_else(|| Error::from(Kind::Internal))
    }

    /// The secret part, for the crypto room, for wrapping and for the store.
    pub(crate) fn material(&self) -> Option<&Material> {
        self.material.as_ref()
    }

    /// The parsed asymmetric key; parsed once, shared afterwards.
    ///
    /// # Errors
    /// [`Kind::KeyType`] when the object is no asymmetric key.
    pub(crate) fn key(&self) -> Result<&Arc<Key>> {
        self.parsed.get_or_init(|| self.parse().ok().map(Arc::new)).as_ref().ok_or_else(|| Kind::KeyType.into())
    }

    fn parse(&self) -> Result<Key> {
        match (self.class(), &self.material) {
            (CKO_PRIVATE_KEY, Some(pkcs8)) => Ok(Key::Private(crypto::PrivateKey::from_pkcs8(pkcs8)?)),
            (CKO_PUBLIC_KEY, _) => {
                Ok(Key::Public(crypto::PublicKey::from_spki(self.attributes.bytes(CKA_PUBLIC_KEY_INFO))?))
            }
            _ => Err(Kind::KeyType.into()),
        }
    }

    /// The private key.
    ///
    /// # Errors
    /// [`Kind::KeyType`] when the object is none.
    pub(crate) fn private_key(&self) -> Result<&crypto::PrivateKey> {
        match &**self.key()? {
            Key::Private(key) => Ok(key),
            Key::Public(_) => Err(Kind::KeyType.into()),
        }
    }

    /// The public key: of a public key object, or the public half of a private one.
    ///
    /// # Errors
    /// [`Kind::KeyType`] when the object is no asymmetric key.
    pub(crate) fn public_key(&self) -> Result<&crypto::PublicKey> {
        match &**self.key()? {
            Key::Public(key) => Ok(key),
            Key::Private(_) => Err(Kind::KeyType.into()),
        }
    }

    /// The value of a secret key.
    ///
    /// # Errors
    /// [`Kind::KeyType`] when the object is none.
    pub(crate) fn secret(&self) -> Result<&[u8]> {
        match (self.class(), &self.material) {
            (CKO_SECRET_KEY, Some(value)) => Ok(value),
            _ => Err(Kind::KeyType.into()),
        }
    }

    /// Whether the secret part may be revealed to whoever may see the object.
    pub(crate) fn is_readable(&self) -> bool {
        !self.attributes.flag(CKA_SENSITIVE) && self.attributes.flag(CKA_EXTRACTABLE)
    }

    /// One attribute as C_GetAttributeValue gives it.
    ///
    /// # Errors
    /// [`Kind::AttributeType`] for an attribute that this object does not have, [`Kind::AttributeSensitive`] for a hidden one.
    pub(crate) fn read(&self, kind: Attribute) -> Result<Value> {
        let schema = self.schema()?;
        let row = schema.row(kind).ok_or(Kind::AttributeType)?;
        if kind == CKA_CHECK_VALUE {
            // Of a sensitive key it would tell which keys of other tokens are the same (`read_check_value` for those who want it).
            let shown = !self.attributes.flag(CKA_SENSITIVE);
            return check_value::of(self).filter(|_| shown).ok_or_else(|| Kind::AttributeType.into());
        }
        if row.notes.has(F7_HIDDEN) {
            if !self.is_readable() {
                return Err(Kind::AttributeSensitive.into());
            }
            return import::reveal(self, kind);
        }
        self.attributes.get(kind).cloned().ok_or_else(|| Kind::AttributeType.into())
    }

    /// CKA_CHECK_VALUE, of sensitive keys too.
    ///
    /// # Errors
    /// [`Kind::AttributeType`] when there is none.
    pub(crate) fn read_check_value(&self) -> Result<Value> {
        self.schema()?.row(CKA_CHECK_VALUE).ok_or(Kind::AttributeType)?;
        check_value::of(self).ok_or_else(|| Kind::AttributeType.into())
    }

    /// Roughly how many bytes the object takes: what C_GetObjectSize answers.
    pub(crate) fn size(&self) -> u64 {
        let attributes: u64 = self.attributes.iter().map(|(_, value)| 8 + value.c_len()).sum();
        attributes + self.material.as_ref().map_or(0, |material| material.len() as u64)
    }

    /// What travels to a client with a find: every readable attribute that is not secret, long values of private and secret keys
    /// left out.
    pub(crate) fn snapshot(&self) -> Snapshot {
        const LONG: u64 = 1024;
        let whole = matches!(self.class(), CKO_PUBLIC_KEY | CKO_CERTIFICATE);
        // What time it is, is asked for, not remembered.
        let is_clock = self.class() == CKO_HW_FEATURE;
        let shown =
            self.attributes.iter().filter(|(kind, _)| *kind != CKA_CHECK_VALUE && !(is_clock && *kind == CKA_VALUE));
        let (short, long): (Vec<_>, Vec<_>) = shown.partition(|(_, value)| whole || value.c_len() <= LONG);
        let attributes = short.into_iter().map(|(kind, value)| Attr { kind, value: value.clone() }).collect();
        Snapshot { object: self.handle, attributes, complete: long.is_empty() }
    }
}

/// An object as a client remembers it: handle and the attributes that are neither secret nor long.
#[derive(Debug)]
pub struct Snapshot {
    /// The handle.
    pub object: u64,
    /// The attributes, ascending by number.
    pub attributes: Vec<Attr>,
    /// Whether every attribute that is not secret is in the list.
    pub complete: bool,
}
