//! One C call on an active operation, single-part or multi-part, and the one rule for the operation's end.
//!
//! Success and every error but `CKR_BUFFER_TOO_SMALL` end an operation; a NULL length query does not
//! (PKCS#11 v3.0 section 5.2). Of a message-based operation they end the message, and only C_Message*Final the operation.
//! [`step`] is that rule, and no operation is ended anywhere else but by C_SessionCancel and an Init with a NULL mechanism.

use ck::Rv;
use ck::rv::{
    CKR_BUFFER_TOO_SMALL, CKR_DATA_LEN_RANGE, CKR_DEVICE_ERROR, CKR_ENCRYPTED_DATA_LEN_RANGE, CKR_OPERATION_ACTIVE,
    CKR_OPERATION_NOT_INITIALIZED, CKR_SIGNATURE_LEN_RANGE,
};
use hsm_proto::v1::request::Op;
use hsm_proto::v1::{self, OperationKind};

use crate::ffi::claim::{InBytes, MAX_CALL, OutBuf, Room, append, copied};
use crate::library::{Refusal, Run, expect_answer};
use crate::operation::{BLOCK, Length, Operation};
use crate::session::Session;

/// What a query about a length that is not known exactly is answered at least: who is told 0 and makes room for as much has a NULL pointer
/// in some languages, and would ask again where the work should be done.
const LEAST: u64 = 1;

/// What becomes of the operation after a step that succeeded.
pub(crate) enum Next {
    Keep,
    End,
}

/// One C call on the active operation of a kind: takes it out, and puts it back only if it goes on.
pub(crate) fn step(
    run: &Run,
    session: &Session,
    kind: OperationKind,
    body: impl FnOnce(&mut Operation) -> Result<Next, Refusal>,
) -> Result<(), Rv> {
    let mut operation = session.take(kind)?;
    match body(&mut operation) {
        Ok(Next::Keep) => session.put(operation),
        Ok(Next::End) => {}
        Err(refusal) if refusal.rv == CKR_BUFFER_TOO_SMALL => {
            session.put(operation);
            return Err(refusal.rv);
        }
        Err(refusal) if operation.is_message_based() => {
            // A call at the wrong moment changes nothing; another error ends the message and leaves the operation.
            if ![CKR_OPERATION_ACTIVE, CKR_OPERATION_NOT_INITIALIZED].contains(&refusal.rv) {
                abandon(run, session, &operation);
                operation.end_message();
            }
            session.put(operation);
            return Err(refusal.rv);
        }
        Err(refusal) => {
            abandon(run, session, &operation);
            return Err(refusal.rv);
        }
    }
    Ok(())
}

/// Ends an operation that the daemon may still have; it has ended it already if the error was its own.
pub(crate) fn abandon(run: &Run, session: &Session, operation: &Operation) {
    if operation.opened {
        let cancel = v1::CancelRequest { session: session.daemon_handle, kind: operation.kind.into() };
        // The operation has ended here whatever comes of it.
        run.command(session, Op::Cancel(cancel)).ok();
    }
}

// --- steps -----------------------------------------------------------------------------------------------------------

/// C_Sign, C_Encrypt, C_Decrypt, C_Digest: everything in one message.
pub(crate) fn one_shot(
    run: &Run,
    session: &Session,
    kind: OperationKind,
    data: InBytes<'_>,
    out: &mut OutBuf<'_>,
) -> Result<(), Rv> {
    step(run, session, kind, |operation| {
        single(operation)?;
        let room = out.room()?;
        let data = limited(kind, data)?;
        operation.check_blocks(data.len())?;
        let capacity = match answer_length(operation.rest(data.len()), room, out)? {
            Answered::Query => return Ok(Next::Keep),
            Answered::Capacity(capacity) => capacity,
        };
        // A restored digest is at the daemon already.
        if data.len() > run.link.max_data() || operation.opened {
            let whole = in_parts(run, session, operation, data)?;
            out.put(&whole)?;
            return Ok(Next::End);
        }
        let request = whole_request(session, operation, data, Vec::new(), capacity)?;
        deliver(run.ask(session, Op::OneShot(request)), room, out)
    })
}

/// C_Verify and C_VerifySignature; the signature of the latter came with its Init.
pub(crate) fn verify(
    run: &Run,
    session: &Session,
    kind: OperationKind,
    data: InBytes<'_>,
    signature: Option<InBytes<'_>>,
) -> Result<(), Rv> {
    step(run, session, kind, |operation| {
        single(operation)?;
        let signature = operation.signature(signature)?;
        let data = limited(kind, data)?;
        if data.len() > run.link.max_data() {
            in_pieces(operation)?;
            feed(run, session, operation, data, None)?;
            return finish_verify(run, session, operation, signature);
        }
        let request = whole_request(session, operation, data, signature, None)?;
        run.ask(session, Op::OneShot(request)).map(|_| Next::End)
    })
}

