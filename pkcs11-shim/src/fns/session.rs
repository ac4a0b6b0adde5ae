//! Sessions and logins (PKCS#11 v3.0 section 5.6).

use ck::Rv;
use ck::flags::mechanism::{
    CKF_DECRYPT, CKF_DIGEST, CKF_ENCRYPT, CKF_FIND_OBJECTS, CKF_MESSAGE_DECRYPT, CKF_MESSAGE_ENCRYPT, CKF_MESSAGE_SIGN,
    CKF_MESSAGE_VERIFY, CKF_SIGN, CKF_SIGN_RECOVER, CKF_VERIFY, CKF_VERIFY_RECOVER,
};
use ck::flags::session::{CKF_ASYNC_SESSION, CKF_SERIAL_SESSION};
use ck::flags::user::{CKU_CONTEXT_SPECIFIC, CKU_USER};
use ck::rv::{
    CKR_ARGUMENTS_BAD, CKR_FUNCTION_NOT_SUPPORTED, CKR_OPERATION_NOT_INITIALIZED, CKR_SESSION_ASYNC_NOT_SUPPORTED,
    CKR_SESSION_PARALLEL_NOT_SUPPORTED, CKR_TOKEN_NOT_PRESENT,
};
use cryptoki_sys::CK_SESSION_INFO;
use hsm_proto::v1::request::Op;
use hsm_proto::v1::{self, OperationKind};

use super::slot::{has_protected_path, pin};
use crate::carrier::Failure;
use crate::ffi::claim::{InBytes, Out};
use crate::library::{Run, expect_answer};
use crate::step;

/// C_OpenSession. The notification callback is never called: there is nothing to notify of.
pub(crate) fn open(run: &Run, slot: u64, flags: u64, place: Out<'_, u64>) -> Result<(), Rv> {
    let place = place.there()?;
    if flags & CKF_SERIAL_SESSION == 0 {
        return Err(CKR_SESSION_PARALLEL_NOT_SUPPORTED);
    }
    if flags & CKF_ASYNC_SESSION != 0 {
        return Err(CKR_SESSION_ASYNC_NOT_SUPPORTED);
    }
    let (answer, epoch) =
        run.ask_in_epoch(Op::OpenSession(v1::OpenSessionRequest { slot, flags })).map_err(|trouble| match trouble {
            Ok(refusal) => refusal.rv,
            Err(Failure::Away) => CKR_TOKEN_NOT_PRESENT,
            Err(failure) => failure.of_session(),
        })?;
    let opened = expect_answer!(answer, OpenSession)?;
    place.put(run.add_session(slot, flags, opened.session, epoch));
    Ok(())
}

/// C_CloseSession. Without the daemon the session is closed all the same: there it has ended or will.
pub(crate) fn close(run: &Run, handle: u64) -> Result<(), Rv> {
    let session = run.session(handle)?;
    run.remove_session(handle);
    run.command(&session, Op::CloseSession(v1::SessionRequest { session: session.daemon_handle }))
}

/// C_CloseAllSessions.
pub(crate) fn close_all(run: &Run, slot: u64) -> Result<(), Rv> {
    let answer = run.ask_daemon(Op::CloseAllSessions(v1::SlotRequest { slot }));
    if !matches!(answer, Err(Ok(_))) {
        run.remove_sessions_of(slot);
    }
    match answer {
        Ok(answer) => expect_answer!(answer, Done).map(drop),
        Err(Ok(refusal)) => Err(refusal.rv),
        Err(Err(failure)) => Err(failure.of_session()),
    }
}

/// C_GetSessionInfo.
pub(crate) fn info(run: &Run, handle: u64, info: Out<'_, CK_SESSION_INFO>) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let place = info.there()?;
    let request = v1::SessionRequest { session: session.daemon_handle };
    let info = expect_answer!(run.ask(&session, Op::SessionInfo(request))?, SessionInfo)?;
    place.put(CK_SESSION_INFO { slotID: info.slot, state: info.state, flags: info.flags, ulDeviceError: 0 });
    Ok(())
}

