//! Objects (PKCS#11 v3.0 §5.7).

use std::sync::Arc;

use ck::attribute::*;
use ck::object::CKK_DES3;
use ck::rv::CKR_OK;
use ck::{Attribute, Rv};

use super::{Caller, Hsm};
use crate::act;
use crate::config::PolicyConfig;
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::mechanism::{LEGACY_SWITCH, approved};
use crate::object::import::{self, KeyRules};
use crate::object::template::{self, Heritage, Origin};
use crate::object::{Attr, Attributes, Material, Object, Snapshot, Value, built_in, check_value, codec};
use crate::perform::Work;
use crate::store::{Change, ObjectPut};

/// One attribute as C_GetAttributeValue gives it.
#[derive(Debug)]
pub struct AttributeRead {
    /// CKR_OK, CKR_ATTRIBUTE_SENSITIVE or CKR_ATTRIBUTE_TYPE_INVALID.
    pub rv: Rv,
    /// The attribute; empty unless the return value is CKR_OK.
    pub attribute: Attr,
}

/// What a search found.
#[derive(Debug)]
pub struct Found {
    /// All handles, ascending.
    pub objects: Vec<u64>,
    /// Snapshots of the first of them.
    pub snapshots: Vec<Snapshot>,
}

/// The most session objects that one application may have.
const SESSION_OBJECTS_MAX: usize = 65_536;

/// An object in the making: what `put` needs to know.
pub(crate) struct NewObject {
    pub(crate) attributes: Attributes,
    pub(crate) material: Option<Material>,
}

impl Hsm {
    pub(crate) fn key_rules(&self) -> KeyRules {
        let legacy = self.config().policy.allow_legacy_rsa;
        KeyRules { allow_weak_rsa: self.config().algorithms.allow_weak_rsa || legacy, allow_small_exponent: legacy }
    }

    /// Makes objects: writes the token ones in one transaction with the operation's record, hands the others to the application.
    pub(crate) fn put(&self, work: &mut Work<'_>, new: Vec<NewObject>) -> Result<Vec<Arc<Object>>> {
        let token = work.slot.token_id();
        let (mut objects, mut change) = (Vec::with_capacity(new.len()), Change::default());
        for NewObject { mut attributes, material } in new {
            work.check_write(&attributes)?;
            self.settle_legacy(&mut attributes)?;
            check_value::settle(&mut attributes, material.as_ref())?;
            let id = Hsm::new_object_id()?;
            attributes.put(CKA_UNIQUE_ID, Value::bytes(id.to_string().into_bytes()));
            let object = Object::new(id, self.next_handle()?, attributes, material);
            if object.is_key() && self.mechanisms.are_approved_only() {
                approved::check_key(&object)?;
            }
            if object.is_token() {
                let (private, plaintext) = (object.is_private(), codec::encode(&object));
                change.puts.push(ObjectPut { token, id, private, plaintext });
            }
            objects.push(Arc::new(object));
        }
        if let Some(first) = objects.first() {
            work.subject(first);
        }
        if let Some(second) = objects.get(1).filter(|_| work.entry.with.is_none()) {
            work.with(second);
        }
        if !change.puts.is_empty() {
            work.commit(change)?;
            failpoint!("object.made");
        }
        for object in &objects {
            self.settle(work, object)?;
        }
        Ok(objects)
    }

    /// Triple DES keys exist by their switch only, and have no CKA_VALUE_LEN.
    fn settle_legacy(&self, attributes: &mut Attributes) -> Result<()> {
        if attributes.key_type() != Some(CKK_DES3) {
            return Ok(());
        }
        if !self.config().algorithms.allow_legacy {
            return Err(Error::closed(Kind::AttributeValue, LEGACY_SWITCH, "triple DES keys are not offered"));
        }
        attributes.take(CKA_VALUE_LEN);
        Ok(())
    }

    fn settle(&self, work: &Work<'_>, object: &Arc<Object>) -> Result<()> {
        if object.is_token() {
            work.app.shown.show(work.slot.number, core::iter::once(&**object));
            work.slot.insert(Arc::clone(object));
            return Ok(());
        }
        let mut own = work.app.objects.write();
        if own.len() >= SESSION_OBJECTS_MAX {
            return Err(Error::new(Kind::ResourceExceeded, "the application has too many session objects"));
        }
        own.insert(work.slot.number, work.session.handle, Arc::clone(object));
        Ok(())
    }