/// The Updates that give no output: C_SignUpdate, C_VerifyUpdate, C_DigestUpdate.
pub(crate) fn absorb(run: &Run, session: &Session, kind: OperationKind, data: InBytes<'_>) -> Result<(), Rv> {
    step(run, session, kind, |operation| {
        let data = limited(kind, data)?;
        operation.updated = true;
        feed(run, session, operation, data, None)?;
        Ok(Next::Keep)
    })
}

/// C_EncryptUpdate and C_DecryptUpdate: what came out, unless only its length was asked.
pub(crate) fn update(
    run: &Run,
    session: &Session,
    kind: OperationKind,
    data: InBytes<'_>,
    out: &mut OutBuf<'_>,
) -> Result<Option<Vec<u8>>, Rv> {
    let mut given = None;
    step(run, session, kind, |operation| {
        let room = out.room()?;
        let data = limited(kind, data)?;
        let most = match operation.rest(data.len()) {
            Length::Exactly(len) => len,
            Length::AtMost(len) => len.max(LEAST),
            Length::Unknown => data.len().saturating_add(BLOCK),
        };
        let capacity = match room {
            Room::Query => {
                out.set_len(most);
                return Ok(Next::Keep);
            }
            // In one message the daemon knows better; over several there would be no way back.
            Room::Bytes(room) if data.len() > run.link.max_data() && room < most => {
                out.set_len(most);
                return Err(CKR_BUFFER_TOO_SMALL.into());
            }
            Room::Bytes(room) => room,
        };
        operation.updated = true;
        match feed(run, session, operation, data, Some(capacity)) {
            Ok(output) => {
                out.put(&output)?;
                given = Some(output);
                Ok(Next::Keep)
            }
            Err(refusal) => too_small(refusal, room, out),
        }
    })?;
    Ok(given)
}

/// C_SignFinal, C_EncryptFinal, C_DecryptFinal, C_DigestFinal.
pub(crate) fn finish(run: &Run, session: &Session, kind: OperationKind, out: &mut OutBuf<'_>) -> Result<(), Rv> {
    step(run, session, kind, |operation| {
        let room = out.room()?;
        operation.check_blocks(0)?;
        let capacity = match answer_length(operation.rest(0), room, out)? {
            Answered::Query => return Ok(Next::Keep),
            Answered::Capacity(capacity) => capacity,
        };
        let request = final_request(session, operation, Vec::new(), capacity);
        let answer = run.ask(session, Op::Final(request));
        ended_there(operation, &answer);
        deliver(answer, room, out)
    })
}

/// C_VerifyFinal and C_VerifySignatureFinal.
pub(crate) fn verify_final(
    run: &Run,
    session: &Session,
    kind: OperationKind,
    signature: Option<InBytes<'_>>,
) -> Result<(), Rv> {
    step(run, session, kind, |operation| {
        let signature = operation.signature(signature)?;
        finish_verify(run, session, operation, signature)
    })
}

/// C_DigestKey.
pub(crate) fn digest_key(run: &Run, session: &Session, key: u64) -> Result<(), Rv> {
    step(run, session, OperationKind::OperationDigest, |operation| {
        operation.updated = true;
        let request = v1::DigestKeyRequest { session: session.daemon_handle, begin: operation.begin(), key };
        let answer = run.ask(session, Op::DigestKey(request));
        ended_there(operation, &answer);
        answer?;
        operation.opened = true;
        Ok(Next::Keep)
    })
}

// --- what steps share ------------------------------------------------------------------------------------------------

/// A single-part call after an Update has no operation to work on.
fn single(operation: &Operation) -> Result<(), Rv> {
    if operation.updated { Err(CKR_OPERATION_NOT_INITIALIZED) } else { Ok(()) }
}