/// C_Login. What can be seen changes with it, so nothing remembered of objects stays. NULL_PTR is no PIN but at a token that says that
/// it needs none (PKCS#11 v3.1 section 5.6.8).
pub(crate) fn login(run: &Run, handle: u64, user: u64, given: InBytes<'_>) -> Result<(), Rv> {
    let session = run.session(handle)?;
    if user == CKU_CONTEXT_SPECIFIC && !session.has_any() {
        return Err(CKR_OPERATION_NOT_INITIALIZED);
    }
    let without_pin = given.is_null() && has_protected_path(run, session.slot)?;
    let pin = if without_pin { Vec::new() } else { pin(given, CKR_ARGUMENTS_BAD)? };
    let request = v1::LoginRequest { session: session.daemon_handle, user, pin, without_pin };
    let keepsake = run.keepsake.as_ref().filter(|_| user == CKU_USER);
    let copy = keepsake.filter(|_| !without_pin).and_then(|keepsake| keepsake.copy(&request.pin));
    let outcome = run.command(&session, Op::Login(request));
    if user != CKU_CONTEXT_SPECIFIC {
        run.mirror.forget_objects();
    }
    if let (Some(keepsake), Ok(())) = (keepsake, outcome) {
        keepsake.remember(session.slot, copy);
    }
    outcome
}

/// C_LoginUser: tokens have no named users, so only the empty name is one.
pub(crate) fn login_user(run: &Run, handle: u64, user: u64, pin: InBytes<'_>, name: InBytes<'_>) -> Result<(), Rv> {
    run.session(handle)?;
    name.at_most(0, CKR_FUNCTION_NOT_SUPPORTED)?;
    login(run, handle, user, pin)
}

/// C_Logout. It ends every operation of the application with the token, also those that the daemon has not seen yet.
pub(crate) fn logout(run: &Run, handle: u64) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let outcome = run.command(&session, Op::Logout(v1::SessionRequest { session: session.daemon_handle }));
    if outcome.is_ok() {
        run.clear_sessions_of(session.slot);
        run.forget_pin(session.slot);
    }
    run.mirror.forget_objects();
    outcome
}

/// What C_SessionCancel's flags name.
const CANCELLED: [(u64, OperationKind); 12] = [
    (CKF_ENCRYPT, OperationKind::OperationEncrypt),
    (CKF_DECRYPT, OperationKind::OperationDecrypt),
    (CKF_DIGEST, OperationKind::OperationDigest),
    (CKF_SIGN, OperationKind::OperationSign),
    (CKF_VERIFY, OperationKind::OperationVerify),
    (CKF_VERIFY, OperationKind::OperationVerifySignature),
    (CKF_SIGN_RECOVER, OperationKind::OperationSignRecover),
    (CKF_VERIFY_RECOVER, OperationKind::OperationVerifyRecover),
    (CKF_MESSAGE_ENCRYPT, OperationKind::OperationMessageEncrypt),
    (CKF_MESSAGE_DECRYPT, OperationKind::OperationMessageDecrypt),
    (CKF_MESSAGE_SIGN, OperationKind::OperationMessageSign),
    (CKF_MESSAGE_VERIFY, OperationKind::OperationMessageVerify),
];

/// C_SessionCancel: ends what is active of what is named; what is not active needs no ending.
pub(crate) fn cancel(run: &Run, handle: u64, flags: u64) -> Result<(), Rv> {
    let session = run.session(handle)?;
    for (flag, kind) in CANCELLED {
        if flags & flag != 0
            && let Ok(active) = session.take(kind)
        {
            step::abandon(run, &session, &active);
        }
    }
    if flags & CKF_FIND_OBJECTS != 0 && session.is_searching() {
        session.end_search()?;
    }
    Ok(())
}
