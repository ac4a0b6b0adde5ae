//! What C_EncryptInit, C_DecryptInit, C_DigestInit, C_SignInit, C_VerifyInit and their relatives share: an operation begins without a message.
//!
//! The mechanism table and the key's snapshot answer here; the daemon checks everything again when the operation is
//! carried out. Nothing is refused on the word of an old snapshot: then the key is looked at afresh.

use std::sync::Arc;

use ck::attribute::*;
use ck::flags::mechanism::{
    CKF_DECRYPT, CKF_DIGEST, CKF_ENCRYPT, CKF_MESSAGE_DECRYPT, CKF_MESSAGE_ENCRYPT, CKF_MESSAGE_SIGN,
    CKF_MESSAGE_VERIFY, CKF_SIGN, CKF_SIGN_RECOVER, CKF_VERIFY, CKF_VERIFY_RECOVER,
};
use ck::object::{CKO_PRIVATE_KEY, CKO_PUBLIC_KEY, CKO_SECRET_KEY};
use ck::rv::{
    CKR_ARGUMENTS_BAD, CKR_DEVICE_REMOVED, CKR_KEY_FUNCTION_NOT_PERMITTED, CKR_KEY_HANDLE_INVALID,
    CKR_KEY_TYPE_INCONSISTENT, CKR_MECHANISM_INVALID, CKR_OBJECT_HANDLE_INVALID, CKR_OPERATION_ACTIVE,
    CKR_TOKEN_NOT_PRESENT,
};
use ck::{Attribute, ObjectClass, Rv};
use hsm_proto::v1::request::Op;
use hsm_proto::v1::{self, OperationKind};

use super::slot;
use crate::ffi::claim::InMechanism;
use crate::library::{Run, expect_answer};
use crate::mirror::Snapshot;
use crate::operation::Operation;
use crate::params;
use crate::session::Session;
use crate::step;

/// A kind of operation: the mechanism flag, the key attribute that allows it, and the half of a key pair that it takes.
const KINDS: [(OperationKind, u64, Option<Usage>); 12] = [
    (OperationKind::OperationEncrypt, CKF_ENCRYPT, Some((CKA_ENCRYPT, CKO_PUBLIC_KEY))),
    (OperationKind::OperationDecrypt, CKF_DECRYPT, Some((CKA_DECRYPT, CKO_PRIVATE_KEY))),
    (OperationKind::OperationDigest, CKF_DIGEST, None),
    (OperationKind::OperationSign, CKF_SIGN, Some((CKA_SIGN, CKO_PRIVATE_KEY))),
    (OperationKind::OperationVerify, CKF_VERIFY, Some((CKA_VERIFY, CKO_PUBLIC_KEY))),
    (OperationKind::OperationVerifySignature, CKF_VERIFY, Some((CKA_VERIFY, CKO_PUBLIC_KEY))),
    (OperationKind::OperationSignRecover, CKF_SIGN_RECOVER, Some((CKA_SIGN_RECOVER, CKO_PRIVATE_KEY))),
    (OperationKind::OperationVerifyRecover, CKF_VERIFY_RECOVER, Some((CKA_VERIFY_RECOVER, CKO_PUBLIC_KEY))),
    (OperationKind::OperationMessageEncrypt, CKF_MESSAGE_ENCRYPT, Some((CKA_ENCRYPT, CKO_PUBLIC_KEY))),
    (OperationKind::OperationMessageDecrypt, CKF_MESSAGE_DECRYPT, Some((CKA_DECRYPT, CKO_PRIVATE_KEY))),
    (OperationKind::OperationMessageSign, CKF_MESSAGE_SIGN, Some((CKA_SIGN, CKO_PRIVATE_KEY))),
    (OperationKind::OperationMessageVerify, CKF_MESSAGE_VERIFY, Some((CKA_VERIFY, CKO_PUBLIC_KEY))),
];

type Usage = (Attribute, ObjectClass);

const KEYS: [ObjectClass; 3] = [CKO_PUBLIC_KEY, CKO_PRIVATE_KEY, CKO_SECRET_KEY];

/// Begins an operation; a NULL mechanism ends the active one (PKCS#11 v3.0 section 5.8.1 and its like).
pub(crate) fn init(
    run: &Run,
    handle: u64,
    kind: OperationKind,
    mechanism: &InMechanism<'_>,
    key: u64,
) -> Result<(), Rv> {
    init_with(run, handle, kind, mechanism, key, |operation| operation)
}

