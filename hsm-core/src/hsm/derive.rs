//! C_DeriveKey (PKCS#11 v3.0 §5.18.5): keys computed from a key of the token. What each derivation computes is in
//! `mechanism/kdf.rs`; here its results become objects, no less secret than policy says.

use std::sync::Arc;

use ck::attribute::*;
use ck::mechanism::*;
use ck::object::*;
use ck::{Attribute, KeyType};

use super::crypto::admitted_key;
use super::key::{enforced, material};
use super::object::NewObject;
use super::{Caller, Hsm};
use crate::act;
use crate::error::{Error, Kind, Result};
use crate::mechanism::admit;
use crate::mechanism::kdf::{self, Ingredients};
use crate::mechanism::kdf_params::{KbkdfParams, TlsKeysParams};
use crate::mechanism::params::{MechanismCall, Parameter};
use crate::mechanism::purpose::Use;
use crate::mechanism::row::{Kdf, Row, Scheme, Secrecy};
use crate::object::import;
use crate::object::template::{self, Heritage, Origin};
use crate::object::{Attr, Attributes, Object, Snapshot, Value};
use crate::perform::Work;
use crate::secret::SecretBytes;

/// What C_DeriveKey made.
#[derive(Debug, Default)]
pub struct Derived {
    /// The keys in the order of the mechanism. For the keys of a TLS connection: client's and server's MAC key, client's and
    /// server's cipher key, of which some may not have been asked for.
    pub keys: Vec<Option<Snapshot>>,
    /// The client's IV of a TLS connection.
    pub client_iv: Vec<u8>,
    /// The server's IV of a TLS connection.
    pub server_iv: Vec<u8>,
    /// Major and minor protocol version that a TLS pre-master secret begins with, where it was asked for.
    pub version: Option<[u8; 2]>,
}

/// What a TLS master secret is for (PKCS#11 3.2 §6.40).
const MASTER_MECHANISMS: [ck::Mechanism; 6] =
    [CKM_TLS12_KEY_AND_MAC_DERIVE, CKM_TLS12_KEY_SAFE_DERIVE, CKM_TLS_KDF, CKM_TLS12_KDF, CKM_TLS_MAC, CKM_TLS12_MAC];

/// A derivation that was admitted.
struct Derivation<'a> {
    row: &'static Row,
    from: Ingredients<'a>,
    extractable_by_default: bool,
}

/// A key that is still without its value.
struct Child {
    attributes: Attributes,
    len: usize,
}

impl Child {
    fn with(mut self, value: &SecretBytes) -> NewObject {
        self.attributes.put(CKA_VALUE_LEN, Value::Ulong(value.len() as u64));
        NewObject { attributes: self.attributes, material: Some(material(value)) }
    }
}

impl Hsm {
    /// C_DeriveKey.
    ///
    /// # Errors
    /// [`Kind::NoSuchKey`], [`Kind::MechanismParam`], [`Kind::PublicKeyInvalid`] for a peer point that is not on the curve,
    /// [`Kind::KeySize`] for a child that is too long or could be guessed, the template errors.
    pub fn derive_key(
        &self,
        caller: &Caller,
        session: u64,
        call: MechanismCall,
        base: u64,
        template: Vec<Attr>,
    ) -> Result<Derived> {
        self.perform(caller, &act::DERIVE_KEY, session, |work| {
            let row = self.admit(work, &call, Use::Derive)?;
            let base = admitted_key(work, row, base, Use::Derive, Kind::NoSuchKey)?;
            work.with(&base);
            let others = kdf::other_keys(&call.parameter).into_iter();
            let others = others.map(|handle| admitted_key(work, row, handle, Use::Derive, Kind::NoSuchKey));
            let others: Vec<Arc<Object>> = others.collect::<Result<_>>()?;
            let kdf = match row.scheme {
                Scheme::Ecdh => Kdf::Ecdh,
                Scheme::Derive(kdf, _) => kdf,
                _ => return Err(Kind::MechanismInvalid.into()),
            };
            let from = Ingredients { kdf, parameter: &call.parameter, base: &base, others: &others };
            let extractable_by_default = self.config().algorithms.derived_keys_extractable_by_default;
            let derivation = Derivation { row, from, extractable_by_default };
            let mut derived = Derived { version: derivation.version()?, ..Derived::default() };
            let new = match (kdf, &call.parameter) {
                (Kdf::TlsKeys { ivs }, Parameter::TlsKeys(asked)) => {
                    let mut asked = asked.clone();
                    asked.iv_bits = if ivs { asked.iv_bits } else { 0 };
                    derivation.connection(work, &asked, template, &mut derived)?
                }
                (Kdf::Counter | Kdf::Feedback | Kdf::DoublePipeline, Parameter::Kbkdf(asked)) => {
                    derivation.several(work, asked, template)?
                }
                (Kdf::HkdfData, _) => vec![Some(derivation.data(work, template)?)],
                _ => {
                    let child = derivation.child(work, template)?;
                    let value = derivation.from.derive(child.len)?;
                    vec![Some(child.with(&value))]
                }
            };
            derived.keys = self.put_some(work, new)?;
            Ok(derived)
        })
    }