/// Data of a call: what is longer than a call takes is refused by its length, before it is read.
pub(crate) fn limited(kind: OperationKind, data: InBytes<'_>) -> Result<InBytes<'_>, Rv> {
    let data = data.at_most(MAX_CALL, too_long(kind))?;
    data.get()?;
    Ok(data)
}

/// How data of a kind are refused for their length.
fn too_long(kind: OperationKind) -> Rv {
    match kind {
        OperationKind::OperationDecrypt | OperationKind::OperationMessageDecrypt => CKR_ENCRYPTED_DATA_LEN_RANGE,
        OperationKind::OperationVerifyRecover => CKR_SIGNATURE_LEN_RANGE,
        _ => CKR_DATA_LEN_RANGE,
    }
}

/// Data that are longer than a message take a mechanism that works in pieces.
pub(crate) fn in_pieces(operation: &Operation) -> Result<(), Rv> {
    if operation.multi_part { Ok(()) } else { Err(too_long(operation.kind)) }
}

/// The capacity for an output whose length only the daemon knows: none at all makes it say the length.
pub(crate) fn capacity(room: Room) -> Option<u64> {
    Some(if let Room::Bytes(capacity) = room { capacity } else { 0 })
}

pub(crate) enum Answered {
    /// The length was asked and has been said.
    Query,
    /// Go on, with this limit for the daemon.
    Capacity(Option<u64>),
}

/// Answers a length query, and refuses a buffer that cannot do, without a message where the length is known.
pub(crate) fn answer_length(len: Length, room: Room, out: &mut OutBuf<'_>) -> Result<Answered, Rv> {
    match (len, room) {
        (Length::Exactly(len), Room::Query) => {
            out.set_len(len);
            Ok(Answered::Query)
        }
        (Length::AtMost(len), Room::Query) => {
            out.set_len(len.max(LEAST));
            Ok(Answered::Query)
        }
        (Length::Exactly(len), Room::Bytes(room)) if room < len => {
            out.set_len(len);
            Err(CKR_BUFFER_TOO_SMALL)
        }
        (Length::Exactly(_), Room::Bytes(_)) => Ok(Answered::Capacity(None)),
        // The daemon refuses whatever is longer than nothing and says how long it is.
        (Length::Unknown, Room::Query) => Ok(Answered::Capacity(Some(0))),
        (Length::AtMost(_) | Length::Unknown, Room::Bytes(room)) => Ok(Answered::Capacity(Some(room))),
    }
}

/// Hands the output of the last message over.
fn deliver(answer: Result<v1::reply::Result, Refusal>, room: Room, out: &mut OutBuf<'_>) -> Result<Next, Refusal> {
    match answer {
        Ok(answer) => {
            out.put(&expect_answer!(answer, Output)?.output)?;
            Ok(Next::End)
        }
        Err(refusal) => too_small(refusal, room, out),
    }
}

/// `CKR_BUFFER_TOO_SMALL` from the daemon: the length is said; to a query that is the answer.
pub(crate) fn too_small(refusal: Refusal, room: Room, out: &mut OutBuf<'_>) -> Result<Next, Refusal> {
    if refusal.rv != CKR_BUFFER_TOO_SMALL {
        return Err(refusal);
    }
    out.set_len(refusal.needed);
    if room == Room::Query { Ok(Next::Keep) } else { Err(refusal) }
}

/// An error of the daemon's own has ended the operation there.
pub(crate) fn ended_there(operation: &mut Operation, answer: &Result<v1::reply::Result, Refusal>) {
    if answer.as_ref().is_err_and(|refusal| refusal.rv != CKR_BUFFER_TOO_SMALL) {
        operation.opened = false;
    }
}

/// Sends data as one Update, or as several when it is longer than a message.
fn feed(
    run: &Run,
    session: &Session,
    operation: &mut Operation,
    data: InBytes<'_>,
    capacity: Option<u64>,
) -> Result<Vec<u8>, Refusal> {
    let mut output = Vec::new();
    let piece = usize::try_from(run.link.max_data()).unwrap_or(usize::MAX).max(1);
    for part in data.get()?.chunks(piece) {
        let request = v1::UpdateRequest {
            session: session.daemon_handle,
            kind: operation.kind.into(),
            begin: operation.begin(),
            data: copied(part)?,
            capacity: capacity.map(|capacity| capacity.saturating_sub(output.len() as u64)),
        };
        let answer = run.ask(session, Op::Update(request));
        ended_there(operation, &answer);
        let got = match answer? {
            v1::reply::Result::Output(got) => got.output,
            v1::reply::Result::Done(_) => Vec::new(),
            _ => return Err(CKR_DEVICE_ERROR.into()),
        };
        operation.opened = true;
        operation.count(part.len(), got.len());
        if output.is_empty() {
            output = got;
        } else {
            append(&mut output, &got)?;
        }
    }
    Ok(output)
}

/// A single-part call whose data is longer than a message.
fn in_parts(run: &Run, session: &Session, operation: &mut Operation, data: InBytes<'_>) -> Result<Vec<u8>, Refusal> {
    in_pieces(operation)?;
    let mut output = feed(run, session, operation, data, None)?;
    let request = final_request(session, operation, Vec::new(), None);
    let answer = run.ask(session, Op::Final(request));
    ended_there(operation, &answer);
    append(&mut output, &expect_answer!(answer?, Output)?.output)?;
    Ok(output)
}

fn finish_verify(run: &Run, session: &Session, operation: &mut Operation, signature: Vec<u8>) -> Result<Next, Refusal> {
    let request = final_request(session, operation, signature, None);
    let answer = run.ask(session, Op::Final(request));
    ended_there(operation, &answer);
    answer.map(|_| Next::End)
}

fn whole_request(
    session: &Session,
    operation: &Operation,
    data: InBytes<'_>,
    signature: Vec<u8>,
    capacity: Option<u64>,
) -> Result<v1::OneShotRequest, Rv> {
    let (session, kind, begin) = (session.daemon_handle, operation.kind.into(), operation.begin());
    Ok(v1::OneShotRequest { session, kind, begin, data: data.to_vec()?, signature, capacity })
}

fn final_request(
    session: &Session,
    operation: &Operation,
    signature: Vec<u8>,
    capacity: Option<u64>,
) -> v1::FinalRequest {
    let begin = operation.begin();
    v1::FinalRequest { session: session.daemon_handle, kind: operation.kind.into(), begin, signature, capacity }
}