/// As [`init`], with something done to the operation before it is active.
pub(crate) fn init_with(
    run: &Run,
    handle: u64,
    kind: OperationKind,
    mechanism: &InMechanism<'_>,
    key: u64,
    complete: impl FnOnce(Operation) -> Operation,
) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let Some((number, parameter)) = mechanism.get() else {
        let active = session.take(kind).map_err(|_| CKR_ARGUMENTS_BAD)?;
        step::abandon(run, &session, &active);
        return Ok(());
    };
    if session.has(kind) {
        return Err(CKR_OPERATION_ACTIVE);
    }
    let (_, flag, usage) = KINDS.into_iter().find(|row| row.0 == kind).ok_or(CKR_MECHANISM_INVALID)?;
    let table = slot::mechanism_table(run, session.slot).map_err(|rv| match rv {
        CKR_TOKEN_NOT_PRESENT => CKR_DEVICE_REMOVED,
        rv => rv,
    })?;
    let row = slot::find_row(&table, number).filter(|row| row.flags & flag != 0).ok_or(CKR_MECHANISM_INVALID)?;
    let mechanism = params::of_init(kind, number, parameter)?;
    let snapshot = match usage {
        Some(usage) => Some(admitted_key(run, &session, key, row, usage)?),
        None => None,
    };
    // A sealed message is judged when it comes, with the parameter that it has.
    let sealed = matches!(kind, OperationKind::OperationMessageEncrypt | OperationKind::OperationMessageDecrypt);
    if !sealed && snapshot.as_deref().is_some_and(has_a_period) {
        let begin = Some(v1::Begin { mechanism: Some(mechanism.clone()), key });
        run.command(
            &session,
            Op::Check(v1::CheckRequest { session: session.daemon_handle, kind: kind.into(), begin }),
        )?;
    }
    session.put(complete(Operation::new(kind, mechanism, key, row, snapshot.as_deref())));
    Ok(())
}

/// Whether the key is in force for a time only: what day it is, the daemon knows.
fn has_a_period(key: &Snapshot) -> bool {
    [CKA_START_DATE, CKA_END_DATE].iter().any(|&date| key.bytes(date).is_some_and(|day| !day.is_empty()))
}

/// The key, if it may do this with this mechanism.
fn admitted_key(
    run: &Run,
    session: &Session,
    key: u64,
    row: &v1::MechanismRow,
    usage: Usage,
) -> Result<Arc<Snapshot>, Rv> {
    if let Some((snapshot, _)) = run.mirror.snapshot(key)
        && admit(&snapshot, row, usage).is_ok()
    {
        return Ok(snapshot);
    }
    let request = v1::ObjectRequest { session: session.daemon_handle, object: key };
    let answer = run.ask(session, Op::Snapshot(request)).map_err(|refusal| match refusal.rv {
        CKR_OBJECT_HANDLE_INVALID => CKR_KEY_HANDLE_INVALID,
        rv => rv,
    })?;
    let snapshot = Arc::new(Snapshot::new(expect_answer!(answer, Snapshot)?));
    admit(&snapshot, row, usage)?;
    Ok(snapshot)
}

/// The judgement, in the order of priority that the standard gives the values (PKCS#11 v3.0 section 5.1.6).
fn admit(key: &Snapshot, row: &v1::MechanismRow, (usage, half): Usage) -> Result<(), Rv> {
    let class = key.number(CKA_CLASS).map(ObjectClass).filter(|class| KEYS.contains(class));
    let class = class.ok_or(CKR_KEY_HANDLE_INVALID)?;
    let type_fits = key.number(CKA_KEY_TYPE).is_some_and(|key_type| row.key_types.contains(&key_type));
    if !type_fits || (class != CKO_SECRET_KEY && class != half) {
        return Err(CKR_KEY_TYPE_INCONSISTENT);
    }
    if key.flag(usage) != Some(true) {
        return Err(CKR_KEY_FUNCTION_NOT_PERMITTED);
    }
    if !key.numbers(CKA_ALLOWED_MECHANISMS).is_none_or(|allowed| allowed.contains(&row.r#type)) {
        return Err(CKR_MECHANISM_INVALID);
    }
    Ok(())
}