    /// Makes objects in one transaction; where none was asked for, none is made.
    fn put_some(&self, work: &mut Work<'_>, new: Vec<Option<NewObject>>) -> Result<Vec<Option<Snapshot>>> {
        let asked: Vec<bool> = new.iter().map(Option::is_some).collect();
        let mut made = self.put(work, new.into_iter().flatten().collect())?.into_iter();
        let mut next = |asked: bool| if asked { made.next().map(|object| object.snapshot()) } else { None };
        Ok(asked.into_iter().map(&mut next).collect())
    }
}

pub(super) fn asked_len(template: &[Attr]) -> Result<Option<usize>> {
    let asked = template.iter().find(|attr| attr.kind == CKA_VALUE_LEN).and_then(|attr| attr.value.as_ulong());
    asked.map(usize::try_from).transpose().map_err(|_| Kind::KeySize.into())
}

/// The length of a derived key: what the template says, else what its type or the derivation gives (PKCS#11 3.2 §6.21).
pub(super) fn child_len(key_type: KeyType, asked: Option<usize>, natural: Option<usize>) -> Result<usize> {
    let missing = || Error::new(Kind::TemplateIncomplete, "CKA_VALUE_LEN is missing");
    let len = match (asked, natural) {
        (Some(asked), _) => asked,
        (None, Some(natural)) => natural,
        (None, None) => return Err(missing()),
    };
    check_derived_len(key_type, len).map_err(|error| if asked.is_none() { missing() } else { error })?;
    Ok(len)
}

/// Triple DES keys are made and imported, not derived: they are there for what old applications have, not for new keys.
fn check_derived_len(key_type: KeyType, len: usize) -> Result<()> {
    if key_type == CKK_DES3 {
        return Err(Error::new(Kind::TemplateInconsistent, "no triple DES key is derived"));
    }
    import::check_secret_len(key_type, len)
}