    /// C_CreateObject.
    ///
    /// # Errors
    /// The template errors of PKCS#11 v3.0 §4.1.1; [`Kind::NotLoggedIn`], [`Kind::SessionReadOnly`].
    pub fn create_object(&self, caller: &Caller, session: u64, template: Vec<Attr>) -> Result<Snapshot> {
        self.perform(caller, &act::CREATE_OBJECT, session, |work| {
            let (class, key_type) = template::kind_of(&template);
            let class = class.ok_or_else(|| Error::new(Kind::TemplateIncomplete, "CKA_CLASS is missing"))?;
            let mut attributes = template::build(Origin::Create, class, key_type, template, work.authority())?;
            work.check_write(&attributes)?;
            let material = import::material(&mut attributes, self.key_rules())?;
            if key_type.is_some() {
                template::record_heritage(&mut attributes, &Heritage::Imported);
            }
            self.put_one(work, NewObject { attributes, material })
        })
    }

    /// Makes one object and gives its snapshot.
    pub(crate) fn put_one(&self, work: &mut Work<'_>, new: NewObject) -> Result<Snapshot> {
        let objects = self.put(work, vec![new])?;
        objects.first().map(|object| object.snapshot()).ok_or_else(|| Kind::Internal.into())
    }

    /// C_CopyObject.
    ///
    /// # Errors
    /// [`Kind::ActionProhibited`] when CKA_COPYABLE is false, and the template errors.
    pub fn copy_object(&self, caller: &Caller, session: u64, object: u64, template: Vec<Attr>) -> Result<Snapshot> {
        self.perform(caller, &act::COPY_OBJECT, session, |work| {
            let original = work.object(object, Kind::NoSuchObject)?;
            work.subject(&original);
            let attributes = template::copy(&original, template, work.authority())?;
            let material = original.material().cloned();
            let copies = self.put(work, vec![NewObject { attributes, material }])?;
            let copy = copies.first().ok_or(Kind::Internal)?;
            self.share_iv_book(&original, copy)?;
            Ok(copy.snapshot())
        })
    }

    /// C_DestroyObject.
    ///
    /// # Errors
    /// [`Kind::ActionProhibited`] when CKA_DESTROYABLE is false; [`Kind::SessionReadOnly`].
    pub fn destroy_object(&self, caller: &Caller, session: u64, object: u64) -> Result<()> {
        self.perform(caller, &act::DESTROY_OBJECT, session, |work| {
            let slot = Arc::clone(&work.slot);
            let _turn = slot.turn.lock();
            let object = work.object(object, Kind::NoSuchObject)?;
            work.subject(&object);
            work.check_write(&object.attributes)?;
            if !object.attributes.flag(CKA_DESTROYABLE) {
                return Err(Error::new(Kind::ActionProhibited, "CKA_DESTROYABLE is false"));
            }
            if object.is_token() {
                let deletes = vec![(slot.token_id(), object.id)];
                work.commit(Change { deletes, ..Change::default() })?;
                failpoint!("object.destroyed");
                slot.remove(object.handle);
                self.signature_counts.forget(object.id);
            } else {
                work.app.objects.write().remove(object.handle);
            }
            self.moved_on();
            Ok(())
        })
    }

    /// C_GetObjectSize, in bytes.
    ///
    /// # Errors
    /// [`Kind::NoSuchObject`].
    pub fn object_size(&self, caller: &Caller, session: u64, object: u64) -> Result<u64> {
        self.perform(caller, &act::GET_ATTRIBUTES, session, |work| Ok(work.object(object, Kind::NoSuchObject)?.size()))
    }

