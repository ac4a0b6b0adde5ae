//! One message of a message-based operation, written once for encryption, decryption, signing and verification
//! (PKCS#11 v3.0 sections 5.9, 5.11, 5.14 and 5.16).
//!
//! What Init said stays here and goes along with each message: the daemon has a message only between its begin and its end.

use ck::Rv;
use ck::rv::{
    CKR_BUFFER_TOO_SMALL, CKR_MECHANISM_PARAM_INVALID, CKR_OPERATION_ACTIVE, CKR_OPERATION_NOT_INITIALIZED,
    CKR_SIGNATURE_LEN_RANGE,
};
use hsm_proto::v1::request::Op;
use hsm_proto::v1::{self, MessagePart, OperationKind};

use crate::ffi::claim::{InBytes, OutBuf, Room, append, copied};
use crate::ffi::parameter::{AeadMessage, Parameter};
use crate::library::{Refusal, Run, expect_answer};
use crate::operation::Operation;
use crate::params;
use crate::session::Session;
use crate::step::{self, Answered, Next, answer_length, ended_there, step, too_small};

/// What a message is made of.
#[derive(Clone, Copy)]
pub(crate) struct Message<'c> {
    /// The parameter of the message.
    pub(crate) parameter: Parameter<'c>,
    /// Associated data, of a sealed message.
    pub(crate) aad: InBytes<'c>,
    /// Plaintext, ciphertext or signed data.
    pub(crate) data: InBytes<'c>,
}

/// Where the result goes, or what is checked.
pub(crate) enum End<'o, 'c> {
    /// An output: ciphertext, plaintext or signature.
    Output(&'o mut OutBuf<'c>),
    /// The signature to verify.
    Signature(InBytes<'c>),
}

/// What a message's own parameter becomes.
struct Opened<'c> {
    mechanism: Option<v1::Mechanism>,
    sealed: Option<AeadMessage<'c>>,
}

fn encrypts(kind: OperationKind) -> bool {
    kind == OperationKind::OperationMessageEncrypt
}

fn is_sealed(kind: OperationKind) -> bool {
    encrypts(kind) || kind == OperationKind::OperationMessageDecrypt
}

/// A sealed message has a parameter; a signature's takes the place of what Init said, if it is there.
fn open<'c>(operation: &Operation, message: &Message<'c>) -> Result<Opened<'c>, Rv> {
    let number = operation.mechanism();
    if is_sealed(operation.kind) {
        let (mechanism, sealed) = params::sealed(number, message.parameter, message.aad)?;
        return Ok(Opened { mechanism: Some(mechanism), sealed: Some(sealed) });
    }
    let own = (!message.parameter.is_none()).then(|| params::message(number, message.parameter)).transpose()?;
    Ok(Opened { mechanism: own, sealed: None })
}

/// C_EncryptMessage, C_DecryptMessage, C_SignMessage, C_VerifyMessage.
pub(crate) fn whole(
    run: &Run,
    session: &Session,
    kind: OperationKind,
    message: Message<'_>,
    end: End<'_, '_>,
) -> Result<(), Rv> {
    step(run, session, kind, |operation| {
        if operation.updated {
            return Err(CKR_OPERATION_ACTIVE.into());
        }
        step::limited(kind, message.data)?;
        let opened = open(operation, &message)?;
        conclude(run, session, operation, Last { part: MessagePart::MessageWhole, data: message.data, opened }, end)
    })
}

/// C_EncryptMessageBegin and its like.
pub(crate) fn begin(run: &Run, session: &Session, kind: OperationKind, message: Message<'_>) -> Result<(), Rv> {
    step(run, session, kind, |operation| {
        if operation.updated {
            return Err(CKR_OPERATION_ACTIVE.into());
        }
        let opened = open(operation, &message)?;
        begun(run, session, operation, opened).map(|_| Next::Keep)
    })
}

/// C_EncryptMessageNext and its like, with more to come; a signature has no output before its end.
pub(crate) fn next(
    run: &Run,
    session: &Session,
    kind: OperationKind,
    data: InBytes<'_>,
    out: Option<&mut OutBuf<'_>>,
) -> Result<(), Rv> {
    step(run, session, kind, |operation| {
        in_message(operation)?;
        let data = step::limited(kind, data)?;
        let Some(out) = out else {
            feed(run, session, operation, data)?;
            return Ok(Next::Keep);
        };
        match out.room()? {
            Room::Query => {
                out.set_len(data.len());
                return Ok(Next::Keep);
            }
            // A decryption gives nothing before its tag is checked.
            Room::Bytes(room) if encrypts(kind) && room < data.len() => {
                out.set_len(data.len());
                return Err(CKR_BUFFER_TOO_SMALL.into());
            }
            Room::Bytes(_) => {}
        }
        let output = feed(run, session, operation, data)?;
        out.put(&output)?;
        Ok(Next::Keep)
    })
}

/// The last C_EncryptMessageNext of a message, and its like.
pub(crate) fn finish(
    run: &Run,
    session: &Session,
    kind: OperationKind,
    message: Message<'_>,
    end: End<'_, '_>,
) -> Result<(), Rv> {
    step(run, session, kind, |operation| {
        in_message(operation)?;
        step::limited(kind, message.data)?;
        let sealed = if is_sealed(kind) {
            Some(params::sealed(operation.mechanism(), message.parameter, InBytes::over(&[]))?.1)
        } else {
            None
        };
        let opened = Opened { mechanism: None, sealed };
        conclude(run, session, operation, Last { part: MessagePart::MessageEnd, data: message.data, opened }, end)
    })
}