impl Derivation<'_> {
    fn keys(&self) -> impl Iterator<Item = &Object> {
        core::iter::once(self.from.base).chain(self.from.others.iter().map(|key| &**key))
    }

    fn all(&self, flag: Attribute) -> bool {
        self.keys().all(|key| key.attributes.flag(flag))
    }

    fn heritage(&self) -> Heritage {
        Heritage::Derived {
            always_sensitive: self.all(CKA_ALWAYS_SENSITIVE),
            never_extractable: self.all(CKA_NEVER_EXTRACTABLE),
        }
    }

    /// The version in a pre-master secret. An exchange that has none is not asked for one.
    fn version(&self) -> Result<Option<[u8; 2]>> {
        let (Kdf::TlsMaster { versioned }, Parameter::TlsMaster(asked)) = (self.from.kdf, self.from.parameter) else {
            return Ok(None);
        };
        match (asked.wants_version, versioned, self.from.base.secret()?) {
            (false, ..) => Ok(None),
            (true, true, [major, minor, ..]) => Ok(Some([*major, *minor])),
            _ => Err(Error::new(Kind::MechanismParam, "the pre-master secret of this exchange has no version")),
        }
    }

    /// A secret key of the template's kind, as secret as it must be.
    fn child(&self, work: &Work<'_>, template: Vec<Attr>) -> Result<Child> {
        let mut template = enforced(template, self.from.base.attributes.get(CKA_DERIVE_TEMPLATE))?;
        let asked = template::asked_secrecy(&template);
        self.fill_secrecy(&mut template, &asked);
        let key_type = template::kind_of(&template).1.unwrap_or(CKK_GENERIC_SECRET);
        let len = child_len(key_type, asked_len(&template)?, self.from.natural_len()?)?;
        let mut attributes =
            template::build(Origin::Derive, CKO_SECRET_KEY, Some(key_type), template, work.authority())?;
        work.check_write(&attributes)?;
        let readable = !attributes.flag(CKA_SENSITIVE) && attributes.flag(CKA_EXTRACTABLE);
        let policy = &work.hsm.config().policy;
        if admit::derive(self.row, &self.from, len, readable, policy)? == Secrecy::Inherited {
            self.inherit(&mut attributes, &asked)?;
        }
        if let Kdf::TlsMaster { .. } = self.from.kdf {
            check_master(&mut attributes, key_type, len)?;
        }
        template::record_heritage(&mut attributes, &self.heritage());
        Ok(Child { attributes, len })
    }

    /// What the template leaves open is like the base key, or as the configuration says.
    fn fill_secrecy(&self, template: &mut Vec<Attr>, asked: &[(Attribute, Option<bool>); 2]) {
        let like_base = matches!(self.row.scheme, Scheme::Derive(_, Secrecy::LikeBase));
        for (kind, _) in asked.iter().filter(|(_, given)| given.is_none()) {
            if like_base {
                template.push(Attr::flag(*kind, self.from.base.attributes.flag(*kind)));
            } else if *kind == CKA_EXTRACTABLE && self.extractable_by_default && !self.guards(CKA_EXTRACTABLE) {
                template.push(Attr::flag(CKA_EXTRACTABLE, true));
            }
        }
    }

    /// Whether the child takes this attribute from its parents whatever the configuration's default is.
    fn guards(&self, kind: Attribute) -> bool {
        matches!(self.row.scheme, Scheme::Derive(_, Secrecy::Inherited)) && !self.all(kind)
    }

    /// The child of a sensitive key is sensitive and stays inside; that of one which is not extractable stays inside.
    fn inherit(&self, attributes: &mut Attributes, asked: &[(Attribute, Option<bool>); 2]) -> Result<()> {
        if self.keys().any(|key| key.attributes.flag(CKA_SENSITIVE)) {
            return template::inherit_secrecy(attributes, asked);
        }
        if !self.all(CKA_EXTRACTABLE) {
            if asked.contains(&(CKA_EXTRACTABLE, Some(true))) {
                return Err(Error::new(Kind::TemplateInconsistent, "the base key is not extractable"));
            }
            attributes.put(CKA_EXTRACTABLE, Value::Bool(false));
        }
        Ok(())
    }

    /// SP 800-108: the key of the template and the additional ones.
    fn several(&self, work: &Work<'_>, asked: &KbkdfParams, first: Vec<Attr>) -> Result<Vec<Option<NewObject>>> {
        let templates = core::iter::once(first).chain(asked.additional.iter().cloned());
        let children: Vec<Child> = templates.map(|template| self.child(work, template)).collect::<Result<_>>()?;
        let lens: Vec<usize> = children.iter().map(|child| child.len).collect();
        let values = self.from.kbkdf(asked, &lens)?;
        Ok(children.into_iter().zip(&values).map(|(child, value)| Some(child.with(value))).collect())
    }

    /// HKDF into a data object, which shows its value to whoever sees it (PKCS#11 3.2 §6.62).
    fn data(&self, work: &Work<'_>, template: Vec<Attr>) -> Result<NewObject> {
        let strict = work.hsm.config().policy.profile == crate::config::Profile::Strict;
        if strict && !self.keys().all(Object::is_readable) {
            return Err(Error::new(Kind::KeyFunction, "policy.profile = \"strict\": a data object would show the key"));
        }
        let mut template = enforced(template, self.from.base.attributes.get(CKA_DERIVE_TEMPLATE))?;
        let len = asked_len(&template)?.or(self.from.natural_len()?);
        let len = len.ok_or_else(|| Error::new(Kind::TemplateIncomplete, "CKA_VALUE_LEN is missing"))?;
        // A data object has no length attribute of its own.
        template.retain(|attr| attr.kind != CKA_VALUE_LEN);
        if template.iter().any(|attr| attr.kind == CKA_VALUE) {
            return Err(Error::new(Kind::TemplateInconsistent, "CKA_VALUE is what is derived"));
        }
        if !template.iter().any(|attr| attr.kind == CKA_PRIVATE) {
            template.push(Attr::flag(CKA_PRIVATE, self.from.base.attributes.flag(CKA_PRIVATE)));
        }
        let mut attributes = template::build(Origin::Derive, CKO_DATA, None, template, work.authority())?;
        work.check_write(&attributes)?;
        attributes.put(CKA_VALUE, Value::bytes(self.from.derive(len)?.expose()));
        Ok(NewObject { attributes, material: None })
    }

    /// The keys and IVs of a TLS connection: the key block is cut into six (RFC 5246, section 6.3).
    fn connection(
        &self,
        work: &Work<'_>,
        asked: &TlsKeysParams,
        template: Vec<Attr>,
        derived: &mut Derived,
    ) -> Result<Vec<Option<NewObject>>> {
        let [mac, key, iv] = connection_lens(asked, self.from.base.is_readable())?;
        let block = self.from.tls_key_block(asked, 2 * (mac + key + iv))?;
        let mut rest = block.expose();
        let mut cut = |len: usize| {
            let (piece, others) = rest.split_at(len);
            rest = others;
            SecretBytes::copy_from(piece)
        };
        let template = enforced(template, self.from.base.attributes.get(CKA_DERIVE_TEMPLATE))?;
        let mut keys = Vec::with_capacity(4);
        for (len, template) in [(mac, mac_template(&template)), (key, template)] {
            for _ in 0..2 {
                let value = cut(len);
                let made = (len > 0).then(|| self.twin(work, template.clone(), &value)).transpose()?;
                keys.push(made);
            }
        }
        derived.client_iv = cut(iv).expose().to_vec();
        derived.server_iv = cut(iv).expose().to_vec();
        Ok(keys)
    }

    /// A key that has the secrecy and the history of the base key.
    fn twin(&self, work: &Work<'_>, mut template: Vec<Attr>, value: &SecretBytes) -> Result<NewObject> {
        for (kind, given) in template::asked_secrecy(&template) {
            let own = self.from.base.attributes.flag(kind);
            match given {
                Some(given) if given != own => {
                    let what = format!("{kind} is that of the master secret");
                    return Err(Error::new(Kind::TemplateInconsistent, what));
                }
                Some(_) => {}
                None => template.push(Attr::flag(kind, own)),
            }
        }
        let key_type = template::kind_of(&template).1.unwrap_or(CKK_GENERIC_SECRET);
        if asked_len(&template)?.is_some_and(|asked| asked != value.len()) {
            return Err(Error::new(Kind::TemplateInconsistent, "CKA_VALUE_LEN is not the length of the keys"));
        }
        check_derived_len(key_type, value.len())?;
        let mut attributes =
            template::build(Origin::Derive, CKO_SECRET_KEY, Some(key_type), template, work.authority())?;
        work.check_write(&attributes)?;
        template::record_heritage(&mut attributes, &self.heritage());
        Ok(Child { attributes, len: value.len() }.with(value))
    }
}

