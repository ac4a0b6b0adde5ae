//! Key encapsulation (PKCS#11 3.2, C_EncapsulateKey and C_DecapsulateKey).

use ck::Rv;
use ck::rv::{CKR_DEVICE_ERROR, CKR_WRAPPED_KEY_LEN_RANGE};
use hsm_proto::v1;
use hsm_proto::v1::request::Op;

use super::object::make;
use crate::ffi::claim::{InBytes, InMechanism, Out, OutBuf, Room, Template};
use crate::library::{Run, expect_answer};
use crate::params;
use crate::step;

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
    let place = if room == Room::Query { None } else { Some(place.there()?) };
    let request = v1::EncapsulateKeyRequest {
        session: session.daemon_handle,
        mechanism: Some(params::required(&mechanism)?),
        public_key,
        template: Some(template.read()?),
        capacity: step::capacity(room),
    };
    match run.ask(&session, Op::EncapsulateKey(request)) {
        Ok(answer) => {
            let reply = expect_answer!(answer, Encapsulated)?;
            let (made, place) = reply.key.zip(place).ok_or(CKR_DEVICE_ERROR)?;
            out.put(&reply.ciphertext)?;
            place.put(made.object);
            Ok(())
        }
        Err(refusal) => step::too_small(refusal, room, &mut out).map(drop).map_err(Rv::from),
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
    let request = v1::DecapsulateKeyRequest {
        session: session.daemon_handle,
        mechanism: Some(params::required(&mechanism)?),
        private_key,
        template: Some(template.read()?),
        ciphertext: ciphertext.present(CKR_WRAPPED_KEY_LEN_RANGE)?,
    };
    make(run, &session, Op::DecapsulateKey(request), place)
}