/// C_MessageEncryptFinal and its like.
pub(crate) fn close(session: &Session, kind: OperationKind) -> Result<(), Rv> {
    let operation = session.take(kind)?;
    if operation.updated {
        session.put(operation);
        return Err(CKR_OPERATION_ACTIVE);
    }
    Ok(())
}

// --- what they share -------------------------------------------------------------------------------------------------

fn in_message(operation: &Operation) -> Result<(), Rv> {
    if operation.updated { Ok(()) } else { Err(CKR_OPERATION_NOT_INITIALIZED) }
}

/// The piece with which a message ends, which may be all of it.
struct Last<'c> {
    part: MessagePart,
    data: InBytes<'c>,
    opened: Opened<'c>,
}

/// Ends a message. Data that are longer than a message to the daemon can be go ahead of the end.
fn conclude(
    run: &Run,
    session: &Session,
    operation: &mut Operation,
    last: Last<'_>,
    mut end: End<'_, '_>,
) -> Result<Next, Refusal> {
    let Last { part, data, opened } = last;
    let check = checked(operation, &opened, &end)?;
    let (mut room, mut capacity) = (Room::Bytes(0), None);
    if let End::Output(out) = &mut end {
        room = out.room()?;
        match answer_length(operation.rest(data.len()), room, out)? {
            Answered::Query => return Ok(Next::Keep),
            Answered::Capacity(most) => capacity = most,
        }
    }
    let long = data.len() > run.link.max_data();
    if long {
        step::in_pieces(operation)?;
    }
    let whole = part == MessagePart::MessageWhole;
    let (mut output, mut opened, mut request) = (Vec::new(), opened, request(session, operation, part));
    if long {
        if whole {
            let mechanism = None;
            opened = Opened { sealed: begun(run, session, operation, opened)?, mechanism };
        }
        output = feed(run, session, operation, data)?;
        request.part = MessagePart::MessageEnd.into();
    } else {
        request.data = data.to_vec()?;
        request.begin = whole.then(|| operation.begin_with(opened.mechanism.take()));
        request.capacity = capacity;
    }
    request.check = check;
    let answer = run.ask(session, Op::Message(request));
    ended_there(operation, &answer);
    match (answer, end) {
        (Ok(answer), end) => {
            operation.end_message();
            let reply = expect_answer!(answer, Message)?;
            put_back(operation.kind, opened.sealed, &reply, whole)?;
            if let End::Output(out) = end {
                append(&mut output, &reply.output)?;
                out.put(&output)?;
            }
            Ok(Next::Keep)
        }
        (Err(refusal), End::Output(out)) => too_small(refusal, room, out),
        (Err(refusal), End::Signature(_)) => Err(refusal),
    }
}

/// The tag or signature that the end is checked against; what is missing for the end is noticed before anything is done.
fn checked(operation: &Operation, opened: &Opened<'_>, end: &End<'_, '_>) -> Result<Vec<u8>, Rv> {
    match (end, &opened.sealed) {
        (End::Signature(signature), _) => signature.present(CKR_SIGNATURE_LEN_RANGE),
        (End::Output(_), Some(sealed)) if !encrypts(operation.kind) => params::tag(sealed),
        (End::Output(_), Some(sealed)) => {
            sealed.tag_place.wanted().map(|_| Vec::new()).map_err(|_| CKR_MECHANISM_PARAM_INVALID)
        }
        (End::Output(_), None) => Ok(Vec::new()),
    }
}

/// Opens the message at the daemon; the IV that it made goes to its place.
fn begun<'c>(
    run: &Run,
    session: &Session,
    operation: &mut Operation,
    opened: Opened<'c>,
) -> Result<Option<AeadMessage<'c>>, Refusal> {
    let mut request = request(session, operation, MessagePart::MessageBegin);
    request.begin = Some(operation.begin_with(opened.mechanism));
    let reply = expect_answer!(run.ask(session, Op::Message(request))?, Message)?;
    (operation.updated, operation.opened) = (true, true);
    let mut sealed = opened.sealed;
    if let (Some(sealed), true) = (&mut sealed, encrypts(operation.kind)) {
        sealed.iv_place.fill(&reply.iv)?;
    }
    Ok(sealed)
}

/// Tag and, of a whole message, IV go where the caller wants them.
fn put_back(
    kind: OperationKind,
    sealed: Option<AeadMessage<'_>>,
    reply: &v1::MessageReply,
    whole: bool,
) -> Result<(), Rv> {
    let Some(mut sealed) = sealed.filter(|_| encrypts(kind)) else { return Ok(()) };
    sealed.tag_place.fill(&reply.tag).map_err(|_| CKR_MECHANISM_PARAM_INVALID)?;
    if whole { sealed.iv_place.fill(&reply.iv).map_err(|_| CKR_MECHANISM_PARAM_INVALID) } else { Ok(()) }
}

/// Sends data as one piece, or as several when it is longer than a message to the daemon.
fn feed(run: &Run, session: &Session, operation: &mut Operation, data: InBytes<'_>) -> Result<Vec<u8>, Refusal> {
    let mut output = Vec::new();
    let piece = usize::try_from(run.link.max_data()).unwrap_or(usize::MAX).max(1);
    for part in data.get()?.chunks(piece) {
        let mut request = request(session, operation, MessagePart::MessageNext);
        request.data = copied(part)?;
        let answer = run.ask(session, Op::Message(request));
        ended_there(operation, &answer);
        let got = expect_answer!(answer?, Message)?.output;
        operation.count(part.len(), got.len());
        append(&mut output, &got)?;
    }
    Ok(output)
}

fn request(session: &Session, operation: &Operation, part: MessagePart) -> v1::MessageRequest {
    v1::MessageRequest {
        session: session.daemon_handle,
        kind: operation.kind.into(),
        part: part.into(),
        ..Default::default()
    }
}
