//! The state of a digest, saved and restored (PKCS#11 v3.0 sections 5.6.7 and 5.6.8), and what 3.2 asks of a session besides.

use ck::Rv;
use ck::flags::message::CKS_LAST_VALIDATION_OK;
use ck::rv::{
    CKR_ARGUMENTS_BAD, CKR_BUFFER_TOO_SMALL, CKR_FUNCTION_NOT_SUPPORTED, CKR_KEY_NOT_NEEDED, CKR_MECHANISM_INVALID,
    CKR_SAVED_STATE_INVALID, CKR_STATE_UNSAVEABLE,
};
use hsm_proto::v1::request::Op;
use hsm_proto::v1::{self, OperationKind};

use super::slot;
use crate::ffi::claim::{InBytes, Out, OutBuf, Room};
use crate::library::{Run, expect_answer};
use crate::operation::Operation;

const DIGEST: OperationKind = OperationKind::OperationDigest;
/// What the daemon calls a state: a version and a name.
const STATE_LEN: u64 = 33;

/// C_GetOperationState. The digest goes on.
pub(crate) fn save(run: &Run, handle: u64, mut out: OutBuf<'_>) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let room = out.room()?;
    if session.has_keyed() {
        return Err(CKR_STATE_UNSAVEABLE);
    }
    let mut digest = session.take(DIGEST)?;
    let room_fits = match room {
        Room::Query => Ok(false),
        Room::Bytes(room) if room < STATE_LEN => Err(CKR_BUFFER_TOO_SMALL),
        Room::Bytes(_) => Ok(true),
    };
    if room_fits != Ok(true) {
        session.put(digest);
        out.set_len(STATE_LEN);
        return room_fits.map(drop);
    }
    let (begin, updated) = (digest.begin(), digest.updated);
    let answer =
        run.ask(&session, Op::SaveState(v1::SaveStateRequest { session: session.daemon_handle, begin, updated }));
    digest.opened |= answer.is_ok();
    session.put(digest);
    out.put(&expect_answer!(answer?, SavedState)?.state)
}

/// C_SetOperationState. What was active before has ended.
pub(crate) fn restore(
    run: &Run,
    handle: u64,
    state: InBytes<'_>,
    encryption_key: u64,
    authentication_key: u64,
) -> Result<(), Rv> {
    let session = run.session(handle)?;
    if state.is_null() {
        return Err(CKR_ARGUMENTS_BAD);
    }
    if state.len() != STATE_LEN {
        return Err(CKR_SAVED_STATE_INVALID);
    }
    if encryption_key != 0 || authentication_key != 0 {
        return Err(CKR_KEY_NOT_NEEDED);
    }
    let request = v1::RestoreStateRequest { session: session.daemon_handle, state: state.to_vec()? };
    let restored = expect_answer!(run.ask(&session, Op::RestoreState(request))?, RestoredState)?;
    let table = slot::mechanism_table(run, session.slot)?;
    let row = slot::find_row(&table, restored.mechanism).ok_or(CKR_MECHANISM_INVALID)?;
    session.end_operations();
    session.put(Operation::restored(restored.mechanism, row, restored.updated));
    Ok(())
}

/// C_GetSessionValidationFlags: this module is validated by nobody, and so is whatever was done last.
pub(crate) fn validation_flags(run: &Run, handle: u64, which: u64, place: Out<'_, u64>) -> Result<(), Rv> {
    run.session(handle)?;
    let place = place.there()?;
    if which != CKS_LAST_VALIDATION_OK {
        return Err(CKR_ARGUMENTS_BAD);
    }
    place.put(0);
    Ok(())
}

/// C_AsyncComplete, C_AsyncGetID and C_AsyncJoin: no session is asynchronous, since CKF_ASYNC_SESSION is refused.
pub(crate) fn asynchronous(run: &Run, handle: u64) -> Result<(), Rv> {
    run.session(handle)?;
    Err(CKR_FUNCTION_NOT_SUPPORTED)
}
