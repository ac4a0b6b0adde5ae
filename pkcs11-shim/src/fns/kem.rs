//! Key encapsulation (PKCS#11 3.2, C_EncapsulateKey and C_DecapsulateKey).

use ck::Rv;
use ck::rv::{CKR_ARGUMENTS_BAD, CKR_BUFFER_TOO_SMALL, CKR_DEVICE_ERROR};
use hsm_proto::v1;
use hsm_proto::v1::request::Op;

use super::object::keep;
use crate::ffi::claim::{InBytes, InMechanism, Out, OutBuf, Room, Template};
use crate::library::{Run, expect_answer};
use crate::params;

/// C_EncapsulateKey. The daemon makes no key when the ciphertext does not fit, and a capacity of nothing makes it say the length:
/// so a length query checks everything that the call itself would, and needs no place for the handle.
pub(crate) fn encapsulate(
    run: &Run,
    handle: u64,
    mechanism: InMechanism<'_>,
    public_key: u64,
    template: Template<'_>,
    mut out: OutBuf<'_>,
    place: Out<'_, u64>,
) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let room = out.room()?;
    let capacity = match room {
        Room::Query => 0,
        Room::Bytes(capacity) => capacity,
    };
    let place = if room == Room::Query { None } else { Some(place.there()?) };
    let request = v1::EncapsulateKeyRequest {
        session: session.daemon_handle,
        mechanism: Some(params::required(&mechanism)?),
        public_key,
        template: Some(template.read()?),
        capacity: Some(capacity),
    };
    match run.ask(&session, Op::EncapsulateKey(request)) {
        Ok(answer) => {
            let reply = expect_answer!(answer, Encapsulated)?;
            let (made, place) = reply.key.zip(place).ok_or(CKR_DEVICE_ERROR)?;
            out.put(&reply.ciphertext)?;
            place.put(keep(run, made));
            Ok(())
        }
        Err(refusal) if refusal.rv == CKR_BUFFER_TOO_SMALL => {
            out.set_len(refusal.needed);
            if room == Room::Query { Ok(()) } else { Err(refusal.rv) }
        }
        Err(refusal) => Err(refusal.rv),
    }
}

/// C_DecapsulateKey.
pub(crate) fn decapsulate(
    run: &Run,
    handle: u64,
    mechanism: InMechanism<'_>,
    private_key: u64,
    template: Template<'_>,
    ciphertext: InBytes<'_>,
    place: Out<'_, u64>,
) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let place = place.there()?;
    if ciphertext.is_null() {
        return Err(CKR_ARGUMENTS_BAD);
    }
    let request = v1::DecapsulateKeyRequest {
        session: session.daemon_handle,
        mechanism: Some(params::required(&mechanism)?),
        private_key,
        template: Some(template.read()?),
        ciphertext: ciphertext.to_vec()?,
    };
    let reply = expect_answer!(run.ask(&session, Op::DecapsulateKey(request))?, Object)?;
    place.put(keep(run, reply));
    Ok(())
}
