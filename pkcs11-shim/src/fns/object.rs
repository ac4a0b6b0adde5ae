//! Objects (PKCS#11 v3.0 section 5.7).

use ck::attribute::*;
use ck::rv::{
    CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID, CKR_BUFFER_TOO_SMALL, CKR_DEVICE_ERROR, CKR_OK,
    CKR_OPERATION_ACTIVE,
};
use ck::{Attribute, Rv};
use hsm_proto::v1;
use hsm_proto::v1::attribute::Value;
use hsm_proto::v1::request::Op;

use crate::ffi::claim::{Out, OutHandles, Place, Template};
use crate::library::{Run, expect_answer};
use crate::mirror::Snapshot;
use crate::session::Session;

/// How many found objects bring their attributes along.
const SNAPSHOTS: u32 = 64;

/// Has the daemon make an object, and says its handle.
pub(super) fn make(run: &Run, session: &Session, op: Op, place: Place<'_, u64>) -> Result<(), Rv> {
    place.put(expect_answer!(run.ask(session, op)?, Object)?.object);
    Ok(())
}

/// C_CreateObject.
pub(crate) fn create(run: &Run, handle: u64, template: Template<'_>, place: Out<'_, u64>) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let place = place.there()?;
    let request = v1::CreateObjectRequest { session: session.daemon_handle, template: Some(template.read()?) };
    make(run, &session, Op::CreateObject(request), place)
}

/// C_CopyObject.
pub(crate) fn copy(run: &Run, handle: u64, object: u64, template: Template<'_>, place: Out<'_, u64>) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let place = place.there()?;
    let template = Some(template.read()?);
    let request = v1::CopyObjectRequest { session: session.daemon_handle, object, template };
    make(run, &session, Op::CopyObject(request), place)
}

/// C_DestroyObject.
pub(crate) fn destroy(run: &Run, handle: u64, object: u64) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let request = v1::ObjectRequest { session: session.daemon_handle, object };
    let outcome = run.command(&session, Op::DestroyObject(request));
    run.mirror.forget_objects();
    outcome
}

/// C_GetObjectSize.
pub(crate) fn size(run: &Run, handle: u64, object: u64, place: Out<'_, u64>) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let place = place.there()?;
    let request = v1::ObjectRequest { session: session.daemon_handle, object };
    place.put(expect_answer!(run.ask(&session, Op::ObjectSize(request))?, ObjectSize)?.bytes);
    Ok(())
}

/// C_GetAttributeValue: from memory when everything asked is known for certain, else one message.
pub(crate) fn attributes(run: &Run, handle: u64, object: u64, template: Template<'_>) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let types = template.types()?;
    if let Some((snapshot, true)) = run.mirror.snapshot(object)
        && session.epoch() >= run.link.epoch()
        && types.iter().all(|&t| is_certain(&snapshot, Attribute(t)))
    {
        let value = |t: &u64| match snapshot.value(Attribute(*t)) {
            Some(value) => (CKR_OK, Some(value)),
            None => (CKR_ATTRIBUTE_TYPE_INVALID, None),
        };
        return fill(template, types.iter().map(value));
    }
    let results = fetch(run, &session, object, &types)?;
    fill(
        template,
        results.iter().map(|result| {
            let value = result.attribute.as_ref().and_then(|attribute| attribute.value.as_ref());
            (Rv(result.rv), value)
        }),
    )
}

/// Whether the snapshot knows the attribute's value, or that there is none. What a complete one leaves out because it is sensitive, or
/// computed when it is asked for, the object may have.
fn is_certain(snapshot: &Snapshot, attribute: Attribute) -> bool {
    let is_left_out = attribute.is_key_part() || [CKA_CHECK_VALUE, CKA_CRATON_SIGNATURE_COUNT].contains(&attribute);
    snapshot.value(attribute).is_some() || (snapshot.complete && !is_left_out)
}

fn fetch(run: &Run, session: &Session, object: u64, types: &[u64]) -> Result<Vec<v1::AttributeResult>, Rv> {
    let request = v1::GetAttributesRequest { session: session.daemon_handle, object, types: types.to_vec() };
    let results = expect_answer!(run.ask(session, Op::GetAttributes(request))?, GetAttributes)?.results;
    if results.len() == types.len() { Ok(results) } else { Err(CKR_DEVICE_ERROR) }
}

/// Every row is filled, whatever happens to another; of several things to say, the gravest is said
/// (PKCS#11 v3.0 section 5.7.5 leaves the choice).
fn fill<'v>(mut template: Template<'_>, results: impl Iterator<Item = (Rv, Option<&'v Value>)>) -> Result<(), Rv> {
    let empty = Value::Bytes(Vec::new());
    let (mut sensitive, mut invalid, mut short) = (false, false, false);
    for (index, (rv, value)) in results.enumerate() {
        let value = if rv == CKR_OK { Some(value.unwrap_or(&empty)) } else { None };
        sensitive |= rv == CKR_ATTRIBUTE_SENSITIVE;
        invalid |= rv != CKR_OK && rv != CKR_ATTRIBUTE_SENSITIVE;
        match template.put(index, value) {
            Err(CKR_BUFFER_TOO_SMALL) => short = true,
            outcome => outcome?,
        }
    }
    let said =
        [(sensitive, CKR_ATTRIBUTE_SENSITIVE), (invalid, CKR_ATTRIBUTE_TYPE_INVALID), (short, CKR_BUFFER_TOO_SMALL)];
    said.into_iter().find(|(is_so, _)| *is_so).map_or(Ok(()), |(_, rv)| Err(rv))
}

/// C_SetAttributeValue.
pub(crate) fn set_attributes(run: &Run, handle: u64, object: u64, template: Template<'_>) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let template = Some(template.read()?);
    let request = v1::SetAttributesRequest { session: session.daemon_handle, object, template };
    let outcome = run.command(&session, Op::SetAttributes(request));
    run.mirror.forget_objects();
    outcome
}

/// C_FindObjectsInit: one message finds everything and brings what is asked for next.
pub(crate) fn find_init(run: &Run, handle: u64, template: Template<'_>) -> Result<(), Rv> {
    let session = run.session(handle)?;
    if session.is_searching() {
        return Err(CKR_OPERATION_ACTIVE);
    }
    let template = Some(template.read()?);
    let request = v1::FindRequest { session: session.daemon_handle, template, snapshots: SNAPSHOTS };
    let found = expect_answer!(run.ask(&session, Op::Find(request))?, Find)?;
    session.begin_search(found.objects)
}

/// C_FindObjects.
pub(crate) fn find(run: &Run, handle: u64, out: OutHandles<'_>) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let found = session.next_found(out.room()?)?;
    out.put(&found)
}

/// C_FindObjectsFinal.
pub(crate) fn find_final(run: &Run, handle: u64) -> Result<(), Rv> {
    run.session(handle)?.end_search()
}