    /// C_GetAttributeValue: one result per asked attribute, in the same order.
    ///
    /// # Errors
    /// [`Kind::NoSuchObject`]; what is wrong with a single attribute is in its result.
    pub fn get_attributes(
        &self,
        caller: &Caller,
        session: u64,
        object: u64,
        kinds: &[u64],
    ) -> Result<Vec<AttributeRead>> {
        self.perform(caller, &act::GET_ATTRIBUTES, session, |work| {
            let object = work.object(object, Kind::NoSuchObject)?;
            let policy = &self.config().policy;
            let read = |&kind: &u64| match Attribute(kind) {
                CKA_CRATON_SIGNATURE_COUNT if object.counts_signatures() => {
                    let value = Value::Ulong(self.signature_count(work.slot.token_id(), object.id)?);
                    Ok(AttributeRead { rv: CKR_OK, attribute: Attr { kind: CKA_CRATON_SIGNATURE_COUNT, value } })
                }
                kind => Ok(read(&object, kind, policy)),
            };
            kinds.iter().map(read).collect()
        })
    }

    /// C_SetAttributeValue: all of the template or nothing.
    ///
    /// # Errors
    /// [`Kind::ActionProhibited`] when CKA_MODIFIABLE is false; [`Kind::AttributeReadOnly`] and the other template errors;
    /// [`Kind::SessionReadOnly`].
    pub fn set_attributes(&self, caller: &Caller, session: u64, object: u64, template: Vec<Attr>) -> Result<()> {
        self.perform(caller, &act::SET_ATTRIBUTES, session, |work| {
            let slot = Arc::clone(&work.slot);
            let _turn = slot.turn.lock();
            let object = work.object(object, Kind::NoSuchObject)?;
            work.subject(&object);
            work.check_write(&object.attributes)?;
            let changed = Arc::new(object.with_attributes(template::set(&object, template, work.authority())?));
            work.right.grant.check_write(&changed.attributes)?;
            if changed.is_token() {
                let (private, plaintext) = (changed.is_private(), codec::encode(&changed));
                let puts = vec![ObjectPut { token: slot.token_id(), id: changed.id, private, plaintext }];
                work.commit(Change { puts, ..Change::default() })?;
                failpoint!("object.changed");
                slot.insert(changed);
            } else {
                work.app.objects.write().replace(changed);
            }
            self.moved_on();
            Ok(())
        })
    }

    /// C_FindObjectsInit and C_FindObjects in one: every handle that matches, and snapshots of the first `snapshots` of them.
    ///
    /// # Errors
    /// [`Kind::NoSuchSession`].
    pub fn find(&self, caller: &Caller, session: u64, template: Vec<Attr>, snapshots: usize) -> Result<Found> {
        self.perform(caller, &act::FIND, session, |work| {
            let template: Vec<Attr> =
                template.into_iter().map(|Attr { kind, value }| Attr { kind, value: value.normalized() }).collect();
            let mut objects = work.slot.find(work.right, &template);
            work.app.shown.show(work.slot.number, objects.iter().map(|object| &**object));
            let own = work.app.objects.read();
            let here = own.find(work.slot.number, &template);
            objects.extend(here.filter(|object| work.right.sees(&object.attributes)).cloned());
            objects.extend(built_in::find(&template, &self.mechanisms, self.clock()));
            objects.sort_unstable_by_key(|object| object.handle);
            let snapshots = objects.iter().take(snapshots).map(|object| object.snapshot()).collect();
            Ok(Found { objects: objects.iter().map(|object| object.handle).collect(), snapshots })
        })
    }

    /// Everything about one object that a client may remember.
    ///
    /// # Errors
    /// [`Kind::NoSuchObject`].
    pub fn snapshot(&self, caller: &Caller, session: u64, object: u64) -> Result<Snapshot> {
        self.perform(caller, &act::GET_ATTRIBUTES, session, |work| {
            Ok(work.object(object, Kind::NoSuchObject)?.snapshot())
        })
    }
}

fn read(object: &Object, kind: Attribute, policy: &PolicyConfig) -> AttributeRead {
    let value = match kind {
        CKA_CHECK_VALUE if policy.kcv => object.read_check_value(),
        _ => object.read(kind),
    };
    match value {
        Ok(value) => AttributeRead { rv: CKR_OK, attribute: Attr { kind, value } },
        Err(error) => AttributeRead { rv: error.rv(), attribute: Attr { kind, value: Value::Empty } },
    }
}