/// A master secret is a generic secret of 48 bytes, for the mechanisms that go on with it.
fn check_master(attributes: &mut Attributes, key_type: KeyType, len: usize) -> Result<()> {
    if key_type != CKK_GENERIC_SECRET || len != kdf::MASTER_LEN {
        return Err(Error::new(Kind::TemplateInconsistent, "a master secret is a generic secret of 48 bytes"));
    }
    if attributes.get(CKA_ALLOWED_MECHANISMS).is_none() {
        let numbers = MASTER_MECHANISMS.iter().map(|mechanism| mechanism.0).collect();
        attributes.put(CKA_ALLOWED_MECHANISMS, Value::Ulongs(numbers));
    }
    Ok(())
}

/// What the template of the cipher keys says of the MAC keys: where they live. They sign and verify, nothing else.
fn mac_template(template: &[Attr]) -> Vec<Attr> {
    let shared = [CKA_TOKEN, CKA_PRIVATE, CKA_SENSITIVE, CKA_EXTRACTABLE];
    let mut own: Vec<Attr> = template.iter().filter(|attr| shared.contains(&attr.kind)).cloned().collect();
    own.push(Attr::flag(CKA_DERIVE, false));
    own
}

/// The lengths in bytes of MAC key, cipher key and IV.
///
/// The IVs are given out in the clear, and where they lie in the key block depends on what else is asked. So a master secret that
/// cannot be read gives IVs only as the AEAD suites need them (four bytes, no MAC key: RFC 5288, section 3), and no key so short
/// that guessing it would read the block.
fn connection_lens(asked: &TlsKeysParams, readable: bool) -> Result<[usize; 3]> {
    let refuse = |what: &str| Err(Error::new(Kind::MechanismParam, what));
    if asked.export {
        return refuse("export cipher suites are not offered");
    }
    let bits = [asked.mac_bits, asked.key_bits, asked.iv_bits];
    if bits.iter().all(|&bits| bits == 0) || bits.iter().any(|&bits| bits > 4096 || !bits.is_multiple_of(8)) {
        return refuse("keys and IVs have whole bytes, at most 512 of them");
    }
    // At most 512, so it fits.
    let [mac, key, iv] = bits.map(|bits| (bits / 8) as usize);
    if readable {
        return Ok([mac, key, iv]);
    }
    if [mac, key].iter().any(|&len| len != 0 && len < 14) {
        return refuse("a key under 112 bits could be guessed");
    }
    let aead = mac == 0 && matches!(key, 16 | 32) && iv <= 4;
    if iv > 0 && !aead {
        return refuse("these IVs would show parts of keys; CKM_TLS12_KEY_SAFE_DERIVE gives the keys without");
    }
    Ok([mac, key, iv])
}
